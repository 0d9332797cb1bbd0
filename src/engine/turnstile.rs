//! The turnstile: may this message pass, or is its account's mail held?
//!
//! Asked for every message while the mail server waits, so it only looks up: who is held, under which identities, is
//! told beforehand. An identity that leads to nobody held passes, and so does one that is not known: nobody is held by
//! mistake. Pure, and small: its size follows the accounts that are held, not those that send.

use super::accounts::name_from;
use super::directory::Directory;
use super::keys::{self, Key};
use super::rules::volume::{Armed, Crossing, Going, Member, Message, Sender, Volume};
use crate::mail::{OrderId, Origin, Owner, QueueId, Scope, Time};
use core::net::IpAddr;
use hashbrown::HashMap;
use std::sync::Arc;

/// An account whose mail is held, with what its mail is known by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Barred {
    pub owner: Owner,
    /// What evidence leads to (`Accounts`).
    pub key: String,
    /// The uids whose mail is this account's. Told, because a name service may have to be asked for them.
    pub uids: Vec<u32>,
    pub scope: Scope,
    pub order: OrderId,
    pub room: Room,
    /// It is slowed down: what is held leaves by itself, and nobody is refused.
    pub slow: bool,
}

/// How much more of an account may be held. What a message takes is known only when it lies in the queue, so that the one
/// that goes beyond the bytes is held, and the next ones are not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Room {
    pub messages: u64,
    pub bytes: u64,
    /// Messages held here of which whoever tells this has heard: those that were held since take room beside it.
    pub heard: u64,
}

/// Who handed a message in, as far as that is proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim<'a> {
    Login(&'a [u8]),
    /// By a local process, without SMTP.
    Handed(u32),
    /// Over SMTP from a process of this host.
    Local(u32),
    /// Over SMTP from elsewhere.
    Client(IpAddr),
    Nobody,
}

impl Claim<'_> {
    /// What the message counts as: for the scope of a block.
    fn origin(&self, directory: &Directory) -> Origin {
        match self {
            Claim::Login(_) => Origin::SmtpAuth,
            Claim::Handed(_) => Origin::Script,
            Claim::Local(_) => Origin::LocalSmtp,
            Claim::Client(address) if directory.by_network(*address).is_some() => Origin::LocalSmtp,
            Claim::Client(_) | Claim::Nobody => Origin::Incoming,
        }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct Turnstile {
    directory: Directory,
    barred: Vec<Barred>,
    by_key: HashMap<String, usize, foldhash::quality::FixedState>,
    by_uid: HashMap<u32, usize, foldhash::quality::FixedState>,
    /// Messages held here, by account. Its size follows the accounts that were ever held.
    taken: HashMap<Owner, u64, foldhash::quality::FixedState>,
    volume: Volume,
    /// Held because they have just crossed a limit; whoever bars has not heard of it yet. Among the barred too.
    crossed: Vec<Barred>,
    /// How much of one may be held of whom nothing is held.
    most: Room,
}

impl Turnstile {
    /// `seed` makes the hash of logins unpredictable to those who choose them.
    pub fn new(directory: Directory, seed: u64) -> Turnstile {
        let state = foldhash::quality::FixedState::with_seed(seed);
        Turnstile {
            directory,
            barred: Vec::new(),
            by_key: HashMap::with_hasher(state.clone()),
            by_uid: HashMap::with_hasher(state.clone()),
            taken: HashMap::with_hasher(state),
            volume: Volume::default(),
            crossed: Vec::new(),
            most: Room::default(),
        }
    }

    pub fn set_directory(&mut self, directory: Directory) {
        self.directory = directory;
    }

    /// Everybody who is held, in place of those before. Who has just crossed a limit stays, until he is among them.
    pub fn bar(&mut self, mut barred: Vec<Barred>) {
        barred.iter_mut().for_each(|one| one.room = self.left(one.owner, one.room));
        self.crossed.retain(|one| barred.iter().all(|other| other.owner != one.owner));
        barred.extend(self.crossed.iter().cloned());
        self.index(barred);
    }

    fn index(&mut self, barred: Vec<Barred>) {
        self.by_key.clear();
        self.by_uid.clear();
        for (at, one) in barred.iter().enumerate() {
            self.by_key.insert(one.key.clone(), at);
            self.by_uid.extend(one.uids.iter().map(|uid| (*uid, at)));
        }
        self.barred = barred;
    }

    /// The rules for volume that are judged here, and the accounts that are known.
    pub fn judge_volume(&mut self, armed: Arc<Armed>, members: Vec<Member>) {
        self.volume.begin(armed, members);
    }

    /// What judges them.
    pub fn volume(&mut self) -> &mut Volume {
        &mut self.volume
    }

    pub fn set_most(&mut self, most: Room) {
        self.most = most;
    }

    /// Whether a message that nothing holds crosses a limit. Its account is held from this message on, for the order.
    pub fn cross(
        &mut self,
        claim: Claim<'_>,
        id: Option<QueueId>,
        recipients: u32,
        now: Time,
        order: impl FnOnce() -> OrderId,
    ) -> Option<Crossing> {
        if self.volume.is_idle() {
            return None;
        }
        let (sender, origin) = (self.sender(claim)?, self.origin(claim));
        let login = if let Claim::Login(login) = claim { login } else { &[] };
        let message = Message { id, sender: &sender, origin, login, recipients };
        let crossing = self.volume.admit(&message, &self.directory, now)?;
        let Crossing { owner, scope, slow, .. } = crossing.clone();
        let (key, uids) = self.volume.known_by(owner);
        let room = self.left(owner, self.most);
        self.crossed.push(Barred { owner, key, uids, scope, order: order(), room, slow });
        let mut barred = std::mem::take(&mut self.barred);
        barred.extend(self.crossed.last().cloned());
        self.index(barred);
        Some(crossing)
    }

    /// See [`Volume::has_room`].
    pub fn has_room(&mut self, owner: Owner, now: Time) -> bool {
        self.volume.has_room(owner, &self.directory, now)
    }

    /// How many of these messages on hold, the first ones, may leave now: see [`Volume::let_go`].
    pub fn let_go(&mut self, waiting: Vec<Going>, now: Time) -> usize {
        self.volume.let_go(waiting, &self.directory, now)
    }

    /// It is not held for this order after all.
    pub fn let_pass(&mut self, order: OrderId) {
        self.crossed.retain(|one| one.order != order);
        let mut barred = std::mem::take(&mut self.barred);
        barred.retain(|one| one.order != order);
        self.index(barred);
    }

    /// By what the account of a message is known, where what proves it is enough for that. Mail over SMTP from a process
    /// of this host is known to the gate alone, and the log would not tell of it.
    fn sender(&self, claim: Claim<'_>) -> Option<Sender> {
        match claim {
            Claim::Login(login) => keys::of_login(&self.directory, login).text().map(|key| Sender::Key(key.to_owned())),
            Claim::Handed(uid) => match keys::of_uid(&self.directory, uid, None) {
                Key::Listed(id) => Some(Sender::Key(id.to_owned())),
                Key::Named(_) => Some(Sender::Uid(uid)),
                Key::Nobody(_) => None,
            },
            Claim::Client(address) => self.directory.by_network(address).map(|id| Sender::Key(id.to_owned())),
            Claim::Local(_) | Claim::Nobody => None,
        }
    }

    /// How many more messages of each may be held.
    pub fn set_room(&mut self, room: &[(Owner, Room)]) {
        for (owner, room) in room {
            let room = self.left(*owner, *room);
            self.barred.iter_mut().filter(|barred| barred.owner == *owner).for_each(|barred| barred.room = room);
        }
    }

    fn left(&self, owner: Owner, room: Room) -> Room {
        let unheard = self.taken.get(&owner).copied().unwrap_or(0).saturating_sub(room.heard);
        Room { messages: room.messages.saturating_sub(unheard), ..room }
    }

    /// Takes the place of one message of the account. False when there is none.
    pub fn take_room(&mut self, owner: Owner) -> bool {
        let Some(barred) = self.barred.iter_mut().find(|barred| barred.owner == owner) else { return true };
        let left = barred.room.messages.checked_sub(1).filter(|_| barred.room.bytes > 0);
        barred.room.messages = left.unwrap_or(barred.room.messages);
        *self.taken.entry(owner).or_default() += u64::from(left.is_some());
        left.is_some()
    }

    /// Nobody is held: nobody need be asked for.
    pub fn is_open(&self) -> bool {
        self.barred.is_empty()
    }

    /// Somebody is held whose mail a local process may hand over: who hands it over has to be known.
    pub fn bars_scripts(&self) -> bool {
        self.barred.iter().any(|one| !one.uids.is_empty() && one.scope.covers(Origin::Script, b""))
    }

    /// How the message came in.
    pub fn origin(&self, claim: Claim<'_>) -> Origin {
        claim.origin(&self.directory)
    }

    /// The held account that the message belongs to and whose block covers it; `None`: it passes.
    pub fn admit(&self, claim: Claim<'_>) -> Option<&Barred> {
        let origin = self.origin(claim);
        let at = match claim {
            Claim::Login(login) => {
                let key = keys::of_login(&self.directory, login);
                self.by_key.get(key.text()?)
            }
            Claim::Handed(uid) | Claim::Local(uid) => self.by_uid.get(&uid),
            Claim::Client(address) => self.by_key.get(self.directory.by_network(address)?),
            Claim::Nobody => None,
        };
        let login = match claim {
            Claim::Login(login) => name_from(login),
            _ => String::new(),
        };
        self.barred.get(*at?).filter(|barred| barred.scope.covers(origin, login.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::directory::{AccountSpec, Policy};

    fn room(messages: u64, bytes: u64) -> Room {
        Room { messages, bytes, heard: 9 }
    }

    fn barred(owner: u32, key: &str, uids: &[u32], scope: Scope) -> Barred {
        Barred {
            owner: Owner(owner),
            key: key.into(),
            uids: uids.to_vec(),
            scope,
            order: OrderId::default(),
            room: room(2, 9),
            slow: false,
        }
    }

    #[test]
    fn only_what_the_block_covers_is_held() {
        let shop = AccountSpec {
            id: "shop".into(),
            logins: vec!["sales@shop.test".into(), "info@shop.test".into()],
            networks: vec!["10.9.0.0/24".parse().unwrap()],
            ..AccountSpec::default()
        };
        let directory = Directory::build(vec![shop], Policy::default()).unwrap();
        let mut gate = Turnstile::new(directory, 7);
        assert!(gate.is_open() && gate.admit(Claim::Handed(2_001)).is_none());
        gate.bar(vec![
            barred(20, "shop", &[2_001], Scope::Script),
            barred(21, "box@blog.test", &[], Scope::All),
            barred(22, "web3", &[2_003], Scope::Login("x".into())),
        ]);
        let inside: IpAddr = "10.9.0.7".parse().unwrap();
        let outside: IpAddr = "203.0.113.7".parse().unwrap();
        for (claim, held) in [
            (Claim::Handed(2_001), Some(20)),
            (Claim::Local(2_001), Some(20)),
            (Claim::Client(inside), Some(20)),
            (Claim::Login(b"sales@shop.test"), None),
            (Claim::Login(b"Box@Blog.TEST"), Some(21)),
            (Claim::Login(b"box@blog.tes"), None),
            (Claim::Handed(2_002), None),
            (Claim::Handed(2_003), None),
            (Claim::Client(outside), None),
            (Claim::Nobody, None),
        ] {
            assert_eq!(gate.admit(claim).map(|barred| barred.owner.0), held, "{claim:?}");
        }
        assert!(gate.bars_scripts());
        // No more of one is held than there is room for, and that is nobody else's.
        assert_eq!([20, 20, 20].map(|owner| gate.take_room(Owner(owner))), [true, true, false]);
        gate.set_room(&[(Owner(20), room(1, 9)), (Owner(99), room(7, 7))]);
        assert_eq!([20, 20, 21].map(|owner| gate.take_room(Owner(owner))), [true, false, true]);
        // Nor when what is held takes too much.
        gate.set_room(&[(Owner(20), room(5, 0))]);
        assert_eq!([20, 20, 21].map(|owner| gate.take_room(Owner(owner))), [false, false, true]);
        gate.set_room(&[(Owner(20), room(5, 1))]);
        assert!(gate.take_room(Owner(20)));
        // What was held and is not known yet takes room too: four of this one were.
        let all = |messages| Room { heard: 2, ..room(messages, 9) };
        gate.set_room(&[(Owner(20), all(3))]);
        assert_eq!([20, 20].map(|owner| gate.take_room(Owner(owner))), [true, false]);
        gate.bar(vec![Barred { room: all(4), ..barred(20, "shop", &[2_001], Scope::Script) }]);
        assert_eq!([20, 20].map(|owner| gate.take_room(Owner(owner))), [true, false]);
        // One login of an account: the others go on.
        gate.bar(vec![barred(20, "shop", &[2_001], Scope::Login("Info@shop.test".into()))]);
        assert!(gate.admit(Claim::Login(b"INFO@shop.test")).is_some());
        assert!(gate.admit(Claim::Login(b"sales@shop.test")).is_none());
        assert!(gate.admit(Claim::Handed(2_001)).is_none(), "who was barred before is forgotten");
        assert!(!gate.bars_scripts());
        gate.bar(vec![barred(20, "box@shop.test", &[], Scope::All)]);
        assert!(!gate.bars_scripts(), "no process is known to be its own");
        gate.bar(vec![barred(20, "shop", &[2_001], Scope::All)]);
        assert!(gate.bars_scripts());
    }
}
