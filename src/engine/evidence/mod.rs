//! What a verdict rests on: the account's messages and errors of its window, summed up.
//!
//! Gathered after the verdict, from what is kept of messages anyhow: nothing here is asked while lines are read. It never
//! keeps an address that mail was for (`redact`), and takes no message of another account, of another way in, or of evidence
//! that the rule did not count. Memory is bounded by what is fed in, and by [`MOST_KEYS`].

pub mod advice;
mod redact;

use super::replies::Replies;
use crate::mail::{
    Evidence as Strength, LegFact, Outcome, Owner, QueueId, RecipientState, RecipientTrace, ReplyClass, Scope, Signal,
    Time,
};
use std::collections::BTreeMap;

/// Lines in the form of a log that are shown.
pub const MOST_LINES: usize = 10;
/// Different scripts, directories, domains or client addresses that are told apart. Of more, none is counted.
const MOST_KEYS: usize = 50_000;
/// Of each kind, what is shown.
const TOP: usize = 5;
const TOP_DOMAINS: usize = 10;
/// Errors shown of a rule that does not look at errors.
const ERRORS_ASIDE: usize = 3;
/// Hops that are followed to the message that another one continues.
const HOPS: usize = 6;

/// What a verdict looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    pub owner: Owner,
    /// `None`: a rule of another version.
    pub signal: Option<Signal>,
    pub scope: Scope,
    /// Proven evidence was counted, or what was only claimed.
    pub proven: bool,
    /// The window; `None`: what is in the queue now.
    pub from: Option<Time>,
    pub to: Time,
}

/// A recipient in error.
#[derive(Debug, Clone, Copy)]
pub struct Failure<'a> {
    pub at: Time,
    pub owner: Owner,
    pub id: QueueId,
    pub recipient: &'a [u8],
    pub outcome: &'a str,
    /// It had been sent before.
    pub late: bool,
    pub dsn: &'a str,
    pub class: Option<ReplyClass>,
    pub reply: &'a [u8],
}

/// A name and how many messages (of a domain: recipients, and how many of them are in error).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    pub name: String,
    pub count: u64,
    pub errors: u64,
}

/// Facts of one message in the form of a log line, without its address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Line {
    pub at: Time,
    pub text: String,
}

/// See the module. Each list is the largest first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Evidence {
    pub messages: u64,
    /// Those that the log has named so far.
    pub recipients: u64,
    pub first: Option<(Time, QueueId)>,
    pub last: Option<(Time, QueueId)>,
    pub scripts: Vec<Share>,
    pub directories: Vec<Share>,
    pub domains: Vec<Share>,
    pub classes: Vec<Share>,
    pub clients: Vec<Share>,
    /// Different ones.
    pub script_count: usize,
    pub domain_count: usize,
    pub lines: Vec<Line>,
    /// Not every recipient or name could be counted.
    pub cut: bool,
}

type Counts = BTreeMap<String, (u64, u64)>;
/// Names a message, the oldest first: queue ids are used again.
type Key = (Time, QueueId);

/// See the module: first `know` every leg, then `leg` each of them, then `error`.
#[derive(Debug)]
pub struct Gathering<'r> {
    wanted: Wanted,
    replies: &'r Replies,
    /// Legs by id: which one it continues, and whether it is of what was counted, by itself.
    known: BTreeMap<QueueId, (Option<QueueId>, bool)>,
    evidence: Evidence,
    scripts: Counts,
    directories: Counts,
    domains: Counts,
    classes: Counts,
    clients: Counts,
    newest: BTreeMap<Key, Line>,
    /// The newest error of each domain and class, and others.
    errors: BTreeMap<(String, Option<ReplyClass>), Line>,
    more_errors: Vec<Line>,
}

impl<'r> Gathering<'r> {
    pub fn new(wanted: Wanted, replies: &'r Replies) -> Gathering<'r> {
        Gathering {
            wanted,
            replies,
            known: BTreeMap::new(),
            evidence: Evidence::default(),
            scripts: Counts::new(),
            directories: Counts::new(),
            domains: Counts::new(),
            classes: Counts::new(),
            clients: Counts::new(),
            newest: BTreeMap::new(),
            errors: BTreeMap::new(),
            more_errors: Vec::new(),
        }
    }

    /// What continues a message is of it; which, must be known before the messages are counted.
    pub fn know(&mut self, leg: &LegFact<'_>) {
        if leg.owner == self.wanted.owner {
            let direct = self.wanted.scope.covers(leg.origin, leg.login)
                && (leg.basis.evidence() == Strength::Proven) == self.wanted.proven;
            self.known.insert(leg.id, (leg.parent, direct));
        }
    }

    fn is_counted(&self, id: QueueId) -> bool {
        let mut id = id;
        for _ in 0..HOPS {
            match self.known.get(&id) {
                Some((Some(parent), _)) if *parent != id && self.known.contains_key(parent) => id = *parent,
                Some((_, direct)) => return *direct,
                None => return false,
            }
        }
        false
    }

    fn in_window(&self, at: Time) -> bool {
        at <= self.wanted.to && self.wanted.from.is_none_or(|from| at > from)
    }

    pub fn leg(&mut self, leg: &LegFact<'_>) {
        if leg.owner != self.wanted.owner || matches!(leg.end, "rejected" | "cancelled") || !self.is_counted(leg.id) {
            return;
        }
        let open = matches!(leg.end, "open" | "held");
        let now = match self.wanted.signal {
            _ if self.wanted.from.is_some() => true,
            Some(Signal::Held) => leg.end == "held",
            _ => open,
        };
        if !now || !self.in_window(leg.first) {
            return;
        }
        self.evidence.cut |= leg.recipients_cut;
        if leg.parent.is_none() {
            self.message(leg);
        }
        // What went on under another id is counted there.
        let its = |one: &&RecipientTrace| match one.state {
            RecipientState::Handed | RecipientState::Expanded => false,
            RecipientState::Ended(_) => self.wanted.from.is_some(),
            RecipientState::Deferred | RecipientState::Queued => leg.end != "requeued",
        };
        let mut shown = None;
        for recipient in leg.recipients.iter().filter(its) {
            self.evidence.recipients += 1;
            let domain = redact::domain(recipient.texts.address());
            let deferred = recipient.state == RecipientState::Deferred;
            let class = deferred.then(|| self.replies.judge(recipient.dsn, recipient.texts.reply()).class);
            self.evidence.cut |= !count(&mut self.domains, domain, (1, 0));
            if let Some(class) = class {
                count(&mut self.classes, class.name().to_owned(), (1, 0));
            }
            // Errors have lines of their own.
            if !matches!(recipient.state, RecipientState::Ended(Outcome::Bounced | Outcome::Expired)) {
                shown = Some((recipient, class));
            }
        }
        let key = (leg.first, leg.id);
        if shown.is_some() || leg.parent.is_none() && leg.recipients.is_empty() {
            self.show(key, || match shown {
                Some((recipient, class)) => told(leg, recipient, class),
                None => Line { at: leg.first, text: format!("{} {}", leg.id, leg.end) },
            });
        }
    }

    fn message(&mut self, leg: &LegFact<'_>) {
        let evidence = &mut self.evidence;
        evidence.messages += 1;
        let here = (leg.first, leg.id);
        evidence.first = Some(evidence.first.map_or(here, |first| first.min(here)));
        evidence.last = Some(evidence.last.map_or(here, |last| last.max(here)));
        let mut tally = |counts: &mut Counts, name: String| {
            if !name.is_empty() {
                evidence.cut |= !count(counts, name, (1, 0));
            }
        };
        let clean = |bytes: &[u8]| crate::mail::text::clean(bytes, crate::mail::script::MAX_PATH);
        if let Some(script) = leg.script {
            let folder = match memchr::memrchr(b'/', &script.path) {
                Some(at) if script.directory.is_empty() && script.is_whole() => script.path.get(..at.max(1)),
                _ => Some(&*script.directory),
            };
            tally(&mut self.scripts, clean(&script.path));
            tally(&mut self.directories, clean(folder.unwrap_or_default()));
        }
        tally(&mut self.clients, clean(leg.client_address));
    }

    /// Keeps it if it is among the newest.
    fn show(&mut self, key: Key, line: impl FnOnce() -> Line) {
        if self.newest.len() >= MOST_LINES {
            if self.newest.first_key_value().is_some_and(|(oldest, _)| *oldest >= key) {
                return;
            }
            self.newest.pop_first();
        }
        self.newest.insert(key, line());
    }

    /// A recipient in error, the newest first. One of a message that is not known was sent before the window.
    pub fn error(&mut self, failure: &Failure<'_>) {
        let other = self.known.contains_key(&failure.id) && !self.is_counted(failure.id);
        if failure.owner != self.wanted.owner || self.wanted.from.is_none() || other || !self.in_window(failure.at) {
            return;
        }
        let domain = redact::domain(failure.recipient);
        self.evidence.cut |= !count(&mut self.domains, domain.clone(), (0, 1));
        if let Some(class) = failure.class {
            count(&mut self.classes, class.name().to_owned(), (1, 0));
        }
        let place = (domain, failure.class);
        let known = self.errors.contains_key(&place);
        if !known && self.errors.len() < MOST_LINES {
            self.errors.insert(place, failed(failure));
        } else if self.more_errors.len() < MOST_LINES {
            self.more_errors.push(failed(failure));
        }
    }

    pub fn finish(self) -> Evidence {
        let about_errors = self.wanted.signal.is_some_and(Signal::has_classes);
        let mut errors: Vec<Line> = self.errors.into_values().collect();
        errors.sort_by(|a, b| b.cmp(a));
        errors.extend(self.more_errors);
        errors.truncate(if about_errors { MOST_LINES } else { ERRORS_ASIDE });
        let room = MOST_LINES - errors.len();
        let mut lines = errors;
        let newest = self.newest.into_values().rev().filter(|line| !lines.contains(line)).take(room);
        let newest: Vec<Line> = newest.collect();
        lines.extend(newest);
        lines.sort();
        Evidence {
            script_count: self.scripts.len(),
            domain_count: self.domains.len(),
            scripts: top(self.scripts, TOP),
            directories: top(self.directories, TOP),
            domains: top(self.domains, TOP_DOMAINS),
            classes: top(self.classes, ReplyClass::ALL.len()),
            clients: top(self.clients, TOP),
            lines,
            ..self.evidence
        }
    }
}

/// False when there is no room for another name.
fn count(counts: &mut Counts, name: String, (n, errors): (u64, u64)) -> bool {
    let room = counts.len() < MOST_KEYS || counts.contains_key(&name);
    if room {
        let count = counts.entry(name).or_default();
        (count.0, count.1) = (count.0 + n, count.1 + errors);
    }
    room
}

fn top(counts: Counts, most: usize) -> Vec<Share> {
    let shares = counts.into_iter().map(|(name, (count, errors))| Share { name, count, errors });
    let mut shares: Vec<Share> = shares.collect();
    // The names are in order already.
    shares.sort_by_key(|share| std::cmp::Reverse(share.count.max(share.errors)));
    shares.truncate(most);
    shares
}

fn told(leg: &LegFact<'_>, recipient: &RecipientTrace, class: Option<ReplyClass>) -> Line {
    let address = recipient.texts.address();
    let dsn = if recipient.dsn.is_none() { String::new() } else { recipient.dsn.to_string() };
    let text = line(leg.id, address, recipient.state.name(), &dsn, class, recipient.texts.reply());
    Line { at: recipient.last, text }
}

fn failed(failure: &Failure<'_>) -> Line {
    let Failure { id, recipient, outcome, late, dsn, class, reply, .. } = *failure;
    let outcome = if late { format!("sent, then {outcome}") } else { outcome.to_owned() };
    Line { at: failure.at, text: line(id, recipient, &outcome, dsn, class, reply) }
}

/// `QUEUEID …@domain bounced 5.1.1 (unknown_recipient): what the receiver said`.
fn line(id: QueueId, to: &[u8], state: &str, dsn: &str, class: Option<ReplyClass>, reply: &[u8]) -> String {
    let mut text = format!("{id} {}", redact::GONE);
    let domain = redact::domain(to);
    if !domain.is_empty() {
        text.push('@');
        text.push_str(&domain);
    }
    for word in [state, dsn].into_iter().filter(|word| !word.is_empty()) {
        text.push(' ');
        text.push_str(word);
    }
    if let Some(class) = class {
        text.push_str(&format!(" ({})", class.name()));
    }
    let said = redact::words(reply, to);
    if !said.is_empty() {
        text.push_str(": ");
        text.push_str(&said);
    }
    text
}

#[cfg(test)]
mod tests;
