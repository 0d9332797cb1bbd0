//! The lives of messages: decided, booked in the truth, and planned as lines.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
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
const FIRST_ACCOUNT: Owner = 4;
const REASONS: [&str; 4] = ["incoming", "no_evidence", "system_uid", "bounce"];

/// A queue id; short ids are written as the real server does: microseconds and inode in upper hex.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
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
                1 => (SYSTEM_UID, 33),
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

    /// From the first activation to the end of one queue id. Recipients are already booked.
    fn stay(&mut self, start: u64, stay: Stay) {
        let Stay { id, owner, ref sender, ref message_id, .. } = stay;
        let mut open = stay.open;
        let mut at = start;
        let mut wait = 300;
        // Deferred recipients keep their number, so that an address is the same at every attempt.
        let mut numbers: Vec<u32> = (0..open).collect();
        let base = self.rng.u32(0..100_000);
        for attempt in 0.. {
            let size = self.rng.u32(300..90_000);
            self.event(
                at,
                format_args!("postfix/qmgr[27540]: {id}: from=<{sender}>, size={size}, nrcpt={open} (queue active)"),
            );
            at += self.rng.u64(20_000..900_000);
            if attempt == 0 && stay.filter && !self.chance(self.mix.deferring) {
                self.filter_hop(at, &stay, base);
                return;
            }
            if attempt == 0 && stay.local && open == 1 && !stay.dsn && self.odd(100) {
                self.forward(at, &stay);
                return;
            }
            let lost = attempt == 0 && open == 1 && self.odd(15);
            let mut bounced = 0;
            let mut left = Vec::new();
            for &n in &numbers {
                at += self.rng.u64(1_000..200_000);
                let delay = (at - start) / SECOND;
                let relay = self.rng.u32(1..250);
                let roll = self.rng.u32(0..1000);
                let again = if attempt == 0 { self.mix.deferring } else { 500 };
                let rcpt = if stay.dsn { sender_of_dsn(base) } else { format!("r{}@dom{}.example", base + n, n % 40) };
                if roll < again {
                    self.owners[owner].deferred += 1;
                    self.event(at, format_args!(
                        "postfix/smtp[28{relay:03}]: {id}: to=<{rcpt}>, relay=mx{relay}.example[192.0.2.{relay}]:25, \
                         delay={delay}, delays=0.1/0.02/0.5/0.4, dsn=4.2.0, status=deferred (host \
                         mx{relay}.example[192.0.2.{relay}] said: 450 4.2.0 <{rcpt}>: Recipient address rejected: \
                         Greylisted, try later (in reply to RCPT TO command))"
                    ));
                    left.push(n);
                } else if lost && n == 0 {
                    self.owners[owner].unaccounted += 1;
                } else if roll < again + self.mix.bouncing {
                    bounced += 1;
                    self.owners[owner].bounced += 1;
                    self.event(at, format_args!(
                        "postfix/smtp[28{relay:03}]: {id}: to=<{rcpt}>, relay=mx{relay}.example[192.0.2.{relay}]:25, \
                         delay={delay}.3, delays=0.1/0.02/0.5/0.4, dsn=5.1.1, status=bounced (host \
                         mx{relay}.example[192.0.2.{relay}] said: 550 5.1.1 <{rcpt}>: No such user here (in reply \
                         to RCPT TO command))"
                    ));
                } else {
                    self.owners[owner].sent += 1;
                    self.sent_lines += 1;
                    match stay.local || stay.dsn {
                        true => self.event(
                            at,
                            format_args!(
                                "postfix/local[27828]: {id}: to=<{rcpt}>, relay=local, delay={delay}.1, \
                             delays=0.1/0/0/0, dsn=2.0.0, status=sent (delivered to mailbox)"
                            ),
                        ),
                        false => {
                            let far = self.rng.u64(..);
                            self.event(
                                at,
                                format_args!(
                                    "postfix/smtp[28{relay:03}]: {id}: to=<{rcpt}>, \
                                 relay=mx{relay}.example[192.0.2.{relay}]:25, delay={delay}.7, \
                                 delays=0.1/0.02/0.3/0.28, dsn=2.0.0, status=sent (250 2.0.0 Ok: queued as {far:X})"
                                ),
                            );
                        }
                    }
                }
            }
            at += 1_000;
            if bounced > 0 && !stay.dsn {
                at = self.bounce_message(at, id);
            }
            numbers = left;
            open = numbers.len() as u32;
            if open == 0 {
                self.removed(at + 500, id);
                return;
            }
            let books = &mut self.owners[owner];
            match self.rng.u32(0..1000) {
                0..100 => {
                    books.expired += u64::from(open);
                    at += self.rng.u64(3600..40_000) * SECOND;
                    let forced = if self.chance(200) { "force-expired" } else { "expired" };
                    self.event(
                        at,
                        format_args!("postfix/qmgr[27540]: {id}: from=<{sender}>, status={forced}, returned to sender"),
                    );
                    let at = if stay.dsn { at } else { self.bounce_message(at + 500, id) };
                    self.removed(at + 500, id);
                    return;
                }
                100..150 => {
                    books.queued += u64::from(open);
                    self.ends.push(Reverse(u64::MAX));
                    return;
                }
                150..165 => {
                    books.deleted += u64::from(open);
                    at += self.rng.u64(10..3600) * SECOND;
                    self.event(at, format_args!("postfix/postsuper[31000]: {id}: removed"));
                    self.said(at + 100, "Deleted", 1);
                    self.end(at, id);
                    return;
                }
                165..180 => {
                    at += self.rng.u64(10..300) * SECOND;
                    self.event(at, format_args!("postfix/postsuper[31000]: {id}: placed on hold"));
                    self.said(at + 100, "Placed on hold", 1);
                    if self.rng.bool() {
                        let books = &mut self.owners[owner];
                        books.queued += u64::from(open);
                        books.held += u64::from(open);
                        self.ends.push(Reverse(u64::MAX));
                        return;
                    }
                    at += 600 * SECOND;
                    self.event(at, format_args!("postfix/postsuper[31000]: {id}: released from hold"));
                    self.said(at + 100, "Released from hold", 1);
                    at += SECOND;
                }
                180..195 if !stay.dsn => {
                    at += self.rng.u64(10..300) * SECOND;
                    self.requeue(at, &stay, open, message_id);
                    return;
                }
                _ => {
                    at += (wait + self.rng.u64(0..30)) * SECOND;
                    wait = (wait * 2).min(4000);
                }
            }
        }
    }

    /// `postsuper -r`: the old id ends without a word, pickup brings the message back as a new one.
    fn requeue(&mut self, at: u64, stay: &Stay, open: u32, message_id: &str) {
        let old = stay.id;
        let id = self.id();
        self.event(at, format_args!("postfix/postsuper[31000]: {old}: requeued"));
        self.said(at + 100, "Requeued", 1);
        let at = at + SECOND;
        let sender = stay.sender.clone();
        self.event(at, format_args!("postfix/pickup[27539]: {id}: uid=102 from=<{sender}> orig_id={old}"));
        self.event(at + 1_000, format_args!("postfix/cleanup[27547]: {id}: message-id={message_id}"));
        self.end(at, old);
        let message_id = message_id.to_owned();
        let next = Stay { id, owner: stay.owner, sender, message_id, open, local: false, filter: false, dsn: false };
        self.stay(at + 3_000, next);
    }

    /// local(8) forwards to the outside: a new id that has no arrival line, only cleanup and qmgr.
    fn forward(&mut self, at: u64, stay: &Stay) {
        let (parent, id) = (stay.id, self.id());
        let message_id = stay.message_id.clone();
        self.sent_lines += 1;
        self.event(at, format_args!("postfix/cleanup[27547]: {id}: message-id={message_id}"));
        self.event(
            at + 3_000,
            format_args!(
                "postfix/local[27828]: {parent}: to=<fwd@hosting.test>, relay=local, delay=0.02, delays=0.01/0/0/0.01, \
             dsn=2.0.0, status=sent (forwarded as {id})"
            ),
        );
        self.removed(at + 4_000, parent);
        let (owner, sender) = (stay.owner, stay.sender.clone());
        let next = Stay { id, owner, sender, message_id, open: 1, local: false, filter: false, dsn: false };
        // The new message may be activated before or after the line that names it.
        let first = if self.rng.bool() { at + 2_000 } else { at + 5_000 };
        self.stay(first, next);
    }

    /// The content filter hands the message back over loopback; the child's first lines come before the parent's.
    fn filter_hop(&mut self, at: u64, stay: &Stay, base: u32) {
        let (parent, id, pid) = (stay.id, self.id(), self.pid());
        self.script.plan(
            at,
            Class::Noise,
            format_args!("postfix/reinject/smtpd[{pid}]: connect from localhost[127.0.0.1]"),
        );
        let message_id = stay.message_id.clone();
        self.event(at + 100, format_args!("postfix/reinject/smtpd[{pid}]: {id}: client=localhost[127.0.0.1]"));
        self.event(at + 1_000, format_args!("postfix/cleanup[27547]: {id}: message-id={message_id}"));
        let (owner, sender, open) = (stay.owner, stay.sender.clone(), stay.open);
        // Before or after the child was delivered: its first activation is at least 20 ms before its first attempt.
        let late = if self.rng.bool() { 5 * SECOND } else { 10_000 };
        for n in 0..open {
            self.sent_lines += 1;
            self.event(at + late + u64::from(n), format_args!(
                "postfix/smtp[28500]: {parent}: to=<r{}@dom{}.example>, relay=127.0.0.1[127.0.0.1]:10024, delay=0.3, \
                 delays=0.02/0.01/0/0.27, dsn=2.0.0, status=sent (250 2.0.0 from \
                 MTA(smtp:[127.0.0.1]:10025): 250 2.0.0 Ok: queued as {id})",
                base + n,
                n % 40
            ));
        }
        self.script.plan(
            at + 5_000,
            Class::Noise,
            format_args!(
                "postfix/reinject/smtpd[{pid}]: disconnect from localhost[127.0.0.1] ehlo=1 mail=1 rcpt={open} data=1 \
                 quit=1 commands={}",
                open + 4
            ),
        );
        self.removed(at + late + 1_000, parent);
        let next = Stay { id, owner, sender, message_id, open, local: stay.local, filter: false, dsn: false };
        self.stay(at + 4_000, next);
    }

    /// A non-delivery notification about `parent`; returns when its line was written.
    fn bounce_message(&mut self, at: u64, parent: Id) -> u64 {
        let id = self.id();
        let message_id = format!("<20261123.{id}@mx.hosting.test>");
        self.event(at, format_args!("postfix/cleanup[27547]: {id}: message-id={message_id}"));
        let line = at + if self.rng.bool() { 500 } else { 4_000 };
        self.event(line, format_args!("postfix/bounce[27827]: {parent}: sender non-delivery notification: {id}"));
        let books = &mut self.owners[BOUNCE];
        books.messages += 1;
        books.recipients += 1;
        let owner = BOUNCE;
        let stay =
            Stay { id, owner, sender: String::new(), message_id, open: 1, local: true, filter: false, dsn: true };
        self.stay(at + 2_000, stay);
        line
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

fn sender_of_dsn(base: u32) -> String {
    format!("web{}@mx.hosting.test", base % 5000)
}
