//! A leg: the life of one message under one queue id.
//!
//! A message may have several legs (content filter hops, requeues, forwards). Each leg keeps its own open
//! recipients; recipients that go on under another id are handed over, and never counted again.

use crate::mail::{Basis, Origin, Outcome, Owner, QueueId, RecipientTrace, ScriptClaim, Server, Time, Unattributed};
use core::net::IpAddr;
use hashbrown::HashMap;

/// Whose recipients a leg carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Not counted: nothing says yet that the message was accepted.
    Unborn,
    /// May continue another message: nothing is booked until that is known or a grace period is over.
    Waiting,
    /// A message of its own.
    Own,
    /// Continues another message: its recipients are those handed over to it.
    Child,
}

/// How the message arrived under this id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Came {
    /// No arrival line was seen.
    Unseen,
    /// Only the header line was seen: made by the server itself, or its arrival was before the log began.
    Internal,
    Login(Login),
    Uid(u32),
    /// Submitted by a local user; the uid where the name service knew one.
    User(Box<[u8]>, Option<u32>),
    Smtp(Option<IpAddr>),
    /// Requeued by an administrator under a new id.
    Requeue,
    /// Not seen at all: only the leg that handed recipients to it has named it.
    Named,
}

/// A login and a hash of the address of its client, in one piece: hundreds of thousands are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login(Box<[u8]>);

impl Login {
    /// `client`: 0 where there is none.
    pub fn new(name: &[u8], client: u32) -> Login {
        Login([name, &client.to_le_bytes()].concat().into())
    }

    pub fn name(&self) -> &[u8] {
        self.0.split_last_chunk::<4>().map_or(&[], |(name, _)| name)
    }

    pub fn client(&self) -> u32 {
        self.0.split_last_chunk::<4>().map_or(0, |(_, client)| u32::from_le_bytes(*client))
    }
}

/// What one recipient has come to, by the hash of its address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    Deferred,
    Ended(Outcome),
    Handed,
    /// No recipient itself: it was accepted, and others came of it.
    Expanded,
    /// Named as the message was accepted, and by no line since.
    Accepted,
    /// The same, and all that came of it was accepted itself.
    Merged,
}

/// Texts that are only kept where an index or error report will want them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Details {
    pub message_id: Box<[u8]>,
    pub sender: Box<[u8]>,
    pub client: Box<[u8]>,
    pub recipients: Vec<RecipientTrace>,
    pub cut: bool,
    /// Rare: hundreds of thousands of legs have none.
    pub script: Option<Box<ScriptClaim>>,
    /// Two headers name different scripts: neither is believed.
    pub disputed: bool,
}

impl Details {
    /// As it is new, but for the memory of what will come again.
    pub fn renew(&mut self) {
        let mut recipients = std::mem::take(&mut self.recipients);
        recipients.clear();
        recipients.shrink_to(2);
        *self = Details { recipients, ..Details::default() };
    }

    #[inline]
    fn touch(&self) -> u64 {
        let first = |text: &[u8]| text.first().copied().map_or(0, u64::from);
        let told = self.recipients.last().map_or(0, |trace| first(trace.texts.address()) ^ u64::from(trace.attempts));
        told ^ first(&self.message_id) ^ first(&self.sender) ^ first(&self.client)
    }

    pub fn script(&self) -> Option<&ScriptClaim> {
        self.script.as_deref().and_then(ScriptClaim::told)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leg {
    pub host: u16,
    pub instance: u16,
    pub server: Server,
    pub id: QueueId,
    pub class: Class,
    pub came: Came,
    pub owner: Owner,
    pub origin: Origin,
    pub basis: Basis,
    /// Made by the server itself as a notification.
    pub notification: bool,
    /// An address probe: never mail.
    pub probe: bool,
    /// On hold now.
    pub held: bool,
    /// Given up as a whole: what is open at its end was deleted.
    pub given_up: bool,
    /// An accepted recipient has become another one, or several.
    pub expands: bool,
    /// A policy put it on hold before it had an id: held from the moment it is accepted.
    pub hold_pending: bool,
    pub traits: Traits,
    /// Put on hold because the gate answered so: the gate knows of it.
    pub answered: bool,
    /// Left the queue, but kept for lines that are still to come (see `Table::linger`).
    pub ended: Option<Ended>,
    /// Recipients of this leg in the books; for a child: handed over to it.
    pub booked: u32,
    /// Of those: ended or handed on.
    pub done: u32,
    /// Recipients the server said it has, those done before included; 0 when unknown.
    pub expected: u32,
    /// Recipients that lines have named, where aliases are expanded after the recipients were counted: never more
    /// than `expected`.
    pub placed: u32,
    /// Outcomes seen that no booked recipient answers for yet, in the order of `Outcome::ALL`.
    pub spare: [u32; Outcome::ALL.len()],
    /// Deferred attempts seen while it is not known whose they are.
    pub spare_deferrals: u32,
    /// Legs to which recipients went on before they were handed to this one.
    pub spare_hands: Box<[QueueId]>,
    pub seen: SeenSet,
    /// Hash of host and Message-ID; 0 when there is none.
    pub message: u64,
    /// The queue id this one continues, for people.
    pub parent: Option<QueueId>,
    /// The leg whose recipients a child carries, by serial: ids are reused, serials are not.
    pub claimed_by: u64,
    pub size: u64,
    pub first: Time,
    pub last: Time,
    pub details: Option<Box<Details>>,
    /// Names the incarnation: unique for good, the key of its row in the store.
    pub serial: u64,
    /// Until when a waiting, lingering or announced leg is waited for; `Time::ZERO` when it is not.
    pub deadline: Time,
    pub dirty: bool,
    pub stored: bool,
}

/// What the recipients of a leg have come to, by hash; few as a list, many as a map, never more than a limit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SeenSet {
    few: Vec<(u64, Seen)>,
    /// Entries that are no recipients.
    expanded: u32,
    many: Option<Box<HashMap<u64, Seen, foldhash::quality::FixedState>>>,
}

impl SeenSet {
    const FEW: usize = 16;

    pub fn get(&self, recipient: u64) -> Option<Seen> {
        match &self.many {
            Some(many) => many.get(&recipient).copied(),
            None => self.few.iter().find(|(hash, _)| *hash == recipient).map(|(_, seen)| *seen),
        }
    }

    /// Remembers a state; a new recipient beyond `most` is not remembered.
    pub fn set(&mut self, recipient: u64, state: Seen, most: usize) {
        let before = if let Some(many) = &mut self.many {
            if many.len() >= most && !many.contains_key(&recipient) {
                return;
            }
            many.insert(recipient, state)
        } else if let Some((_, seen)) = self.few.iter_mut().find(|(hash, _)| *hash == recipient) {
            Some(std::mem::replace(seen, state))
        } else if self.few.len() < SeenSet::FEW {
            super::push_tight(&mut self.few, (recipient, state));
            None
        } else {
            let mut many: HashMap<_, _, _> = self.few.drain(..).collect();
            many.insert(recipient, state);
            self.many = Some(Box::new(many));
            None
        };
        self.expanded += u32::from(state == Seen::Expanded);
        self.expanded -= u32::from(before == Some(Seen::Expanded));
    }

    pub fn iter(&self) -> impl Iterator<Item = (u64, Seen)> + '_ {
        let many = self.many.iter().flat_map(|many| many.iter().map(|(hash, seen)| (*hash, *seen)));
        self.few.iter().copied().chain(many)
    }

    pub fn count(&self) -> usize {
        self.many.as_ref().map_or(self.few.len(), |many| many.len())
    }

    /// Entries that are recipients.
    pub fn recipients(&self) -> u32 {
        self.count() as u32 - self.expanded
    }
}

/// How a leg left the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    Removed,
    Deleted,
    Requeued,
    Rejected,
    Discarded,
    Cancelled,
    /// Taken out of the books: evicted, or its id came again without an end.
    Lost,
}

impl Ended {
    pub const ALL: [Ended; 7] = [
        Ended::Removed,
        Ended::Deleted,
        Ended::Requeued,
        Ended::Rejected,
        Ended::Discarded,
        Ended::Cancelled,
        Ended::Lost,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Ended::Removed => "removed",
            Ended::Deleted => "deleted",
            Ended::Requeued => "requeued",
            Ended::Rejected => "rejected",
            Ended::Discarded => "discarded",
            Ended::Cancelled => "cancelled",
            Ended::Lost => "lost",
        }
    }

    /// What becomes of recipients that are open when the leg ends so.
    pub const fn outcome(self) -> Outcome {
        match self {
            // By a rule of the administrator's: nobody gets it, and nobody is told.
            Ended::Deleted | Ended::Discarded => Outcome::Deleted,
            _ => Outcome::Unaccounted,
        }
    }
}

/// More about a leg, one bit each: it has no room for bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traits(u8);

impl Traits {
    /// Rules have counted which script made it.
    pub const SCRIPTED: u8 = 1;
    /// Its envelope has no sender: an automatic reply, or a notification that a program made.
    pub const NO_SENDER: u8 = 2;
    /// It was tried to deliver once.
    pub const TRIED: u8 = 4;

    pub const fn has(self, one: u8) -> bool {
        self.0 & one == one
    }

    pub fn set(&mut self, one: u8, is: bool) {
        self.0 = if is { self.0 | one } else { self.0 & !one };
    }
}

impl Leg {
    /// Gives back what it holds.
    pub fn empty(&mut self) {
        (self.came, self.details, self.seen) = (Came::Unseen, None, SeenSet::default());
        self.spare_hands = Box::default();
    }

    /// Looks at everything that a line may change or the end tells; what it returns means nothing.
    #[inline]
    pub fn touch(&self) -> u64 {
        let numbers =
            [self.serial, self.message, self.size, self.claimed_by, self.last.0 as u64, self.deadline.0 as u64];
        let numbers = numbers.iter().fold(u64::from(self.booked ^ self.expected), |sum, n| sum ^ n);
        numbers ^ self.seen.few.first().map_or(0, |(hash, _)| *hash) ^ self.details.as_deref().map_or(0, Details::touch)
    }

    pub fn new(host: u16, instance: u16, id: QueueId, at: Time) -> Leg {
        Leg {
            host,
            instance,
            server: Server::default(),
            id,
            class: Class::Unborn,
            came: Came::Unseen,
            owner: Owner::nobody(Unattributed::OpenedBeforeLog),
            origin: Origin::Internal,
            basis: Basis::None,
            notification: false,
            probe: false,
            held: false,
            given_up: false,
            expands: false,
            hold_pending: false,
            answered: false,
            traits: Traits::default(),
            ended: None,
            booked: 0,
            done: 0,
            expected: 0,
            placed: 0,
            spare: [0; Outcome::ALL.len()],
            spare_deferrals: 0,
            spare_hands: Box::default(),
            seen: SeenSet::default(),
            message: 0,
            parent: None,
            claimed_by: 0,
            size: 0,
            first: at,
            last: at,
            details: None,
            serial: 0,
            deadline: Time::ZERO,
            dirty: false,
            stored: false,
        }
    }

    /// Booked recipients that have not ended.
    pub fn open(&self) -> u32 {
        self.booked - self.done.min(self.booked)
    }

    /// Outcomes and hand-overs that wait for recipients to be booked.
    pub fn spare_total(&self) -> u32 {
        self.spare.iter().sum::<u32>() + self.spare_hands.len() as u32
    }

    pub fn push_spare_hand(&mut self, id: QueueId) {
        let mut hands = std::mem::take(&mut self.spare_hands).into_vec();
        hands.push(id);
        self.spare_hands = hands.into_boxed_slice();
    }

    pub fn pop_spare_hand(&mut self) -> Option<QueueId> {
        let mut hands = std::mem::take(&mut self.spare_hands).into_vec();
        let last = hands.pop();
        self.spare_hands = hands.into_boxed_slice();
        last
    }

    /// Seen only after its arrival: its recipients are counted as they are seen.
    pub fn is_mid_stream(&self) -> bool {
        matches!(self.came, Came::Unseen)
    }

    /// Mid-stream, and without its header line: it cannot be compared with other legs.
    pub fn is_blind(&self) -> bool {
        self.is_mid_stream() && self.message == 0
    }

    /// Every recipient has ended and nothing is owed.
    pub fn is_complete(&self) -> bool {
        self.spare_total() == 0 && self.open() == 0 && self.booked >= self.expected
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::{Dsn, RecipientState, TraceTexts};

    #[test]
    fn renewed_details_are_as_new_ones() {
        let trace = RecipientTrace {
            texts: TraceTexts::new(b"a@b.test", b"mx[192.0.2.1]:25", b"250 ok"),
            dsn: Dsn::NONE,
            state: RecipientState::Deferred,
            attempts: 3,
            last: Time(9),
            next: None,
        };
        let mut details = Details {
            message_id: Box::from(&b"<m@b.test>"[..]),
            sender: Box::from(&b"c@b.test"[..]),
            client: Box::from(&b"192.0.2.7"[..]),
            recipients: vec![trace; 5],
            cut: true,
            script: Some(Box::default()),
            disputed: true,
        };
        details.renew();
        assert_eq!(details, Details::default());
        assert!(details.recipients.capacity() <= 2);
    }

    /// Hundreds of thousands are kept: one byte more, and the allocator gives each 320.
    #[test]
    fn a_leg_fits_into_256_bytes() {
        assert!(size_of::<Leg>() <= 256, "{}", size_of::<Leg>());
    }
}
