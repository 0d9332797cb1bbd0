//! Reply classes: why a receiver said no, in classes people understand.
//!
//! A table of patterns over the receiver's words, tried in order, first match wins; operators' own come first. Where
//! the words say nothing, the enhanced status code decides. It never learns, and never looks at who sent or received.
//! See [`Replies::classify`].

mod table;
#[cfg(test)]
mod table_tests;

use crate::mail::{Dsn, ReplyClass};
use regex::bytes::{RegexSet, RegexSetBuilder};
use std::sync::LazyLock;

/// Reply texts are cut here before they are matched: what says why comes early, and the time is bounded.
const LONGEST: usize = 1_024;

/// The compiled tables.
#[derive(Debug, Clone)]
pub struct Replies {
    own: RegexSet,
    own_classes: Vec<ReplyClass>,
}

/// The built-in table, compiled when the first reply is classed. Its patterns are constants, and a test compiles them:
/// should that fail all the same, everything is classed by its status code.
static KNOWN: LazyLock<RegexSet> = LazyLock::new(|| {
    let patterns: Vec<&str> = table::TABLE.iter().map(|(pattern, _)| *pattern).collect();
    compile(&patterns, false).unwrap_or_else(|_| RegexSet::empty())
});

/// An operator's pattern cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RepliesError {
    #[error("reply pattern {pattern:?} for class {class}: {why}; correct the pattern or remove it", class = .class.name())]
    Pattern { pattern: String, class: ReplyClass, why: String },
    #[error("the reply patterns are too large together: {why}; use fewer or simpler patterns")]
    TooLarge { why: String },
}

impl Default for Replies {
    /// The built-in table alone.
    fn default() -> Replies {
        Replies { own: RegexSet::empty(), own_classes: Vec::new() }
    }
}

impl Replies {
    /// The built-in table behind the operator's own patterns (regular expressions, any case, anywhere in the reply).
    pub fn new(own: &[(String, ReplyClass)]) -> Result<Replies, RepliesError> {
        for (pattern, class) in own {
            compile(&[pattern.as_str()], true).map_err(|e| RepliesError::Pattern {
                pattern: pattern.clone(),
                class: *class,
                why: e.to_string(),
            })?;
        }
        let patterns: Vec<&str> = own.iter().map(|(pattern, _)| pattern.as_str()).collect();
        let too_large = |e: regex::Error| RepliesError::TooLarge { why: e.to_string() };
        Ok(Replies {
            own: compile(&patterns, true).map_err(too_large)?,
            own_classes: own.iter().map(|(_, class)| *class).collect(),
        })
    }

    /// The class of a refusal. `code` is the SMTP reply code, 0 when there is none (see [`smtp_code`]).
    pub fn classify(&self, dsn: Dsn, code: u16, reply: &[u8]) -> ReplyClass {
        let reply = reply.get(..LONGEST).unwrap_or(reply);
        if let Some(class) = self.own.matches(reply).iter().next().and_then(|at| self.own_classes.get(at)) {
            return *class;
        }
        if let Some((_, class)) = KNOWN.matches(reply).iter().next().and_then(|at| table::TABLE.get(at)) {
            return *class;
        }
        by_code(dsn, code)
    }
}

/// Operators may write any script; the built-in patterns are plain and faster without.
fn compile(patterns: &[&str], unicode: bool) -> Result<RegexSet, regex::Error> {
    RegexSetBuilder::new(patterns).case_insensitive(true).unicode(unicode).size_limit(16 << 20).build()
}

/// RFC 3463, where the words said nothing.
fn by_code(dsn: Dsn, code: u16) -> ReplyClass {
    match (dsn.subject, dsn.detail) {
        (1, 1 | 3 | 6) if dsn.class == 5 => ReplyClass::UnknownRecipient,
        (1, 2 | 8 | 10) => ReplyClass::Dns,
        (2, 1) => ReplyClass::MailboxDisabled,
        (2, 2) => ReplyClass::MailboxFull,
        (2, 3) | (3, 4) => ReplyClass::TooLarge,
        (3, _) => ReplyClass::LocalError,
        (4, 1 | 2) => ReplyClass::Connection,
        (4, 3 | 4) => ReplyClass::Dns,
        (4, 6) => ReplyClass::Loop,
        (4, 7) if dsn.class == 4 => ReplyClass::Greylisted,
        (5, 3) => ReplyClass::RateLimited,
        (6, _) => ReplyClass::Content,
        (7, 20..=27) => ReplyClass::AuthFailed,
        (7, 28) => ReplyClass::RateLimited,
        (7, 5 | 10 | 11) => ReplyClass::Tls,
        (7, _) => ReplyClass::Policy,
        _ if code == 552 => ReplyClass::TooLarge,
        _ => ReplyClass::Other,
    }
}

/// The SMTP reply code in a reply: the number at its beginning (`250 ok`), or behind `said: ` or `talk to me: `.
/// 0 when there is none.
pub fn smtp_code(reply: &[u8]) -> u16 {
    if let Some(code) = leading_code(reply) {
        return code;
    }
    memchr::memchr_iter(b':', reply)
        .take(16)
        .find_map(|at| {
            let (before, after) = reply.split_at_checked(at)?;
            (before.ends_with(b" said") || before.ends_with(b" talk to me"))
                .then(|| leading_code(after.strip_prefix(b": ")?))?
        })
        .unwrap_or(0)
}

fn leading_code(text: &[u8]) -> Option<u16> {
    match text {
        [first @ b'2'..=b'5', second @ b'0'..=b'9', third @ b'0'..=b'9', rest @ ..]
            if matches!(rest.first(), None | Some(b' ' | b'-')) =>
        {
            Some([first, second, third].iter().fold(0, |n, b| n * 10 + u16::from(**b - b'0')))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_found_where_servers_put_them() {
        let table: &[(&str, u16)] = &[
            ("250 2.0.0 Ok: queued as 4jY2Pn4MFKz5bdQ", 250),
            ("250", 250),
            ("host mx[192.0.2.1] said: 550 5.1.1 No such user (in reply to RCPT TO command)", 550),
            ("host mx[192.0.2.1] said: 550-5.7.1 long (in reply to end of DATA command)", 550),
            ("host mx[192.0.2.1] refused to talk to me: 421 busy", 421),
            ("delivery temporarily suspended: host mx[192.0.2.1] refused to talk to me: 554 no", 554),
            ("host mx[2001:db8::1] said: 450 4.2.0 try later", 450),
            ("connect to mx[192.0.2.1]:25: Connection refused", 0),
            ("2500 apples", 0),
            ("", 0),
            ("host mx said: nothing", 0),
        ];
        for (reply, code) in table {
            assert_eq!(smtp_code(reply.as_bytes()), *code, "{reply}");
        }
    }

    #[test]
    fn an_operators_pattern_comes_first_and_a_bad_one_is_named() {
        let own = [("fancy words".to_string(), ReplyClass::Greylisted)];
        let replies = Replies::new(&own).unwrap();
        assert_eq!(replies.classify(Dsn::NONE, 550, b"550 Fancy Words, user unknown"), ReplyClass::Greylisted);
        let bad = [("ok".to_string(), ReplyClass::Spam), ("(".to_string(), ReplyClass::Spam)];
        let error = Replies::new(&bad).unwrap_err().to_string();
        assert!(error.contains("\"(\"") && error.contains("spam"), "{error}");
    }

    #[test]
    fn without_words_the_code_decides() {
        let replies = Replies::new(&[]).unwrap();
        let table = [
            (Dsn::new(5, 1, 1), 550, ReplyClass::UnknownRecipient),
            (Dsn::new(5, 2, 1), 550, ReplyClass::MailboxDisabled),
            (Dsn::new(4, 2, 2), 452, ReplyClass::MailboxFull),
            (Dsn::new(5, 3, 4), 552, ReplyClass::TooLarge),
            (Dsn::new(4, 4, 1), 0, ReplyClass::Connection),
            (Dsn::new(5, 4, 4), 0, ReplyClass::Dns),
            (Dsn::new(5, 4, 6), 0, ReplyClass::Loop),
            (Dsn::new(5, 7, 26), 550, ReplyClass::AuthFailed),
            (Dsn::new(5, 7, 1), 554, ReplyClass::Policy),
            (Dsn::new(5, 0, 0), 550, ReplyClass::Other),
            (Dsn::new(4, 3, 0), 0, ReplyClass::LocalError),
            (Dsn::NONE, 0, ReplyClass::Other),
        ];
        for (dsn, code, class) in table {
            assert_eq!(replies.classify(dsn, code, b"qwertz"), class, "{dsn}");
        }
    }
}
