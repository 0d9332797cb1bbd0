//! The words of a reply without what is around them: the text that the table's patterns are written for.
//!
//! Small letters; the sending server's own wrapping, codes of further lines and mail addresses taken out. An address is
//! chosen by whoever wrote to it, so `spam-unknown-user@…` must not class a reply. It allocates once and never grows
//! beyond what it was given. See [`plain`].

use super::code_at;
use crate::mail::Dsn;
use memchr::memmem::{Finder, FinderRev};
use std::sync::LazyLock;

/// What the sending server says around the reply to its own login, whose words may be about anything: kept, behind them.
const LOGIN_REFUSED: &[u8] = b"SASL authentication failed";

// Made once: every refusal is looked through.
static IN_REPLY_TO: LazyLock<FinderRev<'static>> = LazyLock::new(|| FinderRev::new(b" (in reply to "));
static REFUSED: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(LOGIN_REFUSED));

/// The reply in plain words. Begins with the reply code when there is one.
pub(super) fn plain(reply: &[u8]) -> Vec<u8> {
    let (code, at) = code_at(reply);
    let words = reply.get(at..).unwrap_or_default();
    let words = match IN_REPLY_TO.rfind(words) {
        Some(end) => words.get(..end).unwrap_or(words),
        None => words,
    };
    let code = if code == 0 { &[][..] } else { words.get(..3).unwrap_or_default() };
    let refused = REFUSED.find(reply.get(..at).unwrap_or_default()).is_some();
    let mut out = Vec::with_capacity(words.len() + 4 + LOGIN_REFUSED.len());
    let (mut begins, mut status): (bool, &[u8]) = (false, b"");
    // Two characters stand for the line breaks of a long reply: a backslash and an n.
    for token in words.split(u8::is_ascii_whitespace).flat_map(lines) {
        let mut token = token;
        if let Some(rest) = further_code(token, code) {
            if out.is_empty() {
                out.extend_from_slice(code);
            }
            (begins, token) = (true, rest);
        }
        if token.is_empty() {
            continue;
        }
        if begins && Dsn::parse(token).is_some() {
            if token == status {
                continue;
            }
            status = token;
        }
        begins = false;
        push(&mut out, token);
    }
    if refused {
        push(&mut out, LOGIN_REFUSED);
    }
    out
}

/// The enhanced status code behind the reply code: some logs have it nowhere else.
pub(super) fn enhanced(plain: &[u8]) -> Dsn {
    let second = plain.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
    Dsn::parse(second.strip_prefix(b"#").unwrap_or(second)).unwrap_or(Dsn::NONE)
}

/// What follows the reply code in `550-5.1.1` or `550`; `None` for any other token.
fn further_code<'t>(token: &'t [u8], code: &[u8]) -> Option<&'t [u8]> {
    if code.is_empty() {
        return None;
    }
    match token.strip_prefix(code)? {
        [] => Some(&[]),
        [b'-', rest @ ..] => Some(rest),
        _ => None,
    }
}

fn lines(token: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(token);
    std::iter::from_fn(move || {
        let text = rest?;
        let mut breaks = memchr::memchr_iter(b'\\', text).filter(|at| text.get(at + 1) == Some(&b'n'));
        match breaks.next().and_then(|at| text.split_at_checked(at)) {
            Some((line, after)) => {
                rest = after.get(2..);
                Some(line)
            }
            None => rest.take(),
        }
    })
}

fn push(out: &mut Vec<u8>, token: &[u8]) {
    if token.is_empty() {
        return;
    }
    if !out.is_empty() {
        out.push(b' ');
    }
    let is_link = || token.windows(3).any(|three| three == b"://");
    match memchr::memrchr(b'@', token).filter(|_| !is_link()).and_then(|at| token.split_at_checked(at)) {
        Some((_, domain)) => push_address(out, token, domain.get(1..).unwrap_or_default()),
        None => out.extend(token.iter().map(u8::to_ascii_lowercase)),
    }
}

/// An `@` for a token with an address in it, and the word that a receiver wrote close behind: `<a@b.test>...User`,
/// `a@b.test:user`. What is before the last @ is the address, whatever it holds.
fn push_address(out: &mut Vec<u8>, token: &[u8], domain: &[u8]) {
    out.push(b'@');
    let dots = memchr::memmem::find(domain, b"..").unwrap_or(domain.len());
    let of_a_name = |byte: &&u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'[' | b']');
    let name = domain.iter().take(dots).take_while(of_a_name).count();
    let behind = domain.get(name..).unwrap_or_default();
    let behind = behind.strip_prefix(b">").unwrap_or(behind);
    let marks = behind.iter().take_while(|byte| matches!(byte, b'.' | b':')).count();
    let word = behind.get(marks..).unwrap_or_default();
    if marks == 0 || word.is_empty() || name == 0 {
        out.extend(token.last().filter(|byte| matches!(byte, b':' | b';' | b')')));
        return;
    }
    out.extend(behind.first().filter(|byte| **byte == b':'));
    out.push(b' ');
    out.extend(word.iter().map(u8::to_ascii_lowercase));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_around_the_words_is_taken_out() {
        let table = [
            ("550 5.1.1 <spam@virus.test>: User unknown", "550 5.1.1 @: user unknown"),
            (
                "host mx.spam.test[192.0.2.1] said: 550-5.1.1 The account 550-5.1.1 does not 550 5.1.1 exist (in reply to RCPT TO command)",
                "550 5.1.1 the account does not exist",
            ),
            (
                r"SMTP error from remote mail server after RCPT TO:<a@b.test>: 550-5.7.26 This mail\n550-5.7.26 is\n550 5.7.26 unauthenticated",
                "550 5.7.26 this mail is unauthenticated",
            ),
            (
                "SMTP error from remote mail server after RCPT TO:<a@b.test>: host mx.b.test [2001:db8::1]: 550 no such user",
                "550 no such user",
            ),
            (
                "554-gmx.net (mx) Service not available 554-No SMTP service 554 listed",
                "554 gmx.net (mx) service not available no smtp service listed",
            ),
            ("421   Too\tmany", "421 too many"),
            (
                "SASL authentication failed; server mx.b.test[192.0.2.1] said: 501 Cannot decode",
                "501 cannot decode sasl authentication failed",
            ),
            ("550 <a@b.test>...User unknown", "550 @ user unknown"),
            ("550 a@b.test:user not exist", "550 @: user not exist"),
            ("550 spam@virus@b.test: no", "550 @: no"),
            ("550 (a@b.test) no", "550 @) no"),
            ("Connection refused", "connection refused"),
            ("550 see https://example.test/?mail=a@b", "550 see https://example.test/?mail=a@b"),
            ("", ""),
        ];
        for (reply, words) in table {
            assert_eq!(String::from_utf8(plain(reply.as_bytes())).unwrap(), words, "{reply}");
        }
    }

    #[test]
    fn the_status_code_is_found_behind_the_reply_code() {
        for (reply, dsn) in [
            ("550 5.1.1 no", Dsn::new(5, 1, 1)),
            ("550-5.7.26 no", Dsn::new(5, 7, 26)),
            ("550 #5.1.0 no", Dsn::new(5, 1, 0)),
            ("550 no 5.1.1", Dsn::NONE),
            ("", Dsn::NONE),
        ] {
            assert_eq!(enhanced(&plain(reply.as_bytes())), dsn, "{reply}");
        }
    }
}
