//! The window as clients see it: over real sockets on loopback and in a temporary directory.

use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::watch;

use super::api::*;
use super::client::{ClientError, encode, get_json, post_json};
use super::*;
use crate::metrics::Format;

#[derive(Default)]
struct Fake {
    reloads: AtomicUsize,
}

impl Backend for Fake {
    fn metrics(&self, query: &MetricsQuery) -> String {
        format!("# {:?} {}\n# EOF\n", query.format, query.scraper)
    }
    fn healthy(&self) -> bool {
        true
    }
    fn ready(&self) -> Result<Vec<String>, String> {
        Err("the store is being checked".into())
    }
    fn reload(&self) -> Answer<()> {
        match self.reloads.fetch_add(1, Ordering::SeqCst) {
            0 => Ok(()),
            1 => Err(BackendError::BadRequest("line 3: no such key\nline 4: nor this".into())),
            2 => Err(BackendError::Conflict("shop is held".into())),
            _ => Err(BackendError::Unavailable("the disk is full".into())),
        }
    }
    fn glance(&self) -> LandingView {
        LandingView { figures: vec![("messages".into(), "7".into())] }
    }
    fn status(&self) -> Answer<StatusView> {
        Err(BackendError::Unavailable("the store is locked".into()))
    }
    fn accounts(&self, query: &AccountsQuery) -> Answer<AccountsView> {
        Ok(AccountsView { accounts: vec![], total: u64::from(query.limit.unwrap_or(1)) })
    }
    fn account(&self, name: &str) -> Answer<AccountView> {
        match name {
            "nobody" => Err(BackendError::NotFound("no account is called nobody".into())),
            "panic" => panic!("a fault in the backend"),
            _ => Ok(AccountView { account: name.into(), state: "ok".into(), ..AccountView::default() }),
        }
    }
    fn history(&self, name: &str, days: u32) -> Answer<HistoryView> {
        let points = vec![HistoryPoint { messages: u64::from(days), ..HistoryPoint::default() }];
        Ok(HistoryView { account: name.into(), points })
    }
    fn errors(&self, name: &str, _: u32) -> Answer<ErrorsView> {
        Ok(ErrorsView { account: name.into(), errors: vec![] })
    }
    fn verdicts(&self, name: Option<&str>, limit: u32) -> Answer<VerdictsView> {
        let of = VerdictView { account: name.unwrap_or("all").into(), window: limit, ..VerdictView::default() };
        Ok(VerdictsView { verdicts: vec![of] })
    }
    fn trace(&self, query: &TraceQuery) -> Answer<TraceView> {
        Ok(TraceView {
            legs: vec![TraceLeg { queue_id: query.q.clone(), ..TraceLeg::default() }],
            ..TraceView::default()
        })
    }
    fn order(&self, name: &str, order: &OrderRequest, caller: Caller) -> Answer<OrderView> {
        let said = format!("{:?} {:?} {:?} {caller:?}", order.action, order.scope, order.span);
        Ok(OrderView { account: name.into(), done: said, ..OrderView::default() })
    }
    fn select(&self, name: &str, wanted: &SelectRequest) -> Answer<SelectionView> {
        Ok(SelectionView { account: name.into(), selection: format!("{wanted:?}"), ..SelectionView::default() })
    }
    fn account_action(&self, name: &str, action: &AccountAction) -> Answer<AccountActionView> {
        Ok(AccountActionView { account: name.into(), done: format!("{action:?}") })
    }
    fn enforcement(&self, on: bool, caller: Caller) -> Answer<EnforcementView> {
        Ok(EnforcementView { on, done: format!("{caller:?}") })
    }
    fn undo(&self, wanted: &UndoRequest, caller: Caller) -> Answer<UndoView> {
        Ok(UndoView { done: format!("{wanted:?} {caller:?}"), ..UndoView::default() })
    }
}

struct Window {
    address: SocketAddr,
    socket: PathBuf,
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
    _directory: tempfile::TempDir,
}

async fn open(change: impl FnOnce(&mut Settings)) -> Window {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("agent.sock");
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = tcp.local_addr().unwrap();
    let unix = UnixListener::bind(&socket).unwrap();
    let mut settings = Settings {
        operator_token: Some("s3cret".into()),
        own_uid: rustix::process::getuid().as_raw(),
        ..Settings::default()
    };
    change(&mut settings);
    let (stop, stopped) = watch::channel(false);
    let listeners = Listeners { tcp: vec![tcp], unix: Some(unix) };
    let task = tokio::spawn(serve(listeners, Arc::new(Fake::default()), settings, stopped));
    Window { address, socket, stop, task, _directory: directory }
}

/// Head and body of the answer to one request.
async fn ask(stream: impl AsyncReadExt + AsyncWriteExt, request: &str) -> (String, Vec<u8>) {
    tokio::pin!(stream);
    let request =
        request.replace("HTTP/1.1\n", "HTTP/1.1\nHost: localhost\nConnection: close\n").replace('\n', "\r\n") + "\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let at = answer.windows(4).position(|w| w == b"\r\n\r\n").expect("a whole head");
    let body = answer.split_off(at + 4);
    (String::from_utf8(answer).unwrap().to_ascii_lowercase(), body)
}

async fn tcp(window: &Window, request: &str) -> (String, Vec<u8>) {
    ask(TcpStream::connect(window.address).await.unwrap(), request).await
}

async fn unix(socket: &Path, request: &str) -> (String, Vec<u8>) {
    ask(UnixStream::connect(socket).await.unwrap(), request).await
}

fn status(head: &str) -> u16 {
    head.split(' ').nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn pages_health_and_headers() {
    let window = open(|_| {}).await;
    let (head, body) = tcp(&window, "GET / HTTP/1.1\n").await;
    assert_eq!(status(&head), 200);
    assert!(head.contains("x-content-type-options: nosniff") && head.contains("default-src 'none'"), "{head}");
    assert!(String::from_utf8(body).unwrap().contains("<dt>messages</dt><dd>7</dd>"));
    assert_eq!(status(&tcp(&window, "GET /-/healthy HTTP/1.1\n").await.0), 200);
    let (head, body) = tcp(&window, "GET /-/ready HTTP/1.1\n").await;
    assert_eq!((status(&head), body), (503, b"not ready: the store is being checked\n".to_vec()));
    let (head, body) = tcp(&window, "HEAD /metrics HTTP/1.1\n").await;
    assert_eq!((status(&head), body.len()), (200, 0));
    for (request, code) in [
        ("GET /nothing HTTP/1.1\n", 404),
        ("POST /metrics HTTP/1.1\n", 405),
        ("GET /-/reload HTTP/1.1\n", 405),
        ("GET /api/v1/nothing HTTP/1.1\n", 403),
    ] {
        let (head, body) = tcp(&window, request).await;
        assert_eq!(status(&head), code, "{request}");
        assert!(serde_json::from_slice::<Value>(&body).unwrap()["error"]["message"].is_string());
    }
}

#[tokio::test]
async fn metrics_are_negotiated_and_packed() {
    let window = open(|_| {}).await;
    let (head, body) = tcp(&window, "GET /metrics HTTP/1.1\nUser-Agent: Prometheus/2\n").await;
    assert!(head.contains(Format::Text004.content_type()), "{head}");
    assert!(String::from_utf8(body).unwrap().starts_with("# Text004 127.0.0.1 Prometheus/2\n"));
    let (head, body) = tcp(
        &window,
        "GET /metrics HTTP/1.1\nAccept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5\nAccept-Encoding: gzip\n",
    )
    .await;
    assert!(head.contains(Format::OpenMetrics100.content_type()) && head.contains("content-encoding: gzip"), "{head}");
    let mut text = String::new();
    flate2::read::GzDecoder::new(body.as_slice()).read_to_string(&mut text).unwrap();
    assert!(text.ends_with("# EOF\n"));
}

#[tokio::test]
async fn reload_needs_the_token_over_tcp() {
    let window = open(|_| {}).await;
    for (authorization, code) in [
        ("", 401),
        ("Authorization: Bearer wrong\n", 401),
        ("Authorization: Basic s3cret\n", 401),
        ("Authorization: Bearer s3cret\n", 200),
        ("Authorization: bearer s3cret\n", 422),
    ] {
        let request = format!("POST /-/reload HTTP/1.1\nContent-Length: 0\n{authorization}");
        assert_eq!(status(&tcp(&window, &request).await.0), code, "{authorization}");
    }
    let request = "POST /-/reload HTTP/1.1\nContent-Length: 0\n";
    for (code, word, said) in [
        (409, "conflict", "The configuration was not taken; the former one stands. shop is held"),
        (503, "unavailable", "the disk is full"),
    ] {
        let (head, body) = unix(&window.socket, request).await;
        let answer: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((status(&head), &answer["error"]), (code, &json!({"code": word, "message": said})));
    }
    let closed = open(|settings| settings.operator_token = None).await;
    let request = "PUT /-/reload HTTP/1.1\nContent-Length: 0\nAuthorization: Bearer \n";
    assert_eq!(status(&tcp(&closed, request).await.0), 403);
    assert_eq!(status(&unix(&closed.socket, "PUT /-/reload HTTP/1.1\nContent-Length: 0\n").await.0), 200);
}

#[tokio::test]
async fn the_api_is_for_operators_on_the_unix_socket() {
    let window = open(|_| {}).await;
    let socket = window.socket.as_path();
    let (head, body) = tcp(&window, "GET /api/v1/accounts HTTP/1.1\n").await;
    assert_eq!(status(&head), 403);
    assert!(String::from_utf8(body).unwrap().contains("unix socket"));

    let view = get_json(socket, "/api/v1/accounts?limit=9").await.unwrap();
    assert_eq!(view, json!({"accounts": [], "total": 9}));
    let name = "a/b c%é?#";
    let view = get_json(socket, &format!("/api/v1/accounts/{}", encode(name))).await.unwrap();
    assert_eq!((view["account"].as_str(), view["state"].as_str()), (Some(name), Some("ok")));
    let view = get_json(socket, "/api/v1/accounts/a/history?days=0").await.unwrap();
    assert_eq!(view["points"][0]["messages"], 1);
    let view = get_json(socket, &format!("/api/v1/trace?q={}", encode("<x@y>"))).await.unwrap();
    assert_eq!(view["legs"][0]["queue_id"], "<x@y>");
    for (path, account, limit) in [("/api/v1/verdicts?limit=7", "all", 7), ("/api/v1/accounts/a/verdicts", "a", 20)] {
        let view = get_json(socket, path).await.unwrap();
        assert_eq!((&view["verdicts"][0]["account"], &view["verdicts"][0]["window"]), (&account.into(), &limit.into()));
    }
    let done = post_json(socket, "/api/v1/accounts/a/action", &json!({"action": "rename", "to": "b"})).await.unwrap();
    assert_eq!(done["done"], "Rename { to: \"b\" }");
    let ready = get_json(socket, "/-/healthy").await.unwrap();
    assert_eq!(ready, "healthy");

    let big = "x".repeat(MAX_BODY + 1);
    for (result, code) in [
        (get_json(socket, "/api/v1/accounts/nobody").await, 404),
        (get_json(socket, "/api/v1/accounts/panic").await, 500),
        (get_json(socket, "/api/v1/accounts?limit=x").await, 400),
        // A key that would have no effect.
        (get_json(socket, "/api/v1/accounts?sent_today=1").await, 400),
        (get_json(socket, "/api/v1/accounts/a/errors?sent_today=1").await, 400),
        (get_json(socket, "/api/v1/accounts/%ff").await, 400),
        (get_json(socket, "/api/v1/trace").await, 400),
        (get_json(socket, "/api/v1/nothing").await, 404),
        (get_json(socket, "/api/v1/status").await, 503),
        (post_json(socket, "/api/v1/accounts", &json!({})).await, 405),
        (post_json(socket, "/api/v1/accounts/a/action", &json!({"action": "explode"})).await, 422),
        (post_json(socket, "/api/v1/accounts/a/action", &json!({"action": "rename", "to": big})).await, 413),
    ] {
        match result {
            Err(ClientError::Refused { status, message, .. }) => assert_eq!(status, code, "{message}"),
            other => panic!("{code}: {other:?}"),
        }
    }
    assert!(matches!(get_json(Path::new("/nonexistent/s"), "/").await, Err(ClientError::NoAgent { .. })));
}

#[test]
fn operators_are_root_the_agent_and_listed_groups() {
    let settings = Settings { own_uid: 990, operator_groups: vec![50], ..Settings::default() };
    for (peer, operator) in [
        (Peer::Unix { uid: 0, gid: 0 }, true),
        (Peer::Unix { uid: 990, gid: 990 }, true),
        (Peer::Unix { uid: 1000, gid: 50 }, true),
        (Peer::Unix { uid: 1000, gid: 1000 }, false),
        (Peer::Unknown, false),
        (Peer::Tcp(SocketAddr::from(([127, 0, 0, 1], 1))), false),
    ] {
        assert_eq!(peer.is_operator(&settings), operator, "{peer:?}");
    }
}

/// The last one would count, and whoever looked at the first would have passed another order.
#[tokio::test]
async fn a_key_that_is_there_twice_is_refused() {
    let window = open(|_| {}).await;
    for (path, body, code) in [
        ("request", r#"{"action": "BLOCK", "scope": "all"}"#, 200),
        ("request", r#"{"action": "UNBLOCK", "scope": "all", "action": "BLOCK"}"#, 400),
        ("request", r#"{"action": "BLOCK", "action": "BLOCK"}"#, 400),
        ("select", r#"{"sender": "<>", "sender": "a@b.test"}"#, 400),
        ("action", r#"{"action": "close", "action": "forget"}"#, 400),
    ] {
        let head = "Content-Type: application/json\nContent-Length";
        // With the end of line that comes behind it.
        let length = body.len() + 2;
        let request = format!("POST /api/v1/accounts/a/{path} HTTP/1.1\n{head}: {length}\n\n{body}");
        let (head, answer) = unix(&window.socket, &request).await;
        let answer = String::from_utf8(answer).unwrap();
        assert_eq!(status(&head), code, "{body}: {answer}");
        assert!(code == 200 || answer.contains("twice") && answer.contains("bad_request"), "{answer}");
    }
}

#[tokio::test]
async fn slow_clients_are_cut_and_never_shut_others_out() {
    let window = open(|settings| {
        settings.max_connections = 2;
        settings.header_timeout = Duration::from_millis(200);
        settings.request_timeout = Duration::from_millis(300);
        settings.connection_timeout = Duration::from_millis(600);
    })
    .await;
    let begin = crate::host::clock::monotonic();
    let mut slow = Vec::new();
    for _ in 0..6 {
        let mut stream = TcpStream::connect(window.address).await.unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nX: ").await.unwrap();
        slow.push(stream);
    }
    assert_eq!(get_json(&window.socket, "/-/healthy").await.unwrap(), "healthy", "the unix socket has its own places");
    assert_eq!(status(&tcp(&window, "GET /-/healthy HTTP/1.1\n").await.0), 200, "after those before have been cut");
    for mut stream in slow {
        let _ = stream.read_to_end(&mut Vec::new()).await;
    }
    // A body that never comes.
    let socket = UnixStream::connect(&window.socket).await.unwrap();
    let request = "POST /api/v1/accounts/a/action HTTP/1.1\nContent-Type: application/json\nContent-Length: 50\n";
    assert_eq!(status(&ask(socket, request).await.0), 503);
    assert!(begin.elapsed() < Duration::from_secs(20));
}

/// As many as the descriptors of a test process allow without further ado, and far more than there are places.
#[tokio::test]
async fn a_thousand_half_open_connections_do_not_hold_up_a_scrape() {
    const CROWD: usize = 1_000;
    rustix::process::setrlimit(
        rustix::process::Resource::Nofile,
        rustix::process::Rlimit {
            current: Some(4_096),
            ..rustix::process::getrlimit(rustix::process::Resource::Nofile)
        },
    )
    .unwrap();
    // Nothing but the crowd itself could make room: no time runs out within the test.
    let hour = Duration::from_secs(3_600);
    let window = open(|settings| (settings.header_timeout, settings.connection_timeout) = (hour, hour)).await;
    let answered = async |after: &str| {
        let answer = tcp(&window, "GET /metrics HTTP/1.1\n");
        let (head, _) = tokio::time::timeout(Duration::from_secs(60), answer).await.expect(after);
        assert_eq!(status(&head), 200, "{after}");
    };
    let mut crowd = Vec::new();
    for n in 0..CROWD {
        let mut stream = TcpStream::connect(window.address).await.unwrap();
        // Silent ones, half a head, and those that hold the place of a request that was answered.
        let said = ["", "GET /metrics HTTP/1.1\r\nX: ", "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"][n % 3];
        stream.write_all(said.as_bytes()).await.unwrap();
        crowd.push(stream);
        if n % 100 == 99 {
            answered(&format!("{} are held open", crowd.len())).await;
        }
    }
    answered("all are held open").await;
    assert_eq!(crowd.len(), CROWD);
}

#[tokio::test]
async fn only_names_of_this_host_are_answered_over_tcp() {
    let window = open(|settings| settings.hosts = vec!["figures.example".into()]).await;
    for (host, code) in
        [("localhost:1", 200), ("127.0.0.1", 200), ("figures.example:80", 200), ("rebound.example", 421)]
    {
        let request = format!("GET /metrics HTTP/1.0\nHost: {host}\n");
        let (head, body) = tcp(&window, &request).await;
        assert_eq!(status(&head), code, "{host}");
        if code == 421 {
            let body: Value = serde_json::from_slice(&body).unwrap();
            assert!(body["error"]["message"].as_str().unwrap().contains("web.hosts"), "{body}");
            assert!(head.contains("nosniff"), "{head}");
        }
        assert_eq!(status(&unix(&window.socket, &request).await.0), 200, "no browser comes over the unix socket");
    }
    assert_eq!(status(&tcp(&window, "GET /metrics HTTP/1.0\n").await.0), 200);
}

#[tokio::test]
async fn ends_when_asked_to_even_with_idle_clients() {
    let window = open(|_| {}).await;
    let _idle = TcpStream::connect(window.address).await.unwrap();
    let answer = get_json(&window.socket, "/-/healthy").await;
    assert!(answer.is_ok());
    window.stop.send(true).unwrap();
    tokio::time::timeout(Duration::from_secs(15), window.task).await.expect("ends soon").unwrap();
}

#[test]
fn hostile_bytes_leave_the_server_alive() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let window = runtime.block_on(open(|settings| settings.header_timeout = Duration::from_millis(500)));
    let piece = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..40),
        prop::sample::select(vec![
            &b"GET "[..],
            b"POST ",
            b"/metrics",
            b"/api/v1/accounts/",
            b" HTTP/1.1",
            b"\r\n",
            b"\r\n\r\n",
            b"Host: localhost\r\n",
            b"Host: x",
            b"Content-Length: 99999999999999999999",
            b"Content-Length: 5",
            b"Transfer-Encoding: chunked",
            b"ffffffffffffffffff\r\n",
            b"Accept: application/openmetrics-text;q=",
            b"%ff%00",
            b"Authorization: Bearer ",
            b"\0",
        ])
        .prop_map(<[u8]>::to_vec),
    ];
    let request = prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat());
    proptest!(ProptestConfig::with_cases(10_000), |(request in request)| {
        runtime.block_on(async {
            let mut stream = TcpStream::connect(window.address).await.unwrap();
            let _ = stream.write_all(&request).await;
            let _ = stream.shutdown().await;
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer).await;
            prop_assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 "));
            Ok(())
        })?;
    });
    runtime.block_on(async {
        assert_eq!(status(&tcp(&window, "GET /-/healthy HTTP/1.1\n").await.0), 200);
    });
}
