//! What the gate has decided, gathered beside the pump and handed to its next batch.
//!
//! It knows no account: a decision is counted by how the message came in and what was answered.

use super::families::Family;
use crate::mail::Origin;

/// Upper bounds of the time an answer takes, in microseconds; what is slower than the last is in `+Inf`.
pub const BOUNDS_US: [u64; 9] = [100, 250, 500, 1_000, 2_500, 5_000, 25_000, 100_000, 1_000_000];
/// Buckets with `+Inf`.
pub const BUCKETS: usize = BOUNDS_US.len() + 1;

/// What became of a message at the gate. A closed set: it is a metric label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    Passed,
    Held,
    /// Refused for good, so that the person who sends it knows at once.
    Refused,
    /// Passed because the gate only watches.
    WouldHold,
    /// Thrown away: there was no room to hold more of the account.
    Discarded,
    /// Put off for now: whose it is can be proven again in a moment.
    Tempfailed,
}

impl Decision {
    pub const ALL: [Decision; 6] = [
        Decision::Passed,
        Decision::Held,
        Decision::Refused,
        Decision::WouldHold,
        Decision::Discarded,
        Decision::Tempfailed,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Decision::Passed => "passed",
            Decision::Held => "held",
            Decision::Refused => "refused",
            Decision::WouldHold => "would_hold",
            Decision::Discarded => "discarded",
            Decision::Tempfailed => "tempfailed",
        }
    }
}

/// Counts since the last batch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GateTally {
    pub(super) decisions: [[u64; Decision::ALL.len()]; Origin::ALL.len()],
    /// By reason.
    pub(super) unknown: Vec<(&'static str, u64)>,
    /// Held, and neither written down nor remembered.
    pub(super) unrecorded: u64,
    pub(super) broken: u64,
    pub(super) buckets: [u64; BUCKETS],
    pub(super) sum_us: u64,
}

impl GateTally {
    pub fn decided(&mut self, origin: Origin, decision: Decision) {
        self.decided_of(origin, decision, 1);
    }

    pub fn decided_of(&mut self, origin: Origin, decision: Decision, messages: u64) {
        let cell = self.decisions.get_mut(usize::from(origin.code())).and_then(|row| row.get_mut(decision as usize));
        if let Some(cell) = cell {
            *cell += messages;
        }
    }

    /// Nobody could be named as the sender; `reason` is one of a closed set.
    pub fn unknown(&mut self, reason: &'static str) {
        match self.unknown.iter_mut().find(|(why, _)| *why == reason) {
            Some((_, n)) => *n += 1,
            None => self.unknown.push((reason, 1)),
        }
    }

    pub fn unrecorded(&mut self) {
        self.unrecorded += 1;
    }

    pub fn broken(&mut self) {
        self.broken += 1;
    }

    /// An answer was written so many microseconds after its question was read.
    pub fn answered(&mut self, us: u64) {
        let at = BOUNDS_US.partition_point(|bound| *bound < us);
        if let Some(bucket) = self.buckets.get_mut(at) {
            *bucket += 1;
        }
        self.sum_us = self.sum_us.saturating_add(us);
    }

    /// Adds what a gate has counted.
    pub(super) fn add(&mut self, other: &GateTally) {
        for (mine, theirs) in self.decisions.iter_mut().flatten().zip(other.decisions.iter().flatten()) {
            *mine += theirs;
        }
        for (mine, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
            *mine += theirs;
        }
        for (reason, n) in &other.unknown {
            match self.unknown.iter_mut().find(|(why, _)| why == reason) {
                Some((_, mine)) => *mine += n,
                None => self.unknown.push((reason, *n)),
            }
        }
        self.unrecorded += other.unrecorded;
        self.broken += other.broken;
        self.sum_us = self.sum_us.saturating_add(other.sum_us);
    }
}

/// Messages that a gate has held, of anybody, on a page of text as it is scraped.
pub fn held_on(page: &str) -> u64 {
    let series = format!("{}_total{{", Family::GateDecisions.about().base);
    let held = format!("decision=\"{}\"", Decision::Held.name());
    let lines = page.lines().filter(|line| line.starts_with(&series) && line.contains(&held));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).map(|n| n as u64).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_held_is_read_from_a_page_and_nothing_else() {
        let name = Family::GateDecisions.about().base;
        let page = format!(
            "# HELP {name} x\n{name}_total{{origin=\"script\",decision=\"held\"}} 7\n\
             {name}_total{{origin=\"local_smtp\",decision=\"held\"}} 2\n{name}_total{{origin=\"script\",decision=\"passed\"}} 40\n"
        );
        assert_eq!((held_on(&page), held_on("")), (9, 0));
    }
}
