//! Queue files: the envelope of a message, and which local user handed it in.
//!
//! A file is a row of records: a type byte, the length in groups of seven bits (lowest first, the high bit says that
//! more follow), the data (Postfix's `src/global/rec_type.h`, `record.c`). First the envelope, from `M` the text of the
//! message, from `X` what was taken from its headers, `E` ends it. A milter's edits stand behind the end and are reached
//! by pointers (`p`). Pure, and incremental: [`Reader`] says where the next bytes are wanted.
//!
//! Headers are the sender's words, but for one: pickup(8) writes `Received: by HOST (NAME, from userid UID)` and, on the
//! next line, `id QUEUE-ID; DATE` before all that it was given. Only the first header counts, and only with our id.

#[cfg(test)]
mod tests;

use core::net::IpAddr;

use super::scan;
use crate::mail::{QueueId, Time};

/// The queues whose files are messages, below `queue_directory`.
pub const QUEUES: [&str; 5] = ["maildrop", "incoming", "active", "deferred", "hold"];
/// How many bytes to read at a time. Fewer are taken for the end of the file.
pub const ASK: usize = 16 * 1024;
/// Most that is read of a file until its first header: an envelope of some 10,000 recipients.
pub const MOST_TO_FIRST_HEADER: u64 = 1024 * 1024;
/// Most that is read of a file until its end; a text is jumped over, if the file says how long it is.
pub const MOST: u64 = 64 * 1024 * 1024;

/// Longest address and login kept, and longest line of the first header looked at, in bytes.
const MAX_TEXT: usize = 512;
/// What a read counts at the least, so that a file that leads in circles comes to an end.
const LEAST: u64 = 512;

/// What a queue file says. A field is `None` until it is read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Envelope {
    /// Without angle brackets; empty for the null sender.
    pub sender: Option<Box<[u8]>>,
    /// Recipients that are still to be delivered to, and those that are done.
    pub recipients: u32,
    pub done: u32,
    /// As in qmgr's `size=`; not known while the message comes in.
    pub size: Option<u64>,
    pub arrived: Option<Time>,
    /// `sasl_username`.
    pub login: Option<Box<[u8]>>,
    /// The SMTP client itself, not whom it speaks for (`log_client_address`, by XFORWARD).
    pub client: Option<IpAddr>,
    pub client_port: Option<u16>,
    pub first_header: First,
    pub end: End,
}

/// What the first header says of who handed the message in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum First {
    #[default]
    Unread,
    /// This user, says pickup(8).
    Uid(u32),
    /// It is not pickup's.
    Other,
    /// It looks like pickup's, but names another message.
    Foreign,
}

/// How reading came to an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum End {
    /// It did not: all that was wanted is known.
    #[default]
    Stopped,
    /// At the end record: the message is whole.
    Whole,
    /// The file ends before.
    Cut,
    /// What stands there is no queue file.
    Broken,
    /// More than [`MOST_TO_FIRST_HEADER`] or [`MOST`].
    TooLong,
}

/// How far to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    FirstHeader,
    End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Envelope,
    FirstLine,
    /// The first line named this user.
    SecondLine(u32),
    Text,
    /// Behind the text, when it was jumped over.
    Landing,
    Extracted,
}

enum Next {
    On,
    Jump(u64),
    Done,
}

/// Reads one file, a piece at a time.
#[derive(Debug, Clone)]
pub struct Reader {
    id: QueueId,
    until: Until,
    part: Part,
    offset: u64,
    taken: u64,
    /// Where the text begins and how long it is.
    text: Option<(u64, u64)>,
    line: Vec<u8>,
    envelope: Envelope,
}

impl Reader {
    pub fn new(id: QueueId, until: Until) -> Reader {
        let (offset, taken, text, line) = (0, 0, None, Vec::new());
        Reader { id, until, part: Part::Envelope, offset, taken, text, line, envelope: Envelope::default() }
    }

    /// Where the next [`ASK`] bytes are wanted.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Takes what stands at [`Reader::offset`]; `true` when no more is wanted.
    pub fn feed(&mut self, bytes: &[u8]) -> bool {
        let most = if self.until == Until::End { MOST } else { MOST_TO_FIRST_HEADER };
        self.taken += (bytes.len() as u64).max(LEAST);
        if self.taken > most {
            return self.ended(End::TooLong);
        }
        let mut rest = bytes;
        loop {
            let record = match record(rest) {
                Ok(record) => record,
                Err(Partly::Malformed) => return self.ended(End::Broken),
                Err(Partly::Cut(_)) if bytes.len() < ASK => return self.ended(End::Cut),
                // Longer than a whole piece: its head is enough to know it by.
                Err(Partly::Cut(Some(record))) if rest.len() == bytes.len() => record,
                Err(Partly::Cut(_)) => return false,
            };
            self.offset = self.offset.saturating_add(record.length);
            match self.take(record.kind, record.data) {
                Next::On => {}
                Next::Jump(to) => {
                    self.offset = to;
                    return false;
                }
                Next::Done => return true,
            }
            let Some(behind) = usize::try_from(record.length).ok().and_then(|length| rest.get(length..)) else {
                return false;
            };
            rest = behind;
        }
    }

    /// What was read so far.
    pub fn envelope(self) -> Envelope {
        self.envelope
    }

    fn ended(&mut self, end: End) -> bool {
        self.envelope.end = end;
        true
    }

    fn take(&mut self, kind: u8, data: &[u8]) -> Next {
        match (kind, self.part) {
            (b'p', _) => match digits(data.trim_ascii()) {
                // Room that was kept for a pointer.
                Some(0) => Next::On,
                Some(to) => Next::Jump(to),
                None => self.broken(),
            },
            // Deleted text, and the room kept behind short headers.
            (b'w', _) => Next::On,
            (b'E', Part::Envelope | Part::Extracted) => {
                self.envelope.end = End::Whole;
                Next::Done
            }
            (b'M', Part::Envelope) => {
                self.part = Part::FirstLine;
                Next::On
            }
            (b'X', _) => {
                if matches!(self.part, Part::FirstLine | Part::SecondLine(_)) {
                    self.envelope.first_header = First::Other;
                }
                self.part = Part::Extracted;
                if self.until == Until::FirstHeader { Next::Done } else { Next::On }
            }
            (_, Part::Landing) => self.broken(),
            (b'N' | b'L', Part::FirstLine | Part::SecondLine(_)) => self.first_header(kind, data),
            (_, Part::FirstLine | Part::SecondLine(_) | Part::Text) => Next::On,
            (_, Part::Envelope | Part::Extracted) => {
                self.fact(kind, data);
                Next::On
            }
        }
    }

    fn broken(&mut self) -> Next {
        self.envelope.end = End::Broken;
        Next::Done
    }

    fn first_header(&mut self, kind: u8, data: &[u8]) -> Next {
        let room = MAX_TEXT.saturating_sub(self.line.len());
        let fits = data.len() <= room;
        self.line.extend_from_slice(data.get(..room).unwrap_or(data));
        // A long line goes on in the next record.
        if kind == b'L' && fits {
            return Next::On;
        }
        let line = core::mem::take(&mut self.line);
        let found = match self.part {
            _ if !fits => First::Other,
            Part::SecondLine(uid) if names(&line, self.id) => First::Uid(uid),
            Part::SecondLine(_) => First::Foreign,
            _ => match submitter(&line) {
                Some(uid) => {
                    self.part = Part::SecondLine(uid);
                    return Next::On;
                }
                None => First::Other,
            },
        };
        self.envelope.first_header = found;
        if self.until == Until::FirstHeader {
            return Next::Done;
        }
        self.part = Part::Text;
        match self.text {
            Some((begin, size)) if size > 0 => {
                self.part = Part::Landing;
                Next::Jump(begin.saturating_add(size))
            }
            _ => Next::On,
        }
    }

    fn fact(&mut self, kind: u8, data: &[u8]) {
        let envelope = &mut self.envelope;
        match kind {
            b'R' => envelope.recipients = envelope.recipients.saturating_add(1),
            b'D' => envelope.done = envelope.done.saturating_add(1),
            _ if self.part != Part::Envelope => {}
            b'C' => {
                let mut numbers = data.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).map(digits);
                let (size, begin) = (numbers.next().flatten(), numbers.next().flatten());
                envelope.size = size.filter(|size| *size > 0);
                self.text = begin.zip(envelope.size);
            }
            b'T' => envelope.arrived = time(data).or(envelope.arrived),
            b'S' if envelope.sender.is_none() => envelope.sender = Some(kept(data)),
            b'A' => self.attribute(data),
            _ => {}
        }
    }

    fn attribute(&mut self, data: &[u8]) {
        let Some(at) = memchr::memchr(b'=', data) else { return };
        let (name, value) = data.split_at(at);
        let value = value.get(1..).unwrap_or_default();
        match name {
            b"sasl_username" => self.envelope.login = Some(kept(value)).filter(|login| !login.is_empty()),
            b"client_address" => {
                let text = core::str::from_utf8(value).ok();
                let text = text.map(|text| text.strip_prefix("IPv6:").unwrap_or(text));
                self.envelope.client = text.and_then(|text| text.parse::<IpAddr>().ok()).map(|ip| ip.to_canonical());
            }
            b"client_port" => self.envelope.client_port = digits(value).and_then(|port| port.try_into().ok()),
            _ => {}
        }
    }
}

struct Record<'a> {
    kind: u8,
    data: &'a [u8],
    /// With its head.
    length: u64,
}

enum Partly<'a> {
    Malformed,
    /// More must be read; the record as far as it goes, when its head is there.
    Cut(Option<Record<'a>>),
}

/// The first record.
fn record(bytes: &[u8]) -> Result<Record<'_>, Partly<'_>> {
    let (&kind, mut rest) = bytes.split_first().ok_or(Partly::Cut(None))?;
    let (mut length, mut head) = (0u64, 1u64);
    // No more bits than an int has, as in record.c.
    for shift in (0..32).step_by(7) {
        let (&byte, after) = rest.split_first().ok_or(Partly::Cut(None))?;
        (rest, head) = (after, head + 1);
        length |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            if length > i32::MAX as u64 {
                return Err(Partly::Malformed);
            }
            return match rest.get(..length as usize) {
                Some(data) => Ok(Record { kind, data, length: head + length }),
                None => Err(Partly::Cut(Some(Record { kind, data: rest, length: head + length }))),
            };
        }
    }
    Err(Partly::Malformed)
}

/// `Received: by mx.hosting.test (Postfix, from userid 2001)`; host and name are settings (`myhostname`, `mail_name`).
fn submitter(line: &[u8]) -> Option<u32> {
    let rest = line.strip_prefix(b"Received: by ")?.strip_suffix(b")")?;
    let at = memchr::memmem::rfind(rest, b", from userid ")?;
    digits(rest.get(at + b", from userid ".len()..)?)?.try_into().ok()
}

/// `\tid 4jYswH0Jn6z7xJG; Tue, 24 Nov 2026 …`
fn names(line: &[u8], id: QueueId) -> bool {
    let rest = line.strip_prefix(b"\tid ").and_then(|rest| rest.strip_prefix(id.as_bytes()));
    rest.is_some_and(|rest| rest.starts_with(b";"))
}

/// A number and nothing else.
fn digits(text: &[u8]) -> Option<u64> {
    scan::number(text).filter(|(_, rest)| rest.is_empty()).map(|(number, _)| number)
}

/// `1795547743 292820`: seconds and microseconds; older versions leave the latter out.
fn time(data: &[u8]) -> Option<Time> {
    let mut words = data.split(|byte| *byte == b' ');
    let seconds = i64::try_from(digits(words.next()?)?).ok()?;
    let micros = words.next().and_then(digits).filter(|micros| *micros < 1_000_000).unwrap_or(0);
    Some(Time(seconds.checked_mul(1_000_000)?.checked_add(micros as i64)?))
}

fn kept(text: &[u8]) -> Box<[u8]> {
    text.get(..MAX_TEXT).unwrap_or(text).into()
}

/// The directories below a queue's in which a file may be, one below the other: as many of them as `hash_queue_depth`
/// says, for the queues of `hash_queue_names` (`mail_queue_dir`). They are named by the hexadecimal digits of the
/// microseconds in the id.
pub fn hashed(id: QueueId) -> [u8; 5] {
    let text = id.as_bytes();
    let mut names = [b'_'; 5];
    // A long id is seconds (six letters at the least), four letters of microseconds, `z`, inode (mail_queue.h).
    let micros = memchr::memrchr(b'z', text).filter(|at| *at >= 10).and_then(|at| text.get(at - 4..at));
    match micros {
        Some(letters) => {
            let value = letters.iter().fold(0, |value, letter| value * 52 + base52(*letter));
            for (at, name) in names.iter_mut().rev().enumerate() {
                *name = HEX.get((value >> (4 * at)) as usize & 15).copied().unwrap_or(b'_');
            }
        }
        None => names.iter_mut().zip(text).for_each(|(name, letter)| *name = *letter),
    }
    names
}

const HEX: &[u8; 16] = b"0123456789ABCDEF";

/// Digits and consonants, in the order of ASCII (safe_ultostr.c).
fn base52(letter: u8) -> u32 {
    let letters = b"0123456789BCDFGHJKLMNPQRSTVWXYZbcdfghjklmnpqrstvwxyz";
    memchr::memchr(letter, letters).map_or(0, |at| at as u32)
}
