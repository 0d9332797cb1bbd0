//! `sendwarden test-hold` on a real Postfix: every way in is tried, the one without the gate is named, and nothing is left
//! behind, also when it is interrupted.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]
#![allow(clippy::disallowed_methods, reason = "a test of real servers starts processes")]
mod support;

use std::fs;
use std::io::Read;
use std::process::{Child, Stdio};

use serde_json::Value;
use support::agent::{Agent, configure, sendwarden};
use support::helper::{Helper, Role};
use support::place::command;
use support::postfix::{Options, Postfix};
use support::wait_until;

const ENTRY: &str = "{ unix:sendwarden/gate.sock, connect_timeout=3s, command_timeout=5s, content_timeout=10s, \
                     default_action=";

struct Site {
    _helper: Option<Helper>,
    role: Role,
    postfix: Postfix,
    config: std::path::PathBuf,
    address: String,
}

impl Site {
    fn new(role: Role) -> Site {
        let both = format!("smtpd_milters = {ENTRY}accept }}\nnon_smtpd_milters = {ENTRY}tempfail }}\n");
        let postfix = Postfix::start(&Options { extra: both, ..Options::default() });
        let (dir, address) = (postfix.own_dir("agent"), postfix.address(0));
        let config = configure(&dir, &address, &[postfix.log_path()], "accounts: []\n");
        let (etc, spool) = (postfix.config_dir(), postfix.queue_dir());
        let more = format!(
            "queue:\n  directories: [{}]\n  config_directories: [{}]\ngate:\n  mode: enforce\n",
            spool.display(),
            etc.display()
        );
        fs::write(&config, fs::read_to_string(&config).unwrap() + &more).unwrap();
        role.prepare(&config, &postfix.log_path());
        Site { _helper: role.helper(&config), role, postfix, config, address }
    }

    fn agent(&self) -> Agent {
        self.role.agent(&self.config, &self.address)
    }

    fn tell(&self, arguments: &[&str]) -> String {
        sendwarden(&[arguments, &["--config", self.config.to_str().unwrap()]].concat())
    }

    fn start(&self, arguments: &[&str]) -> Child {
        let mut binary = command(env!("CARGO_BIN_EXE_sendwarden"));
        binary.arg("test-hold").args(arguments).arg("--config").arg(&self.config);
        binary.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Exit status and what it printed.
    fn test_hold(&self, arguments: &[&str]) -> (i32, String) {
        said(self.start(arguments))
    }

    fn state(&self, account: &str) -> Value {
        serde_json::from_str(&self.tell(&["status", account, "--format", "json"])).unwrap()
    }

    fn is_clean(&self) -> bool {
        let maildrop = fs::read_dir(self.postfix.queue_dir().join("maildrop")).unwrap().count();
        self.postfix.queue().is_empty() && maildrop == 0
    }
}

fn said(mut child: Child) -> (i32, String) {
    let status = child.wait().unwrap();
    let mut text = String::new();
    child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
    println!("{text}");
    (status.code().unwrap(), text)
}

#[test]
fn every_way_in_is_held_and_a_way_without_the_gate_is_named() {
    ways(Role::Root);
}

#[test]
fn every_way_in_is_held_and_a_way_without_the_gate_is_named_by_an_ordinary_user() {
    ways(Role::Ordinary);
}

fn ways(role: Role) {
    let site = Site::new(role);
    let agent = site.agent();
    let (status, text) = site.test_hold(&["web1"]);
    assert_eq!(status, 0, "{text}");
    let smtp = format!("held     postfix SMTP 127.0.0.1:{}", site.postfix.smtp_port());
    let logins = format!("closed   postfix SMTP 127.0.0.1:{}", site.postfix.submission_port());
    let filter = format!("untried  postfix SMTP 127.0.0.1:{}: takes mail back from a", site.postfix.reinject_port());
    for words in ["held     postfix sendmail(1)", &smtp, &logins, &filter, "Mail by every way that was tried was held"]
    {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert!(site.is_clean(), "{:?}", site.postfix.queue());
    wait_until("the account to be as it was", || site.state("web1")["state"] == "ok");
    assert_eq!(site.postfix.accept.messages().len(), 0);

    // One service without the gate.
    let service = format!("127.0.0.1:{}/inet", site.postfix.smtp_port());
    site.postfix.run("postconf", &["-P", &format!("{service}/smtpd_milters=")]);
    site.postfix.run("postfix", &["reload"]);
    let (status, text) = site.test_hold(&["--user", "web1"]);
    let named = format!("PASSED   postfix SMTP 127.0.0.1:{}", site.postfix.smtp_port());
    assert!(status == 1 && text.contains(&named) && text.contains("held     postfix sendmail(1)"), "{text}");
    assert!(site.is_clean(), "{:?}", site.postfix.queue());
    // The rig has a relayhost: it saw nothing of what was held, and of what passed no more than docs/operating.md says.
    let passed = site.postfix.accept.messages();
    let is_nobodys = |one: &support::sink::Received| {
        one.sender.is_empty() && one.recipients.iter().all(|to| to.ends_with("@sendwarden.invalid"))
    };
    assert!(passed.iter().all(is_nobodys), "{passed:?}");

    // Renamed: both names mean the account, and the block of the test is lifted.
    site.tell(&["account", "rename", "web1", "shop"]);
    for name in ["web1", "shop"] {
        let (status, text) = site.test_hold(&[name]);
        assert!(text.contains("shop (mail of user web1), held for the time of this test"), "{name}: {status} {text}");
        wait_until("the account to be as it was", || site.state("shop")["state"] == "ok");
        assert!(site.is_clean(), "{:?}", site.postfix.queue());
    }
    site.tell(&["account", "rename", "shop", "web1"]);

    // Held already: it stays so, with what is held.
    site.tell(&["block", "web1", "--reason", "before"]);
    site.postfix.sendmail("web1", "a@hosting.test", &["kept@accept.test"], "X-Test-Id: kept\n\nbody\n");
    wait_until("its mail to be on hold", || site.postfix.queue().iter().any(|message| message.queue == "hold"));
    let (_, text) = site.test_hold(&["web1", "--format", "json"]);
    let told: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&told["account"], &told["proven"], &told["held"]), (&"web1".into(), &false.into(), &1.into()));
    let queue = site.postfix.queue();
    assert!(queue.len() == 1 && queue[0].recipients == ["kept@accept.test"] && queue[0].queue == "hold", "{queue:?}");
    let state = site.state("web1");
    assert_eq!((&state["state"], &state["sanction"]["reason"]), (&"ko".into(), &"before".into()), "{state}");

    for (arguments, words) in [
        (&["web9"][..], "this host has no user web9"),
        (&[], "name an account, or a unix user"),
        (&["web1", "--user", "web2"], "the mail of user web2 is account web2's, not web1's"),
        (&["--user", "nobody"], "no account's"),
    ] {
        let (status, text) = site.test_hold(arguments);
        assert!(status == 2 && text.contains(words), "{arguments:?}: {status} {text}");
    }
    agent.stop();
    let (status, text) = site.test_hold(&["web2"]);
    assert!(status == 1 && text.contains("nothing was tried"), "{text}");
}

#[test]
fn interrupted_it_deletes_what_it_has_handed_in_and_lifts_its_block() {
    let site = Site::new(Role::Root);
    let agent = site.agent();
    // Hand-over takes its time here: pickup does not run, so that the first message waits in maildrop.
    let master = site.postfix.config_dir().join("master.cf");
    let text = fs::read_to_string(&master).unwrap();
    let without: String =
        text.lines().filter(|line| !line.starts_with("pickup")).map(|line| format!("{line}\n")).collect();
    fs::write(&master, without).unwrap();
    site.postfix.run("postfix", &["reload"]);
    let maildrop = site.postfix.queue_dir().join("maildrop");
    let child = site.start(&["web1"]);
    wait_until("a message to wait", || fs::read_dir(&maildrop).unwrap().count() == 1);
    assert_eq!(site.state("web1")["state"], "ko");
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let (status, text) = said(child);
    assert!(status == 1 && text.contains("Interrupted; what was handed in is deleted"), "{text}");
    assert!(site.is_clean(), "{:?}", site.postfix.queue());
    wait_until("the account to be as it was", || site.state("web1")["state"] == "ok");
    agent.stop();
}
