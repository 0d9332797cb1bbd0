//! What the kernel says of a UDP socket: how many datagrams it dropped because its buffer was full.
//!
//! `recvmsg` can tell the same (`SO_RXQ_OVFL`), but only with the next datagram that is received, and after a flood
//! there may be none. The table of sockets in `/proc` can be asked at any time.

use std::fs;
use std::net::UdpSocket;
use std::os::fd::AsFd;

use rustix::net::sockopt;

/// Room asked of the kernel, so that a pause of ours costs nothing. It gives what `net.core.rmem_max` allows.
const ROOM: usize = 4 << 20;

/// Asks for a large receive buffer; a small one works too.
pub(super) fn enlarge(socket: impl AsFd) {
    // The forced form goes beyond the limit and needs CAP_NET_ADMIN.
    if sockopt::set_socket_recv_buffer_size_force(&socket, ROOM).is_err() {
        let _ = sockopt::set_socket_recv_buffer_size(&socket, ROOM);
    }
}

/// Follows the kernel's counter of one UDP socket.
#[derive(Debug)]
pub(super) struct Drops {
    table: &'static str,
    inode: u64,
    seen: u32,
}

impl Drops {
    pub fn of(socket: &UdpSocket) -> std::io::Result<Drops> {
        let table = if socket.local_addr()?.is_ipv6() { "/proc/self/net/udp6" } else { "/proc/self/net/udp" };
        Ok(Drops { table, inode: rustix::fs::fstat(socket)?.st_ino, seen: 0 })
    }

    /// Datagrams dropped since the last call; `None` where the kernel does not say.
    pub fn take(&mut self) -> Option<u64> {
        let now = find(&fs::read_to_string(self.table).ok()?, self.inode)?;
        let new = now.wrapping_sub(self.seen);
        self.seen = now;
        Some(u64::from(new))
    }
}

/// `sl local rem st queues tr retrnsmt uid timeout inode ref pointer drops` (net/ipv4/udp.c, `udp4_format_sock`).
fn find(table: &str, inode: u64) -> Option<u32> {
    table.lines().skip(1).find_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let ours = fields.nth(9)?.parse() == Ok(inode);
        // A counter that has passed the half of its range is shown as a negative number.
        fields.nth(2)?.parse::<i64>().ok().filter(|_| ours).map(|drops| (drops & 0xffff_ffff) as u32)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_column_of_our_socket_is_read() {
        let table = "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops             \n\
            \x20 100: 0100007F:1414 00000000:0000 07 00000000:00034E00 00:00000000 00000000     0        0 7001 2 ffff8880 17        \n\
            \x20 101: 0100007F:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000   101        0 7002 2 ffff8881 -1        \n";
        assert_eq!(find(table, 7001), Some(17));
        assert_eq!(find(table, 7002), Some(u32::MAX));
        assert_eq!(find(table, 7003), None);
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        assert_eq!(Drops::of(&socket).unwrap().take(), Some(0), "the real table has our socket");
        let socket = UdpSocket::bind("[::1]:0").unwrap();
        assert_eq!(Drops::of(&socket).unwrap().take(), Some(0));
    }
}
