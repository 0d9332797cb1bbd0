//! The only moves of the books: book, settle, hand over, hold. Each keeps
//! recipients = ended + queued for the leg's owner, after every single call.

use super::leg::{Came, Class, Ended, Leg, Seen, Traits};
use crate::engine::Sink;
use crate::engine::attribution::Attribution;
use crate::engine::ledger::Ledger;
use crate::engine::replies::{Judgement, Replies};
use crate::engine::rules::incidents::Failure;
use crate::engine::rules::{Mail, Rules, What};
use crate::mail::{Attempt, Fact, Outcome, Owner, QueueId, ReplyClass, Status, Time, address};

/// What a step of the tracker may use besides the legs.
pub struct Cx<'a, S> {
    /// Stamp of the line at hand.
    pub at: Time,
    /// Log time.
    pub now: Time,
    pub ledger: &'a mut Ledger,
    pub attribution: &'a mut Attribution,
    pub replies: &'a Replies,
    pub rules: &'a mut Rules,
    pub sink: &'a mut S,
    /// Whose the message is that the line at hand makes known, where the gate has proven it.
    pub proven: Option<Owner>,
    /// What is known of the end of recipients that the line at hand tells of.
    pub ending: Ending,
}

/// What matters to rules of how a recipient ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ending {
    /// It is nothing that rules should count: delivered on this host, or refused because of this host's own address, or due
    /// to a host incident.
    pub passed_over: bool,
    /// Of an error.
    pub class: Option<ReplyClass>,
}

impl<S: Sink> Cx<'_, S> {
    #[inline]
    pub fn emit(&mut self, fact: Fact<'_>) {
        self.ledger.apply(&fact);
        self.sink.fact(&fact);
    }

    /// Rules count what happens to a message.
    #[inline]
    pub fn count(&mut self, leg: &Leg, what: What) {
        if self.rules.is_empty() {
            return;
        }
        let Leg { owner, origin, basis, .. } = *leg;
        let mail = Mail { owner, origin, basis, login: login(leg), at: self.at, now: self.now };
        self.rules.count(&mail, what, self.attribution);
        if S::HEARS_VERDICTS && self.rules.has_verdicts() {
            for verdict in self.rules.take_verdicts() {
                let key = self.attribution.accounts.get(verdict.owner).map_or("", |known| &*known.key);
                self.sink.verdict(verdict, key);
            }
        }
    }

    /// A receiver has refused a recipient, or put it off: whether that counts against nobody. `first`: nothing of that was
    /// known before.
    pub fn is_due(&mut self, leg: &Leg, attempt: &Attempt<'_>, judged: Judgement, first: bool) -> bool {
        if attempt.local || self.rules.is_empty() {
            return false;
        }
        let Leg { owner, origin, basis, .. } = *leg;
        let mail = Mail { owner, origin, basis, login: login(leg), at: self.at, now: self.now };
        let failure = Failure {
            domain: address::domain(attempt.recipient),
            relay: attempt.relay,
            class: judged.class,
            own_address: judged.own_address,
            deferred: attempt.status == Status::Deferred || leg.traits.has(Traits::NO_SENDER),
            first,
        };
        self.rules.failed(&mail, &failure, self.ledger, self.attribution)
    }

    /// What of the account waits and is on hold has changed.
    fn count_levels(&mut self, leg: &Leg) {
        if self.rules.has_levels() {
            let counts = self.ledger.get(leg.owner).counts;
            self.count(leg, What::Held(counts.held));
            self.count(leg, What::Queued(counts.queued.saturating_sub(counts.held)));
        }
    }
}

fn login(leg: &Leg) -> &[u8] {
    match &leg.came {
        Came::Login(login) => login.name(),
        _ => b"",
    }
}

/// A message was accepted: once per message, whatever its queue ids.
pub fn message<S: Sink>(leg: &Leg, cx: &mut Cx<'_, S>) {
    let Leg { server, id, owner, origin, basis, .. } = leg;
    let (server, owner, origin, basis) = (*server, *owner, *origin, *basis);
    cx.emit(Fact::Message { at: cx.at, server, id, owner, origin, basis, login: login(leg) });
    cx.count(leg, if leg.traits.has(Traits::NO_SENDER) { What::Reply } else { What::Message });
    if let Came::Login(login) = &leg.came
        && login.client() != 0
    {
        cx.count(leg, What::Address(u64::from(login.client())));
    }
}

/// Which script made it is known now: rules count it, once.
pub fn script<S: Sink>(leg: &mut Leg, cx: &mut Cx<'_, S>) {
    if leg.traits.has(Traits::SCRIPTED) || !cx.rules.wants_scripts() {
        return;
    }
    if let Some(claim) = leg.details.as_deref().and_then(|details| details.script()) {
        let script = claim.identity();
        leg.traits.set(Traits::SCRIPTED, true);
        cx.count(leg, What::Script(script));
    }
}

/// Rules count one recipient, by hash.
pub fn recipient<S: Sink>(leg: &Leg, hash: u64, cx: &mut Cx<'_, S>) {
    cx.count(leg, if leg.traits.has(Traits::NO_SENDER) { What::ReplyTo(hash) } else { What::Recipient(hash) });
}

/// Rules count the recipients that lines have named so far.
pub fn recipients<S: Sink>(leg: &Leg, cx: &mut Cx<'_, S>) {
    if !cx.rules.is_empty() {
        for (recipient, _) in leg.seen.iter().filter(|(_, seen)| *seen != Seen::Expanded) {
            self::recipient(leg, recipient, cx);
        }
    }
}

/// Books `n` further recipients.
pub fn book<S: Sink>(leg: &mut Leg, n: u32, cx: &mut Cx<'_, S>) {
    if n == 0 {
        return;
    }
    leg.booked = leg.booked.saturating_add(n);
    cx.emit(Fact::Recipients { at: cx.at, owner: leg.owner, n });
    if leg.held {
        cx.emit(Fact::Hold { at: cx.at, owner: leg.owner, n: n as i32 });
    }
    cx.count(leg, What::Recipients(n));
    cx.count_levels(leg);
}

/// `n` booked recipients end; never more than are open.
pub fn close_out<S: Sink>(leg: &mut Leg, outcome: Outcome, n: u32, cx: &mut Cx<'_, S>) {
    let n = n.min(leg.open());
    if n == 0 {
        return;
    }
    if leg.held {
        cx.emit(Fact::Hold { at: cx.at, owner: leg.owner, n: -(n as i32) });
    }
    leg.done += n;
    cx.emit(Fact::Settled { at: cx.at, server: leg.server, owner: leg.owner, outcome, n });
    if cx.ending.passed_over {
        return;
    }
    if leg.traits.has(Traits::NO_SENDER) {
        return reply_ended(leg, outcome, n, cx);
    }
    match outcome {
        Outcome::Sent => cx.count(leg, What::Sent(n)),
        Outcome::Bounced | Outcome::Expired => cx.count(leg, What::Failed(cx.ending.class, n)),
        Outcome::Deleted | Outcome::Unaccounted => {}
    }
}

/// Automatic replies go where others let them: that they do not arrive is not the account's fault. What receivers call spam
/// is, all the same.
fn reply_ended<S: Sink>(leg: &Leg, outcome: Outcome, n: u32, cx: &mut Cx<'_, S>) {
    if let (Outcome::Bounced, Some(class)) = (outcome, cx.ending.class) {
        (0..n).for_each(|_| cx.count(leg, What::Refused(class)));
    }
}

/// `n` booked recipients leave this leg for another one; the books do not move.
pub fn give<S: Sink>(leg: &mut Leg, n: u32, cx: &mut Cx<'_, S>) -> u32 {
    let n = n.min(leg.open());
    if n > 0 && leg.held {
        cx.emit(Fact::Hold { at: cx.at, owner: leg.owner, n: -(n as i32) });
    }
    leg.done += n;
    n
}

/// `n` recipients given by another leg arrive; the books do not move.
pub fn take<S: Sink>(leg: &mut Leg, n: u32, cx: &mut Cx<'_, S>) {
    leg.booked = leg.booked.saturating_add(n);
    if n > 0 && leg.held {
        cx.emit(Fact::Hold { at: cx.at, owner: leg.owner, n: n as i32 });
    }
}

/// Deferred attempts that waited for their owner are counted.
pub fn use_deferrals<S: Sink>(leg: &mut Leg, cx: &mut Cx<'_, S>) {
    for _ in 0..std::mem::take(&mut leg.spare_deferrals) {
        cx.emit(Fact::Deferral { at: cx.at, server: leg.server, owner: leg.owner });
    }
}

/// Puts the leg on hold or takes it off.
pub fn hold<S: Sink>(leg: &mut Leg, held: bool, cx: &mut Cx<'_, S>) {
    if leg.held == held {
        return;
    }
    leg.held = held;
    let open = leg.open() as i32;
    if open > 0 {
        cx.emit(Fact::Hold { at: cx.at, owner: leg.owner, n: if held { open } else { -open } });
        cx.count_levels(leg);
    }
}

/// What a line about a recipient's end meant for the books.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settling {
    /// Counted now, or remembered until its recipient is booked.
    Counted,
    /// The same recipient had ended before.
    Again(Seen),
}

/// One recipient of the leg ended, for good. A recipient ends once: a second end is reported back, not counted.
/// An end beyond what is booked is later knowledge: on a message of its own it books the recipient.
pub fn settle<S: Sink>(leg: &mut Leg, recipient: u64, outcome: Outcome, most: usize, cx: &mut Cx<'_, S>) -> Settling {
    if let Some(before @ (Seen::Ended(_) | Seen::Handed)) = leg.seen.get(recipient) {
        return Settling::Again(before);
    }
    leg.seen.set(recipient, Seen::Ended(outcome), most);
    book_seen(leg, cx);
    if leg.open() == 0 {
        match leg.class {
            Class::Own => book(leg, 1, cx),
            Class::Child | Class::Waiting | Class::Unborn => {
                if let Some(spare) = leg.spare.get_mut(outcome.code() as usize) {
                    *spare += 1;
                }
                return Settling::Counted;
            }
        }
    }
    close_out(leg, outcome, 1, cx);
    Settling::Counted
}

/// Of a message joined in the middle of its life, every recipient that is seen is booked.
pub fn book_seen<S: Sink>(leg: &mut Leg, cx: &mut Cx<'_, S>) {
    if leg.class == Class::Own && leg.is_mid_stream() {
        book(leg, leg.seen.recipients().saturating_sub(leg.booked), cx);
    }
}

/// A line names a recipient of a message whose aliases are expanded after its recipients were counted. One that was
/// accepted itself is that one: the server delivers to none twice. Of the others the first that comes from a recipient as
/// it was accepted takes that one's place; each further one is a recipient more.
pub fn place<S: Sink>(leg: &mut Leg, recipient: u64, accepted: u64, most: usize, cx: &mut Cx<'_, S>) {
    let known = leg.seen.get(recipient);
    let named = matches!(known, Some(Seen::Accepted | Seen::Merged));
    if recipient != accepted && !matches!(known, None | Some(Seen::Expanded)) {
        // It has a place of its own: that of the accepted one stays free, also of one that was put off as a whole.
        let before = leg.seen.get(accepted);
        if matches!(before, Some(Seen::Accepted | Seen::Deferred)) {
            leg.seen.set(accepted, Seen::Merged, most);
            leg.placed = leg.placed.saturating_sub(u32::from(before == Some(Seen::Deferred)));
        }
    }
    if matches!(known, Some(Seen::Deferred | Seen::Handed | Seen::Ended(_))) || leg.seen.count() >= most && !named {
        return;
    }
    let further = if recipient == accepted {
        // A list that is a member of itself.
        known == Some(Seen::Expanded)
    } else if named {
        false
    } else {
        match leg.seen.get(accepted) {
            None | Some(Seen::Accepted | Seen::Merged) => {
                leg.seen.set(accepted, Seen::Expanded, most);
                false
            }
            // It was put off as a whole, before it was expanded.
            Some(Seen::Deferred) => return leg.seen.set(accepted, Seen::Expanded, most),
            Some(_) => true,
        }
    };
    leg.placed += 1;
    leg.expected = if further { leg.expected.saturating_add(1) } else { leg.expected.max(leg.placed) };
    if leg.class == Class::Own {
        book(leg, leg.expected.saturating_sub(leg.booked), cx);
    }
}

/// A recipient of a message joined in the middle of its life went on to a leg that books it itself.
pub fn pass_by(leg: &mut Leg) {
    leg.booked = leg.booked.saturating_add(1);
    leg.done = leg.done.saturating_add(1);
}

/// Uses up one outcome that waited for a booked recipient. Returns the id to hand on to, if that was the outcome:
/// the recipient is then still with this leg, for the caller to move.
pub fn use_spare<S: Sink>(leg: &mut Leg, cx: &mut Cx<'_, S>) -> Option<QueueId> {
    if leg.open() == 0 {
        return None;
    }
    for outcome in Outcome::ALL {
        if let Some(spare) = leg.spare.get_mut(outcome.code() as usize)
            && *spare > 0
        {
            *spare -= 1;
            close_out(leg, outcome, 1, cx);
            return None;
        }
    }
    leg.pop_spare_hand()
}

/// The leg leaves the queue: what is open ends with it; what is not booked yet is remembered to.
pub fn end<S: Sink>(leg: &mut Leg, ended: Ended, cx: &mut Cx<'_, S>) {
    let outcome = ended.outcome();
    // Those that were one with others for the server have come to what those came to.
    let one_with_others = if ended == Ended::Removed && !leg.is_complete() { one_with_others(leg) } else { 0 };
    let fate = if one_with_others > 0 { fate(leg).unwrap_or(outcome) } else { outcome };
    match leg.class {
        Class::Own => {
            close_out(leg, fate, one_with_others, cx);
            close_out(leg, outcome, leg.open(), cx);
        }
        Class::Child | Class::Waiting => {
            let here = one_with_others.min(leg.open());
            close_out(leg, fate, here, cx);
            close_out(leg, outcome, leg.open(), cx);
            let rest = leg.expected.saturating_sub(leg.booked.saturating_add(leg.spare_total()));
            let others = rest.min(one_with_others - here);
            for (outcome, n) in [(fate, others), (outcome, rest - others)] {
                if let Some(spare) = leg.spare.get_mut(outcome.code() as usize) {
                    *spare += n;
                }
            }
        }
        Class::Unborn => {}
    }
}

/// Recipients that no line speaks of because the server delivers to none twice: it has made one of several that the gate
/// was told of; or what came of an accepted one was accepted itself, or came of another one too. Where nothing came of
/// another, a line is missing.
pub(super) fn one_with_others(leg: &Leg) -> u32 {
    let by_gate = if leg.answered && leg.class == Class::Own { leg.booked.saturating_sub(leg.expected) } else { 0 };
    if !leg.expands {
        return by_gate;
    }
    by_gate + leg.seen.iter().filter(|(_, seen)| matches!(seen, Seen::Accepted | Seen::Merged)).count() as u32
}

/// What most is to be said of recipients that nobody names: they were delivered, if any was.
fn fate(leg: &Leg) -> Option<Outcome> {
    let ended = leg.seen.iter().filter_map(|(_, seen)| match seen {
        Seen::Ended(outcome) => Some(outcome),
        Seen::Handed => Some(Outcome::Sent),
        _ => None,
    });
    ended.min_by_key(|outcome| outcome.code())
}

/// Every recipient still open is given up.
pub fn expire<S: Sink>(leg: &mut Leg, cx: &mut Cx<'_, S>) {
    close_out(leg, Outcome::Expired, leg.open(), cx);
    if matches!(leg.class, Class::Child | Class::Waiting) {
        let rest = leg.expected.saturating_sub(leg.booked.saturating_add(leg.spare_total()));
        if let Some(spare) = leg.spare.get_mut(Outcome::Expired.code() as usize) {
            *spare += rest;
        }
    }
}
