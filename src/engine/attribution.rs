//! Why a message is an account's: evidence in, owner out.
//!
//! The order is fixed: authenticated login, local uid, trusted network, sender domain. A stronger kind of
//! evidence that points to nobody is not overruled by a weaker one: a web server's uid stays unattributed
//! even when the sender's domain is an account's.
//! The name service is not asked here: the caller tells what it says (`learn_user`).

use super::accounts::{Accounts, name_from};
use super::directory::Directory;
use super::homes::Homes;
use super::keys::{self, Key};
use crate::mail::{Basis, Origin, Owner, Time, Unattributed, address};
use core::net::IpAddr;
use hashbrown::HashMap;

/// What is known of where a message came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival<'a> {
    Login(&'a [u8]),
    Uid(u32),
    /// A local user by login name, with the uid where the name service knew one.
    User(&'a [u8], Option<u32>),
    /// Unauthenticated SMTP from this address; `None` when the log gives none that reads as one.
    Smtp(Option<IpAddr>),
}

/// Owner, origin and basis of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributed {
    pub owner: Owner,
    pub origin: Origin,
    pub basis: Basis,
}

impl Attributed {
    pub const fn nobody(why: Unattributed, origin: Origin) -> Attributed {
        Attributed { owner: Owner::nobody(why), origin, basis: Basis::None }
    }
}

/// What the name service is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted<'a> {
    Uid(u32),
    Login(&'a [u8]),
}

/// A unix user as the name service knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    pub uid: u32,
    pub login: String,
    pub home: String,
}

/// Most uids whose names are remembered.
const MAX_USERS: usize = 262_144;

#[derive(Debug)]
pub struct Attribution {
    pub accounts: Accounts,
    directory: Directory,
    users: HashMap<u32, Option<User>, foldhash::quality::FixedState>,
    homes: Homes,
    /// The uids of login names, as far as they were asked for.
    uids: HashMap<Box<[u8]>, Option<u32>, foldhash::quality::FixedState>,
    /// Answers per uid, valid until the directory or the user's entry changes.
    owners: HashMap<u32, Owner, foldhash::quality::FixedState>,
    /// The same per login as logged; emptied when it is full.
    logins: HashMap<Box<[u8]>, Owner, foldhash::quality::FixedState>,
}

impl Attribution {
    pub fn new(accounts: Accounts, directory: Directory, seed: u64) -> Attribution {
        let state = foldhash::quality::FixedState::with_seed(seed);
        Attribution {
            accounts,
            directory,
            users: HashMap::with_hasher(state.clone()),
            homes: Homes::default(),
            uids: HashMap::with_hasher(state.clone()),
            owners: HashMap::with_hasher(state.clone()),
            logins: HashMap::with_hasher(state),
        }
    }

    /// Replaces the directory (the accounts file changed). Messages already counted stay with their owner.
    pub fn set_directory(&mut self, directory: Directory) {
        self.directory = directory;
        self.mark_listed();
        self.forget_answers();
    }

    /// Tells the accounts which of them the accounts file lists.
    pub fn mark_listed(&mut self) {
        self.accounts.set_listed(self.directory.accounts().iter().map(|spec| spec.id.as_str()));
    }

    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    /// True when the name service need not be asked for this uid.
    pub fn knows_user(&self, uid: u32) -> bool {
        self.owners.contains_key(&uid) || self.users.contains_key(&uid) || self.directory.by_uid(uid).is_some()
    }

    /// What the name service says of a uid; `None`: it has no name.
    pub fn learn_user(&mut self, uid: u32, user: Option<User>) {
        if self.users.len() >= MAX_USERS {
            self.users.clear();
            self.homes.clear();
        }
        if let Some(user) = &user {
            self.homes.learn(uid, &user.home);
        }
        if self.users.insert(uid, user.clone()) != Some(user) {
            self.owners.remove(&uid);
        }
    }

    /// True when the name service need not be asked for this login name.
    pub fn knows_login(&self, login: &[u8]) -> bool {
        self.uids.contains_key(login)
    }

    /// What the name service says of a login name; `None`: nobody has it.
    pub fn learn_login(&mut self, login: &[u8], user: Option<User>) {
        if self.uids.len() >= MAX_USERS {
            self.uids.clear();
        }
        self.uids.insert(login.into(), user.as_ref().map(|user| user.uid));
        if let Some(user) = user {
            self.learn_user(user.uid, Some(user));
        }
    }

    /// The uid of a login name, where the name service knew one.
    pub fn uid_of(&self, login: &[u8]) -> Option<u32> {
        self.uids.get(login).copied().flatten()
    }

    /// Forgets what the name service said, so that it is asked again (users come and go).
    pub fn forget_users(&mut self) {
        self.users.clear();
        self.homes.clear();
        self.uids.clear();
        self.forget_answers();
    }

    /// Accounts were renamed, erased or mapped anew: every answer is found again.
    pub fn forget_answers(&mut self) {
        self.owners.clear();
        self.logins.clear();
    }

    /// The user in whose home a script lies.
    pub fn uid_of_path(&self, path: &[u8]) -> Option<u32> {
        self.homes.user_of(path)
    }

    /// True when scripts of many accounts run under this uid.
    pub fn is_web_server(&self, uid: u32) -> bool {
        let login = self.users.get(&uid).and_then(|user| user.as_ref()).map(|user| user.login.as_bytes());
        self.directory.policy().is_web_server(uid, login)
    }

    /// True when unauthenticated mail from this address is this host's or a trusted node's own.
    pub fn is_local(&self, address: IpAddr) -> bool {
        self.directory.policy().is_local(address) || self.directory.by_network(address).is_some()
    }

    pub fn attribute(&mut self, arrival: Arrival<'_>, sender: &[u8], at: Time) -> Attributed {
        match arrival {
            Arrival::Login(login) => {
                let owner = match self.logins.get(login) {
                    Some(&owner) => owner,
                    None => self.owner_of_login(login, at),
                };
                Attributed { owner, origin: Origin::SmtpAuth, basis: Basis::Login }
            }
            Arrival::Uid(uid) => {
                let owner = match self.owners.get(&uid) {
                    Some(&owner) => owner,
                    None => {
                        let owner = self.owner_of_uid(uid, at);
                        if self.owners.len() >= MAX_USERS {
                            self.owners.clear();
                        }
                        self.owners.insert(uid, owner);
                        owner
                    }
                };
                Attributed { owner, origin: Origin::Script, basis: Basis::Uid }
            }
            Arrival::User(login, uid) => {
                Attributed { owner: self.owner_of_user(login, uid, at), origin: Origin::Script, basis: Basis::Uid }
            }
            Arrival::Smtp(address) => self.by_address(address, sender, at),
        }
    }

    fn owner_of_login(&mut self, login: &[u8], at: Time) -> Owner {
        let key = keys::of_login(&self.directory, login);
        let owner = match key {
            Key::Listed(id) => self.accounts.intern_listed(id, at),
            Key::Named(name) => self.accounts.intern(&name, at),
            Key::Nobody(why) => Owner::nobody(why),
        };
        if self.logins.len() >= MAX_USERS {
            self.logins.clear();
        }
        self.logins.insert(login.into(), owner);
        owner
    }

    fn owner_of_uid(&mut self, uid: u32, at: Time) -> Owner {
        let user = self.users.get(&uid).and_then(Option::as_ref);
        match (keys::of_uid(&self.directory, uid, user), user) {
            (Key::Listed(id), _) => self.accounts.intern_listed(id, at),
            (Key::Named(name), Some(user)) => self.accounts.intern_user(&name, uid, &user.home, at),
            (Key::Named(name), None) => self.accounts.intern(&name, at),
            (Key::Nobody(why), _) => Owner::nobody(why),
        }
    }

    /// The uid decides, where there is one; but of two users who share it, each is listed under the own name.
    fn owner_of_user(&mut self, login: &[u8], uid: Option<u32>, at: Time) -> Owner {
        if let Some(id) = self.directory.by_unix_user(login) {
            return self.accounts.intern_listed(id, at);
        }
        if let Some(uid) = uid {
            return self.attribute(Arrival::Uid(uid), &[], at).owner;
        }
        if self.directory.policy().is_web_server_user(login) {
            return Owner::nobody(Unattributed::WebServerUid);
        }
        if login == b"root" {
            return Owner::nobody(Unattributed::SystemUid);
        }
        self.accounts.intern(&name_from(login), at)
    }

    fn by_address(&mut self, address: Option<IpAddr>, sender: &[u8], at: Time) -> Attributed {
        let Some(address) = address else {
            return Attributed::nobody(Unattributed::Incoming, Origin::Incoming);
        };
        if let Some(id) = self.directory.by_network(address) {
            let owner = self.accounts.intern_listed(id, at);
            return Attributed { owner, origin: Origin::LocalSmtp, basis: Basis::Network };
        }
        if !self.directory.policy().is_local(address) {
            return Attributed::nobody(Unattributed::Incoming, Origin::Incoming);
        }
        let claimed = Some(address::domain(sender)).filter(|_| self.directory.policy().claimed_domains);
        match claimed.and_then(|domain| self.directory.by_domain(domain)) {
            Some(id) => {
                let owner = self.accounts.intern_listed(id, at);
                Attributed { owner, origin: Origin::LocalSmtp, basis: Basis::SenderDomain }
            }
            None => Attributed::nobody(Unattributed::NoEvidence, Origin::LocalSmtp),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::directory::{AccountSpec, Policy};

    #[test]
    fn by_whatever_evidence_a_listed_account_has_room_when_the_log_has_filled_it() {
        let listed = |id: &str| AccountSpec { id: id.into(), ..AccountSpec::default() };
        let directory = Directory::build(
            vec![
                AccountSpec { uids: vec![2_001], ..listed("by-uid") },
                AccountSpec { unix_users: vec!["writer".into()], ..listed("by-user") },
                AccountSpec { logins: vec!["box".into()], ..listed("by-login") },
                AccountSpec { domains: vec!["shop.test".into()], ..listed("by-domain") },
                AccountSpec { networks: vec!["10.1.0.0/16".parse().unwrap()], ..listed("by-network") },
            ],
            Policy::default(),
        );
        let mut attribution = Attribution::new(Accounts::new(7, 1), directory.unwrap(), 7);
        let nobody = Owner::nobody(Unattributed::AccountLimit);
        attribution.attribute(Arrival::Login(b"forged@x.test"), b"", Time::ZERO);
        assert_eq!(attribution.attribute(Arrival::Uid(54_001), b"", Time::ZERO).owner, nobody);
        assert_eq!(attribution.attribute(Arrival::Login(b"late@x.test"), b"", Time::ZERO).owner, nobody);
        let (near, here) = ("10.1.2.3".parse().ok(), "127.0.0.1".parse().ok());
        for (arrival, account) in [
            (Arrival::Uid(2_001), "by-uid"),
            (Arrival::User(b"writer", None), "by-user"),
            (Arrival::Login(b"box"), "by-login"),
            (Arrival::Smtp(here), "by-domain"),
            (Arrival::Smtp(near), "by-network"),
        ] {
            let owner = attribution.attribute(arrival, b"a@shop.test", Time::ZERO).owner;
            assert_eq!(attribution.accounts.name(owner), account, "{arrival:?}");
        }
        // A unix user that there is.
        attribution.learn_user(2_009, Some(User { uid: 2_009, login: "web9".into(), home: "/home/web9".into() }));
        assert!(attribution.attribute(Arrival::Uid(2_009), b"", Time::ZERO).owner.is_account());
    }

    #[test]
    fn a_login_name_is_its_uid_s_where_there_is_one() {
        let shop = AccountSpec { id: "shop".into(), uids: vec![2_001], ..AccountSpec::default() };
        let blog = AccountSpec { id: "blog".into(), unix_users: vec!["writer".into()], ..AccountSpec::default() };
        let directory = Directory::build(vec![shop, blog], Policy::default()).unwrap();
        let mut attribution = Attribution::new(Accounts::new(7, 100), directory, 7);
        let user = |uid, login: &str| Some(User { uid, login: login.to_owned(), home: format!("/home/{login}") });
        for (login, known, account) in [
            ("web1", user(2_001, "web1"), "shop"),
            ("writer", user(2_002, "writer"), "blog"),
            ("writer", None, "blog"),
            ("web3", user(2_003, "web3"), "web3"),
            ("gone", None, "gone"),
            ("daemon", user(1, "daemon"), "system_uid"),
            ("root", None, "system_uid"),
            ("www-data", user(33, "www-data"), "web_server_uid"),
            ("www-data", None, "web_server_uid"),
            ("nobody", user(65_534, "nobody"), "web_server_uid"),
        ] {
            attribution.forget_users();
            assert!(!attribution.knows_login(login.as_bytes()));
            attribution.learn_login(login.as_bytes(), known.clone());
            assert!(attribution.knows_login(login.as_bytes()));
            let uid = attribution.uid_of(login.as_bytes());
            assert_eq!(uid, known.as_ref().map(|user| user.uid));
            let found = attribution.attribute(Arrival::User(login.as_bytes(), uid), b"s@d.test", Time::ZERO);
            assert_eq!(attribution.accounts.name(found.owner), account, "{login} {known:?}");
            assert_eq!((found.origin, found.basis), (Origin::Script, Basis::Uid));
        }
    }
}
