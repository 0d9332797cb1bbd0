//! The file of a message that comes in: found in flat and hashed queues, opened without following links, read within
//! the bounds of [`queue`].

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use rustix::fs::{Mode, OFlags, open, openat};
use rustix::io::Errno;

use super::Why;
use crate::mail::QueueId;
use crate::mta::postfix::queue::{self, End, Envelope, First, Reader, Until};

/// Opens the file of a message that comes in.
pub fn incoming(queue_dir: &Path, id: QueueId) -> Result<File, Why> {
    let flags = OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let why = |error| match error {
        Errno::ACCESS | Errno::PERM => Why::NotPermitted,
        _ => Why::NoQueueFile,
    };
    // Only the queue directory itself may be reached by links: it is a setting.
    let top = open(queue_dir, OFlags::CLOEXEC | OFlags::DIRECTORY, Mode::empty()).map_err(why)?;
    let mut dir = openat(&top, "incoming", flags | OFlags::DIRECTORY, Mode::empty()).map_err(why)?;
    let mut below = queue::hashed(id).into_iter();
    loop {
        match openat(&dir, id.as_str(), flags, Mode::empty()) {
            Ok(file) => {
                let file = File::from(file);
                return if file.metadata().is_ok_and(|meta| meta.is_file()) { Ok(file) } else { Err(Why::NoQueueFile) };
            }
            Err(Errno::NOENT) => {}
            Err(error) => return Err(why(error)),
        }
        let name = below.next().ok_or(Why::NoQueueFile)?;
        dir = openat(&dir, [name].as_slice(), flags | OFlags::DIRECTORY, Mode::empty()).map_err(why)?;
    }
}

/// Whether the message still comes in, so that whoever hands it over still waits: its file is marked by a mode when it
/// is complete (`MAIL_QUEUE_STAT_READY`), and goes when it is given up.
pub fn comes_in(file: &File) -> bool {
    file.metadata().is_ok_and(|meta| meta.nlink() > 0 && meta.mode() & 0o100 == 0)
}

/// The user that the first header names.
pub fn submitter(file: &File, id: QueueId) -> Result<u32, Why> {
    let envelope = read(file, id, Until::FirstHeader);
    match (envelope.first_header, envelope.end) {
        (First::Uid(uid), _) => Ok(uid),
        (First::Foreign, _) => Err(Why::ForeignHeader),
        (First::Unread, End::TooLong) => Err(Why::LongEnvelope),
        (First::Unread, End::Broken | End::Cut) => Err(Why::BrokenQueueFile),
        (First::Other | First::Unread, _) => Err(Why::NoReceivedHeader),
    }
}

fn read(file: &File, id: QueueId, until: Until) -> Envelope {
    let mut reader = Reader::new(id, until);
    let mut buffer = vec![0; queue::ASK];
    loop {
        let length = fill(file, &mut buffer, reader.offset());
        if reader.feed(buffer.get(..length).unwrap_or_default()) {
            return reader.envelope();
        }
    }
}

/// As much as there is; a file that cannot be read ends there.
fn fill(file: &File, buffer: &mut [u8], from: u64) -> usize {
    let mut length = 0;
    while let Some(room) = buffer.get_mut(length..).filter(|room| !room.is_empty()) {
        match file.read_at(room, from.saturating_add(length as u64)) {
            Ok(0) => break,
            Ok(more) => length += more,
            Err(why) if why.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    length
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    const ID: &str = "4jYswH0Jn6z7xJG";

    fn id() -> QueueId {
        QueueId::new(ID.as_bytes()).unwrap()
    }

    fn file(uid: u32, id: &str) -> Vec<u8> {
        let (first, second) = (format!("Received: by mx (Postfix, from userid {uid})"), format!("\tid {id}; x"));
        let rec = |kind: u8, data: &str| [&[kind, data.len() as u8][..], data.as_bytes()].concat();
        [rec(b'S', ""), rec(b'M', ""), rec(b'N', &first), rec(b'N', &second), rec(b'X', ""), rec(b'E', "")].concat()
    }

    #[test]
    fn flat_and_hashed_queues() {
        for below in ["", "0", "0/B", "0/B/"] {
            let spool = tempfile::tempdir().unwrap();
            let dir = spool.path().join("incoming").join(below);
            fs::create_dir_all(&dir).unwrap();
            assert_eq!(incoming(spool.path(), id()).err(), Some(Why::NoQueueFile));
            fs::write(dir.join(ID), file(2001, ID)).unwrap();
            assert_eq!(incoming(spool.path(), id()).and_then(|file| submitter(&file, id())), Ok(2001), "{below}");
        }
        assert_eq!(incoming(Path::new("/nowhere"), id()).err(), Some(Why::NoQueueFile));
    }

    #[test]
    fn links_are_not_followed() {
        let (spool, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir_all(spool.path().join("incoming")).unwrap();
        fs::write(elsewhere.path().join(ID), file(2001, ID)).unwrap();
        symlink(elsewhere.path(), spool.path().join("incoming/0")).unwrap();
        assert_eq!(incoming(spool.path(), id()).err(), Some(Why::NoQueueFile), "a directory");
        symlink(elsewhere.path().join(ID), spool.path().join("incoming").join(ID)).unwrap();
        assert_eq!(incoming(spool.path(), id()).err(), Some(Why::NoQueueFile), "a file");
        fs::remove_dir_all(spool.path().join("incoming")).unwrap();
        symlink(elsewhere.path(), spool.path().join("incoming")).unwrap();
        assert_eq!(incoming(spool.path(), id()).err(), Some(Why::NoQueueFile), "the queue");
    }

    #[test]
    fn why_nobody_is_named() {
        let spool = tempfile::tempdir().unwrap();
        fs::create_dir(spool.path().join("incoming")).unwrap();
        let path = spool.path().join("incoming").join(ID);
        let whole = file(2001, ID);
        let other = b"M\0N\x03a: X\0E\0".to_vec();
        let many = b"R\x04a@bc".repeat(300_000);
        for (bytes, why) in [
            (file(2001, "4jYswH0Jn6z7xJz"), Why::ForeignHeader),
            (other, Why::NoReceivedHeader),
            (whole[..20].to_vec(), Why::BrokenQueueFile),
            (b"\xff\xff\xff\xff\xff\xff".to_vec(), Why::BrokenQueueFile),
            (many, Why::LongEnvelope),
        ] {
            fs::write(&path, bytes).unwrap();
            assert_eq!(submitter(&incoming(spool.path(), id()).unwrap(), id()), Err(why));
        }
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert_eq!(incoming(spool.path(), id()).err(), Some(Why::NoQueueFile));
    }

    #[test]
    fn a_message_comes_in_until_its_file_is_marked_or_gone() {
        use std::os::unix::fs::PermissionsExt;
        let spool = tempfile::tempdir().unwrap();
        fs::create_dir(spool.path().join("incoming")).unwrap();
        let path = spool.path().join("incoming").join(ID);
        fs::write(&path, file(2001, ID)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let open = incoming(spool.path(), id()).unwrap();
        assert!(comes_in(&open));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        assert!(!comes_in(&open));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::remove_file(&path).unwrap();
        assert!(!comes_in(&open));
    }
}
