//! What is held leaves a real Postfix as it was ordered: slowly and oldest first, in part, or deleted because it was held
//! too long; nothing else is touched.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]
#![allow(clippy::disallowed_methods, reason = "a test of real servers starts processes")]
mod support;

use std::fs;
use std::process::Command;

use serde_json::Value;
use support::held::Site;
use support::helper::Role;
use support::{wait_for, wait_until};

const LATER: &str = "450 4.2.1 come again";
const TAKEN: &str = "250 2.0.0 Ok";

fn set(site: &Site, more: &str) {
    fs::write(&site.config, fs::read_to_string(&site.config).unwrap() + more).unwrap();
}

fn errors(site: &Site, account: &str) -> Vec<Value> {
    let text = site.tell(&["errors", account, "--limit", "100", "--format", "json"]);
    let view: Value = serde_json::from_str(&text).unwrap();
    view["errors"].as_array().unwrap().clone()
}

#[test]
fn what_is_held_too_long_is_deleted_and_told_for_each_recipient() {
    too_long(Role::Root);
}

#[test]
fn what_is_held_too_long_is_deleted_and_told_for_each_recipient_by_an_ordinary_user() {
    too_long(Role::Ordinary);
}

fn too_long(role: Role) {
    let site = Site::new("", role);
    set(&site, "hold:\n  held_max: 20s\n");
    site.postfix.forge(LATER);
    let two = ["h1@forge.test", "h1-too@forge.test"];
    site.postfix.sendmail("web1", "web1@hosting.test", &two, "X-Test-Id: h1\n\nbody\n");
    let own = site.postfix.queue_id(two[0]);
    let admins = site.waits("web1", "admins");
    site.postfix.run("postsuper", &["-h", &admins]);
    let other = site.waits("web2", "k1");
    let agent = site.agent();
    site.wait_queued(&agent, "web1", 3.0);
    site.tell(&["block", "web1"]);
    wait_until("its mail to be on hold", || site.queue_of(&own).as_deref() == Some("hold"));

    wait_until("its time to be over", || site.queue_of(&own).is_none());
    let told = wait_for("its errors", || Some(errors(&site, "web1")).filter(|rows| rows.len() >= 2));
    let mut to: Vec<&str> = told.iter().filter_map(|row| row["recipient"].as_str()).collect();
    to.sort_unstable();
    assert_eq!(to, ["h1-too@forge.test", "h1@forge.test"], "{told:?}");
    assert!(
        told.iter().all(|row| row["outcome"] == "deleted"
            && row["reply"] == "held for 20 seconds and not released"
            && row["sender"] == "web1@hosting.test"),
        "{told:?}"
    );
    assert_eq!(site.queue_of(&admins).as_deref(), Some("hold"), "an administrator's hold stands");
    assert!(site.queue_of(&other).is_some_and(|queue| queue != "hold"), "the other account's mail is where it was");
    assert!(errors(&site, "web2").is_empty());
    let status = site.wait_idle("web1");
    assert_eq!((&status["state"], &status["held_messages"]), (&"ko".into(), &0.into()), "the block stands: {status}");
    let orders = status["orders"].as_array().unwrap();
    let is = |order: &Value, outcome: &str| order["action"] == "purge" && order["outcome"] == outcome;
    assert!(orders.iter().any(|order| is(order, "warned")), "it was warned of: {status}");
    assert!(orders.iter().any(|order| is(order, "done") && order["by"] == "sendwarden"), "{status}");
    agent.stop();
    assert_eq!(["h1", "admins"].map(|name| site.delivered(name)), [0, 0]);
}

#[test]
fn slowly_and_the_oldest_first() {
    slowly(Role::Root);
}

#[test]
fn slowly_and_the_oldest_first_by_an_ordinary_user() {
    slowly(Role::Ordinary);
}

fn slowly(role: Role) {
    let site = Site::new("", role);
    site.postfix.forge(LATER);
    let names = ["s1", "s2", "s3", "s4"];
    let ids: Vec<String> = names.map(|name| site.waits("web1", name)).to_vec();
    let agent = site.agent();
    site.wait_queued(&agent, "web1", 4.0);
    site.tell(&["block", "web1"]);
    wait_until("its mail to be on hold", || ids.iter().all(|id| site.queue_of(id).as_deref() == Some("hold")));
    site.wait_idle("web1");
    site.postfix.forge(TAKEN);
    let refused = Command::new(env!("CARGO_BIN_EXE_sendwarden"))
        .args(["unblock", "web1", "--drip", "50", "--config"])
        .arg(&site.config)
        .output()
        .unwrap();
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    // One every two seconds: each of them is seen on its own.
    let said = site.tell(&["unblock", "web1", "--drip", "1800/h"]);
    assert!(said.contains("state ok; 4 messages to release, 1800 an hour, the oldest first"), "{said}");
    let status = site.status("web1");
    assert_eq!((&status["state"], &status["drip"]), (&"ok".into(), &1800.into()), "{status}");
    assert!(site.tell(&["status", "web1"]).contains("released slowly, 1800 an hour"));
    // What the account sends now goes out at once, before what was held.
    site.postfix.sendmail("web1", "web1@hosting.test", &["new@forge.test"], "X-Test-Id: new\n\nbody\n");
    wait_until("what is new to be delivered", || site.delivered("new") == 1);
    assert_eq!(site.delivered("s4"), 0, "the last has not left yet");
    wait_until("everything to be delivered", || names.iter().all(|name| site.delivered(name) == 1));
    let came: Vec<String> =
        site.postfix.forge.messages().iter().filter_map(|one| one.unique().map(str::to_owned)).collect();
    let held: Vec<&String> = came.iter().filter(|name| name.starts_with('s')).collect();
    assert_eq!(held, names, "the oldest first");
    let status = wait_for("the end of it", || Some(site.status("web1")).filter(|status| status["drip"].is_null()));
    assert_eq!(status["held_messages"], 0, "{status}");
    agent.stop();
}

#[test]
fn a_part_is_counted_first_and_exactly_that_is_released_or_purged() {
    a_part(Role::Root);
}

#[test]
fn a_part_is_counted_first_and_exactly_that_is_released_or_purged_by_an_ordinary_user() {
    a_part(Role::Ordinary);
}

fn a_part(role: Role) {
    let site = Site::new("", role);
    site.postfix.forge(LATER);
    let mail = |name: &str, sender: &str, too: &[&str]| {
        let to = format!("{name}@forge.test");
        let all: Vec<&str> = [to.as_str()].into_iter().chain(too.iter().copied()).collect();
        site.postfix.sendmail("web1", sender, &all, &format!("X-Test-Id: {name}\n\nbody\n"));
        site.postfix.queue_id(&to)
    };
    let ids = [
        mail("p1", "news@hosting.test", &[]),
        mail("p2", "shop@hosting.test", &["too@defer.test"]),
        mail("p3", "shop@hosting.test", &[]),
        mail("p4", "spam@hosting.test", &[]),
    ];
    let agent = site.agent();
    site.wait_queued(&agent, "web1", 5.0);
    site.tell(&["block", "web1"]);
    let on_hold = || ids.each_ref().map(|id| site.queue_of(id).as_deref() == Some("hold"));
    wait_until("its mail to be on hold", || on_hold() == [true; 4]);
    site.wait_idle("web1");
    site.postfix.forge(TAKEN);

    let said = site.tell(&["unblock", "web1", "--sender", "SHOP@hosting.test", "--dry-run"]);
    assert!(said.contains("web1: 2 of 4 messages on hold, the oldest on hold since "), "{said}");
    assert!(site.tell(&["unblock", "web1", "--older-than", "1h"]).contains("web1: 0 of 4 messages"));
    assert_eq!(on_hold(), [true; 4], "a count does nothing");
    site.tell(&["unblock", "web1", "--sender", "shop@hosting.test", "--recipient-domain", "defer.test"]);
    wait_until("what is meant to be delivered", || site.delivered("p2") == 1);
    let status = site.wait_idle("web1");
    assert_eq!((&status["state"], &status["held_messages"]), (&"ko".into(), &3.into()), "the block stands: {status}");
    let refused = Command::new(env!("CARGO_BIN_EXE_sendwarden"))
        .args(["purge", "web1", "--sender", "spam@hosting.test", "--config"])
        .arg(&site.config)
        .output()
        .unwrap();
    assert_eq!(refused.status.code(), Some(2), "nobody is asked here: {refused:?}");
    assert_eq!(on_hold(), [true, false, true, true]);
    site.tell(&["purge", "web1", "--sender", "spam@hosting.test", "--yes"]);
    wait_until("what is meant to be gone", || site.queue_of(&ids[3]).is_none());
    let status = site.wait_idle("web1");
    assert_eq!((&status["state"], &status["held_messages"]), (&"ko".into(), &2.into()), "{status}");
    assert_eq!(on_hold(), [true, false, true, false]);

    // What came on hold after the count is not in the list, and a list serves its account only.
    let list = |body: &str, account: &str| post(&site, account, "select", body);
    let (_, found) = list(r#"{"sender":"shop@hosting.test"}"#, "web1");
    let selection = found["selection"].as_str().unwrap().to_owned();
    let order = format!(r#"{{"action":"UNBLOCK","selection":"{selection}"}}"#);
    site.postfix.forge(LATER);
    let late = mail("p5", "shop@hosting.test", &[]);
    site.wait_queued(&agent, "web1", 4.0);
    site.tell(&["block", "web1", "--scope", "all"]);
    wait_until("the late one to be on hold", || site.queue_of(&late).as_deref() == Some("hold"));
    site.wait_idle("web1");
    site.waits("web2", "other");
    site.postfix.forge(TAKEN);
    wait_until("the other account to be known", || post(&site, "web2", "request", &order).0 == 409);
    assert_eq!(post(&site, "web1", "request", &order).0, 200);
    wait_until("what was counted to leave", || site.queue_of(&ids[2]).is_none());
    site.wait_idle("web1");
    assert_eq!(site.queue_of(&late).as_deref(), Some("hold"), "it was not counted");
    assert_eq!(list(r#"{"sender":""}"#, "web1").0, 400);
    assert_eq!(list(r#"{"older_than":"2"}"#, "web1").0, 400);
    agent.stop();
    assert_eq!(["p1", "p2", "p4", "p5"].map(|name| site.delivered(name)), [0, 1, 0, 0]);
}

fn post(site: &Site, account: &str, what: &str, body: &str) -> (u16, Value) {
    let url = format!("http://{}/api/v1/accounts/{account}/{what}", site.address);
    let headers = ["-H", "Content-Type: application/json", "-H", "Authorization: Bearer 0123456789abcdef"];
    let output =
        Command::new("curl").args(["-s", "-w", "\n%{http_code}", "-d", body]).args(headers).arg(url).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (body, code) = text.rsplit_once('\n').unwrap();
    (code.parse().unwrap(), serde_json::from_str(body).unwrap_or_default())
}
