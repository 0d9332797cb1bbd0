//! The oracle for Exim logs: what the figures must be when reading starts at line `k`, by section 1 of the design.
//!
//! Slow and simple: the lines from `k` on are read by regular expressions, put in a heap per message id, and each heap
//! is counted by itself, with knowledge of the whole rest of the log. It shares no code with the product nor with the
//! generator (only the type of the figures).
//!
//! Decisions, where the design leaves room:
//! - A message without a `<=` line from `k` on was open before (`opened_before_log`): recipients seen in a delivery
//!   line count, with what becomes of them. A `>>` may stand before its own `<=` (cutthrough).
//! - An envelope recipient is named by `for`; otherwise one is booked, for the first one a delivery line names. A final
//!   address uses up the booking of its original while that is still open, and comes on top when it is not.
//! - Exim delivers to none twice: an address that was accepted, and that an alias gives again, is one recipient. Where an
//!   alias was expanded, an accepted address of which no line speaks is one with others: it ends as the best of them.
//! - What a rule or an alias throws away is deleted.
//! - A recipient's outcome is the first final one said of it. An administrator took it off the message (`marked
//!   delivered by`) or only pretended to deliver it (`*>` of `-N`): it is deleted. One that was added is booked.
//! - Only what stands before the size (`S=`) of a `<=` line is Exim's own word on where a message comes from: what
//!   follows may be written by the sender. A user is believed of a message without a host only.
//! - `retry timeout exceeded` is Exim's own word when nothing stands between it and the address (4.96 and 4.98 do so);
//!   in a reply it is the receiver's.
//! - A bounce is what one of Exim's own users submits with a reference; with another user's name it is that user's.

use std::collections::{BTreeMap, HashMap, HashSet};

use regex::Regex;

use crate::corpus::{Books, Figures};

/// What one line says of a message.
#[derive(Debug, Clone, PartialEq)]
enum Says {
    Arrived {
        place: Place,
        recipients: Vec<String>,
    },
    Outcome {
        last: String,
        original: String,
        state: State,
        /// Not only put off again because it was too early.
        tried: bool,
    },
    Added(String),
    /// Of everybody who is still open: discarded.
    Discarded,
    Deleted,
    Frozen(bool),
    Completed,
}

#[derive(Debug, Clone, PartialEq)]
enum Place {
    Account(String),
    Reason(&'static str),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Sent,
    Bounced,
    Expired,
    Deleted,
    Unaccounted,
}

pub struct Oracle {
    entries: Vec<Option<(String, Says)>>,
}

/// The expressions lines are read with.
struct Grammar {
    head: Regex,
    arrived: Regex,
    bounce: Regex,
    host: Regex,
    field: Regex,
    recipients: Regex,
    recipient: Regex,
    delivery: Regex,
    pipe: Regex,
    expired: Regex,
    marked: Regex,
    added: Regex,
    frozen: Regex,
    thawed: Regex,
    deleted: Regex,
    completed: Regex,
}

const ADDRESS: &str = r#"(?:"(?:[^"\\]|\\.)*"[^\s:]*|[^\s"<]\S*?)"#;

impl Grammar {
    fn new() -> Grammar {
        let of = |text: &str| Regex::new(text).expect("an expression");
        Grammar {
            head: of(concat!(
                r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d{3})?(?: [+-]\d{4})?(?: \[\d+\])? ",
                r"([0-9A-Za-z]{6}-(?:[0-9A-Za-z]{6}-[0-9A-Za-z]{2}|[0-9A-Za-z]{11}-[0-9A-Za-z]{4})) (.*)$"
            )),
            arrived: of(r#"^[<(]= (<>|"(?:[^"\\]|\\.)*"\S*|\S+)((?:"(?:[^"\\]|\\.)*"|[^"])*?) S=\d+(.*)$"#),
            bounce: of(r"^ R=\S+ U=(?:Debian-exim|mailnull|mail|exim) P=local"),
            host: of(r"^ H=(?:[^\s(\[]\S* )?(?:\(\S*\) )?\[([0-9A-Fa-f:.]+)\](?::\d+)?( .*|)$"),
            field: of(r"^.*? P=(\S+)(?:.*? A=[^:\s]+(?::([^:\s]+))?)?"),
            recipients: of(r#"^.* for ((?:"(?:[^"\\]|\\.)*"@\S+|[^\s"]+)(?: (?:"(?:[^"\\]|\\.)*"@\S+|[^\s"]+))*)$"#),
            recipient: of(r#""(?:[^"\\]|\\.)*"@\S+|[^\s"]+"#),
            delivery: of(&format!(
                r#"^(=>|->|>>|\*>|\*\*|==) (:blackhole:|{ADDRESS})(?: \([^()]*\))?(?: <([^>]*)>)?(:? .*|:?)$"#
            )),
            // A pipe's command or a file's name may hold anything; its envelope recipient follows.
            pipe: of(r"^(=>|->|\*\*|==) ([|/].*?)(?: \([^()]*\))? <([^>]*)>(:? [FPQR]=.*|: .*)$"),
            expired: of(r"^ ?: retry timeout exceeded(?: DT=\S+)?$"),
            marked: of("^address <(.*)> marked delivered by "),
            added: of("^recipient <(.*)> added by "),
            frozen: of(r"^(?:Frozen|Frozen .*|frozen by .*|Message is frozen)$"),
            thawed: of(r"^(?:unfrozen by .*|Unfrozen by .*)$"),
            deleted: of(r"^(?:removed by .*|cancelled by .*)$"),
            completed: of(r"^Completed(?: QT=\S+)?$"),
        }
    }

    fn read(&self, line: &str, uids: &HashMap<&str, u32>) -> Option<(String, Says)> {
        let head = self.head.captures(line)?;
        let (id, text) = (head[1].to_owned(), head.get(2)?.as_str());
        if text.starts_with("== ") && text.split(' ').nth(1)?.ends_with(".sendwarden-hold.invalid") {
            // Our own routers kept it back.
            return None;
        }
        let says = if let Some(arrived) = self.arrived.captures(text) {
            let recipients = self.recipients.captures(&arrived[3]).map(|all| all[1].to_lowercase());
            let mut seen = HashSet::new();
            let recipients = recipients.as_deref().unwrap_or("");
            let recipients = self.recipient.find_iter(recipients).map(|one| one.as_str().to_owned());
            let recipients = recipients.filter(|one| seen.insert(one.clone())).collect();
            Says::Arrived { place: self.place(&arrived[1], &arrived[2], uids), recipients }
        } else if text.starts_with("=> discarded ") || text.starts_with("=> blackhole ") {
            Says::Discarded
        } else if let Some(delivery) = self.pipe.captures(text).or_else(|| self.delivery.captures(text)) {
            let last = delivery[2].to_lowercase();
            let original = delivery.get(3).map_or_else(|| last.clone(), |original| original.as_str().to_lowercase());
            let rest = delivery.get(4)?.as_str();
            let state = match &delivery[1] {
                "==" => State::Open,
                "**" if self.expired.is_match(rest) => State::Expired,
                "**" => State::Bounced,
                "*>" => State::Deleted,
                "=>" | "->" if last == ":blackhole:" => State::Deleted,
                _ => State::Sent,
            };
            let tried = !rest.contains(": retry time not reached");
            Says::Outcome { last, original, state, tried }
        } else if let Some(marked) = self.marked.captures(text) {
            Says::Outcome {
                last: marked[1].to_lowercase(),
                original: marked[1].to_lowercase(),
                state: State::Deleted,
                tried: true,
            }
        } else if let Some(added) = self.added.captures(text) {
            Says::Added(added[1].to_lowercase())
        } else if self.frozen.is_match(text) {
            Says::Frozen(true)
        } else if self.thawed.is_match(text) {
            Says::Frozen(false)
        } else if self.deleted.is_match(text) {
            Says::Deleted
        } else if self.completed.is_match(text) {
            Says::Completed
        } else {
            return None;
        };
        Some((id, says))
    }

    /// Whose a message is, by what stands before its size.
    fn place(&self, sender: &str, fields: &str, uids: &HashMap<&str, u32>) -> Place {
        if sender == "<>" && self.bounce.is_match(fields) {
            return Place::Reason("bounce");
        }
        if let Some(host) = self.host.captures(fields) {
            let login = self.field.captures(&host[2]).and_then(|field| Some(field.get(2)?.as_str().to_lowercase()));
            return match (login, &host[1]) {
                (Some(login), _) => Place::Account(login),
                (None, "::1") => Place::Reason("no_evidence"),
                (None, address) if address.starts_with("127.") => Place::Reason("no_evidence"),
                _ => Place::Reason("incoming"),
            };
        }
        let user = fields.split(' ').find_map(|word| word.strip_prefix("U="));
        let local = self.field.captures(fields).is_some_and(|field| field[1].starts_with("local"));
        match user.filter(|_| local) {
            Some("www-data" | "apache" | "nginx" | "nobody") => Place::Reason("web_server_uid"),
            Some(user) if uids.get(user).is_some_and(|uid| *uid < 1000) => Place::Reason("system_uid"),
            Some(user) => Place::Account(user.to_owned()),
            None => Place::Reason("no_evidence"),
        }
    }
}

/// A recipient: booked (nobody's name yet, or its envelope's), or named by a delivery line.
struct Slot {
    name: Option<(String, String)>,
    state: State,
    /// The address that the message was accepted for.
    accepted: Option<String>,
    /// A line was about it, other than that of the acceptance.
    told: bool,
}

impl Oracle {
    /// `passwd` is a passwd file, or empty.
    pub fn new(log: &str, passwd: &str) -> Oracle {
        let grammar = Grammar::new();
        let uids = passwd.lines().filter_map(|line| {
            let mut fields = line.split(':');
            Some((fields.next()?, fields.nth(1)?.parse().ok()?))
        });
        let uids = uids.collect();
        Oracle { entries: log.lines().map(|line| grammar.read(line, &uids)).collect() }
    }

    pub fn lines(&self) -> usize {
        self.entries.len()
    }

    /// The figures of the log from line `k` on.
    pub fn books(&self, k: usize) -> Books {
        let mut messages: BTreeMap<&str, Vec<&Says>> = BTreeMap::new();
        for (id, says) in self.entries[k..].iter().flatten() {
            messages.entry(id).or_default().push(says);
        }
        let mut books = Books::default();
        for lines in messages.values() {
            let arrived = lines.iter().find_map(|says| match says {
                Says::Arrived { place, .. } => Some(place),
                _ => None,
            });
            let mut figures = count(lines);
            figures.messages = u64::from(arrived.is_some());
            match arrived {
                Some(Place::Account(name)) => books.account(name).add(&figures),
                Some(Place::Reason(name)) => books.reason(name).add(&figures),
                None => books.reason("opened_before_log").add(&figures),
            }
        }
        books.accounts.retain(|_, f| !f.is_zero());
        books.unattributed.retain(|_, f| !f.is_zero());
        books
    }
}

/// One message.
fn count(lines: &[&Says]) -> Figures {
    let mut figures = Figures::default();
    let mut slots: Vec<Slot> = Vec::new();
    let (mut held, mut expanded) = (false, false);
    let close = |slots: &mut Vec<Slot>, state: State| {
        slots.iter_mut().filter(|slot| slot.state == State::Open).for_each(|slot| slot.state = state);
    };
    for says in lines {
        match says {
            Says::Arrived { recipients, .. } => {
                let mut booked: Vec<_> = recipients.iter().map(|one| Some((one.clone(), one.clone()))).collect();
                if booked.is_empty() {
                    booked.push(None);
                }
                for name in booked {
                    // Cutthrough has named it before.
                    let known = match &name {
                        Some((_, original)) => slots.iter().any(|s| s.name.as_ref().is_some_and(|n| n.1 == *original)),
                        None => !slots.is_empty(),
                    };
                    if !known {
                        let accepted = name.as_ref().map(|name| name.0.clone());
                        slots.push(Slot { name, state: State::Open, accepted, told: false });
                    }
                }
            }
            Says::Outcome { last, original, state, tried } => {
                let name = (last.clone(), original.clone());
                let envelope = (original.clone(), original.clone());
                let open = |slot: &Slot| slot.state == State::Open;
                let whole = match (last.contains('@'), original.rsplit_once('@')) {
                    (false, Some((_, domain))) => format!("{last}@{domain}"),
                    _ => last.clone(),
                };
                let expands = whole != *original && !last.starts_with(['|', '/', ':']);
                expanded |= expands;
                let itself = slots.iter().position(|slot| expands && slot.accepted.as_ref() == Some(&whole));
                if itself.is_some() {
                    // The place of the accepted one it came from is free.
                    let free = |slot: &&mut Slot| open(slot) && slot.name.as_ref() == Some(&envelope);
                    slots.iter_mut().filter(free).for_each(|slot| slot.told = false);
                }
                let at = itself
                    .or_else(|| slots.iter().position(|slot| slot.name.as_ref() == Some(&name)))
                    .or_else(|| slots.iter().position(|slot| open(slot) && slot.name.as_ref() == Some(&envelope)))
                    .or_else(|| slots.iter().position(|slot| open(slot) && slot.name.is_none()))
                    .unwrap_or(slots.len());
                if at == slots.len() {
                    slots.push(Slot { name: None, state: State::Open, accepted: None, told: false });
                }
                let slot = &mut slots[at];
                slot.name = Some(name);
                slot.told = true;
                if slot.state == State::Open {
                    figures.deferred += u64::from(*state == State::Open && *tried);
                    slot.state = *state;
                }
            }
            Says::Added(one) => {
                let name = Some((one.clone(), one.clone()));
                slots.push(Slot { name, state: State::Open, accepted: None, told: true });
            }
            Says::Discarded | Says::Deleted => close(&mut slots, State::Deleted),
            Says::Completed => {
                let ends = [State::Sent, State::Bounced, State::Expired, State::Deleted];
                let best = ends.into_iter().find(|end| slots.iter().any(|slot| slot.state == *end));
                if let Some(best) = best.filter(|_| expanded) {
                    let silent = |slot: &&mut Slot| slot.state == State::Open && slot.accepted.is_some() && !slot.told;
                    slots.iter_mut().filter(silent).for_each(|slot| slot.state = best);
                }
                close(&mut slots, State::Unaccounted);
            }
            Says::Frozen(is) => held = *is,
        }
    }
    figures.recipients = slots.len() as u64;
    for slot in slots {
        match slot.state {
            State::Open => {
                figures.queued += 1;
                figures.held += u64::from(held);
            }
            State::Sent => figures.sent += 1,
            State::Bounced => figures.bounced += 1,
            State::Expired => figures.expired += 1,
            State::Deleted => figures.deleted += 1,
            State::Unaccounted => figures.unaccounted += 1,
        }
    }
    figures
}
