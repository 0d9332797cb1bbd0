//! The command line: names, help and examples. What the commands do is in `commands`.

use super::Exit;
use super::commands;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

#[derive(Debug, Parser)]
#[command(
    name = "sendwarden",
    version,
    about = "Exact mail figures per hosting account, from the mail server's own log",
    after_help = "Exit status: 0 done, 1 failed, 2 wrong usage or configuration.\n\nStart with: sendwarden demo   (no mail server needed)\n            sendwarden run    (follows the mail log of this host)"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run rules and figures over old logs; touches no state, opens no socket
    Replay(ReplayArgs),
}

/// How an answer is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Text,
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum MtaChoice {
    Auto,
    Postfix,
    Exim,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  sendwarden replay /var/log/mail.log.1 /var/log/mail.log\n  sendwarden replay --format json /var/log/mail.log*.gz | jq .totals\n  zcat old.gz | sendwarden replay -"
)]
pub struct ReplayArgs {
    /// Log files, plain or gzipped, in any order; - is standard input
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// The mail server that wrote the log
    #[arg(long, value_enum, default_value = "auto")]
    pub mta: MtaChoice,
    /// Configuration whose accounts and attribution settings are used
    #[arg(long, value_name = "F")]
    pub config: Option<PathBuf>,
    /// passwd file that names the uids in the log [default: this host's]
    #[arg(long, value_name = "F")]
    pub passwd: Option<PathBuf>,
    #[arg(long, value_enum, default_value = "text")]
    pub format: Format,
    /// Threads: with more than 1, reading and decompressing have one of their own
    #[arg(long, default_value = "2", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub jobs: u16,
}

/// Reads the command line and does what it says.
pub fn main() -> Exit {
    match Cli::try_parse() {
        Ok(cli) => match cli.command {
            Command::Replay(args) => commands::replay::run(&args, Default::default()),
        },
        Err(error) => {
            // Asked for help or version: that is an answer, not a mistake.
            let exit = if error.use_stderr() { Exit::Usage } else { Exit::Done };
            if error.print().is_err() {
                return Exit::Failed;
            }
            exit
        }
    }
}
