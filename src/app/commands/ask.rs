//! Where commands get their answers: from the agent over its unix socket, or, without an agent, from the store.

use super::complain;
use crate::app::cli::AskArgs;
use crate::app::{Exit, setup, traces, verdicts, views};
use crate::store::Views;
use crate::web::api::{AccountsQuery, TraceQuery};
use crate::web::client::{self, ClientError};
use serde::Serialize;
use serde_json::Value;
use std::path::PathBuf;

/// A question, in both languages: the API's and the store's.
#[derive(Debug, Clone)]
pub enum Question {
    Status,
    Accounts(AccountsQuery),
    Account(String),
    History { account: String, days: u32 },
    Errors { account: String, limit: u32 },
    Verdicts { account: Option<String>, limit: u32 },
    Trace(TraceQuery),
}

/// The state directory, the agent's socket in it, and the answer's origin.
pub struct Source {
    state_dir: PathBuf,
    /// How long a message is held at most, where the configuration was read.
    held_max_secs: Option<i64>,
}

impl Source {
    pub fn new(args: &AskArgs) -> Result<Source, Exit> {
        let (state_dir, held_max_secs) = match &args.state_dir {
            Some(dir) => (dir.clone(), None),
            None => match setup::place(args.config.as_deref()) {
                Ok((dir, held_max_secs)) => (dir, Some(held_max_secs)),
                Err(why) => {
                    complain(&why);
                    return Err(Exit::Usage);
                }
            },
        };
        Ok(Source { state_dir, held_max_secs })
    }

    /// Asks the agent; when there is none, or it does not let this user ask, the store is read.
    pub fn ask(&self, question: &Question) -> Result<Value, Exit> {
        match block_on(client::get_json(&setup::socket(&self.state_dir), &path(question))) {
            Ok(answer) => Ok(answer),
            Err(ClientError::NoAgent { .. } | ClientError::Denied { .. }) => self.read(question),
            Err(why) => {
                complain(&why.to_string());
                Err(Exit::Failed)
            }
        }
    }

    fn read(&self, question: &Question) -> Result<Value, Exit> {
        let failed = |why: String| {
            complain(&why);
            Exit::Failed
        };
        let opened = Views::open(&self.state_dir).map_err(|why| failed(why.to_string()))?;
        let answer = match question {
            Question::Status => views::status(&opened).map(json),
            Question::Accounts(query) => views::accounts(&opened, query).map(json).map_err(|why| why.to_string()),
            Question::Account(name) => views::account(&opened, name).map(json).map_err(|why| why.to_string()),
            Question::History { account, days } => {
                views::history(&opened, account, *days).map(json).map_err(|why| why.to_string())
            }
            Question::Errors { account, limit } => {
                views::errors(&opened, account, *limit).map(json).map_err(|why| why.to_string())
            }
            Question::Verdicts { account, limit } => {
                verdicts::verdicts(&opened, account.as_deref(), *limit).map(json).map_err(|why| why.to_string())
            }
            Question::Trace(query) => {
                traces::trace(&opened, query, self.held_max_secs, None).map(json).map_err(|why| why.to_string())
            }
        };
        answer.map_err(failed)
    }

    /// An answer of the agent's, or why there is none.
    pub fn try_get(&self, path: &str) -> Result<Value, String> {
        block_on(client::get_json(&setup::socket(&self.state_dir), path)).map_err(|why| why.to_string())
    }

    /// A change, or why it was not made.
    pub fn try_change(&self, path: &str, body: &Value) -> Result<Value, String> {
        block_on(client::post_json(&setup::socket(&self.state_dir), path, body)).map_err(|why| why.to_string())
    }

    /// A change: only a running agent can make it.
    pub fn change(&self, path: &str, body: &Value) -> Result<Value, Exit> {
        block_on(client::post_json(&setup::socket(&self.state_dir), path, body)).map_err(|why| {
            complain(&why.to_string());
            Exit::Failed
        })
    }
}

fn json(view: impl Serialize) -> Value {
    serde_json::to_value(view).unwrap_or_default()
}

fn path(question: &Question) -> String {
    let encode = client::encode;
    match question {
        Question::Status => "/api/v1/status".to_owned(),
        Question::Accounts(query) => {
            let mut path = "/api/v1/accounts?".to_owned();
            if let Some(q) = &query.q {
                path.push_str(&format!("q={}&", encode(q)));
            }
            if let Some(sort) = &query.sort {
                path.push_str(&format!("sort={}&", encode(sort)));
            }
            if let Some(limit) = query.limit {
                path.push_str(&format!("limit={limit}"));
            }
            path
        }
        Question::Account(name) => format!("/api/v1/accounts/{}", encode(name)),
        Question::History { account, days } => format!("/api/v1/accounts/{}/history?days={days}", encode(account)),
        Question::Errors { account, limit } => format!("/api/v1/accounts/{}/errors?limit={limit}", encode(account)),
        Question::Verdicts { account: Some(account), limit } => {
            format!("/api/v1/accounts/{}/verdicts?limit={limit}", encode(account))
        }
        Question::Verdicts { account: None, limit } => format!("/api/v1/verdicts?limit={limit}"),
        Question::Trace(query) => {
            let since = query.since.as_deref().map_or(String::new(), |since| format!("&since={}", encode(since)));
            format!("/api/v1/trace?q={}{since}", encode(&query.q))
        }
    }
}

fn block_on<T>(future: impl Future<Output = Result<T, ClientError>>) -> Result<T, ClientError> {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(future),
        Err(why) => {
            let why = format!("cannot start the client: {why}");
            Err(ClientError::Broken { socket: PathBuf::new(), path: String::new(), why })
        }
    }
}
