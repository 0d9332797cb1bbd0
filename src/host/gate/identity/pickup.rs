//! Whose message pickup(8) has in its hands: the owner of the file in `maildrop` that it has open.
//!
//! pickup is one process that takes one message at a time, and keeps its file open until the message is queued. Its
//! process is the one called so that runs as the mail server's user, in this queue directory. A user may call a process
//! `pickup` too, but cannot run it as the mail server's.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::Why;

/// Most processes and open files that are looked at.
const MOST_PROCESSES: usize = 1 << 16;
const MOST_FILES: usize = 1024;

/// The owner of the message that pickup hands over now. `last`: its process the last time, 0 when not known.
pub fn submitter(queue_dir: &Path, mail_owner: u32, last: &mut u32) -> Result<u32, Why> {
    let queue = fs::metadata(queue_dir).map_err(why)?;
    let place = (queue.dev(), queue.ino());
    if *last == 0 || !is_pickup(*last, mail_owner, place).unwrap_or(false) {
        *last = find(mail_owner, place)?;
    }
    open_message(&PathBuf::from(format!("/proc/{last}")))
}

fn why(error: io::Error) -> Why {
    if error.kind() == ErrorKind::PermissionDenied { Why::NotPermitted } else { Why::NoPickup }
}

fn find(mail_owner: u32, place: (u64, u64)) -> Result<u32, Why> {
    let mut found = Err(Why::NoPickup);
    for process in fs::read_dir("/proc").map_err(why)?.take(MOST_PROCESSES).flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        match is_pickup(pid, mail_owner, place) {
            Ok(true) if found.is_ok() => return Err(Why::SeveralPickups),
            Ok(true) => found = Ok(pid),
            Ok(false) => {}
            Err(error) if found.is_err() => found = Err(why(error)),
            Err(_) => {}
        }
    }
    found
}

/// An error is that of a process of this name and user that may not be looked into.
fn is_pickup(pid: u32, mail_owner: u32, (dev, ino): (u64, u64)) -> io::Result<bool> {
    let process = PathBuf::from(format!("/proc/{pid}"));
    // One that is gone meanwhile is none.
    if !fs::read(process.join("comm")).is_ok_and(|name| name == b"pickup\n") {
        return Ok(false);
    }
    let Ok(status) = fs::read_to_string(process.join("status")) else { return Ok(false) };
    if effective_uid(&status) != Some(mail_owner) {
        return Ok(false);
    }
    match fs::metadata(process.join("cwd")) {
        Ok(cwd) => Ok((cwd.dev(), cwd.ino()) == (dev, ino)),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Err(error),
        Err(_) => Ok(false),
    }
}

/// `Uid:\t102\t102\t102\t102`: real, effective, saved, file system (proc(5)).
fn effective_uid(status: &str) -> Option<u32> {
    let uids = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    uids.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// The owner of the one message that the process has open.
fn open_message(process: &Path) -> Result<u32, Why> {
    let maildrop = fs::read_link(process.join("cwd")).map_err(why)?.join("maildrop");
    let mut owners = Vec::new();
    for file in fs::read_dir(process.join("fd")).map_err(why)?.take(MOST_FILES).flatten() {
        let path = file.path();
        if fs::read_link(&path).is_ok_and(|target| target.parent() == Some(&maildrop))
            && let Ok(meta) = fs::metadata(&path)
            && meta.is_file()
        {
            owners.push(meta.uid());
        }
    }
    match owners[..] {
        [] => Err(Why::NoOpenMessage),
        [uid] => Ok(uid),
        _ => Err(Why::SeveralPickups),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_effective_uid_is_the_second() {
        assert_eq!(effective_uid("Name:\tUid:\nUid:\t0\t102\t102\t102\nGid:\t1\n"), Some(102));
        assert_eq!(effective_uid("Name:\tpickup\n"), None);
    }

    #[test]
    fn a_process_of_another_name_or_place_is_not_pickup() {
        let spool = tempfile::tempdir().unwrap();
        let mut last = std::process::id();
        let own = rustix::process::geteuid().as_raw();
        assert_eq!(submitter(spool.path(), own, &mut last), Err(Why::NoPickup));
        assert_eq!(submitter(Path::new("/nowhere"), own, &mut last), Err(Why::NoPickup));
    }

    #[test]
    fn the_owner_of_the_one_file_below_maildrop() {
        let process = tempfile::tempdir().unwrap();
        let spool = tempfile::tempdir().unwrap();
        let (cwd, fd) = (process.path().join("cwd"), process.path().join("fd"));
        std::os::unix::fs::symlink(spool.path(), cwd).unwrap();
        fs::create_dir(&fd).unwrap();
        fs::create_dir(spool.path().join("maildrop")).unwrap();
        let open = |number: u32, name: &str, uid: u32| {
            let file = spool.path().join(name);
            fs::write(&file, "").unwrap();
            std::os::unix::fs::chown(&file, Some(uid), None).unwrap();
            std::os::unix::fs::symlink(&file, fd.join(number.to_string())).unwrap();
        };
        std::os::unix::fs::symlink(spool.path().join("maildrop"), fd.join("12")).unwrap();
        open(3, "other", 2009);
        assert_eq!(open_message(process.path()), Err(Why::NoOpenMessage));
        open(13, "maildrop/4jYswH0Br7z7xJD", 2001);
        assert_eq!(open_message(process.path()), Ok(2001));
        open(14, "maildrop/4jYswH0Br7z7xJE", 2002);
        assert_eq!(open_message(process.path()), Err(Why::SeveralPickups));
    }
}
