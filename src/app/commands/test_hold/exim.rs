//! The ways into an Exim that need no password, and its queue: sendmail(1), also with SMTP on its standard input, and the
//! ports of its daemon on this host.

use super::queue::{self, Queued};
use super::ways::{How, Way, port_of};
use crate::host::{exec, listing, servers};
use crate::mta::exim::plan;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);

/// # Errors
/// What keeps Exim from telling them.
pub fn of(program: &str) -> Result<Vec<Way>, String> {
    let queue = queue::Queue::Exim(Queue { program: program.to_owned() });
    let way = |name: String, how| Way { name: format!("exim {name}"), how, queue: queue.clone() };
    let own =
        |words: &[&str]| -> Vec<String> { [program].iter().chain(words).map(|word| (*word).to_owned()).collect() };
    let mut ways = vec![
        way("sendmail(1)".to_owned(), How::Sendmail(own(&["-i", "-f", "<>", "--"]))),
        way("sendmail(1) -bs".to_owned(), How::Conversation(own(&["-bs"]))),
    ];
    let names = ["daemon_smtp_ports", "local_interfaces", "tls_on_connect_ports"];
    let values = servers::exim_values(program, &names)?;
    let value = |name: &str| {
        let found = values.iter().find(|(known, _)| known == name);
        list(found.map_or("", |(_, value)| value.as_str()))
    };
    let (ports, wrapped) = (value("daemon_smtp_ports"), value("tls_on_connect_ports"));
    let ports: Vec<u16> = match ports.is_empty() {
        true => vec![25],
        false => ports.iter().filter_map(|word| port_of(word)).collect(),
    };
    let wrapped: Vec<u16> = wrapped.iter().filter_map(|word| port_of(word)).collect();
    for address in addresses(&value("local_interfaces"), &ports) {
        let how = match wrapped.contains(&address.port()) {
            true => How::Untried("speaks TLS from the start".to_owned()),
            false => How::Smtp(address),
        };
        ways.push(way(format!("SMTP {address}"), how));
    }
    Ok(ways)
}

/// An Exim list: separated by colons, of which two are one, or by what is named in front (specification, 6.20).
fn list(value: &str) -> Vec<String> {
    let value = value.trim();
    let mut named = value.strip_prefix('<').map(str::chars);
    let items: Vec<String> = match named.as_mut().and_then(Iterator::next) {
        Some(separator) => {
            let rest = named.map_or("", |rest| rest.as_str());
            rest.split(separator).map(str::to_owned).collect()
        }
        None => value.replace("::", "\0").split(':').map(|item| item.replace('\0', ":")).collect(),
    };
    items.iter().map(|item| item.trim().to_owned()).filter(|item| !item.is_empty()).collect()
}

/// Where its daemon is reached on this host: `address`, `address.port` or `[address]:port`; all addresses by default.
fn addresses(interfaces: &[String], ports: &[u16]) -> Vec<SocketAddr> {
    let everywhere = ["0.0.0.0".to_owned(), "::0".to_owned()];
    let interfaces = if interfaces.is_empty() { &everywhere[..] } else { interfaces };
    let mut found = Vec::new();
    for item in interfaces {
        let (host, own) = match (item.strip_prefix('[').and_then(|rest| rest.split_once("]:")), item.parse::<IpAddr>())
        {
            (Some((host, port)), _) => (host.parse().ok(), port.parse().ok()),
            (None, Ok(host)) => (Some(host), None),
            (None, Err(_)) => match item.rsplit_once('.') {
                Some((host, port)) => (host.parse().ok(), port.parse().ok()),
                None => (None, None),
            },
        };
        let Some(host) = host else { continue };
        let host = match host {
            IpAddr::V4(any) if any.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(any) if any.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
            host => host,
        };
        let ports = own.as_ref().map_or(ports, std::slice::from_ref);
        found.extend(ports.iter().map(|port| SocketAddr::new(host, *port)));
    }
    found.sort_unstable();
    found.dedup();
    found
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queue {
    program: String,
}

impl Queue {
    /// Messages with a recipient that contains this. On hold is what our rule has frozen, and says so; a message that
    /// cannot be delivered is frozen too, because there is nobody to tell.
    pub fn with(&self, words: &str) -> Result<Vec<Queued>, String> {
        let mut found = Vec::new();
        let contains = |to: &[u8]| memchr::memmem::find(to, words.as_bytes()).is_some();
        listing::exim_queue(&self.program, &mut |one| {
            if one.recipients.iter().any(|to| contains(to)) {
                found.push((one.id, one.frozen));
            }
        })?;
        let queue = |frozen: bool, id: &str| match frozen {
            true if self.is_by_rule(id) => "hold",
            true => "frozen, but not by the rule",
            false => "waiting",
        };
        let queued = |(id, frozen): (crate::mail::QueueId, bool)| {
            let id = id.to_string();
            Queued { queue: queue(frozen, &id).to_owned(), id }
        };
        Ok(found.into_iter().map(queued).collect())
    }

    /// The rule's variable is kept with the message.
    fn is_by_rule(&self, id: &str) -> bool {
        let argv = [self.program.clone(), "-Mvh".to_owned(), id.to_owned()];
        let shown = exec::run(&argv, b"", LIMIT).map(|output| output.stdout).unwrap_or_default();
        memchr::memmem::find(&shown, b"-aclm _sendwarden ").is_some()
    }

    pub fn delete_all(&self, token: &str) -> Result<(), String> {
        let mut left = Vec::new();
        for _ in 0..5 {
            left = self.with(token)?.into_iter().map(|one| one.id).collect();
            if left.is_empty() {
                return Ok(());
            }
            for ids in left.chunks(plan::BATCH) {
                let argv = [self.program.clone(), "-Mrm".to_owned()].into_iter().chain(ids.iter().cloned());
                exec::run(&argv.collect::<Vec<_>>(), b"", LIMIT).map_err(|why| why.to_string())?;
            }
        }
        Err(format!("in the queue of Exim: {}; exim -Mrm removes them", left.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_and_interfaces_are_read_as_exim_writes_them() {
        let here = |interfaces: &str, ports: &str| {
            let ports: Vec<u16> = list(ports).iter().filter_map(|word| port_of(word)).collect();
            let found = addresses(&list(interfaces), &ports);
            found.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        for (interfaces, ports, want) in [
            ("", "smtp", "127.0.0.1:25 [::1]:25"),
            ("<; ::0 ; 0.0.0.0", "25 : 587", "127.0.0.1:25 127.0.0.1:587 [::1]:25 [::1]:587"),
            ("127.0.0.1 : ::::1", "2525", "127.0.0.1:2525 [::1]:2525"),
            ("10.0.0.7.26 : [127.0.0.1]::1025", "25", "10.0.0.7:26 127.0.0.1:1025"),
            ("<; [::1]:1025 ; nonsense", "25", "[::1]:1025"),
        ] {
            assert_eq!(here(interfaces, ports), want, "{interfaces}");
        }
    }
}
