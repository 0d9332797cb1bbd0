//! `sendwarden demo`: figures that move, a port of one's choice, and nothing left behind.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, in its helpers too"
)]
#![allow(clippy::disallowed_methods, reason = "tests start processes and poll the real clock")]

mod support;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use support::{http, wait_for, wait_until};

struct Demo {
    child: Child,
    address: String,
    out: Option<BufReader<std::process::ChildStdout>>,
}

impl Demo {
    fn start(tmp: &Path) -> Demo {
        let mut child = Command::new(env!("CARGO_BIN_EXE_sendwarden"))
            .args(["demo", "--listen", "127.0.0.1:0", "--speed", "3600"])
            .env("TMPDIR", tmp)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the built binary starts");
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        let address = loop {
            line.clear();
            assert!(out.read_line(&mut line).unwrap() > 0, "it ended before it said where the figures are");
            if let Some(at) = line.trim().strip_prefix("metrics  http://") {
                break at.strip_suffix("/metrics").unwrap().to_owned();
            }
        };
        Demo { child, address, out: Some(out) }
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // Ended already, when all went well.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn left_in(dir: &Path) -> Vec<String> {
    std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn eight_accounts_move_and_nothing_is_left() {
    let tmp = tempfile::tempdir().unwrap();
    let mut demo = Demo::start(tmp.path());
    let address = demo.address.clone();
    assert!(!address.ends_with(":0"), "the real port is told: {address}");
    let figure = |series: &str| -> Option<u64> {
        let (_, page) = http::get(&address, "/metrics").ok()?;
        page.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
    };
    let bounced = "sendwarden_account_recipients_total{account=\"gamesclub\",outcome=\"bounced\"} ";
    let first = wait_for("a whole round", || figure(bounced).filter(|n| *n >= 10));
    wait_until("another round", || figure(bounced).is_some_and(|now| now >= first + 10));
    for account in ["atelier", "bakery", "cinema", "dentist", "florist", "gamesclub", "lawyer", "school"] {
        let sent = format!("sendwarden_account_recipients_total{{account=\"{account}\",outcome=\"sent\"}} ");
        wait_until(account, || figure(&sent).is_some_and(|n| n > 0));
    }
    assert_eq!(figure("sendwarden_accounts_known "), Some(8));
    let (_, page) = http::get(&address, "/metrics").unwrap();
    assert!(!page.lines().any(|line| line.starts_with("sendwarden_log_unparsed_lines_total{")), "{page}");
    let mut line = String::new();
    let mut out = demo.out.take().unwrap();
    while !line.starts_with("gamesclub ") {
        line.clear();
        assert!(out.read_line(&mut line).unwrap() > 0, "the table never came");
    }
    let dirs = left_in(tmp.path());
    assert_eq!(dirs.len(), 1, "{dirs:?}");
    let pid = rustix::process::Pid::from_child(&demo.child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert!(demo.child.wait().unwrap().success());
    assert_eq!(left_in(tmp.path()), Vec::<String>::new());
}

#[test]
fn it_ends_when_nobody_reads_any_more() {
    let tmp = tempfile::tempdir().unwrap();
    let mut demo = Demo::start(tmp.path());
    drop(demo.out.take());
    wait_until("it to end", || demo.child.try_wait().unwrap().is_some());
    assert_eq!(left_in(tmp.path()), Vec::<String>::new());
}

#[test]
fn a_port_in_use_is_told_with_the_way_out() {
    let tmp = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let out = Command::new(env!("CARGO_BIN_EXE_sendwarden"))
        .args(["demo", "--listen", &address])
        .env("TMPDIR", tmp.path())
        .output()
        .unwrap();
    let err = String::from_utf8(out.stderr).unwrap();
    assert_eq!(out.status.code(), Some(1), "{err}");
    assert!(err.contains(&address) && err.contains("--listen 127.0.0.1:0"), "{err}");
    assert_eq!(left_in(tmp.path()), Vec::<String>::new());
}
