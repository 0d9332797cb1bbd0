//! What is made of entries as they come: once each, gaps told, strangers passed over. The real journalctl is in `tests/`.

use super::*;

fn reading(place: Place) -> Reading {
    let rejoining = !place.cursor.is_empty();
    Reading {
        filter: Filter::default(),
        place,
        rejoining,
        line: Vec::new(),
        lines: 0,
        cut: 0,
        entries: 0,
        delivered: 0,
        lost: Vec::new(),
        gaps: Gaps::default(),
    }
}

fn stream(entries: &[(u32, u64, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (journal, n, identifier) in entries {
        let time = 1_790_000_000_000_000 + n * 1_000_000;
        out.extend(
            format!(
                "__CURSOR=s={journal:032x};i={n:x};b=0;m={n:x};t={time:x};x=0\n__REALTIME_TIMESTAMP={time}\n\
                 _HOSTNAME=mx\nSYSLOG_IDENTIFIER={identifier}\nMESSAGE={n}\n\n"
            )
            .bytes(),
        );
    }
    out
}

fn feed(reading: &mut Reading, bytes: &[u8]) -> Vec<String> {
    let mut lines = Vec::new();
    let mut take = |line: &[u8]| lines.push(String::from_utf8_lossy(line).rsplit(' ').next().unwrap().to_owned());
    Export::new(99).feed(bytes, &mut |entry| reading.entry(entry, &mut take)).unwrap();
    lines
}

#[test]
fn started_again_anywhere_every_entry_comes_once_and_no_gap_is_told() {
    let all: Vec<(u32, u64, &str)> = (1..9).map(|n| (1, n, if n % 3 == 0 { "cron" } else { "postfix/smtp" })).collect();
    let whole = feed(&mut reading(Place::default()), &stream(&all));
    assert_eq!(whole, ["1", "2", "4", "5", "7", "8"]);
    for cut in 1..all.len() {
        let mut first = reading(Place::default());
        let lines = feed(&mut first, &stream(&all[..cut]));
        // It begins with the entry that was read last; one that reads all from the beginning is no different.
        for from in [cut - 1, 0] {
            let mut second = reading(Place::from_bytes(&first.place.to_bytes()).unwrap());
            let rest = feed(&mut second, &stream(&all[from..]));
            assert_eq!(second.lost, []);
            assert_eq!([lines.clone(), rest].concat(), whole, "cut at {cut}, read again from {from}");
        }
    }
}

#[test]
fn what_was_vacuumed_is_told_with_number_and_times() {
    let mut first = reading(Place::default());
    feed(&mut first, &stream(&[(1, 5, "postfix/smtp")]));
    let place = first.place.clone();
    let at = |n: i64| Time(1_790_000_000_000_000 + n * 1_000_000);
    type Entries<'a> = &'a [(u32, u64, &'a str)];
    let cases: [(Entries<'_>, Option<JournalEvent>); 4] = [
        (
            &[(1, 9, "postfix/smtp"), (1, 20, "a")],
            Some(JournalEvent::Gap { entries: Some(3), after: at(5), before: at(9) }),
        ),
        (&[(1, 6, "postfix/smtp")], None),
        // Of a new journal nobody knows how much of the old one is missing.
        (&[(2, 1, "postfix/smtp")], Some(JournalEvent::Gap { entries: None, after: at(5), before: at(1) })),
        (&[(1, 5, "postfix/smtp"), (1, 9, "postfix/smtp")], None),
    ];
    for (entries, gap) in cases {
        let mut second = reading(place.clone());
        let lines = feed(&mut second, &stream(entries));
        assert!(!lines.is_empty(), "what is there is read");
        assert_eq!(second.lost.first(), gap.as_ref(), "{entries:?}");
        assert!(second.lost.len() <= 1);
    }
}

#[test]
fn files_that_may_not_be_read_are_named_with_their_group() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(denied(Some(dir.path())), None);
    let below = dir.path().join("0123");
    fs::create_dir(&below).unwrap();
    fs::write(below.join("system.journal"), "").unwrap();
    // Root may read everything: nothing to tell.
    assert_eq!(denied(Some(dir.path())), None);
    assert_eq!(denied(Some(Path::new("/nonexistent"))), None);
}
