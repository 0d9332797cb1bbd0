//! Suggested limits as a configuration that can be loaded as it is; the reasons are its comments.

use super::Suggested;
use crate::app::commands::replay::{Side, stamp};
use crate::app::commands::{counted, grouped};
use crate::app::numbers::span;
use crate::engine::limits::FEWEST;
use crate::engine::rules::{Lane, Peak};
use crate::mail::text::clean;
use crate::mail::{Signal, Time};

/// Most accounts named for a rule.
const NAMED: usize = 10;
/// Less log than this has not seen a week's newsletter.
const WEEK: i64 = 7 * 86_400;

pub fn text(side: &Side, suggested: &[Suggested], (from, to): (Time, Time)) -> String {
    let day = |at: Time| stamp(at).chars().take(10).collect::<String>();
    let (long, lines) = (to.secs_since(from), counted(side.ingest.counts.total, "line", "lines"));
    let mut out = format!(
        "# Limits that `sendwarden suggest` learnt from {} of log ({} to {}, {lines}).\n\
         # Try them on the same logs: sendwarden replay --config THIS_FILE LOGS\n\
         #\n\
         # Of each account the busiest window counts. A limit is at least 3 times what 95 % of the accounts reached; who comes\n\
         # close behind the ordinary ones is ordinary too. The highest 5 % teach it nothing: they may be those to be caught.\n\
         # The rules only observe. `action: block` arms one; look at whom it hits first.\n",
        span(long),
        day(from),
        day(to),
    );
    if long < WEEK {
        out.push_str("# This is less than a week: who sends a newsletter once a week or a month may not be in it.\n");
    }
    out.push_str("rules:\n");
    for (n, one) in suggested.iter().enumerate() {
        if n > 0 {
            out.push('\n');
        }
        out.push_str(&entry(side, one));
    }
    out
}

fn entry(side: &Side, one: &Suggested) -> String {
    let Suggested { rule, advice, accounts, hits } = one;
    let whose = if rule.lane == Lane::Login { ("login", "logins") } else { ("account", "accounts") };
    let value = |n: u64| if rule.signal.has_tenths() { rule.signal.shown(n) } else { grouped(n) };
    let whose_mail = match rule.lane {
        _ if matches!(rule.signal, Signal::LoginAddresses | Signal::Scripts) => "",
        Lane::Script => " of scripts",
        Lane::Login => " of a login",
        Lane::All => " of all mail",
    };
    let what = rule.signal.words().to_owned() + whose_mail;
    let window = span(i64::from(rule.window_secs));
    let number = counted(*accounts as u64, whose.0, whose.1);
    let learnt = if advice.few {
        format!("only {number} sent: of fewer than {FEWEST} nothing is learnt, this is the built-in limit")
    } else {
        format!("{number}, of which 95 % reached {} at most, half of them {}", value(advice.most), value(advice.half))
    };
    let mut out = format!("  # {what} within {window}: {learnt}\n");
    let spared = format!("the highest below the limit reached {}", value(advice.spared));
    if hits.is_empty() {
        out.push_str(&format!("  # hits nobody of these logs; {spared}\n"));
    } else {
        out.push_str(&format!("  # would have hit {}; {spared}\n", counted(hits.len() as u64, whose.0, whose.1)));
    }
    for peak in hits.iter().take(NAMED) {
        let times = peak.observed as f64 / advice.limit.max(1) as f64;
        let (name, at) = (named(side, peak), stamp(peak.at));
        out.push_str(&format!("  #   {name}: {} ({times:.1} times the limit), {at}\n", value(peak.observed)));
    }
    if hits.len() > NAMED {
        out.push_str(&format!("  #   … and {} more: --format json\n", grouped((hits.len() - NAMED) as u64)));
    }
    let number = |n: u64| if rule.signal.has_tenths() { format!("{}", n as f64 / 10.0) } else { n.to_string() };
    let (limit, built_in) = (number(advice.limit), number(rule.limit));
    let same = if limit == built_in { "as built in".to_owned() } else { format!("built in: {built_in}") };
    out.push_str(&format!("  - name: {}\n    limit: {limit}    # {same}\n    action: observe\n", rule.name));
    out
}

/// In a comment nothing may end the line.
fn named(side: &Side, peak: &Peak) -> String {
    let account = clean(side.name(peak.owner).as_bytes(), 128);
    match &peak.login {
        Some(login) if **login != *account => format!("{} of {account}", clean(login.as_bytes(), 128)),
        _ => account,
    }
}
