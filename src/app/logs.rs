//! Which logs to follow: the configured ones, or those of the servers that are installed here: the files they name, the
//! syslog daemon's file where they log to that, the systemd journal where there is no such file, or where it has mail that
//! such a file has not.

use super::numbers::span;
use super::setup::{LogInput, LogSource};
use crate::host::follow::rotated;
use crate::host::servers::{self, Installed, LogsTo, Tools};
use crate::host::{clock, files, journal};
use crate::mail::{Server, Time};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// The configured logs, whether they exist yet or not; without any, those found here. A file that has two names is
/// followed once, by the first: its mail would count twice.
pub fn choose(configured: &[LogSource]) -> Vec<LogSource> {
    let mut chosen = if configured.is_empty() { found().logs } else { configured.to_vec() };
    let mut seen = Vec::new();
    chosen.retain(|log| match log.path().and_then(files::identity) {
        Some(same) if seen.contains(&same) => false,
        identity => {
            seen.extend(identity);
            true
        }
    });
    chosen
}

/// Configured files that are not followed, because they are another name of one that is.
pub fn other_names(configured: &[LogSource]) -> Vec<PathBuf> {
    let chosen = choose(configured);
    let left_out = configured.iter().filter(|log| !chosen.iter().any(|other| other.path() == log.path()));
    left_out.filter_map(LogSource::path).map(Path::to_path_buf).collect()
}

/// What is installed here. Asked once: what comes later is found by its log's known place, or at the next start.
pub fn servers() -> &'static [Installed] {
    static FOUND: OnceLock<Vec<Installed>> = OnceLock::new();
    FOUND.get_or_init(|| servers::installed(&Tools::default()))
}

/// What is followed without a configured log.
#[derive(Debug, Default)]
pub struct Found {
    pub logs: Vec<LogSource>,
    /// Why the journal is among them, or why it cannot be told whether it should be.
    pub because: Option<String>,
    /// That is not as it should be: there is a file, and it is old.
    pub is_odd: bool,
}

/// What is followed without a configured log, as this host is now.
pub fn found() -> Found {
    let files = files_of(servers(), &files::existing_logs(), &|path| path.is_file());
    decide(servers(), &files, &written, &newest_in_journal, clock::now())
}

/// When a file of the syslog daemon was written last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Written {
    changed: Time,
    empty: bool,
    /// The same of what has lines: of the file itself, or of the newest of its rotated ones.
    lines: Option<Time>,
}

/// The journal has mail that is newer by so much: the daemon does not write this file any more.
const BEHIND_SECS: i64 = 86_400;
/// A rotation makes an empty one, and mail that comes then is in both within moments.
const EMPTY_SECS: i64 = 60;

impl Written {
    fn is_behind(&self, newest: Time) -> bool {
        newest.secs_since(self.changed) > if self.empty { EMPTY_SECS } else { BEHIND_SECS }
    }
}

fn written(path: &Path) -> Option<Written> {
    let meta = std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file)?;
    let changed = clock::from_system(meta.modified().ok()?);
    let empty = meta.len() == 0;
    let older = || rotated(path).iter().filter(|file| file.bytes > 0).map(|file| file.modified).max();
    Some(Written { changed, empty, lines: if empty { older() } else { Some(changed) } })
}

/// Chooses among these files and the journal. A file that the syslog daemon has left is read as far as it goes, and the
/// journal from there on: each message counts once.
fn decide(
    installed: &[Installed],
    files: &[PathBuf],
    written: &dyn Fn(&Path) -> Option<Written>,
    journal: &dyn Fn(&journal::Settings) -> Result<Option<Time>, String>,
    now: Time,
) -> Found {
    let twice = installed.iter().any(logs_twice);
    // What Exim writes to a file of its own and to syslog too is read from its file.
    let source = |path: &PathBuf| {
        let only = (twice && !names(installed, path)).then_some(Server::Postfix);
        LogSource { only, ..LogSource::file(path.clone()) }
    };
    let mut found = Found { logs: files.iter().map(source).collect(), ..Found::default() };
    if !wants_syslog(installed) {
        return found;
    }
    let place = files.iter().position(|path| !is_exim(path) && !names(installed, path));
    let file = place.and_then(|at| files.get(at)).and_then(|path| Some((path, written(path)?)));
    if file.is_some_and(|(_, file)| !file.is_behind(now)) {
        return found;
    }
    let exim = twice || files.iter().any(|path| is_exim(path));
    found.is_odd = file.is_some();
    let mut settings = journal::Settings { after: file.and_then(|(_, file)| file.lines), ..Default::default() };
    let only = exim.then_some(Server::Postfix);
    if exim {
        settings.filter.identifiers.retain(|identifier| identifier.starts_with("postfix"));
    }
    match (journal(&settings), file) {
        (Ok(Some(newest)), Some((path, file))) if file.is_behind(newest) => {
            found.because = Some(format!(
                "the journal is followed, and {} only as far as it goes: {}, while the newest mail in the journal is {} old",
                path.display(),
                told(file, now),
                span(now.secs_since(newest))
            ));
            if let Some(log) = place.and_then(|at| found.logs.get_mut(at)) {
                log.until = Some(file.changed);
            }
        }
        (Ok(Some(newest)), None) => {
            let old = span(now.secs_since(newest));
            found.because = Some(format!(
                "the journal is followed: there is no file of the syslog daemon, and the newest mail in the journal is {old} old"
            ));
        }
        (Err(why), Some((path, file))) => {
            let (path, told) = (path.display(), told(file, now));
            found.because = Some(format!("{path}: {told}; whether the journal has newer mail cannot be told: {why}"));
            return found;
        }
        _ => return found,
    }
    found.logs.push(LogSource { only, input: LogInput::Journal(settings), ..LogSource::file(PathBuf::new()) });
    found
}

fn told(file: Written, now: Time) -> String {
    let ago = span(now.secs_since(file.changed));
    if file.empty { format!("it is empty, and was so {ago} ago") } else { format!("it was last written {ago} ago") }
}

/// How old the newest mail in the host's journal is, in words, if it is newer than this by a day.
pub fn newer_in_journal(than: Time) -> Option<String> {
    let newest = newest_in_journal(&journal::Settings::default()).ok().flatten()?;
    (newest.secs_since(than) > BEHIND_SECS).then(|| span(clock::now().secs_since(newest)))
}

/// Of the host's own journal; `None` where no mail server has written to it.
fn newest_in_journal(settings: &journal::Settings) -> Result<Option<Time>, String> {
    if !["/run/log/journal", "/var/log/journal"].iter().any(|dir| Path::new(dir).is_dir()) {
        return Ok(None);
    }
    match (journal::newest(settings), journal::denied(None)) {
        (Ok(None), Some(why)) => Err(why),
        (newest, _) => newest,
    }
}

fn names(installed: &[Installed], path: &Path) -> bool {
    installed.iter().flat_map(|one| &one.logs).any(|log| matches!(log, LogsTo::File(file) if file == path))
}

/// To a file, and to syslog too.
fn logs_twice(one: &Installed) -> bool {
    one.logs.contains(&LogsTo::Syslog) && one.logs.iter().any(|log| matches!(log, LogsTo::File(_)))
}

/// A log of this host that is not among the known ones: it has appeared.
pub fn has_appeared(known: &[PathBuf]) -> bool {
    let files = files_of(servers(), &files::existing_logs(), &|path| path.is_file());
    files.iter().any(|path| path.is_file() && !known.contains(path))
}

/// The files that installed servers name, and one of the syslog daemon's where a server logs to that or none is known.
/// Files that do not exist yet are only waited for where no other does.
fn files_of(installed: &[Installed], existing: &[PathBuf], exists: &dyn Fn(&Path) -> bool) -> Vec<PathBuf> {
    let (exim, syslog): (Vec<_>, Vec<_>) = existing.iter().cloned().partition(|path| is_exim(path));
    let mut named: Vec<PathBuf> = Vec::new();
    for log in installed.iter().flat_map(|one| &one.logs) {
        if let LogsTo::File(path) = log
            && !named.contains(path)
        {
            named.push(path.clone());
        }
    }
    let mut files: Vec<PathBuf> = named.iter().filter(|path| exists(path)).cloned().collect();
    if wants_syslog(installed) {
        files.extend(syslog.into_iter().next());
    }
    if !installed.iter().any(|one| one.server == Server::Exim && one.trouble.is_none()) {
        files.extend(exim.into_iter().next());
    }
    let mut seen = Vec::new();
    files.retain(|path| {
        !seen.contains(path) && {
            seen.push(path.clone());
            true
        }
    });
    if files.is_empty() { named } else { files }
}

/// A server logs to the syslog daemon, or nobody knows where any logs to.
fn wants_syslog(installed: &[Installed]) -> bool {
    let mut known = installed.iter().filter(|one| one.trouble.is_none()).peekable();
    known.peek().is_none() || known.any(|one| one.logs.contains(&LogsTo::Syslog) && !logs_twice(one))
}

/// The known places of Exim's own log.
fn is_exim(path: &Path) -> bool {
    path.to_string_lossy().contains("exim")
}

/// What an agent says that has no log to follow.
pub fn advice() -> String {
    format!("{}; waiting for one to appear. `sendwarden demo` shows everything without a mail server", none_found())
}

/// That there is no log here, and where it was looked for.
pub fn none_found() -> String {
    let mut text = format!("no mail log was found (looked for {})", files::KNOWN_LOGS.join(", "));
    if Path::new("/run/log/journal").is_dir() || Path::new("/var/log/journal").is_dir() {
        let next = journal::denied(None).map_or_else(
            || "write `logs: [{journal: true}]` in the configuration if the mail server logs there".to_owned(),
            |why| format!("{why}, and start this again"),
        );
        text.push_str(&format!("; this host has a systemd journal: {next}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(server: Server, logs: &[LogsTo]) -> Installed {
        let (version, selector) = (String::new(), String::new());
        Installed { server, version, place: PathBuf::new(), logs: logs.to_vec(), selector, trouble: None }
    }

    #[test]
    fn servers_say_where_they_log_and_known_places_fill_the_gaps() {
        let file = |path: &str| LogsTo::File(path.into());
        let (postfix, exim) = (Server::Postfix, Server::Exim);
        let broken = Installed { trouble: Some("no".into()), ..one(postfix, &[LogsTo::Syslog]) };
        let all = ["/var/log/mail.log", "/var/log/maillog", "/var/log/exim4/mainlog", "/var/log/own.log"];
        let cases: &[(&[Installed], &[&str], &[&str])] = &[
            // Nothing is known: the first of each.
            (&[], &all, &[all[0], all[2]]),
            (&[], &[], &[]),
            (&[broken], &all[1..2], &[all[1]]),
            (&[one(postfix, &[LogsTo::Syslog])], &all[..1], &[all[0]]),
            // An old syslog file of a server that logs elsewhere today is not its log.
            (&[one(postfix, &[file(all[3])])], &[all[0], all[3]], &[all[3]]),
            (&[one(postfix, &[LogsTo::Syslog]), one(exim, &[file(all[2])])], &all, &[all[2], all[0]]),
            (&[one(exim, &[LogsTo::Syslog])], &all, &[all[0]]),
            (&[one(exim, &[file(all[2]), LogsTo::Syslog])], &all, &[all[2]]),
            // Installed and never used is not waited for while another log is there.
            (&[one(postfix, &[LogsTo::Syslog]), one(exim, &[file(all[2])])], &all[..1], &[all[0]]),
            (&[one(exim, &[file(all[2])])], &[], &[all[2]]),
        ];
        for (installed, there, wanted) in cases {
            let there: Vec<PathBuf> = there.iter().map(PathBuf::from).collect();
            let known: Vec<PathBuf> = there.iter().filter(|path| *path != Path::new(all[3])).cloned().collect();
            let files = files_of(installed, &known, &|path| there.iter().any(|one| one == path));
            let wanted: Vec<PathBuf> = wanted.iter().map(PathBuf::from).collect();
            assert_eq!(files, wanted, "{installed:?} {there:?}");
        }
    }

    #[test]
    fn a_file_that_is_not_written_any_more_does_not_hide_the_journal() {
        let now = Time::from_secs(1_795_000_000);
        let ago = |secs: i64| now.plus_secs(-secs);
        const DAY: i64 = 86_400;
        let full = |secs| Some(Written { changed: ago(secs), empty: false, lines: Some(ago(secs)) });
        let empty = |secs, lines: Option<i64>| Some(Written { changed: ago(secs), empty: true, lines: lines.map(ago) });
        let journal_of = |logs: &[LogSource]| {
            logs.iter().find_map(|log| match &log.input {
                LogInput::Journal(settings) => Some((settings.clone(), log.only)),
                _ => None,
            })
        };
        // The file, the newest entry of the journal; then what the file is read to, and what the journal begins behind.
        type Case = (Option<Written>, Option<i64>, Option<(Option<i64>, Option<i64>)>);
        let cases: [Case; 9] = [
            (full(60), Some(5), None),
            // A quiet server: both are old.
            (full(3 * DAY), Some(3 * DAY), None),
            (full(3 * DAY), Some(2 * DAY + 60), None),
            (full(3 * DAY), Some(60), Some((Some(3 * DAY), Some(3 * DAY)))),
            (full(3 * DAY), None, None),
            // Just rotated; never written; rotated, and not written since.
            (empty(30, Some(40)), Some(35), None),
            (empty(3_600, None), Some(5), Some((Some(3_600), None))),
            (empty(3_600, Some(9_000)), Some(5), Some((Some(3_600), Some(9_000)))),
            (None, Some(5), Some((None, None))),
        ];
        for (file, newest, wanted) in cases {
            let files: Vec<PathBuf> = file.iter().map(|_| "/var/log/mail.log".into()).collect();
            let found = decide(&[], &files, &|_| file, &|_| Ok(newest.map(ago)), now);
            let taken = journal_of(&found.logs);
            let until = found.logs.first().and_then(|log| log.until);
            let got = taken.as_ref().map(|(settings, _)| (until, settings.after));
            let wanted = wanted.map(|(until, after)| (until.map(ago), after.map(ago)));
            assert_eq!(got, wanted, "{file:?} {newest:?}");
            assert_eq!(found.because.is_some(), wanted.is_some(), "{file:?}");
        }
        let mail = [PathBuf::from("/var/log/mail.log")];
        let denied = decide(&[], &mail, &|_| full(3 * DAY), &|_| Err("closed".into()), now);
        let because = denied.because.unwrap_or_default();
        assert!(
            because.contains("last written 3 days ago") && because.ends_with("cannot be told: closed"),
            "{because}"
        );
        // Exim has a file of its own: of the journal only Postfix is read.
        let both = [PathBuf::from("/var/log/exim4/mainlog"), "/var/log/mail.log".into()];
        let found = decide(&[], &both, &|_| full(3 * DAY), &|_| Ok(Some(ago(60))), now);
        let (settings, only) = journal_of(&found.logs).unwrap();
        assert_eq!((settings.filter.identifiers, only), (vec!["postfix*".to_owned()], Some(Server::Postfix)));
        assert_eq!((found.logs[0].until, found.logs[1].until), (None, Some(ago(3 * DAY))));
        // A server that logs elsewhere has nothing there.
        let own = one(Server::Postfix, &[LogsTo::File("/own.log".into())]);
        let found = decide(&[own], &["/own.log".into()], &|_| full(3 * DAY), &|_| Ok(Some(ago(60))), now);
        assert_eq!((found.logs.len(), found.because), (1, None));
    }

    #[test]
    fn a_file_with_two_names_is_followed_once_by_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let name = |name: &str| dir.path().join(name);
        for file in ["mail.log", "other.log"] {
            std::fs::write(name(file), "").unwrap();
        }
        std::os::unix::fs::symlink("mail.log", name("maillog")).unwrap();
        std::fs::hard_link(name("other.log"), name("same.log")).unwrap();
        let all = ["mail.log", "maillog", "other.log", "same.log", "missing.log", "missing too.log"];
        let configured: Vec<LogSource> = all.iter().map(|file| LogSource::file(name(file))).collect();
        let chosen: Vec<PathBuf> = choose(&configured).iter().filter_map(LogSource::path).map(PathBuf::from).collect();
        let wanted = ["mail.log", "other.log", "missing.log", "missing too.log"].map(name);
        assert_eq!(chosen, wanted);
        assert_eq!(other_names(&configured), ["maillog", "same.log"].map(name));
    }
}
