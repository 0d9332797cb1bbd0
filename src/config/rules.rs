//! The `rules` of the configuration: the built-in ones, changed by entries that have their names, and the operator's own.

use super::node::Node;
use super::problem::Found;
use super::read::{Bad, Section, duration, open, suggest, text_of};
use crate::engine::rules::{Classes, Lane, MAX_RULES, Rule, Target, built_in};
use crate::mail::{Cause, Measure, ReplyClass, Signal};
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);
const MONTH: Duration = Duration::from_secs(30 * 86_400);

/// Reads the list into `rules`, which is that of the built-in ones. An entry that is switched off is no rule.
pub(super) fn read(top: &Node, keys: &[&str], rules: &mut Vec<Rule>, found: &mut Vec<Found>) {
    let hint = "write `- name: NAME` and its keys below it, or remove `rules`";
    let items = match top.get("rules") {
        None => return,
        Some(Node::List(items)) => items,
        Some(other) => {
            let message = format!("expected a list of rules, found {}", other.kind());
            return found.push(Found::new("rules", message).hint(hint));
        }
    };
    let known = built_in();
    let mut off: Vec<String> = Vec::new();
    let mut seen: Vec<String> = Vec::new();
    for (i, item) in items.iter().enumerate() {
        let mut s = open(Some(item), &format!("rules[{i}]"), keys, found);
        let mut called = String::new();
        s.text("name", &mut called, name);
        if called.is_empty() {
            if matches!(item, Node::Map(_)) && s.node("name").is_none() {
                s.wrong("name", "a rule needs a name", hint);
            }
            continue;
        }
        if seen.contains(&called) {
            s.wrong("name", format!("two rules are called `{called}`"), "give each a name of its own");
        }
        seen.push(called.clone());
        let base = known.iter().find(|rule| *rule.name == *called);
        let names: Vec<&str> = known.iter().map(|rule| &*rule.name).collect();
        let Some(rule) = entry(&mut s, &called, base, &names) else { continue };
        if s.node("action").is_some_and(|node| matches!(node, Node::Text(text) if text == "off")) {
            off.push(called);
            continue;
        }
        match rules.iter_mut().find(|known| known.name == rule.name) {
            Some(known) => *known = rule,
            None => rules.push(rule),
        }
    }
    rules.retain(|rule| !off.iter().any(|name| **name == *rule.name));
    if rules.len() > MAX_RULES {
        let message = format!("{} rules are more than the {MAX_RULES} there may be", rules.len());
        found.push(Found::new("rules", message).hint("the built-in ones count: switch those you do not need off"));
    }
}

fn entry(s: &mut Section<'_, '_>, called: &str, base: Option<&Rule>, built_in: &[&str]) -> Option<Rule> {
    let mut signal = base.map_or(Signal::Messages, |rule| rule.signal);
    let signals: Vec<(&str, Signal)> = Signal::ALL.iter().map(|signal| (signal.name(), *signal)).collect();
    s.choice("signal", &mut signal, &signals);
    let mut rule = match base.filter(|rule| rule.signal == signal) {
        Some(rule) => rule.clone(),
        None => Rule::new(called, signal, 3_600, 0),
    };
    if base.is_none() {
        let needed: &[&str] = if signal.is_level() { &["signal", "limit"] } else { &["signal", "window", "limit"] };
        let missing: Vec<&str> = needed.iter().copied().filter(|key| s.node(key).is_none()).collect();
        if !missing.is_empty() {
            let hint = suggest(called, built_in)
                .unwrap_or_else(|| "a rule of your own needs signal, window and limit".to_owned());
            s.wrong("name", format!("`{called}` is no built-in rule, and has no {}", missing.join(", no ")), hint);
            return None;
        }
    }
    let mut window = Duration::from_secs(u64::from(rule.window_secs));
    s.text("window", &mut window, self::window);
    rule.window_secs = u32::try_from(window.as_secs()).unwrap_or(u32::MAX);
    limit(s, &mut rule);
    let (sample, other) =
        if signal == Signal::AgainstHistory { ("floor", "min_sample") } else { ("min_sample", "floor") };
    s.number(sample, &mut rule.min_sample, 0..=1_000_000);
    if s.node(other).is_some() && (other == "floor" || signal == Signal::AgainstHistory) {
        s.wrong(other, format!("{} has no {other}", signal.name()), "remove it");
    }
    if signal.has_classes() {
        let mut classes: Vec<ReplyClass> = Vec::new();
        s.list("classes", &mut classes, |item| text_of(item).and_then(class));
        if s.node("classes").is_some() {
            rule.classes = Classes::of(&classes);
        }
    } else if s.node("classes").is_some() {
        s.wrong("classes", format!("{} has no reply classes", signal.name()), "remove it");
    }
    s.text("for", &mut rule.target, target);
    let measures: Vec<(&str, Measure)> = std::iter::once(("off", Measure::Observe))
        .chain(Measure::ALL.iter().map(|measure| (measure.name(), *measure)))
        .collect();
    s.choice("action", &mut rule.measure, &measures);
    let paced = matches!(rule.signal, Signal::Messages | Signal::Recipients);
    if rule.measure == Measure::Slow && (!paced || rule.limit == 0) {
        s.wrong(
            "action",
            "what is slowed down is counted in messages or recipients, from 1 on",
            "write block or notify",
        );
    }
    let states = [("ko", Cause::Volume), ("bounce", Cause::Errors), ("spam", Cause::Spam)];
    s.choice("state", &mut rule.cause, &states);
    let lanes: Vec<(&str, Lane)> = Lane::ALL.iter().map(|lane| (lane.name(), *lane)).collect();
    s.choice("scope", &mut rule.lane, &lanes);
    if signal == Signal::LoginAddresses && rule.lane != Lane::Login {
        s.wrong("scope", "addresses are counted of logins", "write login, or remove it");
    }
    s.text("duration", &mut rule.for_secs, |text| match text {
        "until_lifted" => Ok(None),
        _ => {
            let secs = duration(text).filter(|long| (MINUTE..=MONTH * 12).contains(long)).map(|long| long.as_secs());
            let hint = || "write a time such as 24h, or until_lifted".to_owned();
            secs.map(|secs| u32::try_from(secs).ok()).ok_or_else(|| (format!("`{text}` is no duration"), hint()))
        }
    });
    let mut share = u32::from(rule.share);
    s.number("share", &mut share, 0..=100);
    rule.share = u8::try_from(share).unwrap_or(100);
    Some(rule)
}

/// A whole number; a percentage of a ratio, and how many times what is usual, may have a fraction.
fn limit(s: &mut Section<'_, '_>, rule: &mut Rule) {
    if !rule.signal.has_tenths() {
        return s.number("limit", &mut rule.limit, 0..=1_000_000_000);
    }
    let (range, what, hint) = match rule.signal {
        Signal::ErrorRatio => {
            (0.0..=100.0, "a share of errors is a percentage", "give a number from 0 to 100, such as 30 or 12.5")
        }
        _ => (
            1.0..=1_000_000.0,
            "it is how many times what is usual",
            "give a number from 1 to 1000000, such as 20 or 2.5",
        ),
    };
    let number = match s.node("limit") {
        None => return,
        Some(Node::Whole(n)) => *n as f64,
        Some(Node::Fraction(n)) => *n,
        Some(_) => f64::NAN,
    };
    if range.contains(&number) {
        rule.limit = (number * 10.0).round() as u64;
    } else {
        s.wrong("limit", what, hint);
    }
}

fn window(text: &str) -> Result<Duration, Bad> {
    let bad = || (format!("`{text}` is no window"), "write whole minutes from 1m to 30d, such as 15m, 1h or 7d".into());
    let fits = |long: &Duration| {
        (MINUTE..=MONTH).contains(long) && long.as_secs().is_multiple_of(60) && long.subsec_nanos() == 0
    };
    duration(text).filter(fits).ok_or_else(bad)
}

fn class(text: &str) -> Result<ReplyClass, Bad> {
    let names = || ReplyClass::ALL.map(ReplyClass::name);
    ReplyClass::from_name(text).ok_or_else(|| {
        let hint = suggest(text, &names()).unwrap_or_else(|| format!("classes: {}", names().join(", ")));
        (format!("`{text}` is no reply class"), hint)
    })
}

pub(super) fn target(text: &str) -> Result<Target, Bad> {
    match text.split_once(':') {
        None if text == "all" => Ok(Target::All),
        Some(("plan", name)) => super::accounts::plan(name).map(|name| Target::Plan(name.into())),
        Some(("account", name)) if !name.is_empty() && name.len() <= 128 => Ok(Target::Account(name.into())),
        _ => Err((format!("`{text}` names nobody"), "write all, plan:NAME or account:NAME".to_owned())),
    }
}

/// A label of metrics, and a word in the order log.
fn name(text: &str) -> Result<String, Bad> {
    let shape = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_';
    let good =
        text.len() <= 64 && text.bytes().all(shape) && text.bytes().next().is_some_and(|c| c.is_ascii_lowercase());
    let hint = || "up to 64 of a-z, 0-9 and _, beginning with a letter".to_owned();
    if good { Ok(text.to_owned()) } else { Err((format!("`{text}` is not the name of a rule"), hint())) }
}
