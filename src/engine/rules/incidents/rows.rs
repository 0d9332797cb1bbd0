//! Incidents as rows: those that stand in one, and the failures of each batch in one of its own, which goes when none of
//! them is looked at any more. After a start they are taken in again, by the same code.

use super::{Counted, Entry, Incident, Incidents, MOST, Trouble, WINDOW_SECS};
use crate::engine::codec::{Reader, Writer};
use crate::engine::rules::slots::Way;
use crate::mail::{Owner, ReplyClass};
use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

/// A key, and what is kept; `None`: it is gone.
pub type Row = (Vec<u8>, Option<Vec<u8>>);

const HEAD: u8 = 0;
const FAILURES: u8 = 1;

#[derive(Debug, Default)]
pub(super) struct Rows {
    keep: bool,
    /// The head is not what the store has.
    pub changed: bool,
    fresh: Vec<Entry>,
    number: u64,
    /// Rows in the store, with the second of the last failure in them.
    stored: VecDeque<(u64, u32)>,
    /// All of them are written anew, because somebody was forgotten.
    anew: bool,
    again: BTreeMap<u64, Vec<u8>>,
}

impl Rows {
    pub fn new(keep: bool) -> Rows {
        Rows { keep, number: 1, ..Rows::default() }
    }

    pub fn add(&mut self, entry: &Entry) {
        if !self.keep {
            return;
        }
        let full = self.fresh.len() >= MOST;
        match self.fresh.last_mut() {
            // Of other seconds they may belong to other entries.
            Some(last) if last.is_like(entry) && last.to == entry.to => last.n += 1,
            _ if full => {}
            _ => self.fresh.push(entry.clone()),
        }
    }

    pub fn forget(&mut self, owner: Owner) {
        self.fresh.retain(|entry| entry.counted.owner != owner);
        self.anew = self.keep;
    }
}

impl Incidents {
    /// Rows that changed since the last call.
    pub fn take_rows(&mut self, mut each: impl FnMut(Row)) {
        if !self.rows.keep {
            return;
        }
        let now = self.now;
        if std::mem::take(&mut self.rows.anew) {
            self.rows.stored.drain(..).for_each(|(number, _)| each((key(number), None)));
            self.rows.fresh = self.entries.values().flatten().cloned().collect();
        }
        while let Some((number, _)) = self.rows.stored.pop_front_if(|(_, last)| last.saturating_add(WINDOW_SECS) <= now)
        {
            each((key(number), None));
        }
        let mut fresh = std::mem::take(&mut self.rows.fresh);
        fresh.retain(|entry| entry.lives(now));
        if let Some(last) = fresh.iter().map(|entry| entry.to).max() {
            let mut out = Writer::default();
            fresh.iter().for_each(|entry| write_entry(entry, &mut out));
            let number = self.rows.number;
            self.rows.number += 1;
            self.rows.stored.push_back((number, last));
            each((key(number), Some(out.bytes)));
        }
        if std::mem::take(&mut self.rows.changed) {
            let mut out = Writer::default();
            out.u32(self.active.0).u32(self.active.1);
            for incident in self.standing.values() {
                write_trouble(&incident.trouble, &mut out);
                out.time(incident.since).time(incident.confirmed);
                out.u32(incident.accounts).u32(incident.active).u64(incident.failures);
            }
            each((vec![HEAD], Some(out.bytes)));
        }
    }

    /// Takes up a stored row. False when it cannot be read. To be followed by [`restored`](Incidents::restored).
    pub fn restore_row(&mut self, key: &[u8], value: &[u8]) -> bool {
        match key {
            [HEAD] => self.restore_head(value).is_some(),
            [FAILURES, number @ ..] => match number.try_into() {
                Ok(number) => {
                    self.rows.again.insert(u64::from_be_bytes(number), value.to_vec());
                    true
                }
                Err(_) => false,
            },
            _ => false,
        }
    }

    fn restore_head(&mut self, value: &[u8]) -> Option<()> {
        let mut saved = Reader::new(value);
        self.active = (saved.u32()?, saved.u32()?);
        while !saved.is_empty() {
            let incident = Incident {
                trouble: read_trouble(&mut saved)?,
                since: saved.time()?,
                confirmed: saved.time()?,
                accounts: saved.u32()?,
                active: saved.u32()?,
                failures: saved.u64()?,
            };
            self.standing.insert(incident.trouble.clone(), incident);
        }
        Some(())
    }

    /// All rows were taken up. False when one could not be read to its end.
    pub fn restored(&mut self) -> bool {
        let mut whole = true;
        for (number, bytes) in std::mem::take(&mut self.rows.again) {
            let (mut saved, mut last) = (Reader::new(&bytes), 0);
            while !saved.is_empty() && whole {
                match read_entry(&mut saved) {
                    Some(mut entry) => {
                        last = last.max(entry.to);
                        let stands = entry.troubles().any(|trouble| self.standing.contains_key(&trouble));
                        entry.due |= stands;
                        let to = entry.to;
                        self.remember(entry, to);
                    }
                    None => whole = false,
                }
            }
            self.rows.stored.push_back((number, last));
            self.rows.number = self.rows.number.max(number + 1);
        }
        whole
    }
}

fn key(number: u64) -> Vec<u8> {
    [&[FAILURES], number.to_be_bytes().as_slice()].concat()
}

fn write_entry(entry: &Entry, out: &mut Writer) {
    let Counted { owner, part, way, login } = entry.counted;
    out.u32(owner.0).u64(part).u64(way as u64).u64(login).u64(entry.class as u64);
    out.u64(u64::from(entry.deferred)).u64(u64::from(entry.due));
    for receiver in &entry.receivers {
        out.bytes(receiver.as_deref().unwrap_or_default().as_bytes());
    }
    write_address(entry.own_address, out);
    out.u32(entry.from).u32(entry.to).u32(entry.n).u64(entry.ended);
}

fn read_entry(saved: &mut Reader<'_>) -> Option<Entry> {
    Some(Entry {
        counted: Counted {
            owner: Owner(saved.u32()?),
            part: saved.u64()?,
            way: *Way::ALL.get(usize::from(saved.u8()?))?,
            login: saved.u64()?,
        },
        class: *ReplyClass::ALL.get(usize::from(saved.u8()?))?,
        deferred: saved.u64()? != 0,
        due: saved.u64()? != 0,
        receivers: [read_name(saved)?, read_name(saved)?],
        own_address: read_address(saved)?,
        from: saved.u32()?,
        to: saved.u32()?,
        n: saved.u32()?,
        ended: saved.u64()?,
    })
}

fn read_name(saved: &mut Reader<'_>) -> Option<Option<Arc<str>>> {
    let name = std::str::from_utf8(saved.bytes()?).ok()?;
    Some((!name.is_empty()).then(|| name.into()))
}

fn write_address(address: Option<IpAddr>, out: &mut Writer) {
    match address {
        None => out.bytes(&[]),
        Some(IpAddr::V4(v4)) => out.bytes(&v4.octets()),
        Some(IpAddr::V6(v6)) => out.bytes(&v6.octets()),
    };
}

fn read_address(saved: &mut Reader<'_>) -> Option<Option<IpAddr>> {
    let bytes = saved.bytes()?;
    Some(match bytes.len() {
        0 => None,
        4 => Some(IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?)),
        _ => Some(IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?)),
    })
}

fn write_trouble(trouble: &Trouble, out: &mut Writer) {
    match trouble {
        Trouble::Receiver(name) => out.u64(0).bytes(name.as_bytes()),
        Trouble::Class(class) => out.u64(1).u64(*class as u64),
        Trouble::OwnAddress(address) => {
            out.u64(2);
            write_address(Some(*address), out);
            out
        }
    };
}

fn read_trouble(saved: &mut Reader<'_>) -> Option<Trouble> {
    Some(match saved.u64()? {
        0 => Trouble::Receiver(read_name(saved)??),
        1 => Trouble::Class(*ReplyClass::ALL.get(usize::from(saved.u8()?))?),
        2 => Trouble::OwnAddress(read_address(saved)??),
        _ => return None,
    })
}
