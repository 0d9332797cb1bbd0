//! A part of what is held: chosen by script, sender, recipient's domain or age, counted, and kept until an order names it.
//!
//! The list that was counted is the list that an order acts on, whatever has come on hold meanwhile. Lists are few, and
//! forgotten after some minutes.

use crate::host::clock;
use crate::mail::{Envelope, Owner, Place, Time};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a list is kept, and how many are.
pub const KEPT: Duration = Duration::from_secs(900);
const MOST: usize = 16;

/// What is asked for: all of it must be so. Texts are compared without regard to case.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// The script's path, or the end of it behind a `/`.
    pub script: Option<String>,
    /// The envelope sender; `<>` is the null sender.
    pub sender: Option<String>,
    /// Any recipient is in this domain.
    pub recipient_domain: Option<String>,
    /// On hold for at least so many seconds.
    pub older_secs: Option<i64>,
}

/// A message on hold, as far as it can be asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    pub place: Place,
    pub since: Time,
    /// The script that is said to have made it; empty when nobody says so.
    pub script: Box<[u8]>,
}

impl Filter {
    /// Sender and recipients must be looked up.
    pub fn needs_envelopes(&self) -> bool {
        self.sender.is_some() || self.recipient_domain.is_some()
    }

    /// Whether a message is one of them. What is not known of it is not so.
    pub fn takes(&self, one: &Waiting, envelope: Option<&Envelope>, now: Time) -> bool {
        let script = self.script.as_ref().is_none_or(|script| is_script(&one.script, script.as_bytes()));
        let old = self.older_secs.is_none_or(|secs| now.secs_since(one.since) >= secs);
        let sender = self.sender.as_ref().is_none_or(|sender| {
            let wanted = if sender == "<>" { &b""[..] } else { sender.as_bytes() };
            envelope.is_some_and(|envelope| envelope.sender.eq_ignore_ascii_case(wanted))
        });
        let domain = self.recipient_domain.as_ref().is_none_or(|domain| {
            envelope.is_some_and(|envelope| envelope.recipients.iter().any(|to| is_in(to, domain.as_bytes())))
        });
        script && old && sender && domain
    }
}

fn is_script(path: &[u8], wanted: &[u8]) -> bool {
    let end = path.len().checked_sub(wanted.len()).map(|at| path.split_at(at));
    end.is_some_and(|(before, end)| {
        end.eq_ignore_ascii_case(wanted) && (before.is_empty() || before.ends_with(b"/") || wanted.starts_with(b"/"))
    })
}

fn is_in(address: &[u8], domain: &[u8]) -> bool {
    let at = address.iter().rposition(|byte| *byte == b'@');
    at.and_then(|at| address.get(at + 1..)).is_some_and(|its| its.eq_ignore_ascii_case(domain))
}

/// The lists that orders may name.
#[derive(Debug, Default)]
pub struct Selections(Vec<Kept>);

#[derive(Debug)]
struct Kept {
    name: String,
    owner: Owner,
    places: Arc<[Place]>,
    at: Instant,
}

impl Selections {
    /// Keeps a list under a name that nobody can guess.
    pub fn keep(&mut self, owner: Owner, places: Vec<Place>) -> String {
        self.0.retain(|kept| kept.at.elapsed() < KEPT);
        if self.0.len() >= MOST {
            self.0.remove(0);
        }
        let name = format!("{:016x}", clock::seed());
        self.0.push(Kept { name: name.clone(), owner, places: places.into(), at: clock::monotonic() });
        name
    }

    /// The list of an account under this name.
    pub fn of(&self, owner: Owner, name: &str) -> Option<Arc<[Place]>> {
        let kept = self.0.iter().find(|kept| kept.name == name && kept.owner == owner && kept.at.elapsed() < KEPT)?;
        Some(kept.places.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::{QueueId, Server};

    fn place(n: u8) -> Place {
        let id = QueueId::new(format!("ABCDE{n}").as_bytes()).unwrap();
        Place { server: Server::Postfix, instance: b"mx"[..].into(), id }
    }

    #[test]
    fn all_that_is_asked_must_be_so_and_what_is_not_known_is_not() {
        let now = Time::from_secs(10_000);
        let one =
            Waiting { place: place(1), since: Time::from_secs(9_000), script: b"/home/web1/www/a.php"[..].into() };
        let recipients = vec![b"x@Dest.test"[..].into(), b"y@other.test"[..].into()];
        let envelope = Envelope { place: place(1), sender: b"News@shop.test"[..].into(), recipients };
        let own = |text: &str| Some(text.to_owned());
        let none = Filter::default();
        for (filter, taken) in [
            (none.clone(), true),
            (Filter { script: own("a.php"), ..none.clone() }, true),
            (Filter { script: own("/home/web1/www/A.php"), ..none.clone() }, true),
            (Filter { script: own(".php"), ..none.clone() }, false),
            (Filter { script: own("x/home/web1/www/a.php"), ..none.clone() }, false),
            (Filter { sender: own("news@SHOP.test"), ..none.clone() }, true),
            (Filter { sender: own("shop.test"), ..none.clone() }, false),
            (Filter { sender: own("<>"), ..none.clone() }, false),
            (Filter { recipient_domain: own("dest.TEST"), ..none.clone() }, true),
            (Filter { recipient_domain: own("est.test"), ..none.clone() }, false),
            (Filter { older_secs: Some(1_000), ..none.clone() }, true),
            (Filter { older_secs: Some(1_001), ..none.clone() }, false),
            (Filter { older_secs: Some(1), script: own("b.php"), ..none.clone() }, false),
        ] {
            assert_eq!(filter.takes(&one, Some(&envelope), now), taken, "{filter:?}");
            assert!(!filter.needs_envelopes() || !filter.takes(&one, None, now), "{filter:?}");
        }
    }

    #[test]
    fn a_list_is_its_accounts_own_and_the_oldest_go_first() {
        let mut lists = Selections::default();
        let first = lists.keep(Owner(20), vec![place(1)]);
        assert_eq!(lists.of(Owner(20), &first).unwrap().len(), 1);
        assert!(lists.of(Owner(21), &first).is_none() && lists.of(Owner(20), "").is_none());
        for _ in 0..MOST {
            lists.keep(Owner(20), vec![place(2)]);
        }
        assert!(lists.of(Owner(20), &first).is_none());
    }
}
