//! `sendwarden status`: the host's figures, or one account's.

use super::ask::{Question, Source};
use super::{counted, fitted, grouped, items, number, pretty, say, verdicts, words};
use crate::app::Exit;
use crate::app::cli::{Format, StatusArgs};
use crate::mail::ServiceState;
use crate::web::api::AccountsQuery;
use serde_json::Value;

pub fn run(args: &StatusArgs) -> Exit {
    let answer = || -> Result<Exit, Exit> {
        let source = Source::new(&args.ask)?;
        let question = match &args.account {
            Some(account) => Question::Account(account.clone()),
            None => Question::Status,
        };
        let view = source.ask(&question)?;
        if args.ask.format == Format::Json {
            return Ok(say(&pretty(&view)));
        }
        if args.account.is_some() {
            return Ok(say(&account(&view)));
        }
        let busiest = AccountsQuery { sort: Some("sent_today".into()), limit: Some(10), ..AccountsQuery::default() };
        let accounts = source.ask(&Question::Accounts(busiest))?;
        Ok(say(&host(&view, &accounts)))
    };
    answer().unwrap_or_else(|exit| exit)
}

/// One account, in lines.
fn account(view: &Value) -> String {
    let mut out = format!("{}: {}{}\n\n", words(view, "account"), in_words(words(view, "state")), closed(view));
    for (label, key) in [
        ("messages today", "sent_today"),
        ("messages", "messages"),
        ("recipients", "recipients"),
        ("  sent", "sent"),
        ("  in error", "errors"),
        ("    bounced", "bounced"),
        ("    expired", "expired"),
        ("  deleted", "deleted"),
        ("  unaccounted", "unaccounted"),
        ("  in the queue", "queued"),
        ("    held", "held"),
        ("attempts put off", "deferred"),
    ] {
        out.push_str(&format!("{label:<22} {:>12}\n", grouped(number(view, key))));
    }
    if number(view, "late_errors") > 0 {
        out.push_str(&format!("{:<22} {:>12}\n", "failed after `sent`", grouped(number(view, "late_errors"))));
    }
    out.push_str(&sanction(view));
    if !words(view, "first_seen").is_empty() {
        out.push_str(&format!("\nsince {}, last mail {}\n", words(view, "first_seen"), words(view, "last_seen")));
    }
    out
}

/// What there is to say behind an account's figures: nothing where it is simply open and sends.
fn state(row: &Value) -> String {
    match words(row, "state") {
        "ok" | "" => closed(row).to_owned(),
        state => format!("  {}{}", in_words(state), closed(row)),
    }
}

/// A state with the words for it.
fn in_words(state: &str) -> &str {
    ServiceState::from_name(state).map_or(state, |known| known.shown())
}

/// Why its mail is held, and the last orders.
fn sanction(view: &Value) -> String {
    let mut out = String::new();
    if !words(view, "force_until").is_empty() {
        let until = words(view, "force_until");
        out.push_str(&format!("\nsecond chance until {until}: its limits for errors are doubled\n"));
    }
    if let Some(block) = view.get("sanction").filter(|block| block.is_object()) {
        let reason = match words(block, "reason") {
            "" => String::new(),
            reason => format!(": {reason}"),
        };
        let until = match words(block, "until") {
            "" => String::new(),
            until => format!(" until {until}"),
        };
        let (scope, by, since) = (words(block, "scope"), words(block, "by"), words(block, "since"));
        out.push_str(&format!("\nheld ({scope}) since {since}{until}, by {by}{reason}\n"));
        let messages = grouped(number(view, "held_messages"));
        let who = match words(block, "liftable_by") {
            "owner" => "the account's owner or an operator",
            _ => "an operator only",
        };
        let before = if until.is_empty() { "" } else { "before that " };
        for gap in items(view, "not_in_force").iter().filter_map(Value::as_str) {
            out.push_str(&format!("not in force: {gap}\n"));
        }
        out.push_str(&format!("{before}lifted by {who}; messages that the agent holds: {messages}{}\n", oldest(view)));
    } else if let Some(delay) = view.get("delay").filter(|delay| delay.is_object()) {
        let waiting = counted(number(view, "held_messages"), "message", "messages");
        let (rule, reason, since) = (words(delay, "rule"), words(delay, "reason"), words(delay, "since"));
        out.push_str(&format!("\ndelayed since {since} by rule {rule}: {reason}\n"));
        out.push_str(&format!("{waiting} on hold{}: they leave by themselves, the oldest first\n", oldest(view)));
    } else if number(view, "held_messages") > 0 {
        let messages = counted(number(view, "held_messages"), "message", "messages");
        let pace = match number(view, "drip") {
            0 => "being released".to_owned(),
            n => format!("released slowly, {n} an hour, the oldest first"),
        };
        out.push_str(&format!("\nnot blocked; {messages} still held{}: {pace}\n", oldest(view)));
    }
    let orders = items(view, "orders");
    if !orders.is_empty() {
        out.push_str("\norders, newest first\n");
    }
    for order in orders.iter().take(5) {
        out.push_str(&log_line(order));
    }
    let said = items(view, "verdicts");
    if !said.is_empty() {
        out.push_str("\nwhat rules saw, newest first\n");
    }
    // With what it rests on: the one that the block is for, or the last.
    let order = view.get("sanction").map_or("", |block| words(block, "order"));
    let blocks = said.iter().position(|verdict| !order.is_empty() && words(verdict, "order") == order);
    for (at, verdict) in said.iter().take(5).enumerate() {
        out.push_str(&format!("  {}", verdicts::head(verdict, "")));
        if at == blocks.filter(|at| *at < 5).unwrap_or(0) {
            out.push_str(&verdicts::evidence(verdict, "    "));
        }
    }
    out
}

/// A line of the order log, with what was ordered and why.
fn log_line(order: &Value) -> String {
    let word = |key| words(order, key);
    let scope = match word("scope") {
        "" => String::new(),
        scope => format!(" (scope {scope})"),
    };
    let reason = match word("reason") {
        "" => String::new(),
        reason => format!(", reason: {reason}"),
    };
    let (time, action, by) = (word("time"), word("action"), word("by"));
    format!("  {time}  {action}{scope} by {by}: {} ({}){reason}\n", word("outcome"), word("details"))
}

fn oldest(view: &Value) -> String {
    match words(view, "held_since") {
        "" => String::new(),
        since => format!(", the oldest since {since}"),
    }
}

fn closed(view: &Value) -> &'static str {
    if view.get("closed").and_then(Value::as_bool).unwrap_or(false) { " (closed)" } else { "" }
}

fn host(view: &Value, accounts: &Value) -> String {
    let mut out = format!("sendwarden {} on {}\n", words(view, "version"), words(view, "host"));
    let running = !words(view, "started").is_empty();
    if running {
        let ready = view.get("ready").and_then(Value::as_bool).unwrap_or(false);
        let state = match words(view, "waits_for") {
            _ if ready => "ready".to_owned(),
            "" => "not ready".to_owned(),
            why => format!("not ready: {why}"),
        };
        out.push_str(&format!("running since {}, {state}\n", words(view, "started")));
        if !words(view, "queue_trouble").is_empty() {
            out.push_str(&format!("no message can be held or released: {}\n", words(view, "queue_trouble")));
        }
        for gap in items(view, "not_in_force").iter().filter_map(Value::as_str) {
            out.push_str(&format!("not in force: {gap}\n"));
        }
    } else {
        out.push_str("no agent is running here (or this user may not ask it): figures as of its last commit\n");
    }
    let armed: Vec<&str> = items(view, "armed_rules").iter().filter_map(Value::as_str).collect();
    match (armed.len(), words(view, "rules_muted")) {
        (0, _) => {}
        (_, "") => out.push_str(&format!("rules that block: {}\n", armed.join(", "))),
        (_, why) => out.push_str(&format!("rules that would block: {}; muted: {why}\n", armed.join(", "))),
    }
    for incident in items(view, "incidents").iter().filter_map(Value::as_str) {
        out.push_str(&format!("host incident: {incident}; such failures count against no account\n"));
    }
    for source in items(view, "sources") {
        let trouble = words(source, "trouble");
        let state = match (trouble, number(source, "backlog_bytes")) {
            ("", 0) => "read to its end".to_owned(),
            ("", behind) => format!("{} behind{}", counted(behind, "byte", "bytes"), where_it_is(source)),
            (trouble, _) => trouble.to_owned(),
        };
        let lines = counted(number(source, "lines"), "line", "lines");
        let name = words(source, "name");
        // What is wrong with it names it already.
        let state =
            state.strip_prefix(&format!("{name} ")).or(state.strip_prefix(&format!("{name}: "))).unwrap_or(&state);
        out.push_str(&format!("  {name}: {state}, {lines} since the start\n"));
    }
    let totals = view.get("totals").cloned().unwrap_or_default();
    out.push_str(&format!(
        "\n{}, {}, {}: {} sent, {} bounced, {} expired, {} deleted, {} unaccounted, \
         {} in the queue ({} held)\n",
        counted(number(view, "accounts"), "account", "accounts"),
        messages(&totals),
        recipients(&totals),
        grouped(number(&totals, "sent")),
        grouped(number(&totals, "bounced")),
        grouped(number(&totals, "expired")),
        grouped(number(&totals, "deleted")),
        grouped(number(&totals, "unaccounted")),
        grouped(number(&totals, "queued")),
        grouped(number(&totals, "held")),
    ));
    let unattributed = view.get("unattributed").and_then(Value::as_object);
    for (why, counts) in unattributed.into_iter().flatten().filter(|(_, counts)| number(counts, "recipients") > 0) {
        out.push_str(&format!("  without an account ({why}): {}, {}\n", messages(counts), recipients(counts)));
    }
    let rows = items(accounts, "accounts");
    if !rows.is_empty() {
        out.push_str(&format!("\n{}", table(rows)));
        let more = number(accounts, "total").saturating_sub(rows.len() as u64);
        if more > 0 {
            out.push_str(&format!("… and {} more: sendwarden account list\n", grouped(more)));
        }
    }
    out
}

fn messages(counts: &Value) -> String {
    counted(number(counts, "messages"), "message", "messages")
}

fn recipients(counts: &Value) -> String {
    counted(number(counts, "recipients"), "recipient", "recipients")
}

/// While older files are read: which, and how many come after it.
fn where_it_is(source: &Value) -> String {
    match number(source, "backlog_files") {
        0 => String::new(),
        files => format!(", reading {} and {} more after it", words(source, "reading"), grouped(files)),
    }
}

/// Accounts as a table.
pub fn table(rows: &[Value]) -> String {
    let mut out = format!(
        "{:<32} {:>9} {:>10} {:>10} {:>8} {:>8} {:>8}\n",
        "account", "today", "messages", "sent", "errors", "queued", "held"
    );
    for row in rows {
        let name = fitted(words(row, "account"), 32);
        out.push_str(&format!(
            "{name:<32} {:>9} {:>10} {:>10} {:>8} {:>8} {:>8}{}\n",
            number(row, "sent_today"),
            number(row, "messages"),
            number(row, "sent"),
            number(row, "errors"),
            number(row, "queued"),
            number(row, "held"),
            state(row)
        ));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_state_is_explained_and_an_order_says_its_scope_and_reason() {
        let order = json!({"time": "T", "action": "block", "scope": "login:a@b", "by": "root", "reason": "a form",
                           "outcome": "done", "details": "no messages to put on hold"});
        let plain = json!({"time": "T", "action": "purge", "by": "root", "outcome": "done", "details": "2 deleted"});
        let view = json!({"account": "web1", "state": "ko", "orders": [order, plain]});
        let text = account(&view);
        assert!(text.starts_with("web1: ko (held: blocked)\n"), "{text}");
        for line in [
            "  T  block (scope login:a@b) by root: done (no messages to put on hold), reason: a form\n",
            "  T  purge by root: done (2 deleted)\n",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
        let row = table(&[json!({"account": "web1", "state": "bounce"})]);
        assert!(row.ends_with("  bounce (held: too many errors)\n"), "{row}");
    }

    #[test]
    fn one_of_each_is_told_in_the_singular() {
        let one = json!({"messages": 1, "recipients": 1});
        let source = json!({"name": "/m", "lines": 1, "backlog_bytes": 1});
        let view = json!({"accounts": 1, "totals": one, "sources": [source], "unattributed": {"bounce": one}});
        let text = host(&view, &json!({}));
        for words in [
            "\n  /m: 1 byte behind, 1 line since the start\n",
            "\n1 account, 1 message, 1 recipient: 0 sent,",
            "\n  without an account (bounce): 1 message, 1 recipient\n",
        ] {
            assert!(text.contains(words), "{words}: {text}");
        }
    }
}
