//! The real queues: files in Postfix's queue directories, and what Exim lists, counted on a thread for each.

use super::instances;
use super::powers::Powers;
use crate::host::files::FileCount;
use crate::host::helper::client::Client;
use crate::host::spool::{self, Spool};
use crate::host::{clock, files};
use crate::mail::{Server, Time};
use crate::metrics::QueueGauge;
use crate::mta::exim;
use crate::mta::postfix::queue::QUEUES;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Where the queue is by default.
const DEFAULT_DIR: &str = "/var/spool/postfix";

/// Counting takes this part of the time at most: where a queue is large, it is counted less often.
const SHARE: u32 = 20;

/// The last complete listing of a server's queues.
#[derive(Debug, Clone)]
pub struct Scan {
    pub server: Server,
    pub queues: Vec<QueueGauge>,
    pub at: Time,
}

/// Filled by the counting threads, read by the pump.
#[derive(Debug, Clone, Default)]
pub struct Scanned(Arc<Mutex<BTreeMap<Server, Scan>>>);

impl Scanned {
    pub fn latest(&self) -> Vec<Scan> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    fn set(&self, scan: Scan) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(scan.server, scan);
    }
}

/// A server whose queues are counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Counted {
    /// All instances of Postfix, by their queue directories.
    Postfix(Vec<PathBuf>),
    /// The Exim that this program is.
    Exim(String),
}

/// Those of this host, as far as they are to be counted: Postfix's directories that are configured, or the usual one where
/// it exists; Exim, where it is one that is heard.
pub fn counted(directories: &[PathBuf], exim: bool, program: Option<&Path>) -> Vec<Counted> {
    let dirs = match directories {
        [] => Some(PathBuf::from(DEFAULT_DIR)).filter(|dir| dir.is_dir()).into_iter().collect(),
        some => some.to_vec(),
    };
    let postfix = Some(dirs).filter(|dirs| !dirs.is_empty()).map(Counted::Postfix);
    let exim = Some(program).filter(|_| exim).and_then(|program| instances::program(program).ok());
    postfix.into_iter().chain(exim.map(Counted::Exim)).collect()
}

impl Counted {
    /// Counts all its queues once; the helper does where this user may not. Errors say what may not be read and what to do.
    pub fn scan(&self, powers: &Powers) -> Result<Scan, String> {
        match self {
            Counted::Postfix(dirs) => scan_postfix(dirs, powers),
            Counted::Exim(program) => scan_exim(program, powers),
        }
    }

    /// What it is, for people.
    pub fn shown(&self) -> String {
        match self {
            Counted::Postfix(dirs) => dirs.iter().map(|dir| dir.display().to_string()).collect::<Vec<_>>().join(", "),
            Counted::Exim(program) => program.clone(),
        }
    }
}

fn scan_exim(program: &str, powers: &Powers) -> Result<Scan, String> {
    let names = exim::listing::QUEUES;
    let sums: Vec<(&str, FileCount)> = match powers {
        // Under the shipped unit the program may not do what it is set-uid for.
        Powers::Helper(helper) => {
            let instance = String::from_utf8_lossy(exim::INSTANCE);
            let counted = helper.count(Server::Exim, &instance);
            let counted = counted.map_err(|why| format!("cannot count the queue of {program}: {why}"))?;
            let sum = |queue: &str| {
                let its = counted.iter().filter(|one| one.queue == queue);
                its.fold(FileCount::default(), |mut sum, one| {
                    add(&mut sum, one.files, one.bytes, one.oldest.map(Time));
                    sum
                })
            };
            names.map(|queue| (queue, sum(queue))).to_vec()
        }
        Powers::Own => {
            let mut own = Spool::default();
            let counts = own.of(program).and_then(|spool| spool::count(program, spool));
            names
                .into_iter()
                .zip(counts.map_err(|why| format!("cannot count the queue of {program}: {why}"))?)
                .collect()
        }
    };
    let queues = sums.into_iter().map(|(queue, sum)| gauge(Server::Exim, queue, sum)).collect();
    Ok(Scan { server: Server::Exim, queues, at: clock::now() })
}

fn scan_postfix(dirs: &[PathBuf], powers: &Powers) -> Result<Scan, String> {
    match (scan_here(dirs), powers) {
        (Err(why), Powers::Helper(helper)) => {
            scan_by(helper, dirs).map_err(|helpers| format!("{why}; the helper could: {helpers}"))
        }
        (scanned, _) => scanned,
    }
}

fn gauge(server: Server, queue: &str, sum: FileCount) -> QueueGauge {
    QueueGauge { server, queue: queue.to_owned(), messages: sum.files, bytes: sum.bytes, oldest: sum.oldest }
}

fn add(sum: &mut FileCount, files: u64, bytes: u64, oldest: Option<Time>) {
    sum.files += files;
    sum.bytes += bytes;
    sum.oldest = [sum.oldest, oldest].into_iter().flatten().min();
}

fn scan_by(helper: &Client, dirs: &[PathBuf]) -> Result<Scan, String> {
    let served = helper.hello().map_err(|why| why.to_string())?.instances;
    let mut sums = QUEUES.map(|queue| (queue, FileCount::default()));
    for dir in dirs {
        let same = |queue: &Path| queue == dir || queue.canonicalize().ok() == dir.canonicalize().ok();
        let mut postfix = served.iter().filter(|one| one.server == Server::Postfix);
        let instance = postfix.find(|one| same(Path::new(&one.queue)));
        let instance = instance.ok_or_else(|| format!("it does not serve an instance with {}", dir.display()))?;
        for counted in helper.count(Server::Postfix, &instance.name).map_err(|why| why.to_string())? {
            if let Some((_, sum)) = sums.iter_mut().find(|(queue, _)| *queue == counted.queue) {
                add(sum, counted.files, counted.bytes, counted.oldest.map(Time));
            }
        }
    }
    let queues = sums.iter().map(|(queue, sum)| gauge(Server::Postfix, queue, *sum)).collect();
    Ok(Scan { server: Server::Postfix, queues, at: clock::now() })
}

fn scan_here(dirs: &[PathBuf]) -> Result<Scan, String> {
    let mut queues = Vec::new();
    for queue in QUEUES {
        let mut sum = FileCount::default();
        for path in dirs.iter().map(|dir| dir.join(queue)) {
            let count = files::count_files(&path).map_err(|why| {
                let todo = match why.kind() {
                    std::io::ErrorKind::NotFound => "is that the queue of a mail server that was ever started?",
                    _ => "run as root, or let this user read the queue directories, to have queue figures",
                };
                format!("cannot count the queue {}: {why}; {todo}", path.display())
            })?;
            add(&mut sum, count.files, count.bytes, count.oldest);
        }
        queues.push(gauge(Server::Postfix, queue, sum));
    }
    Ok(Scan { server: Server::Postfix, queues, at: clock::now() })
}

/// Starts the counting threads; they end with the process. Nothing is started where there is no queue.
pub fn start(counted: Vec<Counted>, interval: Duration, powers: &Powers) -> Scanned {
    let scanned = Scanned::default();
    for one in counted {
        let (out, powers) = (scanned.clone(), powers.another());
        let counting = move || {
            let (_hold, never) = std::sync::mpsc::channel::<()>();
            let mut told = String::new();
            loop {
                let began = clock::monotonic();
                match one.scan(&powers) {
                    Ok(scan) => out.set(scan),
                    Err(why) if why != told => {
                        tracing::warn!("{why}");
                        told = why;
                    }
                    Err(_) => {}
                }
                if never.recv_timeout(interval.max(began.elapsed().saturating_mul(SHARE))).is_ok() {
                    return;
                }
            }
        };
        if let Err(why) = std::thread::Builder::new().name("queues".into()).spawn(counting) {
            tracing::warn!("cannot start the thread that counts the queue: {why}");
        }
    }
    scanned
}
