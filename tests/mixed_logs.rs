//! Several servers and forms in one log: the figures are those of the same lines apart.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a test"
)]
#![allow(clippy::disallowed_methods, reason = "tests start processes and poll the real clock")]

mod support;

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use support::agent::Agent;

/// What Exim 4.96 sent to /dev/log, one datagram a line: 120 recipients in texts of several pieces, and su(1) between.
const RAW: &str = include_str!("mixed/exim-syslog.log");
const POSTFIX: &str = include_str!("golden/lines/04-rsyslog-traditional.log");

/// The main log that Exim would have written: without syslog's heads, the pieces put together.
fn main_log() -> String {
    let mut out = String::new();
    for line in RAW.lines() {
        let Some((_, text)) = line.split_once("exim[").and_then(|(_, rest)| rest.split_once("]: ")) else { continue };
        match text.split_once("] ").filter(|(head, _)| head.starts_with('[') && head.contains('/')) {
            None => out.push_str(&format!("{text}\n")),
            Some((head, piece)) => {
                let (n, of) = head[1..].split_once('/').unwrap();
                out.push_str(piece);
                if n == of {
                    out.push('\n');
                }
            }
        }
    }
    assert!(RAW.contains("[2/4] ") && !out.contains("[2/4] "));
    out
}

/// All lines in the order of their seconds, as `HH:MM:SS` stands in both forms.
fn mixed(logs: &[&str]) -> String {
    let second = |line: &str| -> String {
        let at = line.find(':').unwrap();
        line[at - 2..at + 6].to_owned()
    };
    let mut lines: Vec<&str> = logs.iter().flat_map(|log| log.lines()).collect();
    lines.sort_by_key(|line| second(line));
    lines.iter().map(|line| format!("{line}\n")).collect()
}

fn replay(log: &str, options: &[&str]) -> Value {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mail.log");
    std::fs::write(&path, log).unwrap();
    let passwd = dir.path().join("passwd");
    std::fs::write(&passwd, "web1:x:2001:2001::/home/web1:/bin/sh\nxweb1:x:2003:2003::/home/xweb1:/bin/sh\n").unwrap();
    let out = Command::new(env!("CARGO_BIN_EXE_sendwarden"))
        .env("TZ", "UTC")
        .args(["replay", "--format", "json", "--passwd"])
        .args([passwd.as_path(), path.as_path()])
        .args(options)
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&out.stdout).unwrap()
}

fn figures(json: &Value) -> String {
    format!("{:#}\n{:#}\n{:#}", json["totals"], json["accounts"], json["unattributed_by_reason"])
}

fn sum(a: &Value, b: &Value) -> Value {
    let mut sum = a["totals"].clone();
    for (name, n) in sum.as_object_mut().unwrap() {
        *n = (n.as_u64().unwrap() + b["totals"][name].as_u64().unwrap()).into();
    }
    sum
}

#[test]
fn through_syslog_or_in_a_file_the_figures_are_the_same() {
    let (raw, file) = (replay(RAW, &[]), replay(&main_log(), &[]));
    assert_eq!(figures(&raw), figures(&file));
    assert_eq!((raw["lines"]["unknown"].as_u64(), file["lines"]["unknown"].as_u64()), (Some(0), Some(0)));
    assert_eq!(raw["totals"]["messages"], 3, "two, and a bounce message: {raw:#}");
    assert_eq!(raw["totals"]["recipients"], 2 + 120 + 1, "{raw:#}");
    // Without the stamp and the process that Exim writes itself: syslog_timestamp = no, syslog_pid = no.
    let bare: String = RAW
        .lines()
        .map(|line| {
            let Some((head, text)) = line.split_once("]: ").filter(|(head, _)| head.contains("exim[")) else {
                return format!("{line}\n");
            };
            let (piece, text) = match text.split_once("] ").filter(|_| text.starts_with('[')) {
                Some((piece, text)) => (format!("{piece}] "), text),
                None => (String::new(), text),
            };
            let stamp = text.starts_with("2026-11-23 ");
            let text = if stamp { text.split_once("] ").unwrap().1 } else { text };
            format!("{head}]: {piece}{text}\n")
        })
        .collect();
    assert_eq!(figures(&replay(&bare, &[])), figures(&raw));
}

/// A line of the older syslog form as RFC 5424 has it: `front` is what stands before the stamp.
fn of_protocol(line: &str, front: &str, between: &str) -> String {
    let line = line.split_once('>').filter(|_| line.starts_with('<')).map_or(line, |(_, rest)| rest);
    let (stamp, rest) = line.split_at(16);
    let (head, text) = rest.split_once(": ").unwrap_or((rest, ""));
    let (host, tag) = head.split_once(' ').unwrap_or(("-", head));
    let (tag, pid) = tag.split_once('[').map_or((tag, "-"), |(tag, pid)| (tag, pid.trim_end_matches(']')));
    let (day, time) = (&stamp[4..6], &stamp[7..15]);
    format!("{front}2026-11-{day}T{time}+00:00 {host} {tag} {pid} - {between}{text}\n")
}

#[test]
fn through_the_syslog_protocol_the_figures_are_the_same() {
    for log in [RAW, POSTFIX] {
        let expected = replay(log, &[]);
        for (front, between) in [
            ("<22>1 ", "- "),
            ("<22>1 ", "-  "),
            ("<22>1 ", "[timeQuality tzKnown=\"1\"][x@1 a=\"\\]\"] \u{feff}"),
            ("1 ", "- "),
            ("", "- "),
        ] {
            let log: String = log.lines().map(|line| of_protocol(line, front, between)).collect();
            let read = replay(&log, &[]);
            assert_eq!(figures(&read), figures(&expected), "{}", log.lines().nth(2).unwrap());
            assert_eq!(read["lines"]["unknown"], expected["lines"]["unknown"], "{}", log.lines().nth(2).unwrap());
        }
    }
}

#[test]
fn two_servers_in_one_file_are_two_servers_apart() {
    let (raw, postfix) = (replay(RAW, &[]), replay(POSTFIX, &[]));
    let expected = sum(&raw, &postfix);
    for exim in [RAW, &main_log()] {
        let both = mixed(&[exim, POSTFIX]);
        assert_eq!(replay(&both, &["--mta", "auto"])["totals"], expected);
        assert_eq!(replay(&both, &["--mta", "postfix"])["totals"], postfix["totals"]);
        assert_eq!(replay(&both, &["--mta", "exim"])["totals"], raw["totals"]);
    }
    assert_ne!(raw["totals"], postfix["totals"]);
}

#[test]
fn a_container_puts_something_around_and_the_figures_stay() {
    let expected = replay(POSTFIX, &[]);
    let time = |line: &str| format!("2026-11-23T{}.000000001Z", &line[7..15]);
    let wrapped = |wrap: &dyn Fn(&str) -> String| -> String { POSTFIX.lines().map(|line| wrap(line) + "\n").collect() };
    for log in [
        wrapped(&|line| {
            let text = serde_json::to_string(&format!("{line}\n")).unwrap();
            format!("{{\"log\":{text},\"stream\":\"stdout\",\"time\":\"{}\"}}", time(line))
        }),
        wrapped(&|line| {
            let text = serde_json::to_string(&format!("{line}\n")).unwrap();
            format!("{{\"time\": \"{}\", \"log\": {text}, \"stream\": \"stdout\"}}", time(line))
        }),
        wrapped(&|line| format!("mail-1  | {}", of_protocol(line, "<22>1 ", "- ").trim_end())),
        wrapped(&|line| format!("{} stdout F {line}", time(line))),
        wrapped(&|line| format!("{0} stdout P {1}\n{0} stdout F {2}", time(line), &line[..20], &line[20..])),
        wrapped(&|line| format!("mail-1  | {line}")),
        wrapped(&|line| format!("mail-1  | {} {line}", time(line))),
        // Postfix that writes to /dev/stdout under a runtime that stamps, without a stamp of its own.
        wrapped(&|line| format!("{} stdout F {}", time(line), line.splitn(5, ' ').nth(4).unwrap())),
    ] {
        assert_eq!(figures(&replay(&log, &[])), figures(&expected), "{}", log.lines().next().unwrap());
    }
}

#[test]
fn figures_say_which_server_they_are_of_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let log: PathBuf = dir.path().join("mail.log");
    let (raw, postfix) = (replay(RAW, &[]), replay(POSTFIX, &[]));
    let both = mixed(&[RAW, POSTFIX]);
    // Cut in the middle of a text of several pieces.
    let cut = both.find("[3/4] ").unwrap();
    let cut = both[..cut].rfind('\n').unwrap() + 1;
    std::fs::write(&log, &both[..cut]).unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let address = format!("127.0.0.1:{port}");
    let config = support::agent::configure(dir.path(), &address, std::slice::from_ref(&log), "accounts: []\n");
    let read = |agent: &Agent, lines: usize| {
        agent.wait_sum("sendwarden_log_lines_read_total", &[], lines as f64);
    };
    let agent = Agent::start(&config, &address);
    read(&agent, both[..cut].lines().count());
    agent.kill();
    std::fs::write(&log, &both).unwrap();
    let agent = Agent::start(&config, &address);
    read(&agent, both.lines().count());
    for (mta, replayed) in [("exim", &raw), ("postfix", &postfix)] {
        let label = format!("mta=\"{mta}\"");
        for outcome in ["sent", "bounced", "expired", "deleted"] {
            let outcome_label = format!("outcome=\"{outcome}\"");
            let want = replayed["totals"][outcome].as_f64().unwrap();
            agent.wait_sum("sendwarden_recipients_total", &[&label, &outcome_label], want);
        }
        let messages = replayed["totals"]["messages"].as_f64().unwrap();
        agent.wait_sum("sendwarden_messages_accepted_total", &[&label], messages);
    }
    agent.stop();
}

#[test]
fn check_reads_a_log_of_exim() {
    let dir = tempfile::tempdir().unwrap();
    let shown = dir.path().display();
    let look = |log: &str, mta: &str| -> Value {
        std::fs::write(dir.path().join("mainlog"), log).unwrap();
        let config = dir.path().join("config.yaml");
        let text = format!(
            "logs:\n  - path: {shown}/mainlog\n    mta: {mta}\nstate_dir: {shown}/state\nlisten: 127.0.0.1:0\n"
        );
        std::fs::write(&config, text).unwrap();
        let out = Command::new(env!("CARGO_BIN_EXE_sendwarden"))
            .args(["check", "--format", "json", "--config"])
            .arg(Path::new(&config))
            .output()
            .unwrap();
        serde_json::from_slice(&out.stdout).unwrap()
    };
    let seen = look(&main_log(), "auto");
    assert!(seen["logs"][0]["lines"]["events"].as_u64().unwrap() > 100, "{seen:#}");
    assert_eq!(seen["logs"][0]["lines"]["unknown"], 0, "{seen:#}");
    let lost = look(
        &RAW.lines().filter(|line| !line.contains("[2/4] ")).map(|line| format!("{line}\n")).collect::<String>(),
        "exim",
    );
    assert_eq!(lost["logs"][0]["unknown"][0]["why"], "chunks", "{lost:#}");
    let other = look(&main_log(), "postfix");
    assert_eq!(other["logs"][0]["lines"]["events"], 0, "{other:#}");
}
