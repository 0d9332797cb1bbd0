//! Old logs, through one engine or two: what `replay` and `suggest` do before they have an answer.

use super::files::{feed, in_order, seed, stamps};
use crate::app::cli::LogArgs;
use crate::app::commands::complain;
use crate::app::ingest::{self, Ingest, LineCounts};
use crate::app::{Exit, setup};
use crate::engine::Engine;
use crate::engine::attribution::Wanted;
use crate::engine::directory::Directory;
use crate::engine::replies::Replies;
use crate::engine::rules::{Enforcement, built_in};
use crate::engine::tracker::Settings;
use crate::engine::trial::Trial;
use crate::host::clock;
use crate::host::follow;
use crate::host::names::Names;
use crate::mail::Server;
use crate::mta::any::Any;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

/// One configuration on its way through the logs.
pub struct Side {
    pub engine: Engine,
    pub ingest: Ingest<Any>,
    pub trial: Trial,
}

impl Side {
    /// Without a configuration: the built-in rules, and accounts as evidence names them.
    pub fn new(config: Option<&Path>, args: &LogArgs) -> Result<Side, String> {
        let (directory, replies, rules, enforcement) = match config {
            Some(path) => {
                let setup = setup::load(Some(path))?;
                (setup.directory, setup.replies, setup.rules, setup.enforcement)
            }
            None => (Directory::default(), Replies::default(), built_in(), Enforcement::default()),
        };
        let mut engine =
            Engine::new(Settings { scripts: true, ..Settings::default() }, directory, replies, seed(&args.files));
        engine.rules.set(rules);
        Ok(Side { engine, ingest: Ingest::new(Any::new(stamps(clock::now()), None)), trial: Trial::new(enforcement) })
    }

    /// The account's name, as it is shown.
    pub fn name(&self, owner: crate::mail::Owner) -> &str {
        self.engine.attribution.accounts.name(owner)
    }
}

/// What reading came to.
pub struct Done {
    pub seconds: f64,
    /// Unpacked.
    pub bytes: u64,
    /// Files that could not be read to their end.
    pub broken: usize,
}

/// Reads all files in the order of their first stamps, each line into every side. `json`: for programs.
///
/// # Errors
/// When nothing can be read, which has been told then.
pub fn read(command: &str, args: &LogArgs, json: bool, sides: &mut [Side]) -> Result<Done, Exit> {
    let failed = |exit: Exit| {
        move |why: String| {
            complain(&why);
            exit
        }
    };
    let mut users = passwd(command, args.passwd.as_deref()).map_err(failed(Exit::Usage))?;
    let started = clock::monotonic();
    let only = args.mta.only();
    let named = without_doubles(command, &args.files);
    let files = in_order(command, &named, only).map_err(failed(Exit::Failed))?;
    let progress = progress(files.iter().map(|file| file.size).sum(), json);
    for side in &mut *sides {
        side.ingest.mta = Any::new(stamps(clock::now()), only);
    }
    let mut done = Done { seconds: 0.0, bytes: 0, broken: 0 };
    for file in files {
        for side in &mut *sides {
            side.ingest.mta.set_reference(file.reference);
        }
        let mut names = |wanted: Wanted<'_>| ingest::user(&mut users, wanted);
        let fed = feed(command, file, usize::from(args.jobs), &progress, &mut |lines| {
            for Side { engine, ingest, trial } in &mut *sides {
                ingest.lines(lines, engine, &mut names, trial);
            }
        });
        done.bytes += fed.bytes;
        if let Some(why) = fed.broken {
            done.broken += 1;
            progress.suspend(|| complain(&why));
        }
    }
    for Side { engine, ingest, trial } in &mut *sides {
        ingest.finish();
        engine.finish(trial);
    }
    progress.finish_and_clear();
    done.seconds = started.elapsed().as_secs_f64();
    if done.broken == 0 {
        let counts = sides.first().map(|side| side.ingest.counts).unwrap_or_default();
        remarks(command, &args.files, only, counts).iter().for_each(|remark| complain(remark));
    }
    Ok(done)
}

/// What somebody should know of an answer without figures.
fn remarks(command: &str, files: &[PathBuf], only: Option<Server>, lines: LineCounts) -> Vec<String> {
    if lines.total == 0 {
        let names: Vec<String> = files.iter().map(|path| path.display().to_string()).collect();
        return vec![format!("{command}: there is no line in {}: is it the right file?", names.join(", "))];
    }
    let Some(only) = only.filter(|_| lines.events == 0) else { return Vec::new() };
    let name = only.name();
    vec![format!("{command}: no line is one of {name}'s (--mta {name}): without --mta, those of every server are read")]
}

/// Leaves out what would count twice: files whose content lies in another one that is named too.
fn without_doubles(command: &str, named: &[PathBuf]) -> Vec<PathBuf> {
    if named.len() < 2 {
        return named.to_vec();
    }
    let mut left = named.to_vec();
    for (part, whole) in follow::doubles(named) {
        let again =
            if part == whole { "named twice".to_owned() } else { format!("all of it is in {}", whole.display()) };
        complain(&format!("{command}: leaving out {}: {again}", part.display()));
        // Of one named twice, the later.
        if let Some(at) = left.iter().rposition(|path| *path == part) {
            left.remove(at);
        }
    }
    left
}

fn progress(total: u64, json: bool) -> ProgressBar {
    if !std::io::stderr().is_terminal() || (json && !std::io::stdout().is_terminal()) {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(total);
    let template = "{bar:30} {percent:>3}%  {bytes_per_sec}  {eta} left";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}

/// Names of uids, from a passwd file (by default this host's).
fn passwd(command: &str, path: Option<&Path>) -> Result<Names, String> {
    let chosen = path.unwrap_or(Path::new("/etc/passwd"));
    match std::fs::read(chosen) {
        Ok(text) => Ok(Names::from_passwd(&String::from_utf8_lossy(&text))),
        Err(_) if path.is_none() => Ok(Names::none()),
        Err(why) => Err(format!("{command}: cannot read the passwd file {}: {why}", chosen.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_without_figures_says_why() {
        let files = [PathBuf::from("/a.log"), PathBuf::from("/b.log")];
        let lines = |total, events| LineCounts { total, events, ..LineCounts::default() };
        assert_eq!(
            remarks("replay", &files, None, lines(0, 0)),
            ["replay: there is no line in /a.log, /b.log: is it the right file?"]
        );
        let other = remarks("replay", &files, Some(Server::Exim), lines(9, 0));
        assert!(other.len() == 1 && other[0].contains("(--mta exim): without --mta"), "{other:?}");
        assert!(
            remarks("replay", &files, Some(Server::Exim), lines(9, 1)).is_empty()
                && remarks("replay", &files, None, lines(9, 0)).is_empty()
        );
    }
}
