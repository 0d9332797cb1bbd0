//! The past: rotated and packed files are read oldest first, then the live one, every line once, whatever happens.
//!
//! The built binary starts for the first time beside a log with a history, in every format, with a packed file beside
//! its original; it is killed over and over while the log is rotated and packed under its hands. In the end every
//! figure of every account equals one reading of the whole, and the generator's own books.
#![allow(clippy::disallowed_methods, reason = "tests start processes and poll the real clock")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

mod corpus;
mod crash_support;

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use corpus::{Mix, Stamps, Truth};
use crash_support::{House, wait};
use rustix::process::Signal;
use sendwarden::host::follow::Position;
use sendwarden::host::follow::position::fnv;
use sendwarden::store::Views;

const KILLS: usize = 120;
/// Program and ending of each format.
const FORMATS: [(&str, &str); 4] = [("gzip", "gz"), ("xz", "xz"), ("zstd", "zst"), ("bzip2", "bz2")];

/// Packs a file under its own time, as logrotate does; the original stays.
fn pack(format: usize, from: &Path) -> PathBuf {
    let (program, end) = FORMATS[format];
    let to = PathBuf::from(format!("{}.{end}", from.display()));
    let out = Command::new(program).arg("-c").arg(from).stdout(File::create(&to).unwrap()).status();
    assert!(out.unwrap_or_else(|why| panic!("{program} is needed: {why}")).success());
    stamp(&to, fs::metadata(from).unwrap().modified().unwrap());
    to
}

fn stamp(path: &Path, at: SystemTime) {
    File::options().append(true).open(path).unwrap().set_modified(at).unwrap();
}

/// The end of the line at or after `at`.
fn line_end(text: &[u8], at: usize) -> usize {
    let at = at.min(text.len());
    text[at..].iter().position(|&b| b == b'\n').map_or(text.len(), |n| at + n + 1)
}

struct Made {
    house: House,
    text: Vec<u8>,
    truth: Truth,
}

/// A log of yesterday with its truth, and a house in which its uids have names.
fn make(seed: u64, lines: u64, more: &str) -> Made {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let mix = Mix { accounts: 40, stamps: Stamps::Rfc3339, start: now - 86_400, ..Mix::new(seed, lines) };
    let mut text = Vec::new();
    let truth = corpus::write(&mix, &mut text).unwrap();
    // A line about no message, an hour later, ends all waiting.
    let last = String::from_utf8_lossy(text.trim_ascii_end()).lines().next_back().unwrap().to_owned();
    let at: jiff::Timestamp = last.split(' ').next().unwrap().parse().unwrap();
    let at = at + jiff::SignedDuration::from_hours(1);
    text.extend(format!("{at} mx postfix/pickup[1]: FFFFFFFFFF: uid=0 from=<root>\n").into_bytes());
    let house = House::new("");
    let accounts = house.dir.join("accounts.csv");
    let mut csv = "id,uids\n".to_owned();
    for n in (0..mix.accounts).step_by(2) {
        let uid = 2001 + n;
        let _ = if n % 20 == 0 { writeln!(csv, "uid{uid},{uid}") } else { writeln!(csv, "web{n},{uid}") };
    }
    fs::write(&accounts, csv).unwrap();
    house.configure(&format!("accounts_file: {}\n{more}", accounts.display()));
    Made { house, text, truth }
}

/// A log directory under numbers, as its writer knows it: which part of `text` is in which file, oldest first.
struct Logs<'a> {
    text: &'a [u8],
    log: &'a Path,
    begins: Vec<usize>,
    written: usize,
    packed: [usize; 4],
}

impl Logs<'_> {
    fn append(&mut self, to: usize) {
        let mut file = File::options().append(true).create(true).open(self.log).unwrap();
        file.write_all(&self.text[self.written..to]).unwrap();
        self.written = to;
    }

    fn numbered(&self, n: usize) -> Vec<PathBuf> {
        let ends = ["", ".gz", ".xz", ".zst", ".bz2"];
        let path = |end: &&str| self.log.with_file_name(format!("mail.log.{n}{end}"));
        ends.iter().map(path).filter(|p| p.exists()).collect()
    }

    fn rotate(&mut self) {
        self.append(line_end(self.text, self.written.saturating_sub(1)));
        for n in (1..self.begins.len()).rev() {
            for from in self.numbered(n) {
                let end = from
                    .file_name()
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .strip_prefix(&format!("mail.log.{n}"))
                    .unwrap()
                    .to_owned();
                fs::rename(&from, self.log.with_file_name(format!("mail.log.{}{end}", n + 1))).unwrap();
            }
        }
        fs::rename(self.log, self.log.with_file_name("mail.log.1")).unwrap();
        File::create(self.log).unwrap();
        self.begins.push(self.written);
    }

    /// Removes originals that stand beside their packed form, then packs what is plain: some so that both are there.
    fn pack(&mut self, rng: &mut fastrand::Rng) {
        for n in 1..self.begins.len() {
            match self.numbered(n).as_slice() {
                [plain, packed] if packed.extension().is_some_and(|e| FORMATS.iter().any(|f| e == f.1)) => {
                    fs::remove_file(plain).unwrap();
                }
                [plain] if plain.extension().is_some_and(|e| e.to_str().unwrap().parse::<usize>().is_ok()) => {
                    let format = rng.usize(..4);
                    pack(format, plain);
                    self.packed[format] += 1;
                    if rng.bool() {
                        fs::remove_file(plain).unwrap();
                    }
                }
                _ => {}
            }
        }
    }

    /// Up to where in `text` the last commit has read: the file is found by its first bytes, whatever it is called.
    fn read_to(&self, state: &Path) -> usize {
        let place = || {
            let (_, position) = Views::open(state).ok()?.positions().ok()?.into_iter().next()?;
            let at = Position::from_bytes(&position).filter(|p| p.offset > 0)?;
            let head = |from: usize| self.text.get(from..from + usize::from(at.head_len)).map(fnv);
            let begin = self.begins.iter().find(|b| head(**b) == Some(at.head))?;
            Some(begin + usize::try_from(at.offset).unwrap())
        };
        place().unwrap_or(0)
    }
}

#[test]
fn every_line_of_the_past_counts_once_over_120_kills() {
    let Made { house, text, truth } = make(11, 200_000, "");
    let mut rng = fastrand::Rng::with_seed(11);
    let mut logs = Logs { text: &text, log: &house.log, begins: vec![0], written: 0, packed: [0; 4] };
    // A third of it is there before the agent ever runs: nine files, packed in every format, two beside their original.
    for n in 1..=9 {
        logs.append(line_end(&text, text.len() / 30 * n));
        logs.rotate();
    }
    for n in 1..=9usize {
        let plain = logs.numbered(n).remove(0);
        pack(n % 4, &plain);
        if n != 2 && n != 7 {
            fs::remove_file(plain).unwrap();
        }
    }
    let (mut within, mut moved, mut back) = (0, 0, 0);
    for kill in 1..=KILLS {
        let left = text.len() - logs.written;
        logs.append(logs.written + left / (KILLS + 1 - kill) * rng.usize(1..3) / 2);
        let before = logs.read_to(&house.state);
        let running = house.spawn();
        // Over the first kills the log grows away from it; later it is rotated and packed while it reads.
        std::thread::sleep(Duration::from_millis(rng.u64(10..350)));
        if kill % 3 == 0 {
            logs.rotate();
            std::thread::sleep(Duration::from_millis(rng.u64(0..40)));
        }
        if kill % 4 < 2 {
            logs.pack(&mut rng);
        }
        logs.append((logs.written + rng.usize(1..2_000)).min(text.len()));
        if kill % 4 == 0 {
            // Right after a commit, however slow the machine is.
            wait(&house, "a commit", || logs.read_to(&house.state) > before);
        }
        running.kill();
        if kill % 7 == 0 {
            // Several rotations while it is down.
            for _ in 0..2 {
                logs.append(line_end(&text, logs.written + 2_000).min(text.len()));
                logs.rotate();
                logs.pack(&mut rng);
            }
        }
        let after = logs.read_to(&house.state);
        within += usize::from(after < logs.written);
        moved += usize::from(after > before);
        back += usize::from(after < before);
    }
    logs.append(text.len());
    let running = house.start();
    house.wait_ready();
    wait(&house, "every byte to be read", || logs.read_to(&house.state) == text.len());
    assert_eq!(house.metric("sendwarden_log_lines_lost_total"), 0.0, "{}", house.printed());
    assert_eq!(house.metric("sendwarden_log_backlog_files"), 0.0);
    running.stop(Signal::TERM);
    println!(
        "{within} of {KILLS} kills with lines unread, {moved} after a commit, {} files, packed {:?}",
        logs.begins.len(),
        logs.packed
    );
    let whole = house.dir.join("whole");
    fs::write(&whole, &text).unwrap();
    let (read, got) = (house.replay(&whole), house.books());
    let mut wrong = read.differences(&got, false);
    wrong.extend(truth.books.differences(&got, false));
    assert!(wrong.is_empty(), "{} figures differ:\n{}", wrong.len(), wrong[..wrong.len().min(20)].join("\n"));
    assert!(within >= 100 && moved >= 20 && back == 0, "too little happened: {within} {moved} {back}");
    assert!(logs.packed.iter().all(|n| *n > 0), "a format was never used: {:?}", logs.packed);
}

/// Cuts `text` into files: all but the last rotated under `names`, each a day younger than the one before.
fn lay(house: &House, text: &[u8], names: &[&str]) -> Vec<PathBuf> {
    let now = SystemTime::now();
    let (mut from, mut paths) = (0, Vec::new());
    for (n, name) in names.iter().enumerate() {
        let to = if n + 1 == names.len() { text.len() } else { line_end(text, text.len() / names.len() * (n + 1)) };
        let (plain, format) = match FORMATS.iter().position(|(_, end)| name.ends_with(&format!(".{end}"))) {
            Some(format) => (name.rsplit_once('.').unwrap().0, Some(format)),
            None => (*name, None),
        };
        let path = house.dir.join(plain);
        fs::write(&path, &text[from..to]).unwrap();
        stamp(&path, now - Duration::from_secs(86_400 * (names.len() - 1 - n) as u64));
        paths.push(match format {
            Some(format) => {
                let packed = pack(format, &path);
                fs::remove_file(path).unwrap();
                packed
            }
            None => path,
        });
        from = to;
    }
    paths
}

const DATED: [&str; 6] = [
    "mail.log-20261101.gz",
    "mail.log-20261102.xz",
    "mail.log-20261103.zst",
    "mail.log-20261104.bz2",
    "mail.log-20261105",
    "mail.log",
];

#[test]
fn dated_files_of_every_format_are_read_oldest_first_and_progress_is_shown() {
    let Made { house, text, truth } = make(12, 300_000, "");
    let paths = lay(&house, &text, &DATED);
    // What only looks like one of the family.
    for stranger in ["mail.log.old", "mail.log.bak", "mail.log-20261103.gz.part", "mail.log~", "mail.err-20261101"] {
        fs::write(house.dir.join(stranger), &text[..20_000]).unwrap();
    }
    fs::write(house.dir.join("mail.log.3"), "").unwrap();
    fs::write(house.dir.join("mail.log-20261106.gz"), "").unwrap();
    let running = house.spawn();
    let (mut told, mut files, mut bytes) = (String::new(), vec![], vec![]);
    wait(&house, "the agent to be ready", || {
        let (status, said) = house.ready().unwrap_or_default();
        if status == 503 && said.contains("more after it") && house.metric("sendwarden_messages_accepted_total") > 0.0 {
            // The last one asked for may be one of the empty files.
            if told.is_empty() || said.contains("mail.log-202611") {
                told = said;
            }
            files.push(house.metric("sendwarden_log_backlog_files"));
            bytes.push(house.metric("sendwarden_log_backlog_bytes"));
        }
        status == 200
    });
    // Figures were there before it was ready, and how much was left: that went down.
    assert!(
        told.contains("still reading what was written before the start") && told.contains("mail.log-202611"),
        "{told}"
    );
    assert!(files.iter().any(|n| *n > 0.0) && files.is_sorted_by(|a, b| a >= b), "{files:?}");
    assert!(bytes.is_sorted_by(|a, b| a >= b), "{bytes:?}");
    wait(&house, "the last line", || house.metric("sendwarden_log_backlog_bytes") == 0.0);
    running.stop(Signal::TERM);
    let said = house.printed();
    let places: Vec<Option<usize>> =
        paths.iter().map(|p| said.find(&format!("reading {} from byte 0", p.display()))).collect();
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{places:?}:\n{said}");
    let wrong = truth.books.differences(&house.books(), false);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// How many files were entered, by the log.
fn entered(house: &House) -> usize {
    house.printed().matches(" from byte 0").count()
}

fn run_once(house: &House) {
    let running = house.start();
    house.wait_ready();
    wait(house, "the end of the log", || house.metric("sendwarden_log_backlog_bytes") == 0.0);
    running.stop(Signal::TERM);
}

#[test]
fn backfill_says_how_far_back() {
    let mut messages = Vec::new();
    for (more, files) in [("backfill: none\n", 1), ("backfill: 60h\n", 3), ("", 6), ("backfill: all\n", 6)] {
        let Made { house, text, .. } = make(13, 5_000, more);
        lay(&house, &text, &DATED);
        run_once(&house);
        assert_eq!(entered(&house), files, "{more}{}", house.printed());
        messages.push(house.stored().messages);
        // It is for the first start only.
        house.configure("backfill: all\n");
        run_once(&house);
        assert_eq!(house.stored().messages, messages[messages.len() - 1], "{more}");
    }
    assert!(messages.is_sorted() && messages[0] < messages[1] && messages[1] < messages[2], "{messages:?}");
}

#[test]
fn a_damaged_archive_is_counted_as_lost_and_the_rest_is_read() {
    for (n, name) in DATED.iter().enumerate().take(4) {
        let Made { house, text, .. } = make(14, 5_000, "");
        let paths = lay(&house, &text, &DATED);
        let bytes = fs::read(&paths[n]).unwrap();
        let at = fs::metadata(&paths[n]).unwrap().modified().unwrap();
        fs::write(&paths[n], &bytes[..bytes.len() / 2]).unwrap();
        stamp(&paths[n], at);
        let running = house.start();
        house.wait_ready();
        wait(&house, "the end of the log", || house.metric("sendwarden_log_backlog_bytes") == 0.0);
        assert_eq!(house.metric("sendwarden_log_lines_lost_total"), 1.0, "{name}: {}", house.printed());
        running.stop(Signal::TERM);
        assert!(house.printed().contains("a compressed file is damaged"), "{name}: {}", house.printed());
        assert_eq!(entered(&house), DATED.len(), "{name}: {}", house.printed());
    }
}

#[test]
fn replay_reads_every_format_in_the_order_of_time() {
    let Made { house, text, .. } = make(15, 20_000, "");
    let mut paths = lay(&house, &text, &DATED);
    let whole = house.dir.join("whole");
    fs::write(&whole, &text).unwrap();
    let want = house.replay(&whole);
    for path in paths.iter_mut().take(4) {
        // Neither names nor times say the order or the format.
        let other = house.dir.join(format!("x{}", path.extension().unwrap().to_str().unwrap()));
        fs::rename(&*path, &other).unwrap();
        stamp(&other, SystemTime::now());
        *path = other;
    }
    paths.reverse();
    let out = Command::new(env!("CARGO_BIN_EXE_sendwarden"))
        .args(["replay", "--format", "json", "--config"])
        .arg(&house.config)
        .args(&paths)
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let got = corpus::Books::from_json(&serde_json::from_slice(&out.stdout).unwrap());
    let wrong = want.differences(&got, false);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// `replay` of these files with this house's configuration: status, figures and what it said.
fn replay(house: &House, paths: &[PathBuf], jobs: &str) -> (i32, corpus::Books, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sendwarden"));
    command.args(["replay", "--format", "json", "--jobs", jobs, "--config"]).arg(&house.config).args(paths);
    let out = command.output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    let figures = serde_json::from_slice(&out.stdout).unwrap_or_else(|why| panic!("{why}: {said}"));
    (out.status.code().unwrap(), corpus::Books::from_json(&figures), said)
}

#[test]
fn replay_leaves_out_what_lies_in_another_named_file() {
    let Made { house, text, .. } = make(16, 20_000, "");
    let whole = house.dir.join("whole");
    fs::write(&whole, &text).unwrap();
    let want = house.replay(&whole);
    let mut paths = lay(&house, &text, &["mail.log.2", "mail.log.1", "mail.log"]);
    // Packed beside its original, half packed, copied, and named twice.
    let packed = pack(0, &paths[0]);
    let bytes = fs::read(pack(1, &paths[1])).unwrap();
    let part = house.dir.join("mail.log.1.xz");
    fs::write(&part, &bytes[..bytes.len() / 2]).unwrap();
    let copy = house.dir.join("copy of the log");
    let half = line_end(&text, text.len() / 6);
    fs::write(&copy, &text[..half]).unwrap();
    paths.extend([packed.clone(), part.clone(), copy.clone(), whole.with_file_name("mail.log")]);
    let (status, got, said) = replay(&house, &paths, "2");
    let wrong = want.differences(&got, false);
    assert!(wrong.is_empty() && status == 0, "{said}{}", wrong.join("\n"));
    let lines: Vec<&str> = said.lines().filter(|line| line.contains("leaving out")).collect();
    assert_eq!(lines.len(), 4, "{said}");
    for (path, whole) in [(&packed, "mail.log.2"), (&part, "mail.log.1"), (&copy, "mail.log.2")] {
        let told = format!("leaving out {}: all of it is in {}", path.display(), house.dir.join(whole).display());
        assert!(said.contains(&told), "{told}: {said}");
    }
    assert!(said.contains("mail.log: named twice"), "{said}");
}

#[test]
fn replay_goes_on_behind_a_damaged_archive_and_says_so() {
    let Made { house, text, .. } = make(17, 100_000, "");
    let paths = lay(&house, &text, &DATED);
    let good: Vec<Vec<u8>> = paths.iter().map(|path| fs::read(path).unwrap()).collect();
    let rest = |n: usize| [&paths[..n], &paths[n + 1..]].concat();
    let messages = |books: &corpus::Books| books.said.unwrap().messages;
    let (_, all, _) = replay(&house, &paths, "2");
    for n in 0..4 {
        let (_, without, _) = replay(&house, &rest(n), "2");
        let bytes = &good[n];
        let garbage = [&bytes[..10], &[0xa7; 5_000][..]].concat();
        // xz and bzip2 give out whole blocks; zstd what is behind its window: of files as small as these, nothing.
        for (broken, some) in [(&bytes[..bytes.len() / 8 * 7], n != 2), (&garbage[..], false)] {
            fs::write(&paths[n], broken).unwrap();
            for jobs in ["1", "2"] {
                let (status, got, said) = replay(&house, &paths, jobs);
                assert_eq!(status, 1, "a cut file passed for a whole one: {said}");
                let told = format!("replay: {} is damaged within its first ", paths[n].display());
                assert_eq!(said.lines().filter(|line| line.contains(&told)).count(), 1, "{told}: {said}");
                assert!(said.contains(&format!("of {} bytes", broken.len())), "{said}");
                let (least, got, most) = (messages(&without), messages(&got), messages(&all));
                assert!(
                    if some { least < got && got < most } else { least <= got && got < most },
                    "{said}: {least} {got} {most}"
                );
            }
        }
        fs::write(&paths[n], bytes).unwrap();
    }
    let (status, _, said) = replay(&house, &paths, "1");
    assert!(status == 0 && said.is_empty(), "{said}");
}

/// As another user than root, for whom permissions count.
fn as_another(house: &House) -> Command {
    for dir in [&house.dir, &house.state] {
        fs::create_dir_all(dir).unwrap();
        allow(dir, 0o777);
    }
    allow(&house.config, 0o644);
    // The binary itself may lie where only root can go.
    let binary = house.dir.join("sendwarden");
    fs::copy(env!("CARGO_BIN_EXE_sendwarden"), &binary).unwrap();
    let mut command = Command::new("setpriv");
    command.args(["--reuid=54003", "--regid=54003", "--clear-groups"]).arg(&binary).arg("run").arg("--config");
    command.arg(&house.config);
    command
}

fn allow(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn call(n: usize) -> String {
    let at = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ");
    format!(
        "{at} mx postfix/pickup[11]: {n:010X}: uid=54004 from=<x>\n{at} mx postfix/qmgr[12]: {n:010X}: from=<x@y.example>, size=9, nrcpt=1 (queue active)\n"
    )
}

#[test]
fn permissions_go_and_come_back_while_it_runs() {
    let house = House::new("");
    let logs = house.dir.join("log");
    fs::create_dir(&logs).unwrap();
    let log = logs.join("mail.log");
    house.configure_logs(&format!("  - path: {}\n    zone: UTC\n", log.display()));
    let append =
        |n: usize| File::options().append(true).create(true).open(&log).unwrap().write_all(call(n).as_bytes()).unwrap();
    append(1);
    let running = house.start_as(as_another(&house));
    let messages = |n: f64| wait(&house, "its messages", || house.metric("sendwarden_messages_accepted_total") == n);
    let up = |n: f64| wait(&house, "its state", || house.metric("sendwarden_log_source_up") == n);
    messages(1.0);
    up(1.0);
    // The file: what is open is read on.
    allow(&log, 0o600);
    append(2);
    messages(2.0);
    up(1.0);
    // The directory: said, and over when it is over, although nothing was rotated or written meanwhile.
    allow(&logs, 0o700);
    up(0.0);
    assert!(house.printed().contains("Permission denied"), "{}", house.printed());
    append(3);
    messages(3.0);
    allow(&logs, 0o755);
    up(1.0);
    // A new file that may not be read, then may: the old one comes to its end first, and no line is lost.
    append(4);
    fs::rename(&log, logs.join("mail.log.1")).unwrap();
    append(5);
    allow(&log, 0o600);
    messages(4.0);
    up(0.0);
    allow(&log, 0o644);
    messages(5.0);
    up(1.0);
    // The same over a start.
    allow(&log, 0o600);
    running.stop(Signal::TERM);
    append(6);
    let running = house.start_as(as_another(&house));
    up(0.0);
    allow(&log, 0o644);
    messages(6.0);
    up(1.0);
    assert_eq!(house.metric("sendwarden_log_lines_lost_total"), 0.0, "{}", house.printed());
    running.stop(Signal::TERM);
}

#[test]
fn thousands_of_rotated_files_are_read_and_those_beyond_are_told() {
    let house = House::new("backfill: all\n");
    for n in 1..=5_000 {
        fs::write(house.dir.join(format!("mail.log.{n}")), call(5_001 - n)).unwrap();
    }
    house.append(call(5_001));
    let running = house.start();
    let mut most = 0;
    wait(&house, "the agent to be ready", || {
        let open = fs::read_dir(format!("/proc/{}/fd", running.pid())).unwrap().count();
        most = most.max(open);
        house.ready().is_some_and(|(status, _)| status == 200)
    });
    assert!(most < 200, "{most} descriptors");
    assert_eq!(house.metric("sendwarden_messages_accepted_total"), 4_097.0, "{}", house.printed());
    assert_eq!(house.metric("sendwarden_log_lines_lost_total"), 1.0);
    let said = house.printed();
    assert!(said.contains("more rotated files than are looked at"), "{said}");
    assert!(said.contains("mail.log.2 is read to its end") && !said.contains("was rotated"), "nothing was rotated");
    fs::rename(&house.log, house.dir.join("mail.log.0")).unwrap();
    house.append(call(5_002));
    wait(&house, "the new log", || house.metric("sendwarden_messages_accepted_total") == 4_098.0);
    running.stop(Signal::TERM);
    assert!(house.printed().contains("mail.log was rotated"), "{}", house.printed());
}
