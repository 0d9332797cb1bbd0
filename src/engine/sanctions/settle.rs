//! What came of the work, and what follows from it.

use super::held::{Entry, Stage};
use super::{Account, Change, Outcome, Record, Sanctions};
use crate::mail::{OrderId, Owner, Place, Report, Role, ServiceState, Time, Verb};

/// A message of which the server says nothing is looked for this often before it is taken for gone, and this often if
/// the log says that it is on hold.
const MISSES: u8 = 2;
const MOST_MISSES: u8 = 10;
/// What came on hold so long ago lies in the hold queue, if the log did not say otherwise.
const SURE_SECS: i64 = 5;
/// Rounds of a purge: mail that comes while it runs is deleted too, but a purge has an end.
const ROUNDS: u8 = 10;

impl Sanctions {
    /// Takes what came of the work of an order. `on_hold` tells whether the log says that a message is on hold now.
    /// `None` when no such work was under way. Otherwise the record of it: nothing when it goes on, or was nobody's.
    pub fn settle(
        &mut self,
        owner: Owner,
        order: OrderId,
        report: &Report,
        on_hold: impl Fn(&Place) -> bool,
        now: Time,
    ) -> Option<Option<Record>> {
        let account = self.account(owner);
        let mut change = account.change.clone().filter(|change| change.order == order)?;
        self.settle_places(owner, &mut change, report, on_hold, now);
        if change.verb == Verb::Hold {
            report.done.iter().chain(&report.missing).for_each(|place| drop(self.claims.remove(place)));
        }
        let trouble = report.trouble.is_some();
        if change.verb != Verb::Hold {
            self.drift.gone += change.gone.saturating_sub(account.change.as_ref().map_or(0, |before| before.gone));
        }
        if change.asks && !trouble && self.held.any(owner, Stage::Doomed) {
            // Whom they were for is known: they may go.
            change.asks = false;
            (change.given, change.again) = (false, false);
            self.put(owner, Account { change: Some(change), ..account });
            return Some(None);
        }
        if change.verb == Verb::Delete && !trouble && change.rounds < ROUNDS && self.new_doomed(owner) {
            change.rounds += 1;
            (change.given, change.again) = (false, false);
            self.put(owner, Account { change: Some(change), ..account });
            return Some(None);
        }
        let record = self.record(owner, &account, &change, report, now);
        let slow = account.drip.is_some() || account.delay.is_some();
        match change.verb {
            Verb::Hold if change.mend => self.drift.escaped += change.done,
            Verb::Release if change.mend && !slow => self.drift.left_over += change.done,
            _ => {}
        }
        match (change.verb, change.mend, trouble) {
            // Held too long: that is told already, and is tried again.
            (Verb::Delete, false, true) if change.expires => self.put(owner, Account { change: None, ..account }),
            (Verb::Delete, false, true) => {
                // It could not be done: what is still there is held as before.
                self.held.advance(owner, Stage::Doomed, Stage::Held);
                self.put(owner, Account { state: change.before, change: None, ..account });
            }
            (Verb::Delete, false, false) => self.end_purge(owner, now),
            _ => self.put(owner, Account { change: None, ..account }),
        }
        // What leaves slowly is told at its end.
        let told = if change.mend { change.done > 0 && !slow } else { !change.asks };
        Some(told.then_some(record))
    }

    fn settle_places(
        &mut self,
        owner: Owner,
        change: &mut Change,
        report: &Report,
        on_hold: impl Fn(&Place) -> bool,
        now: Time,
    ) {
        let stage = |entry: Option<Entry>| entry.map(|entry| entry.stage);
        for place in &report.done {
            match (change.verb, stage(self.held.get(owner, place))) {
                (Verb::Hold, Some(Stage::Intended)) => {
                    self.held.set(owner, place.clone(), Entry::new(Stage::Held, now));
                }
                (Verb::Release, Some(Stage::Leaving)) | (Verb::Delete, Some(Stage::Doomed)) => {
                    self.held.remove(owner, place);
                }
                (_, Some(Stage::Held)) if change.asks => {
                    self.held.advance_these(owner, [place.clone()], Stage::Held, Stage::Doomed);
                    continue;
                }
                _ => continue,
            }
            change.done += 1;
        }
        for place in &report.missing {
            let Some(entry) = self.held.get(owner, place) else { continue };
            if change.verb == Verb::Hold {
                if entry.stage != Stage::Intended {
                    continue;
                }
                // The agent ended before it heard of it: what came on hold since is ours. Otherwise it was delivered,
                // or somebody else has put it on hold meanwhile.
                if change.again && on_hold(place) {
                    self.held.set(owner, place.clone(), Entry::new(Stage::Held, now));
                    change.done += 1;
                } else {
                    self.held.remove(owner, place);
                    change.gone += u64::from(report.trouble.is_none());
                }
            } else if change.again
                && report.absent.contains(place)
                && !on_hold(place)
                && now.secs_since(entry.at) >= SURE_SECS
            {
                // The agent before this one has done it, and ended before it heard so.
                self.held.remove(owner, place);
                change.done += 1;
            } else if report.trouble.is_none() {
                let missed = entry.missed.saturating_add(1);
                let most = if on_hold(place) { MOST_MISSES } else { MISSES };
                if missed >= most {
                    self.held.remove(owner, place);
                } else {
                    self.held.set(owner, place.clone(), Entry { missed, ..entry });
                }
                change.gone += 1;
            }
        }
    }

    /// Something came under hold while the purge was running.
    fn new_doomed(&self, owner: Owner) -> bool {
        self.held.of(owner).any(|(_, entry)| entry.stage == Stage::Doomed && entry.missed == 0)
    }

    /// The purge is over: the block is lifted with it, or stands as before.
    pub(super) fn end_purge(&mut self, owner: Owner, now: Time) {
        let account = self.account(owner);
        let Some(change) = &account.change else { return };
        let after = if change.lifts {
            let by_owner = change.by.role() == Role::Owner && change.before == ServiceState::Spam;
            let owner_lifted = if by_owner { Some(now) } else { account.owner_lifted };
            Account { owner_lifted, ..Account::default() }
        } else {
            Account { state: change.before, change: None, ..account.clone() }
        };
        self.put(owner, after);
    }

    fn record(&self, owner: Owner, account: &Account, change: &Change, report: &Report, now: Time) -> Record {
        let outcome = match (&report.trouble, change.verb) {
            (None, _) => Outcome::Done,
            (Some(_), Verb::Delete) => Outcome::Failed,
            (Some(_), Verb::Hold | Verb::Release) => Outcome::Incomplete,
        };
        let done = match change.verb {
            Verb::Hold => "put on hold",
            Verb::Release => "released",
            Verb::Delete => "deleted",
        };
        let mut details = format!("{} {done}", change.done);
        if change.gone > 0 {
            let gone = match change.verb {
                Verb::Hold => "had left the queue already",
                Verb::Release => "not on hold any more",
                Verb::Delete => "not there any more",
            };
            details.push_str(&format!(", {} {gone}", change.gone));
        }
        if let Some(trouble) = &report.trouble {
            details.push_str(&format!("; {trouble}"));
        }
        let (order, action, by) = (change.order, change.action, change.by.clone());
        let scope = account.block.as_ref().filter(|block| block.order == order).map(|block| block.scope.clone());
        let reason = if change.expires { self.settings.too_long() } else { String::new() };
        Record { at: now, owner, order, action, scope, by, reason, outcome, details }
    }
}
