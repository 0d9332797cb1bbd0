//! The figures of one batch, gathered without locks: the pump calls [`Tally::fact`] about a million times a second.
//!
//! It never sees accounts: their absolute figures come from the ledger when the batch is staged.

use super::delay::Delays;
use super::families::Family;
use super::gate::GateTally;
use crate::mail::{Dsn, Fact, Origin, Outcome, ReplyClass, Server, Status, Unattributed, text};

/// A log source, registered with `Metrics::source`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SourceId(pub(super) usize);

/// Different reply pairs that one batch keeps apart; more than the exposition ever shows.
const MOST: usize = 256;

/// An accumulator for one batch. `Metrics::stage` empties it.
#[derive(Debug, Default)]
pub struct Tally {
    pub(super) servers: [ServerTally; Server::ALL.len()],
    pub(super) unattributed: [u64; Unattributed::ALL.len()],
    pub(super) auth_failures: u64,
    pub(super) sources: Vec<(SourceId, SourceTally)>,
    pub(super) parse_failures: Vec<(SourceId, &'static str, u64)>,
    pub(super) unparsed: Vec<(String, u64)>,
    pub(super) verdicts: Vec<(String, &'static str, u64)>,
    pub(super) lost: Vec<(SourceId, &'static str, u64)>,
    pub(super) evictions: Vec<(&'static str, u64)>,
    pub(super) gate: GateTally,
    /// Of what is held, and of incidents: family, its labels (empty: fewer), how many.
    pub(super) hold: Vec<(Family, [&'static str; 2], u64)>,
    /// By hook, and outcome.
    pub(super) hooks: Vec<(String, &'static str, u64)>,
}

/// What one mail server did.
#[derive(Debug, Default)]
pub(super) struct ServerTally {
    /// It did anything.
    pub heard: bool,
    pub messages: [u64; Origin::ALL.len()],
    pub settled: [u64; Outcome::ALL.len()],
    pub failures: [u64; ReplyClass::ALL.len()],
    /// Those of them that name an address of this host.
    pub(super) own_address: [u64; ReplyClass::ALL.len()],
    pub deferrals: u64,
    /// Local, remote.
    pub delays: [Delays; 2],
    pub replies: Replies,
}

#[derive(Debug, Default, Clone, Copy)]
pub(super) struct SourceTally {
    pub lines: u64,
    pub cut: u64,
    pub restarts: u64,
}

impl Tally {
    pub fn new() -> Tally {
        Tally::default()
    }

    /// Counts one fact.
    #[inline]
    pub fn fact(&mut self, fact: &Fact<'_>) {
        match *fact {
            Fact::Message { server, owner, origin, .. } => {
                add(&mut self.server(server).messages, origin.code() as usize, 1);
                if !owner.is_account() {
                    add(&mut self.unattributed, owner.0 as usize, 1);
                }
            }
            Fact::Settled { server, outcome, n, .. } => {
                add(&mut self.server(server).settled, outcome.code() as usize, u64::from(n));
            }
            Fact::Deferral { server, .. } => self.server(server).deferrals += 1,
            Fact::Attempt { server, status, local, dsn, code, class, own_address, delay_ms, .. } => {
                let tally = self.server(server);
                tally.attempt(status, local, dsn, code, class, delay_ms);
                if own_address.is_some() {
                    add(&mut tally.own_address, class.unwrap_or(ReplyClass::Other) as usize, 1);
                }
            }
            Fact::LoginFailed { .. } => self.auth_failures += 1,
            Fact::Recipients { .. } | Fact::Hold { .. } | Fact::Error(_) | Fact::Leg(_) => {}
        }
    }

    #[inline]
    fn server(&mut self, server: Server) -> &mut ServerTally {
        let [first, rest @ ..] = &mut self.servers;
        let tally = match server.code() {
            0 => first,
            n => rest.get_mut(usize::from(n) - 1).unwrap_or(first),
        };
        tally.heard = true;
        tally
    }

    /// What a gate has decided since it was asked last.
    pub fn gate(&mut self, gate: &GateTally) {
        self.gate.add(gate);
    }

    /// An order, or what came of one: both of a closed set.
    pub fn order(&mut self, action: &'static str, result: &'static str) {
        match result {
            "warned" => self.hold(Family::HeldWarnings, ["", ""], 1),
            _ => self.hold(Family::Orders, [action, result], 1),
        }
    }

    /// A rule has spoken; `outcome` is one of a closed set, and rules are few.
    pub fn verdict(&mut self, rule: &str, outcome: &'static str) {
        match self.verdicts.iter_mut().find(|(of, what, _)| of == rule && *what == outcome) {
            Some((_, _, count)) => *count += 1,
            None => self.verdicts.push((rule.to_owned(), outcome, 1)),
        }
    }

    /// Windows of rules were looked at.
    pub fn evaluations(&mut self, n: u64) {
        self.hold(Family::Evaluations, ["", ""], n);
    }

    /// A host incident was found; `kind` is one of a closed set.
    pub fn incident(&mut self, kind: &'static str) {
        self.hold(Family::Incidents, [kind, ""], 1);
    }

    /// Messages that were held too long.
    pub fn dropped(&mut self, n: u64) {
        self.hold(Family::HeldDropped, ["", ""], n);
    }

    /// Messages that were not as they should be; `kind` is one of a closed set.
    pub fn drift(&mut self, kind: &'static str, n: u64) {
        self.hold(Family::Drift, [kind, ""], n);
    }

    /// A message that the gate was not asked about; `when` is one of a closed set.
    pub fn bypass(&mut self, origin: Origin, when: &'static str) {
        self.hold(Family::GateBypass, [origin.name(), when], 1);
    }

    /// What became of `n` notices to a hook (none: so that the series is there); `outcome` is one of a closed set.
    pub fn hook(&mut self, hook: &str, outcome: &'static str, n: u64) {
        match self.hooks.iter_mut().find(|(of, with, _)| of == hook && *with == outcome) {
            Some((_, _, count)) => *count += n,
            None => self.hooks.push((hook.to_owned(), outcome, n)),
        }
    }

    fn hold(&mut self, family: Family, labels: [&'static str; 2], n: u64) {
        match self.hold.iter_mut().find(|(of, with, _)| *of == family && *with == labels) {
            Some((_, _, count)) => *count += n,
            None if n > 0 => self.hold.push((family, labels, n)),
            None => {}
        }
    }

    /// `n` lines of a source were read.
    pub fn lines(&mut self, source: SourceId, n: u64) {
        self.source(source, SourceTally { lines: n, ..SourceTally::default() });
    }

    /// `n` lines of a source were longer than the limit.
    pub fn cut(&mut self, source: SourceId, n: u64) {
        self.source(source, SourceTally { cut: n, ..SourceTally::default() });
    }

    /// What delivers the lines of a source was started again.
    pub fn restarted(&mut self, source: SourceId) {
        self.source(source, SourceTally { restarts: 1, ..SourceTally::default() });
    }

    /// `n` lines of a source are known to be missed; `reason` is one of a closed set.
    pub fn lost(&mut self, source: SourceId, reason: &'static str, n: u64) {
        match self.lost.iter_mut().find(|(at, why, _)| *at == source && *why == reason) {
            Some((_, _, count)) => *count += n,
            None => self.lost.push((source, reason, n)),
        }
    }

    /// A line of the mail server without a known shape: `reason` is one of a closed set, `daemon` raw log bytes.
    pub fn unknown(&mut self, source: SourceId, reason: &'static str, daemon: &[u8]) {
        match self.parse_failures.iter_mut().find(|(at, why, _)| *at == source && *why == reason) {
            Some((_, _, count)) => *count += 1,
            None => self.parse_failures.push((source, reason, 1)),
        }
        match self.unparsed.iter_mut().find(|(name, _)| name.as_bytes() == daemon) {
            Some((_, count)) => *count += 1,
            None => self.unknown_daemon(daemon),
        }
    }

    #[cold]
    fn unknown_daemon(&mut self, daemon: &[u8]) {
        let full = self.unparsed.len() >= 64;
        let name = if full { "other".to_owned() } else { text::clean(daemon, 32) };
        match self.unparsed.iter_mut().find(|(known, _)| *known == name) {
            Some((_, count)) => *count += 1,
            None => self.unparsed.push((name, 1)),
        }
    }

    /// `n` messages were given up before their end was seen; `reason` is one of a closed set.
    pub fn evicted(&mut self, reason: &'static str, n: u64) {
        match self.evictions.iter_mut().find(|(why, _)| *why == reason) {
            Some((_, count)) => *count += n,
            None => self.evictions.push((reason, n)),
        }
    }

    fn source(&mut self, source: SourceId, new: SourceTally) {
        match self.sources.iter_mut().find(|(id, _)| *id == source) {
            Some((_, tally)) => {
                tally.lines += new.lines;
                tally.cut += new.cut;
                tally.restarts += new.restarts;
            }
            None => self.sources.push((source, new)),
        }
    }
}

impl ServerTally {
    #[inline]
    fn attempt(&mut self, status: Status, local: bool, dsn: Dsn, code: u16, class: Option<ReplyClass>, delay_ms: u64) {
        match status {
            Status::Probe | Status::Dropped | Status::Waiting => return,
            Status::Sent => {
                if let Some(delays) = self.delays.get_mut(usize::from(!local)) {
                    delays.observe(delay_ms);
                }
            }
            Status::Deferred | Status::Bounced | Status::Expired => {
                add(&mut self.failures, class.unwrap_or(ReplyClass::Other) as usize, 1);
            }
        }
        if code != 0 && !local {
            self.replies.add(code, dsn);
        }
    }
}

#[inline]
fn add(cells: &mut [u64], at: usize, n: u64) {
    if let Some(cell) = cells.get_mut(at) {
        *cell += n;
    }
}

/// Reply pairs of one batch, by code and enhanced status code.
#[derive(Debug, Default)]
pub(super) struct Replies {
    pairs: hashbrown::HashMap<(u16, Dsn), u64, foldhash::fast::RandomState>,
    /// The pair of the last call: on a usual log most attempts are `250 2.0.0`.
    last: (u16, Dsn),
    last_count: u64,
}

impl Replies {
    #[inline]
    fn add(&mut self, code: u16, dsn: Dsn) {
        if self.last != (code, dsn) {
            self.settle();
            self.last = (code, dsn);
        }
        self.last_count += 1;
    }

    fn settle(&mut self) {
        if self.last_count > 0 {
            let full = self.pairs.len() >= MOST && !self.pairs.contains_key(&self.last);
            let key = if full { (0, Dsn::NONE) } else { self.last };
            *self.pairs.entry(key).or_insert(0) += self.last_count;
            self.last_count = 0;
        }
    }

    /// Every pair with its count, emptied; the pair `(0, NONE)` is "other".
    pub(super) fn drain(&mut self) -> Vec<((u16, Dsn), u64)> {
        self.settle();
        let mut pairs: Vec<_> = self.pairs.drain().collect();
        // The first ones get the label values when the cap is near: the order must not depend on the hasher.
        pairs.sort_unstable_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
        pairs
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::{Server, Time};

    #[test]
    fn replies_are_kept_apart_and_bounded() {
        let mut tally = Tally::new();
        for code in 0..2_000u16 {
            let fact = Fact::Attempt {
                at: Time::ZERO,
                server: Server::default(),
                status: Status::Bounced,
                local: false,
                dsn: Dsn::new(5, code, 0),
                code: 550,
                class: Some(ReplyClass::Spam),
                own_address: None,
                delay_ms: 1,
            };
            tally.fact(&fact);
            tally.fact(&fact);
        }
        let [tally, ..] = &mut tally.servers;
        let pairs = tally.replies.drain();
        assert!(pairs.len() <= MOST + 1);
        assert_eq!(pairs.iter().map(|(_, n)| n).sum::<u64>(), 4_000);
        assert_eq!(tally.failures[ReplyClass::Spam as usize], 4_000);
    }

    #[test]
    fn class_indices_are_those_of_the_table() {
        for (at, class) in ReplyClass::ALL.into_iter().enumerate() {
            assert_eq!(class as usize, at);
        }
    }
}
