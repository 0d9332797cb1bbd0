//! `sendwarden run` as a user starts it, and its answers.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

pub struct Agent {
    config: PathBuf,
    port: u16,
}

impl Agent {
    /// Shipped settings, but for the log, the place of the state, and `more`.
    pub fn new(folder: &Path, log: &Path, more: &str) -> Agent {
        // The port is free now; nothing else on a bench machine takes it in the next moment.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = folder.join("config.yaml");
        let state = folder.join("state");
        std::fs::create_dir_all(&state).unwrap();
        let (log, state) = (log.display(), state.display());
        let text = format!("logs:\n  - path: {log}\nlisten: 127.0.0.1:{port}\nstate_dir: {state}\n{more}");
        std::fs::write(&config, text).unwrap();
        Agent { config, port }
    }

    /// Starts the agent and waits until it answers.
    pub fn start(&self) -> Child {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sendwarden"));
        let mut child = command.arg("run").arg("--config").arg(&self.config).spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(30);
        while self.metrics().is_none() {
            if let Some(status) = child.try_wait().unwrap() {
                panic!("the agent ended at once: {status}");
            }
            assert!(Instant::now() < deadline, "the agent does not answer on port {}", self.port);
            std::thread::sleep(Duration::from_millis(20));
        }
        child
    }

    fn page(&self, accept: &str) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
        write!(stream, "GET /metrics HTTP/1.0\r\nHost: localhost\r\nAccept: {accept}\r\n\r\n").ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        let (head, body) = text.split_once("\r\n\r\n")?;
        head.lines().next()?.contains(" 200").then(|| body.to_owned())
    }

    /// One scrape: seconds from connecting to the last byte, and its size.
    pub fn scrape(&self, accept: &str) -> (f64, usize) {
        let began = Instant::now();
        let page = self.page(accept).expect("a scrape is answered");
        (began.elapsed().as_secs_f64(), page.len())
    }

    /// Every series of `/metrics`, by its name with labels.
    pub fn metrics(&self) -> Option<BTreeMap<String, f64>> {
        let page = self.page("text/plain")?;
        let series = page.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.rsplit_once(' '));
        Some(series.map(|(name, value)| (name.to_owned(), value.parse().unwrap_or(0.0))).collect())
    }
}

/// The sum of a family's series that carry `label`.
pub fn sum(metrics: &BTreeMap<String, f64>, family: &str, label: &str) -> f64 {
    let of = |key: &&String| key.strip_prefix(family).is_some_and(|rest| rest.is_empty() || rest.starts_with('{'));
    metrics.iter().filter(|(key, _)| of(key) && key.contains(label)).map(|(_, value)| value).sum()
}
