//! What the accounts file says of those who are held is kept in the store: the agent may be started with another file.

use super::Pump;
use crate::engine::unlisted;
use crate::mail::Owner;
use crate::store::Row;
use std::collections::{BTreeMap, HashMap};

// See `rows`, which has the kinds of all the others.
/// Per held account that is listed: its entry of the accounts file.
const LISTED: u8 = 17;
/// The same, for views.
pub const LISTED_KIND: u8 = LISTED;

/// The entries, as they are in the store.
#[derive(Debug, Default)]
pub(super) struct Listed {
    pub entries: BTreeMap<Owner, Vec<u8>>,
    /// Another accounts file is in force.
    pub due: bool,
}

pub(super) fn row(owner: Owner, entry: Option<Vec<u8>>) -> Row {
    Row { kind: LISTED, key: owner.0.to_be_bytes().to_vec(), value: entry }
}

/// The account, and its entry.
pub fn read_listed(row: &Row) -> Option<(u32, Vec<u8>)> {
    let owner = u32::from_be_bytes(row.key.as_slice().try_into().ok()?);
    Some((owner, row.value.clone()?))
}

impl Pump {
    /// Goes into the batch that the blocks themselves are in.
    pub(super) fn keep_listed(&mut self) {
        if !std::mem::take(&mut self.listed.due) && !self.engine.sanctions.standing_has_changed() {
            return;
        }
        let accounts = &self.engine.attribution.accounts;
        let held: HashMap<&str, Owner> = self
            .engine
            .sanctions
            .blocked()
            .filter_map(|owner| accounts.get(owner).map(|known| (&*known.key, owner)))
            .collect();
        let mut now = BTreeMap::new();
        if !held.is_empty() {
            for spec in self.engine.attribution.directory().accounts() {
                if let Some(owner) = held.get(spec.id.as_str()) {
                    now.insert(*owner, unlisted::write(spec));
                }
            }
        }
        let before = &self.listed.entries;
        let gone = before.keys().filter(|owner| !now.contains_key(owner)).map(|owner| row(*owner, None));
        let new = now.iter().filter(|(owner, entry)| before.get(owner) != Some(entry));
        let new = new.map(|(owner, entry)| row(*owner, Some(entry.clone())));
        self.batch.rows.extend(gone.chain(new));
        self.listed.entries = now;
    }
}
