//! What people say to the rules, in the pump: whether they may block, and that what one of them did is taken back.

use super::Pump;
use super::people::stopping;
use crate::app::shared::{NotDone, Reply, Undo, Undone, answer as reply};
use crate::engine::sanctions::Outcome;
use crate::host::clock;
use crate::mail::{Action, Actor, Cause, Order, OrderId, Owner, Scope, Time};
use crate::notify::Moment;

impl Pump {
    /// Whether rules may block. What the configuration says of a dry run stands beside it.
    pub(super) fn enforce(&mut self, on: bool, by: &Actor, answer: &Reply<bool>) {
        let changed = self.engine.judge.enforce(on);
        if changed {
            self.arm_gate();
            self.tell_gate();
            tracing::warn!("enforcement {} by {by}", if on { "on" } else { "off: rules block nobody" });
        }
        let result = if self.commit_for(answer, "the change") { Ok(changed) } else { Err(stopping()) };
        reply(answer, result);
    }

    /// Unblocks whom a rule has blocked since then, as the operator would one by one.
    pub(super) fn undo(&mut self, undo: &Undo, answer: &Reply<Vec<Undone>>) {
        let now = clock::now();
        let mut undone = Vec::new();
        for owner in self.engine.sanctions.blocked().collect::<Vec<Owner>>() {
            let Some(block) = self.engine.sanctions.account(owner).block else { continue };
            if block.by != Actor::Rule(undo.rule.as_str().into()) || block.since < undo.since {
                continue;
            }
            let held = self.engine.sanctions.held(owner);
            let account = self.engine.attribution.accounts.name(owner).to_owned();
            let (outcome, details) =
                if undo.dry_run { ("would_unblock", String::new()) } else { self.take_back(owner, undo, now) };
            undone.push(Undone { account, blocked: block.since, reason: block.reason, held, outcome, details });
        }
        let whole = undo.dry_run || undone.is_empty() || self.commit_for(answer, "what is taken back");
        reply(answer, if whole { Ok(undone) } else { Err::<_, NotDone>(stopping()) });
    }

    fn take_back(&mut self, owner: Owner, undo: &Undo, now: Time) -> (&'static str, String) {
        let order = Order {
            id: OrderId::new(now, clock::seed()),
            owner,
            action: Action::Unblock,
            scope: Scope::default(),
            cause: Cause::Person,
            liftable_by: undo.by.liftable_by(),
            by: undo.by.clone(),
            reason: format!("undo of rule {}", undo.rule),
            at: now,
            until: None,
            part: None,
            drip: None,
            spares: false,
        };
        self.respect(&order);
        let record = self.engine.sanctions.accept(&order, &[], now);
        let (outcome, details) = (record.outcome, record.details.clone());
        if outcome != Outcome::Already {
            self.log_order(&record, Moment::Ordered);
        }
        (outcome.name(), details)
    }
}
