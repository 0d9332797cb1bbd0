//! The README keeps its word: its commands are cut out of it and run as they stand, in a copy of the tree, with an empty
//! home, as root and as an ordinary user.
//!
//! The copy and its release build live in a directory that is used again by the next run; the first takes minutes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, in its helpers too"
)]
#![allow(clippy::disallowed_methods, reason = "tests start processes and poll the real clock")]

mod support;

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use support::{http, wait_until};

const README: &str = include_str!("../README.md");
/// Where an ordinary user can go, whatever the way to this tree is.
const BASE: &str = "/var/tmp/sendwarden-readme";
const ADDRESS: &str = "127.0.0.1:10925";
/// A release build on a slow machine.
const BUILD: Duration = Duration::from_secs(20 * 60);

/// The one command of the block of code after `<!-- mark -->`.
fn command(mark: &str) -> &'static str {
    let block = README.split_once(&format!("<!-- {mark} -->\n```sh\n")).expect("the README has the mark").1;
    let command = block.split_once("\n```").expect("a block ends").0;
    assert_eq!(command.lines().count(), 1, "one command: {command}");
    command
}

fn tree() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Runs a command to its end and gives what it printed.
fn done(command: &mut Command) -> String {
    let out = command.output().expect("it starts");
    assert!(out.status.success(), "{command:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).expect("UTF-8")
}

#[test]
fn the_test_command_is_the_one_that_guards_changes() {
    let gate = std::fs::read_to_string(tree().join(".ci/run")).unwrap();
    assert!(gate.lines().any(|line| line == format!("exec bash {} \"$@\"", command("test"))), "{gate}");
    assert!(tree().join(command("test")).is_file());
}

#[test]
fn every_file_it_points_to_is_there() {
    let links: Vec<&str> = README.split("](").skip(1).filter_map(|rest| rest.split(')').next()).collect();
    assert!(links.len() >= 5, "{links:?}");
    for link in links.iter().filter(|link| !link.starts_with("http") && !link.starts_with('#')) {
        assert!(tree().join(link).is_file(), "{link}");
    }
    for named in ["packaging/sendwarden.service", "packaging/sendwarden-helper.service", "config.example.yaml"] {
        assert!(README.contains(named) && tree().join(named).is_file(), "{named}");
    }
}

/// The accounts file in the README is one.
#[test]
fn its_accounts_file_is_read() {
    let block = README.split_once("```yaml\naccounts:").expect("the README shows one").1;
    let text = format!("accounts:{}", block.split_once("```").unwrap().0);
    let accounts = sendwarden::config::parse_accounts_yaml("README.md", text.as_bytes()).unwrap();
    let one = accounts.first().unwrap();
    assert_eq!((one.id.as_str(), one.uids.as_slice(), one.domains.len()), ("web17", &[20017][..], 1));
}

/// Hard links where that works, a copy elsewhere: what is shared is read only.
fn share(from: &Path, to: &Path) {
    if to.exists() {
        std::fs::remove_dir_all(to).unwrap();
    }
    let copy = |how: &str| Command::new("cp").arg(how).arg(from).arg(to).stderr(Stdio::null()).status().expect("cp");
    if !copy("-al").success() {
        done(Command::new("rm").arg("-rf").arg(to));
        assert!(copy("-a").success(), "cannot copy {}", from.display());
    }
}

/// A copy of the tree, of the toolchain and of the sources of the dependencies that everybody may read.
fn fresh_copy() -> PathBuf {
    let base = PathBuf::from(BASE);
    std::fs::create_dir_all(&base).unwrap();
    assert_eq!(std::fs::metadata(&base).unwrap().uid(), 0, "{BASE} is not root's: remove it");
    std::fs::set_permissions(&base, std::fs::Permissions::from_mode(0o755)).unwrap();
    let clone = base.join("clone");
    let listed = done(Command::new("git").args(["ls-files", "-z"]).current_dir(tree()));
    let listed: BTreeSet<&str> = listed.split('\0').filter(|name| tree().join(name).is_file()).collect();
    assert!(listed.contains("Cargo.toml"), "the tree is not a clone");
    // Only what differs is written, so that a tree that has not changed is not built again, and a changed one is.
    for name in &listed {
        let (from, to) = (tree().join(name), clone.join(name));
        let content = std::fs::read(&from).unwrap();
        if std::fs::read(&to).ok().as_ref() != Some(&content) {
            std::fs::create_dir_all(to.parent().unwrap()).unwrap();
            std::fs::write(&to, content).unwrap();
        }
        std::fs::set_permissions(&to, std::fs::metadata(&from).unwrap().permissions()).unwrap();
    }
    for old in done(Command::new("find").args([".", "-type", "f", "-printf", "%P\\n"]).current_dir(&clone)).lines() {
        if !listed.contains(old) {
            std::fs::remove_file(clone.join(old)).unwrap();
        }
    }

    let version = |rustc: &Path| Command::new(rustc).arg("-vV").output().map(|out| out.stdout).unwrap_or_default();
    let toolchain = base.join("toolchain");
    if version(&toolchain.join("bin/rustc")) != version(Path::new("rustc")) {
        let sysroot = done(Command::new("rustc").args(["--print", "sysroot"]));
        share(Path::new(sysroot.trim()), &toolchain);
    }
    let cargo = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let cargo = cargo.unwrap_or_else(|| PathBuf::from(std::env::var_os("HOME").expect("a home")).join(".cargo"));
    std::fs::create_dir_all(base.join("cargo")).unwrap();
    share(&cargo.join("registry"), &base.join("cargo/registry"));
    clone
}

struct Started {
    child: Child,
    log: PathBuf,
}

impl Started {
    fn new(clone: &Path, home: &Path, user: Option<&str>) -> Started {
        let log = home.with_extension("printed");
        let out = File::create(&log).unwrap();
        let mut start = match user {
            None => Command::new("sh"),
            Some(user) => {
                let mut start = Command::new("setpriv");
                start.args([&format!("--reuid={user}"), &format!("--regid={user}"), "--clear-groups", "sh"]);
                start
            }
        };
        start.args(["-c", command("run")]).current_dir(clone).env_clear();
        start.env("PATH", format!("{BASE}/toolchain/bin:/usr/bin:/bin")).env("HOME", home);
        start.env("CARGO_HOME", format!("{BASE}/cargo")).env("CARGO_TARGET_DIR", format!("{BASE}/target"));
        // The suites before this one have fetched everything.
        start.env("CARGO_NET_OFFLINE", "true").env("CARGO_TERM_COLOR", "never");
        // What the command does is tested here, not how fast the binary is: optimising it would take minutes of the gate.
        for (key, value) in [("LTO", "off"), ("OPT_LEVEL", "0"), ("CODEGEN_UNITS", "16"), ("DEBUG", "none")] {
            start.env(format!("CARGO_PROFILE_RELEASE_{key}"), value);
        }
        start.stdin(Stdio::null()).stdout(out.try_clone().unwrap()).stderr(out).process_group(0);
        Started { child: start.spawn().expect("it starts"), log }
    }

    fn printed(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn wait_for_figures(&mut self) -> String {
        let end = Instant::now() + BUILD;
        loop {
            if let Ok((200, page)) = http::get(ADDRESS, "/metrics") {
                return page;
            }
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none() && Instant::now() < end, "{ended:?}: {}", self.printed());
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    fn stop(&mut self) {
        let group = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process_group(group, rustix::process::Signal::TERM).unwrap();
        // The shell is gone at once; the agent commits first.
        wait_until("it to stop", || self.child.try_wait().unwrap().is_some());
        wait_until("its last words", || self.printed().contains("everything that was read is in the store"));
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let group = rustix::process::Pid::from_child(&self.child);
        // Ended already, when all went well.
        let _gone = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        drop(self.child.wait());
    }
}

/// Removes what was not there before.
struct RootState(bool);

const ROOT_STATE: &str = "/var/lib/sendwarden";

impl Drop for RootState {
    fn drop(&mut self) {
        if !self.0 && Path::new(ROOT_STATE).exists() {
            drop(std::fs::remove_dir_all(ROOT_STATE));
        }
    }
}

fn port_is_free() -> bool {
    std::net::TcpListener::bind(ADDRESS).is_ok()
}

#[test]
fn the_run_command_serves_figures_with_no_configuration_at_all() {
    assert!(port_is_free(), "{ADDRESS} is in use: stop what listens there, then run this again");
    assert!(!Path::new("/etc/sendwarden/config.yaml").exists(), "this machine has a configuration: remove it first");
    let clone = fresh_copy();
    let before = RootState(Path::new(ROOT_STATE).exists());
    for user in [None, Some("web1")] {
        let homes = tempfile::Builder::new().prefix("readme").tempdir_in("/var/tmp").unwrap();
        std::fs::set_permissions(homes.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let home = homes.path().join("home");
        std::fs::create_dir(&home).unwrap();
        if let Some(user) = user {
            // Built a moment ago by root; an ordinary user has built it as that user.
            done(Command::new("chown").arg("-R").arg(format!("{user}:")).arg(format!("{BASE}/target")).arg(&home));
        }
        let mut started = Started::new(&clone, &home, user);
        let page = started.wait_for_figures();
        assert!(page.contains("sendwarden_build_info{"), "{page}");
        assert!(page.contains("sendwarden_store_up 1"), "{page}");
        let printed = started.printed();
        assert!(printed.contains(&format!("figures: http://{ADDRESS}/metrics")), "{printed}");
        if sendwarden::host::files::existing_logs().is_empty() {
            let (status, why) = http::get(ADDRESS, "/-/ready").unwrap();
            assert_eq!(status, 503);
            for text in [&why, &printed] {
                assert!(text.contains("no mail log was found") && text.contains("sendwarden demo"), "{text}");
            }
        }
        let state = if user.is_none() { PathBuf::from(ROOT_STATE) } else { home.join(".local/state/sendwarden") };
        assert!(state.join("sendwarden.db").is_file(), "the state is not in {}", state.display());
        started.stop();
        wait_until("the port to be free again", port_is_free);
    }
    drop(before);
}
