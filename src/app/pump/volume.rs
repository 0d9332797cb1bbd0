//! Volume, in the pump: the gate is told what the log has told, and a limit that it has seen crossed becomes an order.
//!
//! The gate holds the message first and says so on its tape, so that a crash in between changes nothing: the order has the
//! id that the gate gave it, and it is made when the tape is read.

use super::Pump;
use crate::app::gate::Mode;
use crate::app::ingest;
use crate::engine::attribution::{Arrival, Wanted};
use crate::engine::rules::volume::{Armed, Member, News, Sender};
use crate::host::clock;
use crate::host::tape::Crossed;
use crate::mail::{Measure, OrderId, Owner, QueueId, Scope, Server, Time, Verdict};
use std::sync::Arc;

impl Pump {
    /// The gate judges the rules that are armed now; who is known is told to it.
    pub(super) fn arm_gate(&mut self) {
        let Some(gate) = &self.gate else { return };
        let may_block = gate.mode() == Mode::Enforce && self.engine.judge.muted().is_none();
        let armed = if may_block { Armed::of(self.engine.rules.rules()) } else { Armed::default() };
        self.armed = Arc::new(armed);
        let members = if self.armed.is_empty() {
            Vec::new()
        } else {
            let directory = self.engine.attribution.directory();
            let uids = |key: &str, own: Option<u32>| {
                let listed = directory.account(key).map(|spec| spec.uids.clone());
                let mut uids = listed.unwrap_or_else(|| own.into_iter().collect());
                uids.retain(|uid| directory.by_uid(*uid).is_none_or(|id| id == key));
                uids
            };
            let open = self.engine.attribution.accounts.iter().filter(|known| known.closed.is_none());
            let member = |key: &str, owner, uids| Member { owner, key: key.to_owned(), uids };
            open.map(|known| member(&known.key, known.owner, uids(&known.key, known.uid))).collect()
        };
        self.engine.rules.share(Arc::clone(&self.armed));
        gate.judge_volume(Arc::clone(&self.armed), members);
        self.tell_spared();
        self.tell_going();
        self.tell_volume(false);
    }

    /// Whom no rule blocks, or not this one now.
    pub(super) fn tell_spared(&self) {
        let Some(gate) = self.gate.as_ref().filter(|_| !self.armed.is_empty()) else { return };
        let judge = &self.engine.judge;
        let exempt = |key: &str| judge.enforcement().exempt.iter().any(|account| account == key);
        let accounts = self.engine.attribution.accounts.iter().filter(|known| exempt(&known.key));
        let mut spared = judge.spared(clock::now());
        spared.extend(accounts.map(|known| (known.owner, None)));
        gate.spare(spared);
    }

    /// What the log has told since the last call. `whole`: it was read to its end.
    pub(super) fn tell_volume(&mut self, whole: bool) {
        let Some(gate) = self.gate.clone().filter(|_| !self.armed.is_empty()) else {
            self.engine.tracker.take_left();
            return;
        };
        let strangers = gate.take_strangers();
        let known = !strangers.is_empty();
        let members: Vec<Member> = strangers.into_iter().filter_map(|sender| self.introduce(sender)).collect();
        if known {
            gate.learn(members);
            self.tell_spared();
        }
        let read_up_to = whole.then(|| self.engine.tracker.high());
        let news = News {
            changes: self.engine.rules.moved(),
            arrived: self.arrived.iter().map(|one| one.id).collect(),
            left: self.engine.tracker.take_left(),
            read_up_to,
            budget: self.engine.judge.left(clock::now()),
        };
        gate.hear(news, whole);
    }

    /// Who somebody is that the gate has seen for the first time.
    fn introduce(&mut self, sender: Sender) -> Option<Member> {
        let now = clock::now();
        let attribution = &mut self.engine.attribution;
        let (owner, uids) = match sender {
            Sender::Uid(uid) => {
                if !attribution.knows_user(uid) {
                    attribution.learn_user(uid, ingest::user(&mut self.names, Wanted::Uid(uid)));
                }
                (attribution.attribute(Arrival::Uid(uid), &[], now).owner, vec![uid])
            }
            Sender::Key(key) if attribution.directory().account(&key).is_some() => {
                (attribution.accounts.intern_listed(&key, now), Vec::new())
            }
            Sender::Key(key) => (attribution.attribute(Arrival::Login(key.as_bytes()), &[], now).owner, Vec::new()),
        };
        let known = attribution.accounts.get(owner).filter(|_| owner.is_account())?;
        Some(Member { owner, key: known.key.to_string(), uids })
    }

    /// The gate has held a message because it crosses a limit.
    pub(super) fn crossed(&mut self, owner: Owner, order: OrderId, at: Time, crossed: &Crossed) {
        let Some(rule) = self.armed.rule(&crossed.rule).cloned() else { return self.let_pass(order) };
        let login = crossed.login.as_bytes();
        // In the time of the log, which may be behind.
        let high = self.engine.tracker.high();
        let first = self.engine.rules.spoke(owner, login, &rule, if high == Time::ZERO { at } else { at.min(high) });
        let scope = match rule.lane {
            crate::engine::rules::Lane::Script => Scope::Script,
            crate::engine::rules::Lane::All => Scope::All,
            crate::engine::rules::Lane::Login => Scope::Login(crossed.login.clone()),
        };
        let verdict = Verdict {
            at,
            owner,
            rule: rule.name.clone(),
            signal: rule.signal,
            observed: crossed.observed,
            limit: rule.limit,
            window_secs: rule.window_secs,
            measure: rule.measure,
            scope,
            cause: rule.cause,
            for_secs: rule.for_secs,
            proven: true,
            incident: false,
        };
        if rule.measure == Measure::Slow {
            return self.slow_down(verdict, order, first);
        }
        self.let_go_on(owner);
        self.pronounce(verdict, Some(order), clock::now());
    }

    /// What was within the limit leaves also where the server looks for flags as it delivers.
    fn let_go_on(&self, owner: Owner) {
        let (Some(gate), Some(flags)) = (&self.gate, &self.flags) else { return };
        let queued = self.engine.tracker.queued(|of| of == owner).into_iter();
        let mut ids: Vec<QueueId> =
            queued.filter(|one| one.place.server == Server::Exim).map(|one| one.place.id).collect();
        ids.extend(gate.let_through(owner));
        if let Err(why) = flags.passes().set(&ids, true) {
            tracing::error!("{why}; what was within the limit may be kept back until the block is lifted");
        }
    }

    /// What the gate has held for this is held for nobody.
    pub(super) fn let_pass(&self, order: OrderId) {
        if let Some(gate) = &self.gate {
            gate.let_pass(order);
        }
    }
}
