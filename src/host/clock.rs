//! The clock, the zone and the dice of this host: the only place where they are read. It never sleeps.

use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::mail::Time;

/// The wall clock, as the rest of the house knows it.
#[allow(clippy::disallowed_methods, reason = "the one place that reads the clock")]
pub fn now() -> Time {
    from_system(SystemTime::now())
}

/// A monotonic point, for limits and waits; never comes near a fact.
#[allow(clippy::disallowed_methods, reason = "the one place that reads the clock")]
pub fn monotonic() -> Instant {
    Instant::now()
}

/// What is left of `limit` since `start`; zero when it has passed.
pub fn left(start: Instant, limit: Duration) -> Duration {
    limit.saturating_sub(start.elapsed())
}

/// A file's time in the words of the house. Times before 1970 are negative.
pub fn from_system(time: SystemTime) -> Time {
    let micros = match time.duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_micros()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_micros()).map_or(i64::MIN, |m| -m),
    };
    Time(micros)
}

/// The host's time zone; UTC when it has none.
pub fn zone() -> jiff::tz::TimeZone {
    jiff::tz::TimeZone::system()
}

/// The zone of a name, as the files of this host know it.
pub fn zone_named(name: &str) -> Option<jiff::tz::TimeZone> {
    jiff::tz::TimeZone::get(name).ok()
}

/// A number nobody outside can guess, to seed hashes of text that others choose.
pub fn seed() -> u64 {
    RandomState::new().hash_one(0_u64)
}
