//! One opened file, plain or gzip, read forward in uncompressed bytes; and the comparison of its bytes with a mark.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use flate2::read::MultiGzDecoder;
use rustix::fs::{Mode, OFlags};

use super::position::{HEAD, Mark, TAIL, fnv};

/// An opened file. Gzip is told by its magic bytes, never by its name.
pub(super) enum Source {
    Plain(File, u64),
    Gz(Box<MultiGzDecoder<File>>),
}

/// What a source shows of itself when it is entered at an offset.
pub(super) struct Entry {
    pub source: Source,
    pub head: Vec<u8>,
    pub tail: Vec<u8>,
    pub meta: Metadata,
}

impl Source {
    pub fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Source::Plain(file, at) => {
                let n = retry(|| file.read_at(buf, *at))?;
                *at = at.saturating_add(n as u64);
                Ok(n)
            }
            Source::Gz(gz) => retry(|| gz.read(buf)),
        }
    }

    pub fn plain(&self) -> Option<&File> {
        match self {
            Source::Plain(file, _) => Some(file),
            Source::Gz(_) => None,
        }
    }
}

/// Opens `path` at an uncompressed offset. `Ok(None)` when the file ends before it.
///
/// NONBLOCK: a fifo put in the place of the log must not hang the pump; anything but a file is refused.
pub(super) fn enter(path: &Path, offset: u64) -> io::Result<Option<Entry>> {
    let file = File::from(rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty())?);
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(io::Error::from(io::ErrorKind::IsADirectory));
    }
    let mut magic = [0; 2];
    if read_full(&file, &mut magic, 0)? == 2 && magic == [0x1f, 0x8b] {
        return enter_gz(file, meta, offset);
    }
    if meta.len() < offset {
        return Ok(None);
    }
    let head = bytes_at(&file, 0, usize::try_from(offset).unwrap_or(HEAD).min(HEAD))?;
    let tail_len = usize::try_from(offset).unwrap_or(TAIL).min(TAIL);
    let tail = bytes_at(&file, offset.saturating_sub(tail_len as u64), tail_len)?;
    Ok(Some(Entry { source: Source::Plain(file, offset), head, tail, meta }))
}

fn enter_gz(file: File, meta: Metadata, offset: u64) -> io::Result<Option<Entry>> {
    let mut gz = Box::new(MultiGzDecoder::new(file));
    let (mut head, mut tail, mut done) = (Vec::new(), Vec::new(), 0u64);
    let mut chunk = vec![0; 64 * 1024];
    while done < offset {
        let want = usize::try_from(offset - done).unwrap_or(chunk.len()).min(chunk.len());
        let n = retry(|| gz.read(chunk.get_mut(..want).unwrap_or_default()))?;
        let got = chunk.get(..n).unwrap_or_default();
        if got.is_empty() {
            return Ok(None);
        }
        head.extend(got.iter().take(HEAD - head.len()));
        tail.extend_from_slice(got);
        tail.drain(..tail.len().saturating_sub(TAIL));
        done += n as u64;
    }
    Ok(Some(Entry { source: Source::Gz(gz), head, tail, meta }))
}

/// Enters `path` at the mark if its bytes fit it.
pub(super) fn enter_at(path: &Path, mark: &Mark) -> Option<Entry> {
    let entry = enter(path, mark.offset).ok()??;
    fits(&entry, mark).then_some(entry)
}

fn fits(entry: &Entry, mark: &Mark) -> bool {
    let head = entry.head.get(..usize::from(mark.head_len)).map(fnv);
    let tail = entry.tail.len().checked_sub(usize::from(mark.tail_len)).and_then(|i| entry.tail.get(i..)).map(fnv);
    head == Some(mark.head) && tail == Some(mark.tail)
}

/// Whether the opened file still carries these bytes at this place.
pub(super) fn carries(file: &File, at: u64, bytes: &[u8]) -> io::Result<bool> {
    Ok(bytes_at(file, at, bytes.len())? == bytes)
}

pub(super) fn ids(meta: &Metadata) -> (u64, u64) {
    (meta.dev(), meta.ino())
}

fn bytes_at(file: &File, at: u64, len: usize) -> io::Result<Vec<u8>> {
    let mut out = vec![0; len];
    let n = read_full(file, &mut out, at)?;
    out.truncate(n);
    Ok(out)
}

fn read_full(file: &File, buf: &mut [u8], at: u64) -> io::Result<usize> {
    let mut done = 0;
    while let Some(rest) = buf.get_mut(done..).filter(|r| !r.is_empty()) {
        match retry(|| file.read_at(rest, at.saturating_add(done as u64)))? {
            0 => break,
            n => done += n,
        }
    }
    Ok(done)
}

fn retry(mut f: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match f() {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}
