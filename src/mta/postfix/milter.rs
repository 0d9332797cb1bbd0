//! The server's side of the gate: a milter conversation becomes candidates, judgements become replies.
//!
//! Pure: bytes in, bytes out, one [`Session`] per connection. It never sees a header or a body (those steps are left
//! out), never decides, and never answers before it is told what. See Postfix's MILTER_README, "Workarounds" for what
//! the server says when: the queue id is known at the end of a message, the login from the sender on.

pub mod wire;

#[cfg(test)]
mod tests;

use core::hash::BuildHasher;
use core::net::IpAddr;

use crate::mail::{Candidate, Judgement, QueueId, Way};
use wire::{Malformed, Options, Reply, Request, steps};

/// The newest version of the protocol that is spoken here, and the only one that older servers lack nothing of.
const VERSION: u32 = 6;
/// The oldest one that knows how to hold (`SMFI_VERSION_2`).
const OLDEST: u32 = 2;
/// What we would rather not be told, or not answer. Recipients are counted, so they must come; measured on 3.7: every
/// one is shown, whatever the way in.
const WANTED: u32 = steps::NO_HELO
    | steps::NO_BODY
    | steps::NO_HEADERS
    | steps::NO_END_OF_HEADERS
    | steps::NO_UNKNOWN
    | steps::NO_DATA
    | steps::QUIET_CONNECT
    | steps::QUIET_MAIL
    | steps::QUIET_RECIPIENTS;

/// What we want to be told of a connection, in place of `milter_connect_macros`, which lacks the server's port: both ends
/// of a connection name one socket (Postfix's src/milter/milter8.c, "SMFIM_CONNECT"; its filters each have their own list).
const CONNECT_MACROS: &str = "{daemon_addr} {daemon_port}";

/// Longest login, sender and recipient kept, in bytes.
const MAX_TEXT: usize = 512;
/// Most recipients of a message that are told apart; those beyond it count each.
const MOST_TOLD_APART: usize = 100_000;
/// Most bytes of recipients kept of a message: some 500 of them.
const MAX_RECIPIENTS: usize = 16 * 1024;

/// What the listener does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Read on.
    Read,
    /// A client has connected: [`Session::candidate`] has its way.
    Connected,
    /// A message is complete: judge [`Session::candidate`] and [`Session::answer`].
    Judge,
    /// The conversation is over.
    Close,
}

/// Why a conversation cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    #[error("{0}")]
    Malformed(#[from] Malformed),
    #[error("the server speaks version {0} of the milter protocol; holding needs {OLDEST} or later")]
    Version(u32),
    #[error("the server offers no way to hold mail ({0})")]
    Actions(Options),
    #[error("the server began without agreeing on the protocol")]
    Unnegotiated,
}

/// One connection of the server.
#[derive(Debug, Clone, Default)]
pub struct Session {
    agreed: Option<Options>,
    way: Way,
    /// The server's end of the connection, as far as it was told.
    server: (Option<IpAddr>, Option<u16>),
    message: Candidate,
    /// Hashes of its recipients: the server delivers to none twice.
    recipients: Vec<u64>,
    /// Somebody wants to know whom the messages are for.
    wants_recipients: bool,
}

impl Session {
    /// Whether the addresses of recipients are kept, and not only counted, until the next client connects.
    pub fn keep_recipients(&mut self, wanted: bool) {
        self.wants_recipients = wanted;
    }

    /// Takes one frame (see [`wire::frame`]) and appends what is to be written at once.
    pub fn take(&mut self, frame: &[u8], out: &mut Vec<u8>) -> Result<Next, Broken> {
        let request = wire::read(frame)?;
        if let Request::Negotiate(offer) = request {
            let agreed = agree(offer)?;
            self.agreed = Some(agreed);
            let macros = (agreed.actions & wire::SET_MACROS != 0).then_some(CONNECT_MACROS);
            Reply::Negotiate(agreed, macros).write(out);
            return Ok(Next::Read);
        }
        let agreed = self.agreed.ok_or(Broken::Unnegotiated)?;
        let next = if matches!(request, Request::Connect(_)) { Next::Connected } else { Next::Read };
        let quiet = match request {
            Request::Macros(data) => {
                self.learn(data);
                return Ok(Next::Read);
            }
            Request::Connect(from) => {
                // A message that a local process hands over shows as a client on loopback without a port (pickup(8)).
                self.way = match from {
                    Some((address, 0)) if address.is_loopback() => Way::Handed,
                    Some((address, port)) => {
                        let server = self.server.0.zip(self.server.1);
                        Way::Smtp { address, port, server }
                    }
                    None => Way::Unknown,
                };
                self.forget();
                self.wants_recipients = false;
                steps::QUIET_CONNECT
            }
            Request::Mail(sender) => {
                self.message.sender = kept(bare(sender));
                self.message.recipients = 0;
                self.recipients.clear();
                self.message.to.clear();
                steps::QUIET_MAIL
            }
            Request::Recipient(address) => {
                if self.recipients.len() < MOST_TOLD_APART {
                    // Without regard to case, as the server does. Two that are taken for one are told apart by its log.
                    let folded = bare(address).to_ascii_lowercase();
                    self.recipients.push(foldhash::quality::FixedState::default().hash_one(folded));
                } else {
                    self.message.recipients = self.message.recipients.saturating_add(1);
                }
                if self.wants_recipients {
                    self.keep(address);
                }
                steps::QUIET_RECIPIENTS
            }
            Request::EndOfMessage => return Ok(Next::Judge),
            Request::Abort => {
                self.forget();
                return Ok(Next::Read);
            }
            Request::QuitConnection => {
                (self.way, self.server) = Default::default();
                self.forget();
                return Ok(Next::Read);
            }
            Request::Quit => return Ok(Next::Close),
            // Only of servers that cannot leave these out.
            Request::Helo => steps::QUIET_HELO,
            Request::Data => steps::QUIET_DATA,
            Request::Header => steps::QUIET_HEADERS,
            Request::EndOfHeaders => steps::QUIET_END_OF_HEADERS,
            Request::Body => steps::QUIET_BODY,
            Request::Unknown => steps::QUIET_UNKNOWN,
            Request::Negotiate(_) => return Err(Broken::Unnegotiated),
        };
        if agreed.steps & quiet == 0 {
            Reply::Continue.write(out);
        }
        Ok(next)
    }

    /// The message that waits for its judgement.
    pub fn candidate(&self) -> Candidate {
        let mut apart = self.recipients.clone();
        apart.sort_unstable();
        apart.dedup();
        let recipients = self.message.recipients.saturating_add(u32::try_from(apart.len()).unwrap_or(u32::MAX));
        Candidate { way: self.way, recipients, ..self.message.clone() }
    }

    /// The answer to [`Next::Judge`]; the next message may follow.
    pub fn answer(&mut self, judgement: &Judgement, out: &mut Vec<u8>) {
        match judgement {
            Judgement::Pass => Reply::Accept.write(out),
            Judgement::Hold { reason } => {
                Reply::Quarantine(reason).write(out);
                Reply::Accept.write(out);
            }
            Judgement::Refuse { text } | Judgement::Later { text } => Reply::Refuse(text).write(out),
            Judgement::Discard => Reply::Discard.write(out),
        }
        self.forget();
    }

    /// The next message may follow.
    fn forget(&mut self) {
        self.message = Candidate::default();
        self.recipients.clear();
    }

    fn keep(&mut self, recipient: &[u8]) {
        let (address, to) = (kept(bare(recipient)), &mut self.message.to);
        if to.len() + address.len() < MAX_RECIPIENTS {
            to.extend_from_slice(&address);
            to.push(0);
        }
    }

    fn learn(&mut self, data: &[u8]) {
        for (name, value) in wire::pairs(data) {
            match name {
                b"i" | b"{i}" => self.message.id = QueueId::new(value),
                b"{auth_authen}" => self.message.login = Some(kept(value)).filter(|login| !login.is_empty()),
                b"{daemon_addr}" => self.server.0 = wire::address(value),
                b"{daemon_port}" => self.server.1 = str::from_utf8(value).ok().and_then(|port| port.parse().ok()),
                _ => {}
            }
        }
    }
}

/// The common ground with what the server offers.
fn agree(offer: Options) -> Result<Options, Broken> {
    if offer.version < OLDEST {
        return Err(Broken::Version(offer.version));
    }
    if offer.actions & wire::QUARANTINE == 0 {
        return Err(Broken::Actions(offer));
    }
    let actions = wire::QUARANTINE | offer.actions & wire::SET_MACROS;
    Ok(Options { version: offer.version.min(VERSION), actions, steps: offer.steps & WANTED })
}

/// Over SMTP an address comes in angle brackets, from pickup(8) without.
fn bare(address: &[u8]) -> &[u8] {
    address.strip_prefix(b"<").and_then(|rest| rest.strip_suffix(b">")).unwrap_or(address)
}

fn kept(text: &[u8]) -> Box<[u8]> {
    text.get(..MAX_TEXT).unwrap_or(text).into()
}
