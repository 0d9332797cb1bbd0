//! Facts become Prometheus figures; the only place that knows metric names.
//!
//! The pump fills a [`Tally`] while it reads, then: [`Metrics::stage`] (tally and changed accounts), [`Metrics::save`]
//! (rows for the batch's own transaction), commit, [`Metrics::publish`]. What scrapers see is always in the store, so
//! a crash never takes a figure back: Prometheus would read that as a counter reset and add the whole value again.
//!
//! Never done here: reading files or clocks, opening the store, judging accounts. Locks are held for the time of a
//! few additions (or one copy, on a scrape); text is formatted outside of them.

mod accounts;
mod delay;
mod expose;
mod families;
mod gate;
mod scrapers;
mod series;
mod state;
mod tally;
#[cfg(test)]
mod tests;
mod text004;

use std::sync::{Mutex, MutexGuard, PoisonError};

pub use accounts::{AccountLabel, COUNTERS, Counters, LABEL_BYTES, OTHER, OwnerFigures, Slot, WindowGauge};
pub use families::{Family, Kind, reference};
pub use gate::{Decision, GateTally, held_on};
pub use tally::{SourceId, Tally};

use crate::mail::{Owner, Server, Time};
use state::State;

/// What the figures are called and how many there may be.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Mail servers that are known to run here: their series are there before their first line.
    pub servers: Vec<Server>,
    pub version: String,
    /// Revision of the source the agent was built from; empty when unknown.
    pub revision: String,
    /// Most accounts with series of their own.
    pub max_accounts: usize,
    pub account_label: AccountLabel,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            servers: vec![Server::default()],
            version: env!("CARGO_PKG_VERSION").to_owned(),
            revision: String::new(),
            max_accounts: 500,
            account_label: AccountLabel::Name,
        }
    }
}

/// Figures that are looked at rather than counted, given with every `publish`.
#[derive(Debug, Clone, Default)]
pub struct Gauges {
    pub sources: Vec<SourceGauge>,
    /// Those of the servers whose queues are known here.
    pub queues: Vec<QueueGauge>,
    /// When a server's queue was last listed completely.
    pub queue_scans: Vec<(Server, Time)>,
    /// Messages the tracker follows.
    pub tracked_messages: u64,
    pub store_size_bytes: u64,
    pub hold: HoldGauge,
    pub rules: RulesGauge,
    /// Notices that wait, by the host they are for.
    pub hooks: Vec<(String, u64)>,
}

/// What rules may do now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RulesGauge {
    pub armed: u64,
    /// Automatic blocks that may still be made.
    pub budget: u64,
    /// Host incidents that stand, by kind.
    pub incidents: [(&'static str, u64); 3],
}

/// What the agent holds.
#[derive(Debug, Clone, Default)]
pub struct HoldGauge {
    /// Accounts by state and cause, both of a closed set.
    pub blocked: Vec<(&'static str, &'static str, u64)>,
    pub messages: u64,
    /// What they take of the queue, as far as that was looked up.
    pub bytes: u64,
    pub oldest: Option<Time>,
    /// Accounts on a second chance.
    pub forced: u64,
    /// Accounts that are slowed down.
    pub delayed: u64,
}

#[derive(Debug, Clone, Copy)]
pub struct SourceGauge {
    pub source: SourceId,
    /// It delivers what there is.
    pub up: bool,
    pub backlog_bytes: u64,
    /// Files behind the one being read.
    pub backlog_files: u64,
    pub last_event: Option<Time>,
}

/// One queue of the mail server (`active`, `deferred`, `hold`, …).
#[derive(Debug, Clone)]
pub struct QueueGauge {
    pub server: Server,
    pub queue: String,
    pub messages: u64,
    pub bytes: u64,
    pub oldest: Option<Time>,
}

/// What the operating system says about this process.
#[derive(Debug, Clone, Copy, Default)]
pub struct Process {
    /// Seconds since the epoch.
    pub start_seconds: f64,
    pub resident_bytes: u64,
    pub cpu_seconds: f64,
}

/// Rows for the store: what changed since the last `save`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Saved {
    /// Counters by an opaque key, absolute values.
    pub counters: Vec<(String, u64)>,
    /// New slots. A forgotten account's slot is deleted by whoever forgets the account.
    pub slots: Vec<Slot>,
}

/// The exposition formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Text format 0.0.4.
    Text004,
    OpenMetrics100,
}

impl Format {
    pub const fn content_type(self) -> &'static str {
        match self {
            Format::Text004 => "text/plain; version=0.0.4; charset=utf-8",
            Format::OpenMetrics100 => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// One scrape.
#[derive(Debug, Clone, Copy)]
pub struct Scrape<'a> {
    pub format: Format,
    /// Tells scrapers apart: address and User-Agent. Empty: nobody who comes back (a person, a test).
    pub scraper: &'a str,
    pub now: Time,
    pub process: Process,
    /// `None`: there are none; the family is absent then.
    pub flags_wrong: Option<u64>,
}

/// A few figures for the landing page.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Glance {
    pub lines: u64,
    pub messages: u64,
    pub accounts_known: u64,
    pub accounts_tracked: u64,
}

/// All figures; shared by the pump, which writes, and the web, which reads.
#[derive(Debug)]
pub struct Metrics {
    state: Mutex<State>,
}

impl Metrics {
    pub fn new(settings: Settings) -> Metrics {
        Metrics { state: Mutex::new(State::new(settings)) }
    }

    /// Registers a log source; the same name gives the same id. At most 64, the rest share one named `other`.
    pub fn source(&self, name: &str) -> SourceId {
        self.lock().source(name)
    }

    /// Takes up what earlier runs saved: all counters, all slots, and the figures of all accounts in the store.
    /// To be called once, before the first `stage`.
    pub fn restore<'a>(&self, saved: Saved, owners: impl IntoIterator<Item = OwnerFigures<'a>>) {
        self.lock().restore(saved, owners);
    }

    /// Takes in a batch before its commit: the tally, which is emptied, and the accounts that changed, with absolute
    /// figures. Nothing of it shows before `publish`.
    pub fn stage<'a>(&self, tally: &mut Tally, owners: impl IntoIterator<Item = OwnerFigures<'a>>) {
        self.lock().stage(tally, owners);
    }

    /// What changed since the last call, to be written in the same transaction as the batch. Keep the rows for a
    /// retry: they are not given twice.
    pub fn save(&self) -> Saved {
        self.lock().save()
    }

    /// The commit worked: shows what was staged.
    pub fn publish(&self, gauges: Gauges) {
        self.lock().publish(gauges);
    }

    /// Accounts with series of their own.
    pub fn owners(&self) -> Vec<Owner> {
        self.lock().accounts.owners()
    }

    /// What rules see of accounts now.
    pub fn see(&self, windows: Vec<(Owner, Vec<WindowGauge>)>) {
        let mut state = self.lock();
        windows.into_iter().for_each(|(owner, windows)| state.accounts.see(owner, windows));
    }

    /// A person forgot the account. The residue it leaves in `other` is part of the next `save`.
    pub fn forget(&self, owner: Owner) {
        self.lock().forget(owner);
    }

    pub fn rename(&self, owner: Owner, name: &str) {
        self.lock().accounts.rename(owner, name);
    }

    /// A commit failed: `store_up` is 0 until the next `publish`.
    pub fn commit_failed(&self) {
        self.lock().commit_failed();
    }

    /// What a gate has decided while the store cannot be written: shown now, and saved with the next batch. A process
    /// that ends before that takes it back: better than a gate that seems to stand still.
    pub fn gate_now(&self, gate: &GateTally) {
        self.lock().gate_now(gate);
    }

    /// The configuration was loaded, or could not be.
    pub fn config_loaded(&self, ok: bool, at: Time) {
        self.lock().config_loaded(ok, at);
    }

    /// A new limit after a reload. Admitted accounts stay admitted.
    pub fn set_max_accounts(&self, limit: usize) {
        self.lock().accounts.set_limit(limit);
    }

    pub fn glance(&self) -> Glance {
        self.lock().glance()
    }

    /// The answer to a scrape.
    pub fn render(&self, scrape: &Scrape<'_>) -> String {
        let snapshot = self.lock().snapshot(scrape);
        expose::exposition(snapshot, scrape.format)
    }

    /// A panic elsewhere while the lock was held cannot leave figures half-written in a way that matters.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
