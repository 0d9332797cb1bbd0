//! Generated sequences of file operations, run against the real follower and an in-memory model of the files.
//!
//! Every line has one fate. It is given out, once and in order; or it is lost, because its bytes were destroyed before
//! they were read and no descriptor held them, and then a `LinesLost` must follow; or nobody can know (counted and
//! printed): its file was destroyed or rewritten before any line of it was given out, which content cannot show. A
//! `LinesLost` without any destruction is a failure.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::panic,
    clippy::expect_used,
    reason = "a test"
)]
#![allow(clippy::disallowed_methods, reason = "a test plays with real files and waits for them")]

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use sendwarden::host::follow::{FollowEvent, Follower, Position, Settings};
use sendwarden::mail::Time;

const SEQUENCES: u64 = 12_000;
const MAX_LINE: usize = 300;
const OPS: [&str; 28] = [
    "append",
    "append-long",
    "partial",
    "finish",
    "rename",
    "rename-keep",
    "reopen",
    "rotations-down",
    "gzip",
    "xz",
    "zstd",
    "bzip2",
    "half-packed",
    "packed-beside",
    "copytruncate",
    "copytruncate-same",
    "copytruncate-larger",
    "truncate",
    "delete",
    "recreate",
    "drop-oldest",
    "directory",
    "away",
    "restart",
    "save",
    "crash",
    "read",
    "late-start",
];
const PACKERS: [&str; 4] = ["gzip", "xz", "zstd", "bzip2"];
const ENDS: [&str; 5] = ["", ".gz", ".xz", ".zst", ".bz2"];

fn pack(packer: &str, bytes: &[u8]) -> (Vec<u8>, &'static str) {
    match packer {
        "gzip" => {
            let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            gz.write_all(bytes).unwrap();
            (gz.finish().unwrap(), ".gz")
        }
        "xz" => {
            let mut xz = lzma_rust2::XzWriter::new(Vec::new(), lzma_rust2::XzOptions::with_preset(0)).unwrap();
            xz.write_all(bytes).unwrap();
            (xz.finish().unwrap(), ".xz")
        }
        "zstd" => (ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest), ".zst"),
        _ => {
            let mut bz = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
            bz.write_all(bytes).unwrap();
            (bz.finish().unwrap(), ".bz2")
        }
    }
}

struct Line {
    text: String,
    file: usize,
    given: bool,
    /// When its bytes went.
    lost: Option<usize>,
    /// Nothing of its file was given out when the file was destroyed or rewritten.
    blind: bool,
}

/// An inode's content; rewriting in place makes a new one.
struct File {
    path: Option<PathBuf>,
    /// The follower had the chance to take hold of it and runs since.
    held: bool,
    /// It had no bytes when the follower last had the chance to look.
    empty: bool,
}

struct World {
    dir: PathBuf,
    lines: Vec<Line>,
    files: Vec<File>,
    writer: Option<(usize, fs::File)>,
    /// The last line has no newline yet.
    partial: bool,
    got: Vec<(usize, String)>,
    cuts: u64,
    crashed: bool,
    step: usize,
    last_report: usize,
    excused: bool,
    bad_report: Option<String>,
    same_head: bool,
    dated: bool,
    rotations: u32,
    follower: Follower,
    started: bool,
    snapshot: Option<(Vec<u8>, usize, bool)>,
    pad: usize,
    clock: u64,
    /// How often a packed file stood beside its original, in part and whole; and a first start found rotated files.
    halves: u64,
    beside: u64,
    past: u64,
}

fn settings(dir: &Path) -> Settings {
    Settings { max_line: MAX_LINE, read_chunk: 512, past_since: Time(i64::MIN), ..Settings::new(dir.join("mail.log")) }
}

impl World {
    fn log(&self) -> PathBuf {
        self.dir.join("mail.log")
    }

    fn put(&mut self, text: &str) -> usize {
        if self.writer.is_none() {
            let fresh = !self.log().exists();
            let mut file = fs::OpenOptions::new().create(true).append(true).open(self.log()).unwrap();
            if fresh {
                self.files.push(File { path: Some(self.log()), held: false, empty: false });
                if self.same_head {
                    // The same first KiB in every file: not lines of the test's own, filtered when read.
                    file.write_all("same\n".repeat(210).as_bytes()).unwrap();
                }
            }
            self.writer = Some((self.live().unwrap(), file));
        }
        self.clock += 1;
        let (n, file) = self.writer.as_mut().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file.set_modified(UNIX_EPOCH + Duration::from_secs(1_700_000_000 + self.clock)).unwrap();
        *n
    }

    fn live(&self) -> Option<usize> {
        let log = self.log();
        self.files.iter().rposition(|f| f.path.as_ref() == Some(&log))
    }

    fn write(&mut self, text: String, end: &str) {
        let file = self.put(&format!("{text}{end}"));
        self.lines.push(Line { text, file, given: false, lost: None, blind: false });
        self.lose();
    }

    fn name(&self) -> String {
        format!("line {:08} ", self.lines.len())
    }

    fn append(&mut self, n: usize) {
        self.finish();
        for _ in 0..n {
            self.write(format!("{}{}", self.name(), "x".repeat(self.pad)), "\n");
        }
    }

    fn finish(&mut self) {
        // In another file than it was begun, what was left unfinished stays a line as it is.
        if std::mem::take(&mut self.partial) && self.put("") == self.lines.last().unwrap().file {
            self.put("end\n");
            self.lines.last_mut().unwrap().text.push_str("end");
            self.lose();
        }
    }

    fn reopen(&mut self) {
        self.writer = None;
    }

    fn moved(&mut self, from: &Path, to: &Path) {
        fs::rename(from, to).unwrap();
        for file in &mut self.files {
            if file.path.as_deref() == Some(from) {
                file.path = Some(to.to_owned());
            }
        }
    }

    /// The name of the next rotated file; shifts the others when they have numbers.
    fn rotated(&mut self) -> PathBuf {
        self.rotations += 1;
        if self.dated {
            return self.dir.join(format!("mail.log-202603{:02}", self.rotations));
        }
        for n in (1..30).rev() {
            for end in ENDS {
                let from = self.dir.join(format!("mail.log.{n}{end}"));
                if from.exists() {
                    self.moved(&from, &self.dir.join(format!("mail.log.{}{end}", n + 1)));
                }
            }
        }
        self.dir.join("mail.log.1")
    }

    fn rename(&mut self) {
        if self.log().is_file() {
            let to = self.rotated();
            self.moved(&self.log(), &to);
        }
    }

    /// Rewrites the log in place; its lines are in the copy then, if there is one.
    fn truncate(&mut self, copy: bool, preserve: bool) -> u64 {
        let Some(live) = self.live() else { return 0 };
        if self.writer.as_ref().is_none_or(|(n, _)| *n == live) {
            self.writer = None;
        }
        let meta = fs::metadata(self.log()).unwrap();
        self.clock += 1;
        let now = UNIX_EPOCH + Duration::from_secs(1_700_000_000 + self.clock);
        let mut path = None;
        if copy {
            let to = self.rotated();
            fs::copy(self.log(), &to).unwrap();
            let time = if preserve { meta.modified().unwrap() } else { now };
            fs::File::options().write(true).open(&to).unwrap().set_modified(time).unwrap();
            path = Some(to);
        }
        self.excused |= !copy;
        // Only a follower that stands in it, at bytes the new content may begin with, cannot see the rewriting.
        if self.files[live].empty || self.same_head {
            self.mark_blind(live);
        }
        self.files[live].path = path;
        let held = std::mem::replace(&mut self.files[live].held, false);
        // Seen empty and not seen since, it may be rewritten as often as it likes.
        let empty = self.files[live].empty;
        self.files.push(File { path: Some(self.log()), held, empty });
        self.clock += 1;
        let file = fs::File::options().write(true).open(self.log()).unwrap();
        file.set_len(0).unwrap();
        file.set_modified(now + Duration::from_secs(1)).unwrap();
        if self.same_head {
            self.put(&"same\n".repeat(210));
        }
        self.lose();
        meta.len()
    }

    fn refill(&mut self, size: u64) {
        while self.log().is_file() && fs::metadata(self.log()).unwrap().len() < size {
            self.append(1);
        }
    }

    fn delete(&mut self, path: &Path) {
        let Some(n) = self.files.iter().rposition(|f| f.path.as_deref() == Some(path)) else { return };
        fs::remove_file(path).unwrap();
        self.unpack_beside(path);
        self.files[n].path = None;
        self.lose();
    }

    fn mark_blind(&mut self, file: usize) {
        if !self.lines.iter().any(|l| l.file == file && l.given) {
            self.lines.iter_mut().filter(|l| l.file == file).for_each(|l| l.blind = true);
        }
    }

    /// Whether the position may be in this file.
    fn is_place(&self, file: usize) -> bool {
        self.same_head || self.got.last().is_none_or(|(n, _)| self.lines[*n].file == file)
    }

    /// Unread lines of files that are nowhere and that nobody holds are lost now.
    fn lose(&mut self) {
        for n in 0..self.files.len() {
            if self.files[n].path.is_some() || self.files[n].held {
                continue;
            }
            self.excused |= self.is_place(n) && self.last_report < self.step;
            if self.lines.iter().any(|l| l.file == n && !l.given && l.lost.is_none()) {
                self.mark_blind(n);
            }
            for line in self.lines.iter_mut().filter(|l| l.file == n && !l.given && l.lost.is_none()) {
                line.lost = Some(self.step);
            }
        }
    }

    fn unpack_beside(&self, plain: &Path) {
        for end in &ENDS[1..] {
            // None of it, mostly.
            drop(fs::remove_file(format!("{}{end}", plain.display())));
        }
    }

    /// The rotated plain files that nobody writes to, but for the first `skip`.
    fn packable(&self, skip: usize) -> Vec<usize> {
        let mut all: Vec<usize> = (0..self.files.len()).collect();
        all.sort_by_key(|n| self.files[*n].path.clone());
        let packed = |p: &PathBuf| ENDS[1..].iter().any(|end| p.to_str().unwrap().ends_with(end));
        let plain = |n: &usize| {
            let writing = self.writer.as_ref().is_some_and(|(w, _)| w == n);
            !writing && self.files[*n].path.as_ref().is_some_and(|p| *p != self.log() && !packed(p))
        };
        all.into_iter().skip(skip).filter(plain).collect()
    }

    /// As a compressor does it: the whole packed file under the time of the plain one, then the plain one goes.
    fn pack(&mut self, packer: &str, skip: usize) {
        for n in self.packable(skip) {
            let from = self.files[n].path.clone().unwrap();
            self.unpack_beside(&from);
            let (bytes, end) = pack(packer, &fs::read(&from).unwrap());
            let to = PathBuf::from(format!("{}{end}", from.display()));
            fs::write(&to, bytes).unwrap();
            let time = fs::metadata(&from).unwrap().modified().unwrap();
            fs::File::options().write(true).open(&to).unwrap().set_modified(time).unwrap();
            fs::remove_file(&from).unwrap();
            self.files[n].path = Some(to);
        }
    }

    /// The moments before the plain one goes: a part of the packed file stands beside it, or all of it.
    fn pack_beside(&mut self, packer: &str, part: Option<f64>) -> bool {
        let some = self.packable(0);
        for n in &some {
            let from = self.files[*n].path.clone().unwrap();
            self.unpack_beside(&from);
            let (mut bytes, end) = pack(packer, &fs::read(&from).unwrap());
            if let Some(part) = part {
                bytes.truncate((bytes.len() as f64 * part) as usize);
            }
            let to = format!("{}{end}", from.display());
            fs::write(&to, bytes).unwrap();
            // Its own time, until it is whole.
            self.clock += 1;
            let now = UNIX_EPOCH + Duration::from_secs(1_700_000_000 + self.clock);
            fs::File::options().write(true).open(to).unwrap().set_modified(now).unwrap();
        }
        !some.is_empty()
    }

    fn restart(&mut self, position: &[u8]) {
        self.note();
        let saved = Position::from_bytes(position).unwrap();
        self.follower = Follower::new(settings(&self.dir), (saved != Position::default()).then_some(saved));
        self.files.iter_mut().for_each(|f| (f.held, f.empty) = (false, false));
        self.excused |= self.files.iter().enumerate().any(|(n, f)| f.path.is_none() && self.is_place(n));
        self.lose();
    }

    fn note(&mut self) {
        for event in self.follower.take_events() {
            match event {
                FollowEvent::LinesLost { reason, bytes, .. } => {
                    let lost = self.lines.iter().any(|l| l.lost.is_some_and(|at| at >= self.last_report));
                    if !(lost || self.excused) || (bytes > 0 && !self.lines.iter().any(|l| l.lost.is_some())) {
                        self.bad_report = Some(format!("{reason} ({bytes}) at step {}", self.step));
                    }
                    self.last_report = self.step;
                    self.excused = false;
                }
                FollowEvent::LineCut { count } => self.cuts += count,
                _ => {}
            }
        }
    }

    fn read(&mut self, budget: usize) -> bool {
        if !self.started {
            return false;
        }
        let got = &mut self.got;
        let progress = self.follower.read(budget, &mut |group| {
            for l in group.iter().filter(|l| **l != b"same") {
                let text = String::from_utf8(l.to_vec()).unwrap();
                got.push((text[5..13].parse().unwrap(), text));
            }
        });
        for (n, _) in &self.got {
            self.lines[*n].given = true;
        }
        // Without a place to stand the follower waits, and holds nothing.
        let open = progress.as_ref().unwrap().open;
        for file in self.files.iter_mut().filter(|_| open) {
            let Some(meta) = file.path.as_ref().and_then(|p| p.metadata().ok()) else { continue };
            file.held = true;
            file.empty = meta.len() == 0;
        }
        self.note();
        progress.unwrap().more
    }

    fn apply(&mut self, op: &str, rng: &mut fastrand::Rng) {
        match op {
            "append" => self.append(rng.usize(1..6)),
            "append-long" => {
                self.finish();
                let name = self.name();
                self.write(name.repeat(rng.usize(22..60)), "\n");
            }
            "partial" => {
                self.finish();
                let text = self.name().repeat(rng.usize(1..40));
                self.write(text, "");
                self.partial = true;
            }
            "finish" => self.finish(),
            "rename" => {
                self.rename();
                self.reopen();
                if rng.bool() {
                    self.put("");
                }
            }
            "rename-keep" => self.rename(),
            "reopen" => self.reopen(),
            "rotations-down" => {
                for _ in 0..rng.usize(2..5) {
                    self.append(rng.usize(1..4));
                    self.rename();
                    self.reopen();
                    if rng.bool() {
                        self.pack(PACKERS[rng.usize(0..4)], rng.usize(0..2));
                    }
                }
                self.restart(&self.follower.position().to_bytes());
            }
            "gzip" | "xz" | "zstd" | "bzip2" => self.pack(op, rng.usize(0..2)),
            "half-packed" => self.halves += u64::from(self.pack_beside(PACKERS[rng.usize(0..4)], Some(rng.f64()))),
            "packed-beside" => self.beside += u64::from(self.pack_beside(PACKERS[rng.usize(0..4)], None)),
            // The agent is started for the first time, on what there is by now.
            "late-start" => {
                self.past += u64::from(!self.started && self.files.iter().filter(|f| f.path.is_some()).count() > 1);
                self.started = true;
            }
            "copytruncate" => drop(self.truncate(true, rng.bool())),
            "copytruncate-same" => {
                let size = self.truncate(true, rng.bool());
                self.refill(size);
            }
            "copytruncate-larger" => {
                let size = self.truncate(true, rng.bool());
                self.refill(size + 1);
                self.append(2);
            }
            "truncate" => drop(self.truncate(false, false)),
            "delete" => self.delete(&self.log()),
            "recreate" => {
                self.delete(&self.log());
                self.reopen();
                self.append(1);
            }
            "drop-oldest" => {
                let log = self.log();
                let rotated = |f: &&File| f.path.as_ref().is_some_and(|p| *p != log);
                let oldest = self.files.iter().find(rotated).and_then(|f| f.path.clone());
                oldest.iter().for_each(|p| self.delete(p));
            }
            "directory" => {
                self.rename();
                self.reopen();
                fs::create_dir(self.log()).unwrap();
                self.read(100_000);
                fs::remove_dir(self.log()).unwrap();
            }
            "away" => {
                let away = self.dir.with_extension("away");
                fs::rename(&self.dir, &away).unwrap();
                self.read(rng.usize(1..4000));
                fs::rename(&away, &self.dir).unwrap();
            }
            "restart" => self.restart(&self.follower.position().to_bytes()),
            "save" => self.snapshot = Some((self.follower.position().to_bytes(), self.got.len(), true)),
            "crash" => {
                // What was read since the last save was never booked: it comes again.
                let Some((position, len, _)) = self.snapshot.clone() else { return };
                self.crashed = true;
                self.note();
                self.got.truncate(len);
                self.lines.iter_mut().for_each(|l| l.given = false);
                for (n, _) in &self.got {
                    self.lines[*n].given = true;
                }
                self.excused = true;
                self.restart(&position);
            }
            _ => drop(self.read(rng.usize(1..4000))),
        }
    }

    fn verdict(&self) -> Result<(), String> {
        if let Some(why) = &self.bad_report {
            return Err(format!("reported a loss that is none: {why}"));
        }
        if !self.got.is_sorted_by(|a, b| a.0 < b.0) {
            return Err("doubled or out of order".to_owned());
        }
        for (n, text) in &self.got {
            let line = &self.lines[*n].text;
            if *text != line[..line.len().min(MAX_LINE)] {
                return Err(format!("line {n} came out as {text:?}"));
            }
        }
        let cut = self.got.iter().filter(|(n, _)| self.lines[*n].text.len() > MAX_LINE).count() as u64;
        if !self.crashed && cut != self.cuts {
            return Err(format!("{cut} lines are over-long, {} were reported", self.cuts));
        }
        for (n, line) in self.lines.iter().enumerate().filter(|(_, l)| !l.given && !l.blind) {
            match line.lost {
                None => return Err(format!("line {n} is still there and was not given out")),
                Some(at) if at > self.last_report => return Err(format!("line {n} lost at {at} without a report")),
                Some(_) => {}
            }
        }
        Ok(())
    }
}

#[derive(Default)]
struct Tally {
    ops: BTreeMap<&'static str, u64>,
    lines: usize,
    given: usize,
    reported: usize,
    /// Destroyed unseen; and still there, but skipped.
    blind: [usize; 2],
    beside: [u64; 2],
    past: u64,
}

fn sequence(seed: u64, base: &Path, tally: &mut Tally) -> Result<(), String> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let dir = base.join(seed.to_string());
    fs::create_dir(&dir).unwrap();
    let same_head = rng.u8(0..4) == 0;
    let mut w = World {
        dir: dir.clone(),
        lines: vec![],
        files: vec![],
        writer: None,
        partial: false,
        got: vec![],
        cuts: 0,
        crashed: false,
        step: 1,
        last_report: 0,
        excused: false,
        bad_report: None,
        same_head,
        dated: rng.bool(),
        rotations: 0,
        follower: Follower::new(settings(&dir), None),
        snapshot: None,
        pad: rng.usize(0..120),
        clock: 0,
        started: rng.u8(0..3) > 0,
        halves: 0,
        beside: 0,
        past: 0,
    };
    w.read(1);
    let destroys = rng.u8(0..3) == 0;
    let mut ops = Vec::new();
    for _ in 0..rng.usize(3..16) {
        if rng.u8(0..3) == 0 {
            while w.read(2000) && rng.u8(0..3) > 0 {}
        }
        let mut op = OPS[rng.usize(0..OPS.len())];
        if !destroys && matches!(op, "delete" | "recreate" | "drop-oldest" | "truncate") {
            op = if rng.bool() { "append" } else { "read" };
        }
        *tally.ops.entry(op).or_default() += 1;
        ops.push(op);
        w.step += 1;
        w.apply(op, &mut rng);
    }
    w.step += 1;
    w.apply("late-start", &mut rng);
    w.finish();
    w.reopen();
    w.append(1);
    tally.beside[0] += w.halves;
    tally.beside[1] += w.beside;
    tally.past += w.past;
    let mut rounds = 0;
    while w.read(100_000) && rounds < 200 {
        rounds += 1;
    }
    tally.lines += w.lines.len();
    tally.given += w.got.len();
    for line in w.lines.iter().filter(|l| !l.given && l.blind) {
        tally.blind[usize::from(line.lost.is_none())] += 1;
    }
    tally.reported += w.lines.iter().filter(|l| !l.given && !l.blind).count();
    let missing: Vec<_> =
        w.lines.iter().enumerate().filter(|(_, l)| !l.given).map(|(n, l)| (n, l.lost, l.blind)).collect();
    w.verdict().map_err(|why| {
        format!("seed {seed}: {why}\nops {ops:?}\nsame_head {same_head} dated {}\nmissing {missing:?}", w.dated)
    })?;
    fs::remove_dir_all(&dir).unwrap();
    Ok(())
}

#[test]
fn every_line_once_and_in_order() {
    let shm = Path::new("/dev/shm");
    let base = match std::env::var_os("TMPDIR") {
        None if shm.is_dir() => tempfile::tempdir_in(shm).unwrap(),
        _ => tempfile::tempdir().unwrap(),
    };
    let (mut tally, mut bad) = (Tally::default(), Vec::new());
    for seed in 0..SEQUENCES {
        bad.extend(sequence(seed, base.path(), &mut tally).err());
    }
    println!("operations: {:?}", tally.ops);
    let Tally { lines, given, reported, blind, ops, beside, past } = tally;
    println!("a packed file beside its original, in part and whole: {beside:?}; first starts on rotated files: {past}");
    println!("{lines} lines: {given} given out, {reported} lost and reported, nobody can know: {blind:?}");
    for same in ["same_head true", "same_head false"] {
        let of: Vec<_> = bad.iter().filter(|b| b.contains(same)).collect();
        println!("{same}: {} failed", of.len());
        let mut kinds = BTreeMap::<String, Vec<&&String>>::new();
        for b in &of {
            let why = b.split_once(": ").map_or("", |b| b.1).lines().next().unwrap_or_default();
            kinds.entry(why.replace(|c: char| c.is_ascii_digit(), "")).or_default().push(b);
        }
        for (why, of) in kinds {
            println!("{} x {why}; the shortest:\n{}", of.len(), of.iter().min_by_key(|b| b.len()).unwrap());
        }
    }
    assert!(bad.is_empty(), "{} sequences failed", bad.len());
    assert!(past > 500 && beside.iter().all(|n| *n > 500), "too few: {past} {beside:?}");
    assert!(OPS.iter().all(|op| ops.get(op).is_some_and(|n| *n > 0)), "an operation never occurred: {ops:?}");
}
