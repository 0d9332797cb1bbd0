//! Keeps journalctl running, and knows whether it delivers.
//!
//! It never looks into entries: it is told what was read.

use std::time::{Duration, Instant};

use super::asked::Asker;
use super::place::Place;
use super::{JournalEvent, Settings};
use crate::host::clock;
use crate::host::exec::{Running, Taken};
use crate::host::follow::wake;
use crate::mail::Time;

/// While nothing comes, the newest entry is asked for this often; idle, this is all that it costs.
const BEAT: Duration = Duration::from_secs(12);
/// While it is not known that all is well: this often.
const CLOSER: Duration = Duration::from_secs(3);
/// Before journalctl is started again; doubled up to the other while it goes on ending.
const BACK_OFF: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);
/// Started so often for nothing, it reads from the beginning: what was read is known and not given out again.
const IN_VAIN: u32 = 2;

pub(super) struct Keeper {
    settings: Settings,
    waker: wake::Handle,
    running: Option<Running>,
    /// When it is to be started; passed at first.
    due: Instant,
    back_off: Duration,
    starts: u64,
    /// Ends for delivering nothing, one after the other.
    stalls: u32,
    newest: Option<Asker>,
    asked: Option<Instant>,
    heard: Instant,
    /// An entry that was not read when it was the newest, and how many had been delivered then.
    expected: Option<(Vec<u8>, u64)>,
    /// Why parts of the journal cannot be seen at all.
    denied: Option<String>,
    well: bool,
    trouble: Option<String>,
    pub events: Vec<JournalEvent>,
}

impl Keeper {
    pub fn new(settings: Settings, waker: wake::Handle) -> Keeper {
        let now = clock::monotonic();
        Keeper {
            settings,
            waker,
            running: None,
            due: now,
            back_off: BACK_OFF,
            starts: 0,
            stalls: 0,
            newest: None,
            asked: None,
            heard: now,
            expected: None,
            denied: None,
            well: false,
            trouble: None,
            events: Vec::new(),
        }
    }

    /// Everything that is in the journal was read.
    pub fn well(&self) -> bool {
        self.well
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// No part of the journal is known to be hidden from us.
    pub fn sees_all(&self) -> bool {
        self.denied.is_none()
    }

    /// Starts it behind `place` if it does not run and the time has come; true when it was started.
    pub fn start(&mut self, place: &Place) -> bool {
        if self.running.is_some() || clock::monotonic() < self.due {
            return false;
        }
        self.denied = super::denied(self.settings.directory.as_deref());
        if let Some(why) = self.denied.clone() {
            self.complain(why);
        }
        let mut argv = super::argv(&self.settings);
        argv.extend(["--follow", "--no-tail", super::FIELDS].map(str::to_owned));
        // Only one of the two may be given.
        if !place.cursor.is_empty() && self.stalls < IN_VAIN {
            argv.push(format!("--cursor={}", String::from_utf8_lossy(&place.cursor)));
        } else if place.since > Time::default() {
            // Seconds since 1970 mean the same in every time zone.
            let (secs, micros) = (place.since.0.div_euclid(1_000_000), place.since.0.rem_euclid(1_000_000));
            argv.push(format!("--since=@{secs}.{micros:06}"));
        }
        let waker = self.waker.clone();
        match Running::start(&argv, move || waker.ring()) {
            Ok(running) => self.running = Some(running),
            Err(why) => {
                self.later(why.to_string());
                return false;
            }
        }
        self.starts += 1;
        self.heard = clock::monotonic();
        if self.starts > 1 {
            self.events.push(JournalEvent::Restarted);
        }
        true
    }

    /// The next bytes, if there are any.
    pub fn take(&mut self) -> Option<Vec<u8>> {
        match self.running.as_ref()?.take() {
            Taken::Bytes(bytes) => {
                self.heard = clock::monotonic();
                Some(bytes)
            }
            Taken::Nothing => None,
            Taken::End => {
                self.fail("journalctl ended");
                None
            }
        }
    }

    /// Ends it, if it has not ended, and has it started again after a while.
    pub fn fail(&mut self, why: &str) {
        let Some(running) = self.running.take() else { return };
        let said = running.said();
        let status = running.end();
        let said = said.lines().next().map_or_else(String::new, |line| format!(": {line}"));
        self.later(format!("{why} ({status}){said}; it is started again"));
    }

    fn later(&mut self, why: String) {
        self.well = false;
        self.expected = None;
        self.due = clock::monotonic() + self.back_off;
        self.back_off = (self.back_off * 2).min(LONGEST);
        self.complain(why);
    }

    fn complain(&mut self, why: String) {
        if self.trouble.as_ref() != Some(&why) {
            self.events.push(JournalEvent::Trouble { why: why.clone() });
        }
        self.trouble = Some(why);
        self.well = false;
    }

    /// Compares what was read with what there is. To be called with every turn; it asks rarely.
    pub fn watch(&mut self, place: &Place, delivered: u64) {
        if self.expected.as_ref().is_some_and(|(cursor, _)| place.has_read(cursor)) {
            self.fine();
        }
        let answer = self.newest.as_mut().and_then(Asker::answer);
        match answer {
            None => {}
            Some(Err(why)) => self.complain(why),
            Some(Ok(None)) => self.fine(),
            Some(Ok(Some(found))) if place.has_read(&found.cursor) => self.fine(),
            // All there is was never wanted.
            Some(Ok(Some(found))) if place.cursor.is_empty() && found.time < place.since => self.fine(),
            Some(Ok(Some(found))) => match self.expected.take() {
                Some((_, before)) if before == delivered && self.running.is_some() => {
                    self.stalls += 1;
                    self.fail("journalctl delivers nothing although the journal has newer entries");
                }
                _ => self.expected = Some((found.cursor, delivered)),
            },
        }
        let since = |at: Option<Instant>| at.map_or(Duration::MAX, |at| at.elapsed());
        let calm = self.well && self.expected.is_none();
        let (pace, quiet) = if calm { (BEAT, self.heard.elapsed() >= BEAT) } else { (CLOSER, true) };
        if quiet && since(self.asked) >= pace && self.ask() {
            self.asked = Some(clock::monotonic());
        }
    }

    fn ask(&mut self) -> bool {
        if self.newest.is_none() {
            let waker = self.waker.clone();
            match Asker::new(move || waker.ring()) {
                Ok(newest) => self.newest = Some(newest),
                Err(why) => self.complain(format!("cannot watch journalctl: {why}")),
            }
        }
        let argv = super::argv(&self.settings);
        self.newest.as_mut().is_some_and(|newest| newest.ask(argv))
    }

    fn fine(&mut self) {
        self.expected = None;
        if self.running.is_none() {
            return;
        }
        if self.denied.is_some() {
            self.denied = super::denied(self.settings.directory.as_deref());
        }
        if self.denied.is_none() && !self.well {
            (self.well, self.trouble, self.stalls, self.back_off) = (true, None, 0, BACK_OFF);
            self.events.push(JournalEvent::Well);
        }
    }
}
