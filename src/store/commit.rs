//! Writing a batch: one transaction, all of it or nothing.

use rusqlite::{Connection, TransactionBehavior, params};

use super::{
    AccountRow, AuditRow, Batch, CheckState, CommitError, Durability, ErrorRow, HistoryCounts, HistoryRow, Store,
    VerdictRow, chunk,
};
use crate::mail::Counts;

impl Store {
    /// Writes `batch` in one transaction. On an error nothing of it is in the store, and the same batch can be
    /// committed again; until that succeeds nothing more should be read from the logs.
    pub fn commit(&mut self, batch: &Batch, durability: Durability) -> Result<(), CommitError> {
        let index = self.index;
        self.index = self.write(durability, |conn| write_batch(conn, batch, index))?;
        Ok(())
    }

    /// Runs `work` in a write transaction; rolls back on any error. A store that the check in the background found
    /// damaged takes no more writes: it is kept as it is.
    pub(super) fn write<T>(
        &mut self,
        durability: Durability,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, CommitError> {
        if let CheckState::Corrupt(why) = self.check() {
            return Err(CommitError::Corrupt { path: self.path.clone(), why });
        }
        let done = self.try_write(durability, work).map_err(|source| CommitError::sqlite(&self.path, source));
        if matches!(done, Err(CommitError::Full { .. })) {
            self.folder.disk_is_full();
        }
        done
    }

    fn try_write<T>(
        &mut self,
        durability: Durability,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        if self.durability != durability {
            // Can only change between transactions.
            let level = if durability == Durability::Full { "FULL" } else { "NORMAL" };
            self.conn.pragma_update(None, "synchronous", level)?;
            self.durability = durability;
        }
        let tx = self.conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let done = work(&tx)?;
        tx.commit()?;
        self.folder.committed();
        Ok(done)
    }
}

fn write_batch(conn: &Connection, batch: &Batch, index: chunk::IndexState) -> rusqlite::Result<chunk::IndexState> {
    {
        let mut set = conn.prepare_cached(
            "INSERT INTO row(kind, key, value) VALUES(?1, ?2, ?3) ON CONFLICT DO UPDATE SET value = excluded.value",
        )?;
        let mut unset = conn.prepare_cached("DELETE FROM row WHERE kind = ?1 AND key = ?2")?;
        for row in batch.rows.iter() {
            match row.value {
                Some(value) => set.execute(params![row.kind, row.key, value])?,
                None => unset.execute(params![row.kind, row.key])?,
            };
        }
    }
    let mut set = conn.prepare_cached(
        "INSERT INTO position(source, value) VALUES(?1, ?2) ON CONFLICT DO UPDATE SET value = excluded.value",
    )?;
    for (source, value) in &batch.positions {
        set.execute(params![source, value])?;
    }
    accounts(conn, &batch.accounts)?;
    totals(conn, &batch.totals)?;
    history(conn, &batch.history)?;
    errors(conn, &batch.errors)?;
    audit(conn, &batch.audit)?;
    verdicts(conn, &batch.verdicts)?;
    evidence(conn, &batch.evidence)?;
    chunk::write(conn, &batch.index, index)
}

fn accounts(conn: &Connection, accounts: &[AccountRow]) -> rusqlite::Result<()> {
    let mut set = conn.prepare_cached(
        "INSERT INTO account(owner, name, uid, home, first_seen, closed) VALUES(?1, ?2, ?3, ?4, ?5, ?6)
         ON CONFLICT DO UPDATE SET name = excluded.name, uid = excluded.uid, home = excluded.home,
             first_seen = excluded.first_seen, closed = excluded.closed",
    )?;
    for a in accounts {
        set.execute(params![a.owner, a.name, a.uid, a.home, a.first_seen.0, a.closed.map(|at| at.0)])?;
    }
    Ok(())
}

fn totals(conn: &Connection, totals: &[(u32, Counts)]) -> rusqlite::Result<()> {
    let mut set = conn.prepare_cached(
        "INSERT OR REPLACE INTO total(owner, messages, recipients, sent, bounced, expired, deleted, unaccounted,
             deferred, queued, held, late_errors) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
    )?;
    // In the order of the table, so that neighbours share a page while it is warm; a stable sort keeps the last last.
    let mut sorted: Vec<_> = totals.iter().collect();
    sorted.sort_by_key(|(owner, _)| *owner);
    for (owner, c) in sorted {
        set.execute(params![
            owner,
            int(c.messages),
            int(c.recipients),
            int(c.sent),
            int(c.bounced),
            int(c.expired),
            int(c.deleted),
            int(c.unaccounted),
            int(c.deferred),
            int(c.queued),
            int(c.held),
            int(c.late_errors)
        ])?;
    }
    Ok(())
}

macro_rules! add_to {
    ($table:literal, $time:literal) => {
        concat!(
            "INSERT INTO ",
            $table,
            "(",
            $time,
            ", owner, messages, recipients, sent, bounced, expired, deleted,
                 unaccounted, deferred, late_errors) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
             ON CONFLICT DO UPDATE SET messages = messages + excluded.messages,
                 recipients = recipients + excluded.recipients, sent = sent + excluded.sent,
                 bounced = bounced + excluded.bounced, expired = expired + excluded.expired,
                 deleted = deleted + excluded.deleted, unaccounted = unaccounted + excluded.unaccounted,
                 deferred = deferred + excluded.deferred, late_errors = late_errors + excluded.late_errors"
        )
    };
}

fn history(conn: &Connection, history: &[HistoryRow]) -> rusqlite::Result<()> {
    add(conn, add_to!("hourly", "hour"), history.iter().map(|h| (h.hour, h.owner, h.counts)))?;
    add(conn, add_to!("daily", "day"), history.iter().map(|h| (i64::from(h.day), h.owner, h.counts)))
}

/// One statement for each row of the table, in its order: of a backlog a batch may have many entries for one.
fn add(conn: &Connection, sql: &str, entries: impl Iterator<Item = (i64, u32, HistoryCounts)>) -> rusqlite::Result<()> {
    let mut sorted: Vec<_> = entries.collect();
    sorted.sort_unstable_by_key(|(time, owner, _)| (*time, *owner));
    let mut add = conn.prepare_cached(sql)?;
    for same in sorted.chunk_by(|one, other| (one.0, one.1) == (other.0, other.1)) {
        let Some(&(time, owner, mut c)) = same.first() else { continue };
        for (_, _, more) in same.iter().skip(1) {
            c.add(more);
        }
        add.execute(params![
            time,
            owner,
            int(c.messages),
            int(c.recipients),
            int(c.sent),
            int(c.bounced),
            int(c.expired),
            int(c.deleted),
            int(c.unaccounted),
            int(c.deferred),
            int(c.late_errors)
        ])?;
    }
    Ok(())
}

fn errors(conn: &Connection, errors: &[ErrorRow]) -> rusqlite::Result<()> {
    let mut add = conn.prepare_cached(
        "INSERT INTO error(at, owner, outcome, late, queue_id, sender, recipient, relay, dsn, class, reply,
             script_path, script_line, script_directory, own_address)
         VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
    )?;
    for e in errors {
        let own_address = e.own_address.map(|address| address.to_string()).unwrap_or_default();
        let dsn = if e.dsn.is_none() { String::new() } else { e.dsn.to_string() };
        add.execute(params![
            e.at.0,
            e.owner,
            e.outcome,
            e.late,
            e.id.as_str(),
            e.sender,
            e.recipient,
            e.relay,
            dsn,
            e.class,
            e.reply,
            e.script.as_ref().map_or("", |script| &script.path),
            e.script.as_ref().map_or(0, |script| script.line),
            e.script.as_ref().map_or("", |script| &script.directory),
            own_address
        ])?;
    }
    Ok(())
}

fn audit(conn: &Connection, audit: &[AuditRow]) -> rusqlite::Result<()> {
    let mut add = conn.prepare_cached(
        "INSERT INTO audit(at, owner, order_id, action, scope, by, reason, outcome, details)
         VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
    )?;
    for a in audit {
        add.execute(params![a.at.0, a.owner, a.order, a.action, a.scope, a.by, a.reason, a.outcome, a.details])?;
    }
    Ok(())
}

fn verdicts(conn: &Connection, verdicts: &[VerdictRow]) -> rusqlite::Result<()> {
    let mut add = conn.prepare_cached(
        "INSERT INTO verdict(at, owner, rule, signal, observed, most, window, action, outcome, scope, proven, order_id)
         VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
    )?;
    for v in verdicts {
        add.execute(params![
            v.at.0,
            v.owner,
            v.rule,
            v.signal,
            int(v.observed),
            int(v.limit),
            v.window,
            v.action,
            v.outcome,
            v.scope,
            v.proven,
            v.order
        ])?;
    }
    Ok(())
}

/// A verdict that was erased meanwhile stays so.
fn evidence(conn: &Connection, evidence: &[(i64, String)]) -> rusqlite::Result<()> {
    let mut set = conn.prepare_cached("UPDATE verdict SET evidence = ?2 WHERE id = ?1")?;
    for (id, text) in evidence {
        set.execute(params![id, text])?;
    }
    Ok(())
}

/// SQLite's integers are signed; no count gets near the end of them.
fn int(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
