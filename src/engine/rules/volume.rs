//! Volume ahead of the log: how much an account has sent, with what the gate has let through and the log does not tell yet.
//!
//! The log is where everything is counted. But a message stands in the log only when it is on its way, and a burst is over
//! by then. So the gate has a copy of the windows of the rules that block for volume, and beside it a *reservation* for
//! each message that it has let through: when the log tells of the message it is in the windows, and its reservation goes
//! in the same moment. So nothing counts twice, and with a limit of 200 the 201st message is the first that is held.
//!
//! A rule that slows an account down counts what *leaves*, when it is tried to deliver for the first time: its reservations
//! stay until then, however long that takes, and what is released is reserved anew. So never more than its limit reaches
//! receivers within its window.
//!
//! Pure. Only what is proven counts. Bounded: by accounts and rules, by [`MOST_RESERVED`], by [`MOST_STRANGERS`].

use super::rule::{Lane, Rule};
use super::slots::{Slot, Slots, Topic, Way, rules_for};
use super::window::{PARTS, Window};
use super::{PROVEN, Subject, identity, login_part, seconds};
use crate::engine::accounts::name_from;
use crate::engine::directory::Directory;
use crate::mail::{Measure, Origin, Owner, QueueId, Scope, Signal, Time};
use hashbrown::HashMap;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// Messages that were let through and that the log has not told of. Of more, the oldest are believed to be told.
const MOST_RESERVED: usize = 50_000;
/// A message that the log has not told of when it is this much further was not accepted after all.
const VOID_SECS: i64 = 60;
/// Senders of whom nobody knows yet which account they are.
const MOST_STRANGERS: usize = 1_000;

type Map<K, V> = HashMap<K, V, foldhash::quality::FixedState>;

/// By what a message's account is known.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Sender {
    Uid(u32),
    /// What evidence leads to.
    Key(String),
}

/// An account that is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub owner: Owner,
    pub key: String,
    pub uids: Vec<u32>,
}

/// What the log has told of a subject.
#[derive(Debug, Clone, Default)]
pub struct Told {
    /// In the order of the slots.
    windows: Vec<Window>,
    /// When rules spoke.
    spoke: Vec<(u64, u32)>,
}

/// A subject whose windows have changed.
#[derive(Debug, Clone)]
pub struct Change {
    subject: Subject,
    told: Told,
}

/// What has changed since it was told last.
#[derive(Debug, Default)]
pub struct News {
    pub changes: Vec<Change>,
    /// Messages of which the log has told.
    pub arrived: Vec<QueueId>,
    /// Those that it says were tried to deliver.
    pub left: Vec<QueueId>,
    /// The time of the log, where it was read to its end.
    pub read_up_to: Option<Time>,
    /// Automatic blocks that may be made yet.
    pub budget: usize,
}

/// A limit that the message at hand crosses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Crossing {
    pub owner: Owner,
    pub rule: Arc<str>,
    /// With this message.
    pub observed: u64,
    pub scope: Scope,
    /// It is slowed down, not blocked.
    pub slow: bool,
}

/// A message that is about to leave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Going {
    pub owner: Owner,
    pub id: QueueId,
    pub origin: Origin,
    pub login: Box<[u8]>,
    pub recipients: u32,
}

/// The message at hand.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    pub id: Option<QueueId>,
    pub sender: &'a Sender,
    pub origin: Origin,
    /// As the server spells it; empty where there is none.
    pub login: &'a [u8],
    pub recipients: u32,
}

#[derive(Debug, Clone)]
struct Reserved {
    /// Whose it is, once that is known; until then by what it will be.
    owner: Result<Owner, Sender>,
    /// Of a login: its part.
    login: u64,
    way: Way,
    recipients: u32,
    at: Time,
    /// The log has told of it: it has not left yet.
    told: bool,
}

/// Messages and recipients that are reserved, by way: what programs send does not count as what a login does.
type Sums = [(u64, u64); Way::ALL.len()];

/// See the module.
#[derive(Debug, Default)]
pub struct Volume {
    rules: Arc<Armed>,
    owners: Map<Sender, Owner>,
    keys: Map<Owner, String>,
    /// Which rules are about an account.
    about: Map<Owner, u64>,
    told: Map<Subject, Told>,
    reserved: Map<QueueId, Reserved>,
    /// The oldest first; those that are not reserved any more are passed over.
    order: VecDeque<QueueId>,
    /// By the second in which they were let through: what has left a window counts no more, also where no log tells of it.
    sums: Map<Subject, BTreeMap<u32, Sums>>,
    /// Everything that has not left, where that matters.
    going: Map<Subject, Sums>,
    /// Reservations of strangers.
    unowned: usize,
    /// Accounts that rules spare: all of them, or the one of this identity.
    spared: BTreeSet<(Owner, Option<u64>)>,
    strangers: BTreeSet<Sender>,
    budget: usize,
}

/// The rules for volume, where one of them blocks, and what they look at: one that does not block may take the place of one
/// that does, for an account. Whoever tells the gate what the log has told knows them too.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Armed {
    rules: Vec<Rule>,
    pub(super) slots: Slots,
}

impl Armed {
    /// Those of these that a gate can judge.
    pub fn of(rules: &[Rule]) -> Armed {
        let volume = |rule: &&Rule| matches!(rule.signal, Signal::Messages | Signal::Recipients);
        let mut rules: Vec<Rule> = rules.iter().filter(volume).cloned().collect();
        if rules.iter().all(|rule| !rule.measure.holds()) {
            rules.clear();
        }
        let slots = Slots::new(&rules);
        Armed { rules, slots }
    }

    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Some of them slow down.
    pub fn paces(&self) -> bool {
        self.rules.iter().any(|rule| rule.measure == Measure::Slow)
    }

    /// The one of this name, if mail is held for it.
    pub fn rule(&self, name: &str) -> Option<&Rule> {
        self.rules.iter().find(|rule| *rule.name == *name && rule.measure.holds())
    }
}

impl Change {
    pub(super) fn new(subject: Subject, windows: Vec<Window>, spoke: Vec<(u64, u32)>) -> Change {
        Change { subject, told: Told { windows, spoke } }
    }
}

impl Volume {
    /// Other rules, or accounts that are known by other names: everything is told anew. What is reserved stays.
    pub fn begin(&mut self, rules: Arc<Armed>, members: Vec<Member>) {
        let mut all = std::mem::take(&mut self.reserved);
        if !rules.paces() {
            all.retain(|_, one| !one.told);
        }
        self.rules = rules;
        self.going.clear();
        if self.rules.paces() {
            all.values().for_each(|one| self.go(one, 1));
        }
        self.reserved = all;
        self.owners.clear();
        self.keys.clear();
        self.about.clear();
        self.told.clear();
        self.strangers.clear();
        self.learn(members);
    }

    /// More of them.
    pub fn learn(&mut self, members: Vec<Member>) {
        for Member { owner, key, uids } in members {
            self.owners.extend(uids.into_iter().map(|uid| (Sender::Uid(uid), owner)));
            self.owners.insert(Sender::Key(key.clone()), owner);
            self.keys.insert(owner, key);
        }
        if self.unowned == 0 {
            return;
        }
        let mut found = Vec::new();
        for one in self.reserved.values_mut() {
            if let Err(sender) = &one.owner
                && let Some(owner) = self.owners.get(sender)
            {
                one.owner = Ok(*owner);
                found.push(one.clone());
            }
        }
        self.unowned -= found.len();
        found.iter().for_each(|one| self.enter(one, 1));
    }

    /// What an account's mail is known by.
    pub fn known_by(&self, owner: Owner) -> (String, Vec<u32>) {
        let uids = self.owners.iter().filter(|(_, of)| **of == owner).filter_map(|(sender, _)| match sender {
            Sender::Uid(uid) => Some(*uid),
            Sender::Key(_) => None,
        });
        let mut uids: Vec<u32> = uids.collect();
        uids.sort_unstable();
        (self.keys.get(&owner).cloned().unwrap_or_default(), uids)
    }

    /// Whom rules do not block: no rule, or not the one of this identity.
    pub fn spare(&mut self, spared: BTreeSet<(Owner, Option<u64>)>) {
        self.spared = spared;
    }

    /// Nothing is judged.
    pub fn is_idle(&self) -> bool {
        self.rules.is_empty()
    }

    /// Takes in what the log has told.
    pub fn hear(&mut self, news: News) {
        for Change { subject, told } in news.changes {
            self.told.insert(subject, told);
        }
        let paces = self.rules.paces();
        for id in news.arrived {
            if paces { self.tell(id) } else { self.void(id) }
        }
        for id in news.left {
            self.void(id);
        }
        if let Some(read) = news.read_up_to {
            while let Some(id) = self.order.front().copied()
                && self.reserved.get(&id).is_none_or(|one| one.told || read.secs_since(one.at) > VOID_SECS)
            {
                self.order.pop_front();
                self.void_untold(id);
            }
        }
        self.budget = news.budget;
    }

    /// Messages of an account that the log has not told of.
    pub fn reserved_for(&self, owner: Owner) -> Vec<QueueId> {
        let its = self.reserved.iter().filter(|(_, one)| one.owner == Ok(owner)).map(|(id, _)| *id);
        let mut its: Vec<QueueId> = its.collect();
        its.sort_unstable();
        its
    }

    /// Who sends and is nobody yet.
    pub fn take_strangers(&mut self) -> BTreeSet<Sender> {
        std::mem::take(&mut self.strangers)
    }

    /// The limit that this message crosses. One that crosses none is reserved for.
    pub fn admit(&mut self, message: &Message<'_>, directory: &Directory, now: Time) -> Option<Crossing> {
        if self.rules.is_empty() {
            return None;
        }
        let way = Way::of(message.origin)?;
        let login = if way == Way::Auth && !message.login.is_empty() { login_part(message.login) } else { PROVEN };
        match self.owners.get(message.sender).copied() {
            Some(owner) => {
                if let Some(crossing) = self.crossed(owner, way, login, message, directory, now) {
                    self.budget -= usize::from(!crossing.slow);
                    return Some(crossing);
                }
            }
            None if self.strangers.len() < MOST_STRANGERS => {
                self.strangers.insert(message.sender.clone());
            }
            None => {}
        }
        self.reserve(way, login, message, now);
        None
    }

    fn crossed(
        &mut self,
        owner: Owner,
        way: Way,
        login: u64,
        message: &Message<'_>,
        directory: &Directory,
        now: Time,
    ) -> Option<Crossing> {
        if self.spared.contains(&(owner, None)) {
            return None;
        }
        let about = self.about(owner, directory);
        let rules = Arc::clone(&self.rules);
        let now = seconds(now);
        // As the account's, and as the login's.
        let lanes = [(way, PROVEN), (Way::Login, login)];
        for (way, part) in lanes.into_iter().take(if login == PROVEN { 1 } else { 2 }) {
            let subject = Subject { owner, part };
            for topic in [Topic::Message, Topic::Recipients, Topic::Left] {
                for slot in rules.slots.of(way, topic).iter().filter_map(|at| rules.slots.list.get(usize::from(*at))) {
                    let more = if slot.signal == Signal::Messages { 1 } else { u64::from(message.recipients) };
                    let before = self.counted(subject, slot, now);
                    let observed = before + more;
                    for number in slot.rules.iter().filter(|number| about >> **number & 1 == 1) {
                        let Some(rule) = rules.rules.get(usize::from(*number)) else { continue };
                        let holds = match rule.measure {
                            Measure::Block => self.budget > 0 && self.may_speak(subject, rule, now, observed),
                            Measure::Slow => is_over(rule, before, more) && !self.is_spared(subject, rule),
                            Measure::Observe | Measure::Notify => false,
                        };
                        if holds {
                            let scope = match rule.lane {
                                Lane::Script => Scope::Script,
                                Lane::All => Scope::All,
                                Lane::Login => Scope::Login(name_from(message.login).into()),
                            };
                            let slow = rule.measure == Measure::Slow;
                            return Some(Crossing { owner, rule: rule.name.clone(), observed, scope, slow });
                        }
                    }
                }
            }
        }
        None
    }

    /// Which rules are about the account.
    fn about(&mut self, owner: Owner, directory: &Directory) -> u64 {
        let Volume { rules, about, keys, .. } = self;
        *about.entry(owner).or_insert_with(|| {
            let key = keys.get(&owner).map_or("", String::as_str);
            let plan = directory.account(key).and_then(|spec| spec.plan.as_deref());
            rules_for(&rules.rules, key, plan)
        })
    }

    /// What the log has told, and what it has not.
    fn counted(&mut self, subject: Subject, slot: &Slot, now: u32) -> u64 {
        let told = self.told.get_mut(&subject);
        let window = told.and_then(|told| told.windows.get_mut(usize::from(slot.place)));
        window.map_or(0, |window| window.look(slot.bucket_of(now))) + self.ahead(subject, slot, now)
    }

    /// A rule speaks of a subject once in its window; some accounts it spares.
    fn may_speak(&mut self, subject: Subject, rule: &Rule, now: u32, observed: u64) -> bool {
        if observed <= rule.limit || self.is_spared(subject, rule) {
            return false;
        }
        let name = identity(rule.name.as_bytes());
        let spoke = &mut self.told.entry(subject).or_default().spoke;
        let last = spoke.iter_mut().find(|(told, _)| *told == name);
        match last {
            Some((_, at)) if now >= *at && now - *at < rule.window_secs => false,
            Some((_, at)) => {
                *at = now;
                true
            }
            None => {
                spoke.push((name, now));
                true
            }
        }
    }

    fn is_spared(&self, subject: Subject, rule: &Rule) -> bool {
        self.spared.contains(&(subject.owner, Some(identity(rule.name.as_bytes()))))
    }

    /// What is reserved for a subject, of what falls into the lane.
    fn ahead(&self, subject: Subject, slot: &Slot, now: u32) -> u64 {
        let number = |(messages, recipients): &(u64, u64)| {
            if slot.signal == Signal::Messages { *messages } else { *recipients }
        };
        if slot.paced {
            let going = self.going.get(&subject).into_iter().flat_map(|sums| Way::ALL.into_iter().zip(sums));
            return going.filter(|(way, _)| way.falls_into(slot.lane)).map(|(_, sum)| number(sum)).sum();
        }
        let Some(seconds) = self.sums.get(&subject) else { return 0 };
        let in_window = seconds.range(slot.oldest_second(now)..).flat_map(|(_, sums)| Way::ALL.into_iter().zip(sums));
        let its = in_window.filter(|(way, _)| way.falls_into(slot.lane));
        its.map(|(_, sum)| number(sum)).sum()
    }

    fn reserve(&mut self, way: Way, login: u64, message: &Message<'_>, at: Time) {
        // Without an id the log's message could not be told from another one.
        let Some(id) = message.id else { return };
        self.void(id);
        // No window holds what is older.
        let longest = self.rules.rules.iter().map(|rule| rule.window_secs).max().unwrap_or(0);
        let oldest = at.plus_secs(-i64::from(longest + longest / PARTS));
        while let Some(id) = self.order.front().copied()
            && self.reserved.get(&id).is_none_or(|one| one.told || one.at < oldest)
        {
            self.order.pop_front();
            self.void_untold(id);
        }
        while self.reserved.len() >= MOST_RESERVED
            && let Some(oldest) = self.order.pop_front()
        {
            self.void_untold(oldest);
        }
        if self.reserved.len() >= MOST_RESERVED {
            return;
        }
        if self.order.len() >= 2 * MOST_RESERVED {
            self.order.retain(|id| self.reserved.contains_key(id));
        }
        let owner = self.owners.get(message.sender).copied().ok_or_else(|| message.sender.clone());
        let one = Reserved { owner, login, way, recipients: message.recipients, at, told: false };
        self.unowned += usize::from(one.owner.is_err());
        self.enter(&one, 1);
        self.order.push_back(id);
        self.reserved.insert(id, one);
    }

    /// Messages that are about to leave without having been asked about, after a start, or because they were released.
    pub fn resume(&mut self, going: Vec<Going>) {
        for Going { owner, id, origin, login, recipients } in going {
            let Some(way) = Way::of(origin) else { continue };
            if self.reserved.len() >= MOST_RESERVED || self.reserved.contains_key(&id) {
                continue;
            }
            let login = if way == Way::Auth && !login.is_empty() { login_part(&login) } else { PROVEN };
            let one = Reserved { owner: Ok(owner), login, way, recipients, at: Time::ZERO, told: true };
            self.enter(&one, 1);
            self.reserved.insert(id, one);
        }
    }

    /// Whether anything of an account that is slowed down could leave now: nothing of it need be looked at before. Of logins
    /// that is not known.
    pub fn has_room(&mut self, owner: Owner, directory: &Directory, now: Time) -> bool {
        let (about, rules, now) = (self.about(owner, directory), Arc::clone(&self.rules), seconds(now));
        let subject = Subject { owner, part: PROVEN };
        rules.slots.those_of(false).filter(|slot| slot.paced).all(|slot| {
            let counted = self.counted(subject, slot, now);
            let mut its = slot.rules.iter().filter(|number| about >> **number & 1 == 1);
            its.all(|number| rules.rules.get(usize::from(*number)).is_none_or(|rule| counted < rule.limit))
        })
    }

    /// How many of these, the first ones, may leave now. They are reserved for.
    pub fn let_go(&mut self, waiting: Vec<Going>, directory: &Directory, now: Time) -> usize {
        let mut gone = 0;
        for one in waiting {
            let Some(way) = Way::of(one.origin) else {
                // No quota is about it.
                gone += 1;
                continue;
            };
            let login = if way == Way::Auth && !one.login.is_empty() { login_part(&one.login) } else { PROVEN };
            let sender = Sender::Uid(u32::MAX);
            let (id, origin) = (Some(one.id), one.origin);
            let message = Message { id, sender: &sender, origin, login: &one.login, recipients: one.recipients };
            // What blocks has said so before.
            let budget = std::mem::take(&mut self.budget);
            let crossed = self.crossed(one.owner, way, login, &message, directory, now);
            self.budget = budget;
            if crossed.is_some() {
                break;
            }
            self.resume(vec![one]);
            gone += 1;
        }
        gone
    }

    /// The log has told of it: it counts as that from now on, and as one that has not left.
    fn tell(&mut self, id: QueueId) {
        if let Some(one) = self.reserved.get_mut(&id)
            && !std::mem::replace(&mut one.told, true)
        {
            let one = one.clone();
            self.add(&one, -1);
        }
    }

    fn void_untold(&mut self, id: QueueId) {
        if self.reserved.get(&id).is_some_and(|one| !one.told) {
            self.void(id);
        }
    }

    fn void(&mut self, id: QueueId) {
        if let Some(one) = self.reserved.remove(&id) {
            self.unowned -= usize::from(one.owner.is_err());
            self.enter(&one, -1);
        }
    }

    fn enter(&mut self, one: &Reserved, sign: i64) {
        if !one.told {
            self.add(one, sign);
        }
        if self.rules.paces() {
            self.go(one, sign);
        }
    }

    fn go(&mut self, one: &Reserved, sign: i64) {
        let Ok(owner) = one.owner else { return };
        let mut count = |part: u64, way: Way| {
            let subject = Subject { owner, part };
            let sums = self.going.entry(subject).or_default();
            change(sums, way, one.recipients, sign);
            if *sums == Sums::default() {
                self.going.remove(&subject);
            }
        };
        count(PROVEN, one.way);
        if one.login != PROVEN {
            count(one.login, Way::Login);
        }
    }

    fn add(&mut self, one: &Reserved, sign: i64) {
        let Ok(owner) = one.owner else { return };
        let second = seconds(one.at);
        let mut count = |part: u64, way: Way| {
            let subject = Subject { owner, part };
            let seconds = self.sums.entry(subject).or_default();
            let sums = seconds.entry(second).or_default();
            change(sums, way, one.recipients, sign);
            if *sums == Sums::default() {
                seconds.remove(&second);
            }
            if seconds.is_empty() {
                self.sums.remove(&subject);
            }
        };
        count(PROVEN, one.way);
        if one.login != PROVEN {
            count(one.login, Way::Login);
        }
    }
}

fn change(sums: &mut Sums, way: Way, more: u32, sign: i64) {
    if let Some((messages, recipients)) = sums.get_mut(way as usize) {
        *messages = messages.saturating_add_signed(sign);
        *recipients = recipients.saturating_add_signed(sign * i64::from(more));
    }
}

/// Beyond the limit. What alone is more than that goes when nothing else does: it would never leave otherwise.
const fn is_over(rule: &Rule, before: u64, more: u64) -> bool {
    before > 0 && before + more > rule.limit
}

#[cfg(test)]
mod pace_tests;
#[cfg(test)]
mod tests;
