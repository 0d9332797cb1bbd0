//! How messages come in and are taken up: lines of smtpd(8), pickup(8), qmgr(8), and failed logins.
//!
//! Senders and login names are strangers' text. What follows them is read from the end of the line, where nobody else
//! writes, and what precedes them from the start. See the functions, one for each shape.

use super::scan;
use crate::mail::{Kind, QueueId};
use crate::mta::near;

/// `NAME[ADDR][:PORT][, sasl_method=M][, sasl_username=U][, sasl_sender=S][, orig_queue_id=Q][, orig_client=C]`, after
/// `client=` (smtpd.c). U is not quoted. The optional fields behind it are taken from the end backwards, each only in
/// its proper form, so of several look-alikes the last one counts. Behind a login the orig_ fields are believed only
/// from loopback, where content filters are: a login name that contains them must not join messages elsewhere, and
/// then stays whole, so that it is nobody's name.
pub(super) fn client(id: QueueId, text: &[u8]) -> Option<Kind<'_>> {
    let (client, address, rest) = scan::name_and_address(text)?;
    let rest = match rest.strip_prefix(b":") {
        Some(port) => scan::number(port)?.1,
        None => rest,
    };
    let mut login = None;
    let mut hop_of = None;
    if let Some(fields) = rest.strip_prefix(b", ") {
        let name = fields.strip_prefix(b"sasl_method=").map_or(fields, behind_method).strip_prefix(b"sasl_username=");
        let loopback = address.starts_with(b"127.") || address == b"::1";
        match name {
            Some(name) => {
                let (mut text, tail) = if loopback { origin(name) } else { (name, None) };
                hop_of = tail;
                if let Some(at) = memchr::memmem::rfind(text, b", sasl_sender=")
                    && let Some((before, sender)) = text.split_at_checked(at)
                    // xtext has neither space nor `=`, but for the one behind the field's name.
                    && !sender.iter().skip(b", sasl_sender=".len()).any(|b| matches!(b, b' ' | b'='))
                {
                    text = before;
                }
                login = Some(text);
            }
            None => hop_of = origin(rest).1,
        }
    } else if !rest.is_empty() {
        return None;
    }
    Some(Kind::Received { id, client, address, login, hop_of })
}

fn behind_method(text: &[u8]) -> &[u8] {
    match memchr::memmem::find(text, b", ") {
        Some(end) => text.get(end + 2..).unwrap_or(&[]),
        None => &[],
    }
}

/// Takes `, orig_client=C` and `, orig_queue_id=Q` off the end.
fn origin(text: &[u8]) -> (&[u8], Option<QueueId>) {
    const QUEUE_ID: &[u8] = b", orig_queue_id=";
    let before_client = match memchr::memmem::rfind(text, b", orig_client=") {
        Some(at) => text.get(..at).unwrap_or(text),
        None => text,
    };
    let queue_id = memchr::memmem::rfind(before_client, QUEUE_ID).and_then(|at| {
        // The filter's front end may be another server, with ids of its own form.
        let id = QueueId::new(before_client.get(at + QUEUE_ID.len()..)?)?;
        Some((before_client.get(..at)?, id))
    });
    match queue_id {
        Some((before, id)) => (before, Some(id)),
        None => (before_client, None),
    }
}

/// `N from=<S>[ orig_id=Q]`, after `uid=` (pickup.c). S is what the user gave. The line ends with `>` or with the old
/// queue id, so text in S cannot pass for one.
pub(super) fn submitted(id: QueueId, text: &[u8]) -> Option<Kind<'_>> {
    const REQUEUED: &[u8] = b"> orig_id=";
    let (uid, rest) = scan::number(text)?;
    let uid = u32::try_from(uid).ok()?;
    let rest = rest.strip_prefix(b" from=<")?;
    if let Some(sender) = rest.strip_suffix(b">") {
        return Some(Kind::Submitted { id, uid, sender, requeued_from: None });
    }
    let at = memchr::memmem::rfind(rest, REQUEUED)?;
    let old = scan::queue_id(rest.get(at + REQUEUED.len()..)?)?;
    Some(Kind::Submitted { id, uid, sender: rest.get(..at)?, requeued_from: Some(old) })
}

/// `S>, size=N, nrcpt=N (queue active)` or `S>, status=expired, returned to sender`, after `from=<` (qmgr_active.c).
/// Behind S nobody but qmgr writes, so the line is read from its end.
#[inline]
pub(super) fn activated(id: QueueId, text: &[u8]) -> Option<Kind<'_>> {
    let end = memchr::memrchr(b'>', text)?;
    let (sender, rest) = scan::split(text, end)?;
    if let Some(size) = rest.strip_prefix(b", size=") {
        let (size, rest) = scan::number(size)?;
        let (recipients, rest) = scan::number(rest.strip_prefix(b", nrcpt=")?)?;
        let recipients = u32::try_from(recipients).ok()?;
        return (rest == b" (queue active)").then_some(Kind::Activated { id, sender, size, recipients });
    }
    match rest {
        b", status=expired, returned to sender" | b", status=force-expired, returned to sender" => {
            Some(Kind::Expired { id })
        }
        _ => None,
    }
}

/// `NAME[ADDR][:PORT]: SASL M authentication failed: TEXT[, sasl_username=U]`, after `warning: ` (smtpd_sasl_glue.c).
/// TEXT is the authentication server's, U the stranger's: the first `sasl_username=` is the real one.
pub(super) fn login_failed(text: &[u8]) -> Option<Kind<'_>> {
    const USERNAME: &[u8] = b", sasl_username=";
    let (_, address, rest) = scan::name_and_address(text)?;
    let rest = match rest.strip_prefix(b":") {
        Some(port) if port.first().is_some_and(u8::is_ascii_digit) => scan::number(port)?.1,
        _ => rest,
    };
    let rest = rest.strip_prefix(b": SASL ")?;
    let (_, rest) = scan::split(rest, near::find(b' ', rest)?)?;
    let rest = rest.strip_prefix(b"authentication failed")?;
    let login = match memchr::memmem::find(rest, USERNAME) {
        Some(at) => rest.get(at + USERNAME.len()..)?,
        None => &[],
    };
    Some(Kind::LoginFailed { login, address })
}
