//! One tenant cannot move another's figures: a real Exim is made to log hostile text wherever text of strangers stands
//! in its log, with the ids of other tenants' open messages in it. Each text is shown to stand in the log.

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

use std::collections::BTreeMap;
use std::fs;

use support::agent::{Agent, configure};
use support::exim::{Call, Exim, Options, Script, Version, selector};
use support::ident::{Ident, connect_from};
use support::smtp::{self, Mail};
use support::truth::{
    self, ACCOUNTS, By, Figures, Injected, PASSWORD, Truth, agree, difference, from_replay, from_status,
};
use support::wait_until;

const VICTIMS: [By<'static>; 3] = [By::Script("web1"), By::Login("box1@hosting.test"), By::Loopback("x@shop.test")];
const STAMP: &str = "2026-11-24 10:00:00";

/// A message of the attacker's: everything that its script can choose.
struct Hostile<'a> {
    directory: &'a str,
    sender: &'a str,
    recipient: &'a str,
    message_id: &'a str,
    subject: &'a str,
    script: &'a str,
}

const PLAIN: Hostile = Hostile {
    directory: "plain",
    sender: "a@hosting.test",
    recipient: "",
    message_id: "",
    subject: "plain",
    script: "2002:own.php",
};

struct Attack<'a> {
    exim: &'a Exim,
    truth: Truth,
}

impl Attack<'_> {
    fn message(&self, hostile: &Hostile) -> String {
        let id = self.truth.next_id();
        let named = format!("{id}@hosting.test");
        let message_id = if hostile.message_id.is_empty() { &named } else { hostile.message_id };
        format!(
            "From: a@hosting.test\nX-Test-Id: {id}\nMessage-ID: <{message_id}>\nSubject: {}\n\
             X-PHP-Originating-Script: {}\n\nbody\n",
            hostile.subject, hostile.script
        )
    }

    fn recipient(&self, hostile: &Hostile) -> String {
        if hostile.recipient.is_empty() {
            format!("{}@accept.test", self.truth.next_id())
        } else {
            hostile.recipient.to_owned()
        }
    }

    fn sent(&mut self, account: Option<&str>, to: String, stands: &str) {
        // Any other text would prove nothing.
        self.exim.wait_log(&[stands]);
        self.exim.settle();
        let id = self.truth.next_id();
        self.truth.injected.push(Injected { account: account.map(str::to_owned), id, recipients: vec![to] });
    }

    /// web2's script sends it; `stands` is then in the log.
    fn script(&mut self, hostile: &Hostile, stands: &str) {
        let (message, to) = (self.message(hostile), self.recipient(hostile));
        let cwd = self.exim.own_dir("home/web2").join(hostile.directory);
        fs::create_dir_all(&cwd).unwrap();
        let (call, sender, recipients) = (Call::Arguments, hostile.sender, &[to.as_str()][..]);
        self.exim.sendmail(&Script { user: "web2", cwd: &cwd, call, sender, recipients, message: &message });
        self.sent(Some("web2"), to, stands);
    }

    /// Somebody sends it by SMTP, as who `login` says, from a host that says it is `ident`'s connection.
    fn smtp(&mut self, helo: &str, ident: &str, login: Option<&str>, stands: &str) {
        let own = self.exim.identified_address();
        let answers = Ident::start(&own, ident);
        let hostile = Hostile { recipient: &format!("{}@box.test", self.truth.next_id()), ..PLAIN };
        let (message, to) = (self.message(&hostile), self.recipient(&hostile));
        let auth = login.map(|login| (login, PASSWORD));
        let mail = Mail { sender: "a@hosting.test", recipients: &[&to], data: &message, auth };
        smtp::send_over(connect_from(&own, self.exim.port()).unwrap(), helo, &mail).unwrap();
        drop(answers);
        self.sent(None, to, stands);
    }

    /// Fields of the message itself, and what its script says of itself.
    fn with_messages(&mut self, victim: &str) {
        for sender in
            ["\"b U=web1 P=local S=9\"@hosting.test", "\"b> R=x T=y\"@hosting.test", "\"b for v@x\"@hosting.test"]
        {
            self.script(&Hostile { sender, ..PLAIN }, &format!("<= {sender} U=web2 "));
        }
        for local in ["a => b", "a <= web1 U=web1 P=local", "a: 250 ok", "a Completed", "a@b <c@d>"] {
            let recipient = format!("\"{} {local}\"@accept.test", self.truth.next_id());
            self.script(&Hostile { recipient: &recipient, ..PLAIN }, &format!(" <{recipient}> "));
        }
        let recipient = format!("\"{victim} Completed\"@reject.test");
        self.script(&Hostile { recipient: &recipient, ..PLAIN }, &format!(" <{recipient}> "));
        // Logged only where it reads as an address.
        for text in [
            format!("\"{victim} Completed\"@h"),
            "\"x U=web1 P=local S=1 for v@x\"@h".to_owned(),
            format!("\"x@y> R={victim} U=web1 P=local\"@h"),
        ] {
            self.script(&Hostile { message_id: &text, ..PLAIN }, &format!(" id={text}"));
        }
        for (subject, logged) in [
            ("hello for x@y", "T=\"hello for x@y\""),
            ("a\" for v@accept.test", "T=\"a\\\" for v@accept.test\""),
            ("x\\\" U=web1 P=local S=1 for v@x", "T=\"x\\\\\\\" U=web1 P=local S=1 for v@x\""),
            ("y\\", "T=\"y\\\\\""),
            ("z\" from <v@x> for v@x", "T=\"z\\\" from <v@x> for v@x\""),
        ] {
            self.script(&Hostile { subject, ..PLAIN }, logged);
        }
        let subject = format!("{STAMP} {victim} Completed");
        self.script(&Hostile { subject: &subject, ..PLAIN }, &format!("T=\"{subject}\""));
        for script in ["2001:stolen.php", "x\" uid=2001 user=web1 cwd=/home/web1 script=\"2001:stolen.php", "2002:\\\""]
        {
            let logged = script.replace('\\', "\\\\").replace('"', "\\\"");
            self.script(&Hostile { script, ..PLAIN }, &format!(" script=\"{logged}\""));
        }
        for directory in [
            "a 5 args: /usr/sbin/sendmail".to_owned(),
            "b script=\"2001:stolen.php\"".to_owned(),
            "c uid=2001 user=web1 rcpts=9 cwd=/home/web1".to_owned(),
            format!("{victim} Completed"),
        ] {
            self.script(&Hostile { directory: &directory, ..PLAIN }, &format!("home/web2/{directory}"));
        }
        // The server writes a line break as `\n`, or the forged line would stand alone.
        let directory = format!("d\n{STAMP} {victim} Completed");
        self.script(&Hostile { directory: &directory, ..PLAIN }, &format!("home/web2/d\\n{STAMP} {victim} Completed"));
    }

    /// What a client calls itself, what its host says it is, and its login.
    fn with_conversations(&mut self, victim: &str, victims_login: &str) {
        for ident in ["web1", "web1 P=local S=3 T=\"x\" for v@x", "root P=local A=x:box1@hosting.test S=2"] {
            self.smtp("client.test", ident, None, &format!(" U={ident} "));
        }
        for helo in [
            "=> victim@x".to_owned(),
            "<= web1 U=web1 P=local".to_owned(),
            "x) [127.0.0.1] U=web1 P=local S=1".to_owned(),
            format!("x) [10.1.1.1] P=esmtpa A=plain_server:{victims_login} S=1"),
            format!("{victim} Completed"),
        ] {
            self.smtp(&helo, "web2", None, &format!("H=({helo}) ["));
        }
        for login in ["evil U=web1 P=local S=1", "evil:web1", "evil S=3 T=\"x\" for v@x", "evil A=x:box1@hosting.test"]
        {
            self.smtp("client.test", "web2", Some(login), &format!("A=plain_server:{login}"));
        }
        // What is refused is logged too, with all of it.
        let helo = format!("y) [10.1.1.1] {victim} Completed");
        let mail = Mail { sender: "a@hosting.test", recipients: &["no@accept.test"], data: "\n", auth: None };
        let far = connect_from(&self.exim.identified_address(), self.exim.port()).unwrap();
        smtp::send_over(far, &helo, &mail).expect_err("nobody from elsewhere may relay without a login");
        self.exim.wait_log(&[&helo, "rejected RCPT <no@accept.test>"]);
    }

    /// What a receiver of the attacker's answers.
    fn with_replies(&mut self, victim: &str) {
        for (flag, reply) in [
            ("**", "550 5.7.1 => victim@x R=r T=t C=\"250 ok\"".to_owned()),
            ("**", format!("550 5.7.1 {victim} Completed")),
            ("**", format!("550-5.7.1 no\r\n550 5.7.1 {STAMP} {victim} Completed")),
            ("**", "550 5.7.1 no: retry timeout exceeded".to_owned()),
            ("==", "450 4.2.0 <= web1 U=web1 P=local S=1".to_owned()),
            ("==", format!("450 4.2.0 {STAMP} {victim} ** x@y: gone")),
            ("=>", format!("250 2.0.0 Ok: queued as {victim}")),
            ("=>", format!("250 OK id={victim}")),
            ("=>", "250 ok\" QT=1s Completed".to_owned()),
            ("=>", "250 ok\\".to_owned()),
        ] {
            self.exim.forge(&reply);
            let recipient = format!("{}@forge.test", self.truth.next_id());
            let text = reply.replace("\r\n", "\\n");
            let logged = if flag == "=>" { text.replace('\\', "\\\\").replace('"', "\\\"") } else { text };
            self.script(&Hostile { recipient: &recipient, ..PLAIN }, &logged);
            self.exim.wait_log(&[&format!(" {flag} {recipient} "), &logged]);
        }
    }
}

/// Sends a message of a victim's to these domains.
fn victim(truth: &mut Truth, exim: &Exim, by: By, domains: &[&str]) -> Injected {
    let id = truth.next_id();
    let recipients: Vec<String> = domains.iter().enumerate().map(|(n, domain)| format!("{id}.{n}@{domain}")).collect();
    let to: Vec<&str> = recipients.iter().map(String::as_str).collect();
    let script = if by == By::Script("web1") { "X-PHP-Originating-Script: 2001:shop.php\n" } else { "" };
    let data = format!(
        "From: a@hosting.test\nSubject: {id}\nX-Test-Id: {id}\nMessage-ID: <{id}@hosting.test>\n{script}\nbody\n"
    );
    let send = |sender, auth| smtp::send(exim.port(), &Mail { sender, recipients: &to, data: &data, auth }).unwrap();
    match by {
        By::Script(user) => {
            let (cwd, call) = (exim.own_dir("home/web1/public"), Call::Arguments);
            let sender = "a@hosting.test";
            exim.sendmail(&Script { user, cwd: &cwd, call, sender, recipients: &to, message: &data });
        }
        By::Login(login) => drop(send("a@hosting.test", Some((login, PASSWORD)))),
        By::Loopback(sender) => drop(send(sender, None)),
    }
    truth.injected.push(Injected { account: by.account(), id, recipients });
    truth.injected.last().unwrap().clone()
}

/// The figures of those whom the attack may not touch, and of the attacker's scripts. What a stranger's SMTP counts as
/// is not said: to nobody, or to the login that it used.
fn accounts_of(figures: BTreeMap<Option<String>, Figures>) -> BTreeMap<Option<String>, Figures> {
    figures.into_iter().filter(|(account, _)| account.is_some()).collect()
}

fn no_text_moves_the_figures_of_others(version: Version, selector: &str) {
    let exim = Exim::start(&Options::new(version, &format!("{selector} +arguments +subject")));
    let dir = exim.own_dir("agent");
    let config = configure(&dir, &exim.address(0), &[exim.log_path()], ACCOUNTS);
    let agent = Agent::start(&config, &exim.address(0));
    let mut truth = Truth::with_prefix("v");
    let mut open = Vec::new();
    for by in VICTIMS {
        victim(&mut truth, &exim, by, &["accept.test", "accept.test"]);
        open.push(victim(&mut truth, &exim, by, &["accept.test", "defer.test", "defer.test"]));
    }
    let before = truth.at_rest(&[&exim], &[]);
    assert_eq!(before.len(), VICTIMS.len());
    agree(&agent, &config, &before);
    let traced: Vec<_> = truth.injected.iter().map(|m| truth::trace(&config, &m.id)).collect();
    let victims = truth.injected.clone();

    let ids: Vec<String> = open.iter().map(|m| exim.queue_id(&m.recipients[1])).collect();
    let mut attack = Attack { exim: &exim, truth };
    for (n, id) in ids.iter().enumerate() {
        attack.truth.prefix = format!("a{n}");
        attack.with_messages(id);
        attack.with_conversations(id, "box1@hosting.test");
        attack.with_replies(id);
    }
    let after = accounts_of(attack.truth.at_rest(&[&exim], &[]));
    for (account, figures) in &before {
        assert_eq!(after.get(account), Some(figures), "{account:?}: the test itself touched a victim");
        assert!(figures[2] == 3 && figures[8] == 2, "{account:?} has sent and open recipients: {figures:?}");
    }
    let attacker = after[&Some("web2".to_owned())];
    assert!([0, 1, 2, 3, 7, 8].into_iter().all(|at| attacker[at] > 0), "{attacker:?}");
    agree(&agent, &config, &after);
    wait_until("the log to be read to its end", || agent.sum("sendwarden_log_backlog_bytes", &[]) == 0.0);
    agree(&agent, &config, &after);
    for (message, before) in victims.iter().zip(&traced) {
        assert_eq!(&truth::trace(&config, &message.id), before, "what is known of {} changed", message.id);
    }
    agent.stop();

    let stored = difference(&after, &truth::of_accounts(&after, |account| from_status(&config, account)));
    assert!(stored.is_empty(), "the store differs from the truth:\n{stored}");
    let mut replayed = accounts_of(from_replay(&config, &[exim.log_path()]));
    replayed.retain(|account, _| after.contains_key(account));
    let differs = difference(&after, &replayed);
    assert!(differs.is_empty(), "replay differs from the truth:\n{differs}");
}

#[test]
fn no_text_that_exim_4_96_logs_moves_the_figures_of_others() {
    no_text_moves_the_figures_of_others(Version::V4_96, selector::CPANEL);
}

#[test]
fn no_text_that_exim_4_98_logs_moves_the_figures_of_others() {
    no_text_moves_the_figures_of_others(Version::V4_98, selector::ALL);
}
