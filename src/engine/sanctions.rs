//! Sanctions: the service state of every account, the orders that change it, and the messages held for it.
//!
//! A state machine: `accept` an order, `settle` what came of it, `tick` when time passes, `mend` what should be held and
//! is not. It never acts: it gives [`Work`], which is to be done when the rows that it changed are in the store. At most
//! one change of an account is under way; doing its work again is harmless, so after a restart it is done again.
//! It never releases or deletes a message that the agent did not put on hold itself.
//!
//! See [`Sanctions`]; the table of states is in `decide`.

mod decide;
mod delay;
mod figures;
mod held;
mod looked;
mod record;
mod relapse;
mod rows;
mod settle;
#[cfg(test)]
mod table_tests;
mod time;

pub use decide::{Decision, OWNER_LIFTS_SPAM_SECS, Refusal};
pub use delay::Delay;
pub use figures::Figures;
pub use held::{Entry, Stage, Sum};
pub use looked::Look;
pub use record::{Outcome, Record};
pub use rows::{HELD_KIND, Row, SANCTION_KIND, read_account, read_held};

use crate::mail::{
    Action, Actor, Cause, HandedBy, LiftableBy, Order, OrderId, Origin, Owner, Place, Scope, ServiceState, Time, Verb,
    Work,
};
use held::Held;
use std::collections::BTreeMap;

/// Limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// How long the second chance after a block for errors lasts.
    pub force_secs: i64,
    /// After so many relapses within [`RELAPSE_SECS`] only an operator lifts the block.
    pub max_relapses: u32,
    /// Most messages held at a time, over all accounts.
    pub max_held: usize,
    /// How long a message is held at most.
    pub held_max_secs: i64,
    /// Where more are held than this, an owner's unblock lets them go slowly.
    pub owner_release_max: u64,
    /// How many an hour that is.
    pub owner_release_rate: u32,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            force_secs: 86_400,
            max_relapses: 2,
            max_held: 1_000_000,
            held_max_secs: 72 * 3_600,
            owner_release_max: 100,
            owner_release_rate: 100,
        }
    }
}

/// So long a relapse is remembered.
pub const RELAPSE_SECS: i64 = 7 * 86_400;
/// The log has told of a hold after this, if it is ever to tell of it.
const SETTLED_SECS: i64 = 60;

/// The block that stands for an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    pub order: OrderId,
    pub scope: Scope,
    pub by: Actor,
    pub reason: String,
    pub liftable_by: LiftableBy,
    pub cause: Cause,
    pub since: Time,
    pub until: Option<Time>,
    /// What was accepted before it goes on.
    pub spares: bool,
}

/// What is held leaves oldest first, so many messages an hour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drip {
    pub per_hour: u32,
    pub since: Time,
    /// Messages told to leave so far.
    pub given: u64,
    pub by: Actor,
}

/// What is under way for an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub order: OrderId,
    pub action: Action,
    pub verb: Verb,
    pub by: Actor,
    /// Nobody ordered it: the machine is brought in line with what stands.
    pub mend: bool,
    /// The state before it.
    pub before: ServiceState,
    /// A purge that ends the block.
    pub lifts: bool,
    /// Times that work was given out for it, beyond the first.
    pub rounds: u8,
    /// Messages done so far, and those that were not there any more.
    pub done: u64,
    pub gone: u64,
    /// What was held too long is deleted.
    pub expires: bool,
    /// Whom they are for is asked first.
    pub asks: bool,
    /// Its work was begun by an agent that ended before it heard what came of it. Not kept.
    pub again: bool,
    /// Its work was given out. Not kept.
    pub given: bool,
}

/// Everything about one account. An account without an entry is `ok`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Account {
    pub state: ServiceState,
    pub block: Option<Block>,
    pub force_until: Option<Time>,
    /// When rules blocked it for errors although it was on a second chance, since an operator lifted such a block.
    pub relapses: Vec<Time>,
    /// When its owner's purge last lifted a block for spam.
    pub owner_lifted: Option<Time>,
    pub change: Option<Change>,
    pub drip: Option<Drip>,
    /// It sends more than it may, and is slowed down.
    pub delay: Option<Delay>,
    /// Warnings given because its held mail comes to its end.
    pub warned: u8,
}

/// A message in the queue, as the tracker knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queued {
    pub owner: Owner,
    pub place: Place,
    pub origin: Origin,
    pub login: Box<[u8]>,
    /// Of its first line.
    pub since: Time,
    /// Who handed it in, where the log says so.
    pub by: Option<HandedBy>,
}

/// An account whose mail is held: what a gate must know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldAccount {
    pub owner: Owner,
    pub scope: Scope,
    pub order: OrderId,
    pub reason: String,
    /// It is slowed down, and not blocked.
    pub slow: bool,
}

/// What was not as it should be and was mended, or was found to be somebody else's doing. Since the last call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Drift {
    /// Mail of a blocked account that was in the queue without a hold, and was put on hold.
    pub escaped: u64,
    /// Mail of a free account that was still on hold, and was released.
    pub left_over: u64,
    /// Somebody else has released what the agent held.
    pub taken: u64,
    /// What was to be released or deleted, or was believed to be on hold, was not there.
    pub gone: u64,
    /// What the log says is a held account's, and its queue file somebody else's: it was left alone.
    pub contradicted: u64,
}

#[derive(Debug)]
pub struct Sanctions {
    drift: Drift,
    settings: Settings,
    accounts: BTreeMap<Owner, Account>,
    held: Held,
    touched: Vec<Owner>,
    standing_changed: bool,
    /// Who is on a second chance is not who was.
    forced_changed: bool,
    /// Until then nothing is held too long: the clock may be wrong, or people had no time to act.
    quiet_until: Time,
    /// What came on hold up to then is held too long.
    inspected: Time,
    /// What the log says of who handed in what is about to be put on hold. Not kept.
    claims: BTreeMap<Place, Option<HandedBy>>,
    /// Messages that the log gives to an account and their queue files do not, and since when that is known. Not kept.
    others: BTreeMap<Place, Time>,
    /// On hold, and requeued, says the log: to be looked for. Whether that was asked for since. Not kept.
    doubted: BTreeMap<Place, bool>,
    /// How many of an account's were. Not kept.
    requeued: BTreeMap<Owner, u64>,
}

impl Sanctions {
    pub fn new(settings: Settings) -> Sanctions {
        Sanctions {
            drift: Drift::default(),
            held: Held::new(settings.max_held),
            settings,
            accounts: BTreeMap::new(),
            touched: Vec::new(),
            standing_changed: true,
            forced_changed: true,
            quiet_until: Time::ZERO,
            inspected: Time::ZERO,
            claims: BTreeMap::new(),
            others: BTreeMap::new(),
            doubted: BTreeMap::new(),
            requeued: BTreeMap::new(),
        }
    }

    pub fn account(&self, owner: Owner) -> Account {
        self.accounts.get(&owner).cloned().unwrap_or_default()
    }

    /// Messages of the account that the agent holds.
    pub fn held(&self, owner: Owner) -> u64 {
        self.held.sum(owner).messages
    }

    /// How many these are, since when, and how much they take.
    pub fn held_sum(&self, owner: Owner) -> Sum {
        self.held.sum(owner)
    }

    /// What was mended since the last call.
    pub fn take_drift(&mut self) -> Drift {
        std::mem::take(&mut self.drift)
    }

    /// The messages of the account that wait on hold, and since when.
    pub fn waiting(&self, owner: Owner) -> Vec<(Place, Time)> {
        let waiting = self.held.of(owner).filter(|(_, entry)| entry.stage == Stage::Held);
        waiting.map(|(place, entry)| (place.clone(), entry.at)).collect()
    }

    /// No account is held, and nothing is on hold.
    pub fn is_idle(&self) -> bool {
        self.accounts.values().all(Account::is_quiet) && self.held.owners().is_empty()
    }

    /// Nothing is known of the account that would be missed.
    pub fn is_clean(&self, owner: Owner) -> bool {
        self.held.of(owner).next().is_none() && self.accounts.get(&owner).is_none_or(Account::is_quiet)
    }

    /// An account that [`is_clean`](Sanctions::is_clean) is forgotten.
    pub fn forget(&mut self, owner: Owner) {
        if self.is_clean(owner) && self.accounts.remove(&owner).is_some() {
            self.touched.push(owner);
        }
    }

    /// Takes an order, or says why not. `queued` are messages of the account that wait in the queue and are not on
    /// hold. What changed stands in the rows; the work comes from `next_work` once they are in the store.
    pub fn accept(&mut self, order: &Order, queued: &[Queued], now: Time) -> Record {
        let account = self.account(order.owner);
        let held = self.held.of(order.owner).next().is_some();
        let decision = decide::decide(&account, order, held, now);
        let mut record = Record {
            at: now,
            owner: order.owner,
            order: order.id,
            action: order.action,
            scope: (order.action == Action::Block).then(|| order.scope.clone()),
            by: order.by.clone(),
            reason: order.reason.clone(),
            outcome: Outcome::Accepted,
            details: String::new(),
        };
        match decision {
            Decision::Already(why) => (record.outcome, record.details) = (Outcome::Already, why.to_owned()),
            Decision::Refuse(why) => (record.outcome, record.details) = (Outcome::Refused, why.why().to_owned()),
            Decision::Block(mut block, state) => {
                let relapses = self.relapse(&account, order, &mut block, now);
                let intended = self.intend(&block, order.owner, queued, now);
                let change = change(order, Verb::Hold, account.state);
                let told = relapses.last() != account.relapses.last();
                let account = Account {
                    state,
                    block: Some(block),
                    force_until: None,
                    drip: None,
                    delay: None,
                    relapses,
                    ..account
                };
                self.put(order.owner, Account { change: (intended > 0).then_some(change), ..account.clone() });
                let relapse = self.relapse_text(&account, told);
                (record.outcome, record.details) = begun(intended, "to put on hold");
                record.details.push_str(&relapse);
            }
            Decision::Unblock(state) => {
                (record.outcome, record.details) = self.unblock(order, account, state, now);
            }
            Decision::Part => {
                let part = order.part.iter().flat_map(|part| part.iter().cloned());
                let (verb, to, what) = match order.action {
                    Action::Purge => (Verb::Delete, Stage::Doomed, "to delete"),
                    _ => (Verb::Release, Stage::Leaving, "to release"),
                };
                let n = self.held.advance_these(order.owner, part, Stage::Held, to);
                if n > 0 {
                    let change = change(order, verb, account.state);
                    self.put(order.owner, Account { change: Some(change), ..account });
                }
                (record.outcome, record.details) = match n {
                    0 => (Outcome::Already, "none of these messages is held any more".to_owned()),
                    n => begun(n, what),
                };
            }
            Decision::Purge { lifts } => {
                self.held.advance(order.owner, Stage::Held, Stage::Doomed);
                self.held.advance(order.owner, Stage::Leaving, Stage::Doomed);
                let waiting = self.held.places(order.owner, Stage::Doomed).len() as u64;
                let change = Change { lifts, ..change(order, Verb::Delete, account.state) };
                // Leftovers of an account that sends are deleted while it goes on sending.
                let state = if account.block.is_some() { ServiceState::Purging } else { account.state };
                self.put(order.owner, Account { state, change: Some(change), drip: None, ..account });
                if waiting == 0 {
                    self.end_purge(order.owner, now);
                }
                (record.outcome, record.details) = begun(waiting, "to delete");
            }
        }
        record
    }

    /// The gate has put a message of the account on hold. False when there is no room to remember it: then nobody will
    /// release it but an administrator.
    pub fn note_held(&mut self, owner: Owner, place: Place, at: Time) -> bool {
        let purging = self.accounts.get(&owner).is_some_and(|account| account.state == ServiceState::Purging);
        let stage = if purging { Stage::Doomed } else { Stage::Held };
        if let Some(entry) = self.held.get(owner, &place)
            && entry.stage != Stage::Intended
        {
            return true;
        }
        self.held.set(owner, place, Entry::new(stage, at))
    }

    /// How many a message is for that [`note_held`](Sanctions::note_held) has told of: it is kept until the log knows it.
    pub fn note_recipients(&mut self, owner: Owner, place: &Place, recipients: u32) {
        if let Some(entry) = self.held.get(owner, place).filter(|entry| entry.recipients < recipients) {
            self.held.set(owner, place.clone(), Entry { recipients, ..entry });
        }
    }

    /// The messages on hold of which the gate has said how many they are for.
    pub fn with_recipients(&self) -> impl Iterator<Item = (&Place, Entry)> {
        let owners = self.held.owners().into_iter();
        owners.flat_map(move |owner| self.held.of(owner)).filter(|(_, entry)| entry.recipients > 1)
    }

    /// The server kept back a message at a delivery: it is not on hold any more, if it came on hold before that. It may
    /// have come on hold since: log time has whole seconds.
    pub fn note_loose(&mut self, owner: Owner, place: &Place, at: Time) {
        let change = self.accounts.get(&owner).and_then(|account| account.change.as_ref());
        // What is being released or deleted is settled by that.
        let stays = change.is_none_or(|change| change.verb == Verb::Hold);
        if stays && self.held.get(owner, place).is_some_and(|entry| entry.stage == Stage::Held && entry.at < at) {
            self.held.remove(owner, place);
        }
    }

    /// A block of the account stands.
    pub fn is_blocked(&self, owner: Owner) -> bool {
        self.accounts.get(&owner).is_some_and(|account| account.block.is_some())
    }

    /// The accounts of which one does.
    pub fn blocked(&self) -> impl Iterator<Item = Owner> {
        self.accounts.iter().filter(|(_, account)| account.block.is_some()).map(|(owner, _)| *owner)
    }

    /// Whether [`take_standing`](Sanctions::take_standing) has something to tell.
    pub fn standing_has_changed(&self) -> bool {
        self.standing_changed
    }

    /// Accounts of which `mend` wants to know what is queued.
    pub fn is_held(&self, owner: Owner) -> bool {
        self.accounts.get(&owner).is_some_and(|account| account.block.is_some() && account.change.is_none())
    }

    /// Brings the machine in line with what stands: holds what slipped past, releases and deletes what is left over.
    /// `queued` are messages of held accounts that wait in the queue and are not on hold; `on_hold` tells whether the
    /// log says that a message that is in the queue is on hold. To be called when the log has been read to its end.
    pub fn mend(&mut self, queued: &[Queued], on_hold: impl Fn(&Place) -> Option<bool>, now: Time) {
        self.let_go(on_hold, now);
        self.forget_intents();
        let mut owners: Vec<Owner> = queued.iter().map(|one| one.owner).chain(self.held.owners()).collect();
        owners.sort_unstable();
        owners.dedup();
        for owner in owners {
            let account = self.account(owner);
            if account.change.is_some() {
                continue;
            }
            let (action, verb) = match &account.block {
                _ if self.held.any(owner, Stage::Doomed) => (Action::Purge, Verb::Delete),
                _ if self.held.any(owner, Stage::Leaving) => (Action::Unblock, Verb::Release),
                None if account.drip.is_none() && account.delay.is_none() && self.held.any(owner, Stage::Held) => {
                    self.held.advance(owner, Stage::Held, Stage::Leaving);
                    (Action::Unblock, Verb::Release)
                }
                Some(block) if self.intend(block, owner, queued, now) > 0 || self.held.any(owner, Stage::Intended) => {
                    (Action::Block, Verb::Hold)
                }
                _ => continue,
            };
            let change = Change {
                order: account.block.as_ref().map_or(OrderId::default(), |block| block.order),
                action,
                verb,
                by: Actor::Agent,
                mend: true,
                ..Change::new(account.state)
            };
            self.put(owner, Account { change: Some(change), ..account });
        }
    }

    /// The next work that was not given out yet. Only to be called when everything that changed is in the store.
    pub fn next_work(&mut self) -> Option<Work> {
        let (owner, change) = self.accounts.iter_mut().find_map(|(owner, account)| {
            let change = account.change.as_mut().filter(|change| !change.given)?;
            change.given = true;
            Some((*owner, change))
        })?;
        let (asks, again) = (change.asks, change.again);
        let stage = match change.verb {
            _ if asks => Stage::Held,
            Verb::Hold => Stage::Intended,
            Verb::Release => Stage::Leaving,
            Verb::Delete => Stage::Doomed,
        };
        let (order, verb) = (change.order, change.verb);
        let mut places = self.held.places(owner, stage);
        if asks {
            let (held, before) = (&self.held, self.inspected);
            places.retain(|place| held.get(owner, place).is_some_and(|entry| entry.at <= before));
        }
        let claim = |place: &Place| (place.clone(), self.claims.get(place).cloned().flatten());
        let claims = if verb == Verb::Hold { places.iter().map(claim).collect() } else { BTreeMap::new() };
        Some(Work { order, owner, verb, asks, again, places, claims })
    }

    /// Every account whose mail is held, if that changed since the last call.
    pub fn take_standing(&mut self) -> Option<Vec<HeldAccount>> {
        if !std::mem::take(&mut self.standing_changed) {
            return None;
        }
        let standing = self.accounts.iter().filter_map(|(owner, account)| {
            if let Some(delay) = &account.delay {
                return Some(delay.standing(*owner));
            }
            let block = account.block.as_ref()?;
            let (scope, reason) = (block.scope.clone(), block.reason.clone());
            Some(HeldAccount { owner: *owner, scope, order: block.order, reason, slow: false })
        });
        Some(standing.collect())
    }

    /// What somebody else has released is not ours any more: it may come on hold again for a reason of theirs.
    fn let_go(&mut self, on_hold: impl Fn(&Place) -> Option<bool>, now: Time) {
        for owner in self.held.owners() {
            if self.accounts.get(&owner).is_some_and(|account| account.change.is_some()) {
                continue;
            }
            let old = |entry: Entry| now.secs_since(entry.at) >= SETTLED_SECS;
            let others = self.held.of(owner).filter(|(place, entry)| old(*entry) && on_hold(place) == Some(false));
            for place in others.map(|(place, _)| place.clone()).collect::<Vec<_>>() {
                self.held.remove(owner, &place);
                self.drift.taken += 1;
            }
        }
    }

    /// Marks what is covered as about to be put on hold; how many that is.
    fn intend(&mut self, block: &Block, owner: Owner, queued: &[Queued], now: Time) -> u64 {
        let mut intended = 0;
        for one in queued.iter().filter(|one| one.owner == owner && block.holds(one)) {
            if self.is_others(&one.place, now) {
                continue;
            }
            intended += u64::from(self.intend_one(owner, one.place.clone(), one.by.clone(), now));
        }
        intended
    }

    fn put(&mut self, owner: Owner, account: Account) {
        let stood = self.accounts.get(&owner);
        self.standing_changed |= stood.and_then(|account| account.block.as_ref()) != account.block.as_ref()
            || stood.and_then(|account| account.delay.as_ref()) != account.delay.as_ref();
        let forced = |account: Option<&Account>| account.is_some_and(|account| account.state == ServiceState::Force);
        self.forced_changed |= forced(self.accounts.get(&owner)) != forced(Some(&account));
        if account == Account::default() {
            self.accounts.remove(&owner);
        } else {
            self.accounts.insert(owner, account);
        }
        self.touched.push(owner);
    }
}

impl Account {
    /// Nothing stands for it, and nothing is under way.
    fn is_quiet(&self) -> bool {
        self.block.is_none() && self.change.is_none() && self.delay.is_none()
    }
}

fn begun(messages: u64, what: &str) -> (Outcome, String) {
    match messages {
        0 => (Outcome::Done, format!("no messages {what}")),
        n => (Outcome::Accepted, format!("{} {what}", counted(n))),
    }
}

/// `1 message`, `2 messages`.
fn counted(messages: u64) -> String {
    format!("{messages} {}", if messages == 1 { "message" } else { "messages" })
}

fn change(order: &Order, verb: Verb, before: ServiceState) -> Change {
    Change { order: order.id, action: order.action, verb, by: order.by.clone(), ..Change::new(before) }
}

impl Change {
    fn new(before: ServiceState) -> Change {
        Change {
            order: OrderId::default(),
            action: Action::Block,
            verb: Verb::Hold,
            by: Actor::Agent,
            mend: false,
            before,
            lifts: false,
            rounds: 0,
            done: 0,
            gone: 0,
            expires: false,
            asks: false,
            again: false,
            given: false,
        }
    }
}
