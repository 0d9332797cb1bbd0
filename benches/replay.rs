//! Reading speed: `sendwarden replay --jobs 1` of one day of a large server, against `grep -c` for the yardstick's word
//! on the same file, and of its `.gz` against what only unpacks it. Alternated, best of seven, one core, page cache warm,
//! `LC_ALL=C`, figures checked against the generator's books in the same runs.
//!
//! Postfix: `grep -c status=sent`, `gzip -dc`. Exim: `grep -c ' Completed'`, `zgrep -c ' Completed'`.
//!
//! `cargo bench --bench replay [-- --mta postfix|exim --lines N --accounts N --rounds N --no-gz]`; without `--mta`, both.
//! Fails when a figure is wrong; a missed bar is printed, and fails with `--strict`.

#![allow(clippy::disallowed_methods, reason = "a bench measures real processes in real time")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a bench")]

#[path = "../tests/corpus/mod.rs"]
mod corpus;
mod meter;

use std::path::{Path, PathBuf};
use std::time::Duration;

use corpus::{Books, Mix, Truth, exim};
use meter::{Run, argument, flag, run};

/// A log that is read, and what it is measured with.
struct Course {
    mta: &'static str,
    /// What the log is made of, in one line.
    mix: String,
    log: PathBuf,
    passwd: PathBuf,
    truth: Truth,
    yardstick: &'static [&'static str],
    bar: f64,
    gz_yardstick: &'static [&'static str],
    gz_bar: f64,
}

fn main() -> std::process::ExitCode {
    let met = match meter::word("--mta").as_deref() {
        None => postfix().run() & exim().run(),
        Some("postfix") => postfix().run(),
        Some("exim") => exim().run(),
        Some(other) => panic!("--mta takes postfix or exim, not {other:?}"),
    };
    if flag("--strict") && !met {
        eprintln!("a bar was missed");
        return std::process::ExitCode::FAILURE;
    }
    std::process::ExitCode::SUCCESS
}

fn postfix() -> Course {
    let mut mix = Mix::bench();
    mix.lines = argument("--lines").unwrap_or(mix.lines);
    mix.accounts = argument("--accounts").map_or(mix.accounts, |n| n as u32);
    let name = format!("mail-{}-{}", mix.lines, mix.accounts);
    let (log, passwd, truth) = generate(&name, |out| corpus::write(&mix, out));
    Course {
        mta: "postfix",
        mix: mix.describe(),
        log,
        passwd,
        truth,
        yardstick: &["grep", "-c", "status=sent"],
        bar: 5.0,
        gz_yardstick: &["gzip", "-dc"],
        gz_bar: 1.5,
    }
}

fn exim() -> Course {
    let mut mix = exim::Mix::bench();
    mix.lines = argument("--lines").unwrap_or(mix.lines);
    mix.accounts = argument("--accounts").map_or(mix.accounts, |n| n as u32);
    let name = format!("mainlog-{}-{}", mix.lines, mix.accounts);
    let (log, passwd, truth) = generate(&name, |out| exim::write(&mix, out));
    Course {
        mta: "exim",
        mix: mix.describe(),
        log,
        passwd,
        truth,
        yardstick: &["grep", "-c", " Completed"],
        bar: 6.0,
        gz_yardstick: &["zgrep", "-c", " Completed"],
        gz_bar: 1.5,
    }
}

impl Course {
    /// Whether the bars were met.
    fn run(&self) -> bool {
        let (lines, totals) = (&self.truth.lines, self.truth.books.totals());
        println!(
            "{}: {} lines ({} events, {} noise, {} foreign), {:.0} MB, {} messages, {} accounts used, at most {} in flight",
            self.mta,
            lines.total,
            lines.events,
            lines.noise,
            lines.foreign,
            lines.bytes as f64 / 1e6,
            totals.messages,
            self.truth.books.accounts.len(),
            self.truth.in_flight
        );
        println!("mix: {}", self.mix);
        println!("figures: {totals:?}");
        let rounds = argument("--rounds").unwrap_or(7);
        let mut met = self.compare(&self.log, rounds, self.yardstick, self.bar);
        if !flag("--no-gz") {
            let gz = self.log.with_extension("log.gz");
            let out = std::fs::File::create(&gz).unwrap();
            let packed = std::process::Command::new("gzip").arg("-c").arg(&self.log).stdout(out).status().unwrap();
            assert!(packed.success());
            met &= self.compare(&gz, rounds.min(3), self.gz_yardstick, self.gz_bar);
        }
        met
    }

    /// Alternates the two, checks the figures, prints the best of each and their ratio.
    fn compare(&self, log: &Path, rounds: u64, yardstick: &[&str], bar: f64) -> bool {
        let best = |best: Option<Run>, now: Run| match best {
            Some(best) if best.wall <= now.wall => Some(best),
            _ => Some(now),
        };
        let (mut ours, mut theirs) = (None, None);
        let log = log.to_str().unwrap();
        let mut peak = 0;
        for _ in 0..rounds {
            theirs = best(theirs, run(&[yardstick, &[log]].concat(), yardstick[0] == "gzip"));
            let arguments = ["replay", "--jobs", "1", "--mta", self.mta, "--format", "json", "--passwd"];
            let program = [env!("CARGO_BIN_EXE_sendwarden")];
            let now = run(&[&program[..], &arguments, &[self.passwd.to_str().unwrap(), log]].concat(), false);
            let json = serde_json::from_slice(&now.stdout).expect("replay prints one JSON object");
            let differences = self.truth.books.differences(&Books::from_json(&json), false);
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
            self.truth.lines.total as f64 / ours.wall.as_secs_f64() / 1e6,
            peak / 1024,
            if ratio <= bar { "met" } else { "MISSED" }
        );
        ratio <= bar
    }
}

/// Writes a log and its passwd file. Always generated anew: the truth is not kept on disk, and it takes seconds.
fn generate(
    name: &str,
    write: impl FnOnce(&mut std::io::BufWriter<std::fs::File>) -> std::io::Result<Truth>,
) -> (PathBuf, PathBuf, Truth) {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench");
    std::fs::create_dir_all(&folder).unwrap();
    let log = folder.join(format!("{name}.log"));
    let began = std::time::Instant::now();
    let mut file = std::io::BufWriter::with_capacity(1 << 20, std::fs::File::create(&log).unwrap());
    let truth = write(&mut file).unwrap();
    file.into_inner().unwrap();
    println!("generated in {:.1} s", began.elapsed().as_secs_f64());
    let passwd = folder.join(format!("{name}.passwd"));
    std::fs::write(&passwd, &truth.passwd).unwrap();
    (log, passwd, truth)
}
