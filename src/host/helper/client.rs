//! The agent's end of the helper's socket: a question, and the answer or what to do about its not coming.
//!
//! A connection is kept for the next question. A helper that was started anew meanwhile is asked once more, but not for work
//! of which nobody knows whether it was done: who asked is told. It never waits longer than it is told.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{About, Answer, Counted, Held, MOST_ANSWER, MOST_REQUEST, Request, fds};
use crate::host::clock;
use crate::host::gate::identity::Why;
use crate::mail::{HandedBy, QueueId, Server, Verb};

/// For what it has at hand.
const AT_HAND: Duration = Duration::from_secs(2);
/// For a batch: postsuper(1) takes well below a second for one, but a disk may hang.
const BATCH: Duration = Duration::from_secs(150);
/// For counting and listing queues of many files.
const LOOK: Duration = Duration::from_secs(30);
/// Who handed in a message is asked while a mail server waits.
const IDENTIFY: Duration = Duration::from_secs(1);
/// One that is being started anew is there in a moment: how often it is looked for within that time.
const LOOKED_FOR: Duration = Duration::from_millis(10);
/// After it was waited for in vain, it is not waited for with every message.
const SPARED: Duration = Duration::from_secs(5);
/// For whom it did not answer it is still lost when it comes back while they think about that.
const THOUGHT: Duration = Duration::from_secs(1);

/// The helper cannot be asked, or does not do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    #[error("the helper does not answer on {}: {why}; start it as root: systemctl start sendwarden-helper", socket.display())]
    Away {
        socket: PathBuf,
        why: String,
        /// It had the question: what was asked for may have been done.
        heard: bool,
    },
    #[error("the helper refuses: {0}")]
    Refused(String),
}

/// Those it was done for, and what kept it from the rest.
type Worked = Result<(Vec<QueueId>, Option<String>), Trouble>;

/// One connection to the helper, made when it is needed.
#[derive(Debug)]
pub struct Client {
    socket: PathBuf,
    open: Mutex<Option<UnixStream>>,
    /// Known to all connections that come of this one.
    silent: Arc<Mutex<Silence>>,
}

/// Since when it does not answer.
#[derive(Debug, Default)]
struct Silence {
    /// When it was waited for in vain last.
    waited: Option<Instant>,
    /// When it was missed first, since it last answered.
    lost: Option<Instant>,
    /// When it answered after that.
    back: Option<Instant>,
}

impl Silence {
    fn begins(&mut self) {
        if self.lost.is_none() || self.back.take().is_some() {
            self.lost = Some(clock::monotonic());
        }
    }

    fn ends(&mut self) {
        self.waited = None;
        if self.lost.is_some() && self.back.is_none() {
            self.back = Some(clock::monotonic());
        }
    }
}

/// The gate's socket, and the connection that holds it: it ends when the helper does.
#[derive(Debug)]
pub struct Door {
    pub listener: UnixListener,
    pub holds: UnixStream,
}

impl Client {
    pub fn new(socket: impl Into<PathBuf>) -> Client {
        Client { socket: socket.into(), open: Mutex::default(), silent: Arc::default() }
    }

    /// Another connection to the same helper, for questions that must not wait for these.
    pub fn another(&self) -> Client {
        Client { silent: Arc::clone(&self.silent), ..Client::new(&self.socket) }
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }

    fn silence(&self) -> MutexGuard<'_, Silence> {
        self.silent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long ago it was lost, if it does not answer who it is that hands in a message.
    pub fn lost_for(&self) -> Option<Duration> {
        let silence = self.silence();
        let gone = silence.back.is_none_or(|back| back.elapsed() < THOUGHT);
        silence.lost.filter(|_| gone).map(|lost| lost.elapsed())
    }

    fn away(&self, Unanswered { why, heard }: &Unanswered) -> Trouble {
        let why = match why.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => "it takes too long".to_owned(),
            ErrorKind::NotFound => "there is no such socket".to_owned(),
            _ => why.to_string(),
        };
        Trouble::Away { socket: self.socket.clone(), why, heard: *heard }
    }

    /// # Errors
    /// It is away, or refuses.
    pub fn hello(&self) -> Result<About, Trouble> {
        match self.ask(&Request::Hello {}, AT_HAND)? {
            Answer::Hello(about) => Ok(about),
            other => Err(unexpected(&other)),
        }
    }

    /// Does it to these; those that the server says it has done it for, and what kept it from the rest.
    ///
    /// # Errors
    /// It is away, or refuses.
    pub fn work(&self, verb: Verb, server: Server, instance: &str, ids: &[QueueId]) -> Worked {
        let ids = ids.iter().map(QueueId::to_string).collect();
        match self.ask(&Request::work(verb, server, instance.to_owned(), ids), BATCH)? {
            Answer::Done { ids, trouble } => {
                Ok((ids.iter().filter_map(|id| QueueId::new(id.as_bytes())).collect(), trouble))
            }
            other => Err(unexpected(&other)),
        }
    }

    /// Who hands over the message that comes in with this id.
    ///
    /// # Errors
    /// Why nobody is named; that the helper is away is one of the reasons.
    pub fn identify(&self, instance: &str, id: QueueId) -> Result<u32, Why> {
        if self.silence().waited.is_some_and(|since| since.elapsed() < SPARED) {
            return Err(Why::NoHelper);
        }
        let asked = clock::monotonic();
        let request = Request::Identify { instance: instance.to_owned(), id: id.to_string() };
        loop {
            let answer = self.ask(&request, clock::left(asked, IDENTIFY).max(LOOKED_FOR));
            if !matches!(answer, Err(Trouble::Away { .. })) {
                self.silence().ends();
            }
            match answer {
                Ok(Answer::Uid(uid)) => return Ok(uid),
                Ok(Answer::Unknown(why)) => {
                    return Err(Why::ALL.into_iter().find(|known| known.name() == why).unwrap_or(Why::NoHelper));
                }
                Ok(_) | Err(Trouble::Refused(_)) => return Err(Why::NoHelper),
                // It may be between two of its own starts: what scripts hand over then must not pass for that.
                Err(Trouble::Away { .. }) if asked.elapsed() < IDENTIFY => std::thread::park_timeout(LOOKED_FOR),
                Err(Trouble::Away { .. }) => {
                    let mut silence = self.silence();
                    silence.waited = Some(clock::monotonic());
                    silence.begins();
                    return Err(Why::NoHelper);
                }
            }
        }
    }

    /// Who handed in these messages in the queue, of those whose files say it.
    ///
    /// # Errors
    /// It is away, or refuses.
    pub fn handed(&self, instance: &str, ids: &[QueueId]) -> Result<Vec<(QueueId, HandedBy)>, Trouble> {
        let ids = ids.iter().map(QueueId::to_string).collect();
        match self.ask(&Request::Handed { instance: instance.to_owned(), ids }, LOOK)? {
            Answer::Handed(found) => {
                let by = |(id, by): (String, HandedBy)| Some((QueueId::new(id.as_bytes())?, by));
                Ok(found.into_iter().filter_map(by).collect())
            }
            other => Err(unexpected(&other)),
        }
    }

    /// # Errors
    /// It is away, or refuses.
    pub fn count(&self, server: Server, instance: &str) -> Result<Vec<Counted>, Trouble> {
        // Exim's own listing has to be waited for.
        let limit = if server == Server::Exim { BATCH } else { LOOK };
        match self.ask(&Request::Count { server, instance: instance.to_owned() }, limit)? {
            Answer::Counts(counts) => Ok(counts),
            other => Err(unexpected(&other)),
        }
    }

    /// The ids in a queue, not more than it lists.
    ///
    /// # Errors
    /// It is away, or refuses.
    pub fn list(&self, instance: &str, queue: &str) -> Result<Vec<QueueId>, Trouble> {
        match self.ask(&Request::List { instance: instance.to_owned(), queue: queue.to_owned() }, LOOK)? {
            Answer::Ids { ids, .. } => Ok(ids.iter().filter_map(|id| QueueId::new(id.as_bytes())).collect()),
            other => Err(unexpected(&other)),
        }
    }

    /// How many bytes the files of these messages have, of those that are on hold; of Exim, of those in the queue.
    ///
    /// # Errors
    /// It is away, or refuses.
    pub fn sizes(&self, server: Server, instance: &str, ids: &[QueueId]) -> Result<Vec<(QueueId, u64)>, Trouble> {
        let ids = ids.iter().map(QueueId::to_string).collect();
        match self.ask(&Request::Sizes { server, instance: instance.to_owned(), ids }, LOOK)? {
            Answer::Sizes(found) => {
                let size = |(id, size): (String, u64)| Some((QueueId::new(id.as_bytes())?, size));
                Ok(found.into_iter().filter_map(size).collect())
            }
            other => Err(unexpected(&other)),
        }
    }

    /// Those of these that are on hold, as far as it lists them.
    ///
    /// # Errors
    /// It is away, or refuses.
    pub fn on_hold(&self, server: Server, instance: &str, ids: &[QueueId]) -> Result<Vec<QueueId>, Trouble> {
        let mut found = Vec::new();
        match server {
            Server::Postfix => found = self.list(instance, "hold")?,
            Server::Exim => self.envelopes(server, instance, &mut |held| {
                found.extend(QueueId::new(held.id.as_bytes()));
            })?,
        }
        found.retain(|id| ids.contains(id));
        Ok(found)
    }

    /// Whom the messages on hold are from and for, all of them.
    ///
    /// # Errors
    /// It is away, or refuses.
    pub fn envelopes(&self, server: Server, instance: &str, take: &mut dyn FnMut(Held)) -> Result<(), Trouble> {
        let mut after = None;
        loop {
            let request = Request::Envelopes { server, instance: instance.to_owned(), after: after.clone() };
            match self.ask(&request, BATCH)? {
                Answer::Envelopes { held, more } => {
                    let last = held.last().map(|held| held.id.clone());
                    held.into_iter().for_each(&mut *take);
                    // Each answer leads on, or it is the last one.
                    if !more || last <= after {
                        return Ok(());
                    }
                    after = last;
                }
                other => return Err(unexpected(&other)),
            }
        }
    }

    /// The gate's listening socket. It has a connection of its own, which holds it. A helper that gives it was started
    /// anew: it is waited for again.
    ///
    /// # Errors
    /// It is away, or refuses.
    pub fn door(&self, instance: &str) -> Result<Door, Trouble> {
        let given = self.given(instance);
        match given {
            Ok(_) => self.silence().ends(),
            Err(Trouble::Away { .. }) => self.silence().begins(),
            Err(Trouble::Refused(_)) => {}
        }
        given
    }

    fn given(&self, instance: &str) -> Result<Door, Trouble> {
        let asked = || -> std::io::Result<(UnixStream, Vec<u8>, Option<std::os::fd::OwnedFd>)> {
            let mut stream = connect(&self.socket, AT_HAND)?;
            stream.write_all(&line(&Request::Gate { instance: instance.to_owned() })?)?;
            let (text, file) = fds::receive(&stream)?;
            Ok((stream, text, file))
        };
        let (holds, text, file) = asked().map_err(|why| self.away(&why.into()))?;
        match (read(&text).map_err(|why| self.away(&why.into()))?, file) {
            (Answer::Gate {}, Some(file)) => Ok(Door { listener: UnixListener::from(file), holds }),
            (Answer::Refused(why), _) => Err(Trouble::Refused(why)),
            (other, _) => Err(unexpected(&other)),
        }
    }

    /// The connection is there no more, and nobody has noticed yet.
    #[cfg(test)]
    pub fn hang_up(&self) {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.as_ref().map(|stream| stream.shutdown(std::net::Shutdown::Both));
    }

    /// Asks, and waits for the answer for so long.
    pub(super) fn ask(&self, request: &Request, limit: Duration) -> Result<Answer, Trouble> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let line = line(request).map_err(|why| self.away(&why.into()))?;
        let works = matches!(request, Request::Hold { .. } | Request::Release { .. } | Request::Delete { .. });
        // A connection of before may have ended meanwhile: then, and only then, another one is tried.
        let kept = open.take().and_then(|stream| match exchange(&stream, &line, limit) {
            Err(vain) if vain.late() || (works && vain.heard) => Some(Err(vain)),
            Err(_) => None,
            Ok(answer) => Some(Ok((answer, stream))),
        });
        let asked = kept.unwrap_or_else(|| {
            let stream = connect(&self.socket, limit)?;
            exchange(&stream, &line, limit).map(|answer| (answer, stream))
        });
        let (answer, stream) = asked.map_err(|why| self.away(&why))?;
        *open = Some(stream);
        match answer {
            Answer::Refused(why) => Err(Trouble::Refused(why)),
            answer => Ok(answer),
        }
    }
}

/// A question without an answer.
struct Unanswered {
    why: std::io::Error,
    /// All of it was taken by a helper that was there. Writing to one that is gone fails (unix(7), `EPIPE`).
    heard: bool,
}

impl Unanswered {
    fn late(&self) -> bool {
        matches!(self.why.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
    }
}

impl From<std::io::Error> for Unanswered {
    fn from(why: std::io::Error) -> Unanswered {
        Unanswered { why, heard: false }
    }
}

fn unexpected(answer: &Answer) -> Trouble {
    Trouble::Refused(format!("it answers something else ({answer:?}); is it of another version?"))
}

fn connect(socket: &Path, limit: Duration) -> std::io::Result<UnixStream> {
    let stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(limit))?;
    stream.set_write_timeout(Some(limit))?;
    let server = rustix::net::sockopt::socket_peercred(&stream)?.uid;
    // What it says of a message decides whose it is.
    if server.is_root() {
        Ok(stream)
    } else {
        Err(std::io::Error::other(format!("uid {} listens there, not root", server.as_raw())))
    }
}

fn line(request: &Request) -> std::io::Result<Vec<u8>> {
    let mut text = serde_json::to_vec(request)?;
    text.push(b'\n');
    if text.len() > MOST_REQUEST { Err(std::io::Error::other("the question is too long")) } else { Ok(text) }
}

fn read(text: &[u8]) -> std::io::Result<Answer> {
    if text.is_empty() {
        return Err(std::io::Error::new(ErrorKind::UnexpectedEof, "it has hung up"));
    }
    serde_json::from_slice(text).map_err(std::io::Error::other)
}

fn exchange(mut stream: &UnixStream, line: &[u8], limit: Duration) -> Result<Answer, Unanswered> {
    if let Err(why) = stream.write_all(line) {
        // It may have said why before it hung up.
        return answer(stream, limit).map_err(|_| why.into());
    }
    answer(stream, limit).map_err(|why| Unanswered { why, heard: true })
}

fn answer(mut stream: &UnixStream, limit: Duration) -> std::io::Result<Answer> {
    let (mut text, mut piece) = (Vec::new(), [0; 4096]);
    let began = clock::monotonic();
    loop {
        stream.set_read_timeout(Some(clock::left(began, limit).max(Duration::from_millis(1))))?;
        let length = stream.read(&mut piece)?;
        text.extend_from_slice(piece.get(..length).unwrap_or_default());
        if length == 0 || text.last() == Some(&b'\n') {
            return read(&text);
        }
        if text.len() > MOST_ANSWER {
            return Err(std::io::Error::other("its answer has no end"));
        }
    }
}
