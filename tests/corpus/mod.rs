//! A generator of realistic Postfix logs that knows the exact figures of what it wrote.
//!
//! The life of every message is decided first and booked in the truth, then written as the lines a real server logs
//! (shapes of Postfix 3.7, captured and from source), interleaved in time with thousands of others. Deterministic
//! from the seed. It never reads a log and shares no code with the product or with the oracle: it is the first of
//! two independent truths.
//!
//! Used by tests and benches through `#[path]`: `corpus::write(&Mix, &mut out) -> Truth`.

#![allow(dead_code, reason = "each test and bench uses its own part")]

pub mod exim;
pub mod figures;
mod life;
mod script;

use std::io::{self, Write};

pub use figures::{Books, Figures};

/// How lines are stamped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stamps {
    /// `Nov 23 10:32:56`, of postlogd and traditional syslog.
    Traditional,
    /// `2026-11-23T10:32:56.123456+00:00`, the default of today's rsyslog.
    Rfc3339,
    /// `2026-11-23 10:32:56`, of Exim's own file.
    Exim,
    /// `2026-11-23 10:32:56.123 +0000`: with `+millisec` and a `log_timezone`.
    EximZoned,
}

/// What the log is made of. Shares are per thousand messages.
#[derive(Debug, Clone)]
pub struct Mix {
    pub seed: u64,
    /// About this many lines: messages begun are brought to their end.
    pub lines: u64,
    pub accounts: u32,
    pub stamps: Stamps,
    /// Unix time of the first line.
    pub start: u64,
    /// Log time between two new messages, in microseconds, on average.
    pub gap_us: u64,
    pub script: u32,
    pub smtp_auth: u32,
    /// Unauthenticated SMTP from loopback; the rest is incoming.
    pub local_smtp: u32,
    /// Go through a content filter (10024 → 10025).
    pub filtered: u32,
    /// Recipients that are put off at their first attempt.
    pub deferring: u32,
    pub bouncing: u32,
    /// Held, deleted, requeued, forwarded, lost: scale of the rare things, 1000 = as on a usual server.
    pub oddities: u32,
    /// Lines of other programs, per thousand lines.
    pub foreign: u32,
    /// Every message from the next account in turn, instead of few accounts sending most.
    pub round_robin: bool,
}

impl Mix {
    pub fn new(seed: u64, lines: u64) -> Mix {
        Mix {
            seed,
            lines,
            accounts: 200,
            stamps: Stamps::Traditional,
            start: 1_794_787_200,
            gap_us: 200_000,
            script: 500,
            smtp_auth: 250,
            local_smtp: 40,
            filtered: 150,
            deferring: 70,
            bouncing: 50,
            oddities: 1000,
            foreign: 30,
            round_robin: false,
        }
    }

    /// The log of the reading bench: one day of a large server.
    pub fn bench() -> Mix {
        Mix { accounts: 5_000, script: 560, smtp_auth: 220, filtered: 50, ..Mix::new(1, 2_600_000) }
    }

    /// One line that says what the log is made of.
    pub fn describe(&self) -> String {
        format!(
            "seed {}, {} accounts, origin script/smtp_auth/local_smtp/incoming {}/{}/{}/{} ‰, filtered {} ‰, \
             deferred at first {} ‰, bounced {} ‰, foreign lines {} ‰, stamps {:?}",
            self.seed,
            self.accounts,
            self.script,
            self.smtp_auth,
            self.local_smtp,
            1000u32.saturating_sub(self.script + self.smtp_auth + self.local_smtp),
            self.filtered,
            self.deferring,
            self.bouncing,
            self.foreign,
            self.stamps
        )
    }
}

/// Lines by class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Lines {
    pub total: u64,
    /// Lines that say something about a message.
    pub events: u64,
    /// Lines of the mail server that do not.
    pub noise: u64,
    /// Lines of other programs.
    pub foreign: u64,
    pub bytes: u64,
    /// Lines that hold `status=sent` (Postfix) or ` Completed` (Exim): what the bench's yardstick counts.
    pub sent: u64,
}

/// What the log says, by construction.
#[derive(Debug, Clone, Default)]
pub struct Truth {
    pub books: Books,
    pub lines: Lines,
    /// A passwd file that names the uids, but for every twentieth (those accounts are `uidN`).
    pub passwd: String,
    /// Most messages in the queue at one time.
    pub in_flight: u64,
}

/// Writes the log of `mix` and returns its truth.
pub fn write(mix: &Mix, out: &mut impl Write) -> io::Result<Truth> {
    life::Server::new(mix).run(out)
}
