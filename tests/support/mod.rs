//! The rig of the end-to-end tests: a real Postfix or Exim of our own, SMTP sinks that record what arrives, and the agent.
//!
//! Everything is on loopback, in directories of its own, and stopped by pid when its value is dropped. A test waits
//! for conditions (`wait_until`), never for time to pass.
#![allow(dead_code, reason = "each test file uses its part of the rig")]
#![allow(clippy::disallowed_methods, reason = "tests start processes and poll the real clock")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a rig that does not stand is a failed test"
)]

pub mod agent;
pub mod dkim;
pub mod exim;
pub mod filter;
pub mod gated;
pub mod gated_exim;
pub mod held;
pub mod helper;
pub mod hosting;
pub mod http;
pub mod ident;
pub mod inject;
pub mod neighbour;
pub mod pace;
pub mod place;
pub mod postfix;
pub mod receiver;
pub mod server;
pub mod sink;
pub mod smtp;
pub mod truth;

use std::time::{Duration, Instant};

/// The longest a condition may take before the test fails.
pub const LIMIT: Duration = Duration::from_secs(120);

/// Polls until `done`; fails the test after `LIMIT`, naming what was awaited.
pub fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    wait_for(what, || done().then_some(()));
}

/// Polls until `found` gives something; fails the test after `LIMIT`, naming what was awaited.
pub fn wait_for<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    wait_or(|()| what.to_owned(), || found().ok_or(()))
}

/// As `wait_for`; what was found last tells more of what was awaited.
pub fn wait_or<T, E>(mut what: impl FnMut(E) -> String, mut found: impl FnMut() -> Result<T, E>) -> T {
    let end = Instant::now() + LIMIT;
    loop {
        let missed = match found() {
            Ok(value) => return value,
            Err(missed) => missed,
        };
        assert!(Instant::now() < end, "gave up after {} s waiting for: {}", LIMIT.as_secs(), what(missed));
        std::thread::sleep(Duration::from_millis(20));
    }
}
