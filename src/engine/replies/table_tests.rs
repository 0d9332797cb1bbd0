//! Every row of the table compiles and decides something; the classes of a few texts nobody may get wrong.

use super::*;
use std::collections::BTreeSet;

const KNOWN: &str = include_str!("../../../tests/replies/known.tsv");

fn matches(reply: &str) -> Option<usize> {
    TABLE.as_ref()?.first(&plain::plain(reply.as_bytes()))
}

#[test]
fn every_row_is_read_and_compiles() {
    let file = include_str!("table.txt").lines().filter(|line| !line.is_empty() && !line.starts_with(['#', '%']));
    assert_eq!(ROWS.len(), file.count(), "a line is no row: its class is unknown, or the pattern is missing");
    for row in ROWS.iter() {
        let (class, pattern) = row;
        assert!(
            Table::new(std::slice::from_ref(row)).is_some(),
            "{}: wrong, or begins with no word: {pattern}",
            class.name()
        );
        assert!(!pattern.contains('%'), "shared words that are nowhere written: {pattern}");
        let escaped = pattern.replace(r"\S", "").replace(r"\b", "").replace(r"\d", "");
        assert!(!escaped.bytes().any(|byte| byte.is_ascii_uppercase()), "words are in small letters: {pattern}");
    }
    assert_eq!(TABLE.as_ref().map(Table::len), Some(ROWS.len()), "the rows do not compile together");
}

/// A row that no text needs is dead: shadowed by one before it, or misspelt.
#[test]
fn every_row_is_reachable() {
    let mut reached = BTreeSet::new();
    for line in KNOWN.lines().filter(|line| !line.starts_with('#')) {
        reached.extend(matches(line.split('\t').nth(3).unwrap()));
    }
    let (mut row, mut wrong) = (0, Vec::new());
    for line in include_str!("table.txt").lines() {
        if let Some(example) = line.strip_prefix("# e.g. ") {
            let of = matches(example);
            if of != Some(row - 1) {
                wrong.push(format!("`{example}` is decided by {:?}", of.map(|at| &ROWS[at])));
            }
            reached.insert(row - 1);
        } else if !line.is_empty() && !line.starts_with(['#', '%']) {
            row += 1;
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let dead: Vec<_> = (0..ROWS.len()).filter(|at| !reached.contains(at)).map(|at| &ROWS[at]).collect();
    assert!(dead.is_empty(), "{} rows decide nothing:\n{dead:#?}", dead.len());
}

/// Texts share places there: the answer is that of the text itself all the same.
#[test]
fn what_is_remembered_is_what_is_found() {
    let (table, fresh) = (Table::new(&ROWS).unwrap(), TABLE.as_ref().unwrap());
    let texts: Vec<&str> = KNOWN.lines().filter_map(|line| line.split('\t').nth(3)).collect();
    for round in 0..3 {
        for text in &texts {
            let words = plain::plain(format!("{text} {}", round / 2).as_bytes());
            let found = fresh.search(&words, &mut fresh.kept.lock().unwrap().states);
            assert_eq!(table.first(&words), found.map(|row| row.as_usize()), "{text}");
        }
    }
}

/// Names that the recipient or the receiver chose say nothing.
#[test]
fn names_class_nothing() {
    let replies = Replies::default();
    for reply in [
        "host mx.spamhaus.example[192.0.2.1] said: 550 5.1.1 <spam@blacklist.example>: User unknown (in reply to RCPT TO command)",
        "host antispam.example[192.0.2.1] said: 550 5.1.1 <dmarc-virus@rbl.example>... User unknown",
        "SMTP error from remote mail server after RCPT TO:<spam@rbl.example>: 550 user unknown",
        "unknown user: \"spam\"",
    ] {
        assert_eq!(replies.judge(Dsn::new(5, 1, 1), reply.as_bytes()).class, ReplyClass::UnknownRecipient, "{reply}");
    }
}

/// Verdicts feed blocks: what a receiver says of its rules, or of its product, or in a link, is none.
#[test]
fn a_word_of_spam_accuses_nobody() {
    let replies = Replies::default();
    for (reply, class) in [
        ("451 4.7.1 To prevent spam messages, please try again later", ReplyClass::Greylisted),
        ("450 Please try again later: we fight spam mail", ReplyClass::Greylisted),
        ("550 5.7.1 To prevent spam mail we take none from here", ReplyClass::Policy),
        ("550 5.7.1 Refused, to protect our users from spam abuse", ReplyClass::Policy),
        ("550 5.7.1 Not permitted. See https://mail.example/junk/spam", ReplyClass::Policy),
        ("550 5.1.1 Unknown user, see https://mail.example/phishing", ReplyClass::UnknownRecipient),
        ("452 4.3.1 AntiSpam Gateway: insufficient resources", ReplyClass::LocalError),
        ("550 5.2.1 Account suspended for spam", ReplyClass::MailboxDisabled),
        ("550 5.1.1 User unknown. If this was wrongly classified as spam, write to us", ReplyClass::UnknownRecipient),
        ("552 Mailbox full. Please ask the user to delete spam messages", ReplyClass::MailboxFull),
        ("451 4.3.0 spam filter temporarily unavailable", ReplyClass::LocalError),
        ("550 5.7.1 Rejected. To report spam contact the abuse desk", ReplyClass::Policy),
        ("550 5.1.1 Unknown user spamtrap", ReplyClass::UnknownRecipient),
        ("421 4.7.0 too many messages, this is an anti-spam measure", ReplyClass::RateLimited),
        ("550 Attachment type .exe not allowed by anti-spam policy", ReplyClass::Content),
        ("550 5.7.1 Connection refused by our spam firewall", ReplyClass::Policy),
        ("550 Sender is in the personal blacklist of the recipient", ReplyClass::Policy),
        ("554 5.7.1 The recipient is blacklisted", ReplyClass::Policy),
        ("451 4.7.1 DNSBL zen.dnsbl.example timed out", ReplyClass::LocalError),
        ("550 Address unknown; your host may be blacklisted for repeated attempts", ReplyClass::UnknownRecipient),
    ] {
        assert_eq!(replies.judge(Dsn::NONE, reply.as_bytes()).class, class, "{reply}");
    }
}

#[test]
fn any_bytes_have_a_class() {
    let replies = Replies::default();
    let mut random = fastrand::Rng::with_seed(1);
    for _ in 0..2_000 {
        let reply: Vec<u8> = (0..random.usize(..200)).map(|_| random.u8(..)).collect();
        let code = replies.judge(Dsn::NONE, &reply).code;
        assert!(code == 0 || (200..600).contains(&code));
    }
}
