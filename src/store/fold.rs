//! Folding SQLite's write-ahead log into the file, by a thread of its own.
//!
//! It has to wait for the disk (fsync), which may take a second when the kernel writes out what others have written: a
//! mail log that grows fast is enough. The thread that commits, and reads the logs, does not wait for that, unless the log
//! grows so fast that this thread does not keep up (`wal_autocheckpoint` in open.rs).

use super::{Settings, open};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

#[derive(Debug)]
enum News {
    /// The log may have become longer.
    Committed,
    /// There was no room for it to become longer.
    Full,
}

/// The thread; it ends with this.
#[derive(Debug)]
pub(super) struct Folder {
    news: Option<SyncSender<News>>,
    thread: Option<JoinHandle<()>>,
}

impl Folder {
    /// Without the thread nothing is lost: then the log is folded in by the one who commits, when it is longer still.
    pub(super) fn start(path: &Path, settings: &Settings) -> Folder {
        let (news, told) = sync_channel(1);
        let (path, settings) = (path.to_path_buf(), settings.clone());
        let started = std::thread::Builder::new().name("store-fold".into());
        let thread = started.spawn(move || fold(&path, &settings, &told)).ok();
        Folder { news: Some(news), thread }
    }

    pub(super) fn committed(&self) {
        self.tell(News::Committed);
    }

    /// The disk is full, perhaps of the log itself, which holds a page as often as it was written.
    pub(super) fn disk_is_full(&self) {
        self.tell(News::Full);
    }

    fn tell(&self, news: News) {
        // No room: it has been told something already and will look. A commit that fails is tried again.
        let _ = self.news.as_ref().map(|told| told.try_send(news));
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(self.news.take());
        // The thread cannot fail but by a panic, and there is nobody left to tell.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// What cannot be folded in now (another process reads an old state of it, the disk is full) is, after a later commit.
fn fold(path: &Path, settings: &Settings, told: &Receiver<News>) {
    let Ok(conn) = open::connect(path, settings) else { return };
    let pages = |mode: &str| {
        conn.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |row| row.get::<_, i64>(1)).unwrap_or(0)
    };
    while let Ok(news) = told.recv() {
        match news {
            // And its room is given back: nobody commits now.
            News::Full => drop(pages("TRUNCATE")),
            // Whoever commits begins the log anew only when all of it is folded in: what came meanwhile is folded in too.
            News::Committed if pages("NOOP") > settings.log_pages => {
                pages("PASSIVE");
                pages("PASSIVE");
            }
            News::Committed => {}
        }
    }
}
