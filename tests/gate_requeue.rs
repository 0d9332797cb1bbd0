//! `postsuper -r` of held mail, on a real Postfix: Postfix asks nobody about what is requeued, so it is noticed by the log,
//! told, and put on hold again while it is in the queue still, as one message.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]
#![allow(clippy::disallowed_methods, reason = "a test of real servers starts processes")]
mod support;

use std::collections::BTreeSet;
use std::fs;

use support::agent::Agent;
use support::gated::Site;
use support::helper::Role;
use support::place::command;
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
