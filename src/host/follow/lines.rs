//! The reading buffer: big chunks in, whole lines out, nothing copied but the partial tail.
//!
//! It keeps the 256 bytes before the offset and the first KiB at hand, so that a mark costs nothing until asked for.
//! Its size is bounded by chunk + longest line + 256 bytes.

use std::io;

use memchr::memchr;

use super::position::{HEAD, TAIL};
use super::source::Source;
use crate::host::group::Group;

#[derive(Default)]
pub(super) struct Lines {
    buf: Vec<u8>,
    /// Bytes of `buf` that are filled, and how many of them were given out.
    len: usize,
    start: usize,
    /// File offset of the first byte of `buf`.
    base: u64,
    head: Vec<u8>,
    pub skipping: bool,
}

#[derive(Default, Clone, Copy)]
pub(super) struct Given {
    pub lines: u64,
    pub cut: u64,
}

impl Lines {
    /// Begins at an offset whose head and tail bytes are given; the allocation is kept.
    pub fn enter(&mut self, offset: u64, head: Vec<u8>, tail: &[u8], skipping: bool) {
        self.head = head;
        self.base = offset.saturating_sub(tail.len() as u64);
        if self.buf.len() < tail.len() {
            self.buf.resize(tail.len(), 0);
        }
        for (to, from) in self.buf.iter_mut().zip(tail) {
            *to = *from;
        }
        self.len = tail.len();
        self.start = tail.len();
        self.skipping = skipping;
    }

    pub fn offset(&self) -> u64 {
        self.base + self.start as u64
    }

    pub fn end(&self) -> u64 {
        self.base + self.len as u64
    }

    pub fn head(&self) -> &[u8] {
        &self.head
    }

    /// The bytes before the offset, at most 256.
    pub fn tail(&self) -> &[u8] {
        self.buf.get(self.start.saturating_sub(TAIL)..self.start).unwrap_or_default()
    }

    /// The last bytes that were read before the newest `n`, given out or not, and where they are in the file.
    pub fn read_before(&self, n: usize) -> (u64, &[u8]) {
        let to = self.len.saturating_sub(n);
        let from = to.saturating_sub(TAIL);
        (self.base + from as u64, self.buf.get(from..to).unwrap_or_default())
    }

    /// Forgets the newest `n` bytes, which turned out not to belong here.
    pub fn unfill(&mut self, n: usize) {
        self.len = self.len.saturating_sub(n).max(self.start);
        self.head.truncate(usize::try_from(self.end()).unwrap_or(HEAD));
    }

    /// Reads at most `chunk` more bytes; 0 at the end of the file.
    pub fn fill(&mut self, source: &mut Source, chunk: usize) -> io::Result<usize> {
        let keep = self.start.saturating_sub(TAIL);
        if keep > 0 {
            self.buf.copy_within(keep..self.len, 0);
            self.base += keep as u64;
            self.len -= keep;
            self.start -= keep;
        }
        if self.buf.len() < self.len + chunk {
            self.buf.resize(self.len + chunk, 0);
        }
        let at = self.end();
        let n = source.read(self.buf.get_mut(self.len..self.len + chunk).unwrap_or_default())?;
        if self.head.len() < HEAD && self.head.len() as u64 == at {
            let got = self.buf.get(self.len..self.len + n).unwrap_or_default();
            self.head.extend(got.iter().take(HEAD - self.head.len()));
        }
        self.len += n;
        Ok(n)
    }

    /// Gives out every whole line; a line longer than `max` is cut to `max` and its rest skipped.
    pub fn give(&mut self, max: usize, on_lines: &mut dyn FnMut(&[&[u8]])) -> Given {
        let (mut given, mut group) = (Given::default(), Group::new(on_lines));
        while let Some(rest) = self.buf.get(self.start..self.len).filter(|r| !r.is_empty()) {
            let newline = memchr(b'\n', rest);
            if self.skipping {
                self.start += newline.map_or(rest.len(), |n| n + 1);
                self.skipping = newline.is_none();
                continue;
            }
            match newline {
                Some(n) if n <= max => {
                    group.push(rest.get(..n).unwrap_or_default());
                    self.start += n + 1;
                }
                None if rest.len() <= max => break,
                _ => {
                    group.push(rest.get(..max).unwrap_or_default());
                    self.start += max;
                    self.skipping = true;
                    given.cut += 1;
                }
            }
            given.lines += 1;
        }
        group.hand_on();
        given
    }

    /// The file is finished: a partial last line is a line.
    pub fn flush(&mut self, on_lines: &mut dyn FnMut(&[&[u8]])) -> u64 {
        let rest = self.buf.get(self.start..self.len).unwrap_or_default();
        if rest.is_empty() || self.skipping {
            return 0;
        }
        on_lines(&[rest]);
        self.start = self.len;
        1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(bytes: &[u8]) -> Lines {
        let (buf, len) = (bytes.to_vec(), bytes.len());
        Lines { buf, len, ..Lines::default() }
    }

    fn give(lines: &mut Lines, max: usize) -> (Vec<Vec<u8>>, u64) {
        let mut out = Vec::new();
        let given = lines.give(max, &mut |group| out.extend(group.iter().map(|l| l.to_vec())));
        assert_eq!(given.lines, out.len() as u64);
        (out, given.cut)
    }

    #[test]
    fn a_line_as_long_as_allowed_is_whole_and_the_next_longer_is_cut() {
        let mut lines = filled(b"1234\n12345\n\n123");
        assert_eq!(give(&mut lines, 4), (vec![b"1234".to_vec(), b"1234".to_vec(), vec![]], 1));
        assert_eq!((lines.offset(), lines.skipping), (12, false));
        let mut out = Vec::new();
        assert_eq!(lines.flush(&mut |group| out.extend(group.iter().map(|l| l.to_vec()))), 1);
        assert_eq!((out, lines.flush(&mut |_| {})), (vec![b"123".to_vec()], 0));
    }

    #[test]
    fn the_rest_of_a_cut_line_is_no_line() {
        let mut lines = filled(b"12345");
        assert_eq!(give(&mut lines, 4), (vec![b"1234".to_vec()], 1));
        assert!(lines.skipping && lines.flush(&mut |_| {}) == 0);
        let mut lines = filled(b"rest\nnext\n");
        lines.skipping = true;
        assert_eq!(give(&mut lines, 9), (vec![b"next".to_vec()], 0));
    }
}
