//! A limit for volume is exact on a real Exim too, of both forms of message ids: with a limit of 50, exactly 50 messages
//! leave, when four inject at once, by scripts and by a login, and when the agent is killed in the middle. Counted at the
//! receiver and in the queue.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]
#![allow(clippy::disallowed_methods, reason = "a test of real servers starts processes")]
mod support;

use support::agent::Agent;
use support::exim::{Call, Version};
use support::gated_exim::{Site, names};
use support::helper::Role;
use support::{wait_for, wait_until};

const LIMIT: usize = 50;
const RULES: &str = "enforcement: {dry_run: false}\nrules:\n  - {name: burst, signal: messages, window: 1h, limit: 50, action: block}\n";

/// Four at once, recipients as arguments and from the headers.
fn inject(site: &Site, user: &str, prefix: &str, n: usize) {
    std::thread::scope(|scope| {
        for part in 0..4 {
            let call = if part % 2 == 0 { Call::Arguments } else { Call::Headers };
            scope.spawn(move || (part..n).step_by(4).for_each(|at| site.script(user, &format!("{prefix}{at}"), call)));
        }
    });
}

/// Every message is with the receiver or on hold, each once: how many are where.
fn counted(site: &Site, prefix: &str, n: usize) -> (usize, usize) {
    let (arrived, held) = wait_for("every message to be delivered or on hold", || {
        let (arrived, held) = (site.arrived(prefix), site.frozen(prefix));
        (arrived.len() + held.len() >= n).then_some((arrived, held))
    });
    let counts = (arrived.len(), held.len());
    let mut all = [arrived, held].concat();
    all.sort();
    assert_eq!(all, names(prefix, n));
    counts
}

fn known(site: &Site, agent: &Agent) {
    site.script("web1", "first0", Call::Arguments);
    agent.wait_sum("sendwarden_account_messages_accepted_total", &["account=\"web1\""], 1.0);
    wait_until("the rules to be told to the server", || site.flags("rules").contains(&"volume".to_owned()));
}

fn fifty_leave(version: Version, role: Role) {
    let site = Site::new(version, role, "  mode: enforce\n  logins: hold\n", RULES);
    let agent = site.agent();
    known(&site, &agent);
    std::thread::scope(|scope| {
        scope.spawn(|| inject(&site, "web1", "a", 99));
        scope.spawn(|| inject(&site, "web2", "b", LIMIT));
    });
    assert_eq!(counted(&site, "a", 99), (LIMIT - 1, 100 - LIMIT));
    assert_eq!(counted(&site, "b", LIMIT), (LIMIT, 0), "fifty are no more than the limit");
    let blocked = wait_for("the block", || Some(site.status("web1")).filter(|view| view["state"] == "ko"));
    assert_eq!(blocked["sanction"]["by"], "rule burst", "{blocked}");
    assert_eq!(blocked["sanction"]["reason"], "51 messages in 1h, limit 50", "{blocked}");
    site.wait_held("web1", (100 - LIMIT) as u64);
    wait_until("the log to tell of all", || site.status("web1")["messages"] == 100);
    assert_eq!(site.status("web1")["verdicts"].as_array().unwrap().len(), 1, "said once");
    // A person lifts it: everything leaves, and more may.
    wait_until("the block to be carried out", || site.status("web1")["sanction"]["under_way"].is_null());
    site.tell(&["unblock", "web1"]);
    wait_until("what was held to be delivered", || site.arrived("a").len() == 99);
    inject(&site, "web1", "c", 8);
    assert_eq!(counted(&site, "c", 8), (8, 0));
    agent.stop();
}

#[test]
fn fifty_leave_and_no_more_on_4_96() {
    fifty_leave(Version::V4_96, Role::Root);
}

#[test]
fn fifty_leave_and_no_more_on_4_98_with_an_ordinary_agent() {
    fifty_leave(Version::V4_98, Role::Ordinary);
}

#[test]
fn an_agent_that_is_killed_twice_in_the_burst_lets_no_more_through() {
    let site = Site::new(Version::V4_96, Role::Root, "  mode: enforce\n  logins: hold\n", RULES);
    let mut agent = site.agent();
    known(&site, &agent);
    agent = std::thread::scope(|scope| {
        let burst = scope.spawn(|| inject(&site, "web1", "a", LIMIT - 5));
        for least in [15, 35] {
            wait_until("the burst to be under way", || site.arrived("a").len() >= least);
            agent.kill();
            agent = site.agent();
        }
        burst.join().unwrap();
        // While nobody answers, mail passes; it counts all the same.
        inject(&site, "web1", "b", 40);
        agent
    });
    let (a, b) = (counted(&site, "a", LIMIT - 5), counted(&site, "b", 40));
    assert_eq!((a.0 + b.0, a.1 + b.1), (LIMIT - 1, 36), "{a:?} {b:?}");
    agent.stop();
}

#[test]
fn a_login_is_held_at_its_limit() {
    let rules = "enforcement: {dry_run: false}\nrules:\n  - {name: box, signal: recipients, scope: login, window: 1h, \
                 limit: 10, action: block}\n";
    let site = Site::new(Version::V4_96, Role::Root, "  mode: enforce\n  logins: hold\n", rules);
    let agent = site.agent();
    known(&site, &agent);
    for n in 0..15 {
        site.login("sales@shop.test", &format!("s{n}")).unwrap();
    }
    assert_eq!(counted(&site, "s", 15), (10, 5));
    let blocked = wait_for("the block", || Some(site.status("shop")).filter(|view| view["state"] == "ko"));
    assert_eq!(blocked["sanction"]["scope"], "login:sales@shop.test", "{blocked}");
    agent.stop();
}
