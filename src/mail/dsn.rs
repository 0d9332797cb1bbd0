//! Enhanced status codes (RFC 3463): `X.Y.Z` with X one of 2, 4, 5 and Y, Z up to three digits.

use std::fmt;

/// An enhanced status code. `0.0.0` means the log gave none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, PartialOrd, Ord)]
pub struct Dsn {
    pub class: u8,
    pub subject: u16,
    pub detail: u16,
}

impl Dsn {
    pub const NONE: Dsn = Dsn { class: 0, subject: 0, detail: 0 };

    pub const fn new(class: u8, subject: u16, detail: u16) -> Dsn {
        Dsn { class, subject, detail }
    }

    /// Reads `5.1.1` and nothing else; `None` for anything that is not exactly a status code.
    #[inline]
    pub fn parse(text: &[u8]) -> Option<Dsn> {
        let mut parts = text.split(|&b| b == b'.');
        let class = digits(parts.next()?, 1)?;
        let subject = digits(parts.next()?, 3)?;
        let detail = digits(parts.next()?, 3)?;
        if parts.next().is_some() || !matches!(class, 2 | 4 | 5) {
            return None;
        }
        Some(Dsn { class: class as u8, subject, detail })
    }

    pub const fn is_none(self) -> bool {
        self.class == 0
    }
}

#[inline]
fn digits(text: &[u8], most: usize) -> Option<u16> {
    if text.is_empty() || text.len() > most {
        return None;
    }
    text.iter().try_fold(0u16, |n, b| b.is_ascii_digit().then(|| n * 10 + u16::from(b - b'0')))
}

impl fmt::Display for Dsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.class, self.subject, self.detail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_codes_and_refuses_look_alikes() {
        assert_eq!(Dsn::parse(b"5.1.1"), Some(Dsn::new(5, 1, 1)));
        assert_eq!(Dsn::parse(b"4.999.999"), Some(Dsn::new(4, 999, 999)));
        for bad in [&b""[..], b"5.1", b"5.1.1.1", b"3.0.0", b"5.1.1000", b"5..1", b"55.1.1", b"5.1.x"] {
            assert_eq!(Dsn::parse(bad), None, "{bad:?}");
        }
    }
}
