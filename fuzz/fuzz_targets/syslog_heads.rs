//! Any bytes, line by line, through whatever a source may hold: heads, stamps, Exim's own form, containers. No panic, and
//! what is saved restores to a reader that reads on in the same way.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sendwarden::mail::Time;
use sendwarden::mta::Mta;
use sendwarden::mta::any::Any;
use sendwarden::mta::syslog::Stamps;

fuzz_target!(|data: &[u8]| {
    let stamps = || Stamps { zone: jiff::tz::TimeZone::UTC, reference: Time::from_secs(1_795_430_000) };
    let mut any = Any::new(stamps(), None);
    for line in data.split(|&b| b == b'\n') {
        let mut other = Any::new(stamps(), None);
        other.restore(&any.save());
        assert_eq!(any.read(line), other.read(line));
    }
});
