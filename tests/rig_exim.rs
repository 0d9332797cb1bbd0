//! The rig's Exim, without the product: both versions accept, deliver, refuse, defer, expire, freeze, thaw, remove and
//! log as they should.

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

use support::exim::{Call, Exim, Options, Script, Version, selector};
use support::ident::{Ident, connect_from};
use support::server::MailServer;
use support::smtp::{self, Mail};
use support::wait_until;

fn message(id: &str) -> String {
    format!(
        "From: a@hosting.test\nSubject: {id}\nX-Test-Id: {id}\nX-PHP-Originating-Script: 2001:{id}.php\n\
         Message-ID: <{id}@hosting.test>\n\nbody\n"
    )
}

/// A submission by web1 from a directory of its own.
fn script(exim: &Exim, id: &str, call: Call, recipients: &[&str]) {
    let (cwd, message) = (exim.own_dir(&format!("home/web1/{id}")), message(id));
    let sender = "bounce@hosting.test";
    exim.sendmail(&Script { user: "web1", cwd: &cwd, call, sender, recipients, message: &message });
}

/// The id that stands in a line of the log after its stamp, of the version's length.
fn id_of(line: &str, version: Version) -> String {
    let length = if version == Version::V4_96 { 16 } else { 23 };
    let id = line.split(' ').find(|word| word.len() == length && word.matches('-').count() == 2 && !word.contains('='));
    id.unwrap_or_else(|| panic!("no id of {length} characters: {line}")).to_owned()
}

fn submissions(version: Version) {
    let exim = Exim::start(&Options::new(version, selector::CPANEL));
    assert!(exim.run(&["-bV"]).starts_with(&format!("Exim version {}", version.name())));

    script(&exim, "plain", Call::Arguments, &["1@accept.test", "2@accept.test"]);
    wait_until("the message to arrive", || exim.accept.with_id("plain").len() == 1);
    let arrived = &exim.accept.with_id("plain")[0];
    assert_eq!(arrived.sender, "bounce@hosting.test");
    assert_eq!(arrived.recipients, ["1@accept.test", "2@accept.test"]);
    let cwd = exim.own_dir("home/web1/plain");
    let line =
        exim.wait_log(&["<= bounce@hosting.test U=web1 P=local S=", "T=\"plain\" for 1@accept.test 2@accept.test"]);
    let id = id_of(&line, version);
    exim.wait_log(&[&format!(" cwd={} ", cwd.display()), " args: ", "sendmail -i -f bounce@hosting.test"]);
    let evidence = format!("agent: uid=2001 user=web1 rcpts=2 cwd={} script=\"2001:plain.php\"", cwd.display());
    exim.wait_log(&[&format!("{id} {evidence}")]);
    exim.wait_log(&[&format!("{id} -> "), "C=\"250 2.0.0 Ok: taken\""]);
    exim.wait_log(&[&format!("{id} Completed")]);

    script(&exim, "headers", Call::Headers, &["3@accept.test"]);
    wait_until("the message to arrive", || exim.accept.with_id("headers").len() == 1);
    exim.wait_log(&["sendmail -t -i -f bounce@hosting.test"]);
    script(&exim, "conversation", Call::Conversation, &["4@accept.test"]);
    wait_until("the message to arrive", || exim.accept.with_id("conversation").len() == 1);
    exim.wait_log(&["U=web1 P=local-esmtp", "for 4@accept.test"]);

    let text = message("login");
    let mut mail = Mail { sender: "a@hosting.test", recipients: &["5@accept.test"], data: &text, auth: None };
    mail.auth = Some(("box1@hosting.test", "wrong"));
    let refused = smtp::send(exim.port(), &mail).unwrap_err();
    assert!(refused.starts_with("535"), "{refused}");
    mail.auth = Some(("box1@hosting.test", "secret"));
    smtp::send(exim.port(), &mail).unwrap();
    wait_until("the message to arrive", || exim.accept.with_id("login").len() == 1);
    exim.wait_log(&["P=esmtpa A=plain_server:box1@hosting.test", "for 5@accept.test"]);

    // A client from elsewhere may not relay without a login, and its host says who it is.
    let own = exim.identified_address();
    let _ident = Ident::start(&own, "web2");
    mail.auth = None;
    let refused = smtp::send_over(connect_from(&own, exim.port()).unwrap(), "far", &mail).unwrap_err();
    assert!(refused.starts_with("550"), "{refused}");
    mail.recipients = &["6@box.test"];
    smtp::send_over(connect_from(&own, exim.port()).unwrap(), "far", &mail).unwrap();
    exim.wait_log(&[&format!("H=(far) [{own}]"), "U=web2 P=esmtp", "for 6@box.test"]);

    script(&exim, "local", Call::Arguments, &["7@box.test", "8@alias.test", "9@list.test"]);
    exim.wait_log(&["=> 7 <7@box.test> R=box T=box"]);
    exim.settle();
    let boxed: Vec<_> =
        exim.mailbox().into_iter().map(|m| (m.unique().unwrap().to_owned(), m.sender, m.recipients)).collect();
    let [six, seven] = ["6@box.test", "7@box.test"].map(|to| vec![to.to_owned()]);
    let [a, bounce] = ["a@hosting.test", "bounce@hosting.test"].map(str::to_owned);
    assert_eq!(boxed, [("login".to_owned(), a, six), ("local".to_owned(), bounce, seven)]);
    let mut there = exim.accept.with_id("local")[0].recipients.clone();
    there.sort();
    assert_eq!(there, ["8@accept.test", "a.9@accept.test"]);
    exim.wait_log(&["8@accept.test <8@alias.test> R=receivers"]);
}

fn stay_in_the_queue(version: Version) {
    let exim = Exim::start(&Options::new(version, selector::NONE));
    exim.forge("450 4.2.0 not yet");
    let mixed = ["1@accept.test", "2@reject.test", "3@defer.test", "4@late.test", "5@list.test", "6@fail.test"];
    script(&exim, "mixed", Call::Arguments, &[&mixed[..], &["7@unrouteable.test"]].concat());
    let id = exim.queue_id("3@defer.test");
    let open = exim.queue();
    assert_eq!((open.len(), open[0].queue.as_str()), (1, "deferred"));
    // The alias is listed until all that it stands for is done.
    assert_eq!(open[0].recipients, ["3@defer.test", "4@late.test", "a.5@accept.test", "b.5@forge.test"]);
    exim.wait_log(&["** 2@reject.test R=receivers T=smtp", "550 5.1.1"]);
    exim.wait_log(&["== 3@defer.test R=receivers T=smtp defer (-44)", "450 4.2.1"]);
    exim.wait_log(&["** 6@fail.test R=failing: no such person here"]);
    exim.wait_log(&["** 7@unrouteable.test: Unrouteable address"]);
    let notices = || exim.accept.messages().into_iter().filter(|m| m.sender.is_empty()).count();
    wait_until("the bounce message", || notices() == 1);

    exim.wait_log(&["b.5@forge.test <5@list.test>", "defer (-44)"]);
    exim.forge("250 2.0.0 now");
    wait_until("the message to be given up for one recipient", || {
        exim.retry_all();
        exim.log().contains("** 4@late.test: retry timeout exceeded")
    });
    exim.wait_log(&["=> b.5@forge.test <5@list.test>"]);
    wait_until("another bounce message", || notices() == 2);
    let asked = exim.defer.answers().iter().filter(|(to, _)| to == "3@defer.test").count();
    let logged = exim.log().lines().filter(|l| l.contains("== 3@defer.test R=receivers T=smtp defer")).count();
    assert!(asked >= 2 && asked == logged, "{asked} attempts, {logged} lines");

    exim.run(&["-Mf", &id]);
    assert_eq!(exim.queue()[0].queue, "hold");
    exim.wait_log(&[&format!("{id} frozen by root")]);
    exim.retry_all();
    assert_eq!(exim.defer.answers().iter().filter(|(to, _)| to == "3@defer.test").count(), asked);
    exim.run(&["-Mt", &id]);
    assert_eq!(exim.queue()[0].queue, "deferred");
    exim.wait_log(&[&format!("{id} unfrozen by root")]);
    let old = exim.rotate();
    exim.run(&["-Mrm", &id]);
    assert!(exim.queue().is_empty());
    exim.wait_log(&[&format!("{id} removed by root")]);
    assert!(!std::fs::read_to_string(old).unwrap().contains("removed by root"));

    let frozen = message("frozen").replace("Subject", "X-Freeze: yes\nSubject");
    let cwd = exim.own_dir("home");
    let call = Call::Arguments;
    let recipients = &["8@accept.test", "9@accept.test"];
    exim.sendmail(&Script { user: "web2", cwd: &cwd, call, sender: "a@hosting.test", recipients, message: &frozen });
    let id = exim.queue_id("9@accept.test");
    assert_eq!(exim.queue()[0].queue, "hold");
    exim.run(&["-Mg", &id]);
    exim.wait_log(&[&format!("{id} cancelled by root")]);
    wait_until("a bounce message of what was given up", || notices() == 3);
    exim.settle();
    assert!(exim.queue().is_empty());
}

#[test]
fn exim_4_96_takes_mail_by_every_way() {
    submissions(Version::V4_96);
}

#[test]
fn exim_4_98_takes_mail_by_every_way() {
    submissions(Version::V4_98);
}

#[test]
fn exim_4_96_keeps_gives_up_freezes_and_removes() {
    stay_in_the_queue(Version::V4_96);
}

#[test]
fn exim_4_98_keeps_gives_up_freezes_and_removes() {
    stay_in_the_queue(Version::V4_98);
}
