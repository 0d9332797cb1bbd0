//! What containers put around a log line: Docker's json-file, CRI (Kubernetes), `docker compose logs`, `logs -t`.
//!
//! A line inside may be cut in parts there too; they are put together here, within bounds. It knows no mail server, and
//! never looks at what the line inside says. See [`Wrapped::peel`].
//!
//! | form | looks like |
//! |---|---|
//! | json-file | `{"log":"Nov 23 … text\n","stream":"stdout","time":"2026-11-23T10:33:28.123456789Z"}`, as JSON allows it |
//! | CRI | `2026-11-23T10:33:28.123456789Z stdout F Nov 23 … text`, with `P` for a part |
//! | compose | `mail-1  | Nov 23 … text`, `mail-1  | 2026-11-23T10:33:28.123456789Z Nov 23 … text` |
//! | `logs -t` | `2026-11-23T10:33:28.123456789Z Nov 23 … text` |

use super::stamp;
use crate::mail::Time;
use std::borrow::Cow;

/// Longest line put together from parts; the rest of it is cut off.
pub const MOST: usize = 64 * 1024;

/// What was around a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peeled<'a> {
    /// Nothing that is known here.
    Bare,
    /// A part of a line: the rest follows.
    Pending,
    /// The line inside, and when the container wrote it.
    Line(Option<Time>, &'a [u8]),
}

/// Takes off what containers put around lines.
#[derive(Debug, Clone, Default)]
pub struct Wrapped {
    /// Parts of a line of stdout and of stderr.
    parts: [Vec<u8>; 2],
    /// The line given out last, where it could not be borrowed.
    line: Vec<u8>,
}

/// One line of json-file; labels and the like may stand between.
#[derive(serde::Deserialize)]
struct Entry<'a> {
    #[serde(borrow)]
    log: Cow<'a, str>,
    #[serde(borrow, default)]
    stream: Cow<'a, str>,
    #[serde(borrow, default)]
    time: Cow<'a, str>,
}

impl Wrapped {
    pub fn peel<'a>(&'a mut self, line: &'a [u8]) -> Peeled<'a> {
        if line.first() == Some(&b'{') {
            let Ok(entry) = serde_json::from_slice::<Entry<'_>>(line) else { return Peeled::Bare };
            let at = stamp::zoned(entry.time.as_bytes()).filter(|(_, rest)| rest.is_empty()).map(|(at, _)| at);
            let whole = entry.log.strip_suffix('\n');
            let error = usize::from(entry.stream == "stderr");
            let text = whole.unwrap_or(&entry.log).as_bytes();
            self.line.clear();
            self.line.extend_from_slice(text.get(..MOST).unwrap_or(text));
            return self.part(error, at, None, whole.is_some());
        }
        if let Some(inner) = after_service(line) {
            return match stamp::zoned(inner).and_then(|(at, rest)| Some((at, rest.strip_prefix(b" ")?))) {
                Some((at, rest)) if holds_line(rest) => Peeled::Line(Some(at), rest),
                _ => Peeled::Line(None, inner),
            };
        }
        let Some((at, rest)) = stamp::zoned(line) else { return Peeled::Bare };
        let Some(rest) = rest.strip_prefix(b" ") else { return Peeled::Bare };
        for (error, stream) in [b"stdout ", b"stderr "].into_iter().enumerate() {
            match rest.strip_prefix(stream) {
                Some([b'F', b' ', text @ ..]) => return self.part(error, Some(at), Some(text), true),
                Some([b'P', b' ', text @ ..]) => return self.part(error, Some(at), Some(text), false),
                // An empty line.
                Some(b"F") => return self.part(error, Some(at), Some(b""), true),
                _ => {}
            }
        }
        if holds_line(rest) { Peeled::Line(Some(at), rest) } else { Peeled::Bare }
    }

    /// One part, or the only one; the text is in `self.line` where it is not given.
    fn part<'a>(&'a mut self, error: usize, at: Option<Time>, text: Option<&'a [u8]>, last: bool) -> Peeled<'a> {
        let Wrapped { parts, line } = self;
        let Some(part) = parts.get_mut(error) else { return Peeled::Bare };
        if part.is_empty() && last {
            return Peeled::Line(at, text.unwrap_or(line));
        }
        let text = text.unwrap_or(line);
        let room = MOST.saturating_sub(part.len());
        part.extend_from_slice(text.get(..room).unwrap_or(text));
        if !last {
            return Peeled::Pending;
        }
        *line = std::mem::take(part);
        Peeled::Line(at, line)
    }

    pub fn parts(&self) -> &[Vec<u8>; 2] {
        &self.parts
    }

    pub fn restore(&mut self, parts: [Vec<u8>; 2]) {
        self.parts = parts;
        for part in &mut self.parts {
            part.truncate(MOST);
        }
    }
}

/// `NAME  | ` of `docker compose logs` and `up`.
fn after_service(line: &[u8]) -> Option<&[u8]> {
    let name = line.iter().take(128).take_while(|b| b.is_ascii_alphanumeric() || b"_.-".contains(b)).count();
    if name == 0 {
        return None;
    }
    let rest = line.get(name..)?;
    let spaces = rest.iter().take(128).take_while(|b| **b == b' ').count();
    let rest = rest.get(spaces..)?;
    if spaces == 0 {
        return None;
    }
    rest.strip_prefix(b"| ")
}

/// Behind the stamp of `logs -t` stands a line with a stamp of its own (`Nov 23 10:33:28 …`, `2026-11-23…`, `1 2026-…`):
/// a host has no such name.
fn holds_line(text: &[u8]) -> bool {
    match text {
        [b'<' | b'{', ..] => true,
        [b'1', b' ', rest @ ..] => is_date(rest),
        [a, b, c, b' ', rest @ ..] => {
            stamp::month(&[*a, *b, *c]).is_some() && matches!(rest.first(), Some(b' ' | b'0'..=b'9'))
        }
        _ => is_date(text),
    }
}

/// `2026-11-23T…`, `2026-11-23 …`.
fn is_date(text: &[u8]) -> bool {
    text.first_chunk::<11>().is_some_and(|text| {
        text.iter().zip(b"0000-00-00T").all(|(have, want)| match want {
            b'0' => have.is_ascii_digit(),
            b'T' => matches!(have, b'T' | b' '),
            _ => have == want,
        })
    })
}
