//! What the truth needs of a mail server, whichever it is.
use super::sink::{Received, Sink};

/// A message in the queue.
#[derive(Debug, Clone)]
pub struct Queued {
    pub id: String,
    /// `hold`, `deferred`, or another name while it is under way.
    pub queue: String,
    /// The recipients that are open.
    pub recipients: Vec<String>,
}

pub trait MailServer {
    /// The sinks that it delivers to.
    fn receivers(&self) -> [&Sink; 4];

    /// How much is being received or delivered at this moment.
    fn under_way(&self) -> usize;

    fn queue(&self) -> Vec<Queued>;

    /// What it delivered to a mailbox of the host.
    fn mailbox(&self) -> Vec<Received> {
        Vec::new()
    }
}
