//! What becomes of a message as a whole: frozen, thawed, removed, given up (deliver.c, exim.c -M…).
//!
//! These are words of the server behind a message's id, without a flag. A text of other words is of no interest: hosts
//! that could not be reached, rejections, what access rules log. See [`read`].

use super::{scan, script, setup};
use crate::mail::{Attempt, Dsn, End, EndedList, Holder, Kind, QueueId, Ruling, Status, Submitter, Thrown};

pub(super) fn read<'a>(id: QueueId, text: &'a [u8]) -> Option<Kind<'a>> {
    let held = |by| Some(Kind::Held { id: Some(id), by, sender: &[] });
    // One byte rules out most of what access rules and failed connections log.
    match text.first()? {
        b'F' if text.starts_with(b"Frozen by ") => held(Holder::Rule),
        b'F' if text == b"Frozen" || text.starts_with(b"Frozen (") => held(Holder::Server),
        b'f' => match text.strip_prefix(b"frozen by ")? {
            b"ACL" => held(Holder::Rule),
            _ => held(Holder::Admin),
        },
        // Told at every queue run.
        b'M' if text == b"Message is frozen" => held(Holder::Server),
        b'U' if text.starts_with(b"Unfrozen by ") => Some(Kind::Released { id }),
        b'u' if text.starts_with(b"unfrozen by ") => Some(Kind::Released { id }),
        b'r' if text.starts_with(b"removed by ") => Some(Kind::Ended { id, end: End::Deleted }),
        b'r' => {
            let (recipient, rest) = scan::angled(text.strip_prefix(b"recipient ")?)?;
            rest.starts_with(b" added by ").then_some(Kind::Added { id, recipient })
        }
        // Lines for its recipients follow, but for a bounce message.
        b'c' if text.starts_with(b"cancelled by ") => Some(Kind::GivenUp { id }),
        b's' => ruling(text).map(|ruling| Kind::Gated { id, ruling }),
        b'a' if text.starts_with(b"agent: ") => script::rule(id, text),
        b'a' => marked_delivered(id, text.strip_prefix(b"address ")?).map(Kind::Attempt),
        _ => None,
    }
}

/// The access rules that `setup` gives log words that no user can have logged behind an id. Of what is on hold the line
/// of its acceptance says whose it is; of what is not, this one.
fn ruling(text: &[u8]) -> Option<Ruling<'_>> {
    if let Some(whose) = text.strip_prefix(setup::HELD) {
        return Some(if whose.starts_with(b"smtp:") { Ruling::AsAnswered } else { Ruling::Held });
    }
    if let Some(whose) = text.strip_prefix(setup::REFUSED) {
        return by(whose).map(Ruling::Refused);
    }
    match text.strip_prefix(setup::TOO_MANY) {
        Some(whose) => by(whose).map(Ruling::TooMany),
        None => thrown(text.strip_prefix(setup::DISCARDED)?).map(Ruling::Discarded),
    }
}

/// `WHOSE for COUNT: SENDER, RECIPIENT, …,`; rules of an earlier version stop behind WHOSE.
fn thrown(text: &[u8]) -> Option<Thrown<'_>> {
    let told = memchr::memmem::find_iter(text, b" for ").find_map(|at| {
        let (whose, rest) = text.split_at_checked(at)?;
        let (recipients, rest) = scan::number(rest.strip_prefix(b" for ")?)?;
        Some((whose, u32::try_from(recipients).ok()?, EndedList(rest.strip_prefix(b": ")?)))
    });
    let (whose, recipients, envelope) = told.unwrap_or((text, 0, EndedList::default()));
    Some(Thrown { by: by(whose)?, recipients, envelope })
}

fn by(whose: &[u8]) -> Option<Submitter<'_>> {
    match (whose.strip_prefix(b"user:"), whose.strip_prefix(b"auth:")) {
        (Some(user), _) => Some(Submitter::User(user)),
        (_, Some(login)) => Some(Submitter::Login { login, client: &[], address: &[] }),
        // The gate has counted it.
        _ => None,
    }
}

/// `<ADDRESS> marked delivered by USER`: nobody gets it.
fn marked_delivered(id: QueueId, text: &[u8]) -> Option<Attempt<'_>> {
    let (recipient, rest) = scan::angled(text)?;
    let reply = rest.strip_prefix(b" ").filter(|rest| rest.starts_with(b"marked delivered by "))?;
    Some(Attempt {
        id,
        recipient,
        original: &[],
        accepted_as: recipient,
        relay: &[],
        relay_address: &[],
        local: true,
        delay_ms: 0,
        dsn: Dsn::NONE,
        status: Status::Dropped,
        reply,
        next: None,
    })
}
