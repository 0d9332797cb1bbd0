//! A hook: where notices go, which ones, and how they are signed. Plain data that never shows what is secret in it.
//!
//! The path of an address is a secret too: many receivers take a token there. It is sent, and neither logged nor shown.

use super::notice::Event;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

/// One receiver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    pub target: Target,
    /// `None`: notices are not signed.
    pub secret: Option<Secret>,
    pub events: Vec<Event>,
    /// For a whole try, from the name's lookup to the answer.
    pub timeout: Duration,
}

/// The shortest secret that is taken, in bytes.
pub const SHORTEST: usize = 16;

/// What notices are signed with.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<str>);

impl Secret {
    /// `None`: it is too short to be one.
    pub fn new(text: &str) -> Option<Secret> {
        (text.len() >= SHORTEST).then(|| Secret(text.into()))
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// The address of a receiver.
#[derive(Clone, PartialEq, Eq)]
pub struct Target {
    pub tls: bool,
    /// In lower case, an IPv6 address without its brackets.
    host: Box<str>,
    pub port: u16,
    /// As it stands in the address: for `Host`.
    authority: Box<str>,
    /// Path and query: secret.
    path: Box<str>,
}

/// Why an address is none of a receiver. It never repeats the address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadTarget {
    Unreadable,
    Scheme,
    User,
}

impl BadTarget {
    pub const fn why(self) -> &'static str {
        match self {
            BadTarget::Unreadable => "this is not the address of a receiver",
            BadTarget::Scheme => "this address begins with neither https:// nor http://",
            BadTarget::User => "this address has a user or a password before the host, which is not sent",
        }
    }
}

impl Target {
    pub fn parse(text: &str) -> Result<Target, BadTarget> {
        let rest = ["https://", "http://"].iter().find_map(|scheme| text.strip_prefix(scheme));
        let Some(rest) = rest else { return Err(BadTarget::Scheme) };
        let uri: hyper::Uri = text.parse().map_err(|_| BadTarget::Unreadable)?;
        let authority = uri.authority().ok_or(BadTarget::Unreadable)?;
        if authority.as_str().contains('@') || rest.split('/').next().is_some_and(|head| head.contains('@')) {
            return Err(BadTarget::User);
        }
        let tls = text.starts_with("https://");
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        // `host:` and `host:99999` have no port that could be read, and mean nothing.
        let named = authority.port_u16();
        let shown =
            authority.as_str().rsplit_once(':').is_some_and(|(before, _)| before.len() == authority.host().len());
        if host.is_empty() || (shown && named.is_none_or(|port| port == 0)) {
            return Err(BadTarget::Unreadable);
        }
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        // What has a query and no path means the root.
        let path = if path.starts_with('?') { format!("/{path}") } else { path.to_owned() };
        Ok(Target {
            tls,
            host: host.into(),
            port: named.unwrap_or(if tls { 443 } else { 80 }),
            authority: authority.as_str().into(),
            path: path.into(),
        })
    }

    /// The name or address of the host: what metrics and people are shown.
    pub fn host(&self) -> &str {
        &self.host
    }

    pub(super) fn authority(&self) -> &str {
        &self.authority
    }

    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// Everything, to tell hooks apart.
    pub(super) fn whole(&self) -> String {
        format!("{}://{}:{}{}", self.scheme(), self.host, self.port, self.path)
    }

    const fn scheme(&self) -> &'static str {
        if self.tls { "https" } else { "http" }
    }

    /// What is sent to it can be read on the way: not encrypted, and farther than this host and its private networks, as far as
    /// the address tells.
    pub fn is_open(&self) -> bool {
        if self.tls {
            return false;
        }
        match self.host.parse::<IpAddr>().map(|address| address.to_canonical()) {
            Ok(IpAddr::V4(v4)) => !(v4.is_loopback() || v4.is_private() || v4.is_link_local()),
            Ok(IpAddr::V6(v6)) => !(v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local()),
            Err(_) => &*self.host != "localhost",
        }
    }
}

/// Scheme and host.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme(), self.authority)
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({self}/…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_shown_without_what_is_secret() {
        for (text, tls, host, port, path, shown) in [
            ("https://Hooks.Test/T0/x?y=1", true, "hooks.test", 443, "/T0/x?y=1", "https://Hooks.Test"),
            ("http://127.0.0.1:8080", false, "127.0.0.1", 8080, "/", "http://127.0.0.1:8080"),
            ("http://[::1]:81/a", false, "::1", 81, "/a", "http://[::1]:81"),
            ("https://[2001:db8::1]/", true, "2001:db8::1", 443, "/", "https://[2001:db8::1]"),
            ("http://a.test?q=1", false, "a.test", 80, "/?q=1", "http://a.test"),
        ] {
            let target = Target::parse(text).unwrap();
            assert_eq!((target.tls, target.host(), target.port, target.path()), (tls, host, port, path), "{text}");
            assert_eq!(target.to_string(), shown);
            assert_eq!(format!("{target:?}"), format!("Target({shown}/…)"));
        }
        let hook = Hook {
            target: Target::parse("https://a.test/token-in-path").unwrap(),
            secret: Secret::new("0123456789abcdef"),
            events: Event::ALL.to_vec(),
            timeout: Duration::from_secs(5),
        };
        let shown = format!("{hook:?}");
        assert!(!shown.contains("token-in-path") && !shown.contains("0123456789abcdef"), "{shown}");
        assert_eq!(Secret::new("0123456789abcde"), None);
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for (text, why) in [
            ("", BadTarget::Scheme),
            ("hooks.test/x", BadTarget::Scheme),
            ("ftp://hooks.test/", BadTarget::Scheme),
            ("HTTPS://hooks.test/", BadTarget::Scheme),
            ("https://", BadTarget::Unreadable),
            ("https:///x", BadTarget::Unreadable),
            ("https://a b/", BadTarget::Unreadable),
            ("https://a.test:/", BadTarget::Unreadable),
            ("https://a.test:0/", BadTarget::Unreadable),
            ("https://a.test:99999/", BadTarget::Unreadable),
            ("https://a.test/\r\nX: y", BadTarget::Unreadable),
            ("https://me:word@a.test/", BadTarget::User),
        ] {
            assert_eq!(Target::parse(text), Err(why), "{text}");
        }
        assert!(Target::parse("https://a.test/me@home").is_ok(), "behind the host it is no user");
    }

    #[test]
    fn only_what_leaves_private_networks_unencrypted_is_open() {
        for open in ["http://a.test/", "http://192.0.2.1/", "http://[2001:db8::1]/", "http://172.32.0.1/"] {
            assert!(Target::parse(open).unwrap().is_open(), "{open}");
        }
        for closed in [
            "https://a.test/",
            "http://localhost/",
            "http://127.0.0.2/",
            "http://10.1.2.3/",
            "http://172.16.0.1/",
            "http://192.168.1.1/",
            "http://[::1]/",
            "http://[fd00::1]/",
            "http://[::ffff:10.0.0.1]/",
        ] {
            assert!(!Target::parse(closed).unwrap().is_open(), "{closed}");
        }
    }
}
