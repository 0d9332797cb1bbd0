//! What the host offers: logs that may be read, a state directory, the port, the queue. Nothing is opened for writing.

use super::Finding;
use crate::app::commands::counted;
use crate::app::numbers::span;
use crate::app::powers::Powers;
use crate::app::setup::{self, DEFAULT_CONFIG, LogInput, LogSource, Setup};
use crate::app::{logs as known, queues as queue};
use crate::host::follow::{Rotated, rotated};
use crate::host::journal::{self, Settings};
use crate::host::socket::{self, Address, Obstacle};
use crate::host::unpack::{MAGIC, Packing};
use crate::host::{clock, files};
use crate::store::{FILE_NAME, OpenError, Store};
use crate::web::client::{self, ClientError};
use rustix::fs::Access;
use std::fs::File;
use std::io::Read;
use std::path::Path;

pub fn configuration(named: Option<&Path>, setup: &Setup) -> Finding {
    let from = match named {
        Some(path) => path.display().to_string(),
        None if Path::new(DEFAULT_CONFIG).exists() => DEFAULT_CONFIG.to_owned(),
        None => format!("built-in defaults ({DEFAULT_CONFIG} does not exist)"),
    };
    let accounts = match (&setup.accounts_file, setup.directory.accounts().len()) {
        (None, _) => "no accounts file: the login or unix user is the account".to_owned(),
        (Some(path), n) => format!("{} in {}", counted(n as u64, "account", "accounts"), path.display()),
    };
    Finding::ok("configuration", format!("{from}; {accounts}"))
}

/// The logs that can be read, and findings about all others.
pub fn logs(setup: &Setup, running: bool, findings: &mut Vec<Finding>) -> Vec<LogSource> {
    let chosen = known::choose(&setup.logs);
    if setup.logs.is_empty() {
        findings.extend(because(known::found()));
    }
    if chosen.is_empty() {
        findings.push(nothing_to_follow());
    }
    for path in known::other_names(&setup.logs) {
        let text = format!("{} is another name of a log that is followed already", path.display());
        findings.push(Finding::warn(
            "log",
            text,
            "its mail would count twice, so it is left out: remove it under logs",
        ));
    }
    let mut readable = Vec::new();
    for source in chosen {
        let path = match &source.input {
            LogInput::File(path) => path,
            LogInput::Journal(settings) => {
                findings.push(journal(settings));
                continue;
            }
            LogInput::Socket(address) => {
                findings.push(receiving(address, running));
                continue;
            }
        };
        let shown = path.display();
        match File::open(path).and_then(|file| Ok((file.metadata()?, packing(file)?))) {
            Ok((meta, Packing::Plain)) if meta.is_file() => {
                findings.extend(older(path, setup));
                readable.push(source);
            }
            Ok((meta, _)) if meta.is_file() => findings.push(Finding::fail(
                "log",
                format!("{shown} is packed: nothing is ever added to it"),
                "name the log that the server writes under logs: its rotated files, packed ones too, are found by \
                 themselves. `sendwarden replay FILE` reads this one",
            )),
            Ok(_) => findings.push(Finding::fail(
                "log",
                format!("{shown} is not a file"),
                "name the log file itself under logs in the configuration",
            )),
            Err(why) if why.kind() == std::io::ErrorKind::NotFound => findings.push(Finding::fail(
                "log",
                format!("{shown} does not exist"),
                "name the right file under logs in the configuration, or install rsyslog; the agent waits for it",
            )),
            Err(why) => {
                let denied = files::explain_denied(path);
                let next = match &denied {
                    Some(text) if text.contains("may read it: add") => {
                        "then start a new session (groups are read at login), or run the agent by its systemd unit"
                    }
                    _ => "let a group of the agent's user read it: chmod g+r, and `create 640 root adm` for logrotate",
                };
                let text = denied.unwrap_or_else(|| format!("cannot read {shown}: {why}"));
                findings.push(Finding::fail("log", text, next));
            }
        }
    }
    readable
}

/// An agent that is started now would wait; this command does not.
fn nothing_to_follow() -> Finding {
    let next = match journal::denied(None) {
        Some(_) => "let this user read the journal if the mail server logs there, or run this as root",
        None => {
            "install rsyslog, or name the log under logs in the configuration if it is elsewhere, and run this again; until \
             there is one the agent has nothing to count. `sendwarden demo` shows everything without one"
        }
    };
    Finding::fail("log", known::none_found(), next)
}

/// Why the journal is followed although no configuration names it.
fn because(found: known::Found) -> Option<Finding> {
    let next = "name the right log under logs in the configuration, or remove the old file";
    let because = found.because?;
    Some(if found.is_odd { Finding::warn("log", because, next) } else { Finding::ok("log", because) })
}

/// How a file is packed; a directory is not read.
fn packing(mut file: File) -> std::io::Result<Packing> {
    if !file.metadata()?.is_file() {
        return Ok(Packing::Plain);
    }
    let mut first = Vec::with_capacity(MAGIC);
    file.by_ref().take(MAGIC as u64).read_to_end(&mut first)?;
    Ok(Packing::of(&first))
}

/// The rotated files of a log, and how many of them a first start reads.
fn older(path: &Path, setup: &Setup) -> Option<Finding> {
    let files: Vec<Rotated> = rotated(path).into_iter().filter(|file| file.bytes > 0).collect();
    let oldest = files.iter().map(|file| file.modified).min()?;
    let now = clock::now();
    let past = setup.past.map(|past| i64::try_from(past.as_secs()).unwrap_or(i64::MAX));
    let read = match past {
        Some(0) => 0,
        past => files.iter().filter(|file| past.is_none_or(|past| now.secs_since(file.modified) <= past)).count(),
    };
    Some(Finding::ok(
        "log",
        format!(
            "{}: {}, the oldest last written {} ago; a first start reads {} (backfill)",
            path.display(),
            counted(files.len() as u64, "rotated file", "rotated files"),
            span(now.secs_since(oldest)),
            match read {
                0 => "none of them".to_owned(),
                n if n == files.len() => "all of them".to_owned(),
                n => format!("{n} of them"),
            }
        ),
    ))
}

/// A log that is older than this may not be the one that is written.
pub const OLD_SECS: i64 = 86_400;

/// Whether the journal can be read by this user, and whether there is anything in it that would be read.
fn journal(settings: &Settings) -> Finding {
    if let Some(why) = journal::denied(settings.directory.as_deref()) {
        let next = "then start a new session (groups are read at login), or run the agent by its systemd unit";
        return Finding::fail("log", why, next);
    }
    let failed = |why| Finding::fail("log", why, "follow a file or a socket instead, or install what is missing");
    let identifiers = match journal::look(settings) {
        Ok(Some(identifiers)) => identifiers,
        Ok(None) => {
            return Finding::warn(
                "log",
                format!("the journal can be read, and has no entries of {}", settings.filter.identifiers.join(", ")),
                "send a mail, then look at `journalctl -F SYSLOG_IDENTIFIER`; set identifiers under logs if yours differ",
            );
        }
        Err(why) => return failed(why),
    };
    match journal::newest(settings) {
        Ok(Some(at)) => {
            let age = clock::now().secs_since(at);
            let text =
                format!("the journal can be read; it has entries of {identifiers}, the newest {} old", span(age));
            match age > OLD_SECS {
                true => Finding::warn("log", text, "does the mail server log to the journal now?"),
                false => Finding::ok("log", text),
            }
        }
        Ok(None) => nothing_of_it(settings, &identifiers),
        Err(why) => failed(why),
    }
}

/// Entries of the mail server are there, and none of them would be read.
fn nothing_of_it(settings: &Settings, identifiers: &str) -> Finding {
    let mut all = settings.clone();
    all.filter.units.clear();
    if !settings.filter.units.is_empty() && matches!(journal::newest(&all), Ok(Some(_))) {
        let units = settings.filter.units.join(", ");
        return Finding::fail(
            "log",
            format!("the journal has entries of {identifiers}, but none of the units {units}: nothing would be read"),
            "`journalctl -F _SYSTEMD_UNIT` shows the units; correct them under logs, or remove `units`",
        );
    }
    let machine = journal::machine().unwrap_or_default();
    Finding::fail(
        "log",
        format!(
            "the journal has entries of {identifiers}, but none of this machine (_MACHINE_ID={machine}, as in \
             /etc/machine-id): nothing would be read"
        ),
        "if it is the journal to be read all the same, name its directory under logs (journal: true, directory: \
         /var/log/journal/…): then all in it is",
    )
}

/// Whether the agent could listen there. It is not tried: senders would meet a socket that goes again.
fn receiving(address: &Address, running: bool) -> Finding {
    match socket::obstacle(address) {
        Some(Obstacle::Taken(_)) if running => {
            return Finding::ok("log", format!("lines are received on {address} by the agent that runs here"));
        }
        Some(Obstacle::Taken(why) | Obstacle::Other(why)) => {
            return Finding::fail("log", why, "until then no line would be received");
        }
        None => {}
    }
    if let Address::Unix { path, .. } = address {
        let dir = path.parent().unwrap_or(path);
        if let Err(why) = rustix::fs::access(dir, Access::WRITE_OK | Access::EXEC_OK) {
            let text = format!("cannot make a socket in {}: {why}", dir.display());
            return Finding::fail("log", text, "make the directory, writable for the agent's user");
        }
    }
    Finding::ok("log", format!("lines will be received on {address}; none of them can be looked at here"))
}

/// Whether the store could be opened; `None` where there is none yet.
pub fn store(state_dir: &Path) -> Option<Finding> {
    if !state_dir.is_dir() {
        return None;
    }
    match Store::examine(state_dir) {
        Ok(true) => Some(Finding::ok("store", format!("{} is sound", state_dir.join(FILE_NAME).display()))),
        Ok(false) => None,
        Err(OpenError::Io { source, .. }) if source.kind() == std::io::ErrorKind::PermissionDenied => {
            Some(Finding::warn(
                "store",
                format!("{} cannot be looked at: {source}", state_dir.join(FILE_NAME).display()),
                "run this as root or as the agent's user",
            ))
        }
        Err(why) => Some(Finding::fail("store", why.to_string(), "the agent does not start before that")),
    }
}

pub fn state_dir(dir: &Path) -> Finding {
    let shown = dir.display();
    let may = |path: &Path| rustix::fs::access(path, Access::WRITE_OK | Access::EXEC_OK);
    let next = "run as a user who may write there, or set state_dir in the configuration";
    if let Some(above) = dir.ancestors().find(|above| above.exists()).filter(|above| files::stores_nothing(above)) {
        let text = format!("{shown} cannot be kept: {} is on a file system that stores nothing", above.display());
        return Finding::fail("state", text, "set state_dir in the configuration");
    }
    if dir.is_dir() {
        return match may(dir) {
            Ok(()) => Finding::ok("state", format!("{shown} can be written")),
            Err(why) => Finding::fail("state", format!("{shown} cannot be written: {why}"), next),
        };
    }
    let above = dir.ancestors().find(|above| above.exists());
    match above.map(|above| (above, above.is_dir(), may(above))) {
        Some((_, true, Ok(()))) => Finding::ok("state", format!("{shown} does not exist yet; it will be made")),
        Some((above, false, _)) => {
            Finding::fail("state", format!("{shown} cannot be made: {} is not a directory", above.display()), next)
        }
        Some((above, _, Err(why))) => {
            Finding::fail("state", format!("{shown} cannot be made in {}: {why}", above.display()), next)
        }
        None => Finding::fail("state", format!("{shown} cannot be made"), next),
    }
}

/// Whether an agent runs on this state directory, and whether the port is free or that agent's; and whether one does.
pub fn agent_and_port(setup: &Setup) -> (Vec<Finding>, bool) {
    let socket = setup::socket(&setup.state_dir);
    let asked = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map(|runtime| runtime.block_on(client::get_json(&socket, "/api/v1/status")));
    let mut findings = Vec::new();
    let running = match asked {
        Ok(Ok(status)) => {
            let ready = status.get("ready").and_then(serde_json::Value::as_bool).unwrap_or(false);
            findings.push(if ready {
                Finding::ok("agent", "is running here and ready")
            } else {
                Finding::warn("agent", "is running here and not ready", "sendwarden status says what it waits for")
            });
            true
        }
        Ok(Err(ClientError::NoAgent { .. })) => {
            findings.push(Finding::ok("agent", "is not running on this state directory"));
            false
        }
        Ok(Err(why)) => {
            let next = "run this as root or as the agent's user";
            findings.push(Finding::warn("agent", why.to_string(), next));
            matches!(why, ClientError::Denied { .. } | ClientError::Refused { .. })
        }
        Err(why) => {
            findings.push(Finding::warn("agent", format!("cannot be asked: {why}"), "run this again"));
            false
        }
    };
    for address in &setup.web.listen {
        let taken = std::net::TcpListener::bind(address).map(drop).err();
        findings.push(match taken {
            None => Finding::ok("port", format!("{address} is free")),
            Some(why) if why.kind() == std::io::ErrorKind::AddrInUse && running => {
                Finding::ok("port", format!("{address} is in use, by the agent that runs here"))
            }
            Some(why) => Finding::fail(
                "port",
                format!("cannot listen on {address}: {why}"),
                format!("see who uses it with: ss -ltnp 'sport = :{}'; or set listen to a free one", address.port()),
            ),
        });
    }
    (findings, running)
}

/// Whether what only root may can be done: by this user, or by the helper. `None` where no server needs it.
pub fn helper(setup: &Setup) -> Option<Finding> {
    setup.mail_servers.any().then(|| judge_helper(setup))
}

fn judge_helper(setup: &Setup) -> Finding {
    let powers = Powers::of_process(&setup.helper_socket);
    let Powers::Helper(helper) = &powers else {
        return Finding::ok("helper", "an agent that is root, as this is, needs none");
    };
    match helper.hello() {
        Ok(about) => {
            let names: Vec<&str> = about.instances.iter().map(|one| one.name.as_str()).collect();
            let refused = match (about.refused_peers, about.refused_requests) {
                (0, 0) => String::new(),
                (peers, requests) => format!("; it has refused {peers} connections and {requests} requests"),
            };
            Finding::ok("helper", format!("answers on {} for {}{refused}", helper.socket().display(), names.join(", ")))
        }
        // Without a gate the agent only counts, and needs nobody.
        Err(why) if setup.gate.is_none() => Finding::warn("helper", why.to_string(), "blocks hold nothing without it"),
        Err(why) => {
            let next = "without it mail of scripts passes the gate unproven, and blocks hold nothing in the queue";
            Finding::fail("helper", why.to_string(), next)
        }
    }
}

pub fn queues(setup: &Setup) -> Vec<Finding> {
    let counted = setup.counted_queues();
    if counted.is_empty() {
        let next = "set queue.directories if your Postfix keeps its queue elsewhere, queue.exim_program for an Exim";
        return vec![Finding::warn("queue", "no queue was found: there will be no figures of it", next)];
    }
    let powers = Powers::of_process(&setup.helper_socket);
    let judge = |one: &queue::Counted| match one.scan(&powers) {
        Ok(scan) => {
            let counts: Vec<String> = scan.queues.iter().map(|q| format!("{} {}", q.queue, q.messages)).collect();
            Finding::ok("queue", format!("{}: {}", one.shown(), counts.join(", ")))
        }
        Err(why) => Finding::warn("queue", why, "all other figures come from the log and do not need this"),
    };
    counted.iter().map(judge).collect()
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn check_does_not_speak_of_waiting_for_a_log() {
        let told = nothing_to_follow();
        assert!(told.text.starts_with("no mail log was found") && !told.text.contains("waiting"), "{told:?}");
        assert!(told.next.contains("run this again") && told.level == Level::Fail, "{told:?}");
    }

    #[test]
    fn a_state_directory_is_judged_without_making_it() {
        let dir = tempfile::tempdir().unwrap();
        let inside = dir.path().join("a/b");
        assert_eq!(state_dir(&inside).level, Level::Ok);
        assert!(!inside.exists() && !dir.path().join("a").exists());
        assert_eq!(state_dir(dir.path()).level, Level::Ok);
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert_eq!(state_dir(&file.join("below")).level, Level::Fail);
        for nowhere in ["/proc/foo", "/proc"] {
            assert!(state_dir(Path::new(nowhere)).text.contains("stores nothing"), "{nowhere}");
        }
    }
}
