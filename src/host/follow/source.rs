//! One opened file, plain or gzip, read forward in uncompressed bytes; and the comparison of its bytes with a position.
//!
//! It never decides which file is the right one.

use std::fs::{File, Metadata};
use std::io::{self, ErrorKind, Read, Seek};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use flate2::read::MultiGzDecoder;
use rustix::fs::{Mode, OFlags};

use super::position::{HEAD, Id, Position, TAIL};
use crate::host::clock;

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

    /// Goes back by what was just read; only a plain file can, and only a plain file must.
    pub fn unread(&mut self, n: usize) {
        if let Source::Plain(_, at) = self {
            *at = at.saturating_sub(n as u64);
        }
    }

    pub fn file(&self) -> &File {
        match self {
            Source::Plain(file, _) => file,
            Source::Gz(gz) => gz.get_ref(),
        }
    }

    pub fn is_plain(&self) -> bool {
        matches!(self, Source::Plain(..))
    }
}

pub(super) fn id(meta: &Metadata) -> Id {
    Id { dev: meta.dev(), ino: meta.ino(), born: meta.created().map_or(0, |t| clock::from_system(t).0) }
}

pub(super) fn mtime(meta: &Metadata) -> i64 {
    meta.modified().map_or(0, |t| clock::from_system(t).0)
}

/// Opens a regular file. NONBLOCK: a fifo put in the place of the log must not hang the pump.
pub(super) fn open(path: &Path) -> io::Result<(File, Metadata)> {
    let file = File::from(rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty())?);
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(io::Error::from(ErrorKind::IsADirectory));
    }
    Ok((file, meta))
}

/// Enters a file at an uncompressed offset. `Ok(None)` when it ends before it, is damaged before it, or does not fit.
pub(super) fn enter(file: File, offset: u64, fit: Option<&Position>) -> io::Result<Option<Entry>> {
    let meta = file.metadata()?;
    let entry = if is_gz(&file)? {
        match enter_gz(file, meta, offset, fit) {
            Err(e) if is_damage(&e) => return Ok(None),
            other => other?,
        }
    } else if meta.len() < offset {
        return Ok(None);
    } else {
        let len = |most: usize| usize::try_from(offset).unwrap_or(most).min(most);
        let head = bytes_at(&file, 0, len(HEAD))?;
        let tail = bytes_at(&file, offset.saturating_sub(len(TAIL) as u64), len(TAIL))?;
        Some(Entry { source: Source::Plain(file, offset), head, tail, meta })
    };
    Ok(entry.filter(|e| fit.is_none_or(|p| p.fits(&e.head, &e.tail))))
}

fn enter_gz(file: File, meta: Metadata, offset: u64, fit: Option<&Position>) -> io::Result<Option<Entry>> {
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
        // A month of compressed logs need not be unpacked to see that it begins differently.
        if head.len() == HEAD && fit.is_some_and(|p| !p.fits_head(&head)) {
            return Ok(None);
        }
    }
    Ok(Some(Entry { source: Source::Gz(gz), head, tail, meta }))
}

/// Whether the gzip file `packed` holds exactly what the plain file `held` holds.
pub(super) fn is_packed(held: &File, packed: File) -> io::Result<bool> {
    if is_gz(held)? || !is_gz(&packed)? {
        return Ok(false);
    }
    // Descriptors that were duplicated share their cursor.
    (&packed).rewind()?;
    let mut gz = MultiGzDecoder::new(packed);
    let (mut chunk, mut at) = (vec![0; 64 * 1024], 0u64);
    loop {
        let n = match retry(|| gz.read(&mut chunk)) {
            Err(e) if is_damage(&e) => return Ok(false),
            other => other?,
        };
        if n == 0 {
            return Ok(held.metadata()?.len() == at);
        }
        if !carries(held, at, chunk.get(..n).unwrap_or_default())? {
            return Ok(false);
        }
        at += n as u64;
    }
}

/// Whether the opened file still carries these bytes at this place.
pub(super) fn carries(file: &File, at: u64, bytes: &[u8]) -> io::Result<bool> {
    Ok(bytes_at(file, at, bytes.len())? == bytes)
}

/// What the decoder says of broken data, as opposed to a disk that cannot be read.
pub(super) fn is_damage(e: &io::Error) -> bool {
    matches!(e.kind(), ErrorKind::InvalidInput | ErrorKind::InvalidData | ErrorKind::UnexpectedEof)
        && e.raw_os_error().is_none()
}

fn is_gz(file: &File) -> io::Result<bool> {
    Ok(bytes_at(file, 0, 2)? == [0x1f, 0x8b])
}

fn bytes_at(file: &File, at: u64, len: usize) -> io::Result<Vec<u8>> {
    let mut out = vec![0; len];
    let mut done = 0;
    while let Some(rest) = out.get_mut(done..).filter(|r| !r.is_empty()) {
        match retry(|| file.read_at(rest, at.saturating_add(done as u64)))? {
            0 => break,
            n => done += n,
        }
    }
    out.truncate(done);
    Ok(out)
}

fn retry(mut f: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match f() {
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}
