//! The words of the house: what mail, accounts and events are. Pure data; no room knows less.
//!
//! Everything here is used by every other room, so it depends on none of them.
//! It never reads a clock, a file or a socket.

pub mod account;
pub mod address;
pub mod counts;
pub mod dsn;
pub mod event;
pub mod fact;
pub mod gate;
pub mod handed;
pub mod order;
pub mod queue;
pub mod script;
pub mod server;
pub mod step;
pub mod text;
pub mod time;
pub mod verdict;

pub use account::{Basis, Evidence, Origin, Owner, Unattributed};
pub use address::{AddressList, EndedList};
pub use counts::Counts;
pub use dsn::Dsn;
pub use event::{
    Accepted, Attempt, End, Event, Head, Holder, Kind, Next, Notice, Ruling, Status, Submitter, Sweep, Thrown,
};
pub use fact::{ErrorFact, Fact, LegFact, Outcome, RecipientState, RecipientTrace, ReplyClass, TraceTexts};
pub use gate::{Candidate, Judgement, Way};
pub use handed::HandedBy;
pub use order::{
    Action, Actor, Cause, Envelope, LiftableBy, Order, OrderId, Place, Report, Role, Scope, ServiceState, Verb, Work,
};
pub use queue::QueueId;
pub use script::{Script, ScriptClaim, ScriptSource};
pub use server::Server;
pub use step::{Run, Step, Talk};
pub use time::Time;
pub use verdict::{Measure, Signal, Verdict};
