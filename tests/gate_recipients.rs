//! How many a message on hold is for: what the gate has told, before the log, behind it and over a restart, and what the
//! server's aliases make of it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

use sendwarden::engine::Engine;
use sendwarden::engine::directory::Directory;
use sendwarden::engine::replies::Replies;
use sendwarden::engine::tracker::Settings;
use sendwarden::mail::{
    Attempt, Counts, Dsn, End, Event, Head, Holder, Kind, Owner, Place, QueueId, Server, Status, Time,
};

const AT: Time = Time::from_secs(1_800_000_000);
const OWNER: Owner = Owner(Owner::FIRST_ACCOUNT);

fn id() -> QueueId {
    QueueId::new(b"4jY2SR5RhSz5bd5").unwrap()
}

fn place() -> Place {
    Place { server: Server::Postfix, instance: b"mx"[..].into(), id: id() }
}

fn engine() -> Engine {
    let settings = Settings { details: true, keep_rows: true, ..Settings::default() };
    Engine::new(settings, Directory::default(), Replies::default(), 1)
}

fn see(engine: &mut Engine, kind: Kind<'_>) {
    let head = Head { at: AT, host: b"h", server: Server::Postfix, instance: b"mx", pid: 1, owns_queue: true };
    engine.observe(&Event { head, kind }, &mut ());
}

fn arrive(engine: &mut Engine) {
    see(engine, Kind::Submitted { id: id(), uid: 2001, sender: b"web1", requeued_from: None });
    see(engine, Kind::Identified { id: id(), message_id: b"<m@h>" });
}

fn hold(engine: &mut Engine) {
    see(engine, Kind::Held { id: Some(id()), by: Holder::Milter, sender: b"web1" });
}

fn tell(engine: &mut Engine, n: u32) {
    assert!(engine.sanctions.note_held(OWNER, place(), AT));
    engine.sanctions.note_recipients(OWNER, &place(), n);
    engine.learn_recipients(place(), n, AT, &mut ());
}

fn counts(engine: &Engine) -> Counts {
    let mut all = Counts::default();
    engine.ledger.owners().for_each(|(_, account)| all.add(&account.counts));
    assert!(all.balance(), "{all:?}");
    all
}

#[test]
fn it_counts_whenever_the_gate_is_heard() {
    // Behind the log's line, and before it: also before the message has a line at all.
    for before in [false, true] {
        let mut engine = engine();
        if before {
            tell(&mut engine, 3);
        }
        arrive(&mut engine);
        assert_eq!(counts(&engine).recipients, 0, "it is not accepted yet");
        hold(&mut engine);
        assert_eq!(counts(&engine).recipients, if before { 3 } else { 1 });
        if !before {
            tell(&mut engine, 3);
        }
        let now = counts(&engine);
        assert_eq!((now.messages, now.recipients, now.queued, now.held), (1, 3, 3, 3));
        see(&mut engine, Kind::Ended { id: id(), end: End::Deleted });
        assert_eq!((counts(&engine).deleted, counts(&engine).queued), (3, 0));
    }
}

#[test]
fn what_was_told_before_a_restart_counts_when_the_log_comes_to_it() {
    let mut old = engine();
    tell(&mut old, 3);
    arrive(&mut old);
    let mut new = engine();
    old.take_rows(|row| {
        if let Some(value) = row.value {
            assert!(new.restore_row(row.kind, &row.key, &value), "a row must read back");
        }
    });
    for row in old.sanctions.take_rows() {
        assert!(new.sanctions.restore_row(row.kind, &row.key, &row.value.unwrap()));
    }
    new.await_untold();
    hold(&mut new);
    assert_eq!((counts(&new).recipients, counts(&new).held), (3, 3));
}

#[test]
fn two_that_are_one_for_the_server_come_to_what_that_one_comes_to() {
    for (status, sent, bounced) in [(Status::Sent, 3, 0), (Status::Bounced, 0, 3)] {
        let mut engine = engine();
        arrive(&mut engine);
        hold(&mut engine);
        tell(&mut engine, 3);
        // Released; aliases have made one of two.
        see(&mut engine, Kind::Activated { id: id(), sender: b"web1", size: 9, recipients: 2 });
        for recipient in [&b"a@x"[..], b"b@x"] {
            let (relay, relay_address, reply) = (&b"r"[..], &b"192.0.2.1"[..], &b"said"[..]);
            see(
                &mut engine,
                Kind::Attempt(Attempt {
                    id: id(),
                    recipient,
                    original: b"",
                    accepted_as: b"",
                    relay,
                    relay_address,
                    local: false,
                    delay_ms: 1,
                    dsn: Dsn::new(2, 0, 0),
                    status,
                    reply,
                    next: None,
                }),
            );
        }
        see(&mut engine, Kind::Ended { id: id(), end: End::Done });
        let now = counts(&engine);
        assert_eq!((now.recipients, now.sent, now.bounced, now.unaccounted), (3, sent, bounced, 0), "{status:?}");
    }
}

#[test]
fn later_knowledge_only_adds() {
    let mut engine = engine();
    arrive(&mut engine);
    hold(&mut engine);
    tell(&mut engine, 2);
    // Released; one of them is a list.
    see(&mut engine, Kind::Activated { id: id(), sender: b"web1", size: 9, recipients: 4 });
    assert_eq!(counts(&engine).recipients, 4);
    // Heard late, and on hold no more.
    tell(&mut engine, 9);
    assert_eq!(counts(&engine).recipients, 4);
}
