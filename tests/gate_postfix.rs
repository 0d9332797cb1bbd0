//! The gate on a real Postfix around a kill of the agent, with clients that hang up, and where it only watches. That it
//! holds by every way in is in `gate_matrix`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]
#![allow(clippy::disallowed_methods, reason = "a test of real servers starts processes")]
mod support;

use std::sync::atomic::{AtomicBool, Ordering};

use support::gated::{PASSWORD, Site};
use support::helper::Role;
use support::place::{command, succeed};
use support::wait_until;

#[test]
fn nothing_that_is_accepted_after_the_acknowledgement_leaves_also_around_a_kill() {
    around_a_kill(Role::Root);
}

#[test]
fn nothing_that_is_accepted_after_the_acknowledgement_leaves_also_around_a_kill_by_an_ordinary_user() {
    around_a_kill(Role::Ordinary);
}

fn around_a_kill(role: Role) {
    let site = Site::new("gate:\n  mode: enforce\n", role);
    site.postfix.add_login("box1@hosting.test", PASSWORD);
    let agent = site.agent();
    site.script("web1", "known1");
    site.login("box1@hosting.test", "known2").unwrap();
    wait_until("the first messages", || site.arrived("known").len() == 2);
    agent.wait_sum("sendwarden_accounts_known", &[], 2.0);

    let blocked = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (site, blocked) = (&site, &blocked);
        let burst = scope.spawn(move || {
            let mut after = 0;
            for n in 0.. {
                let late = blocked.load(Ordering::SeqCst);
                site.script("web1", &format!("{}{n}-", if late { "late" } else { "early" }));
                after += usize::from(late);
                if after == 40 {
                    return;
                }
            }
        });
        wait_until("the burst to be under way", || site.arrived("early").len() > 20);
        site.tell(&["block", "web1"]);
        blocked.store(true, Ordering::SeqCst);
        burst.join().unwrap();
    });
    wait_until("what came after the answer to be on hold", || site.on_hold("late").len() == 40);
    assert_eq!(site.arrived("late"), Vec::<String>::new());

    // Nobody is held by a login that is blocked: it is told.
    site.tell(&["block", "box1@hosting.test", "--scope", "all"]);
    let refused = site.login("box1@hosting.test", "login").unwrap_err();
    assert!(refused.contains("550 5.7.1") && refused.contains("on hold"), "{refused}");

    agent.kill();
    // Without the agent a script's mail waits where it was handed in, and nothing is lost.
    site.script("web1", "late-away");
    site.script("web2", "innocent-away");
    let agent = site.agent();
    // It may be between two of its own starts.
    let mut kick = command("postkick");
    kick.arg("-c").arg(site.postfix.config_dir()).args(["public", "pickup", "W"]);
    wait_until("pickup to be woken", || kick.output().is_ok_and(|output| output.status.success()));
    wait_until("the innocent one's mail", || site.arrived("innocent").len() == 1);
    wait_until("the blocked one's mail to be on hold", || site.on_hold("late").len() == 41);

    // Killed with the tape written and the store behind, the next agent knows all that is held.
    (0..20).for_each(|n| site.script("web1", &format!("late-last{n}-")));
    wait_until("the last ones to be on hold", || site.on_hold("late").len() == 61);
    agent.kill();
    let agent = site.agent();
    site.tell(&["unblock", "web1"]);
    wait_until("all of it to arrive", || site.arrived("late").len() == 61);
    let mut once = site.arrived("");
    once.dedup();
    assert_eq!(once, site.arrived(""), "nothing arrives twice");
    wait_until("an empty queue", || site.postfix.queue().is_empty());
    agent.stop();
}

/// All of it in one write, and gone: nobody holds that end any more when the message is complete.
const HIT_AND_RUN: &str = r#"
exec 3<>/dev/tcp/127.0.0.1/$1
printf 'HELO x\r\nMAIL FROM:<x@y.test>\r\nRCPT TO:<%s>\r\nDATA\r\nX-Test-Id: %s\r\n\r\nbody\r\n.\r\nQUIT\r\n' "$2" "$3" >&3
exec 3>&-
"#;

#[test]
fn a_client_that_hangs_up_at_once_is_no_way_out() {
    hit_and_run(Role::Root);
}

#[test]
fn a_client_that_hangs_up_at_once_is_no_way_out_by_an_ordinary_user() {
    hit_and_run(Role::Ordinary);
}

fn hit_and_run(role: Role) {
    const EACH: usize = 40;
    let site = Site::new("gate:\n  mode: enforce\n", role);
    let agent = site.agent();
    site.script("web1", "known");
    wait_until("the first message", || site.arrived("known").len() == 1);
    agent.wait_sum("sendwarden_accounts_known", &[], 1.0);
    let run = |name: &str| {
        std::thread::scope(|scope| {
            for part in 0..4 {
                let site = &site;
                scope.spawn(move || {
                    for n in (0..EACH).filter(|n| n % 4 == part) {
                        let name = format!("{name}{n}");
                        let (port, to) = (site.postfix.smtp_port().to_string(), format!("{name}@accept.test"));
                        let mut client = command("setpriv");
                        client.args([
                            "--reuid",
                            "web1",
                            "--regid",
                            "web1",
                            "--clear-groups",
                            "bash",
                            "-c",
                            HIT_AND_RUN,
                        ]);
                        client.args(["bash", &port, &to, &name]).current_dir("/");
                        succeed(&mut client, None);
                    }
                });
            }
        });
        wait_until("every conversation to be over", || {
            let log = site.postfix.log();
            let count = |word: &str| log.lines().filter(|line| line.contains(word)).count();
            count("]: connect from") == count("]: disconnect from")
                && site.postfix.queue().iter().all(|m| m.queue == "hold")
        });
    };
    // Nobody is blocked: whoever hangs up is served as ever.
    run("free");
    assert!(site.arrived("free").len() > EACH / 2, "{}", site.arrived("free").len());
    site.tell(&["block", "web1"]);
    run("ran");
    assert_eq!(site.arrived("ran"), Vec::<String>::new());
    let refused = ["decision=\"refused\"", "origin=\"local_smtp\""];
    wait_until("some to have been too late to be known", || {
        agent.sum("sendwarden_gate_decisions_total", &refused) > 0.0 || !site.on_hold("ran").is_empty()
    });
    agent.stop();
}

#[test]
fn a_gate_that_watches_lets_everything_pass_and_says_what_it_would_hold() {
    watch(Role::Root);
}

#[test]
fn a_gate_that_watches_lets_everything_pass_and_says_what_it_would_hold_by_an_ordinary_user() {
    watch(Role::Ordinary);
}

fn watch(role: Role) {
    let site = Site::new("gate:\n  mode: watch\n", role);
    let agent = site.agent();
    site.script("web1", "first");
    agent.wait_sum("sendwarden_accounts_known", &[], 1.0);
    wait_until("the first message", || site.arrived("first").len() == 1);
    site.tell(&["block", "web1"]);
    (0..5).for_each(|n| site.script("web1", &format!("watched{n}")));
    wait_until("everything", || site.arrived("watched").len() == 5);
    agent.wait_sum("sendwarden_gate_decisions_total", &["decision=\"would_hold\"", "origin=\"script\""], 5.0);
    assert_eq!(site.decisions(&agent, "held"), 0.0);
    agent.stop();
}
