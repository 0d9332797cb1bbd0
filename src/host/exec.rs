//! The one place that starts processes: an argv, a stdin, a time limit. Never a shell.
//!
//! Output beyond [`MAX_OUTPUT`] is read and dropped, so that a chatty child neither blocks nor fills memory.

use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

mod running;
mod started;

use super::clock;
pub use running::{Running, Taken};
pub use started::{start, start_first};

/// Bytes kept of each of stdout and stderr.
pub const MAX_OUTPUT: usize = 4 * 1024 * 1024;

#[derive(Debug)]
pub struct Output {
    pub status: ExitStatus,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    /// More was written than was kept.
    pub cut: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    #[error("no command was given")]
    Empty,
    #[error("starting {program}: {why}; is it installed and executable?")]
    Start { program: String, why: std::io::Error },
    #[error("{program} did not end within {limit:?} and was killed")]
    Limit { program: String, limit: Duration },
    #[error("{program} ended with {status}: {said}")]
    Failed { program: String, status: ExitStatus, said: String },
    #[error("waiting for {program}: {why}")]
    Wait { program: String, why: std::io::Error },
}

/// Runs `argv` to its end. At the limit the child's whole process group is killed.
///
/// # Errors
/// See [`ExecError`]; a non-zero exit is not an error here.
pub fn run(argv: &[String], stdin: &[u8], limit: Duration) -> Result<Output, ExecError> {
    run_by(argv, stdin, limit, None)
}

/// The same as another user and its group, without other groups: only root can.
///
/// # Errors
/// See [`run`].
pub fn run_as(argv: &[String], stdin: &[u8], limit: Duration, user: (u32, u32)) -> Result<Output, ExecError> {
    run_by(argv, stdin, limit, Some(user))
}

#[allow(clippy::disallowed_methods, reason = "the one place that starts processes")]
fn run_by(argv: &[String], stdin: &[u8], limit: Duration, user: Option<(u32, u32)>) -> Result<Output, ExecError> {
    let (program, args) = argv.split_first().ok_or(ExecError::Empty)?;
    let name = || program.clone();
    let start = clock::monotonic();
    let mut command = Command::new(program);
    if let Some((uid, gid)) = user {
        // Whoever it is may not be let into our directory. Root's own groups are dropped with this.
        command.uid(uid).gid(gid).current_dir("/");
    }
    let mut child = command
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(|why| ExecError::Start { program: name(), why })?;
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    if let Some(mut pipe) = child.stdin.take() {
        let bytes = stdin.to_vec();
        // A child that does not read its stdin must not block us; the write ends when the child does.
        thread::spawn(move || pipe.write_all(&bytes));
    }
    let out = child.stdout.take().map(drain);
    let err = child.stderr.take().map(drain);
    let (mut stdout, mut stderr) = (None, None);
    // A child's child may hold the pipes open: both ends, pipes and exit, fall under the limit.
    for (pipe, slot) in [(&out, &mut stdout), (&err, &mut stderr)] {
        *slot = pipe.as_ref().and_then(|rx| rx.recv_timeout(clock::left(start, limit)).ok());
    }
    let status = group.map(ended).and_then(|rx| rx.recv_timeout(clock::left(start, limit)).ok());
    let status = match status {
        Some(()) => Some(child.wait().map_err(|why| ExecError::Wait { program: name(), why })?),
        None => None,
    };
    match (status, stdout, stderr) {
        (Some(status), Some((stdout, a)), Some((stderr, b))) => Ok(Output { status, stdout, stderr, cut: a || b }),
        _ => {
            if let Some(group) = group {
                let _ = kill_process_group(group, Signal::KILL);
            }
            let _ = child.wait();
            Err(ExecError::Limit { program: name(), limit })
        }
    }
}

/// Longest line that is handed on whole.
const MAX_LINE: usize = 1024 * 1024;

/// Runs `argv` to its end and hands on each line of its output as it comes; longer ones than a mebibyte are left out.
///
/// # Errors
/// See [`ExecError`]; an exit status that is not zero is one here: then lines may be missing.
pub fn each_line(argv: &[String], limit: Duration, take: &mut dyn FnMut(&[u8])) -> Result<(), ExecError> {
    let program = || argv.first().cloned().unwrap_or_default();
    let start = clock::monotonic();
    let (ring, rung) = std::sync::mpsc::sync_channel(1);
    // Full: it will be looked at anyhow.
    let mut running = Running::start(argv, move || {
        let _ = ring.try_send(());
    })?;
    let mut line = Vec::new();
    loop {
        match running.take() {
            Taken::Bytes(bytes) => {
                for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
                    if line.len() <= MAX_LINE {
                        line.extend_from_slice(piece);
                    }
                    if piece.ends_with(b"\n") {
                        if line.len() <= MAX_LINE {
                            take(line.strip_suffix(b"\n").unwrap_or(&line));
                        }
                        line.clear();
                    }
                }
            }
            Taken::End => break,
            Taken::Nothing if start.elapsed() >= limit => return Err(ExecError::Limit { program: program(), limit }),
            Taken::Nothing => drop(rung.recv_timeout(clock::left(start, limit).min(Duration::from_secs(1)))),
        }
    }
    let ended = running.ended();
    let said = running.said();
    match ended {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(ExecError::Failed { program: program(), status, said }),
        Err(why) => Err(ExecError::Wait { program: program(), why }),
    }
}

/// Rings when the process has ended. It is not reaped there, so that its number stays its own until we let go of it.
fn ended(pid: Pid) -> Receiver<()> {
    let (tx, rx) = channel();
    thread::spawn(move || {
        while let Err(Errno::INTR) = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT) {}
        let _ = tx.send(());
    });
    rx
}

fn drain(mut pipe: impl Read + Send + 'static) -> Receiver<(Vec<u8>, bool)> {
    let (tx, rx) = channel();
    thread::spawn(move || {
        let mut kept = Vec::new();
        let _ = pipe.by_ref().take(MAX_OUTPUT as u64).read_to_end(&mut kept);
        let dropped = std::io::copy(&mut pipe, &mut std::io::sink()).unwrap_or(0);
        let _ = tx.send((kept, dropped > 0));
    });
    rx
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    fn argv(words: &[&str]) -> Vec<String> {
        words.iter().map(|w| (*w).to_owned()).collect()
    }

    #[test]
    fn passes_stdin_and_output() {
        let out = run(&argv(&["cat"]), b"a\0b", Duration::from_secs(10)).unwrap();
        assert!(out.status.success() && out.stdout == b"a\0b" && !out.cut);
    }

    #[test]
    fn hands_on_each_line_and_says_when_some_may_be_missing() {
        let mut lines = Vec::new();
        let mut take = |line: &[u8]| lines.push(String::from_utf8_lossy(line).into_owned());
        let long = "head -c 1100000 /dev/zero | tr '\\0' x; echo; echo end";
        let argv = |script: &str| argv(&["sh", "-c", script]);
        each_line(&argv(&format!("printf 'a\\n\\nb\\n'; {long}; printf half")), LIMIT, &mut take).unwrap();
        assert_eq!(lines, ["a", "", "b", "end"]);
        let failed = each_line(&argv("echo no >&2; exit 3"), LIMIT, &mut |_| ());
        assert!(matches!(&failed, Err(ExecError::Failed { said, .. }) if said == "no"), "{failed:?}");
        let hung = each_line(&argv("sleep 60"), Duration::from_millis(30), &mut |_| ());
        assert!(matches!(hung, Err(ExecError::Limit { .. })), "{hung:?}");
    }

    #[test]
    fn kills_at_the_limit_and_names_what_is_missing() {
        let err = run(&argv(&["sleep", "60"]), b"", Duration::from_millis(30));
        assert!(matches!(err, Err(ExecError::Limit { .. })));
        // Closed pipes are no end, and an end is none while a child's child holds the pipes.
        for script in ["exec >&- 2>&-; sleep 60", "sleep 60 &"] {
            let err = run(&argv(&["sh", "-c", script]), b"", Duration::from_millis(30));
            assert!(matches!(err, Err(ExecError::Limit { .. })), "{script}");
        }
        assert!(matches!(run(&argv(&["/nonexistent/x"]), b"", Duration::ZERO), Err(ExecError::Start { .. })));
    }
}
