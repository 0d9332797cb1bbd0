//! The pump's end of the gate: who is held is told to it, what it held is read from its tape.

use super::{Pump, rows};
use crate::app::gate::Over;
use crate::app::sizes;
use crate::engine::marks::Marks;
use crate::engine::turnstile::{Barred, Room};
use crate::host::clock;
use crate::host::tape::{Position, Record};
use crate::mail::{Dsn, OrderId, Owner, Place, Server};
use crate::metrics::GateTally;
use std::sync::Arc;

/// Log time has whole seconds, and a decision comes before its line.
const SLACK_SECS: i64 = 2;

impl Pump {
    /// Tells the gate who is held, and what their mail is known by.
    pub(super) fn tell_gate(&mut self) {
        if self.gate.is_none() && self.flags.is_none() {
            return;
        }
        let mut barred = Vec::new();
        for held in self.shared.standing().iter() {
            let accounts = &self.engine.attribution.accounts;
            let Some(known) = accounts.get(held.owner) else { continue };
            let (key, own) = (known.key.to_string(), known.uid);
            let uids = self.uids_of(&key, own);
            let room = self.room(held.owner);
            barred.push(Barred { owner: held.owner, key, uids, scope: held.scope.clone(), order: held.order, room });
        }
        self.tell_flags(&barred);
        if let Some(gate) = &self.gate {
            gate.bar(barred);
        }
    }

    /// The same for a server that looks it up itself.
    fn tell_flags(&mut self, barred: &[Barred]) {
        if self.flags.is_none() {
            return;
        }
        let mut marks = Marks::default();
        for one in barred {
            let users = self.users_of(one);
            marks.add(self.engine.attribution.directory(), one, users);
        }
        if let Some(flags) = &mut self.flags {
            flags.tell(&marks);
        }
    }

    /// The names of the unix users whose mail is the account's, as the mail server is told them.
    fn users_of(&mut self, barred: &Barred) -> Vec<String> {
        let mut names: Vec<String> =
            barred.uids.iter().filter_map(|uid| self.names.user(*uid)).map(|user| user.login).collect();
        let directory = self.engine.attribution.directory();
        let listed = directory.accounts().iter().find(|spec| spec.id == barred.key);
        for user in listed.map_or_else(Vec::new, |spec| spec.unix_users.clone()) {
            // The name service does not answer: the name alone leads to the account.
            if self.names.user_named(user.as_bytes()).is_none() {
                names.push(user);
            }
        }
        names
    }

    /// The uids whose mail is the account's: those of the accounts file and of its unix users, or its own name's.
    fn uids_of(&mut self, key: &str, own: Option<u32>) -> Vec<u32> {
        let directory = self.engine.attribution.directory();
        let spec = directory.accounts().iter().find(|spec| spec.id == key);
        let (mut uids, users) = match spec {
            Some(spec) => (spec.uids.clone(), spec.unix_users.clone()),
            None => (own.into_iter().collect(), vec![key.to_owned()]),
        };
        for user in users {
            uids.extend(self.names.user_named(user.as_bytes()).map(|user| user.uid));
        }
        uids.extend(key.strip_prefix("uid").and_then(|uid| uid.parse::<u32>().ok()));
        let directory = self.engine.attribution.directory();
        // A uid that another account lists is that one's, whatever its user is called.
        uids.retain(|uid| directory.by_uid(*uid).is_none_or(|id| id == key));
        uids.sort_unstable();
        uids.dedup();
        uids
    }

    /// Messages that the mail server has queued without asking the gate. Log time has whole seconds.
    pub(super) fn find_bypass(&mut self) {
        let Some(gate) = &self.gate else { return };
        let opened = gate.opened();
        for one in std::mem::take(&mut self.arrived) {
            if gate.has_seen(one.id) {
                continue;
            }
            let before = self.alive.is_some_and(|alive| one.at > alive.plus_secs(SLACK_SECS));
            let when = match one.at {
                at if at >= opened.plus_secs(SLACK_SECS) => "open",
                at if before && at < opened => "away",
                _ => continue,
            };
            self.tally.bypass(one.origin, when);
            // It is swept at once, and not with the next minute.
            self.engine.slipped |= self.engine.sanctions.is_blocked(one.owner);
        }
    }

    fn room(&self, owner: Owner) -> Room {
        let (most, held) = (self.setup.max_held, self.engine.sanctions.held_sum(owner));
        Room {
            messages: most.messages.saturating_sub(held.messages),
            bytes: most.bytes.saturating_sub(held.bytes),
            heard: self.of_gate.get(&owner).copied().unwrap_or(0),
        }
    }

    /// Takes what was found of the messages on hold whose size was asked for, and asks for the next ones.
    fn learn_sizes(&mut self) {
        let now = clock::now();
        let Some(sizes) = &mut self.sizes else {
            // Nobody asks: they are not to pile up.
            self.engine.sanctions.take_unsized(usize::MAX);
            return;
        };
        for (owner, place, size) in sizes.found() {
            self.engine.sanctions.learn_size(owner, place, size, now);
        }
        if sizes.are_free() {
            sizes.ask(self.engine.sanctions.take_unsized(sizes::AT_ONCE));
        }
    }

    /// How much more of each blocked account may be held, and whether there is room on the disk at all.
    pub(super) fn tell_room(&mut self) {
        self.learn_sizes();
        let Some(gate) = &self.gate else { return };
        gate.set_room(self.shared.standing().iter().map(|one| (one.owner, self.room(one.owner))).collect());
        gate.look_at_disk(self.setup.min_free);
        let now = clock::now();
        for (owner, over) in gate.take_over() {
            let account = self.engine.attribution.accounts.name(owner);
            let Over { refused, discarded, recipients, listed } = over;
            let whom = match recipients {
                0 => String::new(),
                _ => format!(" ({recipients} recipients, {listed} of them in the errors)"),
            };
            let details = format!(
                "{refused} refused, {discarded} discarded{whom}: more is not held (hold.max_held, max_held_bytes, min_free)"
            );
            tracing::warn!("{account}: {details}");
            let record = self.engine.sanctions.overflow(owner, OrderId::new(now, clock::seed()), details, now);
            self.log_order(&record);
        }
    }

    /// Takes in what the gate has done since it was heard last.
    pub(super) fn hear_gate(&mut self) {
        if let Some(gate) = &self.gate {
            let tally = gate.take_tally();
            // Also on a host where nothing else happens, what the gate did is soon seen.
            self.gate_spoke |= tally != GateTally::default();
            self.tally.gate(&tally);
            gate.write_down();
        }
        self.read_tape();
        // A tape that cannot be written, in a directory that can: it is remembered all the same.
        for record in self.gate.as_ref().map_or_else(Vec::new, |gate| gate.take_unwritten()) {
            self.remember(record);
            self.durable = true;
        }
    }

    /// Remembers what the gate holds, so that it can be released.
    pub(super) fn read_tape(&mut self) {
        let Some(gate) = self.gate.clone() else { return };
        loop {
            let (records, bad, position) = match gate.tape.read(self.taped) {
                Ok(read) => read,
                Err(why) => {
                    tracing::error!(
                        "cannot read {}: {why}; what the gate holds stays on hold",
                        gate.tape.path().display()
                    );
                    return;
                }
            };
            if position == self.taped {
                return;
            }
            if bad > 0 {
                tracing::error!(
                    "{} has {bad} damaged records: those messages stay on hold",
                    gate.tape.path().display()
                );
            }
            for record in records {
                self.remember(record);
            }
            self.taped = position;
            self.batch.rows.push(rows::tape_row(position));
        }
    }

    fn remember(&mut self, record: Record) {
        if let Some(lost) = &record.lost {
            let why = "discarded: so much is on hold that no more is held (hold.max_held, max_held_bytes, min_free)";
            let recipients = lost.recipients.iter().map(|to| &**to);
            // RFC 3463: mailbox full.
            self.tell_deleted(record.at, record.owner, record.id, &lost.sender, recipients, Dsn::new(5, 2, 2), why);
            return;
        }
        *self.of_gate.entry(record.owner).or_default() += 1;
        let instance: Arc<[u8]> = record.instance.as_bytes().into();
        let place = Place { server: Server::Postfix, instance, id: record.id };
        if !self.engine.sanctions.note_held(record.owner, place, record.at) {
            tracing::error!("too many messages are held: {} is not remembered, and stays on hold", record.id);
        }
        // Messages that were held for an account that is free by now are released without waiting for their minute.
        self.mend = clock::monotonic();
    }

    /// The tape up to here is in the store.
    pub(super) fn trim_tape(&self, taped: Position) {
        if let Some(gate) = &self.gate
            && let Err(why) = gate.tape.trim(taped, clock::seed())
        {
            tracing::warn!("cannot begin {} afresh: {why}", gate.tape.path().display());
        }
    }
}
