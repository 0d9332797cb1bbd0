//! `sendwarden trace`: what happened to a message, step by step, over all its queue ids.

use super::ask::{Question, Source};
use super::{counted, items, number, pretty, say, script, spoken, words};
use crate::app::Exit;
use crate::app::cli::{Format, TraceArgs};
use crate::mail::Unattributed;
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
    let not_looked = match words(view, "not_looked") {
        "" => String::new(),
        why => format!("not looked up: {why}\n"),
    };
    if legs.is_empty() {
        return format!(
            "nothing is known about {what}: not among the messages of the index (30 days by default), nor in the \
             queue\n{not_looked}"
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
    out.push_str(&not_looked);
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
        // Whoever handed it in: the line that says so is not there.
        ("", None, "") if words(leg, "unattributed") == Unattributed::OpenedBeforeLog.name() => {
            "from before the log began".to_owned()
        }
        ("", None, "") => "made by the mail server".to_owned(),
        ("", None, client) => format!("by SMTP from {client}"),
        // Exim's log names local users where it names logins.
        (user, Some(uid), "") => format!("submitted by {user} (uid {uid})"),
        (user, None, "") => format!("submitted by {user}"),
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
    // The log tells the size when the message is released.
    let size = match number(leg, "size") {
        0 if words(leg, "end") == "held" => String::new(),
        size => format!(", {}", counted(size, "byte", "bytes")),
    };
    format!(
        "{}  {} ({}{parent}): {owner}\n    {came}, from {}{size}{id}{script}\n",
        words(leg, "first"),
        words(leg, "queue_id"),
        words(leg, "instance"),
        if words(leg, "sender").is_empty() { "<>" } else { words(leg, "sender") },
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
    let reply = match words(recipient, "reply") {
        "" => String::new(),
        reply => format!("      {}\n", spoken(reply, "      ")),
    };
    format!(
        "  {}  to {}: {}{next}{attempts}\n{reply}",
        words(recipient, "last"),
        words(recipient, "recipient"),
        words(recipient, "state"),
    )
}

fn end(leg: &Value) -> String {
    match words(leg, "end") {
        "open" => "still in the queue".to_owned(),
        "held" => leg.get("held").filter(|held| held.is_object()).map_or_else(
            || {
                let id = words(leg, "queue_id");
                // The ids of Exim have dashes.
                let release = if id.contains('-') { "exim -Mt" } else { "postsuper -H" };
                format!(
                    "ON HOLD, and not by sendwarden, which neither releases nor deletes it: whoever put it on hold does \
                     ({release} {id})"
                )
            },
            |held| on_hold(held, words(leg, "account")),
        ),
        "removed" => format!("{}  done, removed from the queue", words(leg, "last")),
        "lost" => "the log never said how it ended".to_owned(),
        end => format!("{}  {end}", words(leg, "last")),
    }
}

/// Since when, by which block, until when, and what to do.
fn on_hold(held: &Value, account: &str) -> String {
    let mut out = format!("ON HOLD since {}", words(held, "since"));
    let block = held.get("block").filter(|block| block.is_object());
    if let Some(block) = block {
        let reason = match words(block, "reason") {
            "" => String::new(),
            reason => format!(": {reason}"),
        };
        let (scope, by, since) = (words(block, "scope"), words(block, "by"), words(block, "since"));
        out.push_str(&format!(", {account} is blocked (scope {scope}) since {since} by {by}{reason}"));
    }
    let until = block.map_or("", |block| words(block, "until"));
    out.push_str("\n    ");
    out.push_str(&match (words(held, "stage"), number(held, "drip"), until, words(held, "deleted_at")) {
        ("leaving", ..) => "it is being released".to_owned(),
        ("deleting", ..) => "it is being deleted".to_owned(),
        (_, 0, ..) if block.is_none() => format!("{account} is not blocked any more: it is released within a minute"),
        (_, n, ..) if block.is_none() => {
            format!("{account} is not blocked any more, and what is held leaves slowly, {n} an hour, the oldest first")
        }
        (_, _, "", "") => "it stays until it is released or purged, or held too long".to_owned(),
        (_, _, "", deleted) => format!("deleted at {deleted} if nobody releases it before"),
        // Both are the same notation, in UTC.
        (_, _, until, deleted) if deleted.is_empty() || until < deleted => {
            format!("released at {until}, when the block ends")
        }
        (_, _, _, deleted) => format!("deleted at {deleted} if nobody releases it before"),
    });
    if words(held, "stage") == "held" {
        out.push_str(&format!(
            "\n    to release all that is held: sendwarden unblock {account}; to delete it: sendwarden purge {account}; \
             --recipient-domain, --sender and others choose a part"
        ));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn who_handed_a_message_in_is_told_as_the_log_does() {
        for (leg, words) in [
            (json!({"uid": 2001}), "submitted by uid 2001,"),
            (json!({"login": "web1", "uid": 2001}), "submitted by web1 (uid 2001),"),
            (json!({"login": "root"}), "submitted by root,"),
            (json!({"client_address": "192.0.2.1"}), "by SMTP from 192.0.2.1,"),
            (
                json!({"client_address": "192.0.2.1", "login": "a@b.test"}),
                "by SMTP from 192.0.2.1, logged in as a@b.test,",
            ),
            (json!({}), "made by the mail server,"),
            (json!({"unattributed": "opened_before_log"}), "from before the log began,"),
            (json!({"unattributed": "bounce"}), "made by the mail server,"),
        ] {
            assert!(head(&leg).contains(words), "{leg}: {}", head(&leg));
        }
    }

    #[test]
    fn held_mail_is_told_with_its_block_its_end_and_what_to_do() {
        let block = json!({"scope": "script", "by": "root", "since": "2026-11-27T09:00:00Z", "reason": "a form"});
        let mut held = json!({"since": "2026-11-27T10:00:00Z", "stage": "held", "block": block,
                              "deleted_at": "2026-11-30T10:00:00Z"});
        let text = on_hold(&held, "web1");
        for words in [
            "ON HOLD since 2026-11-27T10:00:00Z, web1 is blocked (scope script) since 2026-11-27T09:00:00Z by root: a form\n",
            "deleted at 2026-11-30T10:00:00Z if nobody releases it before\n",
            "sendwarden unblock web1; to delete it: sendwarden purge web1",
        ] {
            assert!(text.contains(words), "{words}: {text}");
        }
        held["block"]["until"] = "2026-11-28T09:00:00Z".into();
        assert!(on_hold(&held, "web1").contains("released at 2026-11-28T09:00:00Z, when the block ends"), "{held}");
        held["block"]["until"] = "2026-12-28T09:00:00Z".into();
        assert!(on_hold(&held, "web1").contains("deleted at 2026-11-30T10:00:00Z"), "{held}");
        held["block"] = Value::Null;
        held["drip"] = 50.into();
        assert!(on_hold(&held, "web1").contains("leaves slowly, 50 an hour"), "{held}");
        held["stage"] = "leaving".into();
        let text = on_hold(&held, "web1");
        assert!(text.ends_with("it is being released"), "{text}");
    }

    #[test]
    fn another_ones_hold_is_told_as_such_and_what_was_not_looked_up_too() {
        let leg = json!({"queue_id": "AAAAA1", "end": "held"});
        assert!(
            end(&leg).contains("not by sendwarden") && end(&leg).ends_with("(postsuper -H AAAAA1)"),
            "{}",
            end(&leg)
        );
        let leg = json!({"queue_id": "1xVROW-0001BH-2c", "end": "held"});
        assert!(end(&leg).ends_with("does (exim -Mt 1xVROW-0001BH-2c)"), "{}", end(&leg));
        let text = text(&json!({"legs": [], "not_looked": "2 messages on hold"}), "x@y.test");
        assert!(text.starts_with("nothing is known") && text.contains("\nnot looked up: 2 messages on hold"), "{text}");
    }
}
