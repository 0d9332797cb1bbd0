//! What is counted of whom, and what is shown of it.

use super::*;
use crate::mail::{Dsn, Origin, ScriptClaim, TraceTexts};

const OWNER: Owner = Owner(16);
const AT: Time = Time::from_secs(10_000);

fn wanted(signal: Signal, scope: Scope) -> Wanted {
    Wanted { owner: OWNER, signal: Some(signal), scope, proven: true, from: Some(AT.plus_secs(-3_600)), to: AT }
}

fn id(name: &str) -> QueueId {
    QueueId::new(name.as_bytes()).unwrap()
}

fn leg<'a>(name: &str, secs: i64, recipients: &'a [RecipientTrace]) -> LegFact<'a> {
    LegFact {
        host: b"mx1",
        instance: b"mx",
        id: id(name),
        owner: OWNER,
        origin: Origin::Script,
        basis: crate::mail::Basis::Uid,
        first: Time::from_secs(secs),
        last: Time::from_secs(secs + 1),
        message_id: b"<m@host.test>",
        sender: b"web@host.test",
        login: b"",
        uid: 1001,
        client_address: b"",
        size: 1234,
        parent: None,
        recipients,
        recipients_cut: false,
        script: None,
        end: "removed",
    }
}

fn to(address: &str, state: RecipientState, dsn: Dsn, reply: &str) -> RecipientTrace {
    let texts = TraceTexts::new(address.as_bytes(), b"mx.there.test[192.0.2.1]:25", reply.as_bytes());
    RecipientTrace { texts, dsn, state, attempts: 1, last: Time::from_secs(9_990), next: None }
}

fn sent(address: &str) -> RecipientTrace {
    to(address, RecipientState::Ended(Outcome::Sent), Dsn::new(2, 0, 0), "250 ok")
}

fn failure<'a>(name: &str, secs: i64, recipient: &'a str, reply: &'a str) -> Failure<'a> {
    Failure {
        at: Time::from_secs(secs),
        owner: OWNER,
        id: id(name),
        recipient: recipient.as_bytes(),
        outcome: "bounced",
        late: false,
        dsn: "5.1.1",
        class: Some(ReplyClass::UnknownRecipient),
        reply: reply.as_bytes(),
    }
}

fn gather(wanted: Wanted, legs: &[LegFact<'_>], failures: &[Failure<'_>]) -> Evidence {
    let replies = Replies::default();
    let mut gathering = Gathering::new(wanted, &replies);
    legs.iter().for_each(|leg| gathering.know(leg));
    legs.iter().for_each(|leg| gathering.leg(leg));
    failures.iter().for_each(|failure| gathering.error(failure));
    gathering.finish()
}

fn shares(list: &[Share]) -> Vec<(&str, u64, u64)> {
    list.iter().map(|share| (share.name.as_str(), share.count, share.errors)).collect()
}

#[test]
fn a_window_is_summed_up() {
    let form = ScriptClaim::new(b"/home/web1/www", b"form.php", 3);
    let whole = ScriptClaim::new(b"", b"/home/web1/a/b.php", 0);
    let (one, two, three) = ([sent("x1@a.test"), sent("x2@A.test")], [sent("x3@b.test")], [sent("x4@a.test")]);
    let legs = [
        LegFact { script: Some(&form), ..leg("Q1", 9_000, &one) },
        LegFact { script: Some(&form), ..leg("Q2", 9_001, &two) },
        LegFact { script: Some(&whole), ..leg("Q3", 9_002, &three) },
        leg("OLD", 6_400, &three),
        leg("NEW", 10_001, &three),
        LegFact { end: "rejected", ..leg("NO", 9_003, &[]) },
    ];
    let failures = [failure("Q3", 9_004, "x4@a.test", "550 x4 unknown"), failure("OLD", 6_000, "x9@c.test", "")];
    let evidence = gather(wanted(Signal::Messages, Scope::Script), &legs, &failures);
    assert_eq!((evidence.messages, evidence.recipients), (3, 4));
    assert_eq!(evidence.first, Some((Time::from_secs(9_000), id("Q1"))));
    assert_eq!(evidence.last, Some((Time::from_secs(9_002), id("Q3"))));
    assert_eq!(shares(&evidence.scripts), [("form.php", 2, 0), ("/home/web1/a/b.php", 1, 0)]);
    assert_eq!(shares(&evidence.directories), [("/home/web1/www", 2, 0), ("/home/web1/a", 1, 0)]);
    assert_eq!(shares(&evidence.domains), [("a.test", 3, 1), ("b.test", 1, 0)]);
    assert_eq!(shares(&evidence.classes), [("unknown_recipient", 1, 0)]);
    assert_eq!((evidence.script_count, evidence.domain_count, evidence.cut), (2, 2, false));
    let lines: Vec<&str> = evidence.lines.iter().map(|line| line.text.as_str()).collect();
    assert_eq!(lines[0], "Q3 …@a.test bounced 5.1.1 (unknown_recipient): 550 … unknown");
    assert_eq!(lines[1], "Q1 …@a.test sent 2.0.0: 250 ok", "one of each message");
    assert!(!format!("{evidence:?}").contains("x4"), "{evidence:?}");
}

#[test]
fn nothing_of_others_is_counted() {
    let one = [sent("x@a.test")];
    let legs = [
        LegFact { owner: Owner(17), ..leg("Q1", 9_000, &one) },
        LegFact { origin: Origin::SmtpAuth, login: b"a@b.test", ..leg("Q2", 9_000, &one) },
        LegFact { basis: crate::mail::Basis::SenderDomain, ..leg("Q3", 9_000, &one) },
        leg("Q4", 9_000, &one),
    ];
    let failures = [
        Failure { owner: Owner(17), ..failure("Q1", 9_001, "x@a.test", "") },
        failure("Q2", 9_001, "x@b.test", ""),
        failure("Q3", 9_001, "x@c.test", ""),
        // Of a message before the window.
        failure("Q9", 9_001, "x@d.test", ""),
    ];
    let script = gather(wanted(Signal::Errors, Scope::Script), &legs, &failures);
    assert_eq!((script.messages, shares(&script.domains)), (1, vec![("a.test", 1, 0), ("d.test", 0, 1)]));
    let login = gather(wanted(Signal::Errors, Scope::Login("A@b.test".into())), &legs, &failures);
    assert_eq!((login.messages, login.first), (1, Some((Time::from_secs(9_000), id("Q2")))));
    let claimed = Wanted { proven: false, ..wanted(Signal::Errors, Scope::All) };
    assert_eq!(gather(claimed, &legs, &failures).first, Some((Time::from_secs(9_000), id("Q3"))));
}

#[test]
fn what_goes_on_under_another_id_is_one_message() {
    let handed = [to("x@a.test", RecipientState::Handed, Dsn::NONE, "")];
    let after = [sent("x@a.test")];
    let login = LegFact { origin: Origin::SmtpAuth, login: b"a@b.test", ..leg("Q1", 9_000, &handed) };
    let child = LegFact { login: b"", parent: Some(id("Q1")), ..leg("Q2", 9_000, &after) };
    let other = LegFact { parent: Some(id("Q0")), origin: Origin::SmtpAuth, ..leg("Q3", 9_000, &after) };
    // The newest first, as the index has them.
    let legs = [other, child, login];
    let evidence = gather(wanted(Signal::Messages, Scope::Login("a@b.test".into())), &legs, &[]);
    assert_eq!((evidence.messages, evidence.recipients), (1, 1));
    assert_eq!(shares(&evidence.domains), [("a.test", 1, 0)]);
}

#[test]
fn of_what_waits_only_that_is_counted() {
    let words = "450 4.2.2 mailbox full";
    let waits = [to("x@a.test", RecipientState::Deferred, Dsn::new(4, 2, 2), words), sent("y@b.test")];
    let (held, plain) = ([to("x@c.test", RecipientState::Queued, Dsn::NONE, "")], [sent("z@d.test")]);
    let legs = [
        LegFact { end: "open", ..leg("Q1", 100, &waits) },
        LegFact { end: "held", ..leg("Q2", 200, &held) },
        leg("Q3", 9_000, &plain),
    ];
    let now = |signal| Wanted { from: None, ..wanted(signal, Scope::All) };
    let queued = gather(now(Signal::Queued), &legs, &[failure("Q3", 9_000, "z@d.test", "")]);
    assert_eq!(shares(&queued.domains), [("a.test", 1, 0), ("c.test", 1, 0)]);
    assert_eq!(shares(&queued.classes), [("mailbox_full", 1, 0)]);
    assert_eq!((queued.messages, queued.recipients), (2, 2));
    let held = gather(now(Signal::Held), &legs, &[]);
    assert_eq!(shares(&held.domains), [("c.test", 1, 0)]);
    assert_eq!(held.lines.first().map(|line| line.text.as_str()), Some("Q2 …@c.test queued"));
}

#[test]
fn the_lines_are_few_and_of_different_errors_first() {
    let one = [sent("x@ok.test")];
    let bounced = [to("x@a.test", RecipientState::Ended(Outcome::Bounced), Dsn::new(5, 1, 1), "550 no")];
    let mut legs: Vec<LegFact<'_>> = (0..40).map(|n| leg(&format!("Q{n}"), 9_000 + n, &one)).collect();
    // Not once as an error and once as a message.
    legs.push(leg("E", 9_100, &bounced));
    let mut failures: Vec<Failure<'_>> = (0..30).map(|n| failure("E", 9_100 - n, "x@a.test", "550 no")).collect();
    failures.push(failure("F", 9_050, "x@rare.test", "550 other"));
    let errors = gather(wanted(Signal::Errors, Scope::Script), &legs, &failures).lines;
    assert_eq!(errors.len(), MOST_LINES);
    assert!(errors.iter().any(|line| line.text.contains("rare.test")), "{errors:?}");
    assert!(errors.iter().all(|line| line.text.contains("bounced")) && errors.is_sorted(), "{errors:?}");
    let volume = gather(wanted(Signal::Messages, Scope::Script), &legs, &failures).lines;
    let bounced = volume.iter().filter(|line| line.text.contains("bounced")).count();
    assert_eq!((volume.len(), bounced), (MOST_LINES, ERRORS_ASIDE), "{volume:?}");
    assert!(volume.iter().any(|line| line.text.starts_with("Q39 ")), "the newest: {volume:?}");
    let of_it: Vec<&Line> = volume.iter().filter(|line| line.text.starts_with("E ")).collect();
    assert!(of_it.iter().all(|line| line.text.contains("(unknown_recipient)")), "{of_it:?}");
}

#[test]
fn most_comes_first_and_equals_in_the_order_of_their_names() {
    let counts = [("b", (2, 0)), ("a", (2, 0)), ("c", (0, 9)), ("d", (1, 0))];
    let counts = counts.into_iter().map(|(name, count)| (name.to_owned(), count)).collect();
    assert_eq!(shares(&top(counts, 3)), [("c", 0, 9), ("a", 2, 0), ("b", 2, 0)]);
}
