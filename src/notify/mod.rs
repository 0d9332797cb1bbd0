//! The letters: what others are told when something happens to an account.
//!
//! [`notice`] is the text of a notice and when there is one, [`sign`] its signature, [`hook`] whom it goes to, [`outbox`]
//! what waits, as it is kept in the store. All of that is pure. [`send`] is the edge: it alone speaks with the receivers.
//!
//! It adds nothing that a record of an order does not say, and never waits for a receiver in anybody's way.

pub mod hook;
pub mod notice;
pub mod outbox;
pub mod send;
pub mod sign;

pub use hook::{Hook, Secret, Target};
pub use notice::{Event, Happening, Moment, Notice};
pub use outbox::{Kept, Outbox, Parcel};
