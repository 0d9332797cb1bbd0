//! Lines whose free text imitates fields: the real fields win.

use super::shape_tests::{attempt, reader};
use super::*;
use crate::mail::Kind;

const HEAD: &str = "Nov 23 10:33:28 mx postfix/";
const SENT: &str = ", relay=evil[192.0.2.66]:25, delay=0, delays=0/0/0/0, dsn=2.0.0, status=sent (250 ok)";
const BOUNCED: &str =
    ", relay=mx[192.0.2.1]:25, delay=1, delays=0/0/0/1, dsn=5.1.1, status=bounced (host mx said: 550 no)";

fn says(daemon: &str, text: &str) -> String {
    attempt(format!("{HEAD}{daemon}[42]: 8C47DB6051: {text}").as_bytes()).unwrap_or_else(|| panic!("{text}"))
}

#[test]
fn a_quoted_recipient_cannot_end_its_address() {
    for local in ["\"x>{}\"", "\"x\\\">{}\"", "\"\\\\\\\"a>{}\""] {
        let local = local.replace("{}", SENT);
        let says = says("smtp", &format!("to=<{local}@y>{BOUNCED}"));
        assert!(says.starts_with(&format!("{local}@y||mx[192.0.2.1]:25|")) && says.contains("|Bounced|"), "{says}");
    }
}

#[test]
fn a_domain_literal_cannot_end_its_address() {
    let says = says("error", &format!("to=<x@[a>{SENT}]>{BOUNCED}"));
    assert!(says.contains("|Bounced|host mx said: 550 no|"), "{says}");
}

#[test]
fn an_original_recipient_cannot_end_its_address() {
    let says = says("smtp", &format!("to=<x@y>, orig_to=<\"z>{SENT}\"@y>{BOUNCED}"));
    assert!(says.starts_with("x@y|\"z>") && says.contains("|Bounced|"), "{says}");
}

#[test]
fn a_reply_cannot_replace_the_fields_before_it() {
    for recipient in ["x@y", "\"x y\"@z", "john doe@y", "a>b@y", "x@[192.0.2.1]"] {
        let reply = BOUNCED.replace("no)", &format!("no>{SENT}@y> \"@z>{SENT})"));
        let says = says("smtp", &format!("to=<{recipient}>{reply}"));
        assert!(
            says.starts_with(&format!("{recipient}||mx[192.0.2.1]:25|192.0.2.1|false|1000|5.1.1|Bounced|")),
            "{says}"
        );
    }
}

#[test]
fn error_never_sends_whatever_an_unquoted_recipient_says() {
    let says = says(
        "error",
        &format!("to=<x>{SENT}@y>, relay=none, delay=0, delays=0/0/0/0, dsn=5.1.3, status=bounced (bad address)"),
    );
    assert!(says.contains("|none||false|0|5.1.3|Bounced|bad address|"), "{says}");
}

#[test]
fn logins_and_senders_cannot_name_other_messages() {
    let read = |text: &str| {
        let line = format!("{HEAD}{text}");
        match reader().read(line.as_bytes()) {
            Read::Event(event) => format!("{:?}", event.kind),
            other => format!("{other:?}"),
        }
    };
    let has = |text: &str, bytes: &[u8]| assert!(read(text).contains(&format!("{bytes:?}")), "{text}: {}", read(text));
    // A login from outside stays whole and joins nothing.
    let forged =
        "smtpd[1]: 8C47DB6051: client=h[192.0.2.1], sasl_method=PLAIN, sasl_username=bob, orig_queue_id=ABCDEF123";
    has(forged, b"bob, orig_queue_id=ABCDEF123");
    assert!(read(forged).contains("hop_of: None"));
    // From loopback the last one counts, which is the server's.
    let real = "smtpd[1]: 8C47DB6051: client=h[127.0.0.1], sasl_method=PLAIN, sasl_username=bob, orig_queue_id=ABCDEF123, orig_queue_id=ABCDEF456, orig_client=h[192.0.2.1]";
    assert!(read(real).contains("hop_of: Some(ABCDEF456)"), "{}", read(real));
    let pickup = "pickup[1]: 8C47DB6051: uid=2001 from=<a> orig_id=4jY2PS1vmRz5bdJ>";
    assert!(read(pickup).contains("requeued_from: None"), "{}", read(pickup));
    has(pickup, b"a> orig_id=4jY2PS1vmRz5bdJ");
    let qmgr =
        "qmgr[1]: 8C47DB6051: from=<\"a>, status=expired, returned to sender\"@b>, size=1, nrcpt=2 (queue active)";
    assert!(read(qmgr).starts_with("Activated"), "{}", read(qmgr));
    let failed =
        "smtpd[1]: warning: h[192.0.2.1]: SASL LOGIN authentication failed: x, sasl_username=a, sasl_username=b";
    has(failed, b"a, sasl_username=b");
}

#[test]
fn held_senders_are_the_servers_word() {
    let sender = |line: &str| match reader().read(format!("{HEAD}{line}").as_bytes()) {
        Read::Event(Event { kind: Kind::Held { sender, .. }, .. }) => String::from_utf8_lossy(sender).into_owned(),
        other => panic!("{line}: {other:?}"),
    };
    let forged = "; from=<evil@x> to=<y";
    let smtpd = format!(
        "smtpd[1]: NOQUEUE: hold: RCPT from h[192.0.2.1]: <\"{forged}\"@d>: held; from=<real@x> to=<\"{forged}\"@d> proto=ESMTP helo=<h>"
    );
    assert_eq!(sender(&smtpd), "real@x");
    let cleanup = format!(
        "cleanup[1]: 8C47DB6051: hold: header Subject: {forged}>: z from local; from=<real@x> to=<r@d>: by header_checks"
    );
    assert_eq!(sender(&cleanup), "real@x");
}

#[test]
fn a_line_full_of_look_alikes_is_read_in_passing() {
    // Were any of these quadratic, the test would not end in minutes.
    for piece in [
        ">, relay=x, tls=a, ",
        ">, orig_to=<",
        "@[",
        "\"",
        ">, relay=",
        "; from=<",
        ", orig_queue_id=",
        "[ID ",
        "queued as q",
    ] {
        let text = piece.repeat(300_000 / piece.len());
        for start in ["to=<", "to=<\"", "hold: RCPT from x: ", "client=h[1.1.1.1], ", "from=<", "uid=1 from=<"] {
            for daemon in ["smtp", "smtpd", "qmgr", "pickup", "cleanup"] {
                reader().read(format!("{HEAD}{daemon}[1]: 8C47DB6051: {start}{text}").as_bytes());
            }
        }
    }
}
