//! Queue ids: the server's name for a message while it is in the queue.
//!
//! Short ids are reused within seconds of a removal, so an id alone never names a message;
//! the tracker adds log host, instance and incarnation.

use std::fmt;

/// A queue id as the server wrote it: ASCII letters, digits and `-`, 1 to 23 bytes (both servers' longest).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QueueId {
    len: u8,
    bytes: [u8; QueueId::MAX],
}

impl QueueId {
    pub const MAX: usize = 23;

    /// `None` when `text` is empty, too long, or has a byte no queue id of any server has.
    #[inline]
    pub fn new(text: &[u8]) -> Option<QueueId> {
        if text.is_empty() || text.len() > QueueId::MAX {
            return None;
        }
        // All bytes at once, also those behind the end, which are none: the compiler makes two wide steps of it.
        let mut wide = [0u8; 32];
        wide.get_mut(..text.len())?.copy_from_slice(text);
        let good = wide.iter().fold(0, |good, &byte| good + u8::from(byte.is_ascii_alphanumeric() || byte == b'-'));
        let bytes = *wide.first_chunk()?;
        (usize::from(good) == text.len()).then_some(QueueId { len: text.len() as u8, bytes })
    }

    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len as usize).unwrap_or(&[])
    }

    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).unwrap_or("")
    }
}

impl fmt::Debug for QueueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for QueueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_both_forms_and_nothing_else() {
        assert_eq!(QueueId::new(b"4jY2SQ3blzz5bcl").map(|q| q.to_string()), Some("4jY2SQ3blzz5bcl".into()));
        assert_eq!(
            QueueId::new(b"1vNABC-0000000abcd-12Xy").map(|q| q.to_string()),
            Some("1vNABC-0000000abcd-12Xy".into())
        );
        for bad in [&b""[..], b"a b", b"NO:QUEUE", b"x\xff", &[b'A'; 24]] {
            assert_eq!(QueueId::new(bad), None, "{bad:?}");
        }
    }
}
