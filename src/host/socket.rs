//! A syslog socket of our own, unix or UDP, for servers that keep no log file: every datagram is one line.
//!
//! A thread takes datagrams from the kernel as they come, so that no sender waits for us, into a bounded buffer that
//! the pump empties. What does not fit, and what the kernel had to drop before we came, is counted: received and lost
//! add up to what was sent. There is no position and nothing to read again: what is in the buffer ends with the
//! process. It never interprets a line.

mod kernel;
mod receive;

use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::clock;
use super::follow::wake;
use receive::{Inbox, Receiving};

/// Where lines are sent to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A datagram socket like `/dev/log`, with the mode of its file.
    Unix {
        path: PathBuf,
        mode: u32,
    },
    Udp(SocketAddr),
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Address::Unix { path, .. } => path.display().fmt(f),
            Address::Udp(address) => write!(f, "udp:{address}"),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SocketEvent {
    /// It listens, at the start or again.
    Listening,
    /// It does not, and why.
    Deaf { why: String },
    /// Lines that came while the buffer was full.
    Overflowed { lines: u64 },
    /// Datagrams that the kernel dropped because its own buffer was full.
    Dropped { datagrams: u64 },
    /// Lines longer than the limit that were given out cut.
    Cut { lines: u64 },
}

/// What one `read` did. `more`: the budget ended it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    pub lines: u64,
    pub more: bool,
}

/// One listening socket.
pub struct Socket {
    address: Address,
    inbox: Arc<Inbox>,
    waker: wake::Handle,
    open: Option<Open>,
    /// When binding was tried, or the path was looked at, last.
    looked: Option<Instant>,
    /// Lines taken from the inbox and not given out yet.
    taken: receive::Lines,
    events: Vec<SocketEvent>,
    trouble: Option<String>,
    closed: bool,
}

struct Open {
    receiving: Receiving,
    /// Device and inode of a unix socket's file.
    file: Option<(u64, u64)>,
}

/// The path is looked at, and binding tried again, at this pace.
const LOOK: Duration = Duration::from_secs(1);

impl Socket {
    /// Listens from the first `read` on.
    pub fn new(address: Address, max_line: usize, waker: wake::Handle) -> Socket {
        Socket {
            address,
            inbox: Arc::new(Inbox::new(max_line)),
            waker,
            open: None,
            looked: None,
            taken: receive::Lines::default(),
            events: Vec::new(),
            trouble: None,
            closed: false,
        }
    }

    /// Gives out lines that have come, about `budget` bytes of them.
    pub fn read(&mut self, budget: usize, on_line: &mut dyn FnMut(&[u8])) -> Progress {
        self.stand();
        let mut progress = Progress::default();
        let mut bytes = 0;
        while bytes < budget {
            let Some(line) = self.taken.give() else {
                if self.inbox.swap(&mut self.taken) {
                    continue;
                }
                break;
            };
            bytes += line.len() + 1;
            progress.lines += 1;
            on_line(line);
        }
        progress.more = bytes >= budget;
        self.note();
        progress
    }

    /// Bytes that were received and not given out yet.
    pub fn backlog_bytes(&self) -> u64 {
        (self.taken.bytes() + self.inbox.bytes()) as u64
    }

    /// What happened since the last call.
    pub fn take_events(&mut self) -> Vec<SocketEvent> {
        std::mem::take(&mut self.events)
    }

    /// Binds, and binds again when the socket has failed or its file was removed or replaced.
    fn stand(&mut self) {
        if self.closed || self.looked.is_some_and(|at| at.elapsed() < LOOK) {
            return;
        }
        self.looked = Some(clock::monotonic());
        if let Some(open) = &self.open {
            let ended = open.receiving.ended();
            let gone = open.file.is_some() && open.file != identity(&self.address);
            if ended.is_none() && !gone {
                return;
            }
            let why = ended.unwrap_or_else(|| "its file was removed or replaced".to_owned());
            self.open = None;
            self.deaf(format!("{}: {why}", self.address));
        }
        match self.bind() {
            Ok(open) => {
                self.open = Some(open);
                self.trouble = None;
                self.events.push(SocketEvent::Listening);
            }
            Err(why) => self.deaf(why),
        }
    }

    fn bind(&self) -> Result<Open, String> {
        let failed = |why: std::io::Error| format!("cannot listen on {}: {why}", self.address);
        let (receiving, file) = match &self.address {
            Address::Udp(address) => {
                let socket = UdpSocket::bind(address).map_err(failed)?;
                (Receiving::udp(socket, self.inbox.clone(), self.waker.clone()), None)
            }
            Address::Unix { path, mode } => {
                make_room(path)?;
                let socket = UnixDatagram::bind(path).map_err(failed)?;
                fs::set_permissions(path, fs::Permissions::from_mode(*mode)).map_err(failed)?;
                (Receiving::unix(socket, self.inbox.clone(), self.waker.clone()), identity(&self.address))
            }
        };
        Ok(Open { receiving: receiving.map_err(failed)?, file })
    }

    fn deaf(&mut self, why: String) {
        if self.trouble.as_ref() != Some(&why) {
            self.events.push(SocketEvent::Deaf { why: why.clone() });
        }
        self.trouble = Some(why);
    }

    fn note(&mut self) {
        let counts = self.inbox.take_counts();
        let events = [
            (counts.overflowed, SocketEvent::Overflowed { lines: counts.overflowed }),
            (counts.dropped, SocketEvent::Dropped { datagrams: counts.dropped }),
            (counts.cut, SocketEvent::Cut { lines: counts.cut }),
        ];
        self.events.extend(events.into_iter().filter(|(n, _)| *n > 0).map(|(_, event)| event));
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.close();
    }
}

impl Socket {
    /// Takes nothing more from senders; what they have handed over can still be read.
    pub fn close(&mut self) {
        self.closed = true;
        let Some(open) = self.open.take() else { return };
        // Senders shall meet a missing socket rather than one that nobody reads; another's file is left alone.
        if let Address::Unix { path, .. } = &self.address
            && open.file.is_some()
            && open.file == identity(&self.address)
        {
            let _ = fs::remove_file(path);
        }
    }
}

fn identity(address: &Address) -> Option<(u64, u64)> {
    match address {
        Address::Unix { path, .. } => fs::symlink_metadata(path).ok().map(|meta| (meta.dev(), meta.ino())),
        Address::Udp(_) => None,
    }
}

/// What keeps an agent from listening there. Nothing is made, and nothing is removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Obstacle {
    /// Something else is at the path.
    Other(String),
    /// Somebody listens there.
    Taken(String),
}

/// What would be in the way.
pub fn obstacle(address: &Address) -> Option<Obstacle> {
    match address {
        Address::Unix { path, .. } => look(path).err(),
        Address::Udp(address) => {
            let taken = |why| Obstacle::Taken(format!("cannot listen on udp:{address}: {why}; name another port"));
            UdpSocket::bind(address).err().map(taken)
        }
    }
}

/// Whether a socket that nobody listens on any more is there.
fn look(path: &Path) -> Result<bool, Obstacle> {
    let shown = path.display();
    let Ok(meta) = fs::symlink_metadata(path) else { return Ok(false) };
    if !meta.file_type().is_socket() {
        let text = format!("cannot listen on {shown}: it exists and is not a socket; remove it or name another path");
        return Err(Obstacle::Other(text));
    }
    let probe = UnixDatagram::unbound().and_then(|probe| probe.connect(path));
    match probe {
        Err(why) if why.kind() == std::io::ErrorKind::ConnectionRefused => Ok(true),
        _ => {
            let text = format!("cannot listen on {shown}: another program listens there; name another path");
            Err(Obstacle::Taken(text))
        }
    }
}

/// Removes a socket that nobody listens on any more; refuses to touch anything else.
fn make_room(path: &Path) -> Result<(), String> {
    match look(path) {
        Ok(true) => {
            fs::remove_file(path).map_err(|why| format!("cannot remove the old socket {}: {why}", path.display()))
        }
        Ok(false) => Ok(()),
        Err(Obstacle::Other(text) | Obstacle::Taken(text)) => Err(text),
    }
}

#[cfg(test)]
mod tests;
