//! Flags, wired: for an Exim, who is held stands in files that its access rules look for (`mta/exim/setup`). They are
//! written with each change of what stands and compared with it each minute; between that, and without the agent, they
//! stand by themselves.

use super::gate::Beside;
use super::instances;
use crate::engine::marks::Marks;
use crate::host::flags::{Flags, Wrong};
use crate::host::servers;
use crate::mail::QueueId;
use crate::mta::exim::setup::{FREE, FULL, KINDS, NETWORKS, REFUSE_LOGINS, RULES, SOCKET, VOLUME, flag};
use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// A message that was released by itself while its account is held: longer than servers try to deliver one (4 to 5 days).
const FREE_FOR: Duration = Duration::from_hours(7 * 24);

/// Where they are, and whether anything is to be held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    pub dir: PathBuf,
    /// Otherwise there is to be none.
    pub hold: bool,
}

/// The files, and what was said of them last.
#[derive(Debug)]
pub struct Standing {
    flags: Flags,
    /// The server's queue.
    spool: PathBuf,
    hold: bool,
    told: Option<String>,
    state: Arc<State>,
}

/// What of the flags is not as it should be, for whoever asks.
#[derive(Debug, Default)]
pub struct State(Mutex<(u64, Option<String>)>);

impl State {
    /// Flags that could not be written or removed, and names that can have none.
    pub fn wrong(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0
    }

    /// Why some could not be written or removed.
    pub fn trouble(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).1.clone()
    }

    fn set(&self, wrong: u64, trouble: Option<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = (wrong, trouble);
    }
}

/// Makes the directory. Nothing when nothing is to be held and there is none.
///
/// # Errors
/// The whole text for the operator: somebody is to be held, and would not be.
pub fn open(settings: Option<&Settings>, program: Option<&Path>) -> Result<Option<Standing>, String> {
    let Some(Settings { dir, hold }) = settings else { return Ok(None) };
    // A queue directory may have been left behind by a server that is gone.
    let program = match instances::program(program) {
        Ok(program) if *hold || dir.is_dir() => program,
        _ => return Ok(None),
    };
    match flags(dir, &program) {
        Ok((flags, spool)) => {
            tracing::info!("flags for Exim: {}", dir.display());
            Ok(Some(Standing { flags, spool, hold: *hold, told: None, state: Arc::default() }))
        }
        Err(why) if *hold => Err(format!("cannot hold mail at Exim: {why}")),
        Err(why) => {
            tracing::warn!("what lies in {} is not looked after: {why}", dir.display());
            Ok(None)
        }
    }
}

fn flags(dir: &Path, program: &str) -> Result<(Flags, PathBuf), String> {
    let spool = servers::exim_spool(program)?;
    let meta = std::fs::metadata(&spool).map_err(|why| format!("cannot look at {}: {why}", spool.display()))?;
    let flags = Flags::new(dir.to_owned(), meta.gid());
    let (dir, group) = (dir.display(), meta.gid());
    flags.make_equal(&[]).map_err(|why| {
        format!("{}; make it as root: install -d -o USER -g {group} -m 2750 {dir}, USER being the agent's", why.first)
    })?;
    flags.can_be_reached()?;
    Ok((flags, spool))
}

/// Lets messages pass that are released while their account is held, or no more.
#[derive(Debug, Clone)]
pub struct Passes(Flags);

impl Passes {
    /// # Errors
    /// The whole text for the operator.
    pub fn set(&self, ids: &[QueueId], pass: bool) -> Result<(), String> {
        let names: Vec<String> = ids.iter().map(QueueId::to_string).collect();
        self.0.set(FREE, names.iter().map(String::as_str), pass)
    }
}

/// What the server's rules are to find.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    pub held: Marks,
    /// Those of them of which no more may be held.
    pub full: Marks,
    /// Mail of held logins is refused.
    pub refuse_logins: bool,
    /// A limit could be crossed by the next message of anybody.
    pub volume: bool,
    /// Whose clients are asked about besides this host's own: one a line.
    pub networks: String,
}

/// The files of each subdirectory; `nameless` is told of who can have none.
pub fn wanted(told: &Told, nameless: &mut dyn FnMut(&str, &str)) -> Vec<(&'static str, BTreeSet<String>)> {
    let Told { held, full, .. } = told;
    let own = KINDS.into_iter().zip([&held.users, &held.logins, &held.domains]);
    let of_full = FULL.into_iter().zip([&full.users, &full.logins, &full.domains]);
    let mut wanted = Vec::new();
    for ((dir, identities), kind) in own.chain(of_full).zip(KINDS.into_iter().chain(KINDS)) {
        let mut names = BTreeSet::new();
        for identity in identities {
            match flag(kind, identity) {
                Some(name) => drop(names.insert(name)),
                None if dir == kind => nameless(kind, identity),
                None => {}
            }
        }
        wanted.push((dir, names));
    }
    let rules = [(told.refuse_logins, REFUSE_LOGINS), (told.volume, VOLUME)];
    let rules = rules.into_iter().filter(|(stands, _)| *stands).map(|(_, name)| name.to_owned());
    wanted.push((RULES, rules.collect()));
    wanted
}

impl Standing {
    pub fn passes(&self) -> Passes {
        Passes(self.flags.clone())
    }

    /// Where the server asks.
    pub fn beside(&self) -> Beside {
        Beside { socket: self.flags.dir().join(SOCKET), spool: self.spool.clone() }
    }

    pub fn state(&self) -> Arc<State> {
        Arc::clone(&self.state)
    }

    /// Makes the files equal to what is held.
    pub fn tell(&mut self, told: &Told) {
        self.flags.forget(FREE, FREE_FOR);
        let (nobody, mut refused) = (Told::default(), Vec::new());
        let told = if self.hold { told } else { &nobody };
        let wanted = wanted(told, &mut |kind, identity| {
            refused.push(format!("{kind}:{}", crate::mail::text::clean(identity.as_bytes(), 64)));
        });
        let nameless = refused.len() as u64;
        let refused = (!refused.is_empty()).then(|| {
            format!("no flag can have the name {}: its mail is put on hold once it is queued", refused.join(", "))
        });
        let equal = self.flags.make_equal(&wanted).and_then(|done| {
            let said = self.flags.say(NETWORKS, &told.networks);
            said.map(|()| done).map_err(|first| Wrong { count: 1, first })
        });
        let trouble = equal.as_ref().err().map(|wrong| {
            format!("{}; mail of blocked accounts may pass or stay; tried again each minute", wrong.first)
        });
        self.state.set(nameless + equal.as_ref().err().map_or(0, |wrong| wrong.count), trouble.clone());
        let said = match equal {
            Ok((0, 0)) => refused,
            Ok((made, removed)) => {
                tracing::debug!("flags in {}: {made} new, {removed} removed", self.flags.dir().display());
                refused
            }
            Err(_) => trouble,
        };
        if let Some(said) = &said
            && self.told.as_ref() != Some(said)
        {
            tracing::error!("{said}");
        }
        self.told = said;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_names_are_refused_and_told_and_nobody_is_held_by_watching() {
        let dir = tempfile::tempdir().unwrap();
        let group = std::fs::metadata(dir.path()).unwrap().gid();
        let flags = Flags::new(dir.path().join("gate"), group);
        let spool = PathBuf::new();
        let mut standing = Standing { flags, spool, hold: true, told: None, state: Arc::default() };
        let own = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let marks = Marks { users: own(&["web1", ".."]), logins: own(&["a/b@c.test", ""]), domains: own(&["c.test"]) };
        let found = || {
            let kinds = KINDS.map(|kind| std::fs::read_dir(dir.path().join("gate").join(kind)).unwrap());
            let mut names: Vec<_> =
                kinds.into_iter().flatten().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        };
        let full = Marks { users: own(&["web1", ".."]), ..Marks::default() };
        let marks = Told { held: marks, full, refuse_logins: true, volume: false, networks: "10.9.0.0/16\n".into() };
        standing.tell(&marks);
        assert_eq!(found(), ["a\u{1}b@c.test", "c.test", "web1"]);
        let gate = dir.path().join("gate");
        assert!(gate.join("full-user/web1").is_file() && gate.join("rules/refuse-logins").is_file());
        assert_eq!(std::fs::read_to_string(gate.join("networks")).unwrap(), marks.networks);
        let told = standing.told.clone().unwrap();
        assert!(told.contains("user:..") && told.contains("auth:"), "{told}");
        assert_eq!((standing.state().wrong(), standing.state().trouble()), (2, None), "names that can have none");
        // What is no file cannot be removed as one.
        let (user, state) = (dir.path().join("gate/user"), standing.state());
        std::fs::create_dir_all(user.join("in-the-way")).unwrap();
        standing.tell(&Told::default());
        assert!(state.trouble().unwrap().contains("remove the flag") && state.wrong() == 1, "{state:?}");
        std::fs::remove_dir(user.join("in-the-way")).unwrap();
        standing.tell(&Told::default());
        assert_eq!((state.wrong(), state.trouble()), (0, None));
        standing.hold = false;
        standing.tell(&marks);
        assert_eq!((found(), standing.told), (Vec::<String>::new(), None));
        assert!(!gate.join("full-user/web1").exists() && !gate.join("networks").exists());
    }
}
