//! Heads of the syslog protocol (RFC 5424, section 6): `<22>1 STAMP HOST APP PROCID MSGID STRUCTURED-DATA text`.
//!
//! rsyslog's RSYSLOG_SyslogProtocol23Format, FreeBSD's syslogd with `-O rfc5424` and `logger --rfc5424` write them; in
//! files the priority is missing at times, or the version with it. It knows no mail server, and is strict where the
//! version does not say what the line is: then anything else is of the older forms. See [`after_stamp`].

use super::super::near;
use super::Line;
use crate::mail::Time;

/// What is not known: an own word in every place.
const NIL: &[u8] = b"-";
/// Some programs put it before a text in UTF-8.
const BOM: &[u8] = b"\xef\xbb\xbf";
/// No program of a mail server has a name so short. Container runtimes put `stdout F ` between a stamp and a line.
const SHORTEST: usize = 2;

/// What follows `1 `, the only version there is.
#[inline]
pub(super) fn after_version(line: &[u8]) -> Option<&[u8]> {
    line.strip_prefix(b"1 ")
}

/// No stamp: `- `.
pub(super) fn is_stampless(rest: &[u8]) -> bool {
    rest.starts_with(b"- ")
}

/// `HOST APP PROCID MSGID STRUCTURED-DATA[ text]`; `None` when one of them is not there.
pub(super) fn after_stamp(at: Time, rest: &[u8]) -> Option<Line<'_>> {
    let (host, rest) = word(rest)?;
    let (tag, rest) = word(rest)?;
    let (process, rest) = word(rest)?;
    let (_, rest) = word(rest)?;
    let text = after_data(rest)?;
    let text = text.strip_prefix(BOM).unwrap_or(text);
    // Where rsyslog translated an older form, the space behind the tag is still there.
    let text = text.strip_prefix(b" ").unwrap_or(text);
    Some(Line { at, host: named(host), tag: named(tag), pid: pid(process).unwrap_or(0), text })
}

/// The same without a version before the stamp. Lines of the older forms without a tag could be taken for it, so the
/// process must be a number or unknown, and the program be named.
#[inline]
pub(super) fn versionless(at: Time, rest: &[u8]) -> Option<Line<'_>> {
    let (_, after) = word(rest)?;
    let (tag, after) = word(after)?;
    // The tag of the older forms ends so.
    if tag.len() < SHORTEST || tag.ends_with(b":") {
        return None;
    }
    let (process, _) = word(after)?;
    (process == NIL || pid(process).is_some()).then(|| after_stamp(at, rest)).flatten()
}

#[inline]
fn word(rest: &[u8]) -> Option<(&[u8], &[u8])> {
    let (word, rest) = rest.split_at_checked(near::find(b' ', rest)?)?;
    (!word.is_empty()).then_some((word, rest.get(1..)?))
}

fn named(word: &[u8]) -> &[u8] {
    if word == NIL { &[] } else { word }
}

/// PROCID is free text, and a process id with all that we know.
fn pid(word: &[u8]) -> Option<u32> {
    std::str::from_utf8(word).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?.parse().ok()
}

/// What follows `-`, or elements `[id name="value" …]` one after the other, and a space; empty when nothing does.
fn after_data(mut rest: &[u8]) -> Option<&[u8]> {
    match rest.strip_prefix(NIL) {
        Some(after) => rest = after,
        None if rest.starts_with(b"[") => {
            while let Some(element) = rest.strip_prefix(b"[") {
                rest = after_element(element)?;
            }
        }
        None => return None,
    }
    if rest.is_empty() { Some(rest) } else { rest.strip_prefix(b" ") }
}

/// What follows the `]` of an element: within values it stands behind a backslash, or, in careless ones, bare.
fn after_element(element: &[u8]) -> Option<&[u8]> {
    let mut quoted = false;
    let mut escaped = false;
    for (at, byte) in element.iter().enumerate() {
        match byte {
            _ if std::mem::take(&mut escaped) => {}
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b']' if !quoted => return element.get(at + 1..),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(rest: &str) -> Option<(String, String, u32, String)> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        after_stamp(Time(0), rest.as_bytes()).map(|l| (text(l.host), text(l.tag), l.pid, text(l.text)))
    }

    #[test]
    fn parts_and_what_is_unknown_of_them() {
        for (line, host, tag, pid, text) in [
            ("mx postfix/smtpd 123 - - text", "mx", "postfix/smtpd", 123, "text"),
            ("mx postfix/smtpd 123 ID47 -  text", "mx", "postfix/smtpd", 123, "text"),
            ("mx postfix/smtpd 123 - - \u{feff}text", "mx", "postfix/smtpd", 123, "text"),
            ("- exim - - - [1/2] text", "", "exim", 0, "[1/2] text"),
            ("mx exim 4294967296 - - text", "mx", "exim", 0, "text"),
            ("mx exim worker-1 - -", "mx", "exim", 0, ""),
            ("mx - - - - -- MARK --", "mx", "", 0, "-- MARK --"),
            (r#"mx a 1 - [timeQuality tzKnown="1"] text"#, "mx", "a", 1, "text"),
            (r#"mx a 1 - [x y="] \"] \\"][z] [text]"#, "mx", "a", 1, "[text]"),
            (r#"mx a 1 - [x y="é"]"#, "mx", "a", 1, ""),
        ] {
            assert_eq!(parts(line), Some((host.into(), tag.into(), pid, text.into())), "{line}");
        }
    }

    #[test]
    fn what_has_not_all_parts_is_none_of_it() {
        for line in [
            "",
            "mx",
            "mx a 1 -",
            "mx a 1 - text",
            "mx a 1 - -text",
            " a 1 - - text",
            "mx  1 - - text",
            r#"mx a 1 - [x y="]" text"#,
            "mx a 1 - [x text",
            "mx a 1 - [x]text",
        ] {
            assert_eq!(parts(line), None, "{line}");
        }
    }

    #[test]
    fn without_a_version_only_what_cannot_be_an_older_form() {
        let tag =
            |line: &str| versionless(Time(0), line.as_bytes()).map(|l| String::from_utf8(l.tag.to_vec()).unwrap());
        assert_eq!(tag("mx postfix/smtpd 123 - - text").as_deref(), Some("postfix/smtpd"));
        assert_eq!(tag("mx postfix/smtpd - - - text").as_deref(), Some("postfix/smtpd"));
        for line in ["mx last message repeated 3 times", "stdout F 12 - - text", "mx -- MARK -- - - x", "mx a: 1 - - x"]
        {
            assert_eq!(tag(line), None, "{line}");
        }
    }
}
