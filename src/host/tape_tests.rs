//! The tape against a plain list: appends, reads, crashes and fresh starts in any order.

use super::*;
use proptest::prelude::*;
use std::cell::Cell;

fn record(n: u32) -> Record {
    Record {
        at: Time(i64::from(n) * 1_000),
        server: [Server::Postfix, Server::Exim][n as usize % 2],
        instance: format!("postfix-{}", n % 3).into(),
        id: QueueId::new(format!("4jY2SR{n:05}zz5bd5").as_bytes()).unwrap(),
        owner: Owner(16 + n),
        order: OrderId { micros: u64::from(n), chance: u64::MAX - u64::from(n) },
        origin: Origin::ALL[n as usize % Origin::ALL.len()],
        recipients: n,
        crossed: (n % 5 == 2).then(|| Crossed {
            rule: format!("rule {n}").into(),
            observed: u64::from(n),
            login: ["", "b\u{fc}x@h.test"][n as usize % 2].into(),
        }),
        lost: (n % 4 == 3).then(|| Lost {
            sender: if n % 8 == 3 { Box::default() } else { b"a b%\n>@h.test"[..].into() },
            recipients: (0..n % 5).map(|to| format!("c\u{fc}{to} d@x.test\0").into_bytes().into()).collect(),
        }),
    }
}

/// A line is never longer than what is read at a time, whatever the addresses are.
#[test]
fn the_longest_record_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let tape = Tape::open(folder.path(), 1).unwrap();
    let lost = Lost { sender: vec![b' '; 512].into(), recipients: vec![b"\xff"[..].into(); 8 * 1024] };
    let long = Record { lost: Some(lost), ..record(1) };
    assert!(long.to_string().len() < 64 * 1024);
    tape.append(&long).unwrap();
    tape.append(&record(2)).unwrap();
    assert_eq!(tape.read(Position::default()).unwrap().0, [long, record(2)]);
    for bad in ["discarded", "discarded x", "discarded <a", "discarded <> <%4>", "discarded <%zz>", "kept <a>"] {
        let line = record(1).to_string().replace('\n', &format!(" {bad}"));
        assert_eq!(parse(line.as_bytes()), None, "{bad}");
    }
}

#[test]
fn what_is_no_record_is_counted_and_half_a_line_is_cut() {
    let folder = tempfile::tempdir().unwrap();
    let tape = Tape::open(folder.path(), 1).unwrap();
    tape.append(&record(1)).unwrap();
    let path = tape.path().to_owned();
    drop(tape);
    let mut file = OpenOptions::new().append(true).open(&path).unwrap();
    file.write_all(b"rubbish\n1 2 \xff\n1793000000 0 4jY2").unwrap();
    let tape = Tape::open(folder.path(), 2).unwrap();
    tape.append(&record(2)).unwrap();
    let (records, bad, position) = tape.read(Position::default()).unwrap();
    assert_eq!((records, bad, position.tape), (vec![record(1), record(2)], 2, 1));
    // A tape without its name is none.
    std::fs::write(&path, b"\0\0\0\0").unwrap();
    let tape = Tape::open(folder.path(), 3).unwrap();
    assert_eq!(tape.read(position).unwrap().0, vec![]);
    assert_eq!(tape.read(position).unwrap().2.tape, 3);
}

#[derive(Debug, Clone)]
enum Step {
    Append(u8),
    Read,
    /// What was read is in the store.
    Commit,
    /// A crash: read again from the last commit; with half a line written, or whole.
    Crash(bool),
    Trim,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (1..12u8).prop_map(Step::Append),
        3 => Just(Step::Read),
        3 => Just(Step::Commit),
        1 => any::<bool>().prop_map(Step::Crash),
        2 => Just(Step::Trim),
    ]
}

#[test]
fn every_record_is_committed_once() {
    let (crashes, again, fresh) = (Cell::new(0), Cell::new(0), Cell::new(0));
    let config = ProptestConfig { cases: 10_000, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(steps in prop::collection::vec(step(), 1..25))| {
        let folder = tempfile::tempdir().unwrap();
        let mut tape = Tape::open(folder.path(), 1).unwrap();
        let (mut written, mut names) = (0, 1);
        let (mut read, mut at) = (Vec::new(), Position::default());
        let (mut stored, mut committed) = (Vec::new(), Position::default());
        for step in steps.into_iter().chain([Step::Read, Step::Read, Step::Read, Step::Commit]) {
            match step {
                Step::Append(n) => for _ in 0..n {
                    tape.append(&record(written)).unwrap();
                    written += 1;
                },
                Step::Read => {
                    let (records, bad, position) = tape.read(at).unwrap();
                    prop_assert_eq!(bad, 0);
                    read.extend(records);
                    at = position;
                }
                Step::Commit => {
                    stored.append(&mut read);
                    committed = at;
                }
                Step::Crash(half) => {
                    crashes.set(crashes.get() + 1);
                    again.set(again.get() + read.len());
                    if half {
                        let mut file = OpenOptions::new().append(true).open(tape.path()).unwrap();
                        file.write_all(b"1793 0 4jY").unwrap();
                    }
                    names += 1;
                    tape = Tape::open(folder.path(), names).unwrap();
                    (read, at) = (Vec::new(), committed);
                }
                Step::Trim => {
                    let before = tape.read(committed).unwrap().2.tape;
                    names += 1;
                    tape.trim(committed, names).unwrap();
                    fresh.set(fresh.get() + u32::from(tape.read(committed).unwrap().2.tape != before));
                }
            }
        }
        prop_assert_eq!(stored, (0..written).map(record).collect::<Vec<_>>());
    });
    println!("crashes {}, records read again {}, fresh starts {}", crashes.get(), again.get(), fresh.get());
    assert!(crashes.get() > 0 && again.get() > 0 && fresh.get() > 0);
}
