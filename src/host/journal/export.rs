//! The journal export format, read as it comes: pure, incremental, with bounded memory whatever the bytes say.
//!
//! An entry is a sequence of fields and ends with an empty line. A field is `NAME=value`, or, when the value is not
//! printable text, `NAME`, a newline, its length as 64 bits little-endian, its bytes, a newline
//! (systemd, "Journal Export Formats"). It keeps the fields that make a log line and skips all others.

use memchr::{memchr, memchr2};

/// Fields that are kept, in the order of [`Entry`]'s values.
const NAMES: [&[u8]; 8] = [
    b"__CURSOR",
    b"__REALTIME_TIMESTAMP",
    b"_HOSTNAME",
    b"SYSLOG_IDENTIFIER",
    b"SYSLOG_PID",
    b"_PID",
    b"_SYSTEMD_UNIT",
    b"MESSAGE",
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    Cursor,
    Realtime,
    Host,
    Identifier,
    SyslogPid,
    Pid,
    Unit,
    Message,
}

/// No field of ours is longer, but the message.
const SHORT: usize = 1024;
/// systemd's own limit is 64.
const MAX_NAME: usize = 256;
/// systemd refuses fields beyond 768 MiB: a longer one means that we lost the thread.
const MAX_SIZE: u64 = 1 << 30;

/// One whole entry. Of fields that are given more than once, the first counts.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Entry {
    values: [Option<Vec<u8>>; NAMES.len()],
    /// The message was longer than the limit and is cut.
    pub cut: bool,
    any: bool,
}

impl Entry {
    pub fn get(&self, field: Field) -> Option<&[u8]> {
        self.values.get(field as usize)?.as_deref()
    }
}

/// What is no export format: the stream cannot be read on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Broken(pub &'static str);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Name,
    /// A value up to the newline.
    Text,
    /// The length, of which so many bytes are there.
    Size(u64, u32),
    /// So many bytes of the value are to come.
    Data(u64),
    /// The newline after the value.
    End,
}

/// Reads one stream.
#[derive(Debug)]
pub struct Export {
    max_message: usize,
    state: State,
    name: Vec<u8>,
    /// Where the present value goes; `None`: it is skipped.
    slot: Option<usize>,
    entry: Entry,
}

impl Export {
    pub fn new(max_message: usize) -> Export {
        Export { max_message, state: State::Name, name: Vec::new(), slot: None, entry: Entry::default() }
    }

    /// Whether an entry has begun and not ended.
    pub fn inside(&self) -> bool {
        self.entry.any || self.state != State::Name || !self.name.is_empty()
    }

    /// Reads the next bytes of the stream, however they are cut, and gives out each entry that is whole.
    ///
    /// # Errors
    /// When the bytes are no export format. Entries before that were given out; nothing after it will be.
    pub fn feed(&mut self, mut bytes: &[u8], on_entry: &mut dyn FnMut(&Entry)) -> Result<(), Broken> {
        while !bytes.is_empty() {
            bytes = match self.state {
                State::Name => self.name(bytes, on_entry)?,
                State::Text => self.text(bytes),
                State::Size(size, have) => self.size(size, have, bytes)?,
                State::Data(left) => self.data(left, bytes),
                State::End => {
                    let (newline, rest) = bytes.split_at(1);
                    if newline != b"\n" {
                        return Err(Broken("a field is longer than it says"));
                    }
                    self.state = State::Name;
                    rest
                }
            };
        }
        Ok(())
    }

    fn name<'a>(&mut self, bytes: &'a [u8], on_entry: &mut dyn FnMut(&Entry)) -> Result<&'a [u8], Broken> {
        let end = memchr2(b'=', b'\n', bytes);
        let (part, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
        if !part.iter().all(|byte| matches!(byte, b'A'..=b'Z' | b'0'..=b'9' | b'_')) {
            return Err(Broken("a field name has other bytes than A-Z, 0-9 and _"));
        }
        if self.name.len() + part.len() > MAX_NAME {
            return Err(Broken("a field name is too long"));
        }
        self.name.extend_from_slice(part);
        let Some((end, rest)) = rest.split_first() else { return Ok(rest) };
        match (end, self.name.is_empty()) {
            (b'\n', true) => {
                if std::mem::take(&mut self.entry.any) {
                    on_entry(&self.entry);
                }
                self.entry.values.iter_mut().for_each(|value| *value = None);
                self.entry.cut = false;
                return Ok(rest);
            }
            (_, true) => return Err(Broken("a field has no name")),
            (b'=', false) => self.state = State::Text,
            (_, false) => self.state = State::Size(0, 0),
        }
        self.entry.any = true;
        self.slot = NAMES.iter().position(|name| *name == self.name);
        if let Some(value) = self.slot.and_then(|slot| self.entry.values.get_mut(slot)) {
            match value {
                Some(_) => self.slot = None,
                None => *value = Some(Vec::new()),
            }
        }
        self.name.clear();
        Ok(rest)
    }

    fn text<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let end = memchr(b'\n', bytes);
        let (part, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
        self.keep(part);
        match rest.split_first() {
            Some((_, rest)) => {
                self.state = State::Name;
                rest
            }
            None => rest,
        }
    }

    fn size<'a>(&mut self, size: u64, have: u32, bytes: &'a [u8]) -> Result<&'a [u8], Broken> {
        let Some((byte, rest)) = bytes.split_first() else { return Ok(bytes) };
        let size = size | u64::from(*byte) << (8 * have);
        self.state = match have {
            7 if size > MAX_SIZE => return Err(Broken("a field is impossibly long")),
            7 if size == 0 => State::End,
            7 => State::Data(size),
            _ => State::Size(size, have + 1),
        };
        Ok(rest)
    }

    fn data<'a>(&mut self, left: u64, bytes: &'a [u8]) -> &'a [u8] {
        let (part, rest) = bytes.split_at(usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len()));
        self.keep(part);
        let left = left - part.len() as u64;
        self.state = if left == 0 { State::End } else { State::Data(left) };
        rest
    }

    fn keep(&mut self, part: &[u8]) {
        let message = self.slot == Some(Field::Message as usize);
        let limit = if message { self.max_message } else { SHORT };
        let Some(Some(value)) = self.slot.and_then(|slot| self.entry.values.get_mut(slot)) else { return };
        let room = limit.saturating_sub(value.len());
        value.extend(part.iter().take(room));
        self.entry.cut |= message && part.len() > room;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8], max: usize) -> (Vec<Entry>, Result<(), Broken>) {
        let mut entries = Vec::new();
        let mut export = Export::new(max);
        let result = export.feed(bytes, &mut |entry| entries.push(entry.clone()));
        (entries, result)
    }

    #[test]
    fn text_and_binary_fields_skipped_fields_and_the_first_of_two() {
        let stream = b"__CURSOR=s=1;i=2\nOTHER=x\nMESSAGE\n\x05\0\0\0\0\0\0\0a\nb\0c\nBLOB\n\x02\0\0\0\0\0\0\0\n\n\n_PID=7\n_PID=8\n\n\n\
            MESSAGE=\n\n_PID=1\nMESS";
        let (entries, result) = read(stream, 99);
        assert_eq!((entries.len(), result), (2, Ok(())));
        assert_eq!(entries[0].get(Field::Cursor), Some(&b"s=1;i=2"[..]));
        assert_eq!(entries[0].get(Field::Message), Some(&b"a\nb\0c"[..]));
        assert_eq!((entries[0].get(Field::Pid), entries[0].get(Field::Host)), (Some(&b"7"[..]), None));
        assert_eq!((entries[1].get(Field::Message), entries[1].get(Field::Pid)), (Some(&b""[..]), None));
    }

    #[test]
    fn a_long_message_is_cut_and_counted_and_nothing_is_kept_of_a_long_stranger() {
        let mut stream = b"MESSAGE=".to_vec();
        stream.extend([b'm'; 100]);
        stream.extend(b"\n\nMESSAGE=12345\nX\n\x00\x00\x10\0\0\0\0\0");
        stream.extend(vec![b'x'; 1 << 20]);
        stream.extend(b"\n\n");
        let (entries, result) = read(&stream, 5);
        assert_eq!(result, Ok(()));
        assert_eq!((entries[0].get(Field::Message), entries[0].cut), (Some(&b"mmmmm"[..]), true));
        assert_eq!((entries[1].get(Field::Message), entries[1].cut), (Some(&b"12345"[..]), false));
    }

    #[test]
    fn what_is_no_export_format_is_told() {
        for (stream, why) in [
            (&b"lower=1\n"[..], "other bytes"),
            (b"=x\n", "no name"),
            (b"MESSAGE\n\x01\0\0\0\0\0\0\0ab", "longer than it says"),
            (b"MESSAGE\n\xff\xff\xff\xff\xff\xff\xff\xff", "impossibly long"),
            (&[b'A'; MAX_NAME + 1], "too long"),
        ] {
            let (_, result) = read(stream, 9);
            assert!(result.unwrap_err().0.contains(why), "{why}");
        }
    }
}
