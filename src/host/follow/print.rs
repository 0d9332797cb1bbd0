//! Which files of a family hold the same lines: told by their uncompressed content, never by name or inode.
//!
//! While gzip works, `mail.log.1` stands beside a part of `mail.log.1.gz`, then for a moment beside the whole; a copy
//! may have any name. What lies in another file altogether is left out, so that its lines count once. It never decides
//! where reading goes on. Its price is bounded: files are compared only when they begin alike, see also `compare`.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::compare::{Comparing, Within};
use super::position::{HEAD, Id};
use super::rotated::{MAX_FAMILY, Sibling};
use super::source;
use super::wake::Stop;
use crate::host::unpack::MAGIC;

/// Pairs of files compared in one look. A log has two or three that begin alike; those whose bytes are the same for a
/// KiB, thousands of them, are no logs, and are taken for different.
const MAX_PAIRS: usize = 2 * MAX_FAMILY;

/// A file in the state in which it was looked at.
type Key = (Id, u64, i64);

fn key(s: &Sibling) -> Key {
    (s.id, s.len, s.mtime)
}

#[derive(Debug)]
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

/// Of files named by somebody, those whose content lies in another of them, each with that other. What cannot be read
/// again, such as a pipe, lies in none.
pub fn doubles(paths: &[PathBuf]) -> Vec<(PathBuf, PathBuf)> {
    let files: Vec<Sibling> = paths.iter().filter_map(|path| Sibling::named(path)).collect();
    let wholes = Prints::new(Stop::default()).wholes(&[], &files);
    let whole = |at: Option<usize>| Some(files.get(at?)?.path.clone());
    files.iter().zip(wholes).filter_map(|(part, at)| Some((part.path.clone(), whole(at)?))).collect()
}

/// What is known of the content of files; bounded.
pub(super) struct Prints {
    known: HashMap<Key, Arc<Print>>,
    compared: HashMap<(Key, Key), Within>,
    /// Packed files out of which more comes than out of any log: not unpacked again for an answer.
    boundless: HashSet<Key>,
    pub comparing: Comparing,
}

impl Prints {
    pub fn new(stop: Stop) -> Prints {
        let comparing = Comparing { stop, bytes: 0 };
        Prints { known: HashMap::new(), compared: HashMap::new(), boundless: HashSet::new(), comparing }
    }

    /// Leaves out of `newer`, oldest first, what lies in a file of `old`, or in another of `newer`. `old` are those
    /// that come before. The log itself always stays. `None` when the agent is to end: nothing is decided then.
    pub fn distinct(&mut self, old: &[Sibling], newer: Vec<Sibling>) -> Option<Vec<Sibling>> {
        if newer.iter().all(Sibling::is_live) {
            return Some(newer);
        }
        let wholes = self.wholes(old, &newer);
        // Nothing tells the format of what is only just being packed but the name.
        let being_packed = |s: &Sibling| !s.is_live() && s.len < MAGIC as u64 && s.named_packed();
        let left = newer.into_iter().zip(wholes).filter(|(s, whole)| whole.is_none() && !being_packed(s));
        (!self.comparing.stop.is_set()).then(|| left.map(|(s, _)| s).collect())
    }

    /// The plain file beside this one from which it is packed.
    pub fn whole<'f>(&mut self, part: &Sibling, family: &'f [Sibling]) -> Option<&'f Sibling> {
        if !self.is_packed(part) {
            return None;
        }
        let mut beside = family.iter().filter(|s| s.id != part.id && s.same_name(part));
        beside.find(|s| !self.is_packed(s) && matches!(self.within(part, s), Within::Begins | Within::Equals))
    }

    /// For each of `newer`, where it lies: in which of `old` and `newer` in a row.
    fn wholes(&mut self, old: &[Sibling], newer: &[Sibling]) -> Vec<Option<usize>> {
        if self.known.len() > 2 * MAX_FAMILY || self.compared.len() > 2 * MAX_PAIRS {
            (self.known, self.compared, self.boundless) = Default::default();
        }
        let files: Vec<&Sibling> = old.iter().chain(newer).collect();
        // Sorted by their beginnings, those that may hold a file stand in a row behind it.
        let heads = files.iter().enumerate().filter_map(|(at, s)| Some((self.print(s)?, at)));
        let mut heads: Vec<(Arc<Print>, usize)> = heads.collect();
        heads.sort_by(|(a, i), (b, j)| a.head.cmp(&b.head).then(i.cmp(j)));
        let mut pairs = MAX_PAIRS;
        (old.len()..files.len()).map(|at| self.lies_in(&files, at, old.len(), &heads, &mut pairs)).collect()
    }

    fn lies_in(
        &mut self,
        files: &[&Sibling],
        at: usize,
        old: usize,
        heads: &[(Arc<Print>, usize)],
        pairs: &mut usize,
    ) -> Option<usize> {
        let part = *files.get(at)?;
        // An empty file may still be written to.
        if part.is_live() || part.len == 0 {
            return None;
        }
        let print = self.print(part)?;
        let first = heads.partition_point(|(whole, _)| whole.head < print.head);
        let alike = heads.get(first..)?.iter().take_while(|(whole, _)| whole.head.starts_with(&print.head));
        for (held, i) in alike.filter(|(_, i)| *i != at) {
            let whole = *files.get(*i)?;
            *pairs = pairs.checked_sub(1)?;
            let double = match self.within(part, whole) {
                Within::Not | Within::Boundless => false,
                Within::Begins => true,
                Within::Equals => {
                    let (part, other) = (print.packed, held.packed);
                    *i < old || whole.is_live() || part && !other || part == other && *i < at
                }
            };
            if double {
                return Some(*i);
            }
        }
        None
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
        if part.id == whole.id {
            return Within::Equals;
        }
        let (of, to) = (key(part), key(whole));
        if let Some(said) = self.compared.get(&(of, to)) {
            return *said;
        }
        // Whatever agrees with this one for long is boundless too: only the bytes on the disk can say more.
        let unpack = !(a.packed && b.packed && self.boundless.contains(&of));
        let mut compare = || -> io::Result<Within> {
            let (part, whole) = (open(part)?, open(whole)?);
            match unpack {
                true => self.comparing.within(&part, &whole, trusted),
                false if self.comparing.is_copy(&part, &whole)? => Ok(Within::Equals),
                false => Ok(Within::Boundless),
            }
        };
        let Ok(said) = compare() else { return Within::Not };
        if said == Within::Boundless {
            self.boundless.extend([of, to]);
        }
        self.compared.insert((of, to), said);
        said
    }

    fn print(&mut self, s: &Sibling) -> Option<Arc<Print>> {
        if let Some(known) = self.known.get(&key(s)) {
            return Some(Arc::clone(known));
        }
        let mut read = || -> io::Result<Print> {
            self.comparing.stop.check()?;
            let file = open(s)?;
            let mut head = vec![0; HEAD];
            let (n, broken) = self.comparing.fill(&mut source::stream(&file)?, &mut head)?;
            head.truncate(n);
            Ok(Print { head: head.into(), packed: source::is_packed(&file)?, broken })
        };
        let print = Arc::new(read().ok()?);
        self.known.insert(key(s), Arc::clone(&print));
        Some(print)
    }
}
