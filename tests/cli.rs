//! The command as a person meets it: exit statuses, and words that say what to do.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, in its helpers too"
)]
#![allow(clippy::disallowed_methods, reason = "tests start processes and poll the real clock")]

mod support;

use std::path::Path;
use std::process::{Command, Output};
use support::agent::Agent;

fn sendwarden(args: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = Command::new(env!("CARGO_BIN_EXE_sendwarden"))
        .args(args)
        .env_remove("STATE_DIRECTORY")
        .output()
        .expect("the built binary starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("what is printed is UTF-8");
    (status.code().expect("it ends by itself"), text(stdout), text(stderr))
}

/// The commands of this version, as they are called.
const COMMANDS: [&[&str]; 19] = [
    &["run"],
    &["check"],
    &["demo"],
    &["replay"],
    &["suggest"],
    &["status"],
    &["history"],
    &["errors"],
    &["trace"],
    &["verdicts"],
    &["setup"],
    &["setup", "postfix"],
    &["setup", "exim"],
    &["account"],
    &["account", "list"],
    &["account", "rename"],
    &["account", "close"],
    &["account", "forget"],
    &["account", "export"],
];

#[test]
fn every_help_has_an_example_and_the_exit_statuses() {
    for command in COMMANDS {
        let (status, out, err) = sendwarden(&[command, &["--help"]].concat());
        assert_eq!((status, err.as_str()), (0, ""), "{command:?}");
        assert!(out.contains("Example"), "{command:?} has no example:\n{out}");
        assert!(out.contains("Exit status: 0"), "{command:?} does not tell its exit statuses:\n{out}");
        let example = format!("  sendwarden {}", command.join(" "));
        assert!(out.contains(&example), "{command:?}: its example is not about it:\n{out}");
    }
    let (status, out, _) = sendwarden(&["--help"]);
    assert_eq!(status, 0);
    for command in COMMANDS {
        let name = command.first().copied().unwrap_or_default();
        assert!(out.contains(&format!("\n  {name} ")), "the list of commands misses {name}:\n{out}");
    }
}

#[test]
fn wrong_usage_is_two_and_says_how() {
    for (args, word) in [
        (&["stauts"][..], "status"),
        (&[], "Usage"),
        (&["history"], "<ACCOUNT>"),
        (&["status", "--format", "xml"], "json"),
        (&["replay", "--mta", "sendmail", "x.log"], "auto, postfix, exim"),
        (&["replay", "--against", "old.yaml", "x.log"], "--config"),
        (&["suggest", "--format", "text", "x.log"], "yaml, json"),
        (&["demo", "--listen", "nowhere"], "--listen"),
        (&["account", "forget", "web1", "--state-dir", "/nonexistent"], "--yes"),
        (&["setup", "postfix", "--apply", "--undo"], "--undo"),
        (&["setup", "postfix", "--submission", "reject"], "accept, tempfail"),
    ] {
        let (status, out, err) = sendwarden(args);
        assert_eq!(status, 2, "{args:?}: {out}{err}");
        assert!(err.contains(word), "{args:?}: {err}");
        assert_eq!(out, "", "{args:?}");
    }
}

#[test]
fn a_bad_configuration_is_two_with_every_line() {
    let config = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/config/five_mistakes.yaml");
    for command in ["run", "status"] {
        let (status, _, err) = sendwarden(&[command, "--config", config]);
        assert_eq!(status, 2, "{err}");
        for place in ["yaml:1:1: listn", "yaml:3:5", "yaml:5:3", "yaml:6:3", "yaml:9:3"] {
            assert!(err.contains(place), "{command} does not tell of {place}: {err}");
        }
    }
    let (status, _, err) = sendwarden(&["run", "--config", "/nonexistent.yaml"]);
    assert_eq!(status, 2);
    assert!(err.contains("/nonexistent.yaml: cannot read this file"), "{err}");
}

#[test]
fn what_cannot_be_answered_is_one_and_says_why() {
    let empty = tempfile::tempdir().unwrap();
    let dir = empty.path().to_str().unwrap();
    for (args, word) in [
        (&["status", "--state-dir", dir][..], "has the agent run"),
        (&["trace", "x", "--state-dir", dir], "has the agent run"),
        (&["account", "rename", "a", "b", "--state-dir", dir], "is `sendwarden run` active?"),
        (&["replay", "/nonexistent.log"], "cannot read /nonexistent.log"),
        (&["suggest", "/nonexistent.log"], "suggest: cannot read /nonexistent.log"),
    ] {
        let (status, out, err) = sendwarden(args);
        assert_eq!((status, out.as_str()), (1, ""), "{args:?}: {err}");
        assert!(err.starts_with("sendwarden: ") && err.contains(word), "{args:?}: {err}");
    }
}

fn configured(dir: &Path, port: u16) -> std::path::PathBuf {
    let config = dir.join("config.yaml");
    let text =
        format!("logs:\n  - path: {0}/mail.log\nstate_dir: {0}/state\nlisten: 127.0.0.1:{port}\n", dir.display());
    std::fs::write(&config, text).unwrap();
    config
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn a_running_agent_answers_and_a_second_one_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    // Of yesterday: what is older than the index keeps would not be found.
    let yesterday = (jiff::Timestamp::now() - jiff::SignedDuration::from_hours(24)).strftime("%Y-%m-%dT").to_string();
    let traffic = include_str!("../src/app/demo/traffic.log").replace("2026-11-23T", &yesterday);
    std::fs::write(dir.path().join("mail.log"), traffic).unwrap();
    let port = free_port();
    let config = configured(dir.path(), port);
    let agent = Agent::start(&config, &format!("127.0.0.1:{port}"));
    let state = dir.path().join("state");
    let state = state.to_str().unwrap();
    let config = config.to_str().unwrap();

    let ask = |args: &[&str]| sendwarden(&[args, &["--state-dir", state]].concat());
    let (status, out, err) = ask(&["status"]);
    assert_eq!(status, 0, "{err}");
    for words in ["running since", "ready", "mail.log: read to its end", "without an account (incoming)", "uid2006"] {
        assert!(out.contains(words), "{words}: {out}");
    }
    let (status, out, _) = ask(&["status", "uid2006"]);
    assert!(status == 0 && out.contains("bounced                      10"), "{out}");
    let (status, out, _) = ask(&["errors", "uid2006", "--limit", "2"]);
    assert!(status == 0 && out.matches("bounced (").count() == 2, "{out}");
    let (status, out, _) = ask(&["history", "uid2006", "--days", "3"]);
    assert!(status == 0 && out.contains("recipients per day"), "{out}");
    let (status, out, _) = ask(&["trace", "parents@shut.example"]);
    assert!(status == 0 && out.contains("expired after 3 attempts"), "{out}");
    let (status, out, _) = ask(&["account", "list", "--sort", "errors"]);
    assert!(status == 0 && out.lines().nth(1).is_some_and(|line| line.starts_with("uid2006")), "{out}");
    let (status, out, _) = ask(&["account", "list", "zzz"]);
    assert_eq!((status, out.as_str()), (0, "no account has zzz in its name; `sendwarden account list` shows all\n"));
    for args in
        [&["status", "nobody"][..], &["errors", "nobody"], &["history", "nobody"], &["account", "close", "nobody"]]
    {
        let (status, _, err) = ask(args);
        assert_eq!(status, 1, "{args:?}");
        assert!(err.contains("there is no account nobody; `sendwarden account list` shows all"), "{args:?}: {err}");
    }
    let (status, out, _) = ask(&["trace", "nobody@nowhere.example"]);
    assert!(status == 1 && out.contains("nothing is known about"), "{out}");
    let (status, _, err) = ask(&["account", "list", "--sort", "beauty"]);
    assert!(status == 1 && err.contains("cannot sort by beauty"), "{err}");

    let (status, _, err) = sendwarden(&["run", "--config", config]);
    assert_eq!(status, 1);
    assert!(err.contains(&format!("is in use by process {}", agent.pid())), "{err}");
    let other = tempfile::tempdir().unwrap();
    let same_port = configured(other.path(), port);
    let (status, _, err) = sendwarden(&["run", "--config", same_port.to_str().unwrap()]);
    assert_eq!(status, 1);
    assert!(err.contains(&format!("cannot listen on 127.0.0.1:{port}")) && err.contains("`listen`"), "{err}");

    agent.stop();
    let (status, out, err) = ask(&["status", "uid2006"]);
    assert_eq!(status, 0, "without an agent the store answers: {err}");
    assert!(out.contains("messages                         16"), "{out}");
    let (status, out, _) = ask(&["status"]);
    assert!(status == 0 && out.contains("no agent is running here"), "{out}");
    // A question does not read the accounts file, which may be a large one, or be missing.
    let missing = dir.path().join("missing.yaml");
    let text = std::fs::read_to_string(config).unwrap() + "accounts_file: /nonexistent/accounts.yaml\n";
    std::fs::write(&missing, text).unwrap();
    let (status, out, err) = sendwarden(&["status", "uid2006", "--config", missing.to_str().unwrap()]);
    assert!(status == 0 && out.contains("messages                         16"), "{out}{err}");
}
