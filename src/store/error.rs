//! What can go wrong with the store, in words that say what to do.

use std::io;
use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;

/// Why the store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(
        "cannot open the store {}: it is damaged ({why}); it is kept as it is. To start with an empty one, run \
         `sendwarden run --new-store`, with the --config it runs with: it moves this file aside first", path.display()
    )]
    Corrupt { path: PathBuf, why: String },
    #[error(
        "cannot open the store {}: its format is version {found}, this program knows up to {known}; \
         install the newer sendwarden again, or use another state directory", path.display()
    )]
    Newer { path: PathBuf, found: i64, known: i64 },
    #[error("cannot open the store {}: another program is writing to it; is another agent running?", path.display())]
    Locked { path: PathBuf },
    #[error("cannot {what} {}: {source}; check that the directory exists, is writable and has space", path.display())]
    Io { what: &'static str, path: PathBuf, source: io::Error },
    #[error("cannot open the store {}: {source}; check that the directory is writable and has space", path.display())]
    Sqlite { path: PathBuf, source: rusqlite::Error },
}

impl OpenError {
    pub(super) fn sqlite(path: &Path, source: rusqlite::Error) -> OpenError {
        let path = path.to_path_buf();
        match source.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                OpenError::Corrupt { path, why: source.to_string() }
            }
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => OpenError::Locked { path },
            _ => OpenError::Sqlite { path, source },
        }
    }
}

/// Why a write did not happen. Nothing of it is in the store; the same batch can be committed again.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    #[error("cannot write to the store {}: the disk is full; free some space, reading goes on by itself", path.display())]
    Full { path: PathBuf },
    #[error("cannot write to the store {}: another program holds its lock; reading goes on when it lets go", path.display())]
    Locked { path: PathBuf },
    #[error("cannot write to the store {}: it is read-only; check its permissions and how the disk is mounted", path.display())]
    ReadOnly { path: PathBuf },
    #[error(
        "cannot write to the store {}: it is damaged ({why}); stop the agent, keep a copy, and run \
         `sendwarden run --new-store`, with the --config it runs with", path.display()
    )]
    Corrupt { path: PathBuf, why: String },
    #[error("cannot write to the store {}: no account has the number {owner}; `sendwarden account list` shows all", path.display())]
    NoAccount { path: PathBuf, owner: u32 },
    #[error("cannot write to the store {}: {source}; check the disk and the system's log", path.display())]
    Other { path: PathBuf, source: rusqlite::Error },
}

impl CommitError {
    pub(super) fn sqlite(path: &Path, source: rusqlite::Error) -> CommitError {
        let path = path.to_path_buf();
        match source.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => CommitError::Full { path },
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => CommitError::Locked { path },
            Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => CommitError::ReadOnly { path },
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                CommitError::Corrupt { path, why: source.to_string() }
            }
            _ => CommitError::Other { path, source },
        }
    }
}

/// Why the store could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    #[error("cannot read the store {}: there is none; has the agent run, with this state directory?", path.display())]
    Missing { path: PathBuf },
    #[error("cannot read the store {}: {why}; ask as root, or as the user the agent runs as", path.display())]
    Denied { path: PathBuf, why: std::io::Error },
    #[error(
        "cannot read the store {}: its format is version {found}, this program reads version {known}; \
         run the agent of this version once, or the command of the agent's version", path.display()
    )]
    Version { path: PathBuf, found: i64, known: i64 },
    #[error("cannot read the store {}: {source}; check that you may read it and its directory", path.display())]
    Sqlite { path: PathBuf, source: rusqlite::Error },
}
