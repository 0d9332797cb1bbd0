//! A notice: what became of an order, as JSON, and its id.
//!
//! The text is made once, when the order takes effect; tries and restarts send the same bytes.

use crate::engine::sanctions::{Outcome, Record};
use crate::mail::{Action, OrderId, Owner, Time};
use jiff::Timestamp;
use serde::Serialize;

/// What a notice tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Event {
    /// A block stands from now on, or more of it than before.
    Blocked,
    /// It stands no more.
    Unblocked,
    /// A part of what is held was told to leave, and the block stands.
    Released,
    /// What was held is deleted; `state` says whether the block went with it.
    Purged,
    /// An order could not be carried out, or not all of it.
    Failed,
    /// What is held comes to its end.
    Warned,
    /// More of a blocked account came than may be held.
    Overflowed,
    /// A rule has spoken that does more than observe, and it blocks nobody.
    Verdict,
    /// Something fails for many accounts, or is over: it is about none of them.
    HostIncident,
    /// Half of a quota is used, or nine tenths.
    Quota,
}

impl Event {
    pub const ALL: [Event; 10] = [
        Event::Blocked,
        Event::Unblocked,
        Event::Released,
        Event::Purged,
        Event::Failed,
        Event::Warned,
        Event::Overflowed,
        Event::Verdict,
        Event::HostIncident,
        Event::Quota,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Event::Blocked => "blocked",
            Event::Unblocked => "unblocked",
            Event::Released => "released",
            Event::Purged => "purged",
            Event::Failed => "failed",
            Event::Warned => "warned",
            Event::Overflowed => "overflowed",
            Event::Verdict => "verdict",
            Event::HostIncident => "host_incident",
            Event::Quota => "quota",
        }
    }
}

/// When in the life of an order its record was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// It was taken, or refused.
    Ordered,
    /// Its work came back.
    Settled,
}

/// What is to be told of a record, if anything: each order once, when it takes effect. A purge does at its end, all others
/// when they are taken. `blocked`: a block of the account stands after it.
pub fn event_of(record: &Record, moment: Moment, blocked: bool) -> Option<Event> {
    // What nobody ordered has no id that would tell one from the next: a step of a slow release, a mend.
    if record.order == OrderId::default() {
        return None;
    }
    match (record.outcome, moment, record.action) {
        (Outcome::Warned, _, _) => Some(Event::Warned),
        (Outcome::Overflowed, _, _) => Some(Event::Overflowed),
        (Outcome::Accepted | Outcome::Done, Moment::Ordered, Action::Block) => Some(Event::Blocked),
        (Outcome::Accepted | Outcome::Done, Moment::Ordered, Action::Unblock) if blocked => Some(Event::Released),
        (Outcome::Accepted | Outcome::Done, Moment::Ordered, Action::Unblock) => Some(Event::Unblocked),
        (Outcome::Done, _, Action::Purge) => Some(Event::Purged),
        (Outcome::Incomplete | Outcome::Failed, Moment::Settled, _) => Some(Event::Failed),
        _ => None,
    }
}

/// Something that happened to an account, before it is known who wants to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Happening {
    pub event: Event,
    /// The same for good, so that a receiver can drop doubles.
    pub id: String,
    pub owner: Owner,
    pub at: Time,
    pub by: String,
    pub reason: String,
    pub details: String,
}

impl Happening {
    /// What a record tells, as of [`event_of`].
    pub fn of(record: &Record, moment: Moment, blocked: bool) -> Option<Happening> {
        let event = event_of(record, moment, blocked)?;
        Some(Happening {
            event,
            id: format!("{}-{}", record.order, event.name()),
            owner: record.owner,
            at: record.at,
            by: record.by.to_string(),
            reason: record.reason.clone(),
            details: record.details.clone(),
        })
    }
}

/// One notice. The order of the fields is the order in the text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Notice<'a> {
    pub id: &'a str,
    #[serde(serialize_with = "stamp")]
    pub time: Time,
    /// The mail server's host.
    pub host: &'a str,
    #[serde(serialize_with = "name")]
    pub event: Event,
    pub account: &'a str,
    /// The account's service state after it.
    pub state: &'a str,
    /// Who ordered it.
    pub by: &'a str,
    pub reason: &'a str,
    /// Of a block.
    pub scope: Option<&'a str>,
    /// When a block ends by itself.
    #[serde(serialize_with = "maybe_stamp")]
    pub until: Option<Time>,
    pub details: &'a str,
}

impl Notice<'_> {
    /// The bytes that are signed and sent.
    pub fn body(&self) -> Vec<u8> {
        // Strings, a name and numbers: nothing of it can fail to be written.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

fn shown(at: Time) -> String {
    Timestamp::from_second(at.secs()).map_or_else(|_| at.secs().to_string(), |stamp| stamp.to_string())
}

fn stamp<S: serde::Serializer>(at: &Time, out: S) -> Result<S::Ok, S::Error> {
    out.serialize_str(&shown(*at))
}

fn maybe_stamp<S: serde::Serializer>(at: &Option<Time>, out: S) -> Result<S::Ok, S::Error> {
    match at {
        Some(at) => stamp(at, out),
        None => out.serialize_none(),
    }
}

fn name<S: serde::Serializer>(event: &Event, out: S) -> Result<S::Ok, S::Error> {
    out.serialize_str(event.name())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::{Actor, Scope};

    fn record(action: Action, outcome: Outcome) -> Record {
        Record {
            at: Time::from_secs(1_700_000_000),
            owner: Owner(20),
            order: OrderId { micros: 9, chance: 7 },
            action,
            scope: Some(Scope::All),
            by: Actor::Agent,
            reason: String::new(),
            outcome,
            details: String::new(),
        }
    }

    #[test]
    fn a_body_is_what_the_manual_says() {
        let mut notice = Notice {
            id: "000000000000062a0000000000000007-blocked",
            time: Time(1_700_000_000_999_999),
            host: "mx1.hosting.test",
            event: Event::Blocked,
            account: "web1",
            state: "ko",
            by: "root",
            reason: "says \"x\"\u{fffd}",
            scope: Some("login:a@b.test"),
            until: Some(Time::from_secs(1_700_003_600)),
            details: "2 messages to put on hold",
        };
        let text = |notice: &Notice<'_>| String::from_utf8(notice.body()).unwrap();
        assert_eq!(
            text(&notice),
            "{\"id\":\"000000000000062a0000000000000007-blocked\",\"time\":\"2023-11-14T22:13:20Z\",\
             \"host\":\"mx1.hosting.test\",\"event\":\"blocked\",\"account\":\"web1\",\"state\":\"ko\",\"by\":\"root\",\
             \"reason\":\"says \\\"x\\\"\u{fffd}\",\"scope\":\"login:a@b.test\",\"until\":\"2023-11-14T23:13:20Z\",\
             \"details\":\"2 messages to put on hold\"}"
        );
        (notice.scope, notice.until) = (None, None);
        assert!(text(&notice).contains("\"scope\":null,\"until\":null,"));
    }

    #[test]
    fn each_order_is_told_once_when_it_takes_effect() {
        use {Action as A, Event as E, Moment as M, Outcome as O};
        for (action, outcome, moment, blocked, told) in [
            (A::Block, O::Accepted, M::Ordered, true, Some(E::Blocked)),
            (A::Block, O::Done, M::Ordered, true, Some(E::Blocked)),
            (A::Block, O::Done, M::Settled, true, None),
            (A::Block, O::Incomplete, M::Settled, true, Some(E::Failed)),
            (A::Block, O::Overflowed, M::Ordered, true, Some(E::Overflowed)),
            (A::Unblock, O::Accepted, M::Ordered, false, Some(E::Unblocked)),
            (A::Unblock, O::Done, M::Ordered, false, Some(E::Unblocked)),
            (A::Unblock, O::Accepted, M::Ordered, true, Some(E::Released)),
            (A::Unblock, O::Done, M::Settled, false, None),
            (A::Unblock, O::Incomplete, M::Settled, false, Some(E::Failed)),
            (A::Purge, O::Accepted, M::Ordered, true, None),
            (A::Purge, O::Done, M::Ordered, false, Some(E::Purged)),
            (A::Purge, O::Done, M::Settled, false, Some(E::Purged)),
            (A::Purge, O::Failed, M::Settled, true, Some(E::Failed)),
            (A::Purge, O::Warned, M::Ordered, true, Some(E::Warned)),
        ] {
            assert_eq!(event_of(&record(action, outcome), moment, blocked), told, "{action:?} {outcome:?} {moment:?}");
        }
        for action in Action::ALL {
            for outcome in [Outcome::Already, Outcome::Refused] {
                assert_eq!(event_of(&record(action, outcome), Moment::Ordered, true), None, "{action:?} {outcome:?}");
            }
        }
        let told = Happening::of(&record(A::Block, O::Accepted), M::Ordered, true).unwrap();
        assert_eq!((told.id.as_str(), told.event), ("00000000000000090000000000000007-blocked", E::Blocked));
        assert_eq!((told.owner, told.at, told.by.as_str()), (Owner(20), Time::from_secs(1_700_000_000), "sendwarden"));
        let nobodys = Record { order: OrderId::default(), ..record(Action::Unblock, Outcome::Incomplete) };
        assert_eq!(event_of(&nobodys, Moment::Settled, false), None);
    }

    #[test]
    fn names_are_told_apart() {
        let names: std::collections::BTreeSet<&str> = Event::ALL.iter().map(|event| event.name()).collect();
        assert_eq!(names.len(), Event::ALL.len());
    }
}
