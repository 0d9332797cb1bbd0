//! What our own access rules at the server did with messages, as its log tells it.
//!
//! A message that they hold is told of before its acceptance, which says whose it is; until then it is remembered as one
//! that a policy held before it had a line of its own. It changes no figure but that of messages on hold.

use super::leg::Class;
use super::table::Slot;
use super::{Cx, Tracker};
use crate::engine::Sink;
use crate::engine::attribution::Arrival;
use crate::engine::ruled::Lost;
use crate::mail::{Head, Origin, Owner, Place, QueueId, Ruling, Submitter, Thrown, Time};

/// A message that they stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gated {
    pub owner: Owner,
    pub origin: Origin,
    pub at: Time,
    pub stopped: Stopped,
}

/// Where it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stopped {
    /// On hold by that.
    Held(Place),
    /// In the queue.
    KeptBack(Place),
    /// Nowhere: it was refused, or thrown away.
    Refused,
    TooMany,
    Discarded(Lost),
}

/// Its acceptance comes within this, or never: what else the server does with a message in between may take long.
const ACCEPTED_SECS: i64 = 600;

impl Tracker {
    pub(super) fn gated<S: Sink>(&mut self, head: &Head<'_>, id: QueueId, ruling: Ruling<'_>, cx: &mut Cx<'_, S>) {
        let held = match ruling {
            Ruling::Held | Ruling::AsAnswered => true,
            Ruling::KeptBack => false,
            Ruling::Refused(by) => return self.not_taken(head, by, Stopped::Refused, cx),
            Ruling::TooMany(by) => return self.not_taken(head, by, Stopped::TooMany, cx),
            Ruling::Discarded(thrown) => {
                return self.not_taken(head, thrown.by, Stopped::Discarded(lost(id, &thrown)), cx);
            }
        };
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
        leg.answered |= ruling == Ruling::AsAnswered;
        if !held {
            self.tell_gated(slot, head.at, Stopped::KeptBack);
        }
    }

    /// The message is not in the queue, or not for long: only whose it was is of interest.
    fn not_taken<S: Sink>(&mut self, head: &Head<'_>, by: Submitter<'_>, stopped: Stopped, cx: &mut Cx<'_, S>) {
        let arrival = match by {
            Submitter::User(login) => Arrival::User(login, cx.attribution.uid_of(login)),
            Submitter::Login { login, .. } => Arrival::Login(login),
            Submitter::Smtp { .. } | Submitter::Internal => return,
        };
        let found = cx.attribution.attribute(arrival, b"", head.at);
        self.gated.push(Gated { owner: found.owner, origin: found.origin, at: head.at, stopped });
    }

    /// It has been accepted: it is known whose it is.
    pub(super) fn accepted_on_hold<S: Sink>(&mut self, slot: Slot, at: Time, cx: &mut Cx<'_, S>) {
        if self.table.get(slot).is_some_and(|leg| leg.hold_pending) {
            self.be_held(slot, &[], cx);
            self.tell_gated(slot, at, Stopped::Held);
        }
    }

    /// What the gate answered it has written down itself, with an owner that the log may not name, or name wrongly.
    fn tell_gated(&mut self, slot: Slot, at: Time, stopped: impl FnOnce(Place) -> Stopped) {
        let Some(leg) = self.table.get(slot).filter(|leg| !leg.answered) else { return };
        let instance = self.places.instance_name(leg.instance).into();
        let place = Place { server: leg.server, instance, id: leg.id };
        let gated = Gated { owner: leg.owner, origin: leg.origin, at, stopped: stopped(place) };
        self.gated.push(gated);
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

fn lost(id: QueueId, thrown: &Thrown<'_>) -> Lost {
    let mut envelope = thrown.envelope.iter().map(Box::from);
    let sender = envelope.next().unwrap_or_default();
    Lost { id, sender, count: u64::from(thrown.recipients), recipients: envelope.collect() }
}
