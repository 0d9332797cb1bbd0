//! Any bytes, line by line, through the reader of PHP's log of mails: no panic, and what is saved restores to a reader
//! that reads on in the same way.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sendwarden::mail::Time;
use sendwarden::mta::Mta;
use sendwarden::mta::php::Php;
use sendwarden::mta::syslog::Stamps;

fuzz_target!(|data: &[u8]| {
    let stamps = || Stamps { zone: jiff::tz::TimeZone::UTC, reference: Time::from_secs(1_795_430_000) };
    let reader = || Php::new(stamps(), |name| jiff::tz::TimeZone::get(name).ok());
    let mut php = reader();
    for line in data.split(|&b| b == b'\n') {
        let mut other = reader();
        other.restore(&php.save());
        assert_eq!(php.read(line), other.read(line));
    }
});
