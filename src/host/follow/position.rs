//! Where we are in a log, as a small versioned blob stored in the same transaction as the facts.
//!
//! A file is known by its bytes: the hash of its first KiB (uncompressed) and of the bytes just before the offset.
//! Device and inode only decide between files whose bytes both fit. It never touches a file.
//!
//! Two files that agree in the first KiB *and* in the 256 bytes before our offset cannot be told apart by content;
//! the inode, then the newest, decides. Stamped log lines make that a theoretical case.

/// How much of the beginning identifies a file.
pub const HEAD: usize = 1024;
/// How many bytes before the offset must still be there.
pub const TAIL: usize = 256;
const VERSION: u8 = 1;
const FILE_BYTES: usize = 8 * 6 + 2 + 2;

/// FNV-1a with 64 bits: written down in a standard, so that a stored position outlives every version of ours.
pub fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3))
}

/// A file and a place in it. `head_len` 0 means that nothing of the file was consumed: it fits every file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mark {
    pub dev: u64,
    pub ino: u64,
    /// Uncompressed offset in bytes.
    pub offset: u64,
    pub head: u64,
    pub tail: u64,
    /// Modification time when last seen, microseconds since the epoch.
    pub mtime: i64,
    pub head_len: u16,
    pub tail_len: u16,
}

/// The file read to its end before the present one: the fixed point when the present one has no bytes yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Before {
    /// Nothing is known of older files.
    #[default]
    Unknown,
    /// There was no rotated file when we began.
    Nothing,
    File(Mark),
}

/// The place after the last line given out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Position {
    pub at: Mark,
    pub before: Before,
    /// The rest of an over-long (already cut) line follows and must be skipped.
    pub skipping: bool,
}

impl Position {
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = vec![VERSION, u8::from(self.skipping)];
        put(&mut out, &self.at);
        match &self.before {
            Before::Unknown => out.push(0),
            Before::Nothing => out.push(1),
            Before::File(mark) => {
                out.push(2);
                put(&mut out, mark);
            }
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
        let (at, rest) = take(rest)?;
        let before = match rest.split_first()? {
            (0, []) => Before::Unknown,
            (1, []) => Before::Nothing,
            (2, rest) => match take(rest)? {
                (mark, []) => Before::File(mark),
                _ => return None,
            },
            _ => return None,
        };
        Some(Position { at, before, skipping })
    }
}

fn put(out: &mut Vec<u8>, m: &Mark) {
    for word in [m.dev, m.ino, m.offset, m.head, m.tail] {
        out.extend_from_slice(&word.to_le_bytes());
    }
    out.extend_from_slice(&m.mtime.to_le_bytes());
    out.extend_from_slice(&m.head_len.to_le_bytes());
    out.extend_from_slice(&m.tail_len.to_le_bytes());
}

fn take(bytes: &[u8]) -> Option<(Mark, &[u8])> {
    let (mark, rest) = bytes.split_at_checked(FILE_BYTES)?;
    let word = |i: usize| mark.get(i * 8..i * 8 + 8).and_then(|b| b.try_into().ok()).map(u64::from_le_bytes);
    let short = |i: usize| mark.get(i..i + 2).and_then(|b| b.try_into().ok()).map(u16::from_le_bytes);
    let out = Mark {
        dev: word(0)?,
        ino: word(1)?,
        offset: word(2)?,
        head: word(3)?,
        tail: word(4)?,
        mtime: word(5)?.cast_signed(),
        head_len: short(48)?,
        tail_len: short(50)?,
    };
    let sane = usize::from(out.head_len) <= HEAD && usize::from(out.tail_len) <= TAIL;
    (sane && u64::from(out.head_len.max(out.tail_len)) <= out.offset).then_some((out, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn survives_the_store_and_refuses_damage() {
        let at = Mark { dev: 1, ino: 2, offset: 900, head: 4, tail: 5, mtime: -6, head_len: 900, tail_len: 256 };
        for before in [Before::Unknown, Before::Nothing, Before::File(at)] {
            let p = Position { at, before, skipping: true };
            let bytes = p.to_bytes();
            assert_eq!(Position::from_bytes(&bytes), Some(p));
            for cut in 0..bytes.len() {
                assert_eq!(Position::from_bytes(&bytes[..cut]), None);
            }
        }
    }

    #[test]
    fn the_hash_is_the_published_one() {
        assert_eq!(fnv(b"foobar"), 0x8594_4171_f739_67e8);
    }
}
