//! An account that sends more than it may within a while, and is slowed down: what is beyond that is held, and leaves
//! oldest first as its window frees. Its state stays what it is: nobody has done anything wrong.
//!
//! When how much may leave is known where the windows are; here stands only that it is so, and what leaves now. It ends
//! when nothing waits any more, with a block (then what waits is held for that), or by an operator who lets all go.

use super::held::Stage;
use super::{Account, Change, HeldAccount, Sanctions};
use crate::mail::{Action, OrderId, Owner, Place, Scope, Time, Verb};

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delay {
    pub order: OrderId,
    pub rule: Box<str>,
    /// Which mail of the account waits.
    pub scope: Scope,
    pub reason: String,
    pub since: Time,
}

impl Delay {
    pub(super) fn standing(&self, owner: Owner) -> HeldAccount {
        let Delay { scope, order, reason, .. } = self;
        HeldAccount { owner, scope: scope.clone(), order: *order, reason: reason.clone(), slow: true }
    }
}

impl Sanctions {
    /// The account is slowed down from now on. False when it is blocked: that holds more than this would.
    pub fn slow_down(&mut self, owner: Owner, delay: Delay) -> bool {
        let account = self.account(owner);
        if account.block.is_some() || !owner.is_account() {
            return false;
        }
        let delay = match account.delay.clone() {
            // More of its mail: nothing that waits goes for it.
            Some(old) => Delay { scope: old.scope.with(&delay.scope), ..old },
            None => delay,
        };
        // What was leaving slowly is slow enough now.
        self.put(owner, Account { delay: Some(delay), drip: None, ..account });
        true
    }

    /// Accounts that are slowed down.
    pub fn slowed(&self) -> Vec<Owner> {
        self.accounts.iter().filter(|(_, account)| account.delay.is_some()).map(|(owner, _)| *owner).collect()
    }

    /// Since when a message is on hold.
    pub fn held_since(&self, owner: Owner, place: &Place) -> Option<Time> {
        self.held.get(owner, place).map(|entry| entry.at)
    }

    /// Accounts that are slowed down, and for which nothing else is being done.
    pub fn delayed(&self) -> Vec<Owner> {
        let free = self.accounts.iter().filter(|(_, account)| account.delay.is_some() && account.change.is_none());
        free.map(|(owner, _)| *owner).collect()
    }

    /// The messages that wait for their turn, oldest first, at most `n`.
    pub fn next_in_turn(&self, owner: Owner, n: usize) -> Vec<Place> {
        self.held.oldest(owner, n)
    }

    /// What was told to leave, and has not been heard of yet.
    pub fn leaving(&self, owner: Owner) -> Vec<Place> {
        self.held.places(owner, Stage::Leaving)
    }

    /// It is their turn.
    pub fn take_turn(&mut self, owner: Owner, places: Vec<Place>) {
        let account = self.account(owner);
        if account.change.is_some() || self.held.advance_these(owner, places, Stage::Held, Stage::Leaving) == 0 {
            return;
        }
        let change = Change { action: Action::Unblock, verb: Verb::Release, mend: true, ..Change::new(account.state) };
        self.put(owner, Account { change: Some(change), ..account });
    }

    /// Nothing waits any more: mail passes again. False when something does.
    pub fn end_delay(&mut self, owner: Owner) -> bool {
        let account = self.account(owner);
        let ends = account.delay.is_some() && account.change.is_none() && self.held.sum(owner).messages == 0;
        if ends {
            self.put(owner, Account { delay: None, ..account });
        }
        ends
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::sanctions::{Settings, read_account};
    use crate::mail::{Actor, Cause, LiftableBy, Order, Report, Server, ServiceState};

    const WHO: Owner = Owner(16);
    const NOW: Time = Time(1_800_000_000_000_000);

    fn place(id: &str) -> Place {
        let id = crate::mail::QueueId::new(id.as_bytes()).unwrap();
        Place { server: Server::default(), instance: b"mx"[..].into(), id }
    }

    fn delay(scope: Scope) -> Delay {
        Delay { order: OrderId::new(NOW, 5), rule: "quota".into(), scope, reason: "why".into(), since: NOW }
    }

    fn order(action: Action, by: Actor) -> Order {
        let (id, at, scope, cause) = (OrderId::new(NOW, 6), NOW, Scope::Script, Cause::Person);
        let (reason, until, part, drip, liftable_by) = (String::new(), None, None, None, LiftableBy::Operator);
        Order { id, owner: WHO, action, scope, cause, by, liftable_by, reason, at, until, part, drip, spares: false }
    }

    /// Slowed down, with three that wait.
    fn slowed() -> Sanctions {
        let mut sanctions = Sanctions::new(Settings::default());
        sanctions.take_standing();
        assert!(sanctions.slow_down(WHO, delay(Scope::Script)));
        for (n, id) in ["AAAAA3", "AAAAA1", "AAAAA2"].into_iter().enumerate() {
            assert!(sanctions.note_held(WHO, place(id), NOW.plus_secs(n as i64)));
        }
        sanctions
    }

    fn done(sanctions: &mut Sanctions) -> Vec<String> {
        let Some(work) = sanctions.next_work() else { return Vec::new() };
        let ids = work.places.iter().map(|place| place.id.to_string()).collect();
        let report = Report { done: work.places, ..Report::default() };
        assert!(sanctions.settle(WHO, work.order, &report, |_| false, NOW).is_some());
        ids
    }

    #[test]
    fn what_waits_leaves_in_turn_and_not_before() {
        let mut sanctions = slowed();
        let standing = sanctions.take_standing().unwrap();
        assert_eq!(standing.iter().map(|one| (one.owner, one.slow)).collect::<Vec<_>>(), [(WHO, true)]);
        assert_eq!((sanctions.account(WHO).state, sanctions.is_blocked(WHO)), (ServiceState::Ok, false));
        assert_eq!(sanctions.figures().delayed, 1);
        // Nobody takes it for mail of a free account that was left over.
        sanctions.mend(&[], |_| Some(true), NOW.plus_secs(600));
        assert!(sanctions.next_work().is_none());
        assert_eq!(sanctions.next_in_turn(WHO, 2), [place("AAAAA3"), place("AAAAA1")], "the oldest first");
        sanctions.take_turn(WHO, vec![place("AAAAA3")]);
        assert!(sanctions.delayed().is_empty(), "one turn after the other");
        assert_eq!(sanctions.leaving(WHO), [place("AAAAA3")]);
        assert!(!sanctions.end_delay(WHO));
        assert_eq!(done(&mut sanctions), ["AAAAA3"]);
        assert_eq!((sanctions.delayed(), sanctions.take_drift().left_over), (vec![WHO], 0));
        sanctions.take_turn(WHO, vec![place("AAAAA1"), place("AAAAA2")]);
        assert_eq!(done(&mut sanctions), ["AAAAA1", "AAAAA2"]);
        assert!(sanctions.end_delay(WHO) && !sanctions.end_delay(WHO));
        assert_eq!((sanctions.take_standing(), sanctions.is_clean(WHO)), (Some(vec![]), true));
    }

    #[test]
    fn a_row_keeps_it() {
        let mut sanctions = slowed();
        for row in sanctions.take_rows() {
            let value = row.value.unwrap();
            if let Some((owner, account)) = read_account(&row.key, &value) {
                assert_eq!((owner, account), (WHO, sanctions.account(WHO)));
                return;
            }
        }
        panic!("no row");
    }

    #[test]
    fn a_block_takes_it_over_a_person_ends_it_and_more_of_it_widens_it() {
        let mut sanctions = slowed();
        assert!(sanctions.slow_down(WHO, delay(Scope::Login("a@b".into()))));
        assert_eq!(sanctions.account(WHO).delay.unwrap().scope, Scope::All);
        sanctions.accept(&order(Action::Block, Actor::Token), &[], NOW);
        let account = sanctions.account(WHO);
        assert!(account.delay.is_none() && account.block.is_some() && sanctions.held(WHO) == 3);
        assert!(!sanctions.slow_down(WHO, delay(Scope::Script)), "it is blocked");
        let mut sanctions = slowed();
        sanctions.accept(&order(Action::Unblock, Actor::Customer("x".into())), &[], NOW);
        assert!(sanctions.next_work().is_none(), "an owner does not jump the queue");
        sanctions.accept(&order(Action::Unblock, Actor::Token), &[], NOW);
        assert_eq!(done(&mut sanctions).len(), 3);
        assert!(sanctions.account(WHO).delay.is_none());
        let mut sanctions = slowed();
        sanctions.accept(&order(Action::Purge, Actor::Customer("x".into())), &[], NOW);
        assert_eq!(done(&mut sanctions).len(), 3);
        assert!(sanctions.account(WHO).delay.is_some() && sanctions.end_delay(WHO));
    }
}
