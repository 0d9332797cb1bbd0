//! Log time: the highest stamp seen, as far as stamps can be believed.
//!
//! Whoever can write to the log, and any host with a wrong clock, can write any stamp. One line of the year 2099 must
//! not end all waiting for ever, and a clock that was set back must not stop it. Never reads a clock itself.

use crate::engine::codec::{Reader, Writer};
use crate::mail::Time;

/// How far a stamp may be ahead of the host's clock, where that is known.
const AHEAD_SECS: i64 = 3_600;
/// A jump of the log's own time that a second line has to confirm, where the host's clock is not known.
const JUMP_SECS: i64 = 86_400;
/// So many lines in a row from long before: the log's time was set back (or an older log follows).
const BEHIND_LINES: u32 = 100;

/// What a stamp did to log time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Same,
    Forward,
    /// Log time begins anew, at an earlier time.
    Back,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogTime {
    high: Time,
    /// The host's clock at the last tick; zero where there is none (`replay`).
    clock: Time,
    /// A stamp far ahead that waits for a second one; zero when there is none.
    ahead: Time,
    behind: u32,
}

impl LogTime {
    /// Highest stamp believed so far; zero before the first.
    pub fn high(&self) -> Time {
        self.high
    }

    /// The host's clock says `now`.
    pub fn tick(&mut self, now: Time) {
        self.clock = now;
    }

    pub fn see(&mut self, at: Time) -> Step {
        if at > self.high {
            self.behind = 0;
            if !self.believes(at) {
                return Step::Same;
            }
            self.ahead = Time::ZERO;
            self.high = at;
            return Step::Forward;
        }
        if self.clock != Time::ZERO || self.high.secs_since(at) <= JUMP_SECS {
            (self.behind, self.ahead) = (0, Time::ZERO);
            return Step::Same;
        }
        self.behind += 1;
        if self.behind < BEHIND_LINES {
            return Step::Same;
        }
        *self = LogTime { high: at, ..LogTime::default() };
        Step::Back
    }

    fn believes(&mut self, at: Time) -> bool {
        if self.clock != Time::ZERO {
            return at.secs_since(self.clock) <= AHEAD_SECS;
        }
        if self.high == Time::ZERO || at.secs_since(self.high) <= JUMP_SECS {
            return true;
        }
        let confirmed = self.ahead != Time::ZERO && at.secs_since(self.ahead).abs() <= JUMP_SECS;
        self.ahead = at;
        confirmed
    }

    pub fn save(&self, out: &mut Writer) {
        out.time(self.high).time(self.clock).time(self.ahead).u32(self.behind);
    }

    pub fn restore(saved: &mut Reader<'_>) -> Option<LogTime> {
        Some(LogTime { high: saved.time()?, clock: saved.time()?, ahead: saved.time()?, behind: saved.u32()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400;
    const NOW: i64 = 1_800_000_000;
    const FAR: i64 = 4_070_908_800;

    fn at(secs: i64) -> Time {
        Time::from_secs(secs)
    }

    #[test]
    fn with_a_clock_the_far_future_is_never_believed() {
        let mut time = LogTime::default();
        time.tick(at(NOW));
        assert_eq!(time.see(at(NOW)), Step::Forward);
        assert_eq!((time.see(at(FAR)), time.see(at(FAR)), time.see(at(FAR + 1))), (Step::Same, Step::Same, Step::Same));
        assert_eq!(time.see(at(NOW + 3_600)), Step::Forward);
        assert_eq!(time.high(), at(NOW + 3_600));
        assert!((0..1_000).all(|_| time.see(at(NOW - 9 * DAY)) == Step::Same), "an older source does not set it back");
    }

    #[test]
    fn without_a_clock_a_jump_needs_a_second_line() {
        let mut time = LogTime::default();
        time.see(at(NOW));
        assert_eq!((time.see(at(FAR)), time.see(at(NOW + 1))), (Step::Same, Step::Forward));
        assert_eq!((time.see(at(FAR)), time.high()), (Step::Same, at(NOW + 1)));
        // A server that was off for ten days.
        assert_eq!((time.see(at(NOW + 10 * DAY)), time.see(at(NOW + 10 * DAY))), (Step::Same, Step::Forward));
    }

    #[test]
    fn a_log_set_back_begins_anew() {
        let mut time = LogTime::default();
        time.see(at(FAR));
        let steps: Vec<Step> = (0..100).map(|n| time.see(at(NOW + n))).collect();
        assert!(steps.iter().take(99).all(|step| *step == Step::Same));
        assert_eq!((steps.last(), time.high()), (Some(&Step::Back), at(NOW + 99)));
        assert_eq!(time.see(at(NOW + 100)), Step::Forward);
    }

    #[test]
    fn it_is_restored_as_saved() {
        let mut time = LogTime::default();
        for stamp in [NOW, FAR, NOW - 2 * DAY] {
            time.see(at(stamp));
            let mut out = Writer::default();
            time.save(&mut out);
            assert_eq!(LogTime::restore(&mut Reader::new(&out.bytes)), Some(time));
        }
    }
}
