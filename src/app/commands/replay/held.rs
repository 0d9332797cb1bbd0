//! What blocks would have held: by account and by rule.

use super::verdicts::stamp;
use super::{Side, counted};
use crate::app::commands::fitted;
use crate::engine::trial::{Totals, Tried};
use crate::mail::{Measure, Owner, Time};
use serde_json::{Map, Value, json};
use std::cmp::Reverse;
use std::sync::Arc;

/// Most accounts in the text form.
const SHOWN: usize = 40;

/// All of them, also where no rule is to block.
fn all(side: &Side) -> Totals {
    side.trial.totals(|_| ()).remove(&()).unwrap_or_default()
}

pub fn json(side: &Side) -> Value {
    let (mut accounts, mut rules) = (Map::new(), Map::new());
    for (owner, its) in side.trial.totals(|verdict| verdict.owner) {
        accounts.insert(side.name(owner).to_owned(), json!({"messages": its.held, "blocks": its.blocks}));
    }
    for (rule, its) in side.trial.totals(|verdict| verdict.rule.clone()) {
        let view = json!({"messages": its.held, "blocks": its.blocks, "accounts": its.accounts.len()});
        rules.insert(rule.to_string(), view);
    }
    let all = all(side);
    json!({
        "messages": all.held,
        "blocks": all.blocks,
        "accounts": all.accounts.len(),
        "by_account": accounts,
        "by_rule": rules,
    })
}

/// Behind the verdicts. `configured`: somebody asks about rules of their own.
pub fn text(side: &Side, configured: bool) -> String {
    let armed = side.engine.rules.rules().iter().any(|rule| rule.measure == Measure::Block);
    if !armed {
        let hint =
            "\nNone of these rules blocks. With `action: block` in --config, what would be held is counted too.\n";
        return if configured && !side.trial.tried().is_empty() { hint.to_owned() } else { String::new() };
    }
    let all = all(side);
    if all.blocks == 0 {
        return "\nNobody would have been blocked.\n".to_owned();
    }
    let accounts = counted(all.accounts.len() as u64, "account", "accounts");
    let (blocks, messages) = (counted(all.blocks, "block", "blocks"), counted(all.held, "message", "messages"));
    let mut out = format!("\n{accounts} would have been blocked, and {messages} held ({blocks})\n");
    let mut rows: Vec<(Owner, Totals)> = side.trial.totals(|verdict| verdict.owner).into_iter().collect();
    rows.sort_by_key(|(owner, its)| (Reverse(its.held), *owner));
    out.push_str(&format!(
        "  {:<24} {:>9} {:>7}  {:<20}  {:<20}  rules\n",
        "account", "held", "blocks", "from", "until"
    ));
    for (owner, its) in rows.iter().take(SHOWN) {
        let (from, until, rules) = span(side, *owner);
        let (name, rules) = (fitted(side.name(*owner), 24), rules.join(", "));
        let (from, until) = (stamp(from), stamp(until));
        out.push_str(&format!("  {name:<24} {:>9} {:>7}  {from:<20}  {until:<20}  {rules}\n", its.held, its.blocks));
    }
    if rows.len() > SHOWN {
        let more = counted((rows.len() - SHOWN) as u64, "more account", "more accounts");
        out.push_str(&format!("  … and {more}: use --format json\n"));
    }
    for (rule, its) in side.trial.totals(|verdict| verdict.rule.clone()) {
        let accounts = counted(its.accounts.len() as u64, "account", "accounts");
        out.push_str(&format!("  rule {rule}: {accounts}, {} held\n", counted(its.held, "message", "messages")));
    }
    out
}

/// From the first block of an account to the end of the last one, and which rules made them.
fn span(side: &Side, owner: Owner) -> (Time, Time, Vec<Arc<str>>) {
    let (mut from, mut until, mut rules) = (Time(i64::MAX), Time::ZERO, Vec::new());
    for Tried { verdict, until: end, .. } in side.trial.tried() {
        let Some(end) = end.filter(|_| verdict.owner == owner) else { continue };
        (from, until) = (from.min(verdict.at), until.max(end));
        if !rules.contains(&verdict.rule) {
            rules.push(verdict.rule.clone());
        }
    }
    (from, until, rules)
}
