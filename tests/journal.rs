//! The agent on a real journal: real journalctl on real journal files, which systemd-journal-remote writes from export
//! text without a running systemd. journalctl is killed, stopped, cut off and lied to; the agent is killed; every entry
//! counts once, and whatever is wrong shows within half a minute.
#![allow(clippy::disallowed_methods, reason = "tests start processes and poll the real clock")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

mod corpus;
mod crash_support;

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use crash_support::{House, wait};
use rustix::process::{Pid, Signal, kill_process};

/// The bar: trouble shows within this.
const SOON: Duration = Duration::from_secs(30);

/// A directory of journal files.
struct Journal {
    dir: PathBuf,
    base: u64,
}

impl Journal {
    fn new(house: &House) -> Journal {
        let dir = house.dir.join("journal");
        fs::create_dir(&dir).unwrap();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let journal = Journal { dir, base: now - 3_600 };
        house.configure_logs(&journal.source());
        journal
    }

    /// The number of a message that is written in so many seconds.
    fn soon(&self, seconds: u64) -> u64 {
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() - self.base + seconds
    }

    /// The entry of the configuration.
    fn source(&self) -> String {
        format!("  - journal: true\n    directory: {}\n", self.dir.display())
    }

    fn append(&self, export: &[u8]) {
        let mut remote = Command::new("/usr/lib/systemd/systemd-journal-remote")
            .arg("-o")
            .arg(self.dir.join("remote.journal"))
            .arg("-")
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("systemd-journal-remote is there: tests/rig/install");
        remote.stdin.take().unwrap().write_all(export).unwrap();
        assert!(remote.wait().unwrap().success());
    }

    /// One entry of message `n`, as Postfix has journald write it.
    fn entry(&self, n: u64, step: u64, daemon: &str, message: &[u8]) -> Vec<u8> {
        let micros = n * 1_000_000 + step;
        let mut out = format!(
            "__REALTIME_TIMESTAMP={}\n__MONOTONIC_TIMESTAMP={micros}\n_BOOT_ID={:032x}\n_HOSTNAME=mx\n\
             _TRANSPORT=syslog\nPRIORITY=6\nSYSLOG_FACILITY=2\nSYSLOG_IDENTIFIER=postfix/{daemon}\nSYSLOG_PID=11\n_PID=11\n",
            self.base * 1_000_000 + micros,
            1 + n / 1_000
        )
        .into_bytes();
        match std::str::from_utf8(message) {
            Ok(text) if !text.contains('\n') => out.extend(format!("MESSAGE={text}\n").bytes()),
            _ => {
                out.extend(b"MESSAGE\n");
                out.extend((message.len() as u64).to_le_bytes());
                out.extend(message);
                out.push(b'\n');
            }
        }
        out.push(b'\n');
        out
    }

    /// Messages `from..to` from submission to delivery, with entries of other programs between them.
    fn mail(&self, from: u64, to: u64) -> Vec<u8> {
        let mut out = Vec::new();
        for n in from..to {
            for (step, (daemon, text)) in (0..).zip(lines(n)) {
                out.extend(self.entry(n, step, daemon, text.as_bytes()));
            }
            let cron = self.entry(n, 5, "x", b"(root) CMD (true)");
            out.extend(String::from_utf8(cron).unwrap().replace("=postfix/x", "=CRON").bytes());
        }
        out
    }
}

/// The five lines of message `n`: daemon and text.
fn lines(n: u64) -> [(&'static str, String); 5] {
    let id = format!("{:010X}", 0xA0_0000_0000_u64 + n * 16);
    let sent = format!(
        "{id}: to=<a{n}@example.test>, relay=mx.example.test[192.0.2.1]:25, delay=1, delays=0/0/0.5/0.5, dsn=2.0.0, \
         status=sent (250 2.0.0 Ok)"
    );
    [
        ("pickup", format!("{id}: uid=54001 from=<x>")),
        ("cleanup", format!("{id}: message-id=<{id}@mx.test>")),
        ("qmgr", format!("{id}: from=<x@mx.test>, size=400, nrcpt=1 (queue active)")),
        ("smtp", sent),
        ("qmgr", format!("{id}: removed")),
    ]
}

/// A real systemd-journald beside the host's own, with its journal in a directory of ours.
struct Journald {
    child: Child,
    dir: PathBuf,
    socket: UnixDatagram,
}

impl Journald {
    fn start(house: &House) -> Journald {
        let (dir, run) = (house.dir.join("journal"), house.dir.join("run"));
        fs::create_dir(&dir).unwrap();
        fs::create_dir(&run).unwrap();
        // A name makes it another one than the host's (systemd-journald.service(8), journal namespaces).
        let child = Command::new("/lib/systemd/systemd-journald")
            .arg("sendwarden-test")
            .env("LOGS_DIRECTORY", &dir)
            .env("RUNTIME_DIRECTORY", &run)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("systemd-journald is there");
        let socket = UnixDatagram::unbound().unwrap();
        let journald = Journald { child, dir, socket };
        wait(house, "journald to listen", || journald.socket.connect(run.join("socket")).is_ok());
        journald
    }

    /// Sends messages `from..to`, and waits until they are in the journal.
    fn mail(&self, house: &House, from: u64, to: u64) {
        for (daemon, text) in (from..to).flat_map(lines) {
            let entry = format!("SYSLOG_IDENTIFIER=postfix/{daemon}\nSYSLOG_PID=11\nMESSAGE={text}\n");
            self.socket.send(entry.as_bytes()).unwrap();
        }
        let (_, last) = lines(to - 1).into_iter().next_back().unwrap();
        wait(house, "journald to write", || self.journal().contains(&last));
    }

    fn journal(&self) -> String {
        let out = Command::new("journalctl")
            .args(["--no-pager", "--quiet", "--output=export", "--merge"])
            .arg(format!("--directory={}", self.dir.display()))
            .output()
            .unwrap();
        String::from_utf8_lossy(&out.stdout).into_owned()
    }

    /// Entries of all programs: journald writes some itself.
    fn entries(&self) -> u64 {
        self.journal().lines().filter(|line| line.starts_with("__CURSOR=")).count() as u64
    }

    fn archived(&self) -> Vec<PathBuf> {
        let paths = fs::read_dir(&self.dir).unwrap().map(|entry| entry.unwrap().path());
        paths.filter(|path| path.to_string_lossy().contains('@')).collect()
    }

    fn rotate(&self, house: &House) {
        let before = self.archived().len();
        kill_process(Pid::from_child(&self.child), Signal::USR2).unwrap();
        wait(house, "journald to rotate", || {
            self.archived().len() > before && self.dir.join("system.journal").exists()
        });
    }
}

impl Drop for Journald {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn wait_sent(house: &House, n: u64) {
    wait(house, &format!("{n} messages in the store"), || house.stored().sent >= n);
    let figures = house.stored();
    assert_eq!((figures.messages, figures.sent, figures.queued), (n, n, 0), "{figures:?}");
}

/// The journalctl that the agent follows with, if it runs.
fn follower(agent: u32) -> Option<Pid> {
    fs::read_dir("/proc").unwrap().flatten().find_map(|entry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        let parent: u32 = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?;
        let argv = fs::read(entry.path().join("cmdline")).ok()?;
        let follows = argv.split(|byte| *byte == 0).any(|word| word == b"--follow");
        (parent == agent && follows).then(|| Pid::from_raw(pid))?
    })
}

fn running_follower(house: &House, agent: u32) -> Pid {
    let mut found = None;
    wait(house, "journalctl to run", || {
        found = follower(agent);
        found.is_some()
    });
    found.unwrap()
}

fn gone(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
    stat.rsplit_once(')').is_none_or(|(_, rest)| rest.trim_start().starts_with('Z'))
}

/// Waits for trouble to show both in `/-/ready` and in the metrics, and says how long that took.
fn shows(house: &House, word: &str, restarts: f64) -> Duration {
    let start = Instant::now();
    let (mut ready, mut metric) = (false, false);
    wait(house, "trouble to show", || {
        ready |= house.ready().is_some_and(|(status, text)| status == 503 && text.contains(word));
        metric |= house.metric("sendwarden_log_source_up") == 0.0;
        ready && metric
    });
    let took = start.elapsed();
    assert!(took < SOON, "it took {took:?}");
    wait(house, "journalctl to be started again", || house.metric("sendwarden_log_source_restarts_total") >= restarts);
    took
}

#[test]
fn journalctl_killed_and_the_agent_killed_count_every_entry_once() {
    let house = House::new("");
    let journal = Journal::new(&house);
    // Of two boots; the next one comes while it runs.
    journal.append(&journal.mail(0, 20));
    journal.append(&journal.mail(1_000, 1_020));
    let agent = house.start();
    wait_sent(&house, 40);
    house.wait_ready();
    assert_eq!(house.metric("sendwarden_log_source_up"), 1.0);
    journal.append(&journal.mail(2_000, 2_010));
    wait_sent(&house, 50);

    let child = running_follower(&house, agent.pid());
    kill_process(child, Signal::KILL).unwrap();
    println!("a killed journalctl showed after {:?}", shows(&house, "journalctl ended", 1.0));
    journal.append(&journal.mail(2_010, 2_020));
    wait_sent(&house, 60);
    house.wait_ready();

    let child = running_follower(&house, agent.pid());
    agent.kill();
    wait(&house, "journalctl to die with the agent", || gone(child));
    journal.append(&journal.mail(2_020, 2_025));
    journal.append(&journal.mail(3_000, 3_005));
    let agent = house.start();
    wait_sent(&house, 70);
    house.wait_ready();
    assert_eq!(house.metric("sendwarden_log_lines_read_total"), 350.0, "strangers and what was read are no lines");
    assert_eq!(house.metric("sendwarden_log_lines_lost_total"), 0.0);
    agent.stop(Signal::TERM);
}

#[test]
fn an_empty_journal_is_read_from_its_first_entry() {
    let house = House::new("");
    let journal = Journal::new(&house);
    let agent = house.start();
    house.wait_ready();
    journal.append(&journal.mail(0, 3));
    wait_sent(&house, 3);
    assert_eq!(house.metric("sendwarden_log_source_restarts_total"), 0.0);
    agent.stop(Signal::TERM);
}

#[test]
fn a_journalctl_that_hangs_is_noticed_and_replaced() {
    let house = House::new("");
    let journal = Journal::new(&house);
    journal.append(&journal.mail(0, 5));
    let agent = house.start();
    wait_sent(&house, 5);
    house.wait_ready();
    let child = running_follower(&house, agent.pid());
    kill_process(child, Signal::STOP).unwrap();
    journal.append(&journal.mail(5, 10));
    println!("a stopped journalctl showed after {:?}", shows(&house, "delivers nothing", 1.0));
    wait_sent(&house, 10);
    assert!(gone(child), "the one that hangs is ended");
    house.wait_ready();
    agent.stop(Signal::TERM);
}

#[test]
fn a_vacuumed_journal_is_a_gap_with_its_time_span_and_the_rest_is_read_whole() {
    let house = House::new("");
    let journal = Journal::new(&house);
    journal.append(&journal.mail(0, 5));
    let agent = house.start();
    wait_sent(&house, 5);
    agent.stop(Signal::TERM);
    fs::remove_file(journal.dir.join("remote.journal")).unwrap();
    journal.append(&journal.mail(2_000, 2_005));
    let agent = house.start();
    wait_sent(&house, 10);
    house.wait_ready();
    assert_eq!(house.metric("sendwarden_log_lines_read_total"), 50.0, "all that is left, from its first entry");
    let lost = house.metrics();
    let lost: Vec<_> = lost.iter().filter(|(name, _)| name.starts_with("sendwarden_log_lines_lost_total")).collect();
    assert!(matches!(&lost[..], [(name, 1.0)] if name.contains("vacuumed")), "{lost:?}");
    let at = |n: u64| jiff::Timestamp::from_second((journal.base + n) as i64).unwrap();
    let span = format!("between {} and {}", at(4), at(2_000));
    assert!(house.printed().contains(&span), "{span}:\n{}", house.printed());
    agent.stop(Signal::TERM);
}

#[test]
fn what_is_vacuumed_while_journalctl_lags_is_a_gap_and_a_rotation_is_none() {
    let house = House::new("");
    let journald = Journald::start(&house);
    house.configure_logs(&format!("  - journal: true\n    directory: {}\n", journald.dir.display()));
    journald.mail(&house, 0, 5);
    let agent = house.start();
    wait_sent(&house, 5);
    house.wait_ready();
    let child = running_follower(&house, agent.pid());
    // It lags, but all is there when it goes on.
    kill_process(child, Signal::STOP).unwrap();
    journald.mail(&house, 5, 10);
    journald.rotate(&house);
    journald.mail(&house, 10, 15);
    kill_process(child, Signal::CONT).unwrap();
    wait_sent(&house, 15);
    house.wait_ready();
    assert_eq!(house.metric("sendwarden_log_lines_lost_total"), 0.0);

    kill_process(child, Signal::STOP).unwrap();
    let read = journald.entries();
    let seconds = jiff::Timestamp::now().as_second();
    journald.mail(&house, 15, 20);
    journald.rotate(&house);
    journald.mail(&house, 20, 22);
    journald.rotate(&house);
    journald.mail(&house, 22, 25);
    let all = journald.entries();
    // What a vacuum does (journal_directory_vacuum of systemd): whole files, the oldest first.
    for file in journald.archived() {
        fs::remove_file(file).unwrap();
    }
    let lost = all - read - journald.entries();
    assert!(lost >= 35, "{lost}: seven messages at least");
    kill_process(child, Signal::CONT).unwrap();
    wait_sent(&house, 18);
    wait(&house, "the gap to be counted", || house.metric("sendwarden_log_lines_lost_total") > 0.0);
    assert_eq!(house.metric("sendwarden_log_lines_lost_total"), lost as f64);
    assert_eq!(house.metric("sendwarden_log_source_restarts_total"), 0.0, "it was the same journalctl all the time");
    assert!(!gone(child));
    let printed = house.printed();
    let said = printed.lines().find(|line| line.contains("entries of all programs between")).unwrap();
    let words: Vec<&str> = said.split_whitespace().collect();
    let times: Vec<i64> =
        words.iter().filter_map(|word| Some(word.parse::<jiff::Timestamp>().ok()?.as_second())).collect();
    println!("{lost} entries lost; it said: {said}");
    let [.., after, before] = times[..] else { panic!("no times: {said}") };
    assert!(after <= seconds && seconds <= before + 1 && before - after < 60, "{said}");
    agent.stop(Signal::TERM);
}

#[test]
fn the_first_start_looks_back_as_far_as_backfill_says_and_loses_nothing_after_it() {
    for (backfill, zone, found) in
        [("all", "UTC", 15), ("30d", "UTC", 10), ("1h", "Asia/Tokyo", 5), ("1h", "America/Lima", 5), ("none", "UTC", 0)]
    {
        let house = House::new("");
        let mut journal = Journal::new(&house);
        // 40 days, 90 minutes and 30 minutes ago.
        let (now, hour) = (journal.base + 3_600, 3_600);
        for (n, ago) in [(0, 40 * 24 * hour), (5, hour + hour / 2), (10, hour / 2)] {
            journal.base = now - ago;
            journal.append(&journal.mail(n, n + 5));
        }
        let config = fs::read_to_string(&house.config).unwrap();
        fs::write(&house.config, format!("{config}backfill: {backfill}\n")).unwrap();
        let start = || {
            let mut command = house.command();
            command.env("TZ", zone);
            house.start_as(command)
        };
        let agent = start();
        house.wait_ready();
        wait_sent(&house, found);
        assert_eq!(house.metric("sendwarden_log_lines_lost_total"), 0.0, "older ones are not missed: {backfill}");
        agent.stop(Signal::TERM);
        // What comes while it is away, and then while it runs, is read, also where nothing was read before.
        journal.base = now;
        let next = journal.soon(1);
        journal.append(&journal.mail(next, next + 1));
        // A start that had forgotten the first one would begin behind it.
        wait(&house, "the clock to pass the message", || journal.soon(0) > next);
        let agent = start();
        wait_sent(&house, found + 1);
        house.wait_ready();
        journal.append(&journal.mail(next + 1, next + 3));
        wait_sent(&house, found + 3);
        agent.kill();
        journal.append(&journal.mail(next + 3, next + 5));
        let agent = start();
        wait_sent(&house, found + 5);
        house.wait_ready();
        assert_eq!(house.metric("sendwarden_log_lines_read_total"), (found + 5) as f64 * 5.0, "{backfill}");
        assert_eq!(house.metric("sendwarden_log_lines_lost_total"), 0.0, "{backfill}");
        assert_eq!(house.metric("sendwarden_log_source_restarts_total"), 0.0, "{backfill}");
        agent.stop(Signal::TERM);
    }
}

#[test]
fn odd_messages_are_one_line_each_and_half_an_entry_comes_again_as_a_whole() {
    let house = House::new("");
    let journal = Journal::new(&house);
    let mut odd = journal.mail(0, 3);
    odd.extend(journal.entry(3, 0, "smtp", b"A000000000: \xff\xfe\nA000000000: removed\x00"));
    odd.extend(journal.entry(3, 1, "smtp", &vec![b'x'; 300_000]));
    let liar = journal.entry(3, 2, "smtp", b"text");
    odd.extend(String::from_utf8(liar).unwrap().replace("postfix/smtp", "postfix/smtp[1]: 0A: removed").bytes());
    odd.extend(journal.mail(4, 6));
    journal.append(&odd);
    // The first journalctl is cut off in the middle of an entry.
    let bin = house.dir.join("bin");
    fs::create_dir(&bin).unwrap();
    let (real, flag) = ("/usr/bin/journalctl", house.dir.join("cut"));
    let script = format!(
        "#!/bin/sh\ncase \"$*\" in *--follow*) if [ ! -e {0} ]; then touch {0}; {real} \"$@\" | head -c 3210; exit 1; fi;; esac\n\
         exec {real} \"$@\"\n",
        flag.display()
    );
    fs::write(bin.join("journalctl"), script).unwrap();
    fs::set_permissions(bin.join("journalctl"), fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = house.command();
    command.env("PATH", format!("{}:/usr/bin:/bin", bin.display()));
    let agent = house.start_as(command);
    wait_sent(&house, 5);
    house.wait_ready();
    assert!(flag.exists() && house.printed().contains("journalctl ended"), "{}", house.printed());
    assert_eq!(house.metric("sendwarden_log_lines_read_total"), 28.0);
    assert_eq!(house.metric("sendwarden_log_lines_cut_total"), 1.0);
    assert_eq!(house.metric("sendwarden_log_lines_lost_total"), 0.0);
    agent.stop(Signal::TERM);
}

#[test]
fn killed_again_and_again_the_figures_are_those_of_one_read() {
    let house = House::new("");
    let journal = Journal::new(&house);
    journal.append(&journal.mail(0, 300));
    let mut kills = 0;
    for round in 0..12 {
        let agent = house.start();
        let before = house.stored().sent;
        wait(&house, "some progress", || house.stored().sent > before || house.stored().sent == 300 + round * 5);
        agent.kill();
        kills += 1;
        journal.append(&journal.mail(300 + round * 5, 305 + round * 5));
    }
    let agent = house.start();
    wait_sent(&house, 360);
    house.wait_ready();
    assert_eq!(house.metric("sendwarden_log_lines_read_total"), 1_800.0);
    agent.stop(Signal::TERM);
    let other = House::new("");
    other.configure_logs(&journal.source());
    let agent = other.start();
    wait_sent(&other, 360);
    agent.stop(Signal::TERM);
    assert_eq!(house.stored(), other.stored(), "after {kills} kills");
}

#[test]
fn identifiers_and_units_choose_and_check_says_what_there_is() {
    let house = House::new("");
    let journal = Journal::new(&house);
    journal.append(&journal.mail(0, 2));
    let check = || {
        let out = Command::new(env!("CARGO_BIN_EXE_sendwarden"))
            .args(["check", "--config"])
            .arg(&house.config)
            .output()
            .unwrap();
        String::from_utf8_lossy(&out.stdout).into_owned()
    };
    assert!(check().contains("entries of postfix/cleanup, postfix/pickup, postfix/qmgr, postfix/smtp"), "{}", check());
    house.configure_logs(&format!("{}    identifiers: [postfix/q*]\n", journal.source()));
    let agent = house.start();
    wait(&house, "four lines", || house.metric("sendwarden_log_lines_read_total") == 4.0);
    agent.stop(Signal::TERM);
    house.configure_logs(&format!("{}    identifiers: [nobody]\n", journal.source()));
    assert!(check().contains("no entries of nobody"), "{}", check());
    let unit = House::new("");
    unit.configure_logs(&format!("{}    units: [postfix.service]\n", journal.source()));
    let mut of_unit = String::from_utf8(journal.mail(7, 8)).unwrap();
    of_unit = of_unit.replace("_TRANSPORT=syslog\n", "_TRANSPORT=syslog\n_SYSTEMD_UNIT=postfix.service\n");
    journal.append(of_unit.as_bytes());
    let agent = unit.start();
    wait_sent(&unit, 1);
    agent.stop(Signal::TERM);
}

#[test]
fn a_journal_that_may_not_be_read_names_the_group_that_may() {
    let house = House::new("");
    let journal = Journal::new(&house);
    journal.append(&journal.mail(0, 2));
    open_to_all(&house.dir);
    fs::create_dir_all(&house.state).unwrap();
    std::os::unix::fs::chown(&house.state, Some(65_534), Some(65_534)).unwrap();
    // The files themselves, and a directory that may not be listed.
    for (dir, mode) in [(0o755, 0o640), (0o750, 0o644)] {
        for file in fs::read_dir(&journal.dir).unwrap().flatten() {
            fs::set_permissions(file.path(), fs::Permissions::from_mode(mode)).unwrap();
        }
        fs::set_permissions(&journal.dir, fs::Permissions::from_mode(dir)).unwrap();
        let mut command = house.command();
        std::os::unix::process::CommandExt::uid(&mut command, 65_534);
        std::os::unix::process::CommandExt::gid(&mut command, 65_534);
        let agent = house.start_as(command);
        wait(&house, "the reason", || {
            house.ready().is_some_and(|(status, text)| status == 503 && text.contains("group root may read it"))
        });
        agent.stop(Signal::TERM);
    }
}

fn open_to_all(dir: &Path) {
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(dir.join("journal"), fs::Permissions::from_mode(0o755)).unwrap();
}

/// Without a directory it is the journal of this host, whatever it holds.
#[test]
fn the_journal_of_this_host_can_be_asked() {
    let asked = sendwarden::host::journal::look(&sendwarden::host::journal::Settings::default());
    assert!(asked.is_ok(), "{asked:?}");
}
