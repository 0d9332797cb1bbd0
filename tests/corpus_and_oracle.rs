//! The two independent truths agree with each other: the generator's books and the oracle's.

#![allow(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

#[path = "corpus/mod.rs"]
mod corpus;

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
