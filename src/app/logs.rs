//! Which logs to follow: the configured ones, or those of the servers that are installed here: the files they name, the
//! syslog daemon's file where they log to that, the systemd journal where there is no such file.

use super::setup::{LogInput, LogSource};
use crate::host::servers::{self, Installed, LogsTo, Tools};
use crate::host::{files, journal};
use crate::mail::Server;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// The configured logs, whether they exist yet or not; without any, those found here. A file that has two names is
/// followed once, by the first: its mail would count twice.
pub fn choose(configured: &[LogSource]) -> Vec<LogSource> {
    let mut chosen = if configured.is_empty() { found() } else { configured.to_vec() };
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

fn found() -> Vec<LogSource> {
    let files = files_of(servers(), &files::existing_logs(), &|path| path.is_file());
    if files.is_empty() && wants_syslog(servers()) {
        return the_journal().into_iter().collect();
    }
    let twice = servers().iter().any(logs_twice);
    let source = |path: PathBuf| {
        // What Exim writes to a file of its own and to syslog too is read from its file.
        let only = (twice && !names(servers(), &path)).then_some(Server::Postfix);
        LogSource { only, ..LogSource::file(path) }
    };
    files.into_iter().map(source).collect()
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

/// The systemd journal, where a mail server has written to it.
fn the_journal() -> Option<LogSource> {
    let settings = journal::Settings::default();
    let there = ["/run/log/journal", "/var/log/journal"].iter().any(|dir| Path::new(dir).is_dir());
    let used = there && matches!(journal::look(&settings), Ok(Some(_)));
    used.then(|| LogSource { input: LogInput::Journal(settings), ..LogSource::file(PathBuf::new()) })
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
