//! The agent under test: the built binary with a configuration of the test's, as a child that can be killed.
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use super::{http, wait_for, wait_until};

pub struct Agent {
    child: Child,
    address: String,
    log: PathBuf,
}

impl Agent {
    /// Starts `run --config config` and waits until `/-/ready` answers 200 on `address`.
    /// What the agent prints is appended to `agent.log` beside the configuration.
    pub fn start(config: &Path, address: &str) -> Self {
        Self::start_by(Command::new(binary(config)), config, address, true)
    }

    /// The same as the user `sendwarden`, with these groups (`--groups adm`, as setpriv(1) takes them).
    pub fn start_as(groups: &[&str], config: &Path, address: &str) -> Self {
        Self::start_by(as_user(groups, config), config, address, true)
    }

    /// The same, and it need not get ready.
    pub fn start_unready(groups: &[&str], config: &Path, address: &str) -> Self {
        Self::start_by(as_user(groups, config), config, address, false)
    }

    fn start_by(mut binary: Command, config: &Path, address: &str, ready: bool) -> Self {
        let log = config.with_file_name("agent.log");
        let out = File::options().create(true).append(true).open(&log).expect("the agent's log can be written");
        dies_by_file(&mut binary, config);
        let child = binary
            .args(["run", "--config"])
            .arg(config)
            .stdin(Stdio::null())
            .stdout(out.try_clone().expect("the log can be shared"))
            .stderr(out)
            .spawn()
            .expect("the built binary starts");
        let mut agent = Agent { child, address: address.to_owned(), log };
        wait_until("the agent to be ready", || {
            if let Some(status) = agent.child.try_wait().expect("the agent is our child") {
                panic!("the agent ended with {status} before it was ready:\n{}", agent.printed());
            }
            match http::get(&agent.address, "/-/ready") {
                Ok((status, _)) => status == 200 || !ready,
                Err(_) => false,
            }
        });
        agent
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything the agent has printed.
    pub fn printed(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub fn get(&self, path: &str) -> (u16, String) {
        http::get(&self.address, path).unwrap_or_else(|e| panic!("GET {path}: {e}\n{}", self.printed()))
    }

    /// The page of `/metrics`.
    pub fn metrics(&self) -> String {
        let (status, body) = self.get("/metrics");
        assert_eq!(status, 200, "{body}");
        body
    }

    /// The sum of all series of `name` whose labels contain every one of `labels` (`account="web1"`).
    pub fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        let page = self.metrics();
        let series = page.lines().filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            let (own, value) = rest.rsplit_once(' ')?;
            let whole = own.is_empty() || own.starts_with('{');
            (whole && labels.iter().all(|l| own.contains(l))).then(|| value.parse::<f64>().ok())?
        });
        series.sum()
    }

    /// Waits until `sum` is `value`; shows the page when it never is.
    pub fn wait_sum(&self, name: &str, labels: &[&str], value: f64) {
        wait_for(&format!("{name} {labels:?} = {value}"), || (self.sum(name, labels) == value).then_some(()));
    }

    /// SIGKILL, and reaped.
    pub fn kill(mut self) {
        self.child.kill().expect("the agent can be killed");
        self.child.wait().expect("the agent is our child");
    }

    /// It has ended by itself, and is reaped.
    pub fn ended(mut self, why: &str) -> ExitStatus {
        wait_for(why, || self.child.try_wait().expect("the agent is our child"))
    }

    /// SIGTERM; the exit status must be 0.
    pub fn stop(mut self) {
        self.signal(rustix::process::Signal::TERM);
        let status = self.child.wait().expect("the agent is our child");
        assert!(status.success(), "the agent ended with {status}:\n{}", self.printed());
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal).expect("our own child");
    }
}

/// With a file `kill-point` beside its configuration, what is in it says where the process dies (`host/killpoint`).
pub fn dies_by_file(command: &mut Command, config: &Path) {
    let file = config.with_file_name("kill-point");
    if file.exists() {
        command.env(sendwarden::host::killpoint::FILE, file);
    }
}

/// What is called `sendwarden` beside the configuration, where a test has put it there; else the built binary.
pub fn binary(config: &Path) -> PathBuf {
    let own = config.with_file_name("sendwarden");
    if own.exists() { own } else { PathBuf::from(env!("CARGO_BIN_EXE_sendwarden")) }
}

fn as_user(groups: &[&str], config: &Path) -> Command {
    let mut command = super::place::command("setpriv");
    // As under the shipped unit: what is set-uid or set-gid helps it nothing.
    command.args(["--no-new-privs", "--reuid", super::helper::USER, "--regid", super::helper::USER]).args(groups);
    command.arg(binary(config));
    command
}

/// Runs the built binary to its end; its output. Fails the test if it does.
pub fn sendwarden(arguments: &[&str]) -> String {
    let output =
        Command::new(env!("CARGO_BIN_EXE_sendwarden")).args(arguments).output().expect("the built binary starts");
    let [out, err] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    assert!(output.status.success(), "sendwarden {arguments:?} ended with {}:\n{out}{err}", output.status);
    out
}

/// Writes `config.yaml` into `dir`: these logs, an accounts file of this text, state beside it. Gives its path.
pub fn configure(dir: &Path, address: &str, logs: &[PathBuf], accounts: &str) -> PathBuf {
    let logs: String = logs.iter().map(|log| format!("  - path: {}\n", log.display())).collect();
    let here = dir.display();
    let text =
        format!("logs:\n{logs}state_dir: {here}/state\nlisten: {address}\naccounts_file: {here}/accounts.yaml\n");
    std::fs::write(dir.join("accounts.yaml"), accounts).expect("the test's directory can be written");
    let config = dir.join("config.yaml");
    std::fs::write(&config, text).expect("the test's directory can be written");
    config
}

impl Drop for Agent {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the agent printed:\n{}", self.printed());
        }
        // Already ended is as good as killed.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
