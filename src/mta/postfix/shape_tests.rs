//! Every shape of line, old versions included, and what it must say.

use super::*;
use crate::mail::{Dsn, End, Kind, Next, Notice, QueueId, Status, Sweep};
use jiff::tz::TimeZone;

pub(super) fn reader() -> Postfix {
    Postfix::new(Stamps { zone: TimeZone::UTC, reference: Time::from_secs(1_795_430_000) })
}

/// The kind of a line of `daemon`, or what else it was.
fn kind(daemon: &str, text: &str) -> Result<String, String> {
    let line = format!("Nov 23 10:33:28 mx postfix/{daemon}[42]: {text}");
    match reader().read(line.as_bytes()) {
        Read::Event(event) => Ok(format!("{:?}", Readable(event.kind))),
        Read::Noise => Err("noise".into()),
        Read::Foreign => Err("foreign".into()),
        Read::Pending => Err("pending".into()),
        Read::Unknown(unknown) => Err(unknown.why.into()),
    }
}

/// Events in words that a table can hold.
struct Readable<'a>(Kind<'a>);

impl std::fmt::Debug for Readable<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let s = |bytes| String::from_utf8_lossy(bytes).into_owned();
        match self.0 {
            Kind::Submitted { id, uid, sender, requeued_from } => {
                write!(f, "submitted {id} {uid} {} {requeued_from:?}", s(sender))
            }
            Kind::Received { id, client, address, login, hop_of } => {
                write!(f, "received {id} {} {} {:?} {hop_of:?}", s(client), s(address), login.map(s))
            }
            Kind::Identified { id, message_id } => write!(f, "identified {id} {}", s(message_id)),
            Kind::Activated { id, sender, size, recipients } => {
                write!(f, "activated {id} {} {size} {recipients}", s(sender))
            }
            Kind::Held { id, by, sender } => write!(f, "held {id:?} {by:?} {}", s(sender)),
            Kind::LoginFailed { login, address } => write!(f, "login failed {} {}", s(login), s(address)),
            other => write!(f, "{other:?}"),
        }
    }
}

#[rustfmt::skip]
#[test]
fn events() {
    let table: &[(&str, &str, &str)] = &[
        ("pickup", "8C47DB6051: uid=2001 from=<web1>", "submitted 8C47DB6051 2001 web1 None"),
        ("pickup", "8C47DB6051: uid=2001 from=<>", "submitted 8C47DB6051 2001  None"),
        ("pickup", "4jY2PZ68tRz5bdK: uid=102 from=<a@b> orig_id=4jY2PS1vmRz5bdJ", "submitted 4jY2PZ68tRz5bdK 102 a@b Some(4jY2PS1vmRz5bdJ)"),
        ("smtpd", "5371DB6055: client=unknown[127.0.0.1]", "received 5371DB6055 unknown 127.0.0.1 None None"),
        ("smtpd", "5371DB6055: client=unknown[unknown]", "received 5371DB6055 unknown unknown None None"),
        ("smtpd", "5371DB6055: client=a.b[2001:db8::1]:4711", "received 5371DB6055 a.b 2001:db8::1 None None"),
        ("submission/smtpd", "8F4CEB6057: client=localhost[127.0.0.1], sasl_method=PLAIN, sasl_username=box1@hosting.test", "received 8F4CEB6057 localhost 127.0.0.1 Some(\"box1@hosting.test\") None"),
        ("smtpd", "8F4CEB6057: client=h[192.0.2.1]:99, sasl_method=PLAIN, sasl_username=o, brien=x y, sasl_sender=a+2B@b", "received 8F4CEB6057 h 192.0.2.1 Some(\"o, brien=x y\") None"),
        ("smtpd", "8F4CEB6057: client=localhost[127.0.0.1], orig_queue_id=4jY2PS1vmRz5bdJ, orig_client=h[192.0.2.1]", "received 8F4CEB6057 localhost 127.0.0.1 None Some(4jY2PS1vmRz5bdJ)"),
        ("smtpd", "8F4CEB6057: client=localhost[127.0.0.1], orig_client=h[192.0.2.1]", "received 8F4CEB6057 localhost 127.0.0.1 None None"),
        ("qmqpd", "8F4CEB6057: client=h[192.0.2.1]", "received 8F4CEB6057 h 192.0.2.1 None None"),
        ("cleanup", "8C47DB6051: message-id=<a@b>", "identified 8C47DB6051 <a@b>"),
        ("cleanup", "8C47DB6051: message-id=<>", "identified 8C47DB6051 "),
        ("qmgr", "8C47DB6051: from=<web1@mx.hosting.test>, size=284, nrcpt=1 (queue active)", "activated 8C47DB6051 web1@mx.hosting.test 284 1"),
        ("nqmgr", "8C47DB6051: from=<>, size=284, nrcpt=100 (queue active)", "activated 8C47DB6051  284 100"),
        ("cleanup", "8C47DB6051: hold: header X-Hold: yes from local; from=<w@h> to=<x@y>: by header_checks", "held Some(8C47DB6051) Rule w@h"),
        ("cleanup", "8C47DB6051: milter-hold: END-OF-MESSAGE from localhost[127.0.0.1]: milter triggers HOLD action; from=<w@h> to=<x@y>", "held Some(8C47DB6051) Milter w@h"),
        ("cleanup", "8C47DB6051: milter-hold: END-OF-MESSAGE from localhost[127.0.0.1]: default_action; from=<w@h> to=<x@y> proto=ESMTP helo=<vm>", "held Some(8C47DB6051) Milter w@h"),
        ("smtpd", "NOQUEUE: hold: RCPT from unknown[127.0.0.1]: <w@h>: Sender address blocked by map; from=<w@h> to=<x@y> proto=ESMTP helo=<vm>", "held None Rule w@h"),
        ("smtpd", "NOQUEUE: milter-hold: CONNECT from unknown[127.0.0.1]: default_action; proto=ESMTP helo=<vm>", "held None Milter "),
        ("postsuper", "8C47DB6051: placed on hold", "held Some(8C47DB6051) Admin "),
        ("smtpd", "warning: localhost[127.0.0.1]: SASL PLAIN authentication failed: (reason unavailable), sasl_username=i@s", "login failed i@s 127.0.0.1"),
        ("smtpd", "warning: unknown[2001:db8::1]:77: SASL LOGIN authentication failed: UGFzc3dvcmQ6", "login failed  2001:db8::1"),
    ];
    for (daemon, text, want) in table {
        assert_eq!(kind(daemon, text).as_deref(), Ok(*want), "{daemon}: {text}");
    }
}

#[test]
fn ends_and_notices() {
    let id = QueueId::new(b"8C47DB6051").unwrap();
    let child = QueueId::new(b"4jY2PS1vmRz5bdJ").unwrap();
    let ended = |end| Kind::Ended { id, end };
    let table: &[(&str, &str, Kind<'_>)] = &[
        ("qmgr", "8C47DB6051: removed", ended(End::Done)),
        ("postsuper", "8C47DB6051: removed", ended(End::Deleted)),
        ("cleanup", "8C47DB6051: removed (canceled)", ended(End::Cancelled)),
        ("cleanup", "8C47DB6051: removed (discarded)", ended(End::Discarded)),
        ("cleanup", "8C47DB6051: discard: header X: y from local; from=<a@b>: by checks", ended(End::Discarded)),
        ("cleanup", "8C47DB6051: milter-discard: END-OF-MESSAGE from h[1.2.3.4]: x; from=<a>", ended(End::Discarded)),
        ("cleanup", "8C47DB6051: reject: body xxx from local; from=<a@b> to=<c@d>: 5.7.1 no", ended(End::Rejected)),
        (
            "cleanup",
            "8C47DB6051: milter-reject: CONNECT from localhost[127.0.0.1]: 4.7.1 x; from=<a>",
            ended(End::Rejected),
        ),
        ("smtpd", "8C47DB6051: reject: END-OF-MESSAGE from h[1.2.3.4]: 554 5.7.1 x; from=<a>", ended(End::Rejected)),
        ("qmgr", "8C47DB6051: from=<a@b>, status=expired, returned to sender", Kind::Expired { id }),
        ("qmgr", "8C47DB6051: from=<a@b>, status=force-expired, returned to sender", Kind::Expired { id }),
        ("postsuper", "8C47DB6051: released from hold", Kind::Released { id }),
        ("postsuper", "8C47DB6051: requeued", Kind::Requeued { id }),
        ("postsuper", "Deleted: 1 message", Kind::Swept { what: Sweep::Deleted, count: 1 }),
        ("postsuper", "Placed on hold: 2 messages", Kind::Swept { what: Sweep::Held, count: 2 }),
        ("postsuper", "Released from hold: 2 messages", Kind::Swept { what: Sweep::Released, count: 2 }),
        ("postsuper", "Requeued: 2 messages", Kind::Swept { what: Sweep::Requeued, count: 2 }),
        ("postsuper", "Force-expired: 2 messages", Kind::Swept { what: Sweep::Expired, count: 2 }),
        (
            "bounce",
            "8C47DB6051: sender non-delivery notification: 4jY2PS1vmRz5bdJ",
            Kind::Notified { id, child, notice: Notice::Failure },
        ),
        (
            "defer",
            "8C47DB6051: sender delay notification: 4jY2PS1vmRz5bdJ",
            Kind::Notified { id, child, notice: Notice::Delay },
        ),
        (
            "trace",
            "8C47DB6051: sender delivery status notification: 4jY2PS1vmRz5bdJ",
            Kind::Notified { id, child, notice: Notice::Success },
        ),
    ];
    for (daemon, text, want) in table {
        let line = format!("Nov 23 10:33:28 mx postfix/{daemon}[42]: {text}");
        match reader().read(line.as_bytes()) {
            Read::Event(event) => assert_eq!(event.kind, *want, "{text}"),
            other => panic!("{daemon}: {text}: {other:?}"),
        }
    }
}

#[test]
fn quiet_and_unknown() {
    let table: &[(&str, &str, &str)] = &[
        ("smtpd", "connect from unknown[127.0.0.1]", "noise"),
        (
            "smtpd",
            "8C47DB6051: reject: RCPT from h[1.2.3.4]: 554 5.7.1 x; from=<a> to=<b> proto=ESMTP helo=<c>",
            "noise",
        ),
        ("smtpd", "NOQUEUE: reject: RCPT from h[1.2.3.4]: 554 5.7.1 x; from=<a> to=<b> proto=ESMTP helo=<c>", "noise"),
        ("smtpd", "NOQUEUE: client=h[1.2.3.4]", "noise"),
        ("smtpd", "8C47DB6051: lost connection after DATA (12 bytes) from h[1.2.3.4]", "noise"),
        ("smtp", "8C47DB6051: host h[1.2.3.4] said: 450 later (in reply to RCPT TO command)", "noise"),
        ("smtp", "8C47DB6051: Cannot start TLS: handshake failure", "noise"),
        ("local", "8C47DB6051: passing <a@b> to transport=lmtp", "noise"),
        ("qmgr", "8C47DB6051: skipped, still being delivered", "noise"),
        ("qmgr", "8C47DB6051: status=deferred (bounce failed)", "noise"),
        ("cleanup", "8C47DB6051: warning: header Subject: x from local; from=<a>", "noise"),
        ("cleanup", "8C47DB6051: resent-message-id=<a@b>", "noise"),
        ("postsuper", "8C47DB6051: expired", "noise"),
        ("anvil", "anything at all", "noise"),
        ("smtpd", "message repeated 2 times: [ connect from unknown[127.0.0.1]]", "noise"),
        ("qmgr", "message repeated 2 times: [ 8C47DB6051: removed]", "repeated"),
        ("qmgr", "8C47DB6051: frobnicated", "shape"),
        ("qmgr", "8C47DB6051: from=<a@b>, size=x, nrcpt=1 (queue active)", "shape"),
        ("qmgr", "something new", "text"),
        ("frobnicate", "8C47DB6051: removed", "daemon"),
        ("smtp", "8C47DB6051: to=<a@b>, relay=none, status=unheard (x)", "shape"),
    ];
    for (daemon, text, want) in table {
        assert_eq!(kind(daemon, text), Err((*want).to_string()), "{daemon}: {text}");
    }
    for line in [
        "Nov 23 10:33:28 mx dovecot: imap-login: x",
        "Nov 23 10:33:28 mx CRON[1]: (root) CMD (x)",
        "Nov 23 10:33:28 mx -- MARK --",
    ] {
        assert_eq!(reader().read(line.as_bytes()), Read::Foreign, "{line}");
    }
}

#[test]
fn deliveries() {
    #[rustfmt::skip]
    let table: &[(&str, &str, &str)] = &[
        ("smtp", "to=<x@y>, relay=127.0.0.1[127.0.0.1]:10030, delay=0.02, delays=0.01/0.01/0/0, dsn=2.0.0, status=sent (250 2.0.0 Ok: queued as 4jY2Pn4MFKz5bdQ)",
            "x@y||127.0.0.1[127.0.0.1]:10030|127.0.0.1|false|20|2.0.0|Sent|250 2.0.0 Ok: queued as 4jY2Pn4MFKz5bdQ|Some(QueuedAs(4jY2Pn4MFKz5bdQ))"),
        ("smtp", "to=<x@y>, orig_to=<z@y>, relay=h[2001:db8::1]:25, conn_use=2, delay=1203, delays=1/2/3/4, dsn=5.1.1, status=bounced (host h said: 550 (x) (in reply to RCPT TO command))",
            "x@y|z@y|h[2001:db8::1]:25|2001:db8::1|false|1203000|5.1.1|Bounced|host h said: 550 (x) (in reply to RCPT TO command)|None"),
        ("smtp", "to=<x@y>, relay=h[192.0.2.1], delay=3, status=sent (250 ok)", "x@y||h[192.0.2.1]|192.0.2.1|false|3000|0.0.0|Sent|250 ok|None"),
        ("smtp", "to=<x@y>, relay=h[192.0.2.1]:25, delay=3, delays=1/1/1/0, tls=a,b, c, dsn=2.0.0, status=sent (250 ok)", "x@y||h[192.0.2.1]:25|192.0.2.1|false|3000|2.0.0|Sent|250 ok|None"),
        ("smtp", "to=<x@y>, relay=none, delay=0.5, delays=0/0/0/0, dsn=4.4.1, status=SOFTBOUNCE (cut here", "x@y||none||false|500|4.4.1|Deferred|cut here|None"),
        ("smtp", "to=<x@y>, relay=none, delay=0.5, delays=0/0/0/0, dsn=2.1.5, status=deliverable (ok)", "x@y||none||false|500|2.1.5|Probe|ok|None"),
        ("lmtp", "to=<x@y>, relay=mx[private/dovecot-lmtp], delay=0.5, delays=0/0/0/0, dsn=2.0.0, status=sent (250 2.0.0 <x@y> abc Saved)", "x@y||mx[private/dovecot-lmtp]||true|500|2.0.0|Sent|250 2.0.0 <x@y> abc Saved|None"),
        ("lmtp", "to=<x@y>, relay=h[192.0.2.1]:24, delay=0.5, delays=0/0/0/0, dsn=2.0.0, status=sent (250 queued as 12ab)", "x@y||h[192.0.2.1]:24|192.0.2.1|false|500|2.0.0|Sent|250 queued as 12ab|Some(QueuedAs(12ab))"),
        ("local", "to=<x@y>, relay=local, delay=0, delays=0/0/0/0, dsn=2.0.0, status=sent (forwarded as 4jY2PL5QRRz5bd7)", "x@y||local||true|0|2.0.0|Sent|forwarded as 4jY2PL5QRRz5bd7|Some(ForwardedAs(4jY2PL5QRRz5bd7))"),
        ("local", "to=<x@y>, relay=local, delay=0, delays=0/0/0/0, dsn=2.0.0, status=sent (delivered to command: x forwarded as 4jY2PL5QRRz5bd7)", "x@y||local||true|0|2.0.0|Sent|delivered to command: x forwarded as 4jY2PL5QRRz5bd7|None"),
        ("pipe", "to=<x@y>, relay=dovecot, delay=0, delays=0/0/0/0, dsn=2.0.0, status=sent (delivered via dovecot service)", "x@y||dovecot||true|0|2.0.0|Sent|delivered via dovecot service|None"),
        ("error", "to=<x@y>, relay=none, delay=0, delays=0/0/0/0, dsn=4.4.1, status=deferred (delivery temporarily suspended: connect to h[1.2.3.4]:25: x)", "x@y||none||false|0|4.4.1|Deferred|delivery temporarily suspended: connect to h[1.2.3.4]:25: x|None"),
    ];
    for (daemon, text, want) in table {
        let line = format!("Nov 23 10:33:28 mx postfix/{daemon}[42]: 8C47DB6051: {text}");
        assert_eq!(attempt(line.as_bytes()).as_deref(), Some(*want), "{text}");
    }
}

pub(super) fn attempt(line: &[u8]) -> Option<String> {
    let mut reader = reader();
    let Read::Event(Event { kind: Kind::Attempt(a), .. }) = reader.read(line) else { return None };
    let s = |bytes| String::from_utf8_lossy(bytes).into_owned();
    let next: Option<Next> = a.next;
    let (dsn, status): (Dsn, Status) = (a.dsn, a.status);
    Some(format!(
        "{}|{}|{}|{}|{}|{}|{dsn}|{status:?}|{}|{next:?}",
        s(a.recipient),
        s(a.original),
        s(a.relay),
        s(a.relay_address),
        a.local,
        a.delay_ms,
        s(a.reply)
    ))
}

#[test]
fn the_year_survives_a_restart() {
    let mut first = reader();
    first.read(b"Jan  1 00:00:01 mx postfix/qmgr[1]: 8C47DB6051: removed");
    let mut second = Postfix::new(Stamps { zone: TimeZone::UTC, reference: Time::from_secs(0) });
    second.restore(b"nonsense");
    second.restore(&first.save());
    let line = b"Jan  1 00:00:02 mx postfix/qmgr[1]: 8C47DB6051: removed";
    assert_eq!(second.read(line), first.read(line));
}
