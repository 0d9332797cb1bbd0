//! Where we are in the journal: the cursor of the last entry, and how far each journal was read. It touches no file.
//!
//! A cursor alone cannot say what comes after it twice or never: the journal sorts entries of different boots by their
//! clock, and clocks jump. Every journal numbers its entries, though, and never gives a number twice. So the highest
//! number of each journal that was read is kept, and an entry at or below it was read before.

use crate::mail::Time;

/// Journals that are remembered. A host has one, and a new one when its files are lost.
const MOST: usize = 64;
/// As the longest that is read.
const MAX_CURSOR: usize = 1024;
/// Without [`Place::since`].
const FIRST: u8 = 1;
const SECOND: u8 = 2;

/// The numbering that an entry belongs to, and its number there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Number {
    pub journal: u128,
    pub n: u64,
}

impl Number {
    /// `s=9639…;i=a2;b=…`: the journal's id and the number, both hexadecimal (sd_journal_get_cursor(3) calls the whole
    /// opaque, but every version has written these two). `None`: not told.
    pub fn of(cursor: &[u8]) -> Option<Number> {
        let text = std::str::from_utf8(cursor).ok()?;
        let part = |key: &str| text.split(';').find_map(|part| part.strip_prefix(key));
        let journal = u128::from_str_radix(part("s=")?, 16).ok()?;
        Some(Number { journal, n: u64::from_str_radix(part("i=")?, 16).ok()? })
    }
}

/// Whether two cursors are of one entry. The numbers say it, where they are told.
pub fn is_same(one: &[u8], other: &[u8]) -> bool {
    one == other || Number::of(one).is_some_and(|number| Number::of(other) == Some(number))
}

/// The place after the last entry that was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// Older entries were never wanted. It is kept, so that a second start before the first entry begins there too.
    pub since: Time,
    /// Of the last entry; empty before the first.
    pub cursor: Vec<u8>,
    /// When that entry was written.
    pub time: Time,
    /// The highest number of each journal, the one read last at the end.
    read: Vec<Number>,
}

impl Place {
    /// Before the first entry that is not older than `since`. No journal is older than 1970.
    pub fn first(since: Time) -> Place {
        Place { since: since.max(Time::default()), ..Place::default() }
    }

    /// Whether the entry with this cursor was read before.
    pub fn has_read(&self, cursor: &[u8]) -> bool {
        if cursor == self.cursor {
            return true;
        }
        let Some(number) = Number::of(cursor) else { return false };
        self.read.iter().any(|read| read.journal == number.journal && number.n <= read.n)
    }

    /// The entry with this cursor was read.
    pub fn advance(&mut self, cursor: &[u8], time: Time) {
        self.cursor.clear();
        self.cursor.extend_from_slice(cursor);
        self.time = time;
        let Some(number) = Number::of(cursor) else { return };
        match self.read.iter().rposition(|read| read.journal == number.journal) {
            Some(at) if at + 1 == self.read.len() => {}
            Some(at) => {
                let read = self.read.remove(at);
                self.read.push(read);
            }
            None => {
                if self.read.len() >= MOST {
                    self.read.remove(0);
                }
                self.read.push(Number { n: 0, ..number });
            }
        }
        if let Some(last) = self.read.last_mut() {
            last.n = last.n.max(number.n);
        }
    }

    /// Entries between the last one and this one, when both are of one journal.
    pub fn missing(&self, cursor: &[u8]) -> Option<u64> {
        let (last, next) = (Number::of(&self.cursor)?, Number::of(cursor)?);
        (last.journal == next.journal).then(|| next.n.saturating_sub(last.n).saturating_sub(1))
    }

    /// Entries that should have come between the last one of its journal and this one; `None` when it is of a journal
    /// of which nothing was read, after others.
    pub fn skipped(&self, cursor: &[u8]) -> Option<u64> {
        let Some(next) = Number::of(cursor) else { return Some(0) };
        if self.cursor.is_empty() {
            return Some(0);
        }
        let last = self.read.iter().rev().find(|read| read.journal == next.journal)?;
        Some(next.n.saturating_sub(last.n).saturating_sub(1))
    }

    /// Nothing for a place before everything.
    pub fn to_bytes(&self) -> Vec<u8> {
        if self.cursor.is_empty() && self.since == Time::default() {
            return Vec::new();
        }
        let mut out = vec![SECOND];
        out.extend(self.since.0.to_le_bytes());
        out.extend(self.time.0.to_le_bytes());
        out.extend((self.cursor.len() as u64).to_le_bytes());
        out.extend_from_slice(&self.cursor);
        for number in &self.read {
            out.extend(number.journal.to_le_bytes());
            out.extend(number.n.to_le_bytes());
        }
        out
    }

    /// `None` when the bytes are not a place of a version we know.
    pub fn from_bytes(bytes: &[u8]) -> Option<Place> {
        let (&version, rest) = bytes.split_first()?;
        let (since, rest) = match version {
            FIRST => (Time::default(), rest),
            SECOND => rest.split_first_chunk::<8>().map(|(since, rest)| (Time(i64::from_le_bytes(*since)), rest))?,
            _ => return None,
        };
        let (time, rest) = rest.split_first_chunk::<8>()?;
        let (length, rest) = rest.split_first_chunk::<8>()?;
        let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
        let (cursor, mut rest) = rest.split_at_checked(length)?;
        if (version == FIRST && cursor.is_empty()) || length > MAX_CURSOR || rest.len() > MOST * 24 {
            return None;
        }
        let mut read = Vec::new();
        while !rest.is_empty() {
            let (journal, after) = rest.split_first_chunk::<16>()?;
            let (n, after) = after.split_first_chunk::<8>()?;
            read.push(Number { journal: u128::from_le_bytes(*journal), n: u64::from_le_bytes(*n) });
            rest = after;
        }
        Some(Place { since, cursor: cursor.to_vec(), time: Time(i64::from_le_bytes(*time)), read })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cursor(journal: u128, n: u64) -> Vec<u8> {
        format!("s={journal:032x};i={n:x};b=1;m=2;t=3;x=4").into_bytes()
    }

    #[test]
    fn an_entry_is_read_once_whatever_order_boots_come_in() {
        let mut place = Place::default();
        for (journal, n) in [(1, 1), (1, 5), (2, 1), (1, 6), (2, 2)] {
            assert!(!place.has_read(&cursor(journal, n)));
            place.advance(&cursor(journal, n), Time(7));
            assert!(place.has_read(&cursor(journal, n)));
        }
        assert!(place.has_read(&cursor(1, 4)) && !place.has_read(&cursor(1, 7)) && !place.has_read(&cursor(3, 1)));
        assert_eq!((place.missing(&cursor(2, 9)), place.missing(&cursor(2, 3))), (Some(6), Some(0)));
        assert_eq!(place.missing(&cursor(1, 9)), None, "another journal's number says nothing");
        assert_eq!(
            (place.skipped(&cursor(1, 9)), place.skipped(&cursor(2, 3))),
            (Some(2), Some(0)),
            "of its own journal"
        );
        assert_eq!((place.skipped(&cursor(3, 1)), place.skipped(b"something else")), (None, Some(0)));
        assert_eq!(Place::default().skipped(&cursor(1, 9)), Some(0), "nothing was read before");
        let opaque = b"something else".to_vec();
        place.advance(&opaque, Time(8));
        assert!(place.has_read(&opaque) && !place.has_read(b"another") && place.missing(&cursor(1, 9)).is_none());
    }

    #[test]
    fn survives_the_store_refuses_damage_and_is_bounded() {
        let mut place = Place::default();
        assert_eq!(Place::from_bytes(&place.to_bytes()), None);
        place.since = Time(7);
        assert_eq!(Place::from_bytes(&place.to_bytes()), Some(place.clone()), "nothing was read yet");
        for journal in 0..100 {
            place.advance(&cursor(journal, 9), Time(-5));
        }
        assert!(!place.has_read(&cursor(35, 9)) && place.has_read(&cursor(36, 9)), "the oldest are forgotten");
        let bytes = place.to_bytes();
        assert_eq!(Place::from_bytes(&bytes), Some(place.clone()));
        let older = [&[FIRST][..], &bytes[9..]].concat();
        assert_eq!(Place::from_bytes(&older), Some(Place { since: Time(0), ..place }));
        for cut in 0..28 {
            assert_eq!(Place::from_bytes(&bytes[..cut]), None);
        }
        assert_eq!(Place::from_bytes(&bytes[..bytes.len() - 1]), None);
        assert_eq!(Place::from_bytes(&[&[9][..], &bytes[1..]].concat()), None);
    }
}
