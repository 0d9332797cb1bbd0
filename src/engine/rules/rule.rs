//! A rule: what is looked at, over how long, beyond what, for whom, and what is done then. And those that come built in.

use crate::mail::{Cause, Measure, Origin, ReplyClass, Signal};
use std::sync::Arc;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Unique.
    pub name: Arc<str>,
    pub signal: Signal,
    /// A multiple of a minute, one minute to 30 days; of a level it is how often it is told.
    pub window_secs: u32,
    /// More than this crosses it.
    pub limit: u64,
    /// Of a ratio: so many recipients must have ended. Against history: so many messages there must be.
    pub min_sample: u32,
    pub classes: Classes,
    pub target: Target,
    pub measure: Measure,
    pub cause: Cause,
    pub lane: Lane,
    /// When its block ends by itself.
    pub for_secs: Option<u32>,
    /// It tells when half of the limit is reached, and nine tenths.
    pub warns: bool,
    /// Of how many in a hundred accounts it is a rule; which these are stays the same.
    pub share: u8,
}

/// Whose mail a rule is for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Target {
    #[default]
    All,
    Plan(Box<str>),
    Account(Box<str>),
}

impl Target {
    /// Of rules that look at the same thing, those for fewer accounts win.
    pub fn rank(&self) -> u8 {
        match self {
            Target::All => 0,
            Target::Plan(_) => 1,
            Target::Account(_) => 2,
        }
    }
}

/// Which mail of an account is counted, and what a block holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Lane {
    /// What programs send: by script, and over SMTP without a login.
    #[default]
    Script,
    /// What is sent with a login, each for itself.
    Login,
    All,
}

impl Lane {
    pub const ALL: [Lane; 3] = [Lane::Script, Lane::Login, Lane::All];

    pub const fn name(self) -> &'static str {
        match self {
            Lane::Script => "script",
            Lane::Login => "login",
            Lane::All => "all",
        }
    }

    pub const fn holds(self, origin: Origin) -> bool {
        match origin {
            Origin::Script | Origin::LocalSmtp => !matches!(self, Lane::Login),
            Origin::SmtpAuth => !matches!(self, Lane::Script),
            Origin::Incoming | Origin::Internal => false,
        }
    }
}

/// A set of reply classes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Classes(u32);

impl Classes {
    pub fn of(classes: &[ReplyClass]) -> Classes {
        Classes(classes.iter().fold(0, |set, class| set | 1 << *class as u32))
    }

    pub const fn holds(self, class: ReplyClass) -> bool {
        self.0 >> class as u32 & 1 == 1
    }

    pub const fn bits(self) -> u32 {
        self.0
    }

    /// What counts for a signal where a rule does not say. Errors are those that the sender could have known of: not a
    /// receiver that is down or slow, and nothing of this host's.
    pub fn usual(signal: Signal) -> Classes {
        match signal {
            Signal::Errors | Signal::ErrorRatio => Classes::of(&[
                ReplyClass::UnknownRecipient,
                ReplyClass::MailboxDisabled,
                ReplyClass::Spam,
                ReplyClass::Policy,
                ReplyClass::Content,
            ]),
            Signal::UnknownRecipients => Classes::of(&[ReplyClass::UnknownRecipient]),
            Signal::SpamVerdicts => Classes::of(&[ReplyClass::Spam]),
            _ => Classes(0),
        }
    }
}

impl Rule {
    /// A rule for all accounts that only observes.
    pub fn new(name: &str, signal: Signal, window_secs: u32, limit: u64) -> Rule {
        Rule {
            name: name.into(),
            signal,
            window_secs,
            limit,
            min_sample: match signal {
                Signal::ErrorRatio => 100,
                Signal::AgainstHistory => 200,
                _ => 0,
            },
            classes: Classes::usual(signal),
            target: Target::All,
            measure: Measure::Observe,
            cause: signal.cause(),
            lane: if signal == Signal::LoginAddresses { Lane::Login } else { Lane::Script },
            for_secs: None,
            warns: false,
            share: 100,
        }
    }
}

const HOUR: u32 = 3_600;
const DAY: u32 = 86_400;

/// The rules that come built in. They observe: nothing is blocked before an operator says so.
pub fn built_in() -> Vec<Rule> {
    let history = |rule: Rule, floor| Rule { min_sample: floor, ..rule };
    let login = |rule: Rule| Rule { lane: Lane::Login, ..rule };
    vec![
        Rule::new("recipients_per_hour", Signal::Recipients, HOUR, 2_000),
        Rule::new("recipients_per_day", Signal::Recipients, DAY, 20_000),
        Rule::new("unknown_recipients", Signal::UnknownRecipients, HOUR, 100),
        Rule::new("error_ratio", Signal::ErrorRatio, DAY, 300),
        Rule::new("spam_verdicts", Signal::SpamVerdicts, HOUR, 30),
        login(Rule::new("login_recipients_per_hour", Signal::Recipients, HOUR, 1_000)),
        Rule::new("login_addresses", Signal::LoginAddresses, HOUR, 20),
        Rule::new("new_recipients_per_hour", Signal::NewRecipients, HOUR, 1_000),
        Rule::new("script_messages_per_hour", Signal::Scripts, HOUR, 1_500),
        history(Rule::new("against_history", Signal::AgainstHistory, HOUR, 200), 500),
        history(Rule::new("against_history_per_day", Signal::AgainstHistory, DAY, 100), 2_000),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_in_rules_observe_and_have_names_of_their_own() {
        let rules = built_in();
        assert!(rules.iter().all(|rule| rule.measure == Measure::Observe && rule.window_secs.is_multiple_of(60)));
        let mut names: Vec<&str> = rules.iter().map(|rule| &*rule.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), rules.len());
    }

    #[test]
    fn classes_fit_into_their_set() {
        let all = Classes::of(&ReplyClass::ALL);
        assert!(ReplyClass::ALL.iter().all(|class| all.holds(*class)));
        assert!(!Classes::usual(Signal::Errors).holds(ReplyClass::Connection));
    }

    #[test]
    fn a_lane_holds_what_its_block_would() {
        let holds = |lane: Lane| Origin::ALL.map(|origin| lane.holds(origin));
        assert_eq!(holds(Lane::Script), [true, false, true, false, false]);
        assert_eq!(holds(Lane::Login), [false, true, false, false, false]);
        assert_eq!(holds(Lane::All), [true, true, true, false, false]);
    }
}
