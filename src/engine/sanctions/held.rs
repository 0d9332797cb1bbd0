//! The messages that the agent itself holds. Nothing else is ever released or deleted.

use crate::mail::{Owner, Place, Time};
use std::collections::BTreeMap;

/// How far it is with one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// About to be put on hold: it was not when the order was taken.
    Intended,
    Held,
    /// To be deleted, never released.
    Doomed,
    /// To be released, whatever stands.
    Leaving,
}

impl Stage {
    pub const ALL: [Stage; 4] = [Stage::Intended, Stage::Held, Stage::Doomed, Stage::Leaving];
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    pub stage: Stage,
    /// When it came under hold.
    pub at: Time,
    /// How often the server said nothing of it when it was to be released or deleted.
    pub missed: u8,
}

/// All of them, by account. Bounded by `most`.
#[derive(Debug)]
pub struct Held {
    by_owner: BTreeMap<Owner, BTreeMap<Place, Entry>>,
    total: usize,
    changed: Vec<(Owner, Place)>,
    most: usize,
}

impl Held {
    pub fn new(most: usize) -> Held {
        Held { by_owner: BTreeMap::new(), total: 0, changed: Vec::new(), most }
    }

    /// False when there is no room for another.
    pub fn set(&mut self, owner: Owner, place: Place, entry: Entry) -> bool {
        let new = self.get(owner, &place).is_none();
        if new && self.total >= self.most {
            return false;
        }
        self.changed.push((owner, place.clone()));
        self.restore(owner, place, entry);
        true
    }

    /// As `set`, but it is in the store already.
    pub fn restore(&mut self, owner: Owner, place: Place, entry: Entry) {
        let before = self.by_owner.entry(owner).or_default().insert(place, entry);
        self.total += usize::from(before.is_none());
    }

    pub fn remove(&mut self, owner: Owner, place: &Place) {
        let Some(its) = self.by_owner.get_mut(&owner) else { return };
        if its.remove(place).is_some() {
            self.total -= 1;
            self.changed.push((owner, place.clone()));
        }
        if its.is_empty() {
            self.by_owner.remove(&owner);
        }
    }

    pub fn get(&self, owner: Owner, place: &Place) -> Option<Entry> {
        self.by_owner.get(&owner)?.get(place).copied()
    }

    pub fn of(&self, owner: Owner) -> impl Iterator<Item = (&Place, Entry)> {
        self.by_owner.get(&owner).into_iter().flatten().map(|(place, entry)| (place, *entry))
    }

    /// The places of an account in a stage.
    pub fn places(&self, owner: Owner, stage: Stage) -> Vec<Place> {
        self.of(owner).filter(|(_, entry)| entry.stage == stage).map(|(place, _)| place.clone()).collect()
    }

    pub fn any(&self, owner: Owner, stage: Stage) -> bool {
        self.of(owner).any(|(_, entry)| entry.stage == stage)
    }

    /// Everything of an account that is in one stage goes to another.
    pub fn advance(&mut self, owner: Owner, from: Stage, to: Stage) {
        let all = self.places(owner, from);
        self.advance_these(owner, all, from, to);
    }

    /// Those of these that are in one stage go to another; how many that was.
    pub fn advance_these(
        &mut self,
        owner: Owner,
        these: impl IntoIterator<Item = Place>,
        from: Stage,
        to: Stage,
    ) -> u64 {
        let mut advanced = 0;
        for place in these {
            if let Some(entry) = self.get(owner, &place).filter(|entry| entry.stage == from) {
                self.set(owner, place, Entry { stage: to, missed: 0, ..entry });
                advanced += 1;
            }
        }
        advanced
    }

    /// The oldest messages of an account that wait on hold, at most `n`.
    pub fn oldest(&self, owner: Owner, n: usize) -> Vec<Place> {
        let mut waiting: Vec<(Time, &Place)> =
            self.of(owner).filter(|(_, e)| e.stage == Stage::Held).map(|(place, entry)| (entry.at, place)).collect();
        waiting.sort_unstable();
        waiting.into_iter().take(n).map(|(_, place)| place.clone()).collect()
    }

    /// The clock was set: ages stay as they were.
    pub fn shift(&mut self, secs: i64) {
        for owner in self.owners() {
            let all: Vec<(Place, Entry)> = self.of(owner).map(|(place, entry)| (place.clone(), entry)).collect();
            for (place, entry) in all {
                self.set(owner, place, Entry { at: entry.at.plus_secs(secs), ..entry });
            }
        }
    }

    /// Messages of an account that are on hold, those about to be deleted included.
    pub fn count(&self, owner: Owner) -> u64 {
        self.of(owner).filter(|(_, entry)| entry.stage != Stage::Intended).count() as u64
    }

    /// The accounts that have any.
    pub fn owners(&self) -> Vec<Owner> {
        self.by_owner.keys().copied().collect()
    }

    /// What changed since the last call, each once: `None` is gone.
    pub fn take_changed(&mut self) -> Vec<(Owner, Place, Option<Entry>)> {
        let mut changed = std::mem::take(&mut self.changed);
        changed.sort_unstable();
        changed.dedup();
        let now = |(owner, place): (Owner, Place)| {
            let entry = self.get(owner, &place);
            (owner, place, entry)
        };
        changed.into_iter().map(now).collect()
    }
}
