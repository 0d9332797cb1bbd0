//! What time brings: the end of a block, of a second chance, of messages held too long; the next that leaves slowly.
//!
//! Ages are counted by the host's clock, but not across a leap of it: nothing is deleted because a clock was set.

use super::held::Stage;
use super::{Account, Change, Drip, Outcome, Record, Sanctions, Settings, begun, change, counted};
use crate::mail::{Action, Actor, Cause, LiftableBy, Order, OrderId, Owner, Role, Scope, ServiceState, Time, Verb};

/// After a start, and after the clock was set, people have so long to act before anything is deleted; less where
/// nothing is held for so long.
const QUIET_SECS: i64 = 600;
/// Warnings come after so many twelfths of the time: 48 and 66 hours of 72.
const WARNINGS: [i64; 2] = [8, 11];

impl Settings {
    /// Why a message was deleted that nobody purged.
    pub fn too_long(&self) -> String {
        format!("held for {} and not released", span(self.held_max_secs))
    }
}

impl Sanctions {
    /// Why a message was deleted that nobody purged, as errors tell it.
    pub fn too_long(&self) -> String {
        self.settings.too_long()
    }

    /// The agent has begun, with these limits: what is due now became due while nobody could act.
    pub fn begin(&mut self, settings: Settings, now: Time) {
        self.settings = settings;
        self.set_clock(0, now);
    }

    /// Limits that were changed: what they make too old has its quiet time first.
    pub fn set_settings(&mut self, settings: Settings, now: Time) {
        if settings.held_max_secs != self.settings.held_max_secs {
            self.quiet_until = now.plus_secs(QUIET_SECS.min(settings.held_max_secs));
        }
        self.settings = settings;
    }

    /// The clock was set by `secs` (none: the agent has begun): what is due now was not due a moment ago.
    pub fn set_clock(&mut self, secs: i64, now: Time) {
        self.quiet_until = now.plus_secs(QUIET_SECS.min(self.settings.held_max_secs));
        self.inspected = Time::ZERO;
        if secs == 0 {
            return;
        }
        self.held.shift(secs);
        for (owner, account) in &mut self.accounts {
            if let Some(drip) = &mut account.drip {
                drip.since = drip.since.plus_secs(secs);
                self.touched.push(*owner);
            }
        }
    }

    /// Ends what has an end: a block with a set time, a second chance; lets go what leaves slowly. `fresh` makes ids
    /// of orders.
    pub fn tick(&mut self, now: Time, mut fresh: impl FnMut() -> OrderId) -> Vec<Record> {
        let due: Vec<Owner> =
            self.accounts.iter().filter(|(_, account)| is_due(account, now)).map(|(o, _)| *o).collect();
        let mut records = Vec::new();
        for owner in due {
            let account = self.account(owner);
            if account.block.as_ref().and_then(|block| block.until).is_some_and(|until| until <= now) {
                records.push(self.accept(&ended(fresh(), owner, now), &[], now));
                continue;
            }
            if account.force_until.is_some_and(|until| until <= now) {
                let state = ServiceState::Ok;
                self.put(owner, Account { state, force_until: None, ..account.clone() });
            }
            if account.drip.as_ref().is_some_and(|drip| drip.next() <= now) {
                records.extend(self.drip(owner, now));
            }
        }
        records
    }

    /// When `tick` has something to do.
    pub fn next_wake(&self) -> Option<Time> {
        self.accounts.values().filter_map(wake).min()
    }

    /// What is held too long is given up, and what soon will be is warned of. To be called about once a minute.
    pub fn age(&mut self, now: Time, mut fresh: impl FnMut() -> OrderId) -> Vec<Record> {
        let most = self.settings.held_max_secs;
        self.inspected = if now < self.quiet_until { Time::ZERO } else { now.plus_secs(-most) };
        let mut records = Vec::new();
        for owner in self.held.owners() {
            let account = self.account(owner);
            let oldest = self.held.of(owner).filter(|(_, e)| e.stage == Stage::Held).map(|(_, e)| e.at).min();
            let age = oldest.map_or(0, |oldest| now.secs_since(oldest));
            if account.change.is_none() && age >= most && now >= self.quiet_until {
                let change = Change {
                    order: fresh(),
                    action: Action::Purge,
                    verb: Verb::Delete,
                    expires: true,
                    asks: true,
                    ..Change::new(account.state)
                };
                self.put(owner, Account { change: Some(change), ..account.clone() });
            }
            let due = WARNINGS.iter().filter(|twelfths| age >= most * *twelfths / 12).count();
            let warned = u8::try_from(due).unwrap_or(u8::MAX);
            if warned > account.warned {
                records.push(self.warning(owner, age, now, fresh()));
            }
            if warned != account.warned {
                let account = self.account(owner);
                self.put(owner, Account { warned, ..account });
            }
        }
        records
    }

    /// What was not held any more, because too much is.
    pub fn overflow(&self, owner: Owner, order: OrderId, details: String, now: Time) -> Record {
        let (action, outcome, by) = (Action::Block, Outcome::Overflowed, Actor::Agent);
        Record { at: now, owner, order, action, scope: None, by, reason: String::new(), outcome, details }
    }

    fn warning(&self, owner: Owner, age: i64, now: Time, order: OrderId) -> Record {
        let held = self.held.sum(owner).messages;
        let (most, by) = (span(self.settings.held_max_secs), Actor::Agent);
        let details = match held {
            1 => format!("1 message on hold is {} old; after {most} it is deleted", span(age)),
            n => format!("of {n} messages on hold the oldest is {} old; after {most} they are deleted", span(age)),
        };
        let (action, outcome, reason) = (Action::Purge, Outcome::Warned, String::new());
        Record { at: now, owner, order, action, scope: None, by, reason, outcome, details }
    }

    /// The block ends. What is held is released at once, or leaves slowly.
    pub(super) fn unblock(
        &mut self,
        order: &Order,
        account: Account,
        state: ServiceState,
        now: Time,
    ) -> (Outcome, String) {
        let owner = order.owner;
        let waiting = self.held.places(owner, Stage::Held).len() as u64;
        // An operator has looked at it.
        let relapses = if order.by.role() == Role::Operator { Vec::new() } else { account.relapses.clone() };
        let account = Account { relapses, ..account };
        let force_until = match (state, &account.block) {
            (ServiceState::Force, Some(_)) => Some(now.plus_secs(self.settings.force_secs)),
            _ => account.force_until,
        };
        let most = (order.by.role() == Role::Owner && waiting > self.settings.owner_release_max)
            .then_some(self.settings.owner_release_rate);
        let rate = most.into_iter().chain(order.drip).min().filter(|_| waiting > 0);
        let drip = rate.map(|rate| Drip { per_hour: rate.max(1), since: now, given: 0, by: order.by.clone() });
        if let Some(drip) = drip {
            let told = format!("{} to release, {} an hour, the oldest first", counted(waiting), drip.per_hour);
            self.put(owner, Account { state, block: None, force_until, drip: Some(drip), delay: None, ..account });
            return (Outcome::Accepted, told);
        }
        self.held.advance(owner, Stage::Held, Stage::Leaving);
        let leaving = self.held.places(owner, Stage::Leaving).len() as u64;
        let change = (leaving > 0).then(|| change(order, Verb::Release, account.state));
        self.put(owner, Account { state, block: None, force_until, drip: None, delay: None, change, ..account });
        begun(leaving, "to release")
    }

    /// Lets the next messages go; the record when these were the last.
    fn drip(&mut self, owner: Owner, now: Time) -> Option<Record> {
        let account = self.account(owner);
        let drip = account.drip.clone()?;
        let due = drip.due(now).saturating_sub(drip.given);
        let oldest = self.held.oldest(owner, usize::try_from(due).unwrap_or(usize::MAX));
        let given = self.held.advance_these(owner, oldest, Stage::Held, Stage::Leaving);
        if given == 0 {
            self.put(owner, Account { drip: None, ..account });
            let were = if drip.given == 1 { "was" } else { "were" };
            let details = format!("{} {were} told to leave", counted(drip.given));
            let (order, action, outcome) = (OrderId::default(), Action::Unblock, Outcome::Done);
            let (by, reason) = (drip.by, String::new());
            return Some(Record { at: now, owner, order, action, scope: None, by, reason, outcome, details });
        }
        let change = Change { action: Action::Unblock, verb: Verb::Release, mend: true, ..Change::new(account.state) };
        let drip = Drip { given: drip.given + given, ..drip };
        self.put(owner, Account { drip: Some(drip), change: Some(change), ..account });
        None
    }
}

impl Drip {
    /// Messages that should have been told to leave by now: the first at once.
    fn due(&self, now: Time) -> u64 {
        let passed = u64::try_from(now.secs_since(self.since)).unwrap_or(0);
        1 + passed.saturating_mul(u64::from(self.per_hour)) / 3_600
    }

    /// When the next one is due.
    fn next(&self) -> Time {
        let secs = self.given.saturating_mul(3_600).div_ceil(u64::from(self.per_hour.max(1)));
        self.since.plus_secs(i64::try_from(secs).unwrap_or(i64::MAX / 2_000_000))
    }
}

fn ended(id: OrderId, owner: Owner, now: Time) -> Order {
    Order {
        id,
        owner,
        action: Action::Unblock,
        scope: Scope::default(),
        cause: Cause::Person,
        by: Actor::Agent,
        liftable_by: LiftableBy::Owner,
        reason: String::new(),
        at: now,
        until: None,
        part: None,
        drip: None,
        spares: false,
    }
}

/// While a change is under way, an end waits for it.
fn wake(account: &Account) -> Option<Time> {
    let until = account.block.as_ref().and_then(|block| block.until);
    let next = account.drip.as_ref().map(Drip::next);
    until.into_iter().chain(account.force_until).chain(next).min().filter(|_| account.change.is_none())
}

fn is_due(account: &Account, now: Time) -> bool {
    wake(account).is_some_and(|at| at <= now)
}

/// In words: `72 hours`, `90 minutes`, `20 seconds`.
fn span(secs: i64) -> String {
    match secs {
        7_200.. => format!("{} hours", secs / 3_600),
        120.. => format!("{} minutes", secs / 60),
        1 => "1 second".to_owned(),
        _ => format!("{secs} seconds"),
    }
}
