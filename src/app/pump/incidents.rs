//! Host incidents, in the pump: each is told once when it is found and once when it is over, to the log, to hooks and as a
//! figure. What it means for rules is decided where they count.

use super::Pump;
use crate::engine::rules::identity;
use crate::engine::rules::incidents::{Incident, News, Trouble};
use crate::engine::sanctions::Account;
use crate::host::clock;
use crate::mail::{Actor, Cause, Owner, Time, Unattributed};
use crate::notify::{Event, Happening};

/// Accounts that are named with one.
const NAMED: usize = 20;

impl Pump {
    /// Takes what was found, and what is over, since the last call.
    pub(super) fn hear_incidents(&mut self, now: Time) {
        for News { incident, over } in self.engine.rules.take_incidents() {
            if !over {
                self.tally.incident(incident.trouble.kind());
            }
            self.durable = true;
            let what = incident.text();
            if now.secs_since(incident.confirmed) > self.engine.judge.enforcement().max_age_secs + OVER {
                // Of the past: nobody can do anything about it.
                tracing::info!("host incident in old lines{}: {what}", if over { ", over" } else { "" });
                continue;
            }
            let details = if over { "it is over".to_owned() } else { self.blocked_meanwhile(&incident) };
            if over {
                tracing::warn!("host incident over: {what}; such failures count against accounts again");
            } else {
                tracing::error!(
                    "host incident: {what}: such failures count against no account while it stands; {}{details}",
                    advice(&incident.trouble)
                );
            }
            self.tell_incident(&incident, over, details);
        }
    }

    fn tell_incident(&mut self, incident: &Incident, over: bool, details: String) {
        let (kind, since) = (incident.trouble.kind(), incident.since);
        let about = identity(format!("{kind} {}", incident.trouble).as_bytes());
        let told = Happening {
            event: Event::HostIncident,
            id: format!("{:016x}{about:016x}-{}", since.0, if over { "over" } else { "incident" }),
            owner: Owner::nobody(Unattributed::NoEvidence),
            at: if over { incident.confirmed } else { since },
            by: Actor::Agent.to_string(),
            reason: format!("{kind}: {}", incident.text()),
            details: details.trim_start_matches("; ").to_owned(),
        };
        let rows = self.hooks.tell(&told, "", &Account::default());
        self.batch.rows.extend(rows.into_iter().map(super::notice_row));
    }

    /// Rules may have blocked somebody for such failures before there were enough to see what it is.
    fn blocked_meanwhile(&self, incident: &Incident) -> String {
        let by_rule = |owner: &Owner| {
            let block = self.engine.sanctions.account(*owner).block?;
            let errors = matches!(block.cause, Cause::Errors | Cause::Spam) && matches!(block.by, Actor::Rule(_));
            (errors && block.since >= incident.since).then(|| self.engine.attribution.accounts.name(*owner).to_owned())
        };
        let blocked = self.engine.sanctions.blocked().filter_map(|owner| by_rule(&owner));
        let mut names: Vec<String> = blocked.take(NAMED + 1).collect();
        if names.is_empty() {
            return String::new();
        }
        if names.len() > NAMED {
            names.truncate(NAMED);
            names.push("…".to_owned());
        }
        format!(
            "; blocked for errors since it began: {} (sendwarden undo takes a rule's blocks back)",
            names.join(", ")
        )
    }

    /// Log time goes on from its last line at the pace of the clock.
    pub(super) fn incidents_now(&self) -> Vec<Incident> {
        let high = self.engine.tracker.high();
        let quiet = i64::try_from(self.heard.elapsed().as_secs()).unwrap_or(0);
        let now = if high == Time::ZERO { clock::now() } else { high.plus_secs(quiet) };
        self.engine.rules.incidents(now).cloned().collect()
    }
}

/// One that is over is heard of when nothing has confirmed it for a while.
const OVER: i64 = crate::engine::rules::incidents::WINDOW_SECS as i64 + 60;

fn advice(trouble: &Trouble) -> &'static str {
    match trouble {
        Trouble::Receiver(_) => "look at what that receiver says (sendwarden errors), and at its status page",
        Trouble::Class(_) => "look at this host: its resolver, its network, its relay, its reputation",
        Trouble::OwnAddress(_) => "look the address up on blocklists, and ask to be delisted once the cause is found",
    }
}
