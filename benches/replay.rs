//! Reading speed: `sendwarden replay --jobs 1` of one day of a large server against `LC_ALL=C grep -c status=sent`,
//! and of its `.gz` against `gzip -dc`. Alternated, best of seven, one core, page cache warm, figures checked against
//! the generator's books in the same runs.
//!
//! `cargo bench --bench replay [-- --lines N --accounts N --rounds N --no-gz]`. Fails when a figure is wrong; a missed
//! bar is printed, and fails with `--strict`.

#![allow(clippy::disallowed_methods, reason = "a bench measures real processes in real time")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a bench")]

#[path = "../tests/corpus/mod.rs"]
mod corpus;
mod meter;

use std::path::{Path, PathBuf};
use std::time::Duration;

use corpus::{Books, Mix, Truth};
use meter::{Run, argument, flag, run};

fn main() -> std::process::ExitCode {
    let mut mix = Mix::bench();
    mix.lines = argument("--lines").unwrap_or(mix.lines);
    mix.accounts = argument("--accounts").map_or(mix.accounts, |n| n as u32);
    let rounds = argument("--rounds").unwrap_or(7);
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench");
    let log = folder.join(format!("mail-{}-{}.log", mix.lines, mix.accounts));
    let (truth, passwd) = generate(&mix, &folder, &log);
    let totals = truth.books.totals();
    println!(
        "log: {} lines ({} events, {} noise, {} foreign), {:.0} MB, {} messages, {} accounts used, at most {} in flight",
        truth.lines.total,
        truth.lines.events,
        truth.lines.noise,
        truth.lines.foreign,
        truth.lines.bytes as f64 / 1e6,
        totals.messages,
        truth.books.accounts.len(),
        truth.in_flight
    );
    println!("mix: {}", mix.describe());
    println!("figures: {totals:?}");
    let mut met = compare(&log, &passwd, &truth, rounds, &["grep", "-c", "status=sent"], 5.0);
    if !flag("--no-gz") {
        let gz = log.with_extension("log.gz");
        if !gz.exists() {
            let out = std::fs::File::create(&gz).unwrap();
            assert!(std::process::Command::new("gzip").arg("-c").arg(&log).stdout(out).status().unwrap().success());
        }
        met &= compare(&gz, &passwd, &truth, rounds.min(3), &["gzip", "-dc"], 1.5);
    }
    if flag("--strict") && !met {
        eprintln!("a bar was missed");
        return std::process::ExitCode::FAILURE;
    }
    std::process::ExitCode::SUCCESS
}

/// Writes the log and its passwd file. Always generated anew: the truth is not kept on disk, and it takes seconds.
fn generate(mix: &Mix, folder: &Path, log: &Path) -> (Truth, PathBuf) {
    std::fs::create_dir_all(folder).unwrap();
    let began = std::time::Instant::now();
    let mut file = std::io::BufWriter::with_capacity(1 << 20, std::fs::File::create(log).unwrap());
    let truth = corpus::write(mix, &mut file).unwrap();
    file.into_inner().unwrap();
    let _ = std::fs::remove_file(log.with_extension("log.gz"));
    println!("generated in {:.1} s", began.elapsed().as_secs_f64());
    let passwd = folder.join("passwd");
    std::fs::write(&passwd, &truth.passwd).unwrap();
    (truth, passwd)
}

/// Alternates the two, checks the figures, prints the best of each and their ratio.
fn compare(log: &Path, passwd: &Path, truth: &Truth, rounds: u64, yardstick: &[&str], bar: f64) -> bool {
    let best = |best: Option<Run>, now: Run| match best {
        Some(best) if best.wall <= now.wall => Some(best),
        _ => Some(now),
    };
    let (mut ours, mut theirs) = (None, None);
    let log = log.to_str().unwrap();
    let mut peak = 0;
    for _ in 0..rounds {
        theirs = best(theirs, run(&[yardstick, &[log]].concat(), yardstick[0] == "gzip"));
        let arguments = ["replay", "--jobs", "1", "--mta", "postfix", "--format", "json", "--passwd"];
        let program = [env!("CARGO_BIN_EXE_sendwarden")];
        let now = run(&[&program[..], &arguments, &[passwd.to_str().unwrap(), log]].concat(), false);
        let json = serde_json::from_slice(&now.stdout).expect("replay prints one JSON object");
        let differences = truth.books.differences(&Books::from_json(&json), false);
        assert!(differences.is_empty(), "wrong figures: {:#?}", &differences[..differences.len().min(20)]);
        peak = peak.max(now.peak_kb);
        ours = best(ours, now);
    }
    let (ours, theirs) = (ours.unwrap(), theirs.unwrap());
    let ratio = ours.wall.as_secs_f64() / theirs.wall.as_secs_f64().max(Duration::from_micros(1).as_secs_f64());
    println!(
        "{}: {:.3} s · replay: {:.3} s, {:.2} M lines/s, peak {} MB · ratio {ratio:.2} (bar {bar}) {} · figures exact",
        yardstick.join(" "),
        theirs.wall.as_secs_f64(),
        ours.wall.as_secs_f64(),
        truth.lines.total as f64 / ours.wall.as_secs_f64() / 1e6,
        peak / 1024,
        if ratio <= bar { "met" } else { "MISSED" }
    );
    ratio <= bar
}
