//! The household: wiring, the one loop (pump), commands.

mod agent;
mod backend;
mod barred;
mod chain;
pub mod cli;
mod commands;
mod demo;
mod dialect;
mod dispatch;
mod evidence;
mod flags;
mod gate;
mod hooks;
mod ingest;
mod instances;
mod logs;
mod numbers;
mod orders;
mod powers;
mod pump;
mod queues;
mod selection;
mod setup;
mod shared;
mod sizes;
mod traces;
mod unlisted;
mod verdicts;
mod views;

/// Exit status of every command: 0 done, 1 failed, 2 wrong usage or configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    Done,
    Failed,
    Usage,
}

impl Exit {
    pub const fn code(self) -> u8 {
        match self {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
        }
    }
}
