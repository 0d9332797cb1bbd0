//! The agent as root, or as an ordinary user with `sendwarden helper` beside it: one test for both.
use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};

use super::agent::{Agent, dies_by_file};
use super::place::{command, succeed};
use super::{wait_for, wait_until};

/// The agent's user; made by `tests/rig/install`.
pub const USER: &str = "sendwarden";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Root,
    Ordinary,
}

impl Role {
    /// Adds to a configuration, whose directory is root's, what an agent of this role needs; the log is for group adm.
    pub fn prepare(self, config: &Path, log: &Path) {
        if self == Role::Root {
            return;
        }
        let text = fs::read_to_string(config).unwrap();
        fs::write(config, format!("{text}helper:\n  socket: {}\n", socket(config).display())).unwrap();
        let state = config.with_file_name("state");
        fs::create_dir_all(&state).unwrap();
        chown(&state, Some(id("-u", USER)), Some(id("-g", USER))).unwrap();
        wait_until("the log", || log.exists());
        chown(log, None, Some(group("adm"))).unwrap();
        fs::set_permissions(log, fs::Permissions::from_mode(0o640)).unwrap();
    }

    /// The directory of Exim's flags, which an agent that is not root cannot make: its own, of the group of Exim's queue.
    pub fn prepare_flags(self, flags: &Path, spool: &Path) {
        if self == Role::Ordinary {
            fs::create_dir_all(flags).unwrap();
            chown(flags, Some(id("-u", USER)), Some(fs::metadata(spool).unwrap().gid())).unwrap();
            fs::set_permissions(flags, fs::Permissions::from_mode(0o2750)).unwrap();
        }
    }

    pub fn helper(self, config: &Path) -> Option<Helper> {
        (self == Role::Ordinary).then(|| Helper::start(config))
    }

    /// The agent; that it can do nothing more than others is shown.
    pub fn agent(self, config: &Path, address: &str) -> Agent {
        match self {
            Role::Root => Agent::start(config, address),
            Role::Ordinary => {
                let agent = Agent::start_as(&["--groups", "adm"], config, address);
                println!("the agent: {}", powers(agent.pid()).join(", "));
                assert_eq!(
                    powers(agent.pid()),
                    [format!("Uid {}", id("-u", USER)), "CapEff 0000000000000000".to_owned()]
                );
                agent
            }
        }
    }
}

/// The uid and the effective capabilities of a process.
fn powers(pid: u32) -> Vec<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let value = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(":\t"));
        format!("{key} {}", line.unwrap().split('\t').next().unwrap())
    };
    vec![value("Uid"), value("CapEff")]
}

fn id(what: &str, user: &str) -> u32 {
    succeed(command("id").args([what, user]), None).trim().parse().expect("a number")
}

pub fn group(name: &str) -> u32 {
    let line = succeed(command("getent").args(["group", name]), None);
    line.split(':').nth(2).expect("a line of group(5)").parse().expect("a number")
}

pub fn socket(config: &Path) -> PathBuf {
    config.with_file_name("helper.sock")
}

/// `sendwarden helper` of a configuration, as a child that can be killed.
pub struct Helper {
    child: Child,
    log: PathBuf,
}

impl Helper {
    pub fn start(config: &Path) -> Helper {
        let log = config.with_file_name("helper.log");
        let out = File::options().create(true).append(true).open(&log).expect("the helper's log can be written");
        let before = printed(&log).matches("answers root and uid").count();
        let mut binary = command("setpriv");
        dies_by_file(&mut binary, config);
        let child = binary
            .args(["--no-new-privs", "--inh-caps=-all", "--bounding-set", &unit_capabilities()])
            .arg(super::agent::binary(config))
            .args(["helper", "--user", USER, "--config"])
            .arg(config)
            .stdin(Stdio::null())
            .stdout(out.try_clone().expect("the log can be shared"))
            .stderr(out)
            .spawn()
            .expect("the built binary starts");
        let mut helper = Helper { child, log };
        wait_until("the helper to listen", || {
            if let Some(status) = helper.child.try_wait().expect("the helper is our child") {
                panic!("the helper ended with {status}:\n{}", helper.printed());
            }
            helper.printed().matches("answers root and uid").count() > before
        });
        helper
    }

    pub fn printed(&self) -> String {
        printed(&self.log)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// It has ended by itself, and is reaped.
    pub fn ended(mut self, why: &str) -> ExitStatus {
        wait_for(why, || self.child.try_wait().expect("the helper is our child"))
    }

    /// SIGKILL, and reaped.
    pub fn kill(mut self) {
        self.child.kill().expect("the helper can be killed");
        self.child.wait().expect("the helper is our child");
    }
}

/// What the shipped unit leaves of root's powers, as setpriv(1) takes it.
fn unit_capabilities() -> String {
    let unit = include_str!("../../packaging/sendwarden-helper.service");
    let list = unit.lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet=")).expect("the unit bounds them");
    let names = list.split(' ').map(|name| format!(",+{}", name.trim_start_matches("CAP_").to_lowercase()));
    format!("-all{}", names.collect::<String>())
}

fn printed(log: &Path) -> String {
    fs::read_to_string(log).unwrap_or_default()
}

impl Drop for Helper {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the helper printed:\n{}", self.printed());
        }
        // Already ended is as good as killed.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
