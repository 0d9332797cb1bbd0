//! One record of the message index: the story of one queue id, packed into bytes and back.
//!
//! Packing copies capped bytes and allocates nothing; texts are cleaned when they are unpacked. Unpacking takes any
//! bytes: what is not a whole record is `None`.
//!
//! A record is its length (varint) and then: owner, origin, basis, flags, first (8 bytes), last - first, host,
//! instance, id, Message-ID, sender, login, client, uid, size, parent, end, the recipients, and the script. Numbers are LEB128
//! varints (signed ones zigzag), texts are a length and bytes.

use serde::Serialize;

use super::batch::{MAX_ADDRESS, MAX_RELAY};
use super::bloom::{self, Key};
use super::record::ScriptRecord;
use crate::mail::script::MAX_PATH;
use crate::mail::{
    Basis, Dsn, LegFact, Origin, Owner, QueueId, RecipientState, RecipientTrace, ScriptClaim, Time, TraceTexts, text,
};

const MAX_MESSAGE_ID: usize = 512;
const MAX_NAME: usize = 128;
const MAX_REPLY: usize = 300;
/// Recipients kept per record.
const MAX_RECIPIENTS: usize = 500;

/// The words for how a queue id ended (`LegFact::end`).
const ENDS: [&str; 7] = ["removed", "deleted", "requeued", "rejected", "discarded", "cancelled", "lost"];

const CUT: u8 = 1;
const HAS_UID: u8 = 2;
const HAS_SCRIPT: u8 = 4;

/// The story of one queue id, as it is shown. Times are serialised as whole seconds since the epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LegRecord {
    pub host: String,
    pub instance: String,
    pub id: String,
    pub owner: u32,
    /// `mail::Origin::name`.
    pub origin: &'static str,
    /// `mail::Basis::name`.
    pub basis: &'static str,
    #[serde(serialize_with = "super::record::secs")]
    pub first: Time,
    #[serde(serialize_with = "super::record::secs")]
    pub last: Time,
    /// Without angle brackets.
    pub message_id: String,
    pub sender: String,
    pub login: String,
    pub uid: Option<u32>,
    pub client_address: String,
    /// Bytes.
    pub size: u64,
    /// The queue id this one continues.
    pub parent: Option<String>,
    pub recipients: Vec<RecipientRecord>,
    /// There were more recipients than are kept.
    pub recipients_cut: bool,
    pub script: Option<ScriptRecord>,
    /// How the queue id ended, in one word.
    pub end: String,
}

/// What became of one recipient under one queue id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RecipientRecord {
    pub address: String,
    pub relay: String,
    pub reply: String,
    /// Enhanced status code; empty when there was none.
    pub dsn: String,
    /// `mail::RecipientState::name`; `handed` went on as `next`.
    pub state: &'static str,
    pub attempts: u32,
    #[serde(serialize_with = "super::record::secs")]
    pub last: Time,
    pub next: Option<String>,
}

/// A Message-ID as it is compared and kept: without angle brackets.
pub(super) fn bare_message_id(id: &[u8]) -> &[u8] {
    let id = id.strip_prefix(b"<").unwrap_or(id);
    capped(id.strip_suffix(b">").unwrap_or(id), MAX_MESSAGE_ID)
}

/// An address as it is compared: at most the bytes that are kept.
pub(super) fn bare_address(address: &[u8]) -> &[u8] {
    let address = address.strip_prefix(b"<").unwrap_or(address);
    capped(address.strip_suffix(b">").unwrap_or(address), MAX_ADDRESS)
}

/// Appends the record to `out`.
pub(super) fn encode(fact: &LegFact<'_>, out: &mut Vec<u8>) {
    let start = out.len();
    // The length goes in front when it is known: five bytes, a padded varint.
    out.extend_from_slice(&[0; 5]);
    number(out, u64::from(fact.owner.0));
    let uid = u32::try_from(fact.uid).ok();
    let cut = fact.recipients_cut || fact.recipients.len() > MAX_RECIPIENTS;
    let flags = if cut { CUT } else { 0 } | if uid.is_some() { HAS_UID } else { 0 };
    let flags = flags | if fact.script.is_some() { HAS_SCRIPT } else { 0 };
    out.extend_from_slice(&[fact.origin.code(), fact.basis.code(), flags]);
    out.extend_from_slice(&fact.first.0.to_le_bytes());
    signed(out, fact.last.0.wrapping_sub(fact.first.0));
    bytes(out, capped(fact.host, MAX_RELAY));
    bytes(out, capped(fact.instance, MAX_NAME));
    bytes(out, fact.id.as_bytes());
    bytes(out, bare_message_id(fact.message_id));
    bytes(out, bare_address(fact.sender));
    bytes(out, capped(fact.login, MAX_ADDRESS));
    bytes(out, capped(fact.client_address, MAX_NAME));
    number(out, u64::from(uid.unwrap_or(0)));
    number(out, fact.size);
    bytes(out, fact.parent.as_ref().map_or(&[], QueueId::as_bytes));
    bytes(out, capped(fact.end.as_bytes(), MAX_NAME));
    number(out, fact.recipients.len().min(MAX_RECIPIENTS) as u64);
    for recipient in fact.recipients.iter().take(MAX_RECIPIENTS) {
        encode_recipient(recipient, fact.first, out);
    }
    // Behind all else, and only where there is one: records of older versions have none.
    if let Some(script) = fact.script {
        bytes(out, capped(&script.path, MAX_PATH));
        number(out, u64::from(script.line));
        bytes(out, capped(&script.directory, MAX_PATH));
    }
    let length = out.len() - start - 5;
    if let Some(head) = out.get_mut(start..start + 5) {
        for (n, byte) in head.iter_mut().enumerate() {
            *byte = ((length >> (7 * n)) & 0x7f) as u8 | if n < 4 { 0x80 } else { 0 };
        }
    }
}

fn encode_recipient(recipient: &RecipientTrace, first: Time, out: &mut Vec<u8>) {
    bytes(out, bare_address(recipient.texts.address()));
    bytes(out, capped(recipient.texts.relay(), MAX_RELAY));
    bytes(out, capped(recipient.texts.reply(), MAX_REPLY));
    out.push(recipient.dsn.class);
    number(out, u64::from(recipient.dsn.subject));
    number(out, u64::from(recipient.dsn.detail));
    out.push(recipient.state.code());
    number(out, u64::from(recipient.attempts));
    signed(out, recipient.last.0.wrapping_sub(first.0));
    bytes(out, recipient.next.as_deref().map_or(&[], QueueId::as_bytes));
}

/// The keys this record is found by.
pub(super) fn push_hashes(fact: &LegFact<'_>, hashes: &mut Vec<u64>) {
    hashes.push(bloom::owner_hash(fact.owner.0));
    hashes.push(bloom::hash(Key::Queue, fact.id.as_bytes()));
    hashes.extend(fact.parent.as_ref().map(|id| bloom::hash(Key::Queue, id.as_bytes())));
    let message_id = bare_message_id(fact.message_id);
    if !message_id.is_empty() {
        hashes.push(bloom::hash(Key::MessageId, message_id));
    }
    for recipient in fact.recipients.iter().take(MAX_RECIPIENTS) {
        hashes.push(bloom::hash(Key::Recipient, bare_address(recipient.texts.address())));
        hashes.extend(recipient.next.as_ref().map(|id| bloom::hash(Key::Queue, id.as_bytes())));
    }
}

/// A record still packed: enough to decide whether it is wanted, without allocating.
#[derive(Debug, Clone, Copy)]
pub(super) struct Packed<'a> {
    /// Length and body, to be copied as they are.
    pub whole: &'a [u8],
    body: &'a [u8],
}

/// Walks the records of a chunk. `None` as an item: the rest is not readable.
pub(super) fn records(mut data: &[u8]) -> impl Iterator<Item = Option<Packed<'_>>> {
    std::iter::from_fn(move || {
        if data.is_empty() {
            return None;
        }
        let before = data;
        let body = take_number(&mut data).and_then(|n| take(&mut data, n));
        let whole = before.get(..before.len() - data.len()).unwrap_or(&[]);
        if body.is_none() {
            data = &[];
        }
        Some(body.map(|body| Packed { whole, body }))
    })
}

/// The fields of a packed record that searches compare; raw bytes.
#[derive(Debug, Default)]
pub(super) struct Keys<'a> {
    pub owner: u32,
    pub first: i64,
    pub last: i64,
    pub host: &'a [u8],
    pub id: &'a [u8],
    pub parent: &'a [u8],
    pub message_id: &'a [u8],
    pub recipients: Vec<(&'a [u8], &'a [u8])>,
}

impl<'a> Packed<'a> {
    /// The owner alone.
    pub fn owner(&self) -> Option<u32> {
        let mut body = self.body;
        take_number(&mut body).and_then(|n| u32::try_from(n).ok())
    }

    /// The fields searches compare, and the hashes of all keys pushed to `hashes`.
    pub fn keys(&self) -> Option<Keys<'a>> {
        let raw = self.raw()?;
        let mut recipients = Vec::new();
        let mut rest = raw.rest;
        for _ in 0..raw.recipients {
            let one = RawRecipient::take(&mut rest)?;
            recipients.push((one.address, one.next));
        }
        let [host, _, id, message_id, ..] = raw.texts;
        Some(Keys {
            owner: raw.owner,
            first: raw.first,
            last: raw.last,
            host,
            id,
            parent: raw.parent,
            message_id,
            recipients,
        })
    }

    /// Whose it is, its first time and its last.
    pub fn span(&self) -> Option<(u32, i64, i64)> {
        let data = &mut { self.body };
        let owner = u32::try_from(take_number(data)?).ok()?;
        take(data, 3)?;
        let first = i64::from_le_bytes(take(data, 8)?.try_into().ok()?);
        Some((owner, first, first.wrapping_add(take_signed(data)?)))
    }

    /// The fact that it was made of, as far as it is kept. `None` when it cannot be read.
    pub fn tell(&self, each: &mut dyn FnMut(&LegFact<'_>)) -> Option<()> {
        let raw = self.raw()?;
        let [host, instance, id, message_id, sender, login, client_address] = raw.texts;
        let mut rest = raw.rest;
        let mut recipients = Vec::new();
        for _ in 0..raw.recipients {
            recipients.push(RawRecipient::take(&mut rest)?.trace(raw.first)?);
        }
        let script = if raw.has_script { Some(take_claim(&mut rest)?) } else { None };
        each(&LegFact {
            host,
            instance,
            id: QueueId::new(id)?,
            owner: Owner(raw.owner),
            origin: raw.origin,
            basis: raw.basis,
            first: Time(raw.first),
            last: Time(raw.last),
            message_id,
            sender,
            login,
            uid: raw.uid.map_or(-1, i64::from),
            client_address,
            size: raw.size,
            parent: QueueId::new(raw.parent),
            recipients: &recipients,
            recipients_cut: raw.cut,
            script: script.as_ref(),
            end: ENDS.into_iter().find(|end| end.as_bytes() == raw.end).unwrap_or_default(),
        });
        Some(())
    }

    /// The whole record, cleaned.
    pub fn unpack(&self) -> Option<LegRecord> {
        let raw = self.raw()?;
        let [host, instance, id, message_id, sender, login, client] = raw.texts;
        let mut rest = raw.rest;
        let mut recipients = Vec::new();
        for _ in 0..raw.recipients {
            recipients.push(RawRecipient::take(&mut rest)?.unpack(raw.first)?);
        }
        let script = if raw.has_script { Some(take_script(&mut rest)?) } else { None };
        Some(LegRecord {
            host: shown(host),
            instance: shown(instance),
            id: shown(id),
            owner: raw.owner,
            origin: raw.origin.name(),
            basis: raw.basis.name(),
            first: Time(raw.first),
            last: Time(raw.last),
            message_id: shown(message_id),
            sender: shown(sender),
            login: shown(login),
            uid: raw.uid,
            client_address: shown(client),
            size: raw.size,
            parent: (!raw.parent.is_empty()).then(|| shown(raw.parent)),
            recipients,
            recipients_cut: raw.cut,
            script,
            end: shown(raw.end),
        })
    }

    fn raw(&self) -> Option<Raw<'a>> {
        let data = &mut { self.body };
        let owner = u32::try_from(take_number(data)?).ok()?;
        let &[origin, basis, flags] = take(data, 3)? else { return None };
        let first = i64::from_le_bytes(take(data, 8)?.try_into().ok()?);
        let last = first.wrapping_add(take_signed(data)?);
        let mut texts = [&[][..]; 7];
        for text in &mut texts {
            *text = take_bytes(data)?;
        }
        let uid = u32::try_from(take_number(data)?).ok()?;
        Some(Raw {
            owner,
            origin: Origin::from_code(origin)?,
            basis: Basis::from_code(basis)?,
            cut: flags & CUT != 0,
            has_script: flags & HAS_SCRIPT != 0,
            first,
            last,
            texts,
            uid: (flags & HAS_UID != 0).then_some(uid),
            size: take_number(data)?,
            parent: take_bytes(data)?,
            end: take_bytes(data)?,
            recipients: take_number(data).filter(|&n| n <= MAX_RECIPIENTS as u64)?,
            rest: data,
        })
    }
}

struct Raw<'a> {
    owner: u32,
    origin: Origin,
    basis: Basis,
    cut: bool,
    has_script: bool,
    first: i64,
    last: i64,
    /// Host, instance, id, Message-ID, sender, login, client.
    texts: [&'a [u8]; 7],
    uid: Option<u32>,
    size: u64,
    parent: &'a [u8],
    end: &'a [u8],
    recipients: u64,
    rest: &'a [u8],
}

struct RawRecipient<'a> {
    address: &'a [u8],
    relay: &'a [u8],
    reply: &'a [u8],
    dsn: Dsn,
    state: u8,
    attempts: u32,
    last: i64,
    next: &'a [u8],
}

impl<'a> RawRecipient<'a> {
    fn take(data: &mut &'a [u8]) -> Option<RawRecipient<'a>> {
        let (address, relay, reply) = (take_bytes(data)?, take_bytes(data)?, take_bytes(data)?);
        let &[class] = take(data, 1)? else { return None };
        let subject = u16::try_from(take_number(data)?).ok()?;
        let detail = u16::try_from(take_number(data)?).ok()?;
        let &[state] = take(data, 1)? else { return None };
        Some(RawRecipient {
            address,
            relay,
            reply,
            dsn: Dsn::new(class, subject, detail),
            state,
            attempts: u32::try_from(take_number(data)?).ok()?,
            last: take_signed(data)?,
            next: take_bytes(data)?,
        })
    }

    fn trace(&self, first: i64) -> Option<RecipientTrace> {
        Some(RecipientTrace {
            texts: TraceTexts::new(self.address, self.relay, self.reply),
            dsn: self.dsn,
            state: RecipientState::from_code(self.state)?,
            attempts: self.attempts,
            last: Time(first.wrapping_add(self.last)),
            next: QueueId::new(self.next).map(Box::new),
        })
    }

    fn unpack(&self, first: i64) -> Option<RecipientRecord> {
        Some(RecipientRecord {
            address: shown(self.address),
            relay: shown(self.relay),
            reply: shown(self.reply),
            dsn: if self.dsn.is_none() { String::new() } else { self.dsn.to_string() },
            state: RecipientState::from_code(self.state)?.name(),
            attempts: self.attempts,
            last: Time(first.wrapping_add(self.last)),
            next: (!self.next.is_empty()).then(|| shown(self.next)),
        })
    }
}

fn take_script(data: &mut &[u8]) -> Option<ScriptRecord> {
    let path = shown(take_bytes(data)?);
    Some(ScriptRecord { path, line: u32::try_from(take_number(data)?).ok()?, directory: shown(take_bytes(data)?) })
}

fn take_claim(data: &mut &[u8]) -> Option<ScriptClaim> {
    let path = take_bytes(data)?;
    let line = u32::try_from(take_number(data)?).ok()?;
    Some(ScriptClaim::new(take_bytes(data)?, path, line))
}

/// A replacement character takes three bytes, so no text grows beyond three times what was kept.
fn shown(bytes: &[u8]) -> String {
    text::clean(bytes, bytes.len().saturating_mul(3))
}

fn capped(text: &[u8], most: usize) -> &[u8] {
    text.get(..most).unwrap_or(text)
}

fn number(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

fn signed(out: &mut Vec<u8>, n: i64) {
    number(out, ((n << 1) ^ (n >> 63)) as u64);
}

fn bytes(out: &mut Vec<u8>, text: &[u8]) {
    number(out, text.len() as u64);
    out.extend_from_slice(text);
}

fn take<'a>(data: &mut &'a [u8], n: u64) -> Option<&'a [u8]> {
    let (head, rest) = data.split_at_checked(usize::try_from(n).ok()?)?;
    *data = rest;
    Some(head)
}

fn take_number(data: &mut &[u8]) -> Option<u64> {
    let mut n = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = data.split_first()?;
        *data = rest;
        n |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(n);
        }
    }
    None
}

fn take_signed(data: &mut &[u8]) -> Option<i64> {
    take_number(data).map(|n| (n >> 1) as i64 ^ -((n & 1) as i64))
}

fn take_bytes<'a>(data: &mut &'a [u8]) -> Option<&'a [u8]> {
    let n = take_number(data)?;
    take(data, n)
}

#[cfg(test)]
mod tests;
