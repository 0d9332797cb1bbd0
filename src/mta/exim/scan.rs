//! Pieces that many lines share: message ids, stamps, host and address of the other side, quoted text.

use crate::mail::QueueId;
use crate::mta::near;

/// Whether all bytes are digits of an id (base 62) but for two dashes, the second one at `second`. All at once, which
/// the compiler makes a few wide steps of.
#[inline]
fn is_id<const LEN: usize>(id: &[u8; LEN], second: usize) -> bool {
    let digits = id.iter().fold(0, |digits, byte| digits + u8::from(byte.is_ascii_alphanumeric()));
    id.get(6) == Some(&b'-') && id.get(second) == Some(&b'-') && usize::from(digits) == LEN - 2
}

/// How long the id is that a text begins with: `tttttt-pppppp-ss` up to 4.96, `tttttt-ppppppppppp-ssss` since 4.97
/// (exim_id.h). Behind it nothing of an id may follow.
#[inline]
fn id_len(text: &[u8]) -> Option<usize> {
    let (len, good) = match text.get(13) == Some(&b'-') {
        true => (16, is_id(text.first_chunk::<16>()?, 13)),
        false => (23, is_id(text.first_chunk::<23>()?, 18)),
    };
    let ends = text.get(len).is_none_or(|byte| !byte.is_ascii_alphanumeric() && *byte != b'-');
    (good && ends).then_some(len)
}

/// The id at the beginning of a text, and what follows it.
#[inline]
pub(super) fn id(text: &[u8]) -> Option<(&[u8], &[u8])> {
    text.split_at_checked(id_len(text)?)
}

/// A text that is an id and nothing else.
pub(super) fn whole_id(text: &[u8]) -> Option<QueueId> {
    if id_len(text)? == text.len() { QueueId::new(text) } else { None }
}

/// When the message came in, in seconds: the first part of its id.
#[inline]
pub(super) fn id_seconds(id: &[u8]) -> i64 {
    id.iter().take(6).fold(0, |n, &byte| {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'A'..=b'Z' => byte - b'A' + 10,
            _ => byte.wrapping_sub(b'a') + 36,
        };
        n * 62 + i64::from(digit)
    })
}

/// `[1234] ` (selector +pid).
#[inline]
pub(super) fn bracketed_pid(text: &[u8]) -> Option<(u32, &[u8])> {
    let digits = text.strip_prefix(b"[")?;
    let (pid, rest) = number(digits)?;
    Some((u32::try_from(pid).ok()?, rest.strip_prefix(b"] ")?))
}

/// What follows a stamp of Exim's own, `2026-11-23 10:36:56[.655][ +0000] `; the text itself if there is none.
pub(super) fn behind_stamp(text: &[u8]) -> &[u8] {
    const SHAPE: &[u8; 19] = b"dddd-dd-dd dd:dd:dd";
    let fits = |(byte, shape): (&u8, &u8)| if *shape == b'd' { byte.is_ascii_digit() } else { byte == shape };
    let stamp = text.get(..SHAPE.len()).is_some_and(|stamp| stamp.iter().zip(SHAPE).all(fits));
    let Some(mut rest) = text.get(SHAPE.len()..).filter(|_| stamp) else { return text };
    if let Some(fraction) = rest.strip_prefix(b".") {
        rest = number(fraction).map_or(rest, |(_, rest)| rest);
    }
    if let [b' ', b'+' | b'-', zone @ ..] = rest
        && let Some((_, behind)) = number(zone)
    {
        rest = behind;
    }
    rest.strip_prefix(b" ").unwrap_or(text)
}

/// A decimal number and what follows; `None` without a digit or beyond 64 bits.
#[inline]
pub(super) fn number(text: &[u8]) -> Option<(u64, &[u8])> {
    match near::number(text)? {
        (_, 0) => None,
        (value, len) => Some((value, text.get(len..)?)),
    }
}

/// Both sides of the byte at `at`, without it.
#[inline]
pub(super) fn split(text: &[u8], at: usize) -> Option<(&[u8], &[u8])> {
    Some((text.get(..at)?, text.get(at + 1..)?))
}

/// What stands before the next space (or all), and from there on.
#[inline]
pub(super) fn word(text: &[u8]) -> (&[u8], &[u8]) {
    text.split_at_checked(near::find(b' ', text).unwrap_or(text.len())).unwrap_or((text, &[]))
}

/// Where `words` stand last: in a text as short as a reply a walk is over before a searcher is made.
#[inline]
pub(super) fn last<const N: usize>(text: &[u8], words: &[u8; N]) -> Option<usize> {
    let end = *words.last()?;
    memchr::memrchr_iter(end, text).find_map(|at| {
        let from = (at + 1).checked_sub(N)?;
        (text.get(from..=at)? == words).then_some(from)
    })
}

/// `text"` up to the quote that no backslash takes the meaning from (string_printing.c escapes both), and what
/// follows it.
#[inline]
pub(super) fn quoted(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut from = 0;
    loop {
        let at = from + near::either(b'"', b'\\', text.get(from..)?)?;
        if text.get(at) == Some(&b'"') {
            return split(text, at);
        }
        from = at + 2;
    }
}

/// `<ADDRESS>` at the beginning of a text, and what follows; a `>` inside the quotes of a local part ends nothing.
pub(super) fn angled(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let inner = text.strip_prefix(b"<")?;
    let behind_quotes = match inner.strip_prefix(b"\"").and_then(quoted) {
        Some((_, rest)) => inner.len() - rest.len(),
        None => 0,
    };
    let end = behind_quotes + near::find(b'>', inner.get(behind_quotes..)?)?;
    split(inner, end)
}

/// The other side of a connection, behind `H=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Peer<'a> {
    /// All of it, as logged.
    pub text: &'a [u8],
    /// Its name as the resolver gave it, else as it called itself.
    pub name: &'a [u8],
    pub address: &'a [u8],
}

/// `NAME (HELO) [ADDR][:PORT]`, `(HELO) [ADDR]`, `NAME [ADDR]`, `[ADDR]`, and what follows (host_and_ident). HELO is
/// the client's word, but a server that is not told otherwise takes only what has no space or bracket, or an address
/// in brackets; nothing else is believed.
#[inline]
pub(super) fn peer(text: &[u8]) -> Option<(Peer<'_>, &[u8])> {
    let mut rest = text;
    let mut name: &[u8] = &[];
    if !matches!(rest.first(), Some(b'[' | b'(')) {
        (name, rest) = word(rest);
        rest = rest.strip_prefix(b" ")?;
    }
    if let Some(helo) = rest.strip_prefix(b"(") {
        let end = near::either(b')', b' ', helo)?;
        let (helo, behind) = helo.split_at_checked(end)?;
        rest = behind.strip_prefix(b") ")?;
        if name.is_empty() {
            name = helo;
        }
    }
    let inner = rest.strip_prefix(b"[")?;
    let (address, behind) = split(inner, near::either(b']', b' ', inner)?)?;
    // The byte that was found must be the bracket.
    if inner.get(address.len()) != Some(&b']') {
        return None;
    }
    let rest = match behind.strip_prefix(b":") {
        Some(port) => number(port).map_or(behind, |(_, rest)| rest),
        None => behind,
    };
    let text = text.get(..text.len() - rest.len())?;
    Some((Peer { text, name, address }, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_both_forms_and_nothing_else() {
        for good in ["1xVROW-0001BH-2c", "1xVROY-000000001Df-1o0t"] {
            assert!(whole_id(good.as_bytes()).is_some(), "{good}");
            let line = format!("{good} Completed");
            assert_eq!(id(line.as_bytes()), Some((good.as_bytes(), &b" Completed"[..])));
        }
        for bad in [
            "",
            "1xVROW-0001BH-2",
            "1xVROW-0001BH-2cx",
            "1xVROW_0001BH-2c",
            "1xVROW-0001BH-2c-",
            "1xVROY-000000001Df-1o0",
            "1xVR.Y-000000001Df-1o0t",
            "SMTP connection from",
        ] {
            assert_eq!(whole_id(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(id_seconds(b"1xVROW-0001BH-2c"), 1_795_430_132);
    }

    #[test]
    fn a_stamp_of_its_own_is_passed_over() {
        for stamp in ["", "2026-11-23 10:36:56 ", "2026-11-23 10:36:56.655 ", "2026-11-23 10:36:56.655 +0100 "] {
            let text = format!("{stamp}[12] 1xVROW-0001BH-2c Completed");
            assert_eq!(behind_stamp(text.as_bytes()), b"[12] 1xVROW-0001BH-2c Completed");
        }
        assert_eq!(behind_stamp(b"2026-11-23 x"), b"2026-11-23 x");
    }

    #[test]
    fn peers_in_every_form() {
        type Parts = (&'static str, &'static str, &'static str);
        let table: &[(&str, Option<Parts>)] = &[
            ("mx.test (helo.test) [192.0.2.1]:25 I=", Some(("mx.test", "192.0.2.1", " I="))),
            ("(helo.test) [192.0.2.1] P=", Some(("helo.test", "192.0.2.1", " P="))),
            ("([192.0.2.9]) [192.0.2.1] P=", Some(("[192.0.2.9]", "192.0.2.1", " P="))),
            ("[2001:db8::1]:25", Some(("", "2001:db8::1", ""))),
            ("mx.test [192.0.2.1]*", Some(("mx.test", "192.0.2.1", "*"))),
            ("(a b) [192.0.2.1]", None),
            ("mx.test", None),
            ("mx [192.0.2.1", None),
            ("mx [192.0 .2.1]", None),
        ];
        for (text, want) in table {
            let read = peer(text.as_bytes()).map(|(peer, rest)| (peer.name, peer.address, rest));
            let want = want.map(|(name, address, rest)| (name.as_bytes(), address.as_bytes(), rest.as_bytes()));
            assert_eq!(read, want, "{text}");
        }
    }
}
