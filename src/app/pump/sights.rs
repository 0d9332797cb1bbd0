//! What rules see of accounts, as gauges: of those that moved, and now and then of all, for windows slide.

use super::Pump;
use crate::engine::rules::Sight;
use crate::host::clock;
use crate::mail::Owner;
use crate::metrics::WindowGauge;
use std::time::{Duration, Instant};

/// A burst is seen this soon.
const STEP: Duration = Duration::from_millis(500);
/// How often those are looked at that do not move.
const ALL: Duration = Duration::from_secs(15);
/// Of more that moved, all are looked at.
const MOST_MOVED: usize = 50_000;

#[derive(Debug, Default)]
pub(super) struct Sights {
    moved: Vec<Owner>,
    looked: Option<Instant>,
    looked_at_all: Option<Instant>,
    /// As told last.
    pub evaluations: u64,
}

impl Sights {
    pub fn moved(&mut self, owners: &[Owner]) {
        if self.moved.len() + owners.len() <= MOST_MOVED {
            self.moved.extend_from_slice(owners);
        } else {
            self.looked_at_all = None;
        }
    }
}

impl Pump {
    /// Costs what accounts with series of their own cost that moved, twice in a second.
    pub(super) fn show_sights(&mut self) {
        let due = |at: Option<Instant>, step: Duration| at.is_none_or(|at| at.elapsed() >= step);
        if self.engine.rules.is_empty() || !due(self.sights.looked, STEP) {
            return;
        }
        let all = due(self.sights.looked_at_all, ALL);
        let mut moved = std::mem::take(&mut self.sights.moved);
        if !all && moved.is_empty() {
            return;
        }
        moved.sort_unstable();
        moved.dedup();
        let now = self.engine.tracker.high();
        let owners = self.metrics.owners().into_iter().filter(|owner| all || moved.binary_search(owner).is_ok());
        let (rules, attribution) = (&mut self.engine.rules, &self.engine.attribution);
        let seen = owners.map(|owner| (owner, rules.sights(owner, attribution, now).iter().map(gauge).collect()));
        self.metrics.see(seen.collect());
        let looked = Some(clock::monotonic());
        self.sights.looked = looked;
        if all {
            self.sights.looked_at_all = looked;
        }
    }
}

fn gauge(sight: &Sight) -> WindowGauge {
    let shown = |n: u64| if sight.is_share { n as f64 / 10.0 } else { n as f64 };
    WindowGauge { rule: sight.rule.clone(), value: shown(sight.observed), limit: shown(sight.limit) }
}
