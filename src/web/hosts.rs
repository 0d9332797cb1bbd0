//! For which names a listener answers. A page on the internet can give its own name an address of this host (DNS
//! rebinding), and then read what is served there: it cannot help sending that name as `Host`.
//!
//! An address as `Host` cannot be such a page's. It resolves nothing.

use std::net::IpAddr;

use axum::http::{HeaderMap, StatusCode, Uri, Version, header};

use super::Settings;
use super::reply::Failure;

/// Whether a request to a listener on `at` may be answered.
pub(super) fn check(
    settings: &Settings,
    at: IpAddr,
    version: Version,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<(), Failure> {
    let mut named = headers.get_all(header::HOST).iter();
    let (host, second) = (named.next(), named.next());
    if second.is_some() || (host.is_none() && version >= Version::HTTP_11) {
        return Err(Failure::new(StatusCode::BAD_REQUEST, "bad_request", "A request needs one Host header."));
    }
    // A request for a whole URL names a host there too.
    let names =
        host.map(|host| host.as_bytes()).into_iter().chain(uri.authority().map(|host| host.as_str().as_bytes()));
    for host in names {
        let host = String::from_utf8_lossy(host);
        if !is_ours(settings, at, &host) {
            let shown: String = host.chars().filter(|c| !c.is_control()).take(128).collect();
            return Err(Failure::new(
                StatusCode::MISDIRECTED_REQUEST,
                "unknown_host",
                format!(
                    "sendwarden does not answer for the host {shown}. If it is reached by that name, list the name \
                     under web.hosts in its configuration."
                ),
            ));
        }
    }
    Ok(())
}

fn is_ours(settings: &Settings, at: IpAddr, host: &str) -> bool {
    let name = without_port(host).to_ascii_lowercase();
    let name = name.strip_suffix('.').unwrap_or(&name);
    if name == "localhost" || settings.hosts.iter().any(|listed| listed == name) {
        return true;
    }
    let literal = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    match literal.parse::<IpAddr>().map(|address| address.to_canonical()) {
        Ok(address) => address.is_loopback() || !at.is_loopback(),
        Err(_) => !at.is_loopback() && settings.own_names.iter().any(|own| own == name),
    }
}

/// `example.org:80` and `[::1]:80` without their ports. What is no port stays, and fits no name.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port))
            if port.bytes().all(|b| b.is_ascii_digit()) && (!name.contains(':') || name.ends_with(']')) =>
        {
            name
        }
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        let own_names = vec!["mx1.hosting.example".to_owned(), "mx1".to_owned()];
        Settings { hosts: vec!["figures.example".into()], own_names, ..Settings::default() }
    }

    #[test]
    fn on_loopback_only_loopback_and_listed_names() {
        for at in ["127.0.0.1", "::1"] {
            let at = at.parse().unwrap();
            for (host, ours) in [
                ("localhost", true),
                ("LOCALHOST:1", true),
                ("localhost.:10925", true),
                ("127.0.0.1:10925", true),
                ("127.8.0.1", true),
                ("[::1]:10925", true),
                ("[::1]", true),
                ("[::ffff:127.0.0.1]:1", true),
                ("Figures.Example:10925", true),
                ("192.0.2.1", false),
                ("[2001:db8::1]:1", false),
                ("mx1.hosting.example", false),
                ("attacker.example", false),
                ("attacker.example:10925", false),
                ("localhost.attacker.example", false),
                ("127.0.0.1.attacker.example", false),
                ("attacker.example@127.0.0.1", false),
                ("localhost:1:2", false),
                ("localhost:x", false),
                ("", false),
            ] {
                assert_eq!(is_ours(&settings(), at, host), ours, "{host} at {at}");
            }
        }
    }

    #[test]
    fn elsewhere_any_address_the_own_name_and_listed_names() {
        for at in ["0.0.0.0", "::", "192.0.2.1"] {
            let at = at.parse().unwrap();
            for (host, ours) in [
                ("192.0.2.1:10925", true),
                ("203.0.113.7", true),
                ("[2001:db8::1]:10925", true),
                ("mx1.hosting.example:10925", true),
                ("MX1", true),
                ("localhost:10925", true),
                ("figures.example", true),
                ("attacker.example", false),
                ("mx1.hosting.example.attacker.example", false),
            ] {
                assert_eq!(is_ours(&settings(), at, host), ours, "{host} at {at}");
            }
        }
    }

    #[test]
    fn one_host_of_a_request_and_of_a_whole_url() {
        let at = "127.0.0.1".parse().unwrap();
        let asked = |version, uri: &str, hosts: &[&str]| {
            let mut headers = HeaderMap::new();
            for host in hosts {
                headers.append(header::HOST, host.parse().unwrap());
            }
            check(&settings(), at, version, &uri.parse().unwrap(), &headers).map_err(|failure| failure.status.as_u16())
        };
        assert_eq!(asked(Version::HTTP_10, "/", &[]), Ok(()));
        assert_eq!(asked(Version::HTTP_11, "/", &[]), Err(400));
        assert_eq!(asked(Version::HTTP_11, "/", &["localhost", "attacker.example"]), Err(400));
        assert_eq!(asked(Version::HTTP_10, "/", &["attacker.example"]), Err(421));
        assert_eq!(asked(Version::HTTP_11, "http://attacker.example/", &["localhost"]), Err(421));
        assert_eq!(asked(Version::HTTP_11, "http://localhost:1/", &["localhost"]), Ok(()));
    }
}
