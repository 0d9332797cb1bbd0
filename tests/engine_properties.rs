//! The tracker under random events: the books balance after every single one, and a cut, a save and a restore
//! at any place change nothing of what comes after.

#![allow(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]
#![allow(clippy::default_constructed_unit_structs, reason = "they get settings as the program grows")]

use proptest::prelude::*;
use sendwarden::engine::directory::Directory;
use sendwarden::engine::ledger::Account;
use sendwarden::engine::replies::Replies;
use sendwarden::engine::rules::{Lane, Rule};
use sendwarden::engine::tracker::{RowKind, Settings};
use sendwarden::engine::{Engine, Sink};
use sendwarden::mail::{
    Accepted, AddressList, Attempt, Dsn, End, Event, Fact, Head, Holder, Kind, Next, Notice, Owner, Place, QueueId,
    Ruling, Script, ScriptSource, Server, Signal, Status, Submitter, Sweep, Time, Verdict,
};
use std::collections::BTreeMap;
use std::sync::Mutex;

const SEED: u64 = 42;
const IDS: [&[u8]; 5] = [b"A000001", b"B000002", b"C000003", b"D000004", b"E000005"];
const MESSAGE_IDS: [&[u8]; 3] = [b"<one@x.test>", b"<two@x.test>", b""];
const DIRECTORIES: [&[u8]; 3] = [b"/home/web1", b"/home/web2", b"/"];
const RECIPIENTS: [&[u8]; 4] = [b"a@r.test", b"b@r.test", b"c@r.test", b"d@r.test"];
const INSTANCES: [(&[u8], bool); 3] = [(b"mx", true), (b"mx-out", true), (b"submission", false)];

/// How often each kind of event occurred, over all cases.
static SEEN: Mutex<BTreeMap<&'static str, u64>> = Mutex::new(BTreeMap::new());
/// And verdicts of each signal.
static SPOKE: Mutex<BTreeMap<&'static str, u64>> = Mutex::new(BTreeMap::new());

#[derive(Default)]
struct Facts(Vec<String>);

impl Sink for Facts {
    const HEARS_VERDICTS: bool = true;

    fn fact(&mut self, fact: &Fact<'_>) {
        self.0.push(format!("{fact:?}"));
    }

    fn verdict(&mut self, verdict: Verdict, key: &str) {
        *SPOKE.lock().unwrap().entry(verdict.signal.name()).or_default() += 1;
        self.0.push(format!("{key} {verdict:?}"));
    }
}

type Step = (u8, u8, u8, u8, u8, u8);

fn event(step: &Step, at: i64) -> Event<'static> {
    let &(kind, id, a, b, c, place) = step;
    let pick = |n: u8| QueueId::new(IDS[n as usize % IDS.len()]).unwrap();
    let id = pick(id);
    let (instance, owns_queue) = INSTANCES[match place % 8 {
        0 => 1,
        1 => 2,
        _ => 0,
    }];
    let owns_queue = owns_queue && kind % 2 == 0;
    let server = Server::Postfix;
    let head = Head { at: Time::from_secs(at), host: b"h", server, instance, pid: u32::from(c % 3), owns_queue };
    let sender: &[u8] = if a % 4 == 0 { b"" } else { b"s@site.test" };
    // Servers that expand aliases late name the accepted recipient; of a local delivery only a local part.
    let recipient = RECIPIENTS[a as usize % RECIPIENTS.len()];
    let accepted_as = match c % 4 {
        _ if kind < 128 => &b""[..],
        0 | 1 => recipient,
        n => RECIPIENTS[n as usize - 2],
    };
    let attempt = |status, next| {
        Kind::Attempt(Attempt {
            id,
            recipient: if kind >= 128 && b % 7 == 0 { &recipient[..1] } else { recipient },
            original: if accepted_as == recipient { b"" } else { accepted_as },
            accepted_as,
            relay: b"127.0.0.1[127.0.0.1]:10024",
            relay_address: if b % 5 == 0 { b"192.0.2.1" } else { b"127.0.0.1" },
            local: false,
            delay_ms: 10,
            dsn: Dsn::new(2, 0, 0),
            status,
            reply: b"250 Ok",
            next,
        })
    };
    let kind = match kind % 28 {
        0 | 1 => Kind::Submitted { id, uid: 2000 + u32::from(a % 3), sender, requeued_from: None },
        2 => Kind::Submitted { id, uid: 102, sender, requeued_from: Some(pick(b)) },
        3 => Kind::Received {
            id,
            client: b"c",
            address: if b % 4 == 0 { b"192.0.2.9" } else { b"127.0.0.1" },
            login: (a % 3 == 0).then_some(&b"box@site.test"[..]),
            hop_of: (b % 6 == 1).then(|| pick(c)),
        },
        4 | 5 => Kind::Identified { id, message_id: MESSAGE_IDS[a as usize % MESSAGE_IDS.len()] },
        6 | 7 => Kind::Activated { id, sender, size: 100, recipients: u32::from(b % 4) },
        8 => attempt(Status::Sent, None),
        9 => attempt(Status::Sent, Some(Next::QueuedAs(pick(c)))),
        10 => attempt(Status::Sent, Some(Next::ForwardedAs(pick(c)))),
        11 => attempt(Status::Deferred, None),
        12 => attempt([Status::Bounced, Status::Bounced, Status::Expired, Status::Dropped][b as usize % 4], None),
        13 if a % 7 == 0 => attempt(Status::Probe, None),
        13 => Kind::Expired { id },
        14 | 15 => {
            let ends = [End::Done, End::Done, End::Deleted, End::Rejected, End::Discarded];
            Kind::Ended { id, end: ends[a as usize % ends.len()] }
        }
        16 => Kind::Held {
            id: (a % 3 != 0).then_some(id),
            by: if b % 2 == 0 { Holder::Admin } else { Holder::Milter },
            sender,
        },
        17 if a % 3 == 0 => Kind::Gated {
            id,
            ruling: [Ruling::Held, Ruling::KeptBack, Ruling::AsAnswered, Ruling::Refused(Submitter::User(b"web1"))]
                [b as usize % 4],
        },
        17 => Kind::Released { id },
        18 if a % 3 == 0 => Kind::Requeued { id },
        18 => {
            let what = [Sweep::Deleted, Sweep::Held, Sweep::Released][b as usize % 3];
            Kind::Swept { what, count: u32::from(c % 6) }
        }
        19 => Kind::Notified { id, child: pick(b), notice: Notice::Failure },
        22 | 23 => {
            let login = [&b"web1"[..], b"web2", b"www-data"][a as usize % 3];
            let (client, address) = (b"c", if b % 4 == 0 { &b"192.0.2.9"[..] } else { b"127.0.0.1" });
            let by = match b % 5 {
                0 => Submitter::User(login),
                1 => Submitter::Login { login: b"box@site.test", client, address },
                2 => Submitter::Internal,
                _ => Submitter::Smtp { client, address },
            };
            let recipients = [None, Some(b"a@r.test".as_slice()), Some(b"a@r.test b@r.test A@R.test"), Some(b"")];
            let mark = MESSAGE_IDS[c as usize % MESSAGE_IDS.len()];
            let recipients = recipients[c as usize % 4].map(AddressList);
            let notice_of = (by == Submitter::Internal).then(|| pick(c));
            Kind::Accepted(Accepted { id, by, sender, message_id: mark, mark, size: 9, recipients, notice_of })
        }
        24 => match attempt(Status::Sent, None) {
            Kind::Attempt(attempt) => Kind::Early(attempt),
            other => other,
        },
        25 => Kind::Added { id, recipient },
        26 => Kind::GivenUp { id },
        _ => Kind::Script(Script {
            id: (b % 3 != 0).then_some(id),
            from: match b % 3 {
                0 => ScriptSource::Command { many: a % 4 == 0 },
                1 => ScriptSource::Rule,
                _ => ScriptSource::Header,
            },
            uid: (b % 3 == 2).then(|| 2000 + u32::from(a % 3)),
            directory: if b % 3 == 2 { b"" } else { DIRECTORIES[a as usize % DIRECTORIES.len()] },
            path: if b % 3 == 0 { b"" } else { [&b"a.php"[..], b"b.php"][c as usize % 2] },
            line: 0,
            recipients: b"",
        }),
    };
    Event { head, kind }
}

fn name(kind: &Kind<'_>) -> &'static str {
    match kind {
        Kind::Submitted { requeued_from: Some(_), .. } => "requeue comes back",
        Kind::Submitted { .. } => "submitted",
        Kind::Received { .. } => "received",
        Kind::Identified { .. } => "identified",
        Kind::Activated { .. } => "activated",
        Kind::Attempt(a) if a.next.is_some() => "sent on",
        Kind::Attempt(a) if a.status == Status::Sent => "sent",
        Kind::Attempt(a) if a.status == Status::Deferred => "deferred",
        Kind::Attempt(a) if a.status == Status::Bounced => "bounced",
        Kind::Attempt(a) if a.status == Status::Probe => "probe",
        Kind::Attempt(_) => "given up",
        Kind::Accepted(_) => "accepted",
        Kind::Early(_) => "early",
        Kind::Added { .. } => "recipient added",
        Kind::GivenUp { .. } => "given up as a whole",
        Kind::Notified { .. } => "notified",
        Kind::Expired { .. } => "expired",
        Kind::Ended { .. } => "ended",
        Kind::Held { .. } => "held",
        Kind::Gated { .. } => "gated",
        Kind::Released { .. } => "released",
        Kind::Requeued { .. } => "requeued",
        Kind::Swept { .. } => "swept",
        Kind::LoginFailed { .. } => "login failed",
        Kind::Script(Script { from: ScriptSource::Command { .. }, .. }) => "command line",
        Kind::Script(_) => "script named",
    }
}

fn engine() -> Engine {
    let settings = Settings { details: true, keep_rows: true, ..Settings::default() };
    let mut engine = Engine::new(settings, Directory::default(), Replies::default(), SEED);
    engine.rules.set(rules());
    engine
}

/// What is counted of a message, and when, is seen by rules that speak early and often.
fn rules() -> Vec<Rule> {
    let signals = [Signal::Messages, Signal::Recipients, Signal::DistinctRecipients, Signal::Scripts];
    let limits = signals.into_iter().flat_map(|signal| [0, 1, 2].map(|limit| (signal, limit)));
    let rule =
        |(signal, limit)| Rule { lane: Lane::All, ..Rule::new(&format!("{signal:?}{limit}"), signal, 60, limit) };
    limits.map(rule).collect()
}

fn assert_books(engine: &Engine, after: &dyn Fn() -> String) {
    let mut queued = 0;
    for (owner, account) in engine.ledger.owners() {
        assert!(account.counts.balance(), "{owner:?} {:?} after {}", account.counts, after());
        queued += account.counts.queued;
    }
    assert_eq!(
        queued,
        engine.tracker.open_recipients(),
        "queued in the books = open in the tracker, after {}",
        after()
    );
}

type Rows = BTreeMap<(u8, Vec<u8>), Vec<u8>>;

fn store_rows(engine: &mut Engine, rows: &mut Rows) {
    engine.take_rows(|row| {
        let key = (row.kind.code(), row.key);
        match row.value {
            Some(value) => rows.insert(key, value),
            None => rows.remove(&key),
        };
    });
}

/// Saves everything, throws the engine away, and goes on with a new one.
fn reborn(mut old: Engine, rows: &mut Rows) -> Engine {
    store_rows(&mut old, rows);
    let mut new = engine();
    for known in old.attribution.accounts.iter() {
        new.attribution.accounts.restore(known.clone());
    }
    new.attribution.accounts.reserve_below(old.attribution.accounts.next());
    let accounts: Vec<(Owner, Account)> = old.ledger.owners().map(|(owner, account)| (owner, *account)).collect();
    for (owner, account) in accounts {
        new.ledger.restore(owner, account);
    }
    for ((kind, key), value) in rows {
        assert!(new.restore_row(RowKind::from_code(*kind).unwrap(), key, value), "a row must read back");
    }
    assert!(new.restored(), "and so must what was counted");
    new
}

fn run(steps: &[(Step, u8)], cuts: &[usize]) -> (Vec<String>, BTreeMap<u32, Account>) {
    let mut engine = engine();
    let mut rows = Rows::new();
    let mut facts = Facts::default();
    let mut at = 1_800_000_000;
    for (n, (step, gap)) in steps.iter().enumerate() {
        at += match gap % 16 {
            0 => 40,
            1 => -1,
            n => i64::from(n % 2),
        };
        let event = event(step, at);
        engine.observe(&event, &mut facts);
        if cuts.is_empty() {
            *SEEN.lock().unwrap().entry(name(&event.kind)).or_default() += 1;
            assert_books(&engine, &|| format!("event {n}: {event:?}"));
        }
        if gap % 16 == 5 {
            engine.tick(Time::from_secs(at), &mut facts);
        }
        if cuts.contains(&n) {
            engine = reborn(engine, &mut rows);
        } else if !cuts.is_empty() && n % 3 == 0 {
            store_rows(&mut engine, &mut rows);
        }
    }
    engine.finish(&mut facts);
    assert_books(&engine, &|| "the end".into());
    (facts.0, engine.ledger.owners().map(|(owner, account)| (owner.0, *account)).collect())
}

/// Small memory, ticks, stamps from the far future and the past: only the books are asked for.
fn run_in_little_room(steps: &[(Step, u8)], max_open: usize) {
    let settings = Settings { max_open, max_recipients: 2, details: true, scripts: false, keep_rows: true };
    let mut engine = Engine::new(settings, Directory::default(), Replies::default(), SEED);
    let mut facts = Facts::default();
    let mut at = 1_800_000_000;
    for (n, (step, gap)) in steps.iter().enumerate() {
        at += i64::from(gap % 4) * 11;
        let stamp = match gap {
            250.. => at + 2_300_000_000,
            240..250 => at - 900_000,
            _ => at,
        };
        let event = event(step, stamp);
        if gap % 5 == 1 {
            // What a gate says of a message that it holds, before the log or behind it, true or not.
            let id = QueueId::new(IDS[step.1 as usize % IDS.len()]).unwrap();
            let place = Place { server: Server::Postfix, instance: event.head.instance.into(), id };
            engine.learn_recipients(place, u32::from(step.2 % 5), Time::from_secs(stamp), &mut facts);
            assert_books(&engine, &|| format!("what the gate told before event {n}: {event:?}"));
        }
        engine.observe(&event, &mut facts);
        assert_books(&engine, &|| format!("event {n}: {event:?}"));
        assert!(engine.tracker.open() <= max_open.max(1), "{} legs, {max_open} allowed", engine.tracker.open());
        if gap % 7 == 0 {
            engine.tick(Time::from_secs(at + i64::from(*gap)), &mut facts);
            assert_books(&engine, &|| format!("a tick after event {n}"));
            let limit = Time::from_secs(at + i64::from(*gap));
            assert!(engine.next_wake().is_none_or(|wake| wake > limit), "all that was due is decided");
        }
    }
    engine.finish(&mut facts);
    assert_books(&engine, &|| "the end".into());
    assert_eq!(engine.next_wake(), None, "nothing is waited for after the end");
}

#[test]
fn books_balance_in_little_room() {
    let config = ProptestConfig { cases: 12_000, failure_persistence: None, ..ProptestConfig::default() };
    let steps = proptest::collection::vec((any::<Step>(), any::<u8>()), 1..80);
    let mut runner = proptest::test_runner::TestRunner::new(config);
    runner
        .run(&(steps, 1usize..6), |(steps, max_open)| {
            run_in_little_room(&steps, max_open);
            Ok(())
        })
        .unwrap();
}

#[test]
fn books_balance_and_restarts_change_nothing() {
    let cases = 12_000;
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let steps = proptest::collection::vec((any::<Step>(), any::<u8>()), 1..60);
    let mut runner = proptest::test_runner::TestRunner::new(config);
    runner
        .run(&(steps, proptest::collection::vec(0usize..60, 1..4)), |(steps, cuts)| {
            let (facts, books) = run(&steps, &[]);
            let (facts_cut, books_cut) = run(&steps, &cuts);
            prop_assert_eq!(facts, facts_cut);
            prop_assert_eq!(books, books_cut);
            Ok(())
        })
        .unwrap();
    let seen = SEEN.lock().unwrap();
    let spoke = SPOKE.lock().unwrap();
    println!("{cases} cases; events: {seen:?}; verdicts: {spoke:?}");
    assert_eq!(spoke.len(), 4, "each signal spoke: {spoke:?}");
    assert_eq!(seen.len(), 25, "every kind of event occurred: {seen:?}");
}
