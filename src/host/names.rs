//! Who is uid 1004? The host's name service answers, within a limit; answers and failures are remembered for a while.
//!
//! `/etc/passwd` is read directly, everything else (LDAP, sssd, winbind) through `getent`, so no unsafe call is needed
//! and a hanging directory server cannot hang the pump. Where nsswitch.conf(5) names no other source, nobody is asked:
//! a log full of uids that have no name must not start a process for each.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use super::{clock, exec};

const KEEP: Duration = Duration::from_secs(300);
const KEEP_FAILURE: Duration = Duration::from_secs(30);
const MAX_CACHED: usize = 16_384;
/// utmp(5) has 32 bytes for a login name; directories may allow more.
const LONGEST_LOGIN: usize = 256;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    pub uid: u32,
    pub login: String,
    pub home: PathBuf,
}

/// Users by uid and by login name: the host's, a given passwd text's (replay), or none.
pub struct Names {
    source: Source,
    passwd: Passwd,
    seen: Option<SystemTime>,
    /// Answers of the name service, by uid or login name as it was asked.
    cache: HashMap<String, (Instant, Option<User>)>,
    /// How long the name service may take for one uid.
    limit: Duration,
    /// The name service knows more than `/etc/passwd`.
    has_directory: bool,
}

/// The users of a passwd text.
#[derive(Default)]
struct Passwd {
    by_uid: HashMap<u32, User>,
    by_login: HashMap<String, User>,
}

enum Source {
    Host,
    Given,
}

impl Names {
    pub fn of_host(limit: Duration) -> Names {
        let switch = fs::read("/etc/nsswitch.conf").unwrap_or_default();
        let has_directory = asks_others(&String::from_utf8_lossy(&switch));
        Names { source: Source::Host, limit, has_directory, ..Names::none() }
    }

    /// Only what this passwd text says.
    pub fn from_passwd(text: &str) -> Names {
        Names {
            source: Source::Given,
            passwd: parse(text),
            seen: None,
            cache: HashMap::new(),
            limit: Duration::ZERO,
            has_directory: false,
        }
    }

    pub fn none() -> Names {
        Names::from_passwd("")
    }

    /// Takes at most the limit; a failure is remembered for thirty seconds.
    pub fn user(&mut self, uid: u32) -> Option<User> {
        self.read_passwd();
        let user = self.passwd.by_uid.get(&uid).cloned();
        user.or_else(|| self.ask(&uid.to_string(), |passwd| passwd.by_uid.remove(&uid)))
    }

    /// The same by login name. What cannot be a login name is nobody's.
    pub fn user_named(&mut self, login: &[u8]) -> Option<User> {
        let login = std::str::from_utf8(login).ok()?;
        self.read_passwd();
        if let Some(user) = self.passwd.by_login.get(login) {
            return Some(user.clone());
        }
        // getent(1) takes a number for a uid, and a dash for an option.
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b'$' | b'@' | b'\\' | b'+');
        let named = login.len() <= LONGEST_LOGIN && login.bytes().all(plain) && !login.starts_with('-');
        if !named || login.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        self.ask(login, |passwd| passwd.by_login.remove(login))
    }

    fn read_passwd(&mut self) {
        if matches!(self.source, Source::Given) {
            return;
        }
        let changed = fs::metadata("/etc/passwd").and_then(|m| m.modified()).ok();
        if changed.is_some() && changed != self.seen {
            // Logins are ASCII in practice; a stray byte must not cost the whole file.
            self.passwd = fs::read("/etc/passwd").map(|b| parse(&String::from_utf8_lossy(&b))).unwrap_or_default();
            self.seen = changed;
        }
    }

    /// Asks the directory for a uid or login name.
    fn ask(&mut self, wanted: &str, found: impl FnOnce(&mut Passwd) -> Option<User>) -> Option<User> {
        if !self.has_directory {
            return None;
        }
        let now = clock::monotonic();
        if let Some((until, user)) = self.cache.get(wanted)
            && *until > now
        {
            return user.clone();
        }
        let argv = ["getent", "passwd", wanted].map(str::to_owned);
        let answer = exec::run(&argv, b"", self.limit).ok().filter(|o| o.status.success());
        let user = answer.and_then(|o| found(&mut parse(&String::from_utf8_lossy(&o.stdout))));
        if self.cache.len() >= MAX_CACHED {
            self.cache.clear();
        }
        let keep = if user.is_some() { KEEP } else { KEEP_FAILURE };
        self.cache.insert(wanted.to_owned(), (clock::monotonic() + keep, user.clone()));
        user
    }
}

/// The first group of a user of `/etc/passwd`: users of services are there, whatever directory others are in.
pub fn group_of(uid: u32) -> Option<u32> {
    let text = fs::read("/etc/passwd").ok()?;
    let text = String::from_utf8_lossy(&text);
    text.lines().find_map(|line| {
        let mut fields = line.split(':').skip(2);
        let (found, group) = (fields.next()?.parse::<u32>().ok()?, fields.next()?.parse().ok()?);
        (found == uid).then_some(group)
    })
}

/// Whether nsswitch.conf(5) names a source of users besides `/etc/passwd`. `systemd` only knows users of services
/// while they run. Without a `passwd` line the C library asks the files.
fn asks_others(switch: &str) -> bool {
    let sources = switch.lines().filter_map(|line| line.trim_start().strip_prefix("passwd:"));
    let known = ["files", "compat", "systemd"];
    sources
        .flat_map(str::split_whitespace)
        .take_while(|word| !word.starts_with('#'))
        .any(|word| !known.contains(&word) && !word.starts_with('[') && !word.ends_with(']'))
}

/// The first entry of a uid or name wins, as in the C library.
fn parse(text: &str) -> Passwd {
    let mut users = Passwd::default();
    for line in text.lines() {
        let mut fields = line.split(':');
        let (Some(login), Some(uid), Some(home)) = (fields.next(), fields.nth(1), fields.nth(2)) else { continue };
        if let (false, Ok(uid)) = (login.is_empty() || login.starts_with(['#', '+', '-']), uid.parse()) {
            let user = User { uid, login: login.to_owned(), home: PathBuf::from(home) };
            users.by_login.entry(login.to_owned()).or_insert_with(|| user.clone());
            users.by_uid.entry(uid).or_insert(user);
        }
    }
    users
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_passwd_and_asks_the_host() {
        let mut names =
            Names::from_passwd("#x\nbob:x:1004:1004:Bob:/home/bob:/bin/sh\nbob2:x:1004:1::/b:/bin/sh\nbad:x\n");
        let bob = names.user(1004).unwrap();
        assert_eq!((bob.login.as_str(), bob.home.to_str()), ("bob", Some("/home/bob")));
        assert_eq!(names.user(0), None);
        assert_eq!(names.user_named(b"bob2").map(|user| user.uid), Some(1004), "two names, one uid");
        assert_eq!(names.user_named(b"eve"), None);
        assert_eq!(Names::none().user(0), None);
        let mut host = Names { has_directory: true, ..Names::of_host(Duration::from_secs(2)) };
        assert_eq!(host.user(0).unwrap().login, "root");
        assert_eq!(host.user(4_000_000_001), None);
        assert!(host.cache.contains_key("4000000001"), "the name service was asked");
        assert_eq!(host.user_named(b"daemon").unwrap().uid, 1);
        for nobody in [&b"no-such-user"[..], b"4000000002", b"-h", b"a b", b"\xff", b""] {
            assert_eq!(host.user_named(nobody), None, "{nobody:?}");
        }
        assert!(host.cache.contains_key("no-such-user"));
        assert_eq!(host.cache.len(), 2, "what is no login name is not asked for");
        let mut files = Names { has_directory: false, ..Names::of_host(Duration::from_secs(2)) };
        assert_eq!(files.user(4_000_000_001), None);
        assert!(files.cache.is_empty(), "nobody was asked");
    }

    #[test]
    fn a_service_has_a_group() {
        assert_eq!(group_of(0), Some(0));
        assert_eq!(group_of(4_000_000_001), None);
    }

    #[test]
    fn only_a_directory_is_asked() {
        assert!(!asks_others(""));
        assert!(!asks_others("# c\npasswd:         files systemd\ngroup: files sss\n"));
        assert!(!asks_others("passwd: compat [NOTFOUND=return] files # sss\n"));
        assert!(asks_others("passwd: files sss\n"));
        assert!(asks_others("passwd:\tfiles ldap\n"));
    }
}
