//! The follower against small, named situations; the generated ones are in `tests/follower_model.rs`.
#![allow(clippy::disallowed_methods, reason = "a test makes a fifo")]

use super::*;
use std::io::Write;
use std::path::Path;

fn follower(dir: &Path) -> Follower {
    Follower::new(Settings { max_line: 10, read_chunk: 7, ..Settings::new(dir.join("mail.log")) }, None)
}

/// Reads all there is; and at which line each file was entered.
fn drain(f: &mut Follower) -> (Vec<String>, Vec<FollowEvent>) {
    let (mut lines, mut events) = (Vec::new(), Vec::new());
    while f
        .read(1000, &mut |group| lines.extend(group.iter().map(|l| String::from_utf8_lossy(l).into_owned())))
        .unwrap()
        .more
    {
        events.extend(f.take_events());
    }
    events.extend(f.take_events());
    (lines, events)
}

#[test]
fn a_file_is_entered_before_its_first_line_is_given_out() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("mail.log");
    fs::write(&log, "a\nb\n").unwrap();
    let mut f = follower(dir.path());
    let first = f.read(1000, &mut |_| panic!("a line before the event")).unwrap();
    assert!(first.more && first.lines == 0 && f.reference_time().is_some());
    assert_eq!(f.take_events(), [FollowEvent::Entered { path: log.clone(), offset: 0 }]);
    assert_eq!(drain(&mut f).0, ["a", "b"]);
    fs::rename(&log, dir.path().join("mail.log.1")).unwrap();
    fs::write(&log, "c\n").unwrap();
    let next = f.read(1000, &mut |_| panic!("a line before the event")).unwrap();
    assert!(next.more);
    assert_eq!(f.take_events(), [FollowEvent::Rotated, FollowEvent::Entered { path: log, offset: 0 }]);
    assert_eq!(drain(&mut f).0, ["c"]);
}

#[test]
fn long_lines_are_cut_once_whatever_the_chunks() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("mail.log"), format!("{}\nb\n{}\n0123456789\n", "a".repeat(40), "c".repeat(11))).unwrap();
    let mut f = follower(dir.path());
    let (lines, events) = drain(&mut f);
    assert_eq!(lines, ["a".repeat(10), "b".into(), "c".repeat(10), "0123456789".into()]);
    let cut = |e: &FollowEvent| if let FollowEvent::LineCut { count } = e { *count } else { 0 };
    assert_eq!(events.iter().map(cut).sum::<u64>(), 2);
}

#[test]
fn a_read_error_is_an_error_and_the_next_file_is_read_when_it_lasts() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("mail.log");
    // A regular file whose first page cannot be read.
    std::os::unix::fs::symlink("/proc/self/mem", &log).unwrap();
    let mut f = follower(dir.path());
    let mut failed = 0;
    for _ in 0..3 {
        failed += u32::from(f.read(1000, &mut |_| {}).is_err());
    }
    assert!(failed >= 1, "an error taken for the end of the file");
    fs::remove_file(&log).unwrap();
    fs::write(&log, "a\n").unwrap();
    let mut lines = Vec::new();
    for _ in 0..2 * PATIENCE {
        let _ = f.read(1000, &mut |group| lines.extend(group.iter().map(|l| l.to_vec())));
    }
    assert_eq!(lines, [b"a"]);
}

#[test]
fn a_damaged_gz_ends_where_it_breaks_and_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("mail.log");
    fs::write(&log, "a\n").unwrap();
    let mut f = follower(dir.path());
    drain(&mut f);
    let saved = f.position();
    fs::rename(&log, dir.path().join("mail.log.2")).unwrap();
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
    gz.write_all(b"b\nc\n").unwrap();
    let mut gz = gz.finish().unwrap();
    gz.truncate(gz.len() - 6);
    fs::write(dir.path().join("mail.log.1.gz"), gz).unwrap();
    fs::write(&log, "d\n").unwrap();
    let mut f = Follower::new(f.settings.clone(), Some(saved));
    let (lines, events) = drain(&mut f);
    assert_eq!(lines.last().unwrap(), "d");
    // The one that is damaged is named.
    let damaged = dir.path().join("mail.log.1.gz");
    let lost = |e: &FollowEvent| matches!(e, FollowEvent::LinesLost { path, .. } if *path == damaged);
    assert!(events.iter().any(lost), "{events:?}");
}

#[test]
fn what_is_known_to_be_lost_is_told_in_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("mail.log");
    fs::write(&log, "0123456\n0123456\n").unwrap();
    let mut f = follower(dir.path());
    f.read(1, &mut |_| {}).unwrap();
    f.read(1, &mut |_| {}).unwrap();
    let left = f.backlog_bytes();
    assert!(left > 0);
    fs::write(&log, "x\n").unwrap();
    let (lines, events) = drain(&mut f);
    assert_eq!(lines.last().unwrap(), "x");
    let lost = |e: &FollowEvent| matches!(e, FollowEvent::LinesLost { bytes, .. } if *bytes > 0 && *bytes <= left);
    assert!(events.iter().any(lost), "{events:?}");
}

fn gz(text: &str) -> Vec<u8> {
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(text.as_bytes()).unwrap();
    gz.finish().unwrap()
}

/// A first start that reads all there is.
fn from_the_oldest(dir: &Path) -> Follower {
    Follower::new(Settings { past_since: Time(i64::MIN), ..Settings::new(dir.join("mail.log")) }, None)
}

#[test]
fn content_says_what_is_the_same_and_names_do_not() {
    let dir = tempfile::tempdir().unwrap();
    let put = |name: &str, bytes: &[u8]| fs::write(dir.path().join(name), bytes).unwrap();
    // Left behind under the number that another file has now.
    put("mail.log.2.gz", &gz("a\n"));
    put("mail.log.2", b"b\n");
    put("mail.log.1", b"c\n");
    // A copy under a name of its own, and one of the log as it is.
    put("mail.log.4", b"b\n");
    put("mail.log.3.gz", &gz("d\n"));
    put("mail.log.5.gz", &gz("d\n"));
    put("mail.log", b"d\ne\n");
    let (lines, events) = drain(&mut from_the_oldest(dir.path()));
    assert_eq!(lines, ["b", "a", "c", "d", "e"]);
    let finished = |name: &str| events.contains(&FollowEvent::Finished { path: dir.path().join(name) });
    assert!(finished("mail.log.1") && !events.contains(&FollowEvent::Rotated), "nothing was rotated: {events:?}");
    // A plain copy of all of it.
    put("mail.log.6", b"d\ne\n");
    assert_eq!(drain(&mut from_the_oldest(dir.path())).0, ["b", "a", "c", "d", "e"]);
    assert!(!events.iter().any(|e| matches!(e, FollowEvent::LinesLost { .. })), "{events:?}");
}

const MIB: u64 = 1024 * 1024;

/// A gzip file of so many times 16 MiB of zeros, and some text behind them.
fn bomb(times: usize, text: &str) -> Vec<u8> {
    let zeros = gz(&"\0".repeat(16 << 20));
    [zeros.repeat(times), gz(text)].concat()
}

#[test]
fn what_unpacks_to_more_than_any_log_is_not_unpacked_for_an_answer() {
    let dir = tempfile::tempdir().unwrap();
    let put = |name: &str, bytes: &[u8], at: i64| {
        fs::write(dir.path().join(name), bytes).unwrap();
        let file = fs::File::options().append(true).open(dir.path().join(name)).unwrap();
        file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(at as u64)).unwrap();
    };
    // A gigabyte each, which nothing but their ends tells apart; and a copy.
    for n in 2..=6 {
        put(&format!("mail.log.{n}.gz"), &bomb(64, &"x\n".repeat(n)), 100);
    }
    put("mail.log.1.gz", &bomb(64, &"x\n".repeat(3)), 300);
    put("mail.log", b"live\n", 400);
    let since = |secs: i64, stop: &Stop| {
        let settings = Settings {
            past_since: Time::from_secs(secs),
            stop: stop.clone(),
            ..Settings::new(dir.path().join("mail.log"))
        };
        Follower::new(settings, None)
    };
    // The copy adds nothing, as the bytes on the disk say: the log itself is next.
    let mut f = since(200, &Stop::default());
    assert_eq!(drain(&mut f).0, ["live"]);
    let cost = f.prints.comparing.bytes;
    assert!(cost < 300 * MIB, "{} MiB", cost / MIB);
    // Not decided, it is read, but was not unpacked before that, and nothing is unpacked twice.
    put("mail.log.1.gz", &bomb(64, "y\n"), 300);
    let mut f = since(200, &Stop::default());
    f.read(1, &mut |_| {}).unwrap();
    let cost = f.prints.comparing.bytes;
    assert!(cost > 100 * MIB && cost < 1500 * MIB, "{} MiB", cost / MIB);
    assert_eq!(f.reading(), Some(dir.path().join("mail.log.1.gz").as_path()));
    // Told to end, it neither goes on unpacking nor decides.
    let stop = Stop::default();
    stop.set();
    let mut f = since(0, &stop);
    assert!(!f.read(1, &mut |_| {}).unwrap().open && f.prints.comparing.bytes < MIB);
}

#[test]
fn the_way_to_a_place_in_a_packed_file_is_given_up_at_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("mail.log");
    fs::write(&log, "0123456789\n".repeat(100_000)).unwrap();
    let mut f = from_the_oldest(dir.path());
    while f.position().offset < 600_000 {
        f.read(1, &mut |_| {}).unwrap();
    }
    let (saved, text) = (f.position(), fs::read_to_string(&log).unwrap());
    drop(f);
    fs::write(dir.path().join("mail.log.1.gz"), gz(&text)).unwrap();
    fs::remove_file(&log).unwrap();
    fs::write(&log, "live\n").unwrap();
    let stop = Stop::default();
    stop.set();
    let settings = Settings { stop, ..Settings::new(&log) };
    let mut stopped = Follower::new(settings.clone(), Some(saved));
    assert!(!stopped.read(1, &mut |_| {}).unwrap().open && stopped.position() == saved);
    assert_eq!(stopped.take_events(), []);
    let mut f = Follower::new(Settings { stop: Stop::default(), ..settings }, Some(saved));
    let (lines, events) = drain(&mut f);
    assert_eq!((lines.len() as u64, lines.last().unwrap().as_str()), (100_001 - saved.offset / 11, "live"));
    assert!(!events.iter().any(|e| matches!(e, FollowEvent::LinesLost { .. })), "{events:?}");
}

#[test]
fn thousands_of_files_that_begin_alike_cost_little() {
    let dir = tempfile::tempdir().unwrap();
    // As `copytruncate` leaves them behind a writer that does not append: a hole first.
    for n in 1..=5_000 {
        fs::write(dir.path().join(format!("mail.log.{n}")), format!("{}line {n:04}\n", "\0".repeat(1_500))).unwrap();
    }
    fs::write(dir.path().join("mail.log"), "live\n").unwrap();
    let mut f = from_the_oldest(dir.path());
    f.read(1, &mut |_| {}).unwrap();
    let cost = f.prints.comparing.bytes;
    assert!(cost < 64 * MIB, "{} MiB", cost / MIB);
    assert_eq!(f.waiting().files, 4_096);
    let events = f.take_events();
    let lost = events.iter().filter(|e| matches!(e, FollowEvent::LinesLost { .. })).count();
    assert_eq!(lost, 1, "904 files are not read and nobody knows: {events:?}");
}

#[test]
fn trouble_ends_when_its_cause_does() {
    let dir = tempfile::tempdir().unwrap();
    let (log, away) = (dir.path().join("mail.log"), dir.path().join("away"));
    fs::write(&log, "a\n").unwrap();
    let mut f = follower(dir.path());
    drain(&mut f);
    fs::rename(&log, &away).unwrap();
    assert_eq!(drain(&mut f).1, [FollowEvent::Disappeared]);
    fs::rename(&away, &log).unwrap();
    assert_eq!(drain(&mut f).1, [FollowEvent::Recovered]);
    assert_eq!(drain(&mut f).1, []);
}

#[test]
fn more_files_than_are_held_are_read_in_order_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    for n in 1..=200 {
        fs::write(dir.path().join(format!("mail.log.{n}")), format!("line {:03}\n", 200 - n)).unwrap();
    }
    fs::write(dir.path().join("mail.log"), "live\n").unwrap();
    let mut f = from_the_oldest(dir.path());
    f.read(1000, &mut |_| {}).unwrap();
    let Waiting { files, bytes } = f.waiting();
    assert_eq!((files, bytes, f.backlog_bytes()), (200, 199 * 9 + 5, 199 * 9 + 5 + 9));
    let open = fs::read_dir("/proc/self/fd").unwrap().count();
    assert!(open < 150, "{open} descriptors");
    let (lines, _) = drain(&mut f);
    assert!(lines.len() == 201 && lines[..200].is_sorted(), "{} lines", lines.len());
    assert_eq!((f.waiting(), f.backlog_bytes()), (Waiting::default(), 0));
}

#[test]
fn what_is_no_file_in_the_place_of_the_log_is_waited_out() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("mail.log");
    let fifo = || assert!(std::process::Command::new("mkfifo").arg(&log).status().unwrap().success());
    let symlink = |to: &str| std::os::unix::fs::symlink(to, &log).unwrap();
    let strange: [&dyn Fn(); 5] =
        [&|| fs::create_dir(&log).unwrap(), &fifo, &|| symlink("/dev/zero"), &|| symlink("nowhere"), &|| {
            symlink("mail.log")
        }];
    fs::write(&log, "0\n").unwrap();
    let mut f = follower(dir.path());
    assert_eq!(drain(&mut f).0, ["0"]);
    for (n, put) in strange.iter().enumerate() {
        fs::rename(&log, dir.path().join(format!("mail.log-2026010{}", n + 1))).unwrap();
        put();
        let (lines, events) = drain(&mut f);
        assert!(lines.is_empty() && events.len() == 1, "{n}: {lines:?} {events:?}");
        assert_eq!(drain(&mut f).1, [], "{n}: told twice");
        fs::remove_file(&log).or_else(|_| fs::remove_dir(&log)).unwrap();
        fs::write(&log, format!("{}\n", n + 1)).unwrap();
        assert_eq!(drain(&mut f).0, [(n + 1).to_string()]);
    }
}
