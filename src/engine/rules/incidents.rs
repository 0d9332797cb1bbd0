//! Host incidents: what fails for many accounts at once is not the fault of any of them.
//!
//! A receiver, or a class of replies, at which many of the accounts that are active fail within [`WINDOW_SECS`], and an
//! address of this host that receivers name. While one stands, failures that are due to it count against nobody. Only
//! failures are looked at, and of those only what is proven to be an account's: no account can make one of its own, nor by
//! writing other names. What else an account does counts as ever. Pure, in log time; memory is bounded.

mod entry;
mod rows;
#[cfg(test)]
mod tests;

pub use entry::Failure;
pub(super) use entry::{Counted, Entry};

use super::{CLAIMED, PROVEN};
use crate::engine::ledger::Ledger;
use crate::mail::{Owner, ReplyClass, Time};
use rows::Rows;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

/// How long failures are looked at together, and how long one stands that nothing confirms.
pub const WINDOW_SECS: u32 = 900;
/// So many accounts, and so many in a hundred of those that are active, have to be hit. Half of that confirms it.
const RECEIVER: (usize, usize) = (5, 20);
const CLASS: (usize, usize) = (10, 50);
/// So many refusals have to name an address of this host, whosever they are.
const OWN_ADDRESS: u32 = 3;
/// An account is hit when so many in a hundred of what it tried since its first failure fail for this reason.
const HIT_PERCENT: u64 = 10;
/// Without a further account it is looked at once in so many seconds.
const LOOK_SECS: u32 = 5;
/// And at more accounts than this once in so many.
const MANY: usize = 50;
const LOOK_AT_MANY_SECS: u32 = 60;
const SWEEP_SECS: u32 = 60;
/// Of one account, and of all: of more, none is looked at.
const MOST_OF_ONE: usize = 64;
const MOST: usize = 50_000;
const MOST_STANDING: usize = 64;
const MOST_NEWS: usize = 1_000;

/// What fails.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Trouble {
    /// The domain of recipients, or that of the hosts that take their mail.
    Receiver(Arc<str>),
    Class(ReplyClass),
    OwnAddress(IpAddr),
}

impl Trouble {
    pub const KINDS: [&'static str; 3] = ["receiver", "reply_class", "own_address"];

    pub fn kind(&self) -> &'static str {
        let [receiver, class, own_address] = Trouble::KINDS;
        match self {
            Trouble::Receiver(_) => receiver,
            Trouble::Class(_) => class,
            Trouble::OwnAddress(_) => own_address,
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Receiver(name) => f.write_str(name),
            Trouble::Class(class) => f.write_str(class.name()),
            Trouble::OwnAddress(address) => write!(f, "{address}"),
        }
    }
}

/// One that stands, or stood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incident {
    pub trouble: Trouble,
    /// The first failure that belongs to it.
    pub since: Time,
    /// When there were enough of them last.
    pub confirmed: Time,
    /// The most accounts that had such failures at a time, and how many were active when it was found.
    pub accounts: u32,
    pub active: u32,
    pub failures: u64,
}

impl Incident {
    fn stands(&self, now: u32) -> bool {
        i64::from(now) < self.confirmed.secs() + i64::from(WINDOW_SECS)
    }

    /// For people.
    pub fn text(&self) -> String {
        let Incident { trouble, accounts, active, failures, .. } = self;
        match trouble {
            Trouble::Receiver(name) => {
                format!("mail to {name} fails for {accounts} of {active} active accounts ({failures} failures)")
            }
            Trouble::Class(class) => format!(
                "mail of {accounts} of {active} active accounts fails with {} ({failures} failures)",
                class.name()
            ),
            Trouble::OwnAddress(address) => {
                format!("receivers refuse this host's address {address} ({failures} refusals, {accounts} accounts)")
            }
        }
    }
}

/// It was found, or is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct News {
    pub incident: Incident,
    pub over: bool,
}

/// Accounts that failed for one reason.
#[derive(Debug, Default)]
struct Suspect {
    /// With their entries.
    accounts: BTreeMap<Owner, u32>,
    /// When there was a failure last.
    last: u32,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Incidents {
    /// The oldest first.
    entries: BTreeMap<Owner, VecDeque<Entry>>,
    count: usize,
    suspects: BTreeMap<Trouble, Suspect>,
    standing: BTreeMap<Trouble, Incident>,
    swept: u32,
    now: u32,
    /// Accounts that were active, and when they were counted.
    active: (u32, u32),
    news: Vec<News>,
    rows: Rows,
}

impl Incidents {
    pub fn new(keep_rows: bool) -> Incidents {
        Incidents { rows: Rows::new(keep_rows), ..Incidents::default() }
    }

    /// Takes in a failure: whether it is due to an incident, and what counts against nobody from now on because one was
    /// found.
    pub(super) fn observe(
        &mut self,
        mut entry: Entry,
        first: bool,
        now: u32,
        ledger: &Ledger,
    ) -> (bool, Vec<(Entry, u32)>) {
        self.end(now);
        let troubles: Vec<Trouble> = entry.troubles().collect();
        let mut due = troubles.iter().any(|trouble| self.standing.contains_key(trouble));
        let mut excused = Vec::new();
        if first {
            entry.due = due;
            let looks: Vec<bool> = troubles.iter().map(|trouble| self.is_time(trouble, &entry, now)).collect();
            self.rows.add(&entry);
            self.remember(entry.clone(), now);
            for (trouble, _) in troubles.iter().zip(looks).filter(|(_, look)| *look) {
                if self.standing.contains_key(trouble) {
                    self.confirm(trouble, now, ledger);
                } else if !due && self.opens(trouble, now, ledger) {
                    due = true;
                    excused = self.excuse(trouble, &entry);
                }
            }
        }
        for trouble in &troubles {
            if let Some(incident) = self.standing.get_mut(trouble) {
                incident.failures += 1;
                self.rows.changed = true;
            }
        }
        (due, excused)
    }

    /// Those that stand, in log time.
    pub fn standing(&self, now: Time) -> impl Iterator<Item = &Incident> {
        let now = super::seconds(now);
        self.standing.values().filter(move |incident| incident.stands(now))
    }

    /// Most of what fails for the account just now is due to what stands.
    pub(super) fn hit(&self, owner: Owner, now: u32) -> bool {
        if self.standing.is_empty() {
            return false;
        }
        let stands = |entry: &&Entry| {
            entry.troubles().any(|trouble| self.standing.get(&trouble).is_some_and(|incident| incident.stands(now)))
        };
        let its = || self.entries.get(&owner).into_iter().flatten().filter(|entry| entry.lives(now));
        let due: u64 = its().filter(stands).map(|entry| u64::from(entry.n)).sum();
        due > 0 && due * 2 >= its().map(|entry| u64::from(entry.n)).sum()
    }

    /// Ends what nothing has confirmed for long enough.
    pub fn end(&mut self, now: u32) {
        self.now = now;
        while let Some(over) = self.standing.values().find(|incident| !incident.stands(now)).cloned() {
            self.standing.remove(&over.trouble);
            self.tell(over, true);
        }
    }

    /// What was found, and what is over, since the last call.
    pub fn take_news(&mut self) -> Vec<News> {
        std::mem::take(&mut self.news)
    }

    /// An account is forgotten.
    pub(super) fn forget(&mut self, owner: Owner) {
        let gone = self.entries.remove(&owner).unwrap_or_default();
        gone.iter().for_each(|entry| self.leave(entry));
        self.rows.forget(owner);
    }

    fn tell(&mut self, incident: Incident, over: bool) {
        self.rows.changed = true;
        if self.news.len() < MOST_NEWS {
            self.news.push(News { incident, over });
        }
    }

    /// A further account, or some time since the last look. Where there are many accounts, or one stands, time alone: each look
    /// is at all of them.
    fn is_time(&self, trouble: &Trouble, entry: &Entry, now: u32) -> bool {
        let Some(suspect) = self.suspects.get(trouble) else { return true };
        let many = suspect.accounts.len() > MANY;
        let every = if many { LOOK_AT_MANY_SECS } else { LOOK_SECS };
        let further = || !many && !suspect.accounts.contains_key(&entry.counted.owner);
        let stands = self.standing.contains_key(trouble);
        matches!(trouble, Trouble::OwnAddress(_)) || (!stands && further()) || now / every != suspect.last / every
    }

    fn remember(&mut self, entry: Entry, now: u32) {
        if now.saturating_sub(self.swept) >= SWEEP_SECS || now < self.swept {
            self.swept = now;
            let owners: Vec<Owner> = self.entries.keys().copied().collect();
            owners.into_iter().for_each(|owner| self.sweep(owner, now));
        }
        self.sweep(entry.counted.owner, now);
        let proven = entry.is_proven();
        let its = self.entries.entry(entry.counted.owner).or_default();
        let full = its.len() >= MOST_OF_ONE || self.count >= MOST;
        let alike = its.iter_mut().rev().find(|old| old.is_like(&entry));
        let (owner, troubles) = (entry.counted.owner, entry.troubles().collect::<Vec<_>>());
        let further = alike.is_none();
        match alike {
            Some(old) => (old.n, old.to) = (old.n.saturating_add(entry.n), old.to.max(entry.to)),
            None if full => return,
            None => {
                self.count += 1;
                its.push_back(entry);
            }
        }
        for trouble in troubles.into_iter().filter(|_| proven) {
            let suspect = self.suspects.entry(trouble).or_default();
            suspect.last = now;
            *suspect.accounts.entry(owner).or_default() += u32::from(further);
        }
    }

    /// What is too old goes.
    fn sweep(&mut self, owner: Owner, now: u32) {
        let Some(its) = self.entries.get_mut(&owner) else { return };
        let mut gone = Vec::new();
        while let Some(entry) = its.pop_front_if(|entry| !entry.lives(now)) {
            gone.push(entry);
        }
        if its.is_empty() {
            self.entries.remove(&owner);
        }
        gone.iter().for_each(|entry| self.leave(entry));
    }

    fn leave(&mut self, entry: &Entry) {
        self.count -= 1;
        for trouble in entry.troubles().filter(|_| entry.is_proven()) {
            let Some(suspect) = self.suspects.get_mut(&trouble) else { continue };
            if let Some(left) = suspect.accounts.get_mut(&entry.counted.owner) {
                *left -= 1;
                if *left == 0 {
                    suspect.accounts.remove(&entry.counted.owner);
                }
            }
            if suspect.accounts.is_empty() {
                self.suspects.remove(&trouble);
            }
        }
    }

    /// Whether there is enough to say that one stands; half of it is enough for one that does.
    fn enough(&mut self, trouble: &Trouble, halves: usize, now: u32, ledger: &Ledger) -> Option<(u32, u32)> {
        let standing = halves == 1;
        let accounts = self.suspects.get(trouble)?.accounts.len();
        let (least, percent) = match trouble {
            Trouble::Receiver(_) => RECEIVER,
            Trouble::Class(_) => CLASS,
            Trouble::OwnAddress(_) => {
                let named = |entry: &&Entry| entry.is_proven() && entry.lives(now) && entry.has(trouble);
                let n: u32 = self.entries.values().flatten().filter(named).map(|entry| entry.n).sum();
                let enough = standing || n >= OWN_ADDRESS;
                return enough.then_some((accounts as u32, self.active(now, ledger)));
            }
        };
        if accounts * 2 < least * halves {
            return None;
        }
        // No more of them are hit than there are: mostly that is answer enough, and nobody has to be looked at.
        let active = self.active(now, ledger);
        if accounts * 200 < active as usize * percent * halves {
            return None;
        }
        let owners = self.suspects.get(trouble)?.accounts.keys();
        let hit = owners.filter(|owner| self.is_hit(**owner, trouble, standing, now, ledger)).count();
        if hit * 2 < least * halves {
            return None;
        }
        (hit * 200 >= active as usize * percent * halves).then_some((hit as u32, active))
    }

    /// What is due to another incident already tells nothing of a new one.
    fn is_hit(&self, owner: Owner, trouble: &Trouble, standing: bool, now: u32, ledger: &Ledger) -> bool {
        let its = || {
            let all = self.entries.get(&owner).into_iter().flatten();
            all.filter(|entry| entry.lives(now) && entry.is_proven())
        };
        let sum = |what: &dyn Fn(&Entry) -> bool| -> u64 {
            its().filter(|entry| what(entry)).map(|entry| u64::from(entry.n)).sum()
        };
        let failed = sum(&|entry| entry.has(trouble) && (standing || !entry.due));
        let (deferred, all) = (sum(&|entry| entry.deferred), sum(&|_| true));
        let before = its().next().map_or(0, |entry| entry.ended);
        let tried = ended(ledger, owner).saturating_sub(before).max(all - deferred) + deferred;
        failed > 0 && failed * 100 >= tried * HIT_PERCENT
    }

    /// Accounts of which something was heard within the window; counted once in a minute.
    fn active(&mut self, now: u32, ledger: &Ledger) -> u32 {
        let minute = now / 60;
        if self.active.0 != minute {
            let oldest = i64::from(now.saturating_sub(WINDOW_SECS));
            let heard = ledger.owners().filter(|(owner, its)| owner.is_account() && its.last.secs() >= oldest);
            self.active = (minute, heard.count() as u32);
            self.rows.changed = true;
        }
        self.active.1
    }

    fn opens(&mut self, trouble: &Trouble, now: u32, ledger: &Ledger) -> bool {
        if self.standing.len() >= MOST_STANDING {
            return false;
        }
        let Some((accounts, active)) = self.enough(trouble, 2, now, ledger) else { return false };
        let its = || self.entries.values().flatten().filter(|entry| entry.lives(now) && entry.has(trouble));
        let at = |secs: u32| Time::from_secs(i64::from(secs));
        let incident = Incident {
            trouble: trouble.clone(),
            since: at(its().map(|entry| entry.from).min().unwrap_or(now)),
            confirmed: at(now),
            accounts,
            active,
            // The one at hand is added for itself.
            failures: its().map(|entry| u64::from(entry.n)).sum::<u64>().saturating_sub(1),
        };
        self.standing.insert(trouble.clone(), incident.clone());
        self.tell(Incident { failures: incident.failures + 1, ..incident }, false);
        true
    }

    fn confirm(&mut self, trouble: &Trouble, now: u32, ledger: &Ledger) {
        let Some((accounts, _)) = self.enough(trouble, 1, now, ledger) else { return };
        if let Some(incident) = self.standing.get_mut(trouble) {
            incident.confirmed = incident.confirmed.max(Time::from_secs(i64::from(now)));
            incident.accounts = incident.accounts.max(accounts);
        }
    }

    /// What was counted before it was known; not the failure at hand, which has not been counted.
    fn excuse(&mut self, trouble: &Trouble, at_hand: &Entry) -> Vec<(Entry, u32)> {
        let mut excused = Vec::new();
        for entry in self.entries.values_mut().flatten().filter(|entry| entry.has(trouble) && !entry.due) {
            let own = u32::from(entry.is_like(at_hand) && entry.to == at_hand.to);
            excused.push((entry.clone(), entry.n - own));
            entry.due = true;
        }
        excused
    }
}

/// Recipients of an account that ended.
pub(super) fn ended(ledger: &Ledger, owner: Owner) -> u64 {
    let counts = ledger.get(owner).counts;
    counts.sent + counts.bounced + counts.expired
}

/// What is claimed is no proof of many.
pub(super) const fn part(proven: bool) -> u64 {
    if proven { PROVEN } else { CLAIMED }
}
