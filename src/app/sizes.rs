//! How much the messages on hold take of the queue: looked up on a thread of its own, because the mail server tells the size
//! of a message neither to the gate nor to its log before the message is released.

use super::instances::Instances;
use crate::engine::sanctions::Look;
use crate::mail::{Owner, Place, QueueId, Server};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, channel, sync_channel};

/// Messages that are looked up at a time.
pub const AT_ONCE: usize = 10_000;

/// A message, and what was seen of it.
pub type Sized = (Owner, Place, Look);

/// The pump's end. One question is under way at a time.
#[derive(Debug)]
pub struct Sizes {
    ask: SyncSender<Vec<(Owner, Place)>>,
    answers: Receiver<Vec<Sized>>,
    busy: bool,
}

impl Sizes {
    /// What was found since the last call.
    pub fn found(&mut self) -> Vec<Sized> {
        let found = self.answers.try_recv();
        self.busy &= matches!(found, Err(TryRecvError::Empty));
        found.unwrap_or_default()
    }

    pub fn are_free(&self) -> bool {
        !self.busy
    }

    /// Asks for these; at most [`AT_ONCE`].
    pub fn ask(&mut self, messages: Vec<(Owner, Place)>) {
        if !messages.is_empty() {
            self.busy = self.ask.try_send(messages).is_ok();
        }
    }
}

/// Starts the thread; it ends when the pump's end is dropped.
///
/// # Errors
/// When no thread can be started.
pub fn start(mut instances: Instances) -> Result<Sizes, String> {
    let (ask, asked) = sync_channel::<Vec<(Owner, Place)>>(1);
    // Bounded by the questions: each is answered once.
    let (answer, answers) = channel();
    let run = move || {
        let mut told = String::new();
        while let Ok(messages) = asked.recv() {
            if answer.send(look_up(&mut instances, messages, &mut told)).is_err() {
                return;
            }
        }
    };
    std::thread::Builder::new()
        .name("sizes".into())
        .spawn(run)
        .map_err(|why| format!("cannot start the thread that looks at the size of held messages: {why}"))?;
    Ok(Sizes { ask, answers, busy: false })
}

/// One mail server of the machine.
type Instance = (Server, Arc<[u8]>);

fn look_up(instances: &mut Instances, messages: Vec<(Owner, Place)>, told: &mut String) -> Vec<Sized> {
    let mut by_instance: BTreeMap<Instance, Vec<QueueId>> = BTreeMap::new();
    for (_, place) in &messages {
        by_instance.entry((place.server, Arc::clone(&place.instance))).or_default().push(place.id);
    }
    let mut looked: BTreeMap<Instance, BTreeMap<QueueId, u64>> = BTreeMap::new();
    for ((server, name), ids) in by_instance {
        match instances.sizes(server, &name, &ids) {
            Ok(sizes) => drop(looked.insert((server, name), sizes.into_iter().collect())),
            Err(why) if why != *told => {
                tracing::warn!(
                    "cannot tell how much held mail takes, so that hold.max_held_bytes holds nobody to it: {why}"
                );
                *told = why;
            }
            Err(_) => {}
        }
    }
    let size = |(owner, place): (Owner, Place)| {
        let look = match looked.get(&(place.server, Arc::clone(&place.instance))).map(|its| its.get(&place.id)) {
            Some(Some(size)) => Look::Size(*size),
            Some(None) if place.server == Server::Postfix => Look::NotThere,
            // What leaves Exim's queue stands in its log, and may not have come into it yet.
            Some(None) | None => Look::Unknown,
        };
        (owner, place, look)
    };
    messages.into_iter().map(size).collect()
}
