//! How messages come in (receive.c): `<= SENDER FIELDS [T="SUBJECT"] [from <RAW>] [for RECIPIENTS]`
//!
//! The order of the fields is fixed: `R= H= I= U= P= … A= … S= … id= T=`. Three of them are a stranger's text:
//! - HELO inside `H=` and the ident answer in `U=` come *before* the protocol and the login. A client with such words
//!   could write fields of its own in front of the real ones. So every field may occur once only, in its place, and
//!   the whole line must be nothing but fields: what the stranger put in front leaves the real fields behind as a
//!   second set, and then neither client nor login is believed.
//! - the sender, the Message-ID and the recipients are addresses: a space in them is inside quotes. The subject is
//!   quoted and escaped.
//! - `U=` is the kernel's word only of a local submission (`P=local…`), which has no `H=`.
//!
//! See [`accepted`].

use super::scan::{self, Peer};
use crate::mail::{Accepted, AddressList, Kind, QueueId, Submitter, address};
use crate::mta::near;

/// Users under which Exim itself submits: the bounce messages and automatic replies of known installations (Debian,
/// cPanel, the others). Of another user it is a system user's mail, and nobody's as well.
pub(super) const OWN_USERS: [&[u8]; 5] = [b"Debian-exim", b"mailnull", b"exim", b"mail", b"eximuser"];

/// Reads what follows `<= `.
pub(super) fn accepted<'a>(id: QueueId, word: &'a [u8], text: &'a [u8]) -> Option<Accepted<'a>> {
    let (sender, rest) = match text.strip_prefix(b"<>") {
        Some(rest) => (&[][..], rest),
        None => text.split_at_checked(address::end(text))?,
    };
    let mut fields = Fields::default();
    let whole = fields.read(rest).is_some();
    // Without a protocol it is no line of this kind at all.
    if fields.protocol.is_empty() && memchr::memmem::find(rest, b" P=").is_none() {
        return None;
    }
    let by = fields.submitter(whole);
    let notice_of = match by {
        Submitter::Internal => fields.reference.and_then(scan::whole_id),
        _ => None,
    };
    let message_id = fields.message_id;
    // Of a message without this header the server makes one of its own id, which is only logged of the copy.
    let mark = match message_id.strip_prefix(b"E").and_then(scan::id) {
        Some((made_of, [b'@', ..])) => made_of,
        _ if message_id.is_empty() => word,
        _ => message_id,
    };
    Some(Accepted {
        id,
        by,
        sender,
        message_id,
        mark,
        size: fields.size.unwrap_or(0),
        recipients: fields.recipients,
        notice_of,
    })
}

#[derive(Default)]
struct Fields<'a> {
    reference: Option<&'a [u8]>,
    peer: Option<Peer<'a>>,
    ident: Option<&'a [u8]>,
    protocol: &'a [u8],
    auth: Option<&'a [u8]>,
    size: Option<u64>,
    message_id: &'a [u8],
    recipients: Option<AddressList<'a>>,
}

impl<'a> Fields<'a> {
    /// Reads all fields; `None` where something is no field, out of place, or there a second time.
    fn read(&mut self, mut text: &'a [u8]) -> Option<()> {
        let mut subject = false;
        while !text.is_empty() {
            let field = text.strip_prefix(b" ")?;
            let early = self.protocol.is_empty();
            text = match field {
                [b'H', b'=', rest @ ..] => {
                    once(early && self.peer.is_none() && self.ident.is_none())?;
                    let (peer, rest) = scan::peer(rest)?;
                    self.peer = Some(peer);
                    rest
                }
                [b'U', b'=', rest @ ..] => {
                    once(early && self.ident.is_none())?;
                    let (ident, rest) = scan::word(rest);
                    self.ident = Some(ident);
                    rest
                }
                [b'P', b'=', rest @ ..] => {
                    once(early)?;
                    let (protocol, rest) = scan::word(rest);
                    self.protocol = protocol;
                    rest
                }
                [b'R', b'=', rest @ ..] => {
                    once(early && self.reference.is_none() && self.peer.is_none() && self.ident.is_none())?;
                    let (reference, rest) = scan::word(rest);
                    self.reference = Some(reference);
                    rest
                }
                [b'A', b'=', rest @ ..] => {
                    once(!early && self.auth.is_none() && self.size.is_none())?;
                    let (auth, rest) = authenticated(rest)?;
                    self.auth = Some(auth);
                    rest
                }
                [b'S', b'=', rest @ ..] => {
                    once(!early && self.size.is_none())?;
                    let (size, rest) = scan::number(rest)?;
                    self.size = Some(size);
                    rest
                }
                [b'i', b'd', b'=', rest @ ..] | [b'i', b'd', b'*', b'=', rest @ ..] => {
                    once(self.size.is_some() && self.message_id.is_empty())?;
                    let (message_id, rest) = rest.split_at_checked(address::end(rest))?;
                    once(address::is_whole(message_id))?;
                    self.message_id = message_id;
                    rest
                }
                [b'T', b'=', b'"', rest @ ..] => {
                    once(self.size.is_some() && !std::mem::replace(&mut subject, true))?;
                    scan::quoted(rest)?.1
                }
                [b'f', b'r', b'o', b'm', b' ', rest @ ..] => {
                    once(self.size.is_some())?;
                    let (sender, rest) = scan::angled(rest)?;
                    once(address::is_whole(sender))?;
                    subject = true;
                    rest
                }
                [b'f', b'o', b'r', b' ', rest @ ..] => {
                    once(self.size.is_some())?;
                    return self.list(rest);
                }
                // The subject is the last field.
                _ if subject => return None,
                _ => other(field)?,
            };
        }
        self.size.map(|_| ())
    }

    /// Every recipient is a whole address; a list that is too long for the log ends with a mark.
    fn list(&mut self, text: &'a [u8]) -> Option<()> {
        let text = text.strip_suffix(b" <trunc>").unwrap_or(text);
        let list = AddressList(text);
        once(list.iter().all(|to| near::find(b'@', to).is_some() && address::is_whole(to)))?;
        self.recipients = Some(list);
        Some(())
    }

    fn submitter(&self, whole: bool) -> Submitter<'a> {
        match (self.peer, self.ident) {
            (None, Some(user)) if self.protocol.starts_with(b"local") => {
                if OWN_USERS.contains(&user) {
                    Submitter::Internal
                } else {
                    Submitter::User(user)
                }
            }
            (Some(peer), _) if whole => match self.auth {
                Some(login) if !login.is_empty() => {
                    Submitter::Login { login, client: peer.name, address: peer.address }
                }
                _ => Submitter::Smtp { client: peer.name, address: peer.address },
            },
            (Some(_), _) => Submitter::Smtp { client: &[], address: &[] },
            (None, _) if self.protocol.starts_with(b"local") => Submitter::Internal,
            (None, _) => Submitter::Smtp { client: &[], address: &[] },
        }
    }
}

fn once(fits: bool) -> Option<()> {
    fits.then_some(())
}

/// `DRIVER[:ID[:SENDER]]` behind `A=`: the id, and what follows. SENDER is an address.
fn authenticated(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let (driver, _) = scan::word(text);
    let Some(colon) = near::find(b':', driver) else {
        return Some((&[], text.get(driver.len()..)?));
    };
    let behind = text.get(colon + 1..)?;
    let id_len = near::either(b':', b' ', behind).unwrap_or(behind.len());
    let (id, rest) = behind.split_at_checked(id_len)?;
    match rest.strip_prefix(b":") {
        Some(sender) => Some((id, sender.get(address::end(sender)..)?)),
        None => Some((id, rest)),
    }
}

/// A field of no interest: `KEY=VALUE`, `KEY="VALUE"`, or a bare mark (`L`, `L*`, `L.-`, `K`, `PRDR`, `TFO*`).
fn other(field: &[u8]) -> Option<&[u8]> {
    let len = field.iter().take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'*' | b'-' | b'_' | b'.')).count();
    let (key, rest) = field.split_at_checked(len)?;
    match rest {
        [b'=', b'"', rest @ ..] if !key.is_empty() => Some(scan::quoted(rest)?.1),
        // A quote here is another field's: of the text that a stranger wants to have swallowed.
        [b'=', rest @ ..] if !key.is_empty() => {
            let (value, rest) = scan::word(rest);
            near::either(b'"', b'\\', value).is_none().then_some(rest)
        }
        [] | [b' ', ..] if key.iter().all(|b| !b.is_ascii_lowercase()) && !key.is_empty() => Some(rest),
        _ => None,
    }
}

/// `DRIVER authenticator failed for [H=]HOST: 535 TEXT[ (set_id=LOGIN)]` (smtp_in.c). The login is the stranger's
/// text: it goes to the bracket that ends the line.
pub(super) fn login_failed(text: &[u8]) -> Option<Kind<'_>> {
    const FAILED: &[u8] = b" authenticator failed for ";
    const LOGIN: &[u8] = b" (set_id=";
    let (_, rest) = scan::word(text);
    let rest = rest.strip_prefix(FAILED)?;
    let host = rest.strip_prefix(b"H=").unwrap_or(rest);
    let (address, rest) = scan::peer(host).map_or((&[][..], host), |(peer, rest)| (peer.address, rest));
    let login = memchr::memmem::find(rest, LOGIN).and_then(|at| rest.get(at + LOGIN.len()..)?.strip_suffix(b")"));
    Some(Kind::LoginFailed { login: login.unwrap_or(&[]), address })
}
