//! What waits in the queue, for those who hold, release and delete: read from the log, never from the disk.
//!
//! It answers; it changes nothing.

use super::Tracker;
use super::leg::{Came, Class, Leg};
use crate::engine::sanctions::Queued;
use crate::mail::{Owner, Place, QueueId, ScriptClaim};
use std::collections::BTreeMap;
use std::sync::Arc;

impl Tracker {
    /// Messages of these accounts that wait in the queue and are not on hold. Looks at every open message once.
    pub fn queued(&self, wanted: impl Fn(Owner) -> bool) -> Vec<Queued> {
        let mut names: BTreeMap<u16, Arc<[u8]>> = BTreeMap::new();
        let mut found = Vec::new();
        for (_, leg) in self.table.iter().filter(|(_, leg)| wanted(leg.owner) && waits(leg) && !leg.held) {
            let name = names.entry(leg.instance).or_insert_with(|| self.places.instance_name(leg.instance).into());
            let place = Place { server: leg.server, instance: name.clone(), id: leg.id };
            let login = match &leg.came {
                Came::Login(login) => login.clone(),
                _ => [].into(),
            };
            found.push(Queued { owner: leg.owner, place, origin: leg.origin, login });
        }
        found.sort_unstable_by(|a, b| a.place.cmp(&b.place));
        found
    }

    /// The script that is said to have made a message in the queue.
    pub fn script_of(&self, place: &Place) -> Option<&ScriptClaim> {
        self.find(place)?.details.as_deref()?.script()
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

    fn find(&self, place: &Place) -> Option<&Leg> {
        let legs = self.places.hosts().flat_map(|host| self.table.live(host, place.id));
        legs.filter_map(|slot| self.table.get(slot)).find(|leg| {
            leg.server == place.server && *self.places.instance_name(leg.instance) == *place.instance && waits(leg)
        })
    }
}

/// It is a message of its own or continues one, and is still there.
fn waits(leg: &Leg) -> bool {
    matches!(leg.class, Class::Own | Class::Child)
        && leg.ended.is_none()
        && leg.came != Came::Named
        && !leg.probe
        && !leg.notification
}
