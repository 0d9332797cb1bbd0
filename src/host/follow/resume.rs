//! Which file is the one of a position, which files come after it, and where the copy of a rewritten file is.
//!
//! The rules and what is undecidable are told in the module above. It gives out no lines.

use std::io;
use std::path::PathBuf;

use super::chain::Blocked;
use super::position::Position;
use super::rotated::{Sibling, family};
use super::source::{self, Entry};
use super::{FollowError, FollowEvent, Follower};

const SECOND: i64 = 1_000_000;

impl Follower {
    /// A cheap look at the path: whether a file appeared that is not held yet.
    pub(super) fn look(&mut self) {
        let Some(newest) = self.open.as_ref().map(|o| self.chain.newest().unwrap_or(o.id)) else { return };
        match self.live() {
            Some(meta) if source::id(&meta) == newest => self.trouble = None,
            _ => self.refresh(),
        }
    }

    /// Takes hold of all files that come after the open one.
    pub(super) fn refresh(&mut self) {
        let live = self.live();
        let family = family(&self.settings.path, live.as_ref());
        let Some(open) = &self.open else { return };
        let newer = match family.iter().position(|s| s.id == open.id) {
            Some(i) => family.into_iter().skip(i + 1).collect(),
            // Deleted, moved away or compressed, but held: the times tell.
            None => {
                let mtime = open.source.file().metadata().map_or(open.newest, |m| source::mtime(&m));
                let newer = since(family, mtime);
                let packed = |s: &Sibling| {
                    source::open(&s.path).and_then(|(f, _)| source::is_packed(open.source.file(), f)).unwrap_or(false)
                };
                // Compressed without keeping its time.
                match newer.iter().rposition(packed) {
                    Some(i) => newer.into_iter().skip(i + 1).collect(),
                    None => newer,
                }
            }
        };
        self.merge(newer);
    }

    fn merge(&mut self, newer: Vec<Sibling>) {
        match self.chain.merge(newer) {
            Ok(()) => self.chain.measure(),
            Err(Blocked { why, .. }) if why.kind() == io::ErrorKind::NotFound => {}
            Err(Blocked { path, why }) => {
                self.complain(FollowEvent::Unreadable { why: format!("{}: {why}", path.display()) });
            }
        }
    }

    /// Opens the file in which the saved place is, or the one after it. False when there is nothing to read now.
    pub(super) fn resume(&mut self) -> Result<bool, FollowError> {
        let live = self.live();
        let family = family(&self.settings.path, live.as_ref());
        let saved = *self.saved.get_or_insert_with(|| {
            // The very first look: what was rotated before is not ours.
            let old = family.iter().filter(|s| s.path != self.settings.path);
            Position::since(old.map(|s| s.mtime).max().unwrap_or(i64::MIN))
        });
        if saved.offset > 0 {
            match find(&family, &saved) {
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
                Err(Blocked { path, why }) => {
                    self.complain(FollowEvent::Unreadable { why: format!("{}: {why}", path.display()) });
                    return Ok(false);
                }
            }
        }
        self.merge(since(family, saved.mtime));
        self.next()
    }

    /// The copy made of the open file before it was rewritten, entered at our offset.
    pub(super) fn copy(&self) -> io::Result<Option<(PathBuf, Entry)>> {
        let Some(open) = &self.open else { return Ok(None) };
        let (at, tail) = self.lines.read_before(0);
        let end = at + tail.len() as u64;
        let evidence = Position::of(open.id, end, self.lines.head(), tail, open.newest);
        for sibling in family(&self.settings.path, None) {
            let old = sibling.mtime / SECOND < open.newest / SECOND || (end == 0 && sibling.mtime <= open.newest);
            if sibling.id == open.id || self.chain.holds(sibling.id) || old {
                continue;
            }
            let (file, _) = source::open(&sibling.path)?;
            if source::enter(file, end, Some(&evidence))?.is_some() {
                let (file, _) = source::open(&sibling.path)?;
                let entry = source::enter(file, self.lines.offset(), None)?;
                return Ok(entry.map(|e| (sibling.path, e)));
            }
        }
        Ok(None)
    }
}

/// The log itself and what was modified after a time, oldest first.
fn since(family: Vec<Sibling>, mtime: i64) -> Vec<Sibling> {
    family.into_iter().filter(|s| s.is_live() || s.mtime > mtime).collect()
}

/// The file of a position, entered at its offset. A file that cannot be asked may be the one: then nothing is decided.
fn find(family: &[Sibling], saved: &Position) -> Result<Option<(PathBuf, Entry)>, Blocked> {
    let same = family.iter().filter(|s| s.id == saved.id);
    // Compressing may cut a time to seconds.
    let later = family.iter().filter(|s| s.id != saved.id && s.mtime / SECOND >= saved.mtime / SECOND);
    for sibling in same.chain(later) {
        let enter = || source::enter(source::open(&sibling.path)?.0, saved.offset, Some(saved));
        if let Some(entry) = enter().map_err(|why| Blocked { path: sibling.path.clone(), why })? {
            return Ok(Some((sibling.path.clone(), entry)));
        }
    }
    Ok(None)
}
