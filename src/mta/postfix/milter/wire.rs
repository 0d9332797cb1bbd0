//! The milter protocol on the wire: frames in, frames out.
//!
//! Shapes from libmilter's `mfdef.h` and Postfix's `src/milter/milter8.c`: a length in network order, then a command
//! byte and its data, which are strings that end in NUL. Nothing is remembered here, and nothing is trusted: a frame
//! that is not what its command byte promises is [`Malformed`].

use core::net::IpAddr;
use std::fmt;

/// Longest frame taken, in bytes. Only what a server sends unasked comes near it: a piece of a body has 65,535, a header
/// at most Postfix's `header_size_limit` (102,400).
pub const MAX_FRAME: usize = 256 * 1024;

/// The action that holding needs (`SMFIF_QUARANTINE`).
pub const QUARANTINE: u32 = 0x20;

/// The right to say which macros are wanted (`SMFIF_SETSYMLIST`).
pub const SET_MACROS: u32 = 0x100;

/// The stage of the macros that come with a connection (`SMFIM_CONNECT`).
const STAGE_CONNECT: u32 = 0;

/// Steps of the protocol that are left out (`SMFIP_NO…`) or go without an answer (`SMFIP_NR_…`).
pub mod steps {
    pub const NO_CONNECT: u32 = 0x1;
    pub const NO_HELO: u32 = 0x2;
    pub const NO_MAIL: u32 = 0x4;
    pub const NO_RECIPIENTS: u32 = 0x8;
    pub const NO_BODY: u32 = 0x10;
    pub const NO_HEADERS: u32 = 0x20;
    pub const NO_END_OF_HEADERS: u32 = 0x40;
    pub const QUIET_HEADERS: u32 = 0x80;
    pub const NO_UNKNOWN: u32 = 0x100;
    pub const NO_DATA: u32 = 0x200;
    pub const QUIET_CONNECT: u32 = 0x1000;
    pub const QUIET_HELO: u32 = 0x2000;
    pub const QUIET_MAIL: u32 = 0x4000;
    pub const QUIET_RECIPIENTS: u32 = 0x8000;
    pub const QUIET_DATA: u32 = 0x1_0000;
    pub const QUIET_UNKNOWN: u32 = 0x2_0000;
    pub const QUIET_END_OF_HEADERS: u32 = 0x4_0000;
    pub const QUIET_BODY: u32 = 0x8_0000;
}

/// What the server offers or we ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    pub version: u32,
    pub actions: u32,
    pub steps: u32,
}

/// One frame of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request<'a> {
    Negotiate(Options),
    /// Names and values, as they stand: walk them with [`pairs`].
    Macros(&'a [u8]),
    /// `None`: not over the network, or an address that is none.
    Connect(Option<(IpAddr, u16)>),
    Helo,
    /// Sender as given, with or without angle brackets.
    Mail(&'a [u8]),
    Recipient(&'a [u8]),
    Data,
    Header,
    EndOfHeaders,
    Body,
    EndOfMessage,
    Unknown,
    /// The message is over without an end; the connection goes on.
    Abort,
    /// The connection is over, and the next one comes over the same socket.
    QuitConnection,
    Quit,
}

/// A frame that cannot be understood: the conversation is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("a frame of {0} bytes; none has more than {MAX_FRAME}")]
    TooLong(usize),
    #[error("a frame without a command")]
    Empty,
    #[error("a frame with the unknown command {:?}", char::from(*.0))]
    Command(u8),
    #[error("a frame {:?} that ends too early", char::from(*.0))]
    Short(u8),
}

/// Splits the first frame off `bytes`: its command and data, and how many bytes it took. `None`: more must be read.
pub fn frame(bytes: &[u8]) -> Result<Option<(&[u8], usize)>, Malformed> {
    let Some((head, rest)) = bytes.split_first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_be_bytes(*head) as usize;
    if length == 0 {
        return Err(Malformed::Empty);
    }
    if length > MAX_FRAME {
        return Err(Malformed::TooLong(length));
    }
    Ok(rest.get(..length).map(|frame| (frame, 4 + length)))
}

/// Reads a frame without its length.
pub fn read(frame: &[u8]) -> Result<Request<'_>, Malformed> {
    let (&command, data) = frame.split_first().ok_or(Malformed::Empty)?;
    Ok(match command {
        b'O' => Request::Negotiate(options(data).ok_or(Malformed::Short(command))?),
        b'D' => Request::Macros(data.get(1..).ok_or(Malformed::Short(command))?),
        b'C' => Request::Connect(connect(data).ok_or(Malformed::Short(command))?),
        b'H' => Request::Helo,
        b'M' => Request::Mail(string(data).ok_or(Malformed::Short(command))?.0),
        b'R' => Request::Recipient(string(data).ok_or(Malformed::Short(command))?.0),
        b'T' => Request::Data,
        b'L' => Request::Header,
        b'N' => Request::EndOfHeaders,
        b'B' => Request::Body,
        b'E' => Request::EndOfMessage,
        b'U' => Request::Unknown,
        b'A' => Request::Abort,
        b'K' => Request::QuitConnection,
        b'Q' => Request::Quit,
        other => return Err(Malformed::Command(other)),
    })
}

/// The names and values of a frame of macros; what is no pair ends them.
pub fn pairs(data: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut rest = data;
    std::iter::from_fn(move || {
        let (name, after) = string(rest)?;
        let (value, after) = string(after)?;
        rest = after;
        Some((name, value))
    })
}

fn options(data: &[u8]) -> Option<Options> {
    let (version, rest) = number(data)?;
    let (actions, rest) = number(rest)?;
    let (steps, _) = number(rest)?;
    Some(Options { version, actions, steps })
}

fn number(data: &[u8]) -> Option<(u32, &[u8])> {
    data.split_first_chunk::<4>().map(|(bytes, rest)| (u32::from_be_bytes(*bytes), rest))
}

/// A string and what follows its NUL.
fn string(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr::memchr(0, data)?;
    Some((data.get(..end)?, data.get(end + 1..)?))
}

/// Host name, family, port, address (`milter8_conn_event`).
fn connect(data: &[u8]) -> Option<Option<(IpAddr, u16)>> {
    let (_, rest) = string(data)?;
    let (&family, rest) = rest.split_first()?;
    if family == b'U' {
        return Some(None);
    }
    let (port, rest) = rest.split_first_chunk::<2>()?;
    let (address, _) = string(rest)?;
    let address = self::address(address).filter(|_| matches!(family, b'4' | b'6'));
    Some(address.map(|address| (address, u16::from_be_bytes(*port))))
}

/// An address as servers write it: one of IPv6 with `IPv6:` before it by Sendmail's own convention, and by Postfix for
/// Sendmail's filters.
pub fn address(text: &[u8]) -> Option<IpAddr> {
    let text = str::from_utf8(text).ok()?;
    text.strip_prefix("IPv6:").unwrap_or(text).parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

/// What we answer. Only the actions that holding needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply<'a> {
    /// And the macros that are wanted with a connection, where they may be chosen.
    Negotiate(Options, Option<&'a str>),
    Continue,
    Accept,
    /// Hold the message; the reason stands in the server's log. An [`Reply::Accept`] must follow.
    Quarantine(&'a str),
    /// A whole SMTP reply: `550 5.7.1 text`.
    Refuse(&'a str),
    /// Take the message and throw it away (`SMFIR_DISCARD`).
    Discard,
}

impl Reply<'_> {
    /// Appends the frame.
    pub fn write(&self, out: &mut Vec<u8>) {
        match *self {
            Reply::Negotiate(options, macros) => {
                let mut data = [options.version, options.actions, options.steps].map(u32::to_be_bytes).concat();
                if let Some(macros) = macros {
                    data.extend(STAGE_CONNECT.to_be_bytes());
                    data.extend(macros.as_bytes());
                    data.push(0);
                }
                put(out, b'O', &data);
            }
            Reply::Continue => put(out, b'c', &[]),
            Reply::Accept => put(out, b'a', &[]),
            Reply::Quarantine(reason) => put(out, b'q', &text(reason)),
            Reply::Refuse(reply) => put(out, b'y', &text(reply)),
            Reply::Discard => put(out, b'd', &[]),
        }
    }
}

/// One line that ends in NUL. A percent sign would have to be doubled (`xxfi` replies are formats to Sendmail), and
/// stands in none of ours.
fn text(text: &str) -> Vec<u8> {
    let plain = |c: &char| !c.is_control() && *c != '%';
    let mut bytes: Vec<u8> = text.chars().filter(plain).take(400).collect::<String>().into_bytes();
    bytes.push(0);
    bytes
}

fn put(out: &mut Vec<u8>, command: u8, data: &[u8]) {
    out.extend((data.len() as u32 + 1).to_be_bytes());
    out.push(command);
    out.extend(data);
}

impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "version {}, actions {:#x}, steps {:#x}", self.version, self.actions, self.steps)
    }
}
