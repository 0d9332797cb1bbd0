//! The ledger: COUNTS of every owner, moved by facts alone. It never looks at events or legs,
//! so that the books can be checked against the tracker's own open recipients.

use crate::mail::{Counts, Fact, Origin, Outcome, Owner, Time};

/// The figures of one owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Account {
    pub counts: Counts,
    /// `messages` by origin, in the order of `Origin::ALL`.
    pub by_origin: [u64; Origin::ALL.len()],
    /// Log time of the newest fact.
    pub last: Time,
}

/// What changed for one owner within one quarter of an hour of log time, since the last `take_changes`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    pub owner: Owner,
    /// Quarters of an hour since the epoch (UTC): every zone's midnight is a multiple of it.
    pub quarter: i64,
    /// Growth only; `queued` and `held` are not part of history and stay 0.
    pub delta: Counts,
}

/// All owners' figures, indexed by `Owner`.
#[derive(Debug, Default)]
pub struct Ledger {
    accounts: Vec<Account>,
    changes: Vec<Change>,
    /// Index + 1 into `changes` of the owner's latest entry; 0 when there is none.
    slots: Vec<u32>,
    keep_changes: bool,
}

impl Ledger {
    /// With `keep_changes`, remembers what changed for the store; `replay` does without.
    pub fn new(keep_changes: bool) -> Ledger {
        Ledger { keep_changes, ..Ledger::default() }
    }

    /// Looks at the figures of an owner; what it returns means nothing.
    #[inline]
    pub fn look(&self, owner: Owner) -> u64 {
        let slot = self.slots.get(owner.0 as usize).copied().map_or(0, u64::from);
        self.accounts.get(owner.0 as usize).map_or(slot, |account| slot ^ account.counts.sent ^ account.last.0 as u64)
    }

    pub fn get(&self, owner: Owner) -> Account {
        self.accounts.get(owner.0 as usize).copied().unwrap_or_default()
    }

    /// Sets absolute figures, from the store.
    pub fn restore(&mut self, owner: Owner, account: Account) {
        *self.account(owner) = account;
    }

    /// Owners that have figures, in the order of their index.
    pub fn owners(&self) -> impl Iterator<Item = (Owner, &Account)> {
        self.accounts
            .iter()
            .enumerate()
            .filter(|(_, account)| !account.counts.is_zero())
            .map(|(index, account)| (Owner(index as u32), account))
    }

    /// The sum of all owners.
    pub fn total(&self) -> Counts {
        let mut total = Counts::default();
        for account in &self.accounts {
            total.add(&account.counts);
        }
        total
    }

    pub fn has_changes(&self) -> bool {
        !self.changes.is_empty()
    }

    /// Hands out the changes since the last call into `into` (cleared first).
    pub fn take_changes(&mut self, into: &mut Vec<Change>) {
        into.clear();
        for change in &self.changes {
            if let Some(slot) = self.slots.get_mut(change.owner.0 as usize) {
                *slot = 0;
            }
        }
        std::mem::swap(into, &mut self.changes);
    }

    /// Takes an owner's figures out of the books (`account forget`).
    pub fn forget(&mut self, owner: Owner) {
        *self.account(owner) = Account::default();
        self.changes.retain(|change| change.owner != owner);
        self.slots.fill(0);
        for (index, change) in self.changes.iter().enumerate() {
            if let Some(slot) = self.slots.get_mut(change.owner.0 as usize) {
                *slot = index as u32 + 1;
            }
        }
    }

    #[inline]
    pub fn apply(&mut self, fact: &Fact<'_>) {
        match *fact {
            Fact::Message { at, owner, origin, .. } => {
                let account = self.touch(owner, at);
                account.counts.messages += 1;
                if let Some(n) = account.by_origin.get_mut(origin.code() as usize) {
                    *n += 1;
                }
                self.changed(owner, at, |delta| delta.messages += 1);
            }
            Fact::Recipients { at, owner, n } => {
                let n = u64::from(n);
                let account = self.touch(owner, at);
                account.counts.recipients += n;
                account.counts.queued += n;
                self.changed(owner, at, |delta| delta.recipients += n);
            }
            Fact::Settled { at, owner, outcome, n, .. } => {
                let n = u64::from(n);
                let account = self.touch(owner, at);
                account.counts.queued = account.counts.queued.saturating_sub(n);
                *outcome_of(&mut account.counts, outcome) += n;
                self.changed(owner, at, |delta| *outcome_of(delta, outcome) += n);
            }
            Fact::Hold { at, owner, n } => {
                let held = &mut self.touch(owner, at).counts.held;
                *held = held.saturating_add_signed(i64::from(n));
                self.changed(owner, at, |_| {});
            }
            Fact::Deferral { at, owner, .. } => {
                self.touch(owner, at).counts.deferred += 1;
                self.changed(owner, at, |delta| delta.deferred += 1);
            }
            Fact::Error(ref error) if error.late => {
                self.touch(error.owner, error.at).counts.late_errors += 1;
                self.changed(error.owner, error.at, |delta| delta.late_errors += 1);
            }
            Fact::Error(_) | Fact::Attempt { .. } | Fact::Leg(_) | Fact::LoginFailed { .. } => {}
        }
    }

    #[inline]
    fn touch(&mut self, owner: Owner, at: Time) -> &mut Account {
        let account = self.account(owner);
        account.last = account.last.max(at);
        account
    }

    #[inline]
    #[allow(clippy::indexing_slicing, reason = "the line before makes the index valid")]
    fn account(&mut self, owner: Owner) -> &mut Account {
        let index = owner.0 as usize;
        if index >= self.accounts.len() {
            self.accounts.resize(index + 1, Account::default());
        }
        &mut self.accounts[index]
    }

    #[inline]
    fn changed(&mut self, owner: Owner, at: Time, grow: impl FnOnce(&mut Counts)) {
        if !self.keep_changes {
            return;
        }
        let quarter = at.secs().div_euclid(900);
        let index = owner.0 as usize;
        if index >= self.slots.len() {
            self.slots.resize(index + 1, 0);
        }
        let Some(slot) = self.slots.get_mut(index) else { return };
        if let Some(change) = self.changes.get_mut((*slot as usize).wrapping_sub(1))
            && change.quarter == quarter
        {
            grow(&mut change.delta);
            return;
        }
        let mut delta = Counts::default();
        grow(&mut delta);
        self.changes.push(Change { owner, quarter, delta });
        *slot = self.changes.len() as u32;
    }
}

fn outcome_of(counts: &mut Counts, outcome: Outcome) -> &mut u64 {
    match outcome {
        Outcome::Sent => &mut counts.sent,
        Outcome::Bounced => &mut counts.bounced,
        Outcome::Expired => &mut counts.expired,
        Outcome::Deleted => &mut counts.deleted,
        Outcome::Unaccounted => &mut counts.unaccounted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::{Basis, Server};

    const OWNER: Owner = Owner(16);

    #[test]
    fn facts_move_the_books_and_changes_are_handed_out_once() {
        let (at, server) = (Time::from_secs(1_000), Server::default());
        let mut ledger = Ledger::new(true);
        let id = &crate::mail::QueueId::new(b"ABCDEF").unwrap();
        ledger.apply(&Fact::Message {
            at,
            server,
            id,
            owner: OWNER,
            origin: Origin::Script,
            basis: Basis::Uid,
            login: b"",
        });
        ledger.apply(&Fact::Recipients { at, owner: OWNER, n: 3 });
        ledger.apply(&Fact::Settled { at, server, owner: OWNER, outcome: Outcome::Sent, n: 2 });
        ledger.apply(&Fact::Hold { at, owner: OWNER, n: 1 });
        let counts = ledger.get(OWNER).counts;
        assert!(counts.balance(), "{counts:?}");
        assert_eq!((counts.messages, counts.recipients, counts.sent, counts.queued, counts.held), (1, 3, 2, 1, 1));
        let later = at.plus_secs(900);
        ledger.apply(&Fact::Settled { at: later, server, owner: OWNER, outcome: Outcome::Bounced, n: 1 });
        let mut changes = Vec::new();
        ledger.take_changes(&mut changes);
        assert_eq!(changes.len(), 2, "one change per quarter: {changes:?}");
        assert_eq!(changes.iter().map(|c| c.delta.recipients).sum::<u64>(), 3);
        ledger.take_changes(&mut changes);
        assert!(changes.is_empty());
    }
}
