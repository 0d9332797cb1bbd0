//! Which entries are of interest, and how one becomes a line with a head that every dialect reads. Pure.

use std::io::Write;

use super::export::{Entry, Field};
use crate::mail::Time;

/// Whose entries are read, where the configuration does not say: Postfix with all its instances, Exim.
pub const IDENTIFIERS: [&str; 2] = ["postfix*", "exim*"];

/// Entries that are read: of one of the identifiers and, if any are given, of one of the units. `*` stands for any
/// text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    pub identifiers: Vec<String>,
    pub units: Vec<String>,
}

impl Default for Filter {
    fn default() -> Filter {
        Filter { identifiers: IDENTIFIERS.map(str::to_owned).to_vec(), units: Vec::new() }
    }
}

impl Filter {
    pub fn takes(&self, entry: &Entry) -> bool {
        let value = |field| entry.get(field).unwrap_or_default();
        self.names(value(Field::Identifier)) && (self.units.is_empty() || self.is_of(value(Field::Unit)))
    }

    /// Whether a unit is among the wanted ones.
    pub fn is_of(&self, unit: &[u8]) -> bool {
        any(&self.units, unit)
    }

    /// Whether an identifier is among the wanted ones.
    pub fn names(&self, identifier: &[u8]) -> bool {
        any(&self.identifiers, identifier)
    }
}

fn any(patterns: &[String], text: &[u8]) -> bool {
    patterns.iter().any(|pattern| matches(pattern.as_bytes(), text))
}

/// Whether the text has the form of a pattern; linear in both, whatever they are.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let mut parts = pattern.split(|byte| *byte == b'*');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let Some(mut part) = parts.next() else { return rest.is_empty() };
    for next in parts {
        let Some(at) = memchr::memmem::find(rest, part) else { return false };
        rest = rest.get(at + part.len()..).unwrap_or_default();
        part = next;
    }
    rest.ends_with(part)
}

/// When the journal took the entry.
pub fn time(entry: &Entry) -> Option<Time> {
    let micros: i64 = std::str::from_utf8(entry.get(Field::Realtime)?).ok()?.parse().ok()?;
    Some(Time(micros)).filter(|_| jiff::Timestamp::from_microsecond(micros).is_ok())
}

/// Writes `2026-11-23T10:33:28.877529Z mx postfix/smtp[12]: text`, as a syslog daemon would have. False when the entry
/// has no time or no message.
pub fn write(entry: &Entry, line: &mut Vec<u8>) -> bool {
    line.clear();
    let (Some(at), Some(message)) = (time(entry), entry.get(Field::Message)) else { return false };
    let Ok(stamp) = jiff::Timestamp::from_microsecond(at.0) else { return false };
    if write!(line, "{stamp:.6} ").is_err() {
        return false;
    }
    let host = entry.get(Field::Host).unwrap_or_default();
    if !host.is_empty() {
        word(host, line);
        line.push(b' ');
    }
    word(entry.get(Field::Identifier).unwrap_or_default(), line);
    // What the program said of itself is what a log file would have; the journal's own view is right for all others.
    let pid =
        [Field::SyslogPid, Field::Pid].into_iter().find_map(|field| entry.get(field).filter(|pid| !pid.is_empty()));
    if let Some(pid) = pid.filter(|pid| pid.len() <= 10 && pid.iter().all(u8::is_ascii_digit)) {
        line.push(b'[');
        line.extend_from_slice(pid);
        line.push(b']');
    }
    line.extend_from_slice(b": ");
    line.extend_from_slice(message);
    true
}

/// A part of the head is one word: nothing in it may look like another part.
fn word(text: &[u8], line: &mut Vec<u8>) {
    line.extend(text.iter().map(|byte| match byte {
        b'[' | b']' | b':' => b'_',
        byte if byte.is_ascii_whitespace() || byte.is_ascii_control() => b'_',
        byte => *byte,
    }));
}

#[cfg(test)]
mod tests {
    use super::super::export::Export;
    use super::*;

    fn entry(text: &str) -> Entry {
        let mut found = None;
        Export::new(99).feed(format!("{text}\n\n").as_bytes(), &mut |entry| found = Some(entry.clone())).unwrap();
        found.unwrap()
    }

    #[test]
    fn patterns() {
        for (pattern, text, is) in [
            ("postfix*", "postfix/smtp", true),
            ("postfix*", "postfix", true),
            ("postfix*", "xpostfix", false),
            ("postfix", "postfix/smtp", false),
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("a*b*c", "aXbYc", true),
            ("a*b*c", "abc", true),
            ("a*b*c", "ac", false),
            ("a*a", "a", false),
            ("*b*", "abc", true),
            ("**x", "zx", true),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), is, "{pattern} {text}");
        }
    }

    #[test]
    fn the_filter_wants_identifier_and_unit() {
        let mut filter = Filter::default();
        let smtp = entry("SYSLOG_IDENTIFIER=postfix-out/smtp\n_SYSTEMD_UNIT=postfix@-.service");
        assert!(filter.takes(&smtp) && filter.takes(&entry("SYSLOG_IDENTIFIER=exim4")));
        assert!(!filter.takes(&entry("SYSLOG_IDENTIFIER=sshd")) && !filter.takes(&entry("MESSAGE=x")));
        filter.units = vec!["postfix@*.service".to_owned()];
        assert!(filter.takes(&smtp) && !filter.takes(&entry("SYSLOG_IDENTIFIER=exim4")));
        assert!(!filter.takes(&entry("SYSLOG_IDENTIFIER=postfix/smtp\n_SYSTEMD_UNIT=user@1000.service")));
    }

    #[test]
    fn an_entry_becomes_a_line_whose_head_nobody_can_shift() {
        let mut line = Vec::new();
        let time = "__REALTIME_TIMESTAMP=1790000001000002";
        for (fields, want) in [
            (
                "_HOSTNAME=mx\nSYSLOG_IDENTIFIER=postfix/smtp\nSYSLOG_PID=12\n_PID=99\nMESSAGE=text",
                "mx postfix/smtp[12]: text",
            ),
            ("_HOSTNAME=mx\nSYSLOG_IDENTIFIER=exim\n_PID=99\nMESSAGE=a: b", "mx exim[99]: a: b"),
            ("SYSLOG_IDENTIFIER=a b[1]: c\n_PID=9 9\nMESSAGE=", "a_b_1___c: "),
            ("_HOSTNAME=m x:\nSYSLOG_IDENTIFIER=t\nMESSAGE=x", "m_x_ t: x"),
        ] {
            assert!(write(&entry(&format!("{time}\n{fields}")), &mut line), "{fields}");
            assert_eq!(String::from_utf8_lossy(&line), format!("2026-09-21T14:13:21.000002Z {want}"));
        }
        for fields in ["MESSAGE=x", "__REALTIME_TIMESTAMP=9223372036854775807\nMESSAGE=x", time] {
            assert!(!write(&entry(fields), &mut line), "{fields}");
        }
    }
}
