//! Answers about single messages: what has become of them, and what is on hold now, for which block and until when.
//!
//! It reads the store. Whom a message on hold is for stands in no line of the log before it is released, so the queue is
//! asked too, where somebody can.

use super::orders::Sanctioned;
use super::views::{script, unavailable, when};
use crate::engine::directory::Directory;
use crate::engine::replies::Replies;
use crate::engine::sanctions::{Entry, HELD_KIND, Stage, read_held};
use crate::engine::tracker::{RowKind, Settings};
use crate::engine::{Engine, Sink};
use crate::host::clock;
use crate::mail::{Envelope, Fact, LegFact, Owner, Place, QueueId, Server, Time, text};
use crate::store::{LegRecord, TraceQuery as StoreQuery, Views};
use crate::web::api::{AccountView, Answer, BackendError, HeldView, TraceLeg, TraceQuery, TraceRecipient, TraceView};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

/// Most legs of one trace.
const MAX_LEGS: usize = 200;

/// Names the messages of one queue.
pub type Instance = (Server, Arc<[u8]>);
/// Gives every message on hold in these, one after the other; why it could not.
pub type Queue<'q> = dyn FnMut(&BTreeSet<Instance>, &mut dyn FnMut(Envelope)) -> Option<String> + 'q;
/// Where the log has it: the name of the instance, and the id.
type Key = (Arc<[u8]>, QueueId);

/// What the agent holds.
struct Held(BTreeMap<Key, (Owner, Place, Entry)>);

impl Held {
    fn read(views: &Views) -> Answer<Held> {
        let rows = views.rows(HELD_KIND).map_err(unavailable)?;
        let read = rows.iter().filter_map(|row| read_held(&row.key, row.value.as_deref().unwrap_or_default()));
        let on_hold = read.filter(|(_, _, entry)| entry.stage != Stage::Intended);
        Ok(Held(on_hold.map(|(owner, place, entry)| (key(&place), (owner, place, entry))).collect()))
    }

    fn instances(&self) -> BTreeSet<Instance> {
        self.0.values().map(|(_, place, _)| (place.server, Arc::clone(&place.instance))).collect()
    }
}

fn key(place: &Place) -> Key {
    (Arc::clone(&place.instance), place.id)
}

/// `held_max_secs`: how long a message is held at most. `queue`: whom those on hold are for.
pub fn trace(
    views: &Views,
    query: &TraceQuery,
    held_max_secs: Option<i64>,
    mut queue: Option<&mut Queue<'_>>,
) -> Answer<TraceView> {
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
    let parsed = StoreQuery::parse(&query.q);
    let held = Held::read(views)?;
    let mut seen = Looked::default();
    match &parsed {
        StoreQuery::QueueId(id) => seen.named.extend(held.0.keys().filter(|(_, its)| its == id).cloned()),
        // A Message-ID looks the same; then nobody has it as an address.
        _ => {
            let wanted = bare(query.q.trim().as_bytes()).to_ascii_lowercase();
            let is_for = |envelope: &Envelope| envelope.recipients.iter().any(|to| to.eq_ignore_ascii_case(&wanted));
            seen.look(&held, queue.as_deref_mut(), |envelope| is_for(envelope));
            seen.named.extend(seen.envelopes.keys().cloned());
        }
    }
    let found = views.trace(&parsed, since, MAX_LEGS).map_err(unavailable)?;
    let names: HashMap<u32, String> =
        views.accounts().map_err(unavailable)?.into_iter().map(|row| (row.owner, row.name)).collect();
    let mut legs: Vec<TraceLeg> = found.legs.iter().map(|leg| closed_leg(leg, &names)).collect();
    let mut open = open_legs(views, &query.q, since, &legs, &names, &seen.named)?;
    // What was put on hold before the log told of the message.
    let known: HashSet<Key> = open.iter().map(|(key, _)| key.clone()).collect();
    for key in seen.named.iter().filter(|key| !known.contains(*key)) {
        if let Some((owner, place, entry)) = held.0.get(key).filter(|(_, _, entry)| entry.at >= since) {
            open.push((key.clone(), untold_leg(*owner, place, *entry, &names)));
        }
    }
    let its: HashSet<&Key> = open.iter().map(|(key, _)| key).filter(|key| held.0.contains_key(*key)).collect();
    if its.iter().any(|key| !seen.envelopes.contains_key(*key)) {
        seen.look(&held, queue, |envelope| its.contains(&key(&envelope.place)));
    }
    let sanctioned =
        if its.is_empty() { Sanctioned::default() } else { Sanctioned::read(views).map_err(unavailable)? };
    for (key, mut leg) in open {
        if let Some((owner, _, entry)) = held.0.get(&key) {
            tell_held(&mut leg, *entry, sanctioned.of(*owner), held_max_secs);
            if let Some(envelope) = seen.envelopes.get(&key) {
                add_envelope(&mut leg, envelope, *entry);
            }
        }
        legs.push(leg);
    }
    legs.sort_by(|a, b| (&a.first, a.parent.is_some()).cmp(&(&b.first, b.parent.is_some())));
    Ok(TraceView { legs, cut: found.more, not_looked: seen.trouble })
}

/// What the queue was asked, and what it said.
#[derive(Default)]
struct Looked {
    envelopes: BTreeMap<Key, Envelope>,
    /// On hold, and meant by the question.
    named: BTreeSet<Key>,
    /// Why it could not be asked.
    trouble: Option<String>,
}

impl Looked {
    fn look(&mut self, held: &Held, queue: Option<&mut Queue<'_>>, wanted: impl Fn(&Envelope) -> bool) {
        if held.0.is_empty() {
            return;
        }
        let Some(ask) = queue else {
            let messages = crate::app::numbers::counted(held.0.len() as u64, "message", "messages");
            self.trouble =
                Some(format!("{messages} on hold: whom they are for only a running agent can ask the queue"));
            return;
        };
        let envelopes = &mut self.envelopes;
        let mut take = |envelope: Envelope| {
            let key = key(&envelope.place);
            if envelopes.len() < MAX_LEGS && held.0.contains_key(&key) && wanted(&envelope) {
                envelopes.insert(key, envelope);
            }
        };
        self.trouble = ask(&held.instances(), &mut take).map(|why| format!("cannot look into the queue: {why}"));
    }
}

/// Why and since when it is on hold, and until when.
fn tell_held(leg: &mut TraceLeg, entry: Entry, account: AccountView, held_max_secs: Option<i64>) {
    let stage = match entry.stage {
        Stage::Leaving => "leaving",
        Stage::Doomed => "deleting",
        Stage::Held | Stage::Intended => "held",
    };
    leg.end = "held".to_owned();
    for recipient in leg.recipients.iter_mut().filter(|recipient| recipient.state == "queued") {
        recipient.state = "held".to_owned();
    }
    leg.held = Some(HeldView {
        since: when(entry.at),
        stage: stage.to_owned(),
        state: account.state,
        block: account.sanction,
        drip: account.drip,
        deleted_at: held_max_secs.map(|secs| when(entry.at.plus_secs(secs))),
    });
}

fn add_envelope(leg: &mut TraceLeg, envelope: &Envelope, entry: Entry) {
    if leg.sender.is_empty() {
        leg.sender = text::clean(&envelope.sender, 512);
    }
    for to in envelope.recipients.iter().map(|to| text::clean(to, 512)) {
        if !leg.recipients.iter().any(|known| known.recipient.eq_ignore_ascii_case(&to)) {
            let (state, last) = ("held".to_owned(), when(entry.at));
            leg.recipients.push(TraceRecipient { recipient: to, state, last, ..TraceRecipient::default() });
        }
    }
}

/// A message on hold that the log has not told of yet.
fn untold_leg(owner: Owner, place: &Place, entry: Entry, names: &HashMap<u32, String>) -> TraceLeg {
    TraceLeg {
        instance: text::clean(&place.instance, 512),
        queue_id: place.id.to_string(),
        account: names.get(&owner.0).cloned(),
        basis: "gate".to_owned(),
        first: when(entry.at),
        last: when(entry.at),
        ..TraceLeg::default()
    }
}

/// An address or a Message-ID without its brackets.
fn bare(text: &[u8]) -> &[u8] {
    let text = text.strip_prefix(b"<").unwrap_or(text);
    text.strip_suffix(b">").unwrap_or(text)
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
        held: None,
    }
}

/// Messages still in the queue, from the rows of the tracker; those `named` besides those that the question finds.
fn open_legs(
    views: &Views,
    query: &str,
    since: Time,
    found: &[TraceLeg],
    names: &HashMap<u32, String>,
    named: &BTreeSet<Key>,
) -> Answer<Vec<(Key, TraceLeg)>> {
    let settings = Settings { details: true, ..Settings::default() };
    let mut engine = Engine::new(settings, Directory::default(), Replies::default(), 0);
    for kind in [RowKind::State, RowKind::Leg] {
        for row in views.rows(kind.code()).map_err(unavailable)? {
            engine.restore_row(kind, &row.key, &row.value.unwrap_or_default());
        }
    }
    let wanted = bare(query.trim().as_bytes()).to_ascii_lowercase();
    let linked = found.iter().flat_map(|leg| {
        let nexts = leg.recipients.iter().filter_map(|recipient| recipient.next.clone());
        nexts.chain(leg.parent.clone()).chain([leg.queue_id.clone()])
    });
    let mut sink = OpenLegs { wanted, linked: linked.collect(), since, names, named, legs: Vec::new() };
    engine.tell_open(&mut sink);
    Ok(sink.legs)
}

struct OpenLegs<'a> {
    wanted: Vec<u8>,
    linked: HashSet<String>,
    since: Time,
    names: &'a HashMap<u32, String>,
    named: &'a BTreeSet<Key>,
    legs: Vec<(Key, TraceLeg)>,
}

impl Sink for OpenLegs<'_> {
    fn fact(&mut self, fact: &Fact<'_>) {
        if let Fact::Leg(leg) = fact
            && self.legs.len() < MAX_LEGS
            && leg.last >= self.since
        {
            let key = (leg.instance.into(), leg.id);
            if self.named.contains(&key) || self.is_wanted(leg) {
                self.legs.push((key, open_leg(leg, self.names)));
            }
        }
    }
}

impl OpenLegs<'_> {
    fn is_wanted(&self, leg: &LegFact<'_>) -> bool {
        let same = |bytes: &[u8]| bare(bytes).eq_ignore_ascii_case(&self.wanted);
        let id = leg.id.as_str();
        id.as_bytes().eq_ignore_ascii_case(&self.wanted)
            || self.linked.contains(id)
            || leg.parent.is_some_and(|parent| self.linked.contains(parent.as_str()))
            || same(leg.message_id)
            || leg.recipients.iter().any(|recipient| same(recipient.texts.address()))
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
                recipient: shown(recipient.texts.address()),
                relay: shown(recipient.texts.relay()),
                state: recipient.state.name().to_owned(),
                dsn: if recipient.dsn.is_none() { String::new() } else { recipient.dsn.to_string() },
                reply: shown(recipient.texts.reply()),
                attempts: recipient.attempts,
                last: when(recipient.last),
                next: recipient.next.as_ref().map(|id| id.to_string()),
            })
            .collect(),
        recipients_cut: leg.recipients_cut,
        held: None,
    }
}
