//! Who handed a message in, asked at a real Postfix's end of message: several users at once by every way in, forged and
//! missing headers, hashed queues. Truth is who ran the command, not what any file says.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]
#![allow(clippy::disallowed_methods, reason = "a test of real servers waits in real time")]
mod support;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant as Clock};

use sendwarden::host::gate::identity::{Identity, Instance, connected, identify};
use sendwarden::mail::{Judgement, QueueId, Way};
use sendwarden::mta::postfix::milter::{Next, Session, wire};
use sendwarden::mta::postfix::queue::{ASK, End, Envelope, First, Reader, Until};
use support::place::{command, succeed};
use support::postfix::{Options, Postfix};
use support::smtp::{self, Mail};
use support::wait_until;

/// What was found of each message, by queue id, and how long it took.
type Found = Arc<Mutex<BTreeMap<String, (Identity, Duration)>>>;

/// A filter that asks who every message is from, and holds it.
struct Filter {
    port: u16,
    instance: Arc<OnceLock<Instance>>,
    found: Found,
}

impl Filter {
    fn start() -> Filter {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let filter =
            Filter { port: listener.local_addr().unwrap().port(), instance: Arc::default(), found: Arc::default() };
        let (instance, found) = (Arc::clone(&filter.instance), Arc::clone(&filter.found));
        // Ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (instance, found) = (Arc::clone(&instance), Arc::clone(&found));
                std::thread::spawn(move || converse(stream, instance.wait(), &found));
            }
        });
        filter
    }

    fn settings(&self) -> String {
        let port = self.port;
        format!("smtpd_milters = inet:127.0.0.1:{port}\nnon_smtpd_milters = inet:127.0.0.1:{port}\n")
    }

    /// What was found of the message with this queue id.
    fn of(&self, id: &str) -> Identity {
        let found = self.found.lock().unwrap();
        found.get(id).unwrap_or_else(|| panic!("{id} was never asked about: {found:?}")).0.clone()
    }
}

fn converse(mut stream: TcpStream, instance: &Instance, found: &Found) {
    let (mut session, mut bytes, mut piece) = (Session::default(), Vec::new(), [0; 4096]);
    let mut client = None;
    loop {
        let mut out = Vec::new();
        while let Some((frame, taken)) = wire::frame(&bytes).unwrap() {
            let next = session.take(frame, &mut out).unwrap();
            bytes.drain(..taken);
            match next {
                Next::Read => {}
                Next::Connected => client = connected(session.candidate().way, instance, true),
                Next::Judge => {
                    let candidate = session.candidate();
                    let begun = Clock::now();
                    let identity = identify(&candidate, client.clone(), instance);
                    let took = begun.elapsed();
                    found.lock().unwrap().insert(candidate.id.unwrap().to_string(), (identity, took));
                    session.answer(&Judgement::Hold { reason: "kept for the test".into() }, &mut out);
                }
                Next::Close => return,
            }
        }
        stream.write_all(&out).unwrap();
        match stream.read(&mut piece) {
            Ok(0) | Err(_) => return,
            Ok(length) => bytes.extend_from_slice(&piece[..length]),
        }
    }
}

fn server(filter: &Filter, extra: &str) -> Postfix {
    let extra = format!("{}{extra}", filter.settings());
    let postfix = Postfix::start(&Options { extra, ..Options::default() });
    filter.instance.set(Instance::here(postfix.queue_dir())).unwrap();
    postfix
}

/// The file of a held message, read whole.
fn held(postfix: &Postfix, id: &str) -> Envelope {
    let path = find(&postfix.queue_dir().join("hold"), id).unwrap_or_else(|| panic!("{id} is not held"));
    let file = fs::read(path).unwrap();
    let mut reader = Reader::new(QueueId::new(id.as_bytes()).unwrap(), Until::End);
    loop {
        let rest = &file[(reader.offset() as usize).min(file.len())..];
        if reader.feed(&rest[..rest.len().min(ASK)]) {
            return reader.envelope();
        }
    }
}

fn find(dir: &Path, name: &str) -> Option<PathBuf> {
    fs::read_dir(dir).unwrap().flatten().find_map(|entry| match entry.file_type().unwrap().is_dir() {
        true => find(&entry.path(), name),
        false => (entry.file_name() == name).then(|| entry.path()),
    })
}

/// Queue id and recipients of every held message.
fn queue(postfix: &Postfix, count: usize) -> Vec<(String, Vec<String>)> {
    wait_until(&format!("{count} held messages"), || {
        postfix.queue().iter().filter(|message| message.queue == "hold").count() >= count
    });
    postfix.queue().into_iter().map(|message| (message.id, message.recipients)).collect()
}

const USERS: [(&str, u32); 3] = [("web1", 2001), ("web2", 2002), ("web3", 2003)];

/// The user whose name a recipient carries.
fn user_of(recipients: &[String]) -> u32 {
    let user = recipients[0].split('.').next().unwrap();
    USERS.iter().find(|(name, _)| *name == user).unwrap_or_else(|| panic!("{recipients:?}")).1
}

/// Headers that claim to be pickup's, of every user but the sender.
fn forged(uid: u32) -> String {
    let others = USERS.iter().filter(|(_, other)| *other != uid);
    others
        .map(|(_, other)| {
            format!("Received: by mx.hosting.test (Postfix, from userid {other})\n\tid 4jYswH0Jn6z7xJG; x\n")
        })
        .collect()
}

/// Every user at once sends what is hard to read: forged headers, bytes of 8 bits, no sender, many recipients, long
/// headers and lines.
fn scripts(postfix: &Postfix, rounds: usize) -> usize {
    std::thread::scope(|scope| {
        for (user, uid) in USERS {
            scope.spawn(move || {
                for round in 0..rounds {
                    let to = |n: usize| format!("{user}.{round}.{n}@accept.test");
                    let many: Vec<String> = (0..50).map(to).collect();
                    let many: Vec<&str> = many.iter().map(String::as_str).collect();
                    let forged = forged(uid);
                    postfix.sendmail(user, "x@y.test", &many[..1], &format!("{forged}Subject: s\n\nbody\n"));
                    postfix.sendmail(user, "", &many[..2], "Subject: none\n\nbody\n");
                    postfix.sendmail(user, "é@y.test", &many, "Subject: é ü\nX-É: é\n\nbody é\n");
                    let (long, wide) = ("w ".repeat(6_000), "z".repeat(5_000));
                    postfix.sendmail(user, "x@y.test", &many[..1], &format!("X-Long: {long}\n{forged}\n{wide}\n"));
                    // A text that begins with a blank, as if it went on with the header before.
                    postfix.sendmail(user, "x@y.test", &many[..1], "\tid 4jYswH0Jn6z7xJG; x\n\nbody\n");
                }
            });
        }
    });
    rounds * 5 * USERS.len()
}

#[test]
fn scripts_of_several_users_by_the_first_header() {
    let filter = Filter::start();
    let postfix = server(&filter, "hash_queue_names = incoming deferred hold\nhash_queue_depth = 2\n");
    let count = scripts(&postfix, 4);
    let queue = queue(&postfix, count);
    assert_eq!(queue.len(), count);
    for (id, recipients) in &queue {
        let uid = user_of(recipients);
        assert_eq!(filter.of(id), Identity::Uid(uid), "{id}");
        let envelope = held(&postfix, id);
        assert_eq!((envelope.first_header, envelope.end), (First::Uid(uid), End::Whole), "{id}");
        assert_eq!((envelope.recipients as usize, envelope.done), (recipients.len(), 0), "{id}");
        assert!(envelope.login.is_none() && envelope.client.is_none(), "{id}: {envelope:?}");
    }
    let listing = postfix.run("postqueue", &["-j"]);
    for line in listing.lines() {
        let message: serde_json::Value = serde_json::from_str(line).unwrap();
        let envelope = held(&postfix, message["queue_id"].as_str().unwrap());
        assert_eq!(envelope.size, message["message_size"].as_u64(), "{line}");
        assert_eq!(envelope.arrived.unwrap().secs(), message["arrival_time"].as_i64().unwrap(), "{line}");
        let sender = match message["sender"].as_str().unwrap() {
            "MAILER-DAEMON" => "",
            sender => sender,
        };
        // postqueue(1) shows a question mark for what is not ASCII.
        let bytes = envelope.sender.unwrap();
        let shown = bytes.iter().map(|byte| if byte.is_ascii() { char::from(*byte) } else { '?' });
        assert_eq!(shown.collect::<String>(), sender, "{line}");
    }
    let mut took: Vec<Duration> = filter.found.lock().unwrap().values().map(|(_, took)| *took).collect();
    took.sort_unstable();
    println!("{count} messages: median {:?}, longest {:?}", took[count / 2], took[count - 1]);
}

#[test]
fn without_the_header_by_the_file_that_pickup_has_open() {
    let filter = Filter::start();
    let postfix = server(&filter, "header_checks = regexp:$config_directory/checks\n");
    // Only pickup's own: what the users forge stands first then, and has another id.
    let checks = "/^Received: by mx.hosting.test \\(Postfix, from userid.*id 4jYswH0Jn6z7xJG/ DUNNO\n\
                  /^Received:.*from userid/ IGNORE\n";
    fs::write(postfix.config_dir().join("checks"), checks).unwrap();
    let count = scripts(&postfix, 3);
    let mut foreign = 0;
    for (id, recipients) in queue(&postfix, count) {
        assert_eq!(filter.of(&id), Identity::Uid(user_of(&recipients)), "{id}");
        match held(&postfix, &id).first_header {
            First::Foreign => foreign += 1,
            other => assert_eq!(other, First::Other, "{id}"),
        }
    }
    assert!(foreign > 0, "no forged header came first");
    let mut took: Vec<Duration> = filter.found.lock().unwrap().values().map(|(_, took)| *took).collect();
    took.sort_unstable();
    println!("{count} messages: median {:?}, longest {:?}", took[count / 2], took[count - 1]);
}

/// A user's own program that talks SMTP, as PHPMailer does.
const CLIENT: &str = r#"
exec 3<>"/dev/tcp/$1/$2"
read -r _ <&3
for line in "HELO x" "MAIL FROM:<$3>" "RCPT TO:<$4>" DATA $'Subject: x\r\n\r\nbody\r\n.' QUIT; do
  printf '%s\r\n' "$line" >&3
  read -r reply <&3
  case $reply in [23]*) ;; *) echo "$line: $reply" >&2; exit 1 ;; esac
done
"#;

fn as_user(user: &str, script: &str, arguments: &[&str]) -> std::process::Command {
    let mut command = command("setpriv");
    command.args(["--reuid", user, "--regid", user, "--clear-groups", "bash", "-c", script, "bash"]);
    command.args(arguments).current_dir("/");
    command
}

#[test]
fn smtp_by_the_socket_or_the_login() {
    let filter = Filter::start();
    let postfix = server(&filter, "");
    postfix.add_login("box1@hosting.test", "secret");
    let port = postfix.smtp_port().to_string();
    std::thread::scope(|scope| {
        for (user, _) in USERS {
            let port = &port;
            scope.spawn(move || {
                for n in 0..20 {
                    let to = format!("{user}.{n}@accept.test");
                    succeed(&mut as_user(user, CLIENT, &["127.0.0.1", port, "x@y.test", &to]), None);
                }
            });
        }
    });
    for (id, recipients) in queue(&postfix, 60) {
        assert_eq!(filter.of(&id), Identity::Uid(user_of(&recipients)), "{id}");
        // Their own words do not name a user.
        assert_eq!(held(&postfix, &id).first_header, First::Other);
    }
    let data = format!("{}Subject: x\n\nbody\n", forged(0));
    let auth = Some(("box1@hosting.test", "secret"));
    let mail = Mail { sender: "x@y.test", recipients: &["login@accept.test"], data: &data, auth };
    smtp::send(postfix.submission_port(), &mail).unwrap();
    let id = postfix.queue_id("login@accept.test");
    assert_eq!(filter.of(&id), Identity::Login((*b"box1@hosting.test").into()));
    let envelope = held(&postfix, &id);
    assert_eq!(envelope.login.as_deref(), Some(&b"box1@hosting.test"[..]));
    assert_eq!(envelope.client, Some("127.0.0.1".parse().unwrap()));
    assert!(envelope.client_port.is_some());
}

#[test]
fn sockets_of_both_families_and_mapped_ones() {
    let instance = Instance::here("/nowhere");
    let cases = [
        ("127.0.0.1:0", "127.0.0.1", "127.0.0.1"),
        ("[::1]:0", "::1", "::1"),
        // The client's end, the server's end, or both are of IPv6 with an address of IPv4.
        ("127.0.0.1:0", "::ffff:127.0.0.1", "127.0.0.1"),
        ("[::]:0", "127.0.0.1", "127.0.0.1"),
        ("[::]:0", "::ffff:127.0.0.1", "127.0.0.1"),
    ];
    for (listen, to, from) in cases {
        let listener = TcpListener::bind(listen).unwrap();
        let port = listener.local_addr().unwrap().port().to_string();
        for (user, uid) in USERS {
            let wait = "exec 3<>\"/dev/tcp/$1/$2\"; read -r _ <&3";
            let mut child = as_user(user, wait, &[to, &port]).spawn().unwrap();
            let (mut server, client) = listener.accept().unwrap();
            assert_eq!(client.ip().to_canonical(), from.parse::<IpAddr>().unwrap());
            let here = server.local_addr().unwrap();
            for server in [None, Some((here.ip(), here.port()))] {
                let way = Way::Smtp { address: client.ip(), port: client.port(), server };
                assert_eq!(connected(way, &instance, true), Some(Identity::Uid(uid)), "{user} from {to} to {listen}");
            }
            server.write_all(b"done\n").unwrap();
            assert!(child.wait().unwrap().success());
        }
    }
}
