//! What really happened, account by account, from those who sent, those who received and the queue directories.
//! Never from the log: that is what is being tested.
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::agent::{Agent, sendwarden};
use super::postfix::Postfix;
use super::server::MailServer;
use super::smtp::{self, Mail};

/// The accounts file of the tests: one account with two domains, three logins and a uid (web3).
pub const ACCOUNTS: &str = "accounts:\n  - id: shop\n    uids: [2003]\n    domains: [shop.test, shop2.test]\n    \
                            logins: [main@hosting.test, billing@shop.test, news@shop2.test]\n";
pub const PASSWORD: &str = "secret";

/// Names of COUNTS as `replay` and `status` print them.
pub const NAMES: [&str; 10] =
    ["messages", "recipients", "sent", "bounced", "expired", "deleted", "unaccounted", "deferred", "queued", "held"];

/// COUNTS of one account, in the order of `NAMES`.
pub type Figures = [u64; 10];

/// Who submits a message, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By<'a> {
    /// sendmail(1) as this unix user.
    Script(&'a str),
    /// Authenticated submission.
    Login(&'a str),
    /// SMTP from loopback without authentication, with this sender.
    Loopback(&'a str),
}

impl By<'_> {
    /// The account that design section 4 gives this message to; none when there is no evidence.
    pub fn account(self) -> Option<String> {
        match self {
            By::Script("web3") | By::Login("main@hosting.test" | "billing@shop.test" | "news@shop2.test") => {
                Some("shop".to_owned())
            }
            By::Script(name) | By::Login(name) => Some(name.to_owned()),
            By::Loopback(sender) => {
                (sender.ends_with("@shop.test") || sender.ends_with("@shop2.test")).then(|| "shop".to_owned())
            }
        }
    }
}

/// A message that was accepted from its injector.
#[derive(Debug, Clone)]
pub struct Injected {
    pub account: Option<String>,
    pub id: String,
    pub recipients: Vec<String>,
}

/// The injectors' own record.
#[derive(Debug, Default)]
pub struct Truth {
    pub injected: Vec<Injected>,
    /// What the ids of its messages begin with: injectors that work at the same time have one each.
    pub prefix: String,
}

impl Truth {
    pub fn with_prefix(prefix: &str) -> Self {
        Truth { injected: Vec::new(), prefix: prefix.to_owned() }
    }

    /// The id of the next message.
    pub fn next_id(&self) -> String {
        format!("{}m{}", self.prefix, self.injected.len())
    }

    /// Sends one message to one new address in each of these domains (`forward` is the forwarded local address).
    pub fn send(&mut self, postfix: &Postfix, by: By, domains: &[&str]) -> Injected {
        self.send_with(postfix, by, domains, "")
    }

    /// The same with more header lines, each ended by `\n`.
    pub fn send_with(&mut self, postfix: &Postfix, by: By, domains: &[&str], headers: &str) -> Injected {
        let id = self.next_id();
        let address = |(n, domain): (usize, &&str)| match *domain {
            "forward" => "forward@localhost".to_owned(),
            domain => format!("{id}.{n}@{domain}"),
        };
        let recipients: Vec<String> = domains.iter().enumerate().map(address).collect();
        let to: Vec<&str> = recipients.iter().map(String::as_str).collect();
        let message = format!(
            "From: a@hosting.test\nSubject: {id}\nX-Test-Id: {id}\nMessage-ID: <{id}@hosting.test>\n{headers}\nbody\n"
        );
        let mail = |sender, auth| Mail { sender, recipients: &to, data: &message, auth };
        match by {
            By::Script(user) => postfix.sendmail(user, "a@hosting.test", &to, &message),
            By::Login(login) => {
                let mail = mail("a@hosting.test", Some((login, PASSWORD)));
                smtp::send(postfix.submission_port(), &mail).unwrap_or_else(|e| panic!("{by:?}: {e}"));
            }
            By::Loopback(sender) => {
                smtp::send(postfix.smtp_port(), &mail(sender, None)).unwrap_or_else(|e| panic!("{by:?}: {e}"));
            }
        }
        self.injected.push(Injected { account: by.account(), id, recipients });
        self.injected.last().expect("just pushed").clone()
    }

    /// The figures of every account as of now. `None` is the mail without evidence.
    pub fn figures<S: MailServer + ?Sized>(&self, servers: &[&S]) -> BTreeMap<Option<String>, Figures> {
        let seen = Seen::look(servers);
        let mut all = BTreeMap::new();
        for message in &self.injected {
            let figures: &mut Figures = all.entry(message.account.clone()).or_default();
            figures[0] += 1;
            for to in &message.recipients {
                figures[1] += 1;
                figures[seen.outcome(&message.id, to)] += 1;
                figures[7] += seen.deferrals.get(to).copied().unwrap_or_default();
                figures[9] += u64::from(seen.held.contains(to));
            }
        }
        all
    }

    /// Waits until all mail has come to rest, and the recipients that left no trace are exactly those that an
    /// administrator deleted. Then the figures.
    pub fn at_rest<S: MailServer + ?Sized>(
        &self,
        servers: &[&S],
        deleted: &[&Injected],
    ) -> BTreeMap<Option<String>, Figures> {
        let deleted: BTreeSet<&String> = deleted.iter().flat_map(|m| &m.recipients).collect();
        super::wait_or(
            |restless| format!("rest, but {restless:?}"),
            || {
                let restless = self.restless(servers, &deleted);
                if restless.is_empty() { Ok(()) } else { Err(restless) }
            },
        );
        self.figures(servers)
    }

    /// What is still under way, or lost without an administrator's doing, or there in spite of it.
    fn restless<S: MailServer + ?Sized>(&self, servers: &[&S], deleted: &BTreeSet<&String>) -> Vec<String> {
        // Listing the queue of a busy server would only make it busier.
        let busy = servers.iter().map(|server| server.under_way()).sum::<usize>();
        if busy > 0 {
            return vec![format!("{busy} under way")];
        }
        let seen = Seen::look(servers);
        if seen.moving > 0 {
            return vec![format!("{} in the queue under way", seen.moving)];
        }
        let rests = |id: &String, to: &String| (seen.outcome(id, to) == 5) == deleted.contains(to);
        let all = self.injected.iter().flat_map(|m| m.recipients.iter().map(|to| (&m.id, to)));
        all.filter(|(id, to)| !rests(id, to)).map(|(_, to)| to.clone()).collect()
    }
}

/// What sinks and queue directories show.
#[derive(Debug, Default)]
struct Seen {
    /// Message id and recipient of what arrived.
    arrived: BTreeMap<(String, String), u64>,
    refused: BTreeSet<String>,
    deferrals: BTreeMap<String, u64>,
    /// Recipients that a bounce message names.
    notified: BTreeSet<String>,
    queued: BTreeSet<String>,
    held: BTreeSet<String>,
    /// Messages in the queue that are under way.
    moving: usize,
}

impl Seen {
    fn look<S: MailServer + ?Sized>(servers: &[&S]) -> Seen {
        let mut seen = Seen::default();
        for server in servers {
            // The queue first: what leaves it meanwhile is then seen to have arrived, and is not at rest.
            for message in server.queue() {
                seen.moving += usize::from(message.queue != "deferred" && message.queue != "hold");
                if message.queue == "hold" {
                    seen.held.extend(message.recipients.iter().cloned());
                }
                seen.queued.extend(message.recipients);
            }
            server.mailbox().iter().for_each(|message| seen.arrival(message));
            for sink in server.receivers() {
                for message in sink.messages() {
                    seen.arrival(&message);
                }
                for (to, reply) in sink.answers() {
                    match reply.as_bytes().first() {
                        Some(b'4') => *seen.deferrals.entry(to).or_default() += 1,
                        Some(b'5') => drop(seen.refused.insert(to)),
                        _ => {}
                    }
                }
            }
        }
        seen
    }

    fn arrival(&mut self, message: &super::sink::Received) {
        if message.sender.is_empty() {
            let named = message.data.lines().filter_map(|line| line.strip_prefix("Final-Recipient: rfc822;"));
            self.notified.extend(named.map(|to| to.trim().to_owned()));
            return;
        }
        let Some(id) = message.unique() else { return };
        for to in &message.recipients {
            let to = if to == "forwarded@accept.test" { "forward@localhost" } else { to };
            *self.arrived.entry((id.to_owned(), to.to_owned())).or_default() += 1;
        }
    }

    /// A recipient that the server itself refuses: by a router, or because it has no route.
    fn refused_here(&self, to: &str) -> bool {
        (to.ends_with("@fail.test") || to.ends_with("@unrouteable.test")) && self.notified.contains(to)
    }

    /// The place in `NAMES` where this recipient counts.
    fn outcome(&self, id: &str, to: &str) -> usize {
        match self.arrived.get(&(id.to_owned(), to.to_owned())) {
            Some(1) => 2,
            Some(times) => panic!("{id} arrived {times} times for {to}: the rig is no truth any more"),
            None if self.queued.contains(to) => 8,
            None if self.refused.contains(to) || self.refused_here(to) => 3,
            None if self.notified.contains(to) => 4,
            None => 5,
        }
    }
}

/// The figures of an account on the page of `/metrics`.
pub fn from_metrics(agent: &Agent, account: &str) -> Figures {
    let label = format!("account=\"{account}\"");
    let page = agent.metrics();
    let sum = |name: &str, more: &str| -> u64 {
        let series = page.lines().filter(|l| l.strip_prefix(name).is_some_and(|rest| rest.starts_with('{')));
        let own = series.filter(|l| l.contains(&label) && l.contains(more));
        own.filter_map(|l| l.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>() as u64
    };
    let ended = |outcome: &str| sum("sendwarden_account_recipients_total", &format!("outcome=\"{outcome}\""));
    let queued = sum("sendwarden_account_queued_recipients", "");
    let outcomes = ["sent", "bounced", "expired", "deleted", "unaccounted"].map(ended);
    let [sent, bounced, expired, deleted, unaccounted] = outcomes;
    [
        sum("sendwarden_account_messages_accepted_total", ""),
        // The page has no series for recipients: they are what ended and what is open.
        outcomes.iter().sum::<u64>() + queued,
        sent,
        bounced,
        expired,
        deleted,
        unaccounted,
        sum("sendwarden_account_deferrals_total", ""),
        queued,
        sum("sendwarden_account_held_recipients", ""),
    ]
}

/// The figures in an object of COUNTS.
pub fn from_json(counts: &serde_json::Value) -> Figures {
    NAMES.map(|name| counts[name].as_u64().unwrap_or_else(|| panic!("no {name} in {counts}")))
}

/// What `status ACCOUNT --format json` says, from the agent or, without one, from the store.
pub fn from_status(config: &Path, account: &str) -> Figures {
    let config = config.display().to_string();
    let text = sendwarden(&["status", account, "--format", "json", "--config", &config]);
    from_json(&serde_json::from_str(&text).unwrap_or_else(|e| panic!("{text}: {e}")))
}

/// What `trace --format json` says of the message with this unique id.
pub fn trace(config: &Path, id: &str) -> String {
    let config = config.display().to_string();
    sendwarden(&["trace", &format!("{id}@hosting.test"), "--format", "json", "--config", &config])
}

/// What `replay` says of these logs; `None` is the mail without evidence.
pub fn from_replay(config: &Path, logs: &[PathBuf]) -> BTreeMap<Option<String>, Figures> {
    let names: Vec<String> = logs.iter().map(|log| log.display().to_string()).collect();
    let config = config.display().to_string();
    let passwd = config.replace("config.yaml", "passwd");
    std::fs::copy("/etc/passwd", &passwd).expect("the test's directory can be written");
    let mut arguments = vec!["replay", "--format", "json", "--config", &config, "--passwd", &passwd];
    arguments.extend(names.iter().map(String::as_str));
    let text = sendwarden(&arguments);
    let view: serde_json::Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{text}: {e}"));
    assert_eq!(view["lines"]["unknown"], 0, "{}", view["lines"]);
    let totals = from_json(&view["totals"]);
    assert_eq!(totals[1], totals[2..7].iter().sum::<u64>() + totals[8], "the books balance: {totals:?}");
    let accounts = view["accounts"].as_object().expect("accounts");
    let mut all: BTreeMap<_, _> = accounts.iter().map(|(name, c)| (Some(name.clone()), from_json(c))).collect();
    if let Some(counts) = view["unattributed_by_reason"].get("no_evidence") {
        all.insert(None, from_json(counts));
    }
    all
}

/// Two sets of figures side by side, the lines that differ only; empty if none does.
pub fn difference(truth: &BTreeMap<Option<String>, Figures>, told: &BTreeMap<Option<String>, Figures>) -> String {
    let mut out = String::new();
    let names: BTreeSet<_> = truth.keys().chain(told.keys()).collect();
    for name in names {
        let [is, said] = [truth, told].map(|all| all.get(name).copied().unwrap_or_default());
        for (at, what) in NAMES.iter().enumerate().filter(|(at, _)| is[*at] != said[*at]) {
            let name = name.as_deref().unwrap_or("(no evidence)");
            writeln!(out, "{name}: {what} is {}, said to be {}", is[at], said[at]).expect("a string grows");
        }
    }
    out
}

/// The figures of the named accounts by one way of asking.
pub fn of_accounts(
    truth: &BTreeMap<Option<String>, Figures>,
    ask: impl Fn(&str) -> Figures,
) -> BTreeMap<Option<String>, Figures> {
    let mut told: BTreeMap<_, _> = truth.keys().flatten().map(|name| (Some(name.clone()), ask(name))).collect();
    told.extend(truth.get(&None).map(|figures| (None, *figures)));
    told
}

/// Waits until the agent's page and `status` agree with the truth; fails with what differs.
pub fn agree(agent: &Agent, config: &Path, truth: &BTreeMap<Option<String>, Figures>) {
    let differs = |page| format!("/metrics to be the truth, from which it differs:\n{page}{}", agent.printed());
    super::wait_or(differs, || {
        let page = difference(truth, &of_accounts(truth, |account| from_metrics(agent, account)));
        if page.is_empty() { Ok(()) } else { Err(page) }
    });
    let status = difference(truth, &of_accounts(truth, |account| from_status(config, account)));
    assert!(status.is_empty(), "status of the running agent differs from the truth:\n{status}");
}
