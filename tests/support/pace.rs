//! How fast mail of an account reached the receiver.

#![allow(clippy::unwrap_used, reason = "a test")]

use super::sink::Received;

/// When each message of this prefix came, in milliseconds, with the number behind the prefix; the first first.
pub fn arrivals(messages: &[Received], prefix: &str) -> Vec<(i64, usize)> {
    let number = |one: &Received| one.unique()?.strip_prefix(prefix)?.parse().ok();
    let mut all: Vec<(i64, usize)> = messages.iter().filter_map(|one| Some((one.at, number(one)?))).collect();
    all.sort_unstable();
    all
}

/// Never more than `limit` within any `secs`, and all `total` of them once; where they came in their order, each turn's numbers before
/// the next one's.
pub fn check(arrivals: &[(i64, usize)], limit: usize, secs: i64, total: usize, ordered: bool) {
    let mut numbers: Vec<usize> = arrivals.iter().map(|(_, number)| *number).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..total).collect::<Vec<_>>(), "each once");
    for (at, _) in arrivals {
        let within = arrivals.iter().filter(|(other, _)| (*at..at + secs * 1_000).contains(other)).count();
        assert!(within <= limit, "{within} within {secs} s, limit {limit}: {arrivals:?}");
    }
    // A turn is what comes without half a window between.
    let mut turns: Vec<Vec<usize>> = Vec::new();
    let mut before = i64::MIN;
    for (at, number) in arrivals {
        if at.saturating_sub(before) > secs * 500 {
            turns.push(Vec::new());
        }
        before = *at;
        turns.last_mut().unwrap().push(*number);
    }
    assert!(turns.len() >= total.div_ceil(limit), "{turns:?}");
    for pair in turns.windows(2).filter(|_| ordered) {
        assert!(pair[0].iter().max() < pair[1].iter().min(), "the oldest first: {turns:?}");
    }
}
