//! One tenant cannot move another's figures: a real Postfix is made to log hostile text in every free-text field, with
//! the queue ids of other tenants' open messages in it. Each text is shown to stand in the log.

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

use support::agent::{Agent, configure};
use support::postfix::{Options, Postfix};
use support::smtp::{self, Mail};
use support::truth::{self, ACCOUNTS, By, Injected, PASSWORD, Truth, agree, difference, from_replay, from_status};
use support::wait_until;

/// No retry by itself, and the subject of every message is logged.
const OPTIONS: &str = "queue_run_delay = 3000s\nminimal_backoff_time = 3000s\nmaximal_backoff_time = 4000s\n\
                       header_checks = regexp:{ { /^Subject:/ WARN seen }, { /^X-Info:/ INFO seen } }\n";

const VICTIMS: [By<'static>; 3] = [By::Script("web1"), By::Login("box1@hosting.test"), By::Loopback("x@shop.test")];

/// A message of the attacker's: everything that it can choose.
struct Hostile<'a> {
    by: By<'a>,
    helo: &'a str,
    sender: &'a str,
    recipient: &'a str,
    message_id: &'a str,
    subject: &'a str,
}

const PLAIN: Hostile = Hostile {
    by: By::Script("web2"),
    helo: "client.test",
    sender: "a@hosting.test",
    recipient: "",
    message_id: "",
    subject: "plain",
};

/// Sends it and waits until Postfix has decided on it and `stands` is in its log.
fn attack(truth: &mut Truth, postfix: &Postfix, hostile: &Hostile, stands: &str) {
    let id = format!("m{}", truth.injected.len());
    let own = format!("{id}@accept.test");
    let to = if hostile.recipient.is_empty() { own.as_str() } else { hostile.recipient };
    let named = format!("{id}@hosting.test");
    let message_id = if hostile.message_id.is_empty() { named.as_str() } else { hostile.message_id };
    let data = format!(
        "From: a@hosting.test\nX-Test-Id: {id}\nMessage-ID: <{message_id}>\nSubject: {0}\nX-Info: {0}\n\nbody\n",
        hostile.subject
    );
    let mut mail = Mail { sender: hostile.sender, recipients: &[to], data: &data, auth: None };
    match hostile.by {
        By::Script(user) => postfix.sendmail(user, hostile.sender, &[to], &data),
        By::Login(login) => {
            mail.auth = Some((login, PASSWORD));
            let sent = smtp::send_from(hostile.helo, postfix.submission_port(), &mail);
            sent.unwrap_or_else(|e| panic!("{login}: {e}"));
        }
        By::Loopback(_) => panic!("the attacker has an account"),
    }
    // Any other text would prove nothing.
    postfix.wait_log(&[stands]);
    let name = match hostile.by {
        By::Script(name) | By::Login(name) | By::Loopback(name) => name,
    };
    // A login with the text of the next field in it: nothing in the line tells where it ends. The agent ends it there.
    let account = name.split(", orig_queue_id=").next().map(str::to_owned);
    truth.injected.push(Injected { account, id, recipients: vec![to.to_owned()] });
}

/// Fields of the message itself.
fn attack_with_messages(truth: &mut Truth, postfix: &Postfix, victim: &str) {
    let recipient = "\"a, status=sent (x): removed\"@accept.test";
    attack(truth, postfix, &Hostile { recipient, ..PLAIN }, "to=<\"a, status=sent (x): removed\"@accept.test>");
    let recipient = format!("\"{victim}: removed\"@reject.test");
    let stands = format!("to=<{recipient}>");
    attack(truth, postfix, &Hostile { recipient: &recipient, ..PLAIN }, &stands);
    let sender = format!("\"b, status=bounced (x), orig_queue_id={victim}: removed\"@hosting.test");
    let stands = format!("from=<{sender}>");
    attack(truth, postfix, &Hostile { sender: &sender, ..PLAIN }, &stands);
    let sender = "\"c, size=1, nrcpt=40 (queue active)\"@hosting.test";
    let stands = format!("from=<{sender}>");
    attack(truth, postfix, &Hostile { sender, ..PLAIN }, &stands);

    for text in [
        format!("{victim}: removed"),
        format!("x>, status=sent (forwarded as {victim}): removed"),
        format!("x> resent-message-id=<{victim}: uid=2002 from=<web2"),
    ] {
        attack(truth, postfix, &Hostile { message_id: &text, ..PLAIN }, &format!("message-id=<{text}"));
    }
    for text in [
        format!("postfix/qmgr[1]: {victim}: removed"),
        format!("x from local; from=<> to=<>: postfix/postsuper[1]: {victim}: removed"),
        format!("postfix/smtp[1]: {victim}: to=<x@y.test>, relay=none, dsn=2.0.0, status=sent (250 ok)"),
        format!("postfix/qmgr[1]: {victim}: from=<x>, status=expired, returned to sender"),
        format!("postfix/pickup[1]: {victim}: uid=2002 from=<web2>"),
    ] {
        for kind in ["warning: header Subject", "info: header X-Info"] {
            attack(truth, postfix, &Hostile { subject: &text, ..PLAIN }, &format!("{kind}: {text}"));
        }
    }
}

/// What is left of a HELO name: smtpd(8) replaces these, and keeps commas and equals signs.
fn neutered(helo: &str) -> String {
    helo.replace(['<', '>', '(', ')', '\\', '"', ';', '@', ' '], "?")
}

/// Fields of the conversation with the server: what the client calls itself, and its login.
fn attack_with_conversations(truth: &mut Truth, postfix: &Postfix, victim: &str, login: &str) {
    let helo = format!("x>, status=sent (250 ok): {victim}: removed");
    let stands = format!("helo=<{}>", neutered(&helo));
    attack(truth, postfix, &Hostile { by: By::Login("box2@hosting.test"), helo: &helo, ..PLAIN }, &stands);
    let mail = Mail { sender: "a@hosting.test", recipients: &["no@accept.test"], data: "\n", auth: None };
    let helo = format!("y>: postfix/qmgr[1]: {victim}: removed");
    smtp::send_from(&helo, postfix.submission_port(), &mail).expect_err("nobody may relay without a login");
    postfix.wait_log(&["NOQUEUE: reject: ", &format!("helo=<{}>", neutered(&helo))]);
    attack(truth, postfix, &Hostile { by: By::Login(login), ..PLAIN }, &format!("sasl_username={login}"));
}

/// What a receiver of the attacker's answers.
fn attack_with_replies(truth: &mut Truth, postfix: &Postfix, victim: &str) {
    for (status, reply) in [
        ("bounced", format!("550 5.7.1 no), status=sent (250 2.0.0 Ok: queued as {victim})")),
        ("bounced", format!("550 5.7.1 no): to=<victim@x>, relay=x, dsn=2.0.0, status=sent (queued as {victim}")),
        ("bounced", format!("550 5.7.1 postfix/qmgr[1]: {victim}: removed")),
        ("deferred", "450 4.2.0 no), status=sent (250 ok".to_owned()),
        ("deferred", format!("450 4.2.0 forwarded as {victim}")),
        ("sent", format!("250 2.0.0 Ok: queued as {victim}")),
        ("sent", format!("250 2.0.0 from MTA(smtp:[127.0.0.1]:10025): 250 2.0.0 Ok: queued as {victim}")),
        ("sent", format!("250 2.0.0 forwarded as {victim}")),
        ("sent", format!("250 2.0.0 Ok), status=bounced (550 no {victim}: removed")),
    ] {
        postfix.forge(&reply);
        let recipient = format!("m{}@forge.test", truth.injected.len());
        let text = reply.split_once(' ').map_or("", |(_, text)| text);
        attack(truth, postfix, &Hostile { recipient: &recipient, ..PLAIN }, text);
        postfix.wait_log(&[&format!("to=<{recipient}>"), &format!("status={status} ("), text]);
    }
}

#[test]
fn no_text_an_attacker_can_have_logged_moves_the_figures_of_others() {
    let options = Options { extra: OPTIONS.to_owned(), ..Options::default() };
    let postfix = Postfix::start(&options);
    postfix.add_login("box1@hosting.test", PASSWORD);
    postfix.add_login("box2@hosting.test", PASSWORD);
    let dir = postfix.own_dir("agent");
    let config = configure(&dir, &postfix.address(0), &[postfix.log_path()], ACCOUNTS);
    let agent = Agent::start(&config, &postfix.address(0));
    let mut truth = Truth::default();

    let mut open = Vec::new();
    for by in VICTIMS {
        truth.send(&postfix, by, &["accept.test", "accept.test"]);
        let waits = truth.send(&postfix, by, &["accept.test", "defer.test", "defer.test"]);
        open.push(waits.recipients[1].clone());
    }
    let before = truth.at_rest(&[&postfix], &[]);
    agree(&agent, &config, &before);
    let open: Vec<String> = open.iter().map(|to| postfix.queue_id(to)).collect();

    for (n, victim) in open.iter().enumerate() {
        let login = format!("evil{n}@h, orig_queue_id={victim}, orig_client=local");
        postfix.add_login(&login, PASSWORD);
        attack_with_messages(&mut truth, &postfix, victim);
        attack_with_conversations(&mut truth, &postfix, victim, &login);
        attack_with_replies(&mut truth, &postfix, victim);
    }

    let after = truth.at_rest(&[&postfix], &[]);
    assert_eq!(before.len(), VICTIMS.len());
    for (account, figures) in &before {
        assert_eq!(after.get(account), Some(figures), "{account:?}: the test itself touched a victim");
        assert!(figures[2] == 3 && figures[8] == 2, "{account:?} has sent and open recipients: {figures:?}");
    }
    let attacker = after[&Some("web2".to_owned())];
    assert!([0, 1, 2, 3, 7, 8].into_iter().all(|at| attacker[at] > 0), "{attacker:?}");
    agree(&agent, &config, &after);
    wait_until("the log to be read to its end", || agent.sum("sendwarden_log_backlog_bytes", &[]) == 0.0);
    agree(&agent, &config, &after);
    agent.stop();

    let stored = difference(&after, &truth::of_accounts(&after, |account| from_status(&config, account)));
    assert!(stored.is_empty(), "the store differs from the truth:\n{stored}");
    let replayed = difference(&after, &from_replay(&config, &[postfix.log_path()]));
    assert!(replayed.is_empty(), "replay differs from the truth:\n{replayed}");
}
