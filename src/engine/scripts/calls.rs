//! Calls that a script's interpreter logged wait for the messages they made.
//!
//! A call names no message. It is joined with one of the same user (the script lies in the user's home), of the same
//! moment, to one of the recipients that the script gave. Three doubts leave the message without: calls that fit and
//! name different scripts; more messages of the user than calls, so that some come from elsewhere; more of either
//! than is remembered. A call makes one message.

use super::shelf::Shelf;
use crate::engine::codec::{Reader, Writer};
use crate::mail::{ScriptClaim, Time};

/// How long a message may take from the call to its arrival line, in seconds; both are stamped by the same clock.
const SECS: i64 = 10;
/// Calls are remembered a little longer than the messages they are counted against, which arrive behind them.
const SLACK_SECS: i64 = 2;
/// Stamps of one side may be whole seconds.
const AHEAD_SECS: i64 = 1;
/// Calls of several interpreters are logged in almost the order of their stamps.
const DISORDER_SECS: i64 = 60;

/// Most calls remembered.
const MOST_CALLS: usize = 4_096;
/// Most users whose messages are counted, and most messages of one.
const MOST_USERS: usize = 4_096;
const MOST_MESSAGES: usize = 512;
/// Most recipients of a call that are looked at.
pub(super) const MOST_RECIPIENTS: usize = 16;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Call {
    pub at: Time,
    pub claim: ScriptClaim,
    /// Hashes of the recipients.
    pub recipients: Vec<u64>,
    pub used: bool,
}

#[derive(Debug)]
pub(super) struct Calls {
    /// In the order of the log.
    pub list: Shelf<u64, Call>,
    next: u64,
    /// When messages of a user arrived, oldest first. Only kept once a call has been seen.
    pub arrivals: Shelf<u32, Vec<Time>>,
}

impl Calls {
    pub fn new(keep_rows: bool) -> Calls {
        Calls { list: Shelf::new(keep_rows), next: 0, arrivals: Shelf::new(keep_rows) }
    }

    pub fn is_empty(&self) -> bool {
        self.list.len() == 0
    }

    pub fn called(&mut self, call: Call) {
        if self.list.len() >= MOST_CALLS {
            let oldest = self.list.iter().next().map(|(key, _)| key);
            oldest.and_then(|key| self.list.take(key));
        }
        self.list.put(self.next, call);
        self.next += 1;
    }

    /// A message of the user has arrived.
    pub fn arrived(&mut self, uid: u32, at: Time) {
        if self.arrivals.get(uid).is_none() {
            if self.arrivals.len() >= MOST_USERS {
                let recent = |times: &Vec<Time>| times.last().is_some_and(|last| at.secs_since(*last) <= SECS);
                self.arrivals.retain(|_, times| recent(times));
            }
            if self.arrivals.len() >= MOST_USERS {
                return;
            }
            self.arrivals.put(uid, Vec::new());
        }
        if let Some(times) = self.arrivals.edit(uid) {
            times.retain(|time| at.secs_since(*time) <= SECS + DISORDER_SECS);
            if times.len() >= MOST_MESSAGES {
                times.remove(0);
            }
            times.push(at);
        }
    }

    /// The call that made a message of `uid`, which arrived at `at` and goes to one of `recipients`. `is_theirs` says
    /// whether a script can be this user's.
    pub fn made(
        &mut self,
        uid: u32,
        at: Time,
        recipients: &[u64],
        is_theirs: impl Fn(&[u8]) -> bool,
    ) -> Option<ScriptClaim> {
        let (mut calls, mut fitting): (usize, Option<(u64, &ScriptClaim)>) = (0, None);
        for (key, call) in self.list.iter().rev() {
            let ago = at.secs_since(call.at);
            if ago > SECS + SLACK_SECS + DISORDER_SECS {
                break;
            }
            if !(-AHEAD_SECS..=SECS + SLACK_SECS).contains(&ago) || !is_theirs(&call.claim.path) {
                continue;
            }
            calls += 1;
            if call.used || ago > SECS || !call.recipients.iter().any(|hash| recipients.contains(hash)) {
                continue;
            }
            match fitting {
                Some((_, other)) if *other != call.claim => return None,
                // The earliest is used first.
                _ => fitting = Some((key, &call.claim)),
            }
        }
        let (key, _) = fitting?;
        let times = self.arrivals.get(uid)?;
        let messages = times.iter().filter(|time| (0..=SECS).contains(&at.secs_since(**time))).count();
        let all = times.len() < MOST_MESSAGES || times.first().is_some_and(|first| at.secs_since(*first) > SECS);
        if !times.contains(&at) || !all || messages > calls {
            return None;
        }
        let call = self.list.edit(key)?;
        call.used = true;
        Some(call.claim.clone())
    }

    pub fn restore(&mut self, key: u64, call: Call) {
        self.next = self.next.max(key + 1);
        self.list.restore(key, call);
    }
}

impl Call {
    pub fn save(&self, out: &mut Writer) {
        out.time(self.at).u64(u64::from(self.used));
        super::save_claim(&self.claim, out);
        out.u64(self.recipients.len() as u64);
        for hash in &self.recipients {
            out.u64(*hash);
        }
    }

    pub fn restore(saved: &mut Reader<'_>) -> Option<Call> {
        let (at, used, claim) = (saved.time()?, saved.u64()? != 0, super::restore_claim(saved)?);
        let mut recipients = Vec::new();
        for _ in 0..saved.u64()?.min(MOST_RECIPIENTS as u64) {
            recipients.push(saved.u64()?);
        }
        Some(Call { at, claim, recipients, used })
    }
}

pub(super) fn save_times(times: &[Time], out: &mut Writer) {
    out.u64(times.len() as u64);
    for time in times {
        out.time(*time);
    }
}

pub(super) fn restore_times(saved: &mut Reader<'_>) -> Option<Vec<Time>> {
    let mut times = Vec::new();
    for _ in 0..saved.u64()?.min(MOST_MESSAGES as u64) {
        times.push(saved.time()?);
    }
    Some(times)
}
