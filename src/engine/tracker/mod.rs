//! The tracker: events about queue ids become facts about messages.
//!
//! It joins the legs of a message (retries, content-filter hops, requeues, forwards, notifications), counts each
//! message and recipient once, and keeps the books balanced after every single event (design section 1).
//! It never counts by itself: it emits facts, and `ledger` adds them up. Its memory is bounded: beyond
//! `max_open` legs the longest silent one is taken out of the books, and that is counted.
//!
//! The joining rules. A *leg* is the life of a message under one queue id; a leg continues one other at most.
//! - What a relay says (`queued as ID`) is believed of a relay on this host only, and joins only an unclaimed arrival
//!   over loopback without a login that carries the same Message-ID. What the server says itself (`forwarded as`, a
//!   requeue's old id, a notification's id) joins a leg that the server made itself.
//! - So a loopback arrival whose Message-ID is open already waits up to 30 s for the line that names it; so does a leg
//!   of which only the header was seen. Nothing of it is booked until then. What waited too long is its own message.
//! - A leg is decided after the leg that claimed it; recipients only move between legs of one owner.
//! - *Blind* is a leg whose arrival and header lines were before the log began. Nothing can be compared with it, so its
//!   hand-over lines are believed: of a loopback arrival, of a leg without arrival line, and of an id not heard of yet,
//!   which is then *named*: if it says nothing for 30 s, it was sent. While blind legs are taken up, loopback arrivals
//!   wait. Of messages older than the log only recipients count that a line names or a hand-over brings.
//! - Where a server counts recipients first and expands aliases later, the first recipient that comes of an accepted
//!   one takes its place, each further one is booked on top. Without a list at acceptance one is booked, until lines
//!   name more. A message handed on while it was accepted is known before its acceptance: it waits for it, 30 s.
//! - An id that comes again while its earlier life still waits has several lingering legs, 8 at most.

mod arrivals;
mod books;
mod comebacks;
mod deliveries;
mod evidence;
mod gated;
mod joins;
mod leg;
mod log_time;
mod places;
mod queued;
mod resolve;
mod rows;
mod sweep;
mod table;

pub use books::{Cx, Ending};
pub use gated::{Gated, Stopped};
pub use rows::{Row, RowKind, owner_of};

use crate::engine::Sink;
use crate::engine::ledger::Ledger;
use crate::engine::rules::Rules;
use crate::engine::sanctions::Queued;
use crate::engine::scripts::Scripts;
use crate::mail::{Event, Fact, Head, Kind, LegFact, Outcome, Place, QueueId, RecipientState, ScriptSource, Time};
use leg::{Came, Class, Details, Ended, Leg, Traits};
use log_time::{LogTime, Step};
use places::Places;
use sweep::Sweeps;
use table::{Key, Slot, Table};

/// Limits of the tracker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Most legs kept at a time.
    pub max_open: usize,
    /// Most recipients remembered by address per leg.
    pub max_recipients: usize,
    /// Keep texts (addresses, replies) for the message index and error reports.
    pub details: bool,
    /// Of these only what is said of the scripts that made messages: rules count them.
    pub scripts: bool,
    /// Keep what changed as rows for the store.
    pub keep_rows: bool,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { max_open: 1_000_000, max_recipients: 50_000, details: false, scripts: false, keep_rows: false }
    }
}

impl Settings {
    const fn claims(&self) -> bool {
        self.details || self.scripts
    }
}

/// How long a leg that may continue another message is waited for, in seconds of log time: the relay's reply
/// is logged within moments of the new id's first lines (measured; also on a loaded host).
const GRACE_SECS: i64 = 30;
/// A requeued message comes back when the pickup service gets to it.
const REQUEUE_SECS: i64 = 86_400;
/// An SMTP session that announced a recipient and never finished is forgotten.
const UNBORN_SECS: i64 = 6 * 3_600;
/// A message without any line for so long has left the queue unseen (the longest usual lifetime is days).
const SILENT_SECS: i64 = 30 * 86_400;

/// Most legs evicted for one that comes.
const EVICT_AT_ONCE: usize = 8;

/// Why legs were taken out of the books by the tracker itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Evictions {
    pub full: u64,
    pub silent: u64,
    /// The id came again while its message was still open.
    pub reused: u64,
}

#[derive(Debug)]
pub struct Tracker {
    settings: Settings,
    table: Table,
    places: Places,
    sweeps: Sweeps,
    scripts: Scripts,
    /// Until when a message whose header line was before the log may go on under a new id: at the beginning of the
    /// log, and as often as such a message is taken up for delivery.
    blind_until: Time,
    time: LogTime,
    /// Where the search for silent legs goes on.
    hand: u32,
    pub evictions: Evictions,
    /// Wildcard deletes and the like whose messages could not be told.
    pub ambiguous_sweeps: u64,
    /// What our own access rules at the server did since it was asked last.
    gated: Vec<Gated>,
    /// Messages that an administrator requeued: where they were, and where they are.
    came_back: Vec<(Place, Place)>,
    /// Messages that were tried for the first time, or went without that, where rules slow accounts down.
    left: Vec<QueueId>,
    /// Notifications that the server wrote about messages of accounts, as those messages' own.
    notices: Vec<Queued>,
    /// See `SPARE_DETAILS`.
    #[allow(clippy::vec_box, reason = "the boxes are what is kept")]
    spare_details: Vec<Box<Details>>,
}

impl Tracker {
    pub fn new(settings: Settings, seed: u64) -> Tracker {
        Tracker {
            table: Table::new(seed, settings.keep_rows),
            scripts: Scripts::new(settings.keep_rows),
            settings,
            places: Places::default(),
            sweeps: Sweeps::default(),
            blind_until: Time::ZERO,
            time: LogTime::default(),
            hand: 0,
            evictions: Evictions::default(),
            ambiguous_sweeps: 0,
            gated: Vec::new(),
            came_back: Vec::new(),
            left: Vec::new(),
            notices: Vec::new(),
            spare_details: Vec::new(),
        }
    }

    /// Queue ids that are followed now.
    pub fn open(&self) -> usize {
        self.table.len()
    }

    /// Legs that `take_rows` would give.
    pub fn changed(&self) -> usize {
        self.table.changed()
    }

    /// Highest log time seen so far.
    pub fn high(&self) -> Time {
        self.time.high()
    }

    pub fn next_deadline(&self) -> Option<Time> {
        self.table.next_deadline()
    }

    /// Looks at what is kept of the messages that lines will be about, all at once: it lies all over the memory, and the
    /// processor waits for several places together as long as for one. Changes nothing.
    pub fn fetch(&self, events: &[Event<'_>], ledger: &Ledger, rules: &Rules) {
        let mut sum = 0;
        for event in events {
            if let (Some(host), Some(id)) = (self.places.known_host(event.head.host), event.kind.id())
                && let Some(leg) = self.table.look(host, id)
            {
                sum ^= leg.touch() ^ ledger.look(leg.owner) ^ rules.look(leg.owner);
            }
        }
        std::hint::black_box(sum);
    }

    pub fn observe<S: Sink>(&mut self, event: &Event<'_>, cx: &mut Cx<'_, S>) {
        let head = &event.head;
        if let Kind::Script(ref script) = event.kind
            && script.from == ScriptSource::Interpreter
        {
            // Of another log, which may be read ahead of the mail log or behind it: not the time of messages.
            return self.called(head, script);
        }
        cx.at = head.at;
        if self.high() == Time::ZERO {
            self.blind_until = head.at.plus_secs(GRACE_SECS);
        }
        match self.time.see(head.at) {
            Step::Same => {}
            Step::Forward => {
                cx.now = self.high();
                self.resolve_due(cx.now, cx);
            }
            Step::Back => {
                cx.now = self.high();
                self.resolve_due(Time(i64::MAX), cx);
                self.blind_until = head.at.plus_secs(GRACE_SECS);
            }
        }
        match event.kind {
            Kind::Submitted { id, uid, sender, requeued_from } => {
                self.submitted(head, id, uid, sender, requeued_from, cx);
            }
            Kind::Received { id, client, address, login, hop_of } => {
                self.received(head, id, client, address, login, hop_of, cx);
            }
            Kind::Accepted(ref accepted) => self.accepted(head, accepted, cx),
            Kind::Identified { id, message_id } => self.identified(head, id, message_id, cx),
            Kind::Activated { id, sender, size, recipients } => self.activated(head, id, sender, size, recipients, cx),
            Kind::Attempt(ref attempt) => self.attempt(head, attempt, cx),
            Kind::Early(ref attempt) => self.early(head, attempt, cx),
            Kind::Added { id, recipient: _ } => self.added(head, id, cx),
            Kind::GivenUp { id } => self.given_up(head, id, cx),
            Kind::Notified { id, child, notice: _ } => self.notified(head, id, child, cx),
            Kind::Expired { id } => self.expired(head, id, cx),
            Kind::Ended { id, end } => self.ended(head, id, end, cx),
            Kind::Held { id: Some(id), by, sender } => self.held(head, id, by, sender, cx),
            Kind::Held { id: None, .. } => self.hold_next(head),
            Kind::Gated { id, ruling } => self.gated(head, id, ruling, cx),
            Kind::Released { id } => self.released(head, id, cx),
            Kind::Requeued { id } => self.requeued(head, id, cx),
            Kind::Swept { what, count } => self.swept(head, what, count, cx),
            Kind::Script(ref script) => self.script(head, script),
            Kind::LoginFailed { .. } => cx.emit(Fact::LoginFailed { at: head.at }),
        }
    }

    /// Time has passed without lines: what was waited for until `now`, the host's clock, is decided. To be called
    /// when the log has been read to its end, or what is waited for may still stand in the lines not read yet.
    /// `due` is log time: behind `now` where the log is written with a delay.
    pub fn tick<S: Sink>(&mut self, now: Time, due: Time, cx: &mut Cx<'_, S>) {
        cx.at = self.high();
        if self.time.tick(now) == Step::Back {
            self.resolve_due(Time(i64::MAX), cx);
            self.blind_until = now.plus_secs(GRACE_SECS);
            return;
        }
        self.resolve_due(due, cx);
        self.drop_silent(cx);
    }

    /// The host's clock, before lines are read; nothing is decided by it.
    pub fn look_at_clock(&mut self, now: Time) {
        self.time.look_at_clock(now);
    }

    /// The end of all input (`replay`): nothing is waited for any longer.
    pub fn finish<S: Sink>(&mut self, cx: &mut Cx<'_, S>) {
        cx.at = self.high();
        self.resolve_due(Time(i64::MAX), cx);
    }

    /// The live leg of an id. Services that log under a name of their own (an instance without a queue)
    /// mean an id of one of the instances that have one.
    fn locate(&mut self, head: &Head<'_>, id: QueueId) -> Result<Slot, Key> {
        let host = self.places.host(head.host);
        let instance = self.places.instance(head);
        let key = Key { host, instance, id };
        if let Some(slot) = self.table.find(key) {
            return Ok(slot);
        }
        let owned = self.places.has_queue(instance);
        let fits = |leg: &Leg| self.places.has_queue(leg.instance) != owned;
        let others = self.table.live(host, id);
        let other = others.into_iter().find(|&slot| self.table.get(slot).is_some_and(fits));
        match other {
            Some(slot) => {
                if owned {
                    self.table.rekey(slot, instance);
                }
                Ok(slot)
            }
            None if owned => Err(key),
            None => Err(Key { instance: self.places.last_queue().unwrap_or(instance), ..key }),
        }
    }

    /// The live leg of an id, or one that is first seen now, in the middle of its life.
    fn locate_or_join<S: Sink>(&mut self, head: &Head<'_>, id: QueueId, cx: &mut Cx<'_, S>) -> Slot {
        match self.locate(head, id) {
            Ok(slot) => {
                if self.table.get(slot).is_some_and(|leg| matches!(leg.came, Came::Named))
                    && let Some(leg) = self.table.edit(slot)
                {
                    leg.came = Came::Unseen;
                }
                slot
            }
            Err(key) => {
                let mut leg = self.leg(key, head.at);
                leg.class = Class::Own;
                self.insert(leg, cx)
            }
        }
    }

    fn leg(&mut self, key: Key, at: Time) -> Leg {
        let mut leg = Leg::new(key.host, key.instance, key.id, at);
        leg.server = self.places.server(key.instance);
        if self.settings.details {
            leg.details = Some(self.spare_details.pop().unwrap_or_default());
        }
        leg
    }

    fn insert<S: Sink>(&mut self, leg: Leg, cx: &mut Cx<'_, S>) -> Slot {
        // More than one when more than is allowed now was restored.
        for _ in 0..EVICT_AT_ONCE {
            if self.table.len() < self.settings.max_open {
                break;
            }
            self.evict_one(cx);
        }
        self.table.insert(leg)
    }

    /// Ends a leg's story: out of the table, and told to the index.
    fn close<S: Sink>(&mut self, slot: Slot, ended: Ended, cx: &mut Cx<'_, S>) {
        let Some(mut leg) = self.table.remove(slot) else { return };
        if cx.rules.paces() && !leg.traits.has(Traits::TRIED) && leg.class == Class::Own {
            self.left.push(leg.id);
        }
        if leg.details.is_some() {
            let last = leg.last;
            let state = match ended {
                Ended::Removed if books::one_with_others(&leg) > 0 => RecipientState::Expanded,
                ended => RecipientState::Ended(ended.outcome()),
            };
            if let Some(details) = leg.details.as_deref_mut() {
                details.finish(state, last);
            }
        }
        if leg.class != Class::Unborn && !leg.probe && !matches!(leg.came, Came::Named) {
            self.tell(&leg, ended.name(), cx);
        }
        if self.spare_details.len() < SPARE_DETAILS
            && let Some(mut details) = leg.details.take()
        {
            details.renew();
            self.spare_details.push(details);
        }
        self.table.recycle(leg);
    }

    fn tell<S: Sink>(&self, leg: &Leg, end: &'static str, cx: &mut Cx<'_, S>) {
        let Some(details) = leg.details.as_deref() else { return };
        let (login, uid): (&[u8], i64) = match &leg.came {
            Came::Login(login) => (login.name(), -1),
            Came::Uid(uid) => (&[], i64::from(*uid)),
            Came::User(login, uid) => (login, uid.map_or(-1, i64::from)),
            _ => (&[], -1),
        };
        cx.emit(Fact::Leg(LegFact {
            host: self.places.host_name(leg.host),
            instance: self.places.instance_name(leg.instance),
            id: leg.id,
            owner: leg.owner,
            origin: leg.origin,
            basis: leg.basis,
            first: leg.first,
            last: leg.last,
            message_id: &details.message_id,
            sender: &details.sender,
            login,
            uid,
            client_address: &details.client,
            size: leg.size,
            parent: leg.parent,
            recipients: &details.recipients,
            recipients_cut: details.cut,
            script: details.script(),
            end,
        }));
    }

    /// Takes a leg out of the books without an end in the log: what is open is unaccounted.
    fn lose<S: Sink>(&mut self, slot: Slot, cx: &mut Cx<'_, S>) {
        self.resolve(slot, cx);
        if let Some(leg) = self.table.edit(slot) {
            books::end(leg, Ended::Lost, cx);
            self.close(slot, Ended::Lost, cx);
        }
    }

    /// Makes room: of 32 legs from the hand on, the one that was silent longest goes.
    fn evict_one<S: Sink>(&mut self, cx: &mut Cx<'_, S>) {
        let mut oldest: Option<(Time, Slot)> = None;
        let mut looked = 0;
        for _ in 0..self.table.capacity() {
            self.hand = if (self.hand as usize) < self.table.capacity() { self.hand } else { 0 };
            let slot = Slot(self.hand);
            self.hand += 1;
            if let Some(leg) = self.table.get(slot) {
                looked += 1;
                if oldest.is_none_or(|(last, _)| leg.last < last) {
                    oldest = Some((leg.last, slot));
                }
            }
            if looked == 32 {
                break;
            }
        }
        if let Some((_, slot)) = oldest {
            self.evictions.full += 1;
            self.lose(slot, cx);
        }
    }

    /// Looks at some legs at each tick and drops those that ended unseen.
    fn drop_silent<S: Sink>(&mut self, cx: &mut Cx<'_, S>) {
        for _ in 0..self.table.capacity().min(4_096) {
            self.hand = if (self.hand as usize) < self.table.capacity() { self.hand } else { 0 };
            let slot = Slot(self.hand);
            self.hand += 1;
            let Some(leg) = self.table.get(slot) else { continue };
            let silent = self.high().secs_since(leg.last);
            if leg.class == Class::Unborn && silent > UNBORN_SECS {
                self.close(slot, Ended::Lost, cx);
            } else if silent > SILENT_SECS && !leg.held {
                self.evictions.silent += 1;
                self.lose(slot, cx);
            }
        }
    }

    /// Open messages as they stand, for questions about messages still in the queue.
    pub fn tell_open<S: Sink>(&self, cx: &mut Cx<'_, S>) {
        for (_, leg) in self.table.iter().filter(|(_, leg)| leg.class != Class::Unborn && !leg.probe) {
            self.tell(leg, if leg.held { "held" } else { "open" }, cx);
        }
    }

    /// The uids of open messages, each once: whoever attributes them must know their users, also after a restart.
    pub fn open_uids(&self) -> Vec<u32> {
        let mut uids: Vec<u32> = self
            .table
            .iter()
            .filter_map(|(_, leg)| match leg.came {
                Came::Uid(uid) => Some(uid),
                _ => None,
            })
            .collect();
        uids.sort_unstable();
        uids.dedup();
        uids
    }

    /// An account is forgotten: its open messages are dropped, and what the log still says of them is counted
    /// like that of messages from before the log.
    pub fn disown(&mut self, owner: crate::mail::Owner) {
        let its: Vec<Slot> = self.table.iter().filter(|(_, leg)| leg.owner == owner).map(|(slot, _)| slot).collect();
        for slot in its {
            self.table.remove(slot);
        }
        self.scripts.clear();
    }

    /// Recipients that are open per the legs themselves: the other side of the books, for tests and `check`.
    pub fn open_recipients(&self) -> u64 {
        let booked = |leg: &Leg| u64::from(leg.open());
        self.table.iter().map(|(_, leg)| booked(leg)).sum()
    }
}

/// Emptied details that are kept for the next legs.
const SPARE_DETAILS: usize = 256;

/// Longest text kept per field of a leg, in bytes.
const MAX_TEXT: usize = 512;

fn kept(text: &[u8]) -> Box<[u8]> {
    cut(text).into()
}

fn cut(text: &[u8]) -> &[u8] {
    text.get(..MAX_TEXT).unwrap_or(text)
}

/// Grows by half, from one on: hundreds of thousands of legs have one recipient each.
fn push_tight<T>(list: &mut Vec<T>, item: T) {
    if list.len() == list.capacity() {
        list.reserve_exact((list.len() / 2).max(1));
    }
    list.push(item);
}

fn state_of(outcome: Outcome) -> RecipientState {
    RecipientState::Ended(outcome)
}
