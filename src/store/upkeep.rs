//! Retention in small steps, and what is done to single accounts.

use rusqlite::{Connection, params};

use super::chunk::IndexState;
use super::{CommitError, Durability, Settings, Store};
use crate::mail::Time;

/// Most of each kind that one call of [`Store::expire`] deletes, so that it never holds up the log for long.
const CHUNKS: i64 = 32;
const ERRORS: i64 = 1_000;
const HOURS: i64 = 4_000;

/// What one call of [`Store::expire`] deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Expired {
    pub chunks: u64,
    pub errors: u64,
    pub audit: u64,
    pub verdicts: u64,
    pub hours: u64,
    pub days: u64,
    /// There is more to delete: call again soon.
    pub more: bool,
}

impl Store {
    /// Deletes some of what is beyond its retention, and the oldest of the message index while it is over its size.
    /// Takes some milliseconds. Accounts and totals stay, also of closed accounts.
    pub fn expire(&mut self, now: Time) -> Result<Expired, CommitError> {
        self.finish_forgetting()?;
        let settings = self.settings.clone();
        let index = self.index;
        let (expired, index) = self.write(Durability::Normal, |conn| expire(conn, &settings, index, now))?;
        self.index = index;
        if !expired.more {
            // Gives the cache of a busy hour back.
            self.conn.release_memory().map_err(|source| CommitError::sqlite(&self.path, source))?;
        }
        Ok(expired)
    }

    /// Gives an account another name.
    pub fn rename(&mut self, owner: u32, name: &str) -> Result<(), CommitError> {
        let changed = self.write(Durability::Full, |conn| {
            conn.execute("UPDATE account SET name = ?2 WHERE owner = ?1", params![owner, name])
        })?;
        self.known(owner, changed)
    }

    /// Marks an account as closed. Its figures stay.
    pub fn close(&mut self, owner: u32, at: Time) -> Result<(), CommitError> {
        let changed = self.write(Durability::Full, |conn| {
            conn.execute("UPDATE account SET closed = ?2 WHERE owner = ?1", params![owner, at.0])
        })?;
        self.known(owner, changed)
    }

    fn known(&self, owner: u32, changed: usize) -> Result<(), CommitError> {
        if changed == 0 { Err(CommitError::NoAccount { path: self.path.clone(), owner }) } else { Ok(()) }
    }
}

fn expire(
    conn: &Connection,
    settings: &Settings,
    mut index: IndexState,
    now: Time,
) -> rusqlite::Result<(Expired, IndexState)> {
    let before = |days: u32| now.plus_secs(-i64::from(days) * 86_400);
    let mut expired = Expired::default();

    let cut = before(settings.index_days).0;
    expired.chunks = delete_chunks(conn, "WHERE last_time < ?1 ORDER BY last_time LIMIT ?2", cut, &mut index)?;
    if expired.chunks < CHUNKS as u64 && index.chunk_bytes > settings.index_bytes {
        let most = settings.index_bytes;
        expired.chunks += shrink(conn, most, &mut index)?;
    }
    let tail = conn.prepare_cached("DELETE FROM message_tail WHERE last_time < ?1")?.execute([cut])?;
    if tail > 0 {
        index = IndexState { chunk_bytes: index.chunk_bytes, ..IndexState::read(conn)? };
    }

    expired.errors = conn
        .prepare_cached("DELETE FROM error WHERE id IN (SELECT id FROM error WHERE at < ?1 ORDER BY at LIMIT ?2)")?
        .execute([before(settings.error_days).0, ERRORS])? as u64;
    // Numbers have no holes but those of forgotten accounts, so this is the number of rows, or a few more.
    let over = i64::try_from(settings.error_rows).unwrap_or(i64::MAX);
    expired.errors += conn
        .prepare_cached(
            "DELETE FROM error WHERE id IN (SELECT id FROM error
                 WHERE id <= (SELECT max(id) FROM error) - ?1 ORDER BY id LIMIT ?2)",
        )?
        .execute([over, ERRORS])? as u64;

    expired.audit = conn
        .prepare_cached("DELETE FROM audit WHERE id IN (SELECT id FROM audit WHERE at < ?1 ORDER BY at LIMIT ?2)")?
        .execute([before(settings.audit_days).0, ERRORS])? as u64;

    expired.verdicts = conn
        .prepare_cached("DELETE FROM verdict WHERE id IN (SELECT id FROM verdict WHERE at < ?1 ORDER BY at LIMIT ?2)")?
        .execute([before(settings.audit_days).0, ERRORS])? as u64;

    let hour = before(settings.hourly_days).hour();
    expired.hours = conn
        .prepare_cached(
            "DELETE FROM hourly WHERE (hour, owner) IN
                 (SELECT hour, owner FROM hourly WHERE hour < ?1 ORDER BY hour, owner LIMIT ?2)",
        )?
        .execute([hour, HOURS])? as u64;
    let day = before(settings.daily_days).secs().div_euclid(86_400);
    expired.days = conn
        .prepare_cached(
            "DELETE FROM daily WHERE (day, owner) IN
                 (SELECT day, owner FROM daily WHERE day < ?1 ORDER BY day, owner LIMIT ?2)",
        )?
        .execute([day, HOURS])? as u64;
    expired.more = expired.chunks >= CHUNKS as u64
        || expired.errors >= ERRORS as u64
        || expired.audit >= ERRORS as u64
        || expired.verdicts >= ERRORS as u64
        || expired.hours >= HOURS as u64
        || expired.days >= HOURS as u64;
    Ok((expired, index))
}

/// Deletes the oldest chunks until the index is small enough, or enough was done for one call.
fn shrink(conn: &Connection, most: u64, index: &mut IndexState) -> rusqlite::Result<u64> {
    let mut count = 0;
    while index.chunk_bytes > most && count < CHUNKS {
        if delete_chunks(conn, "WHERE ?1 = 0 ORDER BY id LIMIT min(?2, 1)", 0, index)? == 0 {
            break;
        }
        count += 1;
    }
    Ok(count as u64)
}

/// `which` selects from `message_chunk`: `?1` is `value`, `?2` the most chunks for one call.
fn delete_chunks(conn: &Connection, which: &str, value: i64, index: &mut IndexState) -> rusqlite::Result<u64> {
    let found: Vec<(i64, i64)> = conn
        .prepare_cached(&format!("SELECT id, bytes FROM message_chunk {which}"))?
        .query_map([value, CHUNKS], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    let mut delete = conn.prepare_cached("DELETE FROM message_chunk WHERE id = ?1")?;
    for (id, bytes) in &found {
        delete.execute([id])?;
        index.chunk_bytes = index.chunk_bytes.saturating_sub(bytes.unsigned_abs());
    }
    Ok(found.len() as u64)
}
