//! `sendwarden replay` against two independent truths: the situations' worked-out figures, the generator's books,
//! and, started at any line of a log, the oracle.

#![allow(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]
#![allow(clippy::disallowed_methods, reason = "it runs the program")]

#[path = "corpus/mod.rs"]
mod corpus;
#[path = "oracle/mod.rs"]
mod oracle;
#[path = "golden/situations.rs"]
mod situations;

use std::io::Write;
use std::process::{Command, Stdio};

use corpus::{Books, Mix, Stamps};

/// What `replay` says of these lines.
fn replay(lines: &[&str], passwd: Option<&std::path::Path>) -> Books {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sendwarden"));
    command.args(["replay", "--mta", "postfix", "--format", "json"]);
    if let Some(passwd) = passwd {
        command.arg("--passwd").arg(passwd);
    }
    let mut child = command.arg("-").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let text = lines.iter().flat_map(|line| [line.as_bytes(), b"\n"]).flatten().copied().collect::<Vec<u8>>();
    // Nothing is answered before the input ends, so writing it all first cannot block for ever.
    stdin.write_all(&text).unwrap();
    drop(stdin);
    let out = child.wait_with_output().unwrap();
    assert!(out.status.success(), "replay failed: {}", out.status);
    Books::from_json(&serde_json::from_slice(&out.stdout).expect("replay prints one JSON object"))
}

/// A passwd file of root only, so that the accounts of this machine do not name uids.
fn empty_passwd() -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(file, "root:x:0:0::/root:/bin/sh").unwrap();
    file
}

#[test]
fn every_situation_gives_the_worked_out_figures() {
    let passwd = empty_passwd();
    let mut wrong = Vec::new();
    for situation in situations::all() {
        let lines: Vec<&str> = situation.log.lines().collect();
        let got = replay(&lines, Some(passwd.path()));
        assert!(got.totals().balance(), "{}: {:?}", situation.name, got.totals());
        wrong
            .extend(situation.expected.differences(&got, true).into_iter().map(|d| format!("{}: {d}", situation.name)));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_situation_read_from_every_line() {
    let passwd = empty_passwd();
    let mut wrong = Vec::new();
    let mut untellable = std::collections::BTreeSet::new();
    for situation in situations::all() {
        let oracle = oracle::Oracle::new(&situation.log, "");
        let lines: Vec<&str> = situation.log.lines().collect();
        for k in starts(lines.len(), 1) {
            let got = replay(&lines[k..], Some(passwd.path()));
            assert!(got.totals().balance(), "{} from line {}: {:?}", situation.name, k + 1, got.totals());
            if !oracle.tellable(k) {
                untellable.insert(situation.name.clone());
                continue;
            }
            let differences = oracle.books(k).differences(&got, true);
            wrong.extend(differences.into_iter().map(|d| format!("{} from line {}: {d}", situation.name, k + 1)));
        }
    }
    assert!(wrong.is_empty(), "{} differences: {:#?}", wrong.len(), &wrong[..wrong.len().min(40)]);
    assert_eq!(untellable.into_iter().collect::<Vec<_>>(), ["two-instances-same-id"], "the only one left out");
}

#[test]
fn generated_logs_give_the_generated_figures() {
    for seed in 0..20 {
        let (log, truth, passwd) = generated(seed, 20_000);
        let lines: Vec<&str> = log.lines().collect();
        let got = replay(&lines, Some(passwd.path()));
        let differences = truth.books.differences(&got, false);
        assert!(differences.is_empty(), "seed {seed}: {:#?}", &differences[..differences.len().min(40)]);
    }
}

#[test]
fn a_generated_log_read_from_two_hundred_lines() {
    let (log, truth, passwd) = generated(7, 6_000);
    let oracle = oracle::Oracle::new(&log, &truth.passwd);
    let lines: Vec<&str> = log.lines().collect();
    let mut wrong = Vec::new();
    for k in starts(lines.len(), 7) {
        let got = replay(&lines[k..], Some(passwd.path()));
        wrong.extend(oracle.books(k).differences(&got, false).into_iter().map(|d| format!("from line {}: {d}", k + 1)));
    }
    assert!(wrong.is_empty(), "{} differences: {:#?}", wrong.len(), &wrong[..wrong.len().min(40)]);
}

fn generated(seed: u64, lines: u64) -> (String, corpus::Truth, tempfile::NamedTempFile) {
    let mut mix = Mix::new(seed, lines);
    mix.stamps = if seed.is_multiple_of(2) { Stamps::Traditional } else { Stamps::Rfc3339 };
    let mut log = Vec::new();
    let truth = corpus::write(&mix, &mut log).unwrap();
    let mut passwd = tempfile::NamedTempFile::new().unwrap();
    passwd.write_all(truth.passwd.as_bytes()).unwrap();
    (String::from_utf8(log).unwrap(), truth, passwd)
}

/// Every line of a short log, two hundred seeded ones of a longer one.
fn starts(lines: usize, seed: u64) -> Vec<usize> {
    let mut rng = fastrand::Rng::with_seed(seed);
    if lines <= 200 { (0..=lines).collect() } else { (0..200).map(|_| rng.usize(0..=lines)).collect() }
}
