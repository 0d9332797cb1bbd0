//! The command line: names, help and examples. What the commands do is in `commands`.

mod logs;
mod rules;

use super::Exit;
use super::commands;
use crate::mail::Server;
use clap::{Args, Parser, Subcommand, ValueEnum};
pub use logs::{LogArgs, ReplayArgs, SuggestArgs, SuggestFormat};
pub use rules::{EnforcementArgs, Switch, UndoArgs, VerdictsArgs};
use std::path::PathBuf;

const AFTER: &str = "\
Start with:
  sendwarden demo     everything on recorded traffic; no mail server needed
  sendwarden check    what this host has, what can be read, what is missing
  sendwarden run      follow this host's mail log, figures on http://127.0.0.1:10925/metrics

Exit status: 0 done, 1 failed, 2 wrong usage or configuration.";

#[derive(Debug, Parser)]
#[command(
    name = "sendwarden",
    version,
    about = "Exact mail figures per hosting account, from the mail server's own log",
    after_help = AFTER
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The agent, in the foreground
    Run(RunArgs),
    /// Configuration, host, permissions, and how much of the log is understood and attributed
    Check(CheckArgs),
    /// The whole thing on recorded traffic, for somebody without a mail server
    Demo(DemoArgs),
    /// The engine over old logs, and what rules would have done; touches no state, opens no socket
    Replay(ReplayArgs),
    /// Limits for the rules, from what the accounts sent so far
    Suggest(SuggestArgs),
    /// Figures of the host, or of one account
    Status(StatusArgs),
    /// An account's days, as a chart
    History(HistoryArgs),
    /// An account's recipients in error, newest first
    Errors(ErrorsArgs),
    /// What happened to a message, step by step
    Trace(TraceArgs),
    /// Hold an account's mail, and what of it waits in the queue
    Block(BlockArgs),
    /// Let an account send again, and hand what is held back to delivery
    Unblock(UnblockArgs),
    /// Delete an account's held mail, then let it send again
    Purge(PurgeArgs),
    /// What rules said of accounts, what it rests on, and what to do
    Verdicts(VerdictsArgs),
    /// Whether rules may block accounts
    Enforcement(EnforcementArgs),
    /// Unblock whom a rule has blocked
    Undo(UndoArgs),
    /// Prove that a block holds mail by every way in, with messages that reach nobody
    TestHold(TestHoldArgs),
    /// What only root may, for an agent that is an ordinary user
    Helper(HelperArgs),
    /// Show, make or take back what the mail server's configuration needs so that mail can be held
    #[command(subcommand)]
    Setup(SetupCommand),
    /// List, rename, close, forget or export accounts
    #[command(subcommand)]
    Account(AccountCommand),
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

impl MtaChoice {
    /// The only server whose lines are to be read.
    pub const fn only(self) -> Option<Server> {
        match self {
            MtaChoice::Auto => None,
            MtaChoice::Postfix => Some(Server::Postfix),
            MtaChoice::Exim => Some(Server::Exim),
        }
    }
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  sendwarden run\n  sendwarden run --config /etc/sendwarden/config.yaml\n\n\
Signals: SIGTERM and SIGINT stop cleanly; SIGHUP reads the configuration again (a bad one is refused and the old \
one stays).\nWithout --config: /etc/sendwarden/config.yaml if it exists, else built-in defaults. State: \
/var/lib/sendwarden as root, else the XDG state directory.\n\n\
Exit status: 0 stopped by a signal, 1 failed, 2 wrong usage or configuration.")]
pub struct RunArgs {
    /// Configuration file
    #[arg(long, value_name = "F")]
    pub config: Option<PathBuf>,
    /// Move a damaged store aside and begin with an empty one
    #[arg(long)]
    pub new_store: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  sendwarden check\n  \
sendwarden check --config /etc/sendwarden/config.yaml --lines 1000000\n\n\
Run it as the user the agent runs as; it opens nothing for writing.\n\
Exit status: 0 the agent can do its work, 1 something keeps it from it, 2 wrong usage or configuration.")]
pub struct CheckArgs {
    /// Configuration file
    #[arg(long, value_name = "F")]
    pub config: Option<PathBuf>,
    /// Lines at the end of each log that are looked at
    #[arg(long, default_value_t = 100_000, value_name = "N")]
    pub lines: usize,
    /// For people or for programs
    #[arg(long, value_enum, default_value = "text")]
    pub format: Format,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  sendwarden demo\n  sendwarden demo --listen 127.0.0.1:0 --speed 600\n\n\
Stop it with Ctrl-C; it leaves nothing behind.\n\
Exit status: 0 stopped, 1 failed, 2 wrong usage or configuration.")]
pub struct DemoArgs {
    /// Address of the figures
    #[arg(long, default_value = "127.0.0.1:10925", value_name = "ADDR")]
    pub listen: std::net::SocketAddr,
    /// Seconds of recorded traffic per second
    #[arg(long, default_value_t = 60, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub speed: u32,
}

/// Where to ask; shared by all commands that ask an agent.
#[derive(Debug, Args)]
pub struct AskArgs {
    /// Configuration of the agent that is asked (for its state directory)
    #[arg(long, value_name = "F", global = true)]
    pub config: Option<PathBuf>,
    /// State directory of the agent that is asked
    #[arg(long, value_name = "DIR", global = true)]
    pub state_dir: Option<PathBuf>,
    /// For people or for programs
    #[arg(long, value_enum, default_value = "text", global = true)]
    pub format: Format,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  sendwarden status\n  sendwarden status web1\n  sendwarden status --format json | jq .totals\n\n\
Without an agent, the figures of its last commit are shown.\n\
Exit status: 0 done, 1 failed, 2 wrong usage or configuration."
)]
pub struct StatusArgs {
    /// Account; without one, the host
    pub account: Option<String>,
    #[command(flatten)]
    pub ask: AskArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  sendwarden history web1 --days 90\n\n\
Exit status: 0 done, 1 failed, 2 wrong usage or configuration.")]
pub struct HistoryArgs {
    /// Its name, as `account list` shows it
    pub account: String,
    /// Days, today included
    #[arg(long, default_value = "30", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=3660))]
    pub days: u32,
    #[command(flatten)]
    pub ask: AskArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  sendwarden errors web1 --limit 100\n\n\
Exit status: 0 done, 1 failed, 2 wrong usage or configuration.")]
pub struct ErrorsArgs {
    /// Its name, as `account list` shows it
    pub account: String,
    #[arg(long, default_value = "20", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub limit: u32,
    #[command(flatten)]
    pub ask: AskArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  sendwarden trace 4jY2SQ3blzz5bcl\n  sendwarden trace '<20261123@site.test>'\n  \
sendwarden trace someone@example.org --since 2d\n\n\
Exit status: 0 found, 1 nothing found or failed, 2 wrong usage or configuration.")]
pub struct TraceArgs {
    /// Queue id, Message-ID or recipient
    #[arg(value_name = "QUEUE_ID|MESSAGE_ID|RECIPIENT")]
    pub what: String,
    /// Only messages with activity after this time (2026-11-23T10:00:00Z) or within this span (2h, 3d)
    #[arg(long, value_name = "T")]
    pub since: Option<String>,
    #[command(flatten)]
    pub ask: AskArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  sendwarden block web1 --reason 'hacked form'\n  \
sendwarden block web1 --scope login:box@shop.example --for 24h\n\n\
Needs a running agent, and its user or root. Nothing is lost: held mail waits to be released or purged.\n\
A block with --for ends in an unblock, never in a purge.\n\
Exit status: 0 done, 1 failed, 2 wrong usage or configuration.")]
pub struct BlockArgs {
    /// Its name, as `account list` shows it; also one of the accounts file, or a unix user, that has not sent yet
    pub account: String,
    /// script (what programs send, without a login), all, or login:LOGIN [default: script]
    #[arg(long, value_name = "SCOPE", value_parser = scope)]
    pub scope: Option<String>,
    /// Why; shown with the account
    #[arg(long, value_name = "R")]
    pub reason: Option<String>,
    /// Ends by itself after this: 30m, 24h, 7d
    #[arg(long = "for", value_name = "TIME", value_parser = block_time)]
    pub span: Option<String>,
    #[command(flatten)]
    pub ask: AskArgs,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  sendwarden unblock web1\n  sendwarden unblock web1 --drip 50/h\n  sendwarden unblock web1 --sender shop@site.test --dry-run\n\nNeeds a running agent, and its user or root. \
Only what the agent holds is released, never an administrator's own holds.\n\
Exit status: 0 done, 1 failed, 2 wrong usage or configuration."
)]
pub struct UnblockArgs {
    /// Its name, as `account list` shows it
    pub account: String,
    /// Release what is held slowly, the oldest first: at most N messages an hour. New mail goes out at once
    #[arg(long, value_name = "N/h", value_parser = per_hour, conflicts_with = "part")]
    pub drip: Option<u32>,
    #[command(flatten)]
    pub part: PartArgs,
    /// Why; kept in the order log
    #[arg(long, value_name = "R")]
    pub reason: Option<String>,
    #[command(flatten)]
    pub ask: AskArgs,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  sendwarden purge web1\n  sendwarden purge web1 --script wp-mail.php\n\nNeeds a running agent, and its user or root. \
It asks before it does it. Only what the agent holds is deleted.\n\
Exit status: 0 done, 1 failed, 2 wrong usage or configuration."
)]
pub struct PurgeArgs {
    /// Account whose held mail is deleted
    pub account: String,
    /// Why; kept in the order log
    #[arg(long, value_name = "R")]
    pub reason: Option<String>,
    /// Do it without asking
    #[arg(long)]
    pub yes: bool,
    #[command(flatten)]
    pub part: PartArgs,
    #[command(flatten)]
    pub ask: AskArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  sudo sendwarden test-hold web1\n  sudo sendwarden test-hold --user web1\n\n\
Holds the account, hands a message in by each way into Postfix and Exim that needs no password, as the account's unix user, sees \
each on hold in the queue, deletes exactly these and lifts the block. The recipients are in sendwarden.invalid, the sender \
is the null sender: what gets through reaches nobody. An account that is blocked already stays so. Needs root and a running \
agent; other mail that the account sends meanwhile is held for these seconds.\n\
Exit status: 0 all were held, 1 a way bypasses the gate or it could not be proven, 2 wrong usage or configuration.")]
pub struct TestHoldArgs {
    /// Account [default: the one that the user's mail is of]
    pub account: Option<String>,
    /// Unix user as whom mail is handed in [default: the account's]
    #[arg(long, value_name = "USER")]
    pub user: Option<String>,
    #[command(flatten)]
    pub ask: AskArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  sudo sendwarden helper --user sendwarden\n\n\
Runs as root beside `sendwarden run`, which is then an ordinary user. It answers on a unix socket, and only root and that \
user, by the credentials that the kernel gives. It does this and nothing else: put messages of Postfix's or Exim's queue on \
hold, release and delete them by id, say whom those on hold are from and for and which user handed in a message that comes \
in, count and list the queue, wake qmgr, and keep the gate's listening socket while the agent is restarted. It starts \
postsuper, postqueue, postconf and exim, never a shell; instances are those that it finds at its start; a request with one \
wrong id is refused whole.\n\n\
Configuration (queue.config_directories, queue.exim_program, helper.socket, log_level), Postfix's directories, Exim's \
program and the socket's directory must be such that only root can change them. An agent that is root needs no helper.\n\
Exit status: 1 failed, 2 wrong usage or configuration; it ends by a signal.")]
pub struct HelperArgs {
    /// Configuration file, the agent's
    #[arg(long, value_name = "F")]
    pub config: Option<PathBuf>,
    /// Where it listens [default: helper.socket of the configuration]
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// The user that the agent runs as
    #[arg(long, default_value = crate::host::helper::USER, value_name = "USER")]
    pub user: String,
}

#[derive(Debug, Subcommand)]
#[command(
    after_help = "Examples:\n  sendwarden setup postfix\n  sudo sendwarden setup postfix --apply\n  sudo sendwarden setup exim --undo\n\n\
Exit status: 0 done, 1 failed or refused, 2 wrong usage."
)]
pub enum SetupCommand {
    /// The gate in main.cf and master.cf, of all instances
    Postfix(SetupPostfixArgs),
    /// The rules in Exim's configuration that look for the flags of who is held
    Exim(SetupEximArgs),
}

/// What is to be done; nothing named: show it.
#[derive(Debug, Clone, Copy, Args)]
#[group(multiple = false)]
pub struct SetupAction {
    /// Show what would be changed, and change nothing [default]
    #[arg(long)]
    pub print: bool,
    /// Make the change, after the server's own checker has passed it, and reload
    #[arg(long)]
    pub apply: bool,
    /// Take out what --apply put in, and nothing else
    #[arg(long)]
    pub undo: bool,
}

/// Whether a service's mail passes or waits while no agent answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum WhenAway {
    Accept,
    Tempfail,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  sendwarden setup postfix\n  sudo sendwarden setup postfix --apply\n  \
sudo sendwarden setup postfix --undo --config-directory /etc/postfix-out\n\n\
Lists of milters that are there are added to, never replaced. Of each file that changes a copy is kept beside it.\n\
Exit status: 0 done or nothing to do, 1 failed or refused, 2 wrong usage.")]
pub struct SetupPostfixArgs {
    #[command(flatten)]
    pub action: SetupAction,
    /// Configuration directory of an instance; may be given several times [default: all that Postfix names]
    #[arg(long, value_name = "DIR")]
    pub config_directory: Vec<PathBuf>,
    /// What becomes of mail of logins while no agent answers
    #[arg(long, value_enum, default_value = "accept", value_name = "ACTION")]
    pub submission: WhenAway,
    /// Apply though no agent answers yet: what scripts hand over waits until one does
    #[arg(long)]
    pub ahead: bool,
}

/// What `gate.exim_flags` is by default.
pub const EXIM_FLAGS: &str = "/var/lib/sendwarden-gate";

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  sendwarden setup exim\n  sudo sendwarden setup exim --apply\n\n\
A configuration in one file of your own is changed. Where a panel or Debian's tools write it (cPanel, DirectAdmin, Hestia, \
/etc/exim4/conf.d), the text and its persistent places are shown, and --apply is refused.\n\
Exit status: 0 done or nothing to do, 1 failed or refused, 2 wrong usage.")]
pub struct SetupEximArgs {
    #[command(flatten)]
    pub action: SetupAction,
    /// Exim's program [default: where distributions and panels put it]
    #[arg(long, value_name = "FILE")]
    pub program: Option<PathBuf>,
    /// Directory of the flags, as `gate.exim_flags` has it
    #[arg(long, value_name = "DIR", default_value = EXIM_FLAGS)]
    pub flags: PathBuf,
}

const CLOSE: &str = "\
Example:
  sendwarden account close web1

Exit status: 0 done, 1 failed, 2 wrong usage or configuration.";
const EXPORT: &str = "\
Example:
  sendwarden account export web1 > web1.json

Exit status: 0 done, 1 failed, 2 wrong usage or configuration.";

#[derive(Debug, Subcommand)]
#[command(
    after_help = "Examples:\n  sendwarden account list --sort errors\n  sendwarden account rename web1 web17\n\n\
Exit status: 0 done, 1 failed, 2 wrong usage or configuration."
)]
pub enum AccountCommand {
    /// All known accounts with their figures
    List(AccountListArgs),
    /// Give an account another name; figures and history stay with it
    Rename(AccountRenameArgs),
    /// Mark an account as closed; its figures stay
    #[command(after_help = CLOSE)]
    Close(AccountNameArgs),
    /// Erase an account everywhere: figures, history, errors and index entries
    Forget(AccountForgetArgs),
    /// Everything that is kept about an account, as JSON
    #[command(after_help = EXPORT)]
    Export(AccountNameArgs),
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  sendwarden account list\n  sendwarden account list shop --sort errors\n\n\
Exit status: 0 done, 1 failed, 2 wrong usage or configuration.")]
pub struct AccountListArgs {
    /// Only names that contain this
    pub contains: Option<String>,
    /// account, messages, recipients, sent, sent_today, errors, deferred, queued or held
    #[arg(long, value_name = "COLUMN")]
    pub sort: Option<String>,
    #[command(flatten)]
    pub ask: AskArgs,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  sendwarden account rename web1 web17\n\nNeeds a running agent, and its user or root.\n\
Exit status: 0 done, 1 failed, 2 wrong usage or configuration."
)]
pub struct AccountRenameArgs {
    /// Its name now
    pub account: String,
    /// Its new name
    pub to: String,
    #[command(flatten)]
    pub ask: AskArgs,
}

#[derive(Debug, Args)]
pub struct AccountNameArgs {
    /// Its name, as `account list` shows it
    pub account: String,
    #[command(flatten)]
    pub ask: AskArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  sendwarden account forget web1\n\nNeeds a running agent, and its user or root. \
It asks before it does it.\nExit status: 0 done, 1 failed, 2 wrong usage or configuration.")]
pub struct AccountForgetArgs {
    /// Account that is erased
    pub account: String,
    /// Do it without asking
    #[arg(long)]
    pub yes: bool,
    #[command(flatten)]
    pub ask: AskArgs,
}

/// Reads the command line and does what it says.
pub fn main() -> Exit {
    match Cli::try_parse() {
        Ok(cli) => match cli.command {
            Command::Run(args) => commands::run::run(&args),
            Command::Check(args) => commands::check::run(&args),
            Command::Demo(args) => commands::demo::run(&args),
            Command::Replay(args) => commands::replay::run(&args),
            Command::Suggest(args) => commands::suggest::run(&args),
            Command::Status(args) => commands::status::run(&args),
            Command::History(args) => commands::history::run(&args),
            Command::Errors(args) => commands::errors::run(&args),
            Command::Trace(args) => commands::trace::run(&args),
            Command::Block(args) => commands::order::block(&args),
            Command::Unblock(args) => commands::order::unblock(&args),
            Command::Purge(args) => commands::order::purge(&args),
            Command::Verdicts(args) => commands::verdicts::run(&args),
            Command::Enforcement(args) => commands::rules::enforcement(&args),
            Command::Undo(args) => commands::rules::undo(&args),
            Command::TestHold(args) => commands::test_hold::run(&args),
            Command::Helper(args) => commands::helper::run(&args),
            Command::Setup(command) => commands::setup::run(&command),
            Command::Account(command) => commands::account::run(&command),
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

/// Only these of the messages on hold; the block stands. All that is said must be so.
#[derive(Debug, Args, Default)]
#[group(id = "part", multiple = true)]
pub struct PartArgs {
    /// Only messages of this script: its path, or the end of it
    #[arg(long, value_name = "PATH", help_heading = "Only some of what is held (the block stands)")]
    pub script: Option<String>,
    /// Only messages with this envelope sender; <> is the null sender
    #[arg(long, value_name = "ADDRESS", help_heading = "Only some of what is held (the block stands)")]
    pub sender: Option<String>,
    /// Only messages with a recipient in this domain
    #[arg(long, value_name = "DOMAIN", help_heading = "Only some of what is held (the block stands)")]
    pub recipient_domain: Option<String>,
    /// Only messages on hold for so long (a number with m, h or d)
    #[arg(long, value_name = "AGE", help_heading = "Only some of what is held (the block stands)")]
    pub older_than: Option<String>,
    /// Only count them
    #[arg(long, help_heading = "Only some of what is held (the block stands)")]
    pub dry_run: bool,
}

impl PartArgs {
    /// A part is meant.
    pub fn any(&self) -> bool {
        let texts = [&self.script, &self.sender, &self.recipient_domain, &self.older_than];
        self.dry_run || texts.into_iter().any(Option::is_some)
    }
}

fn scope(text: &str) -> Result<String, &'static str> {
    super::orders::scope(text).map(|_| text.to_owned())
}

fn block_time(text: &str) -> Result<String, &'static str> {
    super::orders::block_secs(text).map(|_| text.to_owned())
}

/// `50/h`: a number of messages an hour.
fn per_hour(text: &str) -> Result<u32, String> {
    let number = text.strip_suffix("/h").and_then(|number| number.parse().ok()).filter(|number| *number > 0);
    number.ok_or_else(|| "write a number of messages an hour, such as 50/h".to_owned())
}
