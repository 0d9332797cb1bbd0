//! Texts that came in several lines: `[n/m] ` where a line was too long for syslog, `[n\m] ` where it had a newline.
//!
//! Exim's log.c (`write_syslog`) cuts at 870 bytes, in the middle of a word if need be, and at newlines; it writes all
//! pieces in a row, so a process that writes anything else has not finished its text, and never will. It knows nothing
//! of what a text says. Everything here is bounded, for the numbers come from the log. See [`Chunks::take`].

use super::Line;
use crate::mail::Time;

/// Texts begun and not finished, at a time; beyond it the oldest is given up.
const MOST_TEXTS: usize = 128;
/// Of one text. The server's own buffers end at 16 KiB (big_buffer_size).
const MOST_TEXT: usize = 64 * 1024;
/// Of all texts.
const MOST_BYTES: usize = 256 * 1024;
/// Most pieces of one text: one per byte of a buffer full of newlines.
const MOST_PIECES: u16 = 16_384;
/// The pieces of a text are written at once; log time between them is a matter of moments.
const PATIENCE: i64 = 60;

/// What a line is, as far as pieces go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece<'a> {
    /// No piece: a text of its own.
    Single,
    /// More is to come.
    Pending,
    /// The last piece: here is the text.
    Whole(&'a [u8]),
    /// Its beginning was not seen, or a piece before it is missing.
    Orphan,
}

/// A text of which pieces are missing still.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Begun {
    pub host: Box<[u8]>,
    pub pid: u32,
    pub at: Time,
    /// Pieces seen; the next is one more.
    pub seen: u16,
    pub of: u16,
    pub text: Vec<u8>,
}

/// Puts texts together.
#[derive(Debug, Clone, Default)]
pub struct Chunks {
    /// The oldest first.
    begun: Vec<Begun>,
    whole: Vec<u8>,
    lost: u64,
}

impl Chunks {
    /// Takes one line of the server's. To be called for each of them: one that is no piece ends what its process had
    /// begun.
    pub fn take(&mut self, line: &Line<'_>) -> Piece<'_> {
        let head = head(line.text);
        if self.begun.is_empty() && head.is_none() {
            return Piece::Single;
        }
        self.expire(line.at);
        let known = self.begun.iter().position(|begun| begun.pid == line.pid && *begun.host == *line.host);
        let Some(head) = head else {
            if let Some(at) = known {
                self.give_up(at);
            }
            return Piece::Single;
        };
        let fits = known.filter(|&at| {
            self.begun.get(at).is_some_and(|begun| {
                begun.seen + 1 == head.n && begun.of == head.of && begun.text.len() + head.text.len() < MOST_TEXT
            })
        });
        match (fits, known) {
            (Some(at), _) => self.go_on(at, &head),
            (None, Some(at)) => {
                self.give_up(at);
                self.begin(line, &head)
            }
            (None, None) => self.begin(line, &head),
        }
    }

    fn begin(&mut self, line: &Line<'_>, head: &Head<'_>) -> Piece<'_> {
        if head.n != 1 {
            return Piece::Orphan;
        }
        let begun =
            Begun { host: line.host.into(), pid: line.pid, at: line.at, seen: 0, of: head.of, text: Vec::new() };
        self.begun.push(begun);
        self.go_on(self.begun.len() - 1, head)
    }

    fn go_on(&mut self, at: usize, head: &Head<'_>) -> Piece<'_> {
        if let Some(begun) = self.begun.get_mut(at) {
            begun.seen = head.n;
            begun.text.extend_from_slice(head.text);
            if head.newline {
                begun.text.push(b'\n');
            }
        }
        if head.n == head.of {
            self.whole = self.begun.remove(at).text;
            return Piece::Whole(&self.whole);
        }
        while self.begun.len() > MOST_TEXTS || self.bytes() > MOST_BYTES {
            self.give_up(0);
        }
        Piece::Pending
    }

    fn bytes(&self) -> usize {
        self.begun.iter().map(|begun| begun.text.len() + begun.host.len()).sum()
    }

    fn expire(&mut self, now: Time) {
        while let Some(at) = self.begun.iter().position(|begun| now.secs_since(begun.at).abs() > PATIENCE) {
            self.give_up(at);
        }
    }

    fn give_up(&mut self, at: usize) {
        if at < self.begun.len() {
            self.lost += u64::from(self.begun.remove(at).seen);
        }
    }

    /// Pieces of texts that were given up since the last call.
    pub fn take_lost(&mut self) -> u64 {
        std::mem::take(&mut self.lost)
    }

    /// There will be no more lines.
    pub fn finish(&mut self) {
        while !self.begun.is_empty() {
            self.give_up(0);
        }
    }

    pub fn begun(&self) -> &[Begun] {
        &self.begun
    }

    /// Takes up what was begun before a restart; what cannot have come from here is left out.
    pub fn restore(&mut self, begun: impl Iterator<Item = Begun>) {
        let sound = |begun: &Begun| (1..begun.of).contains(&begun.seen) && begun.of <= MOST_PIECES;
        self.begun = begun.filter(sound).take(MOST_TEXTS).collect();
        while self.bytes() > MOST_BYTES {
            self.begun.pop();
        }
    }
}

struct Head<'a> {
    n: u16,
    of: u16,
    /// A newline stood behind this piece.
    newline: bool,
    text: &'a [u8],
}

/// `[2/4] `: without leading zeros, and never of one piece only, which has no head. Anything else is text.
fn head(text: &[u8]) -> Option<Head<'_>> {
    let rest = text.strip_prefix(b"[")?;
    let (n, rest) = number(rest)?;
    let (mark, rest) = rest.split_first()?;
    let newline = match mark {
        b'/' => false,
        b'\\' => true,
        _ => return None,
    };
    let (of, rest) = number(rest)?;
    // A syslog daemon may take away the space at the end of an empty last piece.
    let text = rest.strip_prefix(b"] ").or_else(|| rest.strip_prefix(b"]").filter(|rest| rest.is_empty()))?;
    let sound = (1..=of).contains(&n) && (2..=MOST_PIECES).contains(&of) && !(newline && n == of);
    sound.then_some(Head { n, of, newline, text })
}

fn number(text: &[u8]) -> Option<(u16, &[u8])> {
    let len = text.iter().take(6).take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, rest) = text.split_at_checked(len)?;
    if !(1..=5).contains(&len) || digits.first() == Some(&b'0') {
        return None;
    }
    let value = digits.iter().fold(0u32, |n, byte| n * 10 + u32::from(byte - b'0'));
    Some((u16::try_from(value).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(at: i64, pid: u32, text: &str) -> Line<'_> {
        Line { at: Time::from_secs(at), host: b"mx", tag: b"exim", pid, text: text.as_bytes() }
    }

    #[test]
    fn pieces_make_a_text_and_newlines_come_back() {
        let mut chunks = Chunks::default();
        assert_eq!(chunks.take(&line(0, 7, "[1/3] okreci")), Piece::Pending);
        assert_eq!(chunks.take(&line(0, 8, "[1\\2] first line")), Piece::Pending);
        assert_eq!(chunks.take(&line(0, 7, "[2/3] pient032 [3/3] no head")), Piece::Pending);
        assert_eq!(chunks.take(&line(0, 8, "[2/2] second")), Piece::Whole(b"first line\nsecond"));
        assert_eq!(chunks.take(&line(0, 7, "[3/3] @x")), Piece::Whole(b"okrecipient032 [3/3] no head@x"));
        assert_eq!((chunks.take_lost(), chunks.begun().len()), (0, 0));
    }

    #[test]
    fn what_is_no_head_is_text() {
        for text in [
            "[1] x",
            "[1/1] x",
            "[0/2] x",
            "[3/2] x",
            "[1/0] x",
            "[01/2] x",
            "[1/02] x",
            "[1/2]x",
            "[1-2] x",
            "[/2] x",
            "[1/] x",
            "[1/99999] x",
            "[1/4294967298] x",
            "[2\\2] x",
            " [1/2] x",
            "[1/2",
            "[",
            "",
        ] {
            assert_eq!(Chunks::default().take(&line(0, 7, text)), Piece::Single, "{text}");
        }
    }

    #[test]
    fn a_text_is_given_up_when_its_process_says_something_else() {
        let mut chunks = Chunks::default();
        for (text, piece, lost) in [
            ("[2/3] b", Piece::Orphan, 0),
            ("[1/3] a", Piece::Pending, 0),
            ("[2/3] b", Piece::Pending, 0),
            ("Completed", Piece::Single, 2),
            ("[3/3] c", Piece::Orphan, 0),
            ("[1/3] a", Piece::Pending, 0),
            ("[3/3] c", Piece::Orphan, 1),
            ("[1/3] a", Piece::Pending, 0),
            ("[2/4] b", Piece::Orphan, 1),
            ("[1/2] a", Piece::Pending, 0),
            ("[1/2] b", Piece::Pending, 1),
            ("[2/2] c", Piece::Whole(b"bc"), 0),
        ] {
            assert_eq!(chunks.take(&line(0, 7, text)), piece, "{text}");
            assert_eq!(chunks.take_lost(), lost, "{text}");
        }
    }

    #[test]
    fn hosts_and_processes_are_kept_apart() {
        let mut chunks = Chunks::default();
        let other = Line { host: b"mx2", ..line(0, 7, "[1/2] other ") };
        assert_eq!(chunks.take(&line(0, 7, "[1/2] ours ")), Piece::Pending);
        assert_eq!(chunks.take(&other), Piece::Pending);
        assert_eq!(chunks.take(&Line { text: b"[2/2] end", ..other }), Piece::Whole(b"other end"));
        assert_eq!(chunks.take(&line(0, 7, "[2/2] end")), Piece::Whole(b"ours end"));
    }

    #[test]
    fn nothing_is_kept_without_bound() {
        let mut chunks = Chunks::default();
        for pid in 0..1_000 {
            chunks.take(&line(0, pid, "[1/9] a"));
        }
        assert_eq!((chunks.begun().len(), chunks.take_lost()), (MOST_TEXTS, 1_000 - MOST_TEXTS as u64));
        let long = format!("[1/16384] {}", "x".repeat(60_000));
        for pid in 0..1_000 {
            chunks.take(&line(0, pid, &long));
            assert!(chunks.bytes() <= MOST_BYTES);
        }
        let mut piece = Piece::Pending;
        let mut one = Chunks::default();
        for n in 1..=200 {
            let text = format!("[{n}/200] {}", "x".repeat(870));
            piece = match one.take(&line(0, 7, &text)) {
                Piece::Whole(_) => Piece::Single,
                Piece::Pending => Piece::Pending,
                other => {
                    assert_eq!(other, Piece::Orphan);
                    Piece::Orphan
                }
            };
        }
        assert_eq!(piece, Piece::Orphan, "longer than any text");
        chunks.take(&line(1_000, 7, "[1/2] a"));
        assert_eq!(chunks.begun().len(), 1, "the old ones are gone");
        chunks.finish();
        assert_eq!(chunks.begun().len(), 0);
    }
}
