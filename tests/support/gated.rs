//! A Postfix that asks the gate, with senders by every way in.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use super::agent::{Agent, configure, sendwarden};
use super::helper::{Helper, Role};
use super::place::{command, succeed};
use super::postfix::{Options, Postfix};
use super::sink::Received;
use super::smtp::{self, Mail};

/// As docs/operating.md has it; mail that a script hands over waits for the agent.
pub const MILTER: &str = "smtpd_milters = { unix:sendwarden/gate.sock, default_action=accept, connect_timeout=3s, \
                      command_timeout=5s, content_timeout=10s }\n\
                      non_smtpd_milters = { unix:sendwarden/gate.sock, default_action=tempfail, connect_timeout=3s, \
                      command_timeout=5s, content_timeout=10s }\n";
/// An entry of a list of milters, up to its default action.
pub const ENTRY: &str = "{ unix:sendwarden/gate.sock, connect_timeout=3s, command_timeout=5s, content_timeout=10s, \
                         default_action=";
pub const PASSWORD: &str = "secret";

pub struct Site {
    /// Ends before the server whose queue it works in.
    pub helper: Option<Helper>,
    pub role: Role,
    pub postfix: Postfix,
    pub config: PathBuf,
    pub address: String,
}

impl Site {
    pub fn new(gate: &str, role: Role) -> Site {
        let shop = "accounts:\n  - id: shop\n    unix_users: [web3]\n    logins: [sales@shop.test, info@shop.test]\n";
        Site::of(gate, role, shop, "")
    }

    /// With these accounts, and more lines for main.cf.
    pub fn of(gate: &str, role: Role, accounts: &str, main: &str) -> Site {
        Site::on(&Options { extra: format!("{MILTER}{main}"), ..Options::default() }, gate, role, accounts)
    }

    /// On a server with these options.
    pub fn on(options: &Options, gate: &str, role: Role, accounts: &str) -> Site {
        let postfix = Postfix::start(options);
        let (dir, address) = (postfix.own_dir("agent"), postfix.address(0));
        let config = configure(&dir, &address, &[postfix.log_path()], accounts);
        let (etc, spool) = (postfix.config_dir(), postfix.queue_dir());
        let queue =
            format!("queue:\n  directories: [{}]\n  config_directories: [{}]\n", spool.display(), etc.display());
        fs::write(&config, fs::read_to_string(&config).unwrap() + &queue + gate).unwrap();
        role.prepare(&config, &postfix.log_path());
        Site { helper: role.helper(&config), role, postfix, config, address }
    }

    pub fn agent(&self) -> Agent {
        self.role.agent(&self.config, &self.address)
    }

    pub fn tell(&self, arguments: &[&str]) -> String {
        sendwarden(&[arguments, &["--config", self.config.to_str().unwrap()]].concat())
    }

    /// An order, as soon as the one before it is carried out: one change of an account at a time.
    pub fn order(&self, arguments: &[&str]) -> String {
        super::wait_for(&format!("{arguments:?} to be taken"), || {
            let mut binary = command(env!("CARGO_BIN_EXE_sendwarden"));
            let output = binary.args(arguments).arg("--config").arg(&self.config).output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            let busy = said.contains("another order for this account is being carried out");
            assert!(output.status.success() || busy, "{arguments:?}: {said}");
            (!busy).then(|| String::from_utf8_lossy(&output.stdout).into_owned())
        })
    }

    pub fn script(&self, user: &str, name: &str) {
        self.postfix.sendmail(user, &format!("{user}@hosting.test"), &[&format!("{name}@accept.test")], &text(name));
    }

    pub fn login(&self, login: &str, name: &str) -> Result<String, String> {
        let (to, data) = (format!("{name}@accept.test"), text(name));
        let mail = Mail { sender: login, recipients: &[&to], data: &data, auth: Some((login, PASSWORD)) };
        smtp::send(self.postfix.submission_port(), &mail)
    }

    /// SMTP from loopback, by a process of this user.
    pub fn local(&self, user: &str, name: &str) {
        let (port, to) = (self.postfix.smtp_port().to_string(), format!("{name}@accept.test"));
        let mut client = command("setpriv");
        client.args(["--reuid", user, "--regid", user, "--clear-groups", "bash", "-c", CLIENT, "bash"]);
        client.args([&port, "x@y.test", &to, name]).current_dir("/");
        succeed(&mut client, None);
    }

    /// Names of the messages that have arrived, each as often as it did.
    pub fn arrived(&self, prefix: &str) -> Vec<String> {
        let named = |messages: &[Received]| -> Vec<String> {
            let names = messages.iter().filter_map(|message| message.unique()).filter(|name| name.starts_with(prefix));
            names.map(str::to_owned).collect()
        };
        let mut names = self.postfix.accept.look(named);
        names.sort();
        names
    }

    /// When each message of this prefix arrived, in milliseconds, and its number.
    pub fn arrivals(&self, prefix: &str) -> Vec<(i64, usize)> {
        super::pace::arrivals(&self.postfix.accept.messages(), prefix)
    }

    /// How often each recipient has got its copy of the messages of this prefix.
    pub fn copies(&self, prefix: &str) -> Copies {
        self.postfix.accept.look(|messages| {
            let mut copies = BTreeMap::new();
            for message in messages.iter().filter(|one| one.unique().is_some_and(|name| name.starts_with(prefix))) {
                message.recipients.iter().for_each(|to| *copies.entry(to.clone()).or_default() += 1);
            }
            copies
        })
    }

    /// Which recipients wait on hold, of messages of this prefix.
    pub fn held_copies(&self, prefix: &str) -> Copies {
        let mut copies = BTreeMap::new();
        let held = self.postfix.queue().into_iter().filter(|one| one.queue == "hold");
        for to in held.flat_map(|one| one.recipients).filter(|to| to.starts_with(prefix)) {
            *copies.entry(to).or_default() += 1;
        }
        copies
    }

    /// Recipients of messages on hold.
    pub fn on_hold(&self, prefix: &str) -> Vec<String> {
        let held = self.postfix.queue().into_iter().filter(|one| one.queue == "hold");
        let names = held.flat_map(|one| one.recipients).filter(|to| to.starts_with(prefix));
        let mut names: Vec<String> = names.map(|to| to.split('@').next().unwrap_or_default().to_owned()).collect();
        names.sort();
        names
    }

    pub fn decisions(&self, agent: &Agent, decision: &str) -> f64 {
        agent.sum("sendwarden_gate_decisions_total", &[&format!("decision=\"{decision}\"")])
    }
}

/// How often each recipient's copy is somewhere.
pub type Copies = BTreeMap<String, usize>;

/// Waits until exactly these copies are `found`; shows what differs when they never are.
pub fn wait_copies(what: &str, wanted: &Copies, mut found: impl FnMut() -> Copies) {
    let differ = |these: &Copies, those: &Copies| -> Vec<String> {
        these.iter().filter(|(to, n)| those.get(*to) != Some(n)).map(|(to, n)| format!("{to} {n}")).take(20).collect()
    };
    let told = |last: Copies| {
        let (missing, more) = (differ(wanted, &last), differ(&last, wanted));
        format!("{what}: {} of {}, wanted {missing:?}, found {more:?}", last.len(), wanted.len())
    };
    super::wait_or(told, || {
        let last = found();
        if last == *wanted { Ok(()) } else { Err(last) }
    });
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

pub const CLIENT: &str = r#"
exec 3<>/dev/tcp/127.0.0.1/$1
read -r reply <&3
for line in "HELO client.test" "MAIL FROM:<$2>" "RCPT TO:<$3>" DATA "X-Test-Id: $4"$'\r\n\r\nbody\r\n.' QUIT; do
  printf '%s\r\n' "$line" >&3
  read -r reply <&3
  case $reply in [23]*) ;; *) echo "$line: $reply" >&2; exit 1 ;; esac
done
"#;
