//! Small questions to the file system: which logs exist, why one cannot be read, where our state lives, how full a
//! queue directory is. It never changes anything but the lock file of the state directory.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use super::clock;
use crate::mail::{QueueId, Time};
use crate::mta::postfix::queue::hashed;

/// Where distributions and panels put the mail log.
pub const KNOWN_LOGS: [&str; 8] = [
    "/var/log/mail.log",
    "/var/log/maillog",
    "/var/log/mail/mail.log",
    "/var/log/mail.info",
    "/var/log/exim4/mainlog",
    "/var/log/exim/mainlog",
    "/var/log/exim/main.log",
    "/var/log/exim_mainlog",
];

/// The known logs that exist on this host.
pub fn existing_logs() -> Vec<PathBuf> {
    KNOWN_LOGS.iter().map(PathBuf::from).filter(|p| p.is_file()).collect()
}

/// What tells a file from every other, whatever it is called; `None` when it cannot be looked at.
pub fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()))
}

/// What to do about a file that may not be read; `None` when it is readable or missing.
pub fn explain_denied(path: &Path) -> Option<String> {
    let why = File::open(path).err().filter(|e| e.kind() == io::ErrorKind::PermissionDenied)?;
    let shown = path.display();
    let Ok(meta) = fs::metadata(path) else {
        return Some(format!("{shown}: {why}; its directory may not be entered by this user"));
    };
    let group = group_name(meta.gid()).unwrap_or_else(|| meta.gid().to_string());
    Some(if meta.permissions().mode() & 0o040 != 0 {
        format!("{shown}: {why}; group {group} may read it: add this user to group {group}")
    } else {
        format!("{shown}: {why}; not even its group {group} may read it (mode {:o})", meta.permissions().mode() & 0o777)
    })
}

/// A secret that only its owner and group may read, without the space around it.
///
/// # Errors
/// Others may read it, it is no regular file, or it is no text of at most 4 KiB.
pub fn read_secret(path: &Path) -> Result<String, String> {
    const MOST: u64 = 4_096;
    let fail = |why: &dyn std::fmt::Display| {
        format!("cannot read {}: {why}; check that the agent may read it", path.display())
    };
    // A named pipe would be waited for until somebody writes to it.
    let nonblock = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = File::options().read(true).custom_flags(nonblock).open(path).map_err(|why| fail(&why))?;
    let meta = file.metadata().map_err(|why| fail(&why))?;
    let mode = meta.permissions().mode();
    if !meta.is_file() {
        return Err(fail(&"it is no regular file"));
    }
    if mode & 0o007 != 0 {
        let shown = path.display();
        let mode = mode & 0o777;
        return Err(format!(
            "{shown} holds a secret and is open to everybody on this host (mode {mode:o}); close it with: chmod 640 {shown}"
        ));
    }
    let mut text = String::new();
    file.take(MOST + 1).read_to_string(&mut text).map_err(|why| fail(&why))?;
    if text.len() as u64 > MOST {
        return Err(fail(&format!("it is larger than {MOST} bytes")));
    }
    Ok(text.trim().to_owned())
}

fn group_name(gid: u32) -> Option<String> {
    let text = fs::read("/etc/group").ok()?;
    let text = String::from_utf8_lossy(&text);
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(gid)).then(|| name.to_owned())
    })
}

/// The default state directory; `env` looks up an environment variable. `None` without a home.
pub fn state_dir(root: bool, env: &dyn Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    if root {
        return Some(PathBuf::from("/var/lib/sendwarden"));
    }
    // Relative values are to be ignored, says the XDG base directory specification.
    let xdg = env("XDG_STATE_HOME").map(PathBuf::from).filter(|p| p.is_absolute());
    let home = || env("HOME").map(PathBuf::from).filter(|p| p.is_absolute()).map(|h| h.join(".local/state"));
    xdg.or_else(home).map(|p| p.join("sendwarden"))
}

/// Held as long as it lives.
#[derive(Debug)]
pub struct StateLock(#[allow(dead_code, reason = "the lock lives as long as the descriptor")] File);

#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error("{dir} is in use by process {pid}; stop it or choose another state directory", dir = dir.display())]
    Held { dir: PathBuf, pid: String },
    #[error("locking {dir}: {why}; the directory must exist and be writable", dir = dir.display())]
    Io { dir: PathBuf, why: io::Error },
}

/// A program that was being started as the agent was killed has its lock between fork(2) and execve(2).
const LEFT_BEHIND: Duration = Duration::from_secs(2);

/// Locks `dir` against a second instance. One that is gone is waited for, for a moment.
///
/// # Errors
/// When another process holds it (named by pid), or the lock file cannot be written.
pub fn lock_state(dir: &Path) -> Result<StateLock, LockError> {
    let failed = |why| LockError::Io { dir: dir.to_owned(), why };
    let path = dir.join("lock");
    let mut file = File::options().read(true).write(true).create(true).truncate(false).open(path).map_err(failed)?;
    let began = clock::monotonic();
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => break,
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut pid = String::new();
                let _ = file.rewind();
                let _ = (&mut file).take(20).read_to_string(&mut pid);
                let pid = pid.trim().to_owned();
                if Path::new("/proc").join(&pid).exists() || began.elapsed() >= LEFT_BEHIND {
                    return Err(LockError::Held { dir: dir.to_owned(), pid });
                }
                std::thread::park_timeout(Duration::from_millis(10));
            }
            Err(why) => return Err(failed(why.into())),
        }
    }
    file.rewind().map_err(failed)?;
    file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(failed)?;
    Ok(StateLock(file))
}

/// Regular files below a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FileCount {
    pub files: u64,
    pub bytes: u64,
    pub oldest: Option<Time>,
}

/// What is free on a file system, for those who are not root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Free {
    pub bytes: u64,
    /// `None`: it has no fixed number of them.
    pub inodes: Option<u64>,
}

/// # Errors
/// Those of statvfs(3).
pub fn free(path: &Path) -> io::Result<Free> {
    let stat = rustix::fs::statvfs(path)?;
    let inodes = Some(stat.f_favail).filter(|_| stat.f_files > 0);
    Ok(Free { bytes: stat.f_bavail.saturating_mul(stat.f_frsize), inodes })
}

/// Whether it is on a file system that stores nothing, such as /proc or /sys.
pub fn stores_nothing(path: &Path) -> bool {
    rustix::fs::statvfs(path).is_ok_and(|stat| stat.f_blocks == 0)
}

/// Counts regular files below `dir`, hashed subdirectories included; symbolic links are not followed.
///
/// # Errors
/// When `dir` or one below it cannot be read. Files that vanish while counting are simply not counted.
pub fn count_files(dir: &Path) -> io::Result<FileCount> {
    let mut count = FileCount::default();
    let mut todo = vec![dir.to_owned()];
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let Ok(meta) = entry.metadata() else { continue };
            if meta.is_dir() {
                todo.push(entry.path());
            } else if meta.is_file() {
                count.files += 1;
                count.bytes += meta.len();
                let mtime = meta.modified().ok().map(clock::from_system);
                count.oldest = [count.oldest, mtime].into_iter().flatten().min();
            }
        }
    }
    Ok(count)
}

/// How many bytes the files of these messages have, of those that are in this queue, hashed or not.
///
/// # Errors
/// When the queue may not be looked into.
pub fn sizes(queue: &Path, ids: &[QueueId]) -> io::Result<Vec<(QueueId, u64)>> {
    let mut found = Vec::new();
    for id in ids {
        let mut dir = queue.to_owned();
        let mut below = hashed(*id).into_iter();
        loop {
            match fs::symlink_metadata(dir.join(id.as_str())) {
                Ok(meta) => {
                    found.extend(meta.is_file().then_some((*id, meta.len())));
                    break;
                }
                Err(why) if why.kind() == io::ErrorKind::NotFound => {}
                Err(why) => return Err(why),
            }
            let Some(name) = below.next() else { break };
            dir.push(char::from(name).to_string());
            if !dir.is_dir() {
                break;
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_instance_is_told_the_pid() {
        let dir = tempfile::tempdir().unwrap();
        let held = lock_state(dir.path()).unwrap();
        match lock_state(dir.path()) {
            Err(LockError::Held { pid, .. }) => assert_eq!(pid, std::process::id().to_string()),
            other => panic!("{other:?}"),
        }
        drop(held);
        lock_state(dir.path()).unwrap();
    }

    #[test]
    fn a_program_that_a_killed_instance_was_starting_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let held = lock_state(dir.path()).unwrap();
        // No process has this number (kernel/pid.c: PID_MAX_LIMIT).
        fs::write(dir.path().join("lock"), "99999999\n").unwrap();
        let ends = std::thread::spawn(move || {
            std::thread::park_timeout(Duration::from_millis(100));
            drop(held);
        });
        lock_state(dir.path()).unwrap();
        ends.join().unwrap();
        assert_eq!(fs::read_to_string(dir.path().join("lock")).unwrap(), format!("{}\n", std::process::id()));
    }

    #[test]
    fn counts_hashed_queues() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("A")).unwrap();
        fs::write(dir.path().join("A/1"), "x").unwrap();
        fs::write(dir.path().join("2"), "y").unwrap();
        let count = count_files(dir.path()).unwrap();
        assert!(count.files == 2 && count.oldest.is_some());
    }

    #[test]
    fn sizes_of_messages_in_hashed_queues_and_of_no_other_file() {
        let dir = tempfile::tempdir().unwrap();
        let ids = ["4jYswH0Jn6z7xJG", "8C47DB6051", "8C47DB6052", "8C47DB6053"]
            .map(|id| QueueId::new(id.as_bytes()).unwrap());
        fs::create_dir_all(dir.path().join("8/C")).unwrap();
        fs::write(dir.path().join(ids[0].as_str()), "12345").unwrap();
        fs::write(dir.path().join("8/C").join(ids[1].as_str()), "12").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join(ids[2].as_str())).unwrap();
        assert_eq!(sizes(dir.path(), &ids).unwrap(), [(ids[0], 5), (ids[1], 2)]);
        assert!(sizes(&dir.path().join(ids[0].as_str()), &ids).is_err(), "that is no queue");
    }

    #[test]
    fn a_secret_that_others_may_read_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        fs::write(&path, " 0123456789abcdef\n").unwrap();
        for (mode, open) in
            [(0o600, false), (0o640, false), (0o400, false), (0o644, true), (0o604, true), (0o602, true)]
        {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let read = read_secret(&path);
            assert_eq!(read.is_err(), open, "{mode:o} {read:?}");
            match read {
                Ok(text) => assert_eq!(text, "0123456789abcdef"),
                Err(why) => assert!(why.contains("chmod 640") && !why.contains("0123"), "{why}"),
            }
        }
        assert!(read_secret(dir.path()).unwrap_err().contains("no regular file"));
        fs::write(dir.path().join("large"), "x".repeat(4_097)).unwrap();
        fs::set_permissions(dir.path().join("large"), fs::Permissions::from_mode(0o600)).unwrap();
        assert!(read_secret(&dir.path().join("large")).unwrap_err().contains("larger"));
        let pipe = dir.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR).unwrap();
        assert!(read_secret(&pipe).unwrap_err().contains("no regular file"), "a pipe nobody writes to");
    }

    #[test]
    fn state_lives_where_the_user_may_write() {
        let env = |k: &str| (k == "HOME").then(|| OsString::from("/home/u"));
        assert_eq!(state_dir(true, &env), Some(PathBuf::from("/var/lib/sendwarden")));
        assert_eq!(state_dir(false, &env), Some(PathBuf::from("/home/u/.local/state/sendwarden")));
        assert_eq!(state_dir(false, &|_| None), None);
    }
}
