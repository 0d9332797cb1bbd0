//! Truth at the far end: what the agent says of every account equals what injectors, sinks and queue directories
//! of real Postfix instances say, whatever happened to the mail, the log and the agent in between.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a test"
)]
#![allow(clippy::disallowed_methods, reason = "a test of real servers waits in real time")]
mod support;

use std::path::PathBuf;

use support::agent::{Agent, configure};
use support::postfix::{Options, Postfix};
use support::truth::{self, ACCOUNTS, By, Injected, PASSWORD, Truth, agree, difference, from_replay, from_status};
use support::wait_until;

const SOURCES: [By<'static>; 11] = [
    By::Script("web1"),
    By::Login("box1@hosting.test"),
    By::Loopback("x@shop.test"),
    By::Script("web2"),
    By::Login("main@hosting.test"),
    By::Loopback("y@shop2.test"),
    By::Script("web3"),
    By::Login("box2@hosting.test"),
    By::Login("billing@shop.test"),
    By::Loopback("z@nowhere.test"),
    By::Login("news@shop2.test"),
];

const MIXES: [&[&str]; 5] = [
    &["accept.test"],
    &["accept.test", "accept.test", "reject.test"],
    &["accept.test", "defer.test", "reject.test", "forge.test"],
    &["forward"],
    &["defer.test", "forge.test"],
];

/// No retry by itself: an attempt happens when the test asks for one.
const PATIENT: &str = "queue_run_delay = 3000s\nminimal_backoff_time = 3000s\nmaximal_backoff_time = 4000s\n\
                       header_checks = regexp:{ { /^X-Hold:/ HOLD by a header } }\n";

fn start(long_queue_ids: bool, content_filter: bool, name: &str) -> Postfix {
    let syslog_name = name.to_owned();
    let postfix = Postfix::start(&Options {
        long_queue_ids,
        content_filter,
        syslog_name,
        ipv6: false,
        extra: PATIENT.to_owned(),
    });
    for source in SOURCES {
        if let By::Login(login) = source {
            postfix.add_login(login, PASSWORD);
        }
    }
    postfix.forge("450 4.2.0 not yet");
    postfix
}

/// Every source sends one of the mixes, each source another one.
fn round(truth: &mut Truth, postfix: &Postfix, shift: usize) {
    for (n, by) in SOURCES.into_iter().enumerate() {
        truth.send(postfix, by, MIXES[(n + shift) % MIXES.len()]);
    }
}

/// What administrators do to mail that waits. Gives the messages they deleted.
fn administrate(truth: &mut Truth, postfix: &Postfix) -> Vec<Injected> {
    let waits = |truth: &mut Truth, by| truth.send(postfix, by, &["defer.test", "defer.test"]);
    let id = |message: &Injected| {
        wait_until("every recipient of the message to be put off", || {
            let answers = postfix.defer.answers();
            message.recipients.iter().all(|to| answers.iter().any(|(asked, _)| asked == to))
        });
        postfix.queue_id(&message.recipients[0])
    };
    let deleted = [By::Script("web1"), By::Login("box1@hosting.test"), By::Loopback("x@shop.test")];
    let deleted = deleted.map(|by| waits(truth, by));
    deleted.iter().for_each(|m| drop(postfix.run("postsuper", &["-d", &id(m)])));

    let held = [By::Script("web2"), By::Login("main@hosting.test")].map(|by| waits(truth, by));
    held.iter().for_each(|m| drop(postfix.run("postsuper", &["-h", &id(m)])));

    let released = [By::Script("web3"), By::Loopback("y@shop2.test")].map(|by| waits(truth, by));
    for message in &released {
        let held = id(message);
        postfix.run("postsuper", &["-h", &held]);
        postfix.run("postsuper", &["-H", &held]);
        postfix.run("postqueue", &["-i", &held]);
        wait_until("another attempt", || {
            let answers = postfix.defer.answers();
            answers.iter().filter(|(to, _)| *to == message.recipients[0]).count() == 2
        });
    }

    let expired = [By::Script("web1"), By::Login("billing@shop.test")].map(|by| waits(truth, by));
    for message in &expired {
        let late = id(message);
        postfix.run("postsuper", &["-e", &late]);
        postfix.run("postqueue", &["-i", &late]);
    }

    let by_header = truth.send_with(postfix, By::Script("web1"), &["accept.test", "accept.test"], "X-Hold: yes\n");
    // One recipient: no line says how many a message has that is held before the queue manager saw it.
    let kept = truth.send_with(postfix, By::Login("box2@hosting.test"), &["accept.test"], "X-Hold: yes\n");
    postfix.queue_id(&kept.recipients[0]);
    let queued = postfix.queue_id(&by_header.recipients[0]);
    postfix.run("postsuper", &["-H", &queued]);
    postfix.run("postqueue", &["-i", &queued]);

    let again = [By::Script("web2"), By::Login("box1@hosting.test"), By::Loopback("x@shop.test")];
    let again = again.map(|by| waits(truth, by));
    again.iter().for_each(|m| drop(postfix.run("postsuper", &["-r", &id(m)])));
    // The next sendmail(1) wakes pickup, which takes the requeued ones too.
    truth.send(postfix, By::Script("web1"), &["accept.test"]);
    for message in &again {
        wait_until("an attempt of the requeued message", || {
            let answers = postfix.defer.answers();
            answers.iter().filter(|(to, _)| *to == message.recipients[1]).count() == 2
        });
    }
    deleted.to_vec()
}

#[test]
fn every_count_of_every_account_equals_what_really_happened() {
    let long = start(true, false, "postfix");
    let short = start(false, true, "postfix-b");
    let servers = [&long, &short];
    let dir = long.own_dir("agent");
    let config = configure(&dir, &long.address(0), &[long.log_path(), short.log_path()], ACCOUNTS);
    let mut truth = Truth::default();
    let mut deleted = Vec::new();

    let agent = Agent::start(&config, &long.address(0));
    round(&mut truth, &long, 0);
    round(&mut truth, &short, 1);
    agent.kill();
    // Mail goes on without the agent, and the log is rotated meanwhile.
    round(&mut truth, &long, 2);
    let mut logs: Vec<PathBuf> = vec![long.rotate()];
    round(&mut truth, &long, 3);
    let agent = Agent::start(&config, &long.address(0));
    round(&mut truth, &short, 4);
    deleted.extend(administrate(&mut truth, &long));
    logs.push(short.rotate());
    // The server makes the new file with its next line, and the agent is not ready before it is there.
    truth.send(&short, By::Script("web2"), &["accept.test"]);
    wait_until("the new log", || short.log_path().exists());
    agent.kill();
    let agent = Agent::start(&config, &long.address(0));
    deleted.extend(administrate(&mut truth, &short));

    let gone: Vec<&Injected> = deleted.iter().collect();
    let before = truth.at_rest(&servers, &gone);
    agree(&agent, &config, &before);
    // The receivers that said "not yet" now take it; the busy ones put it off once more.
    servers.iter().for_each(|postfix| postfix.forge("250 2.1.5 Ok"));
    servers.iter().for_each(|postfix| drop(postfix.run("postqueue", &["-f"])));
    wait_until("the second attempts", || {
        let open: Vec<_> = servers.iter().flat_map(|p| p.queue()).collect();
        open.iter().all(|m| m.queue == "hold" || m.recipients.iter().all(|to| !to.ends_with("forge.test")))
    });
    let figures = truth.at_rest(&servers, &gone);
    assert_ne!(before, figures);
    for account in figures.keys() {
        assert!(figures[account].iter().sum::<u64>() > 0);
    }
    let sum = |at: usize| figures.values().map(|f| f[at]).sum::<u64>();
    // Every kind of end happened, or this would prove nothing.
    assert!([0, 1, 2, 3, 4, 5, 7, 8, 9].into_iter().all(|at| sum(at) >= 4), "{figures:?}");
    assert_eq!(figures.len(), 6, "five accounts and the mail without evidence: {figures:?}");
    agree(&agent, &config, &figures);
    agent.stop();

    let stored = difference(&figures, &truth::of_accounts(&figures, |account| from_status(&config, account)));
    assert!(stored.is_empty(), "the store differs from the truth:\n{stored}");
    logs.extend(servers.map(Postfix::log_path));
    let replayed = difference(&figures, &from_replay(&config, &logs));
    assert!(replayed.is_empty(), "replay differs from the truth:\n{replayed}");
}
