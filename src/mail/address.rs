//! Mail addresses as logs show them: compared in lower case, split at the last `@`.

/// The domain of an address, without a trailing dot; empty when there is none.
#[inline]
pub fn domain(address: &[u8]) -> &[u8] {
    match memchr::memrchr(b'@', address) {
        Some(at) => {
            let domain = address.get(at + 1..).unwrap_or(&[]);
            domain.strip_suffix(b".").unwrap_or(domain)
        }
        None => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domain_is_after_the_last_at() {
        assert_eq!(domain(b"a@b.test"), b"b.test");
        assert_eq!(domain(b"\"x@y\"@b.test."), b"b.test");
        assert_eq!(domain(b"web1"), b"");
    }
}
