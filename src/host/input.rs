//! Input for `replay`: plain or gzipped files and standard input, as one stream of bytes.

use flate2::read::MultiGzDecoder;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

/// An opened input.
pub struct Input {
    pub reader: Box<dyn Read + Send>,
    /// Bytes on disk; 0 when that is not known.
    pub size: u64,
    /// Time of last change in seconds since the epoch; `None` for standard input.
    pub modified: Option<i64>,
}

/// Opens a file (`-` is standard input) and decompresses it when its first bytes say gzip.
pub fn open(path: &Path) -> io::Result<Input> {
    if path == Path::new("-") {
        let (reader, _) = decompress(Box::new(io::stdin()))?;
        return Ok(Input { reader, size: 0, modified: None });
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
    let (reader, _) = decompress(Box::new(file))?;
    Ok(Input { reader, size: meta.len(), modified })
}

fn decompress(mut raw: Box<dyn Read + Send>) -> io::Result<(Box<dyn Read + Send>, bool)> {
    let mut magic = Vec::with_capacity(2);
    raw.by_ref().take(2).read_to_end(&mut magic)?;
    let gzip = magic == [0x1f, 0x8b];
    let whole = io::Cursor::new(magic).chain(raw);
    if gzip {
        Ok((Box::new(MultiGzDecoder::new(BufReader::with_capacity(256 * 1024, whole))), true))
    } else {
        Ok((Box::new(whole), false))
    }
}
