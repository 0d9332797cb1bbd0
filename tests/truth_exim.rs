//! Truth at the far end of real Exim, both forms of message ids, beside a real Postfix: what one agent says of every
//! account equals what injectors, sinks, mailboxes and queues say, whatever the log selectors.
//! And no message carries another script than the one that made it.

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

use std::path::Path;
use std::thread;

use support::agent::{Agent, configure};
use support::exim::{Call, Exim, Options, Version, selector};
use support::hosting::{self, Customer, USERS};
use support::postfix::{self, Postfix};
use support::server::MailServer;
use support::truth::{self, ACCOUNTS, By, Injected, PASSWORD, Truth, agree, difference, from_replay, from_status};
use support::wait_until;

/// Messages of one user through one Exim: four users send 400 through both.
const EACH: usize = 50;
/// And through the Postfix.
const ASIDE: usize = 8;
/// No retry by itself: an attempt happens when the test asks for one.
const PATIENT: &str = "queue_run_delay = 3000s\nminimal_backoff_time = 3000s\nmaximal_backoff_time = 4000s\n";

fn beside() -> Postfix {
    let postfix = Postfix::start(&postfix::Options { extra: PATIENT.to_owned(), ..postfix::Options::default() });
    USERS.iter().for_each(|(_, login)| postfix.add_login(login, PASSWORD));
    postfix.forge("450 4.2.0 not yet");
    postfix
}

/// The same users' mail through Postfix.
fn aside(postfix: &Postfix, user: usize) -> Truth {
    let (name, login) = USERS[user];
    let mut truth = Truth::with_prefix(&format!("p-{name}-"));
    for n in 0..ASIDE {
        let by = [By::Script(name), By::Login(login), By::Loopback("x@shop.test")][n % 3];
        truth.send(postfix, by, [&["accept.test", "reject.test"][..], &["defer.test", "forge.test"]][n % 2]);
    }
    truth
}

/// What administrators do to mail that waits. Gives the messages that they deleted.
fn administrate(customer: &mut Customer, exim: &Exim, user: &str, two: &[&str]) -> Vec<Injected> {
    let mut waits = |domains: &[&str], headers: &str| {
        let message = customer.script(exim, user, 0, Call::Arguments, domains, headers);
        let id = exim.queue_id(&message.recipients[0]);
        (message, id)
    };
    let both = ["defer.test", "defer.test"];
    let (removed, id) = waits(&both, "");
    exim.run(&["-Mrm", &id]);

    let (_, stays_frozen) = waits(&both, "");
    exim.run(&["-Mf", &stays_frozen]);

    let (_, thawed) = waits(&["defer.test"], "");
    exim.run(&["-Mf", &thawed]);
    exim.run(&["-Mt", &thawed]);

    // Frozen by an access rule as it comes; let go by an administrator, or not.
    let (_, released) = waits(two, "X-Freeze: yes\n");
    exim.run(&["-Mt", &released]);
    waits(&["accept.test"], "X-Freeze: yes\n");
    let (also_removed, id) = waits(two, "X-Freeze: yes\n");
    exim.run(&["-Mrm", &id]);
    vec![removed, also_removed]
}

/// How many of the scripts' messages carry the script that made them, the directory, neither; fails on a wrong one.
fn scripts(config: &Path, customers: &[Customer]) -> [usize; 3] {
    let mut found = [0; 3];
    for (id, origin) in customers.iter().flat_map(|c| &c.origins) {
        let text = truth::trace(config, id);
        let trace: serde_json::Value = serde_json::from_str(&text).unwrap();
        let script = &trace["legs"][0]["script"];
        let told = |key: &str| script[key].as_str().filter(|text| !text.is_empty());
        if let Some(file) = told("path") {
            assert_eq!(file, origin.file, "{id} carries another message's script: {text}");
            found[0] += 1;
        }
        if let Some(directory) = told("directory") {
            assert_eq!(directory, origin.directory.display().to_string(), "{id} carries another directory: {text}");
            found[1] += 1;
        }
        found[2] += usize::from(told("path").is_none() && told("directory").is_none());
    }
    found
}

fn every_count_is_true(selector: &str) {
    let versions = [Version::V4_96, Version::V4_98];
    let exims = versions.map(|version| Exim::start(&Options::new(version, selector)));
    let postfix = beside();
    let servers: [&dyn MailServer; 3] = [&exims[0], &exims[1], &postfix];
    exims.iter().for_each(|exim| exim.forge("450 4.2.0 not yet"));
    let dir = exims[0].own_dir("agent");
    let address = exims[0].address(0);
    let mut logs = vec![exims[0].log_path(), exims[1].log_path(), postfix.log_path()];
    let config = configure(&dir, &address, &logs, ACCOUNTS);
    let agent = Agent::start(&config, &address);

    // Everybody at once.
    let (exims, postfix) = (&exims, &postfix);
    let (mut customers, asides): (Vec<Customer>, Vec<Truth>) = thread::scope(|scope| {
        let users = 0..USERS.len();
        let through = |user: usize| {
            scope.spawn(move || {
                let name = USERS[user].0;
                [0, 1].map(|v| hosting::sends(&exims[v], user, EACH, &format!("x{}-{name}-", versions[v].name())))
            })
        };
        let busy: Vec<_> = users.clone().map(through).collect();
        let aside: Vec<_> = users.map(|user| scope.spawn(move || aside(postfix, user))).collect();
        let customers = busy.into_iter().flat_map(|thread| thread.join().expect("an injector")).collect();
        (customers, aside.into_iter().map(|thread| thread.join().expect("an injector")).collect())
    });
    logs.insert(0, exims[0].rotate());
    // Without the list of recipients nothing tells how many a message has that was never tried.
    let two = if selector == selector::NONE { &["accept.test"][..] } else { &["accept.test", "alias.test"] };
    let mut deleted = Vec::new();
    for (n, customer) in customers.iter_mut().enumerate() {
        deleted.extend(administrate(customer, &exims[n % 2], USERS[n / 2].0, two));
    }
    let mut truth = Truth::default();
    truth.injected.extend(asides.into_iter().flat_map(|aside| aside.injected));
    truth.injected.extend(customers.iter().flat_map(|c| c.truth.injected.iter().cloned()));
    let gone: Vec<&Injected> = deleted.iter().collect();
    let before = truth.at_rest(&servers, &gone);
    agree(&agent, &config, &before);
    agent.kill();

    // The receivers that said "not yet" now take it, the busy ones put it off once more, the late mail is given up.
    exims.iter().for_each(|exim| exim.forge("250 2.1.5 Ok"));
    postfix.forge("250 2.1.5 Ok");
    postfix.run("postqueue", &["-f"]);
    // Not yet due: no attempt.
    exims.iter().for_each(|exim| drop(exim.run(&["-q"])));
    let late = |exim: &Exim| exim.queue().iter().any(|m| m.recipients.iter().any(|to| to.ends_with("@late.test")));
    thread::scope(|scope| {
        for exim in exims {
            scope.spawn(move || wait_until("late mail to be given up", || !(exim.retry_all(), late(exim)).1));
        }
    });
    wait_until("the second attempts of Postfix", || {
        postfix.queue().iter().all(|m| m.recipients.iter().all(|to| !to.ends_with("forge.test")))
    });
    let agent = Agent::start(&config, &address);
    let figures = truth.at_rest(&servers, &gone);
    let sum = |at: usize| figures.values().map(|f| f[at]).sum::<u64>();
    // Every kind of end happened, or this would prove nothing.
    assert!([2, 3, 4, 5, 7, 8, 9].into_iter().all(|at| sum(at) >= 20), "{figures:?}");
    assert_eq!(sum(6), 0, "{figures:?}");
    agree(&agent, &config, &figures);
    let [files, directories, neither] = scripts(&config, &customers);
    println!(
        "selectors {selector:?}: of {} scripts' messages",
        customers.iter().map(|c| c.origins.len()).sum::<usize>()
    );
    println!("  {files} carry their script, {directories} their directory, {neither} neither; none another's");
    agent.stop();

    let stored = difference(&figures, &truth::of_accounts(&figures, |account| from_status(&config, account)));
    assert!(stored.is_empty(), "the store differs from the truth:\n{stored}");
    let replayed = difference(&figures, &from_replay(&config, &logs));
    assert!(replayed.is_empty(), "replay differs from the truth:\n{replayed}");
}

#[test]
fn every_count_is_true_with_the_default_selectors() {
    every_count_is_true(selector::NONE);
}

#[test]
fn every_count_is_true_with_the_selectors_of_a_panel() {
    every_count_is_true(selector::CPANEL);
}

#[test]
fn every_count_is_true_with_every_selector() {
    every_count_is_true(selector::ALL);
}
