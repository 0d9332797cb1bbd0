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
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

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
