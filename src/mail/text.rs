//! Text from attackers, made safe to keep and to show: valid UTF-8, no control characters, a length cap.

/// Bytes of a log field as clean text of at most `most` bytes: invalid UTF-8 and control characters
/// (also the Unicode line and bidirectional controls that can disguise text) become `\u{FFFD}`.
pub fn clean(bytes: &[u8], most: usize) -> String {
    let plain = |byte: &u8| matches!(byte, b' '..=b'~');
    // Most texts are; then there is nothing to look for.
    if bytes.len() <= most && bytes.iter().all(plain) {
        return String::from_utf8_lossy(bytes).into_owned();
    }
    let head = bytes.get(..most.saturating_mul(2)).unwrap_or(bytes);
    let mut out = String::with_capacity(head.len().min(most));
    for c in String::from_utf8_lossy(head).chars() {
        let c = if is_unsafe(c) { char::REPLACEMENT_CHARACTER } else { c };
        if out.len() + c.len_utf8() > most {
            break;
        }
        out.push(c);
    }
    out
}

fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}' | '\u{FEFF}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cleans_and_caps() {
        assert_eq!(clean(b"plain", 10), "plain");
        assert_eq!((clean(b"plain", 5), clean(b"plain", 4)), ("plain".to_owned(), "plai".to_owned()));
        assert_eq!(clean(b"del\x7f", 10), "del\u{FFFD}");
        assert_eq!(clean(b"a\nb\x1b[31m\xff", 64), "a\u{FFFD}b\u{FFFD}[31m\u{FFFD}");
        assert_eq!(clean("\u{202E}evil".as_bytes(), 64), "\u{FFFD}evil");
        assert_eq!(clean("éééé".as_bytes(), 5), "éé");
    }
}
