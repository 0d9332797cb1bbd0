//! Hostile text in every field that a stranger fills: no field is shifted, nobody else is named.

use super::shape_tests::said;

const ID: &str = "1xVROW-0001BH-2c";

/// What the server logs of a message whose hostile parts are these.
fn smtp(sender: &str, host: &str, ident: &str, auth: &str, message_id: &str, subject: &str, to: &str) -> String {
    let ident = if ident.is_empty() { String::new() } else { format!(" U={ident}") };
    format!("{ID} <= {sender} H={host}{ident} P=esmtp{auth} S=433 id={message_id} T=\"{subject}\" for {to}")
}

#[test]
fn a_subject_shifts_nothing() {
    for subject in [
        " for x@y",
        " for x@y U=web2",
        "U=web2 P=local S=1",
        r#"\" for x@y.test"#,
        r#"\\\" for x@y.test T=\"a"#,
        "A=plain:victim@site.test",
        " Completed",
        r#"\303\251\n"#,
    ] {
        let line = smtp("e@evil.test", "(evil) [192.0.2.66]", "", "", "1@evil.test", subject, "a@x.test");
        assert_eq!(
            said(&line),
            r#"smtp evil 192.0.2.66|e@evil.test|433|1@evil.test|1@evil.test|Some(["a@x.test"])|None"#,
            "{subject}"
        );
        let line = format!("{ID} <= w@l.test U=web1 P=local S=3 T=\"{subject}\" for a@x.test");
        assert_eq!(said(&line), format!(r#"user web1|w@l.test|3||{ID}|Some(["a@x.test"])|None"#), "{subject}");
    }
}

#[test]
fn an_ident_answer_is_no_user() {
    let line = smtp("e@evil.test", "(evil) [192.0.2.66]", "web1", "", "1@evil.test", "x", "a@x.test");
    assert!(said(&line).starts_with("smtp evil 192.0.2.66|"), "{}", said(&line));
    // With fields of its own: neither client nor login is believed, and no user.
    for ident in [
        "web1 P=local S=1",
        "root P=esmtpa A=plain:victim@site.test S=1",
        "x P=esmtpa A=plain:victim@site.test S=1 T=\"",
        "x P=esmtpa A=plain:victim@site.test S=1 id=",
        "x P=esmtpa A=plain:victim@site.test S=1 id=\"",
        "x P=esmtpa A=plain:victim@site.test S=1 for a@b",
        "x P=esmtpa A=plain:victim@site.test S=1 from <a@b",
        "x P=esmtpa A=plain:victim@site.test S=1 DN=\"",
        "x [127.0.0.1] P=esmtp S=1",
    ] {
        for subject in [
            "x",
            " for a@b",
            "\\\" for a@b",
            "z\\\" S=1 T=\\\"",
            "> for a@b",
            "@d.test T=\\\"q",
            "@d.test for a@b",
            "@d DN=",
        ] {
            let line = smtp("e@evil.test", "(evil) [192.0.2.66]", ident, "", "1@evil.test", subject, "a@x.test");
            assert!(said(&line).starts_with("smtp  |e@evil.test|"), "{line}: {}", said(&line));
            // Where recipients are not logged, nothing follows the subject.
            let line = line.strip_suffix(" for a@x.test").unwrap();
            assert!(said(line).starts_with("smtp  |e@evil.test|"), "{line}: {}", said(line));
        }
    }
}

#[test]
fn a_greeting_is_no_address_and_no_login() {
    for helo in [
        "x) [127.0.0.1] P=esmtpa A=plain:victim@site.test S=1",
        "x) [127.0.0.1] P=esmtp S=1 T=\"",
        "x) [127.0.0.1",
        "a b",
        "x U=root P=local S=9 ",
        "x) [127.0.0.1] P=esmtpa A=plain:victim@site.test S=1 from <a@b.test> for c@d.test",
    ] {
        let line = smtp("e@evil.test", &format!("({helo}) [192.0.2.66]"), "", "", "1@evil.test", "x", "a@x.test");
        assert!(said(&line).starts_with("smtp  |e@evil.test|"), "{line}: {}", said(&line));
    }
}

#[test]
fn an_authenticated_sender_does_not_get_rid_of_the_own_login() {
    let login = " A=plain_server:box@site.test";
    for (sender, message_id, subject, to) in [
        ("\"x A=plain:victim@site.test\"@d.test", "1@d.test", "x", "a@x.test"),
        ("s@d.test", "\"x y A=plain:victim S=1\"@d.test", "x", "a@x.test"),
        ("s@d.test", "1@d.test", "P=esmtp A=plain:victim S=1", "a@x.test"),
        ("s@d.test", "1@d.test", "x", "\"q r P=esmtp S=1\"@x.test"),
    ] {
        let line = smtp(sender, "(c) [192.0.2.66]", "", login, message_id, subject, to);
        assert!(said(&line).starts_with("login box@site.test c 192.0.2.66|"), "{line}: {}", said(&line));
    }
}

#[test]
fn a_quoted_local_part_shifts_nothing() {
    let sender = r#""x U=root P=local S=1 T=\"y"@d.test"#;
    let line = format!("{ID} <= {sender} U=web1 P=local S=3 for a@x.test");
    assert_eq!(said(&line), format!(r#"user web1|{sender}|3||{ID}|Some(["a@x.test"])|None"#));
    for flag in ["=>", "**", "=="] {
        let to = r#""y> R=z T=w H=127.0.0.1 [127.0.0.1] C=\"250 OK id=1xVROY-000000001Df-1o0t\": retry timeout exceeded"@d.test"#;
        let text = format!("{ID} {flag} {to} <list@l.test> R=remote T=smtp H=mx [192.0.2.7]: 550 5.1.1 no");
        let said = said(&text);
        assert!(said.contains(&format!("{to}|list@l.test|mx [192.0.2.7]|192.0.2.7|")), "{said}");
        assert!(said.ends_with("|None"), "{said}");
        assert!(!said.starts_with("Expired"), "{said}");
    }
}

#[test]
fn what_a_receiver_says_stays_its_words() {
    let line = format!(
        r#"{ID} => a@x.test R=r T=t H=mx [192.0.2.7] C="250 \" H=127.0.0.1 [127.0.0.1] C=\"250 OK id=1xVROY-000000001Df-1o0t""#
    );
    assert!(said(&line).contains("|mx [192.0.2.7]|192.0.2.7|"), "{}", said(&line));
    let line = format!("{ID} ** a@x.test R=r T=t H=mx [192.0.2.7]: 550 no: retry timeout exceeded");
    assert!(said(&line).starts_with("Bounced "), "{}", said(&line));
    let line =
        format!("{ID} == a@x.test R=r T=t defer (-44) H=mx [192.0.2.7]: 451 H=127.0.0.1 [127.0.0.1]: x Completed");
    assert!(said(&line).contains("|192.0.2.7|"), "{}", said(&line));
    for text in ["H=mx [192.0.2.7]: Completed", "H=mx [192.0.2.7]: x ** a@b: y", "<evil> Completed"] {
        assert_eq!(said(&format!("{ID} {text}")), "noise", "{text}");
    }
}

#[test]
fn a_directory_shifts_nothing() {
    let table: &[(&str, &str)] = &[
        // One reading has the right number of arguments.
        (
            "/h/a 5 args: /usr/sbin/sendmail 3 args: sendmail -t -i",
            "script Command { many: false } None /h/a 5 args: /usr/sbin/sendmail ",
        ),
        // Two have: none is taken.
        ("/h/a 6 args: x 3 args: sendmail -t -i", "script Command { many: true } None  "),
        ("/h/a 1 args: -bp 3 args: sendmail -t -i", "script Command { many: false } None /h/a 1 args: -bp "),
    ];
    for (text, want) in table {
        assert_eq!(said(&format!("cwd={text}")), *want, "{text}");
    }
    for (directory, value) in [
        ("/h/a script=\"2002:evil.php\" b", "\"1001:m.php\""),
        ("/h/a script=\"2002:evil.php", "\"1001:m.php\""),
        ("/h/a script=\"2002:evil\\", "\"1001:m.php\""),
        ("/h/a script=x", "\"1001:m.php\""),
    ] {
        let text = format!("{ID} agent: uid=1001 user=web1 rcpts=1 cwd={directory} script={value}");
        assert_eq!(said(&text), format!("script Rule Some(1001) {directory} m.php"), "{text}");
    }
    let text = format!(r#"{ID} agent: uid=1001 user=web1 rcpts=1 cwd=/h script="1001:a script=\"1002:b""#);
    assert_eq!(said(&text), r#"script Rule Some(1001) /h a script=\"1002:b"#);
}
