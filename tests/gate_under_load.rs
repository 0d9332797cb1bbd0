//! The gate on a real Postfix when much happens at once: a block in the middle of a burst, a log that is written no more,
//! a machine that has no time. Nothing that is accepted after the answer leaves, nothing is lost or sent twice, and nobody
//! else notices.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]
#![allow(clippy::disallowed_methods, reason = "a test of real servers starts processes and reads the clock")]
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::process::Child;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use support::agent::Agent;
use support::gated::{MILTER, PASSWORD, Site, wait_copies};
use support::helper::Role;
use support::inject::{Answer, Injector, Letter, Way};
use support::place::command;
use support::postfix::Options;
use support::wait_until;

const SHOP: (&str, &str) = ("web1", "sales@shop.test");
const BLOG: (&str, &str) = ("web2", "box@blog.test");
const ACCOUNTS: &str = "accounts:\n  - id: shop\n    unix_users: [web1]\n    logins: [sales@shop.test]\n  \
                        - id: blog\n    unix_users: [web2]\n    logins: [box@blog.test]\n";

fn site(role: Role) -> Site {
    let options = Options { ipv6: true, extra: MILTER.to_owned(), ..Options::default() };
    let site = Site::on(&options, "gate:\n  mode: enforce\n  logins: hold\n", role, ACCOUNTS);
    for login in [SHOP.1, BLOG.1] {
        site.postfix.add_login(login, PASSWORD);
    }
    site
}

/// Seconds of the host's clock, as the injectors have it.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

/// Hands in so many messages by one way, and says when each was taken.
fn burst(
    site: &Site,
    who: (&str, &str),
    way: Way,
    prefix: &str,
    count: usize,
    done: &AtomicUsize,
) -> Vec<(String, Answer)> {
    let mut injector = Injector::start(&site.postfix, who.0, way, who.1);
    let one = |n| {
        let letter = Letter::new(&format!("{prefix}-{}-{n}-", way.name()));
        let answer = injector.take(&letter);
        done.fetch_add(1, Ordering::SeqCst);
        (letter.to[0].clone(), answer)
    };
    (0..count).map(one).collect()
}

fn once(taken: &[(String, Answer)]) -> BTreeMap<String, usize> {
    taken.iter().map(|(to, _)| (to.clone(), 1)).collect()
}

#[test]
fn a_block_in_the_middle_of_a_burst_lets_nothing_out_that_is_accepted_after_its_answer() {
    in_a_burst(Role::Root);
}

#[test]
fn a_block_in_the_middle_of_a_burst_lets_nothing_out_that_is_accepted_after_its_answer_by_an_ordinary_user() {
    in_a_burst(Role::Ordinary);
}

fn in_a_burst(role: Role) {
    const EACH: usize = 250;
    const OTHERS: usize = 100;
    let site = site(role);
    let agent = site.agent();
    let (begun, others) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let (told, guilty, innocent) = std::thread::scope(|scope| {
        let (site, begun, others) = (&site, &begun, &others);
        let guilty = [Way::Sendmail, Way::Php, Way::Smtp6, Way::Login]
            .map(|way| scope.spawn(move || burst(site, SHOP, way, "guilty", EACH, begun)));
        let innocent = [Way::Sendmail, Way::Smtp]
            .map(|way| scope.spawn(move || burst(site, BLOG, way, "innocent", OTHERS, others)));
        wait_until("the burst to be under way", || begun.load(Ordering::SeqCst) > EACH);
        let said = site.order(&["block", "shop", "--scope", "all"]);
        let told = now();
        assert!(!said.contains("NOT IN FORCE"), "{said}");
        let joined = |threads: Vec<std::thread::ScopedJoinHandle<'_, Vec<(String, Answer)>>>| -> Vec<_> {
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        };
        (told, joined(guilty.into()), joined(innocent.into()))
    });
    assert_eq!((guilty.len(), innocent.len()), (4 * EACH, 2 * OTHERS));
    let late: BTreeSet<&String> = guilty.iter().filter(|(_, answer)| answer.began > told).map(|(to, _)| to).collect();
    assert!(late.len() > EACH, "only {} came after the answer", late.len());
    wait_copies("everybody else's mail", &once(&innocent), || site.copies("innocent"));
    // Each of the account's messages is delivered or on hold when nothing is under way any more.
    wait_until("the account's messages to come to rest", || {
        site.copies("guilty").len() + site.held_copies("guilty").len() == guilty.len()
            && site.postfix.queue().iter().all(|message| message.queue == "hold")
    });
    let (arrived, held) = (site.copies("guilty"), site.held_copies("guilty"));
    println!(
        "{role:?}: of {} messages {} arrived, {} are on hold; {} came after the answer",
        guilty.len(),
        arrived.len(),
        held.len(),
        late.len()
    );
    let escaped: Vec<_> = late.iter().filter(|to| arrived.contains_key(**to)).collect();
    assert!(escaped.is_empty(), "accepted after the answer and delivered: {escaped:?}");
    assert!(arrived.values().all(|copies| *copies == 1), "{arrived:?}");
    assert!(arrived.keys().all(|to| !held.contains_key(to)), "delivered and on hold");
    assert_eq!(site.held_copies("innocent"), BTreeMap::new());
    site.order(&["unblock", "shop"]);
    wait_until("everything to arrive", || site.copies("guilty").len() == guilty.len());
    wait_until("an empty queue", || site.postfix.queue().is_empty());
    assert_eq!(site.copies("guilty"), once(&guilty), "each once");
    assert_eq!(site.copies("innocent"), once(&innocent));
    agent.stop();
}

/// Takes all the time of the machine that it can get.
struct Busy(Vec<Child>);

impl Busy {
    fn start(loops: usize) -> Busy {
        let spin = |_| command("sh").args(["-c", "while :; do :; done"]).spawn().unwrap();
        Busy((0..loops).map(spin).collect())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        for child in &mut self.0 {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

#[test]
fn the_gate_needs_no_log() {
    for role in [Role::Root, Role::Ordinary] {
        let site = site(role);
        let agent = site.agent();
        let mut first = Injector::start(&site.postfix, "web2", Way::Sendmail, "");
        first.take(&Letter::new("first"));
        agent.wait_sum("sendwarden_account_messages_accepted_total", &["account=\"blog\""], 1.0);
        // The server writes into another file from now on: the agent's log stands still.
        let elsewhere = site.postfix.log_path().with_file_name("elsewhere.log");
        site.postfix.run("postconf", &["-e", &format!("maillog_file = {}", elsewhere.display())]);
        site.postfix.run("postfix", &["reload"]);
        // It is made by the next line that is logged.
        first.take(&Letter::new("second"));
        wait_until("the new log", || elsewhere.exists());
        wait_until("the second message", || site.arrived("second").len() == 1);
        let lines = || site.postfix.log().lines().count() as f64;
        let read = lines();
        agent.wait_sum("sendwarden_log_lines_read_total", &[], read);
        nothing_out_and_nobody_else_held(&site, &agent);
        assert_eq!((lines(), lines_read(&agent)), (read, read), "the log was written after all");
        agent.stop();
    }
}

fn lines_read(agent: &Agent) -> f64 {
    agent.sum("sendwarden_log_lines_read_total", &[])
}

#[test]
fn the_gate_needs_no_time() {
    for role in [Role::Root, Role::Ordinary] {
        let site = site(role);
        let agent = site.agent();
        let _busy = Busy::start(6);
        nothing_out_and_nobody_else_held(&site, &agent);
        agent.stop();
    }
}

/// The short version of what `gate_matrix` proves.
fn nothing_out_and_nobody_else_held(site: &Site, agent: &Agent) {
    const EACH: usize = 12;
    let inject = |prefix: &'static str, other: &'static str| {
        let done = &AtomicUsize::new(0);
        std::thread::scope(|scope| {
            let all = [(SHOP, prefix), (BLOG, other)].map(|(who, prefix)| {
                Way::ALL.map(|way| scope.spawn(move || burst(site, who, way, prefix, EACH, done)))
            });
            all.map(|ways| ways.into_iter().flat_map(|way| way.join().unwrap()).collect::<Vec<_>>())
        })
    };
    site.order(&["block", "shop", "--scope", "all"]);
    let [guilty, innocent] = inject("guilty", "innocent");
    wait_copies("everybody else's mail", &once(&innocent), || site.copies("innocent"));
    wait_copies("everything else to be on hold", &once(&guilty), || site.held_copies("guilty"));
    assert_eq!((site.copies("guilty"), site.held_copies("innocent")), Default::default());
    assert_eq!(agent.sum("sendwarden_gate_unknown_identities_total", &[]), 0.0);
    site.order(&["unblock", "shop"]);
    wait_copies("what was held", &once(&guilty), || site.copies("guilty"));
    wait_until("an empty queue", || site.postfix.queue().is_empty());
    site.order(&["block", "shop", "--scope", "all"]);
    let [purged, free] = inject("purged", "free");
    wait_copies("everybody else's mail", &once(&free), || site.copies("free"));
    wait_copies("everything else to be on hold", &once(&purged), || site.held_copies("purged"));
    site.order(&["purge", "shop", "--yes"]);
    wait_until("an empty queue", || site.postfix.queue().is_empty());
    assert_eq!((site.copies("guilty"), site.copies("purged")), (once(&guilty), BTreeMap::new()));
    assert_eq!((site.copies("innocent"), site.copies("free")), (once(&innocent), once(&free)));
}
