//! The store's file: what is refused, what is kept as it is, and who may read beside whom.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failing test may stop anywhere")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use sendwarden::mail::{Counts, Time};
use sendwarden::store::{Batch, CommitError, Durability, FILE_NAME, OpenError, Row, Settings, Store, ViewError, Views};

fn batch(rows: usize) -> Batch {
    let mut batch = Batch::default();
    batch.rows.extend((0..rows).map(|n| Row {
        kind: 3,
        key: format!("key{n}").into_bytes(),
        value: Some(vec![b'v'; 100]),
    }));
    batch.positions.push(("mail.log".into(), b"here".to_vec()));
    batch.totals.push((2, Counts { recipients: 1, queued: 1, ..Counts::default() }));
    batch
}

fn filled(dir: &Path) -> Vec<u8> {
    let mut store = Store::open(dir, Settings::default()).unwrap();
    store.commit(&batch(2_000), Durability::Normal).unwrap();
    drop(store);
    fs::read(dir.join(FILE_NAME)).unwrap()
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn refused_as_corrupt(dir: &Path, data: &[u8]) {
    fs::write(dir.join(FILE_NAME), data).unwrap();
    let error = Store::open(dir, Settings::default()).unwrap_err();
    assert!(matches!(error, OpenError::Corrupt { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains(FILE_NAME) && text.contains("run --new-store"), "{text}");
    assert!(fs::read(dir.join(FILE_NAME)).unwrap() == data, "a damaged store is kept as it is");
}

#[test]
fn damaged_truncated_empty_and_foreign_files_are_refused_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let good = filled(dir.path());
    assert!(good.len() > 100_000);
    let mut overwritten = good.clone();
    for byte in &mut overwritten[8_192..40_000] {
        *byte = 0xA5;
    }
    refused_as_corrupt(dir.path(), &overwritten);
    refused_as_corrupt(dir.path(), &good[..good.len() / 2]);
    refused_as_corrupt(dir.path(), &good[..4_096]);
    refused_as_corrupt(dir.path(), &good[..50]);
    refused_as_corrupt(dir.path(), b"");
    refused_as_corrupt(dir.path(), &[b'x'; 10_000]);

    let kept = Store::move_aside(dir.path(), Time::from_secs(1_700_000_000)).unwrap();
    assert_eq!(fs::read(&kept).unwrap(), [b'x'; 10_000]);
    let store = Store::open(dir.path(), Settings::default()).unwrap();
    assert_eq!(store.load().unwrap().next_owner, 16);
    drop(store);
    let second = Store::move_aside(dir.path(), Time::from_secs(1_700_000_000)).unwrap();
    assert_ne!(kept, second, "what was moved aside is never overwritten");
    assert!(matches!(Store::move_aside(dir.path(), Time::ZERO), Err(OpenError::Io { .. })));
    assert_eq!(names(dir.path()).len(), 2);
}

#[test]
fn a_newer_format_is_refused_with_both_versions() {
    let dir = tempfile::tempdir().unwrap();
    let mut data = filled(dir.path());
    // user_version: four bytes, big endian, at 60 (https://www.sqlite.org/fileformat2.html#user_version_number).
    data[60..64].copy_from_slice(&99u32.to_be_bytes());
    fs::write(dir.path().join(FILE_NAME), &data).unwrap();
    let error = Store::open(dir.path(), Settings::default()).unwrap_err();
    assert!(matches!(error, OpenError::Newer { found: 99, .. }), "{error:?}");
    assert!(error.to_string().contains("version 99"));
    assert!(matches!(Views::open(dir.path()), Err(ViewError::Version { found: 99, .. })));
}

#[test]
fn another_writer_means_locked_and_the_batch_goes_in_when_it_lets_go() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings { busy_timeout: Duration::from_millis(20), ..Settings::default() };
    let mut store = Store::open(dir.path(), settings).unwrap();
    let other = rusqlite::Connection::open(dir.path().join(FILE_NAME)).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let batch = batch(10);
    let error = store.commit(&batch, Durability::Full).unwrap_err();
    assert!(matches!(error, CommitError::Locked { .. }), "{error:?}");
    assert!(store.load().unwrap().rows.is_empty());
    other.execute_batch("ROLLBACK").unwrap();
    store.commit(&batch, Durability::Full).unwrap();
    assert_eq!(store.load().unwrap().rows.len(), 10);
}

#[test]
fn a_killed_agent_loses_no_commit() {
    let dir = tempfile::tempdir().unwrap();
    let copy = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path(), Settings::default()).unwrap();
    store.commit(&batch(500), Durability::Normal).unwrap();
    // What a killed process leaves behind is what lies on the disk now: the log was never folded in.
    for name in names(dir.path()) {
        fs::copy(dir.path().join(&name), copy.path().join(&name)).unwrap();
    }
    assert_eq!(Store::open(copy.path(), Settings::default()).unwrap().load().unwrap(), store.load().unwrap());
    assert_eq!(store.load().unwrap().rows.len(), 500);
}

#[test]
fn views_read_beside_the_agent_and_without_it_and_create_no_file() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(Views::open(dir.path()), Err(ViewError::Missing { .. })));
    assert!(names(dir.path()).is_empty());
    filled(dir.path());
    assert_eq!(names(dir.path()), [FILE_NAME]);

    let alone = Views::open(dir.path()).unwrap();
    assert_eq!(alone.rows(3).unwrap().len(), 2_000);
    assert_eq!(alone.positions().unwrap(), [("mail.log".to_owned(), b"here".to_vec())]);
    assert_eq!(names(dir.path()), [FILE_NAME], "reading created a file");

    // An agent starts: the same window sees what it writes.
    let mut store = Store::open(dir.path(), Settings::default()).unwrap();
    let mut change = Batch::default();
    change.rows.push(Row { kind: 3, key: b"key0".to_vec(), value: None });
    store.commit(&change, Durability::Normal).unwrap();
    assert_eq!(alone.rows(3).unwrap().len(), 1_999);
    let beside = Views::open(dir.path()).unwrap();
    store.commit(&batch(2_100), Durability::Normal).unwrap();
    assert_eq!((beside.rows(3).unwrap().len(), alone.rows(3).unwrap().len()), (2_100, 2_100));
    assert_eq!(beside.totals(2).unwrap().map(|counts| counts.queued), Some(1));
    assert_eq!(beside.totals(3).unwrap(), None);
}

#[test]
fn a_directory_that_cannot_be_written_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing");
    let error = Store::open(&missing, Settings::default()).unwrap_err();
    assert!(matches!(error, OpenError::Io { .. }) && error.to_string().contains("missing"), "{error}");

    let closed = dir.path().join("closed");
    fs::create_dir(&closed).unwrap();
    filled(&closed);
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o555)).unwrap();
    fs::set_permissions(closed.join(FILE_NAME), fs::Permissions::from_mode(0o440)).unwrap();
    // Reading needs no right to write; as root modes do not bind, and then the store opens for writing as well.
    assert_eq!(Views::open(&closed).unwrap().rows(3).unwrap().len(), 2_000);
    assert_eq!(names(&closed), [FILE_NAME]);
    let may_write_anyway = fs::File::create(closed.join("probe")).is_ok();
    assert_eq!(Store::open(&closed, Settings::default()).is_ok(), may_write_anyway);
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Commit frames in the write-ahead log: those whose header names the size of the database after the commit
/// (sqlite.org/fileformat2.html, section 4.1).
fn commits_in_wal(dir: &std::path::Path) -> usize {
    let wal = std::fs::read(dir.join("sendwarden.db-wal")).unwrap();
    let page = u32::from_be_bytes(wal[8..12].try_into().unwrap()) as usize;
    let frames = wal[32..].chunks_exact(24 + page);
    frames.filter(|frame| frame[4..8] != [0, 0, 0, 0]).count()
}

#[test]
fn a_batch_is_one_transaction_positions_included() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path(), Settings::default()).unwrap();
    let mut batch = Batch::default();
    batch.positions.push(("/var/log/mail.log".into(), vec![1]));
    batch.totals.push((16, sendwarden::mail::Counts { messages: 1, ..Default::default() }));
    store.commit(&batch, Durability::Normal).unwrap();
    let before = commits_in_wal(dir.path());
    assert!(before > 0, "the write-ahead log shows commits");
    batch.positions[0].1 = vec![2];
    store.commit(&batch, Durability::Normal).unwrap();
    assert_eq!(commits_in_wal(dir.path()) - before, 1, "facts and positions go in together or not at all");
}
