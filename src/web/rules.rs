//! What people say to the rules over HTTP: that they may block or not, and that what one of them did is taken back.

use axum::body::Body;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Extension, Json, State};
use axum::http::{HeaderMap, Response};
use serde::{Deserialize, Serialize};

use super::Peer;
use super::once::Once;
use super::orders::{may_order, read};
use super::reply::Failure;
use super::routes::Shared;

/// `POST /api/v1/enforcement`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnforcementRequest {
    pub on: bool,
}

/// What rules may do now.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnforcementView {
    pub on: bool,
    /// In one sentence.
    pub done: String,
}

/// `POST /api/v1/undo`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UndoRequest {
    pub rule: String,
    /// RFC 3339, or a time before now such as `2h`.
    pub since: String,
    /// Only say what would be done.
    #[serde(default)]
    pub dry_run: bool,
}

/// The accounts that the rule has blocked since then, and what became of each.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UndoView {
    pub rule: String,
    pub since: String,
    pub accounts: Vec<UndoneView>,
    /// In one sentence.
    pub done: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UndoneView {
    pub account: String,
    /// When it was blocked, and why.
    pub blocked: String,
    pub reason: String,
    /// Messages that the agent holds.
    pub held: u64,
    /// `would_unblock`, or what became of the unblock: as of an order.
    pub outcome: String,
    pub details: String,
}

pub(super) async fn enforcement(
    State(shared): State<Shared>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Result<Json<Once>, JsonRejection>,
) -> Result<Response<Body>, Failure> {
    let caller = may_order(&shared.settings, peer, &headers, "say what rules may do")?;
    let wanted: EnforcementRequest =
        read(body, "change", |_| "The change is {\"on\": true} or {\"on\": false}.".to_owned())?;
    shared.view(move |backend| backend.enforcement(wanted.on, caller)).await
}

pub(super) async fn undo(
    State(shared): State<Shared>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Result<Json<Once>, JsonRejection>,
) -> Result<Response<Body>, Failure> {
    let caller = may_order(&shared.settings, peer, &headers, "take back what a rule did")?;
    let wanted: UndoRequest = read(body, "request", |_| {
        "The request is {\"rule\": NAME, \"since\": TIME}, with \"dry_run\": true to be told only; TIME is such as 2h, or \
         2026-11-28T05:00:00Z."
            .to_owned()
    })?;
    shared.view(move |backend| backend.undo(&wanted, caller)).await
}
