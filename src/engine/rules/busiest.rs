//! How many messages each of an account's scripts sent in a sliding window.
//!
//! Of [`MOST`] scripts at most, whatever the log claims. While no more send within a window, each is counted exactly. For one
//! more, one message of every script is forgotten and the newcomer's too (Misra and Gries): each time `MOST + 1` messages of
//! the last two windows, so that a script is never short by more than that part of what the account sent in these. It is
//! never counted too high: the error spares.

use super::window::Window;
use crate::engine::codec::{Reader, Writer};
use thin_vec::ThinVec;

/// Scripts that are counted at a time.
pub const MOST: usize = 16;

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Busiest {
    scripts: ThinVec<(u64, Window)>,
    /// The bucket that was now when it was looked at last.
    looked: u32,
}

impl Busiest {
    /// A message of a script, by hash. Returns how many it has sent in the window.
    pub fn add(&mut self, script: u64, bucket: u32, now: u32) -> u64 {
        // A clock that was set back takes from all of them what was in the future.
        if now < self.looked {
            for (_, window) in &mut self.scripts {
                window.look(now);
            }
        }
        self.looked = now;
        if let Some((_, window)) = self.scripts.iter_mut().find(|(known, _)| *known == script) {
            return window.add(bucket, now, 1);
        }
        let mut window = Window::default();
        let count = window.add(bucket, now, 1);
        if count == 0 {
            return 0;
        }
        if self.scripts.len() >= MOST {
            self.scripts.retain_mut(|(_, window)| window.look(now) > 0);
        }
        if self.scripts.len() < MOST {
            if self.scripts.len() == self.scripts.capacity() {
                self.scripts.reserve_exact((self.scripts.len() / 2).max(1));
            }
            self.scripts.push((script, window));
            return count;
        }
        for (_, window) in &mut self.scripts {
            if let Some(newest) = window.newest() {
                window.take(newest);
            }
        }
        self.scripts.retain(|(_, window)| !window.is_empty());
        0
    }

    pub fn is_empty(&self) -> bool {
        self.scripts.iter().all(|(_, window)| window.is_empty())
    }

    pub fn write(&self, out: &mut Writer, window: impl Fn(&Window, &mut Writer)) {
        out.u32(self.looked).u64(self.scripts.len() as u64);
        for (script, its) in &self.scripts {
            out.bytes.extend(script.to_le_bytes());
            window(its, out);
        }
    }

    pub fn read(saved: &mut Reader<'_>, window: impl Fn(&mut Reader<'_>) -> Option<Window>) -> Option<Busiest> {
        let mut busiest = Busiest { looked: saved.u32()?, ..Busiest::default() };
        for _ in 0..saved.u64()? {
            let script = u64::from_le_bytes(*saved.take::<8>()?);
            busiest.scripts.push((script, window(saved)?));
        }
        (busiest.scripts.len() <= MOST).then_some(busiest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_script_is_counted_for_itself_while_there_are_few() {
        let mut busiest = Busiest::default();
        for n in 0..1_000_u64 {
            assert_eq!(busiest.add(n % MOST as u64, 100, 100), n / MOST as u64 + 1);
        }
        // A window later their places are free.
        for n in 0..MOST as u64 {
            assert_eq!(busiest.add(1_000 + n, 161, 161), 1);
        }
    }

    #[test]
    fn of_many_the_one_that_sends_most_is_never_short_by_more_than_a_part_of_all() {
        let mut dice = fastrand::Rng::with_seed(17);
        for share in [2, 3, 5, 10] {
            let (mut busiest, mut sent, mut most_short) = (Busiest::default(), 0, 0);
            for n in 1..=20_000_u64 {
                // One script sends so much, and thousands of others the rest.
                let script = if n % share == 0 { 7 } else { 100 + dice.u64(..5_000) };
                let counted = busiest.add(script, 100, 100);
                assert!(busiest.scripts.len() <= MOST);
                if script == 7 {
                    sent += 1;
                    assert!(counted <= sent);
                    most_short = most_short.max(sent - counted);
                    assert!(sent - counted <= n / (MOST as u64 + 1), "{sent} of {n}, {counted} counted");
                }
            }
            assert!(most_short > 0);
        }
    }
}
