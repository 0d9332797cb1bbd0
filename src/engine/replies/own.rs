//! Whether a text names an address of this host, in any of the ways receivers write one.
//!
//! Exact: 192.0.2.5 is not in `192.0.2.50`, nor in `10.192.0.2.5`. In brackets, behind `ip=`, in links (`%3A` for a
//! colon too), `IPv6:` before it, in every spelling of an IPv6 address. The addresses are passed in; it never asks the
//! machine. See [`OwnAddresses::named_in`].

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The addresses of this host that others can see.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OwnAddresses {
    /// Sorted.
    known: Vec<IpAddr>,
}

/// Most addresses remembered: a host with more names them by network, and receivers do not.
const MOST: usize = 65_536;
/// The longest written address: eight groups of four, or six and a dotted quad.
const LONGEST: usize = 45;

impl OwnAddresses {
    /// Loopback and link-local addresses are everybody's, and left out.
    pub fn new(addresses: impl IntoIterator<Item = IpAddr>) -> OwnAddresses {
        let seen = addresses.into_iter().map(|address| address.to_canonical()).filter(is_visible);
        let mut known: Vec<IpAddr> = seen.take(MOST).collect();
        known.sort_unstable();
        known.dedup();
        OwnAddresses { known }
    }

    pub fn len(&self) -> usize {
        self.known.len()
    }

    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// The first address of this host that `text` names.
    pub fn named_in(&self, text: &[u8]) -> Option<IpAddr> {
        if self.known.is_empty() {
            return None;
        }
        let text = decoded(text);
        let mut at = 0;
        while let Some(rest) = text.get(at..) {
            let skip = rest.iter().take_while(|byte| !is_part(**byte)).count();
            let run = rest.get(skip..).unwrap_or_default();
            let length = run.iter().take_while(|byte| is_part(**byte)).count();
            if length == 0 {
                return None;
            }
            let from = at + skip;
            at = from + length;
            let before = from.checked_sub(1).and_then(|before| text.get(before)).copied();
            let after = text.get(at).copied();
            let found = address(run.get(..length).unwrap_or_default(), before, after);
            if let Some(found) = found.filter(|found| self.known.binary_search(found).is_ok()) {
                return Some(found);
            }
        }
        None
    }
}

fn is_visible(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !(v4.is_loopback() || v4.is_unspecified() || v4.is_link_local()),
        IpAddr::V6(v6) => !(v6.is_loopback() || v6.is_unspecified() || v6.is_unicast_link_local()),
    }
}

/// What an address is written with.
fn is_part(byte: u8) -> bool {
    byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.')
}

/// The address that a run of such bytes is, if it is one; `before` and `after` are its neighbours.
fn address(run: &[u8], before: Option<u8>, after: Option<u8>) -> Option<IpAddr> {
    if after.is_some_and(|byte| byte.is_ascii_alphanumeric()) {
        return None;
    }
    let run = std::str::from_utf8(run).ok()?;
    // The end of a word and a colon before it (`IPv6:2001:…`, `client:192.0.2.5`).
    let run = match before.filter(u8::is_ascii_alphanumeric) {
        Some(_) => run.split_once(':')?.1,
        None => run,
    };
    // A single colon before it, and what ends a sentence behind it.
    let run = if run.starts_with("::") { run } else { run.strip_prefix(':').unwrap_or(run) };
    let run = run.trim_end_matches('.');
    let run = if run.ends_with("::") { run } else { run.strip_suffix(':').unwrap_or(run) };
    if run.len() > LONGEST {
        return None;
    }
    if let Some((v4, port)) = run.split_once(':')
        && !port.contains(':')
    {
        // 192.0.2.5:25
        return v4.parse().ok().map(IpAddr::V4);
    }
    if run.contains(':') {
        return run.parse::<Ipv6Addr>().ok().map(|v6| IpAddr::V6(v6).to_canonical());
    }
    run.parse::<Ipv4Addr>().ok().map(IpAddr::V4)
}

/// Links write some bytes as `%3A`.
fn decoded(text: &[u8]) -> Cow<'_, [u8]> {
    if memchr::memchr(b'%', text).is_none() {
        return Cow::Borrowed(text);
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|n| u8::try_from(n).ok());
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, after @ ..] = rest {
        rest = after;
        if let (b'%', [high, low, after @ ..]) = (*first, after)
            && let (Some(high), Some(low)) = (digit(*high), digit(*low))
        {
            out.push(high * 16 + low);
            rest = after;
        } else {
            out.push(*first);
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn own(addresses: &[&str]) -> OwnAddresses {
        OwnAddresses::new(addresses.iter().map(|address| address.parse().unwrap()))
    }

    #[test]
    fn addresses_are_found_as_receivers_write_them_and_only_whole() {
        let ours = own(&["1.2.3.4", "2001:db8::25", "::ffff:9.9.9.9", "127.0.0.1", "fe80::1"]);
        for text in [
            "1.2.3.4",
            "Client host [1.2.3.4] blocked",
            "see https://www.spamhaus.org/query/ip/1.2.3.4",
            "http://www.spamhaus.org/query/bl?ip=1.2.3.4.",
            "(1.2.3.4), sorry",
            "from 1.2.3.4:48132",
            "IP:1.2.3.4",
            "ip%3D1.2.3.4%26x",
            "[IPv6:2001:db8::25]",
            "2001:0db8:0000:0000:0000:0000:0000:0025",
            "2001:DB8::25,",
            "check.spamhaus.org/listed/?searchterm=2001:db8::25",
            "searchterm=2001%3Adb8%3A%3A25",
            "client:2001:db8::25",
            "::ffff:1.2.3.4",
            "9.9.9.9",
        ] {
            assert!(ours.named_in(text.as_bytes()).is_some(), "{text}");
        }
        for text in [
            "11.2.3.40",
            "1.2.3.40",
            "11.2.3.4",
            "1.2.3.4.5",
            "0.1.2.3.4",
            "1.2.3.4a",
            "v1.2.3.4",
            "5.7.1",
            "2001:db8::250",
            "12001:db8::25",
            "2001:db8::2:25",
            "127.0.0.1",
            "fe80::1",
            "",
            "::",
            ":",
            "...",
        ] {
            assert_eq!(ours.named_in(text.as_bytes()), None, "{text}");
        }
        assert_eq!(own(&[]).named_in(b"1.2.3.4"), None);
        let found = ours.named_in(b"9.9.9.8 and 2001:db8::25 and 1.2.3.4");
        assert_eq!(found, Some("2001:db8::25".parse().unwrap()));
    }

    /// Any address between any other words is found exactly when it is ours. The oracle writes; it does not read.
    #[test]
    fn exactly_our_addresses_are_found() {
        let words = ("( |\\[|=|/|ip:|IPv6:|\\(|%3D)", "(|\\]|\\)|/|,|;|\\.|:25|%26)");
        let made = (any::<[u8; 4]>(), any::<[u8; 4]>(), any::<[u16; 8]>(), words, 0..5usize);
        let met = std::cell::RefCell::new([0u32; 5]);
        let config = ProptestConfig::with_cases(10_000);
        let outcome = proptest::test_runner::TestRunner::new(config).run(&made, |(mine, other, six, words, which)| {
            let (mine, other, six) = (Ipv4Addr::from(mine), Ipv4Addr::from(other), Ipv6Addr::from(six));
            let (before, after) = words;
            let ours = OwnAddresses::new([IpAddr::V4(mine), IpAddr::V6(six)]);
            // A port behind an IPv6 address without brackets would be part of it.
            let after6 = if after == ":25" { "" } else { &after };
            let (text, wanted) = match which {
                0 => (format!("x{before}{mine}{after} z"), IpAddr::V4(mine)),
                1 => (format!("x{before}{six}{after6} z"), IpAddr::V6(six)),
                2 => (format!("x{before}{other}{after} z"), IpAddr::V4(other)),
                3 => (format!("x{before}{mine}0{after} z"), IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
                _ => (format!("x{before}1.{mine}{after} z"), IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
            };
            met.borrow_mut()[which] += 1;
            let known = ours.known.contains(&wanted.to_canonical());
            prop_assert_eq!(ours.named_in(text.as_bytes()).is_some(), known, "{}", text);
            Ok(())
        });
        outcome.unwrap();
        let met = met.into_inner();
        println!(
            "ours {}, ours in IPv6 {}, another {}, one digit more {}, one part more {}",
            met[0], met[1], met[2], met[3], met[4]
        );
        assert!(met.iter().all(|n| *n > 0), "{met:?}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]

        #[test]
        fn any_bytes_are_read(text: Vec<u8>) {
            let _ = own(&["1.2.3.4"]).named_in(&text);
        }
    }
}
