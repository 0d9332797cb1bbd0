//! The messages that the agent itself holds. Nothing else is ever released or deleted.
//!
//! How many an account has, since when and how much they take is kept up to date with each change: it is asked for each
//! second, and there may be a million.

use crate::mail::{Owner, Place, Time};
use std::collections::{BTreeMap, VecDeque};

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
    /// How many it is for, where the gate has said so; the log says it when it is released.
    pub recipients: u32,
}

impl Entry {
    pub const fn new(stage: Stage, at: Time) -> Entry {
        Entry { stage, at, missed: 0, recipients: 0 }
    }
}

/// What an account has on hold, those about to leave or to be deleted included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sum {
    pub messages: u64,
    /// Of those whose size is known.
    pub bytes: u64,
    /// Since when the oldest is on hold.
    pub oldest: Option<Time>,
}

/// Those of an account.
#[derive(Debug, Default)]
struct Its {
    entries: BTreeMap<Place, (Entry, u64)>,
    messages: u64,
    bytes: u64,
    /// How many came on hold when.
    ages: BTreeMap<Time, u32>,
}

impl Its {
    fn count(&mut self, entry: Entry, size: u64) {
        if entry.stage != Stage::Intended {
            self.messages += 1;
            self.bytes += size;
            *self.ages.entry(entry.at).or_default() += 1;
        }
    }

    fn discount(&mut self, entry: Entry, size: u64) {
        if entry.stage != Stage::Intended {
            self.messages -= 1;
            self.bytes -= size;
            if let Some(n) = self.ages.get_mut(&entry.at) {
                *n -= 1;
                if *n == 0 {
                    self.ages.remove(&entry.at);
                }
            }
        }
    }
}

/// All of them, by account. Bounded by `most`.
#[derive(Debug)]
pub struct Held {
    by_owner: BTreeMap<Owner, Its>,
    total: usize,
    changed: Vec<(Owner, Place)>,
    most: usize,
    /// Those whose size nobody has asked for.
    to_size: VecDeque<(Owner, Place)>,
}

impl Held {
    pub fn new(most: usize) -> Held {
        Held { by_owner: BTreeMap::new(), total: 0, changed: Vec::new(), most, to_size: VecDeque::new() }
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
        let its = self.by_owner.entry(owner).or_default();
        let before = its.entries.get(&place).copied();
        let size = before.map_or(0, |(_, size)| size);
        match before {
            Some((before, size)) => its.discount(before, size),
            None => {
                self.total += 1;
                self.to_size.push_back((owner, place.clone()));
            }
        }
        its.count(entry, size);
        its.entries.insert(place, (entry, size));
    }

    pub fn remove(&mut self, owner: Owner, place: &Place) {
        let Some(its) = self.by_owner.get_mut(&owner) else { return };
        if let Some((entry, size)) = its.entries.remove(place) {
            its.discount(entry, size);
            self.total -= 1;
            self.changed.push((owner, place.clone()));
        }
        if its.entries.is_empty() {
            self.by_owner.remove(&owner);
        }
    }

    pub fn get(&self, owner: Owner, place: &Place) -> Option<Entry> {
        self.by_owner.get(&owner)?.entries.get(place).map(|(entry, _)| *entry)
    }

    /// Whose a message is, and how far it is with it.
    pub fn find(&self, place: &Place) -> Option<(Owner, Entry)> {
        let its = |(owner, its): (&Owner, &Its)| its.entries.get(place).map(|(entry, _)| (*owner, *entry));
        self.by_owner.iter().find_map(its)
    }

    pub fn of(&self, owner: Owner) -> impl Iterator<Item = (&Place, Entry)> {
        self.by_owner.get(&owner).into_iter().flat_map(|its| &its.entries).map(|(place, (entry, _))| (place, *entry))
    }

    /// The next of those whose size was not asked for, at most `n`.
    pub fn take_unsized(&mut self, n: usize) -> Vec<(Owner, Place)> {
        let n = n.min(self.to_size.len());
        let next: Vec<(Owner, Place)> = self.to_size.drain(..n).collect();
        next.into_iter().filter(|(owner, place)| self.get(*owner, place).is_some()).collect()
    }

    /// How much of the queue it takes. It is not kept: after a start it is asked for again.
    pub fn set_size(&mut self, owner: Owner, place: &Place, size: u64) {
        let Some(its) = self.by_owner.get_mut(&owner) else { return };
        let Some((entry, before)) = its.entries.get_mut(place) else { return };
        let (entry, before) = (*entry, std::mem::replace(before, size));
        its.discount(entry, before);
        its.count(entry, size);
    }

    /// It was not there to be looked at: it is asked for again.
    pub fn set_unsized(&mut self, owner: Owner, place: Place) {
        self.to_size.push_back((owner, place));
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

    /// What an account has on hold.
    pub fn sum(&self, owner: Owner) -> Sum {
        let sum = |its: &Its| Sum {
            messages: its.messages,
            bytes: its.bytes,
            oldest: its.ages.first_key_value().map(|(at, _)| *at),
        };
        self.by_owner.get(&owner).map(sum).unwrap_or_default()
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
