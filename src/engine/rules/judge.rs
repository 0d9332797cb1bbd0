//! What becomes of a verdict: everything that keeps a rule from blocking somebody it should not.
//!
//! Pure. Budgets and graces follow the host's clock, which is told; so does what is too old to be judged.

use super::identity;
use crate::engine::codec::{Reader, Writer};
use crate::mail::{Measure, Owner, Time, Verdict};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// What an operator allows rules to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enforcement {
    /// Rules say what they would do, and block nobody.
    pub dry_run: bool,
    /// Most automatic blocks in any hour.
    pub max_blocks_per_hour: u32,
    /// Nobody is blocked for lines older than this.
    pub max_age_secs: i64,
    /// A rule whose block a person lifted does not block the account again for so long.
    pub respect_secs: i64,
    /// How long a second chance after a block for errors lasts, and how many relapses an owner may lift.
    pub force_secs: i64,
    pub max_relapses: u32,
    /// Accounts, by what evidence leads to, that no rule blocks.
    pub exempt: Vec<String>,
}

impl Default for Enforcement {
    fn default() -> Enforcement {
        Enforcement {
            dry_run: true,
            max_blocks_per_hour: 20,
            max_age_secs: 900,
            respect_secs: 86_400,
            force_secs: 86_400,
            max_relapses: 2,
            exempt: Vec::new(),
        }
    }
}

/// What becomes of a verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fate {
    Observed,
    Notified,
    /// The account's mail is to be held.
    Blocks,
    /// What is beyond the limit is to wait.
    Delays,
    /// The same, if a gate held mail.
    NoGate,
    /// It was blocked already.
    Already,
    /// An armed rule would have blocked it, if `dry_run` were not on.
    DryRun,
    /// The same, if a person had not said that rules block nobody.
    SwitchedOff,
    Exempt,
    /// It is due to a host incident.
    HostIncident,
    /// Whose the mail is was only claimed.
    Claimed,
    /// The lines are too old.
    Backlog,
    /// There were as many automatic blocks as there may be in an hour.
    Budget,
    /// A person has lifted this rule's block a short time ago.
    Respected,
}

impl Fate {
    pub const ALL: [Fate; 14] = [
        Fate::Observed,
        Fate::Notified,
        Fate::Blocks,
        Fate::Delays,
        Fate::NoGate,
        Fate::Already,
        Fate::DryRun,
        Fate::SwitchedOff,
        Fate::Exempt,
        Fate::HostIncident,
        Fate::Claimed,
        Fate::Backlog,
        Fate::Budget,
        Fate::Respected,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Fate::Observed => "observed",
            Fate::Notified => "notified",
            Fate::Blocks => "blocked",
            Fate::Delays => "delayed",
            Fate::NoGate => "no_gate",
            Fate::Already => "already_blocked",
            Fate::DryRun => "dry_run",
            Fate::SwitchedOff => "enforcement_off",
            Fate::Exempt => "exempt",
            Fate::HostIncident => "host_incident",
            Fate::Claimed => "claimed_evidence",
            Fate::Backlog => "backlog",
            Fate::Budget => "block_budget",
            Fate::Respected => "lifted_by_person",
        }
    }

    pub fn from_name(name: &str) -> Option<Fate> {
        Fate::ALL.into_iter().find(|fate| fate.name() == name)
    }

    /// For people.
    pub const fn shown(self) -> &'static str {
        match self {
            Fate::Observed => "observed",
            Fate::Notified => "notified",
            Fate::Blocks => "blocked",
            Fate::Delays => "what is beyond the limit waits",
            Fate::NoGate => "would slow it down, but no gate holds mail",
            Fate::Already => "it was blocked already",
            Fate::DryRun => "would block, but enforcement.dry_run is on",
            Fate::SwitchedOff => "would block, but enforcement is off",
            Fate::Exempt => "would block, but the account is exempt",
            Fate::HostIncident => "it is due to a host incident, and counts against nobody",
            Fate::Claimed => "would block, but whose the mail is was only claimed",
            Fate::Backlog => "would block, but the lines are old",
            Fate::Budget => "would block, but there were too many automatic blocks within an hour",
            Fate::Respected => "would block, but a person lifted this rule's block a short time ago",
        }
    }
}

/// Hearing of things takes a moment, so that some come from just before others. A clock that was set back further begins anew.
const SLACK_SECS: i64 = -60;

/// Most liftings that are remembered.
const MAX_LIFTED: usize = 100_000;

/// Remembers what keeps rules from blocking.
#[derive(Debug, Default)]
pub struct Judge {
    enforcement: Enforcement,
    /// A person has said that rules block nobody.
    off: bool,
    /// When the automatic blocks of the last hour were.
    blocks: VecDeque<Time>,
    /// Which rule's blocks were lifted by a person, and when.
    lifted: BTreeMap<(Owner, u64), Time>,
    changed: bool,
}

impl Judge {
    pub fn set(&mut self, enforcement: Enforcement) {
        self.enforcement = enforcement;
    }

    pub fn enforcement(&self) -> &Enforcement {
        &self.enforcement
    }

    /// `key`: what evidence leads to. `now`: the host's clock.
    pub fn decide(&mut self, verdict: &Verdict, key: &str, now: Time) -> Fate {
        match verdict.measure {
            Measure::Observe => return Fate::Observed,
            _ if verdict.incident => return Fate::HostIncident,
            Measure::Notify => return Fate::Notified,
            Measure::Slow | Measure::Block => {}
        }
        let Enforcement { dry_run, max_age_secs, respect_secs, exempt, .. } = &self.enforcement;
        if exempt.iter().any(|account| *account == key) {
            return Fate::Exempt;
        }
        if !verdict.proven {
            return Fate::Claimed;
        }
        if now.secs_since(verdict.at) > *max_age_secs {
            return Fate::Backlog;
        }
        let lifted = self.lifted.get(&(verdict.owner, identity(verdict.rule.as_bytes())));
        if lifted.is_some_and(|at| (SLACK_SECS..*respect_secs).contains(&now.secs_since(*at))) {
            return Fate::Respected;
        }
        if self.off {
            return Fate::SwitchedOff;
        }
        if *dry_run {
            return Fate::DryRun;
        }
        if verdict.measure == Measure::Slow {
            return Fate::Delays;
        }
        if self.left(now) == 0 { Fate::Budget } else { Fate::Blocks }
    }

    /// Automatic blocks that may be made now.
    pub fn left(&mut self, now: Time) -> usize {
        while self.blocks.front().is_some_and(|at| !(SLACK_SECS..3_600).contains(&now.secs_since(*at))) {
            self.blocks.pop_front();
        }
        (self.enforcement.max_blocks_per_hour as usize).saturating_sub(self.blocks.len())
    }

    /// Accounts with the identity of a rule whose block a person has lifted a short time ago.
    pub fn spared(&self, now: Time) -> BTreeSet<(Owner, Option<u64>)> {
        let respected = |at: &Time| (SLACK_SECS..self.enforcement.respect_secs).contains(&now.secs_since(*at));
        let lifted = self.lifted.iter().filter(|(_, at)| respected(at));
        lifted.map(|((owner, rule), _)| (*owner, Some(*rule))).collect()
    }

    /// Whether rules may block, as a person says; true when that is another answer than before.
    pub fn enforce(&mut self, on: bool) -> bool {
        let changed = self.off == on;
        (self.off, self.changed) = (!on, self.changed || changed);
        changed
    }

    /// Why rules block nobody.
    pub fn muted(&self) -> Option<&'static str> {
        match (self.off, self.enforcement.dry_run) {
            (true, _) => Some("enforcement is off: sendwarden enforcement on"),
            (false, true) => Some("enforcement.dry_run is on"),
            (false, false) => None,
        }
    }

    /// A block was ordered.
    pub fn blocked(&mut self, now: Time) {
        self.blocks.push_back(now);
        self.changed = true;
    }

    /// A person lifted the block of a rule.
    pub fn lifted(&mut self, owner: Owner, rule: &str, now: Time) {
        let respect = self.enforcement.respect_secs;
        if self.lifted.len() >= MAX_LIFTED {
            self.lifted.retain(|_, at| now.secs_since(*at) < respect);
        }
        if self.lifted.len() < MAX_LIFTED {
            self.lifted.insert((owner, identity(rule.as_bytes())), now);
            self.changed = true;
        }
    }

    /// The row that keeps it, where it changed.
    pub fn take_row(&mut self, now: Time) -> Option<Vec<u8>> {
        if !std::mem::take(&mut self.changed) {
            return None;
        }
        let respect = self.enforcement.respect_secs;
        self.lifted.retain(|_, at| now.secs_since(*at) < respect);
        let mut out = Writer::default();
        out.u64(u64::from(self.off)).u64(self.blocks.len() as u64);
        for at in &self.blocks {
            out.time(*at);
        }
        for ((owner, rule), at) in &self.lifted {
            out.u32(owner.0).u64(*rule).time(*at);
        }
        Some(out.bytes)
    }

    pub fn restore_row(&mut self, value: &[u8]) -> Option<()> {
        let mut saved = Reader::new(value);
        self.off = saved.u64()? != 0;
        for _ in 0..saved.u64()? {
            self.blocks.push_back(saved.time()?);
        }
        while !saved.is_empty() {
            self.lifted.insert((Owner(saved.u32()?), saved.u64()?), saved.time()?);
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::{Cause, Scope, Signal};

    fn verdict(measure: Measure) -> Verdict {
        Verdict {
            at: Time::from_secs(10_000),
            owner: Owner(17),
            rule: "r".into(),
            signal: Signal::Messages,
            observed: 51,
            limit: 50,
            window_secs: 3_600,
            measure,
            scope: Scope::Script,
            cause: Cause::Volume,
            for_secs: None,
            proven: true,
            incident: false,
        }
    }

    fn armed() -> Judge {
        let mut judge = Judge::default();
        judge.set(Enforcement { dry_run: false, exempt: vec!["vip".into()], ..Enforcement::default() });
        judge
    }

    #[test]
    fn what_keeps_a_rule_from_blocking() {
        let now = Time::from_secs(10_010);
        let block = verdict(Measure::Block);
        let mut judge = armed();
        assert_eq!(judge.decide(&verdict(Measure::Observe), "a", now), Fate::Observed);
        assert_eq!(judge.decide(&verdict(Measure::Notify), "a", now), Fate::Notified);
        assert_eq!(judge.decide(&block, "a", now), Fate::Blocks);
        assert_eq!(judge.decide(&block, "vip", now), Fate::Exempt);
        for measure in [Measure::Block, Measure::Notify] {
            let due = Verdict { incident: true, ..verdict(measure) };
            assert_eq!(judge.decide(&due, "a", now), Fate::HostIncident);
        }
        assert_eq!(judge.decide(&Verdict { proven: false, ..block.clone() }, "a", now), Fate::Claimed);
        assert_eq!(judge.decide(&block, "a", Time::from_secs(10_901)), Fate::Backlog);
        judge.lifted(Owner(17), "r", now);
        assert_eq!(judge.decide(&block, "a", now.plus_secs(60)), Fate::Respected);
        assert_eq!(judge.decide(&Verdict { rule: "s".into(), ..block.clone() }, "a", now), Fate::Blocks);
        assert_eq!(judge.decide(&Verdict { owner: Owner(18), ..block.clone() }, "a", now), Fate::Blocks);
        let later = now.plus_secs(86_401);
        assert_eq!(judge.decide(&Verdict { at: later, ..block.clone() }, "a", later), Fate::Blocks);
        assert_eq!((judge.muted(), judge.enforce(false), judge.enforce(false)), (None, true, false));
        assert_eq!(judge.decide(&Verdict { at: later, ..block.clone() }, "a", later), Fate::SwitchedOff);
        assert!(judge.muted().is_some() && judge.enforce(true));
        judge.set(Enforcement::default());
        assert_eq!(judge.decide(&Verdict { at: later, ..block }, "a", later), Fate::DryRun);
    }

    #[test]
    fn the_budget_is_of_any_hour_and_outlives_a_restart() {
        let mut judge = armed();
        let block = |at: i64| Verdict { at: Time::from_secs(at), ..verdict(Measure::Block) };
        for n in 0..20 {
            let now = Time::from_secs(10_000 + n * 60);
            assert_eq!(judge.decide(&block(10_000 + n * 60), "a", now), Fate::Blocks);
            judge.blocked(now);
        }
        judge.lifted(Owner(3), "r", Time::from_secs(11_200));
        judge.enforce(false);
        let row = judge.take_row(Time::from_secs(11_200)).unwrap();
        assert_eq!(judge.take_row(Time::from_secs(11_200)), None);
        let mut again = armed();
        again.restore_row(&row).unwrap();
        assert!(again.enforce(true), "off also after a restart");
        assert_eq!((again.blocks.clone(), again.lifted.clone()), (judge.blocks, judge.lifted));
        assert_eq!(again.left(Time::from_secs(10_000 - 1)), 0, "a look at a time just before takes none back");
        assert_eq!(again.decide(&block(13_599), "a", Time::from_secs(13_599)), Fate::Budget);
        assert_eq!(again.decide(&block(13_600), "a", Time::from_secs(13_600)), Fate::Blocks);
    }
}
