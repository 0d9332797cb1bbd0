//! Slots: what is counted, for all rules that look at the same thing over the same time.

use super::rule::{Classes, Lane, Rule, Target};
use super::window::PARTS;
use crate::mail::{Measure, Origin, Signal};
use std::collections::BTreeMap;

/// How a slot counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    Count,
    Ratio,
    Distinct,
    Level,
    /// Those that are new, and whom it knows.
    New,
    Busiest,
    /// What there is, and what is usual.
    History,
}

impl Shape {
    fn of(signal: Signal) -> Shape {
        match signal {
            Signal::ErrorRatio => Shape::Ratio,
            Signal::DistinctRecipients | Signal::LoginAddresses => Shape::Distinct,
            Signal::Queued | Signal::Held => Shape::Level,
            Signal::NewRecipients => Shape::New,
            Signal::Scripts => Shape::Busiest,
            Signal::AgainstHistory => Shape::History,
            _ => Shape::Count,
        }
    }

    /// How many windows it needs.
    pub const fn windows(self) -> usize {
        match self {
            Shape::Count | Shape::New | Shape::History => 1,
            Shape::Ratio => 2,
            Shape::Distinct | Shape::Level | Shape::Busiest => 0,
        }
    }

    const ALL: [Shape; 7] =
        [Shape::Count, Shape::Ratio, Shape::Distinct, Shape::Level, Shape::New, Shape::Busiest, Shape::History];

    const fn remembers(self) -> bool {
        matches!(self, Shape::New | Shape::History)
    }

    pub fn from_code(code: u8) -> Option<Shape> {
        Shape::ALL.get(usize::from(code)).copied()
    }
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    pub signal: Signal,
    pub shape: Shape,
    /// Where its windows begin among those of a subject, and where what it has besides lies among those of its shape.
    pub place: u16,
    pub more: u16,
    /// What is remembered for long (whom an account knows, what it usually sends) all windows of a lane have together: the
    /// first of them keeps it, under this identity.
    pub keeps: bool,
    pub memory: u64,
    /// Seconds of a bucket.
    pub bucket: u32,
    pub classes: Classes,
    pub lane: Lane,
    /// It counts what leaves, when it leaves: its rules slow an account down.
    pub paced: bool,
    /// The highest limit of its rules.
    pub most: u64,
    /// The lowest: nothing is looked at before it is crossed.
    pub least: u64,
    /// The smallest sample that one of them asks for.
    pub sample: u32,
    /// Numbers of its rules.
    pub rules: Vec<u8>,
    /// Stays the same over restarts and changes of the rules.
    pub identity: u64,
}

impl Slot {
    /// In which bucket a second lies.
    #[inline]
    pub fn bucket_of(&self, second: u32) -> u32 {
        second / self.bucket
    }

    /// The first second of the oldest bucket that counts.
    pub fn oldest_second(&self, now: u32) -> u32 {
        self.bucket_of(now).saturating_sub(PARTS) * self.bucket
    }

    const fn of_logins(&self) -> bool {
        matches!(self.lane, Lane::Login)
    }
}

/// How a message is counted, which decides where it counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// By a program.
    Script,
    /// With a login, as the account's.
    Auth,
    /// With a login, as the login's.
    Login,
}

impl Way {
    pub const ALL: [Way; 3] = [Way::Script, Way::Auth, Way::Login];

    pub const fn of(origin: Origin) -> Option<Way> {
        match origin {
            Origin::Script | Origin::LocalSmtp => Some(Way::Script),
            Origin::SmtpAuth => Some(Way::Auth),
            Origin::Incoming | Origin::Internal => None,
        }
    }

    /// One that is counted so.
    pub const fn origin(self) -> Origin {
        match self {
            Way::Script => Origin::Script,
            Way::Auth | Way::Login => Origin::SmtpAuth,
        }
    }

    pub const fn falls_into(self, lane: Lane) -> bool {
        match self {
            Way::Script => matches!(lane, Lane::Script | Lane::All),
            Way::Auth => matches!(lane, Lane::All),
            Way::Login => matches!(lane, Lane::Login),
        }
    }
}

/// What can be counted of a message; the place in [`Slots::by`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Topic {
    Message,
    Recipients,
    Recipient,
    Ended,
    Refused,
    Address,
    Queued,
    Held,
    Script,
    Reply,
    ReplyTo,
    /// A message that was let go was tried to deliver for the first time.
    Left,
}

impl Topic {
    pub const ALL: [Topic; 12] = [
        Topic::Message,
        Topic::Recipients,
        Topic::Recipient,
        Topic::Ended,
        Topic::Refused,
        Topic::Address,
        Topic::Queued,
        Topic::Held,
        Topic::Script,
        Topic::Reply,
        Topic::ReplyTo,
        Topic::Left,
    ];

    const fn moves(self, slot: &Slot) -> bool {
        let signal = slot.signal;
        if slot.paced {
            return matches!(self, Topic::Left);
        }
        match self {
            Topic::Message => matches!(signal, Signal::Messages | Signal::AgainstHistory),
            Topic::Left => false,
            Topic::Recipients => matches!(signal, Signal::Recipients),
            Topic::Recipient => matches!(signal, Signal::DistinctRecipients | Signal::NewRecipients),
            Topic::Ended => {
                matches!(signal, Signal::Errors | Signal::ErrorRatio | Signal::UnknownRecipients | Signal::SpamVerdicts)
            }
            Topic::Refused => matches!(signal, Signal::SpamVerdicts),
            Topic::Address => matches!(signal, Signal::LoginAddresses),
            Topic::Queued => matches!(signal, Signal::Queued),
            Topic::Held => matches!(signal, Signal::Held),
            Topic::Script => matches!(signal, Signal::Scripts),
            Topic::Reply => matches!(signal, Signal::Messages),
            Topic::ReplyTo => matches!(signal, Signal::DistinctRecipients),
        }
    }
}

/// All of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Slots {
    pub list: Vec<Slot>,
    /// Which of them something moves, by way and topic.
    by: [[Vec<u8>; Topic::ALL.len()]; Way::ALL.len()],
}

impl Slots {
    /// Of at most [`MAX_RULES`](super::MAX_RULES) rules.
    pub fn new(rules: &[Rule]) -> Slots {
        let mut list: Vec<Slot> = Vec::new();
        let mut known: BTreeMap<(Signal, u32, Classes, Lane, bool), usize> = BTreeMap::new();
        for (number, rule) in rules.iter().enumerate() {
            let paced = rule.measure == Measure::Slow;
            let key = (rule.signal, rule.window_secs, rule.classes, rule.lane, paced);
            let at = *known.entry(key).or_insert_with(|| {
                list.push(Slot {
                    signal: rule.signal,
                    shape: Shape::of(rule.signal),
                    place: 0,
                    more: 0,
                    keeps: false,
                    memory: identity(&[u8::MAX, rule.signal.code(), rule.lane as u8]),
                    bucket: (rule.window_secs / PARTS).max(1),
                    classes: rule.classes,
                    lane: rule.lane,
                    paced,
                    most: 0,
                    least: u64::MAX,
                    sample: u32::MAX,
                    rules: Vec::new(),
                    identity: identity_of(rule),
                });
                list.len() - 1
            });
            if let Some(slot) = list.get_mut(at) {
                slot.rules.push(number as u8);
                slot.sample = slot.sample.min(rule.min_sample);
                // Nothing is to be missed that is worth a warning.
                let least = if rule.warns { (rule.limit / 2).saturating_sub(1) } else { rule.limit };
                (slot.most, slot.least) = (slot.most.max(rule.limit), slot.least.min(least));
            }
        }
        for logins in [false, true] {
            let (mut windows, mut more) = (0, [0; Shape::ALL.len()]);
            let mut kept: BTreeMap<u64, u16> = BTreeMap::new();
            for slot in list.iter_mut().filter(|slot| slot.of_logins() == logins) {
                slot.place = windows;
                windows += slot.shape.windows() as u16;
                let Some(next) = more.get_mut(slot.shape as usize) else { continue };
                let known = if slot.shape.remembers() { kept.get(&slot.memory) } else { None };
                if let Some(at) = known {
                    slot.more = *at;
                    continue;
                }
                (slot.more, slot.keeps) = (*next, slot.shape.remembers());
                *next += 1;
                kept.insert(slot.memory, slot.more);
            }
        }
        let moved = |way: Way, topic: Topic| {
            let falls = |slot: &Slot| way.falls_into(slot.lane) && topic.moves(slot);
            (0..).zip(&list).filter(|(_, slot)| falls(slot)).map(|(at, _)| at).collect()
        };
        let by = Way::ALL.map(|way| Topic::ALL.map(|topic| moved(way, topic)));
        Slots { list, by }
    }

    /// Those that count what subjects of a kind do: logins, or accounts.
    pub fn those_of(&self, logins: bool) -> impl Iterator<Item = &Slot> + Clone {
        self.list.iter().filter(move |slot| slot.of_logins() == logins)
    }

    #[inline]
    pub fn of(&self, way: Way, topic: Topic) -> &[u8] {
        self.by.get(way as usize).and_then(|topics| topics.get(topic as usize)).map_or(&[], |slots| slots)
    }
}

fn identity_of(rule: &Rule) -> u64 {
    let mut bytes = vec![rule.signal.code(), rule.lane as u8];
    bytes.extend(rule.window_secs.to_le_bytes());
    bytes.extend(rule.classes.bits().to_le_bytes());
    if rule.measure == Measure::Slow {
        bytes.push(1);
    }
    identity(&bytes)
}

/// A hash that is the same for good (FNV-1a, 64 bits).
pub fn identity(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Which rules are about an account with this key and plan: one bit each. Of those that look at the same thing, those for
/// fewer accounts win.
pub fn rules_for(rules: &[Rule], key: &str, plan: Option<&str>) -> u64 {
    let applies = |rule: &Rule| match &rule.target {
        Target::All => true,
        Target::Plan(wanted) => plan == Some(wanted),
        Target::Account(wanted) => **wanted == *key,
    };
    let chosen = |rule: &Rule| (identity(key.as_bytes()) % 100) < u64::from(rule.share);
    // Whether they slow down or do something else makes no difference to who wins.
    let same = |a: &Rule, b: &Rule| {
        (a.signal, a.window_secs, a.classes, a.lane) == (b.signal, b.window_secs, b.classes, b.lane)
    };
    let mut bits = 0;
    for (at, rule) in rules.iter().enumerate().filter(|(_, rule)| applies(rule)) {
        let beaten = |other: &&Rule| applies(other) && same(rule, other) && other.target.rank() > rule.target.rank();
        if !rules.iter().any(|other| beaten(&other)) && chosen(rule) {
            bits |= 1 << at;
        }
    }
    bits
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(name: &str, limit: u64, target: Target) -> Rule {
        Rule { target, ..Rule::new(name, Signal::Messages, 3_600, limit) }
    }

    #[test]
    fn rules_that_look_at_the_same_share_a_slot_and_the_narrower_win() {
        let rules = [
            rule("all", 5, Target::All),
            rule("all2", 50, Target::All),
            rule("plan", 500, Target::Plan("pro".into())),
            rule("one", 9, Target::Account("shop".into())),
            Rule::new("day", Signal::Messages, 86_400, 7),
        ];
        let slots = Slots::new(&rules);
        assert_eq!(slots.list.len(), 2);
        assert_eq!((slots.list[0].least, slots.list[0].most), (5, 500));
        for (key, plan, bits) in [
            ("x", None, 0b10011),
            ("x", Some("pro"), 0b10100),
            ("shop", Some("pro"), 0b11000),
            ("y", Some("z"), 0b10011),
        ] {
            assert_eq!(rules_for(&rules, key, plan), bits, "{key} {plan:?}");
        }
        assert_eq!(slots.of(Way::Script, Topic::Message), [0, 1]);
        assert!(slots.of(Way::Script, Topic::Left).is_empty());
        // One that slows down looks at what leaves, and takes the place of the others all the same.
        let slow = Rule { measure: Measure::Slow, ..rule("slow", 5, Target::Plan("pro".into())) };
        let rules = [rule("all", 5, Target::All), slow];
        let slots = Slots::new(&rules);
        assert_eq!((slots.of(Way::Script, Topic::Message), slots.of(Way::Script, Topic::Left)), (&[0][..], &[1][..]));
        assert_ne!(slots.list[0].identity, slots.list[1].identity);
        assert_eq!((rules_for(&rules, "x", None), rules_for(&rules, "x", Some("pro"))), (0b01, 0b10));
        assert!(slots.of(Way::Auth, Topic::Message).is_empty());
    }

    #[test]
    fn a_share_of_accounts_stays_the_same_and_grows() {
        let share = |share| [Rule { share, ..rule("a", 5, Target::All) }];
        let of = |percent: u8| -> Vec<usize> {
            let rules = share(percent);
            (0..10_000).filter(|n| rules_for(&rules, &format!("web{n}"), None) == 1).collect()
        };
        let (one, ten, all) = (of(1), of(10), of(100));
        assert!((50..200).contains(&one.len()) && (800..1_200).contains(&ten.len()) && all.len() == 10_000);
        assert!(one.iter().all(|n| ten.contains(n)) && of(0).is_empty());
    }
}
