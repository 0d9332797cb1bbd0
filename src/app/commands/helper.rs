//! `sendwarden helper`: the process of root's that an agent of another user asks.

use super::complain;
use super::run::log_to_stderr;
use crate::app::cli::HelperArgs;
use crate::app::setup::DEFAULT_CONFIG;
use crate::app::{Exit, instances};
use crate::config::{self, Config, LogLevel};
use crate::host::helper::{serve, trust};
use crate::host::names::Names;
use crate::host::servers::{self, Tools};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// For the host's name service, at the start.
const PATIENCE: Duration = Duration::from_secs(5);

pub fn run(args: &HelperArgs) -> Exit {
    if !rustix::process::geteuid().is_root() {
        complain("the helper must be root: start it by its systemd unit, or with sudo; see `sendwarden helper --help`");
        return Exit::Failed;
    }
    let config = match configuration(args.config.as_deref()) {
        Ok(config) => config,
        Err(why) => {
            complain(&format!("cannot start the helper with this configuration:\n{why}"));
            return Exit::Usage;
        }
    };
    log_to_stderr(match config.log_level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
        LogLevel::Trace => "trace",
    });
    match start(args, &config) {
        Ok(()) => Exit::Done,
        Err(why) => {
            complain(&format!("cannot start the helper: {why}"));
            Exit::Failed
        }
    }
}

/// What the agent's user could write would have it started as root.
fn configuration(named: Option<&Path>) -> Result<Config, String> {
    let path = named.or_else(|| Some(Path::new(DEFAULT_CONFIG)).filter(|path| path.exists()));
    let Some(path) = path else { return Ok(Config::default()) };
    trust::only_root_changes(path)?;
    config::load(path).map_err(|problems| config::explain(&problems))
}

fn start(args: &HelperArgs, config: &Config) -> Result<(), String> {
    let agent = user(&args.user)?;
    let mut instances = Vec::new();
    for dir in instances::directories(&config.queue.config_directories) {
        trust::only_root_changes(&dir)?;
        instances.push(servers::postfix_place(&Tools::default(), &dir)?);
    }
    let exim = exim(config.queue.exim_program.as_deref())?;
    if instances.is_empty() && exim.is_none() {
        return Err("neither Postfix nor Exim was found on this host; name the one's configuration directory in \
                    queue.config_directories, or the other's program in queue.exim_program, or do not run the helper: \
                    nothing else needs it"
            .to_owned());
    }
    // The gate's sockets are for root and the mail server's group, whatever this was started with.
    rustix::process::umask(0o007.into());
    let names = instances.iter().map(|one| one.name.as_str()).chain(exim.as_deref());
    let names: Vec<&str> = names.collect();
    let (names, socket) = (names.join(", "), args.socket.as_ref().unwrap_or(&config.helper.socket));
    let house = Arc::new(serve::House::new(serve::Settings { agent, instances, exim })?);
    let listener = serve::bind(socket)?;
    tracing::info!("helper for {names}: {} answers root and uid {agent}", socket.display());
    serve::serve(&listener, &house);
    Ok(())
}

/// Exim's program. One that nobody has named, and that others than root can change, is not served.
fn exim(named: Option<&Path>) -> Result<Option<String>, String> {
    let found = match (instances::program(named), named) {
        (found, Some(_)) => Some(found?),
        (found, None) => found.ok(),
    };
    match found.as_deref().map(|program| trust::only_root_changes(Path::new(program))) {
        Some(Err(why)) if named.is_some() => Err(why),
        Some(Err(why)) => {
            tracing::error!("nothing is done in Exim's queue: {why}");
            Ok(None)
        }
        _ => Ok(found),
    }
}

fn user(name: &str) -> Result<u32, String> {
    let found = Names::of_host(PATIENCE).user_named(name.as_bytes()).map(|user| user.uid);
    found.or_else(|| name.parse().ok()).ok_or_else(|| {
        format!("there is no user {name}; make one: useradd --system --user-group --no-create-home {name}")
    })
}
