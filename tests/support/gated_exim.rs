//! An Exim whose rules look for flags and ask the agent, with senders by every way in.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use super::agent::{Agent, configure, sendwarden};
use super::exim::{Call, Exim, Options, Script, Version, selector};
use super::helper::{Helper, Role, USER};
use super::place::{command, succeed};
use super::server::MailServer;
use super::smtp::{self, Mail};
use super::wait_for;

pub struct Site {
    /// Ends before the server whose queue it works in.
    pub helper: Option<Helper>,
    pub role: Role,
    pub exim: Exim,
    pub config: PathBuf,
    pub address: String,
}

impl Site {
    /// `gate` are lines of the section, `more` is other sections.
    pub fn new(version: Version, role: Role, gate: &str, more: &str) -> Site {
        let exim = Exim::start(&Options { gate: true, ..Options::new(version, selector::CPANEL) });
        let (dir, address) = (exim.own_dir("agent"), exim.address(0));
        let accounts = "accounts:\n  - id: shop\n    unix_users: [web3]\n    logins: [sales@shop.test]\n    \
                        domains: [shop.test]\n    networks: [10.9.0.0/16]\n";
        let config = configure(&dir, &address, &[exim.log_path()], accounts);
        let text = fs::read_to_string(&config).unwrap().replace("\nstate_dir", "\n    mta: exim\nstate_dir");
        let (program, flags) = (exim.program(), exim.flags_dir());
        let own = format!(
            "queue:\n  directories: [{}]\n  exim_program: {}\ngate:\n  exim_flags: {}\n{gate}{more}",
            dir.display(),
            program.display(),
            flags.display()
        );
        fs::write(&config, text + &own).unwrap();
        role.prepare(&config, &exim.log_path());
        role.prepare_flags(&flags, &exim.spool_dir());
        Site { helper: role.helper(&config), role, exim, config, address }
    }

    pub fn agent(&self) -> Agent {
        self.role.agent(&self.config, &self.address)
    }

    pub fn tell(&self, arguments: &[&str]) -> String {
        sendwarden(&[arguments, &["--config", self.config.to_str().unwrap()]].concat())
    }

    pub fn status(&self, account: &str) -> Value {
        serde_json::from_str(&self.tell(&["status", account, "--format", "json"])).unwrap()
    }

    pub fn wait_held(&self, account: &str, messages: u64) {
        wait_for(&format!("{messages} messages of {account} to be known as held"), || {
            (self.status(account)["held_messages"] == messages).then_some(())
        });
    }

    pub fn script(&self, user: &str, name: &str, call: Call) {
        let (cwd, message, to) = (Path::new("/"), text(name), format!("{name}@accept.test"));
        let sender = format!("{user}@hosting.test");
        self.exim.sendmail(&Script { user, cwd, call, sender: &sender, recipients: &[&to], message: &message });
    }

    pub fn login(&self, login: &str, name: &str) -> Result<String, String> {
        let (to, data) = (format!("{name}@accept.test"), text(name));
        let mail = Mail { sender: login, recipients: &[&to], data: &data, auth: Some((login, "secret")) };
        smtp::send(self.exim.port(), &mail)
    }

    /// SMTP from loopback by a process of this user, all of them over one connection; what was answered to each. The
    /// sender claims to be another account.
    pub fn local(&self, user: &str, names: &[String]) -> Vec<String> {
        succeed(self.client(user, CLIENT, "x@shop.test").args(names), None)
            .lines()
            .map(|line| line.trim_end().to_owned())
            .collect()
    }

    /// The same, of a client that does not wait for the answer.
    pub fn hang_up(&self, user: &str, name: &str) {
        succeed(self.client(user, GONE, &format!("{name}@shop.test")).arg(name), None);
    }

    /// The exit status of sendmail(1), and what it printed. With recipients as arguments, or from the headers.
    pub fn tried(&self, user: &str, name: &str, n: usize) -> (Option<i32>, String) {
        let mut program = command("setpriv");
        program.args(["--reuid", user, "--regid", user, "--clear-groups"]).arg(self.exim.program()).arg("-i");
        let to = format!("{name}@accept.test");
        let mut message = text(name);
        if n % 2 == 1 {
            message = format!("To: {to}\n{message}");
            program.arg("-t");
        } else {
            program.arg(&to);
        }
        program.current_dir("/").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = program.spawn().unwrap();
        child.stdin.take().unwrap().write_all(message.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(said).unwrap())
    }

    /// The exit status of sendmail(1) for a message to these, whatever it is.
    pub fn handed(&self, user: &str, sender: &str, recipients: &[String], message: &str) -> Option<i32> {
        let mut program = command("setpriv");
        program.args(["--reuid", user, "--regid", user, "--clear-groups"]).arg(self.exim.program());
        program.args(["-i", "-f", sender, "--"]).args(recipients).current_dir("/");
        let mut child = program.stdin(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(message.as_bytes()).unwrap();
        child.wait().unwrap().code()
    }

    /// What `check` says, as the agent's user.
    pub fn check(&self) -> String {
        let mut check = match self.role {
            Role::Root => command(env!("CARGO_BIN_EXE_sendwarden")),
            Role::Ordinary => {
                let mut check = command("setpriv");
                check.args(["--no-new-privs", "--reuid", USER, "--regid", USER, "--groups", "adm"]);
                check.arg(env!("CARGO_BIN_EXE_sendwarden"));
                check
            }
        };
        let output = check.args(["check", "--config"]).arg(&self.config).output().unwrap();
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    }

    /// The errors of an account, as people are told them.
    pub fn errors(&self, account: &str) -> Vec<Value> {
        let text = self.tell(&["errors", account, "--limit", "1000", "--format", "json"]);
        let view: Value = serde_json::from_str(&text).unwrap();
        view["errors"].as_array().unwrap().clone()
    }

    /// What is answered to a message over `sendmail -bs`.
    pub fn conversation(&self, user: &str, name: &str) -> String {
        let mut program = command("setpriv");
        program.args(["--reuid", user, "--regid", user, "--clear-groups"]).arg(self.exim.program()).arg("-bs");
        let data = text(name).replace("\n.", "\n..").replace('\n', "\r\n");
        let said = format!(
            "EHLO script\r\nMAIL FROM:<x@y.test>\r\nRCPT TO:<{name}@accept.test>\r\nDATA\r\n{data}.\r\nQUIT\r\n"
        );
        succeed(program.current_dir("/"), Some(&said))
    }

    /// What Exim would do with a message from this address and port, as it says itself (`-bh`).
    pub fn pretend(&self, from: &str) -> String {
        let said =
            "HELO x\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<x@box.test>\r\nDATA\r\nSubject: x\r\n\r\nbody\r\n.\r\nQUIT\r\n";
        let mut program = Command::new(self.exim.program());
        program.args(["-bh", from, "-oMi", "127.0.0.1.25"]).current_dir("/").stdin(Stdio::piped());
        let mut child = program.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(said.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    }

    fn client(&self, user: &str, script: &str, sender: &str) -> Command {
        let port = self.exim.port().to_string();
        let mut client = command("setpriv");
        client.args(["--reuid", user, "--regid", user, "--clear-groups", "bash", "-c", script, "bash", &port, sender]);
        client.current_dir("/");
        client
    }

    /// Names of the messages that have arrived, each as often as it did.
    pub fn arrived(&self, prefix: &str) -> Vec<String> {
        let messages = self.exim.accept.messages();
        let names = messages.iter().filter_map(|message| message.unique()).filter(|name| name.starts_with(prefix));
        let mut names: Vec<String> = names.map(str::to_owned).collect();
        names.sort();
        names
    }

    /// When each message of this prefix arrived, in milliseconds, and its number.
    pub fn arrivals(&self, prefix: &str) -> Vec<(i64, usize)> {
        super::pace::arrivals(&self.exim.accept.messages(), prefix)
    }

    /// Recipients of frozen messages, without the domain.
    pub fn frozen(&self, prefix: &str) -> Vec<String> {
        let held = self.exim.queue().into_iter().filter(|one| one.queue == "hold");
        let names = held.flat_map(|one| one.recipients).filter(|to| to.starts_with(prefix));
        let mut names: Vec<String> = names.map(|to| to.split('@').next().unwrap_or_default().to_owned()).collect();
        names.sort();
        names
    }

    pub fn flags(&self, kind: &str) -> Vec<String> {
        let entries = fs::read_dir(self.exim.flags_dir().join(kind)).unwrap().map(|entry| entry.unwrap());
        let mut names: Vec<String> = entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    pub fn decisions(&self, agent: &Agent, origin: &str, decision: &str) -> f64 {
        let labels = [format!("origin=\"{origin}\""), format!("decision=\"{decision}\"")];
        agent.sum("sendwarden_gate_decisions_total", &[&labels[0], &labels[1]])
    }
}

pub fn text(name: &str) -> String {
    // Eight bits, a line that begins with a dot, and one that is empty.
    format!("From: a@hosting.test\nSubject: {name}\nX-Test-Id: {name}\n\nGr\u{fc}\u{df}e\n.dot\n\nend of {name}\n")
}

pub fn names(prefix: &str, count: usize) -> Vec<String> {
    let mut names: Vec<String> = (0..count).map(|n| format!("{prefix}{n}")).collect();
    names.sort();
    names
}

/// PORT SENDER NAME: hangs up behind the message.
const GONE: &str = r#"
exec 3<>/dev/tcp/127.0.0.1/$1
say() { printf '%s\r\n' "$1" >&3; read -r reply <&3; case $reply in [23]*) ;; *) echo "$1: $reply" >&2; exit 1 ;; esac; }
read -r reply <&3
say "HELO client.test"
say "MAIL FROM:<$2>"
say "RCPT TO:<$3@accept.test>"
say DATA
printf 'X-Test-Id: %s\r\n\r\nbody\r\n.\r\nQUIT\r\n' "$3" >&3
"#;

/// PORT SENDER NAME...: prints the reply to each message.
const CLIENT: &str = r#"
exec 3<>/dev/tcp/127.0.0.1/$1
say() { printf '%s\r\n' "$1" >&3; read -r reply <&3; case $reply in [23]*) ;; *) echo "$1: $reply" >&2; exit 1 ;; esac; }
read -r reply <&3
say "HELO client.test"
sender=$2
shift 2
for name; do
  say "MAIL FROM:<$sender>"
  say "RCPT TO:<$name@accept.test>"
  say DATA
  printf 'X-Test-Id: %s\r\n\r\nend of %s\r\n.\r\n' "$name" "$name" >&3
  read -r reply <&3
  echo "$reply"
done
say QUIT
"#;
