//! Answers from the store's committed state: the same for the agent's API and for commands without an agent.

use super::backend::nobody;
use super::orders::{Sanctioned, log_line};
use super::pump::{FIGURES_KIND, KEY_KIND, figures_of, read_key};
use super::verdicts;
use crate::engine::tracker::RowKind;
use crate::host::clock;
use crate::mail::{Counts, Owner, Time, text};
use crate::store::{AccountRow, ScriptRecord, Views};
use crate::web::api::{
    AccountView, AccountsQuery, AccountsView, Answer, BackendError, ErrorView, ErrorsView, HistoryPoint, HistoryView,
    ScriptView, StatusView,
};
use jiff::Timestamp;
use jiff::civil::date;
use std::collections::HashMap;

/// A point in time for people and programs: RFC 3339 in UTC, whole seconds.
pub fn when(at: Time) -> String {
    Timestamp::from_second(at.secs()).map_or_else(|_| at.secs().to_string(), |stamp| stamp.to_string())
}

/// The store does not answer.
pub fn unavailable(why: impl ToString) -> BackendError {
    BackendError::Unavailable(why.to_string())
}

/// Whom a name means, and what it is called.
pub struct Named {
    pub owner: Owner,
    pub name: String,
    /// What its mail is known by, where people have given it another name.
    pub key: Option<String>,
    row: Option<AccountRow>,
}

/// Whom a name means: one of the reasons why mail has no account; an account by its name; else, when it was renamed, by
/// what its mail is known by: whoever gives orders by a user's name must not miss the account.
pub fn named(views: &Views, asked: &str) -> Answer<Named> {
    if let Some(owner) = nobody(asked) {
        return Ok(Named { owner, name: asked.to_owned(), key: None, row: None });
    }
    let keys: Vec<(u32, String)> = views.rows(KEY_KIND).map_err(unavailable)?.iter().filter_map(read_key).collect();
    let row = match views.account(asked).map_err(unavailable)? {
        Some(row) => Some(row),
        None => match keys.iter().find(|(_, key)| key == asked) {
            Some((owner, _)) => views.accounts().map_err(unavailable)?.into_iter().find(|row| row.owner == *owner),
            None => None,
        },
    };
    let Some(row) = row else {
        return Err(BackendError::NotFound(format!(
            "there is no account {}; `sendwarden account list` shows all",
            text::clean(asked.as_bytes(), 128)
        )));
    };
    let key = keys.into_iter().find(|(owner, _)| *owner == row.owner).map(|(_, key)| key);
    Ok(Named { owner: Owner(row.owner), name: row.name.clone(), key, row: Some(row) })
}

struct Figures {
    last: HashMap<u32, (Time, i32, u64)>,
    today: i32,
}

fn figures(views: &Views) -> Result<Figures, String> {
    let rows = views.rows(FIGURES_KIND).map_err(|why| why.to_string())?;
    let mut last = HashMap::with_capacity(rows.len());
    for row in rows {
        let (key, value) = (row.key, row.value.unwrap_or_default());
        if let (Ok(owner), Some((_, at, today))) = (<[u8; 4]>::try_from(key.as_slice()), figures_of(&value)) {
            last.insert(u32::from_be_bytes(owner), (at, today.day, today.messages));
        }
    }
    Ok(Figures { last, today: today() })
}

/// The local date, as days since the epoch.
fn today() -> i32 {
    let now = Timestamp::from_second(clock::now().secs()).unwrap_or(Timestamp::UNIX_EPOCH);
    let local = now.to_zoned(clock::zone()).date();
    date(1970, 1, 1).until(local).map_or(0, |span| span.get_days())
}

fn account_view(row: &AccountRow, counts: &Counts, figures: &Figures, sanctioned: &Sanctioned) -> AccountView {
    let last = figures.last.get(&row.owner);
    let mut view = AccountView {
        not_in_force: Vec::new(),
        account: row.name.clone(),
        key: None,
        state: String::new(),
        sent: counts.sent,
        sent_today: last.filter(|(_, day, _)| *day == figures.today).map_or(0, |(_, _, messages)| *messages),
        errors: counts.errors(),
        messages: counts.messages,
        recipients: counts.recipients,
        bounced: counts.bounced,
        expired: counts.expired,
        deleted: counts.deleted,
        unaccounted: counts.unaccounted,
        deferred: counts.deferred,
        queued: counts.queued,
        held: counts.held,
        late_errors: counts.late_errors,
        first_seen: Some(when(row.first_seen)),
        last_seen: last.map(|(at, _, _)| when(*at)),
        closed: row.closed.is_some(),
        sanction: None,
        held_messages: 0,
        held_since: None,
        force_until: None,
        drip: None,
        delay: None,
        orders: Vec::new(),
        verdicts: Vec::new(),
    };
    sanctioned.tell(Owner(row.owner), &mut view);
    view
}

/// Most accounts in one answer.
const MOST: u32 = 10_000;

pub fn accounts(views: &Views, query: &AccountsQuery) -> Answer<AccountsView> {
    let rows = views.accounts().map_err(unavailable)?;
    let totals: HashMap<u32, Counts> = views.all_totals().map_err(unavailable)?.into_iter().collect();
    let figures = figures(views).map_err(unavailable)?;
    let sanctioned = Sanctioned::read(views).map_err(unavailable)?;
    let wanted = query.q.as_deref().unwrap_or("").to_lowercase();
    let mut accounts: Vec<AccountView> = rows
        .iter()
        .filter(|row| row.name.to_lowercase().contains(&wanted))
        .map(|row| account_view(row, &totals.get(&row.owner).copied().unwrap_or_default(), &figures, &sanctioned))
        .collect();
    sort(&mut accounts, query.sort.as_deref().unwrap_or("account")).map_err(BackendError::BadRequest)?;
    let total = accounts.len() as u64;
    let skip = query.offset.unwrap_or(0) as usize;
    let take = query.limit.unwrap_or(MOST).min(MOST) as usize;
    Ok(AccountsView { accounts: accounts.into_iter().skip(skip).take(take).collect(), total })
}

fn sort(accounts: &mut [AccountView], by: &str) -> Result<(), String> {
    let key: fn(&AccountView) -> u64 = match by {
        "account" => {
            accounts.sort_by(|a, b| a.account.cmp(&b.account));
            return Ok(());
        }
        "messages" => |view| view.messages,
        "recipients" => |view| view.recipients,
        "sent" => |view| view.sent,
        "sent_today" => |view| view.sent_today,
        "errors" => |view| view.errors,
        "deferred" => |view| view.deferred,
        "queued" => |view| view.queued,
        "held" => |view| view.held,
        other => {
            return Err(format!(
                "cannot sort by {}; one of: account, messages, recipients, sent, sent_today, errors, deferred, queued, held",
                text::clean(other.as_bytes(), 40)
            ));
        }
    };
    accounts.sort_by(|a, b| key(b).cmp(&key(a)).then_with(|| a.account.cmp(&b.account)));
    Ok(())
}

/// Lines of the order log shown with an account, and what rules said of it.
const ORDERS: usize = 20;
const VERDICTS: usize = 20;

pub fn account(views: &Views, name: &str) -> Answer<AccountView> {
    let Named { owner, name, key, row } = named(views, name)?;
    let counts = views.totals(owner.0).map_err(unavailable)?.unwrap_or_default();
    let figures = figures(views).map_err(unavailable)?;
    let row =
        row.unwrap_or(AccountRow { owner: owner.0, name, uid: None, home: None, first_seen: Time::ZERO, closed: None });
    let mut view = account_view(&row, &counts, &figures, &Sanctioned::read(views).map_err(unavailable)?);
    view.key = key;
    view.orders = views.audit(owner.0, ORDERS).map_err(unavailable)?.into_iter().map(log_line).collect();
    view.verdicts = verdicts::of(views, owner, &view.account, VERDICTS)?;
    if !owner.is_account() {
        view.first_seen = None;
    }
    Ok(view)
}

pub fn history(views: &Views, name: &str, days: u32) -> Answer<HistoryView> {
    let Named { owner, name, .. } = named(views, name)?;
    let to = today();
    let from = to.saturating_sub(i32::try_from(days.clamp(1, 3_660)).unwrap_or(30) - 1);
    let found = views.days(owner.0, from, to).map_err(unavailable)?;
    let by_day: HashMap<i32, _> = found.into_iter().map(|record| (record.day, record.counts)).collect();
    let points = (from..=to).map(|day| {
        let counts = by_day.get(&day).copied().unwrap_or_default();
        let shown = date(1970, 1, 1).checked_add(jiff::Span::new().days(day)).map_or(String::new(), |d| d.to_string());
        HistoryPoint {
            day: shown,
            messages: counts.messages,
            recipients: counts.recipients,
            sent: counts.sent,
            bounced: counts.bounced,
            expired: counts.expired,
            deleted: counts.deleted,
            unaccounted: counts.unaccounted,
            deferred: counts.deferred,
        }
    });
    Ok(HistoryView { account: name, points: points.collect() })
}

pub fn errors(views: &Views, name: &str, limit: u32) -> Answer<ErrorsView> {
    let Named { owner, name, .. } = named(views, name)?;
    let found = views.errors(Some(owner.0), limit.clamp(1, MOST) as usize, None).map_err(unavailable)?;
    let errors = found.into_iter().map(|record| ErrorView {
        time: when(record.at),
        queue_id: record.queue_id,
        sender: record.sender,
        recipient: record.recipient,
        relay: record.relay,
        outcome: record.outcome,
        late: record.late,
        dsn: record.dsn,
        class: record.class,
        own_address: record.own_address,
        reply: record.reply,
        script: record.script.map(script),
    });
    Ok(ErrorsView { account: name, errors: errors.collect() })
}

/// Figures of the whole host. What only a running agent knows is left empty.
pub fn status(views: &Views) -> Result<StatusView, String> {
    let totals = views.all_totals().map_err(|why| why.to_string())?;
    let (mut all, mut unattributed) = (Counts::default(), serde_json::Map::new());
    for (owner, counts) in &totals {
        all.add(counts);
        if let Some(why) = Owner(*owner).unattributed() {
            unattributed.insert(why.name().to_owned(), counts_json(counts));
        }
    }
    let accounts = views.accounts().map_err(|why| why.to_string())?;
    Ok(StatusView {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        accounts: accounts.len() as u64,
        open_messages: views.rows(RowKind::Leg.code()).map_err(|why| why.to_string())?.len() as u64,
        totals: counts_json(&all),
        unattributed: serde_json::Value::Object(unattributed),
        ..StatusView::default()
    })
}

/// COUNTS of the contract.
pub fn counts_json(counts: &Counts) -> serde_json::Value {
    serde_json::json!({
        "messages": counts.messages, "recipients": counts.recipients, "sent": counts.sent,
        "bounced": counts.bounced, "expired": counts.expired, "deleted": counts.deleted,
        "unaccounted": counts.unaccounted, "deferred": counts.deferred, "queued": counts.queued,
        "held": counts.held, "late_errors": counts.late_errors,
    })
}

/// A script as it is shown.
pub fn script(record: ScriptRecord) -> ScriptView {
    let ScriptRecord { path, line, directory } = record;
    ScriptView { path, line: (line != 0).then_some(line), directory }
}
