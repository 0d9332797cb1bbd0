//! Accounts that are slowed down: what is beyond their limit is held by the gate, and leaves here, oldest first, as its window
//! frees. The gate knows how much may leave; it reserves for it as for mail that it lets through.

use super::Pump;
use crate::engine::rules::Fate;
use crate::engine::rules::volume::Going;
use crate::engine::sanctions::Delay;
use crate::host::clock;
use crate::mail::{OrderId, Origin, Owner, Place, Time, Verdict};

/// Messages that are looked at in one turn.
const AT_ONCE: usize = 500;
/// The log has told by then of a message that is in the queue.
const TOLD_SECS: i64 = 60;
/// Delays that have just ended and are remembered: what the gate has held for one meanwhile belongs to it.
const MOST_ENDED: usize = 1_000;

impl Pump {
    /// A limit was crossed by a message that the gate holds for this order. `first`: the rule has not spoken in its window.
    pub(super) fn slow_down(&mut self, verdict: Verdict, order: OrderId, first: bool) {
        let Some(known) = self.engine.attribution.accounts.get(verdict.owner) else { return self.let_pass(order) };
        let key = known.key.clone();
        let now = clock::now();
        let mut fate = self.engine.judge.decide(&Verdict { at: now, ..verdict.clone() }, &key, now);
        if fate == Fate::Delays {
            let (rule, scope, reason) = (verdict.rule.as_ref().into(), verdict.scope.clone(), verdict.text());
            let delay = Delay { order, rule, scope, reason, since: verdict.at };
            if !self.engine.sanctions.slow_down(verdict.owner, delay) {
                fate = Fate::Already;
            }
            self.durable = true;
        }
        if fate != Fate::Delays {
            self.let_pass(order);
        }
        if first {
            self.write_down(&verdict, fate, String::new());
        }
    }

    /// Lets go whose turn it is.
    pub(super) fn pace(&mut self) {
        for owner in self.engine.sanctions.delayed() {
            // Thousands may wait.
            if self.gate.as_ref().is_some_and(|gate| !gate.has_room(owner)) {
                continue;
            }
            let next = self.engine.sanctions.next_in_turn(owner, AT_ONCE);
            if next.is_empty() {
                self.end_delay(owner);
                continue;
            }
            let now = clock::now();
            let going: Vec<Going> = next.iter().map_while(|place| self.going(owner, place, now)).collect();
            // Where nobody counts any more nobody is slowed down.
            let gone = self.gate.as_ref().map_or(going.len(), |gate| gate.let_go(going));
            if gone > 0 {
                self.engine.sanctions.take_turn(owner, next.into_iter().take(gone).collect());
                self.durable = true;
            }
        }
    }

    /// A message that waits for its turn. None while the log has not told of it.
    fn going(&self, owner: Owner, place: &Place, now: Time) -> Option<Going> {
        let known = self.engine.tracker.going_of(place);
        // One of which the log never told, or not whose it is.
        let since = self.engine.sanctions.held_since(owner, place)?;
        let lost = Going { owner, id: place.id, origin: Origin::Script, login: Box::default(), recipients: 1 };
        known.filter(|one| one.owner == owner).or_else(|| (now.secs_since(since) > TOLD_SECS).then_some(lost))
    }

    fn end_delay(&mut self, owner: Owner) {
        let delay = self.engine.sanctions.account(owner).delay;
        if !self.engine.sanctions.end_delay(owner) {
            return;
        }
        self.durable = true;
        let name = self.engine.attribution.accounts.name(owner);
        tracing::info!("{name}: nothing waits any more, its mail passes as it comes");
        if self.ended.len() >= MOST_ENDED {
            self.ended.clear();
        }
        self.ended.extend(delay.map(|delay| (owner, delay)));
    }

    /// The gate has held a message for a delay that was just ending: it goes on.
    pub(super) fn go_on(&mut self, owner: Owner, order: OrderId) {
        let delay = self.ended.get(&owner).filter(|delay| delay.order == order).cloned();
        if let Some(delay) = delay
            && self.engine.sanctions.slow_down(owner, delay)
        {
            self.ended.remove(&owner);
        }
    }

    /// Tells the gate what is about to leave that it was not asked about.
    pub(super) fn tell_going(&self) {
        let Some(gate) = self.gate.as_ref().filter(|_| self.armed.paces()) else { return };
        let tracker = &self.engine.tracker;
        let mut going = tracker.going();
        for owner in self.engine.sanctions.slowed() {
            going.extend(self.engine.sanctions.leaving(owner).iter().filter_map(|place| tracker.going_of(place)));
        }
        gate.resume(going);
    }
}
