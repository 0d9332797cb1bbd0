//! A house of its own for one agent under test: state directory, configuration, log, and a client on its unix socket.
//!
//! Used by `crash.rs` and `lifecycle.rs`. It waits for conditions, never for time to pass, and ends only the
//! processes it started.
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::disallowed_methods, reason = "tests start processes and poll the real clock")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a house that does not stand is a failed test"
)]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use sendwarden::store::Views;
use serde_json::Value;

use crate::corpus::{Books, Figures};

/// The longest a condition may take before the test fails.
const LIMIT: Duration = Duration::from_secs(60);

/// Polls until `done`; what the agent printed is shown when it never is.
pub fn wait(house: &House, what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + LIMIT;
    while !done() {
        assert!(Instant::now() < end, "waited {LIMIT:?} for {what}; the agent printed:\n{}", house.printed());
        std::thread::sleep(Duration::from_millis(3));
    }
}

pub struct House {
    pub dir: PathBuf,
    _temp: tempfile::TempDir,
    pub config: PathBuf,
    pub log: PathBuf,
    pub state: PathBuf,
}

impl House {
    /// `more` is added to the configuration.
    pub fn new(more: &str) -> House {
        let temp = tempfile::Builder::new().prefix("sw").tempdir().unwrap();
        let dir = temp.path().to_owned();
        House::within(temp, &dir.join("state"), more)
    }

    pub fn with_state(state: &Path, more: &str) -> House {
        House::within(tempfile::Builder::new().prefix("sw").tempdir().unwrap(), state, more)
    }

    fn within(temp: tempfile::TempDir, state: &Path, more: &str) -> House {
        let dir = temp.path().to_owned();
        let log = dir.join("mail.log");
        let house = House { config: dir.join("config.yaml"), log, state: state.to_owned(), dir, _temp: temp };
        house.configure(more);
        house
    }

    pub fn configure(&self, more: &str) {
        let (log, state) = (self.log.display(), self.state.display());
        let text = format!(
            "logs:\n  - path: {log}\n    zone: UTC\nlisten: 127.0.0.1:0\nstate_dir: {state}\nqueue:\n  directories: [{}]\n{more}",
            self.dir.display()
        );
        fs::write(&self.config, text).unwrap();
    }

    /// Other logs than the file of the house, as entries of the list.
    pub fn configure_logs(&self, logs: &str) {
        let (state, dir) = (self.state.display(), self.dir.display());
        let text = format!("logs:\n{logs}listen: 127.0.0.1:0\nstate_dir: {state}\nqueue:\n  directories: [{dir}]\n");
        fs::write(&self.config, text).unwrap();
    }

    pub fn append(&self, bytes: impl AsRef<[u8]>) {
        let mut file = File::options().append(true).create(true).open(&self.log).unwrap();
        file.write_all(bytes.as_ref()).unwrap();
    }

    /// Everything agents of this house have printed.
    pub fn printed(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.dir.join("agent.log")).unwrap_or_default()).into_owned()
    }

    pub fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sendwarden"));
        command.arg("run").arg("--config").arg(&self.config);
        command
    }

    pub fn spawn(&self) -> Running<'_> {
        self.spawn_as(self.command())
    }

    pub fn spawn_as(&self, mut command: Command) -> Running<'_> {
        let out = File::options().create(true).append(true).open(self.dir.join("agent.log")).unwrap();
        let child =
            command.stdin(Stdio::null()).stdout(out.try_clone().unwrap()).stderr(out).spawn().expect("it starts");
        Running { child, house: self }
    }

    /// Starts the agent and waits until it answers on its socket.
    pub fn start(&self) -> Running<'_> {
        self.start_as(self.command())
    }

    pub fn start_as(&self, command: Command) -> Running<'_> {
        let mut running = self.spawn_as(command);
        wait(self, "the agent to answer", || {
            assert!(running.child.try_wait().unwrap().is_none(), "the agent ended:\n{}", self.printed());
            self.get("/-/healthy").is_some_and(|(status, _)| status == 200)
        });
        running
    }

    /// Runs to its end: for starts that must be refused.
    pub fn refused(&self, more: &[&str]) -> Output {
        self.command().args(more).stdin(Stdio::null()).output().unwrap()
    }

    pub fn socket(&self) -> PathBuf {
        self.state.join("sendwarden.sock")
    }

    pub fn get(&self, path: &str) -> Option<(u16, String)> {
        exchange(UnixStream::connect(self.socket()).ok()?, &format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n"))
    }

    pub fn post(&self, path: &str) -> Option<(u16, String)> {
        exchange(UnixStream::connect(self.socket()).ok()?, &post(path, ""))
    }

    /// Every series of `/metrics` by name and labels, as the agent says them now.
    pub fn metrics(&self) -> BTreeMap<String, f64> {
        let mut series = BTreeMap::new();
        if let Some((200, body)) = self.get("/metrics") {
            for line in body.lines().filter(|line| !line.starts_with('#')) {
                if let Some((name, value)) = line.rsplit_once(' ') {
                    series.insert(name.to_owned(), value.parse().unwrap_or(f64::NAN));
                }
            }
        }
        series
    }

    /// The value of one family, summed over its series.
    pub fn metric(&self, family: &str) -> f64 {
        let own = |name: &str| name.strip_prefix(family).is_some_and(|r| r.is_empty() || r.starts_with('{'));
        self.metrics().iter().filter(|(name, _)| own(name)).map(|(_, value)| value).sum()
    }

    pub fn ready(&self) -> Option<(u16, String)> {
        self.get("/-/ready")
    }

    pub fn wait_ready(&self) {
        wait(self, "the agent to be ready", || self.ready().is_some_and(|(status, _)| status == 200));
    }

    /// The committed figures of all owners, summed: straight from the store.
    pub fn stored(&self) -> Figures {
        let mut sum = Figures::default();
        if let Ok(totals) = Views::open(&self.state).and_then(|views| views.all_totals()) {
            for (_, c) in totals {
                sum.add(&Figures {
                    messages: c.messages,
                    recipients: c.recipients,
                    sent: c.sent,
                    bounced: c.bounced,
                    expired: c.expired,
                    deleted: c.deleted,
                    unaccounted: c.unaccounted,
                    deferred: c.deferred,
                    queued: c.queued,
                    held: c.held,
                });
            }
        }
        sum
    }

    /// An answer of one of our own commands, as JSON.
    pub fn command_json(&self, words: &[&str]) -> Value {
        let out = Command::new(env!("CARGO_BIN_EXE_sendwarden"))
            .args(words)
            .args(["--format", "json", "--state-dir"])
            .arg(&self.state)
            .output()
            .unwrap();
        assert!(out.status.success(), "{words:?}: {}", String::from_utf8_lossy(&out.stderr));
        serde_json::from_slice(&out.stdout).unwrap()
    }

    /// Every figure of every account, as `status` and `account list` say them.
    pub fn books(&self) -> Books {
        let status = self.command_json(&["status"]);
        let list = self.command_json(&["account", "list"]);
        let mut books = Books { said: Some(Figures::from_json(&status["totals"])), ..Books::default() };
        for account in list["accounts"].as_array().expect("accounts") {
            let figures = Figures::from_json(account);
            if !figures.is_zero() {
                books.account(account["account"].as_str().unwrap()).add(&figures);
            }
        }
        for (reason, counts) in status["unattributed"].as_object().expect("reasons") {
            let figures = Figures::from_json(counts);
            if !figures.is_zero() {
                books.reason(reason).add(&figures);
            }
        }
        books
    }

    /// The figures of one uninterrupted reading of `file` with the same configuration.
    pub fn replay(&self, file: &Path) -> Books {
        let out = Command::new(env!("CARGO_BIN_EXE_sendwarden"))
            .args(["replay", "--format", "json", "--config"])
            .arg(&self.config)
            .arg(file)
            .env("TZ", "UTC")
            .output()
            .unwrap();
        assert!(out.status.success(), "replay: {}", String::from_utf8_lossy(&out.stderr));
        Books::from_json(&serde_json::from_slice(&out.stdout).unwrap())
    }
}

pub fn post(path: &str, header: &str) -> String {
    format!("POST {path} HTTP/1.0\r\nHost: localhost\r\n{header}Content-Length: 0\r\n\r\n")
}

/// One request over a stream: status and body.
pub fn exchange(mut stream: impl Read + Write, request: &str) -> Option<(u16, String)> {
    stream.write_all(request.as_bytes()).ok()?;
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply).ok()?;
    let reply = String::from_utf8_lossy(&reply).into_owned();
    let (head, body) = reply.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}

/// A started agent; killed when it is dropped.
pub struct Running<'a> {
    pub child: Child,
    house: &'a House,
}

impl Running<'_> {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("our own child");
    }

    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// A clean stop; the exit status must be 0.
    pub fn stop(mut self, signal: Signal) {
        self.signal(signal);
        let status = self.wait();
        assert!(status == 0, "the agent ended with {status}:\n{}", self.house.printed());
    }

    /// Waits for its end; gives the exit status.
    pub fn wait(&mut self) -> i32 {
        let mut status = None;
        wait(self.house, "the agent to end", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.and_then(|status| status.code()).unwrap_or(-1)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        // Already ended is as good as killed.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
