//! The bounds of the gate on a real Postfix: no more of a blocked account is held than there is room for, nobody else
//! notices, and what the mail server queues without asking is seen.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]
#![allow(clippy::disallowed_methods, reason = "a test of real servers starts processes")]
mod support;

use std::fs;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::agent::Agent;
use support::gated::{PASSWORD, Site, names};
use support::helper::Role;
use support::{wait_for, wait_until};

fn known(site: &Site, agent: &Agent, user: &str) {
    site.script(user, &format!("known-{user}"));
    agent.wait_sum("sendwarden_account_messages_accepted_total", &[&format!("account=\"{user}\"")], 1.0);
}

/// The errors of an account, as people are told them.
fn errors(site: &Site, account: &str) -> Vec<Value> {
    let text = site.tell(&["errors", account, "--limit", "100", "--format", "json"]);
    let view: Value = serde_json::from_str(&text).unwrap();
    view["errors"].as_array().unwrap().clone()
}

#[test]
fn no_more_is_held_than_there_is_room_for_and_nobody_else_notices() {
    for role in [Role::Root, Role::Ordinary] {
        bounded(role);
    }
}

fn bounded(role: Role) {
    let site = Site::new("gate:\n  mode: enforce\n  logins: hold\nhold:\n  max_held: 10\n", role);
    site.postfix.add_login("box1@hosting.test", PASSWORD);
    let agent = site.agent();
    known(&site, &agent, "web1");
    site.login("box1@hosting.test", "known-box1").unwrap();
    agent.wait_sum("sendwarden_account_messages_accepted_total", &["account=\"box1@hosting.test\""], 1.0);
    site.tell(&["block", "web1"]);
    site.tell(&["block", "box1@hosting.test", "--scope", "all"]);
    for n in 0..25 {
        site.script("web1", &format!("a{n}"));
        site.script("web2", &format!("b{n}"));
        let answer = site.login("box1@hosting.test", &format!("l{n}"));
        assert_eq!(answer.is_ok(), n < 10, "{n}: {answer:?}");
        assert!(n < 10 || answer.unwrap_err().contains("552 5.2.2"));
    }
    wait_until("everybody else's to arrive", || site.arrived("b") == names("b", 25));
    wait_until("what there is room for to be on hold", || {
        site.on_hold("a").len() == 10 && site.on_hold("l").len() == 10
    });
    wait_until("the rest to be counted", || site.decisions(&agent, "discarded") >= 15.0);
    assert_eq!(site.arrived("a"), [""; 0], "nothing of the blocked account leaves");
    assert_eq!(site.decisions(&agent, "discarded"), 15.0);
    agent.wait_sum("sendwarden_gate_decisions_total", &["decision=\"refused\"", "smtp_auth"], 15.0);
    agent.wait_sum("sendwarden_held_messages", &[], 20.0);
    agent.wait_sum("sendwarden_blocked_accounts", &["state=\"ko\"", "cause=\"person\""], 2.0);
    assert!(agent.sum("sendwarden_held_oldest_timestamp_seconds", &[]) > 1.7e9);
    let told = wait_for("the order log", || {
        let status: Value = serde_json::from_str(&site.tell(&["status", "web1", "--format", "json"])).unwrap();
        let over = status["orders"].as_array()?.iter().filter(|order| order["outcome"] == "overflowed");
        let told: Vec<String> = over.map(|order| order["details"].to_string()).collect();
        (!told.is_empty()).then_some(told)
    });
    assert!(told.iter().all(|told| told.contains("0 refused") && told.contains("hold.max_held")), "{told:?}");
    // One error for each recipient of what was discarded, and none for what was refused: its sender knows.
    site.postfix.sendmail(
        "web1",
        "web1@hosting.test",
        &["two1@accept.test", "\"two 2\"@accept.test"],
        "X-Test-Id: a-two\n\nbody\n",
    );
    wait_until("the last one to be counted", || site.decisions(&agent, "discarded") == 16.0);
    let (mut wanted, errors) = (names("a", 25), errors(&site, "web1"));
    wanted.retain(|name| name.trim_start_matches('a').parse::<u32>().unwrap() >= 10);
    let mut to: Vec<String> = errors.iter().map(|row| row["recipient"].as_str().unwrap().to_owned()).collect();
    to.sort();
    let wanted = wanted.iter().map(|name| format!("{name}@accept.test"));
    let two = ["\"two 2\"@accept.test", "two1@accept.test"].map(str::to_owned);
    let mut wanted: Vec<String> = wanted.chain(two).collect();
    wanted.sort();
    assert_eq!(to, wanted);
    let is = |row: &Value, key: &str, value: &str| row[key] == value;
    assert!(
        errors.iter().all(|row| is(row, "outcome", "deleted")
            && is(row, "dsn", "5.2.2")
            && is(row, "sender", "web1@hosting.test")
            && row["reply"].as_str().unwrap().contains("no more is held (hold.max_held")),
        "{errors:?}"
    );
    assert_eq!(self::errors(&site, "box1@hosting.test"), [Value::Null; 0]);
    assert!(site.tell(&["errors", "web1"]).contains("a24@accept.test"));
    // What is released makes room, and everything that was held arrives.
    site.tell(&["unblock", "web1"]);
    wait_until("what was held to arrive", || site.arrived("a").len() == 10);
    site.tell(&["block", "web1"]);
    site.script("web1", "late");
    wait_until("the next one to be on hold", || site.on_hold("late").len() == 1);
    let overflowed = || agent.sum("sendwarden_orders_total", &["action=\"block\"", "result=\"overflowed\""]);
    wait_until("both accounts' overflow to be counted", || overflowed() >= 2.0);
    agent.stop();
}

#[test]
fn no_more_is_held_than_may_lie_in_the_queue() {
    for role in [Role::Root, Role::Ordinary] {
        bounded_by_bytes(role);
    }
}

fn bounded_by_bytes(role: Role) {
    let site = Site::new("gate:\n  mode: enforce\n  logins: hold\nhold:\n  max_held_bytes: 200KiB\n", role);
    let agent = site.agent();
    known(&site, &agent, "web1");
    site.tell(&["block", "web1"]);
    let large = |user: &str, name: &str| {
        let text = format!("X-Test-Id: {name}\n\n") + &format!("{}\n", "y".repeat(79)).repeat(750);
        site.postfix.sendmail(user, &format!("{user}@hosting.test"), &[&format!("{name}@accept.test")], &text);
    };
    let bytes = |agent: &Agent| agent.sum("sendwarden_held_bytes", &[]);
    // Each takes 60 KiB: three have room, and the fourth goes beyond it.
    for n in 0..4 {
        large("web1", &format!("a{n}"));
        wait_until("its size to be known", || bytes(&agent) > f64::from(n + 1) * 60_000.0);
    }
    assert!(bytes(&agent) < 4.0 * 64_000.0, "{}", bytes(&agent));
    site.script("web1", "a4");
    large("web2", "b0");
    site.script("web2", "b1");
    wait_until("everybody else's to arrive", || site.arrived("b") == names("b", 2));
    wait_until("what is beyond it to be discarded", || site.decisions(&agent, "discarded") == 1.0);
    assert_eq!((site.on_hold("a"), site.arrived("a").len()), (names("a", 4), 0));
    // The next agent looks at what there is.
    agent.stop();
    let agent = site.agent();
    wait_until("the sizes to be known again", || bytes(&agent) > 4.0 * 60_000.0);
    site.script("web1", "a5");
    wait_until("what is beyond it to be discarded", || site.decisions(&agent, "discarded") == 2.0);
    // What is released makes room.
    site.tell(&["unblock", "web1"]);
    wait_until("what was held to arrive", || site.arrived("a") == names("a", 4));
    wait_until("nothing to be held", || bytes(&agent) == 0.0);
    site.tell(&["block", "web1"]);
    site.script("web1", "a6");
    wait_until("the next one to be on hold", || site.on_hold("a") == ["a6"]);
    agent.stop();
}

#[test]
fn where_too_little_is_free_nothing_more_is_held() {
    for free in ["min_free: 900000TiB", "min_free_inodes: 9000000000000000000"] {
        let site = Site::new(&format!("gate:\n  mode: enforce\nhold:\n  {free}\n"), Role::Root);
        let agent = site.agent();
        known(&site, &agent, "web1");
        site.tell(&["block", "web1"]);
        site.script("web1", "a1");
        site.script("web2", "b1");
        wait_until("everybody else's to arrive", || site.arrived("b") == ["b1"]);
        wait_until("it to be counted", || site.decisions(&agent, "discarded") == 1.0);
        assert_eq!((site.arrived("a").len(), site.on_hold("a").len()), (0, 0), "{free}");
        agent.stop();
    }
}

#[test]
fn what_the_server_queues_without_asking_is_counted_and_swept() {
    let site = Site::new("gate:\n  mode: enforce\n", Role::Root);
    let agent = site.agent();
    let began = Instant::now();
    known(&site, &agent, "web1");
    let bypass = |agent: &Agent, when: &str| {
        agent.sum("sendwarden_gate_bypass_total", &["origin=\"script\"", &format!("when=\"{when}\"")])
    };
    // What was asked about is none.
    site.script("web2", "asked");
    agent.wait_sum("sendwarden_account_messages_accepted_total", &["account=\"web2\""], 1.0);
    assert_eq!(bypass(&agent, "open"), 0.0);
    // What came in the moments around its opening may have been seen by the agent before.
    wait_until("the gate to be open for a while", || began.elapsed() > Duration::from_secs(4));
    // Somebody takes the gate out of the way of scripts. What is deferred is swept although no minute is over.
    let main = site.postfix.config_dir().join("main.cf");
    let text = fs::read_to_string(&main).unwrap();
    fs::write(&main, format!("{text}\nnon_smtpd_milters =\n")).unwrap();
    site.postfix.run("postfix", &["reload"]);
    site.tell(&["block", "web1"]);
    site.postfix.sendmail("web1", "web1@hosting.test", &["slow@defer.test"], "X-Test-Id: slow\n\nbody\n");
    wait_until("it to be seen", || bypass(&agent, "open") == 1.0);
    wait_until("it to be swept", || site.on_hold("slow").len() == 1);
    agent.wait_sum("sendwarden_hold_drift_total", &["kind=\"escaped\""], 1.0);
    agent.stop();
    // While no agent runs.
    let stopped = Instant::now();
    wait_until("the agent to be away for a while", || stopped.elapsed() > Duration::from_secs(5));
    site.script("web2", "away");
    wait_until("it to arrive", || site.arrived("away") == ["away"]);
    let again = Instant::now();
    wait_until("a second of the log to be over", || again.elapsed() > Duration::from_secs(2));
    let agent = site.agent();
    wait_until("what passed meanwhile to be counted", || bypass(&agent, "away") >= 1.0);
    assert_eq!(bypass(&agent, "open"), 1.0);
    agent.stop();
}
