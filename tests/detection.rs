//! What is installed is found: real Postfix and real Exim say themselves where they log, and without a configured log
//! both are followed at once. The servers' tools are put where a host has them, in a mount namespace of the test's own.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a test"
)]
#![allow(clippy::disallowed_methods, reason = "a test of real servers waits in real time")]
mod support;

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sendwarden::host::servers::{LogsTo, Tools, installed};
use sendwarden::mail::Server;
use support::exim::{self, Call, Exim, Script, Version, selector};
use support::postfix::{Options, Postfix};
use support::{http, wait_until};

fn exim_program(exim: &Exim) -> String {
    exim.own_dir("log").with_file_name("exim").display().to_string()
}

fn executable(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn real_servers_say_where_they_log() {
    let postfix = Postfix::start(&Options::default());
    let exim = Exim::start(&exim::Options::new(Version::V4_98, selector::CPANEL));
    let tools = Tools {
        postfix: vec![vec!["/usr/sbin/postconf".into(), "-c".into(), postfix.config_dir().display().to_string()]],
        exim: vec![vec![exim_program(&exim)]],
    };
    let found = installed(&tools);
    let [one, other] = &found[..] else { panic!("{found:?}") };
    assert_eq!((one.server, &one.logs), (Server::Postfix, &vec![LogsTo::File(postfix.log_path())]));
    assert_eq!((other.server, &other.logs), (Server::Exim, &vec![LogsTo::File(exim.log_path())]));
    assert!(one.version.starts_with("3.") && other.version.starts_with("4.98"), "{found:?}");
    assert!(other.selector.contains("+received_recipients"), "{}", other.selector);
    assert!(found.iter().all(|one| one.trouble.is_none()), "{found:?}");
}

#[test]
fn both_are_followed_without_a_configured_log_and_check_names_them() {
    let postfix = Postfix::start(&Options::default());
    let exim = Exim::start(&exim::Options::new(Version::V4_96, selector::NONE));
    let dir = postfix.own_dir("found");
    let address = postfix.address(0);
    let here = dir.display();
    let config = dir.join("config.yaml");
    fs::write(&config, format!("state_dir: {here}/state\nlisten: {address}\n")).unwrap();
    fs::copy("/usr/sbin/postconf", dir.join("real-postconf")).unwrap();
    let ask = format!("#!/bin/sh\nexec {here}/real-postconf -c {} \"$@\"\n", postfix.config_dir().display());
    executable(&dir.join("postconf"), &ask);
    fs::create_dir_all(dir.join("sbin")).unwrap();
    executable(&dir.join("sbin/exim"), &format!("#!/bin/sh\nexec {} \"$@\"\n", exim_program(&exim)));
    let mounts = format!(
        "mount --bind {here}/postconf /usr/sbin/postconf && mount --bind {here}/sbin /usr/local/sbin && exec \"$@\""
    );
    let within = |command: &str| {
        let mut within = Command::new("unshare");
        within.args(["-m", "sh", "-c", &mounts, "sh", env!("CARGO_BIN_EXE_sendwarden"), command, "--config"]);
        within.arg(&config).stdin(Stdio::null());
        within
    };

    let printed = fs::File::create(dir.join("agent.log")).unwrap();
    let mut agent = within("run").stdout(printed.try_clone().unwrap()).stderr(printed).spawn().unwrap();
    let message = "From: a@hosting.test\nSubject: x\n\nbody\n";
    postfix.sendmail("web1", "a@hosting.test", &["1@accept.test"], message);
    let cwd = exim.own_dir("home/web2/site");
    let (sender, recipients) = ("a@hosting.test", &["2@accept.test"][..]);
    exim.sendmail(&Script { user: "web2", cwd: &cwd, call: Call::Arguments, sender, recipients, message });
    let sent = |mta: &str| {
        let page = http::get(&address, "/metrics").map(|(_, page)| page).unwrap_or_default();
        page.contains(&format!("sendwarden_recipients_total{{mta=\"{mta}\",outcome=\"sent\"}} 1\n"))
    };
    wait_until("one sent by each server", || sent("postfix") && sent("exim"));

    let output = within("check").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    for words in [
        format!("logs to {}", postfix.log_path().display()),
        format!("logs to {}", exim.log_path().display()),
        "add +received_recipients +arguments +pid to log_selector".to_owned(),
    ] {
        assert!(text.contains(&words), "{words}: {text}");
    }
    rustix::process::kill_process(rustix::process::Pid::from_child(&agent), rustix::process::Signal::TERM).unwrap();
    assert!(agent.wait().unwrap().success(), "{}", fs::read_to_string(dir.join("agent.log")).unwrap());
}

/// A host in a directory: a `/var/log` of its own, seen by what runs in it.
struct Host {
    dir: tempfile::TempDir,
    address: String,
    machine: String,
    base: u64,
}

const DAY: u64 = 86_400;

impl Host {
    fn new(more: &str) -> Host {
        let dir = tempfile::Builder::new().prefix("sw").tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (here, address) = (dir.path().display(), format!("127.0.0.1:{port}"));
        fs::write(dir.path().join("config.yaml"), format!("state_dir: {here}/state\nlisten: {address}\n{more}"))
            .unwrap();
        let machine = fs::read_to_string("/etc/machine-id").unwrap_or_default().trim().to_owned();
        // Directories of other names are not looked into.
        fs::create_dir_all(dir.path().join("log/journal/0123456789abcdef0123456789abcdef")).unwrap();
        let base = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        Host { dir, address, machine, base }
    }

    fn command(&self, command: &str) -> Command {
        let mount = format!("mount --bind {}/log /var/log && exec \"$@\"", self.dir.path().display());
        let mut within = Command::new("unshare");
        within.args(["-m", "sh", "-c", &mount, "sh", env!("CARGO_BIN_EXE_sendwarden"), command, "--config"]);
        within.arg(self.dir.path().join("config.yaml")).stdin(Stdio::null());
        within
    }

    fn start(&self) -> Running {
        let printed = fs::File::options().create(true).append(true).open(self.dir.path().join("printed")).unwrap();
        Running(self.command("run").stdout(printed.try_clone().unwrap()).stderr(printed).spawn().unwrap())
    }

    fn printed(&self) -> String {
        fs::read_to_string(self.dir.path().join("printed")).unwrap_or_default()
    }

    fn check(&self) -> String {
        String::from_utf8(self.command("check").output().unwrap().stdout).unwrap()
    }

    /// Message `n`, so many seconds ago, in the file of the syslog daemon.
    fn write(&self, n: u32, ago: u64) {
        let path = self.dir.path().join("log/mail.log");
        let mut file = fs::File::options().create(true).append(true).open(path).unwrap();
        let at = jiff::Timestamp::from_second((self.base - ago) as i64).unwrap();
        for (daemon, text) in lines(n) {
            writeln!(file, "{at:.6} mx postfix/{daemon}[11]: {text}").unwrap();
        }
    }

    /// As if it had been written last so many seconds ago.
    fn leave(&self, ago: u64) {
        let file = fs::File::options().append(true).open(self.dir.path().join("log/mail.log")).unwrap();
        file.set_modified(UNIX_EPOCH + Duration::from_secs(self.base - ago)).unwrap();
    }

    /// The same in the journal, as entries of a machine.
    fn log(&self, machine: &str, messages: &[(u32, u64)]) {
        let mut export = String::new();
        for (n, ago) in messages {
            for (step, (daemon, text)) in (0..).zip(lines(*n)) {
                let micros = (self.base - ago) * 1_000_000 + step;
                export += &format!(
                    "__REALTIME_TIMESTAMP={micros}\n__MONOTONIC_TIMESTAMP={micros}\n_BOOT_ID={:032x}\n_MACHINE_ID={machine}\n\
                     _HOSTNAME=mx\n_TRANSPORT=syslog\nPRIORITY=6\nSYSLOG_FACILITY=2\nSYSLOG_IDENTIFIER=postfix/{daemon}\n\
                     _SYSTEMD_UNIT=postfix@-.service\nSYSLOG_PID=11\n_PID=11\nMESSAGE={text}\n\n",
                    1
                );
            }
        }
        let mut remote = Command::new("/usr/lib/systemd/systemd-journal-remote")
            .arg("-o")
            .arg(self.dir.path().join("log/journal/0123456789abcdef0123456789abcdef/system.journal"))
            .arg("-")
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("systemd-journal-remote is there: tests/rig/install");
        remote.stdin.take().unwrap().write_all(export.as_bytes()).unwrap();
        assert!(remote.wait().unwrap().success());
    }

    fn has(&self, figure: &str) -> bool {
        http::get(&self.address, "/metrics").is_ok_and(|(_, page)| page.lines().any(|line| line == figure))
    }

    fn wait_for(&self, figure: &str) {
        wait_until(&format!("{figure}; the agent printed: {}", self.printed()), || self.has(figure));
    }
}

fn lines(n: u32) -> [(&'static str, String); 4] {
    let id = format!("{:010X}", 0xA0_0000_0000_u64 + u64::from(n) * 16);
    let to = "relay=mx.example.test[192.0.2.1]:25, delay=1, delays=0/0/0.5/0.5, dsn=2.0.0, status=sent (250 2.0.0 Ok)";
    [
        ("pickup", format!("{id}: uid=54001 from=<x>")),
        ("qmgr", format!("{id}: from=<x@mx.test>, size=400, nrcpt=1 (queue active)")),
        ("smtp", format!("{id}: to=<a{n}@example.test>, {to}")),
        ("qmgr", format!("{id}: removed")),
    ]
}

/// An agent that ends with its test, however that ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn stop(mut agent: Running, host: &Host) {
    rustix::process::kill_process(rustix::process::Pid::from_child(&agent.0), rustix::process::Signal::TERM).unwrap();
    assert!(agent.0.wait().unwrap().success(), "{}", host.printed());
}

const SENT: &str = "sendwarden_recipients_total{mta=\"postfix\",outcome=\"sent\"}";

/// rsyslog is gone and its file is still there: the journal has what came since, and before it too.
#[test]
fn a_stale_file_does_not_hide_the_journal_and_nothing_counts_twice() {
    let host = Host::new("");
    let own = &host.machine;
    host.write(1, 5 * DAY);
    host.write(2, 5 * DAY - 60);
    host.leave(5 * DAY - 3_600);
    host.log(own, &[(1, 5 * DAY), (2, 5 * DAY - 60), (3, 4 * DAY), (4, 60)]);
    let agent = host.start();
    host.wait_for(&format!("{SENT} 4"));
    for words in ["the journal is followed, and /var/log/mail.log only as far as it goes", "last written 4 days ago"] {
        assert!(host.printed().contains(words) && host.check().contains(words), "{words}: {}", host.check());
    }
    assert!(host.check().contains("the journal can be read; it has entries of postfix/pickup, "), "{}", host.check());
    // The daemon is back: both have it.
    host.write(5, 5);
    host.wait_for("sendwarden_log_lines_read_total{source=\"/var/log/mail.log\"} 12");
    host.log(own, &[(5, 5), (6, 4)]);
    host.wait_for(&format!("{SENT} 6"));
    stop(agent, &host);
    // Now the file is the log again, and goes on where it was read to.
    host.write(7, 0);
    let agent = host.start();
    host.wait_for(&format!("{SENT} 7"));
    stop(agent, &host);
}

/// Of the host's own journal only what this machine wrote is read: `check` must not call anything else right.
#[test]
fn check_tells_of_a_journal_of_which_nothing_would_be_read() {
    let host = Host::new("logs:\n  - journal: true\n");
    host.log("11111111111111111111111111111111", &[(1, 60)]);
    let text = host.check();
    assert!(text.contains("fail  log: the journal has entries of postfix/pickup, "), "{text}");
    assert!(text.contains(&format!("none of this machine (_MACHINE_ID={}", host.machine)), "{text}");
    let host = Host::new("logs:\n  - journal: true\n    units: [exim4.service]\n");
    host.log(&host.machine, &[(1, 60)]);
    let text = host.check();
    assert!(
        text.contains("fail  log: the journal has entries of ") && text.contains("none of the units exim4.service"),
        "{text}"
    );
    let config = host.dir.path().join("config.yaml");
    fs::write(&config, fs::read_to_string(&config).unwrap().replace("exim4.service", "postfix@*.service")).unwrap();
    let text = host.check();
    assert!(
        text.contains("ok    log: the journal can be read; it has entries of ")
            && text.contains("the newest 1 minute old"),
        "{text}"
    );
}
