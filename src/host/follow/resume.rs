//! Which file is the one of a position, which files come after it, and where the copy of a rewritten file is.
//!
//! The rules and what is undecidable are told in the module above. It gives out no lines.

use std::fs::File;
use std::io;
use std::path::PathBuf;

use super::chain::Blocked;
use super::position::Position;
use super::rotated::{Family, Sibling, family};
use super::source::{self, Entry};
use super::{FollowError, Follower, unreadable};

const SECOND: i64 = 1_000_000;

impl Follower {
    /// A cheap look at the path: whether a file appeared that is not held yet.
    pub(super) fn look(&mut self) {
        let Some(newest) = self.open.as_ref().map(|o| self.chain.newest().unwrap_or(o.id)) else { return };
        match self.live() {
            Some(meta) if source::id(&meta) == newest => self.recovered(),
            _ if self.chain.is_busy() => {}
            _ => {
                self.refresh();
            }
        }
    }

    /// Takes hold of all files that come after the open one; false when it could not.
    pub(super) fn refresh(&mut self) -> bool {
        let live = self.live();
        let Family { files: mut family, .. } = family(&self.settings.path, live.as_ref());
        let Some(open) = &self.open else { return false };
        let newer = match family.iter().position(|s| s.id == open.id) {
            Some(i) => family.split_off(i + 1),
            // Deleted, moved away or compressed, but held: the times tell.
            None => {
                let mtime = open.source.file().metadata().map_or(open.newest, |m| source::mtime(&m));
                let (old, mut newer) = since(family, mtime);
                family = old;
                let comparing = &mut self.prints.comparing;
                let mut packed = |s: &Sibling| {
                    let packed = |(f, _): (File, _)| comparing.is_packed_from(&f, open.source.file());
                    source::open(&s.path).and_then(packed).unwrap_or(false)
                };
                // Compressed without keeping its time.
                match newer.iter().rposition(&mut packed) {
                    Some(i) => newer.split_off(i + 1),
                    None => newer,
                }
            }
        };
        let Some(newer) = self.prints.distinct(&family, newer) else { return false };
        self.merge(newer)
    }

    /// False when nothing new was taken hold of, because one of them cannot be opened.
    fn merge(&mut self, newer: Vec<Sibling>) -> bool {
        match self.chain.merge(newer, &mut self.prints.comparing) {
            Ok(()) => {
                self.chain.measure();
                return true;
            }
            Err(Blocked { why, .. }) if why.kind() == io::ErrorKind::NotFound => {}
            Err(Blocked { path, why }) => {
                self.complain(unreadable(&path, &why));
            }
        }
        false
    }

    /// Opens the file in which the saved place is, or the one after it. False when there is nothing to read now.
    pub(super) fn resume(&mut self) -> Result<bool, FollowError> {
        let live = self.live();
        let Family { files: family, beyond } = family(&self.settings.path, live.as_ref());
        let saved = self.saved.unwrap_or_else(|| {
            // The very first look: what was rotated before the past began is not ours.
            let old = family.iter().filter(|s| !s.is_live()).map(|s| s.mtime).max();
            Position::since(old.unwrap_or(i64::MIN).min(self.settings.past_since.0))
        });
        let first = self.saved.replace(saved).is_none();
        if first && beyond.iter().any(|mtime| *mtime > saved.mtime) {
            self.lose("there are more rotated files than are looked at", 0);
        }
        if saved.offset > 0 {
            match self.find(&family, &saved) {
                Ok(Some((path, entry))) => {
                    self.adopt(path, entry, saved.offset, saved.skipping, saved.mtime);
                    self.refresh();
                    return Ok(true);
                }
                Ok(None) if live.is_some() => {
                    self.lose("the file read last is gone or was rewritten", 0);
                    self.saved = Some(Position::since(saved.mtime));
                }
                Ok(None) => return Ok(false),
                Err(_) if self.settings.stop.is_set() => return Ok(false),
                Err(Blocked { path, why }) => {
                    self.complain(unreadable(&path, &why));
                    return Ok(false);
                }
            }
        }
        let (old, newer) = since(family, saved.mtime);
        let Some(newer) = self.prints.distinct(&old, newer) else { return Ok(false) };
        self.merge(newer);
        self.next()
    }

    /// The file of a position, entered at its offset. A file that cannot be asked may be the one: then nothing is decided.
    fn find(&mut self, family: &[Sibling], saved: &Position) -> Result<Option<(PathBuf, Entry)>, Blocked> {
        let stop = self.settings.stop.clone();
        let enter = |sibling: &Sibling| {
            let entry =
                source::open(&sibling.path).and_then(|(f, _)| source::enter(f, saved.offset, Some(saved), &stop));
            entry.map_err(|why| Blocked { path: sibling.path.clone(), why })
        };
        let same = family.iter().filter(|s| s.id == saved.id);
        // Compressing may cut a time to seconds.
        let later = family.iter().filter(|s| s.id != saved.id && s.mtime / SECOND >= saved.mtime / SECOND);
        for sibling in same.chain(later) {
            let Some(entry) = enter(sibling)? else { continue };
            // What is being packed may end anywhere: the whole it is taken from is the one.
            let whole = self.prints.whole(sibling, family);
            return match whole.map(|whole| Ok((whole, enter(whole)?))).transpose()? {
                Some((whole, Some(entry))) => Ok(Some((whole.path.clone(), entry))),
                _ => Ok(Some((sibling.path.clone(), entry))),
            };
        }
        Ok(None)
    }

    /// The copy made of the open file before it was rewritten, entered at our offset.
    pub(super) fn copy(&mut self) -> io::Result<Option<(PathBuf, Entry)>> {
        let Some(open) = &self.open else { return Ok(None) };
        let stop = &self.settings.stop;
        let (at, tail) = self.lines.read_before(0);
        let end = at + tail.len() as u64;
        let evidence = Position::of(open.id, end, self.lines.head(), tail, open.newest);
        let family = family(&self.settings.path, None).files;
        for sibling in &family {
            let old = sibling.mtime / SECOND < open.newest / SECOND || (end == 0 && sibling.mtime <= open.newest);
            if sibling.id == open.id || self.chain.holds(sibling.id) || old {
                continue;
            }
            if source::enter(source::open(&sibling.path)?.0, end, Some(&evidence), stop)?.is_some() {
                let sibling = self.prints.whole(sibling, &family).unwrap_or(sibling);
                let entry = source::enter(source::open(&sibling.path)?.0, self.lines.offset(), None, stop)?;
                return Ok(entry.map(|e| (sibling.path.clone(), e)));
            }
        }
        Ok(None)
    }
}

/// What is read when all that is known is a time: the log itself and what was modified later, oldest first; behind the
/// rest, which is not read.
fn since(family: Vec<Sibling>, mtime: i64) -> (Vec<Sibling>, Vec<Sibling>) {
    family.into_iter().partition(|s| !s.is_live() && s.mtime <= mtime)
}
