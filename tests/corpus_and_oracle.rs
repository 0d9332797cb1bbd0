//! The two independent truths agree with each other: the generator's books and the oracle's.

#![allow(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

#[path = "corpus/mod.rs"]
mod corpus;
#[path = "oracle/mod.rs"]
mod oracle;
#[path = "golden/situations.rs"]
mod situations;

use corpus::Mix;

#[test]
fn the_same_seed_writes_the_same_log() {
    let write = |seed| {
        let mut log = Vec::new();
        let truth = corpus::write(&Mix::new(seed, 5_000), &mut log).unwrap();
        (log, truth.books)
    };
    let (a, b, c) = (write(1), write(1), write(2));
    assert_eq!(a, b);
    assert_ne!(a.0, c.0);
    assert!(a.1.totals().balance(), "{:?}", a.1.totals());
    if let Ok(dir) = std::env::var("CORPUS_DUMP") {
        std::fs::write(dir, &a.0).unwrap();
    }
}

/// Generated logs of every make-up: what the oracle reads is what the generator booked.
#[test]
fn the_oracle_reads_what_the_generator_wrote() {
    for seed in 0..60 {
        let mut mix = Mix::new(seed, 4_000);
        mix.oddities = [0, 1000, 10_000][seed as usize % 3];
        mix.stamps = if seed % 2 == 0 { corpus::Stamps::Traditional } else { corpus::Stamps::Rfc3339 };
        mix.accounts = [2, 3, 50, 1000][seed as usize % 4];
        let mut log = Vec::new();
        let truth = corpus::write(&mix, &mut log).unwrap();
        let log = String::from_utf8(log).unwrap();
        let read = oracle::Oracle::new(&log, &truth.passwd).books(0);
        let differences = truth.books.differences(&read, false);
        assert!(differences.is_empty(), "seed {seed}: {differences:#?}");
        assert!(read.totals().balance());
        assert_eq!(log.lines().count() as u64, truth.lines.total);
        assert_eq!(log.len() as u64, truth.lines.bytes);
        assert_eq!(log.matches("status=sent").count() as u64, truth.lines.sent);
    }
}

/// The situations: what the oracle reads is what a person worked out.
#[test]
fn the_oracle_agrees_with_every_situation() {
    let mut wrong = Vec::new();
    let situations = situations::all();
    assert!(situations.len() >= 30, "only {} situations found", situations.len());
    for situation in situations {
        let read = oracle::Oracle::new(&situation.log, "").books(0);
        assert!(read.totals().balance(), "{}: {:?}", situation.name, read.totals());
        for difference in situation.expected.differences(&read, true) {
            wrong.push(format!("{}: {difference}", situation.name));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// From any line on, the oracle's books balance and hold no more messages than the whole log.
#[test]
fn the_oracle_balances_from_every_line() {
    for situation in situations::all() {
        let oracle = oracle::Oracle::new(&situation.log, "");
        let whole = oracle.books(0).totals();
        for k in 0..=oracle.lines() {
            let from = oracle.books(k).totals();
            assert!(from.balance(), "{} from line {k}: {from:?}", situation.name);
            assert!(from.messages <= whole.messages);
            assert!(from.messages <= from.recipients, "{} from line {k}: {from:?}", situation.name);
        }
    }
}

/// The same on a busy log, where messages of every kind are open at any line.
#[test]
fn the_oracle_balances_from_any_line_of_a_busy_log() {
    let mut mix = Mix::new(11, 5_000);
    mix.oddities = 10_000;
    let mut log = Vec::new();
    let truth = corpus::write(&mix, &mut log).unwrap();
    let oracle = oracle::Oracle::new(&String::from_utf8(log).unwrap(), &truth.passwd);
    let mut rng = fastrand::Rng::with_seed(11);
    for k in (0..60).map(|_| rng.usize(1..oracle.lines())) {
        let books = oracle.books(k);
        let (from, whole) = (books.totals(), truth.books.totals());
        assert!(from.balance(), "from line {k}: {from:?}");
        assert!(from.messages <= whole.messages && from.sent <= whole.sent, "from line {k}: {from:?}");
        assert_eq!(books.unattributed.get("opened_before_log").map_or(0, |f| f.messages), 0);
    }
}
