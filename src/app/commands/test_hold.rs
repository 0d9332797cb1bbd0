//! `sendwarden test-hold`: proves the chain. A marked message is handed in by every way in that needs no password, while
//! its account is held; each must be on hold in the queue, by the gate. Then exactly these are deleted, and the account is
//! as it was before.
//!
//! The recipient is in a domain that does not exist, and the sender is the null sender: what gets through reaches nobody
//! and bounces to nobody. Whatever happens, also Ctrl-C, the messages are deleted and the block is lifted; should this
//! process be killed, the block ends by itself after ten minutes.

mod exim;
mod order;
mod queue;
mod ways;

use super::ask::Source;
use super::{complain, pretty, say};
use crate::app::cli::{Format, TestHoldArgs};
use crate::app::setup::Setup;
use crate::app::{Exit, ingest, instances, setup};
use crate::engine::attribution::{User, Wanted};
use crate::engine::keys;
use crate::host::names::{self, Names};
use crate::host::{clock, probe};
use order::Account;
use queue::Queue;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use ways::{How, Way};

/// The domain of the recipients; it never exists (RFC 2606).
const DOMAIN: &str = "sendwarden.invalid";

/// How long a message may take from sendmail(1) into the queue, and from a server that has taken it.
const HANDED: Duration = Duration::from_secs(10);
const TAKEN: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(20);

/// What was found of a way in.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Found {
    /// On hold, and no sooner anywhere else.
    Held,
    /// It got in, and was not held.
    Passed(String),
    /// Nothing gets in there without a login.
    Closed(String),
    /// It waits outside of the queue: nobody decides about it now.
    Waits(String),
    Untried(String),
}

impl Found {
    const fn name(&self) -> &'static str {
        match self {
            Found::Held => "held",
            Found::Passed(_) => "PASSED",
            Found::Closed(_) => "closed",
            Found::Waits(_) => "WAITS",
            Found::Untried(_) => "untried",
        }
    }

    fn text(&self) -> &str {
        match self {
            Found::Held => "",
            Found::Passed(text) | Found::Closed(text) | Found::Waits(text) | Found::Untried(text) => text,
        }
    }
}

pub fn run(args: &TestHoldArgs) -> Exit {
    if !rustix::process::geteuid().is_root() {
        complain("test-hold hands mail in as another user, and deletes it from the queue: only root can");
        return Exit::Failed;
    }
    let setup = match setup::load(args.ask.config.as_deref()) {
        Ok(setup) => setup,
        Err(why) => {
            complain(&why);
            return Exit::Usage;
        }
    };
    let source = match Source::new(&args.ask) {
        Ok(source) => source,
        Err(exit) => return exit,
    };
    let key = args.account.as_ref().map(|name| order::key_of(&source, name));
    let (account, user) = match subject(key, args.user.as_ref(), &setup) {
        Ok(subject) => subject,
        Err(why) => {
            complain(&why);
            return Exit::Usage;
        }
    };
    let all = match every_way(&setup) {
        Ok(all) => all,
        Err(why) => {
            complain(&format!("nothing was tried: {why}"));
            return Exit::Failed;
        }
    };
    let stop = interrupted();
    let mut account = match Account::hold(&source, &account) {
        Ok(account) => account,
        Err(why) => {
            complain(&format!("nothing was tried: {why}"));
            return Exit::Failed;
        }
    };
    let token = format!("{:016x}", clock::seed());
    let before = account.held_by_gate();
    let mut found: Vec<(String, Found)> = Vec::new();
    for (n, way) in all.iter().enumerate() {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let recipient = format!("test-hold-{n}-{token}@{DOMAIN}");
        found.push((way.name.clone(), attempt(way, &user, &recipient, &token, &stop)));
    }
    let held = found.iter().filter(|(_, found)| *found == Found::Held).count() as u64;
    // The sweep after a block holds what has slipped past the gate; that is no proof of the gate.
    let by_gate = account.wait_held_by_gate(before, held, &stop);
    let queues: Vec<Queue> = all.iter().map(|way| way.queue.clone()).collect();
    let troubles = clean_up(&mut account, &queues, &token, held);
    let stopped = stop.load(Ordering::Relaxed);
    told(args, &account, &user, &found, by_gate.min(held), held, &troubles, stopped)
}

/// The ways into each mail server of this host whose log is read.
fn every_way(setup: &Setup) -> Result<Vec<Way>, String> {
    let mut all = Vec::new();
    if setup.doors {
        for directory in instances::directories(&setup.mail_servers.postfix) {
            all.extend(ways::of(&directory)?);
        }
    }
    let program = setup.flags.as_ref().and_then(|_| instances::program(setup.mail_servers.exim.as_deref()).ok());
    if let Some(program) = program {
        all.extend(exim::of(&program)?);
    }
    match all.is_empty() {
        true => Err("no mail server was found on this host".to_owned()),
        false => Ok(all),
    }
}

/// What the account's mail is known by, and the unix user whose mail is its.
fn subject(account: Option<String>, user: Option<&String>, setup: &Setup) -> Result<(String, User), String> {
    let mut host = Names::of_host(setup.name_timeout);
    let listed = account.as_ref().and_then(|id| setup.directory.accounts().iter().find(|spec| spec.id == *id));
    let named = match (user, &account, listed) {
        (Some(user), ..) => user.to_owned(),
        (None, Some(_), Some(spec)) if !spec.unix_users.is_empty() => {
            spec.unix_users.first().cloned().unwrap_or_default()
        }
        (None, Some(account), None) => account.clone(),
        (None, Some(account), Some(_)) => {
            return Err(format!(
                "the accounts file names no unix user of {account}; name one whose mail is its: --user USER"
            ));
        }
        (None, None, _) => {
            return Err("name an account, or a unix user whose mail an account's is: --user USER".to_owned());
        }
    };
    let user = ingest::user(&mut host, Wanted::Login(named.as_bytes()))
        .ok_or_else(|| format!("this host has no user {named}; name one whose mail is the account's: --user USER"))?;
    let key = keys::of_uid(&setup.directory, user.uid, Some(&user));
    let whose = key.text().ok_or_else(|| {
        format!("the mail of {named} is no account's, so that it is never held: name a user of a customer's")
    })?;
    match &account {
        Some(account) if account != whose => {
            Err(format!("the mail of user {named} is account {whose}'s, not {account}'s"))
        }
        _ => Ok((whose.to_owned(), user)),
    }
}

fn attempt(way: &Way, user: &User, recipient: &str, token: &str, stop: &AtomicBool) -> Found {
    let text = format!(
        "From: MAILER-DAEMON@{DOMAIN}\nTo: {recipient}\nSubject: sendwarden test-hold\nX-Sendwarden-Test-Hold: {token}\n\n\
         A message of `sendwarden test-hold`. It should be on hold, and is deleted at once.\n"
    );
    let ids = (user.uid, names::group_of(user.uid).unwrap_or(user.uid));
    let patience = match &way.how {
        How::Untried(why) => return Found::Untried(why.clone()),
        How::Sendmail(argv) => {
            let argv: Vec<String> = argv.iter().cloned().chain([recipient.to_owned()]).collect();
            match crate::host::exec::run_as(&argv, text.as_bytes(), HANDED, ids) {
                Ok(output) if output.status.success() => HANDED,
                Ok(output) => {
                    let said = crate::mail::text::clean(output.stderr.trim_ascii(), 200);
                    return Found::Closed(format!("sendmail(1) ended with {}: {said}", output.status));
                }
                Err(why) => return Found::Closed(why.to_string()),
            }
        }
        How::Conversation(argv) => {
            match crate::host::exec::run_as(argv, conversation(recipient, &text).as_bytes(), HANDED, ids) {
                Ok(output) if memchr::memmem::find(&output.stdout, b"250 OK id=").is_some() => TAKEN,
                Ok(output) => {
                    let last = output
                        .stdout
                        .trim_ascii()
                        .rsplit(|byte| *byte == b'\n')
                        .find(|line| line.first() != Some(&b'2'));
                    return Found::Closed(crate::mail::text::clean(last.unwrap_or(b"no answer"), 200));
                }
                Err(why) => return Found::Closed(why.to_string()),
            }
        }
        How::Smtp(address) => match probe::hand_in(*address, ids, recipient, &text, HANDED) {
            probe::Answer::Taken(_) => TAKEN,
            probe::Answer::Refused(said) => return Found::Closed(said),
            probe::Answer::Nobody => return Found::Untried("nobody listens there".to_owned()),
        },
    };
    let began = clock::monotonic();
    loop {
        match way.queue.find(recipient) {
            Ok(Some(one)) if one.queue == "hold" => return Found::Held,
            Ok(Some(one)) => {
                return Found::Passed(format!("{} was taken, and is in the queue `{}`", one.id, one.queue));
            }
            Err(why) => return Found::Waits(why),
            Ok(None) if stop.load(Ordering::Relaxed) => return Found::Waits("interrupted".to_owned()),
            Ok(None) if began.elapsed() < patience => std::thread::park_timeout(LOOK),
            Ok(None) if way.queue.waits_outside(token) => {
                return Found::Waits("it waits in maildrop: does the gate answer?".to_owned());
            }
            Ok(None) => return Found::Passed("it was taken, and has left the queue already".to_owned()),
        }
    }
}

/// One message over SMTP, all at once; the text has no line that begins with a dot.
fn conversation(recipient: &str, text: &str) -> String {
    let body = text.replace('\n', "\r\n");
    format!("EHLO localhost\r\nMAIL FROM:<>\r\nRCPT TO:<{recipient}>\r\nDATA\r\n{body}.\r\nQUIT\r\n")
}

/// Deletes the messages and lifts the block; what could not be done.
fn clean_up(account: &mut Account<'_>, queues: &[Queue], token: &str, held: u64) -> Vec<String> {
    let mut troubles = Vec::new();
    if let Err(why) = account.purge(DOMAIN, held) {
        // They are deleted all the same.
        complain(&format!("the agent did not delete what it holds: {why}"));
    }
    let mut done: Vec<&Queue> = Vec::new();
    for queue in queues {
        if !done.contains(&queue) {
            done.push(queue);
            troubles.extend(queue.delete_all(token).err());
        }
    }
    troubles.extend(account.let_go().err());
    troubles
}

/// Set by the first SIGINT, SIGTERM or SIGHUP: what was begun is cleaned up.
fn interrupted() -> Arc<AtomicBool> {
    use tokio::signal::unix::{SignalKind, signal};
    let stop = Arc::new(AtomicBool::new(false));
    let (set, (ready, listening)) = (Arc::clone(&stop), std::sync::mpsc::channel::<()>());
    let listen = move || {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
        runtime.block_on(async move {
            let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
            let [Ok(mut int), Ok(mut term), Ok(mut hup)] = kinds.map(signal) else { return };
            drop(ready);
            loop {
                tokio::select! { _ = int.recv() => {}, _ = term.recv() => {}, _ = hup.recv() => {} }
                set.store(true, Ordering::Relaxed);
            }
        });
    };
    if std::thread::Builder::new().name("signals".into()).spawn(listen).is_ok() {
        // Dropped when it listens, or cannot.
        let _ = listening.recv();
    }
    stop
}

#[allow(clippy::too_many_arguments, reason = "all that is told, once")]
fn told(
    args: &TestHoldArgs,
    account: &Account<'_>,
    user: &User,
    found: &[(String, Found)],
    by_gate: u64,
    held: u64,
    troubles: &[String],
    stopped: bool,
) -> Exit {
    let bad = found.iter().any(|(_, found)| matches!(found, Found::Passed(_) | Found::Waits(_)));
    let whole = held > 0 && by_gate == held && !bad && troubles.is_empty() && !stopped;
    if args.ask.format == Format::Json {
        let ways: Vec<_> = found
            .iter()
            .map(|(way, found)| json!({"way": way, "result": found.name(), "text": found.text()}))
            .collect();
        let printed = say(&pretty(&json!({
            "account": account.name, "user": user.login, "proven": whole, "ways": ways,
            "held": held, "held_by_the_gate": by_gate, "interrupted": stopped, "troubles": troubles,
        })));
        return if whole { printed } else { Exit::Failed };
    }
    let mut out = format!("{} (mail of user {}), {}\n", account.name, user.login, account.how());
    for (way, found) in found {
        let text = if found.text().is_empty() { String::new() } else { format!(": {}", found.text()) };
        out.push_str(&format!("{:<8} {way}{text}\n", found.name()));
    }
    if by_gate < held {
        out.push_str(&format!(
            "Only {by_gate} of {held} were held by the gate; the rest was put on hold in the queue after that.\n"
        ));
    }
    for trouble in troubles {
        out.push_str(&format!("LEFT BEHIND: {trouble}\n"));
    }
    out.push_str(match (whole, stopped) {
        (true, _) => "Mail by every way that was tried was held; it is deleted, and the account is as it was.",
        (false, true) => "Interrupted; what was handed in is deleted, and the account is as it was.",
        (false, false) if held == 0 => {
            "Nothing was held: a block of this account would not be in force; see sendwarden check."
        }
        (false, false) => {
            "Not all of it was held: mail of a blocked account gets out by the ways that PASSED; see sendwarden check."
        }
    });
    match say(&out) {
        Exit::Done if whole => Exit::Done,
        _ => Exit::Failed,
    }
}
