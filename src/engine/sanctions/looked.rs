//! What a look at the queue itself says: how much a message takes, that it is not there, that it is somebody else's. The log
//! may be written by anybody on the host, and what it says of a message was true a moment ago at best.

use super::held::{Entry, Stage};
use super::{Queued, SETTLED_SECS, Sanctions};
use crate::mail::{HandedBy, Owner, Place, Time};
use std::collections::BTreeMap;

/// Who somebody else's message is said to be of is looked at again after this: queue ids may be used again.
const OTHERS_SECS: i64 = 3_600;
/// Most of those that are remembered.
const MOST_OTHERS: usize = 100_000;

/// What was seen of a message on hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// It takes so many bytes.
    Size(u64),
    NotThere,
    /// The queue could not be looked into.
    Unknown,
}

impl Sanctions {
    /// The next messages whose size nobody has asked for, at most so many.
    pub fn take_unsized(&mut self, most: usize) -> Vec<(Owner, Place)> {
        let taken = self.held.take_unsized(most);
        for (_, place) in &taken {
            if let Some(asked) = self.doubted.get_mut(place) {
                *asked = true;
            }
        }
        taken
    }

    /// What was seen of a message that the agent holds. One that is not there may be on its way into the queue, and is
    /// asked for again; later it is known that it never came on hold, or was requeued. `on_hold`: the log says that it is.
    pub fn looked(&mut self, owner: Owner, place: Place, look: Look, on_hold: bool, now: Time) {
        let Some(entry) = self.held.get(owner, &place) else {
            self.doubted.remove(&place);
            return;
        };
        let young = now.secs_since(entry.at) < SETTLED_SECS;
        // What was asked before there was a doubt says nothing about it.
        let doubted = self.doubted.get(&place) == Some(&true);
        match look {
            Look::Size(size) => {
                if doubted {
                    self.doubted.remove(&place);
                }
                self.held.set_size(owner, &place, size);
            }
            Look::NotThere if entry.stage == Stage::Held && (doubted || !(young || on_hold)) => {
                self.held.remove(owner, &place);
                if self.doubted.remove(&place).is_some() {
                    self.drift.taken += 1;
                    *self.requeued.entry(owner).or_default() += 1;
                } else {
                    self.drift.gone += 1;
                }
            }
            Look::NotThere | Look::Unknown if young || doubted => self.held.set_unsized(owner, place),
            Look::NotThere | Look::Unknown => {}
        }
    }

    /// Where the queue cannot be looked into, the log is believed.
    pub fn believe_log(&mut self, now: Time) {
        let doubted = std::mem::take(&mut self.doubted);
        for (owner, place) in self.held.take_unsized(usize::MAX) {
            if doubted.contains_key(&place) {
                self.doubted.insert(place.clone(), true);
                self.looked(owner, place, Look::NotThere, false, now);
            }
        }
        self.doubted.clear();
    }

    /// An administrator has requeued a message: if it was on hold for an account whose block stands, it is to be put on
    /// hold again under its new id; that it was is looked for in the queue. True when there is something to mend.
    pub fn came_back(&mut self, old: &Place, new: Place, now: Time) -> bool {
        let Some((owner, entry)) = self.held.find(old) else { return false };
        if entry.stage != Stage::Held {
            return false;
        }
        if self.doubted.insert(old.clone(), false).is_none() {
            self.held.set_unsized(owner, old.clone());
        }
        self.is_blocked(owner) && self.intend_one(owner, new, Some(HandedBy::Requeued), now)
    }

    /// The mail system has written to the sender of a message of a held account, and asks no gate about that. Whoever hands
    /// in a message chooses whom it comes back to, text included: it is held as the message would be. True when there is
    /// something to mend.
    pub fn notified(&mut self, notice: &Queued, now: Time) -> bool {
        let block = self.accounts.get(&notice.owner).and_then(|account| account.block.as_ref());
        let covered = block.is_some_and(|block| block.scope.covers(notice.origin, &notice.login));
        covered && self.intend_one(notice.owner, notice.place.clone(), notice.by.clone(), now)
    }

    /// How many messages of each account were requeued since the last call.
    pub fn take_requeued(&mut self) -> BTreeMap<Owner, u64> {
        std::mem::take(&mut self.requeued)
    }

    /// Nothing was done with these messages, which the log gives to the account and their queue files to another hand:
    /// those that are `its` all the same are put on hold with the next work, the others are let alone. The others.
    pub fn dispute(
        &mut self,
        owner: Owner,
        disputed: &[(Place, HandedBy)],
        its: impl Fn(&HandedBy) -> bool,
        now: Time,
    ) -> Vec<Place> {
        let mut others = Vec::new();
        for (place, by) in disputed {
            if self.held.get(owner, place).is_none_or(|entry| entry.stage != Stage::Intended) {
                continue;
            }
            if its(by) {
                self.claims.insert(place.clone(), Some(by.clone()));
                continue;
            }
            self.held.remove(owner, place);
            self.claims.remove(place);
            if self.others.len() >= MOST_OTHERS {
                self.others.clear();
            }
            self.others.insert(place.clone(), now);
            self.drift.contradicted += 1;
            others.push(place.clone());
        }
        others
    }

    /// For whom the agent holds the message that is there.
    pub fn holder(&self, place: &Place) -> Option<Owner> {
        self.held.find(place).filter(|(_, entry)| entry.stage != Stage::Intended).map(|(owner, _)| owner)
    }

    pub(super) fn is_others(&self, place: &Place, now: Time) -> bool {
        self.others.get(place).is_some_and(|since| (0..OTHERS_SECS).contains(&now.secs_since(*since)))
    }

    /// Marks a message as about to be put on hold, if it is not the agent's already and there is room.
    pub(super) fn intend_one(&mut self, owner: Owner, place: Place, by: Option<HandedBy>, now: Time) -> bool {
        let entry = Entry::new(Stage::Intended, now);
        let new = self.held.get(owner, &place).is_none() && self.held.set(owner, place.clone(), entry);
        if new {
            self.claims.insert(place, by);
        }
        new
    }

    /// Nothing is about to be put on hold of an account that is free, and where nothing is under way.
    pub(super) fn forget_intents(&mut self) {
        for owner in self.held.owners() {
            if self.accounts.get(&owner).is_none_or(|account| account.block.is_none() && account.change.is_none()) {
                for place in self.held.places(owner, Stage::Intended) {
                    self.held.remove(owner, &place);
                    self.claims.remove(&place);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::sanctions::{Outcome, Settings};
    use crate::mail::{Action, Actor, Cause, LiftableBy, Order, OrderId, Origin, QueueId, Report, Scope, Server, Verb};

    const WHO: Owner = Owner(16);
    const NOW: Time = Time(1_800_000_000_000_000);

    fn place(id: &str) -> Place {
        Place { server: Server::default(), instance: b"mx"[..].into(), id: QueueId::new(id.as_bytes()).unwrap() }
    }

    fn queued(id: &str, by: Option<HandedBy>) -> Queued {
        Queued { owner: WHO, place: place(id), origin: Origin::Script, login: [].into(), since: NOW, by }
    }

    fn order(action: Action) -> Order {
        let (id, at, scope) = (OrderId::new(NOW, 5), NOW, Scope::Script);
        let (by, liftable_by, cause) = (Actor::Token, LiftableBy::Operator, Cause::Person);
        let (reason, until, part, drip) = (String::new(), None, None, None);
        Order { id, owner: WHO, action, scope, cause, by, liftable_by, reason, at, until, part, drip, spares: false }
    }

    fn blocked(queued: &[Queued]) -> Sanctions {
        let mut sanctions = Sanctions::new(Settings::default());
        assert_ne!(sanctions.accept(&order(Action::Block), queued, NOW).outcome, Outcome::Refused);
        sanctions
    }

    /// Does the next work; what is not `done` of it is missing.
    fn work(sanctions: &mut Sanctions, done: &[&str], disputed: &[(&str, HandedBy)], its: bool) -> Vec<String> {
        let work = sanctions.next_work().unwrap();
        assert_eq!((work.verb, work.claims.len()), (Verb::Hold, work.places.len()));
        let disputed: Vec<(Place, HandedBy)> = disputed.iter().map(|(id, by)| (place(id), by.clone())).collect();
        let left = work.places.iter().filter(|place| !disputed.iter().any(|(one, _)| one == *place));
        let (done, missing) = left.cloned().partition(|place| done.contains(&place.id.as_str()));
        let others = sanctions.dispute(WHO, &disputed, |_| its, NOW);
        assert_eq!(others.len(), if its { 0 } else { disputed.len() });
        let report = Report { done, missing, disputed, ..Report::default() };
        assert!(sanctions.settle(WHO, work.order, &report, |_| false, NOW).is_some());
        work.places.iter().map(|place| place.id.to_string()).collect()
    }

    #[test]
    fn what_the_server_writes_back_is_held_with_what_it_is_about() {
        let mut sanctions = Sanctions::new(Settings::default());
        let notice = |id: &str, origin| Queued { origin, ..queued(id, None) };
        assert!(!sanctions.notified(&notice("AAAAA0", Origin::Script), NOW), "nobody is held");
        let mut sanctions = blocked(&[]);
        assert!(!sanctions.notified(&notice("AAAAA1", Origin::SmtpAuth), NOW), "another scope");
        assert!(sanctions.notified(&notice("AAAAA2", Origin::Script), NOW));
        assert!(!sanctions.notified(&notice("AAAAA2", Origin::Script), NOW), "once");
        assert!(sanctions.notified(&notice("AAAAA3", Origin::LocalSmtp), NOW));
        sanctions.mend(&[], |_| None, NOW);
        // What somebody has handed in was not written by the server, whatever the log says.
        assert_eq!(work(&mut sanctions, &["AAAAA2"], &[("AAAAA3", HandedBy::Uid(7))], false), ["AAAAA2", "AAAAA3"]);
        assert_eq!((sanctions.held(WHO), sanctions.take_drift().escaped), (1, 1));
        sanctions.accept(&order(Action::Purge), &[], NOW);
        assert_eq!(
            sanctions.next_work().map(|work| (work.verb, work.places)),
            Some((Verb::Delete, vec![place("AAAAA2")]))
        );
    }

    #[test]
    fn what_the_file_gives_to_another_account_is_let_alone_and_what_it_gives_to_this_one_is_held() {
        let uid = |uid| Some(HandedBy::Uid(uid));
        let all = [queued("AAAAA1", uid(1)), queued("AAAAA2", uid(1)), queued("AAAAA3", None)];
        let mut sanctions = blocked(&all);
        work(&mut sanctions, &["AAAAA1", "AAAAA3"], &[("AAAAA2", HandedBy::Uid(2))], false);
        assert_eq!((sanctions.held(WHO), sanctions.take_drift().contradicted), (2, 1));
        // It is not found again at once, but later: another message may have its id.
        sanctions.mend(&all[1..2], |_| Some(true), NOW.plus_secs(OTHERS_SECS - 1));
        assert_eq!(sanctions.next_work(), None);
        sanctions.mend(&all[1..2], |_| Some(true), NOW.plus_secs(OTHERS_SECS));
        // Now it is this account's, if by another hand than the log says.
        work(&mut sanctions, &[], &[("AAAAA2", HandedBy::Uid(3))], true);
        sanctions.mend(&[], |_| Some(true), NOW.plus_secs(OTHERS_SECS));
        let next = sanctions.next_work().unwrap();
        assert_eq!(next.claims, BTreeMap::from([(place("AAAAA2"), Some(HandedBy::Uid(3)))]));
        let report = Report { done: next.places, ..Report::default() };
        assert!(sanctions.settle(WHO, next.order, &report, |_| false, NOW).is_some());
        assert_eq!((sanctions.held(WHO), sanctions.take_drift().contradicted), (3, 0));
        assert!(sanctions.claims.is_empty());
    }

    #[test]
    fn nothing_is_about_to_be_held_of_an_account_that_is_free() {
        let mut sanctions = blocked(&[queued("AAAAA1", None)]);
        work(&mut sanctions, &[], &[("AAAAA1", HandedBy::Uid(3))], true);
        sanctions.accept(&order(Action::Unblock), &[], NOW);
        sanctions.mend(&[], |_| Some(true), NOW);
        assert_eq!((sanctions.next_work(), sanctions.is_clean(WHO), sanctions.claims.len()), (None, true, 0));
    }

    #[test]
    fn what_was_requeued_is_one_message_and_only_if_the_queue_says_so() {
        let mut sanctions = blocked(&[]);
        for id in ["AAAAA1", "AAAAA2"] {
            assert!(sanctions.note_held(WHO, place(id), NOW));
            sanctions.looked(WHO, place(id), Look::Size(7), true, NOW);
        }
        sanctions.take_unsized(9);
        assert!(!sanctions.came_back(&place("AAAAA9"), place("BBBBB9"), NOW), "nobody holds it");
        assert!(sanctions.came_back(&place("AAAAA1"), place("BBBBB1"), NOW));
        assert!(sanctions.came_back(&place("AAAAA2"), place("BBBBB2"), NOW));
        // It was asked for before that, when it was there still.
        sanctions.looked(WHO, place("AAAAA1"), Look::Size(7), true, NOW);
        let asked = sanctions.take_unsized(9);
        assert_eq!(asked.len(), 4, "the old ones and the new ones");
        assert!(["AAAAA1", "AAAAA2"].iter().all(|id| asked.contains(&(WHO, place(id)))), "{asked:?}");
        // The queue cannot be looked into: it is asked for again. Of the second a line of the log was not true.
        for (id, look) in [("AAAAA1", Look::Unknown), ("AAAAA2", Look::Size(7))] {
            sanctions.looked(WHO, place(id), look, true, NOW);
        }
        assert_eq!(sanctions.take_unsized(9), [(WHO, place("AAAAA1"))]);
        sanctions.looked(WHO, place("AAAAA1"), Look::NotThere, true, NOW);
        assert_eq!((sanctions.held(WHO), sanctions.take_drift().taken), (1, 1));
        assert_eq!(sanctions.take_requeued(), BTreeMap::from([(WHO, 1)]));
        sanctions.mend(&[], |_| Some(true), NOW);
        assert_eq!(work(&mut sanctions, &["BBBBB1"], &[], false), ["BBBBB1", "BBBBB2"]);
        assert_eq!(sanctions.held(WHO), 2);
    }

    #[test]
    fn what_never_came_on_hold_is_not_counted_for_ever() {
        let mut sanctions = blocked(&[]);
        for id in ["AAAAA1", "AAAAA2"] {
            assert!(sanctions.note_held(WHO, place(id), NOW));
        }
        sanctions.take_unsized(9);
        let later = NOW.plus_secs(SETTLED_SECS);
        for (look, on_hold, now, held) in [
            (Look::NotThere, false, NOW.plus_secs(SETTLED_SECS - 1), 2),
            (Look::Unknown, false, later, 2),
            (Look::NotThere, true, later, 2),
            (Look::NotThere, false, later, 1),
        ] {
            sanctions.looked(WHO, place("AAAAA1"), look, on_hold, now);
            assert_eq!(sanctions.held(WHO), held, "{look:?} {on_hold}");
        }
        assert_eq!((sanctions.take_drift().gone, sanctions.take_requeued().len()), (1, 0));
        // Where nobody looks, the log's word for a requeued one is all that there is.
        assert!(sanctions.came_back(&place("AAAAA2"), place("BBBBB2"), NOW));
        sanctions.believe_log(NOW);
        assert_eq!((sanctions.held(WHO), sanctions.take_drift().taken), (0, 1));
    }
}
