//! The batch into the store, and what goes on while the store cannot be written.
//!
//! Nothing is read meanwhile and no order is taken: it could not be made durable. What stands goes on standing, because
//! the gate asks nobody; what it does is shown. Whoever asks for a change is told at once why it is not made.

use super::{Beside, Pump, RETRY, STEP};
use crate::app::shared::{NotDone, Reply, Request, answer};
use crate::host::tape::Position;
use crate::host::{clock, killpoint};
use crate::store::{Batch, CommitError, Durability};

/// A batch that is written beside the reading of the next.
pub(super) struct UnderWay {
    /// How far the gate's tape was read for it.
    taped: Position,
}

/// Tells somebody that the commit has to be waited for.
pub(super) type Waits = Box<dyn FnOnce(NotDone) + Send>;

impl Pump {
    /// Commits what was changed for somebody. If the store cannot be written, `to` hears that at once, and the change is
    /// made when it can. False when the agent stops without it.
    pub(super) fn commit_for<T: Send + 'static>(&mut self, to: &Reply<T>, what: &'static str) -> bool {
        let to = to.clone();
        self.waits = Some(Box::new(move |why| answer(&to, Err(why))));
        self.durable = true;
        let whole = self.commit_saying(true, what);
        self.waits = None;
        whole
    }

    /// Writes the batch, again and again until it is in. False when the agent is to stop without it: then nothing of
    /// it is in the store, and the next start reads it again.
    ///
    /// Of a backlog (`more`) the next batch is read meanwhile. Not while anybody is held: what is done about held mail
    /// needs everything that changed to be in the store.
    pub(super) fn commit(&mut self, more: bool) -> bool {
        if more && !self.durable && self.boundary.is_none() && self.engine.sanctions.is_idle() {
            return self.wait_for_store() && self.commit_beside();
        }
        self.commit_saying(more, "")
    }

    fn commit_saying(&mut self, more: bool, what: &str) -> bool {
        if !self.wait_for_store() {
            return false;
        }
        self.collect();
        let taped = self.taped;
        let durability = if self.durable { Durability::Full } else { Durability::Normal };
        let first = self.shelf.store().commit(&self.batch, durability);
        if !self.persist(first, durability, what) {
            return false;
        }
        for source in &mut self.sources {
            source.committed();
        }
        (self.durable, self.gate_spoke) = (false, false);
        if let Some(point) = self.boundary.take() {
            killpoint::pass(point);
        }
        self.trim_tape(taped);
        self.orders_committed();
        self.publish(more);
        true
    }

    /// Begins to write the batch; `wait_for_store` ends it. Until then nothing but lines may be read.
    fn commit_beside(&mut self) -> bool {
        self.collect();
        let spare = std::mem::take(&mut self.spare);
        let batch = std::mem::replace(&mut self.batch, spare);
        let left = match &mut self.beside {
            Some(beside) => beside.write(batch),
            None => Some(batch),
        };
        for source in &mut self.sources {
            source.committed();
        }
        self.gate_spoke = false;
        self.under_way = Some(UnderWay { taped: self.taped });
        match left {
            None => true,
            Some(batch) => {
                let written = self.shelf.store().commit(&batch, Durability::Normal);
                self.finish(batch, written)
            }
        }
    }

    /// Waits for the batch that is written beside, if there is one; false when the agent is to stop without it.
    pub(super) fn wait_for_store(&mut self) -> bool {
        if self.under_way.is_none() {
            return true;
        }
        let Some((batch, written)) = self.beside.as_mut().and_then(Beside::wait) else {
            tracing::error!(
                "the thread that writes the store has ended; restart the agent, which reads again what is not in the store"
            );
            return false;
        };
        self.finish(batch, written)
    }

    fn finish(&mut self, batch: Batch, written: Result<(), CommitError>) -> bool {
        let next = std::mem::replace(&mut self.batch, batch);
        let whole = self.persist(written, Durability::Normal, "");
        self.spare = std::mem::replace(&mut self.batch, next);
        if whole && let Some(UnderWay { taped }) = self.under_way.take() {
            self.trim_tape(taped);
            self.publish(true);
        }
        whole
    }

    /// Goes on with a batch until it is in the store. `written`: what became of the first try.
    fn persist(&mut self, written: Result<(), CommitError>, durability: Durability, what: &str) -> bool {
        let mut written = written;
        while let Err(why) = written {
            self.metrics.commit_failed();
            let said = why.to_string();
            if self.shared.state().store_trouble.as_ref() != Some(&said) {
                tracing::error!("{said}");
            }
            if let Some(tell) = self.waits.take() {
                tell(NotDone::Later(format!(
                    "{what} waits for the store, is not in force yet, and is lost if the agent stops before that: {said}"
                )));
            }
            self.shared.update(|state| state.store_trouble = Some(said.clone()));
            let began = clock::monotonic();
            loop {
                self.go_on_without_store(&said);
                if self.shared.stopping() {
                    return false;
                }
                let left = clock::left(began, RETRY);
                if left.is_zero() {
                    break;
                }
                // A growing log rings meanwhile; a full disk is not asked at that pace.
                self.waker.pause(left.min(STEP));
            }
            written = self.shelf.store().commit(&self.batch, durability);
        }
        if !self.batch.verdicts.is_empty()
            && let Some(gatherer) = &self.evidence
        {
            gatherer.ring();
        }
        self.batch.clear();
        true
    }

    /// Shows what the gate does, and refuses what cannot be made durable.
    fn go_on_without_store(&mut self, why: &str) {
        if let Some(gate) = &self.gate {
            self.metrics.gate_now(&gate.take_tally());
            // There may be room for a line where there is none for a batch.
            gate.write_down();
        }
        for request in self.shared.take_requests() {
            if matches!(request, Request::Settings { .. }) {
                self.metrics.config_loaded(false, clock::now());
            }
            refuse(request, &not_durable(why));
        }
    }
}

/// What is said of a change that is not taken because the store cannot be written.
pub fn not_durable(why: &str) -> String {
    format!("nothing was changed, what stands goes on standing; a change cannot be made durable now: {why}")
}

fn refuse(request: Request, why: &str) {
    let later = || NotDone::Later(why.to_owned());
    match request {
        Request::Settings { answer: to, .. }
        | Request::Rename { answer: to, .. }
        | Request::Close { answer: to, .. }
        | Request::Forget { answer: to, .. } => answer(&to, Err(later())),
        Request::Admit { answer: to, .. } => answer(&to, Err(later())),
        Request::Order { answer: to, .. } => answer(&to, Err(later())),
        Request::Enforcement { answer: to, .. } => answer(&to, Err(later())),
        Request::Undo { answer: to, .. } => answer(&to, Err(later())),
        Request::Waiting { answer: to, .. } => answer(&to, Err(later())),
    }
}
