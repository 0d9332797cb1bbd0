//! Orders of people: from the words of a request to an order for the pump, and sanctions as pages show them.

use super::selection::Filter;
use super::views::when;
use crate::engine::sanctions::{Account, HELD_KIND, SANCTION_KIND, Stage, read_account, read_held};
use crate::mail::{Action, Actor, Cause, Order, OrderId, Owner, Scope, ServiceState, Time, text};
use crate::store::{AuditRow, Views};
use crate::web::api::{AccountView, DelayView, OrderLogView, SanctionView};
use crate::web::{OrderAction, OrderRequest, SelectRequest};
use std::collections::HashMap;

/// Longest time that a block may be set for.
const MOST_SECS: i64 = 3_660 * 86_400;
/// Messages an hour.
const MOST_DRIP: u32 = 1_000_000;
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
        Some(name) => scope(name)?,
    };
    let until = match request.span.as_deref() {
        None => None,
        Some(span) => Some(now.plus_secs(block_secs(span)?)),
    };
    if request.selection.is_some() && (action == Action::Block || request.drip.is_some()) {
        return Err("a selection is released at once or purged; nothing else can be done with it".to_owned());
    }
    let drip = match (request.drip, action) {
        (None, _) => None,
        (Some(1..=MOST_DRIP), Action::Unblock) => request.drip,
        (Some(_), Action::Unblock) => {
            return Err(format!("a slow release is from 1 to {MOST_DRIP} messages an hour, such as 50/h"));
        }
        (Some(_), _) => return Err("only an unblock can be slow".to_owned()),
    };
    let reason = text::clean(request.reason.as_deref().unwrap_or("").as_bytes(), MOST_REASON);
    let liftable_by = by.liftable_by();
    let id = OrderId::new(now, chance);
    let (cause, at, part) = (Cause::Person, now, None);
    Ok(Order { id, owner, action, scope, cause, by, liftable_by, reason, at, until, part, drip, spares: false })
}

/// The scope of a block, in the words of the command line.
pub fn scope(name: &str) -> Result<Scope, &'static str> {
    let plain = |_: &Scope| name == text::clean(name.as_bytes(), 400);
    Scope::from_name(name).filter(plain).ok_or("the scope is script, all, or login:LOGIN")
}

/// After how many seconds a block ends.
pub fn block_secs(span: &str) -> Result<i64, &'static str> {
    let secs = seconds(span).filter(|secs| (60..=MOST_SECS).contains(secs));
    secs.ok_or("the time is a number with m, h or d, such as 24h; at least one minute")
}

/// Which messages a request means; what is wrong with it otherwise.
pub fn filter(wanted: &SelectRequest) -> Result<Filter, String> {
    let SelectRequest { script, sender, recipient_domain, older_than } = wanted.clone();
    let older_secs = match older_than.as_deref() {
        None => None,
        Some(span) => Some(seconds(span).ok_or("an age is a number with m, h or d, such as 2h")?),
    };
    let filter = Filter { script, sender, recipient_domain, older_secs };
    let texts = [&filter.script, &filter.sender, &filter.recipient_domain];
    if texts.iter().any(|text| text.as_ref().is_some_and(String::is_empty)) {
        return Err("a script, sender or domain to look for must not be empty; the null sender is <>".to_owned());
    }
    Ok(filter)
}

/// A point in time: so long before now, or RFC 3339.
pub fn since(text: &str, now: Time) -> Result<Time, String> {
    if let Some(secs) = seconds(text) {
        return Ok(now.plus_secs(-secs));
    }
    let stamp = text.parse::<jiff::Timestamp>().map(|stamp| Time(stamp.as_microsecond()));
    stamp.map_err(|_| "the time is such as 2h (a number with m, h or d), or 2026-11-28T05:00:00Z".to_owned())
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
    held: HashMap<Owner, (u64, Time)>,
}

impl Sanctioned {
    pub fn read(views: &Views) -> Result<Sanctioned, String> {
        let mut all = Sanctioned::default();
        for row in views.rows(SANCTION_KIND).map_err(|why| why.to_string())? {
            all.accounts.extend(read_account(&row.key, &row.value.unwrap_or_default()));
        }
        for row in views.rows(HELD_KIND).map_err(|why| why.to_string())? {
            let held = read_held(&row.key, &row.value.unwrap_or_default());
            if let Some((owner, _, entry)) = held.filter(|(_, _, entry)| entry.stage != Stage::Intended) {
                let (messages, oldest) = all.held.entry(owner).or_insert((0, entry.at));
                *messages += 1;
                *oldest = entry.at.min(*oldest);
            }
        }
        Ok(all)
    }

    /// The same of one account, and nothing else of it.
    pub fn of(&self, owner: Owner) -> AccountView {
        let mut view = AccountView::default();
        self.tell(owner, &mut view);
        view
    }

    /// Writes down the state, what is said about it, and the messages that the agent holds.
    pub fn tell(&self, owner: Owner, view: &mut AccountView) {
        let held = self.held.get(&owner);
        (view.held_messages, view.held_since) = held.map_or((0, None), |(n, oldest)| (*n, Some(when(*oldest))));
        ServiceState::Ok.name().clone_into(&mut view.state);
        let Some(account) = self.accounts.get(&owner) else { return };
        view.drip = account.drip.as_ref().map(|drip| drip.per_hour);
        view.force_until = account.force_until.map(when);
        view.delay = account.delay.as_ref().map(|delay| DelayView {
            rule: delay.rule.to_string(),
            scope: delay.scope.to_string(),
            reason: delay.reason.clone(),
            since: when(delay.since),
        });
        let under_way = account.change.as_ref().map(|change| change.action.name().to_owned());
        view.sanction = account.block.as_ref().map(|block| SanctionView {
            order: block.order.to_string(),
            scope: block.scope.to_string(),
            by: block.by.to_string(),
            reason: block.reason.clone(),
            liftable_by: block.liftable_by.name().to_owned(),
            since: when(block.since),
            until: block.until.map(when),
            under_way,
        });
        account.state.name().clone_into(&mut view.state);
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
        let (reason, scope, span, drip) = (Some("a\nb".into()), own(scope), own(span), None);
        let request = OrderRequest { action, reason, scope, span, drip, selection: None };
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
