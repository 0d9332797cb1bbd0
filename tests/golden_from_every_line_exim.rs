//! `sendwarden replay` of Exim logs against two independent truths: the situations' worked-out figures, the
//! generator's books, and, started at any line of a log, the oracle.

#![allow(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]
#![allow(clippy::disallowed_methods, reason = "it runs the program")]

#[path = "corpus/mod.rs"]
mod corpus;
#[path = "oracle/mod.rs"]
mod oracle;
#[path = "golden/situations.rs"]
mod situations;

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use corpus::Books;
use corpus::exim::{Mix, Selectors, write};
use oracle::exim::Oracle;

/// What `replay` says of these lines.
fn replay(lines: &[&str], passwd: &Path, mta: &str) -> Books {
    let mut child = Command::new(env!("CARGO_BIN_EXE_sendwarden"))
        .args(["replay", "--mta", mta, "--format", "json", "--passwd"])
        .arg(passwd)
        .arg("-")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let text = lines.iter().flat_map(|line| [line.as_bytes(), b"\n"]).flatten().copied().collect::<Vec<u8>>();
    // Nothing is answered before the input ends, so writing it all first cannot block for ever.
    stdin.write_all(&text).unwrap();
    drop(stdin);
    let out = child.wait_with_output().unwrap();
    assert!(out.status.success(), "replay failed: {}", out.status);
    Books::from_json(&serde_json::from_slice(&out.stdout).expect("replay prints one JSON object"))
}

fn file_of(passwd: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(passwd.as_bytes()).unwrap();
    file
}

fn none(wrong: &[String]) {
    assert!(wrong.is_empty(), "{} differences: {:#?}", wrong.len(), &wrong[..wrong.len().min(40)]);
}

#[test]
fn every_situation_gives_the_worked_out_figures() {
    let passwd = file_of(situations::PASSWD);
    let mut wrong = Vec::new();
    for situation in situations::exim() {
        let lines: Vec<&str> = situation.log.lines().collect();
        for mta in ["exim", "auto"] {
            // What has no message in it need not be recognised.
            if mta == "auto" && situation.expected.totals().is_zero() {
                continue;
            }
            let got = replay(&lines, passwd.path(), mta);
            assert!(got.totals().balance(), "{}: {:?}", situation.name, got.totals());
            let differences = situation.expected.differences(&got, false);
            wrong.extend(differences.into_iter().map(|d| format!("{} (--mta {mta}): {d}", situation.name)));
        }
    }
    none(&wrong);
}

#[test]
fn every_situation_read_from_every_line() {
    let passwd = file_of(situations::PASSWD);
    let mut wrong = Vec::new();
    for situation in situations::exim() {
        wrong.extend(from_every_line(&situation.name, &situation.log, situations::PASSWD, passwd.path()));
    }
    none(&wrong);
}

#[test]
fn generated_logs_give_the_generated_figures() {
    for seed in 0..20 {
        let (log, truth, passwd) = generated(seed, 20_000, Selectors::EACH[seed as usize % 4]);
        let lines: Vec<&str> = log.lines().collect();
        let differences = truth.books.differences(&replay(&lines, passwd.path(), "exim"), false);
        none(&differences.into_iter().map(|d| format!("seed {seed}: {d}")).collect::<Vec<_>>());
    }
}

#[test]
fn generated_logs_of_every_make_read_from_two_hundred_lines() {
    let mut wrong = Vec::new();
    for selectors in Selectors::EACH {
        let (log, truth, passwd) = generated(7, 4_000, selectors);
        wrong.extend(from_every_line(&format!("{selectors:?}"), &log, &truth.passwd, passwd.path()));
    }
    none(&wrong);
}

/// Every line of a short log, two hundred seeded ones of a longer one.
fn from_every_line(name: &str, log: &str, users: &str, passwd: &Path) -> Vec<String> {
    let oracle = Oracle::new(log, users);
    let lines: Vec<&str> = log.lines().collect();
    let mut rng = fastrand::Rng::with_seed(7);
    let starts: Vec<usize> = match lines.len() {
        0..=200 => (0..=lines.len()).collect(),
        many => (0..200).map(|_| rng.usize(0..=many)).collect(),
    };
    let mut wrong = Vec::new();
    for k in starts {
        let got = replay(&lines[k..], passwd, "exim");
        assert!(got.totals().balance(), "{name} from line {}: {:?}", k + 1, got.totals());
        let differences = oracle.books(k).differences(&got, false);
        wrong.extend(differences.into_iter().map(|d| format!("{name} from line {}: {d}", k + 1)));
    }
    wrong
}

fn generated(seed: u64, lines: u64, selectors: Selectors) -> (String, corpus::Truth, tempfile::NamedTempFile) {
    let mut mix = Mix::new(seed, lines, selectors);
    mix.oddities = if seed.is_multiple_of(2) { 1000 } else { 10_000 };
    let mut log = Vec::new();
    let truth = write(&mix, &mut log).unwrap();
    let passwd = file_of(&truth.passwd);
    (String::from_utf8(log).unwrap(), truth, passwd)
}
