//! Any bytes, line by line, through heads, stamps and the Postfix dialect: no panic, and what is saved restores to a
//! reader that reads on in the same way.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sendwarden::mail::Time;
use sendwarden::mta::Mta;
use sendwarden::mta::postfix::Postfix;
use sendwarden::mta::syslog::Stamps;

fuzz_target!(|data: &[u8]| {
    let stamps = || Stamps { zone: jiff::tz::TimeZone::UTC, reference: Time::from_secs(1_795_430_000) };
    let mut postfix = Postfix::new(stamps());
    for line in data.split(|&b| b == b'\n') {
        let mut other = Postfix::new(stamps());
        other.restore(&postfix.save());
        assert_eq!(postfix.read(line), other.read(line));
    }
});
