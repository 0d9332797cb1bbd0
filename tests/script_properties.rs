//! Which script made a message, under random interleavings, against an oracle that knows which process wrote which
//! line: no message may carry another one's directory or script. What is missing is counted and printed.

#![allow(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use sendwarden::engine::attribution::User;
use sendwarden::engine::directory::Directory;
use sendwarden::engine::replies::Replies;
use sendwarden::engine::tracker::Settings;
use sendwarden::engine::{Engine, Sink};
use sendwarden::mail::{
    Attempt, Dsn, End, Event, Fact, Head, Kind, QueueId, Script, ScriptSource, Server, Status, Time,
};
use std::collections::BTreeMap;

const START: i64 = 1_800_000_000_000;

/// What is said of each message at its end.
#[derive(Default)]
struct Said(BTreeMap<String, (String, String)>);

impl Sink for Said {
    fn fact(&mut self, fact: &Fact<'_>) {
        if let Fact::Leg(leg) = fact {
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            let script = leg.script.map_or_else(Default::default, |s| (text(&s.directory), text(&s.path)));
            self.0.insert(leg.id.to_string(), script);
        }
    }
}

fn engine() -> Engine {
    let settings = Settings { details: true, ..Settings::default() };
    Engine::new(settings, Directory::default(), Replies::default(), 7)
}

fn head(at_ms: i64, pid: u32) -> Head<'static> {
    let at = Time((START + at_ms) * 1_000);
    Head { at, host: b"h", server: Server::default(), instance: b"mx", pid, owns_queue: true }
}

fn id(n: usize) -> QueueId {
    QueueId::new(format!("Q{n:05}").as_bytes()).unwrap()
}

fn run(cases: u32, mut case: impl FnMut(&mut TestRunner)) {
    let mut runner = TestRunner::new(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() });
    for _ in 0..cases {
        case(&mut runner);
    }
}

fn draw<S: Strategy>(strategy: &S, runner: &mut TestRunner) -> S::Value {
    strategy.new_tree(runner).unwrap().current()
}

/// How long after its start a process submits each of its messages, in milliseconds.
#[derive(Debug, Clone)]
struct Process {
    start: i64,
    messages: Vec<i64>,
    many: bool,
    directory: u8,
}

fn process() -> impl Strategy<Value = Process> {
    let delay = prop_oneof![6 => 0i64..40, 2 => 0i64..2_500, 1 => 0i64..500_000];
    let start = prop_oneof![3 => 0i64..20_000, 1 => 0i64..3_000_000];
    (start, proptest::collection::vec(delay, 0..4), prop_oneof![5 => Just(false), 1 => Just(true)], 0u8..4).prop_map(
        |(start, mut messages, many, directory)| {
            messages.truncate(if many { 3 } else { 1 });
            Process { start, messages, many, directory }
        },
    )
}

#[test]
fn no_message_carries_another_ones_directory() {
    let cases = 12_000;
    let mut seen: BTreeMap<&str, u64> = BTreeMap::new();
    run(cases, |runner| {
        let processes = draw(&proptest::collection::vec(process(), 1..14), runner);
        let (with_pid, salt) = draw(&(any::<bool>(), 0usize..1_000), runner);
        // (time, order at that time, process, message)
        let mut lines: Vec<(i64, usize, usize, Option<usize>)> = Vec::new();
        let mut messages: Vec<usize> = Vec::new();
        for (n, process) in processes.iter().enumerate() {
            let shuffle = (n * 7919 + salt) % 14;
            lines.push((process.start, shuffle, n, None));
            for delay in &process.messages {
                messages.push(n);
                lines.push((process.start + delay, shuffle + 100, n, Some(messages.len() - 1)));
            }
        }
        lines.sort_unstable();
        let mut engine = engine();
        let mut said = Said::default();
        for &(at, _, n, message) in &lines {
            // Process ids come again: every eighth process has the same.
            let pid = if with_pid { 100 + n as u32 % 8 } else { 0 };
            let (head, process) = (head(at, pid), &processes[n]);
            let directory = format!("/home/{}", process.directory);
            let kind = match message {
                None => Kind::Script(Script {
                    id: None,
                    from: ScriptSource::Command { many: process.many },
                    uid: None,
                    directory: directory.as_bytes(),
                    path: b"",
                    line: 0,
                    recipients: b"",
                }),
                Some(m) => Kind::Submitted { id: id(m), uid: 2_000, sender: b"s@x", requeued_from: None },
            };
            engine.observe(&Event { head, kind }, &mut said);
            if let Some(m) = message {
                let kind = Kind::Activated { id: id(m), sender: b"s@x", size: 1, recipients: 1 };
                engine.observe(&Event { head, kind }, &mut said);
            }
        }
        engine.tell_open(&mut said);
        let kind = |joined: bool| match (with_pid, joined) {
            (true, true) => "joined by process id",
            (true, false) => "missing with process id",
            (false, true) => "joined without process id",
            (false, false) => "missing without process id",
        };
        for (m, &n) in messages.iter().enumerate() {
            let (directory, _) = &said.0[&id(m).to_string()];
            let truth = format!("/home/{}", processes[n].directory);
            // A process id that another live process has too cannot happen on a real host.
            let alive = |p: &Process| p.start..=p.start + p.messages.iter().copied().max().unwrap_or(0);
            let twice = |(other, p): (usize, &Process)| {
                other != n && other % 8 == n % 8 && {
                    let (a, b) = (alive(p), alive(&processes[n]));
                    a.start() <= b.end() && b.start() <= a.end()
                }
            };
            if with_pid && processes.iter().enumerate().any(twice) {
                continue;
            }
            assert!(directory.is_empty() || *directory == truth, "{directory} for {truth}: {processes:?}");
            *seen.entry(kind(!directory.is_empty())).or_default() += 1;
            if processes[n].messages.len() > 1 && !directory.is_empty() {
                *seen.entry("one of several of a process").or_default() += 1;
            }
            assert!(!with_pid || !directory.is_empty(), "with process ids nothing is missing: {processes:?}");
        }
    });
    println!("{cases} cases: {seen:?}, wrong 0");
    assert_eq!(seen.get("missing with process id"), None);
    assert_eq!(seen.len(), 4, "every situation occurred: {seen:?}");
}

/// A message of a user, made by a call of one of the user's scripts, or by another program.
#[derive(Debug, Clone)]
struct Mail {
    user: u32,
    at: i64,
    /// `None`: another program.
    script: Option<u8>,
    to: u8,
    /// From the call to the arrival line, and from there to the first attempt.
    delays: (i64, i64),
}

fn mail() -> impl Strategy<Value = Mail> {
    let at = prop_oneof![2 => 0i64..8_000, 1 => 0i64..300_000];
    let delays = (prop_oneof![4 => 1i64..60, 1 => 1i64..4_000], prop_oneof![4 => 1i64..80, 1 => 1i64..9_000]);
    (0u32..3, at, proptest::option::weighted(0.8, 0u8..3), 0u8..4, delays)
        .prop_map(|(user, at, script, to, delays)| Mail { user, at, script, to, delays })
}

#[test]
fn no_message_carries_another_ones_script() {
    let cases = 12_000;
    let mut seen: BTreeMap<&str, u64> = BTreeMap::new();
    run(cases, |runner| {
        let mails = draw(&proptest::collection::vec(mail(), 1..14), runner);
        let mut engine = engine();
        for user in 0..3u32 {
            let home = format!("/home/u{user}");
            engine
                .attribution
                .learn_user(2_000 + user, Some(User { uid: 2_000 + user, login: format!("u{user}"), home }));
        }
        // Another program writes to recipients of its own.
        let to = |mail: &Mail| format!("R{}{}@dest.test", mail.to, if mail.script.is_some() { "" } else { "x" });
        let path = |mail: &Mail| mail.script.map(|script| format!("/home/u{}/{script}.php", mail.user));
        let mut lines: Vec<(i64, usize, usize)> = Vec::new();
        for (n, mail) in mails.iter().enumerate() {
            let arrival = mail.at + mail.delays.0;
            // Whole seconds, as both logs have them: the interpreter's log is read first.
            lines.extend([(mail.at, 0, n), (arrival, 1, n), (arrival + mail.delays.1, 2, n)]);
        }
        lines.sort_unstable();
        let mut said = Said::default();
        for &(at, step, n) in &lines {
            let (mail, head) = (&mails[n], head(at / 1_000 * 1_000, 0));
            let (to, path) = (to(mail), path(mail));
            let mut observe = |kind| engine.observe(&Event { head, kind }, &mut said);
            match (step, &path) {
                (0, None) => {}
                (0, Some(path)) => observe(Kind::Script(Script {
                    id: None,
                    from: ScriptSource::Interpreter,
                    uid: None,
                    directory: b"",
                    path: path.as_bytes(),
                    line: 3,
                    recipients: format!("Somebody <{}>", to.to_uppercase()).as_bytes(),
                })),
                (1, _) => {
                    observe(Kind::Submitted { id: id(n), uid: 2_000 + mail.user, sender: b"s@x", requeued_from: None });
                    observe(Kind::Activated { id: id(n), sender: b"s@x", size: 1, recipients: 1 });
                }
                _ => {
                    observe(Kind::Attempt(Attempt {
                        id: id(n),
                        recipient: to.as_bytes(),
                        original: b"",
                        accepted_as: b"",
                        relay: b"mx",
                        relay_address: b"192.0.2.1",
                        local: false,
                        delay_ms: 1,
                        dsn: Dsn::new(2, 0, 0),
                        status: Status::Sent,
                        reply: b"250 ok",
                        next: None,
                    }));
                    observe(Kind::Ended { id: id(n), end: End::Done });
                }
            }
        }
        for (n, mail) in mails.iter().enumerate() {
            let (_, path_said) = &said.0[&id(n).to_string()];
            let truth = path(mail).unwrap_or_default();
            assert!(path_said.is_empty() || *path_said == truth, "{path_said} for {truth}: {mails:?}");
            *seen
                .entry(match (path_said.is_empty(), truth.is_empty()) {
                    (false, _) => "joined",
                    (true, false) => "missing",
                    (true, true) => "another program's",
                })
                .or_default() += 1;
        }
    });
    println!("{cases} cases: {seen:?}, wrong 0");
    assert_eq!(seen.len(), 3, "every situation occurred: {seen:?}");
    assert!(seen["joined"] > seen["missing"], "most are found: {seen:?}");
}
