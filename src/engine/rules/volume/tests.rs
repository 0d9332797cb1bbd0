//! The gate's count against a plain list of what it let through, with a log that tells of it late, in parts and out of order.

use super::super::{Mail, Rules, Target, What};
use super::*;
use crate::engine::accounts::Accounts;
use crate::engine::attribution::Attribution;
use crate::engine::directory::{AccountSpec, Policy};
use crate::mail::Basis;

const START: i64 = 1_800_000_000;

fn rule(name: &str, signal: Signal, limit: u64, lane: Lane) -> Rule {
    Rule { measure: Measure::Block, lane, ..Rule::new(name, signal, 3_600, limit) }
}

struct World {
    attribution: Attribution,
    log: Rules,
    gate: Volume,
    owner: Owner,
    /// Let through, and not in the log yet.
    untold: Vec<(QueueId, Origin, &'static [u8], u32, i64)>,
    ids: u32,
}

fn world(rules: Vec<Rule>) -> World {
    let shop = AccountSpec { id: "shop".into(), uids: vec![2_001], ..AccountSpec::default() };
    let directory = Directory::build(vec![shop], Policy::default()).unwrap();
    let mut accounts = Accounts::new(1, 100);
    let owner = accounts.intern_listed("shop", Time::ZERO);
    let attribution = Attribution::new(accounts, directory, 1);
    let mut world = World {
        attribution,
        log: Rules::new(rules, false, 1),
        gate: Volume::default(),
        owner,
        untold: Vec::new(),
        ids: 0,
    };
    world.arm();
    world
}

impl World {
    fn arm(&mut self) {
        let armed = Arc::new(Armed::of(self.log.rules()));
        let member = Member { owner: self.owner, key: "shop".into(), uids: vec![2_001] };
        self.gate.begin(Arc::clone(&armed), vec![member]);
        self.log.share(armed);
        self.tell(0, START, true);
    }

    fn send(&mut self, origin: Origin, login: &'static [u8], recipients: u32, second: i64) -> Option<Crossing> {
        self.ids += 1;
        let id = QueueId::new(format!("{:010X}", self.ids).as_bytes()).unwrap();
        let sender = if login.is_empty() { Sender::Uid(2_001) } else { Sender::Key("shop".into()) };
        let message = Message { id: Some(id), sender: &sender, origin, login, recipients };
        let crossing = self.gate.admit(&message, self.attribution.directory(), Time::from_secs(second));
        if crossing.is_none() {
            self.untold.push((id, origin, login, recipients, second));
        }
        crossing
    }

    /// The log tells of the first so many that it has not told of.
    fn tell(&mut self, many: usize, now: i64, whole: bool) {
        let many = many.min(self.untold.len());
        let mut arrived = Vec::new();
        for (id, origin, login, recipients, at) in self.untold.drain(..many) {
            let (owner, basis) = (self.owner, Basis::Uid);
            let mail = Mail { owner, origin, basis, login, at: Time::from_secs(at), now: Time::from_secs(now) };
            self.log.count(&mail, What::Message, &self.attribution);
            self.log.count(&mail, What::Recipients(recipients), &self.attribution);
            arrived.push(id);
        }
        let read_up_to = whole.then(|| Time::from_secs(now));
        self.gate.hear(News { changes: self.log.moved(), arrived, read_up_to, budget: 9, ..News::default() });
    }
}

#[test]
fn the_first_that_is_too_much_is_told_however_late_the_log_is() {
    let mut dice = fastrand::Rng::with_seed(0x70_1e);
    let (mut late, mut told, mut by_recipients, mut slid, mut stale) = (0, 0, 0, 0, 0);
    for _ in 0..10_000 {
        let (messages, recipients) = (dice.u64(1..40), dice.u64(1..200));
        let mut world = world(vec![
            rule("m", Signal::Messages, messages, Lane::Script),
            rule("r", Signal::Recipients, recipients, Lane::Script),
        ]);
        let (mut passed, mut now): (Vec<(i64, u64)>, i64) = (Vec::new(), START + dice.i64(0..3_600));
        loop {
            now += if dice.u32(..12) == 0 { dice.i64(0..3_000) } else { dice.i64(0..3) };
            if dice.u32(..3) == 0 {
                let many = dice.usize(..=world.untold.len());
                dice.shuffle(&mut world.untold);
                told += many;
                world.tell(many, now, false);
            }
            if dice.u32(..20) == 0 {
                // Some other login's mail is not the script's.
                assert_eq!(world.send(Origin::SmtpAuth, b"box@shop.test", 500, now), None);
            }
            let n = dice.u32(1..12);
            // As rules count: the bucket of now and the 60 before it, of a minute each.
            let oldest = now.div_euclid(60) - 60;
            let held: Vec<&(i64, u64)> = passed.iter().filter(|(at, _)| at.div_euclid(60) >= oldest).collect();
            slid += usize::from(held.len() < passed.len());
            let (count, sum) = (held.len() as u64 + 1, held.iter().map(|(_, n)| n).sum::<u64>() + u64::from(n));
            let expected = if count > messages { Some(("m", count)) } else { (sum > recipients).then_some(("r", sum)) };
            stale += usize::from(world.untold.iter().any(|(.., at)| at.div_euclid(60) < oldest));
            let crossing = world.send(Origin::Script, b"", n, now);
            late += usize::from(!world.untold.is_empty());
            assert_eq!(crossing.as_ref().map(|one| (&*one.rule, one.observed)), expected, "{passed:?}");
            match crossing {
                Some(one) => {
                    by_recipients += usize::from(&*one.rule == "r");
                    assert_eq!((one.owner, one.scope), (world.owner, Scope::Script));
                    break;
                }
                None => passed.push((now, u64::from(n))),
            }
        }
    }
    println!(
        "crossed while the log was late {late}, told {told}, by recipients {by_recipients}, slid {slid}, stale {stale}"
    );
    assert!(late > 10_000 && told > 10_000 && by_recipients > 1_000 && slid > 1_000 && stale > 1_000);
}

#[test]
fn a_login_is_counted_for_itself_and_an_account_as_a_whole() {
    let mut world =
        world(vec![rule("login", Signal::Messages, 2, Lane::Login), rule("all", Signal::Messages, 5, Lane::All)]);
    let at = START;
    for login in [&b"a@shop.test"[..], b"b@shop.test", b"a@shop.test"] {
        assert_eq!(world.send(Origin::SmtpAuth, login, 1, at), None);
    }
    world.tell(2, at, false);
    let crossing = world.send(Origin::SmtpAuth, b"A@shop.test", 1, at).unwrap();
    assert_eq!((&*crossing.rule, crossing.observed, crossing.scope), ("login", 3, Scope::Login("a@shop.test".into())));
    assert_eq!(world.send(Origin::SmtpAuth, b"b@shop.test", 1, at), None);
    assert_eq!(world.send(Origin::Script, b"", 1, at), None);
    let crossing = world.send(Origin::Script, b"", 1, at).unwrap();
    assert_eq!((&*crossing.rule, crossing.observed, crossing.scope), ("all", 6, Scope::All));
}

#[test]
fn a_rule_that_only_observes_takes_the_place_of_one_that_blocks() {
    let strict = rule("all", Signal::Messages, 1, Lane::Script);
    let own = |target| Rule { measure: Measure::Observe, target, ..rule("own", Signal::Messages, 50, Lane::Script) };
    for (target, held) in [(Target::Account("shop".into()), false), (Target::Account("other".into()), true)] {
        let mut world = world(vec![strict.clone(), own(target)]);
        world.send(Origin::Script, b"", 1, START);
        assert_eq!(world.send(Origin::Script, b"", 1, START).is_some(), held);
    }
    assert!(Armed::of(&[own(Target::All)]).is_empty(), "none blocks");
}

#[test]
fn what_was_not_accepted_is_given_back_when_the_log_has_gone_on() {
    let mut world = world(vec![rule("m", Signal::Messages, 2, Lane::Script)]);
    assert_eq!(world.send(Origin::Script, b"", 1, START), None);
    assert_eq!(world.send(Origin::Script, b"", 1, START), None);
    world.untold.clear();
    world.tell(0, START + VOID_SECS, true);
    world.tell(0, START + VOID_SECS + 1, false);
    assert!(world.send(Origin::Script, b"", 1, START).is_some(), "the log may still tell of them");
    let mut world = self::world(vec![rule("m", Signal::Messages, 2, Lane::Script)]);
    world.send(Origin::Script, b"", 1, START);
    world.send(Origin::Script, b"", 1, START);
    world.tell(0, START + VOID_SECS + 1, true);
    assert_eq!(world.send(Origin::Script, b"", 1, START + VOID_SECS + 1), None);
    assert!(world.gate.reserved.len() == 1 && world.gate.order.len() == 1 && world.gate.sums.len() == 1);
}

#[test]
fn a_log_that_tells_nothing_any_more_makes_nobody_guilty() {
    let mut world = world(vec![rule("m", Signal::Messages, 10, Lane::Script)]);
    for n in 0..2_000 {
        assert_eq!(world.send(Origin::Script, b"", 1, START + n * 400), None, "nine an hour are no ten: {n}");
    }
    assert!(world.gate.reserved.len() < 20 && world.gate.order.len() < 20 && world.gate.sums.len() == 1);
}

#[test]
fn a_rule_speaks_once_in_its_window_and_spares_whom_it_should() {
    let name = Some(identity(b"m"));
    let sent = |world: &mut World, at: i64| world.send(Origin::Script, b"", 1, at).map(|one| one.observed);
    let mut world = world(vec![rule("m", Signal::Messages, 1, Lane::Script)]);
    assert_eq!([0, 1, 2, 3_599].map(|later| sent(&mut world, START + later)), [None, Some(2), None, None]);
    // The pump has heard of it: the log does not say it again.
    world.log.spoke(world.owner, b"", &rule("m", Signal::Messages, 1, Lane::Script), Time::from_secs(START + 1));
    world.tell(9, START + 3_599, true);
    // The log has told of what was let through since, and the rule may speak again.
    assert_eq!(sent(&mut world, START + 3_601), Some(4));
    for (spared, held) in [(vec![], true), (vec![(world.owner, None)], false), (vec![(world.owner, name)], false)] {
        let mut world = self::world(vec![rule("m", Signal::Messages, 1, Lane::Script)]);
        world.gate.spare(spared.into_iter().collect());
        assert_eq!([0, 0].map(|later| sent(&mut world, START + later).is_some()), [false, held]);
    }
    // Nor is anybody held beyond the budget.
    world.arm();
    world.gate.hear(News { budget: 0, ..News::default() });
    assert_eq!(sent(&mut world, START + 20_000), None);
}

#[test]
fn a_stranger_is_asked_about_and_what_he_sent_counts_when_he_is_known() {
    let mut world = world(vec![rule("m", Signal::Messages, 2, Lane::Script)]);
    let sender = Sender::Uid(2_009);
    for n in 0..3_u32 {
        let id = QueueId::new(format!("F{n:09X}").as_bytes());
        let message = Message { id, sender: &sender, origin: Origin::Script, login: b"", recipients: 1 };
        assert_eq!(world.gate.admit(&message, world.attribution.directory(), Time::from_secs(START)), None);
    }
    assert_eq!(world.gate.take_strangers(), [sender.clone()].into());
    let owner = Owner(77);
    world.gate.learn(vec![Member { owner, key: "web9".into(), uids: vec![2_009] }]);
    let message = Message { id: None, sender: &sender, origin: Origin::Script, login: b"", recipients: 1 };
    let crossing = world.gate.admit(&message, world.attribution.directory(), Time::from_secs(START));
    assert_eq!(crossing.map(|one| (one.owner, one.observed)), Some((owner, 4)));
    assert_eq!(world.gate.known_by(owner), ("web9".to_owned(), vec![2_009]));
}

#[test]
fn what_is_reserved_is_bounded() {
    let mut world = world(vec![rule("m", Signal::Messages, 1 << 40, Lane::Script)]);
    for n in 0..MOST_RESERVED + 10 {
        world.send(Origin::Script, b"", 1, START);
        if n % 3 == 0 {
            let id = world.untold.pop().unwrap().0;
            world.gate.hear(News { arrived: vec![id], ..News::default() });
        }
    }
    for _ in 0..2 * MOST_RESERVED {
        world.send(Origin::Script, b"", 1, START);
    }
    assert_eq!(world.gate.reserved.len(), MOST_RESERVED);
    assert!(world.gate.order.len() <= 2 * MOST_RESERVED);
    for n in 0..2 * MOST_STRANGERS {
        let sender = Sender::Uid(10_000 + n as u32);
        let message = Message { id: None, sender: &sender, origin: Origin::Script, login: b"", recipients: 1 };
        world.gate.admit(&message, world.attribution.directory(), Time::from_secs(START));
    }
    assert_eq!(world.gate.take_strangers().len(), MOST_STRANGERS);
}
