//! The addresses of this host, as the kernel lists them. It asks nobody, and opens no socket.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

/// Every address of every interface, loopback included; empty where the kernel does not show them.
pub fn of_host() -> Vec<IpAddr> {
    listed_in(Path::new("/proc/self/net"))
}

fn listed_in(net: &Path) -> Vec<IpAddr> {
    let read = |name: &str| std::fs::read_to_string(net.join(name)).unwrap_or_default();
    let mut addresses: Vec<IpAddr> = v4(&read("fib_trie")).map(IpAddr::V4).collect();
    addresses.extend(v6(&read("if_inet6")).map(IpAddr::V6));
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

/// `|-- 192.0.2.25`, and below it `/32 host LOCAL` when the address is ours.
fn v4(fib_trie: &str) -> impl Iterator<Item = Ipv4Addr> {
    let mut last = None;
    fib_trie.lines().filter_map(move |line| {
        let line = line.trim();
        if let Some(address) = line.strip_prefix("|-- ") {
            last = address.parse().ok();
            return None;
        }
        last.filter(|_| line == "/32 host LOCAL")
    })
}

/// `20010db8000000000000000000000025 02 40 00 80     eth0`
fn v6(if_inet6: &str) -> impl Iterator<Item = Ipv6Addr> {
    if_inet6.lines().filter_map(|line| {
        let digits = line.split(' ').next().filter(|digits| digits.len() == 32)?;
        u128::from_str_radix(digits, 16).ok().map(Ipv6Addr::from)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_from_the_kernels_lists() {
        let dir = tempfile::tempdir().unwrap();
        assert!(listed_in(dir.path()).is_empty());
        let trie = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n     +-- 192.0.2.0/24 2 0 2\n        \
                    |-- 192.0.2.0\n           /24 link UNICAST\n        |-- 192.0.2.25\n           /32 host LOCAL\nLocal:\n     \
                    |-- 127.0.0.1\n        /32 host LOCAL\n     |-- 192.0.2.25\n           /32 host LOCAL\n     |-- 192.0.2.255\n           /32 link BROADCAST\n";
        std::fs::write(dir.path().join("fib_trie"), trie).unwrap();
        let inet6 = "00000000000000000000000000000001 01 80 10 80       lo\n20010db8000000000000000000000025 02 40 00 80     eth0\nshort\n";
        std::fs::write(dir.path().join("if_inet6"), inet6).unwrap();
        let found: Vec<String> = listed_in(dir.path()).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["127.0.0.1", "192.0.2.25", "::1", "2001:db8::25"]);
    }

    #[test]
    fn this_host_has_a_loopback_address() {
        assert!(of_host().contains(&IpAddr::V4(Ipv4Addr::LOCALHOST)));
    }
}
