//! Orders in the pump: taken, made durable, told to the gate, given out, settled.
//!
//! The order of things is what makes it safe: an order is in the store before it acts; the gate knows of a block before
//! the queue is swept, and of its end before anything is released; what came of the work is in the store before
//! anything more is done for the account.

use super::Pump;
use crate::app::barred;
use crate::app::dispatch::{Settled, WAITING};
use crate::app::selection::Waiting;
use crate::app::shared::{NotDone, OrderAnswer, OrderDone, answer as reply};
use crate::engine::keys;
use crate::engine::sanctions::{Outcome, Record};
use crate::host::clock;
use crate::host::killpoint::{self, Point};
use crate::mail::{
    self, Action, Dsn, Envelope, ErrorFact, HandedBy, Order, OrderId, Owner, Place, QueueId, ReplyClass, Scope, Time,
    text,
};
use crate::metrics::HoldGauge;
use crate::notify::Moment;
use crate::store::AuditRow;
use std::time::Duration;

/// A clock that is this much off at once was set; slewing is slower.
const LEAP_SECS: i64 = 30;
/// How often the gate is told how much more may be held, and the gauges are looked at.
const ROOM: Duration = Duration::from_secs(1);
/// Messages that are named one by one, of those that are told at once.
const MOST_TOLD: usize = 5;
/// How often what stands is compared with what the log says.
const MEND: Duration = Duration::from_secs(60);

impl Pump {
    pub(super) fn take_order(&mut self, order: &Order, answer: &OrderAnswer) {
        if let Some(why) = self.not_its_login(order) {
            return reply(answer, Err(NotDone::Refused(why)));
        }
        // What the gate holds so far falls under the order, also what it could not write down.
        self.hear_gate();
        let now = clock::now();
        let queued = self.engine.tracker.queued(|owner| owner == order.owner);
        self.respect(order);
        let record = self.engine.sanctions.accept(order, &queued, now);
        let (outcome, details) = (record.outcome, record.details.clone());
        self.log_order(&record, Moment::Ordered);
        killpoint::pass(Point::OrderTaken);
        self.boundary.get_or_insert(Point::OrderKept);
        let what = match order.action {
            Action::Block => "the block",
            Action::Unblock => "the unblock",
            Action::Purge => "the purge",
        };
        let result = if !self.commit_for(answer, what) {
            Err(super::people::stopping())
        } else if outcome == Outcome::Refused {
            Err(NotDone::Refused(details))
        } else {
            let account = self.engine.sanctions.account(order.owner);
            let (state, scope) = (account.state, account.block.map(|block| block.scope));
            Ok(OrderDone { outcome, details, state, scope })
        };
        reply(answer, result);
    }

    /// A block of a login that does not lead to the account would hold nothing: which do.
    fn not_its_login(&self, order: &Order) -> Option<String> {
        let (Action::Block, Scope::Login(login)) = (order.action, &order.scope) else { return None };
        let attribution = &self.engine.attribution;
        let known = attribution.accounts.get(order.owner)?;
        let (directory, key) = (attribution.directory(), &*known.key);
        let whose = keys::of_login(directory, login.as_bytes());
        if whose.text() == Some(key) {
            return None;
        }
        let spec = directory.accounts().iter().find(|spec| spec.id == key);
        let mut its: Vec<String> = spec.map_or_else(Vec::new, |spec| spec.logins.clone());
        its.extend(spec.into_iter().flat_map(|spec| &spec.domains).map(|domain| format!("all of @{domain}")));
        if keys::of_login(directory, key.as_bytes()).text() == Some(key) && key.contains('@') {
            its.push(key.to_owned());
        }
        let its = match its.is_empty() {
            true => "it has none that is known".to_owned(),
            false => format!("its logins: {}", its.join(", ")),
        };
        Some(format!("{login} is no login of {}, so that nothing would be held; {its}", known.name))
    }

    /// What of an account waits on hold.
    pub(super) fn waiting(&self, owner: Owner) -> Vec<Waiting> {
        let script = |place: &Place| self.engine.tracker.script_of(place).map(|claim| claim.path.clone());
        let waiting = self.engine.sanctions.waiting(owner).into_iter();
        waiting.map(|(place, since)| Waiting { script: script(&place).unwrap_or_default(), place, since }).collect()
    }

    /// Takes what came of works. Ends, and the comparison of what stands with what is, have their time here too.
    pub(super) fn keep_orders(&mut self, now: Time, caught_up: bool) {
        while let Ok(settled) = self.dispatch.settled.try_recv() {
            self.settle_work(&settled, now);
        }
        if self.engine.sanctions.next_wake().is_some_and(|at| at <= now) {
            for record in self.engine.sanctions.tick(now, || OrderId::new(now, clock::seed())) {
                self.log_order(&record, Moment::Ordered);
            }
            self.durable = true;
            killpoint::pass(Point::DueChosen);
        }
        self.pace();
        self.watch_clock(now);
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
            // A short time to hold is looked at more often.
            let held = u64::try_from(self.setup.hold.held_max_secs / 4).unwrap_or(1).max(1);
            self.mend = clock::monotonic() + MEND.min(Duration::from_secs(held));
            let (tracker, sanctions) = (&self.engine.tracker, &mut self.engine.sanctions);
            let queued = tracker.queued(|owner| sanctions.is_held(owner));
            sanctions.mend(&queued, |place| tracker.on_hold(place), now);
            for record in self.engine.sanctions.age(now, || OrderId::new(now, clock::seed())) {
                tracing::warn!(
                    "{}: {}; release or purge them: sendwarden unblock, sendwarden purge",
                    self.engine.attribution.accounts.name(record.owner),
                    record.details
                );
                self.log_order(&record, Moment::Ordered);
            }
            self.durable = true;
        }
        if clock::monotonic() >= self.look_at_room {
            self.look_at_room = clock::monotonic() + ROOM;
            self.tell_room();
            self.look_at_hold();
        }
    }

    /// What is held, for the gauges, and what was mended.
    fn look_at_hold(&mut self) {
        let drift = self.engine.sanctions.take_drift();
        for (kind, n) in [
            ("escaped", drift.escaped),
            ("left_over", drift.left_over),
            ("taken", drift.taken),
            ("gone", drift.gone),
            ("contradicted", drift.contradicted),
        ] {
            self.tally.drift(kind, n);
        }
        for (owner, n) in self.engine.sanctions.take_requeued() {
            tracing::warn!(
                "{}: {n} of its messages on hold were requeued (postsuper -r), which hands them in again past the gate; \
                 what of them is in the queue still is put on hold again. To let mail go: sendwarden unblock",
                self.engine.attribution.accounts.name(owner)
            );
        }
        let figures = self.engine.sanctions.figures();
        let blocked = figures.blocked.into_iter().map(|((state, cause), n)| (state, cause, n)).collect();
        let (messages, bytes, oldest) = (figures.messages, figures.bytes, figures.oldest);
        let (forced, delayed) = (figures.forced, figures.delayed);
        self.hold = HoldGauge { blocked, messages, bytes, oldest, forced, delayed };
    }

    /// A clock that was set makes nothing older: see `Sanctions::set_clock`.
    fn watch_clock(&mut self, now: Time) {
        let (before, began) = std::mem::replace(&mut self.clock, (now, clock::monotonic()));
        if let Some(leap) = leap(before, now, began.elapsed()) {
            tracing::warn!("the clock was set by {leap} s; the age of held messages is counted without that");
            self.engine.sanctions.set_clock(leap, now);
            self.durable = true;
        }
    }

    fn settle_work(&mut self, settled: &Settled, now: Time) {
        killpoint::pass(Point::WorkReported);
        self.dispatch.under_way = self.dispatch.under_way.saturating_sub(1);
        self.settle_disputes(settled, now);
        let (tracker, sanctions) = (&self.engine.tracker, &mut self.engine.sanctions);
        let on_hold = |place: &Place| tracker.on_hold(place) == Some(true);
        let Settled { order, owner, report } = settled;
        let record = sanctions.settle(*owner, *order, report, on_hold, now);
        if record.is_some() {
            let why = self.engine.sanctions.too_long();
            self.tally.dropped(report.envelopes.len() as u64);
            for envelope in &report.envelopes {
                self.tell_dropped(now, *owner, envelope, &why);
            }
        }
        if let Some(Some(record)) = record {
            self.log_order(&record, Moment::Settled);
        }
        if let Some(why) = &report.trouble
            && self.told_trouble.as_ref() != Some(why)
        {
            tracing::error!("holding, releasing or deleting mail in the queue: {why}; it is tried again each minute");
        }
        self.told_trouble.clone_from(&report.trouble);
        self.durable = true;
        killpoint::pass(Point::WorkSettled);
        self.boundary.get_or_insert(Point::SettledKept);
    }

    /// Whose the messages are of which the log and their queue files do not say the same.
    fn settle_disputes(&mut self, settled: &Settled, now: Time) {
        let Settled { owner, report, .. } = settled;
        let Some(known) = self.engine.attribution.accounts.get(*owner).filter(|_| !report.disputed.is_empty()) else {
            return;
        };
        let (key, directory) = (known.key.to_string(), self.engine.attribution.directory());
        let uids = barred::uids(directory, &mut self.names, &key, known.uid);
        let its = |by: &HandedBy| keys::is_of(directory, &key, &uids, by);
        let others = self.engine.sanctions.dispute(*owner, &report.disputed, its, now);
        let account = self.engine.attribution.accounts.name(*owner);
        for place in others.iter().take(MOST_TOLD) {
            tracing::warn!(
                "the log says that {} in the queue of {} is of {account}, and the queue file does not: it is let alone; \
                 somebody may write into the mail log",
                place.id,
                text::clean(&place.instance, 64)
            );
        }
        if others.len() > MOST_TOLD {
            tracing::warn!("and so of {} more", others.len() - MOST_TOLD);
        }
        // What is the account's all the same.
        self.engine.slipped = true;
    }

    /// One error for each recipient of a message that was held too long.
    fn tell_dropped(&mut self, at: Time, owner: Owner, envelope: &Envelope, why: &str) {
        let Envelope { place, sender, recipients } = envelope;
        let nobody: [Box<[u8]>; 1] = [Box::default()];
        let to = if recipients.is_empty() { &nobody[..] } else { recipients }.iter().map(|to| &**to);
        // RFC 3463: delivery time expired.
        self.tell_deleted(at, owner, place.id, sender, to, Dsn::new(4, 4, 7), why);
    }

    /// One error for each of these recipients: the message is gone, and nobody but the account's owner would miss it.
    #[allow(clippy::too_many_arguments, reason = "the fields of an error that differ")]
    pub(super) fn tell_deleted<'t>(
        &mut self,
        at: Time,
        owner: Owner,
        id: QueueId,
        sender: &[u8],
        recipients: impl Iterator<Item = &'t [u8]>,
        dsn: Dsn,
        why: &str,
    ) {
        for recipient in recipients {
            self.batch.push_error(&ErrorFact {
                at,
                owner,
                outcome: mail::Outcome::Deleted,
                late: false,
                id,
                sender,
                recipient,
                relay: b"",
                dsn,
                class: ReplyClass::Policy,
                own_address: None,
                reply: why.as_bytes(),
                script: None,
            });
        }
    }

    /// Everything that changed is in the store: the gate may know of it, and the work may begin.
    pub(super) fn orders_committed(&mut self) {
        if let Some(standing) = self.engine.sanctions.take_standing() {
            self.shared.set_standing(standing);
            self.tell_gate();
            // What was held for those who are free now is on the tape, and is released with the rest.
            self.read_tape();
            killpoint::pass(Point::GateTold);
        }
        // Others hear of a block when it is in force.
        self.hooks.hand_over();
        while self.dispatch.under_way < WAITING {
            let Some(mut work) = self.engine.sanctions.next_work() else { break };
            // After a start it is read from what the tracker has kept.
            for (place, claim) in work.claims.iter_mut().filter(|(_, claim)| claim.is_none()) {
                *claim = self.engine.tracker.handed_by(place);
            }
            self.dispatch.under_way += 1;
            if self.dispatch.works.try_send(work).is_err() {
                // The thread has ended: the next start does it.
                tracing::error!("the thread that holds and releases mail has ended; restart the agent");
                break;
            }
        }
    }

    pub(super) fn log_order(&mut self, record: &Record, moment: Moment) {
        self.tally.order(record.action.name(), record.outcome.name());
        self.batch.audit.push(audit_row(record));
        self.tell_hooks(record, moment);
        self.durable = true;
    }
}

/// By how many seconds the clock was set between two looks at it, when so much time had passed.
fn leap(before: Time, now: Time, passed: Duration) -> Option<i64> {
    let passed = i64::try_from(passed.as_micros()).unwrap_or(i64::MAX);
    let leap = now.0.saturating_sub(before.0).saturating_sub(passed) / 1_000_000;
    Some(leap).filter(|leap| leap.abs() > LEAP_SECS)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_clock_that_was_set_leaps() {
        let at = Time::from_secs;
        for (now, passed, found) in [
            (1_000, 0, None),
            (1_030, 0, None),
            (1_031, 0, Some(31)),
            (969, 0, Some(-31)),
            // The agent slept, and so did nothing else: time has passed.
            (9_000, 8_000, None),
            (90_000, 3_600, Some(85_400)),
            (1_000, 3_600, Some(-3_600)),
        ] {
            assert_eq!(leap(at(1_000), at(now), Duration::from_secs(passed)), found, "{now} {passed}");
        }
        assert!(leap(Time(i64::MIN), Time(i64::MAX), Duration::MAX).is_none_or(|leap| leap > 0));
    }
}
