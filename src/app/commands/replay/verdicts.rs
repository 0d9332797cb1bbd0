//! What the rules would have said of old logs, and what would have come of it.

use super::counted;
use crate::engine::Engine;
use crate::engine::rules::Fate;
use crate::engine::trial::Tried;
use crate::mail::{Signal, Time};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Most verdicts in the text form.
const SHOWN: usize = 40;

pub fn json(engine: &Engine, tried: &Tried) -> Value {
    let Tried { verdict, fate, held, until } = tried;
    let mut view = json!({
        "time": stamp(verdict.at),
        "account": engine.attribution.accounts.name(verdict.owner),
        "rule": &*verdict.rule,
        "signal": verdict.signal.name(),
        "observed": number(verdict.signal, verdict.observed),
        "limit": number(verdict.signal, verdict.limit),
        "window": verdict.window_secs,
        "action": verdict.measure.name(),
        "scope": verdict.scope.to_string(),
        "state": verdict.cause.state().name(),
        "evidence": if verdict.proven { "proven" } else { "claimed" },
        "outcome": fate.name(),
    });
    if let (Some(until), Some(view)) = (until, view.as_object_mut()) {
        view.insert("held".to_owned(), json!(held));
        view.insert("until".to_owned(), json!(stamp(*until)));
    }
    view
}

/// A share is a percentage, and times have a fraction.
pub fn number(signal: Signal, value: u64) -> Value {
    if signal.has_tenths() { json!(value as f64 / 10.0) } else { json!(value) }
}

pub fn stamp(at: Time) -> String {
    jiff::Timestamp::from_second(at.secs()).map_or_else(|_| String::new(), |at| at.to_string())
}

/// What came of it, for people.
fn outcome(tried: &Tried) -> String {
    match tried.fate {
        Fate::Observed => "only observed".to_owned(),
        Fate::Notified => "only told".to_owned(),
        Fate::Blocks => format!("blocks: {} held", counted(tried.held, "message", "messages")),
        fate => fate.shown().to_owned(),
    }
}

/// Behind the figures: nothing where no rule spoke.
pub fn text(engine: &Engine, tried: &[Tried]) -> String {
    if tried.is_empty() {
        return String::new();
    }
    let mut rules: BTreeMap<&str, u64> = BTreeMap::new();
    for Tried { verdict, .. } in tried {
        *rules.entry(&verdict.rule).or_default() += 1;
    }
    let by: Vec<String> = rules.iter().map(|(rule, n)| format!("{rule} {n}")).collect();
    let n = counted(tried.len() as u64, "verdict", "verdicts");
    let mut out = format!("\nThe rules would have spoken: {n} ({})\n", by.join(", "));
    for one in tried.iter().take(SHOWN) {
        let verdict = &one.verdict;
        let (name, what) = (engine.attribution.accounts.name(verdict.owner), verdict.text());
        let (at, came) = (stamp(verdict.at), outcome(one));
        out.push_str(&format!("  {at}  {name:<24} {:<26} {what} ({came})\n", &*verdict.rule));
    }
    if tried.len() > SHOWN {
        let more = counted((tried.len() - SHOWN) as u64, "more verdict", "more verdicts");
        out.push_str(&format!("  … and {more}: use --format json\n"));
    }
    out
}
