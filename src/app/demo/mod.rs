//! Recorded traffic for `sendwarden demo`: played again and again into a log file as if it happened now.
//!
//! The pump that reads the log is the agent's own and knows nothing of it. Nothing is written outside the scratch
//! directory, which only its owner may enter and which goes with its value.

use crate::host::clock;
use crate::mail::Time;
use jiff::Timestamp;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

/// An hour of a Postfix with eight hosting accounts, in the shapes of real logs; names and addresses are those
/// reserved for documentation.
const TRAFFIC: &str = include_str!("traffic.log");
/// The accounts of that traffic.
pub const ACCOUNTS: &str = include_str!("accounts.yaml");
/// Long queue ids begin with the second they were made in, six digits of base 52; the recording has but one.
const RECORDED_SECOND: &str = "4jXzQ0";
/// The log is rotated at this size, so that a demonstration left running does not fill the disk.
const ROTATE: u64 = 32 << 20;

/// One line of the recording.
#[derive(Debug)]
struct Line {
    /// Time since the first line.
    after: Duration,
    /// Everything after the stamp.
    rest: &'static str,
}

/// A directory of our own that is removed with this value.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// Makes it below the system's directory for temporary files.
    ///
    /// # Errors
    /// When nothing may be made there.
    pub fn new() -> io::Result<Scratch> {
        let name = format!("sendwarden-demo-{}-{:08x}", std::process::id(), clock::seed() & 0xffff_ffff);
        let dir = std::env::temp_dir().join(name);
        fs::DirBuilder::new().mode(0o700).create(&dir)?;
        Ok(Scratch(dir))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(why) = fs::remove_dir_all(&self.0) {
            tracing::warn!("cannot remove {}: {why}", self.0.display());
        }
    }
}

/// Appends the recording to `log`, round after round, `speed` seconds of it per second, until `stop` says so or its
/// sender is gone.
///
/// # Errors
/// When the log cannot be written.
pub fn play(log: &Path, speed: u32, stop: &Receiver<()>) -> io::Result<()> {
    let recording = recording();
    let mut file = open(log)?;
    let mut second = 0;
    loop {
        let round = clock::monotonic();
        // Fresh queue ids in every round: a second is never used twice.
        second = clock::now().secs().max(second + 1);
        let fresh = queue_id_second(second);
        for line in &recording {
            let wait = clock::left(round, line.after / speed);
            let told = if wait.is_zero() {
                stop.try_recv().map_err(|why| why == std::sync::mpsc::TryRecvError::Empty)
            } else {
                file.flush()?;
                stop.recv_timeout(wait).map_err(|why| why == RecvTimeoutError::Timeout)
            };
            if told != Err(true) {
                return file.flush();
            }
            writeln!(file, "{} {}", stamp(clock::now()), line.rest.replace(RECORDED_SECOND, &fresh))?;
        }
        file.flush()?;
        if file.get_ref().metadata()?.len() > ROTATE {
            fs::rename(log, log.with_extension("log.1"))?;
            file = open(log)?;
        }
    }
}

fn open(log: &Path) -> io::Result<io::BufWriter<File>> {
    File::options().create(true).append(true).open(log).map(io::BufWriter::new)
}

fn recording() -> Vec<Line> {
    let mut first = None;
    let line = |line: &'static str| {
        let (stamp, rest) = line.split_once(' ')?;
        let at: Timestamp = stamp.parse().ok()?;
        let after = at.duration_since(*first.get_or_insert(at));
        Some(Line { after: Duration::try_from(after).unwrap_or_default(), rest })
    };
    TRAFFIC.lines().filter_map(line).collect()
}

fn stamp(at: Time) -> String {
    let at = Timestamp::from_microsecond(at.0).unwrap_or_default();
    at.strftime("%Y-%m-%dT%H:%M:%S%.6f+00:00").to_string()
}

/// The first six characters of a long queue id, as Postfix makes them (`src/global/mail_queue.h`).
fn queue_id_second(mut second: i64) -> String {
    const DIGITS: &[u8] = b"0123456789BCDFGHJKLMNPQRSTVWXYZbcdfghjklmnpqrstvwxyz";
    let mut digits = Vec::new();
    for _ in 0..6 {
        digits.push(usize::try_from(second % 52).ok().and_then(|at| DIGITS.get(at)).copied().unwrap_or(b'0'));
        second /= 52;
    }
    digits.iter().rev().map(|&digit| char::from(digit)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::ingest::Ingest;
    use crate::engine::Engine;
    use crate::engine::attribution::{User, Wanted};
    use crate::engine::directory::{Directory, Policy};
    use crate::engine::replies::Replies;
    use crate::engine::tracker::Settings;
    use crate::mail::Unattributed;
    use crate::mta::postfix::Postfix;
    use crate::mta::syslog::Stamps;

    /// The recording shows what it promises: every account, every outcome, nothing that is not understood.
    #[test]
    fn the_recording_is_understood_and_attributed() {
        let accounts = crate::config::parse_accounts_yaml("accounts.yaml", ACCOUNTS.as_bytes()).unwrap();
        let directory = Directory::build(accounts, Policy::default()).unwrap();
        let mut engine = Engine::new(Settings::default(), directory, Replies::default(), 7);
        let stamps = Stamps { zone: jiff::tz::TimeZone::UTC, reference: Time::from_secs(1_800_000_000) };
        let mut ingest = Ingest::new(Postfix::new(stamps));
        let web = |wanted: Wanted<'_>| {
            (wanted == Wanted::Uid(33)).then(|| User {
                uid: 33,
                login: "www-data".to_owned(),
                home: "/var/www".to_owned(),
            })
        };
        for line in TRAFFIC.lines() {
            ingest.line(line.as_bytes(), &mut engine, &mut web.clone(), &mut ());
        }
        engine.finish(&mut ());
        assert_eq!(ingest.unknown.samples, Vec::<String>::new());
        let total = engine.ledger.total();
        assert!(total.balance());
        assert!(total.sent > 0 && total.bounced > 0 && total.expired > 0 && total.deleted > 0, "{total:?}");
        assert!(total.deferred > 0 && total.queued == 0 && total.unaccounted == 0, "every message ends: {total:?}");
        let names: Vec<&str> = engine
            .ledger
            .owners()
            .filter(|(owner, _)| owner.is_account())
            .map(|(owner, _)| engine.attribution.accounts.name(owner))
            .collect();
        assert_eq!(names.len(), 8, "{names:?}");
        for why in [Unattributed::Bounce, Unattributed::Incoming, Unattributed::NoEvidence, Unattributed::WebServerUid]
        {
            let seen = engine.ledger.owners().any(|(owner, account)| {
                owner.unattributed() == Some(why) && account.counts.messages + account.counts.recipients > 0
            });
            assert!(seen, "{why:?}");
        }
    }

    #[test]
    fn it_is_written_as_now_and_with_fresh_queue_ids() {
        let scratch = Scratch::new().unwrap();
        let log = scratch.path().join("mail.log");
        let (stop, stopped) = std::sync::mpsc::channel();
        let thread = {
            let log = log.clone();
            std::thread::spawn(move || play(&log, 86_400, &stopped))
        };
        let rounds = || {
            let text = fs::read_to_string(&log).unwrap_or_default();
            let ids: std::collections::BTreeSet<String> = text
                .lines()
                .filter_map(|line| line.split_once("pickup[2210]: ")?.1.get(..6).map(str::to_owned))
                .collect();
            (ids.len(), text)
        };
        let end = clock::monotonic();
        while rounds().0 < 3 {
            assert!(end.elapsed() < Duration::from_secs(30));
            std::thread::yield_now();
        }
        drop(stop);
        thread.join().unwrap().unwrap();
        let text = rounds().1;
        assert!(!text.contains(RECORDED_SECOND) && !text.contains("2026-11-23T09:0"));
        let dir = scratch.path().to_owned();
        assert!(dir.exists());
        drop(scratch);
        assert!(!dir.exists());
    }

    #[test]
    fn queue_ids_begin_as_those_of_postfix() {
        assert_eq!(queue_id_second(0), "000000");
        assert_eq!(queue_id_second(51), "00000z");
        assert_eq!(queue_id_second(52), "000010");
    }
}
