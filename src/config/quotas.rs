//! The `quotas` of the configuration: how much an account may send in an hour and in a day. Each becomes a rule for
//! recipients, which warns before its limit is reached.

use super::node::Node;
use super::problem::Found;
use super::read::open;
use super::rules::target;
use crate::engine::rules::{Lane, MAX_RULES, Rule, Target};
use crate::mail::{Measure, Signal};

const HOUR: u32 = 3_600;
const DAY: u32 = 86_400;

/// Reads the list, and adds the rules that it makes.
pub(super) fn read(top: &Node, keys: &[&str], rules: &mut Vec<Rule>, found: &mut Vec<Found>) {
    let hint = "write `- {for: plan:NAME, max_per_hour: 100}` per quota, or remove `quotas`";
    let items = match top.get("quotas") {
        None => return,
        Some(Node::List(items)) => items,
        Some(other) => {
            let message = format!("expected a list of quotas, found {}", other.kind());
            return found.push(Found::new("quotas", message).hint(hint));
        }
    };
    for (i, item) in items.iter().enumerate() {
        let mut s = open(Some(item), &format!("quotas[{i}]"), keys, found);
        let (mut whose, mut over, mut lane) = (Target::All, Measure::Slow, Lane::default());
        s.text("for", &mut whose, target);
        let measures = [
            ("slow", Measure::Slow),
            ("block", Measure::Block),
            ("notify", Measure::Notify),
            ("observe", Measure::Observe),
        ];
        s.choice("over", &mut over, &measures);
        let lanes: Vec<(&str, Lane)> = Lane::ALL.iter().map(|lane| (lane.name(), *lane)).collect();
        s.choice("scope", &mut lane, &lanes);
        if matches!(item, Node::Map(_)) && s.node("max_per_hour").is_none() && s.node("max_per_day").is_none() {
            s.wrong("max_per_hour", "a quota needs a number", "write max_per_hour, max_per_day or both");
        }
        for (key, window) in [("max_per_hour", HOUR), ("max_per_day", DAY)] {
            let mut limit = 0_u64;
            s.number(key, &mut limit, 1..=1_000_000_000);
            if limit == 0 {
                continue;
            }
            let name = named(key, &whose, lane);
            if rules.iter().any(|rule| *rule.name == *name) {
                s.wrong(key, "there is one already for the same accounts", "leave one of them");
                continue;
            }
            let rule = Rule::new(&name, Signal::Recipients, window, limit);
            rules.push(Rule { target: whose.clone(), measure: over, lane, warns: true, ..rule });
        }
    }
    if rules.len() > MAX_RULES {
        let message = format!("quotas and rules make {} rules, more than the {MAX_RULES} there may be", rules.len());
        found.push(Found::new("quotas", message).hint("put accounts on plans, and give the plans quotas"));
    }
}

/// As rules are called: `max_per_hour`, `max_per_hour:plan:pro`.
fn named(key: &str, whose: &Target, lane: Lane) -> String {
    let lane = if lane == Lane::default() { String::new() } else { format!(":{}", lane.name()) };
    match whose {
        Target::All => format!("{key}{lane}"),
        Target::Plan(name) => format!("{key}{lane}:plan:{name}"),
        Target::Account(name) => format!("{key}{lane}:account:{name}"),
    }
}
