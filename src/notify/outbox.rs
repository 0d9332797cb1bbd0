//! What waits for each hook: how much that may be, and how the store keeps it.
//!
//! A notice is in here from the moment its order takes effect until it is delivered or given up, and in the store as long: a
//! row goes in with the order's own transaction. Never sends, and never holds the text: that is with whoever sends it.

use super::hook::Target;
use crate::engine::codec::{Reader, Writer};
use crate::mail::{Owner, Time};
use ring::digest;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Notices that may wait for one hook; those beyond are dropped.
pub const MOST: usize = 1_000;

/// A notice on its way to one hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parcel {
    /// Tells it from all others, in the order in which they were made.
    pub seq: u64,
    /// Whom it is about.
    pub owner: Owner,
    pub at: Time,
    pub id: Arc<str>,
    pub body: Arc<[u8]>,
}

/// A row's key, and its value; `None` deletes it.
pub type Row = (Vec<u8>, Option<Vec<u8>>);

/// What an agent before this one has left.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// By hook, in their order.
    pub parcels: Vec<(usize, Parcel)>,
    /// Rows of hooks that are not configured any more, or that cannot be read.
    pub lost: Vec<Row>,
}

#[derive(Debug)]
struct Waiting {
    key: [u8; 8],
    by: BTreeMap<u64, Owner>,
}

#[derive(Debug, Default)]
pub struct Outbox {
    hooks: Vec<Waiting>,
    next: u64,
}

impl Outbox {
    pub fn new<'a>(targets: impl IntoIterator<Item = &'a Target>) -> Outbox {
        let hooks = targets.into_iter().map(|target| Waiting { key: key_of(target), by: BTreeMap::new() });
        Outbox { hooks: hooks.collect(), next: 1 }
    }

    /// Takes up what the store has.
    pub fn restore(&mut self, rows: Vec<(Vec<u8>, Vec<u8>)>) -> Kept {
        let mut kept = Kept::default();
        for (key, value) in rows {
            let read = read_key(&key).and_then(|(hook, seq)| Some((hook, read_value(seq, &value)?)));
            let at = read.as_ref().and_then(|(hook, _)| self.hooks.iter().position(|one| one.key == *hook));
            let (Some((_, parcel)), Some(at)) = (read, at) else {
                kept.lost.push((key, None));
                continue;
            };
            self.next = self.next.max(parcel.seq.saturating_add(1));
            if let Some(hook) = self.hooks.get_mut(at) {
                hook.by.insert(parcel.seq, parcel.owner);
            }
            kept.parcels.push((at, parcel));
        }
        kept.parcels.sort_by_key(|(_, parcel)| parcel.seq);
        kept
    }

    /// A notice more for a hook. `None`: too many wait for it.
    pub fn push(&mut self, hook: usize, owner: Owner, at: Time, id: &str, body: &Arc<[u8]>) -> Option<(Row, Parcel)> {
        let seq = self.next;
        let waiting = self.hooks.get_mut(hook).filter(|waiting| waiting.by.len() < MOST)?;
        waiting.by.insert(seq, owner);
        self.next += 1;
        let mut value = Writer::default();
        value.time(at).u32(owner.0).bytes(id.as_bytes()).bytes(body);
        let parcel = Parcel { seq, owner, at, id: id.into(), body: Arc::clone(body) };
        Some(((row_key(&waiting.key, seq), Some(value.bytes)), parcel))
    }

    /// It is delivered, or given up. `None`: it was forgotten meanwhile.
    pub fn done(&mut self, hook: usize, seq: u64) -> Option<Row> {
        let waiting = self.hooks.get_mut(hook)?;
        waiting.by.remove(&seq)?;
        Some((row_key(&waiting.key, seq), None))
    }

    /// All about this account, and for which hook each was.
    pub fn forget(&mut self, owner: Owner) -> Vec<(usize, Row)> {
        let mut gone = Vec::new();
        for (at, waiting) in self.hooks.iter_mut().enumerate() {
            let its = waiting.by.extract_if(.., |_, of| *of == owner).map(|(seq, _)| seq).collect::<Vec<u64>>();
            gone.extend(its.into_iter().map(|seq| (at, (row_key(&waiting.key, seq), None))));
        }
        gone
    }

    pub fn waiting(&self, hook: usize) -> usize {
        self.hooks.get(hook).map_or(0, |waiting| waiting.by.len())
    }
}

/// What a hook is known by: its whole address, which may hold secrets, and so not as it stands.
fn key_of(target: &Target) -> [u8; 8] {
    let hash = digest::digest(&digest::SHA256, target.whole().as_bytes());
    hash.as_ref().first_chunk().copied().unwrap_or_default()
}

fn row_key(hook: &[u8; 8], seq: u64) -> Vec<u8> {
    [hook.as_slice(), &seq.to_be_bytes()].concat()
}

fn read_key(key: &[u8]) -> Option<([u8; 8], u64)> {
    let (hook, seq) = key.split_first_chunk()?;
    Some((*hook, u64::from_be_bytes(seq.try_into().ok()?)))
}

fn read_value(seq: u64, value: &[u8]) -> Option<Parcel> {
    let mut saved = Reader::new(value);
    let (at, owner) = (saved.time()?, Owner(saved.u32()?));
    let id = std::str::from_utf8(saved.bytes()?).ok()?.into();
    Some(Parcel { seq, owner, at, id, body: saved.bytes()?.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn targets(paths: &[&str]) -> Vec<Target> {
        paths.iter().map(|path| Target::parse(&format!("http://a.test/{path}")).unwrap()).collect()
    }

    fn body() -> Arc<[u8]> {
        b"{}".as_slice().into()
    }

    #[test]
    fn what_is_kept_comes_back_in_its_order_to_its_hook() {
        let mut outbox = Outbox::new(&targets(&["one", "two"]));
        let mut rows = Vec::new();
        let mut parcels = Vec::new();
        for (n, hook) in [0, 1, 0, 1].into_iter().enumerate() {
            let at = Time::from_secs(n as i64);
            let (row, parcel) = outbox.push(hook, Owner(20), at, &format!("id{n}"), &body()).unwrap();
            rows.push((row.0, row.1.unwrap()));
            parcels.push((hook, parcel));
        }
        rows.reverse();
        // Another order of the hooks, one of them new.
        let mut next = Outbox::new(&targets(&["two", "three", "one"]));
        let kept = next.restore(rows.clone());
        assert_eq!(kept.lost, []);
        let wanted: Vec<_> = parcels.iter().map(|(hook, parcel)| ([2, 0][*hook], parcel.clone())).collect();
        assert_eq!(kept.parcels, wanted);
        assert_eq!((next.waiting(0), next.waiting(1), next.waiting(2)), (2, 0, 2));
        let (_, fresh) = next.push(0, Owner(20), Time::ZERO, "new", &body()).unwrap();
        assert!(fresh.seq > parcels.last().unwrap().1.seq, "{fresh:?}");
        // One that is not there any more.
        let kept = Outbox::new(&targets(&["two"])).restore(rows.clone());
        assert_eq!((kept.parcels.len(), kept.lost.len()), (2, 2));
        // Damaged.
        let kept =
            Outbox::new(&targets(&["one"])).restore(vec![(vec![1], Vec::new()), (rows[0].0.clone(), vec![0xff])]);
        assert_eq!((kept.parcels.len(), kept.lost.len()), (0, 2));
    }

    #[test]
    fn so_many_wait_and_no_more() {
        let mut outbox = Outbox::new(&targets(&["one", "two"]));
        let mut seqs = Vec::new();
        while let Some((_, parcel)) = outbox.push(0, Owner(20), Time::ZERO, "id", &body()) {
            seqs.push(parcel.seq);
            assert!(seqs.len() <= MOST);
        }
        assert_eq!((outbox.waiting(0), seqs.len()), (MOST, MOST));
        assert!(outbox.push(1, Owner(20), Time::ZERO, "id", &body()).is_some(), "another one has its own room");
        assert!(outbox.done(0, seqs[0]).is_some() && outbox.done(0, seqs[0]).is_none());
        assert!(outbox.push(0, Owner(20), Time::ZERO, "id", &body()).is_some());
    }

    #[test]
    fn a_forgotten_account_is_in_nothing_that_waits() {
        let mut outbox = Outbox::new(&targets(&["one", "two"]));
        let mut keys = Vec::new();
        for (hook, owner) in [(0, 20), (0, 21), (1, 20)] {
            keys.push(outbox.push(hook, Owner(owner), Time::ZERO, "id", &body()).unwrap().0.0);
        }
        let gone = outbox.forget(Owner(20));
        assert_eq!(gone, [(0, (keys[0].clone(), None)), (1, (keys[2].clone(), None))]);
        assert_eq!((outbox.waiting(0), outbox.waiting(1)), (1, 0));
    }
}
