//! Pieces that many lines share: queue ids, numbers, `NAME[ADDR]`, and where an address in `<…>` ends.

use crate::mail::QueueId;
use crate::mta::near;

const HEX: u8 = 1;
const BASE52: u8 = 2;

/// For every byte, the queue id alphabets it belongs to: upper case hex of short ids; digits and consonants of long
/// ids (safe_ultostr.c leaves out the vowels).
static ALPHABETS: [u8; 256] = {
    let mut table = [0u8; 256];
    let mut byte = 0u8;
    loop {
        let vowel = matches!(byte, b'a' | b'e' | b'i' | b'o' | b'u' | b'A' | b'E' | b'I' | b'O' | b'U');
        let hex = byte.is_ascii_digit() || matches!(byte, b'A'..=b'F');
        let long = byte.is_ascii_alphanumeric() && !vowel;
        #[allow(clippy::indexing_slicing, reason = "checked by the compiler: a constant")]
        {
            table[byte as usize] = if hex { HEX } else { 0 } | if long { BASE52 } else { 0 };
        }
        if byte == 255 {
            break;
        }
        byte += 1;
    }
    table
};

/// A queue id in one of the two forms of mail_queue.h, strictly: anything else is text of somebody.
#[inline]
pub(super) fn queue_id(text: &[u8]) -> Option<QueueId> {
    let mut kinds = HEX | BASE52;
    let mut last_z = 0;
    for (at, &byte) in text.iter().enumerate() {
        kinds &= ALPHABETS.get(usize::from(byte)).copied().unwrap_or(0);
        if byte == b'z' {
            last_z = at;
        }
    }
    let short = kinds & HEX != 0 && (6..=21).contains(&text.len());
    // Seconds (6 or more), microseconds (4), `z`, and an inode number that has no `z`.
    let long = kinds & BASE52 != 0 && last_z >= 10 && last_z + 1 < text.len();
    if short || long { QueueId::new(text) } else { None }
}

/// A decimal number and what follows; `None` without a digit or beyond 64 bits.
#[inline]
pub(super) fn number(text: &[u8]) -> Option<(u64, &[u8])> {
    match near::number(text)? {
        (_, 0) => None,
        (value, len) => Some((value, text.get(len..)?)),
    }
}

/// `NAME[ADDR]` and what follows. Names come from DNS and have no `[`.
#[inline]
pub(super) fn name_and_address(text: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (name, rest) = split(text, near::find(b'[', text)?)?;
    let (address, rest) = split(rest, near::find(b']', rest)?)?;
    Some((name, address, rest))
}

/// Both sides of the byte at `at`, without it.
#[inline]
pub(super) fn split(text: &[u8], at: usize) -> Option<(&[u8], &[u8])> {
    Some((text.get(..at)?, text.get(at + 1..)?))
}

/// The address may hold a `>` of its own before the one that ends it: it begins with a quote or has a domain literal.
#[inline]
fn is_special(text: &[u8]) -> bool {
    text.first() == Some(&b'"') || {
        let end = near::find(b'>', text).unwrap_or(text.len());
        text.get(..end).is_some_and(|plain| near::find(b'[', plain).is_some())
    }
}

/// Where the `>` is that ends the address, if the address is written as RFC 5321 says: since 3.5 it is
/// (info_log_addr_form), with quotes around a local part that needs them; inside quotes nothing ends it.
fn quoted_end(text: &[u8]) -> Option<usize> {
    let mut at = 0;
    if text.first() == Some(&b'"') {
        at = 1 + closing(text.get(1..)?, b'"')? + 1;
    } else {
        at += near::either(b'@', b'>', text)?;
    }
    if let Some([b'@', b'[', literal @ ..]) = text.get(at..) {
        at += 2 + closing(literal, b']')? + 1;
    }
    Some(at + near::find(b'>', text.get(at..)?)?)
}

/// The first `mark` that no backslash takes the meaning from.
fn closing(text: &[u8], mark: u8) -> Option<usize> {
    let mut from = 0;
    loop {
        let at = from + near::either(mark, b'\\', text.get(from..)?)?;
        if text.get(at) == Some(&mark) {
            return Some(at);
        }
        from = at + 2;
    }
}

/// Reads `ADDR>` and what must follow it. Tried first: the end that quoting says; then, for the unquoted form before
/// 3.5, every `>` from the left: the first one behind which `follows` finds all its fields ends the address.
#[inline]
pub(super) fn address<'a, T>(text: &'a [u8], mut follows: impl FnMut(&'a [u8]) -> Option<T>) -> Option<(&'a [u8], T)> {
    if is_special(text)
        && let Some((address, rest)) = quoted_end(text).and_then(|end| split(text, end))
        && let Some(found) = follows(rest)
    {
        return Some((address, found));
    }
    let mut from = 0;
    loop {
        let end = from + near::find(b'>', text.get(from..)?)?;
        let (address, rest) = split(text, end)?;
        if let Some(found) = follows(rest) {
            return Some((address, found));
        }
        from = end + 1;
    }
}

/// Reads `ADDR>`, ended as quoting says or else by the first `>`, and gives what follows.
#[inline]
pub(super) fn plain_address(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let quoted = if is_special(text) { quoted_end(text) } else { None };
    split(text, quoted.or_else(|| near::find(b'>', text))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queue_ids_of_both_alphabets_and_nothing_else() {
        for good in
            ["8C47DB6051", "D4F2023DB", "59A9511093D2", "4jY2SQ3blzz5bcl", "4jY2SR5JTpz5bd2", "ABCDEF", "3yzzzzzzzzz1"]
        {
            assert!(queue_id(good.as_bytes()).is_some(), "{good}");
        }
        for bad in [
            "",
            "ABCDE",
            "8c47db6051",
            "NOQUEUE",
            "4jY2SQ3blzz5bca",
            "4jY2SQ3blz",
            "4jY2SQz5bcl",
            "warning",
            "0123456789012345678901",
            "4jY2SQ3bl-z5bcl",
            "4jY2SQ3blzzzzzzzzzzzzzzzzzzzzzzzzz1234",
        ] {
            assert_eq!(queue_id(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn numbers_stop_at_64_bits() {
        assert_eq!(number(b"18446744073709551615,"), Some((u64::MAX, &b","[..])));
        assert_eq!(number(b"18446744073709551616"), None);
        assert_eq!(number(b"x"), None);
    }
}
