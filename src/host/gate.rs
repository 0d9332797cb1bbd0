//! The gate: what the mail server asks at the end of a message is answered here, before the message is queued.
//!
//! [`identity`] says who handed a message in, as the kernel and the server's own files prove it.

pub mod identity;
pub mod listen;

use super::names;
use std::path::{Path, PathBuf};

/// The socket of an instance: inside its queue, where services with a changed root reach it.
pub fn socket(queue: &Path) -> PathBuf {
    queue.join("sendwarden/gate.sock")
}

/// The mail server's group: that of the user who owns the queue.
pub fn group(queue: &Path) -> Option<u32> {
    identity::Instance::here(queue).mail_owner().and_then(names::group_of)
}

/// Makes the socket's directory where there is none, open to the mail server's group. Only root can.
///
/// # Errors
/// The whole text for the operator.
pub fn make_directory(socket: &Path, queue: &Path) -> Result<(), String> {
    let Some(directory) = socket.parent().filter(|directory| !directory.is_dir()) else { return Ok(()) };
    let Some(group) = group(queue) else {
        return Err(format!(
            "cannot open the gate {}: nobody knows the mail server's group; make its directory: install -d -g GROUP -m 2750 {}",
            socket.display(),
            directory.display()
        ));
    };
    listen::make_directory(directory, group)
        .map_err(|why| format!("cannot make the gate's directory {}: {why}; make it as root", directory.display()))
}
