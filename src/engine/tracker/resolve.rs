//! Waiting ends: a leg that may continue another message, that lingers or that was announced is decided.

use super::books;
use super::leg::{Came, Class, Ended, Leg, Seen};
use super::table::{Key, Slot};
use super::{Cx, REQUEUE_SECS, Tracker};
use crate::engine::Sink;
use crate::mail::{Outcome, Time};

/// Most incarnations of one id that linger: short ids come again within seconds (the inode is the same).
const MAX_LINGERING: usize = 8;

impl Tracker {
    pub(super) fn resolve_due<S: Sink>(&mut self, now: Time, cx: &mut Cx<'_, S>) {
        while let Some(slot) = self.table.due(now) {
            self.decide(slot, now, super::joins::MAX_CHAIN, cx);
        }
    }

    /// A leg's time is up. The leg that claimed it is decided before it, and as long as that one is waited for,
    /// so is this: what is handed down comes before what a leg has of its own.
    fn decide<S: Sink>(&mut self, slot: Slot, now: Time, depth: u32, cx: &mut Cx<'_, S>) {
        let claimer = self.claimer(slot).filter(|_| depth > 0);
        let waited = claimer
            .and_then(|up| self.table.get(up))
            .filter(|up| matches!(up.class, Class::Waiting | Class::Child) && up.deadline != Time::ZERO);
        match (claimer, waited.map(|up| up.deadline)) {
            (Some(_), Some(later)) if later > now => return self.table.set_deadline(slot, later),
            (Some(up), Some(_)) => self.decide(up, now, depth - 1, cx),
            _ => {}
        }
        // It may have been decided with its claimer.
        if self.table.get(slot).is_some_and(|leg| leg.deadline != Time::ZERO && leg.deadline <= now) {
            self.resolve(slot, cx);
        }
    }

    /// The leg is not waited for any longer: what it has beyond what was handed to it is its own.
    pub(super) fn resolve<S: Sink>(&mut self, slot: Slot, cx: &mut Cx<'_, S>) {
        self.table.set_deadline(slot, Time::ZERO);
        let Some(leg) = self.table.edit(slot) else { return };
        match leg.class {
            Class::Unborn => {
                // Only a placeholder is waited for in this state.
                if matches!(leg.came, Came::Unseen) {
                    self.close(slot, Ended::Lost, cx);
                }
                return;
            }
            Class::Child if matches!(leg.came, Came::Named) => {
                // Nothing was said of it: it was gone before the log began, and the line that named it said sent.
                books::close_out(leg, Outcome::Sent, leg.open(), cx);
                self.close(slot, Ended::Lost, cx);
                return;
            }
            Class::Own => {}
            Class::Waiting | Class::Child => {
                self.stand_alone(slot, cx);
                if self.table.get(slot).is_some_and(|leg| leg.ended == Some(Ended::Requeued)) {
                    let deadline = self.high().plus_secs(REQUEUE_SECS);
                    return self.table.set_deadline(slot, deadline);
                }
            }
        }
        let Some(leg) = self.table.edit(slot) else { return };
        if let Some(ended) = leg.ended {
            books::end(leg, ended, cx);
            self.close(slot, ended, cx);
        }
    }

    /// Nobody claimed the leg in time, or not all of it: it is a message of its own from now on.
    fn stand_alone<S: Sink>(&mut self, slot: Slot, cx: &mut Cx<'_, S>) {
        let Some(leg) = self.table.edit(slot) else { return };
        let claimed = leg.class == Class::Child;
        leg.class = Class::Own;
        if leg.probe {
            return;
        }
        if matches!(leg.came, Came::Internal | Came::Unseen) && !leg.notification {
            // Its arrival was before the log began: counted as it is seen.
            leg.came = Came::Unseen;
            let n = keep_seen(leg);
            books::book(leg, n, cx);
        } else {
            if !claimed {
                books::message(leg, cx);
                books::script(leg, cx);
            }
            let known = leg.done.saturating_add(leg.spare_total());
            let n = leg.expected.max(known).saturating_sub(leg.booked);
            books::book(leg, n, cx);
        }
        books::recipients(leg, cx);
        self.use_spares(slot, cx);
    }

    /// What lines said of recipients before they were booked is counted.
    pub(super) fn use_spares<S: Sink>(&mut self, slot: Slot, cx: &mut Cx<'_, S>) {
        let Some(leg) = self.table.edit(slot) else { return };
        books::use_deferrals(leg, cx);
        while let Some(leg) = self.table.edit(slot) {
            if leg.spare_total() == 0 || leg.open() == 0 {
                break;
            }
            if let Some(next) = books::use_spare(leg, cx) {
                let after = self.next_in_chain(slot, next);
                self.pass(slot, after, cx);
            }
        }
    }

    pub(super) fn linger<S: Sink>(&mut self, slot: Slot, ended: Ended, secs: i64, cx: &mut Cx<'_, S>) {
        let Some(leg) = self.table.get(slot) else { return };
        // Few incarnations of an id linger at a time: the oldest is decided now.
        let (key, running) = (Key { host: leg.host, instance: leg.instance, id: leg.id }, leg.deadline);
        let older = self.table.lingering(key);
        if let Some(&oldest) = older.first().filter(|_| older.len() >= MAX_LINGERING) {
            self.lose(oldest, cx);
        }
        // A deadline that runs already stands: a parent is always decided before the legs it claimed.
        let deadline = match running {
            Time::ZERO => self.high().plus_secs(secs),
            running => running,
        };
        self.table.let_linger(slot, ended);
        self.table.set_deadline(slot, deadline);
    }
}

/// Of a message whose arrival was not seen only recipients that a line named, or that were handed to it, count: how
/// many are still to be booked. Outcomes that came from its end, which speaks for all recipients, are dropped.
fn keep_seen(leg: &mut Leg) -> u32 {
    let seen = leg.seen.recipients();
    let deferred = leg.seen.iter().filter(|(_, seen)| *seen == Seen::Deferred).count() as u32;
    let still_open = if leg.ended.is_some() { 0 } else { deferred };
    let all = seen.max(leg.booked);
    let keep = (all - still_open.min(all)).saturating_sub(leg.done);
    let mut excess = leg.spare_total().saturating_sub(keep);
    for outcome in [Outcome::Unaccounted, Outcome::Deleted, Outcome::Expired] {
        if let Some(spare) = leg.spare.get_mut(outcome.code() as usize) {
            let cut = excess.min(*spare);
            *spare -= cut;
            excess -= cut;
        }
    }
    leg.expected = leg.booked;
    all - leg.booked
}
