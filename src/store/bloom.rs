//! A small Bloom filter over the keys of a chunk of the message index: says "not in here" for sure, "in here" with
//! about one mistake in a hundred.
//!
//! Its hash is written to disk, so it is spelled out here and must never change.

/// What a key is, so that a queue id never looks like an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    /// A queue id: the record's own, its parent's, or one a recipient went on as.
    Queue = 1,
    MessageId = 2,
    Recipient = 3,
    Owner = 4,
}

/// Bits per key; with 7 probes about 0.8 % false positives.
const BITS: usize = 10;
const PROBES: u64 = 7;

/// The hash of a key: FNV-1a over tag and bytes (ASCII letters in lower case), then mixed (splitmix64).
pub(super) fn hash(key: Key, bytes: &[u8]) -> u64 {
    let mut h = (0xcbf2_9ce4_8422_2325 ^ key as u64).wrapping_mul(0x0100_0000_01b3);
    for byte in bytes {
        h = (h ^ u64::from(byte.to_ascii_lowercase())).wrapping_mul(0x0100_0000_01b3);
    }
    mix(h)
}

pub(super) fn owner_hash(owner: u32) -> u64 {
    mix((Key::Owner as u64) << 32 | u64::from(owner))
}

fn mix(mut h: u64) -> u64 {
    h = (h ^ (h >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    h = (h ^ (h >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    h ^ (h >> 31)
}

/// Builds the filter. `hashes` is put in order and rid of doubles on the way.
pub(super) fn build(hashes: &mut Vec<u64>) -> Vec<u8> {
    hashes.sort_unstable();
    hashes.dedup();
    let mut filter = vec![0u8; (hashes.len() * BITS).div_ceil(8).max(8)];
    let bits = filter.len() as u64 * 8;
    for &hash in hashes.iter() {
        for bit in probes(hash, bits) {
            if let Some(byte) = filter.get_mut((bit / 8) as usize) {
                *byte |= 1 << (bit % 8);
            }
        }
    }
    filter
}

/// Whether the key may be in the filter. An empty (damaged) filter says yes.
pub(super) fn may_contain(filter: &[u8], hash: u64) -> bool {
    let bits = filter.len() as u64 * 8;
    bits == 0 || probes(hash, bits).all(|bit| filter.get((bit / 8) as usize).is_some_and(|b| b & (1 << (bit % 8)) != 0))
}

fn probes(hash: u64, bits: u64) -> impl Iterator<Item = u64> {
    let step = hash.rotate_left(32) | 1;
    (0..PROBES).map(move |n| hash.wrapping_add(step.wrapping_mul(n)) % bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_every_key_and_few_others() {
        let mut hashes: Vec<u64> =
            (0..5_000).map(|n| hash(Key::Recipient, format!("User{n}@example.test").as_bytes())).collect();
        let all = hashes.clone();
        let filter = build(&mut hashes);
        assert!(all.iter().all(|&h| may_contain(&filter, h)));
        assert!(may_contain(&filter, hash(Key::Recipient, b"USER7@EXAMPLE.TEST")));
        let wrong = (0..10_000)
            .filter(|n| may_contain(&filter, hash(Key::Queue, format!("User{n}@example.test").as_bytes())))
            .count();
        assert!(wrong < 300, "{wrong} false positives of 10,000");
    }

    #[test]
    fn the_hash_on_disk_never_changes() {
        // Computed apart from this code.
        assert_eq!(hash(Key::Queue, b"4jYabcZ"), 0xed836b0f2f9aeca7);
        assert_eq!(hash(Key::Recipient, b"A@b.test"), 0xc8eec2aa2d66ca34);
        assert_eq!(owner_hash(16), 0xb1a71aab07dadcd4);
    }
}
