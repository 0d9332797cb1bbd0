//! A sliding window: how many of something there were in the last while, exact to a 60th of it.
//!
//! Stamps are cut to buckets of a 60th of the window. The bucket of now and the 60 before it are counted: never less than
//! the window holds, and at most what one bucket more held. Sparse, and never more than 61 buckets.

/// Buckets of a window, that of now left out.
pub const PARTS: u32 = 60;

/// Buckets in which there was something, the oldest first, with how many.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Window {
    sum: u64,
    cells: Vec<(u32, u32)>,
}

impl Window {
    /// Adds to a bucket, with `now` the bucket of the present. What is older than the window is not counted.
    pub fn add(&mut self, bucket: u32, now: u32, n: u32) -> u64 {
        self.look(now);
        let bucket = bucket.min(now);
        if bucket.saturating_add(PARTS) < now || n == 0 {
            return self.sum;
        }
        match self.cells.last_mut() {
            Some((last, count)) if *last == bucket => *count = count.saturating_add(n),
            Some((last, _)) if *last > bucket => match self.cells.binary_search_by_key(&bucket, |cell| cell.0) {
                Ok(at) => {
                    if let Some((_, count)) = self.cells.get_mut(at) {
                        *count = count.saturating_add(n);
                    }
                }
                Err(at) => self.cells.insert(at, (bucket, n)),
            },
            _ => super::push_tight(&mut self.cells, (bucket, n)),
        }
        self.sum += u64::from(n);
        self.sum
    }

    /// How many there are, with `now` the bucket of the present: what is older goes, and what a clock that was set back
    /// has left in the future.
    pub fn look(&mut self, now: u32) -> u64 {
        while let Some(&(last, n)) = self.cells.last()
            && last > now
        {
            self.sum -= u64::from(n);
            self.cells.pop();
        }
        let old = self.cells.iter().take_while(|(bucket, _)| bucket.saturating_add(PARTS) < now).count();
        if old > 0 {
            self.sum -= self.cells.drain(..old).map(|(_, n)| u64::from(n)).sum::<u64>();
        }
        self.sum
    }

    /// One fewer in a bucket.
    pub fn take(&mut self, bucket: u32) {
        if let Ok(at) = self.cells.binary_search_by_key(&bucket, |cell| cell.0)
            && let Some((_, n)) = self.cells.get_mut(at)
        {
            *n -= 1;
            self.sum -= 1;
            if *n == 0 {
                self.cells.remove(at);
            }
        }
    }

    pub fn cells(&self) -> &[(u32, u32)] {
        &self.cells
    }

    /// From what [`cells`](Window::cells) gave; anything else gives `None`.
    pub fn from_cells(cells: Vec<(u32, u32)>) -> Option<Window> {
        let sorted = cells.windows(2).all(|pair| matches!(pair, [a, b] if a.0 < b.0));
        let sum = cells.iter().map(|(_, n)| u64::from(*n)).sum();
        (sorted && cells.len() <= PARTS as usize + 1).then_some(Window { sum, cells })
    }

    pub fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }
}

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
        assert_eq!(window.cells(), [(90, 1), (100, 1)]);
    }
}
