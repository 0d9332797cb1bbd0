//! How the commands about rules are called.

use super::AskArgs;
use clap::{Args, ValueEnum};

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  sendwarden verdicts\n  sendwarden verdicts web1 --limit 3\n\n\
Of one account, each with what it rests on (messages, scripts, recipients' domains, receivers' words without addresses) and \
what to do, in English and French. That is gathered some seconds after the verdict, and stays as it was then.\n\
Exit status: 0 done, 1 failed, 2 wrong usage or configuration.")]
pub struct VerdictsArgs {
    /// Account; without one, the last verdicts of all
    pub account: Option<String>,
    #[arg(long, default_value = "20", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub limit: u32,
    #[command(flatten)]
    pub ask: AskArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  sendwarden enforcement off\n  sendwarden enforcement on\n\n\
Off, rules go on counting and say what they would do, and block nobody, also after a restart. What stands goes on \
standing; orders of people always act. enforcement.dry_run of the configuration does the same and is not touched by this.\n\n\
Needs a running agent, and its user or root.\nExit status: 0 done, 1 failed, 2 wrong usage or configuration.")]
pub struct EnforcementArgs {
    /// on or off
    #[arg(value_enum)]
    pub switch: Switch,
    #[command(flatten)]
    pub ask: AskArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    On,
    Off,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  sendwarden undo --rule recipients_per_hour --since 2h --dry-run\n  \
sendwarden undo --rule recipients_per_hour --since 2026-11-28T05:00:00Z\n\n\
Each of these accounts is unblocked as by `sendwarden unblock`, and the rule does not block it again for \
enforcement.respect_unblock. Blocks of other rules and of people stand.\n\n\
Needs a running agent, and its user or root.\nExit status: 0 done, 1 failed, 2 wrong usage or configuration.")]
pub struct UndoArgs {
    /// The rule that blocked
    #[arg(long, value_name = "R")]
    pub rule: String,
    /// Blocks since then: a time before now such as 30m, 2h, 7d, or RFC 3339
    #[arg(long, value_name = "T")]
    pub since: String,
    /// Only show which
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub ask: AskArgs,
}
