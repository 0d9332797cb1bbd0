//! What the benches measure with: a child on one core, its wall time, CPU time and peak memory.

#![allow(dead_code, reason = "each bench uses its own part")]

pub mod agent;

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

pub struct Run {
    pub wall: Duration,
    /// Highest resident memory seen, in KiB (`VmHWM`, sampled until the end).
    pub peak_kb: u64,
    pub stdout: Vec<u8>,
}

/// Runs a program pinned to the last core with `LC_ALL=C`; with `silent`, its output goes to nowhere.
/// Ends the bench when it fails.
pub fn run(argv: &[&str], silent: bool) -> Run {
    let core = std::thread::available_parallelism().map_or(0, |n| n.get() - 1).to_string();
    let began = Instant::now();
    let mut child = Command::new("taskset")
        .args(["-c", &core])
        .args(argv)
        .env("LC_ALL", "C")
        .stdout(if silent { Stdio::null() } else { Stdio::piped() })
        .spawn()
        .unwrap_or_else(|error| panic!("starting {argv:?} under taskset: {error}"));
    let pid = child.id();
    let reader = child.stdout.take().map(|mut out| {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            out.read_to_end(&mut bytes).expect("reading the child's output");
            bytes
        })
    });
    // Sampled beside the wait, so that the wait itself ends the moment the child does.
    let sampler = std::thread::spawn(move || {
        let mut peak = 0;
        while let Some(now) = status_kb(pid, "VmHWM:") {
            peak = peak.max(now);
            std::thread::sleep(Duration::from_millis(10));
        }
        peak
    });
    let status = child.wait().expect("waiting for the child");
    let wall = began.elapsed();
    assert!(status.success(), "{argv:?}: {status}");
    let stdout = reader.map(|r| r.join().expect("the reader")).unwrap_or_default();
    Run { wall, peak_kb: sampler.join().expect("the sampler"), stdout }
}

/// A figure in KiB of `/proc/PID/status`; `None` once the process is gone.
pub fn status_kb(pid: u32, field: &str) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    text.lines().find_map(|line| line.strip_prefix(field))?.split_whitespace().next()?.parse().ok()
}

/// CPU seconds used so far, at the usual 100 ticks a second.
pub fn cpu_seconds(pid: u32) -> Option<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after_name) = text.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / 100.0)
}

pub fn flag(name: &str) -> bool {
    std::env::args().any(|argument| argument == name)
}

/// The word after `name` on the command line.
pub fn word(name: &str) -> Option<String> {
    std::env::args().skip_while(|argument| argument != name).nth(1)
}

/// The number after `name` on the command line.
pub fn argument(name: &str) -> Option<u64> {
    word(name).map(|text| text.parse().unwrap_or_else(|_| panic!("{name} takes a number, not {text:?}")))
}
