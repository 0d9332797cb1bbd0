//! What a hosting server's customers do: four users whose scripts and programs send mail through Exim at the same time,
//! by every way there is and to every kind of recipient. Each injector keeps its own record.
use std::collections::BTreeMap;
use std::path::PathBuf;

use super::exim::{Call, Exim, Script};
use super::smtp::{self, Mail};
use super::truth::{By, Injected, PASSWORD, Truth};

/// Unix users of the rig with a login of each, as a mail program uses it.
pub const USERS: [(&str, &str); 4] = [
    ("web1", "box1@hosting.test"),
    ("web2", "box2@hosting.test"),
    ("web3", "main@hosting.test"),
    ("web4", "news@shop2.test"),
];

/// The recipients of a message, by domain.
const MIXES: [&[&str]; 11] = [
    &["accept.test"],
    &["accept.test", "accept.test", "reject.test"],
    &["alias.test"],
    &["accept.test", "defer.test"],
    &["list.test", "accept.test"],
    &["box.test"],
    &["accept.test", "forge.test"],
    &["late.test"],
    &["fail.test", "accept.test", "alias.test"],
    &["reject.test", "defer.test", "late.test", "list.test", "box.test"],
    &["unrouteable.test", "accept.test"],
];

/// What a script says of itself: its directory and its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    pub directory: PathBuf,
    pub file: String,
}

/// One injector's record.
#[derive(Debug, Default)]
pub struct Customer {
    pub truth: Truth,
    /// The scripts of the messages that scripts made, by the message's id.
    pub origins: BTreeMap<String, Origin>,
}

/// Sends `count` messages as one of `USERS` through `exim`, in a mix of ways and recipients that depends on `user`.
pub fn sends(exim: &Exim, user: usize, count: usize, prefix: &str) -> Customer {
    let (name, login) = USERS[user];
    let mut customer = Customer { truth: Truth::with_prefix(prefix), ..Customer::default() };
    for n in 0..count {
        let mix = MIXES[(n + 3 * user) % MIXES.len()];
        // The ways do not go round as the mixes do: each meets each.
        match (n + n / MIXES.len()) % 8 {
            0..3 => drop(customer.script(exim, name, n, Call::Arguments, mix, "")),
            3..5 => drop(customer.script(exim, name, n, Call::Headers, mix, "")),
            5 => drop(customer.script(exim, name, n, Call::Conversation, mix, "")),
            6 => customer.smtp(exim, By::Login(login), mix),
            _ => customer.smtp(exim, By::Loopback("x@shop.test"), mix),
        }
    }
    customer
}

impl Customer {
    /// A script's message, `n` decides which script's; `headers` are more header lines.
    pub fn script(
        &mut self,
        exim: &Exim,
        user: &str,
        n: usize,
        call: Call,
        domains: &[&str],
        headers: &str,
    ) -> Injected {
        let (id, directory) = (self.truth.next_id(), exim.own_dir(&format!("home/{user}/site{}/public", n % 3)));
        let file = format!("{user}-mailer{}.php", n % 5);
        let uid = user.replace("web", "200");
        let headers = format!("X-PHP-Originating-Script: {uid}:{file}\n{headers}");
        let to = addresses(&id, domains);
        let (to, message) = (to.iter().map(String::as_str).collect::<Vec<_>>(), text(&id, &headers));
        let sender = "a@hosting.test";
        exim.sendmail(&Script { user, cwd: &directory, call, sender, recipients: &to, message: &message });
        self.origins.insert(id.clone(), Origin { directory, file });
        self.record(By::Script(user), id, domains)
    }

    fn smtp(&mut self, exim: &Exim, by: By, domains: &[&str]) {
        let id = self.truth.next_id();
        let (to, message) = (addresses(&id, domains), text(&id, ""));
        let to: Vec<&str> = to.iter().map(String::as_str).collect();
        let (sender, auth) = match by {
            By::Login(login) => ("a@hosting.test", Some((login, PASSWORD))),
            By::Loopback(sender) => (sender, None),
            By::Script(_) => panic!("scripts use sendmail(1)"),
        };
        let mail = Mail { sender, recipients: &to, data: &message, auth };
        smtp::send(exim.port(), &mail).unwrap_or_else(|e| panic!("{by:?}: {e}"));
        self.record(by, id, domains);
    }

    fn record(&mut self, by: By, id: String, domains: &[&str]) -> Injected {
        let message = Injected { account: by.account(), recipients: final_recipients(&id, domains), id };
        self.truth.injected.push(message.clone());
        message
    }
}

fn text(id: &str, headers: &str) -> String {
    format!("From: a@hosting.test\nSubject: {id}\nX-Test-Id: {id}\nMessage-ID: <{id}@hosting.test>\n{headers}\nbody\n")
}

/// One new address in each domain.
fn addresses(id: &str, domains: &[&str]) -> Vec<String> {
    domains.iter().enumerate().map(|(n, domain)| format!("{id}.{n}@{domain}")).collect()
}

/// What becomes of them when the rig's aliases are expanded.
fn final_recipients(id: &str, domains: &[&str]) -> Vec<String> {
    let expand = |(n, domain): (usize, &&str)| match *domain {
        "list.test" => vec![format!("a.{id}.{n}@accept.test"), format!("b.{id}.{n}@forge.test")],
        "alias.test" => vec![format!("{id}.{n}@accept.test")],
        domain => vec![format!("{id}.{n}@{domain}")],
    };
    domains.iter().enumerate().flat_map(expand).collect()
}
