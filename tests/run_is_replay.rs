//! What the agent says of accounts is what `replay` says of the same lines: 200 generated logs, each read by the built binary as
//! it grows and is rotated, with kills in between, and by one `replay` of all of it. Every verdict is the same, byte for byte.
#![allow(clippy::disallowed_methods, reason = "tests start processes and poll the real clock")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

mod corpus;
mod crash_support;

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::fs;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

use corpus::{Mix, Stamps};
use crash_support::{House, wait};
use rustix::process::Signal;
use sendwarden::host::follow::Position;
use sendwarden::store::{VerdictRecord, Views};
use serde_json::{Value, json};

const LOGS: u64 = 200;
/// Logs that are read at a time.
const AT_ONCE: u64 = 4;

/// Rules that are crossed often, of many signals, windows and lanes. They all observe or are muted.
fn rules(rng: &mut fastrand::Rng) -> String {
    let mut out = "rules:\n".to_owned();
    let signals = [
        ("messages", 4..40),
        ("recipients", 6..60),
        ("distinct_recipients", 4..30),
        ("errors", 1..6),
        ("error_ratio", 1..30),
        ("unknown_recipients", 1..5),
        ("spam_verdicts", 1..4),
        ("login_addresses", 1..4),
        ("new_recipients", 3..20),
        ("queued", 2..12),
        ("held", 1..4),
    ];
    for (n, (signal, limits)) in signals.iter().enumerate() {
        let limit = rng.u32(limits.clone());
        let window = ["1m", "5m", "1h", "1d", "30d"][rng.usize(..5)];
        let scope = match *signal {
            "login_addresses" => "login",
            _ => ["script", "all", "login"][rng.usize(..3)],
        };
        let action = ["observe", "notify", "block"][rng.usize(..3)];
        let sample = if *signal == "error_ratio" { ", min_sample: 5" } else { "" };
        let _ = writeln!(
            out,
            "  - {{name: r{n}, signal: {signal}, window: {window}, limit: {limit}, scope: {scope}, action: {action}{sample}}}"
        );
    }
    out
}

/// Each verdict as replay says it, as a line.
fn by_replay(said: &Value) -> Vec<String> {
    let one = |verdict: &Value| {
        let keys = ["time", "account", "rule", "signal", "window", "observed", "limit", "action", "scope"];
        json!(keys.map(|key| verdict[key].clone())).to_string()
    };
    let mut lines: Vec<String> = said["verdicts"].as_array().expect("verdicts").iter().map(one).collect();
    lines.sort();
    lines
}

/// The same of the store.
fn by_agent(views: &Views) -> Vec<String> {
    let names: HashMap<u32, String> = views.accounts().unwrap().into_iter().map(|row| (row.owner, row.name)).collect();
    let one = |kept: VerdictRecord| {
        let row = kept.row;
        let share = |n: u64| if row.signal == "error_ratio" { json!(n as f64 / 10.0) } else { json!(n) };
        let time = jiff::Timestamp::from_second(row.at.secs()).unwrap().to_string();
        let (observed, limit) = (share(row.observed), share(row.limit));
        json!([time, names[&row.owner], row.rule, row.signal, row.window, observed, limit, row.action, row.scope])
            .to_string()
    };
    let mut lines: Vec<String> = views.verdicts(None, 1_000_000).unwrap().into_iter().map(one).collect();
    lines.sort();
    lines
}

/// Bytes of the log that no commit covers; rotated files are read to their end before the next one.
fn is_read(house: &House, live: u64) -> bool {
    let read = || {
        let views = Views::open(&house.state).ok()?;
        let (_, position) = views.positions().ok()?.into_iter().next()?;
        let at = Position::from_bytes(&position)?;
        let inode = std::os::unix::fs::MetadataExt::ino(&fs::metadata(&house.log).ok()?);
        Some(at.id.ino == inode && at.offset == live)
    };
    read().unwrap_or(false)
}

#[derive(Default)]
struct Seen {
    verdicts: AtomicU64,
    kills: AtomicU64,
    rotations: AtomicU64,
    without: AtomicU64,
}

fn same(n: u64, seen: &Seen) -> Result<BTreeMap<String, u64>, String> {
    let mut rng = fastrand::Rng::with_seed(0xa5_1de + n);
    let gap_us = [200_000, 3_000_000, 60_000_000][rng.usize(..3)];
    let oddities = [1_000, 20_000][rng.usize(..2)];
    let mix =
        Mix { accounts: rng.u32(2..12), stamps: Stamps::Rfc3339, gap_us, oddities, ..Mix::new(n, rng.u64(150..900)) };
    let mut text = Vec::new();
    corpus::write(&mix, &mut text).unwrap();
    let house = House::new(&rules(&mut rng));
    let mut written = 0;
    let mut live = 0_u64;
    let ends: Vec<usize> = text.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1).collect();
    // The log has to be there: what was rotated before the first start is not an agent's business here.
    fs::write(&house.log, "").unwrap();
    let mut files = 0;
    for piece in 0..3 {
        let running = house.start();
        if piece > 0 && rng.bool() {
            for file in (1..=files).rev() {
                let name = |n: usize| house.dir.join(format!("mail.log.{n}"));
                fs::rename(name(file), name(file + 1)).unwrap();
            }
            fs::rename(&house.log, house.dir.join("mail.log.1")).unwrap();
            fs::write(&house.log, "").unwrap();
            (files, live) = (files + 1, 0);
            seen.rotations.fetch_add(1, Ordering::Relaxed);
        }
        let until = if piece == 2 { text.len() } else { ends[rng.usize(..ends.len() - 1)].max(written) };
        // In two parts, the first of which may end in the middle of a line.
        let middle = written + rng.usize(..=until - written);
        house.append(&text[written..middle]);
        house.append(&text[middle..until]);
        live += (until - written) as u64;
        written = until;
        if piece == 2 {
            wait(&house, "every byte to be read", || is_read(&house, live));
            running.stop(Signal::TERM);
        } else {
            // Anywhere: before it has read, or after.
            if live > 0 && rng.bool() {
                wait(&house, "every byte to be read", || is_read(&house, live));
            }
            running.kill();
            seen.kills.fetch_add(1, Ordering::Relaxed);
        }
    }
    let live = by_agent(&Views::open(&house.state).unwrap());
    let whole = house.dir.join("whole.log");
    fs::write(&whole, &text).unwrap();
    let mut replay = Command::new(env!("CARGO_BIN_EXE_sendwarden"));
    replay.args(["replay", "--format", "json", "--config"]).arg(&house.config).arg(&whole).env("TZ", "UTC");
    let out = replay.output().unwrap();
    assert!(out.status.success(), "replay: {}", String::from_utf8_lossy(&out.stderr));
    let wanted = by_replay(&serde_json::from_slice(&out.stdout).unwrap());
    seen.verdicts.fetch_add(wanted.len() as u64, Ordering::Relaxed);
    seen.without.fetch_add(u64::from(wanted.is_empty()), Ordering::Relaxed);
    if live != wanted {
        let only = |these: &[String], those: &[String]| -> Vec<String> {
            these.iter().filter(|line| !those.contains(line)).take(5).cloned().collect()
        };
        return Err(format!(
            "log {n}: {} verdicts, {} by replay; only here {:#?}, only there {:#?}",
            live.len(),
            wanted.len(),
            only(&live, &wanted),
            only(&wanted, &live)
        ));
    }
    let mut by_signal = BTreeMap::new();
    for line in &wanted {
        *by_signal.entry(line.split('"').nth(7).unwrap().to_owned()).or_default() += 1;
    }
    Ok(by_signal)
}

#[test]
fn verdicts_of_200_logs_are_those_of_a_replay() {
    let (seen, next) = (Seen::default(), AtomicU64::new(0));
    let results: Vec<Result<BTreeMap<String, u64>, String>> = std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..AT_ONCE)
            .map(|_| {
                scope.spawn(|| {
                    let mut results = Vec::new();
                    loop {
                        let n = next.fetch_add(1, Ordering::Relaxed);
                        if n >= LOGS {
                            return results;
                        }
                        results.push(same(n, &seen));
                    }
                })
            })
            .collect();
        lanes.into_iter().flat_map(|lane| lane.join().unwrap()).collect()
    });
    let wrong: Vec<&String> = results.iter().filter_map(|result| result.as_ref().err()).collect();
    assert!(wrong.is_empty(), "{} of {LOGS} differ:\n{}", wrong.len(), wrong[0]);
    let mut by_signal: BTreeMap<&str, u64> = BTreeMap::new();
    for (signal, n) in results.iter().flatten().flatten() {
        *by_signal.entry(signal).or_default() += n;
    }
    let count = |n: &AtomicU64| n.load(Ordering::Relaxed);
    println!(
        "{LOGS} logs, {} kills, {} rotations, {} verdicts {by_signal:?}, {} logs without any",
        count(&seen.kills),
        count(&seen.rotations),
        count(&seen.verdicts),
        count(&seen.without)
    );
    assert!(count(&seen.kills) == 2 * LOGS && count(&seen.rotations) > LOGS / 2);
    assert!(by_signal.len() >= 9 && by_signal.values().all(|n| *n > 10), "{by_signal:?}");
}
