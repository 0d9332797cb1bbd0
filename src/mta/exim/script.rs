//! Which script made a message: command lines (selector +arguments) and the line of our own access rule.
//!
//! Directories and arguments are the submitting user's text, and neither is quoted against the other: a directory may
//! be called `a 5 args: /usr/sbin/sendmail`. What can be read in two ways is not read. See [`command`] and [`rule`].

use super::scan;
use crate::mail::{Kind, QueueId, Script, ScriptSource, script::php_header};

/// Exim's own processes run in its spool directory, where no user can be.
const SPOOL: &[u8] = b"/var/spool/exim";

/// First arguments of commands that submit nothing: deliveries, queue runs, questions, the daemon.
const QUIET: [&[u8]; 13] =
    [b"-M", b"-q", b"-R", b"-S", b"-bd", b"-bp", b"-bP", b"-bV", b"-bt", b"-bv", b"-be", b"-bi", b"-bh"];

/// `DIRECTORY N args: ARG…` behind `cwd=` (exim.c), N being the number of arguments, the program's name included.
pub(super) fn command(text: &[u8]) -> Option<Kind<'_>> {
    if text.starts_with(SPOOL) {
        return None;
    }
    let (mut found, mut several) = (None, false);
    for at in memchr::memmem::find_iter(text, b" args: ").take(16) {
        if let Some(read) = split(text, at) {
            several = found.replace(read).is_some() || several;
        }
    }
    let (directory, arguments) = match found {
        Some((directory, arguments)) if !several => (directory, arguments),
        // It may still be the one that submits the next message.
        _ => (&[][..], &[][..]),
    };
    let first = scan::word(arguments).1.strip_prefix(b" ").map_or(&[][..], |rest| scan::word(rest).0);
    if QUIET.iter().any(|option| first.starts_with(option)) {
        return None;
    }
    // SMTP on its input; where the arguments are not known, it may be.
    let many = found.is_none() || several || argument_is(arguments, b"-bs") || argument_is(arguments, b"-bS");
    Some(Kind::Script(Script {
        id: None,
        from: ScriptSource::Command { many },
        uid: None,
        directory,
        path: &[],
        line: 0,
        recipients: &[],
    }))
}

/// Directory and arguments, if ` args: ` at `at` has the number of arguments before it that follow it.
fn split(text: &[u8], at: usize) -> Option<(&[u8], &[u8])> {
    let (before, arguments) = (text.get(..at)?, text.get(at + b" args: ".len()..)?);
    let (directory, number) = scan::split(before, memchr::memrchr(b' ', before)?)?;
    let (number, rest) = scan::number(number)?;
    (rest.is_empty() && number == count(arguments)).then_some((directory, arguments))
}

/// Arguments with a space in them are in quotes, which nothing escapes.
fn count(mut text: &[u8]) -> u64 {
    let mut n = 0;
    loop {
        n += 1;
        let end = match text.strip_prefix(b"\"") {
            Some(inner) => memchr::memmem::find(inner, b"\" ").map(|at| at + 2),
            None => memchr::memchr(b' ', text),
        };
        match end.and_then(|at| text.get(at + 1..)) {
            Some(rest) => text = rest,
            None => return n,
        }
    }
}

fn argument_is(arguments: &[u8], option: &[u8]) -> bool {
    arguments.split(|&b| b == b' ').any(|argument| argument == option)
}

/// `agent: uid=N user=LOGIN rcpts=N cwd=DIRECTORY script=VALUE`, logged by the access rule that the documentation
/// gives. The uid is the kernel's; the directory is the user's text, and VALUE a header, in quotes where it has more
/// than plain characters: it ends the line. The header is believed no further than its uid is the real one.
pub(super) fn rule(id: QueueId, text: &[u8]) -> Option<Kind<'_>> {
    const SCRIPT: &[u8] = b" script=";
    let (uid, rest) = scan::number(text.strip_prefix(b"agent: uid=")?)?;
    let (_, rest) = scan::word(rest.strip_prefix(b" user=")?);
    let (_, rest) = scan::number(rest.strip_prefix(b" rcpts=")?)?;
    let rest = rest.strip_prefix(b" cwd=")?;
    let ends = |at: usize| match rest.get(at + SCRIPT.len()..)? {
        [b'"', value @ ..] => scan::quoted(value).filter(|(_, rest)| rest.is_empty()).map(|(value, _)| (at, value)),
        value if memchr::memchr2(b' ', b'"', value).is_none() => Some((at, value)),
        _ => None,
    };
    let (at, value) = memchr::memmem::find_iter(rest, SCRIPT).take(16).find_map(ends)?;
    let directory = rest.get(..at)?;
    let path = match php_header(value) {
        Some((claimed, path)) if u64::from(claimed) == uid => path,
        _ => &[],
    };
    let uid = u32::try_from(uid).ok();
    Some(Kind::Script(Script {
        id: Some(id),
        from: ScriptSource::Rule,
        uid,
        directory,
        path,
        line: 0,
        recipients: &[],
    }))
}
