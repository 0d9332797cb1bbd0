//! Exim, versions 4.80 to 4.99: its main log becomes events, from a file or behind the head that syslog puts before it.
//!
//! It never keeps a message, never allocates for a line, and never believes the words of a stranger: subjects, HELO
//! names, ident answers, quoted local parts and directory names may look like any field; the comments in the files
//! below say how the fields are told from them. See [`Exim`], and [`read_text`] for lines that came through syslog.

mod action;
mod arrival;
pub mod ask;
mod delivery;
pub mod install;
pub mod layout;
pub mod listing;
mod log;
pub mod plan;
mod scan;
mod script;
pub mod setup;

#[cfg(test)]
mod forgery_tests;
#[cfg(test)]
mod shape_tests;
#[cfg(test)]
mod written_tests;

use super::near;
use super::syslog::{self, Heads, Stamps};
use super::{Mta, Read, Unknown};
use crate::mail::{Event, Head, Server, Time};

/// A text about a message in no known shape.
pub const WHY_SHAPE: &str = "shape";

/// Every reason an [`Unknown`] of this dialect can have.
pub const WHYS: [&str; 2] = [syslog::WHY_STAMP, WHY_SHAPE];

/// The name of the one instance that a host has: the log does not say it.
pub const INSTANCE: &[u8] = b"exim";

/// Reads the main log file of one Exim, in order.
#[derive(Debug, Clone)]
pub struct Exim {
    heads: Heads,
}

impl Exim {
    pub fn new(stamps: Stamps) -> Exim {
        Exim { heads: Heads::new(stamps) }
    }

    /// The time of last change of the file that is read. Stamps have a year, so it only serves hours that occur twice.
    pub fn set_reference(&mut self, reference: Time) {
        self.heads.set_reference(reference);
    }
}

/// Marks the layout of what `save` gives.
const SAVED: u8 = 1;

impl Mta for Exim {
    /// A line without a stamp goes on a text with line breaks (a configuration error, a line longer than the log
    /// buffer): it is nobody's.
    #[inline]
    fn read<'a>(&'a mut self, line: &'a [u8]) -> Read<'a> {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        match self.heads.stamp(line) {
            Ok((at, text)) => at_time(at, &[], 0, text),
            Err(syslog::WHY_STAMP) => Read::Unknown(Unknown { daemon: INSTANCE, why: syslog::WHY_STAMP }),
            Err(_) => Read::Foreign,
        }
    }

    fn save(&self) -> Vec<u8> {
        let mut saved = vec![SAVED];
        if let Some(last) = self.heads.last() {
            saved.extend_from_slice(&last.0.to_le_bytes());
        }
        saved
    }

    fn restore(&mut self, saved: &[u8]) {
        if let Some((&SAVED, last)) = saved.split_first()
            && let Ok(last) = <[u8; 8]>::try_from(last)
        {
            self.heads.set_last(Time(i64::from_le_bytes(last)));
        }
    }
}

/// The text begins with a word as long as an id and a mark of a message's line (`<=`, `=>`, `->`, `>>`, `*>`, `**`, `==`)
/// behind it, where syslog has a tag: it is Exim's own, which most lines show by this alone.
#[inline]
pub fn is_marked(text: &[u8]) -> bool {
    matches!(near::find(b' ', text), Some(at @ (16 | 23))
        if matches!(text.get(at..at + 4), Some([_, b'<' | b'=' | b'-' | b'>' | b'*', b'=' | b'>' | b'*', b' '])))
}

/// Reads the text of a line that came through syslog, which knows the time, the host and the process; a stamp of
/// Exim's own before it (`syslog_timestamp`, on by default) is passed over.
#[inline]
pub fn read_text<'a>(at: Time, host: &'a [u8], pid: u32, text: &'a [u8]) -> Read<'a> {
    at_time(at, host, pid, scan::behind_stamp(text))
}

/// `[PID] ` (selector +pid), then what is said.
#[inline]
fn at_time<'a>(at: Time, host: &'a [u8], pid: u32, text: &'a [u8]) -> Read<'a> {
    let (pid, text) = match scan::bracketed_pid(text) {
        Some((own, rest)) => (own, rest),
        None => (pid, text),
    };
    match log::read(at, text) {
        Ok(Some(kind)) => {
            let head = Head { at, host, server: Server::Exim, instance: INSTANCE, pid, owns_queue: true };
            Read::Event(Event { head, kind })
        }
        Ok(None) => Read::Noise,
        Err(why) => Read::Unknown(Unknown { daemon: INSTANCE, why }),
    }
}
