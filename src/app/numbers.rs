//! Numbers as people read them: grouped, and with their noun in the singular or plural.

/// 1234567 as `1 234 567`.
pub fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(' ');
        }
        out.push(digit);
    }
    out
}

/// `1 day`, `2 days`, `1 000 entries`.
pub fn counted(n: u64, one: &str, many: &str) -> String {
    format!("{} {}", grouped(n), if n == 1 { one } else { many })
}

/// A span of time in the largest unit that it has: `3 days`, `5 hours`, `20 minutes`, `7 seconds`.
pub fn span(secs: i64) -> String {
    let secs = secs.unsigned_abs();
    match secs {
        0..60 => counted(secs, "second", "seconds"),
        60..3_600 => counted(secs / 60, "minute", "minutes"),
        3_600..86_400 => counted(secs / 3_600, "hour", "hours"),
        _ => counted(secs / 86_400, "day", "days"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        assert_eq!(["0", "12", "999", "1 000", "1 234 567"], [0, 12, 999, 1_000, 1_234_567].map(grouped));
    }

    #[test]
    fn one_is_no_plural() {
        let entries = |n| counted(n, "entry", "entries");
        assert_eq!(["0 entries", "1 entry", "2 entries", "1 001 entries"], [0, 1, 2, 1_001].map(entries));
        let spans = ["7 seconds", "1 minute", "59 minutes", "1 hour", "23 hours", "1 day", "400 days"];
        assert_eq!(spans, [7, 60, 3_599, 3_600, 86_399, 86_400, 400 * 86_400].map(span));
    }
}
