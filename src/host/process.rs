//! What the operating system says about this process.

use crate::metrics::Process;
use rustix::process::{Pid, Signal, kill_process};
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

static START: OnceLock<f64> = OnceLock::new();

/// Start time, resident memory and CPU time; zeros where the system does not say.
pub fn figures() -> Process {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The command name may hold anything, so fields are counted from behind its last parenthesis.
    let fields: Vec<u64> = stat
        .rsplit_once(')')
        .map(|(_, rest)| rest.split_whitespace().map(|field| field.parse().unwrap_or(0)).collect())
        .unwrap_or_default();
    let field = |number: usize| fields.get(number - 3).copied().unwrap_or(0);
    let ticks = rustix::param::clock_ticks_per_second().max(1) as f64;
    let page = rustix::param::page_size() as u64;
    let start_seconds = *START.get_or_init(|| boot_seconds() + field(22) as f64 / ticks);
    Process {
        start_seconds,
        resident_bytes: field(24).saturating_mul(page),
        cpu_seconds: (field(14) + field(15)) as f64 / ticks,
    }
}

/// Lets this thread, and those that it starts, go before others of the machine that also want to run: on Linux a
/// priority is a thread's own (setpriority(2)). Who may not (`LimitNICE=`) stays as he is, and is only slower under load.
pub fn come_first() {
    let _ = rustix::process::setpriority_process(None, -10);
}

fn boot_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let boot = stat.lines().find_map(|line| line.strip_prefix("btime "));
    boot.and_then(|seconds| seconds.trim().parse().ok()).unwrap_or(0.0)
}

/// Tells a daemon to read its configuration again (SIGHUP), if that process runs this program.
pub fn hang_up(pid: i32, program: &Path) -> bool {
    // A number from a file: it may be another process's by now.
    let runs = std::fs::read_link(format!("/proc/{pid}/exe")).ok();
    let same = runs.is_some_and(|runs| std::fs::canonicalize(program).is_ok_and(|program| program == runs));
    let pid = Pid::from_raw(pid).filter(|_| same && pid > 1);
    pid.is_some_and(|pid| {
        let told = kill_process(pid, Signal::HUP).is_ok();
        // Exim's daemon looks for it before it waits for the next connection: one that comes between the two is seen
        // only when something wakes it (seen to take two minutes). A child's end does, and does nothing else.
        for _ in 0..3 {
            std::thread::park_timeout(Duration::from_millis(150));
            let _ = kill_process(pid, Signal::CHILD);
        }
        told
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_and_a_plausible_start() {
        let figures = figures();
        assert!(figures.resident_bytes > 1_000_000, "{figures:?}");
        let now = crate::host::clock::now().secs() as f64;
        assert!((now - figures.start_seconds).abs() < 86_400.0, "{figures:?}");
    }
}
