//! Erasing an account everywhere.
//!
//! The figures go in one transaction, together with a mark; the message index is then rewritten in steps, and the
//! mark removed. A crash in between leaves the mark, and the next [`Store::expire`] or [`Store::forget`] goes on.
//! Deleted content is overwritten (`secure_delete`), and the write-ahead log is emptied at the end.
//! What other rooms keep in generic rows is theirs to delete.

use rusqlite::{Connection, OptionalExtension, params};

use super::chunk::{self, IndexState};
use super::{CommitError, Durability, Store, bloom, leg};

/// Chunks looked at in one transaction.
const STEP: i64 = 64;

impl Store {
    /// Erases the owner from accounts, totals, history, errors and message index. Reads the whole index: up to
    /// some seconds for a large one. A batch that names the owner and is committed later brings it back.
    pub fn forget(&mut self, owner: u32) -> Result<(), CommitError> {
        self.write(Durability::Full, |conn| forget_figures(conn, owner))?;
        self.finish_forgetting()
    }

    pub(super) fn finish_forgetting(&mut self) -> Result<(), CommitError> {
        let mut forgotten = false;
        while let Some(owner) = self.write(Durability::Normal, marked)? {
            let mut after = 0;
            while let Some(last) = self.write(Durability::Normal, |conn| forget_chunks(conn, owner, after))? {
                after = last;
            }
            self.index = self.write(Durability::Full, |conn| {
                forget_tail(conn, owner)?;
                conn.execute("DELETE FROM meta WHERE key = ?1", [mark(owner)])?;
                IndexState::read(conn)
            })?;
            forgotten = true;
        }
        if forgotten {
            // Old pages still lie in the log. Readers may keep it busy: then it is emptied by a later checkpoint.
            self.conn
                .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
                .map_err(|source| CommitError::sqlite(&self.path, source))?;
        }
        Ok(())
    }
}

fn mark(owner: u32) -> String {
    format!("forget:{owner}")
}

fn marked(conn: &Connection) -> rusqlite::Result<Option<u32>> {
    conn.prepare_cached("SELECT value FROM meta WHERE key >= 'forget:' AND key < 'forget;' LIMIT 1")?
        .query_row([], |row| row.get(0))
        .optional()
}

fn forget_figures(conn: &Connection, owner: u32) -> rusqlite::Result<()> {
    conn.execute("INSERT OR REPLACE INTO meta(key, value) VALUES(?1, ?2)", params![mark(owner), owner])?;
    // The number is never given to another account: an open message may still carry it.
    conn.execute(
        "INSERT INTO meta(key, value) VALUES('last_owner', ?1)
         ON CONFLICT DO UPDATE SET value = max(value, excluded.value)",
        [owner],
    )?;
    for sql in [
        "DELETE FROM account WHERE owner = ?1",
        "DELETE FROM total WHERE owner = ?1",
        "DELETE FROM error WHERE owner = ?1",
        "DELETE FROM audit WHERE owner = ?1",
        "DELETE FROM verdict WHERE owner = ?1",
    ] {
        conn.execute(sql, [owner])?;
    }
    // History is keyed time first: one look-up per hour and day that exists.
    for (table, time) in [("hourly", "hour"), ("daily", "day")] {
        let sql = format!(
            "WITH RECURSIVE times(t) AS (
                 SELECT min({time}) FROM {table}
                 UNION ALL SELECT (SELECT min({time}) FROM {table} WHERE {time} > t) FROM times WHERE t IS NOT NULL)
             DELETE FROM {table} WHERE owner = ?1 AND {time} IN (SELECT t FROM times WHERE t IS NOT NULL)"
        );
        conn.execute(&sql, [owner])?;
    }
    Ok(())
}

/// Rewrites the next chunks that hold records of the owner; returns how far it came, `None` at the end.
fn forget_chunks(conn: &Connection, owner: u32, after: i64) -> rusqlite::Result<Option<i64>> {
    let hash = bloom::owner_hash(owner);
    let mut last = None;
    let mut hits = Vec::new();
    {
        let mut statement =
            conn.prepare_cached("SELECT id, filter, data FROM message_chunk WHERE id > ?1 ORDER BY id LIMIT ?2")?;
        let mut rows = statement.query([after, STEP])?;
        while let Some(row) = rows.next()? {
            let id: i64 = row.get(0)?;
            last = Some(id);
            if bloom::may_contain(row.get_ref(1)?.as_blob()?, hash) {
                hits.push(id);
            }
        }
    }
    for id in hits {
        let data: Vec<u8> =
            conn.prepare_cached("SELECT data FROM message_chunk WHERE id = ?1")?.query_row([id], |row| row.get(0))?;
        // A chunk that cannot be read cannot be shown to be free of the account: it goes.
        let kept = chunk::unpack(&data).map_or(Some(Vec::new()), |data| without(&data, owner));
        if let Some(kept) = kept {
            conn.prepare_cached("DELETE FROM message_chunk WHERE id = ?1")?.execute([id])?;
            chunk::insert_records(conn, Some(id), &kept)?;
        }
    }
    Ok(last)
}

fn forget_tail(conn: &Connection, owner: u32) -> rusqlite::Result<()> {
    let rows: Vec<(i64, Vec<u8>)> = conn
        .prepare_cached("SELECT id, data FROM message_tail")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    for (id, data) in rows {
        match without(&data, owner) {
            Some(kept) if kept.is_empty() => {
                conn.prepare_cached("DELETE FROM message_tail WHERE id = ?1")?.execute([id])?;
            }
            Some(kept) => {
                conn.prepare_cached("UPDATE message_tail SET data = ?2, records = ?3 WHERE id = ?1")?
                    .execute(params![id, kept, leg::records(&kept).count() as i64])?;
            }
            None => {}
        }
    }
    Ok(())
}

/// The records of everybody else; `None` when there is nothing to take out.
fn without(data: &[u8], owner: u32) -> Option<Vec<u8>> {
    let mut kept = Vec::with_capacity(data.len());
    for packed in leg::records(data).flatten().filter(|packed| packed.owner().is_some_and(|o| o != owner)) {
        kept.extend_from_slice(packed.whole);
    }
    (kept.len() != data.len()).then_some(kept)
}
