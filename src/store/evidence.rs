//! What rules said, and what is kept of the mail that they said it of.
//!
//! Reads; what was gathered is written with a batch like all else. Never reads more than it is told to, and says when it has
//! stopped: a reader that goes on for long keeps the log of the store from being emptied.

use rusqlite::{Connection, Row as SqlRow, params};
use serde::Serialize;

use super::views::{ERRORS, count, error_row};
use super::{ErrorRecord, Row, VerdictRow, ViewError, Views, bloom, chunk, leg};
use crate::mail::{LegFact, Time};

/// Most messages and errors that are read for one verdict, and bytes of them.
const MOST: usize = 10_000;
const MOST_BYTES: usize = 16 << 20;
/// Errors of the account that are looked at; between two looks at the time, so many.
const MOST_LOOKED: usize = 200_000;
const STRIDE: usize = 1_024;
/// Errors are in the order of the log; lines of other hosts may be so much older.
const OUT_OF_ORDER_SECS: i64 = 3_600;

/// A verdict as it is kept, with its number and what was gathered for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VerdictRecord {
    pub id: i64,
    #[serde(flatten)]
    pub row: VerdictRow,
    /// `None`: not yet.
    pub evidence: Option<String>,
}

/// Whose mail is read, and of when.
pub struct MailOf<'a> {
    pub owner: u32,
    /// Messages with a line behind `from` that began by `to`, and errors of this time; `None`: only what is in the queue.
    pub from: Option<Time>,
    pub to: Time,
    /// Which rows about messages in the queue are wanted, by kind and value.
    pub kinds: &'a [u8],
    pub wanted: &'a dyn Fn(u8, &[u8]) -> bool,
    /// Asked now and then; false ends it.
    pub go_on: &'a dyn Fn() -> bool,
}

/// What is kept, all of one moment.
#[derive(Debug, Default)]
pub struct KeptMail {
    /// Packed.
    legs: Vec<u8>,
    records: usize,
    pub open: Vec<Row>,
    /// Newest first.
    pub errors: Vec<ErrorRecord>,
    /// There is more than was read.
    pub more: bool,
    /// The message index does not reach further back than this, and the time that was asked for does.
    pub begins: Option<Time>,
}

impl KeptMail {
    /// Tells each message that has left the queue, the newest first as far as the index has them so.
    pub fn legs(&self, mut each: impl FnMut(&LegFact<'_>)) {
        for packed in leg::records(&self.legs).flatten() {
            // A damaged record is left out here as everywhere.
            let _ = packed.tell(&mut each);
        }
    }

    fn is_full(&self) -> bool {
        self.records >= MOST || self.legs.len() >= MOST_BYTES
    }

    fn take(&mut self, data: &[u8], of: &MailOf<'_>, from: Time) {
        let its = leg::records(data).flatten().filter(|packed| {
            let span = packed.span().filter(|(owner, ..)| *owner == of.owner);
            span.is_some_and(|(_, first, last)| last > from.0 && first <= of.to.0)
        });
        let its: Vec<_> = its.collect();
        for packed in its.into_iter().rev() {
            if self.is_full() {
                self.more = true;
                return;
            }
            self.legs.extend_from_slice(packed.whole);
            self.records += 1;
        }
    }
}

impl Views {
    /// What rules said of an owner, or of all, newest first.
    pub fn verdicts(&self, owner: Option<u32>, limit: usize) -> Result<Vec<VerdictRecord>, ViewError> {
        let which = if owner.is_some() { "owner = ?1" } else { "?1 IS NULL" };
        let sql = format!("{VERDICTS} WHERE {which} ORDER BY id DESC LIMIT ?2");
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.read(|conn| conn.prepare_cached(&sql)?.query_map(params![owner, limit], verdict)?.collect())
    }

    /// Verdicts for which nothing was gathered yet: those that somebody acts on first, and the oldest of them.
    pub fn bare_verdicts(&self, limit: usize) -> Result<Vec<VerdictRecord>, ViewError> {
        let sql = format!("{VERDICTS} WHERE evidence IS NULL ORDER BY action = 'observe', id LIMIT ?1");
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.read(|conn| conn.prepare_cached(&sql)?.query_map([limit], verdict)?.collect())
    }

    /// What is kept of an owner's mail.
    pub fn mail_of(&self, of: &MailOf<'_>) -> Result<KeptMail, ViewError> {
        self.read(|conn| {
            let mut kept = KeptMail::default();
            open(conn, of, &mut kept)?;
            if let Some(from) = of.from {
                index(conn, of, from, &mut kept)?;
                errors(conn, of, from, &mut kept)?;
            }
            Ok(kept)
        })
    }
}

fn open(conn: &Connection, of: &MailOf<'_>, kept: &mut KeptMail) -> rusqlite::Result<()> {
    let mut statement = conn.prepare_cached("SELECT key, value FROM row WHERE kind = ?1 ORDER BY key DESC")?;
    let mut bytes = 0;
    for kind in of.kinds {
        let mut rows = statement.query([kind])?;
        let mut looked = 0_usize;
        while let Some(row) = rows.next()? {
            looked += 1;
            if looked.is_multiple_of(STRIDE) && !(of.go_on)() || bytes >= MOST_BYTES || kept.open.len() >= MOST {
                kept.more = true;
                return Ok(());
            }
            let value = row.get_ref(1)?.as_blob()?;
            if (of.wanted)(*kind, value) {
                bytes += value.len();
                kept.open.push(Row { kind: *kind, key: row.get(0)?, value: Some(value.to_vec()) });
            }
        }
    }
    Ok(())
}

fn index(conn: &Connection, of: &MailOf<'_>, from: Time, kept: &mut KeptMail) -> rusqlite::Result<()> {
    let mut tail = conn
        .prepare_cached("SELECT data FROM message_tail WHERE last_time > ?1 AND first_time <= ?2 ORDER BY id DESC")?;
    let mut rows = tail.query(params![from.0, of.to.0])?;
    while let Some(row) = rows.next()? {
        kept.take(row.get_ref(0)?.as_blob()?, of, from);
    }
    let hash = bloom::owner_hash(of.owner);
    let mut chunks = conn.prepare_cached(
        "SELECT filter, data FROM message_chunk WHERE last_time > ?1 AND first_time <= ?2 ORDER BY id DESC",
    )?;
    let mut rows = chunks.query(params![from.0, of.to.0])?;
    while let Some(row) = rows.next()? {
        if !bloom::may_contain(row.get_ref(0)?.as_blob()?, hash) {
            continue;
        }
        if kept.is_full() || !(of.go_on)() {
            kept.more = true;
            break;
        }
        match chunk::unpack(row.get_ref(1)?.as_blob()?) {
            Some(data) => kept.take(&data, of, from),
            None => kept.more = true,
        }
    }
    // Numbers have no holes at their beginning but those of what was deleted.
    let (first, begins): (Option<i64>, Option<i64>) = conn
        .prepare_cached("SELECT (SELECT min(id) FROM message_chunk), (SELECT min(last_time) FROM message_chunk)")?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    kept.begins = begins.filter(|begins| first > Some(1) && *begins > from.0).map(Time);
    Ok(())
}

fn errors(conn: &Connection, of: &MailOf<'_>, from: Time, kept: &mut KeptMail) -> rusqlite::Result<()> {
    let mut statement = conn.prepare_cached(&format!("{ERRORS} WHERE owner = ?1 ORDER BY id DESC"))?;
    let mut rows = statement.query([of.owner])?;
    let mut looked = 0_usize;
    while let Some(row) = rows.next()? {
        looked += 1;
        let at: i64 = row.get(1)?;
        if at < from.plus_secs(-OUT_OF_ORDER_SECS).0 {
            break;
        }
        let enough = kept.errors.len() >= MOST || looked >= MOST_LOOKED;
        if enough || looked.is_multiple_of(STRIDE) && !(of.go_on)() {
            kept.more = true;
            break;
        }
        if at > from.0 && at <= of.to.0 {
            kept.errors.push(error_row(row)?);
        }
    }
    Ok(())
}

const VERDICTS: &str = "SELECT id, at, owner, rule, signal, observed, most, window, action, outcome, scope, proven, \
                        order_id, evidence FROM verdict";

fn verdict(row: &SqlRow<'_>) -> rusqlite::Result<VerdictRecord> {
    let verdict = VerdictRow {
        at: Time(row.get(1)?),
        owner: row.get(2)?,
        rule: row.get(3)?,
        signal: row.get(4)?,
        observed: count(row, 5)?,
        limit: count(row, 6)?,
        window: row.get(7)?,
        action: row.get(8)?,
        outcome: row.get(9)?,
        scope: row.get(10)?,
        proven: row.get(11)?,
        order: row.get(12)?,
    };
    Ok(VerdictRecord { id: row.get(0)?, row: verdict, evidence: row.get(13)? })
}
