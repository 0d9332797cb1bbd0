//! What the web asks of the rest of the house, and the shapes of its answers.
//!
//! [`Backend`] is implemented by `app`; the web never opens the store and never acts by itself.
//! Times are RFC 3339 in UTC, or seconds since the epoch where the name says so.

use serde::{Deserialize, Serialize};

use super::orders::{Caller, OrderRequest, OrderView, SelectRequest, SelectionView};
use super::rules::{EnforcementView, UndoRequest, UndoView};
use crate::metrics::Format;

pub use super::verdicts::{AdviceView, EvidenceView, MessageRef, ShareView, VerdictView, VerdictsView, WordsView};

/// A scrape as it came in.
#[derive(Debug, Clone)]
pub struct MetricsQuery {
    pub format: Format,
    /// Tells scrapers apart: address and User-Agent.
    pub scraper: String,
}

/// What a backend could not do, in words for the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BackendError {
    #[error("{0}")]
    NotFound(String),
    #[error("{0}")]
    BadRequest(String),
    /// The request contradicts the state of things, for example a name that is taken.
    #[error("{0}")]
    Conflict(String),
    /// The store does not answer; the client may try again.
    #[error("{0}")]
    Unavailable(String),
}

pub type Answer<T> = Result<T, BackendError>;

/// The rest of the house, as the web sees it. Calls may block for a while: the web makes them on threads of their own.
pub trait Backend: Send + Sync + 'static {
    /// The text of `/metrics` in the wanted format.
    fn metrics(&self, query: &MetricsQuery) -> String;
    /// The process does its work at all.
    fn healthy(&self) -> bool;
    /// Ready to be relied upon, and what all the same is not in force of a block; else the reason why not.
    fn ready(&self) -> Result<Vec<String>, String>;
    /// Reads the configuration again. It is in force then; else it is not, and why: `BadRequest` is what is wrong with it,
    /// one line each.
    fn reload(&self) -> Answer<()>;
    fn glance(&self) -> LandingView;
    fn status(&self) -> Answer<StatusView>;
    fn accounts(&self, query: &AccountsQuery) -> Answer<AccountsView>;
    fn account(&self, name: &str) -> Answer<AccountView>;
    fn history(&self, name: &str, days: u32) -> Answer<HistoryView>;
    fn errors(&self, name: &str, limit: u32) -> Answer<ErrorsView>;
    /// What rules said of an account, or of all.
    fn verdicts(&self, name: Option<&str>, limit: u32) -> Answer<VerdictsView>;
    fn trace(&self, query: &TraceQuery) -> Answer<TraceView>;
    fn order(&self, name: &str, order: &OrderRequest, caller: Caller) -> Answer<OrderView>;
    fn select(&self, name: &str, wanted: &SelectRequest) -> Answer<SelectionView>;
    fn account_action(&self, name: &str, action: &AccountAction) -> Answer<AccountActionView>;
    /// Whether rules may block.
    fn enforcement(&self, on: bool, caller: Caller) -> Answer<EnforcementView>;
    fn undo(&self, wanted: &UndoRequest, caller: Caller) -> Answer<UndoView>;
}

/// Figures of the landing page.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct LandingView {
    /// Name and value, as they are to be shown.
    pub figures: Vec<(String, String)>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccountsQuery {
    /// Part of a name.
    #[serde(default)]
    pub q: Option<String>,
    /// One of the columns of [`AccountView`]; default: `account`.
    #[serde(default)]
    pub sort: Option<String>,
    #[serde(default)]
    pub limit: Option<u32>,
    #[serde(default)]
    pub offset: Option<u32>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct AccountsView {
    pub accounts: Vec<AccountView>,
    /// All that match, also those not in this answer.
    pub total: u64,
}

/// The words of the contract; recipients all, but `messages`, `sent_today` (messages) and `deferred` (attempts).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct AccountView {
    pub account: String,
    /// What its mail is known by, where it was renamed: a unix user, a login, the accounts file's id. Commands take it as
    /// well as the name. Only where one account was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// `ok`, `force`, `ko`, `bounce`, `spam` or `purging`.
    pub state: String,
    pub sent: u64,
    pub sent_today: u64,
    /// Bounced and expired recipients.
    pub errors: u64,
    pub messages: u64,
    pub recipients: u64,
    pub bounced: u64,
    pub expired: u64,
    pub deleted: u64,
    pub unaccounted: u64,
    pub deferred: u64,
    pub queued: u64,
    pub held: u64,
    pub late_errors: u64,
    pub first_seen: Option<String>,
    pub last_seen: Option<String>,
    pub closed: bool,
    /// The block that stands.
    pub sanction: Option<SanctionView>,
    /// What of that block is not in force, and what to do; only where one account was asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_in_force: Vec<String>,
    /// Messages that the agent holds; `held` counts recipients, those of an administrator's holds included.
    pub held_messages: u64,
    /// Since when the oldest of them is held.
    #[serde(default)]
    pub held_since: Option<String>,
    /// Until when its second chance lasts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub force_until: Option<String>,
    /// What is held leaves slowly: messages an hour.
    #[serde(default)]
    pub drip: Option<u32>,
    /// It sends more than it may, and is slowed down: what is held leaves by itself.
    #[serde(default)]
    pub delay: Option<DelayView>,
    /// The last orders, newest first; only where one account was asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub orders: Vec<OrderLogView>,
    /// What rules said of it last, newest first; only where one account was asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub verdicts: Vec<VerdictView>,
}

/// Why an account is slowed down.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct DelayView {
    pub rule: String,
    pub scope: String,
    pub reason: String,
    pub since: String,
}

/// Why mail of an account is held, and who may change that.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SanctionView {
    pub order: String,
    pub scope: String,
    pub by: String,
    pub reason: String,
    /// `owner` or `operator`.
    pub liftable_by: String,
    pub since: String,
    pub until: Option<String>,
    /// The action that is being carried out.
    pub under_way: Option<String>,
}

/// One line of the order log.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct OrderLogView {
    pub time: String,
    pub order: String,
    pub action: String,
    pub scope: String,
    pub by: String,
    pub reason: String,
    pub outcome: String,
    pub details: String,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct HistoryView {
    pub account: String,
    pub points: Vec<HistoryPoint>,
}

/// One local day of the account.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct HistoryPoint {
    /// `YYYY-MM-DD`.
    pub day: String,
    pub messages: u64,
    pub recipients: u64,
    pub sent: u64,
    pub bounced: u64,
    pub expired: u64,
    pub deleted: u64,
    pub unaccounted: u64,
    pub deferred: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ErrorsView {
    pub account: String,
    pub errors: Vec<ErrorView>,
}

/// A recipient in error; texts are cleaned.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ErrorView {
    pub time: String,
    pub queue_id: String,
    pub sender: String,
    pub recipient: String,
    pub relay: String,
    pub outcome: String,
    pub late: bool,
    pub dsn: String,
    pub class: String,
    /// The address of this host that the receiver names: the refusal is about the host. Empty when it names none.
    pub own_address: String,
    pub reply: String,
    pub script: Option<ScriptView>,
}

/// Which script is said to have made a message: its own word, or that of its log or its process. Never proven.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ScriptView {
    /// A whole path or a file name; empty when only the directory is known.
    pub path: String,
    /// Line of the script, where it is known.
    pub line: Option<u32>,
    /// Working directory; empty when it is not known.
    pub directory: String,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TraceQuery {
    /// Queue id, Message-ID or recipient.
    pub q: String,
    /// RFC 3339 or a span such as `2h`; the backend reads it.
    #[serde(default)]
    pub since: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TraceView {
    pub legs: Vec<TraceLeg>,
    /// More was found than is shown.
    pub cut: bool,
    /// Why it was not looked up whom messages on hold are for: some may be meant, and not be shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_looked: Option<String>,
}

/// A message that the agent holds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct HeldView {
    pub since: String,
    /// `held`, `leaving` (it is being released) or `deleting`.
    pub stage: String,
    /// The account's.
    pub state: String,
    /// The block that stands for its account.
    pub block: Option<SanctionView>,
    /// What is held of the account leaves slowly: messages an hour.
    pub drip: Option<u32>,
    /// When it is deleted, if nobody releases it before.
    pub deleted_at: Option<String>,
}

/// The story of one queue id.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TraceLeg {
    pub host: String,
    pub instance: String,
    pub queue_id: String,
    pub parent: Option<String>,
    pub account: Option<String>,
    /// Why there is no account.
    pub unattributed: Option<String>,
    pub origin: String,
    pub basis: String,
    pub first: String,
    pub last: String,
    pub message_id: String,
    pub sender: String,
    pub login: String,
    pub uid: Option<u32>,
    pub client_address: String,
    pub size: u64,
    pub script: Option<ScriptView>,
    /// How it ended; `open` while it is in the queue, `held` while it is on hold there, whoever put it on hold.
    pub end: String,
    pub recipients: Vec<TraceRecipient>,
    pub recipients_cut: bool,
    /// The agent holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<HeldView>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TraceRecipient {
    pub recipient: String,
    pub relay: String,
    pub state: String,
    pub dsn: String,
    pub reply: String,
    pub attempts: u32,
    pub last: String,
    pub next: Option<String>,
}

/// The agent and its host.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct StatusView {
    pub version: String,
    pub host: String,
    pub started: String,
    pub ready: bool,
    /// Why it is not ready.
    #[serde(default)]
    pub waits_for: Option<String>,
    pub store_up: bool,
    pub accounts: u64,
    /// Accounts whose mail is held.
    pub held_accounts: u64,
    /// Accounts that send more than they may and are slowed down.
    #[serde(default)]
    pub delayed_accounts: u64,
    pub open_messages: u64,
    /// Why no message in the queue can be held or released right now.
    pub queue_trouble: Option<String>,
    /// What of a block is not in force, and what to do; looked at when there is an agent.
    pub not_in_force: Vec<String>,
    /// The rules that are to block, and why they do not; of a running agent.
    #[serde(default)]
    pub armed_rules: Vec<String>,
    #[serde(default)]
    pub rules_muted: Option<String>,
    /// Host incidents that stand, in words: what is due to them counts against no account.
    #[serde(default)]
    pub incidents: Vec<String>,
    pub sources: Vec<SourceView>,
    /// COUNTS of the whole host, and of what belongs to no account.
    pub totals: serde_json::Value,
    pub unattributed: serde_json::Value,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SourceView {
    pub name: String,
    pub lines: u64,
    /// On the disk, over all files that are still to be read.
    pub backlog_bytes: u64,
    /// Files that wait behind the one being read, and which that is when any do.
    pub backlog_files: u64,
    pub reading: Option<String>,
    pub last_event: Option<String>,
    /// Why it cannot be read right now.
    pub trouble: Option<String>,
}

/// `POST /api/v1/accounts/{account}/action`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "lowercase", deny_unknown_fields)]
pub enum AccountAction {
    Rename { to: String },
    Close {},
    Forget {},
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct AccountActionView {
    pub account: String,
    /// What was done, in one sentence.
    pub done: String,
}
