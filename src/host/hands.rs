//! The hands: does one step on the machine, and reads back what it did.
//!
//! It decides nothing: what to do, and what a server says when it has done it, stands in the step. It waits for
//! programs, so it belongs on a thread of its own. See [`carry_out`].

use super::exec;
use super::killpoint::{self, Point};
use crate::mail::{Place, QueueId, Run, Step};
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, utimensat};
use std::collections::HashSet;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// A batch takes well below a second; a disk that hangs must not hold up everything behind it for ever.
const LIMIT: Duration = Duration::from_secs(120);
/// For a byte to a service.
const RING_LIMIT: Duration = Duration::from_secs(5);

/// What came of a step.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Done {
    pub places: Vec<Place>,
    pub trouble: Option<String>,
}

/// Does the step. `pause` waits between two tries, and is false when there is no time for another.
pub fn carry_out(step: &Step, pause: &mut dyn FnMut(Duration) -> bool) -> Done {
    killpoint::pass(Point::before(step));
    let done = match step {
        // Its point is behind each of its tries.
        Step::Run(run) => return repeat(run, pause),
        Step::Start { argv } => {
            exec::start(argv.clone());
            Done::default()
        }
        Step::Due { directory, places } => {
            let trouble = due(Path::new(directory), places).err();
            Done {
                trouble: trouble.map(|why| format!("making messages below {directory} due: {why}")),
                ..Done::default()
            }
        }
        Step::Ring { path, byte } => {
            let trouble = ring(Path::new(path), *byte).err();
            Done { trouble: trouble.map(|why| format!("waking {path}: {why}")), ..Done::default() }
        }
    };
    killpoint::pass(Point::after(step));
    done
}

/// Tries again for those of which the program said nothing: a message may be on its way between two queues.
fn repeat(run: &Run, pause: &mut dyn FnMut(Duration) -> bool) -> Done {
    let (mut done, mut left) = (Done::default(), run.places.clone());
    for n in 0..run.tries.max(1) {
        if n > 0 && !pause(Duration::from_millis(run.pause_ms)) {
            break;
        }
        let (mut said, trouble) = in_lanes(run, &left);
        killpoint::pass(Point::AfterRun);
        said.sort_unstable();
        let (now, rest) = left.into_iter().partition(|place| said.binary_search(&place.id).is_ok());
        done.places.extend::<Vec<Place>>(now);
        left = rest;
        done.trouble = trouble;
        if left.is_empty() || done.trouble.is_some() {
            break;
        }
    }
    done
}

/// Of fewer places no share is made.
const SHARE: usize = 100;

/// Runs the program for these places, each lane with its share. What it says it has done, and the first trouble.
fn in_lanes(run: &Run, places: &[Place]) -> (Vec<QueueId>, Option<String>) {
    let share = places.len().div_ceil(run.lanes.max(1)).max(SHARE);
    let Some((first, others)) = places.split_at_checked(share).filter(|(_, others)| !others.is_empty()) else {
        return once(run, places);
    };
    let came: Vec<_> = std::thread::scope(|scope| {
        let start = |share| std::thread::Builder::new().spawn_scoped(scope, move || once(run, share));
        let started: Vec<_> = others.chunks(share).map(|share| (share, start(share))).collect();
        let own = once(run, first);
        let others = started.into_iter().map(|(share, lane)| match lane.map(|lane| lane.join()) {
            Ok(Ok(came)) => came,
            // No thread to be had.
            Ok(Err(_)) | Err(_) => once(run, share),
        });
        std::iter::once(own).chain(others).collect()
    });
    let trouble = came.iter().find_map(|(_, trouble)| trouble.clone());
    (came.into_iter().flat_map(|(said, _)| said).collect(), trouble)
}

/// Runs the program once.
fn once(run: &Run, places: &[Place]) -> (Vec<QueueId>, Option<String>) {
    let (argv, stdin) = run.command(places);
    let output = match exec::run(&argv, &stdin, LIMIT) {
        Ok(output) => output,
        Err(why) => return (Vec::new(), Some(why.to_string())),
    };
    let said = run.read_back(&output.stdout, &output.stderr);
    let trouble = run.is_trouble(output.status.success(), &output.stderr).then(|| {
        let words = String::from_utf8_lossy(&output.stderr);
        let last = words.lines().last().unwrap_or_default();
        format!("{} ended with {}: {last}", run.argv.join(" "), output.status)
    });
    (said, trouble)
}

/// Queue directories are hashed some levels deep (postconf(5): `hash_queue_depth`).
const DEEP: u32 = 4;

fn due(directory: &Path, places: &[Place]) -> std::io::Result<()> {
    let wanted: HashSet<&[u8]> = places.iter().map(|place| place.id.as_bytes()).collect();
    let mut left = vec![(directory.to_path_buf(), DEEP)];
    while let Some((directory, deep)) = left.pop() {
        let entries = match std::fs::read_dir(&directory) {
            // It is made when it is needed.
            Err(why) if why.kind() == std::io::ErrorKind::NotFound => continue,
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() && deep > 0 {
                left.push((entry.path(), deep - 1));
            } else if kind.is_file() && wanted.contains(entry.file_name().as_bytes()) {
                // Both: that takes no more than the right to write the file, which is not ours.
                let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
                let times = Timestamps { last_access: now, last_modification: now };
                // It may have left meanwhile.
                match utimensat(CWD, entry.path(), &times, AtFlags::SYMLINK_NOFOLLOW) {
                    Err(rustix::io::Errno::NOENT) | Ok(()) => {}
                    Err(why) => return Err(why.into()),
                }
            }
        }
    }
    Ok(())
}

/// A service of Postfix listens on a socket or, in older versions, a pipe (mail_trigger(3)).
fn ring(path: &Path, byte: u8) -> std::io::Result<()> {
    let kind = std::fs::metadata(path)?.file_type();
    if kind.is_socket() {
        let mut stream = UnixStream::connect(path)?;
        stream.set_write_timeout(Some(RING_LIMIT))?;
        return stream.write_all(&[byte]);
    }
    // Without a reader, opening it fails at once instead of waiting for one.
    let flags = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or_default();
    std::fs::OpenOptions::new().write(true).custom_flags(flags).open(path)?.write_all(&[byte])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::{Server, Talk};
    use std::io::Read;

    fn place(id: &str) -> Place {
        Place { server: Server::Postfix, instance: b"mx"[..].into(), id: QueueId::new(id.as_bytes()).unwrap() }
    }

    fn run(script: &str, tries: u32) -> Run {
        let argv = ["sh", "-c", script].map(str::to_owned).to_vec();
        let places = ["AAAAA1", "AAAAA2", "AAAAA3"].map(place).to_vec();
        Run { argv, places, talk: Talk::Lines, says: "released from hold", tries, pause_ms: 7, lanes: 1 }
    }

    #[test]
    fn what_is_missing_is_tried_again_and_only_that() {
        let dir = tempfile::tempdir().unwrap();
        let seen = dir.path().join("seen").display().to_string();
        // The first call knows one id, the second another, the third none.
        let script = format!(
            "cat >> {seen}; echo >> {seen}; n=$(grep -c '^$' {seen}); \
             echo \"postsuper: AAAAA$n: released from hold\" >&2; echo 'postsuper: Released from hold: 1 message' >&2"
        );
        let mut pauses = Vec::new();
        let mut wait = |pause| {
            pauses.push(pause);
            true
        };
        let done = carry_out(&Step::Run(run(&script.replace("AAAAA$n", "AAAAA$((n == 3 ? 9 : n))"), 3)), &mut wait);
        assert_eq!(done, Done { places: vec![place("AAAAA1"), place("AAAAA2")], trouble: None });
        assert_eq!(pauses, [Duration::from_millis(7); 2]);
        let asked = std::fs::read_to_string(&seen).unwrap();
        assert_eq!(asked, "AAAAA1\nAAAAA2\nAAAAA3\n\nAAAAA2\nAAAAA3\n\nAAAAA3\n\n");
    }

    #[test]
    fn trouble_is_told_and_what_was_done_before_it_stands() {
        let script = "echo 'postsuper: AAAAA2: released from hold' >&2; echo 'postsuper: fatal: no' >&2; exit 1";
        let done = carry_out(&Step::Run(run(script, 4)), &mut |_| true);
        assert_eq!(done.places, [place("AAAAA2")]);
        assert!(done.trouble.unwrap().ends_with("postsuper: fatal: no"));
        let mut missing = run("", 1);
        missing.argv = vec!["/nowhere/postsuper".into()];
        assert!(carry_out(&Step::Run(missing), &mut |_| true).trouble.unwrap().contains("/nowhere/postsuper"));
        let mut asked = 0;
        let stop = &mut |_| {
            asked += 1;
            false
        };
        assert_eq!(carry_out(&Step::Run(run("true", 9)), stop), Done::default());
        assert_eq!(asked, 1, "no time for another try");
    }

    #[test]
    fn lanes_share_what_is_to_be_done_and_each_id_is_named_once() {
        let dir = tempfile::tempdir().unwrap();
        let seen = dir.path().join("seen").display().to_string();
        // Each waits until four are there: one after the other they would wait for ever.
        let script = format!(
            "cat > {seen}.$$; while [ $(ls {seen}.* | wc -l) -lt 4 ]; do sleep 0.01; done; \
             sed 's/.*/postsuper: &: released from hold/' {seen}.$$ >&2"
        );
        let places: Vec<Place> = (0..950).map(|n| place(&format!("AAAAA{n}"))).collect();
        let done = carry_out(&Step::Run(Run { places: places.clone(), lanes: 4, ..run(&script, 1) }), &mut |_| true);
        assert_eq!(done, Done { places, trouble: None });
        let shares = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path());
        let shares: Vec<usize> = shares.map(|share| std::fs::read_to_string(share).unwrap().lines().count()).collect();
        assert_eq!((shares.len(), shares.iter().sum::<usize>()), (4, 950), "{shares:?}");
        // Of few no share is made, and what one of several fails with is told.
        let few = Run { lanes: 4, ..run("cat >&2; exit 1", 1) };
        assert_eq!(carry_out(&Step::Run(few), &mut |_| true).trouble.unwrap().lines().count(), 1);
        let script = "read first; [ $first = AAAAA0 ] || { echo 'postsuper: fatal: no' >&2; exit 1; }";
        let places: Vec<Place> = (0..950).map(|n| place(&format!("AAAAA{n}"))).collect();
        let done = carry_out(&Step::Run(Run { places, lanes: 4, ..run(script, 1) }), &mut |_| true);
        assert!(done.trouble.unwrap().ends_with("postsuper: fatal: no"));
    }

    #[test]
    fn ids_are_arguments_of_a_program_that_fails_when_one_is_not_done() {
        let dir = tempfile::tempdir().unwrap();
        let seen = dir.path().join("seen").display().to_string();
        // The first id is done, the others are locked; nothing is said on standard error.
        let script = format!("echo $* >> {seen}; [ $1 = AAAAA1 ] && echo Message $1 is now frozen; exit 1");
        let argv = ["sh", "-c", &script, "sh"].map(str::to_owned).to_vec();
        let run = Run { argv, talk: Talk::Arguments, says: "is now frozen", ..run("", 2) };
        let done = carry_out(&Step::Run(run.clone()), &mut |_| true);
        assert_eq!(done, Done { places: vec![place("AAAAA1")], trouble: None });
        assert_eq!(std::fs::read_to_string(&seen).unwrap(), "AAAAA1 AAAAA2 AAAAA3\nAAAAA2 AAAAA3\n");
        let argv = ["sh", "-c", "echo 'permission denied' >&2; exit 1"].map(str::to_owned).to_vec();
        let done = carry_out(&Step::Run(Run { argv, ..run }), &mut |_| true);
        assert!(done.trouble.unwrap().ends_with("permission denied"));
    }

    #[test]
    fn what_is_named_is_due_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let later = std::time::UNIX_EPOCH + Duration::from_secs(4_000_000_000);
        for name in ["A/AAAAA1", "A/AAAAA2", "B/C/AAAAA3", "AAAAA4"] {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::File::create(path).unwrap().set_modified(later).unwrap();
        }
        let places = ["AAAAA1", "AAAAA3", "AAAAA9"].map(place).to_vec();
        let directory = dir.path().display().to_string();
        assert_eq!(carry_out(&Step::Due { directory, places: places.clone() }, &mut |_| true), Done::default());
        let due = |name: &str| std::fs::metadata(dir.path().join(name)).unwrap().modified().unwrap() < later;
        assert_eq!(["A/AAAAA1", "A/AAAAA2", "B/C/AAAAA3", "AAAAA4"].map(due), [true, false, true, false]);
        let directory = dir.path().join("AAAAA4").display().to_string();
        assert!(carry_out(&Step::Due { directory, places }, &mut |_| true).trouble.is_some());
    }

    #[test]
    fn a_socket_and_a_pipe_are_rung() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("qmgr");
        let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let ring = |path: &Path| carry_out(&Step::Ring { path: path.display().to_string(), byte: b'D' }, &mut |_| true);
        assert_eq!(ring(&socket), Done::default());
        let mut said = Vec::new();
        listener.accept().unwrap().0.read_to_end(&mut said).unwrap();
        assert_eq!(said, b"D");
        let pipe = dir.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        assert!(ring(&pipe).trouble.is_some(), "nobody reads it");
        let mut reader = std::fs::OpenOptions::new().read(true).write(true).open(&pipe).unwrap();
        assert_eq!(ring(&pipe), Done::default());
        let mut byte = [0];
        reader.read_exact(&mut byte).unwrap();
        assert_eq!(byte, *b"D");
        assert!(ring(&dir.path().join("none")).trouble.unwrap().contains("none"));
    }
}
