//! Which script made which message: claims that name no message are joined with the message they belong to.
//!
//! Missing is fine, wrong is not: where two messages could be meant, neither gets the claim. A claim never decides
//! whose a message is. Everything here is bounded; what is waited for too long is dropped. See [`Scripts`].

mod calls;
mod commands;
mod shelf;

#[cfg(test)]
mod tests;

use crate::engine::codec::{Reader, Writer};
use crate::mail::{QueueId, Script, ScriptClaim, ScriptSource, Time};
use calls::{Call, Calls};
use commands::{Command, Commands, Lane, Place};
use shelf::Shelf;

/// Most lines of access rules that wait for the arrival of the message they name.
const MOST_RULES: usize = 1_024;
/// An access rule speaks moments before the message has arrived.
const RULE_SECS: i64 = 600;

/// Claims that wait for their messages.
#[derive(Debug)]
pub struct Scripts {
    commands: Commands,
    rules: Shelf<(Place, QueueId), (Time, ScriptClaim)>,
    calls: Calls,
}

/// Where and when a line was written, and by which process.
#[derive(Debug, Clone, Copy)]
pub struct Spot {
    pub host: u16,
    pub instance: u16,
    /// 0 when the line has none.
    pub pid: u32,
    pub at: Time,
}

impl Scripts {
    pub fn new(keep_rows: bool) -> Scripts {
        Scripts { commands: Commands::new(keep_rows), rules: Shelf::new(keep_rows), calls: Calls::new(keep_rows) }
    }

    /// A claim whose message has not arrived yet.
    pub fn claimed(&mut self, spot: Spot, script: &Script<'_>) {
        let claim = ScriptClaim::new(script.directory, script.path, script.line);
        let place = (spot.host, spot.instance);
        match (script.from, script.id) {
            (ScriptSource::Command { many }, _) => {
                self.commands.begins(place, spot.pid, Command { at: spot.at, many, claim });
            }
            (ScriptSource::Rule, Some(id)) => {
                if self.rules.len() >= MOST_RULES {
                    self.rules.retain(|_, (at, _)| spot.at.secs_since(*at) <= RULE_SECS);
                }
                if self.rules.len() < MOST_RULES {
                    self.rules.put((place, id), (spot.at, claim));
                }
            }
            // A header is logged behind its message's arrival; an interpreter's calls have a way of their own.
            _ => {}
        }
    }

    /// A message has been submitted by a local process: what is claimed of it.
    pub fn submitted(&mut self, spot: Spot, id: QueueId) -> ScriptClaim {
        let mut claim = self.named(spot, id);
        if !self.commands.is_empty()
            && let Some(command) = self.commands.arrived((spot.host, spot.instance), spot.pid, spot.at)
        {
            claim.add(command);
        }
        claim
    }

    /// A message has arrived: what is claimed of its id.
    pub fn named(&mut self, spot: Spot, id: QueueId) -> ScriptClaim {
        if self.rules.len() == 0 {
            return ScriptClaim::default();
        }
        match self.rules.take(((spot.host, spot.instance), id)) {
            Some((at, claim)) if spot.at.secs_since(at) <= RULE_SECS => claim,
            _ => ScriptClaim::default(),
        }
    }

    /// An interpreter logged a call; `recipients` are hashes of those the script gave.
    pub fn called(&mut self, at: Time, script: &Script<'_>, recipients: Vec<u64>) {
        let claim = ScriptClaim::new(script.directory, script.path, script.line);
        self.calls.called(Call { at, claim, recipients, used: false });
    }

    /// True when an interpreter's log is read.
    pub fn hears_calls(&self) -> bool {
        !self.calls.is_empty()
    }

    /// A message of this user has arrived.
    pub fn user_submitted(&mut self, uid: u32, at: Time) {
        if self.hears_calls() {
            self.calls.arrived(uid, at);
        }
    }

    /// What the call that made a message said, if it is sure which one that was: see [`calls`].
    pub fn made_by(
        &mut self,
        uid: u32,
        at: Time,
        recipients: &[u64],
        is_theirs: impl Fn(&[u8]) -> bool,
    ) -> Option<ScriptClaim> {
        self.calls.made(uid, at, recipients, is_theirs)
    }

    /// Drops all that waits: an account is forgotten, and paths are its words.
    pub fn clear(&mut self) {
        self.commands.by_pid.retain(|_, _| false);
        self.commands.lanes.retain(|_, _| false);
        self.rules.retain(|_, _| false);
        self.calls.list.retain(|_, _| false);
        self.calls.arrivals.retain(|_, _| false);
    }

    /// Rows that changed since the last call.
    pub fn take_rows(&mut self, mut each: impl FnMut(Vec<u8>, Option<Vec<u8>>)) {
        self.commands.by_pid.take_rows(|((host, instance), pid), command| {
            let mut key = key(PROCESS, host, instance);
            key.u32(pid);
            each(key.bytes, command.map(|command| written(|out| command.save(out))));
        });
        self.commands.lanes.take_rows(|(host, instance), lane| {
            each(key(LANE, host, instance).bytes, lane.map(|lane| written(|out| lane.save(out))));
        });
        self.rules.take_rows(|((host, instance), id), rule| {
            let mut key = key(RULE, host, instance);
            key.id(id);
            let value = rule.map(|(at, claim)| {
                written(|out| {
                    out.time(*at);
                    save_claim(claim, out);
                })
            });
            each(key.bytes, value);
        });
        self.calls.list.take_rows(|number, call| {
            let mut key = Writer::default();
            key.u64(CALL).u64(number);
            each(key.bytes, call.map(|call| written(|out| call.save(out))));
        });
        self.calls.arrivals.take_rows(|uid, times| {
            let mut key = Writer::default();
            key.u64(ARRIVALS).u32(uid);
            each(key.bytes, times.map(|times| written(|out| calls::save_times(times, out))));
        });
    }

    /// Takes up one stored row. `None` when it could not be read.
    pub fn restore_row(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        let (mut key, mut saved) = (Reader::new(key), Reader::new(value));
        if saved.u64()? != VERSION {
            return None;
        }
        let kind = key.u64()?;
        let mut place = || Some((key.u32()? as u16, key.u32()? as u16));
        match kind {
            PROCESS => self.commands.by_pid.restore((place()?, key.u32()?), Command::restore(&mut saved)?),
            LANE => self.commands.lanes.restore(place()?, Lane::restore(&mut saved)?),
            RULE => self.rules.restore((place()?, key.id()?), (saved.time()?, restore_claim(&mut saved)?)),
            CALL => self.calls.restore(key.u64()?, Call::restore(&mut saved)?),
            ARRIVALS => self.calls.arrivals.restore(key.u32()?, calls::restore_times(&mut saved)?),
            _ => return None,
        }
        Some(())
    }
}

const VERSION: u64 = 1;
const PROCESS: u64 = 1;
const LANE: u64 = 2;
const RULE: u64 = 3;
const CALL: u64 = 4;
const ARRIVALS: u64 = 5;

fn key(kind: u64, host: u16, instance: u16) -> Writer {
    let mut out = Writer::default();
    out.u64(kind).u32(u32::from(host)).u32(u32::from(instance));
    out
}

fn written(write: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut out = Writer::default();
    out.u64(VERSION);
    write(&mut out);
    out.bytes
}

/// The addresses in the text of a header, as far as they can be told.
pub fn addresses(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let ends = |byte: &u8| byte.is_ascii_whitespace() || b",;<>()\"".contains(byte);
    text.split(ends).filter(|word| word.len() > 2 && word.contains(&b'@')).take(calls::MOST_RECIPIENTS)
}

/// A claim in a row of open state.
pub fn save_claim(claim: &ScriptClaim, out: &mut Writer) {
    out.bytes(&claim.path).u32(claim.line).bytes(&claim.directory);
}

pub fn restore_claim(saved: &mut Reader<'_>) -> Option<ScriptClaim> {
    Some(ScriptClaim { path: saved.bytes()?.into(), line: saved.u32()?, directory: saved.bytes()?.into() })
}
