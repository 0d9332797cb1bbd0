//! The hooks of the configuration. No message repeats an address: its path may hold a token.

use super::node::Node;
use super::problem::Found;
use super::read::{absolute, open, text_of};
use super::{Hook, MAX_HOOKS};
use crate::notify::{Event, Target};
use std::time::Duration;

const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(60);

pub(super) fn read(top: &Node, keys: &[&str], hooks: &mut Vec<Hook>, found: &mut Vec<Found>) {
    let hint = "write `- url: https://…` per receiver, or remove it";
    let items = match top.get("hooks") {
        None => return,
        Some(Node::List(items)) => items,
        Some(other) => {
            let message = format!("expected a list of hooks, found {}", other.kind());
            return found.push(Found::new("hooks", message).hint(hint));
        }
    };
    if items.len() > MAX_HOOKS {
        let message = format!("{} hooks are more than the {MAX_HOOKS} there may be", items.len());
        return found.push(Found::new("hooks", message).hint("let one receiver pass them on"));
    }
    let names: Vec<&str> = Event::ALL.iter().map(|event| event.name()).collect();
    for (i, item) in items.iter().enumerate() {
        let mut s = open(Some(item), &format!("hooks[{i}]"), keys, found);
        let mut target = None;
        s.optional("url", &mut target, |text| {
            let hint = || "write https://HOST/PATH or http://HOST:PORT/PATH".to_owned();
            Target::parse(text).map_err(|bad| (bad.why().to_owned(), hint()))
        });
        if matches!(item, Node::Map(_)) && s.node("url").is_none() {
            s.wrong("url", "a hook needs a url", hint);
        }
        let mut secret_file = None;
        s.optional("secret_file", &mut secret_file, absolute);
        let mut events = Event::ALL.to_vec();
        s.list("events", &mut events, |item| {
            let text = text_of(item)?;
            let known = Event::ALL.into_iter().find(|event| event.name() == text);
            let hint = || super::read::suggest(text, &names).unwrap_or_else(|| format!("one of: {}", names.join(", ")));
            known.ok_or_else(|| (format!("`{text}` is not an event"), hint()))
        });
        if events.is_empty() {
            s.wrong("events", "a hook without an event is told nothing", "name some, or remove it to have all");
        }
        let mut timeout = super::HOOK_TIMEOUT;
        s.duration("timeout", &mut timeout, SHORTEST..=LONGEST);
        let Some(target) = target else { continue };
        if hooks.iter().any(|other| other.target == target) {
            s.wrong("url", "this url is there twice", "each notice would be told twice: keep one entry");
        }
        hooks.push(Hook { target, secret_file, events, timeout });
    }
}
