//! One message over SMTP, as if a process of some user of this host had sent it: for `test-hold`.
//!
//! Root gives the socket to the user before it connects (fchown(2) on a socket sets the uid that the kernel names as its
//! owner), so that no process of the user's is needed. Only to addresses of this host, without a login.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use rustix::fs::{Gid, Uid, fchown};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with};

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The server took it: its words.
    Taken(String),
    /// The server did not take it: its words, or what went wrong.
    Refused(String),
    /// Nobody listens there.
    Nobody,
}

/// Longest line of an answer, and most lines.
const MOST: u64 = 4_096;
const LINES: usize = 100;

/// Hands a message with the null sender in; `text` has its lines end with a plain newline.
pub fn hand_in(to: SocketAddr, user: (u32, u32), recipient: &str, text: &str, limit: Duration) -> Answer {
    let stream = match open(to, user) {
        Ok(stream) => stream,
        Err(Errno::CONNREFUSED | Errno::ADDRNOTAVAIL | Errno::AFNOSUPPORT | Errno::NETUNREACH) => {
            return Answer::Nobody;
        }
        Err(why) => return Answer::Refused(format!("connecting: {why}")),
    };
    match talk(stream, recipient, text, limit) {
        Ok(answer) => answer,
        Err(why) => Answer::Refused(format!("the conversation broke off: {why}")),
    }
}

fn open(to: SocketAddr, (uid, gid): (u32, u32)) -> Result<TcpStream, Errno> {
    let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    fchown(&socket, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
    connect(&socket, &to)?;
    Ok(TcpStream::from(socket))
}

fn talk(stream: TcpStream, recipient: &str, text: &str, limit: Duration) -> std::io::Result<Answer> {
    stream.set_read_timeout(Some(limit))?;
    stream.set_write_timeout(Some(limit))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut writer = stream;
    let body: String =
        text.lines().map(|line| format!("{}{line}\r\n", if line.starts_with('.') { "." } else { "" })).collect();
    let to = format!("RCPT TO:<{recipient}>\r\n");
    let whole = format!("{body}.\r\n");
    let mut answer = reply(&mut reader)?;
    for (words, wanted) in [
        ("EHLO localhost\r\n", '2'),
        ("MAIL FROM:<>\r\n", '2'),
        (to.as_str(), '2'),
        ("DATA\r\n", '2'),
        (whole.as_str(), '3'),
    ] {
        // What came before this must have been welcome.
        if !answer.starts_with(wanted) {
            // It is told what it knows already; nobody waits for it.
            let _ = writer.write_all(b"QUIT\r\n");
            return Ok(Answer::Refused(answer));
        }
        writer.write_all(words.as_bytes())?;
        answer = reply(&mut reader)?;
    }
    let _ = writer.write_all(b"QUIT\r\n");
    let _ = reply(&mut reader);
    Ok(if answer.starts_with('2') { Answer::Taken(answer) } else { Answer::Refused(answer) })
}

/// The last line of an answer (RFC 5321, 4.2.1).
fn reply(reader: &mut BufReader<TcpStream>) -> std::io::Result<String> {
    for _ in 0..LINES {
        let mut line = Vec::new();
        if reader.by_ref().take(MOST).read_until(b'\n', &mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        if line.get(3) != Some(&b'-') {
            return Ok(crate::mail::text::clean(line.trim_ascii_end(), 200));
        }
    }
    Err(std::io::Error::other("an answer without an end"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn server(answers: &'static [&'static str]) -> (SocketAddr, std::thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let heard = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut heard = String::new();
            for answer in answers {
                stream.write_all(answer.as_bytes()).unwrap();
                let in_body = answer.starts_with('3');
                loop {
                    let mut line = String::new();
                    if reader.read_line(&mut line).unwrap() == 0 {
                        return heard;
                    }
                    heard.push_str(&line);
                    if !in_body || line == ".\r\n" {
                        break;
                    }
                }
            }
            heard
        });
        (address, heard)
    }

    #[test]
    fn a_message_is_handed_in_and_each_refusal_is_told() {
        let own = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
        let hand = |to| hand_in(to, own, "a@b.invalid", "Subject: x\n\n.dot\n", Duration::from_secs(10));
        let (to, heard) =
            server(&["220 x\r\n", "250-x\r\n250 y\r\n", "250 ok\r\n", "250 ok\r\n", "354 go\r\n", "250 taken\r\n"]);
        assert_eq!(hand(to), Answer::Taken("250 taken".into()));
        let heard = heard.join().unwrap();
        assert!(
            heard.contains("MAIL FROM:<>\r\nRCPT TO:<a@b.invalid>\r\nDATA\r\nSubject: x\r\n\r\n..dot\r\n.\r\n"),
            "{heard}"
        );
        let (to, _) = server(&["220 x\r\n", "250 x\r\n", "250 ok\r\n", "530 no\r\n"]);
        assert_eq!(hand(to), Answer::Refused("530 no".into()));
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert_eq!(hand(free), Answer::Nobody);
    }
}
