//! Answers from the store's committed state: the same for the agent's API and for commands without an agent.

use super::backend::nobody;
use super::orders::{Sanctioned, log_line};
use super::pump::{FIGURES_KIND, figures_of};
use crate::engine::directory::Directory;
use crate::engine::replies::Replies;
use crate::engine::tracker::{RowKind, Settings};
use crate::engine::{Engine, Sink};
use crate::host::clock;
use crate::mail::{Counts, Fact, LegFact, Owner, RecipientState, Time, text};
use crate::store::{AccountRow, LegRecord, ScriptRecord, TraceQuery as StoreQuery, Views};
use crate::web::api::{
    AccountView, AccountsQuery, AccountsView, Answer, BackendError, ErrorView, ErrorsView, HistoryPoint, HistoryView,
    ScriptView, StatusView, TraceLeg, TraceQuery, TraceRecipient, TraceView,
};
use jiff::Timestamp;
use jiff::civil::date;
use std::collections::HashMap;

/// A point in time for people and programs: RFC 3339 in UTC, whole seconds.
pub fn when(at: Time) -> String {
    Timestamp::from_second(at.secs()).map_or_else(|_| at.secs().to_string(), |stamp| stamp.to_string())
}

fn unavailable(why: impl ToString) -> BackendError {
    BackendError::Unavailable(why.to_string())
}

/// The owner of a name: an account, or one of the reasons why mail has none.
pub fn owner(views: &Views, name: &str) -> Answer<Owner> {
    if let Some(owner) = nobody(name) {
        return Ok(owner);
    }
    match views.account(name).map_err(unavailable)? {
        Some(account) => Ok(Owner(account.owner)),
        None => Err(BackendError::NotFound(format!(
            "there is no account {}; `sendwarden account list` shows all",
            text::clean(name.as_bytes(), 128)
        ))),
    }
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
        drip: None,
        orders: Vec::new(),
    };
    sanctioned.tell(Owner(row.owner), &mut view);
    view
}

/// Most accounts in one answer.
const MOST: u32 = 10_000;

pub fn accounts(views: &Views, query: &AccountsQuery) -> Result<AccountsView, String> {
    let rows = views.accounts().map_err(|why| why.to_string())?;
    let totals: HashMap<u32, Counts> = views.all_totals().map_err(|why| why.to_string())?.into_iter().collect();
    let figures = figures(views)?;
    let sanctioned = Sanctioned::read(views)?;
    let wanted = query.q.as_deref().unwrap_or("").to_lowercase();
    let mut accounts: Vec<AccountView> = rows
        .iter()
        .filter(|row| row.name.to_lowercase().contains(&wanted))
        .map(|row| account_view(row, &totals.get(&row.owner).copied().unwrap_or_default(), &figures, &sanctioned))
        .collect();
    sort(&mut accounts, query.sort.as_deref().unwrap_or("account"))?;
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

/// Lines of the order log shown with an account.
const ORDERS: usize = 20;

pub fn account(views: &Views, name: &str) -> Answer<AccountView> {
    let owner = owner(views, name)?;
    let counts = views.totals(owner.0).map_err(unavailable)?.unwrap_or_default();
    let figures = figures(views).map_err(unavailable)?;
    let row = match views.account(name).map_err(unavailable)? {
        Some(row) => row,
        None => AccountRow {
            owner: owner.0,
            name: name.to_owned(),
            uid: None,
            home: None,
            first_seen: Time::ZERO,
            closed: None,
        },
    };
    let mut view = account_view(&row, &counts, &figures, &Sanctioned::read(views).map_err(unavailable)?);
    view.orders = views.audit(owner.0, ORDERS).map_err(unavailable)?.into_iter().map(log_line).collect();
    if !owner.is_account() {
        view.first_seen = None;
    }
    Ok(view)
}

pub fn history(views: &Views, name: &str, days: u32) -> Answer<HistoryView> {
    let owner = owner(views, name)?;
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
    Ok(HistoryView { account: name.to_owned(), points: points.collect() })
}

pub fn errors(views: &Views, name: &str, limit: u32) -> Answer<ErrorsView> {
    let owner = owner(views, name)?;
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
    Ok(ErrorsView { account: name.to_owned(), errors: errors.collect() })
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

/// Most legs of one trace.
const MAX_LEGS: usize = 200;

pub fn trace(views: &Views, query: &TraceQuery) -> Answer<TraceView> {
    if query.q.trim().is_empty() {
        return Err(BackendError::BadRequest("give a queue id, a Message-ID or a recipient".to_owned()));
    }
    let since = match query.since.as_deref() {
        Some(text) => read_since(text).ok_or_else(|| {
            BackendError::BadRequest(format!(
                "cannot read --since {}; give a time (2026-11-23T10:00:00Z) or a span (2h, 3d)",
                text::clean(text.as_bytes(), 40)
            ))
        })?,
        None => Time::ZERO,
    };
    let found = views.trace(&StoreQuery::parse(&query.q), since, MAX_LEGS).map_err(unavailable)?;
    let names: HashMap<u32, String> =
        views.accounts().map_err(unavailable)?.into_iter().map(|row| (row.owner, row.name)).collect();
    let mut legs: Vec<TraceLeg> = found.legs.iter().map(|leg| closed_leg(leg, &names)).collect();
    legs.extend(open_legs(views, &query.q, since, &legs, &names)?);
    legs.sort_by(|a, b| (&a.first, a.parent.is_some()).cmp(&(&b.first, b.parent.is_some())));
    Ok(TraceView { legs, cut: found.more })
}

/// A time, or a span back from now.
fn read_since(text: &str) -> Option<Time> {
    if let Ok(stamp) = text.parse::<Timestamp>() {
        return Some(Time(stamp.as_microsecond()));
    }
    let span: jiff::Span = text.parse().ok()?;
    let now = Timestamp::from_second(clock::now().secs()).ok()?.to_zoned(clock::zone());
    let then = now.checked_sub(span.abs()).ok()?;
    Some(Time(then.timestamp().as_microsecond()))
}

fn script(record: ScriptRecord) -> ScriptView {
    let ScriptRecord { path, line, directory } = record;
    ScriptView { path, line: (line != 0).then_some(line), directory }
}

fn closed_leg(leg: &LegRecord, names: &HashMap<u32, String>) -> TraceLeg {
    TraceLeg {
        host: leg.host.clone(),
        instance: leg.instance.clone(),
        queue_id: leg.id.clone(),
        parent: leg.parent.clone(),
        account: names.get(&leg.owner).cloned(),
        unattributed: Owner(leg.owner).unattributed().map(|why| why.name().to_owned()),
        origin: leg.origin.to_owned(),
        basis: leg.basis.to_owned(),
        first: when(leg.first),
        last: when(leg.last),
        message_id: leg.message_id.clone(),
        sender: leg.sender.clone(),
        login: leg.login.clone(),
        uid: leg.uid,
        client_address: leg.client_address.clone(),
        size: leg.size,
        script: leg.script.clone().map(script),
        end: leg.end.clone(),
        recipients: leg
            .recipients
            .iter()
            .map(|recipient| TraceRecipient {
                recipient: recipient.address.clone(),
                relay: recipient.relay.clone(),
                state: recipient.state.to_owned(),
                dsn: recipient.dsn.clone(),
                reply: recipient.reply.clone(),
                attempts: recipient.attempts,
                last: when(recipient.last),
                next: recipient.next.clone(),
            })
            .collect(),
        recipients_cut: leg.recipients_cut,
    }
}

/// Messages still in the queue, from the rows of the tracker.
fn open_legs(
    views: &Views,
    query: &str,
    since: Time,
    found: &[TraceLeg],
    names: &HashMap<u32, String>,
) -> Answer<Vec<TraceLeg>> {
    let settings = Settings { details: true, ..Settings::default() };
    let mut engine = Engine::new(settings, Directory::default(), Replies::default(), 0);
    for kind in [RowKind::State, RowKind::Leg] {
        for row in views.rows(kind.code()).map_err(unavailable)? {
            engine.restore_row(kind, &row.key, &row.value.unwrap_or_default());
        }
    }
    let wanted = query.trim().trim_start_matches('<').trim_end_matches('>').to_ascii_lowercase();
    let linked = found.iter().flat_map(|leg| {
        let nexts = leg.recipients.iter().filter_map(|recipient| recipient.next.clone());
        nexts.chain(leg.parent.clone()).chain([leg.queue_id.clone()])
    });
    let mut sink = OpenLegs { wanted, linked: linked.collect(), since, names, legs: Vec::new() };
    engine.tell_open(&mut sink);
    Ok(sink.legs)
}

struct OpenLegs<'a> {
    wanted: String,
    linked: std::collections::HashSet<String>,
    since: Time,
    names: &'a HashMap<u32, String>,
    legs: Vec<TraceLeg>,
}

impl Sink for OpenLegs<'_> {
    fn fact(&mut self, fact: &Fact<'_>) {
        if let Fact::Leg(leg) = fact
            && self.legs.len() < MAX_LEGS
            && leg.last >= self.since
            && self.is_wanted(leg)
        {
            self.legs.push(open_leg(leg, self.names));
        }
    }
}

impl OpenLegs<'_> {
    fn is_wanted(&self, leg: &LegFact<'_>) -> bool {
        let same = |bytes: &[u8]| {
            let bare = bytes.strip_prefix(b"<").unwrap_or(bytes);
            let bare = bare.strip_suffix(b">").unwrap_or(bare);
            bare.eq_ignore_ascii_case(self.wanted.as_bytes())
        };
        let id = leg.id.as_str();
        id.eq_ignore_ascii_case(&self.wanted)
            || self.linked.contains(id)
            || leg.parent.is_some_and(|parent| self.linked.contains(parent.as_str()))
            || same(leg.message_id)
            || leg.recipients.iter().any(|recipient| same(&recipient.address))
    }
}

fn open_leg(leg: &LegFact<'_>, names: &HashMap<u32, String>) -> TraceLeg {
    let shown = |bytes: &[u8]| text::clean(bytes, 512);
    TraceLeg {
        host: shown(leg.host),
        instance: shown(leg.instance),
        queue_id: leg.id.to_string(),
        parent: leg.parent.map(|id| id.to_string()),
        account: names.get(&leg.owner.0).cloned(),
        unattributed: leg.owner.unattributed().map(|why| why.name().to_owned()),
        origin: leg.origin.name().to_owned(),
        basis: leg.basis.name().to_owned(),
        first: when(leg.first),
        last: when(leg.last),
        message_id: shown(leg.message_id).trim_matches(['<', '>']).to_owned(),
        sender: shown(leg.sender),
        login: shown(leg.login),
        uid: u32::try_from(leg.uid).ok(),
        client_address: shown(leg.client_address),
        size: leg.size,
        script: leg.script.map(|claim| script(claim.into())),
        end: leg.end.to_owned(),
        recipients: leg
            .recipients
            .iter()
            .map(|recipient| TraceRecipient {
                recipient: shown(&recipient.address),
                relay: shown(&recipient.relay),
                state: match recipient.state {
                    RecipientState::Deferred => "deferred".to_owned(),
                    RecipientState::Handed => "handed".to_owned(),
                    RecipientState::Ended(outcome) => outcome.name().to_owned(),
                },
                dsn: if recipient.dsn.is_none() { String::new() } else { recipient.dsn.to_string() },
                reply: shown(&recipient.reply),
                attempts: recipient.attempts,
                last: when(recipient.last),
                next: recipient.next.as_ref().map(|id| id.to_string()),
            })
            .collect(),
        recipients_cut: leg.recipients_cut,
    }
}
