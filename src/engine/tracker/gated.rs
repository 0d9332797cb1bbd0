//! What our own access rules at the server did with messages, as its log tells it.
//!
//! A message that they hold is told of before its acceptance, which says whose it is; until then it is remembered as one
//! that a policy held before it had a line of its own. It changes no figure but that of messages on hold.

use super::leg::Class;
use super::table::Slot;
use super::{Cx, Tracker};
use crate::engine::Sink;
use crate::mail::{Head, Owner, Place, QueueId, Time};

/// A message that they stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gated {
    pub owner: Owner,
    pub place: Place,
    pub at: Time,
    /// It is on hold by that; otherwise it waits in the queue.
    pub held: bool,
}

/// Its acceptance comes within this, or never: what else the server does with a message in between may take long.
const ACCEPTED_SECS: i64 = 600;

impl Tracker {
    pub(super) fn gated<S: Sink>(&mut self, head: &Head<'_>, id: QueueId, held: bool, cx: &mut Cx<'_, S>) {
        let found = self.locate(head, id);
        let slot = match (found, held) {
            (Ok(slot), _) => slot,
            (Err(key), true) => {
                let leg = self.leg(key, head.at);
                let slot = self.insert(leg, cx);
                let deadline = self.high().plus_secs(ACCEPTED_SECS);
                self.table.set_deadline(slot, deadline);
                slot
            }
            // From before the log: nobody's.
            (Err(_), false) => return,
        };
        let Some(leg) = self.table.edit(slot) else { return };
        leg.last = head.at;
        leg.hold_pending |= held && leg.class == Class::Unborn;
        if !held {
            self.tell_gated(slot, head.at, false);
        }
    }

    /// It has been accepted: it is known whose it is.
    pub(super) fn accepted_on_hold<S: Sink>(&mut self, slot: Slot, at: Time, cx: &mut Cx<'_, S>) {
        if self.table.get(slot).is_some_and(|leg| leg.hold_pending) {
            self.be_held(slot, &[], cx);
            self.tell_gated(slot, at, true);
        }
    }

    fn tell_gated(&mut self, slot: Slot, at: Time, held: bool) {
        let Some(leg) = self.table.get(slot) else { return };
        let instance = self.places.instance_name(leg.instance).into();
        let place = Place { server: leg.server, instance, id: leg.id };
        self.gated.push(Gated { owner: leg.owner, place, at, held });
    }

    /// What they did since this was asked last.
    pub fn take_gated(&mut self) -> Vec<Gated> {
        std::mem::take(&mut self.gated)
    }

    #[inline]
    pub fn has_gated(&self) -> bool {
        !self.gated.is_empty()
    }
}
