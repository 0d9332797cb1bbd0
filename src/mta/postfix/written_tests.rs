//! Properties: any bytes are survived, and lines written from known fields with hostile text give these fields back.
//! The writer below is made from the manual, not from the reader.

use super::shape_tests::reader;
use super::*;
use crate::mail::{Dsn, Kind, Status};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::{LazyLock, Mutex};

/// Pieces a hostile text is made of.
const PIECES: [&str; 24] = [
    ", relay=evil[192.0.2.66]:25",
    ", delay=0",
    ", delays=0/0/0/0",
    ", dsn=2.0.0",
    ", status=sent (250 ok)",
    ">",
    "<",
    "\"",
    "\\",
    "@",
    "[",
    "]",
    ")",
    "(",
    ", ",
    " ",
    "; from=<a@b>",
    ": removed",
    " to=<x@y>",
    "orig_to=<q>",
    "queued as ABCDEF1",
    ", sasl_username=eve",
    "é",
    "x",
];

fn hostile() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(PIECES.to_vec()), 0..12).prop_map(|pieces| pieces.concat())
}

/// An address in the form of 3.5 and later: the local part is quoted when it has to be.
fn address() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z]{1,8}@[a-z]{1,8}\\.test".boxed(),
        hostile().prop_map(|local| format!("\"{}\"@d.test", local.replace('\\', "\\\\").replace('"', "\\\""))).boxed(),
    ]
}

static SHAPES: LazyLock<Mutex<BTreeMap<String, u32>>> = LazyLock::new(Mutex::default);

fn count(shape: String) {
    *SHAPES.lock().unwrap().entry(shape).or_default() += 1;
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12_000))]

    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200), text in hostile(), daemon in 0usize..8, shape in 0usize..8) {
        let daemon = ["smtp", "smtpd", "qmgr", "pickup", "cleanup", "bounce", "postsuper", "local"][daemon];
        let shape = ["to=<", "from=<", "client=", "uid=1 from=<", "hold: ", "message-id=", "sender delay notification: ", ""][shape];
        let mut reader = reader();
        reader.read(&bytes);
        let mut line = format!("Nov 23 10:33:28 mx postfix/{daemon}[42]: 8C47DB6051: {shape}{text}").into_bytes();
        reader.read(&line);
        line.extend_from_slice(&bytes);
        reader.read(&line);
        reader.restore(&bytes);
        let mut stamped = b"2026-11-23T10:33:28".to_vec();
        stamped.extend_from_slice(&bytes);
        reader.read(&stamped);
    }

    fn written_deliveries_come_back(
        to in address(), original in prop::option::of(address()), reply in hostile(),
        conn_use in prop::option::of(2u32..99), new in any::<bool>(), tls in any::<bool>(), status in 0usize..4, hundredths in 0u64..99_999,
    ) {
        let (word, want) = [("sent", Status::Sent), ("deferred", Status::Deferred), ("bounced", Status::Bounced), ("SOFTBOUNCE", Status::Deferred)][status];
        let mut line = format!("2026-11-23T10:33:28+00:00 mx postfix/smtp[42]: 4jY2SQ3blzz5bcl: to=<{to}>");
        if let Some(original) = &original {
            line += &format!(", orig_to=<{original}>");
        }
        line += ", relay=mx.test[2001:db8::25]:25";
        if let Some(conn_use) = conn_use {
            line += &format!(", conn_use={conn_use}");
        }
        line += &match new {
            true => format!(", delay={}.{:02}, delays=1/2/3/0.04", hundredths / 100, hundredths % 100),
            false => format!(", delay={hundredths}"),
        };
        if tls && new {
            line += ", tls=required, verified";
        }
        if new {
            line += ", dsn=4.7.650";
        }
        line += &format!(", status={word} ({reply})");
        count(format!("status={word} orig={} conn={} new={new} tls={}", original.is_some(), conn_use.is_some(), tls && new));
        let mut reader = reader();
        let Read::Event(Event { kind: Kind::Attempt(attempt), head }) = reader.read(line.as_bytes()) else {
            return Err(TestCaseError::fail(line));
        };
        prop_assert_eq!(head.instance, b"postfix");
        prop_assert_eq!(attempt.recipient, to.as_bytes());
        prop_assert_eq!(attempt.original, original.as_deref().unwrap_or_default().as_bytes());
        prop_assert_eq!(attempt.relay, b"mx.test[2001:db8::25]:25");
        prop_assert_eq!(attempt.relay_address, b"2001:db8::25");
        prop_assert_eq!(attempt.status, want);
        prop_assert_eq!(attempt.reply, reply.as_bytes());
        prop_assert_eq!(attempt.delay_ms, if new { hundredths * 10 } else { hundredths * 1_000 });
        prop_assert_eq!(attempt.dsn, if new { Dsn::new(4, 7, 650) } else { Dsn::NONE });
    }

    fn written_arrivals_come_back(
        sender in address(), given in hostile(), login in prop::option::of(hostile()), uid in any::<u32>(), size in any::<u64>(), n in any::<u32>(),
        zone in -12i64..12, micros in 0i64..1_000_000,
    ) {
        let stamp = format!("2026-11-23T10:33:28.{micros:06}{}{:02}:00", if zone < 0 { '-' } else { '+' }, zone.abs());
        let at = Time((1_795_430_008 - zone * 3_600) * 1_000_000 + micros);
        let id = crate::mail::QueueId::new(b"8C47DB6051").unwrap();
        let mut reader = reader();
        let mut expect = |daemon: &str, text: String, want: Kind<'_>| {
            let line = format!("{stamp} mx mta/sub/{daemon}[42]: 8C47DB6051: {text}");
            count(daemon.to_string());
            match reader.read(line.as_bytes()) {
                Read::Event(event) if event.kind == want && event.head.at == at && event.head.instance == b"mta" => Ok(()),
                other => Err(TestCaseError::fail(format!("{line}: {other:?}"))),
            }
        };
        expect("pickup", format!("uid={uid} from=<{given}>"), Kind::Submitted { id, uid, sender: given.as_bytes(), requeued_from: None })?;
        expect("pickup", format!("uid={uid} from=<{given}> orig_id=8C47DB6051"), Kind::Submitted { id, uid, sender: given.as_bytes(), requeued_from: Some(id) })?;
        expect("qmgr", format!("from=<{sender}>, size={size}, nrcpt={n} (queue active)"), Kind::Activated { id, sender: sender.as_bytes(), size, recipients: n })?;
        expect("qmgr", format!("from=<{sender}>, status=expired, returned to sender"), Kind::Expired { id })?;
        expect("cleanup", format!("message-id=x{given}"), Kind::Identified { id, message_id: format!("x{given}").as_bytes() })?;
        let sasl = login.as_ref().map(|login| format!(", sasl_method=PLAIN, sasl_username={login}")).unwrap_or_default();
        expect("smtpd", format!("client=c.test[192.0.2.9]:77{sasl}"), Kind::Received { id, client: b"c.test", address: b"192.0.2.9", login: login.as_ref().map(String::as_bytes), hop_of: None })?;
        if let Some(login) = &login {
            expect("smtpd", format!("client=c.test[192.0.2.9]{sasl}, sasl_sender=a+2Bb@c"), Kind::Received { id, client: b"c.test", address: b"192.0.2.9", login: Some(login.as_bytes()), hop_of: None })?;
        }
    }
}

#[test]
fn written_lines_come_back() {
    written_deliveries_come_back();
    written_arrivals_come_back();
    let shapes = SHAPES.lock().unwrap();
    for (shape, times) in shapes.iter() {
        println!("{times:6} {shape}");
    }
    // 4 status words, with or without each optional field, and the daemons of arrivals.
    assert_eq!(shapes.len(), 4 * 2 * 2 * 3 + 4, "a shape was never written");
}
