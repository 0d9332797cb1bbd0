//! Searching the message index: who sent this, and where is my mail?
//!
//! Chunks are looked at from the newest to the oldest; a chunk's filter says whether it is worth unpacking. What is
//! found may continue under another queue id, or continue one: these are followed both ways, a few hops far, and only
//! close in time and on the same host, because short queue ids are used again.

use std::collections::BTreeSet;

use rusqlite::{Connection, params};

use super::bloom::{self, Key};
use super::{LegRecord, chunk, leg};
use crate::mail::{QueueId, Time};

/// Hops followed from what was searched for.
const HOPS: usize = 6;
/// Most records of one answer, whatever the limit asked for: an answer is held in memory.
const MOST: usize = 10_000;
/// Most queue ids followed at a time: each is compared with every record that is unpacked.
const MOST_LINKS: usize = 500;
/// How far apart in time two legs of one message may lie.
const NEAR_SECS: i64 = 6 * 3_600;

/// What to search for. Letters are compared without case where the filter does (everything but queue ids).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TraceQuery {
    QueueId(QueueId),
    /// With or without angle brackets.
    MessageId(String),
    /// An address; with or without angle brackets.
    Recipient(String),
    /// Either of the two above: they look alike.
    MessageIdOrRecipient(String),
}

impl TraceQuery {
    /// What somebody typed: a queue id if it can be one, else a Message-ID or a recipient.
    pub fn parse(text: &str) -> TraceQuery {
        let text = text.trim();
        match QueueId::new(text.as_bytes()) {
            Some(id) => TraceQuery::QueueId(id),
            None => TraceQuery::MessageIdOrRecipient(text.to_owned()),
        }
    }
}

/// The answer to a search.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Trace {
    /// In order of time.
    pub legs: Vec<LegRecord>,
    /// The limit was reached: there may be more, older ones.
    pub more: bool,
    /// Chunks of the index that could not be read.
    pub damaged: u32,
}

/// One thing to look for: its hash for the filters, and the exact test.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Target {
    Queue(Vec<u8>),
    MessageId(Vec<u8>),
    Recipient(Vec<u8>),
    /// A queue id that a record names or is named by; on this host, within this time.
    Linked {
        id: String,
        host: String,
        from: i64,
        to: i64,
    },
}

impl Target {
    fn of(query: &TraceQuery) -> Vec<Target> {
        let message_id = |text: &str| Target::MessageId(leg::bare_message_id(text.as_bytes()).to_vec());
        let recipient = |text: &str| Target::Recipient(leg::bare_address(text.as_bytes()).to_vec());
        match query {
            TraceQuery::QueueId(id) => vec![Target::Queue(id.as_bytes().to_vec())],
            TraceQuery::MessageId(text) => vec![message_id(text)],
            TraceQuery::Recipient(text) => vec![recipient(text)],
            TraceQuery::MessageIdOrRecipient(text) => vec![message_id(text), recipient(text)],
        }
    }

    fn hash(&self) -> u64 {
        match self {
            Target::Queue(id) => bloom::hash(Key::Queue, id),
            Target::MessageId(id) => bloom::hash(Key::MessageId, id),
            Target::Recipient(address) => bloom::hash(Key::Recipient, address),
            Target::Linked { id, .. } => bloom::hash(Key::Queue, id.as_bytes()),
        }
    }

    fn matches(&self, keys: &leg::Keys<'_>) -> bool {
        match self {
            Target::Queue(id) => keys.id == id,
            Target::MessageId(id) => !id.is_empty() && keys.message_id.eq_ignore_ascii_case(id),
            Target::Recipient(wanted) => {
                !wanted.is_empty() && keys.recipients.iter().any(|(address, _)| address.eq_ignore_ascii_case(wanted))
            }
            Target::Linked { id, from, to, host } => {
                let id = id.as_bytes();
                keys.last >= *from
                    && keys.first <= *to
                    && keys.host == host.as_bytes()
                    && (keys.id == id || keys.parent == id || keys.recipients.iter().any(|(_, next)| *next == id))
            }
        }
    }
}

/// Where a record is: the same one is never taken twice. Tail rows have negative numbers.
type Place = (i64, usize);

struct Search<'c> {
    conn: &'c Connection,
    limit: usize,
    seen: BTreeSet<Place>,
    found: Trace,
}

pub(super) fn search(conn: &Connection, query: &TraceQuery, since: Time, limit: usize) -> rusqlite::Result<Trace> {
    let mut search = Search { conn, limit: limit.min(MOST), seen: BTreeSet::new(), found: Trace::default() };
    let mut targets = Target::of(query);
    // With the time: a queue id that is used again is asked for again.
    let mut asked: BTreeSet<(String, String, i64)> = BTreeSet::new();
    let (mut from, mut to) = (since.0, i64::MAX);
    for _ in 0..=HOPS {
        let known = search.found.legs.len();
        search.pass(&targets, from, to)?;
        targets.clear();
        (from, to) = (i64::MAX, i64::MIN);
        for leg in search.found.legs.iter().skip(known) {
            let near = NEAR_SECS * 1_000_000;
            let (low, high) = (leg.first.0.saturating_sub(near), leg.last.0.saturating_add(near));
            let nexts = leg.recipients.iter().filter_map(|r| r.next.as_ref());
            for id in std::iter::once(&leg.id).chain(&leg.parent).chain(nexts) {
                if targets.len() < MOST_LINKS && asked.insert((leg.host.clone(), id.clone(), low)) {
                    (from, to) = (from.min(low), to.max(high));
                    targets.push(Target::Linked { id: id.clone(), host: leg.host.clone(), from: low, to: high });
                }
            }
        }
        if targets.is_empty() || search.found.more {
            break;
        }
    }
    let mut found = search.found;
    // What continues another message or reports on it comes behind it, also within its second.
    let order = |leg: &LegRecord| (leg.first, leg.parent.is_some(), leg.last);
    found.legs.sort_by(|a, b| order(a).cmp(&order(b)).then_with(|| a.id.cmp(&b.id)));
    Ok(found)
}

impl Search<'_> {
    /// Looks for the targets in everything that overlaps `from..=to`, newest first.
    fn pass(&mut self, targets: &[Target], from: i64, to: i64) -> rusqlite::Result<()> {
        let hashes: Vec<u64> = targets.iter().map(Target::hash).collect();
        let conn = self.conn;
        let mut tail = conn.prepare_cached(
            "SELECT id, data FROM message_tail WHERE last_time >= ?1 AND first_time <= ?2 ORDER BY id DESC",
        )?;
        let mut rows = tail.query(params![from, to])?;
        while let Some(row) = rows.next()? {
            self.take(-row.get::<_, i64>(0)?, row.get_ref(1)?.as_blob()?, from, targets);
        }
        let mut chunks = conn.prepare_cached(
            "SELECT id, filter, data FROM message_chunk WHERE last_time >= ?1 AND first_time <= ?2 ORDER BY id DESC",
        )?;
        let mut rows = chunks.query(params![from, to])?;
        while let Some(row) = rows.next()? {
            if self.found.more {
                break;
            }
            let filter = row.get_ref(1)?.as_blob()?;
            if !hashes.iter().any(|&hash| bloom::may_contain(filter, hash)) {
                continue;
            }
            match chunk::unpack(row.get_ref(2)?.as_blob()?) {
                Some(data) => self.take(row.get(0)?, &data, from, targets),
                None => self.found.damaged += 1,
            }
        }
        Ok(())
    }

    fn take(&mut self, place: i64, data: &[u8], from: i64, targets: &[Target]) {
        let mut hits = Vec::new();
        for (number, packed) in leg::records(data).enumerate() {
            let Some((packed, keys)) = packed.and_then(|packed| Some((packed, packed.keys()?))) else {
                self.found.damaged += 1;
                continue;
            };
            let wanted = keys.last >= from && targets.iter().any(|target| target.matches(&keys));
            if wanted && !self.seen.contains(&(place, number)) {
                hits.push((number, packed));
            }
        }
        for (number, packed) in hits.into_iter().rev() {
            if self.found.legs.len() >= self.limit {
                self.found.more = true;
                return;
            }
            self.seen.insert((place, number));
            self.found.legs.extend(packed.unpack());
        }
    }
}
