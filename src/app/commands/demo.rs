//! `sendwarden demo`: the agent on recorded traffic, in a directory of its own that goes when it stops.
//!
//! It touches neither the mail server of this host nor the state of an agent that runs here.

use super::ask::{Question, Source};
use super::{complain, counted, items, number, run::log_to_stderr, status, words};
use crate::app::cli::{AskArgs, DemoArgs, Format};
use crate::app::demo::{self, Scratch};
use crate::app::{Exit, agent, setup};
use crate::web::api::AccountsQuery;
use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

/// Between two tables.
const EVERY: Duration = Duration::from_secs(5);

pub fn run(args: &DemoArgs) -> Exit {
    let failed = |why: String| {
        complain(&why);
        Exit::Failed
    };
    // What the agent says about itself is not what is to be seen here, unless something is wrong.
    log_to_stderr("warn");
    let scratch = match Scratch::new() {
        Ok(scratch) => scratch,
        Err(why) => return failed(format!("demo: cannot make a directory for temporary files: {why}; set TMPDIR")),
    };
    let done = play(args, scratch.path());
    drop(scratch);
    done.unwrap_or_else(failed)
}

fn play(args: &DemoArgs, dir: &Path) -> Result<Exit, String> {
    let config =
        write_files(dir, args.listen).map_err(|why| format!("demo: cannot write in {}: {why}", dir.display()))?;
    let setup = setup::load(Some(&config))?;
    let log = dir.join("mail.log");
    let state_dir = setup.state_dir.clone();
    let speed = args.speed;
    let (stop_writer, writer_stopped) = channel::<()>();
    let writer = std::thread::spawn(move || demo::play(&log, speed, &writer_stopped));
    let (bound, addresses) = channel();
    let (stop_table, table_stopped) = channel::<()>();
    let table = std::thread::spawn(move || {
        // The sender goes without a word when the agent could not start.
        if let Ok(address) = addresses.recv() {
            show(address, speed, &state_dir, &table_stopped);
        }
    });
    let start = agent::Start { config: Some(config), bound: Some(bound), ..agent::Start::default() };
    let ended = agent::run(setup, start);
    drop((stop_writer, stop_table));
    let written = writer.join().unwrap_or(Ok(()));
    if table.join().is_err() {
        tracing::debug!("the table ended by a fault");
    }
    written.map_err(|why| format!("demo: cannot write the log in {}: {why}", dir.display()))?;
    ended.map_err(|why| match why.contains("cannot listen on") {
        true => format!(
            "demo: cannot listen on {}: the port is in use (by an agent, perhaps) or not this host's; take any free \
             port with: sendwarden demo --listen 127.0.0.1:0",
            args.listen
        ),
        false => why,
    })
}

/// The configuration of the demonstration: everything in `dir`.
fn write_files(dir: &Path, listen: SocketAddr) -> std::io::Result<PathBuf> {
    let quoted = |name: &str| serde_json::Value::from(dir.join(name).to_string_lossy().into_owned()).to_string();
    for queue in ["maildrop", "incoming", "active", "deferred", "hold"] {
        std::fs::create_dir_all(dir.join("queue").join(queue))?;
    }
    std::fs::write(dir.join("accounts.yaml"), demo::ACCOUNTS)?;
    let config = dir.join("config.yaml");
    let text = format!(
        "logs:\n  - path: {}\nstate_dir: {}\nlisten: \"{listen}\"\naccounts_file: {}\nlog_level: warn\n\
         metrics:\n  public: true\nqueue:\n  directories: [{}]\n  config_directories: [{}]\n",
        quoted("mail.log"),
        quoted("state"),
        quoted("accounts.yaml"),
        quoted("queue"),
        // No mail server: an order in the demonstration must not reach this host's.
        quoted("no-mail-server"),
    );
    std::fs::write(&config, text)?;
    Ok(config)
}

/// The welcome, then a table every few seconds. When nobody reads any more, the demonstration ends.
fn show(address: SocketAddr, speed: u32, state_dir: &Path, stop: &Receiver<()>) {
    let mut out = std::io::stdout();
    let welcome = format!(
        "sendwarden demo: an hour of a mail server with eight hosting accounts, at {speed} times its speed, for ever.\n\
         The log is recorded; all else is the real agent.\n\n  \
         page     http://{address}/\n  metrics  http://{address}/metrics\n\n\
         Ask it from another terminal:\n  \
         sendwarden status gamesclub --state-dir {dir}\n  \
         sendwarden errors gamesclub --state-dir {dir}\n  \
         sendwarden trace parents@shut.example --state-dir {dir}\n\n\
         Ctrl-C stops it and removes everything it wrote.\n",
        dir = state_dir.display()
    );
    let mut drawn = 0;
    let mut text = welcome;
    let redraw = out.is_terminal();
    while out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_ok() {
        if stop.recv_timeout(EVERY) != Err(RecvTimeoutError::Timeout) {
            return;
        }
        let Some(table) = table(state_dir) else { return };
        let up = if redraw && drawn > 0 { format!("\x1b[{drawn}A\x1b[J") } else { String::new() };
        drawn = table.matches('\n').count();
        text = format!("{up}{table}");
    }
    if let Err(why) = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::TERM) {
        tracing::error!("cannot stop: {why}");
    }
}

fn table(state_dir: &Path) -> Option<String> {
    let ask = AskArgs { config: None, state_dir: Some(state_dir.to_owned()), format: Format::Text };
    let source = Source::new(&ask).ok()?;
    let accounts = source.ask(&Question::Accounts(AccountsQuery::default())).ok()?;
    let host = source.ask(&Question::Status).ok()?;
    let totals = host.get("totals").cloned().unwrap_or_default();
    let sources = items(&host, "sources").iter().filter(|source| !words(source, "name").is_empty());
    let lines = sources.map(|source| number(source, "lines")).sum();
    Some(format!(
        "\n{}{}, {} sent, {} in error; {}\n",
        status::table(items(&accounts, "accounts")),
        counted(number(&totals, "messages"), "message", "messages"),
        counted(number(&totals, "sent"), "recipient", "recipients"),
        number(&totals, "bounced") + number(&totals, "expired"),
        counted(lines, "log line", "log lines"),
    ))
}
