//! Orders that come over HTTP: who gives them, what they look like, and how they are answered.
//!
//! It hands an order over and never carries it out. Over the unix socket root and the agent's own user may give orders;
//! over TCP, whoever has the operator's token.

use axum::body::Body;
use axum::extract::rejection::{JsonRejection, PathRejection};
use axum::extract::{Extension, Json, Path, State};
use axum::http::{HeaderMap, Response, StatusCode, header};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::once::Once;
use super::reply::{Failure, same_secret};
use super::routes::{Shared, bad_path};
use super::{Peer, Settings};

/// `POST /api/v1/accounts/{account}/request`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OrderRequest {
    pub action: OrderAction,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Of a block: `script`, `all` or `login:LOGIN`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// Of a block: after how long it ends in an unblock, for example `24h`.
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    pub span: Option<String>,
    /// Of an unblock: what is held leaves oldest first, at so many messages an hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drip: Option<u32>,
    /// Of an unblock or a purge: only the messages of this list (`…/select`), and what stands goes on standing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selection: Option<String>,
}

/// `POST /api/v1/accounts/{account}/select`: which of the messages on hold; all that is said must be so.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SelectRequest {
    /// The script's path, or the end of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub script: Option<String>,
    /// The envelope sender; `<>` is the null sender.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender: Option<String>,
    /// A domain that any of the recipients is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipient_domain: Option<String>,
    /// On hold for at least so long, for example `2h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub older_than: Option<String>,
}

/// What was found; nothing has happened yet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SelectionView {
    pub account: String,
    /// Messages on hold that are meant, and all that are on hold.
    pub messages: u64,
    pub of: u64,
    pub oldest: Option<String>,
    /// Where a script was asked for: of how many of all it is known which one made them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub with_script: Option<u64>,
    /// The name of this list, for `…/request`; good for a quarter of an hour.
    pub selection: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum OrderAction {
    Block,
    Unblock,
    Purge,
}

/// Who gives an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    /// A user of this host.
    User { uid: u32 },
    /// Whoever has the operator's token.
    Token,
}

/// An order that is in the store, or was not needed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderView {
    pub account: String,
    /// The account's state now.
    pub state: String,
    pub order: String,
    /// `accepted` (its work has begun), `done` or `already`.
    pub outcome: String,
    /// In one sentence; what of a block is not in force follows, each in a line.
    pub done: String,
    /// What of a block is not in force, and what to do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_in_force: Vec<String>,
}

/// Browsers cannot be made to do this from another site: over TCP it needs a header with a secret.
pub(super) fn may_order(settings: &Settings, peer: Peer, headers: &HeaderMap, what: &str) -> Result<Caller, Failure> {
    if let Peer::Unix { uid, .. } = peer {
        return if uid == 0 || uid == settings.own_uid {
            Ok(Caller::User { uid })
        } else {
            let message = format!("Only root and the agent's own user may {what}; this is uid {uid}.");
            Err(Failure::new(StatusCode::FORBIDDEN, "forbidden", message))
        };
    }
    let Some(token) = settings.operator_token.as_deref() else {
        let message = format!("No operator token is configured: {what} over the unix socket, as root.");
        return Err(Failure::new(StatusCode::FORBIDDEN, "forbidden", message));
    };
    let guess = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.as_bytes().split_at_checked(7))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"bearer "))
        .map(|(_, guess)| guess);
    match guess {
        Some(guess) if same_secret(token.as_bytes(), guess) => Ok(Caller::Token),
        _ => {
            let message = format!("To {what} over TCP needs the operator token: Authorization: Bearer TOKEN.");
            Err(Failure::new(StatusCode::UNAUTHORIZED, "unauthorized", message))
        }
    }
}

const ORDER: [&str; 6] = ["action", "reason", "scope", "for", "drip", "selection"];
const SELECTION: [&str; 4] = ["script", "sender", "recipient_domain", "older_than"];

/// What was sent, or what is wrong with it in words that say what it should be.
pub(super) fn read<T: DeserializeOwned>(
    body: Result<Json<Once>, JsonRejection>,
    what: &str,
    wrong: impl FnOnce(&Value) -> String,
) -> Result<T, Failure> {
    let bad = |status, message: String| Failure::new(status, "bad_request", message);
    let Json(Once { value: body, twice }) = body.map_err(|error| match error {
        JsonRejection::MissingJsonContentType(_) => {
            bad(error.status(), format!("The {what} must be sent with Content-Type: application/json."))
        }
        JsonRejection::JsonSyntaxError(_) => bad(error.status(), format!("The {what} is not JSON.")),
        _ => bad(error.status(), format!("The {what} cannot be read: it is cut off or too long.")),
    })?;
    if let Some(key) = twice {
        let key = crate::mail::text::clean(key.as_bytes(), 80);
        let message = format!("The {what} has `{key}` twice, and which one is meant cannot be told: send it once.");
        return Err(bad(StatusCode::BAD_REQUEST, message));
    }
    if !body.is_object() {
        // A list would be read as the fields in their order.
        return Err(bad(StatusCode::UNPROCESSABLE_ENTITY, wrong(&body)));
    }
    serde_json::from_value(body.clone()).map_err(|_| bad(StatusCode::UNPROCESSABLE_ENTITY, wrong(&body)))
}

/// What is wrong with it.
fn wrong(body: &Value, what: &str, fields: &[&str]) -> String {
    let shown = |value: &Value| crate::mail::text::clean(value.to_string().as_bytes(), 80);
    let Some(given) = body.as_object() else {
        return format!("The {what} must be a JSON object such as {{\"{}\": …}}.", fields.first().unwrap_or(&""));
    };
    if let Some((other, _)) = given.iter().find(|(name, _)| !fields.contains(&name.as_str())) {
        let other = crate::mail::text::clean(other.as_bytes(), 80);
        return format!("The {what} has no field `{other}`; it may have {}.", fields.join(", "));
    }
    if fields.contains(&"action") {
        let named = given.get("action").map_or_else(|| "none".to_owned(), shown);
        let known: Vec<Value> =
            [OrderAction::Block, OrderAction::Unblock, OrderAction::Purge].iter().map(|one| json!(one)).collect();
        if !given.get("action").is_some_and(|action| known.contains(action)) {
            return format!("The action is \"BLOCK\", \"UNBLOCK\" or \"PURGE\"; this order has {named}.");
        }
    }
    let is_text = |name: &str| name != "drip";
    let odd = given.iter().find(|(name, value)| !value.is_null() && value.is_string() != is_text(name));
    match odd {
        Some((name, value)) if is_text(name) => format!("The field {name} is a text, not {}.", shown(value)),
        Some((name, value)) => format!("The field {name} is a number of messages an hour, not {}.", shown(value)),
        None => "The field drip is a number of messages an hour, from 1 on.".to_owned(),
    }
}

pub(super) async fn request(
    State(shared): State<Shared>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    name: Result<Path<String>, PathRejection>,
    body: Result<Json<Once>, JsonRejection>,
) -> Result<Response<Body>, Failure> {
    let caller = may_order(&shared.settings, peer, &headers, "give orders for accounts")?;
    let Path(name) = name.map_err(bad_path)?;
    let order: OrderRequest = read(body, "order", |body| wrong(body, "order", &ORDER))?;
    shared.view(move |backend| backend.order(&name, &order, caller)).await
}

pub(super) async fn select(
    State(shared): State<Shared>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    name: Result<Path<String>, PathRejection>,
    body: Result<Json<Once>, JsonRejection>,
) -> Result<Response<Body>, Failure> {
    may_order(&shared.settings, peer, &headers, "look at what is held")?;
    let Path(name) = name.map_err(bad_path)?;
    let wanted: SelectRequest = read(body, "selection", |body| wrong(body, "selection", &SELECTION))?;
    shared.view(move |backend| backend.select(&name, &wanted)).await
}
