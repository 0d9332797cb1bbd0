//! The bounds of the gate on a real Exim: of a blocked account about as much is held as there is room for, what comes
//! beyond it is refused or thrown away and never put off, and a blocked login is told so. Nobody else notices.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]
#![allow(clippy::disallowed_methods, reason = "a test of real servers starts processes")]
mod support;

use std::fs;
use std::path::Path;

use serde_json::Value;
use support::agent::Agent;
use support::exim::{Call, Version};
use support::gated_exim::{Site, names};
use support::helper::Role;
use support::server::MailServer;
use support::{wait_for, wait_until};

fn known(site: &Site, agent: &Agent) {
    site.script("web1", "known-web1", Call::Arguments);
    site.login("box1@hosting.test", "known-box1").unwrap();
    agent.wait_sum("sendwarden_accounts_known", &[], 2.0);
}

fn script(site: &Site, user: &str, name: &str, n: usize) {
    site.script(user, name, [Call::Arguments, Call::Headers][n % 2]);
}

fn bounded(version: Version, role: Role) {
    let site = Site::new(version, role, "  mode: enforce\n  logins: hold\n", "hold:\n  max_held: 10\n");
    let agent = site.agent();
    known(&site, &agent);
    site.tell(&["block", "web1"]);
    site.tell(&["block", "box1@hosting.test", "--scope", "all"]);
    assert_eq!(site.flags("rules"), [""; 0]);
    for n in 0..10 {
        script(&site, "web1", &format!("a{n}"), n);
        site.login("box1@hosting.test", &format!("l{n}")).unwrap();
    }
    wait_until("the flags of who is full", || {
        site.flags("full-user") == ["web1"] && site.flags("full-auth") == ["box1@hosting.test"]
    });
    for n in 10..25 {
        // Exim says of what it throws away only that it has no id.
        assert_eq!(site.tried("web1", &format!("a{n}"), n), (Some(1), String::new()));
        script(&site, "web2", &format!("b{n}"), n);
        let said = site.login("box1@hosting.test", &format!("l{n}")).unwrap_err();
        assert!(said.starts_with("552 5.2.2 Too much mail of this account is on hold"), "{said}");
    }
    // By SMTP it is told so, also where there is no login.
    let said = site.local("web1", &names("s", 3));
    assert!(said.iter().all(|said| said.starts_with("552 5.2.2")) && said.len() == 3, "{said:?}");
    let said = site.conversation("web1", "bs");
    assert!(said.contains("552 5.2.2"), "{said}");
    wait_until("everybody else's to arrive", || site.arrived("b").len() == 15);
    site.exim.settle();
    assert_eq!((site.frozen("a"), site.frozen("l")), (names("a", 10), names("l", 10)));
    assert_eq!(site.exim.queue().len(), 20, "nothing is put off");
    wait_until("the rest to be counted", || {
        [
            ("script", "held"),
            ("script", "discarded"),
            ("script", "refused"),
            ("smtp_auth", "held"),
            ("smtp_auth", "refused"),
        ]
        .map(|(origin, decision)| site.decisions(&agent, origin, decision))
            == [10.0, 15.0, 1.0, 10.0, 15.0]
    });
    assert_eq!(site.decisions(&agent, "local_smtp", "refused"), 3.0);
    for (account, words) in [("web1", "15 discarded"), ("box1@hosting.test", "15 refused")] {
        wait_for("the order log", || {
            let orders = site.status(account)["orders"].as_array()?.clone();
            let over = orders.iter().filter(|order| order["outcome"] == "overflowed");
            let told: u64 = over.filter_map(|order| count(order["details"].as_str()?, words)).sum();
            (told == 15).then_some(())
        });
    }
    assert_eq!((site.arrived("a"), site.arrived("l"), site.arrived("s")), (vec![], vec![], vec![]));
    told_of_each(&site, &agent);
    // What is released makes room.
    site.tell(&["unblock", "web1"]);
    wait_until("what was held to arrive", || site.arrived("a") == names("a", 10));
    assert_eq!(site.flags("full-user"), [""; 0]);
    wait_until("no order under way", || site.status("web1")["orders"][0]["outcome"] != "accepted");
    site.tell(&["block", "web1"]);
    // As fast as it can: of each it is known where it is, and nothing leaves.
    (0..60).for_each(|n| drop(site.tried("web1", &format!("z{n}"), n)));
    site.exim.settle();
    wait_until("each to be held or counted", || {
        let discarded = site.decisions(&agent, "script", "discarded") - 17.0;
        discarded > 0.0 && site.frozen("z").len() as f64 + discarded == 60.0
    });
    assert_eq!(site.arrived("z"), Vec::<String>::new());
    agent.stop();
}

/// One error for each recipient of what was thrown away, and none for what was refused: its sender knows.
fn told_of_each(site: &Site, agent: &Agent) {
    let two = ["two1@accept.test", "\"two, 2\"@accept.test"].map(str::to_owned);
    assert_eq!(site.handed("web1", "\"we, b\"@hosting.test", &two, "\nbody\n"), Some(1));
    wait_until("it to be counted", || site.decisions(agent, "script", "discarded") == 16.0);
    let mut wanted: Vec<String> = (10..25).map(|n| format!("a{n}@accept.test")).chain(two).collect();
    wanted.sort();
    let to = || {
        let rows = site.errors("web1");
        let mut to: Vec<String> = rows.iter().map(|row| row["recipient"].as_str().unwrap().to_owned()).collect();
        to.sort();
        (to, rows)
    };
    let rows = wait_for("an error for each", || Some(to()).filter(|(to, _)| *to == wanted)).1;
    let is = |row: &Value, key: &str, value: &str| row[key] == value;
    let as_told = |row: &&Value| {
        let reply = row["reply"].as_str().unwrap();
        is(row, "outcome", "deleted") && is(row, "dsn", "5.2.2") && reply.contains("no more is held (hold.max_held")
    };
    assert_eq!(rows.iter().filter(as_told).count(), 17, "{rows:?}");
    let from = |sender: &str| rows.iter().filter(|row| is(row, "sender", sender)).count();
    assert_eq!((from("web1@hosting.test"), from("\"we, b\"@hosting.test")), (15, 2), "{rows:?}");
    assert_eq!(site.errors("box1@hosting.test"), [Value::Null; 0]);
    // Of a message to a great many as many as a line of Exim's log has room for.
    let many: Vec<String> = (0..600).map(|n| format!("many{n:03}@accept.test")).collect();
    assert_eq!(site.handed("web1", "<>", &many, "\nbody\n"), Some(1));
    let listed = wait_for("the order log", || {
        let orders = site.status("web1")["orders"].as_array()?.clone();
        let told = orders.iter().filter_map(|order| order["details"].as_str());
        let (all, known) = told.filter_map(listed).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        (all == 17 + 600).then(|| known - 17)
    });
    assert!((300..600).contains(&listed), "{listed}");
    let (to, rows) = to();
    assert_eq!(to.len(), 17 + listed);
    assert!(many[..listed].iter().all(|one| to.contains(one)), "whole addresses, the first ones: {to:?}");
    assert_eq!(rows.iter().filter(|row| is(row, "sender", "")).count(), listed);
}

/// The numbers in `(3 recipients, 2 of them` and `(1 recipient, 1 of them`.
fn listed(details: &str) -> Option<(usize, usize)> {
    let (all, rest) = details.split_once('(')?.1.split_once(" recipient")?;
    Some((all.parse().ok()?, rest.split_once(", ")?.1.split(' ').next()?.parse().ok()?))
}

/// The number before the second of these words, where it is told.
fn count(details: &str, words: &str) -> Option<u64> {
    let word = words.split(' ').nth(1)?;
    let told: Vec<&str> = details.split([' ', ',', ':']).collect();
    let at = told.iter().position(|one| *one == word)?;
    told.get(at.checked_sub(1)?)?.parse().ok()
}

#[test]
fn beyond_its_room_a_blocked_account_is_refused_by_4_96_or_its_mail_thrown_away() {
    bounded(Version::V4_96, Role::Root);
}

#[test]
fn beyond_its_room_a_blocked_account_is_refused_by_4_98_or_its_mail_thrown_away_with_an_ordinary_user() {
    bounded(Version::V4_98, Role::Ordinary);
}

/// What Exim's files of messages take, as the file system says.
fn spooled(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(meta) if meta.is_dir() => spooled(&entry.path()),
            Ok(meta) => meta.len(),
            Err(_) => 0,
        })
        .sum()
}

fn bounded_by_bytes(version: Version, role: Role, split: bool) {
    let site = Site::new(version, role, "  mode: enforce\n", "hold:\n  max_held_bytes: 200KiB\n");
    if !split {
        site.exim.edit(|text| text.replace("\nsplit_spool_directory\n", "\n"));
    }
    let agent = site.agent();
    known(&site, &agent);
    site.exim.settle();
    site.tell(&["block", "web1"]);
    let large = |user: &str, sender: &str, name: &str| {
        let text = format!("X-Test-Id: {name}\n\n") + &format!("{}\n", "y".repeat(79)).repeat(750);
        site.handed(user, sender, &[format!("{name}@accept.test")], &text)
    };
    let bytes = |agent: &Agent| agent.sum("sendwarden_held_bytes", &[]);
    let is_full = || site.flags("full-user") == ["web1"];
    // Each takes 60 KiB: three have room, and the fourth goes beyond it.
    for n in 0..4 {
        assert!(!is_full(), "{n} have room");
        assert_eq!(large("web1", ["one@hosting.test", "web1@hosting.test"][n.min(1)], &format!("a{n}")), Some(0));
        wait_until("its size to be known", || bytes(&agent) > (n + 1) as f64 * 60_000.0);
    }
    let real = spooled(&site.exim.spool_dir().join("input"));
    assert_eq!(bytes(&agent), real as f64, "as the file system says");
    wait_until("the flag", is_full);
    assert_eq!(site.tried("web1", "a4", 0), (Some(1), String::new()));
    assert_eq!(large("web2", "web2@hosting.test", "b0"), Some(0));
    script(&site, "web2", "b1", 0);
    wait_until("everybody else's to arrive", || site.arrived("b") == names("b", 2));
    wait_until("what is beyond it to be discarded", || site.decisions(&agent, "script", "discarded") == 1.0);
    assert_eq!((site.frozen("a"), site.arrived("a").len()), (names("a", 4), 0));
    // The flag stands without an agent, and the next one looks at what there is.
    agent.stop();
    assert!(is_full());
    let agent = site.agent();
    wait_until("the sizes to be known again", || bytes(&agent) == real as f64);
    wait_until("the flag again", is_full);
    // What is purged makes room, while the block stands.
    site.tell(&["purge", "web1", "--sender", "one@hosting.test", "--yes"]);
    wait_until("the flag to go", || site.flags("full-user").is_empty());
    site.wait_held("web1", 3);
    wait_until("three to be there", || bytes(&agent) == spooled(&site.exim.spool_dir().join("input")) as f64);
    script(&site, "web1", "a5", 0);
    wait_until("the next one to be held", || site.frozen("a").len() == 4);
    site.tell(&["unblock", "web1"]);
    wait_until("what was held to arrive", || site.arrived("a") == ["a1", "a2", "a3", "a5"]);
    wait_until("nothing to be held", || bytes(&agent) == 0.0);
    agent.stop();
}

#[test]
fn no_more_is_held_by_4_96_than_may_lie_in_its_queue() {
    bounded_by_bytes(Version::V4_96, Role::Root, true);
}

#[test]
fn no_more_is_held_by_4_98_than_may_lie_in_its_queue_that_is_not_split_with_an_ordinary_user() {
    bounded_by_bytes(Version::V4_98, Role::Ordinary, false);
}

#[test]
fn where_too_little_is_free_nothing_more_is_held() {
    let site = Site::new(Version::V4_98, Role::Root, "  mode: enforce\n", "hold:\n  min_free: 900000TiB\n");
    let agent = site.agent();
    known(&site, &agent);
    site.tell(&["block", "web1"]);
    wait_until("the flag", || site.flags("full-user") == ["web1"]);
    assert_eq!(site.tried("web1", "a1", 0), (Some(1), String::new()));
    script(&site, "web2", "b1", 0);
    assert!(site.local("web1", &["a2".to_owned()])[0].starts_with("552"));
    wait_until("everybody else's to arrive", || site.arrived("b") == ["b1"]);
    wait_until("it to be counted", || site.decisions(&agent, "script", "discarded") == 1.0);
    site.exim.settle();
    assert_eq!((site.arrived("a").len(), site.exim.queue().len()), (0, 0));
    agent.stop();
}

fn refused(version: Version, role: Role) {
    let site = Site::new(version, role, "  mode: enforce\n", "");
    let agent = site.agent();
    known(&site, &agent);
    site.tell(&["block", "box1@hosting.test", "--scope", "all"]);
    let said = site.login("Box1@hosting.test", "l1").unwrap_err();
    assert!(said.starts_with("550 5.7.1 Sending from this account is on hold, ask your provider"), "{said}");
    site.login("box2@hosting.test", "other").unwrap();
    // A script's mail is held all the same: nobody would read the refusal.
    site.tell(&["block", "web1"]);
    script(&site, "web1", "a1", 0);
    wait_until("it to be counted", || site.decisions(&agent, "smtp_auth", "refused") == 1.0);
    site.wait_held("web1", 1);
    // It is no loss of what there is no room for.
    let status = site.status("box1@hosting.test");
    assert!(!status["orders"].to_string().contains("overflowed"), "{status}");
    // The rule stands while the agent is dead.
    agent.kill();
    assert!(site.login("box1@hosting.test", "l2").unwrap_err().starts_with("550 5.7.1"));
    let agent = site.agent();
    site.tell(&["unblock", "box1@hosting.test"]);
    site.login("box1@hosting.test", "l3").unwrap();
    wait_until("what is free to arrive", || site.arrived("l") == ["l3"] && site.arrived("other").len() == 1);
    site.exim.settle();
    assert_eq!((site.frozen("a"), site.exim.queue().len()), (vec!["a1".to_owned()], 1));
    agent.stop();
}

#[test]
fn a_blocked_login_is_told_so_by_4_96() {
    refused(Version::V4_96, Role::Root);
}

#[test]
fn a_blocked_login_is_told_so_by_4_98_with_an_ordinary_user() {
    refused(Version::V4_98, Role::Ordinary);
}
