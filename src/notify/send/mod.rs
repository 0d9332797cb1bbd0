//! The sender: a thread of its own with one task for each hook, so that a receiver that hangs delays nobody else.
//!
//! A hook's notices go out one after the other, in the order in which they were made. What a try fails for is tried again, later
//! each time, until it is a day old. What comes to a task is bounded by who gives it (`outbox`); what it reads is bounded here.
//! It keeps nothing: what was not said to be delivered is given to the next agent again.

mod http;
mod pace;

use super::hook::Hook;
use super::outbox::Parcel;
use super::sign::signature;
use crate::host::clock;
use crate::mail::Owner;
use http::Verdict;
use pace::{Pace, is_too_old};
use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;

pub use http::{Roots, roots};

/// What becomes of a notice. A closed set: it is a metric label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Delivered,
    /// A try failed; there will be another one.
    Retried,
    /// The receiver has read it and does not want it.
    Refused,
    /// It is too old to be tried again.
    Expired,
    /// There was no room for it.
    Dropped,
}

impl Fate {
    pub const ALL: [Fate; 5] = [Fate::Delivered, Fate::Retried, Fate::Refused, Fate::Expired, Fate::Dropped];

    pub const fn name(self) -> &'static str {
        match self {
            Fate::Delivered => "delivered",
            Fate::Retried => "retried",
            Fate::Refused => "refused",
            Fate::Expired => "expired",
            Fate::Dropped => "dropped",
        }
    }
}

/// What a task is told.
#[derive(Debug)]
enum Told {
    Send(Parcel),
    Forget(Owner),
}

/// What became of a notice of a hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Said {
    pub hook: usize,
    pub seq: u64,
    pub fate: Fate,
}

/// The other end of the thread.
#[derive(Debug)]
pub struct Sender {
    inboxes: Vec<UnboundedSender<Told>>,
    said: mpsc::Receiver<Said>,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Sender {
    pub fn send(&self, hook: usize, parcel: Parcel) {
        self.tell(hook, Told::Send(parcel));
    }

    /// Nothing more of this account is sent.
    pub fn forget(&self, owner: Owner) {
        (0..self.inboxes.len()).for_each(|hook| self.tell(hook, Told::Forget(owner)));
    }

    /// What became of one of them, since the last call.
    pub fn said(&self) -> Option<Said> {
        self.said.try_recv().ok()
    }

    /// Ends it; a try that is under way is broken off.
    pub fn stop(&mut self) {
        let told = self.stop.send(true);
        if let Some(thread) = self.thread.take()
            && (told.is_err() || thread.join().is_err())
        {
            tracing::error!("the thread that sends notices has ended by a fault; what waits is sent by the next agent");
        }
    }

    fn tell(&self, hook: usize, told: Told) {
        if self.inboxes.get(hook).is_some_and(|inbox| inbox.send(told).is_err()) {
            tracing::error!("the thread that sends notices has ended; restart the agent, which sends them");
        }
    }
}

/// Starts the thread.
pub fn start(hooks: Vec<Hook>) -> io::Result<Sender> {
    // Whoever verifies nobody needs no authorities.
    let tls = hooks.iter().any(|hook| hook.target.tls).then(|| http::connector(roots().certs));
    let (stop, mut stopped) = watch::channel(false);
    let (speaker, said) = mpsc::channel();
    let (mut inboxes, mut tasks) = (Vec::new(), Vec::new());
    for (at, hook) in hooks.into_iter().enumerate() {
        let (inbox, outlet) = unbounded_channel();
        inboxes.push(inbox);
        let tls = tls.clone().filter(|_| hook.target.tls);
        tasks.push(Task { at, hook, tls, inbox: outlet, waiting: VecDeque::new(), speaker: speaker.clone() });
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let run = move || {
        tasks.into_iter().for_each(|task| drop(runtime.spawn(task.run())));
        runtime.block_on(async {
            // An error says that nobody is left who could say it.
            while !*stopped.borrow() && stopped.changed().await.is_ok() {}
        });
        // A name that is being looked up is not waited for.
        runtime.shutdown_background();
    };
    let thread = std::thread::Builder::new().name("hooks".into()).spawn(run)?;
    Ok(Sender { inboxes, said, stop, thread: Some(thread) })
}

/// One hook.
struct Task {
    at: usize,
    hook: Hook,
    tls: Option<Arc<http::Connector>>,
    inbox: UnboundedReceiver<Told>,
    waiting: VecDeque<Parcel>,
    speaker: mpsc::Sender<Said>,
}

impl Task {
    async fn run(mut self) {
        let mut pace = Pace::default();
        loop {
            while let Ok(told) = self.inbox.try_recv() {
                self.take(told);
            }
            let Some(first) = self.waiting.front().cloned() else {
                match self.inbox.recv().await {
                    Some(told) => self.take(told),
                    None => return,
                }
                continue;
            };
            let verdict = self.attempt(&first).await;
            match verdict {
                Verdict::Taken => {
                    if pace.succeeded() {
                        tracing::info!("hook {}: notices are taken again", self.hook.target);
                    }
                    self.end_first(Fate::Delivered);
                }
                Verdict::Refused(status) => {
                    pace.succeeded();
                    tracing::warn!(
                        "hook {}: the receiver has refused notice {} ({status}); it is not sent again",
                        self.hook.target,
                        first.id
                    );
                    self.end_first(Fate::Refused);
                }
                Verdict::Failed(why) => {
                    self.say(first.seq, Fate::Retried);
                    let (wait, begins) = pace.failed();
                    if begins {
                        tracing::warn!(
                            "hook {}: {why}; notices wait, and are tried again for a day, after {} s and then less often",
                            self.hook.target,
                            wait.as_secs()
                        );
                    }
                    self.give_up_old();
                    if !self.wait(wait).await {
                        return;
                    }
                }
            }
        }
    }

    async fn attempt(&self, parcel: &Parcel) -> Verdict {
        let timestamp = clock::now().secs();
        let signature = self.hook.secret.as_ref().map(|secret| signature(secret, timestamp, &parcel.body));
        let message = http::Message { id: &parcel.id, timestamp, signature, body: &parcel.body };
        let posted = http::post(&self.hook.target, self.tls.as_deref(), message);
        match tokio::time::timeout(self.hook.timeout, posted).await {
            Ok(verdict) => verdict,
            Err(_) => Verdict::Failed(format!("no answer within {:?} (hooks, timeout)", self.hook.timeout)),
        }
    }

    /// What comes meanwhile waits with the rest. False: nobody is there any more.
    async fn wait(&mut self, time: Duration) -> bool {
        let until = tokio::time::sleep(time);
        tokio::pin!(until);
        loop {
            tokio::select! {
                () = &mut until => return true,
                told = self.inbox.recv() => match told {
                    Some(told) => self.take(told),
                    None => return false,
                },
            }
        }
    }

    fn take(&mut self, told: Told) {
        match told {
            Told::Send(parcel) => self.waiting.push_back(parcel),
            Told::Forget(owner) => self.waiting.retain(|parcel| parcel.owner != owner),
        }
    }

    fn give_up_old(&mut self) {
        let now = clock::now();
        while self.waiting.front().is_some_and(|first| is_too_old(first.at, now)) {
            self.end_first(Fate::Expired);
        }
    }

    fn end_first(&mut self, fate: Fate) {
        if let Some(first) = self.waiting.pop_front() {
            if fate == Fate::Expired {
                tracing::warn!("hook {}: notice {} is given up after a day", self.hook.target, first.id);
            }
            self.say(first.seq, fate);
        }
    }

    fn say(&self, seq: u64, fate: Fate) {
        // Without anybody who hears it, it is sent again by the next agent.
        if self.speaker.send(Said { hook: self.at, seq, fate }).is_err() {
            tracing::debug!("nobody hears what became of notice {seq}");
        }
    }
}
