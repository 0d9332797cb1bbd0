//! Any bytes, line by line, through the Exim dialect, as a file and behind a syslog head: no panic, and what is saved
//! restores to a reader that reads on in the same way.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sendwarden::mail::Time;
use sendwarden::mta::Mta;
use sendwarden::mta::exim::{Exim, read_text};
use sendwarden::mta::syslog::Stamps;

fuzz_target!(|data: &[u8]| {
    let stamps = || Stamps { zone: jiff::tz::TimeZone::UTC, reference: Time::from_secs(1_795_430_000) };
    let mut exim = Exim::new(stamps());
    for line in data.split(|&b| b == b'\n') {
        let mut other = Exim::new(stamps());
        other.restore(&exim.save());
        assert_eq!(exim.read(line), other.read(line));
        read_text(Time::ZERO, b"mx", 1, line);
        let written = [b"2026-11-23 10:35:42 1xVROW-0001BH-2c ", line].concat();
        exim.read(&written);
    }
});
