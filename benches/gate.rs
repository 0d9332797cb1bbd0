//! The gate on a real Postfix, `sendwarden run` with shipped settings, 100,000 accounts known and one of them blocked.
//! Measured: the wall time of mail by every way in with the gate and without, alternated; the time of a decision; memory
//! over 100,000 decisions; how long 10,000 held messages take to be released and to be purged, and what that does to the
//! deferred mail of others.
//!
//! `cargo bench --bench gate [-- --accounts 100000 --mails 2000 --rounds 5 --decisions 100000 --held 10000]`, as root, after
//! `tests/rig/install`. What arrived is compared with what was sent. Fails when that is wrong; a missed bar is printed, and
//! fails with `--strict`.

#![allow(clippy::disallowed_methods, reason = "a bench measures real processes in real time")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a bench"
)]

mod meter;
#[path = "../tests/support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use meter::{argument, flag, status_kb};
use support::agent::Agent;
use support::gated::{MILTER, PASSWORD, Site};
use support::helper::Role;
use support::smtp::{self, Mail};
use support::wait_for;

const INJECTORS: u64 = 4;
/// Connections that are open on the host besides: a web server's.
const OTHER_CONNECTIONS: usize = 1_000;
const OTHERS_DEFERRED: usize = 100;

fn main() -> ExitCode {
    let accounts = argument("--accounts").unwrap_or(100_000);
    let mails = argument("--mails").unwrap_or(2_000);
    let rounds = argument("--rounds").unwrap_or(5).max(1);
    let decisions = argument("--decisions").unwrap_or(100_000);
    let held = argument("--held").unwrap_or(10_000);
    // Deferred mail is tried again once in an hour, so that an attempt more is seen.
    let later = "queue_run_delay = 300s\nminimal_backoff_time = 3600s\nmaximal_backoff_time = 7200s\n";
    let site = Site::of("gate:\n  mode: enforce\n  logins: hold\n", Role::Root, &accounts_file(accounts), later);
    for login in ["sales@shop.test", "user1@hosting.test"] {
        site.postfix.add_login(login, PASSWORD);
    }
    let agent = site.agent();
    site.tell(&["block", "shop", "--scope", "all"]);
    let crowd = Crowd::gather();
    println!("{accounts} accounts known, 1 blocked; {OTHER_CONNECTIONS} other TCP connections on the host");

    let mut bars = Bars { met: true };
    wall(&site, mails, rounds, &mut bars);
    latency(&agent, &[], "of the mail above", &mut bars);
    flat(&site, &agent, decisions, &mut bars);
    drop(crowd);
    queue(&site, &agent, held, &mut bars);
    agent.stop();
    if bars.met || !flag("--strict") { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

struct Bars {
    met: bool,
}

impl Bars {
    fn at_most(&mut self, what: &str, got: f64, most: f64, unit: &str) {
        self.met &= got <= most;
        println!("{what}: {got:.3} {unit} (bar {most} {unit}) {}", if got <= most { "met" } else { "MISSED" });
    }
}

fn accounts_file(accounts: u64) -> String {
    let mut text = "accounts:\n  - id: shop\n    logins: [sales@shop.test]\n".to_owned();
    for n in 1..accounts {
        text.push_str(&format!("  - id: user{n}\n    logins: [user{n}@hosting.test]\n"));
    }
    text
}

/// Connections that have nothing to do with mail.
struct Crowd {
    _ends: Vec<(TcpStream, TcpStream)>,
}

impl Crowd {
    fn gather() -> Crowd {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let pair = |_| (TcpStream::connect(("127.0.0.1", port)).unwrap(), listener.accept().unwrap().0);
        Crowd { _ends: (0..OTHER_CONNECTIONS / 2).map(pair).collect() }
    }
}

fn text(name: &str) -> String {
    format!(
        "From: a@hosting.test\nSubject: {name}\nX-Test-Id: {name}\n\n{}",
        "A line of some length, as mail has it.\n".repeat(50)
    )
}

/// Every message once, by four injectors at a time.
fn inject(count: u64, send: impl Fn(u64) + Sync) {
    std::thread::scope(|scope| {
        for own in 0..INJECTORS {
            let send = &send;
            scope.spawn(move || (own..count).step_by(INJECTORS as usize).for_each(send));
        }
    });
}

/// A third by sendmail(1), a third by SMTP from this host, a third with a login.
fn by_every_way(site: &Site, round: &str, n: u64) {
    let (name, to) = (format!("{round}-{n}"), format!("{round}-{n}@accept.test"));
    let data = text(&name);
    match n % 3 {
        0 => site.postfix.sendmail("web1", "web1@hosting.test", &[&to], &data),
        way => {
            let (port, auth) = match way {
                1 => (site.postfix.smtp_port(), None),
                _ => (site.postfix.submission_port(), Some(("user1@hosting.test", PASSWORD))),
            };
            let mail = Mail { sender: "user1@hosting.test", recipients: &[&to], data: &data, auth };
            smtp::send(port, &mail).expect("it is taken");
        }
    }
}

/// Waits until this many more than `before` have arrived.
fn all_arrive(site: &Site, before: usize, count: u64) {
    wait_for("every message to arrive", || (site.postfix.accept.count() as u64 >= before as u64 + count).then_some(()));
}

fn wall(site: &Site, mails: u64, rounds: u64, bars: &mut Bars) {
    let mut times: BTreeMap<bool, Vec<f64>> = BTreeMap::new();
    for round in 0..=rounds {
        for gated in [false, true] {
            for setting in MILTER.lines() {
                let setting =
                    if gated { setting.to_owned() } else { format!("{} =", setting.split(" =").next().unwrap()) };
                site.postfix.run("postconf", &["-e", &setting]);
            }
            site.postfix.run("postfix", &["reload"]);
            let name = format!("{}{round}", if gated { "with" } else { "without" });
            // Round 0 warms both up.
            let count = if round == 0 { mails / 10 } else { mails };
            let before = site.postfix.accept.count();
            let began = Instant::now();
            inject(count, |n| by_every_way(site, &name, n));
            all_arrive(site, before, count);
            if round > 0 {
                times.entry(gated).or_default().push(began.elapsed().as_secs_f64());
            }
            let mut arrived = site.arrived(&format!("{name}-"));
            arrived.dedup();
            assert_eq!(arrived.len() as u64, count, "each message once");
            assert_eq!(site.postfix.accept.count() as u64, before as u64 + count, "and no other");
        }
    }
    let middle = |gated: bool| {
        let mut times = times[&gated].clone();
        times.sort_by(f64::total_cmp);
        println!("{} the gate, {mails} mails: {times:.2?} s", if gated { "with" } else { "without" });
        times[times.len() / 2]
    };
    let ratio = 1.0 / middle(false) * middle(true);
    bars.at_most("wall time with the gate, median to median", ratio, 1.10, "x");
}

/// Buckets of the agent's own histogram: upper bound in seconds, and how many are in it or below.
fn buckets(agent: &Agent) -> Vec<(f64, f64)> {
    let page = agent.metrics();
    let buckets = page.lines().filter_map(|line| {
        let (bound, count) = line.strip_prefix("sendwarden_gate_decision_seconds_bucket{le=\"")?.split_once("\"} ")?;
        Some((bound.parse::<f64>().unwrap_or(f64::INFINITY), count.parse::<f64>().ok()?))
    });
    buckets.collect()
}

/// How long decisions took since `before`.
fn latency(agent: &Agent, before: &[(f64, f64)], which: &str, bars: &mut Bars) {
    let earlier = |bound: f64| before.iter().find(|(own, _)| *own == bound).map_or(0.0, |(_, count)| *count);
    let since: Vec<(f64, f64)> =
        buckets(agent).into_iter().map(|(bound, count)| (bound, count - earlier(bound))).collect();
    let all = since.last().expect("the histogram is there").1;
    let of = |share: f64| {
        since.iter().find(|(_, count)| *count >= share * all).map_or(f64::INFINITY, |(bound, _)| bound * 1e3)
    };
    println!("{all} decisions, {which}: p50 at most {} ms, p99.9 at most {} ms", of(0.5), of(0.999));
    bars.at_most("p99, upper bound of its bucket", of(0.99), 1.0, "ms");
}

/// Decisions without mail: what a Postfix would ask, on four connections at once.
fn flat(site: &Site, agent: &Agent, decisions: u64, bars: &mut Bars) {
    let socket = site.postfix.queue_dir().join("sendwarden/gate.sock");
    let resident = || status_kb(agent.pid(), "VmRSS:").expect("the agent runs") as f64 / 1024.0;
    // What is remembered of the newest 50,000 messages is full then.
    ask(&socket, decisions);
    let (earlier, before, began) = (buckets(agent), resident(), Instant::now());
    ask(&socket, decisions);
    let took = began.elapsed().as_secs_f64();
    let after = resident();
    println!("{decisions} decisions in {took:.1} s: {before:.1} MiB resident before, {after:.1} MiB after");
    bars.at_most("growth over them", after - before, 5.0, "MiB");
    latency(agent, &earlier, "without mail", bars);
}

fn frame(out: &mut Vec<u8>, command: u8, data: &[u8]) {
    out.extend((data.len() as u32 + 1).to_be_bytes());
    out.push(command);
    out.extend(data);
}

fn ask(socket: &Path, decisions: u64) {
    inject(INJECTORS, |own| {
        let mut stream = UnixStream::connect(socket).unwrap();
        let mut out = Vec::new();
        frame(&mut out, b'O', &[6u32, 0x1ff, 0x1f_ffff].map(u32::to_be_bytes).concat());
        stream.write_all(&out).unwrap();
        answer(&mut stream, b'O');
        for n in 0..decisions / INJECTORS {
            out.clear();
            frame(&mut out, b'C', b"client\x004\x12\x34192.0.2.7\0");
            let login = format!("M{{auth_authen}}\0user{}@hosting.test\0", n % 90_000 + 1);
            frame(&mut out, b'D', login.as_bytes());
            frame(&mut out, b'M', b"<a@b.test>\0");
            frame(&mut out, b'R', b"<c@d.test>\0");
            frame(&mut out, b'D', format!("Ei\0{own:X}{n:09X}\0").as_bytes());
            frame(&mut out, b'E', b"");
            stream.write_all(&out).unwrap();
            answer(&mut stream, b'a');
        }
    });
}

fn answer(stream: &mut UnixStream, want: u8) {
    let mut head = [0; 5];
    stream.read_exact(&mut head).unwrap();
    let [a, b, c, d, command] = head;
    let mut rest = vec![0; u32::from_be_bytes([a, b, c, d]) as usize - 1];
    stream.read_exact(&mut rest).unwrap();
    assert_eq!(char::from(command), char::from(want), "the gate's answer");
}

/// Fills the hold queue through the gate, and empties it by an unblock and by a purge.
fn queue(site: &Site, agent: &Agent, held: u64, bars: &mut Bars) {
    let asked = |site: &Site| site.postfix.defer.answers().len();
    for n in 0..OTHERS_DEFERRED {
        let to = format!("later{n}@defer.test");
        site.postfix.sendmail("web2", "web2@hosting.test", &[&to], &text("later"));
    }
    wait_for("others' mail to be deferred", || (asked(site) >= OTHERS_DEFERRED).then_some(()));
    for (order, most) in [("unblock", 5.0), ("purge", 15.0)] {
        site.tell(&["block", "shop", "--scope", "all"]);
        let earlier = buckets(agent);
        let began = Instant::now();
        inject(held, |n| {
            let (name, to) = (format!("{order}-{n}"), format!("{order}-{n}@accept.test"));
            let auth = Some(("sales@shop.test", PASSWORD));
            let mail = Mail { sender: "sales@shop.test", recipients: &[&to], data: &text(&name), auth };
            smtp::send(site.postfix.submission_port(), &mail).expect("it is taken");
        });
        println!("{held} messages put on hold by the gate in {:.1} s", began.elapsed().as_secs_f64());
        latency(agent, &earlier, "held and written down", bars);
        let on_hold = || files(&site.postfix.queue_dir().join("hold"));
        assert_eq!(on_hold() as u64, held, "all of it is on hold");
        let known = || agent.sum("sendwarden_held_messages", &[]) as u64;
        wait_for("the agent to know all of it", || (known() == held).then_some(()));
        let before = site.postfix.accept.count();
        let arguments: &[&str] = if order == "purge" { &["purge", "shop", "--yes"] } else { &["unblock", "shop"] };
        let began = Instant::now();
        site.tell(arguments);
        wait_for("the hold queue to be empty", || (on_hold() == 0).then_some(()));
        let took = began.elapsed().as_secs_f64();
        bars.at_most(
            &format!("{held} held messages, {order}, from the command to an empty hold queue"),
            took,
            most,
            "s",
        );
        if order == "unblock" {
            all_arrive(site, before, held);
            println!("all of it delivered after {:.1} s", began.elapsed().as_secs_f64());
            assert_eq!(site.arrived("unblock-").len() as u64, held, "each once");
        }
        wait_for("the order to be done", || (known() == 0).then_some(()));
    }
    assert_eq!(site.arrived("purge-"), [""; 0], "nothing of it leaves");
    bars.at_most("attempts more of others' deferred mail", (asked(site) - OTHERS_DEFERRED) as f64, 0.0, "");
}

/// Files below a directory of the queue, hashed or flat.
fn files(dir: &Path) -> usize {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| if entry.path().is_dir() { files(&entry.path()) } else { 1 }).sum()
}
