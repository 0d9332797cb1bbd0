//! What is said of the script behind a message, kept with its leg. It never touches owner, origin or books.

use super::Tracker;
use super::leg::{Came, Leg};
use super::table::Slot;
use crate::engine::attribution::Attribution;
use crate::engine::scripts::{Spot, addresses};
use crate::mail::{Attempt, Head, QueueId, Script, ScriptClaim, ScriptSource};

impl Tracker {
    pub(super) fn script(&mut self, head: &Head<'_>, script: &Script<'_>) {
        if !self.settings.claims() {
            return;
        }
        match script.id.map(|id| self.locate(head, id)) {
            Some(Ok(slot)) => {
                if let Some(leg) = self.table.edit(slot) {
                    keep(leg, script);
                }
            }
            _ => {
                let spot = self.spot(head);
                self.scripts.claimed(spot, script);
            }
        }
    }

    /// A local process has submitted the message.
    pub(super) fn claim_of_submission(&mut self, head: &Head<'_>, slot: Slot, id: QueueId) {
        if self.settings.claims() {
            let spot = self.spot(head);
            let claim = self.scripts.submitted(spot, id);
            self.keep_claim(slot, claim);
        }
    }

    /// The message has come in another way: only what names it is about it.
    pub(super) fn claim_by_id(&mut self, head: &Head<'_>, slot: Slot, id: QueueId) {
        if self.settings.claims() {
            let spot = self.spot(head);
            let claim = self.scripts.named(spot, id);
            self.keep_claim(slot, claim);
        }
    }

    /// An interpreter has logged a call.
    pub(super) fn called(&mut self, head: &Head<'_>, script: &Script<'_>) {
        if self.settings.claims() && script.path.first() == Some(&b'/') {
            let recipients = addresses(script.recipients).map(|address| self.hash_recipient(address)).collect();
            self.scripts.called(head.at, script, recipients);
        }
    }

    /// Now a recipient of the message is known: the call of an interpreter may be found that made it.
    pub(super) fn claim_of_call(&mut self, slot: Slot, attempt: &Attempt<'_>, attribution: &Attribution) {
        if !self.scripts.hears_calls() {
            return;
        }
        let Some(leg) = self.table.get(slot) else { return };
        let Some(uid) = uid_of(&leg.came) else { return };
        let at = leg.first;
        if leg.details.as_deref().and_then(|details| details.script()).is_some_and(ScriptClaim::is_whole) {
            return;
        }
        let recipients = [attempt.recipient, attempt.original].map(|address| self.hash_recipient(address));
        let shared = attribution.is_web_server(uid);
        let is_theirs = |path: &[u8]| shared || attribution.uid_of_path(path) == Some(uid);
        if let Some(claim) = self.scripts.made_by(uid, at, &recipients, is_theirs) {
            self.keep_claim(slot, claim);
        }
    }

    fn hash_recipient(&self, address: &[u8]) -> u64 {
        self.table.hash_text(0, &address.to_ascii_lowercase(), b"")
    }

    fn keep_claim(&mut self, slot: Slot, claim: ScriptClaim) {
        if !claim.is_empty()
            && let Some(leg) = self.table.edit(slot)
        {
            leg.details.get_or_insert_default().script.get_or_insert_default().add(claim);
        }
    }

    /// The message goes on under another id: what is known of its script goes with it.
    pub(super) fn inherit_claim(&mut self, parent: Slot, child: Slot) {
        let claim = self.table.get(parent).and_then(|leg| leg.details.as_deref()).and_then(|details| details.script());
        if let Some(claim) = claim.cloned() {
            self.keep_claim(child, claim);
        }
    }

    fn spot(&mut self, head: &Head<'_>) -> Spot {
        Spot { host: self.places.host(head.host), instance: self.places.instance(head), pid: head.pid, at: head.at }
    }
}

/// Keeps what a line says of the message it names.
fn keep(leg: &mut Leg, script: &Script<'_>) {
    // The claim names its own user: that must be the one the server took the message from.
    if script.uid.is_some_and(|uid| uid_of(&leg.came) != Some(uid)) {
        return;
    }
    let details = leg.details.get_or_insert_default();
    let claim = ScriptClaim::new(script.directory, script.path, script.line);
    if script.from == ScriptSource::Header {
        // A script may write such a header itself; which of two the interpreter wrote cannot be told.
        let known = details.script.get_or_insert_default();
        if known.is_whole() {
            return;
        }
        if details.disputed || (!known.path.is_empty() && known.path != claim.path) {
            details.disputed = true;
            (known.path, known.line) = (Box::default(), 0);
            return;
        }
    }
    details.script.get_or_insert_default().add(claim);
}

fn uid_of(came: &Came) -> Option<u32> {
    match *came {
        Came::Uid(uid) | Came::User(_, Some(uid)) => Some(uid),
        _ => None,
    }
}
