//! The rotated siblings of a log: `path.1`, `path.2.gz`, `path-20260131`, `path-20260131.gz`; newest first.
//!
//! It only lists; which of them is the one we know is decided by content.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::host::clock;

/// One file of the family.
#[derive(Debug, Clone)]
pub struct Sibling {
    pub path: PathBuf,
    pub dev: u64,
    pub ino: u64,
    pub size: u64,
    pub mtime: i64,
    order: Order,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Order {
    Number(u32),
    Date(String),
}

impl Sibling {
    /// The log itself: newer than every sibling.
    pub fn live(path: &Path, meta: &fs::Metadata) -> Sibling {
        let mtime = meta.modified().map_or(0, |t| clock::from_system(t).0);
        let (dev, ino, size) = (meta.dev(), meta.ino(), meta.len());
        Sibling { path: path.to_owned(), dev, ino, size, mtime, order: Order::Number(0) }
    }
}

/// All rotated siblings, newest first. An unreadable directory has none.
pub fn siblings(path: &Path) -> Vec<Sibling> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name().and_then(|n| n.to_str())) else { return Vec::new() };
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let mut found: Vec<Sibling> = entries
        .flatten()
        .filter_map(|entry| {
            let file = entry.file_name();
            let order = order(file.to_str()?.strip_prefix(name)?)?;
            let meta = fs::metadata(entry.path()).ok().filter(fs::Metadata::is_file)?;
            let mtime = meta.modified().map_or(0, |t| clock::from_system(t).0);
            Some(Sibling { path: entry.path(), dev: meta.dev(), ino: meta.ino(), size: meta.len(), mtime, order })
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
    // While gzip works, `x` and a half-written `x.gz` stand side by side: the plain one is whole.
    found.dedup_by(|b, a| a.order == b.order);
    found
}

fn order(rest: &str) -> Option<Order> {
    let rest = rest.strip_suffix(".gz").unwrap_or(rest);
    let tail = rest.strip_prefix(['.', '-'])?;
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if rest.starts_with('.') && !tail.is_empty() && tail.len() <= 4 && digits(tail) {
        return tail.parse().ok().map(Order::Number);
    }
    let dated = tail.len() >= 6 && tail.len() <= 24 && tail.starts_with(|c: char| c.is_ascii_digit());
    (dated && tail.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'-' | b'.' | b'_' | b'T' | b':')))
        .then(|| Order::Date(tail.to_owned()))
}
