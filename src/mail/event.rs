//! Events: what one log line says, in words common to all mail servers. Events borrow from the line.
//!
//! Text fields are raw bytes of the log: hostile, of any content. They are cleaned (`mail::text`) when kept or shown.

use super::{AddressList, Dsn, EndedList, QueueId, Script, Server, Time};

/// One event of one log line.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Event<'a> {
    pub head: Head<'a>,
    pub kind: Kind<'a>,
}

/// Where and when the line was written.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Head<'a> {
    pub at: Time,
    /// Host name in the line; empty when the line has none.
    pub host: &'a [u8],
    pub server: Server,
    /// Mail server instance: the first component of the tag.
    pub instance: &'a [u8],
    /// Process id, 0 when the line has none.
    pub pid: u32,
    /// The writer owns the queue of `instance`. Other writers (SMTP services with a `syslog_name` of their own)
    /// may carry an instance that has no queue; their messages are joined by queue id.
    pub owns_queue: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind<'a> {
    /// Submitted by a local user (sendmail(1)); with `requeued_from`, an administrator's requeue of an older id.
    Submitted { id: QueueId, uid: u32, sender: &'a [u8], requeued_from: Option<QueueId> },
    /// Accepted over SMTP. `address` is the client's address as text; `login` the authenticated name;
    /// `hop_of` the queue id that this message had before it went through a content filter.
    Received { id: QueueId, client: &'a [u8], address: &'a [u8], login: Option<&'a [u8]>, hop_of: Option<QueueId> },
    /// Accepted, with all that is known of it, in one line.
    Accepted(Accepted<'a>),
    /// The Message-ID header; empty when the message has none.
    Identified { id: QueueId, message_id: &'a [u8] },
    /// Taken up for delivery, on every retry again. `recipients` is the number of the whole message, those
    /// that have ended included.
    Activated { id: QueueId, sender: &'a [u8], size: u64, recipients: u32 },
    /// One delivery attempt for one recipient.
    Attempt(Attempt<'a>),
    /// The same, made while the message was being accepted: the line of its acceptance is still to come.
    Early(Attempt<'a>),
    /// An administrator added a recipient to a message in the queue.
    Added { id: QueueId, recipient: &'a [u8] },
    /// Given up as a whole, by an administrator or a time limit: what its lines do not say of recipients is deletion.
    GivenUp { id: QueueId },
    /// The server wrote a notification about `id` as the new message `child`.
    Notified { id: QueueId, child: QueueId, notice: Notice },
    /// The message got too old: every recipient still open is given up.
    Expired { id: QueueId },
    /// The message left the queue.
    Ended { id: QueueId, end: End },
    /// Put on hold. Without an id: the message that the same process accepts next.
    Held { id: Option<QueueId>, by: Holder, sender: &'a [u8] },
    /// Our own access rules at the server decided about the message.
    Gated { id: QueueId, ruling: Ruling<'a> },
    /// Back to the queue from hold.
    Released { id: QueueId },
    /// This id ends; the message comes back as a new id that names it.
    Requeued { id: QueueId },
    /// An administrator's command that may have named no ids: only the number is logged.
    Swept { what: Sweep, count: u32 },
    /// A login attempt failed.
    LoginFailed { login: &'a [u8], address: &'a [u8] },
    /// A line that tells which script made a message.
    Script(Script<'a>),
}

impl Kind<'_> {
    /// The message that the line is about, where it names one.
    #[inline]
    pub fn id(&self) -> Option<QueueId> {
        match self {
            Kind::Accepted(accepted) => Some(accepted.id),
            Kind::Attempt(attempt) | Kind::Early(attempt) => Some(attempt.id),
            Kind::Held { id, .. } => *id,
            Kind::Submitted { id, .. }
            | Kind::Received { id, .. }
            | Kind::Identified { id, .. }
            | Kind::Activated { id, .. }
            | Kind::Added { id, .. }
            | Kind::GivenUp { id }
            | Kind::Notified { id, .. }
            | Kind::Expired { id }
            | Kind::Ended { id, .. }
            | Kind::Gated { id, .. }
            | Kind::Released { id }
            | Kind::Requeued { id } => Some(*id),
            Kind::Swept { .. } | Kind::LoginFailed { .. } | Kind::Script(_) => None,
        }
    }
}

/// A message as its server accepted it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Accepted<'a> {
    pub id: QueueId,
    pub by: Submitter<'a>,
    /// Envelope sender; empty is the null sender.
    pub sender: &'a [u8],
    /// The Message-ID header; empty when the message has none, or none is logged.
    pub message_id: &'a [u8],
    /// What this message and its copy behind a content filter have in common: the Message-ID, or what the server
    /// makes one of. Empty when nothing is known to be.
    pub mark: &'a [u8],
    pub size: u64,
    /// The envelope recipients, where the line names them.
    pub recipients: Option<AddressList<'a>>,
    /// The message that this one is a notification about. Only of [`Submitter::Internal`].
    pub notice_of: Option<QueueId>,
}

/// Who handed a message in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Submitter<'a> {
    /// A local user, by login name: the kernel's word.
    User(&'a [u8]),
    /// An authenticated client.
    Login { login: &'a [u8], client: &'a [u8], address: &'a [u8] },
    /// A client without login; `address` is empty when the line is no proof of one.
    Smtp { client: &'a [u8], address: &'a [u8] },
    /// The mail server itself.
    Internal,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Attempt<'a> {
    pub id: QueueId,
    pub recipient: &'a [u8],
    /// Recipient before rewriting; empty when the same.
    pub original: &'a [u8],
    /// The envelope recipient that this one comes from, where the server counts recipients first and expands aliases
    /// later: one that was accepted may end as several. Empty where it expands first.
    pub accepted_as: &'a [u8],
    /// Relay as logged: `host[ip]:port`, `local`, `none`, a service name.
    pub relay: &'a [u8],
    /// The relay's network address as text; empty when it has none.
    pub relay_address: &'a [u8],
    /// Delivered to a mailbox, command or file on this host (not over the network).
    pub local: bool,
    /// Time in the queue so far, in milliseconds.
    pub delay_ms: u64,
    pub dsn: Dsn,
    pub status: Status,
    /// The free text of the line: the receiver's words, or the server's own.
    pub reply: &'a [u8],
    /// Where the message went on inside this host, as the text claims.
    pub next: Option<Next>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Sent,
    Deferred,
    /// Put off again without being tried: its time has not come. No attempt.
    Waiting,
    Bounced,
    /// Given up because it was tried for too long.
    Expired,
    /// Taken off the message by an administrator, without delivery.
    Dropped,
    /// An address probe, never mail.
    Probe,
}

/// A further queue id named by a delivery. Text of the relay: to be believed only with other evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// `queued as ID`: handed to an SMTP relay, perhaps a content filter on this host.
    QueuedAs(QueueId),
    /// Forwarded by the local delivery agent: the server's own word.
    ForwardedAs(QueueId),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    Failure,
    Delay,
    Success,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// All recipients done.
    Done,
    /// Removed from the queue by an administrator.
    Deleted,
    /// The client went away before the end of the message.
    Cancelled,
    /// Thrown away on purpose, by a rule of the server.
    Discarded,
    /// Refused at the end of the message: it never was in the queue.
    Rejected,
}

/// What our own access rules at the server did with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ruling<'a> {
    /// Put on hold while it is being accepted; the line of its acceptance, which says whose it is, is still to come.
    Held,
    /// The same, as the gate answered. Whose it is only the gate knows, and what it did is counted there.
    AsAnswered,
    /// Kept from a delivery, which is no attempt; it waits in the queue.
    KeptBack,
    /// Not accepted from this sender: nothing of a login is held.
    Refused(Submitter<'a>),
    /// Not accepted, because no more of this sender is held.
    TooMany(Submitter<'a>),
    /// Accepted and thrown away, for the same reason.
    Discarded(Thrown<'a>),
}

/// A message that was thrown away: nobody but this line knows whom it was for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thrown<'a> {
    pub by: Submitter<'a>,
    /// Envelope recipients; 0 where it is not told.
    pub recipients: u32,
    /// The sender, and as many of the recipients as the line has room for.
    pub envelope: EndedList<'a>,
}

/// Who put a message on hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holder {
    Admin,
    Milter,
    /// Access tables, header checks, policy services, filters.
    Rule,
    /// The server itself: it cannot be delivered, and there is nobody to tell.
    Server,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sweep {
    Deleted,
    Held,
    Released,
    Requeued,
    Expired,
}
