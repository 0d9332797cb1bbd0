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
    static QUEUE: OnceLock<Sender<Vec<String>>> = OnceLock::new();
    if QUEUE.get_or_init(open).send(argv).is_err() {
        tracing::error!("there is no thread to start a program");
    }
}

fn open() -> Sender<Vec<String>> {
    let (queue, turns) = channel();
    let turns = std::sync::Arc::new(Mutex::new(turns));
    for n in 0..AT_ONCE {
        let turns = turns.clone();
        let started = thread::Builder::new().name(format!("started-{n}")).spawn(move || {
            while let Some(argv) = next(&turns) {
                run(&argv);
            }
        });
        if let Err(why) = started {
            tracing::error!("cannot start a thread for programs: {why}");
        }
    }
    queue
}

/// One thread waits in the queue, the others for their turn to.
fn next(turns: &Mutex<Receiver<Vec<String>>>) -> Option<Vec<String>> {
    turns.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
}

#[allow(clippy::disallowed_methods, reason = "the room that starts processes")]
fn run(argv: &[String]) {
    let Some((program, arguments)) = argv.split_first() else { return };
    let [input, output, errors] = [Stdio::null(), Stdio::null(), Stdio::null()];
    let mut command = Command::new(program);
    let ended = command.args(arguments).stdin(input).stdout(output).stderr(errors).process_group(0).status();
    if let Err(why) = ended {
        tracing::error!("cannot start {program}: {why}");
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
        let began = crate::host::clock::monotonic();
        while std::fs::read_dir(dir.path()).unwrap().count() < 3 * AT_ONCE {
            assert!(began.elapsed().as_secs() < 60, "not all were started");
            thread::yield_now();
        }
    }
}
