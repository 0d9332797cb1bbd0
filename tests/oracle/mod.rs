//! The oracle: what the figures of a log must be when reading starts at line `k`, by section 1 of the design.
//!
//! Simple and slow on purpose: the whole log is in memory and read by regular expressions, messages are put together
//! with knowledge of the whole log, and only then the lines from `k` on are counted. It shares no code with the
//! product nor with the generator (only the type of the figures).
//!
//! Decisions, where the design leaves room:
//! - A message that has a line before `k` and one from `k` on was open: its recipients seen in a delivery line from
//!   `k` on count under `opened_before_log`, with their outcome; deferrals seen count there too.
//! - Recipients of a queue id are the larger of its first `nrcpt=`, those seen, and those handed to it.
//! - A recipient handed to another queue id (filter hop, forward, requeue) is counted there, and only there.
//! - From line `k` on, a message is only what its lines from `k` on show. Where the reason for a figure stands before
//!   `k`, nobody can know it, and the books follow what the rest looks like (each place says so): a relay on this host
//!   is believed when the Message-ID it would have to match is cut; a null-sender message whose client line is cut
//!   looks exactly like a notification of the server's own; a delivery that went on to an id of which nothing is said
//!   for half a minute was delivered.
//! - `Deleted: N messages` (or held, released) beyond the ids named acts on all open messages when N covers them all.

#![allow(dead_code, reason = "each test uses its own part")]

pub mod exim;
mod join;
mod read;

use std::collections::{BTreeMap, HashMap};

use join::View;
pub use read::{Entry, Reader, What};

use crate::corpus::{Books, Figures};

/// One incarnation of one queue id.
#[derive(Debug, Default)]
struct Leg {
    lines: Vec<usize>,
    /// What is known of its arrival: the kind of its first line.
    arrival: Option<Arrival>,
    message_id: Option<String>,
    null_sender: Option<bool>,
    ended: bool,
}

#[derive(Debug, Clone, PartialEq)]
enum Arrival {
    Uid(u32),
    Login(String),
    Loopback,
    Outside,
    /// First seen at cleanup: made inside, or its arrival is lost.
    Cleanup,
    Lost,
}

pub struct Oracle {
    entries: Vec<Option<Entry>>,
    legs: Vec<Leg>,
    names: HashMap<u32, String>,
    /// Line → legs it is about (several for a wildcard command).
    about: Vec<Vec<usize>>,
    /// Host and id → its legs.
    by_key: HashMap<(String, String), Vec<usize>>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    Open,
    Sent,
    Bounced,
    Handed(usize),
}

impl Oracle {
    /// `passwd` is a passwd file, or empty.
    pub fn new(log: &str, passwd: &str) -> Oracle {
        let reader = Reader::new();
        let entries: Vec<Option<Entry>> = log.lines().map(|line| reader.read(line)).collect();
        let names = passwd.lines().filter_map(|line| {
            let mut fields = line.split(':');
            Some((fields.clone().nth(2)?.parse().ok()?, fields.next()?.to_owned()))
        });
        let names = names.collect();
        let about = vec![Vec::new(); entries.len()];
        let mut oracle = Oracle { entries, legs: Vec::new(), names, about, by_key: HashMap::new() };
        oracle.put_together();
        oracle.name();
        oracle
    }

    pub fn lines(&self) -> usize {
        self.entries.len()
    }

    /// Cuts the log into legs. A pickup or client line always begins one.
    fn put_together(&mut self) {
        let mut current: HashMap<(String, String, String), usize> = HashMap::new();
        let mut holding: HashMap<(String, String), usize> = HashMap::new();
        let mut named: HashMap<(String, &str), u64> = HashMap::new();
        for at in 0..self.entries.len() {
            let Some(entry) = self.entries[at].clone() else { continue };
            let instance = match entry.owns_queue {
                true => entry.instance.clone(),
                false => self.queue_of(at, &entry),
            };
            if let What::HoldNext = entry.what {
                holding.insert((entry.host.clone(), entry.pid.clone()), at);
                continue;
            }
            if let What::Swept(verb, count) = entry.what {
                let seen = named.remove(&(entry.pid.clone(), verb)).unwrap_or(0);
                let mine = |(key, _): &(&(String, String, String), &usize)| key.0 == entry.host && key.1 == instance;
                let open: Vec<usize> =
                    current.iter().filter(mine).map(|(_, &leg)| leg).filter(|&leg| !self.legs[leg].ended).collect();
                if seen == 0 && count >= open.len() as u64 {
                    for leg in open {
                        self.about[at].push(leg);
                        self.legs[leg].lines.push(at);
                        self.legs[leg].ended |= verb == "Deleted";
                    }
                }
                continue;
            }
            let key = (entry.host.clone(), instance, entry.id.clone());
            let open = current.get(&key).copied().filter(|&leg| !self.legs[leg].ended);
            let fresh = match &entry.what {
                What::Pickup { .. } | What::Client { .. } => true,
                What::MessageId(_) => open.is_none_or(|leg| self.legs[leg].message_id.is_some()),
                What::Active { .. } | What::Attempt { .. } => open.is_none(),
                _ if open.is_none() => continue,
                _ => false,
            };
            let leg = match open {
                Some(leg) if !fresh => leg,
                _ => {
                    self.legs.push(Leg::default());
                    current.insert(key, self.legs.len() - 1);
                    self.legs.len() - 1
                }
            };
            let verb = match entry.what {
                What::Deleted => "Deleted",
                What::Hold => "Placed on hold",
                What::Release => "Released from hold",
                _ => "",
            };
            *named.entry((entry.pid.clone(), verb)).or_default() += 1;
            let this = &mut self.legs[leg];
            let arrival = match &entry.what {
                What::Pickup { uid, .. } => Arrival::Uid(*uid),
                What::Client { login: Some(login), .. } => Arrival::Login(login.to_lowercase()),
                What::Client { loopback: true, .. } => Arrival::Loopback,
                What::Client { .. } => Arrival::Outside,
                What::MessageId(_) => Arrival::Cleanup,
                _ => Arrival::Lost,
            };
            this.arrival.get_or_insert(arrival);
            match &entry.what {
                What::Client { .. } => {
                    if let Some(hold) = holding.remove(&(entry.host.clone(), entry.pid.clone())) {
                        this.lines.push(hold);
                        self.about[hold].push(leg);
                    }
                }
                What::MessageId(text) => this.message_id = Some(text.clone()),
                What::Active { sender, .. } => {
                    this.null_sender.get_or_insert(sender.is_empty());
                }
                What::Removed | What::Deleted | What::Requeued | What::Refused => this.ended = true,
                _ => {}
            }
            this.lines.push(at);
            self.about[at].push(leg);
        }
    }

    /// The queue an smtpd with a name of its own feeds: the one that next speaks of this id.
    fn queue_of(&self, at: usize, entry: &Entry) -> String {
        let next = self.entries[at..].iter().flatten();
        next.into_iter()
            .find(|e| e.owns_queue && e.host == entry.host && (e.id == entry.id || entry.id.is_empty()))
            .map_or_else(|| entry.instance.clone(), |e| e.instance.clone())
    }

    /// The figures of the log from line `k` on.
    pub fn books(&self, k: usize) -> Books {
        let view = self.join(k);
        let mut families: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for leg in 0..self.legs.len() {
            families.entry(self.root(leg, &view)).or_default().push(leg);
        }
        let mut books = Books::default();
        for (root, legs) in families {
            let lines = || legs.iter().flat_map(|&l| &self.legs[l].lines);
            if !lines().any(|&at| at >= k) {
                continue;
            }
            let top = &self.legs[root];
            let by_bounce = view.bounce[root] || top.null_sender == Some(true);
            let lost = match top.arrival {
                Some(Arrival::Lost) | None => true,
                Some(Arrival::Cleanup) => !by_bounce,
                _ => view.lost[root],
            };
            // A hold of an id to come stands before its message, and does not open it.
            let begun = |at: usize| self.entries[at].as_ref().is_some_and(|e| e.what != What::HoldNext);
            // First seen at its header, and with the null sender: whatever its client line before `k` said, it looks
            // exactly like a notification that the server made itself.
            let head = lines().find(|&&at| at >= k).and_then(|&at| self.entries[at].as_ref());
            let like_bounce = top.null_sender == Some(true)
                && head.is_some_and(|e| matches!(e.what, What::MessageId(_)))
                && self.shows(root, k, |what| matches!(what, What::Active { .. }));
            let old = !like_bounce && (lost || lines().any(|&at| at < k && begun(at)));
            let figures = self.family(&legs, root, old, &view);
            let place = match &top.arrival {
                _ if old => books.reason("opened_before_log"),
                _ if like_bounce => books.reason("bounce"),
                Some(Arrival::Uid(uid)) if self.names.get(uid).is_some_and(|name| name == "www-data") => {
                    books.reason("web_server_uid")
                }
                Some(Arrival::Uid(uid)) if *uid < 1000 => books.reason("system_uid"),
                Some(Arrival::Uid(uid)) => match self.names.get(uid) {
                    Some(name) => books.account(name),
                    None => books.account(&format!("uid{uid}")),
                },
                Some(Arrival::Login(login)) => books.account(login),
                Some(Arrival::Loopback) => books.reason("no_evidence"),
                Some(Arrival::Outside) => books.reason("incoming"),
                _ => books.reason("bounce"),
            };
            place.add(&figures);
        }
        books.accounts.retain(|_, f| !f.is_zero());
        books.unattributed.retain(|_, f| !f.is_zero());
        books
    }

    /// The figures of one message over all its queue ids.
    fn family(&self, legs: &[usize], root: usize, old: bool, view: &View) -> Figures {
        let mut sum = Figures::default();
        let mut handed: HashMap<usize, u64> = HashMap::new();
        // Parents first: legs are numbered as they begin, but a requeue or hop always begins after its parent.
        for &leg in legs {
            let given = handed.remove(&leg).unwrap_or(0);
            self.leg(leg, old, given, view, &mut handed, &mut sum);
        }
        sum.messages = u64::from(!old && self.is_message(root, view.k));
        sum
    }

    /// By what is said from line `k` on.
    fn is_message(&self, leg: usize, k: usize) -> bool {
        let late = || self.legs[leg].lines.iter().filter(|&&at| at >= k);
        let whats = || late().filter_map(|&at| self.entries[at].as_ref()).map(|e| &e.what);
        !whats().any(|w| matches!(w, What::Probe | What::Refused))
            && whats().any(|w| matches!(w, What::Active { .. } | What::Hold | What::HoldNext | What::Attempt { .. }))
    }

    fn leg(&self, leg: usize, old: bool, given: u64, view: &View, handed: &mut HashMap<usize, u64>, sum: &mut Figures) {
        let k = view.k;
        if !self.is_message(leg, k) && given == 0 {
            return;
        }
        let mut first = None;
        let mut held = false;
        let mut seen: BTreeMap<String, State> = BTreeMap::new();
        let (mut expired, mut deleted, mut removed, mut requeued) = (false, false, false, false);
        for &at in self.legs[leg].lines.iter().filter(|&&at| at >= k) {
            let Some(entry) = &self.entries[at] else { continue };
            match &entry.what {
                What::Active { recipients, .. } => {
                    first.get_or_insert(*recipients);
                    held = false;
                }
                What::Attempt { recipient, status, .. } => {
                    let state = seen.entry(recipient.clone()).or_insert(State::Open);
                    if *state != State::Open {
                        continue;
                    }
                    match status.as_str() {
                        "sent" => {
                            *state = view.onward.get(&at).copied().map_or(State::Sent, State::Handed);
                        }
                        "bounced" => *state = State::Bounced,
                        _ => sum.deferred += 1,
                    }
                }
                What::Hold | What::HoldNext | What::Swept("Placed on hold", _) => held = true,
                What::Release | What::Swept("Released from hold", _) => held = false,
                What::Expired => expired = true,
                What::Deleted | What::Swept("Deleted", _) => deleted = true,
                What::Removed => removed = true,
                What::Requeued => requeued = true,
                _ => {}
            }
        }
        let booked = if old { 0 } else { first.unwrap_or(u64::from(held || deleted)) };
        let all = booked.max(seen.len() as u64).max(given);
        let of = |want: fn(&State) -> bool| seen.values().filter(|s| want(s)).count() as u64;
        let (sent, bounced) = (of(|s| *s == State::Sent), of(|s| *s == State::Bounced));
        let moved = of(|s| matches!(s, State::Handed(_)));
        for state in seen.values() {
            if let State::Handed(child) = state {
                *handed.entry(*child).or_default() += 1;
            }
        }
        let open = all - sent - bounced - moved;
        sum.recipients += all - moved;
        sum.sent += sent;
        sum.bounced += bounced;
        if requeued {
            // The open recipients go on under the id that names this one; without it they are still in the queue.
            if let Some(child) = self.requeue_of(leg, view) {
                *handed.entry(child).or_default() += open;
                sum.recipients -= open;
                return;
            }
            sum.queued += open;
        } else if expired {
            sum.expired += open;
        } else if deleted {
            sum.deleted += open;
        } else if removed || self.replaced(leg) {
            sum.unaccounted += open;
        } else {
            sum.queued += open;
            sum.held += if held { open } else { 0 };
        }
    }

    /// The id was given to another message although no line said that this one ended.
    fn replaced(&self, leg: usize) -> bool {
        let key = |leg: &Leg| {
            let e = leg.lines.iter().filter_map(|&at| self.entries[at].as_ref()).find(|e| !e.id.is_empty())?;
            Some((e.host.clone(), e.instance.clone(), e.id.clone()))
        };
        let mine = key(&self.legs[leg]);
        !self.legs[leg].ended && self.legs.iter().skip(leg + 1).any(|other| key(other) == mine)
    }
}
