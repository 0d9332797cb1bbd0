//! One opened file, plain or packed, read forward in uncompressed bytes; and the comparison of its bytes with a position.
//!
//! It never decides which file is the right one.

use std::fs::{File, Metadata};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use super::position::{HEAD, Id, Position, TAIL};
use super::wake::Stop;
use crate::host::clock;
use crate::host::unpack::{self, MAGIC, Packing, Unpacked};

/// An opened file.
pub(super) enum Source {
    Plain(File, u64),
    Packed(Unpacked, File),
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
            Source::Packed(unpacked, _) => retry(|| unpacked.read(buf)),
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
            Source::Plain(file, _) | Source::Packed(_, file) => file,
        }
    }

    pub fn is_plain(&self) -> bool {
        matches!(self, Source::Plain(..))
    }

    /// Bytes on the disk that were read of it, `given` being the uncompressed bytes that were given out.
    pub fn consumed(&self, given: u64) -> u64 {
        match self {
            Source::Plain(..) => given,
            Source::Packed(unpacked, _) => unpacked.consumed(),
        }
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

/// Enters a file at an uncompressed offset. `Ok(None)` when it ends before it, is damaged before it, or does not fit. The
/// way there may be long in a packed one: it is given up when the agent is to end.
pub(super) fn enter(file: File, offset: u64, fit: Option<&Position>, stop: &Stop) -> io::Result<Option<Entry>> {
    let meta = file.metadata()?;
    let entry = if let Some(unpacked) = unpacked(&file)? {
        match enter_packed(unpacked, file, meta, offset, fit, stop) {
            Err(e) if unpack::is_damage(&e) => return Ok(None),
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

fn enter_packed(
    mut unpacked: Unpacked,
    file: File,
    meta: Metadata,
    offset: u64,
    fit: Option<&Position>,
    stop: &Stop,
) -> io::Result<Option<Entry>> {
    let (mut head, mut tail, mut done) = (Vec::new(), Vec::new(), 0u64);
    let mut chunk = vec![0; 64 * 1024];
    while done < offset {
        stop.check()?;
        let want = usize::try_from(offset - done).unwrap_or(chunk.len()).min(chunk.len());
        let n = retry(|| unpacked.read(chunk.get_mut(..want).unwrap_or_default()))?;
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
    Ok(Some(Entry { source: Source::Packed(unpacked, file), head, tail, meta }))
}

/// A file as uncompressed bytes from its first one, on a place of its own: descriptors that were duplicated share theirs.
pub(super) fn stream(file: &File) -> io::Result<Unpacked> {
    let packing = Packing::of(&bytes_at(file, 0, MAGIC)?);
    Ok(Unpacked::new(packing, FromStart { file: file.try_clone()?, at: 0 }))
}

struct FromStart {
    file: File,
    at: u64,
}

impl Read for FromStart {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read_at(buf, self.at)?;
        self.at = self.at.saturating_add(n as u64);
        Ok(n)
    }
}

fn unpacked(file: &File) -> io::Result<Option<Unpacked>> {
    if is_packed(file)? { stream(file).map(Some) } else { Ok(None) }
}

pub(super) fn is_packed(file: &File) -> io::Result<bool> {
    Ok(Packing::of(&bytes_at(file, 0, MAGIC)?) != Packing::Plain)
}

/// Whether the opened file still carries these bytes at this place.
pub(super) fn carries(file: &File, at: u64, bytes: &[u8]) -> io::Result<bool> {
    Ok(bytes_at(file, at, bytes.len())? == bytes)
}

pub(super) fn bytes_at(file: &File, at: u64, len: usize) -> io::Result<Vec<u8>> {
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

pub(super) fn retry(mut f: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match f() {
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}
