//! The two independent truths of Exim logs agree with each other: the generator's books and the oracle's; and the
//! oracle with what a person worked out.

#![allow(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

#[path = "corpus/mod.rs"]
mod corpus;
#[path = "oracle/mod.rs"]
mod oracle;
#[path = "golden/situations.rs"]
mod situations;

use corpus::exim::{Mix, Selectors, write};
use oracle::exim::Oracle;

#[test]
fn the_same_seed_writes_the_same_log() {
    for selectors in Selectors::EACH {
        let make = |seed| {
            let mut log = Vec::new();
            let truth = write(&Mix::new(seed, 5_000, selectors), &mut log).unwrap();
            (log, truth.books)
        };
        let (a, b, c) = (make(1), make(1), make(2));
        assert_eq!(a, b);
        assert_ne!(a.0, c.0);
        assert!(a.1.totals().balance(), "{:?}", a.1.totals());
        if let Ok(path) = std::env::var("CORPUS_DUMP") {
            std::fs::write(format!("{path}.{selectors:?}"), &a.0).unwrap();
        }
    }
}

/// Generated logs of every make-up: what the oracle reads is what the generator booked.
#[test]
fn the_oracle_reads_what_the_generator_wrote() {
    let mut met = corpus::Figures::default();
    for seed in 0..60 {
        let mut mix = Mix::new(seed, 4_000, Selectors::EACH[seed as usize % 4]);
        mix.oddities = [0, 1000, 10_000][seed as usize % 3];
        mix.accounts = [2, 3, 50, 1000][seed as usize / 4 % 4];
        mix.new_ids = [0, 500, 1000][seed as usize / 3 % 3];
        let mut log = Vec::new();
        let truth = write(&mix, &mut log).unwrap();
        let log = String::from_utf8(log).unwrap();
        let read = Oracle::new(&log, &truth.passwd).books(0);
        let differences = truth.books.differences(&read, false);
        assert!(differences.is_empty(), "seed {seed}: {differences:#?}");
        assert!(read.totals().balance());
        assert_eq!(log.lines().count() as u64, truth.lines.total);
        assert_eq!(log.len() as u64, truth.lines.bytes);
        let completed =
            log.lines().filter(|line| line.ends_with(" Completed") || line.contains(" Completed QT=")).count();
        assert_eq!(completed as u64, truth.lines.sent);
        met.add(&read.totals());
    }
    // Every figure occurred.
    assert!(met.values().iter().all(|figure| *figure > 20), "{met:?}");
}

/// The situations: what the oracle reads is what a person worked out.
#[test]
fn the_oracle_agrees_with_every_situation() {
    let mut wrong = Vec::new();
    let situations = situations::exim();
    assert!(situations.len() >= 35, "only {} situations found", situations.len());
    for situation in situations {
        let read = Oracle::new(&situation.log, situations::PASSWD).books(0);
        assert!(read.totals().balance(), "{}: {:?}", situation.name, read.totals());
        for difference in situation.expected.differences(&read, false) {
            wrong.push(format!("{}: {difference}", situation.name));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// From any line on, the oracle's books balance and hold no more messages than the whole log.
#[test]
fn the_oracle_balances_from_any_line() {
    let generated = Selectors::EACH.map(|selectors| {
        let mut mix = Mix::new(11, 2_000, selectors);
        mix.oddities = 10_000;
        let mut log = Vec::new();
        let truth = write(&mix, &mut log).unwrap();
        (format!("{selectors:?}"), String::from_utf8(log).unwrap(), truth.passwd)
    });
    let situations = situations::exim().into_iter().map(|s| (s.name, s.log, situations::PASSWD.to_owned()));
    for (name, log, passwd) in situations.chain(generated) {
        let oracle = Oracle::new(&log, &passwd);
        let whole = oracle.books(0).totals();
        let step = oracle.lines() / 200 + 1;
        for k in (0..=oracle.lines()).step_by(step) {
            let books = oracle.books(k);
            let from = books.totals();
            assert!(from.balance(), "{name} from line {k}: {from:?}");
            assert!(from.messages <= whole.messages && from.sent <= whole.sent, "{name} from line {k}: {from:?}");
            assert_eq!(books.unattributed.get("opened_before_log").map_or(0, |f| f.messages), 0);
        }
    }
}
