//! Who handed a message in: what the server and the kernel prove, looked up while the server waits for our answer.
//!
//! Never a header that the sender wrote, never the log (which may come late, see [`connected`] and [`identify`] for
//! what stands in its place). Files are read within bounds, and never through a symbolic link below the queue
//! directory. It changes nothing.

mod sockets;

use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::super::addresses;
use crate::mail::{Candidate, Way};

/// One instance of the mail server on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// `queue_directory`.
    pub queue_dir: PathBuf,
    /// The addresses of this host: who connects from one of them is a process of this host.
    pub addresses: Box<[IpAddr]>,
}

impl Instance {
    /// The instance with this queue directory, and the addresses that the host has now.
    pub fn here(queue_dir: impl Into<PathBuf>) -> Instance {
        Instance { queue_dir: queue_dir.into(), addresses: addresses::of_host().into() }
    }

    fn is_local(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_loopback() || self.addresses.contains(&address)
    }

    /// The user that the server's processes run as (`mail_owner`): whose the directory of incoming mail is.
    fn mail_owner(&self) -> Option<u32> {
        owner(&self.queue_dir.join("incoming"))
    }
}

fn owner(path: &Path) -> Option<u32> {
    std::fs::metadata(path).ok().map(|meta| meta.uid())
}

/// Who handed a message in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// Authenticated as.
    Login(Box<[u8]>),
    /// A process of this host, of this user.
    Uid(u32),
    /// A client elsewhere.
    Client(IpAddr),
    Unknown(Why),
}

/// Why nobody is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Why {
    /// The server told no way in.
    NoWay,
    /// The kernel knows no such connection, or its process is gone.
    NoSocket,
    /// Connections of several users share the client's port, and nothing tells which one is meant.
    SharedPort,
}

impl Why {
    pub const ALL: [Why; 3] = [Why::NoWay, Why::NoSocket, Why::SharedPort];

    /// For a label.
    pub const fn name(self) -> &'static str {
        match self {
            Why::NoWay => "no_way",
            Why::NoSocket => "no_socket",
            Why::SharedPort => "shared_port",
        }
    }
}

/// Who is at the other end of a connection; `None` when it is none. To be asked when the client connects: while it
/// waits for the server's greeting, its socket is there.
pub fn connected(way: Way, instance: &Instance) -> Option<Identity> {
    let Way::Smtp { address, port } = way else { return None };
    if !instance.is_local(address) {
        return Some(Identity::Client(address));
    }
    Some(match sockets::owner(address, port, instance.mail_owner()) {
        Ok(uid) => Identity::Uid(uid),
        Err(why) => Identity::Unknown(why),
    })
}

/// Who handed in a message that has come to its end. `connected`: what was found when the client connected.
pub fn identify(candidate: &Candidate, connected: Option<Identity>, instance: &Instance) -> Identity {
    if let Some(login) = &candidate.login {
        return Identity::Login(login.clone());
    }
    connected.or_else(|| self::connected(candidate.way, instance)).unwrap_or(Identity::Unknown(Why::NoWay))
}
