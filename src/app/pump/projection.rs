//! Facts and changes of the ledger → write-set and tally: plain copying, no judgement.

use super::ahead::Ahead;
use crate::engine::Sink;
use crate::engine::ledger::Change;
use crate::mail::{Counts, Fact, Origin, Owner, Place, QueueId, Server, Time};
use crate::metrics::Tally;
use crate::store::{Batch, HistoryCounts};
use hashbrown::HashMap;
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Takes the facts of a batch.
pub struct Projection<'a> {
    pub batch: &'a mut Batch,
    pub tally: &'a mut Tally,
    /// Messages that a gate should have been asked about.
    pub arrived: Option<&'a mut Vec<Arrived>>,
    /// Whose messages the gate has held.
    pub ahead: Option<&'a mut Ahead>,
}

/// A message that was accepted, for the gate.
#[derive(Debug, Clone, Copy)]
pub struct Arrived {
    pub at: Time,
    pub server: Server,
    pub id: QueueId,
    pub owner: Owner,
    pub origin: Origin,
    /// Its server asks about such mail, whatever the rules are.
    pub asked: bool,
}

impl Sink for Projection<'_> {
    #[inline]
    fn fact(&mut self, fact: &Fact<'_>) {
        self.tally.fact(fact);
        match fact {
            Fact::Error(error) => self.batch.push_error(error),
            Fact::Leg(leg) => self.batch.push_leg(leg),
            Fact::Message { at, server, id, owner, origin, .. } if *origin != Origin::Internal => {
                if let Some(arrived) = &mut self.arrived {
                    let asked = is_asked_about(*server, *origin);
                    arrived.push(Arrived { at: *at, server: *server, id: **id, owner: *owner, origin: *origin, asked });
                }
            }
            _ => {}
        }
    }

    fn holder(&mut self, place: &Place) -> Option<Owner> {
        self.ahead.as_mut()?.holder(place)
    }
}

/// One server asks about everything but its own mail. The other looks for flags, and asks where no name would be found.
fn is_asked_about(server: Server, origin: Origin) -> bool {
    match server {
        Server::Postfix => true,
        Server::Exim => origin == Origin::LocalSmtp,
    }
}

/// Messages of each owner's present local day.
pub struct Days {
    today: HashMap<Owner, Today, foldhash::fast::FixedState>,
    zone: TimeZone,
    cached: Option<(i64, Day)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Today {
    pub day: i32,
    pub messages: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Day {
    /// Days since the epoch of the local date.
    number: i32,
    /// Its end.
    pub until: Time,
}

impl Days {
    pub fn new(today: Vec<(Owner, Today)>, zone: TimeZone) -> Days {
        let mut map = HashMap::with_hasher(foldhash::fast::FixedState::default());
        map.extend(today);
        Days { today: map, zone, cached: None }
    }

    /// Takes in a change; returns the local day it belongs to.
    pub fn add(&mut self, change: &Change) -> i32 {
        let day = self.day(change.quarter);
        let today = self.today.entry(change.owner).or_insert(Today { day: day.number, messages: 0 });
        if day.number > today.day {
            *today = Today { day: day.number, messages: 0 };
        }
        if day.number == today.day {
            today.messages += change.delta.messages;
        }
        day.number
    }

    pub fn today(&self, owner: Owner) -> Option<Today> {
        self.today.get(&owner).copied()
    }

    /// The local day in which `at` lies.
    pub fn at(&mut self, at: Time) -> Day {
        self.day(at.secs().div_euclid(900))
    }

    /// Messages of the owner on that day; none when its last one is of a day before.
    pub fn messages(&self, owner: Owner, day: Day) -> u64 {
        self.today(owner).filter(|today| today.day >= day.number).map_or(0, |today| today.messages)
    }

    fn day(&mut self, quarter: i64) -> Day {
        if let Some((known, day)) = self.cached
            && known == quarter
        {
            return day;
        }
        let day = day_of(quarter, &self.zone);
        self.cached = Some((quarter, day));
        day
    }
}

/// Quarters begin at full quarters of UTC, so a local midnight never lies within one.
fn day_of(quarter: i64, zone: &TimeZone) -> Day {
    let begin = Timestamp::from_second(quarter.saturating_mul(900)).unwrap_or(Timestamp::UNIX_EPOCH);
    let local = begin.to_zoned(zone.clone());
    let epoch = jiff::civil::date(1970, 1, 1);
    let number = epoch.until(local.date()).map_or(0, |span| span.get_days());
    let until = local
        .tomorrow()
        .and_then(|tomorrow| tomorrow.start_of_day())
        .map_or(Time(i64::MAX), |midnight| Time(midnight.timestamp().as_microsecond()));
    Day { number, until }
}

pub fn history(delta: &Counts) -> HistoryCounts {
    HistoryCounts {
        messages: delta.messages,
        recipients: delta.recipients,
        sent: delta.sent,
        bounced: delta.bounced,
        expired: delta.expired,
        deleted: delta.deleted,
        unaccounted: delta.unaccounted,
        deferred: delta.deferred,
        late_errors: delta.late_errors,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_a_day_before_are_not_todays() {
        let (owner, quarter) = (Owner(9), 1_974_000);
        let mut days = Days::new(vec![], TimeZone::UTC);
        let delta = Counts { messages: 6, ..Counts::default() };
        days.add(&Change { owner, quarter, delta });
        let (then, next) = (days.at(Time::from_secs(quarter * 900)), days.at(Time::from_secs(quarter * 900 + 86_400)));
        assert_eq!((days.messages(owner, then), days.messages(owner, next)), (6, 0));
    }

    #[test]
    fn days_end_at_local_midnight() {
        let zone = TimeZone::get("Asia/Kathmandu").unwrap();
        // 2026-11-23 18:15 UTC is midnight at +05:45.
        let midnight: Timestamp = "2026-11-23T18:15:00Z".parse().unwrap();
        let quarter = midnight.as_second() / 900;
        let (before, after) = (day_of(quarter - 1, &zone), day_of(quarter, &zone));
        assert_eq!(before.number + 1, after.number);
        assert_eq!(before.until, Time::from_secs(midnight.as_second()));
    }
}
