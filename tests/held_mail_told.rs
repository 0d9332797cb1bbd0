//! A message on hold, as people ask for it: by its recipient, which no line of the log names; by its id; with its block and
//! its end; and its recipients in the figures, all of them, from the moment that it is held.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]
#![allow(clippy::disallowed_methods, reason = "a test of real servers starts processes")]
mod support;

use serde_json::Value;
use support::gated::Site;
use support::helper::Role;
use support::place::command;
use support::{wait_for, wait_until};

/// Two addresses that are one for the server.
const ALIASES: &str = "virtual_alias_maps = inline:{ { info@hosting.test = one@accept.test }, \
                       { sales@hosting.test = one@accept.test } }\n";

fn site(role: Role) -> Site {
    Site::of("gate:\n  mode: enforce\n", role, "accounts: []\n", ALIASES)
}

fn mail(site: &Site, user: &str, name: &str, to: &[&str]) {
    let text = format!("X-Test-Id: {name}\nMessage-ID: <{name}@hosting.test>\n\nbody\n");
    site.postfix.sendmail(user, &format!("{user}@hosting.test"), to, &text);
}

fn account(site: &Site, account: &str) -> Value {
    serde_json::from_str(&site.tell(&["status", account, "--format", "json"])).unwrap()
}

/// Exit status, and what was printed.
fn trace(site: &Site, arguments: &[&str]) -> (i32, String) {
    let mut binary = command(env!("CARGO_BIN_EXE_sendwarden"));
    let output = binary.arg("trace").args(arguments).arg("--config").arg(&site.config).output().unwrap();
    (
        output.status.code().unwrap(),
        [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat(),
    )
}

/// The log shows an address of this host, and the gate knows the process behind it.
#[test]
fn what_a_blocked_account_hands_in_by_local_smtp_is_in_its_own_figures() {
    const ALL: u64 = 20;
    let site = site(Role::Root);
    let agent = site.agent();
    site.tell(&["block", "web1"]);
    (0..ALL).for_each(|n| site.local("web1", &format!("local{n}-")));
    site.local("web2", "free");
    wait_until("all to be on hold", || site.on_hold("local").len() as u64 == ALL);
    wait_until("the other one", || site.arrived("free").len() == 1);
    // In the first half minute of a log it may be the rest of a message from before it.
    wait_until("its figures to have it", || account(&site, "web1")["held"] == ALL);
    let view = account(&site, "web1");
    let figures = ["held_messages", "messages", "recipients", "queued"].map(|name| view[name].as_u64());
    assert_eq!(figures, [Some(ALL); 4], "{view}");
    // Killed, the next one knows it too.
    agent.kill();
    let agent = site.agent();
    site.local("web1", "local-last");
    wait_until("the last one to be in them", || account(&site, "web1")["held"] == ALL + 1);
    site.tell(&["unblock", "web1"]);
    wait_until("all to arrive", || site.arrived("local").len() as u64 == ALL + 1);
    wait_until("its figures to have that", || account(&site, "web1")["sent"] == ALL + 1);
    assert_eq!(account(&site, "web1")["held"], 0);
    agent.stop();
}

#[test]
fn it_is_found_by_its_recipient_and_says_why_it_is_held_and_until_when() {
    told(Role::Root);
}

#[test]
fn it_is_found_by_its_recipient_by_an_ordinary_user() {
    told(Role::Ordinary);
}

fn told(role: Role) {
    let site = site(role);
    let agent = site.agent();
    site.tell(&["block", "web1", "--reason", "a form"]);
    mail(&site, "web1", "first", &["One@accept.test", "two@accept.test", "three@accept.test"]);
    wait_until("it to be on hold", || site.on_hold("two") == ["two"]);
    let id = site.postfix.queue_id("two@accept.test");
    let (_, text) = wait_for("the agent to tell of it", || {
        Some(trace(&site, &["TWO@accept.test"])).filter(|(status, text)| *status == 0 && text.contains("account web1"))
    });
    for words in [
        "to two@accept.test: held",
        "to three@accept.test: held",
        "ON HOLD since ",
        ", web1 is blocked (scope script) since ",
        ": a form\n",
        "if nobody releases it before\n",
        "sendwarden unblock web1; to delete it: sendwarden purge web1",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    for asked in [id.as_str(), "<first@hosting.test>"] {
        let (status, by) = trace(&site, &[asked]);
        assert!(
            status == 0 && by.contains("ON HOLD since") && by.contains("to two@accept.test: held"),
            "{asked}: {by}"
        );
    }
    let view: Value = serde_json::from_str(&trace(&site, &["two@accept.test", "--format", "json"]).1).unwrap();
    let held = &view["legs"][0]["held"];
    let time = |at: &Value| at.as_str().unwrap().parse::<jiff::Timestamp>().unwrap().as_second();
    assert_eq!(time(&held["deleted_at"]) - time(&held["since"]), 72 * 3_600, "{view}");
    assert_eq!((&held["state"], &held["block"]["reason"]), (&"ko".into(), &"a form".into()), "{view}");
    let (status, text) = trace(&site, &["nobody@accept.test"]);
    assert!(status == 1 && text.contains("nothing is known") && !text.contains("not looked up"), "{text}");

    // Somebody else's hold is told as such.
    site.postfix.run("postconf", &["-e", "defer_transports = smtp"]);
    site.postfix.run("postfix", &["reload"]);
    mail(&site, "web2", "admins", &["admins@accept.test"]);
    let others = site.postfix.queue_id("admins@accept.test");
    site.postfix.run("postsuper", &["-h", &others]);
    wait_until("the administrator's hold to be told", || {
        trace(&site, &[&others]).1.contains("ON HOLD, and not by sendwarden")
    });

    // Without an agent nobody can look into the queue.
    agent.stop();
    let (status, text) = trace(&site, &["two@accept.test"]);
    assert!(status == 1 && text.contains("not looked up: 1 message on hold"), "{text}");
    let (status, text) = trace(&site, &[&id]);
    assert!(status == 0 && text.contains("ON HOLD since") && text.contains("not looked up: "), "{text}");
}

#[test]
fn all_its_recipients_count_while_it_is_held_and_when_it_is_deleted() {
    let site = site(Role::Root);
    let agent = site.agent();
    site.tell(&["block", "web1"]);
    mail(&site, "web1", "first", &["one@accept.test", "two@accept.test", "two@accept.test", "three@accept.test"]);
    wait_until("its recipients to count", || account(&site, "web1")["held"] == 3);
    assert_eq!(
        (account(&site, "web1")["recipients"].as_u64(), account(&site, "web1")["messages"].as_u64()),
        (Some(3), Some(1))
    );
    // What the gate told stands in no log, and is known after a kill.
    agent.kill();
    let agent = site.agent();
    assert_eq!(account(&site, "web1")["held"], 3);
    site.tell(&["purge", "web1", "--yes"]);
    wait_until("all of them to be deleted", || account(&site, "web1")["deleted"] == 3);
    let view = account(&site, "web1");
    assert_eq!(
        (&view["recipients"], &view["queued"], &view["unaccounted"]),
        (&3.into(), &0.into(), &0.into()),
        "{view}"
    );

    // Two that are one for the server come to what that one comes to.
    site.order(&["block", "web1"]);
    mail(&site, "web1", "second", &["info@hosting.test", "sales@hosting.test"]);
    wait_until("its recipients to count", || account(&site, "web1")["held"] == 2);
    site.order(&["unblock", "web1"]);
    wait_until("it to be sent", || account(&site, "web1")["sent"] == 2);
    let view = account(&site, "web1");
    assert_eq!(
        (&view["recipients"], &view["queued"], &view["unaccounted"]),
        (&5.into(), &0.into(), &0.into()),
        "{view}"
    );
    assert_eq!(site.arrived("second"), ["second"]);
    agent.stop();
}
