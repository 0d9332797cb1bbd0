//! The disk full or the store locked while mail is held on a real Postfix: what stands goes on standing, orders are
//! answered at once, the gate's figures are seen, and nothing is lost when the disk is back.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]
#![allow(clippy::disallowed_methods, reason = "a test of real servers starts processes")]
mod support;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use support::agent::{Agent, configure, sendwarden};
use support::place::{command, succeed};
use support::postfix::{Options, Postfix};
use support::wait_until;

const MILTER: &str = "non_smtpd_milters = { unix:sendwarden/gate.sock, default_action=tempfail, connect_timeout=3s, \
                      command_timeout=5s, content_timeout=10s }\n";

/// An answer is there long before anybody gives up; SQLite itself waits 2 s for a lock.
const AT_ONCE: Duration = Duration::from_secs(8);

struct Site {
    postfix: Postfix,
    config: PathBuf,
    address: String,
    disk: Disk,
}

/// A small file system of its own, gone with the value.
struct Disk(PathBuf);

impl Disk {
    fn mount(path: &Path) -> Disk {
        fs::create_dir_all(path).unwrap();
        succeed(command("mount").args(["-t", "tmpfs", "-o", "size=3m", "tmpfs"]).arg(path), None);
        Disk(path.to_owned())
    }

    fn fill(&self) {
        let mut dd = command("dd");
        dd.args(["if=/dev/zero", "bs=4k"]).arg(format!("of={}", self.0.join("filler").display()));
        assert!(!dd.output().unwrap().status.success(), "the disk is full");
    }

    fn empty(&self) {
        fs::remove_file(self.0.join("filler")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        drop(command("umount").arg("--lazy").arg(&self.0).status());
    }
}

impl Site {
    fn start() -> (Site, Agent) {
        Site::with_small("state")
    }

    /// With a small disk as this directory, the state directory or one for the gate's tape alone. `web1` and `web2` are
    /// known.
    fn with_small(name: &str) -> (Site, Agent) {
        let postfix = Postfix::start(&Options { extra: MILTER.to_owned(), ..Options::default() });
        let (dir, address) = (postfix.own_dir("agent"), postfix.address(0));
        let disk = Disk::mount(&dir.join(name));
        if name != "state" {
            fs::create_dir(dir.join("state")).unwrap();
            symlink(disk.0.join("gate.tape"), dir.join("state/gate.tape")).unwrap();
        }
        let config = configure(&dir, &address, &[postfix.log_path()], "accounts: []\n");
        let (etc, spool) = (postfix.config_dir(), postfix.queue_dir());
        let more = format!(
            "queue:\n  directories: [{}]\n  config_directories: [{}]\ngate:\n  mode: enforce\n",
            spool.display(),
            etc.display()
        );
        fs::write(&config, fs::read_to_string(&config).unwrap() + &more).unwrap();
        let site = Site { postfix, config, address, disk };
        let agent = site.agent();
        for user in ["web1", "web2"] {
            site.script(user, "known");
        }
        wait_until("the first messages", || site.arrived("known") == 2);
        agent.wait_sum("sendwarden_accounts_known", &[], 2.0);
        (site, agent)
    }

    fn agent(&self) -> Agent {
        Agent::start(&self.config, &self.address)
    }

    fn tell(&self, arguments: &[&str]) -> String {
        sendwarden(&[arguments, &["--config", self.config.to_str().unwrap()]].concat())
    }

    /// An order that is not carried out: what is said, at once.
    fn refused(&self, arguments: &[&str]) -> String {
        let began = Instant::now();
        let mut binary = command(env!("CARGO_BIN_EXE_sendwarden"));
        let output = binary.args(arguments).args(["--config", self.config.to_str().unwrap()]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
        println!("{arguments:?}, after {:?}: {said}", began.elapsed());
        assert!(began.elapsed() < AT_ONCE, "{arguments:?} took {:?}: {said}", began.elapsed());
        said
    }

    fn script(&self, user: &str, name: &str) {
        let text = format!("From: {user}@hosting.test\nX-Test-Id: {name}\n\nbody\n");
        self.postfix.sendmail(user, &format!("{user}@hosting.test"), &[&format!("{name}@accept.test")], &text);
    }

    fn arrived(&self, prefix: &str) -> usize {
        let messages = self.postfix.accept.messages();
        messages.iter().filter_map(|message| message.unique()).filter(|name| name.starts_with(prefix)).count()
    }

    fn on_hold(&self) -> usize {
        self.postfix.queue().iter().filter(|message| message.queue == "hold").count()
    }

    fn held(&self, agent: &Agent) -> f64 {
        agent.sum("sendwarden_gate_decisions_total", &["decision=\"held\""])
    }
}

#[test]
fn a_full_disk_lets_nothing_out_loses_nothing_and_says_so() {
    const HELD: usize = 120;
    let (site, agent) = Site::start();
    site.tell(&["block", "web1", "--reason", "hacked"]);
    site.script("web1", "kept-before");
    wait_until("the first to be on hold", || site.on_hold() == 1);
    agent.wait_sum("sendwarden_gate_decisions_total", &["decision=\"held\""], 1.0);

    site.disk.fill();
    // More than fits into the last page of the tape.
    (0..HELD).for_each(|n| site.script("web1", &format!("kept{n}-")));
    (0..5).for_each(|n| site.script("web2", &format!("free{n}-")));
    wait_until("everybody else's mail", || site.arrived("free") == 5);
    wait_until("all of it to be on hold", || site.on_hold() == HELD + 1);
    agent.wait_sum("sendwarden_store_up", &[], 0.0);
    // The gate does not seem to stand still.
    agent.wait_sum("sendwarden_gate_decisions_total", &["decision=\"held\""], HELD as f64 + 1.0);
    let failures = agent.sum("sendwarden_store_commit_failures_total", &[]);
    let (status, body) = agent.get("/-/ready");
    assert!(status == 503 && body.contains("free some space"), "{status} {body}");
    let not_written = agent.printed().matches("not written down").count();
    println!("{not_written} of {HELD} could not be written down");
    assert!(not_written > 0 && agent.printed().contains("and remembered until it can be"), "{}", agent.printed());
    // By its queue id each can be found whatever becomes of the agent.
    let named = site.postfix.queue().iter().filter(|message| agent.printed().contains(&message.id)).count();
    assert_eq!(named, not_written);

    for order in [&["block", "web2"][..], &["unblock", "web1"], &["purge", "web1", "--yes"]] {
        let said = site.refused(order);
        assert!(said.contains("nothing was changed") && said.contains("free some space"), "{said}");
    }
    site.script("web2", "free-still");
    wait_until("mail of an account whose block was not taken", || site.arrived("free-still") == 1);
    wait_until("the store to be tried again", || agent.sum("sendwarden_store_commit_failures_total", &[]) > failures);
    assert_eq!((site.on_hold(), site.arrived("kept")), (HELD + 1, 0));

    site.disk.empty();
    agent.wait_sum("sendwarden_store_up", &[], 1.0);
    assert_eq!(site.held(&agent), HELD as f64 + 1.0);
    assert_eq!(agent.sum("sendwarden_gate_unrecorded_holds_total", &[]), 0.0);
    // What could be written down only now is there for the next agent too.
    wait_until("all to be remembered", || {
        let told = site.tell(&["status", "web1", "--format", "json"]);
        told.replace(' ', "").contains(&format!("\"held_messages\":{}", HELD + 1))
    });
    agent.kill();
    let agent = site.agent();
    site.tell(&["block", "web2"]);
    site.script("web2", "kept-last");
    wait_until("the second account's mail to be on hold", || site.on_hold() == HELD + 2);
    site.tell(&["unblock", "web1"]);
    wait_until("all that was held", || site.arrived("kept") == HELD + 1);
    wait_until("the queue to hold the second account's", || site.postfix.queue().len() == 1);
    site.tell(&["purge", "web2", "--yes"]);
    wait_until("an empty queue", || site.postfix.queue().is_empty());
    assert_eq!((site.arrived("kept"), site.arrived("kept-last")), (HELD + 1, 0));
    agent.stop();
}

/// The pump waits for the store, so that it does not hear what the gate holds meanwhile, and the tape has no room: the order
/// that is there when the store is free again is the first thing that it does.
#[test]
fn what_could_not_be_written_down_falls_under_the_order_that_comes_next() {
    const HELD: usize = 5;
    let (site, agent) = Site::with_small("tape");
    let state = site.config.with_file_name("state");
    site.tell(&["block", "web1"]);
    site.disk.fill();
    // The last page of the tape has room for some.
    (0..60).for_each(|n| site.script("web1", &format!("first{n}-")));
    wait_until("all of it to be on hold", || site.on_hold() == 60);
    assert!(agent.printed().contains("and remembered until it can be"), "{}", agent.printed());
    site.tell(&["purge", "web1", "--yes"]);
    wait_until("an empty queue", || site.postfix.queue().is_empty());
    for (order, name, words, copies) in [
        (&["purge", "web1", "--yes"][..], "purged", "5 messages to delete", 0),
        (&["unblock", "web1"], "released", "5 messages to release", 1),
    ] {
        wait_until("it to be blocked", || {
            let mut block = command(env!("CARGO_BIN_EXE_sendwarden"));
            let output = block.args(["block", "web1", "--config"]).arg(&site.config).output();
            output.is_ok_and(|output| output.status.success())
        });
        let other = Connection::open(state.join("sendwarden.db")).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        site.script("web2", &format!("free-{name}"));
        agent.wait_sum("sendwarden_store_up", &[], 0.0);
        (0..HELD).for_each(|n| site.script("web1", &format!("{name}{n}-")));
        wait_until("all of it to be on hold", || site.on_hold() == HELD);
        let queue = site.postfix.queue();
        let held: Vec<&String> = queue.iter().filter(|one| one.queue == "hold").map(|one| &one.id).collect();
        let unwritten = |id: &&&String| agent.printed().contains(&format!("{id} of web1 is on hold"));
        assert_eq!(held.iter().filter(unwritten).count(), HELD, "{}", agent.printed());
        // Until the store is free each order is refused, at once.
        let taken = AtomicBool::new(false);
        let told: Vec<String> = std::thread::scope(|scope| {
            let give = || {
                while !taken.load(Ordering::SeqCst) {
                    let mut binary = command(env!("CARGO_BIN_EXE_sendwarden"));
                    let output = binary.args(order).arg("--config").arg(&site.config).output().unwrap();
                    if output.status.success() {
                        taken.store(true, Ordering::SeqCst);
                        return Some(String::from_utf8_lossy(&output.stdout).into_owned());
                    }
                }
                None
            };
            let givers: Vec<_> = (0..3).map(|_| scope.spawn(give)).collect();
            let failures = agent.sum("sendwarden_store_commit_failures_total", &[]);
            wait_until("the store to be tried again", || {
                agent.sum("sendwarden_store_commit_failures_total", &[]) >= failures + 2.0
            });
            other.execute_batch("ROLLBACK").unwrap();
            givers.into_iter().filter_map(|giver| giver.join().unwrap()).collect()
        });
        println!("{told:?}");
        assert!(told.iter().any(|told| told.contains(words)), "{told:?}");
        wait_until("the queue to be empty", || site.postfix.queue().is_empty());
        for n in 0..HELD {
            let name = format!("{name}{n}-");
            wait_until("each to have its end", || site.arrived(&name) >= copies);
            assert_eq!(site.arrived(&name), copies, "{name}");
        }
        assert_eq!(site.arrived(&format!("free-{name}")), 1);
    }
    assert_eq!(site.arrived("first"), 0);
    assert_eq!(agent.sum("sendwarden_gate_unrecorded_holds_total", &[]), 0.0);
    agent.stop();
}

#[test]
fn an_order_that_finds_the_store_locked_is_answered_and_carried_out_when_it_is_free() {
    let (site, agent) = Site::start();
    // What came before is committed, the last line of it too: the order is the first to find the lock.
    agent.wait_sum("sendwarden_gate_decisions_total", &["decision=\"passed\""], 2.0);
    wait_until("all lines to be in the store", || {
        let read = agent.sum("sendwarden_log_lines_read_total", &[]);
        site.postfix.queue().is_empty() && read == site.postfix.log().lines().count() as f64
    });
    let other = Connection::open(site.disk.0.join("sendwarden.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let said = site.refused(&["block", "web1"]);
    assert!(said.contains("the block waits for the store, is not in force yet"), "{said}");
    agent.wait_sum("sendwarden_store_up", &[], 0.0);
    let said = site.refused(&["block", "web2"]);
    assert!(said.contains("nothing was changed") && said.contains("lock"), "{said}");
    site.script("web1", "free1");
    site.script("web2", "free2");
    wait_until("the mail of both", || site.arrived("free") == 2);
    // Nothing that is not durable acts.
    agent.wait_sum("sendwarden_gate_decisions_total", &["decision=\"passed\""], 4.0);
    assert_eq!(site.on_hold(), 0);

    other.execute_batch("ROLLBACK").unwrap();
    agent.wait_sum("sendwarden_store_up", &[], 1.0);
    site.script("web1", "kept");
    site.script("web2", "free3");
    wait_until("the mail of the one that is not blocked", || site.arrived("free3") == 1);
    wait_until("the other's to be on hold", || site.on_hold() == 1);
    // What slipped past meanwhile may be under way: one change of an account at a time.
    wait_until("it to be unblocked", || {
        let mut unblock = std::process::Command::new(env!("CARGO_BIN_EXE_sendwarden"));
        let output = unblock.args(["unblock", "web1", "--config"]).arg(&site.config).output();
        output.is_ok_and(|output| output.status.success())
    });
    wait_until("what was held", || site.arrived("kept") == 1);
    agent.stop();
}
