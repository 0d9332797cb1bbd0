//! A limit from what accounts did: well above what is ordinary, and below those that stand out.
//!
//! Pure. Of the accounts that sent, the highest twentieth is left aside, for it may be those that are to be caught. Three
//! times what the others reached is ordinary for sure. From there on everybody is ordinary who reaches less than twice what
//! the next lower one did: abusers stand apart, and a host's busiest customers follow each other closely.

use super::rules::Rule;
use crate::mail::Signal;

/// Of fewer accounts nothing is learnt.
pub const FEWEST: usize = 10;
/// One in so many is left aside.
pub const ASIDE: usize = 20;
/// So many times what the others reached is ordinary for sure, and so many times is not, whoever is in between.
const SURE: u64 = 3;
const TOO_MUCH: u64 = 20;
/// No number of a configuration is higher.
const HIGHEST: u64 = 1_000_000_000;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advice {
    pub limit: u64,
    /// What half of the accounts reached at most, and all but the highest twentieth.
    pub half: u64,
    pub most: u64,
    /// The highest value that is not beyond the limit.
    pub spared: u64,
    /// There were too few to learn from.
    pub few: bool,
}

/// Below this no limit is advised, however little the accounts send: a host's quiet months are no reason to stop a
/// customer's first newsletter. A share of errors and the addresses of a login do not depend on how busy a host is.
pub fn floor(rule: &Rule) -> u64 {
    match rule.signal {
        Signal::Recipients => rule.limit / 10,
        Signal::UnknownRecipients => 20,
        Signal::SpamVerdicts => 10,
        _ => rule.limit,
    }
}

/// `peaks`: the highest value of each of `accounts` that has any. `rule`: the built-in one.
pub fn advise(peaks: &[u64], accounts: usize, rule: &Rule) -> Advice {
    let mut peaks = peaks.to_vec();
    peaks.sort_unstable();
    let accounts = accounts.max(peaks.len());
    let without = accounts - peaks.len();
    // Of the so many lowest, the highest: the nearest rank.
    let of_lowest = |n: usize| n.checked_sub(without + 1).and_then(|at| peaks.get(at)).copied().unwrap_or(0);
    let half = of_lowest(accounts.div_ceil(2));
    let most = of_lowest(accounts - (accounts / ASIDE).max(1).min(accounts));
    let few = accounts < FEWEST;
    let limit = if few { rule.limit } else { limit(&peaks, most, rule) };
    let spared = peaks.iter().copied().take_while(|peak| *peak <= limit).last().unwrap_or(0);
    Advice { limit, half, most, spared, few }
}

/// `peaks` in their order.
fn limit(peaks: &[u64], most: u64, rule: &Rule) -> u64 {
    let ceiling = if rule.signal == Signal::ErrorRatio { 1_000 } else { HIGHEST };
    let sure = floor(rule).max(most.saturating_mul(SURE)).min(ceiling);
    let too_much = rule.limit.max(most.saturating_mul(TOO_MUCH)).min(ceiling);
    let (ordinary, beyond) = peaks.split_at(peaks.partition_point(|peak| *peak <= sure));
    let mut ordinary = ordinary.last().copied().unwrap_or(0);
    let mut apart = None;
    for peak in beyond {
        if *peak >= ordinary.saturating_mul(2) {
            apart = Some(*peak);
            break;
        }
        ordinary = *peak;
    }
    // As far from the highest ordinary one as from the first that stands apart, and twice the ordinary at most.
    let room = apart.map_or(u64::MAX, |apart| ordinary.saturating_mul(apart).isqrt());
    let limit = ordinary.saturating_mul(2).min(room).clamp(sure.min(too_much), too_much);
    let round = rounded(limit).min(ceiling);
    let first = peaks.iter().find(|peak| **peak > limit);
    if first.is_none_or(|first| *first > round) { round } else { limit }
}

/// Up to two digits.
fn rounded(n: u64) -> u64 {
    let unit = 10_u64.pow(n.checked_ilog10().unwrap_or(0).saturating_sub(1));
    n.div_ceil(unit).saturating_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::super::rules::built_in;
    use super::*;

    fn rule(name: &str) -> Rule {
        built_in().into_iter().find(|rule| *rule.name == *name).unwrap()
    }

    /// 2,000 recipients an hour, never less than 200.
    fn per_hour(peaks: &[u64], accounts: usize) -> Advice {
        advise(peaks, accounts, &rule("recipients_per_hour"))
    }

    #[test]
    fn a_few_that_stand_apart_do_not_move_the_limit() {
        let ordinary: Vec<u64> = (1..=190).collect();
        let without = per_hour(&ordinary, 190);
        assert_eq!((without.half, without.most, without.limit, without.spared), (95, 181, 550, 190));
        for abusers in [vec![5_000], vec![5_000; 9], vec![1_900, 4_000, 90_000]] {
            let all = [ordinary.clone(), abusers.clone()].concat();
            let with = per_hour(&all, all.len());
            assert!(with.limit >= 500 && with.limit < abusers[0], "{with:?}");
            assert_eq!(with.spared, 190);
        }
    }

    #[test]
    fn the_busiest_customers_are_ordinary_where_they_follow_each_other_closely() {
        let mut peaks: Vec<u64> = vec![10; 995];
        peaks.extend([90, 170, 300, 500, 900, 15_000]);
        let advice = per_hour(&peaks, 1_001);
        assert!((1_800..=2_000).contains(&advice.limit) && advice.spared == 900, "{advice:?}");
        // Many abusers of all sizes end that where it is too much.
        peaks.extend([1_700, 3_000, 5_500, 9_000]);
        assert_eq!(per_hour(&peaks, 1_005).limit, 2_000);
    }

    #[test]
    fn a_quiet_host_keeps_a_floor_and_who_has_none_counts() {
        assert_eq!(per_hour(&[1; 100], 100).limit, 200);
        // Those who are told that they send spam are all abusers: of the accounts they are few.
        let spam = advise(&[60, 80, 200], 100, &rule("spam_verdicts"));
        assert_eq!((spam.limit, spam.most, spam.spared), (10, 0, 0));
        assert_eq!(advise(&[250, 900], 100, &rule("error_ratio")).limit, 300);
        assert_eq!(advise(&[1_000; 50], 50, &rule("error_ratio")).limit, 1_000, "no share is higher");
        assert_eq!(advise(&[1; 99], 100, &rule("login_addresses")).limit, 20);
    }

    #[test]
    fn of_few_accounts_nothing_is_learnt() {
        let advice = per_hour(&[5_000, 6_000, 7_000], 3);
        assert_eq!((advice.limit, advice.few), (2_000, true));
        assert_eq!(per_hour(&[], 0).limit, 2_000);
        assert!(!per_hour(&[5_000; 10], 10).few);
    }

    #[test]
    fn limits_are_round_and_never_catch_whom_rounding_would_let_go() {
        assert_eq!([0, 7, 99, 101, 1_999, 123_456].map(rounded), [0, 7, 99, 110, 2_000, 130_000]);
        for gap in 2..60 {
            let peaks: Vec<u64> = [vec![101; 99], vec![101 * gap]].concat();
            let advice = per_hour(&peaks, 100);
            assert!(advice.spared == 101 || gap <= 3, "{gap}: {advice:?}");
            assert_eq!(gap <= 3, advice.limit >= 101 * gap, "{gap}: {advice:?}");
        }
    }
}
