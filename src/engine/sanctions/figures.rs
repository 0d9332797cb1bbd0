//! How things stand, in numbers.

use super::{Sanctions, Sum};
use crate::mail::{ServiceState, Time};
use std::collections::BTreeMap;

/// How things stand, for gauges.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Figures {
    /// Accounts whose mail is held, by state and by what it is for.
    pub blocked: BTreeMap<(&'static str, &'static str), u64>,
    /// Messages on hold, those that are about to leave included.
    pub messages: u64,
    /// What they take of the queue, as far as that is known.
    pub bytes: u64,
    /// Since when the oldest of them is on hold.
    pub oldest: Option<Time>,
    /// Accounts on a second chance.
    pub forced: u64,
    /// Accounts that are slowed down.
    pub delayed: u64,
}

impl Sanctions {
    /// How things stand.
    pub fn figures(&self) -> Figures {
        let mut figures = Figures::default();
        for account in self.accounts.values() {
            figures.forced += u64::from(account.state == ServiceState::Force);
            if let Some(block) = &account.block {
                *figures.blocked.entry((account.state.name(), block.cause.name())).or_default() += 1;
            }
            figures.delayed += u64::from(account.delay.is_some());
        }
        for owner in self.held.owners() {
            let Sum { messages, bytes, oldest } = self.held.sum(owner);
            figures.messages += messages;
            figures.bytes += bytes;
            figures.oldest = figures.oldest.into_iter().chain(oldest).min();
        }
        figures
    }
}
