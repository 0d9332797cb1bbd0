//! A backlog's batch is written into the store beside the reading of the next one: two threads, one batch ahead at most.
//!
//! It holds the store only while it writes. Whoever else wants the store waits for it first (`Pump::wait_for_store`).

use crate::store::{Batch, CommitError, Durability, Store};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// The store, for whoever has its turn.
#[derive(Debug, Clone)]
pub(super) struct Shelf(Arc<Mutex<Store>>);

impl Shelf {
    pub fn new(store: Store) -> Shelf {
        Shelf(Arc::new(Mutex::new(store)))
    }

    pub fn store(&self) -> MutexGuard<'_, Store> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Written = (Batch, Result<(), CommitError>);

/// The thread that writes; it ends with this.
#[derive(Debug)]
pub(super) struct Beside {
    batches: Option<SyncSender<Batch>>,
    written: Receiver<Written>,
    thread: Option<JoinHandle<()>>,
}

impl Beside {
    /// # Errors
    /// There is no thread to be had: then batches are written one after the other.
    pub fn start(shelf: Shelf) -> std::io::Result<Beside> {
        let (batches, inbox) = sync_channel::<Batch>(1);
        let (outbox, written) = sync_channel(1);
        let write = move || {
            for batch in inbox {
                let result = shelf.store().commit(&batch, Durability::Normal);
                if outbox.send((batch, result)).is_err() {
                    break;
                }
            }
        };
        let thread = std::thread::Builder::new().name("store".into()).spawn(write)?;
        Ok(Beside { batches: Some(batches), written, thread: Some(thread) })
    }

    /// Begins to write it. It comes back if there is nobody to write it.
    pub fn write(&mut self, batch: Batch) -> Option<Batch> {
        match &self.batches {
            Some(batches) => batches.send(batch).err().map(|back| back.0),
            None => Some(batch),
        }
    }

    /// The batch that was begun and what became of it; `None` when the thread has ended with it.
    pub fn wait(&mut self) -> Option<Written> {
        self.written.recv().ok()
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        drop(self.batches.take());
        // The store is closed when both have let go of it.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}
