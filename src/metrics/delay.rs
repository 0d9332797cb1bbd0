//! The buckets of delivery delays: classic ones, half a second to a day.
//!
//! Sums are kept in whole milliseconds, so that they add up exactly and can be stored as counters.

/// Upper bounds in milliseconds; what is slower than the last is in `+Inf`.
pub const BOUNDS_MS: [u64; 13] =
    [500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 300_000, 900_000, 3_600_000, 14_400_000, 43_200_000, 86_400_000];

/// Buckets with `+Inf`.
pub const BUCKETS: usize = BOUNDS_MS.len() + 1;

/// Delays of one direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Delays {
    /// Per bucket, not cumulative; the last is `+Inf`.
    pub buckets: [u64; BUCKETS],
    pub sum_ms: u64,
}

impl Delays {
    #[inline]
    pub fn observe(&mut self, ms: u64) {
        let at = BOUNDS_MS.partition_point(|bound| *bound < ms);
        if let Some(bucket) = self.buckets.get_mut(at) {
            *bucket += 1;
        }
        self.sum_ms = self.sum_ms.saturating_add(ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_inclusive() {
        let mut delays = Delays::default();
        for ms in [0, 500, 501, 86_400_000, 86_400_001, 1_000_000_000] {
            delays.observe(ms);
        }
        assert_eq!(delays.buckets[0], 2);
        assert_eq!(delays.buckets[1], 1);
        assert_eq!(delays.buckets[12], 1);
        assert_eq!(delays.buckets[13], 2);
    }
}
