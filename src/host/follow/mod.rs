//! Follows one log path through rotation, truncation, deletion and absence: every line once and in order.
//!
//! Plain blocking code for the pump thread. It never waits (see `wake`), never stores anything, never interprets a
//! line. What cannot be read any more is reported as [`FollowEvent::LinesLost`], never passed over in silence.
//!
//! After a rename the old file stays open until the new one has bytes: the writer may go on with the old descriptor
//! until it is told to reopen.

mod lines;
pub mod position;
pub mod rotated;
mod source;
pub mod wake;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::host::clock;
use crate::mail::Time;
use lines::Lines;
pub use position::{Before, Mark, Position};
use position::{HEAD, fnv};
use rotated::{Sibling, siblings};
use source::{Source, carries, enter, enter_at, ids};

/// How one log is followed.
#[derive(Debug, Clone)]
pub struct Settings {
    pub path: PathBuf,
    /// Longest line given out, in bytes; the rest is skipped and counted.
    pub max_line: usize,
    /// Bytes per read.
    pub read_chunk: usize,
    /// Without a saved position: begin at the first byte instead of at the end.
    pub from_start: bool,
}

impl Settings {
    pub fn new(path: impl Into<PathBuf>) -> Settings {
        Settings { path: path.into(), max_line: 64 * 1024, read_chunk: 512 * 1024, from_start: true }
    }
}

/// What one `read` did. `more`: the budget ended it, not the log.
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
    /// A file was entered at an offset; stamps without a year now refer to `Follower::reference_time`.
    Entered {
        path: PathBuf,
        offset: u64,
    },
    /// A file was finished and the next one follows.
    Rotated,
    /// The open file was cut or rewritten in place.
    Truncated,
    /// The path does not exist (told once per disappearance).
    Disappeared,
    /// What we had read up to is nowhere any more; how many lines followed there cannot be known.
    LinesLost {
        reason: &'static str,
    },
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

struct Open {
    source: Source,
    path: PathBuf,
    dev: u64,
    ino: u64,
    mtime: i64,
}

/// One followed log.
pub struct Follower {
    settings: Settings,
    open: Option<Open>,
    lines: Lines,
    /// The place to go to when nothing is open; `None` before the first file was ever seen.
    saved: Option<Position>,
    before: Before,
    events: Vec<FollowEvent>,
    /// What keeps the path from being read, so that it is told once.
    trouble: Option<FollowEvent>,
    /// Device and inode of a file just seen rewritten in place.
    rewritten: Option<(u64, u64)>,
}

impl Follower {
    pub fn new(settings: Settings, saved: Option<Position>) -> Follower {
        let before = saved.map_or(Before::Unknown, |p| p.before);
        Follower {
            settings,
            open: None,
            lines: Lines::default(),
            saved,
            before,
            events: Vec::new(),
            trouble: None,
            rewritten: None,
        }
    }

    /// Reads about `budget` bytes and gives out each complete line without its newline.
    ///
    /// # Errors
    /// When an opened file cannot be read; the place is kept and the file is entered again by the next call.
    pub fn read(&mut self, budget: usize, on_line: &mut dyn FnMut(&[u8])) -> Result<Progress, FollowError> {
        let mut progress = Progress::default();
        let mut verified = false;
        while progress.bytes < budget as u64 {
            if self.open.is_none() {
                if !self.resume() {
                    return Ok(progress);
                }
                verified = true;
            }
            if !verified && !self.unchanged() {
                self.leave(FollowEvent::Truncated);
                continue;
            }
            verified = true;
            let Some(open) = self.open.as_mut() else { continue };
            let filled = self.lines.fill(&mut open.source, self.settings.read_chunk.max(1));
            let n = match filled {
                Ok(n) => n,
                Err(why) => {
                    let path = open.path.clone();
                    self.saved = Some(self.position());
                    self.open = None;
                    return Err(FollowError { path, why });
                }
            };
            let given = self.lines.give(self.settings.max_line, on_line);
            progress.bytes += n as u64;
            progress.lines += given.lines;
            if given.cut > 0 {
                self.events.push(FollowEvent::LineCut { count: given.cut });
            }
            if n == 0 {
                // Between the reading and the look at the directory more may have come: the successor is looked for
                // first, then the file is read to its end once more, and only then left.
                let Some(next) = self.successor() else { break };
                let Some(open) = self.open.as_mut() else { continue };
                if self.lines.fill(&mut open.source, self.settings.read_chunk.max(1)).unwrap_or(0) > 0 {
                    progress.lines += self.lines.give(self.settings.max_line, on_line).lines;
                    continue;
                }
                progress.lines += self.lines.flush(on_line);
                self.before = Before::File(self.mark());
                self.open = None;
                self.saved = Some(Position { before: self.before, ..Position::default() });
                self.lines.enter(0, Vec::new(), &[], false);
                self.events.push(FollowEvent::Rotated);
                self.enter_start(&next);
            }
        }
        progress.open = self.open.is_some();
        progress.more = progress.bytes >= budget as u64;
        Ok(progress)
    }

    /// The place after the last line given out. Before any file was seen: the place that was saved.
    pub fn position(&self) -> Position {
        match (&self.open, self.saved) {
            (Some(_), _) => Position { at: self.mark(), before: self.before, skipping: self.lines.skipping },
            (None, Some(saved)) => saved,
            (None, None) => Position::default(),
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

    /// Bytes of the open plain file that were not given out yet; rotated files still to come are not included.
    pub fn backlog_bytes(&self) -> u64 {
        let size = self.open.as_ref().and_then(|o| o.source.plain()?.metadata().ok()).map_or(0, |m| m.len());
        size.saturating_sub(self.lines.offset())
    }

    fn mark(&self) -> Mark {
        let offset = self.lines.offset();
        let head = self.lines.head();
        let head = head.get(..usize::try_from(offset).unwrap_or(HEAD).min(head.len())).unwrap_or_default();
        let tail = self.lines.tail();
        let (dev, ino, mtime) = self.open.as_ref().map_or((0, 0, 0), |o| (o.dev, o.ino, o.mtime));
        Mark {
            dev,
            ino,
            offset,
            head: fnv(head),
            tail: fnv(tail),
            mtime,
            head_len: u16::try_from(head.len()).unwrap_or(0),
            tail_len: u16::try_from(tail.len()).unwrap_or(0),
        }
    }

    /// Whether the open file still has the bytes we read from it; also notes its new modification time.
    fn unchanged(&mut self) -> bool {
        let Some(open) = self.open.as_mut() else { return true };
        let Some(file) = open.source.plain() else { return true };
        let (at, bytes) = self.lines.last_read();
        let same = carries(file, at, bytes).unwrap_or(true) && carries(file, 0, self.lines.head()).unwrap_or(true);
        if same && let Ok(meta) = file.metadata() {
            open.mtime = meta.modified().map_or(open.mtime, |t| clock::from_system(t).0);
        }
        same
    }

    fn leave(&mut self, event: FollowEvent) {
        self.saved = Some(self.position());
        self.rewritten = self.open.take().map(|o| (o.dev, o.ino));
        self.events.push(event);
    }

    /// Opens the file in which the saved place is, or the one after it. False when there is nothing to read now.
    fn resume(&mut self) -> bool {
        let live = self.live();
        let old = siblings(&self.settings.path);
        let Some(saved) = self.saved else { return self.begin(live.as_ref(), &old) };
        if saved.at.head_len > 0 {
            let rewritten = std::mem::take(&mut self.rewritten);
            let mut fits: Vec<&Sibling> = live.iter().chain(&old).collect();
            // A file that was just seen rewritten is not ours any more, even if a shorter common beginning fits.
            fits.retain(|s| Some((s.dev, s.ino)) != rewritten);
            // Stable: a file with our inode is asked first, then newest first.
            fits.sort_by_key(|s| (s.dev, s.ino) != (saved.at.dev, saved.at.ino));
            if let Some((path, entry)) = fits.iter().find_map(|s| Some((&s.path, enter_at(&s.path, &saved.at)?))) {
                let path = path.clone();
                self.adopt(&path, entry, saved.at.offset, saved.skipping);
                return true;
            }
            if live.is_none() {
                // Nothing is decided while the path is missing: a rename may be half done.
                return false;
            }
            self.events.push(FollowEvent::LinesLost { reason: "the file read last is gone or rewritten" });
        }
        let next = match saved.before {
            Before::Unknown => None,
            Before::Nothing => old.iter().rev().find(|s| s.size > 0),
            Before::File(mark) => after(&old, &mark),
        };
        match next.map(|s| s.path.clone()).or_else(|| live.map(|s| s.path)) {
            Some(path) => self.enter_start(&path),
            None => false,
        }
    }

    /// The very first file.
    fn begin(&mut self, live: Option<&Sibling>, old: &[Sibling]) -> bool {
        self.before = match old.first() {
            None => Before::Nothing,
            Some(newest) => end_mark(newest).map_or(Before::Unknown, Before::File),
        };
        let Some(live) = live else {
            if self.trouble == Some(FollowEvent::Disappeared) {
                // From here on everything is new: whatever appears is read from its first byte.
                self.saved = Some(Position { before: self.before, ..Position::default() });
            }
            return false;
        };
        if self.settings.from_start {
            return self.enter_start(&live.path);
        }
        match enter(&live.path, live.size) {
            Ok(Some(entry)) => {
                let skipping = entry.tail.last().is_some_and(|b| *b != b'\n');
                self.adopt(&live.path, entry, live.size, skipping);
                true
            }
            _ => false,
        }
    }

    fn enter_start(&mut self, path: &Path) -> bool {
        match enter(path, 0) {
            Ok(Some(entry)) => {
                self.adopt(path, entry, 0, false);
                true
            }
            Ok(None) => false,
            Err(why) => {
                self.complain(FollowEvent::Unreadable { why: format!("{}: {why}", path.display()) });
                false
            }
        }
    }

    fn adopt(&mut self, path: &Path, entry: source::Entry, offset: u64, skipping: bool) {
        let (dev, ino) = ids(&entry.meta);
        let mtime = entry.meta.modified().map_or(0, |t| clock::from_system(t).0);
        self.lines.enter(offset, entry.head, &entry.tail, skipping);
        self.open = Some(Open { source: entry.source, path: path.to_owned(), dev, ino, mtime });
        self.trouble = None;
        self.events.push(FollowEvent::Entered { path: path.to_owned(), offset });
    }

    /// The file that follows the open one, once that one is out of place and the next has bytes.
    fn successor(&mut self) -> Option<PathBuf> {
        let live = self.live();
        let open = self.open.as_ref()?;
        if live.as_ref().is_some_and(|l| (l.dev, l.ino) == (open.dev, open.ino)) {
            return None;
        }
        let old = siblings(&self.settings.path);
        let mut mark = self.mark();
        mark.mtime = open.mtime;
        let next = match old.iter().position(|s| (s.dev, s.ino) == (open.dev, open.ino)) {
            Some(i) => old.get(..i)?.iter().rev().find(|s| s.size > 0),
            None => after(&old, &mark),
        };
        next.map(|s| s.path.clone()).or_else(|| live.filter(|l| l.size > 0).map(|l| l.path))
    }

    /// The file at the path itself.
    fn live(&mut self) -> Option<Sibling> {
        match fs::metadata(&self.settings.path) {
            Ok(meta) if meta.is_file() => Some(Sibling::live(&self.settings.path, &meta)),
            Ok(_) => self.complain(FollowEvent::IsDirectory),
            Err(e) if e.kind() == io::ErrorKind::NotFound => self.complain(FollowEvent::Disappeared),
            Err(e) => self.complain(FollowEvent::Unreadable { why: format!("{}: {e}", self.settings.path.display()) }),
        }
    }

    fn complain(&mut self, event: FollowEvent) -> Option<Sibling> {
        if self.trouble.as_ref() != Some(&event) {
            self.trouble = Some(event.clone());
            self.events.push(event);
        }
        None
    }
}

/// The oldest file with bytes that is newer than the marked one; without the marked one, the times decide.
fn after<'a>(old: &'a [Sibling], mark: &Mark) -> Option<&'a Sibling> {
    let known = |s: &Sibling| mark.head_len > 0 && s.size > 0 && enter_at(&s.path, mark).is_some();
    let newer = match old.iter().position(known) {
        Some(i) => old.get(..i)?,
        None => old.get(..old.iter().take_while(|s| s.mtime > mark.mtime).count())?,
    };
    newer.iter().rev().find(|s| s.size > 0)
}

/// A mark at the end of a plain file we never read.
fn end_mark(file: &Sibling) -> Option<Mark> {
    let entry = enter(&file.path, file.size).ok()??;
    entry.source.plain()?;
    let (head_len, tail_len) = (u16::try_from(entry.head.len()).ok()?, u16::try_from(entry.tail.len()).ok()?);
    let (head, tail) = (fnv(&entry.head), fnv(&entry.tail));
    let (dev, ino) = (file.dev, file.ino);
    Some(Mark { dev, ino, offset: file.size, head, tail, mtime: file.mtime, head_len, tail_len })
}
