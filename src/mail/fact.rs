//! Facts: what the engine concluded. Store, metrics and letters are projections of facts.

use super::{Basis, Dsn, Origin, Owner, QueueId, ScriptClaim, Server, Time};
use std::fmt;
use std::net::IpAddr;

/// How a recipient ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    Sent,
    Bounced,
    Expired,
    Deleted,
    Unaccounted,
}

impl Outcome {
    pub const ALL: [Outcome; 5] =
        [Outcome::Sent, Outcome::Bounced, Outcome::Expired, Outcome::Deleted, Outcome::Unaccounted];

    pub const fn name(self) -> &'static str {
        match self {
            Outcome::Sent => "sent",
            Outcome::Bounced => "bounced",
            Outcome::Expired => "expired",
            Outcome::Deleted => "deleted",
            Outcome::Unaccounted => "unaccounted",
        }
    }

    pub const fn code(self) -> u8 {
        match self {
            Outcome::Sent => 0,
            Outcome::Bounced => 1,
            Outcome::Expired => 2,
            Outcome::Deleted => 3,
            Outcome::Unaccounted => 4,
        }
    }

    pub fn from_code(code: u8) -> Option<Outcome> {
        Outcome::ALL.get(code as usize).copied()
    }
}

/// Why a receiver said no, in classes people understand. A closed set: it is a metric label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ReplyClass {
    UnknownRecipient,
    MailboxFull,
    MailboxDisabled,
    Spam,
    Blocklisted,
    RateLimited,
    Greylisted,
    AuthFailed,
    Policy,
    TooLarge,
    Content,
    Dns,
    Connection,
    Timeout,
    Tls,
    Loop,
    LocalError,
    Other,
}

impl ReplyClass {
    pub const ALL: [ReplyClass; 18] = [
        ReplyClass::UnknownRecipient,
        ReplyClass::MailboxFull,
        ReplyClass::MailboxDisabled,
        ReplyClass::Spam,
        ReplyClass::Blocklisted,
        ReplyClass::RateLimited,
        ReplyClass::Greylisted,
        ReplyClass::AuthFailed,
        ReplyClass::Policy,
        ReplyClass::TooLarge,
        ReplyClass::Content,
        ReplyClass::Dns,
        ReplyClass::Connection,
        ReplyClass::Timeout,
        ReplyClass::Tls,
        ReplyClass::Loop,
        ReplyClass::LocalError,
        ReplyClass::Other,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            ReplyClass::UnknownRecipient => "unknown_recipient",
            ReplyClass::MailboxFull => "mailbox_full",
            ReplyClass::MailboxDisabled => "mailbox_disabled",
            ReplyClass::Spam => "spam",
            ReplyClass::Blocklisted => "blocklisted",
            ReplyClass::RateLimited => "rate_limited",
            ReplyClass::Greylisted => "greylisted",
            ReplyClass::AuthFailed => "auth_failed",
            ReplyClass::Policy => "policy",
            ReplyClass::TooLarge => "too_large",
            ReplyClass::Content => "content",
            ReplyClass::Dns => "dns",
            ReplyClass::Connection => "connection",
            ReplyClass::Timeout => "timeout",
            ReplyClass::Tls => "tls",
            ReplyClass::Loop => "loop",
            ReplyClass::LocalError => "local_error",
            ReplyClass::Other => "other",
        }
    }

    pub fn from_name(name: &str) -> Option<ReplyClass> {
        ReplyClass::ALL.iter().copied().find(|class| class.name() == name)
    }
}

/// One conclusion. Facts borrow from the event and from the tracker's state; a sink keeps what it needs.
#[derive(Debug, Clone, Copy)]
pub enum Fact<'a> {
    /// A message was accepted into the queue (`messages` + 1). `login`: raw bytes of the log, empty where there is none.
    Message { at: Time, server: Server, id: &'a QueueId, owner: Owner, origin: Origin, basis: Basis, login: &'a [u8] },
    /// `n` recipients were booked: `recipients` and `queued` grow.
    Recipients { at: Time, owner: Owner, n: u32 },
    /// `n` booked recipients ended: `queued` shrinks, the outcome grows.
    Settled { at: Time, server: Server, owner: Owner, outcome: Outcome, n: u32 },
    /// `n` queued recipients came under hold (positive) or left it (negative).
    Hold { at: Time, owner: Owner, n: i32 },
    /// An attempt was put off (`deferred` + 1).
    Deferral { at: Time, server: Server, owner: Owner },
    /// One delivery attempt, for figures of the host. `class` is set for deferred and bounced ones;
    /// `code` is the SMTP reply code found in the reply, 0 when there is none; `own_address` is the address of this host
    /// that a receiver's refusal names.
    Attempt {
        at: Time,
        server: Server,
        status: super::Status,
        local: bool,
        dsn: Dsn,
        code: u16,
        class: Option<ReplyClass>,
        own_address: Option<IpAddr>,
        delay_ms: u64,
    },
    /// A recipient ended in error (also late, after `sent`): the material of error reports.
    Error(ErrorFact<'a>),
    /// A queue id left the tracker: its whole story, for the message index.
    Leg(LegFact<'a>),
    /// A login attempt failed.
    LoginFailed { at: Time },
}

/// A recipient in error. Text fields are raw log bytes.
#[derive(Debug, Clone, Copy)]
pub struct ErrorFact<'a> {
    pub at: Time,
    pub owner: Owner,
    pub outcome: Outcome,
    /// The failure was reported after the recipient had been counted as sent.
    pub late: bool,
    pub id: QueueId,
    pub sender: &'a [u8],
    pub recipient: &'a [u8],
    pub relay: &'a [u8],
    pub dsn: Dsn,
    pub class: ReplyClass,
    /// The address of this host that the receiver names: its refusal is about the host, not about the account.
    pub own_address: Option<IpAddr>,
    pub reply: &'a [u8],
    /// Which script is said to have made the message.
    pub script: Option<&'a ScriptClaim>,
}

/// The story of one queue id. Text fields are raw log bytes.
#[derive(Debug, Clone, Copy)]
pub struct LegFact<'a> {
    pub host: &'a [u8],
    pub instance: &'a [u8],
    pub id: QueueId,
    pub owner: Owner,
    pub origin: Origin,
    pub basis: Basis,
    pub first: Time,
    pub last: Time,
    pub message_id: &'a [u8],
    pub sender: &'a [u8],
    pub login: &'a [u8],
    /// -1 when not submitted by a local user.
    pub uid: i64,
    pub client_address: &'a [u8],
    pub size: u64,
    /// The queue id this one continues (hop, requeue, forward), when known.
    pub parent: Option<QueueId>,
    pub recipients: &'a [RecipientTrace],
    /// More recipients existed than are kept in `recipients`.
    pub recipients_cut: bool,
    /// Which script is said to have made the message.
    pub script: Option<&'a ScriptClaim>,
    /// How the queue id ended, in one word: removed, deleted, requeued, rejected, discarded, cancelled, lost; open or held while it
    /// has not.
    pub end: &'static str,
}

/// What became of one recipient under one queue id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecipientTrace {
    pub texts: TraceTexts,
    pub dsn: Dsn,
    pub state: RecipientState,
    pub attempts: u32,
    pub last: Time,
    /// The queue id this recipient went on as.
    pub next: Option<Box<QueueId>>,
}

/// Address, relay and reply, in one piece of memory: hundreds of thousands are kept.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct TraceTexts {
    bytes: Box<[u8]>,
    /// Where the relay begins, and the reply.
    relay: u32,
    reply: u32,
}

impl TraceTexts {
    pub fn new(address: &[u8], relay: &[u8], reply: &[u8]) -> TraceTexts {
        let end = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        TraceTexts {
            bytes: [address, relay, reply].concat().into(),
            relay: end(address.len()),
            reply: end(address.len() + relay.len()),
        }
    }

    pub fn address(&self) -> &[u8] {
        self.bytes.get(..self.relay as usize).unwrap_or(&[])
    }

    pub fn relay(&self) -> &[u8] {
        self.bytes.get(self.relay as usize..self.reply as usize).unwrap_or(&[])
    }

    pub fn reply(&self) -> &[u8] {
        self.bytes.get(self.reply as usize..).unwrap_or(&[])
    }
}

impl fmt::Debug for TraceTexts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TraceTexts").field(&self.address()).field(&self.relay()).field(&self.reply()).finish()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RecipientState {
    Deferred,
    Ended(Outcome),
    /// Went on under another queue id.
    Handed,
    /// Accepted; no attempt so far.
    Queued,
    /// An alias or a list: what came of it are recipients of their own.
    Expanded,
}

impl RecipientState {
    pub const fn name(self) -> &'static str {
        match self {
            RecipientState::Deferred => "deferred",
            RecipientState::Ended(outcome) => outcome.name(),
            RecipientState::Handed => "handed",
            RecipientState::Queued => "queued",
            RecipientState::Expanded => "expanded",
        }
    }

    /// For rows of the store.
    pub const fn code(self) -> u8 {
        match self {
            RecipientState::Deferred => 0,
            RecipientState::Handed => 1,
            RecipientState::Ended(outcome) => 2 + outcome.code(),
            RecipientState::Queued => 7,
            RecipientState::Expanded => 8,
        }
    }

    pub fn from_code(code: u8) -> Option<RecipientState> {
        Some(match code {
            0 => RecipientState::Deferred,
            1 => RecipientState::Handed,
            7 => RecipientState::Queued,
            8 => RecipientState::Expanded,
            code => RecipientState::Ended(Outcome::from_code(code.checked_sub(2)?)?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_a_trace_come_back_as_they_were() {
        for (address, relay, reply) in [("a@b.test", "mx", "250 ok"), ("", "mx", ""), ("a", "", "r"), ("", "", "")] {
            let texts = TraceTexts::new(address.as_bytes(), relay.as_bytes(), reply.as_bytes());
            let parts = [texts.address(), texts.relay(), texts.reply()];
            assert_eq!(parts, [address, relay, reply].map(str::as_bytes));
        }
        assert_ne!(TraceTexts::new(b"ab", b"", b""), TraceTexts::new(b"a", b"b", b""));
    }
}
