//! A sorted map that knows which of its entries the store has: what came and went between two commits costs no row.
//!
//! It never evicts by itself; whoever fills it keeps it bounded.

use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug)]
pub(super) struct Shelf<K, V> {
    entries: BTreeMap<K, Entry<V>>,
    changed: BTreeSet<K>,
    keep_rows: bool,
}

#[derive(Debug)]
struct Entry<V> {
    value: V,
    /// The store has a row of it, perhaps an older one.
    stored: bool,
}

impl<K: Ord + Copy, V> Shelf<K, V> {
    pub fn new(keep_rows: bool) -> Shelf<K, V> {
        Shelf { entries: BTreeMap::new(), changed: BTreeSet::new(), keep_rows }
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn get(&self, key: K) -> Option<&V> {
        self.entries.get(&key).map(|entry| &entry.value)
    }

    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (K, &V)> {
        self.entries.iter().map(|(key, entry)| (*key, &entry.value))
    }

    pub fn put(&mut self, key: K, value: V) {
        let stored = self.entries.get(&key).is_some_and(|entry| entry.stored);
        self.entries.insert(key, Entry { value, stored });
        self.note(key);
    }

    /// The value, to be changed: it will be written with the next rows.
    pub fn edit(&mut self, key: K) -> Option<&mut V> {
        if self.keep_rows && self.entries.contains_key(&key) {
            self.changed.insert(key);
        }
        self.entries.get_mut(&key).map(|entry| &mut entry.value)
    }

    pub fn take(&mut self, key: K) -> Option<V> {
        let entry = self.entries.remove(&key)?;
        if entry.stored {
            self.note(key);
        } else {
            self.changed.remove(&key);
        }
        Some(entry.value)
    }

    /// Drops what is not wanted any longer.
    pub fn retain(&mut self, wanted: impl Fn(K, &V) -> bool) {
        let gone: Vec<K> = self.iter().filter(|(key, value)| !wanted(*key, value)).map(|(key, _)| key).collect();
        for key in gone {
            self.take(key);
        }
    }

    /// Entries that changed since the last call; without a value they are gone.
    pub fn take_rows(&mut self, mut each: impl FnMut(K, Option<&V>)) {
        for key in std::mem::take(&mut self.changed) {
            match self.entries.get_mut(&key) {
                Some(entry) => {
                    entry.stored = true;
                    each(key, Some(&entry.value));
                }
                None => each(key, None),
            }
        }
    }

    /// Takes up an entry that the store has.
    pub fn restore(&mut self, key: K, value: V) {
        self.entries.insert(key, Entry { value, stored: true });
    }

    fn note(&mut self, key: K) {
        if self.keep_rows {
            self.changed.insert(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(shelf: &mut Shelf<u32, &'static str>) -> Vec<(u32, Option<&'static str>)> {
        let mut rows = Vec::new();
        shelf.take_rows(|key, value| rows.push((key, value.copied())));
        rows
    }

    #[test]
    fn only_what_the_store_must_know_becomes_a_row() {
        let mut shelf = Shelf::new(true);
        shelf.put(1, "a");
        shelf.put(2, "b");
        assert_eq!((shelf.take(1), rows(&mut shelf)), (Some("a"), vec![(2, Some("b"))]));
        if let Some(value) = shelf.edit(2) {
            *value = "c";
        }
        assert_eq!((rows(&mut shelf), rows(&mut shelf)), (vec![(2, Some("c"))], vec![]));
        shelf.retain(|_, value| *value != "c");
        assert_eq!((rows(&mut shelf), shelf.len()), (vec![(2, None)], 0));
        shelf.restore(7, "d");
        assert_eq!((rows(&mut shelf), shelf.take(7), rows(&mut shelf)), (vec![], Some("d"), vec![(7, None)]));
    }

    #[test]
    fn without_rows_nothing_is_noted() {
        let mut shelf = Shelf::new(false);
        shelf.put(1, "a");
        shelf.edit(1);
        assert!(rows(&mut shelf).is_empty());
    }
}
