//! `sendwarden errors`: recipients of an account that ended in error, newest first.

use super::ask::{Question, Source};
use super::{items, pretty, say, script, spoken, words};
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
            "{}  {}  {} ({}){}{}\n    from {}  queue id {}{}\n    {}\n",
            words(error, "time"),
            words(error, "recipient"),
            words(error, "outcome"),
            words(error, "class"),
            if late { ", after it had been sent" } else { "" },
            about_us(error),
            sender(error),
            words(error, "queue_id"),
            via(error),
            spoken(words(error, "reply"), "    "),
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

/// Where there was no relay, nothing was asked.
fn via(error: &Value) -> String {
    match words(error, "relay") {
        "" => String::new(),
        relay => format!("  via {relay}"),
    }
}

fn sender(error: &Value) -> &str {
    match words(error, "sender") {
        "" => "<>",
        sender => sender,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_error_names_a_relay_only_where_there_was_one() {
        let error = json!({"time": "T", "recipient": "a@b.test", "outcome": "bounced", "class": "other", "queue_id": "Q",
                           "reply": "550-5.7.26 no\\n550 5.7.26 really"});
        let told = text(&json!({"account": "web1", "errors": [error]}));
        assert!(told.contains("    from <>  queue id Q\n    550-5.7.26 no\n    550 5.7.26 really\n"), "{told}");
        let error = json!({"relay": "mx.b.test[192.0.2.1]:25", "queue_id": "Q"});
        let told = text(&json!({"errors": [error]}));
        assert!(told.contains("queue id Q  via mx.b.test[192.0.2.1]:25\n"), "{told}");
    }
}
