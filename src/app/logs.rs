//! Which logs to follow: the configured ones, or those of the known places that exist.

use super::setup::LogSource;
use crate::host::files;

/// The configured logs, whether they exist yet or not; without any, the first known log of the syslog daemon and the
/// first of Exim's own that exist here.
pub fn choose(configured: &[LogSource]) -> Vec<LogSource> {
    if !configured.is_empty() {
        return configured.to_vec();
    }
    let (exim, syslog): (Vec<_>, Vec<_>) = files::existing_logs().into_iter().partition(|path| is_exim(path));
    let first = [syslog, exim].into_iter().filter_map(|found| found.into_iter().next());
    first.map(LogSource::file).collect()
}

/// The known places of Exim's own log.
fn is_exim(path: &std::path::Path) -> bool {
    path.to_string_lossy().contains("exim")
}

/// What to tell an operator whose host has no log that can be followed.
pub fn advice() -> String {
    let mut text = format!("no mail log was found (looked for {})", files::KNOWN_LOGS.join(", "));
    if std::path::Path::new("/run/log/journal").is_dir() || std::path::Path::new("/var/log/journal").is_dir() {
        text.push_str("; this host has a systemd journal: write `logs: [{journal: true}]` in the configuration if the mail server logs there");
    }
    text.push_str("; waiting for one to appear. `sendwarden demo` shows everything without a mail server");
    text
}
