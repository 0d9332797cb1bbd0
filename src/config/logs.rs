//! The `logs` of the configuration: files, the systemd journal, sockets, each with what only it can be told.
//!
//! Nothing is opened here: a log that does not exist yet is waited for.

use super::node::Node;
use super::problem::Found;
use super::read::{Bad, Section, absolute, open, text_of, zone};
use super::schema::is_auto;
use super::{Format, LogInput, LogSource, Mta};
use crate::host::journal;
use crate::host::socket::Address;

/// Keys of which every entry has exactly one: where its lines come from.
const INPUTS: [&str; 3] = ["path", "journal", "socket"];
/// Root and the group of the agent may send.
const SOCKET_MODE: u32 = 0o660;

/// Reads the list; `auto`, or no list, leaves `logs` empty.
pub(super) fn read(top: &Node, keys: &[&str], logs: &mut Vec<LogSource>, found: &mut Vec<Found>) {
    let items = match top.get("logs") {
        None => return,
        node if is_auto(node) => return,
        Some(Node::List(items)) if !items.is_empty() => items,
        Some(Node::List(_)) => {
            let hint = "write `- path: /var/log/mail.log`, or remove `logs` to have them found";
            return found.push(Found::new("logs", "this list of logs is empty").hint(hint));
        }
        Some(other) => {
            let message = format!("expected `auto` or a list of logs, found {}", other.kind());
            found.push(Found::new("logs", message).hint("write `- path: /var/log/mail.log`, or remove it"));
            return;
        }
    };
    for (i, item) in items.iter().enumerate() {
        let mut s = open(Some(item), &format!("logs[{i}]"), keys, found);
        let mut mta = Mta::Auto;
        s.choice("mta", &mut mta, &[("auto", Mta::Auto), ("postfix", Mta::Postfix), ("exim", Mta::Exim)]);
        let mut format = Format::Mail;
        s.choice("format", &mut format, &[("mail", Format::Mail), ("php", Format::Php)]);
        let mut stamps = None;
        s.optional("zone", &mut stamps, zone);
        let Some((key, input)) = input(&mut s, matches!(item, Node::Map(_))) else { continue };
        if logs.iter().any(|other| other.input.to_string() == input.to_string()) {
            s.wrong(key, "this log is listed twice", "its mail would count twice: keep one entry");
        }
        logs.push(LogSource { input, mta, format, zone: stamps });
    }
}

/// The key that says where the lines come from, and what it says.
fn input(s: &mut Section<'_, '_>, section: bool) -> Option<(&'static str, LogInput)> {
    let mut given = INPUTS.into_iter().filter(|key| s.node(key).is_some());
    let (first, second) = (given.next(), given.next());
    let mut mode = SOCKET_MODE;
    s.text("socket_mode", &mut mode, octal);
    if let Some(second) = second {
        s.wrong(second, "a log comes from one place", "write one entry for each");
        return None;
    }
    let Some(key) = first else {
        if section {
            let hint = "add `path: /var/log/mail.log`, `journal: true`, or `socket: /run/sendwarden/log.sock`";
            s.wrong("path", "a log needs a path, the journal or a socket", hint);
        }
        return None;
    };
    let settings = journal(s);
    let strangers: &[&'static str] = match key {
        "path" => &["identifiers", "units", "directory", "socket_mode"],
        "journal" => &["socket_mode"],
        _ => &["identifiers", "units", "directory"],
    };
    if let Some(stray) = strangers.iter().find(|stray| s.node(stray).is_some()) {
        s.wrong(stray, format!("this has no meaning for a log with `{key}`"), "remove it");
    }
    let mut input = None;
    match key {
        "journal" => match s.node(key) {
            Some(Node::Flag(true)) => input = Some(LogInput::Journal(settings)),
            Some(Node::Flag(false)) => {
                s.wrong(key, "this entry reads nothing", "write `journal: true`, or remove the entry")
            }
            _ => s.flag(key, &mut false),
        },
        "socket" => s.optional(key, &mut input, |text| socket(text, mode).map(LogInput::Socket)),
        _ => s.optional(key, &mut input, |text| file(text).map(LogInput::File)),
    }
    input.map(|input| (key, input))
}

/// A pattern would be waited for as a file of that name, for ever.
fn file(text: &str) -> Result<std::path::PathBuf, Bad> {
    if text.contains(['*', '?', '[']) {
        let hint =
            "name each log; the rotated files of one, such as mail.log.1 and mail.log.2.gz, are found by themselves";
        return Err((format!("`{text}` is a pattern, and names of logs are taken as they are"), hint.to_owned()));
    }
    absolute(text)
}

fn journal(s: &mut Section<'_, '_>) -> journal::Settings {
    let mut settings = journal::Settings::default();
    let pattern = |item: &Node| text_of(item).map(str::to_owned);
    s.list("identifiers", &mut settings.filter.identifiers, pattern);
    s.list("units", &mut settings.filter.units, pattern);
    s.optional("directory", &mut settings.directory, absolute);
    settings
}

fn socket(text: &str, mode: u32) -> Result<Address, Bad> {
    let Some(address) = text.strip_prefix("udp:") else {
        let path = absolute(text).map_err(|(message, _)| {
            (message, "write the path of a socket, or udp:ADDRESS:PORT such as udp:127.0.0.1:5140".to_owned())
        })?;
        // sockaddr_un has 108 bytes, the last of them 0.
        return match path.as_os_str().len() {
            ..=107 => Ok(Address::Unix { path, mode }),
            n => Err((format!("a path of {n} bytes is too long for a socket"), "107 bytes are possible".to_owned())),
        };
    };
    let hint = || "write udp:ADDRESS:PORT such as udp:127.0.0.1:5140 or udp:[::1]:5140".to_owned();
    match address.parse::<std::net::SocketAddr>() {
        Ok(address) if address.port() == 0 => Err(("a socket needs a port".to_owned(), hint())),
        Ok(address) if address.ip().is_loopback() => Ok(Address::Udp(address)),
        Ok(address) => Err((
            format!("{} is not a loopback address", address.ip()),
            "anybody who can reach it could invent mail: let a syslog daemon of this host receive and forward"
                .to_owned(),
        )),
        Err(_) => Err((format!("`{address}` is not an address with a port"), hint())),
    }
}

fn octal(text: &str) -> Result<u32, Bad> {
    let digits = !text.is_empty() && text.len() <= 4 && text.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| digits && *mode <= 0o777);
    mode.ok_or_else(|| (format!("`{text}` is not a file mode"), "write it in quotes, such as \"0660\"".to_owned()))
}
