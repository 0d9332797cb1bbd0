//! What leaves slowly, in part, or because it was held too long, against a model that shares no code with it: random
//! arrivals, orders for parts, slow releases, leaps of the clock, failing tools and crashes. How often each situation
//! occurred is printed; one that hardly ever does fails.

#![allow(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

use sendwarden::engine::sanctions::{Outcome, Sanctions, Settings};
use sendwarden::mail::{
    Action, Actor, Cause, Order, OrderId, Owner, Place, QueueId, Report, Scope, Server, Time, Verb,
};
use std::collections::BTreeMap;

const CASES: u64 = 10_000;
const WHO: Owner = Owner(20);
const MAX: i64 = 10_000;
const RATE: u32 = 600;

struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % n
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum At {
    Held,
    Out,
    Deleted,
}

#[derive(Debug)]
struct Message {
    at: At,
    /// By a clock that nobody sets.
    since: i64,
    /// An order named it, or named everything.
    may_leave: bool,
    may_be_deleted: bool,
    /// Its recipients were asked for.
    known: bool,
}

struct World {
    dice: Dice,
    sanctions: Sanctions,
    stored: BTreeMap<(u8, Vec<u8>), Vec<u8>>,
    messages: Vec<Message>,
    blocked: bool,
    /// Steady time, and what the host's clock is ahead of it.
    steady: i64,
    ahead: i64,
    /// Steady time before which nothing is too old.
    quiet: i64,
    /// A slow release: steady time of its beginning, messages an hour, released so far.
    drip: Option<(i64, u32, u64)>,
    orders: u64,
    seen: BTreeMap<&'static str, u64>,
}

fn settings() -> Settings {
    Settings { held_max_secs: MAX, owner_release_max: 3, owner_release_rate: RATE, ..Settings::default() }
}

impl World {
    fn saw(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    fn now(&self) -> Time {
        Time::from_secs(1_800_000_000 + self.steady + self.ahead)
    }

    fn place(n: usize) -> Place {
        let id = QueueId::new(format!("Q{n:05}").as_bytes()).unwrap();
        Place { server: Server::default(), instance: b"mx"[..].into(), id }
    }

    fn number(place: &Place) -> usize {
        place.id.as_str().trim_start_matches('Q').parse().unwrap()
    }

    fn commit(&mut self) {
        for row in self.sanctions.take_rows() {
            match row.value {
                Some(value) => self.stored.insert((row.kind, row.key), value),
                None => self.stored.remove(&(row.kind, row.key)),
            };
        }
    }

    fn crash(&mut self) {
        self.sanctions = Sanctions::new(settings());
        for ((kind, key), value) in &self.stored {
            assert!(self.sanctions.restore_row(*kind, key, value));
        }
        let now = self.now();
        self.sanctions.set_clock(0, now);
        self.quiet = self.steady + 600;
    }

    fn order(&mut self, action: Action, by: Actor, part: Option<Vec<usize>>, drip: Option<u32>) -> Outcome {
        self.orders += 1;
        let part = part.map(|part| part.into_iter().map(World::place).collect::<Vec<_>>().into());
        let order = Order {
            id: OrderId { micros: 1, chance: self.orders },
            owner: WHO,
            action,
            scope: Scope::All,
            cause: Cause::Person,
            liftable_by: Actor::Customer("c".into()).liftable_by(),
            by,
            reason: String::new(),
            at: self.now(),
            until: None,
            part,
            drip,
            spares: false,
        };
        let now = self.now();
        let outcome = self.sanctions.accept(&order, &[], now).outcome;
        self.commit();
        outcome
    }

    fn give(&mut self) {
        let busy = self.sanctions.account(WHO).change.is_some();
        let by = if self.dice.below(3) == 0 { Actor::Customer("c".into()) } else { Actor::Token };
        let owner = matches!(by, Actor::Customer(_));
        let held: Vec<usize> = (0..self.messages.len()).filter(|n| self.messages[*n].at == At::Held).collect();
        match self.dice.below(5) {
            0 | 1 if !self.messages.is_empty() => {
                // Some of them, and some that are held no more.
                let part: Vec<usize> = (0..self.messages.len()).filter(|_| self.dice.below(3) == 0).collect();
                let action = if self.dice.below(2) == 0 { Action::Unblock } else { Action::Purge };
                if matches!(self.order(action, by, Some(part.clone()), None), Outcome::Accepted | Outcome::Done) {
                    assert!(!busy, "one change at a time");
                    for n in part {
                        match action {
                            Action::Unblock => self.messages[n].may_leave = true,
                            _ => self.messages[n].may_be_deleted = true,
                        }
                    }
                    self.saw(if action == Action::Unblock { "a part is released" } else { "a part is purged" });
                    assert_eq!(self.sanctions.account(WHO).block.is_some(), self.blocked, "what stands, stands");
                }
            }
            2 => {
                if self.order(Action::Block, by, None, None) != Outcome::Refused && !busy {
                    (self.blocked, self.drip) = (true, None);
                }
            }
            _ => {
                let slow = self.dice.below(2) == 0;
                let rate = [60, 1_200][self.dice.below(2) as usize];
                let outcome = self.order(Action::Unblock, by, None, slow.then_some(rate));
                if !matches!(outcome, Outcome::Accepted | Outcome::Done) {
                    return;
                }
                assert!(!busy);
                self.blocked = false;
                // An owner's is slow where many are held, and never faster than that.
                let told = |n: &&usize| self.messages[**n].may_leave || self.messages[**n].may_be_deleted;
                let (most, least) = (held.len(), held.iter().filter(|n| !told(n)).count());
                let limit = (owner && least > 3).then_some(RATE);
                let rate = slow.then_some(rate).into_iter().chain(limit).min().filter(|_| least > 0);
                // What could not be deleted waits again, or is still told to leave: then its count decides.
                let sure = most == least;
                let rate = if sure { rate } else { self.sanctions.account(WHO).drip.map(|drip| drip.per_hour) };
                self.drip = rate.map(|rate| (self.steady, rate, 0));
                self.saw(match (rate, slow) {
                    (None, _) => "all at once",
                    (Some(_), true) => "slowly",
                    (Some(_), false) => "an owner's, slowly",
                });
                if self.drip.is_none() {
                    held.into_iter().for_each(|n| self.messages[n].may_leave = true);
                }
            }
        }
    }

    /// What nobody ordered to leave at once leaves slowly: at its pace, and the oldest first.
    fn told_to_leave(&mut self, places: &[Place]) {
        for n in places.iter().map(World::number) {
            if self.messages[n].may_leave || self.messages[n].at != At::Held {
                continue;
            }
            let (since, rate, given) = self.drip.as_mut().expect("nobody ordered its release");
            *given += 1;
            let due = 1 + u64::try_from(self.steady - *since).unwrap() * u64::from(*rate) / 3_600;
            assert!(*given <= due, "{given} left of {due}");
            self.messages[n].may_leave = true;
            self.saw("left slowly");
            let before = self.messages[n].since;
            let older = |m: &Message| m.at == At::Held && !m.may_be_deleted && !m.may_leave && m.since < before;
            let ours = |m: usize| places.iter().any(|place| World::number(place) == m);
            let passed = self.messages.iter().enumerate().filter(|(n, m)| older(m) && !ours(*n)).count();
            assert_eq!(passed, 0, "the oldest leave first");
        }
    }

    fn work(&mut self, sound: bool) {
        let Some(work) = self.sanctions.next_work() else { return };
        if work.verb == Verb::Release {
            self.told_to_leave(&work.places);
        }
        let trouble = !sound && self.dice.below(8) == 0;
        let mut report = Report { trouble: trouble.then(|| "no".to_owned()), ..Report::default() };
        if trouble {
            report.missing = work.places.clone();
            self.saw("trouble");
        } else {
            for place in &work.places {
                let n = World::number(place);
                let (steady, quiet) = (self.steady, self.quiet);
                let message = &mut self.messages[n];
                if message.at != At::Held {
                    report.missing.push(place.clone());
                    continue;
                }
                match work.verb {
                    Verb::Release => message.at = At::Out,
                    _ if work.asks => {
                        assert!(steady - message.since >= MAX, "too old at {}", steady - message.since);
                        assert!(steady >= quiet, "too early");
                        (message.known, message.may_be_deleted) = (true, true);
                    }
                    Verb::Delete => {
                        assert!(message.may_be_deleted, "nobody ordered its end");
                        message.at = At::Deleted;
                        if message.known {
                            *self.seen.entry("too old").or_default() += 1;
                        }
                    }
                    Verb::Hold => panic!("nothing was queued"),
                }
                report.done.push(place.clone());
            }
        }
        if !sound && self.dice.below(10) == 0 {
            self.saw("killed between the work and its settlement");
            return self.crash();
        }
        let now = self.now();
        self.sanctions.settle(WHO, work.order, &report, |_| true, now).expect("it was under way");
        self.commit();
    }

    fn pass(&mut self) {
        self.steady += [5, 61, 700, 3_000][self.dice.below(4) as usize];
        let mut next = self.orders;
        let mut fresh = || {
            next += 1;
            OrderId { micros: 2, chance: next }
        };
        let now = self.now();
        self.sanctions.tick(now, &mut fresh);
        let records = self.sanctions.age(now, &mut fresh);
        self.orders = next;
        for record in records {
            assert_eq!(record.outcome, Outcome::Warned);
            // Also one that was deleted while the agent was killed: it has not found that out.
            let held = self.messages.iter().filter(|m| m.at != At::Out);
            let oldest = held.map(|m| self.steady - m.since).max().unwrap();
            assert!(oldest >= MAX * 8 / 12, "warned at {oldest}");
            self.saw("warned");
        }
        let mend = self.now();
        self.sanctions.mend(&[], |_| Some(true), mend);
        self.commit();
        if self.drip.is_some() && self.sanctions.account(WHO).drip.is_none() {
            self.drip = None;
        }
        if self.sanctions.account(WHO).block.is_none() && self.sanctions.account(WHO).drip.is_none() {
            self.messages.iter_mut().for_each(|m| m.may_leave = true);
        }
    }

    fn leap(&mut self) {
        let leap = [86_400, 300_000, -7_200][self.dice.below(3) as usize];
        self.ahead += leap;
        let now = self.now();
        self.sanctions.set_clock(leap, now);
        self.quiet = self.steady + 600;
        self.commit();
        self.saw("a leap of the clock");
    }

    /// With tools that work and time enough everything that nobody holds any more has left.
    fn quiesce(&mut self) {
        for _ in 0..600 {
            self.work(true);
            self.steady += 61;
            let now = self.now();
            let mut next = self.orders;
            self.sanctions.tick(now, || {
                next += 1;
                OrderId { micros: 2, chance: next }
            });
            self.orders = next;
            self.sanctions.mend(&[], |_| Some(true), now);
            self.commit();
            let account = self.sanctions.account(WHO);
            if account.change.is_none() && account.drip.is_none() {
                break;
            }
            if account.block.is_none() && account.drip.is_none() {
                self.messages.iter_mut().for_each(|m| m.may_leave = true);
            }
        }
        let account = self.sanctions.account(WHO);
        assert!(account.change.is_none() && account.drip.is_none(), "{account:?}");
        let held = self.messages.iter().filter(|m| m.at == At::Held).count() as u64;
        // What was deleted while the agent was killed it only finds out when it touches it.
        assert!(self.sanctions.held(WHO) >= held);
        if account.block.is_none() {
            assert_eq!((held, self.sanctions.held(WHO)), (0, 0), "held for ever: {account:?}");
        }
    }
}

fn case(number: u64, seen: &mut BTreeMap<&'static str, u64>) {
    let mut world = World {
        dice: Dice(number.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1),
        sanctions: Sanctions::new(settings()),
        stored: BTreeMap::new(),
        messages: Vec::new(),
        blocked: false,
        steady: 0,
        ahead: 0,
        quiet: 0,
        drip: None,
        orders: 0,
        seen: std::mem::take(seen),
    };
    for _ in 0..80 {
        match world.dice.below(16) {
            0..4 if world.blocked => {
                let place = World::place(world.messages.len());
                let now = world.now();
                assert!(world.sanctions.note_held(WHO, place, now));
                let since = world.steady;
                world.messages.push(Message {
                    at: At::Held,
                    since,
                    may_leave: false,
                    may_be_deleted: false,
                    known: false,
                });
                world.steady += 1;
                world.commit();
            }
            0..6 => world.give(),
            6..11 => world.work(false),
            11..15 => world.pass(),
            _ if world.dice.below(3) == 0 => world.leap(),
            _ => world.crash(),
        }
    }
    world.quiesce();
    *seen = world.seen;
}

#[test]
fn what_leaves_is_what_was_ordered_at_its_pace_and_in_its_time() {
    let mut seen = BTreeMap::new();
    for number in 1..=CASES {
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| case(number, &mut seen)));
        if let Err(why) = caught {
            eprintln!("case {number}");
            std::panic::resume_unwind(why);
        }
    }
    println!("{CASES} cases: {seen:#?}");
    for situation in [
        "a leap of the clock",
        "a part is purged",
        "a part is released",
        "all at once",
        "an owner's, slowly",
        "killed between the work and its settlement",
        "left slowly",
        "slowly",
        "too old",
        "trouble",
        "warned",
    ] {
        assert!(seen.get(situation).is_some_and(|n| *n >= 200), "{situation} hardly ever occurs: {seen:?}");
    }
}
