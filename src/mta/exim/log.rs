//! The text behind stamp and process id: `ID FLAG …` (a message), `ID TEXT` (its state, or what an access rule of the
//! server logs about it), or text about no message.
//!
//! Only Exim writes an id there and a flag behind it (log_write takes no other way), so a flag is believed. Text of
//! other shapes is free: access rules log what they want; it is of no interest and never a mistake. See [`read`].

use super::{WHY_SHAPE, action, arrival, delivery, scan, script, setup};
use crate::mail::{End, Kind, QueueId, Ruling, Status, Time};

/// What one text says: an event, `Ok(None)` for what is of no interest, or why it is not understood.
#[inline]
pub(super) fn read(at: Time, text: &[u8]) -> Result<Option<Kind<'_>>, &'static str> {
    match scan::id(text) {
        Some((word, rest)) => about(at, word, rest.strip_prefix(b" ").unwrap_or(rest)),
        None => Ok(general(text)),
    }
}

#[inline]
fn about<'a>(at: Time, word: &'a [u8], text: &'a [u8]) -> Result<Option<Kind<'a>>, &'static str> {
    let id = QueueId::new(word).ok_or(WHY_SHAPE)?;
    let attempt = |status, rest| delivery::read(at, id, status, rest).ok_or(WHY_SHAPE);
    let kind = match text {
        [b'<' | b'(', b'=', b' ', rest @ ..] => Kind::Accepted(arrival::accepted(id, word, rest).ok_or(WHY_SHAPE)?),
        [b'=', b'>', b' ', rest @ ..] if delivery::is_discarded(rest) => Kind::Ended { id, end: End::Discarded },
        [b'=' | b'-', b'>', b' ', rest @ ..] => Kind::Attempt(attempt(Status::Sent, rest)?),
        // Cutthrough: handed on while it was being received.
        [b'>', b'>', b' ', rest @ ..] => Kind::Early(attempt(Status::Sent, rest)?),
        // `-N`: an administrator had the delivery left out (deliver.c).
        [b'*', b'>', b' ', rest @ ..] => Kind::Attempt(attempt(Status::Dropped, rest)?),
        [b'*', b'*', b' ', rest @ ..] => Kind::Attempt(attempt(Status::Bounced, rest)?),
        [b'=', b'=', b' ', rest @ ..] if setup::is_kept_back(word, rest) => {
            Kind::Gated { id, ruling: Ruling::KeptBack }
        }
        [b'=', b'=', b' ', rest @ ..] => Kind::Attempt(attempt(Status::Deferred, rest)?),
        b"Completed" => Kind::Ended { id, end: End::Done },
        _ if text.starts_with(b"Completed QT=") => Kind::Ended { id, end: End::Done },
        _ => return Ok(action::read(id, text)),
    };
    Ok(Some(kind))
}

/// Text about no message: command lines and failed logins matter.
fn general(text: &[u8]) -> Option<Kind<'_>> {
    match text.strip_prefix(b"cwd=") {
        Some(rest) => script::command(rest),
        None => arrival::login_failed(text),
    }
}
