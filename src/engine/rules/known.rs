//! Whom an account has written to before, so that what is new can be counted.
//!
//! Two generations: one is filled, the one before it is only asked, and both go on after [`SPAN_SECS`]. So an address is
//! known for that long at least after it was written to last, and for twice as long at most. A few addresses are kept as
//! fingerprints, which are exact for all that matters; more of them in Bloom filters, each larger than the one before, up to
//! a last one that takes what comes. All errors spare: somebody new may pass for known, nobody known for new.
//!
//! An account whose memory has just begun would find everybody new. So for its first [`LEARNING_SECS`] nobody is.

use crate::engine::codec::{Reader, Writer};
use thin_vec::ThinVec;

/// A newsletter of the first Monday of each month comes after 35 days at most.
pub const SPAN_SECS: u32 = 36 * 86_400;
/// A weekly newsletter was seen by then.
pub const LEARNING_SECS: u32 = 8 * 86_400;
/// Fingerprints of a generation.
const FEW: usize = 64;
/// Addresses for which each filter of a generation is made, and the bits for each of them: of strangers one in some hundred
/// passes. The last one takes more than it is made for.
const SIZES: [u32; 4] = [256, 1_024, 4_096, 16_384];
const BITS_EACH: usize = 16;
/// Bits that an address sets, all in one block: one look at memory.
const PROBES: u32 = 7;

type Block = [u64; 8];

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// When the first address was remembered, when the generation at hand began, and when it was asked last, in seconds.
    since: u32,
    began: u32,
    asked: u32,
    /// Which of the two generations is the one at hand: 0 or 1.
    turn: u8,
    /// The one that was added last was new.
    new: bool,
    /// Fingerprints of both; the last bit is the generation.
    few: ThinVec<u32>,
    many: ThinVec<Filter>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Filter {
    turn: u8,
    count: u32,
    blocks: Box<[Block]>,
}

impl Known {
    /// Remembers an address. True when it is new, and that means something.
    pub fn add(&mut self, hash: u64, now: u32) -> bool {
        self.new = self.learn(hash, now);
        self.new
    }

    /// What [`add`](Known::add) said last.
    pub fn was_new(&self) -> bool {
        self.new
    }

    fn learn(&mut self, hash: u64, now: u32) -> bool {
        self.pass(now);
        // The last bit is free for the generation.
        let print = (hash.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32 & !1;
        let turn = u32::from(self.turn);
        let (ours, before) = (print | turn, print | (turn ^ 1));
        let (mut count, mut known) = (0, false);
        for one in &self.few {
            if *one == ours {
                return false;
            }
            known |= *one == before;
            count += usize::from(one & 1 == turn);
        }
        for filter in &self.many {
            if filter.holds(print) {
                if filter.turn == self.turn {
                    return false;
                }
                known = true;
            }
        }
        self.keep(print, count);
        !known && now - self.since >= LEARNING_SECS
    }

    fn keep(&mut self, print: u32, few: usize) {
        if few < FEW {
            if self.few.len() == self.few.capacity() {
                self.few.reserve_exact((self.few.len() / 2).max(2));
            }
            return self.few.push(print | u32::from(self.turn));
        }
        let turn = self.turn;
        let its = self.many.iter().filter(|filter| filter.turn == turn).count();
        let size = SIZES.get(its.saturating_sub(1)).copied().unwrap_or(u32::MAX);
        if let Some(last) = self.many.iter_mut().rfind(|filter| filter.turn == turn)
            && (last.count < size || its == SIZES.len())
        {
            return last.put(print);
        }
        if let Some(size) = SIZES.get(its) {
            let mut filter = Filter::new(turn, *size);
            filter.put(print);
            self.many.reserve_exact(1);
            self.many.push(filter);
        }
    }

    fn pass(&mut self, now: u32) {
        if self.is_empty() {
            (self.since, self.began) = (now, now);
        }
        // A clock that was set back: nothing has begun in the future.
        (self.since, self.began, self.asked) = (self.since.min(now), self.began.min(now), now);
        if now - self.began < SPAN_SECS {
            return;
        }
        if now - self.began >= 2 * SPAN_SECS {
            *self = Known { since: now, began: now, asked: now, ..Known::default() };
            return;
        }
        let old = self.turn ^ 1;
        self.few.retain(|one| *one & 1 != u32::from(old));
        self.many.retain(|filter| filter.turn != old);
        (self.turn, self.began) = (old, self.began + SPAN_SECS);
    }

    pub fn is_empty(&self) -> bool {
        self.few.is_empty() && self.many.is_empty()
    }

    /// When it was asked last.
    pub fn asked(&self) -> u32 {
        self.asked
    }

    /// What it holds elsewhere.
    pub fn bytes(&self) -> usize {
        let filters = self.many.iter().map(|filter| size_of::<Filter>() + size_of_val(&*filter.blocks));
        self.few.capacity() * size_of::<u32>() + filters.sum::<usize>()
    }

    /// Of the places that the next count looks at.
    #[inline]
    pub fn touch(&self) -> u64 {
        u64::from(self.few.first().copied().unwrap_or(0))
    }

    pub fn write(&self, out: &mut Writer) {
        out.u32(self.since).u32(self.began).u32(self.asked).u32(u32::from(self.turn)).u64(self.few.len() as u64);
        for one in &self.few {
            out.bytes.extend(one.to_le_bytes());
        }
        out.u64(self.many.len() as u64);
        for Filter { turn, count, blocks } in &self.many {
            out.u32(u32::from(*turn)).u32(*count).u64(blocks.len() as u64);
            for word in blocks.iter().flatten() {
                out.bytes.extend(word.to_le_bytes());
            }
        }
    }

    pub fn read(saved: &mut Reader<'_>) -> Option<Known> {
        let (since, began, asked, turn) = (saved.u32()?, saved.u32()?, saved.u32()?, saved.u8()?);
        let mut known = Known { since, began, asked, turn: turn & 1, ..Known::default() };
        for _ in 0..saved.u64()? {
            known.few.push(u32::from_le_bytes(*saved.take::<4>()?));
        }
        for _ in 0..saved.u64()? {
            let (turn, count, blocks) = (saved.u8()? & 1, saved.u32()?, saved.u64()?);
            let mut filter = Filter { turn, count, blocks: Box::default() };
            let mut all = Vec::new();
            for _ in 0..blocks {
                let mut block = Block::default();
                for word in &mut block {
                    *word = u64::from_le_bytes(*saved.take::<8>()?);
                }
                all.push(block);
            }
            if all.is_empty() {
                return None;
            }
            filter.blocks = all.into();
            known.many.push(filter);
        }
        Some(known)
    }
}

impl Filter {
    fn new(turn: u8, size: u32) -> Filter {
        let blocks = (size as usize * BITS_EACH).div_ceil(512);
        Filter { turn, count: 0, blocks: vec![Block::default(); blocks].into() }
    }

    fn holds(&self, print: u32) -> bool {
        let (at, mut bits) = place(print, self.blocks.len());
        self.blocks.get(at).is_some_and(|block| {
            (0..PROBES).all(|_| {
                let bit = bits & 511;
                bits >>= 9;
                block.get((bit >> 6) as usize).is_some_and(|word| word >> (bit & 63) & 1 == 1)
            })
        })
    }

    fn put(&mut self, print: u32) {
        let (at, mut bits) = place(print, self.blocks.len());
        if let Some(block) = self.blocks.get_mut(at) {
            for _ in 0..PROBES {
                let bit = bits & 511;
                bits >>= 9;
                if let Some(word) = block.get_mut((bit >> 6) as usize) {
                    *word |= 1 << (bit & 63);
                }
            }
        }
        self.count = self.count.saturating_add(1);
    }
}

/// Which block, and nine bits for each probe in it.
fn place(print: u32, blocks: usize) -> (usize, u64) {
    let mut mixed = u64::from(print).wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^= mixed >> 31;
    let at = u64::from(print >> 1).wrapping_mul(0xd6e8_feb8_6659_fd93) >> 32;
    (((at * blocks as u64) >> 32) as usize, mixed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u32 = 86_400;

    /// One that has learnt, and is in its ninth day.
    fn learnt() -> Known {
        let mut known = Known::default();
        assert!(!known.add(u64::MAX, 1_000), "nobody is new on the first day");
        assert!(!known.add(u64::MAX - 1, 1_000 + LEARNING_SECS - 1));
        known
    }

    #[test]
    fn one_who_was_written_to_is_known_for_36_days_at_least_and_72_at_most() {
        for first in (0..80).map(|day| 1_000 + (10 + day) * DAY) {
            for after in [1, 35 * DAY, 36 * DAY - 1, 72 * DAY, 100 * DAY] {
                // With mail to somebody else in between, every day or never.
                for daily in [false, true] {
                    let mut known = learnt();
                    let others = |known: &mut Known, from: u32, to: u32| {
                        if daily {
                            (from..to).step_by(DAY as usize).for_each(|at| _ = known.add(u64::MAX, at));
                        }
                    };
                    others(&mut known, 10 * DAY, first);
                    known.add(7, first);
                    others(&mut known, first, first + after);
                    let new = known.add(7, first + after);
                    let must = after >= 72 * DAY && daily;
                    assert!(!new || after >= 36 * DAY, "{first} {after} {daily}");
                    assert!(new || !must, "{first} {after} {daily}");
                    assert!(!known.add(7, first + after));
                }
            }
        }
    }

    #[test]
    fn who_wrote_to_nobody_for_long_is_new_itself() {
        let mut known = learnt();
        let later = 100 * DAY;
        assert!(
            !known.add(7, later) && !known.add(8, later + LEARNING_SECS - 1) && known.add(9, later + LEARNING_SECS)
        );
    }

    #[test]
    fn a_clock_that_was_set_back_makes_nobody_new() {
        let mut known = learnt();
        known.add(7, 20 * DAY);
        assert!(!known.add(7, 5 * DAY) && !known.add(8, 600) && !known.add(9, 700));
    }

    #[test]
    fn strangers_seldom_pass_for_known_and_nobody_known_for_new() {
        let mut known = learnt();
        let mut passed = 0;
        let at = |n: u64| 10 * DAY + (n / 600) as u32;
        for n in 0..20_000_u64 {
            passed += u32::from(!known.add(n, at(n)));
            if n < 60 {
                assert_eq!(passed, 0, "the first ones are exact");
            }
        }
        assert!((1..200).contains(&passed), "{passed} of 20000");
        assert!((0..20_000).all(|n| !known.add(n, at(n))));
        // Of more it lets more pass, and takes no more room for them.
        let full = known.bytes();
        (20_000..300_000).for_each(|n| _ = known.add(n, at(n)));
        assert_eq!(known.bytes(), full);
        assert!(full < 48_000, "{full}");
        assert!((0..300_000).all(|n| !known.add(n, at(n))));
        let mut out = Writer::default();
        known.write(&mut out);
        assert!(out.bytes.len() < 48_000);
        assert_eq!(Known::read(&mut Reader::new(&out.bytes)), Some(Known { new: false, ..known }));
    }

    #[test]
    fn a_cut_row_is_no_memory() {
        let mut known = learnt();
        (0..400).for_each(|n| _ = known.add(n, 10 * DAY));
        let mut out = Writer::default();
        known.write(&mut out);
        for end in 0..out.bytes.len() {
            assert_eq!(Known::read(&mut Reader::new(&out.bytes[..end])), None, "{end}");
        }
    }
}
