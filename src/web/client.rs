//! A small HTTP client for the agent's unix socket, used by the commands.
//!
//! One request per connection; it follows no redirects and reads at most 64 MiB.

use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;

const MOST: usize = 64 * 1024 * 1024;
const PATIENCE: Duration = Duration::from_secs(60);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens: views may read the store instead.
    #[error("connecting to the agent at {socket}: {source}; is `sendwarden run` active?")]
    NoAgent { socket: PathBuf, source: std::io::Error },
    #[error("connecting to the agent at {socket}: permission denied; run this as root or as the agent's user")]
    Denied { socket: PathBuf },
    /// The agent said no; its own words.
    #[error("{message}")]
    Refused { status: u16, code: String, message: String },
    #[error("asking the agent at {socket} for {path}: {why}")]
    Broken { socket: PathBuf, path: String, why: String },
}

/// `GET path`, for example `/api/v1/status`; `path` is already percent-encoded (see [`encode`]).
pub async fn get_json(socket: &Path, path: &str) -> Result<Value, ClientError> {
    request(socket, Method::GET, path, None).await
}

/// `POST path` with a JSON body.
pub async fn post_json(socket: &Path, path: &str, body: &Value) -> Result<Value, ClientError> {
    request(socket, Method::POST, path, Some(body)).await
}

/// Any text as one segment of a path or one value of a query.
pub fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

async fn request(socket: &Path, method: Method, path: &str, body: Option<&Value>) -> Result<Value, ClientError> {
    match tokio::time::timeout(PATIENCE, exchange(socket, method, path, body)).await {
        Ok(answer) => answer,
        Err(_) => Err(broken(socket, path, &format!("no answer within {} s", PATIENCE.as_secs()))),
    }
}

async fn exchange(socket: &Path, method: Method, path: &str, body: Option<&Value>) -> Result<Value, ClientError> {
    let fail = |error: &dyn std::fmt::Display| broken(socket, path, error);
    let stream = UnixStream::connect(socket).await.map_err(|source| match source.kind() {
        std::io::ErrorKind::PermissionDenied => ClientError::Denied { socket: socket.to_owned() },
        _ => ClientError::NoAgent { socket: socket.to_owned(), source },
    })?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| fail(&e))?;
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, "localhost")
        .header(header::ACCEPT, "application/json")
        .header(header::USER_AGENT, concat!("sendwarden/", env!("CARGO_PKG_VERSION")));
    if body.is_some() {
        request = request.header(header::CONTENT_TYPE, "application/json");
    }
    let bytes = body.map(Value::to_string).unwrap_or_default();
    let request = request.body(Full::new(Bytes::from(bytes))).map_err(|e| fail(&e))?;
    let talk = async {
        let response = sender.send_request(request).await.map_err(|e| fail(&e))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MOST).collect().await.map_err(|e| fail(&e))?;
        answer(status, &body.to_bytes())
            .map_err(|e| e.unwrap_or_else(|| fail(&format!("the answer ({status}) is not JSON"))))
    };
    tokio::pin!(talk, connection);
    // The connection has to be driven while the request is answered.
    tokio::select! {
        answer = &mut talk => answer,
        ended = &mut connection => match ended {
            Ok(()) => talk.await,
            Err(error) => Err(fail(&error)),
        },
    }
}

/// The JSON of an answer; `Err(None)` if it is none.
fn answer(status: StatusCode, body: &[u8]) -> Result<Value, Option<ClientError>> {
    let value: Option<Value> = serde_json::from_slice(body).ok();
    if status.is_success() {
        return match (value, std::str::from_utf8(body)) {
            (Some(value), _) => Ok(value),
            (None, Ok(text)) => Ok(Value::String(text.trim_end().to_owned())),
            (None, Err(_)) => Err(None),
        };
    }
    let error = value.as_ref().and_then(|value| value.get("error")).ok_or(None)?;
    let word = |key: &str| error.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    Err(Some(ClientError::Refused { status: status.as_u16(), code: word("code"), message: word("message") }))
}

fn broken(socket: &Path, path: &str, why: &dyn std::fmt::Display) -> ClientError {
    ClientError::Broken { socket: socket.to_owned(), path: path.to_owned(), why: why.to_string() }
}
