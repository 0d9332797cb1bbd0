//! What our own access rules at the server did, counted until somebody asks: they answer no question of ours, so the log
//! is where it is known from.
//!
//! Counters, one for each way in, and of accounts those of which something was not held; of what was thrown away also whom
//! it was for. Bounded by the accounts, and by [`MOST_LOST`] where nobody asks.

use crate::mail::{Origin, Owner, QueueId, Time};
use std::collections::BTreeMap;

/// Recipients of what was thrown away that are kept until somebody asks. Those beyond it are only counted.
pub const MOST_LOST: usize = 100_000;

/// Since it was asked last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ruled {
    pub held: [u64; Origin::ALL.len()],
    pub refused: [u64; Origin::ALL.len()],
    pub discarded: [u64; Origin::ALL.len()],
    /// Of each account of which no more was held.
    pub not_held: BTreeMap<Owner, NotHeld>,
    /// In the order of the log.
    pub lost: Vec<(Owner, Time, Lost)>,
    kept: usize,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NotHeld {
    pub refused: u64,
    /// Thrown away, and the recipients of that.
    pub discarded: u64,
    pub recipients: u64,
}

/// A message that was thrown away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    pub id: QueueId,
    pub sender: Box<[u8]>,
    /// Its recipients: how many there were, and those that are known.
    pub count: u64,
    pub recipients: Vec<Box<[u8]>>,
}

impl Ruled {
    pub fn hold(&mut self, origin: Origin) {
        add(&mut self.held, origin);
    }

    pub fn refuse(&mut self, origin: Origin) {
        add(&mut self.refused, origin);
    }

    pub fn refuse_more(&mut self, owner: Owner, origin: Origin) {
        add(&mut self.refused, origin);
        self.not_held.entry(owner).or_default().refused += 1;
    }

    pub fn discard(&mut self, owner: Owner, origin: Origin, at: Time, mut lost: Lost) {
        add(&mut self.discarded, origin);
        let not_held = self.not_held.entry(owner).or_default();
        not_held.discarded += 1;
        not_held.recipients += lost.count;
        lost.recipients.truncate(MOST_LOST.saturating_sub(self.kept));
        if !lost.recipients.is_empty() {
            self.kept += lost.recipients.len();
            self.lost.push((owner, at, lost));
        }
    }
}

fn add(cells: &mut [u64; Origin::ALL.len()], origin: Origin) {
    if let Some(cell) = cells.get_mut(usize::from(origin.code())) {
        *cell += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_who_asks_late_makes_it_grow_without_end() {
        let mut ruled = Ruled::default();
        let id = QueueId::new(b"A1").unwrap();
        for _ in 0..MOST_LOST / 300 + 10 {
            let lost = Lost { id, sender: Box::default(), count: 300, recipients: vec![b"a@b.test"[..].into(); 300] };
            ruled.discard(Owner(16), Origin::Script, Time::ZERO, lost);
        }
        let kept: usize = ruled.lost.iter().map(|(.., lost)| lost.recipients.len()).sum();
        assert_eq!(kept, MOST_LOST);
        let NotHeld { discarded, recipients, refused } = ruled.not_held[&Owner(16)];
        assert_eq!((discarded, recipients, refused), (343, 343 * 300, 0));
    }
}
