//! What an account usually sends in each hour of the week, learnt from what it sent.
//!
//! An hour of the week is what the last four such hours came to: in the first weeks their mean, then each new one moves it
//! by a quarter. Hours are those of UTC, and each counts as the busiest of itself and its neighbours: when clocks are put
//! forward or back, what an account does at nine is found next door.
//!
//! A burst must not make itself usual. So an hour teaches only a day later, and no more than [`AT_MOST`] times what was
//! usual in it (or [`AT_LEAST`] messages, where that was less): it grows by three quarters a week at most. Before
//! [`LEARNING_HOURS`] are over nothing is usual; then it begins anew for who sent nothing for [`FORGOTTEN_HOURS`].

use crate::engine::codec::{Reader, Writer};
use thin_vec::ThinVec;

const HOUR: u32 = 3_600;
const WEEK: u32 = 168;
/// Each hour of the week was there twice.
const LEARNING_HOURS: u32 = 2 * WEEK;
const FORGOTTEN_HOURS: u32 = 4 * WEEK;
/// So many weeks are the mean of an hour.
const WEEKS: u32 = 4;
/// So much later an hour teaches. A clock that was set back by more begins anew.
const LAG_HOURS: u32 = 24;
const AT_MOST: f32 = 4.0;
const AT_LEAST: f32 = 50.0;
/// Less than this is nothing.
const LEAST: f32 = 1.0 / 64.0;
/// The last bits of a number have the place of its hour in the week.
const PLACE: u32 = 0xff;

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    /// Hours are counted from 1970 on. Before this one nothing was heard, and those before that one have taught.
    began: u32,
    taught: u32,
    /// The hour at hand, and its messages: none where nothing was heard.
    hour: u32,
    count: u32,
    /// What is still to teach besides: hour and messages, the oldest first.
    recent: ThinVec<(u32, u32)>,
    /// How many are usual in an hour of the week, in their order; the others are 0.
    usual: ThinVec<u32>,
}

impl History {
    /// A message, with `now` in seconds.
    #[inline]
    pub fn add(&mut self, now: u32) {
        let hour = now / HOUR;
        if hour != self.hour || self.count == 0 {
            self.turn_to(hour);
        }
        self.count = self.count.saturating_add(1);
    }

    fn turn_to(&mut self, hour: u32) {
        // A little back: it counts for the hour that was reached.
        if self.count > 0 && hour < self.hour && self.hour - hour <= LAG_HOURS {
            return;
        }
        if self.count == 0 || hour < self.hour || hour - self.hour > FORGOTTEN_HOURS {
            *self = History { began: hour, taught: hour, hour, ..History::default() };
            return;
        }
        if self.recent.len() == self.recent.capacity() {
            self.recent.reserve_exact((self.recent.len() / 2).max(1));
        }
        self.recent.push((self.hour, self.count));
        (self.hour, self.count) = (hour, 0);
        self.teach(hour.saturating_sub(LAG_HOURS));
    }

    /// All hours before this one have taught then.
    fn teach(&mut self, until: u32) {
        if until <= self.taught {
            return;
        }
        let ready = self.recent.iter().take_while(|(hour, _)| *hour < until).count();
        for at in 0..ready {
            let place = self.recent.get(at).map_or(0, |(hour, _)| hour % WEEK);
            if let Err(at) = self.usual.binary_search_by_key(&place, |one| one & PLACE) {
                if self.usual.len() == self.usual.capacity() {
                    self.usual.reserve_exact((self.usual.len() / 2).max(1));
                }
                self.usual.insert(at, place);
            }
        }
        let History { began, taught, recent, usual, .. } = self;
        for one in usual.iter_mut() {
            let place = *one & PLACE;
            let mut mean = f32::from_bits(*one & !PLACE);
            let mut hour = *taught + (place + WEEK - *taught % WEEK) % WEEK;
            while hour < until {
                let sent = recent.iter().take(ready).find(|(its, _)| *its == hour).map_or(0, |(_, count)| *count);
                let weeks = ((hour - *began) / WEEK + 1).min(WEEKS);
                let learnt = hour - *began >= LEARNING_HOURS;
                let most = if learnt { (AT_MOST * mean).max(AT_LEAST) } else { f32::INFINITY };
                mean += ((sent as f32).min(most) - mean) / weeks as f32;
                hour += WEEK;
            }
            *one = (if mean < LEAST { 0 } else { mean.to_bits() & !PLACE }) | place;
        }
        usual.retain(|one| *one & !PLACE != 0);
        recent.drain(..ready);
        *taught = until;
    }

    /// How many are usual in the `window` seconds up to now; a shorter window than an hour is taken for one. `None` while
    /// nothing is known of that.
    pub fn usual(&self, now: u32, window: u32) -> Option<f64> {
        if (now / HOUR).saturating_sub(self.began) < LEARNING_HOURS {
            return None;
        }
        let window = window.max(HOUR);
        let weeks = window / (WEEK * HOUR);
        let mut sum = f64::from(weeks) * if weeks > 0 { (0..WEEK).map(|hour| self.around(hour)).sum() } else { 0.0 };
        let from = now.saturating_sub(window % (WEEK * HOUR));
        for hour in from / HOUR..=now / HOUR {
            let overlap = now.min((hour * HOUR).saturating_add(HOUR)).saturating_sub(from.max(hour * HOUR));
            sum += self.around(hour) * f64::from(overlap) / f64::from(HOUR);
        }
        Some(sum)
    }

    /// In this hour, or one beside it.
    fn around(&self, hour: u32) -> f64 {
        let of = |hour: u32| {
            let place = hour % WEEK;
            let at = self.usual.binary_search_by_key(&place, |one| one & PLACE).ok();
            at.and_then(|at| self.usual.get(at)).map_or(0.0, |one| f32::from_bits(one & !PLACE))
        };
        f64::from(of(hour + WEEK - 1).max(of(hour)).max(of(hour + 1)))
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub fn write(&self, out: &mut Writer) {
        out.u32(self.began).u32(self.taught - self.began).u32(self.hour - self.began).u32(self.count);
        out.u64(self.recent.len() as u64);
        for (hour, count) in &self.recent {
            out.u32(hour - self.began).u32(*count);
        }
        out.u64(self.usual.len() as u64);
        for one in &self.usual {
            out.bytes.extend(one.to_le_bytes());
        }
    }

    pub fn read(saved: &mut Reader<'_>) -> Option<History> {
        let began = saved.u32()?;
        let (taught, hour) = (began.checked_add(saved.u32()?)?, began.checked_add(saved.u32()?)?);
        let mut history = History { began, taught, hour, count: saved.u32()?, ..History::default() };
        for _ in 0..saved.u64()? {
            let hour = began.checked_add(saved.u32()?)?;
            history.recent.push((hour, saved.u32()?));
        }
        for _ in 0..saved.u64()? {
            history.usual.push(u32::from_le_bytes(*saved.take::<4>()?));
        }
        let places = history.usual.iter().map(|one| one & PLACE);
        let good = places.clone().is_sorted() && places.clone().all(|place| place < WEEK);
        (good && history.recent.is_sorted()).then_some(history)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u32 = 24;

    /// So many in an hour.
    fn send(history: &mut History, hour: u32, n: u32) {
        (0..n).for_each(|_| history.add(hour * HOUR + 600));
    }

    /// In the hour that is over then.
    fn usual(history: &History, hour: u32) -> Option<u32> {
        history.usual((hour + 1) * HOUR, HOUR).map(|usual| usual.round() as u32)
    }

    /// Some weeks of one message at midnight, 100 at nine every day and 2,000 on the first day's noon.
    fn weeks(weeks: u32) -> History {
        let mut history = History::default();
        for day in 0..weeks * 7 {
            send(&mut history, 1_000 * WEEK + day * DAY, 1);
            send(&mut history, 1_000 * WEEK + day * DAY + 9, 100);
            if day % 7 == 0 {
                send(&mut history, 1_000 * WEEK + day * DAY + 12, 2_000);
            }
        }
        send(&mut history, (1_000 + weeks) * WEEK, 1);
        history
    }

    #[test]
    fn an_hour_of_the_week_is_learnt_and_those_beside_it_are_the_same() {
        for n in [2, 4, 9] {
            let (history, next) = (weeks(n), (1_000 + n) * WEEK);
            let of = |hour| usual(&history, next + hour).unwrap();
            assert_eq!((of(9), of(8), of(10), of(7), of(12), of(11), of(13)), (100, 100, 100, 0, 2_000, 2_000, 2_000));
            assert_eq!((of(DAY + 9), of(DAY + 12)), (100, 0));
            let day = history.usual((next + DAY) * HOUR, DAY * HOUR).unwrap();
            assert!((6_300.0..6_310.0).contains(&day), "{day}: each hour counts as the busiest beside it");
            let week = history.usual((next + WEEK) * HOUR, WEEK * HOUR).unwrap();
            let two = history.usual((next + WEEK) * HOUR, 2 * WEEK * HOUR).unwrap();
            assert!((two - 2.0 * week).abs() < 1.0 && (8_100.0..8_200.0).contains(&week), "{week} {two}");
            let minute = history.usual((next + 9) * HOUR + 1_800, 60).unwrap();
            assert!((99.0..=100.0).contains(&minute), "a minute may have what an hour has: {minute}");
        }
    }

    #[test]
    fn nothing_is_usual_in_the_first_two_weeks_and_after_four_weeks_of_silence() {
        let history = weeks(1);
        assert_eq!(usual(&history, 1_002 * WEEK - 2), None);
        let mut history = weeks(4);
        send(&mut history, 1_008 * WEEK, 1);
        assert!(usual(&history, 1_008 * WEEK + 9).is_some(), "four weeks are not more than four weeks");
        send(&mut history, 1_012 * WEEK + 1, 1);
        assert_eq!(usual(&history, 1_012 * WEEK + 9), None);
    }

    #[test]
    fn a_burst_does_not_make_itself_usual() {
        let mut history = weeks(4);
        let night = 1_004 * WEEK + 3;
        // A whole day of it.
        for hour in night..night + DAY {
            send(&mut history, hour, 5_000);
            assert!(usual(&history, hour).unwrap() <= 2_000, "{hour}");
            assert_eq!(usual(&history, night), Some(0), "{hour}");
        }
        // A week later it has taught a little.
        send(&mut history, night + WEEK, 1);
        let learnt = [0, 4, 6, 9].map(|hour| usual(&history, night + WEEK + hour).unwrap());
        assert_eq!(learnt, [13, 13, 175, 2_750], "50 of nothing, and three quarters more of what was");
    }

    #[test]
    fn what_is_not_sent_any_more_fades() {
        let mut history = weeks(4);
        for week in 0..45 {
            for day in 0..7 {
                send(&mut history, (1_004 + week) * WEEK + day * DAY + 20, 1);
            }
        }
        assert_eq!(history.usual.len(), 7, "{:?}", history.usual);
    }

    #[test]
    fn a_clock_that_was_set_back_by_more_than_a_day_begins_anew() {
        let mut history = weeks(4);
        let began = history.began;
        history.add((1_004 * WEEK - 20) * HOUR);
        assert_eq!((history.began, history.hour, history.count), (began, 1_004 * WEEK, 2));
        history.add((1_004 * WEEK - 25) * HOUR);
        assert_eq!((history.began, usual(&history, 1_004 * WEEK)), (1_004 * WEEK - 25, None));
    }

    #[test]
    fn it_reads_back_and_stays_small() {
        let history = weeks(9);
        let mut out = Writer::default();
        history.write(&mut out);
        assert_eq!(History::read(&mut Reader::new(&out.bytes)), Some(history.clone()));
        for end in 0..out.bytes.len() {
            assert_eq!(History::read(&mut Reader::new(&out.bytes[..end])), None, "{end}");
        }
        let mut busy = History::default();
        (0..WEEK * 9).for_each(|hour| send(&mut busy, 1_000 * WEEK + hour, 3));
        assert!(busy.usual.capacity() <= 252 && busy.recent.capacity() <= 40, "{busy:?}");
    }
}
