//! A receiver of notices: an HTTP server of our own on loopback, over TLS if a test wants, that records what it is sent.
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;

use serde_json::Value;
use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Request {
    pub line: String,
    headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub at: Instant,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|why| panic!("{why}: {}", String::from_utf8_lossy(&self.body)))
    }

    pub fn id(&self) -> String {
        self.json()["id"].as_str().expect("an id").to_owned()
    }

    /// `blocked web1`.
    pub fn told(&self) -> String {
        let notice = self.json();
        ["event", "account"].map(|key| notice[key].as_str().expect("a word").to_owned()).join(" ")
    }
}

/// What a receiver does with a request.
#[derive(Debug, Clone)]
pub enum Answer {
    Status(u16),
    /// To this address.
    Redirect(String),
    /// Says nothing, and stays.
    Hang,
    /// Says more than anybody wants to hear, without an end.
    Babble,
}

struct Shared {
    answer: Mutex<Answer>,
    requests: Mutex<Vec<Request>>,
    kept: Mutex<Vec<TcpStream>>,
    tls: Option<Arc<ServerConfig>>,
    stop: AtomicBool,
}

/// Listens until it is dropped.
pub struct Receiver {
    address: String,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Receiver {
    /// On this address, `127.0.0.1:PORT`.
    pub fn start(address: &str, answer: Answer) -> Receiver {
        Receiver::start_by(address, answer, None)
    }

    pub fn start_by(address: &str, answer: Answer, tls: Option<Arc<ServerConfig>>) -> Receiver {
        let listener = TcpListener::bind(address).unwrap_or_else(|why| panic!("{address}: {why}"));
        let shared = Arc::new(Shared {
            answer: Mutex::new(answer),
            requests: Mutex::default(),
            kept: Mutex::default(),
            tls,
            stop: AtomicBool::new(false),
        });
        let at = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if at.stop.load(Ordering::SeqCst) {
                    return;
                }
                let (Ok(stream), at) = (stream, Arc::clone(&at)) else { continue };
                // A client that goes away in the middle is a normal end.
                std::thread::spawn(move || drop(receive(stream, &at)));
            }
        });
        Receiver { address: address.to_owned(), shared, thread: Some(thread) }
    }

    pub fn answer(&self, answer: Answer) {
        *self.shared.answer.lock().unwrap() = answer;
    }

    pub fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// What it was told, as `blocked web1`.
    pub fn told(&self) -> Vec<String> {
        self.requests().iter().map(Request::told).collect()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        // So that it looks up.
        drop(TcpStream::connect(&self.address));
        self.shared.kept.lock().unwrap().clear();
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn receive(stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    match &shared.tls {
        None => converse(stream.try_clone()?, stream, shared),
        Some(config) => {
            let session = ServerConnection::new(Arc::clone(config)).map_err(std::io::Error::other)?;
            converse(StreamOwned::new(session, stream.try_clone()?), stream, shared)
        }
    }
}

fn converse(stream: impl Read + Write, kept: TcpStream, shared: &Shared) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut headers = Vec::new();
    loop {
        let mut header = String::new();
        reader.read_line(&mut header)?;
        match header.trim_end().split_once(':') {
            Some((key, value)) => headers.push((key.to_owned(), value.trim().to_owned())),
            None => break,
        }
    }
    let mut request = Request { line: line.trim_end().to_owned(), headers, body: Vec::new(), at: Instant::now() };
    let length = request.header("Content-Length").and_then(|text| text.parse().ok()).unwrap_or(0);
    request.body.resize(length, 0);
    reader.read_exact(&mut request.body)?;
    if request.line.is_empty() {
        return Ok(());
    }
    let answer = shared.answer.lock().unwrap().clone();
    shared.requests.lock().unwrap().push(request);
    let stream = reader.get_mut();
    match answer {
        Answer::Status(status) => write!(stream, "HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n")?,
        Answer::Redirect(to) => write!(stream, "HTTP/1.1 307 X\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n")?,
        Answer::Hang => shared.kept.lock().unwrap().push(kept),
        Answer::Babble => {
            write!(stream, "HTTP/1.1 200 X\r\n")?;
            while !shared.stop.load(Ordering::SeqCst) {
                write!(stream, "X-More: {}\r\n", "x".repeat(1_000))?;
            }
        }
    }
    stream.flush()
}
