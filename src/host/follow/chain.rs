//! The files that come after the one being read, oldest first, all held open.
//!
//! A file that is held cannot be lost: neither rotation, compression nor deletion takes it away, and nobody else can
//! get its inode. It never reads a line.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::path::PathBuf;

use super::position::Id;
use super::rotated::Sibling;
use super::source;

/// Most files held at once; those beyond are looked for when there is room again.
const MAX_HELD: usize = 64;

pub(super) struct Held {
    pub file: File,
    pub path: PathBuf,
    pub id: Id,
    /// Bytes it was seen to have that no copy carries: if it has fewer when its turn comes, they are lost.
    pub seen: u64,
}

/// A file could not be opened; nothing behind it may be read before it.
pub(super) struct Blocked {
    pub path: PathBuf,
    pub why: io::Error,
}

#[derive(Default)]
pub(super) struct Chain(VecDeque<Held>);

impl Chain {
    pub fn newest(&self) -> Option<Id> {
        self.0.back().map(|h| h.id)
    }

    pub fn holds(&self, id: Id) -> bool {
        self.0.iter().any(|h| h.id == id)
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }

    pub fn push_front(&mut self, held: Held) {
        self.0.push_front(held);
    }

    pub fn front(&self) -> Option<&Held> {
        self.0.front()
    }

    pub fn pop(&mut self) -> Option<Held> {
        self.0.pop_front()
    }

    pub fn has_bytes(&self) -> bool {
        self.0.iter().any(|h| h.file.metadata().is_ok_and(|m| m.len() > 0))
    }

    /// Takes in what the directory shows after the file being read, oldest first. Files held that the directory no
    /// longer shows keep their place: before what is shown after them, and before what was written after them.
    pub fn merge(&mut self, newer: Vec<Sibling>) -> Result<(), Blocked> {
        let mut fresh = Vec::new();
        let shown: Vec<Id> = newer.iter().map(|s| s.id).collect();
        for sibling in newer {
            let held = self.0.iter().any(|h| h.id == sibling.id);
            if !held && fresh.len() + self.0.len() >= MAX_HELD {
                break;
            }
            let file = if held { None } else { self.open(&sibling)? };
            fresh.push((sibling, file));
        }
        let mut old = std::mem::take(&mut self.0);
        for (sibling, found) in fresh {
            let known = match &found {
                None => old.iter().position(|h| h.id == sibling.id).map(|i| i + 1),
                Some(Found::PackedFrom(id)) => old.iter().position(|h| h.id == *id).map(|i| i + 1),
                Some(Found::File(_)) => Some(
                    old.iter()
                        .take_while(|h| !shown.contains(&h.id))
                        .take_while(|h| h.file.metadata().is_ok_and(|m| source::mtime(&m) <= sibling.mtime))
                        .count(),
                ),
            };
            self.0.extend(old.drain(..known.unwrap_or(0).min(old.len())));
            if let Some(Found::File(file)) = found {
                self.0.push_back(Held { file, path: sibling.path, id: sibling.id, seen: 0 });
                // What stands before a held file and was not there before is its copy.
                if let Some(copied) = old.front_mut() {
                    copied.seen = 0;
                }
            }
        }
        self.0.append(&mut old);
        Ok(())
    }

    /// Notes how much the held files have now.
    pub fn measure(&mut self) {
        for held in &mut self.0 {
            held.seen = held.file.metadata().map_or(held.seen, |m| m.len().max(held.seen));
        }
    }

    fn open(&self, sibling: &Sibling) -> Result<Option<Found>, Blocked> {
        let blocked = |why| Blocked { path: sibling.path.clone(), why };
        let (file, meta) = source::open(&sibling.path).map_err(blocked)?;
        if source::id(&meta) != sibling.id {
            // Renamed since it was listed.
            return Err(blocked(io::ErrorKind::NotFound.into()));
        }
        for held in &self.0 {
            let packed = || source::is_packed(&held.file, file.try_clone()?);
            if packed().map_err(blocked)? {
                return Ok(Some(Found::PackedFrom(held.id)));
            }
        }
        // The clone shares its cursor with the one kept: begin anew.
        io::Seek::rewind(&mut &file).map_err(blocked)?;
        Ok(Some(Found::File(file)))
    }
}

enum Found {
    File(File),
    /// The compressed form of a file that is held.
    PackedFrom(Id),
}
