//! The clock, the zone and the dice of this host: the only place where they are read.

use crate::mail::Time;
use std::hash::{BuildHasher, RandomState};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// The host's time now.
#[allow(clippy::disallowed_methods, reason = "the one place that reads the clock")]
pub fn now() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

/// A point to measure durations from; never jumps.
#[allow(clippy::disallowed_methods, reason = "the one place that reads the clock")]
pub fn monotonic() -> Instant {
    Instant::now()
}

/// The host's time zone; UTC when it has none.
pub fn zone() -> jiff::tz::TimeZone {
    jiff::tz::TimeZone::system()
}

/// A number nobody outside can guess, to seed hashes of text that others choose.
pub fn seed() -> u64 {
    RandomState::new().hash_one(0_u64)
}
