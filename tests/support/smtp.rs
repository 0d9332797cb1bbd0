//! A small SMTP client: one message a connection, AUTH PLAIN if wanted.
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::Duration;

/// One message to submit.
pub struct Mail<'a> {
    pub sender: &'a str,
    pub recipients: &'a [&'a str],
    /// Header and body; lines ended by `\n` or `\r\n`.
    pub data: &'a str,
    /// Login and password.
    pub auth: Option<(&'a str, &'a str)>,
}

/// Sends to `port` on loopback. The reply to the end of DATA, or the first reply that was not positive.
/// Refused recipients do not end the conversation while one is accepted.
pub fn send(port: u16, mail: &Mail) -> Result<String, String> {
    send_from("client.test", port, mail)
}

/// The same from a client that calls itself `helo`.
pub fn send_from(helo: &str, port: u16, mail: &Mail) -> Result<String, String> {
    let stream = TcpStream::connect(("127.0.0.1", port));
    send_over(stream.map_err(|e| format!("cannot connect to 127.0.0.1:{port}: {e}"))?, helo, mail)
}

/// The same over a connection that is there.
pub fn send_over(stream: TcpStream, helo: &str, mail: &Mail) -> Result<String, String> {
    begin_over(stream, helo, mail)?.finish(mail)
}

/// A conversation up to the server's wish for the text.
pub fn begin(port: u16, mail: &Mail) -> Result<Begun, String> {
    let stream = TcpStream::connect(("127.0.0.1", port));
    begin_over(stream.map_err(|e| format!("cannot connect to 127.0.0.1:{port}: {e}"))?, "client.test", mail)
}

fn begin_over(stream: TcpStream, helo: &str, mail: &Mail) -> Result<Begun, String> {
    let mut talk = Talk::over(stream).map_err(|e| format!("connection: {e}"))?;
    talk.expect("2", None)?;
    talk.expect("2", Some(&format!("EHLO {helo}")))?;
    if let Some((login, password)) = mail.auth {
        talk.expect("2", Some(&format!("AUTH PLAIN {}", base64(format!("\0{login}\0{password}").as_bytes()))))?;
    }
    talk.expect("2", Some(&format!("MAIL FROM:<{}>", mail.sender)))?;
    let replies: Vec<_> = mail.recipients.iter().map(|to| talk.expect("2", Some(&format!("RCPT TO:<{to}>")))).collect();
    if replies.iter().all(Result::is_err) {
        return Err(replies.into_iter().find_map(Result::err).unwrap_or_else(|| "no recipients".to_owned()));
    }
    talk.expect("3", Some("DATA"))?;
    Ok(Begun(talk))
}

/// The server waits for the text.
pub struct Begun(Talk);

impl Begun {
    /// Sends the text; the reply to its end.
    pub fn finish(self, mail: &Mail) -> Result<String, String> {
        let Begun(mut talk) = self;
        let mut data = String::new();
        for line in mail.data.lines() {
            let dot = if line.starts_with('.') { "." } else { "" };
            data.push_str(&format!("{dot}{line}\r\n"));
        }
        let reply = talk.expect("2", Some(&format!("{data}.")))?;
        drop(talk.expect("2", Some("QUIT")));
        Ok(reply)
    }
}

struct Talk {
    lines: BufReader<TcpStream>,
}

impl Talk {
    fn over(stream: TcpStream) -> std::io::Result<Self> {
        stream.set_read_timeout(Some(Duration::from_secs(120)))?;
        Ok(Talk { lines: BufReader::new(stream) })
    }

    fn expect(&mut self, class: &str, command: Option<&str>) -> Result<String, String> {
        let reply = self.exchange(command).map_err(|e| format!("connection: {e}"))?;
        if reply.starts_with(class) { Ok(reply) } else { Err(reply) }
    }

    fn exchange(&mut self, command: Option<&str>) -> std::io::Result<String> {
        if let Some(command) = command {
            self.lines.get_mut().write_all(format!("{command}\r\n").as_bytes())?;
        }
        let mut reply = String::new();
        loop {
            let start = reply.len();
            if self.lines.read_line(&mut reply)? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            if reply.as_bytes().get(start + 3) != Some(&b'-') {
                return Ok(reply.trim_end().to_owned());
            }
        }
    }
}

fn base64(bytes: &[u8]) -> String {
    const SIGNS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let sign = |value: u32| char::from(SIGNS[(value & 63) as usize]);
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let value = chunk.iter().fold(0, |v, b| v << 8 | u32::from(*b)) << (8 * (3 - chunk.len()));
        for at in 0..4 {
            out.push(if at <= chunk.len() { sign(value >> (18 - 6 * at)) } else { '=' });
        }
    }
    out
}
