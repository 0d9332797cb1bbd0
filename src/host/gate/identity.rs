//! Who handed a message in: what the server and the kernel prove, looked up while the server waits for our answer.
//!
//! Never a header that the sender wrote, never the log (which may come late, see [`connected`] and [`identify`] for
//! what stands in its place). Files are read within bounds, and never through a symbolic link below the queue
//! directory. It changes nothing.

mod pickup;
mod queue_file;
mod sockets;

use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::super::helper::client::Client;
use super::super::{addresses, clock};
use crate::mail::{Candidate, HandedBy, QueueId, Way};

/// Least time between two walks through all connections of the host: one may take 50 ms (measured, by an attacker), and
/// nobody's mail is answered meanwhile.
const BETWEEN_WALKS: Duration = Duration::from_millis(500);

/// One instance of the mail server on this host.
#[derive(Debug, Clone)]
pub struct Instance {
    /// `queue_directory`.
    pub queue_dir: PathBuf,
    /// A directory of the user's that the server's processes run as.
    own_dir: PathBuf,
    /// The addresses of this host: who connects from one of them is a process of this host.
    pub addresses: Box<[IpAddr]>,
    /// The process of pickup(8) the last time it was looked for, or 0: it is asked first.
    pickup: Arc<AtomicU32>,
    /// When all connections were walked through last.
    walked: Arc<Mutex<Option<Instant>>>,
    /// Who looks into queue files and processes for us, who may not, and the name of the instance there.
    helper: Option<(Arc<Client>, Arc<str>)>,
}

impl Instance {
    /// The instance with this queue directory, and the addresses that the host has now.
    pub fn here(queue_dir: impl Into<PathBuf>) -> Instance {
        let (addresses, queue_dir) = (addresses::of_host().into(), queue_dir.into());
        let own_dir = queue_dir.join("incoming");
        Instance { queue_dir, own_dir, addresses, pickup: Arc::default(), walked: Arc::default(), helper: None }
    }

    /// The same of a server whose processes run as the user who owns the queue directory itself.
    pub fn owning(queue_dir: impl Into<PathBuf>) -> Instance {
        let instance = Instance::here(queue_dir);
        Instance { own_dir: instance.queue_dir.clone(), ..instance }
    }

    /// The same, where only the helper may look into the queue.
    pub fn through(self, helper: Arc<Client>, name: Arc<str>) -> Instance {
        Instance { helper: Some((helper, name)), ..self }
    }

    /// How long ago the helper was lost, if there is one and it does not answer.
    pub fn helper_lost_for(&self) -> Option<Duration> {
        self.helper.as_ref().and_then(|(helper, _)| helper.lost_for())
    }

    fn is_local(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_loopback() || self.addresses.contains(&address)
    }

    /// Whether all connections may be walked through now. `often`: there is no other way. Else it is for those who are
    /// redirected on their way here; a client that hangs up at once is not found either, and could keep the gate busy.
    fn walk(&self, often: bool, matters: bool) -> bool {
        if often {
            return true;
        }
        if !matters {
            return false;
        }
        let mut walked = self.walked.lock().unwrap_or_else(PoisonError::into_inner);
        let free = walked.is_none_or(|last| last.elapsed() >= BETWEEN_WALKS);
        if free {
            *walked = Some(clock::monotonic());
        }
        free
    }

    /// The user that the server's processes run as (`mail_owner`, of Exim `exim_user`).
    pub fn mail_owner(&self) -> Option<u32> {
        std::fs::metadata(&self.own_dir).ok().map(|meta| meta.uid())
    }
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
    /// The server told no queue id.
    NoQueueId,
    /// There is no such file among the incoming ones.
    NoQueueFile,
    /// A file or a process may not be looked into.
    NotPermitted,
    /// The file is no queue file, or ends before the text.
    BrokenQueueFile,
    /// More envelope than is read.
    LongEnvelope,
    /// The first header is not pickup's: header checks took it away, or something stands before it.
    NoReceivedHeader,
    /// The first header is pickup's, of another message.
    ForeignHeader,
    /// There is no process of pickup(8) in this queue directory.
    NoPickup,
    /// More than one message may be meant.
    SeveralPickups,
    /// pickup has no message open.
    NoOpenMessage,
    /// The server has not waited for the answer.
    Late,
    /// The helper, who alone may look, does not answer.
    NoHelper,
    /// The kernel knows no such connection, or its process is gone.
    NoSocket,
    /// Connections of several users share the client's port, and nothing tells which one is meant.
    SharedPort,
}

impl Why {
    pub const ALL: [Why; 15] = [
        Why::NoWay,
        Why::NoQueueId,
        Why::NoQueueFile,
        Why::NotPermitted,
        Why::BrokenQueueFile,
        Why::LongEnvelope,
        Why::NoReceivedHeader,
        Why::ForeignHeader,
        Why::NoPickup,
        Why::SeveralPickups,
        Why::NoOpenMessage,
        Why::Late,
        Why::NoHelper,
        Why::NoSocket,
        Why::SharedPort,
    ];

    /// For a label.
    pub const fn name(self) -> &'static str {
        match self {
            Why::NoWay => "no_way",
            Why::NoQueueId => "no_queue_id",
            Why::NoQueueFile => "no_queue_file",
            Why::NotPermitted => "not_permitted",
            Why::BrokenQueueFile => "broken_queue_file",
            Why::LongEnvelope => "long_envelope",
            Why::NoReceivedHeader => "no_received_header",
            Why::ForeignHeader => "foreign_header",
            Why::NoPickup => "no_pickup",
            Why::SeveralPickups => "several_pickups",
            Why::NoOpenMessage => "no_open_message",
            Why::Late => "late",
            Why::NoHelper => "no_helper",
            Why::NoSocket => "no_socket",
            Why::SharedPort => "shared_port",
        }
    }
}

/// Who is at the other end of a connection; `None` when it is none. To be asked when the client connects: while it
/// waits for the server's greeting, its socket is there. `matters`: somebody is held, so that it is worth a long look.
pub fn connected(way: Way, instance: &Instance, matters: bool) -> Option<Identity> {
    let Way::Smtp { address, port, server } = way else { return None };
    // The addresses of this host may have become more since they were looked at: the connection itself says most.
    let known = server.and_then(|server| sockets::exact((address, port), server));
    Some(match known {
        Some(Ok(uid)) => Identity::Uid(uid),
        Some(Err(why)) => Identity::Unknown(why),
        None if !instance.is_local(address) => Identity::Client(address),
        None => match instance.walk(server.is_none(), matters) {
            true => {
                sockets::search((address, port), instance.mail_owner()).map_or_else(Identity::Unknown, Identity::Uid)
            }
            false => Identity::Unknown(Why::NoSocket),
        },
    })
}

/// Who handed in a message that has come to its end, while the server waits for the answer. `connected`: what was found
/// when the client connected.
pub fn identify(candidate: &Candidate, connected: Option<Identity>, instance: &Instance) -> Identity {
    if let Some(login) = &candidate.login {
        return Identity::Login(login.clone());
    }
    if let Some(uid) = candidate.uid {
        return Identity::Uid(uid);
    }
    match candidate.way {
        Way::Handed => match candidate.id.ok_or(Why::NoQueueId).and_then(|id| handed(id, instance)) {
            Ok(uid) => Identity::Uid(uid),
            Err(why) => Identity::Unknown(why),
        },
        way => connected.or_else(|| self::connected(way, instance, true)).unwrap_or(Identity::Unknown(Why::NoWay)),
    }
}

/// The user whose message pickup(8) hands over.
fn handed(id: QueueId, instance: &Instance) -> Result<u32, Why> {
    match &instance.helper {
        Some((helper, name)) => helper.identify(name, id),
        None => handed_here(id, instance),
    }
}

/// By the first header, else by the file that it came from; only root may look.
///
/// # Errors
/// Why nobody is named.
pub fn handed_here(id: QueueId, instance: &Instance) -> Result<u32, Why> {
    let file = queue_file::incoming(&instance.queue_dir, id)?;
    queue_file::submitter(&file, id).or_else(|why| {
        let mail_owner = instance.mail_owner().ok_or(why)?;
        let mut pid = instance.pickup.load(Ordering::Relaxed);
        let uid = pickup::submitter(&instance.queue_dir, mail_owner, &mut pid)?;
        instance.pickup.store(pid, Ordering::Relaxed);
        // Had the server given up on us, pickup might have gone on to somebody else's message.
        if queue_file::comes_in(&file) { Ok(uid) } else { Err(Why::Late) }
    })
}

/// Who handed in each of these messages in the queue, of those whose files say it; only root may look.
pub fn in_queue(instance: &Instance, ids: &[QueueId]) -> Vec<(QueueId, HandedBy)> {
    let Some(mail_owner) = instance.mail_owner() else { return Vec::new() };
    let by = |id: &QueueId| Some((*id, queue_file::handed_by(&instance.queue_dir, *id, mail_owner)?));
    ids.iter().filter_map(by).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_wins_and_a_client_elsewhere_is_its_address() {
        let instance = Instance::here("/nowhere");
        let far = Way::Smtp { address: "192.0.2.7".parse().unwrap(), port: 40_000, server: None };
        let mut candidate = Candidate { way: far, ..Candidate::default() };
        assert_eq!(identify(&candidate, None, &instance), Identity::Client("192.0.2.7".parse().unwrap()));
        assert_eq!(identify(&candidate, Some(Identity::Uid(7)), &instance), Identity::Uid(7), "what was seen counts");
        candidate.login = Some((*b"box1@h.test").into());
        assert_eq!(identify(&candidate, None, &instance), Identity::Login((*b"box1@h.test").into()));
    }

    #[test]
    fn a_crowd_that_hangs_up_does_not_keep_the_gate_walking() {
        let instance = Instance::here("/nowhere");
        assert!(!instance.walk(false, false), "nobody is held");
        assert!(instance.walk(false, true) && !instance.walk(false, true) && !instance.clone().walk(false, true));
        assert!(instance.walk(true, false), "an older server, which does not tell its end: there is no other way");
    }

    #[test]
    fn nobody_is_named_without_proof() {
        let instance = Instance::here("/nowhere");
        let unknown = |way, id: &[u8]| {
            let candidate = Candidate { way, id: QueueId::new(id), ..Candidate::default() };
            match identify(&candidate, None, &instance) {
                Identity::Unknown(why) => why.name(),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(unknown(Way::Unknown, b"A"), "no_way");
        assert_eq!(unknown(Way::Handed, b""), "no_queue_id");
        assert_eq!(unknown(Way::Handed, b"4jYswH0Jn6z7xJG"), "no_queue_file");
        assert_eq!(
            unknown(Way::Smtp { address: "127.0.0.1".parse().unwrap(), port: 0, server: None }, b"A"),
            "no_socket"
        );
        let names: std::collections::BTreeSet<_> = Why::ALL.iter().map(|why| why.name()).collect();
        assert_eq!(names.len(), Why::ALL.len());
    }
}
