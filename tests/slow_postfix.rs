//! A quota that slows down, on a real Postfix: an honest burst of three times the quota is delivered completely, oldest
//! first, and never more than the quota within a window at the receiver; also when four inject at once, when the agent is
//! killed in the middle, and beside an account that stays within its own.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]
#![allow(clippy::disallowed_methods, reason = "a test of real servers starts processes")]
mod support;

use serde_json::Value;
use support::gated::Site;
use support::helper::Role;
use support::{pace, wait_for, wait_until};

const QUOTA: usize = 20;
const RULES: &str = "gate:\n  mode: enforce\nenforcement: {dry_run: false}\n\
                     rules:\n  - {name: quota, signal: messages, window: 1m, limit: 20, action: slow}\n";

fn status(site: &Site, account: &str) -> Value {
    serde_json::from_str(&site.tell(&["status", account, "--format", "json"])).unwrap()
}

fn numbered(site: &Site, user: &str, prefix: &str, numbers: impl Iterator<Item = usize>) {
    numbers.for_each(|n| site.script(user, &format!("{prefix}{n}")));
}

#[test]
fn a_burst_leaves_completely_oldest_first_and_never_faster_than_the_quota() {
    let site = Site::new(RULES, Role::Root);
    let agent = site.agent();
    // Known before, and no part of the burst.
    site.script("web1", "first0");
    site.script("web2", "first1");
    wait_until("the first to arrive", || site.arrivals("first").len() == 2);
    agent.wait_sum("sendwarden_account_messages_accepted_total", &[], 2.0);
    std::thread::scope(|scope| {
        scope.spawn(|| numbered(&site, "web1", "a", 0..3 * QUOTA));
        // Four at once, for an account of which nothing was heard.
        for part in 0..4 {
            let site = &site;
            scope.spawn(move || numbered(site, "web3", "b", (part..2 * QUOTA).step_by(4)));
        }
        scope.spawn(|| numbered(&site, "web2", "c", 0..QUOTA - 1));
    });
    wait_until("who stays within the quota to arrive at once", || site.arrivals("c").len() == QUOTA - 1);
    let slowed = wait_for("web1 to be slowed down", || Some(status(&site, "web1")).filter(|s| s["delay"].is_object()));
    assert_eq!((&slowed["state"], &slowed["delay"]["rule"]), (&"ok".into(), &"quota".into()), "{slowed}");
    assert_eq!(slowed["verdicts"][0]["outcome"], "delayed", "{slowed}");
    let words = site.tell(&["status", "web1"]);
    assert!(words.contains("delayed since") && words.contains("leave by themselves"), "{words}");
    agent.wait_sum("sendwarden_delayed_accounts", &[], 2.0);
    assert!(!status(&site, "web2")["delay"].is_object());
    // Killed while the next ones leave: what has left and what is about to is not forgotten.
    wait_until("the second turn", || site.arrivals("a").len() > QUOTA);
    agent.kill();
    let agent = site.agent();
    wait_until("the second turn to be over", || site.arrivals("a").len() >= 2 * QUOTA - 1);
    wait_until("all of both to arrive", || {
        site.arrivals("a").len() == 3 * QUOTA && site.arrivals("b").len() == 2 * QUOTA
    });
    pace::check(&site.arrivals("a"), QUOTA, 60, 3 * QUOTA, true);
    pace::check(&site.arrivals("b"), QUOTA, 60, 2 * QUOTA, false);
    agent.wait_sum("sendwarden_delayed_accounts", &[], 0.0);
    let after = status(&site, "web1");
    assert_eq!((&after["state"], &after["delay"], &after["held_messages"]), (&"ok".into(), &Value::Null, &0.into()));
    assert_eq!(after["verdicts"].as_array().unwrap().len(), 1, "said once within a window: {after}");
    agent.stop();
}

#[test]
fn what_waits_for_its_turn_is_purged_released_or_blocked_like_all_that_is_held() {
    let site = Site::new(&RULES.replace("window: 1m, limit: 20", "window: 1h, limit: 3"), Role::Root);
    let agent = site.agent();
    for user in ["web1", "web2", "web3"] {
        numbered(&site, user, user, 0..9);
    }
    let waits = |user: &str, n: usize| site.on_hold(user).len() == n;
    wait_until("all but three of each to wait", || ["web1", "web2", "web3"].iter().all(|user| waits(user, 6)));

    site.order(&["purge", "web1", "--yes"]);
    wait_until("what waited to be deleted", || waits("web1", 0));
    site.order(&["unblock", "web2"]);
    wait_until("everything to leave", || site.arrivals("web2").len() == 9);
    // A person has said so: it goes on like that.
    numbered(&site, "web2", "more", 0..5);
    wait_until("more of it to leave", || site.arrivals("more").len() == 5);
    assert!(!status(&site, "shop")["delay"].is_null());
    site.order(&["block", "shop"]);
    let blocked = wait_for("the block", || Some(status(&site, "shop")).filter(|view| view["state"] == "ko"));
    assert_eq!((&blocked["delay"], &blocked["held_messages"]), (&Value::Null, &6.into()), "{blocked}");
    site.order(&["unblock", "shop"]);
    wait_until("everything to leave", || site.arrivals("web3").len() == 9);
    assert_eq!(site.arrivals("web1").len(), 3);
    agent.stop();
}

#[test]
fn without_a_gate_it_is_told_and_nothing_waits() {
    let site = Site::new(&RULES.replace("mode: enforce", "mode: watch").replace("limit: 20", "limit: 2"), Role::Root);
    let agent = site.agent();
    numbered(&site, "web1", "a", 0..6);
    wait_until("all to arrive", || site.arrivals("a").len() == 6);
    wait_until("it to be told", || status(&site, "web1")["verdicts"][0]["outcome"] == "no_gate");
    agent.stop();
    let mut check = support::place::command(env!("CARGO_BIN_EXE_sendwarden"));
    let said = check.args(["check", "--config"]).arg(&site.config).output().unwrap();
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.contains("quota") && said.contains("needs a gate that holds mail"), "{said}");
}
