//! What people ask of the pump: other names for accounts, closed accounts, forgotten accounts, a new directory.

use super::{Pump, rows};
use crate::app::shared::Request;
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
                    let result = self.settle(done, "the name is taken, or the account is gone");
                    reply(&answer, result);
                }
                Request::Close { owner, answer } => {
                    let done = self.engine.attribution.accounts.close(owner, clock::now());
                    let result = self.settle(done, "the account is gone");
                    reply(&answer, result);
                }
                Request::Order { order, answer } => self.take_order(&order, &answer),
                Request::Waiting { owner, answer } => {
                    if answer.try_send(Ok(self.waiting(owner))).is_err() {
                        tracing::debug!("an answer was not waited for");
                    }
                }
                Request::Forget { owner, answer } => {
                    let result = self.forget(owner);
                    reply(&answer, result);
                }
            }
        }
    }

    /// Commits a change that was made, so that the answer is true for good.
    fn settle(&mut self, done: bool, why_not: &str) -> Result<(), String> {
        if !done {
            return Err(why_not.to_owned());
        }
        if self.commit(true) { Ok(()) } else { Err("the agent is stopping; ask again when it is back".to_owned()) }
    }

    fn forget(&mut self, owner: Owner) -> Result<(), String> {
        if !self.engine.sanctions.is_clean(owner) {
            return Err(
                "mail of the account is held, and would be on hold for ever: unblock or purge it first".to_owned()
            );
        }
        // What was read before must be in the store first, or it would come back with the next batch.
        if !self.commit(true) {
            return Err("the agent is stopping; ask again when it is back".to_owned());
        }
        self.store.forget(owner.0).map_err(|why| why.to_string())?;
        self.engine.tracker.disown(owner);
        self.engine.ledger.forget(owner);
        self.engine.sanctions.forget(owner);
        self.engine.attribution.accounts.forget(owner);
        self.engine.attribution.forget_answers();
        self.metrics.forget(owner);
        self.batch.rows.extend(rows::gone(owner));
        self.save_metrics();
        self.settle(true, "")
    }
}

fn reply(answer: &crate::app::shared::Answer, result: Result<(), String>) {
    if answer.try_send(result).is_err() {
        // Whoever asked has gone away; the change stands.
        tracing::debug!("an answer was not waited for");
    }
}
