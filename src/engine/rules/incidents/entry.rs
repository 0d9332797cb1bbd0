//! Failures as they are looked at together: whose, where and why.

use super::{Trouble, WINDOW_SECS};
use crate::engine::rules::PROVEN;
use crate::engine::rules::slots::Way;
use crate::mail::{Owner, ReplyClass, text};
use std::net::IpAddr;
use std::sync::Arc;

/// Failures of one account that differ in nothing else are one entry, in each such part of time.
const MERGE_SECS: u32 = 60;
const LONGEST_NAME: usize = 80;

/// A recipient that was refused or put off, elsewhere.
#[derive(Debug, Clone, Copy)]
pub struct Failure<'a> {
    pub domain: &'a [u8],
    /// The host that said so, as logged.
    pub relay: &'a [u8],
    pub class: ReplyClass,
    pub own_address: Option<IpAddr>,
    /// It is tried again.
    pub deferred: bool,
    /// Nothing was known of it before: a retry tells nothing new.
    pub first: bool,
}

/// As what rules count it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine::rules) struct Counted {
    pub owner: Owner,
    /// What is proven of the account, or what is claimed.
    pub part: u64,
    pub way: Way,
    /// That of a login, or [`PROVEN`].
    pub login: u64,
}

/// Failures of an account that are alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::engine::rules) struct Entry {
    pub counted: Counted,
    pub class: ReplyClass,
    pub deferred: bool,
    /// The host that said so, and the recipients' domain where that is another.
    pub receivers: [Option<Arc<str>>; 2],
    pub own_address: Option<IpAddr>,
    /// It counts against nobody already.
    pub due: bool,
    pub from: u32,
    pub to: u32,
    pub n: u32,
    /// What of the account had ended before.
    pub ended: u64,
}

impl Entry {
    pub fn new(failure: &Failure<'_>, counted: Counted, at: u32, ended: u64) -> Entry {
        let [relay, domain] = [registered(failure.relay), clean(failure.domain)];
        let domain = domain.filter(|domain| relay.as_ref() != Some(domain));
        Entry {
            counted,
            class: failure.class,
            deferred: failure.deferred,
            receivers: [relay, domain],
            own_address: failure.own_address,
            due: false,
            from: at,
            to: at,
            n: 1,
            ended,
        }
    }

    /// What may be the reason, the widest receiver first.
    pub fn troubles(&self) -> impl Iterator<Item = Trouble> {
        let others = self.own_address.is_none();
        let receivers = self.receivers.iter().flatten().filter(move |_| others).cloned().map(Trouble::Receiver);
        let class = others.then_some(Trouble::Class(self.class));
        self.own_address.map(Trouble::OwnAddress).into_iter().chain(receivers).chain(class)
    }

    pub fn has(&self, trouble: &Trouble) -> bool {
        match trouble {
            Trouble::OwnAddress(_) => self.own_address.map(Trouble::OwnAddress).as_ref() == Some(trouble),
            _ if self.own_address.is_some() => false,
            Trouble::Receiver(name) => self.receivers.iter().flatten().any(|one| one == name),
            Trouble::Class(class) => self.class == *class,
        }
    }

    pub fn is_like(&self, new: &Entry) -> bool {
        (self.counted, self.class, self.deferred, self.due) == (new.counted, new.class, new.deferred, new.due)
            && (&self.receivers, self.own_address) == (&new.receivers, new.own_address)
            && new.to / MERGE_SECS == self.from / MERGE_SECS
    }

    pub fn lives(&self, now: u32) -> bool {
        self.to.saturating_add(WINDOW_SECS) > now
    }

    pub fn is_proven(&self) -> bool {
        self.counted.part == PROVEN
    }
}

fn clean(name: &[u8]) -> Option<Arc<str>> {
    let name = text::clean(&name.to_ascii_lowercase(), LONGEST_NAME);
    (!name.is_empty()).then(|| name.into())
}

/// The domain that a host is in: two labels, or three where the last two look like a country's `co.uk`.
fn registered(relay: &[u8]) -> Option<Arc<str>> {
    let end = relay.iter().position(|byte| matches!(byte, b'[' | b':' | b' ')).unwrap_or(relay.len());
    let host = clean(relay.get(..end)?)?;
    if host.parse::<IpAddr>().is_ok() || !host.contains('.') {
        return None;
    }
    let labels: Vec<&str> = host.trim_end_matches('.').rsplit('.').collect();
    let most = match labels.as_slice() {
        [country, second, ..] if country.len() == 2 && second.len() <= 3 => 3,
        _ => 2,
    };
    let mut kept: Vec<&str> = labels.into_iter().take(most).collect();
    kept.reverse();
    Some(kept.join(".").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_in_a_domain() {
        for (relay, domain) in [
            ("mx1.google.com[192.0.2.1]:25", Some("google.com")),
            ("gmail-smtp-in.l.google.com", Some("google.com")),
            ("MX.Orange.FR [192.0.2.1]", Some("orange.fr")),
            ("mx.mail.co.uk[2001:db8::1]:25", Some("mail.co.uk")),
            ("192.0.2.1[192.0.2.1]:25", None),
            ("none", None),
            ("local", None),
            ("", None),
        ] {
            assert_eq!(registered(relay.as_bytes()).as_deref(), domain, "{relay}");
        }
    }
}
