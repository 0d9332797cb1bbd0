//! The gate's listening sockets, kept while the agent is restarted: who connects meanwhile waits in the socket's queue.
//!
//! Each instance has one, `sendwarden/gate.sock` in its queue directory. It is made when the agent asks for it first, and
//! closed when no agent has held it for [`KEEP`]: from then on the mail server does at once what its settings say, instead
//! of waiting for an answer with every message.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::host::clock;
use crate::host::gate;

/// A restart takes a few seconds; a start that reads much before it opens the gate, longer.
pub const KEEP: Duration = Duration::from_secs(30);
/// listen(2): the kernel makes it less where it must be.
const WAITING: i32 = 4096;

/// All of them, by the name of the instance.
#[derive(Debug, Default)]
pub struct Doors(Mutex<BTreeMap<String, Door>>);

#[derive(Debug)]
struct Door {
    socket: OwnedFd,
    path: PathBuf,
    /// Connections that hold it.
    held: usize,
    /// Since when none does.
    left: Option<Instant>,
}

/// A door held by the agent, until this is dropped.
pub struct Held {
    doors: Arc<Doors>,
    name: String,
    pub socket: OwnedFd,
}

impl Doors {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Door>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The socket of the instance with this queue, made where there is none.
    pub fn hold(self: &Arc<Doors>, name: &str, queue: &Path) -> Result<Held, String> {
        let mut doors = self.lock();
        let whole = |door: &Door| door.path.exists().then(|| door.socket.try_clone().ok()).flatten();
        let kept = doors.get(name).and_then(whole);
        let socket = match kept {
            Some(socket) => socket,
            None => {
                let path = gate::socket(queue);
                gate::make_directory(&path, queue)?;
                let socket = listen(&path).map_err(|why| {
                    format!("cannot open the gate {}: {why}; is the directory root's own?", path.display())
                })?;
                group_may_connect(&path, queue)?;
                tracing::info!("gate of {name}: {}", path.display());
                let ours = socket.try_clone().map_err(|why| format!("cannot keep the gate of {name}: {why}"))?;
                let held = doors.get(name).map_or(0, |door| door.held);
                doors.insert(name.to_owned(), Door { socket: ours, path, held, left: None });
                socket
            }
        };
        if let Some(door) = doors.get_mut(name) {
            (door.held, door.left) = (door.held + 1, None);
        }
        drop(doors);
        Ok(Held { doors: Arc::clone(self), name: name.to_owned(), socket })
    }

    /// Closes those that nobody has held for so long.
    pub fn close_left(&self, keep: Duration) {
        self.lock().retain(|name, door| {
            let stays = door.left.is_none_or(|since| since.elapsed() < keep);
            if !stays {
                tracing::warn!("no agent has come for the gate of {name}: it is closed until one does");
                // Somebody may have removed it already.
                drop(fs::remove_file(&door.path));
            }
            stays
        });
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(door) = self.doors.lock().get_mut(&self.name) {
            door.held = door.held.saturating_sub(1);
            door.left = (door.held == 0).then(clock::monotonic);
        }
    }
}

/// A listening socket that takes the place of what has this name in one step: an agent may listen there still, with the
/// socket of an earlier helper, and not one connection should meet nobody.
fn listen(path: &Path) -> io::Result<OwnedFd> {
    let new = path.with_extension("new");
    match fs::remove_file(&new) {
        Err(why) if why.kind() != io::ErrorKind::NotFound => return Err(why),
        _ => {}
    }
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    // The mode is the name's from the first moment on (unix(7)); nothing is changed by name, which could be a link.
    rustix::fs::fchmod(socket.as_fd(), 0o660.into())?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(&new)?)?;
    rustix::net::listen(&socket, WAITING)?;
    fs::rename(&new, path)?;
    Ok(socket)
}

/// The socket has the group of its directory, if that is set-group-id.
fn group_may_connect(path: &Path, queue: &Path) -> Result<(), String> {
    let meta = fs::symlink_metadata(path).map_err(|why| format!("cannot look at {}: {why}", path.display()))?;
    let group = gate::group(queue);
    if group.is_none_or(|group| meta.gid() == group) {
        return Ok(());
    }
    let directory = path.parent().unwrap_or(path).display();
    Err(format!(
        "the mail server could not connect to the gate {}: it is of another group; chgrp GROUP {directory}, chmod 2750 \
         {directory}, with the group of the mail server's user",
        path.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileTypeExt;
    use std::os::unix::net::{UnixListener, UnixStream};

    fn queue() -> tempfile::TempDir {
        let queue = tempfile::tempdir().unwrap();
        fs::create_dir(queue.path().join("incoming")).unwrap();
        queue
    }

    #[test]
    fn it_is_kept_for_the_next_agent_with_those_who_wait() {
        let queue = queue();
        let doors = Arc::new(Doors::default());
        let path = gate::socket(queue.path());
        let first = doors.hold("mx", queue.path()).unwrap();
        let meta = fs::symlink_metadata(&path).unwrap();
        assert!(meta.file_type().is_socket() && meta.mode() & 0o117 == 0, "{:o}", meta.mode());
        drop(first);
        let waits = UnixStream::connect(&path).unwrap();
        doors.close_left(KEEP);
        let second = doors.hold("mx", queue.path()).unwrap();
        let listener = UnixListener::from(second.socket.try_clone().unwrap());
        listener.accept().unwrap();
        drop((waits, second));
        doors.close_left(Duration::ZERO);
        assert!(!path.exists(), "nobody came");
        let third = doors.hold("mx", queue.path()).unwrap();
        doors.close_left(Duration::ZERO);
        drop(UnixStream::connect(&path).unwrap());
        fs::remove_file(&path).unwrap();
        drop(doors.hold("mx", queue.path()).unwrap());
        assert!(path.exists(), "who has lost it gets another");
        doors.close_left(Duration::ZERO);
        assert!(path.exists(), "the first one still holds it");
        drop(third);
        doors.close_left(Duration::ZERO);
        assert!(!path.exists());
    }

    #[test]
    fn a_new_helper_takes_the_place_of_a_socket_that_is_still_listened_on() {
        let queue = queue();
        let old = Arc::new(Doors::default()).hold("mx", queue.path()).unwrap();
        let new = Arc::new(Doors::default()).hold("mx", queue.path()).unwrap();
        drop(UnixStream::connect(gate::socket(queue.path())).unwrap());
        assert!(UnixListener::from(new.socket.try_clone().unwrap()).accept().is_ok());
        let late = UnixListener::from(old.socket.try_clone().unwrap()).accept();
        assert_eq!(late.unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }
}
