//! Everything behind the lock: the counters of the host, the accounts, the gauges, the scrapers.
//!
//! It formats nothing: a scrape takes a [`Snapshot`] and goes.

use std::collections::HashMap;

use super::accounts::{AccountView, Accounts, COUNTERS, OwnerFigures};
use super::delay::BUCKETS;
use super::families::Family;
use super::gate::{self, Decision, GateTally};
use super::scrapers::Scrapers;
use super::series::{Line, Series};
use super::tally::{ServerTally, SourceId, Tally};
use super::{Gauges, Glance, HoldGauge, Process, QueueGauge, RulesGauge, Saved, Scrape, Settings};
use crate::mail::{Origin, Outcome, Owner, ReplyClass, Server, Time, Unattributed, text};

/// Reply pairs with series of their own.
const REPLIES: usize = 200;
/// Series of parse failures, lost lines and daemons: closed sets times few sources, so this is never felt.
const SMALL: usize = 256;
const DAEMONS: usize = 64;
const SOURCES: usize = 64;
/// Rules times outcomes, with some that there were before.
const VERDICTS: usize = 1_280;
/// Store key of what forgotten accounts left in `other`.
const RESIDUE: &str = "residue";

/// First index of each group of lines that exists from the start.
#[derive(Debug, Default)]
struct Fixed {
    auth: usize,
    unattributed: usize,
    folded: usize,
    commit_failures: usize,
    /// Buckets, then the sum in microseconds.
    gate_seconds: usize,
    gate_unrecorded: usize,
    gate_broken: usize,
    gate_decisions: usize,
}

impl Fixed {
    /// Where the counts of a gate go.
    fn gate<'a>(&self, gate: &'a GateTally) -> [(usize, &'a [u64]); 5] {
        let one = std::slice::from_ref;
        [
            (self.gate_seconds, &gate.buckets),
            (self.gate_seconds + gate::BUCKETS, one(&gate.sum_us)),
            (self.gate_unrecorded, one(&gate.unrecorded)),
            (self.gate_broken, one(&gate.broken)),
            (self.gate_decisions, gate.decisions.as_flattened()),
        ]
    }
}

/// The same of one mail server: there from its first line on, or from the start where it is known to run.
#[derive(Debug, Clone, Copy)]
struct ServerLines {
    messages: usize,
    settled: usize,
    deferrals: usize,
    failures: usize,
    own_address: usize,
    delays: usize,
}

impl ServerLines {
    fn new(series: &mut Series, server: Server, seq: &mut u64) -> ServerLines {
        let name = server.name();
        let mut group = |family: Family, rows: Vec<Vec<&str>>| {
            let lines = rows.iter().map(|row| series.line(family, row, seq, usize::MAX, &[]));
            lines.collect::<Vec<usize>>().first().copied().unwrap_or_default()
        };
        let mut delays = Vec::new();
        let numbers: Vec<String> = (0..=BUCKETS).map(|n| n.to_string()).collect();
        for direction in ["local", "remote"] {
            delays.extend(numbers.iter().map(|n| vec![name, direction, n.as_str()]));
        }
        let lines = ServerLines {
            messages: group(Family::Messages, Origin::ALL.iter().map(|o| vec![name, o.name()]).collect()),
            settled: group(Family::Recipients, Outcome::ALL.iter().map(|o| vec![name, o.name()]).collect()),
            deferrals: group(Family::Deferrals, vec![vec![name]]),
            failures: group(Family::Failures, ReplyClass::ALL.iter().map(|c| vec![name, c.name()]).collect()),
            own_address: group(Family::OwnAddress, ReplyClass::ALL.iter().map(|c| vec![name, c.name()]).collect()),
            delays: group(Family::Delay, delays),
        };
        group(Family::Replies, vec![vec![name, "250", "2.0.0"], vec![name, "other", "other"]]);
        lines
    }
}

#[derive(Debug)]
struct Source {
    name: String,
    lines: usize,
    cut: usize,
    restarts: usize,
    up: bool,
    backlog: u64,
    backlog_files: u64,
    last_event: Option<Time>,
}

#[derive(Debug)]
pub(super) struct State {
    settings: Settings,
    series: Series,
    fixed: Fixed,
    servers: [Option<ServerLines>; Server::ALL.len()],
    pub accounts: Accounts,
    scrapers: Scrapers,
    sources: Vec<Source>,
    gauges: Gauges,
    store_up: bool,
    config: (bool, Option<Time>),
    /// Admission number of the newest series; 0 is for those that were always there.
    seq: u64,
    residue_saved: [u64; COUNTERS],
}

/// A source as a scrape shows it.
#[derive(Debug)]
pub(super) struct SourceView {
    pub name: String,
    pub up: bool,
    pub backlog: u64,
    pub backlog_files: u64,
    pub last_event: Option<Time>,
}

impl Source {
    fn view(&self) -> SourceView {
        let Source { up, backlog, backlog_files, last_event, .. } = *self;
        SourceView { name: self.name.clone(), up, backlog, backlog_files, last_event }
    }
}

/// All a scrape shows.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub settings: Settings,
    /// Counters with the value to be shown.
    pub lines: HashMap<Family, Vec<Line>>,
    pub accounts: Vec<AccountView>,
    pub sources: Vec<SourceView>,
    pub queues: Vec<QueueGauge>,
    pub queue_scans: Vec<(Server, Time)>,
    pub hold: HoldGauge,
    pub rules: RulesGauge,
    pub hooks: Vec<(String, u64)>,
    pub tracked_messages: u64,
    pub store_up: bool,
    pub store_size: u64,
    pub config: (bool, Option<Time>),
    pub known: usize,
    pub tracked: usize,
    pub limit: usize,
    pub process: Process,
    pub flags_wrong: Option<u64>,
}

impl State {
    pub fn new(settings: Settings) -> State {
        let mut series = Series::default();
        let numbers: Vec<String> = (0..=gate::BUCKETS).map(|n| n.to_string()).collect();
        let decisions =
            Origin::ALL.iter().flat_map(|o| Decision::ALL.iter().map(|d| vec![o.name(), d.name()])).collect();
        let mut group = |family: Family, rows: Vec<Vec<&str>>| {
            rows.iter().map(|row| series.fixed(family, row)).min().unwrap_or_default()
        };
        let fixed = Fixed {
            auth: group(Family::AuthFailures, vec![vec!["smtp"]]),
            unattributed: group(Family::Unattributed, Unattributed::ALL.iter().map(|u| vec![u.name()]).collect()),
            folded: group(Family::Folded, vec![vec![]]),
            commit_failures: group(Family::StoreFailures, vec![vec![]]),
            gate_seconds: group(Family::GateSeconds, numbers.iter().map(|n| vec![n.as_str()]).collect()),
            gate_unrecorded: group(Family::GateUnrecorded, vec![vec![]]),
            gate_broken: group(Family::GateBroken, vec![vec![]]),
            gate_decisions: group(Family::GateDecisions, decisions),
        };
        let known = |server| settings.servers.contains(&server);
        let servers = Server::ALL.map(|server| known(server).then(|| ServerLines::new(&mut series, server, &mut 0)));
        let accounts = Accounts::new(settings.max_accounts, settings.account_label);
        State {
            settings,
            series,
            fixed,
            servers,
            accounts,
            scrapers: Scrapers::default(),
            sources: Vec::new(),
            gauges: Gauges::default(),
            store_up: true,
            config: (true, None),
            seq: 1,
            residue_saved: [0; COUNTERS],
        }
    }

    pub fn source(&mut self, name: &str) -> SourceId {
        let mut name = text::clean(name.as_bytes(), 128);
        if let Some(at) = self.sources.iter().position(|source| source.name == name) {
            return SourceId(at);
        }
        if self.sources.len() >= SOURCES {
            return SourceId(SOURCES - 1);
        }
        if self.sources.len() == SOURCES - 1 {
            name = "other".to_owned();
        }
        let lines = self.series.line(Family::LinesRead, &[&name], &mut self.seq, SOURCES, &["other"]);
        let cut = self.series.line(Family::LinesCut, &[&name], &mut self.seq, SOURCES, &["other"]);
        let restarts = self.series.line(Family::SourceRestarts, &[&name], &mut self.seq, SOURCES, &["other"]);
        self.sources.push(Source {
            name,
            lines,
            cut,
            restarts,
            up: true,
            backlog: 0,
            backlog_files: 0,
            last_event: None,
        });
        SourceId(self.sources.len() - 1)
    }

    pub fn restore<'a>(&mut self, saved: Saved, owners: impl IntoIterator<Item = OwnerFigures<'a>>) {
        let mut residue = [0; COUNTERS];
        let (left, counters): (Vec<_>, Vec<_>) =
            saved.counters.into_iter().partition(|(key, _)| key.starts_with(RESIDUE));
        for (key, value) in left {
            let at = key.rsplit('\u{1f}').next().and_then(|n| n.parse::<usize>().ok());
            if let Some(cell) = at.and_then(|at| residue.get_mut(at)) {
                *cell = value;
            }
        }
        self.residue_saved = residue;
        // A server that was heard of before has its series from the start.
        for (server, lines) in Server::ALL.into_iter().zip(&mut self.servers) {
            let of_servers = Family::ALL.iter().filter(|family| family.about().labels.first() == Some(&"mta"));
            let its: Vec<String> = of_servers.map(|family| family.key(&[server.name()])).collect();
            let before = |key: &str| its.iter().any(|begins| key.starts_with(begins));
            if lines.is_none() && counters.iter().any(|(key, _)| before(key)) {
                *lines = Some(ServerLines::new(&mut self.series, server, &mut 0));
            }
        }
        self.series.restore(counters);
        let newest = saved.slots.iter().map(|slot| slot.seq).max().unwrap_or(0);
        self.seq = self.seq.max(newest.saturating_add(1));
        self.accounts.restore(&saved.slots, residue, owners);
    }

    pub fn stage<'a>(&mut self, tally: &mut Tally, owners: impl IntoIterator<Item = OwnerFigures<'a>>) {
        let taken = std::mem::take(tally);
        self.stage_tally(taken);
        let mut folded = 0;
        for figures in owners {
            folded += self.accounts.stage(&figures, &mut self.seq);
        }
        self.series.add(self.fixed.folded, folded);
    }

    fn stage_server(&mut self, server: Server, tally: &mut ServerTally) {
        let Some(known) = self.servers.get_mut(usize::from(server.code())) else { return };
        let lines = *known.get_or_insert_with(|| ServerLines::new(&mut self.series, server, &mut self.seq));
        let mut add_all = |first: usize, counts: &[u64]| {
            for (n, count) in counts.iter().enumerate() {
                self.series.add(first + n, *count);
            }
        };
        add_all(lines.messages, &tally.messages);
        add_all(lines.settled, &tally.settled);
        add_all(lines.failures, &tally.failures);
        add_all(lines.own_address, &tally.own_address);
        add_all(lines.deferrals, &[tally.deferrals]);
        for (n, delays) in tally.delays.iter().enumerate() {
            let first = lines.delays + n * (BUCKETS + 1);
            add_all(first, &delays.buckets);
            add_all(first + BUCKETS, &[delays.sum_ms]);
        }
        let mta = server.name();
        for ((code, dsn), n) in tally.replies.drain() {
            let other = !(200..600).contains(&code);
            let code = if other { "other".to_owned() } else { code.to_string() };
            let dsn = match (other, dsn.is_none()) {
                (true, _) => "other".to_owned(),
                (false, true) => "none".to_owned(),
                (false, false) => dsn.to_string(),
            };
            self.count(Family::Replies, &[mta, &code, &dsn], REPLIES, &[mta, "other", "other"], n);
        }
    }

    fn stage_tally(&mut self, mut tally: Tally) {
        let mut add_all = |first: usize, counts: &[u64]| {
            for (n, count) in counts.iter().enumerate() {
                self.series.add(first + n, *count);
            }
        };
        add_all(self.fixed.unattributed, &tally.unattributed);
        add_all(self.fixed.auth, &[tally.auth_failures]);
        let gate = std::mem::take(&mut tally.gate);
        for (first, counts) in self.fixed.gate(&gate) {
            add_all(first, counts);
        }
        for (reason, n) in gate.unknown {
            self.count(Family::GateUnknown, &[reason], SMALL, &["other"], n);
        }
        for (family, labels, n) in std::mem::take(&mut tally.hold) {
            let labels: Vec<&str> = labels.iter().copied().filter(|label| !label.is_empty()).collect();
            self.count(family, &labels, SMALL, &labels, n);
        }
        for (hook, outcome, n) in std::mem::take(&mut tally.hooks) {
            self.count(Family::HookDeliveries, &[&hook, outcome], SMALL, &["other", outcome], n);
        }
        for (server, of_server) in Server::ALL.into_iter().zip(&mut tally.servers) {
            if of_server.heard {
                self.stage_server(server, of_server);
            }
        }
        for (source, counts) in tally.sources {
            if let Some(source) = self.sources.get(source.0) {
                self.series.add(source.lines, counts.lines);
                self.series.add(source.cut, counts.cut);
                self.series.add(source.restarts, counts.restarts);
            }
        }
        for (source, reason, n) in tally.parse_failures {
            let name = self.source_name(source);
            self.count(Family::ParseFailures, &[&name, reason], SMALL, &["other", "other"], n);
        }
        for (source, reason, n) in tally.lost {
            let name = self.source_name(source);
            self.count(Family::LinesLost, &[&name, reason], SMALL, &["other", "other"], n);
        }
        for (rule, outcome, n) in std::mem::take(&mut tally.verdicts) {
            self.count(Family::Verdicts, &[&rule, outcome], VERDICTS, &["other", outcome], n);
        }
        for (daemon, n) in tally.unparsed {
            self.count(Family::Unparsed, &[&daemon], DAEMONS, &["other"], n);
        }
        for (reason, n) in tally.evictions {
            self.count(Family::Evictions, &[reason], SMALL, &["other"], n);
        }
    }

    fn count(&mut self, family: Family, labels: &[&str], cap: usize, fallback: &[&str], n: u64) {
        let at = self.series.line(family, labels, &mut self.seq, cap, fallback);
        self.series.add(at, n);
    }

    fn source_name(&self, source: SourceId) -> String {
        self.sources.get(source.0).map_or_else(|| "other".to_owned(), |source| source.name.clone())
    }

    pub fn save(&mut self) -> Saved {
        let mut counters = self.series.save();
        let residue = *self.accounts.residue();
        for (n, (now, saved)) in residue.iter().zip(&self.residue_saved).enumerate() {
            if now != saved {
                counters.push((format!("{RESIDUE}\u{1f}{n}"), *now));
            }
        }
        self.residue_saved = residue;
        Saved { counters, slots: self.accounts.save() }
    }

    pub fn publish(&mut self, gauges: Gauges) {
        self.series.publish();
        self.accounts.publish();
        for gauge in &gauges.sources {
            if let Some(source) = self.sources.get_mut(gauge.source.0) {
                source.up = gauge.up;
                source.backlog = gauge.backlog_bytes;
                source.backlog_files = gauge.backlog_files;
                source.last_event = gauge.last_event.or(source.last_event);
            }
        }
        self.gauges = gauges;
        self.store_up = true;
    }

    pub fn forget(&mut self, owner: Owner) {
        self.accounts.forget(owner);
    }

    pub fn commit_failed(&mut self) {
        self.series.add_now(self.fixed.commit_failures, 1);
        self.store_up = false;
    }

    pub fn gate_now(&mut self, gate: &GateTally) {
        for (first, counts) in self.fixed.gate(gate) {
            for (n, count) in counts.iter().enumerate() {
                self.series.show_now(first + n, *count);
            }
        }
        for (reason, n) in &gate.unknown {
            let at = self.series.line(Family::GateUnknown, &[reason], &mut self.seq, SMALL, &["other"]);
            self.series.show_now(at, *n);
        }
    }

    pub fn config_loaded(&mut self, ok: bool, at: Time) {
        self.config = (ok, if ok { Some(at) } else { self.config.1 });
    }

    pub fn glance(&self) -> Glance {
        Glance {
            lines: self.sources.iter().map(|source| self.series.shown(source.lines)).sum(),
            messages: self
                .servers
                .iter()
                .flatten()
                .flat_map(|lines| (0..Origin::ALL.len()).map(|n| self.series.shown(lines.messages + n)))
                .sum(),
            accounts_known: self.accounts.known() as u64,
            accounts_tracked: self.accounts.tracked() as u64,
        }
    }

    pub fn snapshot(&mut self, scrape: &Scrape<'_>) -> Snapshot {
        let since = match scrape.scraper {
            "" => u64::MAX,
            who => self.scrapers.scrape(who, self.seq),
        };
        let mut lines: HashMap<Family, Vec<Line>> = HashMap::new();
        for family in Family::ALL {
            let of: Vec<Line> = self.series.of(*family).map(|line| line.seen_by(since)).collect();
            lines.insert(*family, of);
        }
        Snapshot {
            settings: self.settings.clone(),
            lines,
            accounts: self.accounts.views(scrape.now, since),
            sources: self.sources.iter().map(Source::view).collect(),
            queues: self.gauges.queues.clone(),
            queue_scans: self.gauges.queue_scans.clone(),
            hold: self.gauges.hold.clone(),
            rules: self.gauges.rules,
            hooks: self.gauges.hooks.clone(),
            tracked_messages: self.gauges.tracked_messages,
            store_up: self.store_up,
            store_size: self.gauges.store_size_bytes,
            config: self.config,
            known: self.accounts.known(),
            tracked: self.accounts.tracked(),
            limit: self.accounts.limit(),
            process: scrape.process,
            flags_wrong: scrape.flags_wrong,
        }
    }
}
