//! The follower against small, named situations; the generated ones are in `tests/follower_model.rs`.

use super::*;
use std::io::Write;
use std::path::Path;

fn follower(dir: &Path) -> Follower {
    Follower::new(Settings { max_line: 10, read_chunk: 7, ..Settings::new(dir.join("mail.log")) }, None)
}

/// Reads all there is; and at which line each file was entered.
fn drain(f: &mut Follower) -> (Vec<String>, Vec<FollowEvent>) {
    let (mut lines, mut events) = (Vec::new(), Vec::new());
    while f.read(1000, &mut |l| lines.push(String::from_utf8_lossy(l).into_owned())).unwrap().more {
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
        let _ = f.read(1000, &mut |l| lines.push(l.to_vec()));
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
    assert!(events.iter().any(|e| matches!(e, FollowEvent::LinesLost { .. })), "{events:?}");
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
