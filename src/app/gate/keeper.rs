//! Who keeps the gate's listening sockets: the agent when it is root, else the helper, which hands them over.
//!
//! A socket of the helper's outlives the agent, and the one that the agent has outlives the helper. When the helper was
//! started anew its new socket takes over; who came to the old one is still served.

use super::Door;
use crate::app::powers::Powers;
use crate::host::gate::listen::{self, Judge};
use crate::host::helper::client::{self, Client};
use crate::host::{clock, gate};
use std::os::unix::net::{UnixListener as StdListener, UnixStream as StdStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// How often the helper is asked again when it is away.
const AGAIN: Duration = Duration::from_millis(500);
/// Who came to a socket just before another took its place has been let in by then.
const LINGER: Duration = Duration::from_secs(5);
/// A conversation lasts a moment, but one with a client that pauses may last long.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// How a door is kept.
pub enum Entrance {
    /// Ours: it closes with us, and is removed.
    Own(StdListener, PathBuf),
    /// The same, where a server asks with one line.
    Questions(StdListener, PathBuf),
    /// The helper's; what it gave us at the start, if it did.
    Kept(Arc<Client>, Option<client::Door>),
}

/// Our own socket in the queue directory; as root its directory is made too.
pub fn bind(queue: &Path, powers: &Powers) -> Result<Entrance, String> {
    let socket = gate::socket(queue);
    if matches!(powers, Powers::Own) {
        gate::make_directory(&socket, queue)?;
    }
    let listener = listen::bind(&socket).map_err(|why| why.to_string())?;
    tracing::info!("gate: {}", socket.display());
    Ok(Entrance::Own(listener, socket))
}

/// Our own socket beside the flags, in a directory of ours that the server's group may enter.
pub fn beside(socket: PathBuf) -> Result<Entrance, String> {
    let listener = listen::bind(&socket).map_err(|why| why.to_string())?;
    tracing::info!("gate: {}", socket.display());
    Ok(Entrance::Questions(listener, socket))
}

/// The helper's socket. Where there is no helper, but a directory for a socket of our own, that: the gate then knows
/// logins and who speaks SMTP.
pub fn through(helper: &Client, name: &str, queue: &Path, powers: &Powers) -> Result<Entrance, String> {
    match helper.door(name) {
        Ok(door) => Ok(Entrance::Kept(Arc::new(helper.another()), Some(door))),
        Err(why) => {
            let may = |directory: &Path| {
                rustix::fs::access(directory, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK).is_ok()
            };
            if gate::socket(queue).parent().is_some_and(may) {
                tracing::warn!("mail that scripts hand over cannot be proven: {why}");
                return bind(queue, powers);
            }
            Ok(Entrance::Kept(Arc::new(helper.another()), None))
        }
    }
}

/// Keeps all doors open until `stop`.
pub async fn keep(doors: Vec<(Entrance, Arc<Door>)>, stop: watch::Receiver<bool>) {
    let open = Arc::new(AtomicUsize::new(0));
    let kept = doors.iter().any(|(entrance, _)| matches!(entrance, Entrance::Kept(..)));
    let mut keeping = JoinSet::new();
    for (entrance, door) in doors {
        let (stop, open) = (stop.clone(), Arc::clone(&open));
        match entrance {
            Entrance::Own(listener, socket) => match UnixListener::from_std(listener) {
                Ok(listener) => drop(keeping.spawn(async move {
                    listen::serve(listener, door, stop, open).await;
                    remove(&socket);
                })),
                Err(why) => tracing::error!("the gate cannot be kept open: {why}"),
            },
            Entrance::Questions(listener, socket) => match UnixListener::from_std(listener) {
                Ok(listener) => drop(keeping.spawn(async move {
                    listen::serve_questions(listener, door, stop).await;
                    remove(&socket);
                })),
                Err(why) => tracing::error!("the gate cannot be kept open: {why}"),
            },
            Entrance::Kept(helper, first) => drop(keeping.spawn(keep_one(door, helper, first, stop, open))),
        }
    }
    while keeping.join_next().await.is_some() {}
    // Who comes now waits for the next agent. Those who are being heard would be let through if we hung up.
    let began = clock::monotonic();
    while kept && open.load(Ordering::Relaxed) > 0 && began.elapsed() < LAST_WORDS {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Nobody answers there any more, and nobody is to believe so.
fn remove(socket: &Path) {
    if let Err(why) = std::fs::remove_file(socket) {
        tracing::debug!("removing {}: {why}", socket.display());
    }
}

async fn keep_one(
    door: Arc<Door>,
    helper: Arc<Client>,
    first: Option<client::Door>,
    mut stop: watch::Receiver<bool>,
    open: Arc<AtomicUsize>,
) {
    let mut next = first;
    // Closes the socket that is served now.
    let mut served: Option<watch::Sender<bool>> = None;
    loop {
        if let Some(client::Door { listener, holds }) = next.take() {
            let (close, closed) = watch::channel(false);
            match serve(listener, holds, &door, closed, &open) {
                Ok(helper_ends) => {
                    door.gate.set_trouble(&door.name, None);
                    if let Some(old) = served.replace(close) {
                        tokio::spawn(async move {
                            tokio::time::sleep(LINGER).await;
                            drop(old);
                        });
                    }
                    tokio::select! {
                        () = helper_ends => {}
                        _ = stop.wait_for(|stop| *stop) => return,
                    }
                }
                Err(why) => tracing::error!("the gate of {} cannot be opened: {why}", door.name),
            }
        }
        let (asked, name) = (Arc::clone(&helper), Arc::clone(&door.name));
        let answer = tokio::task::spawn_blocking(move || asked.door(&name)).await;
        let why = match answer {
            Ok(Ok(found)) => {
                next = Some(found);
                continue;
            }
            Ok(Err(why)) => why.to_string(),
            Err(why) => why.to_string(),
        };
        let what = match served {
            Some(_) => {
                "who hands over mail by sendmail(1) cannot be proven, so that it passes, after a minute while scripts are blocked"
            }
            None => "the gate is not open",
        };
        door.gate.set_trouble(&door.name, Some(format!("{}: {what}: {why}", door.name)));
        tokio::select! {
            () = tokio::time::sleep(AGAIN) => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
    }
}

/// Serves who comes there; what is given back ends when the helper does.
fn serve(
    listener: StdListener,
    holds: StdStream,
    door: &Arc<Door>,
    closed: watch::Receiver<bool>,
    open: &Arc<AtomicUsize>,
) -> std::io::Result<impl Future<Output = ()>> {
    listener.set_nonblocking(true)?;
    holds.set_nonblocking(true)?;
    let (listener, mut holds) = (UnixListener::from_std(listener)?, UnixStream::from_std(holds)?);
    let judge: Arc<dyn Judge> = Arc::<Door>::clone(door);
    tokio::spawn(listen::serve(listener, judge, closed, Arc::clone(open)));
    // It says nothing more on this connection.
    Ok(async move { while matches!(holds.read(&mut [0; 64]).await, Ok(1..)) {} })
}
