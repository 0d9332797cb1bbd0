//! The text behind the head: who wrote it decides what it can mean.
//!
//! A text is `QUEUEID: …`, `NOQUEUE: …` or about no message. It never takes a shape from a daemon that does not write
//! it: the same words of another program mean nothing. See [`read`].

use super::tag::Daemon;
use super::{WHY_REPEATED, WHY_SHAPE, WHY_TEXT, action, arrival, delivery, scan, script};
use crate::mail::{End, Holder, Kind, Notice, QueueId, Sweep};
use crate::mta::near;

/// What one text says: an event, `Ok(None)` for what is understood and of no interest, or why it is not understood.
#[inline]
pub(super) fn read(daemon: Daemon, text: &[u8]) -> Result<Option<Kind<'_>>, &'static str> {
    if let Some(colon) = near::find(b':', text.get(..QueueId::MAX + 1).unwrap_or(text))
        && let Some((word, rest)) = scan::split(text, colon)
        && let Some(rest) = rest.strip_prefix(b" ")
    {
        if let Some(id) = scan::queue_id(word) {
            return about(daemon, id, rest);
        }
        if word == b"NOQUEUE" && daemon == Daemon::Smtpd {
            return about_no_queue(rest);
        }
        if matches!(word, b"warning" | b"error" | b"fatal" | b"panic" | b"info") {
            return Ok(if daemon == Daemon::Smtpd { arrival::login_failed(rest) } else { None });
        }
    }
    general(daemon, text)
}

/// Whether a text is about a queue id, whoever wrote it.
pub(super) fn names_a_message(text: &[u8]) -> bool {
    memchr::memmem::find(text.get(..QueueId::MAX + 2).unwrap_or(text), b": ")
        .and_then(|colon| scan::split(text, colon))
        .is_some_and(|(word, _)| scan::queue_id(word).is_some())
}

/// Text about a queue id.
#[inline]
fn about(daemon: Daemon, id: QueueId, text: &[u8]) -> Result<Option<Kind<'_>>, &'static str> {
    match daemon {
        Daemon::Cleanup => {
            if let Some(value) = text.strip_prefix(b"message-id=") {
                // `<>` is how a missing header is logged since 2.7.
                let message_id = if value == b"<>" { &[] } else { value };
                return Ok(Some(Kind::Identified { id, message_id }));
            }
            if let Some(script) = script::header(id, text) {
                return Ok(Some(Kind::Script(script)));
            }
        }
        Daemon::Qmgr => {
            if text == b"removed" {
                return Ok(Some(Kind::Ended { id, end: End::Done }));
            }
            if let Some(sender) = text.strip_prefix(b"from=<") {
                return arrival::activated(id, sender).map(Some).ok_or(WHY_SHAPE);
            }
        }
        Daemon::Pickup => {
            return match text.strip_prefix(b"uid=") {
                Some(uid) => arrival::submitted(id, uid).map(Some).ok_or(WHY_SHAPE),
                None => noise_or_shape(text),
            };
        }
        Daemon::Smtpd => {
            return match text.strip_prefix(b"client=") {
                Some(client) => arrival::client(id, client).map(Some).ok_or(WHY_SHAPE),
                None => action::read(daemon, Some(id), text).or_else(|_| noise_or_shape(text)),
            };
        }
        Daemon::Bounce => {
            if let Some(kind) = notified(id, text) {
                return Ok(Some(kind));
            }
        }
        Daemon::Postsuper => return by_postsuper(id, text),
        _ => {}
    }
    if let Some(recipient) = text.strip_prefix(b"to=<") {
        return delivery::read(daemon, id, recipient).map(|a| Some(Kind::Attempt(a))).ok_or(WHY_SHAPE);
    }
    if daemon == Daemon::Cleanup {
        return match text {
            // Since 3.10; its release notes leave out `removed`.
            b"removed (canceled)" | b"canceled" => Ok(Some(Kind::Ended { id, end: End::Cancelled })),
            b"removed (discarded)" | b"discarded" => Ok(Some(Kind::Ended { id, end: End::Discarded })),
            _ => action::read(daemon, Some(id), text).or_else(|_| noise_or_shape(text)),
        };
    }
    noise_or_shape(text)
}

fn about_no_queue(text: &[u8]) -> Result<Option<Kind<'_>>, &'static str> {
    // With smtpd_proxy_filter the message goes on without a queue file here.
    if text.starts_with(b"client=") {
        return Ok(None);
    }
    action::read(Daemon::Smtpd, None, text).or_else(|_| noise_or_shape(text))
}

/// bounce_notify_service.c and its siblings.
fn notified(id: QueueId, text: &[u8]) -> Option<Kind<'_>> {
    const NOTICES: [(&[u8], Notice); 6] = [
        (b"sender non-delivery notification: ", Notice::Failure),
        (b"postmaster non-delivery notification: ", Notice::Failure),
        (b"sender delay notification: ", Notice::Delay),
        (b"postmaster delay notification: ", Notice::Delay),
        (b"sender delivery status notification: ", Notice::Success),
        (b"postmaster delivery status notification: ", Notice::Success),
    ];
    NOTICES.iter().find_map(|(words, notice)| {
        let child = scan::queue_id(text.strip_prefix(*words)?)?;
        Some(Kind::Notified { id, child, notice: *notice })
    })
}

fn by_postsuper(id: QueueId, text: &[u8]) -> Result<Option<Kind<'_>>, &'static str> {
    Ok(match text {
        b"removed" => Some(Kind::Ended { id, end: End::Deleted }),
        b"placed on hold" => Some(Kind::Held { id: Some(id), by: Holder::Admin, sender: &[] }),
        b"released from hold" => Some(Kind::Released { id }),
        b"requeued" => Some(Kind::Requeued { id }),
        // Only marked: qmgr says when it has given up.
        b"expired" => None,
        _ => return Err(WHY_SHAPE),
    })
}

/// Text about no queue id.
fn general(daemon: Daemon, text: &[u8]) -> Result<Option<Kind<'_>>, &'static str> {
    if daemon == Daemon::Postsuper {
        return swept(text).map(Some).or(if is_noise(text) { Some(None) } else { None }).ok_or(WHY_TEXT);
    }
    if text.starts_with(b"message repeated ") {
        return repeated(daemon, text);
    }
    if is_noise(text) { Ok(None) } else { Err(WHY_TEXT) }
}

/// rsyslog's `message repeated N times: [ TEXT]`: harmless when TEXT is.
fn repeated(daemon: Daemon, text: &[u8]) -> Result<Option<Kind<'_>>, &'static str> {
    let inner = memchr::memmem::find(text, b": [ ").and_then(|at| text.get(at + 4..)?.strip_suffix(b"]"));
    match inner {
        Some(inner) if !inner.starts_with(b"message repeated ") => match read(daemon, inner)? {
            None => Ok(None),
            Some(_) => Err(WHY_REPEATED),
        },
        _ => Err(WHY_REPEATED),
    }
}

/// `Deleted: 12 messages` (postsuper.c).
fn swept(text: &[u8]) -> Option<Kind<'_>> {
    const SWEEPS: [(&[u8], Sweep); 5] = [
        (b"Deleted: ", Sweep::Deleted),
        (b"Placed on hold: ", Sweep::Held),
        (b"Released from hold: ", Sweep::Released),
        (b"Requeued: ", Sweep::Requeued),
        (b"Force-expired: ", Sweep::Expired),
    ];
    SWEEPS.iter().find_map(|(words, what)| {
        let (count, rest) = scan::number(text.strip_prefix(*words)?)?;
        let count = u32::try_from(count).ok()?;
        matches!(rest, b" message" | b" messages").then_some(Kind::Swept { what: *what, count })
    })
}

fn noise_or_shape<'a>(text: &[u8]) -> Result<Option<Kind<'a>>, &'static str> {
    if is_noise(text) { Ok(None) } else { Err(WHY_SHAPE) }
}

/// Beginnings of texts that are understood and say nothing about the fate of a message.
fn is_noise(text: &[u8]) -> bool {
    // One byte rules out most of them without a call.
    NOISE.iter().any(|words| words.first() == text.first() && text.starts_with(words))
}

/// The frequent ones first.
#[rustfmt::skip]
const NOISE: &[&[u8]] = &[
    // smtpd
    b"connect from ", b"disconnect from ", b"lost connection ", b"timeout after ", b"too many errors after ",
    b"improper command pipelining after ", b"SSL_accept ", b"setting up TLS ", b"initializing the server-side TLS",
    b"proxy-accept: ", b"proxy-reject: ", b"client=", b"hostname ", b"numeric hostname", b"NOQUEUE",
    // smtp, lmtp; with a queue id the attempt's detail, whose result follows in a line of its own
    b"connect to ", b"host ", b"conversation with ", b"Host offered STARTTLS", b"Used TLS", b"enabling PIX",
    b"passing <", b"breaking line ", b"mapping DSN", b"certificate verification failed", b"server certificate ",
    b"Server certificate", b"SSL_connect ", b"initializing the client-side TLS", b"smtp_connect", b"Cannot start TLS",
    b"TLS is required", b"TLSRPT", b"requesting ", b"non-delivery", b"offering ", b"using ", b"dropping ",
    b"Untrusted TLS ", b"Trusted TLS ", b"Verified TLS ", b"Anonymous TLS ", b"TLS SNI ", b"TLS ", b"untrusted issuer ",
    b"subject_CN=", b"fingerprint", b"issuer=", b"certificate ", b"DNSSEC", b"MX host ", b"address ",
    // qmgr, bounce, cleanup
    b"skipped, still being delivered", b"status=deferred (bounce failed)", b"status=deferred (", b"resent-message-id=",
    b"sender notification failed to ", b"sender delay", b"postmaster notification failed to ", b"undeliverable postmaster",
    b"not sending ", b"non_delivery", b"queue manager ", b"mime-error", b"nested header",
    // local, pipe
    b"file ", b"mailbox ", b"command ",
    // every daemon
    b"statistics: ", b"table ", b"daemon started", b"using backwards-compatible", b"dict_", b"master", b"process ",
    b"idle timeout", b"reload", b"terminating", b"warning: ", b"error: ", b"fatal: ", b"panic: ", b"> ", b"< ",
    // postsuper
    b"Renamed to match inode number: ", b"Renamed ", b"Recovered ", b"renamed ",
];
