//! `sendwarden enforcement` and `sendwarden undo`: what people say to the rules, given to the running agent.

use super::ask::Source;
use super::{counted, items, number, pretty, say, words};
use crate::app::Exit;
use crate::app::cli::{EnforcementArgs, Format, Switch, UndoArgs};
use crate::web::{EnforcementRequest, UndoRequest};
use serde_json::Value;

pub fn enforcement(args: &EnforcementArgs) -> Exit {
    let body = serde_json::to_value(EnforcementRequest { on: args.switch == Switch::On }).unwrap_or_default();
    let answer = Source::new(&args.ask).and_then(|source| source.change("/api/v1/enforcement", &body));
    answer.map_or_else(
        |exit| exit,
        |answer| {
            say(&if args.ask.format == Format::Json { pretty(&answer) } else { words(&answer, "done").to_owned() })
        },
    )
}

pub fn undo(args: &UndoArgs) -> Exit {
    let request = UndoRequest { rule: args.rule.clone(), since: args.since.clone(), dry_run: args.dry_run };
    let body = serde_json::to_value(&request).unwrap_or_default();
    let answer = Source::new(&args.ask).and_then(|source| source.change("/api/v1/undo", &body));
    answer.map_or_else(
        |exit| exit,
        |answer| say(&if args.ask.format == Format::Json { pretty(&answer) } else { text(&answer) }),
    )
}

fn text(view: &Value) -> String {
    let mut out = String::new();
    for one in items(view, "accounts") {
        let word = |key| words(one, key);
        let held = counted(number(one, "held"), "message", "messages");
        out.push_str(&format!(
            "{}  blocked {} ({}), {held} held: {}{}\n",
            word("account"),
            word("blocked"),
            word("reason"),
            word("outcome").replace('_', " "),
            match word("details") {
                "" => String::new(),
                details => format!(" ({details})"),
            }
        ));
    }
    out.push_str(words(view, "done"));
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_account_has_a_line_and_the_last_says_what_was_done() {
        let one = json!({"account": "web1", "blocked": "T", "reason": "51 messages in 1h, limit 50", "held": 1,
                         "outcome": "would_unblock", "details": ""});
        let text = text(&json!({"accounts": [one], "done": "nothing was done"}));
        assert_eq!(
            text,
            "web1  blocked T (51 messages in 1h, limit 50), 1 message held: would unblock\nnothing was done"
        );
    }
}
