//! The files that come after the one being read, oldest first, all held open.
//!
//! A file that is held cannot be lost: neither rotation, compression nor deletion takes it away, and nobody else can
//! get its inode. It never reads a line.

use std::collections::{HashSet, VecDeque};
use std::fs::File;
use std::io;
use std::path::PathBuf;

use super::compare::Comparing;
use super::position::Id;
use super::rotated::Sibling;
use super::source;

/// Most files held at once; those beyond are looked for when there is room again.
const MAX_HELD: usize = 64;

/// Files that wait to be read, and their size on the disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Waiting {
    pub files: u64,
    pub bytes: u64,
}

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
pub(super) struct Chain {
    held: VecDeque<Held>,
    /// Those for which there was no room when the directory was last looked at.
    beyond: Waiting,
}

impl Chain {
    pub fn newest(&self) -> Option<Id> {
        self.held.back().map(|h| h.id)
    }

    pub fn holds(&self, id: Id) -> bool {
        self.held.iter().any(|h| h.id == id)
    }

    pub fn len(&self) -> usize {
        self.held.len()
    }

    pub fn clear(&mut self) {
        *self = Chain::default();
    }

    /// Whether a look at the directory could bring nothing that there is room for.
    pub fn is_busy(&self) -> bool {
        self.beyond.files > 0 && self.held.len() > MAX_HELD / 2
    }

    /// Whether all that was shown is held: if not, what comes next must be looked for before a file is left.
    pub fn is_complete(&self) -> bool {
        self.beyond.files == 0
    }

    pub fn waiting(&self) -> Waiting {
        let sizes = self.held.iter().filter_map(|h| h.file.metadata().ok()).map(|m| m.len()).filter(|len| *len > 0);
        sizes.fold(self.beyond, |sum, len| Waiting { files: sum.files + 1, bytes: sum.bytes + len })
    }

    pub fn push_front(&mut self, held: Held) {
        self.held.push_front(held);
    }

    pub fn front(&self) -> Option<&Held> {
        self.held.front()
    }

    pub fn pop(&mut self) -> Option<Held> {
        self.held.pop_front()
    }

    pub fn has_bytes(&self) -> bool {
        self.held.iter().any(|h| h.file.metadata().is_ok_and(|m| m.len() > 0))
    }

    /// Takes in what the directory shows after the file being read, oldest first. Files held that the directory no
    /// longer shows keep their place: before what is shown after them, and before what was written after them.
    pub fn merge(&mut self, newer: Vec<Sibling>, comparing: &mut Comparing) -> Result<(), Blocked> {
        let mut fresh = Vec::new();
        let shown: HashSet<Id> = newer.iter().map(|s| s.id).collect();
        let mut beyond = Waiting::default();
        let mut room = MAX_HELD.saturating_sub(self.held.len());
        for sibling in newer {
            let held = self.held.iter().any(|h| h.id == sibling.id);
            // Without room for one, none behind it may come before it.
            if !held && (room == 0 || beyond.files > 0) {
                beyond.files += 1;
                beyond.bytes += sibling.len;
                continue;
            }
            room -= usize::from(!held);
            let file = if held { None } else { self.open(&sibling, &shown, comparing)? };
            fresh.push((sibling, file));
        }
        self.beyond = beyond;
        let mut old = std::mem::take(&mut self.held);
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
            self.held.extend(old.drain(..known.unwrap_or(0).min(old.len())));
            if let Some(Found::File(file)) = found {
                self.held.push_back(Held { file, path: sibling.path, id: sibling.id, seen: 0 });
                // What stands before a held file and was not there before is its copy.
                if let Some(copied) = old.front_mut() {
                    copied.seen = 0;
                }
            }
        }
        self.held.append(&mut old);
        Ok(())
    }

    /// Notes how much the held files have now.
    pub fn measure(&mut self) {
        for held in &mut self.held {
            held.seen = held.file.metadata().map_or(held.seen, |m| m.len().max(held.seen));
        }
    }

    fn open(
        &self,
        sibling: &Sibling,
        shown: &HashSet<Id>,
        comparing: &mut Comparing,
    ) -> Result<Option<Found>, Blocked> {
        let blocked = |why| Blocked { path: sibling.path.clone(), why };
        let (file, meta) = source::open(&sibling.path).map_err(blocked)?;
        if source::id(&meta) != sibling.id {
            // Renamed since it was listed.
            return Err(blocked(io::ErrorKind::NotFound.into()));
        }
        // Those that the directory still shows were told apart from it there.
        for held in self.held.iter().filter(|h| !shown.contains(&h.id)) {
            // A held file that cannot be read must not keep the others out.
            if comparing.is_packed_from(&file, &held.file).unwrap_or(false) {
                return Ok(Some(Found::PackedFrom(held.id)));
            }
        }
        Ok(Some(Found::File(file)))
    }
}

enum Found {
    File(File),
    /// The compressed form of a file that is held.
    PackedFrom(Id),
}
