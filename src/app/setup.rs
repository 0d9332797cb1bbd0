//! Everything the agent is started or reloaded with: the settings of all rooms, already checked.

use crate::engine::directory::Directory;
use crate::{metrics, store, web};
use jiff::tz::TimeZone;
use std::path::PathBuf;
use std::time::Duration;

/// A checked configuration. Plain data; `config` fills it.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Logs to follow; empty: the known places are looked at until one exists.
    pub logs: Vec<LogSource>,
    pub state_dir: PathBuf,
    pub directory: Directory,
    /// The accounts file, to be read again when it changes.
    pub accounts_file: Option<PathBuf>,
    pub max_open: usize,
    pub max_line: usize,
    pub store: store::Settings,
    pub metrics: metrics::Settings,
    pub web: web::Settings,
    /// Queue directories to count, by queue name; empty: those of the server found on this host.
    pub queue_dir: Option<PathBuf>,
    pub queue_interval: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSource {
    pub path: PathBuf,
    /// Zone of stamps without one; `None`: the host's.
    pub zone: Option<TimeZone>,
}
