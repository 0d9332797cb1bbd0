//! From the first activation of a queue id to its end: attempts, retries, hops, forwards, requeues, notifications.

use std::cmp::Reverse;

use super::super::script::Class;
use super::{BOUNCE, Id, SECOND, Server, Stay};

impl Server<'_> {
    /// From the first activation to the end of one queue id. Recipients are already booked.
    pub(super) fn stay(&mut self, start: u64, stay: Stay) {
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
        // An id that comes again although no line ended it (on a real server: same inode, same microsecond): whose it is
        // can only be known when the notification is announced before the queue manager's line.
        let soon = self.rng.bool() || self.broken_off.contains(&id);
        let line = at + if soon { 500 } else { 4_000 };
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
}

fn sender_of_dsn(base: u32) -> String {
    format!("web{}@mx.hosting.test", base % 5000)
}
