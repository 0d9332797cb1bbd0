//! A sliding window: how many of something there were in the last while, exact to a 60th of it.
//!
//! Stamps are cut to buckets of a 60th of the window. The bucket of now and the 60 before it are counted: never less than
//! the window holds, and at most what one bucket more held. Sparse, and never more than 61 buckets: the newest lies at
//! hand, and only what is older has a place elsewhere, for most accounts write little, and there are a hundred thousand.

use thin_vec::ThinVec;

/// Buckets of a window, that of now left out.
pub const PARTS: u32 = 60;
/// Most of a bucket: no limit is as high. What 61 of them hold fits into the sum.
const MOST: u32 = u32::MAX >> NUMBER;
/// Bits of a bucket's number that are kept of those before the newest: enough to tell it, for none is 128 before it.
const NUMBER: u32 = 7;

/// Buckets in which there was something, with how many.
#[derive(Debug, Clone, Default)]
pub struct Window {
    /// Nothing else says anything while this is 0.
    sum: u32,
    newest: u32,
    count: u32,
    /// How many buckets the oldest lies before the newest.
    span: u8,
    /// Where in `older` they begin: what is before has left the window, and goes when there is no room.
    from: u8,
    /// Those before the newest, the oldest first: how many, and the last bits of the bucket's number.
    older: ThinVec<u32>,
}

impl Window {
    /// Adds to a bucket, with `now` the bucket of the present. What is older than the window is not counted.
    #[inline]
    pub fn add(&mut self, bucket: u32, now: u32, n: u32) -> u64 {
        self.look(now);
        let bucket = bucket.min(now);
        if bucket.saturating_add(PARTS) < now || n == 0 {
            return u64::from(self.sum);
        }
        if self.sum == 0 {
            (self.newest, self.count, self.span) = (bucket, 0, 0);
        } else if bucket > self.newest {
            self.make_room();
            self.older.push(closed(self.newest, self.count));
            self.span = self.span.saturating_add((bucket - self.newest) as u8);
            (self.newest, self.count) = (bucket, 0);
        } else if bucket < self.newest {
            return self.add_before(bucket, n);
        }
        let n = n.min(MOST - self.count);
        self.count += n;
        self.sum += n;
        u64::from(self.sum)
    }

    /// How many there are, with `now` the bucket of the present: what is older goes, and what a clock that was set back
    /// has left in the future.
    #[inline]
    pub fn look(&mut self, now: u32) -> u64 {
        let oldest = self.newest.saturating_sub(u32::from(self.span));
        if self.sum > 0 && (self.newest > now || oldest.saturating_add(PARTS) < now) {
            self.forget(now);
        }
        u64::from(self.sum)
    }

    /// Of the places that the next count will change.
    #[inline]
    pub fn touch(&self) -> u64 {
        u64::from(self.sum ^ self.older.last().copied().unwrap_or(0))
    }

    /// One fewer in a bucket.
    pub fn take(&mut self, bucket: u32) {
        if self.sum == 0 {
            return;
        }
        if bucket == self.newest {
            (self.count, self.sum) = (self.count - 1, self.sum - 1);
            if self.count == 0 {
                self.step_back();
            }
            return;
        }
        if let Ok(at) = self.place(bucket)
            && let Some(cell) = self.older.get_mut(at)
        {
            (*cell, self.sum) = (*cell - (1 << NUMBER), self.sum - 1);
            if *cell >> NUMBER == 0 {
                self.older.remove(at);
                self.measure();
            }
        }
    }

    /// The last bucket that has something.
    pub fn newest(&self) -> Option<u32> {
        (self.sum > 0).then_some(self.newest)
    }

    /// So many fewer in these buckets, those of the newest first.
    pub fn take_back(&mut self, from: u32, to: u32, n: u32) {
        let mut left = n;
        let cells: Vec<(u32, u32)> = self.cells().filter(|(bucket, _)| (from..=to).contains(bucket)).collect();
        for (bucket, count) in cells.into_iter().rev() {
            let some = left.min(count);
            (0..some).for_each(|_| self.take(bucket));
            left -= some;
        }
    }

    /// The oldest first.
    pub fn cells(&self) -> impl Iterator<Item = (u32, u32)> {
        let newest = (self.sum > 0).then_some((self.newest, self.count));
        self.live().iter().map(|cell| self.opened(*cell)).chain(newest)
    }

    /// From what [`cells`](Window::cells) gave; anything else gives `None`.
    pub fn from_cells(cells: impl IntoIterator<Item = (u32, u32)>) -> Option<Window> {
        let mut window = Window::default();
        for (many, (bucket, n)) in (0..).zip(cells) {
            let before = window.newest;
            if n == 0 || n > MOST || many > PARTS || (window.sum > 0 && bucket <= before) {
                return None;
            }
            window.add(bucket, bucket, n);
        }
        Some(window)
    }

    pub fn is_empty(&self) -> bool {
        self.sum == 0
    }

    fn live(&self) -> &[u32] {
        let from = if self.sum > 0 { usize::from(self.from) } else { self.older.len() };
        self.older.get(from..).unwrap_or_default()
    }

    /// Bucket and number of one that lies before the newest.
    fn opened(&self, cell: u32) -> (u32, u32) {
        (self.newest.wrapping_sub(self.newest.wrapping_sub(cell) & ((1 << NUMBER) - 1)), cell >> NUMBER)
    }

    fn place(&self, bucket: u32) -> Result<usize, usize> {
        let from = usize::from(self.from);
        self.live()
            .binary_search_by_key(&bucket, |cell| self.opened(*cell).0)
            .map(|at| at + from)
            .map_err(|at| at + from)
    }

    fn add_before(&mut self, bucket: u32, n: u32) -> u64 {
        let mut n = n;
        match self.place(bucket) {
            Ok(at) => {
                if let Some(cell) = self.older.get_mut(at) {
                    n = n.min(MOST - (*cell >> NUMBER));
                    *cell += n << NUMBER;
                }
            }
            Err(at) => {
                let at = at - self.make_room();
                n = n.min(MOST);
                self.older.insert(at, closed(bucket, n));
            }
        }
        self.sum += n;
        self.measure();
        u64::from(self.sum)
    }

    /// For one more. Grows by half, from one on, and not before what has left the window is gone. Returns how far all
    /// moved.
    fn make_room(&mut self) -> usize {
        if self.older.len() < self.older.capacity() {
            return 0;
        }
        let gone = usize::from(std::mem::take(&mut self.from));
        if gone > 0 {
            self.older.drain(..gone);
        } else {
            self.older.reserve_exact((self.older.len() / 2).max(1));
        }
        gone
    }

    /// What was in the newest bucket is gone: the one before is.
    fn step_back(&mut self) {
        match self.older.pop().filter(|_| self.sum > 0) {
            Some(cell) => {
                (self.newest, self.count) = self.opened(cell);
                self.measure();
            }
            None => self.clear(),
        }
    }

    fn clear(&mut self) {
        *self = Window::default();
    }

    fn measure(&mut self) {
        let oldest = self.live().first().map_or(self.newest, |cell| self.opened(*cell).0);
        self.span = (self.newest - oldest) as u8;
    }

    fn forget(&mut self, now: u32) {
        while self.sum > 0 && self.newest > now {
            self.sum -= self.count;
            self.step_back();
        }
        if self.newest.saturating_add(PARTS) < now {
            return self.clear();
        }
        while let Some((bucket, n)) = self.live().first().map(|cell| self.opened(*cell))
            && bucket.saturating_add(PARTS) < now
        {
            self.sum -= n;
            self.from += 1;
        }
        self.measure();
    }
}

fn closed(bucket: u32, n: u32) -> u32 {
    n << NUMBER | bucket & ((1 << NUMBER) - 1)
}

/// By what they hold.
impl PartialEq for Window {
    fn eq(&self, other: &Window) -> bool {
        self.cells().eq(other.cells())
    }
}

impl Eq for Window {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_a_window_old_is_counted_and_no_more_after_that() {
        let mut window = Window::default();
        assert_eq!(window.add(100, 100, 3), 3);
        assert_eq!(window.add(99, 100, 2), 5, "out of order");
        assert_eq!((window.look(159), window.look(160), window.look(161)), (5, 3, 0));
        assert!(window.is_empty());
    }

    #[test]
    fn a_clock_that_was_set_back_takes_the_future_with_it() {
        let mut window = Window::default();
        window.add(100, 100, 3);
        window.add(90, 100, 1);
        assert_eq!((window.look(95), window.look(100)), (1, 1));
        assert_eq!(window.add(200, 100, 1), 2, "a stamp that is not believed counts as now");
        assert!(window.cells().eq([(90, 1), (100, 1)]));
    }

    #[test]
    fn a_bucket_is_full_at_some_number_and_the_sum_stays_right() {
        let mut window = Window::default();
        for bucket in 0..=PARTS {
            window.add(bucket, bucket, u32::MAX);
        }
        assert_eq!(window.add(0, PARTS, 7), u64::from(MOST) * u64::from(PARTS + 1));
        assert_eq!(window.look(PARTS * 2), u64::from(MOST));
        assert_eq!(window.look(PARTS * 2 + 1), 0);
    }

    /// Against a plain list of buckets, forwards and backwards in time.
    #[test]
    fn it_holds_what_a_plain_list_holds() {
        let mut dice = fastrand::Rng::with_seed(7);
        let (mut emptied, mut set_back, mut longest) = (0, 0, 0);
        for _ in 0..2_000 {
            let (mut window, mut list, mut now) = (Window::default(), std::collections::BTreeMap::new(), 1_000_u32);
            for _ in 0..400 {
                now = match dice.u32(..100) {
                    0..40 => now,
                    40..95 => now + dice.u32(..4),
                    95..98 => now + dice.u32(..90),
                    _ => now - dice.u32(..70).min(now),
                };
                let before = list.keys().next_back().copied().unwrap_or(0);
                set_back += u32::from(before > now);
                list.retain(|bucket, _| *bucket <= now && *bucket + PARTS >= now);
                let bucket = if dice.bool() { now } else { (now + 3).saturating_sub(dice.u32(..70)) };
                match dice.u32(..10) {
                    0 => {
                        window.look(now);
                        if let Some(n) = list.get_mut(&bucket) {
                            *n -= 1;
                            window.take(bucket);
                        }
                        list.retain(|_, n| *n > 0);
                    }
                    1 => drop(window.look(now)),
                    _ => {
                        let (counted, n) = (bucket.min(now), dice.u32(..3));
                        if counted + PARTS >= now && n > 0 {
                            *list.entry(counted).or_default() += n;
                        }
                        window.add(bucket, now, n);
                    }
                }
                let sum: u32 = list.values().sum();
                assert_eq!(window.look(now), u64::from(sum));
                assert!(window.cells().eq(list.iter().map(|(bucket, n)| (*bucket, *n))));
                assert_eq!(Window::from_cells(window.cells()).as_ref(), Some(&window));
                emptied += u32::from(sum == 0);
                longest = longest.max(list.len());
                assert!(window.older.capacity() <= 100, "{}", window.older.capacity());
            }
        }
        assert!(emptied > 1_000 && set_back > 1_000 && longest > 30, "{emptied} {set_back} {longest}");
    }
}
