//! A limit for volume is exact where there is a gate: with a limit of 50, exactly 50 messages leave a real Postfix, also
//! when four inject at once, when the log is far behind, when the agent is killed in the middle, and when a message has
//! many recipients. Counted at the receiver and in the queue.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]
#![allow(clippy::disallowed_methods, reason = "a test of real servers starts processes")]
mod support;

use std::fs;
use std::io::Write;

use serde_json::Value;
use support::gated::{Site, names, text};
use support::helper::Role;
use support::{wait_for, wait_until};

const LIMIT: usize = 50;
const ARMED: &str = "gate:\n  mode: enforce\nenforcement: {dry_run: false}\n";
const MESSAGES: &str = "rules:\n  - {name: burst, signal: messages, window: 1h, limit: 50, action: block}\n";

fn status(site: &Site, account: &str) -> Value {
    serde_json::from_str(&site.tell(&["status", account, "--format", "json"])).unwrap()
}

/// Four at once.
fn inject(site: &Site, user: &str, prefix: &str, n: usize) {
    std::thread::scope(|scope| {
        for part in 0..4 {
            scope.spawn(move || (part..n).step_by(4).for_each(|at| site.script(user, &format!("{prefix}{at}"))));
        }
    });
}

/// Every message is with the receiver or on hold, each once: how many are where.
fn counted(site: &Site, prefix: &str, n: usize) -> (usize, usize) {
    let (arrived, held) = wait_for("every message to be delivered or on hold", || {
        let (arrived, held) = (site.arrived(prefix), site.on_hold(prefix));
        (arrived.len() + held.len() >= n).then_some((arrived, held))
    });
    let counts = (arrived.len(), held.len());
    let mut all = [arrived, held].concat();
    all.sort();
    assert_eq!(all, names(prefix, n));
    counts
}

#[test]
fn fifty_leave_and_no_more_with_four_at_once() {
    let site = Site::new(&format!("{ARMED}{MESSAGES}"), Role::Root);
    let agent = site.agent();
    // Somebody who is known already, and somebody of whom nothing was heard yet.
    site.script("web1", "first0");
    agent.wait_sum("sendwarden_account_messages_accepted_total", &["account=\"web1\""], 1.0);
    std::thread::scope(|scope| {
        scope.spawn(|| inject(&site, "web1", "a", 119));
        scope.spawn(|| inject(&site, "web2", "b", LIMIT));
    });
    assert_eq!(counted(&site, "a", 119), (LIMIT - 1, 120 - LIMIT));
    assert_eq!(counted(&site, "b", LIMIT), (LIMIT, 0), "fifty are no more than the limit");
    let blocked = wait_for("the block", || Some(status(&site, "web1")).filter(|view| view["state"] == "ko"));
    assert_eq!(blocked["sanction"]["by"], "rule burst", "{blocked}");
    assert_eq!(blocked["sanction"]["reason"], "51 messages in 1h, limit 50", "{blocked}");
    let verdicts = blocked["verdicts"].as_array().unwrap();
    assert_eq!(verdicts.len(), 1, "said once: {blocked}");
    assert_eq!((&verdicts[0]["outcome"], &verdicts[0]["observed"]), (&"blocked".into(), &51.0.into()), "{blocked}");
    assert_eq!(verdicts[0]["order"], blocked["sanction"]["order"]);
    assert_eq!(status(&site, "web2")["state"], "ok");
    agent.wait_sum("sendwarden_rule_verdicts_total", &["rule=\"burst\"", "outcome=\"blocked\""], 1.0);
    agent.wait_sum("sendwarden_held_messages", &[], 70.0);
    // A person lifts it: everything leaves, and more may.
    site.order(&["unblock", "web1"]);
    wait_until("what was held to be delivered", || site.arrived("a").len() == 119);
    inject(&site, "web1", "c", 20);
    assert_eq!(counted(&site, "c", 20), (20, 0));
    agent.stop();
}

#[test]
fn a_log_that_tells_nothing_yet_lets_no_more_through() {
    let site = Site::new(&format!("{ARMED}{MESSAGES}"), Role::Root);
    // What the agent reads comes to it when we say so.
    let late = site.config.with_file_name("late.log");
    fs::write(&late, "").unwrap();
    let config = fs::read_to_string(&site.config).unwrap();
    let log = site.postfix.log_path();
    fs::write(&site.config, config.replace(log.to_str().unwrap(), late.to_str().unwrap())).unwrap();
    let tell = |from: usize| {
        let all = fs::read(&log).unwrap();
        fs::OpenOptions::new().append(true).open(&late).unwrap().write_all(&all[from..]).unwrap();
        all.len()
    };
    let agent = site.agent();
    site.script("web1", "first0");
    wait_until("the first message to arrive", || site.arrived("first").len() == 1);
    let told = tell(0);
    agent.wait_sum("sendwarden_account_messages_accepted_total", &["account=\"web1\""], 1.0);
    inject(&site, "web1", "a", 79);
    assert_eq!(counted(&site, "a", 79), (LIMIT - 1, 80 - LIMIT));
    assert_eq!(status(&site, "web1")["messages"], 1, "the log has not told of any of them");
    assert_eq!(status(&site, "web1")["state"], "ko");
    tell(told);
    wait_until("the log to tell of all", || status(&site, "web1")["messages"] == 80);
    assert_eq!(counted(&site, "a", 79), (LIMIT - 1, 80 - LIMIT));
    assert_eq!(status(&site, "web1")["verdicts"].as_array().unwrap().len(), 1);
    agent.stop();
}

#[test]
fn an_agent_that_is_killed_twice_in_the_burst_lets_no_more_through() {
    let site = Site::new(&format!("{ARMED}{MESSAGES}"), Role::Root);
    let mut agent = site.agent();
    site.script("web1", "first0");
    agent.wait_sum("sendwarden_account_messages_accepted_total", &["account=\"web1\""], 1.0);
    agent = std::thread::scope(|scope| {
        scope.spawn(|| inject(&site, "web1", "a", 99));
        for least in [15, 35] {
            wait_until("the burst to be under way", || site.arrived("a").len() >= least);
            agent.kill();
            agent = site.agent();
        }
        agent
    });
    assert_eq!(counted(&site, "a", 99), (LIMIT - 1, 100 - LIMIT));
    let blocked = wait_for("the block", || Some(status(&site, "web1")).filter(|view| view["state"] == "ko"));
    assert_eq!(blocked["sanction"]["by"], "rule burst", "{blocked}");
    // Killed once more with the block in the store or only on the tape: it stands.
    agent.kill();
    agent = site.agent();
    inject(&site, "web1", "d", 4);
    assert_eq!(counted(&site, "d", 4), (0, 4));
    assert_eq!(site.on_hold("a").len(), 100 - LIMIT, "nothing of it was let go");
    agent.stop();
}

#[test]
fn a_message_with_many_recipients_that_goes_beyond_is_held_whole() {
    let rules = "rules:\n  - {name: burst, signal: recipients, window: 1h, limit: 50, action: block}\n";
    let site = Site::new(&format!("{ARMED}{rules}"), Role::Root);
    let agent = site.agent();
    let send = |name: &str| {
        let to: Vec<String> = (0..10).map(|n| format!("{name}x{n}@accept.test")).collect();
        let to: Vec<&str> = to.iter().map(String::as_str).collect();
        site.postfix.sendmail("web1", "web1@hosting.test", &to, &text(name));
    };
    (0..4).for_each(|n| send(&format!("m{n}")));
    site.script("web1", "s0");
    wait_until("41 recipients to be counted", || status(&site, "web1")["recipients"] == 41);
    // 51 with this one; what is smaller is not let past it.
    send("m4");
    site.script("web1", "s1");
    let delivered = || site.copies("m").values().sum::<usize>();
    wait_until("what is within the limit to be delivered", || delivered() == 40 && site.arrived("s").len() == 1);
    wait_until("the rest to be on hold", || site.held_copies("m").len() == 10 && site.on_hold("s").len() == 1);
    assert_eq!(delivered(), 40);
    let blocked = wait_for("the block", || Some(status(&site, "web1")).filter(|view| view["state"] == "ko"));
    assert_eq!(blocked["sanction"]["reason"], "51 recipients in 1h, limit 50", "{blocked}");
    agent.stop();
}

#[test]
fn a_gate_that_watches_and_a_dry_run_hold_nothing() {
    for gate in ["gate:\n  mode: watch\nenforcement: {dry_run: false}\n", "gate:\n  mode: enforce\n"] {
        let site = Site::new(&format!("{gate}{MESSAGES}"), Role::Root);
        let agent = site.agent();
        if gate.contains("watch") {
            // Without a gate that holds, the log is what it is known from: what has left by then has left.
            inject(&site, "web1", "a", 60);
            wait_until("the block", || status(&site, "web1")["state"] == "ko");
        } else {
            inject(&site, "web1", "a", 60);
            assert_eq!(counted(&site, "a", 60), (60, 0));
            assert_eq!(status(&site, "web1")["state"], "ok");
            wait_until("what it would have done", || status(&site, "web1")["verdicts"][0]["outcome"] == "dry_run");
        }
        agent.stop();
    }
}
