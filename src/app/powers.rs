//! How the agent does what only root may: by itself when it is root, else through the helper.

use crate::host::helper::client::Client;
use std::path::Path;
use std::sync::Arc;

/// Chosen once, at the start.
#[derive(Debug, Clone)]
pub enum Powers {
    /// The agent is root.
    Own,
    /// It is another user, and asks.
    Helper(Arc<Client>),
}

impl Powers {
    /// Those of this process; `socket` is where the helper listens.
    pub fn of_process(socket: &Path) -> Powers {
        match rustix::process::geteuid().is_root() {
            true => Powers::Own,
            false => Powers::Helper(Arc::new(Client::new(socket))),
        }
    }

    /// The same with a connection of one's own: nobody waits for another's question.
    pub fn another(&self) -> Powers {
        match self {
            Powers::Own => Powers::Own,
            Powers::Helper(client) => Powers::Helper(Arc::new(client.another())),
        }
    }

    /// Why nothing in a queue can be touched now; waits for the helper for a moment.
    pub fn trouble(&self) -> Option<String> {
        match self {
            Powers::Own => None,
            Powers::Helper(client) => client.hello().err().map(|why| why.to_string()),
        }
    }
}
