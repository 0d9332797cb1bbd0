//! The gate on a real Postfix while the agent stands still, is restarted or is replaced by another version, under load:
//! nobody else is put off, scripts do not wait, and what the blocked account sends meanwhile is held, or swept afterwards.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]
#![allow(clippy::disallowed_methods, reason = "a test of real servers starts processes and reads the clock")]
mod support;

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use rustix::process::Signal;
use support::agent::Agent;
use support::gated::{MILTER, PASSWORD, Site, wait_copies};
use support::helper::{Helper, Role};
use support::inject::{Answer, Injector, Letter, Way};
use support::place::command;
use support::postfix::Options;
use support::smtp::{self, Mail};
use support::wait_until;

const SHOP: (&str, &str) = ("web1", "sales@shop.test");
const BLOG: (&str, &str) = ("web2", "box@blog.test");
const ACCOUNTS: &str = "accounts:\n  - id: shop\n    unix_users: [web1]\n    logins: [sales@shop.test]\n  \
                        - id: blog\n    unix_users: [web2]\n    logins: [box@blog.test]\n";
/// Nobody who hands over by script waits longer.
const AT_ONCE: f64 = 5.0;

fn site(role: Role) -> Site {
    let options = Options { ipv6: true, extra: MILTER.to_owned(), ..Options::default() };
    let site = Site::on(&options, "gate:\n  mode: enforce\n  logins: hold\n", role, ACCOUNTS);
    for login in [SHOP.1, BLOG.1] {
        site.postfix.add_login(login, PASSWORD);
    }
    site
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

/// Where scripts' mail waits that nobody decided on; pickup looks there by itself once a minute only.
fn wake_pickup(site: &Site) {
    let mut kick = command("postkick");
    kick.arg("-c").arg(site.postfix.config_dir()).args(["public", "pickup", "W"]);
    drop(kick.output().unwrap());
}

/// What was handed in by one way, in the order it was: recipient and answer.
type Sent = Vec<(String, Answer)>;

/// Both accounts send by several ways until they are told to stop; every message must be taken.
struct Load<'s> {
    site: &'s Site,
    stop: AtomicBool,
    /// Messages taken, by thread.
    taken: [AtomicUsize; 5],
}

const WAYS: [(&str, (&str, &str), Way); 5] = [
    ("innocent-smtp", BLOG, Way::Smtp),
    ("innocent-login", BLOG, Way::Login),
    ("innocent-script", BLOG, Way::Sendmail),
    ("guilty-smtp", SHOP, Way::Smtp6),
    ("guilty-script", SHOP, Way::Php),
];
/// A script's mail is taken at once whatever happens, so there is an end to it.
const MOST_SCRIPTS: usize = 60;

impl Load<'_> {
    fn send(&self, thread: usize) -> Sent {
        let (prefix, who, way) = WAYS[thread];
        let mut injector = Injector::start(&self.site.postfix, who.0, way, who.1);
        let script = matches!(way, Way::Sendmail | Way::Php);
        let mut sent = Vec::new();
        let most = if script { MOST_SCRIPTS } else { usize::MAX };
        while sent.len() < most && !self.stop.load(Ordering::SeqCst) {
            let letter = Letter::new(&format!("{prefix}{}-", sent.len()));
            let answer = injector.take(&letter);
            assert!(!script || answer.ended - answer.began < AT_ONCE, "{prefix} waited: {answer:?}");
            sent.push((letter.to[0].clone(), answer));
            self.taken[thread].fetch_add(1, Ordering::SeqCst);
        }
        sent
    }

    fn counts(&self) -> [usize; 5] {
        [0, 1, 2, 3, 4].map(|thread| self.taken[thread].load(Ordering::SeqCst))
    }

    /// Every thread that speaks SMTP has handed in so many more.
    fn wait_for_more(&self, more: usize) {
        let before = self.counts();
        wait_until("mail to flow", || [0, 1, 3].iter().all(|at| self.counts()[*at] >= before[*at] + more));
    }
}

/// Runs `outage` under load; everything that was sent, by thread.
fn under_load(site: &Site, outage: impl FnOnce(&Load)) -> [Sent; 5] {
    let load = Load { site, stop: AtomicBool::new(false), taken: Default::default() };
    let load = &load;
    std::thread::scope(|scope| {
        let threads = [0, 1, 2, 3, 4].map(|thread| scope.spawn(move || load.send(thread)));
        load.wait_for_more(5);
        outage(load);
        load.stop.store(true, Ordering::SeqCst);
        threads.map(|thread| thread.join().unwrap())
    })
}

fn once(sent: &[&Sent]) -> BTreeMap<String, usize> {
    sent.iter().flat_map(|sent| sent.iter().map(|(to, _)| (to.clone(), 1))).collect()
}

/// Everybody else's mail arrives once and was never held; the blocked account's script mail is on hold; what else of it
/// is not was handed in while the agent was away: in one of `windows`. How much that is.
fn judge(site: &Site, sent: &[Sent; 5], windows: &[(f64, f64)]) -> usize {
    let [smtp, login, script, guilty_smtp, guilty_script] = sent;
    println!("{:?}: {:?} sent by {:?}", site.role, sent.each_ref().map(Vec::len), WAYS.map(|way| way.0));
    wait_until("everybody else's mail", || {
        wake_pickup(site);
        site.copies("innocent") == once(&[smtp, login, script])
    });
    wait_until("the scripts of the blocked account to be on hold", || {
        wake_pickup(site);
        site.held_copies("guilty-script") == once(&[guilty_script])
    });
    wait_until("its other mail to be on hold or gone", || {
        let (held, gone) = (site.held_copies("guilty-smtp"), site.copies("guilty-smtp"));
        held.len() + gone.len() == guilty_smtp.len()
    });
    assert_eq!((site.copies("guilty-script"), site.held_copies("innocent")), Default::default());
    let escaped = site.copies("guilty-smtp");
    for (to, answer) in guilty_smtp.iter().filter(|(to, _)| escaped.contains_key(to)) {
        let away = windows.iter().any(|(gone, back)| answer.ended > *gone && answer.opened < *back);
        let log = site.postfix.log();
        let told: Vec<&str> = log.lines().filter(|line| line.contains(to.as_str()) || line.contains("ilter")).collect();
        assert!(away, "{to} was handed in while the gate was open: {answer:?}, {windows:?}: {told:#?}");
    }
    assert_eq!(site.postfix.log().matches("milter-reject: END-OF-MESSAGE from unknown[127.0.0.1]").count(), 0);
    escaped.len()
}

fn bypass(agent: &Agent, when: &str) -> f64 {
    agent.sum("sendwarden_gate_bypass_total", &[&format!("when=\"{when}\"")])
}

#[test]
fn an_agent_that_stands_still_keeps_nobody_and_sweeps_afterwards() {
    stands_still(Role::Root);
}

#[test]
fn an_agent_that_stands_still_keeps_nobody_and_sweeps_afterwards_by_an_ordinary_user() {
    stands_still(Role::Ordinary);
}

fn stands_still(role: Role) {
    let site = site(role);
    let agent = site.agent();
    let opened = Instant::now();
    site.order(&["block", "shop", "--scope", "all"]);
    wait_until("the gate to be open for a while", || opened.elapsed().as_secs() >= 4);
    let mail = |to| Mail {
        sender: SHOP.1,
        recipients: to,
        data: "X-Test-Id: asked\n\nbody\n",
        auth: Some((SHOP.1, PASSWORD)),
    };
    let (slow, fast) = (mail(&["asked-slow@defer.test"]), mail(&["asked-fast@accept.test"]));
    let (mut gone, mut back) = (0.0, 0.0);
    let sent = under_load(&site, |load| {
        // The gate has heard of these when it stops, and is asked when it does not answer any more.
        let begun = [&slow, &fast].map(|mail| smtp::begin(site.postfix.submission_port(), mail).unwrap());
        gone = now();
        agent.signal(Signal::STOP);
        std::thread::scope(|scope| {
            let [first, second] = begun;
            scope.spawn(|| first.finish(&slow).unwrap());
            scope.spawn(|| second.finish(&fast).unwrap());
            // Of SMTP without a login the log does not say whose it is: only what a login sends can be swept.
            let mut injector = Injector::start(&site.postfix, SHOP.0, Way::Login, SHOP.1);
            injector.take(&Letter { to: vec!["unasked-slow@defer.test".to_owned()], ..Letter::new("unasked") });
        });
        load.wait_for_more(1);
        agent.signal(Signal::CONT);
        wait_until("the agent to be back", || agent.get("/-/ready").0 == 200);
        back = now();
        load.wait_for_more(5);
    });
    let escaped = judge(&site, &sent, &[(gone, back)]);
    println!("{role:?}: stood still for {:.1} s, {escaped} escaped", back - gone);
    for name in ["asked-slow", "unasked-slow"] {
        wait_until(&format!("{name} to be swept"), || site.held_copies(name).len() == 1);
    }
    // What nobody answered for was taken; it is delivered, or the sweep was faster.
    wait_until("the other one to come to rest", || {
        site.arrived("asked").len() + site.held_copies("asked-fast").len() == 1
    });
    // What passed is seen, of those whom the log names: SMTP without a login it does not.
    wait_until("what passed to be counted", || bypass(&agent, "open") >= 3.0);
    wait_until("nothing to be under way", || site.postfix.queue().iter().all(|one| one.queue == "hold"));
    println!("{role:?}: {} passed unasked", bypass(&agent, "open"));
    let on_hold = || site.postfix.queue().iter().filter(|one| one.queue == "hold").count() as f64;
    wait_until("the agent to know what is on hold", || agent.sum("sendwarden_held_messages", &[]) == on_hold());
    site.order(&["unblock", "shop"]);
    wait_copies("everything to arrive", &once(&[&sent[3], &sent[4]]), || site.copies("guilty"));
    wait_until("what is put off to be free", || {
        let queue = site.postfix.queue();
        queue.len() == 2 && queue.iter().all(|one| one.queue == "deferred")
    });
    assert_eq!(site.copies("innocent"), once(&[&sent[0], &sent[1], &sent[2]]), "each once");
    agent.stop();
}

#[test]
fn a_restart_and_an_upgrade_under_load_are_felt_by_nobody_else() {
    restarted(Role::Root);
}

#[test]
fn a_restart_and_an_upgrade_under_load_are_felt_by_nobody_else_by_an_ordinary_user() {
    restarted(Role::Ordinary);
}

/// What a package does: the new program takes the old one's name.
fn upgrade(site: &Site) {
    let (new, name) = (site.config.with_file_name("sendwarden.new"), site.config.with_file_name("sendwarden"));
    fs::copy(env!("CARGO_BIN_EXE_sendwarden"), &new).unwrap();
    fs::rename(new, name).unwrap();
}

fn program(pid: u32) -> String {
    fs::read_link(format!("/proc/{pid}/exe")).unwrap().display().to_string()
}

fn restarted(role: Role) {
    let mut site = site(role);
    upgrade(&site);
    // The helper of the site is that of the built binary.
    if let Some(helper) = site.helper.take() {
        helper.kill();
        site.helper = Some(Helper::start(&site.config));
    }
    let own = site.config.with_file_name("sendwarden").display().to_string();
    let agent = site.agent();
    assert_eq!(program(agent.pid()), own);
    let mut helper = site.helper.take();
    site.order(&["block", "shop", "--scope", "all"]);
    let mut agent = Some(agent);
    let (mut windows, helper_slot) = (Vec::new(), &mut helper);
    let sent = under_load(&site, |load| {
        for round in 0..3 {
            if round > 0 {
                upgrade(&site);
                let running = agent.as_ref().unwrap();
                assert_eq!(program(running.pid()), format!("{own} (deleted)"), "the old program runs on");
            }
            let gone = now();
            agent.take().unwrap().stop();
            let next = site.agent();
            windows.push((gone, now()));
            assert_eq!(program(next.pid()), own);
            agent = Some(next);
            if round == 2
                && let Some(old) = helper_slot.take()
            {
                // The agent goes on with the socket that it has.
                old.kill();
                *helper_slot = Some(Helper::start(&site.config));
            }
            load.wait_for_more(5);
        }
    });
    let agent = agent.unwrap();
    let longest = windows.iter().map(|(gone, back)| back - gone).fold(0.0, f64::max);
    let escaped = judge(&site, &sent, &windows);
    println!("{role:?}: 3 restarts, the longest {longest:.1} s, {escaped} escaped");
    // With the helper, who keeps the socket, nobody comes to a closed door.
    assert!(role == Role::Root || escaped == 0, "{escaped} escaped");
    let put_off = site.postfix.log().matches("milter-reject").count();
    assert!(role == Role::Root || put_off == 0, "{put_off} were put off");
    site.order(&["unblock", "shop"]);
    wait_copies("everything to arrive", &once(&[&sent[3], &sent[4]]), || site.copies("guilty"));
    wait_until("an empty queue", || site.postfix.queue().is_empty());
    assert_eq!(site.copies("innocent"), once(&[&sent[0], &sent[1], &sent[2]]), "each once");
    agent.stop();
    drop(helper);
}

#[test]
fn what_passes_while_no_agent_runs_is_counted_and_swept() {
    for role in [Role::Root, Role::Ordinary] {
        let site = site(role);
        let agent = site.agent();
        site.order(&["block", "shop", "--scope", "all"]);
        agent.stop();
        let gate = site.postfix.queue_dir().join("sendwarden/gate.sock");
        wait_until("the gate to be closed", || !gate.exists());
        // Log time has whole seconds: what came in the moments around an end or a start may have been decided on.
        let stopped = Instant::now();
        wait_until("the agent to be away for a while", || stopped.elapsed().as_secs() >= 4);
        let mut guilty = Injector::start(&site.postfix, SHOP.0, Way::Smtp, "");
        let mut innocent = Injector::start(&site.postfix, BLOG.0, Way::Login, BLOG.1);
        // Of SMTP without a login the log does not say whose it is: only what a login sends can be swept.
        let mut slow = Injector::start(&site.postfix, SHOP.0, Way::Login, SHOP.1);
        let mut script = Injector::start(&site.postfix, SHOP.0, Way::Sendmail, "");
        for n in 0..5 {
            guilty.take(&Letter::new(&format!("escaped{n}-")));
            slow.take(&Letter { to: vec![format!("slow{n}-@defer.test")], ..Letter::new("slow") });
            innocent.take(&Letter::new(&format!("innocent{n}-")));
            let answer = script.take(&Letter::new(&format!("script{n}-")));
            assert!(answer.ended - answer.began < AT_ONCE, "{answer:?}");
        }
        wait_until("what is not asked about", || {
            (site.arrived("escaped").len(), site.arrived("innocent").len()) == (5, 5)
        });
        let again = Instant::now();
        wait_until("some seconds of the log to be over", || again.elapsed().as_secs() >= 3);
        let agent = site.agent();
        wait_until("what is left of it to be on hold", || site.held_copies("slow").len() == 5);
        wait_until("what scripts have handed over to be on hold", || {
            wake_pickup(&site);
            site.held_copies("script").len() == 5
        });
        let passed = ["origin=\"smtp_auth\"", "when=\"away\""];
        agent.wait_sum("sendwarden_gate_bypass_total", &passed, 10.0);
        assert_eq!((site.arrived("script").len(), site.held_copies("innocent").len()), (0, 0));
        agent.stop();
    }
}
