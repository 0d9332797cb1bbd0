//! The lives of messages: decided, booked in the truth, and planned as lines.

mod stay;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};
use std::fmt::Write as _;
use std::io::{self, Write};

use fastrand::Rng;

use super::script::{Class, Script};
use super::{Books, Figures, Mix, Truth};

const SECOND: u64 = 1_000_000;

/// Whose figures a message moves: an index into the table of owners.
type Owner = usize;
const INCOMING: Owner = 0;
const NO_EVIDENCE: Owner = 1;
const SYSTEM_UID: Owner = 2;
const BOUNCE: Owner = 3;
const WEB_SERVER_UID: Owner = 4;
const FIRST_ACCOUNT: Owner = 5;
const REASONS: [&str; 5] = ["incoming", "no_evidence", "system_uid", "bounce", "web_server_uid"];

/// A queue id; short ids are written as the real server does: microseconds and inode in upper hex.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Id(u64);

impl std::fmt::Display for Id {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:05X}{:X}", self.0 & 0xF_FFFF, self.0 >> 20)
    }
}

pub struct Server<'m> {
    mix: &'m Mix,
    rng: Rng,
    script: Script,
    owners: Vec<Figures>,
    inode: u64,
    free: BinaryHeap<Reverse<(u64, Id)>>,
    /// Ids whose message never came to the queue, and of which no line says so.
    broken_off: HashSet<Id>,
    /// Ends of messages, to know how many are in flight.
    ends: BinaryHeap<Reverse<u64>>,
    in_flight: u64,
    now: u64,
    sent_lines: u64,
    serial: u64,
}

/// How a message goes through the queue under one id.
struct Stay {
    id: Id,
    owner: Owner,
    sender: String,
    message_id: String,
    open: u32,
    local: bool,
    /// The content filter takes it, instead of the world.
    filter: bool,
    dsn: bool,
}

impl<'m> Server<'m> {
    pub fn new(mix: &'m Mix) -> Server<'m> {
        Server {
            mix,
            rng: Rng::with_seed(mix.seed),
            script: Script::new(mix.stamps, mix.start),
            owners: vec![Figures::default(); FIRST_ACCOUNT + mix.accounts as usize],
            inode: 0xB6000,
            free: BinaryHeap::new(),
            broken_off: HashSet::new(),
            ends: BinaryHeap::new(),
            in_flight: 0,
            now: SECOND,
            sent_lines: 0,
            serial: 0,
        }
    }

    pub fn run(mut self, out: &mut impl Write) -> io::Result<Truth> {
        while self.script.planned() < self.mix.lines {
            self.script.write(self.now, out)?;
            while self.ends.peek().is_some_and(|Reverse(end)| *end < self.now) {
                self.ends.pop();
            }
            self.in_flight = self.in_flight.max(self.ends.len() as u64);
            let before = self.script.planned();
            self.arrival();
            // Noise and other programs in proportion to what mail has just planned.
            let lines = (self.script.planned() - before) as u32;
            for _ in 0..lines {
                if self.chance(self.mix.foreign) {
                    self.foreign();
                }
                if self.chance(25) {
                    self.noise();
                }
            }
            self.now += self.rng.u64(1..self.mix.gap_us.max(1) * 2);
        }
        self.script.write(u64::MAX, out)?;
        let mut books = Books::default();
        let mut passwd = String::from("root:x:0:0::/root:/bin/sh\nwww-data:x:33:33::/var/www:/bin/false\n");
        for n in 0..self.mix.accounts {
            if n % 2 == 0 && n % 20 != 0 {
                let _ = writeln!(passwd, "web{n}:x:{}:{}::/home/web{n}:/bin/false", 2001 + n, 2001 + n);
            }
        }
        for (owner, figures) in self.owners.iter().enumerate().filter(|(_, f)| !f.is_zero()) {
            match REASONS.get(owner) {
                Some(reason) => *books.reason(reason) = *figures,
                None => *books.account(&account_name((owner - FIRST_ACCOUNT) as u32)) = *figures,
            }
        }
        let mut lines = self.script.lines;
        lines.sent = self.sent_lines;
        Ok(Truth { books, lines, passwd, in_flight: self.in_flight })
    }

    fn chance(&mut self, per_mille: u32) -> bool {
        self.rng.u32(0..1000) < per_mille
    }

    /// Rare things, one in `10_000 / share` at usual oddities.
    fn odd(&mut self, share: u32) -> bool {
        self.rng.u32(0..10_000_000) < share * self.mix.oddities
    }

    fn id(&mut self) -> Id {
        // A freed id comes back soon: the inode is the same, and so may be the microseconds.
        if let Some(Reverse((end, id))) = self.free.peek().copied()
            && end < self.now
        {
            self.free.pop();
            if self.rng.u32(0..50) == 0 {
                return id;
            }
        }
        self.inode += 1;
        Id(self.inode << 20 | self.rng.u64(0..1_000_000))
    }

    fn event(&mut self, at: u64, body: std::fmt::Arguments<'_>) {
        self.script.plan(at, Class::Event, body);
    }

    fn pid(&mut self) -> u32 {
        self.rng.u32(1000..32_000)
    }

    fn pick_account(&mut self, uid: bool) -> u32 {
        let n = self.mix.accounts.max(2);
        self.serial += 1;
        let pairs = n / 2;
        let pair = match self.mix.round_robin {
            true => (self.serial % u64::from(pairs)) as u32,
            // A product of two: few accounts send most.
            false => (self.rng.f64() * self.rng.f64() * f64::from(pairs)) as u32,
        };
        // Even accounts have a uid, odd ones a login.
        pair * 2 + u32::from(!uid)
    }

    /// One message comes in.
    fn arrival(&mut self) {
        let mut at = self.now;
        let id = self.id();
        let roll = self.rng.u32(0..1000);
        let (script, auth) = (self.mix.script, self.mix.script + self.mix.smtp_auth);
        let message_id = format!("<20261123.{:x}.{:08x}@app.test>", at, self.rng.u32(..));
        let host = self.rng.u32(0..500);
        let mut smtpd = None;
        let (owner, sender) = if roll < script {
            let n = self.pick_account(true);
            let (owner, uid) = match self.rng.u32(0..200) {
                0 => (SYSTEM_UID, 0),
                1 => (WEB_SERVER_UID, 33),
                _ => (FIRST_ACCOUNT + n as usize, 2001 + n),
            };
            self.event(at, format_args!("postfix/pickup[27539]: {id}: uid={uid} from=<web{n}>"));
            (owner, format!("web{n}@mx.hosting.test"))
        } else {
            let pid = self.pid();
            let (tag, client, login, owner, sender) = if roll < auth {
                let n = self.pick_account(false);
                let name = account_name(n);
                // The login is logged as typed; the account is its lower case.
                let typed = if n.is_multiple_of(7) { name.to_uppercase() } else { name.clone() };
                let login = format!(", sasl_method=PLAIN, sasl_username={typed}");
                let client = format!("unknown[203.0.113.{}]", host % 250);
                ("postfix/submission/smtpd", client, login, FIRST_ACCOUNT + n as usize, name)
            } else if roll < auth + self.mix.local_smtp {
                let client = if host.is_multiple_of(3) { "localhost[::1]" } else { "localhost[127.0.0.1]" };
                ("postfix/smtpd", client.to_owned(), String::new(), NO_EVIDENCE, format!("app{host}@hosting.test"))
            } else {
                let client = format!("mail{host}.example.net[198.51.100.{}]", host % 250);
                ("postfix/smtpd", client, String::new(), INCOMING, format!("news{host}@example.net"))
            };
            self.script.plan(at, Class::Noise, format_args!("{tag}[{pid}]: connect from {client}"));
            self.event(at + 40_000, format_args!("{tag}[{pid}]: {id}: client={client}{login}"));
            smtpd = Some((tag, pid, client));
            at += 60_000;
            (owner, sender)
        };
        self.event(at + 2_000, format_args!("postfix/cleanup[27547]: {id}: message-id={message_id}"));
        at += 20_000;
        let mut refused = false;
        if let Some((tag, pid, client)) = &smtpd {
            if self.odd(40) {
                refused = true;
                self.event(
                    at,
                    format_args!(
                        "postfix/cleanup[27547]: {id}: milter-reject: END-OF-MESSAGE from {client}: 5.7.1 Command \
                         rejected; from=<{sender}> to=<x@example.org> proto=ESMTP helo=<vm>"
                    ),
                );
            } else if self.odd(20) {
                // The client goes away before the end of its message: nothing more is ever said of this id.
                refused = true;
                self.broken_off.insert(id);
            }
            self.script.plan(
                at + 5_000,
                Class::Noise,
                format_args!(
                    "{tag}[{pid}]: disconnect from {client} ehlo=1 mail=1 rcpt=1 data={} quit=1 commands=5",
                    if refused { "0/1" } else { "1" }
                ),
            );
        }
        if refused {
            self.free.push(Reverse((at + 5_000, id)));
            return;
        }
        let open = match self.rng.u32(0..100) {
            0..85 => 1,
            85..98 => self.rng.u32(2..6),
            _ => self.rng.u32(6..21),
        };
        let books = &mut self.owners[owner];
        books.messages += 1;
        if owner != BOUNCE && self.odd(50) {
            self.hold_at_acceptance(at, id, owner, sender, message_id, open);
            return;
        }
        self.owners[owner].recipients += u64::from(open);
        let filter = self.chance(self.mix.filtered);
        let local = owner == INCOMING || self.chance(60);
        let stay = Stay { id, owner, sender, message_id, open, local, filter, dsn: false };
        self.stay(at + 5_000, stay);
    }

    /// A milter holds it: one recipient is booked until it is released.
    fn hold_at_acceptance(&mut self, at: u64, id: Id, owner: Owner, sender: String, message_id: String, open: u32) {
        self.event(
            at,
            format_args!(
                "postfix/cleanup[27547]: {id}: milter-hold: END-OF-MESSAGE from localhost[127.0.0.1]: milter triggers \
                 HOLD action; from=<{sender}> to=<x@example.org>"
            ),
        );
        let later = at + self.rng.u64(60..7200) * SECOND;
        match self.rng.u32(0..10) {
            0..6 => {
                self.event(later, format_args!("postfix/postsuper[31000]: {id}: released from hold"));
                self.said(later + 100, "Released from hold", 1);
                self.owners[owner].recipients += u64::from(open);
                let stay = Stay { id, owner, sender, message_id, open, local: false, filter: false, dsn: false };
                self.stay(later + SECOND, stay);
            }
            6..8 => {
                self.owners[owner].recipients += 1;
                self.owners[owner].deleted += 1;
                self.event(later, format_args!("postfix/postsuper[31000]: {id}: removed"));
                self.said(later + 100, "Deleted", 1);
                self.end(later, id);
            }
            _ => {
                let books = &mut self.owners[owner];
                books.recipients += 1;
                books.queued += 1;
                books.held += 1;
                self.ends.push(Reverse(u64::MAX));
            }
        }
    }

    fn said(&mut self, at: u64, what: &str, n: u32) {
        let s = if n == 1 { "" } else { "s" };
        self.event(at, format_args!("postfix/postsuper[31000]: {what}: {n} message{s}"));
    }

    /// The id is free from `at` on.
    fn end(&mut self, at: u64, id: Id) {
        self.free.push(Reverse((at, id)));
        self.ends.push(Reverse(at));
    }

    fn removed(&mut self, at: u64, id: Id) {
        self.event(at, format_args!("postfix/qmgr[27540]: {id}: removed"));
        self.end(at, id);
    }

    fn foreign(&mut self) {
        let at = self.now + self.rng.u64(0..SECOND);
        let n = self.rng.u32(0..100_000);
        let body = match n % 3 {
            0 => {
                format_args!("dovecot: imap-login: Login: user=<u{n}@hosting.test>, method=PLAIN, rip=203.0.113.9, TLS")
                    .to_string()
            }
            1 => format!("opendkim[811]: {:X}: DKIM-Signature field added (s=mail, d=dom{n}.test)", n * 7919),
            _ => format!("dovecot: lmtp(u{n}@hosting.test)<{n}>: msgid=<a{n}@x>: saved mail to INBOX status=ok"),
        };
        self.script.plan(at, Class::Foreign, format_args!("{body}"));
    }

    fn noise(&mut self) {
        let at = self.now + self.rng.u64(0..SECOND);
        let n = self.rng.u32(0..250);
        let pid = self.pid();
        let body = match n % 4 {
            0 => format!(
                "postfix/smtpd[{pid}]: NOQUEUE: reject: RCPT from unknown[198.51.100.{n}]: 554 5.7.1 <x{n}@spam.test>: \
                 Relay access denied; from=<a@b.test> to=<x{n}@spam.test> proto=ESMTP helo=<vm>"
            ),
            1 => format!(
                "postfix/submission/smtpd[{pid}]: warning: unknown[203.0.113.{n}]: SASL LOGIN authentication failed: \
                 authentication failure, sasl_username=box{n}@hosting.test"
            ),
            2 => format!("postfix/smtp[{pid}]: connect to mx{n}.example[192.0.2.{n}]:25: Connection timed out"),
            _ => format!(
                "postfix/smtpd[{pid}]: Anonymous TLS connection established from unknown[203.0.113.{n}]: TLSv1.3 with \
                 cipher TLS_AES_256_GCM_SHA384 (256/256 bits)"
            ),
        };
        self.script.plan(at, Class::Noise, format_args!("{body}"));
    }
}

/// Even accounts have a uid, odd ones a login; every twentieth uid has no name.
fn account_name(n: u32) -> String {
    match n {
        n if n % 2 == 1 => format!("box{n}@dom{}.hosting.test", n % 97),
        n if n % 20 == 0 => format!("uid{}", 2001 + n),
        n => format!("web{n}"),
    }
}
