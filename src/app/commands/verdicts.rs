//! `sendwarden verdicts`: what rules said, what it rests on, and what to do; the same as `status ACCOUNT` shows it.

use super::ask::{Question, Source};
use super::{counted, fitted, grouped, items, number, pretty, say, words};
use crate::app::Exit;
use crate::app::cli::{Format, VerdictsArgs};
use serde_json::Value;

pub fn run(args: &VerdictsArgs) -> Exit {
    let answer = || -> Result<Exit, Exit> {
        let question = Question::Verdicts { account: args.account.clone(), limit: args.limit };
        let view = Source::new(&args.ask)?.ask(&question)?;
        Ok(say(&if args.ask.format == Format::Json { pretty(&view) } else { text(&view, args.account.as_deref()) }))
    };
    answer().unwrap_or_else(|exit| exit)
}

fn text(view: &Value, account: Option<&str>) -> String {
    let verdicts = items(view, "verdicts");
    if verdicts.is_empty() {
        return format!("{}: no rule has said anything", account.unwrap_or("all accounts"));
    }
    let mut out = String::new();
    for verdict in verdicts {
        match account {
            Some(_) => out.push_str(&format!("{}{}\n", head(verdict, ""), evidence(verdict, "  "))),
            None => out.push_str(&head(verdict, &format!("{:<24} ", fitted(words(verdict, "account"), 24)))),
        }
    }
    out
}

/// A verdict in one line.
pub fn head(verdict: &Value, whose: &str) -> String {
    let word = |key| words(verdict, key);
    format!("{}  {whose}{}: {}\n", word("time"), word("rule"), word("text"))
}

/// What it rests on and what to do, in lines with this indent.
pub fn evidence(verdict: &Value, indent: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    let nothing = Value::Null;
    let seen = verdict.get("evidence").unwrap_or(&nothing);
    if words(seen, "gathered").is_empty() {
        lines.push(
            "what it rests on is being gathered (it takes some seconds; by the next start without an agent)".to_owned(),
        );
    } else {
        lines.push(summary(seen));
        for (label, key, unit) in [
            ("scripts", "scripts", ("message", "messages")),
            ("directories", "directories", ("message", "messages")),
            ("client addresses", "clients", ("message", "messages")),
            ("refusals", "classes", ("recipient", "recipients")),
        ] {
            let shares: Vec<String> = items(seen, key).iter().map(|share| shared(share, unit)).collect();
            if !shares.is_empty() {
                lines.push(format!("{label}: {}", shares.join(", ")));
            }
        }
        let domains: Vec<String> = items(seen, "domains").iter().map(domain).collect();
        if !domains.is_empty() {
            let more = number(seen, "domain_count").saturating_sub(domains.len() as u64);
            let more = if more == 0 { String::new() } else { format!(" and {} more", grouped(more)) };
            lines.push(format!("recipients in {}{more}", domains.join(", ")));
        }
        lines.extend(items(seen, "lines").iter().filter_map(Value::as_str).map(|line| format!("| {line}")));
    }
    let next = verdict.get("next").unwrap_or(&nothing);
    for (label, whose, language) in [
        ("what to do", "operator", "en"),
        ("its owner", "owner", "en"),
        ("que faire", "operator", "fr"),
        ("son titulaire", "owner", "fr"),
    ] {
        let said = next.get(whose).map_or("", |both| words(both, language));
        if !said.is_empty() {
            lines.push(format!("{label}: {said}"));
        }
    }
    lines.iter().map(|line| format!("{indent}{line}\n")).collect()
}

/// `12 messages to 14 recipients, from TIME (ID) to TIME (ID)`.
fn summary(seen: &Value) -> String {
    let messages = counted(number(seen, "messages"), "message", "messages");
    let recipients = counted(number(seen, "recipients"), "known recipient", "known recipients");
    let message = |key| seen.get(key).map(|of| format!("{} ({})", words(of, "time"), words(of, "queue_id")));
    let span = match (message("first"), message("last")) {
        (Some(first), Some(last)) if number(seen, "messages") > 0 => format!(", from {first} to {last}"),
        _ => String::new(),
    };
    let cut = match words(seen, "cut") {
        "" => String::new(),
        cut => format!("; not all: {cut}"),
    };
    let claimed = if words(seen, "attribution") == "claimed" { "; whose they are is only claimed" } else { "" };
    format!("{messages} to {recipients}{span}{cut}{claimed}")
}

fn shared(share: &Value, (one, more): (&str, &str)) -> String {
    format!("{} ({})", words(share, "name"), counted(number(share, "count"), one, more))
}

fn domain(share: &Value) -> String {
    let name = match words(share, "name") {
        "" => "this host",
        name => name,
    };
    let errors = match number(share, "errors") {
        0 => String::new(),
        errors => format!(", {}", counted(errors, "error", "errors")),
    };
    format!("{name} ({}{errors})", grouped(number(share, "count")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn verdict() -> Value {
        let share = |name: &str, count: u64| json!({"name": name, "count": count});
        let evidence = json!({
            "attribution": "proven", "gathered": "T", "messages": 2, "recipients": 1, "domain_count": 12,
            "first": {"time": "T1", "queue_id": "Q1"}, "last": {"time": "T2", "queue_id": "Q2"},
            "scripts": [share("form.php", 2)], "classes": [share("spam", 1)], "directories": [], "clients": [],
            "domains": [{"name": "a.test", "count": 1_200, "errors": 1}, share("", 3)],
            "lines": ["T1 Q1 …@a.test sent"], "cut": "only some",
        });
        let words = |en: &str, fr: &str| json!({"en": en, "fr": fr});
        json!({
            "account": "web1", "time": "T0", "rule": "r", "text": "3 messages, limit 2: blocked", "evidence": evidence,
            "next": {"owner": words("look", "regardez"), "operator": words("ask", "demandez")},
        })
    }

    #[test]
    fn a_verdict_is_told_with_what_it_rests_on_and_what_to_do() {
        let text = text(&json!({"verdicts": [verdict()]}), Some("web1"));
        let expected = "T0  r: 3 messages, limit 2: blocked\n\
                        \x20 2 messages to 1 known recipient, from T1 (Q1) to T2 (Q2); not all: only some\n\
                        \x20 scripts: form.php (2 messages)\n\
                        \x20 refusals: spam (1 recipient)\n\
                        \x20 recipients in a.test (1 200, 1 error), this host (3) and 10 more\n\
                        \x20 | T1 Q1 …@a.test sent\n\
                        \x20 what to do: ask\n\
                        \x20 its owner: look\n\
                        \x20 que faire: demandez\n\
                        \x20 son titulaire: regardez\n\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn of_all_accounts_each_has_a_line_and_what_is_missing_is_said() {
        let list = text(&json!({"verdicts": [verdict()]}), None);
        assert_eq!(list, format!("T0  {:<24} r: 3 messages, limit 2: blocked\n", "web1"));
        let bare = json!({"time": "T0", "rule": "r", "text": "x", "evidence": {"gathered": null}});
        assert!(text(&json!({"verdicts": [bare]}), Some("web1")).contains("is being gathered"));
        assert_eq!(text(&json!({"verdicts": []}), None), "all accounts: no rule has said anything");
    }
}
