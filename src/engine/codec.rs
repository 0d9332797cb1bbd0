//! A small byte codec for state rows: varints and length-prefixed bytes. Reading never fails loudly:
//! what is damaged reads as `None`, and the row is dropped by its reader.

use crate::mail::{Dsn, QueueId, Time};

/// Appends values to a byte vector.
#[derive(Debug, Default)]
pub struct Writer {
    pub bytes: Vec<u8>,
}

impl Writer {
    pub fn u64(&mut self, mut value: u64) -> &mut Writer {
        while value >= 0x80 {
            self.bytes.push((value as u8) | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
        self
    }

    pub fn u32(&mut self, value: u32) -> &mut Writer {
        self.u64(u64::from(value))
    }

    pub fn i64(&mut self, value: i64) -> &mut Writer {
        self.u64(((value << 1) ^ (value >> 63)) as u64)
    }

    pub fn time(&mut self, value: Time) -> &mut Writer {
        self.i64(value.0)
    }

    pub fn bytes(&mut self, value: &[u8]) -> &mut Writer {
        self.u64(value.len() as u64);
        self.bytes.extend_from_slice(value);
        self
    }

    pub fn id(&mut self, value: QueueId) -> &mut Writer {
        self.bytes(value.as_bytes())
    }

    pub fn maybe_id(&mut self, value: Option<QueueId>) -> &mut Writer {
        self.bytes(value.as_ref().map_or(&[], |id| id.as_bytes()))
    }

    pub fn dsn(&mut self, value: Dsn) -> &mut Writer {
        self.u64(u64::from(value.class)).u64(u64::from(value.subject)).u64(u64::from(value.detail))
    }
}

/// Reads what `Writer` wrote.
#[derive(Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes }
    }

    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub fn u64(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.rest.split_first()?;
            self.rest = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    pub fn u32(&mut self) -> Option<u32> {
        u32::try_from(self.u64()?).ok()
    }

    pub fn u8(&mut self) -> Option<u8> {
        u8::try_from(self.u64()?).ok()
    }

    pub fn i64(&mut self) -> Option<i64> {
        let value = self.u64()?;
        Some(((value >> 1) as i64) ^ -((value & 1) as i64))
    }

    pub fn time(&mut self) -> Option<Time> {
        self.i64().map(Time)
    }

    pub fn bytes(&mut self) -> Option<&'a [u8]> {
        let len = usize::try_from(self.u64()?).ok()?;
        let (head, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(head)
    }

    /// So many bytes as they are.
    pub fn take<const N: usize>(&mut self) -> Option<&'a [u8; N]> {
        let (head, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        Some(head)
    }

    pub fn id(&mut self) -> Option<QueueId> {
        QueueId::new(self.bytes()?)
    }

    pub fn maybe_id(&mut self) -> Option<Option<QueueId>> {
        let bytes = self.bytes()?;
        if bytes.is_empty() { Some(None) } else { QueueId::new(bytes).map(Some) }
    }

    pub fn dsn(&mut self) -> Option<Dsn> {
        Some(Dsn::new(self.u8()?, u16::try_from(self.u64()?).ok()?, u16::try_from(self.u64()?).ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trip(a: u64, b: i64, c: Vec<u8>, d: u32) {
            let mut w = Writer::default();
            w.u64(a).i64(b).bytes(&c).u32(d).maybe_id(QueueId::new(b"ABC")).maybe_id(None);
            let mut r = Reader::new(&w.bytes);
            prop_assert_eq!((r.u64(), r.i64(), r.bytes(), r.u32()), (Some(a), Some(b), Some(&c[..]), Some(d)));
            prop_assert_eq!((r.maybe_id(), r.maybe_id(), r.is_empty()), (Some(QueueId::new(b"ABC")), Some(None), true));
        }

        #[test]
        fn damaged_bytes_never_panic(bytes: Vec<u8>) {
            let mut r = Reader::new(&bytes);
            while r.bytes().is_some() || r.u64().is_some() {
                if r.is_empty() { break }
            }
        }
    }
}
