//! The state that travels in the batch's own transaction, as rows, and back from them at start.

use super::Pump;
use super::judge::JUDGE;
use super::listed::{LISTED_KIND, read_listed};
use super::notices::NOTICE_KIND;
use super::projection::{Today, history};
use crate::engine::Engine;
use crate::engine::accounts::Known;
use crate::engine::codec::{Reader, Writer};
use crate::engine::ledger::{Account, Change};
use crate::engine::sanctions::{HELD_KIND, SANCTION_KIND};
use crate::engine::tracker::RowKind;
use crate::host::clock;
use crate::host::tape::Position;
use crate::mail::{Origin, Owner, Time};
use crate::metrics::{COUNTERS, Metrics, OwnerFigures, Saved as SavedMetrics, Slot};
use crate::store::{AccountRow, Row, Saved};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

// Kinds of rows besides the engine's own (1 to 3; 20 and 21 are of sanctions).
/// The seed of all hashes in the engine's rows.
const SEED: u8 = 0;
/// Per owner: messages by origin, newest log time, and the present day's messages.
const FIGURES: u8 = 10;
const COUNTER: u8 = 11;
const SLOT: u8 = 12;
const DIALECT: u8 = 13;
/// Per owner: the key that evidence leads to, where it is not the name.
const KEY: u8 = 14;
/// The same, for views.
pub const KEY_KIND: u8 = KEY;
/// How far the gate's tape was read.
const TAPE: u8 = 15;
/// When the agent last wrote, where it has a gate.
const ALIVE: u8 = 16;
// 17 is in `listed`, 18 in `notices`, 19 in `judge`.

/// What was kept from earlier runs, besides what went into the engine.
#[derive(Debug, Default)]
pub struct Kept {
    pub positions: Vec<(String, Vec<u8>)>,
    pub dialects: Vec<(String, Vec<u8>)>,
    pub days: Vec<(Owner, Today)>,
    pub taped: Position,
    /// What the accounts file said of those who were held.
    pub listed: BTreeMap<Owner, Vec<u8>>,
    pub alive: Option<Time>,
    /// Notices that wait for a hook, as they are kept.
    pub notices: Vec<(Vec<u8>, Vec<u8>)>,
    /// Rows a new store begins with.
    pub first_rows: Vec<Row>,
    /// Rows that could not be read: told once.
    pub damaged: u64,
}

/// The seed the stored rows were made with, or a new one with the row that keeps it.
pub fn seed(saved: &Saved) -> (u64, Option<Row>) {
    let row = saved.rows.iter().find(|row| row.kind == SEED).and_then(|row| row.value.as_deref());
    match row.and_then(|bytes| <[u8; 8]>::try_from(bytes).ok()) {
        Some(bytes) => (u64::from_le_bytes(bytes), None),
        None => {
            let seed = clock::seed();
            (seed, Some(Row { kind: SEED, key: Vec::new(), value: Some(seed.to_le_bytes().to_vec()) }))
        }
    }
}

/// Puts what the store kept into engine and metrics.
pub fn restore(saved: Saved, engine: &mut Engine, metrics: &Metrics) -> Kept {
    let mut kept = Kept { positions: saved.positions, ..Kept::default() };
    let keys: HashMap<u32, String> = saved.rows.iter().filter(|row| row.kind == KEY).filter_map(read_key).collect();
    for row in saved.accounts {
        let name: Arc<str> = row.name.into();
        engine.attribution.accounts.restore(Known {
            owner: Owner(row.owner),
            key: keys.get(&row.owner).map_or_else(|| Arc::clone(&name), |key| key.as_str().into()),
            name,
            uid: row.uid,
            home: row.home.map(Into::into),
            first_seen: row.first_seen,
            closed: row.closed,
            listed: false,
        });
    }
    engine.attribution.mark_listed();
    engine.attribution.accounts.reserve_below(saved.next_owner);
    for (owner, counts) in &saved.totals {
        engine.ledger.restore(Owner(*owner), Account { counts: *counts, ..Account::default() });
    }
    let mut figures = SavedMetrics::default();
    for row in saved.rows {
        let Some(value) = row.value else { continue };
        let good = match (RowKind::from_code(row.kind), row.kind) {
            (Some(kind), _) => engine.restore_row(kind, &row.key, &value),
            (None, FIGURES) => read_figures(&row.key, &value, engine, &mut kept.days).is_some(),
            (None, COUNTER) => read_counter(&row.key, &value, &mut figures).is_some(),
            (None, SLOT) => read_slot(&row.key, &value, &mut figures).is_some(),
            (None, SANCTION_KIND | HELD_KIND) => engine.sanctions.restore_row(row.kind, &row.key, &value),
            (None, TAPE) => read_tape_position(&value).map(|position| kept.taped = position).is_some(),
            (None, ALIVE) => Reader::new(&value).time().map(|at| kept.alive = Some(at)).is_some(),
            (None, LISTED_KIND) => {
                let entry = Row { value: Some(value), ..row };
                read_listed(&entry).map(|(owner, entry)| kept.listed.insert(Owner(owner), entry)).is_some()
            }
            (None, JUDGE) => engine.judge.restore_row(&value).is_some(),
            (None, NOTICE_KIND) => {
                kept.notices.push((row.key, value));
                true
            }
            (None, DIALECT) => {
                kept.dialects.push((String::from_utf8_lossy(&row.key).into_owned(), value));
                true
            }
            _ => true,
        };
        kept.damaged += u64::from(!good);
    }
    engine.rules.restore_forced(engine.sanctions.forced());
    kept.damaged += u64::from(!engine.restored());
    let until = clock::now();
    let known: Vec<OwnerFigures<'_>> = engine
        .ledger
        .owners()
        .filter(|(owner, _)| owner.is_account())
        .map(|(owner, account)| OwnerFigures {
            owner,
            name: engine.attribution.accounts.name(owner),
            counts: account.counts,
            origins: account.by_origin,
            today: 0,
            today_until: until,
        })
        .collect();
    metrics.restore(figures, known);
    kept
}

fn read_figures(key: &[u8], value: &[u8], engine: &mut Engine, days: &mut Vec<(Owner, Today)>) -> Option<()> {
    let owner = Owner(u32::from_be_bytes(key.try_into().ok()?));
    let mut saved = Reader::new(value);
    let mut account = engine.ledger.get(owner);
    for n in &mut account.by_origin {
        *n = saved.u64()?;
    }
    account.last = saved.time()?;
    let today = Today { day: saved.i64()? as i32, messages: saved.u64()? };
    engine.ledger.restore(owner, account);
    days.push((owner, today));
    Some(())
}

/// The row that says that the agent was there.
pub fn alive_row(at: Time) -> Row {
    let mut value = Writer::default();
    value.time(at);
    Row { kind: ALIVE, key: Vec::new(), value: Some(value.bytes) }
}

/// The row of a tape's position.
pub fn tape_row(position: Position) -> Row {
    let mut value = Writer::default();
    value.u64(position.tape).u64(position.offset);
    Row { kind: TAPE, key: Vec::new(), value: Some(value.bytes) }
}

fn read_tape_position(value: &[u8]) -> Option<Position> {
    let mut saved = Reader::new(value);
    Some(Position { tape: saved.u64()?, offset: saved.u64()? })
}

/// The account, and what evidence leads to: of those whose name is another.
pub fn read_key(row: &Row) -> Option<(u32, String)> {
    let owner = u32::from_be_bytes(row.key.as_slice().try_into().ok()?);
    Some((owner, String::from_utf8(row.value.clone()?).ok()?))
}

fn read_counter(key: &[u8], value: &[u8], figures: &mut SavedMetrics) -> Option<()> {
    let name = std::str::from_utf8(key).ok()?.to_owned();
    figures.counters.push((name, u64::from_le_bytes(value.try_into().ok()?)));
    Some(())
}

fn read_slot(key: &[u8], value: &[u8], figures: &mut SavedMetrics) -> Option<()> {
    let owner = Owner(u32::from_be_bytes(key.try_into().ok()?));
    let mut saved = Reader::new(value);
    let seq = saved.u64()?;
    let mut base = [0; COUNTERS];
    for n in &mut base {
        *n = saved.u64()?;
    }
    figures.slots.push(Slot { owner, seq, base });
    Some(())
}

/// Evictions told to the metrics so far.
#[derive(Debug, Default)]
pub struct Reported {
    evictions: crate::engine::tracker::Evictions,
}

impl Pump {
    /// Gathers everything that changed since the last commit into the batch.
    pub(super) fn collect(&mut self) {
        if self.gate.is_some() {
            self.batch.rows.push(alive_row(clock::now()));
        }
        self.keep_listed();
        let batch = &mut self.batch;
        self.engine.tell_rows(|kind, key, value| batch.rows.set(kind.code(), key, value));
        let sanctions = self.engine.sanctions.take_rows();
        self.batch.rows.extend(sanctions.into_iter().map(|row| Row { kind: row.kind, key: row.key, value: row.value }));
        if let Some(value) = self.engine.judge.take_row(clock::now()) {
            self.batch.rows.push(Row { kind: JUDGE, key: Vec::new(), value: Some(value) });
        }
        for owner in self.engine.attribution.accounts.take_changed() {
            if let Some(known) = self.engine.attribution.accounts.get(owner) {
                self.batch.accounts.push(account_row(known));
                let key = (known.key != known.name).then(|| known.key.as_bytes().to_vec());
                self.batch.rows.push(Row { kind: KEY, key: owner.0.to_be_bytes().to_vec(), value: key });
            }
        }
        let mut changes: Vec<Change> = Vec::new();
        self.engine.ledger.take_changes(&mut changes);
        let mut owners: Vec<Owner> = Vec::with_capacity(changes.len());
        for change in &changes {
            let day = self.days.add(change);
            if change.delta != Default::default() {
                self.batch.push_history(change.owner, change.quarter.div_euclid(4), day, history(&change.delta));
            }
            owners.push(change.owner);
        }
        owners.sort_unstable();
        owners.dedup();
        let mut figures = Writer::default();
        for &owner in &owners {
            let account = self.engine.ledger.get(owner);
            self.batch.totals.push((owner.0, account.counts));
            let today = self.days.today(owner).unwrap_or(Today { day: 0, messages: 0 });
            figures.bytes.clear();
            write_figures(&account, today, &mut figures);
            self.batch.rows.set(FIGURES, &owner.0.to_be_bytes(), Some(&figures.bytes));
        }
        self.collect_metrics(&owners);
        for source in &self.sources {
            let (position, dialect) = source.save();
            self.batch.rows.push(Row { kind: DIALECT, key: source.name().into(), value: Some(dialect) });
            self.batch.positions.push((source.name().to_owned(), position));
        }
    }

    fn collect_metrics(&mut self, owners: &[Owner]) {
        let evictions = self.engine.tracker.evictions;
        let told = std::mem::replace(&mut self.reported.evictions, evictions);
        for (reason, n) in [
            ("full", evictions.full - told.full),
            ("silent", evictions.silent - told.silent),
            ("reused", evictions.reused - told.reused),
        ] {
            if n > 0 {
                self.tally.evicted(reason, n);
            }
        }
        let evaluations = self.engine.rules.evaluations;
        let told = std::mem::replace(&mut self.sights.evaluations, evaluations);
        self.tally.evaluations(evaluations - told);
        self.sights.moved(owners);
        let day = self.days.at(clock::now());
        let (ledger, accounts, days) = (&self.engine.ledger, &self.engine.attribution.accounts, &self.days);
        let figures = owners.iter().filter(|owner| owner.is_account()).map(|&owner| {
            let account = ledger.get(owner);
            OwnerFigures {
                owner,
                name: accounts.name(owner),
                counts: account.counts,
                origins: account.by_origin,
                today: days.messages(owner, day),
                today_until: day.until,
            }
        });
        self.metrics.stage(&mut self.tally, figures);
        self.save_metrics();
    }

    /// Rows of the metrics that changed; they are given once, so they stay in the batch until it is committed.
    pub(super) fn save_metrics(&mut self) {
        let saved = self.metrics.save();
        for (name, value) in saved.counters {
            let value = Some(value.to_le_bytes().to_vec());
            self.batch.rows.push(Row { kind: COUNTER, key: name.into_bytes(), value });
        }
        for slot in saved.slots {
            let mut out = Writer::default();
            out.u64(slot.seq);
            for n in slot.base {
                out.u64(n);
            }
            self.batch.rows.push(slot_row(slot.owner, Some(out.bytes)));
        }
    }
}

fn write_figures(account: &Account, today: Today, out: &mut Writer) {
    for n in account.by_origin {
        out.u64(n);
    }
    out.time(account.last).i64(i64::from(today.day)).u64(today.messages);
}

fn slot_row(owner: Owner, value: Option<Vec<u8>>) -> Row {
    Row { kind: SLOT, key: owner.0.to_be_bytes().to_vec(), value }
}

/// Rows of an owner that go when it is forgotten.
pub fn gone(owner: Owner) -> [Row; 4] {
    [FIGURES, SLOT, KEY, LISTED_KIND].map(|kind| Row { kind, key: owner.0.to_be_bytes().to_vec(), value: None })
}

fn account_row(known: &Known) -> AccountRow {
    AccountRow {
        owner: known.owner.0,
        name: known.name.to_string(),
        uid: known.uid,
        home: known.home.as_deref().map(str::to_owned),
        first_seen: known.first_seen,
        closed: known.closed,
    }
}

/// Newest log time and origins of an owner, from its row: for views.
pub fn figures_of(value: &[u8]) -> Option<([u64; Origin::ALL.len()], crate::mail::Time, Today)> {
    let mut saved = Reader::new(value);
    let mut origins = [0; Origin::ALL.len()];
    for n in &mut origins {
        *n = saved.u64()?;
    }
    let last = saved.time()?;
    Some((origins, last, Today { day: saved.i64()? as i32, messages: saved.u64()? }))
}

/// The kind of rows `figures_of` reads.
pub const FIGURES_KIND: u8 = FIGURES;
