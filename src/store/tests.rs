//! What needs the inside of the store: faults in the middle of a commit, the bytes on the disk.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::*;
use crate::mail::{
    Basis, Counts, Dsn, ErrorFact, LegFact, Origin, Outcome, Owner, QueueId, RecipientState, RecipientTrace,
    ReplyClass, Time, TraceTexts,
};

pub(super) fn leg<'a>(id: &str, owner: u32, secs: i64, recipients: &'a [RecipientTrace]) -> LegFact<'a> {
    LegFact {
        host: b"mx1",
        instance: b"mx",
        id: QueueId::new(id.as_bytes()).unwrap(),
        owner: Owner(owner),
        origin: Origin::Script,
        basis: Basis::Uid,
        first: Time::from_secs(secs),
        last: Time::from_secs(secs + 1),
        message_id: b"<m@host.test>",
        sender: b"web@host.test",
        login: b"",
        uid: 1001,
        client_address: b"",
        size: 1234,
        parent: None,
        recipients,
        recipients_cut: false,
        script: None,
        end: "removed",
    }
}

fn to(address: &str) -> RecipientTrace {
    RecipientTrace {
        texts: TraceTexts::new(address.as_bytes(), b"mx.there.test[192.0.2.1]:25", b"250 ok"),
        dsn: Dsn::new(2, 0, 0),
        state: RecipientState::Ended(Outcome::Sent),
        attempts: 1,
        last: Time::from_secs(10),
        next: None,
    }
}

fn full_batch(owner: u32, name: &str, legs: usize) -> Batch {
    let mut batch = Batch::default();
    batch.rows.push(Row { kind: 1, key: name.as_bytes().to_vec(), value: Some(vec![7; 50]) });
    batch.positions.push(("mail.log".into(), vec![1, 2, 3]));
    batch.accounts.push(AccountRow {
        owner,
        name: name.into(),
        uid: Some(owner),
        home: Some(format!("/home/{name}")),
        first_seen: Time::from_secs(5),
        closed: None,
    });
    batch.totals.push((owner, Counts { messages: 3, recipients: 3, sent: 3, ..Counts::default() }));
    batch.push_history(Owner(owner), 100, 4, HistoryCounts { messages: 3, ..HistoryCounts::default() });
    batch.push_error(&ErrorFact {
        at: Time::from_secs(9),
        owner: Owner(owner),
        outcome: Outcome::Bounced,
        late: false,
        id: QueueId::new(b"E1").unwrap(),
        sender: name.as_bytes(),
        recipient: b"x@there.test",
        relay: b"mx",
        dsn: Dsn::new(5, 1, 1),
        class: ReplyClass::UnknownRecipient,
        own_address: Some(std::net::IpAddr::from([192, 0, 2, 25])),
        reply: b"550 5.1.1 no\nsuch user",
        script: None,
    });
    for n in 0..legs {
        let recipients = [to(&format!("r{n}-{name}@there.test"))];
        let mut fact = leg(&format!("Q{n}"), owner, 1_000 + n as i64, &recipients);
        fact.sender = name.as_bytes();
        batch.push_leg(&fact);
    }
    batch
}

fn everything(dir: &Path) -> (Saved, String) {
    let store = Store::open(dir, Settings::default()).unwrap();
    let views = Views::open(dir).unwrap();
    let rest = format!(
        "{:?} {:?} {:?} {:?}",
        views.errors(None, 100, None).unwrap(),
        views.hours(20, 0, 1_000).unwrap(),
        views.days(20, 0, 1_000).unwrap(),
        views.trace(&TraceQuery::MessageId("m@host.test".into()), Time::ZERO, 10_000).unwrap().legs.len()
    );
    (store.load().unwrap(), rest)
}

#[test]
fn a_full_disk_undoes_the_whole_batch_and_the_same_batch_goes_in_later() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path(), Settings::default()).unwrap();
    store.commit(&full_batch(20, "one", 3), Durability::Normal).unwrap();
    let (before, index) = (everything(dir.path()), store.index);
    let batch = full_batch(20, "two", 30_000);
    let pages: i64 = store.conn.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
    let mut limits = 0;
    for more in [0, 1, 2, 4, 8, 16, 32, 64] {
        store.conn.pragma_update_and_check(None, "max_page_count", pages + more, |_| Ok(())).unwrap();
        let error = store.commit(&batch, Durability::Full).unwrap_err();
        assert!(matches!(error, CommitError::Full { .. }), "{error}");
        assert!(error.to_string().contains("disk is full"));
        assert_eq!(everything(dir.path()), before);
        assert_eq!(store.index, index);
        limits += 1;
    }
    assert_eq!(limits, 8);
    store.conn.pragma_update_and_check(None, "max_page_count", 1 << 30, |_| Ok(())).unwrap();
    store.commit(&batch, Durability::Full).unwrap();
    let views = Views::open(dir.path()).unwrap();
    assert_eq!(views.hours(20, 0, 1_000).unwrap()[0].counts.messages, 6);
    assert_eq!(views.errors(Some(20), 10, None).unwrap().len(), 2);
    assert_eq!(store.index, chunk::IndexState::read(&store.conn).unwrap());
}

fn contains(dir: &Path, needle: &[u8]) -> bool {
    fs::read_dir(dir).unwrap().any(|entry| {
        let data = fs::read(entry.unwrap().path()).unwrap();
        memchr::memmem::find(&data, needle).is_some()
    })
}

#[test]
fn the_log_is_folded_in_by_a_thread_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path(), Settings { log_pages: 10, ..Settings::default() }).unwrap();
    let folded = || {
        let from_disk = fs::read(dir.path().join(FILE_NAME)).unwrap();
        memchr::memmem::find(&from_disk, b"folded").is_some()
    };
    // The commits' own limit is far away.
    let mut commits = 0;
    while !folded() {
        commits += 1;
        assert!(commits < 2_000, "nothing was folded in");
        store.commit(&full_batch(20, "folded", 40), Durability::Normal).unwrap();
    }
    let pages: i64 = store.conn.query_row("PRAGMA wal_checkpoint(NOOP)", [], |row| row.get(1)).unwrap();
    assert!(pages < 64_000, "{pages}");
}

#[test]
fn where_the_disk_is_full_the_log_gives_its_room_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path(), Settings::default()).unwrap();
    let batch = full_batch(20, "one", 3);
    (0..50).for_each(|_| store.commit(&batch, Durability::Normal).unwrap());
    let log = || fs::metadata(dir.path().join(format!("{FILE_NAME}-wal"))).unwrap().len();
    assert!(log() > 100_000, "each commit is in it: {}", log());
    store.conn.pragma_update_and_check(None, "max_page_count", 1, |_| Ok(())).unwrap();
    let mut tries = 0;
    while log() > 0 {
        tries += 1;
        assert!(tries < 2_000, "the log still takes {} bytes", log());
        let error = store.commit(&full_batch(20, "two", 30_000), Durability::Normal).unwrap_err();
        assert!(matches!(error, CommitError::Full { .. }), "{error}");
    }
}

#[test]
fn forget_leaves_no_trace_on_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path(), Settings::default()).unwrap();
    for round in 0..30 {
        store.commit(&full_batch(20, "keepme", 40 + round * 20), Durability::Normal).unwrap();
        store.commit(&full_batch(21, "forgetme", 40 + round * 20), Durability::Normal).unwrap();
    }
    assert!(contains(dir.path(), b"forgetme"));
    store.forget(21).unwrap();
    // The generic row is the caller's to delete.
    let mut batch = Batch::default();
    batch.rows.push(Row { kind: 1, key: b"forgetme".to_vec(), value: None });
    store.commit(&batch, Durability::Full).unwrap();
    store.conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();

    assert!(!contains(dir.path(), b"forgetme"), "the name is still on the disk");
    assert!(contains(dir.path(), b"keepme"));
    let views = Views::open(dir.path()).unwrap();
    assert_eq!(views.totals(21).unwrap(), None);
    assert!(views.hours(21, 0, 1_000).unwrap().is_empty() && views.days(21, 0, 1_000).unwrap().is_empty());
    assert!(views.errors(Some(21), 10, None).unwrap().is_empty());
    assert!(views.account("forgetme").unwrap().is_none() && views.account("keepme").unwrap().is_some());
    let found = views.trace(&TraceQuery::MessageId("m@host.test".into()), Time::ZERO, 10_000).unwrap();
    assert_eq!(found.damaged, 0);
    assert!(found.legs.iter().all(|leg| leg.owner == 20));
    let kept: usize = (0..30).map(|round| 40 + round * 20).sum();
    let records: i64 = store
        .conn
        .query_row(
            "SELECT (SELECT coalesce(sum(records), 0) FROM message_chunk) + (SELECT coalesce(sum(records), 0) FROM message_tail)",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(records as usize, kept);
    assert_eq!(store.load().unwrap().next_owner, 22);
    assert_eq!(store.index, chunk::IndexState::read(&store.conn).unwrap());
}

#[test]
fn an_interrupted_forget_is_finished_by_expire() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path(), Settings::default()).unwrap();
    store.commit(&full_batch(21, "forgetme", 5_000), Durability::Normal).unwrap();
    store.conn.execute("INSERT INTO meta VALUES('forget:21', 21)", []).unwrap();
    drop(store);
    let mut store = Store::open(dir.path(), Settings::default()).unwrap();
    store.expire(Time::from_secs(2_000)).unwrap();
    let found = Views::open(dir.path()).unwrap();
    let found = found.trace(&TraceQuery::MessageId("m@host.test".into()), Time::ZERO, 10).unwrap();
    assert!(found.legs.is_empty());
    assert_eq!(store.index, chunk::IndexState::default());
}

#[test]
fn retention_and_the_size_of_the_index_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let day = |n: i64| Time::from_secs(n * 86_400);
    let settings = Settings { index_bytes: 400_000, error_rows: 50, ..Settings::default() };
    let mut store = Store::open(dir.path(), settings).unwrap();
    let mut batch = Batch::default();
    for n in [100i64, 500] {
        for id in 0..3_000 {
            batch.push_leg(&leg(&format!("D{n}x{id}"), 20, n * 86_400, &[to(&format!("u{id}@d{n}.test"))]));
        }
        batch.push_history(Owner(20), n * 24, n as i32, HistoryCounts { sent: 1, ..HistoryCounts::default() });
        batch.errors.extend((0..20).map(|_| ErrorRow { at: day(n), ..full_batch(20, "a", 0).errors.remove(0) }));
        store.commit(&batch, Durability::Normal).unwrap();
        batch.clear();
    }
    while store.expire(day(501)).unwrap().more {}
    let views = Views::open(dir.path()).unwrap();
    let ids = |id: &str| {
        let query = TraceQuery::parse(id);
        views.trace(&query, Time::ZERO, 10).unwrap().legs.len()
    };
    assert_eq!((ids("D100x5"), ids("D500x5")), (0, 1));
    assert_eq!(views.errors(None, 100, None).unwrap().len(), 20);
    assert_eq!(views.hours(20, 0, 1 << 40).unwrap().len(), 1);
    assert_eq!(views.days(20, 0, i32::MAX).unwrap().len(), 1);

    for n in 0..60_000 {
        batch.push_leg(&leg(&format!("N{n}"), 20, 501 * 86_400, &[to(&format!("u{n}@new.test"))]));
    }
    batch.errors.extend((0..100).map(|_| ErrorRow { at: day(501), ..full_batch(20, "a", 0).errors.remove(0) }));
    store.commit(&batch, Durability::Normal).unwrap();
    assert!(store.index.chunk_bytes > 400_000);
    while store.expire(day(501)).unwrap().more {}
    assert!(store.index.chunk_bytes <= 400_000);
    assert_eq!(store.index, chunk::IndexState::read(&store.conn).unwrap());
    assert_eq!((ids("D500x5"), ids("N0"), ids("N59999")), (0, 0, 1));
    assert_eq!(views.errors(None, 1_000, None).unwrap().len(), 50);
}

#[test]
fn the_order_log_is_kept_for_a_year_newest_first_and_goes_with_its_account() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path(), Settings::default()).unwrap();
    let day = |n: i64| Time::from_secs(n * 86_400);
    let row = |owner: u32, at: Time, reason: &str| AuditRow {
        at,
        owner,
        order: "0".repeat(32),
        action: "block".into(),
        scope: "script".into(),
        by: "root".into(),
        reason: reason.into(),
        outcome: "done".into(),
        details: "2 put on hold".into(),
    };
    let mut batch = full_batch(20, "a", 0);
    batch.audit = vec![row(20, day(100), "old"), row(20, day(400), "first"), row(20, day(401), "second")];
    batch.audit.push(row(21, day(400), "another account"));
    store.commit(&batch, Durability::Full).unwrap();
    assert_eq!(store.expire(day(466)).unwrap().audit, 1);
    let views = Views::open(dir.path()).unwrap();
    assert_eq!(views.audit(20, 10).unwrap(), [row(20, day(401), "second"), row(20, day(400), "first")]);
    assert_eq!(views.audit(20, 1).unwrap().len(), 1);
    store.forget(20).unwrap();
    assert_eq!((views.audit(20, 10).unwrap().len(), views.audit(21, 10).unwrap().len()), (0, 1));
}

#[test]
fn files_are_closed_to_others_whatever_they_were() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path(), Settings::default()).unwrap();
    store.commit(&full_batch(20, "a", 1), Durability::Full).unwrap();
    let modes = || {
        let files = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().metadata().unwrap());
        files.map(|meta| meta.permissions().mode() & 0o777).collect::<Vec<_>>()
    };
    assert_eq!(modes().len(), 3);
    assert!(modes().iter().all(|mode| mode & !0o640 == 0), "{:?}", modes());
    drop(store);
    fs::set_permissions(dir.path().join(FILE_NAME), fs::Permissions::from_mode(0o644)).unwrap();
    let _store = Store::open(dir.path(), Settings::default()).unwrap();
    assert!(modes().iter().all(|mode| mode & !0o640 == 0), "{:?}", modes());
}

#[test]
fn a_large_store_is_checked_in_the_background() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings { check_inline_bytes: 0, ..Settings::default() };
    let mut store = Store::open(dir.path(), settings).unwrap();
    store.commit(&full_batch(20, "a", 100), Durability::Normal).unwrap();
    while store.check() == CheckState::Running {
        std::thread::yield_now();
    }
    assert_eq!(store.check(), CheckState::Sound);
}
