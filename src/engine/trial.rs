//! What armed rules would have done to old logs: what becomes of each verdict, and how many messages its block holds.
//!
//! Pure; a sink. Nothing is held in truth: mail goes on being counted, as rules count what is held. A block holds what is
//! accepted after the line that crossed the limit, and nobody lifts it, so it is taken for over after [`LONGEST_SECS`].

use super::Sink;
use super::accounts::name_from;
use super::rules::{Enforcement, Fate, Judge};
use crate::mail::{Fact, Origin, Owner, Scope, Time, Verdict};
use std::collections::{BTreeMap, BTreeSet};

/// Mail waits no longer on hold by default, and somebody has looked by then.
pub const LONGEST_SECS: i64 = 72 * 3_600;
/// Most verdicts that are kept.
const MAX_VERDICTS: usize = 100_000;

/// A verdict, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tried {
    pub verdict: Verdict,
    pub fate: Fate,
    /// Messages on hold because of it. One that falls under two blocks is the later one's.
    pub held: u64,
    /// Of a block: until when it holds, if no other one goes on.
    pub until: Option<Time>,
}

/// What stands against an account.
#[derive(Debug)]
struct Block {
    scope: Scope,
    since: Time,
    /// When it ends by itself.
    until: Option<Time>,
    /// The verdict that made it what it is.
    tried: usize,
}

impl Block {
    fn end(&self) -> Time {
        let longest = self.since.plus_secs(LONGEST_SECS);
        self.until.map_or(longest, |until| until.min(longest))
    }
}

/// Of an account, of a rule, or of all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Totals {
    pub held: u64,
    pub blocks: u64,
    pub accounts: BTreeSet<Owner>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Trial {
    judge: Judge,
    tried: Vec<Tried>,
    blocks: BTreeMap<Owner, Block>,
    /// Verdicts for which there was no room: they block nobody here.
    pub without_room: u64,
    /// Stamps of the earliest and of the latest message.
    pub span: Option<(Time, Time)>,
}

impl Trial {
    /// As the rules would do with this, were they not on a dry run.
    pub fn new(enforcement: Enforcement) -> Trial {
        let mut judge = Judge::default();
        judge.set(Enforcement { dry_run: false, ..enforcement });
        Trial { judge, ..Trial::default() }
    }

    /// In the order of the lines.
    pub fn tried(&self) -> &[Tried] {
        &self.tried
    }

    /// What blocks would have held, by whatever of a verdict.
    pub fn totals<K: Ord>(&self, by: impl Fn(&Verdict) -> K) -> BTreeMap<K, Totals> {
        let mut all: BTreeMap<K, Totals> = BTreeMap::new();
        for tried in self.tried.iter().filter(|tried| tried.fate == Fate::Blocks) {
            let totals = all.entry(by(&tried.verdict)).or_default();
            totals.held += tried.held;
            totals.blocks += 1;
            totals.accounts.insert(tried.verdict.owner);
        }
        all
    }

    fn message(&mut self, at: Time, owner: Owner, origin: Origin, login: &[u8]) {
        let Some(block) = self.blocks.get(&owner).filter(|block| at < block.end()) else { return };
        let covers = match &block.scope {
            // It has the login as it is shown.
            scope @ Scope::Login(_) => scope.covers(origin, name_from(login).as_bytes()),
            scope => scope.covers(origin, login),
        };
        if covers && let Some(tried) = self.tried.get_mut(block.tried) {
            tried.held += 1;
        }
    }

    /// Blocks, or adds to what stands as a second block does. `None`: that is as much already.
    fn block(&mut self, verdict: &Verdict) -> Option<Time> {
        let (at, tried) = (verdict.at, self.tried.len());
        let until = verdict.for_secs.map(|secs| at.plus_secs(i64::from(secs)));
        let block = match self.blocks.get(&verdict.owner).filter(|block| at < block.end()) {
            None => Block { scope: verdict.scope.clone(), since: at, until, tried },
            Some(old) => {
                let (scope, until) = (old.scope.with(&verdict.scope), old.until.zip(until).map(|(a, b)| a.max(b)));
                if scope == old.scope && until == old.until {
                    return None;
                }
                Block { scope, since: old.since, until, tried }
            }
        };
        let end = block.end();
        self.blocks.insert(verdict.owner, block);
        Some(end)
    }
}

impl Sink for Trial {
    const WANTS_CLASSES: bool = false;
    const HEARS_VERDICTS: bool = true;

    #[inline]
    fn fact(&mut self, fact: &Fact<'_>) {
        if let Fact::Message { at, owner, origin, login, .. } = *fact {
            self.span = Some(self.span.map_or((at, at), |(first, last)| (first.min(at), last.max(at))));
            if !self.blocks.is_empty() {
                self.message(at, owner, origin, login);
            }
        }
    }

    fn verdict(&mut self, verdict: Verdict, key: &str) {
        if self.tried.len() >= MAX_VERDICTS {
            self.without_room += 1;
            return;
        }
        let mut fate = self.judge.decide(&verdict, key, verdict.at);
        let mut until = None;
        if fate == Fate::Blocks {
            until = self.block(&verdict);
            match until {
                Some(_) => self.judge.blocked(verdict.at),
                None => fate = Fate::Already,
            }
        }
        self.tried.push(Tried { verdict, fate, held: 0, until });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::{Basis, Cause, Measure, QueueId, Server, Signal};

    const HOUR: u32 = 3_600;

    fn verdict(owner: u32, at: i64, scope: Scope, for_secs: Option<u32>) -> Verdict {
        Verdict {
            at: Time::from_secs(at),
            owner: Owner(owner),
            rule: "r".into(),
            signal: Signal::Messages,
            observed: 51,
            limit: 50,
            window_secs: HOUR,
            measure: Measure::Block,
            scope,
            cause: Cause::Volume,
            for_secs,
            proven: true,
            incident: false,
        }
    }

    fn send(trial: &mut Trial, owner: u32, at: i64, origin: Origin, login: &[u8]) {
        let (id, server) = (&QueueId::new(b"A1").unwrap(), Server::default());
        let (at, owner) = (Time::from_secs(at), Owner(owner));
        trial.fact(&Fact::Message { at, server, id, owner, origin, basis: Basis::Uid, login });
    }

    fn held(trial: &Trial) -> Vec<(Fate, u64)> {
        trial.tried().iter().map(|tried| (tried.fate, tried.held)).collect()
    }

    #[test]
    fn a_block_holds_what_comes_after_it_in_its_scope_until_it_ends() {
        let mut trial = Trial::new(Enforcement::default());
        send(&mut trial, 17, 999, Origin::Script, b"");
        trial.verdict(verdict(17, 1_000, Scope::Script, Some(HOUR)), "a");
        for (at, origin) in [(1_000, Origin::Script), (4_599, Origin::LocalSmtp), (4_600, Origin::Script)] {
            send(&mut trial, 17, at, origin, b"");
            send(&mut trial, 18, at, origin, b"");
        }
        send(&mut trial, 17, 2_000, Origin::SmtpAuth, b"box@a");
        send(&mut trial, 17, 2_000, Origin::Incoming, b"");
        assert_eq!(held(&trial), [(Fate::Blocks, 2)]);
        trial.verdict(verdict(17, 5_000, Scope::Login("box@a".into()), None), "a");
        let end = 5_000 + LONGEST_SECS;
        for (at, login) in [(5_001, "Box@A"), (5_001, "other@a"), (end - 1, "box@a"), (end, "box@a")] {
            send(&mut trial, 17, at, Origin::SmtpAuth, login.as_bytes());
        }
        assert_eq!(held(&trial), [(Fate::Blocks, 2), (Fate::Blocks, 2)]);
        assert_eq!(trial.span, Some((Time::from_secs(999), Time::from_secs(end))));
    }

    #[test]
    fn a_second_block_goes_on_with_the_first_or_adds_nothing() {
        let mut trial = Trial::new(Enforcement::default());
        let script = |trial: &mut Trial, at| send(trial, 17, at, Origin::Script, b"");
        trial.verdict(verdict(17, 0, Scope::Script, Some(2 * HOUR)), "a");
        script(&mut trial, 10);
        trial.verdict(verdict(17, 3_600, Scope::Script, Some(2 * HOUR)), "a");
        script(&mut trial, 10_799);
        script(&mut trial, 10_800);
        trial.verdict(verdict(17, 20_000, Scope::All, None), "a");
        trial.verdict(verdict(17, 20_001, Scope::Script, None), "a");
        script(&mut trial, 20_002);
        assert_eq!(
            held(&trial),
            [(Fate::Blocks, 1), (Fate::Blocks, 1), (Fate::Blocks, 1), (Fate::Already, 0)],
            "a block that was made longer, and one that was over"
        );
        let all = trial.totals(|verdict| verdict.rule.clone());
        assert_eq!(
            all[&*verdict(1, 0, Scope::All, None).rule],
            Totals { held: 3, blocks: 3, accounts: [Owner(17)].into() }
        );
    }

    #[test]
    fn who_would_not_be_blocked_is_not_held() {
        let exempt = Enforcement { exempt: vec!["vip".into()], max_blocks_per_hour: 1, ..Enforcement::default() };
        let mut trial = Trial::new(exempt);
        let block = |owner| verdict(owner, 100, Scope::All, None);
        trial.verdict(Verdict { measure: Measure::Observe, ..block(17) }, "a");
        trial.verdict(Verdict { proven: false, ..block(17) }, "a");
        trial.verdict(block(17), "vip");
        trial.verdict(block(18), "b");
        trial.verdict(block(19), "c");
        for owner in [17, 18, 19] {
            send(&mut trial, owner, 101, Origin::Script, b"");
        }
        let fates = [(Fate::Observed, 0), (Fate::Claimed, 0), (Fate::Exempt, 0), (Fate::Blocks, 1), (Fate::Budget, 0)];
        assert_eq!(held(&trial), fates);
    }
}
