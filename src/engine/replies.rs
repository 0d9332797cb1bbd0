//! Reply classes: why a receiver said no, in classes people understand.
//!
//! A table of patterns over the receiver's words (`replies/table.txt`), tried in order, first match wins; operators'
//! own come first. Where the words say nothing, the enhanced status code decides. And whether the words name an
//! address of this host. It never learns, and never looks at who sent or received. See [`Replies::judge`].

mod own;
mod plain;
mod table;
#[cfg(test)]
mod table_tests;

pub use own::OwnAddresses;

use crate::mail::{Dsn, ReplyClass};
use regex::bytes::{RegexSet, RegexSetBuilder};
use std::net::IpAddr;
use std::sync::LazyLock;
use table::Table;

/// Reply texts are cut here before they are matched: what says why comes early, and the time is bounded.
const LONGEST: usize = 2_048;
/// Most patterns of an operator, and the longest of them.
pub const MAX_PATTERNS: usize = 200;
pub const MAX_PATTERN_BYTES: usize = 512;

/// An operator's own pattern: a regular expression, in any case, anywhere in the reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    pub pattern: String,
    pub class: ReplyClass,
}

/// What a refusal was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Judgement {
    pub class: ReplyClass,
    /// The SMTP reply code, 0 when there is none.
    pub code: u16,
    /// The address of this host that the receiver names.
    pub own_address: Option<IpAddr>,
}

/// The compiled tables.
#[derive(Debug, Clone)]
pub struct Replies {
    patterns: RegexSet,
    classes: Vec<ReplyClass>,
    own: OwnAddresses,
}

/// The built-in rows, read and compiled when the first reply is classed. A test compiles them: should that fail all the
/// same, everything is classed by its status code.
static ROWS: LazyLock<Vec<(ReplyClass, String)>> = LazyLock::new(table::rows);
static TABLE: LazyLock<Option<Table>> = LazyLock::new(|| Table::new(&ROWS));

/// An operator's pattern cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RepliesError {
    #[error("`{}` is not a pattern: {why}", crate::mail::text::clean(.pattern.as_bytes(), 80))]
    Pattern { pattern: String, why: String },
    #[error("the reply patterns are too large together: {why}; use fewer or simpler patterns")]
    TooLarge { why: String },
}

impl Default for Replies {
    /// The built-in table alone, and no address is ours.
    fn default() -> Replies {
        Replies { patterns: RegexSet::empty(), classes: Vec::new(), own: OwnAddresses::default() }
    }
}

impl Replies {
    /// The built-in table behind the operator's own patterns.
    pub fn new(patterns: &[Pattern], own: OwnAddresses) -> Result<Replies, RepliesError> {
        for one in patterns {
            check(&one.pattern)?;
        }
        let set = compile(patterns.iter().map(|one| one.pattern.as_str()));
        Ok(Replies {
            patterns: set.map_err(|why| RepliesError::TooLarge { why: why.to_string() })?,
            classes: patterns.iter().map(|one| one.class).collect(),
            own,
        })
    }

    /// Other addresses are ours now.
    pub fn set_own_addresses(&mut self, own: OwnAddresses) {
        self.own = own;
    }

    /// What a refusal was.
    pub fn judge(&self, dsn: Dsn, reply: &[u8]) -> Judgement {
        let reply = reply.get(..LONGEST).unwrap_or(reply);
        let (code, at) = code_at(reply);
        // Before the code, the server names the host it talked to; a text without a code is no receiver's.
        let said = if code == 0 { &[][..] } else { reply.get(at..).unwrap_or_default() };
        Judgement { class: self.class(dsn, code, reply), code, own_address: self.own.named_in(said) }
    }

    fn class(&self, dsn: Dsn, code: u16, reply: &[u8]) -> ReplyClass {
        if let Some(class) = self.patterns.matches(reply).iter().next().and_then(|at| self.classes.get(at)) {
            return *class;
        }
        let words = plain::plain(reply);
        let row = TABLE.as_ref().and_then(|table| table.first(&words));
        if let Some((class, _)) = row.and_then(|at| ROWS.get(at)) {
            return *class;
        }
        // A log without status codes, or one that only repeats the first digit.
        let dsn = if dsn.subject == 0 { plain::enhanced(&words) } else { dsn };
        by_code(dsn, code)
    }
}

/// Whether an operator's pattern can be used, alone.
pub fn check(pattern: &str) -> Result<(), RepliesError> {
    let wrong = |why: String| RepliesError::Pattern { pattern: pattern.to_owned(), why };
    if pattern.len() > MAX_PATTERN_BYTES {
        return Err(wrong(format!("it is longer than {MAX_PATTERN_BYTES} bytes")));
    }
    // The library draws a picture of several lines; its last one says what is wrong.
    let last = |why: String| why.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
    let set = compile([pattern]).map_err(|why| wrong(last(why.to_string())))?;
    if set.is_match(b"") { Err(wrong("it matches everything, also an empty reply".to_owned())) } else { Ok(()) }
}

/// Operators may write any script. The time to match is linear in the reply, whatever the pattern; its size is bounded.
fn compile<'p>(patterns: impl IntoIterator<Item = &'p str>) -> Result<RegexSet, regex::Error> {
    RegexSetBuilder::new(patterns).case_insensitive(true).size_limit(4 << 20).dfa_size_limit(4 << 20).build()
}

/// RFC 3463, where the words said nothing.
fn by_code(dsn: Dsn, code: u16) -> ReplyClass {
    match (dsn.subject, dsn.detail) {
        (1, 1 | 3 | 4 | 6) | (7, 17) => ReplyClass::UnknownRecipient,
        // Exchange Online says 5.1.10 of a recipient; a domain without mail (RFC 7505) has a code of its own.
        (1, 10) if code == 550 => ReplyClass::UnknownRecipient,
        (1, 2 | 8 | 10) => ReplyClass::Dns,
        (2, 1) => ReplyClass::MailboxDisabled,
        (2, 2) => ReplyClass::MailboxFull,
        (2, 3) | (3, 4) => ReplyClass::TooLarge,
        (3, _) | (4, 5) => ReplyClass::LocalError,
        (4, 1) => ReplyClass::Connection,
        (4, 2 | 7) => ReplyClass::Timeout,
        (4, 3 | 4) => ReplyClass::Dns,
        (4, 6) => ReplyClass::Loop,
        (5, 3) => ReplyClass::RateLimited,
        (6, _) => ReplyClass::Content,
        (7, 8 | 20..=27 | 29) => ReplyClass::AuthFailed,
        (7, 28) => ReplyClass::RateLimited,
        (7, 5 | 10 | 11) => ReplyClass::Tls,
        (7, _) => ReplyClass::Policy,
        // RFC 5321, for those who give no status code.
        _ if matches!(code, 523 | 552) => ReplyClass::TooLarge,
        _ if matches!(code, 530 | 535) => ReplyClass::AuthFailed,
        _ if code == 556 => ReplyClass::Dns,
        _ if matches!(code, 521 | 571) => ReplyClass::Policy,
        _ if matches!(code, 421 | 451 | 452) => ReplyClass::LocalError,
        _ => ReplyClass::Other,
    }
}

/// The SMTP reply code in a reply and where it begins: at the beginning (`250 ok`), or behind what the sending server
/// writes before it (`host … said: `, `… talk to me: `, `… after RCPT TO:<…>: `). 0 and 0 when there is none.
fn code_at(reply: &[u8]) -> (u16, usize) {
    if let Some(code) = leading_code(reply) {
        return (code, 0);
    }
    let quote = b"SMTP error from remote ";
    let quoted = (0..16).any(|at| reply.get(at..).is_some_and(|rest| rest.starts_with(quote)));
    let behind = |at: usize| {
        let (before, after) = reply.split_at_checked(at)?;
        let said = quoted || before.ends_with(b" said") || before.ends_with(b" talk to me");
        let code = leading_code(after.strip_prefix(b": ")?).filter(|_| said)?;
        Some((code, at + 2))
    };
    memchr::memchr_iter(b':', reply).take(32).find_map(behind).unwrap_or((0, 0))
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

    fn judge(replies: &Replies, dsn: &str, reply: &str) -> Judgement {
        replies.judge(Dsn::parse(dsn.as_bytes()).unwrap_or(Dsn::NONE), reply.as_bytes())
    }

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
            ("SMTP error from remote mail server after RCPT TO:<a@b.test>: 550 5.1.1 no", 550),
            (r"SMTP error from remote mail server after end of data: 451-4.7.1 a\n451 4.7.1 b", 451),
            ("SMTP error from remote mail server after initial connection: host mx [2001:db8::1]: 554 no", 554),
            ("connect to mx[192.0.2.1]:25: Connection refused", 0),
            ("2500 apples", 0),
            ("", 0),
            ("host mx said: nothing", 0),
        ];
        for (reply, code) in table {
            assert_eq!(code_at(reply.as_bytes()).0, *code, "{reply}");
        }
    }

    #[test]
    fn an_operators_pattern_comes_first_and_a_bad_one_is_named() {
        let fancy = |pattern: &str| Pattern { pattern: pattern.to_owned(), class: ReplyClass::Greylisted };
        let replies = Replies::new(&[fancy("fancy WÖRDS")], OwnAddresses::default()).unwrap();
        assert_eq!(judge(&replies, "-", "550 Fancy Wörds, user unknown").class, ReplyClass::Greylisted);
        assert_eq!(judge(&replies, "-", "550 user unknown").class, ReplyClass::UnknownRecipient);
        for bad in ["(", "a*", "", &"x".repeat(MAX_PATTERN_BYTES + 1), r"(\w{900}){900}"] {
            let error = Replies::new(&[fancy("ok"), fancy(bad)], OwnAddresses::default()).unwrap_err().to_string();
            assert!(error.contains("is not a pattern"), "{error}");
        }
    }

    #[test]
    fn an_address_of_ours_is_seen_in_the_receivers_words_only() {
        let ours = OwnAddresses::new(["192.0.2.25".parse().unwrap()]);
        let replies = Replies::new(&[], ours).unwrap();
        let named = |reply: &str| judge(&replies, "5.7.1", reply).own_address.is_some();
        assert!(named("host mx[198.51.100.1] said: 554 5.7.1 Client host [192.0.2.25] blocked"));
        assert!(!named("host mx[192.0.2.25] said: 554 5.7.1 Client host blocked"));
        assert!(!named("connect to mx[192.0.2.25]:25: Connection refused"));
    }

    #[test]
    fn without_words_the_code_decides() {
        let replies = Replies::default();
        let table = [
            ("5.1.1", "550 qwertz", ReplyClass::UnknownRecipient),
            ("5.2.1", "550 qwertz", ReplyClass::MailboxDisabled),
            ("4.2.2", "452 qwertz", ReplyClass::MailboxFull),
            ("5.3.4", "552 qwertz", ReplyClass::TooLarge),
            ("4.4.1", "qwertz", ReplyClass::Connection),
            ("4.4.2", "qwertz", ReplyClass::Timeout),
            ("5.4.4", "qwertz", ReplyClass::Dns),
            ("5.4.6", "qwertz", ReplyClass::Loop),
            ("5.7.26", "550 qwertz", ReplyClass::AuthFailed),
            ("5.7.1", "554 qwertz", ReplyClass::Policy),
            ("5.0.0", "550 qwertz", ReplyClass::Other),
            ("5.0.0", "550 5.1.1 qwertz", ReplyClass::UnknownRecipient),
            ("-", "550-#5.2.2 qwertz", ReplyClass::MailboxFull),
            ("5.1.10", "550 qwertz", ReplyClass::UnknownRecipient),
            ("5.1.10", "556 qwertz", ReplyClass::Dns),
            ("4.4.5", "451 qwertz", ReplyClass::LocalError),
            ("5.7.8", "535 qwertz", ReplyClass::AuthFailed),
            ("-", "552 qwertz", ReplyClass::TooLarge),
            ("-", "421 qwertz", ReplyClass::LocalError),
            ("-", "535 qwertz", ReplyClass::AuthFailed),
            ("-", "571 qwertz", ReplyClass::Policy),
            ("-", "550 qwertz", ReplyClass::Other),
            ("4.3.0", "qwertz", ReplyClass::LocalError),
            ("-", "qwertz", ReplyClass::Other),
        ];
        for (dsn, reply, class) in table {
            assert_eq!(judge(&replies, dsn, reply).class, class, "{dsn} {reply}");
        }
    }
}
