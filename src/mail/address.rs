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

/// Local part and domain; an address without a domain is all local part.
#[inline]
pub fn split(address: &[u8]) -> (&[u8], &[u8]) {
    let at = memchr::memrchr(b'@', address).unwrap_or(address.len());
    (address.get(..at).unwrap_or(address), address.get(at + 1..).unwrap_or(&[]))
}

/// Addresses with single spaces between them, as a log lists them. A space in a quoted local part separates nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressList<'a>(pub &'a [u8]);

impl<'a> AddressList<'a> {
    pub fn iter(self) -> impl Iterator<Item = &'a [u8]> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let (address, after) = rest.split_at_checked(end(rest))?;
            rest = after.strip_prefix(b" ").unwrap_or(after);
            (!address.is_empty()).then_some(address)
        })
    }
}

/// Addresses that each end with a comma, a space before the next: `a@b, "x, y"@c,`. What the end of a line has cut has no
/// comma behind it, and is none. The null sender is an empty one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EndedList<'a>(pub &'a [u8]);

impl<'a> EndedList<'a> {
    pub fn iter(self) -> impl Iterator<Item = &'a [u8]> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let (address, after) = rest.split_at_checked(comma(rest)?)?;
            let after = after.get(1..)?;
            rest = after.strip_prefix(b" ").unwrap_or(after);
            Some(address)
        })
    }
}

/// Where the first comma is that neither quotes nor a backslash make a part of an address.
fn comma(text: &[u8]) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    text.iter().position(|byte| {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => quoted = !quoted,
            b',' => return !quoted,
            _ => {}
        }
        false
    })
}

/// Where the address at the beginning of a text ends: at a space outside quotes, or with the text. Only a local part
/// with a domain behind it has quotes.
#[inline]
pub fn end(text: &[u8]) -> usize {
    let from = quoted_local(text).unwrap_or(0);
    text.get(from..).and_then(|rest| memchr::memchr(b' ', rest)).map_or(text.len(), |at| from + at)
}

/// Where the `@` is behind a local part in quotes.
fn quoted_local(text: &[u8]) -> Option<usize> {
    if text.first() != Some(&b'"') {
        return None;
    }
    let mut from = 1;
    loop {
        let at = from + memchr::memchr2(b'"', b'\\', text.get(from..)?)?;
        if text.get(at) == Some(&b'"') {
            return (text.get(at + 1) == Some(&b'@')).then_some(at + 1);
        }
        from = at + 2;
    }
}

/// The text is one address, and its quotes are those of its local part.
pub fn is_whole(text: &[u8]) -> bool {
    let rest = text.get(quoted_local(text).unwrap_or(0)..).unwrap_or(&[]);
    memchr::memchr2(b'"', b' ', rest).is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_split_outside_quotes() {
        let table: &[(&str, &[&str])] = &[
            ("", &[]),
            ("a@b", &["a@b"]),
            ("a@b c@d e@f", &["a@b", "c@d", "e@f"]),
            (r#""a b"@c d@e"#, &[r#""a b"@c"#, "d@e"]),
            (r#""a\" b"@c d@e"#, &[r#""a\" b"@c"#, "d@e"]),
            (r#""a b d@e"#, &[r#""a"#, "b", "d@e"]),
            (r#""a b" d@e"#, &[r#""a"#, r#"b""#, "d@e"]),
        ];
        for (text, want) in table {
            let read: Vec<&[u8]> = AddressList(text.as_bytes()).iter().collect();
            let want: Vec<&[u8]> = want.iter().map(|address| address.as_bytes()).collect();
            assert_eq!(read, want, "{text}");
        }
    }

    #[test]
    fn an_address_without_its_comma_is_none() {
        let table: &[(&str, &[&str])] = &[
            ("", &[]),
            ("a@b", &[]),
            (",", &[""]),
            ("a@b,", &["a@b"]),
            (", a@b, c@d,", &["", "a@b", "c@d"]),
            ("a@b, c@", &["a@b"]),
            (r#"a@b, "x, y"@c, "p\", q"@c, z\,z@c,"#, &["a@b", r#""x, y"@c"#, r#""p\", q"@c"#, r"z\,z@c"]),
            (r#"a@b, "x, y@c, d@e,"#, &["a@b"]),
            (r"a@b, x\", &["a@b"]),
        ];
        for (text, want) in table {
            let read: Vec<&[u8]> = EndedList(text.as_bytes()).iter().collect();
            let want: Vec<&[u8]> = want.iter().map(|address| address.as_bytes()).collect();
            assert_eq!(read, want, "{text}");
        }
    }

    #[test]
    fn domain_is_after_the_last_at() {
        assert_eq!(domain(b"a@b.test"), b"b.test");
        assert_eq!(domain(b"\"x@y\"@b.test."), b"b.test");
        assert_eq!(domain(b"web1"), b"");
    }

    #[test]
    fn quotes_belong_to_the_local_part() {
        for whole in ["a@b", "a", r#""a b"@c"#, r#""a\" b"@c"#] {
            assert!(is_whole(whole.as_bytes()), "{whole}");
        }
        for other in [r#"a"@b"#, r#""a b"c@d"#, "a b@c", r#""a"@b""#, r#""a b@c"#, "\""] {
            assert!(!is_whole(other.as_bytes()), "{other}");
        }
    }
}
