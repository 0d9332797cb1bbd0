//! The gate on a real Postfix, every way in: not one message of a blocked account gets out and nobody else's is held;
//! unblocked, everything arrives once and byte for byte as it was written; purged, the queue is empty. What others have put
//! on hold stays so through all of it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]
#![allow(clippy::disallowed_methods, reason = "a test of real servers starts processes")]
mod support;

use std::collections::BTreeMap;

use support::gated::{ENTRY, PASSWORD, Site, wait_copies};
use support::helper::Role;
use support::inject::{Injector, Letter, Way};
use support::neighbour::{Neighbour, SUSPECT};
use support::postfix::Options;
use support::wait_until;

/// Messages of each account by each way.
const EACH: usize = 40;

/// Who sends, and how.
const SHOP: (&str, &str) = ("web1", "sales@shop.test");
const BLOG: (&str, &str) = ("web2", "box@blog.test");
const ACCOUNTS: &str = "accounts:\n  - id: shop\n    unix_users: [web1]\n    logins: [sales@shop.test]\n  \
                        - id: blog\n    unix_users: [web2]\n    logins: [box@blog.test]\n";

/// What is hard to carry is among the messages of every way.
fn letters(prefix: &str, way: Way) -> Vec<Letter> {
    let letter = |n| {
        let name = format!("{prefix}-{}-{n}-", way.name());
        match n {
            0 => Letter::of_all_bytes(&name),
            1 if prefix.ends_with("-a") => Letter::of_size(&name, 5_000_000),
            2 => Letter::to_many(&name, 50),
            3 => Letter::of_nobody(&name),
            _ => Letter::new(&name),
        }
    };
    (0..EACH).map(letter).collect()
}

/// Hands in the messages of both accounts by all ways at once.
fn inject(site: &Site, prefixes: [&str; 2]) -> [Vec<(Way, Letter)>; 2] {
    std::thread::scope(|scope| {
        let all = [(SHOP, prefixes[0]), (BLOG, prefixes[1])].map(|((user, login), prefix)| {
            Way::ALL.map(|way| {
                scope.spawn(move || {
                    // A person's mail program runs as nobody's user of the host.
                    let user = if way == Way::Login { "web4" } else { user };
                    let mut injector = Injector::start(&site.postfix, user, way, login);
                    let letters = letters(prefix, way);
                    letters.iter().for_each(|letter| drop(injector.take(letter)));
                    letters.into_iter().map(|letter| (way, letter)).collect::<Vec<_>>()
                })
            })
        });
        all.map(|ways| ways.into_iter().flat_map(|way| way.join().unwrap()).collect())
    })
}

/// Each recipient of these once.
fn once<'a>(letters: impl IntoIterator<Item = &'a (Way, Letter)>) -> BTreeMap<String, usize> {
    letters.into_iter().flat_map(|(_, letter)| letter.to.iter().map(|to| (to.clone(), 1))).collect()
}

/// What arrived is what was written.
fn same_bytes(site: &Site, letters: &[(Way, Letter)]) {
    let written: BTreeMap<&str, &(Way, Letter)> = letters.iter().map(|one| (one.1.name.as_str(), one)).collect();
    let compared = site.postfix.accept.look(|messages| {
        let ours = messages.iter().filter_map(|message| Some((message, written.get(message.unique()?)?)));
        ours.map(|(message, (way, letter))| {
            assert_eq!(message.sender, letter.sender, "{}", letter.name);
            assert!(message.body() == Injector::arrives(*way, &letter.body), "{}: another text", letter.name);
        })
        .count()
    });
    assert!(compared >= letters.len(), "{compared}");
}

#[test]
fn not_one_message_of_a_blocked_account_gets_out_and_nobody_elses_is_held() {
    every_way_in(Role::Root);
}

#[test]
fn not_one_message_of_a_blocked_account_gets_out_and_nobody_elses_is_held_by_an_ordinary_user() {
    every_way_in(Role::Ordinary);
}

fn every_way_in(role: Role) {
    let neighbour = Neighbour::start();
    let extra = format!(
        "smtpd_milters = {0}, {ENTRY}accept }}\nnon_smtpd_milters = {0}, {ENTRY}tempfail }}\n",
        neighbour.entry()
    );
    let options = Options { ipv6: true, extra, ..Options::default() };
    let site = Site::on(&options, "gate:\n  mode: enforce\n  logins: hold\n", role, ACCOUNTS);
    for login in [SHOP.1, BLOG.1] {
        site.postfix.add_login(login, PASSWORD);
    }
    let agent = site.agent();

    // What is not ours: an administrator's hold of a message of each account, and another milter's quarantine.
    let mut theirs = Vec::new();
    for (user, name) in [("web1", "admin1"), ("web2", "admin2")] {
        let to = format!("{name}@defer.test");
        site.postfix.sendmail(user, "a@hosting.test", &[&to], &support::gated::text(name));
        let id = site.postfix.queue_id(&to);
        site.postfix.run("postsuper", &["-h", &id]);
        theirs.push(id);
    }
    let suspect = |name: &str| {
        let to = format!("{name}@accept.test");
        site.postfix.sendmail("web1", SUSPECT, &[&to], &support::gated::text(name));
        site.postfix.queue_id(&to)
    };
    theirs.push(suspect("suspect-before"));
    // What waits for its receiver goes on waiting.
    site.postfix.sendmail("web2", "a@hosting.test", &["waits@defer.test"], &support::gated::text("waits"));
    let waits = site.postfix.queue_id("waits@defer.test");
    let untouched = |theirs: &[String]| {
        let queue = site.postfix.queue();
        for id in theirs {
            assert!(queue.iter().any(|one| one.id == *id && one.queue == "hold"), "{id} was others' to release");
        }
        assert!(queue.iter().any(|one| one.id == waits && one.queue != "hold"), "{waits} was nobody's to hold");
    };

    site.order(&["block", "shop", "--scope", "all", "--reason", "hacked"]);
    theirs.push(suspect("suspect-meanwhile"));
    let [shop, blog] = inject(&site, ["guilty-a", "innocent-a"]);
    wait_copies("everybody else's mail", &once(&blog), || site.copies("innocent-a"));
    wait_copies("everything else to be on hold", &once(&shop), || site.held_copies("guilty-a"));
    assert_eq!(site.copies("guilty"), BTreeMap::new());
    assert_eq!(site.held_copies("innocent"), BTreeMap::new());
    untouched(&theirs);
    let (held, rest) = (shop.len() as f64, blog.len() as f64);
    assert_eq!((shop.len(), blog.len()), (200, 200));
    agent.wait_sum("sendwarden_gate_decisions_total", &["decision=\"held\""], held);
    let passed = || agent.sum("sendwarden_gate_decisions_total", &["decision=\"passed\""]);
    wait_until("the last one to be counted", || passed() >= rest + 3.0);
    assert_eq!(agent.sum("sendwarden_gate_unknown_identities_total", &[]), 0.0);
    assert_eq!(agent.sum("sendwarden_gate_unrecorded_holds_total", &[]), 0.0);
    // The null sender changes nothing: whoever hands it in has sent it. (The log does not say who speaks SMTP from this
    // host, so those messages are in nobody's figures.)
    for (account, others) in [("shop", 3), ("blog", 2)] {
        let count = |origin: &str, n: usize| {
            let labels = [format!("account=\"{account}\""), format!("origin=\"{origin}\"")];
            let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
            agent.wait_sum("sendwarden_account_messages_accepted_total", &labels, n as f64);
        };
        count("script", 2 * EACH + others);
        count("smtp_auth", EACH);
    }
    same_bytes(&site, &blog);

    site.order(&["unblock", "shop"]);
    wait_copies("what was held", &once(&shop), || site.copies("guilty-a"));
    same_bytes(&site, &shop);
    untouched(&theirs);
    let within = |bound: &str| agent.sum("sendwarden_gate_decision_seconds_bucket", &[&format!("le=\"{bound}\"")]);
    let bounds = ["0.0001", "0.00025", "0.0005", "0.001", "0.0025", "0.005", "+Inf"];
    println!("{role:?}: decisions within {}", bounds.map(|bound| format!("{bound} s: {}", within(bound))).join(", "));

    // The block of what scripts send covers nothing that people write.
    site.order(&["block", "shop", "--scope", "script"]);
    let [shop, blog] = inject(&site, ["guilty-b", "innocent-b"]);
    let (people, scripts): (Vec<_>, Vec<_>) = shop.into_iter().partition(|(way, _)| *way == Way::Login);
    wait_copies("everybody else's mail", &once(&blog), || site.copies("innocent-b"));
    wait_copies("what the account's people write", &once(&people), || site.copies("guilty-b"));
    wait_copies("what its scripts send to be on hold", &once(&scripts), || site.held_copies("guilty-b"));
    untouched(&theirs);
    site.order(&["purge", "shop", "--yes"]);
    wait_until("the account's queue to be empty", || site.postfix.queue().len() == theirs.len() + 1);
    untouched(&theirs);
    assert_eq!(site.copies("guilty-b"), once(&people), "nothing of what was purged arrives");
    assert_eq!((site.copies("suspect"), site.copies("admin")), Default::default());
    let mut free = Injector::start(&site.postfix, "web1", Way::Php, "");
    free.take(&Letter::new("free"));
    wait_until("new mail of a free account", || site.arrived("free").len() == 1);
    agent.stop();
}
