//! `sendwarden account`: the list, and what people change about accounts.

use super::ask::{Question, Source};
use super::status::table;
use super::{complain, grouped, items, number, pretty, say, words};
use crate::app::Exit;
use crate::app::cli::{AccountCommand, AccountForgetArgs, AskArgs, Format};
use crate::web::api::AccountsQuery;
use crate::web::client::encode;
use serde_json::{Value, json};
use std::io::{BufRead, IsTerminal};

pub fn run(command: &AccountCommand) -> Exit {
    let done = match command {
        AccountCommand::List(args) => {
            let query = AccountsQuery { q: args.contains.clone(), sort: args.sort.clone(), ..AccountsQuery::default() };
            list(&args.ask, query)
        }
        AccountCommand::Rename(args) => change(&args.ask, &args.account, &json!({"action": "rename", "to": args.to})),
        AccountCommand::Close(args) => change(&args.ask, &args.account, &json!({"action": "close"})),
        AccountCommand::Forget(args) => forget(args),
        AccountCommand::Export(args) => export(&args.ask, &args.account),
    };
    done.unwrap_or_else(|exit| exit)
}

fn list(ask: &AskArgs, query: AccountsQuery) -> Result<Exit, Exit> {
    let contains = query.q.clone();
    let view = Source::new(ask)?.ask(&Question::Accounts(query))?;
    if ask.format == Format::Json {
        return Ok(say(&pretty(&view)));
    }
    Ok(say(&listed(&view, contains.as_deref())))
}

fn listed(view: &Value, contains: Option<&str>) -> String {
    let rows = items(view, "accounts");
    if rows.is_empty() {
        return match contains {
            Some(part) => format!("no account has {part} in its name; `sendwarden account list` shows all"),
            None => "no account is known yet: one is made by its first message in the log; `sendwarden check` says \
                     whether messages are attributed"
                .to_owned(),
        };
    }
    let mut out = table(rows);
    let more = number(view, "total").saturating_sub(rows.len() as u64);
    if more > 0 {
        out.push_str(&format!("… and {} more; narrow it with a part of the name\n", grouped(more)));
    }
    out
}

fn change(ask: &AskArgs, account: &str, body: &Value) -> Result<Exit, Exit> {
    let answer = Source::new(ask)?.change(&format!("/api/v1/accounts/{}/action", encode(account)), body)?;
    Ok(say(&if ask.format == Format::Json { pretty(&answer) } else { words(&answer, "done").to_owned() }))
}

fn forget(args: &AccountForgetArgs) -> Result<Exit, Exit> {
    if !args.yes && !confirmed(&args.account) {
        complain(&format!("nothing was done; to forget {} without being asked, add --yes", args.account));
        return Err(Exit::Usage);
    }
    change(&args.ask, &args.account, &json!({"action": "forget"}))
}

fn confirmed(account: &str) -> bool {
    if !std::io::stdin().is_terminal() {
        return false;
    }
    complain(&format!(
        "this erases all figures, history, errors and index entries of {account}, for good.\nType the account's name to go on:"
    ));
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).is_ok_and(|_| line.trim() == account)
}

/// Everything that is kept: figures, days, errors.
fn export(ask: &AskArgs, account: &str) -> Result<Exit, Exit> {
    let source = Source::new(ask)?;
    let figures = source.ask(&Question::Account(account.to_owned()))?;
    let history = source.ask(&Question::History { account: account.to_owned(), days: 3_660 })?;
    let errors = source.ask(&Question::Errors { account: account.to_owned(), limit: 10_000 })?;
    let busy = |point: &&Value| number(point, "recipients") + number(point, "deferred") > 0;
    let days: Vec<&Value> = items(&history, "points").iter().filter(busy).collect();
    Ok(say(&pretty(&json!({"account": figures, "days": days, "errors": errors.get("errors")}))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_list_says_why_and_a_long_one_that_it_is_cut() {
        let none = json!({"accounts": [], "total": 0});
        let text = listed(&none, Some("zzz"));
        assert_eq!(text, "no account has zzz in its name; `sendwarden account list` shows all");
        assert!(listed(&none, None).starts_with("no account is known yet"));
        let text = listed(&json!({"accounts": [{"account": "web1"}], "total": 1_002}), None);
        assert!(text.starts_with("account ") && text.contains("\nweb1 ") && text.contains("and 1 001 more"), "{text}");
    }
}
