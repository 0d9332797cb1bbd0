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
use crate::mail::{Attempt, Basis, Next, Origin, Outcome, Owner, QueueId};

/// Longest chain of legs that were handed on before their first one was known.
pub(super) const MAX_CHAIN: u32 = 16;

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
        if self.table.get(child).is_some_and(|child| child.class == Class::Own) {
            self.both_open(slot, before == Some(Seen::Deferred), child, cx);
            return true;
        }
        self.claim(slot, child);
        let Some(leg) = self.table.edit(slot) else { return false };
        books::book_seen(leg, cx);
        if leg.open() == 0 {
            if leg.class != Class::Own {
                if leg.spare_hands.len() < most {
                    leg.push_spare_hand(child_id);
                }
                return true;
            }
            books::book(leg, 1, cx);
        }
        self.pass(slot, Some(child), cx);
        true
    }

    /// Both legs were open before the log began: the child's recipients are those its own lines name, or those
    /// handed to it, whichever are more.
    fn both_open<S: Sink>(&mut self, slot: Slot, booked: bool, child: Slot, cx: &mut Cx<'_, S>) {
        let Some(leg) = self.table.edit(slot) else { return };
        if booked {
            return books::close_out(leg, Outcome::Sent, 1, cx);
        }
        books::pass_by(leg);
        let serial = leg.serial;
        let Some(leg) = self.table.edit(child) else { return };
        leg.claimed_by = serial;
        leg.expected = leg.expected.saturating_add(1);
        if leg.expected > leg.booked {
            books::book(leg, 1, cx);
        }
    }

    /// The leg that `next` names, if it can be a continuation of `slot`.
    fn find_child<S: Sink>(
        &mut self,
        slot: Slot,
        attempt: &Attempt<'_>,
        next: Next,
        cx: &mut Cx<'_, S>,
    ) -> Option<Slot> {
        let parent = self.table.get(slot)?;
        let blind = parent.is_blind();
        let found = match next {
            Next::ForwardedAs(id) => {
                let fits = |leg: &Leg| {
                    let internal =
                        matches!(leg.came, Came::Internal) && !leg.notification && is_free(leg, parent.serial);
                    leg.instance == parent.instance && (internal || blind && is_dim(leg, parent.serial))
                };
                self.pick(slot, id, fits)
            }
            Next::QueuedAs(id) => {
                let near = read_address(attempt.relay_address).is_some_and(|a| cx.attribution.is_local(a));
                if !near || (parent.message == 0 && !blind) {
                    return None;
                }
                let fits = |leg: &Leg| {
                    let hop = matches!(leg.came, Came::Smtp(Some(address)) if cx.attribution.is_local(address));
                    let joins = hop && is_free(leg, parent.serial);
                    // Without the parent's header line, the filter's word and an unclaimed arrival must do.
                    joins && (blind || leg.message == parent.message) || blind && is_dim(leg, parent.serial)
                };
                self.pick(slot, id, fits)
            }
        };
        let (Next::QueuedAs(id) | Next::ForwardedAs(id)) = next;
        found.or_else(|| self.announce(slot, id, cx))
    }

    /// A leg for an id that only its parent's line has named, where both began before the log: whatever is said of
    /// it in the next moments is about the parent's recipients. If nothing is, they were sent, as the line says.
    fn announce<S: Sink>(&mut self, slot: Slot, id: QueueId, cx: &mut Cx<'_, S>) -> Option<Slot> {
        let parent = self.table.get(slot).filter(|leg| leg.is_blind())?;
        let key = Key { host: parent.host, instance: parent.instance, id };
        if id == parent.id || !self.table.named(key.host, id).is_empty() || self.table.len() >= self.settings.max_open {
            return None;
        }
        let mut leg = self.leg(key, cx.at);
        leg.came = Came::Named;
        Some(self.insert(leg, cx))
    }

    /// The oldest leg under an id, other than `but`, that fits and is no ancestor of `but`.
    fn pick(&self, but: Slot, id: QueueId, fits: impl Fn(&Leg) -> bool) -> Option<Slot> {
        let host = self.table.get(but)?.host;
        let found = self
            .table
            .named(host, id)
            .into_iter()
            .find(|&slot| slot != but && self.table.get(slot).is_some_and(&fits))?;
        (!self.descends(but, found)).then_some(found)
    }

    /// `leg` carries recipients that were handed down from `ancestor`, or its line is too long to be true.
    fn descends(&self, leg: Slot, ancestor: Slot) -> bool {
        let mut slot = leg;
        for _ in 0..MAX_CHAIN {
            match self.claimer(slot) {
                Some(up) if up == ancestor => return true,
                Some(up) => slot = up,
                None => return false,
            }
        }
        true
    }

    /// The leg that claimed this one, if it is still followed.
    pub(super) fn claimer(&self, slot: Slot) -> Option<Slot> {
        let leg = self.table.get(slot).filter(|leg| leg.class == Class::Child)?;
        let (parent, serial) = (leg.parent?, leg.claimed_by);
        let mut named = self.table.named(leg.host, parent).into_iter();
        named.find(|&slot| self.table.get(slot).is_some_and(|leg| leg.serial == serial))
    }

    /// The child belongs to the parent's account from now on.
    fn claim(&mut self, parent: Slot, child: Slot) {
        let Some(from) = self.table.get(parent) else { return };
        let (id, serial, owner, origin, basis) = (from.id, from.serial, from.owner, from.origin, from.basis);
        let high = self.high();
        self.inherit_claim(parent, child);
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

    /// Takes one open recipient off a leg that handed it on, to the leg it went to, where what waited for it is
    /// counted, down the chain. Where that leg is no longer to be found, it is what the line said it was: sent.
    pub(super) fn pass<S: Sink>(&mut self, from: Slot, to: Option<Slot>, cx: &mut Cx<'_, S>) {
        let (mut slot, mut to) = (from, to);
        for _ in 0..MAX_CHAIN {
            let Some(leg) = self.table.edit(slot) else { return };
            let from = (leg.owner, leg.origin, leg.basis);
            // The books know no move between owners: a leg that has recipients keeps its own.
            let fits = |to: &Slot| self.table.get(*to).is_some_and(|to| to.booked == 0 || to.owner == from.0);
            let next = to.filter(fits);
            let Some(leg) = self.table.edit(slot) else { return };
            let Some(next) = next else {
                books::close_out(leg, Outcome::Sent, 1, cx);
                return self.close_if_complete(slot, cx);
            };
            books::give(leg, 1, cx);
            self.close_if_complete(slot, cx);
            let Some(leg) = self.table.edit(next) else { return };
            (leg.owner, leg.origin, leg.basis) = from;
            books::take(leg, 1, cx);
            books::use_deferrals(leg, cx);
            let Some(further) = books::use_spare(leg, cx) else {
                return self.close_if_complete(next, cx);
            };
            slot = next;
            to = self.next_in_chain(slot, further);
        }
        if let Some(leg) = self.table.edit(slot) {
            books::close_out(leg, Outcome::Sent, 1, cx);
        }
        self.close_if_complete(slot, cx);
    }

    /// A leg that has left the queue is kept only while something is owed to it.
    fn close_if_complete<S: Sink>(&mut self, slot: Slot, cx: &mut Cx<'_, S>) {
        let Some(leg) = self.table.edit(slot) else { return };
        let Some(ended) = leg.ended.filter(|ended| *ended != Ended::Requeued && leg.class == Class::Child) else {
            return;
        };
        books::close_out(leg, ended.outcome(), leg.open() - leg.open().min(leg.spare_total()), cx);
        if leg.is_complete() {
            self.close(slot, ended, cx);
        }
    }

    pub(super) fn next_in_chain(&self, slot: Slot, next: QueueId) -> Option<Slot> {
        let leg = self.table.get(slot)?;
        self.find_claimed(leg.host, leg.serial, next)
    }

    /// The leg that `parent` has claimed under `id`.
    pub(super) fn find_claimed(&self, host: u16, parent: u64, id: QueueId) -> Option<Slot> {
        let claimed = |leg: &Leg| leg.class == Class::Child && leg.claimed_by == parent;
        self.table.named(host, id).into_iter().find(|&slot| self.table.get(slot).is_some_and(claimed))
    }

    /// The message that a content filter's hand-over names, if it is open here: its owner.
    pub(super) fn find_parent(&self, child: Slot, id: QueueId) -> Option<(u64, Owner, Origin, Basis)> {
        let leg = self.table.get(child)?;
        let parent = self.table.live(leg.host, id).into_iter().find(|&slot| slot != child)?;
        let parent = self.table.get(parent)?;
        let same = parent.message != 0 && parent.message == leg.message && parent.class != Class::Unborn;
        same.then_some((parent.serial, parent.owner, parent.origin, parent.basis))
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

/// Began before the log like its parent, as far as can be seen: its arrival line is missing.
fn is_dim(leg: &Leg, parent: u64) -> bool {
    let dim = matches!(leg.came, Came::Unseen | Came::Internal | Came::Named) && !leg.notification;
    let own = leg.class == Class::Own && leg.is_mid_stream() && (leg.claimed_by == 0 || leg.claimed_by == parent);
    dim && (own || is_free(leg, parent))
}
