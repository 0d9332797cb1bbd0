//! Joins: a message that goes on under another queue id is the same message.
//!
//! What a relay *says* (`queued as ID`) is text from outside, so it joins only with other evidence: the relay is
//! this host, the other id came over loopback without a login, and both carry the same Message-ID. The forwarding
//! line of the local delivery agent, a requeue's old id and a notification's id are the server's own word.

use super::arrivals::read_address;
use super::leg::{Came, Class, Ended, Leg, Seen};
use super::table::{Key, Slot};
use super::{Cx, GRACE_SECS, Tracker, books};
use crate::engine::Sink;
use crate::mail::{Attempt, Basis, Head, Next, Origin, Outcome, Owner, QueueId, Time, Unattributed};

/// Longest chain of legs that were handed on before their first one was known.
const MAX_CHAIN: u32 = 16;

impl Tracker {
    /// A recipient goes on under another id. False when that id cannot be believed to be this message.
    pub(super) fn hand_on<S: Sink>(
        &mut self,
        slot: Slot,
        recipient: u64,
        attempt: &Attempt<'_>,
        next: Next,
        cx: &mut Cx<'_, S>,
    ) -> bool {
        let Some(child) = self.find_child(slot, attempt, next, cx) else { return false };
        let (Next::QueuedAs(child_id) | Next::ForwardedAs(child_id)) = next;
        let most = self.settings.max_recipients;
        let Some(leg) = self.table.edit(slot) else { return false };
        let before = leg.seen.get(recipient);
        if matches!(before, Some(Seen::Ended(_) | Seen::Handed)) {
            // A mailing list forwards to the same id more than once; the recipient moves once.
            return true;
        }
        leg.seen.set(recipient, Seen::Handed, most);
        let both_open = self.table.get(child).is_some_and(|child| child.class == Class::Own);
        let Some(leg) = self.table.edit(slot) else { return false };
        if both_open {
            // Both were open before the log began: the recipient is counted where it is seen, under the child's id.
            if before == Some(Seen::Deferred) {
                books::close_out(leg, Outcome::Sent, 1, cx);
            }
            return true;
        }
        if leg.open() == 0 {
            if leg.class != Class::Own {
                leg.spare_hands.push(child_id);
                self.claim(slot, child);
                return true;
            }
            books::book(leg, 1, cx);
        }
        books::give(leg, 1, cx);
        self.claim(slot, child);
        self.fund(child, cx);
        true
    }

    /// The leg that `next` names, if it can be a continuation of `slot`.
    fn find_child<S: Sink>(&self, slot: Slot, attempt: &Attempt<'_>, next: Next, cx: &Cx<'_, S>) -> Option<Slot> {
        let parent = self.table.get(slot)?;
        match next {
            Next::ForwardedAs(id) => {
                let key = Key { host: parent.host, instance: parent.instance, id };
                let fits = |&child: &Slot| {
                    self.table.get(child).is_some_and(|leg| {
                        let internal = matches!(leg.came, Came::Internal) && !leg.notification;
                        internal && is_free(leg, parent.serial)
                    })
                };
                let found = [self.table.find_lingering(key), self.table.find(key)];
                found.into_iter().flatten().filter(|&child| child != slot).find(fits)
            }
            Next::QueuedAs(id) => {
                let blind = parent.is_blind();
                if (parent.message == 0 && !blind)
                    || !read_address(attempt.relay_address).is_some_and(|a| cx.attribution.is_local(a))
                {
                    return None;
                }
                let fits = |&child: &Slot| {
                    self.table.get(child).is_some_and(|leg| {
                        let hop = matches!(leg.came, Came::Smtp(Some(address)) if cx.attribution.is_local(address));
                        let joins = hop && is_free(leg, parent.serial);
                        // Without the parent's header line, the filter's word and an unclaimed arrival must do.
                        joins && leg.message == parent.message || blind && (joins || leg.is_blind())
                    })
                };
                let keys = self.places.all().map(|instance| Key { host: parent.host, instance, id });
                keys.flat_map(|key| [self.table.find_lingering(key), self.table.find(key)])
                    .flatten()
                    .filter(|&child| child != slot)
                    .find(fits)
            }
        }
    }

    /// The child belongs to the parent's account from now on.
    fn claim(&mut self, parent: Slot, child: Slot) {
        let Some(from) = self.table.get(parent) else { return };
        let (id, serial, owner, origin, basis) = (from.id, from.serial, from.owner, from.origin, from.basis);
        let high = self.high;
        let Some(leg) = self.table.edit(child) else { return };
        if leg.class != Class::Child {
            leg.class = Class::Child;
            (leg.owner, leg.origin, leg.basis) = (owner, origin, basis);
            (leg.parent, leg.claimed_by) = (Some(id), serial);
            // What the child has beyond what is handed over becomes its own after a while.
            self.table.set_deadline(child, high.plus_secs(GRACE_SECS));
        } else if leg.booked == 0 {
            (leg.owner, leg.origin, leg.basis) = (owner, origin, basis);
        }
    }

    /// One recipient arrives at a child; what waited for it is counted, down the chain.
    fn fund<S: Sink>(&mut self, child: Slot, cx: &mut Cx<'_, S>) {
        let mut slot = child;
        for link in 1..=MAX_CHAIN {
            let Some(leg) = self.table.edit(slot) else { return };
            books::take(leg, 1, cx);
            books::use_deferrals(leg, cx);
            let next = books::use_spare(leg, cx);
            let (owner, origin, basis) = (leg.owner, leg.origin, leg.basis);
            let after = next.filter(|_| link < MAX_CHAIN).and_then(|next| self.next_in_chain(slot, next));
            self.move_on(slot, next, after, cx);
            if let Some(leg) = self.table.edit(slot)
                && let Some(ended) = leg.ended
            {
                books::close_out(leg, ended.outcome(), leg.open(), cx);
                if leg.is_complete() {
                    self.close(slot, ended, cx);
                }
            }
            let Some(after) = after else { return };
            if let Some(leg) = self.table.edit(after) {
                (leg.owner, leg.origin, leg.basis) = (owner, origin, basis);
            }
            slot = after;
        }
    }

    /// Takes one recipient off a leg that handed it on: to the leg it went to, or, when that one is no longer to
    /// be found, into the books as what the line said it was: sent.
    fn move_on<S: Sink>(&mut self, slot: Slot, next: Option<QueueId>, after: Option<Slot>, cx: &mut Cx<'_, S>) {
        let (Some(leg), Some(_)) = (self.table.edit(slot), next) else { return };
        match after {
            Some(_) => {
                books::give(leg, 1, cx);
            }
            None => books::close_out(leg, Outcome::Sent, 1, cx),
        }
    }

    fn next_in_chain(&self, slot: Slot, next: QueueId) -> Option<Slot> {
        let leg = self.table.get(slot)?;
        self.find_claimed(leg.host, leg.serial, next)
    }

    /// The leg that `parent` has claimed under `id`.
    fn find_claimed(&self, host: u16, parent: u64, id: QueueId) -> Option<Slot> {
        let keys = self.places.all().map(|instance| Key { host, instance, id });
        keys.flat_map(|key| [self.table.find_lingering(key), self.table.find(key)])
            .flatten()
            .find(|&slot| self.table.get(slot).is_some_and(|leg| leg.class == Class::Child && leg.claimed_by == parent))
    }

    /// The message that a content filter's hand-over names, if it is open here: its owner.
    pub(super) fn find_parent(&self, child: Slot, id: QueueId) -> Option<(u64, Owner, Origin, Basis)> {
        let leg = self.table.get(child)?;
        let keys = self.places.all().map(|instance| Key { host: leg.host, instance, id });
        let parent = keys.filter_map(|key| self.table.find(key)).find(|&slot| slot != child)?;
        let parent = self.table.get(parent)?;
        let same = parent.message != 0 && parent.message == leg.message && parent.class != Class::Unborn;
        same.then_some((parent.serial, parent.owner, parent.origin, parent.basis))
    }

    /// A requeued message is back under a new id, with the recipients that were open.
    pub(super) fn come_back<S: Sink>(&mut self, slot: Slot, old: QueueId, cx: &mut Cx<'_, S>) {
        let Some(leg) = self.table.get(slot) else { return };
        let key = Key { host: leg.host, instance: leg.instance, id: old };
        let found = self.table.find_lingering(key).or_else(|| self.table.find(key)).filter(|&found| found != slot);
        if let Some(found) = found
            && self.table.get(found).is_some_and(|leg| leg.ended.is_none())
        {
            self.linger_requeued(found, cx);
        }
        let taken = found.and_then(|found| {
            let old = self.table.edit(found)?;
            let n = books::give(old, old.open(), cx);
            let spare = (std::mem::take(&mut old.spare), std::mem::take(&mut old.spare_hands));
            old.expected = old.booked;
            Some((old.class, old.owner, old.origin, old.basis, old.came.clone(), n, spare, old.id, old.parent))
        });
        let Some(leg) = self.table.edit(slot) else { return };
        match taken {
            Some((class, owner, origin, basis, came, n, spare, id, parent)) => {
                (leg.owner, leg.origin, leg.basis) = (owner, origin, basis);
                leg.class = if class == Class::Waiting { Class::Waiting } else { Class::Own };
                leg.came = match came {
                    Came::Unseen | Came::Internal => came,
                    _ => Came::Requeue,
                };
                (leg.spare, leg.spare_hands) = spare;
                leg.parent = if class == Class::Waiting { parent } else { Some(id) };
                books::take(leg, n, cx);
                if class == Class::Waiting {
                    let deadline = self.high.plus_secs(GRACE_SECS);
                    self.table.set_deadline(slot, deadline);
                }
                if let Some(found) = found {
                    self.table.set_deadline(found, Time::ZERO);
                    self.close(found, Ended::Requeued, cx);
                }
            }
            None => {
                // Requeued from before the log: its submitter was never seen, and the uid is the mail system's.
                leg.came = Came::Unseen;
                leg.class = Class::Own;
            }
        }
    }

    /// The server says that it wrote `child` as a notification: mail of nobody.
    pub(super) fn notified<S: Sink>(&mut self, head: &Head<'_>, child: QueueId, cx: &mut Cx<'_, S>) {
        let host = self.places.host(head.host);
        let instance = self.places.instance(head.instance, head.owns_queue);
        let key = Key { host, instance, id: child };
        if let Some(slot) = self.table.find_lingering(key)
            && self.table.get(slot).is_some_and(|leg| leg.class == Class::Waiting && leg.came == Came::Internal)
        {
            self.be_notification(slot, cx);
            return;
        }
        match self.locate(head, child) {
            Ok(slot) => {
                if self.table.get(slot).is_some_and(|leg| matches!(leg.came, Came::Internal | Came::Unseen)) {
                    self.be_notification(slot, cx);
                }
            }
            Err(key) => {
                // Announced before its own lines (3.11), or gone already: remembered for a moment.
                let mut leg = self.leg(key, head.at);
                leg.notification = true;
                let slot = self.insert(leg, cx);
                let deadline = self.high.plus_secs(GRACE_SECS);
                self.table.set_deadline(slot, deadline);
            }
        }
    }

    fn be_notification<S: Sink>(&mut self, slot: Slot, cx: &mut Cx<'_, S>) {
        let Some(leg) = self.table.edit(slot) else { return };
        if leg.class == Class::Own || leg.class == Class::Child {
            return;
        }
        leg.notification = true;
        if leg.class == Class::Waiting {
            leg.owner = Owner::nobody(Unattributed::Bounce);
            leg.origin = Origin::Internal;
            self.resolve(slot, cx);
        }
    }

    /// Nobody claimed the leg in time (or all of it): it is a message of its own from now on.
    pub(super) fn resolve<S: Sink>(&mut self, slot: Slot, cx: &mut Cx<'_, S>) {
        self.table.set_deadline(slot, Time::ZERO);
        let Some(leg) = self.table.edit(slot) else { return };
        match leg.class {
            Class::Unborn => {
                // Only a placeholder is waited for in this state.
                if leg.came == Came::Unseen {
                    self.close(slot, Ended::Lost, cx);
                }
                return;
            }
            Class::Own => {
                if let Some(ended) = leg.ended {
                    // A requeued message that never came back.
                    books::end(leg, ended, cx);
                    self.close(slot, ended, cx);
                }
                return;
            }
            Class::Waiting | Class::Child => {}
        }
        let counted = leg.class == Class::Waiting && !leg.probe;
        let seen_only = counted && leg.came == Came::Internal && !leg.notification;
        leg.class = Class::Own;
        if leg.probe {
            if let Some(ended) = leg.ended {
                books::end(leg, ended, cx);
                self.close(slot, ended, cx);
            }
            return;
        }
        if seen_only {
            // Its arrival was before the log began: counted as it is seen.
            leg.came = Came::Unseen;
            let deferred = leg.seen.iter().filter(|(_, seen)| *seen == Seen::Deferred).count() as u32;
            let finished = leg.seen.count() as u32 - deferred;
            let still_open = if leg.ended.is_some() { 0 } else { deferred };
            drop_unseen(leg, finished + deferred - still_open);
            let n = leg.spare_total() + still_open;
            books::book(leg, n, cx);
        } else {
            if counted {
                books::message(leg, cx);
            }
            let known = leg.done.saturating_add(leg.spare_total());
            let n = leg.expected.max(known).saturating_sub(leg.booked);
            books::book(leg, n, cx);
        }
        books::use_deferrals(leg, cx);
        while let Some(leg) = self.table.edit(slot) {
            if leg.spare_total() == 0 || leg.open() == 0 {
                break;
            }
            if let Some(next) = books::use_spare(leg, cx) {
                let after = self.next_in_chain(slot, next);
                self.move_on(slot, Some(next), after, cx);
                if let Some(after) = after {
                    self.fund(after, cx);
                }
            }
        }
        let Some(leg) = self.table.edit(slot) else { return };
        match leg.ended {
            Some(Ended::Requeued) => {
                let deadline = self.high.plus_secs(super::REQUEUE_SECS);
                self.table.set_deadline(slot, deadline);
            }
            Some(ended) => {
                books::end(leg, ended, cx);
                self.close(slot, ended, cx);
            }
            None => {}
        }
    }

    pub(super) fn linger<S: Sink>(&mut self, slot: Slot, ended: Ended, secs: i64, cx: &mut Cx<'_, S>) {
        let Some(leg) = self.table.get(slot) else { return };
        // Only one incarnation of an id lingers: an older one is decided now.
        let (key, running) = (Key { host: leg.host, instance: leg.instance, id: leg.id }, leg.deadline);
        if let Some(older) = self.table.find_lingering(key) {
            self.resolve(older, cx);
        }
        // A deadline that runs already stands: a parent is always decided before the legs it claimed.
        let deadline = match running {
            Time::ZERO => self.high.plus_secs(secs),
            running => running,
        };
        self.table.let_linger(slot, ended);
        self.table.set_deadline(slot, deadline);
    }
}

/// The leg can continue `parent`: it is nobody's yet, or that message's already.
fn is_free(leg: &Leg, parent: u64) -> bool {
    match leg.class {
        _ if leg.probe => false,
        Class::Unborn | Class::Waiting => leg.booked == 0,
        Class::Child => leg.claimed_by == parent,
        Class::Own => false,
    }
}

/// Of a message whose arrival was not seen only recipients that a line named are counted: `keep` of the spare
/// outcomes. The others came from its end, which speaks for all recipients.
fn drop_unseen(leg: &mut Leg, keep: u32) {
    let mut excess = leg.spare_total().saturating_sub(keep);
    for outcome in [Outcome::Unaccounted, Outcome::Deleted, Outcome::Expired] {
        if let Some(spare) = leg.spare.get_mut(outcome.code() as usize) {
            let cut = excess.min(*spare);
            *spare -= cut;
            excess -= cut;
        }
    }
}
