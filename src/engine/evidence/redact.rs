//! A receiver's words without the addresses in them: of each only the domain is left.
//!
//! Receivers repeat whom a message was for, whole or only the part before the `@`, and cut or encode it. Takes out too much
//! rather than too little, and never says what it took out.

use crate::mail::{address, text};

/// What stands for what was taken out.
pub const GONE: char = '…';
/// Where the message index cuts a reply: behind it, an address may have lost its domain.
const CUT_AT: usize = 300;
const MAX_REPLY: usize = 1_024;
/// Bytes that are shown.
const MAX_WORDS: usize = 240;
/// A shorter local part is only taken out where it is a word of its own: `a` is in most words.
const SHORT: usize = 3;

/// The reply, for people: clean, capped, and without the local part of any address, `recipient`'s also where it stands alone.
pub fn words(reply: &[u8], recipient: &[u8]) -> String {
    let mut text = text::clean(reply, MAX_REPLY);
    if reply.len() >= CUT_AT {
        // What the end has cut may be the beginning of an address.
        text.truncate(text.rfind(char::is_whitespace).unwrap_or(0));
    }
    let mut text = without_addresses(&text);
    for part in parts(recipient) {
        text = without(&text, &part);
    }
    capped(text)
}

/// The domain of an address, as it is compared and shown; empty where there is none.
pub fn domain(recipient: &[u8]) -> String {
    text::clean(&address::domain(recipient).to_ascii_lowercase(), 255)
}

fn capped(mut text: String) -> String {
    if text.len() <= MAX_WORDS {
        return text;
    }
    let end = (0..=MAX_WORDS).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    text.truncate(end);
    text.push(GONE);
    text
}

/// What of an address must not be said: the local part, without its quotes, and what is before its extension.
fn parts(recipient: &[u8]) -> Vec<String> {
    let local = text::clean(address::split(recipient).0, MAX_REPLY);
    let bare = local.trim_matches('"').to_owned();
    let base = bare.split('+').next().unwrap_or_default().to_owned();
    let mut parts: Vec<String> = [local, bare, base].into_iter().filter(|part| !part.is_empty()).collect();
    parts.dedup();
    parts
}

/// Every `LOCAL@DOMAIN` becomes `…@DOMAIN`, also where the `@` is written `%40`.
fn without_addresses(text: &str) -> String {
    let text = without_quoted(text);
    let mut out = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let end = rest.find(ends_word).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        let at = ["@", "%40"].iter().filter_map(|sign| word.rfind(sign)).max();
        match at.and_then(|at| word.get(at..)) {
            Some(domain) => {
                out.push(GONE);
                out.push_str(domain);
            }
            None => out.push_str(word),
        }
        let mut signs = after.chars();
        out.extend(signs.next());
        rest = signs.as_str();
    }
    out
}

fn ends_word(c: char) -> bool {
    c.is_whitespace() || "<>()[]{},;\"'`|".contains(c)
}

/// A quoted local part may have anything in it: `"two words"@b` is `…@b`.
fn without_quoted(text: &str) -> String {
    let mut out = text.to_owned();
    let mut from = 0;
    while let Some(end) = out.get(from..).and_then(|tail| tail.find("\"@")).map(|at| from + at) {
        let start = out.get(..end).and_then(|head| head.rfind('"')).unwrap_or(end);
        out.replace_range(start..=end, "…");
        from = start + GONE.len_utf8();
    }
    out
}

/// `part` taken out wherever it stands, in any case.
fn without(text: &str, part: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut before = ' ';
    while let Some(c) = rest.chars().next() {
        let here = rest.get(..part.len()).is_some_and(|head| head.eq_ignore_ascii_case(part));
        let after = rest.get(part.len()..).and_then(|tail| tail.chars().next()).unwrap_or(' ');
        if here && (part.len() >= SHORT || !(before.is_alphanumeric() || after.is_alphanumeric())) {
            out.push(GONE);
            rest = rest.get(part.len()..).unwrap_or_default();
            before = GONE;
            continue;
        }
        out.push(c);
        before = c;
        rest = rest.get(c.len_utf8()..).unwrap_or_default();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_an_address_only_the_domain_is_left() {
        for (reply, recipient, shown) in [
            ("550 5.1.1 <Bob.Lee@b.test>: no such user", "bob.lee@b.test", "550 5.1.1 <…@b.test>: no such user"),
            ("550 mailbox BOB.LEE is full", "bob.lee@b.test", "550 mailbox … is full"),
            ("550 bob.lee=b.test@srs.test no", "bob.lee@b.test", "550 …@srs.test no"),
            ("see https://b.test/why?to=bob.lee%40b.test", "bob.lee@b.test", "see …%40b.test"),
            ("550 \"bob lee\"@b.test, \"x y\"@c.test", "\"bob lee\"@b.test", "550 …@b.test, …@c.test"),
            ("550 bob lee unknown", "\"bob lee\"@b.test", "550 … unknown"),
            ("450 anna greylisted", "anna+news@b.test", "450 … greylisted"),
            ("550 a mailbox at a.test", "a@b.test", "550 … mailbox at ….test"),
            ("550 from someone@else.test", "b@b.test", "550 from …@else.test"),
            ("554 <root>: unknown", "root", "554 <…>: unknown"),
            ("250 2.0.0 Ok: queued", "", "250 2.0.0 Ok: queued"),
            ("550 é@b.test ém", "é@b.test", "550 …@b.test ém"),
        ] {
            assert_eq!(words(reply.as_bytes(), recipient.as_bytes()), shown, "{reply}");
        }
    }

    #[test]
    fn what_the_end_has_cut_is_not_shown() {
        let reply = format!("550 {} <bob.le", "x ".repeat(150));
        let shown = words(reply.as_bytes(), b"bob.lee@b.test");
        assert!(!shown.contains("bob") && shown.len() <= MAX_WORDS + 3, "{shown}");
        assert_eq!(words(&[b'b'; 400], b"bob@b.test"), "");
    }

    #[test]
    fn a_domain_is_in_lower_case_and_may_be_missing() {
        assert_eq!(
            (domain(b"x@B.Test."), domain(b"root"), domain(b"\"a@b\"@c.test")),
            ("b.test".into(), "".into(), "c.test".into())
        );
    }
}
