//! The gate, wired: one door per instance of the mail server, one turnstile and one tape for all, on a thread of its own.
//!
//! The pump tells it who is held and reads its tape; nothing here waits for the pump, the store or a page. It opens when
//! what stands is known, and closes with the process: what the mail server does without it is the mail server's setting.

mod keeper;
mod seen;
#[cfg(test)]
mod tests;
mod volume;

use seen::Seen;

use super::instances;
use super::powers::Powers;
use crate::engine::directory::Directory;
use crate::engine::rules::volume::Crossing;
use crate::engine::turnstile::{Barred, Claim, Room, Turnstile};
use crate::host::gate::identity::{self, Identity, Instance, Why};
use crate::host::gate::listen::Judge;
use crate::host::servers::{self, PostfixPlace, Tools};
use crate::host::tape::{Crossed, Lost, Record, Tape};
use crate::host::{clock, files, process};
use crate::mail::{Candidate, Judgement, OrderId, Origin, Owner, QueueId, Scope, Server, Time, Way};
use crate::metrics::{Decision, GateTally};
use crate::mta::exim;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::watch;

/// Messages that are kept in memory while the tape cannot be written. What comes beyond it stays on hold, and the log of
/// the agent names it.
const MOST_UNWRITTEN: usize = 100_000;

/// For so long after the helper was lost, what scripts hand over is put off while mail of scripts is held: it stays where
/// it is, nobody waits for it, and a helper that is started anew proves whose it is. After that nobody is held for another.
const HELPER_AWAITED: Duration = Duration::from_secs(60);

/// Recipients of what is thrown away that are written down for one block of an account: each becomes a line of its errors.
/// Those beyond it are only counted.
const MOST_LISTED: u64 = 10_000;

/// What the gate does with mail of accounts that are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Everything passes; what would have been held is counted.
    Watch,
    Enforce,
}

/// What must be free where the queue is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MinFree {
    pub bytes: u64,
    pub inodes: u64,
}

/// What of an account was not held.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Over {
    pub refused: u64,
    pub discarded: u64,
    /// Recipients of what was discarded, and those of them that are written down.
    pub recipients: u64,
    pub listed: u64,
}

/// How the gate is set up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    pub mode: Mode,
    /// Held mail of a login is refused at once, so that the person at the mail program knows.
    pub refuse_logins: bool,
}

/// What all doors share, and the pump's end of it.
#[derive(Debug)]
pub struct Gate {
    settings: Settings,
    turnstile: Mutex<Turnstile>,
    pub tape: Tape,
    /// Held, and not on the tape yet because it could not be written: oldest first.
    unwritten: Mutex<Vec<Record>>,
    tally: Mutex<GateTally>,
    /// What is wrong with a door, by its instance.
    troubles: Mutex<BTreeMap<Arc<str>, String>>,
    opened: Time,
    seen: Mutex<Seen>,
    /// Too little is free on a disk.
    low: AtomicBool,
    over: Mutex<BTreeMap<Owner, Over>>,
    /// Recipients written down for the block that stands: of what was thrown away.
    listed: Mutex<BTreeMap<Owner, (OrderId, u64)>>,
    /// The queue directories of the instances.
    queues: Mutex<Vec<PathBuf>>,
    /// The servers that ask.
    asked_by: Mutex<BTreeSet<Server>>,
    /// Limits that were crossed by messages that are not on the tape.
    crossings: Mutex<Vec<(Owner, OrderId, Time, Crossed)>>,
    /// The log was read to its end once: what was let through before this start is counted.
    read: watch::Sender<bool>,
}

/// Where a server asks that looks for flags: beside them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beside {
    pub socket: PathBuf,
    /// Its queue.
    pub spool: PathBuf,
}

impl Gate {
    pub fn new(settings: Settings, directory: Directory, tape: Tape, seed: u64) -> Gate {
        Gate {
            settings,
            turnstile: Mutex::new(Turnstile::new(directory, seed)),
            tape,
            unwritten: Mutex::default(),
            tally: Mutex::new(GateTally::default()),
            troubles: Mutex::default(),
            opened: clock::now(),
            seen: Mutex::default(),
            low: AtomicBool::new(false),
            over: Mutex::default(),
            listed: Mutex::default(),
            queues: Mutex::default(),
            asked_by: Mutex::default(),
            crossings: Mutex::default(),
            read: watch::Sender::new(false),
        }
    }

    /// Who is held from now on. When this returns, everything that was held for those before is on the tape.
    pub fn bar(&self, barred: Vec<Barred>) {
        let stands = |owner, order| barred.iter().any(|one| one.owner == owner && one.order == order);
        lock(&self.listed).retain(|owner, (order, _)| stands(*owner, *order));
        lock(&self.turnstile).bar(barred);
    }

    pub fn mode(&self) -> Mode {
        self.settings.mode
    }

    /// Anybody is held, and not only watched.
    fn bars(&self) -> bool {
        self.settings.mode == Mode::Enforce && !lock(&self.turnstile).is_open()
    }

    /// Mail that a local process hands over is held if it is somebody's, and not only watched.
    fn bars_scripts(&self) -> bool {
        self.settings.mode == Mode::Enforce && lock(&self.turnstile).bars_scripts()
    }

    pub fn set_directory(&self, directory: Directory) {
        lock(&self.turnstile).set_directory(directory);
    }

    /// What keeps a door from being open, or from proving who sends.
    pub fn trouble(&self) -> Option<String> {
        lock(&self.troubles).values().next().cloned()
    }

    /// What is wrong with this door from now on; it is logged when it changes.
    fn set_trouble(&self, name: &Arc<str>, trouble: Option<String>) {
        let mut troubles = lock(&self.troubles);
        match trouble {
            Some(text) if troubles.get(name) != Some(&text) => {
                tracing::error!("{text}");
                troubles.insert(Arc::clone(name), text);
            }
            Some(_) => {}
            None => {
                if troubles.remove(name).is_some() {
                    tracing::info!("the gate of {name} is open, and the helper answers");
                }
            }
        }
    }

    /// Tries to write down what could not be written when it was held.
    pub fn write_down(&self) {
        let mut unwritten = lock(&self.unwritten);
        let written = unwritten.iter().take_while(|record| self.tape.append(record).is_ok()).count();
        if written > 0 {
            unwritten.drain(..written);
            let left = unwritten.len();
            tracing::info!("{written} messages that are held are written down now, {left} are not yet");
        }
    }

    /// What could not be written down is somebody else's to remember from now on.
    pub fn take_unwritten(&self) -> Vec<Record> {
        std::mem::take(&mut *lock(&self.unwritten))
    }

    /// Keeps it in memory until it can be written. False when there is no room.
    fn keep(&self, record: Record) -> bool {
        let mut unwritten = lock(&self.unwritten);
        let room = unwritten.len() < MOST_UNWRITTEN;
        if room {
            unwritten.push(record);
        }
        room
    }

    /// When it was made.
    pub fn opened(&self) -> Time {
        self.opened
    }

    /// Whether it was asked about the message; that is then forgotten.
    pub fn has_seen(&self, id: QueueId) -> bool {
        lock(&self.seen).take(id)
    }

    /// Whether this server asks, about the mail that it should ask about.
    pub fn is_asked_by(&self, server: Server) -> bool {
        lock(&self.asked_by).contains(&server)
    }

    /// Too little is free on a disk to hold anything more.
    pub fn is_low(&self) -> bool {
        self.low.load(Ordering::Relaxed)
    }

    /// How many more messages of each held account there is room for.
    pub fn set_room(&self, room: Vec<(Owner, Room)>) {
        lock(&self.turnstile).set_room(&room);
    }

    /// Where too little of a disk is free, nothing more is held.
    pub fn look_at_disk(&self, least: MinFree) {
        let low = lock(&self.queues).iter().find_map(|queue| {
            let free = files::free(queue).ok()?;
            let short = free.bytes < least.bytes || free.inodes.is_some_and(|inodes| inodes < least.inodes);
            short.then(|| queue.display().to_string())
        });
        if self.low.swap(low.is_some(), Ordering::Relaxed) != low.is_some() {
            match low {
                Some(queue) => tracing::error!(
                    "too little is free where {queue} is: no more mail of blocked accounts is held, it is refused or discarded"
                ),
                None => tracing::info!("there is room for held mail again"),
            }
        }
    }

    /// Of which accounts how much was not held, since the last call.
    pub fn take_over(&self) -> Vec<(Owner, Over)> {
        std::mem::take(&mut *lock(&self.over)).into_iter().collect()
    }

    /// Of an account this much was not held, by rules that do not ask.
    pub fn note_over(&self, owner: Owner, more: Over) {
        let mut over = lock(&self.over);
        let over = over.entry(owner).or_default();
        over.refused += more.refused;
        over.discarded += more.discarded;
        over.recipients += more.recipients;
        over.listed += more.listed;
    }

    /// How many recipients of what such rules have thrown away may be written down for this block, of so many.
    pub fn may_list(&self, owner: Owner, order: OrderId, wanted: u64) -> u64 {
        let mut listed = lock(&self.listed);
        let (_, before) = listed.entry(owner).or_insert((order, 0));
        let may = wanted.min(MOST_LISTED.saturating_sub(*before));
        *before += may;
        may
    }

    /// No room to hold it. A client is told; what a local process hands over would be tried again for ever, or bounce.
    fn beyond(&self, candidate: &Candidate, owner: Owner, record: Option<Record>) -> (Decision, Judgement) {
        let mut over = lock(&self.over);
        let over = over.entry(owner).or_default();
        if candidate.way == Way::Handed {
            over.discarded += 1;
            over.recipients += u64::from(candidate.recipients);
            over.listed += record.map_or(0, |record| self.list(candidate, record));
            return (Decision::Discarded, Judgement::Discard);
        }
        over.refused += 1;
        let text = "552 5.2.2 Too much mail of this account is on hold; ask your provider".to_owned();
        (Decision::Refused, Judgement::Refuse { text })
    }

    /// Writes down whom a message that is thrown away was for; how many of them.
    fn list(&self, candidate: &Candidate, record: Record) -> u64 {
        let mut listed = lock(&self.listed);
        let (_, before) = listed.entry(record.owner).or_insert((record.order, 0));
        let room = usize::try_from(MOST_LISTED.saturating_sub(*before)).unwrap_or(0);
        let recipients: Vec<Box<[u8]>> = candidate.addresses().take(room).map(Into::into).collect();
        let count = recipients.len() as u64;
        let lost = Some(Lost { sender: candidate.sender.clone(), recipients });
        if count == 0 || self.tape.append(&Record { lost, ..record }).is_err() {
            return 0;
        }
        *before += count;
        count
    }

    /// What was counted since the last call.
    pub fn take_tally(&self) -> GateTally {
        std::mem::take(&mut *lock(&self.tally))
    }

    /// Decides, and writes down what is held before anybody is told.
    fn decide(&self, door: &Door, candidate: &Candidate, claim: Claim<'_>) -> (Origin, Decision, Judgement) {
        let (server, instance) = (door.server, &door.name);
        let mut turnstile = lock(&self.turnstile);
        let origin = turnstile.origin(claim);
        let mut crossed = None;
        if self.settings.mode == Mode::Enforce && turnstile.admit(claim).is_none() {
            let now = clock::now();
            let order = || OrderId::new(now, clock::seed());
            crossed = turnstile.cross(claim, candidate.id, candidate.recipients, now, order);
        }
        let Some(barred) = turnstile.admit(claim) else { return (origin, Decision::Passed, Judgement::Pass) };
        if self.settings.mode == Mode::Watch {
            return (origin, Decision::WouldHold, Judgement::Pass);
        }
        let (order, owner) = (barred.order, barred.owner);
        let crossed = crossed.map(|Crossing { rule, observed, scope, .. }| {
            let login = if let Scope::Login(login) = scope { login } else { Box::default() };
            Crossed { rule: rule.as_ref().into(), observed, login }
        });
        let not_taped = |crossed: Option<Crossed>| {
            lock(&self.crossings).extend(crossed.map(|crossed| (owner, order, clock::now(), crossed)));
        };
        // Whoever is slowed down is not refused: it leaves soon.
        if origin == Origin::SmtpAuth && self.settings.refuse_logins && !barred.slow {
            let text = format!("550 5.7.1 Sending from this account is on hold, ask your provider; reference {order}");
            not_taped(crossed);
            return (origin, Decision::Refused, Judgement::Refuse { text });
        }
        let key = barred.key.clone();
        let record = candidate.id.map(|id| {
            let (at, recipients) = (clock::now(), candidate.recipients);
            let (crossed, lost, instance) = (crossed.clone(), None, Arc::clone(instance));
            Record { at, server, instance, id, owner, order, origin, recipients, crossed, lost }
        });
        if self.low.load(Ordering::Relaxed) || !turnstile.take_room(owner) {
            drop(turnstile);
            not_taped(crossed);
            let record = record.map(|record| Record { crossed: None, ..record });
            let (decision, judgement) = self.beyond(candidate, owner, record);
            return (origin, decision, judgement);
        }
        // Until the turnstile is let go nobody is told that the account is free: see `bar`.
        let unwritten = match record {
            Some(record) => self.tape.append(&record).err().map(|why| {
                let id = record.id;
                if self.keep(record) {
                    return format!("{id} of {key} is on hold ({instance}), and remembered until it can be: {why}");
                }
                lock(&self.tally).unrecorded();
                let how = match server {
                    Server::Postfix => "postsuper -H",
                    Server::Exim => "exim -Mt",
                };
                format!("{id} of {key} stays on hold ({instance}): {why}; {how} {id} releases it")
            }),
            None => {
                not_taped(crossed);
                lock(&self.tally).unrecorded();
                Some(format!("a message of {} stays on hold: the mail server does not say its queue id", key))
            }
        };
        drop(turnstile);
        if let Some(what) = unwritten {
            tracing::error!("not written down in {}: {what}", self.tape.path().display());
        }
        (origin, Decision::Held, Judgement::Hold { reason: format!("sendwarden {order}") })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic elsewhere leaves no half-written state that matters here.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether a helper that was lost so long ago is still expected back.
fn is_awaited(lost_for: Option<Duration>) -> bool {
    lost_for.is_some_and(|time| time < HELPER_AWAITED)
}

/// One instance's entrance.
struct Door {
    server: Server,
    name: Arc<str>,
    instance: Instance,
    gate: Arc<Gate>,
}

impl Judge for Door {
    fn connected(&self, way: Way) -> Option<Identity> {
        identity::connected(way, &self.instance, self.gate.bars())
    }

    fn wants_recipients(&self, way: Way) -> bool {
        // What is for a held account may have to be thrown away, and only what is handed over is. Nobody else's is
        // looked at while nobody is held.
        way == Way::Handed && self.gate.bars()
    }

    fn judge(&self, candidate: &Candidate, connected: Option<Identity>) -> Judgement {
        let identity = identity::identify(candidate, connected, &self.instance);
        let claim = match (&identity, candidate.way) {
            (Identity::Login(login), _) => Claim::Login(login),
            (Identity::Uid(uid), Way::Handed) => Claim::Handed(*uid),
            (Identity::Uid(uid), _) => Claim::Local(*uid),
            (Identity::Client(address), _) => Claim::Client(*address),
            (Identity::Unknown(_), _) => Claim::Nobody,
        };
        let (origin, decision, judgement) = match identity {
            // Its client has hung up, which nobody does who waits for an answer, or hides among others: who it was cannot
            // be told, so nobody who is held gets through by it. Nothing is lost: the message was not accepted.
            Identity::Unknown(Why::NoSocket | Why::SharedPort) if self.gate.bars() => {
                let text =
                    "451 4.7.1 The sender of this message has hung up; try again and wait for the answer".to_owned();
                (Origin::LocalSmtp, Decision::Refused, Judgement::Later { text })
            }
            // It may be a blocked account's, and can be proven again in a moment.
            Identity::Unknown(Why::NoHelper)
                if is_awaited(self.instance.helper_lost_for()) && self.gate.bars_scripts() =>
            {
                let text = "451 4.7.1 Who hands this in cannot be proven at the moment".to_owned();
                (Origin::Script, Decision::Tempfailed, Judgement::Later { text })
            }
            _ => self.gate.decide(self, candidate, claim),
        };
        let taken = !matches!(decision, Decision::Refused | Decision::Tempfailed);
        if let Some(id) = candidate.id.filter(|_| taken) {
            lock(&self.gate.seen).add(id);
        }
        let mut tally = lock(&self.gate.tally);
        tally.decided(origin, decision);
        if let Identity::Unknown(why) = identity {
            tally.unknown(why.name());
        }
        judgement
    }

    fn answered(&self, took: Duration) {
        lock(&self.gate.tally).answered(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    }

    fn broken(&self, why: &str) {
        lock(&self.gate.tally).broken();
        tracing::debug!("gate: {why}");
    }
}

/// The instances of the mail server whose mail comes through a gate: those that can hold mail.
///
/// # Errors
/// When none answers, or one has a name that no log line could have.
fn entrances(configured: &[PathBuf]) -> Result<Vec<PostfixPlace>, String> {
    let mut found = Vec::new();
    for dir in instances::directories(configured) {
        let place = servers::postfix_place(&Tools::default(), &dir)?;
        if place.name.is_empty() || place.name.contains(char::is_whitespace) {
            return Err(format!("the instance in {} calls itself `{}` in its log", dir.display(), place.name));
        }
        found.push(place);
    }
    match found.is_empty() {
        true => Err("no Postfix was found on this host; name its configuration directory in queue.config_directories"
            .to_owned()),
        false => Ok(found),
    }
}

/// Opens the doors and starts the thread that keeps them; it ends soon after `stop` is dropped or true. `configured` is
/// `None` where no server asks in its queue directory.
///
/// # Errors
/// The whole text for the operator.
pub fn open(
    gate: &Arc<Gate>,
    powers: &Powers,
    configured: Option<&[PathBuf]>,
    beside: Option<Beside>,
    stop: watch::Receiver<bool>,
) -> Result<JoinHandle<()>, String> {
    let mut doors = Vec::new();
    for entrance in configured.map_or_else(|| Ok(Vec::new()), entrances)? {
        let queue = Path::new(&entrance.queue);
        let name: Arc<str> = Arc::from(entrance.name.as_str());
        let (instance, open) = match powers {
            Powers::Own => (Instance::here(queue), keeper::bind(queue, powers)?),
            Powers::Helper(helper) => {
                let asked = Arc::new(helper.another());
                let open = keeper::through(helper, &name, queue, powers)?;
                (Instance::here(queue).through(asked, Arc::clone(&name)), open)
            }
        };
        lock(&gate.queues).push(queue.to_path_buf());
        lock(&gate.asked_by).insert(Server::Postfix);
        doors.push((open, Arc::new(Door { server: Server::Postfix, name, instance, gate: Arc::clone(gate) })));
    }
    if let Some(Beside { socket, spool }) = beside {
        let (server, name) = (Server::Exim, String::from_utf8_lossy(exim::INSTANCE).into());
        let open = keeper::beside(socket)?;
        lock(&gate.queues).push(spool.clone());
        lock(&gate.asked_by).insert(server);
        doors.push((open, Arc::new(Door { server, name, instance: Instance::owning(spool), gate: Arc::clone(gate) })));
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|why| format!("cannot start the gate's runtime: {why}"))?;
    let awaited = Arc::clone(gate);
    let keep = move || {
        process::come_first();
        runtime.block_on(async {
            awaited.wait_for_log().await;
            keeper::keep(doors, stop).await;
        });
        // A question to the helper that is under way is not waited for.
        runtime.shutdown_background();
    };
    let started = std::thread::Builder::new().name("gate".into()).spawn(keep);
    started.map_err(|why| format!("cannot start the gate's thread: {why}"))
}
