//! Delivery lines, one for each recipient and attempt (log_adhoc.c):
//! `to=<A>[, orig_to=<B>], relay=R[, conn_use=N][, delay=D][, delays=a/b/c/d][, tls=F][, dsn=X.Y.Z], status=S (TEXT)`
//!
//! The order is fixed. A and B come from the sender, TEXT from the receiver; both can hold a forged rest of a line.
//! - TEXT cannot reach A: behind A the real fields come first, and the first complete set of fields counts.
//! - A cannot reach the fields when it is logged quoted (3.5 and later). Unquoted ones (before) could; there the first
//!   complete set counts too, except one that the writing daemon cannot have written: error(8) never says `sent`.
//! - TEXT goes to the `)` that ends the line; a line that was cut (2000 bytes) has none.
//!
//! It never judges what TEXT means, but for the queue id a message went on as. See [`read`].

use super::scan;
use super::tag::Daemon;
use crate::mail::{Attempt, Dsn, Next, QueueId, Status};
use crate::mta::near;

/// Reads what follows `to=<`; `None` when the fields are not all there.
pub(super) fn read<'a>(daemon: Daemon, id: QueueId, text: &'a [u8]) -> Option<Attempt<'a>> {
    // A search behind `orig_to=<` sees every later end of an address, so a second one is enough (one for the quoted
    // form, one for the unquoted): more of them would only make a hostile line expensive.
    let mut originals = 2;
    let (recipient, (original, fields)) = scan::address(text, |rest| behind_recipient(daemon, rest, &mut originals))?;
    let Fields { relay, delay_ms, dsn, status, reply } = fields;
    let address = relay_address(relay);
    let on_a_socket = address.is_some_and(|address| near::find(b'/', address).is_some());
    let local = on_a_socket || matches!(daemon, Daemon::Local | Daemon::Virtual | Daemon::Pipe | Daemon::Discard);
    let next = if status == Status::Sent { next(daemon, reply) } else { None };
    Some(Attempt {
        id,
        recipient,
        original,
        accepted_as: &[],
        relay,
        relay_address: if on_a_socket { &[] } else { address.unwrap_or(&[]) },
        local,
        delay_ms,
        dsn,
        status,
        reply,
        next,
    })
}

#[derive(Clone, Copy)]
struct Fields<'a> {
    relay: &'a [u8],
    delay_ms: u64,
    dsn: Dsn,
    status: Status,
    reply: &'a [u8],
}

#[inline]
fn behind_recipient<'a>(daemon: Daemon, rest: &'a [u8], originals: &mut u32) -> Option<(&'a [u8], Fields<'a>)> {
    let rest = rest.strip_prefix(b", ")?;
    if let Some(original) = rest.strip_prefix(b"orig_to=<") {
        *originals = originals.checked_sub(1)?;
        return scan::address(original, |rest| fields(daemon, rest.strip_prefix(b", ")?));
    }
    Some((&[], fields(daemon, rest)?))
}

#[inline]
fn fields(daemon: Daemon, text: &[u8]) -> Option<Fields<'_>> {
    let (relay, mut rest) = item(text.strip_prefix(b"relay=")?)?;
    if let Some(uses) = rest.strip_prefix(b"conn_use=") {
        rest = scan::number(uses)?.1.strip_prefix(b", ")?;
    }
    let mut delay_ms = 0;
    if let Some(delay) = rest.strip_prefix(b"delay=") {
        (delay_ms, rest) = milliseconds(delay)?;
        rest = rest.strip_prefix(b", ")?;
    }
    if let Some(delays) = rest.strip_prefix(b"delays=") {
        let (parts, after) = item(delays)?;
        if !parts.iter().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'/' | b'-')) {
            return None;
        }
        rest = after;
    }
    if let Some(tls) = rest.strip_prefix(b"tls=") {
        rest = behind_tls(tls)?;
    }
    let mut dsn = Dsn::NONE;
    if let Some(code) = rest.strip_prefix(b"dsn=") {
        let (code, after) = item(code)?;
        dsn = Dsn::parse(code)?;
        rest = after;
    }
    let rest = rest.strip_prefix(b"status=")?;
    let (word, reply) = scan::split(rest, near::find(b' ', rest)?)?;
    let reply = reply.strip_prefix(b"(")?;
    let status = match word {
        b"sent" => Status::Sent,
        b"deferred" | b"SOFTBOUNCE" => Status::Deferred,
        b"bounced" => Status::Bounced,
        b"deliverable" | b"undeliverable" | b"undeliverable-but-not-cached" => Status::Probe,
        _ => return None,
    };
    let never_sends = matches!(daemon, Daemon::Error | Daemon::Bounce | Daemon::Qmgr | Daemon::Cleanup);
    if status == Status::Sent && never_sends {
        return None;
    }
    Some(Fields { relay, delay_ms, dsn, status, reply: reply.strip_suffix(b")").unwrap_or(reply) })
}

/// A value up to `, `.
#[inline]
fn item(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut from = 0;
    loop {
        let at = from + near::find(b',', text.get(from..)?)?;
        let (value, rest) = scan::split(text, at)?;
        if let Some(rest) = rest.strip_prefix(b" ") {
            return Some((value, rest));
        }
        from = at + 1;
    }
}

/// 3.11 lists TLS features; the list may hold commas, so it ends where the next field begins. The number of steps is
/// bounded: a hostile line must not make every `>` expensive.
fn behind_tls(mut text: &[u8]) -> Option<&[u8]> {
    for _ in 0..16 {
        let (_, rest) = item(text)?;
        if rest.starts_with(b"dsn=") || rest.starts_with(b"status=") {
            return Some(rest);
        }
        text = rest;
    }
    None
}

/// Seconds with or without a fraction (before 2.3 without), as milliseconds.
#[inline]
fn milliseconds(text: &[u8]) -> Option<(u64, &[u8])> {
    if let Some(negative) = text.strip_prefix(b"-") {
        // The clock was set back while the message was queued.
        return milliseconds(negative).map(|(_, rest)| (0, rest));
    }
    let (seconds, rest) = scan::number(text)?;
    let mut millis = seconds.saturating_mul(1_000);
    let Some(fraction) = rest.strip_prefix(b".") else { return Some((millis, rest)) };
    let len = fraction.iter().take_while(|b| b.is_ascii_digit()).count();
    let (digits, rest) = fraction.split_at_checked(len)?;
    for (byte, scale) in digits.iter().zip([100, 10, 1]) {
        millis = millis.saturating_add(u64::from(byte - b'0') * scale);
    }
    Some((millis, rest))
}

/// What stands in brackets in `host[ip]:port` or `host[path]`.
#[inline]
fn relay_address(relay: &[u8]) -> Option<&[u8]> {
    let (_, rest) = scan::split(relay, near::find(b'[', relay)?)?;
    Some(scan::split(rest, near::find(b']', rest)?)?.0)
}

fn next(daemon: Daemon, reply: &[u8]) -> Option<Next> {
    match daemon {
        Daemon::Smtp | Daemon::Lmtp => queued_as(reply).map(Next::QueuedAs),
        // Word for word what forward.c logs; a command's output never stands alone.
        Daemon::Local => scan::queue_id(reply.strip_prefix(b"forwarded as ")?).map(Next::ForwardedAs),
        _ => None,
    }
}

/// The last `queued as ID` of a reply: filters put the answer of the server behind them last.
#[inline]
fn queued_as(reply: &[u8]) -> Option<QueueId> {
    for at in memchr::memrchr_iter(b'q', reply) {
        if let Some(id) = reply.get(at..)?.strip_prefix(b"queued as ") {
            let len = id.iter().take_while(|b| b.is_ascii_alphanumeric()).count();
            return QueueId::new(id.get(..len)?);
        }
    }
    None
}
