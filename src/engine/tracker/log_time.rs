//! Log time: the highest stamp seen, as far as stamps can be believed.
//!
//! Whoever can write to the log, and any host with a wrong clock, can write any stamp. One line of the year 2099 must
//! not end all waiting for ever, and a clock that was set back must not stop it. Never reads a clock itself.

use crate::engine::codec::{Reader, Writer};
use crate::mail::Time;

/// How far a stamp may be ahead of the host's clock, where that is known: a log whose zone was told wrong is up to 26
/// hours ahead, and its time passes as well as any.
const AHEAD_SECS: i64 = 26 * 3_600;
/// So far ahead of the host's clock, log time must go on: it is no zone's if it stands for `STANDS_SECS` and lines are
/// behind it.
const DOUBT_SECS: i64 = 3_600;
const STANDS_SECS: i64 = 60;
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
    /// The host's clock, as it was told last; zero where there is none (`replay`).
    clock: Time,
    /// What it said when log time went on last.
    rose: Time,
    /// A stamp far ahead that waits for a second one; zero when there is none.
    ahead: Time,
    behind: u32,
}

impl LogTime {
    /// Highest stamp believed so far; zero before the first.
    pub fn high(&self) -> Time {
        self.high
    }

    /// The host's clock says `now`. Log time from long after it was a mistake, of this clock or another.
    pub fn tick(&mut self, now: Time) -> Step {
        self.clock = now;
        if self.high.secs_since(now) <= AHEAD_SECS {
            return Step::Same;
        }
        self.begin_anew(now)
    }

    /// As `tick`, before lines are read that may be of any time; of the very first ones there is no clock yet, for they
    /// may be of long ago.
    pub fn look_at_clock(&mut self, now: Time) {
        if self.clock != Time::ZERO {
            self.clock = now;
        }
    }

    pub fn see(&mut self, at: Time) -> Step {
        if at > self.high {
            self.behind = 0;
            if !self.believes(at) {
                return Step::Same;
            }
            (self.ahead, self.rose) = (Time::ZERO, self.clock);
            self.high = at;
            return Step::Forward;
        }
        let behind = self.high.secs_since(at);
        if self.clock != Time::ZERO {
            let doubted = behind > DOUBT_SECS && self.high.secs_since(self.clock) > DOUBT_SECS;
            let stands = self.clock.secs_since(self.rose) > STANDS_SECS;
            return if doubted && stands { self.begin_anew(at) } else { Step::Same };
        }
        if behind <= JUMP_SECS {
            (self.behind, self.ahead) = (0, Time::ZERO);
            return Step::Same;
        }
        self.behind += 1;
        if self.behind < BEHIND_LINES { Step::Same } else { self.begin_anew(at) }
    }

    fn begin_anew(&mut self, at: Time) -> Step {
        *self = LogTime { high: at, clock: self.clock, rose: self.clock, ..LogTime::default() };
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
        out.time(self.high).time(self.clock).time(self.rose).time(self.ahead).u32(self.behind);
    }

    pub fn restore(saved: &mut Reader<'_>) -> Option<LogTime> {
        let (high, clock, rose) = (saved.time()?, saved.time()?, saved.time()?);
        Some(LogTime { high, clock, rose, ahead: saved.time()?, behind: saved.u32()? })
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
    fn the_future_that_was_believed_is_left_when_the_clock_says_so() {
        // Believed while there was no clock: the first line of a log.
        let mut time = LogTime::default();
        assert_eq!((time.see(at(FAR)), time.tick(at(NOW)), time.high()), (Step::Forward, Step::Back, at(NOW)));
        assert_eq!((time.tick(at(NOW + 1)), time.see(at(NOW + 1))), (Step::Same, Step::Forward));
        // The host's clock itself was wrong.
        assert_eq!(
            (time.tick(at(FAR)), time.see(at(FAR)), time.tick(at(NOW + 2))),
            (Step::Same, Step::Forward, Step::Back)
        );
        assert_eq!(time.high(), at(NOW + 2));
    }

    #[test]
    fn a_zone_told_wrong_goes_on_and_a_single_line_ahead_does_not_stop_time() {
        let mut time = LogTime::default();
        time.tick(at(NOW));
        for n in 0..1_000 {
            time.tick(at(NOW + n));
            assert_eq!(time.see(at(NOW + n + 2 * 3_600)), Step::Forward, "two hours ahead");
            assert_eq!(time.see(at(NOW + n)), Step::Same, "and another source is not");
        }
        time.see(at(NOW + DAY));
        let steps: Vec<Step> = (0..70)
            .map(|n| {
                time.tick(at(NOW + 1_000 + n));
                time.see(at(NOW + 1_000 + n))
            })
            .collect();
        assert_eq!(steps.iter().position(|step| *step == Step::Back), Some(60));
        assert_eq!((steps.last(), time.high()), (Some(&Step::Forward), at(NOW + 1_069)));
    }

    #[test]
    fn a_clock_from_before_a_pause_judges_nothing() {
        let mut time = LogTime::default();
        time.look_at_clock(at(NOW));
        assert_eq!(time.clock, Time::ZERO, "the past is read without one");
        time.tick(at(NOW));
        time.see(at(NOW));
        time.look_at_clock(at(NOW + 9 * DAY));
        assert_eq!(time.see(at(NOW + 8 * DAY)), Step::Forward, "what was written while the agent was away");
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
