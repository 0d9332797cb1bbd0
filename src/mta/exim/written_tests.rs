//! Properties: any bytes are survived, and lines written from known fields with hostile text give these fields back.
//! The writer below is made from the manual (string_printing, string_log_address), not from the reader.

use super::shape_tests::reader;
use super::*;
use crate::mail::{Dsn, Kind, Status, Submitter};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::{LazyLock, Mutex};

/// Pieces a hostile text is made of.
const PIECES: [&str; 26] = [
    " R=x",
    " T=y",
    " T=\"",
    " H=127.0.0.1 [127.0.0.1]",
    " U=root",
    " P=local",
    " A=plain:eve",
    " S=1",
    " for a@b",
    " from <a@b>",
    " C=\"250 OK\"",
    ": ",
    ":",
    ">",
    "<",
    "\"",
    "\\",
    "@",
    "[",
    "]",
    ")",
    "(",
    " ",
    "Completed",
    "é",
    "x",
];

fn hostile() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(PIECES.to_vec()), 0..10).prop_map(|pieces| pieces.concat())
}

/// string_printing: quotes and backslashes are escaped, bytes beyond ASCII become octal.
fn printed(text: &str) -> String {
    text.bytes().fold(String::new(), |out, byte| match byte {
        b'"' | b'\\' => out + "\\" + &char::from(byte).to_string(),
        b' '..=b'~' => out + &char::from(byte).to_string(),
        _ => out + &format!("\\{byte:03o}"),
    })
}

/// RFC 5321: a local part that needs them has quotes.
fn address() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z]{1,8}@[a-z]{1,8}\\.test".boxed(),
        hostile().prop_map(|local| format!("\"{}\"@d.test", printed(&local))).boxed(),
    ]
}

static SHAPES: LazyLock<Mutex<BTreeMap<String, u32>>> = LazyLock::new(Mutex::default);

fn count(shape: String) {
    *SHAPES.lock().unwrap().entry(shape).or_default() += 1;
}

const STAMPS: [&str; 4] = [
    "2026-11-23 10:35:42",
    "2026-11-23 10:35:42.250",
    "2026-11-23 11:35:42 +0100",
    "2026-11-23 10:35:42.250 +0000 [77]",
];
const IDS: [&str; 2] = ["1xVROW-0001BH-2c", "1xVROY-000000001Df-1o0t"];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12_000))]

    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200), text in hostile(), shape in 0usize..12) {
        let shape = ["<= ", "=> ", "** ", "== ", "<= a@b H=", "<= a@b U=", "=> |", "agent: uid=1 user=x rcpts=1 cwd=/", "recipient <", "Completed", "** a@b: SMTP error from remote mail server after ", ""][shape];
        let mut reader = reader();
        reader.read(&bytes);
        for start in [format!("2026-11-23 10:35:42 1xVROW-0001BH-2c {shape}{text}"), format!("2026-11-23 10:35:42 cwd={text}")] {
            let mut line = start.into_bytes();
            reader.read(&line);
            line.extend_from_slice(&bytes);
            reader.read(&line);
            read_text(Time::ZERO, b"", 0, &line);
        }
        reader.restore(&bytes);
    }

    fn written_arrivals_come_back(
        sender in prop::option::of(address()), way in 0usize..3, login in "[a-z]{1,8}", size in any::<u64>(),
        message_id in prop::option::of(address()), subject in prop::option::of(hostile()), raw in prop::option::of(address()),
        to in prop::collection::vec(address(), 0..4), all in any::<bool>(), new in 0usize..2, stamp in 0usize..4,
    ) {
        let from = match way {
            0 => format!("U={login}{} P=local", if all { " Ci=12" } else { "" }),
            1 => format!("H=mx.test (helo.test) [192.0.2.9]:77{} P=esmtpsa X=TLS1.3:a:256 CV=no DN=\"CN=a b\" A=plain:{login}@site.test", if all { " I=[192.0.2.1]:465" } else { "" }),
            _ => format!("H=(helo) [192.0.2.9]{} P=esmtp", if all { " U=ident" } else { "" }),
        };
        let mut line = format!("{} {} <= {} {from} S={size}", STAMPS[stamp], IDS[new], sender.as_deref().unwrap_or("<>"));
        if all {
            line += " M8S=0 RT=0.000s";
        }
        if let Some(message_id) = &message_id {
            line += &format!(" id={message_id}");
        }
        if let Some(subject) = &subject {
            line += &format!(" T=\"{}\"", printed(subject));
        }
        if let Some(raw) = &raw {
            line += &format!(" from <{raw}>");
        }
        if !to.is_empty() {
            line += &format!(" for {}", to.join(" "));
        }
        count(format!("arrival {way} subject={} id={}", subject.is_some(), message_id.is_some()));
        let mut reader = reader();
        let Read::Event(Event { kind: Kind::Accepted(accepted), .. }) = reader.read(line.as_bytes()) else {
            return Err(TestCaseError::fail(line));
        };
        let login_name = format!("{login}@site.test");
        let by = match way {
            0 if super::arrival::OWN_USERS.contains(&login.as_bytes()) => Submitter::Internal,
            0 => Submitter::User(login.as_bytes()),
            1 => Submitter::Login { login: login_name.as_bytes(), client: b"mx.test", address: b"192.0.2.9" },
            _ => Submitter::Smtp { client: b"helo", address: b"192.0.2.9" },
        };
        prop_assert_eq!(accepted.by, by, "{}", line);
        prop_assert_eq!(accepted.id.as_str(), IDS[new]);
        prop_assert_eq!(accepted.sender, sender.as_deref().unwrap_or("").as_bytes());
        prop_assert_eq!(accepted.size, size);
        prop_assert_eq!(accepted.message_id, message_id.as_deref().unwrap_or("").as_bytes());
        let read: Vec<&[u8]> = accepted.recipients.map(|list| list.iter().collect()).unwrap_or_default();
        prop_assert_eq!(read, to.iter().map(String::as_bytes).collect::<Vec<_>>(), "{}", line);
    }

    fn written_deliveries_come_back(
        to in address(), original in prop::option::of(address()), reply in hostile(), status in 0usize..4, all in any::<bool>(),
        old in any::<bool>(), new in 0usize..2, stamp in 0usize..4,
    ) {
        let (flag, want) = [("=>", Status::Sent), ("->", Status::Sent), ("**", Status::Bounced), ("==", Status::Deferred)][status];
        let mut line = format!("{} {} {flag} {to}", STAMPS[stamp], IDS[new]);
        if let Some(original) = &original {
            line += &format!(" <{original}>");
        }
        if all {
            line += " F=<\"a b\"@c.test> Q=low P=<s@d.test>";
        }
        line += " R=remote T=remote_smtp";
        if status == 3 {
            line += " defer (-44)";
        }
        line += " H=mx.test [2001:db8::25]:25";
        let text = printed(&reply);
        if status < 2 {
            if all {
                line += "* X=TLS1.3:a:256 CV=yes DN=\"C=a: b\"";
            }
            line += &format!(" C=\"250 2.7.650 {text}\"");
        } else {
            let colon = if old { ":" } else { " :" };
            line += &format!("{colon} SMTP error from remote mail server after RCPT TO:<{to}>: 450 4.7.650 {text}");
        }
        count(format!("{flag} original={} all={all} old={old}", original.is_some()));
        let mut reader = reader();
        let Read::Event(Event { kind: Kind::Attempt(attempt), .. }) = reader.read(line.as_bytes()) else {
            return Err(TestCaseError::fail(line));
        };
        prop_assert_eq!(attempt.recipient, to.as_bytes(), "{}", line);
        prop_assert_eq!(attempt.original, original.as_deref().unwrap_or("").as_bytes(), "{}", line);
        prop_assert_eq!(attempt.accepted_as, original.as_ref().unwrap_or(&to).as_bytes());
        prop_assert_eq!(attempt.relay, b"mx.test [2001:db8::25]:25", "{}", line);
        prop_assert_eq!(attempt.relay_address, b"2001:db8::25");
        prop_assert_eq!(attempt.status, want, "{}", line);
        let (code, class) = if status < 2 { ("250 2", 2) } else { ("450 4", 4) };
        let words = format!("{code}.7.650 {text}");
        prop_assert_eq!(attempt.reply, words.as_bytes(), "{}", line);
        prop_assert_eq!(attempt.dsn, Dsn::new(class, 7, 650));
    }
}

#[test]
fn written_lines_come_back() {
    written_arrivals_come_back();
    written_deliveries_come_back();
    let shapes = SHAPES.lock().unwrap();
    for (shape, times) in shapes.iter() {
        println!("{times:6} {shape}");
    }
    // 3 ways in with 2 optional fields; 4 flags with 3 choices.
    assert_eq!(shapes.len(), 3 * 4 + 4 * 8, "a shape was never written");
}
