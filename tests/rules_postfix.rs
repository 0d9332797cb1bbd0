//! Rules on a real Postfix: the account that crosses a limit is blocked and nobody else, with the evidence; under a dry run
//! nothing is touched; a person's unblock is respected; and none of it is said twice after a crash.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]
#![allow(clippy::disallowed_methods, reason = "a test of real servers starts processes")]
mod support;

use std::fs;

use serde_json::Value;
use support::gated::Site;
use support::helper::Role;
use support::{wait_for, wait_until};

const GATE: &str = "gate:\n  mode: enforce\n";
const BURST: &str = "rules:\n  - {name: burst, signal: messages, window: 1h, limit: 10, action: block, duration: 6h}\n";

fn status(site: &Site, account: &str) -> Value {
    serde_json::from_str(&site.tell(&["status", account, "--format", "json"])).unwrap()
}

fn send(site: &Site, user: &str, names: &[String]) {
    names.iter().for_each(|name| site.script(user, name));
}

fn names(prefix: &str, n: usize) -> Vec<String> {
    (0..n).map(|at| format!("{prefix}{at}")).collect()
}

/// Every message of the prefix is with the receiver or on hold, each once.
fn accounted(site: &Site, prefix: &str, n: usize) -> (usize, usize) {
    let found = wait_for("every message to be delivered or on hold", || {
        let (arrived, held) = (site.arrived(prefix), site.on_hold(prefix));
        (arrived.len() + held.len() >= n).then_some((arrived, held))
    });
    let (mut all, counts) = ([found.0.clone(), found.1.clone()].concat(), (found.0.len(), found.1.len()));
    all.sort();
    let mut expected = names(prefix, n);
    expected.sort();
    assert_eq!(all, expected);
    counts
}

#[test]
fn the_account_that_crosses_a_limit_is_blocked_and_nobody_else() {
    let rules = format!("{GATE}enforcement: {{dry_run: false}}\n{BURST}");
    let site = Site::new(&rules, Role::Root);
    let mut agent = site.agent();
    send(&site, "web1", &names("q", 10));
    wait_until("the limit to be reached", || status(&site, "web1")["messages"] == 10);
    assert_eq!(status(&site, "web1")["state"], "ok", "ten are no more than the limit");
    assert!(status(&site, "web1")["verdicts"].is_null());

    site.script("web1", "q10");
    let blocked = wait_for("the account to be blocked", || {
        Some(status(&site, "web1")).filter(|view| view["state"] == "ko" && view["sanction"]["under_way"].is_null())
    });
    assert_eq!(blocked["sanction"]["by"], "rule burst", "{blocked}");
    assert_eq!(blocked["sanction"]["reason"], "11 messages in 1h, limit 10", "{blocked}");
    assert_eq!(blocked["sanction"]["liftable_by"], "owner", "{blocked}");
    assert!(blocked["sanction"]["until"].is_string(), "{blocked}");
    let verdict = &blocked["verdicts"][0];
    assert_eq!((&verdict["rule"], &verdict["outcome"]), (&"burst".into(), &"blocked".into()), "{verdict}");
    assert_eq!((&verdict["observed"], &verdict["limit"]), (&11.0.into(), &10.0.into()), "{verdict}");
    assert_eq!(verdict["order"], blocked["sanction"]["order"], "{verdict}");
    assert_eq!(verdict["evidence"]["attribution"], "proven", "{verdict}");
    send(&site, "web2", &names("w", 10));
    send(&site, "web1", &(11..20).map(|at| format!("q{at}")).collect::<Vec<_>>());
    let (out, held) = accounted(&site, "q", 20);
    // What was delivered before the log told of it is out; nothing is after the block.
    assert!(held >= 9 && out >= 10, "{out} out, {held} held");
    assert_eq!(accounted(&site, "w", 10), (10, 0), "somebody else's mail goes on");
    assert_eq!(status(&site, "web2")["state"], "ok");
    agent.wait_sum("sendwarden_rule_verdicts_total", &["rule=\"burst\"", "outcome=\"blocked\""], 1.0);
    agent.wait_sum("sendwarden_rules_armed", &[], 1.0);
    agent.wait_sum("sendwarden_rule_block_budget", &[], 19.0);
    let burst = |account| [format!("account=\"{account}\""), "rule=\"burst\"".to_owned()];
    for (account, value) in [("web1", 20.0), ("web2", 10.0)] {
        let labels = burst(account);
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        agent.wait_sum("sendwarden_account_window", &labels, value);
        agent.wait_sum("sendwarden_account_window_limit", &labels, 10.0);
    }
    assert!(agent.sum("sendwarden_rule_evaluations_total", &[]) >= 30.0);
    let text = site.tell(&["status", "web1"]);
    assert!(text.contains("by rule burst: 11 messages in 1h, limit 10"), "{text}");
    assert!(text.contains("burst: 11 messages, limit 10: blocked"), "{text}");

    // A crash: it is not said again, and the block stands.
    agent.kill();
    agent = site.agent();
    send(&site, "web1", &[String::from("k0")]);
    assert_eq!(accounted(&site, "k", 1), (0, 1));
    assert_eq!(status(&site, "web1")["verdicts"].as_array().unwrap().len(), 1);

    // A person lifts it: what was held goes out, and the rule does not block again, however much comes.
    site.order(&["unblock", "web1"]);
    wait_until("what was held to be delivered", || site.arrived("q").len() == 20 && site.arrived("k").len() == 1);
    send(&site, "web1", &names("r", 12));
    assert_eq!(accounted(&site, "r", 12), (12, 0));
    assert_eq!(status(&site, "web1")["state"], "ok");
    agent.stop();
}

#[test]
fn what_a_rule_did_is_taken_back_and_rules_are_switched_off() {
    let site = Site::new(&format!("{GATE}enforcement: {{dry_run: false}}\n{BURST}"), Role::Root);
    let mut agent = site.agent();
    let blocked = |user: &str| wait_until("a block", || status(&site, user)["sanction"]["by"] == "rule burst");
    for user in ["web1", "web2"] {
        send(&site, user, &names(&format!("{user}u"), 13));
        blocked(user);
    }
    site.order(&["block", "shop", "--reason", "by hand"]);
    let told = site.tell(&["undo", "--rule", "burst", "--since", "1h", "--dry-run"]);
    assert!(
        told.contains("web1  blocked ") && told.contains("2 accounts that it has blocked would be unblocked"),
        "{told}"
    );
    assert_eq!(status(&site, "web1")["state"], "ko");
    assert!(site.tell(&["undo", "--rule", "other", "--since", "1h"]).contains("has blocked nobody since"));
    wait_until("the blocks to be carried out", || {
        ["web1", "web2"].iter().all(|user| status(&site, user)["sanction"]["under_way"].is_null())
    });
    let told = site.tell(&["undo", "--rule", "burst", "--since", "1h"]);
    assert!(told.contains("2 accounts that it has blocked unblocked"), "{told}");
    for user in ["web1", "web2"] {
        wait_until("all mail to be delivered", || site.arrived(&format!("{user}u")).len() == 13);
        assert_eq!(status(&site, user)["state"], "ok");
    }
    assert_eq!(status(&site, "shop")["state"], "ko", "a person's block stands");

    assert!(site.tell(&["enforcement", "off"]).starts_with("enforcement off: rules say what they would do"));
    assert!(site.tell(&["status"]).contains("rules that would block: burst; muted: enforcement is off"));
    // Also after a crash.
    agent.kill();
    agent = site.agent();
    send(&site, "web4", &names("o", 13));
    assert_eq!(accounted(&site, "o", 13), (13, 0));
    wait_until("the verdict", || status(&site, "web4")["verdicts"][0]["outcome"] == "enforcement_off");
    assert_eq!(site.tell(&["enforcement", "on"]).trim(), "enforcement on; 1 rule is to block");
    assert_eq!(site.tell(&["enforcement", "on"]).trim(), "it is on already");
    agent.stop();
}

#[test]
fn a_dry_run_touches_nothing_and_says_what_it_would_do() {
    let site = Site::new(&format!("{GATE}{BURST}"), Role::Root);
    let agent = site.agent();
    send(&site, "web1", &names("d", 14));
    assert_eq!(accounted(&site, "d", 14), (14, 0));
    let view = wait_for("the verdict", || Some(status(&site, "web1")).filter(|view| view["verdicts"].is_array()));
    assert_eq!((&view["state"], &view["sanction"]), (&"ok".into(), &Value::Null), "{view}");
    let said = view["verdicts"][0]["text"].as_str().unwrap();
    assert!(said.starts_with("11 messages, limit 10: would block, but enforcement.dry_run is on"), "{said}");
    assert!(view["orders"].is_null(), "{view}");
    agent.wait_sum("sendwarden_rule_verdicts_total", &["outcome=\"dry_run\""], 1.0);
    agent.wait_sum("sendwarden_rules_armed", &[], 0.0);
    agent.wait_sum("sendwarden_rule_block_budget", &[], 20.0);
    assert!(agent.printed().contains("would block, but enforcement.dry_run is on"));
    let check = support::agent::sendwarden(&["check", "--config", site.config.to_str().unwrap()]);
    assert!(check.contains("rules: 1 armed rule is muted (burst): enforcement.dry_run is on"), "{check}");

    // Armed by a reload, and exempt accounts stay out of it.
    let armed = fs::read_to_string(&site.config).unwrap() + "enforcement: {dry_run: false, exempt: [web2]}\n";
    fs::write(&site.config, armed).unwrap();
    agent.signal(rustix::process::Signal::HUP);
    wait_until("the reload", || agent.printed().contains("rules, enforcement and metrics.max_accounts are in force"));
    send(&site, "web2", &names("e", 14));
    assert_eq!(accounted(&site, "e", 14), (14, 0));
    wait_until("the exempt account's verdict", || status(&site, "web2")["verdicts"][0]["outcome"] == "exempt");
    agent.stop();
}

#[test]
fn a_second_chance_doubles_limits_for_errors_and_a_relapse_is_told() {
    let rules = format!(
        "{GATE}enforcement: {{dry_run: false, force_for: 2h}}\nrules:\n  \
         - {{name: errs, signal: errors, window: 1h, limit: 3, action: block}}\n  \
         - {{name: nobody, signal: unknown_recipients, window: 1h, limit: 5, action: block}}\n"
    );
    let site = Site::new(&rules, Role::Root);
    let mut agent = site.agent();
    let fail = |from: usize, n: usize| {
        for at in from..from + n {
            site.postfix.sendmail("web1", "web1@hosting.test", &[&format!("x{at}@reject.test")], "Subject: x\n\nx\n");
        }
    };
    fail(0, 4);
    wait_until("too many errors to block it", || status(&site, "web1")["state"] == "bounce");
    site.order(&["unblock", "web1"]);
    wait_until("it to have a second chance", || status(&site, "web1")["state"] == "force");
    assert!(status(&site, "web1")["force_until"].is_string());
    agent.wait_sum("sendwarden_second_chance_accounts", &[], 1.0);
    assert!(site.tell(&["status", "web1"]).contains("second chance"));
    // Beyond the limit, not beyond twice the limit; and the rule that a person has overruled respects that.
    fail(4, 6);
    agent.wait_sum("sendwarden_account_recipients_total", &["account=\"web1\"", "outcome=\"bounced\""], 10.0);
    wait_until("the overruled rule to say so", || {
        let said = status(&site, "web1")["verdicts"].to_string();
        said.contains("lifted_by_person")
    });
    assert_eq!(status(&site, "web1")["state"], "force");
    // Also after a crash.
    agent.kill();
    agent = site.agent();
    fail(10, 1);
    let view = wait_for("twice the limit to block it", || {
        Some(status(&site, "web1")).filter(|view| view["state"] == "bounce")
    });
    assert_eq!(view["verdicts"][0]["rule"], "nobody", "{view}");
    assert_eq!((&view["verdicts"][0]["observed"], &view["verdicts"][0]["limit"]), (&11.0.into(), &10.0.into()));
    assert!(view["orders"].to_string().contains("relapse 1 of 2 on a second chance"), "{view}");
    agent.wait_sum("sendwarden_second_chance_accounts", &[], 0.0);
}
