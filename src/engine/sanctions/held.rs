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
}

impl Stage {
    pub const ALL: [Stage; 3] = [Stage::Intended, Stage::Held, Stage::Doomed];
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
        for place in self.places(owner, from) {
            if let Some(entry) = self.get(owner, &place) {
                self.set(owner, place, Entry { stage: to, missed: 0, ..entry });
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
