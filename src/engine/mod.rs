//! The judgement: events in, facts out. Pure: no clock, no file, no socket; the server's dialect is unknown here.
//!
//! `Engine` has few verbs: `observe` an event, `tick` when time passes without lines, `finish` at the end of all
//! input; `take_rows` and `restore_row` carry its state over a restart. What it concludes goes to a `Sink`.

pub mod accounts;
pub mod attribution;
pub mod codec;
pub mod directory;
pub mod evidence;
pub mod homes;
pub mod keys;
pub mod ledger;
pub mod limits;
pub mod marks;
pub mod replies;
pub mod ruled;
pub mod rules;
pub mod sanctions;
pub mod scripts;
pub mod tracker;
pub mod trial;
pub mod turnstile;
pub mod unlisted;

use crate::mail::{Accepted, Event, Fact, Head, Holder, Kind, Owner, Place, QueueId, Ruling, Time, Verdict};
use accounts::Accounts;
use attribution::Attribution;
use directory::Directory;
use ledger::Ledger;
use replies::Replies;
use ruled::Ruled;
use rules::{Judge, Rules};
use sanctions::Sanctions;
use std::collections::BTreeMap;
use tracker::{Cx, Row, RowKind, Settings, Stopped, Tracker};

/// Takes facts as they are concluded.
pub trait Sink {
    /// Receivers' words are only classed for those who want to know.
    const WANTS_CLASSES: bool = true;
    /// Verdicts are told in between the facts, in the order of the lines; otherwise they wait in the rules.
    const HEARS_VERDICTS: bool = false;

    fn fact(&mut self, fact: &Fact<'_>);

    /// A rule has spoken of the account that evidence with this `key` leads to.
    fn verdict(&mut self, _: Verdict, _key: &str) {}

    /// Whose a message on hold is, where whoever listens has heard of that before the log told of it.
    fn holder(&mut self, _: &Place) -> Option<Owner> {
        None
    }
}

/// Nobody listens: the ledger alone is wanted (`replay`).
impl Sink for () {
    const WANTS_CLASSES: bool = false;

    #[inline]
    fn fact(&mut self, _: &Fact<'_>) {}
}

/// The state machine between events and facts.
#[derive(Debug)]
pub struct Engine {
    pub tracker: Tracker,
    pub attribution: Attribution,
    pub ledger: Ledger,
    pub replies: Replies,
    pub sanctions: Sanctions,
    pub rules: Rules,
    pub judge: Judge,
    /// Mail of a blocked account waits in the queue and is not on hold, or that of a free one is: time to mend.
    pub slipped: bool,
    /// Messages that our rules at the server hold, and for which there is no room in the sanctions: they stay on hold.
    pub unremembered: u64,
    /// What those rules did.
    pub ruled: Ruled,
    /// Messages on hold of which the gate has told how many they are for, before the log told of them.
    untold: BTreeMap<QueueId, (Place, u32, Time)>,
    /// Whose messages are that the gate has the server hold, of which the log has not told the acceptance. Not kept.
    proven: BTreeMap<QueueId, (Owner, Time)>,
}

/// Most of these, and how long they are waited for: the log is behind the gate by moments.
const MOST_UNTOLD: usize = 100_000;
const UNTOLD_SECS: i64 = 3_600;

impl Engine {
    /// `seed` makes hashes of log text unpredictable; stored rows are only good with the seed they were made with.
    pub fn new(settings: Settings, directory: Directory, replies: Replies, seed: u64) -> Engine {
        let accounts = Accounts::new(seed, directory.policy().max_known_accounts);
        Engine {
            ledger: Ledger::new(settings.keep_rows),
            rules: Rules::new(Vec::new(), settings.keep_rows, seed),
            judge: Judge::default(),
            tracker: Tracker::new(settings, seed),
            attribution: Attribution::new(accounts, directory, seed),
            replies,
            sanctions: Sanctions::new(sanctions::Settings::default()),
            slipped: false,
            unremembered: 0,
            ruled: Ruled::default(),
            untold: BTreeMap::new(),
            proven: BTreeMap::new(),
        }
    }

    #[inline]
    pub fn observe<S: Sink>(&mut self, event: &Event<'_>, sink: &mut S) {
        let proven = self.prove(event, sink);
        let (tracker, mut cx) = self.parts(event.head.at, sink);
        cx.proven = proven;
        tracker.observe(event, &mut cx);
        if self.tracker.has_gated() {
            self.hear_gated();
        }
        if self.tracker.has_come_back() {
            for (old, new) in self.tracker.take_came_back() {
                self.slipped |= self.sanctions.came_back(&old, new, event.head.at);
            }
        }
        if self.tracker.has_notices() {
            for one in self.tracker.take_notices() {
                self.slipped |= self.sanctions.notified(&one, event.head.at);
            }
        }
        if !self.untold.is_empty()
            && let Kind::Held { id: Some(id), .. } | Kind::Accepted(Accepted { id, .. }) = event.kind
            && let Some((place, n, at)) = self.untold.remove(&id)
        {
            self.learn_recipients(place, n, at, sink);
        }
    }

    /// Whose the message is that this line makes known, where the gate holds it: the gate has proven that, by the socket it
    /// came by too, and the log shows no more than an address.
    #[inline]
    fn prove<S: Sink>(&mut self, event: &Event<'_>, sink: &mut S) -> Option<Owner> {
        match event.kind {
            Kind::Held { id: Some(id), by: Holder::Milter, .. } => self.holder(&event.head, id, sink),
            Kind::Gated { id, ruling: Ruling::AsAnswered } => {
                let owner = self.holder(&event.head, id, sink)?;
                if self.proven.len() < MOST_UNTOLD {
                    self.proven.insert(id, (owner, event.head.at));
                }
                None
            }
            Kind::Accepted(Accepted { id, .. }) if !self.proven.is_empty() => {
                self.proven.remove(&id).map(|(owner, _)| owner)
            }
            _ => None,
        }
    }

    fn holder<S: Sink>(&self, head: &Head<'_>, id: QueueId, sink: &mut S) -> Option<Owner> {
        let place = Place { server: head.server, instance: head.instance.into(), id };
        self.sanctions.holder(&place).or_else(|| sink.holder(&place))
    }

    /// The gate tells how many a message is for that it holds, perhaps before the log tells of the message.
    pub fn learn_recipients<S: Sink>(&mut self, place: Place, n: u32, at: Time, sink: &mut S) {
        let high = self.tracker.high();
        let (tracker, mut cx) = self.parts(high, sink);
        if n > 1 && !tracker.learn_recipients(&place, n, &mut cx) && self.untold.len() < MOST_UNTOLD {
            self.untold.insert(place.id, (place, n, at));
        }
    }

    /// After a start: what the gate had told before it, and the log had not.
    pub fn await_untold(&mut self) {
        let known = |place: &Place| self.tracker.on_hold(place) == Some(true);
        let untold = self.sanctions.with_recipients().filter(|(place, _)| !known(place)).take(MOST_UNTOLD);
        let untold = untold.map(|(place, entry)| (place.id, (place.clone(), entry.recipients, entry.at))).collect();
        self.untold = untold;
    }

    /// What our rules at the server hold is held by us. Whose it is was proven there, and is what the log says.
    fn hear_gated(&mut self) {
        for one in self.tracker.take_gated() {
            if one.owner.unattributed().is_some() {
                continue;
            }
            let blocked = self.sanctions.is_blocked(one.owner);
            let waits = blocked || self.sanctions.account(one.owner).delay.is_some();
            match one.stopped {
                Stopped::Held(place) => {
                    self.ruled.hold(one.origin);
                    // On hold for somebody who is free by now.
                    self.slipped |= !waits;
                    if !self.sanctions.note_held(one.owner, place, one.at) {
                        self.unremembered += 1;
                    }
                }
                Stopped::KeptBack(place) => {
                    // It is not on hold.
                    self.slipped |= blocked;
                    self.sanctions.note_loose(one.owner, &place, one.at);
                }
                Stopped::Refused => self.ruled.refuse(one.origin),
                Stopped::TooMany => self.ruled.refuse_more(one.owner, one.origin),
                Stopped::Discarded(lost) => self.ruled.discard(one.owner, one.origin, one.at, lost),
            }
        }
    }

    /// Time has passed: `now` is the host's clock, never behind the log by more than its own delay.
    pub fn tick<S: Sink>(&mut self, now: Time, sink: &mut S) {
        self.forget_untold(now);
        let (tracker, mut cx) = self.parts(now, sink);
        tracker.tick(now, now, &mut cx);
    }

    /// As `tick`, where lines arrive later than they are stamped: what was waited for until `due` in log time is
    /// decided, and nothing that lines still on their way could answer.
    pub fn tick_behind<S: Sink>(&mut self, now: Time, due: Time, sink: &mut S) {
        self.forget_untold(now);
        self.rules.end_incidents(self.tracker.high());
        let (tracker, mut cx) = self.parts(now, sink);
        tracker.tick(now, due, &mut cx);
    }

    fn forget_untold(&mut self, now: Time) {
        self.untold.retain(|_, (_, _, at)| now.secs_since(*at) < UNTOLD_SECS);
        self.proven.retain(|_, (_, at)| now.secs_since(*at) < UNTOLD_SECS);
    }

    /// When `tick` has something to do at the latest, even if no line comes.
    pub fn next_wake(&self) -> Option<Time> {
        self.tracker.next_deadline()
    }

    /// All input has been read, and there will be no more.
    pub fn finish<S: Sink>(&mut self, sink: &mut S) {
        let (tracker, mut cx) = self.parts(Time::ZERO, sink);
        tracker.finish(&mut cx);
    }

    /// Tells the story of each message that is in the queue now.
    pub fn tell_open<S: Sink>(&mut self, sink: &mut S) {
        let (tracker, mut cx) = self.parts(Time::ZERO, sink);
        tracker.tell_open(&mut cx);
    }

    /// See [`Tracker::fetch`].
    #[inline]
    pub fn fetch(&self, events: &[Event<'_>]) {
        self.tracker.fetch(events, &self.ledger, &self.rules);
    }

    /// See [`Tracker::tell_rows`].
    pub fn tell_rows(&mut self, mut each: impl FnMut(RowKind, &[u8], Option<&[u8]>)) {
        self.tracker.tell_rows(&mut each);
        self.rules.take_rows(|row| match row {
            rules::Row::Usage(key, value) => each(RowKind::Usage, &key, value.as_deref()),
            rules::Row::Record(key, value) => each(RowKind::Counted, &key, value.as_deref()),
            rules::Row::Incident(key, value) => each(RowKind::Incident, &key, value.as_deref()),
        });
    }

    /// The same, each of its own.
    pub fn take_rows(&mut self, mut each: impl FnMut(Row)) {
        self.tell_rows(|kind, key, value| each(Row { kind, key: key.to_vec(), value: value.map(<[u8]>::to_vec) }));
    }

    pub fn restore_row(&mut self, kind: RowKind, key: &[u8], value: &[u8]) -> bool {
        match kind {
            RowKind::Usage => self.rules.restore_row(rules::Row::Usage(key.to_vec(), Some(value.to_vec()))),
            RowKind::Counted => self.rules.restore_row(rules::Row::Record(key.to_vec(), Some(value.to_vec()))),
            RowKind::Incident => self.rules.restore_row(rules::Row::Incident(key.to_vec(), Some(value.to_vec()))),
            RowKind::State | RowKind::Leg | RowKind::Script => self.tracker.restore_row(kind, key, value),
        }
    }

    /// All rows were taken up. False when something of them could not be read.
    pub fn restored(&mut self) -> bool {
        self.rules.restored(&self.attribution)
    }

    fn parts<'a, S: Sink>(&'a mut self, at: Time, sink: &'a mut S) -> (&'a mut Tracker, Cx<'a, S>) {
        let (ledger, attribution, replies) = (&mut self.ledger, &mut self.attribution, &self.replies);
        let (now, rules) = (self.tracker.high(), &mut self.rules);
        let ending = tracker::Ending::default();
        let cx = Cx { at, now, ledger, attribution, replies, rules, sink, proven: None, ending };
        (&mut self.tracker, cx)
    }
}
