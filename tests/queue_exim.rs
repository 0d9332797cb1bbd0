//! The figures of a real Exim's queue are those of its spool, counted by an agent that is root or by the helper.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]
#![allow(clippy::disallowed_methods, reason = "a test of real servers starts processes")]
mod support;

use std::fs;
use std::path::Path;

use support::agent::Agent;
use support::exim::{Call, Script, Version};
use support::gated_exim::{Site, text};
use support::helper::Role;
use support::server::MailServer;
use support::wait_until;

/// Messages, bytes and the time of the oldest of a queue, as `/metrics` has them.
type Figures = (f64, f64, f64);

fn figures(agent: &Agent, queue: &str) -> Figures {
    let sum = |what: &str| {
        let labels = ["mta=\"exim\"".to_owned(), format!("queue=\"{queue}\"")];
        agent.sum(&format!("sendwarden_queue_{what}"), &labels.each_ref().map(|label| &**label))
    };
    (sum("messages"), sum("bytes"), sum("oldest_message_timestamp_seconds"))
}

/// The same as the spool files have them: those with a line `-frozen`, or the others. When a message was received stands in
/// the fourth line.
fn spooled(dir: &Path, frozen: bool) -> Figures {
    let mut sum = (0.0, 0.0, f64::INFINITY);
    let mut todo = vec![dir.join("input")];
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(dir).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                todo.push(path);
                continue;
            }
            let name = path.display().to_string();
            let Some(data) = name.strip_suffix("-H").map(|head| format!("{head}-D")) else { continue };
            // It may leave while it is looked at.
            let (Ok(head), Ok(meta)) = (fs::read(&path), fs::metadata(&data)) else { continue };
            let head = String::from_utf8_lossy(&head).into_owned();
            if head.contains("\n-frozen ") == frozen {
                let at: f64 = head.lines().nth(3).unwrap().split(' ').next().unwrap().parse().unwrap();
                sum = (sum.0 + 1.0, sum.1 + (head.len() as u64 + meta.len()) as f64, f64::min(sum.2, at));
            }
        }
    }
    if sum.0 == 0.0 { (0.0, 0.0, 0.0) } else { sum }
}

fn counted(version: Version, role: Role, split: bool) {
    let site = Site::new(version, role, "  mode: enforce\n", "");
    let config = fs::read_to_string(&site.config).unwrap().replace("queue:\n", "queue:\n  interval: 1s\n");
    fs::write(&site.config, config).unwrap();
    if !split {
        site.exim.edit(|text| text.replace("\nsplit_spool_directory\n", "\n"));
    }
    let put = |user: &str, name: &str, to: &[&str]| {
        let (message, sender) = (text(name), format!("{user}@hosting.test"));
        let call = Call::Arguments;
        site.exim.sendmail(&Script {
            user,
            cwd: Path::new("/"),
            call,
            sender: &sender,
            recipients: to,
            message: &message,
        });
        site.exim.settle();
    };
    put("web1", "known", &["known@accept.test"]);
    for name in ["w1", "w2"] {
        put("web2", name, &[&format!("{name}@defer.test"), &format!("{name}-too@accept.test")]);
    }
    put("web2", "admins", &["admins@defer.test"]);
    site.exim.run(&["-Mf", &site.exim.queue_id("admins@defer.test")]);
    let agent = site.agent();
    let is_so = |what: &str, messages: [f64; 2]| {
        let spool = site.exim.spool_dir();
        wait_until(what, || {
            let real = [spooled(&spool, false), spooled(&spool, true)];
            let told = [figures(&agent, "waiting"), figures(&agent, "frozen")];
            // A message gets its id a moment after it began to come in.
            let same = |told: Figures, real: Figures| {
                (told.0, told.1) == (real.0, real.1) && (0.0..=1.0).contains(&(told.2 - real.2))
            };
            [real[0].0, real[1].0] == messages && same(told[0], real[0]) && same(told[1], real[1])
        });
        println!("{what}: {:?} {:?}", figures(&agent, "waiting"), figures(&agent, "frozen"));
    };
    is_so("two that wait and one that is frozen", [2.0, 1.0]);
    agent.wait_sum("sendwarden_accounts_known", &[], 2.0);
    site.tell(&["block", "web1"]);
    ["h1", "h2", "h3"].iter().for_each(|name| put("web1", name, &[&format!("{name}@accept.test")]));
    is_so("what the rules froze too", [2.0, 4.0]);
    assert!(agent.sum("sendwarden_queue_scan_last_success_timestamp_seconds", &["mta=\"exim\""]) > 1.7e9);
    site.tell(&["unblock", "web1"]);
    is_so("what is released to have left", [2.0, 1.0]);
    site.exim.run(&["-Mrm", &site.exim.queue_id("w1@defer.test")]);
    is_so("what is removed to have left", [1.0, 1.0]);
    // The command looks by itself, or has the helper look.
    let shown = format!("queue: {}: waiting 1, frozen 1\n", site.exim.program().display());
    let said = site.check();
    assert!(said.contains(&shown), "{said}");
    agent.stop();
    assert_eq!(site.exim.queue().len(), 2);
}

#[test]
fn the_figures_of_the_queue_of_4_96_are_those_of_its_spool() {
    counted(Version::V4_96, Role::Root, false);
}

#[test]
fn the_figures_of_the_queue_of_4_98_are_those_of_its_spool_with_an_ordinary_user() {
    counted(Version::V4_98, Role::Ordinary, true);
}
