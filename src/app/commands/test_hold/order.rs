//! The account under test: held for the time of the test by an order to the agent, unless it is held already.

use crate::app::commands::ask::Source;
use crate::app::commands::{number, words};
use crate::host::clock;
use crate::metrics;
use crate::web::client::encode;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The agent is asked again while another order of the account is carried out, or what it holds is not told yet.
const PATIENCE: Duration = Duration::from_secs(30);
const COUNTED: Duration = Duration::from_secs(10);
const AGAIN: Duration = Duration::from_millis(200);
/// Should nobody lift it.
const ENDS: &str = "10m";

pub struct Account<'a> {
    source: &'a Source,
    pub name: String,
    /// The block is ours.
    ours: bool,
}

/// What the agent knows of an account; nothing when it has never sent, or no agent answers.
fn view(source: &Source, name: &str) -> Value {
    source.try_get(&format!("/api/v1/accounts/{}", encode(name))).unwrap_or_default()
}

/// What the account's mail is known by: another word than its name, where it was renamed.
pub fn key_of(source: &Source, name: &str) -> String {
    let view = view(source, name);
    let key = [words(&view, "key"), words(&view, "account"), name].into_iter().find(|text| !text.is_empty());
    key.unwrap_or(name).to_owned()
}

impl<'a> Account<'a> {
    /// Of an account by its name, or by what its mail is known by.
    ///
    /// # Errors
    /// Why it is not held.
    pub fn hold(source: &'a Source, key: &str) -> Result<Account<'a>, String> {
        let view = view(source, key);
        let name = Some(words(&view, "account")).filter(|name| !name.is_empty()).unwrap_or(key);
        let account = Account { source, name: name.to_owned(), ours: false };
        match view.get("sanction").map_or("", |sanction| words(sanction, "scope")) {
            "script" | "all" => return Ok(account),
            "" => {}
            scope => {
                return Err(format!(
                    "{name} is blocked with scope {scope}, which covers no mail of scripts; name another"
                ));
            }
        }
        let order = json!({"action": "BLOCK", "reason": "sendwarden test-hold", "for": ENDS});
        account.order(&order)?;
        Ok(Account { ours: true, ..account })
    }

    pub fn how(&self) -> &'static str {
        if self.ours { "held for the time of this test" } else { "held already" }
    }

    fn order(&self, order: &Value) -> Result<Value, String> {
        self.again(&format!("/api/v1/accounts/{}/request", encode(&self.name)), order)
    }

    /// Asks until the agent has time.
    fn again(&self, path: &str, body: &Value) -> Result<Value, String> {
        let began = clock::monotonic();
        loop {
            match self.source.try_change(path, body) {
                Err(why) if why.contains("try again") && began.elapsed() < PATIENCE => std::thread::park_timeout(AGAIN),
                answer => return answer,
            }
        }
    }

    /// Messages that the gate has held, of anybody.
    pub fn held_by_gate(&self) -> u64 {
        let page = self.source.try_get("/metrics").unwrap_or_default();
        metrics::held_on(page.as_str().unwrap_or_default())
    }

    /// How many it has held since it was asked, when that is `enough`, or nothing more comes.
    pub fn wait_held_by_gate(&self, before: u64, enough: u64, stop: &AtomicBool) -> u64 {
        let began = clock::monotonic();
        loop {
            let held = self.held_by_gate().saturating_sub(before);
            if held >= enough || began.elapsed() >= COUNTED || stop.load(Ordering::Relaxed) {
                return held;
            }
            std::thread::park_timeout(AGAIN);
        }
    }

    /// Has the agent delete what it holds for recipients in this domain.
    ///
    /// # Errors
    /// Why it did not.
    pub fn purge(&self, domain: &str, held: u64) -> Result<(), String> {
        let select = format!("/api/v1/accounts/{}/select", encode(&self.name));
        let began = clock::monotonic();
        let mut ordered = 0;
        loop {
            let found = self.again(&select, &json!({"recipient_domain": domain}))?;
            let messages = number(&found, "messages");
            match messages {
                0 if ordered >= held => return Ok(()),
                0 => {}
                n if ordered == 0 && n < held && began.elapsed() < COUNTED => {}
                n => {
                    let order = json!({"action": "PURGE", "reason": "sendwarden test-hold", "selection": words(&found, "selection")});
                    self.order(&order)?;
                    ordered += n;
                }
            }
            if began.elapsed() >= PATIENCE {
                return Err(format!("{messages} are still held, and it was told of {ordered} of {held}"));
            }
            std::thread::park_timeout(AGAIN);
        }
    }

    /// Lifts the block, if it is ours.
    ///
    /// # Errors
    /// What to do.
    pub fn let_go(&self) -> Result<(), String> {
        if !self.ours {
            return Ok(());
        }
        let order = json!({"action": "UNBLOCK", "reason": "sendwarden test-hold"});
        self.order(&order).map(drop).map_err(|why| {
            format!("{} is still blocked, for {ENDS} at most: sendwarden unblock {}: {why}", self.name, self.name)
        })
    }
}
