//! What the server itself says about two ids: a requeued message that is back, a notification about another message.

use super::leg::{Came, Class, Ended, Leg};
use super::table::{Key, Slot};
use super::{Cx, GRACE_SECS, Tracker, books};
use crate::engine::Sink;
use crate::engine::sanctions::Queued;
use crate::mail::{Head, Origin, Owner, Place, QueueId, Unattributed};

impl Tracker {
    /// Where messages that were requeued are now, and where they were before, since this was asked last.
    pub fn take_came_back(&mut self) -> Vec<(Place, Place)> {
        std::mem::take(&mut self.came_back)
    }

    #[inline]
    pub fn has_come_back(&self) -> bool {
        !self.came_back.is_empty()
    }

    /// A requeued message is back under a new id, with the recipients that were open.
    pub(super) fn come_back<S: Sink>(&mut self, slot: Slot, old: QueueId, cx: &mut Cx<'_, S>) {
        let Some(leg) = self.table.get(slot) else { return };
        let (instance, server, id) = (self.places.instance_name(leg.instance).into(), leg.server, leg.id);
        let now = Place { server, instance, id };
        self.came_back.push((Place { id: old, ..now.clone() }, now));
        let key = Key { host: leg.host, instance: leg.instance, id: old };
        let found = self.table.lingering(key).pop().or_else(|| self.table.find(key)).filter(|&found| found != slot);
        if let Some(found) = found
            && self.table.get(found).is_some_and(|leg| leg.ended.is_none())
        {
            self.linger_requeued(found, cx);
        }
        // Its arrival was before the log: what was seen of it counts, and only what is open comes back.
        let old_arrival = |leg: &Leg| leg.class == Class::Waiting && matches!(leg.came, Came::Internal);
        if let Some(found) = found.filter(|&found| self.table.get(found).is_some_and(old_arrival)) {
            self.resolve(found, cx);
        }
        // Handed over by a message that is not decided itself: its hand-overs now mean the new id.
        let owed = found.and_then(|found| self.rename_hands(found, slot));
        let taken = found.and_then(|found| {
            let old = self.table.edit(found)?;
            let n = books::give(old, old.open(), cx);
            let spare = (old.spare, std::mem::take(&mut old.spare_hands), old.spare_deferrals);
            Some((found, old.clone(), n, spare))
        });
        let Some(leg) = self.table.edit(slot) else { return };
        match taken {
            Some((found, old, n, spare)) => {
                let waiting = old.class == Class::Waiting;
                (leg.owner, leg.origin, leg.basis) = (old.owner, old.origin, old.basis);
                leg.class = match (waiting, owed) {
                    (true, _) => Class::Waiting,
                    (false, Some(_)) => Class::Child,
                    (false, None) => Class::Own,
                };
                leg.claimed_by = owed.unwrap_or(0);
                leg.came = match old.came {
                    Came::Unseen | Came::Internal => old.came,
                    Came::Named => Came::Unseen,
                    _ => Came::Requeue,
                };
                (leg.spare, leg.spare_hands, leg.spare_deferrals) = spare;
                leg.parent = if waiting || owed.is_some() { old.parent } else { Some(old.id) };
                books::take(leg, n, cx);
                let (serial, leg_id, hands) = (leg.serial, leg.id, leg.spare_hands.clone());
                // What the old id claimed is the new one's.
                for id in hands {
                    if let Some(claimed) = self.find_claimed(old.host, old.serial, id).and_then(|c| self.table.edit(c))
                    {
                        (claimed.claimed_by, claimed.parent) = (serial, Some(leg_id));
                    }
                }
                if waiting || owed.is_some() {
                    let deadline = self.high().plus_secs(GRACE_SECS);
                    self.table.set_deadline(slot, deadline);
                }
                self.close(found, Ended::Requeued, cx);
            }
            None => {
                // Requeued from before the log: its submitter was never seen, and the uid is the mail system's.
                leg.came = Came::Unseen;
                leg.class = Class::Own;
            }
        }
    }

    /// The legs that wait for recipients which `old`'s claimer has yet to give are called `new` from now on.
    /// Returns the claimer's serial when there are any.
    fn rename_hands(&mut self, old: Slot, new: Slot) -> Option<u64> {
        let claimer = self.claimer(old)?;
        let (old, new) = (self.table.get(old)?.id, self.table.get(new)?.id);
        let claimer = self.table.edit(claimer)?;
        let mut renamed = false;
        for id in claimer.spare_hands.iter_mut().filter(|id| **id == old) {
            *id = new;
            renamed = true;
        }
        renamed.then_some(claimer.serial)
    }

    /// Notifications about messages of accounts since this was asked last, each as if it were handed in as that message.
    pub fn take_notices(&mut self) -> Vec<Queued> {
        std::mem::take(&mut self.notices)
    }

    #[inline]
    pub fn has_notices(&self) -> bool {
        !self.notices.is_empty()
    }

    /// The server says that it wrote `child` as a notification about another message.
    pub(super) fn notified<S: Sink>(&mut self, head: &Head<'_>, about: QueueId, child: QueueId, cx: &mut Cx<'_, S>) {
        if !self.is_written(head, child, cx) {
            return;
        }
        let Some(leg) = self.locate(head, about).ok().and_then(|slot| self.table.get(slot)) else { return };
        if leg.owner.unattributed().is_some() {
            return;
        }
        let login = match &leg.came {
            Came::Login(login) => login.name().into(),
            _ => [].into(),
        };
        let place = Place { server: leg.server, instance: self.places.instance_name(leg.instance).into(), id: child };
        // Its queue file names no hand: one that does is of something else.
        self.notices.push(Queued { owner: leg.owner, place, origin: leg.origin, login, since: leg.first, by: None });
    }

    /// A notification is mail of nobody. False when `child` is known to be something else.
    fn is_written<S: Sink>(&mut self, head: &Head<'_>, child: QueueId, cx: &mut Cx<'_, S>) -> bool {
        let host = self.places.host(head.host);
        let instance = self.places.instance(head);
        let key = Key { host, instance, id: child };
        let made = |leg: &Leg| leg.class == Class::Waiting && matches!(leg.came, Came::Internal);
        let lingering = self.table.lingering(key).into_iter();
        if let Some(slot) = lingering.rev().find(|&slot| self.table.get(slot).is_some_and(made)) {
            return self.be_notification(slot, cx);
        }
        match self.locate(head, child) {
            Ok(slot) => {
                let Some(leg) = self.table.edit(slot) else { return false };
                // Its client went away before the end of a message, and the id came again: what was said of that client
                // is not about this message.
                if leg.class == Class::Unborn && !matches!(leg.came, Came::Internal | Came::Unseen) {
                    leg.came = Came::Internal;
                    leg.hold_pending = false;
                    if let Some(details) = leg.details.as_deref_mut() {
                        (details.client, details.script, details.disputed) = (Box::default(), None, false);
                    }
                }
                matches!(leg.came, Came::Internal | Came::Unseen) && self.be_notification(slot, cx)
            }
            Err(key) => {
                // Announced before its own lines (3.11), or gone already: remembered for a moment.
                let mut leg = self.leg(key, head.at);
                leg.notification = true;
                let slot = self.insert(leg, cx);
                let deadline = self.high().plus_secs(GRACE_SECS);
                self.table.set_deadline(slot, deadline);
                true
            }
        }
    }

    fn be_notification<S: Sink>(&mut self, slot: Slot, cx: &mut Cx<'_, S>) -> bool {
        let Some(leg) = self.table.edit(slot) else { return false };
        if leg.class == Class::Own || leg.class == Class::Child {
            // The line of its way into the queue may come first.
            return leg.notification;
        }
        leg.notification = true;
        if leg.class == Class::Waiting {
            leg.owner = Owner::nobody(Unattributed::Bounce);
            leg.origin = Origin::Internal;
            self.resolve(slot, cx);
        }
        true
    }
}
