//! What people ask of the pump: other names for accounts, closed accounts, forgotten accounts, a new directory.

use super::{Pump, rows};
use crate::app::shared::{Answer, NotDone, Request, answer as reply};
use crate::host::clock;
use crate::mail::Owner;

impl Pump {
    pub(super) fn answer_requests(&mut self) {
        for request in self.shared.take_requests() {
            match request {
                Request::Settings { directory, replies, own_addresses, hold } => {
                    self.engine.sanctions.set_settings(hold.clone(), clock::now());
                    self.setup.hold = hold;
                    self.engine.replies = *replies;
                    self.setup.own_addresses = own_addresses;
                    self.engine.attribution.accounts.set_most(directory.policy().max_known_accounts);
                    if let Some(gate) = &self.gate {
                        gate.set_directory((*directory).clone());
                    }
                    self.engine.attribution.set_directory(*directory);
                    self.ask_again();
                    tracing::info!(
                        "accounts file, attribution settings, own addresses, reply patterns, hold and metrics.max_accounts are in force"
                    );
                }
                Request::Rename { owner, to, answer } => {
                    let done = self.engine.attribution.accounts.rename(owner, &to);
                    if done {
                        self.metrics.rename(owner, &to);
                    }
                    self.settle(done, "the name is taken, or the account is gone", &answer, "the new name");
                }
                Request::Close { owner, answer } => {
                    let done = self.engine.attribution.accounts.close(owner, clock::now());
                    self.settle(done, "the account is gone", &answer, "the end of the account");
                }
                Request::Order { order, answer } => self.take_order(&order, &answer),
                Request::Waiting { owner, answer } => {
                    reply(&answer, Ok(self.waiting(owner)));
                }
                Request::Forget { owner, answer } => {
                    if let Err(why) = self.forget(owner, &answer) {
                        reply(&answer, Err(why));
                    }
                }
            }
        }
    }

    /// Commits a change that was made, so that the answer is true for good.
    fn settle(&mut self, done: bool, why_not: &str, to: &Answer, what: &'static str) {
        let result = match done {
            false => Err(NotDone::Refused(why_not.to_owned())),
            true if self.commit_for(to, what) => Ok(()),
            true => Err(stopping()),
        };
        reply(to, result);
    }

    fn forget(&mut self, owner: Owner, to: &Answer) -> Result<(), NotDone> {
        if !self.engine.sanctions.is_clean(owner) {
            return Err(NotDone::Refused(
                "mail of the account is held, and would be on hold for ever: unblock or purge it first".to_owned(),
            ));
        }
        // What was read before must be in the store first, or it would come back with the next batch.
        if !self.commit_for(to, "the end of the account") {
            return Err(stopping());
        }
        self.store.forget(owner.0).map_err(|why| NotDone::Later(why.to_string()))?;
        self.engine.tracker.disown(owner);
        self.engine.ledger.forget(owner);
        self.engine.sanctions.forget(owner);
        self.engine.attribution.accounts.forget(owner);
        self.engine.attribution.forget_answers();
        self.metrics.forget(owner);
        self.batch.rows.extend(rows::gone(owner));
        self.save_metrics();
        self.settle(true, "", to, "the end of the account");
        Ok(())
    }
}

pub(super) fn stopping() -> NotDone {
    NotDone::Later("the agent is stopping; ask again when it is back".to_owned())
}
