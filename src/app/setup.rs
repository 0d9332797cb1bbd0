//! Everything the agent is started or reloaded with: the settings of all rooms, already checked.

use super::{flags, gate, instances, queues};
use crate::config::{self, Config, Problem};
pub use crate::config::{Format, LogInput};
use crate::engine::directory::Directory;
use crate::engine::replies::{OwnAddresses, Replies};
use crate::engine::rules::{Enforcement, Rule};
use crate::engine::sanctions;
use crate::engine::turnstile::Room;
use crate::host::{addresses, files};
use crate::mail::{Server, Time};
use crate::{metrics, notify, store, web};
use jiff::tz::TimeZone;
use std::ffi::OsString;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where the configuration is looked for when none is named.
pub const DEFAULT_CONFIG: &str = "/etc/sendwarden/config.yaml";

/// A checked configuration. Plain data.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Logs to follow; empty: the known places are looked at until one exists.
    pub logs: Vec<LogSource>,
    /// How old the rotated files may be that are read when a log is followed for the first time; `None`: any age.
    pub past: Option<Duration>,
    pub state_dir: PathBuf,
    pub directory: Directory,
    /// Compiled reply patterns, and the addresses of this host when it was made.
    pub replies: Replies,
    /// Addresses of this host that its interfaces do not have.
    pub own_addresses: Vec<IpAddr>,
    /// The accounts file, to be read again when it changes.
    pub accounts_file: Option<PathBuf>,
    pub name_timeout: Duration,
    pub max_open: usize,
    pub max_line: usize,
    pub store: store::Settings,
    pub metrics: metrics::Settings,
    pub web: web::Settings,
    pub queue_dirs: Vec<PathBuf>,
    pub queue_interval: Duration,
    pub mail_servers: instances::Servers,
    /// Where the helper listens, for an agent that is not root.
    pub helper_socket: PathBuf,
    /// `None`: no gate.
    pub gate: Option<gate::Settings>,
    /// A server that asks the gate is among those that are heard here.
    pub doors: bool,
    /// `None`: no server that looks for flags is among them.
    pub flags: Option<flags::Settings>,
    pub hold: sanctions::Settings,
    /// How much of one account may be on hold.
    pub max_held: Room,
    pub min_free: gate::MinFree,
    pub rules: Vec<Rule>,
    pub enforcement: Enforcement,
    /// Who is told when something happens to an account.
    pub hooks: Vec<notify::Hook>,
    pub log_level: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSource {
    pub input: LogInput,
    /// The server whose lines are read; `None`: every known one's.
    pub only: Option<Server>,
    pub format: Format,
    /// Zone of stamps without one; `None`: the host's.
    pub zone: Option<TimeZone>,
    /// What was written later is in another log that is followed.
    pub until: Option<Time>,
}

impl LogSource {
    /// A log in a file, with stamps in the host's zone.
    pub fn file(path: PathBuf) -> LogSource {
        LogSource { input: LogInput::File(path), only: None, format: Format::Mail, zone: None, until: None }
    }

    /// The file, if it is one.
    pub fn path(&self) -> Option<&Path> {
        match &self.input {
            LogInput::File(path) => Some(path),
            LogInput::Journal(_) | LogInput::Socket(_) => None,
        }
    }
}

/// Reads the configuration (`named`, or the default file if there is one, or built-in defaults) and the accounts
/// file it names. The error is the whole text for the operator: every mistake, with key and line.
pub fn load(named: Option<&Path>) -> Result<Setup, String> {
    build(read(named)?)
}

fn read(named: Option<&Path>) -> Result<Config, String> {
    let default = Path::new(DEFAULT_CONFIG);
    let path = named.or_else(|| Some(default).filter(|path| path.exists()));
    match path {
        Some(path) => config::load(path).map_err(|problems| config::explain(&problems)),
        None => Ok(Config::default()),
    }
}

/// What a command needs to ask the agent: the state directory, and for how many seconds mail is held at most. The accounts
/// file is left alone: that of a large host takes longer than the answer.
///
/// # Errors
/// As of [`load`].
pub fn place(named: Option<&Path>) -> Result<(PathBuf, i64), String> {
    let config = read(named)?;
    Ok((state_dir(&config)?, hold_settings(&config).held_max_secs))
}

fn hold_settings(config: &Config) -> sanctions::Settings {
    let held_max_secs = i64::try_from(config.hold.held_max.as_secs()).unwrap_or(i64::MAX);
    let Enforcement { force_secs, max_relapses, .. } = config.enforcement;
    sanctions::Settings { held_max_secs, force_secs, max_relapses, ..sanctions::Settings::default() }
}

fn state_dir(config: &Config) -> Result<PathBuf, String> {
    let env = |name: &str| -> Option<OsString> { std::env::var_os(name) };
    let root = rustix::process::geteuid().is_root();
    // systemd names the directory it made; several are separated by colons.
    let given = env("STATE_DIRECTORY").and_then(|dirs| std::env::split_paths(&dirs).next());
    let state_dir = config.state_dir.clone().or(given).or_else(|| crate::host::files::state_dir(root, &env));
    let none =
        "cannot choose a state directory: neither XDG_STATE_HOME nor HOME is set; set state_dir in the configuration";
    state_dir.ok_or_else(|| none.to_owned())
}

fn build(config: Config) -> Result<Setup, String> {
    let directory = directory(&config)?;
    let state_dir = state_dir(&config)?;
    if !config.listen.ip().is_loopback() && !config.metrics.public {
        return Err(format!(
            "listen: {} is not a loopback address, and /metrics would answer anybody; set metrics.public: true if \
             that is meant, or listen on 127.0.0.1 and put a proxy with authentication in front",
            config.listen
        ));
    }
    let mut logs = Vec::new();
    for log in &config.logs {
        let zone = match &log.zone {
            Some(name) => Some(TimeZone::get(name).map_err(|why| format!("logs: zone {name}: {why}"))?),
            None => None,
        };
        let only = match log.mta {
            config::Mta::Auto => None,
            config::Mta::Postfix => Some(Server::Postfix),
            config::Mta::Exim => Some(Server::Exim),
        };
        logs.push(LogSource { input: log.input.clone(), only, format: log.format, zone, until: None });
    }
    let servers = servers(&logs);
    let doors = servers.contains(&Server::Postfix) || !config.queue.config_directories.is_empty();
    let looks = servers.contains(&Server::Exim) || config.queue.exim_program.is_some();
    let hold = config.gate.mode == config::GateMode::Enforce;
    let flags = looks.then(|| flags::Settings { dir: config.gate.exim_flags.clone(), hold });
    Ok(Setup {
        logs,
        past: match config.backfill {
            config::Backfill::All => None,
            config::Backfill::None => Some(Duration::ZERO),
            config::Backfill::Since(past) => Some(past),
        },
        directory,
        replies: replies(&config)?,
        own_addresses: config.own_addresses.clone(),
        accounts_file: config.accounts_file.clone(),
        name_timeout: config.attribution.name_service_timeout,
        max_open: config.tracking.max_open_messages as usize,
        max_line: usize::try_from(config.tracking.max_line_bytes).unwrap_or(usize::MAX),
        store: store::Settings {
            index_days: config.retention.index_days,
            index_bytes: config.retention.index_max_bytes,
            error_days: config.retention.errors_days,
            hourly_days: config.history.hours_days,
            daily_days: config.history.days_days,
            ..store::Settings::default()
        },
        metrics: metrics::Settings {
            servers,
            max_accounts: config.metrics.max_accounts as usize,
            account_label: match config.metrics.account_label {
                config::AccountLabel::Name => metrics::AccountLabel::Name,
                config::AccountLabel::Hash => metrics::AccountLabel::Hash,
                config::AccountLabel::None => metrics::AccountLabel::None,
            },
            ..metrics::Settings::default()
        },
        web: web::Settings {
            listen: vec![config.listen],
            hosts: config.web.hosts.clone(),
            own_names: own_names(),
            socket: Some(socket(&state_dir)),
            operator_token: token(config.operator_token_file.as_deref())?,
            own_uid: rustix::process::geteuid().as_raw(),
            ..web::Settings::default()
        },
        state_dir,
        queue_dirs: config.queue.directories.clone(),
        queue_interval: config.queue.interval,
        mail_servers: instances::Servers {
            postfix: config.queue.config_directories.clone(),
            exim: config.queue.exim_program.clone(),
        },
        helper_socket: config.helper.socket.clone(),
        gate: gate(&config.gate),
        doors,
        flags,
        max_held: Room { messages: config.hold.max_held, bytes: config.hold.max_held_bytes, heard: 0 },
        min_free: gate::MinFree { bytes: config.hold.min_free, inodes: config.hold.min_free_inodes },
        hold: hold_settings(&config),
        rules: config.rules.clone(),
        enforcement: config.enforcement.clone(),
        hooks: hooks(&config)?,
        log_level: match config.log_level {
            config::LogLevel::Error => "error",
            config::LogLevel::Warn => "warn",
            config::LogLevel::Info => "info",
            config::LogLevel::Debug => "debug",
            config::LogLevel::Trace => "trace",
        },
    })
}

/// This host's name, and what stands before its first dot.
fn own_names() -> Vec<String> {
    let name = rustix::system::uname().nodename().to_string_lossy().to_ascii_lowercase();
    let first = name.split('.').next().unwrap_or_default().to_owned();
    [name, first].into_iter().filter(|name| !name.is_empty()).collect()
}

/// Where each server keeps its queue, by default.
const SPOOLS: [(Server, &str); 3] =
    [(Server::Postfix, "/var/spool/postfix"), (Server::Exim, "/var/spool/exim4"), (Server::Exim, "/var/spool/exim")];

/// The servers that are sure to be heard: those that the logs are said to be of, or those that are installed here.
fn servers(logs: &[LogSource]) -> Vec<Server> {
    let named = |server| !logs.is_empty() && logs.iter().any(|log| log.only == Some(server));
    let doubtful = logs.is_empty() || logs.iter().any(|log| log.only.is_none());
    let lives = |server| SPOOLS.iter().any(|(of, dir)| *of == server && Path::new(dir).is_dir());
    let found: Vec<Server> =
        Server::ALL.into_iter().filter(|server| named(*server) || (doubtful && lives(*server))).collect();
    if found.is_empty() { vec![Server::default()] } else { found }
}

/// The unix socket of the agent that uses this state directory.
pub fn socket(state_dir: &Path) -> PathBuf {
    state_dir.join("sendwarden.sock")
}

fn directory(config: &Config) -> Result<Directory, String> {
    let accounts = match &config.accounts_file {
        Some(path) => config::load_accounts(path).map_err(|problems: Vec<Problem>| config::explain(&problems))?,
        None => Vec::new(),
    };
    Directory::build(accounts, config.attribution.policy.clone()).map_err(|errors| {
        let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
        lines.join("\n")
    })
}

/// Compiled with the addresses of this host as they are now.
fn replies(config: &Config) -> Result<Replies, String> {
    let own = own_addresses(&config.own_addresses);
    Replies::new(&config.replies, own).map_err(|why| format!("replies: {why}"))
}

/// The addresses of the interfaces, and those that the configuration adds.
pub fn own_addresses(configured: &[IpAddr]) -> OwnAddresses {
    OwnAddresses::new(configured.iter().copied().chain(addresses::of_host()))
}

fn gate(config: &config::Gate) -> Option<gate::Settings> {
    let mode = match config.mode {
        config::GateMode::Off => return None,
        config::GateMode::Watch => gate::Mode::Watch,
        config::GateMode::Enforce => gate::Mode::Enforce,
    };
    Some(gate::Settings { mode, refuse_logins: config.logins == config::GateLogins::Refuse })
}

fn hooks(config: &Config) -> Result<Vec<notify::Hook>, String> {
    let hook = |(i, hook): (usize, &config::Hook)| {
        let secret = hook
            .secret_file
            .as_deref()
            .map(|path| secret(path).map_err(|why| format!("hooks[{i}].secret_file: {why}")));
        let config::Hook { target, events, timeout, .. } = hook.clone();
        Ok(notify::Hook { target, secret: secret.transpose()?, events, timeout })
    };
    config.hooks.iter().enumerate().map(hook).collect()
}

/// What notices are signed with. Whoever may read it may forge them.
fn secret(path: &Path) -> Result<notify::Secret, String> {
    let text = files::read_secret(path)?;
    notify::Secret::new(&text).ok_or_else(|| {
        format!(
            "the secret in {} is shorter than {} characters; make one with: openssl rand -hex 32",
            path.display(),
            notify::hook::SHORTEST
        )
    })
}

fn token(path: Option<&Path>) -> Result<Option<String>, String> {
    let Some(path) = path else { return Ok(None) };
    let text = std::fs::read_to_string(path).map_err(|why| {
        format!("operator_token_file: cannot read {}: {why}; check that the agent may read it", path.display())
    })?;
    let token = text.trim().to_owned();
    if token.len() < 16 {
        return Err(format!(
            "operator_token_file: the token in {} is shorter than 16 characters; make one with: openssl rand -hex 32",
            path.display()
        ));
    }
    Ok(Some(token))
}

impl Setup {
    /// The servers whose queues are counted.
    pub fn counted_queues(&self) -> Vec<queues::Counted> {
        queues::counted(&self.queue_dirs, self.flags.is_some(), self.mail_servers.exim.as_deref())
    }

    /// Keys whose change only a restart can bring into force.
    pub fn needs_restart(&self, new: &Setup) -> Vec<&'static str> {
        let differs = [
            ("logs", self.logs != new.logs),
            ("backfill", self.past != new.past),
            ("state_dir", self.state_dir != new.state_dir),
            ("listen", self.web.listen != new.web.listen),
            ("web.hosts", self.web.hosts != new.web.hosts),
            ("operator_token_file", self.web.operator_token != new.web.operator_token),
            ("log_level", self.log_level != new.log_level),
            ("metrics.account_label", self.metrics.account_label != new.metrics.account_label),
            ("attribution.name_service_timeout", self.name_timeout != new.name_timeout),
            ("tracking", (self.max_open, self.max_line) != (new.max_open, new.max_line)),
            ("history and retention", self.store != new.store),
            (
                "hold.max_held, max_held_bytes and min_free",
                (self.max_held, self.min_free) != (new.max_held, new.min_free),
            ),
            ("gate", (&self.gate, &self.flags, self.doors) != (&new.gate, &new.flags, new.doors)),
            ("hooks", self.hooks != new.hooks),
            ("helper.socket", self.helper_socket != new.helper_socket),
            (
                "queue",
                (&self.queue_dirs, &self.mail_servers, self.queue_interval)
                    != (&new.queue_dirs, &new.mail_servers, new.queue_interval),
            ),
        ];
        differs.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key).collect()
    }
}
