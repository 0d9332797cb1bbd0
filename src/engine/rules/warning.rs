//! A quota that comes to its end: told once in its window at half of it, and at nine tenths.

use super::rule::Rule;
use super::usage::Usage;
use crate::mail::Verdict;

/// In percent, the highest first.
const LEVELS: [u64; 2] = [90, 50];

/// So much of a quota is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    pub percent: u64,
    /// As if the rule had spoken.
    pub verdict: Verdict,
}

/// The level that is reached and was not told in this window. A higher one tells the lower ones too.
pub fn reached(rule: &Rule, identity: u64, observed: u64, usage: &mut Usage, now: u32) -> Option<u64> {
    let mut told = None;
    for (level, percent) in (1..).zip(LEVELS) {
        let is_reached = observed.saturating_mul(100) >= rule.limit.saturating_mul(percent);
        // Names of rules are hashes: one beside it is another.
        if is_reached && usage.may_tell(identity.wrapping_add(level), now, rule.window_secs) && told.is_none() {
            told = Some(percent);
        }
    }
    // Who is beyond it hears that.
    told.filter(|_| observed <= rule.limit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::Signal;

    #[test]
    fn half_and_nine_tenths_are_told_once_in_a_window() {
        let rule = Rule { warns: true, ..Rule::new("quota", Signal::Recipients, 3_600, 10) };
        let mut usage = Usage::new([].iter());
        let mut told = |observed, now| reached(&rule, 7, observed, &mut usage, now);
        assert_eq!([4, 5, 6, 9, 10].map(|observed| told(observed, 100)), [None, Some(50), None, Some(90), None]);
        // One large message tells the higher one only; what is beyond the quota is told as that.
        assert_eq!(
            [(9, 3_700), (5, 3_800), (11, 9_000)].map(|(observed, now)| told(observed, now)),
            [Some(90), None, None]
        );
        assert_eq!(told(9, 9_001), None, "it was told that it is beyond it");
    }
}
