//! The helper's end of its socket: who speaks is checked, what is asked is checked as a whole, then it is done.
//!
//! One thread per connection, of a bounded number; one request at a time on each. What holds, releases and deletes is done
//! one after another. It never asks back, and keeps nothing that a restart would lose but the gate's sockets.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::doors::{Doors, Held, KEEP};
use super::{About, Answer, Counted, MOST_IDS, MOST_LISTED, MOST_REQUEST, Request, Served, fds, held, outside, trust};
use crate::host::files::FileCount;
use crate::host::gate::identity;
use crate::host::killpoint::{self, Point};
use crate::host::servers::PostfixPlace;
use crate::host::spool::{self, Spool};
use crate::host::{clock, files, hands, listing};
use crate::mail::{Place, QueueId, Server, Step, Verb};
use crate::mta::exim;
use crate::mta::postfix::plan;
use crate::mta::postfix::queue::QUEUES;

/// More than an agent, the one that is about to take its place and a few commands have.
const MOST_CONNECTIONS: usize = 32;
/// For the rest of a request that has begun, and for an answer to be taken.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often refusals are told, at most.
const TELL: Duration = Duration::from_secs(1);

/// What it does for whom: all of it found at the start.
#[derive(Debug)]
pub struct Settings {
    /// The uid that may ask, besides root.
    pub agent: u32,
    pub instances: Vec<PostfixPlace>,
    /// Exim's program.
    pub exim: Option<String>,
}

#[derive(Debug)]
struct Instance {
    name: String,
    at: plan::Instance,
    identity: identity::Instance,
}

/// The helper, ready to be asked.
#[derive(Debug)]
pub struct House {
    agent: u32,
    instances: Vec<Instance>,
    exim: Option<String>,
    spool: Mutex<Spool>,
    doors: Arc<Doors>,
    /// One postsuper(1) at a time, or one Exim.
    hands: Mutex<()>,
    /// One listing at a time.
    eyes: Mutex<()>,
    open: AtomicUsize,
    refused_peers: AtomicU64,
    refused_requests: AtomicU64,
    told: Mutex<Option<Instant>>,
}

impl House {
    /// Whatever others than root could change is not served.
    ///
    /// # Errors
    /// What is not believed, and why.
    pub fn new(settings: Settings) -> Result<House, String> {
        let mut instances = Vec::new();
        for place in settings.instances {
            let tools = ["postsuper", "postqueue"].map(|tool| format!("{}/{tool}", place.tools));
            for path in [&place.config, &place.queue].into_iter().chain(&tools) {
                trust::only_root_changes(Path::new(path))?;
            }
            let identity = identity::Instance::here(&place.queue);
            let at = plan::Instance { tools: place.tools, config: place.config, queue: place.queue };
            instances.push(Instance { name: place.name, at, identity });
        }
        settings.exim.as_ref().map_or(Ok(()), |program| trust::only_root_changes(Path::new(program)))?;
        Ok(House {
            agent: settings.agent,
            instances,
            exim: settings.exim,
            spool: Mutex::default(),
            doors: Arc::default(),
            hands: Mutex::default(),
            eyes: Mutex::default(),
            open: AtomicUsize::new(0),
            refused_peers: AtomicU64::new(0),
            refused_requests: AtomicU64::new(0),
            told: Mutex::default(),
        })
    }

    /// Root may do all of it anyway; nobody else but the agent's user.
    const fn may_speak(&self, uid: u32) -> bool {
        uid == 0 || uid == self.agent
    }

    /// Tells of a refusal, but not of each in a flood.
    fn tell(&self, text: &str) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_none_or(|at| at.elapsed() >= TELL) {
            *told = Some(clock::monotonic());
            let (peers, requests) =
                (self.refused_peers.load(Ordering::Relaxed), self.refused_requests.load(Ordering::Relaxed));
            tracing::warn!("{text} (refused so far: {peers} connections, {requests} requests)");
        }
    }

    fn instance(&self, name: &str) -> Result<&Instance, String> {
        self.instances.iter().find(|one| one.name == name).ok_or_else(|| {
            let known: Vec<&str> = self.instances.iter().map(|one| one.name.as_str()).collect();
            format!("the helper serves {} only; restart it when an instance was added", known.join(", "))
        })
    }

    fn hello(&self) -> About {
        let served = |one: &Instance| {
            let (name, queue) = (one.name.clone(), one.at.queue.clone());
            Served { server: Server::Postfix, name, queue }
        };
        let name = || String::from_utf8_lossy(exim::INSTANCE).into_owned();
        let exim = self.exim.iter().map(|_| Served { server: Server::Exim, name: name(), queue: String::new() });
        About {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            instances: self.instances.iter().map(served).chain(exim).collect(),
            refused_peers: self.refused_peers.load(Ordering::Relaxed),
            refused_requests: self.refused_requests.load(Ordering::Relaxed),
        }
    }

    /// All of it is as it must be, or nothing is done.
    fn answer(&self, request: Request) -> Result<(Answer, Option<Held>), String> {
        let answer = match request {
            Request::Hello {} => Answer::Hello(self.hello()),
            Request::Hold { server, instance, ids } => self.work(Verb::Hold, server, &instance, &ids)?,
            Request::Release { server, instance, ids } => self.work(Verb::Release, server, &instance, &ids)?,
            Request::Delete { server, instance, ids } => self.work(Verb::Delete, server, &instance, &ids)?,
            Request::Envelopes { server, instance, after } => {
                let after = after.map(|id| queue_id(server, &id)).transpose()?;
                let mut page = held::Page::behind(after);
                let _one = self.eyes.lock().unwrap_or_else(PoisonError::into_inner);
                match server {
                    Server::Postfix => {
                        let at = &self.instance(&instance)?.at;
                        listing::postfix(&at.tools, &at.config, &mut |held| page.take(held))?;
                    }
                    Server::Exim => listing::exim(self.exim(&instance)?, &mut |held| page.take(held))?,
                }
                page.answer()
            }
            Request::Identify { instance, id } => {
                let instance = self.instance(&instance)?;
                match identity::handed_here(queue_id(Server::Postfix, &id)?, &instance.identity) {
                    Ok(uid) => Answer::Uid(uid),
                    Err(why) => Answer::Unknown(why.name().to_owned()),
                }
            }
            Request::Handed { instance, ids } => {
                let instance = self.instance(&instance)?;
                let handed = identity::in_queue(&instance.identity, &queue_ids(Server::Postfix, &instance.name, &ids)?);
                Answer::Handed(handed.into_iter().map(|(id, by)| (id.to_string(), by)).collect())
            }
            Request::Count { server: Server::Postfix, instance } => {
                Answer::Counts(count(Path::new(&self.instance(&instance)?.at.queue))?)
            }
            Request::Count { server: Server::Exim, instance } => {
                let (program, spool) = self.spool(&instance)?;
                let _one = self.eyes.lock().unwrap_or_else(PoisonError::into_inner);
                let counts = spool::count(program, &spool)?;
                let queues = exim::listing::QUEUES.into_iter().zip(counts);
                Answer::Counts(queues.map(|(queue, count)| counted(queue, count)).collect())
            }
            Request::List { instance, queue } => {
                let instance = self.instance(&instance)?;
                let queue = QUEUES.iter().find(|known| **known == queue).ok_or("there is no such queue")?;
                list(&Path::new(&instance.at.queue).join(queue))?
            }
            Request::Sizes { server: Server::Postfix, instance, ids } => {
                let instance = self.instance(&instance)?;
                let ids = queue_ids(Server::Postfix, &instance.name, &ids)?;
                let found = files::sizes(&Path::new(&instance.at.queue).join("hold"), &ids);
                let found = found.map_err(|why| format!("cannot look at the messages on hold: {why}"))?;
                Answer::Sizes(found.into_iter().map(|(id, size)| (id.to_string(), size)).collect())
            }
            Request::Sizes { server: Server::Exim, instance, ids } => {
                let (_, spool) = self.spool(&instance)?;
                let found = spool::sizes(&spool, &queue_ids(Server::Exim, &instance, &ids)?)?;
                Answer::Sizes(found.into_iter().map(|(id, size)| (id.to_string(), size)).collect())
            }
            Request::Kick { instance } => {
                let done = hands::carry_out(&plan::kick(&self.instance(&instance)?.at), &mut |_| false);
                done.trouble.map_or(Ok(Answer::Kicked {}), Err)?
            }
            Request::Gate { instance } => {
                let instance = self.instance(&instance)?;
                let held = self.doors.hold(&instance.name, Path::new(&instance.at.queue))?;
                return Ok((Answer::Gate {}, Some(held)));
            }
        };
        Ok((answer, None))
    }

    /// Exim's program, and where it keeps its queue.
    fn spool(&self, name: &str) -> Result<(&str, PathBuf), String> {
        let program = self.exim(name)?;
        let mut spool = self.spool.lock().unwrap_or_else(PoisonError::into_inner);
        Ok((program, spool.of(program)?.to_owned()))
    }

    /// Exim's program.
    fn exim(&self, name: &str) -> Result<&str, String> {
        let program = self.exim.as_deref().filter(|_| name.as_bytes() == exim::INSTANCE);
        program
            .ok_or_else(|| "the helper found no such Exim at its start; restart it when one was installed".to_owned())
    }

    fn steps(&self, verb: Verb, server: Server, instance: &str, ids: &[String]) -> Result<Vec<Step>, String> {
        match server {
            Server::Postfix => {
                let instance = self.instance(instance)?;
                Ok(plan::plan(verb, &places(server, &instance.name, ids)?, &instance.at))
            }
            Server::Exim => {
                let program = self.exim(instance)?;
                Ok(exim::plan::plan(verb, &places(server, instance, ids)?, program))
            }
        }
    }

    fn work(&self, verb: Verb, server: Server, instance: &str, ids: &[String]) -> Result<Answer, String> {
        let steps = self.steps(verb, server, instance, ids)?;
        killpoint::pass(Point::HelperHeard);
        let _one = self.hands.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut done, mut trouble) = (Vec::new(), None);
        for step in steps {
            if let Step::Start { argv } = &step {
                killpoint::pass(Point::before(&step));
                outside::start(argv.clone());
                killpoint::pass(Point::after(&step));
                continue;
            }
            let came = hands::carry_out(&step, &mut |pause| {
                let began = clock::monotonic();
                while began.elapsed() < pause {
                    std::thread::park_timeout(clock::left(began, pause));
                }
                true
            });
            done.extend(came.places.iter().map(|place| place.id.to_string()));
            trouble = trouble.or(came.trouble);
        }
        killpoint::pass(Point::HelperDone);
        Ok(Answer::Done { ids: done, trouble })
    }

    /// A connection, from its first request to its end.
    fn converse(&self, stream: &UnixStream) {
        let mut held: Vec<Held> = Vec::new();
        loop {
            let answered = match read(stream) {
                Ok(None) => return,
                Ok(Some(request)) => self.answer(request),
                Err(Unread::Broken(why)) => return tracing::debug!("a connection broke: {why}"),
                Err(Unread::Wrong(why)) => {
                    return drop(self.refuse(stream, &why));
                }
            };
            let sent = match answered {
                Ok((answer, None)) => write(stream, &answer),
                Ok((answer, Some(door))) => {
                    let sent = line(&answer).and_then(|line| fds::send(stream, &line, door.socket.as_fd()));
                    held.push(door);
                    sent
                }
                Err(why) => self.refuse(stream, &why),
            };
            if let Err(why) = sent {
                return tracing::debug!("an answer was not taken: {why}");
            }
        }
    }

    fn refuse(&self, stream: &UnixStream, why: &str) -> std::io::Result<()> {
        self.refused_requests.fetch_add(1, Ordering::Relaxed);
        self.tell(&format!("a request was refused: {why}"));
        write(stream, &Answer::Refused(why.to_owned()))
    }
}

/// Listens in a directory that is root's alone. A socket that nobody listens on any more is replaced.
///
/// # Errors
/// The whole text for the operator.
pub fn bind(socket: &Path) -> Result<UnixListener, String> {
    let shown = socket.display();
    let directory = socket.parent().ok_or_else(|| format!("{shown} is no name of a socket"))?;
    if !directory.exists() {
        return Err(format!(
            "cannot listen on {shown}: its directory is not there; the unit makes it (systemctl start sendwarden-helper), \
             without systemd: install -d -o root -g root -m 0755 {}, or name another with --socket (helper.socket)",
            directory.display()
        ));
    }
    trust::only_root_changes(directory)?;
    if let Ok(found) = std::fs::symlink_metadata(socket) {
        if !found.file_type().is_socket() {
            return Err(format!("cannot listen on {shown}: something that is no socket has this name; move it away"));
        }
        if UnixStream::connect(socket).is_ok() {
            return Err(format!("cannot listen on {shown}: another helper listens there; stop it first"));
        }
        std::fs::remove_file(socket).map_err(|why| format!("cannot remove the old socket {shown}: {why}"))?;
    }
    let listener = UnixListener::bind(socket).map_err(|why| format!("cannot listen on {shown}: {why}"))?;
    // Who may ask is decided by the credentials of the process that connects, so that who may not is seen.
    let open = std::fs::Permissions::from_mode(0o666);
    std::fs::set_permissions(socket, open).map_err(|why| format!("cannot open {shown}: {why}"))?;
    Ok(listener)
}

/// Serves for ever.
pub fn serve(listener: &UnixListener, house: &Arc<House>) {
    let closes = Arc::clone(house);
    let closing = std::thread::Builder::new().name("doors".into()).spawn(move || {
        loop {
            std::thread::park_timeout(Duration::from_secs(1));
            closes.doors.close_left(KEEP);
        }
    });
    if let Err(why) = closing {
        tracing::warn!("the gate's sockets stay open without an agent: cannot start a thread: {why}");
    }
    for stream in listener.incoming() {
        match stream {
            Ok(stream) => admit(stream, house),
            Err(why) => {
                tracing::warn!("cannot take a connection: {why}");
                std::thread::park_timeout(Duration::from_millis(50));
            }
        }
    }
}

/// Checks who it is before a byte is read.
fn admit(stream: UnixStream, house: &Arc<House>) {
    let patience = stream.set_write_timeout(Some(PATIENCE));
    match rustix::net::sockopt::socket_peercred(&stream) {
        Ok(peer) if house.may_speak(peer.uid.as_raw()) && patience.is_ok() => {}
        peer => {
            house.refused_peers.fetch_add(1, Ordering::Relaxed);
            let whose = peer.map_or("unknown".to_owned(), |peer| {
                format!("uid {}, process {}", peer.uid.as_raw(), peer.pid.as_raw_nonzero())
            });
            house.tell(&format!("a connection was refused: {whose}"));
            let why = "only root and the agent's user may ask the helper";
            return drop(write(&stream, &Answer::Refused(why.to_owned())));
        }
    }
    if house.open.fetch_add(1, Ordering::Relaxed) >= MOST_CONNECTIONS {
        house.open.fetch_sub(1, Ordering::Relaxed);
        return drop(house.refuse(&stream, "there are too many connections to the helper"));
    }
    let own = Arc::clone(house);
    let started = std::thread::Builder::new().name("asked".into()).spawn(move || {
        own.converse(&stream);
        own.open.fetch_sub(1, Ordering::Relaxed);
    });
    if let Err(why) = started {
        house.open.fetch_sub(1, Ordering::Relaxed);
        tracing::warn!("cannot serve a connection: {why}");
    }
}

enum Unread {
    Broken(std::io::Error),
    Wrong(String),
}

/// The next request; `None` at the end. Between two a connection may be quiet for as long as it likes.
fn read(mut stream: &UnixStream) -> Result<Option<Request>, Unread> {
    let (mut text, mut piece) = (Vec::new(), [0; 4096]);
    let mut began = None;
    let wrong = |why: &str| Unread::Wrong(why.to_owned());
    loop {
        let patience = began.map(|began| clock::left(began, PATIENCE).max(Duration::from_millis(1)));
        stream.set_read_timeout(patience).map_err(Unread::Broken)?;
        let length = match stream.read(&mut piece) {
            Ok(0) if text.is_empty() => return Ok(None),
            Ok(0) => return Err(wrong("a request must end with a line feed")),
            Ok(length) => length,
            Err(why) if why.kind() == ErrorKind::Interrupted => continue,
            Err(why) if matches!(why.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return Err(wrong("a request must not take so long to arrive"));
            }
            Err(why) => return Err(Unread::Broken(why)),
        };
        began.get_or_insert_with(clock::monotonic);
        text.extend_from_slice(piece.get(..length).unwrap_or_default());
        if text.len() > MOST_REQUEST {
            return Err(Unread::Wrong(format!("a request has {MOST_REQUEST} bytes at most")));
        }
        match memchr::memchr(b'\n', &text) {
            None if began.is_some_and(|began| began.elapsed() >= PATIENCE) => {
                return Err(wrong("a request must not take so long to arrive"));
            }
            None => {}
            Some(at) if at + 1 < text.len() => return Err(wrong("one request at a time")),
            Some(_) => {
                let request = serde_json::from_slice(&text);
                return request.map(Some).map_err(|why| Unread::Wrong(format!("this is no request: {why}")));
            }
        }
    }
}

fn line(answer: &Answer) -> std::io::Result<Vec<u8>> {
    let mut text = serde_json::to_vec(answer)?;
    text.push(b'\n');
    Ok(text)
}

fn write(mut stream: &UnixStream, answer: &Answer) -> std::io::Result<()> {
    stream.write_all(&line(answer)?)
}

/// An id of a form that the server gives its messages.
fn queue_id(server: Server, text: &str) -> Result<QueueId, String> {
    let id = QueueId::new(text.as_bytes()).filter(|id| match server {
        Server::Postfix => plan::is_queue_id(id),
        Server::Exim => exim::plan::is_message_id(id),
    });
    id.ok_or_else(|| format!("`{}` is no queue id", crate::mail::text::clean(text.as_bytes(), 32)))
}

/// All ids, or none: one that is wrong says that the other side is not what it should be.
fn places(server: Server, instance: &str, ids: &[String]) -> Result<Vec<Place>, String> {
    if ids.is_empty() || ids.len() > MOST_IDS {
        return Err(format!("a request names 1 to {MOST_IDS} queue ids, not {}", ids.len()));
    }
    let name: Arc<[u8]> = instance.as_bytes().into();
    let place = |id: &String| -> Result<Place, String> {
        Ok(Place { server, instance: Arc::clone(&name), id: queue_id(server, id)? })
    };
    ids.iter().map(place).collect()
}

fn queue_ids(server: Server, instance: &str, ids: &[String]) -> Result<Vec<QueueId>, String> {
    Ok(places(server, instance, ids)?.into_iter().map(|place| place.id).collect())
}

fn count(queue: &Path) -> Result<Vec<Counted>, String> {
    let one = |name: &&str| {
        let path = queue.join(name);
        let count = files::count_files(&path).map_err(|why| format!("cannot count {}: {why}", path.display()))?;
        Ok(counted(name, count))
    };
    QUEUES.iter().map(one).collect()
}

fn counted(queue: &str, count: FileCount) -> Counted {
    let FileCount { files, bytes, oldest } = count;
    Counted { queue: queue.to_owned(), files, bytes, oldest: oldest.map(|time| time.0) }
}

/// The queue ids below a directory, hashed or not.
fn list(directory: &Path) -> Result<Answer, String> {
    let (mut ids, mut todo): (Vec<String>, Vec<PathBuf>) = (Vec::new(), vec![directory.to_owned()]);
    while let Some(below) = todo.pop() {
        let entries = std::fs::read_dir(&below).map_err(|why| format!("cannot list {}: {why}", below.display()))?;
        for entry in entries.flatten() {
            let Ok(kind) = entry.file_type() else { continue };
            let name = entry.file_name();
            let id = name.to_str().filter(|name| queue_id(Server::Postfix, name).is_ok());
            match (kind.is_dir(), id) {
                (true, _) => todo.push(entry.path()),
                (false, Some(_)) if ids.len() >= MOST_LISTED => return Ok(Answer::Ids { ids, more: true }),
                (false, Some(id)) if kind.is_file() => ids.push(id.to_owned()),
                _ => {}
            }
        }
    }
    ids.sort_unstable();
    Ok(Answer::Ids { ids, more: false })
}

#[cfg(test)]
#[path = "serve_tests.rs"]
mod tests;
