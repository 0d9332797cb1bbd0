//! Rules: what an account sends is counted in sliding windows, and a limit that is crossed gives a verdict.
//!
//! Pure. A verdict arises from what is counted, never because time passes, and what becomes of it is decided elsewhere.
//! Log time drives the windows. What is proven and what is only claimed of an account are counted apart: nobody can fill
//! another one's windows by writing its name. Memory is bounded: by the rules, by the accounts, and by [`MAX_SUBJECTS`].
//!
//! State comes back from two kinds of rows: what was counted since, batch by batch (`record`), and now and then a subject
//! as a whole. So a batch writes little, however many it is about.

mod busiest;
mod distinct;
mod excuse;
mod force;
mod history;
pub mod incidents;
mod judge;
mod known;
mod memory;
mod now;
mod peaks;
mod record;
mod rule;
mod slots;
mod usage;
pub mod volume;
mod warning;
mod window;

pub use judge::{Enforcement, Fate, Judge};
pub use now::Sight;
pub use peaks::Peak;
pub use record::Row;
pub use rule::{Classes, Lane, Rule, Target, built_in};
pub use warning::Warning;

use super::attribution::Attribution;
use crate::mail::{Basis, Evidence, Measure, Origin, Owner, ReplyClass, Scope, Signal, Time, Verdict};
use hashbrown::HashMap;
use incidents::Incidents;
use peaks::Peaks;
use record::Records;
pub use slots::identity;
use slots::{Slot, Slots, Topic, Way};
use std::collections::BTreeSet;
use std::sync::Arc;
use usage::{Cell, Usage, lower_bound};
use volume::Armed;

/// Most rules: each is a bit.
pub const MAX_RULES: usize = 64;
/// Most logins, and accounts by claimed evidence, that are counted for themselves. Of more, none is counted.
const MAX_SUBJECTS: usize = 200_000;
/// Most verdicts that wait for somebody to ask.
const MAX_VERDICTS: usize = 100_000;

/// A message, as far as it matters for counting.
#[derive(Debug, Clone, Copy)]
pub struct Mail<'a> {
    pub owner: Owner,
    pub origin: Origin,
    pub basis: Basis,
    /// Empty where there is none, or it is not known.
    pub login: &'a [u8],
    /// The stamp of the line at hand, and log time.
    pub at: Time,
    pub now: Time,
}

/// What is to be counted of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// It was accepted.
    Message,
    /// It has so many recipients more.
    Recipients(u32),
    /// One of them, by hash.
    Recipient(u64),
    /// The same of an automatic reply: who wrote first is no stranger, and how many write is not up to the account.
    Reply,
    ReplyTo(u64),
    /// So many recipients ended, elsewhere. The class of an error, where it has one.
    Sent(u32),
    Failed(Option<ReplyClass>, u32),
    /// One that was sent failed later.
    Late(ReplyClass),
    /// A receiver put it off.
    Refused(ReplyClass),
    /// So many that were counted, in the minute before, were the host's matter.
    NotFailed(ReplyClass, u32),
    NotRefused(ReplyClass, u32),
    /// The address that it came from, by hash.
    Address(u64),
    /// So many recipients of the account wait now, or are on hold.
    Queued(u64),
    Held(u64),
    /// A script sent it, by hash.
    Script(u64),
    /// It was tried to deliver for the first time, to so many.
    Left(u32),
}

impl What {
    const fn topic(self) -> Topic {
        match self {
            What::Message => Topic::Message,
            What::Reply => Topic::Reply,
            What::ReplyTo(_) => Topic::ReplyTo,
            What::Recipients(_) => Topic::Recipients,
            What::Recipient(_) => Topic::Recipient,
            What::Sent(_) | What::Failed(..) | What::Late(_) | What::NotFailed(..) => Topic::Ended,
            What::Refused(_) | What::NotRefused(..) => Topic::Refused,
            What::Address(_) => Topic::Address,
            What::Queued(_) => Topic::Queued,
            What::Held(_) => Topic::Held,
            What::Script(_) => Topic::Script,
            What::Left(_) => Topic::Left,
        }
    }
}

/// Of whom something is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Subject {
    owner: Owner,
    /// What is proven of the account, what is claimed of it, or the hash of a login.
    part: u64,
}

const PROVEN: u64 = 0;
const CLAIMED: u64 = 1;

impl Subject {
    const fn is_login(self) -> bool {
        self.part > CLAIMED
    }
}

/// See the module.
#[derive(Debug)]
pub struct Rules {
    rules: Vec<Rule>,
    /// By the rules' numbers.
    identities: Vec<u64>,
    slots: Slots,
    /// What is proven, by owner.
    proven: Vec<Option<Box<Usage>>>,
    others: HashMap<Subject, Box<Usage>, foldhash::quality::FixedState>,
    verdicts: Vec<Verdict>,
    warnings: Vec<Warning>,
    /// The most that was seen is wanted, and no verdict.
    peaks: Option<Peaks>,
    records: Records,
    incidents: Incidents,
    /// Accounts on a second chance: their limits for errors are doubled.
    forced: BTreeSet<Owner>,
    /// What the gate judges too.
    shared: Arc<Armed>,
    /// Of what is shared: subjects that have changed.
    moved: Vec<Subject>,
    wants_classes: bool,
    has_levels: bool,
    wants_scripts: bool,
    /// What remembering takes whom accounts know, in bytes.
    memory: usize,
    paces: bool,
    /// Subjects, and verdicts, for which there was no room.
    pub without_room: u64,
    /// Windows that were moved, and compared with their limits.
    pub evaluations: u64,
}

impl Rules {
    /// `keep_rows`: what is counted is to be stored. Of more than [`MAX_RULES`] rules the first ones are taken.
    pub fn new(rules: Vec<Rule>, keep_rows: bool, seed: u64) -> Rules {
        let mut new = Rules {
            rules: Vec::new(),
            identities: Vec::new(),
            slots: Slots::default(),
            proven: Vec::new(),
            others: HashMap::with_hasher(foldhash::quality::FixedState::with_seed(seed)),
            verdicts: Vec::new(),
            warnings: Vec::new(),
            peaks: None,
            records: Records::new(keep_rows),
            incidents: Incidents::new(keep_rows),
            forced: BTreeSet::new(),
            shared: Arc::default(),
            moved: Vec::new(),
            wants_classes: false,
            has_levels: false,
            wants_scripts: false,
            memory: 0,
            paces: false,
            without_room: 0,
            evaluations: 0,
        };
        new.set(rules);
        new
    }

    /// Others from now on, or the accounts file changed: who is on which plan is asked anew. What both look at is kept.
    pub fn set(&mut self, mut rules: Vec<Rule>) {
        rules.truncate(MAX_RULES);
        let slots = Slots::new(&rules);
        let proven = self.proven.iter_mut().flatten().map(|usage| (false, usage));
        let others = self.others.iter_mut().map(|(subject, usage)| (subject.is_login(), usage));
        for (logins, usage) in proven.chain(others) {
            usage.move_to(self.slots.those_of(logins), slots.those_of(logins));
        }
        self.identities = rules.iter().map(|rule| identity(rule.name.as_bytes())).collect();
        self.wants_classes = rules.iter().any(|rule| rule.signal.has_classes());
        self.paces = rules.iter().any(|rule| rule.measure == Measure::Slow);
        self.has_levels = rules.iter().any(|rule| rule.signal.is_level());
        self.wants_scripts = rules.iter().any(|rule| rule.signal == Signal::Scripts);
        (self.rules, self.slots) = (rules, slots);
        self.weigh_memory();
    }

    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The gate judges these from now on, of what is told by [`moved`](Rules::moved).
    pub fn share(&mut self, armed: Arc<Armed>) {
        self.shared = armed;
        self.moved.clear();
        let Rules { proven, others, moved, .. } = self;
        proven.iter_mut().flatten().chain(others.values_mut()).for_each(|usage| usage.moved = true);
        let known = (0..).zip(proven.iter()).filter(|(_, usage)| usage.is_some());
        moved.extend(known.map(|(owner, _)| Subject { owner: Owner(owner), part: PROVEN }));
        moved.extend(others.keys().filter(|subject| subject.is_login()));
        moved.sort_unstable();
    }

    /// Of whom something has changed since the last call that the gate has to know.
    pub fn moved(&mut self) -> Vec<volume::Change> {
        let mut changes = Vec::new();
        for subject in std::mem::take(&mut self.moved) {
            let usage = match subject.part {
                PROVEN => self.proven.get_mut(subject.owner.0 as usize).and_then(Option::as_deref_mut),
                _ => self.others.get_mut(&subject).map(|usage| &mut **usage),
            };
            let Some(usage) = usage else { continue };
            usage.moved = false;
            let own = |wanted: &Slot| self.slots.list.iter().find(|slot| slot.identity == wanted.identity);
            let windows = self.shared.slots.those_of(subject.is_login()).map(|slot| match usage.cell(own(slot)?) {
                Some(Cell::Count(window)) => Some(window.clone()),
                _ => None,
            });
            let windows = windows.map(Option::unwrap_or_default).collect();
            changes.push(volume::Change::new(subject, windows, usage.spoke()));
        }
        changes
    }

    /// The gate has spoken for a rule: it does not again for a while.
    /// True when it had not for its window.
    pub fn spoke(&mut self, owner: Owner, login: &[u8], rule: &Rule, now: Time) -> bool {
        let part = if login.is_empty() { PROVEN } else { login_part(login) };
        let subject = Subject { owner, part };
        usage_of(&mut self.proven, &mut self.others, subject, &self.slots)
            .is_some_and(|usage| usage.may_tell(identity(rule.name.as_bytes()), seconds(now), rule.window_secs))
    }

    /// Names of those that are to block.
    pub fn armed(&self) -> impl Iterator<Item = &str> {
        self.rules.iter().filter(|rule| rule.measure.holds()).map(|rule| &*rule.name)
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// To be looked at only: see `Tracker::fetch`.
    #[inline]
    pub fn look(&self, owner: Owner) -> u64 {
        self.proven.get(owner.0 as usize).and_then(Option::as_deref).map_or(0, Usage::look)
    }

    /// Why receivers refuse matters.
    #[inline]
    pub fn wants_classes(&self) -> bool {
        self.wants_classes
    }

    /// Which script sent what matters.
    #[inline]
    pub fn wants_scripts(&self) -> bool {
        self.wants_scripts
    }

    /// Accounts are slowed down: when mail leaves matters.
    #[inline]
    pub fn paces(&self) -> bool {
        self.paces
    }

    #[inline]
    pub fn has_levels(&self) -> bool {
        self.has_levels
    }

    /// An account is forgotten.
    pub fn forget(&mut self, owner: Owner) {
        let proven = self.proven.get_mut(owner.0 as usize).and_then(Option::take);
        self.incidents.forget(owner);
        let mut its: Vec<Subject> = self.others.keys().filter(|subject| subject.owner == owner).copied().collect();
        its.sort_unstable();
        its.iter().for_each(|subject| drop(self.others.remove(subject)));
        for subject in proven.map(|_| Subject { owner, part: PROVEN }).into_iter().chain(its) {
            self.records.gone(subject);
        }
        self.weigh_memory();
    }

    /// From now on no rule speaks: the most is kept that was seen beyond its limit.
    pub fn keep_peaks(&mut self) {
        self.peaks = Some(Peaks::default());
    }

    pub fn take_peaks(&mut self) -> Vec<Peak> {
        self.peaks.take().map(Peaks::into_list).unwrap_or_default()
    }

    pub fn has_verdicts(&self) -> bool {
        !self.verdicts.is_empty()
    }

    /// Quotas that come to their end, since the last call.
    pub fn take_warnings(&mut self) -> Vec<Warning> {
        std::mem::take(&mut self.warnings)
    }

    /// Verdicts since the last call, in the order of the lines.
    pub fn take_verdicts(&mut self) -> Vec<Verdict> {
        std::mem::take(&mut self.verdicts)
    }

    #[inline]
    pub fn count(&mut self, mail: &Mail<'_>, what: What, attribution: &Attribution) {
        if self.rules.is_empty() || !mail.owner.is_account() {
            return;
        }
        let Some(way) = Way::of(mail.origin) else { return };
        if !self.slots.of(way, what.topic()).is_empty() {
            let proven = mail.basis.evidence() == Evidence::Proven;
            let part = if proven { PROVEN } else { CLAIMED };
            self.count_as(Subject { owner: mail.owner, part }, way, mail, what, attribution);
        }
        if way == Way::Auth && !mail.login.is_empty() && !self.slots.of(Way::Login, what.topic()).is_empty() {
            let part = login_part(mail.login);
            self.count_as(Subject { owner: mail.owner, part }, Way::Login, mail, what, attribution);
        }
    }

    fn count_as(&mut self, subject: Subject, way: Way, mail: &Mail<'_>, what: What, attribution: &Attribution) {
        let (now, at) = (seconds(mail.now), seconds(mail.at.min(mail.now)));
        self.records.add(subject, way, what, at, now);
        let Some(usage) = usage_of(&mut self.proven, &mut self.others, subject, &self.slots) else {
            self.without_room += 1;
            return;
        };
        self.records.touch(subject, usage);
        if !self.shared.is_empty() && !usage.moved && subject.part != CLAIMED {
            usage.moved = true;
            self.moved.push(subject);
        }
        let slots = self.slots.of(way, what.topic());
        self.evaluations += slots.len() as u64;
        for slot_at in slots {
            let Some(slot) = self.slots.list.get(usize::from(*slot_at)) else { continue };
            let Some(value) = value_of(slot, usage, what, at, now, &mut self.memory) else { continue };
            if value.observed <= slot.least {
                continue;
            }
            let about = usage.rules(|| about(&self.rules, subject.owner, attribution));
            for number in slot.rules.iter().filter(|number| about >> **number & 1 == 1) {
                let number = usize::from(*number);
                let (Some(rule), Some(identity)) = (self.rules.get(number), self.identities.get(number)) else {
                    continue;
                };
                if rule.warns && self.peaks.is_none() {
                    let percent = warning::reached(rule, *identity, value.observed, usage, now);
                    if let Some(percent) = percent.filter(|_| self.warnings.len() < MAX_VERDICTS) {
                        self.warnings.push(Warning { percent, verdict: verdict(rule, subject, mail, value.observed) });
                    }
                }
                if value.observed <= rule.limit || value.sample < u64::from(rule.min_sample) {
                    continue;
                }
                let limit = force::limit(rule, &self.forced, subject.owner);
                if value.observed <= limit {
                    continue;
                }
                if let Some(peaks) = &mut self.peaks {
                    peaks.note(number, subject, mail, value.observed);
                    continue;
                }
                if !usage.may_tell(*identity, now, rule.window_secs) {
                    continue;
                }
                if self.verdicts.len() >= MAX_VERDICTS {
                    self.without_room += 1;
                    continue;
                }
                let incident = rule.signal == Signal::Queued && self.incidents.hit(subject.owner, now);
                self.verdicts.push(Verdict { incident, limit, ..verdict(rule, subject, mail, value.observed) });
            }
        }
        self.bound_memory();
    }
}

/// What a slot says now.
struct Value {
    observed: u64,
    /// Of how many it was observed, where that matters.
    sample: u64,
}

/// Counts, and says what there is then. `None`: it is nothing for this slot.
fn value_of(slot: &Slot, usage: &mut Usage, what: What, at: u32, now: u32, memory: &mut usize) -> Option<Value> {
    let second = now;
    let since = slot.bucket_of(at.saturating_sub(60));
    let counts = |class: Option<ReplyClass>| class.is_some_and(|class| slot.classes.holds(class));
    let (at, now) = (slot.bucket_of(at), slot.bucket_of(now));
    let observed = match (usage.cell(slot)?, what) {
        (Cell::Count(window), What::Message | What::Reply) => window.add(at, now, 1),
        (Cell::Count(window), What::Recipients(n)) => window.add(at, now, n),
        (Cell::Count(window), What::Left(n)) => {
            window.add(at, now, if slot.signal == Signal::Messages { 1 } else { n })
        }
        (Cell::Count(window), What::Failed(class, n)) if counts(class) => window.add(at, now, n),
        (Cell::Count(window), What::Refused(class) | What::Late(class)) if counts(Some(class)) => {
            window.add(at, now, 1)
        }
        (Cell::Distinct(distinct), What::Recipient(hash) | What::ReplyTo(hash) | What::Address(hash)) => {
            // Beyond the limits it says no more than that: how many more are remembered is chance.
            distinct.add(hash, at, now, slot.most).min(slot.most.saturating_add(1))
        }
        (Cell::Ratio(errors, ended), What::Failed(class, n)) if counts(class) => {
            let (errors, ended) = (errors.add(at, now, n), ended.add(at, now, n));
            return Some(Value { observed: lower_bound(errors, ended), sample: ended });
        }
        (Cell::Ratio(errors, ended), What::Late(class)) if counts(Some(class)) => {
            let (errors, ended) = (errors.add(at, now, 1), ended.look(now));
            return Some(Value { observed: lower_bound(errors, ended), sample: ended });
        }
        (Cell::Count(window), What::NotFailed(class, n) | What::NotRefused(class, n)) if counts(Some(class)) => {
            window.take_back(since, at, n);
            return None;
        }
        (Cell::Ratio(errors, ended), What::NotFailed(class, n)) => {
            if counts(Some(class)) {
                errors.take_back(since, at, n);
            }
            ended.take_back(since, at, n);
            return None;
        }
        // It ended, and how does not matter here.
        (Cell::Ratio(_, ended), What::Sent(n) | What::Failed(_, n)) => {
            ended.add(at, now, n);
            return None;
        }
        (Cell::Level, What::Queued(n) | What::Held(n)) => n,
        (Cell::New(window, known), What::Recipient(hash)) => {
            if slot.keeps {
                let before = known.bytes();
                known.add(hash, second);
                *memory = (*memory + known.bytes()).saturating_sub(before);
            }
            if !known.was_new() {
                return None;
            }
            window.add(at, now, 1)
        }
        (Cell::Busiest(busiest), What::Script(hash)) => busiest.add(hash, at, now),
        (Cell::History(window, history), What::Message) => {
            if slot.keeps {
                history.add(second);
            }
            let sample = window.add(at, now, 1);
            if sample < u64::from(slot.sample) {
                return None;
            }
            // Tenths of how many times; less than one message is usual for nobody.
            let usual = history.usual(second, slot.bucket * window::PARTS)?.max(1.0);
            return Some(Value { observed: (sample as f64 * 10.0 / usual) as u64, sample });
        }
        _ => return None,
    };
    Some(Value { observed, sample: u64::MAX })
}

fn usage_of<'u>(
    proven: &'u mut Vec<Option<Box<Usage>>>,
    others: &'u mut HashMap<Subject, Box<Usage>, foldhash::quality::FixedState>,
    subject: Subject,
    slots: &Slots,
) -> Option<&'u mut Usage> {
    let new = || Box::new(Usage::new(slots.those_of(subject.is_login())));
    if subject.part == PROVEN {
        let at = subject.owner.0 as usize;
        if at >= proven.len() {
            proven.resize_with(at + 1, || None);
        }
        return proven.get_mut(at).map(|usage| &mut **usage.get_or_insert_with(new));
    }
    if others.len() >= MAX_SUBJECTS && !others.contains_key(&subject) {
        return None;
    }
    Some(&mut **others.entry(subject).or_insert_with(new))
}

/// Which rules are about an account.
fn about(rules: &[Rule], owner: Owner, attribution: &Attribution) -> u64 {
    let key = attribution.accounts.get(owner).map_or("", |known| &*known.key);
    let plan = attribution.directory().account(key).and_then(|spec| spec.plan.as_deref());
    slots::rules_for(rules, key, plan)
}

fn verdict(rule: &Rule, subject: Subject, mail: &Mail<'_>, observed: u64) -> Verdict {
    let scope = match rule.lane {
        Lane::Script => Scope::Script,
        Lane::All => Scope::All,
        Lane::Login => Scope::Login(super::accounts::name_from(mail.login).into()),
    };
    Verdict {
        at: mail.at.min(mail.now),
        owner: mail.owner,
        rule: rule.name.clone(),
        signal: rule.signal,
        observed,
        limit: rule.limit,
        window_secs: if rule.signal.is_level() { 0 } else { rule.window_secs },
        measure: rule.measure,
        scope,
        cause: rule.cause,
        for_secs: rule.for_secs,
        proven: subject.part != CLAIMED,
        incident: false,
    }
}

/// Logins are the same in any case, as servers take them.
fn login_part(login: &[u8]) -> u64 {
    identity(&login.to_ascii_lowercase()).max(CLAIMED + 1)
}

fn seconds(at: Time) -> u32 {
    u32::try_from(at.secs().max(0)).unwrap_or(u32::MAX)
}
