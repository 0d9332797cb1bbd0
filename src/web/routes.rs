//! Paths and their handlers. Each asks the backend on a thread of its own and shapes the answer.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, Extension, Json, Path, Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use serde::Deserialize;
use tokio::sync::Semaphore;

use super::api::{AccountAction, AccountsQuery, Answer, Backend, MetricsQuery, TraceQuery};
use super::once::Once;
use super::orders::{self, may_order};
use super::reply::{Failure, format, gzip, json, plain, secure, takes_gzip};
use super::{MAX_BODY, Peer, Settings, pages, rules};

/// Calls into the backend at a time: clients that go away must not pile up work behind them.
const CALLS: usize = 8;

type Reply = Result<Response<Body>, Failure>;

#[derive(Clone)]
pub(super) struct Shared {
    backend: Arc<dyn Backend>,
    pub(super) settings: Arc<Settings>,
    calls: Arc<Semaphore>,
}

impl Shared {
    pub fn new(backend: Arc<dyn Backend>, settings: Arc<Settings>) -> Shared {
        Shared { backend, settings, calls: Arc::new(Semaphore::new(CALLS)) }
    }

    /// Runs `work` where it may block.
    async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn Backend) -> T + Send + 'static,
    ) -> Result<T, Failure> {
        let gone = |_| Failure::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", "The agent is stopping.");
        let permit = Arc::clone(&self.calls).acquire_owned().await.map_err(gone)?;
        let backend = Arc::clone(&self.backend);
        tokio::task::spawn_blocking(move || {
            let answer = work(backend.as_ref());
            drop(permit);
            answer
        })
        .await
        .map_err(|error| {
            tracing::error!(%error, "answering a request failed");
            Failure::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal",
                "Answering the request failed; the agent's log says more.",
            )
        })
    }

    pub(super) async fn view<T>(&self, work: impl FnOnce(&dyn Backend) -> Answer<T> + Send + 'static) -> Reply
    where
        T: serde::Serialize + Send + 'static,
    {
        let view = self.call(work).await??;
        Ok(json(StatusCode::OK, &view))
    }
}

pub(super) fn router(shared: Shared) -> Router {
    let api = Router::new()
        .route("/status", get(status))
        .route("/accounts", get(accounts))
        .route("/accounts/{account}", get(account))
        .route("/accounts/{account}/history", get(history))
        .route("/accounts/{account}/errors", get(errors))
        .route("/accounts/{account}/verdicts", get(verdicts))
        .route("/accounts/{account}/action", post(action))
        .route("/verdicts", get(all_verdicts))
        .route("/trace", get(trace))
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn_with_state(shared.clone(), operators_only))
        // Judges by itself who may: also over TCP, with a token.
        .route("/accounts/{account}/select", post(orders::select))
        .route("/accounts/{account}/request", post(orders::request))
        .route("/enforcement", post(rules::enforcement))
        .route("/undo", post(rules::undo));
    Router::new()
        .route("/", get(landing))
        .route("/metrics", get(metrics))
        .route("/-/healthy", get(healthy))
        .route("/-/ready", get(ready))
        .route("/-/reload", post(reload).put(reload))
        .nest("/api/v1", api)
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(middleware::map_response(|mut response: Response<Body>| async move {
            secure(response.headers_mut());
            response
        }))
        .with_state(shared)
}

async fn unknown() -> Failure {
    Failure::new(StatusCode::NOT_FOUND, "not_found", "There is nothing at this path.")
}

async fn wrong_method() -> Failure {
    Failure::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        "This path does not take this method; the Allow header says which.",
    )
}

async fn operators_only(
    State(shared): State<Shared>,
    Extension(peer): Extension<Peer>,
    request: Request,
    next: Next,
) -> Response<Body> {
    let refused = match peer {
        _ if peer.is_operator(&shared.settings) => return next.run(request).await,
        Peer::Tcp(_) => "The API is served on the agent's unix socket only, for now.",
        Peer::Unix { .. } | Peer::Unknown => {
            "Only root, the agent's own user and the configured operator groups may use the API."
        }
    };
    Failure::new(StatusCode::FORBIDDEN, "forbidden", refused).into_response()
}

async fn landing(State(shared): State<Shared>) -> Reply {
    let view = shared.call(|backend| backend.glance()).await?;
    Ok(plain(StatusCode::OK, "text/html; charset=utf-8", pages::landing(&view)))
}

async fn metrics(State(shared): State<Shared>, Extension(peer): Extension<Peer>, headers: HeaderMap) -> Reply {
    let format = format(&headers);
    let agent = headers.get(header::USER_AGENT).map(|agent| String::from_utf8_lossy(agent.as_bytes()).into_owned());
    let address = match peer {
        Peer::Tcp(address) => address.ip().to_string(),
        Peer::Unix { uid, .. } => format!("uid {uid}"),
        Peer::Unknown => String::new(),
    };
    let agent: String = agent.unwrap_or_default().chars().take(128).collect();
    let query = MetricsQuery { format, scraper: format!("{address} {agent}") };
    let compress = takes_gzip(&headers);
    let (text, packed) = shared
        .call(move |backend| {
            let text = backend.metrics(&query);
            let packed = if compress { gzip(&text) } else { None };
            (text, packed)
        })
        .await?;
    let mut response = match packed {
        Some(packed) => {
            let mut response = plain(StatusCode::OK, format.content_type(), packed);
            response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            response
        }
        None => plain(StatusCode::OK, format.content_type(), text),
    };
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept, Accept-Encoding"));
    Ok(response)
}

async fn healthy(State(shared): State<Shared>) -> Reply {
    Ok(match shared.call(|backend| backend.healthy()).await? {
        true => text(StatusCode::OK, "healthy".to_owned()),
        false => text(StatusCode::SERVICE_UNAVAILABLE, "not healthy".to_owned()),
    })
}

async fn ready(State(shared): State<Shared>) -> Reply {
    Ok(match shared.call(|backend| backend.ready()).await? {
        Ok(gaps) => {
            let gaps: Vec<String> = gaps.iter().map(|gap| format!("\nnot in force: {gap}")).collect();
            text(StatusCode::OK, format!("ready{}", gaps.concat()))
        }
        Err(why) => text(StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}")),
    })
}

fn text(status: StatusCode, mut words: String) -> Response<Body> {
    words.push('\n');
    plain(status, "text/plain; charset=utf-8", words)
}

async fn reload(State(shared): State<Shared>, Extension(peer): Extension<Peer>, headers: HeaderMap) -> Reply {
    may_order(&shared.settings, peer, &headers, "reload")?;
    match shared.call(|backend| backend.reload()).await? {
        Ok(()) => Ok(text(StatusCode::OK, "reloaded".to_owned())),
        Err(why) => {
            let not_taken = "The configuration was not taken; the former one stands. ";
            let failure = Failure::from(why);
            Err(match failure.status {
                StatusCode::BAD_REQUEST => {
                    let wrong = format!("{not_taken}{}", failure.message.trim_end().replace('\n', "; "));
                    Failure::new(StatusCode::UNPROCESSABLE_ENTITY, "bad_configuration", wrong)
                }
                StatusCode::CONFLICT => Failure { message: format!("{not_taken}{}", failure.message), ..failure },
                _ => failure,
            })
        }
    }
}

async fn status(State(shared): State<Shared>) -> Reply {
    shared.view(|backend| backend.status()).await
}

async fn accounts(State(shared): State<Shared>, query: Result<Query<AccountsQuery>, QueryRejection>) -> Reply {
    let Query(query) = query.map_err(bad_query)?;
    shared.view(move |backend| backend.accounts(&query)).await
}

async fn account(State(shared): State<Shared>, name: Result<Path<String>, PathRejection>) -> Reply {
    let Path(name) = name.map_err(bad_path)?;
    shared.view(move |backend| backend.account(&name)).await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Days {
    days: Option<u32>,
}

async fn history(
    State(shared): State<Shared>,
    name: Result<Path<String>, PathRejection>,
    query: Result<Query<Days>, QueryRejection>,
) -> Reply {
    let (Path(name), Query(query)) = (name.map_err(bad_path)?, query.map_err(bad_query)?);
    let days = query.days.unwrap_or(30).clamp(1, 3_660);
    shared.view(move |backend| backend.history(&name, days)).await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Limit {
    limit: Option<u32>,
}

async fn errors(
    State(shared): State<Shared>,
    name: Result<Path<String>, PathRejection>,
    query: Result<Query<Limit>, QueryRejection>,
) -> Reply {
    let (Path(name), Query(query)) = (name.map_err(bad_path)?, query.map_err(bad_query)?);
    let limit = query.limit.unwrap_or(20).clamp(1, 10_000);
    shared.view(move |backend| backend.errors(&name, limit)).await
}

async fn verdicts(
    State(shared): State<Shared>,
    name: Result<Path<String>, PathRejection>,
    query: Result<Query<Limit>, QueryRejection>,
) -> Reply {
    let (Path(name), Query(query)) = (name.map_err(bad_path)?, query.map_err(bad_query)?);
    let limit = query.limit.unwrap_or(20).clamp(1, 1_000);
    shared.view(move |backend| backend.verdicts(Some(&name), limit)).await
}

async fn all_verdicts(State(shared): State<Shared>, query: Result<Query<Limit>, QueryRejection>) -> Reply {
    let Query(query) = query.map_err(bad_query)?;
    let limit = query.limit.unwrap_or(20).clamp(1, 1_000);
    shared.view(move |backend| backend.verdicts(None, limit)).await
}

async fn trace(State(shared): State<Shared>, query: Result<Query<TraceQuery>, QueryRejection>) -> Reply {
    let Query(query) = query.map_err(bad_query)?;
    shared.view(move |backend| backend.trace(&query)).await
}

async fn action(
    State(shared): State<Shared>,
    name: Result<Path<String>, PathRejection>,
    body: Result<Json<Once>, JsonRejection>,
) -> Reply {
    let Path(name) = name.map_err(bad_path)?;
    let action: AccountAction = orders::read(body, "change", |_| {
        "The change is {\"action\": \"rename\", \"to\": NAME}, {\"action\": \"close\"} or {\"action\": \"forget\"}."
            .to_owned()
    })?;
    shared.view(move |backend| backend.account_action(&name, &action)).await
}

fn bad_query(error: QueryRejection) -> Failure {
    Failure::new(StatusCode::BAD_REQUEST, "bad_request", error.body_text())
}

pub(super) fn bad_path(error: PathRejection) -> Failure {
    Failure::new(StatusCode::BAD_REQUEST, "bad_request", error.body_text())
}
