//! One try: a connection, a `POST`, the status of the answer.
//!
//! Follows no redirect, keeps no connection, reads the head of an answer up to a limit and nothing of its body. Whom a TLS
//! receiver is vouched for by is this host's choice (its certificate authorities). What it says of a failure names neither path nor
//! secret.

use super::super::hook::Target;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use std::fmt::Display;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};

/// Most of an answer that is read: its head.
const MOST: usize = 16 * 1024;

/// How a TLS connection is made.
pub type Connector = Result<TlsConnector, String>;

/// The certificate authorities of this host.
#[derive(Debug, Default)]
pub struct Roots {
    pub certs: Vec<CertificateDer<'static>>,
    /// Why there are none, or not all.
    pub trouble: Option<String>,
}

/// Reads them, from where OpenSSL would (`SSL_CERT_FILE` and `SSL_CERT_DIR` count).
pub fn roots() -> Roots {
    let found = rustls_native_certs::load_native_certs();
    Roots { certs: found.certs, trouble: found.errors.first().map(ToString::to_string) }
}

pub(super) fn connector(authorities: Vec<CertificateDer<'static>>) -> Arc<Connector> {
    let mut roots = RootCertStore::empty();
    let (taken, _) = roots.add_parsable_certificates(authorities);
    if taken == 0 {
        let why = "this host knows no certificate authority: install ca-certificates, then restart the agent";
        return Arc::new(Err(why.to_owned()));
    }
    let provider = Arc::new(crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map(|config| config.with_root_certificates(roots).with_no_client_auth());
    Arc::new(config.map(|config| TlsConnector::from(Arc::new(config))).map_err(|why| format!("TLS: {why}")))
}

/// What is sent.
pub(super) struct Message<'a> {
    pub id: &'a str,
    pub timestamp: i64,
    pub signature: Option<String>,
    pub body: &'a [u8],
}

/// What came of a try.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Taken,
    /// The receiver has read it, and another try would tell it nothing else.
    Refused(StatusCode),
    Failed(String),
}

pub(super) async fn post(target: &Target, tls: Option<&Connector>, message: Message<'_>) -> Verdict {
    match exchange(target, tls, message).await {
        Ok(status) => judge(status),
        Err(why) => Verdict::Failed(why),
    }
}

/// Statuses that speak of the notice; all others speak of the receiver, and may be others tomorrow.
fn judge(status: StatusCode) -> Verdict {
    match status.as_u16() {
        200..300 => Verdict::Taken,
        300..400 => Verdict::Failed(format!(
            "the receiver redirects ({status}), which is not followed: configure the address that it should be"
        )),
        400 | 409 | 410 | 413 | 415 | 422 => Verdict::Refused(status),
        _ => Verdict::Failed(format!("the receiver answers {status}")),
    }
}

async fn exchange(target: &Target, tls: Option<&Connector>, message: Message<'_>) -> Result<StatusCode, String> {
    let request = request(target, message)?;
    let stream = TcpStream::connect((target.host(), target.port)).await.map_err(|why| fail("cannot connect", &why))?;
    match tls {
        None => talk(stream, request).await,
        Some(connector) => {
            let connector = connector.as_ref().map_err(Clone::clone)?;
            let name = ServerName::try_from(target.host().to_owned()).map_err(|why| fail("TLS", &why))?;
            let stream = connector.connect(name, stream).await.map_err(|why| fail("TLS", &why))?;
            talk(stream, request).await
        }
    }
}

fn request(target: &Target, message: Message<'_>) -> Result<Request<Full<Bytes>>, String> {
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(target.path())
        .header(header::HOST, target.authority())
        .header(header::USER_AGENT, concat!("sendwarden/", env!("CARGO_PKG_VERSION")))
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::CONNECTION, "close")
        .header("Sendwarden-Id", message.id)
        .header("Sendwarden-Timestamp", message.timestamp);
    if let Some(signature) = message.signature {
        request = request.header("Sendwarden-Signature", signature);
    }
    request.body(Full::new(Bytes::copy_from_slice(message.body))).map_err(|why| fail("cannot make the request", &why))
}

async fn talk(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
) -> Result<StatusCode, String> {
    let broken = |why: hyper::Error| fail("the answer", &why);
    let mut builder = hyper::client::conn::http1::Builder::new();
    let (mut sender, connection) = builder.max_buf_size(MOST).handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let answer = sender.send_request(request);
    tokio::pin!(answer, connection);
    // The connection has to be driven while the request is answered.
    let response = tokio::select! {
        response = &mut answer => response,
        ended = &mut connection => match ended {
            Ok(()) => answer.await,
            Err(why) => Err(why),
        },
    };
    Ok(response.map_err(broken)?.status())
}

fn fail(what: &str, why: &dyn Display) -> String {
    format!("{what}: {why}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_speaks_of_the_notice_is_final() {
        let judged = |status: u16| judge(StatusCode::from_u16(status).unwrap());
        for status in [200, 202, 204, 299] {
            assert_eq!(judged(status), Verdict::Taken, "{status}");
        }
        for status in [400, 409, 410, 413, 415, 422] {
            assert!(matches!(judged(status), Verdict::Refused(_)), "{status}");
        }
        for status in [301, 302, 307, 308, 401, 403, 404, 408, 425, 429, 500, 502, 503, 504] {
            assert!(matches!(judged(status), Verdict::Failed(_)), "{status}");
        }
    }

    #[test]
    fn a_request_has_what_the_manual_says() {
        let target = Target::parse("https://Hooks.test:8443/T0/x?y=1").unwrap();
        let signature = Some("v1=00".to_owned());
        let request = request(&target, Message { id: "1-blocked", timestamp: 17, signature, body: b"{}" }).unwrap();
        assert_eq!((request.method(), request.uri().to_string().as_str()), (&Method::POST, "/T0/x?y=1"));
        let header = |name: &str| request.headers().get(name).map(|value| value.to_str().unwrap());
        assert_eq!(header("host"), Some("Hooks.test:8443"));
        assert_eq!(header("content-type"), Some("application/json"));
        assert_eq!(header("sendwarden-id"), Some("1-blocked"));
        assert_eq!(header("sendwarden-timestamp"), Some("17"));
        assert_eq!(header("sendwarden-signature"), Some("v1=00"));
    }

    #[test]
    fn without_authorities_no_receiver_is_believed() {
        let why = connector(Vec::new()).as_ref().as_ref().err().cloned().unwrap();
        assert!(why.contains("ca-certificates"), "{why}");
    }
}
