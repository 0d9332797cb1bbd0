//! What one turn of the agent's loop changed, collected to be written at once.
//!
//! Plain data that can be cleared and used again. It never touches the disk.

use std::net::IpAddr;

use serde::Serialize;

use super::chunk::IndexBuffer;
use super::record::ScriptRecord;
use super::rows::Rows;
use crate::mail::{Counts, Dsn, ErrorFact, LegFact, Owner, QueueId, Time, text};

/// One write-set. The parts may be in any order; of several entries for one key the last one stands
/// (history entries add up).
#[derive(Debug, Default)]
pub struct Batch {
    /// Changed state of other rooms, as they encode it.
    pub rows: Rows,
    /// Source name and its position, as `host` encodes it.
    pub positions: Vec<(String, Vec<u8>)>,
    /// New or changed accounts.
    pub accounts: Vec<AccountRow>,
    /// Owner and its figures since first seen: absolute values, not differences.
    pub totals: Vec<(u32, Counts)>,
    /// What to add to the history.
    pub history: Vec<HistoryRow>,
    /// Recipients in error, in the order of the log.
    pub errors: Vec<ErrorRow>,
    /// The order log: what was ordered, and what came of it.
    pub audit: Vec<AuditRow>,
    /// What rules said, in the order of the log.
    pub verdicts: Vec<VerdictRow>,
    /// What a verdict of an earlier batch rests on, by its number.
    pub evidence: Vec<(i64, String)>,
    pub(super) index: IndexBuffer,
}

/// One line of the order log. Texts are clean and capped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AuditRow {
    #[serde(serialize_with = "super::record::secs")]
    pub at: Time,
    pub owner: u32,
    /// The order's id: one order has several lines.
    pub order: String,
    pub action: String,
    /// Empty for all but blocks.
    pub scope: String,
    pub by: String,
    pub reason: String,
    pub outcome: String,
    pub details: String,
}

/// What a rule said of an account, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VerdictRow {
    /// Log time of the line that crossed the limit.
    #[serde(serialize_with = "super::record::secs")]
    pub at: Time,
    pub owner: u32,
    pub rule: String,
    pub signal: String,
    /// In the unit of the signal (of a ratio: tenths of a percent), as the limit.
    pub observed: u64,
    pub limit: u64,
    /// In seconds; 0 where the signal has none.
    pub window: u32,
    /// `observe`, `notify` or `block`.
    pub action: String,
    pub outcome: String,
    pub scope: String,
    /// Whose the mail is was proven, not claimed.
    pub proven: bool,
    /// Of the block that it led to, else empty.
    pub order: String,
}

/// An account as it is kept. Names may recur: a recycled name is another account, with another owner number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AccountRow {
    /// 16 or more (`mail::Owner`).
    pub owner: u32,
    pub name: String,
    pub uid: Option<u32>,
    pub home: Option<String>,
    /// Serialised as whole seconds since the epoch.
    #[serde(serialize_with = "super::record::secs")]
    pub first_seen: Time,
    /// When it was closed; a closed account stays. Serialised as whole seconds since the epoch.
    #[serde(serialize_with = "super::record::maybe_secs")]
    pub closed: Option<Time>,
}

/// What one owner did in one hour, to be added to that hour and that day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistoryRow {
    pub owner: u32,
    /// UTC hours since the epoch.
    pub hour: i64,
    /// The owner's local date, as days since the epoch.
    pub day: i32,
    pub counts: HistoryCounts,
}

/// Figures of an hour or a day. All count recipients, but for `messages`, and `deferred`, which counts attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct HistoryCounts {
    pub messages: u64,
    pub recipients: u64,
    pub sent: u64,
    pub bounced: u64,
    pub expired: u64,
    pub deleted: u64,
    pub unaccounted: u64,
    pub deferred: u64,
    pub late_errors: u64,
}

impl HistoryCounts {
    pub fn add(&mut self, more: &HistoryCounts) {
        self.messages += more.messages;
        self.recipients += more.recipients;
        self.sent += more.sent;
        self.bounced += more.bounced;
        self.expired += more.expired;
        self.deleted += more.deleted;
        self.unaccounted += more.unaccounted;
        self.deferred += more.deferred;
        self.late_errors += more.late_errors;
    }
}

/// A recipient in error, with clean and capped texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorRow {
    pub at: Time,
    pub owner: u32,
    /// `mail::Outcome::name`.
    pub outcome: &'static str,
    pub late: bool,
    pub id: QueueId,
    pub sender: String,
    pub recipient: String,
    pub relay: String,
    pub dsn: Dsn,
    /// `mail::ReplyClass::name`.
    pub class: &'static str,
    /// The address of this host that the receiver names.
    pub own_address: Option<IpAddr>,
    pub reply: String,
    pub script: Option<ScriptRecord>,
}

/// Longest address kept: 64 + 1 + 255 (RFC 5321 4.5.3.1).
pub(super) const MAX_ADDRESS: usize = 320;
pub(super) const MAX_RELAY: usize = 256;
/// Longest reply kept with an error.
const MAX_REPLY: usize = 1_024;

impl From<&ErrorFact<'_>> for ErrorRow {
    fn from(fact: &ErrorFact<'_>) -> ErrorRow {
        ErrorRow {
            at: fact.at,
            owner: fact.owner.0,
            outcome: fact.outcome.name(),
            late: fact.late,
            id: fact.id,
            sender: text::clean(fact.sender, MAX_ADDRESS),
            recipient: text::clean(fact.recipient, MAX_ADDRESS),
            relay: text::clean(fact.relay, MAX_RELAY),
            dsn: fact.dsn,
            class: fact.class.name(),
            own_address: fact.own_address,
            reply: text::clean(fact.reply, MAX_REPLY),
            script: fact.script.map(ScriptRecord::from),
        }
    }
}

impl Batch {
    /// Keeps an error, its texts cleaned and capped.
    pub fn push_error(&mut self, fact: &ErrorFact<'_>) {
        self.errors.push(ErrorRow::from(fact));
    }

    /// Keeps the story of a queue id for the message index. Cheap: the record is appended to a byte buffer.
    pub fn push_leg(&mut self, fact: &LegFact<'_>) {
        self.index.push(fact);
    }

    /// Adds to the history of an owner.
    pub fn push_history(&mut self, owner: Owner, hour: i64, day: i32, counts: HistoryCounts) {
        self.history.push(HistoryRow { owner: owner.0, hour, day, counts });
    }

    /// Records of the message index collected so far.
    pub fn legs(&self) -> usize {
        self.index.records()
    }

    /// Nothing to write.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
            && self.positions.is_empty()
            && self.accounts.is_empty()
            && self.totals.is_empty()
            && self.history.is_empty()
            && self.errors.is_empty()
            && self.audit.is_empty()
            && self.verdicts.is_empty()
            && self.evidence.is_empty()
            && self.index.records() == 0
    }

    /// Empties it, keeping its memory for the next turn; not what a backlog of many accounts took.
    pub fn clear(&mut self) {
        self.positions.clear();
        self.rows.clear();
        clear(&mut self.accounts);
        clear(&mut self.totals);
        clear(&mut self.history);
        clear(&mut self.errors);
        clear(&mut self.audit);
        clear(&mut self.verdicts);
        clear(&mut self.evidence);
        self.index.clear();
    }
}

/// Entries of each part for which memory is kept: a usual turn has fewer.
const KEPT: usize = 4_096;

fn clear<T>(part: &mut Vec<T>) {
    part.clear();
    part.shrink_to(KEPT);
}
