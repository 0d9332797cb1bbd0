//! Input for `replay`: plain or packed files and standard input, as one stream of bytes.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::unpack::{MAGIC, Packing, Unpacked};

/// An opened input.
pub struct Input {
    pub reader: Unpacked,
    /// Bytes on disk; 0 when that is not known.
    pub size: u64,
    /// Time of last change in seconds since the epoch; `None` for standard input.
    pub modified: Option<i64>,
    /// Whether it can be opened again and shows the same bytes: not a pipe.
    pub lasting: bool,
}

/// Opens a file (`-` is standard input) and unpacks it when its first bytes say that it is packed.
pub fn open(path: &Path) -> io::Result<Input> {
    if path == Path::new("-") {
        return Ok(Input { reader: unpack(io::stdin())?, size: 0, modified: None, lasting: false });
    }
    let file = File::open(path)?;
    let meta = file.metadata()?;
    if meta.is_dir() {
        return Err(io::Error::new(io::ErrorKind::IsADirectory, "it is a directory"));
    }
    let modified = meta
        .modified()
        .ok()
        .and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok())
        .and_then(|since| i64::try_from(since.as_secs()).ok());
    Ok(Input { reader: unpack(file)?, size: meta.len(), modified, lasting: meta.is_file() })
}

fn unpack(mut raw: impl Read + Send + 'static) -> io::Result<Unpacked> {
    let mut first = Vec::with_capacity(MAGIC);
    raw.by_ref().take(MAGIC as u64).read_to_end(&mut first)?;
    Ok(Unpacked::new(Packing::of(&first), io::Cursor::new(first).chain(raw)))
}
