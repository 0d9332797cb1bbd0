//! Accounts that are held and that the accounts file does not list any more, found when the agent starts (where there is no
//! former file to compare with) and by `check`. See `engine::unlisted`.

use crate::app::pump;
use crate::app::setup::Setup;
use crate::engine::Engine;
use crate::engine::directory::{AccountSpec, Directory};
use crate::engine::sanctions::{SANCTION_KIND, read_account};
use crate::engine::unlisted;
use crate::mail::Owner;
use crate::store::Views;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// One that is held and not listed: what people call it, and what the file said of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    pub name: String,
    pub spec: AccountSpec,
}

/// Those among the accounts that were listed when they were last held.
pub fn of_engine(engine: &Engine, listed: &BTreeMap<Owner, Vec<u8>>, directory: &Directory) -> Vec<Kept> {
    let accounts = &engine.attribution.accounts;
    let held = listed.iter().filter(|(owner, _)| engine.sanctions.is_blocked(**owner));
    let named = held.filter_map(|(owner, entry)| {
        let known = accounts.get(*owner)?;
        Some((known.name.to_string(), known.key.to_string(), entry.as_slice()))
    });
    missing(named, directory)
}

/// The same for who only looks. Where there is no store nobody was ever held, and of one that cannot be read others tell.
pub fn of_setup(setup: &Setup) -> Vec<Kept> {
    if !setup.state_dir.join(crate::store::FILE_NAME).exists() {
        return Vec::new();
    }
    let found = Views::open(&setup.state_dir).map_err(|why| why.to_string());
    let found = found.and_then(|views| in_store(&views, &setup.directory));
    found.unwrap_or_else(|why| {
        tracing::debug!("who is held is not known: {why}");
        Vec::new()
    })
}

/// The same from the store.
///
/// # Errors
/// What keeps the store from being read.
fn in_store(views: &Views, directory: &Directory) -> Result<Vec<Kept>, String> {
    let all = |kind| views.rows(kind).map_err(|why| why.to_string());
    let entries: HashMap<u32, Vec<u8>> = all(pump::LISTED_KIND)?.iter().filter_map(pump::read_listed).collect();
    if entries.is_empty() {
        return Ok(Vec::new());
    }
    let keys: HashMap<u32, String> = all(pump::KEY_KIND)?.iter().filter_map(pump::read_key).collect();
    let mut names = HashMap::new();
    for row in views.accounts().map_err(|why| why.to_string())? {
        names.insert(row.owner, row.name);
    }
    let sanctions = all(SANCTION_KIND)?;
    let held = sanctions.iter().filter_map(|row| {
        let (owner, account) = read_account(&row.key, row.value.as_deref()?)?;
        account.block.map(|_| owner.0)
    });
    let named = held.filter_map(|owner| {
        let name = names.get(&owner)?;
        Some((name.clone(), keys.get(&owner).unwrap_or(name).clone(), entries.get(&owner)?.as_slice()))
    });
    Ok(missing(named, directory))
}

fn missing<'e>(held: impl Iterator<Item = (String, String, &'e [u8])>, directory: &Directory) -> Vec<Kept> {
    let listed: BTreeSet<&str> = directory.accounts().iter().map(|spec| spec.id.as_str()).collect();
    let read = |(name, key, entry): (String, String, &[u8])| {
        let spec = unlisted::read(entry)?;
        Some(Kept { name, spec }).filter(|kept| kept.spec.id == key && !listed.contains(&*key))
    };
    held.filter_map(read).collect()
}

/// The directory with them.
pub fn with(directory: &Directory, kept: &[Kept]) -> Directory {
    let specs: Vec<AccountSpec> = kept.iter().map(|one| one.spec.clone()).collect();
    unlisted::with(directory.clone(), &specs).unwrap_or_else(|errors| {
        // They are from one accounts file, in which nothing had two owners.
        for error in errors {
            tracing::error!("what is held and not listed any more is not kept, and may go out: {error}");
        }
        directory.clone()
    })
}

/// What is wrong, of all of them.
pub fn text(names: &[String]) -> String {
    /// Those that are named; more would not be read.
    const NAMED: usize = 5;
    let mut shown = names.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
    if names.len() > NAMED {
        shown.push_str(&format!(" and {} more", names.len() - NAMED));
    }
    let (are, their) = if names.len() == 1 { ("is", "its") } else { ("are", "their") };
    let them = if names.len() == 1 { "it" } else { "them" };
    format!("{shown} {are} held and the accounts file does not list {them} any more: {their} mail would go out")
}

/// What to do about it.
pub const NEXT: &str = "list every account that is held, or unblock or purge it first, then reload";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_are_held_are_named_and_not_too_many_of_them() {
        let names = |n: usize| (0..n).map(|n| format!("a{n}")).collect::<Vec<_>>();
        assert!(text(&names(1)).starts_with("a0 is held and the accounts file does not list it any more: its mail"));
        assert!(text(&names(2)).starts_with("a0, a1 are held and the accounts file does not list them any more"));
        assert!(text(&names(7)).starts_with("a0, a1, a2, a3, a4 and 2 more are held"));
    }
}
