//! Where we are in a log, as a small versioned blob stored in the same transaction as the facts. It touches no file.
//!
//! A file is known by its bytes: the hash of its first KiB (uncompressed) and of the bytes just before the offset.
//! Device, inode and birth only decide between files whose bytes fit. How the choice is made: see the module above.

/// How much of the beginning identifies a file.
pub const HEAD: usize = 1024;
/// How many bytes before the offset must still be there.
pub const TAIL: usize = 256;
const VERSION: u8 = 2;
const BYTES: usize = 2 + 8 * 7 + 2 + 2;

/// FNV-1a with 64 bits: written down in a standard, so that a stored position outlives every version of ours.
pub fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3))
}

/// What the file system says of a file's identity. `born` is 0 where the file system does not know births; it tells a
/// file from a later one in the same inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Id {
    pub dev: u64,
    pub ino: u64,
    pub born: i64,
}

/// The place after the last line given out. It always names a file something was consumed of; with `offset` 0 it names
/// none and means: everything changed after `mtime`, then the log itself, each from its first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Position {
    pub id: Id,
    /// Uncompressed offset in bytes.
    pub offset: u64,
    /// Hashes of the first `head_len` bytes and of the `tail_len` bytes before the offset.
    pub head: u64,
    pub tail: u64,
    /// Modification time when last seen, microseconds since the epoch; never before that of any file read earlier.
    pub mtime: i64,
    pub head_len: u16,
    pub tail_len: u16,
    /// The rest of an over-long (already cut) line follows and must be skipped.
    pub skipping: bool,
}

impl Position {
    /// Nothing consumed yet; files changed after `mtime` are new.
    pub(super) fn since(mtime: i64) -> Position {
        Position { mtime, ..Position::default() }
    }

    /// `head` and `tail` are the first bytes and those just before `offset`.
    pub(super) fn of(id: Id, offset: u64, head: &[u8], tail: &[u8], mtime: i64) -> Position {
        let len = |bytes: &[u8]| u16::try_from(bytes.len()).unwrap_or(0);
        let (head_len, tail_len) = (len(head), len(tail));
        Position { id, offset, head: fnv(head), tail: fnv(tail), mtime, head_len, tail_len, skipping: false }
    }

    /// Whether a file with these bytes at its beginning and before the offset may be ours.
    pub(super) fn fits(&self, head: &[u8], tail: &[u8]) -> bool {
        let tail = tail.len().checked_sub(usize::from(self.tail_len)).and_then(|i| tail.get(i..));
        self.fits_head(head) && tail.map(fnv) == Some(self.tail)
    }

    pub(super) fn fits_head(&self, head: &[u8]) -> bool {
        head.get(..usize::from(self.head_len)).map(fnv) == Some(self.head)
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = vec![VERSION, u8::from(self.skipping)];
        for word in [self.id.dev, self.id.ino, self.offset, self.head, self.tail] {
            out.extend_from_slice(&word.to_le_bytes());
        }
        for time in [self.id.born, self.mtime] {
            out.extend_from_slice(&time.to_le_bytes());
        }
        for len in [self.head_len, self.tail_len] {
            out.extend_from_slice(&len.to_le_bytes());
        }
        out
    }

    /// `None` when the bytes are not a position of a version we know.
    pub fn from_bytes(bytes: &[u8]) -> Option<Position> {
        let (head, rest) = bytes.split_at_checked(2)?;
        let skipping = match head {
            [VERSION, 0] => false,
            [VERSION, 1] => true,
            _ => return None,
        };
        if bytes.len() != BYTES {
            return None;
        }
        let word = |i: usize| rest.get(i * 8..i * 8 + 8).and_then(|b| b.try_into().ok()).map(u64::from_le_bytes);
        let short = |i: usize| rest.get(i..i + 2).and_then(|b| b.try_into().ok()).map(u16::from_le_bytes);
        let out = Position {
            id: Id { dev: word(0)?, ino: word(1)?, born: word(5)?.cast_signed() },
            offset: word(2)?,
            head: word(3)?,
            tail: word(4)?,
            mtime: word(6)?.cast_signed(),
            head_len: short(56)?,
            tail_len: short(58)?,
            skipping,
        };
        let sane = usize::from(out.head_len) <= HEAD && usize::from(out.tail_len) <= TAIL;
        (sane && u64::from(out.head_len.max(out.tail_len)) <= out.offset).then_some(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn survives_the_store_and_refuses_damage() {
        let id = Id { dev: 1, ino: 2, born: -3 };
        let mut p = Position::of(id, 900, &[1; 900], &[1; 256], -6);
        p.skipping = true;
        let bytes = p.to_bytes();
        assert_eq!(Position::from_bytes(&bytes), Some(p));
        for cut in 0..bytes.len() {
            assert_eq!(Position::from_bytes(&bytes[..cut]), None);
        }
        assert_eq!(Position::from_bytes(&Position { offset: 1, ..p }.to_bytes()), None, "more evidence than bytes");
    }

    #[test]
    fn the_hash_is_the_published_one() {
        assert_eq!(fnv(b"foobar"), 0x8594_4171_f739_67e8);
    }
}
