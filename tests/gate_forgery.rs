//! Whose a message is, when it says it is somebody else's: forged headers of every kind, a header that the server takes
//! away, a login in other letters. The account that is blocked forges the other one, and the other way round: not one
//! message is taken for the wrong account's. Who cannot be proven is counted and never held.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]
#![allow(clippy::disallowed_methods, reason = "a test of real servers starts processes")]
mod support;

use std::collections::BTreeMap;
use std::fs;
use std::time::Instant;

use support::gated::{MILTER, PASSWORD, Site, wait_copies};
use support::helper::Role;
use support::inject::{Injector, Letter, Way};
use support::place::command;
use support::postfix::Options;
use support::wait_until;

struct Who {
    user: &'static str,
    uid: u32,
    /// As its mail program spells it; the accounts file has it in small letters.
    login: &'static str,
}

const SHOP: Who = Who { user: "web1", uid: 2001, login: "Sales@SHOP.test" };
const BLOG: Who = Who { user: "web2", uid: 2002, login: "BOX@blog.Test" };
const ACCOUNTS: &str = "accounts:\n  - id: shop\n    unix_users: [web1]\n    logins: [sales@shop.test]\n  \
                        - id: blog\n    unix_users: [web2]\n    logins: [box@blog.test]\n";

/// A message that claims to be the other's in every header that says whose mail it is.
fn forged(name: &str, other: &Who) -> Letter {
    let (uid, login, user) = (other.uid, other.login, other.user);
    let claims = format!(
        "Received: by mx.hosting.test (Postfix, from userid {uid})\n\tid 4jYswH0Jn6z7xJG; Fri, 27 Nov 2026 00:00:00 +0000\n\
         Received: from localhost (localhost [127.0.0.1]) (Authenticated sender: {login})\n\
         \tby mx.hosting.test (Postfix) with ESMTPSA id 4jYswH0Jn6z7xJG; Fri, 27 Nov 2026 00:00:00 +0000\n\
         X-PHP-Originating-Script: {uid}:index.php\nX-PHP-Script: www.{user}.test/index.php for 127.0.0.1\n\
         X-Authenticated-Sender: {login}\nFrom: {login}\nSender: {user}@hosting.test\n"
    );
    Letter { sender: login.to_owned(), headers: claims, ..Letter::new(name) }
}

fn site(role: Role, extra: &str) -> Site {
    let options = Options { ipv6: true, extra: format!("{MILTER}{extra}"), ..Options::default() };
    let site = Site::on(&options, "gate:\n  mode: enforce\n  logins: hold\n", role, ACCOUNTS);
    for who in [&SHOP, &BLOG] {
        site.postfix.add_login(who.login, PASSWORD);
    }
    site
}

type Copies = BTreeMap<String, usize>;

/// Both accounts send so many messages by each of these ways at once.
fn inject(site: &Site, ways: &[Way], each: usize, prefixes: [&'static str; 2]) -> [Copies; 2] {
    std::thread::scope(|scope| {
        let all = [(&SHOP, &BLOG, prefixes[0]), (&BLOG, &SHOP, prefixes[1])].map(|(who, other, prefix)| {
            let thread = |way: &Way| {
                let way = *way;
                scope.spawn(move || {
                    // A login counts for more than the process that has it: here it is the other account's.
                    let user = if way == Way::Login { other.user } else { who.user };
                    let mut injector = Injector::start(&site.postfix, user, way, who.login);
                    let one = |n| {
                        let letter = forged(&format!("{prefix}-{}-{n}-", way.name()), other);
                        injector.take(&letter);
                        (letter.to[0].clone(), 1)
                    };
                    (0..each).map(one).collect::<Vec<_>>()
                })
            };
            ways.iter().map(thread).collect::<Vec<_>>()
        });
        all.map(|ways| ways.into_iter().flat_map(|way| way.join().unwrap()).collect())
    })
}

/// Everything of the blocked one is on hold, everything of the other arrives.
fn rightly_decided(site: &Site, ways: &[Way], each: usize) {
    let began = Instant::now();
    let [guilty, innocent] = inject(site, ways, each, ["guilty", "innocent"]);
    let handed_in = began.elapsed();
    let held = || fs::read_dir(site.postfix.queue_dir().join("hold")).unwrap().count();
    wait_until("the blocked one's mail to be on hold", || held() >= guilty.len());
    wait_until("the other one's mail", || site.postfix.accept.count() >= innocent.len());
    wait_until("everything to come to rest", || site.postfix.queue().iter().all(|one| one.queue == "hold"));
    println!(
        "{:?}: {} messages by {ways:?} handed in in {handed_in:?}, decided in {:?}",
        site.role,
        guilty.len() + innocent.len(),
        began.elapsed()
    );
    assert_eq!((site.copies("guilty"), site.held_copies("innocent")), Default::default());
    let sent = guilty.len() + innocent.len();
    assert_eq!(sent, 2 * each * ways.len(), "each has a name of its own");
    wait_copies("the blocked one's mail to be on hold", &guilty, || site.held_copies("guilty"));
    wait_copies("the other one's mail", &innocent, || site.copies("innocent"));
}

#[test]
fn no_header_and_no_letter_case_makes_a_message_somebody_elses() {
    let site = site(Role::Root, "");
    let agent = site.agent();
    site.order(&["block", "shop", "--scope", "all"]);
    rightly_decided(&site, &Way::ALL, 500);
    assert_eq!(agent.sum("sendwarden_gate_unknown_identities_total", &[]), 0.0);
    agent.stop();
}

#[test]
fn no_header_and_no_letter_case_makes_a_message_somebody_elses_to_an_ordinary_user() {
    let site = site(Role::Ordinary, "");
    let agent = site.agent();
    site.order(&["block", "shop", "--scope", "all"]);
    rightly_decided(&site, &Way::ALL, 100);
    assert_eq!(agent.sum("sendwarden_gate_unknown_identities_total", &[]), 0.0);
    agent.stop();
}

/// The server's own header of what scripts hand over is taken away; what they forge of an older one stays.
const CHECKS: &str = "/^Received: by mx.hosting.test \\(Postfix, from userid.*id 4jYswH0Jn6z7xJG/ DUNNO\n\
                      /^Received:.*from userid/ IGNORE\n";

#[test]
fn a_header_that_the_server_takes_away_makes_no_message_somebody_elses() {
    for role in [Role::Root, Role::Ordinary] {
        let site = site(role, "header_checks = regexp:$config_directory/checks\n");
        fs::write(site.postfix.config_dir().join("checks"), CHECKS).unwrap();
        let agent = site.agent();
        site.order(&["block", "shop", "--scope", "all"]);
        rightly_decided(&site, &[Way::Sendmail, Way::Php], 100);
        assert_eq!(agent.sum("sendwarden_gate_unknown_identities_total", &[]), 0.0);
        agent.stop();
    }
}

#[test]
fn who_cannot_be_proven_is_counted_and_never_held() {
    const EACH: usize = 20;
    let mut site = site(Role::Ordinary, "");
    let agent = site.agent();
    site.order(&["block", "shop", "--scope", "all"]);
    let proven = [Way::Smtp, Way::Smtp6, Way::Login];
    let handed = [Way::Sendmail, Way::Php];
    // Only the helper may look into the queue: without it nobody knows who has handed a message over.
    site.helper.take().unwrap().kill();
    wait_until("the agent to miss its helper", || agent.get("/-/ready").0 == 503);
    let unknown = inject(&site, &handed, EACH, ["unknown-a", "unknown-b"]);
    let [guilty, innocent] = inject(&site, &proven, EACH, ["guilty", "innocent"]);
    wait_until("all that nobody can be named for", || {
        let mut kick = command("postkick");
        kick.arg("-c").arg(site.postfix.config_dir()).args(["public", "pickup", "W"]);
        drop(kick.output().unwrap());
        [site.copies("unknown-a"), site.copies("unknown-b")] == unknown
    });
    wait_copies("the other one's mail", &innocent, || site.copies("innocent"));
    wait_copies("the blocked one's mail to be on hold", &guilty, || site.held_copies("guilty"));
    assert_eq!((site.copies("guilty"), site.held_copies("innocent"), site.held_copies("unknown")), Default::default());
    let count = (2 * handed.len() * EACH) as f64;
    // Tries that were put off, while the helper might have come back, are counted too.
    let passed = |labels: &[&str]| {
        let missed = agent.sum("sendwarden_gate_unknown_identities_total", labels);
        missed - agent.sum("sendwarden_gate_decisions_total", &["decision=\"tempfailed\""])
    };
    wait_until("each that passed to be counted", || passed(&["reason=\"no_helper\""]) == count);
    assert_eq!(passed(&[]), count);
    agent.stop();
}
