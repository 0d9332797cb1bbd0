//! Delivery lines, one for each recipient and attempt (deliver.c):
//! `FLAG ADDRESS[ (PARENTS)][ <ACCEPTED>] FIELDS[: TEXT]`, FLAG being `=>`, `->`, `>>`, `*>`, `**` or `==`
//!
//! ADDRESS is the recipient after aliases were expanded, ACCEPTED the one the message was accepted for, where that is
//! another; of a local delivery ADDRESS is the local part, a pipe or a file. Addresses are a stranger's text, but a
//! space in one is inside quotes; pipes and files are the mailbox owner's text, and end where ` <ACCEPTED>` does.
//! FIELDS are the server's, but for `C="…"` (the receiver's words, quoted and escaped) and TEXT, which goes to the end
//! of the line: nothing behind its colon is a field.
//!
//! It never judges what the receiver says, but for the id a message went on as. See [`read`].

use super::scan::{self, Peer};
use crate::mail::{Attempt, Dsn, Next, QueueId, Status, Time, address};
use crate::mta::near;

/// `=> discarded (system filter)` and `=> blackhole (… discarded recipients)` are about the whole message.
pub(super) fn is_discarded(text: &[u8]) -> bool {
    (text.starts_with(b"discarded (") || text.starts_with(b"blackhole ("))
        && memchr::memmem::find(text, b"> R=").is_none()
}

/// Reads what follows the flag; `None` when there is no address.
pub(super) fn read<'a>(at: Time, id: QueueId, status: Status, text: &'a [u8]) -> Option<Attempt<'a>> {
    let fails = matches!(status, Status::Bounced | Status::Deferred);
    let (recipient, original, rest) = addresses(text, fails)?;
    let mut fields = Fields::default();
    fields.read(rest, fails);
    let Fields { peer, transport, router, reply, queued_ms } = fields;
    let status = match status {
        // An alias to nowhere (routers/redirect.c): nobody gets it.
        Status::Sent if recipient == b":blackhole:" => Status::Dropped,
        // retry.c; deliver.c for messages that were frozen for too long.
        Status::Bounced if matches!(reply, b"retry timeout exceeded" | b"delivery cancelled; message timed out") => {
            Status::Expired
        }
        // Logged at every queue run that comes too early (retry.c, selector +retry_defer, on by default).
        Status::Deferred if reply.starts_with(b"retry time not reached") => Status::Waiting,
        status => status,
    };
    let reply = receivers_words(reply);
    let age = at.secs().saturating_sub(scan::id_seconds(id.as_bytes()));
    Some(Attempt {
        id,
        recipient,
        original,
        accepted_as: if original.is_empty() { recipient } else { original },
        relay: peer.map_or(if transport.is_empty() { router } else { transport }, |peer| peer.text),
        relay_address: peer.map_or(&[], |peer| peer.address),
        local: peer.is_none() && status == Status::Sent,
        delay_ms: queued_ms.unwrap_or(u64::try_from(age).unwrap_or(0).saturating_mul(1_000)),
        dsn: dsn(reply),
        status,
        reply,
        next: if status == Status::Sent && peer.is_some() { next(reply) } else { None },
    })
}

/// Recipient, the accepted one where it is another, and the fields.
#[inline]
fn addresses(text: &[u8], fails: bool) -> Option<(&[u8], &[u8], &[u8])> {
    if matches!(text.first(), Some(b'|' | b'/')) || text.starts_with(b"save ") {
        return piped(text);
    }
    let (mut recipient, mut rest) = text.split_at_checked(address::end(text))?;
    if fails && let Some(plain) = recipient.strip_suffix(b":") {
        // The text follows at once.
        (recipient, rest) = (plain, text.get(plain.len()..)?);
    }
    if recipient.is_empty() {
        return None;
    }
    if rest.starts_with(b" (") {
        rest = behind_parents(rest)?;
    }
    match rest.strip_prefix(b" ").and_then(scan::angled) {
        Some((original, rest)) => Some((recipient, original, rest)),
        None => Some((recipient, &[], rest)),
    }
}

/// The accepted address always follows a pipe or file; the first that a field or a text follows is the one.
fn piped(text: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    for at in memchr::memmem::find_iter(text, b" <").take(16) {
        let (piped, rest) = text.split_at_checked(at)?;
        if let Some((original, rest)) = rest.strip_prefix(b" ").and_then(scan::angled)
            && (rest.is_empty() || rest.starts_with(b":") || matches!(rest, [b' ', b'A'..=b'Z', b'=', ..]))
        {
            return Some((piped, original, rest));
        }
    }
    let (piped, rest) = scan::word(text);
    Some((piped, &[], rest))
}

/// ` (PARENT, PARENT)`: to the bracket that the accepted address follows.
fn behind_parents(text: &[u8]) -> Option<&[u8]> {
    let end = memchr::memmem::find(text, b") <").or_else(|| near::find(b')', text))?;
    text.get(end + 1..)
}

#[derive(Default)]
struct Fields<'a> {
    peer: Option<Peer<'a>>,
    transport: &'a [u8],
    router: &'a [u8],
    reply: &'a [u8],
    queued_ms: Option<u64>,
}

impl<'a> Fields<'a> {
    /// Reads fields from the left. Of a failure the text begins behind the first field that a colon follows.
    fn read(&mut self, mut text: &'a [u8], fails: bool) {
        loop {
            if fails && let Some(words) = text.strip_prefix(b":") {
                self.reply = without_time(words.strip_prefix(b" ").unwrap_or(words));
                return;
            }
            let Some(field) = text.strip_prefix(b" ") else { return };
            text = match field {
                [b'H', b'=', rest @ ..] if self.peer.is_none() => match scan::peer(rest) {
                    Some((peer, rest)) => {
                        self.peer = Some(peer);
                        // A connection that was used before.
                        rest.strip_prefix(b"*").unwrap_or(rest)
                    }
                    None => self.plain(field, fails),
                },
                [b'C', b'=', b'"', rest @ ..] => match scan::quoted(rest) {
                    Some((reply, rest)) => {
                        self.reply = reply;
                        rest
                    }
                    // Cut off.
                    None => {
                        self.reply = rest;
                        return;
                    }
                },
                [b'F' | b'P', b'=', rest @ ..] => match scan::angled(rest) {
                    Some((_, rest)) => rest,
                    None => self.plain(field, fails),
                },
                [b'D', b'N', b'=', b'"', rest @ ..] => match scan::quoted(rest) {
                    Some((_, rest)) => rest,
                    None => return,
                },
                [b':', ..] => field,
                _ => self.plain(field, fails),
            };
        }
    }

    /// A field without spaces. Gives what follows it, with the colon of the text that it may end with.
    #[inline]
    fn plain(&mut self, field: &'a [u8], fails: bool) -> &'a [u8] {
        let (whole, mut rest) = scan::word(field);
        let mut word = whole;
        if fails && let Some(before) = whole.strip_suffix(b":") {
            word = before;
            rest = field.get(before.len()..).unwrap_or(&[]);
        }
        match word {
            [b'R', b'=', router @ ..] => self.router = router,
            [b'T', b'=', transport @ ..] => self.transport = transport,
            [b'Q', b'T', b'=', time @ ..] => self.queued_ms = duration_ms(time),
            _ => {}
        }
        rest
    }
}

/// Selector +deliver_time puts ` DT=0.016s` behind the text.
fn without_time(text: &[u8]) -> &[u8] {
    match scan::last(text, b" DT=").and_then(|at| text.split_at_checked(at)) {
        Some((before, time)) if duration_ms(time.get(4..).unwrap_or(&[])).is_some() => before,
        _ => text,
    }
}

/// `SMTP error from remote mail server after COMMAND: [host H [ADDR]: ]REPLY`: the reply; any other text as it is.
/// COMMAND ends with a colon; an address in it is the sender's or recipient's text, in brackets.
fn receivers_words(text: &[u8]) -> &[u8] {
    let found = || {
        let mut rest = text.strip_prefix(b"SMTP error from remote mail")?;
        rest = rest.strip_prefix(b" server").or_else(|| rest.strip_prefix(b"er"))?.strip_prefix(b" after ")?;
        if let Some(bracket) = near::find(b'<', rest).filter(|&at| rest.get(..at).is_some_and(|c| c.ends_with(b":"))) {
            rest = scan::angled(rest.get(bracket..)?)?.1;
        }
        rest = rest.get(memchr::memmem::find(rest, b": ")? + 2..)?;
        if let Some(host) = rest.strip_prefix(b"host ") {
            rest = scan::peer(host)?.1.strip_prefix(b": ")?;
        }
        rest.get(..3)?.iter().all(u8::is_ascii_digit).then_some(rest)
    };
    found().unwrap_or(text)
}

/// The enhanced status code behind the reply code.
fn dsn(reply: &[u8]) -> Dsn {
    match reply {
        [b'2'..=b'5', b'0'..=b'9', b'0'..=b'9', b' ' | b'-', rest @ ..] => {
            Dsn::parse(scan::word(rest).0).unwrap_or(Dsn::NONE)
        }
        _ => Dsn::NONE,
    }
}

/// `250 OK id=ID` of another Exim, or `queued as ID`: the last one, as filters put the answer of the server behind
/// them last.
fn next(reply: &[u8]) -> Option<Next> {
    if let Some(at) = scan::last(reply, b" id=")
        && let Some((id, _)) = scan::id(reply.get(at + 4..)?)
    {
        return QueueId::new(id).map(Next::QueuedAs);
    }
    let id = reply.get(scan::last(reply, b"queued as ")? + 10..)?;
    let len = id.iter().take_while(|b| b.is_ascii_alphanumeric() || **b == b'-').count();
    QueueId::new(id.get(..len)?).map(Next::QueuedAs)
}

/// `0.016s`, `30s`, `1m3s`, `2h5m`, `1d2h3m4s` (readconf_printtime), in milliseconds.
fn duration_ms(mut text: &[u8]) -> Option<u64> {
    let mut total = 0u64;
    loop {
        let (value, rest) = scan::number(text)?;
        let mut millis = 0;
        let mut rest = rest;
        if let Some(fraction) = rest.strip_prefix(b".") {
            let len = fraction.iter().take_while(|b| b.is_ascii_digit()).count();
            for (byte, scale) in fraction.iter().take(len).zip([100, 10, 1]) {
                millis += u64::from(byte - b'0') * scale;
            }
            rest = fraction.get(len..)?;
        }
        let (&unit, rest) = rest.split_first()?;
        let seconds = match unit {
            b's' => 1,
            b'm' => 60,
            b'h' => 3_600,
            b'd' => 86_400,
            b'w' => 604_800,
            _ => return None,
        };
        total = total.saturating_add(value.saturating_mul(seconds * 1_000)).saturating_add(millis);
        if rest.is_empty() {
            return Some(total);
        }
        text = rest;
    }
}
