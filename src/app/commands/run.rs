//! `sendwarden run`: the agent in the foreground.

use super::complain;
use crate::app::cli::RunArgs;
use crate::app::{Exit, agent, setup};
use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

pub fn run(args: &RunArgs) -> Exit {
    let setup = match setup::load(args.config.as_deref()) {
        Ok(setup) => setup,
        Err(why) => {
            complain(&format!("cannot start with this configuration:\n{why}"));
            return Exit::Usage;
        }
    };
    log_to_stderr(setup.log_level);
    let start = agent::Start { config: args.config.clone(), new_store: args.new_store, bound: None };
    match agent::run(setup, start) {
        Ok(exit) => exit,
        Err(why) => {
            complain(&why);
            Exit::Failed
        }
    }
}

/// Messages about the agent itself; `SENDWARDEN_LOG` overrules the configured level.
pub fn log_to_stderr(level: &str) {
    let filter = EnvFilter::try_from_env("SENDWARDEN_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    let started = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .try_init();
    if started.is_err() {
        // Somebody has set a logger already: that one it is.
    }
}
