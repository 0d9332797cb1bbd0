//! Whoever hands messages in for an account: a process of its user, by every way that hosting accounts have.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use serde_json::{Value, json};

use super::gated::PASSWORD;
use super::place::command;
use super::postfix::Postfix;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// sendmail(1).
    Sendmail,
    /// PHP's mail().
    Php,
    /// SMTP from this host without a login, over IPv4 or IPv6.
    Smtp,
    Smtp6,
    /// Authenticated submission.
    Login,
}

impl Way {
    pub const ALL: [Way; 5] = [Way::Sendmail, Way::Php, Way::Smtp, Way::Smtp6, Way::Login];
    /// What a block of scope `script` covers.
    pub const SCRIPT: [Way; 4] = [Way::Sendmail, Way::Php, Way::Smtp, Way::Smtp6];

    pub const fn name(self) -> &'static str {
        match self {
            Way::Sendmail => "sendmail",
            Way::Php => "php",
            Way::Smtp => "smtp",
            Way::Smtp6 => "smtp6",
            Way::Login => "login",
        }
    }
}

/// A message to hand in. By its name it is known again: in its own header and in each recipient.
#[derive(Debug, Clone)]
pub struct Letter {
    pub name: String,
    pub sender: String,
    pub to: Vec<String>,
    /// More header lines, each ended by `\n`; they stand first.
    pub headers: String,
    /// Lines ended by `\n`.
    pub body: Vec<u8>,
}

impl Letter {
    /// One recipient, some bytes of eight bits that are no UTF-8.
    pub fn new(name: &str) -> Letter {
        let body = [b"Gr\xfc\xdfe\n.dot\n..dots\n\nend of " as &[u8], name.as_bytes(), b"\n"].concat();
        let (name, to) = (name.to_owned(), vec![format!("{name}@accept.test")]);
        Letter { name, sender: "a@hosting.test".to_owned(), to, headers: "From: a@hosting.test\n".to_owned(), body }
    }

    /// Every byte that a line of mail may have, at every place of a line.
    pub fn of_all_bytes(name: &str) -> Letter {
        let bytes: Vec<u8> = (1..=255).filter(|byte| !matches!(byte, b'\r' | b'\n')).collect();
        let mut body = Vec::new();
        for first in 0..bytes.len() {
            body.extend(&bytes[first..]);
            body.extend(&bytes[..first]);
            body.push(b'\n');
        }
        Letter { body, ..Letter::new(name) }
    }

    pub fn of_size(name: &str, bytes: usize) -> Letter {
        let line = "0123456789 abcdefghijklmnopqrstuvwxyz \u{e9}\n".as_bytes();
        Letter {
            body: line.iter().copied().cycle().take(bytes / line.len() * line.len()).collect(),
            ..Letter::new(name)
        }
    }

    pub fn to_many(name: &str, recipients: usize) -> Letter {
        Letter { to: (0..recipients).map(|n| format!("{name}.{n}@accept.test")).collect(), ..Letter::new(name) }
    }

    /// With the null sender.
    pub fn of_nobody(name: &str) -> Letter {
        Letter { sender: String::new(), ..Letter::new(name) }
    }
}

/// A message was taken, or refused.
#[derive(Debug, Clone)]
pub struct Answer {
    /// When it was begun, just before it was complete, and just after the answer: seconds of the host's clock.
    pub opened: f64,
    pub began: f64,
    pub ended: f64,
    pub refused: Option<String>,
}

/// A process of a user that hands in what it is given, one message after the other.
pub struct Injector {
    child: Child,
    input: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    way: Way,
    server: String,
    login: Option<String>,
}

impl Injector {
    /// `login` is for authenticated submission.
    pub fn start(postfix: &Postfix, user: &str, way: Way, login: &str) -> Injector {
        let mut php = command("setpriv");
        php.args(["--reuid", user, "--regid", user, "--clear-groups", "php"]);
        php.args([
            "-d",
            "sendmail_path=/usr/sbin/sendmail -t -i",
            "-d",
            "mail.add_x_header=1",
            "-d",
            "memory_limit=512M",
        ]);
        php.args(["-r", include_str!("inject.php")]).env("MAIL_CONFIG", postfix.config_dir()).current_dir("/");
        let mut child = php.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("php starts");
        let (input, output) = (child.stdin.take(), child.stdout.take().unwrap());
        let server = match way {
            Way::Login => format!("127.0.0.1:{}", postfix.submission_port()),
            Way::Smtp6 => format!("[::1]:{}", postfix.smtp_port()),
            _ => format!("127.0.0.1:{}", postfix.smtp_port()),
        };
        let login = (way == Way::Login).then(|| login.to_owned());
        Injector { child, input, answers: BufReader::new(output), way, server, login }
    }

    /// Hands the message in; comes back when it is taken or refused.
    pub fn hand_in(&mut self, letter: &Letter) -> Answer {
        let function = match self.way {
            Way::Sendmail => "sendmail",
            Way::Php => "php",
            Way::Smtp | Way::Smtp6 | Way::Login => "smtp",
        };
        let headers = format!("X-Test-Id: {}\n{}", letter.name, letter.headers);
        let mail = json!({
            "way": function, "server": self.server, "login": self.login, "password": PASSWORD,
            "sender": letter.sender, "to": letter.to, "headers": headers, "bytes": letter.body.len(),
        });
        let input = self.input.as_mut().expect("the injector is not over");
        input
            .write_all(format!("{mail}\n").as_bytes())
            .and_then(|()| input.write_all(&letter.body))
            .expect("php reads");
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("php answers");
        let answer: Value = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{}: {line:?}: {e}", letter.name));
        let time = |key: &str| answer[key].as_f64().unwrap_or_else(|| panic!("{answer}"));
        let refused = answer["refused"].as_str().map(str::to_owned);
        Answer { opened: time("opened"), began: time("began"), ended: time("ended"), refused }
    }

    /// The same for a message that must be taken.
    pub fn take(&mut self, letter: &Letter) -> Answer {
        let answer = self.hand_in(letter);
        assert_eq!(answer.refused, None, "{} by {}", letter.name, self.way.name());
        answer
    }

    /// The body as a receiver must get it, lines ended by `\n`: mail() ends the text once more.
    pub fn arrives(way: Way, body: &[u8]) -> Vec<u8> {
        if way == Way::Php { [body, b"\n"].concat() } else { body.to_vec() }
    }
}

impl Drop for Injector {
    fn drop(&mut self) {
        // It ends when nothing more is to come.
        drop(self.input.take());
        drop(self.child.wait());
    }
}
