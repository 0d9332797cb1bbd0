//! Answers: JSON errors, security headers, and what a client says it accepts.

use std::io::Write;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use axum::response::IntoResponse;
use serde::Serialize;

use super::api::BackendError;
use crate::metrics::Format;

/// Pages load nothing from anywhere; their one style element is inline.
const POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Headers of every answer.
pub(super) fn secure(headers: &mut HeaderMap) {
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

/// `{"error":{"code","message"}}` with its status.
#[derive(Debug)]
pub(super) struct Failure {
    pub status: StatusCode,
    pub code: &'static str,
    pub message: String,
}

impl Failure {
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Failure {
        Failure { status, code, message: message.into() }
    }
}

impl From<BackendError> for Failure {
    fn from(error: BackendError) -> Failure {
        let (status, code) = match &error {
            BackendError::NotFound(_) => (StatusCode::NOT_FOUND, "not_found"),
            BackendError::BadRequest(_) => (StatusCode::BAD_REQUEST, "bad_request"),
            BackendError::Conflict(_) => (StatusCode::CONFLICT, "conflict"),
            BackendError::Unavailable(_) => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
        };
        Failure::new(status, code, error.to_string())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response<Body> {
        json(self.status, &serde_json::json!({"error": {"code": self.code, "message": self.message}}))
    }
}

/// A JSON answer with a newline at its end, for people with curl.
pub(super) fn json<T: Serialize>(status: StatusCode, value: &T) -> Response<Body> {
    match serde_json::to_string(value) {
        Ok(mut text) => {
            text.push('\n');
            plain(status, "application/json; charset=utf-8", text)
        }
        Err(error) => plain(
            StatusCode::INTERNAL_SERVER_ERROR,
            "application/json; charset=utf-8",
            format!(
                "{{\"error\":{{\"code\":\"internal\",\"message\":\"writing the answer as JSON: {}\"}}}}\n",
                error.to_string().replace(['"', '\\'], "'")
            ),
        ),
    }
}

pub(super) fn plain(status: StatusCode, content_type: &'static str, body: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// The exposition format for an `Accept` header: OpenMetrics 1.0 if it is asked for by name and liked at least as
/// much as plain text, else the text format, which every scraper reads (also those that ask for something else).
pub(super) fn format(headers: &HeaderMap) -> Format {
    let mut open = 0;
    let mut text = 0;
    for (name, parameters, quality) in preferences(headers, &header::ACCEPT) {
        match name.as_str() {
            "application/openmetrics-text" => {
                // Only 1.0 is written here; no version given means the client takes what there is.
                let version = parameters.iter().find_map(|p| p.strip_prefix("version="));
                if version.is_none_or(|v| matches!(v.trim_matches('"'), "1.0.0" | "0.0.1")) {
                    open = open.max(quality);
                }
            }
            "text/plain" => text = text.max(quality),
            _ => {}
        }
    }
    if open > 0 && open >= text { Format::OpenMetrics100 } else { Format::Text004 }
}

pub(super) fn takes_gzip(headers: &HeaderMap) -> bool {
    let mut gzip = None;
    let mut any = None;
    for (name, _, quality) in preferences(headers, &header::ACCEPT_ENCODING) {
        match name.as_str() {
            "gzip" | "x-gzip" => gzip = Some(quality),
            "*" => any = Some(quality),
            _ => {}
        }
    }
    gzip.or(any).unwrap_or(0) > 0
}

/// Elements of a list header with their parameters and quality in thousandths; a quality that cannot be read is 0.
fn preferences(headers: &HeaderMap, name: &HeaderName) -> Vec<(String, Vec<String>, u32)> {
    let mut found = Vec::new();
    for value in headers.get_all(name).iter().filter_map(|value| value.to_str().ok()) {
        for element in value.split(',').take(32) {
            let mut parts = element.split(';').map(|part| part.trim().to_ascii_lowercase());
            let name = parts.next().unwrap_or_default();
            let mut quality = 1_000;
            let mut parameters = Vec::new();
            for part in parts {
                match part.strip_prefix("q=") {
                    Some(q) => {
                        let q: f64 = q.trim().parse().unwrap_or(0.0);
                        quality = if (0.0..=1.0).contains(&q) { (q * 1_000.0) as u32 } else { 0 };
                    }
                    None => parameters.push(part),
                }
            }
            found.push((name, parameters, quality));
        }
    }
    found
}

/// The text compressed; `None` if that fails, which memory alone could cause.
pub(super) fn gzip(text: &str) -> Option<Vec<u8>> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::with_capacity(text.len() / 8), flate2::Compression::fast());
    encoder.write_all(text.as_bytes()).ok()?;
    encoder.finish().ok()
}

/// Compares secrets in a time that depends on the length of the guess only.
pub(super) fn same_secret(secret: &[u8], guess: &[u8]) -> bool {
    let mut difference = u8::from(secret.len() != guess.len()) | u8::from(secret.is_empty());
    for (at, byte) in guess.iter().enumerate() {
        difference |= byte ^ secret.get(at).copied().unwrap_or(0);
    }
    std::hint::black_box(difference) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accept(value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_str(value).unwrap());
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_str(value).unwrap());
        headers
    }

    #[test]
    fn formats_are_negotiated() {
        for (value, openmetrics) in [
            // Prometheus 2.42, Prometheus 3, a browser, curl, and odd ones.
            (
                "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                true,
            ),
            (
                "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
                true,
            ),
            ("text/html,application/xhtml+xml,*/*;q=0.8", false),
            ("*/*", false),
            ("application/openmetrics-text;q=0", false),
            ("application/openmetrics-text;q=0.3, text/plain;q=0.9", false),
            ("application/openmetrics-text; version=2.0.0, text/plain", false),
            ("application/openmetrics-text;q=abc", false),
            ("APPLICATION/OpenMetrics-Text; q=1.0", true),
            ("application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited", false),
            (",;,;q=,", false),
        ] {
            assert_eq!(format(&accept(value)) == Format::OpenMetrics100, openmetrics, "{value}");
        }
        assert_eq!(format(&HeaderMap::new()), Format::Text004);
    }

    #[test]
    fn gzip_is_negotiated() {
        for (value, wanted) in [("gzip", true), ("gzip;q=0", false), ("*", true), ("gzip;q=0, *", false), ("br", false)]
        {
            assert_eq!(takes_gzip(&accept(value)), wanted, "{value}");
        }
    }

    #[test]
    fn secrets() {
        assert!(same_secret(b"abc", b"abc"));
        for guess in [&b""[..], b"ab", b"abcd", b"abd"] {
            assert!(!same_secret(b"abc", guess));
        }
        assert!(!same_secret(b"", b""), "no secret lets nobody in");
    }
}
