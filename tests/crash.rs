//! SIGKILL at any moment, any number of times: every line counted exactly once.
//!
//! The built binary follows a generated log that is appended in pieces (lines cut in half too) and rotated, and is
//! killed over and over: after random times, and at the very moment the store's write-ahead log changes. In the end
//! every figure of every account equals one uninterrupted reading and the generator's own books.
#![allow(clippy::disallowed_methods, reason = "tests start processes and poll the real clock")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

mod corpus;
mod crash_support;

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use corpus::{Mix, Stamps};
use crash_support::{House, wait};
use rustix::process::Signal;
use sendwarden::host::follow::Position;
use sendwarden::store::Views;

const KILLS: usize = 110;
/// Kind of the rows that are open messages.
const OPEN: u8 = 2;

/// The log as its writer knows it: pieces of `text`, over files that are renamed away.
struct Writer<'a> {
    text: &'a [u8],
    written: usize,
    file: File,
    path: &'a Path,
    /// Where in `text` the file with this inode begins.
    begins: HashMap<u64, u64>,
    rotations: usize,
}

impl<'a> Writer<'a> {
    fn new(text: &'a [u8], path: &'a Path) -> Writer<'a> {
        let file = File::create(path).unwrap();
        let begins = HashMap::from([(file.metadata().unwrap().ino(), 0)]);
        Writer { text, written: 0, file, path, begins, rotations: 0 }
    }

    fn append(&mut self, bytes: usize) {
        let piece = &self.text[self.written..(self.written + bytes).min(self.text.len())];
        self.file.write_all(piece).unwrap();
        self.written += piece.len();
    }

    /// As logrotate does it: all siblings move up by one, at the end of a line.
    fn rotate(&mut self) {
        let rest = &self.text[self.written..];
        let line = rest.iter().position(|&b| b == b'\n').map_or(rest.len(), |n| n + 1);
        if self.written > 0 && self.text[self.written - 1] != b'\n' {
            self.append(line);
        }
        let name = |n: usize| self.path.with_file_name(format!("mail.log.{n}"));
        for n in (1..=self.rotations).rev() {
            fs::rename(name(n), name(n + 1)).unwrap();
        }
        fs::rename(self.path, name(1)).unwrap();
        self.rotations += 1;
        self.file = File::create(self.path).unwrap();
        self.begins.insert(self.file.metadata().unwrap().ino(), self.written as u64);
    }

    /// Bytes written that no commit covers.
    fn unread(&self, state: &Path) -> u64 {
        let read = Views::open(state).ok().and_then(|views| {
            let (_, position) = views.positions().ok()?.into_iter().next()?;
            let at = Position::from_bytes(&position)?;
            Some(self.begins.get(&at.id.ino)? + at.offset)
        });
        self.written as u64 - read.unwrap_or(0)
    }
}

fn open_messages(state: &Path) -> usize {
    Views::open(state).and_then(|views| views.rows(OPEN)).map_or(0, |rows| rows.len())
}

/// Counters, which may never go down, not even over a kill.
fn counters(house: &House) -> BTreeMap<String, f64> {
    let process = |name: &str| name.starts_with("process_") || name.starts_with("sendwarden_store_commit");
    house.metrics().into_iter().filter(|(name, _)| name.contains("_total") && !process(name)).collect()
}

#[derive(Debug, Default)]
struct Seen {
    kills: usize,
    unread: usize,
    open: usize,
    both: usize,
    at_a_commit: usize,
    compared: usize,
}

fn survives(stamps: Stamps, seed: u64) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    // Yesterday, so that its longest retry is not ahead of the clock.
    let mix = Mix { accounts: 60, stamps, start: now - 86_400, ..Mix::new(seed, 150_000) };
    let mut text = Vec::new();
    let truth = corpus::write(&mix, &mut text).unwrap();
    // The log goes on: a line of an hour later ends all waiting, in the agent as at the end of a replay.
    text.extend(last_line(stamps, &text));
    let house = House::new("");
    let accounts = house.dir.join("accounts.csv");
    fs::write(&accounts, accounts_file(mix.accounts)).unwrap();
    house.configure(&format!("accounts_file: {}\n", accounts.display()));

    let mut writer = Writer::new(&text, &house.log);
    let wal = house.state.join("sendwarden.db-wal");
    let touched = || fs::metadata(&wal).ok().map(|m| (m.len(), m.mtime(), m.mtime_nsec()));
    let mut seen = Seen::default();
    let mut least: Option<BTreeMap<String, f64>> = None;
    let piece = text.len() / KILLS;
    // What was rotated away before an agent ever committed is not its business: it begins with the live log.
    writer.append(piece / 2);
    let running = house.start();
    wait(&house, "the first commit", || writer.unread(&house.state) < writer.written as u64);
    running.kill();
    for kill in 1..=KILLS {
        let target = piece * kill;
        if rng.u8(..8) == 0 {
            writer.rotate();
        }
        writer.append(rng.usize(0..piece / 2));
        let started = Instant::now();
        let running = house.spawn();
        if kill % 10 == 5 {
            // Now and then the figures themselves are read before and after.
            wait(&house, "the agent to answer", || house.ready().is_some());
            let now = counters(&house);
            for (name, before) in least.take().unwrap_or_default() {
                let after = now.get(&name).copied().unwrap_or(0.0);
                assert!(after >= before, "{name} was {before} before a kill and is {after} after it");
                seen.compared += 1;
            }
        }
        let at_a_commit = kill % 5 < 4;
        let until = Duration::from_millis(if at_a_commit { 150 } else { rng.u64(5..120) });
        let patience = Duration::from_millis(1_000);
        let was = touched();
        let rotate_at = (rng.u8(..6) == 0).then(|| rng.u64(30..100));
        let mut rotated = false;
        loop {
            let left = target.saturating_sub(writer.written);
            writer.append(left.min(rng.usize(1..=1 + piece / 12)));
            let passed = started.elapsed();
            if !rotated && rotate_at.is_some_and(|at| passed.as_millis() as u64 >= at) {
                writer.rotate();
                rotated = true;
            }
            if at_a_commit {
                // Spin: the moment between two writes of one commit is short.
                let end = Instant::now() + Duration::from_micros(rng.u64(200..3_000));
                let changed = || passed > until && touched() != was;
                let mut hit = changed();
                let mark = touched();
                while !hit && Instant::now() < end {
                    hit = touched() != mark;
                }
                if (hit && passed > until) || passed > patience {
                    seen.at_a_commit += usize::from(hit);
                    // At once, or a little later: a second transaction would follow the first within moments.
                    let end = Instant::now() + Duration::from_micros(rng.u64(0..2_000) * u64::from(kill % 5 > 0));
                    while Instant::now() < end {
                        std::hint::spin_loop();
                    }
                    break;
                }
            } else if passed > until {
                break;
            } else {
                std::thread::sleep(Duration::from_micros(rng.u64(200..3_000)));
            }
        }
        writer.append(target.saturating_sub(writer.written).min(rng.usize(0..400)));
        if kill % 10 == 4 {
            wait(&house, "the agent to answer", || house.ready().is_some());
            least = Some(counters(&house));
        }
        running.kill();
        seen.kills += 1;
        let (unread, open) = (writer.unread(&house.state) > 0, open_messages(&house.state) > 0);
        seen.unread += usize::from(unread);
        seen.open += usize::from(open);
        seen.both += usize::from(unread && open);
    }
    writer.append(text.len());
    let running = house.start();
    wait(&house, "every byte to be read", || writer.unread(&house.state) == 0);
    running.stop(Signal::TERM);
    println!("{stamps:?}: {seen:?}, {} rotations, {} lines", writer.rotations, truth.lines.total);
    assert!(seen.both * 2 >= seen.kills, "too few kills with unread bytes and open messages: {seen:?}");
    assert!(seen.compared > 0);

    let whole = house.dir.join("whole.log");
    fs::write(&whole, &text).unwrap();
    let (read, got) = (house.replay(&whole), house.books());
    let mut wrong = read.differences(&got, false);
    wrong.extend(truth.books.differences(&got, false).into_iter().map(|w| format!("by the generator, {w}")));
    assert!(wrong.is_empty(), "after {} kills {} figures differ:\n{}", seen.kills, wrong.len(), first(&wrong));
}

/// A line about no message, an hour after the last one.
fn last_line(stamps: Stamps, text: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(text.trim_ascii_end());
    let last = text.rsplit('\n').next().unwrap();
    let stamp = match stamps {
        Stamps::Rfc3339 => {
            let at: jiff::Timestamp = last.split(' ').next().unwrap().parse().unwrap();
            (at + jiff::SignedDuration::from_hours(1)).to_string()
        }
        Stamps::Traditional => {
            let year = jiff::Zoned::now().year();
            let at = jiff::civil::DateTime::strptime(
                "%Y %b %e %H:%M:%S",
                format!("{year} {}", last.get(..15).unwrap_or(last)),
            )
            .unwrap();
            (at + jiff::SignedDuration::from_hours(1)).strftime("%b %e %H:%M:%S").to_string()
        }
        Stamps::Exim | Stamps::EximZoned => panic!("the log here is of the other server"),
    };
    format!("{stamp} mx postfix/pickup[1]: FFFFFFFFFF: uid=0 from=<root>\n").into_bytes()
}

fn first(wrong: &[String]) -> String {
    wrong.iter().take(30).fold(String::new(), |mut out, line| {
        let _ = writeln!(out, "  {line}");
        out
    })
}

/// The uids of the generator with the names of its books: this host's users must not matter.
fn accounts_file(accounts: u32) -> String {
    let mut csv = "id,uids\n".to_owned();
    for n in (0..accounts).step_by(2) {
        let uid = 2001 + n;
        let _ = if n % 20 == 0 { writeln!(csv, "uid{uid},{uid}") } else { writeln!(csv, "web{n},{uid}") };
    }
    csv
}

#[test]
fn every_line_counts_once_over_110_kills_traditional_stamps() {
    survives(Stamps::Traditional, 7);
}

#[test]
fn every_line_counts_once_over_110_kills_rfc3339_stamps() {
    survives(Stamps::Rfc3339, 8);
}
