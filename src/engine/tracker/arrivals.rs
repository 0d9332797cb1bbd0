//! How messages come to be: arrival, header, activation, hold, and the decision whose recipients a leg carries.

use super::leg::{Came, Class, Ended, Leg, Login, Seen, Traits};
use super::table::{Key, Slot};
use super::{Cx, GRACE_SECS, Tracker, books, cut, kept};
use crate::engine::Sink;
use crate::engine::attribution::{Arrival, Attributed};
use crate::mail::address;
use crate::mail::{Accepted, AddressList, Basis, Head, Holder, Origin, Owner, QueueId, Submitter, Time, Unattributed};
use core::net::IpAddr;

impl Tracker {
    pub(super) fn submitted<S: Sink>(
        &mut self,
        head: &Head<'_>,
        id: QueueId,
        uid: u32,
        sender: &[u8],
        requeued_from: Option<QueueId>,
        cx: &mut Cx<'_, S>,
    ) {
        let slot = self.arrive(head, id, Came::Uid(uid), cx);
        self.note_sender(slot, sender);
        if let Some(leg) = self.table.edit(slot) {
            leg.traits.set(Traits::NO_SENDER, sender.is_empty());
        }
        self.claim_of_submission(head, slot, id);
        self.scripts.user_submitted(uid, head.at);
        if let Some(old) = requeued_from {
            self.come_back(slot, old, cx);
        }
    }

    /// Accepted, with everything in one line.
    pub(super) fn accepted<S: Sink>(&mut self, head: &Head<'_>, accepted: &Accepted<'_>, cx: &mut Cx<'_, S>) {
        let (came, client) = match accepted.by {
            Submitter::User(login) => (Came::User(kept(login), cx.attribution.uid_of(login)), &[][..]),
            Submitter::Login { login, client, address } => {
                let from = if address.is_empty() { client } else { address };
                (Came::Login(Login::new(cut(login), client_hash(from))), from)
            }
            Submitter::Smtp { client, address } => {
                (Came::Smtp(read_address(address)), if address.is_empty() { client } else { address })
            }
            Submitter::Internal => (Came::Internal, &[][..]),
        };
        // Tried while it was being accepted: what came of that is known already.
        let early = |leg: &Leg| leg.class == Class::Unborn && matches!(leg.came, Came::Unseen) && !leg.notification;
        let slot = match self.locate(head, accepted.id) {
            Ok(slot) if self.table.get(slot).is_some_and(early) => {
                self.table.set_deadline(slot, Time::ZERO);
                slot
            }
            _ => self.arrive(head, accepted.id, Came::Unseen, cx),
        };
        let host = self.places.host(head.host);
        let message = if accepted.mark.is_empty() { 0 } else { self.table.hash_text(host, accepted.mark, b"") };
        self.table.set_message(slot, message);
        let several = accepted.recipients.map_or_else(Vec::new, |list| self.distinct(list));
        let most = self.settings.max_recipients;
        let Some(leg) = self.table.edit(slot) else { return };
        leg.notification = matches!(came, Came::Internal);
        leg.traits.set(Traits::NO_SENDER, accepted.sender.is_empty());
        (leg.came, leg.last, leg.size) = (came, head.at, accepted.size);
        leg.expected = leg.expected.max(several.len().max(1) as u32);
        for recipient in several {
            // What was handed on while it was accepted has come to something already.
            if leg.seen.get(recipient).is_none() {
                leg.seen.set(recipient, Seen::Accepted, most);
            }
        }
        if let Some(details) = leg.details.as_deref_mut() {
            details.message_id = kept(accepted.message_id);
            details.client = kept(client);
            for recipient in accepted.recipients.iter().flat_map(|list| list.iter()) {
                details.accepted(recipient, head.at);
            }
        }
        match accepted.by {
            Submitter::User(login) => {
                self.claim_of_submission(head, slot, accepted.id);
                if let Some(uid) = cx.attribution.uid_of(login) {
                    self.scripts.user_submitted(uid, head.at);
                }
            }
            // What the server submits to itself is no script's, whatever its own access rules say of it.
            Submitter::Internal => {}
            Submitter::Login { .. } | Submitter::Smtp { .. } => self.claim_by_id(head, slot, accepted.id),
        }
        self.note_sender(slot, accepted.sender);
        self.be_born(slot, accepted.sender, cx);
        let Some(leg) = self.table.edit(slot) else { return };
        if leg.class != Class::Own {
            return;
        }
        leg.parent = accepted.notice_of;
        books::book(leg, leg.expected.saturating_sub(leg.booked), cx);
        books::recipients(leg, cx);
        self.use_spares(slot, cx);
        self.accepted_on_hold(slot, head.at, cx);
    }

    /// The recipients of a list of several, each once: the server delivers to none twice.
    fn distinct(&self, list: AddressList<'_>) -> Vec<u64> {
        if list.iter().nth(1).is_none() {
            return Vec::new();
        }
        let hash = |address| {
            let (local, domain) = address::split(address);
            self.table.hash_address(local, domain)
        };
        let mut hashes: Vec<u64> = list.iter().map(hash).collect();
        hashes.sort_unstable();
        hashes.dedup();
        hashes
    }

    #[allow(clippy::too_many_arguments, reason = "the fields of one log line")]
    pub(super) fn received<S: Sink>(
        &mut self,
        head: &Head<'_>,
        id: QueueId,
        client: &[u8],
        address: &[u8],
        login: Option<&[u8]>,
        hop_of: Option<QueueId>,
        cx: &mut Cx<'_, S>,
    ) {
        let came = match login {
            Some(login) => {
                Came::Login(Login::new(cut(login), client_hash(if address.is_empty() { client } else { address })))
            }
            None => Came::Smtp(read_address(address)),
        };
        let slot = self.arrive(head, id, came, cx);
        let hold = self.sweeps.take_hold(self.places.host(head.host), head.pid, head.at);
        if let Some(leg) = self.table.edit(slot) {
            leg.hold_pending = hold;
            leg.parent = hop_of.filter(|_| login.is_none());
            if let Some(details) = leg.details.as_deref_mut() {
                details.client = if address.is_empty() { kept(client) } else { kept(address) };
            }
        }
        self.claim_by_id(head, slot, id);
    }

    /// A new incarnation of an id begins. What was open under it has ended unseen.
    fn arrive<S: Sink>(&mut self, head: &Head<'_>, id: QueueId, came: Came, cx: &mut Cx<'_, S>) -> Slot {
        let host = self.places.host(head.host);
        let instance = self.places.instance(head);
        let key = Key { host, instance, id };
        if let Some(old) = self.table.find(key) {
            self.displace(old, cx);
        }
        let mut leg = self.leg(key, head.at);
        leg.came = came;
        self.insert(leg, cx)
    }

    fn displace<S: Sink>(&mut self, old: Slot, cx: &mut Cx<'_, S>) {
        if self.table.get(old).is_some_and(|leg| leg.class != Class::Unborn) {
            self.evictions.reused += 1;
        }
        self.lose(old, cx);
    }

    pub(super) fn identified<S: Sink>(&mut self, head: &Head<'_>, id: QueueId, message_id: &[u8], cx: &mut Cx<'_, S>) {
        let slot = match self.locate(head, id) {
            // The id of a message in full life comes with a new header: another message, whose arrival had no line.
            Ok(old) if self.table.get(old).is_some_and(|leg| leg.message != 0 && leg.expected > 0) => {
                self.displace(old, cx);
                self.identified_first(head, id, cx)
            }
            Ok(slot) => slot,
            Err(_) => self.identified_first(head, id, cx),
        };
        let host = self.places.host(head.host);
        let hash = if message_id.is_empty() { 0 } else { self.table.hash_text(host, message_id, b"") };
        let Some(leg) = self.table.edit(slot) else { return };
        leg.last = head.at;
        match leg.came {
            Came::Unseen if leg.class == Class::Unborn => leg.came = Came::Internal,
            Came::Named => leg.came = Came::Unseen,
            _ => {}
        }
        if leg.message == 0 {
            if let Some(details) = leg.details.as_deref_mut() {
                details.message_id = kept(message_id);
            }
            self.table.set_message(slot, hash);
        }
        // Held by a policy at RCPT TO: no further line will say that it was accepted.
        if self.table.get(slot).is_some_and(|leg| leg.hold_pending && leg.class == Class::Unborn) {
            self.be_held(slot, &[], cx);
        }
    }

    fn identified_first<S: Sink>(&mut self, head: &Head<'_>, id: QueueId, cx: &mut Cx<'_, S>) -> Slot {
        // `locate` again: an arrival logged under a service's own name may wait for its queue.
        match self.locate(head, id) {
            Ok(slot) => slot,
            Err(key) => {
                let mut leg = self.leg(key, head.at);
                leg.came = Came::Internal;
                self.insert(leg, cx)
            }
        }
    }

    pub(super) fn activated<S: Sink>(
        &mut self,
        head: &Head<'_>,
        id: QueueId,
        sender: &[u8],
        size: u64,
        recipients: u32,
        cx: &mut Cx<'_, S>,
    ) {
        let slot = self.locate_or_join(head, id, cx);
        self.note_sender(slot, sender);
        let high = self.high();
        let Some(leg) = self.table.edit(slot) else { return };
        leg.last = head.at;
        leg.size = size;
        leg.traits.set(Traits::NO_SENDER, sender.is_empty());
        if leg.is_blind() {
            self.blind_until = high.plus_secs(GRACE_SECS);
        }
        books::hold(leg, false, cx);
        if leg.class == Class::Unborn {
            self.be_born(slot, sender, cx);
        }
        let Some(leg) = self.table.edit(slot) else { return };
        match leg.class {
            Class::Own if leg.is_mid_stream() => {}
            Class::Own => {
                // The number is the whole message's, also on a retry (measured: it does not shrink as recipients end).
                // More than is booked is later knowledge, and only adds.
                let missing = recipients.saturating_sub(leg.booked);
                books::book(leg, missing, cx);
                // The gate has counted addresses, before the server's aliases made one of two.
                let fewer = leg.answered && recipients < leg.booked;
                leg.expected = if fewer { recipients } else { leg.expected.max(leg.booked) };
            }
            Class::Child | Class::Waiting | Class::Unborn => leg.expected = leg.expected.max(recipients),
        }
    }

    /// The message is accepted: decide whose recipients these are.
    pub(super) fn be_born<S: Sink>(&mut self, slot: Slot, sender: &[u8], cx: &mut Cx<'_, S>) {
        let at = self.high();
        let Some(leg) = self.table.get(slot) else { return };
        if leg.probe {
            return;
        }
        let local = match &leg.came {
            Came::Smtp(Some(address)) => cx.attribution.is_local(*address),
            _ => false,
        };
        let parent = leg.parent.filter(|_| local).and_then(|id| self.find_parent(slot, id));
        // A message whose header was before the log may be the one that it continues.
        let maybe_hop = local && (at <= self.blind_until || self.table.same_message(slot).next().is_some());
        let Some(leg) = self.table.edit(slot) else { return };
        let attributed = match &leg.came {
            Came::Login(login) => cx.attribution.attribute(Arrival::Login(login.name()), sender, cx.at),
            Came::Uid(uid) => cx.attribution.attribute(Arrival::Uid(*uid), sender, cx.at),
            Came::User(login, uid) => cx.attribution.attribute(Arrival::User(login, *uid), sender, cx.at),
            Came::Smtp(address) => {
                let found = cx.attribution.attribute(Arrival::Smtp(*address), sender, cx.at);
                let here = found.origin == Origin::LocalSmtp;
                let proven = cx.proven.filter(|owner| here && *owner != found.owner);
                proven.map_or(found, |owner| Attributed { owner, basis: Basis::Uid, ..found })
            }
            Came::Internal if sender.is_empty() || leg.notification => {
                leg.notification = true;
                Attributed::nobody(Unattributed::Bounce, Origin::Internal)
            }
            Came::Internal | Came::Unseen | Came::Requeue | Came::Named => Attributed {
                owner: Owner::nobody(Unattributed::OpenedBeforeLog),
                origin: Origin::Internal,
                basis: Basis::None,
            },
        };
        (leg.owner, leg.origin, leg.basis) = (attributed.owner, attributed.origin, attributed.basis);
        if let Some((serial, owner, origin, basis)) = parent {
            leg.class = Class::Child;
            leg.claimed_by = serial;
            (leg.owner, leg.origin, leg.basis) = (owner, origin, basis);
            self.table.set_deadline(slot, at.plus_secs(GRACE_SECS));
            if let Some(parent) = self.claimer(slot) {
                self.inherit_claim(parent, slot);
            }
            return;
        }
        leg.parent = None;
        let wait = maybe_hop || (matches!(leg.came, Came::Internal) && !leg.notification);
        if wait {
            leg.class = Class::Waiting;
            self.table.set_deadline(slot, at.plus_secs(GRACE_SECS));
            return;
        }
        leg.class = Class::Own;
        if leg.is_mid_stream() {
            return;
        }
        books::message(leg, cx);
        books::script(leg, cx);
    }

    pub(super) fn held<S: Sink>(
        &mut self,
        head: &Head<'_>,
        id: QueueId,
        by: Holder,
        sender: &[u8],
        cx: &mut Cx<'_, S>,
    ) {
        if by == Holder::Admin {
            self.sweeps.one(head, crate::mail::Sweep::Held);
        }
        let slot = self.locate_or_join(head, id, cx);
        self.note_sender(slot, sender);
        if let Some(leg) = self.table.edit(slot) {
            leg.last = head.at;
        }
        self.be_held(slot, sender, cx);
    }

    pub(super) fn be_held<S: Sink>(&mut self, slot: Slot, sender: &[u8], cx: &mut Cx<'_, S>) {
        if self.table.get(slot).is_some_and(|leg| leg.class == Class::Unborn) {
            self.be_born(slot, sender, cx);
        }
        let Some(leg) = self.table.edit(slot) else { return };
        // Until the number of recipients is known, one is booked.
        if leg.class == Class::Own && leg.booked == 0 && !leg.is_mid_stream() {
            books::book(leg, 1, cx);
        }
        leg.expected = leg.expected.max(1);
        leg.hold_pending = false;
        books::hold(leg, true, cx);
    }

    pub(super) fn hold_next(&mut self, head: &Head<'_>) {
        let host = self.places.host(head.host);
        self.sweeps.hold_next(host, head.pid, head.at);
    }

    pub(super) fn released<S: Sink>(&mut self, head: &Head<'_>, id: QueueId, cx: &mut Cx<'_, S>) {
        self.sweeps.one(head, crate::mail::Sweep::Released);
        if let Ok(slot) = self.locate(head, id)
            && let Some(leg) = self.table.edit(slot)
        {
            leg.last = head.at;
            books::hold(leg, false, cx);
        }
    }

    /// An administrator requeued the message: the id ends, its recipients come back under a new one.
    pub(super) fn requeued<S: Sink>(&mut self, head: &Head<'_>, id: QueueId, cx: &mut Cx<'_, S>) {
        self.sweeps.one(head, crate::mail::Sweep::Requeued);
        let Ok(slot) = self.locate(head, id) else { return };
        self.linger_requeued(slot, cx);
    }

    pub(super) fn linger_requeued<S: Sink>(&mut self, slot: Slot, cx: &mut Cx<'_, S>) {
        let Some(leg) = self.table.edit(slot) else { return };
        books::hold(leg, false, cx);
        if leg.class == Class::Unborn {
            self.close(slot, Ended::Requeued, cx);
            return;
        }
        self.linger(slot, Ended::Requeued, super::REQUEUE_SECS, cx);
    }

    fn note_sender(&mut self, slot: Slot, sender: &[u8]) {
        if sender.is_empty() {
            return;
        }
        // The queue manager's form is the rewritten one: later knowledge replaces earlier.
        if let Some(details) = self.table.edit(slot).and_then(|leg| leg.details.as_deref_mut())
            && *details.sender != *sender
        {
            details.sender = kept(sender);
        }
    }
}

/// What tells clients apart, in few bytes; never 0 for one that there is.
fn client_hash(client: &[u8]) -> u32 {
    if client.is_empty() { 0 } else { (crate::engine::rules::identity(client) as u32).max(1) }
}

/// An address of a log line: plain IPv4 or IPv6, perhaps with the `IPv6:` prefix.
pub(super) fn read_address(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?;
    let address: IpAddr = text.strip_prefix("IPv6:").unwrap_or(text).parse().ok()?;
    Some(address.to_canonical())
}
