//! The accounts that are known: a dense, stable index for each, the key that evidence leads to, and the name that
//! people gave it (the key, until it is renamed). Text of logins is cleaned before it becomes a key. Who owns what is
//! `directory`'s and `attribution`'s business.
//!
//! Bounded, whatever the log says. The bound is on names that only the log has: whoever can write there fills it, and an
//! account that there is must have room all the same. So those of the accounts file always have, and unix users that the
//! name service knows have a bound of their own.

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
    /// The accounts file lists it. Not kept: see [`Accounts::set_listed`].
    pub listed: bool,
}

/// Whose word there is for it that an account exists: each has room of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    AccountsFile,
    NameService,
    Log,
}

impl Known {
    fn word(&self) -> Word {
        match (self.listed, self.uid) {
            (true, _) => Word::AccountsFile,
            (false, Some(_)) => Word::NameService,
            (false, None) => Word::Log,
        }
    }
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
    /// Most of those that the name service knows, and most of those of which only the log tells.
    most: u32,
    /// How many there are by each word.
    counts: [usize; 3],
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
            counts: [0; 3],
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
        self.intern_as(key, false, at)
    }

    /// The account of the accounts file with this id: there is always room for it.
    pub fn intern_listed(&mut self, id: &str, at: Time) -> Owner {
        self.intern_as(id, true, at)
    }

    fn intern_as(&mut self, key: &str, listed: bool, at: Time) -> Owner {
        match self.find_key(key) {
            Some(known) => known.owner,
            None => self.add(key, None, None, listed, at),
        }
    }

    /// These are the ids of the accounts file now.
    pub fn set_listed<'i>(&mut self, ids: impl Iterator<Item = &'i str>) {
        self.known.iter_mut().flatten().for_each(|known| known.listed = false);
        for id in ids {
            let entry = self.find_key(id).and_then(|known| slot(known.owner));
            if let Some(known) = entry.and_then(|slot| self.known.get_mut(slot)).and_then(Option::as_mut) {
                known.listed = true;
            }
        }
        self.counts = [0; 3];
        for known in self.known.iter().flatten() {
            count(&mut self.counts, known, true);
        }
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
                self.add(key, Some(uid), Some(home.into()), false, at)
            }
            None => self.add(key, Some(uid), Some(home.into()), false, at),
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
        let known = slot(owner).and_then(|slot| self.known.get_mut(slot)).and_then(Option::take);
        if let Some(known) = &known {
            count(&mut self.counts, known, false);
        }
        known.is_some()
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
        count(&mut self.counts, &known, true);
        if let Some(entry) = self.known.get_mut(slot)
            && let Some(before) = entry.replace(known)
        {
            count(&mut self.counts, &before, false);
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

    fn add(&mut self, key: &str, uid: Option<u32>, home: Option<Box<str>>, listed: bool, at: Time) -> Owner {
        let owner = Owner(self.next);
        let (name, key) = (self.free_name(key), Arc::<str>::from(key));
        let name = if *name == *key { Arc::clone(&key) } else { name.into() };
        let known = Known { owner, key, name, uid, home, first_seen: at, closed: None, listed };
        if !self.has_room(known.word()) {
            return Owner::nobody(Unattributed::AccountLimit);
        }
        self.restore(known);
        self.changed.push(owner);
        owner
    }

    fn has_room(&self, word: Word) -> bool {
        word == Word::AccountsFile || self.counts.get(word as usize).is_some_and(|count| *count < self.most as usize)
    }

    fn edit(&mut self, owner: Owner, change: impl FnOnce(&mut Known)) -> bool {
        let entry = slot(owner).and_then(|slot| self.known.get_mut(slot)).and_then(Option::as_mut);
        let Some(known) = entry else { return false };
        count(&mut self.counts, known, false);
        change(known);
        count(&mut self.counts, known, true);
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

/// One more of its kind, or one less.
fn count(counts: &mut [usize; 3], known: &Known, more: bool) {
    if let Some(count) = counts.get_mut(known.word() as usize) {
        *count = if more { *count + 1 } else { count.saturating_sub(1) };
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
    fn what_the_log_names_takes_no_room_from_the_accounts_that_there_are() {
        let mut accounts = Accounts::new(1, 2);
        let nobody = Owner::nobody(Unattributed::AccountLimit);
        for n in 0..250 {
            accounts.intern(&format!("forged{n}"), AT);
        }
        assert_eq!(accounts.len(), 2);
        // Of the accounts file: all of them.
        assert!((0..9).all(|n| accounts.intern_listed(&format!("listed{n}"), AT).is_account()));
        // Of the name service: as many again, however many uids the log names.
        let users = (0..250).map(|n| accounts.intern_user(&format!("web{n}"), 2_000 + n, "/home", AT));
        assert_eq!(users.filter(|owner| owner.is_account()).count(), 2);
        assert_eq!((accounts.len(), accounts.intern("late", AT)), (13, nobody));
        // One that the log named first is the name service's from the moment that it is known there.
        accounts.set_most(3);
        accounts.intern_user("forged0", 3_000, "/home", AT);
        assert!(accounts.intern("late", AT).is_account());
        assert_eq!(accounts.intern_user("web9", 2_009, "/home", AT), nobody);
    }

    #[test]
    fn who_is_listed_is_as_the_accounts_file_says_now() {
        let mut accounts = Accounts::new(1, 2);
        accounts.intern("a", AT);
        accounts.intern("b", AT);
        assert!(!accounts.intern("c", AT).is_account());
        accounts.set_listed(["a", "unheard-of"].into_iter());
        let c = accounts.intern("c", AT);
        assert!(c.is_account(), "a takes no room any more");
        accounts.set_listed(["b"].into_iter());
        assert!(!accounts.intern("d", AT).is_account(), "a and c fill it");
        assert!(accounts.forget(c) && accounts.intern("d", AT).is_account());
        let known = accounts.get(Owner(Owner::FIRST_ACCOUNT)).cloned().unwrap();
        accounts.restore(known);
        assert_eq!(accounts.len(), 3, "it is there already");
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
