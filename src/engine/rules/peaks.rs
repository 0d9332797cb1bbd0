//! The most that was ever seen of each subject, for those who look for limits instead of verdicts (`suggest`).
//!
//! Nobody else pays for it: it is asked where a rule would have spoken. As bounded as what is counted.

use super::{Mail, Subject};
use crate::mail::{Owner, Time};
use std::collections::BTreeMap;

/// The highest value of a rule's signal in its window, of one subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peak {
    /// Number of the rule, in their order.
    pub rule: usize,
    pub owner: Owner,
    /// Of a login, where the rule is about logins.
    pub login: Option<Box<str>>,
    pub observed: u64,
    /// When it was reached.
    pub at: Time,
}

#[derive(Debug, Default)]
pub struct Peaks {
    by: BTreeMap<(usize, Subject), Peak>,
}

impl Peaks {
    pub fn note(&mut self, rule: usize, subject: Subject, mail: &Mail<'_>, observed: u64) {
        let at = mail.at.min(mail.now);
        let peak = self.by.entry((rule, subject)).or_insert_with(|| {
            let login = subject.is_login().then(|| crate::engine::accounts::name_from(mail.login).into());
            Peak { rule, owner: subject.owner, login, observed: 0, at }
        });
        if observed > peak.observed {
            (peak.observed, peak.at) = (observed, at);
        }
    }

    /// By rule, account and login. What is proven of an account and what is claimed of it are one here: a limit is to be
    /// above both.
    pub fn into_list(self) -> Vec<Peak> {
        let mut list: Vec<Peak> = Vec::new();
        for ((_, subject), peak) in self.by {
            match list.last_mut() {
                Some(last) if !subject.is_login() && (last.rule, last.owner) == (peak.rule, peak.owner) => {
                    if peak.observed > last.observed {
                        *last = peak;
                    }
                }
                _ => list.push(peak),
            }
        }
        list
    }
}
