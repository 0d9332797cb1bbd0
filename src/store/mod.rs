//! The memory: SQLite, and the only SQL.
//!
//! One file, `sendwarden.db`, in WAL mode. The agent owns the one [`Store`] (it writes); pages and commands read
//! through [`Views`], also while the agent writes and when there is no agent.
//!
//! A [`Batch`] is what one turn of the agent's loop changed: rows, positions, totals, history, errors and the message
//! index. It is written in **one** transaction or not at all, so that positions and figures always agree, and the
//! same batch can be committed again after a failure.
//!
//! This room never counts, never judges, never reads the clock, and never starts empty over a store it cannot read.

mod batch;
mod bloom;
mod chunk;
mod commit;
mod error;
mod evidence;
mod fold;
mod forget;
mod leg;
mod open;
mod record;
mod rows;
mod schema;
mod trace;
mod upkeep;
mod views;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::Duration;

pub use batch::{AccountRow, AuditRow, Batch, ErrorRow, HistoryCounts, HistoryRow, VerdictRow};
pub use error::{CommitError, OpenError, ViewError};
pub use evidence::{KeptMail, MailOf, VerdictRecord};
pub use leg::{LegRecord, RecipientRecord};
pub use open::{CheckState, Saved};
pub use record::{DayRecord, ErrorRecord, HourRecord, ScriptRecord};
pub use rows::{Row, RowRef, Rows};
pub use trace::{Trace, TraceQuery};
pub use upkeep::Expired;
pub use views::Views;

/// Name of the store's file in its directory.
pub const FILE_NAME: &str = "sendwarden.db";

/// How the store keeps things, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Days a message stays in the message index.
    pub index_days: u32,
    /// Bytes the message index may take (compressed, filters included); the oldest part goes first.
    pub index_bytes: u64,
    /// Days an error stays.
    pub error_days: u32,
    /// Errors kept at most, whatever their age; the oldest go first.
    pub error_rows: u64,
    /// Days a line of the order log stays.
    pub audit_days: u32,
    /// Days of hourly history.
    pub hourly_days: u32,
    /// Days of daily history.
    pub daily_days: u32,
    /// A store up to this many bytes is checked before `open` returns, a larger one in the background.
    pub check_inline_bytes: u64,
    /// Pages in the write-ahead log before it is folded into the file. With 100,000 accounts a batch changes pages all over
    /// the tables of figures: long enough that a page is folded in once for many batches (halves the time of such a batch).
    pub log_pages: i64,
    /// How long a write waits for another writer before it gives up with [`CommitError::Locked`].
    pub busy_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            index_days: 30,
            index_bytes: 1 << 30,
            error_days: 90,
            error_rows: 5_000_000,
            audit_days: 365,
            hourly_days: 35,
            daily_days: 400,
            check_inline_bytes: 64 << 20,
            log_pages: 16_000,
            busy_timeout: Duration::from_secs(2),
        }
    }
}

/// Whether a commit must survive a power cut when `commit` returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Survives a killed agent; a power cut may undo the last commits, whole ones.
    Normal,
    /// Is on the disk when `commit` returns.
    Full,
}

/// The store, open for writing. There is one, owned by the thread that commits.
#[derive(Debug)]
pub struct Store {
    /// Before the connection: it ends first.
    folder: fold::Folder,
    conn: rusqlite::Connection,
    path: PathBuf,
    settings: Settings,
    /// The `synchronous` setting the connection has now.
    durability: Durability,
    /// What the tables of the message index hold; changed only after a commit went through.
    index: chunk::IndexState,
    check: open::Check,
}
