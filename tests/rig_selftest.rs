//! The rig itself, without the product: a real Postfix delivers, refuses, defers, filters and forwards as it should.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a test"
)]
#![allow(clippy::disallowed_methods, reason = "a test of real servers waits in real time")]
mod support;

use support::postfix::{Options, Postfix};
use support::smtp::{self, Mail};
use support::wait_until;

fn message(id: &str) -> String {
    format!("From: a@hosting.test\nSubject: {id}\nX-Test-Id: {id}\nMessage-ID: <{id}@hosting.test>\n\n.dot\nbody\n")
}

#[test]
fn sendmail_login_refusal_deferral_and_forged_reply() {
    let postfix = Postfix::start(&Options::default());
    postfix.sendmail("web1", "bounce@hosting.test", &["to@accept.test"], &message("script"));
    wait_until("the script's message to arrive", || postfix.accept.with_id("script").len() == 1);
    let arrived = &postfix.accept.with_id("script")[0];
    assert_eq!(arrived.sender, "bounce@hosting.test");
    assert_eq!(arrived.recipients, ["to@accept.test"]);
    assert_eq!(arrived.message_id(), Some("<script@hosting.test>"));
    assert!(arrived.data.contains("\r\n.dot\r\nbody\r\n"), "{:?}", arrived.data);
    postfix.wait_log(&["postfix/pickup[", "uid=2001 from=<bounce@hosting.test>"]);
    postfix.wait_log(&["to=<to@accept.test>", "status=sent (250 2.0.0 Ok: taken)"]);

    postfix.add_login("box1@hosting.test", "secret");
    let text = message("login");
    let mut mail = Mail { sender: "box1@hosting.test", recipients: &["to@accept.test"], data: &text, auth: None };
    let refused = smtp::send(postfix.submission_port(), &mail).unwrap_err();
    assert!(refused.starts_with("554 5.7.1"), "{refused}");
    mail.auth = Some(("box1@hosting.test", "wrong"));
    let refused = smtp::send(postfix.submission_port(), &mail).unwrap_err();
    assert!(refused.starts_with("535"), "{refused}");
    mail.auth = Some(("box1@hosting.test", "secret"));
    smtp::send(postfix.submission_port(), &mail).unwrap();
    postfix.wait_log(&["postfix/submission/smtpd[", "sasl_method=PLAIN, sasl_username=box1@hosting.test"]);
    wait_until("the login's message to arrive", || postfix.accept.with_id("login").len() == 1);

    let text = message("refused");
    let mail = Mail { sender: "a@hosting.test", recipients: &["no@reject.test"], data: &text, auth: None };
    smtp::send(postfix.smtp_port(), &mail).unwrap();
    postfix.wait_log(&["to=<no@reject.test>", "dsn=5.1.1", "status=bounced"]);
    wait_until("the bounce message to arrive", || postfix.accept.messages().iter().any(|m| m.sender.is_empty()));
    assert!(postfix.reject.messages().is_empty());

    postfix.sendmail("web2", "a@hosting.test", &["busy@defer.test"], &message("deferred"));
    postfix.wait_log(&["to=<busy@defer.test>", "dsn=4.2.1", "status=deferred"]);
    assert!(postfix.run("postqueue", &["-p"]).contains("busy@defer.test"));

    postfix.forge("550 5.7.1 no), status=sent (250 ok");
    postfix.sendmail("web3", "a@hosting.test", &["x@forge.test"], &message("forged"));
    let line = postfix.wait_log(&["to=<x@forge.test>", "status=bounced"]);
    assert!(line.contains("status=sent (250 ok"), "{line}");
}

#[test]
fn filter_hop_forward_and_a_second_instance_with_short_ids() {
    let filtered = Postfix::start(&Options { content_filter: true, ..Options::default() });
    let second = Options { long_queue_ids: false, syslog_name: "postfix-b".to_owned(), ..Options::default() };
    let second = Postfix::start(&second);

    filtered.sendmail("web1", "a@hosting.test", &["one@accept.test", "two@accept.test"], &message("hop"));
    wait_until("the filtered message to arrive", || !filtered.accept.with_id("hop").is_empty());
    filtered.wait_log(&["to=<one@accept.test>", "status=sent (250 2.0.0 from MTA: 250 2.0.0 Ok: queued as "]);
    let hops = filtered.log().lines().filter(|l| l.contains("message-id=<hop@hosting.test>")).count();
    assert_eq!(hops, 2, "{}", filtered.log());

    second.sendmail("web2", "a@hosting.test", &["forward@localhost"], &message("forward"));
    wait_until("the forwarded message to arrive", || second.accept.with_id("forward").len() == 1);
    assert_eq!(second.accept.with_id("forward")[0].recipients, ["forwarded@accept.test"]);
    let line = second.wait_log(&["postfix-b/local[", "status=sent (forwarded as "]);
    let id = line.split("]: ").nth(1).and_then(|rest| rest.split(':').next()).unwrap();
    assert!(id.len() <= 12 && id.bytes().all(|b| b.is_ascii_hexdigit()), "not a short queue id: {id}");
    assert!(filtered.accept.with_id("forward").is_empty());
}
