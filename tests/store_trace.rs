//! Finding messages again: by each key, across hops, from the newest on, through tail and chunks.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failing test may stop anywhere")]

use sendwarden::mail::{
    Basis, Dsn, LegFact, Origin, Outcome, Owner, QueueId, RecipientState, RecipientTrace, Time, TraceTexts,
};
use sendwarden::store::{Batch, Durability, Settings, Store, Trace, TraceQuery, Views};

fn id(text: &str) -> QueueId {
    QueueId::new(text.as_bytes()).unwrap()
}

fn to(address: &str, next: Option<&str>) -> RecipientTrace {
    RecipientTrace {
        texts: TraceTexts::new(address.as_bytes(), b"mx[192.0.2.1]:25", b"250 2.0.0 ok\x1b[2J"),
        dsn: Dsn::new(2, 0, 0),
        state: if next.is_some() { RecipientState::Handed } else { RecipientState::Ended(Outcome::Sent) },
        attempts: 2,
        last: Time::from_secs(7),
        next: next.map(|text| Box::new(id(text))),
    }
}

struct Leg<'a> {
    id: &'a str,
    secs: i64,
    message_id: &'a str,
    parent: Option<&'a str>,
    host: &'a str,
    to: Vec<RecipientTrace>,
}

fn push(batch: &mut Batch, leg: &Leg<'_>) {
    batch.push_leg(&LegFact {
        host: leg.host.as_bytes(),
        instance: b"postfix",
        id: id(leg.id),
        owner: Owner(16),
        origin: Origin::SmtpAuth,
        basis: Basis::Login,
        first: Time::from_secs(leg.secs),
        last: Time::from_secs(leg.secs + 2),
        message_id: leg.message_id.as_bytes(),
        sender: b"info@shop.test",
        login: b"info@shop.test",
        uid: -1,
        client_address: b"203.0.113.5",
        size: 2_048,
        parent: leg.parent.map(id),
        recipients: &leg.to,
        recipients_cut: false,
        script: None,
        end: "removed",
    });
}

fn noise(batch: &mut Batch, n: usize, secs: i64) {
    for k in 0..n {
        let queue_id = format!("N{secs}x{k}");
        let address = format!("nobody{k}@n{secs}.test");
        let leg =
            Leg { id: &queue_id, secs, message_id: &queue_id, parent: None, host: "mx1", to: vec![to(&address, None)] };
        push(batch, &leg);
    }
}

fn ids(found: &Trace) -> Vec<&str> {
    assert_eq!(found.damaged, 0);
    found.legs.iter().map(|leg| leg.id.as_str()).collect()
}

#[test]
fn found_by_each_key_and_followed_both_ways() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path(), Settings::default()).unwrap();
    let views = Views::open(dir.path()).unwrap();
    let mut batch = Batch::default();
    // A message in, through a filter under a second id, forwarded under a third, each far apart in the index.
    let (a, b) = ("Anna@There.test", "boss@else.test");
    let legs = [
        Leg {
            id: "IN1",
            secs: 1_000,
            message_id: "<one@shop.test>",
            parent: None,
            host: "mx1",
            to: vec![to(a, Some("OUT1"))],
        },
        Leg {
            id: "OUT1",
            secs: 1_010,
            message_id: "<one@shop.test>",
            parent: None,
            host: "mx1",
            to: vec![to(a, None)],
        },
        Leg {
            id: "FWD1",
            secs: 1_020,
            message_id: "<two@shop.test>",
            parent: Some("OUT1"),
            host: "mx1",
            to: vec![to(b, None)],
        },
        // The same ids: used again much later, and by another host at the same time.
        Leg {
            id: "OUT1",
            secs: 900_000,
            message_id: "<later@shop.test>",
            parent: None,
            host: "mx1",
            to: vec![to("c@x.test", None)],
        },
        Leg {
            id: "OUT1",
            secs: 1_011,
            message_id: "<other@shop.test>",
            parent: None,
            host: "mx2",
            to: vec![to("d@x.test", None)],
        },
    ];
    for leg in &legs {
        push(&mut batch, leg);
        store.commit(&batch, Durability::Normal).unwrap();
        batch.clear();
        noise(&mut batch, 4_000, leg.secs + 5);
        store.commit(&batch, Durability::Normal).unwrap();
        batch.clear();
    }
    let ask = |query: &TraceQuery| views.trace(query, Time::ZERO, 100).unwrap();
    let whole = ["IN1", "OUT1", "FWD1"];
    assert_eq!(ids(&ask(&TraceQuery::parse("IN1"))), whole);
    assert_eq!(ids(&ask(&TraceQuery::parse("FWD1"))), whole);
    assert_eq!(ids(&ask(&TraceQuery::MessageId("one@shop.test".into()))), whole);
    assert_eq!(ids(&ask(&TraceQuery::parse("<TWO@shop.test>"))), whole);
    assert_eq!(ids(&ask(&TraceQuery::Recipient("anna@there.TEST".into()))), whole);
    assert_eq!(ids(&ask(&TraceQuery::parse(" boss@else.test "))), whole);
    // Asked by a reused id, every message that had it is told, each with its own hops only.
    assert_eq!(ids(&ask(&TraceQuery::parse("OUT1"))), ["IN1", "OUT1", "OUT1", "FWD1", "OUT1"]);
    assert_eq!(ids(&ask(&TraceQuery::parse("c@x.test"))), ["OUT1"]);
    assert!(ask(&TraceQuery::parse("OUT")).legs.is_empty());
    assert!(ask(&TraceQuery::parse("")).legs.is_empty());
    let found = views.trace(&TraceQuery::parse("OUT1"), Time::from_secs(800_000), 100).unwrap();
    assert_eq!(ids(&found), ["OUT1"]);

    let anna = &ask(&TraceQuery::parse("IN1")).legs[0];
    assert_eq!(anna.recipients[0].next.as_deref(), Some("OUT1"));
    assert_eq!(anna.recipients[0].reply, "250 2.0.0 ok\u{FFFD}[2J");
    assert_eq!((anna.login.as_str(), anna.origin, anna.uid), ("info@shop.test", "smtp_auth", None));
    let json = serde_json::to_value(anna).unwrap();
    assert_eq!((json["first"].as_i64(), json["recipients"][0]["state"].as_str()), (Some(1_000), Some("handed")));
}

#[test]
fn the_limit_keeps_the_newest_and_says_that_there_is_more() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path(), Settings::default()).unwrap();
    let mut batch = Batch::default();
    for n in 0..700i64 {
        let queue_id = format!("L{n}");
        let all = vec![to("all@list.test", None)];
        push(&mut batch, &Leg { id: &queue_id, secs: n, message_id: "", parent: None, host: "mx1", to: all });
        // Every second one alone in its batch: through the tail, and merged from there.
        if n % 2 == 0 {
            store.commit(&batch, Durability::Normal).unwrap();
            batch.clear();
        }
    }
    store.commit(&batch, Durability::Normal).unwrap();
    let views = Views::open(dir.path()).unwrap();
    let query = TraceQuery::Recipient("all@list.test".into());
    let some = views.trace(&query, Time::ZERO, 5).unwrap();
    assert_eq!(ids(&some), ["L695", "L696", "L697", "L698", "L699"]);
    assert!(some.more);
    let all = views.trace(&query, Time::ZERO, 1_000).unwrap();
    assert_eq!((all.legs.len(), all.more), (700, false));
    assert!(views.trace(&TraceQuery::MessageId(String::new()), Time::ZERO, 10).unwrap().legs.is_empty());
}

#[test]
fn a_damaged_chunk_is_counted_and_hides_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path(), Settings::default()).unwrap();
    let mut batch = Batch::default();
    for secs in [1, 2] {
        noise(&mut batch, 1_000, secs);
        store.commit(&batch, Durability::Normal).unwrap();
        batch.clear();
    }
    let raw = rusqlite::Connection::open(store.path()).unwrap();
    for damage in ["substr(data, 1, length(data) / 2)", "zeroblob(100)", "x'ffffffff00'", "x''"] {
        raw.execute(&format!("UPDATE message_chunk SET data = {damage} WHERE id = 1"), []).unwrap();
        let views = Views::open(dir.path()).unwrap();
        let lost = views.trace(&TraceQuery::parse("N1x5"), Time::ZERO, 10).unwrap();
        assert_eq!((lost.legs.len(), lost.damaged > 0), (0, true), "{damage}");
        assert_eq!(views.trace(&TraceQuery::parse("N2x5"), Time::ZERO, 10).unwrap().legs.len(), 1);
    }
}
