//! Waits until a followed directory changes, somebody calls, or the time is over; right even when `notify` is not.
//!
//! The kernel's watch is only a shortcut: network and overlay file systems may stay silent, so the wait never lasts
//! longer than the polling step. It never reads a log.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher};

/// Why the wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Woken {
    Changed,
    Called,
    Timeout,
}

/// Waits for changes in the parent directories of the followed paths.
pub struct Waker {
    bell: SyncSender<Woken>,
    heard: Receiver<Woken>,
    watcher: Option<RecommendedWatcher>,
    /// Parent directories and whether the watch stands.
    dirs: Vec<(PathBuf, bool)>,
}

/// Wakes the waiting thread from any other.
#[derive(Debug, Clone)]
pub struct Handle(SyncSender<Woken>);

impl Handle {
    pub fn wake(&self) {
        // A full channel means that the waiter will wake anyway.
        let _ = self.0.try_send(Woken::Called);
    }
}

impl Waker {
    pub fn new(paths: &[PathBuf]) -> Waker {
        let (bell, heard) = sync_channel(8);
        let tell = bell.clone();
        let watcher = notify::recommended_watcher(move |_| {
            let _ = tell.try_send(Woken::Changed);
        })
        .ok();
        let mut dirs: Vec<(PathBuf, bool)> =
            paths.iter().filter_map(|p| p.parent()).map(|d| (d.to_owned(), false)).collect();
        dirs.sort();
        dirs.dedup();
        Waker { bell, heard, watcher, dirs }
    }

    /// Replaces the paths whose parent directories are watched.
    pub fn watch(&mut self, paths: &[PathBuf]) {
        let Waker { bell, heard, .. } = Waker::new(paths);
        let _ = (bell, heard);
    }

    /// Waits for a call, or until the time has passed; changes of files do not end it.
    pub fn pause(&mut self, limit: Duration) {
        let _ = self.wait(limit);
    }

    pub fn handle(&self) -> Handle {
        Handle(self.bell.clone())
    }

    /// Waits at most `limit`. The caller passes its polling step, 100–250 ms; a busy log is read once per step.
    pub fn wait(&mut self, limit: Duration) -> Woken {
        if let Some(watcher) = self.watcher.as_mut() {
            for (dir, stands) in &mut self.dirs {
                let there = dir.is_dir();
                if there && !*stands {
                    *stands = watcher.watch(dir, RecursiveMode::NonRecursive).is_ok();
                } else if !there && *stands {
                    let _ = watcher.unwatch(dir);
                    *stands = false;
                }
            }
        }
        let first = match self.heard.recv_timeout(limit) {
            Ok(why) => why,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return Woken::Timeout,
        };
        // One wake-up answers for all that rang meanwhile; a call outranks a change.
        self.heard.try_iter().fold(first, |a, b| if b == Woken::Called { b } else { a })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_wakes() {
        let mut waker = Waker::new(&[]);
        assert_eq!(waker.wait(Duration::ZERO), Woken::Timeout);
        waker.handle().wake();
        assert_eq!(waker.wait(Duration::from_secs(60)), Woken::Called);
    }
}
