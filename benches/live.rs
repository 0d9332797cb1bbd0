//! Following a growing file: `sendwarden run` on a log that grows at a fixed pace, killed with SIGKILL when the last
//! line is written, started again, and compared with the generator's books through `/metrics`.
//!
//! `cargo bench --bench live [-- --pace 500000 --seconds 60 --accounts 1000]`; `--wide` is the case of 100,000
//! accounts in turn at 150,000 lines/s. Prints lag and CPU once a second. Fails when a figure is wrong, with `--strict` also
//! when the bar is missed.

#![allow(clippy::disallowed_methods, reason = "a bench measures real processes in real time")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a bench")]

#[path = "../tests/corpus/mod.rs"]
mod corpus;
mod meter;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};

use corpus::{Figures, Mix, Truth};
use meter::agent::{Agent, sum};
use meter::{argument, cpu_seconds, flag, status_kb};

/// A line is visible in `/metrics` within this many seconds.
const BAR: f64 = 1.0;

fn main() -> ExitCode {
    let wide = flag("--wide");
    let pace = argument("--pace").unwrap_or(if wide { 150_000 } else { 500_000 });
    let seconds = argument("--seconds").unwrap_or(60);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock after 1970").as_secs();
    let mix = Mix {
        accounts: argument("--accounts").map_or(if wide { 100_000 } else { 1_000 }, |n| n as u32),
        round_robin: wide,
        // A day ago, so that the log's time never runs ahead of the clock by more than its longest retry.
        start: now - 86_400,
        gap_us: 2_000,
        deferring: 20,
        ..Mix::new(1, pace * seconds)
    };
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("live");
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    let source = folder.join("source.log");
    let mut file = BufWriter::with_capacity(1 << 20, File::create(&source).unwrap());
    let truth = corpus::write(&mix, &mut file).unwrap();
    // Or the kernel would write gigabytes of it to the disk beside the measurement.
    file.into_inner().unwrap().sync_all().unwrap();
    println!("{} lines, {:.0} MB, {}", truth.lines.total, truth.lines.bytes as f64 / 1e6, mix.describe());
    println!("figures: {:?}", truth.books.totals());

    let log = folder.join("mail.log");
    File::create(&log).unwrap();
    let agent = Agent::new(&folder, &log, "");
    let mut child = agent.start();
    let lag = grow(&source, &log, pace, &agent, child.id());
    child.kill().unwrap();
    child.wait().unwrap();
    println!("killed with SIGKILL as the last line was written");
    let mut child = agent.start();
    let answer = caught_up(&agent, &truth, child.id());
    let differences = differences(&truth, &answer);
    child.kill().unwrap();
    child.wait().unwrap();
    let _ = std::fs::remove_file(&source);
    for difference in differences.iter().take(40) {
        println!("WRONG {difference}");
    }
    if !differences.is_empty() {
        println!("{} figures are wrong; everything is kept in {}", differences.len(), folder.display());
        return ExitCode::FAILURE;
    }
    println!("figures exact after the kill");
    let _ = std::fs::remove_dir_all(&folder);
    if flag("--strict") && lag > BAR {
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// Waits until the recipients ended are as many as must be, or until nothing moves for ten seconds.
fn caught_up(agent: &Agent, truth: &Truth, pid: u32) -> BTreeMap<String, f64> {
    let began = Instant::now();
    let want = ended(&truth.books.totals());
    let (mut last, mut moved) = (-1.0, Instant::now());
    loop {
        let metrics = agent.metrics().unwrap_or_default();
        let now = sum(&metrics, "sendwarden_recipients_total", "");
        if now > last {
            (last, moved) = (now, Instant::now());
        }
        let messages = sum(&metrics, "sendwarden_messages_accepted_total", "") as u64;
        let done = now as u64 == want && messages == truth.books.totals().messages;
        if done || moved.elapsed() > Duration::from_secs(10) {
            println!(
                "caught up {:.1} s after the restart, peak memory {} MB",
                began.elapsed().as_secs_f64(),
                status_kb(pid, "VmHWM:").unwrap_or(0) / 1024
            );
            return metrics;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Appends the source to the log at `pace` lines a second, and says once a second how far behind the agent is.
fn grow(source: &Path, log: &Path, pace: u64, agent: &Agent, pid: u32) -> f64 {
    let mut source = File::open(source).unwrap();
    let mut log = std::fs::OpenOptions::new().append(true).open(log).unwrap();
    let mut chunk = vec![0; 64 << 10];
    let (mut written, mut said) = (0u64, 0);
    let began = Instant::now();
    let cpu_before = cpu_seconds(pid).unwrap_or(0.0);
    let mut worst: f64 = 0.0;
    loop {
        let n = source.read(&mut chunk).unwrap();
        if n == 0 {
            break;
        }
        log.write_all(&chunk[..n]).unwrap();
        written += chunk[..n].iter().filter(|&&byte| byte == b'\n').count() as u64;
        let due = Duration::from_secs_f64(written as f64 / pace as f64);
        if let Some(ahead) = due.checked_sub(began.elapsed()) {
            std::thread::sleep(ahead);
        }
        if began.elapsed().as_secs() > said {
            said = began.elapsed().as_secs();
            let read = agent.metrics().map_or(0.0, |m| sum(&m, "sendwarden_log_lines_read_total", ""));
            let lag = (written as f64 - read).max(0.0) / pace as f64;
            worst = worst.max(lag);
            let cpu = (cpu_seconds(pid).unwrap_or(0.0) - cpu_before) / began.elapsed().as_secs_f64();
            println!(
                "{said:3} s: {:.0} lines/s written, {lag:.2} s behind, {:.0} % CPU, {} MB",
                written as f64 / began.elapsed().as_secs_f64(),
                cpu * 100.0,
                status_kb(pid, "VmRSS:").unwrap_or(0) / 1024
            );
        }
    }
    let rate = written as f64 / began.elapsed().as_secs_f64();
    println!("{written} lines at {rate:.0} lines/s; at most {worst:.2} s behind (bar {BAR} s)");
    if rate < pace as f64 * 0.95 {
        println!("this machine could not write as fast as asked: the figure above is what was reached");
    }
    worst
}

/// Every figure of `/metrics` that is not as the books say. Accounts that have no series are bound by the totals.
fn differences(truth: &Truth, metrics: &BTreeMap<String, f64>) -> Vec<String> {
    let mut out = Vec::new();
    let mut check = |what: String, got: f64, want: u64| {
        if got as u64 != want {
            out.push(format!("{what}: {got}, must be {want}"));
        }
    };
    let totals = truth.books.totals();
    for (outcome, want) in outcomes(&totals) {
        let got = sum(metrics, "sendwarden_recipients_total", &format!("outcome=\"{outcome}\""));
        check(format!("recipients {outcome}"), got, want);
    }
    check("messages".into(), sum(metrics, "sendwarden_messages_accepted_total", ""), totals.messages);
    for (name, figures) in &truth.books.accounts {
        // The agent asks this host for names, and it does not know these uids.
        let name = match name.strip_prefix("web").and_then(|n| n.parse::<u32>().ok()) {
            Some(n) => format!("uid{}", 2001 + n),
            None => name.clone(),
        };
        let label = format!("account=\"{name}\"");
        let family = "sendwarden_account_recipients_total";
        if !metrics.keys().any(|k| k.starts_with(family) && k.contains(&label)) {
            continue;
        }
        for (outcome, want) in outcomes(figures) {
            let both = |key: &&String| key.contains(&label) && key.contains(&format!("outcome=\"{outcome}\""));
            let got = metrics.keys().filter(|k| k.starts_with(family)).filter(both).map(|k| metrics[k]).sum();
            check(format!("account {name} {outcome}"), got, want);
        }
    }
    out
}

fn outcomes(figures: &Figures) -> [(&'static str, u64); 5] {
    [
        ("sent", figures.sent),
        ("bounced", figures.bounced),
        ("expired", figures.expired),
        ("deleted", figures.deleted),
        ("unaccounted", figures.unaccounted),
    ]
}

fn ended(figures: &Figures) -> u64 {
    outcomes(figures).iter().map(|(_, n)| n).sum()
}
