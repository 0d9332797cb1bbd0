//! The dialects of mail servers, both ways: log bytes become events, orders become steps. Pure.
//!
//! A dialect never keeps a message: what spans lines is the tracker's business (`engine`).
//! It only keeps what a *line* needs from earlier lines (the year of a stamp, the beginning of a text that came in
//! parts), and can save and restore that.

pub mod any;
pub mod exim;
mod near;
pub mod php;
pub mod postfix;
pub mod syslog;

use crate::mail::Event;

/// What one line was.
#[derive(Debug, Clone, Copy, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "a line allocates nothing")]
pub enum Read<'a> {
    /// The line says something about a message.
    Event(Event<'a>),
    /// Part of a text whose other parts are in other lines: the one that completes it says what it was.
    Pending,
    /// Understood, and of no interest.
    Noise,
    /// Of another program that shares the file.
    Foreign,
    /// A line of this server that does not have a known shape.
    Unknown(Unknown<'a>),
}

/// A line that was not understood: by which daemon, and what was wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unknown<'a> {
    /// Last component of the tag, raw bytes.
    pub daemon: &'a [u8],
    /// A closed set of reasons: it is a metric label.
    pub why: &'static str,
}

/// A part of a text whose other parts are missing.
pub const WHY_CHUNKS: &str = "chunks";

/// A mail server's log, read line by line.
pub trait Mta {
    /// Reads one line (without its newline). Never fails: what it cannot read is `Unknown`. What it says borrows from
    /// the line, or from the dialect, where a text came in several lines.
    fn read<'a>(&'a mut self, line: &'a [u8]) -> Read<'a>;

    /// As `read`, of a line that says all by itself, so that many can be read before one is thought about. `None`: it may
    /// need what came before, and nothing has been done: to be read by `read`, in its turn.
    fn read_alone<'a>(&mut self, _line: &'a [u8]) -> Option<Read<'a>> {
        None
    }

    /// How many lines were pending for a text that will not come whole, since the last call.
    fn take_lost(&mut self) -> u64 {
        0
    }

    /// There will be no more lines: nothing is waited for any longer.
    fn finish(&mut self) {}

    /// What is pending between lines, to be stored beside the source's position.
    fn save(&self) -> Vec<u8>;

    /// Takes up what `save` gave; anything else is ignored.
    fn restore(&mut self, saved: &[u8]);
}
