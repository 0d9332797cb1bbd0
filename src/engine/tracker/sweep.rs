//! Administrators' wildcard commands: the log only says how many messages were meant (`Deleted: 12 messages`).
//!
//! Commands that name ids log a line for each and then the same total; so lines per process are counted, and only
//! what the total has beyond them is looked for. Also here: holds that are announced before their message has an id.

use super::leg::{Class, Ended};
use super::table::Slot;
use super::{Cx, Tracker, books};
use crate::engine::Sink;
use crate::engine::codec::{Reader, Writer};
use crate::mail::{Head, Sweep, Time};

/// Most processes remembered at a time.
const MOST: usize = 256;
/// A hold announced by an SMTP server process is for the id it logs next, at once.
const HOLD_SECS: i64 = 10;

/// Lines per process since its last total, and holds announced per process.
#[derive(Debug, Default)]
pub struct Sweeps {
    named: Vec<(u32, Sweep, u32)>,
    holds: Vec<(u16, u32, Time)>,
}

impl Sweeps {
    /// A line that names one id.
    pub fn one(&mut self, head: &Head<'_>, what: Sweep) {
        match self.named.iter_mut().find(|(pid, kind, _)| *pid == head.pid && *kind == what) {
            Some((_, _, n)) => *n += 1,
            None => {
                if self.named.len() >= MOST {
                    self.named.remove(0);
                }
                self.named.push((head.pid, what, 1));
            }
        }
    }

    /// The process's total: how many messages it means beyond those it named.
    fn total(&mut self, head: &Head<'_>, what: Sweep, count: u32) -> u32 {
        let place = self.named.iter().position(|(pid, kind, _)| *pid == head.pid && *kind == what);
        let named = place.map_or(0, |n| self.named.swap_remove(n).2);
        count.saturating_sub(named)
    }

    pub fn hold_next(&mut self, host: u16, pid: u32, at: Time) {
        self.holds.retain(|(h, p, _)| (*h, *p) != (host, pid));
        if self.holds.len() >= MOST {
            self.holds.remove(0);
        }
        self.holds.push((host, pid, at));
    }

    pub fn take_hold(&mut self, host: u16, pid: u32, at: Time) -> bool {
        if self.holds.is_empty() {
            return false;
        }
        match self.holds.iter().position(|(h, p, _)| (*h, *p) == (host, pid)) {
            Some(place) => at.secs_since(self.holds.swap_remove(place).2).abs() <= HOLD_SECS,
            None => false,
        }
    }

    pub fn save(&self, out: &mut Writer) {
        out.u64(self.named.len() as u64);
        for (pid, what, n) in &self.named {
            out.u32(*pid).u64(code(*what)).u32(*n);
        }
        out.u64(self.holds.len() as u64);
        for (host, pid, at) in &self.holds {
            out.u32(u32::from(*host)).u32(*pid).time(*at);
        }
    }

    pub fn restore(&mut self, saved: &mut Reader<'_>) -> Option<()> {
        let mut sweeps = Sweeps::default();
        for _ in 0..saved.u64()?.min(MOST as u64) {
            sweeps.named.push((saved.u32()?, sweep(saved.u64()?)?, saved.u32()?));
        }
        for _ in 0..saved.u64()?.min(MOST as u64) {
            sweeps.holds.push((saved.u32()? as u16, saved.u32()?, saved.time()?));
        }
        *self = sweeps;
        Some(())
    }
}

fn code(what: Sweep) -> u64 {
    match what {
        Sweep::Deleted => 0,
        Sweep::Held => 1,
        Sweep::Released => 2,
        Sweep::Requeued => 3,
        Sweep::Expired => 4,
    }
}

fn sweep(code: u64) -> Option<Sweep> {
    [Sweep::Deleted, Sweep::Held, Sweep::Released, Sweep::Requeued, Sweep::Expired].into_iter().nth(code as usize)
}

impl Tracker {
    pub(super) fn swept<S: Sink>(&mut self, head: &Head<'_>, what: Sweep, count: u32, cx: &mut Cx<'_, S>) {
        let unnamed = self.sweeps.total(head, what, count);
        // Requeued messages name their old id when they come back; expired ones log their own lines.
        if unnamed == 0 || matches!(what, Sweep::Requeued | Sweep::Expired) {
            return;
        }
        let meant = self.meant(head, what, unnamed);
        if meant.is_empty() {
            self.ambiguous_sweeps += 1;
            return;
        }
        for slot in meant {
            match what {
                Sweep::Deleted => self.end_leg(slot, Ended::Deleted, cx),
                Sweep::Held | Sweep::Released => {
                    if let Some(leg) = self.table.edit(slot) {
                        books::hold(leg, what == Sweep::Held, cx);
                    }
                }
                Sweep::Requeued | Sweep::Expired => {}
            }
        }
    }

    /// The messages a wildcard command meant, where the number leaves no doubt: all in the queue, all held ones,
    /// or all that are not held.
    fn meant(&mut self, head: &Head<'_>, what: Sweep, count: u32) -> Vec<Slot> {
        let host = self.places.host(head.host);
        let instance = self.places.instance(head);
        let queued = |held: Option<bool>| -> Vec<Slot> {
            let mut slots: Vec<(u64, Slot)> = self
                .table
                .iter()
                .filter(|(_, leg)| (leg.host, leg.instance) == (host, instance) && leg.ended.is_none())
                .filter(|(_, leg)| leg.class != Class::Unborn && !leg.probe && held.is_none_or(|h| h == leg.held))
                .map(|(slot, leg)| (leg.serial, slot))
                .collect();
            slots.sort_unstable();
            slots.into_iter().map(|(_, slot)| slot).collect()
        };
        let groups = match what {
            Sweep::Held => vec![queued(Some(false))],
            Sweep::Released => vec![queued(Some(true))],
            _ => vec![queued(None), queued(Some(true)), queued(Some(false))],
        };
        // More were meant than are known here: all known ones are among them.
        match groups.first() {
            Some(all) if count as usize >= all.len() => groups.into_iter().next().unwrap_or_default(),
            _ => groups.into_iter().find(|group| group.len() == count as usize).unwrap_or_default(),
        }
    }
}
