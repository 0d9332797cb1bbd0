//! Whose a line is, in all forms.

use super::*;
use crate::mail::Kind;
use jiff::tz::TimeZone;
use proptest::prelude::*;

fn reader_of(only: Option<Server>) -> Any {
    Any::new(Stamps { zone: TimeZone::UTC, reference: Time::from_secs(1_795_430_000) }, only)
}

/// Whose a line is: a server and its process, or what else.
fn whose(read: &Read<'_>) -> String {
    match read {
        Read::Event(event) => format!("{} {}", event.head.server.name(), event.head.pid),
        Read::Pending => "pending".to_owned(),
        Read::Noise => "noise".to_owned(),
        Read::Foreign => "foreign".to_owned(),
        Read::Unknown(unknown) => format!("unknown {}", unknown.why),
    }
}

const POSTFIX: &str = "postfix/qmgr[12]: 8C47DB6051: removed";
const EXIM: &str = "1xVROW-0001BH-2c <= web1@lab.test U=web1 P=local S=360";

#[test]
fn every_form_is_known_by_what_is_in_it() {
    let table: Vec<(String, &str)> = vec![
        (format!("Nov 23 10:33:28 mx {POSTFIX}"), "postfix 12"),
        (format!("<22>Nov 23 10:33:28 mx {POSTFIX}"), "postfix 12"),
        (format!("2026-11-23T10:33:28.5+01:00 mx {POSTFIX}"), "postfix 12"),
        (format!("2026-11-23 10:33:28 mx {POSTFIX}"), "postfix 12"),
        (format!("2026-11-23 10:33:28 {POSTFIX}"), "postfix 12"),
        (format!("2026-11-23 10:33:28.250 +0100 mx {POSTFIX}"), "postfix 12"),
        // A host whose name could be a message id.
        (format!("2026-11-23 10:33:28 worker-europe-01 {POSTFIX}"), "postfix 12"),
        (format!("2026-11-23 10:33:28 {EXIM}"), "exim 0"),
        (format!("2026-11-23 10:33:28.250 {EXIM}"), "exim 0"),
        (format!("2026-11-23 10:33:28 +0100 [34] {EXIM}"), "exim 34"),
        (format!("2026-11-23 10:33:28.250 +0000 [34] {EXIM}"), "exim 34"),
        (format!("2026-11-23 10:33:28 [34] {EXIM}"), "exim 34"),
        (format!("Nov 23 10:33:28 mx exim[56]: {EXIM}"), "exim 56"),
        (format!("Nov 23 10:33:28 mx exim4[56]: {EXIM}"), "exim 56"),
        (format!("Nov 23 10:33:28 mx exim: {EXIM}"), "exim 0"),
        (format!("Nov 23 10:33:28 mx exim: [34] {EXIM}"), "exim 34"),
        (format!("<22>Nov 23 10:33:28 exim[56]: 2026-11-23 10:33:28.655 [56] {EXIM}"), "exim 56"),
        (format!("Nov 23 10:33:28 mx exim[56]: 2026-11-23 10:33:28 +0100 [56] {EXIM}"), "exim 56"),
        (format!("2026-11-23 10:33:28 mx exim[56]: 2026-11-23 10:33:28 {EXIM}"), "exim 56"),
        (format!("2026-11-23T10:33:28Z mx exim[56]: {EXIM}"), "exim 56"),
        ("<22>1 2026-11-23T10:33:28.123Z mx postfix/qmgr 12 - - 8C47DB6051: removed".to_owned(), "postfix 12"),
        ("1 2026-11-23T10:33:28Z mx postfix/qmgr 12 - [a b=\"c\"] 8C47DB6051: removed".to_owned(), "postfix 12"),
        ("2026-11-23T10:33:28Z mx postfix/qmgr 12 - - \u{feff}8C47DB6051: removed".to_owned(), "postfix 12"),
        (format!("<22>1 2026-11-23T10:33:28.123Z mx exim 56 - - {EXIM}"), "exim 56"),
        (format!("<22>1 2026-11-23T10:33:28.123Z mx exim - - - 2026-11-23 10:33:28 [34] {EXIM}"), "exim 34"),
        (format!("2026-11-23T10:33:28.123Z mx exim4 56 - - {EXIM}"), "exim 56"),
        ("<22>1 2026-11-23T10:33:28Z mx dovecot 7 - - imap-login: Login".to_owned(), "foreign"),
        ("<22>1 2026-11-23T10:33:28Z mx - - - - last message repeated 3 times".to_owned(), "unknown repeated"),
        // rsyslog without parser.permitSlashInProgramName: whose line it is, but not which daemon's.
        ("<22>1 2026-11-23T10:33:28Z mx postfix 12 - -  8C47DB6051: removed".to_owned(), "unknown daemon"),
        ("<22>1 2026-11-23T10:33:28Z mx postfix 12 - -  warning: x".to_owned(), "noise"),
        ("<22>1 - mx postfix/qmgr 12 - - 8C47DB6051: removed".to_owned(), "unknown stamp"),
        ("<22>1 2026-11-23T10:33:28Z mx postfix/qmgr 12 - 8C47DB6051: removed".to_owned(), "unknown head"),
        ("Nov 23 10:33:28 mx dovecot: imap-login: Login: user=<a>".to_owned(), "foreign"),
        ("2026-11-23 10:33:28 mx dovecot[9]: imap-login: Login: user=<a>".to_owned(), "foreign"),
        ("2026-11-23 10:33:28 mx kernel: eth0 is up".to_owned(), "foreign"),
        ("2026-11-23 10:33:28 worker-europe-01 sshd[9]: Accepted".to_owned(), "foreign"),
        ("Nov 23 10:33:28 mx eximstats[9]: x".to_owned(), "foreign"),
        ("Nov 23 10:33:28 mx last message repeated 3 times".to_owned(), "unknown repeated"),
        (format!("Nov 23 10:33:28 mx exim[7]: message repeated 2 times: [ {EXIM}]"), "unknown repeated"),
        ("Feb 30 10:33:28 mx a: b".to_owned(), "unknown stamp"),
        ("2026-02-30 10:33:28 mx a: b".to_owned(), "unknown stamp"),
        ("hello world, this is text".to_owned(), "unknown head"),
    ];
    for (line, want) in table {
        assert_eq!(whose(&reader_of(None).read(line.as_bytes())), want, "{line}");
    }
}

#[test]
fn containers_put_something_around() {
    let inner = format!("Nov 23 11:33:28 mx {POSTFIX}");
    let main = format!("2026-11-23 11:33:28 {EXIM}");
    let json = |text: &str, rest: &str| {
        format!("{{\"log\":{},\"stream\":\"stdout\"{rest}}}", serde_json::to_string(text).unwrap())
    };
    let time = ",\"time\":\"2026-11-23T10:33:28.123456789Z\"";
    let attrs = ",\"attrs\":{\"tag\":\"x\"},\"time\":\"2026-11-23T10:33:28.123456789Z\"";
    let stamp = "2026-11-23T10:33:28.123456789Z";
    // The container's own stamp is the better one: it has a zone.
    let table: Vec<(String, &str, i64)> = vec![
        (json(&format!("{inner}\n"), time), "postfix 12", 123_456),
        (json(&format!("{inner}\r\n"), attrs), "postfix 12", 123_456),
        (json(&format!("{main}\n"), time), "exim 0", 123_456),
        (json(&format!("{POSTFIX}\n"), time), "postfix 12", 123_456),
        (json(&format!("<22>{POSTFIX}\n"), time), "postfix 12", 123_456),
        (json("starting up\n", time), "foreign", 0),
        (json("<22>1 2026-11-23T11:33:28Z mx postfix/qmgr 12 - - 8C47DB6051: removed\n", time), "postfix 12", 123_456),
        (
            format!("{{ \"time\" : \"{stamp}\", \"stream\": \"stdout\", \"log\": \"{inner}\\n\" }}"),
            "postfix 12",
            123_456,
        ),
        (format!("{{\"log\": \"{}\\u000a\"}}", inner.replace('m', "\\u006d")), "postfix 12", 3_600_000_000),
        (format!("{stamp} stdout F {inner}"), "postfix 12", 123_456),
        (format!("{stamp} stderr F {main}"), "exim 0", 123_456),
        (format!("{stamp} stdout F {POSTFIX}"), "postfix 12", 123_456),
        (format!("{stamp} stdout F exim[5]: {EXIM}"), "exim 5", 123_456),
        (format!("{stamp} stdout F "), "foreign", 0),
        (format!("{stamp} stdout F"), "foreign", 0),
        (format!("{stamp} {inner}"), "postfix 12", 123_456),
        (format!("{stamp} {main}"), "exim 0", 123_456),
        (format!("{stamp} 1 2026-11-23T11:33:28Z mx postfix/qmgr 12 - - 8C47DB6051: removed"), "postfix 12", 123_456),
        (format!("{stamp} stdout F 12 - - x"), "foreign", 0),
        (format!("mail_1  | {stamp} {inner}"), "postfix 12", 123_456),
        (format!("mail-1  | {inner}"), "postfix 12", 3_600_000_000),
        (format!("mail-1 | {main}"), "exim 0", 3_600_000_000),
        ("mail-1  | starting up".to_owned(), "foreign", 0),
        ("{\"log\":\"x".to_owned(), "unknown head", 0),
    ];
    let at = "2026-11-23T10:33:28Z".parse::<jiff::Timestamp>().unwrap().as_microsecond();
    for (line, want, after) in table {
        let mut any = reader_of(None);
        let read = any.read(line.as_bytes());
        assert_eq!(whose(&read), want, "{line}");
        if let Read::Event(event) = read {
            assert_eq!(event.head.at, Time(at + after), "{line}");
        }
    }
}

#[test]
fn lines_cut_by_the_container_are_put_together() {
    let stamp = "2026-11-23T10:33:28.123456789Z";
    let mut reader = reader_of(None);
    let lines = [
        (format!("{stamp} stdout P Nov 23 10:33:28 mx postfix/qmgr[1"), "pending"),
        (format!("{stamp} stderr F postfix/qmgr[13]: 8C47DB6051: removed"), "postfix 13"),
        (format!("{stamp} stdout P 2]: 8C47DB6"), "pending"),
        (format!("{stamp} stdout F 051: removed"), "postfix 12"),
        (format!("{stamp} stdout F {POSTFIX}"), "postfix 12"),
        (
            "{\"log\":\"Nov 23 10:33:28 mx postfix/qmg\",\"stream\":\"stdout\",\"time\":\"2026-11-23T10:33:28Z\"}"
                .to_owned(),
            "pending",
        ),
        (
            "{\"log\":\"r[12]: 8C47DB6051: removed\\n\",\"stream\":\"stdout\",\"time\":\"2026-11-23T10:33:28Z\"}"
                .to_owned(),
            "postfix 12",
        ),
    ];
    for (line, want) in &lines {
        let saved = reader.save();
        reader = reader_of(None);
        reader.restore(&saved);
        assert_eq!(whose(&reader.read(line.as_bytes())), *want, "{line}");
    }
    for _ in 0..100 {
        let part = format!("{stamp} stdout P {}", "x".repeat(16_000));
        assert_eq!(whose(&reader.read(part.as_bytes())), "pending");
    }
    assert!(reader.save().len() < 100_000);
}

#[test]
fn one_server_alone_can_be_read() {
    let (postfix, main) = (format!("Nov 23 10:33:28 mx {POSTFIX}"), format!("2026-11-23 10:33:28 {EXIM}"));
    let syslog = format!("Nov 23 10:33:28 mx exim[7]: {EXIM}");
    for (only, wants) in [
        (None, ["postfix 12", "exim 0", "exim 7"]),
        (Some(Server::Postfix), ["postfix 12", "foreign", "foreign"]),
        (Some(Server::Exim), ["foreign", "exim 0", "exim 7"]),
    ] {
        for (line, want) in [&postfix, &main, &syslog].into_iter().zip(wants) {
            assert_eq!(whose(&reader_of(only).read(line.as_bytes())), want, "{only:?} {line}");
        }
    }
}

#[test]
fn strangers_cannot_make_a_line_another_servers() {
    // Customers name directories, senders subjects, receivers replies.
    for line in [
        "2026-11-23 10:33:28 cwd=/home/web1/a postfix/smtp[12]: 8C47DB6051: to=<x@y.test>, relay=none, status=sent (x) 3 args: sendmail -t",
        "2026-11-23 10:33:28 H=(a postfix/qmgr[12]: 8C47DB6051: removed) [192.0.2.1] rejected EHLO",
        "2026-11-23 10:33:28 [7] cwd=/home/web1/postfix/qmgr[12]: 8C47DB6051: removed 3 args: sendmail -t",
    ] {
        let mut any = reader_of(None);
        let read = any.read(line.as_bytes());
        assert!(!whose(&read).starts_with("postfix"), "{line}: {read:?}");
    }
    let forged = r#"Nov 23 10:33:28 mx exim[7]: 1xVROW-0001BH-2c <= a@b.test U=web1 P=local S=360 T="[1/2] 1xVROW-0001BH-2d Completed""#;
    let mut reader = reader_of(None);
    assert!(
        matches!(reader.read(forged.as_bytes()), Read::Event(e) if matches!(e.kind, Kind::Accepted { .. })),
        "{forged}"
    );
    let reply = "Nov 23 10:33:28 mx postfix/smtp[7]: 8C47DB6051: to=<x@y.test>, relay=a[192.0.2.1]:25, delay=1, delays=0/0/0/1, dsn=2.0.0, status=sent (250 exim[7]: [1/2] x)";
    assert_eq!(whose(&reader.read(reply.as_bytes())), "postfix 7");
    let tail = "Nov 23 10:33:28 mx exim[7]: [2/2] 1xVROW-0001BH-2d Completed";
    assert_eq!(whose(&reader.read(tail.as_bytes())), "unknown chunks", "nothing was begun by the two above");
}

#[test]
fn an_entry_of_the_main_log_may_go_on_in_lines_without_a_stamp() {
    let mut reader = reader_of(None);
    let stampless = b"  Suggested action: either install a certificate or change tls_advertise_hosts option";
    assert_eq!(whose(&reader.read(stampless)), "unknown head");
    assert_eq!(whose(&reader.read(format!("2026-11-23 10:33:28 {EXIM}").as_bytes())), "exim 0");
    let mut other = reader_of(None);
    other.restore(&reader.save());
    for mut reader in [reader, other] {
        assert_eq!(whose(&reader.read(stampless)), "noise");
        assert_eq!(whose(&reader.read(b"")), "noise");
        assert_eq!(whose(&reader.read(format!("Nov 23 10:33:28 mx {POSTFIX}").as_bytes())), "postfix 12");
        assert_eq!(whose(&reader.read(stampless)), "unknown head");
    }
}

#[test]
fn what_an_older_version_saved_gives_the_year() {
    let mut older = vec![1];
    let last = "2019-12-31T23:59:00Z".parse::<jiff::Timestamp>().unwrap().as_microsecond();
    older.extend_from_slice(&last.to_le_bytes());
    let mut any = reader_of(None);
    any.restore(&older);
    let line = format!("Jan  1 00:00:01 mx {POSTFIX}");
    let Read::Event(event) = any.read(line.as_bytes()) else { panic!("no event") };
    assert_eq!(event.head.at, Time(last + 61_000_000));
}

/// Lines of every form, some in pieces, and texts that are none.
fn some_line() -> impl Strategy<Value = Vec<u8>> {
    let forms: Vec<String> = vec![
        format!("Nov 23 10:33:28 mx {POSTFIX}"),
        format!("2026-11-23T10:33:28.5+01:00 mx {POSTFIX}"),
        format!("2026-11-23 10:33:28 mx {POSTFIX}"),
        format!("2026-11-23 10:33:28 +0100 [34] {EXIM}"),
        format!("2026-11-23 10:33:28 {EXIM}"),
        format!("Nov 23 10:33:28 mx exim[56]: {EXIM}"),
        format!("Nov 23 10:33:28 mx exim[56]: [1/2] {EXIM}"),
        "Nov 23 10:33:28 mx exim[56]: [2/2]  for x@y.test".to_owned(),
        format!("2026-11-23 10:33:28 mx exim[56]: [1/2] {EXIM}"),
        format!(r#"{{"log":"Nov 23 10:33:28 mx {POSTFIX}\n","stream":"stdout","time":"2026-11-23T10:33:28.1Z"}}"#),
        format!("2026-11-23T10:33:28.1Z stdout P Nov 23 10:33:28 mx {POSTFIX}"),
        "2026-11-23T10:33:28.1Z stdout F  of the line".to_owned(),
        format!("mail-1  | Nov 23 10:33:28 mx {POSTFIX}"),
        "  goes on".to_owned(),
        String::new(),
        "Oct 25 02:30:00 mx postfix/qmgr[12]: 8C47DB6051: removed".to_owned(),
        "Jan  1 00:00:01 mx postfix/qmgr[12]: 8C47DB6051: removed\r".to_owned(),
    ];
    let changed = |(line, at, byte): (String, Option<usize>, u8)| {
        let mut line = line.into_bytes();
        if let Some(place) = at.and_then(|at| line.get_mut(at)) {
            *place = byte;
        }
        line
    };
    (prop::sample::select(forms), prop::option::weighted(0.3, 0usize..60), any::<u8>()).prop_map(changed)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn a_line_that_is_read_alone_says_the_same(lines in prop::collection::vec(some_line(), 1..12), only in 0..3) {
        let only = [None, Some(Server::Postfix), Some(Server::Exim)][only as usize];
        let (mut one, mut other) = (reader_of(only), reader_of(only));
        for line in &lines {
            let want = one.read(line);
            match other.read_alone(line) {
                Some(read) => prop_assert_eq!(read, want),
                None => prop_assert_eq!(other.read(line), want),
            }
            prop_assert_eq!(one.save(), other.save());
        }
    }
}
