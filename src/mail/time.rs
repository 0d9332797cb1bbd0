//! Points in time, as the log and the store know them: microseconds since the Unix epoch, UTC.

/// A point in time in microseconds since 1970-01-01T00:00:00Z. Never read from a clock in here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time(pub i64);

impl Time {
    pub const ZERO: Time = Time(0);

    pub const fn from_secs(secs: i64) -> Time {
        Time(secs.saturating_mul(1_000_000))
    }

    /// Whole seconds since the epoch, rounded towards the past.
    pub const fn secs(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// The UTC hour this point lies in: hours since the epoch.
    pub const fn hour(self) -> i64 {
        self.secs().div_euclid(3_600)
    }

    pub const fn plus_secs(self, secs: i64) -> Time {
        Time(self.0.saturating_add(secs.saturating_mul(1_000_000)))
    }

    /// Seconds from `earlier` to `self`; negative when `self` is the earlier one.
    pub const fn secs_since(self, earlier: Time) -> i64 {
        self.0.saturating_sub(earlier.0).div_euclid(1_000_000)
    }
}
