//! The pump's end of the gate: who is held is told to it, what it held is read from its tape.

use super::projection::Projection;
use super::{Pump, rows};
use crate::app::flags::Told;
use crate::app::gate::Over;
use crate::app::{barred, sizes};
use crate::engine::marks::Marks;
use crate::engine::ruled::{Lost, NotHeld, Ruled};
use crate::engine::turnstile::{Barred, Room};
use crate::host::clock;
use crate::host::tape::{Position, Record};
use crate::mail::{Dsn, OrderId, Origin, Owner, Server, Time};
use crate::metrics::{Decision, GateTally};
use crate::notify::Moment;

/// Log time has whole seconds, and a decision comes before its line.
const SLACK_SECS: i64 = 2;

/// What the recipients of discarded mail are told of (RFC 3463: mailbox full), and why.
const NO_ROOM: Dsn = Dsn::new(5, 2, 2);
const DISCARDED: &str = "discarded: so much is on hold that no more is held (hold.max_held, max_held_bytes, min_free)";

/// No more may be held.
const fn is_full(room: Room) -> bool {
    room.messages == 0 || room.bytes == 0
}

impl Pump {
    /// Tells the gate who is held, and what their mail is known by.
    pub(super) fn tell_gate(&mut self) {
        if self.gate.is_none() && self.flags.is_none() {
            return;
        }
        let mut all = Vec::new();
        for held in self.shared.standing().iter() {
            let accounts = &self.engine.attribution.accounts;
            let Some(known) = accounts.get(held.owner) else { continue };
            let (key, own) = (known.key.to_string(), known.uid);
            let directory = self.engine.attribution.directory();
            let uids = barred::uids(directory, &mut self.names, &key, own);
            let room = self.room(held.owner);
            let (owner, scope, order, slow) = (held.owner, held.scope.clone(), held.order, held.slow);
            all.push(Barred { owner, key, uids, scope, order, room, slow });
        }
        self.tell_flags(&all);
        self.tell_spared();
        if let Some(gate) = &self.gate {
            let (messages, bytes) = (self.setup.max_held.messages, self.setup.max_held.bytes);
            gate.set_most(Room { messages, bytes, heard: 0 });
            gate.bar(all);
        }
    }

    /// The same for a server that looks it up itself.
    fn tell_flags(&mut self, all: &[Barred]) {
        if self.flags.is_none() {
            return;
        }
        let low = self.gate.as_ref().is_some_and(|gate| gate.is_low());
        let (mut held, mut full) = (Marks::default(), Marks::default());
        self.full.clear();
        // Who is slowed down is held by the gate alone: what was released of it is to pass where the server looks.
        for one in all.iter().filter(|one| !one.slow) {
            let directory = self.engine.attribution.directory();
            let users = barred::users(directory, &mut self.names, one);
            if low || is_full(one.room) {
                self.full.insert(one.owner);
                full.add(directory, one, users.clone());
            }
            held.add(directory, one, users);
        }
        let told = Told {
            held,
            full,
            refuse_logins: self.setup.gate.as_ref().is_some_and(|gate| gate.refuse_logins),
            volume: !self.armed.is_empty(),
            networks: self.engine.attribution.directory().networks().map(|net| format!("{net}\n")).collect(),
        };
        if let Some(flags) = &mut self.flags {
            flags.tell(&told);
        }
    }

    /// A server that looks for flags finds at once of whom no more may be held, or more again.
    fn tell_full(&mut self) {
        if self.flags.is_none() {
            return;
        }
        let low = self.gate.as_ref().is_some_and(|gate| gate.is_low());
        let standing = self.shared.standing();
        let full = |owner| low || is_full(self.room(owner));
        if standing.iter().any(|one| !one.slow && full(one.owner) != self.full.contains(&one.owner)) {
            self.tell_gate();
        }
    }

    /// What our rules did at a server that looks for flags, as its log says.
    pub(super) fn hear_rules(&mut self) {
        let ruled = std::mem::take(&mut self.engine.ruled);
        if ruled == Ruled::default() {
            return;
        }
        let mut tally = GateTally::default();
        let kinds =
            [(Decision::Held, ruled.held), (Decision::Refused, ruled.refused), (Decision::Discarded, ruled.discarded)];
        for (decision, counts) in kinds {
            Origin::ALL.into_iter().zip(counts).for_each(|(origin, n)| tally.decided_of(origin, decision, n));
        }
        self.tally.gate(&tally);
        for (owner, NotHeld { refused, discarded, recipients }) in ruled.not_held {
            if let Some(gate) = &self.gate {
                gate.note_over(owner, Over { refused, discarded, recipients, ..Over::default() });
            }
        }
        self.tell_lost(ruled.lost);
        self.tell_full();
    }

    /// One error for each recipient of what they threw away, as far as a block may have them.
    fn tell_lost(&mut self, lost: Vec<(Owner, Time, Lost)>) {
        let standing = self.shared.standing();
        for (owner, at, Lost { id, sender, recipients, .. }) in lost {
            let order = standing.iter().find(|one| one.owner == owner).map(|one| one.order).unwrap_or_default();
            let mut may = recipients.len() as u64;
            if let Some(gate) = &self.gate {
                may = gate.may_list(owner, order, may);
                gate.note_over(owner, Over { listed: may, ..Over::default() });
            }
            let recipients = recipients.iter().take(usize::try_from(may).unwrap_or(usize::MAX)).map(|to| &**to);
            self.tell_deleted(at, owner, id, &sender, recipients, NO_ROOM, DISCARDED);
        }
    }

    /// Messages that the mail server has queued without asking the gate. Log time has whole seconds.
    pub(super) fn find_bypass(&mut self) {
        let Some(gate) = &self.gate else { return };
        let opened = gate.opened();
        for one in std::mem::take(&mut self.arrived) {
            // A server asks nobody any more about a message that a milter before us has put on hold.
            if gate.has_seen(one.id) || !one.asked || !gate.is_asked_by(one.server) || self.engine.tracker.holds(one.id)
            {
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
            self.engine.sanctions.believe_log(now);
            return;
        };
        for (owner, place, look) in sizes.found() {
            let on_hold = self.engine.tracker.on_hold(&place) == Some(true);
            self.engine.sanctions.looked(owner, place, look, on_hold, now);
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
        let (now, over) = (clock::now(), gate.take_over());
        self.tell_full();
        for (owner, over) in over {
            let account = self.engine.attribution.accounts.name(owner);
            let Over { refused, discarded, recipients, listed } = over;
            let whom = match recipients {
                0 => String::new(),
                _ => {
                    let word = if recipients == 1 { "recipient" } else { "recipients" };
                    format!(" ({recipients} {word}, {listed} of them in the errors)")
                }
            };
            let details = format!(
                "{refused} refused, {discarded} discarded{whom}: more is not held (hold.max_held, max_held_bytes, min_free)"
            );
            tracing::warn!("{account}: {details}");
            let record = self.engine.sanctions.overflow(owner, OrderId::new(now, clock::seed()), details, now);
            self.log_order(&record, Moment::Ordered);
        }
    }

    /// Takes in what the gate has done since it was heard last.
    pub(super) fn hear_gate(&mut self) {
        self.hear_rules();
        if let Some(gate) = &self.gate {
            let tally = gate.take_tally();
            // Also on a host where nothing else happens, what the gate did is soon seen.
            self.gate_spoke |= tally != GateTally::default();
            self.tally.gate(&tally);
            gate.write_down();
        }
        self.read_tape();
        for (owner, order, at, crossed) in self.gate.as_ref().map_or_else(Vec::new, |gate| gate.take_crossings()) {
            self.crossed(owner, order, at, &crossed);
        }
        // A tape that cannot be written, in a directory that can: it is remembered all the same.
        for record in self.gate.as_ref().map_or_else(Vec::new, |gate| gate.take_unwritten()) {
            self.remember(record);
            self.durable = true;
        }
    }

    /// Remembers what the gate holds, so that it can be released.
    pub(super) fn read_tape(&mut self) {
        let (Some(gate), Some(ahead)) = (&self.gate, &mut self.ahead) else { return };
        let heard = ahead.take();
        let path = gate.tape.path().display();
        if let Some(why) = heard.trouble {
            tracing::error!("cannot read {path}: {why}; what the gate holds stays on hold");
        }
        if heard.bad > 0 {
            tracing::error!("{path} has {} damaged records: those messages stay on hold", heard.bad);
        }
        for record in heard.records {
            self.remember(record);
        }
        if heard.position != self.taped {
            self.taped = heard.position;
            self.batch.rows.push(rows::tape_row(heard.position));
        }
    }

    fn remember(&mut self, record: Record) {
        if let Some(lost) = &record.lost {
            let recipients = lost.recipients.iter().map(|to| &**to);
            self.tell_deleted(record.at, record.owner, record.id, &lost.sender, recipients, NO_ROOM, DISCARDED);
            return;
        }
        if let Some(crossed) = &record.crossed {
            self.crossed(record.owner, record.order, record.at, crossed);
        }
        if record.crossed.is_none() {
            self.go_on(record.owner, record.order);
        }
        *self.of_gate.entry(record.owner).or_default() += 1;
        let place = record.place();
        // Exim's log tells at once how many there are, and lists each of them once.
        let recipients = if record.server == Server::Postfix { record.recipients } else { 0 };
        if self.engine.sanctions.note_held(record.owner, place.clone(), record.at) {
            self.engine.sanctions.note_recipients(record.owner, &place, recipients);
        } else {
            tracing::error!("too many messages are held: {} is not remembered, and stays on hold", record.id);
        }
        let mut sink = Projection { batch: &mut self.batch, tally: &mut self.tally, arrived: None, ahead: None };
        self.engine.learn_recipients(place, recipients, record.at, &mut sink);
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
