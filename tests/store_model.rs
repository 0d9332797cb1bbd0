//! Random batches against a plain model in memory: whatever is committed, refused and committed again, and however
//! often the store is reopened, views say what the model says.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failing test may stop anywhere")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use sendwarden::mail::{
    Basis, Counts, Dsn, LegFact, Origin, Outcome, Owner, QueueId, RecipientState, RecipientTrace, Time, TraceTexts,
};
use sendwarden::store::{
    AccountRow, Batch, Durability, ErrorRow, FILE_NAME, HistoryCounts, Row, Settings, Store, TraceQuery, Views,
};

static BATCHES: AtomicUsize = AtomicUsize::new(0);

#[derive(Debug, Default)]
struct Model {
    rows: BTreeMap<(u8, Vec<u8>), Vec<u8>>,
    positions: BTreeMap<String, Vec<u8>>,
    accounts: BTreeMap<u32, AccountRow>,
    totals: BTreeMap<u32, Counts>,
    hours: BTreeMap<(u32, i64), HistoryCounts>,
    days: BTreeMap<(u32, i32), HistoryCounts>,
    errors: Vec<(i64, u32, String)>,
    /// Queue id number, owner, recipient number.
    legs: Vec<(u8, u32, u8)>,
}

#[derive(Debug, Clone)]
enum Change {
    Row(u8, u8, Option<u8>),
    Position(u8, u8),
    Account(u32, u8, bool),
    Total(u32, u16),
    History(u32, u8, u16),
    Error(u32, u8),
    Leg(u8, u32, u8),
}

#[derive(Debug, Clone)]
enum Act {
    Commit(Vec<Change>, bool),
    /// Refused by a lock first, then committed.
    CommitTwice(Vec<Change>),
    Reopen,
    Forget(u32),
}

fn owner() -> impl Strategy<Value = u32> {
    prop_oneof![Just(3u32), 16..20u32]
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        (0..3u8, 0..6u8, any::<Option<u8>>()).prop_map(|(a, b, c)| Change::Row(a, b, c)),
        (0..3u8, any::<u8>()).prop_map(|(a, b)| Change::Position(a, b)),
        (16..20u32, any::<u8>(), any::<bool>()).prop_map(|(a, b, c)| Change::Account(a, b, c)),
        (owner(), any::<u16>()).prop_map(|(a, b)| Change::Total(a, b)),
        (owner(), 0..60u8, any::<u16>()).prop_map(|(a, b, c)| Change::History(a, b, c)),
        (owner(), any::<u8>()).prop_map(|(a, b)| Change::Error(a, b)),
        (0..8u8, owner(), 0..6u8).prop_map(|(a, b, c)| Change::Leg(a, b, c)),
    ]
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        30 => (vec(change(), 0..12), any::<bool>()).prop_map(|(a, b)| Act::Commit(a, b)),
        2 => vec(change(), 1..12).prop_map(Act::CommitTwice),
        1 => Just(Act::Reopen),
        1 => (16..20u32).prop_map(Act::Forget),
    ]
}

fn address(number: u8) -> String {
    format!("user{number}@there.test")
}

fn apply(changes: &[Change], batch: &mut Batch, model: &mut Model) {
    batch.clear();
    for change in changes {
        match change.clone() {
            Change::Row(kind, key, value) => {
                let value = value.map(|v| vec![v; usize::from(v)]);
                batch.rows.push(Row { kind, key: vec![key], value: value.clone() });
                match value {
                    Some(value) => model.rows.insert((kind, vec![key]), value),
                    None => model.rows.remove(&(kind, vec![key])),
                };
            }
            Change::Position(source, at) => {
                batch.positions.push((format!("s{source}"), vec![at]));
                model.positions.insert(format!("s{source}"), vec![at]);
            }
            Change::Account(owner, n, closed) => {
                let account = AccountRow {
                    owner,
                    name: format!("n{n}"),
                    uid: (n > 9).then_some(n.into()),
                    home: (n > 99).then(|| "/home".into()),
                    first_seen: Time(n.into()),
                    closed: closed.then_some(Time(7)),
                };
                batch.accounts.push(account.clone());
                model.accounts.insert(owner, account);
            }
            Change::Total(owner, n) => {
                let counts = Counts { messages: n.into(), held: 1, late_errors: 2, ..Counts::default() };
                batch.totals.push((owner, counts));
                model.totals.insert(owner, counts);
            }
            Change::History(owner, hour, n) => {
                let counts = HistoryCounts { recipients: n.into(), late_errors: 1, ..HistoryCounts::default() };
                let day = i32::from(hour / 24);
                batch.push_history(Owner(owner), hour.into(), day, counts);
                for sum in
                    [model.hours.entry((owner, hour.into())).or_default(), model.days.entry((owner, day)).or_default()]
                {
                    sum.recipients += u64::from(n);
                    sum.late_errors += 1;
                }
            }
            Change::Error(owner, n) => {
                batch.errors.push(ErrorRow {
                    at: Time(n.into()),
                    owner,
                    outcome: "bounced",
                    late: n > 100,
                    id: QueueId::new(b"E1").unwrap(),
                    sender: String::new(),
                    recipient: address(n),
                    relay: String::new(),
                    dsn: Dsn::new(5, 1, 1),
                    class: "other",
                    own_address: None,
                    reply: String::new(),
                    script: None,
                });
                model.errors.push((n.into(), owner, address(n)));
            }
            Change::Leg(id, owner, to) => {
                let recipients = [RecipientTrace {
                    texts: TraceTexts::new(address(to).as_bytes(), b"", b""),
                    dsn: Dsn::NONE,
                    state: RecipientState::Ended(Outcome::Sent),
                    attempts: 1,
                    last: Time(0),
                    next: None,
                }];
                batch.push_leg(&LegFact {
                    host: b"mx",
                    instance: b"postfix",
                    id: QueueId::new(format!("Q{id}").as_bytes()).unwrap(),
                    owner: Owner(owner),
                    origin: Origin::Script,
                    basis: Basis::Uid,
                    first: Time(5),
                    last: Time(6),
                    message_id: b"",
                    sender: b"",
                    login: b"",
                    uid: -1,
                    client_address: b"",
                    size: 1,
                    parent: None,
                    recipients: &recipients,
                    recipients_cut: false,
                    script: None,
                    end: "removed",
                });
                model.legs.push((id, owner, to));
            }
        }
    }
    BATCHES.fetch_add(1, Ordering::Relaxed);
}

fn compare(views: &Views, store: &Store, model: &Model) -> Result<(), TestCaseError> {
    let saved = store.load().unwrap();
    prop_assert_eq!(&saved.accounts, &model.accounts.values().cloned().collect::<Vec<_>>());
    prop_assert_eq!(&views.accounts().unwrap(), &saved.accounts);
    prop_assert_eq!(&saved.totals, &model.totals.iter().map(|(o, c)| (*o, *c)).collect::<Vec<_>>());
    prop_assert_eq!(&saved.positions, &model.positions.clone().into_iter().collect::<Vec<_>>());
    let rows: Vec<Row> = model
        .rows
        .iter()
        .map(|((kind, key), v)| Row { kind: *kind, key: key.clone(), value: Some(v.clone()) })
        .collect();
    prop_assert_eq!(&saved.rows, &rows);
    for owner in [3, 16, 17, 18, 19] {
        prop_assert_eq!(views.totals(owner).unwrap(), model.totals.get(&owner).copied());
        let hours: Vec<_> = views.hours(owner, 5, 50).unwrap().iter().map(|h| (h.hour, h.counts)).collect();
        let expected: Vec<_> =
            model.hours.range((owner, 5)..=(owner, 50)).map(|((_, hour), counts)| (*hour, *counts)).collect();
        prop_assert_eq!(hours, expected);
        let days: Vec<_> = views.days(owner, 0, 1).unwrap().iter().map(|d| (d.day, d.counts)).collect();
        let expected: Vec<_> =
            model.days.range((owner, 0)..=(owner, 1)).map(|((_, day), counts)| (*day, *counts)).collect();
        prop_assert_eq!(days, expected);
        let errors = views.errors(Some(owner), 1_000, None).unwrap();
        let got: Vec<_> = errors.iter().map(|e| (e.at.0, e.owner, e.recipient.clone())).collect();
        let expected: Vec<_> = model.errors.iter().rev().filter(|e| e.1 == owner).cloned().collect();
        prop_assert_eq!(got, expected);
    }
    prop_assert_eq!(views.errors(None, 3, None).unwrap().len(), model.errors.len().min(3));
    for number in 0..6 {
        // A queue id of its own stands for one message here, so links add every leg with an id that was found.
        let found = views.trace(&TraceQuery::Recipient(address(number)), Time::ZERO, 10_000).unwrap();
        let ids: Vec<u8> = model.legs.iter().filter(|leg| leg.2 == number).map(|leg| leg.0).collect();
        let expected = model.legs.iter().filter(|leg| ids.contains(&leg.0)).count();
        prop_assert_eq!((found.legs.len(), found.damaged, found.more), (expected, 0, false));
    }
    Ok(())
}

fn run(acts: Vec<Act>) -> Result<(), TestCaseError> {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings { busy_timeout: Duration::ZERO, ..Settings::default() };
    let mut store = Store::open(dir.path(), settings.clone()).unwrap();
    let views = Views::open(dir.path()).unwrap();
    let (mut model, mut batch) = (Model::default(), Batch::default());
    for act in acts {
        match act {
            Act::Commit(changes, full) => {
                apply(&changes, &mut batch, &mut model);
                store.commit(&batch, if full { Durability::Full } else { Durability::Normal }).unwrap();
            }
            Act::CommitTwice(changes) => {
                apply(&changes, &mut batch, &mut model);
                let other = rusqlite::Connection::open(dir.path().join(FILE_NAME)).unwrap();
                other.execute_batch("BEGIN IMMEDIATE").unwrap();
                store.commit(&batch, Durability::Normal).unwrap_err();
                drop(other);
                store.commit(&batch, Durability::Normal).unwrap();
            }
            Act::Reopen => {
                drop(store);
                store = Store::open(dir.path(), settings.clone()).unwrap();
            }
            Act::Forget(owner) => {
                store.forget(owner).unwrap();
                model.accounts.remove(&owner);
                model.totals.remove(&owner);
                model.hours.retain(|(o, _), _| *o != owner);
                model.days.retain(|(o, _), _| *o != owner);
                model.errors.retain(|error| error.1 != owner);
                model.legs.retain(|leg| leg.1 != owner);
            }
        }
    }
    compare(&views, &store, &model)
}

#[test]
fn views_say_what_a_plain_model_says() {
    let config = ProptestConfig { cases: 120, failure_persistence: None, ..ProptestConfig::default() };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    runner.run(&vec(act(), 60..160), run).unwrap();
    let batches = BATCHES.load(Ordering::Relaxed);
    println!("{batches} batches committed");
    assert!(batches >= 10_000, "only {batches} batches");
}
