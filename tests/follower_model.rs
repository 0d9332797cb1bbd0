//! Generated sequences of file operations, run against the real follower and an in-memory model of the files.
//!
//! Every line must come out once and in order. Lines are lost only where the model has no file left that holds them
//! unread, and then the follower must have reported a loss or a truncation.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;

use sendwarden::host::follow::{FollowEvent, Follower, Position, Settings};

const OPS: [&str; 14] = [
    "append",
    "partial",
    "finish",
    "rename",
    "rename-twice-down",
    "gzip",
    "copytruncate",
    "copytruncate-same",
    "copytruncate-larger",
    "delete",
    "recreate",
    "directory",
    "restart",
    "read",
];

struct World<'a> {
    dir: &'a Path,
    next: u64,
    written: Vec<String>,
    got: Vec<String>,
    partial: Option<String>,
    /// Lines that no file holds any more although they were not read when they went.
    may_lose: bool,
    reported: bool,
    /// A file went that the follower never saw, or of which it had not consumed a byte: nobody can know.
    unknowable: bool,
    seen: bool,
    same_head: bool,
    follower: Follower,
    pad: usize,
}

impl World<'_> {
    fn log(&self) -> std::path::PathBuf {
        self.dir.join("mail.log")
    }

    fn put(&mut self, text: &str) {
        let fresh = !self.log().exists();
        let mut file = fs::OpenOptions::new().create(true).append(true).open(self.log()).unwrap();
        self.seen &= !fresh;
        if fresh && self.same_head {
            // The same first KiB in every file: not lines of the test's own, filtered when read.
            file.write_all("same\n".repeat(210).as_bytes()).unwrap();
        }
        file.write_all(text.as_bytes()).unwrap();
    }

    fn line(&mut self) -> String {
        self.next += 1;
        format!("line {:08} {}", self.next, "x".repeat(self.pad))
    }

    fn append(&mut self, n: usize) {
        self.finish();
        for _ in 0..n {
            let line = self.line();
            self.put(&format!("{line}\n"));
            self.written.push(line);
        }
    }

    fn finish(&mut self) {
        if let Some(line) = self.partial.take() {
            self.put("end\n");
            self.written.push(format!("{line}end"));
        }
    }

    fn shift(&mut self) {
        for n in (1..12).rev() {
            for end in ["", ".gz"] {
                let from = self.dir.join(format!("mail.log.{n}{end}"));
                if from.exists() {
                    fs::rename(from, self.dir.join(format!("mail.log.{}{end}", n + 1))).unwrap();
                }
            }
        }
    }

    fn rename(&mut self) {
        self.finish();
        if self.log().is_file() {
            self.shift();
            fs::rename(self.log(), self.dir.join("mail.log.1")).unwrap();
        }
    }

    fn copytruncate(&mut self) -> usize {
        self.finish();
        if !self.log().is_file() {
            return 0;
        }
        self.shift();
        fs::copy(self.log(), self.dir.join("mail.log.1")).unwrap();
        let size = fs::metadata(self.log()).unwrap().len();
        fs::OpenOptions::new().write(true).open(self.log()).unwrap().set_len(0).unwrap();
        if self.same_head {
            self.put(&"same\n".repeat(210));
        }
        usize::try_from(size).unwrap()
    }

    fn refill(&mut self, size: usize) {
        while self.log().is_file() && usize::try_from(fs::metadata(self.log()).unwrap().len()).unwrap() < size {
            self.append(1);
        }
    }

    fn delete(&mut self) {
        self.finish();
        if self.log().is_file() {
            fs::remove_file(self.log()).unwrap();
            self.may_lose = true;
            self.unknowable |= !self.seen || self.follower.position().at.head_len == 0;
        }
    }

    fn gzip(&mut self) {
        for n in 1..12 {
            let from = self.dir.join(format!("mail.log.{n}"));
            if from.is_file() {
                let to = fs::File::create(self.dir.join(format!("mail.log.{n}.gz"))).unwrap();
                let mut gz = flate2::write::GzEncoder::new(to, flate2::Compression::fast());
                gz.write_all(&fs::read(&from).unwrap()).unwrap();
                gz.finish().unwrap();
                fs::remove_file(from).unwrap();
            }
        }
    }

    fn restart(&mut self) {
        self.note();
        let saved = Position::from_bytes(&self.follower.position().to_bytes()).unwrap();
        let mut settings = Settings::new(self.log());
        settings.read_chunk = 512;
        self.follower = Follower::new(settings, (saved != Position::default()).then_some(saved));
    }

    fn note(&mut self) {
        let lost = |e: &FollowEvent| matches!(e, FollowEvent::LinesLost { .. });
        self.reported |= self.follower.take_events().iter().any(lost);
    }

    fn read(&mut self, budget: usize) {
        let got = &mut self.got;
        self.follower
            .read(budget, &mut |l| {
                if l != b"same" {
                    got.push(String::from_utf8(l.to_vec()).unwrap());
                }
            })
            .unwrap();
        self.seen = true;
        self.note();
    }

    fn apply(&mut self, op: &str, rng: &mut fastrand::Rng) {
        match op {
            "append" => self.append(rng.usize(1..6)),
            "partial" => {
                self.finish();
                let line = self.line();
                self.put(&line);
                self.partial = Some(line);
            }
            "finish" => self.finish(),
            "rename" => self.rename(),
            "rename-twice-down" => {
                for _ in 0..2 {
                    self.append(rng.usize(1..4));
                    self.rename();
                }
                self.restart();
            }
            "gzip" => self.gzip(),
            "copytruncate" => drop(self.copytruncate()),
            "copytruncate-same" => {
                let size = self.copytruncate();
                self.refill(size);
            }
            "copytruncate-larger" => {
                let size = self.copytruncate();
                self.refill(size + 1);
                self.append(2);
            }
            "delete" => self.delete(),
            "recreate" => {
                self.delete();
                self.append(1);
            }
            "directory" => {
                self.rename();
                fs::create_dir(self.log()).unwrap();
                self.read(100_000);
                fs::remove_dir(self.log()).unwrap();
            }
            "restart" => self.restart(),
            _ => self.read(rng.usize(1..4000)),
        }
    }
}

fn sequence(seed: u64, base: &Path, counts: &mut BTreeMap<&'static str, u64>, losses: &mut u64) -> Result<(), String> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let dir = base.join(seed.to_string());
    fs::create_dir(&dir).unwrap();
    let mut settings = Settings::new(dir.join("mail.log"));
    settings.read_chunk = 512;
    let mut w = World {
        dir: &dir,
        next: 0,
        written: vec![],
        got: vec![],
        partial: None,
        may_lose: false,
        reported: false,
        unknowable: false,
        seen: false,
        same_head: rng.u8(0..4) == 0,
        follower: Follower::new(settings, None),
        pad: rng.usize(0..120),
    };
    w.read(1);
    let mut ops = Vec::new();
    let deletes = rng.u8(0..4) == 0;
    // At most five operations shift the siblings, by up to two: none falls off the end.
    for _ in 0..rng.usize(3..14) {
        let mut op = OPS[rng.usize(0..OPS.len())];
        if !deletes && matches!(op, "delete" | "recreate") {
            op = "append";
        }
        if w.dir.join("mail.log.9").exists() || w.dir.join("mail.log.9.gz").exists() {
            op = "read";
        }
        *counts.entry(op).or_default() += 1;
        ops.push(op);
        w.apply(op, &mut rng);
    }
    w.append(1);
    for _ in 0..40 {
        w.read(100_000);
    }
    let fail = |why: &str| {
        Err(format!(
            "seed {seed}: {why}\nops {ops:?}\nsame_head {}\nwritten {:#?}\ngot {:#?}",
            w.same_head, w.written, w.got
        ))
    };
    // What came out is a subsequence of what was written: nothing doubled, nothing out of order. With deletion, the
    // partial line of a file that went away may come out unfinished.
    let mut written = w.written.iter();
    for line in &w.got {
        if !written.any(|x| x == line) {
            return fail("doubled or out of order");
        }
    }
    if w.got.len() != w.written.len() {
        *losses += 1;
        if !w.may_lose {
            return fail("lost although every line was still there");
        }
        if !w.reported && !w.unknowable {
            return fail("lost without a report");
        }
    }
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
    let (mut counts, mut losses, mut bad) = (BTreeMap::new(), 0, Vec::new());
    for seed in 0..10_000 {
        bad.extend(sequence(seed, base.path(), &mut counts, &mut losses).err());
    }
    let same = bad.iter().filter(|b| b.contains("same_head true")).count();
    println!("failed: {} with an identical first KiB, {} without", same, bad.len() - same);
    for why in ["doubled or out", "although every", "without a report"] {
        let of = |same: &str| bad.iter().filter(|b| b.contains(why) && b.contains(same)).min_by_key(|b| b.len());
        let first = |b: &String| b.lines().take(2).collect::<String>();
        println!(
            "{why}: same head {:?}; other {:?}",
            of("same_head true").map(first),
            of("same_head false").map(first)
        );
    }
    println!("operations: {counts:?}; sequences with reported losses: {losses}");
    assert!(
        bad.is_empty(),
        "{} sequences failed; the shortest:\n{}",
        bad.len(),
        bad.iter().min_by_key(|b| b.len()).unwrap()
    );
    assert!(OPS.iter().all(|op| counts.get(op).is_some_and(|n| *n > 0)), "an operation never occurred: {counts:?}");
}
