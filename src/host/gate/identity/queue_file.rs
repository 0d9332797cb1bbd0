//! The file of a message that comes in: found in flat and hashed queues, opened without following links, read within
//! the bounds of [`queue`].

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use rustix::fs::{Mode, OFlags, open, openat};
use rustix::io::Errno;

use super::Why;
use crate::mail::{HandedBy, QueueId};
use crate::mta::postfix::queue::{self, End, Envelope, First, Reader, Until, hashed};

/// Opens the file of a message that comes in.
pub fn incoming(queue_dir: &Path, id: QueueId) -> Result<File, Why> {
    find(queue_dir, "incoming", id)
}

/// Where a message may be that is accepted.
const ACCEPTED: [&str; 4] = ["incoming", "active", "deferred", "hold"];

/// Who handed in a message that is in the queue, as its own file says; `None` where it does not, or there is none.
pub fn handed_by(queue_dir: &Path, id: QueueId, mail_owner: u32) -> Option<HandedBy> {
    // One that went from one queue to another meanwhile is found the second time.
    let file = ACCEPTED.iter().chain(&ACCEPTED).find_map(|queue| find(queue_dir, queue, id).ok())?;
    let envelope = read(&file, id, Until::FirstHeader);
    match (envelope.first_header, envelope.login, envelope.client) {
        (First::Uid(uid), ..) if uid == mail_owner => Some(HandedBy::Requeued),
        // smtpd(8) writes these, pickup(8) takes them from nobody.
        (_, Some(login), _) => Some(HandedBy::login(&login)),
        (_, None, Some(client)) => Some(HandedBy::client(Some(client), &envelope.sender.unwrap_or_default())),
        (First::Uid(uid), None, None) => Some(HandedBy::Uid(uid)),
        _ => None,
    }
}

/// Opens the file of a message in a queue.
fn find(queue_dir: &Path, queue: &str, id: QueueId) -> Result<File, Why> {
    let flags = OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let why = |error| match error {
        Errno::ACCESS | Errno::PERM => Why::NotPermitted,
        _ => Why::NoQueueFile,
    };
    // Only the queue directory itself may be reached by links: it is a setting.
    let top = open(queue_dir, OFlags::CLOEXEC | OFlags::DIRECTORY, Mode::empty()).map_err(why)?;
    let mut dir = openat(&top, queue, flags | OFlags::DIRECTORY, Mode::empty()).map_err(why)?;
    let mut below = hashed(id).into_iter();
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
    fn who_handed_in_what_is_in_the_queue() {
        const MAIL: u32 = 102;
        let spool = tempfile::tempdir().unwrap();
        let asked = || handed_by(spool.path(), id(), MAIL);
        assert_eq!(asked(), None, "there is no queue");
        let rec = |kind: u8, data: &str| [&[kind, data.len() as u8][..], data.as_bytes()].concat();
        let attributes = |names: &[&str]| -> Vec<u8> { names.iter().flat_map(|name| rec(b'A', name)).collect() };
        let smtp = attributes(&["client_address=127.0.0.1", "client_port=40000"]);
        let login = [smtp.clone(), attributes(&["sasl_username=box@shop.test"])].concat();
        let other = rec(b'N', "Received: from client");
        let from = rec(b'S', "a@Blog.test");
        let whole = |head: &[u8], text: &[u8]| [head, &rec(b'M', ""), text, &rec(b'X', ""), &rec(b'E', "")].concat();
        let pickup = |uid: u32| file(uid, ID)[4..file(uid, ID).len() - 4].to_vec();
        for (queue, bytes, by) in [
            ("incoming", whole(&from, &pickup(2_001)), Some(HandedBy::Uid(2_001))),
            ("active", whole(&[from.clone(), login].concat(), &other), Some(HandedBy::login(b"box@shop.test"))),
            (
                "deferred/0",
                whole(&[from.clone(), smtp.clone()].concat(), &other),
                Some(HandedBy::client("127.0.0.1".parse().ok(), b"a@blog.test")),
            ),
            // A header of the sender's own, with an id that it cannot know, below one that was taken away.
            ("hold", whole(&smtp, &pickup(2_001)), Some(HandedBy::client("127.0.0.1".parse().ok(), b""))),
            ("hold", whole(&smtp, &pickup(MAIL)), Some(HandedBy::Requeued)),
            ("hold", whole(&from, &other), None),
        ] {
            let dir = spool.path().join(queue);
            fs::create_dir_all(&dir).unwrap();
            fs::write(dir.join(ID), bytes).unwrap();
            assert_eq!(asked(), by, "{queue}");
            fs::remove_file(dir.join(ID)).unwrap();
        }
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
