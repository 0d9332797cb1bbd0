//! The accounts that are known: a dense, stable index for each, the key that evidence leads to, and the name that
//! people gave it (the key, until it is renamed). Bounded; text of logins is cleaned before it becomes a key. Who owns what is `directory`'s and `attribution`'s business.

use crate::mail::{Owner, Time, Unattributed, text};
use hashbrown::HashTable;
use std::hash::BuildHasher;
use std::sync::Arc;

/// Longest account name, in bytes.
pub const MAX_NAME: usize = 128;

/// One known account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    pub owner: Owner,
    /// What evidence leads to: the accounts file's id, a login, a unix user. Unique.
    pub key: Arc<str>,
    /// What people call it. Unique; the same text as the key, until it is renamed.
    pub name: Arc<str>,
    /// The unix user behind an account that was found by uid: a recycled name is seen by these.
    pub uid: Option<u32>,
    pub home: Option<Box<str>>,
    pub first_seen: Time,
    pub closed: Option<Time>,
}

/// All known accounts.
#[derive(Debug)]
pub struct Accounts {
    known: Vec<Option<Known>>,
    by_name: HashTable<u32>,
    by_key: HashTable<u32>,
    hasher: foldhash::quality::FixedState,
    /// Never lowered: the index of an erased account is not given to another one.
    next: u32,
    most: u32,
    changed: Vec<Owner>,
}

impl Accounts {
    /// `seed` makes the hash of names unpredictable to those who choose names.
    pub fn new(seed: u64, most: u32) -> Accounts {
        Accounts {
            known: Vec::new(),
            by_name: HashTable::new(),
            by_key: HashTable::new(),
            hasher: foldhash::quality::FixedState::with_seed(seed),
            next: Owner::FIRST_ACCOUNT,
            most,
            changed: Vec::new(),
        }
    }

    pub fn set_most(&mut self, most: u32) {
        self.most = most;
    }

    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    pub fn get(&self, owner: Owner) -> Option<&Known> {
        self.known.get(slot(owner)?)?.as_ref()
    }

    /// The name for people and labels: the account's, or the reason why there is none.
    pub fn name(&self, owner: Owner) -> &str {
        match owner.unattributed() {
            Some(why) => why.name(),
            None => self.get(owner).map_or("", |known| &known.name),
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = &Known> {
        self.known.iter().flatten()
    }

    pub fn find(&self, name: &str) -> Option<&Known> {
        let hash = self.hash(name);
        let owner = *self.by_name.find(hash, |&owner| self.name(Owner(owner)) == name)?;
        self.get(Owner(owner))
    }

    fn find_key(&self, key: &str) -> Option<&Known> {
        let owner = *self.by_key.find(self.hash(key), |&owner| self.key(Owner(owner)) == key)?;
        self.get(Owner(owner))
    }

    fn key(&self, owner: Owner) -> &str {
        self.get(owner).map_or("", |known| &known.key)
    }

    /// The account of this key, made when it is new. `Owner::nobody(AccountLimit)` when the limit is reached.
    pub fn intern(&mut self, key: &str, at: Time) -> Owner {
        if let Some(known) = self.find_key(key) {
            return known.owner;
        }
        self.add(key, None, None, at)
    }

    /// The account of a unix user. A known name whose uid or home differ belonged to somebody else:
    /// that account is renamed `name~uid` and closed, and the name starts afresh.
    pub fn intern_user(&mut self, key: &str, uid: u32, home: &str, at: Time) -> Owner {
        match self.find_key(key) {
            Some(known) if known.uid.is_none() && known.home.is_none() => {
                let owner = known.owner;
                self.edit(owner, |known| {
                    known.uid = Some(uid);
                    known.home = Some(home.into());
                });
                owner
            }
            Some(known) if known.uid == Some(uid) && known.home.as_deref() == Some(home) => known.owner,
            Some(known) => {
                let (owner, former) = (known.owner, known.uid.unwrap_or(0));
                let retired: Arc<str> = self.free_name(&format!("{key}~{former}")).into();
                self.unlist(owner);
                self.edit(owner, |known| {
                    // A name that people gave it stays.
                    if known.name == known.key {
                        known.name = Arc::clone(&retired);
                    }
                    known.key = retired;
                    known.closed = Some(at);
                });
                self.list(owner);
                self.add(key, Some(uid), Some(home.into()), at)
            }
            None => self.add(key, Some(uid), Some(home.into()), at),
        }
    }

    /// Gives an account another name; evidence goes on leading to it. False when the account is unknown, or the name is
    /// another's, or what another's mail is known by: people find an account by either.
    pub fn rename(&mut self, owner: Owner, name: &str) -> bool {
        let anothers = self.find_key(name).is_some_and(|known| known.owner != owner);
        if anothers || self.find(name).is_some() || self.get(owner).is_none() {
            return false;
        }
        self.unlist(owner);
        self.edit(owner, |known| known.name = name.into());
        self.list(owner);
        true
    }

    pub fn close(&mut self, owner: Owner, at: Time) -> bool {
        self.edit(owner, |known| known.closed = Some(at))
    }

    /// Forgets the account; its index is never used again.
    pub fn forget(&mut self, owner: Owner) -> bool {
        self.unlist(owner);
        let entry = slot(owner).and_then(|slot| self.known.get_mut(slot));
        entry.is_some_and(|entry| entry.take().is_some())
    }

    /// Takes up an account from the store.
    pub fn restore(&mut self, known: Known) {
        let Some(slot) = slot(known.owner) else { return };
        if self.find(&known.name).is_some() || self.find_key(&known.key).is_some() || slot > 50_000_000 {
            return;
        }
        if slot >= self.known.len() {
            self.known.resize(slot + 1, None);
        }
        let owner = known.owner;
        if let Some(entry) = self.known.get_mut(slot) {
            *entry = Some(known);
        }
        self.next = self.next.max(owner.0 + 1);
        self.list(owner);
    }

    /// Indexes below this were given out at some time.
    pub fn next(&self) -> u32 {
        self.next
    }

    pub fn reserve_below(&mut self, next: u32) {
        self.next = self.next.max(next);
    }

    /// Owners made or edited since the last call.
    pub fn take_changed(&mut self) -> Vec<Owner> {
        std::mem::take(&mut self.changed)
    }

    fn add(&mut self, key: &str, uid: Option<u32>, home: Option<Box<str>>, at: Time) -> Owner {
        if self.by_name.len() >= self.most as usize {
            return Owner::nobody(Unattributed::AccountLimit);
        }
        let owner = Owner(self.next);
        let (name, key) = (self.free_name(key), Arc::<str>::from(key));
        let name = if *name == *key { Arc::clone(&key) } else { name.into() };
        self.restore(Known { owner, key, name, uid, home, first_seen: at, closed: None });
        self.changed.push(owner);
        owner
    }

    fn edit(&mut self, owner: Owner, change: impl FnOnce(&mut Known)) -> bool {
        let entry = slot(owner).and_then(|slot| self.known.get_mut(slot)).and_then(Option::as_mut);
        let Some(known) = entry else { return false };
        change(known);
        self.changed.push(owner);
        true
    }

    fn free_name(&self, wanted: &str) -> String {
        let mut name = wanted.to_owned();
        let mut n = 2;
        while self.find(&name).is_some() || (name != wanted && self.find_key(&name).is_some()) {
            name = format!("{wanted}~{n}");
            n += 1;
        }
        name
    }

    fn list(&mut self, owner: Owner) {
        let (name, key) = (self.hash(self.name(owner)), self.hash(self.key(owner)));
        let Accounts { known, by_name, by_key, hasher, .. } = self;
        let entry = |owner: u32| slot(Owner(owner)).and_then(|slot| known.get(slot)).and_then(Option::as_ref);
        let hash = |text: Option<&Arc<str>>| hasher.hash_one(text.map_or("", AsRef::as_ref));
        by_name.insert_unique(name, owner.0, |&other| hash(entry(other).map(|known| &known.name)));
        by_key.insert_unique(key, owner.0, |&other| hash(entry(other).map(|known| &known.key)));
    }

    fn unlist(&mut self, owner: Owner) {
        let (name, key) = (self.hash(self.name(owner)), self.hash(self.key(owner)));
        for (table, hash) in [(&mut self.by_name, name), (&mut self.by_key, key)] {
            if let Ok(entry) = table.find_entry(hash, |&other| other == owner.0) {
                entry.remove();
            }
        }
    }

    fn hash(&self, name: &str) -> u64 {
        self.hasher.hash_one(name)
    }
}

fn slot(owner: Owner) -> Option<usize> {
    owner.0.checked_sub(Owner::FIRST_ACCOUNT).map(|slot| slot as usize)
}

/// An authenticated login as an account name: lower case, clean, at most `MAX_NAME` bytes; `other` is reserved
/// as the label under which small accounts are summed up.
pub fn name_from(raw: &[u8]) -> String {
    let mut name = text::clean(&raw.to_ascii_lowercase(), MAX_NAME);
    if name == "other" || name.is_empty() {
        name.push('~');
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Time = Time::ZERO;

    #[test]
    fn a_recycled_name_is_a_new_account() {
        let mut accounts = Accounts::new(1, 10);
        let first = accounts.intern_user("bob", 2001, "/home/bob", AT);
        assert_eq!(accounts.intern_user("bob", 2001, "/home/bob", AT), first);
        let second = accounts.intern_user("bob", 2002, "/home/bob", AT);
        assert_ne!(first, second);
        assert_eq!(accounts.name(first), "bob~2001");
        assert!(accounts.get(first).unwrap().closed.is_some());
        assert_eq!(accounts.find("bob").unwrap().owner, second);
        let third = accounts.intern_user("bob", 2002, "/srv/bob", AT);
        assert_ne!(second, third, "another home is another customer");
    }

    #[test]
    fn the_limit_holds_and_indexes_are_never_reused() {
        let mut accounts = Accounts::new(1, 2);
        let a = accounts.intern("a", AT);
        accounts.intern("b", AT);
        assert_eq!(accounts.intern("c", AT), Owner::nobody(Unattributed::AccountLimit));
        assert!(accounts.forget(a));
        let c = accounts.intern("c", AT);
        assert!(c.is_account() && c != a);
        assert!(accounts.find("a").is_none());
    }

    #[test]
    fn a_renamed_account_is_still_found_by_its_evidence() {
        let mut accounts = Accounts::new(1, 10);
        let bob = accounts.intern_user("bob", 2001, "/home/bob", AT);
        assert!(accounts.rename(bob, "shop"));
        assert_eq!(accounts.intern_user("bob", 2001, "/home/bob", AT), bob);
        let other = accounts.intern("shop", AT);
        assert_ne!(other, bob, "a login called like somebody's given name is another account");
        assert_eq!((accounts.name(bob), accounts.name(other)), ("shop", "shop~2"));
        assert!(!accounts.rename(other, "shop"), "taken");
        assert!(!accounts.rename(other, "bob"), "the first one's mail is known by it");
        assert!(accounts.rename(bob, "store") && accounts.rename(bob, "bob"), "back again");
    }

    #[test]
    fn names_are_cleaned() {
        assert_eq!(name_from(b"Box1@Site.Test"), "box1@site.test");
        assert_eq!(name_from(b"other"), "other~");
        assert_eq!(name_from(b"a\nb"), "a\u{FFFD}b");
    }
}
