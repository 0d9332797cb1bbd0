//! State as rows: what the store keeps so that a restart forgets no open message.
//!
//! A leg that outlives its batch is one row under its serial; places, sweeps and log time are one more.
//! Rows carry a version; a row that cannot be read is dropped and counted.

use super::leg::{Came, Class, Details, Ended, Leg, Login, Seen, Traits};
use super::log_time::LogTime;
use super::{Sweeps, Tracker};
use crate::engine::codec::{Reader, Writer};
use crate::engine::scripts::{restore_claim, save_claim};
use crate::mail::{
    Basis, Origin, Outcome, Owner, RecipientState, RecipientTrace, ScriptClaim, Server, Time, TraceTexts,
};

/// What a row is about: the first part of its key in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RowKind {
    /// Places, sweeps, log time.
    State,
    Leg,
    /// A claim about a script that waits for its message.
    Script,
    /// What the rules have counted of somebody, and what they counted in a batch: `rules` writes and reads them.
    Usage,
    Counted,
    /// Host incidents, and what failed lately.
    Incident,
}

impl RowKind {
    pub const fn code(self) -> u8 {
        match self {
            RowKind::State => 1,
            RowKind::Leg => 2,
            RowKind::Script => 3,
            RowKind::Usage => 4,
            RowKind::Counted => 5,
            RowKind::Incident => 7,
        }
    }

    pub const fn from_code(code: u8) -> Option<RowKind> {
        match code {
            1 => Some(RowKind::State),
            2 => Some(RowKind::Leg),
            3 => Some(RowKind::Script),
            4 => Some(RowKind::Usage),
            5 => Some(RowKind::Counted),
            7 => Some(RowKind::Incident),
            _ => None,
        }
    }
}

/// One changed row; without a value it is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub kind: RowKind,
    pub key: Vec<u8>,
    pub value: Option<Vec<u8>>,
}

/// The first version had no recipients that come of others.
const VERSION: u64 = 2;

impl Tracker {
    /// Rows that changed since the last call: kind, key and value; without a value the row is gone.
    pub fn tell_rows(&mut self, mut each: impl FnMut(RowKind, &[u8], Option<&[u8]>)) {
        let (mut gone, mut changed) = self.table.take_rows();
        // In the order of their keys, which is that of the table they go to: neighbours share a page.
        gone.sort_unstable();
        changed.sort_unstable();
        for serial in gone {
            each(RowKind::Leg, &serial.to_be_bytes(), None);
        }
        let mut out = Writer::default();
        for (serial, slot) in changed {
            if let Some(leg) = self.table.get(slot) {
                out.bytes.clear();
                write_leg(leg, &mut out);
                each(RowKind::Leg, &serial.to_be_bytes(), Some(&out.bytes));
            }
        }
        self.scripts.take_rows(|key, value| each(RowKind::Script, &key, value.as_deref()));
        out.bytes.clear();
        out.u64(VERSION).time(self.blind_until);
        self.time.save(&mut out);
        self.places.save(&mut out);
        self.sweeps.save(&mut out);
        out.u64(self.table.next_serial());
        each(RowKind::State, &[], Some(&out.bytes));
    }

    /// Takes up one stored row. False when it could not be read.
    pub fn restore_row(&mut self, kind: RowKind, key: &[u8], value: &[u8]) -> bool {
        if kind == RowKind::Script {
            return self.scripts.restore_row(key, value).is_some();
        }
        let mut saved = Reader::new(value);
        let Some(version @ 1..=VERSION) = saved.u64() else { return false };
        match kind {
            RowKind::State => self.restore_state(&mut saved).is_some(),
            RowKind::Script | RowKind::Usage | RowKind::Counted | RowKind::Incident => false,
            RowKind::Leg => {
                let Ok(serial) = <[u8; 8]>::try_from(key) else { return false };
                match read_leg(version, u64::from_be_bytes(serial), &mut saved) {
                    Some(mut leg) => {
                        if self.settings.details && leg.details.is_none() {
                            leg.details = Some(Box::default());
                        }
                        self.table.restore(leg);
                        true
                    }
                    None => false,
                }
            }
        }
    }

    fn restore_state(&mut self, saved: &mut Reader<'_>) -> Option<()> {
        let (blind_until, time) = (saved.time()?, LogTime::restore(saved)?);
        self.places.restore(saved)?;
        let mut sweeps = Sweeps::default();
        sweeps.restore(saved)?;
        // Older rows end here: there a serial could come again after a restart.
        if !saved.is_empty() {
            self.table.reserve_serials_below(saved.u64()?);
        }
        (self.time, self.blind_until, self.sweeps) = (time, blind_until, sweeps);
        Some(())
    }
}

fn write_leg(leg: &Leg, out: &mut Writer) {
    out.u64(VERSION).u32(u32::from(leg.host)).u32(u32::from(leg.instance)).id(leg.id);
    out.u64(match leg.class {
        Class::Unborn => 0,
        Class::Waiting => 1,
        Class::Own => 2,
        Class::Child => 3,
    });
    match &leg.came {
        Came::Unseen => out.u64(0),
        Came::Internal => out.u64(1),
        Came::Login(login) => out.u64(9).bytes(login.name()).u32(login.client()),
        Came::Uid(uid) => out.u64(3).u32(*uid),
        Came::Smtp(None) => out.u64(4),
        Came::Smtp(Some(address)) => out.u64(5).bytes(address.to_string().as_bytes()),
        Came::Requeue => out.u64(6),
        Came::Named => out.u64(7),
        Came::User(login, uid) => out.u64(8).bytes(login).i64(uid.map_or(-1, i64::from)),
    };
    out.u32(leg.owner.0).u64(u64::from(leg.origin.code())).u64(u64::from(leg.basis.code()));
    let flags = [leg.notification, leg.probe, leg.held, leg.hold_pending];
    let server =
        u64::from(leg.server.code()) | u64::from(leg.answered) << 4 | u64::from(leg.traits.has(Traits::TRIED)) << 5;
    out.u64(flags.iter().rev().fold(server, |bits, flag| bits << 1 | u64::from(*flag)));
    out.u64(leg.ended.map_or(0, |ended| Ended::ALL.iter().position(|e| *e == ended).map_or(0, |n| n as u64 + 1)));
    out.u32(leg.booked).u32(leg.done).u32(leg.expected);
    for spare in leg.spare {
        out.u32(spare);
    }
    out.u32(leg.spare_deferrals);
    out.u64(leg.spare_hands.len() as u64);
    for id in leg.spare_hands.iter() {
        out.id(*id);
    }
    out.u64(leg.seen.count() as u64);
    for (recipient, seen) in leg.seen.iter() {
        out.u64(recipient).u64(match seen {
            Seen::Deferred => 0,
            Seen::Handed => 1,
            Seen::Ended(outcome) => 2 + u64::from(outcome.code()),
            Seen::Expanded => EXPANDED,
            Seen::Accepted => ACCEPTED,
            Seen::Merged => MERGED,
        });
    }
    out.u64(leg.message).maybe_id(leg.parent).u64(leg.claimed_by).u64(leg.size);
    out.time(leg.first).time(leg.last).time(leg.deadline);
    let (scripted, no_sender) = (leg.traits.has(Traits::SCRIPTED), leg.traits.has(Traits::NO_SENDER));
    let flags = [leg.given_up, leg.expands, scripted, no_sender];
    out.u32(leg.placed).u64(flags.iter().rev().fold(0, |bits, flag| bits << 1 | u64::from(*flag)));
    out.u64(u64::from(leg.details.is_some()));
    if let Some(details) = leg.details.as_deref() {
        write_details(details, out);
    }
}

/// Behind the outcomes of [`Seen::Ended`].
const EXPANDED: u64 = 7;
const ACCEPTED: u64 = 8;
const MERGED: u64 = 9;

fn write_details(details: &Details, out: &mut Writer) {
    out.bytes(&details.message_id).bytes(&details.sender).bytes(&details.client).u64(u64::from(details.cut));
    out.u64(details.recipients.len() as u64);
    for trace in &details.recipients {
        out.bytes(trace.texts.address()).bytes(trace.texts.relay()).bytes(trace.texts.reply()).dsn(trace.dsn);
        out.u64(u64::from(trace.state.code()));
        out.u32(trace.attempts).time(trace.last).maybe_id(trace.next.as_deref().copied());
    }
    let script = details.script();
    if script.is_some() || details.disputed {
        save_claim(script.unwrap_or(&ScriptClaim::default()), out);
        out.u64(u64::from(details.disputed));
    }
}

/// Whose message a stored row is about, without reading all of it; `None` for a row of another kind or a damaged one.
pub fn owner_of(kind: u8, value: &[u8]) -> Option<Owner> {
    let mut saved = Reader::new(value);
    match (RowKind::from_code(kind)?, saved.u64()?) {
        (RowKind::Leg, 1..=VERSION) => read_head(0, &mut saved).map(|leg| leg.owner),
        _ => None,
    }
}

fn read_head(serial: u64, saved: &mut Reader<'_>) -> Option<Leg> {
    let (host, instance, id) = (saved.u32()? as u16, saved.u32()? as u16, saved.id()?);
    let mut leg = Leg::new(host, instance, id, Time::ZERO);
    leg.serial = serial;
    leg.class = match saved.u64()? {
        0 => Class::Unborn,
        1 => Class::Waiting,
        2 => Class::Own,
        3 => Class::Child,
        _ => return None,
    };
    leg.came = match saved.u64()? {
        0 => Came::Unseen,
        1 => Came::Internal,
        2 => Came::Login(Login::new(saved.bytes()?, 0)),
        9 => Came::Login(Login::new(saved.bytes()?, saved.u32()?)),
        3 => Came::Uid(saved.u32()?),
        4 => Came::Smtp(None),
        5 => Came::Smtp(Some(std::str::from_utf8(saved.bytes()?).ok()?.parse().ok()?)),
        6 => Came::Requeue,
        7 => Came::Named,
        8 => Came::User(saved.bytes()?.into(), u32::try_from(saved.i64()?).ok()),
        _ => return None,
    };
    leg.owner = Owner(saved.u32()?);
    Some(leg)
}

fn read_leg(version: u64, serial: u64, saved: &mut Reader<'_>) -> Option<Leg> {
    let mut leg = read_head(serial, saved)?;
    (leg.origin, leg.basis) = (Origin::from_code(saved.u8()?)?, Basis::from_code(saved.u8()?)?);
    let flags = saved.u64()?;
    let bit = |n: u32| flags >> n & 1 == 1;
    (leg.notification, leg.probe, leg.held, leg.hold_pending) = (bit(0), bit(1), bit(2), bit(3));
    leg.server = Server::from_code(u8::try_from(flags >> 4 & 15).ok()?)?;
    leg.answered = bit(8);
    leg.traits.set(Traits::TRIED, bit(9));
    let ended = saved.u64()?;
    leg.ended = if ended == 0 { None } else { Some(*Ended::ALL.get(ended as usize - 1)?) };
    (leg.booked, leg.done, leg.expected) = (saved.u32()?, saved.u32()?, saved.u32()?);
    for spare in &mut leg.spare {
        *spare = saved.u32()?;
    }
    leg.spare_deferrals = saved.u32()?;
    for _ in 0..saved.u64()? {
        leg.push_spare_hand(saved.id()?);
    }
    for _ in 0..saved.u64()? {
        let recipient = saved.u64()?;
        let seen = match saved.u64()? {
            0 => Seen::Deferred,
            1 => Seen::Handed,
            EXPANDED => Seen::Expanded,
            ACCEPTED => Seen::Accepted,
            MERGED => Seen::Merged,
            code => Seen::Ended(Outcome::from_code(u8::try_from(code).ok()? - 2)?),
        };
        leg.seen.set(recipient, seen, usize::MAX);
    }
    (leg.message, leg.parent) = (saved.u64()?, saved.maybe_id()?);
    (leg.claimed_by, leg.size) = (saved.u64()?, saved.u64()?);
    (leg.first, leg.last, leg.deadline) = (saved.time()?, saved.time()?, saved.time()?);
    if version > 1 {
        leg.placed = saved.u32()?;
        let flags = saved.u64()?;
        (leg.given_up, leg.expands) = (flags & 1 == 1, flags & 2 == 2);
        leg.traits.set(Traits::SCRIPTED, flags & 4 == 4);
        leg.traits.set(Traits::NO_SENDER, flags & 8 == 8);
    }
    if saved.u64()? != 0 {
        leg.details = Some(Box::new(read_details(saved)?));
    }
    Some(leg)
}

fn read_details(saved: &mut Reader<'_>) -> Option<Details> {
    let mut details = Details {
        message_id: saved.bytes()?.into(),
        sender: saved.bytes()?.into(),
        client: saved.bytes()?.into(),
        cut: saved.u64()? != 0,
        ..Details::default()
    };
    for _ in 0..saved.u64()? {
        let texts = TraceTexts::new(saved.bytes()?, saved.bytes()?, saved.bytes()?);
        let dsn = saved.dsn()?;
        let state = RecipientState::from_code(saved.u8()?)?;
        let (attempts, last, next) = (saved.u32()?, saved.time()?, saved.maybe_id()?);
        details.recipients.push(RecipientTrace { texts, dsn, state, attempts, last, next: next.map(Box::new) });
    }
    // Last in the row, and only where there is one: older rows have none.
    if !saved.is_empty() {
        (details.script, details.disputed) = (Some(Box::new(restore_claim(saved)?)), saved.u64()? != 0);
    }
    Some(details)
}
