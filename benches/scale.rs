//! A large host at rest: 100,000 accounts known and 200,000 messages in flight, in `sendwarden run` with shipped settings.
//! Measured: peak and resident memory, the time of a scrape over HTTP, how soon a new line is in `/metrics`, idle CPU.
//!
//! `cargo bench --bench scale [-- --accounts 100000 --messages 200000 --series 500 --idle 30]`. Fails when a figure is
//! wrong; a missed bar is printed, and fails with `--strict`.

#![allow(clippy::disallowed_methods, reason = "a bench measures real processes in real time")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a bench")]

mod meter;

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use meter::agent::Agent;
use meter::{argument, cpu_seconds, flag, status_kb};

fn main() -> ExitCode {
    let accounts = argument("--accounts").unwrap_or(100_000);
    let messages = argument("--messages").unwrap_or(200_000);
    let series = argument("--series").unwrap_or(500);
    let idle = argument("--idle").unwrap_or(30);
    // The bars are those of the shipped 500 series; of a scrape also of the 10,000 of a very large host.
    let scrape_bar = if series <= 500 { 0.020 } else { 0.150 };
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("scale");
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    let log = folder.join("mail.log");
    let lines = write_log(&log, accounts, messages);
    println!("{lines} lines, {messages} messages in flight, one recipient each, of {accounts} accounts by login");

    let agent = Agent::new(&folder, &log, &format!("metrics:\n  max_accounts: {series}\n"));
    let mut child = agent.start();
    let began = Instant::now();
    let read = |line: u64| agent.metrics().is_some_and(|m| sum(&m, "sendwarden_log_lines_read_total") as u64 >= line);
    wait(Duration::from_secs(120), || read(lines));
    println!("read in {:.1} s", began.elapsed().as_secs_f64());
    let metrics = agent.metrics().unwrap();
    let figures = [
        ("messages", sum(&metrics, "sendwarden_messages_accepted_total") as u64, messages),
        ("in flight", sum(&metrics, "sendwarden_tracked_messages") as u64, messages),
        ("accounts known", sum(&metrics, "sendwarden_accounts_known") as u64, accounts),
        ("accounts with series", sum(&metrics, "sendwarden_accounts_tracked") as u64, series.min(accounts)),
    ];
    let wrong = figures.iter().filter(|(_, got, want)| got != want).count();
    for (what, got, want) in figures.iter().filter(|(_, got, want)| got != want) {
        println!("WRONG {what}: {got}, must be {want}");
    }

    let mut met = true;
    let mut bar = |what: &str, got: f64, most: f64, unit: &str| {
        met &= got <= most;
        println!("{what}: {got:.3} {unit} (bar {most} {unit}) {}", if got <= most { "met" } else { "MISSED" });
    };
    for (name, accept) in [("text 0.0.4", "text/plain"), ("OpenMetrics", "application/openmetrics-text")] {
        let mut times: Vec<(f64, usize)> = (0..21).map(|_| agent.scrape(accept)).collect();
        times.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (median, size) = times[times.len() / 2];
        println!("{name}: {} KB, median of 21 {:.1} ms", size / 1024, median * 1e3);
        bar("  worst scrape", times.last().unwrap().0 * 1e3, scrape_bar * 1e3, "ms");
    }
    bar("a new line visible after", new_line_visible(&log, &agent, lines), 1.0, "s");
    // What catching up left behind is given back first.
    std::thread::sleep(Duration::from_secs(5));
    let (cpu, began) = (cpu_seconds(child.id()).unwrap(), Instant::now());
    std::thread::sleep(Duration::from_secs(idle));
    let used = (cpu_seconds(child.id()).unwrap() - cpu) / began.elapsed().as_secs_f64() * 100.0;
    bar("idle CPU", used, 0.5, "% of a core");
    let peak = status_kb(child.id(), "VmHWM:").unwrap() as f64 / 1024.0;
    if series <= 500 {
        bar("peak memory", peak, 300.0, "MB");
    } else {
        println!("peak memory: {peak:.3} MB (the bar of 300 MB is for the shipped 500 series)");
    }
    println!("resident now: {} MB", status_kb(child.id(), "VmRSS:").unwrap() / 1024);
    child.kill().unwrap();
    child.wait().unwrap();
    let _ = std::fs::remove_dir_all(&folder);
    if wrong > 0 || (flag("--strict") && !met) { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Messages that were accepted and put off once, each under its own queue id, accounts in turn. Gives the lines.
fn write_log(log: &Path, accounts: u64, messages: u64) -> u64 {
    let mut out = BufWriter::with_capacity(1 << 20, File::create(log).unwrap());
    let start = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(1);
    for n in 0..messages {
        let (at, account) = (start + jiff::SignedDuration::from_millis(n as i64 * 10), n % accounts);
        let id = format!("{:X}", 0xA0_0000_0000_u64 + n);
        let (smtpd, cleanup) =
            (format!("{at} mx postfix/smtpd[7]: {id}: "), format!("{at} mx postfix/cleanup[8]: {id}: "));
        writeln!(out, "{smtpd}client=pc[192.0.2.7], sasl_method=PLAIN, sasl_username=box@site{account}.test").unwrap();
        writeln!(out, "{cleanup}message-id=<{n}.{account}@site{account}.test>").unwrap();
        writeln!(
            out,
            "{at} mx postfix/qmgr[9]: {id}: from=<box@site{account}.test>, size=2000, nrcpt=1 (queue active)"
        )
        .unwrap();
        writeln!(
            out,
            "{at} mx postfix/smtp[10]: {id}: to=<someone{n}@busy.test>, relay=mx.busy.test[198.51.100.9]:25, delay=1, \
             delays=0.1/0/0.4/0.5, dsn=4.2.0, status=deferred (host mx.busy.test[198.51.100.9] said: 450 4.2.0 try later \
             (in reply to RCPT TO command))"
        )
        .unwrap();
    }
    out.flush().unwrap();
    messages * 4
}

/// The worst of five: from the write of a line until a scrape shows it.
fn new_line_visible(log: &Path, agent: &Agent, lines: u64) -> f64 {
    let mut worst: f64 = 0.0;
    for n in 1..=5 {
        let mut file = OpenOptions::new().append(true).open(log).unwrap();
        let began = Instant::now();
        writeln!(
            file,
            "{} mx postfix/qmgr[9]: A000000000: from=<x@y.test>, size=1, nrcpt=1 (queue active)",
            jiff::Timestamp::now()
        )
        .unwrap();
        let seen = || agent.metrics().is_some_and(|m| sum(&m, "sendwarden_log_lines_read_total") as u64 >= lines + n);
        wait(Duration::from_secs(30), seen);
        worst = worst.max(began.elapsed().as_secs_f64());
    }
    worst
}

fn wait(most: Duration, done: impl Fn() -> bool) {
    let end = Instant::now() + most;
    while !done() {
        assert!(Instant::now() < end, "not within {most:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn sum(metrics: &std::collections::BTreeMap<String, f64>, family: &str) -> f64 {
    meter::agent::sum(metrics, family, "")
}
