//! The tables, as numbered migrations. A store's version is its `user_version`.
//!
//! Never changes a migration that was released: a new one is added at the end.

use rusqlite::{Connection, TransactionBehavior};

/// "SWrd": tells our store from any other SQLite file.
pub(super) const APPLICATION_ID: i64 = 0x5357_7264;

/// History is keyed time first: all accounts active in an hour are neighbours, so a batch touches few pages
/// however many accounts exist, and what is too old is one range. Reading an account is one lookup per hour.
const MIGRATIONS: &[&str] = &["
    CREATE TABLE meta(key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE row(kind INTEGER NOT NULL, key BLOB NOT NULL, value BLOB NOT NULL, PRIMARY KEY(kind, key)) WITHOUT ROWID;
    CREATE TABLE position(source TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE account(
        owner INTEGER PRIMARY KEY, name TEXT NOT NULL, uid INTEGER, home TEXT,
        first_seen INTEGER NOT NULL, closed INTEGER);
    CREATE INDEX account_name ON account(name);
    CREATE TABLE total(
        owner INTEGER PRIMARY KEY, messages INTEGER NOT NULL, recipients INTEGER NOT NULL, sent INTEGER NOT NULL,
        bounced INTEGER NOT NULL, expired INTEGER NOT NULL, deleted INTEGER NOT NULL, unaccounted INTEGER NOT NULL,
        deferred INTEGER NOT NULL, queued INTEGER NOT NULL, held INTEGER NOT NULL, late_errors INTEGER NOT NULL);
    CREATE TABLE hourly(
        hour INTEGER NOT NULL, owner INTEGER NOT NULL, messages INTEGER NOT NULL, recipients INTEGER NOT NULL,
        sent INTEGER NOT NULL, bounced INTEGER NOT NULL, expired INTEGER NOT NULL, deleted INTEGER NOT NULL,
        unaccounted INTEGER NOT NULL, deferred INTEGER NOT NULL, late_errors INTEGER NOT NULL,
        PRIMARY KEY(hour, owner)) WITHOUT ROWID;
    CREATE TABLE daily(
        day INTEGER NOT NULL, owner INTEGER NOT NULL, messages INTEGER NOT NULL, recipients INTEGER NOT NULL,
        sent INTEGER NOT NULL, bounced INTEGER NOT NULL, expired INTEGER NOT NULL, deleted INTEGER NOT NULL,
        unaccounted INTEGER NOT NULL, deferred INTEGER NOT NULL, late_errors INTEGER NOT NULL,
        PRIMARY KEY(day, owner)) WITHOUT ROWID;
    CREATE TABLE error(
        id INTEGER PRIMARY KEY AUTOINCREMENT, at INTEGER NOT NULL, owner INTEGER NOT NULL, outcome TEXT NOT NULL,
        late INTEGER NOT NULL, queue_id TEXT NOT NULL, sender TEXT NOT NULL, recipient TEXT NOT NULL,
        relay TEXT NOT NULL, dsn TEXT NOT NULL, class TEXT NOT NULL, reply TEXT NOT NULL);
    CREATE INDEX error_owner ON error(owner, id);
    CREATE INDEX error_at ON error(at);
    CREATE TABLE message_chunk(
        id INTEGER PRIMARY KEY AUTOINCREMENT, first_time INTEGER NOT NULL, last_time INTEGER NOT NULL,
        records INTEGER NOT NULL, bytes INTEGER NOT NULL, filter BLOB NOT NULL, data BLOB NOT NULL);
    CREATE INDEX message_chunk_time ON message_chunk(last_time, bytes);
    CREATE TABLE message_tail(
        id INTEGER PRIMARY KEY AUTOINCREMENT, first_time INTEGER NOT NULL, last_time INTEGER NOT NULL,
        records INTEGER NOT NULL, data BLOB NOT NULL);
", "
    ALTER TABLE error ADD COLUMN script_path TEXT NOT NULL DEFAULT '';
    ALTER TABLE error ADD COLUMN script_line INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE error ADD COLUMN script_directory TEXT NOT NULL DEFAULT '';
", "
    ALTER TABLE error ADD COLUMN own_address TEXT NOT NULL DEFAULT '';
", "
    CREATE TABLE audit(
        id INTEGER PRIMARY KEY AUTOINCREMENT, at INTEGER NOT NULL, owner INTEGER NOT NULL, order_id TEXT NOT NULL,
        action TEXT NOT NULL, scope TEXT NOT NULL, by TEXT NOT NULL, reason TEXT NOT NULL, outcome TEXT NOT NULL,
        details TEXT NOT NULL);
    CREATE INDEX audit_owner ON audit(owner, id);
    CREATE INDEX audit_at ON audit(at);
", "
    CREATE TABLE verdict(
        id INTEGER PRIMARY KEY AUTOINCREMENT, at INTEGER NOT NULL, owner INTEGER NOT NULL, rule TEXT NOT NULL,
        signal TEXT NOT NULL, observed INTEGER NOT NULL, most INTEGER NOT NULL, window INTEGER NOT NULL,
        action TEXT NOT NULL, outcome TEXT NOT NULL, scope TEXT NOT NULL, proven INTEGER NOT NULL,
        order_id TEXT NOT NULL);
    CREATE INDEX verdict_owner ON verdict(owner, id);
    CREATE INDEX verdict_at ON verdict(at);
", "
    -- Gathered after the verdict: until then there is none.
    ALTER TABLE verdict ADD COLUMN evidence TEXT;
    CREATE INDEX verdict_bare ON verdict(id) WHERE evidence IS NULL;
", "
    -- What rules counted, in a form that is not read any more.
    DELETE FROM row WHERE kind = 5;
"];

/// The version this program writes.
pub(super) const VERSION: i64 = MIGRATIONS.len() as i64;

/// The version a store has.
pub(super) fn version(conn: &Connection) -> rusqlite::Result<i64> {
    conn.pragma_query_value(None, "user_version", |row| row.get(0))
}

/// Brings a store from the version it has to `VERSION`, one transaction per step.
pub(super) fn migrate(conn: &mut Connection) -> rusqlite::Result<()> {
    run(conn, MIGRATIONS)
}

fn run(conn: &mut Connection, migrations: &[&str]) -> rusqlite::Result<()> {
    let have = version(conn)?;
    for (number, sql) in (1i64..).zip(migrations).filter(|(number, _)| *number > have) {
        let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
        tx.execute_batch(sql)?;
        tx.pragma_update(None, "application_id", APPLICATION_ID)?;
        tx.pragma_update(None, "user_version", number)?;
        tx.commit()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn migrations_run_once_in_order_and_a_failing_one_leaves_the_version_before() {
        let mut conn = Connection::open_in_memory().unwrap();
        run(&mut conn, &["CREATE TABLE a(x);"]).unwrap();
        assert_eq!(version(&conn).unwrap(), 1);
        run(&mut conn, &["CREATE TABLE a(x);", "CREATE TABLE b(x);"]).unwrap();
        assert_eq!(version(&conn).unwrap(), 2);
        let steps = ["", "", "CREATE TABLE c(x);", "CREATE TABLE d(x); CREATE TABLE b(x);"];
        assert!(run(&mut conn, &steps).is_err());
        assert_eq!(version(&conn).unwrap(), 3);
        assert!(conn.prepare("SELECT * FROM c").is_ok());
        assert!(conn.prepare("SELECT * FROM d").is_err());
        let id: i64 = conn.pragma_query_value(None, "application_id", |row| row.get(0)).unwrap();
        assert_eq!(id, APPLICATION_ID);
    }
}
