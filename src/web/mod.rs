//! The window: landing page, metrics, health and the JSON API, over TCP and a unix socket.
//!
//! It shows what [`Backend`] gives and hands actions over to it. It never opens the store, never acts by itself,
//! and asks nothing of the network. Whatever a client sends, it takes bounded memory and time.

pub mod api;
pub mod client;
mod hosts;
mod once;
mod orders;
mod pages;
mod places;
mod reply;
mod routes;
mod rules;
mod serve;
#[cfg(test)]
mod tests;
mod verdicts;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

pub use api::Backend;
pub use orders::{Caller, OrderAction, OrderRequest, OrderView, SelectRequest, SelectionView};
pub use rules::{EnforcementRequest, EnforcementView, UndoRequest, UndoView, UndoneView};
pub use serve::{Listeners, serve};

/// Limits and secrets of the window.
#[derive(Debug, Clone)]
pub struct Settings {
    /// TCP addresses; loopback unless somebody decided otherwise.
    pub listen: Vec<SocketAddr>,
    /// Names under which the window is reached, in lower case, beside those that are plain from the address.
    pub hosts: Vec<String>,
    /// This host's names, in lower case: they are answered for on addresses other than loopback.
    pub own_names: Vec<String>,
    /// The unix socket of the CLI; `None`: no API at all.
    pub socket: Option<PathBuf>,
    /// Bearer token for `/-/reload` over TCP; without one it is not possible there.
    pub operator_token: Option<String>,
    /// Further groups whose members are operators on the unix socket (by the primary group of the connecting process).
    pub operator_groups: Vec<u32>,
    /// User id of the agent itself.
    pub own_uid: u32,
    /// Connections at a time, for each listener; a further one takes the place of one that only holds it.
    pub max_connections: usize,
    /// For the head of a request, and the pause between two requests of a connection.
    pub header_timeout: Duration,
    /// For a whole request, from its head to the start of the answer.
    pub request_timeout: Duration,
    /// For a whole connection: also ends those who do not read their answers.
    pub connection_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            listen: vec![SocketAddr::from(([127, 0, 0, 1], 10925))],
            hosts: Vec::new(),
            own_names: Vec::new(),
            socket: None,
            operator_token: None,
            operator_groups: Vec::new(),
            // Nobody's uid: who forgets to set it lets in root only.
            own_uid: u32::MAX,
            max_connections: 64,
            header_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(30),
            connection_timeout: Duration::from_secs(300),
        }
    }
}

/// Largest request body.
pub const MAX_BODY: usize = 64 * 1024;

/// Who is at the other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    Tcp(SocketAddr),
    Unix {
        uid: u32,
        gid: u32,
    },
    /// The kernel did not say who it is.
    Unknown,
}

impl Peer {
    fn address(self) -> Option<IpAddr> {
        match self {
            Peer::Tcp(address) => Some(address.ip()),
            Peer::Unix { .. } | Peer::Unknown => None,
        }
    }

    /// On the unix socket: root, the agent's own user, or a listed group.
    fn is_operator(self, settings: &Settings) -> bool {
        match self {
            Peer::Unix { uid, gid } => uid == 0 || uid == settings.own_uid || settings.operator_groups.contains(&gid),
            Peer::Tcp(_) | Peer::Unknown => false,
        }
    }
}
