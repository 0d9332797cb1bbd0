//! Verdicts: what a rule judged of an account. Pure data; what is made of one is decided elsewhere.

use super::{Cause, Owner, Scope, Time};
use std::sync::Arc;

/// What a rule looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Signal {
    /// Messages accepted.
    Messages,
    /// Recipients accepted.
    Recipients,
    /// Different recipients.
    DistinctRecipients,
    /// Recipients that ended in an error that is the sender's.
    Errors,
    /// The share of such errors among the recipients that ended: its lower bound at 95 % confidence, in tenths of a percent.
    ErrorRatio,
    /// Recipients that do not exist.
    UnknownRecipients,
    /// Refusals that call the mail spam, those that are tried again included.
    SpamVerdicts,
    /// Recipients that wait in the queue now, those on hold left out.
    Queued,
    /// Recipients on hold now.
    Held,
    /// Different addresses from which one login sends.
    LoginAddresses,
    /// Recipients to whom the account has not written before.
    NewRecipients,
    /// Messages of one script.
    Scripts,
    /// How many times what the account usually sends, in tenths.
    AgainstHistory,
}

impl Signal {
    pub const ALL: [Signal; 13] = [
        Signal::Messages,
        Signal::Recipients,
        Signal::DistinctRecipients,
        Signal::Errors,
        Signal::ErrorRatio,
        Signal::UnknownRecipients,
        Signal::SpamVerdicts,
        Signal::Queued,
        Signal::Held,
        Signal::LoginAddresses,
        Signal::NewRecipients,
        Signal::Scripts,
        Signal::AgainstHistory,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Signal::Messages => "messages",
            Signal::Recipients => "recipients",
            Signal::DistinctRecipients => "distinct_recipients",
            Signal::Errors => "errors",
            Signal::ErrorRatio => "error_ratio",
            Signal::UnknownRecipients => "unknown_recipients",
            Signal::SpamVerdicts => "spam_verdicts",
            Signal::Queued => "queued",
            Signal::Held => "held",
            Signal::LoginAddresses => "login_addresses",
            Signal::NewRecipients => "new_recipients",
            Signal::Scripts => "scripts",
            Signal::AgainstHistory => "against_history",
        }
    }

    pub const fn code(self) -> u8 {
        self as u8
    }

    /// What a block for it is for, where the rule does not say.
    pub const fn cause(self) -> Cause {
        match self {
            Signal::Errors | Signal::ErrorRatio | Signal::UnknownRecipients => Cause::Errors,
            Signal::SpamVerdicts => Cause::Spam,
            _ => Cause::Volume,
        }
    }

    /// What a value of it is, for people: `312` of a ratio are `31.2 %`.
    pub fn shown(self, value: u64) -> String {
        match self {
            Signal::ErrorRatio => format!("{}.{} %", value / 10, value % 10),
            Signal::AgainstHistory => format!("{}.{} times", value / 10, value % 10),
            _ => value.to_string(),
        }
    }

    /// Its values are tenths: of a percentage, or of how many times.
    pub const fn has_tenths(self) -> bool {
        matches!(self, Signal::ErrorRatio | Signal::AgainstHistory)
    }

    /// What is counted, in the words of a sentence.
    pub fn words(self) -> &'static str {
        match self {
            Signal::Messages => "messages",
            Signal::Recipients => "recipients",
            Signal::DistinctRecipients => "distinct recipients",
            Signal::Errors => "errors",
            Signal::ErrorRatio => "error ratio",
            Signal::UnknownRecipients => "unknown recipients",
            Signal::SpamVerdicts => "spam verdicts",
            Signal::Queued => "queued",
            Signal::Held => "held",
            Signal::LoginAddresses => "login addresses",
            Signal::NewRecipients => "new recipients",
            Signal::Scripts => "messages of one script",
            Signal::AgainstHistory => "the usual messages",
        }
    }

    /// It is the number that there is now, and has no window.
    pub const fn is_level(self) -> bool {
        matches!(self, Signal::Queued | Signal::Held)
    }

    /// Only refusals of certain classes count for it.
    pub const fn has_classes(self) -> bool {
        matches!(self, Signal::Errors | Signal::ErrorRatio | Signal::UnknownRecipients | Signal::SpamVerdicts)
    }
}

/// What a rule does when its limit is crossed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Measure {
    /// It is written down.
    Observe,
    /// People are told.
    Notify,
    /// What is beyond the limit is held, and leaves as the window frees.
    Slow,
    /// The account's mail is held.
    Block,
}

impl Measure {
    pub const ALL: [Measure; 4] = [Measure::Observe, Measure::Notify, Measure::Slow, Measure::Block];

    pub const fn name(self) -> &'static str {
        match self {
            Measure::Observe => "observe",
            Measure::Notify => "notify",
            Measure::Slow => "slow",
            Measure::Block => "block",
        }
    }

    /// Mail is held for it.
    pub const fn holds(self) -> bool {
        matches!(self, Measure::Slow | Measure::Block)
    }

    pub fn from_name(name: &str) -> Option<Measure> {
        Measure::ALL.into_iter().find(|measure| measure.name() == name)
    }
}

/// A rule's limit was crossed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Log time of the line that crossed it.
    pub at: Time,
    pub owner: Owner,
    pub rule: Arc<str>,
    pub signal: Signal,
    /// In the unit of the signal, as the limit.
    pub observed: u64,
    pub limit: u64,
    /// 0 where the signal has no window.
    pub window_secs: u32,
    pub measure: Measure,
    /// What a block holds, and what it is for.
    pub scope: Scope,
    pub cause: Cause,
    /// When a block ends by itself.
    pub for_secs: Option<u32>,
    /// Whose the message is that crossed it was proven, not claimed.
    pub proven: bool,
    /// It is due to a host incident.
    pub incident: bool,
}

impl Verdict {
    /// What was seen, in a line: `51 recipients in 1h, limit 50`.
    pub fn text(&self) -> String {
        let Verdict { signal, observed, limit, window_secs, .. } = self;
        let window = match *window_secs {
            0 => String::new(),
            secs => format!(" in {}", long(secs)),
        };
        let name = signal.words();
        let login = match &self.scope {
            Scope::Login(login) => format!(" of login {login}"),
            Scope::Script | Scope::All => String::new(),
        };
        format!("{} {name}{login}{window}, limit {}", signal.shown(*observed), signal.shown(*limit))
    }
}

/// `3600` is `1h`.
fn long(secs: u32) -> String {
    match secs {
        secs if secs.is_multiple_of(86_400) => format!("{}d", secs / 86_400),
        secs if secs.is_multiple_of(3_600) => format!("{}h", secs / 3_600),
        secs => format!("{}m", secs / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_says_what_was_seen() {
        let verdict = Verdict {
            at: Time::ZERO,
            owner: Owner(16),
            rule: "r".into(),
            signal: Signal::ErrorRatio,
            observed: 312,
            limit: 300,
            window_secs: 86_400,
            measure: Measure::Block,
            scope: Scope::Script,
            cause: Cause::Errors,
            for_secs: None,
            proven: true,
            incident: false,
        };
        assert_eq!(verdict.text(), "31.2 % error ratio in 1d, limit 30.0 %");
        let login = Scope::Login("a@b".into());
        let addresses =
            Verdict { signal: Signal::LoginAddresses, observed: 4, limit: 3, scope: login, ..verdict.clone() };
        assert_eq!(Verdict { window_secs: 900, ..addresses }.text(), "4 login addresses of login a@b in 15m, limit 3");
        let times = Verdict {
            signal: Signal::AgainstHistory,
            window_secs: 3_600,
            observed: 255,
            limit: 200,
            ..verdict.clone()
        };
        assert_eq!(times.text(), "25.5 times the usual messages in 1h, limit 20.0 times");
        let queued = Verdict { signal: Signal::Queued, observed: 4, limit: 3, window_secs: 0, ..verdict };
        assert_eq!(queued.text(), "4 queued, limit 3");
    }

    #[test]
    fn names_of_measures_lead_back() {
        assert!(Measure::ALL.iter().all(|measure| Measure::from_name(measure.name()) == Some(*measure)));
    }
}
