//! The rotated siblings of a log: `path.1`, `path.2.gz`, `path-20260131`, `path-20260131.gz`; newest first.
//!
//! It only lists; which of them is the one we know is decided elsewhere.

use std::fs;
use std::path::{Path, PathBuf};

use super::position::Id;
use super::source;

/// One file of the family: a rotated one, or the log itself.
#[derive(Debug, Clone)]
pub struct Sibling {
    pub path: PathBuf,
    pub id: Id,
    pub mtime: i64,
    order: Order,
}

impl Sibling {
    pub fn is_live(&self) -> bool {
        self.order == Order::Live
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Order {
    Live,
    Number(u32),
    Date(String),
}

/// The log itself and all its rotated siblings, oldest first. `live` is what stands at `path`, if anything.
pub fn family(path: &Path, live: Option<&fs::Metadata>) -> Vec<Sibling> {
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
    found.reverse();
    if let Some(meta) = live {
        let live =
            Sibling { path: path.to_owned(), id: source::id(meta), mtime: source::mtime(meta), order: Order::Live };
        // Renamed between the look at the path and the listing: it stands there under its new name.
        if found.iter().all(|s| s.id != live.id) {
            found.push(live);
        }
    }
    found
}

/// All rotated siblings, newest first. An unreadable directory has none.
fn siblings(path: &Path) -> Vec<Sibling> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name().and_then(|n| n.to_str())) else { return Vec::new() };
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let mut found: Vec<Sibling> = entries
        .flatten()
        .filter_map(|entry| {
            let file = entry.file_name();
            let order = order(file.to_str()?.strip_prefix(name)?)?;
            let meta = fs::metadata(entry.path()).ok().filter(fs::Metadata::is_file)?;
            Some(Sibling { path: entry.path(), id: source::id(&meta), mtime: source::mtime(&meta), order })
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

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path, files: &[&str]) -> Vec<String> {
        for (n, file) in files.iter().enumerate() {
            let file = fs::File::create(dir.join(file)).unwrap();
            file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(n as u64)).unwrap();
        }
        let live = fs::metadata(dir.join("mail.log")).ok();
        let family = family(&dir.join("mail.log"), live.as_ref());
        family.iter().map(|s| s.path.file_name().unwrap().to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn numbers_count_backwards_and_the_plain_file_is_preferred_to_its_half_written_gz() {
        let dir = tempfile::tempdir().unwrap();
        let found = names(dir.path(), &["mail.log.10.gz", "mail.log.2", "mail.log.2.gz", "mail.log.1", "mail.log"]);
        assert_eq!(found, ["mail.log.10.gz", "mail.log.2", "mail.log.1", "mail.log"]);
    }

    #[test]
    fn dates_count_forwards_whatever_the_times_say() {
        let dir = tempfile::tempdir().unwrap();
        let files = ["mail.log-20260301.gz", "mail.log-20260103", "mail.log-20251231.gz", "mail.log-20260301-1"];
        assert_eq!(names(dir.path(), &files), [files[2], files[1], files[0], files[3]]);
    }

    #[test]
    fn mixed_styles_go_by_time_and_strangers_are_ignored() {
        let dir = tempfile::tempdir().unwrap();
        let strangers = ["mail.log.bak", "mail.log.1~", "mail.log.old.1", "mail.log2", "xmail.log.1", "mail.log-x"];
        fs::create_dir(dir.path().join("mail.log.3")).unwrap();
        names(dir.path(), &strangers);
        assert_eq!(names(dir.path(), &["mail.log.1", "mail.log-20200101"]), ["mail.log.1", "mail.log-20200101"]);
    }
}
