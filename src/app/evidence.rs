//! What verdicts rest on, gathered by a thread of its own: the block is in force, and the log is read on, meanwhile.
//!
//! It reads the store, which has the messages that led to a verdict as soon as it has the verdict, and hands what it found to
//! the pump, which writes it. A verdict without it is found again by the next agent: nothing is lost by a kill.

use super::views::when;
use crate::engine::directory::Directory;
use crate::engine::evidence::{Evidence, Failure, Gathering, Share, Wanted};
use crate::engine::replies::Replies;
use crate::engine::tracker::{RowKind, Settings, owner_of};
use crate::engine::{Engine, Sink};
use crate::host::clock;
use crate::mail::{Fact, LegFact, Owner, QueueId, ReplyClass, Scope, Signal, Time};
use crate::store::{KeptMail, MailOf, VerdictRecord, ViewError, Views};
use crate::web::api::{EvidenceView, MessageRef, ShareView};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// After a verdict: what was on its way then has arrived, and its recipients are known.
const SETTLE: Duration = Duration::from_secs(2);
/// The longest for one verdict; what was not read by then is left out, and the evidence says so.
const LONGEST: Duration = Duration::from_secs(2);
/// Of many verdicts, so much longer than one took is waited before the next: a backlog has its processor.
const REST: u32 = 4;
/// When the store could not be read.
const AGAIN: Duration = Duration::from_secs(60);
/// Verdicts looked at at a time.
const LIST: usize = 100;

/// The thread; it ends with this.
#[derive(Debug)]
pub struct Gatherer {
    bell: Option<SyncSender<()>>,
    found: Receiver<(i64, String)>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Gatherer {
    /// For the store in `dir`. It begins with the verdicts that an agent before this one has left.
    ///
    /// # Errors
    /// There is no thread to be had: then verdicts stay without evidence until the next start.
    pub fn start(dir: PathBuf, replies: Replies) -> std::io::Result<Gatherer> {
        let (bell, rings) = sync_channel(1);
        let (results, found) = channel();
        let stop = Arc::new(AtomicBool::new(false));
        let worker = Worker { dir, replies, results, stop: stop.clone(), handed: BTreeSet::new() };
        let thread = std::thread::Builder::new().name("evidence".into()).spawn(move || worker.run(&rings))?;
        Ok(Gatherer { bell: Some(bell), found, stop, thread: Some(thread) })
    }

    /// There are verdicts in the store that were not there before.
    pub fn ring(&self) {
        // One that was not heard yet is enough.
        let _ = self.bell.as_ref().map(|bell| bell.try_send(()));
    }

    /// What was gathered since the last call: the verdict's number, and the text for the store.
    pub fn found(&self) -> impl Iterator<Item = (i64, String)> {
        self.found.try_iter()
    }
}

impl Drop for Gatherer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        drop(self.bell.take());
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

struct Worker {
    dir: PathBuf,
    replies: Replies,
    results: Sender<(i64, String)>,
    stop: Arc<AtomicBool>,
    /// Given to the pump, and not in the store yet.
    handed: BTreeSet<i64>,
}

impl Worker {
    fn run(mut self, rings: &Receiver<()>) {
        loop {
            let rest = self.gather_one().unwrap_or_else(|why| {
                tracing::debug!("evidence: {why}");
                Some(AGAIN)
            });
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            let rung = match rest {
                Some(rest) => rings.recv_timeout(rest),
                None => rings.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            let heard = clock::monotonic();
            match rung {
                Ok(()) if settle(rings, heard) => {}
                Err(RecvTimeoutError::Timeout) => {}
                Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// How long to wait before the next one; `None` when there is none.
    fn gather_one(&mut self) -> Result<Option<Duration>, ViewError> {
        // Opened for each: a reader that stays keeps the store's log from being emptied.
        let views = Views::open(&self.dir)?;
        let bare = views.bare_verdicts(LIST + self.handed.len())?;
        self.handed.retain(|id| bare.iter().any(|verdict| verdict.id == *id));
        let Some(verdict) = bare.iter().find(|verdict| !self.handed.contains(&verdict.id)) else { return Ok(None) };
        let began = clock::monotonic();
        let go_on = || began.elapsed() < LONGEST && !self.stop.load(Ordering::Relaxed);
        let view = gather(&views, verdict, &self.replies, &go_on)?;
        if self.stop.load(Ordering::Relaxed) {
            // What was left out for haste is not what is kept.
            return Ok(None);
        }
        let text = serde_json::to_string(&view).unwrap_or_default();
        let (id, messages, spent) = (verdict.id, view.messages, began.elapsed().as_millis());
        tracing::debug!("evidence for verdict {id}: {messages} messages, {} bytes, {spent} ms", text.len());
        self.handed.insert(verdict.id);
        // The pump may have gone: then the next one does it.
        let _ = self.results.send((verdict.id, text));
        Ok(Some(began.elapsed() * REST))
    }
}

/// False when the agent ends.
fn settle(rings: &Receiver<()>, since: Instant) -> bool {
    loop {
        let left = clock::left(since, SETTLE);
        if left.is_zero() {
            return true;
        }
        if let Err(RecvTimeoutError::Disconnected) = rings.recv_timeout(left) {
            return false;
        }
    }
}

/// What the store has of the messages that a verdict was about.
pub fn gather(
    views: &Views,
    verdict: &VerdictRecord,
    replies: &Replies,
    go_on: &dyn Fn() -> bool,
) -> Result<EvidenceView, ViewError> {
    let row = &verdict.row;
    let wanted = Wanted {
        owner: Owner(row.owner),
        signal: Signal::ALL.into_iter().find(|signal| signal.name() == row.signal),
        scope: Scope::from_name(&row.scope).unwrap_or_default(),
        proven: row.proven,
        from: (row.window > 0).then(|| row.at.plus_secs(-i64::from(row.window))),
        to: row.at,
    };
    let mail = views.mail_of(&MailOf {
        owner: row.owner,
        from: wanted.from,
        to: wanted.to,
        kinds: &[RowKind::State.code(), RowKind::Leg.code()],
        wanted: &|kind, value| kind == RowKind::State.code() || owner_of(kind, value) == Some(Owner(row.owner)),
        go_on,
    })?;
    let (from, to) = (wanted.from, wanted.to);
    let mut gathering = Gathering::new(wanted, replies);
    let mut queue = queue(&mail);
    mail.legs(|leg| gathering.know(leg));
    queue.tell_open(&mut Each(&mut |leg| gathering.know(leg)));
    mail.legs(|leg| gathering.leg(leg));
    queue.tell_open(&mut Each(&mut |leg| gathering.leg(leg)));
    for error in &mail.errors {
        let Some(id) = QueueId::new(error.queue_id.as_bytes()) else { continue };
        gathering.error(&Failure {
            at: error.at,
            owner: Owner(error.owner),
            id,
            recipient: error.recipient.as_bytes(),
            outcome: &error.outcome,
            late: error.late,
            dsn: &error.dsn,
            class: ReplyClass::from_name(&error.class),
            reply: error.reply.as_bytes(),
        });
    }
    let evidence = gathering.finish();
    let cut = match mail.begins {
        _ if mail.more => Some("only the newest messages and errors were read".to_owned()),
        Some(begins) => Some(format!("the message index begins at {}", when(begins))),
        None if evidence.cut => Some("not all recipients of large messages are kept".to_owned()),
        None => None,
    };
    Ok(shown(&evidence, from, to, cut))
}

/// The messages in the queue, as the tracker has them.
fn queue(mail: &KeptMail) -> Engine {
    let settings = Settings { details: true, ..Settings::default() };
    let mut engine = Engine::new(settings, Directory::default(), Replies::default(), 0);
    for row in &mail.open {
        if let Some(kind) = RowKind::from_code(row.kind) {
            engine.restore_row(kind, &row.key, row.value.as_deref().unwrap_or_default());
        }
    }
    engine
}

struct Each<'a>(&'a mut dyn FnMut(&LegFact<'_>));

impl Sink for Each<'_> {
    fn fact(&mut self, fact: &Fact<'_>) {
        if let Fact::Leg(leg) = fact {
            (self.0)(leg);
        }
    }
}

fn shown(evidence: &Evidence, from: Option<Time>, to: Time, cut: Option<String>) -> EvidenceView {
    let message =
        |of: Option<(Time, QueueId)>| of.map(|(at, id)| MessageRef { time: when(at), queue_id: id.to_string() });
    let shares = |list: &[Share]| {
        let view = |share: &Share| ShareView { name: share.name.clone(), count: share.count, errors: share.errors };
        list.iter().map(view).collect()
    };
    EvidenceView {
        gathered: Some(when(clock::now())),
        from: from.map(when),
        to: Some(when(to)),
        messages: evidence.messages,
        recipients: evidence.recipients,
        first: message(evidence.first),
        last: message(evidence.last),
        scripts: shares(&evidence.scripts),
        script_count: evidence.script_count as u64,
        directories: shares(&evidence.directories),
        domains: shares(&evidence.domains),
        domain_count: evidence.domain_count as u64,
        classes: shares(&evidence.classes),
        clients: shares(&evidence.clients),
        lines: evidence.lines.iter().map(|line| format!("{} {}", when(line.at), line.text)).collect(),
        cut,
        ..EvidenceView::default()
    }
}

#[cfg(test)]
mod tests;
