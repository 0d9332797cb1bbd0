//! `sendwarden suggest`: limits for the built-in rules, from the busiest windows of the accounts in old logs.

mod yaml;

use super::replay::{Done, Side, read};
use super::{complain, pretty, say};
use crate::app::Exit;
use crate::app::cli::{SuggestArgs, SuggestFormat};
use crate::engine::limits::{self, Advice};
use crate::engine::rules::{Lane, Peak, Rule, built_in};
use crate::mail::{Owner, Signal};
use serde_json::{Value, json};
use std::cmp::Reverse;
use std::collections::BTreeSet;

/// Beyond so many, different addresses of a login are not told apart.
const MOST_ADDRESSES: u64 = 10_000;

pub fn run(args: &SuggestArgs) -> Exit {
    let mut side = match Side::new(args.config.as_deref(), &args.logs) {
        Ok(side) => side,
        Err(why) => {
            complain(&why);
            return Exit::Usage;
        }
    };
    side.engine.rules.set(looking());
    side.engine.rules.keep_peaks();
    let mut sides = [side];
    let done = match read("suggest", &args.logs, args.format == SuggestFormat::Json, &mut sides) {
        Ok(done) => done,
        Err(exit) => return exit,
    };
    let [mut side] = sides;
    let peaks = side.engine.rules.take_peaks();
    let Some(span) = side.trial.span.filter(|_| !peaks.is_empty()) else {
        complain(
            "suggest: no account sends anything in these logs, so there is nothing to learn from: are they the mail \
             server's, and does `sendwarden replay` attribute its messages to accounts?",
        );
        return Exit::Failed;
    };
    let suggested: Vec<Suggested> = suggested(peaks);
    let said = match args.format {
        SuggestFormat::Json => say(&pretty(&json_of(&side, &suggested, span, &done))),
        SuggestFormat::Yaml => say(&yaml::text(&side, &suggested, span)),
    };
    if done.broken > 0 { Exit::Failed } else { said }
}

/// The built-in rules with limits that everything is beyond, and one more so that addresses are told apart beyond them.
fn looking() -> Vec<Rule> {
    let mut rules: Vec<Rule> = built_in().into_iter().map(|rule| Rule { limit: 0, ..rule }).collect();
    let addresses = rules.iter().find(|rule| rule.signal == Signal::LoginAddresses).cloned();
    rules.extend(addresses.map(|rule| Rule { name: "addresses".into(), limit: MOST_ADDRESSES, ..rule }));
    rules
}

/// What is advised for one rule, and whom it would hit.
struct Suggested {
    /// As it is built in.
    rule: Rule,
    advice: Advice,
    /// Accounts, or logins, that sent at all.
    accounts: usize,
    /// The highest first.
    hits: Vec<Peak>,
}

fn suggested(peaks: Vec<Peak>) -> Vec<Suggested> {
    let rules = built_in();
    // Whoever sent in a lane has reached something of one of its rules.
    let senders = |lane: Lane| {
        let its = peaks.iter().filter(|peak| rules.get(peak.rule).is_some_and(|rule| rule.lane == lane));
        its.map(|peak| (peak.owner, peak.login.as_deref())).collect::<BTreeSet<(Owner, Option<&str>)>>().len()
    };
    let one = |(number, rule): (usize, &Rule)| {
        let its: Vec<&Peak> = peaks.iter().filter(|peak| peak.rule == number).collect();
        let values: Vec<u64> = its.iter().map(|peak| peak.observed).collect();
        let accounts = senders(rule.lane);
        let advice = limits::advise(&values, accounts, rule);
        let mut hits: Vec<Peak> = its.into_iter().filter(|peak| peak.observed > advice.limit).cloned().collect();
        hits.sort_by_key(|peak| (Reverse(peak.observed), peak.owner, peak.login.clone()));
        Suggested { rule: rule.clone(), advice, accounts, hits }
    };
    rules.iter().enumerate().map(one).collect()
}

fn json_of(side: &Side, suggested: &[Suggested], span: (crate::mail::Time, crate::mail::Time), done: &Done) -> Value {
    use super::replay::{number, stamp};
    let rule = |one: &Suggested| {
        let Suggested { rule, advice, accounts, hits } = one;
        let value = |n: u64| number(rule.signal, n);
        let hit = |peak: &Peak| {
            let at = stamp(peak.at);
            let mut view = json!({"account": side.name(peak.owner), "observed": value(peak.observed), "time": at});
            if let (Some(login), Some(view)) = (&peak.login, view.as_object_mut()) {
                view.insert("login".to_owned(), json!(login));
            }
            view
        };
        json!({
            "name": &*rule.name,
            "signal": rule.signal.name(),
            "window": rule.window_secs,
            "scope": rule.lane.name(),
            "limit": value(advice.limit),
            "built_in": value(rule.limit),
            "learnt": !advice.few,
            "population": accounts,
            "percentiles": {"50": value(advice.half), "95": value(advice.most)},
            "highest_spared": value(advice.spared),
            "hits": hits.iter().map(hit).collect::<Vec<Value>>(),
        })
    };
    json!({
        "from": stamp(span.0),
        "to": stamp(span.1),
        "lines": side.ingest.counts.total,
        "bytes": done.bytes,
        "rules": suggested.iter().map(rule).collect::<Vec<Value>>(),
    })
}
