//! The queue of one mail server, as its own tools show it: where a message of the test is, and its end.

use super::exim;
use crate::host::exec;
use crate::host::servers::PostfixPlace;
use crate::mail::QueueId;
use crate::mta::postfix::plan::is_queue_id;
use serde_json::Value;
use std::path::Path;
use std::time::Duration;

const LISTING: Duration = Duration::from_secs(120);
/// Longest file of maildrop that is looked into: ours are short.
const SHORT: u64 = 64 * 1024;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Queue {
    Postfix(Postfix),
    Exim(exim::Queue),
}

impl Queue {
    /// # Errors
    /// What keeps the queue from being listed.
    pub fn find(&self, recipient: &str) -> Result<Option<Queued>, String> {
        let found = match self {
            Queue::Postfix(queue) => queue.with(recipient),
            Queue::Exim(queue) => queue.with(recipient),
        };
        Ok(found?.into_iter().next())
    }

    /// Deletes all messages of the test, wherever they are.
    ///
    /// # Errors
    /// Those that are left, or why that is not known.
    pub fn delete_all(&self, token: &str) -> Result<(), String> {
        match self {
            Queue::Postfix(queue) => queue.delete_all(token),
            Queue::Exim(queue) => queue.delete_all(token),
        }
    }

    /// A message of the test waits outside of the queue.
    pub fn waits_outside(&self, token: &str) -> bool {
        match self {
            Queue::Postfix(queue) => queue.in_maildrop(token),
            Queue::Exim(_) => false,
        }
    }
}

/// The queue of one instance of Postfix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Postfix(pub PostfixPlace);

/// A message of the test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queued {
    pub id: String,
    pub queue: String,
}

impl Postfix {
    fn tool(&self, name: &str, more: &[&str]) -> Vec<String> {
        let own = [format!("{}/{name}", self.0.tools), "-c".to_owned(), self.0.config.clone()];
        own.into_iter().chain(more.iter().map(|word| (*word).to_owned())).collect()
    }

    /// Messages with a recipient that contains this. What waits in maildrop is not in the queue yet.
    fn with(&self, words: &str) -> Result<Vec<Queued>, String> {
        let mut found = Vec::new();
        let mut take = |line: &[u8]| {
            let Ok(message) = serde_json::from_slice::<Value>(line) else { return };
            let recipients = message.get("recipients").and_then(Value::as_array).into_iter().flatten();
            let mut addresses = recipients.filter_map(|one| one.get("address")?.as_str());
            let text = |key: &str| message.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
            if addresses.any(|address| address.contains(words)) && text("queue_name") != "maildrop" {
                found.push(Queued { id: text("queue_id"), queue: text("queue_name") });
            }
        };
        exec::each_line(&self.tool("postqueue", &["-j"]), LISTING, &mut take).map_err(|why| why.to_string())?;
        Ok(found)
    }

    fn delete_all(&self, token: &str) -> Result<(), String> {
        let mut left = Vec::new();
        for _ in 0..5 {
            self.each_waiting(token, &|path| drop(std::fs::remove_file(path)));
            left = self.with(token)?;
            let ids: Vec<&Queued> =
                left.iter().filter(|one| QueueId::new(one.id.as_bytes()).is_some_and(|id| is_queue_id(&id))).collect();
            if ids.is_empty() && !self.in_maildrop(token) {
                return Ok(());
            }
            let lines: String = ids.iter().map(|one| format!("{}\n", one.id)).collect();
            let argv = self.tool("postsuper", &["-d", "-"]);
            exec::run(&argv, lines.as_bytes(), LISTING).map_err(|why| why.to_string())?;
        }
        let ids: Vec<&str> = left.iter().map(|one| one.id.as_str()).collect();
        Err(format!("in the queue of {}: {}; postsuper -d removes them", self.0.name, ids.join(", ")))
    }

    /// A message of the test waits for pickup(8).
    fn in_maildrop(&self, token: &str) -> bool {
        let found = std::cell::Cell::new(false);
        self.each_waiting(token, &|_| found.set(true));
        found.get()
    }

    fn each_waiting(&self, token: &str, take: &dyn Fn(&Path)) {
        let Ok(entries) = std::fs::read_dir(Path::new(&self.0.queue).join("maildrop")) else { return };
        for entry in entries.flatten() {
            // A file, and no link to one.
            let short = entry.metadata().is_ok_and(|meta| meta.is_file() && meta.len() <= SHORT);
            let text = if short { std::fs::read(entry.path()).unwrap_or_default() } else { Vec::new() };
            if memchr::memmem::find(&text, token.as_bytes()).is_some() {
                take(&entry.path());
            }
        }
    }
}
