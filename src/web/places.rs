//! Places for connections: their number is bounded, and a crowd that only holds them never keeps a request waiting.
//!
//! When all are taken, one that is not being worked for goes: of the address that holds most, first those that have not
//! sent a whole request yet, then those that have been answered (and read slowly, or pause), the oldest first. It never
//! touches a connection itself: whoever serves it is told to leave.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// What a connection waits for; those that are told to leave first come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    /// For the client: its first request is not whole.
    Request,
    /// For the client, to read its answer or to ask again.
    Answered,
    /// For us.
    Answer,
}

struct Seat {
    address: Option<IpAddr>,
    stage: Stage,
    /// When it came to this stage, in the order of all such events.
    since: u64,
    leave: Arc<Notify>,
    leaving: bool,
}

#[derive(Default)]
struct Seats {
    events: u64,
    taken: BTreeMap<u64, Seat>,
}

/// All places of a listener.
pub(super) struct Places {
    most: usize,
    seats: Mutex<Seats>,
    /// A place became free, or its connection may be told to leave.
    changed: Notify,
}

/// One taken place; free again when it is dropped.
pub(super) struct Place {
    places: Arc<Places>,
    id: u64,
    leave: Arc<Notify>,
}

impl Places {
    pub fn new(most: usize) -> Arc<Places> {
        Arc::new(Places { most: most.max(1), seats: Mutex::default(), changed: Notify::new() })
    }

    fn seats(&self) -> MutexGuard<'_, Seats> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place; waits only while every connection is being worked for. For one caller at a time.
    pub async fn enter(self: &Arc<Places>, address: Option<IpAddr>) -> Place {
        let address = address.map(neighbourhood);
        loop {
            if let Some(place) = self.try_enter(address) {
                return place;
            }
            self.changed.notified().await;
        }
    }

    fn try_enter(self: &Arc<Places>, address: Option<IpAddr>) -> Option<Place> {
        let mut seats = self.seats();
        if seats.taken.len() >= self.most {
            seats.tell_one_to_leave();
            return None;
        }
        let id = seats.next();
        let leave = Arc::new(Notify::new());
        let seat = Seat { address, stage: Stage::Request, since: id, leave: Arc::clone(&leave), leaving: false };
        seats.taken.insert(id, seat);
        Some(Place { places: Arc::clone(self), id, leave })
    }
}

impl Seats {
    fn next(&mut self) -> u64 {
        self.events += 1;
        self.events
    }

    fn tell_one_to_leave(&mut self) {
        if self.taken.values().any(|seat| seat.leaving) {
            return;
        }
        let mut held: HashMap<Option<IpAddr>, usize> = HashMap::new();
        for seat in self.taken.values() {
            *held.entry(seat.address).or_default() += 1;
        }
        let idle = self.taken.values_mut().filter(|seat| seat.stage != Stage::Answer);
        let most = |seat: &Seat| std::cmp::Reverse(held.get(&seat.address).copied().unwrap_or(0));
        if let Some(seat) = idle.min_by_key(|seat| (most(seat), seat.stage, seat.since)) {
            seat.leaving = true;
            seat.leave.notify_one();
        }
    }
}

impl Place {
    /// A whole request has come.
    pub fn working(&self) {
        self.turn(Stage::Answer);
    }

    /// Its answer is made.
    pub fn answered(&self) {
        self.turn(Stage::Answered);
        self.places.changed.notify_one();
    }

    fn turn(&self, stage: Stage) {
        let mut seats = self.places.seats();
        let since = seats.next();
        if let Some(seat) = seats.taken.get_mut(&self.id) {
            (seat.stage, seat.since) = (stage, since);
        }
    }

    /// Ends when the place is needed for another.
    pub async fn needed(&self) {
        self.leave.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.seats().taken.remove(&self.id);
        self.places.changed.notify_one();
    }
}

/// Whoever has one address of IPv6 has the 2^64 of its network.
fn neighbourhood(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn v4(last: u8) -> Option<IpAddr> {
        Some(IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, last)))
    }

    /// Which of these places is told to leave when one more comes; it leaves, and the other is let in.
    async fn leaves(places: &Arc<Places>, taken: &mut Vec<Option<Place>>) -> Option<usize> {
        assert!(places.try_enter(v4(99)).is_none(), "all are taken");
        let told = places.seats().taken.iter().find(|(_, seat)| seat.leaving).map(|(id, _)| *id)?;
        let at = taken.iter().position(|place| place.as_ref().is_some_and(|place| place.id == told)).unwrap();
        taken[at].as_ref().unwrap().needed().await;
        taken[at] = None;
        taken.push(Some(places.enter(v4(99)).await));
        Some(at)
    }

    #[tokio::test]
    async fn the_oldest_that_has_not_asked_goes_first_and_none_that_is_worked_for() {
        let places = Places::new(5);
        let mut taken = Vec::new();
        for last in 1..=5 {
            taken.push(Some(places.enter(v4(last)).await));
        }
        let place = |at: usize| taken[at].as_ref().unwrap();
        place(0).working();
        place(1).working();
        place(1).answered();
        assert_eq!(leaves(&places, &mut taken).await, Some(2));
        assert_eq!(leaves(&places, &mut taken).await, Some(3));
        taken.iter().flatten().skip(2).for_each(Place::working);
        assert_eq!(leaves(&places, &mut taken).await, Some(1), "answered, and only holds its place");
        taken.iter().flatten().for_each(Place::working);
        assert_eq!(leaves(&places, &mut taken).await, None);
        let waiting = places.enter(v4(9));
        tokio::pin!(waiting);
        tokio::select! {
            biased;
            _ = &mut waiting => panic!("no place is free"),
            () = std::future::ready(()) => {}
        }
        taken[0] = None;
        waiting.await;
    }

    #[tokio::test]
    async fn of_the_address_that_holds_most() {
        let places = Places::new(4);
        let network = |end: u16| Some(IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, end)));
        let mut taken = Vec::new();
        for address in [v4(1), network(1), network(2), v4(2)] {
            taken.push(Some(places.enter(address).await));
        }
        assert_eq!(leaves(&places, &mut taken).await, Some(1), "older than those of the others is only the first");
    }
}
