//! The syslog head of a log line: stamp, host, tag and process id, in the forms that syslog daemons, postlogd and
//! journal exports write: the old one (RFC 3164, with all kinds of stamps) and that of the syslog protocol (RFC 5424).
//!
//! It knows no mail server. It never keeps text between lines; of time it keeps only what resolves the year of the
//! next stamp. See [`Heads::read`].

mod chunks;
mod rfc5424;
mod stamp;
mod wrapped;

pub use chunks::{Begun, Chunks, Piece};
pub use stamp::Stamps;
pub use wrapped::{Peeled, Wrapped};

use super::near;
use crate::mail::Time;
use stamp::Clock;

/// A head that was not understood: no stamp, host and tag where they belong.
pub const WHY_HEAD: &str = "head";
/// A stamp that names no point in time: 30 February, hour 25.
pub const WHY_STAMP: &str = "stamp";

/// One line behind its syslog head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line<'a> {
    pub at: Time,
    /// Empty when the line has none.
    pub host: &'a [u8],
    /// Without process id and colon; empty when the line has none (`-- MARK --`).
    pub tag: &'a [u8],
    /// 0 when the line has none.
    pub pid: u32,
    pub text: &'a [u8],
}

/// Reads heads, line by line, of one source.
#[derive(Debug, Clone)]
pub struct Heads {
    clock: Clock,
}

impl Heads {
    pub fn new(stamps: Stamps) -> Heads {
        Heads { clock: Clock::new(stamps) }
    }

    /// See [`Clock::set_reference`].
    pub fn set_reference(&mut self, reference: Time) {
        self.clock.set_reference(reference);
    }

    /// The point in time that the year of the next stamp follows: what must survive a restart.
    pub fn last(&self) -> Option<Time> {
        self.clock.last()
    }

    pub fn set_last(&mut self, last: Time) {
        self.clock.set_last(last);
    }

    /// Splits a line into its stamp, with a zone or without, and what follows: the head of a log that has no more.
    #[inline]
    pub fn stamp<'a>(&mut self, line: &'a [u8]) -> Result<(Time, &'a [u8]), &'static str> {
        self.clock.read(line)
    }

    /// Splits a line into head and text; the error is [`WHY_HEAD`] or [`WHY_STAMP`].
    #[inline]
    pub fn read<'a>(&mut self, line: &'a [u8]) -> Result<Line<'a>, &'static str> {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let line = match line.first() {
            Some(b'<') => after_priority(line).ok_or(WHY_HEAD)?,
            _ => line,
        };
        if let Some(rest) = rfc5424::after_version(line) {
            return self.of_protocol(rest);
        }
        let (at, rest) = self.clock.read(line)?;
        let head = after_stamp(at, rest).ok_or(WHY_HEAD)?;
        if head.tag.is_empty()
            && line.get(10) == Some(&b'T')
            && let Some(head) = rfc5424::versionless(at, rest)
        {
            return Ok(head);
        }
        Ok(head)
    }

    /// What stands behind the version of the syslog protocol.
    #[inline(never)]
    fn of_protocol<'a>(&mut self, rest: &'a [u8]) -> Result<Line<'a>, &'static str> {
        if rfc5424::is_stampless(rest) {
            return Err(WHY_STAMP);
        }
        if rest.get(10) != Some(&b'T') {
            return Err(WHY_HEAD);
        }
        let (at, rest) = self.clock.read(rest)?;
        rfc5424::after_stamp(at, rest).ok_or(WHY_HEAD)
    }
}

/// What stands behind a stamp: `host tag[pid]: text`, without the host, without the tag.
#[inline]
pub fn after_stamp(at: Time, rest: &[u8]) -> Option<Line<'_>> {
    let (first, after) = rest.split_at_checked(near::find(b' ', rest)?)?;
    let after = after.get(1..).unwrap_or(&[]);
    if first.is_empty() {
        return None;
    }
    if first.last() == Some(&b':') {
        // No host: the first word is the tag.
        let (tag, pid, _) = split_tag(first);
        return Some(Line { at, host: &[], tag, pid, text: after_solaris_id(after) });
    }
    let (tag, pid, text) = split_tag(after);
    Some(Line { at, host: first, tag, pid, text: after_solaris_id(text) })
}

/// A line whose stamp is known from elsewhere: `[<PRI>]tag[pid]: text`.
pub fn stampless(line: &[u8], at: Time) -> Line<'_> {
    let line = if line.first() == Some(&b'<') { after_priority(line).unwrap_or(line) } else { line };
    let (tag, pid, text) = split_tag(line);
    Line { at, host: &[], tag, pid, text }
}

/// `<PRI>`, as remote syslog daemons that keep the wire form write it.
fn after_priority(line: &[u8]) -> Option<&[u8]> {
    let rest = line.get(1..)?;
    let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
    if !(1..=3).contains(&digits) {
        return None;
    }
    rest.get(digits..)?.strip_prefix(b">")
}

/// `tag[pid]: text`, `tag: text`. Without a colon or bracket there is no tag: all is text.
#[inline]
fn split_tag(rest: &[u8]) -> (&[u8], u32, &[u8]) {
    let untagged = (&[][..], 0, rest);
    let Some((tag, after)) = near::any_of(b'[', b':', b' ', rest).and_then(|end| rest.split_at_checked(end)) else {
        return untagged;
    };
    let (pid, after) = match after.split_first() {
        Some((b'[', digits)) => {
            let Some((pid, len)) = near::number(digits) else { return untagged };
            match digits.get(len..) {
                // No system has larger ones.
                Some([b']', b':', after @ ..]) => (pid as u32, after),
                _ => return untagged,
            }
        }
        Some((b':', after)) => (0, after),
        _ => return untagged,
    };
    (tag, pid, after.strip_prefix(b" ").unwrap_or(after))
}

/// Solaris puts `[ID 197553 mail.info] ` between tag and text.
#[inline]
fn after_solaris_id(text: &[u8]) -> &[u8] {
    if !text.starts_with(b"[ID ") {
        return text;
    }
    match memchr::memmem::find(text, b"] ") {
        Some(end) => text.get(end + 2..).unwrap_or(text),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::tz::TimeZone;

    fn heads() -> Heads {
        Heads::new(Stamps { zone: TimeZone::UTC, reference: at("2026-11-23T12:00:00Z") })
    }

    fn at(text: &str) -> Time {
        Time(text.parse::<jiff::Timestamp>().unwrap().as_microsecond())
    }

    #[test]
    fn every_form_of_head_gives_the_same_parts() {
        let forms: &[(&str, &str)] = &[
            ("Nov 23 10:33:28 mx postfix/smtp[12]: text", "2026-11-23T10:33:28Z"),
            ("Nov  3 10:33:28 mx postfix/smtp[12]: text", "2026-11-03T10:33:28Z"),
            ("Nov 03 10:33:28 mx postfix/smtp[12]: text", "2026-11-03T10:33:28Z"),
            ("Nov 3 10:33:28 mx postfix/smtp[12]: text", "2026-11-03T10:33:28Z"),
            ("<22>Nov 23 10:33:28 mx postfix/smtp[12]: text", "2026-11-23T10:33:28Z"),
            ("Nov 23 10:33:28.250 mx postfix/smtp[12]: text", "2026-11-23T10:33:28.25Z"),
            ("2026-11-23T10:33:28Z mx postfix/smtp[12]: text", "2026-11-23T10:33:28Z"),
            ("2026-11-23T10:33:28.5Z mx postfix/smtp[12]: text", "2026-11-23T10:33:28.5Z"),
            ("2026-11-23T10:33:28.123456789+00:00 mx postfix/smtp[12]: text", "2026-11-23T10:33:28.123456Z"),
            ("2026-11-23T10:33:28.877529+01:00 mx postfix/smtp[12]: text", "2026-11-23T09:33:28.877529Z"),
            ("2026-11-23T10:33:28-0330 mx postfix/smtp[12]: text", "2026-11-23T14:03:28Z"),
            ("2026-11-23T10:33:28+02 mx postfix/smtp[12]: text", "2026-11-23T08:33:28Z"),
            ("2026-11-23 10:33:28 mx postfix/smtp[12]: text", "2026-11-23T10:33:28Z"),
            ("2026-11-23 10:33:28.25 mx postfix/smtp[12]: text", "2026-11-23T10:33:28.25Z"),
            ("2026-11-23 10:33:28,250 mx postfix/smtp[12]: text", "2026-11-23T10:33:28.25Z"),
            ("2026-11-23 10:33:28.25 +0100 mx postfix/smtp[12]: text", "2026-11-23T09:33:28.25Z"),
            ("2026-11-23 10:33:28 +0100 mx postfix/smtp[12]: text", "2026-11-23T09:33:28Z"),
            ("2026 Nov 23 10:33:28 mx postfix/smtp[12]: text", "2026-11-23T10:33:28Z"),
            ("2019 Nov  3 10:33:28 mx postfix/smtp[12]: text", "2019-11-03T10:33:28Z"),
            ("Nov 23 2024 10:33:28 mx postfix/smtp[12]: text", "2024-11-23T10:33:28Z"),
            ("Jun 30 23:59:60 mx postfix/smtp[12]: text", "2026-07-01T00:00:00Z"),
            ("Nov 23 10:33:28 mx postfix/smtp[12]: [ID 197553 mail.info] text", "2026-11-23T10:33:28Z"),
            ("Nov 23 10:33:28 mx postfix/smtp[12]: text\r", "2026-11-23T10:33:28Z"),
            ("<22>1 2026-11-23T10:33:28.123Z mx postfix/smtp 12 - - text", "2026-11-23T10:33:28.123Z"),
            ("<22>1 2026-11-23T10:33:28.877529+01:00 mx postfix/smtp 12 - -  text\r", "2026-11-23T09:33:28.877529Z"),
            ("<22>1 2026-11-23T10:33:28Z mx postfix/smtp 12 - - \u{feff}text", "2026-11-23T10:33:28Z"),
            (r#"<22>1 2026-11-23T10:33:28Z mx postfix/smtp 12 - [a@1 b="]\""][c] text"#, "2026-11-23T10:33:28Z"),
            ("1 2026-11-23T10:33:28Z mx postfix/smtp 12 ID47 - text", "2026-11-23T10:33:28Z"),
            ("2026-11-23T10:33:28.5Z mx postfix/smtp 12 - - text", "2026-11-23T10:33:28.5Z"),
        ];
        for (line, when) in forms {
            let read = heads().read(line.as_bytes()).unwrap_or_else(|why| panic!("{line}: {why}"));
            let want = Line { at: at(when), host: b"mx", tag: b"postfix/smtp", pid: 12, text: b"text" };
            assert_eq!(read, want, "{line}");
        }
    }

    #[test]
    fn parts_may_be_missing() {
        let mut heads = heads();
        let line = heads.read(b"Nov 23 10:33:28 mx postfix/postfix-script: hello").unwrap();
        assert_eq!((line.tag, line.pid, line.text), (&b"postfix/postfix-script"[..], 0, &b"hello"[..]));
        let line = heads.read(b"Nov 23 10:33:28 postfix/smtp[7]: hello").unwrap();
        assert_eq!((line.host, line.tag, line.pid), (&b""[..], &b"postfix/smtp"[..], 7));
        let line = heads.read(b"Nov 23 10:33:28 mx -- MARK --").unwrap();
        assert_eq!((line.host, line.tag, line.text), (&b"mx"[..], &b""[..], &b"-- MARK --"[..]));
    }

    #[test]
    fn refuses_what_is_no_head_or_no_time() {
        for bad in [
            "",
            "x",
            "Nov",
            "Foo 23 10:33:28 mx a: b",
            "hello world, this is text",
            "<x>Nov 23 10:33:28 mx a: b",
            "2026-11-23T10:33:28Zmx a: b",
            "2026-11-23T10:33:28 ",
            "Nov 23 10:33:28",
            "Nov 23 10:33:28 mx",
            "Nov 23 10-33-28 mx a: b",
            "\0\0\0\0\0\0\0\0\0\0\0\0:28 mx a: b",
            "<22>2 2026-11-23T10:33:28Z mx a 12 - - b",
            "<22>1 2026-11-23 10:33:28 mx a 12 - - b",
            "<22>1 2026-11-23T10:33:28Z mx a[12]: b",
            "<22>1 Nov 23 10:33:28 mx a: b",
        ] {
            assert_eq!(heads().read(bad.as_bytes()), Err(WHY_HEAD), "{bad}");
        }
        for bad in [
            "Feb 30 10:33:28 mx a: b",
            "Nov 23 25:33:28 mx a: b",
            "Nov 23 10:60:28 mx a: b",
            "Nov 23 10:33:61 mx a: b",
            "Nov 00 10:33:28 mx a: b",
            "2026-02-29T10:33:28Z mx a: b",
            "2026-13-01T10:33:28Z mx a: b",
            "2026-11-23T10:33:28+25:00 mx a: b",
            "2026 Feb 29 10:33:28 mx a: b",
            "<22>1 - mx a 12 - - b",
            "<22>1 2026-02-29T10:33:28Z mx a 12 - - b",
        ] {
            assert_eq!(heads().read(bad.as_bytes()), Err(WHY_STAMP), "{bad}");
        }
    }
}
