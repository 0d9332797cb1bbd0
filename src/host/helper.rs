//! The helper: a small process of root's that does for the agent, which is an ordinary user, what only root may.
//!
//! postsuper(1) works for root only, queue files are readable for nobody else, and whose message pickup(8) has in its
//! hands stands in its `/proc`; an agent that may not gain privileges cannot start Exim's set-uid program. So [`serve`] does just these on a unix socket, for root and one user, who is known by the
//! credentials that the kernel gives; [`client`] is the agent's end. It never takes a path, an argument or a program from
//! the other side: a verb, the name of an instance that it found at its own start, and queue ids. It decides nothing.

pub mod client;
mod doors;
mod fds;
mod held;
mod outside;
pub mod serve;
pub mod trust;

use crate::mail::{HandedBy, Server, Verb};
use crate::mta::postfix::plan;
use serde::{Deserialize, Serialize};

/// Where it listens by default: a directory of root's, in which nobody else can put another socket.
pub const SOCKET: &str = "/run/sendwarden-helper/helper.sock";
/// The user who may ask, by default.
pub const USER: &str = "sendwarden";
/// Queue ids of one request.
pub const MOST_IDS: usize = plan::BATCH;
/// Bytes of a request: so many ids of the greatest length take half of it.
pub const MOST_REQUEST: usize = 64 * 1024;
/// Bytes of an answer.
pub const MOST_ANSWER: usize = 1024 * 1024;
/// Queue ids of one listing.
pub const MOST_LISTED: usize = 20_000;

/// What can be asked: one line of JSON, answered by one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// What it serves, and what it has refused.
    Hello {},
    Hold {
        #[serde(default)]
        server: Server,
        instance: String,
        ids: Vec<String>,
    },
    Release {
        #[serde(default)]
        server: Server,
        instance: String,
        ids: Vec<String>,
    },
    Delete {
        #[serde(default)]
        server: Server,
        instance: String,
        ids: Vec<String>,
    },
    /// Whom the messages on hold are from and for, those with the smallest ids first, as many as an answer takes.
    Envelopes {
        server: Server,
        instance: String,
        /// Only ids behind this one.
        after: Option<String>,
    },
    /// Who handed over the message that comes in with this id: by its file, else by the file that pickup(8) has open.
    Identify { instance: String, id: String },
    /// Who handed in these messages, wherever in the queue they are: by their files.
    Handed { instance: String, ids: Vec<String> },
    /// How many files each queue has; of Exim, how many messages.
    Count {
        #[serde(default)]
        server: Server,
        instance: String,
    },
    /// The ids in one queue.
    List { instance: String, queue: String },
    /// How many bytes the files of these messages on hold have; of Exim, of these in the queue.
    Sizes {
        #[serde(default)]
        server: Server,
        instance: String,
        ids: Vec<String>,
    },
    /// Have the put-off messages looked at.
    Kick { instance: String },
    /// The gate's listening socket; it stays open as long as this connection, and for a while after it.
    Gate { instance: String },
}

impl Request {
    pub fn work(verb: Verb, server: Server, instance: String, ids: Vec<String>) -> Request {
        match verb {
            Verb::Hold => Request::Hold { server, instance, ids },
            Verb::Release => Request::Release { server, instance, ids },
            Verb::Delete => Request::Delete { server, instance, ids },
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    Hello(About),
    /// The server said that it was done for these.
    Done {
        ids: Vec<String>,
        trouble: Option<String>,
    },
    Uid(u32),
    /// Why nobody is named, by its name.
    Unknown(String),
    /// Those whose files say it.
    Handed(Vec<(String, HandedBy)>),
    Counts(Vec<Counted>),
    Ids {
        ids: Vec<String>,
        /// There are more than are listed.
        more: bool,
    },
    Envelopes {
        held: Vec<Held>,
        /// There are more behind these.
        more: bool,
    },
    /// Those that are there.
    Sizes(Vec<(String, u64)>),
    Kicked {},
    /// The socket comes with it.
    Gate {},
    /// Nothing was done.
    Refused(String),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    pub version: String,
    pub instances: Vec<Served>,
    /// Connections of others than root and the agent's user.
    pub refused_peers: u64,
    /// Requests that were not as they must be.
    pub refused_requests: u64,
}

/// A message on hold. Addresses are the senders' words; bytes that are no text are replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    pub id: String,
    pub sender: String,
    pub recipients: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Served {
    #[serde(default)]
    pub server: Server,
    pub name: String,
    pub queue: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    pub queue: String,
    pub files: u64,
    #[serde(default)]
    pub bytes: u64,
    /// Microseconds since 1970.
    pub oldest: Option<i64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_request_fits() {
        let ids = vec!["x".repeat(crate::mail::QueueId::MAX); MOST_IDS];
        let request = Request::work(Verb::Release, Server::Exim, "postfix-".repeat(16), ids);
        let text = serde_json::to_vec(&request).unwrap();
        assert!(text.len() < MOST_REQUEST / 2, "{}", text.len());
        assert_eq!(serde_json::from_slice::<Request>(&text).unwrap(), request);
    }

    #[test]
    fn what_is_not_known_is_no_request() {
        for text in [
            r#"{"run":{"argv":["sh"]}}"#,
            r#"{"hold":{"instance":"mx","ids":[],"queue":"/etc"}}"#,
            r#"{"hold":{"instance":"mx"}}"#,
            r#"{"hold":{"instance":"mx","ids":"ALL"}}"#,
            r#""hello""#,
            "[]",
        ] {
            assert!(serde_json::from_str::<Request>(text).is_err(), "{text}");
        }
        assert_eq!(serde_json::from_str::<Request>(r#"{"hello":{}}"#).unwrap(), Request::Hello {});
    }
}
