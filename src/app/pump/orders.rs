//! Orders in the pump: taken, made durable, told to the gate, given out, settled.
//!
//! The order of things is what makes it safe: an order is in the store before it acts; the gate knows of a block before
//! the queue is swept, and of its end before anything is released; what came of the work is in the store before
//! anything more is done for the account.

use super::Pump;
use crate::app::dispatch::{Settled, WAITING};
use crate::app::shared::{OrderAnswer, OrderDone};
use crate::engine::sanctions::{Outcome, Record};
use crate::host::clock;
use crate::mail::{Order, OrderId, Place, Time, text};
use crate::store::AuditRow;
use std::time::Duration;

/// How often what stands is compared with what the log says.
const MEND: Duration = Duration::from_secs(60);

impl Pump {
    pub(super) fn take_order(&mut self, order: &Order, answer: &OrderAnswer) {
        let now = clock::now();
        let queued = self.engine.tracker.queued(|owner| owner == order.owner);
        let record = self.engine.sanctions.accept(order, &queued, now);
        let (outcome, details) = (record.outcome, record.details.clone());
        self.log_order(&record);
        let result = if !self.commit(true) {
            Err("the agent is stopping; ask again when it is back".to_owned())
        } else if outcome == Outcome::Refused {
            Err(details)
        } else {
            let state = self.engine.sanctions.account(order.owner).state;
            Ok(OrderDone { outcome, details, state })
        };
        if answer.try_send(result).is_err() {
            tracing::debug!("an answer was not waited for");
        }
    }

    /// Takes what came of works. Ends, and the comparison of what stands with what is, have their time here too.
    pub(super) fn keep_orders(&mut self, now: Time, caught_up: bool) {
        while let Ok(settled) = self.dispatch.settled.try_recv() {
            self.settle_work(&settled, now);
        }
        if self.engine.sanctions.next_wake().is_some_and(|at| at <= now) {
            for record in self.engine.sanctions.tick(now, || OrderId::new(now, clock::seed())) {
                self.log_order(&record);
            }
            self.durable = true;
        }
        // What slipped past while work was under way would be passed over.
        if self.engine.slipped && self.dispatch.under_way == 0 {
            self.engine.slipped = false;
            self.mend = clock::monotonic();
        }
        let unremembered = self.engine.unremembered;
        if std::mem::replace(&mut self.told_unremembered, unremembered) != unremembered {
            tracing::error!("too many messages are held: {unremembered} are not remembered, and stay on hold");
        }
        if clock::monotonic() >= self.compare_flags {
            self.compare_flags = clock::monotonic() + MEND;
            // Those that somebody made or removed.
            self.tell_gate();
        }
        if caught_up && clock::monotonic() >= self.mend && !self.engine.sanctions.is_idle() {
            self.mend = clock::monotonic() + MEND;
            let (tracker, sanctions) = (&self.engine.tracker, &mut self.engine.sanctions);
            let queued = tracker.queued(|owner| sanctions.is_held(owner));
            sanctions.mend(&queued, |place| tracker.on_hold(place), now);
            self.durable = true;
        }
    }

    fn settle_work(&mut self, settled: &Settled, now: Time) {
        self.dispatch.under_way = self.dispatch.under_way.saturating_sub(1);
        let (tracker, sanctions) = (&self.engine.tracker, &mut self.engine.sanctions);
        let on_hold = |place: &Place| tracker.on_hold(place) == Some(true);
        let Settled { order, owner, report } = settled;
        let record = sanctions.settle(*owner, *order, report, on_hold, now);
        if let Some(Some(record)) = record {
            self.log_order(&record);
        }
        if let Some(why) = &report.trouble
            && self.told_trouble.as_ref() != Some(why)
        {
            tracing::error!("holding, releasing or deleting mail in the queue: {why}; it is tried again each minute");
        }
        self.told_trouble.clone_from(&report.trouble);
        self.durable = true;
    }

    /// Everything that changed is in the store: the gate may know of it, and the work may begin.
    pub(super) fn orders_committed(&mut self) {
        if let Some(standing) = self.engine.sanctions.take_standing() {
            self.shared.set_standing(standing);
            self.tell_gate();
            // What was held for those who are free now is on the tape, and is released with the rest.
            self.read_tape();
        }
        while self.dispatch.under_way < WAITING {
            let Some(work) = self.engine.sanctions.next_work() else { break };
            self.dispatch.under_way += 1;
            if self.dispatch.works.try_send(work).is_err() {
                // The thread has ended: the next start does it.
                tracing::error!("the thread that holds and releases mail has ended; restart the agent");
                break;
            }
        }
    }

    fn log_order(&mut self, record: &Record) {
        self.batch.audit.push(audit_row(record));
        self.durable = true;
    }
}

fn audit_row(record: &Record) -> AuditRow {
    let shown = |text: &str| text::clean(text.as_bytes(), 512);
    AuditRow {
        at: record.at,
        owner: record.owner.0,
        order: record.order.to_string(),
        action: record.action.name().to_owned(),
        scope: record.scope.as_ref().map(|scope| shown(&scope.to_string())).unwrap_or_default(),
        by: shown(&record.by.to_string()),
        reason: shown(&record.reason),
        outcome: record.outcome.name().to_owned(),
        details: shown(&record.details),
    }
}
