//! What rules said, from the store's committed state: with what it rests on, and what to do next.

use super::views::{named, unavailable, when};
use crate::engine::evidence::advice::{Hints, Words, advice};
use crate::engine::rules::Fate;
use crate::mail::{Owner, ReplyClass, Scope, Signal};
use crate::store::{VerdictRecord, Views};
use crate::web::api::{AdviceView, Answer, EvidenceView, ShareView, VerdictView, VerdictsView, WordsView};
use std::collections::HashMap;

/// Of an account, or of all, newest first.
pub fn verdicts(views: &Views, name: Option<&str>, limit: u32) -> Answer<VerdictsView> {
    if let Some(name) = name {
        let named = named(views, name)?;
        return Ok(VerdictsView { verdicts: of(views, named.owner, &named.name, limit as usize)? });
    }
    let accounts = views.accounts().map_err(unavailable)?;
    let names: HashMap<u32, String> = accounts.into_iter().map(|row| (row.owner, row.name)).collect();
    let kept = views.verdicts(None, limit as usize).map_err(unavailable)?;
    let name = |owner: u32| names.get(&owner).cloned().unwrap_or_default();
    Ok(VerdictsView { verdicts: kept.into_iter().map(|one| verdict(&one, name(one.row.owner))).collect() })
}

/// Those of one account, newest first.
pub fn of(views: &Views, owner: Owner, name: &str, limit: usize) -> Answer<Vec<VerdictView>> {
    let kept = views.verdicts(Some(owner.0), limit).map_err(unavailable)?;
    Ok(kept.iter().map(|one| verdict(one, name.to_owned())).collect())
}

fn verdict(record: &VerdictRecord, account: String) -> VerdictView {
    let row = &record.row;
    let signal = Signal::ALL.into_iter().find(|signal| signal.name() == row.signal);
    let number = |n: u64| if signal.is_some_and(Signal::has_tenths) { n as f64 / 10.0 } else { n as f64 };
    let shown = |n: u64| signal.map_or_else(|| n.to_string(), |signal| signal.shown(n));
    let outcome = Fate::from_name(&row.outcome).map_or("", Fate::shown);
    let words = signal.map_or_else(|| row.signal.replace('_', " "), |signal| signal.words().to_owned());
    let (observed, limit) = (shown(row.observed), shown(row.limit));
    let kept = record.evidence.as_deref().and_then(|text| serde_json::from_str(text).ok());
    let attribution = if row.proven { "proven" } else { "claimed" }.to_owned();
    let evidence = EvidenceView { attribution, ..kept.unwrap_or_default() };
    VerdictView {
        account,
        time: when(row.at),
        observed: number(row.observed),
        limit: number(row.limit),
        text: format!("{observed} {words}, limit {limit}: {outcome}"),
        rule: row.rule.clone(),
        signal: row.signal.clone(),
        window: row.window,
        action: row.action.clone(),
        outcome: row.outcome.clone(),
        scope: row.scope.clone(),
        next: next(record, signal, &evidence),
        evidence,
        order: row.order.clone(),
    }
}

fn next(record: &VerdictRecord, signal: Option<Signal>, evidence: &EvidenceView) -> AdviceView {
    let most = |list: &[ShareView]| list.first().map(|share| share.name.clone()).unwrap_or_default();
    let scope = Scope::from_name(&record.row.scope).unwrap_or_default();
    let blocked = matches!(Fate::from_name(&record.row.outcome), Some(Fate::Blocks | Fate::Already));
    let said = advice(&Hints {
        signal,
        scope: &scope,
        script: &most(&evidence.scripts),
        directory: &most(&evidence.directories),
        class: ReplyClass::from_name(&most(&evidence.classes)),
        blocked,
    });
    let words = |words: Words| WordsView { en: words.en, fr: words.fr };
    AdviceView { owner: words(said.owner), operator: words(said.operator) }
}
