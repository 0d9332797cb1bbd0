//! Which files of a family hold the same lines: told by their uncompressed content, never by name or inode.
//!
//! While gzip works, `mail.log.1` stands beside a part of `mail.log.1.gz`, then for a moment beside the whole; a copy
//! may have any name. What lies in another file altogether is left out, so that its lines count once. It never decides
//! where reading goes on.

use std::collections::HashMap;
use std::fs::File;
use std::io;

use super::position::{HEAD, Id};
use super::rotated::{MAX_FAMILY, Sibling};
use super::source::{self, Within};
use crate::host::unpack::MAGIC;

/// A file in the state in which it was looked at.
type Key = (Id, u64, i64);

fn key(s: &Sibling) -> Key {
    (s.id, s.len, s.mtime)
}

#[derive(Debug, Clone)]
struct Print {
    /// The first KiB, uncompressed.
    head: Box<[u8]>,
    packed: bool,
    /// It is broken within its first KiB.
    broken: bool,
}

/// The file itself: its name may have gone to another since it was listed.
fn open(s: &Sibling) -> io::Result<File> {
    let (file, meta) = source::open(&s.path)?;
    if source::id(&meta) == s.id { Ok(file) } else { Err(io::ErrorKind::NotFound.into()) }
}

/// What is known of the content of files; bounded.
#[derive(Default)]
pub(super) struct Prints {
    known: HashMap<Key, Print>,
    compared: HashMap<(Key, Key), Within>,
}

impl Prints {
    /// Leaves out of `newer`, oldest first, what lies in a file of `old`, or in another of `newer`. `old` are those
    /// that come before. The log itself always stays.
    pub fn distinct(&mut self, old: &[Sibling], newer: Vec<Sibling>) -> Vec<Sibling> {
        if newer.iter().all(Sibling::is_live) {
            return newer;
        }
        if self.known.len() > 2 * MAX_FAMILY || self.compared.len() > 2 * MAX_FAMILY {
            *self = Prints::default();
        }
        let doubled: Vec<bool> = newer.iter().enumerate().map(|(at, s)| self.is_double(old, &newer, at, s)).collect();
        newer.into_iter().zip(doubled).filter(|(_, double)| !double).map(|(s, _)| s).collect()
    }

    /// The plain file beside this one from which it is packed.
    pub fn whole<'f>(&mut self, part: &Sibling, family: &'f [Sibling]) -> Option<&'f Sibling> {
        if !self.is_packed(part) {
            return None;
        }
        let mut beside = family.iter().filter(|s| s.id != part.id && s.same_name(part));
        beside.find(|s| !self.is_packed(s) && self.within(part, s) != Within::Not)
    }

    fn is_double(&mut self, old: &[Sibling], newer: &[Sibling], at: usize, part: &Sibling) -> bool {
        if part.is_live() {
            return false;
        }
        // Nothing tells the format of what is only just being packed but the name.
        if part.len < MAGIC as u64 && part.named_packed() {
            return true;
        }
        // An empty file may still be written to.
        if part.len == 0 {
            return false;
        }
        if old.iter().any(|whole| self.within(part, whole) != Within::Not) {
            return true;
        }
        newer.iter().enumerate().filter(|(i, _)| *i != at).any(|(i, whole)| match self.within(part, whole) {
            Within::Not => false,
            Within::Begins => true,
            Within::Equals => {
                let (part, whole) = (self.is_packed(part), !whole.is_live() && self.is_packed(whole));
                part && !whole || part == whole && i < at
            }
        })
    }

    fn is_packed(&mut self, s: &Sibling) -> bool {
        self.print(s).is_some_and(|p| p.packed)
    }

    /// How `part` lies in `whole`; a file that cannot be read lies in none.
    fn within(&mut self, part: &Sibling, whole: &Sibling) -> Within {
        let (Some(a), Some(b)) = (self.print(part), self.print(whole)) else { return Within::Not };
        // What is broken so early may be anything, unless it stands beside the file from which it is being packed.
        let trusted = part.same_name(whole);
        if (a.broken && !trusted) || !b.head.starts_with(&a.head) {
            return Within::Not;
        }
        let pair = (key(part), key(whole));
        if let Some(said) = self.compared.get(&pair) {
            return *said;
        }
        let compare = || source::within(&open(part)?, &open(whole)?, trusted);
        let Ok(said) = compare() else { return Within::Not };
        self.compared.insert(pair, said);
        said
    }

    fn print(&mut self, s: &Sibling) -> Option<Print> {
        if let Some(known) = self.known.get(&key(s)) {
            return Some(known.clone());
        }
        let read = || -> io::Result<Print> {
            let file = open(s)?;
            let mut head = vec![0; HEAD];
            let (n, broken) = source::fill(&mut source::stream(&file)?, &mut head)?;
            head.truncate(n);
            Ok(Print { head: head.into(), packed: source::is_packed(&file)?, broken })
        };
        let print = read().ok()?;
        self.known.insert(key(s), print.clone());
        Some(print)
    }
}
