//! What rules said of accounts, as it is shown: the figures, what they rest on, and what to do next.
//!
//! No address that mail was for is in here. Paths: `/api/v1/verdicts`, `/api/v1/accounts/{account}/verdicts`.

use serde::{Deserialize, Serialize};

/// Newest first.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct VerdictsView {
    pub verdicts: Vec<VerdictView>,
}

/// What a rule said of the account.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct VerdictView {
    pub account: String,
    /// Of the line that crossed the limit.
    pub time: String,
    pub rule: String,
    pub signal: String,
    /// Of `error_ratio` a percentage.
    pub observed: f64,
    pub limit: f64,
    /// In seconds; 0 where the signal has none.
    pub window: u32,
    /// `observe`, `notify` or `block`.
    pub action: String,
    /// What became of it: docs/rules.md.
    pub outcome: String,
    /// The same for people.
    pub text: String,
    pub scope: String,
    pub evidence: EvidenceView,
    /// What to do, in plain words.
    pub next: AdviceView,
    /// The block that it led to.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub order: String,
}

/// What a verdict rests on: the account's messages of its window. Each list is the largest first, and only its head.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct EvidenceView {
    /// `proven` or `claimed`: how it is known whose the mail is.
    pub attribution: String,
    /// `None`: not yet, and all below is empty.
    pub gathered: Option<String>,
    /// The window; without a beginning it is what was in the queue.
    pub from: Option<String>,
    pub to: Option<String>,
    pub messages: u64,
    /// Those that the log has named.
    pub recipients: u64,
    pub first: Option<MessageRef>,
    pub last: Option<MessageRef>,
    /// By messages, as claimed.
    pub scripts: Vec<ShareView>,
    pub script_count: u64,
    pub directories: Vec<ShareView>,
    /// Of the recipients: how many, and how many errors.
    pub domains: Vec<ShareView>,
    pub domain_count: u64,
    /// Of errors and refusals.
    pub classes: Vec<ShareView>,
    /// Client addresses, by messages.
    pub clients: Vec<ShareView>,
    /// Facts of single messages in the form of a log.
    pub lines: Vec<String>,
    /// What was left out.
    pub cut: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageRef {
    pub time: String,
    pub queue_id: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShareView {
    pub name: String,
    pub count: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub errors: u64,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// For the account's owner, and for whoever runs the server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdviceView {
    pub owner: WordsView,
    pub operator: WordsView,
}

/// The same in two languages.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WordsView {
    pub en: String,
    pub fr: String,
}
