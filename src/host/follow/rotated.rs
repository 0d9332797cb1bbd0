//! The rotated siblings of a log: `path.1`, `path.2.gz`, `path-20260131`, `path-20260131.xz`; newest first.
//!
//! It only lists; which of them is the one we know, and which hold the same lines, is decided elsewhere.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::position::Id;
use super::source;
use crate::host::unpack::ENDINGS;
use crate::mail::Time;

/// Files of one family that are looked at; of more, the newest.
pub const MAX_FAMILY: usize = 4096;

/// One file of the family: a rotated one, or the log itself.
#[derive(Debug, Clone)]
pub struct Sibling {
    pub path: PathBuf,
    pub id: Id,
    pub mtime: i64,
    pub len: u64,
    order: Order,
}

impl Sibling {
    fn new(path: PathBuf, meta: &fs::Metadata, order: Order) -> Sibling {
        Sibling { path, id: source::id(meta), mtime: source::mtime(meta), len: meta.len(), order }
    }

    /// A file that somebody named; `None` when it is none that can be read again.
    pub fn named(path: &Path) -> Option<Sibling> {
        let meta = fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
        let bare = path.to_str().and_then(|name| ENDINGS.iter().find_map(|end| name.strip_suffix(end)));
        let order = Order::Named(bare.map_or_else(|| path.to_owned(), PathBuf::from));
        Some(Sibling::new(path.to_owned(), &meta, order))
    }

    /// Whether both are one rotated log by their names: `x` and `x.gz`.
    pub fn same_name(&self, other: &Sibling) -> bool {
        self.order == other.order
    }

    /// Whether its name says that it is packed.
    pub fn named_packed(&self) -> bool {
        self.path.to_str().is_some_and(|name| ENDINGS.iter().any(|end| name.ends_with(end)))
    }

    pub fn is_live(&self) -> bool {
        self.order == Order::Live
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Order {
    Live,
    Number(u32),
    Date(String),
    /// Named by somebody, not found: its name without the ending of its packing.
    Named(PathBuf),
}

/// A log and its rotated siblings.
pub struct Family {
    /// Oldest first.
    pub files: Vec<Sibling>,
    /// When those were last written to that are too many to be looked at; they are older.
    pub beyond: Vec<i64>,
}

/// The log itself and all its rotated siblings. `live` is what stands at `path`, if anything.
pub fn family(path: &Path, live: Option<&fs::Metadata>) -> Family {
    let mut found = siblings(path);
    // A listing is not a snapshot: files renamed meanwhile may be missed. Only what is seen twice alike is believed.
    for _ in 0..4 {
        let again = siblings(path);
        let same =
            again.len() == found.len() && again.iter().zip(&found).all(|(a, b)| (&a.path, a.id) == (&b.path, b.id));
        found = again;
        if same {
            break;
        }
    }
    let beyond = found.split_off(found.len().min(MAX_FAMILY)).iter().map(|s| s.mtime).collect();
    found.reverse();
    if let Some(meta) = live {
        let live = Sibling::new(path.to_owned(), meta, Order::Live);
        // Renamed between the look at the path and the listing: it stands there under its new name.
        if found.iter().all(|s| s.id != live.id) {
            found.push(live);
        }
    }
    Family { files: found, beyond }
}

/// A rotated file, for those who do not read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotated {
    pub path: PathBuf,
    /// When it was written last.
    pub modified: Time,
    /// On the disk.
    pub bytes: u64,
}

/// The rotated files of a log, newest first.
pub fn rotated(path: &Path) -> Vec<Rotated> {
    let shown = |s: Sibling| Rotated { path: s.path, modified: Time(s.mtime), bytes: s.len };
    siblings(path).into_iter().map(shown).collect()
}

/// Whether rotated siblings would be seen.
pub fn listable(path: &Path) -> bool {
    path.parent().is_some_and(|dir| fs::read_dir(or_here(dir)).is_ok())
}

fn or_here(dir: &Path) -> &Path {
    if dir.as_os_str().is_empty() { Path::new(".") } else { dir }
}

/// All rotated siblings, newest first. An unreadable directory has none.
fn siblings(path: &Path) -> Vec<Sibling> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name().and_then(|n| n.to_str())) else { return Vec::new() };
    let Ok(entries) = fs::read_dir(or_here(dir)) else { return Vec::new() };
    let mut found: Vec<Sibling> = entries
        .flatten()
        .filter_map(|entry| {
            let file = entry.file_name();
            let order = order(file.to_str()?, name)?;
            let meta = fs::metadata(entry.path()).ok().filter(fs::Metadata::is_file)?;
            Some(Sibling::new(entry.path(), &meta, order))
        })
        .collect();
    // Each style is ordered by its own names; on a host that changed its style, only the times can tell.
    let numbers = found.iter().filter(|s| matches!(s.order, Order::Number(_))).count();
    if numbers == 0 || numbers == found.len() {
        found.sort_by(|a, b| match (&a.order, &b.order) {
            (Order::Number(x), Order::Number(y)) => x.cmp(y).then_with(|| a.path.cmp(&b.path)),
            (Order::Date(x), Order::Date(y)) => y.cmp(x).then_with(|| a.path.cmp(&b.path)),
            _ => std::cmp::Ordering::Equal,
        });
    } else {
        found.sort_by(|a, b| b.mtime.cmp(&a.mtime).then_with(|| a.path.cmp(&b.path)));
    }
    // One file under two names.
    let mut seen = HashSet::new();
    found.retain(|s| seen.insert(s.id));
    found
}

/// What a file name says of its place among the rotated files of `name`, if it is one of them. The counter or date comes
/// behind the name or, as with logrotate's `extension`, before its ending: `mail.log.1`, `mail.1.log`.
fn order(file: &str, name: &str) -> Option<Order> {
    let file = ENDINGS.iter().find_map(|end| file.strip_suffix(end)).unwrap_or(file);
    let before_ending = || {
        let dot = name.rfind('.').filter(|dot| *dot > 0)?;
        let (stem, ending) = name.split_at_checked(dot)?;
        file.strip_prefix(stem)?.strip_suffix(ending)
    };
    file.strip_prefix(name).and_then(place).or_else(|| before_ending().and_then(place))
}

fn place(rest: &str) -> Option<Order> {
    let tail = rest.strip_prefix(['.', '-'])?;
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if rest.starts_with('.') && !tail.is_empty() && tail.len() <= 4 && digits(tail) {
        return tail.parse().ok().map(Order::Number);
    }
    let dated = tail.len() >= 6 && tail.len() <= 24 && tail.starts_with(|c: char| c.is_ascii_digit());
    (dated && tail.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'-' | b'.' | b'_' | b'T' | b':'))).then(|| {
        // Dates sort by their digits, however they are separated.
        Order::Date(tail.chars().filter(char::is_ascii_digit).collect())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path, files: &[&str]) -> Vec<String> {
        for (n, file) in files.iter().enumerate() {
            let file = fs::File::create(dir.join(file)).unwrap();
            file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(n as u64)).unwrap();
        }
        let live = fs::metadata(dir.join("mail.log")).ok();
        let family = family(&dir.join("mail.log"), live.as_ref()).files;
        family.iter().map(|s| s.path.file_name().unwrap().to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn numbers_count_backwards_and_of_one_number_the_packed_is_the_older() {
        let dir = tempfile::tempdir().unwrap();
        let files = ["mail.log.10.gz", "mail.log.2", "mail.log.2.gz", "mail.log.1", "mail.1.log.zst", "mail.log"];
        let found = names(dir.path(), &files);
        assert_eq!(found, [files[0], files[2], files[1], files[3], files[4], files[5]]);
        fs::hard_link(dir.path().join("mail.log.2"), dir.path().join("mail.log.3")).unwrap();
        assert_eq!(names(dir.path(), &[]).len(), files.len(), "one file under two names is one file");
    }

    #[test]
    fn dates_count_forwards_whatever_the_times_say() {
        let dir = tempfile::tempdir().unwrap();
        let files = ["mail.log-20260301.gz", "mail.log-20260103", "mail.log-20251231.gz", "mail.log-20260301-1"];
        assert_eq!(names(dir.path(), &files), [files[2], files[1], files[0], files[3]]);
        let dir = tempfile::tempdir().unwrap();
        let files = ["mail.log.2026-03-01.xz", "mail-20260302.log.bz2", "mail.log-20260228-12.zst"];
        assert_eq!(names(dir.path(), &files), [files[2], files[0], files[1]]);
    }

    #[test]
    fn of_very_many_the_newest_are_looked_at() {
        let dir = tempfile::tempdir().unwrap();
        for n in 1..=9_999 {
            fs::File::create(dir.path().join(format!("mail.log.{n}"))).unwrap();
        }
        let found = names(dir.path(), &[]);
        assert_eq!(found.len(), MAX_FAMILY);
        assert_eq!(found.last().unwrap(), "mail.log.1");
        assert_eq!(family(&dir.path().join("mail.log"), None).beyond.len(), 9_999 - MAX_FAMILY);
    }

    #[test]
    fn mixed_styles_go_by_time_and_strangers_are_ignored() {
        let dir = tempfile::tempdir().unwrap();
        let strangers = [
            "mail.log.bak",
            "mail.log.1~",
            "mail.log.old.1",
            "mail.log2",
            "xmail.log.1",
            "mail.log-x",
            "mail.log.1.gz.part",
            "mail.old.log",
            "mail.log.gz",
        ];
        fs::create_dir(dir.path().join("mail.log.3")).unwrap();
        names(dir.path(), &strangers);
        assert_eq!(names(dir.path(), &["mail.log.1", "mail.log-20200101"]), ["mail.log.1", "mail.log-20200101"]);
    }
}
