//! The built binary through its life: starts, stops, reloads, trouble with logs and with the store, hostile bytes.
//!
//! Each test has a state directory, a log and a socket of its own. Needs root: one fills a disk of its own, one runs
//! the agent as an ordinary user.
#![allow(clippy::disallowed_methods, reason = "tests start processes and poll the real clock")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

mod corpus;
mod crash_support;

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::SystemTime;

use crash_support::{House, exchange, post, wait};
use jiff::Timestamp;
use rusqlite::Connection;
use rustix::process::Signal;

/// The name an account has when the host knows no user of that uid.
const UID: u32 = 54_001;

/// The lines of delivered messages `from..to`, one recipient each, an hour ago or `shift` seconds from that.
fn mail(from: u64, to: u64, shift: i64) -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() as i64 - 3_600 + shift;
    let mut out = String::new();
    for n in from..to {
        let at = Timestamp::from_second(now).unwrap();
        let id = format!("{:010X}", 0xA0_0000_0000 + n * 16);
        for line in [
            format!("pickup[11]: {id}: uid={UID} from=<x>"),
            format!("cleanup[12]: {id}: message-id=<{id}@mx.test>"),
            format!("qmgr[13]: {id}: from=<x@mx.test>, size=400, nrcpt=1 (queue active)"),
            format!(
                "smtp[14]: {id}: to=<a{n}@example.test>, relay=mx.example.test[192.0.2.1]:25, delay=1, \
                 delays=0/0/0.5/0.5, dsn=2.0.0, status=sent (250 2.0.0 Ok)"
            ),
            format!("qmgr[13]: {id}: removed"),
        ] {
            out.push_str(&format!("{at} mx postfix/{line}\n"));
        }
    }
    out
}

/// Waits until the store has exactly `n` sent messages; more is as wrong as fewer.
fn wait_sent(house: &House, n: u64) {
    wait(house, &format!("{n} messages in the store"), || house.stored().sent >= n);
    let figures = house.stored();
    assert_eq!((figures.messages, figures.sent, figures.queued), (n, n, 0), "{figures:?}");
}

fn wait_published(house: &House, n: u64) {
    wait(house, &format!("{n} messages in /metrics"), || {
        house.metric("sendwarden_messages_accepted_total") >= n as f64
    });
}

#[test]
fn a_second_instance_is_refused_and_told_the_pid() {
    let house = House::new("");
    let running = house.start();
    let out = house.refused(&[]);
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(1), "{said}");
    assert!(said.contains(&format!("process {}", running.child.id())), "{said}");
    assert!(house.get("/-/healthy").is_some(), "the first one still answers on its socket");
}

#[test]
fn term_and_int_stop_with_everything_committed_and_figures_go_on() {
    let house = House::new("");
    let mut before: BTreeMap<String, f64> = BTreeMap::new();
    for (round, signal) in [(1, Signal::TERM), (2, Signal::INT), (3, Signal::TERM), (4, Signal::INT)] {
        house.append(mail(round * 100, round * 100 + 100, 0));
        let running = house.start();
        wait_published(&house, round * 100);
        let now: BTreeMap<String, f64> = house.metrics();
        for (name, was) in before.iter().filter(|(n, _)| n.contains("_total") && !n.starts_with("process_")) {
            assert!(now.get(name).is_some_and(|is| is >= was), "{name}: {was}, then {:?}", now.get(name));
        }
        before = now;
        running.stop(signal);
        assert_eq!(house.stored().sent, round * 100);
    }
    let account = house.books().accounts.into_keys().collect::<Vec<_>>();
    assert_eq!(account, [format!("uid{UID}")]);
}

#[test]
fn a_bad_configuration_is_refused_and_the_old_one_stays() {
    let house = House::new("");
    house.append(mail(0, 10, 0));
    let token = house.dir.join("token");
    fs::write(&token, "0123456789abcdef0123456789abcdef\n").unwrap();
    let with_token = format!("operator_token_file: {}\n", token.display());
    house.configure(&with_token);
    let running = house.start();
    let taken = |want: f64| {
        wait(&house, "the reload", || house.metric("sendwarden_config_last_reload_successful") == want);
    };
    taken(1.0);
    house.configure(&format!("{with_token}metrics:\n  max_acounts: 5\n"));
    running.signal(Signal::HUP);
    taken(0.0);
    assert!(house.printed().contains("max_acounts"), "{}", house.printed());
    house.append(mail(10, 20, 0));
    wait_sent(&house, 20);
    let (status, body) = house.post("/-/reload").unwrap();
    assert!(status == 422 && body.contains("max_acounts"), "{status} {body}");
    house.configure(&format!("{with_token}metrics:\n  max_accounts: 5\n"));
    running.signal(Signal::HUP);
    taken(1.0);
    assert_eq!(house.post("/-/reload").unwrap().0, 200);

    let printed = house.printed();
    let address = printed.split("http://").nth(1).and_then(|rest| rest.split('/').next()).unwrap();
    let over_tcp = |header: &str| exchange(TcpStream::connect(address).unwrap(), &post("/-/reload", header)).unwrap().0;
    assert_eq!(over_tcp(""), 401);
    assert_eq!(over_tcp("Authorization: Bearer 0123456789abcdef0123456789abcdeX\r\n"), 401);
    assert_eq!(over_tcp("Authorization: Bearer 0123456789abcdef0123456789abcdef\r\n"), 200);
}

#[test]
fn a_changed_accounts_file_is_taken_up_and_a_broken_one_is_not() {
    let house = House::new("");
    let (first, second) = (house.dir.join("a.csv"), house.dir.join("b.csv"));
    fs::write(&first, "id,uids\nshop,1999\n").unwrap();
    house.configure(&format!("accounts_file: {}\n", first.display()));
    house.append(mail(0, 3, 0));
    let running = house.start();
    wait_sent(&house, 3);
    let sent = |account: &str| house.books().accounts.get(account).map_or(0, |f| f.sent);
    fs::write(&first, format!("id,uids\nshop,{UID}\n")).unwrap();
    wait(&house, "the new accounts", || house.printed().contains("are in force"));
    house.append(mail(3, 5, 0));
    wait_sent(&house, 5);
    assert_eq!((sent(&format!("uid{UID}")), sent("shop")), (3, 2));
    fs::write(&first, format!("id,uids\nshop,{UID}\nother-shop,{UID}\n")).unwrap();
    wait(&house, "the refusal", || house.metric("sendwarden_config_last_reload_successful") == 0.0);
    house.append(mail(5, 6, 0));
    wait_sent(&house, 6);
    assert_eq!(sent("shop"), 3);
    // A reload may name another file; from then on that one is looked at.
    fs::write(&second, "id,uids\nshop,1999\n").unwrap();
    house.configure(&format!("accounts_file: {}\n", second.display()));
    running.signal(Signal::HUP);
    wait(&house, "the reload", || house.metric("sendwarden_config_last_reload_successful") == 1.0);
    let reloads = || house.printed().matches("are in force").count();
    let before = reloads();
    fs::write(&second, format!("id,uids\ncafe,{UID}\n")).unwrap();
    wait(&house, "the second file's change", || reloads() > before);
    house.append(mail(6, 7, 0));
    wait_sent(&house, 7);
    assert_eq!(sent("cafe"), 1);
}

#[test]
fn a_missing_log_is_waited_for() {
    let house = House::new("");
    let running = house.start();
    wait(&house, "a word about the log", || house.ready().is_some_and(|(s, b)| s == 503 && b.contains("mail.log")));
    house.append(mail(0, 5, 0));
    wait_sent(&house, 5);
    house.wait_ready();
    running.stop(Signal::TERM);
}

#[test]
fn a_log_that_becomes_a_directory_and_a_file_again() {
    let house = House::new("");
    house.append(mail(0, 5, 0));
    let _running = house.start();
    wait_sent(&house, 5);
    fs::rename(&house.log, house.dir.join("mail.log.1")).unwrap();
    fs::create_dir(&house.log).unwrap();
    wait(&house, "a word about the directory", || house.printed().contains("is a directory"));
    fs::remove_dir(&house.log).unwrap();
    house.append(mail(5, 9, 0));
    wait_sent(&house, 9);
    house.wait_ready();
}

#[test]
fn an_unreadable_log_names_the_group_that_may() {
    let house = House::new("");
    house.append(mail(0, 5, 0));
    for dir in [&house.dir, &house.state] {
        fs::create_dir_all(dir).unwrap();
        fs::set_permissions(dir, fs::Permissions::from_mode(0o777)).unwrap();
    }
    fs::set_permissions(&house.config, fs::Permissions::from_mode(0o644)).unwrap();
    fs::set_permissions(&house.log, fs::Permissions::from_mode(0o640)).unwrap();
    let adm = Command::new("chgrp").arg("adm").arg(&house.log).status().unwrap();
    assert!(adm.success());
    // The binary itself may lie where only root can go.
    let binary = house.dir.join("sendwarden");
    fs::copy(env!("CARGO_BIN_EXE_sendwarden"), &binary).unwrap();
    let mut command = Command::new("setpriv");
    command.args(["--reuid=54002", "--regid=54002", "--clear-groups"]).arg(&binary).arg("run").arg("--config");
    command.arg(&house.config);
    let _running = house.spawn_as(command);
    wait(&house, "a word about the group", || house.printed().contains("adm"));
    wait(&house, "not ready", || house.ready().is_some_and(|(status, _)| status == 503));
    fs::set_permissions(&house.log, fs::Permissions::from_mode(0o644)).unwrap();
    wait(&house, "5 messages", || house.metric("sendwarden_messages_accepted_total") == 5.0);
    let printed = house.printed();
    let told = printed.lines().filter(|line| line.contains("WARN") && line.contains("mail.log")).count();
    assert_eq!(told, 1, "one trouble is one warning:\n{printed}");
}

#[test]
fn a_damaged_store_is_refused_kept_and_moved_aside_on_demand() {
    let house = House::new("");
    house.append(mail(0, 500, 0));
    let running = house.start();
    wait_sent(&house, 500);
    running.stop(Signal::TERM);
    let path = house.state.join("sendwarden.db");
    let good = fs::read(&path).unwrap();
    let mut holes = good.clone();
    for byte in holes.iter_mut().skip(4_096).take(40_000) {
        *byte = 0x5a;
    }
    let cut = &good[..good.len() / 2];
    let garbage: Vec<u8> = (0..50_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    for bytes in [cut, holes.as_slice(), garbage.as_slice(), b"", &good[..70]] {
        fs::write(&path, bytes).unwrap();
        let out = house.refused(&[]);
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(1), "{said}");
        assert!(said.contains("sendwarden.db") && said.contains("--new-store"), "{said}");
        assert_eq!(fs::read(&path).unwrap(), bytes, "a refused store stays as it is");
    }
    fs::write(&path, &garbage).unwrap();
    let mut command = house.command();
    command.arg("--new-store");
    let running = house.spawn_as(command);
    wait(&house, "everything to be read again", || house.stored().sent == 500);
    running.stop(Signal::TERM);
    let kept = fs::read_dir(&house.state).unwrap().flatten().find(|e| {
        e.file_name().to_string_lossy().starts_with("sendwarden.db.aside") && e.metadata().unwrap().len() == 50_000
    });
    assert_eq!(fs::read(kept.expect("moved aside").path()).unwrap(), garbage);
    // A log without its store would be played into a new one.
    fs::remove_file(&path).unwrap();
    fs::write(house.state.join("sendwarden.db-wal"), "left behind").unwrap();
    let out = house.refused(&[]);
    assert_eq!(out.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&out.stderr).contains("write-ahead log"));
}

/// A small file system of its own, gone with the value.
struct Disk<'a>(&'a Path);

impl Disk<'_> {
    fn mount(path: &Path) -> Disk<'_> {
        let done = Command::new("mount").args(["-t", "tmpfs", "-o", "size=3m", "tmpfs"]).arg(path).status().unwrap();
        assert!(done.success(), "mounting a small tmpfs needs root and CAP_SYS_ADMIN");
        Disk(path)
    }
}

impl Drop for Disk<'_> {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("--lazy").arg(self.0).status());
    }
}

/// What must hold while the store cannot be written, and after it can again: `fix` ends the trouble.
fn pauses_and_goes_on(house: &House, words: &str, already: u64, fix: impl FnOnce()) {
    wait_published(house, already);
    let (shown, read) =
        (house.metric("sendwarden_messages_accepted_total"), house.metric("sendwarden_log_lines_read_total"));
    house.append(mail(already, already + 3_000, 0));
    wait(house, "not ready", || house.ready().is_some_and(|(s, body)| s == 503 && body.contains(words)));
    assert_eq!(house.metric("sendwarden_store_up"), 0.0);
    house.append(mail(already + 3_000, already + 4_000, 0));
    let failures = || house.metric("sendwarden_store_commit_failures_total");
    let once = failures();
    wait(house, "the commit to be tried again", || failures() > once);
    assert_eq!(house.metric("sendwarden_messages_accepted_total"), shown, "published before it was in the store");
    assert_eq!(house.metric("sendwarden_log_lines_read_total"), read);
    assert_eq!(house.get("/-/healthy").unwrap().0, 200, "trouble with the disk is not cured by a restart");
    fix();
    wait_sent(house, already + 4_000);
    wait_published(house, already + 4_000);
    assert_eq!(house.metric("sendwarden_messages_accepted_total"), (already + 4_000) as f64);
    assert_eq!(house.metric("sendwarden_store_up"), 1.0);
    house.wait_ready();
}

#[test]
fn a_full_disk_pauses_reading_and_every_line_counts_once() {
    let place = tempfile::tempdir().unwrap();
    let _disk = Disk::mount(place.path());
    let house = House::with_state(&place.path().join("state"), "");
    house.append(mail(0, 20, 0));
    let running = house.start();
    wait_sent(&house, 20);
    let filler = place.path().join("filler");
    let full = Command::new("dd").args(["if=/dev/zero", "bs=4k"]).arg(format!("of={}", filler.display())).output();
    assert!(!full.unwrap().status.success(), "the disk is full");
    pauses_and_goes_on(&house, "full", 20, || fs::remove_file(&filler).unwrap());
    running.stop(Signal::TERM);
    assert_eq!(house.stored().sent, 4_020);
}

#[test]
fn a_stop_while_the_disk_is_full_says_so_and_loses_nothing() {
    let place = tempfile::tempdir().unwrap();
    let _disk = Disk::mount(place.path());
    let house = House::with_state(&place.path().join("state"), "");
    house.append(mail(0, 20, 0));
    let mut running = house.start();
    wait_sent(&house, 20);
    let filler = place.path().join("filler");
    drop(Command::new("dd").args(["if=/dev/zero", "bs=4k"]).arg(format!("of={}", filler.display())).output());
    house.append(mail(20, 3_000, 0));
    wait(&house, "not ready", || house.ready().is_some_and(|(s, body)| s == 503 && body.contains("full")));
    running.signal(Signal::TERM);
    assert_eq!(running.wait(), 1);
    assert!(house.printed().contains("the next start reads the logs again"), "{}", house.printed());
    fs::remove_file(&filler).unwrap();
    let running = house.start();
    wait_sent(&house, 3_000);
    running.stop(Signal::TERM);
}

#[test]
fn a_store_locked_by_another_program_pauses_reading() {
    let house = House::new("");
    house.append(mail(0, 20, 0));
    let running = house.start();
    wait_sent(&house, 20);
    wait_published(&house, 20);
    let other = Connection::open(house.state.join("sendwarden.db")).unwrap();
    other.execute_batch("PRAGMA journal_mode; BEGIN EXCLUSIVE").unwrap();
    pauses_and_goes_on(&house, "lock", 20, || other.execute_batch("ROLLBACK").unwrap());
    running.stop(Signal::TERM);
}

#[test]
fn hostile_bytes_long_lines_and_half_a_line_before_a_kill() {
    let house = House::new("");
    let mut rng = fastrand::Rng::with_seed(5);
    let mut bytes = mail(0, 5, 0).into_bytes();
    bytes.extend((0..200_000).map(|_| rng.u8(..)));
    bytes.extend(b"\n\0\0\0\n\xff\xfe\xc3(\n");
    bytes.extend(mail(5, 10, 0).replace("a7@", "a\u{0}\u{7f}\u{202e}7@").into_bytes());
    bytes.extend(std::iter::repeat_n(b'x', 10_000_000));
    bytes.extend(b"\n");
    let last = mail(10, 11, 0);
    let (half, rest) = last.split_at(last.len() / 2);
    bytes.extend(half.as_bytes());
    house.append(&bytes);
    let running = house.start();
    wait(&house, "ten messages", || house.stored().sent == 10);
    running.kill();
    house.append(rest);
    house.append(mail(11, 15, 0));
    let running = house.start();
    wait_sent(&house, 15);
    assert!(house.metric("sendwarden_log_lines_cut_total") >= 1.0);
    running.stop(Signal::TERM);
}

#[test]
fn a_log_whose_clock_jumps_counts_everything() {
    let house = House::new("");
    let running = house.start();
    let mut n = 0;
    for shift in [0, -86_400, 1_800, -7, -40 * 86_400, 0, 3_000] {
        house.append(mail(n, n + 50, shift));
        n += 50;
        wait_sent(&house, n);
    }
    running.stop(Signal::TERM);
}

#[test]
fn mail_submitted_before_a_kill_and_queued_after_it_keeps_its_users_name() {
    let passwd = fs::read_to_string("/etc/passwd").unwrap();
    let user = |line: &str| {
        let mut fields = line.split(':');
        Some((
            fields.next()?.to_owned(),
            fields.nth(1)?.parse::<u32>().ok().filter(|uid| (1_000..60_000).contains(uid))?,
        ))
    };
    let (login, uid) = passwd.lines().find_map(user).expect("this host has an ordinary user: tests/rig/install");
    let house = House::new("");
    let mail = |from: u64, to: u64| mail(from, to, 0).replace(&format!("uid={UID} "), &format!("uid={uid} "));
    let text = mail(0, 1);
    let (submitted, rest) = text.split_at(text.find('\n').unwrap() + 1);
    house.append(submitted);
    let running = house.start();
    wait(&house, "the first line in the store", || house.metric("sendwarden_log_lines_read_total") == 1.0);
    running.kill();
    house.append(rest);
    let running = house.start();
    wait_sent(&house, 1);
    house.append(mail(1, 3));
    wait_sent(&house, 3);
    running.stop(Signal::TERM);
    let books = house.books();
    assert_eq!(books.accounts.keys().collect::<Vec<_>>(), [&login]);
    assert_eq!(books.accounts[&login].sent, 3);
}
