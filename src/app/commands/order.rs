//! `sendwarden block`, `unblock` and `purge`: orders for one account, given to the running agent.

use super::ask::Source;
use super::{complain, pretty, say, words};
use crate::app::Exit;
use crate::app::cli::{AskArgs, BlockArgs, Format, PurgeArgs, UnblockArgs};
use crate::web::client::encode;
use crate::web::{OrderAction, OrderRequest};
use std::io::{BufRead, IsTerminal};

pub fn block(args: &BlockArgs) -> Exit {
    let (scope, span) = (args.scope.clone(), args.span.clone());
    give(
        &args.ask,
        &args.account,
        &OrderRequest { action: OrderAction::Block, reason: args.reason.clone(), scope, span },
    )
}

pub fn unblock(args: &UnblockArgs) -> Exit {
    give(&args.ask, &args.account, &plain(OrderAction::Unblock, args.reason.clone()))
}

pub fn purge(args: &PurgeArgs) -> Exit {
    if !args.yes && !confirmed(&args.account) {
        complain(&format!("nothing was done; to purge {} without being asked, add --yes", args.account));
        return Exit::Usage;
    }
    give(&args.ask, &args.account, &plain(OrderAction::Purge, args.reason.clone()))
}

fn plain(action: OrderAction, reason: Option<String>) -> OrderRequest {
    OrderRequest { action, reason, scope: None, span: None }
}

fn give(ask: &AskArgs, account: &str, order: &OrderRequest) -> Exit {
    let answer = || -> Result<Exit, Exit> {
        let body = serde_json::to_value(order).unwrap_or_default();
        let answer = Source::new(ask)?.change(&format!("/api/v1/accounts/{}/request", encode(account)), &body)?;
        Ok(say(&if ask.format == Format::Json { pretty(&answer) } else { words(&answer, "done").to_owned() }))
    };
    answer().unwrap_or_else(|exit| exit)
}

fn confirmed(account: &str) -> bool {
    if !std::io::stdin().is_terminal() {
        return false;
    }
    complain(&format!("this deletes all mail of {account} that is held, for good.\nType the account's name to go on:"));
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).is_ok_and(|_| line.trim() == account)
}
