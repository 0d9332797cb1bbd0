//! Where a server of a test lives: a directory and ports that no other test has, and the commands run there.
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Made by `tests/rig/install`.
pub const BASE: &str = "/var/tmp/sendwarden-rig";
const SLOTS: u16 = 64;

/// A kind of server: its directories are `BASE/{prefix}{number}`, its ports start at `ports + 8 * number`.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    pub prefix: &'static str,
    pub ports: u16,
}

/// A directory and eight ports nobody else uses, as long as the value lives, whichever process asks.
#[derive(Debug)]
pub struct Place {
    pub number: u16,
    pub dir: PathBuf,
    pub port: u16,
    _lock: File,
}

impl Place {
    pub fn take(kind: Kind) -> Self {
        super::wait_for("a free place for a mail server", || {
            (1..=SLOTS).find_map(|number| {
                let dir = format!("{BASE}/{}{number}", kind.prefix);
                let path = format!("{dir}.lock");
                let file = File::options().create(true).append(true).open(&path);
                let lock =
                    file.unwrap_or_else(|e| panic!("cannot open {path}: {e}. Run tests/rig/install as root first"));
                let free = |port| std::net::TcpListener::bind(("127.0.0.1", port)).is_ok();
                let port = kind.ports + 8 * number;
                let mine = lock.try_lock().is_ok() && (port..port + 3).all(free);
                mine.then(|| Place { number, dir: PathBuf::from(dir), port, _lock: lock })
            })
        })
    }

    /// An address nobody else uses, for the agent or a server of the test's: `number` is 0 to 3.
    pub fn address(&self, number: u16) -> String {
        format!("127.0.0.1:{}", self.port + 4 + number)
    }
}

/// A command that finds the programs of administrators.
pub fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{path}:/usr/sbin:/sbin:/usr/bin:/bin"));
    command
}

/// Runs a command with this standard input; its output, or a failed test that shows what it printed.
pub fn succeed(command: &mut Command, input: Option<&str>) -> String {
    let piped = if input.is_some() { Stdio::piped() } else { Stdio::null() };
    let child = command.stdin(piped).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.unwrap_or_else(|e| panic!("cannot start {command:?}: {e}"));
    if let (Some(input), Some(mut pipe)) = (input, child.stdin.take()) {
        pipe.write_all(input.as_bytes()).unwrap_or_else(|e| panic!("{command:?} does not read: {e}"));
    }
    let output = child.wait_with_output().expect("a child of ours");
    let both = [output.stdout.as_slice(), output.stderr.as_slice()].map(String::from_utf8_lossy);
    assert!(output.status.success(), "{command:?} ended with {}: {}{}", output.status, both[0], both[1]);
    both[0].clone().into_owned()
}
