//! Orders that something comes in between of, on a real Postfix: the agent is killed when all is done and nothing is heard
//! of it, the mail server does not run, the helper is away, the agent was away while what is held became too old. Each state
//! is clear, the next order is taken, and no message is lost.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]
#![allow(clippy::disallowed_methods, reason = "a test of real servers starts processes")]
mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::agent::Agent;
use support::held::Site;
use support::helper::{Helper, Role};
use support::{wait_for, wait_until};

const LATER: &str = "450 4.2.1 come again";
const TAKEN: &str = "250 2.0.0 Ok";

fn passed(since: Instant, secs: u64) -> bool {
    since.elapsed() >= Duration::from_secs(secs)
}

/// The account's messages of these names wait in the queue, and are on hold when this returns.
fn hold(site: &Site, agent: &Agent, names: &[&str]) -> Vec<String> {
    site.postfix.forge(LATER);
    let ids: Vec<String> = names.iter().map(|name| site.waits("web1", name)).collect();
    site.wait_queued(agent, "web1", names.len() as f64);
    site.tell(&["block", "web1"]);
    wait_until("its mail to be on hold", || site.is_in(&ids.iter().collect::<Vec<_>>(), "hold"));
    let status = site.wait_idle("web1");
    assert_eq!((&status["state"], &status["held_messages"]), (&"ko".into(), &names.len().into()), "{status}");
    ids
}

fn delivered_once(site: &Site, names: &[&str]) {
    wait_until("what was released to be delivered", || names.iter().all(|name| site.delivered(name) > 0));
    wait_until("the queue to be empty", || site.postfix.queue().is_empty());
    assert!(names.iter().all(|name| site.delivered(name) == 1), "once");
}

#[test]
fn what_was_done_before_a_kill_is_settled_at_once() {
    killed(Role::Root);
}

#[test]
fn what_was_done_before_a_kill_is_settled_at_once_by_an_ordinary_user() {
    killed(Role::Ordinary);
}

fn killed(role: Role) {
    let site = Site::new("", role);
    let file = site.config.with_file_name("kill-point");
    fs::write(&file, "").unwrap();
    site.postfix.forge(LATER);
    let mut agent = site.agent();
    for (order, names, done) in [
        (&["unblock", "web1"][..], ["r1", "r2"], "2 released"),
        (&["purge", "web1", "--yes"], ["d1", "d2"], "2 deleted"),
    ] {
        let ids = hold(&site, &agent, &names);
        let held = Instant::now();
        wait_until("them to be on hold for a while", || passed(held, 6));
        site.postfix.forge(TAKEN);
        fs::write(&file, "work-done").unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_sendwarden"));
        command.args(order).arg("--config").arg(&site.config).output().unwrap();
        assert_eq!(agent.ended("the agent to die when all is done").signal(), Some(9));
        fs::write(&file, "").unwrap();
        let began = Instant::now();
        agent = site.agent();
        let status = wait_for("nothing to be believed held", || {
            Some(site.status("web1")).filter(|status| status["held_messages"] == 0 && status["state"] == "ok")
        });
        let told = status["orders"][0]["details"].as_str().unwrap();
        assert!(told.starts_with(done), "{status}");
        // What comes next is taken, at once.
        site.tell(&["block", "web1"]);
        site.wait_idle("web1");
        site.tell(&["unblock", "web1"]);
        let took = began.elapsed();
        println!("{order:?}: settled, and two more orders taken, {took:?} after the start");
        assert!(took < Duration::from_secs(30), "{took:?}");
        wait_until("all of it to have left", || ids.iter().all(|id| site.queue_of(id).is_none()));
        let copies = usize::from(order[0] == "unblock");
        assert!(names.iter().all(|name| site.delivered(name) == copies), "{order:?}");
    }
    agent.stop();
}

/// Ten minutes, or `hold.held_max` where that is less: people have so long to act after a start.
#[test]
fn what_became_too_old_while_the_agent_was_away_stays_for_a_while_after_its_start() {
    const MOST: u64 = 20;
    let site = Site::new("", Role::Root);
    let text = fs::read_to_string(&site.config).unwrap() + &format!("hold:\n  held_max: {MOST}s\n");
    fs::write(&site.config, text).unwrap();
    let agent = site.agent();
    let ids = hold(&site, &agent, &["old"]);
    let since = Instant::now();
    agent.kill();
    wait_until("its time to be over", || passed(since, MOST + 2));
    let started = Instant::now();
    let agent = site.agent();
    wait_until("the agent to have looked at its age", || {
        site.status("web1")["orders"].as_array().unwrap().iter().any(|order| order["outcome"] == "warned")
    });
    wait_until("most of the time to act", || {
        assert_eq!(site.queue_of(&ids[0]).as_deref(), Some("hold"), "{:?} after the start", started.elapsed());
        passed(started, MOST - 4)
    });
    wait_until("it to be deleted", || site.queue_of(&ids[0]).is_none());
    println!("deleted {:?} after the start", started.elapsed());
    assert!(passed(started, MOST), "{:?}", started.elapsed());
    agent.stop();
}

#[test]
fn orders_are_carried_out_in_the_queue_of_a_server_that_does_not_run() {
    stopped(Role::Root);
}

#[test]
fn orders_are_carried_out_in_the_queue_of_a_server_that_does_not_run_by_an_ordinary_user() {
    stopped(Role::Ordinary);
}

/// postsuper(1) then writes into the log itself, which is root's here, as mail_owner: with syslog it may.
fn stop(site: &Site) {
    fs::set_permissions(site.postfix.log_path(), fs::Permissions::from_mode(0o666)).unwrap();
    site.postfix.run("postfix", &["stop"]);
}

fn stopped(role: Role) {
    let site = Site::new("", role);
    site.postfix.forge(LATER);
    let waiting = site.waits("web1", "s1");
    let agent = site.agent();
    site.wait_queued(&agent, "web1", 1.0);
    stop(&site);
    // The block: what waits is on hold, although nobody delivers anyway.
    site.tell(&["block", "web1"]);
    wait_until("what waits to be on hold", || site.is_in(&[&waiting], "hold"));
    let status = site.wait_idle("web1");
    assert_eq!((&status["state"], &status["held_messages"]), (&"ko".into(), &1.into()), "{status}");
    // The unblock: it is back in the queue, and that nobody could be told to deliver it is said.
    site.tell(&["unblock", "web1"]);
    wait_until("it to be back in the queue", || site.is_in(&[&waiting], "deferred"));
    let status = site.wait_idle("web1");
    assert_eq!((&status["state"], &status["held_messages"]), (&"ok".into(), &0.into()), "{status}");
    let order = &status["orders"][0];
    assert_eq!((&order["action"], &order["outcome"]), (&"unblock".into(), &"incomplete".into()), "{status}");
    let details = order["details"].as_str().unwrap();
    assert!(details.starts_with("1 released") && details.contains("public/qmgr"), "{status}");
    // It leaves when the server is there again, without another order.
    site.postfix.forge(TAKEN);
    site.postfix.run("postfix", &["start"]);
    delivered_once(&site, &["s1"]);
    // The purge: what is on hold goes, and what somebody else holds does not.
    hold(&site, &agent, &["s2", "s3"]);
    let admins = site.waits("web2", "k1");
    site.postfix.run("postsuper", &["-h", &admins]);
    site.postfix.forge(TAKEN);
    stop(&site);
    site.tell(&["purge", "web1", "--yes"]);
    wait_until("what is on hold to be gone", || site.postfix.queue().len() == 1);
    let status = site.wait_idle("web1");
    assert_eq!((&status["state"], &status["held_messages"]), (&"ok".into(), &0.into()), "{status}");
    let order = &status["orders"][0];
    assert_eq!((&order["outcome"], &order["details"]), (&"done".into(), &"2 deleted".into()), "{status}");
    site.postfix.run("postfix", &["start"]);
    assert!(site.is_in(&[&admins], "hold"));
    agent.stop();
    assert_eq!(["s2", "s3", "k1"].map(|name| site.delivered(name)), [0, 0, 0]);
}

#[test]
fn a_queue_manager_that_is_killed_delivers_what_was_released_when_it_is_back() {
    let site = Site::new("", Role::Root);
    let agent = site.agent();
    hold(&site, &agent, &["q1", "q2"]);
    site.postfix.forge(TAKEN);
    // The master starts another one when it is asked for.
    let queue = site.postfix.queue_dir();
    let pid = fs::read_dir("/proc").unwrap().flatten().find_map(|process| {
        let name = fs::read_to_string(process.path().join("comm")).ok()?;
        let here = fs::read_link(process.path().join("cwd")).ok()? == queue;
        (name.trim() == "qmgr" && here).then(|| process.file_name().to_str().unwrap().parse::<i32>().unwrap())
    });
    let pid = rustix::process::Pid::from_raw(pid.expect("it runs")).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    let said = site.tell(&["unblock", "web1"]);
    assert!(said.contains("2 messages to release"), "{said}");
    delivered_once(&site, &["q1", "q2"]);
    assert_eq!(site.wait_idle("web1")["state"], "ok");
    agent.stop();
}

#[test]
fn orders_without_the_helper_say_so_and_lose_nothing() {
    let mut site = Site::new("", Role::Ordinary);
    let agent = site.agent();
    let ids = hold(&site, &agent, &["h1", "h2"]);
    let all: Vec<&String> = ids.iter().collect();
    site.helper.take().unwrap().kill();
    // A purge that cannot be done is as if it had not been given.
    let said = site.tell(&["purge", "web1", "--yes"]);
    assert!(said.contains("right now nothing in the queue can be held or released"), "{said}");
    let failed = |status: &Value| status["orders"][0]["outcome"] == "failed";
    let status = wait_for("the purge to fail", || Some(site.status("web1")).filter(failed));
    assert_eq!((&status["state"], &status["held_messages"]), (&"ko".into(), &2.into()), "{status}");
    assert!(status["orders"][0]["details"].as_str().unwrap().contains("the helper does not answer"), "{status}");
    assert!(site.is_in(&all, "hold"));
    // An unblock stands, and is done when the helper is back.
    site.postfix.forge(TAKEN);
    site.tell(&["unblock", "web1"]);
    let incomplete = |status: &Value| status["orders"][0]["outcome"] == "incomplete";
    let status = wait_for("the unblock to be incomplete", || Some(site.status("web1")).filter(incomplete));
    assert_eq!((&status["state"], &status["held_messages"]), (&"ok".into(), &2.into()), "{status}");
    assert!(site.is_in(&all, "hold"));
    // Another order is taken meanwhile.
    site.tell(&["block", "web1"]);
    assert_eq!(site.status("web1")["state"], "ko");
    let helper = Helper::start(&site.config);
    site.tell(&["unblock", "web1"]);
    delivered_once(&site, &["h1", "h2"]);
    wait_until("nothing to be believed held", || site.status("web1")["held_messages"] == 0);
    agent.stop();
    drop(helper);
}
