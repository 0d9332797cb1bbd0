//! The second chance after a block for errors, and what relapses come to.

use super::{Account, Block, RELAPSE_SECS, Sanctions};
use crate::mail::{Actor, Cause, LiftableBy, Order, Owner, ServiceState, Time};
use std::collections::BTreeSet;

impl Sanctions {
    /// Who is on a second chance, where that has changed since the last call.
    pub fn take_forced(&mut self) -> Option<BTreeSet<Owner>> {
        std::mem::take(&mut self.forced_changed).then(|| self.forced())
    }

    pub fn forced(&self) -> BTreeSet<Owner> {
        let forced = self.accounts.iter().filter(|(_, account)| account.state == ServiceState::Force);
        forced.map(|(owner, _)| *owner).collect()
    }

    /// The relapses of an account that is blocked now. After too many the block is an operator's to lift.
    pub(super) fn relapse(&self, account: &Account, order: &Order, block: &mut Block, now: Time) -> Vec<Time> {
        let by_rule = matches!(order.by, Actor::Rule(_)) && order.cause == Cause::Errors;
        if account.state != ServiceState::Force || !by_rule {
            return account.relapses.clone();
        }
        let recent = |at: &Time| (0..RELAPSE_SECS).contains(&now.secs_since(*at));
        let mut relapses: Vec<Time> = account.relapses.iter().copied().filter(recent).collect();
        // No more are needed to tell.
        let most = self.settings.max_relapses as usize;
        while relapses.len() >= most && !relapses.is_empty() {
            relapses.remove(0);
        }
        relapses.push(now);
        if relapses.len() >= most {
            block.liftable_by = LiftableBy::Operator;
        }
        relapses
    }

    pub(super) fn relapse_text(&self, account: &Account, relapsed: bool) -> String {
        if !relapsed {
            return String::new();
        }
        let (n, most) = (account.relapses.len(), self.settings.max_relapses);
        let lifted = if n >= most as usize { ": only an operator lifts this block" } else { "" };
        format!("; relapse {n} of {most} on a second chance{lifted}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::sanctions::{Outcome, Settings, read_account};
    use crate::mail::{Action, OrderId, Scope};

    const WHO: Owner = Owner(17);
    const NOW: Time = Time::from_secs(1_800_000_000);
    const HOUR: i64 = 3_600;

    fn give(sanctions: &mut Sanctions, action: Action, by: Actor, cause: Cause, hours: i64) -> (Outcome, String) {
        let at = NOW.plus_secs(hours * HOUR);
        let (id, scope, liftable_by) = (OrderId::new(at, 5), Scope::Script, by.liftable_by());
        let order = Order {
            id,
            owner: WHO,
            action,
            scope,
            cause,
            by,
            liftable_by,
            reason: String::new(),
            at,
            until: None,
            part: None,
            drip: None,
            spares: false,
        };
        let record = sanctions.accept(&order, &[], at);
        (record.outcome, record.details)
    }

    fn errors(sanctions: &mut Sanctions, hours: i64) -> String {
        let (outcome, details) = give(sanctions, Action::Block, Actor::Rule("r".into()), Cause::Errors, hours);
        assert_eq!((outcome, sanctions.account(WHO).state), (Outcome::Done, ServiceState::Bounce));
        details
    }

    fn unblock(sanctions: &mut Sanctions, by: Actor, hours: i64) -> Outcome {
        give(sanctions, Action::Unblock, by, Cause::Person, hours).0
    }

    #[test]
    fn after_too_many_relapses_only_an_operator_lifts_the_block() {
        let mut sanctions = Sanctions::new(Settings::default());
        let customer = || Actor::Customer("web1".into());
        assert_eq!(errors(&mut sanctions, 0), "no messages to put on hold");
        assert_eq!(unblock(&mut sanctions, customer(), 1), Outcome::Done);
        assert_eq!(sanctions.take_forced(), Some(BTreeSet::from([WHO])));
        assert_eq!(sanctions.take_forced(), None);
        assert_eq!(errors(&mut sanctions, 2), "no messages to put on hold; relapse 1 of 2 on a second chance");
        assert_eq!(unblock(&mut sanctions, customer(), 3), Outcome::Done);
        let last = "no messages to put on hold; relapse 2 of 2 on a second chance: only an operator lifts this block";
        assert_eq!(errors(&mut sanctions, 4), last);
        assert_eq!(unblock(&mut sanctions, customer(), 5), Outcome::Refused);
        let row = sanctions.take_rows().into_iter().last().unwrap();
        let (_, kept) = read_account(&row.key, row.value.as_deref().unwrap()).unwrap();
        assert_eq!(kept, sanctions.account(WHO));
        assert_eq!(unblock(&mut sanctions, Actor::Token, 6), Outcome::Done);
        assert_eq!(errors(&mut sanctions, 7), "no messages to put on hold; relapse 1 of 2 on a second chance");
        assert_eq!(unblock(&mut sanctions, customer(), 8), Outcome::Done);
        let later = 8 + RELAPSE_SECS / HOUR;
        assert!(errors(&mut sanctions, later).contains("relapse 1 of 2"), "an old one is forgotten");
    }

    #[test]
    fn only_rules_for_errors_make_relapses() {
        let mut sanctions = Sanctions::new(Settings { max_relapses: 1, ..Settings::default() });
        errors(&mut sanctions, 0);
        unblock(&mut sanctions, Actor::Token, 1);
        let (_, details) = give(&mut sanctions, Action::Block, Actor::Rule("v".into()), Cause::Volume, 2);
        assert_eq!(details, "no messages to put on hold");
        assert_eq!(sanctions.account(WHO).block.unwrap().liftable_by, LiftableBy::Owner);
        unblock(&mut sanctions, Actor::Token, 3);
        assert_eq!(errors(&mut sanctions, 4), "no messages to put on hold", "it was ok before");
    }
}
