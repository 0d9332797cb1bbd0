//! A message at the gate: accepted to its end, not queued yet, and what is answered.
//!
//! Holds what the mail server said and nothing else; whose message it is, and what follows, is decided elsewhere.

use super::QueueId;
use core::net::IpAddr;

/// What the mail server says of a message that it asks about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Candidate {
    /// `None` when the server did not say it: nothing can be looked up for it.
    pub id: Option<QueueId>,
    pub way: Way,
    /// Of a process that handed it over, where the server says it.
    pub uid: Option<u32>,
    /// The authenticated login, as the server spells it.
    pub login: Option<Box<[u8]>>,
    /// Envelope sender without angle brackets; empty for the null sender.
    pub sender: Box<[u8]>,
    /// Envelope recipients that the server has accepted, each once.
    pub recipients: u32,
    /// Their addresses, where they were wanted and as far as they fit: each is ended by a NUL.
    pub to: Vec<u8>,
}

impl Candidate {
    /// The addresses that were kept.
    pub fn addresses(&self) -> impl Iterator<Item = &[u8]> {
        self.to.split(|byte| *byte == 0).filter(|address| !address.is_empty())
    }
}

/// How a message came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Way {
    /// Handed over by a process of this host without SMTP: sendmail(1), PHP mail().
    Handed,
    /// Over SMTP, from this address and port, to the server's end of the connection where it is told.
    Smtp { address: IpAddr, port: u16, server: Option<(IpAddr, u16)> },
    #[default]
    Unknown,
}

/// The answer to a candidate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judgement {
    Pass,
    /// Taken and kept; the reason stands in the server's log.
    Hold {
        reason: String,
    },
    /// Refused for good before it is taken. Only over SMTP: what a local process hands over would bounce.
    Refuse {
        text: String,
    },
    /// Not taken now: a client is told to come again, and what a local process hands over stays where it is.
    Later {
        text: String,
    },
    /// Taken and thrown away. What a local process hands over can neither be refused nor kept for later.
    Discard,
}
