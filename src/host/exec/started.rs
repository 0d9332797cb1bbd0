//! Programs that are started and let run: they take as long as they take, and nobody reads what they say.
//!
//! A few at a time, the others wait for their turn. They are no part of the agent's work: when it ends, what waits is
//! not started any more, and what runs goes on.

use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;

/// Deliveries wait for other hosts: some side by side, but no storm.
const AT_ONCE: usize = 8;

/// Starts a program when its turn has come, without waiting for it.
pub fn start(argv: Vec<String>) {
    start_first(vec![argv]);
}

/// The same with several ways to do it: the next one is for when the one before does not end well.
pub fn start_first(ways: Vec<Vec<String>>) {
    static QUEUE: OnceLock<Sender<Vec<Vec<String>>>> = OnceLock::new();
    if QUEUE.get_or_init(open).send(ways).is_err() {
        tracing::error!("there is no thread to start a program");
    }
}

fn open() -> Sender<Vec<Vec<String>>> {
    let (queue, turns) = channel();
    let turns = std::sync::Arc::new(Mutex::new(turns));
    for n in 0..AT_ONCE {
        let turns = turns.clone();
        let started = thread::Builder::new().name(format!("started-{n}")).spawn(move || {
            while let Some(ways) = next(&turns) {
                ways.iter().any(|argv| run(argv));
            }
        });
        if let Err(why) = started {
            tracing::error!("cannot start a thread for programs: {why}");
        }
    }
    queue
}

/// One thread waits in the queue, the others for their turn to.
fn next(turns: &Mutex<Receiver<Vec<Vec<String>>>>) -> Option<Vec<Vec<String>>> {
    turns.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
}

#[allow(clippy::disallowed_methods, reason = "the room that starts processes")]
fn run(argv: &[String]) -> bool {
    let Some((program, arguments)) = argv.split_first() else { return false };
    let [input, output, errors] = [Stdio::null(), Stdio::null(), Stdio::null()];
    let mut command = Command::new(program);
    let ended = command.args(arguments).stdin(input).stdout(output).stderr(errors).process_group(0).status();
    match ended {
        Ok(status) => status.success(),
        Err(why) => {
            tracing::error!("cannot start {program}: {why}");
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_programs_than_run_at_once_are_all_started() {
        let dir = tempfile::tempdir().unwrap();
        for n in 0..3 * AT_ONCE {
            start(vec!["touch".to_owned(), dir.path().join(n.to_string()).display().to_string()]);
        }
        start(vec!["/nowhere/program".to_owned()]);
        let touch = |name: &str| vec!["touch".to_owned(), dir.path().join(name).display().to_string()];
        start_first(vec![vec!["false".to_owned()], touch("second-way"), touch("third-way")]);
        let began = crate::host::clock::monotonic();
        while std::fs::read_dir(dir.path()).unwrap().count() < 3 * AT_ONCE + 1 {
            assert!(began.elapsed().as_secs() < 60, "not all were started");
            thread::yield_now();
        }
        assert!(dir.path().join("second-way").exists(), "the first way that works is taken");
    }
}
