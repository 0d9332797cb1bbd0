//! The log that PHP writes of every call of `mail()` (`mail.log = /path`, or `syslog`): its lines become claims about
//! scripts.
//!
//! It never believes what the script's own words look like: the script's file and line stand before them, and end at
//! the first place that can end them. See [`Php`].
//!
//! `[24-Nov-2026 10:00:00 UTC] mail() on [/home/web1/a.php:12]: To: x@y -- Headers: … -- Subject: …`
//! (php_mail in ext/standard/mail.c). `-- Subject:` is since 7.1; before 5.5 there was no stamp, so nothing to join by:
//! such lines are unknown. To syslog the stamp is in the text up to 5.6, and left to the syslog daemon since.
//! A line break in recipients or subject is followed by a blank, so no line of a script's own begins like one of PHP's.

use super::syslog::{Heads, Stamps};
use super::{Mta, Read, Unknown};
use crate::mail::{Event, Head, Kind, Script, ScriptSource, Server, Time};
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// A line without a stamp, or with one that names no point in time.
pub const WHY_STAMP: &str = "stamp";
/// A stamp, and no call of `mail()` behind it.
pub const WHY_SHAPE: &str = "shape";

/// Reads PHP's log of mails, in order.
#[derive(Debug, Clone)]
pub struct Php {
    heads: Heads,
    /// The zone of a name: the zones of the world are files, so whoever may read them looks it up.
    zone_named: fn(&str) -> Option<TimeZone>,
    /// Zones of stamps, by the name they were found under: a script chooses its zone.
    zones: Vec<(Box<str>, Option<TimeZone>)>,
}

/// Most names of zones that are remembered.
const MOST_ZONES: usize = 32;
const LONGEST_ZONE: usize = 64;
const CALL: &[u8] = b"mail() on [";

impl Php {
    pub fn new(stamps: Stamps, zone_named: fn(&str) -> Option<TimeZone>) -> Php {
        Php { heads: Heads::new(stamps), zone_named, zones: Vec::new() }
    }

    /// See [`Heads::set_reference`].
    pub fn set_reference(&mut self, reference: Time) {
        self.heads.set_reference(reference);
    }

    /// `24-Nov-2026 10:00:00 ZONE`, with `e` of PHP's date(): a name, `UTC`, or an offset.
    fn stamp(&mut self, text: &[u8]) -> Option<Time> {
        let text = std::str::from_utf8(text).ok()?;
        let (at, zone) = text.split_at_checked("24-Nov-2026 10:00:00".len())?;
        let at = DateTime::strptime("%d-%b-%Y %H:%M:%S", at).ok()?;
        let zone = self.zone(zone.strip_prefix(' ')?)?;
        Some(Time(at.to_zoned(zone).ok()?.timestamp().as_microsecond()))
    }

    fn zone(&mut self, name: &str) -> Option<TimeZone> {
        if let Some((_, zone)) = self.zones.iter().find(|(known, _)| **known == *name) {
            return zone.clone();
        }
        if name.len() > LONGEST_ZONE {
            return None;
        }
        let zone = offset(name).or_else(|| (self.zone_named)(name));
        if self.zones.len() >= MOST_ZONES {
            self.zones.clear();
        }
        self.zones.push((name.into(), zone.clone()));
        zone
    }
}

/// `+02:00`.
fn offset(text: &str) -> Option<TimeZone> {
    let (sign, digits) = text.split_at_checked(1)?;
    let (hours, minutes) = digits.split_once(':')?;
    let sign = match sign {
        "+" => 1,
        "-" => -1,
        _ => return None,
    };
    let number = |text: &str| if text.len() == 2 { text.parse::<u8>().ok() } else { None };
    let seconds = (i32::from(number(hours)?) * 60 + i32::from(number(minutes)?)) * 60;
    Some(TimeZone::fixed(jiff::tz::Offset::from_seconds(sign * seconds).ok()?))
}

impl Mta for Php {
    fn read<'a>(&'a mut self, line: &'a [u8]) -> Read<'a> {
        let unknown = |why| Read::Unknown(Unknown { daemon: b"php", why });
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if let Some(rest) = line.strip_prefix(b"[") {
            let Some((stamp, text)) = memchr::memmem::find(rest, b"] ").and_then(|at| cut(rest, at, 2)) else {
                return unknown(WHY_SHAPE);
            };
            return match (self.stamp(stamp), call(text)) {
                (_, None) => unknown(WHY_SHAPE),
                (None, _) => unknown(WHY_STAMP),
                (Some(at), Some(script)) => event(at, &[], 0, script),
            };
        }
        match line.first() {
            // The rest of a folded header.
            None | Some(b' ' | b'\t') => return Read::Noise,
            _ if line.starts_with(CALL) => return unknown(WHY_STAMP),
            _ => {}
        }
        // Through syslog, under whatever name `syslog.ident` gives.
        let Ok(head) = self.heads.read(line) else { return unknown(WHY_SHAPE) };
        let text = match head.text.strip_prefix(b"[") {
            Some(rest) => memchr::memmem::find(rest, b"] ").and_then(|at| cut(rest, at, 2)).map_or(head.text, |c| c.1),
            None => head.text,
        };
        match call(text) {
            Some(script) => event(head.at, head.host, head.pid, script),
            None if text.starts_with(CALL) => unknown(WHY_SHAPE),
            None => Read::Foreign,
        }
    }

    fn save(&self) -> Vec<u8> {
        self.heads.last().map_or_else(Vec::new, |last| last.0.to_le_bytes().to_vec())
    }

    fn restore(&mut self, saved: &[u8]) {
        if let Ok(last) = <[u8; 8]>::try_from(saved) {
            self.heads.set_last(Time(i64::from_le_bytes(last)));
        }
    }
}

fn event<'a>(at: Time, host: &'a [u8], pid: u32, script: Script<'a>) -> Read<'a> {
    let head = Head { at, host, server: Server::default(), instance: b"php", pid, owns_queue: false };
    Read::Event(Event { head, kind: Kind::Script(script) })
}

/// Both sides of `len` bytes at `at`.
fn cut(text: &[u8], at: usize, len: usize) -> Option<(&[u8], &[u8])> {
    Some((text.get(..at)?, text.get(at + len..)?))
}

/// `mail() on [FILE:LINE]: To: RECIPIENTS -- Headers: …`
fn call(text: &[u8]) -> Option<Script<'_>> {
    const TO: &[u8] = b"]: To: ";
    let rest = text.strip_prefix(CALL)?;
    // A file may have any name; the recipients are text of whoever calls. The first end that fits is taken.
    for at in memchr::memmem::find_iter(rest, TO).take(8) {
        let (place, words) = cut(rest, at, TO.len())?;
        let Some((path, line)) = memchr::memrchr(b':', place).and_then(|colon| cut(place, colon, 1)) else { continue };
        let Some(line) = number(line) else { continue };
        let end = memchr::memmem::find(words, b" -- Headers: ").unwrap_or(words.len());
        let recipients = words.get(..end)?;
        let (path, line) = evaluated(path).unwrap_or((path, line));
        let from = ScriptSource::Interpreter;
        return Some(Script { id: None, from, uid: None, directory: b"", path, line, recipients });
    }
    None
}

/// `FILE(LINE) : eval()'d code`: the file that evaluated it, and where; the outermost when it was done in turns.
fn evaluated(path: &[u8]) -> Option<(&[u8], u32)> {
    let at = memchr::memmem::find(path, b") : eval()'d code")?;
    let (path, line) = path.get(..at).and_then(|place| cut(place, memchr::memrchr(b'(', place)?, 1))?;
    Some((path, number(line)?))
}

fn number(digits: &[u8]) -> Option<u32> {
    let good = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(digits).ok().filter(|_| good)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader() -> Php {
        let stamps = Stamps { zone: TimeZone::UTC, reference: Time::from_secs(1_795_600_000) };
        Php::new(stamps, |name| TimeZone::get(name).ok())
    }

    /// Path, line, recipients and time, or what else the line was.
    fn read(line: &str) -> Result<(String, u32, String, String), &'static str> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match reader().read(line.as_bytes()) {
            Read::Event(Event { head, kind: Kind::Script(s) }) => {
                assert_eq!((s.id, s.from, s.uid, s.directory), (None, ScriptSource::Interpreter, None, &b""[..]));
                let at = jiff::Timestamp::from_second(head.at.secs()).unwrap().to_string();
                Ok((text(s.path), s.line, text(s.recipients), at))
            }
            Read::Noise => Err("noise"),
            Read::Foreign => Err("foreign"),
            Read::Unknown(unknown) => Err(unknown.why),
            other => panic!("{other:?}"),
        }
    }

    #[rustfmt::skip]
    #[test]
    fn lines_of_all_versions() {
        let at = "2026-11-24T15:24:27Z";
        // Captured from PHP 8.2, but for the names of versions before 7.1.
        let table = [
            ("[24-Nov-2026 15:24:27 UTC] mail() on [/home/web1/a.php:2]: To: x@y.test -- Headers:  -- Subject: hello", "/home/web1/a.php", 2, "x@y.test"),
            ("[24-Nov-2026 16:24:27 Europe/Paris] mail() on [/a.php:3]: To: Name <x@y.test>, z@w.test -- Headers: From: a@b.test  X-A: 1 -- Subject: sub -- Headers: none", "/a.php", 3, "Name <x@y.test>, z@w.test"),
            ("[24-Nov-2026 17:24:27 +02:00] mail() on [/a.php:4]: To: x@y.test]: To: evil@v.test -- Headers: h -- Headers: From: q@r.test", "/a.php", 4, "x@y.test]: To: evil@v.test"),
            ("[24-Nov-2026 15:24:27 UTC] mail() on [/a.php(5) : eval()'d code:1]: To: e@y.test -- Headers:  -- Subject: ev", "/a.php", 5, "e@y.test"),
            ("[24-Nov-2026 15:24:27 UTC] mail() on [/a.php(5) : eval()'d code(7) : eval()'d code:1]: To: e@y.test -- Headers: ", "/a.php", 5, "e@y.test"),
            ("[24-Nov-2026 15:24:27 UTC] mail() on [/home/a b]: To: c/d:e.php:6]: To:  -- Headers: Cc: c@d.test", "/home/a b]: To: c/d:e.php", 6, ""),
            ("Nov 24 15:24:27 vm php[99]: mail() on [/a.php:7]: To: x@y.test -- Headers:  -- Subject: s", "/a.php", 7, "x@y.test"),
            ("2026-11-24T15:24:27.5+00:00 vm web1: mail() on [/a.php:7]: To: x@y.test -- Headers:  -- Subject: s", "/a.php", 7, "x@y.test"),
            ("Nov 24 15:24:27 vm php: [24-Nov-2026 09:00:00 UTC] mail() on [/a.php:8]: To: x@y.test -- Headers: ", "/a.php", 8, "x@y.test"),
        ];
        for (line, path, number, to) in table {
            assert_eq!(read(line), Ok((path.into(), number, to.into(), at.into())), "{line}");
        }
    }

    #[test]
    fn what_is_no_call_is_none() {
        for (line, want) in [
            ("mail() on [/a.php:2]: To: x@y.test -- Headers: ", WHY_STAMP),
            ("[24-Nov-2026 15:24:27 Nowhere/City] mail() on [/a.php:2]: To: x@y -- Headers: ", WHY_STAMP),
            ("[31-Feb-2026 15:24:27 UTC] mail() on [/a.php:2]: To: x@y -- Headers: ", WHY_STAMP),
            ("[24-Nov-2026 15:24:27 UTC] PHP Warning: x in /a.php on line 3", WHY_SHAPE),
            ("[24-Nov-2026 15:24:27 UTC] mail() on [/a.php]: To: x@y -- Headers: ", WHY_SHAPE),
            ("[24-Nov-2026 15:24:27 UTC] mail() on [/a.php:99999999999]: To: x@y -- Headers: ", WHY_SHAPE),
            (" [24-Nov-2026 15:24:27 UTC] mail() on [/home/victim/a.php:1]: To: x@y -- Headers: ", "noise"),
            ("", "noise"),
            ("Nov 24 15:24:27 vm postfix/qmgr[9]: mail", "foreign"),
            ("nonsense", WHY_SHAPE),
        ] {
            assert_eq!(read(line), Err(want), "{line}");
        }
    }

    #[test]
    fn zones_are_remembered_and_bounded() {
        let mut php = reader();
        for n in 0..1_000 {
            let line = format!("[24-Nov-2026 15:24:27 Zone/{n}] mail() on [/a.php:2]: To: x -- Headers: ");
            assert!(matches!(php.read(line.as_bytes()), Read::Unknown(Unknown { why: WHY_STAMP, .. })));
        }
        assert!(php.zones.len() <= MOST_ZONES);
        let long = format!("[24-Nov-2026 15:24:27 {}] mail() on [/a.php:2]: To: x -- Headers: ", "Z".repeat(5_000));
        assert!(matches!(php.read(long.as_bytes()), Read::Unknown(Unknown { why: WHY_STAMP, .. })));
        assert!(php.zones.iter().all(|(name, _)| name.len() <= LONGEST_ZONE));
    }

    proptest::proptest! {
        #![proptest_config(proptest::test_runner::Config::with_cases(10_000))]
        #[test]
        fn any_bytes_are_read(line: Vec<u8>, tail: Vec<u8>) {
            let mut php = reader();
            let _ = php.read(&line);
            let mut almost = b"[24-Nov-2026 15:24:27 UTC] mail() on [".to_vec();
            almost.extend(&line);
            almost.extend(b":1]: To: ");
            almost.extend(&tail);
            proptest::prop_assert!(matches!(php.read(&almost), Read::Event(_)));
        }
    }
}
