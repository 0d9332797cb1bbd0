//! Sanctions as rows of the store: one for each account that is not simply `ok`, one for each message held.
//!
//! Rows carry a version; a row that cannot be read is left out and counted by its reader.

use super::held::{Entry, Stage};
use super::{Account, Block, Change, Delay, Drip, Sanctions};
use crate::engine::codec::{Reader, Writer};
use crate::mail::{Action, Actor, Cause, LiftableBy, OrderId, Owner, Place, Scope, Server, ServiceState, Time, Verb};

/// Kinds of rows in the store.
pub const SANCTION_KIND: u8 = 20;
pub const HELD_KIND: u8 = 21;

const VERSION: u64 = 1;
const ACCOUNT_VERSION: u64 = 2;

/// One changed row; without a value it is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub kind: u8,
    pub key: Vec<u8>,
    pub value: Option<Vec<u8>>,
}

impl Sanctions {
    /// Rows that changed since the last call.
    pub fn take_rows(&mut self) -> Vec<Row> {
        let mut touched = std::mem::take(&mut self.touched);
        touched.sort_unstable();
        touched.dedup();
        let account = |owner: Owner| {
            let value = self.accounts.get(&owner).map(write_account);
            Row { kind: SANCTION_KIND, key: owner.0.to_be_bytes().to_vec(), value }
        };
        let mut rows: Vec<Row> = touched.into_iter().map(account).collect();
        rows.extend(self.held.take_changed().into_iter().map(|(owner, place, entry)| Row {
            kind: HELD_KIND,
            key: held_key(owner, &place),
            value: entry.map(write_entry),
        }));
        rows
    }

    /// Takes up one stored row. False when it could not be read. What was under way is given out again.
    pub fn restore_row(&mut self, kind: u8, key: &[u8], value: &[u8]) -> bool {
        match kind {
            SANCTION_KIND => read_account(key, value).map(|(owner, account)| {
                self.accounts.insert(owner, account);
                self.standing_changed = true;
            }),
            HELD_KIND => read_held(key, value).map(|(owner, place, entry)| self.held.restore(owner, place, entry)),
            _ => None,
        }
        .is_some()
    }
}

fn held_key(owner: Owner, place: &Place) -> Vec<u8> {
    let mut key = owner.0.to_be_bytes().to_vec();
    let mut rest = Writer::default();
    rest.u64(u64::from(place.server.code())).bytes(&place.instance).id(place.id);
    key.extend_from_slice(&rest.bytes);
    key
}

fn write_entry(entry: Entry) -> Vec<u8> {
    let mut out = Writer::default();
    out.u64(VERSION).u64(entry.stage as u64).time(entry.at).u64(u64::from(entry.missed));
    // Behind all else, and only where it is known: rows of older agents have none, and they read on without it.
    if entry.recipients > 0 {
        out.u32(entry.recipients);
    }
    out.bytes
}

/// A held message of a row, for views too: from its key and value.
pub fn read_held(key: &[u8], value: &[u8]) -> Option<(Owner, Place, Entry)> {
    let (owner, rest) = key.split_first_chunk::<4>()?;
    let mut rest = Reader::new(rest);
    let server = Server::from_code(rest.u8()?)?;
    let place = Place { server, instance: rest.bytes()?.into(), id: rest.id()? };
    let mut saved = Reader::new(value);
    let VERSION = saved.u64()? else { return None };
    let stage = *Stage::ALL.get(saved.u64()? as usize)?;
    let (at, missed) = (saved.time()?, saved.u8()?);
    let recipients = if saved.is_empty() { 0 } else { u32::try_from(saved.u64()?).ok()? };
    let entry = Entry { stage, at, missed, recipients };
    Some((Owner(u32::from_be_bytes(*owner)), place, entry))
}

fn write_account(account: &Account) -> Vec<u8> {
    let mut out = Writer::default();
    out.u64(ACCOUNT_VERSION).u64(u64::from(account.state.code()));
    maybe_time(&mut out, account.force_until);
    maybe_time(&mut out, account.owner_lifted);
    out.u64(u64::from(account.block.is_some()));
    if let Some(block) = &account.block {
        order_id(&mut out, block.order);
        write_scope(&mut out, &block.scope);
        write_actor(&mut out, &block.by);
        out.bytes(block.reason.as_bytes())
            .u64(u64::from(block.liftable_by == LiftableBy::Operator) | u64::from(block.spares) << 1);
        out.u64(block.cause as u64);
        out.time(block.since);
        maybe_time(&mut out, block.until);
    }
    out.u64(u64::from(account.change.is_some()));
    if let Some(change) = &account.change {
        order_id(&mut out, change.order);
        out.u64(u64::from(change.action.code())).u64(change.verb as u64);
        write_actor(&mut out, &change.by);
        out.u64(u64::from(change.mend)).u64(u64::from(change.before.code())).u64(u64::from(change.lifts));
        out.u64(u64::from(change.rounds))
            .u64(change.done)
            .u64(change.gone)
            .u64(u64::from(change.expires))
            .u64(u64::from(change.asks));
    }
    out.u64(u64::from(account.drip.is_some()));
    if let Some(drip) = &account.drip {
        out.u32(drip.per_hour).time(drip.since).u64(drip.given);
        write_actor(&mut out, &drip.by);
    }
    out.u64(u64::from(account.warned));
    // Behind all else, and only where there are any: rows of older agents have none.
    let told = account.delay.is_some() || !account.relapses.is_empty();
    if told {
        out.u64(account.relapses.len() as u64);
        for relapse in &account.relapses {
            out.time(*relapse);
        }
    }
    if let Some(Delay { order, rule, scope, reason, since }) = &account.delay {
        order_id(&mut out, *order);
        write_scope(&mut out, scope);
        out.bytes(rule.as_bytes()).bytes(reason.as_bytes()).time(*since);
    }
    out.bytes
}

/// The account of a row, for views: from its key and value.
pub fn read_account(key: &[u8], value: &[u8]) -> Option<(Owner, Account)> {
    let owner = Owner(u32::from_be_bytes(key.try_into().ok()?));
    let mut saved = Reader::new(value);
    let saved = &mut saved;
    let ACCOUNT_VERSION = saved.u64()? else { return None };
    let mut account = Account {
        state: ServiceState::from_code(saved.u8()?)?,
        force_until: read_maybe_time(saved)?,
        owner_lifted: read_maybe_time(saved)?,
        ..Account::default()
    };
    if saved.u64()? != 0 {
        let order = read_order_id(saved)?;
        let scope = read_scope(saved)?;
        let (by, reason, flags) = (read_actor(saved)?, text(saved)?.into(), saved.u64()?);
        account.block = Some(Block {
            order,
            scope,
            by,
            reason,
            liftable_by: if flags & 1 == 1 { LiftableBy::Operator } else { LiftableBy::Owner },
            spares: flags & 2 == 2,
            cause: *Cause::ALL.get(saved.u64()? as usize)?,
            since: saved.time()?,
            until: read_maybe_time(saved)?,
        });
    }
    if saved.u64()? != 0 {
        account.change = Some(Change {
            order: read_order_id(saved)?,
            action: Action::from_code(saved.u8()?)?,
            verb: *Verb::ALL.get(saved.u64()? as usize)?,
            by: read_actor(saved)?,
            mend: saved.u64()? != 0,
            before: ServiceState::from_code(saved.u8()?)?,
            lifts: saved.u64()? != 0,
            rounds: saved.u8()?,
            done: saved.u64()?,
            gone: saved.u64()?,
            expires: saved.u64()? != 0,
            asks: saved.u64()? != 0,
            again: true,
            given: false,
        });
    }
    if saved.u64()? != 0 {
        account.drip = Some(Drip {
            per_hour: saved.u64()?.try_into().ok()?,
            since: saved.time()?,
            given: saved.u64()?,
            by: read_actor(saved)?,
        });
    }
    account.warned = saved.u8()?;
    if !saved.is_empty() {
        for _ in 0..saved.u64()? {
            account.relapses.push(saved.time()?);
        }
    }
    if !saved.is_empty() {
        account.delay = Some(Delay {
            order: read_order_id(saved)?,
            scope: read_scope(saved)?,
            rule: text(saved)?,
            reason: text(saved)?.into(),
            since: saved.time()?,
        });
    }
    Some((owner, account))
}

fn maybe_time(out: &mut Writer, time: Option<Time>) {
    out.u64(u64::from(time.is_some())).time(time.unwrap_or_default());
}

fn read_maybe_time(saved: &mut Reader<'_>) -> Option<Option<Time>> {
    let (is, time) = (saved.u64()? != 0, saved.time()?);
    Some(is.then_some(time))
}

fn order_id(out: &mut Writer, id: OrderId) {
    out.u64(id.micros).u64(id.chance);
}

fn read_order_id(saved: &mut Reader<'_>) -> Option<OrderId> {
    Some(OrderId { micros: saved.u64()?, chance: saved.u64()? })
}

fn write_scope(out: &mut Writer, scope: &Scope) {
    match scope {
        Scope::Script => out.u64(0),
        Scope::All => out.u64(1),
        Scope::Login(login) => out.u64(2).bytes(login.as_bytes()),
    };
}

fn read_scope(saved: &mut Reader<'_>) -> Option<Scope> {
    Some(match saved.u64()? {
        0 => Scope::Script,
        1 => Scope::All,
        _ => Scope::Login(text(saved)?),
    })
}

fn write_actor(out: &mut Writer, actor: &Actor) {
    match actor {
        Actor::Person { uid, name } => out.u64(0).u32(*uid).bytes(name.as_bytes()),
        Actor::Token => out.u64(1),
        Actor::Customer(name) => out.u64(2).bytes(name.as_bytes()),
        Actor::Rule(name) => out.u64(3).bytes(name.as_bytes()),
        Actor::Alertmanager => out.u64(4),
        Actor::Agent => out.u64(5),
    };
}

fn read_actor(saved: &mut Reader<'_>) -> Option<Actor> {
    Some(match saved.u64()? {
        0 => Actor::Person { uid: saved.u32()?, name: text(saved)? },
        1 => Actor::Token,
        2 => Actor::Customer(text(saved)?),
        3 => Actor::Rule(text(saved)?),
        4 => Actor::Alertmanager,
        5 => Actor::Agent,
        _ => return None,
    })
}

fn text(saved: &mut Reader<'_>) -> Option<Box<str>> {
    std::str::from_utf8(saved.bytes()?).ok().map(Into::into)
}
