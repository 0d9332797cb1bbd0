//! What was counted, as rows: each batch's counts as one row, and each subject as a whole now and then.
//!
//! A count goes back to the store before its batch is published, as one record of all that was counted in it. A subject
//! that was touched is written whole some [`LAG`] records later, and records that no subject needs any more go. After a
//! start the whole ones are taken up, and what was recorded since is counted again, by the same code.

use super::slots::Way;
use super::usage::Usage;
use super::{Rules, Subject, What, about, usage_of, value_of};
use crate::engine::attribution::Attribution;
use crate::engine::codec::{Reader, Writer};
use crate::mail::{Owner, ReplyClass};
use std::collections::{BTreeMap, VecDeque};

/// A subject that was touched is written whole so many records later, and with it what was counted since.
const LAG: u64 = 512;
/// And before there are more records than this.
const MOST_BYTES: usize = 16 << 20;
/// A record is cut into rows of about this size, between two counts: a row that lies on pages of its own would be read whole
/// whenever the store looks for one beside it.
const PIECE: usize = 800;
/// Instead of what was counted: the subject was forgotten.
const GONE: u64 = 15;

/// One changed row; without a value it is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Row {
    Usage(Vec<u8>, Option<Vec<u8>>),
    Record(Vec<u8>, Option<Vec<u8>>),
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Records {
    keep: bool,
    /// The number of the record that is written now.
    number: u64,
    now: Writer,
    /// Where it is cut.
    cuts: Vec<usize>,
    /// Subjects that wait to be written whole, by the record that touched them first.
    waiting: VecDeque<(u64, Subject)>,
    /// Records in the store: how large, and in how many rows.
    stored: VecDeque<Stored>,
    bytes: usize,
    gone: Vec<Subject>,
    /// Read from the store, to be counted again: by record and row.
    again: BTreeMap<(u64, u32), Vec<u8>>,
}

#[derive(Debug, Clone, Copy)]
struct Stored {
    number: u64,
    bytes: usize,
    rows: u32,
}

impl Records {
    pub fn new(keep: bool) -> Records {
        Records { keep, number: 1, ..Records::default() }
    }

    #[inline]
    pub fn add(&mut self, subject: Subject, way: Way, what: What, at: u32, now: u32) {
        if self.keep {
            write(subject, way, what, at, now, &mut self.now);
            self.cut();
        }
    }

    #[inline]
    fn cut(&mut self) {
        let end = self.now.bytes.len();
        if end - self.cuts.last().copied().unwrap_or(0) >= PIECE {
            self.cuts.push(end);
        }
    }

    #[inline]
    pub fn touch(&mut self, subject: Subject, usage: &mut Usage) {
        if self.keep && !usage.waits {
            usage.waits = true;
            self.waiting.push_back((self.number, subject));
        }
    }

    pub fn gone(&mut self, subject: Subject) {
        if self.keep {
            self.gone.push(subject);
            // What is recorded of it already would bring it back.
            self.now.u64(GONE << 2).u32(subject.owner.0).u64(subject.part).u32(0).u32(0).u64(0);
            self.cut();
        }
    }
}

impl Rules {
    /// Rows that changed since the last call.
    pub fn take_rows(&mut self, mut each: impl FnMut(Row)) {
        let records = &mut self.records;
        for subject in records.gone.drain(..) {
            each(Row::Usage(key_of(subject), None));
        }
        if !records.now.bytes.is_empty() {
            let value = std::mem::take(&mut records.now.bytes);
            let (number, mut cuts) = (records.number, std::mem::take(&mut records.cuts));
            if cuts.last() != Some(&value.len()) {
                cuts.push(value.len());
            }
            let begins = [0].into_iter().chain(cuts.iter().copied());
            for (row, (begin, end)) in (0..).zip(begins.zip(cuts.iter().copied())) {
                let piece = value.get(begin..end).unwrap_or_default();
                each(Row::Record(record_key(number, row), Some(piece.to_vec())));
            }
            records.bytes += value.len();
            records.stored.push_back(Stored { number, bytes: value.len(), rows: cuts.len() as u32 });
            records.number += 1;
        }
        while let Some(&(touched, subject)) = records.waiting.front()
            && (touched + LAG < records.number || records.bytes > MOST_BYTES)
        {
            records.waiting.pop_front();
            let usage = match subject.part {
                super::PROVEN => self.proven.get_mut(subject.owner.0 as usize).and_then(Option::as_deref_mut),
                _ => self.others.get_mut(&subject).map(|usage| &mut **usage),
            };
            if let Some(usage) = usage {
                (usage.waits, usage.recorded) = (false, records.number);
                let mut out = Writer::default();
                usage.write(&self.slots.list, &mut out);
                each(Row::Usage(key_of(subject), Some(out.bytes)));
            }
            let needed = records.waiting.front().map_or(records.number, |(touched, _)| *touched);
            while let Some(&Stored { number, bytes, rows }) = records.stored.front()
                && number < needed
            {
                records.stored.pop_front();
                records.bytes -= bytes;
                (0..rows).for_each(|row| each(Row::Record(record_key(number, row), None)));
            }
        }
    }

    /// Takes up a stored row. False when it cannot be read. To be followed by [`restored`](Rules::restored).
    pub fn restore_row(&mut self, row: Row) -> bool {
        match row {
            Row::Usage(key, Some(value)) => self.restore_usage(&key, &value).is_some(),
            Row::Record(key, Some(value)) => match read_record_key(&key) {
                Some(place) => {
                    self.records.again.insert(place, value);
                    true
                }
                None => false,
            },
            Row::Usage(_, None) | Row::Record(_, None) => true,
        }
    }

    fn restore_usage(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        let (owner, part) = key.split_first_chunk::<4>()?;
        let part = u64::from_be_bytes(part.try_into().ok()?);
        let subject = Subject { owner: Owner(u32::from_be_bytes(*owner)), part };
        let usage = Usage::read(&self.slots.list, &mut Reader::new(value))?;
        self.records.number = self.records.number.max(usage.recorded);
        *usage_of(&mut self.proven, &mut self.others, subject, &self.slots.list)? = usage;
        Some(())
    }

    /// All rows were taken up: what was recorded since a subject was written is counted again. Nobody is judged by it.
    /// False when a record could not be read to its end.
    pub fn restored(&mut self, attribution: &Attribution) -> bool {
        let mut whole = true;
        for ((number, _), bytes) in std::mem::take(&mut self.records.again) {
            let mut saved = Reader::new(&bytes);
            while !saved.is_empty() && whole {
                match read(&mut saved) {
                    Some((subject, Some((way, what, at, now)))) => {
                        self.count_again(number, subject, way, what, (at, now), attribution);
                    }
                    Some((subject, None)) => self.gone_again(number, subject),
                    None => whole = false,
                }
            }
            let records = &mut self.records;
            records.bytes += bytes.len();
            match records.stored.back_mut().filter(|last| last.number == number) {
                Some(last) => (last.bytes, last.rows) = (last.bytes + bytes.len(), last.rows + 1),
                None => records.stored.push_back(Stored { number, bytes: bytes.len(), rows: 1 }),
            }
            records.number = records.number.max(number + 1);
        }
        whole
    }

    fn gone_again(&mut self, number: u64, subject: Subject) {
        let recorded = match subject.part {
            super::PROVEN => {
                self.proven.get(subject.owner.0 as usize).and_then(Option::as_ref).map(|usage| usage.recorded)
            }
            _ => self.others.get(&subject).map(|usage| usage.recorded),
        };
        if recorded.is_none_or(|recorded| number < recorded) {
            return;
        }
        match subject.part {
            super::PROVEN => drop(self.proven.get_mut(subject.owner.0 as usize).and_then(Option::take)),
            _ => drop(self.others.remove(&subject)),
        }
    }

    fn count_again(
        &mut self,
        number: u64,
        subject: Subject,
        way: Way,
        what: What,
        (at, now): (u32, u32),
        attribution: &Attribution,
    ) {
        let Some(usage) = usage_of(&mut self.proven, &mut self.others, subject, &self.slots.list) else { return };
        if !usage.waits {
            usage.waits = true;
            self.records.waiting.push_back((number, subject));
        }
        if number < usage.recorded {
            return;
        }
        for slot_at in self.slots.of(way, what.topic()) {
            let slot_at = usize::from(*slot_at);
            let (Some(slot), Some(cell)) = (self.slots.list.get(slot_at), usage.cells.get_mut(slot_at)) else {
                continue;
            };
            let Some(value) = value_of(slot, cell, what, at / slot.bucket, now / slot.bucket) else { continue };
            let about = about(&self.rules, &self.slots, subject.owner, attribution);
            for number in slot.rules.iter().filter(|number| about >> **number & 1 == 1) {
                let number = usize::from(*number);
                if let (Some(rule), Some(identity)) = (self.rules.get(number), self.identities.get(number))
                    && value.observed > rule.limit
                    && value.sample >= u64::from(rule.min_sample)
                {
                    usage.may_tell(*identity, now, rule.window_secs);
                }
            }
        }
    }
}

fn record_key(number: u64, row: u32) -> Vec<u8> {
    let mut key = number.to_be_bytes().to_vec();
    key.extend(row.to_be_bytes());
    key
}

fn read_record_key(key: &[u8]) -> Option<(u64, u32)> {
    let (number, row) = key.split_first_chunk::<8>()?;
    Some((u64::from_be_bytes(*number), u32::from_be_bytes(row.try_into().ok()?)))
}

fn key_of(subject: Subject) -> Vec<u8> {
    let mut key = subject.owner.0.to_be_bytes().to_vec();
    key.extend(subject.part.to_be_bytes());
    key
}

fn write(subject: Subject, way: Way, what: What, at: u32, now: u32, out: &mut Writer) {
    let (code, number) = match what {
        What::Message => (0, 0),
        What::Recipients(n) => (1, u64::from(n)),
        What::Recipient(hash) => (2, hash),
        What::Sent(n) => (3, u64::from(n)),
        What::Failed(None, n) => (4, u64::from(n)),
        What::Failed(Some(class), n) => (5, u64::from(n) << 8 | class as u64),
        What::Refused(class) => (6, class as u64),
        What::Address(hash) => (7, hash),
        What::Queued(n) => (8, n),
        What::Held(n) => (9, n),
        What::Late(class) => (10, class as u64),
    };
    out.u64(code << 2 | way as u64).u32(subject.owner.0).u64(subject.part);
    out.u32(now).u32(now - at.min(now)).u64(number);
}

type Counted = (Way, What, u32, u32);

/// Of whom, and what; nothing of one that was forgotten.
fn read(saved: &mut Reader<'_>) -> Option<(Subject, Option<Counted>)> {
    let code = saved.u64()?;
    let way = *Way::ALL.get((code & 3) as usize)?;
    let subject = Subject { owner: Owner(saved.u32()?), part: saved.u64()? };
    let now = saved.u32()?;
    let at = now.checked_sub(saved.u32()?)?;
    let number = saved.u64()?;
    let n = || u32::try_from(number).ok();
    let class = |code: u64| ReplyClass::ALL.get(usize::try_from(code).ok()?).copied();
    let what = match code >> 2 {
        0 => What::Message,
        1 => What::Recipients(n()?),
        2 => What::Recipient(number),
        3 => What::Sent(n()?),
        4 => What::Failed(None, n()?),
        5 => What::Failed(Some(class(number & 0xff)?), u32::try_from(number >> 8).ok()?),
        6 => What::Refused(class(number)?),
        7 => What::Address(number),
        8 => What::Queued(number),
        9 => What::Held(number),
        10 => What::Late(class(number)?),
        GONE => return Some((subject, None)),
        _ => return None,
    };
    Some((subject, Some((way, what, at, now))))
}
