//! Notices in the pump: one goes into the batch that its order is in, and to the sender when that is in the store.

use super::Pump;
use crate::engine::sanctions::Record;
use crate::mail::Owner;
use crate::notify::{Happening, Moment, outbox};
use crate::store::Row;

// See `rows`, which has the kinds of all the others.
/// Per notice that waits for a hook: what is sent.
const NOTICE: u8 = 18;
/// The same, for the start.
pub const NOTICE_KIND: u8 = NOTICE;

/// As the store takes it.
pub fn notice_row((key, value): outbox::Row) -> Row {
    Row { kind: NOTICE, key, value }
}

impl Pump {
    /// A record is about to be written: whoever wants to know is told when it is.
    pub(super) fn tell_hooks(&mut self, record: &Record, moment: Moment) {
        let blocked = self.engine.sanctions.is_blocked(record.owner);
        if let Some(told) = Happening::of(record, moment, blocked) {
            self.tell_that(&told);
        }
    }

    /// The same of anything else: it is told when the batch is in the store, which the caller sees to.
    pub(super) fn tell_that(&mut self, told: &Happening) {
        let account = self.engine.sanctions.account(told.owner);
        let name = self.engine.attribution.accounts.name(told.owner);
        let rows = self.hooks.tell(told, name, &account);
        self.batch.rows.extend(rows.into_iter().map(notice_row));
    }

    /// What came of those that were sent. True when the store does not know it yet.
    pub(super) fn hear_hooks(&mut self) -> bool {
        let rows = self.hooks.hear();
        self.batch.rows.extend(rows.into_iter().map(notice_row));
        self.hooks.count(&mut self.tally)
    }

    pub(super) fn forget_notices(&mut self, owner: Owner) {
        let rows = self.hooks.forget(owner);
        self.batch.rows.extend(rows.into_iter().map(notice_row));
    }
}
