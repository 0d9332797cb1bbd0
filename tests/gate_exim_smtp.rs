//! SMTP from this host without a login, on a real Exim of both forms of message ids: whose process the client is is found
//! by the agent, whom Exim asks. Not one message of a blocked account gets out, nobody else's waits, each is delivered once
//! after the block; who claims to be somebody else is believed nothing. Without an answer it passes, and that is counted.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]
#![allow(clippy::disallowed_methods, reason = "a test of real servers starts processes")]
mod support;

use std::fs;
use std::time::{Duration, Instant};

use support::agent::Agent;
use support::exim::{Call, Version};
use support::gated_exim::{Site, names};
use support::helper::Role;
use support::wait_until;

fn known(site: &Site, agent: &Agent) {
    for user in ["web1", "web2", "web3"] {
        site.script(user, &format!("known-{user}"), Call::Arguments);
    }
    agent.wait_sum("sendwarden_accounts_known", &[], 3.0);
}

fn none_gets_out(version: Version, role: Role) {
    const CLIENTS: usize = 20;
    const EACH: usize = 10;
    let all = CLIENTS * EACH;
    let site = Site::new(version, role, "  mode: enforce\n", "");
    let agent = site.agent();
    let began = Instant::now();
    known(&site, &agent);
    site.tell(&["block", "web1", "--scope", "script"]);
    std::thread::scope(|scope| {
        for (user, prefix) in [("web1", "guilty"), ("web2", "innocent")] {
            let site = &site;
            scope.spawn(move || {
                for client in 0..CLIENTS {
                    let own: Vec<String> = (0..EACH).map(|n| format!("{prefix}{}", client * EACH + n)).collect();
                    let answers = site.local(user, &own);
                    assert!(answers.len() == EACH && answers.iter().all(|said| said.starts_with("250")), "{answers:?}");
                }
            });
        }
    });
    wait_until("everybody else's mail", || site.arrived("innocent").len() == all);
    site.exim.settle();
    assert_eq!((site.frozen("guilty"), site.arrived("guilty")), (names("guilty", all), vec![]));
    assert_eq!((site.frozen("innocent"), site.arrived("innocent")), (vec![], names("innocent", all)), "each once");
    site.wait_held("web1", all as u64);
    wait_until("each decision to be counted", || site.decisions(&agent, "local_smtp", "held") == all as f64);
    assert_eq!(site.decisions(&agent, "local_smtp", "passed"), all as f64);
    for metric in ["sendwarden_gate_unknown_identities_total", "sendwarden_gate_bypass_total"] {
        assert_eq!(agent.sum(metric, &[]), 0.0, "{metric}");
    }
    // It is of who sent it, and not of whom it claims to be of; a killed agent knows that too.
    agent.kill();
    let agent = site.agent();
    site.wait_held("web1", all as u64);
    site.wait_held("shop", 0);
    assert_eq!(site.frozen("guilty").len(), all);
    // Nor later, when nothing can be the end of a message from before the log, which is waited for half a minute.
    wait_until("the log to be known for a while", || began.elapsed() > Duration::from_secs(33));
    site.local("web1", &["later".to_owned()]);
    site.wait_held("web1", all as u64 + 1);
    // Of what is not held the log knows no more than whom it claims to be of, and nobody is asked: that counts there.
    wait_until("its own figures to have it", || site.status("web1")["held"] == all as u64 + 1);
    let claimed = site.status("shop");
    assert_eq!((&claimed["held"], claimed["messages"].as_u64()), (&0.into(), Some(all as u64 + 1)), "{claimed}");
    // Who hangs up before the answer gets nothing through by that.
    (0..10).for_each(|n| site.hang_up("web1", &format!("gone{n}")));
    for n in 0..10 {
        site.exim.wait_log(&[&format!("gone{n}@shop.test")]);
    }
    site.exim.settle();
    assert_eq!(site.arrived("gone"), Vec::<String>::new());

    site.tell(&["unblock", "web1"]);
    wait_until("what was held", || site.arrived("guilty").len() == all);
    site.exim.settle();
    assert_eq!(site.arrived("guilty"), names("guilty", all), "each once");
    assert_eq!(site.arrived("later").len(), 1);
    assert_eq!(agent.sum("sendwarden_hold_drift_total", &["kind=\"left_over\""]), 0.0, "nobody else's block ended");
    assert!(site.exim.accept.with_id("guilty7")[0].data.contains("end of guilty7"));
    site.local("web1", &["free".to_owned()]);
    wait_until("new mail of a free account", || site.arrived("free").len() == 1);
    agent.stop();
    assert!(!site.exim.flags_dir().join("gate.sock").exists(), "nobody is to be asked");
}

#[test]
fn not_one_message_of_a_blocked_account_gets_out_of_4_96_by_local_smtp() {
    none_gets_out(Version::V4_96, Role::Root);
}

#[test]
fn not_one_message_of_a_blocked_account_gets_out_of_4_98_by_local_smtp_with_an_ordinary_user() {
    none_gets_out(Version::V4_98, Role::Ordinary);
}

#[test]
fn without_an_answer_it_passes_in_time_and_is_counted() {
    let site = Site::new(Version::V4_98, Role::Root, "  mode: enforce\n", "");
    let agent = site.agent();
    let began = Instant::now();
    known(&site, &agent);
    site.tell(&["block", "web1"]);
    let bypass = |agent: &Agent, when: &str| {
        agent.sum("sendwarden_gate_bypass_total", &["origin=\"local_smtp\"", &format!("when=\"{when}\"")])
    };
    // What came in the moments around its opening may have been seen by the agent before.
    wait_until("the gate to be open for a while", || began.elapsed() > Duration::from_secs(4));
    // It hangs: two seconds, and not more.
    agent.signal(rustix::process::Signal::STOP);
    let asked = Instant::now();
    site.local("web1", &["hung".to_owned()]);
    let took = asked.elapsed();
    assert!(took > Duration::from_millis(1_500) && took < Duration::from_secs(8), "{took:?}");
    site.script("web1", "script-hung", Call::Arguments);
    wait_until("it to arrive", || site.arrived("hung").len() == 1);
    agent.signal(rustix::process::Signal::CONT);
    wait_until("it to be counted", || bypass(&agent, "open") == 1.0);
    // What it did not answer it does not hold.
    assert_eq!(site.decisions(&agent, "local_smtp", "held"), 0.0);
    site.wait_held("web1", 1);
    // It is away: at once.
    agent.stop();
    let stopped = Instant::now();
    wait_until("the agent to be away for a while", || stopped.elapsed() > Duration::from_secs(5));
    let asked = Instant::now();
    site.local("web1", &["away".to_owned()]);
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
    wait_until("it to arrive", || site.arrived("away").len() == 1);
    site.script("web1", "script-away", Call::Arguments);
    site.exim.settle();
    assert_eq!(site.frozen("script"), ["script-away", "script-hung"], "the flag stands");
    let again = Instant::now();
    wait_until("a second of the log to be over", || again.elapsed() > Duration::from_secs(2));
    let agent = site.agent();
    wait_until("what passed meanwhile to be counted", || bypass(&agent, "away") == 1.0);
    assert_eq!(bypass(&agent, "open"), 1.0);
    agent.stop();
}

#[test]
fn a_network_of_an_account_is_asked_about_and_others_are_not() {
    let site = Site::new(Version::V4_98, Role::Root, "  mode: enforce\n", "");
    let agent = site.agent();
    known(&site, &agent);
    site.tell(&["block", "shop"]);
    assert_eq!(fs::read_to_string(site.exim.flags_dir().join("networks")).unwrap(), "10.9.0.0/16\n");
    let said = site.pretend("10.9.1.1.5000");
    assert!(said.contains("sendwarden: HOLD smtp:sendwarden ") && said.contains("250 OK id="), "{said}");
    let said = site.pretend("10.8.1.1.5000");
    assert!(!said.contains("sendwarden: HOLD") && said.contains("250 OK id="), "{said}");
    wait_until("one decision", || site.decisions(&agent, "local_smtp", "held") == 1.0);
    assert_eq!(agent.sum("sendwarden_gate_decisions_total", &[]), 1.0, "nothing else is asked about");
    agent.stop();
}

#[test]
fn watching_counts_and_holds_nothing() {
    let site = Site::new(Version::V4_98, Role::Root, "  mode: watch\n", "");
    fs::create_dir(site.exim.flags_dir()).unwrap();
    let agent = site.agent();
    known(&site, &agent);
    site.tell(&["block", "web1"]);
    site.local("web1", &names("watched", 3));
    site.local("web2", &names("other", 2));
    wait_until("all of it to arrive", || site.arrived("watched").len() == 3 && site.arrived("other").len() == 2);
    wait_until("it to be counted", || site.decisions(&agent, "local_smtp", "would_hold") == 3.0);
    assert_eq!(site.decisions(&agent, "local_smtp", "passed"), 2.0);
    agent.stop();
}
