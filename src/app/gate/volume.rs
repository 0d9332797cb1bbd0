//! Volume at the gate: the pump tells what the log has told, and hears what limits were crossed.

use super::{Gate, lock};
use crate::engine::rules::volume::{Armed, Going, Member, News, Sender};
use crate::engine::turnstile::Room;
use crate::host::clock;
use crate::host::tape::Crossed;
use crate::mail::{OrderId, Owner, QueueId, Time};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// At a start the log is waited for so long where a limit could be crossed by what it does not tell yet.
const LOG_AWAITED: Duration = Duration::from_secs(2);

impl Gate {
    /// These rules for volume are judged here, and these accounts are known.
    pub fn judge_volume(&self, armed: Arc<Armed>, members: Vec<Member>) {
        if armed.is_empty() {
            self.read.send_replace(true);
        }
        lock(&self.turnstile).judge_volume(armed, members);
    }

    pub fn learn(&self, members: Vec<Member>) {
        lock(&self.turnstile).volume().learn(members);
    }

    /// Whom rules do not block: no rule, or not the one of this identity.
    pub fn spare(&self, spared: BTreeSet<(Owner, Option<u64>)>) {
        lock(&self.turnstile).volume().spare(spared);
    }

    /// Who sends and is nobody yet.
    pub fn take_strangers(&self) -> BTreeSet<Sender> {
        lock(&self.turnstile).volume().take_strangers()
    }

    /// What the log has told. `whole`: it was read to its end.
    pub fn hear(&self, news: News, whole: bool) {
        lock(&self.turnstile).volume().hear(news);
        if whole {
            self.read.send_replace(true);
        }
    }

    /// Waits until the log was read to its end, for a moment: of what it does not tell yet the gate knows nothing.
    pub(super) async fn wait_for_log(&self) {
        let mut read = self.read.subscribe();
        let _ = tokio::time::timeout(LOG_AWAITED, read.wait_for(|read| *read)).await;
    }

    /// Messages of an account that were let through and that the log does not tell of yet.
    pub fn let_through(&self, owner: Owner) -> Vec<QueueId> {
        lock(&self.turnstile).volume().reserved_for(owner)
    }

    /// Messages that are about to leave and were not asked about by this gate.
    pub fn resume(&self, going: Vec<Going>) {
        lock(&self.turnstile).volume().resume(going);
    }

    /// Anything of an account that is slowed down could leave now.
    pub fn has_room(&self, owner: Owner) -> bool {
        let now = clock::now();
        lock(&self.turnstile).has_room(owner, now)
    }

    /// How many of these messages on hold, the first ones, may leave now. Nobody else gets their place.
    pub fn let_go(&self, waiting: Vec<Going>) -> usize {
        let now = clock::now();
        lock(&self.turnstile).let_go(waiting, now)
    }

    /// Nobody is held for this order.
    pub fn let_pass(&self, order: OrderId) {
        lock(&self.turnstile).let_pass(order);
    }

    /// Limits that were crossed since the last call by messages that are not on the tape.
    pub fn take_crossings(&self) -> Vec<(Owner, OrderId, Time, Crossed)> {
        std::mem::take(&mut *lock(&self.crossings))
    }

    /// How much of an account may be held of which nothing is.
    pub fn set_most(&self, most: Room) {
        lock(&self.turnstile).set_most(most);
    }
}
