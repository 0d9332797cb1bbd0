//! Orders of people: from the words of a request to an order for the pump, and sanctions as pages show them.

use super::views::when;
use crate::engine::sanctions::{Account, HELD_KIND, SANCTION_KIND, Stage, read_account, read_held_owner};
use crate::mail::{Action, Actor, Cause, Order, OrderId, Owner, Scope, Time, text};
use crate::store::{AuditRow, Views};
use crate::web::api::{OrderLogView, SanctionView};
use crate::web::{OrderAction, OrderRequest};
use std::collections::HashMap;

/// Longest time that a block may be set for.
const MOST_SECS: i64 = 3_660 * 86_400;
const MOST_REASON: usize = 500;

/// The order that a request asks for, given at `now`; what is wrong with it otherwise.
pub fn read(request: &OrderRequest, owner: Owner, by: Actor, now: Time, chance: u64) -> Result<Order, String> {
    let action = match request.action {
        OrderAction::Block => Action::Block,
        OrderAction::Unblock => Action::Unblock,
        OrderAction::Purge => Action::Purge,
    };
    if action != Action::Block && (request.scope.is_some() || request.span.is_some()) {
        return Err("only a block has a scope and a time".to_owned());
    }
    let scope = match request.scope.as_deref() {
        None => Scope::default(),
        Some(name) => Scope::from_name(name)
            .filter(|_| name == text::clean(name.as_bytes(), 400))
            .ok_or("the scope is script, all, or login:LOGIN")?,
    };
    let until = match request.span.as_deref() {
        None => None,
        Some(span) => {
            let secs = seconds(span).filter(|secs| (60..=MOST_SECS).contains(secs));
            let secs = secs.ok_or("the time is a number with m, h or d, such as 24h; at least one minute")?;
            Some(now.plus_secs(secs))
        }
    };
    let reason = text::clean(request.reason.as_deref().unwrap_or("").as_bytes(), MOST_REASON);
    let liftable_by = by.liftable_by();
    let id = OrderId::new(now, chance);
    Ok(Order { id, owner, action, scope, cause: Cause::Person, by, liftable_by, reason, at: now, until })
}

fn seconds(span: &str) -> Option<i64> {
    let (number, unit) = span.split_at_checked(span.find(|c: char| !c.is_ascii_digit())?)?;
    let unit = match unit {
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return None,
    };
    number.parse::<i64>().ok()?.checked_mul(unit)
}

/// What stands for each account, from the rows of the store.
#[derive(Debug, Default)]
pub struct Sanctioned {
    accounts: HashMap<Owner, Account>,
    held: HashMap<Owner, u64>,
}

impl Sanctioned {
    pub fn read(views: &Views) -> Result<Sanctioned, String> {
        let mut all = Sanctioned::default();
        for row in views.rows(SANCTION_KIND).map_err(|why| why.to_string())? {
            all.accounts.extend(read_account(&row.key, &row.value.unwrap_or_default()));
        }
        for row in views.rows(HELD_KIND).map_err(|why| why.to_string())? {
            let held = read_held_owner(&row.key, &row.value.unwrap_or_default());
            if let Some((owner, Stage::Held | Stage::Doomed)) = held {
                *all.held.entry(owner).or_default() += 1;
            }
        }
        Ok(all)
    }

    /// The state, what is said about it, and the messages that the agent holds.
    pub fn of(&self, owner: Owner) -> (String, Option<SanctionView>, u64) {
        let held = self.held.get(&owner).copied().unwrap_or(0);
        let Some(account) = self.accounts.get(&owner) else { return ("ok".to_owned(), None, held) };
        let under_way = account.change.as_ref().map(|change| change.action.name().to_owned());
        let sanction = account.block.as_ref().map(|block| SanctionView {
            order: block.order.to_string(),
            scope: block.scope.to_string(),
            by: block.by.to_string(),
            reason: block.reason.clone(),
            liftable_by: block.liftable_by.name().to_owned(),
            since: when(block.since),
            until: block.until.map(when),
            under_way,
        });
        (account.state.name().to_owned(), sanction, held)
    }
}

/// A line of the order log, as pages show it.
pub fn log_line(row: AuditRow) -> OrderLogView {
    OrderLogView {
        time: when(row.at),
        order: row.order,
        action: row.action,
        scope: row.scope,
        by: row.by,
        reason: row.reason,
        outcome: row.outcome,
        details: row.details,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(action: OrderAction, scope: Option<&str>, span: Option<&str>) -> Result<Order, String> {
        let own = |text: Option<&str>| text.map(str::to_owned);
        let request = OrderRequest { action, reason: Some("a\nb".into()), scope: own(scope), span: own(span) };
        read(&request, Owner(16), Actor::Token, Time::from_secs(1_000), 7)
    }

    #[test]
    fn requests_become_orders_or_say_what_is_wrong() {
        let order = request(OrderAction::Block, Some("login:a@b"), Some("24h")).unwrap();
        assert_eq!(order.until, Some(Time::from_secs(1_000 + 86_400)));
        assert_eq!((order.scope, order.reason.contains('\n')), (Scope::Login("a@b".into()), false));
        assert_eq!(request(OrderAction::Block, None, None).unwrap().scope, Scope::Script);
        assert_eq!(request(OrderAction::Purge, None, None).unwrap().action, Action::Purge);
        for (scope, span) in [
            (Some("scripts"), None),
            (Some("login:"), None),
            (Some("login:a\u{7}b"), None),
            (None, Some("24")),
            (None, Some("0m")),
            (None, Some("-3h")),
            (None, Some("9999999999999999d")),
            (None, Some("h")),
        ] {
            assert!(request(OrderAction::Block, scope, span).is_err(), "{scope:?} {span:?}");
        }
        assert!(request(OrderAction::Unblock, None, Some("1h")).is_err());
        assert!(request(OrderAction::Purge, Some("all"), None).is_err());
    }
}
