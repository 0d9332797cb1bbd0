//! Lines that somebody else than Postfix has written into the mail log, at the moment of a block: who may write there has a
//! message in the queue be anybody's, and the message's own file says whose it is.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]
#![allow(clippy::disallowed_methods, reason = "a test of real servers starts processes")]
mod support;

use std::fs;
use std::io::Write;

use support::held::Site;
use support::helper::Role;
use support::smtp::{self, Mail};
use support::wait_until;

const LATER: &str = "450 4.2.1 come again";
const TAKEN: &str = "250 2.0.0 Ok";
const LOGIN: &str = "box@blog.test";

/// What Postfix has logged of one message, said of another by somebody who may write into the log.
fn forge(site: &Site, of: &str, about: &str) {
    let log = site.postfix.log();
    let daemons = ["/pickup[", "/cleanup[", "/qmgr["];
    let said = log.lines().filter(|line| line.contains(of) && daemons.iter().any(|daemon| line.contains(daemon)));
    let forged: String = said.map(|line| format!("{}\n", line.replace(of, about))).collect();
    assert!(forged.contains(": uid="), "{log}");
    let mut file = fs::OpenOptions::new().append(true).open(site.postfix.log_path()).unwrap();
    file.write_all(forged.as_bytes()).unwrap();
}

#[test]
fn what_the_queue_file_says_is_somebody_elses_is_neither_held_nor_purged() {
    let_alone(Role::Root);
}

#[test]
fn what_the_queue_file_says_is_somebody_elses_is_neither_held_nor_purged_by_an_ordinary_user() {
    let_alone(Role::Ordinary);
}

fn let_alone(role: Role) {
    let site = Site::new("", role);
    site.postfix.add_login(LOGIN, "secret");
    site.postfix.forge(LATER);
    let own = site.waits("web1", "own");
    let script = site.waits("web2", "script");
    let smtp = |name: &str, auth| {
        let (to, data) = (format!("{name}@forge.test"), format!("X-Test-Id: {name}\n\nbody\n"));
        let mail = Mail { sender: LOGIN, recipients: &[&to], data: &data, auth };
        let port = if auth.is_some() { site.postfix.submission_port() } else { site.postfix.smtp_port() };
        smtp::send(port, &mail).unwrap();
        site.postfix.queue_id(&to)
    };
    let (login, local) = (smtp("login", Some((LOGIN, "secret"))), smtp("local", None));
    let requeued = site.waits("web2", "requeued");
    site.postfix.run("postsuper", &["-r", &requeued]);
    wait_until("it to be requeued", || site.postfix.queue_id("requeued@forge.test") != requeued);
    let requeued = site.postfix.queue_id("requeued@forge.test");
    let others = [&script, &login, &local, &requeued];
    let agent = site.agent();
    site.wait_queued(&agent, "web1", 1.0);
    others.iter().for_each(|id| forge(&site, &own, id));
    site.wait_queued(&agent, "web1", 5.0);

    let said = site.tell(&["block", "web1", "--scope", "all"]);
    assert!(said.contains("5 messages to put on hold"), "the log says so: {said}");
    wait_until("the account's own to be on hold", || site.queue_of(&own).as_deref() == Some("hold"));
    agent.wait_sum("sendwarden_hold_drift_total", &["kind=\"contradicted\""], 4.0);
    let status = site.wait_idle("web1");
    assert_eq!(status["held_messages"], 1, "{status}");
    // They are not found again, and told once.
    site.tell(&["unblock", "web1"]);
    wait_until("it to be free", || site.queue_of(&own).is_some_and(|queue| queue != "hold"));
    site.wait_idle("web1");
    let said = site.tell(&["block", "web1", "--scope", "all"]);
    assert!(said.contains("1 message to put on hold"), "{said}");
    wait_until("the account's own to be on hold", || site.queue_of(&own).as_deref() == Some("hold"));
    site.wait_idle("web1");
    let held = |id: &str| site.postfix.log().contains(&format!("{id}: placed on hold"));
    assert!(held(&own) && !others.iter().any(|id| held(id)), "{}", site.postfix.log());
    assert_eq!(agent.sum("sendwarden_hold_drift_total", &["kind=\"contradicted\""]), 4.0);
    let log = agent.printed();
    assert_eq!(log.matches(&format!("{script} in the queue of")).count(), 1, "{log}");

    site.tell(&["purge", "web1", "--yes"]);
    wait_until("the account's own to be gone", || site.queue_of(&own).is_none());
    site.wait_idle("web1");
    site.postfix.forge(TAKEN);
    wait_until("everybody else's to be delivered", || {
        ["script", "login", "local", "requeued"].iter().all(|name| site.delivered(name) == 1)
    });
    assert_eq!(site.delivered("own"), 0);
    agent.stop();
}

/// Who says of the own message that another user of the same account has sent it gains nothing by that.
#[test]
fn a_message_is_held_that_the_log_gives_to_another_hand_of_the_same_account() {
    let accounts = "accounts:\n  - id: shop\n    unix_users: [web1, web3]\n";
    let site = Site::of("", Role::Root, accounts);
    site.postfix.forge(LATER);
    let (own, second) = (site.waits("web1", "own"), site.waits("web3", "second"));
    let agent = site.agent();
    site.wait_queued(&agent, "shop", 2.0);
    forge(&site, &own, &second);
    // A line of its own tells that those before it were read.
    let innocent = site.waits("web2", "innocent");
    site.wait_queued(&agent, "web2", 1.0);
    site.tell(&["block", "shop"]);
    wait_until("both to be on hold", || site.is_in(&[&own, &second], "hold"));
    assert!(site.queue_of(&innocent).is_some_and(|queue| queue != "hold"));
    wait_until("both to be known", || site.status("shop")["held_messages"] == 2);
    assert_eq!(agent.sum("sendwarden_hold_drift_total", &["kind=\"contradicted\""]), 0.0);
    agent.stop();
}
