//! Folding SQLite's write-ahead log into the file, by a thread of its own.
//!
//! It has to wait for the disk (fsync), which may take a second when the kernel writes out what others have written: a
//! mail log that grows fast is enough. The thread that commits, and reads the logs, does not wait for that, unless the log
//! grows so fast that this thread does not keep up (`wal_autocheckpoint` in open.rs).

use super::{Settings, open};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

/// The thread; it ends with this.
#[derive(Debug)]
pub(super) struct Folder {
    committed: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Folder {
    /// Without the thread nothing is lost: then the log is folded in by the one who commits, when it is longer still.
    pub(super) fn start(path: &Path, settings: &Settings) -> Folder {
        let (committed, told) = sync_channel(1);
        let (path, settings) = (path.to_path_buf(), settings.clone());
        let started = std::thread::Builder::new().name("store-fold".into());
        let thread = started.spawn(move || fold(&path, &settings, &told)).ok();
        Folder { committed: Some(committed), thread }
    }

    /// The log may have become longer.
    pub(super) fn committed(&self) {
        // Full: it has been told already and will look.
        let _ = self.committed.as_ref().map(|committed| committed.try_send(()));
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(self.committed.take());
        // The thread cannot fail but by a panic, and there is nobody left to tell.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// What cannot be folded in now (another process reads an old state of it, the disk is full) is, after a later commit.
fn fold(path: &Path, settings: &Settings, told: &Receiver<()>) {
    let Ok(conn) = open::connect(path, settings) else { return };
    let pages = |mode: &str| {
        conn.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |row| row.get::<_, i64>(1)).unwrap_or(0)
    };
    while told.recv().is_ok() {
        // Whoever commits begins the log anew only when all of it is folded in: what came meanwhile is folded in too.
        if pages("NOOP") > settings.log_pages {
            pages("PASSIVE");
            pages("PASSIVE");
        }
    }
}
