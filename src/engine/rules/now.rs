//! What the rules see of an account now: for those who draw it.

use super::usage::{Cell, lower_bound};
use super::{PROVEN, Rules, Subject, about, force, seconds};
use crate::engine::attribution::Attribution;
use crate::mail::{Owner, Time};
use std::sync::Arc;

/// A window of an account, as one rule looks at it; in the unit of its signal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sight {
    pub rule: Arc<str>,
    /// In tenths of a percent.
    pub is_share: bool,
    pub observed: u64,
    pub limit: u64,
}

impl Rules {
    /// Windows in which there is something, of what is proven to be the account's, for the rules that are about it; logins are
    /// not looked at. `now`: log time.
    pub fn sights(&mut self, owner: Owner, attribution: &Attribution, now: Time) -> Vec<Sight> {
        let mut sights = Vec::new();
        let Rules { proven, rules, slots, forced, .. } = self;
        let Some(usage) = proven.get_mut(owner.0 as usize).and_then(Option::as_deref_mut) else { return sights };
        let subject = Subject { owner, part: PROVEN };
        let about = usage.rules(|| about(rules, subject.owner, attribution));
        for slot in slots.those_of(false).filter(|slot| slot.rules.iter().any(|number| about >> *number & 1 == 1)) {
            let (second, bucket) = (seconds(now), slot.bucket_of(seconds(now)));
            let (observed, sample) = match usage.cell(slot) {
                Some(Cell::Count(window) | Cell::New(window, _)) => (window.look(bucket), u64::MAX),
                Some(Cell::Ratio(errors, ended)) => {
                    let (errors, ended) = (errors.look(bucket), ended.look(bucket));
                    (lower_bound(errors, ended), ended)
                }
                Some(Cell::Distinct(distinct)) => (distinct.look(slot.bucket_of(second)), u64::MAX),
                _ => continue,
            };
            let its = slot.rules.iter().filter(|number| about >> **number & 1 == 1);
            for rule in its.filter_map(|number| rules.get(usize::from(*number))) {
                // Too small a sample says nothing.
                if observed == 0 || sample < u64::from(rule.min_sample) {
                    continue;
                }
                let is_share = rule.signal.has_tenths();
                sights.push(Sight {
                    rule: rule.name.clone(),
                    is_share,
                    observed,
                    limit: force::limit(rule, forced, owner),
                });
            }
        }
        sights
    }
}
