//! The header in which PHP names the script, logged by a header check:
//! `/^X-PHP-Originating-Script:/ INFO` (or `WARN`) in `header_checks`.
//!
//! `info: header X-PHP-Originating-Script: 2001:mailer.php from local; from=<web1@h> …` (cleanup_message.c; the header
//! is cut at 200 characters). All of the header is the sender's text, also where it looks like the server's: it is a
//! claim, and the tracker believes it of a message of the uid only that it begins with.

use crate::mail::script::php_header;
use crate::mail::{QueueId, Script, ScriptSource};

/// The text behind the queue id; `None` when it is no such line.
pub(super) fn header(id: QueueId, text: &[u8]) -> Option<Script<'_>> {
    const NAME: &[u8] = b"X-PHP-Originating-Script:";
    let header = text.strip_prefix(b"info: header ").or_else(|| text.strip_prefix(b"warning: header "))?;
    let (name, value) = header.split_at_checked(NAME.len())?;
    if !name.eq_ignore_ascii_case(NAME) {
        return None;
    }
    // Behind the header cleanup writes where it is from, and the sender: the last of each is its own.
    let end = memchr::memmem::rfind(value, b"; from=<")?;
    let value = value.get(..end)?;
    let end = memchr::memmem::rfind(value, b" from ")?;
    let (uid, path) = php_header(value.get(..end)?.trim_ascii())?;
    let (id, uid) = (Some(id), Some(uid));
    Some(Script { id, from: ScriptSource::Header, uid, directory: b"", path, line: 0, recipients: b"" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<(u32, String)> {
        let script = header(QueueId::new(b"8C47DB6051").unwrap(), text.as_bytes())?;
        assert_eq!((script.id, script.from), (QueueId::new(b"8C47DB6051"), ScriptSource::Header));
        Some((script.uid.unwrap(), String::from_utf8_lossy(script.path).into_owned()))
    }

    #[rustfmt::skip]
    #[test]
    fn headers() {
        let table = [
            ("info: header X-PHP-Originating-Script: 2001:mailer.php from local; from=<web1@h>", Some((2001, "mailer.php"))),
            ("info: header x-php-originating-script: 2001:a b.php from local; from=<web1@h> to=<x@y>: text", Some((2001, "a b.php"))),
            ("warning: header X-PHP-Originating-Script:33:a.php(5) : eval()'d code from h[192.0.2.1]; from=<a@b> to=<c@d> proto=ESMTP helo=<x>", Some((33, "a.php(5) : eval()'d code"))),
            // The sender's own words do not move the end.
            ("info: header X-PHP-Originating-Script: 1:a from local; from=<b.php from local; from=<\"x; from=<y\"@h>", Some((1, "a from local; from=<b.php"))),
            ("info: header X-PHP-Originating-Script: mailer.php from local; from=<web1@h>", None),
            ("info: header X-PHP-Originating-Script: 2001:mailer.php", None),
            ("info: header X-PHP-Originating-Script", None),
            ("info: header Subject: X-PHP-Originating-Script: 2001:mailer.php from local; from=<web1@h>", None),
            ("info: body X-PHP-Originating-Script: 2001:mailer.php from local; from=<web1@h>", None),
            ("reject: header X-PHP-Originating-Script: 2001:mailer.php from local; from=<web1@h>", None),
        ];
        for (text, want) in table {
            assert_eq!(read(text), want.map(|(uid, path)| (uid, path.to_owned())), "{text}");
        }
    }
}
