//! How many different ones there were in a sliding window, by 64-bit hashes.
//!
//! Only a comparison with a limit is asked for, so the most recent limit + 1 are enough: are there more than the limit in
//! the window, these are all in it. Memory follows the limit, not what the log says.

use super::window::{PARTS, Window};
use hashbrown::HashMap;

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Distinct {
    /// In which bucket each was seen last.
    last: HashMap<u64, u32, foldhash::quality::FixedState>,
    /// How many were seen last in a bucket.
    by: Window,
    /// The bucket that was now when it was looked at last.
    looked: u32,
}

/// Kept beyond the limit before room is made, so that it is seldom made.
const SPARE: usize = 64;

impl Distinct {
    /// `most`: the highest limit that it is compared with. Returns how many there are in the window; `most` + 1 and more
    /// are all the same.
    pub fn add(&mut self, hash: u64, bucket: u32, now: u32, most: u64) -> u64 {
        let held = self.look(now);
        let bucket = bucket.min(now);
        if bucket.saturating_add(PARTS) < now {
            return held;
        }
        match self.last.get(&hash) {
            Some(&before) if in_window(before, now) => {
                if before < bucket {
                    self.by.take(before);
                    self.by.add(bucket, now, 1);
                    self.last.insert(hash, bucket);
                }
            }
            _ => {
                self.by.add(bucket, now, 1);
                self.last.insert(hash, bucket);
            }
        }
        self.make_room(now, usize::try_from(most).unwrap_or(usize::MAX).saturating_add(1));
        self.by.look(now)
    }

    /// How many there are in the window.
    pub fn look(&mut self, now: u32) -> u64 {
        // A clock that was set back: what was seen in its future was not seen, and what had left the window stays out.
        if now < self.looked {
            let looked = self.looked;
            self.last.retain(|_, bucket| *bucket <= now && in_window(*bucket, looked));
        }
        self.looked = now;
        self.by.look(now)
    }

    fn make_room(&mut self, now: u32, most: usize) {
        let room = most.saturating_add(most / 4).saturating_add(SPARE);
        if self.last.len() <= room {
            return;
        }
        // What has left the window is no reason to let others go: it would not be there after a restart.
        self.last.retain(|_, bucket| in_window(*bucket, now));
        if self.last.len() <= room {
            return;
        }
        let mut over = self.last.len().saturating_sub(most);
        if over == 0 {
            return;
        }
        // The oldest buckets go whole, and of the last one that has to go so many as must.
        let mut whole = None;
        let mut part = None;
        for (bucket, n) in self.by.cells() {
            match over.checked_sub(n as usize) {
                Some(left) => (over, whole) = (left, Some(bucket)),
                None => {
                    part = Some(bucket).filter(|_| over > 0);
                    break;
                }
            }
        }
        let gone = |bucket: u32| whole.is_some_and(|whole| bucket <= whole);
        // Which of a bucket go does not matter for the count; that it does not depend on the order of a map, does.
        let mut of_part: Vec<u64> =
            self.last.iter().filter(|(_, bucket)| Some(**bucket) == part).map(|(hash, _)| *hash).collect();
        of_part.sort_unstable();
        of_part.truncate(over);
        self.last.retain(|_, bucket| !gone(*bucket));
        for hash in &of_part {
            self.last.remove(hash);
        }
        self.recount();
    }

    fn recount(&mut self) {
        let mut buckets: Vec<u32> = self.last.values().copied().collect();
        buckets.sort_unstable();
        let cells = buckets.chunk_by(|a, b| a == b).filter_map(|same| Some((*same.first()?, same.len() as u32)));
        self.by = Window::from_cells(cells).unwrap_or_default();
    }

    /// For a row: hash and bucket of each, in an order of their own.
    pub fn entries(&self) -> Vec<(u64, u32)> {
        let held = self.last.iter().filter(|(_, bucket)| in_window(**bucket, self.looked));
        let mut entries: Vec<(u64, u32)> = held.map(|(hash, bucket)| (*hash, *bucket)).collect();
        entries.sort_unstable();
        entries
    }

    /// From what [`entries`](Distinct::entries) gave.
    pub fn from_entries(entries: Vec<(u64, u32)>) -> Distinct {
        let mut distinct = Distinct { last: entries.into_iter().collect(), ..Distinct::default() };
        distinct.looked = distinct.last.values().copied().max().unwrap_or(0);
        let looked = distinct.looked;
        distinct.last.retain(|_, bucket| in_window(*bucket, looked));
        distinct.recount();
        distinct
    }

    pub fn is_empty(&self) -> bool {
        self.by.is_empty()
    }
}

fn in_window(bucket: u32, now: u32) -> bool {
    bucket <= now && bucket.saturating_add(PARTS) >= now
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_counts_once_from_when_it_was_seen_last() {
        let mut distinct = Distinct::default();
        for (hash, bucket) in [(1, 10), (2, 10), (1, 20), (1, 15)] {
            distinct.add(hash, bucket, 20, 9);
        }
        assert_eq!((distinct.look(70), distinct.look(71), distinct.look(80), distinct.look(81)), (2, 1, 1, 0));
    }

    #[test]
    fn memory_follows_the_limit_and_the_comparison_stays_exact() {
        let mut distinct = Distinct::default();
        for n in 0..100_000_u64 {
            let bucket = 100 + (n / 2_000) as u32;
            let found = distinct.add(n, bucket, bucket, 500);
            assert_eq!(found > 500, n >= 500, "{n}: {found}");
            assert!(distinct.last.len() <= 500 + 125 + 66, "{}", distinct.last.len());
        }
        assert!(distinct.look(149 + 60) > 500 && distinct.look(149 + 61) == 0);
    }
}
