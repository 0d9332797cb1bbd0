//! The kernel asked for sockets by netlink (sock_diag(7)): the one with both ends in some microseconds, however many there
//! are; those with one port by a walk through all, without their being written as text.

use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use rustix::fd::OwnedFd;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, sockopt};

use super::{End, Ends, Socket};

/// `SOCK_DIAG_BY_FAMILY`, `NLM_F_REQUEST`, `NLM_F_DUMP`, `NLMSG_ERROR`, `NLMSG_DONE`: linux/sock_diag.h, linux/netlink.h.
const BY_FAMILY: u16 = 20;
const REQUEST: u16 = 0x1;
const DUMP: u16 = 0x300;
const ERROR: u16 = 2;
const DONE: u16 = 3;
const TCP: u8 = 6;
/// All states but that of a socket that listens (`TCP_LISTEN`, 10) and of one that is over (`TCP_TIME_WAIT`, 6).
const STATES: u32 = !(1 << 10 | 1 << 6);
const HEAD: usize = 16;
/// `struct inet_diag_msg` without attributes.
const MESSAGE: usize = 72;
/// The kernel answers at once; what is slower is asked another way.
const PATIENCE: Duration = Duration::from_millis(200);
/// Most pieces of an answer, each of some hundred sockets.
const MOST_ANSWERS: usize = 4_096;

/// The uid of the socket with these ends; `Some(None)` for one that no process holds any more.
pub fn one(local: End, remote: End) -> io::Result<Option<Option<u32>>> {
    // What the kernel finds for two addresses of IPv4 may be of either family.
    let family = if local.0.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let mut found = None;
    ask(family, REQUEST, (local, remote), |socket, held| {
        // Where there is no such connection, it may answer with the socket that listens at the local end.
        if (socket.local, socket.remote) == (local, remote) {
            found = Some(held.then_some(socket.uid));
        }
    })?;
    Ok(found)
}

/// Those with this client's address and port at either end.
pub fn alike(client: End) -> io::Result<Ends> {
    let mut ends = Ends::default();
    let anywhere = (IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0);
    // A client of IPv4 may have a socket of IPv6, with a mapped address.
    let families = [AddressFamily::INET6, AddressFamily::INET];
    for &family in families.iter().take(if client.0.is_ipv4() { 2 } else { 1 }) {
        // A walk is narrowed by ports only.
        let (near, far) = (((anywhere.0, client.1), anywhere), (anywhere, (anywhere.0, client.1)));
        for pair in [near, far] {
            ask(family, REQUEST | DUMP, pair, |socket, held| {
                if held {
                    ends.add(client, socket);
                }
            })?;
        }
    }
    Ok(ends)
}

fn ask(family: AddressFamily, flags: u16, pair: (End, End), mut found: impl FnMut(Socket, bool)) -> io::Result<()> {
    let kernel = rustix::net::socket_with(
        AddressFamily::NETLINK,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        Some(netlink::SOCK_DIAG),
    )?;
    sockopt::set_socket_timeout(&kernel, sockopt::Timeout::Recv, Some(PATIENCE))?;
    rustix::net::sendto(
        &kernel,
        &question(family, flags, pair),
        SendFlags::empty(),
        &netlink::SocketAddrNetlink::new(0, 0),
    )?;
    answers(&kernel, flags & DUMP != 0, &mut found)
}

/// `struct nlmsghdr` and `struct inet_diag_req_v2` (linux/inet_diag.h).
fn question(family: AddressFamily, flags: u16, (local, remote): (End, End)) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(MESSAGE);
    bytes.extend(72u32.to_ne_bytes());
    bytes.extend(BY_FAMILY.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend([0; 8]);
    bytes.extend([family.as_raw() as u8, TCP, 0, 0]);
    bytes.extend(STATES.to_ne_bytes());
    bytes.extend(local.1.to_be_bytes());
    bytes.extend(remote.1.to_be_bytes());
    for address in [local.0, remote.0] {
        let mut field = [0; 16];
        match address {
            IpAddr::V4(address) => field.iter_mut().zip(address.octets()).for_each(|(to, byte)| *to = byte),
            IpAddr::V6(address) => field = address.octets(),
        }
        bytes.extend(field);
    }
    // Any interface, and no cookie (`INET_DIAG_NOCOOKIE`).
    bytes.extend(0u32.to_ne_bytes());
    bytes.extend([0xff; 8]);
    bytes
}

fn answers(kernel: &OwnedFd, many: bool, found: &mut impl FnMut(Socket, bool)) -> io::Result<()> {
    let mut buffer = vec![0; 32 * 1024];
    for _ in 0..MOST_ANSWERS {
        let (length, _) = rustix::net::recv(kernel, &mut buffer[..], RecvFlags::empty())?;
        let mut rest = buffer.get(..length).unwrap_or_default();
        while let Some((kind, message, after)) = split(rest) {
            rest = after;
            match kind {
                DONE => return Ok(()),
                ERROR => return failed(message),
                _ => {
                    if let Some((socket, held)) = read(message) {
                        found(socket, held);
                    }
                }
            }
        }
        if !many {
            return Ok(());
        }
    }
    Err(io::ErrorKind::TimedOut.into())
}

/// The first message: its kind, what follows its head, and what follows it.
fn split(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = u32::from_ne_bytes(*bytes.first_chunk()?) as usize;
    let kind = u16::from_ne_bytes(*bytes.get(4..)?.first_chunk()?);
    let message = bytes.get(HEAD..length)?;
    Some((kind, message, bytes.get(length.next_multiple_of(4)..).unwrap_or_default()))
}

/// No such socket is an answer; everything else is none.
fn failed(message: &[u8]) -> io::Result<()> {
    let code = message.first_chunk().map_or(0, |bytes| i32::from_ne_bytes(*bytes));
    let error = io::Error::from_raw_os_error(code.saturating_neg());
    if code == 0 || error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

/// The socket, and whether a process holds it: one that none holds any more has no inode, and mostly the uid 0 of nobody.
fn read(message: &[u8]) -> Option<(Socket, bool)> {
    let family = *message.first()?;
    let port = |at: usize| Some(u16::from_be_bytes(*message.get(at..)?.first_chunk()?));
    let address = |at: usize| {
        let field = message.get(at..)?.first_chunk::<16>()?;
        Some(if family == AddressFamily::INET.as_raw() as u8 {
            IpAddr::from(*field.first_chunk::<4>()?)
        } else {
            IpAddr::from(*field).to_canonical()
        })
    };
    let number = |at: usize| Some(u32::from_ne_bytes(*message.get(at..)?.first_chunk()?));
    let (local, remote) = ((address(8)?, port(4)?), (address(24)?, port(6)?));
    let (uid, inode) = (number(64)?, number(68)?);
    Some((Socket { local, remote, uid }, inode != 0 || uid != 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_no_message_are_nothing() {
        let mut bytes = vec![0; 200];
        for length in [0u32, 1, 15, 16, 17, 88, 199, 201, u32::MAX] {
            bytes.splice(..4, length.to_ne_bytes());
            for end in 0..bytes.len() {
                if let Some((_, message, _)) = split(&bytes[..end]) {
                    assert_eq!(message.len() + HEAD, length as usize);
                    assert!(read(message).is_none_or(|(_, held)| !held && message.len() >= MESSAGE));
                    assert!(failed(message).is_ok());
                }
            }
        }
        assert!(failed(&(-1i32).to_ne_bytes()).is_err() && failed(&i32::MIN.to_ne_bytes()).is_err());
    }
}
