//! SMTP servers of our own: what Postfix delivers to, answering as a test wants and recording what was accepted.
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// A message as it came over SMTP.
#[derive(Debug, Clone, Default)]
pub struct Received {
    /// Envelope sender; empty for the null sender.
    pub sender: String,
    /// Accepted envelope recipients.
    pub recipients: Vec<String>,
    /// Header and body, dots unstuffed, lines ended by `\r\n`.
    pub data: String,
    /// The same as it came, where it is no UTF-8; otherwise empty.
    pub raw: Vec<u8>,
    /// When its end came, in milliseconds since 1970; 0 where it came otherwise.
    pub at: i64,
}

impl Received {
    /// The first header of this name, unfolded no further than its line.
    pub fn header(&self, name: &str) -> Option<&str> {
        let head = self.data.split("\r\n\r\n").next().unwrap_or_default();
        head.split("\r\n").find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// What comes behind the header, lines ended by `\n`.
    pub fn body(&self) -> Vec<u8> {
        let all = if self.raw.is_empty() { self.data.as_bytes() } else { &self.raw };
        let at = all.windows(4).position(|four| four == b"\r\n\r\n").map_or(all.len(), |at| at + 4);
        let mut body = Vec::with_capacity(all.len() - at);
        for line in all[at..].split_inclusive(|byte| *byte == b'\n') {
            match line.strip_suffix(b"\r\n") {
                Some(line) => body.extend([line, b"\n"].concat()),
                None => body.extend(line),
            }
        }
        body
    }

    pub fn message_id(&self) -> Option<&str> {
        self.header("Message-ID")
    }

    /// The header by which a test recognises its message.
    pub fn unique(&self) -> Option<&str> {
        self.header("X-Test-Id")
    }
}

type OnRecipient = Box<dyn Fn(&str) -> String + Send + Sync>;
type OnMessage = Box<dyn Fn(&Received) -> String + Send + Sync>;

struct Answers {
    recipient: OnRecipient,
    message: OnMessage,
}

/// A server on a free port of loopback; stops with its value.
pub struct Server {
    pub port: u16,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// `recipient` answers RCPT, `message` answers the end of DATA, each with a whole reply line.
    pub fn start(recipient: OnRecipient, message: OnMessage) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port on loopback");
        let port = listener.local_addr().expect("the listener has an address").port();
        let stop = Arc::new(AtomicBool::new(false));
        let (answers, stopped) = (Arc::new(Answers { recipient, message }), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let (Ok(stream), answers) = (stream, Arc::clone(&answers)) else { continue };
                // A client that goes away in the middle is a normal end of a conversation.
                std::thread::spawn(move || drop(converse(stream, &answers)));
            }
        });
        Server { port, stop, thread: Some(thread) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes the listener, which then sees the flag.
        drop(TcpStream::connect(("127.0.0.1", self.port)));
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn converse(stream: TcpStream, answers: &Answers) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let mut out = stream.try_clone()?;
    let mut lines = BufReader::new(stream);
    let mut message = Received::default();
    out.write_all(b"220 sink ESMTP\r\n")?;
    let mut line = Vec::new();
    loop {
        line.clear();
        if lines.read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        let verb = text.get(..4).unwrap_or_default().to_ascii_uppercase();
        let reply = match verb.as_str() {
            "EHLO" => "250-sink\r\n250-SIZE\r\n250 8BITMIME".to_owned(),
            "MAIL" => {
                message = Received { sender: address(&text), ..Received::default() };
                "250 2.1.0 Ok".to_owned()
            }
            "RCPT" => {
                let to = address(&text);
                let reply = (answers.recipient)(&to);
                if reply.starts_with('2') {
                    message.recipients.push(to);
                }
                reply
            }
            "DATA" if message.recipients.is_empty() => "554 5.5.1 No valid recipients".to_owned(),
            "DATA" => {
                out.write_all(b"354 go on\r\n")?;
                let bytes = body(&mut lines)?;
                message.at = jiff::Timestamp::now().as_millisecond();
                match String::from_utf8(bytes) {
                    Ok(text) => message.data = text,
                    Err(why) => {
                        message.data = String::from_utf8_lossy(why.as_bytes()).into_owned();
                        message.raw = why.into_bytes();
                    }
                }
                (answers.message)(&message)
            }
            "QUIT" => return out.write_all(b"221 2.0.0 Bye\r\n"),
            _ => "250 2.0.0 Ok".to_owned(),
        };
        out.write_all(format!("{reply}\r\n").as_bytes())?;
    }
}

fn body(lines: &mut impl BufRead) -> std::io::Result<Vec<u8>> {
    let (mut data, mut line) = (Vec::new(), Vec::new());
    loop {
        line.clear();
        if lines.read_until(b'\n', &mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        if line == b".\r\n" {
            return Ok(data);
        }
        data.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
    }
}

/// What stands in angle brackets; one inside the quotes of a local part ends nothing.
fn address(command: &str) -> String {
    let from = command.find('<').map_or(command.len(), |at| at + 1);
    let (mut quoted, mut escaped) = (false, false);
    let inside = |sign: &char| {
        quoted ^= *sign == '"' && !escaped;
        escaped = *sign == '\\' && !escaped;
        quoted || *sign != '>'
    };
    command[from..].chars().take_while(inside).collect()
}

/// A server that records every message it accepts.
pub struct Sink {
    server: Server,
    accepted: Arc<Mutex<Vec<Received>>>,
    answers: Arc<Mutex<Vec<(String, String)>>>,
}

impl Sink {
    /// Accepts everything.
    pub fn accepting() -> Self {
        Self::scripted(|_| "250 2.1.5 Ok".to_owned())
    }

    /// Refuses every recipient for good.
    pub fn rejecting() -> Self {
        Self::scripted(|to| format!("550 5.1.1 <{to}>: Recipient address rejected: User unknown"))
    }

    /// Defers every recipient.
    pub fn deferring() -> Self {
        Self::scripted(|_| "450 4.2.1 Mailbox busy, try again later".to_owned())
    }

    /// Answers RCPT with what `reply` makes of the recipient: one whole reply, lines separated by `\r\n`.
    pub fn scripted(reply: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        Self::answering(reply, || "250 2.0.0 Ok: taken".to_owned())
    }

    /// The same, and the end of DATA is answered with `taken`: that reply is the one Postfix logs.
    pub fn answering(
        reply: impl Fn(&str) -> String + Send + Sync + 'static,
        taken: impl Fn() -> String + Send + Sync + 'static,
    ) -> Self {
        let accepted = Arc::new(Mutex::new(Vec::new()));
        let record = Arc::clone(&accepted);
        let message = move |message: &Received| {
            record.lock().expect("no test holds the record while panicking").push(message.clone());
            taken()
        };
        let answers = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&answers);
        let recipient = move |to: &str| {
            let said = reply(to);
            told.lock().expect("no test holds the record while panicking").push((to.to_owned(), said.clone()));
            said
        };
        Sink { server: Server::start(Box::new(recipient), Box::new(message)), accepted, answers }
    }

    pub fn port(&self) -> u16 {
        self.server.port
    }

    /// What was accepted so far, in the order it came.
    pub fn messages(&self) -> Vec<Received> {
        self.accepted.lock().expect("no test holds the record while panicking").clone()
    }

    /// Looks at what was accepted so far, without a copy of it.
    pub fn look<T>(&self, at: impl FnOnce(&[Received]) -> T) -> T {
        at(&self.accepted.lock().expect("no test holds the record while panicking"))
    }

    /// How many were accepted so far.
    pub fn count(&self) -> usize {
        self.accepted.lock().expect("no test holds the record while panicking").len()
    }

    /// Every recipient that was asked for with the reply it got, in the order they came.
    pub fn answers(&self) -> Vec<(String, String)> {
        self.answers.lock().expect("no test holds the record while panicking").clone()
    }

    /// The accepted messages with this `X-Test-Id`.
    pub fn with_id(&self, unique: &str) -> Vec<Received> {
        self.messages().into_iter().filter(|m| m.unique() == Some(unique)).collect()
    }
}
