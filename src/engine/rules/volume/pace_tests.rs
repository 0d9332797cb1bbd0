//! Slowing down against what reaches receivers: never more than the limit within any window, oldest first, and all of it in
//! the end, with a server that takes its time and a log that is late.

use super::super::{Mail, Rules, What};
use super::*;
use crate::engine::accounts::Accounts;
use crate::engine::attribution::Attribution;
use crate::engine::directory::{AccountSpec, Policy};
use crate::mail::{Basis, Verdict};

const START: i64 = 1_800_000_000;
const WINDOW: i64 = 3_600;

/// A message between its acceptance and its first delivery attempt.
struct Sent {
    number: u32,
    recipients: u32,
    /// When the server will have tried to deliver it.
    tried: i64,
    told: bool,
}

struct World {
    attribution: Attribution,
    log: Rules,
    gate: Volume,
    owner: Owner,
    waiting: VecDeque<(u32, u32)>,
    going: Vec<Sent>,
    /// Tried, and the log has not told of it.
    untold: Vec<(u32, u32, i64)>,
    /// At the receiver: when, which, to how many.
    arrived: Vec<(i64, u32, u32)>,
    slowed: bool,
}

fn id(number: u32) -> QueueId {
    QueueId::new(format!("{number:010X}").as_bytes()).unwrap()
}

fn world(limit: u64, signal: Signal) -> World {
    let shop = AccountSpec { id: "shop".into(), uids: vec![2_001], ..AccountSpec::default() };
    let directory = Directory::build(vec![shop], Policy::default()).unwrap();
    let mut accounts = Accounts::new(1, 100);
    let owner = accounts.intern_listed("shop", Time::ZERO);
    let attribution = Attribution::new(accounts, directory, 1);
    let rule = Rule { measure: Measure::Slow, ..Rule::new("quota", signal, WINDOW as u32, limit) };
    let mut log = Rules::new(vec![rule], false, 1);
    let mut gate = Volume::default();
    let armed = Arc::new(Armed::of(log.rules()));
    gate.begin(Arc::clone(&armed), vec![Member { owner, key: "shop".into(), uids: vec![2_001] }]);
    log.share(armed);
    let (waiting, going, untold, arrived) = (VecDeque::new(), Vec::new(), Vec::new(), Vec::new());
    World { attribution, log, gate, owner, waiting, going, untold, arrived, slowed: false }
}

impl World {
    /// The server has accepted one; it will try it so much later, if it is let go.
    fn send(&mut self, number: u32, recipients: u32, now: i64, takes: i64) {
        let sender = Sender::Uid(2_001);
        let message = Message { id: Some(id(number)), sender: &sender, origin: Origin::Script, login: b"", recipients };
        // Who is slowed down is held before anything is counted.
        self.slowed = self.slowed
            || self.gate.admit(&message, self.attribution.directory(), Time::from_secs(now)).is_some_and(|c| c.slow);
        if self.slowed {
            self.waiting.push_back((number, recipients));
        } else {
            self.going.push(Sent { number, recipients, tried: now + takes, told: false });
        }
    }

    fn release(&mut self, now: i64, takes: i64) -> usize {
        let going = |(number, recipients): &(u32, u32)| Going {
            owner: self.owner,
            id: id(*number),
            origin: Origin::Script,
            login: Box::default(),
            recipients: *recipients,
        };
        let next = self.waiting.iter().map(going).collect();
        let room = self.gate.has_room(self.owner, self.attribution.directory(), Time::from_secs(now));
        let gone = self.gate.let_go(next, self.attribution.directory(), Time::from_secs(now));
        assert!(room || gone == 0, "where there is no room nothing leaves");
        for (number, recipients) in self.waiting.drain(..gone) {
            self.going.push(Sent { number, recipients, tried: now + takes, told: true });
        }
        self.slowed &= !self.waiting.is_empty();
        gone
    }

    fn deliver(&mut self, now: i64) {
        let (tried, going) = std::mem::take(&mut self.going).into_iter().partition(|one| one.tried <= now);
        self.going = going;
        let tried: Vec<Sent> = tried;
        for Sent { number, recipients, tried, .. } in tried {
            self.arrived.push((tried, number, recipients));
            self.untold.push((number, recipients, tried));
        }
    }

    /// The log has told of everything that it will tell of up to now.
    fn tell(&mut self, now: i64) {
        let mut news = News { read_up_to: Some(Time::from_secs(now)), budget: 0, ..News::default() };
        for one in self.going.iter_mut().filter(|one| !one.told) {
            one.told = true;
            news.arrived.push(id(one.number));
        }
        for (number, recipients, at) in self.untold.drain(..) {
            let (at, now) = (Time::from_secs(at), Time::from_secs(now));
            let mail = Mail { owner: self.owner, origin: Origin::Script, basis: Basis::Uid, login: b"", at, now };
            self.log.count(&mail, What::Message, &self.attribution);
            self.log.count(&mail, What::Left(recipients), &self.attribution);
            news.arrived.push(id(number));
            news.left.push(id(number));
        }
        news.changes = self.log.moved();
        self.gate.hear(news);
        let alone = |verdict: &Verdict| self.arrived.iter().any(|(_, _, n)| u64::from(*n) == verdict.observed);
        assert!(self.log.take_verdicts().iter().all(alone), "the log saw more leave than may");
    }
}

#[test]
fn never_more_than_the_limit_arrives_within_a_window_and_all_of_it_in_the_end() {
    let mut dice = fastrand::Rng::with_seed(0x510e);
    let (mut slowed, mut passed, mut turns, mut large, mut late, mut again) = (0, 0, 0, 0, 0, 0);
    for _ in 0..10_000 {
        let by_recipients = dice.bool();
        let (limit, signal) = (dice.u64(3..30), if by_recipients { Signal::Recipients } else { Signal::Messages });
        let mut world = world(limit, signal);
        let (total, slow_server) = (dice.u32(1..40), dice.i64(1..300));
        let (mut now, mut sent, mut was) = (START + dice.i64(0..3_600), 0, false);
        while sent < total || !world.waiting.is_empty() || !world.going.is_empty() {
            now += if dice.u32(..12) == 0 { dice.i64(0..900) } else { dice.i64(0..4) };
            if sent == total {
                now += dice.i64(0..120);
            }
            world.deliver(now);
            if dice.u32(..3) > 0 {
                world.tell(now);
            }
            late += usize::from(!world.untold.is_empty());
            if sent < total {
                // Now and then one that is larger than the quota.
                let recipients = if dice.u32(..40) == 0 { dice.u32(1..60) } else { dice.u32(1..4) };
                large += usize::from(by_recipients && u64::from(recipients) > limit);
                world.send(sent, recipients, now, dice.i64(0..slow_server));
                sent += 1;
            }
            again += usize::from(world.slowed && !was && !world.arrived.is_empty());
            was = world.slowed;
            if world.slowed {
                turns += usize::from(world.release(now, dice.i64(0..slow_server)) > 0);
            }
        }
        world.deliver(i64::MAX);
        assert_eq!(world.arrived.len(), total as usize, "all of it");
        world.arrived.sort_unstable();
        let number = |recipients: u32| if by_recipients { u64::from(recipients) } else { 1 };
        for (at, _, _) in &world.arrived {
            let window: Vec<u64> = world
                .arrived
                .iter()
                .filter(|(other, ..)| (*at..*at + WINDOW).contains(other))
                .map(|(_, _, recipients)| number(*recipients))
                .collect();
            let sum: u64 = window.iter().sum();
            assert!(sum <= limit || window.len() == 1, "{sum} of {limit} within an hour: {:?}", world.arrived);
        }
        let everything: u64 = world.arrived.iter().map(|(_, _, recipients)| number(*recipients)).sum();
        slowed += usize::from(everything > limit);
        passed += usize::from(everything <= limit);
    }
    println!(
        "slowed {slowed}, passed {passed}, turns {turns}, larger than a quota {large}, log late {late}, begun {again}"
    );
    assert!(slowed > 1_000 && passed > 500 && turns > 10_000 && large > 1_000 && late > 10_000 && again > 1_000);
}

#[test]
fn nobody_waits_who_sends_no_more_than_the_quota() {
    let mut world = world(10, Signal::Messages);
    for n in 0..10 {
        world.send(n, 1, START, 5);
    }
    assert!(!world.slowed);
    world.send(10, 1, START, 5);
    assert!(world.slowed && world.waiting.len() == 1);
    // A bucket more than the window, after the last of them was tried.
    world.deliver(START + 5);
    world.tell(START + 5);
    let bucket = WINDOW / i64::from(PARTS);
    assert_eq!(world.release(START + WINDOW - 1, 0), 0);
    assert_eq!(world.release(START + 5 + WINDOW + bucket, 0), 1);
    assert!(!world.slowed);
}

#[test]
fn an_exempt_account_is_not_slowed_down_and_one_that_is_blocked_by_nobody_needs_no_budget() {
    let mut world = world(1, Signal::Messages);
    world.gate.spare([(world.owner, None)].into());
    (0..5).for_each(|n| world.send(n, 1, START, 0));
    assert!(!world.slowed);
    world.gate.spare([(world.owner, Some(identity(b"quota")))].into());
    (5..9).for_each(|n| world.send(n, 1, START, 0));
    assert!(!world.slowed);
    world.gate.spare(BTreeSet::new());
    world.gate.hear(News { budget: 0, ..News::default() });
    world.send(9, 1, START, 0);
    assert!(world.slowed);
}
