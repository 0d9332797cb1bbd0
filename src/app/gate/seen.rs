//! The messages that the gate was asked about of late. Bounded: the oldest are forgotten first.

use crate::mail::QueueId;
use std::collections::{HashSet, VecDeque};

/// A message is in the log moments after its decision.
const MOST: usize = 50_000;

#[derive(Debug, Default)]
pub struct Seen {
    ids: HashSet<QueueId>,
    order: VecDeque<QueueId>,
}

impl Seen {
    pub fn add(&mut self, id: QueueId) {
        if self.ids.insert(id) {
            self.order.push_back(id);
        }
        if self.order.len() > MOST
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
    }

    /// Whether it was there; it is not any more.
    pub fn take(&mut self, id: QueueId) -> bool {
        self.ids.remove(&id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_found_once_and_only_so_many_are_kept() {
        let id = |n: usize| QueueId::new(format!("{n:08X}").as_bytes()).unwrap();
        let mut seen = Seen::default();
        seen.add(id(1));
        assert_eq!([1, 1, 2].map(|n| seen.take(id(n))), [true, false, false]);
        for n in 0..=MOST + 1 {
            seen.add(id(n));
        }
        assert!(seen.ids.len() <= MOST && seen.order.len() <= MOST);
        assert_eq!([0, MOST].map(|n| seen.take(id(n))), [false, true]);
    }
}
