//! The gate on a real Postfix beside other filters: a real opendkim before it and behind it, a content filter that hands
//! mail back, another milter that quarantines. Each message is decided on once, and what others hold stays theirs.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]
#![allow(clippy::disallowed_methods, reason = "a test of real servers starts processes")]
mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use support::agent::Agent;
use support::dkim::Signer;
use support::gated::{ENTRY, MILTER, PASSWORD, Site, text, wait_copies};
use support::helper::Role;
use support::inject::{Injector, Letter, Way};
use support::neighbour::{Neighbour, SUSPECT};
use support::place::BASE;
use support::postfix::Options;
use support::wait_until;

const SHOP: (&str, &str) = ("web1", "sales@shop.test");
const BLOG: (&str, &str) = ("web2", "box@blog.test");
const ACCOUNTS: &str = "accounts:\n  - id: shop\n    unix_users: [web1]\n    logins: [sales@shop.test]\n  \
                        - id: blog\n    unix_users: [web2]\n    logins: [box@blog.test]\n";
const EACH: usize = 8;

fn site(extra: String, content_filter: bool, role: Role) -> Site {
    let options = Options { ipv6: true, extra, content_filter, ..Options::default() };
    let site = Site::on(&options, "gate:\n  mode: enforce\n  logins: hold\n", role, ACCOUNTS);
    for login in [SHOP.1, BLOG.1] {
        site.postfix.add_login(login, PASSWORD);
    }
    site
}

/// `first` and `second` are entries of a list of milters, up to the default action of ours.
fn lists(entries: [&str; 2]) -> String {
    let list = |action: &str| entries.map(|entry| entry.replace("ACTION", action)).join(", ");
    format!("smtpd_milters = {}\nnon_smtpd_milters = {}\n", list("accept"), list("tempfail"))
}

fn ours() -> String {
    format!("{ENTRY}ACTION }}")
}

/// Both accounts send by every way at once; what each has sent.
fn inject(site: &Site, prefixes: [&'static str; 2]) -> [BTreeMap<String, usize>; 2] {
    std::thread::scope(|scope| {
        let all = [(SHOP, prefixes[0]), (BLOG, prefixes[1])].map(|((user, login), prefix)| {
            Way::ALL.map(|way| {
                scope.spawn(move || {
                    let mut injector = Injector::start(&site.postfix, user, way, login);
                    let one = |n| {
                        let letter = Letter::new(&format!("{prefix}-{}-{n}-", way.name()));
                        injector.take(&letter);
                        (letter.to[0].clone(), 1)
                    };
                    (0..EACH).map(one).collect::<Vec<_>>()
                })
            })
        });
        all.map(|ways| ways.into_iter().flat_map(|way| way.join().unwrap()).collect())
    })
}

/// Blocks the shop, sends, unblocks. Each message is decided on once, what is held is the shop's, everything arrives once.
fn decided_once(site: &Site, agent: &Agent) {
    site.order(&["block", "shop", "--scope", "all"]);
    let [guilty, innocent] = inject(site, ["guilty", "innocent"]);
    wait_copies("everybody else's mail", &innocent, || site.copies("innocent"));
    wait_copies("everything else to be on hold", &guilty, || site.held_copies("guilty"));
    assert_eq!((site.copies("guilty"), site.held_copies("innocent")), Default::default());
    let decided = |decision: &str| site.decisions(agent, decision);
    wait_until("all of it to be counted", || {
        (decided("held"), decided("passed")) >= (guilty.len() as f64, innocent.len() as f64)
    });
    site.order(&["unblock", "shop"]);
    wait_copies("what was held", &guilty, || site.copies("guilty"));
    wait_until("an empty queue", || site.postfix.queue().is_empty());
    wait_until("the log to be read to its end", || agent.sum("sendwarden_log_backlog_bytes", &[]) == 0.0);
    assert_eq!((decided("held"), decided("passed")), (guilty.len() as f64, innocent.len() as f64));
    assert_eq!((decided("refused"), decided("discarded"), decided("would_hold")), (0.0, 0.0, 0.0));
    assert_eq!(agent.sum("sendwarden_gate_unknown_identities_total", &[]), 0.0);
    assert_eq!(agent.sum("sendwarden_gate_bypass_total", &[]), 0.0);
    assert_eq!((site.copies("guilty"), site.copies("innocent")), (guilty, innocent), "nothing arrives twice");
}

/// How many of the messages of this prefix arrived, and how many of them are signed.
fn signed(site: &Site, prefix: &str) -> (usize, usize) {
    site.postfix.accept.look(|messages| {
        let named: Vec<_> =
            messages.iter().filter(|one| one.unique().is_some_and(|name| name.starts_with(prefix))).collect();
        (named.len(), named.iter().filter(|one| one.header("DKIM-Signature").is_some()).count())
    })
}

struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Dir {
        let dir = PathBuf::from(format!("{BASE}/{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        Dir(dir)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

fn free_address() -> String {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

#[test]
fn a_signer_before_the_gate_signs_everything_and_changes_no_decision() {
    let (dir, role) = (Dir::new("dkim-before"), Role::Root);
    let signer = Signer::start(&dir.0, &free_address());
    let site = site(lists([&signer.entry(), &ours()]), false, role);
    let agent = site.agent();
    decided_once(&site, &agent);
    let all = EACH * Way::ALL.len();
    assert_eq!((signed(&site, "innocent"), signed(&site, "guilty")), ((all, all), (all, all)));
    agent.stop();
}

#[test]
fn a_signer_behind_the_gate_changes_no_decision() {
    let (dir, role) = (Dir::new("dkim-behind"), Role::Ordinary);
    let signer = Signer::start(&dir.0, &free_address());
    let site = site(lists([&ours(), &signer.entry()]), false, role);
    let agent = site.agent();
    decided_once(&site, &agent);
    let all = EACH * Way::ALL.len();
    // Postfix asks nobody behind the milter that holds a message: what was held has no signature. That is why
    // `setup postfix` puts the gate behind all others.
    assert_eq!((signed(&site, "innocent"), signed(&site, "guilty")), ((all, all), (all, 0)));
    agent.stop();
}

#[test]
fn what_a_content_filter_hands_back_is_not_decided_on_again() {
    for role in [Role::Root, Role::Ordinary] {
        let site = site(MILTER.to_owned(), true, role);
        let agent = site.agent();
        decided_once(&site, &agent);
        agent.stop();
    }
}

#[test]
fn what_another_milter_quarantined_too_stays_on_hold() {
    for role in [Role::Root, Role::Ordinary] {
        let neighbour = Neighbour::start();
        let site = site(lists([&neighbour.entry(), &ours()]), false, role);
        let agent = site.agent();
        let opened = Instant::now();
        wait_until("the gate to be open for a while", || opened.elapsed() > Duration::from_secs(4));
        site.order(&["block", "shop", "--scope", "all"]);
        let mut theirs = Vec::new();
        for way in Way::ALL {
            let mut injector = Injector::start(&site.postfix, SHOP.0, way, SHOP.1);
            let name = format!("suspect-{}-", way.name());
            let letter = Letter { sender: SUSPECT.to_owned(), ..Letter::new(&name) };
            injector.take(&letter);
            theirs.push((letter.to[0].clone(), site.postfix.queue_id(&letter.to[0])));
            injector.take(&Letter::new(&format!("ours-{}-", way.name())));
        }
        wait_until("all to be on hold", || site.held_copies("").len() == 2 * Way::ALL.len());
        site.order(&["unblock", "shop"]);
        wait_until("what only we have held", || site.arrived("ours").len() == Way::ALL.len());
        wait_until("the rest to be theirs", || site.postfix.queue().len() == Way::ALL.len());
        site.order(&["block", "shop", "--scope", "all"]);
        site.postfix.sendmail(SHOP.0, "a@hosting.test", &["purged@accept.test"], &text("purged"));
        wait_until("the last one to be on hold", || site.on_hold("purged").len() == 1);
        site.order(&["purge", "shop", "--yes"]);
        wait_until("ours to be gone", || site.on_hold("purged").is_empty());
        for (to, id) in &theirs {
            let queue = site.postfix.queue();
            assert!(queue.iter().any(|one| one.id == *id && one.queue == "hold"), "{to} {id}: {queue:?}");
        }
        assert_eq!(site.arrived("suspect"), [""; 0]);
        // Postfix asks nobody behind the milter that holds a message: no way in lacks the gate for that.
        agent.wait_sum("sendwarden_log_backlog_bytes", &[], 0.0);
        assert_eq!(agent.sum("sendwarden_gate_bypass_total", &[]), 0.0);
        assert!(neighbour.asked().len() >= theirs.len());
        agent.stop();
    }
}
