//! COUNTS: the figures of an account, of everything unattributed, and of the whole host.

/// The figures of design section 1. All count recipients, but for `messages`, and `deferred`, which counts attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Messages accepted into the queue, once each, whatever their queue ids.
    pub messages: u64,
    /// Envelope recipients of those messages, and recipients seen of messages that were open before the log began.
    pub recipients: u64,
    pub sent: u64,
    pub bounced: u64,
    pub expired: u64,
    pub deleted: u64,
    /// The message ended but the log lost the line that says how.
    pub unaccounted: u64,
    /// Attempts that were deferred.
    pub deferred: u64,
    /// Recipients still open, held ones included.
    pub queued: u64,
    /// Of the queued ones: on hold.
    pub held: u64,
    /// Failures reported after `sent`; they never lower `sent` and are no part of the balance.
    pub late_errors: u64,
}

impl Counts {
    /// The books balance: every recipient is in exactly one place.
    pub const fn balance(&self) -> bool {
        self.recipients == self.sent + self.bounced + self.expired + self.deleted + self.unaccounted + self.queued
            && self.held <= self.queued
    }

    /// Recipients in error: those that ended bounced or expired.
    pub const fn errors(&self) -> u64 {
        self.bounced + self.expired
    }

    pub const fn is_zero(&self) -> bool {
        self.messages == 0 && self.recipients == 0 && self.deferred == 0 && self.late_errors == 0
    }

    pub fn add(&mut self, other: &Counts) {
        self.messages += other.messages;
        self.recipients += other.recipients;
        self.sent += other.sent;
        self.bounced += other.bounced;
        self.expired += other.expired;
        self.deleted += other.deleted;
        self.unaccounted += other.unaccounted;
        self.deferred += other.deferred;
        self.queued += other.queued;
        self.held += other.held;
        self.late_errors += other.late_errors;
    }
}
