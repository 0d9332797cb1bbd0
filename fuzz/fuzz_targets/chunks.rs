//! Texts in pieces, of a few processes: the first byte of a line names the process. No panic, nothing grows without
//! bound, and every piece is pending, part of a whole text, or counted as lost.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sendwarden::mail::Time;
use sendwarden::mta::syslog::{Chunks, Line, Piece};

fuzz_target!(|data: &[u8]| {
    let mut chunks = Chunks::default();
    let (mut taken, mut ended) = (0u64, 0u64);
    for (n, line) in data.split(|&b| b == b'\n').enumerate() {
        let Some((&process, text)) = line.split_first() else { continue };
        let line = Line { at: Time::from_secs(n as i64), host: b"mx", tag: b"exim", pid: u32::from(process % 4), text };
        let before: u64 = chunks.begun().iter().map(|begun| u64::from(begun.seen)).sum();
        match chunks.take(&line) {
            Piece::Single | Piece::Orphan => {}
            Piece::Pending => taken += 1,
            Piece::Whole(_) => {
                taken += 1;
                let after: u64 = chunks.begun().iter().map(|begun| u64::from(begun.seen)).sum();
                ended += before + 1 - after;
            }
        }
        assert!(chunks.begun().iter().map(|begun| begun.text.len()).sum::<usize>() < 1 << 20);
    }
    chunks.finish();
    // Texts that were given up in the same step as another was completed are in both sums.
    assert!(ended + chunks.take_lost() >= taken);
});
