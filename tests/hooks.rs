//! Notices to hooks, on a real Postfix: each order is told once, signed, to everybody who wants to know; receivers that are down,
//! hang, redirect or refuse slow nobody and lose nothing that there is room for, also when the agent is killed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]
#![allow(clippy::disallowed_methods, reason = "a test of real servers starts processes")]
mod support;

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sendwarden::notify::Event;
use serde_json::Value;
use support::agent::{Agent, configure};
use support::gated::Site;
use support::helper::{Role, USER};
use support::place::{command, succeed};
use support::receiver::{Answer, Receiver, Request};
use support::wait_until;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ServerConfig, crypto};

const SECRET: &str = "d2hhdCBpcyB3cml0dGVuIGhlcmU";
const TOKEN: &str = "T0ken-in-the-path";
const QUEUE: &str = "sendwarden_hook_queue_length";
const FATES: &str = "sendwarden_hook_deliveries_total";

fn site(role: Role, more: &str) -> Site {
    Site::new(&format!("gate:\n  mode: enforce\n{more}"), role)
}

/// Adds to the configuration, before the agent starts.
fn hooks(site: &Site, hooks: &str) {
    let text = fs::read_to_string(&site.config).unwrap();
    fs::write(&site.config, format!("{text}hooks:\n{hooks}")).unwrap();
}

/// A secret for the agent, whoever it is.
fn secret(dir: &Path) -> PathBuf {
    let path = dir.join("hook.secret");
    fs::write(&path, format!("{SECRET}\n")).unwrap();
    let group = succeed(command("id").args(["-g", USER]), None).trim().parse().unwrap();
    chown(&path, None, Some(group)).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    path
}

fn fate(agent: &Agent, outcome: &str) -> f64 {
    agent.sum(FATES, &[&format!("outcome=\"{outcome}\"")])
}

/// What `openssl dgst` makes of the stamp and the body, as docs/hooks.md has it.
fn openssl(dir: &Path, request: &Request) -> String {
    let file = dir.join("signed");
    let stamp = request.header("Sendwarden-Timestamp").unwrap();
    fs::write(&file, [stamp.as_bytes(), b".", &request.body].concat()).unwrap();
    let said = succeed(command("openssl").args(["dgst", "-sha256", "-hmac", SECRET, "-r"]).arg(&file), None);
    format!("v1={}", said.split(' ').next().unwrap())
}

fn time(at: &Value) -> i64 {
    at.as_str().unwrap().parse::<jiff::Timestamp>().unwrap().as_second()
}

#[test]
fn each_order_is_told_once_and_signed_and_nothing_secret_is_shown() {
    let site = site(Role::Ordinary, "log_level: trace\n");
    let dir = site.config.parent().unwrap().to_owned();
    let (all, some) = (site.postfix.address(1), site.postfix.address(2));
    let receiver = Receiver::start(&all, Answer::Status(204));
    let other = Receiver::start(&some, Answer::Status(200));
    let port = some.rsplit(':').next().unwrap();
    hooks(
        &site,
        &format!(
            "  - url: http://{all}/{TOKEN}?key={TOKEN}\n    secret_file: {}\n  - url: http://localhost:{port}\n    events: [purged]\n",
            secret(&dir).display()
        ),
    );
    let agent = site.agent();
    site.tell(&["block", "web1", "--reason", "a \"form\""]);
    site.order(&["block", "web1"]);
    site.script("web1", "a1");
    wait_until("it to be on hold", || site.on_hold("a1") == ["a1"]);
    site.order(&["unblock", "web1"]);
    wait_until("it to arrive", || site.arrived("a1") == ["a1"]);
    site.order(&["block", "web1"]);
    site.script("web1", "a2");
    wait_until("it to be on hold", || site.on_hold("a2") == ["a2"]);
    site.order(&["purge", "web1", "--yes"]);
    wait_until("it to be deleted", || site.on_hold("a2").is_empty());
    site.order(&["block", "web2", "--for", "1h", "--scope", "all"]);
    let told = ["blocked web1", "unblocked web1", "blocked web1", "purged web1", "blocked web2"];
    wait_until("all of it to be told", || receiver.told().len() == told.len());
    wait_until("the purge to be told", || other.told() == ["purged web1"]);
    agent.wait_sum(FATES, &["hook=\"127.0.0.1\"", "outcome=\"delivered\""], 5.0);
    agent.wait_sum(FATES, &["hook=\"localhost\"", "outcome=\"delivered\""], 1.0);
    agent.wait_sum(QUEUE, &[], 0.0);
    assert_eq!((receiver.told(), other.told().len()), (told.map(str::to_owned).to_vec(), 1));

    let requests = receiver.requests();
    let mut ids: Vec<String> = requests.iter().map(Request::id).collect();
    let now = jiff::Timestamp::now().as_second();
    for request in &requests {
        assert_eq!(request.line, format!("POST /{TOKEN}?key={TOKEN} HTTP/1.1"));
        assert_eq!(request.header("Host"), Some(all.as_str()));
        assert_eq!(request.header("Content-Type"), Some("application/json"));
        assert_eq!(request.header("Sendwarden-Id"), Some(request.id().as_str()));
        let stamp: i64 = request.header("Sendwarden-Timestamp").unwrap().parse().unwrap();
        assert!((now - stamp).abs() < 120 && (time(&request.json()["time"]) - stamp).abs() < 60, "{request:?}");
        assert_eq!(request.header("Sendwarden-Signature"), Some(openssl(&dir, request).as_str()));
        assert_eq!(request.json()["host"], rustix::system::uname().nodename().to_str().unwrap());
    }
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), told.len(), "{ids:?}");
    let first = requests[0].json();
    let shown = ["state", "by", "reason", "scope", "until"].map(|key| first[key].clone());
    assert_eq!(shown, ["ko".into(), "root".into(), "a \"form\"".into(), "script".into(), Value::Null], "{first}");
    let shown: Vec<Value> = requests.iter().map(|request| request.json()["state"].clone()).collect();
    assert_eq!(shown, ["ko", "ok", "ko", "ok", "ko"]);
    assert_eq!(requests[3].json()["details"], "1 deleted");
    let last = requests[4].json();
    // The hour begins when it is asked for, a moment before it is taken.
    let hour = time(&last["until"]) - time(&last["time"]);
    assert!((3_500..=3_600).contains(&hour) && last["scope"] == "all", "{last}");
    assert_eq!(other.requests()[0].header("Sendwarden-Signature"), None);
    assert_eq!(other.requests()[0].id(), requests[3].id());

    let checked = command(env!("CARGO_BIN_EXE_sendwarden")).arg("check").arg("--config").arg(&site.config).output();
    let checked = String::from_utf8(checked.unwrap().stdout).unwrap();
    assert!(checked.contains(&format!("ok    hook: http://{all}: all events; signed\n")), "{checked}");
    assert!(checked.contains(&format!("ok    hook: http://localhost:{port}: purged; not signed")), "{checked}");
    let all_that_is_shown = [agent.printed(), agent.metrics(), checked].concat();
    assert!(!all_that_is_shown.contains(TOKEN) && !all_that_is_shown.contains(SECRET), "{all_that_is_shown}");
    agent.stop();
}

#[test]
fn what_waits_outlives_a_kill_and_keeps_its_id() {
    let site = site(Role::Root, "");
    let address = site.postfix.address(1);
    hooks(&site, &format!("  - url: http://{address}/\n"));
    let receiver = Receiver::start(&address, Answer::Status(503));
    let agent = site.agent();
    site.tell(&["block", "web1"]);
    wait_until("a second try", || receiver.requests().len() >= 2);
    wait_until("tries to be counted", || fate(&agent, "retried") >= 2.0);
    assert_eq!((agent.sum(QUEUE, &[]), fate(&agent, "delivered")), (1.0, 0.0));
    let tries = receiver.requests();
    drop(receiver);
    agent.kill();
    // Nobody is there, and then somebody is.
    let agent = site.agent();
    agent.wait_sum(QUEUE, &[], 1.0);
    let counted = fate(&agent, "retried");
    wait_until("another try", || fate(&agent, "retried") > counted);
    let receiver = Receiver::start(&address, Answer::Status(200));
    agent.wait_sum(FATES, &["outcome=\"delivered\""], 1.0);
    agent.wait_sum(QUEUE, &[], 0.0);
    agent.kill();
    let agent = site.agent();
    site.tell(&["unblock", "web1"]);
    wait_until("the end of the block to be told", || receiver.told().len() == 2);
    assert_eq!(receiver.told(), ["blocked web1", "unblocked web1"]);
    let all: Vec<Request> = tries.into_iter().chain(receiver.requests().into_iter().take(1)).collect();
    assert!(all.iter().all(|request| request.body == all[0].body), "{all:?}");
    agent.stop();
}

/// In the middle of an order: what is told is in the store first, and what is in the store is told.
#[test]
fn what_is_told_is_in_the_store_first_and_what_is_in_the_store_is_told() {
    let site = site(Role::Root, "");
    let address = site.postfix.address(1);
    hooks(&site, &format!("  - url: http://{address}/\n"));
    let receiver = Receiver::start(&address, Answer::Status(200));
    let kill_at = site.config.with_file_name("kill-point");
    for (point, told) in [("order-taken", 0), ("order-kept", 1)] {
        fs::write(&kill_at, point).unwrap();
        let agent = site.agent();
        let mut block = command(env!("CARGO_BIN_EXE_sendwarden"));
        let block = block.args(["block", "web1", "--config", site.config.to_str().unwrap()]).output().unwrap();
        assert!(!block.status.success(), "{point}: {block:?}");
        agent.ended("the agent to die at the point");
        assert_eq!(receiver.told(), [""; 0], "{point}: told by an agent that died before it");
        fs::write(&kill_at, "").unwrap();
        let agent = site.agent();
        let status: Value = match told {
            0 => Value::Null,
            _ => serde_json::from_str(&site.tell(&["status", "web1", "--format", "json"])).unwrap(),
        };
        assert_eq!(told == 1, status["state"] == "ko", "{point}: {status}");
        wait_until("what is in the store to be told", || receiver.told().len() == told);
        agent.stop();
        assert_eq!(receiver.told().len(), told, "{point}");
    }
    // Nobody can write the store for a while.
    fs::remove_file(&kill_at).unwrap();
    let agent = site.agent();
    let store = rusqlite::Connection::open(site.config.with_file_name("state").join("sendwarden.db")).unwrap();
    store.busy_timeout(Duration::from_secs(30)).unwrap();
    store.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut unblock = command(env!("CARGO_BIN_EXE_sendwarden"));
    let unblock = unblock.args(["unblock", "web1", "--config", site.config.to_str().unwrap()]).output().unwrap();
    assert!(!unblock.status.success(), "{unblock:?}");
    assert_eq!(receiver.told().len(), 1, "told before it was in the store");
    store.execute_batch("ROLLBACK").unwrap();
    wait_until("it to be told", || receiver.told().len() == 2);
    assert_eq!(receiver.told()[1], "unblocked web1");
    agent.stop();
}

#[test]
fn a_receiver_that_hangs_slows_nobody() {
    let site = site(Role::Root, "");
    let (hangs, works) = (site.postfix.address(1), site.postfix.address(2));
    let (hanging, babbling) =
        (Receiver::start(&hangs, Answer::Hang), Receiver::start(&site.postfix.address(3), Answer::Babble));
    let working = Receiver::start(&works, Answer::Status(200));
    hooks(
        &site,
        &format!(
            "  - url: http://{hangs}/\n    timeout: 500ms\n  - url: http://{}/\n    timeout: 60s\n  - url: http://{works}/\n",
            site.postfix.address(3)
        ),
    );
    let agent = site.agent();
    site.tell(&["block", "web1"]);
    wait_until("the other one to be told", || working.told() == ["blocked web1"]);
    site.script("web1", "held");
    site.script("web2", "free");
    wait_until("other mail to pass", || site.arrived("free") == ["free"]);
    wait_until("it to be on hold", || site.on_hold("held") == ["held"]);
    wait_until("a third try", || hanging.requests().len() >= 3);
    let tries = hanging.requests();
    // After half a second, and a second more: with the usual patience it would be six.
    assert!(tries[1].at - tries[0].at < Duration::from_millis(5_500), "{tries:?}");
    site.tell(&["unblock", "web1"]);
    wait_until("the other one to be told", || working.told().len() == 2);
    // It would babble for a minute, and is not listened to for so long.
    wait_until("the one that babbles to be tried again", || babbling.requests().len() >= 2);
    agent.wait_sum(FATES, &["outcome=\"delivered\""], 2.0);
    agent.wait_sum(QUEUE, &[], 4.0);
    assert!(hanging.told().iter().all(|told| told == "blocked web1"), "in their order: {:?}", hanging.told());
    for receiver in [&hanging, &babbling] {
        receiver.answer(Answer::Status(200));
    }
    agent.wait_sum(QUEUE, &[], 0.0);
    assert_eq!(hanging.told().last().unwrap(), "unblocked web1");
    agent.stop();
}

#[test]
fn a_redirect_is_not_followed_and_a_refusal_is_final() {
    let site = site(Role::Root, "");
    let (moved, new) = (site.postfix.address(1), site.postfix.address(2));
    let new_place = Receiver::start(&new, Answer::Status(200));
    let receiver = Receiver::start(&moved, Answer::Redirect(format!("http://{new}/elsewhere")));
    hooks(&site, &format!("  - url: http://{moved}/\n"));
    let agent = site.agent();
    site.tell(&["block", "web1"]);
    wait_until("a second try", || receiver.requests().len() >= 2);
    assert!(agent.printed().contains("which is not followed"), "{}", agent.printed());
    receiver.answer(Answer::Redirect("/elsewhere".into()));
    let before = receiver.requests().len();
    wait_until("another try", || receiver.requests().len() > before);
    assert_eq!(new_place.told(), [""; 0]);
    assert!(receiver.requests().iter().all(|request| request.line == "POST / HTTP/1.1"), "{:?}", receiver.requests());
    receiver.answer(Answer::Status(422));
    agent.wait_sum(FATES, &["outcome=\"refused\""], 1.0);
    receiver.answer(Answer::Status(200));
    site.tell(&["unblock", "web1"]);
    agent.wait_sum(FATES, &["outcome=\"delivered\""], 1.0);
    assert_eq!(receiver.told().last().unwrap(), "unblocked web1");
    agent.stop();
}

#[test]
fn so_many_wait_and_those_beyond_are_dropped_and_counted() {
    let site = site(Role::Root, "");
    let address = site.postfix.address(1);
    hooks(&site, &format!("  - url: http://{address}/\n"));
    let agent = site.agent();
    site.tell(&["block", "web1"]);
    agent.wait_sum(QUEUE, &[], 1.0);
    agent.kill();
    // A thousand orders take minutes: all but a few of what waits is that one, again.
    let store = rusqlite::Connection::open(site.config.with_file_name("state").join("sendwarden.db")).unwrap();
    let (key, value): (Vec<u8>, Vec<u8>) = store
        .query_row("SELECT key, value FROM row WHERE kind = 18", [], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap();
    let (hook, first) = key.split_at(8);
    let first = u64::from_be_bytes(first.try_into().unwrap());
    for seq in first + 1..first + 998 {
        let key = [hook, &seq.to_be_bytes()].concat();
        store.execute("INSERT INTO row(kind, key, value) VALUES(18, ?1, ?2)", rusqlite::params![key, value]).unwrap();
    }
    drop(store);
    let agent = site.agent();
    agent.wait_sum(QUEUE, &[], 998.0);
    for order in ["unblock", "block", "unblock", "block"] {
        site.order(&[order, "web1"]);
    }
    agent.wait_sum(QUEUE, &[], 1_000.0);
    agent.wait_sum(FATES, &["outcome=\"dropped\""], 2.0);
    assert!(agent.printed().contains("1000 notices wait, and more are dropped"), "{}", agent.printed());
    let receiver = Receiver::start(&address, Answer::Status(200));
    agent.wait_sum(QUEUE, &[], 0.0);
    agent.wait_sum(FATES, &["outcome=\"delivered\""], 1_000.0);
    let told = receiver.told();
    assert_eq!(told[997..], ["blocked web1", "unblocked web1", "blocked web1"]);
    agent.stop();
}

#[test]
fn what_comes_to_its_end_and_what_is_too_much_is_told() {
    let site = site(Role::Root, "hold:\n  held_max: 12s\n  max_held: 1\n");
    let address = site.postfix.address(1);
    hooks(&site, &format!("  - url: http://{address}/\n"));
    let receiver = Receiver::start(&address, Answer::Status(200));
    let agent = site.agent();
    site.tell(&["block", "web1"]);
    site.script("web1", "one");
    wait_until("it to be on hold", || site.on_hold("one") == ["one"]);
    wait_until("no more to be held", || {
        site.script("web1", "two");
        receiver.told().contains(&"overflowed web1".to_owned())
    });
    wait_until("its end to be told", || receiver.told().contains(&"purged web1".to_owned()));
    let notices: Vec<Value> = receiver.requests().iter().map(Request::json).collect();
    let find =
        |event: &str| notices.iter().find(|notice| notice["event"] == event).unwrap_or_else(|| panic!("{event}"));
    assert_eq!((&find("warned")["by"], &find("warned")["state"]), (&"sendwarden".into(), &"ko".into()));
    assert!(find("warned")["details"].as_str().unwrap().contains("after 12 seconds"), "{notices:?}");
    assert_eq!(find("purged")["reason"], "held for 12 seconds and not released");
    assert_eq!(find("purged")["state"], "ko", "the block stands");
    agent.stop();
}

#[test]
fn what_a_rule_says_is_told_where_it_blocks_nobody() {
    let rules = "rules:\n  - {name: loud, signal: messages, window: 1h, limit: 2, action: notify}\n  \
                 - {name: armed, signal: recipients, window: 1h, limit: 2, action: block}\n  \
                 - {name: quiet, signal: messages, window: 1d, limit: 2, action: observe}\n";
    let site = site(Role::Root, rules);
    let address = site.postfix.address(1);
    hooks(&site, &format!("  - url: http://{address}/\n"));
    let receiver = Receiver::start(&address, Answer::Status(200));
    let agent = site.agent();
    (0..3).for_each(|n| site.script("web1", &format!("v{n}")));
    wait_until("both to be told", || receiver.told().len() == 2);
    let mut told: Vec<[String; 5]> = receiver
        .requests()
        .iter()
        .map(Request::json)
        .map(|notice| {
            ["event", "account", "by", "reason", "details"].map(|field| notice[field].as_str().unwrap().to_owned())
        })
        .collect();
    told.sort();
    let of = |by: &str, reason: &str, details: &str| ["verdict", "web1", by, reason, details].map(str::to_owned);
    let dry_run = "would block, but enforcement.dry_run is on";
    assert_eq!(
        told,
        [
            of("rule armed", "3 recipients in 1h, limit 2", dry_run),
            of("rule loud", "3 messages in 1h, limit 2", "notified"),
        ]
    );
    // A crash and the same lines again: nothing is told twice.
    agent.kill();
    let agent = site.agent();
    site.script("web1", "v3");
    agent.wait_sum("sendwarden_account_messages_accepted_total", &["account=\"web1\""], 4.0);
    // What was delivered and not noted yet comes again, as the same.
    let ids: std::collections::BTreeSet<String> =
        receiver.requests().iter().map(|request| request.json()["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids.len(), 2, "{ids:?}");
    agent.stop();
}

#[test]
fn a_quota_that_comes_to_its_end_is_told_at_half_and_at_nine_tenths() {
    let site = site(Role::Root, "quotas:\n  - {max_per_hour: 10, over: observe}\n");
    let address = site.postfix.address(1);
    hooks(&site, &format!("  - url: http://{address}/\n    events: [quota]\n"));
    let receiver = Receiver::start(&address, Answer::Status(200));
    let agent = site.agent();
    let told = |n: usize| {
        wait_until("it to be told", || receiver.told().len() == n);
        let of = |notice: Value| {
            ["event", "account", "by", "reason", "details"].map(|field| notice[field].as_str().unwrap().to_owned())
        };
        receiver.requests().iter().map(|request| of(request.json())).next_back().unwrap()
    };
    let warned =
        |reason: &str, details: &str| ["quota", "web1", "rule max_per_hour", reason, details].map(str::to_owned);
    (0..5).for_each(|n| site.script("web1", &format!("q{n}")));
    assert_eq!(told(1), warned("5 recipients in 1h, limit 10", "50 % of the quota is used"));
    (5..9).for_each(|n| site.script("web1", &format!("q{n}")));
    assert_eq!(told(2), warned("9 recipients in 1h, limit 10", "90 % of the quota is used"));
    // A crash, and more of the same: once in the window.
    agent.kill();
    let agent = site.agent();
    (9..12).for_each(|n| site.script("web1", &format!("q{n}")));
    agent.wait_sum("sendwarden_account_messages_accepted_total", &["account=\"web1\""], 12.0);
    let ids: std::collections::BTreeSet<String> =
        receiver.requests().iter().map(|request| request.json()["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids.len(), 2, "{ids:?}");
    agent.stop();
}

/// A certificate for 127.0.0.1 of an authority of our own, and the same of one that nobody knows.
fn certificates(dir: &Path) -> Arc<ServerConfig> {
    let run = |arguments: &[&str]| succeed(command("openssl").args(arguments).current_dir(dir), None);
    let ec = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"];
    let ca = ["req", "-x509", "-subj", "/CN=Our own", "-keyout", "ca.key", "-out", "ca.pem"];
    run(&[&ca[..], &ec].concat());
    run(&[&["req", "-subj", "/CN=receiver", "-keyout", "key.pem", "-out", "req.pem"][..], &ec[..5]].concat());
    fs::write(dir.join("ext"), "subjectAltName=IP:127.0.0.1\n").unwrap();
    let sign = ["x509", "-req", "-in", "req.pem", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"];
    run(&[&sign[..], &["-days", "2", "-extfile", "ext", "-out", "cert.pem"]].concat());
    let chain = CertificateDer::pem_file_iter(dir.join("cert.pem")).unwrap().map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(dir.join("key.pem")).unwrap();
    let builder = ServerConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    Arc::new(builder.with_single_cert(chain, key).unwrap())
}

#[test]
fn over_tls_only_whom_an_authority_of_this_host_vouches_for_is_told() {
    let site = site(Role::Root, "");
    let dir = site.config.parent().unwrap().to_owned();
    let address = site.postfix.address(1);
    hooks(&site, &format!("  - url: https://{address}/{TOKEN}\n"));
    let receiver = Receiver::start_by(&address, Answer::Status(200), Some(certificates(&dir)));
    let agent = site.agent();
    site.tell(&["block", "web1"]);
    wait_until("a try to be counted", || fate(&agent, "retried") >= 1.0);
    assert!(receiver.requests().is_empty(), "told to somebody whom nobody vouches for");
    assert!(agent.printed().contains("TLS: "), "{}", agent.printed());
    agent.stop();
    // The agent finds its authorities where OpenSSL does.
    let wrapper = dir.join("sendwarden");
    let script =
        format!("#!/bin/sh\nSSL_CERT_FILE={}/ca.pem exec {} \"$@\"\n", dir.display(), env!("CARGO_BIN_EXE_sendwarden"));
    fs::write(&wrapper, script).unwrap();
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).unwrap();
    let agent = site.agent();
    agent.wait_sum(FATES, &["outcome=\"delivered\""], 1.0);
    assert_eq!(receiver.told(), ["blocked web1"]);
    assert!(!agent.printed().contains(TOKEN), "{}", agent.printed());
    agent.stop();
}

#[test]
fn a_secret_that_everybody_may_read_is_refused_and_an_open_way_is_told() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("mail.log"), "").unwrap();
    let config = configure(dir.path(), "127.0.0.1:0", &[dir.path().join("mail.log")], "accounts: []\n");
    let plain = fs::read_to_string(&config).unwrap();
    let path = dir.path().join("hook.secret");
    let check = |hooks: &str| {
        fs::write(&config, format!("{plain}hooks:\n{hooks}")).unwrap();
        let output =
            command(env!("CARGO_BIN_EXE_sendwarden")).arg("check").arg("--config").arg(&config).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
    };
    let signed = format!("  - url: https://a.test/{TOKEN}\n    secret_file: {}\n", path.display());
    let (status, text) = check(&signed);
    assert!(status == 2 && text.contains("hooks[0].secret_file: cannot read"), "{text}");
    for (mode, secret, said) in [
        (0o644, SECRET, "is open to everybody on this host (mode 644); close it with: chmod 640"),
        (0o600, "short-one", "is shorter than 16 characters"),
        (0o640, SECRET, "hook: https://a.test: all events; signed"),
    ] {
        fs::write(&path, secret).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let (status, text) = check(&signed);
        assert!(text.contains(said) && (status == 2) == said.starts_with("is "), "{mode:o}: {status} {text}");
        assert!(!text.contains(secret) && !text.contains(TOKEN), "{text}");
    }
    let (status, text) = check(&format!("  - url: http://receiver.example/{TOKEN}\n"));
    assert!(status < 2 && text.contains("warn  hook: http://receiver.example: "), "{text}");
    assert!(text.contains("go over the network as they are") && !text.contains(TOKEN), "{text}");
    let (status, text) = check(&format!("  - url: {TOKEN}\n  - url: https://user:{TOKEN}@a.test/\n"));
    assert!(status == 2 && !text.contains(TOKEN), "{text}");
    let told = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/hooks.md")).unwrap();
    let missing = Event::ALL.iter().filter(|event| !told.contains(&format!("| `{}` | ", event.name())));
    assert_eq!(missing.map(|event| event.name()).collect::<Vec<_>>(), [""; 0], "docs/hooks.md names them");
}
