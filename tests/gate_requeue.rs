//! What Postfix asks nobody about, on a real one: what is requeued (`postsuper -r` of held mail), and what it writes itself to
//! the sender of a message. It is noticed by the log, told, and put on hold (again) while it is in the queue still.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]
#![allow(clippy::disallowed_methods, reason = "a test of real servers starts processes")]
mod support;

use std::collections::BTreeSet;
use std::fs;

use support::agent::Agent;
use support::gated::Site;
use support::helper::Role;
use support::place::command;
use support::sink::Received;
use support::wait_until;

fn held(agent: &Agent) -> f64 {
    agent.sum("sendwarden_held_messages", &[])
}

fn wait_held(agent: &Agent, messages: f64) {
    agent.wait_sum("sendwarden_held_messages", &[], messages);
}

/// Where requeued mail waits; pickup looks there by itself once a minute only.
fn requeue(site: &Site, which: &str) {
    site.postfix.run("postsuper", &["-r", which]);
    drop(
        command("postkick").arg("-c").arg(site.postfix.config_dir()).args(["public", "pickup", "W"]).output().unwrap(),
    );
}

fn on_hold(site: &Site) -> BTreeSet<String> {
    site.postfix.queue().into_iter().filter(|one| one.queue == "hold").map(|one| one.id).collect()
}

#[test]
fn what_is_requeued_is_held_again_and_is_one_message() {
    requeued(Role::Root);
}

#[test]
fn what_is_requeued_is_held_again_and_is_one_message_by_an_ordinary_user() {
    requeued(Role::Ordinary);
}

fn requeued(role: Role) {
    let site = Site::new("gate:\n  mode: enforce\n", role);
    let agent = site.agent();
    site.script("web2", "known");
    wait_until("the other account's mail", || site.arrived("known").len() == 1);
    site.order(&["block", "shop"]);
    let put_off = |user: &str, name: &str| {
        let (to, text) = (format!("{name}@defer.test"), format!("X-Test-Id: {name}\n\nbody\n"));
        site.postfix.sendmail(user, &format!("{user}@hosting.test"), &[&to], &text);
    };
    (0..5).for_each(|n| put_off("web3", &format!("held{n}")));
    // By SMTP without a login: of that the log does not say whose it is, and the gate does.
    site.local("web3", "local");
    put_off("web2", "free");
    wait_until("the account's mail to be on hold", || on_hold(&site).len() == 6);
    wait_held(&agent, 6.0);
    let before = on_hold(&site);
    let others = site.postfix.queue_id("free@defer.test");

    // All of the queue: what is somebody else's too. None of what is put off can be gone before it is on hold again.
    requeue(&site, "ALL");
    wait_until("the held mail to be on hold again", || site.held_copies("held").len() == 5);
    assert!(on_hold(&site).is_disjoint(&before), "they have other ids");
    agent.wait_sum("sendwarden_hold_drift_total", &["kind=\"taken\""], 6.0);
    // A message that comes on hold while it is being delivered may be both: Postfix finds its file gone.
    wait_until("the one that could be delivered to be on hold or gone", || {
        site.held_copies("local").len() + site.arrived("local").len() >= 1
    });
    wait_until("each to be counted once", || held(&agent) == on_hold(&site).len() as f64);
    let log = agent.printed();
    assert!(log.contains("messages on hold were requeued (postsuper -r)"), "{log}");
    wait_until("the other account's mail to be back", || {
        site.postfix.queue().iter().any(|one| one.queue == "deferred" && one.id != others)
    });
    assert_eq!(site.held_copies("free").len(), 0);

    // One by one, and what was requeued before too.
    let one = site.postfix.queue_id("held0@defer.test");
    requeue(&site, &one);
    wait_until("it to be on hold again", || {
        site.held_copies("held0").len() == 1 && site.postfix.queue_id("held0@defer.test") != one
    });
    agent.wait_sum("sendwarden_hold_drift_total", &["kind=\"taken\""], 7.0);
    wait_until("each to be counted once", || held(&agent) == on_hold(&site).len() as f64);

    // A line that anybody may write: nothing is lost by it.
    let lines = site.postfix.log();
    let told = lines.lines().find(|line| line.contains(&format!("orig_id={one}"))).unwrap();
    let new = told.split(": ").nth(1).unwrap();
    let still = site.postfix.queue_id("held1@defer.test");
    let forged = told.replace(&one, &still).replace(new, "4jYswH0Jn6z7xJG");
    fs::OpenOptions::new()
        .append(true)
        .open(site.postfix.log_path())
        .and_then(|mut file| std::io::Write::write_all(&mut file, format!("{forged}\n").as_bytes()))
        .unwrap();
    site.script("web2", "later");
    wait_until("what was logged after it", || site.arrived("later").len() == 1);
    agent.wait_sum("sendwarden_account_messages_accepted_total", &["account=\"web2\""], 3.0);

    site.order(&["purge", "shop", "--yes"]);
    wait_until("what was held to be gone", || on_hold(&site).is_empty());
    wait_held(&agent, 0.0);
    assert_eq!(site.arrived("held"), [""; 0]);
    let queue = site.postfix.queue();
    assert!(queue.len() == 1 && queue[0].recipients == ["free@defer.test"], "{queue:?}");
    agent.stop();
}

/// Hands in what Postfix returns to `sender` before it asks anybody: it has been on its way too long (`hopcount_limit`).
fn bounces(site: &Site, user: &str, sender: &str) {
    let hops = "Received: from there by here; Sat, 28 Nov 2026 00:00:00 +0000\n".repeat(60);
    site.postfix.sendmail(
        user,
        sender,
        &["nobody@accept.test"],
        &format!("{hops}Subject: x\n\nto be read by {sender}\n"),
    );
}

#[test]
fn what_postfix_returns_of_a_blocked_account_is_held_while_it_is_in_the_queue() {
    const FAST: usize = 50;
    let accounts = "accounts:\n  - id: shop\n    unix_users: [web3]\n";
    let site = Site::of("gate:\n  mode: enforce\n", Role::Ordinary, accounts, "bounce_size_limit = 1\n");
    let agent = site.agent();
    site.script("web2", "known");
    wait_until("the other account's mail", || site.arrived("known").len() == 1);
    site.order(&["block", "shop"]);
    bounces(&site, "web2", "free@defer.test");
    for n in 0..5 {
        bounces(&site, "web3", &format!("slow{n}@defer.test"));
    }
    wait_until("what is returned to be on hold", || site.held_copies("slow").len() == 5);
    agent.wait_sum("sendwarden_hold_drift_total", &["kind=\"escaped\""], 5.0);
    wait_held(&agent, 5.0);
    wait_until("the other account's to be put off", || {
        site.postfix.queue().iter().any(|one| one.queue == "deferred" && one.recipients == ["free@defer.test"])
    });
    site.order(&["unblock", "shop"]);
    wait_until("it to be free", || on_hold(&site).is_empty());
    wait_held(&agent, 0.0);
    assert_eq!(site.postfix.queue().len(), 6, "it is put off as the receiver wants");

    site.order(&["block", "shop"]);
    bounces(&site, "web3", "again@defer.test");
    wait_until("what is returned to be on hold", || site.held_copies("again").len() == 1);
    // A receiver that takes it at once has it before anybody could see it.
    for n in 0..FAST {
        bounces(&site, "web3", &format!("fast{n}@accept.test"));
    }
    let bodies = || -> Vec<String> {
        let is_fast = |one: &&Received| one.recipients.iter().any(|to| to.starts_with("fast"));
        site.postfix.accept.look(|all| all.iter().filter(is_fast).map(|one| one.data.clone()).collect())
    };
    let arrived = || bodies().len();
    wait_until("the rest to be on hold or gone", || site.held_copies("fast").len() + arrived() == FAST);
    println!("of {FAST} that the receiver takes at once {} were gone", arrived());
    // As docs/operating.md has it, with `bounce_size_limit`: not the text.
    let told = bodies();
    assert!(
        told.iter().all(|text| text.contains("Subject: x") && !text.contains("to be read by")),
        "{:?}",
        told.first()
    );
    wait_held(&agent, on_hold(&site).len() as f64);
    site.order(&["purge", "shop", "--yes"]);
    wait_until("what was held to be gone", || on_hold(&site).is_empty());
    wait_held(&agent, 0.0);
    let queue = site.postfix.queue();
    assert!(queue.iter().all(|one| !one.recipients[0].starts_with("again")), "{queue:?}");
    assert!(queue.iter().any(|one| one.recipients == ["free@defer.test"]), "{queue:?}");
    agent.stop();
}
