//! What is held leaves a real Exim as it was ordered: slowly and oldest first, in part, or deleted because it was held too
//! long; nothing else is touched. By an agent that is root, and by an ordinary user with the helper.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]
#![allow(clippy::disallowed_methods, reason = "a test of real servers starts processes")]
mod support;

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use serde_json::Value;
use support::agent::{Agent, configure, sendwarden};
use support::exim::{Call, Exim, Options, Script, Version, selector};
use support::helper::{Helper, Role};
use support::server::MailServer;
use support::{wait_for, wait_until};

const LATER: &str = "450 4.2.1 come again";
const TAKEN: &str = "250 2.0.0 Ok";

struct Site {
    /// Ends before the server whose queue it works in.
    _helper: Option<Helper>,
    exim: Exim,
    config: PathBuf,
    address: String,
}

impl Site {
    /// With the account web1 known and blocked, and whatever comes from it frozen by its flag.
    fn new(version: Version, role: Role, more: &str) -> (Site, Agent) {
        let exim = Exim::start(&Options { gate: true, ..Options::new(version, selector::CPANEL) });
        let (dir, address) = (exim.own_dir("agent"), exim.address(0));
        let config = configure(&dir, &address, &[exim.log_path()], "accounts: []\n");
        let text = fs::read_to_string(&config).unwrap().replace("\nstate_dir", "\n    mta: exim\nstate_dir");
        let (program, flags) = (exim.program(), exim.flags_dir());
        let own = format!(
            "queue:\n  directories: [{}]\n  exim_program: {}\ngate:\n  mode: enforce\n  exim_flags: {}\n{more}",
            dir.display(),
            program.display(),
            flags.display()
        );
        fs::write(&config, text + &own).unwrap();
        role.prepare(&config, &exim.log_path());
        role.prepare_flags(&flags, &exim.spool_dir());
        fs::write(config.with_file_name("kill-point"), "").unwrap();
        let site = Site { _helper: role.helper(&config), exim, config, address };
        let agent = role.agent(&site.config, &site.address);
        for user in ["web1", "web2"] {
            let to = format!("known-{user}@accept.test");
            site.submit(user, &format!("known-{user}"), &format!("{user}@hosting.test"), &[&to]);
        }
        agent.wait_sum("sendwarden_accounts_known", &[], 2.0);
        (site, agent)
    }

    fn submit(&self, user: &str, name: &str, sender: &str, recipients: &[&str]) {
        let message = format!("X-Test-Id: {name}\n\nbody\n");
        let cwd = Path::new("/");
        self.exim.sendmail(&Script { user, cwd, call: Call::Arguments, sender, recipients, message: &message });
    }

    /// Mail of web1 to the receiver that is told what to answer; its id.
    fn mail(&self, name: &str, sender: &str) -> String {
        let to = format!("{name}@forge.test");
        self.submit("web1", name, sender, &[&to]);
        self.exim.queue_id(&to)
    }

    fn tell(&self, arguments: &[&str]) -> String {
        sendwarden(&[arguments, &["--config", self.config.to_str().unwrap()]].concat())
    }

    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.tell(&[arguments, &["--format", "json"]].concat())).unwrap()
    }

    fn wait_held(&self, messages: u64) -> Value {
        wait_for(&format!("{messages} messages to be held"), || {
            let status = self.json(&["status", "web1"]);
            let idle = status["orders"][0]["outcome"] != "accepted";
            (idle && status["held_messages"] == messages).then_some(status)
        })
    }

    fn queue_of(&self, id: &str) -> Option<String> {
        self.exim.queue().into_iter().find(|one| one.id == id).map(|one| one.queue)
    }

    fn delivered(&self, name: &str) -> usize {
        self.exim.forge.with_id(name).len()
    }
}

fn too_long(version: Version, role: Role) {
    let (site, agent) = Site::new(version, role, "hold:\n  held_max: 20s\n");
    // One that half of its recipients have had already, when it was put off for the other half.
    site.exim.forge(LATER);
    site.submit("web1", "part", "web1@hosting.test", &["part@accept.test", "part-b@forge.test", "part-c@forge.test"]);
    let part = site.exim.queue_id("part-b@forge.test");
    site.submit("web1", "admins", "web1@hosting.test", &["admins@defer.test"]);
    let admins = site.exim.queue_id("admins@defer.test");
    site.exim.run(&["-Mf", &admins]);
    site.submit("web2", "other", "web2@hosting.test", &["other@defer.test"]);
    let other = site.exim.queue_id("other@defer.test");
    agent.wait_sum("sendwarden_account_held_recipients", &["account=\"web1\""], 1.0);
    site.tell(&["block", "web1"]);
    wait_until("what was queued to be frozen", || site.queue_of(&part).as_deref() == Some("hold"));
    site.submit("web1", "h1", "web1@hosting.test", &["h1@forge.test", "h1-too@forge.test"]);
    let own = site.exim.queue_id("h1@forge.test");
    assert_eq!(site.queue_of(&own).as_deref(), Some("hold"), "by its flag");

    wait_until("their time to be over", || site.queue_of(&own).is_none() && site.queue_of(&part).is_none());
    let told = wait_for("its errors", || {
        let view = site.json(&["errors", "web1", "--limit", "100"]);
        let rows = view["errors"].as_array().unwrap().clone();
        Some(rows.into_iter().filter(|row| row["outcome"] == "deleted").collect::<Vec<_>>())
            .filter(|rows| rows.len() >= 4)
    });
    let mut to: Vec<&str> = told.iter().filter_map(|row| row["recipient"].as_str()).collect();
    to.sort_unstable();
    let still = ["h1-too@forge.test", "h1@forge.test", "part-b@forge.test", "part-c@forge.test"];
    assert_eq!(to, still, "those who had it are not told of: {told:?}");
    let as_told =
        |row: &Value| row["reply"] == "held for 20 seconds and not released" && row["sender"] == "web1@hosting.test";
    assert!(told.iter().all(as_told), "{told:?}");
    assert_eq!(site.queue_of(&admins).as_deref(), Some("hold"), "what an administrator froze stays frozen");
    assert_eq!(site.queue_of(&other).as_deref(), Some("deferred"));
    let status = site.wait_held(0);
    assert_eq!(status["state"], "ko", "the block stands: {status}");
    agent.stop();
    assert_eq!((site.delivered("h1"), site.delivered("part")), (0, 0));
    assert_eq!(site.exim.accept.with_id("part").len(), 1);
}

#[test]
fn what_is_held_too_long_is_deleted_from_4_96_and_told_for_each_recipient() {
    too_long(Version::V4_96, Role::Root);
}

#[test]
fn what_is_held_too_long_is_deleted_and_told_for_each_recipient_by_an_ordinary_user() {
    too_long(Version::V4_98, Role::Ordinary);
}

#[test]
fn slowly_and_the_oldest_first_by_an_ordinary_user() {
    let (site, agent) = Site::new(Version::V4_98, Role::Ordinary, "");
    site.exim.forge(LATER);
    site.tell(&["block", "web1"]);
    let names = ["s1", "s2", "s3", "s4"];
    names.iter().for_each(|name| drop(site.mail(name, "web1@hosting.test")));
    site.wait_held(4);
    site.exim.forge(TAKEN);
    let said = site.tell(&["unblock", "web1", "--drip", "1800/h"]);
    assert!(said.contains("state ok; 4 messages to release, 1800 an hour, the oldest first"), "{said}");
    site.submit("web1", "new", "web1@hosting.test", &["new@forge.test"]);
    wait_until("what is new to be delivered", || site.delivered("new") == 1);
    assert_eq!(site.delivered("s4"), 0, "the last has not left yet");
    wait_until("everything to be delivered", || names.iter().all(|name| site.delivered(name) == 1));
    let came: Vec<String> =
        site.exim.forge.messages().iter().filter_map(|one| one.unique().map(str::to_owned)).collect();
    let held: Vec<&String> = came.iter().filter(|name| name.starts_with('s')).collect();
    assert_eq!(held, names, "the oldest first");
    site.wait_held(0);
    agent.stop();
}

fn a_part(version: Version, role: Role) {
    let (site, agent) = Site::new(version, role, "");
    site.exim.forge(LATER);
    // One that had been put off before it was held.
    let queued = site.mail("p0", "shop@hosting.test");
    site.tell(&["block", "web1"]);
    let ids = [("p1", "news@hosting.test"), ("p2", "shop@hosting.test"), ("p3", "spam@hosting.test"), ("p4", "<>")]
        .map(|(name, sender)| site.mail(name, sender));
    wait_until("what was queued to be frozen", || site.queue_of(&queued).as_deref() == Some("hold"));
    site.wait_held(5);
    site.exim.forge(TAKEN);
    let said = site.tell(&["unblock", "web1", "--sender", "SHOP@hosting.test", "--dry-run"]);
    assert!(said.contains("web1: 2 of 5 messages on hold, the oldest on hold since "), "{said}");
    assert!(ids.iter().all(|id| site.queue_of(id).as_deref() == Some("hold")), "a count does nothing");
    site.tell(&["unblock", "web1", "--sender", "shop@hosting.test"]);
    wait_until("what is meant to be delivered", || site.delivered("p0") + site.delivered("p2") == 2);
    assert_eq!(site.wait_held(3)["state"], "ko", "the block stands");
    site.tell(&["purge", "web1", "--sender", "spam@hosting.test", "--yes"]);
    wait_until("what is meant to be gone", || site.queue_of(&ids[2]).is_none());
    site.wait_held(2);
    assert!([0, 3].iter().all(|n| site.queue_of(&ids[*n]).as_deref() == Some("hold")));
    site.tell(&["unblock", "web1"]);
    wait_until("the rest to be delivered", || site.exim.queue().is_empty());
    agent.stop();
    assert_eq!(["p0", "p1", "p2", "p3", "p4"].map(|name| site.delivered(name)), [1, 1, 1, 0, 1]);
}

#[test]
fn a_part_is_counted_first_and_exactly_that_is_released_or_purged_in_4_96() {
    a_part(Version::V4_96, Role::Root);
}

#[test]
fn a_part_is_counted_first_and_exactly_that_is_released_or_purged_by_an_ordinary_user() {
    a_part(Version::V4_98, Role::Ordinary);
}

fn killed(version: Version, role: Role) {
    let (site, mut agent) = Site::new(version, role, "");
    for (order, names) in [(&["unblock", "web1"][..], ["r1", "r2"]), (&["purge", "web1", "--yes"], ["d1", "d2"])] {
        site.exim.forge(LATER);
        site.tell(&["block", "web1"]);
        let ids = names.map(|name| site.mail(name, "web1@hosting.test"));
        site.wait_held(2);
        let held = Instant::now();
        wait_until("them to be on hold for a while", || held.elapsed().as_secs() >= 6);
        site.exim.forge(TAKEN);
        fs::write(site.config.with_file_name("kill-point"), "work-done").unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_sendwarden"));
        command.args(order).arg("--config").arg(&site.config).output().unwrap();
        assert_eq!(agent.ended("the agent to die when all is done").signal(), Some(9));
        fs::write(site.config.with_file_name("kill-point"), "").unwrap();
        let began = Instant::now();
        agent = role.agent(&site.config, &site.address);
        site.wait_held(0);
        println!("{order:?}: settled {:?} after the start", began.elapsed());
        assert!(began.elapsed().as_secs() < 30, "{:?}", began.elapsed());
        wait_until("all of it to have left", || ids.iter().all(|id| site.queue_of(id).is_none()));
        let copies = usize::from(order[0] == "unblock");
        assert!(names.iter().all(|name| site.delivered(name) == copies), "{order:?}");
    }
    agent.stop();
}

#[test]
fn what_was_done_before_a_kill_is_settled_at_once() {
    killed(Version::V4_96, Role::Root);
}

#[test]
fn what_was_done_before_a_kill_is_settled_at_once_by_an_ordinary_user() {
    killed(Version::V4_98, Role::Ordinary);
}
