//! The mail servers on this host, by the name in their log: how their queues are worked on, and what they say of a message.

use super::logs;
use super::powers::Powers;
use crate::host::files;
use crate::host::gate::identity;
use crate::host::helper::{Held, MOST_IDS};
use crate::host::listing::{self, OnHold};
use crate::host::servers::{self, PostfixPlace, Tools};
use crate::host::spool::{self, Spool};
use crate::mail::{Envelope, HandedBy, Place, QueueId, Report, Server, Step, Verb};
use crate::mta::postfix::plan::Instance;
use crate::mta::{exim, postfix};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where the mail servers of this host are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Servers {
    /// Postfix's configuration directories; empty: those that it names itself.
    pub postfix: Vec<PathBuf>,
    /// Exim's program; `None`: where distributions and panels put it.
    pub exim: Option<PathBuf>,
}

impl Servers {
    /// There is one whose queue can be worked in.
    pub fn any(&self) -> bool {
        !directories(&self.postfix).is_empty() || program(self.exim.as_deref()).is_ok()
    }
}

/// The servers, as far as they have answered.
#[derive(Debug)]
pub struct Instances {
    tools: Servers,
    powers: Powers,
    known: Vec<PostfixPlace>,
    spool: Spool,
}

impl Instances {
    pub fn new(tools: Servers, powers: Powers) -> Instances {
        Instances { tools, powers, known: Vec::new(), spool: Spool::default() }
    }

    /// Whom messages on hold are from and for. A listing names the whole queue, whatever is asked of it.
    pub fn inspect(&mut self, places: &[Place]) -> Report {
        let mut report = Report::default();
        let mut wanted: BTreeSet<&Place> = places.iter().collect();
        let instances: BTreeSet<(Server, Arc<[u8]>)> =
            places.iter().map(|place| (place.server, place.instance.clone())).collect();
        for (server, name) in instances {
            let mut take = |OnHold { id, sender, recipients }| {
                let place = Place { server, instance: name.clone(), id };
                if wanted.remove(&place) {
                    report.envelopes.push(Envelope { place: place.clone(), sender, recipients });
                    report.done.push(place);
                }
            };
            if let Err(why) = self.list(server, &name, &mut take) {
                report.trouble.get_or_insert(why);
            }
        }
        report.missing = wanted.into_iter().cloned().collect();
        report
    }

    /// Every message on hold in these; why it could not be looked at all of them.
    pub fn search(
        &mut self,
        instances: &BTreeSet<(Server, Arc<[u8]>)>,
        take: &mut dyn FnMut(Envelope),
    ) -> Option<String> {
        let mut trouble = None;
        for (server, name) in instances {
            let mut take = |OnHold { id, sender, recipients }| {
                take(Envelope { place: Place { server: *server, instance: name.clone(), id }, sender, recipients });
            };
            if let Err(why) = self.list(*server, name, &mut take) {
                trouble.get_or_insert(why);
            }
        }
        trouble
    }

    /// Every message on hold, with its sender and its recipients.
    fn list(&mut self, server: Server, name: &[u8], take: &mut listing::Take<'_>) -> Result<(), String> {
        // Under the shipped unit neither of their programs may do what it is set-gid or set-uid for.
        if let Powers::Helper(helper) = &self.powers {
            let name = std::str::from_utf8(name).map_err(|why| why.to_string())?;
            let mut held = |held: Held| {
                let bytes = |text: String| text.into_bytes().into_boxed_slice();
                if let Some(id) = QueueId::new(held.id.as_bytes()) {
                    let recipients = held.recipients.into_iter().map(bytes).collect();
                    take(OnHold { id, sender: bytes(held.sender), recipients });
                }
            };
            return helper.envelopes(server, name, &mut held).map_err(|why| why.to_string());
        }
        match server {
            Server::Postfix => {
                let instance = self.of(name)?;
                listing::postfix(&instance.tools, &instance.config, take)
            }
            Server::Exim => listing::exim(&program(self.tools.exim.as_deref())?, take),
        }
    }

    /// How many bytes the files of these messages have: of Postfix of those that are on hold in this instance, of Exim of
    /// those that are in its queue.
    ///
    /// # Errors
    /// The whole text for the operator.
    pub fn sizes(&mut self, server: Server, name: &[u8], ids: &[QueueId]) -> Result<Vec<(QueueId, u64)>, String> {
        if let Powers::Helper(helper) = &self.powers {
            let name = std::str::from_utf8(name).map_err(|why| why.to_string())?;
            let mut found = Vec::new();
            let ids: Vec<QueueId> = ids.iter().copied().filter(|id| is_id(server, id)).collect();
            for some in ids.chunks(MOST_IDS) {
                found.extend(helper.sizes(server, name, some).map_err(|why| why.to_string())?);
            }
            return Ok(found);
        }
        if server == Server::Exim {
            return spool::sizes(self.spool.of(&program(self.tools.exim.as_deref())?)?, ids);
        }
        let hold = PathBuf::from(self.of(name)?.queue).join("hold");
        files::sizes(&hold, ids).map_err(|why| format!("cannot look at the messages in {}: {why}", hold.display()))
    }

    /// Those of these that are on hold.
    ///
    /// # Errors
    /// The whole text for the operator.
    pub fn on_hold(&mut self, server: Server, name: &[u8], ids: &[QueueId]) -> Result<BTreeSet<QueueId>, String> {
        if server == Server::Postfix {
            return Ok(self.sizes(server, name, ids)?.into_iter().map(|(id, _)| id).collect());
        }
        let (wanted, mut found): (BTreeSet<&QueueId>, _) = (ids.iter().collect(), BTreeSet::new());
        self.list(server, name, &mut |one| found.extend(Some(one.id).filter(|id| wanted.contains(id))))?;
        Ok(found)
    }

    /// Who handed in each of these messages in the queue of this instance of Postfix, of those whose files say it.
    ///
    /// # Errors
    /// The whole text for the operator.
    pub fn handed(&mut self, name: &[u8], ids: &[QueueId]) -> Result<Vec<(QueueId, HandedBy)>, String> {
        let mut found = Vec::new();
        let ids: Vec<QueueId> = ids.iter().copied().filter(postfix::plan::is_queue_id).collect();
        match &self.powers {
            Powers::Helper(helper) => {
                let name = std::str::from_utf8(name).map_err(|why| why.to_string())?;
                for some in ids.chunks(MOST_IDS) {
                    found.extend(helper.handed(name, some).map_err(|why| why.to_string())?);
                }
            }
            Powers::Own => found = identity::in_queue(&identity::Instance::here(self.of(name)?.queue), &ids),
        }
        Ok(found)
    }

    pub fn steps(&mut self, verb: Verb, server: Server, name: &[u8], places: &[Place]) -> Result<Vec<Step>, String> {
        match server {
            Server::Postfix => Ok(postfix::plan::plan(verb, places, &self.of(name)?)),
            Server::Exim => Ok(exim::plan::plan(verb, places, &program(self.tools.exim.as_deref())?)),
        }
    }

    /// The instance that logs under this name. All are asked again when none is known: they come and go.
    fn of(&mut self, name: &[u8]) -> Result<Instance, String> {
        let find = |instances: &[PostfixPlace]| {
            let its = instances.iter().find(|one| one.name.as_bytes() == name)?.clone();
            Some(Instance { tools: its.tools, config: its.config, queue: its.queue })
        };
        if let Some(found) = find(&self.known) {
            return Ok(found);
        }
        let mut problem = None;
        self.known.clear();
        for dir in directories(&self.tools.postfix) {
            match servers::postfix_place(&Tools::default(), &dir) {
                Ok(place) => self.known.push(place),
                Err(why) => problem = Some(why),
            }
        }
        find(&self.known).ok_or_else(|| {
            let name = crate::mail::text::clean(name, 64);
            let why = problem.map_or(String::new(), |why| format!(" ({why})"));
            format!("no instance of Postfix on this host logs as `{name}`{why}; set queue.config_directories")
        })
    }
}

/// An id of a form that the server gives its messages: another would have all of a request to the helper refused.
pub fn is_id(server: Server, id: &QueueId) -> bool {
    match server {
        Server::Postfix => postfix::plan::is_queue_id(id),
        Server::Exim => exim::plan::is_message_id(id),
    }
}

/// Postfix's configuration directories: those that are named, or those that it names itself.
pub fn directories(configured: &[PathBuf]) -> Vec<PathBuf> {
    if !configured.is_empty() {
        return configured.to_vec();
    }
    let installed = logs::servers().iter().filter(|one| one.server == Server::Postfix);
    installed.map(|one| one.place.clone()).filter(|place| place.is_absolute()).collect()
}

/// Exim's program: the one that is named, or the one that is installed.
///
/// # Errors
/// The whole text for the operator.
pub fn program(configured: Option<&Path>) -> Result<String, String> {
    let named = configured.map(|path| path.display().to_string());
    let found = named.or_else(|| servers::exim_program(&Tools::default()));
    found.ok_or_else(|| "no Exim was found on this host; name its program in queue.exim_program".to_owned())
}
