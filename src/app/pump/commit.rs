//! The batch into the store, and what goes on while the store cannot be written.
//!
//! Nothing is read meanwhile and no order is taken: it could not be made durable. What stands goes on standing, because
//! the gate asks nobody; what it does is shown. Whoever asks for a change is told at once why it is not made.

use super::{Pump, RETRY, STEP};
use crate::app::shared::{NotDone, Reply, Request, answer};
use crate::host::{clock, killpoint};
use crate::store::Durability;

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
    pub(super) fn commit(&mut self, more: bool) -> bool {
        self.commit_saying(more, "")
    }

    fn commit_saying(&mut self, more: bool, what: &str) -> bool {
        self.collect();
        let taped = self.taped;
        let durability = if self.durable { Durability::Full } else { Durability::Normal };
        while let Err(why) = self.store.commit(&self.batch, durability) {
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
        }
        self.batch.clear();
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

    /// Shows what the gate does, and refuses what cannot be made durable.
    fn go_on_without_store(&mut self, why: &str) {
        if let Some(gate) = &self.gate {
            self.metrics.gate_now(&gate.take_tally());
            // There may be room for a line where there is none for a batch.
            gate.write_down();
        }
        for request in self.shared.take_requests() {
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
        Request::Settings { .. } => tracing::error!("the new settings are not in force, reload again: {why}"),
        Request::Rename { answer: to, .. } | Request::Close { answer: to, .. } | Request::Forget { answer: to, .. } => {
            answer(&to, Err(later()));
        }
        Request::Admit { answer: to, .. } => answer(&to, Err(later())),
        Request::Order { answer: to, .. } => answer(&to, Err(later())),
        Request::Waiting { answer: to, .. } => answer(&to, Err(later())),
    }
}
