//! Lines of access rules, header checks, policies and milters (smtpd_check.c, cleanup_message.c, cleanup_milter.c):
//! `ACTION: STAGE from NAME[ADDR]: TEXT; from=<S> to=<R> proto=P helo=<H>`
//!
//! Of all actions only those matter that hold, refuse or throw away a whole message. See [`read`].

use super::WHY_SHAPE;
use super::scan;
use super::tag::Daemon;
use crate::mail::{End, Holder, Kind, QueueId};

/// Reads `ACTION: …`; `id` is `None` on `NOQUEUE` lines. `Ok(None)` is an action of no interest.
pub(super) fn read(daemon: Daemon, id: Option<QueueId>, text: &[u8]) -> Result<Option<Kind<'_>>, &'static str> {
    let colon = memchr::memchr(b':', text).ok_or(WHY_SHAPE)?;
    let (action, rest) = scan::split(text, colon).ok_or(WHY_SHAPE)?;
    let stage = rest.strip_prefix(b" ").ok_or(WHY_SHAPE)?;
    let by_cleanup = daemon == Daemon::Cleanup;
    // Held before there is a queue file: only smtpd does that. Its messages say END-OF-MESSAGE when refused as a
    // whole; earlier stages refuse a recipient or a command. cleanup always speaks of the whole message.
    let whole = by_cleanup || stage.starts_with(b"END-OF-MESSAGE ");
    Ok(match (action, id) {
        (b"hold", _) => Some(Kind::Held { id, by: Holder::Rule, sender: sender(by_cleanup, stage) }),
        (b"milter-hold", _) => Some(Kind::Held { id, by: Holder::Milter, sender: sender(by_cleanup, stage) }),
        (b"reject" | b"milter-reject", Some(id)) if whole => Some(Kind::Ended { id, end: End::Rejected }),
        (b"discard" | b"milter-discard", Some(id)) => Some(Kind::Ended { id, end: End::Discarded }),
        _ if is_action(action) => None,
        _ => return Err(WHY_SHAPE),
    })
}

fn is_action(word: &[u8]) -> bool {
    const ACTIONS: [&[u8]; 21] = [
        b"reject",
        b"reject_warning",
        b"warn",
        b"warning",
        b"hold",
        b"discard",
        b"filter",
        b"redirect",
        b"prepend",
        b"info",
        b"delay",
        b"bcc",
        b"hangup",
        b"permit",
        b"pass",
        b"replace",
        b"strip",
        b"ignore",
        b"milter-reject",
        b"milter-hold",
        b"milter-discard",
    ];
    ACTIONS.contains(&word)
}

/// The sender of an action line, empty when it has none. What stands before is text with addresses or a header in it;
/// what stands after is the recipient and the client's greeting. smtpd ends its line with these items, so the first
/// `from=` behind which nothing else stands is its own. cleanup quotes a header first, so there the last one counts.
fn sender(by_cleanup: bool, text: &[u8]) -> &[u8] {
    const FROM: &[u8] = b"; from=<";
    let sender_at = |at: usize, to_the_end: bool| {
        let (sender, ()) = scan::address(text.get(at + FROM.len()..)?, |rest| items(rest, to_the_end))?;
        Some(sender)
    };
    let found = if by_cleanup {
        memchr::memmem::rfind(text, FROM).and_then(|at| sender_at(at, false))
    } else {
        // A few look-alikes at most: a line full of them is not worth the time.
        memchr::memmem::find_iter(text, FROM).take(8).find_map(|at| sender_at(at, true))
    };
    found.unwrap_or(&[])
}

/// `[ to=<R>][ proto=P][ helo=<H>…]`, and nothing else when `to_the_end`.
fn items(rest: &[u8], to_the_end: bool) -> Option<()> {
    let rest = match rest.strip_prefix(b" to=<") {
        Some(recipient) => {
            return scan::address(recipient, |rest| behind_recipient(rest, to_the_end)).map(|_| ());
        }
        None => rest,
    };
    behind_recipient(rest, to_the_end)
}

fn behind_recipient(rest: &[u8], to_the_end: bool) -> Option<()> {
    let known = rest.is_empty() || rest.starts_with(b" proto=") || rest.starts_with(b" helo=<");
    (known || (!to_the_end && rest.starts_with(b": "))).then_some(())
}
