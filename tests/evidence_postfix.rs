//! Evidence on a real Postfix: what a verdict rests on is what the test has sent, nothing of anybody else, and no address.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]
#![allow(clippy::disallowed_methods, reason = "a test of real servers starts processes")]
mod support;

use serde_json::{Value, json};
use support::gated::Site;
use support::helper::Role;
use support::{wait_for, wait_until};

const RULES: &str = "gate:\n  mode: enforce\nenforcement: {dry_run: false}\nrules:\n  \
                     - {name: failing, signal: errors, window: 1h, limit: 3, action: block}\n";
/// So that the header that PHP writes names the script.
const CHECKS: &str = "header_checks = regexp:{ { /^X-PHP-Originating-Script:/ INFO } }\n";

fn view(site: &Site, arguments: &[&str]) -> Value {
    serde_json::from_str(&site.tell(&[arguments, &["--format", "json"]].concat())).unwrap()
}

/// A message of web1's from this script.
fn send(site: &Site, script: &str, recipients: &[String]) {
    let text = format!("Subject: x\nX-PHP-Originating-Script: 2001:{script}\n\nbody\n");
    let to: Vec<&str> = recipients.iter().map(String::as_str).collect();
    site.postfix.sendmail("web1", "web1@hosting.test", &to, &text);
}

fn gathered(site: &Site, account: &str) -> Value {
    wait_for("the evidence", || {
        let verdict = view(site, &["verdicts", account])["verdicts"][0].clone();
        verdict["evidence"]["gathered"].is_string().then_some(verdict)
    })
}

/// What is the same whenever it is gathered.
fn lasting(evidence: &Value) -> Value {
    let mut evidence = evidence.clone();
    evidence["gathered"] = Value::Null;
    // A message that waits is put on hold meanwhile.
    evidence["lines"] = Value::Null;
    evidence
}

#[test]
fn evidence_is_what_was_sent_and_has_no_address() {
    let site = Site::of(RULES, Role::Root, "accounts: []\n", CHECKS);
    let agent = site.agent();
    // Local parts that stand nowhere else.
    let mut people: Vec<String> = Vec::new();
    let mut to = |domain: &str| {
        let local = format!("Kunde{}zq", people.len());
        people.push(local.clone());
        format!("{local}@{domain}")
    };
    for _ in 0..4 {
        send(&site, "form.php", &[to("accept.test"), to("Other.test")]);
    }
    for _ in 0..2 {
        send(&site, "news.php", &[to("other.test")]);
    }
    send(&site, "form.php", &[to("defer.test")]);
    for n in 0..3 {
        site.postfix.sendmail(
            "web2",
            "web2@hosting.test",
            &[&format!("nachbar{n}@neighbour.test")],
            "Subject: y\n\nz\n",
        );
    }
    let figures = |view: &Value| (view["sent"].as_u64().unwrap_or(0), view["deferred"].as_u64().unwrap_or(0));
    wait_until("all to be delivered", || figures(&view(&site, &["status", "web1"])) == (10, 1));
    wait_until("the neighbour's mail", || view(&site, &["status", "web2"])["sent"] == 3);
    // The receiver says the name alone, and another's address.
    for n in 0..4_u64 {
        let recipient = to(if n == 0 { "forge.test" } else { "reject.test" });
        let local = recipient.split('@').next().unwrap();
        site.postfix.forge(&format!("550 5.1.1 user {} unknown, ask chef@forge.test", local.to_lowercase()));
        send(&site, "form.php", std::slice::from_ref(&recipient));
        wait_until("the bounce", || view(&site, &["status", "web1"])["bounced"] == n + 1);
    }
    let verdict = gathered(&site, "web1");
    assert_eq!((&verdict["rule"], &verdict["outcome"]), (&"failing".into(), &"blocked".into()), "{verdict}");
    let evidence = &verdict["evidence"];
    assert_eq!((&evidence["messages"], &evidence["recipients"]), (&11.into(), &15.into()), "{evidence}");
    assert_eq!(evidence["scripts"], json!([{"name": "form.php", "count": 9}, {"name": "news.php", "count": 2}]));
    let domains = json!([
        {"name": "other.test", "count": 6}, {"name": "accept.test", "count": 4},
        {"name": "reject.test", "count": 3, "errors": 3}, {"name": "defer.test", "count": 1},
        {"name": "forge.test", "count": 1, "errors": 1},
    ]);
    assert_eq!((&evidence["domains"], &evidence["domain_count"]), (&domains, &5.into()), "{evidence}");
    assert_eq!(evidence["classes"][0], json!({"name": "unknown_recipient", "count": 4}), "{evidence}");
    assert_eq!(evidence["classes"].as_array().unwrap().len(), 2, "and the one that is put off: {evidence}");
    assert_eq!((&evidence["attribution"], &evidence["cut"]), (&"proven".into(), &Value::Null));
    // Of those of one second any may be the first: the log has whole seconds.
    let log = site.postfix.log();
    let own = log.lines().filter(|line| line.contains("from=<web1@hosting.test>") && line.contains("uid="));
    let handed: Vec<(&str, &str)> = own.filter_map(|line| Some((line.get(..15)?, line.split(": ").nth(1)?))).collect();
    let of_second = |second: &str, id: &Value| handed.iter().any(|one| one.0 == second && *id == one.1);
    assert!(of_second(handed[0].0, &evidence["first"]["queue_id"]), "{evidence}");
    let mut accepted = handed.iter().filter(|one| log.contains(&format!("{}: from=<web1@hosting.test>, size=", one.1)));
    assert!(of_second(accepted.next_back().unwrap().0, &evidence["last"]["queue_id"]), "{evidence}");

    // Lines: every bounce, in words of the receiver, and no more than ten.
    let lines: Vec<&str> = evidence["lines"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    let count = |words: &str| lines.iter().filter(|line| line.contains(words)).count();
    assert_eq!(lines.len(), 10, "{lines:#?}");
    assert_eq!(count("…@reject.test bounced 5.1.1 (unknown_recipient): "), 3, "{lines:#?}");
    assert_eq!(count("<…@reject.test>: Recipient address rejected: User unknown"), 3, "{lines:#?}");
    assert_eq!(count("550 5.1.1 user … unknown, ask …@forge.test"), 1, "{lines:#?}");
    let all = view(&site, &["verdicts", "web1"]).to_string() + &site.tell(&["verdicts", "web1"]);
    let shown = all.clone() + &site.tell(&["status", "web1"]);
    for person in people.iter().map(String::as_str).chain(["nachbar", "neighbour.test", "chef"]) {
        assert!(!shown.to_lowercase().contains(&person.to_lowercase()), "{person} in {shown}");
    }

    // What to do, for both, in both languages.
    let next = &verdict["next"];
    for (whose, language, words) in [
        ("owner", "en", "the script form.php"),
        ("owner", "fr", "le script form.php"),
        ("operator", "en", "sendwarden trace"),
        ("operator", "fr", "sendwarden trace"),
    ] {
        assert!(next[whose][language].as_str().unwrap().contains(words), "{whose} {language}: {next}");
    }
    assert!(next["owner"]["en"].as_str().unwrap().contains("do not exist"), "{next}");
    for words in ["failing: 4 errors, limit 3: blocked", "recipients in other.test (6), accept.test (4)", "que faire: "]
    {
        assert!(site.tell(&["status", "web1"]).contains(words), "{words}: {}", site.tell(&["status", "web1"]));
    }
    assert!(site.tell(&["verdicts"]).contains("web1"), "the list of all");

    // Killed before it was stored: the next agent gathers it.
    agent.kill();
    let state = site.config.parent().unwrap().join("state/sendwarden.db");
    let store = rusqlite::Connection::open(state).unwrap();
    assert_eq!(store.execute("UPDATE verdict SET evidence = NULL", []).unwrap(), 1);
    drop(store);
    assert!(site.tell(&["verdicts", "web1"]).contains("is being gathered"));
    let agent = site.agent();
    assert_eq!(lasting(&gathered(&site, "web1")["evidence"]), lasting(evidence));
    agent.stop();
}
