//! A blocked account that injects without end: exactly what there is room for is held, the rest is thrown away and told,
//! nobody else notices, and neither memory nor the store grows with it. On a real Postfix, and at the gate's socket as fast
//! as it answers.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]
#![allow(clippy::disallowed_methods, reason = "a test of real servers starts processes")]
mod support;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use serde_json::Value;
use support::agent::Agent;
use support::gated::{Site, names};
use support::helper::Role;
use support::place::{command, succeed};
use support::wait_until;

const ROOM: usize = 500;
const GATE: &str = "gate:\n  mode: enforce\nhold:\n  max_held: 500\n";
/// Recipients that are told for one block (`MOST_LISTED` of `app/gate`).
const LISTED: u64 = 10_000;

/// What the order log says of what was not held, summed up.
fn overflowed(site: &Site, user: &str) -> [u64; 4] {
    let store = Connection::open(site.config.with_file_name("state").join("sendwarden.db")).unwrap();
    let mut rows = store
        .prepare("SELECT details FROM audit JOIN account USING (owner) WHERE outcome = 'overflowed' AND name = ?")
        .unwrap();
    let details: Vec<String> = rows.query_map([user], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    let mut sums = [0; 4];
    for text in details {
        let numbers = text.split(|c: char| !c.is_ascii_digit()).filter_map(|word| word.parse::<u64>().ok());
        sums.iter_mut().zip(numbers).for_each(|(sum, number)| *sum += number);
    }
    sums
}

fn errors(site: &Site, user: &str) -> u64 {
    let store = Connection::open(site.config.with_file_name("state").join("sendwarden.db")).unwrap();
    let count = "SELECT count(*) FROM error JOIN account USING (owner) WHERE name = ?";
    store.query_row(count, [user], |row| row.get::<_, i64>(0)).unwrap() as u64
}

#[test]
fn two_thousand_messages_of_a_blocked_account_and_nobody_else_notices() {
    const SENT: usize = 2_000;
    const OTHERS: usize = 200;
    let site = Site::new(GATE, Role::Root);
    let agent = site.agent();
    site.tell(&["block", "web1"]);
    let began = Instant::now();
    std::thread::scope(|scope| {
        for part in 0..4 {
            let site = &site;
            scope.spawn(move || (part..SENT).step_by(4).for_each(|n| site.script("web1", &format!("a{n}"))));
        }
        scope.spawn(|| (0..OTHERS).for_each(|n| site.script("web2", &format!("b{n}"))));
    });
    println!("handed in after {:?}", began.elapsed());
    wait_until("everybody else's to arrive", || site.arrived("b").len() == OTHERS);
    println!("everybody else's arrived after {:?}", began.elapsed());
    let beyond = SENT - ROOM;
    wait_until("all to be decided", || site.decisions(&agent, "discarded") >= beyond as f64);
    println!("all decided after {:?}", began.elapsed());
    agent.wait_sum("sendwarden_held_messages", &[], ROOM as f64);
    assert_eq!(site.on_hold("a").len(), ROOM);
    assert_eq!(site.decisions(&agent, "held"), ROOM as f64);
    assert_eq!(site.decisions(&agent, "discarded"), beyond as f64);
    assert_eq!((site.arrived("a").len(), site.arrived("b")), (0, names("b", OTHERS)));
    // Each one that was sent is on hold, or its recipient is in the errors.
    let beyond = beyond as u64;
    wait_until("the rest to be told", || overflowed(&site, "web1") == [0, beyond, beyond, beyond]);
    let text = site.tell(&["errors", "web1", "--limit", "10000", "--format", "json"]);
    let view: Value = serde_json::from_str(&text).unwrap();
    let told = view["errors"].as_array().unwrap().iter().map(|row| row["recipient"].as_str().unwrap().to_owned());
    let held = site.on_hold("a").into_iter().map(|name| format!("{name}@accept.test"));
    let mut all: Vec<String> = told.chain(held).collect();
    all.sort();
    let mut wanted: Vec<String> = names("a", SENT).iter().map(|name| format!("{name}@accept.test")).collect();
    wanted.sort();
    assert!(all == wanted, "{} of {}", all.len(), wanted.len());
    agent.stop();
}

/// The server's end of a conversation with the gate.
struct Server {
    gate: UnixStream,
    incoming: PathBuf,
}

impl Server {
    fn connect(site: &Site) -> Server {
        let gate = UnixStream::connect(site.postfix.queue_dir().join("sendwarden/gate.sock")).unwrap();
        let mut server = Server { gate, incoming: site.postfix.queue_dir().join("incoming") };
        server.say(b'O', &[6u32, 0x1ff, 0x1f_ffff].map(u32::to_be_bytes).concat());
        assert_eq!(server.hear(), b'O');
        server
    }

    fn say(&mut self, command: u8, data: &[u8]) {
        self.gate.write_all(&frame(command, data)).unwrap();
    }

    fn hear(&mut self) -> u8 {
        let mut head = [0; 5];
        self.gate.read_exact(&mut head).unwrap();
        let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let mut rest = vec![0; length - 1];
        self.gate.read_exact(&mut rest).unwrap();
        head[4]
    }

    /// A message that a user hands over by sendmail(1), as pickup(8) and cleanup(8) do: what the gate decided (`a`, `q`, `d`),
    /// and how long that took.
    fn hands_over(&mut self, uid: u32, id: &str, to: &str) -> (u8, Duration) {
        let file = self.incoming.join(id);
        write_queue_file(&file, uid, id);
        let talk = [
            frame(b'C', &[&b"localhost\x004\0\0"[..], b"127.0.0.1\0"].concat()),
            frame(b'M', b"web1@hosting.test\0"),
            frame(b'R', format!("{to}\0").as_bytes()),
            frame(b'D', format!("Ei\0{id}\0").as_bytes()),
            frame(b'E', b""),
        ];
        let began = Instant::now();
        self.gate.write_all(&talk.concat()).unwrap();
        let decided = self.hear();
        let took = began.elapsed();
        if decided == b'q' {
            assert_eq!(self.hear(), b'a', "what is held is accepted");
        }
        self.say(b'K', b"");
        fs::remove_file(file).unwrap();
        (decided, took)
    }
}

fn frame(command: u8, data: &[u8]) -> Vec<u8> {
    let mut bytes = (data.len() as u32 + 1).to_be_bytes().to_vec();
    bytes.push(command);
    bytes.extend(data);
    bytes
}

/// As far as the gate reads it: an empty envelope, and the first header.
fn write_queue_file(path: &Path, uid: u32, id: &str) {
    let record = |kind: u8, data: &str| [&[kind, data.len() as u8][..], data.as_bytes()].concat();
    let first = format!("Received: by mx.hosting.test (Postfix, from userid {uid})");
    let second = format!("\tid {id}; Mon, 23 Nov 2026 10:00:00 +0000 (UTC)");
    let text = [
        record(b'S', ""),
        record(b'M', ""),
        record(b'N', &first),
        record(b'N', &second),
        record(b'X', ""),
        record(b'E', ""),
    ];
    fs::write(path, text.concat()).unwrap();
}

fn uid(user: &str) -> u32 {
    succeed(command("id").args(["-u", user]), None).trim().parse().unwrap()
}

/// Kilobytes that the process has in memory now, and had at most.
fn memory(agent: &Agent) -> [u64; 2] {
    let status = fs::read_to_string(format!("/proc/{}/status", agent.pid())).unwrap();
    let value = |key: &str| status.lines().find_map(|line| line.strip_prefix(key)?.strip_suffix(" kB")).unwrap();
    ["VmRSS:", "VmHWM:"].map(|key| value(key).trim().parse().unwrap())
}

/// What came of the messages of one connection, and how long those waited that are not blocked.
struct Lane {
    passed: u64,
    held: u64,
    discarded: u64,
    took: Vec<Duration>,
}

#[test]
fn a_hundred_thousand_messages_at_the_socket_take_neither_memory_nor_the_store() {
    const SENT: usize = 100_000;
    const LANES: usize = 4;
    let site = Site::new(GATE, Role::Root);
    let agent = site.agent();
    site.tell(&["block", "web1"]);
    // Its queue manager would take the files that the test puts there for messages.
    site.postfix.run("postfix", &["stop"]);
    let (guilty, innocent) = (uid("web1"), uid("web2"));
    let before = memory(&agent);
    let began = Instant::now();
    let lanes: Vec<Lane> = std::thread::scope(|scope| {
        let run = |lane: usize| {
            let mut server = Server::connect(&site);
            let (mut passed, mut held, mut discarded, mut took) = (0, 0, 0, Vec::new());
            for n in (lane..SENT).step_by(LANES) {
                // Every tenth is of somebody who is not blocked.
                let other = n % 10 == 9;
                let who = if other { innocent } else { guilty };
                let (decided, time) = server.hands_over(who, &format!("{n:08X}"), &format!("to{n}@accept.test"));
                match (other, decided) {
                    (true, b'a') => passed += 1,
                    (false, b'q') => held += 1,
                    (false, b'd') => discarded += 1,
                    _ => panic!("{n}: {}", char::from(decided)),
                }
                if other {
                    took.push(time);
                }
            }
            Lane { passed, held, discarded, took }
        };
        let lanes: Vec<_> = (0..LANES).map(|lane| scope.spawn(move || run(lane))).collect();
        lanes.into_iter().map(|lane| lane.join().unwrap()).collect()
    });
    let sum = |of: fn(&Lane) -> u64| lanes.iter().map(of).sum::<u64>();
    let (sent, room) = (SENT as u64, ROOM as u64);
    let beyond = sent / 10 * 9 - room;
    assert_eq!([sum(|lane| lane.passed), sum(|lane| lane.held), sum(|lane| lane.discarded)], [sent / 10, room, beyond]);
    let mut took: Vec<Duration> = lanes.iter().flat_map(|lane| lane.took.clone()).collect();
    took.sort_unstable();
    let (middle, late) = (took[took.len() / 2], took[took.len() * 99 / 100]);
    println!("{SENT} in {:?}; others waited {middle:?}, 99 of 100 at most {late:?}", began.elapsed());
    assert!(late < Duration::from_millis(250), "nobody else notices: {late:?}");
    // All of it is told: some with their recipients, all by number.
    wait_until("the rest to be told", || overflowed(&site, "web1") == [0, beyond, beyond, LISTED]);
    assert_eq!(errors(&site, "web1"), LISTED);
    agent.wait_sum("sendwarden_held_messages", &[], ROOM as f64);
    let after = memory(&agent);
    println!("memory: {before:?} kB before, {after:?} kB after (now, at most)");
    assert!(after[1] - before[1] < 48 * 1024, "{before:?} {after:?}");
    let tape = fs::metadata(site.config.with_file_name("state").join("gate.tape")).unwrap().len();
    assert!(tape < 4 << 20, "the tape has {tape} bytes");
    agent.stop();
}
