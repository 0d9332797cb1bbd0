//! What an Exim main log counts to: small logs of one case each, with the figures a person worked out for them; the
//! books balance after every line, and whatever line the log begins with.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

#[path = "corpus/mod.rs"]
mod corpus;
#[path = "golden/situations.rs"]
mod situations;

use sendwarden::engine::attribution::User;
use sendwarden::engine::directory::{AccountSpec, Directory, Policy};
use sendwarden::engine::replies::Replies;
use sendwarden::engine::tracker::RowKind;
use sendwarden::engine::tracker::Settings;
use sendwarden::engine::{Engine, Sink};
use sendwarden::mail::{Accepted, Counts, Fact, Kind, RecipientState, Submitter, Time};
use sendwarden::mta::exim::Exim;
use sendwarden::mta::syslog::Stamps;
use sendwarden::mta::{Mta, Read};
use std::collections::BTreeMap;

/// `SECOND TEXT`, in which the words `A`, `B` and `C` are message ids.
fn line(text: &str) -> String {
    let (second, text) = text.trim().split_once(' ').unwrap();
    let word = |word: &str| match word {
        "A" | "B" | "C" => format!("1xVRO{word}-0001BH-2c"),
        "R=A" => "R=1xVROA-0001BH-2c".to_owned(),
        "R=B" => "R=1xVROB-0001BH-2c".to_owned(),
        word => word.to_owned(),
    };
    format!("2026-11-23 10:35:{second:0>2} {}", text.split(' ').map(word).collect::<Vec<_>>().join(" "))
}

fn directory() -> Directory {
    let shop = AccountSpec {
        id: "shop".into(),
        unix_users: vec!["shopper".into()],
        logins: vec!["box@shop.test".into()],
        domains: vec!["claimed.test".into()],
        ..AccountSpec::default()
    };
    Directory::build(vec![shop], Policy::default()).unwrap()
}

/// Users that the name service knows.
fn passwd(login: &[u8]) -> Option<User> {
    let (uid, login) = match login {
        b"web1" => (2001, "web1"),
        b"www-data" => (33, "www-data"),
        b"daemon" => (200, "daemon"),
        b"root" => (0, "root"),
        _ => return None,
    };
    Some(User { uid, login: login.to_owned(), home: format!("/home/{login}") })
}

fn read(log: &[String]) -> Engine {
    read_with(log, directory(), passwd)
}

fn read_with(log: &[String], directory: Directory, passwd: impl Fn(&[u8]) -> Option<User>) -> Engine {
    let mut engine = empty(directory);
    feed(log, &mut engine, passwd, &mut ());
    engine.finish(&mut ());
    engine
}

fn empty(directory: Directory) -> Engine {
    let settings = Settings { details: true, keep_rows: true, ..Settings::default() };
    Engine::new(settings, directory, Replies::default(), 42)
}

fn feed(log: &[String], engine: &mut Engine, passwd: impl Fn(&[u8]) -> Option<User>, sink: &mut impl Sink) {
    let mut exim = Exim::new(Stamps { zone: jiff::tz::TimeZone::UTC, reference: Time::from_secs(1_795_500_000) });
    for line in log {
        match exim.read(line.as_bytes()) {
            Read::Event(event) => {
                if let Kind::Accepted(Accepted { by: Submitter::User(login), .. }) = event.kind {
                    engine.attribution.learn_login(login, passwd(login));
                }
                engine.observe(&event, sink);
            }
            Read::Unknown(unknown) => panic!("{line}: {}", unknown.why),
            _ => {}
        }
        let mut queued = 0;
        for (owner, account) in engine.ledger.owners() {
            assert!(account.counts.balance(), "{owner:?} {:?} after {line}", account.counts);
            queued += account.counts.queued;
        }
        assert_eq!(queued, engine.tracker.open_recipients(), "after {line}");
    }
}

/// Figures that are not zero, in short: `web1 messages=1 recipients=2 sent=2`.
fn figures(engine: &Engine) -> Vec<String> {
    let show = |counts: &Counts| {
        let all = [
            ("messages", counts.messages),
            ("recipients", counts.recipients),
            ("sent", counts.sent),
            ("bounced", counts.bounced),
            ("expired", counts.expired),
            ("deleted", counts.deleted),
            ("unaccounted", counts.unaccounted),
            ("deferred", counts.deferred),
            ("queued", counts.queued),
            ("held", counts.held),
        ];
        all.iter().filter(|(_, n)| *n > 0).map(|(name, n)| format!(" {name}={n}")).collect::<String>()
    };
    let mut out: Vec<String> = engine
        .ledger
        .owners()
        .filter(|(_, account)| !account.counts.is_zero())
        .map(|(owner, account)| format!("{}{}", engine.attribution.accounts.name(owner), show(&account.counts)))
        .collect();
    out.sort();
    out
}

/// Name, log, figures.
const CASES: &[(&str, &str, &[&str])] = &[
    (
        "one recipient, named at once",
        "01 A <= w@l.test U=web1 P=local S=360 T=\"x\" for a@d.test
         02 A => a@d.test R=remote T=smtp H=mx [192.0.2.7] C=\"250 2.0.0 Ok\"
         02 A Completed",
        &["web1 messages=1 recipients=1 sent=1"],
    ),
    (
        "no list: recipients are booked as lines name them",
        "01 A <= w@l.test U=web1 P=local S=360
         02 A => a@d.test R=remote T=smtp H=mx [192.0.2.7]
         02 A -> b@d.test R=remote T=smtp H=mx [192.0.2.7]
         02 A == c@d.test R=remote T=smtp defer (111): Connection refused
         03 A == c@d.test R=remote T=smtp defer (111): Connection refused
         04 A ** c@d.test R=remote T=smtp H=mx [192.0.2.7]: 550 5.1.1 no
         04 A Completed",
        &["web1 messages=1 recipients=3 sent=2 bounced=1 deferred=2"],
    ),
    (
        "still queued",
        "01 A <= w@l.test U=web1 P=local S=360
         02 A == c@d.test R=remote T=smtp defer (111): Connection refused",
        &["web1 messages=1 recipients=1 deferred=1 queued=1"],
    ),
    (
        "a list becomes three, two of them local",
        "01 A <= w@l.test U=web1 P=local S=360 for list@l.test x@d.test
         02 A => a <list@l.test> R=localr T=local
         02 A => b <list@l.test> R=localr T=local
         02 A => c@d.test <list@l.test> R=remote T=smtp H=mx [192.0.2.7]
         02 A -> x@d.test R=remote T=smtp H=mx [192.0.2.7]
         02 A Completed",
        &["web1 messages=1 recipients=4 sent=4"],
    ),
    (
        "one of a list is still queued",
        "01 A <= w@l.test U=web1 P=local S=360 for list@l.test
         02 A => a <list@l.test> R=localr T=local
         02 A == b@d.test <list@l.test> R=remote T=smtp defer (111): Connection refused",
        &["web1 messages=1 recipients=2 sent=1 deferred=1 queued=1"],
    ),
    (
        "a local delivery is put off, then done under its local part",
        "01 A <= w@l.test U=web1 P=local S=360
         02 A == a@l.test <list@l.test> R=localr T=local defer (-22): mailbox is full
         03 A => b <list@l.test> R=localr T=local
         04 A => a <list@l.test> R=localr T=local
         04 A Completed",
        &["web1 messages=1 recipients=2 sent=2 deferred=1"],
    ),
    (
        "an alias is put off as a whole before it is expanded",
        "01 A <= w@l.test U=web1 P=local S=360 for list@l.test
         02 A == list@l.test routing defer (-51): lookup failed
         03 A => a <list@l.test> R=localr T=local
         03 A => b@d.test <list@l.test> R=remote T=smtp H=mx [192.0.2.7]
         03 A Completed",
        &["web1 messages=1 recipients=2 sent=2 deferred=1"],
    ),
    (
        "a list that is a member of itself",
        "01 A <= w@l.test U=web1 P=local S=360 for list@l.test
         02 A => b@d.test <list@l.test> R=remote T=smtp H=mx [192.0.2.7]
         02 A => list <list@l.test> R=localr T=local
         02 A Completed",
        &["web1 messages=1 recipients=2 sent=2"],
    ),
    (
        "a list that contains another recipient",
        "01 A <= w@l.test U=web1 P=local S=360 for x@d.test list@l.test a@l.test
         02 A => a <list@l.test> R=localr T=local
         02 A => b@d.test <list@l.test> R=remote T=smtp H=mx [192.0.2.7]
         02 A -> x@d.test R=remote T=smtp H=mx [192.0.2.7]
         02 A Completed",
        &["web1 messages=1 recipients=3 sent=3"],
    ),
    (
        "the same, where recipients are not logged",
        "01 A <= w@l.test U=web1 P=local S=360
         02 A => a <list@l.test> R=localr T=local
         02 A => b@d.test <list@l.test> R=remote T=smtp H=mx [192.0.2.7]
         02 A -> x@d.test R=remote T=smtp H=mx [192.0.2.7]
         02 A Completed",
        &["web1 messages=1 recipients=3 sent=3"],
    ),
    (
        "an alias of another recipient, and that one put off",
        "01 A <= w@l.test U=web1 P=local S=360 for alias@l.test a@d.test
         02 A == a@d.test <alias@l.test> R=remote T=smtp defer (111): Connection refused
         03 A ** a@d.test <alias@l.test> R=remote T=smtp H=mx [192.0.2.7]: 550 no
         03 A Completed",
        &["web1 messages=1 recipients=2 bounced=2 deferred=1"],
    ),
    (
        "two lists with the same members",
        "01 A <= w@l.test U=web1 P=local S=360 for all@l.test staff@l.test
         02 A => a <all@l.test> R=localr T=local
         02 A => b <all@l.test> R=localr T=local
         02 A Completed",
        &["web1 messages=1 recipients=3 sent=3"],
    ),
    (
        "a list put off as a whole, whose only member was a recipient",
        "01 A <= w@l.test U=web1 P=local S=360 for list@l.test a@d.test b@d.test
         02 A == list@l.test routing defer (-51): lookup failed
         02 A == a@d.test R=remote T=smtp defer (111): Connection refused
         02 A => b@d.test R=remote T=smtp H=mx [192.0.2.7]
         03 A => a@d.test <list@l.test> R=remote T=smtp H=mx [192.0.2.7]
         03 A Completed",
        &["web1 messages=1 recipients=3 sent=3 deferred=2"],
    ),
    (
        "a list put off as a whole, whose only member is named by its line",
        "01 A <= w@l.test U=web1 P=local S=360 for list@l.test a@d.test
         02 A == list@l.test routing defer (-51): lookup failed
         03 A => a@d.test <list@l.test> R=remote T=smtp H=mx [192.0.2.7]
         03 A Completed",
        &["web1 messages=1 recipients=2 sent=2 deferred=1"],
    ),
    (
        "a line is lost, and nothing was expanded",
        "01 A <= w@l.test U=web1 P=local S=360 for a@d.test b@l.test c@d.test
         02 A => a@d.test R=remote T=smtp H=mx [192.0.2.7]
         02 A => b <b@l.test> R=localr T=local
         02 A Completed",
        &["web1 messages=1 recipients=3 sent=2 unaccounted=1"],
    ),
    (
        "the same recipient twice, and the domain in another case",
        "01 A <= w@l.test U=web1 P=local S=360 for a@d.test b@d.test a@D.test
         02 A => a@D.test R=remote T=smtp H=mx [192.0.2.7]
         02 A == b@d.test R=remote T=smtp defer (111): Connection refused
         03 A => b@D.TEST R=remote T=smtp H=mx [192.0.2.7]
         03 A Completed",
        &["web1 messages=1 recipients=2 sent=2 deferred=1"],
    ),
    (
        "tried for too long; the bounce is nobody's",
        "01 A <= w@l.test U=web1 P=local S=360 for a@d.test b@d.test
         02 A == a@d.test R=remote T=smtp defer (-44) H=mx [192.0.2.7]: 451 4.7.1 later
         02 A ** a@d.test: retry timeout exceeded
         02 A ** b@d.test: Unrouteable address
         02 B <= <> R=A U=Debian-exim P=local S=500 for w@l.test
         02 A Completed
         03 B => w <w@l.test> R=localr T=local
         03 B Completed",
        &["bounce messages=1 recipients=1 sent=1", "web1 messages=1 recipients=2 bounced=1 expired=1 deferred=1"],
    ),
    (
        "a user who pretends to bounce",
        "01 A <= <> R=B U=web1 P=local S=360 for a@d.test
         02 A => a@d.test R=remote T=smtp H=mx [192.0.2.7]
         02 A Completed",
        &["web1 messages=1 recipients=1 sent=1"],
    ),
    (
        "frozen on arrival, thawed, delivered",
        "01 A <= w@l.test U=web1 P=local S=360 for a@d.test b@d.test
         01 A frozen by ACL
         02 A unfrozen by root
         03 A => a@d.test R=remote T=smtp H=mx [192.0.2.7]
         03 A frozen by root",
        &["web1 messages=1 recipients=2 sent=1 queued=1 held=1"],
    ),
    (
        "held by our access rule, released, delivered",
        "01 A sendwarden: HOLD user:web1
         01 A <= w@l.test U=web1 P=local S=360 for a@d.test b@d.test
         02 B sendwarden: HOLD auth:box@shop.test
         03 B <= box@shop.test H=(c) [192.0.2.9] P=esmtpa A=plain:box@shop.test S=9 for a@d.test
         03 B frozen by ACL
         04 A unfrozen by root
         05 A => a@d.test R=remote T=smtp H=mx [192.0.2.7]
         05 A -> b@d.test R=remote T=smtp H=mx [192.0.2.7]
         05 A Completed",
        &["shop messages=1 recipients=1 queued=1 held=1", "web1 messages=1 recipients=2 sent=2"],
    ),
    (
        "held, and refused all the same",
        "01 A sendwarden: HOLD auth:box@shop.test
         01 A H=(c) [192.0.2.9] F=<s@d.test> rejected after DATA: no",
        &[],
    ),
    (
        "kept back by our routers: no attempt, and no recipient",
        "01 A <= w@l.test U=web1 P=local S=360
         02 A == h17@m1xvroa-0001bh-2c.sendwarden-hold.invalid <a@d.test> R=defer_by_sendwarden defer (-1): held by sendwarden
         02 A == h18@m1xvroa-0001bh-2c.sendwarden-hold.invalid <b@d.test> R=defer_by_sendwarden defer (-1): held by sendwarden
         02 B == h18@m1xvrob-0001bh-2c.sendwarden-hold.invalid <b@d.test> R=defer_by_sendwarden defer (-1): held by sendwarden
         03 A frozen by root",
        &["web1 messages=1 recipients=1 queued=1 held=1"],
    ),
    (
        "removed by its user",
        "01 A <= w@l.test U=web1 P=local S=360 for a@d.test b@d.test
         02 A => a@d.test R=remote T=smtp H=mx [192.0.2.7]
         03 A removed by web1
         03 A Completed",
        &["web1 messages=1 recipients=2 sent=1 deleted=1"],
    ),
    (
        "given up: a message bounces, a bounce of a user's own is dropped without a line",
        "01 A <= w@l.test U=web1 P=local S=360 for a@d.test
         01 B <= <> U=web1 P=local S=360 for a@d.test
         02 A cancelled by root
         02 A ** a@d.test: delivery cancelled by administrator
         02 A Completed
         02 B cancelled by timeout_frozen_after
         02 B Completed",
        &["web1 messages=2 recipients=2 bounced=1 deleted=1"],
    ),
    (
        "an administrator takes one off and adds one",
        "01 A <= w@l.test U=web1 P=local S=360 for a@d.test
         02 A address <a@d.test> marked delivered by root
         02 A recipient <b@d.test> added by root
         03 A => b@d.test R=remote T=smtp H=mx [192.0.2.7]
         03 A Completed",
        &["web1 messages=1 recipients=2 sent=1 deleted=1"],
    ),
    (
        "thrown away by the server's rules",
        "01 A <= w@l.test U=web1 P=local S=360
         01 A => blackhole (non-SMTP ACL discarded recipients)
         01 A Completed
         02 B <= w@l.test U=web1 P=local S=360 for a@d.test b@d.test
         02 B => discarded (system filter)
         02 B Completed",
        &["web1 messages=2 recipients=3 deleted=3"],
    ),
    (
        "two aliases to nowhere, two commands and two files of one name",
        "01 A <= w@l.test U=web1 P=local S=360 for v@l.test n@l.test p@l.test q@l.test f@l.test g@l.test
         02 A => :blackhole: <v@l.test> R=aliases
         02 A => :blackhole: <n@l.test> R=aliases
         02 A => |/usr/bin/x <p@l.test> R=aliases T=address_pipe
         02 A => |/usr/bin/x <q@l.test> R=aliases T=address_pipe
         02 A => /dev/null <f@l.test> R=aliases T=**bypassed**
         02 A => /dev/null <g@l.test> R=aliases T=**bypassed**
         02 A Completed",
        &["web1 messages=1 recipients=6 sent=4 deleted=2"],
    ),
    (
        "handed on while it was received",
        "01 A >> a@d.test R=remote T=smtp H=mx [192.0.2.7] C=\"250 ok\"
         01 A <= box@shop.test H=(c) [192.0.2.9] P=esmtpa A=plain:box@shop.test S=9 for a@d.test
         01 A Completed",
        &["shop messages=1 recipients=1 sent=1"],
    ),
    (
        "handed on, and refused all the same",
        "01 A >> a@d.test R=remote T=smtp H=mx [192.0.2.7] C=\"250 ok\"
         01 A H=(c) [192.0.2.9] F=<s@d.test> rejected after DATA: no",
        &[],
    ),
    (
        "a test that delivers nothing",
        "01 A <= root@l.test U=root P=local S=9 for a@d.test
         01 A *> a@d.test R=remote T=smtp H=mx [192.0.2.7] C=\"delivery bypassed by -N option\"
         01 A Completed",
        &["system_uid messages=1 recipients=1 deleted=1"],
    ),
    (
        "who is who",
        "01 A <= w@l.test U=shopper P=local S=9 for a@d.test
         02 B <= w@l.test U=www-data P=local S=9 for a@d.test
         03 C <= w@l.test U=daemon P=local S=9 for a@d.test",
        &[
            "shop messages=1 recipients=1 queued=1",
            "system_uid messages=1 recipients=1 queued=1",
            "web_server_uid messages=1 recipients=1 queued=1",
        ],
    ),
    (
        "a user whom the name service does not know, a stranger with a user's ident, a claimed domain over loopback",
        "01 A <= w@l.test U=gone P=local S=9 for a@d.test
         02 B <= w@l.test H=(c) [192.0.2.66] U=web1 P=esmtp S=9 for a@d.test
         03 C <= w@claimed.test H=(c) [127.0.0.1] P=esmtp S=9 for a@d.test",
        &[
            "gone messages=1 recipients=1 queued=1",
            "incoming messages=1 recipients=1 queued=1",
            "shop messages=1 recipients=1 queued=1",
        ],
    ),
    (
        "through a filter and back: one message",
        "01 A <= w@l.test U=web1 P=local S=9 for a@d.test b@d.test
         02 B <= w@l.test H=localhost [127.0.0.1] P=scanned S=9 id=E1xVROA-0001BH-2c@l.test for a@d.test b@d.test
         02 A => a@d.test R=filter T=filter H=127.0.0.1 [127.0.0.1]:10024 C=\"250 2.0.0 from MTA: 250 OK id=1xVROB-0001BH-2c\"
         02 A -> b@d.test R=filter T=filter H=127.0.0.1 [127.0.0.1]:10024 C=\"250 2.0.0 from MTA: 250 OK id=1xVROB-0001BH-2c\"
         02 A Completed
         03 B => a@d.test R=remote T=smtp H=mx [192.0.2.7]
         03 B ** b@d.test R=remote T=smtp H=mx [192.0.2.7]: 550 no
         03 B Completed",
        &["web1 messages=1 recipients=2 sent=1 bounced=1"],
    ),
    (
        "a remote server that names another's message joins nothing",
        "01 A <= w@l.test U=web1 P=local S=9 id=m@l.test for a@d.test
         02 B <= box@shop.test H=(c) [192.0.2.9] P=esmtpa A=plain:box@shop.test S=9 id=m@l.test for a@d.test
         02 A => a@d.test R=remote T=smtp H=mx [192.0.2.7] C=\"250 OK id=1xVROB-0001BH-2c\"
         02 A Completed
         03 B => a@d.test R=remote T=smtp H=mx [192.0.2.7]
         03 B Completed",
        &["shop messages=1 recipients=1 sent=1", "web1 messages=1 recipients=1 sent=1"],
    ),
    (
        "open when the log begins",
        "01 A == a@d.test R=remote T=smtp defer (111): Connection refused
         02 A => b <list@l.test> R=localr T=local
         02 A => c <list@l.test> R=localr T=local
         03 A => a@d.test R=remote T=smtp H=mx [192.0.2.7]
         03 A Completed
         04 B Message is frozen
         05 C Completed",
        &["opened_before_log recipients=3 sent=3 deferred=1"],
    ),
];

#[test]
fn every_case_gives_the_worked_out_figures() {
    let mut wrong = Vec::new();
    for (name, log, want) in CASES {
        let log: Vec<String> = log.lines().map(line).collect();
        let got = figures(&read(&log));
        if got != *want {
            wrong.push(format!("{name}: {got:#?}\nwanted {want:#?}\n{}", log.join("\n")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// Saved and taken up again behind any line, the figures are the same.
#[test]
fn a_restart_behind_any_line_changes_no_figure() {
    for (name, log, want) in CASES {
        let log: Vec<String> = log.lines().map(line).collect();
        for cut in 1..log.len() {
            let mut old = empty(directory());
            feed(&log[..cut], &mut old, passwd, &mut ());
            let mut rows: BTreeMap<(u8, Vec<u8>), Vec<u8>> = BTreeMap::new();
            old.take_rows(|row| {
                let key = (row.kind.code(), row.key);
                match row.value {
                    Some(value) => rows.insert(key, value),
                    None => rows.remove(&key),
                };
            });
            let mut new = empty(directory());
            for known in old.attribution.accounts.iter() {
                new.attribution.accounts.restore(known.clone());
            }
            new.attribution.accounts.reserve_below(old.attribution.accounts.next());
            let accounts: Vec<_> = old.ledger.owners().map(|(owner, account)| (owner, *account)).collect();
            for (owner, account) in accounts {
                new.ledger.restore(owner, account);
            }
            for ((kind, key), value) in &rows {
                assert!(
                    new.restore_row(RowKind::from_code(*kind).unwrap(), key, value),
                    "{name}: a row must read back"
                );
            }
            feed(&log[cut..], &mut new, passwd, &mut ());
            new.finish(&mut ());
            assert_eq!(figures(&new), *want, "{name}, cut behind line {cut}");
        }
    }
}

/// The recipients of messages, with what is said of each.
#[derive(Default)]
struct Told(Vec<(String, &'static str, u32)>);

impl Sink for Told {
    fn fact(&mut self, fact: &Fact<'_>) {
        if let Fact::Leg(leg) = fact {
            let shown = |address: &[u8]| String::from_utf8_lossy(address).into_owned();
            self.0
                .extend(leg.recipients.iter().map(|one| (shown(one.texts.address()), one.state.name(), one.attempts)));
        }
    }
}

/// Whom a message is for is known from its acceptance on, so that it is found while it waits.
#[test]
fn recipients_are_told_before_anything_is_tried() {
    let told = |log: &[&str]| {
        let log: Vec<String> = log.iter().map(|text| line(text)).collect();
        let (mut engine, mut told) = (empty(directory()), Told::default());
        feed(&log, &mut engine, passwd, &mut told);
        engine.tell_open(&mut told);
        told.0
    };
    let all = |list: &[(&str, &'static str, u32)]| -> Vec<(String, &'static str, u32)> {
        list.iter().map(|(address, state, attempts)| ((*address).to_owned(), *state, *attempts)).collect()
    };
    let accepted = "01 A <= w@l.test U=web1 P=local S=360 for a@d.test list@l.test b@l.test";
    let frozen = "01 A frozen by ACL";
    let waits = [("a@d.test", "queued", 0), ("list@l.test", "queued", 0), ("b@l.test", "queued", 0)];
    assert_eq!(told(&[accepted, frozen]), all(&waits));
    let put_off = "02 A == a@d.test R=remote T=smtp defer (111): Connection refused";
    // A mailbox is logged by its local part: it is the recipient that was told before.
    let local = "02 A => b <b@l.test> R=localr T=local";
    let member = "02 A => c@d.test <list@l.test> R=remote T=smtp H=mx [192.0.2.7]";
    let later =
        [("a@d.test", "deferred", 1), ("list@l.test", "expanded", 0), ("b@l.test", "sent", 1), ("c@d.test", "sent", 1)];
    assert_eq!(told(&[accepted, put_off, local, member]), all(&later));
    // Its line is lost; and in the end nobody is said to wait.
    let (other, done) = ("02 A => a@d.test R=remote T=smtp H=mx [192.0.2.7]", "03 A Completed");
    let lost = [("a@d.test", "sent", 1), ("list@l.test", "unaccounted", 0), ("b@l.test", "sent", 1)];
    assert_eq!(told(&[accepted, other, local, done]), all(&lost));
    let removed = [("a@d.test", "deleted", 0), ("list@l.test", "deleted", 0), ("b@l.test", "deleted", 0)];
    assert_eq!(told(&[accepted, "02 A removed by web1"]), all(&removed));
    let states = ["deferred", "handed", "queued", "expanded", "sent", "bounced", "expired", "deleted", "unaccounted"];
    let coded: Vec<&str> =
        [0, 1, 7, 8, 2, 3, 4, 5, 6].map(|code| RecipientState::from_code(code).unwrap().name()).into();
    assert_eq!((coded, RecipientState::from_code(9)), (states.to_vec(), None));
}

/// Begun in the middle, a log never counts a message it did not see arrive, and never more recipients than the whole.
#[test]
fn a_log_that_begins_at_any_line_counts_no_more() {
    for (name, log, _) in CASES {
        let log: Vec<String> = log.lines().map(line).collect();
        let whole = read(&log).ledger.total();
        for start in 1..log.len() {
            let part = read(&log[start..]).ledger.total();
            let arrivals = log[start..].iter().filter(|line| line.contains(" <= ")).count() as u64;
            assert!(part.messages <= arrivals.min(whole.messages), "{name} from line {start}: {part:?}");
            assert!(part.recipients <= whole.recipients, "{name} from line {start}: {part:?}, whole: {whole:?}");
            // What was handed on before the log began, of a message accepted after, is a lost line.
            let lost = log[..start].iter().filter(|line| line.contains(" >> ")).count() as u64;
            assert!(part.unaccounted <= whole.unaccounted + lost, "{name} from line {start}: {part:?}");
        }
    }
}

/// The worked-out situations, without the program around.
#[test]
fn every_situation_gives_the_worked_out_figures() {
    let known = |login: &[u8]| (login == b"root").then(|| User { uid: 0, login: "root".into(), home: "/root".into() });
    let mut wrong = Vec::new();
    for situation in situations::exim() {
        let log: Vec<String> = situation.log.lines().map(str::to_owned).collect();
        let engine = read_with(&log, Directory::default(), known);
        let (mut accounts, mut reasons) = (serde_json::Map::new(), serde_json::Map::new());
        for (owner, account) in engine.ledger.owners() {
            let to = if owner.is_account() { &mut accounts } else { &mut reasons };
            to.insert(engine.attribution.accounts.name(owner).to_owned(), json_of(&account.counts));
        }
        let got = serde_json::json!({
            "totals": json_of(&engine.ledger.total()), "accounts": accounts, "unattributed_by_reason": reasons,
        });
        let differences = situation.expected.differences(&corpus::Books::from_json(&got), true);
        wrong.extend(differences.into_iter().map(|difference| format!("{}: {difference}", situation.name)));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn json_of(counts: &Counts) -> serde_json::Value {
    serde_json::json!({
        "messages": counts.messages, "recipients": counts.recipients, "sent": counts.sent, "bounced": counts.bounced,
        "expired": counts.expired, "deleted": counts.deleted, "unaccounted": counts.unaccounted,
        "deferred": counts.deferred, "queued": counts.queued, "held": counts.held,
    })
}
