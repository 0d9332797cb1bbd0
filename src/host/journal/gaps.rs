//! Entries that were vacuumed while journalctl ran, but before it came to them.
//!
//! journalctl notices deleted files when it has caught up, and then goes on with what is left, silently: one that was
//! stopped, or that we did not read from while the store was down, jumps. The numbers of the entries show the jump
//! (they are part of every cursor, also in systemd 252, which does not tell `__SEQNUM` yet). A jump alone proves
//! nothing: entries may be in files that we may not see. So it is asked whether the entry before the jump is there
//! still. A vacuum takes the oldest first: if that one is there, nothing behind it was taken.
//!
//! It never reads what an entry says, and asks no more often than [`PACE`].

use std::time::{Duration, Instant};

use super::asked::{Asker, Found};
use super::{JournalEvent, Settings};
use crate::host::clock;
use crate::host::follow::wake;
use crate::mail::Time;

/// Between two questions; jumps in the meantime are taken together.
const PACE: Duration = Duration::from_secs(3);

/// Entries that did not come between two that did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Jump {
    /// The cursor of the entry before it.
    pub last: Vec<u8>,
    /// `None`: behind it another numbering begins, so nobody knows.
    pub entries: Option<u64>,
    pub after: Time,
    pub before: Time,
}

impl Jump {
    /// One gap that spans both, `later` being the later one.
    fn join(&mut self, later: &Jump) {
        self.entries = match (self.entries, later.entries) {
            (Some(one), Some(other)) => Some(one.saturating_add(other)),
            (known, other) => known.or(other),
        };
        self.before = later.before;
    }
}

/// Finds out which jumps are gaps.
#[derive(Debug, Default)]
pub(super) struct Gaps {
    asker: Option<Asker>,
    jump: Option<Jump>,
    /// The jump that an answer is awaited for.
    doubtful: Option<Jump>,
    asked: Option<Instant>,
}

impl Gaps {
    pub fn note(&mut self, jump: Jump) {
        match &mut self.jump {
            Some(known) => known.join(&jump),
            None => self.jump = Some(jump),
        }
    }

    /// To be called with every turn; what is a gap is told.
    pub fn watch(&mut self, settings: &Settings, waker: &wake::Handle) -> Option<JournalEvent> {
        let answer = self.asker.as_mut().and_then(Asker::answer);
        let gap = match answer {
            None => None,
            Some(Ok(found)) => self.doubtful.take().and_then(|jump| judge(jump, found.as_ref())),
            // It is asked again.
            Some(Err(_)) => {
                if let Some(mut jump) = self.doubtful.take() {
                    if let Some(later) = &self.jump {
                        jump.join(later);
                    }
                    self.jump = Some(jump);
                }
                None
            }
        };
        if self.doubtful.is_none()
            && let Some(jump) = &self.jump
            && self.asked.is_none_or(|at| at.elapsed() >= PACE)
        {
            let mut argv = super::argv(settings);
            argv.push(format!("--cursor={}", String::from_utf8_lossy(&jump.last)));
            if self.asker.is_none() {
                let waker = waker.clone();
                self.asker = Asker::new(move || waker.ring()).ok();
            }
            self.asked = Some(clock::monotonic());
            if self.asker.as_mut().is_some_and(|asker| asker.ask(argv)) {
                self.doubtful = self.jump.take();
            }
        }
        gap
    }
}

/// A gap, unless the entry that journalctl shows from its place on is the one before the jump.
fn judge(jump: Jump, found: Option<&Found>) -> Option<JournalEvent> {
    let there = found.is_some_and(|found| super::place::is_same(&found.cursor, &jump.last));
    (!there).then_some(JournalEvent::Gap { entries: jump.entries, after: jump.after, before: jump.before })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jump(n: u64, entries: Option<u64>) -> Jump {
        let (after, before) = (Time(n as i64), Time(n as i64 + 10));
        Jump { last: format!("s=1;i={n:x};b=1").into_bytes(), entries, after, before }
    }

    #[test]
    fn only_where_the_entry_before_it_is_gone_is_a_jump_a_gap() {
        let found = |cursor: &str| Found { cursor: cursor.as_bytes().to_vec(), time: Time(0) };
        let gap = JournalEvent::Gap { entries: Some(3), after: Time(5), before: Time(15) };
        for (there, want) in [
            (Some(found("s=1;i=5;b=1")), None),
            (Some(found("s=1;i=5;b=other")), None),
            (Some(found("s=1;i=9;b=1")), Some(&gap)),
            (Some(found("s=2;i=5;b=1")), Some(&gap)),
            (None, Some(&gap)),
        ] {
            assert_eq!(judge(jump(5, Some(3)), there.as_ref()).as_ref(), want, "{there:?}");
        }
    }

    #[test]
    fn jumps_that_come_before_an_answer_are_one() {
        let mut gaps = Gaps::default();
        gaps.note(jump(5, Some(3)));
        gaps.note(jump(40, None));
        gaps.note(jump(90, Some(4)));
        let all = Jump { entries: Some(7), before: Time(100), ..jump(5, None) };
        assert_eq!(gaps.jump, Some(all));
    }
}
