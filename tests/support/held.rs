//! A Postfix with a receiver that answers as it is told, and an agent that may hold and release its mail.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use super::agent::{Agent, configure, sendwarden};
use super::helper::{Helper, Role};
use super::postfix::{Options, Postfix};
use super::wait_for;

pub struct Site {
    /// Ends before the server whose queue it works in.
    pub helper: Option<Helper>,
    pub role: Role,
    pub postfix: Postfix,
    pub config: PathBuf,
    pub address: String,
}

impl Site {
    pub fn new(extra: &str, role: Role) -> Site {
        Site::of(extra, role, "accounts: []\n")
    }

    /// With these accounts.
    pub fn of(extra: &str, role: Role, accounts: &str) -> Site {
        let postfix = Postfix::start(&Options { extra: extra.to_owned(), ..Options::default() });
        let (dir, address) = (postfix.own_dir("agent"), postfix.address(0));
        let config = configure(&dir, &address, &[postfix.log_path()], accounts);
        let (etc, spool) = (postfix.config_dir(), postfix.queue_dir());
        let more = format!(
            "queue:\n  directories: [{}]\n  config_directories: [{}]\noperator_token_file: {}\n",
            spool.display(),
            etc.display(),
            dir.join("token").display()
        );
        fs::write(dir.join("token"), "0123456789abcdef\n").unwrap();
        fs::write(&config, fs::read_to_string(&config).unwrap() + &more).unwrap();
        role.prepare(&config, &postfix.log_path());
        Site { helper: role.helper(&config), role, postfix, config, address }
    }

    /// A message that waits in the queue until the receiver takes it.
    pub fn waits(&self, user: &str, name: &str) -> String {
        let to = format!("{name}@forge.test");
        self.postfix.sendmail(user, &format!("{user}@hosting.test"), &[&to], &format!("X-Test-Id: {name}\n\nbody\n"));
        self.postfix.queue_id(&to)
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

    /// The queue a message is in; `None` when it has left.
    pub fn queue_of(&self, id: &str) -> Option<String> {
        self.postfix.queue().into_iter().find(|one| one.id == id).map(|one| one.queue)
    }

    pub fn is_in(&self, ids: &[&String], queue: &str) -> bool {
        ids.iter().all(|id| self.queue_of(id).as_deref() == Some(queue))
    }

    /// How often the receiver has taken the message.
    pub fn delivered(&self, name: &str) -> usize {
        self.postfix.forge.messages().iter().filter(|one| one.unique() == Some(name)).count()
    }

    /// The agent has read what is in the queue.
    pub fn wait_queued(&self, agent: &Agent, account: &str, recipients: f64) {
        let label = format!("account=\"{account}\"");
        agent.wait_sum("sendwarden_account_queued_recipients", &[&label], recipients);
    }

    pub fn wait_idle(&self, account: &str) -> Value {
        wait_for("the order to be carried out", || {
            let status = self.status(account);
            let newest = status["orders"][0]["outcome"].as_str()?.to_owned();
            (newest != "accepted").then_some(status)
        })
    }
}
