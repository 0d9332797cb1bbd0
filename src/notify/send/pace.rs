//! When a notice is tried again, and for how long. Pure.

use crate::mail::Time;
use std::time::Duration;

/// The first wait; each one is twice the one before.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(300);
/// A notice that is older than this when a try fails is given up.
const OLDEST_SECS: i64 = 86_400;

pub(super) const fn is_too_old(made: Time, now: Time) -> bool {
    now.secs_since(made) >= OLDEST_SECS
}

/// How a receiver has done lately.
#[derive(Debug, Default)]
pub(super) struct Pace {
    failures: u32,
}

impl Pace {
    /// True when it had failed before.
    pub(super) fn succeeded(&mut self) -> bool {
        std::mem::take(&mut self.failures) > 0
    }

    /// How long is waited now, and whether this is the first failure since it last worked.
    pub(super) fn failed(&mut self) -> (Duration, bool) {
        let wait = FIRST.saturating_mul(1 << self.failures.min(16)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        (wait, self.failures == 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_doubles_up_to_five_minutes_and_begins_anew() {
        let mut pace = Pace::default();
        assert!(!pace.succeeded());
        let waits: Vec<u64> = (0..12).map(|_| pace.failed().0.as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
        assert!(!pace.failed().1 && pace.succeeded() && !pace.succeeded());
        assert_eq!(pace.failed(), (FIRST, true));
    }

    #[test]
    fn a_day_is_too_long() {
        let made = Time::from_secs(1_000);
        assert!(!is_too_old(made, made.plus_secs(86_399)) && is_too_old(made, made.plus_secs(86_400)));
        assert!(!is_too_old(made, Time::ZERO), "a clock that was set back");
    }
}
