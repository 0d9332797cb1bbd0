//! The real queue: files in the mail server's queue directories, counted on a thread of its own.

use super::powers::Powers;
use crate::host::files::FileCount;
use crate::host::helper::client::Client;
use crate::host::{clock, files};
use crate::mail::{Server, Time};
use crate::metrics::QueueGauge;
use crate::mta::postfix::queue::QUEUES;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Where the queue is by default.
const DEFAULT_DIR: &str = "/var/spool/postfix";

/// The last complete listing.
#[derive(Debug, Clone)]
pub struct Scan {
    pub queues: Vec<QueueGauge>,
    pub at: Time,
}

/// Filled by the counting thread, read by the pump.
#[derive(Debug, Clone, Default)]
pub struct Scanned(Arc<Mutex<Option<Scan>>>);

impl Scanned {
    pub fn latest(&self) -> Option<Scan> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, scan: Scan) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(scan);
    }
}

/// Counts all queues once, over all instances; the helper does where this user may not. Errors say which directory may
/// not be read and what to do.
pub fn scan(dirs: &[PathBuf], powers: &Powers) -> Result<Scan, String> {
    match (scan_here(dirs), powers) {
        (Err(why), Powers::Helper(helper)) => {
            scan_by(helper, dirs).map_err(|helpers| format!("{why}; the helper could: {helpers}"))
        }
        (scanned, _) => scanned,
    }
}

fn gauge(queue: &str, sum: FileCount) -> QueueGauge {
    QueueGauge {
        server: Server::Postfix,
        queue: queue.to_owned(),
        messages: sum.files,
        bytes: sum.bytes,
        oldest: sum.oldest,
    }
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
        let instance = served.iter().find(|one| same(Path::new(&one.queue)));
        let instance = instance.ok_or_else(|| format!("it does not serve an instance with {}", dir.display()))?;
        for counted in helper.count(&instance.name).map_err(|why| why.to_string())? {
            if let Some((_, sum)) = sums.iter_mut().find(|(queue, _)| *queue == counted.queue) {
                add(sum, counted.files, counted.bytes, counted.oldest.map(Time));
            }
        }
    }
    Ok(Scan { queues: sums.iter().map(|(queue, sum)| gauge(queue, *sum)).collect(), at: clock::now() })
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
        queues.push(gauge(queue, sum));
    }
    Ok(Scan { queues, at: clock::now() })
}

/// The configured queue directories, or the usual one where it exists.
pub fn directories(configured: &[PathBuf]) -> Vec<PathBuf> {
    if !configured.is_empty() {
        return configured.to_vec();
    }
    Some(PathBuf::from(DEFAULT_DIR)).filter(|dir| dir.is_dir()).into_iter().collect()
}

/// Starts the counting thread; it ends with the process. Nothing is started where there is no queue.
pub fn start(configured: &[PathBuf], interval: Duration, powers: Powers) -> Scanned {
    let scanned = Scanned::default();
    let dirs = directories(configured);
    if dirs.is_empty() {
        return scanned;
    }
    let out = scanned.clone();
    let counting = move || {
        let (_hold, never) = std::sync::mpsc::channel::<()>();
        let mut told = String::new();
        loop {
            match scan(&dirs, &powers) {
                Ok(scan) => out.set(scan),
                Err(why) if why != told => {
                    tracing::warn!("{why}");
                    told = why;
                }
                Err(_) => {}
            }
            if never.recv_timeout(interval).is_ok() {
                return;
            }
        }
    };
    if let Err(why) = std::thread::Builder::new().name("queues".into()).spawn(counting) {
        tracing::warn!("cannot start the thread that counts the queue: {why}");
    }
    scanned
}
