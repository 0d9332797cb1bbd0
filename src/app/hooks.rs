//! Hooks, wired: which notice waits for whom, what goes to the sender once it is in the store, what came of it.
//!
//! The pump alone touches it. It never waits: what the sender has to say lies ready, or comes later.

use crate::engine::sanctions::Account;
use crate::mail::{Owner, text};
use crate::metrics::Tally;
use crate::notify::outbox::{MOST, Row};
use crate::notify::send::{self, Fate, Sender};
use crate::notify::{Event, Happening, Hook, Notice, Outbox, Parcel};
use std::sync::Arc;

/// Longest text of a notice.
const LONGEST: usize = 512;

#[derive(Debug)]
struct One {
    hook: Hook,
    /// No more may wait for it: told once.
    full: bool,
}

/// All hooks.
#[derive(Debug)]
pub struct Hooks {
    hooks: Vec<One>,
    outbox: Outbox,
    sender: Option<Sender>,
    host: String,
    /// Made, and not in the store yet.
    made: Vec<(usize, Parcel)>,
    /// Not in the figures yet.
    counts: Vec<(usize, Fate, u64)>,
}

/// Starts the sender, if there is any hook, with what an agent before this one has left. The rows of what is lost.
pub fn start(hooks: &[Hook], kept: Vec<(Vec<u8>, Vec<u8>)>) -> Result<(Hooks, Vec<Row>), String> {
    let mut outbox = Outbox::new(hooks.iter().map(|hook| &hook.target));
    let kept = outbox.restore(kept);
    if !kept.lost.is_empty() {
        tracing::warn!(
            "{} notices that waited are dropped: the hooks they were for are not configured any more",
            kept.lost.len()
        );
    }
    let sender = match hooks {
        [] => None,
        _ => {
            let started = send::start(hooks.to_vec());
            Some(started.map_err(|why| format!("cannot start the thread that sends notices: {why}"))?)
        }
    };
    // Every series is there from the start.
    let counts = (0..hooks.len()).flat_map(|hook| Fate::ALL.map(|fate| (hook, fate, 0))).collect();
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let hooks = hooks.iter().map(|hook| One { hook: hook.clone(), full: false }).collect();
    Ok((Hooks { hooks, outbox, sender, host, made: kept.parcels, counts }, kept.lost))
}

impl Hooks {
    /// The rows of a notice, for each hook that wants it. `account` is as it stands after it.
    pub fn tell(&mut self, told: &Happening, name: &str, account: &Account) -> Vec<Row> {
        let mut rows = Vec::new();
        if self.hooks.is_empty() {
            return rows;
        }
        let body: Arc<[u8]> = write(told, &self.host, name, account).into();
        for (at, one) in self.hooks.iter_mut().enumerate().filter(|(_, one)| one.hook.events.contains(&told.event)) {
            if let Some((row, parcel)) = self.outbox.push(at, told.owner, told.at, &told.id, &body) {
                one.full = false;
                rows.push(row);
                self.made.push((at, parcel));
                continue;
            }
            self.counts.push((at, Fate::Dropped, 1));
            if !std::mem::replace(&mut one.full, true) {
                tracing::error!(
                    "hook {}: {MOST} notices wait, and more are dropped until some of them are delivered; the order log has \
                     them all",
                    one.hook.target
                );
            }
        }
        rows
    }

    /// What was made is in the store: it may be sent.
    pub fn hand_over(&mut self) {
        if let Some(sender) = &self.sender {
            self.made.drain(..).for_each(|(hook, parcel)| sender.send(hook, parcel));
        }
    }

    /// What came of those that were sent: the rows of those that wait no more.
    pub fn hear(&mut self) -> Vec<Row> {
        let mut rows = Vec::new();
        while let Some(said) = self.sender.as_ref().and_then(Sender::said) {
            self.counts.push((said.hook, said.fate, 1));
            if said.fate != Fate::Retried {
                rows.extend(self.outbox.done(said.hook, said.seq));
            }
        }
        rows
    }

    /// Nothing of what waits is about this account any more.
    pub fn forget(&mut self, owner: Owner) -> Vec<Row> {
        if let Some(sender) = &self.sender {
            sender.forget(owner);
        }
        let gone = self.outbox.forget(owner);
        self.counts.extend(gone.iter().map(|(hook, _)| (*hook, Fate::Dropped, 1)));
        gone.into_iter().map(|(_, row)| row).collect()
    }

    /// Whether there was anything that the figures do not know yet.
    pub fn count(&mut self, tally: &mut Tally) -> bool {
        let any = !self.counts.is_empty();
        for (at, fate, n) in self.counts.drain(..) {
            if let Some(one) = self.hooks.get(at) {
                tally.hook(one.hook.target.host(), fate.name(), n);
            }
        }
        any
    }

    /// How much waits for each; those at one host are one.
    pub fn waiting(&self) -> Vec<(String, u64)> {
        let mut waiting: Vec<(String, u64)> = Vec::new();
        for (at, one) in self.hooks.iter().enumerate() {
            let (host, n) = (one.hook.target.host(), self.outbox.waiting(at) as u64);
            match waiting.iter_mut().find(|(name, _)| name == host) {
                Some((_, sum)) => *sum += n,
                None => waiting.push((host.to_owned(), n)),
            }
        }
        waiting
    }

    /// Ends the sender; what it has to say last can be heard.
    pub fn stop(&mut self) {
        if let Some(sender) = &mut self.sender {
            sender.stop();
        }
    }
}

fn write(told: &Happening, host: &str, name: &str, account: &Account) -> Vec<u8> {
    let clean = |text: &str| text::clean(text.as_bytes(), LONGEST);
    let block = account.block.as_ref().filter(|_| told.event == Event::Blocked);
    let scope = block.map(|block| clean(&block.scope.to_string()));
    Notice {
        id: &told.id,
        time: told.at,
        host,
        event: told.event,
        account: name,
        state: if told.event == Event::HostIncident { "" } else { account.state.name() },
        by: &clean(&told.by),
        reason: &clean(&told.reason),
        scope: scope.as_deref(),
        until: block.and_then(|block| block.until),
        details: &clean(&told.details),
    }
    .body()
}
