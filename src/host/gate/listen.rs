//! Listening for the mail server: one conversation per connection, on a runtime of its own, so that no page, scrape or
//! commit delays a message.
//!
//! It never decides: a [`Judge`] does, at once and without waiting for anything. Bounded: connections, bytes of a frame,
//! and the time that a connection may say nothing.

use std::fs;
use std::future::poll_fn;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt, chown};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, Interest, ReadBuf};
use tokio::net::{UnixListener, UnixStream as TokioStream};
use tokio::sync::watch;
use tokio::time::timeout;

use super::identity::Identity;
use crate::host::clock;
use crate::mail::{Candidate, Judgement, Way};
use crate::mta::exim::ask;
use crate::mta::postfix::milter::wire;
use crate::mta::postfix::milter::{Next, Session};

/// More than the server's own limit of processes, which is 100 per service by default (`default_process_limit`).
pub const MAX_CONNECTIONS: usize = 2_000;
/// A client that is slow at its end keeps the server's connection to us quiet: `smtpd_timeout` is 300 s, and the body of
/// a message, of which we hear nothing, may take many of these.
const QUIET: Duration = Duration::from_secs(3_600);
/// The server reads our few bytes at once; if not, it is gone.
const WRITE: Duration = Duration::from_secs(10);
const CHUNK: usize = 4 * 1024;

/// A server that asks with one line asks at once, and reads the answer at once.
const QUESTION: Duration = Duration::from_secs(2);
/// More than such a server has processes that receive mail (Exim's `smtp_accept_max` is 20 by default).
const MAX_QUESTIONS: usize = 500;

/// Who answers. Called on the gate's thread: must not wait.
pub trait Judge: Send + Sync + 'static {
    /// A client has connected: who holds its end, while it is there to be asked for.
    fn connected(&self, way: Way) -> Option<Identity>;
    /// Whether the judge wants to know whom messages that come this way are for.
    fn wants_recipients(&self, way: Way) -> bool;
    /// A message is complete.
    fn judge(&self, candidate: &Candidate, connected: Option<Identity>) -> Judgement;
    /// The answer was written, this long after the question was read.
    fn answered(&self, took: Duration);
    /// A conversation ended in a way it should not.
    fn broken(&self, why: &str);
}

#[derive(Debug, thiserror::Error)]
#[error("cannot open the gate {}: {why}; {todo}", socket.display())]
pub struct CannotListen {
    pub socket: PathBuf,
    pub why: io::Error,
    todo: &'static str,
}

/// Serves until `stop` is true or its sender is gone; `open` counts the conversations of all listeners, which go on then.
/// Must run inside a tokio runtime of the gate's own.
pub async fn serve(listener: UnixListener, judge: Arc<dyn Judge>, stop: watch::Receiver<bool>, open: Arc<AtomicUsize>) {
    let talk = |stream, judge: Arc<dyn Judge>| async move { converse(stream, judge.as_ref()).await };
    accept(listener, judge, stop, (open, MAX_CONNECTIONS), talk).await;
}

/// The same for a server that asks with one line a connection (`mta/exim/ask`).
pub async fn serve_questions(listener: UnixListener, judge: Arc<dyn Judge>, stop: watch::Receiver<bool>) {
    let talk = |stream, judge: Arc<dyn Judge>| async move {
        let most = timeout(QUESTION, question(stream, judge.as_ref())).await;
        most.unwrap_or_else(|_| Err(format!("the mail server was not done with its question in {QUESTION:?}")))
    };
    accept(listener, judge, stop, (Arc::default(), MAX_QUESTIONS), talk).await;
}

async fn accept<T, F>(
    listener: UnixListener,
    judge: Arc<dyn Judge>,
    mut stop: watch::Receiver<bool>,
    (open, most): (Arc<AtomicUsize>, usize),
    talk: T,
) where
    T: Fn(TokioStream, Arc<dyn Judge>) -> F,
    F: Future<Output = Result<(), String>> + Send + 'static,
{
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.wait_for(|stop| *stop) => return,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(why) => {
                judge.broken(&format!("taking a connection: {why}"));
                // Out of descriptors: those that are open will end.
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        if open.load(Ordering::Relaxed) >= most {
            judge.broken("more connections than the mail server can have");
            continue;
        }
        let seat = Seat::take(&open);
        let talking = talk(stream, Arc::clone(&judge));
        let judge = Arc::clone(&judge);
        tokio::spawn(async move {
            let _seat = seat;
            if let Err(why) = talking.await {
                judge.broken(&why);
            }
        });
    }
}

/// One of the connections that may be open: given back whatever ends the conversation.
struct Seat(Arc<AtomicUsize>);

impl Seat {
    fn take(open: &Arc<AtomicUsize>) -> Seat {
        open.fetch_add(1, Ordering::Relaxed);
        Seat(Arc::clone(open))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One conversation to its end. What waits for the end of a frame is bounded: by the frame, and what is read at a time.
/// The error is what went wrong, for the log.
async fn converse<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, judge: &dyn Judge) -> Result<(), String> {
    let mut session = Session::default();
    let mut connected = None;
    let (mut input, mut output) = (Vec::with_capacity(CHUNK), Vec::new());
    loop {
        let mut taken = 0;
        while let Some((frame, length)) =
            wire::frame(input.get(taken..).unwrap_or_default()).map_err(|why| why.to_string())?
        {
            let read = clock::monotonic();
            let next = session.take(frame, &mut output).map_err(|why| why.to_string())?;
            taken += length;
            match next {
                Next::Read => {}
                Next::Connected => {
                    let way = session.candidate().way;
                    connected = judge.connected(way);
                    session.keep_recipients(judge.wants_recipients(way));
                }
                Next::Judge => {
                    if input.len() > taken || has_given_up(&mut stream, &mut input).await {
                        return Err("the mail server has not waited for the answer".to_owned());
                    }
                    let judgement = judge.judge(&session.candidate(), connected.clone());
                    session.answer(&judgement, &mut output);
                    write(&mut stream, &mut output).await?;
                    judge.answered(read.elapsed());
                }
                Next::Close => return Ok(()),
            }
        }
        input.drain(..taken);
        write(&mut stream, &mut output).await?;
        input.reserve(CHUNK);
        match timeout(QUIET, (&mut stream).take(CHUNK as u64).read_buf(&mut input)).await {
            Ok(Ok(0)) if input.is_empty() => return Ok(()),
            Ok(Ok(0)) => return Err("the mail server hung up in the middle of a frame".to_owned()),
            Ok(Ok(_)) => {}
            Ok(Err(why)) => return Err(format!("reading from the mail server: {why}")),
            Err(_) => return Err(format!("the mail server said nothing for {QUIET:?}")),
        }
    }
}

/// One question and its answer.
async fn question(mut stream: TokioStream, judge: &dyn Judge) -> Result<(), String> {
    let mut line = Vec::with_capacity(ask::MOST);
    while line.last() != Some(&b'\n') {
        let room = ask::MOST.saturating_sub(line.len());
        match (&mut stream).take(room as u64).read_buf(&mut line).await {
            Ok(0) if line.is_empty() => return Ok(()),
            Ok(0) => return Err("the mail server's question has no end, or is too long".to_owned()),
            Ok(_) => {}
            Err(why) => return Err(format!("reading from the mail server: {why}")),
        }
    }
    let read = clock::monotonic();
    let candidate = ask::read(&line).ok_or("the mail server asked what is no question")?;
    // It has not waited for us, and let the message pass: what we say now would be true of nothing.
    if stream.ready(Interest::WRITABLE).await.is_ok_and(|ready| ready.is_write_closed()) {
        return Err("the mail server did not wait for an answer".to_owned());
    }
    let mut output = ask::answer(&judge.judge(&candidate, None)).into_bytes();
    write(&mut stream, &mut output).await?;
    judge.answered(read.elapsed());
    Ok(())
}

/// Whether the server has hung up or said something more, which is added to `input`: it does not wait for the answer then.
/// It gives up when we are too slow for it (this process stood still, the machine had no time) and does what its settings
/// say: the message is queued, or comes again under another id. To decide on it now would be to believe it held.
async fn has_given_up<S: AsyncRead + Unpin>(stream: &mut S, input: &mut Vec<u8>) -> bool {
    let mut more = [0; 64];
    let mut piece = ReadBuf::new(&mut more);
    let looked = poll_fn(|context| Poll::Ready(Pin::new(&mut *stream).poll_read(context, &mut piece))).await;
    input.extend_from_slice(piece.filled());
    looked.is_ready()
}

async fn write<S: AsyncWrite + Unpin>(stream: &mut S, output: &mut Vec<u8>) -> Result<(), String> {
    if !output.is_empty() {
        let written = timeout(WRITE, stream.write_all(output)).await;
        written
            .map_err(|_| "the mail server does not read our answer".to_owned())?
            .map_err(|why| format!("answering the mail server: {why}"))?;
        output.clear();
    }
    Ok(())
}

/// Binds the socket, open to its owner and group: those of its directory, which is set-group-id to the mail server's
/// group. A socket that nobody listens on any more is replaced.
///
/// # Errors
/// When the directory is not there or may not be written, something else has that name, or somebody listens there.
pub fn bind(socket: &Path) -> Result<std::os::unix::net::UnixListener, CannotListen> {
    let fail = |why, todo| CannotListen { socket: socket.to_owned(), why, todo };
    if let Ok(found) = fs::symlink_metadata(socket) {
        let taken = |why: &str| io::Error::new(io::ErrorKind::AlreadyExists, why);
        if !found.file_type().is_socket() {
            return Err(fail(taken("something that is no socket has this name"), "move it away"));
        }
        if UnixStream::connect(socket).is_ok() {
            return Err(fail(taken("somebody listens there"), "is another agent running for this queue?"));
        }
        fs::remove_file(socket).map_err(|why| fail(why, "the agent must own the directory"))?;
    }
    let todo =
        "its directory must be there, the agent's own, with the mail server's group: install -d -g postfix -m 2750";
    let listener = std::os::unix::net::UnixListener::bind(socket).map_err(|why| fail(why, todo))?;
    let open = listener.set_nonblocking(true);
    open.and_then(|()| fs::set_permissions(socket, fs::Permissions::from_mode(0o660)))
        .map_err(|why| fail(why, "the mail server's group must be allowed to connect"))?;
    Ok(listener)
}

/// Makes the socket's directory where there is none: the agent's own, and the mail server's group may pass. Only root can.
///
/// # Errors
/// Those of the file system.
pub fn make_directory(directory: &Path, group: u32) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o750).create(directory) {
        Ok(()) => {
            chown(directory, None, Some(group))?;
            fs::set_permissions(directory, fs::Permissions::from_mode(0o2750))
        }
        Err(why) if why.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(why) => Err(why),
    }
}

#[cfg(test)]
#[path = "listen_tests.rs"]
mod tests;
