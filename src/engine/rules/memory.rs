//! What it takes to remember whom accounts have written to, all of them together: bounded, and those that were not asked for
//! longest go first. An account that is forgotten so is one that was not heard of: nobody is new to it for some days.

use super::usage::Usage;
use super::{PROVEN, Rules, Subject};
use crate::mail::Owner;

/// Most bytes. A hundred thousand accounts that write to a few dozen people each take less than a third of it.
const MOST_BYTES: usize = 64 << 20;

impl Rules {
    /// After each count.
    #[inline]
    pub(super) fn bound_memory(&mut self) {
        if self.memory > MOST_BYTES {
            self.drop_coldest(MOST_BYTES / 8 * 7);
        }
    }

    fn drop_coldest(&mut self, most: usize) {
        self.weigh_memory();
        let asked = |usage: &Usage| usage.memory().map(|(bytes, asked)| (asked, bytes));
        let proven = (0..).zip(&self.proven).filter_map(|(owner, usage)| {
            let (asked, bytes) = asked(usage.as_deref()?)?;
            Some((asked, Subject { owner: Owner(owner), part: PROVEN }, bytes))
        });
        let others = self.others.iter().filter_map(|(subject, usage)| {
            let (asked, bytes) = asked(usage)?;
            Some((asked, *subject, bytes))
        });
        let mut all: Vec<(u32, Subject, usize)> = proven.chain(others).collect();
        all.sort_unstable();
        for (_, subject, bytes) in all {
            if self.memory <= most {
                break;
            }
            self.memory = self.memory.saturating_sub(bytes);
            let usage = match subject.part {
                PROVEN => self.proven.get_mut(subject.owner.0 as usize).and_then(Option::as_deref_mut),
                _ => self.others.get_mut(&subject).map(|usage| &mut **usage),
            };
            if let Some(usage) = usage {
                usage.drop_memory();
            }
        }
    }

    /// What there is, anew: subjects have come or gone.
    pub(super) fn weigh_memory(&mut self) {
        let all = self.proven.iter().flatten().chain(self.others.values());
        self.memory = all.filter_map(|usage| usage.memory()).map(|(bytes, _)| bytes).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Mail, Rule, What};
    use super::*;
    use crate::engine::accounts::Accounts;
    use crate::engine::attribution::Attribution;
    use crate::engine::directory::Directory;
    use crate::mail::{Basis, Origin, Signal, Time};

    const DAY: i64 = 86_400;

    struct House(Rules, Attribution);

    impl House {
        fn new() -> House {
            let rules = vec![Rule::new("new", Signal::NewRecipients, 3_600, 0)];
            House(Rules::new(rules, false, 1), Attribution::new(Accounts::new(1, 9), Directory::default(), 1))
        }

        /// Whether somebody is new to an account.
        fn is_new(&mut self, owner: u32, hash: u64, at: i64) -> bool {
            let at = Time::from_secs(at);
            let (origin, basis) = (Origin::Script, Basis::Uid);
            let mail = Mail { owner: Owner(owner), origin, basis, login: b"", at, now: at };
            self.0.count(&mail, What::Recipient(hash), &self.1);
            !self.0.take_verdicts().is_empty()
        }
    }

    #[test]
    fn those_that_were_not_asked_for_longest_go_and_nobody_is_new_to_them() {
        let mut house = House::new();
        for owner in 16..116 {
            for n in 0..500 {
                house.is_new(owner, n, i64::from(owner) * 60);
            }
        }
        let all = house.0.memory;
        house.0.weigh_memory();
        assert_eq!(house.0.memory, all, "it is counted as it grows");
        // The first one is asked again: the second is the coldest now.
        house.is_new(16, 1, 117 * 60);
        house.0.drop_coldest(all / 2);
        assert!(house.0.memory <= all / 2 && house.0.memory > all / 2 - all / 50, "{} of {all}", house.0.memory);
        let later = 9 * DAY + 117 * 60;
        for (owner, gone) in [(16, false), (17, true), (60, true), (80, false), (115, false)] {
            assert_eq!(house.is_new(owner, 7_777, later), !gone, "{owner}");
            assert!(!house.is_new(owner, 1, later) || gone, "{owner}");
        }
        // Such an account learns anew.
        assert!(!house.is_new(17, 8_888, later + 7 * DAY) && house.is_new(17, 9_999, later + 8 * DAY));
    }

    #[test]
    fn it_is_bounded() {
        let mut house = House::new();
        let mut most = 0;
        for owner in 16..8_016 {
            for n in 0..1_400 {
                house.is_new(owner, n, i64::from(owner));
            }
            most = most.max(house.0.memory);
            assert!(house.0.memory <= MOST_BYTES);
        }
        house.0.weigh_memory();
        assert!(most > MOST_BYTES / 10 * 9 && house.0.memory < MOST_BYTES, "{most}");
    }

    #[test]
    fn forgotten_accounts_and_rules_take_nothing() {
        let mut house = House::new();
        (0..500).for_each(|n| _ = house.is_new(16, n, 100));
        assert!(house.0.memory > 1_000);
        house.0.forget(Owner(16));
        assert_eq!(house.0.memory, 0);
        (0..500).for_each(|n| _ = house.is_new(17, n, 100));
        house.0.set(Vec::new());
        assert_eq!(house.0.memory, 0);
    }
}
