//! Where legs are kept: a slab with three indexes (queue id, lingering queue id, Message-ID) and a list of
//! deadlines. Bounded by the tracker, which evicts; the table itself never drops a leg.

use super::leg::Leg;
use crate::mail::{QueueId, Time};
use hashbrown::HashTable;
use std::collections::BTreeSet;
use std::hash::{BuildHasher, Hash, Hasher};

/// A place in the slab.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slot(pub u32);

/// What names a leg while it lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    pub host: u16,
    pub instance: u16,
    pub id: QueueId,
}

#[derive(Debug)]
pub struct Table {
    /// Boxed: legs are large, and move between places often.
    legs: Vec<Option<Box<Leg>>>,
    free: Vec<Slot>,
    live: HashTable<Slot>,
    linger: HashTable<Slot>,
    messages: HashTable<Slot>,
    deadlines: BTreeSet<(Time, u64, Slot)>,
    hasher: foldhash::quality::FixedState,
    next_serial: u64,
    dirty: Vec<Slot>,
    /// Legs to be stored: those of `dirty` that are not gone.
    changed: usize,
    gone: Vec<u64>,
    keep_rows: bool,
    /// Emptied: the next leg goes where the last one was, which the processor still has at hand.
    #[allow(clippy::vec_box, reason = "the boxes are what is kept")]
    spare: Vec<Box<Leg>>,
}

/// Emptied legs that are kept.
const SPARE: usize = 256;

impl Table {
    pub fn new(seed: u64, keep_rows: bool) -> Table {
        Table {
            legs: Vec::new(),
            free: Vec::new(),
            live: HashTable::new(),
            linger: HashTable::new(),
            messages: HashTable::new(),
            deadlines: BTreeSet::new(),
            hasher: foldhash::quality::FixedState::with_seed(seed),
            next_serial: 1,
            dirty: Vec::new(),
            changed: 0,
            gone: Vec::new(),
            keep_rows,
            spare: Vec::new(),
        }
    }

    /// The serial of the next leg. Kept over restarts: legs that are gone may still be named by others.
    pub fn next_serial(&self) -> u64 {
        self.next_serial
    }

    pub fn reserve_serials_below(&mut self, serial: u64) {
        self.next_serial = self.next_serial.max(serial);
    }

    /// Legs kept, lingering ones included.
    pub fn len(&self) -> usize {
        self.live.len() + self.linger.len()
    }

    pub fn capacity(&self) -> usize {
        self.legs.len()
    }

    pub fn get(&self, slot: Slot) -> Option<&Leg> {
        self.legs.get(slot.0 as usize)?.as_deref()
    }

    /// The leg, to be changed: it will be written with the next rows.
    pub fn edit(&mut self, slot: Slot) -> Option<&mut Leg> {
        let leg = self.legs.get_mut(slot.0 as usize)?.as_deref_mut()?;
        if self.keep_rows && !leg.dirty {
            leg.dirty = true;
            self.changed += 1;
            self.dirty.push(slot);
        }
        Some(leg)
    }

    pub fn iter(&self) -> impl Iterator<Item = (Slot, &Leg)> {
        self.legs.iter().enumerate().filter_map(|(n, leg)| Some((Slot(n as u32), leg.as_deref()?)))
    }

    #[inline]
    pub fn find(&self, key: Key) -> Option<Slot> {
        self.live.find(self.hash(key), |&slot| self.is(slot, key)).copied()
    }

    /// The live leg of an id, to be looked at only: see `Tracker::fetch`.
    #[inline]
    pub fn look(&self, host: u16, id: QueueId) -> Option<&Leg> {
        let named = |&slot: &Slot| self.get(slot).is_some_and(|leg| leg.id == id);
        self.get(*self.live.find(self.hash(Key { host, instance: 0, id }), named)?)
    }

    /// Incarnations of an id that only wait for late lines, oldest first.
    pub fn lingering(&self, key: Key) -> Vec<Slot> {
        let found = self.linger.iter_hash(self.hash(key)).copied();
        self.by_age(found.filter(|&slot| self.is(slot, key)).collect())
    }

    /// Every leg under an id, of whatever instance: those that linger first, then the live ones; oldest first.
    pub fn named(&self, host: u16, id: QueueId) -> Vec<Slot> {
        let hash = self.hash(Key { host, instance: 0, id });
        let named = |&slot: &Slot| self.get(slot).is_some_and(|leg| (leg.host, leg.id) == (host, id));
        let mut found = self.by_age(self.linger.iter_hash(hash).copied().filter(named).collect());
        found.extend(self.by_age(self.live.iter_hash(hash).copied().filter(named).collect()));
        found
    }

    /// Live legs of an id under any instance, oldest first: for lines that do not say the instance.
    pub fn live(&self, host: u16, id: QueueId) -> Vec<Slot> {
        let hash = self.hash(Key { host, instance: 0, id });
        let named = |&slot: &Slot| self.get(slot).is_some_and(|leg| (leg.host, leg.id) == (host, id));
        self.by_age(self.live.iter_hash(hash).copied().filter(named).collect())
    }

    /// The order of a hash table must never show.
    fn by_age(&self, mut slots: Vec<Slot>) -> Vec<Slot> {
        slots.sort_unstable_by_key(|&slot| self.get(slot).map(|leg| leg.serial));
        slots
    }

    /// Other legs that carry the same Message-ID on the same host.
    pub fn same_message(&self, slot: Slot) -> impl Iterator<Item = Slot> + '_ {
        let message = self.get(slot).map_or(0, |leg| leg.message);
        let found = if message == 0 { None } else { Some(self.messages.iter_hash(message).copied()) };
        found
            .into_iter()
            .flatten()
            .filter(move |&other| other != slot && self.get(other).is_some_and(|leg| leg.message == message))
    }

    /// Takes a new incarnation in. The caller has made sure that the key is free.
    pub fn insert(&mut self, mut leg: Leg) -> Slot {
        leg.serial = self.next_serial;
        self.next_serial += 1;
        self.put(leg)
    }

    /// Takes up a stored leg with the serial it has.
    pub fn restore(&mut self, mut leg: Leg) -> Slot {
        self.next_serial = self.next_serial.max(leg.serial + 1);
        (leg.dirty, leg.stored) = (false, true);
        self.put(leg)
    }

    fn put(&mut self, leg: Leg) -> Slot {
        let (key, message, lingers) = (key_of(&leg), leg.message, leg.ended.is_some());
        let (serial, deadline) = (leg.serial, leg.deadline);
        let new = !leg.stored;
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                self.legs.push(None);
                Slot(self.legs.len() as u32 - 1)
            }
        };
        if let Some(place) = self.legs.get_mut(slot.0 as usize) {
            *place = Some(match self.spare.pop() {
                Some(mut spare) => {
                    *spare = leg;
                    spare
                }
                None => Box::new(leg),
            });
        }
        let hash = self.hash(key);
        let Table { legs, live, linger, messages, hasher, .. } = self;
        let index = if lingers { linger } else { live };
        index.insert_unique(hash, slot, |&slot| rehash(legs, hasher, slot));
        if message != 0 {
            messages.insert_unique(message, slot, |&slot| message_of(legs, slot));
        }
        if deadline != Time::ZERO {
            self.deadlines.insert((deadline, serial, slot));
        }
        if new {
            self.edit(slot);
        }
        slot
    }

    /// Takes a leg out for good.
    pub fn remove(&mut self, slot: Slot) -> Option<Box<Leg>> {
        let leg = self.legs.get_mut(slot.0 as usize)?.take()?;
        let hash = self.hash(key_of(&leg));
        let index = if leg.ended.is_some() { &mut self.linger } else { &mut self.live };
        if let Ok(entry) = index.find_entry(hash, |&other| other == slot) {
            entry.remove();
        }
        self.unlist_message(slot, leg.message);
        if leg.deadline != Time::ZERO {
            self.deadlines.remove(&(leg.deadline, leg.serial, slot));
        }
        self.changed = self.changed.saturating_sub(usize::from(leg.dirty));
        if leg.stored {
            self.gone.push(leg.serial);
        }
        self.free.push(slot);
        Some(leg)
    }

    /// Takes back what `remove` gave out.
    pub fn recycle(&mut self, mut leg: Box<Leg>) {
        if self.spare.len() < SPARE {
            leg.empty();
            self.spare.push(leg);
        }
    }

    /// Moves a leg from the live ones to those that only wait for late lines; its queue id may now come again.
    pub fn let_linger(&mut self, slot: Slot, ended: super::leg::Ended) {
        let Some(leg) = self.edit(slot) else { return };
        if leg.ended.is_some() {
            return;
        }
        leg.ended = Some(ended);
        let key = key_of(leg);
        let hash = self.hash(key);
        if let Ok(entry) = self.live.find_entry(hash, |&other| other == slot) {
            entry.remove();
        }
        let Table { legs, linger, hasher, .. } = self;
        linger.insert_unique(hash, slot, |&slot| rehash(legs, hasher, slot));
    }

    /// Gives a live leg another instance: its arrival was logged under a service's own name.
    pub fn rekey(&mut self, slot: Slot, instance: u16) {
        // The indexes hash host and id only, so its place in them stays.
        if let Some(leg) = self.edit(slot) {
            leg.instance = instance;
        }
    }

    pub fn set_message(&mut self, slot: Slot, message: u64) {
        let Some(leg) = self.edit(slot) else { return };
        let old = std::mem::replace(&mut leg.message, message);
        self.unlist_message(slot, old);
        let Table { legs, messages, .. } = self;
        if message != 0 {
            messages.insert_unique(message, slot, |&slot| message_of(legs, slot));
        }
    }

    pub fn set_deadline(&mut self, slot: Slot, deadline: Time) {
        let Some(leg) = self.edit(slot) else { return };
        let (old, serial) = (std::mem::replace(&mut leg.deadline, deadline), leg.serial);
        if old != Time::ZERO {
            self.deadlines.remove(&(old, serial, slot));
        }
        if deadline != Time::ZERO {
            self.deadlines.insert((deadline, serial, slot));
        }
    }

    /// The leg whose deadline is first and not after `now`.
    pub fn due(&self, now: Time) -> Option<Slot> {
        self.deadlines.first().filter(|(deadline, _, _)| *deadline <= now).map(|&(_, _, slot)| slot)
    }

    pub fn next_deadline(&self) -> Option<Time> {
        self.deadlines.first().map(|&(deadline, _, _)| deadline)
    }

    /// How many legs are to be stored.
    pub fn changed(&self) -> usize {
        self.changed
    }

    /// Serials of stored legs that are gone, then the legs to be stored; both since the last call.
    pub fn take_rows(&mut self) -> (Vec<u64>, Vec<(u64, Slot)>) {
        let count = std::mem::take(&mut self.changed);
        let dirty = std::mem::take(&mut self.dirty);
        let mut changed = Vec::with_capacity(count);
        for slot in dirty {
            if let Some(Some(leg)) = self.legs.get_mut(slot.0 as usize)
                && leg.dirty
            {
                (leg.dirty, leg.stored) = (false, true);
                changed.push((leg.serial, slot));
            }
        }
        (std::mem::take(&mut self.gone), changed)
    }

    fn unlist_message(&mut self, slot: Slot, message: u64) {
        if message != 0
            && let Ok(entry) = self.messages.find_entry(message, |&other| other == slot)
        {
            entry.remove();
        }
    }

    fn is(&self, slot: Slot, key: Key) -> bool {
        self.get(slot).is_some_and(|leg| key_of(leg) == key)
    }

    #[inline]
    fn hash(&self, key: Key) -> u64 {
        hash_key(&self.hasher, key)
    }

    /// Hash of an address in any case, as servers print a local part now as it was given, now in lower case; never 0.
    pub fn hash_address(&self, local: &[u8], domain: &[u8]) -> u64 {
        let mut state = self.hasher.build_hasher();
        for text in [local, domain] {
            for part in text.chunks(64) {
                let mut lower = [0u8; 64];
                if let Some(to) = lower.get_mut(..part.len()) {
                    to.copy_from_slice(part);
                }
                // All of it, also what is no part: the compiler makes a few wide steps of it.
                lower.make_ascii_lowercase();
                state.write(lower.get(..part.len()).unwrap_or(&lower));
            }
            state.write_u8(0);
        }
        state.finish().max(1)
    }

    /// Hash of a recipient or Message-ID, never 0.
    pub fn hash_text(&self, salt: u16, a: &[u8], b: &[u8]) -> u64 {
        let mut state = self.hasher.build_hasher();
        state.write_u16(salt);
        state.write(a);
        state.write_u8(0);
        state.write(b);
        state.finish().max(1)
    }
}

fn key_of(leg: &Leg) -> Key {
    Key { host: leg.host, instance: leg.instance, id: leg.id }
}

/// Host and id only: legs are also looked for under any instance.
fn hash_key(hasher: &foldhash::quality::FixedState, key: Key) -> u64 {
    let mut state = hasher.build_hasher();
    key.host.hash(&mut state);
    state.write(key.id.as_bytes());
    state.finish()
}

fn rehash(legs: &[Option<Box<Leg>>], hasher: &foldhash::quality::FixedState, slot: Slot) -> u64 {
    legs.get(slot.0 as usize).and_then(Option::as_deref).map_or(0, |leg| hash_key(hasher, key_of(leg)))
}

fn message_of(legs: &[Option<Box<Leg>>], slot: Slot) -> u64 {
    legs.get(slot.0 as usize).and_then(Option::as_deref).map_or(0, |leg| leg.message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leg(n: u32) -> Leg {
        Leg::new(0, 0, QueueId::new(format!("A{n}").as_bytes()).unwrap(), Time::ZERO)
    }

    #[test]
    fn legs_that_are_gone_are_not_waited_for() {
        let mut table = Table::new(7, true);
        for n in 0..1_000 {
            let slot = table.insert(leg(n));
            table.edit(slot).unwrap().last = Time(5);
            if n % 10 > 0 {
                let gone = table.remove(slot).unwrap();
                table.recycle(gone);
            }
        }
        assert_eq!(table.changed(), 100);
        let (gone, changed) = table.take_rows();
        assert_eq!((gone.len(), changed.len(), table.changed()), (0, 100, 0));
    }

    #[test]
    fn a_new_leg_knows_nothing_of_the_one_before() {
        let mut table = Table::new(7, false);
        let slot = table.insert(Leg { details: Some(Box::default()), size: 9, ..leg(1) });
        let old = table.remove(slot).unwrap();
        table.recycle(old);
        let slot = table.insert(leg(2));
        assert_eq!(table.get(slot), Some(&Leg { serial: 2, ..leg(2) }));
        assert!(table.look(0, leg(2).id).is_some() && table.look(0, leg(1).id).is_none());
    }
}
