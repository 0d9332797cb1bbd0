//! What the pump tells the rest of the house, and what it is asked. Locks are held for a copy, never over I/O.

use super::numbers::counted;
use super::selection::Waiting;
use crate::engine::attribution::User;
use crate::engine::directory::Directory;
use crate::engine::replies::Replies;
use crate::engine::rules::{Enforcement, Rule};
use crate::engine::sanctions::{self, HeldAccount, Outcome};
use crate::host::follow::wake;
use crate::mail::{Actor, Order, Owner, Scope, ServiceState, Time};
use std::net::IpAddr;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The state of the pump as others may see it.
#[derive(Debug, Clone, Default)]
pub struct PumpState {
    pub sources: Vec<SourceState>,
    /// Why nothing can be written; `None` when the store is up.
    pub store_trouble: Option<String>,
    pub open_messages: u64,
    /// Rules that are to block, and why they do not.
    pub armed_rules: Vec<String>,
    pub rules_muted: Option<String>,
    /// Host incidents that stand.
    pub incidents: Vec<String>,
    /// Every source was read to its end at least once.
    pub caught_up: bool,
    pub stopped: bool,
}

#[derive(Debug, Clone, Default)]
pub struct SourceState {
    pub name: String,
    pub lines: u64,
    pub backlog_bytes: u64,
    /// Files that wait behind the one being read, and which that is when any do.
    pub backlog_files: u64,
    pub reading: Option<String>,
    pub last_event: Option<Time>,
    pub trouble: Option<String>,
}

impl SourceState {
    /// How much is left to read, in words; `None` at the end.
    pub fn left(&self) -> Option<String> {
        match (self.backlog_files, self.backlog_bytes) {
            (_, 0) => None,
            (0, bytes) => Some(counted(bytes, "byte", "bytes")),
            (files, bytes) => {
                let reading = self.reading.as_deref().unwrap_or("nothing yet");
                let bytes = counted(bytes, "byte", "bytes");
                Some(format!("{bytes}, reading {reading} and {files} more after it"))
            }
        }
    }
}

/// A request to the pump; it answers when the change is committed.
pub enum Request {
    /// New settings of the engine, after a reload.
    Settings {
        directory: Box<Directory>,
        replies: Box<Replies>,
        own_addresses: Vec<IpAddr>,
        hold: sanctions::Settings,
        rules: Vec<Rule>,
        enforcement: Box<Enforcement>,
        answer: Answer,
    },
    Rename {
        owner: Owner,
        to: String,
        answer: Answer,
    },
    Close {
        owner: Owner,
        answer: Answer,
    },
    Forget {
        owner: Owner,
        answer: Answer,
    },
    /// An account that nobody has heard of yet is made, because it is to be held: one of the accounts file, or that of
    /// a unix user.
    Admit {
        name: String,
        user: Option<User>,
        answer: Reply<Owner>,
    },
    Order {
        order: Box<Order>,
        answer: OrderAnswer,
    },
    /// Whether rules may block.
    Enforcement {
        on: bool,
        by: Actor,
        answer: Reply<bool>,
    },
    Undo {
        undo: Undo,
        answer: Reply<Vec<Undone>>,
    },
    /// What of an account waits on hold.
    Waiting {
        owner: Owner,
        answer: Reply<Vec<Waiting>>,
    },
}

/// Whom a rule has blocked since then is to be unblocked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undo {
    pub rule: String,
    pub since: Time,
    pub by: Actor,
    /// Nothing is done.
    pub dry_run: bool,
}

/// One of them, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undone {
    pub account: String,
    pub blocked: Time,
    pub reason: String,
    pub held: u64,
    pub outcome: &'static str,
    pub details: String,
}

/// An order that was taken, or was not needed: it is in the store, and the gate knows of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderDone {
    pub outcome: Outcome,
    pub details: String,
    pub state: ServiceState,
    /// Of a block that stands now.
    pub scope: Option<Scope>,
}

/// Why a change was not made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotDone {
    /// It may not be made, or makes no sense.
    Refused(String),
    /// Not now.
    Later(String),
}

/// Where an answer goes. It has room for one, and the first is the one that counts.
pub type Reply<T> = SyncSender<Result<T, NotDone>>;

pub type OrderAnswer = Reply<OrderDone>;

pub type Answer = Reply<()>;

/// Answers, unless it is answered already or whoever asked has gone away.
pub fn answer<T>(to: &Reply<T>, result: Result<T, NotDone>) {
    if to.try_send(result).is_err() {
        tracing::debug!("an answer was not waited for");
    }
}

/// Shared between the pump and the other threads.
pub struct Shared {
    state: Mutex<PumpState>,
    inbox: Mutex<Vec<Request>>,
    standing: Mutex<Arc<[HeldAccount]>>,
    unlisted: Mutex<Vec<String>>,
    waker: wake::Handle,
}

/// Requests that may wait for the pump at a time.
const INBOX: usize = 64;

impl Shared {
    pub fn new(waker: wake::Handle) -> Shared {
        let standing = Mutex::new(Arc::new([]) as Arc<[HeldAccount]>);
        Shared { state: Mutex::default(), inbox: Mutex::default(), standing, unlisted: Mutex::default(), waker }
    }

    pub fn state(&self) -> PumpState {
        self.lock().clone()
    }

    pub fn update(&self, change: impl FnOnce(&mut PumpState)) {
        change(&mut self.lock());
    }

    /// Hands a request to the pump. False when too many wait.
    pub fn ask(&self, request: Request) -> bool {
        let mut inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner);
        if inbox.len() >= INBOX {
            return false;
        }
        inbox.push(request);
        drop(inbox);
        self.waker.wake();
        true
    }

    pub fn take_requests(&self) -> Vec<Request> {
        std::mem::take(&mut *self.inbox.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Every account whose mail is held, as the store has it. The gate takes it over whenever it is another one
    /// (`Arc::ptr_eq`): a copy of a pointer.
    pub fn standing(&self) -> Arc<[HeldAccount]> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn set_standing(&self, standing: Vec<HeldAccount>) {
        *self.standing.lock().unwrap_or_else(PoisonError::into_inner) = standing.into();
    }

    /// The accounts that are held, that the accounts file does not list, and that keep what was theirs.
    pub fn unlisted(&self) -> Vec<String> {
        self.unlisted.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn set_unlisted(&self, names: Vec<String>) {
        *self.unlisted.lock().unwrap_or_else(PoisonError::into_inner) = names;
    }

    pub fn stop(&self) {
        self.waker.stop();
    }

    pub fn stopping(&self) -> bool {
        self.waker.stopping().is_set()
    }

    fn lock(&self) -> MutexGuard<'_, PumpState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
