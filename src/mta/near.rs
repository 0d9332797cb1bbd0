//! A byte that is likely to stand near: the next blank, colon or bracket of a log line. Eight bytes at a time without a
//! call, as most are found within the first two; what is far is left to `memchr`, which is made for that.

const WORD: usize = 8;
/// So many words before it is far.
const WORDS: usize = 4;
const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// Where `byte` stands first.
#[inline(always)]
pub(in crate::mta) fn find(byte: u8, text: &[u8]) -> Option<usize> {
    first([byte], text, |far| memchr::memchr(byte, far))
}

/// Where one of two bytes stands first.
#[inline(always)]
pub(in crate::mta) fn either(a: u8, b: u8, text: &[u8]) -> Option<usize> {
    first([a, b], text, |far| memchr::memchr2(a, b, far))
}

/// Where one of three bytes stands first.
#[inline(always)]
pub(in crate::mta) fn any_of(a: u8, b: u8, c: u8, text: &[u8]) -> Option<usize> {
    first([a, b, c], text, |far| memchr::memchr3(a, b, c, far))
}

#[inline(always)]
fn first<const N: usize>(bytes: [u8; N], text: &[u8], far: impl FnOnce(&[u8]) -> Option<usize>) -> Option<usize> {
    let (mut rest, mut from) = (text, 0);
    for _ in 0..WORDS {
        let Some((word, after)) = rest.split_first_chunk::<WORD>() else {
            return rest.iter().position(|byte| bytes.contains(byte)).map(|at| from + at);
        };
        let word = u64::from_le_bytes(*word);
        let hits = bytes.iter().fold(0, |hits, byte| hits | zeros(word ^ (u64::from(*byte) * ONES)));
        if hits != 0 {
            return Some(from + hits.trailing_zeros() as usize / WORD);
        }
        (rest, from) = (after, from + WORD);
    }
    far(rest).map(|at| from + at)
}

/// The high bit of every byte that is zero; above the first one others may be set too.
#[inline(always)]
fn zeros(word: u64) -> u64 {
    word.wrapping_sub(ONES) & !word & HIGHS
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]

        #[test]
        fn as_a_walk_through_the_bytes_finds_it(text in prop::collection::vec(0u8..4, 0..60), wide in any::<[u8; 3]>(), narrow in [0u8..4, 0..4, 0..4]) {
            let wide_text: Vec<u8> = text.iter().map(|byte| byte.wrapping_mul(0x55) ^ 0x80).collect();
            for (text, [a, b, c]) in [(&text, narrow), (&wide_text, wide), (&wide_text, narrow.map(|n| n.wrapping_mul(0x55) ^ 0x80))] {
                let walk = |bytes: &[u8]| text.iter().position(|byte| bytes.contains(byte));
                prop_assert_eq!(find(a, text), walk(&[a]));
                prop_assert_eq!(either(a, b, text), walk(&[a, b]));
                prop_assert_eq!(any_of(a, b, c, text), walk(&[a, b, c]));
            }
        }
    }
}
