//! The counters of the whole host: one line per label combination, with a staged and a shown value.
//!
//! Staged is what the batch being committed makes of it, shown is what scrapers see; they meet at `publish`.
//! So a figure is never shown that a crash could take back, which Prometheus would read as a counter reset.

use std::collections::HashMap;

use super::families::Family;

/// One counter.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub family: Family,
    /// Values in the order of the family's label names.
    pub labels: Box<[Box<str>]>,
    pub shown: u64,
    staged: u64,
    /// Admission number: scrapers that were here before it see 0 once.
    pub seq: u64,
    unsaved: bool,
}

impl Line {
    /// As a scraper sees it that has seen everything up to number `since`.
    pub fn seen_by(&self, since: u64) -> Line {
        let mut line = self.clone();
        if line.seq > since {
            line.shown = 0;
        }
        line
    }
}

/// All counters of the host.
#[derive(Debug, Default)]
pub(super) struct Series {
    lines: Vec<Line>,
    index: HashMap<String, usize>,
    /// How many lines a family has.
    sizes: HashMap<Family, usize>,
    touched: Vec<usize>,
}

impl Series {
    /// The line of a label combination; made when there is none. Beyond `cap` lines of the family, the line whose
    /// labels are `fallback`.
    pub fn line(&mut self, family: Family, labels: &[&str], seq: &mut u64, cap: usize, fallback: &[&str]) -> usize {
        if let Some(at) = self.index.get(&family.key(labels)) {
            return *at;
        }
        let size = self.sizes.get(&family).copied().unwrap_or(0);
        if size >= cap {
            if let Some(at) = self.index.get(&family.key(fallback)) {
                return *at;
            }
            return self.push(family, fallback, seq);
        }
        self.push(family, labels, seq)
    }

    /// A line that exists from the start, so that Prometheus sees its 0.
    pub fn fixed(&mut self, family: Family, labels: &[&str]) -> usize {
        self.line(family, labels, &mut 0, usize::MAX, &[])
    }

    fn push(&mut self, family: Family, labels: &[&str], seq: &mut u64) -> usize {
        let key = family.key(labels);
        // Sequence 0 is for lines that were there from the start.
        if *seq > 0 {
            *seq += 1;
        }
        let at = self.lines.len();
        self.lines.push(Line {
            family,
            labels: labels.iter().map(|label| Box::from(*label)).collect(),
            shown: 0,
            staged: 0,
            seq: *seq,
            unsaved: false,
        });
        self.index.insert(key, at);
        *self.sizes.entry(family).or_insert(0) += 1;
        at
    }

    /// Adds to what the next `publish` will show.
    pub fn add(&mut self, at: usize, n: u64) {
        if n == 0 {
            return;
        }
        if let Some(line) = self.lines.get_mut(at) {
            line.staged = line.staged.saturating_add(n);
            line.unsaved = true;
            self.touched.push(at);
        }
    }

    /// Adds to what is shown right now: for figures that no batch carries.
    pub fn add_now(&mut self, at: usize, n: u64) {
        if let Some(line) = self.lines.get_mut(at) {
            line.staged = line.staged.saturating_add(n);
            line.shown = line.shown.saturating_add(n);
            line.unsaved = true;
        }
    }

    /// The same, with what the next `publish` would show.
    pub fn show_now(&mut self, at: usize, n: u64) {
        self.add_now(at, n);
        if let Some(line) = self.lines.get_mut(at) {
            line.shown = line.staged;
        }
    }

    pub fn publish(&mut self) {
        for at in self.touched.drain(..) {
            if let Some(line) = self.lines.get_mut(at) {
                line.shown = line.staged;
            }
        }
    }

    /// Counters changed since the last call, with their staged values.
    pub fn save(&mut self) -> Vec<(String, u64)> {
        let mut saved = Vec::new();
        for line in self.lines.iter_mut().filter(|line| line.unsaved) {
            line.unsaved = false;
            let labels: Vec<&str> = line.labels.iter().map(AsRef::as_ref).collect();
            saved.push((line.family.key(&labels), line.staged));
        }
        saved
    }

    /// Takes up saved counters. Bounded families get their lines back at once, in the order given.
    pub fn restore(&mut self, saved: impl IntoIterator<Item = (String, u64)>) {
        for (key, value) in saved {
            if let Some(line) = self.index.get(&key).and_then(|at| self.lines.get_mut(*at)) {
                line.staged = value;
                line.shown = value;
                continue;
            }
            let mut parts = key.split('\u{1f}');
            let base = parts.next().unwrap_or_default();
            let labels: Vec<&str> = parts.collect();
            let family = Family::ALL.iter().copied().find(|family| family.about().base == base);
            // A counter of a family that this version does not know is dropped.
            let Some(family) = family else { continue };
            // Delays are read back only into lines that exist: a direction's buckets must lie side by side. Other labels
            // mean that the server has another name now.
            if family != Family::Delay && family.about().labels.len() == labels.len() {
                let at = self.push(family, &labels, &mut 0);
                if let Some(line) = self.lines.get_mut(at) {
                    line.staged = value;
                    line.shown = value;
                }
            }
        }
    }

    pub fn shown(&self, at: usize) -> u64 {
        self.lines.get(at).map_or(0, |line| line.shown)
    }

    pub fn of(&self, family: Family) -> impl Iterator<Item = &Line> {
        self.lines.iter().filter(move |line| line.family == family)
    }
}
