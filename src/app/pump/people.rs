//! What people ask of the pump: other names for accounts, closed accounts, forgotten accounts, a new directory.

use super::{Pump, rows};
use crate::app::shared::{Answer, NotDone, Request, answer as reply};
use crate::app::unlisted;
use crate::engine::attribution::User;
use crate::engine::directory::Directory;
use crate::engine::keys::{self, Key};
use crate::host::clock;
use crate::mail::{Owner, text};

impl Pump {
    pub(super) fn answer_requests(&mut self) {
        for request in self.shared.take_requests() {
            match request {
                Request::Settings { directory, answer, .. } if !self.unlisted(&directory).is_empty() => {
                    self.metrics.config_loaded(false, clock::now());
                    let names = self.unlisted(&directory);
                    reply(&answer, Err(NotDone::Refused(format!("{}; {}", unlisted::text(&names), unlisted::NEXT))));
                }
                Request::Settings { directory, replies, own_addresses, hold, rules, enforcement, answer } => {
                    self.engine.sanctions.set_settings(hold.clone(), clock::now());
                    self.setup.hold = hold;
                    self.engine.replies = *replies;
                    self.setup.own_addresses = own_addresses;
                    self.engine.attribution.accounts.set_most(directory.policy().max_known_accounts);
                    if let Some(gate) = &self.gate {
                        gate.set_directory((*directory).clone());
                    }
                    self.engine.attribution.set_directory(*directory);
                    self.engine.rules.set(rules);
                    self.engine.judge.set(*enforcement);
                    self.listed.due = self.engine.sanctions.blocked().next().is_some();
                    self.shared.set_unlisted(Vec::new());
                    self.arm_gate();
                    self.ask_again();
                    self.metrics.config_loaded(true, clock::now());
                    tracing::info!(
                        "accounts file, attribution settings, own addresses, reply patterns, hold, rules, enforcement and metrics.max_accounts are in force"
                    );
                    reply(&answer, Ok(()));
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
                Request::Admit { name, user, answer } => reply(&answer, self.admit(&name, user)),
                Request::Enforcement { on, by, answer } => self.enforce(on, &by, &answer),
                Request::Undo { undo, answer } => self.undo(&undo, &answer),
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

    /// Accounts that are held, are listed, and would not be by this directory.
    fn unlisted(&self, new: &Directory) -> Vec<String> {
        let lists = |directory: &Directory, key: &str| directory.accounts().iter().any(|spec| spec.id == key);
        let (accounts, old) = (&self.engine.attribution.accounts, self.engine.attribution.directory());
        let held = self.shared.standing();
        let keys = held.iter().filter_map(|held| Some((held.owner, accounts.get(held.owner)?.key.to_string())));
        let lost = keys.filter(|(_, key)| lists(old, key) && !lists(new, key));
        lost.map(|(owner, _)| accounts.name(owner).to_string()).collect()
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

    /// The account of this name, which has not sent yet. It is in the store with the order that follows.
    fn admit(&mut self, name: &str, user: Option<User>) -> Result<Owner, NotDone> {
        let (now, shown) = (clock::now(), text::clean(name.as_bytes(), 128));
        let directory = self.engine.attribution.directory();
        let refused = |why: String| Err(NotDone::Refused(why));
        let key = match &user {
            _ if directory.accounts().iter().any(|spec| spec.id == name) => Key::Listed(name),
            Some(user) => keys::of_uid(directory, user.uid, Some(user)),
            None => {
                return refused(format!(
                    "there is no account {shown}: nobody of this name has sent, the accounts file does not list it, and this \
                     host has no such user; `sendwarden account list` shows all"
                ));
            }
        };
        let owner = match key {
            Key::Listed(id) if id == name => self.engine.attribution.accounts.intern_listed(name, now),
            Key::Listed(id) => {
                return refused(format!("the mail of unix user {shown} is account {id}'s: name that one"));
            }
            Key::Nobody(why) => {
                return refused(format!("the mail of unix user {shown} is no account's ({})", why.name()));
            }
            Key::Named(key) => {
                let (uid, home) = user.map(|user| (user.uid, user.home)).unwrap_or_default();
                self.engine.attribution.accounts.intern_user(&key, uid, &home, now)
            }
        };
        match owner.is_account() {
            true => Ok(owner),
            false => refused(format!("{shown} cannot be added: attribution.max_known_accounts is reached")),
        }
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
        self.shelf.store().forget(owner.0).map_err(|why| NotDone::Later(why.to_string()))?;
        self.engine.tracker.disown(owner);
        self.engine.ledger.forget(owner);
        self.engine.sanctions.forget(owner);
        self.engine.rules.forget(owner);
        self.forget_notices(owner);
        self.listed.entries.remove(&owner);
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
