//! Orders: what people and rules decide about an account, and what becomes of it. Pure data.
//!
//! An order never says how it is carried out: that is a [`Step`](super::Step) of a dialect.

use super::{HandedBy, Origin, Owner, QueueId, Server, Time};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Names an order for good, on every host: its time, and a number that nobody else has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct OrderId {
    pub micros: u64,
    pub chance: u64,
}

impl OrderId {
    pub fn new(at: Time, chance: u64) -> OrderId {
        OrderId { micros: at.0.max(0).unsigned_abs(), chance }
    }
}

/// 32 hexadecimal digits, in the order of time.
impl fmt::Display for OrderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}{:016x}", self.micros, self.chance)
    }
}

impl FromStr for OrderId {
    type Err = ();

    fn from_str(text: &str) -> Result<OrderId, ()> {
        let both = u128::from_str_radix(text, 16).ok().filter(|_| text.len() == 32).ok_or(())?;
        Ok(OrderId { micros: (both >> 64) as u64, chance: both as u64 })
    }
}

/// The service state of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum ServiceState {
    #[default]
    Ok,
    /// Sends, after a block for errors was lifted: a second chance, for a set time.
    Force,
    /// Held by a person, or for too many messages.
    Ko,
    /// Held for too many errors.
    Bounce,
    /// Held because receivers say that it is spam, or for a pattern of spam.
    Spam,
    /// Held while what is held is being deleted.
    Purging,
}

impl ServiceState {
    pub const ALL: [ServiceState; 6] = [
        ServiceState::Ok,
        ServiceState::Force,
        ServiceState::Ko,
        ServiceState::Bounce,
        ServiceState::Spam,
        ServiceState::Purging,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            ServiceState::Ok => "ok",
            ServiceState::Force => "force",
            ServiceState::Ko => "ko",
            ServiceState::Bounce => "bounce",
            ServiceState::Spam => "spam",
            ServiceState::Purging => "purging",
        }
    }

    /// For people, who need not know the names: `ko (held: blocked)`.
    pub const fn shown(self) -> &'static str {
        match self {
            ServiceState::Ok => "ok",
            ServiceState::Force => "force (sends, on a second chance after too many errors)",
            ServiceState::Ko => "ko (held: blocked)",
            ServiceState::Bounce => "bounce (held: too many errors)",
            ServiceState::Spam => "spam (held: receivers call it spam)",
            ServiceState::Purging => "purging (what is held is being deleted)",
        }
    }

    /// The state of a name.
    pub fn from_name(name: &str) -> Option<ServiceState> {
        ServiceState::ALL.into_iter().find(|state| state.name() == name)
    }

    /// Mail of the account goes out.
    pub const fn sends(self) -> bool {
        matches!(self, ServiceState::Ok | ServiceState::Force)
    }

    /// A small number, stable for good: rows of the store keep it.
    pub const fn code(self) -> u8 {
        self as u8
    }

    pub fn from_code(code: u8) -> Option<ServiceState> {
        ServiceState::ALL.get(usize::from(code)).copied()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    Block,
    Unblock,
    Purge,
}

impl Action {
    pub const ALL: [Action; 3] = [Action::Block, Action::Unblock, Action::Purge];

    pub const fn name(self) -> &'static str {
        match self {
            Action::Block => "block",
            Action::Unblock => "unblock",
            Action::Purge => "purge",
        }
    }

    pub const fn code(self) -> u8 {
        self as u8
    }

    pub fn from_code(code: u8) -> Option<Action> {
        Action::ALL.get(usize::from(code)).copied()
    }
}

/// Which mail of the account a block holds.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub enum Scope {
    /// What programs send: by script, and over SMTP without a login.
    #[default]
    Script,
    /// What one login sends.
    Login(Box<str>),
    All,
}

impl Scope {
    /// `script`, `all`, or `login:` and a login.
    pub fn from_name(name: &str) -> Option<Scope> {
        match name {
            "script" => Some(Scope::Script),
            "all" => Some(Scope::All),
            _ => {
                let login = name.strip_prefix("login:").filter(|login| !login.is_empty() && login.len() <= 320)?;
                Some(Scope::Login(login.into()))
            }
        }
    }

    /// Whether a message of the account falls under it. Logins are compared as servers do, without regard to case.
    pub fn covers(&self, origin: Origin, login: &[u8]) -> bool {
        match self {
            Scope::Script => matches!(origin, Origin::Script | Origin::LocalSmtp),
            Scope::Login(wanted) => origin == Origin::SmtpAuth && login.eq_ignore_ascii_case(wanted.as_bytes()),
            Scope::All => matches!(origin, Origin::Script | Origin::LocalSmtp | Origin::SmtpAuth),
        }
    }

    /// Everything that falls under `other` falls under this one too.
    pub fn includes(&self, other: &Scope) -> bool {
        match (self, other) {
            (Scope::All, _) => true,
            (Scope::Login(a), Scope::Login(b)) => a.eq_ignore_ascii_case(b),
            (a, b) => a == b,
        }
    }

    /// The smallest one that includes both.
    pub fn with(&self, other: &Scope) -> Scope {
        match (self.includes(other), other.includes(self)) {
            (true, _) => self.clone(),
            (false, true) => other.clone(),
            (false, false) => Scope::All,
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scope::Script => f.write_str("script"),
            Scope::Login(login) => write!(f, "login:{login}"),
            Scope::All => f.write_str("all"),
        }
    }
}

/// What an order is given as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Whoever runs the mail servers.
    Operator,
    /// The account's own customer.
    Owner,
    /// A rule or an alert: it blocks, and never lifts.
    Machine,
    /// The agent itself: at the end of a set time, or to bring the machine in line with what stands.
    Agent,
}

impl Role {
    pub const ALL: [Role; 4] = [Role::Operator, Role::Owner, Role::Machine, Role::Agent];
}

/// Who gave an order.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Actor {
    /// A person at the command line, by uid; the name where the name service knows one.
    Person {
        uid: u32,
        name: Box<str>,
    },
    /// Whoever has the operator's token.
    Token,
    /// The account's own customer.
    Customer(Box<str>),
    /// A rule, by name.
    Rule(Box<str>),
    Alertmanager,
    /// The agent itself.
    Agent,
}

impl Actor {
    pub const fn role(&self) -> Role {
        match self {
            Actor::Person { .. } | Actor::Token => Role::Operator,
            Actor::Customer(_) => Role::Owner,
            Actor::Rule(_) | Actor::Alertmanager => Role::Machine,
            Actor::Agent => Role::Agent,
        }
    }

    /// Who may lift a block of this actor's, when nothing else is said.
    pub const fn liftable_by(&self) -> LiftableBy {
        match self {
            Actor::Person { .. } | Actor::Token | Actor::Alertmanager => LiftableBy::Operator,
            Actor::Customer(_) | Actor::Rule(_) | Actor::Agent => LiftableBy::Owner,
        }
    }
}

/// For people: who it was.
impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Actor::Person { uid, name } if name.is_empty() => write!(f, "uid {uid}"),
            Actor::Person { name, .. } => f.write_str(name),
            Actor::Token => f.write_str("operator token"),
            Actor::Customer(name) => write!(f, "customer {name}"),
            Actor::Rule(name) => write!(f, "rule {name}"),
            Actor::Alertmanager => f.write_str("alertmanager"),
            Actor::Agent => f.write_str("sendwarden"),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LiftableBy {
    /// The account's customer, and the operator.
    Owner,
    Operator,
}

impl LiftableBy {
    pub const fn name(self) -> &'static str {
        match self {
            LiftableBy::Owner => "owner",
            LiftableBy::Operator => "operator",
        }
    }
}

/// What a block is for: it decides the state that the account comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    Person,
    Volume,
    Errors,
    Spam,
}

impl Cause {
    pub const ALL: [Cause; 4] = [Cause::Person, Cause::Volume, Cause::Errors, Cause::Spam];

    pub const fn name(self) -> &'static str {
        match self {
            Cause::Person => "person",
            Cause::Volume => "volume",
            Cause::Errors => "errors",
            Cause::Spam => "spam",
        }
    }

    pub const fn state(self) -> ServiceState {
        match self {
            Cause::Person | Cause::Volume => ServiceState::Ko,
            Cause::Errors => ServiceState::Bounce,
            Cause::Spam => ServiceState::Spam,
        }
    }
}

/// Something to be done for an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    pub id: OrderId,
    pub owner: Owner,
    pub action: Action,
    /// Of a block.
    pub scope: Scope,
    /// Of a block.
    pub cause: Cause,
    pub by: Actor,
    /// Of a block.
    pub liftable_by: LiftableBy,
    pub reason: String,
    pub at: Time,
    /// When a block ends by itself.
    pub until: Option<Time>,
    /// Of an unblock or a purge: these of the held messages only, and what stands goes on standing.
    pub part: Option<Arc<[Place]>>,
    /// Of an unblock: what is held leaves oldest first, at so many messages an hour.
    pub drip: Option<u32>,
    /// Of a block: what was accepted before it goes on. A limit was crossed, and that was within it.
    pub spares: bool,
}

/// One message in the queue of one instance of a mail server.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    pub server: Server,
    pub instance: Arc<[u8]>,
    pub id: QueueId,
}

/// What is done to a message in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verb {
    Hold,
    Release,
    Delete,
}

impl Verb {
    pub const ALL: [Verb; 3] = [Verb::Hold, Verb::Release, Verb::Delete];
}

/// What is to be done on the machine for an order. Doing it twice is the same as doing it once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Work {
    pub order: OrderId,
    pub owner: Owner,
    pub verb: Verb,
    /// Nothing is done yet: whom they are from and for is asked, for when they are deleted nobody knows it any more.
    pub asks: bool,
    /// It was begun by an agent that ended before it heard what came of it: what the server says nothing of may be done.
    pub again: bool,
    pub places: Vec<Place>,
    /// What the log says of who handed in what is to be held, where it says so. Nothing is held of which the queue file
    /// says otherwise. Those that are not in here are held whatever it says.
    pub claims: BTreeMap<Place, Option<HandedBy>>,
}

/// Whom a message on hold is from and for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    pub place: Place,
    pub sender: Box<[u8]>,
    pub recipients: Vec<Box<[u8]>>,
}

/// What came of a [`Work`]: every place of it is done, missing or disputed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// The server said that it was done.
    pub done: Vec<Place>,
    /// The server said nothing of these: they are no longer where they were.
    pub missing: Vec<Place>,
    /// Those of the missing that were looked for, and are not on hold.
    pub absent: BTreeSet<Place>,
    /// Nothing was done with these: their queue files name somebody else than the log does.
    pub disputed: Vec<(Place, HandedBy)>,
    /// Why it could not be tried, or not all of it.
    pub trouble: Option<String>,
    /// Of a work that asks: what those that are done say.
    pub envelopes: Vec<Envelope>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_lead_back() {
        for state in ServiceState::ALL {
            assert_eq!(ServiceState::from_code(state.code()), Some(state));
            assert_eq!(ServiceState::from_name(state.name()), Some(state));
            // Words beside the name, but for the one that everybody knows.
            let shown = state.shown();
            assert!(
                shown.starts_with(state.name()) && (shown.contains(" (") != (state == ServiceState::Ok)),
                "{shown}"
            );
        }
        for action in Action::ALL {
            assert_eq!(Action::from_code(action.code()), Some(action));
        }
    }

    #[test]
    fn scopes_are_read_and_cover_what_they_say() {
        for (name, covers) in [
            ("script", [true, false, true, false, false, false]),
            ("all", [true, true, true, true, false, false]),
            ("login:Box@Shop.test", [false, true, false, false, false, false]),
        ] {
            let scope = Scope::from_name(name).unwrap();
            assert_eq!(scope.to_string(), name);
            let mail: [(Origin, &[u8]); 6] = [
                (Origin::Script, b""),
                (Origin::SmtpAuth, b"box@shop.test"),
                (Origin::LocalSmtp, b""),
                (Origin::SmtpAuth, b"other@shop.test"),
                (Origin::Incoming, b"box@shop.test"),
                (Origin::Internal, b""),
            ];
            assert_eq!(mail.map(|(origin, login)| scope.covers(origin, login)), covers, "{name}");
        }
        for bad in ["", "login:", "logins", "ALL", "login"] {
            assert_eq!(Scope::from_name(bad), None, "{bad}");
        }
        let login = |name: &str| Scope::Login(name.into());
        assert!(Scope::All.includes(&Scope::Script) && Scope::All.includes(&login("a")));
        assert!(login("a").includes(&login("A")) && !login("a").includes(&login("b")));
        assert!(!Scope::Script.includes(&Scope::All) && !Scope::Script.includes(&login("a")));
        assert_eq!(Scope::Script.with(&Scope::All), Scope::All);
        assert_eq!((login("a").with(&login("A")), login("a").with(&login("b"))), (login("a"), Scope::All));
    }

    #[test]
    fn ids_of_orders_sort_by_time() {
        let id = |at: i64, chance: u64| OrderId::new(Time(at), chance).to_string();
        assert_eq!(id(1, 2), "00000000000000010000000000000002");
        assert!(id(9, u64::MAX) < id(10, 0));
        assert_eq!(id(9, u64::MAX).parse(), Ok(OrderId { micros: 9, chance: u64::MAX }));
        for bad in ["", "9", "-0000000000000010000000000000002", "0000000000000001000000000000000g"] {
            assert_eq!(bad.parse::<OrderId>(), Err(()), "{bad}");
        }
    }
}
