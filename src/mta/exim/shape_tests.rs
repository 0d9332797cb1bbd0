//! Every shape of line, by version and log selector, and what it reads as.

use super::*;
use crate::mail::{Accepted, Attempt, Kind, Ruling, Script, Submitter};
use jiff::tz::TimeZone;

const OLD: &str = "1xVROW-0001BH-2c";
const NEW: &str = "1xVROY-000000001Df-1o0t";

pub(super) fn reader() -> Exim {
    Exim::new(Stamps { zone: TimeZone::UTC, reference: Time::from_secs(1_795_500_000) })
}

pub(super) fn s(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What a text behind an ordinary stamp reads as, in short.
pub(super) fn said(text: &str) -> String {
    told(&format!("2026-11-23 10:35:42 {text}"))
}

pub(super) fn told(line: &str) -> String {
    match reader().read(line.as_bytes()) {
        Read::Event(event) => short(&event.kind),
        Read::Noise => "noise".into(),
        Read::Foreign => "foreign".into(),
        Read::Pending => "pending".into(),
        Read::Unknown(unknown) => format!("unknown: {}", unknown.why),
    }
}

pub(super) fn short(kind: &Kind<'_>) -> String {
    match kind {
        Kind::Accepted(accepted) => accepted_as(accepted),
        Kind::Attempt(attempt) => attempted(attempt),
        Kind::Early(attempt) => format!("early {}", attempted(attempt)),
        Kind::Held { by, .. } => format!("held {by:?}"),
        Kind::Released { .. } => "released".into(),
        Kind::Gated { ruling, .. } => match ruling {
            Ruling::Refused(by) => format!("refused {}", submitted(*by)),
            Ruling::TooMany(by) => format!("too many {}", submitted(*by)),
            Ruling::Discarded(thrown) => {
                let envelope: Vec<_> = thrown.envelope.iter().map(String::from_utf8_lossy).collect();
                format!("discarded {} {} {envelope:?}", submitted(thrown.by), thrown.recipients)
            }
            other => format!("gated {other:?}"),
        },
        Kind::Ended { end, .. } => format!("ended {end:?}"),
        Kind::GivenUp { .. } => "given up".into(),
        Kind::Added { recipient, .. } => format!("added {}", s(recipient)),
        Kind::LoginFailed { login, address } => format!("login failed {} {}", s(login), s(address)),
        Kind::Script(Script { from, uid, directory, path, .. }) => {
            format!("script {from:?} {uid:?} {} {}", s(directory), s(path))
        }
        other => format!("{other:?}"),
    }
}

fn submitted(by: Submitter<'_>) -> String {
    match by {
        Submitter::User(login) => format!("user {}", s(login)),
        Submitter::Login { login, client, address } => format!("login {} {} {}", s(login), s(client), s(address)),
        Submitter::Smtp { client, address } => format!("smtp {} {}", s(client), s(address)),
        Submitter::Internal => "internal".into(),
    }
}

fn accepted_as(accepted: &Accepted<'_>) -> String {
    let by = submitted(accepted.by);
    let to = accepted.recipients.map(|list| list.iter().map(s).collect::<Vec<_>>());
    let Accepted { size, notice_of, .. } = accepted;
    let (sender, message_id, mark) = (s(accepted.sender), s(accepted.message_id), s(accepted.mark));
    format!("{by}|{sender}|{size}|{message_id}|{mark}|{to:?}|{notice_of:?}")
}

fn attempted(a: &Attempt<'_>) -> String {
    format!(
        "{:?} {}|{}|{}|{}|{}|{}|{}|{}|{:?}",
        a.status,
        s(a.recipient),
        s(a.original),
        s(a.relay),
        s(a.relay_address),
        a.local,
        a.delay_ms,
        a.dsn,
        s(a.reply),
        a.next
    )
}

#[test]
fn arrivals_of_every_kind() {
    let table: &[(&str, &str)] = &[
        // No selector, Debian, cPanel, DirectAdmin, +all.
        ("<= web1@lab.test U=web1 P=local S=360", "user web1|web1@lab.test|360||ID|None|None"),
        (
            "<= web1@lab.test U=web1 P=local S=360 id=x@h.test",
            "user web1|web1@lab.test|360|x@h.test|x@h.test|None|None",
        ),
        (
            "<= web1@lab.test U=web1 P=local S=360 T=\"php one\" for ok1@dest.test",
            r#"user web1|web1@lab.test|360||ID|Some(["ok1@dest.test"])|None"#,
        ),
        (
            "<= web1@lab.test U=web1 P=local S=378 T=\"php one\" from <web1@lab.test> for a@x.test \"b c\"@y.test",
            r#"user web1|web1@lab.test|378||ID|Some(["a@x.test", "\"b c\"@y.test"])|None"#,
        ),
        (
            "<= web1@lab.test U=web1 Ci=1234 P=local S=360 M8S=0 RT=0.000s id*=E1xVROW-0001BH-2c@lab.test T=\"\" from <web1@lab.test> for a@x.test",
            r#"user web1|web1@lab.test|360|E1xVROW-0001BH-2c@lab.test|1xVROW-0001BH-2c|Some(["a@x.test"])|None"#,
        ),
        (
            "<= bs@site1.test U=web1 P=local-esmtp S=317 T=\"via -bs\" for a@x.test",
            r#"user web1|bs@site1.test|317||ID|Some(["a@x.test"])|None"#,
        ),
        ("<= <> U=web1 P=local S=287 for a@x.test", r#"user web1||287||ID|Some(["a@x.test"])|None"#),
        // Bounces; -E is no privilege, so a user's stays the user's.
        (
            "<= <> R=1xVROW-0001BX-2h U=Debian-exim P=local S=1798 T=\"Mail delivery failed\" for web1@lab.test",
            r#"internal||1798||ID|Some(["web1@lab.test"])|Some(1xVROW-0001BX-2h)"#,
        ),
        ("<= <> R=1xVROW-0001BX-2h U=mailnull P=local S=1798", "internal||1798||ID|None|Some(1xVROW-0001BX-2h)"),
        ("<= <> R=1xVROW-0001BX-2h U=web1 P=local S=1798", "user web1||1798||ID|None|None"),
        // SMTP.
        (
            "<= info@site1.test H=(client.example) [127.0.0.1]:55164 P=esmtpa A=plain_server:info@site1.test S=428 id=2026@vm T=\"auth\" for a@x b@y",
            r#"login info@site1.test client.example 127.0.0.1|info@site1.test|428|2026@vm|2026@vm|Some(["a@x", "b@y"])|None"#,
        ),
        (
            "<= a@b.test H=mx.test (helo) [2001:db8::1]:25 I=[192.0.2.1]:465 P=esmtpsa L X=TLS1.3:TLS_AES_256_GCM_SHA384:256 CV=no DN=\"/C=x y/CN=\\\"z\\\"\" SNI=mail.test A=dovecot_login:box@b.test:a@b.test PRDR K S=5 M8S=0 DKIM=b.test RT=0.01s",
            "login box@b.test mx.test 2001:db8::1|a@b.test|5||ID|None|None",
        ),
        (
            "<= in@remote.test H=(vm) [192.0.2.5] P=esmtp S=423 id=2@vm",
            "smtp vm 192.0.2.5|in@remote.test|423|2@vm|2@vm|None|None",
        ),
        ("<= in@remote.test H=[192.0.2.5] P=smtp S=423", "smtp  192.0.2.5|in@remote.test|423||ID|None|None"),
        (
            "<= in@remote.test H=mx [192.0.2.5] U=web1 P=esmtp S=423",
            "smtp mx 192.0.2.5|in@remote.test|423||ID|None|None",
        ),
        (
            "<= in@remote.test H=mx [192.0.2.5] P=esmtpa A=cram S=423",
            "smtp mx 192.0.2.5|in@remote.test|423||ID|None|None",
        ),
        (
            "<= s@d.test H=localhost [127.0.0.1] P=esmtp S=9 id=E1xVROY-000000001Df-1o0t@lab.test",
            "smtp localhost 127.0.0.1|s@d.test|9|E1xVROY-000000001Df-1o0t@lab.test|1xVROY-000000001Df-1o0t|None|None",
        ),
        ("(= s@d.test H=mx [192.0.2.5] P=esmtp S=9", "smtp mx 192.0.2.5|s@d.test|9||ID|None|None"),
        ("<= \"a b\"@d.test U=web1 P=local S=9", "user web1|\"a b\"@d.test|9||ID|None|None"),
        ("<= a@d.test U=web1 P=local S=9 for a@x.test <trunc>", r#"user web1|a@d.test|9||ID|Some(["a@x.test"])|None"#),
        ("<= a@d.test", "unknown: shape"),
        ("<= ", "unknown: shape"),
    ];
    for (text, want) in table {
        for id in [OLD, NEW] {
            assert_eq!(said(&format!("{id} {text}")), want.replace("ID", id), "{text}");
        }
    }
}

#[test]
fn deliveries_of_every_kind() {
    let remote = "R=remote T=remote_smtp H=mx.test [192.0.2.7]";
    let table: &[(&str, &str)] = &[
        (
            "=> ok@d.test REMOTE C=\"250 2.0.0 Ok: queued as SINK3\"",
            "Sent ok@d.test||mx.test [192.0.2.7]|192.0.2.7|false|10000|2.0.0|250 2.0.0 Ok: queued as SINK3|Some(QueuedAs(SINK3))",
        ),
        (
            "-> ok@d.test REMOTE:25* X=TLS1.3:x:256 CV=yes DN=\"CN=a\" L K C=\"250 OK id=1xVROW-0001BH-2c\" QT=1m3s DT=0.1s",
            "Sent ok@d.test||mx.test [192.0.2.7]:25|192.0.2.7|false|63000|0.0.0|250 OK id=1xVROW-0001BH-2c|Some(QueuedAs(1xVROW-0001BH-2c))",
        ),
        (
            "=> b@d.test <list@l.test> F=<s@l.test> P=<s@l.test> REMOTE S=378",
            "Sent b@d.test|list@l.test|mx.test [192.0.2.7]|192.0.2.7|false|10000|0.0.0||None",
        ),
        ("=> a <list@l.test> R=localr T=local_delivery", "Sent a|list@l.test|local_delivery||true|10000|0.0.0||None"),
        (
            "=> a (mid@l.test, \"o (p\"@l.test) <list@l.test> R=localr T=local_delivery",
            "Sent a|list@l.test|local_delivery||true|10000|0.0.0||None",
        ),
        (
            "=> |/usr/bin/procmail -t a=\"b c\" (mid@l.test) <list@l.test> R=userforward T=address_pipe",
            "Sent |/usr/bin/procmail -t a=\"b c\" (mid@l.test)|list@l.test|address_pipe||true|10000|0.0.0||None",
        ),
        (
            "=> /var/mail/a b <a@l.test> R=x T=address_file",
            "Sent /var/mail/a b|a@l.test|address_file||true|10000|0.0.0||None",
        ),
        ("=> save Junk <a@l.test> R=x T=dir", "Sent save Junk|a@l.test|dir||true|10000|0.0.0||None"),
        ("=> :blackhole: <a@l.test> R=bh", "Dropped :blackhole:|a@l.test|bh||false|10000|0.0.0||None"),
        ("=> /dev/null <a@l.test> R=uf T=**bypassed**", "Sent /dev/null|a@l.test|**bypassed**||true|10000|0.0.0||None"),
        (
            ">> ok@d.test REMOTE C=\"250 \\\"x\\\" \\\\\"",
            "early Sent ok@d.test||mx.test [192.0.2.7]|192.0.2.7|false|10000|0.0.0|250 \\\"x\\\" \\\\|None",
        ),
        (
            "*> ok@d.test REMOTE C=\"delivery bypassed by -N option\"",
            "Dropped ok@d.test||mx.test [192.0.2.7]|192.0.2.7|false|10000|0.0.0|delivery bypassed by -N option|None",
        ),
        (
            "=> ok@d.test REMOTE C=\"250 cut",
            "Sent ok@d.test||mx.test [192.0.2.7]|192.0.2.7|false|10000|0.0.0|250 cut|None",
        ),
        // Failures: before 4.99 the colon is glued to the last field, since then it stands alone.
        (
            "** r@d.test REMOTE: SMTP error from remote mail server after RCPT TO:<r@d.test>: 550 5.7.1 <r@d.test>: no",
            "Bounced r@d.test||mx.test [192.0.2.7]|192.0.2.7|false|10000|5.7.1|550 5.7.1 <r@d.test>: no|None",
        ),
        (
            "** r@d.test REMOTE : SMTP error from remote mail server after RCPT TO:<r@d.test>: 550 no",
            "Bounced r@d.test||mx.test [192.0.2.7]|192.0.2.7|false|10000|0.0.0|550 no|None",
        ),
        (
            "** r@d.test REMOTE:25 X=TLS1.2:a:256 CV=yes DN=\"C=x: y\": SMTP error from remote mail server after end of data: 550-5.7.26 a\\n550 5.7.26 b DT=0.010s",
            "Bounced r@d.test||mx.test [192.0.2.7]:25|192.0.2.7|false|10000|5.7.26|550-5.7.26 a\\n550 5.7.26 b|None",
        ),
        (
            "** r@d.test R=remote T=smtp: SMTP error from remote mailer after RCPT TO:<r@d.test>: host mx [192.0.2.9]: 550 5.1.1 old form",
            "Bounced r@d.test||smtp||false|10000|5.1.1|550 5.1.1 old form|None",
        ),
        (
            "** r@d.test REMOTE: SMTP error from remote mail server after MAIL FROM:<s@l.test> SIZE=9: 552 too big",
            "Bounced r@d.test||mx.test [192.0.2.7]|192.0.2.7|false|10000|0.0.0|552 too big|None",
        ),
        (
            "** n@d.test R=fail_router: no such domain here",
            "Bounced n@d.test||fail_router||false|10000|0.0.0|no such domain here|None",
        ),
        ("** u@d.test: Unrouteable address", "Bounced u@d.test||||false|10000|0.0.0|Unrouteable address|None"),
        (
            "** u@d.test <l@d.test>: Unrouteable address",
            "Bounced u@d.test|l@d.test|||false|10000|0.0.0|Unrouteable address|None",
        ),
        ("** u@d.test: retry timeout exceeded", "Expired u@d.test||||false|10000|0.0.0|retry timeout exceeded|None"),
        (
            "** u@d.test: delivery cancelled; message timed out",
            "Expired u@d.test||||false|10000|0.0.0|delivery cancelled; message timed out|None",
        ),
        (
            "** u@d.test: delivery cancelled by administrator",
            "Bounced u@d.test||||false|10000|0.0.0|delivery cancelled by administrator|None",
        ),
        (
            "** |/bin/x <l@d.test> R=a T=address_pipe: Child process of address_pipe transport returned 127",
            "Bounced |/bin/x|l@d.test|address_pipe||false|10000|0.0.0|Child process of address_pipe transport returned 127|None",
        ),
        // Deferrals.
        (
            "== d@d.test R=remote T=remote_smtp defer (-44) H=mx.test [192.0.2.7]: SMTP error from remote mail server after RCPT TO:<d@d.test>: 451 4.7.1 Greylisted",
            "Deferred d@d.test||mx.test [192.0.2.7]|192.0.2.7|false|10000|4.7.1|451 4.7.1 Greylisted|None",
        ),
        (
            "== d@d.test R=remote T=remote_smtp defer (-44): SMTP error from remote mail server after RCPT TO:<d@d.test>: host mx [192.0.2.9]: 451 old",
            "Deferred d@d.test||remote_smtp||false|10000|0.0.0|451 old|None",
        ),
        (
            "== d@d.test R=r T=t defer (111): Connection refused",
            "Deferred d@d.test||t||false|10000|0.0.0|Connection refused|None",
        ),
        (
            "== d@d.test routing defer (-52) DT=0.000s: retry time not reached",
            "Waiting d@d.test||||false|10000|0.0.0|retry time not reached|None",
        ),
        (
            "== a@l.test <list@l.test> R=localr T=local_delivery defer (-22): mailbox is full",
            "Deferred a@l.test|list@l.test|local_delivery||false|10000|0.0.0|mailbox is full|None",
        ),
        ("== d@d.test Q=low R=r T=t defer (-53)", "Deferred d@d.test||t||false|10000|0.0.0||None"),
        (
            "== h9@m1xvrow-0001bh-2c.sendwarden-hold.invalid <a@d.test> R=defer_by_sendwarden defer (-1): held",
            "gated KeptBack",
        ),
        // About the whole message.
        ("=> discarded (system filter)", "ended Discarded"),
        ("=> blackhole (RCPT ACL discarded recipients)", "ended Discarded"),
        (
            "=> blackhole (p@l.test) <a@l.test> R=localr T=local_delivery",
            "Sent blackhole|a@l.test|local_delivery||true|10000|0.0.0||None",
        ),
        ("=> ", "unknown: shape"),
        ("** : x", "unknown: shape"),
    ];
    for (text, want) in table {
        assert_eq!(said(&format!("{OLD} {}", text.replace("REMOTE", remote))), *want, "{text}");
    }
}

#[test]
fn states_and_lines_of_no_interest() {
    let table: &[(&str, &str)] = &[
        ("Completed", "ended Done"),
        ("Completed QT=30s", "ended Done"),
        ("Frozen", "held Server"),
        ("Frozen (message created with -f <>)", "held Server"),
        ("Frozen (delivery error message)", "held Server"),
        ("Frozen by the system filter: spam", "held Rule"),
        ("frozen by ACL", "held Rule"),
        ("sendwarden: HOLD user:web1", "gated Held"),
        ("sendwarden: HOLD smtp:sendwarden 01", "gated AsAnswered"),
        ("sendwarden: REFUSED 552 auth:a@b.test", "too many login a@b.test  "),
        ("sendwarden: REFUSED 550 auth:a@b.test", "refused login a@b.test  "),
        ("sendwarden: DISCARDED user:web1", "discarded user web1 0 []"),
        (
            "sendwarden: DISCARDED user:web1 for 3: w@h.test, a@b.test, \"c, d\"@b.test, cu",
            r#"discarded user web1 3 ["w@h.test", "a@b.test", "\"c, d\"@b.test"]"#,
        ),
        ("sendwarden: DISCARDED user:web1 for 1: , a@b.test,", r#"discarded user web1 1 ["", "a@b.test"]"#),
        ("sendwarden: DISCARDED user:x for y for 2: ,", r#"discarded user x for y 2 [""]"#),
        ("sendwarden: DISCARDED smtp: for 1: a@b.test, c@d.test,", "noise"),
        ("sendwarden: REFUSED 552 smtp:", "noise"),
        ("sendwarden: DISCARDED", "noise"),
        ("sendwarden: HOLD", "noise"),
        ("frozen by root", "held Admin"),
        ("Message is frozen", "held Server"),
        ("unfrozen by root", "released"),
        ("Unfrozen by forced delivery", "released"),
        ("Unfrozen by auto-thaw", "released"),
        ("Unfrozen by errmsg timer", "released"),
        ("removed by root", "ended Deleted"),
        ("cancelled by root", "given up"),
        ("cancelled by timeout_frozen_after", "given up"),
        (
            "address <a@l.test> marked delivered by root",
            "Dropped a@l.test||||true|0|0.0.0|marked delivered by root|None",
        ),
        ("recipient <\"a> b\"@l.test> added by root", "added \"a> b\"@l.test"),
        ("sender address changed to <a@l.test> by root", "noise"),
        ("no immediate delivery: queued by ACL", "noise"),
        ("moved from input, msglog to (held) input, msglog", "noise"),
        ("H=127.0.0.1 [127.0.0.1] Connection refused", "noise"),
        ("H=mx [192.0.2.7]: SMTP error from remote mail server after RCPT TO:<a@b>: 451 x", "noise"),
        ("H=(vm) [192.0.2.7] F=<a@b> rejected after DATA: no", "noise"),
        ("U=xweb1 Warning: HOLD user:xweb1", "noise"),
        ("a@l.test: error ignored", "noise"),
        ("agent: HOLD user:xweb1", "noise"),
        ("DKIM: d=x s=y c=relaxed/relaxed a=rsa-sha256 b=2048 [verification succeeded]", "noise"),
        (
            "agent: uid=1001 user=web1 rcpts=1 cwd=/home/web1/wp script=\"1001:mailer.php\"",
            "script Rule Some(1001) /home/web1/wp mailer.php",
        ),
        (
            "agent: uid=1001 user=web1 rcpts=1 cwd=/home/web1 script=\"33:mailer.php\"",
            "script Rule Some(1001) /home/web1 ",
        ),
        ("agent: uid=1001 user=web1 rcpts=1 cwd=/ script=\"\"", "script Rule Some(1001) / "),
    ];
    for (text, want) in table {
        assert_eq!(said(&format!("{NEW} {text}")), *want, "{text}");
    }
    let table: &[(&str, &str)] = &[
        (
            "cwd=/home/web1/wp 5 args: /usr/sbin/sendmail -t -i -f n@s.test",
            "script Command { many: false } None /home/web1/wp ",
        ),
        ("cwd=/tmp 4 args: sendmail -i \"a b\" c@d.test", "script Command { many: false } None /tmp "),
        ("cwd=/tmp 2 args: /usr/sbin/sendmail -bs", "script Command { many: true } None /tmp "),
        ("cwd=/tmp 9 args: /usr/sbin/sendmail -i ...", "script Command { many: true } None  "),
        ("cwd=/var/spool/exim4 7 args: /usr/sbin/exim4 -t -oem -oi -f <> -E1xVROW-0001BH-2c", "noise"),
        ("cwd=/root 2 args: exim -bp", "noise"),
        ("cwd=/root 3 args: exim -Mrm 1xVROW-0001BH-2c", "noise"),
        (
            "plain_server authenticator failed for (vm) [192.0.2.4]:55188: 535 Incorrect authentication data (set_id=info@s.test)",
            "login failed info@s.test 192.0.2.4",
        ),
        (
            "dovecot_login authenticator failed for H=mx (vm) [192.0.2.4]: 535 Incorrect authentication data (set_id=a (b) c)",
            "login failed a (b) c 192.0.2.4",
        ),
        (
            "login authenticator failed for (vm) [192.0.2.4]: 535 Incorrect authentication data",
            "login failed  192.0.2.4",
        ),
        ("Start queue run: pid=15124", "noise"),
        ("H=(vm) [127.0.0.1]:55202 F=<in@remote.test> rejected RCPT <ok@dest.test>: relay not permitted", "noise"),
        ("SMTP connection from [127.0.0.1]:43176 (TCP/IP connection count = 1)", "noise"),
        ("exim 4.96 daemon started: pid=30487, -q2m, listening for SMTP on [127.0.0.1]:2525", "noise"),
    ];
    for (text, want) in table {
        assert_eq!(said(text), *want, "{text}");
    }
    for line in ["", "**** log string overflowed log buffer ****", "... rest of it", " Suggested action: either", "x"] {
        assert_eq!(told(line), "foreign", "{line}");
    }
}

#[test]
fn heads_of_every_selector_say_the_same() {
    let at = Time::from_secs(1_795_430_142);
    for (head, pid, millis) in [
        ("2026-11-23 10:35:42 ", 0, 0),
        ("2026-11-23 10:35:42.544 ", 0, 544),
        ("2026-11-23 10:35:42.544 +0000 [15222] ", 15222, 544),
        ("2026-11-23 11:35:42 +0100 ", 0, 0),
        ("2026-11-23 10:35:42 [15222] ", 15222, 0),
    ] {
        let line = format!("{head}{NEW} Completed\r");
        let mut reader = reader();
        let Read::Event(event) = reader.read(line.as_bytes()) else { panic!("{line}") };
        assert_eq!((event.head.at, event.head.pid), (Time(at.0 + millis * 1_000), pid), "{line}");
        assert!(event.head.owns_queue && event.head.host.is_empty() && event.head.server == Server::Exim);
    }
    for text in ["1xVROW-0001BH-2c Completed", "2026-11-23 10:36:56.655 [15222] 1xVROW-0001BH-2c Completed"] {
        let Read::Event(event) = read_text(at, b"mx", 15222, text.as_bytes()) else { panic!("{text}") };
        assert_eq!((event.head.at, event.head.host, event.head.pid), (at, &b"mx"[..], 15222), "{text}");
    }
    assert_eq!(told("2026-02-30 10:35:42 1xVROW-0001BH-2c Completed"), "unknown: stamp");
}

#[test]
fn the_last_time_survives_a_restart() {
    let mut first = reader();
    first.read(b"2026-11-23 10:35:42 1xVROW-0001BH-2c Completed");
    let mut second = reader();
    second.restore(b"nonsense");
    second.restore(&first.save());
    assert_eq!(second.save(), first.save());
}
