//! Two configurations over the same logs: of whom a rule speaks only with the one, only with the other, or with both.

use super::{Side, counted};
use crate::app::commands::fitted;
use crate::engine::rules::Fate;
use crate::engine::trial::Tried;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Most lines of each kind in the text form.
const SHOWN: usize = 40;

/// What one rule said of one account.
#[derive(Debug, Clone, Default)]
struct Said {
    verdicts: u64,
    blocks: u64,
    held: u64,
    /// The first time.
    what: String,
}

impl Said {
    fn json(&self) -> Value {
        json!({"verdicts": self.verdicts, "blocks": self.blocks, "held": self.held})
    }

    fn short(&self) -> String {
        match self.blocks {
            0 => "blocks nobody".to_owned(),
            _ => format!("blocks, {} held", counted(self.held, "message", "messages")),
        }
    }
}

/// By account and rule: what was said before, and what is said now. One of them at least.
pub struct Compared(BTreeMap<(String, String), (Option<Said>, Option<Said>)>);

impl Compared {
    pub fn new(now: &Side, before: &Side) -> Compared {
        let mut all: BTreeMap<(String, String), (Option<Said>, Option<Said>)> = BTreeMap::new();
        for (side, is_now) in [(before, false), (now, true)] {
            for Tried { verdict, fate, held, .. } in side.trial.tried() {
                let key = (side.name(verdict.owner).to_owned(), verdict.rule.to_string());
                let both = all.entry(key).or_default();
                let said = if is_now { &mut both.1 } else { &mut both.0 };
                let said = said.get_or_insert_with(|| Said { what: verdict.text(), ..Said::default() });
                said.verdicts += 1;
                said.blocks += u64::from(*fate == Fate::Blocks);
                said.held += held;
            }
        }
        Compared(all)
    }

    fn added(&self) -> impl Iterator<Item = (&(String, String), &Said)> {
        self.0.iter().filter_map(|(key, both)| Some((key, both.1.as_ref().filter(|_| both.0.is_none())?)))
    }

    fn gone(&self) -> impl Iterator<Item = (&(String, String), &Said)> {
        self.0.iter().filter_map(|(key, both)| Some((key, both.0.as_ref().filter(|_| both.1.is_none())?)))
    }

    fn same(&self) -> impl Iterator<Item = (&(String, String), &Said, &Said)> {
        self.0.iter().filter_map(|(key, (before, now))| Some((key, before.as_ref()?, now.as_ref()?)))
    }

    /// What is held, before and now.
    fn held(&self) -> (u64, u64) {
        let of = |said: &Option<Said>| said.as_ref().map_or(0, |said| said.held);
        self.0.values().fold((0, 0), |(before, now), both| (before + of(&both.0), now + of(&both.1)))
    }

    pub fn json(&self) -> Value {
        let one = |((account, rule), said): (&(String, String), &Said)| {
            let Said { verdicts, blocks, held, .. } = said;
            json!({"account": account, "rule": rule, "verdicts": verdicts, "blocks": blocks, "held": held})
        };
        let same = |((account, rule), before, now): (&(String, String), &Said, &Said)| json!({"account": account, "rule": rule, "before": before.json(), "now": now.json()});
        let (before, now) = self.held();
        json!({
            "new": self.added().map(one).collect::<Vec<Value>>(),
            "gone": self.gone().map(one).collect::<Vec<Value>>(),
            "same": self.same().map(same).collect::<Vec<Value>>(),
            "held": {"before": before, "now": now},
        })
    }

    /// Behind everything else. `other`: the configuration that is compared with.
    pub fn text(&self, other: &str) -> String {
        let (new, gone, same) = (self.added().count(), self.gone().count(), self.same().count());
        let mut out = format!(
            "\n\nAgainst {other}: {new} new, {gone} gone, {same} the same (an account and a rule count once)\n"
        );
        let line = |out: &mut String, sign: char, (account, rule): &(String, String), what: &str| {
            out.push_str(&format!("  {sign} {:<24} {:<26} {what}\n", fitted(account, 24), fitted(rule, 26)));
        };
        for (key, said) in self.added().take(SHOWN) {
            line(&mut out, '+', key, &format!("{} ({})", said.what, said.short()));
        }
        cut(&mut out, new, "new");
        for (key, said) in self.gone().take(SHOWN) {
            line(&mut out, '-', key, &format!("{} ({}): no more", said.what, said.short()));
        }
        cut(&mut out, gone, "gone");
        for (key, before, now) in self.same().take(SHOWN) {
            let (was, is) = (before.short(), now.short());
            line(&mut out, '=', key, &if was == is { is } else { format!("{is} (before: {was})") });
        }
        cut(&mut out, same, "the same");
        let (before, now) = self.held();
        if before + now > 0 {
            out.push_str(&format!("  Held: {}, before {before}\n", counted(now, "message", "messages")));
        }
        out
    }
}

fn cut(out: &mut String, all: usize, kind: &str) {
    if all > SHOWN {
        out.push_str(&format!("  … and {} more {kind}: use --format json\n", all - SHOWN));
    }
}
