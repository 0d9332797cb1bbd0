//! Sanctions against a queue of their own: random orders, arrivals, deliveries, an administrator's holds and releases,
//! failing tools and crashes at every point. The queue knows who put what on hold; the table of states is written out
//! again here, in other words. How often each situation occurred is printed; one that never does fails.

#![allow(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

use sendwarden::engine::sanctions::{HeldAccount, Outcome, Queued, Record, Sanctions, Settings};
use sendwarden::mail::{
    Action, Actor, Cause, LiftableBy, Order, OrderId, Origin, Owner, Place, QueueId, Report, Scope, Server, Time, Verb,
    Work,
};
use std::collections::BTreeMap;

const CASES: u64 = 10_000;
const START: i64 = 1_800_000_000;
const OWNERS: [Owner; 2] = [Owner(16), Owner(17)];
const LOGIN: &str = "box@shop.test";

/// Enough chance for a test, and the same for the same case.
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
    Queue,
    AgentsHold,
    AdminsHold,
    Gone,
}

#[derive(Debug, Clone)]
struct Message {
    owner: Owner,
    origin: Origin,
    at: At,
    /// Condemned by a purge that was not taken back.
    doomed: bool,
}

/// What the table says of an account, in words of the test.
#[derive(Debug, Clone, PartialEq)]
struct Expected {
    state: &'static str,
    operators: bool,
    scope: Scope,
    until: Option<i64>,
    force_until: i64,
    lifted: Option<i64>,
    /// The state when the purge that is under way began, whether it lifts, and whether an owner gave it.
    purging: Option<(&'static str, bool, bool)>,
}

impl Expected {
    fn new() -> Expected {
        let (state, scope) = ("ok", Scope::Script);
        Expected { state, operators: false, scope, until: None, force_until: 0, lifted: None, purging: None }
    }
}

struct World {
    dice: Dice,
    sanctions: Sanctions,
    stored: BTreeMap<(u8, Vec<u8>), Vec<u8>>,
    standing: Vec<HeldAccount>,
    messages: Vec<Message>,
    expected: BTreeMap<Owner, Expected>,
    given: Vec<Work>,
    now: i64,
    orders: u64,
    seen: BTreeMap<&'static str, u64>,
}

impl World {
    fn saw(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
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
        if let Some(standing) = self.sanctions.take_standing() {
            self.standing = standing;
        }
    }

    fn crash(&mut self) {
        self.sanctions = Sanctions::new(Settings::default());
        for ((kind, key), value) in &self.stored {
            assert!(self.sanctions.restore_row(*kind, key, value));
        }
        self.given.clear();
        self.commit();
    }

    fn queued(&self, owner: Option<Owner>) -> Vec<Queued> {
        let waiting = self.messages.iter().enumerate().filter(|(_, message)| message.at == At::Queue);
        waiting
            .filter(|(_, message)| owner.map_or(self.sanctions.is_held(message.owner), |owner| owner == message.owner))
            .map(|(n, message)| {
                let login = if message.origin == Origin::SmtpAuth { LOGIN.as_bytes().into() } else { [].into() };
                Queued {
                    owner: message.owner,
                    place: World::place(n),
                    origin: message.origin,
                    login,
                    since: Time::ZERO,
                    by: None,
                }
            })
            .collect()
    }

    fn arrive(&mut self) {
        let owner = OWNERS[self.dice.below(2) as usize];
        let origin = [Origin::Script, Origin::SmtpAuth][self.dice.below(2) as usize];
        let login = if origin == Origin::SmtpAuth { LOGIN } else { "" };
        let held = self.standing.iter().any(|one| one.owner == owner && one.scope.covers(origin, login.as_bytes()));
        let place = World::place(self.messages.len());
        if held {
            let doomed = self.expected[&owner].state == "purging";
            self.messages.push(Message { owner, origin, at: At::AgentsHold, doomed });
            assert!(self.sanctions.note_held(owner, place, Time::from_secs(self.now)));
            self.saw(if doomed { "held by the gate while purging" } else { "held by the gate" });
            self.commit();
        } else {
            self.messages.push(Message { owner, origin, at: At::Queue, doomed: false });
        }
    }

    fn someone_elses_hand(&mut self) {
        if self.messages.is_empty() {
            return;
        }
        // The agent hears of what others do within a minute.
        self.now += 61;
        self.mend();
        let n = self.dice.below(self.messages.len() as u64) as usize;
        // What the agent is about to touch at this moment: who was first cannot be told from the log.
        if self.sanctions.account(self.messages[n].owner).change.is_some() {
            return;
        }
        match (self.messages[n].at, self.dice.below(3)) {
            (At::Queue, 0) => self.messages[n].at = At::Gone,
            (At::Queue, _) => {
                self.messages[n].at = At::AdminsHold;
                self.saw("an administrator's hold");
            }
            (At::AdminsHold, _) => self.messages[n].at = At::Queue,
            (At::AgentsHold, 0) => {
                self.messages[n].at = At::Gone;
                self.saw("an administrator deletes what the agent holds");
            }
            (At::AgentsHold, _) => {
                self.messages[n].at = At::Queue;
                self.now += 61;
                self.mend();
                self.saw("an administrator releases what the agent holds");
            }
            (At::Gone, _) => {}
        }
    }

    fn order(&mut self) {
        let owner = OWNERS[self.dice.below(2) as usize];
        let action = Action::ALL[self.dice.below(3) as usize];
        let by = match self.dice.below(4) {
            0 => Actor::Person { uid: 0, name: "root".into() },
            1 => Actor::Rule("too_many".into()),
            _ => Actor::Customer("web1".into()),
        };
        let cause = match by {
            Actor::Rule(_) => [Cause::Volume, Cause::Errors, Cause::Spam][self.dice.below(3) as usize],
            _ => Cause::Person,
        };
        let until = (self.dice.below(4) == 0).then(|| Time::from_secs(self.now + 3_600));
        let scope = [Scope::Script, Scope::All, Scope::Login(LOGIN.into())][self.dice.below(3) as usize].clone();
        self.orders += 1;
        let (id, at) = (OrderId { micros: 1, chance: self.orders }, Time::from_secs(self.now));
        let liftable_by = by.liftable_by();
        let reason = String::new();
        let (part, drip) = (None, None);
        let order =
            Order { id, owner, action, scope, cause, by, liftable_by, reason, at, until, part, drip, spares: false };
        let held = self.sanctions.held(owner) > 0;
        let busy = self.sanctions.account(owner).change.is_some();
        let before = self.expected[&owner].clone();
        let wanted = if busy { None } else { expect(&before, &order, held, self.now) };
        let queued = self.queued(Some(owner));
        let record = self.sanctions.accept(&order, &queued, at);
        if self.dice.below(10) == 0 {
            // Killed before it was in the store: it was never given.
            self.saw("killed before the commit");
            return self.crash();
        }
        self.commit();
        match (wanted, record.outcome) {
            (None, Outcome::Refused | Outcome::Already) => {
                self.saw(if busy { "busy" } else { "not taken" });
            }
            (Some(after), Outcome::Accepted | Outcome::Done) => {
                if action == Action::Purge {
                    self.saw(if after.purging.is_some_and(|(_, lifts, _)| lifts) {
                        "purge lifts"
                    } else {
                        "purge only"
                    });
                    for message in self.messages.iter_mut().filter(|m| m.owner == owner && m.at == At::AgentsHold) {
                        message.doomed = true;
                    }
                }
                self.expected.insert(owner, after);
                if record.outcome == Outcome::Done && action == Action::Purge {
                    self.purged(owner);
                }
                self.saw(match action {
                    Action::Block => "block",
                    Action::Unblock => "unblock",
                    Action::Purge => "purge",
                });
            }
            (wanted, _) => panic!("{before:?} + {order:?}: expected {wanted:?}, got {record:?}"),
        }
        self.compare();
    }

    fn purged(&mut self, owner: Owner) {
        let expected = self.expected.get_mut(&owner).unwrap();
        let (before, lifts, by_owner) = expected.purging.take().unwrap();
        if lifts {
            let lifted = if by_owner && before == "spam" { Some(self.now) } else { expected.lifted };
            *expected = Expected { lifted, ..Expected::new() };
        } else {
            expected.state = before;
        }
    }

    /// Takes what there is to do; it is done later, or never.
    fn take(&mut self) {
        while let Some(work) = self.sanctions.next_work() {
            assert!(self.given.iter().all(|other| other.owner != work.owner), "one change of an account at a time");
            self.given.push(work);
        }
    }

    /// The machine does some work, wholly, in part or not at all, and the agent may be killed before it hears of it.
    fn work(&mut self) {
        self.take();
        let Some(work) = self.given.pop() else { return };
        let trouble = self.dice.below(8) == 0;
        let most = if trouble { self.dice.below(work.places.len() as u64 + 1) as usize } else { work.places.len() };
        let mut report = Report { trouble: trouble.then(|| "it does not start".to_owned()), ..Report::default() };
        for (n, place) in work.places.iter().enumerate() {
            if n >= most {
                report.missing.push(place.clone());
                continue;
            }
            let message = &mut self.messages[World::number(place)];
            let to = match (work.verb, message.at) {
                (Verb::Hold, At::Queue) => At::AgentsHold,
                (Verb::Release, At::AgentsHold) => {
                    assert!(!message.doomed, "what a purge condemned is never released: {work:?}");
                    At::Queue
                }
                (Verb::Delete, At::AgentsHold) => At::Gone,
                (Verb::Release | Verb::Delete, At::AdminsHold) => {
                    panic!("an administrator's hold is touched: {work:?}")
                }
                (_, at) => {
                    report.missing.push(place.clone());
                    if work.again && matches!(at, At::Queue | At::Gone) {
                        report.absent.insert(place.clone());
                    }
                    continue;
                }
            };
            message.at = to;
            report.done.push(place.clone());
        }
        if !report.absent.is_empty() {
            self.saw("done before a kill");
        }
        if self.dice.below(8) == 0 {
            self.saw("killed between the work and its settlement");
            return self.crash();
        }
        let verb = work.verb;
        let mend = self.sanctions.account(work.owner).change.is_some_and(|change| change.mend);
        let at: Vec<At> = self.messages.iter().map(|message| message.at).collect();
        let on_hold = |place: &Place| matches!(at[World::number(place)], At::AgentsHold | At::AdminsHold);
        let settled = self.sanctions.settle(work.owner, work.order, &report, on_hold, Time::from_secs(self.now));
        let record: Option<Record> = settled.expect("it was under way");
        assert_eq!(
            self.sanctions.settle(work.owner, OrderId { micros: 0, chance: 77 }, &report, |_| true, Time::ZERO),
            None,
            "of no known order"
        );
        self.commit();
        if trouble {
            self.saw("trouble");
        }
        if verb == Verb::Delete && !mend {
            if trouble {
                let expected = self.expected.get_mut(&work.owner).unwrap();
                let (before, ..) = expected.purging.take().unwrap();
                expected.state = before;
                self.messages.iter_mut().filter(|m| m.owner == work.owner).for_each(|m| m.doomed = false);
            } else if record.is_some() {
                self.purged(work.owner);
            } else {
                self.saw("another round of a purge");
            }
        }
        self.compare();
    }

    fn mend(&mut self) {
        let (queued, now) = (self.queued(None), Time::from_secs(self.now));
        let at: Vec<At> = self.messages.iter().map(|message| message.at).collect();
        let on_hold = |place: &Place| match at[World::number(place)] {
            At::Queue => Some(false),
            At::Gone => None,
            At::AgentsHold | At::AdminsHold => Some(true),
        };
        self.sanctions.mend(&queued, on_hold, now);
        self.commit();
    }

    fn pass(&mut self) {
        self.now += [1, 600, 40_000, 200_000][self.dice.below(4) as usize];
        let now = self.now;
        let mut next = self.orders;
        let due: Vec<Owner> = OWNERS
            .into_iter()
            .filter(|owner| self.sanctions.account(*owner).change.is_none())
            .filter(|owner| {
                let e = &self.expected[owner];
                e.until.is_some_and(|until| until <= now) || (e.state == "force" && e.force_until <= now)
            })
            .collect();
        let records = self.sanctions.tick(Time::from_secs(now), || {
            next += 1;
            OrderId { micros: 2, chance: next }
        });
        self.orders = next;
        assert!(records.iter().all(|record| record.action == Action::Unblock && record.by == Actor::Agent));
        for owner in due {
            let expected = self.expected.get_mut(&owner).unwrap();
            let state = expected.state;
            let after = if state == "bounce" { "force" } else { "ok" };
            let lifted = expected.lifted;
            *expected = Expected { state: after, force_until: now + 86_400, lifted, ..Expected::new() };
            self.saw(if state == "force" { "a second chance ends" } else { "a block ends by itself" });
        }
        self.commit();
        self.compare();
    }

    /// States are as the table says, and a restart would find the same.
    fn compare(&mut self) {
        let mut again = Sanctions::new(Settings::default());
        for ((kind, key), value) in &self.stored {
            assert!(again.restore_row(*kind, key, value));
        }
        for (owner, expected) in &self.expected {
            let account = self.sanctions.account(*owner);
            assert_eq!(account.state.name(), expected.state, "{account:?} {expected:?}");
            let blocked = !["ok", "force"].contains(&expected.state);
            assert_eq!(account.block.is_some(), blocked, "{account:?}");
            if let Some(block) = &account.block {
                assert_eq!(block.liftable_by == LiftableBy::Operator, expected.operators, "{account:?} {expected:?}");
                assert_eq!(block.until.map(Time::secs), expected.until, "{account:?} {expected:?}");
                assert_eq!(block.scope, expected.scope, "{account:?} {expected:?}");
            }
            assert_eq!(self.standing.iter().any(|one| one.owner == *owner), blocked, "the gate knows it");
            let restored = again.account(*owner);
            assert_eq!((restored.state, &restored.block), (account.state, &account.block), "after a restart");
            assert_eq!(again.held(*owner), self.sanctions.held(*owner), "after a restart");
        }
    }

    /// Everything is settled, with tools that work: then the queue is as the states say.
    fn quiesce(&mut self) {
        for _ in 0..12 {
            self.take();
            while let Some(work) = self.given.pop() {
                let mut report = Report::default();
                for place in &work.places {
                    let message = &mut self.messages[World::number(place)];
                    let to = match (work.verb, message.at) {
                        (Verb::Hold, At::Queue) => At::AgentsHold,
                        (Verb::Release, At::AgentsHold) => At::Queue,
                        (Verb::Delete, At::AgentsHold) => At::Gone,
                        (Verb::Release | Verb::Delete, At::AdminsHold) => {
                            panic!("an administrator's: {work:?}")
                        }
                        _ => {
                            report.missing.push(place.clone());
                            continue;
                        }
                    };
                    message.at = to;
                    report.done.push(place.clone());
                }
                let at: Vec<At> = self.messages.iter().map(|message| message.at).collect();
                let on_hold = |place: &Place| matches!(at[World::number(place)], At::AgentsHold | At::AdminsHold);
                self.sanctions.settle(work.owner, work.order, &report, on_hold, Time::from_secs(self.now)).unwrap();
                self.commit();
                self.take();
            }
            self.now += 61;
            self.mend();
        }
        for owner in OWNERS {
            let account = self.sanctions.account(owner);
            assert_eq!(account.change, None, "nothing is under way for ever");
            for (n, message) in self.messages.iter().enumerate().filter(|(_, message)| message.owner == owner) {
                let covers = |scope: &Scope| {
                    scope
                        .covers(message.origin, if message.origin == Origin::SmtpAuth { LOGIN.as_bytes() } else { b"" })
                };
                match (&account.block, message.at) {
                    (None, At::AgentsHold) => panic!("{n} is held for ever: {message:?} {account:?}"),
                    (Some(block), At::Queue) if covers(&block.scope) => panic!("{n} escapes: {message:?} {account:?}"),
                    _ => {}
                }
            }
        }
    }
}

/// The table, once more: `None` when the order is not taken.
fn expect(before: &Expected, order: &Order, held: bool, now: i64) -> Option<Expected> {
    let person = match order.by {
        Actor::Person { .. } => "operator",
        Actor::Customer(_) => "owner",
        _ => "rule",
    };
    let blocked = ["ko", "bounce", "spam"].contains(&before.state);
    let mut after = before.clone();
    match (order.action, person) {
        (Action::Unblock | Action::Purge, "rule") => return None,
        (Action::Block, _) => {
            let rank = |state: &str| ["ok", "force", "ko", "bounce", "spam"].iter().position(|s| *s == state).unwrap();
            let cause = match order.cause {
                Cause::Errors => "bounce",
                Cause::Spam => "spam",
                _ => "ko",
            };
            let until = order.until.map(Time::secs);
            if blocked {
                after.state = if rank(cause) > rank(before.state) { cause } else { before.state };
                after.operators |= person == "operator";
                after.until = if before.until.is_none() || until.is_none() { None } else { before.until.max(until) };
                if order.scope != before.scope {
                    after.scope = Scope::All;
                }
                if after == *before {
                    return None;
                }
            } else {
                after.state = cause;
                after.operators = person == "operator";
                after.until = until;
                after.scope = order.scope.clone();
                after.force_until = 0;
            }
        }
        (Action::Unblock, _) => {
            if !blocked || (person == "owner" && (before.operators || before.state == "spam")) {
                return None;
            }
            let state = if before.state == "bounce" { "force" } else { "ok" };
            after = Expected { state, force_until: now + 86_400, lifted: before.lifted, ..Expected::new() };
        }
        (Action::Purge, _) => {
            let spent = before.state == "spam" && before.lifted.is_some_and(|at| now - at < 7 * 86_400);
            let lifts = blocked && (person == "operator" || (!before.operators && !spent));
            if !held && !lifts {
                return None;
            }
            after.purging = Some((before.state, lifts, person == "owner"));
            if blocked {
                after.state = "purging";
            }
        }
    }
    Some(after)
}

fn case(number: u64, seen: &mut BTreeMap<&'static str, u64>) {
    let mut world = World {
        dice: Dice(number.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1),
        sanctions: Sanctions::new(Settings::default()),
        stored: BTreeMap::new(),
        standing: Vec::new(),
        messages: Vec::new(),
        expected: OWNERS.into_iter().map(|owner| (owner, Expected::new())).collect(),
        given: Vec::new(),
        now: START,
        orders: 0,
        seen: std::mem::take(seen),
    };
    world.commit();
    for _ in 0..100 {
        match world.dice.below(16) {
            0..4 => world.arrive(),
            4..6 => world.someone_elses_hand(),
            6..9 => world.order(),
            9..13 => world.work(),
            13 => world.mend(),
            14 => world.pass(),
            _ => {
                if world.dice.below(4) == 0 {
                    world.saw("killed");
                    world.crash();
                    world.compare();
                }
            }
        }
    }
    world.quiesce();
    *seen = world.seen;
}

#[test]
fn states_and_queue_agree_whatever_happens() {
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
        "a block ends by itself",
        "a second chance ends",
        "an administrator deletes what the agent holds",
        "an administrator releases what the agent holds",
        "an administrator's hold",
        "another round of a purge",
        "block",
        "busy",
        "done before a kill",
        "held by the gate",
        "held by the gate while purging",
        "killed",
        "killed before the commit",
        "killed between the work and its settlement",
        "not taken",
        "purge",
        "purge lifts",
        "purge only",
        "trouble",
        "unblock",
    ] {
        assert!(seen.get(situation).is_some_and(|n| *n >= 50), "{situation} hardly ever occurs: {seen:?}");
    }
}
