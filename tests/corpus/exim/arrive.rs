//! How messages come in: who sends what to whom, the `<=` line, and lines about no message.

use super::super::script::Class;
use super::text::{self, Id};
use super::{
    BOUNCE, FIRST_ACCOUNT, Fate, INCOMING, Message, NO_EVIDENCE, Owner, SECOND, SYSTEM_UID, Selectors, Server, Slot,
    State, WEB_SERVER_UID,
};

/// The `<=` line's middle, from the sender to the size: what says where a message comes from.
struct Arrival {
    owner: Owner,
    sender: String,
    origin: String,
    /// Host and port of a TCP client.
    client: Option<String>,
    smtp: bool,
}

impl Server<'_> {
    pub(super) fn id(&mut self, at: u64) -> Id {
        self.serial += 1;
        let new = self.chance(self.mix.new_ids);
        Id { second: self.mix.start + at / SECOND, serial: self.serial, new }
    }

    fn pick_account(&mut self, user: bool) -> u32 {
        let pairs = self.mix.accounts.max(2) / 2;
        let pair = match self.mix.round_robin {
            true => (self.serial % u64::from(pairs)) as u32,
            // A product of two: few accounts send most.
            false => (self.rng.f64() * self.rng.f64() * f64::from(pairs)) as u32,
        };
        pair * 2 + u32::from(!user)
    }

    /// One message comes in, and lives its life.
    pub(super) fn arrival(&mut self) {
        let at = self.now;
        let id = self.id(at);
        let pid = self.pid();
        let roll = self.rng.u32(0..1000);
        let (script, auth) = (self.mix.script, self.mix.script + self.mix.smtp_auth);
        let from = if roll < script {
            self.by_script(at, pid)
        } else {
            self.by_smtp(roll < auth, roll < auth + self.mix.local_smtp)
        };
        if let (Some(client), true) = (&from.client, self.mix.selectors.connections()) {
            let text = format!("SMTP connection from {client} (TCP/IP connection count = 1)");
            self.line(at.saturating_sub(200_000), pid, Class::Noise, format_args!("{text}"));
        }
        if self.odd(60) {
            // Refused after its data: it has an id, and was never a message.
            let origin = from.origin.split(" P=").next().unwrap_or_default().trim_start();
            let text =
                format!("{id} {origin} F=<{}> rejected after DATA: this message scored 17.4 spam points", from.sender);
            self.event(at, pid, format_args!("{text}"));
            return;
        }
        let slots = self.recipients(from.owner);
        let mut message = Message { id, owner: from.owner, sender: from.sender.clone(), slots, frozen: false };
        self.owners[from.owner].messages += 1;
        if from.smtp && message.slots.len() == 1 && message.slots[0].original().is_none() && self.odd(300) {
            self.cut_through(at, pid, message, &from);
            return;
        }
        if self.odd(30) {
            // All recipients discarded by an ACL: none is left to be logged.
            message.slots.truncate(1);
            self.accepted(at, pid, &message, &from, false);
            self.event(at, pid, format_args!("{id} => blackhole (DATA ACL discarded recipients)"));
            message.close(State::Deleted);
            self.completed(at, pid, message);
            return;
        }
        let freeze = self.odd(60);
        if freeze {
            let origin = from.origin.split(" P=").next().unwrap_or_default().trim_start();
            self.event(at, pid, format_args!("{id} {origin} Warning: HOLD a blocked one"));
        }
        self.accepted(at, pid, &message, &from, true);
        if let (Some(client), true) = (&from.client, self.mix.selectors.connections()) {
            self.line(at + 2_000, pid, Class::Noise, format_args!("SMTP connection from {client} closed by QUIT"));
        }
        if freeze {
            self.event(at, pid, format_args!("{id} frozen by ACL"));
            message.frozen = true;
        } else if self.odd(20) {
            self.event(at, pid, format_args!("{id} no immediate delivery: queued by ACL"));
        }
        let begun = at + self.rng.u64(3_000..400_000);
        self.live(begun, message);
    }

    fn by_script(&mut self, at: u64, pid: u32) -> Arrival {
        let n = self.pick_account(true);
        let (owner, user) = match self.rng.u32(0..200) {
            0 => (SYSTEM_UID, "root".to_owned()),
            1 => (WEB_SERVER_UID, "www-data".to_owned()),
            _ => (FIRST_ACCOUNT + n as usize, format!("web{n}")),
        };
        let sender = format!("{user}@mx.hosting.test");
        let batch = self.chance(30);
        if batch {
            self.started(at, pid, &format!("/home/{user}"), format_args!("2 args: /usr/sbin/sendmail -bs"));
        } else {
            let folder = format!("/home/{user}/public_html/{}", ["", "wp", "shop/cron"][self.rng.usize(0..3)]);
            self.started(at, pid, &folder, format_args!("4 args: /usr/sbin/sendmail -t -i -f{sender}"));
        }
        let protocol = if batch { "local-esmtp" } else { "local" };
        Arrival { owner, sender, origin: format!(" U={user} P={protocol}"), client: None, smtp: false }
    }

    fn by_smtp(&mut self, auth: bool, local: bool) -> Arrival {
        let host = self.rng.u32(0..500);
        let port = match self.mix.selectors {
            Selectors::Cpanel | Selectors::All => format!(":{}", self.rng.u32(30_000..60_000)),
            _ => String::new(),
        };
        let end = if self.mix.selectors == Selectors::All { " I=[192.0.2.1]:25" } else { "" };
        if auth {
            let n = self.pick_account(false);
            let name = text::account(n);
            // The login is logged as typed; the account is its lower case.
            let typed = if n.is_multiple_of(7) { name.to_uppercase() } else { name.clone() };
            let client = format!("(pc{host}) [203.0.113.{}]{port}", host % 250);
            let origin =
                format!(" H={client}{end} P=esmtpsa X=TLS1.3:TLS_AES_256_GCM_SHA384:256 CV=no A=dovecot_login:{typed}");
            return Arrival {
                owner: FIRST_ACCOUNT + n as usize,
                sender: name,
                origin,
                client: Some(client),
                smtp: true,
            };
        }
        // What a client's ident service says of itself is no user of ours.
        let ident = if host.is_multiple_of(20) { " U=web2" } else { "" };
        if local {
            let address = if host.is_multiple_of(3) { "[::1]" } else { "[127.0.0.1]" };
            let client = format!("localhost (vm) {address}{port}");
            let sender = format!("app{host}@hosting.test");
            let origin = format!(" H={client}{end}{ident} P=esmtp");
            return Arrival { owner: NO_EVIDENCE, sender, origin, client: Some(client), smtp: true };
        }
        let helo = if host.is_multiple_of(9) { " ([127.0.0.1])" } else { "" };
        let client = format!("mail{host}.example.net{helo} [198.51.100.{}]{port}", host % 250);
        let origin = format!(" H={client}{end}{ident} P=esmtps X=TLS1.2:ECDHE-RSA-AES256-GCM-SHA384:256 CV=no");
        let sender = format!("news{host}@example.net");
        Arrival { owner: INCOMING, sender, origin, client: Some(client), smtp: true }
    }

    fn recipients(&mut self, owner: Owner) -> Vec<Slot> {
        let many = match self.rng.u32(0..100) {
            0..85 => 1,
            85..98 => self.rng.u32(2..6),
            _ => self.rng.u32(6..21),
        };
        let mut slots = Vec::new();
        for n in 0..many {
            let number = self.rng.u32(0..1_000_000) * 32 + n;
            let domain = self.rng.u32(0..300);
            if owner == INCOMING || self.chance(60) {
                let (name, home) = (format!("box{number}"), format!("dom{}.hosting.test", domain % 97));
                if self.chance(100) {
                    self.alias(&mut slots, &format!("list{number}@{home}"), number);
                } else {
                    let fate = self.fate();
                    slots.push(Slot::new(format!("{name} <{name}@{home}>"), domain, true, fate));
                }
            } else {
                let fate = self.fate();
                slots.push(Slot::new(format!("u{number}@dest{domain}.example"), domain, false, fate));
            }
        }
        slots
    }

    /// An alias: its first final address uses up its booking, the others come on top.
    fn alias(&mut self, slots: &mut Vec<Slot>, original: &str, number: u32) {
        for n in 0..self.rng.u32(1..4) {
            let domain = self.rng.u32(0..300);
            let local = self.chance(500);
            let parent = match self.mix.selectors == Selectors::Cpanel && self.chance(300) {
                true => format!(" (team{n}@mx.hosting.test)"),
                false => String::new(),
            };
            let address = if local { format!("m{number}x{n}") } else { format!("m{number}x{n}@dest{domain}.example") };
            let fate = self.fate();
            slots.push(Slot::new(format!("{address}{parent} <{original}>"), domain, local, fate));
        }
    }

    pub(super) fn fate(&mut self) -> Fate {
        let tries = match self.chance(self.mix.deferring) {
            true => self.rng.u32(1..6),
            false => 0,
        };
        if self.odd(5) {
            Fate::Lost
        } else if tries > 3 && self.chance(300) {
            Fate::Expired(tries)
        } else if self.chance(self.mix.bouncing) {
            Fate::Bounced(tries)
        } else {
            Fate::Sent(tries)
        }
    }

    /// The `<=` line.
    fn accepted(&mut self, at: u64, pid: u32, message: &Message, from: &Arrival, recipients: bool) {
        let id = message.id;
        let mut tail = format!(" S={}", self.rng.u32(300..60_000));
        let all = self.mix.selectors == Selectors::All;
        if all {
            tail += " M8S=0 RT=0.010s";
        }
        if from.smtp || all {
            let star = if from.smtp { "" } else { "*" };
            tail += &format!(" id{star}=20261123.{:x}@app.test", self.rng.u32(..));
        }
        if self.mix.selectors != Selectors::Default {
            tail += &format!(" T=\"{}\"", text::SUBJECTS[self.rng.usize(0..text::SUBJECTS.len())]);
        }
        if self.mix.selectors.senders() {
            tail += &format!(" from <{}>", message.sender);
        }
        if self.mix.selectors.recipients() && recipients {
            tail += " for";
            let mut before = None;
            for slot in &message.slots {
                let original = slot.original().unwrap_or(&slot.shown);
                if before != Some(original) {
                    tail += &format!(" {original}");
                }
                before = Some(original);
            }
        }
        let sender = if message.sender.is_empty() { "<>" } else { &message.sender };
        self.event(at, pid, format_args!("{id} <= {sender}{}{tail}", from.origin));
    }

    /// Delivered while it is received: the delivery is logged before the arrival (`>>`).
    fn cut_through(&mut self, at: u64, pid: u32, mut message: Message, from: &Arrival) {
        let Some(slot) = message.slots.first_mut() else { return };
        (slot.state, slot.named) = (State::Sent, true);
        let (shown, domain) = (slot.shown.clone(), slot.domain);
        let id = message.id;
        let rest = self.delivered(&message.sender, domain, false, 0);
        self.event(at, pid, format_args!("{id} >> {shown}{rest}"));
        self.accepted(at, pid, &message, from, true);
        self.completed(at, pid, message);
    }

    /// A bounce of `failed`, to its sender. It belongs to nobody.
    pub(super) fn bounce(&mut self, at: u64, failed: &Message) {
        let pid = self.pid();
        let id = self.id(at);
        self.started(
            at,
            pid,
            "/var/spool/exim4",
            format_args!("7 args: /usr/sbin/exim4 -t -oem -oi -f <> -E{}", failed.id),
        );
        let fate = if self.chance(60) { Fate::Bounced(0) } else { Fate::Sent(0) };
        let slot = Slot::new(failed.sender.clone(), self.rng.u32(0..300), false, fate);
        let message = Message { id, owner: BOUNCE, sender: String::new(), slots: vec![slot], frozen: false };
        self.owners[BOUNCE].messages += 1;
        let origin = format!(" R={} U=Debian-exim P=local", failed.id);
        let from = Arrival { owner: BOUNCE, sender: String::new(), origin, client: None, smtp: false };
        self.accepted(at, pid, &message, &from, true);
        self.live(at + 20_000, message);
    }

    /// A line about no message.
    pub(super) fn about_nothing(&mut self) {
        let at = self.now + self.rng.u64(0..SECOND);
        let n = self.rng.u32(0..250);
        let pid = self.pid();
        let body = match n % 10 {
            0 => format!("H=(vm{n}) [198.51.100.{n}] F=<a@b.test> rejected RCPT <x{n}@spam.test>: relay not permitted"),
            1 => format!(
                "dovecot_login authenticator failed for (u) [203.0.113.{n}]: 535 Incorrect authentication data \
                 (set_id=box{n}@hosting.test)"
            ),
            2 => format!("Start queue run: pid={pid}"),
            3 => format!("End queue run: pid={pid}"),
            4 => format!(
                "TLS error on connection from [198.51.100.{n}] (recv): The TLS connection was non-properly terminated."
            ),
            5 => format!("no host name found for IP address 198.51.100.{n}"),
            6 => format!(
                "H=[198.51.100.{n}] temporarily rejected RCPT <box@dom3.hosting.test>: greylisted, Completed => no"
            ),
            7 => format!("cwd=/home/web{n} 5 args: /usr/sbin/sendmail -i a <= b U=web2 P=local"),
            8 => format!(
                "SMTP protocol synchronization error (input sent without waiting for greeting): rejected connection from H=[198.51.100.{n}]"
            ),
            _ => format!(
                "unexpected disconnection while reading SMTP command from mail{n}.example.net [198.51.100.{n}] D=2s"
            ),
        };
        self.line(at, pid, Class::Foreign, format_args!("{body}"));
    }
}

impl Slot {
    fn new(shown: String, domain: u32, local: bool, fate: Fate) -> Slot {
        Slot { shown, domain, local, fate, state: State::Open, named: false }
    }

    /// The final address.
    pub(super) fn address(&self) -> &str {
        self.shown.split(' ').next().unwrap_or_default()
    }

    /// The envelope recipient, where it is another than the final address.
    pub(super) fn original(&self) -> Option<&str> {
        let (_, original) = self.shown.rsplit_once('<')?;
        original.strip_suffix('>')
    }
}
