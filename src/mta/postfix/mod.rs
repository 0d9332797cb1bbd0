//! Postfix, versions 2.3 to 3.11: its log lines become events.
//!
//! It never keeps a message, never allocates for a line, and never believes the words of a stranger: where text from
//! senders and receivers stands between the server's own fields, the comments in the files below say how the fields
//! are told from the text. See [`Postfix`].

mod action;
mod arrival;
mod delivery;
pub mod listing;
mod log;
pub mod milter;
pub mod plan;
pub mod queue;
mod scan;
mod script;
pub mod setup;
mod tag;

#[cfg(test)]
mod forgery_tests;
#[cfg(test)]
mod shape_tests;
#[cfg(test)]
mod written_tests;

use super::syslog::{self, Heads, Line, Stamps};
use super::{Mta, Read, Unknown};
use crate::mail::{Event, Head, Server, Time};
use tag::{Daemon, Tag};

/// A tag of this server with a daemon nobody knows.
pub const WHY_DAEMON: &str = "daemon";
/// A known daemon's text about a queue id, in no known shape.
pub const WHY_SHAPE: &str = "shape";
/// A known daemon's text about no queue id, in no known shape.
pub const WHY_TEXT: &str = "text";
/// The syslog daemon folded several equal lines into one, so events are missing.
pub const WHY_REPEATED: &str = "repeated";

/// Every reason an [`Unknown`] of this dialect can have.
pub const WHYS: [&str; 6] = [syslog::WHY_HEAD, syslog::WHY_STAMP, WHY_DAEMON, WHY_SHAPE, WHY_TEXT, WHY_REPEATED];

/// Reads the log of one Postfix source, in order.
#[derive(Debug, Clone)]
pub struct Postfix {
    heads: Heads,
}

impl Postfix {
    pub fn new(stamps: Stamps) -> Postfix {
        Postfix { heads: Heads::new(stamps) }
    }

    /// The time of last change of the file that is read: bounds the year of stamps without one. An older file than the
    /// stamps so far starts afresh.
    pub fn set_reference(&mut self, reference: Time) {
        self.heads.set_reference(reference);
    }
}

/// What a line without a tag says: at most that others are missing.
pub(super) fn untagged<'a>(line: &Line<'a>) -> Read<'a> {
    match line.text.starts_with(b"last message repeated ") {
        true => Read::Unknown(Unknown { daemon: &[], why: WHY_REPEATED }),
        false => Read::Foreign,
    }
}

/// The tag, if it is this server's.
#[inline]
pub(super) fn whose(tag: &[u8]) -> Option<Tag<'_>> {
    Some(tag::read(tag)).filter(|tag| tag.daemon != Daemon::Foreign)
}

/// What the text of a line says under a tag of this server's.
#[inline]
pub(super) fn text<'a>(tag: &Tag<'a>, line: &Line<'a>) -> Read<'a> {
    let unknown = |why| Read::Unknown(Unknown { daemon: tag.name, why });
    match tag.daemon {
        Daemon::Foreign => Read::Foreign,
        Daemon::Unknown => unknown(WHY_DAEMON),
        // rsyslog cuts the daemon off the program name, unless parser.permitSlashInProgramName is on.
        Daemon::Quiet if tag.name == b"postfix" && log::names_a_message(line.text) => unknown(WHY_DAEMON),
        Daemon::Quiet => Read::Noise,
        daemon => match log::read(daemon, line.text) {
            Ok(Some(kind)) => {
                let head = Head {
                    at: line.at,
                    host: line.host,
                    server: Server::Postfix,
                    instance: tag.instance,
                    pid: line.pid,
                    owns_queue: daemon.owns_queue(),
                };
                Read::Event(Event { head, kind })
            }
            Ok(None) => Read::Noise,
            Err(why) => unknown(why),
        },
    }
}

/// Marks the layout of what `save` gives.
const SAVED: u8 = 1;

impl Mta for Postfix {
    #[inline]
    fn read<'a>(&'a mut self, line: &'a [u8]) -> Read<'a> {
        match self.heads.read(line) {
            Ok(line) if line.tag.is_empty() => untagged(&line),
            Ok(line) => whose(line.tag).map_or(Read::Foreign, |tag| text(&tag, &line)),
            Err(why) => Read::Unknown(Unknown { daemon: &[], why }),
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
