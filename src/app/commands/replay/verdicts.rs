//! What the rules would have said of old logs.

use super::counted;
use crate::engine::Engine;
use crate::mail::{Signal, Verdict};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Most verdicts in the text form.
const SHOWN: usize = 40;

pub fn json(engine: &Engine, verdict: &Verdict) -> Value {
    json!({
        "time": stamp(verdict),
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
    })
}

/// A share is a percentage.
fn number(signal: Signal, value: u64) -> Value {
    match signal {
        Signal::ErrorRatio => json!(value as f64 / 10.0),
        _ => json!(value),
    }
}

fn stamp(verdict: &Verdict) -> String {
    jiff::Timestamp::from_second(verdict.at.secs()).map_or_else(|_| String::new(), |at| at.to_string())
}

/// Behind the figures: nothing where no rule spoke.
pub fn text(engine: &Engine, verdicts: &[Verdict]) -> String {
    if verdicts.is_empty() {
        return String::new();
    }
    let mut accounts: BTreeMap<&str, u64> = BTreeMap::new();
    for verdict in verdicts {
        *accounts.entry(&verdict.rule).or_default() += 1;
    }
    let by: Vec<String> = accounts.iter().map(|(rule, n)| format!("{rule} {n}")).collect();
    let n = counted(verdicts.len() as u64, "verdict", "verdicts");
    let mut out = format!("\nThe rules would have spoken: {n} ({})\n", by.join(", "));
    for verdict in verdicts.iter().take(SHOWN) {
        let (name, what) = (engine.attribution.accounts.name(verdict.owner), verdict.text());
        let measure = verdict.measure.name();
        out.push_str(&format!("  {}  {name:<24} {:<26} {what} ({measure})\n", stamp(verdict), &*verdict.rule));
    }
    if verdicts.len() > SHOWN {
        let more = counted((verdicts.len() - SHOWN) as u64, "more verdict", "more verdicts");
        out.push_str(&format!("  … and {more}: use --format json\n"));
    }
    out
}
