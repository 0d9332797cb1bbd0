//! The commands that read old logs: their names, help and examples.

use super::{Format, MtaChoice};
use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// What is read, and how.
#[derive(Debug, Args)]
pub struct LogArgs {
    /// Log files, plain or packed (gz, xz, zst, bz2), in any order; - is standard input
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// The mail server whose lines are read; those of others are passed over [auto: of every known one]
    #[arg(long, value_enum, default_value = "auto")]
    pub mta: MtaChoice,
    /// passwd file that names the uids in the log [default: this host's]
    #[arg(long, value_name = "F")]
    pub passwd: Option<PathBuf>,
    /// Threads: with more than 1, reading and decompressing have one of their own
    #[arg(long, default_value = "2", value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub jobs: u16,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  sendwarden replay /var/log/mail.log.1 /var/log/mail.log\n  \
sendwarden replay --format json /var/log/mail.log*.gz | jq .totals\n  zcat old.gz | sendwarden replay -\n\n\
Try rules before they act (nothing is held, no agent is asked):\n  \
sendwarden replay --config new.yaml /var/log/mail.log*\n  \
sendwarden replay --config new.yaml --against /etc/sendwarden/config.yaml /var/log/mail.log*\n\n\
Each verdict is listed with what would have become of it. For rules with `action: block` it is counted how many messages \
would have been held: of that account, in the scope of the block, from the verdict until the block ends, 72 hours at most. \
`enforcement.exempt` and `max_blocks_per_hour` hold, `dry_run` does not.\n\n\
A file whose content lies in another one named is left out, a damaged one is read as far as it is good; stderr says so.\n\n\
Exit status: 0 done, 1 failed or a file damaged, 2 wrong usage or configuration.")]
pub struct ReplayArgs {
    #[command(flatten)]
    pub logs: LogArgs,
    /// Configuration whose rules, accounts and attribution settings are used
    #[arg(long, value_name = "F")]
    pub config: Option<PathBuf>,
    /// Another configuration, such as the present one: which verdicts are new with --config, which are gone
    #[arg(long, value_name = "F", requires = "config")]
    pub against: Option<PathBuf>,
    /// For people or for programs
    #[arg(long, value_enum, default_value = "text")]
    pub format: Format,
}

/// How limits are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SuggestFormat {
    Yaml,
    Json,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  sendwarden suggest /var/log/mail.log* > suggested.yaml\n  \
sendwarden replay --config suggested.yaml /var/log/mail.log*    # whom these limits would have hit\n  \
sendwarden suggest --config /etc/sendwarden/config.yaml --format json /var/log/mail.log* | jq '.rules[].hits'\n\n\
For each built-in rule the busiest window of every account is looked at. The limit is at least three times what 95 % of the \
accounts reached, and leaves alone who follows the ordinary ones closely; the highest 5 % teach it nothing, for they may be the \
abusers. The more weeks of log, the better: who sends once a month is only in it if that day is.\n\n\
What is printed only observes. Put the entries below `rules:` of your configuration; docs/rules.md says how to arm one.\n\n\
Exit status: 0 done, 1 failed or a file damaged, 2 wrong usage or configuration.")]
pub struct SuggestArgs {
    #[command(flatten)]
    pub logs: LogArgs,
    /// Configuration whose accounts, attribution settings and own addresses are used; its rules are not
    #[arg(long, value_name = "F")]
    pub config: Option<PathBuf>,
    /// A configuration with the reasons as comments, or for programs
    #[arg(long, value_enum, default_value = "yaml")]
    pub format: SuggestFormat,
}
