//! What `replay` and `suggest` read: files in the order of their first stamps, each as far as it can be read, cut into lines.
//!
//! A file that breaks off says so and ends; it never keeps the others from being read.

use crate::host::clock;
use crate::host::group::Group;
use crate::host::input::{self, Input};
use crate::host::unpack::{self, Unpacked};
use crate::mail::{Server, Time};
use crate::mta::Mta;
use crate::mta::any::Any;
use crate::mta::syslog::Stamps;
use indicatif::ProgressBar;
use std::cmp::Reverse;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::mpsc;

const CHUNK: usize = 256 * 1024;
/// A larger number in a name is a date.
const MOST_ROTATIONS: u32 = 10_000;
/// Lines longer than this are cut; the agent's default.
const MAX_LINE: usize = 64 * 1024;

pub(super) fn stamps(reference: Time) -> Stamps {
    Stamps { zone: clock::zone(), reference }
}

/// The same for the same files, so that the same question has the same answer to the last message; and nobody who writes
/// into a log knows how long it will be. Where that is not known beforehand, any.
pub(super) fn seed(paths: &[PathBuf]) -> u64 {
    let mut seed = 0x5eed;
    for path in paths {
        match std::fs::metadata(path) {
            Ok(meta) if meta.is_file() => {
                seed = (seed ^ meta.len()).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
            }
            _ => return clock::seed(),
        }
    }
    seed
}

/// A file that is about to be read.
pub(super) struct Source {
    path: PathBuf,
    /// Bytes on the disk; 0 when that is not known.
    pub size: u64,
    pub reference: Time,
    /// What cannot be opened again is kept, with what was read of it. A year of archives is not: decoders are large.
    kept: Option<Opened>,
}

struct Opened {
    reader: Unpacked,
    head: Vec<u8>,
    /// Why nothing can be read behind the head.
    broken: Option<io::Error>,
}

/// Looks into all files and sorts them by the time of their first stamp, those of one second by the number that a rotation
/// gave them; those without a stamp keep their place at the end.
///
/// # Errors
/// When one cannot be opened. What is damaged shows when it is read.
pub(super) fn in_order(command: &str, paths: &[PathBuf], only: Option<Server>) -> Result<Vec<Source>, String> {
    let mut found = Vec::new();
    for path in paths {
        let Input { mut reader, size, modified, lasting } = open(command, path)?;
        let reference = modified.map_or_else(clock::now, Time::from_secs);
        let (mut head, mut first, mut broken) = (Vec::new(), None, None);
        if paths.len() > 1 {
            broken = reader.by_ref().take(CHUNK as u64).read_to_end(&mut head).err();
            first = first_stamp(&head, reference, only);
        }
        let kept = (!lasting || paths.len() == 1).then_some(Opened { reader, head, broken });
        found.push((first, Source { path: path.clone(), size, reference, kept }));
    }
    found.sort_by_key(|(first, source)| (first.unwrap_or(Time(i64::MAX)), Reverse(rotations(&source.path))));
    Ok(found.into_iter().map(|(_, source)| source).collect())
}

/// How often a file was rotated, by its name: 2 for `mail.log.2.gz`, 0 for the log itself and for a date.
fn rotations(path: &Path) -> u32 {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let bare = unpack::ENDINGS.iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
    let number = bare.rsplit_once('.').and_then(|(_, number)| number.parse().ok());
    number.filter(|number| *number < MOST_ROTATIONS).unwrap_or(0)
}

fn open(command: &str, path: &Path) -> Result<Input, String> {
    input::open(path).map_err(|why| {
        format!("{command}: cannot read {}: {why}; check the path and whether your user may read it", path.display())
    })
}

fn first_stamp(head: &[u8], reference: Time, only: Option<Server>) -> Option<Time> {
    let mut mta = Any::new(stamps(reference), only);
    head.split(|&byte| byte == b'\n').find_map(|line| match mta.read(line) {
        crate::mta::Read::Event(event) => Some(event.head.at),
        _ => None,
    })
}

/// What came of a file.
#[derive(Default)]
pub(super) struct Fed {
    /// Bytes that were read, unpacked.
    pub bytes: u64,
    /// Which file could not be read to its end, where and why.
    pub broken: Option<String>,
}

/// Reads one source to its end, or as far as it can be read, and hands lines on; with more than one job, reading and
/// decompressing have a thread of their own.
pub(super) fn feed(
    command: &str,
    source: Source,
    jobs: usize,
    progress: &ProgressBar,
    each: &mut dyn FnMut(&[&[u8]]),
) -> Fed {
    let Source { path, size, kept, .. } = source;
    let opened = match kept {
        Some(kept) => kept,
        None => match open(command, &path) {
            Ok(Input { reader, .. }) => Opened { reader, head: Vec::new(), broken: None },
            Err(why) => return Fed { bytes: 0, broken: Some(why) },
        },
    };
    let (mut lines, before) = (Lines::default(), progress.position());
    let (mut bytes, mut consumed, mut archive) = (0, 0, false);
    let mut take = |chunk: &[u8], so_far: u64| {
        archive |= bytes == 0 && is_archive(chunk);
        if archive {
            return;
        }
        bytes += chunk.len() as u64;
        consumed = so_far;
        lines.push(chunk, each);
        progress.set_position(before + so_far);
    };
    let broken = chunks(opened, jobs, &mut take).err();
    if archive {
        let (shown, why) = (path.display(), "is a tar archive, not a log: nothing of it is counted");
        let next = "unpack it (tar xf) and name the files in it";
        return Fed { bytes: 0, broken: Some(format!("{command}: {shown} {why}; {next}")) };
    }
    lines.finish(|line| each(&[line]));
    let broken = broken.map(|why| {
        let what = if unpack::is_damage(&why) { "is damaged" } else { "cannot be read" };
        let place = if size > 0 { format!("within its first {consumed} of {size} bytes") } else { "within it".to_owned() };
        format!(
            "{command}: {} {what} {place}: {why}; the {bytes} bytes before that (unpacked) are counted, what follows is not",
            path.display()
        )
    });
    Fed { bytes, broken }
}

/// Begins as a tar archive does (POSIX.1-1988, ustar).
fn is_archive(first: &[u8]) -> bool {
    first.get(257..262) == Some(b"ustar")
}

/// Gives out all bytes of a source in large pieces, each with the bytes on the disk that were read by then.
fn chunks(opened: Opened, jobs: usize, take: &mut impl FnMut(&[u8], u64)) -> io::Result<()> {
    let Opened { mut reader, head, broken } = opened;
    take(&head, reader.consumed());
    drop(head);
    if let Some(why) = broken {
        return Err(why);
    }
    if jobs <= 1 {
        let mut buffer = vec![0; CHUNK];
        loop {
            let (n, broken) = fill(&mut reader, &mut buffer);
            take(buffer.get(..n).unwrap_or(&[]), reader.consumed());
            match broken {
                Some(why) => return Err(why),
                None if n == 0 => return Ok(()),
                None => {}
            }
        }
    }
    let (full, filled) = mpsc::sync_channel::<(Vec<u8>, u64, Option<io::Error>)>(4);
    let (back, emptied) = mpsc::channel::<Vec<u8>>();
    std::thread::spawn(move || {
        loop {
            let mut buffer = emptied.try_recv().unwrap_or_default();
            buffer.resize(CHUNK, 0);
            let (n, broken) = fill(&mut reader, &mut buffer);
            buffer.truncate(n);
            let end = n == 0 || broken.is_some();
            if full.send((buffer, reader.consumed(), broken)).is_err() || end {
                return;
            }
        }
    });
    for (chunk, consumed, broken) in filled {
        take(&chunk, consumed);
        if let Some(why) = broken {
            return Err(why);
        }
        if back.send(chunk).is_err() {
            // The reader has finished; the buffer is not needed any more.
        }
    }
    Ok(())
}

/// Reads until the buffer is full or nothing more comes. What was read before an error counts.
fn fill(reader: &mut Unpacked, buffer: &mut [u8]) -> (usize, Option<io::Error>) {
    let mut done = 0;
    while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match reader.read(rest) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
            Err(why) => return (done, Some(why)),
        }
    }
    (done, None)
}

/// Splits a stream of chunks into lines; only a line that spans chunks is copied.
#[derive(Default)]
pub(in crate::app::commands) struct Lines {
    partial: Vec<u8>,
}

impl Lines {
    pub(in crate::app::commands) fn push(&mut self, chunk: &[u8], each: &mut dyn FnMut(&[&[u8]])) {
        let mut start = 0;
        if !self.partial.is_empty()
            && let Some(end) = memchr::memchr(b'\n', chunk)
        {
            self.keep(chunk.get(..end).unwrap_or(&[]));
            each(&[&self.partial]);
            self.partial.clear();
            start = end + 1;
        }
        let mut group = Group::new(each);
        let whole = chunk.get(start..).unwrap_or(&[]);
        let mut begin = 0;
        for end in memchr::memchr_iter(b'\n', whole) {
            let line = whole.get(begin..end).unwrap_or(&[]);
            begin = end + 1;
            group.push(line.get(..MAX_LINE).unwrap_or(line));
        }
        group.hand_on();
        self.keep(whole.get(begin..).unwrap_or(&[]));
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = MAX_LINE.saturating_sub(self.partial.len());
        self.partial.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
    }

    fn finish(&mut self, mut each: impl FnMut(&[u8])) {
        if !self.partial.is_empty() {
            each(&self.partial);
            self.partial.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_begin_in_one_second_are_read_in_the_order_of_their_rotation() {
        let dir = tempfile::tempdir().unwrap();
        let paths = ["mail.log", "mail.log.1", "mail.log.10", "mail.log.2"].map(|name| dir.path().join(name));
        let line = "Nov 24 10:00:00 mx postfix/qmgr[7]: 4jYswH0Jn6z7xJG: removed\n";
        for path in &paths {
            std::fs::write(path, line).unwrap();
        }
        let order: Vec<PathBuf> =
            in_order("replay", &paths, None).unwrap().into_iter().map(|source| source.path).collect();
        assert_eq!(order, [2, 3, 1, 0].map(|at| paths[at].clone()));
        let number = |name: &str| rotations(Path::new(name));
        assert_eq!(["mail.log.3.gz", "mail.log-20261103.gz", "main.20261103", "x"].map(number), [3, 0, 0, 0]);
    }
}
