//! `sendwarden replay`: old logs through the very engine of the agent. Touches no state, opens no socket.

mod files;
mod table;
mod verdicts;

use super::{complain, counted, grouped, say};
use crate::app::cli::{Format, ReplayArgs};
use crate::app::ingest::{self, Ingest, LineCounts};
use crate::app::{Exit, setup};
use crate::engine::Engine;
use crate::engine::attribution::Wanted;
use crate::engine::directory::Directory;
use crate::engine::replies::Replies;
use crate::engine::rules::built_in;
use crate::engine::tracker::Settings;
use crate::host::clock;
use crate::host::follow;
use crate::host::names::Names;
use crate::mail::{Counts, Owner, Server, Verdict};
use crate::mta::any::Any;
pub(super) use files::Lines;
use files::{feed, in_order, stamps};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Map, Value, json};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

/// Reads all files in the order of their first stamps and prints who sent what.
pub fn run(args: &ReplayArgs) -> Exit {
    let (directory, replies, rules) = match &args.config {
        Some(path) => match setup::load(Some(path)) {
            Ok(setup) => (setup.directory, setup.replies, setup.rules),
            Err(why) => {
                complain(&why);
                return Exit::Usage;
            }
        },
        None => (Directory::default(), Replies::default(), built_in()),
    };
    let mut users = match passwd(args.passwd.as_deref()) {
        Ok(users) => users,
        Err(why) => {
            complain(&why);
            return Exit::Usage;
        }
    };
    let mut engine = Engine::new(Settings::default(), directory, replies, clock::seed());
    engine.rules.set(rules);
    let started = clock::monotonic();
    let only = args.mta.only();
    let named = without_doubles(&args.files);
    let files = match in_order(&named, only) {
        Ok(files) => files,
        Err(why) => {
            complain(&why);
            return Exit::Failed;
        }
    };
    let total: u64 = files.iter().map(|file| file.size).sum();
    let progress = progress(total, args.format);
    let mut ingest = Ingest::new(Any::new(stamps(clock::now()), only));
    let (mut bytes, mut broken) = (0, 0);
    let mut verdicts: Vec<Verdict> = Vec::new();
    for file in files {
        ingest.mta.set_reference(file.reference);
        let mut names = |wanted: Wanted<'_>| ingest::user(&mut users, wanted);
        let fed = feed(file, usize::from(args.jobs), &mut ingest, &mut engine, &mut names, &mut (), &progress);
        bytes += fed.bytes;
        if let Some(why) = fed.broken {
            broken += 1;
            progress.suspend(|| complain(&why));
        }
    }
    ingest.finish();
    engine.finish(&mut ());
    verdicts.append(&mut engine.rules.take_verdicts());
    progress.finish_and_clear();
    let seconds = started.elapsed().as_secs_f64();
    if broken == 0 {
        remarks(&args.files, only, ingest.counts).iter().for_each(|remark| complain(remark));
    }
    let said = match args.format {
        Format::Json => say(&json_of(&engine, &verdicts, ingest.counts, seconds, bytes).to_string()),
        Format::Text => say(&text_of(&engine, &verdicts, &ingest, seconds, bytes)),
    };
    // The figures are right for what was read; that it was not all, a script must see.
    if broken > 0 { Exit::Failed } else { said }
}

/// What somebody should know of an answer without figures.
fn remarks(files: &[PathBuf], only: Option<Server>, lines: LineCounts) -> Vec<String> {
    if lines.total == 0 {
        let names: Vec<String> = files.iter().map(|path| path.display().to_string()).collect();
        return vec![format!("replay: there is no line in {}: is it the right file?", names.join(", "))];
    }
    let Some(only) = only.filter(|_| lines.events == 0) else { return Vec::new() };
    let name = only.name();
    vec![format!("replay: no line is one of {name}'s (--mta {name}): without --mta, those of every server are read")]
}

/// Leaves out what would count twice: files whose content lies in another one that is named too.
fn without_doubles(named: &[PathBuf]) -> Vec<PathBuf> {
    if named.len() < 2 {
        return named.to_vec();
    }
    let mut left = named.to_vec();
    for (part, whole) in follow::doubles(named) {
        let again =
            if part == whole { "named twice".to_owned() } else { format!("all of it is in {}", whole.display()) };
        complain(&format!("replay: leaving out {}: {again}", part.display()));
        // Of one named twice, the later.
        if let Some(at) = left.iter().rposition(|path| *path == part) {
            left.remove(at);
        }
    }
    left
}

fn progress(total: u64, format: Format) -> ProgressBar {
    if !std::io::stderr().is_terminal() || (format == Format::Json && !std::io::stdout().is_terminal()) {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(total);
    let template = "{bar:30} {percent:>3}%  {bytes_per_sec}  {eta} left";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}

/// Names of uids, from a passwd file (by default this host's).
fn passwd(path: Option<&Path>) -> Result<Names, String> {
    let chosen = path.unwrap_or(Path::new("/etc/passwd"));
    match std::fs::read(chosen) {
        Ok(text) => Ok(Names::from_passwd(&String::from_utf8_lossy(&text))),
        Err(_) if path.is_none() => Ok(Names::none()),
        Err(why) => Err(format!("replay: cannot read the passwd file {}: {why}", chosen.display())),
    }
}

fn counts_json(counts: &Counts) -> Value {
    json!({
        "messages": counts.messages, "recipients": counts.recipients, "sent": counts.sent,
        "bounced": counts.bounced, "expired": counts.expired, "deleted": counts.deleted,
        "unaccounted": counts.unaccounted, "deferred": counts.deferred, "queued": counts.queued,
        "held": counts.held, "late_errors": counts.late_errors,
    })
}

fn json_of(engine: &Engine, verdicts: &[Verdict], lines: LineCounts, seconds: f64, bytes: u64) -> Value {
    let mut accounts = Map::new();
    let mut reasons = Map::new();
    let mut unattributed = Counts::default();
    for (owner, account) in engine.ledger.owners() {
        let name = engine.attribution.accounts.name(owner).to_owned();
        if owner.is_account() {
            accounts.insert(name, counts_json(&account.counts));
        } else {
            unattributed.add(&account.counts);
            reasons.insert(name, counts_json(&account.counts));
        }
    }
    json!({
        "lines": {"total": lines.total, "events": lines.events, "noise": lines.noise, "unknown": lines.unknown},
        "totals": counts_json(&engine.ledger.total()),
        "accounts": accounts,
        "unattributed": counts_json(&unattributed),
        "unattributed_by_reason": reasons,
        "verdicts": verdicts.iter().map(|verdict| verdicts::json(engine, verdict)).collect::<Vec<Value>>(),
        "seconds": (seconds * 1_000.0).round() / 1_000.0,
        "bytes": bytes,
    })
}

/// Most accounts shown in the text form.
const SHOWN: usize = 40;

fn text_of(engine: &Engine, verdicts: &[Verdict], ingest: &Ingest<Any>, seconds: f64, bytes: u64) -> String {
    let mut out = String::new();
    let lines = ingest.counts;
    let rate = lines.total as f64 / seconds.max(1e-9);
    out.push_str(&format!(
        "{}, {:.1} MB in {seconds:.2} s ({:.1} million lines/s): {} about mail, {} not understood\n\n",
        counted(lines.total, "line", "lines"),
        bytes as f64 / 1e6,
        rate / 1e6,
        grouped(lines.events),
        grouped(lines.unknown)
    ));
    let mut rows: Vec<(Owner, Counts)> = engine.ledger.owners().map(|(owner, a)| (owner, a.counts)).collect();
    rows.sort_by_key(|(owner, counts)| (!owner.is_account(), std::cmp::Reverse(counts.recipients), owner.0));
    let total = engine.ledger.total();
    let mut table = table::Table::new(&total);
    for (owner, counts) in rows.iter().filter(|(owner, _)| owner.is_account()).take(SHOWN) {
        table.row(engine.attribution.accounts.name(*owner), counts);
    }
    let accounts = rows.iter().filter(|(owner, _)| owner.is_account()).count();
    if accounts > SHOWN {
        let more = counted((accounts - SHOWN) as u64, "more account", "more accounts");
        table.text.push_str(&format!("  … and {more}: use --format json\n"));
    }
    for (owner, counts) in rows.iter().filter(|(owner, _)| !owner.is_account()) {
        table.row(&format!("({})", engine.attribution.accounts.name(*owner)), counts);
    }
    table.row("total", &total);
    out.push_str(&table.text);
    out.push_str(&verdicts::text(engine, verdicts));
    if !ingest.unknown.by.is_empty() {
        out.push_str("\nNot understood:\n");
        for ((daemon, why), n) in &ingest.unknown.by {
            out.push_str(&format!("  {n:>8}  {daemon} ({why})\n"));
        }
        for sample in ingest.unknown.samples.iter().take(3) {
            out.push_str(&format!("  for example: {sample}\n"));
        }
    }
    if lines.events == 0 && lines.total > 0 {
        out.push_str("\nNo line about mail was found. Is this the mail server's log?\n");
    }
    out.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_without_figures_says_why() {
        let files = [PathBuf::from("/a.log"), PathBuf::from("/b.log")];
        let lines = |total, events| LineCounts { total, events, ..LineCounts::default() };
        assert_eq!(
            remarks(&files, None, lines(0, 0)),
            ["replay: there is no line in /a.log, /b.log: is it the right file?"]
        );
        let other = remarks(&files, Some(Server::Exim), lines(9, 0));
        assert!(other.len() == 1 && other[0].contains("(--mta exim): without --mta"), "{other:?}");
        assert!(
            remarks(&files, Some(Server::Exim), lines(9, 1)).is_empty()
                && remarks(&files, None, lines(9, 0)).is_empty()
        );
    }
}
