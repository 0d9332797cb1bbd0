//! A generator of realistic Exim logs that knows the exact figures of what it wrote.
//!
//! As the Postfix one beside it: the life of a message is decided first and booked in the truth, then planned as the
//! lines a real server logs (shapes of Exim 4.96 and 4.98, captured, and of `receive.c` and `deliver.c`), under one of
//! four sets of log selectors. It never reads a log and shares no code with the product or with the oracle.
//!
//! What a set of selectors does not log cannot be counted by anybody: without `received_recipients` a recipient that
//! no delivery line names is one with the others of its message (`Message::book`).

mod arrive;
mod deliver;
mod text;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{self, Write};

use fastrand::Rng;

use super::script::{Class, Script};
use super::{Books, Figures, Stamps, Truth};
use text::Id;

const SECOND: u64 = 1_000_000;

/// What the server logs, by `log_selector`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Selectors {
    /// Exim's default: no recipients, subjects, ports, pids or command lines.
    Default,
    /// `+arguments +subject +received_recipients +incoming_port +smtp_connection +all_parents`.
    Cpanel,
    /// `+delivery_size +sender_on_delivery +received_recipients +received_sender +subject +arguments`.
    DirectAdmin,
    /// `+all`, with milliseconds, a zone and the process's id.
    All,
}

impl Selectors {
    pub const EACH: [Selectors; 4] = [Selectors::Default, Selectors::Cpanel, Selectors::DirectAdmin, Selectors::All];

    fn recipients(self) -> bool {
        self != Selectors::Default
    }

    fn connections(self) -> bool {
        matches!(self, Selectors::Cpanel | Selectors::All)
    }

    fn senders(self) -> bool {
        matches!(self, Selectors::DirectAdmin | Selectors::All)
    }
}

/// What the log is made of. Shares are per thousand.
#[derive(Debug, Clone)]
pub struct Mix {
    pub seed: u64,
    /// About this many lines: messages begun are brought to their end.
    pub lines: u64,
    pub accounts: u32,
    pub selectors: Selectors,
    /// Unix time of the first line.
    pub start: u64,
    /// Log time between two new messages, in microseconds, on average.
    pub gap_us: u64,
    pub script: u32,
    pub smtp_auth: u32,
    /// Unauthenticated SMTP from loopback; the rest is incoming.
    pub local_smtp: u32,
    /// Messages with an id of 4.97 and later.
    pub new_ids: u32,
    pub deferring: u32,
    pub bouncing: u32,
    /// Frozen, removed, cut through, discarded, lost: scale of the rare things, 1000 = as on a usual server.
    pub oddities: u32,
    /// Lines about no message: rejects, queue runs, failed logins, TLS.
    pub foreign: u32,
    pub round_robin: bool,
}

impl Mix {
    pub fn new(seed: u64, lines: u64, selectors: Selectors) -> Mix {
        Mix {
            seed,
            lines,
            accounts: 200,
            selectors,
            start: 1_794_787_200,
            gap_us: 200_000,
            script: 500,
            smtp_auth: 250,
            local_smtp: 40,
            new_ids: 500,
            deferring: 70,
            bouncing: 50,
            oddities: 1000,
            foreign: 60,
            round_robin: false,
        }
    }

    /// The log of the reading bench: one day of a large cPanel server.
    pub fn bench() -> Mix {
        Mix { accounts: 5_000, script: 560, smtp_auth: 220, ..Mix::new(1, 2_500_000, Selectors::Cpanel) }
    }

    /// One line that says what the log is made of.
    pub fn describe(&self) -> String {
        format!(
            "seed {}, {} accounts, selectors {:?}, new ids {} ‰, origin script/smtp_auth/local_smtp/incoming \
             {}/{}/{}/{} ‰, deferred at first {} ‰, bounced {} ‰, lines about no message {} ‰",
            self.seed,
            self.accounts,
            self.selectors,
            self.new_ids,
            self.script,
            self.smtp_auth,
            self.local_smtp,
            1000u32.saturating_sub(self.script + self.smtp_auth + self.local_smtp),
            self.deferring,
            self.bouncing,
            self.foreign
        )
    }
}

/// Writes the log of `mix` and returns its truth.
pub fn write(mix: &Mix, out: &mut impl Write) -> io::Result<Truth> {
    Server::new(mix).run(out)
}

/// Whose figures a message moves: an index into the table of owners.
type Owner = usize;
const INCOMING: Owner = 0;
const NO_EVIDENCE: Owner = 1;
const SYSTEM_UID: Owner = 2;
const BOUNCE: Owner = 3;
const WEB_SERVER_UID: Owner = 4;
const FIRST_ACCOUNT: Owner = 5;
const REASONS: [&str; 5] = ["incoming", "no_evidence", "system_uid", "bounce", "web_server_uid"];

/// What becomes of a recipient, decided before anything is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Put off so many times, then delivered.
    Sent(u32),
    Bounced(u32),
    Expired(u32),
    /// Delivered, but the log lost the line.
    Lost,
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

/// One address that mail goes to in the end.
struct Slot {
    /// As delivery lines write it, up to the fields: `final`, `final <original>`, `final (parent) <original>`.
    shown: String,
    domain: u32,
    local: bool,
    fate: Fate,
    state: State,
    /// A delivery line has said it.
    named: bool,
}

struct Message {
    id: Id,
    owner: Owner,
    /// Empty is the null sender.
    sender: String,
    slots: Vec<Slot>,
    frozen: bool,
}

struct Server<'m> {
    mix: &'m Mix,
    rng: Rng,
    script: Script,
    owners: Vec<Figures>,
    ends: std::collections::BinaryHeap<std::cmp::Reverse<u64>>,
    in_flight: u64,
    now: u64,
    serial: u64,
    completed: u64,
}

impl<'m> Server<'m> {
    fn new(mix: &'m Mix) -> Server<'m> {
        let stamps = if mix.selectors == Selectors::All { Stamps::EximZoned } else { Stamps::Exim };
        Server {
            mix,
            rng: Rng::with_seed(mix.seed),
            script: Script::new(stamps, mix.start),
            owners: vec![Figures::default(); FIRST_ACCOUNT + mix.accounts as usize],
            ends: std::collections::BinaryHeap::new(),
            in_flight: 0,
            now: SECOND,
            serial: 0,
            completed: 0,
        }
    }

    fn run(mut self, out: &mut impl Write) -> io::Result<Truth> {
        while self.script.planned() < self.mix.lines {
            self.script.write(self.now, out)?;
            while self.ends.peek().is_some_and(|end| end.0 < self.now) {
                self.ends.pop();
            }
            self.in_flight = self.in_flight.max(self.ends.len() as u64);
            let before = self.script.planned();
            self.arrival();
            for _ in before..self.script.planned() {
                if self.chance(self.mix.foreign) {
                    self.about_nothing();
                }
            }
            self.now += self.rng.u64(1..self.mix.gap_us.max(1) * 2);
        }
        self.script.write(u64::MAX, out)?;
        let mut books = Books::default();
        let mut passwd = String::from(
            "root:x:0:0::/root:/bin/sh\nwww-data:x:33:33::/var/www:/bin/false\n\
             Debian-exim:x:101:103::/var/spool/exim4:/bin/false\n",
        );
        // Every twentieth user is not in the file: the log's word for it stands.
        for n in (0..self.mix.accounts).filter(|n| n % 2 == 0 && n % 20 != 0) {
            let _ = writeln!(passwd, "web{n}:x:{}:{}::/home/web{n}:/bin/false", 2001 + n, 2001 + n);
        }
        for (owner, figures) in self.owners.iter().enumerate().filter(|(_, f)| !f.is_zero()) {
            match REASONS.get(owner) {
                Some(reason) => *books.reason(reason) = *figures,
                None => *books.account(&text::account((owner - FIRST_ACCOUNT) as u32)) = *figures,
            }
        }
        let mut lines = self.script.lines;
        lines.sent = self.completed;
        Ok(Truth { books, lines, passwd, in_flight: self.in_flight })
    }

    fn chance(&mut self, per_mille: u32) -> bool {
        self.rng.u32(0..1000) < per_mille
    }

    /// Rare things, one in `10_000 / share` at usual oddities.
    fn odd(&mut self, share: u32) -> bool {
        self.rng.u32(0..10_000_000) < share * self.mix.oddities
    }

    fn pid(&mut self) -> u32 {
        self.rng.u32(1000..4_000_000)
    }

    /// Plans a line of the process `pid`, which is only shown with `+pid`.
    fn line(&mut self, at: u64, pid: u32, class: Class, body: std::fmt::Arguments<'_>) {
        match self.mix.selectors {
            Selectors::All => self.script.plan(at, class, format_args!("[{pid}] {body}")),
            _ => self.script.plan(at, class, body),
        }
    }

    fn event(&mut self, at: u64, pid: u32, body: std::fmt::Arguments<'_>) {
        self.line(at, pid, Class::Event, body);
    }

    /// The line of `+arguments`: a process says where and how it was started.
    fn started(&mut self, at: u64, pid: u32, cwd: &str, args: std::fmt::Arguments<'_>) {
        if self.mix.selectors != Selectors::Default {
            self.line(at, pid, Class::Noise, format_args!("cwd={cwd} {args}"));
        }
    }
}

impl Message {
    /// What can be known of its recipients goes into the books. A recipient that is still open stays in the queue.
    fn book(&mut self, selectors: Selectors, books: &mut Figures) {
        // Addresses that only a delivery line would have named are one with what was booked for them: an alias, or,
        // where recipients are not logged, all of the message.
        let group = |slot: &Slot| match selectors.recipients() {
            true => slot.original().unwrap_or(&slot.shown).to_owned(),
            false => String::new(),
        };
        let mut shown: BTreeSet<String> = self.slots.iter().filter(|slot| slot.named).map(group).collect();
        self.slots.retain(|slot| slot.named || shown.insert(group(slot)));
        for slot in &self.slots {
            books.recipients += 1;
            match slot.state {
                State::Open => {
                    books.queued += 1;
                    books.held += u64::from(self.frozen);
                }
                State::Sent => books.sent += 1,
                State::Bounced => books.bounced += 1,
                State::Expired => books.expired += 1,
                State::Deleted => books.deleted += 1,
                State::Unaccounted => books.unaccounted += 1,
            }
        }
    }

    /// What the log leaves to be said, at the end, of recipients of whom it says nothing. Where an alias was seen to be
    /// expanded they are taken for one with those it became; elsewhere their lines are lost.
    fn silent(&self, selectors: Selectors) -> State {
        let named = || self.slots.iter().filter(|slot| slot.named);
        let another = |slot: &Slot| {
            let local = slot.shown.split(' ').next();
            slot.original().is_some_and(|original| original.split('@').next() != local)
        };
        let expanded = selectors.recipients() && named().any(another);
        let ends = [State::Sent, State::Bounced, State::Expired, State::Deleted];
        let best = ends.into_iter().find(|end| named().any(|slot| slot.state == *end));
        best.filter(|_| expanded).unwrap_or(State::Unaccounted)
    }

    /// What is still open ends so.
    fn close(&mut self, state: State) {
        self.slots.iter_mut().filter(|slot| slot.state == State::Open).for_each(|slot| slot.state = state);
    }

    fn open(&self) -> bool {
        self.slots.iter().any(|slot| slot.state == State::Open && slot.fate != Fate::Lost)
    }
}
