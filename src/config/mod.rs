//! YAML becomes each room's own settings. Only this room knows YAML.
//!
//! [`load`] reads the configuration and [`load_accounts`] the accounts file; both report every mistake at once, each
//! with key path, line and hint ([`explain`] prints them). Nothing here opens a log, resolves a user or applies a setting.

mod accounts;
mod hooks;
mod logs;
mod node;
mod problem;
mod quotas;
mod read;
mod rules;
mod schema;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use accounts::{load_accounts, parse_accounts_csv, parse_accounts_yaml};
pub use problem::{Problem, explain};
pub use schema::key_paths;

use crate::engine::directory::Policy;
use crate::engine::replies::Pattern;
use crate::engine::rules::{Enforcement, Rule, built_in};
use crate::host::{helper, journal, socket};
use crate::notify::{Event, Target};

/// A configuration file is small: more is a mistake or an attack.
const MAX_CONFIG_BYTES: u64 = 1 << 20;
const MAX_CONFIG_NODES: usize = 200_000;
/// Each has a connection of its own.
const MAX_HOOKS: usize = 16;
const HOOK_TIMEOUT: Duration = Duration::from_secs(5);

/// Everything an operator can set. [`Config::default`] is a working agent without any file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Logs to follow; empty: found by looking where the system keeps its mail log.
    pub logs: Vec<LogSource>,
    pub backfill: Backfill,
    /// Where the store lives; `None`: the service manager's state directory, else the built-in one.
    pub state_dir: Option<PathBuf>,
    pub listen: SocketAddr,
    pub web: Web,
    /// File holding the token for `POST /-/reload` over TCP; `None`: reload only over the unix socket.
    pub operator_token_file: Option<PathBuf>,
    pub accounts_file: Option<PathBuf>,
    pub log_level: LogLevel,
    pub metrics: Metrics,
    pub attribution: Attribution,
    pub tracking: Tracking,
    pub history: History,
    pub retention: Retention,
    pub queue: Queue,
    pub gate: Gate,
    pub helper: Helper,
    pub hold: Hold,
    /// Addresses under which others see this host, beside those of its interfaces (behind NAT).
    pub own_addresses: Vec<IpAddr>,
    /// The operator's own reply patterns, tried before the built-in ones.
    pub replies: Vec<Pattern>,
    /// What rules may do.
    pub enforcement: Enforcement,
    /// The built-in rules, as they were changed, and the operator's own.
    pub rules: Vec<Rule>,
    /// Who is told when something happens to an account.
    pub hooks: Vec<Hook>,
}

/// A receiver of notices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    pub target: Target,
    /// File holding what notices are signed with; `None`: they are not.
    pub secret_file: Option<PathBuf>,
    pub events: Vec<Event>,
    pub timeout: Duration,
}

/// One log to follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSource {
    pub input: LogInput,
    pub mta: Mta,
    pub format: Format,
    /// Zone of time stamps that name none; `None`: the host's.
    pub zone: Option<String>,
}

/// How far back the rotated files of a log are read when it is followed for the first time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backfill {
    All,
    None,
    /// Files last written to within this time.
    Since(Duration),
}

/// Where the lines of a log come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogInput {
    File(PathBuf),
    Journal(journal::Settings),
    /// Others send them to a socket of ours.
    Socket(socket::Address),
}

impl std::fmt::Display for LogInput {
    /// The name under which the position is kept and the figures are shown.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            LogInput::File(path) => path.display().fmt(f),
            LogInput::Journal(journal::Settings { directory: None, .. }) => f.write_str("journal"),
            LogInput::Journal(journal::Settings { directory: Some(path), .. }) => {
                write!(f, "journal:{}", path.display())
            }
            LogInput::Socket(address) => address.fmt(f),
        }
    }
}

/// Who writes a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// A mail server.
    #[default]
    Mail,
    /// PHP: its own log of the mails that scripts send (`mail.log` in php.ini).
    Php,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mta {
    #[default]
    Auto,
    Postfix,
    Exim,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogLevel {
    Error,
    Warn,
    #[default]
    Info,
    Debug,
    Trace,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Web {
    /// Further names under which the listener is reached, in lower case.
    pub hosts: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metrics {
    /// Accounts with series of their own; the rest share `account="other"`.
    pub max_accounts: u32,
    pub account_label: AccountLabel,
    /// Whether `/metrics` answers without authentication on an address other than loopback.
    pub public: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AccountLabel {
    #[default]
    Name,
    Hash,
    None,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attribution {
    pub policy: Policy,
    /// Patience with the host's name service before a uid is shown as `uid<N>`.
    pub name_service_timeout: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tracking {
    /// Messages followed at once.
    pub max_open_messages: u32,
    /// Longer log lines are cut, in bytes.
    pub max_line_bytes: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    /// Days for which hourly figures are kept.
    pub hours_days: u32,
    /// Days for which daily figures are kept.
    pub days_days: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retention {
    pub errors_days: u32,
    /// The message index, with client addresses.
    pub index_days: u32,
    pub index_max_bytes: u64,
}

/// The gate: what the mail server asks before it queues a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gate {
    pub mode: GateMode,
    pub logins: GateLogins,
    /// Where the flags are that Exim looks for. Not below the state directory, which no mail server may enter.
    pub exim_flags: PathBuf,
}

/// Mail on hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// How long a message is held at most.
    pub held_max: Duration,
    /// Messages of one account.
    pub max_held: u64,
    /// What these take of the queue.
    pub max_held_bytes: u64,
    pub min_free: u64,
    pub min_free_inodes: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GateMode {
    Off,
    /// Everything passes; what would be held is counted.
    Watch,
    Enforce,
}

/// What becomes of mail of a held account that comes by authenticated submission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GateLogins {
    Refuse,
    Hold,
}

/// The process of root's that does what an agent of another user may not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Helper {
    /// Where it listens.
    pub socket: PathBuf,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queue {
    /// Queue directories, one per instance; empty: the usual one where it exists.
    pub directories: Vec<PathBuf>,
    /// Postfix's configuration directories, one per instance; empty: those that it names itself.
    pub config_directories: Vec<PathBuf>,
    /// Exim's program; `None`: the one that is installed.
    pub exim_program: Option<PathBuf>,
    pub interval: Duration,
}

const FLAGS: &str = "/var/lib/sendwarden-gate";

impl Default for Config {
    fn default() -> Config {
        Config {
            logs: Vec::new(),
            backfill: Backfill::Since(Duration::from_secs(30 * 86_400)),
            state_dir: None,
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 10925)),
            web: Web { hosts: Vec::new() },
            operator_token_file: None,
            accounts_file: None,
            log_level: LogLevel::Info,
            metrics: Metrics { max_accounts: 500, account_label: AccountLabel::Name, public: false },
            attribution: Attribution { policy: Policy::default(), name_service_timeout: Duration::from_secs(2) },
            tracking: Tracking { max_open_messages: 1_000_000, max_line_bytes: 64 << 10 },
            history: History { hours_days: 35, days_days: 400 },
            retention: Retention { errors_days: 90, index_days: 30, index_max_bytes: 1 << 30 },
            queue: Queue {
                directories: Vec::new(),
                config_directories: Vec::new(),
                exim_program: None,
                interval: Duration::from_secs(30),
            },
            gate: Gate { mode: GateMode::Off, logins: GateLogins::Refuse, exim_flags: FLAGS.into() },
            helper: Helper { socket: PathBuf::from(helper::SOCKET) },
            hold: Hold {
                held_max: Duration::from_secs(72 * 3_600),
                max_held: 20_000,
                max_held_bytes: 2 << 30,
                min_free: 512 << 20,
                min_free_inodes: 10_000,
            },
            own_addresses: Vec::new(),
            replies: Vec::new(),
            enforcement: Enforcement::default(),
            rules: built_in(),
            hooks: Vec::new(),
        }
    }
}

/// Reads and checks a configuration file. Errors: every mistake in it, in the order of its lines.
pub fn load(path: &Path) -> Result<Config, Vec<Problem>> {
    let text = read_file(path, MAX_CONFIG_BYTES)?;
    parse(&path.display().to_string(), &text)
}

/// Checks a configuration given as text; `file` only names it in problems.
pub fn parse(file: &str, text: &[u8]) -> Result<Config, Vec<Problem>> {
    let text = utf8(file, text)?;
    let mut found = Vec::new();
    let node = node::parse(text, MAX_CONFIG_NODES).map_err(|f| problem::place(file, text, vec![f]))?;
    let config = schema::read(&node, &mut found);
    if found.is_empty() { Ok(config) } else { Err(problem::place(file, text, found)) }
}

/// Reads at most `limit` bytes: a file may grow, or be a device, whatever its metadata says.
fn read_file(path: &Path, limit: u64) -> Result<Vec<u8>, Vec<Problem>> {
    use std::io::Read;
    use std::os::unix::fs::OpenOptionsExt;
    let file = path.display().to_string();
    let fail = |message: String, hint: &str| {
        let found = problem::Found::new("", message).hint(hint);
        problem::place(&file, "", vec![found])
    };
    let mut bytes = Vec::new();
    // A named pipe would be waited for until somebody writes to it.
    let open =
        std::fs::File::options().read(true).custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed()).open(path);
    let regular = |file: std::fs::File| match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, "it is no regular file")),
    };
    open.and_then(regular).and_then(|f| f.take(limit.saturating_add(1)).read_to_end(&mut bytes)).map_err(|e| {
        fail(format!("cannot read this file: {e}"), "check that it exists and that the agent may read it")
    })?;
    if bytes.len() as u64 > limit {
        return Err(fail(format!("this file is larger than {} MiB", limit >> 20), "check that it is the right file"));
    }
    Ok(bytes)
}

fn utf8<'t>(file: &str, bytes: &'t [u8]) -> Result<&'t str, Vec<Problem>> {
    let text = std::str::from_utf8(bytes).map_err(|e| {
        let before = bytes.get(..e.valid_up_to()).unwrap_or_default();
        let line = memchr::memchr_iter(b'\n', before).count().saturating_add(1);
        let column = before.iter().rev().take_while(|&&b| b != b'\n').count().saturating_add(1);
        let found = problem::Found::new("", "this byte is not UTF-8").hint("save the file as UTF-8");
        problem::place(file, "", vec![problem::Found { at: Some((line, column)), ..found }])
    })?;
    // Editors of some systems put a byte order mark first.
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}
