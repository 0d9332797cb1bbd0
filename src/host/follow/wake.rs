//! Waits until a followed directory changes, somebody calls, or the time is over; right even when `notify` is not.
//!
//! The kernel's watch is only a shortcut: network and overlay file systems may stay silent, so the wait never lasts
//! longer than the polling step. It never reads a log.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher};

use crate::host::clock;

/// Why the wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Woken {
    Changed,
    Called,
    Timeout,
}

/// Waits for changes in the parent directories of the followed paths.
pub struct Waker {
    bell: SyncSender<()>,
    heard: Receiver<()>,
    /// Rings for calls alone.
    summons: SyncSender<()>,
    summoned: Receiver<()>,
    /// A call rings, but a full bell must not swallow it.
    called: Arc<AtomicBool>,
    stop: Stop,
    watcher: Option<RecommendedWatcher>,
    dirs: Vec<Dir>,
}

struct Dir {
    path: PathBuf,
    /// Device and inode that are watched: another directory of the same name is not.
    watched: Option<(u64, u64)>,
}

/// Wakes the waiting thread from any other.
#[derive(Debug, Clone)]
pub struct Handle {
    bell: SyncSender<()>,
    summons: SyncSender<()>,
    called: Arc<AtomicBool>,
    stop: Stop,
}

/// Whether the agent is to end: asked where one file alone can take long.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    pub fn set(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    /// # Errors
    /// When the agent is to end.
    pub fn check(&self) -> io::Result<()> {
        if self.is_set() { Err(io::ErrorKind::Interrupted.into()) } else { Ok(()) }
    }
}

impl Handle {
    /// Wakes it for its end.
    pub fn stop(&self) {
        self.stop.set();
        self.wake();
    }

    pub fn stopping(&self) -> &Stop {
        &self.stop
    }

    pub fn wake(&self) {
        self.called.store(true, Ordering::Release);
        // A full channel means that the waiter will wake anyway.
        let _ = (self.bell.try_send(()), self.summons.try_send(()));
    }

    /// There is something to read; a pause goes on.
    pub fn ring(&self) {
        let _ = self.bell.try_send(());
    }
}

impl Waker {
    pub fn new(paths: &[PathBuf]) -> Waker {
        let (bell, heard) = sync_channel(1);
        let (summons, summoned) = sync_channel(1);
        let tell = bell.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Opening a file or listing the directory, as we do ourselves, changes nothing.
            if !event.is_ok_and(|e| e.kind.is_access()) {
                let _ = tell.try_send(());
            }
        })
        .ok();
        let mut waker = Waker {
            bell,
            heard,
            summons,
            summoned,
            called: Arc::default(),
            stop: Stop::default(),
            watcher,
            dirs: Vec::new(),
        };
        waker.watch(paths);
        waker
    }

    /// Replaces the set of watched paths.
    pub fn watch(&mut self, paths: &[PathBuf]) {
        let mut wanted: Vec<PathBuf> = paths
            .iter()
            .filter_map(|p| p.parent())
            .map(|d| if d.as_os_str().is_empty() { Path::new(".") } else { d }.to_owned())
            .collect();
        wanted.sort();
        wanted.dedup();
        for dir in &mut self.dirs {
            if !wanted.contains(&dir.path) {
                dir.watched = None;
                if let Some(watcher) = &mut self.watcher {
                    let _ = watcher.unwatch(&dir.path);
                }
            }
        }
        self.dirs.retain(|d| wanted.contains(&d.path));
        wanted.retain(|w| self.dirs.iter().all(|d| d.path != *w));
        self.dirs.extend(wanted.into_iter().map(|path| Dir { path, watched: None }));
        self.stand();
    }

    pub fn handle(&self) -> Handle {
        let (bell, summons) = (self.bell.clone(), self.summons.clone());
        Handle { bell, summons, called: Arc::clone(&self.called), stop: self.stop.clone() }
    }

    /// Waits at most `limit`. The caller passes its polling step, 100–250 ms; a busy log is read once per step.
    pub fn wait(&mut self, limit: Duration) -> Woken {
        self.stand();
        let called = self.called.load(Ordering::Acquire);
        let rang = self.heard.recv_timeout(if called { Duration::ZERO } else { limit }).is_ok();
        // One wake-up answers for all that rang meanwhile; a call outranks a change.
        while self.heard.try_recv().is_ok() {}
        if self.called.swap(false, Ordering::AcqRel) {
            Woken::Called
        } else if rang {
            Woken::Changed
        } else {
            Woken::Timeout
        }
    }

    /// Waits for a call or until the time is over. Changes of files stay in the bell for the next `wait`, and wake nobody: a
    /// busy log is written to a thousand times a second.
    pub fn pause(&mut self, limit: Duration) -> Woken {
        let start = clock::monotonic();
        while !self.called.swap(false, Ordering::AcqRel) {
            if self.summoned.recv_timeout(clock::left(start, limit)).is_err() {
                return Woken::Timeout;
            }
        }
        Woken::Called
    }

    /// Watches what can be watched now.
    fn stand(&mut self) {
        let Some(watcher) = self.watcher.as_mut() else { return };
        for dir in &mut self.dirs {
            let there = fs::metadata(&dir.path).ok().filter(fs::Metadata::is_dir).map(|m| (m.dev(), m.ino()));
            if there == dir.watched {
                continue;
            }
            if dir.watched.take().is_some() {
                let _ = watcher.unwatch(&dir.path);
            }
            if there.is_some() && watcher.watch(&dir.path, RecursiveMode::NonRecursive).is_ok() {
                dir.watched = there;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    /// Setting up a watch may ring by itself.
    fn quiet(waker: &mut Waker) {
        while waker.wait(Duration::from_millis(20)) != Woken::Timeout {}
    }

    #[test]
    fn a_call_wakes() {
        let mut waker = Waker::new(&[]);
        assert_eq!(waker.wait(Duration::from_millis(1)), Woken::Timeout);
        waker.handle().wake();
        assert_eq!(waker.wait(LONG), Woken::Called);
    }

    #[test]
    fn a_write_wakes_and_reading_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("mail.log");
        let mut waker = Waker::new(&[]);
        waker.watch(std::slice::from_ref(&log));
        fs::write(&log, "a\n").unwrap();
        assert_eq!(waker.wait(LONG), Woken::Changed);
        quiet(&mut waker);
        fs::read(&log).unwrap();
        fs::read_dir(dir.path()).unwrap().for_each(drop);
        assert_eq!(waker.wait(Duration::from_millis(50)), Woken::Timeout);
        waker.watch(&[]);
        quiet(&mut waker);
        fs::write(&log, "b\n").unwrap();
        assert_eq!(waker.wait(Duration::from_millis(50)), Woken::Timeout);
    }

    #[test]
    fn a_replaced_directory_is_watched_anew() {
        let base = tempfile::tempdir().unwrap();
        let dir = base.path().join("log");
        fs::create_dir(&dir).unwrap();
        let mut waker = Waker::new(&[dir.join("mail.log")]);
        fs::rename(&dir, base.path().join("old")).unwrap();
        fs::create_dir(&dir).unwrap();
        quiet(&mut waker);
        fs::write(dir.join("mail.log"), "a\n").unwrap();
        assert_eq!(waker.wait(LONG), Woken::Changed);
    }

    #[test]
    fn a_pause_keeps_changes_for_later() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("mail.log");
        let mut waker = Waker::new(std::slice::from_ref(&log));
        fs::write(&log, "a\n").unwrap();
        assert_eq!(waker.pause(Duration::from_millis(50)), Woken::Timeout);
        assert_eq!(waker.wait(LONG), Woken::Changed);
        waker.handle().wake();
        assert_eq!(waker.pause(LONG), Woken::Called);
    }
}
