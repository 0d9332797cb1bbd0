//! Any bytes as journal export: no panic, and the pieces they come in make no difference.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sendwarden::host::journal::{Entry, Export};

fuzz_target!(|data: &[u8]| {
    let read = |piece: usize| {
        let mut entries: Vec<Entry> = Vec::new();
        let mut export = Export::new(64);
        let mut pieces = data.chunks(piece);
        let whole = pieces.all(|piece| export.feed(piece, &mut |entry| entries.push(entry.clone())).is_ok());
        (entries, whole)
    };
    assert_eq!(read(1), read(data.len().max(1)));
});
