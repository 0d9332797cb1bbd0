//! Reading the store: pages and commands, beside the agent or without it.
//!
//! Never writes and never creates a file. While an agent runs (or after one was killed) there is a write-ahead log and
//! reading goes through it. After a clean stop there is none; SQLite would create one even for a reader, so the file
//! is then read as immutable, and read again the normal way should an agent start meanwhile.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension, Row as SqlRow, params};

use super::{
    AccountRow, AuditRow, DayRecord, ErrorRecord, FILE_NAME, HistoryCounts, HourRecord, Row, ScriptRecord, Trace,
    TraceQuery, ViewError, open, schema, trace,
};
use crate::mail::{Counts, Time};

/// A read-only window on the store. `Send`, not `Sync`: one per thread.
#[derive(Debug)]
pub struct Views {
    path: PathBuf,
    conn: RefCell<Reader>,
}

#[derive(Debug)]
struct Reader {
    conn: Connection,
    immutable: bool,
}

impl Views {
    /// Opens the store in `dir` for reading.
    pub fn open(dir: &Path) -> Result<Views, ViewError> {
        let path = dir.join(FILE_NAME);
        match std::fs::metadata(&path) {
            Ok(_) => {}
            Err(why) if why.kind() == std::io::ErrorKind::NotFound => return Err(ViewError::Missing { path }),
            Err(why) => return Err(ViewError::Denied { path, why }),
        }
        let fail = |source| ViewError::Sqlite { path: path.clone(), source };
        let reader = Reader::open(&path).map_err(fail)?;
        let views = Views { path: path.clone(), conn: RefCell::new(reader) };
        let found = views.read(schema::version)?;
        if found != schema::VERSION {
            return Err(ViewError::Version { path, found, known: schema::VERSION });
        }
        Ok(views)
    }

    /// All accounts by owner, closed ones too.
    pub fn accounts(&self) -> Result<Vec<AccountRow>, ViewError> {
        self.read(accounts)
    }

    /// The account of that name: the open one, or else the one seen last.
    pub fn account(&self, name: &str) -> Result<Option<AccountRow>, ViewError> {
        self.read(|conn| {
            conn.prepare_cached(
                "SELECT owner, name, uid, home, first_seen, closed FROM account WHERE name = ?1
                 ORDER BY closed IS NOT NULL, owner DESC LIMIT 1",
            )?
            .query_row([name], account_row)
            .optional()
        })
    }

    /// Figures of an owner since it was first seen.
    pub fn totals(&self, owner: u32) -> Result<Option<Counts>, ViewError> {
        self.read(|conn| {
            conn.prepare_cached(&format!("{TOTALS} WHERE owner = ?1"))?
                .query_row([owner], |row| Ok(total_row(row)?.1))
                .optional()
        })
    }

    /// Figures of all owners, by owner; below 16 are the unattributed reasons.
    pub fn all_totals(&self) -> Result<Vec<(u32, Counts)>, ViewError> {
        self.read(all_totals)
    }

    /// Hours `from..=to` (UTC hours since the epoch) in which the owner did anything, oldest first. At most 10,000.
    pub fn hours(&self, owner: u32, from: i64, to: i64) -> Result<Vec<HourRecord>, ViewError> {
        self.read(|conn| {
            history(conn, "hourly", "hour", owner, from, to, |row| {
                Ok(HourRecord { hour: row.get(0)?, counts: history_counts(row)? })
            })
        })
    }

    /// Local days `from..=to` (days since the epoch) in which the owner did anything, oldest first. At most 10,000.
    pub fn days(&self, owner: u32, from: i32, to: i32) -> Result<Vec<DayRecord>, ViewError> {
        self.read(|conn| {
            history(conn, "daily", "day", owner, from.into(), to.into(), |row| {
                Ok(DayRecord { day: row.get(0)?, counts: history_counts(row)? })
            })
        })
    }

    /// Errors of one owner or of all, newest first; `before` is the `id` of the last one seen.
    pub fn errors(&self, owner: Option<u32>, limit: usize, before: Option<i64>) -> Result<Vec<ErrorRecord>, ViewError> {
        let which = if owner.is_some() { "owner = ?1" } else { "?1 IS NULL" };
        let sql = format!("{ERRORS} WHERE {which} AND id < ?2 ORDER BY id DESC LIMIT ?3");
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.read(|conn| {
            conn.prepare_cached(&sql)?
                .query_map(params![owner, before.unwrap_or(i64::MAX), limit], error_row)?
                .collect()
        })
    }

    /// The order log of an owner, newest first.
    pub fn audit(&self, owner: u32, limit: usize) -> Result<Vec<AuditRow>, ViewError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.read(|conn| {
            conn.prepare_cached(
                "SELECT at, owner, order_id, action, scope, by, reason, outcome, details
                 FROM audit WHERE owner = ?1 ORDER BY id DESC LIMIT ?2",
            )?
            .query_map(params![owner, limit], audit_row)?
            .collect()
        })
    }

    /// Searches the message index, newest first, from `since` on, and follows queue ids across hops. The answer is in
    /// order of time and has at most `limit` records. Messages still open are in generic rows, not in here.
    pub fn trace(&self, query: &TraceQuery, since: Time, limit: usize) -> Result<Trace, ViewError> {
        self.read(|conn| trace::search(conn, query, since, limit))
    }

    /// Generic rows of a kind, by key. `value` is never `None`.
    pub fn rows(&self, kind: u8) -> Result<Vec<Row>, ViewError> {
        self.read(|conn| {
            conn.prepare_cached("SELECT kind, key, value FROM row WHERE kind = ?1 ORDER BY key")?
                .query_map([kind], |row| Ok(Row { kind: row.get(0)?, key: row.get(1)?, value: Some(row.get(2)?) }))?
                .collect()
        })
    }

    /// Positions of all sources, by source.
    pub fn positions(&self) -> Result<Vec<(String, Vec<u8>)>, ViewError> {
        self.read(positions)
    }

    /// Reads the whole file, as the agent does at its start.
    pub(super) fn quick_check(&self) -> Result<open::CheckState, ViewError> {
        self.read(|conn| Ok(open::quick_check(conn)))
    }

    pub(super) fn read<T>(&self, work: impl Fn(&Connection) -> rusqlite::Result<T>) -> Result<T, ViewError> {
        self.try_read(&work).map_err(|source| ViewError::Sqlite { path: self.path.clone(), source })
    }

    fn try_read<T>(&self, work: &impl Fn(&Connection) -> rusqlite::Result<T>) -> rusqlite::Result<T> {
        let mut reader = self.conn.borrow_mut();
        if reader.immutable {
            // What was read before an agent appeared may be torn: it counts only if there is none afterwards.
            let found = if log_exists(&self.path) { None } else { Some(in_one_view(&reader.conn, work)) };
            match found {
                Some(found) if !log_exists(&self.path) => return found,
                _ => *reader = Reader::open(&self.path)?,
            }
        }
        in_one_view(&reader.conn, work)
    }
}

/// All reads of one call see the same state of the store.
fn in_one_view<T>(conn: &Connection, work: &impl Fn(&Connection) -> rusqlite::Result<T>) -> rusqlite::Result<T> {
    let tx = conn.unchecked_transaction()?;
    work(&tx)
}

fn log_exists(path: &Path) -> bool {
    open::with_suffix(path, "-wal").exists()
}

impl Reader {
    fn open(path: &Path) -> rusqlite::Result<Reader> {
        let immutable = !log_exists(path);
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let conn = if immutable {
            Connection::open_with_flags(immutable_uri(path), flags | OpenFlags::SQLITE_OPEN_URI)?
        } else {
            Connection::open_with_flags(path, flags)?
        };
        conn.busy_timeout(Duration::from_secs(2))?;
        conn.execute_batch("PRAGMA query_only = ON; PRAGMA cache_size = -4000; PRAGMA trusted_schema = OFF;")?;
        Ok(Reader { conn, immutable })
    }
}

fn immutable_uri(path: &Path) -> String {
    use std::fmt::Write;
    use std::os::unix::ffi::OsStrExt;
    let mut uri = String::from("file:");
    for &byte in path.as_os_str().as_bytes() {
        if byte.is_ascii_alphanumeric() || b"/-_.".contains(&byte) {
            uri.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(uri, "%{byte:02X}");
        }
    }
    uri.push_str("?immutable=1");
    uri
}

pub(super) fn accounts(conn: &Connection) -> rusqlite::Result<Vec<AccountRow>> {
    conn.prepare_cached("SELECT owner, name, uid, home, first_seen, closed FROM account ORDER BY owner")?
        .query_map([], account_row)?
        .collect()
}

pub(super) fn positions(conn: &Connection) -> rusqlite::Result<Vec<(String, Vec<u8>)>> {
    conn.prepare_cached("SELECT source, value FROM position ORDER BY source")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect()
}

pub(super) fn all_totals(conn: &Connection) -> rusqlite::Result<Vec<(u32, Counts)>> {
    conn.prepare_cached(&format!("{TOTALS} ORDER BY owner"))?.query_map([], total_row)?.collect()
}

fn account_row(row: &SqlRow<'_>) -> rusqlite::Result<AccountRow> {
    Ok(AccountRow {
        owner: row.get(0)?,
        name: row.get(1)?,
        uid: row.get(2)?,
        home: row.get(3)?,
        first_seen: Time(row.get(4)?),
        closed: row.get::<_, Option<i64>>(5)?.map(Time),
    })
}

fn audit_row(row: &SqlRow<'_>) -> rusqlite::Result<AuditRow> {
    Ok(AuditRow {
        at: Time(row.get(0)?),
        owner: row.get(1)?,
        order: row.get(2)?,
        action: row.get(3)?,
        scope: row.get(4)?,
        by: row.get(5)?,
        reason: row.get(6)?,
        outcome: row.get(7)?,
        details: row.get(8)?,
    })
}

const TOTALS: &str = "SELECT owner, messages, recipients, sent, bounced, expired, deleted, unaccounted, deferred, \
                      queued, held, late_errors FROM total";

fn total_row(row: &SqlRow<'_>) -> rusqlite::Result<(u32, Counts)> {
    let counts = Counts {
        messages: count(row, 1)?,
        recipients: count(row, 2)?,
        sent: count(row, 3)?,
        bounced: count(row, 4)?,
        expired: count(row, 5)?,
        deleted: count(row, 6)?,
        unaccounted: count(row, 7)?,
        deferred: count(row, 8)?,
        queued: count(row, 9)?,
        held: count(row, 10)?,
        late_errors: count(row, 11)?,
    };
    Ok((row.get(0)?, counts))
}

/// Jumps from one existing hour (day) to the next, and looks the owner up in each: the tables are keyed time first.
fn history<T>(
    conn: &Connection,
    table: &str,
    time: &str,
    owner: u32,
    from: i64,
    to: i64,
    record: impl FnMut(&SqlRow<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Vec<T>> {
    let sql = format!(
        "WITH RECURSIVE times(t) AS (
             SELECT min({time}) FROM {table} WHERE {time} >= ?2
             UNION ALL SELECT (SELECT min({time}) FROM {table} WHERE {time} > t) FROM times WHERE t < ?3 LIMIT 10000)
         SELECT {time}, messages, recipients, sent, bounced, expired, deleted, unaccounted, deferred, late_errors
         FROM times CROSS JOIN {table} ON {time} = t AND owner = ?1 WHERE t <= ?3 ORDER BY t"
    );
    conn.prepare_cached(&sql)?.query_map(params![owner, from, to], record)?.collect()
}

fn history_counts(row: &SqlRow<'_>) -> rusqlite::Result<HistoryCounts> {
    Ok(HistoryCounts {
        messages: count(row, 1)?,
        recipients: count(row, 2)?,
        sent: count(row, 3)?,
        bounced: count(row, 4)?,
        expired: count(row, 5)?,
        deleted: count(row, 6)?,
        unaccounted: count(row, 7)?,
        deferred: count(row, 8)?,
        late_errors: count(row, 9)?,
    })
}

pub(super) const ERRORS: &str = "SELECT id, at, owner, outcome, late, queue_id, sender, recipient, relay, dsn, class, \
                                 reply, script_path, script_line, script_directory, own_address FROM error";

pub(super) fn error_row(row: &SqlRow<'_>) -> rusqlite::Result<ErrorRecord> {
    let script = ScriptRecord { path: row.get(12)?, line: row.get(13)?, directory: row.get(14)? };
    Ok(ErrorRecord {
        id: row.get(0)?,
        at: Time(row.get(1)?),
        owner: row.get(2)?,
        outcome: row.get(3)?,
        late: row.get(4)?,
        queue_id: row.get(5)?,
        sender: row.get(6)?,
        recipient: row.get(7)?,
        relay: row.get(8)?,
        dsn: row.get(9)?,
        class: row.get(10)?,
        reply: row.get(11)?,
        script: Some(script).filter(|script| !(script.path.is_empty() && script.directory.is_empty())),
        own_address: row.get(15)?,
    })
}

pub(super) fn count(row: &SqlRow<'_>, column: usize) -> rusqlite::Result<u64> {
    row.get::<_, i64>(column).map(|n| u64::try_from(n).unwrap_or(0))
}
