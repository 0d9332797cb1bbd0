//! The tape: what the gate has held or thrown away, written down before the mail server is told so.
//!
//! One line a message, appended with one write: it is there after a SIGKILL, and no answer waits for a disk. The pump
//! follows the tape like any log, and its position is committed with what it read. When all is read and committed, the
//! tape starts afresh. It never says whose a message is: it carries what the gate said.
//!
//! A tape begins with a line that names it, so that a position is never used in a tape that came after.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::mail::{OrderId, Origin, Owner, Place, QueueId, Server, Time};

/// One message that was put on hold by the gate's answer, or thrown away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub at: Time,
    pub server: Server,
    /// What the instance of the mail server calls itself in its log.
    pub instance: Arc<str>,
    pub id: QueueId,
    pub owner: Owner,
    pub order: OrderId,
    pub origin: Origin,
    pub recipients: u32,
    /// It is the first one of this order, which the gate gave because a limit was crossed.
    pub crossed: Option<Crossed>,
    /// It is not on hold: it was thrown away.
    pub lost: Option<Lost>,
}

/// Which rule's limit a message has crossed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Crossed {
    pub rule: Box<str>,
    /// With this message.
    pub observed: u64,
    /// Of a rule for logins: which. Empty else.
    pub login: Box<str>,
}

impl Record {
    /// Where the message is.
    pub fn place(&self) -> Place {
        Place { server: self.server, instance: self.instance.as_bytes().into(), id: self.id }
    }
}

/// Whom a message that was thrown away was from and for, as far as that is written down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    pub sender: Box<[u8]>,
    pub recipients: Vec<Box<[u8]>>,
}

/// How far a tape was read: its name, and the byte after the last whole line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Position {
    pub tape: u64,
    pub offset: u64,
}

/// Longest that a tape grows to. A record has some 110 bytes: more than a million messages held and not read yet, which
/// is what the agent remembers at most.
const MOST: u64 = 128 * 1024 * 1024;
/// Read at a time.
const PIECE: u64 = 256 * 1024;
/// A tape shorter than this is not worth starting afresh.
const WORTH: u64 = if cfg!(test) { 512 } else { 64 * 1024 };
const HEAD: &str = "sendwarden tape ";

#[derive(Debug)]
pub struct Tape {
    path: PathBuf,
    open: Mutex<Open>,
}

#[derive(Debug)]
struct Open {
    file: File,
    tape: u64,
    length: u64,
}

impl Tape {
    /// Opens the tape of a state directory, or begins one; `name` is a number that none had before. What a crash left
    /// of a line is cut off.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn open(state_dir: &Path, name: u64) -> io::Result<Tape> {
        let path = state_dir.join("gate.tape");
        let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o640).open(&path)?;
        let length = file.metadata()?.len();
        let head = read_at(&mut file, 0, 64)?;
        let tape = head.split(|byte| *byte == b'\n').next().and_then(|line| name_of(line).filter(|_| line.len() < 64));
        let mut open = Open { file, tape: tape.unwrap_or_default(), length };
        match tape {
            Some(_) => open.cut_half_a_line()?,
            None => open.begin(name)?,
        }
        Ok(Tape { path, open: Mutex::new(open) })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes it down. When this returns, SIGKILL cannot take it back.
    ///
    /// # Errors
    /// When it cannot be written, or the tape is full because nobody reads it.
    pub fn append(&self, record: &Record) -> io::Result<()> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.length >= MOST {
            return Err(io::Error::new(io::ErrorKind::StorageFull, "the tape is full: it is written, but not read"));
        }
        if open.length == 0 {
            // It was begun afresh when there was no room for its name.
            let name = open.tape;
            open.begin(name)?;
        }
        open.put(record.to_string().as_bytes())
    }

    /// Records after `from`, and the position after them. Lines that are none are left out and counted.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn read(&self, from: Position) -> io::Result<(Vec<Record>, u64, Position)> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let offset = if from.tape == open.tape && from.offset <= open.length { from.offset } else { 0 };
        let length = open.length.saturating_sub(offset).min(PIECE);
        let (tape, bytes) = (open.tape, read_at(&mut open.file, offset, length)?);
        drop(open);
        let end = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        let (mut records, mut bad) = (Vec::new(), 0);
        // No line of ours is that long: it is passed over.
        let whole = if end == 0 && length == PIECE { bytes.len() } else { end };
        let lines = bytes.get(..whole).unwrap_or_default().split(|byte| *byte == b'\n');
        for line in lines.filter(|line| !line.is_empty() && name_of(line).is_none()) {
            match parse(line) {
                Some(record) => records.push(record),
                None => bad += 1,
            }
        }
        Ok((records, bad, Position { tape, offset: offset + whole as u64 }))
    }

    /// Everything up to `committed` is in the store: a tape that has no more starts afresh, under `name`.
    ///
    /// # Errors
    /// Those of the file system; the tape stays as it is.
    pub fn trim(&self, committed: Position, name: u64) -> io::Result<()> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if committed.tape != open.tape || committed.offset != open.length || open.length < WORTH {
            return Ok(());
        }
        open.begin(name)
    }
}

impl Open {
    fn begin(&mut self, name: u64) -> io::Result<()> {
        self.file.set_len(0)?;
        (self.length, self.tape) = (0, name);
        self.put(format!("{HEAD}{name:016x}\n").as_bytes())
    }

    /// All of it, or nothing: half a line would spoil the next one.
    fn put(&mut self, line: &[u8]) -> io::Result<()> {
        match self.file.write_all(line) {
            Ok(()) => {
                self.length += line.len() as u64;
                Ok(())
            }
            Err(why) => {
                self.file.set_len(self.length)?;
                Err(why)
            }
        }
    }

    fn cut_half_a_line(&mut self) -> io::Result<()> {
        let back = self.length.min(4_096);
        let tail = read_at(&mut self.file, self.length - back, back)?;
        let half = tail.iter().rev().take_while(|byte| **byte != b'\n').count() as u64;
        if half > 0 {
            self.length -= half;
            self.file.set_len(self.length)?;
        }
        Ok(())
    }
}

fn read_at(file: &mut File, offset: u64, length: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(offset))?;
    file.take(length).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn name_of(line: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(line.strip_prefix(HEAD.as_bytes())?).ok()?;
    u64::from_str_radix(text, 16).ok()
}

impl std::fmt::Display for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Record { at, server, instance, id, owner, order, origin, recipients, crossed, lost } = self;
        write!(f, "{} {instance} {id} {} {order} {} {recipients}", at.0, owner.0, origin.name())?;
        // Records of the first server had no word for it.
        if *server != Server::Postfix {
            write!(f, " {}", server.name())?;
        }
        if let Some(Crossed { rule, observed, login }) = crossed {
            write!(f, " {CROSSED} {} {observed} {}", Shown(rule.as_bytes()), Shown(login.as_bytes()))?;
        }
        if let Some(Lost { sender, recipients }) = lost {
            write!(f, " {LOST} {}", Shown(sender))?;
            recipients.iter().try_for_each(|to| write!(f, " {}", Shown(to)))?;
        }
        writeln!(f)
    }
}

/// The word behind which stands whom a message that was thrown away was from and for.
const LOST: &str = "discarded";
/// The word behind which stands what limit was crossed.
const CROSSED: &str = "crossed";

/// An address as one word of plain text in angle brackets: what else is in it stands there as `%XX`.
struct Shown<'a>(&'a [u8]);

impl std::fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("<")?;
        for byte in self.0 {
            match byte {
                b'%' => f.write_str("%25")?,
                0x21..=0x7e => write!(f, "{}", char::from(*byte))?,
                _ => write!(f, "%{byte:02X}")?,
            }
        }
        f.write_str(">")
    }
}

fn read_shown(word: &str) -> Option<Box<[u8]>> {
    let mut pieces = word.strip_prefix('<')?.strip_suffix('>')?.split('%');
    let mut address = pieces.next()?.as_bytes().to_vec();
    for piece in pieces {
        let (code, rest) = piece.split_at_checked(2)?;
        address.push(u8::from_str_radix(code, 16).ok()?);
        address.extend_from_slice(rest.as_bytes());
    }
    Some(address.into())
}

fn parse(line: &[u8]) -> Option<Record> {
    let mut words = std::str::from_utf8(line).ok()?.split(' ');
    let mut record = Record {
        server: Server::Postfix,
        at: Time(words.next()?.parse().ok()?),
        instance: words.next().filter(|name| !name.is_empty())?.into(),
        id: QueueId::new(words.next()?.as_bytes())?,
        owner: Owner(words.next()?.parse().ok()?),
        order: words.next()?.parse().ok()?,
        origin: words.next().and_then(|name| Origin::ALL.into_iter().find(|origin| origin.name() == name))?,
        recipients: words.next()?.parse().ok()?,
        crossed: None,
        lost: None,
    };
    let mut next = words.next();
    if let Some(server) = next.and_then(Server::from_name) {
        (record.server, next) = (server, words.next());
    }
    if next == Some(CROSSED) {
        let text = |word: Option<&str>| Some(String::from_utf8(read_shown(word?)?.into()).ok()?.into_boxed_str());
        let rule = text(words.next())?;
        let observed = words.next()?.parse().ok()?;
        record.crossed = Some(Crossed { rule, observed, login: text(words.next())? });
        next = words.next();
    }
    match next {
        None => Some(record),
        Some(LOST) => {
            let sender = read_shown(words.next()?)?;
            let recipients = words.map(read_shown).collect::<Option<_>>()?;
            Some(Record { lost: Some(Lost { sender, recipients }), ..record })
        }
        Some(_) => None,
    }
}

#[cfg(test)]
#[path = "tape_tests.rs"]
mod tests;
