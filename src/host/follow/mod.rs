//! Follows one log path through rotation, truncation, deletion and absence: every line once and in order.
//!
//! Plain blocking code for the pump thread. It never waits (see `wake`), never stores anything, never interprets a
//! line. What cannot be read any more is reported as [`FollowEvent::LinesLost`], never passed over in silence.
//!
//! **Running**, the file being read and all that follow it are held open, so nothing seen can be lost and nothing is
//! in doubt. A file is left only when a later one has bytes: the writer may go on with the old descriptor until it is
//! told to reopen. A file that shrank, or no longer carries the bytes read last, was rewritten in place: its copy is
//! looked for (the first bytes and the last 256 read), finished, and then the file is read from its first byte.
//!
//! **At the very first look** the rotated files that were modified since [`Settings::past_since`] are read before the
//! log, oldest first by their names. What lies in another file altogether (packed beside its original, or copied) is
//! left out, at every look: see `print`. Of very many files some are held, the others wait in the directory.
//!
//! **After a restart** the file of the saved position is the one with its device, inode and birth if its bytes fit;
//! else the *oldest* of the family whose bytes fit and which was not last modified before the position was taken. If
//! there is none, lines may be lost: that is reported, and only files modified later are read. Nothing is decided
//! while the path is missing: a rotation may be half done. Files must keep their time when compressed, as they do.
//!
//! **What nobody can decide**, and what is done: a file rewritten in place to the very bytes that were read so far is
//! read on (its remaining lines are lost unseen; so are lines written and destroyed between two looks). After a
//! restart, a file gone *may* have held unread lines: it is reported although perhaps nothing is lost. Files that
//! agree in all bytes up to the position are told apart by inode, then the oldest is taken. Log lines carry stamps, so
//! these need a file of which next to nothing was read.

mod chain;
mod compare;
mod lines;
pub mod position;
mod print;
mod resume;
mod rotated;
mod source;
pub mod wake;

use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};

use crate::host::{files, unpack};
use crate::mail::Time;
pub use chain::Waiting;
use chain::{Chain, Held};
use lines::Lines;
pub use position::Position;
use position::{HEAD, Id};
use print::Prints;
pub use print::doubles;
use rotated::listable;
pub use rotated::{Rotated, rotated};
use source::Source;
use wake::Stop;

/// How one log is followed.
#[derive(Debug, Clone)]
pub struct Settings {
    pub path: PathBuf,
    /// Longest line given out, in bytes; the rest is skipped and counted.
    pub max_line: usize,
    /// Bytes per read.
    pub read_chunk: usize,
    /// A log without a position is read from here on: rotated files last modified before are not. `Time(i64::MAX)`:
    /// from the live file on, `Time(i64::MIN)`: from the oldest there is.
    pub past_since: Time,
    /// Set when the agent is to end: what may take long is given up then, and nothing is decided.
    pub stop: Stop,
}

impl Settings {
    pub fn new(path: impl Into<PathBuf>) -> Settings {
        Settings {
            path: path.into(),
            max_line: 64 * 1024,
            read_chunk: 512 * 1024,
            past_since: Time(i64::MAX),
            stop: Stop::default(),
        }
    }
}

/// What one `read` did. `more`: the budget ended it, or a new file was entered; not the end of the log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    pub lines: u64,
    pub bytes: u64,
    pub more: bool,
    /// Whether a file is open at all.
    pub open: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FollowEvent {
    /// A file was entered at an offset and none of its lines given out yet; stamps without a year now refer to
    /// [`Follower::reference_time`].
    Entered {
        path: PathBuf,
        offset: u64,
    },
    /// The log was rotated: what it is now follows.
    Rotated,
    /// A rotated file was read to its end and the next one follows.
    Finished {
        path: PathBuf,
    },
    /// What could not be read can be read again.
    Recovered,
    /// The open file was cut or rewritten in place.
    Truncated,
    /// The path does not exist (told once per disappearance).
    Disappeared,
    /// Unread lines are gone: at least `bytes` bytes of them; 0 when it cannot be known how many, or whether any.
    LinesLost {
        /// The log, or the one of its files that they were in.
        path: PathBuf,
        reason: &'static str,
        bytes: u64,
    },
    /// Lines longer than `max_line` that were given out cut.
    LineCut {
        count: u64,
    },
    Unreadable {
        why: String,
    },
    IsDirectory,
}

#[derive(Debug, thiserror::Error)]
#[error("reading {path}: {why}; it will be tried again", path = path.display())]
pub struct FollowError {
    pub path: PathBuf,
    #[source]
    pub why: io::Error,
}

/// The file being read.
struct Open {
    source: Source,
    path: PathBuf,
    id: Id,
    /// As the file system says; and never before that of any file read earlier.
    mtime: i64,
    newest: i64,
    /// Bytes it was seen to have.
    seen: u64,
    /// A compressed file ends where it is broken.
    broken: bool,
}

/// One followed log.
pub struct Follower {
    settings: Settings,
    open: Option<Open>,
    chain: Chain,
    prints: Prints,
    lines: Lines,
    /// The end of the last file something was consumed of; `None` before the log was ever looked for.
    saved: Option<Position>,
    events: Vec<FollowEvent>,
    /// What keeps the path from being read, so that it is told once.
    trouble: Option<FollowEvent>,
    /// Consecutive reads that failed.
    failures: u32,
}

/// So many reads of a file may fail before it is given up for the next one. At a poll each 100 ms: half a minute.
const PATIENCE: u32 = 300;

enum Filled {
    Bytes(usize),
    End,
    Rewritten,
}

impl Follower {
    pub fn new(settings: Settings, saved: Option<Position>) -> Follower {
        Follower {
            prints: Prints::new(settings.stop.clone()),
            settings,
            open: None,
            chain: Chain::default(),
            lines: Lines::default(),
            saved,
            events: Vec::new(),
            trouble: None,
            failures: 0,
        }
    }

    /// Reads about `budget` bytes and gives out each complete line without its newline. Returns early, with `more`,
    /// after entering a file, so that the caller can take the events before its first line.
    ///
    /// # Errors
    /// When an opened file cannot be read. The place is kept; the next call tries again.
    pub fn read(&mut self, budget: usize, on_lines: &mut dyn FnMut(&[&[u8]])) -> Result<Progress, FollowError> {
        let mut progress = Progress::default();
        self.look();
        if self.open.is_none() {
            progress.open = self.resume()?;
            progress.more = progress.open;
            return Ok(progress);
        }
        progress.open = true;
        // What was read on entering.
        self.give(&mut progress, on_lines);
        let mut looked = false;
        while progress.bytes < budget as u64 {
            match self.fill()? {
                Filled::Bytes(n) => {
                    looked = false;
                    progress.bytes += n as u64;
                    self.give(&mut progress, on_lines);
                }
                Filled::Rewritten => {
                    progress.more = self.rewritten()?;
                    return Ok(progress);
                }
                Filled::End if !self.chain.has_bytes() => return Ok(progress),
                // Between the last reading and the look at the directory more may have come: once more.
                Filled::End if !looked => {
                    looked = true;
                    // Of very many files, one that is not held may be renamed at this moment: not past it. Those held
                    // were rotated long ago: the directory need not be looked at for each of them.
                    if !self.chain.is_busy() && !self.refresh() && !self.chain.is_complete() {
                        return Ok(progress);
                    }
                }
                // Not blindly: a copy of the next file may have come before it.
                Filled::End if !listable(&self.settings.path) => return Ok(progress),
                Filled::End => {
                    progress.lines += self.lines.flush(on_lines);
                    self.next()?;
                    progress.more = true;
                    return Ok(progress);
                }
            }
        }
        progress.more = true;
        Ok(progress)
    }

    /// The place after the last line given out. While nothing of a file was given out: the end of the one before.
    pub fn position(&self) -> Position {
        match (&self.open, self.saved) {
            (Some(open), _) if self.lines.offset() > 0 => self.mark(open),
            (_, saved) => saved.unwrap_or_default(),
        }
    }

    /// What happened since the last call.
    pub fn take_events(&mut self) -> Vec<FollowEvent> {
        std::mem::take(&mut self.events)
    }

    /// Modification time of the file being read: the reference for stamps without a year.
    pub fn reference_time(&self) -> Option<Time> {
        self.open.as_ref().map(|o| Time(o.mtime))
    }

    /// The file being read.
    pub fn reading(&self) -> Option<&std::path::Path> {
        self.open.as_ref().map(|o| o.path.as_path())
    }

    /// The files after the one being read.
    pub fn waiting(&self) -> Waiting {
        self.chain.waiting()
    }

    /// Bytes on the disk that were not read yet, of the open file and of those after it. Of a packed file that is its
    /// packed size, known to a read of the decoder.
    pub fn backlog_bytes(&self) -> u64 {
        let open = self.open.as_ref().filter(|o| !o.broken).map_or(0, |o| {
            let size = o.source.file().metadata().map_or(0, |m| m.len());
            size.saturating_sub(o.source.consumed(self.lines.offset()))
        });
        open + self.chain.waiting().bytes
    }

    fn give(&mut self, progress: &mut Progress, on_lines: &mut dyn FnMut(&[&[u8]])) {
        let given = self.lines.give(self.settings.max_line, on_lines);
        progress.lines += given.lines;
        if given.cut > 0 {
            self.events.push(FollowEvent::LineCut { count: given.cut });
        }
    }

    fn mark(&self, open: &Open) -> Position {
        let offset = self.lines.offset();
        let head = self.lines.head();
        let head = head.get(..usize::try_from(offset).unwrap_or(HEAD).min(head.len())).unwrap_or_default();
        let skipping = self.lines.skipping;
        Position { skipping, ..Position::of(open.id, offset, head, self.lines.tail(), open.newest) }
    }

    /// Reads the next bytes of the open file and makes sure that they follow those read before.
    fn fill(&mut self) -> Result<Filled, FollowError> {
        let Some(open) = self.open.as_mut().filter(|o| !o.broken) else { return Ok(Filled::End) };
        let filled = self.lines.fill(&mut open.source, self.settings.read_chunk.max(1));
        let checked = filled.and_then(|n| {
            // After the reading: what is still in place now was in place meanwhile.
            let same = unchanged(open, &self.lines, n);
            if !matches!(same, Ok(true)) {
                self.lines.unfill(n);
                open.source.unread(n);
            }
            same.map(|same| (n, same))
        });
        match checked {
            Ok((n, same)) => {
                if std::mem::take(&mut self.failures) > 0 && self.trouble.is_none() {
                    self.events.push(FollowEvent::Recovered);
                }
                Ok(match (n, same) {
                    (_, false) => Filled::Rewritten,
                    (0, true) => Filled::End,
                    (n, true) => Filled::Bytes(n),
                })
            }
            Err(why) => self.failed(why),
        }
    }

    fn failed(&mut self, why: io::Error) -> Result<Filled, FollowError> {
        let position = self.position();
        let Some(open) = self.open.as_mut() else { return Ok(Filled::End) };
        if !open.source.is_plain() && unpack::is_damage(&why) {
            open.broken = true;
            let path = open.path.clone();
            self.lose_of(path, "a compressed file is damaged", 0);
            return Ok(Filled::End);
        }
        self.failures += 1;
        if self.failures > PATIENCE && self.chain.has_bytes() {
            open.broken = true;
            let path = open.path.clone();
            self.lose_of(path, "a file could not be read for long and another follows", 0);
            return Ok(Filled::End);
        }
        let path = open.path.clone();
        // A decoder cannot be asked again, nor a descriptor that its file server forgot: both are opened anew.
        if !open.source.is_plain() || rustix::io::Errno::from_io_error(&why) == Some(rustix::io::Errno::STALE) {
            self.saved = Some(position);
            self.open = None;
            self.chain.clear();
        }
        Err(FollowError { path, why })
    }

    /// Leaves the open file, if any, for the next one held.
    fn next(&mut self) -> Result<bool, FollowError> {
        let Some(next) = self.chain.front() else { return Ok(false) };
        let enter = || source::enter(next.file.try_clone()?, 0, None, &self.settings.stop);
        let entry = match enter() {
            Ok(entry) => entry,
            Err(why) => {
                let path = next.path.clone();
                self.failures += 1;
                if self.failures > PATIENCE && self.chain.len() > 1 {
                    self.failures = 0;
                    self.chain.pop();
                    self.lose_of(path.clone(), "a file could not be read for long and another follows", 0);
                }
                return Err(FollowError { path, why });
            }
        };
        let (Some(entry), Some(next)) = (entry, self.chain.pop()) else { return Ok(false) };
        let floor = self.open.as_ref().map_or_else(|| self.saved.map_or(i64::MIN, |s| s.mtime), |o| o.newest);
        if let Some(open) = &self.open {
            let rotated = open.path == self.settings.path;
            let finished = FollowEvent::Finished { path: open.path.clone() };
            self.events.push(if rotated { FollowEvent::Rotated } else { finished });
            self.saved = Some(self.position());
        }
        let size = entry.meta.len();
        if size < next.seen {
            self.lose_of(next.path.clone(), "a file was cut before it was read", next.seen);
        }
        self.adopt(next.path, entry, 0, false, floor);
        Ok(true)
    }

    fn adopt(&mut self, path: PathBuf, entry: source::Entry, offset: u64, skipping: bool, floor: i64) {
        let mtime = source::mtime(&entry.meta);
        self.lines.enter(offset, entry.head, &entry.tail, skipping);
        self.events.push(FollowEvent::Entered { path: path.clone(), offset });
        self.trouble = None;
        self.failures = 0;
        self.open = Some(Open {
            source: entry.source,
            path,
            id: source::id(&entry.meta),
            mtime,
            newest: mtime.max(floor),
            seen: 0,
            broken: false,
        });
        // Known by its bytes from the first moment. A failure comes again when it is read.
        let _ = self.fill();
    }

    /// The open file was rewritten in place: its copy comes first, if there is one. False when that is not decided.
    fn rewritten(&mut self) -> Result<bool, FollowError> {
        let copy = self.copy();
        if matches!(copy, Ok(None)) && self.live().is_none() {
            return Ok(false);
        }
        let (offset, skipping) = (self.lines.offset(), self.lines.skipping);
        let Some(open) = self.open.as_mut() else { return Ok(false) };
        let failed = |why| FollowError { path: open.path.clone(), why };
        let again = open.source.file().try_clone().map_err(failed)?;
        let (path, id, newest) = (open.path.clone(), open.id, open.newest);
        let lost = open.seen.saturating_sub(offset);
        match copy.map_err(failed)? {
            Some((copy, entry)) => {
                self.chain.push_front(Held { file: again, path, id, seen: 0 });
                self.events.push(FollowEvent::Truncated);
                self.adopt(copy, entry, offset, skipping, newest);
            }
            None => {
                self.chain.push_front(Held { file: again, path, id, seen: 0 });
                self.events.push(FollowEvent::Truncated);
                self.lose("the log was cut or rewritten and no copy of it is left", lost);
                // Where we were is nowhere now: it is not looked for again. Rewritten twice, copies may come first.
                self.open = None;
                self.saved = Some(Position::since(newest));
                return self.resume();
            }
        }
        Ok(true)
    }

    fn lose(&mut self, reason: &'static str, bytes: u64) {
        self.lose_of(self.settings.path.clone(), reason, bytes);
    }

    fn lose_of(&mut self, path: PathBuf, reason: &'static str, bytes: u64) {
        self.events.push(FollowEvent::LinesLost { path, reason, bytes });
    }

    /// What stands at the path itself, if it is a file.
    fn live(&mut self) -> Option<Metadata> {
        match fs::metadata(&self.settings.path) {
            Ok(meta) if meta.is_file() => return Some(meta),
            Ok(_) => self.complain(FollowEvent::IsDirectory),
            Err(e) if e.kind() == io::ErrorKind::NotFound => self.complain(FollowEvent::Disappeared),
            Err(e) => self.complain(unreadable(&self.settings.path, &e)),
        }
        None
    }

    fn recovered(&mut self) {
        if self.trouble.take().is_some() {
            self.events.push(FollowEvent::Recovered);
        }
    }

    fn complain(&mut self, event: FollowEvent) {
        if self.trouble.as_ref() != Some(&event) {
            self.trouble = Some(event.clone());
            self.events.push(event);
        }
    }
}

/// Whether the open file still has the bytes read before the newest `n`; notes its size and time if so.
fn unchanged(open: &mut Open, lines: &Lines, n: usize) -> io::Result<bool> {
    if !open.source.is_plain() {
        return Ok(true);
    }
    let file = open.source.file();
    // The time before the bytes: that of a rewriting must never be taken for that of the bytes.
    let meta = file.metadata()?;
    let (at, bytes) = lines.read_before(n);
    let longer = meta.len() >= open.seen.max(lines.end());
    let same = longer && source::carries(file, at, bytes)? && source::carries(file, 0, lines.head())?;
    if same {
        open.mtime = source::mtime(&meta);
        open.newest = open.newest.max(open.mtime);
        open.seen = meta.len();
    }
    Ok(same)
}

#[cfg(test)]
mod tests;

/// What keeps a file from being read, and, where its rights do, who may read it.
fn unreadable(path: &Path, why: &io::Error) -> FollowEvent {
    let denied = if why.kind() == io::ErrorKind::PermissionDenied { files::explain_denied(path) } else { None };
    FollowEvent::Unreadable { why: denied.unwrap_or_else(|| format!("{}: {why}", path.display())) }
}
