//! Whatever stands in a source: lines of Postfix and of Exim, each in all their forms, and of everybody else.
//!
//! It decides line by line whose a line is, and never what the line means: that is the dialects' business.
//!
//! | form | whose | example |
//! |---|---|---|
//! | syslog | by the tag | `Nov 23 10:33:28 mx postfix/smtp[12]: …`, `… mx exim[12]: [1/4] 2026-11-23 10:33:28 …` |
//! | RFC 5424 | by the program | `<22>1 2026-11-23T10:33:28.5Z mx postfix/smtp 12 - - …` |
//! | Exim's own | Exim | `2026-11-23 10:33:28 [12] 1xVROW-0001BH-2c <= …` |
//! | a container's | as the line inside | see [`wrapped`](super::syslog::Wrapped) |
//!
//! **A stamp with the year first and a space** (`2026-11-23 10:33:28 …`) begins lines of syslog daemons and of Exim's
//! own log alike. It is syslog where a host name or nothing stands behind the stamp, and then `TAG[PID]: `, or the tag
//! of a known server. Everything else is Exim's. So `cwd=/home/web1/a postfix/smtp[12]: …`, a directory that a customer
//! named, is Exim's, for no host has such a name; and a host called `worker-europe-01`, which could be a message id,
//! is known by the tag behind it. What only might be a tag (`mx kernel: …`) is another program's if it means nothing to
//! Exim. See [`Any`].

use super::syslog::{self, Chunks, Heads, Line, Peeled, Piece, Stamps, Wrapped};
use super::{Mta, Read, Unknown, WHY_CHUNKS, exim, postfix};
use crate::mail::{Server, Time};

mod saved;
#[cfg(test)]
mod tests;

/// Reads one source, in order.
#[derive(Debug, Clone)]
pub struct Any {
    lines: Lines,
    wrapped: Wrapped,
}

/// What reads lines that nothing is around any more.
#[derive(Debug, Clone)]
struct Lines {
    heads: Heads,
    /// Of other servers nothing is read.
    only: Option<Server>,
    chunks: Chunks,
    /// The line before was of Exim's own log, whose entries may go on in lines without a stamp.
    goes_on: bool,
}

impl Any {
    pub fn new(stamps: Stamps, only: Option<Server>) -> Any {
        let lines = Lines { heads: Heads::new(stamps), only, chunks: Chunks::default(), goes_on: false };
        Any { lines, wrapped: Wrapped::default() }
    }

    /// The time of last change of the file that is read: bounds the year of stamps without one. An older file than the
    /// stamps so far starts afresh.
    pub fn set_reference(&mut self, reference: Time) {
        self.lines.heads.set_reference(reference);
    }
}

impl Mta for Any {
    #[inline]
    fn read<'a>(&'a mut self, line: &'a [u8]) -> Read<'a> {
        // Of all syslog stamps only those that begin as Exim's own have a space there. A tag of digits may be the hour
        // of a second stamp.
        if line.get(10) != Some(&b' ')
            && let Ok(head) = self.lines.heads.read(line)
            && head.tag.first().is_some_and(|byte| !byte.is_ascii_digit())
        {
            return self.lines.tagged(head);
        }
        self.other(line)
    }

    /// Of the usual syslog lines and of Exim's own log.
    #[inline]
    fn read_alone<'a>(&mut self, line: &'a [u8]) -> Option<Read<'a>> {
        if line.get(10) != Some(&b' ') {
            let head = self.lines.heads.read(line).ok()?;
            return if head.tag.first()?.is_ascii_digit() { None } else { self.lines.alone(&head) };
        }
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if is_year_first(line) { self.lines.year_first_alone(line, None, &mut None) } else { None }
    }

    fn take_lost(&mut self) -> u64 {
        self.lines.chunks.take_lost()
    }

    fn finish(&mut self) {
        self.lines.chunks.finish();
    }

    fn save(&self) -> Vec<u8> {
        let Lines { heads, chunks, goes_on, .. } = &self.lines;
        saved::write(&saved::Saved {
            last: heads.last(),
            goes_on: *goes_on,
            begun: chunks.begun().to_vec(),
            parts: self.wrapped.parts().clone(),
        })
    }

    fn restore(&mut self, saved: &[u8]) {
        let Some(saved) = saved::read(saved) else { return };
        if let Some(last) = saved.last {
            self.lines.heads.set_last(last);
        }
        self.lines.goes_on = saved.goes_on;
        self.lines.chunks.restore(saved.begun.into_iter());
        self.wrapped.restore(saved.parts);
    }
}

impl Any {
    /// Everything but the usual syslog lines.
    #[inline(never)]
    fn other<'a>(&'a mut self, line: &'a [u8]) -> Read<'a> {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if is_year_first(line) {
            return self.lines.year_first(line, None);
        }
        match self.wrapped.peel(line) {
            Peeled::Line(at, inside) => self.lines.inside(inside, at),
            Peeled::Pending => Read::Pending,
            Peeled::Bare => match self.lines.heads.read(line) {
                Ok(head) if head.tag.is_empty() => postfix::untagged(&head),
                Ok(head) => self.lines.tagged(head),
                Err(syslog::WHY_HEAD) if self.lines.goes_on => Read::Noise,
                Err(why) => Read::Unknown(Unknown { daemon: &[], why }),
            },
        }
    }
}

impl Lines {
    /// A syslog line: its tag says whose it is.
    #[inline]
    fn tagged<'a>(&'a mut self, line: Line<'a>) -> Read<'a> {
        match self.alone(&line) {
            Some(read) => read,
            None => self.in_pieces(line),
        }
    }

    /// As `tagged`; `None`: the text may be a piece of a longer one. What is read is large, and goes out as it is: each
    /// step that would look into it would copy it.
    #[inline]
    fn alone<'a>(&mut self, line: &Line<'a>) -> Option<Read<'a>> {
        self.goes_on = false;
        if self.only != Some(Server::Exim)
            && let Some(tag) = postfix::whose(line.tag)
        {
            return Some(postfix::text(&tag, line));
        }
        match is_exim(line.tag) && self.only != Some(Server::Postfix) {
            true => None,
            false => Some(Read::Foreign),
        }
    }

    /// What Exim says through syslog, which it cuts.
    #[inline(never)]
    fn in_pieces<'a>(&'a mut self, line: Line<'a>) -> Read<'a> {
        // The syslog daemon folded equal lines into one.
        if line.text.starts_with(b"message repeated ") {
            return Read::Unknown(Unknown { daemon: b"exim", why: postfix::WHY_REPEATED });
        }
        let text = match self.chunks.take(&line) {
            Piece::Single => line.text,
            Piece::Pending => return Read::Pending,
            // Behind a newline stand headers of a refused message, or explanations.
            Piece::Whole(text) => text.split(|byte| *byte == b'\n').next().unwrap_or(text),
            Piece::Orphan => return Read::Unknown(Unknown { daemon: b"exim", why: WHY_CHUNKS }),
        };
        exim::read_text(line.at, line.host, line.pid, text)
    }

    /// A line that begins as both syslog's and Exim's own may; `at` is better known than by its stamp.
    fn year_first<'a>(&'a mut self, line: &'a [u8], at: Option<Time>) -> Read<'a> {
        let mut piece = None;
        match (self.year_first_alone(line, at, &mut piece), piece) {
            (Some(read), _) => read,
            (None, Some(piece)) => self.in_pieces(piece),
            (None, None) => Read::Foreign,
        }
    }

    /// As `year_first`; `None`: a syslog line, which is left in `piece`, whose text may be a piece of a longer one.
    #[inline]
    fn year_first_alone<'a>(
        &mut self,
        line: &'a [u8],
        at: Option<Time>,
        piece: &mut Option<Line<'a>>,
    ) -> Option<Read<'a>> {
        let (stamp, text) = match self.heads.stamp(line) {
            Ok(read) => read,
            Err(why) => return Some(Read::Unknown(Unknown { daemon: &[], why })),
        };
        let at = at.unwrap_or(stamp);
        let head = if exim::is_marked(text) { None } else { syslog::after_stamp(at, text) };
        if let Some(head) = head
            && is_syslog(&head)
        {
            *piece = Some(head);
            return self.alone(&head);
        }
        if self.only == Some(Server::Postfix) {
            return Some(Read::Foreign);
        }
        self.goes_on = true;
        if self.only.is_some() || head.is_none_or(|head| head.tag.is_empty()) {
            return Some(exim::read_text(at, &[], 0, text));
        }
        Some(match exim::read_text(at, &[], 0, text) {
            Read::Unknown(_) | Read::Noise => Read::Foreign,
            read => read,
        })
    }

    /// The line that a container wrote, which knew the time better than the line's own stamp does: that has no zone.
    fn inside<'a>(&'a mut self, line: &'a [u8], at: Option<Time>) -> Read<'a> {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if is_year_first(line) {
            return self.year_first(line, at);
        }
        let line = match (self.heads.read(line), at) {
            (Ok(head), _) => Line { at: at.unwrap_or(head.at), ..head },
            (Err(_), Some(at)) => syslog::stampless(line, at),
            (Err(_), None) => return Read::Foreign,
        };
        if line.tag.is_empty() { postfix::untagged(&line) } else { self.tagged(line) }
    }
}

/// `2026-11-23 …`.
fn is_year_first(line: &[u8]) -> bool {
    matches!(line, [b'0'..=b'9', _, _, _, b'-', _, _, b'-', _, _, b' ', ..])
}

/// See the head of this file.
fn is_syslog(head: &Line<'_>) -> bool {
    let host = |byte: &u8| byte.is_ascii_alphanumeric() || b".-_:".contains(byte);
    !head.tag.is_empty()
        && head.host.iter().all(host)
        && (head.pid != 0 || is_exim(head.tag) || postfix::whose(head.tag).is_some())
}

/// The name under which Exim logs (syslog_processname); Debian's package, and several beside each other, change it.
fn is_exim(tag: &[u8]) -> bool {
    match tag.strip_prefix(b"exim") {
        Some(rest) => matches!(rest, b"" | b"4") || rest.starts_with(b"-"),
        None => false,
    }
}
