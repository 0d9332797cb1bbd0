//! Dispatch: the thread that does the work of orders, beside the pump and never in it.
//!
//! It takes work that is durable already, makes steps of it with the dialect of the server, has `host/hands` do them, and
//! hands back what came of each message. Whatever is not reported, because the agent ended, is given out again at the
//! next start. What it holds is bounded: a few works wait, and a work names the messages of one account.

use super::flags::Passes;
use super::instances::{Instances, Servers, is_id};
use super::powers::Powers;
use super::shared::Shared;
use crate::host::clock;
use crate::host::follow::wake;
use crate::host::hands;
use crate::host::helper::MOST_IDS;
use crate::host::helper::client::{Client, Trouble};
use crate::host::killpoint::{self, Point};
use crate::mail::{HandedBy, OrderId, Owner, Place, QueueId, Report, Server, Verb, Work};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::time::Duration;

/// Works that may wait.
pub const WAITING: usize = 16;

/// How long a helper that goes away is waited for, as when it is started anew, and how often it is asked.
const RETURN: Duration = Duration::from_secs(10);
const AGAIN: Duration = Duration::from_millis(200);

/// What came of a work.
#[derive(Debug)]
pub struct Settled {
    pub order: OrderId,
    pub owner: Owner,
    pub report: Report,
}

/// The pump's end.
#[derive(Debug)]
pub struct Dispatch {
    pub works: SyncSender<Work>,
    pub settled: Receiver<Settled>,
    /// Given out, and not settled yet.
    pub under_way: usize,
}

/// Starts the thread; it ends when the pump's end is dropped.
pub fn start(
    tools: Servers,
    powers: Powers,
    passes: Option<Passes>,
    shared: Arc<Shared>,
    waker: wake::Handle,
) -> Result<Dispatch, String> {
    let (works, inbox) = sync_channel::<Work>(WAITING);
    // Bounded by the inbox: each work is answered once.
    let (answers, settled) = channel();
    let mut hands = Hands { instances: Instances::new(tools, powers.another()), powers, passes, shared };
    let run = move || {
        while let Ok(work) = inbox.recv() {
            if hands.shared.stopping() {
                return;
            }
            killpoint::pass(Point::WorkBegun);
            let report = hands.carry_out(&work);
            killpoint::pass(Point::WorkDone);
            if hands.shared.stopping() {
                // Perhaps not all of it was done: the next start sees to it.
                return;
            }
            if answers.send(Settled { order: work.order, owner: work.owner, report }).is_err() {
                return;
            }
            waker.wake();
        }
    };
    std::thread::Builder::new()
        .name("hands".into())
        .spawn(run)
        .map_err(|why| format!("cannot start the thread that holds and releases mail: {why}"))?;
    Ok(Dispatch { works, settled, under_way: 0 })
}

struct Hands {
    instances: Instances,
    powers: Powers,
    /// Of a server that looks for flags.
    passes: Option<Passes>,
    shared: Arc<Shared>,
}

impl Hands {
    /// The flag of an account that stays held would keep back what is released of it: its messages get passes, until they
    /// are held or deleted.
    fn let_pass(&self, work: &Work, server: Server, places: &[Place]) -> Result<(), String> {
        let Some(passes) = self.passes.as_ref().filter(|_| server == Server::Exim) else { return Ok(()) };
        let is_held = || self.shared.standing().iter().any(|held| held.owner == work.owner && !held.slow);
        let ids: Vec<QueueId> = places.iter().map(|place| place.id).filter(|id| is_id(server, id)).collect();
        passes.set(&ids, work.verb == Verb::Release && is_held())
    }

    fn carry_out(&mut self, work: &Work) -> Report {
        if work.asks {
            return self.instances.inspect(&work.places);
        }
        let (mut done, mut trouble, disputed) = (BTreeSet::new(), None, self.disputed(work));
        let others: BTreeSet<&Place> = disputed.iter().map(|(place, _)| place).collect();
        let places: Vec<Place> = work.places.iter().filter(|place| !others.contains(place)).cloned().collect();
        for ((server, name), places) in by_instance(&places) {
            if let Err(why) = self.let_pass(work, server, &places) {
                trouble.get_or_insert(why);
                continue;
            }
            if let Powers::Helper(helper) = &self.powers {
                trouble = trouble.or(by_helper(helper, work.verb, server, &places, &mut done, &self.shared));
                continue;
            }
            let steps = match self.instances.steps(work.verb, server, &name, &places) {
                Ok(steps) => steps,
                Err(why) => {
                    trouble.get_or_insert(why);
                    continue;
                }
            };
            let shared = self.shared.clone();
            let mut pause = |pause| !shared.wait_stop(pause);
            for step in steps {
                if self.shared.stopping() {
                    trouble.get_or_insert("the agent was stopped".to_owned());
                    break;
                }
                let came = hands::carry_out(&step, &mut pause);
                done.extend(came.places);
                if let Some(why) = came.trouble {
                    trouble.get_or_insert(why);
                }
            }
        }
        let missing: Vec<Place> = places.into_iter().filter(|place| !done.contains(place)).collect();
        let absent = if work.again && work.verb != Verb::Hold { self.absent(&missing) } else { BTreeSet::new() };
        Report { done: done.into_iter().collect(), missing, absent, disputed, trouble, ..Report::default() }
    }

    /// Those of which the queue file names another hand than the log. Who may write into the log could have it say of any
    /// message that it is a blocked account's. Where a file says nothing, or cannot be read, the log is believed.
    fn disputed(&mut self, work: &Work) -> Vec<(Place, HandedBy)> {
        let mut disputed = Vec::new();
        let claimed: Vec<Place> = work.places.iter().filter(|place| work.claims.contains_key(place)).cloned().collect();
        for ((server, name), places) in by_instance(&claimed) {
            if server != Server::Postfix {
                continue;
            }
            let ids: Vec<QueueId> = places.iter().map(|place| place.id).collect();
            let files: BTreeMap<QueueId, HandedBy> = match self.instances.handed(&name, &ids) {
                Ok(files) => files.into_iter().collect(),
                Err(why) => {
                    tracing::warn!("whose the queued mail is that is put on hold is taken from the log alone: {why}");
                    continue;
                }
            };
            for place in places {
                let (Some(file), Some(log)) = (files.get(&place.id), work.claims.get(&place)) else { continue };
                let agrees = match log {
                    Some(log) => log.agrees(file),
                    // What an agent before this one may have put on hold already is not asked for a second time.
                    None => work.again || *file == HandedBy::Requeued,
                };
                if !agrees {
                    disputed.push((place, file.clone()));
                }
            }
        }
        disputed
    }

    /// Those of these that are not on hold. The queue itself is read: a tool says as little of a message that is gone as of
    /// one that is on its way. Where it cannot be read, nothing is known.
    fn absent(&mut self, places: &[Place]) -> BTreeSet<Place> {
        let mut absent = BTreeSet::new();
        for ((server, name), places) in by_instance(places) {
            let ids: Vec<QueueId> = places.iter().map(|place| place.id).collect();
            match self.instances.on_hold(server, &name, &ids) {
                Ok(there) => absent.extend(places.into_iter().filter(|place| !there.contains(&place.id))),
                Err(why) => tracing::warn!("what an agent before this one has done is looked for a second time: {why}"),
            }
        }
        absent
    }
}

fn by_instance(places: &[Place]) -> BTreeMap<(Server, Arc<[u8]>), Vec<Place>> {
    let mut found: BTreeMap<(Server, Arc<[u8]>), Vec<Place>> = BTreeMap::new();
    for place in places {
        found.entry((place.server, place.instance.clone())).or_default().push(place.clone());
    }
    found
}

/// Has the helper do it to these, which are of one instance; it makes the steps itself. What kept it from it.
fn by_helper(
    helper: &Client,
    verb: Verb,
    server: Server,
    places: &[Place],
    done: &mut BTreeSet<Place>,
    shared: &Shared,
) -> Option<String> {
    let mut trouble = None;
    for batch in places.chunks(MOST_IDS) {
        let name = batch.first().and_then(|place| std::str::from_utf8(&place.instance).ok()).unwrap_or_default();
        // An id that no message of this server has would have all of them refused.
        let mut ids: Vec<QueueId> = batch.iter().map(|place| place.id).filter(|id| is_id(server, id)).collect();
        let mut add = |said: &[QueueId]| done.extend(batch.iter().filter(|place| said.contains(&place.id)).cloned());
        // Since when it is waited for, and whether what it was asked to hold may be on hold.
        let (mut away, mut doubtful) = (None, false);
        while !ids.is_empty() {
            // What came on hold while it was asked to hold it is ours. The server would not say it a second time.
            let found = match doubtful {
                true => {
                    helper.on_hold(server, name, &ids).map(|held| ids.extract_if(.., |id| held.contains(id)).collect())
                }
                false => Ok(Vec::new()),
            };
            let came = found.and_then(|found| {
                add(&found);
                doubtful = false;
                if ids.is_empty() { Ok((Vec::new(), None)) } else { ask(helper, verb, server, name, &ids) }
            });
            match came {
                Ok((said, why)) => {
                    add(&said);
                    trouble = trouble.or(why);
                    break;
                }
                Err(why) => {
                    doubtful |= verb == Verb::Hold && matches!(why, Trouble::Away { heard: true, .. });
                    let since = *away.get_or_insert_with(clock::monotonic);
                    if matches!(why, Trouble::Refused(_)) || since.elapsed() >= RETURN || shared.wait_stop(AGAIN) {
                        // Taken for ours, it is released with the rest; taken for somebody else's, it would stay on hold.
                        // What is not on hold is noticed by what the log says of it.
                        add(if doubtful { &ids } else { &[] });
                        return Some(why.to_string());
                    }
                }
            }
        }
    }
    trouble
}

fn ask(
    helper: &Client,
    verb: Verb,
    server: Server,
    name: &str,
    ids: &[QueueId],
) -> Result<(Vec<QueueId>, Option<String>), Trouble> {
    killpoint::pass(Point::HelperAsked);
    let answer = helper.work(verb, server, name, ids);
    if answer.is_ok() {
        killpoint::pass(Point::HelperAnswered);
    }
    answer
}

/// Between two tries of a step the agent may be told to stop.
const LOOK: Duration = Duration::from_millis(50);

impl Shared {
    /// Waits for the agent to be told to stop, at most so long. True when it was.
    fn wait_stop(&self, most: Duration) -> bool {
        let began = crate::host::clock::monotonic();
        while began.elapsed() < most && !self.stopping() {
            std::thread::park_timeout(LOOK.min(crate::host::clock::left(began, most)));
        }
        self.stopping()
    }
}
