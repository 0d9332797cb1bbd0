//! The one loop: follow, read, observe, commit. A plain thread that owns the engine and the only write connection.
//!
//! A batch is one transaction: facts, open messages and the positions of every source. Nothing of a batch is
//! published before it is in the store; a commit that fails is tried again with the same write-set, and nothing more
//! is read meanwhile (of a backlog one batch more): the log files are the buffer.

mod ahead;
mod beside;
mod commit;
mod gate;
mod incidents;
mod input;
mod judge;
mod listed;
mod notices;
mod orders;
mod pace;
mod people;
mod projection;
mod rows;
mod sights;
mod source;
mod undo;
mod volume;

pub use commit::not_durable;
pub use listed::{LISTED_KIND, read_listed};
pub use notices::notice_row;
pub use rows::{FIGURES_KIND, KEY_KIND, Kept, figures_of, read_key, restore, seed};
pub use source::{KeptSource, Source};

use super::logs;
use super::setup::{self, Setup};
use super::shared::{PumpState, Shared};
use crate::app::dispatch::Dispatch;
use crate::app::evidence::Gatherer;
use crate::app::flags::Standing;
use crate::app::gate::Gate;
use crate::app::hooks::Hooks;
use crate::app::ingest;
use crate::app::sizes::Sizes;
use crate::engine::Engine;
use crate::engine::attribution::Wanted;
use crate::engine::rules::incidents::{Incident, Trouble};
use crate::engine::rules::volume::Armed;
use crate::engine::sanctions::Delay;
use crate::host::follow::wake::Waker;
use crate::host::killpoint::Point;
use crate::host::names::Names;
use crate::host::tape::Position;
use crate::host::{clock, files};
use crate::mail::{Owner, Time};
use crate::metrics::{Gauges, HoldGauge, Metrics, RulesGauge, Tally};
use crate::store::{Batch, CheckState, Store};
use ahead::Ahead;
use beside::{Beside, Shelf};
use projection::{Arrived, Days, Projection};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A busy log is left alone for this long between two batches, so that a line is visible soon; longer where a batch is
/// dear (see `rest`).
const LIVE: Duration = Duration::from_millis(50);
/// Batches end after this. The larger, the less they cost per line: what changes with every line is written once.
const BATCH: Duration = Duration::from_millis(250);
const BATCH_LINES: u64 = 128 * 1024;
/// Open messages whose rows a batch writes at most, about: that is what takes memory.
const BATCH_ROWS: usize = 16 * 1024;
/// One read of one source.
const BUDGET: usize = 512 * 1024;
/// The polling step; a change notice ends it earlier, but a busy log is read at most once per step.
const STEP: Duration = Duration::from_millis(200);
/// Where no log was found, all places are looked at again.
const SEARCH: Duration = Duration::from_secs(30);
const RETRY: Duration = Duration::from_secs(1);
/// The name service is asked again after this: users come and go, names are recycled.
const ASK_AGAIN: Duration = Duration::from_secs(600);
/// Old records are removed in small steps: soon again while there are more, or a busy host would never get to the end.
const TIDY: Duration = Duration::from_secs(60);
const TIDY_ON: Duration = Duration::from_secs(1);

pub struct Pump {
    engine: Engine,
    shelf: Shelf,
    names: Names,
    sources: Vec<Source>,
    waker: Waker,
    metrics: Arc<Metrics>,
    shared: Arc<Shared>,
    queues: super::queues::Scanned,
    batch: Batch,
    /// Who writes a backlog's batch while the next one is read, and the one that is written.
    beside: Option<Beside>,
    under_way: Option<commit::UnderWay>,
    /// Emptied, for the next turn.
    spare: Batch,
    tally: Tally,
    days: Days,
    setup: Setup,
    asked: Instant,
    /// When old records are looked for next.
    tidy: Instant,
    looked: Instant,
    searched: Instant,
    /// When a line moved log time last.
    heard: Instant,
    /// A source has more, although there is nothing to read at once.
    behind: bool,
    reported: rows::Reported,
    dispatch: Dispatch,
    hooks: Hooks,
    /// What is in the batch must survive a power cut.
    durable: bool,
    /// Where a test may want to be killed once the batch is in the store.
    boundary: Option<Point>,
    /// When what stands is compared with what is next.
    mend: Instant,
    told_trouble: Option<String>,
    look_at_room: Instant,
    /// The host's clock and the steady one at the last look.
    clock: (Time, Instant),
    gate: Option<Arc<Gate>>,
    flags: Option<Standing>,
    /// Where messages on hold have a size that can be looked up.
    sizes: Option<Sizes>,
    /// The accounts whose flags say that no more of them may be held.
    full: BTreeSet<Owner>,
    /// When the flags are compared with what stands next.
    compare_flags: Instant,
    /// Messages that are held and could not be remembered, as told last.
    told_unremembered: u64,
    /// The gate or a hook has counted something that is not in the store.
    gate_spoke: bool,
    /// Messages that this gate has held and that are remembered, by account.
    of_gate: BTreeMap<Owner, u64>,
    /// Delays that have just ended.
    ended: BTreeMap<Owner, Delay>,
    /// How far the gate's tape was read and remembered.
    taped: Position,
    ahead: Option<Ahead>,
    /// What the accounts file says of those who are held.
    listed: listed::Listed,
    /// Who waits for the commit that is under way, and is told when it has to be waited for.
    waits: Option<commit::Waits>,
    /// Messages of this batch that the gate should have been asked about.
    arrived: Vec<Arrived>,
    /// What is held, as it was at the last look.
    hold: HoldGauge,
    /// The last commit of the agent before this one.
    alive: Option<Time>,
    /// Verdicts that wait.
    verdicts: judge::Waiting,
    /// Who gathers what verdicts rest on.
    evidence: Option<Gatherer>,
    /// The rules that the gate judges too.
    armed: Arc<Armed>,
    sights: sights::Sights,
}

impl Pump {
    #[allow(clippy::too_many_arguments, reason = "the parts of the household, wired once")]
    pub fn new(
        setup: Setup,
        engine: Engine,
        store: Store,
        kept: Kept,
        waker: Waker,
        metrics: Arc<Metrics>,
        shared: Arc<Shared>,
        queues: super::queues::Scanned,
        dispatch: Dispatch,
        hooks: Hooks,
        gate: Option<Arc<Gate>>,
        flags: Option<Standing>,
        sizes: Option<Sizes>,
    ) -> Pump {
        let now = clock::monotonic();
        let shelf = Shelf::new(store);
        let beside = Beside::start(shelf.clone());
        let beside = beside.inspect_err(|why| tracing::warn!("a backlog is read more slowly: no thread: {why}")).ok();
        let mut pump = Pump {
            engine,
            shelf,
            beside,
            under_way: None,
            spare: Batch::default(),
            names: Names::of_host(setup.name_timeout),
            sources: Vec::new(),
            waker,
            metrics,
            shared,
            queues,
            batch: Batch::default(),
            tally: Tally::new(),
            days: Days::new(kept.days, clock::zone()),
            setup,
            asked: now,
            tidy: now,
            looked: now,
            searched: now,
            heard: now,
            behind: false,
            reported: rows::Reported::default(),
            dispatch,
            hooks,
            durable: false,
            boundary: None,
            mend: now,
            told_trouble: None,
            look_at_room: now,
            clock: (clock::now(), now),
            ahead: gate.clone().map(|gate| Ahead::new(gate, kept.taped)),
            gate,
            flags,
            sizes,
            full: BTreeSet::new(),
            compare_flags: now,
            told_unremembered: 0,
            gate_spoke: false,
            of_gate: BTreeMap::new(),
            ended: BTreeMap::new(),
            taped: kept.taped,
            listed: listed::Listed { entries: kept.listed, due: false },
            waits: None,
            arrived: Vec::new(),
            hold: HoldGauge::default(),
            alive: kept.alive,
            verdicts: judge::Waiting::default(),
            evidence: None,
            armed: Arc::default(),
            sights: sights::Sights::default(),
        };
        pump.evidence = pump.gatherer();
        pump.listed.due = pump.engine.sanctions.blocked().next().is_some();
        pump.engine.sanctions.begin(pump.setup.hold.clone(), clock::now());
        pump.engine.await_untold();
        // What stands is known to the gate, and what was under way goes on, before a line is read.
        pump.orders_committed();
        // That was the tape of the gate before this one.
        pump.of_gate.clear();
        pump.arm_gate();
        pump.batch.rows.extend(kept.first_rows);
        pump.ask_again();
        pump.open_sources(&kept.positions, &kept.dialects);
        pump
    }

    /// Runs until it is told to stop. True when everything that was read is committed; false when the store could not
    /// take the last of it, which the next start then reads again.
    pub fn run(mut self) -> bool {
        let mut whole = true;
        while !self.shared.stopping() {
            let before = self.engine.tracker.high();
            // While a batch is written beside, lines are read and nothing else is done.
            let (lines, more) = self.read_batch();
            let began = clock::monotonic();
            if !self.wait_for_store() {
                whole = false;
                break;
            }
            self.answer_requests();
            // Not by lines that say nothing about mail: they do not move log time, which goes on all the same.
            if self.engine.tracker.high() != before {
                self.heard = clock::monotonic();
            }
            let now = clock::now();
            if !more {
                self.pass_time(now);
            }
            // The gate is before the log, which tells of what it has held.
            self.hear_gate();
            self.hear_incidents(now);
            self.judge(now);
            self.gate_spoke |= self.hear_hooks();
            self.hear_gatherer();
            self.tell_volume(!more && !self.behind);
            self.find_bypass();
            self.keep_orders(now, !more && !self.behind);
            let idle = lines == 0 && !more;
            if (!idle || self.something_changed()) && !self.commit(more) {
                whole = false;
                break;
            }
            if !more {
                self.tidy(now);
            }
            if idle {
                self.look_around();
                self.waker.wait(STEP);
            } else if !more {
                // Busy but caught up: collect for a moment instead of committing line by line.
                self.waker.pause(rest(began.elapsed()));
            }
        }
        // It reads the store, which is closed when nobody does any more.
        drop(self.evidence.take());
        if whole {
            whole = self.wait_for_store() && self.take_last();
        }
        self.shared.update(|state| state.stopped = true);
        whole
    }

    /// What others have handed over to us cannot be read again: it is committed before the end.
    fn take_last(&mut self) -> bool {
        let mut lines = 0;
        for source in &mut self.sources {
            if source.close() {
                let mut more = true;
                while more {
                    let arrived = self.gate.is_some().then_some(&mut self.arrived);
                    let ahead = self.ahead.as_mut();
                    let mut sink = Projection { batch: &mut self.batch, tally: &mut self.tally, arrived, ahead };
                    let read = source.read(BUDGET, &mut self.engine, &mut self.names, &mut sink);
                    lines += read.lines;
                    more = read.more;
                }
            }
        }
        self.hear_rules();
        self.hooks.stop();
        let heard = self.hear_hooks();
        (lines == 0 && !heard) || self.commit(false)
    }

    /// Reads all sources in turns until the batch is full or they are at their ends.
    fn read_batch(&mut self) -> (u64, bool) {
        let began = clock::monotonic();
        self.engine.tracker.look_at_clock(clock::now());
        let (mut lines, mut more) = (0, true);
        while more && lines < BATCH_LINES && self.engine.tracker.changed() < BATCH_ROWS && began.elapsed() < BATCH {
            // Somebody may have to be blocked, before more is read.
            if self.engine.rules.has_verdicts() {
                break;
            }
            (more, self.behind) = (false, false);
            for source in &mut self.sources {
                let arrived = self.gate.is_some().then_some(&mut self.arrived);
                let ahead = self.ahead.as_mut();
                let mut sink = Projection { batch: &mut self.batch, tally: &mut self.tally, arrived, ahead };
                let read = source.read(BUDGET, &mut self.engine, &mut self.names, &mut sink);
                lines += read.lines;
                more |= read.more;
                self.behind |= read.behind;
            }
        }
        (lines, more)
    }

    fn pass_time(&mut self, now: Time) {
        let arrived = self.gate.is_some().then_some(&mut self.arrived);
        let mut sink = Projection { batch: &mut self.batch, tally: &mut self.tally, arrived, ahead: None };
        // Log time goes on from the last line at the pace of the clock. The host's clock would be ahead of a log that
        // is forwarded with a delay, and decide what its next lines are about to say.
        let high = self.engine.tracker.high();
        let quiet = i64::try_from(self.heard.elapsed().as_secs()).unwrap_or(i64::MAX);
        let due = if high == Time::ZERO { now } else { high.plus_secs(quiet) };
        self.engine.tick_behind(now, due, &mut sink);
        if self.asked.elapsed() > ASK_AGAIN {
            self.asked = clock::monotonic();
            self.ask_again();
            // Interfaces come up late, and change.
            self.engine.replies.set_own_addresses(setup::own_addresses(&self.setup.own_addresses));
        }
    }

    fn tidy(&mut self, now: Time) {
        if clock::monotonic() < self.tidy {
            return;
        }
        let expired = self.shelf.store().expire(now).inspect_err(|why| tracing::warn!("{why}"));
        let more = expired.is_ok_and(|expired| expired.more);
        self.tidy = clock::monotonic() + if more { TIDY_ON } else { TIDY };
    }

    /// Asks the name service anew: users come and go. Those whose mail has been submitted but not attributed yet are
    /// asked for at once, or that mail would be booked as if the service had no name for them.
    pub(super) fn ask_again(&mut self) {
        self.engine.attribution.forget_users();
        for uid in self.engine.tracker.open_uids() {
            if !self.engine.attribution.knows_user(uid) {
                let user = ingest::user(&mut self.names, Wanted::Uid(uid));
                self.engine.attribution.learn_user(uid, user);
            }
        }
        self.tell_gate();
    }

    fn something_changed(&self) -> bool {
        self.durable
            || self.gate_spoke
            || self.listed.due
            || !self.batch.is_empty()
            || self.engine.ledger.has_changes()
            || self.sources.iter().any(Source::moved)
    }

    fn publish(&mut self, more: bool) {
        self.show_sights();
        let scanned = self.queues.latest();
        let armed = if self.engine.judge.muted().is_some() { 0 } else { self.engine.rules.armed().count() as u64 };
        let standing = self.incidents_now();
        let count = |kind| standing.iter().filter(|incident| incident.trouble.kind() == kind).count() as u64;
        let incidents = Trouble::KINDS.map(|kind| (kind, count(kind)));
        let rules = RulesGauge { armed, budget: self.engine.judge.left(clock::now()) as u64, incidents };
        self.metrics.publish(Gauges {
            sources: self.sources.iter().map(Source::gauge).collect(),
            queue_scans: scanned.iter().map(|scan| (scan.server, scan.at)).collect(),
            queues: scanned.into_iter().flat_map(|scan| scan.queues).collect(),
            rules,
            tracked_messages: self.engine.tracker.open() as u64,
            store_size_bytes: std::fs::metadata(self.shelf.store().path()).map_or(0, |meta| meta.len()),
            hold: self.hold.clone(),
            hooks: self.hooks.waiting(),
        });
        let state = PumpState {
            sources: self.sources.iter().map(Source::state).collect(),
            store_trouble: None,
            open_messages: self.engine.tracker.open() as u64,
            armed_rules: self.engine.rules.armed().map(str::to_owned).collect(),
            rules_muted: self.engine.judge.muted().map(str::to_owned),
            incidents: standing.iter().map(Incident::text).collect(),
            caught_up: !more && !self.behind,
            stopped: false,
        };
        self.shared.update(|shared| {
            let caught_up = shared.caught_up || state.caught_up;
            *shared = PumpState { caught_up, ..state };
        });
    }

    /// Idle: looks for logs that have appeared, and keeps gauges fresh.
    fn look_around(&mut self) {
        if self.looked.elapsed() < RETRY && self.shared.state().caught_up {
            return;
        }
        self.looked = clock::monotonic();
        if matches!(self.shelf.store().check(), CheckState::Corrupt(_)) {
            // Found damaged after the start, while nothing is to be written: says so, and waits like any failed commit.
            self.commit(false);
            return;
        }
        // Beside the journal a file of the syslog daemon would say everything twice.
        let only_files = self.sources.iter().all(|source| source.path().is_some());
        let appeared = only_files && logs::has_appeared(&self.paths());
        // The journal is asked by a process of its own: not each second.
        let search = self.sources.is_empty() && self.searched.elapsed() > SEARCH;
        if self.setup.logs.is_empty() && (appeared || search) {
            self.searched = clock::monotonic();
            self.open_sources(&[], &[]);
        }
        self.publish(false);
    }

    /// Opens the configured logs, or those of the known ones that exist.
    fn open_sources(&mut self, positions: &[(String, Vec<u8>)], dialects: &[(String, Vec<u8>)]) {
        let logs = logs::choose(&self.setup.logs);
        for log in logs {
            let name = log.input.to_string();
            if self.sources.iter().any(|source| source.name() == name) {
                continue;
            }
            let saved = |kept: &[(String, Vec<u8>)]| {
                kept.iter().find(|(source, _)| *source == name).map(|(_, bytes)| bytes.clone())
            };
            let id = self.metrics.source(&name);
            tracing::info!("following {name}");
            let kept = KeptSource { position: saved(positions), dialect: saved(dialects) };
            self.sources.push(Source::new(log, id, self.setup.max_line, self.setup.past, kept, &self.waker.handle()));
        }
        // A script's interpreter logs a call before the mail server logs its message: read in this order, the call is
        // there when the message comes.
        self.sources.sort_by_key(|source| !source.is_interpreters());
        let paths: Vec<PathBuf> = match self.sources.is_empty() {
            true => files::KNOWN_LOGS.iter().map(PathBuf::from).collect(),
            false => self.paths(),
        };
        self.waker.watch(&paths);
    }

    /// The files that are followed.
    fn paths(&self) -> Vec<PathBuf> {
        self.sources.iter().filter_map(Source::path).map(PathBuf::from).collect()
    }
}

/// How long a busy log is left alone after a batch whose writing took `spent`: a fifth of the time at most is spent on
/// writing, and what is written at last is visible soon.
fn rest(spent: Duration) -> Duration {
    (spent * 4).clamp(LIVE, BATCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_log_is_left_alone_as_long_as_lines_may_wait_at_most() {
        let ms = Duration::from_millis;
        assert_eq!([0, 12, 20, 60, 900].map(|spent| rest(ms(spent))), [50, 50, 80, 240, 250].map(ms));
    }
}
