//! Who is held, by everything that the account's mail is known by: for the gate and the flags, and for `check`, which
//! compares the flags with it.

use crate::app::pump;
use crate::engine::directory::Directory;
use crate::engine::sanctions::{SANCTION_KIND, read_account};
use crate::engine::turnstile::{Barred, Room};
use crate::host::names::Names;
use crate::mail::Owner;
use crate::store::Views;
use std::collections::HashMap;

/// The uids whose mail is the account's: those of the accounts file and of its unix users, or its own name's.
pub fn uids(directory: &Directory, names: &mut Names, key: &str, own: Option<u32>) -> Vec<u32> {
    let spec = directory.accounts().iter().find(|spec| spec.id == key);
    let (mut uids, users) = match spec {
        Some(spec) => (spec.uids.clone(), spec.unix_users.clone()),
        None => (own.into_iter().collect(), vec![key.to_owned()]),
    };
    for user in users {
        uids.extend(names.user_named(user.as_bytes()).map(|user| user.uid));
    }
    uids.extend(key.strip_prefix("uid").and_then(|uid| uid.parse::<u32>().ok()));
    // A uid that another account lists is that one's, whatever its user is called.
    uids.retain(|uid| directory.by_uid(*uid).is_none_or(|id| id == key));
    uids.sort_unstable();
    uids.dedup();
    uids
}

/// The names of the unix users whose mail is the account's, as the mail server is told them.
pub fn users(directory: &Directory, names: &mut Names, barred: &Barred) -> Vec<String> {
    let mut found: Vec<String> = barred.uids.iter().filter_map(|uid| names.user(*uid)).map(|user| user.login).collect();
    let listed = directory.accounts().iter().find(|spec| spec.id == barred.key);
    for user in listed.map_or(&[][..], |spec| &spec.unix_users) {
        // The name service does not answer: the name alone leads to the account.
        if names.user_named(user.as_bytes()).is_none() {
            found.push(user.clone());
        }
    }
    found
}

/// Everybody who is held, as the store has it. Room is not told.
///
/// # Errors
/// What keeps the store from being read.
pub fn in_store(views: &Views, directory: &Directory, names: &mut Names) -> Result<Vec<Barred>, String> {
    let all = |kind| views.rows(kind).map_err(|why| why.to_string());
    let keys: HashMap<u32, String> = all(pump::KEY_KIND)?.iter().filter_map(pump::read_key).collect();
    let mut known = HashMap::new();
    for row in views.accounts().map_err(|why| why.to_string())? {
        let key = keys.get(&row.owner).cloned().unwrap_or(row.name);
        known.insert(Owner(row.owner), (key, row.uid));
    }
    let mut barred = Vec::new();
    for row in all(SANCTION_KIND)? {
        let Some((owner, account)) = row.value.as_deref().and_then(|value| read_account(&row.key, value)) else {
            continue;
        };
        let (Some(block), Some((key, own))) = (account.block, known.get(&owner)) else { continue };
        let uids = uids(directory, names, key, *own);
        barred.push(Barred {
            owner,
            key: key.clone(),
            uids,
            scope: block.scope,
            order: block.order,
            room: Room::default(),
            slow: false,
        });
    }
    Ok(barred)
}
