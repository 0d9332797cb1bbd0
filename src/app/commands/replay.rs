//! `sendwarden replay`: old logs through the very engine of the agent. Touches no state, opens no socket.

mod table;

use super::{complain, counted, grouped, say};
use crate::app::cli::{Format, ReplayArgs};
use crate::app::ingest::{self, Ingest, LineCounts};
use crate::app::{Exit, setup};
use crate::engine::attribution::{User, Wanted};
use crate::engine::directory::Directory;
use crate::engine::replies::Replies;
use crate::engine::tracker::Settings;
use crate::engine::{Engine, Sink};
use crate::host::clock;
use crate::host::input::{self, Input};
use crate::host::names::Names;
use crate::host::unpack::Unpacked;
use crate::mail::{Counts, Owner, Server, Time};
use crate::mta::Mta;
use crate::mta::any::Any;
use crate::mta::syslog::Stamps;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Map, Value, json};
use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::sync::mpsc;

const CHUNK: usize = 1024 * 1024;
/// Lines longer than this are cut; the agent's default.
const MAX_LINE: usize = 64 * 1024;

/// Reads all files in the order of their first stamps and prints who sent what.
pub fn run(args: &ReplayArgs) -> Exit {
    let directory = match &args.config {
        Some(path) => match setup::load(Some(path)) {
            Ok(setup) => setup.directory,
            Err(why) => {
                complain(&why);
                return Exit::Usage;
            }
        },
        None => Directory::default(),
    };
    let mut users = match passwd(args.passwd.as_deref()) {
        Ok(users) => users,
        Err(why) => {
            complain(&why);
            return Exit::Usage;
        }
    };
    let mut engine = Engine::new(Settings::default(), directory, Replies::default(), clock::seed());
    let started = clock::monotonic();
    let only = args.mta.only();
    let files = match in_order(&args.files, only) {
        Ok(files) => files,
        Err(why) => {
            complain(&why);
            return Exit::Failed;
        }
    };
    let total: u64 = files.iter().map(|file| file.size).sum();
    let progress = progress(total, args.format);
    let mut ingest = Ingest::new(Any::new(stamps(clock::now()), only));
    let mut bytes = 0;
    for file in files {
        ingest.mta.set_reference(file.reference);
        let mut names = |wanted: Wanted<'_>| ingest::user(&mut users, wanted);
        match feed(file, usize::from(args.jobs), &mut ingest, &mut engine, &mut names, &mut (), &progress) {
            Ok(read) => bytes += read,
            Err(why) => {
                progress.finish_and_clear();
                complain(&why);
                return Exit::Failed;
            }
        }
    }
    ingest.finish();
    engine.finish(&mut ());
    progress.finish_and_clear();
    let seconds = started.elapsed().as_secs_f64();
    match args.format {
        Format::Json => say(&json_of(&engine, ingest.counts, seconds, bytes).to_string()),
        Format::Text => say(&text_of(&engine, &ingest, seconds, bytes)),
    }
}

fn stamps(reference: Time) -> Stamps {
    Stamps { zone: clock::zone(), reference }
}

/// A file that is about to be read.
struct Source {
    path: PathBuf,
    size: u64,
    reference: Time,
    /// What cannot be opened again is kept, with what was read of it. A year of archives is not: decoders are large.
    kept: Option<(Unpacked, Vec<u8>)>,
}

/// Looks into all files and sorts them by the time of their first stamp; those without one keep their place at the end.
fn in_order(paths: &[PathBuf], only: Option<Server>) -> Result<Vec<Source>, String> {
    let mut found = Vec::new();
    for path in paths {
        let mut opened = open(path)?;
        let reference = opened.modified.map_or_else(clock::now, Time::from_secs);
        let mut head = Vec::new();
        let first =
            if paths.len() > 1 { first_stamp(&mut opened.reader, &mut head, reference, path, only)? } else { None };
        let kept = (!opened.lasting || paths.len() == 1).then_some((opened.reader, head));
        found.push((first, Source { path: path.clone(), size: opened.size, reference, kept }));
    }
    found.sort_by_key(|(first, _)| first.unwrap_or(Time(i64::MAX)));
    Ok(found.into_iter().map(|(_, source)| source).collect())
}

fn open(path: &Path) -> Result<Input, String> {
    input::open(path).map_err(|why| {
        format!("replay: cannot read {}: {why}; check the path and whether your user may read it", path.display())
    })
}

fn first_stamp(
    reader: &mut Unpacked,
    head: &mut Vec<u8>,
    reference: Time,
    path: &Path,
    only: Option<Server>,
) -> Result<Option<Time>, String> {
    let read = reader.take(CHUNK as u64).read_to_end(head);
    read.map_err(|why| format!("replay: cannot read {}: {why}", path.display()))?;
    let mut mta = Any::new(stamps(reference), only);
    let stamp = head.split(|&byte| byte == b'\n').find_map(|line| match mta.read(line) {
        crate::mta::Read::Event(event) => Some(event.head.at),
        _ => None,
    });
    Ok(stamp)
}

/// Reads one source to its end, line by line; with more than one job, reading and decompressing have a thread of
/// their own. Returns the bytes read, decompressed.
fn feed<S: Sink>(
    source: Source,
    jobs: usize,
    ingest: &mut Ingest<Any>,
    engine: &mut Engine,
    names: &mut impl FnMut(Wanted<'_>) -> Option<User>,
    sink: &mut S,
    progress: &ProgressBar,
) -> Result<u64, String> {
    let path = source.path;
    let failed = |why: std::io::Error| format!("replay: reading {} failed: {why}", path.display());
    let (mut reader, head) = match source.kept {
        Some(kept) => kept,
        None => (open(&path)?.reader, Vec::new()),
    };
    let mut lines = Lines::default();
    let mut bytes = head.len() as u64;
    let before = progress.position();
    lines.push(&head, |line| ingest.line(line, engine, names, sink));
    drop(head);
    if jobs <= 1 {
        let mut buffer = vec![0; CHUNK];
        loop {
            let n = reader.read(&mut buffer).map_err(failed)?;
            if n == 0 {
                break;
            }
            bytes += n as u64;
            lines.push(buffer.get(..n).unwrap_or(&[]), |line| ingest.line(line, engine, names, sink));
            progress.set_position(before + reader.consumed());
        }
    } else {
        let (full, filled) = mpsc::sync_channel::<std::io::Result<(Vec<u8>, u64)>>(4);
        let (back, emptied) = mpsc::channel::<Vec<u8>>();
        std::thread::spawn(move || {
            loop {
                let mut buffer = emptied.try_recv().unwrap_or_default();
                buffer.resize(CHUNK, 0);
                let answer = reader.read(&mut buffer).map(|n| {
                    buffer.truncate(n);
                    (buffer, reader.consumed())
                });
                let end = !matches!(&answer, Ok((buffer, _)) if !buffer.is_empty());
                if full.send(answer).is_err() || end {
                    return;
                }
            }
        });
        for chunk in filled {
            let (chunk, consumed) = chunk.map_err(failed)?;
            bytes += chunk.len() as u64;
            lines.push(&chunk, |line| ingest.line(line, engine, names, sink));
            progress.set_position(before + consumed);
            if back.send(chunk).is_err() {
                // The reader has finished; the buffer is not needed any more.
            }
        }
    }
    lines.finish(|line| ingest.line(line, engine, names, sink));
    Ok(bytes)
}

/// Splits a stream of chunks into lines; only a line that spans chunks is copied.
#[derive(Default)]
pub(super) struct Lines {
    partial: Vec<u8>,
}

impl Lines {
    pub(super) fn push(&mut self, chunk: &[u8], mut each: impl FnMut(&[u8])) {
        let mut start = 0;
        for end in memchr::memchr_iter(b'\n', chunk) {
            let line = chunk.get(start..end).unwrap_or(&[]);
            start = end + 1;
            if self.partial.is_empty() {
                each(line.get(..MAX_LINE).unwrap_or(line));
            } else {
                self.keep(line);
                each(&self.partial);
                self.partial.clear();
            }
        }
        let rest = chunk.get(start..).unwrap_or(&[]);
        self.keep(rest);
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = MAX_LINE.saturating_sub(self.partial.len());
        self.partial.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
    }

    fn finish(&mut self, mut each: impl FnMut(&[u8])) {
        if !self.partial.is_empty() {
            each(&self.partial);
            self.partial.clear();
        }
    }
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

fn json_of(engine: &Engine, lines: LineCounts, seconds: f64, bytes: u64) -> Value {
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
        "verdicts": [],
        "seconds": (seconds * 1_000.0).round() / 1_000.0,
        "bytes": bytes,
    })
}

/// Most accounts shown in the text form.
const SHOWN: usize = 40;

fn text_of(engine: &Engine, ingest: &Ingest<Any>, seconds: f64, bytes: u64) -> String {
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
