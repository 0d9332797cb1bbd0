//! `sendwarden setup`: what the mail server's configuration needs so that mail can be held. Shown, made, or taken back.
//!
//! What is to be changed is planned in `mta`; here the files are read, the plan is checked by the server's own checker on
//! a copy, written, and undone again when anything fails.

mod diff;
mod exim;
mod postfix;

use super::{complain, say};
use crate::app::Exit;
use crate::app::cli::{SetupAction, SetupCommand};
use crate::host::exec;
use crate::host::replace::Found;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub fn run(command: &SetupCommand) -> Exit {
    match command {
        SetupCommand::Postfix(args) => postfix::run(args),
        SetupCommand::Exim(args) => exim::run(args),
    }
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Print,
    Apply,
    Undo,
}

impl Action {
    fn of(said: SetupAction) -> Action {
        match (said.apply, said.undo) {
            (true, _) => Action::Apply,
            (_, true) => Action::Undo,
            _ => Action::Print,
        }
    }
}

/// A checker or a reload takes moments; a large configuration on a busy host a little longer.
const LIMIT: Duration = Duration::from_secs(60);

/// Runs a tool of the mail server's; what it said when it failed.
fn tool(argv: &[String]) -> Result<String, String> {
    let output = exec::run(argv, b"", LIMIT).map_err(|why| why.to_string())?;
    let both = [output.stdout.as_slice(), output.stderr.as_slice()].map(String::from_utf8_lossy).concat();
    match output.status.success() {
        true => Ok(both),
        false => Err(format!("`{}` ended with {}: {}", argv.join(" "), output.status, both.trim())),
    }
}

/// Only root may write the mail server's configuration.
fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Files that are changed together: all of them or none.
struct Change {
    files: Vec<(Found, Vec<u8>)>,
}

impl Change {
    /// Only what differs.
    fn new(files: Vec<(Found, Vec<u8>)>) -> Change {
        Change { files: files.into_iter().filter(|(found, new)| found.bytes != *new).collect() }
    }

    fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Keeps a copy of each file beside it.
    fn back_up(&self) -> Result<Vec<PathBuf>, String> {
        let keep = |(found, _): &(Found, Vec<u8>)| {
            found.back_up().map_err(|why| format!("cannot keep a copy of {}: {why}", found.path.display()))
        };
        self.files.iter().map(keep).collect()
    }

    /// Writes all files, then asks `prove`. Whatever fails, all are put back as they were.
    fn install(&self, prove: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
        let mut done = Vec::new();
        for (found, new) in &self.files {
            if let Err(why) = found.replace(new) {
                let why = format!("cannot write {}: {why}", found.path.display());
                return Err(put_back(&done, &why));
            }
            done.push(found);
        }
        prove().map_err(|why| put_back(&done, &why))
    }

    /// What changes, for people.
    fn shown(&self) -> String {
        let show = |(found, new): &(Found, Vec<u8>)| {
            let [old, new] = [found.bytes.as_slice(), new.as_slice()].map(String::from_utf8_lossy);
            diff::shown(&found.path.display().to_string(), &old, &new)
        };
        self.files.iter().map(show).collect()
    }

    /// Removes the copies that say the same as the files do now.
    fn forget_copies(&self) {
        for (found, new) in &self.files {
            let copy = crate::host::replace::backup_name(&found.path);
            if crate::host::replace::read(&copy).is_ok_and(|kept| kept.bytes == *new) {
                let _ = std::fs::remove_file(copy);
            }
        }
    }
}

/// Puts files back; what happened, in words.
fn put_back(done: &[&Found], why: &str) -> String {
    let mut text = why.to_owned();
    for found in done {
        let path = found.path.display();
        match found.put_back() {
            Ok(()) => text.push_str(&format!("\n{path} is as it was before")),
            Err(also) => text.push_str(&format!("\n{path} could not be put back ({also}): its copy is beside it")),
        }
    }
    text
}

/// A directory for a copy of a configuration, removed with the value.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Scratch, String> {
        use std::os::unix::fs::DirBuilderExt;
        let name = format!("sendwarden-setup-{}-{}", std::process::id(), crate::host::clock::now().0);
        let path = std::env::temp_dir().join(name);
        // Fails when somebody has made it before.
        let made = std::fs::DirBuilder::new().mode(0o700).create(&path);
        made.map_err(|why| format!("cannot make {} to check a copy of the configuration in: {why}", path.display()))?;
        Ok(Scratch(path))
    }

    fn path(&self) -> &Path {
        &self.0
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), String> {
        let path = self.0.join(name);
        std::fs::write(&path, bytes).map_err(|why| format!("cannot write {}: {why}", path.display()))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
