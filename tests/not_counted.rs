//! What is not an account's fault does not count in its errors: on logs of Postfix and of Exim.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]
#![allow(clippy::disallowed_methods, reason = "tests start processes")]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use serde_json::Value;

/// Saturday, 7 November 2026, 00:00 UTC.
const START: i64 = 1_794_009_600;
const RULES: &str = "enforcement: {dry_run: false}\nrules:\n  \
    - {name: errors, signal: errors, window: 1h, limit: 20}\n  \
    - {name: ratio, signal: error_ratio, window: 1d, limit: 20, min_sample: 30}\n  \
    - {name: unknown, signal: unknown_recipients, window: 1h, limit: 20}\n  \
    - {name: spam, signal: spam_verdicts, window: 1h, limit: 20}\n  \
    - {name: much, signal: messages, window: 1h, limit: 30}\n";

/// What the messages of one story are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Story {
    /// With a sender, to people who do not exist.
    Usual,
    /// The same, without a sender: the unknown, and what is called spam.
    Reply,
    ReplyCalledSpam,
    /// To mailboxes on this host that do not exist.
    Local,
    /// From outside to a user who forwards it to where it is refused.
    Forward,
    /// The server's own notice of a message that could not be delivered.
    Bounce,
}

/// Which rules speak of the account.
const STORIES: [(Story, &[&str]); 6] = [
    (Story::Usual, &["errors", "much", "ratio", "unknown"]),
    (Story::Reply, &["much"]),
    (Story::ReplyCalledSpam, &["much", "spam"]),
    (Story::Local, &["much"]),
    (Story::Forward, &[]),
    (Story::Bounce, &[]),
];

fn words(story: Story) -> &'static str {
    match story {
        Story::ReplyCalledSpam => "554 5.7.1 Message rejected as spam",
        _ => "550 5.1.1 User unknown",
    }
}

fn postfix(story: Story) -> String {
    let mut out = String::new();
    for n in 0..40_u64 {
        let stamp = jiff::Timestamp::from_second(START + n as i64 * 20).unwrap();
        let stamp = stamp.strftime("%Y-%m-%dT%H:%M:%S.000000+00:00");
        let mut line = |daemon: &str, what: String| writeln!(out, "{stamp} mx postfix/{daemon}[7]: {what}").unwrap();
        let (id, next) = (format!("{:010X}", 0xA000_0000_u64 + n * 2), format!("{:010X}", 0xA000_0001_u64 + n * 2));
        let relay = "mx.far.test[192.0.2.1]";
        let refused = |id: &str, to: &str| {
            let said = format!("host {relay} said: {} (in reply to RCPT TO command)", words(story));
            format!("{id}: to=<{to}>, relay={relay}:25, delay=1, delays=0/0/1/0, dsn=5.1.1, status=bounced ({said})")
        };
        let (to, removed) = (format!("r{n}@far.test"), format!("{id}: removed"));
        match story {
            Story::Usual | Story::Reply | Story::ReplyCalledSpam | Story::Local => {
                let sender = if story == Story::Usual || story == Story::Local { "w@site.test" } else { "" };
                line("pickup", format!("{id}: uid=2001 from=<{sender}>"));
                line("cleanup", format!("{id}: message-id=<{n}@mx.test>"));
                line("qmgr", format!("{id}: from=<{sender}>, size=900, nrcpt=1 (queue active)"));
                if story == Story::Local {
                    line(
                        "local",
                        format!(
                            "{id}: to=<r{n}@mx.test>, relay=local, delay=1, delays=0/0/0/1, dsn=5.1.1, status=bounced (unknown user: \"r{n}\")"
                        ),
                    );
                } else {
                    line("smtp", refused(&id, &to));
                }
                line("qmgr", removed);
            }
            Story::Forward => {
                line("smtpd", format!("{id}: client=out.test[198.51.100.9]"));
                line("cleanup", format!("{id}: message-id=<{n}@out.test>"));
                line("qmgr", format!("{id}: from=<a@out.test>, size=900, nrcpt=1 (queue active)"));
                line("cleanup", format!("{next}: message-id=<{n}@out.test>"));
                line(
                    "local",
                    format!(
                        "{id}: to=<w2001@mx.test>, relay=local, delay=1, delays=0/0/0/1, dsn=2.0.0, status=sent (forwarded as {next})"
                    ),
                );
                line("qmgr", removed);
                line("qmgr", format!("{next}: from=<a@out.test>, size=900, nrcpt=1 (queue active)"));
                line("smtp", refused(&next, &to));
                line("qmgr", format!("{next}: removed"));
            }
            Story::Bounce => {
                line("smtpd", format!("{id}: client=out.test[198.51.100.9]"));
                line("cleanup", format!("{id}: message-id=<{n}@out.test>"));
                line("qmgr", format!("{id}: from=<a@far.test>, size=900, nrcpt=1 (queue active)"));
                line(
                    "local",
                    format!(
                        "{id}: to=<x@mx.test>, relay=local, delay=1, delays=0/0/0/1, dsn=5.1.1, status=bounced (unknown user: \"x\")"
                    ),
                );
                line("cleanup", format!("{next}: message-id=<n{n}@mx.test>"));
                line("bounce", format!("{id}: sender non-delivery notification: {next}"));
                line("qmgr", removed);
                line("qmgr", format!("{next}: from=<>, size=900, nrcpt=1 (queue active)"));
                line("smtp", refused(&next, "a@far.test"));
                line("qmgr", format!("{next}: removed"));
            }
        }
    }
    out
}

fn exim(story: Story) -> String {
    let mut out = String::new();
    for n in 0..40_u64 {
        let stamp =
            jiff::Timestamp::from_second(START + n as i64 * 20).unwrap().strftime("%Y-%m-%d %H:%M:%S.000 +0000");
        let (id, next) =
            (format!("1wAA{:02}-000000000{:02}-0001", n, n), format!("1wBB{:02}-000000000{:02}-0001", n, n));
        let mut line = |what: String| writeln!(out, "{stamp} {what}").unwrap();
        let host = "R=dnslookup T=remote_smtp H=mx.far.test [192.0.2.1]";
        let refused = |id: &str, to: &str| {
            format!("{id} ** {to} {host}: SMTP error from remote mail server after RCPT TO:<{to}>: {}", words(story))
        };
        let to = format!("r{n}@far.test");
        match story {
            Story::Usual | Story::Reply | Story::ReplyCalledSpam | Story::Local => {
                let sender = if story == Story::Usual || story == Story::Local { "w2001@site.test" } else { "<>" };
                line(format!("{id} <= {sender} U=w2001 P=local S=900"));
                if story == Story::Local {
                    line(format!("{id} ** r{n}@mx.test R=local_user T=local_delivery: unknown user"));
                } else {
                    line(refused(&id, &to));
                }
                line(format!("{id} Completed"));
            }
            Story::Forward => {
                line(format!("{id} <= a@out.test H=out.test [198.51.100.9] P=esmtp S=900"));
                line(format!(
                    "{id} ** {to} <w2001@mx.test> {host}: SMTP error from remote mail server after RCPT TO:<{to}>: {}",
                    words(story)
                ));
                line(format!("{id} Completed"));
            }
            Story::Bounce => {
                line(format!("{id} <= a@far.test H=out.test [198.51.100.9] P=esmtp S=900"));
                line(format!("{id} ** x@mx.test R=local_user T=local_delivery: unknown user"));
                line(format!("{next} <= <> R={id} U=Debian-exim P=local S=900"));
                line(format!("{id} Completed"));
                line(refused(&next, "a@far.test"));
                line(format!("{next} Completed"));
            }
        }
    }
    out
}

#[test]
fn replies_forwards_local_deliveries_and_notices_are_not_errors_of_an_account() {
    let dir = std::env::temp_dir().join(format!("sendwarden-not-counted-{}", std::process::id()));
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("passwd"), "w2001:x:2001:2001::/home/w2001:/bin/sh\n").unwrap();
    fs::write(dir.join("c.yaml"), RULES).unwrap();
    for (mta, text) in [("postfix", postfix as fn(Story) -> String), ("exim", exim)] {
        for (story, rules) in STORIES {
            fs::write(dir.join("log"), text(story)).unwrap();
            let mut replay = Command::new(env!("CARGO_BIN_EXE_sendwarden"));
            replay.args(["replay", "--format", "json", "--mta", mta, "--passwd"]).arg(dir.join("passwd"));
            let output = replay.arg("--config").arg(dir.join("c.yaml")).arg(dir.join("log")).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
            assert_eq!(answer["lines"]["unknown"], 0, "{mta} {story:?}");
            // What is not counted by rules is in the books all the same.
            assert!(answer["totals"]["bounced"].as_u64().unwrap() >= 40, "{mta} {story:?}: {}", answer["totals"]);
            let verdicts = answer["verdicts"].as_array().unwrap().iter();
            let names = verdicts.map(|verdict| verdict["rule"].as_str().unwrap());
            // The built-in ones look at the same.
            let own = ["errors", "ratio", "unknown", "spam", "much"];
            let said: BTreeSet<&str> = names.filter(|name| own.contains(name)).collect();
            // Where no host is named, Exim's log does not tell a mailbox here from one elsewhere: docs/rules.md says so.
            let rules = if (mta, story) == ("exim", Story::Local) { STORIES[0].1 } else { rules };
            assert_eq!(said.into_iter().collect::<Vec<&str>>(), rules, "{mta} {story:?}");
        }
    }
    fs::remove_dir_all(&dir).unwrap();
}
