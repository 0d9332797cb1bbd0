//! Recorded lines of real servers: each reads as an event, noise or foreign, in the numbers of the golden text.
//!
//! After a change on purpose, take over the text that the failing test prints.

use sendwarden::mail::{Kind, Time};
use sendwarden::mta::exim::Exim;
use sendwarden::mta::postfix::Postfix;
use sendwarden::mta::syslog::Stamps;
use sendwarden::mta::{Mta, Read};
use std::collections::BTreeMap;
use std::path::Path;

fn name(read: &Read<'_>) -> &'static str {
    match read {
        Read::Noise => "noise",
        Read::Pending => "pending",
        Read::Foreign => "foreign",
        Read::Unknown(_) => "unknown",
        Read::Event(event) => match event.kind {
            Kind::Submitted { .. } => "submitted",
            Kind::Received { .. } => "received",
            Kind::Accepted(_) => "accepted",
            Kind::Early(_) => "early",
            Kind::Added { .. } => "added",
            Kind::GivenUp { .. } => "given_up",
            Kind::Identified { .. } => "identified",
            Kind::Activated { .. } => "activated",
            Kind::Attempt(_) => "attempt",
            Kind::Notified { .. } => "notified",
            Kind::Expired { .. } => "expired",
            Kind::Ended { .. } => "ended",
            Kind::Held { .. } => "held",
            Kind::Gated { .. } => "gated",
            Kind::Released { .. } => "released",
            Kind::Requeued { .. } => "requeued",
            Kind::Swept { .. } => "swept",
            Kind::LoginFailed { .. } => "login_failed",
            Kind::Script(_) => "script",
        },
    }
}

#[test]
fn recorded_lines_are_all_understood() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/lines");
    let mut files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "log"));
    files.sort();
    let mut golden = String::new();
    for file in files {
        let bytes = std::fs::read(&file).unwrap();
        // The recordings end on 23 November 2026.
        let reference = Time(jiff::Timestamp::from_second(1_795_478_400).unwrap().as_microsecond());
        let stamps = Stamps { zone: jiff::tz::TimeZone::UTC, reference };
        let (mut postfix, mut exim) = (Postfix::new(stamps.clone()), Exim::new(stamps));
        let of_exim = file.file_name().unwrap().to_string_lossy().starts_with("exim-");
        let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
        for line in bytes.split(|&b| b == b'\n').filter(|line| !line.is_empty()) {
            let read = if of_exim { exim.read(line) } else { postfix.read(line) };
            assert!(!matches!(read, Read::Unknown(_)), "{}: {read:?}", String::from_utf8_lossy(line));
            *counts.entry(name(&read)).or_default() += 1;
        }
        golden += &format!("{}\n", file.file_name().unwrap().to_string_lossy());
        for (kind, times) in counts {
            golden += &format!("{times:6} {kind}\n");
        }
    }
    let want = std::fs::read_to_string(folder.join("counts.txt")).unwrap_or_default();
    assert!(golden == want, "the golden text differs; it is now:\n{golden}");
}
