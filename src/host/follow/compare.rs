//! How the content of one file lies in that of another, packed or plain: exact, and at a bounded price.
//!
//! Two plain files, or a plain one and a packed one, cost no more than the plain one is long. Two packed ones could
//! unpack to anything: they are given up as [`Within::Boundless`] where no log goes. It never decides what follows.

use std::fs::File;
use std::io::{self, Read};

use super::position::HEAD;
use super::source::{bytes_at, is_packed, retry, stream};
use super::wake::Stop;
use crate::host::unpack::{self, Unpacked};

const STEP: usize = 64 * 1024;

/// Mail logs pack to a tenth or a thirtieth. What gives more than this, and more than [`RATIO`] times its size, is no
/// log, but nothing over and over: a gigabyte of zeros is a megabyte for gzip and 32 KiB for zstd.
const ENOUGH: u64 = 64 << 20;
const RATIO: u64 = 100;

/// How the content of one file lies in that of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Within {
    Not,
    /// The other begins with all of it.
    Begins,
    Equals,
    /// Not decided: more comes out of both than out of any log.
    Boundless,
}

/// Asks, and counts what the answers cost.
#[derive(Debug, Default)]
pub(super) struct Comparing {
    pub stop: Stop,
    /// Bytes that were unpacked or read of files for the sake of an answer.
    pub bytes: u64,
}

impl Comparing {
    /// How the uncompressed content of `part` lies in `whole`; of a damaged file, what can be read of it. Damage within
    /// the first KiB leaves nothing to go by: it lies in none, unless `trusted`.
    ///
    /// # Errors
    /// When one cannot be read, or the agent is to end.
    pub fn within(&mut self, part: &File, whole: &File, trusted: bool) -> io::Result<Within> {
        let packed = is_packed(part)? && is_packed(whole)?;
        if packed && self.is_copy(part, whole)? {
            return Ok(Within::Equals);
        }
        let (mut part, mut whole) = (stream(part)?, stream(whole)?);
        let (mut a, mut b) = (vec![0; STEP], vec![0; STEP]);
        let mut total = 0u64;
        loop {
            self.stop.check()?;
            let (n, damaged) = self.fill(&mut part, &mut a)?;
            let (m, _) = self.fill(&mut whole, &mut b)?;
            total += n as u64;
            if m < n || a.get(..n) != b.get(..n) || (damaged && total < HEAD as u64 && !trusted) {
                return Ok(Within::Not);
            }
            if n < a.len() {
                return Ok(if m == n { Within::Equals } else { Within::Begins });
            }
            let most = part.consumed().max(whole.consumed()).saturating_mul(RATIO).max(ENOUGH);
            if packed && total > most {
                return Ok(Within::Boundless);
            }
        }
    }

    /// Whether `packed` is the compressed form of the plain file `held`.
    pub fn is_packed_from(&mut self, packed: &File, held: &File) -> io::Result<bool> {
        Ok(is_packed(packed)? && !is_packed(held)? && self.within(packed, held, false)? == Within::Equals)
    }

    /// Whether two files are byte for byte the same on the disk: what they unpack to need not be asked then.
    pub fn is_copy(&mut self, one: &File, other: &File) -> io::Result<bool> {
        let len = one.metadata()?.len();
        if len != other.metadata()?.len() {
            return Ok(false);
        }
        let mut at = 0;
        while at < len {
            self.stop.check()?;
            let bytes = bytes_at(one, at, STEP)?;
            self.bytes += bytes.len() as u64;
            if bytes.is_empty() || bytes != bytes_at(other, at, STEP)? {
                return Ok(false);
            }
            at += bytes.len() as u64;
        }
        Ok(true)
    }

    /// Reads until the buffer is full or nothing more comes; the second: what follows is damaged.
    pub fn fill(&mut self, from: &mut Unpacked, buf: &mut [u8]) -> io::Result<(usize, bool)> {
        let (mut done, mut damaged) = (0, false);
        while let Some(rest) = buf.get_mut(done..).filter(|r| !r.is_empty()) {
            match retry(|| from.read(rest)) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(why) if unpack::is_damage(&why) => {
                    damaged = true;
                    break;
                }
                Err(why) => return Err(why),
            }
        }
        self.bytes += done as u64;
        Ok((done, damaged))
    }
}
