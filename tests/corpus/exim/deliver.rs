//! How messages leave: delivery runs, retries, bounces, freezing, removal, the end.

use std::cmp::Reverse;

use super::super::script::Class;
use super::{BOUNCE, Fate, Message, SECOND, Selectors, Server, State, text};

/// How a message that stopped goes on.
enum Turn {
    /// Delivery goes on, at this time.
    On(u64),
    /// It ended.
    Over,
    /// Nothing more is said of it.
    Stays,
}

impl Server<'_> {
    /// From its acceptance to its end, run by run.
    pub(super) fn live(&mut self, mut at: u64, mut message: Message) {
        let id = message.id;
        if message.frozen {
            match self.frozen(at, &mut message) {
                Turn::On(later) => at = later,
                turn => return self.leave(&turn, message),
            }
        }
        for run in 0.. {
            let pid = self.pid();
            if run == 0 {
                self.started(at, pid, "/var/spool/exim4", format_args!("3 args: /usr/sbin/exim4 -Mc {id}"));
            }
            let failed = self.attempt(at, pid, run, &mut message);
            at += 2 * SECOND;
            if failed && message.owner == BOUNCE {
                return self.undeliverable(at, pid, message);
            }
            if failed {
                self.bounce(at, &message);
            }
            if !message.open() {
                return self.completed(at + 30_000, pid, message);
            }
            if self.odd(200) {
                let by = if self.chance(500) { "frozen by root" } else { "Frozen by the system filter: too fast" };
                self.event(at + SECOND, pid, format_args!("{id} {by}"));
                message.frozen = true;
                match self.frozen(at + SECOND, &mut message) {
                    Turn::On(later) => at = later,
                    turn => return self.leave(&turn, message),
                }
            } else if self.odd(100) {
                self.event(at + SECOND, pid, format_args!("{id} removed by root"));
                message.close(State::Deleted);
                return self.completed(at + SECOND, pid, message);
            } else if self.odd(20) {
                // Still there when the log ends.
                return self.leave(&Turn::Stays, message);
            }
            at += (run + 1) * 900 * SECOND + self.rng.u64(0..60 * SECOND);
        }
    }

    /// One delivery run over what is open. Whether an address failed for good.
    fn attempt(&mut self, at: u64, pid: u32, run: u64, message: &mut Message) -> bool {
        let id = message.id;
        let mut first = true;
        let mut failed = false;
        for (n, mut slot) in std::mem::take(&mut message.slots).into_iter().enumerate() {
            let when = at + 1_000 * n as u64;
            if slot.state != State::Open || slot.fate == Fate::Lost {
                message.slots.push(slot);
                continue;
            }
            slot.named = true;
            let shown = &slot.shown;
            match slot.fate {
                Fate::Sent(tries) if run >= u64::from(tries) => {
                    let arrow = if first || self.chance(500) { "=>" } else { "->" };
                    first = false;
                    if slot.original().is_none() && self.odd(20) {
                        self.event(when, pid, format_args!("{id} {arrow} :blackhole: <{shown}> R=system_aliases"));
                        slot.state = State::Deleted;
                    } else {
                        let rest = self.delivered(&message.sender, slot.domain, slot.local, run);
                        self.event(when, pid, format_args!("{id} {arrow} {shown}{rest}"));
                        slot.state = State::Sent;
                    }
                }
                Fate::Bounced(tries) if run >= u64::from(tries) => {
                    let reason = self.refused(&message.sender, slot.domain, slot.local, slot.address());
                    self.event(when, pid, format_args!("{id} ** {shown}{reason}"));
                    slot.state = State::Bounced;
                    failed = true;
                }
                fate => {
                    let host = slot.domain;
                    let too_early = run > 0 && self.chance(300);
                    if too_early {
                        let time = self.timing();
                        self.event(
                            when,
                            pid,
                            format_args!("{id} == {shown} routing defer (-52){time}: retry time not reached"),
                        );
                    } else if slot.local {
                        self.event(
                            when,
                            pid,
                            format_args!("{id} == {shown} R=localuser T=local_delivery defer (-22): mailbox is full"),
                        );
                    } else if self.chance(300) {
                        self.event(
                            when,
                            pid,
                            format_args!("{id} H=mx.dest{host}.example [192.0.2.{}] Connection refused", host % 250),
                        );
                        self.event(
                            when,
                            pid,
                            format_args!("{id} == {shown} R=dnslookup T=remote_smtp defer (111): Connection refused"),
                        );
                    } else {
                        let reply = text::DELAYS[self.rng.usize(0..text::DELAYS.len())];
                        let time = self.timing();
                        self.event(
                            when,
                            pid,
                            format_args!(
                                "{id} == {shown} R=dnslookup T=remote_smtp defer (-44) H=mx.dest{host}.example \
                                 [192.0.2.{}]{time}: SMTP error from remote mail server after RCPT TO:<{}>: {reply}",
                                host % 250,
                                slot.address()
                            ),
                        );
                    }
                    self.owners[message.owner].deferred += u64::from(!too_early);
                    if let Fate::Expired(tries) = fate
                        && run >= u64::from(tries)
                    {
                        self.event(when, pid, format_args!("{id} ** {shown}: retry timeout exceeded"));
                        slot.state = State::Expired;
                        failed = true;
                    }
                }
            }
            message.slots.push(slot);
        }
        failed
    }

    fn timing(&mut self) -> &'static str {
        if self.mix.selectors == Selectors::All { " DT=0.004s" } else { "" }
    }

    /// What stands after the address of a delivery.
    pub(super) fn delivered(&mut self, sender: &str, domain: u32, local: bool, run: u64) -> String {
        let mut rest = String::new();
        if self.mix.selectors.senders() {
            rest += &format!(" F=<{sender}>");
        }
        if self.mix.selectors == Selectors::All {
            rest += &format!(" P=<{sender}>");
        }
        let (router, transport) = if local { ("localuser", "local_delivery") } else { ("dnslookup", "remote_smtp") };
        rest += &format!(" R={router} T={transport}");
        if self.mix.selectors.senders() {
            rest += &format!(" S={}", self.rng.u32(300..60_000));
        }
        if !local {
            rest += &format!(" H=mx.dest{domain}.example [192.0.2.{}]", domain % 250);
            if self.mix.selectors == Selectors::All {
                rest += ":25 I=[198.51.100.7]:39020";
            }
            rest += " X=TLS1.3:TLS_AES_256_GCM_SHA384:256 CV=yes";
            if self.mix.selectors == Selectors::All {
                rest += " L";
            }
            rest += &match domain % 9 {
                0 => " C=\"250 2.0.0 Ok: \\\"Completed\\\" ** x@y.test == for v@w.test\"".to_owned(),
                _ => format!(" C=\"250 2.0.0 Ok: queued as {:X}\"", self.rng.u64(..) >> 20),
            };
        }
        if self.mix.selectors == Selectors::All {
            rest += &format!(" QT={}s DT=0.031s", run * 900 + 1);
        }
        rest
    }

    /// What stands after the address of a failure.
    fn refused(&mut self, sender: &str, domain: u32, local: bool, address: &str) -> String {
        let mut rest = if self.mix.selectors.senders() { format!(" F=<{sender}>") } else { String::new() };
        if local {
            return rest + ": Unrouteable address";
        }
        if self.chance(100) {
            return rest + " R=fail_router: no such domain here";
        }
        let reply = text::REFUSALS[self.rng.usize(0..text::REFUSALS.len())];
        rest += &format!(
            " R=dnslookup T=remote_smtp H=mx.dest{domain}.example [192.0.2.{}] X=TLS1.3:TLS_AES_256_GCM_SHA384:256 \
             CV=yes: SMTP error from remote mail server after RCPT TO:<{address}>: {reply}",
            domain % 250
        );
        rest + self.timing()
    }

    /// A bounce that cannot be delivered is frozen, and later given up or removed, or stays.
    fn undeliverable(&mut self, at: u64, pid: u32, mut message: Message) {
        let id = message.id;
        // The failed address is tried again: for the log it has bounced.
        self.event(at, pid, format_args!("{id} Frozen (delivery error message)"));
        message.frozen = true;
        match self.rng.u32(0..3) {
            0 => {
                let later = at + 3600 * SECOND;
                self.event(later, pid, format_args!("{id} Unfrozen by errmsg timer"));
                self.completed(later + SECOND, pid, message);
            }
            1 => {
                self.event(at + 60 * SECOND, pid, format_args!("{id} removed by root"));
                self.completed(at + 60 * SECOND, pid, message);
            }
            _ => self.leave(&Turn::Stays, message),
        }
    }

    /// A frozen message: thawed, removed, timed out, or it stays.
    fn frozen(&mut self, at: u64, message: &mut Message) -> Turn {
        let id = message.id;
        let pid = self.pid();
        let mut later = at + self.rng.u64(60..7200) * SECOND;
        for _ in 0..self.rng.u32(0..3) {
            self.event(later, pid, format_args!("{id} Message is frozen"));
            later += 900 * SECOND;
        }
        match self.rng.u32(0..10) {
            0..5 => {
                let by = [
                    "unfrozen by root",
                    "Unfrozen by forced delivery",
                    "Unfrozen by auto-thaw",
                    "unfrozen by Debian-exim",
                ];
                let by = by[self.rng.usize(0..by.len())];
                self.event(later, pid, format_args!("{id} {by}"));
                message.frozen = false;
                Turn::On(later + 5 * SECOND)
            }
            5..7 => {
                self.event(later, pid, format_args!("{id} removed by web2"));
                message.close(State::Deleted);
                self.end(later, pid, id);
                Turn::Over
            }
            7..9 => {
                self.event(later, pid, format_args!("{id} cancelled by timeout_frozen_after"));
                message.close(State::Deleted);
                if message.owner != BOUNCE {
                    self.bounce(later, message);
                }
                self.end(later + SECOND, pid, id);
                Turn::Over
            }
            _ => Turn::Stays,
        }
    }

    fn end(&mut self, at: u64, pid: u32, id: text::Id) {
        let time = if self.mix.selectors == Selectors::All { " QT=31s" } else { "" };
        self.line(at, pid, Class::Event, format_args!("{id} Completed{time}"));
        self.completed += 1;
        self.ends.push(Reverse(at));
    }

    /// The end of a message. What is open then, the log has lost.
    pub(super) fn completed(&mut self, at: u64, pid: u32, mut message: Message) {
        self.end(at, pid, message.id);
        message.close(message.silent(self.mix.selectors));
        message.book(self.mix.selectors, &mut self.owners[message.owner]);
    }

    fn leave(&mut self, turn: &Turn, mut message: Message) {
        if matches!(turn, Turn::Stays) {
            self.ends.push(Reverse(u64::MAX));
        }
        message.book(self.mix.selectors, &mut self.owners[message.owner]);
    }
}
