//! A byte that is likely to stand near: the next blank, colon or bracket of a log line. Eight bytes at a time without a
//! call, as most are found within the first two; what is far is left to `memchr`, which is made for that.

const WORD: usize = 8;
/// So many words before it is far.
const WORDS: usize = 4;
const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// The decimal number that a text begins with, and how long it is; 0 and 0 without a digit. Eight bytes at once: how
/// many of them are digits differs from line to line, and a processor guesses wrongly where a walk ends.
#[inline(always)]
pub(in crate::mta) fn number(text: &[u8]) -> Option<(u64, usize)> {
    if let Some((word, _)) = text.split_first_chunk::<WORD>() {
        let digits = u64::from_le_bytes(*word) ^ (0x30 * ONES);
        // Above the first byte that is no digit others may be set too.
        let others = (digits.wrapping_add(0x76 * ONES) | digits) & HIGHS;
        let len = others.trailing_zeros() as usize / WORD;
        if len == 0 {
            return Some((0, 0));
        }
        if len < WORD {
            // The digits to the end of the word, with zeros before them; then pairs, fours and all eight are added up.
            let pairs = (digits << (8 * (WORD - len))).wrapping_mul(2_561) >> 8;
            let fours = (pairs & 0x00ff_00ff_00ff_00ff).wrapping_mul(6_553_601) >> 16;
            return Some(((fours & 0x0000_ffff_0000_ffff).wrapping_mul(42_949_672_960_001) >> 32, len));
        }
    }
    far_number(text)
}

/// Of a text that is short or begins with many digits; `None` beyond 64 bits.
fn far_number(text: &[u8]) -> Option<(u64, usize)> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit());
    let more =
        |(n, len): (u64, usize), byte: &u8| Some((n.checked_mul(10)?.checked_add(u64::from(byte - b'0'))?, len + 1));
    digits.into_iter().try_fold((0, 0), more)
}

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

    #[test]
    fn a_number_is_what_its_digits_say() {
        for digits in ["", "0", "7", "42", "007", "123456", "1234567", "12345678", "123456789", "18446744073709551615"]
        {
            for behind in
                ["", "]", "x2", ": text of some length", "/5.5", "\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}", "\0\0\0\0\0\0\0\0\0"]
            {
                let text = format!("{digits}{behind}");
                let want = (digits.parse().unwrap_or(0), digits.len());
                assert_eq!(number(text.as_bytes()), Some(want), "{text}");
            }
        }
        assert_eq!(number(b"18446744073709551616"), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]

        #[test]
        fn a_number_ends_where_its_digits_end(text in prop::collection::vec(prop_oneof![3 => b'0'..=b'9', 1 => any::<u8>()], 0..24)) {
            let len = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
            let value = std::str::from_utf8(&text[..len]).unwrap().parse::<u64>();
            let want = if len == 0 { Some((0, 0)) } else { value.ok().map(|value| (value, len)) };
            prop_assert_eq!(number(&text), want);
        }

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
