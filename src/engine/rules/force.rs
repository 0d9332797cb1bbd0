//! The second chance: while an account is on it, its limits for errors are doubled.

use super::{CLAIMED, PROVEN, Rule, Rules, Subject};
use crate::mail::{Owner, Signal};
use std::collections::BTreeSet;

/// A second chance is about these.
pub const fn is_for(signal: Signal) -> bool {
    matches!(signal, Signal::Errors | Signal::ErrorRatio | Signal::UnknownRecipients)
}

/// The limit of a rule for an account. Of a share at most half of what is left up to all is added: one that fails
/// altogether is not let go on.
pub fn limit(rule: &Rule, forced: &BTreeSet<Owner>, owner: Owner) -> u64 {
    if !is_for(rule.signal) || !forced.contains(&owner) {
        return rule.limit;
    }
    let doubled = rule.limit.saturating_mul(2);
    match rule.signal {
        Signal::ErrorRatio => doubled.min(rule.limit + 1_000_u64.saturating_sub(rule.limit) / 2),
        _ => doubled,
    }
}

impl Rules {
    /// These are on a second chance, and no others. A rule that has spoken of one of them speaks again.
    pub fn force(&mut self, forced: BTreeSet<Owner>) {
        let new: Vec<Owner> = forced.difference(&self.forced).copied().collect();
        self.forced = forced;
        for owner in new {
            let logins = self.others.keys().filter(|subject| subject.owner == owner && subject.is_login()).copied();
            let mut subjects: Vec<Subject> = [PROVEN, CLAIMED].map(|part| Subject { owner, part }).to_vec();
            subjects.extend(logins);
            subjects.sort_unstable();
            for subject in subjects {
                self.pardon(subject);
                self.records.pardon(subject);
            }
        }
    }

    /// As it was when the agent before this one ended.
    pub fn restore_forced(&mut self, forced: BTreeSet<Owner>) {
        self.forced = forced;
    }

    /// What rules for errors have said of it is forgotten.
    pub(super) fn pardon(&mut self, subject: Subject) {
        let usage = match subject.part {
            PROVEN => self.proven.get_mut(subject.owner.0 as usize).and_then(Option::as_deref_mut),
            _ => self.others.get_mut(&subject).map(|usage| &mut **usage),
        };
        let its = self.rules.iter().zip(&self.identities).filter(|(rule, _)| is_for(rule.signal));
        let its: Vec<u64> = its.map(|(_, identity)| *identity).collect();
        if let Some(usage) = usage {
            usage.pardon(&its);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::accounts::Accounts;
    use crate::engine::directory::Directory;
    use crate::engine::rules::{Mail, Row, What};
    use crate::mail::{Basis, Origin, ReplyClass, Time};
    use std::collections::BTreeMap;

    const WHO: Owner = Owner(100);

    fn attribution() -> crate::engine::attribution::Attribution {
        crate::engine::attribution::Attribution::new(Accounts::new(1, 1_000), Directory::default(), 1)
    }

    fn fail(rules: &mut Rules, n: u32) -> Vec<u64> {
        let at = Time::from_secs(1_790_000_000);
        let mail = Mail { owner: WHO, origin: Origin::Script, basis: Basis::Uid, login: b"", at, now: at };
        let what = What::Failed(Some(ReplyClass::UnknownRecipient), 1);
        (0..n).for_each(|_| rules.count(&mail, what, &attribution()));
        rules.take_verdicts().iter().map(|verdict| verdict.limit).collect()
    }

    #[test]
    fn limits_for_errors_are_doubled_and_the_rule_speaks_again_also_after_a_restart() {
        let rule = Rule::new("errors", Signal::Errors, 3_600, 10);
        let mut rules = Rules::new(vec![rule.clone()], true, 1);
        let forced = BTreeSet::from([WHO]);
        assert_eq!(fail(&mut rules, 15), [10]);
        rules.force(forced.clone());
        assert!(fail(&mut rules, 4).is_empty());
        let mut rows: BTreeMap<Vec<u8>, Row> = BTreeMap::new();
        rules.take_rows(|row| match row {
            Row::Record(ref key, Some(_)) => drop(rows.insert(key.clone(), row)),
            other => panic!("{other:?}"),
        });
        let mut again = Rules::new(vec![rule], true, 1);
        assert!(rows.into_values().all(|row| again.restore_row(row)));
        again.restore_forced(forced);
        assert!(again.restored(&attribution()));
        for mut rules in [rules, again] {
            assert!(fail(&mut rules, 1).is_empty());
            assert_eq!(fail(&mut rules, 5), [20]);
            rules.force(BTreeSet::new());
            assert!(fail(&mut rules, 5).is_empty(), "it has spoken in this window");
        }
    }

    #[test]
    fn only_limits_for_errors_are_doubled_and_a_share_is_never_all() {
        let forced = BTreeSet::from([WHO]);
        for (signal, before, after) in [
            (Signal::Errors, 40, 80),
            (Signal::UnknownRecipients, 100, 200),
            (Signal::ErrorRatio, 300, 600),
            (Signal::ErrorRatio, 600, 800),
            (Signal::SpamVerdicts, 30, 30),
            (Signal::Recipients, 30, 30),
        ] {
            let rule = Rule::new("r", signal, 3_600, before);
            assert_eq!(limit(&rule, &forced, WHO), after, "{signal:?}");
            assert_eq!(limit(&rule, &forced, Owner(101)), before);
        }
    }
}
