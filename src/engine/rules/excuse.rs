//! What counts against nobody: failures that are due to a host incident, those included that were counted before it was known.

use super::incidents::{self, Counted, Entry, Failure, Incident, News};
use super::slots::Way;
use super::{CLAIMED, Mail, PROVEN, Rules, Subject, What, login_part, seconds};
use crate::engine::attribution::Attribution;
use crate::engine::ledger::Ledger;
use crate::mail::{Evidence, Time};

impl Rules {
    /// A recipient was refused or put off, and that is not counted yet. True when it counts against nobody.
    pub fn failed(
        &mut self,
        mail: &Mail<'_>,
        failure: &Failure<'_>,
        ledger: &Ledger,
        attribution: &Attribution,
    ) -> bool {
        let way = Way::of(mail.origin).filter(|_| !self.rules.is_empty() && mail.owner.is_account());
        let Some(way) = way else { return false };
        let counted = Counted {
            owner: mail.owner,
            part: incidents::part(mail.basis.evidence() == Evidence::Proven),
            way,
            login: if way == Way::Auth && !mail.login.is_empty() { login_part(mail.login) } else { PROVEN },
        };
        let (at, now) = (seconds(mail.at.min(mail.now)), seconds(mail.now));
        let entry = Entry::new(failure, counted, at, incidents::ended(ledger, mail.owner));
        let (due, excused) = self.incidents.observe(entry, failure.first, now, ledger);
        for (entry, n) in excused {
            self.excuse(&entry, n, mail.now, attribution);
        }
        due
    }

    fn excuse(&mut self, entry: &Entry, n: u32, now: Time, attribution: &Attribution) {
        let Entry { counted: Counted { owner, part, way, login }, class, deferred, to, .. } = *entry;
        if n == 0 {
            return;
        }
        let at = Time::from_secs(i64::from(to));
        let origin = way.origin();
        let mail = Mail { owner, origin, basis: crate::mail::Basis::None, login: b"", at, now };
        let what = if deferred { What::NotRefused(class, n) } else { What::NotFailed(class, n) };
        let mut take = |subject: Subject, way: Way| {
            if !self.slots.of(way, what.topic()).is_empty() {
                self.count_as(subject, way, &mail, what, attribution);
            }
        };
        take(Subject { owner, part }, way);
        if login > CLAIMED {
            take(Subject { owner, part: login }, Way::Login);
        }
    }

    /// Host incidents that stand.
    pub fn incidents(&self, now: Time) -> impl Iterator<Item = &Incident> {
        self.incidents.standing(now)
    }

    /// In log time: what nothing confirms any more is over.
    pub fn end_incidents(&mut self, now: Time) {
        self.incidents.end(seconds(now));
    }

    /// Host incidents that were found, or are over, since the last call.
    pub fn take_incidents(&mut self) -> Vec<News> {
        self.incidents.take_news()
    }
}
