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

/// One changed row; without a value it is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Row {
    Usage(Vec<u8>, Option<Vec<u8>>),
    Record(Vec<u8>, Option<Vec<u8>>),
    /// Of host incidents.
    Incident(Vec<u8>, Option<Vec<u8>>),
}

/// See the module.
#[derive(Debug)]
pub(super) struct Records {
    keep: bool,
    /// The number of the record that is written now.
    number: u64,
    now: Writer,
    /// Where it is cut.
    cuts: Vec<usize>,
    /// Of its last entry.
    before: About,
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
        Records {
            keep,
            number: 1,
            now: Writer::default(),
            cuts: Vec::new(),
            before: NOTHING,
            waiting: VecDeque::new(),
            stored: VecDeque::new(),
            bytes: 0,
            gone: Vec::new(),
            again: BTreeMap::new(),
        }
    }

    #[inline]
    pub fn add(&mut self, subject: Subject, way: Way, what: What, at: u32, now: u32) {
        if self.keep {
            self.write(About { subject, way, at, now }, Some(what));
        }
    }

    fn write(&mut self, about: About, what: Option<What>) {
        about.write(what, &mut self.before, &mut self.now);
        self.cut();
    }

    /// What rules for errors said of it is forgotten, from here on.
    pub fn pardon(&mut self, subject: Subject) {
        if self.keep {
            About { subject, ..self.before }.write_code(PARDON, None, &mut self.before, &mut self.now);
            self.cut();
        }
    }

    fn cut(&mut self) {
        let end = self.now.bytes.len();
        if end - self.cuts.last().copied().unwrap_or(0) >= PIECE {
            self.cuts.push(end);
            self.before = NOTHING;
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
            self.write(About { subject, ..self.before }, None);
        }
    }
}

impl Rules {
    /// Rows that changed since the last call.
    pub fn take_rows(&mut self, mut each: impl FnMut(Row)) {
        self.incidents.take_rows(|(key, value)| each(Row::Incident(key, value)));
        let records = &mut self.records;
        for subject in records.gone.drain(..) {
            each(Row::Usage(key_of(subject), None));
        }
        if !records.now.bytes.is_empty() {
            let value = std::mem::take(&mut records.now.bytes);
            let (number, mut cuts) = (records.number, std::mem::take(&mut records.cuts));
            records.before = NOTHING;
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
                usage.write(self.slots.those_of(subject.is_login()), &mut out);
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
            Row::Incident(key, Some(value)) => self.incidents.restore_row(&key, &value),
            Row::Usage(_, None) | Row::Record(_, None) | Row::Incident(_, None) => true,
        }
    }

    fn restore_usage(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        let (owner, part) = key.split_first_chunk::<4>()?;
        let part = u64::from_be_bytes(part.try_into().ok()?);
        let subject = Subject { owner: Owner(u32::from_be_bytes(*owner)), part };
        let usage = Usage::read(self.slots.those_of(subject.is_login()), &mut Reader::new(value))?;
        self.records.number = self.records.number.max(usage.recorded);
        *usage_of(&mut self.proven, &mut self.others, subject, &self.slots)? = usage;
        Some(())
    }

    /// All rows were taken up: what was recorded since a subject was written is counted again. Nobody is judged by it.
    /// False when a record could not be read to its end.
    pub fn restored(&mut self, attribution: &Attribution) -> bool {
        let mut whole = self.incidents.restored();
        for ((number, _), bytes) in std::mem::take(&mut self.records.again) {
            let (mut saved, mut entry) = (Reader::new(&bytes), NOTHING);
            while !saved.is_empty() && whole {
                match entry.read(&mut saved) {
                    Some(Some(Told::Count(what))) => self.count_again(number, entry, what, attribution),
                    Some(Some(Told::Pardon)) => self.pardon_again(number, entry.subject),
                    Some(None) => self.gone_again(number, entry.subject),
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
        self.weigh_memory();
        whole
    }

    /// It was not written whole since.
    fn is_after(&self, number: u64, subject: Subject) -> bool {
        let recorded = match subject.part {
            super::PROVEN => {
                self.proven.get(subject.owner.0 as usize).and_then(Option::as_ref).map(|usage| usage.recorded)
            }
            _ => self.others.get(&subject).map(|usage| usage.recorded),
        };
        recorded.is_some_and(|recorded| number >= recorded)
    }

    fn pardon_again(&mut self, number: u64, subject: Subject) {
        if self.is_after(number, subject) {
            self.pardon(subject);
        }
    }

    fn gone_again(&mut self, number: u64, subject: Subject) {
        if !self.is_after(number, subject) {
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
        About { subject, way, at, now }: About,
        what: What,
        attribution: &Attribution,
    ) {
        let Some(usage) = usage_of(&mut self.proven, &mut self.others, subject, &self.slots) else { return };
        if !usage.waits {
            usage.waits = true;
            self.records.waiting.push_back((number, subject));
        }
        if number < usage.recorded {
            return;
        }
        for slot_at in self.slots.of(way, what.topic()) {
            let slot_at = usize::from(*slot_at);
            let Some(slot) = self.slots.list.get(slot_at) else { continue };
            let Some(value) = value_of(slot, usage, what, at, now, &mut self.memory) else { continue };
            if value.observed <= slot.least {
                continue;
            }
            let about = usage.rules(|| about(&self.rules, subject.owner, attribution));
            for number in slot.rules.iter().filter(|number| about >> **number & 1 == 1) {
                let number = usize::from(*number);
                let (Some(rule), Some(identity)) = (self.rules.get(number), self.identities.get(number)) else {
                    continue;
                };
                if rule.warns {
                    super::warning::reached(rule, *identity, value.observed, usage, now);
                }
                if value.observed > super::force::limit(rule, &self.forced, subject.owner)
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

/// What an entry of a record is about. A message gives several entries, and lines come in the order of their time: only
/// what is not as in the entry before is written. Each row begins anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct About {
    subject: Subject,
    way: Way,
    at: u32,
    now: u32,
}

const NOTHING: About =
    About { subject: Subject { owner: Owner(0), part: super::PROVEN }, way: Way::Script, at: 0, now: 0 };
/// Entries begin with what was counted, and two bits: the subject is the one before, and so are the times.
const SAME_SUBJECT: u64 = 1;
const SAME_TIMES: u64 = 2;

impl About {
    /// `None` for what was counted: the subject was forgotten.
    fn write(self, what: Option<What>, before: &mut About, out: &mut Writer) {
        let (code, number) = code_of(what);
        self.write_code(code, number, before, out);
    }

    fn write_code(self, code: u64, number: Option<u64>, before: &mut About, out: &mut Writer) {
        let same_subject = (self.subject, self.way) == (before.subject, before.way);
        let same_times = (self.at, self.now) == (before.at, before.now);
        out.u64(code << 2 | u64::from(same_times) << 1 | u64::from(same_subject));
        if !same_subject {
            let Subject { owner, part } = self.subject;
            let login = self.subject.is_login();
            let kind = if login { super::CLAIMED + 1 } else { part };
            out.u64(u64::from(owner.0) << 4 | kind << 2 | self.way as u64);
            if login {
                out.bytes.extend(part.to_le_bytes());
            }
        }
        if !same_times {
            out.i64(i64::from(self.now) - i64::from(before.now)).u32(self.now - self.at.min(self.now));
        }
        if let Some(number) = number {
            out.u64(number);
        }
        *before = self;
    }

    /// What [`write`](About::write) wrote; `None` when it cannot be read.
    fn read(&mut self, saved: &mut Reader<'_>) -> Option<Option<Told>> {
        let head = saved.u64()?;
        if head & SAME_SUBJECT == 0 {
            let subject = saved.u64()?;
            self.way = *Way::ALL.get((subject & 3) as usize)?;
            let part = match subject >> 2 & 3 {
                kind @ (super::PROVEN | super::CLAIMED) => kind,
                _ => u64::from_le_bytes(*saved.take::<8>()?),
            };
            self.subject = Subject { owner: Owner(u32::try_from(subject >> 4).ok()?), part };
        }
        if head & SAME_TIMES == 0 {
            self.now = u32::try_from(i64::from(self.now).checked_add(saved.i64()?)?).ok()?;
            self.at = self.now.checked_sub(saved.u32()?)?;
        }
        if head >> 2 == PARDON {
            return Some(Some(Told::Pardon));
        }
        Some(what_of(head >> 2, saved)?.map(Told::Count))
    }
}

/// What an entry tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Count(What),
    Pardon,
}

const PARDON: u64 = 18;

/// The code of what was counted, and the number that it needs.
fn code_of(what: Option<What>) -> (u64, Option<u64>) {
    match what {
        Some(What::Message) => (0, None),
        Some(What::Recipients(1)) => (1, None),
        Some(What::Recipients(n)) => (2, Some(u64::from(n))),
        Some(What::Recipient(hash)) => (3, Some(hash)),
        Some(What::Sent(1)) => (4, None),
        Some(What::Sent(n)) => (5, Some(u64::from(n))),
        Some(What::Failed(None, n)) => (6, Some(u64::from(n))),
        Some(What::Failed(Some(class), n)) => (7, Some(u64::from(n) << 8 | class as u64)),
        Some(What::Refused(class)) => (8, Some(class as u64)),
        Some(What::Address(hash)) => (9, Some(hash)),
        Some(What::Queued(n)) => (10, Some(n)),
        Some(What::Held(n)) => (11, Some(n)),
        Some(What::Late(class)) => (12, Some(class as u64)),
        Some(What::Script(hash)) => (14, Some(hash)),
        Some(What::Reply) => (19, None),
        Some(What::ReplyTo(hash)) => (20, Some(hash)),
        None => (13, None),
        Some(What::NotFailed(class, n)) => (16, Some(u64::from(n) << 8 | class as u64)),
        Some(What::NotRefused(class, n)) => (17, Some(u64::from(n) << 8 | class as u64)),
        Some(What::Left(n)) => (15, Some(u64::from(n))),
    }
}

fn what_of(code: u64, saved: &mut Reader<'_>) -> Option<Option<What>> {
    let class = |code: u64| ReplyClass::ALL.get(usize::try_from(code).ok()?).copied();
    let both = |number: u64| Some((class(number & 0xff)?, u32::try_from(number >> 8).ok()?));
    Some(Some(match code {
        0 => What::Message,
        1 => What::Recipients(1),
        2 => What::Recipients(saved.u32()?),
        3 => What::Recipient(saved.u64()?),
        4 => What::Sent(1),
        5 => What::Sent(saved.u32()?),
        6 => What::Failed(None, saved.u32()?),
        7 => {
            let number = saved.u64()?;
            What::Failed(Some(class(number & 0xff)?), u32::try_from(number >> 8).ok()?)
        }
        8 => What::Refused(class(saved.u64()?)?),
        9 => What::Address(saved.u64()?),
        10 => What::Queued(saved.u64()?),
        11 => What::Held(saved.u64()?),
        12 => What::Late(class(saved.u64()?)?),
        13 => return Some(None),
        14 => What::Script(saved.u64()?),
        19 => What::Reply,
        20 => What::ReplyTo(saved.u64()?),
        16 => {
            let (class, n) = both(saved.u64()?)?;
            What::NotFailed(class, n)
        }
        17 => {
            let (class, n) = both(saved.u64()?)?;
            What::NotRefused(class, n)
        }
        15 => What::Left(saved.u32()?),
        _ => return None,
    }))
}
