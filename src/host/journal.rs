//! Follows the systemd journal through `journalctl --follow`: every entry once and in order, and never silently dead.
//!
//! journalctl is a child like any other: it may be missing, be killed, hang, or not be allowed to read. When it ends it
//! is started again, from the cursor of the last entry read. While nothing comes, a second short-lived one is asked for
//! the newest entry: if there are entries that the first does not deliver, it is ended and started again.
//!
//! It is started with `--cursor`, not `--after-cursor`, and so begins with the entry that was read last. If that is gone
//! (the journal was vacuumed meanwhile) it begins with the next one there is, and the gap is told; `--after-cursor`
//! skips one more entry then, silently (systemd 252). What is vacuumed while it runs is told too, see `gaps`. At the
//! very first start it begins at a time that the caller names. Journals of other machines that are kept here are not read, unless
//! their directory is named. It never stores anything and never interprets a message.

mod asked;
mod export;
mod gaps;
mod keeper;
mod line;
mod place;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::follow::wake;
use super::{clock, exec, files};
use crate::mail::Time;
pub use export::{Broken, Entry, Export, Field};
use gaps::{Gaps, Jump};
use keeper::Keeper;
pub use line::{Filter, IDENTIFIERS};
pub use place::Place;

/// Which journal, and what of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// Where its files are; `None`: the host's own journal.
    pub directory: Option<PathBuf>,
    pub filter: Filter,
    /// What was written before is in a file that is read beside it.
    pub after: Option<Time>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JournalEvent {
    /// Everything that is in the journal was read, at the start or again.
    Well,
    /// It does not come, and why.
    Trouble { why: String },
    /// journalctl was started again.
    Restarted,
    /// Entries are gone that were not read: this many, of all programs, if that can be known, written between the two
    /// times.
    Gap { entries: Option<u64>, after: Time, before: Time },
    /// Messages longer than the limit that were given out cut.
    Cut { messages: u64 },
}

/// What one `read` did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    pub lines: u64,
    /// The budget ended it.
    pub more: bool,
    /// Not everything was read, although nothing is to be had at once.
    pub behind: bool,
}

/// Entries of no interest move the place that is offered only after so many, or so long: each move is a write.
const STRANGERS: u64 = 4096;
const OFFER: Duration = Duration::from_secs(30);
/// What is asked of journalctl for each entry; cursor and time it tells anyway.
const FIELDS: &str = "--output-fields=MESSAGE,SYSLOG_IDENTIFIER,SYSLOG_PID,_PID,_HOSTNAME,_SYSTEMD_UNIT";
/// `look` waits for the answer so long, and shows so many identifiers.
const LOOK: Duration = Duration::from_secs(20);
const SHOWN: usize = 20;
/// Values of a field that are told apart; they come from the journal.
const MAX_VALUES: usize = 500;
const MACHINE: &str = "/etc/machine-id";
/// Files whose rights are looked at.
const MAX_FILES: usize = 1000;

/// One followed journal.
pub struct Journal {
    keeper: Keeper,
    waker: wake::Handle,
    export: Export,
    max_line: usize,
    reading: Reading,
    offered: Vec<u8>,
    offered_at: Instant,
}

/// Takes entries as they come.
struct Reading {
    filter: Filter,
    place: Place,
    /// The stream begins with the entry of the place, if that is still there.
    rejoining: bool,
    line: Vec<u8>,
    lines: u64,
    cut: u64,
    /// Entries since the place was offered last, and all.
    entries: u64,
    delivered: u64,
    /// Found at the start of a journalctl.
    lost: Vec<JournalEvent>,
    /// While one runs.
    gaps: Gaps,
}

impl Journal {
    /// Nothing is started before the first `read`. `saved` is what [`Journal::position`] gave; without it, reading
    /// begins with the first entry that is not older than `since`.
    pub fn new(settings: Settings, max_line: usize, since: Time, saved: Option<&[u8]>, waker: wake::Handle) -> Journal {
        let (since, after) = match settings.after {
            Some(after) => (since.max(after), after),
            None => (since, Time(i64::MIN)),
        };
        // A place from before that time is of an earlier turn: the file has gone on meanwhile.
        let saved = saved.and_then(Place::from_bytes).filter(|place| place.time.max(place.since) >= after);
        let place = saved.unwrap_or_else(|| Place::first(since));
        Journal {
            offered: place.to_bytes(),
            offered_at: clock::monotonic(),
            export: Export::new(max_line),
            max_line,
            reading: Reading {
                filter: settings.filter.clone(),
                place,
                rejoining: false,
                line: Vec::new(),
                lines: 0,
                cut: 0,
                entries: 0,
                delivered: 0,
                lost: Vec::new(),
                gaps: Gaps::default(),
            },
            keeper: Keeper::new(settings, waker.clone()),
            waker,
        }
    }

    /// Reads about `budget` bytes of what journalctl has delivered, and gives out a line for each entry of interest.
    pub fn read(&mut self, budget: usize, on_line: &mut dyn FnMut(&[u8])) -> Progress {
        let (lines, mut bytes) = (self.reading.lines, 0);
        if self.keeper.start(&self.reading.place) {
            // Half an entry of the one before comes again as a whole.
            self.export = Export::new(self.max_line);
            self.reading.rejoining = !self.reading.place.cursor.is_empty();
        }
        while bytes < budget {
            let Some(chunk) = self.keeper.take() else { break };
            bytes += chunk.len();
            let reading = &mut self.reading;
            if let Err(why) = self.export.feed(&chunk, &mut |entry| reading.entry(entry, on_line)) {
                self.keeper.fail(&format!("journalctl does not write the export format: {why}"));
            }
        }
        self.keeper.watch(&self.reading.place, self.reading.delivered);
        let gap = self.reading.gaps.watch(self.keeper.settings(), &self.waker);
        // Entries that we may not see are no gap; that they are hidden is told already.
        self.reading.lost.extend(gap.filter(|_| self.keeper.sees_all()));
        let lines = self.reading.lines - lines;
        let moved = self.reading.entries;
        if lines > 0 || moved >= STRANGERS || (moved > 0 && self.offered_at.elapsed() >= OFFER) {
            self.offered = self.reading.place.to_bytes();
            self.offered_at = clock::monotonic();
            self.reading.entries = 0;
        }
        Progress { lines, more: bytes >= budget, behind: !self.keeper.well() }
    }

    /// The place after the last line given out, or a later one.
    pub fn position(&self) -> Vec<u8> {
        self.offered.clone()
    }

    /// What happened since the last call.
    pub fn take_events(&mut self) -> Vec<JournalEvent> {
        let mut events = std::mem::take(&mut self.keeper.events);
        events.append(&mut self.reading.lost);
        match std::mem::take(&mut self.reading.cut) {
            0 => {}
            messages => events.push(JournalEvent::Cut { messages }),
        }
        events
    }
}

impl Reading {
    fn entry(&mut self, entry: &Entry, on_line: &mut dyn FnMut(&[u8])) {
        self.delivered += 1;
        // journalctl writes a cursor before anything else of an entry.
        let Some(cursor) = entry.get(Field::Cursor) else { return };
        if self.place.has_read(cursor) {
            self.rejoining &= cursor != self.place.cursor;
            return;
        }
        let time = line::time(entry).unwrap_or(self.place.time);
        if std::mem::take(&mut self.rejoining) {
            let entries = self.place.missing(cursor);
            if entries != Some(0) {
                self.lost.push(JournalEvent::Gap { entries, after: self.place.time, before: time });
            }
        } else {
            let entries = self.place.skipped(cursor);
            if entries != Some(0) {
                let last = self.place.cursor.clone();
                self.gaps.note(Jump { last, entries, after: self.place.time, before: time });
            }
        }
        self.place.advance(cursor, time);
        self.entries += 1;
        if self.filter.takes(entry) && line::write(entry, &mut self.line) {
            self.cut += u64::from(entry.cut);
            self.lines += 1;
            on_line(&self.line);
        }
    }
}

/// What every call begins with. `--follow` alone shows the newest boot only (systemd 252, also with `--boot=all`), which
/// would lose what was written before a reboot; `--merge` shows all boots, and all machines. Of these, ours is chosen.
fn argv(settings: &Settings) -> Vec<String> {
    let mut argv: Vec<String> = ["journalctl", "--no-pager", "--output=export", "--merge"].map(str::to_owned).to_vec();
    match &settings.directory {
        Some(directory) => argv.push(format!("--directory={}", directory.display())),
        None => argv.extend(machine().map(|id| format!("_MACHINE_ID={id}"))),
    }
    argv
}

/// This machine's id: of the host's own journal only its entries are read.
pub fn machine() -> Option<String> {
    fs::read_to_string(MACHINE).ok().map(|id| id.trim().to_owned())
}

/// The identifiers in the journal that the filter takes, for people; `None` without any.
///
/// # Errors
/// When journalctl cannot be asked.
pub fn look(settings: &Settings) -> Result<Option<String>, String> {
    let mut known = values(settings, "SYSLOG_IDENTIFIER", |name| settings.filter.names(name))?;
    known.truncate(SHOWN);
    Ok(Some(known.join(", ")).filter(|names| !names.is_empty()))
}

/// When the newest entry was written that would be read; `None` without one.
///
/// # Errors
/// When journalctl cannot be asked.
pub fn newest(settings: &Settings) -> Result<Option<Time>, String> {
    let mut argv = argv(settings);
    // journalctl matches whole values only: those that the patterns mean are looked up.
    let identifiers = values(settings, "SYSLOG_IDENTIFIER", |name| settings.filter.names(name))?;
    let units = match settings.filter.units.is_empty() {
        true => None,
        false => Some(values(settings, "_SYSTEMD_UNIT", |unit| settings.filter.is_of(unit))?),
    };
    if identifiers.is_empty() || units.as_ref().is_some_and(Vec::is_empty) {
        return Ok(None);
    }
    argv.extend(identifiers.iter().map(|name| format!("SYSLOG_IDENTIFIER={name}")));
    argv.extend(units.iter().flatten().map(|unit| format!("_SYSTEMD_UNIT={unit}")));
    Ok(asked::entry(argv)?.map(|found| found.time))
}

/// The values that a field has anywhere in the journal, of those that are wanted; sorted.
fn values(settings: &Settings, field: &str, wanted: impl Fn(&[u8]) -> bool) -> Result<Vec<String>, String> {
    let mut argv = argv(settings);
    // journalctl takes no match beside a field.
    argv.retain(|word| word.starts_with("--") || word == "journalctl");
    argv.push(format!("--field={field}"));
    let output = exec::run(&argv, b"", LOOK).map_err(|why| why.to_string())?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(format!("journalctl ended with {}: {said}", output.status));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let mut known: Vec<String> = text.lines().filter(|value| wanted(value.as_bytes())).map(str::to_owned).collect();
    known.sort_unstable();
    known.truncate(MAX_VALUES);
    Ok(known)
}

/// Why some of the journal's files may not be read, with the group that may; `None` when all may. journalctl itself
/// silently shows the rest.
pub fn denied(directory: Option<&Path>) -> Option<String> {
    let roots = directory.map_or_else(
        || ["/var/log/journal", "/run/log/journal"].map(PathBuf::from).to_vec(),
        |directory| vec![directory.to_owned()],
    );
    let within = |dir: &Path| -> Vec<PathBuf> {
        fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).take(MAX_FILES).collect()
    };
    let all: Vec<PathBuf> = roots.iter().flat_map(|root| within(root)).collect();
    // A directory that may not be listed shows no files at all.
    let closed = roots.iter().chain(&all).filter(|path| path.is_dir()).find_map(|path| files::explain_denied(path));
    let files = all.iter().flat_map(|path| if path.is_dir() { within(path) } else { vec![path.clone()] });
    let mut journals = files.filter(|path| path.extension().is_some_and(|end| end == "journal")).take(MAX_FILES);
    closed.or_else(|| journals.find_map(|path| files::explain_denied(&path)))
}

#[cfg(test)]
mod tests;
