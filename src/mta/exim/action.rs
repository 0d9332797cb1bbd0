//! What becomes of a message as a whole: frozen, thawed, removed, given up (deliver.c, exim.c -M…).
//!
//! These are words of the server behind a message's id, without a flag. A text of other words is of no interest: hosts
//! that could not be reached, rejections, what access rules log. See [`read`].

use super::{scan, script, setup};
use crate::mail::{Attempt, Dsn, End, Holder, Kind, QueueId, Status};

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
        // The access rule that `setup` gives: words that no user can have logged behind an id.
        b's' if text.starts_with(setup::HELD) => Some(Kind::Gated { id, held: true }),
        b'a' if text.starts_with(b"agent: ") => script::rule(id, text),
        b'a' => marked_delivered(id, text.strip_prefix(b"address ")?).map(Kind::Attempt),
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
