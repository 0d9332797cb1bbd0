//! `sendwarden block`, `unblock` and `purge`: orders for one account, given to the running agent.

use super::ask::Source;
use super::{complain, number, pretty, say, words};
use crate::app::Exit;
use crate::app::cli::{AskArgs, BlockArgs, Format, PartArgs, PurgeArgs, UnblockArgs};
use crate::app::numbers::counted;
use crate::web::client::encode;
use crate::web::{OrderAction, OrderRequest, SelectRequest};
use serde_json::Value;
use std::io::{BufRead, IsTerminal};

pub fn block(args: &BlockArgs) -> Exit {
    let (action, reason) = (OrderAction::Block, args.reason.clone());
    let (scope, span, drip) = (args.scope.clone(), args.span.clone(), None);
    give(&args.ask, &args.account, &OrderRequest { action, reason, scope, span, drip, selection: None })
}

pub fn unblock(args: &UnblockArgs) -> Exit {
    let order = OrderRequest { drip: args.drip, ..plain(OrderAction::Unblock, args.reason.clone()) };
    part(&args.ask, &args.account, &args.part, order, true)
}

pub fn purge(args: &PurgeArgs) -> Exit {
    let order = plain(OrderAction::Purge, args.reason.clone());
    if args.part.any() {
        return part(&args.ask, &args.account, &args.part, order, args.yes);
    }
    if !args.yes && !confirmed(&args.account, "all mail") {
        return not_confirmed(&args.account);
    }
    give(&args.ask, &args.account, &order)
}

fn not_confirmed(account: &str) -> Exit {
    complain(&format!("nothing was done; to purge {account} without being asked, add --yes"));
    Exit::Usage
}

/// Counts what is meant first; the order is for exactly that.
fn part(ask: &AskArgs, account: &str, part: &PartArgs, order: OrderRequest, sure: bool) -> Exit {
    if !part.any() {
        return give(ask, account, &order);
    }
    let select = SelectRequest {
        script: part.script.clone(),
        sender: part.sender.clone(),
        recipient_domain: part.recipient_domain.clone(),
        older_than: part.older_than.clone(),
    };
    let path = format!("/api/v1/accounts/{}/select", encode(account));
    let found =
        Source::new(ask).and_then(|source| source.change(&path, &serde_json::to_value(&select).unwrap_or_default()));
    let found = match found {
        Ok(found) => found,
        Err(exit) => return exit,
    };
    let (messages, of) = (number(&found, "messages"), number(&found, "of"));
    let oldest = match words(&found, "oldest") {
        "" => String::new(),
        oldest => format!(", the oldest on hold since {oldest}"),
    };
    let told = format!("{account}: {messages} of {} on hold{oldest}", counted(of, "message", "messages"));
    if let Some(hint) = script_hint(&found) {
        complain(&hint);
    }
    if part.dry_run || messages == 0 {
        return say(&if ask.format == Format::Json { pretty(&found) } else { format!("{told}; nothing was done") });
    }
    complain(&told);
    if !sure && !confirmed(account, &counted(messages, "message", "messages")) {
        return not_confirmed(account);
    }
    give(ask, account, &OrderRequest { selection: Some(words(&found, "selection").to_owned()), ..order })
}

/// Which script made a message is not known by itself: whoever selects by it must know of how many it is not.
fn script_hint(found: &Value) -> Option<String> {
    let (of, named) = (number(found, "of"), found.get("with_script")?.as_u64()?);
    let unnamed = of.checked_sub(named).filter(|unnamed| *unnamed > 0)?;
    let how = match unnamed == of {
        true => "of none of them it is known".to_owned(),
        false => format!("of {unnamed} of these {of} it is not known"),
    };
    Some(format!(
        "{how} which script made it: Postfix's header_checks or PHP's own log must say so before the mail comes (README, \
         Which script it was; sendwarden check says what is on); --sender, --recipient-domain and --older-than need no script"
    ))
}

fn plain(action: OrderAction, reason: Option<String>) -> OrderRequest {
    OrderRequest { action, reason, scope: None, span: None, drip: None, selection: None }
}

fn give(ask: &AskArgs, account: &str, order: &OrderRequest) -> Exit {
    let answer = || -> Result<Exit, Exit> {
        let body = serde_json::to_value(order).unwrap_or_default();
        let answer = Source::new(ask)?.change(&format!("/api/v1/accounts/{}/request", encode(account)), &body)?;
        Ok(say(&if ask.format == Format::Json { pretty(&answer) } else { words(&answer, "done").to_owned() }))
    };
    answer().unwrap_or_else(|exit| exit)
}

fn confirmed(account: &str, what: &str) -> bool {
    if !std::io::stdin().is_terminal() {
        return false;
    }
    complain(&format!(
        "this deletes {what} of {account} that the agent holds, for good.\nType the account's name to go on:"
    ));
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).is_ok_and(|_| line.trim() == account)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn who_selects_by_script_is_told_where_no_script_is_known() {
        let hint = |with_script: Option<u64>| script_hint(&json!({"messages": 0, "of": 3, "with_script": with_script}));
        assert_eq!(hint(None), None);
        assert_eq!(hint(Some(3)), None);
        assert!(hint(Some(0)).unwrap().contains("of none of them") && hint(Some(0)).unwrap().contains("header_checks"));
        assert!(hint(Some(1)).unwrap().starts_with("of 2 of these 3 it is not known"));
    }
}
