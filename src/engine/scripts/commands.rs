//! Command lines wait for the arrival line of the message that their process submits.
//!
//! Where lines carry process ids, the id joins them. Where they do not, a command line is joined only when it is the
//! one submission under way: every command line counts as under way until its arrival, or for ten minutes. When two
//! are under way, nobody gets either until as many messages as processes have arrived.

use super::shelf::Shelf;
use crate::engine::codec::{Reader, Writer};
use crate::mail::{ScriptClaim, Time};

/// How long a process may take from its command line to the arrival of its message, in seconds of log time.
const UNDER_WAY_SECS: i64 = 600;
/// Most processes with an id that are waited for.
const MOST: usize = 4_096;
/// Most processes without an id that are under way in one log; beyond it they cannot be told apart for a while.
const MOST_IN_LANE: usize = 64;
/// Most logs without process ids.
const MOST_LANES: usize = 64;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Command {
    pub at: Time,
    pub many: bool,
    pub claim: ScriptClaim,
}

/// Where a line was written: host and instance.
pub(super) type Place = (u16, u16);

/// Submissions under way whose lines carry no process id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Lane {
    waiting: Vec<Command>,
    /// Messages that have arrived since the list was empty, and could not be told whose.
    arrived: u32,
    /// More were under way than are remembered: until then nothing is known.
    blind_until: Time,
}

#[derive(Debug)]
pub(super) struct Commands {
    pub by_pid: Shelf<(Place, u32), Command>,
    pub lanes: Shelf<Place, Lane>,
}

impl Commands {
    pub fn new(keep_rows: bool) -> Commands {
        Commands { by_pid: Shelf::new(keep_rows), lanes: Shelf::new(keep_rows) }
    }

    pub fn is_empty(&self) -> bool {
        self.by_pid.len() == 0 && self.lanes.len() == 0
    }

    pub fn begins(&mut self, place: Place, pid: u32, command: Command) {
        if pid != 0 {
            self.make_room(command.at);
            self.by_pid.put((place, pid), command);
            return;
        }
        if self.lanes.get(place).is_none() {
            if self.lanes.len() >= MOST_LANES {
                return;
            }
            self.lanes.put(place, Lane::default());
        }
        if let Some(lane) = self.lanes.edit(place) {
            lane.begins(command);
        }
    }

    /// The process has submitted a message: what its command line said, if it is sure which one that was.
    pub fn arrived(&mut self, place: Place, pid: u32, at: Time) -> Option<ScriptClaim> {
        if pid == 0 {
            return self.lanes.edit(place)?.arrived(at);
        }
        let key = (place, pid);
        let known = self.by_pid.get(key)?;
        let (fresh, many) = (is_under_way(known, at), known.many);
        if fresh && many {
            let command = self.by_pid.edit(key)?;
            command.at = at;
            return Some(command.claim.clone());
        }
        self.by_pid.take(key).filter(|_| fresh).map(|command| command.claim)
    }

    /// The oldest half goes when there are too many: their messages come without a directory.
    fn make_room(&mut self, now: Time) {
        if self.by_pid.len() < MOST {
            return;
        }
        self.by_pid.retain(|_, command| is_under_way(command, now));
        if self.by_pid.len() < MOST {
            return;
        }
        let mut times: Vec<Time> = self.by_pid.iter().map(|(_, command)| command.at).collect();
        times.sort_unstable();
        let middle = times.get(times.len() / 2).copied().unwrap_or(now);
        self.by_pid.retain(|_, command| command.at > middle);
    }
}

/// Seconds between two lines may be negative by little: writers take the time before they write.
fn is_under_way(command: &Command, now: Time) -> bool {
    (-2..=UNDER_WAY_SECS).contains(&now.secs_since(command.at))
}

impl Lane {
    fn begins(&mut self, command: Command) {
        self.expire(command.at);
        if command.at < self.blind_until {
            return;
        }
        if self.waiting.len() >= MOST_IN_LANE {
            self.waiting.clear();
            (self.arrived, self.blind_until) = (0, command.at.plus_secs(UNDER_WAY_SECS));
            return;
        }
        self.waiting.push(command);
    }

    fn arrived(&mut self, at: Time) -> Option<ScriptClaim> {
        self.expire(at);
        if self.waiting.is_empty() {
            return None;
        }
        let one = match self.waiting.as_slice() {
            [one] if self.arrived == 0 => Some(one.clone()),
            _ => None,
        };
        self.arrived = self.arrived.saturating_add(1);
        let many = self.waiting.iter().any(|command| command.many);
        if let Some(Command { many: true, .. }) = one {
            self.arrived = 0;
        } else if !many && self.arrived as usize >= self.waiting.len() {
            // Each of them has submitted its message.
            self.waiting.clear();
            self.arrived = 0;
        }
        // The lines of one submission are written at once; what took longer is not worth the doubt.
        one.filter(|command| command.at.secs() == at.secs()).map(|command| command.claim)
    }

    /// Processes that submitted nothing for so long will not. Which of several did submit is not known: one arrival
    /// less is taken as explained, so that those left count as under way rather than not.
    fn expire(&mut self, now: Time) {
        let before = self.waiting.len();
        self.waiting.retain(|command| now.secs_since(command.at) <= UNDER_WAY_SECS);
        self.arrived = self.arrived.saturating_sub((before - self.waiting.len()) as u32);
    }

    pub fn save(&self, out: &mut Writer) {
        out.u32(self.arrived).time(self.blind_until).u64(self.waiting.len() as u64);
        for command in &self.waiting {
            command.save(out);
        }
    }

    pub fn restore(saved: &mut Reader<'_>) -> Option<Lane> {
        let mut lane = Lane { arrived: saved.u32()?, blind_until: saved.time()?, waiting: Vec::new() };
        for _ in 0..saved.u64()?.min(MOST_IN_LANE as u64) {
            lane.waiting.push(Command::restore(saved)?);
        }
        Some(lane)
    }
}

impl Command {
    pub fn save(&self, out: &mut Writer) {
        out.time(self.at).u64(u64::from(self.many));
        super::save_claim(&self.claim, out);
    }

    pub fn restore(saved: &mut Reader<'_>) -> Option<Command> {
        Some(Command { at: saved.time()?, many: saved.u64()? != 0, claim: super::restore_claim(saved)? })
    }
}
