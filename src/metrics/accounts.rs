//! Which accounts have series of their own: sticky admission up to a limit, all others added up as `other`.
//!
//! An admitted account keeps its place until it is forgotten, over restarts too. What it did before stays in `other`
//! as its *base*, so that every counter, `other` included, only grows. Nothing here judges accounts.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::mail::{Counts, Origin, Outcome, Owner, Time, text};

/// Longest label text, in bytes.
pub const LABEL_BYTES: usize = 128;

/// The label that stands for all accounts without series of their own.
pub const OTHER: &str = "other";

/// How accounts are named in labels. Account names are personal data in some places.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AccountLabel {
    #[default]
    Name,
    /// A stable pseudonym; not a secret, short names can be guessed.
    Hash,
    /// No series per account at all: everything is `other`.
    None,
}

/// Counters of an account: messages by origin, recipients by outcome, deferrals.
pub(super) const ORIGINS: usize = Origin::ALL.len();
pub(super) const OUTCOMES: usize = Outcome::ALL.len();
pub const COUNTERS: usize = ORIGINS + OUTCOMES + 1;

/// The counters of one account: messages by origin, then recipients by outcome, then deferrals.
pub type Counters = [u64; COUNTERS];

/// The absolute figures of an account, as the ledger has them.
#[derive(Debug, Clone, Copy)]
pub struct OwnerFigures<'a> {
    pub owner: Owner,
    /// Raw name; it is cleaned here.
    pub name: &'a str,
    pub counts: Counts,
    /// Messages by origin, in the order of `Origin::ALL`.
    pub origins: [u64; ORIGINS],
    /// Messages of the account's local day, which ends at `today_until`.
    pub today: u64,
    pub today_until: Time,
}

/// The place of an admitted account, to be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    pub owner: Owner,
    /// Order of admission.
    pub seq: u64,
    /// What the account had counted before it was admitted.
    pub base: Counters,
}

#[derive(Debug, Clone, Copy, Default)]
struct Figures {
    counters: Counters,
    today: u64,
    today_until: Time,
    queued: u64,
    held: u64,
}

impl Figures {
    fn of(figures: &OwnerFigures<'_>) -> Figures {
        let c = &figures.counts;
        let ends = [c.sent, c.bounced, c.expired, c.deleted, c.unaccounted, c.deferred];
        let mut counters = [0; COUNTERS];
        for (cell, value) in counters.iter_mut().zip(figures.origins.into_iter().chain(ends)) {
            *cell = value;
        }
        Figures { counters, today: figures.today, today_until: figures.today_until, queued: c.queued, held: c.held }
    }

    fn today(&self, now: Time) -> u64 {
        if now < self.today_until { self.today } else { 0 }
    }
}

#[derive(Debug)]
struct Admitted {
    label: Arc<str>,
    seq: u64,
    base: Counters,
    windows: Arc<[WindowGauge]>,
}

#[derive(Debug)]
struct Cell {
    owner: Owner,
    shown: Figures,
    admitted: Option<Box<Admitted>>,
}

/// What a scrape shows of one account, or of `other`.
#[derive(Debug, Clone)]
pub(super) struct AccountView {
    pub label: Arc<str>,
    pub counters: Counters,
    pub today: u64,
    pub queued: u64,
    pub held: u64,
    pub windows: Arc<[WindowGauge]>,
}

/// What a rule sees of an account now, in the unit of its limit.
#[derive(Debug, Clone, PartialEq)]
pub struct WindowGauge {
    pub rule: Arc<str>,
    pub value: f64,
    pub limit: f64,
}

/// All accounts.
#[derive(Debug)]
pub(super) struct Accounts {
    cells: Vec<Cell>,
    index: HashMap<Owner, usize, foldhash::fast::RandomState>,
    labels: HashSet<Arc<str>>,
    limit: usize,
    naming: AccountLabel,
    tracked: usize,
    staged: Vec<(Owner, Figures)>,
    new_slots: Vec<Slot>,
    /// What forgotten accounts left in `other`.
    residue: Counters,
}

impl Accounts {
    pub fn new(limit: usize, naming: AccountLabel) -> Accounts {
        Accounts {
            cells: Vec::new(),
            index: HashMap::default(),
            labels: HashSet::from([Arc::from(OTHER)]),
            limit: if naming == AccountLabel::None { 0 } else { limit },
            naming,
            tracked: 0,
            staged: Vec::new(),
            new_slots: Vec::new(),
            residue: [0; COUNTERS],
        }
    }

    pub fn set_limit(&mut self, limit: usize) {
        self.limit = if self.naming == AccountLabel::None { 0 } else { limit };
    }

    pub fn known(&self) -> usize {
        self.cells.len()
    }

    pub fn tracked(&self) -> usize {
        self.tracked
    }

    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Takes in the figures that the batch gives an account; they show after `publish`. Returns how many events of
    /// the batch went to `other`. An account without a place gets one if there is room: its base is what was shown
    /// of it so far, so the events of this very batch are its own.
    pub fn stage(&mut self, figures: &OwnerFigures<'_>, seq: &mut u64) -> u64 {
        if !figures.owner.is_account() {
            return 0;
        }
        let next = Figures::of(figures);
        let room = self.tracked < self.limit;
        let at = self.cell(figures.owner);
        let Some(cell) = self.cells.get(at) else { return 0 };
        let mut folded = 0;
        if cell.admitted.is_none() {
            let base = cell.shown.counters;
            if room {
                *seq += 1;
                let slot = Slot { owner: figures.owner, seq: *seq, base };
                self.admit(slot, figures.name);
                self.new_slots.push(slot);
            } else {
                folded = grown(&next.counters, &base);
            }
        }
        self.staged.push((figures.owner, next));
        folded
    }

    pub fn publish(&mut self) {
        for (owner, figures) in self.staged.drain(..) {
            if let Some(cell) = self.index.get(&owner).and_then(|at| self.cells.get_mut(*at)) {
                cell.shown = figures;
            }
        }
        // A usual batch has fewer; what a backlog of many accounts took is given back.
        self.staged.shrink_to(4_096);
    }

    /// Accounts with series of their own.
    pub fn owners(&self) -> Vec<Owner> {
        self.cells.iter().filter(|cell| cell.admitted.is_some()).map(|cell| cell.owner).collect()
    }

    /// What rules see of one now; shown at once, for it is no counter.
    pub fn see(&mut self, owner: Owner, windows: Vec<WindowGauge>) {
        let cell = self.index.get(&owner).and_then(|at| self.cells.get_mut(*at));
        if let Some(admitted) = cell.and_then(|cell| cell.admitted.as_mut())
            && *admitted.windows != *windows
        {
            admitted.windows = windows.into();
        }
    }

    /// Slots given since the last call.
    pub fn save(&mut self) -> Vec<Slot> {
        std::mem::take(&mut self.new_slots)
    }

    pub fn residue(&self) -> &Counters {
        &self.residue
    }

    /// Takes up all accounts of the store with their figures, and the saved slots of some of them.
    pub fn restore<'a>(
        &mut self,
        slots: &[Slot],
        residue: Counters,
        owners: impl IntoIterator<Item = OwnerFigures<'a>>,
    ) {
        self.residue = residue;
        let mut slots: Vec<Slot> = slots.to_vec();
        // Same order of admission, same labels when two names clean to the same text.
        slots.sort_unstable_by_key(|slot| slot.seq);
        let wanted: HashMap<Owner, usize> = slots.iter().enumerate().map(|(at, slot)| (slot.owner, at)).collect();
        let mut names: Vec<Option<String>> = vec![None; slots.len()];
        for figures in owners.into_iter().filter(|figures| figures.owner.is_account()) {
            let at = self.cell(figures.owner);
            if let Some(cell) = self.cells.get_mut(at) {
                cell.shown = Figures::of(&figures);
            }
            if let Some(name) = wanted.get(&figures.owner).and_then(|at| names.get_mut(*at)) {
                *name = Some(figures.name.to_owned());
            }
        }
        for (slot, name) in slots.into_iter().zip(names) {
            match name {
                Some(name) if self.naming != AccountLabel::None => self.admit(slot, &name),
                // The account is gone, or no account has a label any more: with its own figures back in `other`
                // the base is there already; of a gone one only the base is left.
                Some(_) => {}
                None => add(&mut self.residue, &slot.base),
            }
        }
    }

    /// A person forgot the account: its series go, what it left in `other` stays there.
    pub fn forget(&mut self, owner: Owner) {
        let Some(at) = self.index.remove(&owner) else { return };
        let cell = self.cells.swap_remove(at);
        if let Some(moved) = self.cells.get(at) {
            self.index.insert(moved.owner, at);
        }
        match cell.admitted {
            Some(admitted) => {
                self.labels.remove(&admitted.label);
                self.tracked -= 1;
                add(&mut self.residue, &admitted.base);
            }
            None => add(&mut self.residue, &cell.shown.counters),
        }
        self.staged.retain(|(staged, _)| *staged != owner);
        self.new_slots.retain(|slot| slot.owner != owner);
    }

    /// The account has a new name: its series go on under it.
    pub fn rename(&mut self, owner: Owner, name: &str) {
        let Some(at) = self.index.get(&owner).copied() else { return };
        let Some(admitted) = self.cells.get_mut(at).and_then(|cell| cell.admitted.as_mut()) else { return };
        self.labels.remove(&admitted.label);
        let label = label(self.naming, owner, name, &self.labels);
        admitted.label = Arc::clone(&label);
        self.labels.insert(label);
    }

    /// Everything a scrape shows: accounts in order of admission, `other` last. Accounts admitted after `since`
    /// have their counters at 0.
    pub fn views(&self, now: Time, since: u64) -> Vec<AccountView> {
        let mut views = Vec::with_capacity(self.tracked + 1);
        let mut other = AccountView {
            label: Arc::from(OTHER),
            counters: self.residue,
            today: 0,
            queued: 0,
            held: 0,
            windows: [].into(),
        };
        for cell in &self.cells {
            let shown = &cell.shown;
            match &cell.admitted {
                Some(admitted) => {
                    add(&mut other.counters, &admitted.base);
                    let mut counters = [0; COUNTERS];
                    if admitted.seq <= since {
                        for (cell, (now, base)) in counters.iter_mut().zip(shown.counters.iter().zip(&admitted.base)) {
                            *cell = now.saturating_sub(*base);
                        }
                    }
                    views.push(AccountView {
                        label: Arc::clone(&admitted.label),
                        counters,
                        today: shown.today(now),
                        queued: shown.queued,
                        held: shown.held,
                        windows: Arc::clone(&admitted.windows),
                    });
                }
                None => {
                    add(&mut other.counters, &shown.counters);
                    other.today += shown.today(now);
                    other.queued += shown.queued;
                    other.held += shown.held;
                }
            }
        }
        views.push(other);
        views
    }

    fn cell(&mut self, owner: Owner) -> usize {
        let next = self.cells.len();
        let at = *self.index.entry(owner).or_insert(next);
        if at == next {
            self.cells.push(Cell { owner, shown: Figures::default(), admitted: None });
        }
        at
    }

    fn admit(&mut self, slot: Slot, name: &str) {
        let label = label(self.naming, slot.owner, name, &self.labels);
        let Some(cell) = self.index.get(&slot.owner).and_then(|at| self.cells.get_mut(*at)) else { return };
        if cell.admitted.is_none() {
            self.tracked += 1;
            self.labels.insert(Arc::clone(&label));
            cell.admitted = Some(Box::new(Admitted { label, seq: slot.seq, base: slot.base, windows: [].into() }));
        }
    }
}

/// The label text of an account. Two names may clean to the same text, and nobody may be called `other`:
/// then the owner's number tells them apart, for a series given twice loses one of its values.
fn label(naming: AccountLabel, owner: Owner, name: &str, taken: &HashSet<Arc<str>>) -> Arc<str> {
    let text = match naming {
        AccountLabel::Name | AccountLabel::None => text::clean(name.as_bytes(), LABEL_BYTES),
        AccountLabel::Hash => format!("{:016x}", fnv1a(name.as_bytes())),
    };
    if !text.is_empty() && !taken.contains(text.as_str()) {
        return Arc::from(text);
    }
    let mut numbered = format!("{}~{}", text::clean(text.as_bytes(), LABEL_BYTES - 16), owner.0);
    while taken.contains(numbered.as_str()) {
        numbered.push('~');
    }
    Arc::from(numbered)
}

/// FNV-1a, 64 bits: a pseudonym must be the same in every version of the agent, which no library hasher promises.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

fn add(sum: &mut Counters, more: &Counters) {
    for (cell, value) in sum.iter_mut().zip(more) {
        *cell = cell.saturating_add(*value);
    }
}

fn grown(now: &Counters, before: &Counters) -> u64 {
    now.iter().zip(before).map(|(now, before)| now.saturating_sub(*before)).sum()
}
