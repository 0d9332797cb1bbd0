//! One open file handed to another process together with a line of text (unix(7), `SCM_RIGHTS`).

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
};

const LONGEST: usize = 4 * 1024;

/// Sends a short line, and with it the file. All of it goes at once or not at all.
pub fn send(to: impl AsFd, line: &[u8], file: BorrowedFd<'_>) -> io::Result<()> {
    let files = [file];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(&files)) {
        return Err(io::Error::other("no room for the file's number"));
    }
    let sent = rustix::net::sendmsg(to, &[IoSlice::new(line)], &mut control, SendFlags::NOSIGNAL)?;
    if sent == line.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

/// What was sent: the line, and the file if there was one.
pub fn receive(from: impl AsFd) -> io::Result<(Vec<u8>, Option<OwnedFd>)> {
    let mut line = vec![0; LONGEST];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received =
        rustix::net::recvmsg(from, &mut [IoSliceMut::new(&mut line)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let file = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut files) => files.next(),
        _ => None,
    });
    line.truncate(received.bytes);
    Ok((line, file))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::{Read, Seek, Write};
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_file_goes_over_and_a_line_without_one_is_told_apart() {
        let (here, mut there) = UnixStream::pair().unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"inside").unwrap();
        file.rewind().unwrap();
        send(&here, b"line\n", file.as_fd()).unwrap();
        let (line, got) = receive(&there).unwrap();
        let mut text = String::new();
        File::from(got.unwrap()).read_to_string(&mut text).unwrap();
        assert_eq!((line.as_slice(), text.as_str()), (&b"line\n"[..], "inside"));
        there.write_all(b"other\n").unwrap();
        let (line, got) = receive(&here).unwrap();
        assert!(line == b"other\n" && got.is_none());
    }
}
