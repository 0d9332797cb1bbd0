//! Opening the store: its file and modes, its version, its health, and what the agent restarts with.
//!
//! A new store is made under another name and renamed when it is whole, so an empty or half-made `sendwarden.db`
//! always means damage. Nothing here ever deletes or overwrites an existing store.

use std::fmt;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, InterruptHandle, OpenFlags};

use super::fold::Folder;
use super::{
    AccountRow, Durability, FILE_NAME, OpenError, Row, Settings, Store, ViewError, Views, chunk::IndexState, schema,
    views,
};
use crate::mail::{Counts, Owner, Time};

/// Owner writes, group reads, nobody else: figures, addresses and replies are personal data.
const MODE: u32 = 0o640;
const NEW_NAME: &str = "sendwarden.db.new";

/// Everything the agent restarts with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Saved {
    /// By owner, closed ones too.
    pub accounts: Vec<AccountRow>,
    /// By owner; owners below 16 are the unattributed reasons.
    pub totals: Vec<(u32, Counts)>,
    /// By kind and key. `value` is never `None`.
    pub rows: Vec<Row>,
    /// By source.
    pub positions: Vec<(String, Vec<u8>)>,
    /// The first owner number never used; numbers of forgotten accounts are not given again.
    pub next_owner: u32,
}

/// What the check of the file found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckState {
    /// Still reading (large stores are checked in the background).
    Running,
    Sound,
    /// Damaged: what SQLite says.
    Corrupt(String),
    /// The check itself could not be done: why.
    Failed(String),
}

/// The check and, for large stores, the thread that does it.
pub(super) struct Check {
    state: Arc<Mutex<CheckState>>,
    worker: Option<(InterruptHandle, JoinHandle<()>)>,
}

impl fmt::Debug for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.state.fmt(f)
    }
}

impl Drop for Check {
    fn drop(&mut self) {
        if let Some((interrupt, thread)) = self.worker.take() {
            interrupt.interrupt();
            // The thread cannot fail but by a panic, and there is nobody left to tell.
            let _ = thread.join();
        }
    }
}

impl Store {
    /// Opens the store in `dir`, or makes a new one when there is none.
    ///
    /// A store that is damaged, empty or not ours is refused and left as it is.
    pub fn open(dir: &Path, settings: Settings) -> Result<Store, OpenError> {
        let path = dir.join(FILE_NAME);
        match fs::metadata(&path) {
            Ok(meta) => close_to_others(&path, &meta)?,
            Err(error) if error.kind() == ErrorKind::NotFound && Store::present(dir) => {
                let why = "its write-ahead log is there, the store itself is not".to_owned();
                return Err(OpenError::Corrupt { path, why });
            }
            Err(error) if error.kind() == ErrorKind::NotFound => create(dir, &path)?,
            Err(source) => return Err(OpenError::Io { what: "read the store", path, source }),
        }
        let size = inspect(&path)?;
        let fail = |source| OpenError::sqlite(&path, source);
        let mut conn = connect(&path, &settings).map_err(fail)?;
        // Until it is known to be sound, closing must not fold the log into the file: a refused store stays as it is.
        conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map_err(fail)?;
        let found = schema::version(&conn).map_err(fail)?;
        if found > schema::VERSION {
            return Err(OpenError::Newer { path, found, known: schema::VERSION });
        }
        let state = if size <= settings.check_inline_bytes {
            match quick_check(&conn) {
                CheckState::Corrupt(why) => return Err(OpenError::Corrupt { path, why }),
                state => state,
            }
        } else {
            CheckState::Running
        };
        conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false).map_err(fail)?;
        schema::migrate(&mut conn).map_err(fail)?;
        let index = IndexState::read(&conn).map_err(fail)?;
        let check = Check::start(&path, state).map_err(fail)?;
        let folder = Folder::start(&path, &settings);
        Ok(Store { folder, conn, path, settings, durability: Durability::Normal, index, check })
    }

    /// Whether `open` would take the store in `dir`; false: there is none. Nothing is written, and a large one is looked at
    /// from outside only.
    ///
    /// # Errors
    /// As `open`.
    pub fn examine(dir: &Path) -> Result<bool, OpenError> {
        let path = dir.join(FILE_NAME);
        match fs::metadata(&path) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound && Store::present(dir) => {
                let why = "its write-ahead log is there, the store itself is not".to_owned();
                return Err(OpenError::Corrupt { path, why });
            }
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            Err(source) => return Err(OpenError::Io { what: "read the store", path, source }),
        }
        let size = inspect(&path)?;
        let failed = |why| match why {
            ViewError::Sqlite { path, source } => OpenError::sqlite(&path, source),
            ViewError::Denied { path, why } => OpenError::Io { what: "read the store", path, source: why },
            ViewError::Version { path, found, known } => OpenError::Newer { path, found, known },
            ViewError::Missing { path } => {
                OpenError::Io { what: "read the store", path, source: ErrorKind::NotFound.into() }
            }
        };
        let views = match Views::open(dir) {
            // The agent brings an older one up to date.
            Err(ViewError::Version { found, known, .. }) if found < known => return Ok(true),
            views => views.map_err(failed)?,
        };
        if size <= Settings::default().check_inline_bytes
            && let CheckState::Corrupt(why) = views.quick_check().map_err(failed)?
        {
            return Err(OpenError::Corrupt { path, why });
        }
        Ok(true)
    }

    /// What the check of the file at start found. A store found damaged later should be treated as down.
    pub fn check(&self) -> CheckState {
        self.check.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Everything the agent restarts with.
    pub fn load(&self) -> Result<Saved, ViewError> {
        self.read_saved().map_err(|source| ViewError::Sqlite { path: self.path.clone(), source })
    }

    fn read_saved(&self) -> rusqlite::Result<Saved> {
        let conn = &self.conn;
        let rows = conn
            .prepare_cached("SELECT kind, key, value FROM row ORDER BY kind, key")?
            .query_map([], |row| Ok(Row { kind: row.get(0)?, key: row.get(1)?, value: Some(row.get(2)?) }))?
            .collect::<rusqlite::Result<_>>()?;
        let used: Option<u32> = conn.query_row(
            "SELECT max(o) FROM (SELECT max(owner) AS o FROM account UNION ALL SELECT max(owner) FROM total
             UNION ALL SELECT value FROM meta WHERE key = 'last_owner')",
            [],
            |row| row.get(0),
        )?;
        Ok(Saved {
            accounts: views::accounts(conn)?,
            totals: views::all_totals(conn)?,
            rows,
            positions: views::positions(conn)?,
            next_owner: used.map_or(0, |owner| owner.saturating_add(1)).max(Owner::FIRST_ACCOUNT),
        })
    }

    /// Whether `dir` holds a store, or what is left of one: SQLite would play an old log into a new store.
    pub fn present(dir: &Path) -> bool {
        ["", "-wal"].iter().any(|suffix| with_suffix(&dir.join(FILE_NAME), suffix).exists())
    }

    /// Moves the store in `dir` aside (with its `-wal` and `-shm`), so that `open` starts an empty one.
    /// Returns the new name of the file. No store may be open on it.
    pub fn move_aside(dir: &Path, now: Time) -> Result<PathBuf, OpenError> {
        let from = dir.join(FILE_NAME);
        let mut to = dir.join(format!("{FILE_NAME}.aside-{}", now.secs()));
        let mut number = 1;
        while to.exists() {
            to = dir.join(format!("{FILE_NAME}.aside-{}-{number}", now.secs()));
            number += 1;
        }
        // The log goes first: a crash in between leaves a store without its last commits, never a new store
        // with an old store's log.
        let log_only = !from.exists() && Store::present(dir);
        for suffix in ["-wal", "-shm", ""] {
            match fs::rename(with_suffix(&from, suffix), with_suffix(&to, suffix)) {
                Err(error) if error.kind() != ErrorKind::NotFound || (suffix.is_empty() && !log_only) => {
                    return Err(OpenError::Io { what: "move aside the store", path: from, source: error });
                }
                _ => {}
            }
        }
        sync_dir(dir)?;
        Ok(to)
    }
}

pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

pub(super) fn connect(path: &Path, settings: &Settings) -> rusqlite::Result<Connection> {
    let conn = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    conn.busy_timeout(settings.busy_timeout)?;
    conn.set_prepared_statement_cache_capacity(64);
    // What is deleted is overwritten: `forget` and retention mean it.
    conn.execute_batch("PRAGMA secure_delete = ON")?;
    conn.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    // The log is folded in by a thread of its own (fold.rs); one that grows faster than that, by whoever commits. The cache
    // is small: the kernel's holds the pages too.
    conn.execute_batch(
        "PRAGMA synchronous = NORMAL; PRAGMA wal_autocheckpoint = 64000; PRAGMA journal_size_limit = 67108864;
         PRAGMA cache_size = -4000; PRAGMA temp_store = MEMORY; PRAGMA trusted_schema = OFF;",
    )?;
    Ok(conn)
}

/// Looks at the head of the file before SQLite does, which would turn an empty file into a store.
/// Returns the file's size. Offsets: <https://www.sqlite.org/fileformat2.html#the_database_header>.
fn inspect(path: &Path) -> Result<u64, OpenError> {
    let mut head = Vec::new();
    let size = File::open(path)
        .and_then(|file| {
            let size = file.metadata()?.len();
            file.take(100).read_to_end(&mut head)?;
            Ok(size)
        })
        .map_err(|source| OpenError::Io { what: "read the store", path: path.to_path_buf(), source })?;
    let number = |at: usize| {
        let bytes: [u8; 4] = head.get(at..at + 4)?.try_into().ok()?;
        Some(i64::from(u32::from_be_bytes(bytes)))
    };
    let why = match (number(60), number(68)) {
        _ if head.is_empty() => "the file is empty",
        _ if !head.starts_with(b"SQLite format 3\0") => "the file is not a sendwarden store",
        (Some(found), Some(schema::APPLICATION_ID)) if found > schema::VERSION => {
            return Err(OpenError::Newer { path: path.to_path_buf(), found, known: schema::VERSION });
        }
        (Some(1..), Some(schema::APPLICATION_ID)) => return Ok(size),
        (_, Some(_)) => "the file is not a sendwarden store",
        _ => "the file is cut off",
    };
    Err(OpenError::Corrupt { path: path.to_path_buf(), why: why.to_owned() })
}

/// Makes a whole, empty store under another name and renames it.
fn create(dir: &Path, path: &Path) -> Result<(), OpenError> {
    let new = dir.join(NEW_NAME);
    let io = |what: &'static str| move |path: &Path, source| OpenError::Io { what, path: path.to_path_buf(), source };
    for suffix in ["", "-wal", "-shm"] {
        let stale = with_suffix(&new, suffix);
        if let Err(error) = fs::remove_file(&stale)
            && error.kind() != ErrorKind::NotFound
        {
            return Err(io("remove the half-made store")(&stale, error));
        }
    }
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(MODE)
        .open(&new)
        .and_then(|file| file.set_permissions(Permissions::from_mode(MODE)))
        .map_err(|error| io("make the store")(&new, error))?;
    connect(&new, &Settings::default())
        .and_then(|mut conn| {
            schema::migrate(&mut conn)?;
            conn.close().map_err(|(_, error)| error)
        })
        .map_err(|source| OpenError::sqlite(&new, source))?;
    fs::rename(&new, path).map_err(|error| io("make the store")(path, error))?;
    sync_dir(dir)
}

fn sync_dir(dir: &Path) -> Result<(), OpenError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(|source| OpenError::Io {
        what: "write the directory",
        path: dir.to_path_buf(),
        source,
    })
}

/// Takes away what others may do with an existing store. SQLite gives `-wal` and `-shm` the modes of the store.
fn close_to_others(path: &Path, meta: &fs::Metadata) -> Result<(), OpenError> {
    let mode = meta.permissions().mode() & 0o777;
    if mode & !MODE == 0 {
        return Ok(());
    }
    ["", "-wal", "-shm"].iter().try_for_each(|suffix| {
        match fs::set_permissions(with_suffix(path, suffix), Permissions::from_mode(mode & MODE)) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(OpenError::Io { what: "restrict the modes of", path: path.to_path_buf(), source: error })
            }
            _ => Ok(()),
        }
    })
}

pub(super) fn quick_check(conn: &Connection) -> CheckState {
    match conn.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0)) {
        Ok(answer) if answer == "ok" => CheckState::Sound,
        Ok(answer) => CheckState::Corrupt(answer),
        Err(error) => match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase) => {
                CheckState::Corrupt(error.to_string())
            }
            _ => CheckState::Failed(error.to_string()),
        },
    }
}

impl Check {
    fn start(path: &Path, state: CheckState) -> rusqlite::Result<Check> {
        let background = state == CheckState::Running;
        let state = Arc::new(Mutex::new(state));
        if !background {
            return Ok(Check { state, worker: None });
        }
        let conn =
            Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
        let interrupt = conn.get_interrupt_handle();
        let result = Arc::clone(&state);
        let set = move |found| *result.lock().unwrap_or_else(PoisonError::into_inner) = found;
        let spawned: io::Result<_> = std::thread::Builder::new().name("store-check".into()).spawn({
            let set = set.clone();
            move || set(quick_check(&conn))
        });
        let worker = match spawned {
            Ok(thread) => Some((interrupt, thread)),
            Err(error) => {
                set(CheckState::Failed(error.to_string()));
                None
            }
        };
        Ok(Check { state, worker })
    }
}
