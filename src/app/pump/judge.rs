//! What the rules said, in the pump: decided, written down, told, and made an order where it blocks.
//!
//! A verdict that blocks is an order like a person's: it is in the store, with the lines that led to it, before anything
//! is done for it. One for an account of which something is being done waits for that.

use super::Pump;
use crate::app::evidence::Gatherer;
use crate::engine::rules::{Fate, Warning, identity};
use crate::engine::sanctions::{Delay, Outcome};
use crate::host::clock;
use crate::mail::{Action, Actor, Measure, Order, OrderId, Owner, Role, ServiceState, Time, Verdict};
use crate::notify::{Event, Happening, Moment};
use crate::store::VerdictRow;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The row of what keeps rules from blocking.
pub(super) const JUDGE: u8 = 19;
/// Verdicts that wait because something is being done for their accounts.
const MOST_WAITING: usize = 10_000;
/// How often it is told that there are too many automatic blocks.
const TELL_AGAIN: Duration = Duration::from_secs(600);

#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// With the order that the gate gave it.
    verdicts: VecDeque<(Verdict, Option<OrderId>)>,
    /// What there was no room to count, as told last.
    told_without_room: u64,
    /// When it was told last that the budget is spent.
    told_budget: Option<Instant>,
}

impl Pump {
    /// Takes what the rules have said since the last call.
    pub(super) fn judge(&mut self, now: Time) {
        if let Some(forced) = self.engine.sanctions.take_forced() {
            self.engine.rules.force(forced);
        }
        for (verdict, order) in std::mem::take(&mut self.verdicts.verdicts) {
            self.pronounce(verdict, order, now);
        }
        let without_room = self.engine.rules.without_room;
        if std::mem::replace(&mut self.verdicts.told_without_room, without_room) == 0 && without_room > 0 {
            tracing::error!("rules: too many logins or claimed accounts: what is beyond them is not counted by rules");
        }
        for Warning { percent, verdict } in self.engine.rules.take_warnings() {
            self.warn(percent, &verdict);
        }
        if self.engine.rules.has_verdicts() {
            for verdict in self.engine.rules.take_verdicts() {
                self.pronounce(verdict, None, now);
            }
        }
    }

    /// `gates`: the gate holds for it already, for this order.
    pub(super) fn pronounce(&mut self, verdict: Verdict, gates: Option<OrderId>, now: Time) {
        let Some(known) = self.engine.attribution.accounts.get(verdict.owner) else { return };
        let key = known.key.clone();
        // What the gate has done is no backlog, however late it is heard of.
        let decided = Verdict { at: if gates.is_some() { now } else { verdict.at }, ..verdict.clone() };
        let mut fate = self.engine.judge.decide(&decided, &key, now);
        let mut order = String::new();
        let its_own = Actor::Rule(verdict.rule.as_ref().into());
        if fate == Fate::Delays {
            if self.armed.rule(&verdict.rule).is_some() {
                // The gate lets nothing more through.
                return;
            }
            fate = Fate::NoGate;
        }
        if fate == Fate::Blocks && self.blocked_by(verdict.owner) == Some(its_own) {
            if self.armed.rule(&verdict.rule).is_some() {
                // The gate was before the log, and has said it. What it has let through goes on.
                return;
            }
            fate = Fate::Already;
        }
        if fate == Fate::Blocks {
            if self.engine.sanctions.account(verdict.owner).change.is_some() {
                if self.verdicts.verdicts.len() < MOST_WAITING {
                    self.verdicts.verdicts.push_back((verdict, gates));
                }
                return;
            }
            let given = block(&verdict, gates, now);
            let queued = self.engine.tracker.queued(|owner| owner == verdict.owner);
            let record = self.engine.sanctions.accept(&given, &queued, now);
            order = given.id.to_string();
            match record.outcome {
                Outcome::Already => fate = Fate::Already,
                _ => self.engine.judge.blocked(now),
            }
            self.log_order(&record, Moment::Ordered);
        } else if let Some(order) = gates {
            self.let_pass(order);
        }
        self.write_down(&verdict, fate, order);
    }

    /// It is in the store, and told to those who want to know.
    pub(super) fn write_down(&mut self, verdict: &Verdict, fate: Fate, order: String) {
        let name = self.engine.attribution.accounts.name(verdict.owner).to_string();
        self.tell(verdict, fate, &name);
        self.tell_hooks_of(verdict, fate);
        self.tally.verdict(&verdict.rule, fate.name());
        self.batch.verdicts.push(row(verdict, fate, order));
        // What somebody may act on is there after a power cut.
        self.durable |= verdict.measure != Measure::Observe;
    }

    /// A block is told as the order that it is.
    fn tell_hooks_of(&mut self, verdict: &Verdict, fate: Fate) {
        if verdict.measure == Measure::Observe || matches!(fate, Fate::Blocks | Fate::Already) {
            return;
        }
        let Verdict { at, owner, rule, .. } = verdict;
        // Of the same lines the same: a rule speaks of a subject once in a while.
        let about = format!("{rule} {}", verdict.scope);
        let told = Happening {
            event: Event::Verdict,
            id: format!("{:016x}{:08x}{:016x}-verdict", at.0, owner.0, identity(about.as_bytes())),
            owner: *owner,
            at: *at,
            by: Actor::Rule(rule.as_ref().into()).to_string(),
            reason: verdict.text(),
            details: fate.shown().to_owned(),
        };
        self.tell_that(&told);
    }

    /// So much of a quota is used: said before it is too late.
    fn warn(&mut self, percent: u64, verdict: &Verdict) {
        let Verdict { at, owner, rule, .. } = verdict;
        let name = self.engine.attribution.accounts.name(*owner);
        let (reason, details) = (verdict.text(), format!("{percent} % of the quota is used"));
        tracing::info!("rule {rule}: {name}: {reason}: {details}");
        let about = format!("{rule} {} {percent}", verdict.scope);
        let told = Happening {
            event: Event::Quota,
            id: format!("{:016x}{:08x}{:016x}-quota", at.0, owner.0, identity(about.as_bytes())),
            owner: *owner,
            at: *at,
            by: Actor::Rule(rule.as_ref().into()).to_string(),
            reason,
            details,
        };
        self.tell_that(&told);
        self.durable = true;
    }

    fn tell(&mut self, verdict: &Verdict, fate: Fate, name: &str) {
        let (rule, what) = (&verdict.rule, verdict.text());
        match fate {
            Fate::Observed => tracing::debug!("rule {rule}: {name}: {what}"),
            Fate::Blocks => {
                tracing::warn!("rule {rule} blocks {name}: {what}; to let it send: sendwarden unblock {name}")
            }
            Fate::Budget => {
                let due = self.verdicts.told_budget.is_none_or(|at| at.elapsed() >= TELL_AGAIN);
                if due {
                    self.verdicts.told_budget = Some(clock::monotonic());
                    tracing::error!(
                        "rules would block more accounts than enforcement.max_blocks_per_hour ({}) allows, and the next of \
                         them is {name} (rule {rule}: {what}): no more are blocked within this hour; look at what happens: \
                         one receiver, this host's address, or a rule that is too strict",
                        self.engine.judge.enforcement().max_blocks_per_hour
                    );
                }
            }
            _ => tracing::warn!("rule {rule}: {name}: {what}: {}", fate.shown()),
        }
    }

    /// Gathers what verdicts rest on, beside everything else.
    pub(super) fn gatherer(&self) -> Option<Gatherer> {
        let dir = self.shelf.store().path().parent()?.to_owned();
        let started = Gatherer::start(dir, self.engine.replies.clone());
        started.inspect_err(|why| tracing::warn!("verdicts stay without evidence: no thread: {why}")).ok()
    }

    /// Takes what was gathered.
    pub(super) fn hear_gatherer(&mut self) {
        if let Some(gatherer) = &self.evidence {
            self.batch.evidence.extend(gatherer.found());
        }
    }

    /// A person lifts a block: the rule that made it respects that for a while.
    pub(super) fn respect(&mut self, order: &Order) {
        if order.part.is_none()
            && order.action != Action::Block
            && matches!(order.by.role(), Role::Operator | Role::Owner)
            && !self.has_second_chance(order)
        {
            let account = self.engine.sanctions.account(order.owner);
            let rule = match (account.block.map(|block| block.by), account.delay) {
                (Some(Actor::Rule(rule)), _) | (None, Some(Delay { rule, .. })) => rule,
                _ => return,
            };
            self.engine.judge.lifted(order.owner, &rule, order.at);
        }
    }

    /// An owner's unblock after too many errors is a second chance, with limits of its own.
    fn has_second_chance(&self, order: &Order) -> bool {
        let state = self.engine.sanctions.account(order.owner).state;
        order.by.role() == Role::Owner && order.action == Action::Unblock && state == ServiceState::Bounce
    }

    fn blocked_by(&self, owner: Owner) -> Option<Actor> {
        self.engine.sanctions.account(owner).block.map(|block| block.by)
    }
}

fn block(verdict: &Verdict, gates: Option<OrderId>, now: Time) -> Order {
    let by = Actor::Rule(verdict.rule.as_ref().into());
    Order {
        id: gates.unwrap_or_else(|| OrderId::new(now, clock::seed())),
        owner: verdict.owner,
        action: Action::Block,
        scope: verdict.scope.clone(),
        cause: verdict.cause,
        liftable_by: by.liftable_by(),
        by,
        reason: verdict.text(),
        at: if gates.is_some() { verdict.at } else { now },
        until: verdict.for_secs.map(|secs| now.plus_secs(i64::from(secs))),
        part: None,
        drip: None,
        spares: gates.is_some(),
    }
}

fn row(verdict: &Verdict, fate: Fate, order: String) -> VerdictRow {
    VerdictRow {
        at: verdict.at,
        owner: verdict.owner.0,
        rule: verdict.rule.to_string(),
        signal: verdict.signal.name().to_owned(),
        observed: verdict.observed,
        limit: verdict.limit,
        window: verdict.window_secs,
        action: verdict.measure.name().to_owned(),
        outcome: fate.name().to_owned(),
        scope: verdict.scope.to_string(),
        proven: verdict.proven,
        order,
    }
}
