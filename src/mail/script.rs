//! Which script made a message, as far as somebody claims it.
//!
//! A claim never decides whose a message is: whoever runs a script chooses its working directory, and can write such
//! headers. It is kept with the message and shown as claimed. See [`Script`] and [`ScriptClaim`].

use super::QueueId;

/// What a line says about the script behind a message. What it does not say is empty (line: 0).
///
/// Of command lines only those come here that may submit a message: no delivery processes, no queue runs, no notices
/// that the server submits to itself. They come in the order of the log with the arrivals they belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Script<'a> {
    /// The message, where the line names it; else it is found by process id, by neighbourhood, or by recipient and
    /// time.
    pub id: Option<QueueId>,
    pub from: ScriptSource,
    /// The uid that the claim begins with (`2001:mailer.php`): the claim is void but on a message of this uid.
    pub uid: Option<u32>,
    /// Working directory of the process.
    pub directory: &'a [u8],
    /// The script: a whole path or a file name.
    pub path: &'a [u8],
    /// Line of the script.
    pub line: u32,
    /// The recipients as the script gave them: the text of a header.
    pub recipients: &'a [u8],
}

/// Which line told of a script.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ScriptSource {
    /// The command line that submitted the message.
    Command {
        /// The process may submit several messages (SMTP on its input).
        many: bool,
    },
    /// A line that an access rule of the server writes about a message.
    Rule,
    /// A header of the message.
    Header,
    /// The log of the script's interpreter.
    Interpreter,
}

/// Longest path or directory kept, in bytes.
pub const MAX_PATH: usize = 512;

/// What is kept with a message: raw bytes, capped.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScriptClaim {
    /// Empty when only the directory is known.
    pub path: Box<[u8]>,
    /// 0 when not told.
    pub line: u32,
    pub directory: Box<[u8]>,
}

impl ScriptClaim {
    pub fn new(directory: &[u8], path: &[u8], line: u32) -> ScriptClaim {
        let capped = |text: &[u8]| text.get(..MAX_PATH).unwrap_or(text).into();
        ScriptClaim { path: capped(path), line, directory: capped(directory) }
    }

    /// The path is a whole one, not a file name only.
    pub fn is_whole(&self) -> bool {
        self.path.first() == Some(&b'/')
    }

    pub fn is_empty(&self) -> bool {
        self.path.is_empty() && self.directory.is_empty()
    }

    /// The claim, if there is one.
    pub fn told(&self) -> Option<&ScriptClaim> {
        if self.is_empty() { None } else { Some(self) }
    }

    /// The same for all messages of a script, as far as it is named: its whole path, or its directory and name. A hash that
    /// stays the same for good (FNV-1a, 64 bits).
    pub fn identity(&self) -> u64 {
        let directory = if self.is_whole() { &[] } else { &*self.directory };
        let bytes = directory.iter().chain(b"/").chain(&*self.path);
        bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
    }

    /// Adds what another line says of the same message. A whole path says more than a file name; for the rest, the
    /// first word stands.
    pub fn add(&mut self, other: ScriptClaim) {
        if self.path.is_empty() || (other.is_whole() && !self.is_whole()) {
            (self.path, self.line) = (other.path, other.line);
        }
        if self.directory.is_empty() {
            self.directory = other.directory;
        }
    }
}

/// `UID:NAME`, the value of PHP's header `X-PHP-Originating-Script` (`mail.add_x_header`). NAME is the base name of
/// the script's file, with `(LINE) : eval()'d code` behind it where code was evaluated.
pub fn php_header(value: &[u8]) -> Option<(u32, &[u8])> {
    let colon = memchr::memchr(b':', value)?;
    let (digits, name) = (value.get(..colon)?, value.get(colon + 1..)?);
    let good = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    let uid = std::str::from_utf8(digits).ok().filter(|_| good)?.parse().ok()?;
    if name.is_empty() { None } else { Some((uid, name)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_of_php() {
        assert_eq!(php_header(b"2001:mailer.php"), Some((2001, &b"mailer.php"[..])));
        assert_eq!(php_header(b"33:a.php(4) : eval()'d code"), Some((33, &b"a.php(4) : eval()'d code"[..])));
        for bad in ["", ":", "2001:", "x:mailer.php", "+1:a.php", "4294967296:a.php", "mailer.php", " 1:a.php"] {
            assert_eq!(php_header(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn a_script_is_told_by_its_whole_path_or_its_directory_and_name() {
        let of = |directory: &[u8], path: &[u8], line| ScriptClaim::new(directory, path, line).identity();
        assert_eq!(of(b"/home/web1", b"/srv/a.php", 3), of(b"", b"/srv/a.php", 9));
        let others = [of(b"/a", b"b.php", 0), of(b"/a", b"", 0), of(b"", b"b.php", 0), of(b"/c", b"b.php", 0)];
        assert!((0..4).all(|n| (0..n).all(|m| others[n] != others[m])), "{others:?}");
    }

    #[test]
    fn a_whole_path_says_more_and_the_first_word_stands() {
        let mut claim = ScriptClaim::new(b"", b"a.php", 0);
        claim.add(ScriptClaim::new(b"/home/web1", b"b.php", 0));
        assert_eq!(claim, ScriptClaim::new(b"/home/web1", b"a.php", 0));
        claim.add(ScriptClaim::new(b"/tmp", b"/home/web1/a.php", 12));
        assert_eq!(claim, ScriptClaim::new(b"/home/web1", b"/home/web1/a.php", 12));
        claim.add(ScriptClaim::new(b"", b"/home/web1/other.php", 1));
        assert_eq!(claim.line, 12);
        assert_eq!(ScriptClaim::new(&[b'/'; 9_000], b"", 0).directory.len(), MAX_PATH);
    }
}
