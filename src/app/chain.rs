//! The chain behind a block: the gate's mode, and what the mail servers' own configuration must say. What of it is not in
//! force is told wherever somebody relies on it: `check`, `status`, `/-/ready`, and the answer to `block`.
//!
//! It looks, with the servers' own tools, and changes nothing; for that there is `sendwarden setup`.

mod exim;
mod limits;
mod postfix;

use super::gate::Mode;
use super::setup::Setup;
use super::{flags, instances};
use crate::host::clock;
use crate::mail::Server;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Something that is not as a block needs it, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    pub text: String,
    pub next: String,
}

impl Gap {
    pub fn new(text: impl Into<String>, next: impl Into<String>) -> Gap {
        Gap { text: text.into(), next: next.into() }
    }

    /// In one sentence.
    pub fn said(&self) -> String {
        format!("{}; {}", self.text, self.next)
    }
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chain {
    /// The gate is not meant to hold anything: somebody's choice.
    pub off: Option<Gap>,
    /// Mail of a blocked account goes out, although the gate is to hold it.
    pub open: Vec<Gap>,
    /// Settings that break a promise later, or for mail in special cases.
    pub hints: Vec<Gap>,
}

/// What is looked at: as it was when the agent was started.
#[derive(Debug, Clone)]
pub struct Wanted {
    mode: Option<Mode>,
    doors: bool,
    flags: Option<flags::Settings>,
    servers: instances::Servers,
    held_max_secs: i64,
}

impl Wanted {
    pub fn of(setup: &Setup) -> Wanted {
        Wanted {
            mode: setup.gate.as_ref().map(|gate| gate.mode),
            doors: setup.doors,
            flags: setup.flags.clone(),
            servers: setup.mail_servers.clone(),
            held_max_secs: setup.hold.held_max_secs,
        }
    }
}

/// After it is due, mail that is released late still needs time to be delivered, or its bounce.
const MARGIN_SECS: i64 = 86_400;

/// Looks at all of it: some tools are started.
pub fn look(wanted: &Wanted) -> Chain {
    let mut chain = Chain::default();
    let postfix = if wanted.doors { instances::directories(&wanted.servers.postfix) } else { Vec::new() };
    let exim =
        wanted.flags.as_ref().and_then(|flags| Some((flags, instances::program(wanted.servers.exim.as_deref()).ok()?)));
    let mut here: Vec<Server> = Vec::new();
    here.extend((!postfix.is_empty()).then_some(Server::Postfix));
    here.extend(exim.as_ref().map(|_| Server::Exim));
    if here.is_empty() {
        return chain;
    }
    chain.off = off(wanted.mode, &here);
    if wanted.mode.is_none() {
        // The agent counts, and nobody relies on more.
        return chain;
    }
    for directory in &postfix {
        postfix::look(directory, wanted.held_max_secs.saturating_add(MARGIN_SECS), &mut chain);
    }
    limits::look(&postfix, &mut chain);
    if let Some((flags, program)) = &exim {
        exim::look(program, &flags.dir, wanted.held_max_secs, &mut chain);
    }
    chain
}

/// The steps are those of docs/operating.md, in its order: a server that asks before anybody answers has scripts wait, and
/// whoever holds before he has watched may hold what was not meant. Exim's flags have nothing to watch.
fn off(mode: Option<Mode>, here: &[Server]) -> Option<Gap> {
    let setup: Vec<String> = here.iter().map(|server| format!("sendwarden setup {} --apply", server.name())).collect();
    let setup = setup.join(" and ");
    let enforce = match here.contains(&Server::Postfix) {
        true => {
            "when sendwarden_gate_decisions_total grows with the mail, set gate.mode: enforce and restart the agent"
        }
        false => "set gate.mode: enforce and restart the agent",
    };
    match mode {
        Some(Mode::Enforce) => None,
        Some(Mode::Watch) => {
            Some(Gap::new("gate.mode is watch: new mail of a blocked account still goes out, and is counted", enforce))
        }
        None => Some(Gap::new(
            "gate.mode is off: new mail of a blocked account still goes out, only what waits in the queue is held",
            match here.contains(&Server::Postfix) {
                true => format!(
                    "set gate.mode: watch, restart the agent, then run as root: {setup}; {enforce} (docs/operating.md, \
                     The gate)"
                ),
                false => format!("run as root: {setup}; then {enforce} (docs/operating.md, The gate)"),
            },
        )),
    }
}

/// What was found last, for those who cannot wait for the tools.
#[derive(Debug)]
pub struct Kept {
    wanted: Wanted,
    found: Mutex<Option<(Instant, Arc<Chain>)>>,
    looking: AtomicBool,
}

/// What is older than this is looked at again, for somebody who waits, and for somebody who does not.
const FRESH: Duration = Duration::from_secs(10);
const STALE: Duration = Duration::from_secs(60);

impl Kept {
    pub fn new(wanted: Wanted) -> Kept {
        Kept { wanted, found: Mutex::default(), looking: AtomicBool::new(false) }
    }

    fn known(&self, most: Duration) -> Option<Arc<Chain>> {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.as_ref().filter(|(at, _)| at.elapsed() < most).map(|(_, chain)| Arc::clone(chain))
    }

    /// As it is now, or was a moment ago.
    pub fn now(&self) -> Arc<Chain> {
        if let Some(chain) = self.known(FRESH) {
            return chain;
        }
        let chain = Arc::new(look(&self.wanted));
        *self.found.lock().unwrap_or_else(PoisonError::into_inner) = Some((clock::monotonic(), Arc::clone(&chain)));
        chain
    }

    /// As it was when somebody looked last; it is looked at again beside the caller.
    pub fn last(self: &Arc<Kept>) -> Option<Arc<Chain>> {
        if self.known(STALE).is_none() && !self.looking.swap(true, Ordering::AcqRel) {
            let own = Arc::clone(self);
            let look = move || {
                own.now();
                own.looking.store(false, Ordering::Release);
            };
            if std::thread::Builder::new().name("chain".into()).spawn(look).is_err() {
                self.looking.store(false, Ordering::Release);
            }
        }
        self.known(Duration::MAX)
    }
}

impl Chain {
    /// What of a block is not in force.
    pub fn not_in_force(&self) -> impl Iterator<Item = &Gap> {
        self.off.iter().chain(&self.open)
    }
}

/// `1w2d3h4m5s` in seconds, as Exim and Postfix write times; `unit` is that of a bare number.
fn seconds(text: &str, unit: char) -> Option<i64> {
    let (mut sum, mut digits) = (0_i64, String::new());
    for c in text.trim().chars().chain(text.trim().ends_with(|c: char| c.is_ascii_digit()).then_some(unit)) {
        if c.is_ascii_digit() {
            digits.push(c);
            continue;
        }
        let factor = match c {
            's' => 1,
            'm' => 60,
            'h' => 3_600,
            'd' => 86_400,
            'w' => 7 * 86_400,
            _ => return None,
        };
        sum = sum.checked_add(digits.parse::<i64>().ok()?.checked_mul(factor)?)?;
        digits.clear();
    }
    (digits.is_empty() && !text.trim().is_empty()).then_some(sum)
}

/// Seconds as a setting of the servers or of ours is written: `96h`.
fn hours(secs: i64) -> String {
    match secs % 3_600 {
        0 => format!("{}h", secs / 3_600),
        _ => format!("{secs}s"),
    }
}

fn shown(path: &std::path::Path) -> String {
    PathBuf::from(path).display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_the_servers_write_them() {
        for (text, unit, secs) in [
            ("5d", 'd', Some(432_000)),
            ("3", 'd', Some(259_200)),
            ("1w2d3h", 's', Some(788_400)),
            ("0s", 's', Some(0)),
            ("0", 's', Some(0)),
            ("", 's', None),
            ("abc", 's', None),
            ("99999999999999999w", 's', None),
        ] {
            assert_eq!(seconds(text, unit), secs, "{text}");
        }
    }

    #[test]
    fn only_a_gate_that_holds_is_in_force() {
        assert_eq!(off(Some(Mode::Enforce), &[Server::Postfix]), None);
        let said = off(None, &[Server::Postfix, Server::Exim]).unwrap().said();
        assert!(said.contains("gate.mode is off"), "{said}");
        let steps = ["watch, restart", "setup postfix --apply and sendwarden setup exim --apply", "grows", "enforce"];
        let places: Vec<Option<usize>> = steps.iter().map(|step| said.find(step)).collect();
        assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{said}");
        let watched = off(Some(Mode::Watch), &[Server::Postfix]).unwrap().said();
        assert!(watched.contains("grows with the mail, set gate.mode: enforce"), "{watched}");
        let exim = off(None, &[Server::Exim]).unwrap().said();
        assert!(exim.contains("run as root: sendwarden setup exim --apply; then set gate.mode: enforce"), "{exim}");
        assert!(off(Some(Mode::Watch), &[Server::Exim]).unwrap().text.contains("still goes out"));
    }
}
