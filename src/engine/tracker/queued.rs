//! What waits in the queue, for those who hold, release and delete: read from the log, never from the disk.
//!
//! It answers; it changes nothing, but for what those who put a message on hold know of it before the log.

use super::leg::{Came, Class, Leg, Traits};
use super::table::Slot;
use super::{Cx, Tracker, books};
use crate::engine::Sink;
use crate::engine::rules::volume::Going;
use crate::engine::sanctions::Queued;
use crate::mail::{HandedBy, Owner, Place, QueueId, ScriptClaim};
use std::collections::BTreeMap;
use std::sync::Arc;

impl Tracker {
    /// Messages of these accounts that wait in the queue and are not on hold. Looks at every open message once. One of
    /// which all recipients have come to something is not among them: cleanup(8) bounces what has too many hops before it
    /// is in the queue, and logs no end of it (cleanup_bounce.c).
    pub fn queued(&self, wanted: impl Fn(Owner) -> bool) -> Vec<Queued> {
        let mut names: BTreeMap<u16, Arc<[u8]>> = BTreeMap::new();
        let mut found = Vec::new();
        let is_wanted = |leg: &Leg| wanted(leg.owner) && waits(leg) && !leg.held && (leg.booked == 0 || leg.open() > 0);
        for (_, leg) in self.table.iter().filter(|(_, leg)| is_wanted(leg)) {
            let name = names.entry(leg.instance).or_insert_with(|| self.places.instance_name(leg.instance).into());
            let place = Place { server: leg.server, instance: name.clone(), id: leg.id };
            let login = match &leg.came {
                Came::Login(login) => login.name().into(),
                _ => [].into(),
            };
            found.push(Queued {
                owner: leg.owner,
                place,
                origin: leg.origin,
                login,
                since: leg.first,
                by: handed_by(leg),
            });
        }
        found.sort_unstable_by(|a, b| a.place.cmp(&b.place));
        found
    }

    /// Messages of accounts that are in the queue, not on hold, and were never tried: they are about to leave.
    pub fn going(&self) -> Vec<Going> {
        let is_going = |leg: &Leg| leg.class == Class::Own && waits(leg) && !leg.held && !leg.traits.has(Traits::TRIED);
        let legs = self.table.iter().map(|(_, leg)| leg);
        let going = legs.filter(|leg| is_going(leg) && leg.owner.is_account()).map(going);
        let mut going: Vec<Going> = going.collect();
        going.sort_unstable_by_key(|one| one.id);
        going
    }

    /// A message in the queue, as one that is about to leave.
    pub fn going_of(&self, place: &Place) -> Option<Going> {
        self.find(place).map(going)
    }

    /// Messages that were tried for the first time since the last call, or are gone without that. Only kept where rules
    /// slow accounts down.
    pub fn take_left(&mut self) -> Vec<QueueId> {
        std::mem::take(&mut self.left)
    }

    /// The script that is said to have made a message in the queue.
    pub fn script_of(&self, place: &Place) -> Option<&ScriptClaim> {
        self.find(place)?.details.as_deref()?.script()
    }

    /// Who handed in a message in the queue, where the log says so.
    pub fn handed_by(&self, place: &Place) -> Option<HandedBy> {
        self.find(place).and_then(handed_by)
    }

    /// Whether a message in the queue is on hold; `None` when the log knows of no such message.
    pub fn on_hold(&self, place: &Place) -> Option<bool> {
        self.find(place).map(|leg| leg.held)
    }

    /// Whether a message of this id is on hold, in whichever instance.
    pub fn holds(&self, id: QueueId) -> bool {
        let legs = self.places.hosts().flat_map(|host| self.table.live(host, id));
        legs.filter_map(|slot| self.table.get(slot)).any(|leg| leg.held)
    }

    /// Whoever has put a message on hold knows how many it is for; the log says it at its release, and never when it is
    /// deleted before. Later knowledge only adds. False when the log has not told of the message, or not of its hold.
    pub fn learn_recipients<S: Sink>(&mut self, place: &Place, n: u32, cx: &mut Cx<'_, S>) -> bool {
        let also = |leg: &Leg| leg.class == Class::Waiting && leg.ended.is_none();
        let Some(slot) = self.slot(place, also) else { return false };
        let Some(leg) = self.table.get(slot).filter(|leg| leg.held) else { return false };
        if leg.is_mid_stream() || leg.class == Class::Child || leg.expected >= n {
            return true;
        }
        let Some(leg) = self.table.edit(slot) else { return false };
        (leg.expected, leg.answered) = (n, true);
        if leg.class == Class::Own {
            books::book(leg, n.saturating_sub(leg.booked), cx);
        }
        true
    }

    fn find(&self, place: &Place) -> Option<&Leg> {
        self.table.get(self.slot(place, |_| false)?)
    }

    fn slot(&self, place: &Place, also: impl Fn(&Leg) -> bool) -> Option<Slot> {
        let mut legs = self.places.hosts().flat_map(|host| self.table.live(host, place.id));
        let is_there =
            |leg: &Leg| leg.server == place.server && *self.places.instance_name(leg.instance) == *place.instance;
        let is_it = |leg: &Leg| is_there(leg) && (waits(leg) || also(leg));
        legs.find(|slot| self.table.get(*slot).is_some_and(is_it))
    }
}

fn going(leg: &Leg) -> Going {
    let login = match &leg.came {
        Came::Login(login) => login.name().into(),
        _ => [].into(),
    };
    Going { owner: leg.owner, id: leg.id, origin: leg.origin, login, recipients: leg.booked.max(1) }
}

/// Who handed it in, where its arrival was seen.
fn handed_by(leg: &Leg) -> Option<HandedBy> {
    match &leg.came {
        Came::Login(login) => Some(HandedBy::login(login.name())),
        Came::Uid(uid) => Some(HandedBy::Uid(*uid)),
        Came::Smtp(address) => Some(HandedBy::client(*address, b"")),
        Came::Requeue => Some(HandedBy::Requeued),
        Came::User(..) | Came::Unseen | Came::Internal | Came::Named => None,
    }
}

/// It is a message of its own or continues one, and is still there.
fn waits(leg: &Leg) -> bool {
    matches!(leg.class, Class::Own | Class::Child)
        && leg.ended.is_none()
        && !matches!(leg.came, Came::Named)
        && !leg.probe
        && !leg.notification
}
