//! A child that runs on and whose output is taken as it comes. It ends with this process at the latest.
//!
//! Its standard output goes through a bounded channel: a child that writes faster than its output is taken waits at
//! its pipe. When the agent is killed the pipe breaks, and whoever writes to it, or watches it, ends.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};

use super::ExecError;

/// Bytes per chunk, and chunks that may wait.
const CHUNK: usize = 64 * 1024;
const WAITING: usize = 16;
/// Bytes kept of what it says on standard error.
const MAX_SAID: usize = 4 * 1024;

const LAST_WORDS: Duration = Duration::from_secs(2);

/// A running child.
#[derive(Debug)]
pub struct Running {
    child: Child,
    output: Receiver<Vec<u8>>,
    said: Arc<Mutex<Vec<u8>>>,
    /// Rings when it has closed its standard error.
    silent: Receiver<()>,
}

/// What there is of the output.
#[derive(Debug, PartialEq, Eq)]
pub enum Taken {
    Bytes(Vec<u8>),
    /// Nothing at the moment.
    Nothing,
    /// It has closed its output, and all of that was taken.
    End,
}

impl Running {
    /// Starts `argv` without input; `ring` is called, from another thread, whenever there is something to take.
    ///
    /// # Errors
    /// When it cannot be started.
    #[allow(clippy::disallowed_methods, reason = "the one place that starts processes")]
    pub fn start(argv: &[String], ring: impl Fn() + Send + 'static) -> Result<Running, ExecError> {
        let (program, args) = argv.split_first().ok_or(ExecError::Empty)?;
        let mut child = Command::new(program)
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(|why| ExecError::Start { program: program.clone(), why })?;
        let (give, output) = sync_channel(WAITING);
        if let Some(mut pipe) = child.stdout.take() {
            thread::spawn(move || {
                loop {
                    let mut chunk = vec![0; CHUNK];
                    match pipe.read(&mut chunk) {
                        Err(why) if why.kind() == std::io::ErrorKind::Interrupted => {}
                        Ok(0) | Err(_) => break,
                        Ok(n) => {
                            chunk.truncate(n);
                            if give.send(chunk).is_err() {
                                return;
                            }
                            ring();
                        }
                    }
                }
                drop(give);
                ring();
            });
        }
        let said = Arc::new(Mutex::new(Vec::new()));
        let (quiet, silent) = sync_channel(1);
        if let Some(mut pipe) = child.stderr.take() {
            let said = said.clone();
            thread::spawn(move || {
                let mut chunk = [0; 1024];
                while let Ok(n @ 1..) = pipe.read(&mut chunk) {
                    let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
                    let room = MAX_SAID.saturating_sub(said.len());
                    said.extend(chunk.iter().take(n.min(room)));
                }
                let _ = quiet.send(());
            });
        }
        Ok(Running { child, output, said, silent })
    }

    pub fn take(&self) -> Taken {
        match self.output.try_recv() {
            Ok(bytes) => Taken::Bytes(bytes),
            Err(TryRecvError::Empty) => Taken::Nothing,
            Err(TryRecvError::Disconnected) => Taken::End,
        }
    }

    /// The beginning of what it has said on standard error.
    pub fn said(&self) -> String {
        String::from_utf8_lossy(&self.said.lock().unwrap_or_else(PoisonError::into_inner)).trim().to_owned()
    }

    /// Ends it, if it has not ended, and says how it ended.
    pub fn end(mut self) -> String {
        self.kill();
        self.child.wait().map_or_else(|why| why.to_string(), |status| status.to_string())
    }

    /// Waits for its end, once its output is taken, and a moment for its last words.
    ///
    /// # Errors
    /// Those of waiting.
    pub fn ended(&mut self) -> std::io::Result<std::process::ExitStatus> {
        let ended = self.child.wait();
        // A child of its own may hold the pipe open.
        let _ = self.silent.recv_timeout(LAST_WORDS);
        ended
    }

    fn kill(&mut self) {
        // Not reaped yet, its number is still its own.
        if let Ok(None) = self.child.try_wait()
            && let Some(group) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw)
        {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::clock;
    use std::sync::mpsc::channel;
    use std::time::Duration;

    fn start(script: &str) -> (Running, Receiver<()>) {
        let (tx, rung) = channel();
        let argv = ["sh", "-c", script].map(str::to_owned);
        let ring = move || {
            // Whoever listened may have gone.
            let _ = tx.send(());
        };
        (Running::start(&argv, ring).unwrap(), rung)
    }

    fn all(running: &Running, rung: &Receiver<()>) -> usize {
        let mut bytes = 0;
        loop {
            match running.take() {
                Taken::Bytes(chunk) => bytes += chunk.len(),
                Taken::Nothing => rung.recv_timeout(Duration::from_secs(120)).unwrap(),
                Taken::End => return bytes,
            }
        }
    }

    #[test]
    fn output_is_taken_to_its_end_however_much_it_is() {
        let (running, rung) = start("head -c 5000000 /dev/zero; echo trouble >&2; exit 3");
        assert_eq!(all(&running, &rung), 5_000_000);
        let start = clock::monotonic();
        while running.said() != "trouble" {
            assert!(start.elapsed() < Duration::from_secs(120));
            thread::yield_now();
        }
        assert!(!running.end().is_empty());
    }

    #[test]
    fn a_child_that_runs_on_is_ended_with_its_children() {
        let (running, rung) = start("sleep 600 & echo here; wait");
        assert!(rung.recv_timeout(Duration::from_secs(120)).is_ok());
        assert_eq!(running.take(), Taken::Bytes(b"here\n".to_vec()));
        assert!(running.end().contains("signal: 9"));
        // The pipe was held open by the grandchild too: it breaks when both are gone.
        assert!(rung.recv_timeout(Duration::from_secs(120)).is_ok());
    }

    #[test]
    fn what_cannot_be_started_is_named() {
        let missing = Running::start(&["/nonexistent/x".to_owned()], || {}).unwrap_err();
        assert!(missing.to_string().contains("/nonexistent/x"));
    }
}
