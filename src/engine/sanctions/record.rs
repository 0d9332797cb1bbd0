//! The order log: what was ordered, and what came of it.

use crate::mail::{Action, Actor, OrderId, Owner, Scope, Time};

/// How an order ended, or how far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Outcome {
    Accepted,
    Already,
    Refused,
    Done,
    /// It stands, but not everything could be tried on the machine: that is tried again.
    Incomplete,
    /// It is as it was before.
    Failed,
    /// Nothing was ordered: what is held comes to its end.
    Warned,
    /// Nothing was ordered: more of a blocked account came than may be held.
    Overflowed,
}

impl Outcome {
    pub const fn name(self) -> &'static str {
        match self {
            Outcome::Accepted => "accepted",
            Outcome::Already => "already",
            Outcome::Refused => "refused",
            Outcome::Done => "done",
            Outcome::Incomplete => "incomplete",
            Outcome::Failed => "failed",
            Outcome::Warned => "warned",
            Outcome::Overflowed => "overflowed",
        }
    }
}

/// One line of the order log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub at: Time,
    pub owner: Owner,
    pub order: OrderId,
    pub action: Action,
    /// Of a block.
    pub scope: Option<Scope>,
    pub by: Actor,
    pub reason: String,
    pub outcome: Outcome,
    pub details: String,
}
