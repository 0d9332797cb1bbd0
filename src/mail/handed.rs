//! Who handed a message in: as the log says it, or as the message's own queue file does.
//!
//! The log is written by whoever may write into it, the file by the mail server alone: where they differ, the file is right.

use super::{address, text};
use core::net::IpAddr;
use serde::{Deserialize, Serialize};

/// Most bytes that are kept of a login or a domain.
const MOST: usize = 256;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HandedBy {
    /// Authenticated as.
    Login(String),
    /// A local process of this user, without SMTP.
    Uid(u32),
    /// SMTP without a login, from this address, where one is told; the domain of the envelope sender.
    Client { address: Option<IpAddr>, domain: String },
    /// The mail system itself, for an administrator: it was in the queue before, under another id.
    Requeued,
}

impl HandedBy {
    pub fn login(login: &[u8]) -> HandedBy {
        HandedBy::Login(text::clean(login, MOST))
    }

    pub fn client(address: Option<IpAddr>, sender: &[u8]) -> HandedBy {
        HandedBy::Client { address, domain: text::clean(address::domain(sender), MOST).to_ascii_lowercase() }
    }

    /// What a log says is what the queue file says. With XFORWARD the log names another client than the file does.
    pub fn agrees(&self, file: &HandedBy) -> bool {
        match (self, file) {
            (HandedBy::Uid(told), HandedBy::Uid(file)) => told == file,
            (HandedBy::Login(told), HandedBy::Login(file)) => plain(told) == plain(file),
            (HandedBy::Client { .. }, HandedBy::Client { .. }) | (HandedBy::Requeued, HandedBy::Requeued) => true,
            _ => false,
        }
    }
}

/// In lower case, and with one `?` for all that a log may not show as it is.
fn plain(login: &str) -> String {
    let mut plain = String::with_capacity(login.len());
    for c in login.chars() {
        match c {
            ' '..='~' if c != '?' => plain.push(c.to_ascii_lowercase()),
            _ if plain.ends_with('?') => {}
            _ => plain.push('?'),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_and_the_file_agree_on_the_same_hand_only() {
        let login = |text: &str| HandedBy::login(text.as_bytes());
        let client = |address: &str| HandedBy::client(address.parse().ok(), b"a@B.test");
        for (log, file, agree) in [
            (HandedBy::Uid(2_001), HandedBy::Uid(2_001), true),
            (HandedBy::Uid(2_001), HandedBy::Uid(2_002), false),
            (login("Box@Shop.test"), login("box@shop.test"), true),
            (login("b?x@shop.test"), login("b\u{f6}x@shop.test"), true),
            (login("box@shop.test"), login("box@blog.test"), false),
            (client("192.0.2.7"), client("127.0.0.1"), true),
            (HandedBy::Requeued, HandedBy::Requeued, true),
            (HandedBy::Uid(2_001), HandedBy::Requeued, false),
            (HandedBy::Uid(2_001), login("2001"), false),
            (login("box@shop.test"), client("127.0.0.1"), false),
            (client("127.0.0.1"), HandedBy::Uid(2_001), false),
        ] {
            assert_eq!(log.agrees(&file), agree, "{log:?} {file:?}");
        }
        assert_eq!(client("::1"), HandedBy::Client { address: "::1".parse().ok(), domain: "b.test".to_owned() });
    }
}
