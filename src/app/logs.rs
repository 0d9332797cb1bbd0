//! Which logs to follow: the configured ones, or those of the known places that exist.

use super::setup::LogSource;
use crate::host::files;
use std::path::{Path, PathBuf};

/// The configured logs, whether they exist yet or not; without any, the first known log of the syslog daemon and the
/// first of Exim's own that exist here. A file that has two names is followed once, by the first: its mail would count
/// twice.
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

fn found() -> Vec<LogSource> {
    let (exim, syslog): (Vec<_>, Vec<_>) = files::existing_logs().into_iter().partition(|path| is_exim(path));
    let first = [syslog, exim].into_iter().filter_map(|found| found.into_iter().next());
    first.map(LogSource::file).collect()
}

/// The known places of Exim's own log.
fn is_exim(path: &Path) -> bool {
    path.to_string_lossy().contains("exim")
}

/// What to tell an operator whose host has no log that can be followed.
pub fn advice() -> String {
    let mut text = format!("no mail log was found (looked for {})", files::KNOWN_LOGS.join(", "));
    if Path::new("/run/log/journal").is_dir() || Path::new("/var/log/journal").is_dir() {
        text.push_str("; this host has a systemd journal: write `logs: [{journal: true}]` in the configuration if the mail server logs there");
    }
    text.push_str("; waiting for one to appear. `sendwarden demo` shows everything without a mail server");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

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
