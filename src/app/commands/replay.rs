//! `sendwarden replay`: old logs through the very engine of the agent. Touches no state, opens no socket.

mod against;
mod files;
mod held;
mod read;
mod table;
mod verdicts;

use super::{complain, counted, grouped, say};
use crate::app::Exit;
use crate::app::cli::{Format, ReplayArgs};
use crate::mail::{Counts, Owner};
pub(super) use files::Lines;
pub(super) use read::{Done, Side, read};
use serde_json::{Map, Value, json};
pub(super) use verdicts::{number, stamp};

/// Reads all files in the order of their first stamps and prints who sent what, and what rules would have done.
pub fn run(args: &ReplayArgs) -> Exit {
    let mut sides = Vec::new();
    for config in std::iter::once(args.config.as_deref()).chain(args.against.as_deref().map(Some)) {
        match Side::new(config, &args.logs) {
            Ok(side) => sides.push(side),
            Err(why) => {
                complain(&why);
                return Exit::Usage;
            }
        }
    }
    let done = match read("replay", &args.logs, args.format == Format::Json, &mut sides) {
        Ok(done) => done,
        Err(exit) => return exit,
    };
    let (Some(side), before) = (sides.first(), sides.get(1)) else { return Exit::Failed };
    for side in &sides {
        let left = side.trial.without_room + side.engine.rules.without_room;
        if left > 0 {
            complain(&format!("replay: there was no room for all that rules count: {} left out", grouped(left)));
        }
    }
    let compared = before.map(|before| against::Compared::new(side, before));
    let said = match args.format {
        Format::Json => {
            let mut answer = json_of(side, &done);
            if let (Some(compared), Some(answer)) = (&compared, answer.as_object_mut()) {
                answer.insert("against".to_owned(), compared.json());
            }
            say(&answer.to_string())
        }
        Format::Text => {
            let other = args.against.as_deref().unwrap_or(std::path::Path::new("")).display();
            let compared = compared.map(|compared| compared.text(&other.to_string())).unwrap_or_default();
            say(&(text_of(side, &done, args.config.is_some()) + &compared))
        }
    };
    // The figures are right for what was read; that it was not all, a script must see.
    if done.broken > 0 { Exit::Failed } else { said }
}

fn counts_json(counts: &Counts) -> Value {
    json!({
        "messages": counts.messages, "recipients": counts.recipients, "sent": counts.sent,
        "bounced": counts.bounced, "expired": counts.expired, "deleted": counts.deleted,
        "unaccounted": counts.unaccounted, "deferred": counts.deferred, "queued": counts.queued,
        "held": counts.held, "late_errors": counts.late_errors,
    })
}

fn json_of(side: &Side, done: &Done) -> Value {
    let Side { engine, ingest, trial } = side;
    let (lines, seconds) = (ingest.counts, done.seconds);
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
        "verdicts": trial.tried().iter().map(|tried| verdicts::json(engine, tried)).collect::<Vec<Value>>(),
        "would_hold": held::json(side),
        "seconds": (seconds * 1_000.0).round() / 1_000.0,
        "bytes": done.bytes,
    })
}

/// Most accounts shown in the text form.
const SHOWN: usize = 40;

fn text_of(side: &Side, done: &Done, configured: bool) -> String {
    let Side { engine, ingest, trial } = side;
    let seconds = done.seconds;
    let mut out = String::new();
    let lines = ingest.counts;
    let rate = lines.total as f64 / seconds.max(1e-9);
    out.push_str(&format!(
        "{}, {:.1} MB in {seconds:.2} s ({:.1} million lines/s): {} about mail, {} not understood\n\n",
        counted(lines.total, "line", "lines"),
        done.bytes as f64 / 1e6,
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
    out.push_str(&verdicts::text(engine, trial.tried()));
    out.push_str(&held::text(side, configured));
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
    out.truncate(out.trim_end().len());
    out
}
