//! `sendwarden errors`: recipients of an account that ended in error, newest first.

use super::ask::{Question, Source};
use super::{items, pretty, say, script, words};
use crate::app::Exit;
use crate::app::cli::{ErrorsArgs, Format};
use serde_json::Value;

pub fn run(args: &ErrorsArgs) -> Exit {
    let answer = || -> Result<Exit, Exit> {
        let question = Question::Errors { account: args.account.clone(), limit: args.limit };
        let view = Source::new(&args.ask)?.ask(&question)?;
        Ok(say(&if args.ask.format == Format::Json { pretty(&view) } else { text(&view) }))
    };
    answer().unwrap_or_else(|exit| exit)
}

fn text(view: &Value) -> String {
    let errors = items(view, "errors");
    if errors.is_empty() {
        return format!("{}: no recipient is in error", words(view, "account"));
    }
    let mut out = String::new();
    for error in errors {
        let late = error.get("late").and_then(Value::as_bool).unwrap_or(false);
        out.push_str(&format!(
            "{}  {}  {} ({}){}{}\n    from {}  queue id {}  via {}\n    {}\n",
            words(error, "time"),
            words(error, "recipient"),
            words(error, "outcome"),
            words(error, "class"),
            if late { ", after it had been sent" } else { "" },
            about_us(error),
            sender(error),
            words(error, "queue_id"),
            words(error, "relay"),
            words(error, "reply"),
        ));
        let script = script(error);
        if !script.is_empty() {
            out.push_str(&format!("    {script}\n"));
        }
    }
    out
}

/// A refusal that names an address of this host is not the account's fault.
fn about_us(error: &Value) -> String {
    match words(error, "own_address") {
        "" => String::new(),
        address => format!(", about this host: it names {address}"),
    }
}

fn sender(error: &Value) -> &str {
    match words(error, "sender") {
        "" => "<>",
        sender => sender,
    }
}
