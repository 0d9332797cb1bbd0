//! The ways into an instance of Postfix that need no password: sendmail(1), and its SMTP services on this host.

use super::queue::{Postfix, Queue};
use crate::host::servers::{self, Tools};
use crate::mta::postfix::setup::{self, Away, characters};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

#[derive(Debug, Clone)]
pub struct Way {
    pub name: String,
    pub how: How,
    pub queue: Queue,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum How {
    /// Its arguments up to the recipient.
    Sendmail(Vec<String>),
    /// The same, with an SMTP conversation on its standard input.
    Conversation(Vec<String>),
    Smtp(SocketAddr),
    /// Why not.
    Untried(String),
}

/// # Errors
/// What keeps Postfix from telling them.
pub fn of(directory: &Path) -> Result<Vec<Way>, String> {
    let tools = Tools::default();
    let place = servers::postfix_place(&tools, directory)?;
    let values = servers::postfix_values(&tools, directory, true, &["sendmail_path", "inet_interfaces"])?;
    let [sendmail, interfaces] = values.as_slice() else {
        return Err(format!("postconf(1) gives no usable answer for {}", directory.display()));
    };
    let queue = Queue::Postfix(Postfix(place.clone()));
    let mut argv = vec![sendmail.clone(), "-i".to_owned(), "-f".to_owned(), "<>".to_owned()];
    if place.config != "/etc/postfix" {
        argv.extend(["-C".to_owned(), place.config.clone()]);
    }
    argv.push("--".to_owned());
    let mut ways =
        vec![Way { name: format!("{} sendmail(1)", place.name), how: How::Sendmail(argv), queue: queue.clone() }];
    let from_a_filter = filters(directory);
    let wrapped = servers::postfix_services(&tools, directory, "smtpd_tls_wrappermode").unwrap_or_default();
    let interfaces: Vec<IpAddr> = interfaces.split([' ', ',', '\t']).filter_map(|word| word.parse().ok()).collect();
    for service in servers::postfix_inet(&tools, directory)? {
        let shown = format!("{} SMTP {}", place.name, service.name);
        let untried = |why: &str| Way { name: shown.clone(), how: How::Untried(why.to_owned()), queue: queue.clone() };
        let key = format!("{}/inet", service.name);
        if !matches!(service.program.as_str(), "smtpd" | "postscreen") {
            continue;
        }
        if from_a_filter.contains(&service.name) {
            ways.push(untried("takes mail back from a content filter, unasked: let only the filter's user reach it"));
        } else if wrapped.iter().any(|(name, value)| *name == key && value == "yes") {
            ways.push(untried("speaks TLS from the start"));
        } else {
            let addresses = addresses(&service.name, &interfaces);
            if addresses.is_empty() {
                ways.push(untried("its address is not understood"));
            }
            let way = |address| Way {
                name: format!("{} SMTP {address} as {}", place.name, service.name),
                how: How::Smtp(address),
                queue: queue.clone(),
            };
            ways.extend(addresses.into_iter().map(way));
        }
    }
    Ok(ways)
}

/// Services that take mail back from a content filter.
fn filters(directory: &Path) -> Vec<String> {
    let read = |name: &str| std::fs::read(directory.join(name)).map(|bytes| characters(&bytes)).unwrap_or_default();
    let plan = setup::plan(&read("main.cf"), &read("master.cf"), Away::Accept);
    let ways = plan.map(|plan| plan.ways).unwrap_or_default();
    let from_a_filter = ways.iter().filter(|way| way.open && way.how.contains("from a filter"));
    from_a_filter.filter_map(|way| Some(way.name.split_once(' ')?.0.to_owned())).collect()
}

/// A port, by its number or its name.
pub fn port_of(word: &str) -> Option<u16> {
    match word {
        "smtp" => Some(25),
        "submission" => Some(587),
        "smtps" | "submissions" => Some(465),
        number => number.parse().ok(),
    }
}

/// Where a service of master.cf is reached: `host:port`, `[host]:port` or `port` (master(5)).
fn addresses(name: &str, interfaces: &[IpAddr]) -> Vec<SocketAddr> {
    let (host, port) = match name.rsplit_once(':') {
        Some((host, port)) => (host.trim_start_matches('[').trim_end_matches(']'), port),
        None => ("", name),
    };
    let port = port_of(port);
    let both = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    let mut hosts: Vec<IpAddr> = match host {
        "" | "*" => both.into_iter().chain(interfaces.iter().copied()).collect(),
        "localhost" => both.to_vec(),
        named => named.parse().into_iter().collect(),
    };
    hosts.sort_unstable();
    hosts.dedup();
    port.map_or_else(Vec::new, |port| hosts.into_iter().map(|host| SocketAddr::new(host, port)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_reached_where_master_says() {
        let here = |name: &str| {
            addresses(name, &["10.0.0.7".parse().unwrap()]).iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(here("smtp"), ["10.0.0.7:25", "127.0.0.1:25", "[::1]:25"]);
        assert_eq!(here("127.0.0.1:10026"), ["127.0.0.1:10026"]);
        assert_eq!(here("[::1]:submission"), ["[::1]:587"]);
        assert_eq!(here("localhost:2525"), ["127.0.0.1:2525", "[::1]:2525"]);
        assert_eq!((here("elsewhere.test:25").len(), here("smtp-odd").len()), (0, 0));
    }
}
