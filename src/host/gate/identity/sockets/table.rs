//! The kernel's tables of TCP sockets as text (Documentation/networking/proc_net_tcp.rst): read whole each time, which
//! takes some milliseconds per thousand connections. For where the kernel may not be asked.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use super::{End, Ends, Socket};

/// Most that is read of a table: 400,000 connections.
const MOST: u64 = 64 << 20;

/// Those with this client's address and port at either end.
pub fn ends(client: End) -> Ends {
    ends_in(Path::new("/proc/self/net"), client)
}

fn ends_in(net: &Path, client: End) -> Ends {
    let mut ends = Ends::default();
    // A client of IPv4 may have a socket of IPv6, with a mapped address.
    let tables: &[&str] = if client.0.is_ipv4() { &["tcp", "tcp6"] } else { &["tcp6"] };
    for table in tables {
        if let Ok(file) = File::open(net.join(table)) {
            each(file, |socket| ends.add(client, socket));
        }
    }
    ends
}

fn each(table: File, mut found: impl FnMut(Socket)) {
    let mut rows = BufReader::with_capacity(64 * 1024, table.take(MOST));
    let mut row = Vec::new();
    while matches!(rows.read_until(b'\n', &mut row), Ok(1..)) {
        if let Some(socket) = std::str::from_utf8(&row).ok().and_then(read) {
            found(socket);
        }
        row.clear();
    }
}

/// `0: 0100007F:AE22 0100007F:0019 01 00000000:00000000 00:00000000 00000000 2001 0 550 …`. `None` also for what no
/// process holds any more: it has no inode, and then mostly the uid 0 of nobody.
fn read(row: &str) -> Option<Socket> {
    let mut fields = row.split_ascii_whitespace().skip(1);
    let (local, remote) = (end(fields.next()?)?, end(fields.next()?)?);
    let uid = fields.nth(4)?.parse().ok()?;
    let inode: u64 = fields.nth(1)?.parse().ok()?;
    (inode != 0 || uid != 0).then_some(Socket { local, remote, uid })
}

/// `0100007F:AE22`: the address in 32-bit words of this machine's byte order, the port as a number.
fn end(text: &str) -> Option<End> {
    let (address, port) = text.split_once(':')?;
    let word = |at: usize| Some(u32::from_str_radix(address.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    let address = match address.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let mut bytes = [0; 16];
            for (at, to) in (0..32).step_by(8).zip(bytes.chunks_exact_mut(4)) {
                to.copy_from_slice(&word(at)?);
            }
            IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical()
        }
        _ => return None,
    };
    Some((address, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::super::Why;
    use super::*;

    const HEAD: &str =
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";

    fn row(local: &str, remote: &str, state: &str, uid: u32, inode: u64) -> String {
        format!(
            "   1: {local} {remote} {state} 00000000:00000000 00:00000000 00000000  {uid}        0 {inode} 1 0000 20 4 30 10 -1\n"
        )
    }

    /// Ends as this machine writes them.
    fn v4(address: [u8; 4], port: u16) -> String {
        format!("{:08X}:{port:04X}", u32::from_ne_bytes(address))
    }

    fn v6(address: &str, port: u16) -> String {
        let bytes = address.parse::<Ipv6Addr>().unwrap().octets();
        let words = bytes.chunks(4).map(|word| format!("{:08X}", u32::from_ne_bytes(word.try_into().unwrap())));
        format!("{}:{port:04X}", words.collect::<String>())
    }

    fn asked(tcp: &str, tcp6: &str, client: (&str, u16)) -> Result<u32, Why> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("tcp"), format!("{HEAD}{tcp}")).unwrap();
        std::fs::write(dir.path().join("tcp6"), format!("{HEAD}{tcp6}")).unwrap();
        ends_in(dir.path(), (client.0.parse().unwrap(), client.1)).owner(Some(102))
    }

    const LO: [u8; 4] = [127, 0, 0, 1];

    #[test]
    fn the_clients_end_is_found_in_either_table() {
        let tcp = row(&v4(LO, 40_000), &v4(LO, 25), "01", 2001, 7) + &row(&v4(LO, 25), &v4(LO, 40_000), "01", 102, 8);
        assert_eq!(asked(&tcp, "", ("127.0.0.1", 40_000)), Ok(2001));
        assert_eq!(asked(&tcp, "", ("127.0.0.2", 40_000)), Err(Why::NoSocket), "another address");
        assert_eq!(asked(&tcp, "", ("127.0.0.1", 40_001)), Err(Why::NoSocket), "another port");
        let mapped = row(&v6("::ffff:127.0.0.1", 40_000), &v6("::ffff:127.0.0.1", 25), "01", 2002, 7);
        assert_eq!(asked("", &mapped, ("127.0.0.1", 40_000)), Ok(2002));
        let six = row(&v6("::1", 40_000), &v6("::1", 25), "01", 2003, 7);
        assert_eq!(asked(&tcp, &six, ("::1", 40_000)), Ok(2003));
    }

    #[test]
    fn a_socket_that_nobody_holds_is_nobodys() {
        for state in ["06", "05", "01"] {
            let gone = row(&v4(LO, 40_000), &v4(LO, 25), state, 0, 0);
            assert_eq!(asked(&gone, "", ("127.0.0.1", 40_000)), Err(Why::NoSocket));
        }
        let root = row(&v4(LO, 40_000), &v4(LO, 25), "01", 0, 5);
        assert_eq!(asked(&root, "", ("127.0.0.1", 40_000)), Ok(0));
    }

    #[test]
    fn rows_that_are_none_are_passed_over() {
        let junk = "\n   1: 0100007F\n  2: 0100007F:ZZZZ 0100007F:0019 01\n   3: é:0019 é:0019 01 0 0 0 0 0 0\n";
        let good = row(&v4(LO, 40_000), &v4(LO, 25), "01", 2001, 7);
        assert_eq!(asked(&format!("{junk}{good}"), "", ("127.0.0.1", 40_000)), Ok(2001));
        let nowhere = tempfile::tempdir().unwrap();
        assert_eq!(ends_in(nowhere.path(), (IpAddr::V4(LO.into()), 1)).owner(None), Err(Why::NoSocket));
    }
}
