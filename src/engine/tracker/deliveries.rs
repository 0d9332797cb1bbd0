//! What becomes of recipients: delivery attempts, expiry, and the end of a queue id.

use super::books::{self, Settling};
use super::leg::{Came, Class, Details, Ended, Seen, Traits};
use super::table::Slot;
use super::{Cx, Ending, MAX_TEXT, Tracker, cut, push_tight, state_of};
use crate::engine::Sink;
use crate::engine::replies::Judgement;
use crate::engine::rules::What;
use crate::mail::address;
use crate::mail::{
    Attempt, Dsn, End, ErrorFact, Fact, Head, Outcome, QueueId, RecipientState, RecipientTrace, ScriptClaim, Status,
    Sweep, Time, TraceTexts,
};

impl Tracker {
    /// An attempt made before the message was accepted: remembered until it is, and dropped when it never is.
    pub(super) fn early<S: Sink>(&mut self, head: &Head<'_>, attempt: &Attempt<'_>, cx: &mut Cx<'_, S>) {
        let slot = match self.locate(head, attempt.id) {
            Ok(slot) => slot,
            Err(key) => {
                let leg = self.leg(key, head.at);
                let slot = self.insert(leg, cx);
                let deadline = self.high().plus_secs(super::GRACE_SECS);
                self.table.set_deadline(slot, deadline);
                slot
            }
        };
        self.attempted(slot, head, attempt, cx);
    }

    pub(super) fn attempt<S: Sink>(&mut self, head: &Head<'_>, attempt: &Attempt<'_>, cx: &mut Cx<'_, S>) {
        let slot = self.locate_or_join(head, attempt.id, cx);
        if attempt.status != Status::Probe && self.table.get(slot).is_some_and(|l| l.class == Class::Unborn && !l.probe)
        {
            self.be_born(slot, &[], cx);
        }
        self.attempted(slot, head, attempt, cx);
    }

    fn attempted<S: Sink>(&mut self, slot: Slot, head: &Head<'_>, attempt: &Attempt<'_>, cx: &mut Cx<'_, S>) {
        if attempt.status == Status::Probe {
            self.mark_probe(slot, cx);
            return;
        }
        if self.table.get(slot).is_some_and(|leg| leg.probe) {
            return;
        }
        let wanted = S::WANTS_CLASSES || cx.rules.wants_classes();
        let failed = matches!(attempt.status, Status::Deferred | Status::Bounced | Status::Expired) && wanted;
        let judged = failed.then(|| cx.replies.judge(attempt.dsn, attempt.reply));
        cx.emit(Fact::Attempt {
            at: head.at,
            server: head.server,
            status: attempt.status,
            local: attempt.local,
            dsn: attempt.dsn,
            code: judged.map_or(250, |judged| judged.code),
            class: judged.map(|judged| judged.class),
            own_address: judged.and_then(|judged| judged.own_address),
            delay_ms: attempt.delay_ms,
        });
        self.claim_of_call(slot, attempt, cx.attribution);
        let most = self.settings.max_recipients;
        let (recipient, accepted) = self.names(attempt);
        if let Some(leg) = self.table.edit(slot) {
            leg.last = head.at;
            if let Some(accepted) = accepted {
                leg.expands |= recipient != accepted && !is_sink(attempt);
                books::place(leg, recipient, accepted, most, cx);
            }
            if leg.class == Class::Own && leg.seen.get(recipient).is_none() {
                books::recipient(leg, recipient, cx);
            }
            // An interpreter's log may tell of it later than the mail log.
            if leg.class == Class::Own && !leg.is_mid_stream() {
                books::script(leg, cx);
            }
            let first = !leg.traits.has(Traits::TRIED);
            leg.traits.set(Traits::TRIED, true);
            if first && leg.class == Class::Own && cx.rules.paces() {
                cx.count(leg, What::Left(leg.booked.max(1)));
                self.left.push(leg.id);
            }
        }
        match attempt.status {
            Status::Sent => {
                if let Some(next) = attempt.next
                    && self.hand_on(slot, recipient, attempt, next, cx)
                {
                    self.trace(slot, attempt, head.at, RecipientState::Handed);
                    return;
                }
                self.finish_recipient(slot, recipient, attempt, None, head.at, cx);
            }
            Status::Bounced | Status::Expired | Status::Dropped => {
                self.finish_recipient(slot, recipient, attempt, judged, head.at, cx);
            }
            Status::Deferred | Status::Waiting => {
                let Some(leg) = self.table.edit(slot) else { return };
                let first = !matches!(leg.seen.get(recipient), Some(Seen::Deferred | Seen::Handed | Seen::Ended(_)));
                if first {
                    leg.seen.set(recipient, Seen::Deferred, most);
                    books::book_seen(leg, cx);
                }
                if attempt.status == Status::Waiting {
                    if first {
                        self.trace(slot, attempt, head.at, RecipientState::Deferred);
                    }
                    return;
                }
                if leg.class == Class::Own || (leg.class == Class::Child && leg.booked > 0) {
                    cx.emit(Fact::Deferral { at: head.at, server: leg.server, owner: leg.owner });
                } else {
                    leg.spare_deferrals += 1;
                }
                let own_fault = judged.is_some_and(|judged| judged.own_address.is_some());
                let due = judged.is_some_and(|judged| cx.is_due(leg, attempt, judged, first));
                let excused = attempt.local || own_fault || due;
                if let Some(judged) = judged.filter(|_| !excused)
                    && matches!(leg.class, Class::Own | Class::Child)
                {
                    cx.count(leg, What::Refused(judged.class));
                }
                self.trace(slot, attempt, head.at, RecipientState::Deferred);
            }
            Status::Probe => {}
        }
    }

    fn finish_recipient<S: Sink>(
        &mut self,
        slot: Slot,
        recipient: u64,
        attempt: &Attempt<'_>,
        judged: Option<Judgement>,
        at: Time,
        cx: &mut Cx<'_, S>,
    ) {
        let outcome = match attempt.status {
            Status::Sent => Outcome::Sent,
            Status::Expired => Outcome::Expired,
            Status::Dropped => Outcome::Deleted,
            _ => Outcome::Bounced,
        };
        let most = self.settings.max_recipients;
        let Some(leg) = self.table.edit(slot) else { return };
        let own_fault = judged.is_some_and(|judged| judged.own_address.is_some());
        let first =
            outcome == Outcome::Bounced && !matches!(leg.seen.get(recipient), Some(Seen::Ended(_) | Seen::Handed));
        let due = judged.is_some_and(|judged| cx.is_due(leg, attempt, judged, first));
        cx.ending = Ending { passed_over: attempt.local || own_fault || due, class: judged.map(|judged| judged.class) };
        let settled = books::settle(leg, recipient, outcome, most, cx);
        let ending = std::mem::take(&mut cx.ending);
        let late = match settled {
            Settling::Counted => false,
            Settling::Again(Seen::Ended(Outcome::Sent)) if outcome == Outcome::Bounced => true,
            Settling::Again(_) => return,
        };
        if late
            && !ending.passed_over
            && let Some(class) = ending.class
        {
            cx.count(leg, if leg.traits.has(Traits::NO_SENDER) { What::Refused(class) } else { What::Late(class) });
        }
        if matches!(outcome, Outcome::Bounced | Outcome::Expired) && (S::WANTS_CLASSES || late) {
            let sender: Box<[u8]> = leg.details.as_deref().map_or(Box::default(), |details| details.sender.clone());
            let judged = judged.unwrap_or_else(|| cx.replies.judge(attempt.dsn, attempt.reply));
            let (owner, id) = (leg.owner, leg.id);
            let script = leg.details.as_deref().and_then(|details| details.script());
            cx.emit(Fact::Error(ErrorFact {
                at,
                owner,
                outcome,
                late,
                id,
                sender: &sender,
                recipient: attempt.recipient,
                relay: attempt.relay,
                dsn: attempt.dsn,
                class: judged.class,
                own_address: judged.own_address,
                reply: attempt.reply.get(..MAX_TEXT).unwrap_or(attempt.reply),
                script,
            }));
        }
        self.trace(slot, attempt, at, state_of(outcome));
    }

    /// What names the recipient of an attempt among those of its message, and, where aliases are expanded late, what
    /// names the accepted recipient that it comes from. A local delivery may name no domain: then it is that one's.
    fn names(&self, attempt: &Attempt<'_>) -> (u64, Option<u64>) {
        if attempt.accepted_as.is_empty() {
            return (self.table.hash_text(0, attempt.recipient, attempt.original), None);
        }
        let (local, domain) = address::split(attempt.accepted_as);
        let accepted = self.table.hash_address(local, domain);
        let recipient = match address::split(attempt.recipient) {
            _ if is_sink(attempt) => self.table.hash_text(0, attempt.recipient, attempt.accepted_as),
            (name, b"") => self.table.hash_address(name, domain),
            (local, domain) => self.table.hash_address(local, domain),
        };
        (recipient, Some(accepted))
    }

    /// The message got too old: one error for every recipient that is still open.
    pub(super) fn expired<S: Sink>(&mut self, head: &Head<'_>, id: QueueId, cx: &mut Cx<'_, S>) {
        let slot = self.locate_or_join(head, id, cx);
        let most = self.settings.max_recipients;
        let Some(leg) = self.table.edit(slot) else { return };
        leg.last = head.at;
        books::expire(leg, cx);
        let open: Vec<u64> =
            leg.seen.iter().filter(|(_, seen)| *seen == Seen::Deferred).map(|(recipient, _)| recipient).collect();
        for recipient in open {
            leg.seen.set(recipient, Seen::Ended(Outcome::Expired), most);
        }
        let Some(details) = leg.details.as_deref_mut() else { return };
        let (owner, id) = (leg.owner, leg.id);
        let Details { sender, script, recipients, .. } = details;
        let script = script.as_deref().and_then(ScriptClaim::told);
        for trace in recipients.iter_mut().filter(|trace| trace.state == RecipientState::Deferred) {
            trace.state = RecipientState::Ended(Outcome::Expired);
            trace.last = head.at;
            let judged = cx.replies.judge(trace.dsn, trace.texts.reply());
            let error = ErrorFact {
                at: head.at,
                owner,
                outcome: Outcome::Expired,
                late: false,
                id,
                sender,
                recipient: trace.texts.address(),
                relay: trace.texts.relay(),
                dsn: trace.dsn,
                class: judged.class,
                own_address: judged.own_address,
                reply: trace.texts.reply(),
                script,
            };
            cx.emit(Fact::Error(error));
        }
    }

    /// An administrator added a recipient.
    pub(super) fn added<S: Sink>(&mut self, head: &Head<'_>, id: QueueId, cx: &mut Cx<'_, S>) {
        let slot = self.locate_or_join(head, id, cx);
        let Some(leg) = self.table.edit(slot) else { return };
        leg.last = head.at;
        leg.expected = leg.expected.saturating_add(1);
        if leg.class == Class::Own {
            books::book(leg, leg.expected.saturating_sub(leg.booked), cx);
        }
    }

    pub(super) fn given_up<S: Sink>(&mut self, head: &Head<'_>, id: QueueId, cx: &mut Cx<'_, S>) {
        let slot = self.locate_or_join(head, id, cx);
        if let Some(leg) = self.table.edit(slot) {
            (leg.last, leg.given_up) = (head.at, true);
        }
    }

    pub(super) fn ended<S: Sink>(&mut self, head: &Head<'_>, id: QueueId, end: End, cx: &mut Cx<'_, S>) {
        if end == End::Deleted {
            self.sweeps.one(head, Sweep::Deleted);
        }
        let Ok(slot) = self.locate(head, id) else { return };
        let ended = match end {
            End::Done if self.table.get(slot).is_some_and(|leg| leg.given_up && !leg.is_complete()) => Ended::Deleted,
            End::Done => Ended::Removed,
            End::Deleted => Ended::Deleted,
            End::Cancelled => Ended::Cancelled,
            End::Discarded => Ended::Discarded,
            End::Rejected => Ended::Rejected,
        };
        if let Some(leg) = self.table.edit(slot) {
            leg.last = head.at;
        }
        self.end_leg(slot, ended, cx);
    }

    /// The id is out of the queue: closed at once, or kept while it may still belong to another message.
    pub(super) fn end_leg<S: Sink>(&mut self, slot: Slot, ended: Ended, cx: &mut Cx<'_, S>) {
        let Some(leg) = self.table.edit(slot) else { return };
        if leg.class == Class::Unborn || leg.probe {
            books::end(leg, ended, cx);
            self.close(slot, ended, cx);
            return;
        }
        if matches!(leg.came, Came::Named) && ended != Ended::Deleted {
            return self.resolve(slot, cx);
        }
        books::end(leg, ended, cx);
        let wait = match leg.class {
            Class::Waiting => true,
            Class::Child => !leg.is_complete(),
            // The line that hands it these recipients may still come.
            Class::Own => leg.is_blind(),
            Class::Unborn => false,
        };
        if wait {
            self.linger(slot, ended, super::GRACE_SECS, cx);
        } else {
            self.close(slot, ended, cx);
        }
    }

    fn mark_probe<S: Sink>(&mut self, slot: Slot, cx: &mut Cx<'_, S>) {
        let Some(leg) = self.table.edit(slot) else { return };
        match leg.class {
            Class::Unborn | Class::Waiting => leg.probe = true,
            Class::Own if leg.booked == 0 => leg.probe = true,
            // Counted before it showed to be a probe: its recipients end with it.
            Class::Own | Class::Child => books::end(leg, Ended::Lost, cx),
        }
    }

    /// Keeps what the index and the error report will want to know of this attempt.
    fn trace(&mut self, slot: Slot, attempt: &Attempt<'_>, at: Time, state: RecipientState) {
        let Some(details) = self.table.edit(slot).and_then(|leg| leg.details.as_deref_mut()) else { return };
        let next = match (state, attempt.next) {
            (RecipientState::Handed, Some(crate::mail::Next::QueuedAs(id) | crate::mail::Next::ForwardedAs(id))) => {
                Some(Box::new(id))
            }
            _ => None,
        };
        // A server that named the recipients before says of a local one only the local part; and nobody is none.
        let (address, most) = match (attempt.accepted_as, attempt.recipient) {
            ([], recipient) => (recipient, NEAR),
            (accepted, recipient) if address::split(accepted).0 == recipient => (accepted, MAX_TRACES),
            (accepted, [b':', ..]) => (accepted, MAX_TRACES),
            _ => (attempt.recipient, MAX_TRACES),
        };
        if !attempt.accepted_as.is_empty() && attempt.accepted_as != address {
            details.expanded(attempt.accepted_as, at);
        }
        if let Some(trace) = details.recipients.iter_mut().rev().take(most).find(|t| same(t.texts.address(), address)) {
            if trace.attempts == 0 || trace.texts.reply() != attempt.reply {
                trace.texts = TraceTexts::new(trace.texts.address(), cut(attempt.relay), cut(attempt.reply));
            }
            trace.attempts += 1;
            trace.last = at;
            (trace.state, trace.dsn, trace.next) = (state, attempt.dsn, next);
            return;
        }
        let trace = RecipientTrace {
            texts: TraceTexts::new(cut(address), cut(attempt.relay), cut(attempt.reply)),
            dsn: attempt.dsn,
            state,
            attempts: 1,
            last: at,
            next,
        };
        details.push(trace);
    }
}

/// A command, a file or nothing: another one for each recipient that comes to it.
fn is_sink(attempt: &Attempt<'_>) -> bool {
    matches!(attempt.recipient, [b'|' | b'/' | b':', ..]) && attempt.recipient != attempt.accepted_as
}

impl Details {
    fn push(&mut self, trace: RecipientTrace) {
        if self.recipients.len() >= MAX_TRACES {
            self.cut = true;
            return;
        }
        push_tight(&mut self.recipients, trace);
    }

    /// The message was accepted for this recipient: known before anything is tried.
    pub(super) fn accepted(&mut self, address: &[u8], at: Time) {
        // Tried while it was being accepted, or given twice.
        if self.recipients.iter().rev().take(NEAR).any(|known| same(known.texts.address(), address)) {
            return;
        }
        self.push(RecipientTrace {
            texts: TraceTexts::new(cut(address), &[], &[]),
            dsn: Dsn::NONE,
            state: RecipientState::Queued,
            attempts: 0,
            last: at,
            next: None,
        });
    }

    /// Others have come of it.
    fn expanded(&mut self, address: &[u8], at: Time) {
        let waits = |trace: &&mut RecipientTrace| {
            matches!(trace.state, RecipientState::Queued | RecipientState::Deferred)
                && same(trace.texts.address(), address)
        };
        if let Some(trace) = self.recipients.iter_mut().find(waits) {
            (trace.state, trace.last) = (RecipientState::Expanded, at);
        }
    }

    /// Of whom nothing was said to the end.
    pub(super) fn finish(&mut self, state: RecipientState, at: Time) {
        for trace in self.recipients.iter_mut().filter(|trace| trace.state == RecipientState::Queued) {
            (trace.state, trace.last) = (state, at);
        }
    }
}

/// What is kept of a long address is compared.
fn same(kept: &[u8], address: &[u8]) -> bool {
    kept == cut(address)
}

/// Most recipients of one leg that are kept with their texts.
const MAX_TRACES: usize = 1_000;
/// Where each is new, the same one is looked for among so many: those of the last attempts.
const NEAR: usize = 64;
