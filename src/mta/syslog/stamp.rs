//! Stamps of log lines and the points in time they mean.
//!
//! Stamps without a year are resolved from the file's time backwards, later ones from the stamp before. It never reads
//! a clock: the reference time is given. Time zone arithmetic is done once a minute of log, not once a line. See
//! [`Stamps`].

use super::{WHY_HEAD, WHY_STAMP};
use crate::mail::Time;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone};

/// How to understand stamps that do not say everything.
#[derive(Debug, Clone)]
pub struct Stamps {
    /// Zone of stamps without one.
    pub zone: TimeZone,
    /// The file's time of last change: the first stamp without a year is not later than a day after it.
    pub reference: Time,
}

const DAY: i64 = 86_400;
/// Lines of several writers come a little out of order.
const JITTER: i64 = 60;
/// How far a stamp may step back before a year-less one is taken for the next year's.
const BACKWARDS: i64 = 7 * DAY;

/// The state between stamps.
#[derive(Debug, Clone)]
pub(super) struct Clock {
    stamps: Stamps,
    /// The stamp before, in seconds.
    last: Option<i64>,
    /// `Nov 23 10:33` and the epoch seconds of that minute.
    minute: Option<([u8; 12], i64)>,
    /// `2026-11-23T10:33` and its seconds since 1970 as if it were UTC.
    iso: ([u8; 16], Moment),
    /// A zone-less ISO minute and its epoch seconds.
    local: (i64, i64),
}

/// Date and minute as written.
#[derive(Debug, Clone, Copy, Default)]
struct Moment {
    year: i16,
    month: u8,
    day: u8,
    hour: u8,
    minute: u8,
    /// Seconds since 1970 as if it were UTC.
    naive: i64,
}

impl Clock {
    pub(super) fn new(stamps: Stamps) -> Clock {
        Clock { stamps, last: None, minute: None, iso: ([0; 16], Moment::default()), local: (i64::MIN, 0) }
    }

    /// The file's time has moved on, or an older file begins: then its first stamp counts from its own time again.
    pub(super) fn set_reference(&mut self, reference: Time) {
        self.stamps.reference = reference;
        if self.last.is_some_and(|last| last > reference.secs() + DAY) {
            self.last = None;
            self.minute = None;
        }
    }

    pub(super) fn last(&self) -> Option<Time> {
        self.last.map(Time::from_secs)
    }

    pub(super) fn set_last(&mut self, last: Time) {
        self.last = Some(last.secs());
        self.minute = None;
    }

    /// Reads the stamp and the space behind it; gives the rest.
    #[inline]
    pub(super) fn read<'a>(&mut self, line: &'a [u8]) -> Result<(Time, &'a [u8]), &'static str> {
        if let Some((key, rest)) = line.split_first_chunk::<12>()
            && let Some((known, minute)) = &self.minute
            && key == known
        {
            let (second, micros, rest) = seconds(rest)?;
            let secs = minute + second;
            self.last = Some(secs);
            return Ok((time(secs, micros), space(rest)?));
        }
        match line.first() {
            Some(b'0'..=b'9') if line.get(4) == Some(&b'-') => self.iso(line),
            Some(b'0'..=b'9') => {
                let (year, rest) = digits(line, 4, 4)?;
                self.month_first(space(rest)?, Some(year as i16))
            }
            _ => self.month_first(line, None),
        }
    }

    /// `2026-11-23T10:33:28.877529+01:00`, also with a space for the T, a space before the zone, or no zone.
    #[inline]
    fn iso<'a>(&mut self, line: &'a [u8]) -> Result<(Time, &'a [u8]), &'static str> {
        let (key, rest) = line.split_first_chunk::<16>().ok_or(WHY_HEAD)?;
        if *key != self.iso.0 {
            let moment = iso_minute(key)?;
            self.iso = (*key, moment);
        }
        let moment = self.iso.1;
        let (second, micros, rest) = seconds(rest)?;
        let (offset, rest) = match rest {
            [b'Z', rest @ ..] => (Some(0), rest),
            [b'+' | b'-', ..] | [b' ', b'+' | b'-', b'0'..=b'9', b'0'..=b'9', ..] => {
                let (offset, rest) = offset(rest.strip_prefix(b" ").unwrap_or(rest))?;
                (Some(offset), rest)
            }
            _ => (None, rest),
        };
        let minute = match offset {
            Some(offset) => moment.naive - offset,
            None => {
                let minute = self.local(&moment)?;
                self.set_last(time(minute + second, 0));
                minute
            }
        };
        Ok((time(minute + second, micros), space(rest)?))
    }

    /// The epoch seconds of a zone-less minute with a year.
    fn local(&mut self, moment: &Moment) -> Result<i64, &'static str> {
        if self.local.0 == moment.naive {
            return Ok(self.local.1);
        }
        let (secs, sure) = self.resolve(moment).ok_or(WHY_STAMP)?;
        self.local = if sure { (moment.naive, secs) } else { (i64::MIN, 0) };
        Ok(secs)
    }

    /// `Nov 23 [2026 ]10:33:28`.
    fn month_first<'a>(&mut self, line: &'a [u8], year: Option<i16>) -> Result<(Time, &'a [u8]), &'static str> {
        let (name, rest) = line.split_first_chunk::<3>().ok_or(WHY_HEAD)?;
        let month = month(name).ok_or(WHY_HEAD)?;
        let rest = space(rest)?;
        let (day, rest) = digits(rest.strip_prefix(b" ").unwrap_or(rest), 1, 2)?;
        let rest = space(rest)?;
        let (year, rest) = match (year, rest) {
            (None, [b'0'..=b'9', b'0'..=b'9', b'0'..=b'9', b'0'..=b'9', b' ', after @ ..]) => {
                (Some(digits(rest, 4, 4)?.0 as i16), after)
            }
            _ => (year, rest),
        };
        let (hour, rest) = digits(rest, 2, 2)?;
        let (minute, rest) = digits(rest.strip_prefix(b":").ok_or(WHY_HEAD)?, 2, 2)?;
        let (second, micros, after) = seconds(rest)?;
        let after = space(after)?;
        let written = (month, day as u8, hour as u8, minute as u8);
        let (secs, sure) = match year {
            Some(year) => moment(year, written).and_then(|moment| self.resolve(&moment)),
            None => self.yearless(written, second),
        }
        .ok_or(WHY_STAMP)?;
        self.last = Some(secs + second);
        // Only the common form is remembered, and never a minute that occurs twice: its next line may be an hour later.
        if let Some((key, tail)) = line.split_first_chunk::<12>()
            && year.is_none()
            && sure
            && tail.len() == rest.len()
        {
            self.minute = Some((*key, secs));
        }
        Ok((time(secs + second, micros), after))
    }

    /// Epoch seconds of a minute without a year, and whether the zone leaves no doubt.
    fn yearless(&self, written: (u8, u8, u8, u8), second: i64) -> Option<(i64, bool)> {
        let latest = self.stamps.reference.secs().saturating_add(DAY);
        let in_year = |year| moment(year, written).and_then(|moment| self.resolve(&moment));
        if let Some(last) = self.last {
            let year = self.year_of(last)?;
            let candidates = [year - 1, year, year + 1].into_iter().filter_map(in_year);
            let next = candidates.clone().find(|(secs, _)| secs + second >= last - BACKWARDS);
            match next {
                Some(next) if next.0 <= latest => return Some(next),
                // Beyond the file's time: either that is old by now, or the log really stepped back. The nearer is right.
                _ => {
                    if let Some(near) = candidates.min_by_key(|(secs, _)| (secs - last).abs()) {
                        return Some(near);
                    }
                }
            }
        }
        let year = self.year_of(latest)?;
        // 29 February exists every fourth year, and not in most centuries.
        (0..=8).filter_map(|back| in_year(year - back)).find(|(secs, _)| *secs <= latest)
    }

    fn year_of(&self, secs: i64) -> Option<i16> {
        let stamp = Timestamp::from_second(secs).ok()?;
        Some(self.stamps.zone.to_datetime(stamp).year())
    }

    /// Local time to epoch seconds. In the hour that occurs twice, the first one that does not step back behind the
    /// stamp before; in the hour that does not occur, as if the clock had not been changed yet.
    fn resolve(&self, moment: &Moment) -> Option<(i64, bool)> {
        let Moment { year, month, day, hour, minute, naive } = *moment;
        let civil = DateTime::new(year, month as i8, day as i8, hour as i8, minute as i8, 0, 0).ok()?;
        Some(match self.stamps.zone.to_ambiguous_timestamp(civil).offset() {
            AmbiguousOffset::Unambiguous { offset } => (naive - i64::from(offset.seconds()), true),
            AmbiguousOffset::Gap { before, .. } => (naive - i64::from(before.seconds()), true),
            AmbiguousOffset::Fold { before, after } => {
                let first = naive - i64::from(before.seconds());
                let second = naive - i64::from(after.seconds());
                // A whole minute is resolved here, so its last second decides.
                let back = self.last.is_some_and(|last| first + 59 < last - JITTER && second <= last + DAY);
                (if back { second } else { first }, false)
            }
        })
    }
}

#[inline]
fn time(secs: i64, micros: i64) -> Time {
    Time(secs * 1_000_000 + micros)
}

#[inline]
fn space(rest: &[u8]) -> Result<&[u8], &'static str> {
    rest.strip_prefix(b" ").ok_or(WHY_HEAD)
}

/// `:28`, `:28.877529`, `:28,877`: seconds and microseconds. 60 is a leap second.
#[inline]
fn seconds(rest: &[u8]) -> Result<(i64, i64, &[u8]), &'static str> {
    let [b':', tens @ b'0'..=b'9', ones @ b'0'..=b'9', rest @ ..] = rest else { return Err(WHY_HEAD) };
    let second = i64::from(tens - b'0') * 10 + i64::from(ones - b'0');
    if second > 60 {
        return Err(WHY_STAMP);
    }
    let [b'.' | b',', fraction @ ..] = rest else { return Ok((second, 0, rest)) };
    let mut micros = 0;
    let mut scale = 100_000;
    let mut len = 0;
    for byte in fraction {
        if !byte.is_ascii_digit() {
            break;
        }
        micros += i64::from(byte - b'0') * scale;
        scale /= 10;
        len += 1;
    }
    if len == 0 {
        return Err(WHY_HEAD);
    }
    Ok((second, micros, fraction.get(len..).unwrap_or(&[])))
}

/// `+01:00`, `-0330`, `+02` in seconds.
#[inline]
fn offset(text: &[u8]) -> Result<(i64, &[u8]), &'static str> {
    let (sign, rest) = text.split_first().ok_or(WHY_HEAD)?;
    let (hours, rest) = digits(rest, 2, 2)?;
    let rest = rest.strip_prefix(b":").unwrap_or(rest);
    let (minutes, rest) = if rest.first().is_some_and(u8::is_ascii_digit) { digits(rest, 2, 2)? } else { (0, rest) };
    if hours > 18 || minutes > 59 {
        return Err(WHY_STAMP);
    }
    let offset = i64::from(hours) * 3_600 + i64::from(minutes) * 60;
    Ok((if *sign == b'-' { -offset } else { offset }, rest))
}

/// A stamp with its zone, `2026-11-23T10:33:28.123456789Z`, and what follows; of others nothing is known without a
/// [`Clock`].
pub(super) fn zoned(text: &[u8]) -> Option<(Time, &[u8])> {
    let (key, rest) = text.split_first_chunk::<16>()?;
    let moment = iso_minute(key).ok().filter(|_| key.get(10) == Some(&b'T'))?;
    let (second, micros, rest) = seconds(rest).ok()?;
    let (offset, rest) = match rest {
        [b'Z', rest @ ..] => (0, rest),
        [b'+' | b'-', ..] => offset(rest).ok()?,
        _ => return None,
    };
    Some((time(moment.naive - offset + second, micros), rest))
}

fn iso_minute(key: &[u8; 16]) -> Result<Moment, &'static str> {
    let (year, rest) = digits(key, 4, 4)?;
    let (month, rest) = digits(rest.strip_prefix(b"-").ok_or(WHY_HEAD)?, 2, 2)?;
    let (day, rest) = digits(rest.strip_prefix(b"-").ok_or(WHY_HEAD)?, 2, 2)?;
    let [b'T' | b't' | b' ', rest @ ..] = rest else { return Err(WHY_HEAD) };
    let (hour, rest) = digits(rest, 2, 2)?;
    let (minute, _) = digits(rest.strip_prefix(b":").ok_or(WHY_HEAD)?, 2, 2)?;
    moment(year as i16, (month as u8, day as u8, hour as u8, minute as u8)).ok_or(WHY_STAMP)
}

#[inline]
fn digits(text: &[u8], least: usize, most: usize) -> Result<(u16, &[u8]), &'static str> {
    let len = text.iter().take(most).take_while(|b| b.is_ascii_digit()).count();
    let (number, rest) = text.split_at_checked(len).ok_or(WHY_HEAD)?;
    if len < least {
        return Err(WHY_HEAD);
    }
    Ok((number.iter().fold(0, |n, b| n * 10 + u16::from(b - b'0')), rest))
}

pub(super) fn month(name: &[u8; 3]) -> Option<u8> {
    const NAMES: [&[u8; 3]; 12] =
        [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];
    NAMES.iter().position(|known| *known == name).map(|at| at as u8 + 1)
}

/// A date and minute that exist; `None` for 30 February and hour 25.
fn moment(year: i16, (month, day, hour, minute): (u8, u8, u8, u8)) -> Option<Moment> {
    let date = jiff::civil::Date::new(year, month as i8, day as i8).ok()?;
    if hour > 23 || minute > 59 {
        return None;
    }
    // The number of days since 1970, counted in years that begin in March (so that leap days come last).
    let march_year = i64::from(date.year()) - i64::from(month <= 2);
    let era = march_year.div_euclid(400);
    let year_of_era = march_year.rem_euclid(400);
    let day_of_year = (153 * ((i64::from(month) + 9) % 12) + 2) / 5 + i64::from(day) - 1;
    let days = era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468;
    let naive = days * DAY + i64::from(hour) * 3_600 + i64::from(minute) * 60;
    Some(Moment { year, month, day, hour, minute, naive })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Time {
        Time(text.parse::<Timestamp>().unwrap().as_microsecond())
    }

    fn clock(zone: TimeZone, reference: &str) -> Clock {
        Clock::new(Stamps { zone, reference: at(reference) })
    }

    fn paris() -> TimeZone {
        TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap()
    }

    /// Reads stamps in turn and compares each with what it must mean.
    fn check(clock: &mut Clock, table: &[(&str, &str)]) {
        for (stamp, want) in table {
            let line = format!("{stamp} mx");
            let (time, rest) = clock.read(line.as_bytes()).unwrap_or_else(|why| panic!("{stamp}: {why}"));
            assert_eq!(time, at(want), "{stamp}");
            assert_eq!(rest, b"mx");
        }
    }

    #[test]
    fn first_stamp_is_not_after_the_file() {
        check(&mut clock(TimeZone::UTC, "2026-11-23T12:00:00Z"), &[("Nov 24 11:00:00", "2026-11-24T11:00:00Z")]);
        check(&mut clock(TimeZone::UTC, "2026-11-23T12:00:00Z"), &[("Nov 25 11:00:00", "2025-11-25T11:00:00Z")]);
        check(&mut clock(TimeZone::UTC, "2026-01-01T00:30:00Z"), &[("Dec 31 23:00:00", "2025-12-31T23:00:00Z")]);
        check(&mut clock(TimeZone::UTC, "2025-12-31T23:59:59Z"), &[("Jan  1 00:00:01", "2026-01-01T00:00:01Z")]);
        check(&mut clock(TimeZone::UTC, "2027-01-10T00:00:00Z"), &[("Feb 29 01:00:00", "2024-02-29T01:00:00Z")]);
    }

    #[test]
    fn new_year_is_crossed_forwards_and_back() {
        check(
            &mut clock(TimeZone::UTC, "2026-01-02T00:00:00Z"),
            &[
                ("Dec 30 10:00:00", "2025-12-30T10:00:00Z"),
                ("Dec 31 23:59:59", "2025-12-31T23:59:59Z"),
                ("Jan  1 00:00:00", "2026-01-01T00:00:00Z"),
                ("Dec 31 23:59:59", "2025-12-31T23:59:59Z"),
                ("Jan  1 00:00:01", "2026-01-01T00:00:01Z"),
            ],
        );
    }

    #[test]
    fn a_log_followed_for_years_outlives_its_reference() {
        check(
            &mut clock(TimeZone::UTC, "2025-11-01T00:00:00Z"),
            &[
                ("Nov  1 00:00:00", "2025-11-01T00:00:00Z"),
                ("Dec 24 00:00:00", "2025-12-24T00:00:00Z"),
                ("Jan  3 00:00:00", "2026-01-03T00:00:00Z"),
                ("May  3 00:00:00", "2026-05-03T00:00:00Z"),
                ("May  2 23:59:59", "2026-05-02T23:59:59Z"),
                ("Sep  2 00:00:00", "2026-09-02T00:00:00Z"),
                ("Jan  2 00:00:00", "2027-01-02T00:00:00Z"),
            ],
        );
    }

    #[test]
    fn a_quiet_log_may_jump_far_but_not_over_its_file() {
        check(
            &mut clock(TimeZone::UTC, "2026-11-23T00:00:00Z"),
            &[
                ("Jan  3 00:00:00", "2026-01-03T00:00:00Z"),
                ("Nov  3 00:00:00", "2026-11-03T00:00:00Z"),
                ("Sep  3 00:00:00", "2026-09-03T00:00:00Z"),
            ],
        );
    }

    #[test]
    fn an_older_file_starts_from_its_own_time() {
        let mut clock = clock(TimeZone::UTC, "2026-11-23T00:00:00Z");
        check(&mut clock, &[("Nov 22 00:00:00", "2026-11-22T00:00:00Z")]);
        clock.set_reference(at("2025-12-31T00:00:00Z"));
        check(&mut clock, &[("Dec 30 00:00:00", "2025-12-30T00:00:00Z")]);
    }

    #[test]
    fn the_hour_that_occurs_twice_does_not_step_back() {
        check(
            &mut clock(paris(), "2026-10-26T00:00:00Z"),
            &[
                ("Oct 25 01:59:59", "2026-10-24T23:59:59Z"),
                ("Oct 25 02:00:00", "2026-10-25T00:00:00Z"),
                ("Oct 25 02:59:58", "2026-10-25T00:59:58Z"),
                ("Oct 25 02:59:57", "2026-10-25T00:59:57Z"),
                ("Oct 25 02:00:00", "2026-10-25T01:00:00Z"),
                ("Oct 25 02:30:00", "2026-10-25T01:30:00Z"),
                ("Oct 25 02:59:59", "2026-10-25T01:59:59Z"),
                ("Oct 25 03:00:00", "2026-10-25T02:00:00Z"),
            ],
        );
    }

    #[test]
    fn the_hour_that_does_not_occur_is_read_on() {
        check(
            &mut clock(paris(), "2026-03-30T00:00:00Z"),
            &[
                ("Mar 29 01:59:59", "2026-03-29T00:59:59Z"),
                ("Mar 29 02:30:00", "2026-03-29T01:30:00Z"),
                ("Mar 29 03:30:00", "2026-03-29T01:30:00Z"),
                ("2026-03-29 12:00:00", "2026-03-29T10:00:00Z"),
                ("2026-03-29 12:00:01.5", "2026-03-29T10:00:01.5Z"),
            ],
        );
    }

    #[test]
    fn days_are_counted_as_the_calendar_does() {
        for days in (-20_000..60_000).step_by(13) {
            let stamp = Timestamp::from_second(days * DAY).unwrap();
            let date = TimeZone::UTC.to_datetime(stamp);
            let got = moment(date.year(), (date.month() as u8, date.day() as u8, 0, 0)).unwrap();
            assert_eq!(got.naive, days * DAY, "{date}");
        }
    }
}
