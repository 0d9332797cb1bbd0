//! The table: what an order means for an account in a state (design: service states). One function, no memory.

use super::{Account, Block, Queued};
use crate::mail::{Action, LiftableBy, Order, Role, ServiceState, Time};

/// What is to happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// The block that stands from now on, and the state with it.
    Block(Block, ServiceState),
    /// Hand everything held back to delivery.
    Unblock(ServiceState),
    /// Delete everything held. `lifts`: the block ends with it, otherwise it stands as before.
    Purge {
        lifts: bool,
    },
    /// Release or delete some of what is held, and nothing else changes.
    Part,
    /// It is so already.
    Already(&'static str),
    Refuse(Refusal),
}

/// Why an order is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Refusal {
    Busy,
    OperatorsBlock,
    Spam,
    Machine,
    Ended,
    NoAccount,
    PartOfABlock,
}

impl Refusal {
    pub const ALL: [Refusal; 7] = [
        Refusal::Busy,
        Refusal::OperatorsBlock,
        Refusal::Spam,
        Refusal::Machine,
        Refusal::Ended,
        Refusal::NoAccount,
        Refusal::PartOfABlock,
    ];

    pub const fn why(self) -> &'static str {
        match self {
            Refusal::Busy => "another order for this account is being carried out; try again in a moment",
            Refusal::OperatorsBlock => "this block can be lifted by an operator only",
            Refusal::Spam => "an account held for spam is unblocked by an operator only; it may be purged",
            Refusal::Machine => "rules and alerts may block, but neither unblock nor purge",
            Refusal::Ended => "its end is in the past",
            Refusal::NoAccount => "only accounts can be blocked",
            Refusal::PartOfABlock => "only what is held can be released or purged in part; a block has a scope",
        }
    }
}

/// An owner's purge lifts a block for spam once in this time.
pub const OWNER_LIFTS_SPAM_SECS: i64 = 7 * 86_400;

/// `held`: the agent holds mail of the account.
pub fn decide(account: &Account, order: &Order, held: bool, now: Time) -> Decision {
    let role = order.by.role();
    if !order.owner.is_account() {
        return Decision::Refuse(Refusal::NoAccount);
    }
    if role == Role::Machine && order.action != Action::Block {
        return Decision::Refuse(Refusal::Machine);
    }
    if account.change.is_some() {
        return Decision::Refuse(Refusal::Busy);
    }
    if order.part.is_some() {
        return part(account, order.action, role);
    }
    match order.action {
        Action::Block => block(account, order, now),
        Action::Unblock => unblock(account, role, order.drip, held),
        Action::Purge => purge(account, role, held, now),
    }
}

impl Block {
    /// Whether it holds a message that waits in the queue.
    pub(super) fn holds(&self, one: &Queued) -> bool {
        let spared = self.spares && one.since < self.since;
        !spared && self.scope.covers(one.origin, &one.login)
    }
}

fn block(account: &Account, order: &Order, now: Time) -> Decision {
    if order.until.is_some_and(|until| until <= now) {
        return Decision::Refuse(Refusal::Ended);
    }
    let new = Block {
        order: order.id,
        scope: order.scope.clone(),
        by: order.by.clone(),
        reason: order.reason.clone(),
        liftable_by: order.liftable_by,
        cause: order.cause,
        since: if order.spares { order.at } else { now },
        until: order.until,
        spares: order.spares,
    };
    let Some(old) = &account.block else { return Decision::Block(new, order.cause.state()) };
    // A second block only adds to the first: it never makes it smaller, shorter or easier to lift.
    let both = Block {
        scope: old.scope.with(&new.scope),
        liftable_by: old.liftable_by.max(new.liftable_by),
        // Whoever blocks it on top holds what the first has let go on.
        spares: old.spares && new.spares,
        since: old.since,
        until: old.until.zip(new.until).map(|(old, new)| old.max(new)),
        reason: if new.reason.is_empty() { old.reason.clone() } else { new.reason.clone() },
        ..new
    };
    let state = account.state.max(order.cause.state());
    let cause = if state == account.state { old.cause } else { order.cause };
    let both = Block { cause, ..both };
    let same = both.scope == old.scope
        && both.spares == old.spares
        && both.liftable_by == old.liftable_by
        && both.until == old.until;
    if same && state == account.state {
        return Decision::Already(
            "it is blocked already, and a second block makes the first no smaller, shorter or easier to lift: unblock first",
        );
    }
    Decision::Block(both, state)
}

fn unblock(account: &Account, role: Role, drip: Option<u32>, held: bool) -> Decision {
    if account.block.is_none() && account.delay.is_some() {
        return match role {
            Role::Owner => Decision::Already("it is not blocked: it sends more than it may, and what waits is leaving"),
            _ => Decision::Unblock(account.state),
        };
    }
    if account.block.is_none() {
        // What leaves slowly may be told to leave at another pace, or at once; an owner's pace is not the owner's.
        let slow = account.drip.as_ref().filter(|old| held && drip != Some(old.per_hour));
        return match slow {
            Some(old) if role == Role::Owner && old.by.role() != Role::Owner => {
                Decision::Refuse(Refusal::OperatorsBlock)
            }
            Some(_) if role == Role::Owner => Decision::Already("it is not blocked, and what was held is leaving"),
            Some(_) => Decision::Unblock(account.state),
            None => Decision::Already("it is not blocked"),
        };
    }
    if let Some(why) = keeps(account, role) {
        return Decision::Refuse(why);
    }
    match account.state {
        ServiceState::Bounce => Decision::Unblock(ServiceState::Force),
        _ => Decision::Unblock(ServiceState::Ok),
    }
}

/// Why the account's block is not this one's to lift.
fn keeps(account: &Account, role: Role) -> Option<Refusal> {
    let block = account.block.as_ref().filter(|_| role == Role::Owner)?;
    match (account.state, block.liftable_by) {
        (ServiceState::Spam, _) => Some(Refusal::Spam),
        (_, LiftableBy::Operator) => Some(Refusal::OperatorsBlock),
        (_, LiftableBy::Owner) => None,
    }
}

/// Whoever may lift the block may release a part of what it holds; to delete a part lifts nothing.
fn part(account: &Account, action: Action, role: Role) -> Decision {
    match action {
        Action::Block => Decision::Refuse(Refusal::PartOfABlock),
        Action::Unblock => keeps(account, role).map_or(Decision::Part, Decision::Refuse),
        Action::Purge => Decision::Part,
    }
}

fn purge(account: &Account, role: Role, held: bool, now: Time) -> Decision {
    let Some(block) = &account.block else {
        return match held {
            true => Decision::Purge { lifts: false },
            false => Decision::Already("nothing of it is held"),
        };
    };
    let recent = |at: Time| now.secs_since(at) < OWNER_LIFTS_SPAM_SECS;
    let lifts = role != Role::Owner
        || (block.liftable_by == LiftableBy::Owner
            && (account.state != ServiceState::Spam || !account.owner_lifted.is_some_and(recent)));
    if lifts || held { Decision::Purge { lifts } } else { Decision::Already("nothing of it is held") }
}
