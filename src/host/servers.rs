//! Which mail servers are installed here and where they log, as their own tools say (postconf(1), `exim -bP`).
//!
//! Only looked at, never changed; each tool is asked once, within a time limit, without a shell. See [`installed`].

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::exec;
use crate::mail::Server;

/// A tool answers within moments; one that hangs must not hold up the start.
const LIMIT: Duration = Duration::from_secs(5);
/// Most instances that are asked for.
const MOST_INSTANCES: usize = 16;

/// The tools to ask, each with the arguments that come first. Of each server the first that can be started answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tools {
    pub postfix: Vec<Vec<String>>,
    pub exim: Vec<Vec<String>>,
}

impl Default for Tools {
    /// Where distributions and panels put them: a service's PATH may lack `sbin`.
    fn default() -> Tools {
        let named = |paths: &[&str]| paths.iter().map(|path| vec![(*path).to_owned()]).collect();
        Tools {
            postfix: named(&["/usr/sbin/postconf", "/usr/local/sbin/postconf"]),
            exim: named(&["/usr/sbin/exim4", "/usr/sbin/exim", "/usr/exim/bin/exim", "/usr/local/sbin/exim"]),
        }
    }
}

/// One instance of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    pub server: Server,
    /// Empty when it was not told.
    pub version: String,
    /// What tells it from other instances: Postfix's configuration directory, Exim's program.
    pub place: PathBuf,
    pub logs: Vec<LogsTo>,
    /// Exim's `log_selector` as it is set; empty for the default, and for other servers.
    pub selector: String,
    /// What keeps the tool from answering; the rest is then unknown.
    pub trouble: Option<String>,
}

/// Where a server writes its log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogsTo {
    File(PathBuf),
    /// To the syslog daemon, or through its socket to the journal.
    Syslog,
    /// To a file whose name changes with the date (Exim's `%D`, `%M`).
    Dated(String),
}

/// Every instance that is found.
pub fn installed(tools: &Tools) -> Vec<Installed> {
    let mut found = Vec::new();
    if let Some(tool) = first(&tools.postfix) {
        postfix(tool, &mut found);
    }
    if let Some(tool) = first(&tools.exim) {
        found.push(exim(tool));
    }
    found
}

/// Different names may be the same program: one is asked.
fn first(tools: &[Vec<String>]) -> Option<&Vec<String>> {
    tools.iter().find(|tool| tool.first().is_some_and(|program| Path::new(program).is_file()))
}

fn ask(tool: &[String], more: &[&str]) -> Result<String, String> {
    let argv: Vec<String> = tool.iter().cloned().chain(more.iter().map(|word| (*word).to_owned())).collect();
    let output = exec::run(&argv, b"", LIMIT).map_err(|why| why.to_string())?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{} ended with {}: {}", argv.join(" "), output.status, said.lines().next().unwrap_or("").trim()))
}

/// One Postfix instance: the name in its log, and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostfixPlace {
    pub name: String,
    pub tools: String,
    pub config: String,
    pub queue: String,
}

/// Asks the instance with this configuration directory.
///
/// # Errors
/// What keeps postconf(1) from answering.
pub fn postfix_place(tools: &Tools, config: &Path) -> Result<PostfixPlace, String> {
    let tool = first(&tools.postfix).ok_or("postconf(1) is not installed here")?;
    let dir = config.display().to_string();
    let names = ["syslog_name", "command_directory", "config_directory", "queue_directory"];
    // -x: `syslog_name` is by default an expression of `multi_instance_name`.
    let more: Vec<&str> = ["-c", dir.as_str(), "-x", "-h"].into_iter().chain(names).collect();
    let text = ask(tool, &more)?;
    let values: Vec<&str> = text.lines().map(str::trim).collect();
    match values.as_slice() {
        [name, tools, config, queue] if !name.is_empty() && tools.starts_with('/') && queue.starts_with('/') => {
            let own = |text: &str| text.to_owned();
            Ok(PostfixPlace { name: own(name), tools: own(tools), config: own(config), queue: own(queue) })
        }
        _ => Err(format!("postconf(1) gives no usable answer for {dir}")),
    }
}

/// Values of an instance's settings, by postconf(1); with `expand` without references.
///
/// # Errors
/// What keeps postconf(1) from answering, or what it complains of.
pub fn postfix_values(tools: &Tools, config: &Path, expand: bool, names: &[&str]) -> Result<Vec<String>, String> {
    let tool = first(&tools.postfix).ok_or("postconf(1) is not installed here")?;
    let dir = config.display().to_string();
    let how = if expand { "-hx" } else { "-h" };
    let more: Vec<&str> = ["-c", dir.as_str(), how].into_iter().chain(names.iter().copied()).collect();
    Ok(ask(tool, &more)?.lines().map(|line| line.trim().to_owned()).collect())
}

/// A setting that services of master.cf have for themselves: `service/type`, and its value without references.
///
/// # Errors
/// What keeps postconf(1) from answering.
pub fn postfix_services(tools: &Tools, config: &Path, name: &str) -> Result<Vec<(String, String)>, String> {
    let tool = first(&tools.postfix).ok_or("postconf(1) is not installed here")?;
    let (dir, all) = (config.display().to_string(), format!("*/*/{name}"));
    let text = ask(tool, &["-c", dir.as_str(), "-P", "-x", all.as_str()])?;
    let line = |line: &str| {
        let (service, value) = line.split_once(" =")?;
        Some((service.strip_suffix(name)?.strip_suffix('/')?.to_owned(), value.trim().to_owned()))
    };
    Ok(text.lines().filter_map(line).collect())
}

/// How many processes of this program each service of master.cf that runs it may have, as it is written there: a number,
/// or `-` (master(5): name, type, four flags, maxproc, command).
///
/// # Errors
/// What keeps postconf(1) from answering.
pub fn postfix_maxima(tools: &Tools, config: &Path, program: &str) -> Result<Vec<String>, String> {
    let tool = first(&tools.postfix).ok_or("postconf(1) is not installed here")?;
    let dir = config.display().to_string();
    let text = ask(tool, &["-c", dir.as_str(), "-M", "-f"])?;
    let line = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_, _, _, _, _, _, most, its, ..] = words.as_slice() else { return None };
        (!line.starts_with(' ') && *its == program).then(|| (*most).to_owned())
    };
    Ok(text.lines().filter_map(line).collect())
}

/// A service of master.cf that listens on the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inet {
    /// As master.cf has it: `smtp`, `127.0.0.1:10026`.
    pub name: String,
    /// The first word of its command.
    pub program: String,
}

/// The services that listen on the network (master(5): name, type, five flags, command).
///
/// # Errors
/// What keeps postconf(1) from answering.
pub fn postfix_inet(tools: &Tools, config: &Path) -> Result<Vec<Inet>, String> {
    let tool = first(&tools.postfix).ok_or("postconf(1) is not installed here")?;
    let dir = config.display().to_string();
    let text = ask(tool, &["-c", dir.as_str(), "-M", "-f"])?;
    let line = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [name, "inet", _, _, _, _, _, program, ..] = words.as_slice() else { return None };
        (!line.starts_with(' ')).then(|| Inet { name: (*name).to_owned(), program: (*program).to_owned() })
    };
    Ok(text.lines().filter_map(line).collect())
}

/// Values of Exim's settings, by name (anybody may ask for these).
///
/// # Errors
/// What keeps it from answering.
pub fn exim_values(program: &str, names: &[&str]) -> Result<Vec<(String, String)>, String> {
    let more: Vec<&str> = ["-bP"].into_iter().chain(names.iter().copied()).collect();
    let text = ask(&[program.to_owned()], &more)?;
    let line =
        |line: &str| line.split_once(" = ").map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()));
    Ok(text.lines().filter_map(line).collect())
}

/// Exim's whole configuration, as it reads it; it tells an administrator only.
///
/// # Errors
/// What keeps it from answering.
pub fn exim_configuration(program: &str) -> Result<String, String> {
    ask(&[program.to_owned()], &["-bP", "config"])
}

/// The program of the Exim that is installed here.
pub fn exim_program(tools: &Tools) -> Option<String> {
    first(&tools.exim)?.first().cloned()
}

/// Where the Exim that this program is keeps its queue (anybody may ask).
///
/// # Errors
/// What keeps it from answering.
pub fn exim_spool(program: &str) -> Result<PathBuf, String> {
    let text = ask(&[program.to_owned()], &["-bP", "spool_directory"])?;
    let path = text.lines().find_map(|line| line.strip_prefix("spool_directory = ")).map(str::trim);
    let path = path.filter(|path| path.starts_with('/')).map(PathBuf::from);
    path.ok_or_else(|| format!("{program} -bP spool_directory names no directory"))
}

/// The first instance, and those that its `multi_instance_directories` names.
fn postfix(tool: &[String], found: &mut Vec<Installed>) {
    let names = ["-h", "mail_version", "maillog_file", "config_directory", "multi_instance_directories"];
    let (main, others) = postfix_instance(ask(tool, &names));
    found.push(main);
    for dir in others.into_iter().take(MOST_INSTANCES) {
        let of_instance: Vec<&str> = ["-c", dir.as_str()].into_iter().chain(names).collect();
        let (mut one, _) = postfix_instance(ask(tool, &of_instance));
        one.place = PathBuf::from(dir);
        found.push(one);
    }
}

/// postconf(1) with -h prints one value a line, in the order of the names.
fn postfix_instance(answer: Result<String, String>) -> (Installed, Vec<String>) {
    let (text, trouble) = match answer {
        Ok(text) => (text, None),
        Err(why) => (String::new(), Some(why)),
    };
    let mut values = text.lines().map(str::trim);
    let mut value = || values.next().unwrap_or("").to_owned();
    let (version, file, place, others) = (value(), value(), value(), value());
    let logs = if file.is_empty() { LogsTo::Syslog } else { LogsTo::File(PathBuf::from(file)) };
    let others = others.split([' ', ',']).filter(|dir| dir.starts_with('/')).map(str::to_owned).collect();
    let place = PathBuf::from(place);
    (Installed { server: Server::Postfix, version, place, logs: vec![logs], selector: String::new(), trouble }, others)
}

fn exim(tool: &[String]) -> Installed {
    let place = tool.first().map(PathBuf::from).unwrap_or_default();
    let version = ask(tool, &["-bV"]).ok().and_then(|text| exim_version(&text)).unwrap_or_default();
    let (text, trouble) = match ask(tool, &["-bP", "log_file_path", "log_selector"]) {
        Ok(text) => (text, None),
        Err(why) => (String::new(), Some(why)),
    };
    let value = |name: &str| {
        let own = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(" ="));
        own.unwrap_or("").trim().to_owned()
    };
    let selector = value("log_selector");
    Installed { server: Server::Exim, version, place, logs: exim_logs(&value("log_file_path")), selector, trouble }
}

/// `Exim version 4.96 #2 built …`
fn exim_version(text: &str) -> Option<String> {
    Some(text.lines().find_map(|line| line.strip_prefix("Exim version "))?.split(' ').next()?.to_owned())
}

/// The specification's chapter on log files: a list of paths and `syslog`, separated by colons; `%s` is the log's name.
fn exim_logs(value: &str) -> Vec<LogsTo> {
    let mut logs = Vec::new();
    for item in value.split(':').map(str::trim).filter(|item| !item.is_empty()) {
        logs.push(match item {
            "syslog" => LogsTo::Syslog,
            path if path.contains("%D") || path.contains("%M") => LogsTo::Dated(path.to_owned()),
            path => LogsTo::File(PathBuf::from(path.replace("%s", "main"))),
        });
    }
    logs
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    /// A tool that answers as this shell script says.
    fn tool(dir: &Path, name: &str, script: &str) -> Vec<Vec<String>> {
        let path = dir.join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        vec![vec!["/nowhere/tool".to_owned()], vec![path.display().to_string()]]
    }

    #[test]
    fn instances_of_postfix_and_where_each_logs() {
        let dir = tempfile::tempdir().unwrap();
        let script = "case \"$1 $2\" in '-c /etc/postfix-out') printf '3.7.11\\n/var/log/out.log\\n/x\\n\\n';; \
                      *) printf '3.7.11\\n\\n/etc/postfix\\n/etc/postfix-out, relative\\n';; esac";
        let tools = Tools { postfix: tool(dir.path(), "postconf", script), exim: Vec::new() };
        let found = installed(&tools);
        let seen: Vec<_> = found.iter().map(|one| (one.place.to_str().unwrap(), one.logs.clone())).collect();
        let file = LogsTo::File("/var/log/out.log".into());
        assert_eq!(seen, [("/etc/postfix", vec![LogsTo::Syslog]), ("/etc/postfix-out", vec![file])]);
        assert!(found.iter().all(|one| one.version == "3.7.11" && one.trouble.is_none()));
    }

    #[test]
    fn a_tool_that_fails_or_is_missing_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let script = "echo 'fatal: open /etc/postfix/main.cf: No such file' >&2; exit 1";
        let tools = Tools { postfix: tool(dir.path(), "postconf", script), exim: vec![vec!["/nowhere".into()]] };
        let found = installed(&tools);
        assert_eq!(found.len(), 1);
        assert!(found[0].trouble.as_deref().unwrap().contains("main.cf: No such file"), "{found:?}");
    }

    #[test]
    fn logs_of_exim_in_every_form() {
        let file = |path: &str| LogsTo::File(path.into());
        for (value, logs) in [
            ("/var/log/exim4/%slog", vec![file("/var/log/exim4/mainlog")]),
            ("/var/log/exim_%slog", vec![file("/var/log/exim_mainlog")]),
            ("syslog : /var/log/exim/%s.log", vec![LogsTo::Syslog, file("/var/log/exim/main.log")]),
            ("/var/log/exim/%slog-%D", vec![LogsTo::Dated("/var/log/exim/%slog-%D".into())]),
            ("", vec![]),
        ] {
            assert_eq!(exim_logs(value), logs, "{value}");
        }
        assert_eq!(exim_version("Exim version 4.96 #2 built 1-Jan\nCopyright"), Some("4.96".into()));
    }
}
