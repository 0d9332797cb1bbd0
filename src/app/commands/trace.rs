//! `sendwarden trace`: what happened to a message, step by step, over all its queue ids.

use super::ask::{Question, Source};
use super::{counted, items, number, pretty, say, script, words};
use crate::app::Exit;
use crate::app::cli::{Format, TraceArgs};
use crate::web::api::TraceQuery;
use serde_json::Value;

pub fn run(args: &TraceArgs) -> Exit {
    let answer = || -> Result<Exit, Exit> {
        let question = Question::Trace(TraceQuery { q: args.what.clone(), since: args.since.clone() });
        let view = Source::new(&args.ask)?.ask(&question)?;
        if args.ask.format == Format::Json {
            return Ok(say(&pretty(&view)));
        }
        let text = text(&view, &args.what);
        let found = !items(&view, "legs").is_empty();
        let said = say(&text);
        Ok(if found { said } else { Exit::Failed })
    };
    answer().unwrap_or_else(|exit| exit)
}

fn text(view: &Value, what: &str) -> String {
    let legs = items(view, "legs");
    if legs.is_empty() {
        return format!(
            "nothing is known about {what}: not among the messages of the index (30 days by default), nor in the queue"
        );
    }
    let mut out = String::new();
    for leg in legs {
        out.push_str(&head(leg));
        for recipient in items(leg, "recipients") {
            out.push_str(&line(recipient));
        }
        if leg.get("recipients_cut").and_then(Value::as_bool).unwrap_or(false) {
            out.push_str("    … more recipients than are kept\n");
        }
        out.push_str(&format!("    {}\n\n", end(leg)));
    }
    if view.get("cut").and_then(Value::as_bool).unwrap_or(false) {
        out.push_str("… more was found than is shown; narrow it with --since\n");
    }
    out
}

fn head(leg: &Value) -> String {
    let owner = match (words(leg, "account"), words(leg, "unattributed")) {
        ("", why) => format!("no account ({why})"),
        (account, _) => format!("account {account}, by {}", words(leg, "basis")),
    };
    let came = match (words(leg, "login"), leg.get("uid").and_then(Value::as_u64), words(leg, "client_address")) {
        ("", Some(uid), _) => format!("submitted by uid {uid}"),
        ("", None, "") => "made by the mail server".to_owned(),
        ("", None, client) => format!("by SMTP from {client}"),
        (login, _, client) => format!("by SMTP from {client}, logged in as {login}"),
    };
    let parent = match words(leg, "parent") {
        "" => String::new(),
        parent => format!(", continues {parent}"),
    };
    let id = match words(leg, "message_id") {
        "" => String::new(),
        id => format!("\n    Message-ID <{id}>"),
    };
    let script = match script(leg) {
        script if script.is_empty() => script,
        script => format!("\n    {script}"),
    };
    format!(
        "{}  {} ({}{parent}): {owner}\n    {came}, from {}, {}{id}{script}\n",
        words(leg, "first"),
        words(leg, "queue_id"),
        words(leg, "instance"),
        if words(leg, "sender").is_empty() { "<>" } else { words(leg, "sender") },
        counted(number(leg, "size"), "byte", "bytes"),
    )
}

fn line(recipient: &Value) -> String {
    let next = match words(recipient, "next") {
        "" => String::new(),
        next => format!(" as {next}"),
    };
    let attempts = match number(recipient, "attempts") {
        0 | 1 => String::new(),
        n => format!(" after {n} attempts"),
    };
    format!(
        "  {}  to {}: {}{next}{attempts}\n      {}\n",
        words(recipient, "last"),
        words(recipient, "recipient"),
        words(recipient, "state"),
        words(recipient, "reply"),
    )
}

fn end(leg: &Value) -> String {
    match words(leg, "end") {
        "open" => "still in the queue".to_owned(),
        "removed" => format!("{}  done, removed from the queue", words(leg, "last")),
        "lost" => "the log never said how it ended".to_owned(),
        end => format!("{}  {end}", words(leg, "last")),
    }
}
