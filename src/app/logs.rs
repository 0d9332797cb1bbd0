//! Which logs to follow: the configured ones, or those of the known places that exist.

use super::setup::{Format, LogSource};
use crate::host::files;

/// The configured logs, whether they exist yet or not; without any, the first known log of each mail server that
/// exists here and that this version reads.
pub fn choose(configured: &[LogSource]) -> Vec<LogSource> {
    if !configured.is_empty() {
        return configured.to_vec();
    }
    let found = files::existing_logs();
    let readable = found.into_iter().find(|path| !is_exim(path));
    readable.map(|path| LogSource { path, format: Format::Mail, zone: None }).into_iter().collect()
}

/// The known places of Exim's own log.
pub fn is_exim(path: &std::path::Path) -> bool {
    path.to_string_lossy().contains("exim")
}

/// What to tell an operator whose host has no log that can be followed.
pub fn advice() -> String {
    let mut text = format!("no mail log was found (looked for {})", files::KNOWN_LOGS.join(", "));
    if files::existing_logs().iter().any(|path| is_exim(path)) {
        text.push_str("; this host has an Exim log, which this version does not read yet");
    } else if std::path::Path::new("/run/log/journal").is_dir() || std::path::Path::new("/var/log/journal").is_dir() {
        text.push_str("; this host has a systemd journal, which this version does not read yet: install rsyslog, or set maillog_file in Postfix");
    }
    text.push_str("; waiting for one to appear. `sendwarden demo` shows everything without a mail server");
    text
}
