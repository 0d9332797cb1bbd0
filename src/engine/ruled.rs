//! What our own access rules at the server did, counted until somebody asks: they answer no question of ours, so the log
//! is where it is known from.
//!
//! Counters only, one for each way in, and of accounts those of which something was not held: bounded by the accounts.

use crate::mail::{Origin, Owner};
use std::collections::BTreeMap;

/// Since it was asked last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ruled {
    pub held: [u64; Origin::ALL.len()],
    pub refused: [u64; Origin::ALL.len()],
    pub discarded: [u64; Origin::ALL.len()],
    /// Of each account of which no more was held: refused, and thrown away.
    pub not_held: BTreeMap<Owner, (u64, u64)>,
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
        self.not_held.entry(owner).or_default().0 += 1;
    }

    pub fn discard(&mut self, owner: Owner, origin: Origin) {
        add(&mut self.discarded, origin);
        self.not_held.entry(owner).or_default().1 += 1;
    }
}

fn add(cells: &mut [u64; Origin::ALL.len()], origin: Origin) {
    if let Some(cell) = cells.get_mut(usize::from(origin.code())) {
        *cell += 1;
    }
}
