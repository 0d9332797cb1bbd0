//! Compressed logs as plain bytes: gzip, xz, zstd and bzip2, each told by its first bytes, never by a name.
//!
//! Several members, streams or frames in a row are one log, as `zcat` and its kin read them. Memory per open file is
//! bounded: what was packed with a larger window than any default setting is refused as damage, and so is what unpacks
//! to more than any log. It opens no file.

use std::io::{self, BufRead, BufReader, ErrorKind, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::FrameDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};

/// Bytes that tell the format.
pub const MAGIC: usize = 6;
/// Compressed bytes per read.
const CHUNK: usize = 128 * 1024;
/// `xz -9` has a dictionary of 64 MiB, `zstd --ultra -22` and `--long` have a window of 128 MiB.
const MAX_WINDOW: u32 = 128 << 20;

/// A packed file that gives more than this, and more than [`MAX_RATIO`] times its size, is refused as damage: from a few
/// MiB of a disk, zstd can make terabytes that nobody wants to wait for. gzip cannot make more than 1,032 times.
const MAX_GIVEN: u64 = 1 << 30;
const MAX_RATIO: u64 = 1_100;
/// Unpacked bytes asked of a decoder at once. Where it finds damage it keeps what the same call has made: little.
const STEP: usize = 128 * 1024;

/// How a file is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    Plain,
    Gzip,
    Xz,
    Zstd,
    Bzip2,
}

/// Name endings that compressors give.
pub const ENDINGS: [&str; 4] = [".gz", ".xz", ".zst", ".bz2"];

impl Packing {
    /// By the first bytes of a file (RFC 1952, the xz file format 1.2.0, RFC 8878 with its skippable frames, bzip2).
    pub fn of(first: &[u8]) -> Packing {
        match first {
            [0x1f, 0x8b, ..] => Packing::Gzip,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Packing::Xz,
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Packing::Zstd,
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => Packing::Bzip2,
            _ => Packing::Plain,
        }
    }
}

/// A packed stream, read forward as what was packed.
///
/// Errors are of two kinds, whatever the decoder says: `InvalidData` is damage (or an end that came too early);
/// everything else is what reading the packed bytes said.
pub struct Unpacked {
    decoder: Box<dyn Read + Send>,
    packed: bool,
    given: u64,
    meter: Arc<Meter>,
}

/// What went on below the decoder.
#[derive(Default)]
struct Meter {
    read: AtomicU64,
    errno: AtomicI32,
}

impl Unpacked {
    /// `raw` stands at its first byte. A plain stream is passed through.
    pub fn new(packing: Packing, raw: impl Read + Send + 'static) -> Unpacked {
        let meter = Arc::new(Meter::default());
        let raw = BufReader::with_capacity(CHUNK, Metered { raw, meter: Arc::clone(&meter) });
        let decoder: Box<dyn Read + Send> = match packing {
            Packing::Plain => Box::new(raw),
            Packing::Gzip => Box::new(MultiGzDecoder::new(raw)),
            Packing::Xz => Box::new(lzma_rust2::XzReader::new_mem_limit(raw, true, MAX_WINDOW / 1024 + 1024)),
            Packing::Zstd => Box::new(Zstd::new(raw)),
            Packing::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(raw)),
        };
        Unpacked { decoder, packed: packing != Packing::Plain, given: 0, meter }
    }

    /// Packed bytes consumed so far: how far a file has come.
    pub fn consumed(&self) -> u64 {
        self.meter.read.load(Ordering::Relaxed)
    }
}

impl Read for Unpacked {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let step = if self.packed { buf.len().min(STEP) } else { buf.len() };
        let read = self.decoder.read(buf.get_mut(..step).unwrap_or_default());
        let n = read.map_err(|why| match self.meter.errno.swap(0, Ordering::Relaxed) {
            _ if why.kind() == ErrorKind::Interrupted => why,
            0 => io::Error::new(ErrorKind::InvalidData, why),
            errno => io::Error::from_raw_os_error(errno),
        })?;
        self.given += n as u64;
        if self.packed && self.given > self.consumed().saturating_mul(MAX_RATIO).max(MAX_GIVEN) {
            let said = format!("more than {MAX_RATIO} times its size comes out of it: it is no log");
            return Err(io::Error::new(ErrorKind::InvalidData, said));
        }
        Ok(n)
    }
}

/// Whether an error of [`Unpacked`] says that the packed data is broken, as opposed to a disk that cannot be read.
pub fn is_damage(why: &io::Error) -> bool {
    why.kind() == ErrorKind::InvalidData && why.raw_os_error().is_none()
}

/// Decoders wrap or rename the errors of what they read: here they are still what they are.
struct Metered<R> {
    raw: R,
    meter: Arc<Meter>,
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.raw.read(buf);
        match &read {
            Ok(n) => drop(self.meter.read.fetch_add(*n as u64, Ordering::Relaxed)),
            Err(why) if why.kind() == ErrorKind::Interrupted => {}
            Err(why) => {
                let errno = why.raw_os_error().unwrap_or(rustix::io::Errno::IO.raw_os_error());
                self.meter.errno.store(errno, Ordering::Relaxed);
            }
        }
        read
    }
}

/// All frames of a zstd file; the library decodes one.
struct Zstd<R> {
    raw: R,
    frame: Box<FrameDecoder>,
    within: bool,
}

impl<R: BufRead> Zstd<R> {
    fn new(raw: R) -> Zstd<R> {
        let mut frame = Box::new(FrameDecoder::new());
        frame.set_max_window_size(u64::from(MAX_WINDOW));
        Zstd { raw, frame, within: false }
    }

    /// Enters the next frame; false at the end of the file.
    fn enter(&mut self) -> io::Result<bool> {
        while !self.raw.fill_buf()?.is_empty() {
            match self.frame.init(&mut self.raw) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame { length, .. })) => {
                    let skipped = io::copy(&mut (&mut self.raw).take(u64::from(length)), &mut io::sink())?;
                    if skipped < u64::from(length) {
                        return Err(ErrorKind::UnexpectedEof.into());
                    }
                }
                Err(why) => return Err(io::Error::other(why)),
            }
        }
        Ok(false)
    }
}

impl<R: BufRead> Read for Zstd<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.within && self.frame.can_collect() > 0 {
                return self.frame.read(buf);
            }
            if self.within && !self.frame.is_finished() {
                let one = ruzstd::decoding::BlockDecodingStrategy::UptoBlocks(1);
                self.frame.decode_blocks(&mut self.raw, one).map_err(io::Error::other)?;
                continue;
            }
            if self.within {
                let (said, is) = (self.frame.get_checksum_from_data(), self.frame.get_calculated_checksum());
                if said.is_some_and(|said| is.is_some_and(|is| is != said)) {
                    return Err(io::Error::new(ErrorKind::InvalidData, "the checksum of a zstd frame is wrong"));
                }
            }
            self.within = self.enter()?;
            if !self.within || buf.is_empty() {
                return Ok(0);
            }
        }
    }
}

#[cfg(test)]
mod tests;
