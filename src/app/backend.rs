//! The agent as the web sees it: figures from memory, everything else from the store's committed state.

use super::chain;
use super::flags;
use super::gate::Gate;
use super::ingest;
use super::instances::Instances;
use super::numbers::counted;
use super::orders;
use super::powers::Powers;
use super::pump::not_durable;
use super::selection::{Selections, Waiting};
use super::setup::{self, Setup};
use super::shared::{NotDone, Reply, Request, Shared, Undo};
use super::traces;
use super::unlisted;
use super::verdicts;
use super::views::{self, Named};
use crate::engine::attribution::Wanted;
use crate::engine::sanctions::Outcome;
use crate::host::names::Names;
use crate::host::{clock, process};
use crate::mail::{Actor, Envelope, Owner, Place, text};
use crate::metrics::{Metrics, Scrape};
use crate::store::Views;
use crate::web::api::{
    AccountAction, AccountActionView, AccountView, AccountsQuery, AccountsView, Answer, Backend, BackendError,
    ErrorsView, HistoryView, LandingView, MetricsQuery, SourceView, StatusView, TraceQuery, TraceView, VerdictsView,
};
use crate::web::{
    Caller, EnforcementView, OrderAction, OrderRequest, OrderView, SelectRequest, SelectionView, UndoRequest, UndoView,
    UndoneView,
};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

pub struct AgentBackend {
    state_dir: PathBuf,
    config: Option<PathBuf>,
    /// Settings that only a restart can change, as they are in force.
    started_with: Setup,
    /// The accounts file in force; a reload can name another.
    accounts_file: Mutex<Option<PathBuf>>,
    metrics: Arc<Metrics>,
    shared: Arc<Shared>,
    started: crate::mail::Time,
    powers: Powers,
    gate: Option<Arc<Gate>>,
    flags: Option<Arc<flags::State>>,
    /// What of a block is not in force.
    chain: Arc<chain::Kept>,
    /// There is a Postfix here, whose queue only root may touch.
    has_queue: OnceLock<bool>,
    /// What the queue is asked through, and the lists that were chosen from it.
    instances: Mutex<Instances>,
    selections: Mutex<Selections>,
    /// How long a message is held at most: a reload can change it.
    held_max_secs: AtomicI64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic elsewhere leaves no half-written state that matters here.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How long a person's change may wait for the pump.
const PATIENCE: Duration = Duration::from_secs(20);

impl AgentBackend {
    pub fn new(
        setup: &Setup,
        config: Option<PathBuf>,
        metrics: Arc<Metrics>,
        shared: Arc<Shared>,
        powers: Powers,
        (gate, flags): (Option<Arc<Gate>>, Option<Arc<flags::State>>),
    ) -> AgentBackend {
        AgentBackend {
            state_dir: setup.state_dir.clone(),
            config,
            started_with: setup.clone(),
            accounts_file: Mutex::new(setup.accounts_file.clone()),
            metrics,
            shared,
            started: clock::now(),
            instances: Mutex::new(Instances::new(setup.mail_servers.clone(), powers.another())),
            powers,
            gate,
            flags,
            chain: Arc::new(chain::Kept::new(chain::Wanted::of(setup))),
            has_queue: OnceLock::new(),
            selections: Mutex::default(),
            held_max_secs: AtomicI64::new(setup.hold.held_max_secs),
        }
    }

    /// What of a block is not in force, in words.
    fn not_in_force(&self) -> Vec<String> {
        self.chain.now().not_in_force().map(chain::Gap::said).collect()
    }

    /// Why no order can be carried out in the queue; waits for the helper for a moment.
    fn powerless(&self) -> Option<String> {
        let why = self.powers.trouble()?;
        let has_queue = || self.started_with.mail_servers.any();
        self.has_queue.get_or_init(has_queue).then_some(why)
    }

    /// The accounts file in force.
    pub fn accounts_file(&self) -> Option<PathBuf> {
        lock(&self.accounts_file).clone()
    }

    fn views(&self) -> Answer<Views> {
        Views::open(&self.state_dir).map_err(|why| BackendError::Unavailable(why.to_string()))
    }

    /// Nothing can be made durable while the store cannot be written; the pump need not be asked to know that.
    fn can_change(&self) -> Answer<()> {
        match self.shared.state().store_trouble {
            Some(why) => Err(BackendError::Unavailable(not_durable(&why))),
            None => Ok(()),
        }
    }

    fn change<T>(&self, request: impl FnOnce(Reply<T>) -> Request) -> Answer<T> {
        self.can_change()?;
        let (answer, answered) = sync_channel(1);
        if !self.shared.ask(request(answer)) {
            return Err(BackendError::Unavailable("too many changes are waiting; try again".to_owned()));
        }
        match answered.recv_timeout(PATIENCE) {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(NotDone::Refused(why))) => Err(BackendError::Conflict(why)),
            Ok(Err(NotDone::Later(why))) => Err(BackendError::Unavailable(why)),
            Err(_) => Err(BackendError::Unavailable(
                "the agent did not answer in time; the change may still happen: look before you try again".to_owned(),
            )),
        }
    }
}

impl AgentBackend {
    /// Reads the configuration and hands it to the pump, which may refuse it.
    fn load_again(&self) -> Answer<()> {
        let new = setup::load(self.config.as_deref()).map_err(BackendError::BadRequest)?;
        for key in self.started_with.needs_restart(&new) {
            tracing::warn!("{key} has changed: that takes effect when the agent is started again");
        }
        self.change(|answer| Request::Settings {
            directory: Box::new(new.directory),
            replies: Box::new(new.replies),
            own_addresses: new.own_addresses,
            hold: new.hold.clone(),
            rules: new.rules,
            enforcement: Box::new(new.enforcement),
            answer,
        })?;
        self.metrics.set_max_accounts(new.metrics.max_accounts);
        self.held_max_secs.store(new.hold.held_max_secs, Ordering::Relaxed);
        *lock(&self.accounts_file) = new.accounts_file;
        Ok(())
    }

    /// What of the accounts file is not in force.
    fn left_out(&self) -> Option<String> {
        let names = self.shared.unlisted();
        let gap = || format!("the accounts file to the letter: {}; {}", unlisted::text(&names), unlisted::NEXT);
        (!names.is_empty()).then(gap)
    }

    /// Who gives an order.
    fn actor(&self, caller: Caller) -> Actor {
        match caller {
            Caller::Token => Actor::Token,
            Caller::User { uid } => {
                let user = Names::of_host(self.started_with.name_timeout).user(uid);
                Actor::Person { uid, name: user.map(|user| user.login).unwrap_or_default().into() }
            }
        }
    }

    /// An account that has not sent yet.
    fn admit(&self, name: &str) -> Answer<Owner> {
        let mut names = Names::of_host(self.started_with.name_timeout);
        let user = ingest::user(&mut names, Wanted::Login(name.as_bytes()));
        let name = name.to_owned();
        self.change(|answer| Request::Admit { name, user, answer }).map_err(|why| match why {
            BackendError::Conflict(why) => BackendError::NotFound(why),
            other => other,
        })
    }
}

impl Backend for AgentBackend {
    fn metrics(&self, query: &MetricsQuery) -> String {
        let process = process::figures();
        let flags_wrong = self.flags.as_ref().map(|flags| flags.wrong());
        let scrape = Scrape { format: query.format, scraper: &query.scraper, now: clock::now(), process, flags_wrong };
        self.metrics.render(&scrape)
    }

    fn healthy(&self) -> bool {
        !self.shared.state().stopped
    }

    fn ready(&self) -> Result<Vec<String>, String> {
        let state = self.shared.state();
        if state.stopped {
            return Err("the agent is stopping".to_owned());
        }
        if let Some(why) = state.store_trouble {
            return Err(why);
        }
        if state.sources.is_empty() {
            return Err(super::logs::advice());
        }
        if let Some(why) = state.sources.iter().find_map(|source| source.trouble.clone()) {
            return Err(why);
        }
        if !state.caught_up {
            let left: Vec<String> = state
                .sources
                .iter()
                .filter_map(|s| s.left().map(|left| format!("; {}: {left} to go", s.name)))
                .collect();
            return Err(format!("still reading what was written before the start{}", left.concat()));
        }
        if let Some(why) = self.flags.as_ref().and_then(|flags| flags.trouble()) {
            return Err(why);
        }
        // Asked often, so what is known is said and nobody is waited for.
        if let Some(why) = self.gate.as_ref().and_then(|gate| gate.trouble()) {
            return Err(why);
        }
        let chain = self.chain.last();
        let gaps = chain.iter().flat_map(|chain| chain.not_in_force()).map(chain::Gap::said);
        Ok(gaps.chain(self.left_out()).collect())
    }

    fn reload(&self) -> Answer<()> {
        let done = self.load_again();
        if let Err(why) = &done {
            self.metrics.config_loaded(false, clock::now());
            for problem in why.to_string().lines() {
                tracing::error!("reload refused, the old configuration stays: {problem}");
            }
        }
        done
    }

    fn glance(&self) -> LandingView {
        let glance = self.metrics.glance();
        let figure = |name: &str, value: u64| (name.to_owned(), value.to_string());
        LandingView {
            figures: vec![
                figure("Log lines read", glance.lines),
                figure("Messages accepted", glance.messages),
                figure("Accounts known", glance.accounts_known),
                figure("Accounts with series of their own", glance.accounts_tracked),
            ],
        }
    }

    fn status(&self) -> Answer<StatusView> {
        let views = self.views()?;
        let state = self.shared.state();
        let mut status = views::status(&views).map_err(BackendError::Unavailable)?;
        status.started = views::when(self.started);
        status.waits_for = self.ready().err();
        status.ready = status.waits_for.is_none();
        status.store_up = state.store_trouble.is_none();
        let standing = self.shared.standing();
        let slow = standing.iter().filter(|held| held.slow).count();
        (status.held_accounts, status.delayed_accounts) = ((standing.len() - slow) as u64, slow as u64);
        status.open_messages = state.open_messages;
        if self.gate.is_some() || status.held_accounts > 0 {
            status.queue_trouble = self.powerless();
        }
        (status.armed_rules, status.rules_muted) = (state.armed_rules, state.rules_muted);
        status.incidents = state.incidents;
        status.not_in_force = self.not_in_force();
        status.not_in_force.extend(self.left_out());
        status.sources = state
            .sources
            .into_iter()
            .map(|source| SourceView {
                name: source.name,
                lines: source.lines,
                backlog_bytes: source.backlog_bytes,
                backlog_files: source.backlog_files,
                reading: source.reading,
                last_event: source.last_event.map(views::when),
                trouble: source.trouble,
            })
            .collect();
        Ok(status)
    }

    fn accounts(&self, query: &AccountsQuery) -> Answer<AccountsView> {
        views::accounts(&self.views()?, query)
    }

    fn account(&self, name: &str) -> Answer<AccountView> {
        let mut account = views::account(&self.views()?, name)?;
        if account.sanction.is_some() {
            account.not_in_force = self.not_in_force();
        }
        Ok(account)
    }

    fn history(&self, name: &str, days: u32) -> Answer<HistoryView> {
        views::history(&self.views()?, name, days)
    }

    fn errors(&self, name: &str, limit: u32) -> Answer<ErrorsView> {
        views::errors(&self.views()?, name, limit)
    }

    fn verdicts(&self, name: Option<&str>, limit: u32) -> Answer<VerdictsView> {
        verdicts::verdicts(&self.views()?, name, limit)
    }

    fn trace(&self, query: &TraceQuery) -> Answer<TraceView> {
        let held_max = self.held_max_secs.load(Ordering::Relaxed);
        // Opened first, or a message that comes on hold now would be found in the queue and nowhere else.
        let mut ask = |instances: &_, take: &mut dyn FnMut(Envelope)| lock(&self.instances).search(instances, take);
        traces::trace(&self.views()?, query, Some(held_max), Some(&mut ask))
    }

    fn order(&self, name: &str, request: &OrderRequest, caller: Caller) -> Answer<OrderView> {
        self.can_change()?;
        let (owner, name) = match views::named(&self.views()?, name) {
            Err(BackendError::NotFound(_)) if request.action == OrderAction::Block => {
                (self.admit(name)?, name.to_owned())
            }
            found => found.map(|named| (named.owner, named.name))?,
        };
        if !owner.is_account() {
            return Err(BackendError::BadRequest(format!("{name} is not an account")));
        }
        let by = self.actor(caller);
        let mut order =
            orders::read(request, owner, by, clock::now(), clock::seed()).map_err(BackendError::BadRequest)?;
        if let Some(selection) = &request.selection {
            let part = lock(&self.selections).of(owner, selection);
            order.part = Some(part.ok_or_else(|| {
                BackendError::Conflict(format!(
                    "no list of {name} has the name {selection}, or it is too old: select the messages again"
                ))
            })?);
        }
        let (id, action) = (order.id.to_string(), order.action.name());
        let done = self.change(|answer| Request::Order { order: Box::new(order), answer })?;
        let details = &done.details;
        let said = match done.outcome {
            Outcome::Already => format!("{name}: nothing to do, {details}; state {}", done.state.shown()),
            _ => {
                let scope = done.scope.filter(|_| request.action == OrderAction::Block);
                let scope = scope.map_or_else(String::new, |scope| format!(" (scope {scope})"));
                format!("{name}: {action}{scope}, state {}; {details}", done.state.shown())
            }
        };
        let said = match self.powerless() {
            Some(why) => format!("{said}; right now nothing in the queue can be held or released: {why}"),
            None => said,
        };
        let blocks = request.action == OrderAction::Block;
        let not_in_force = if blocks { self.not_in_force() } else { Vec::new() };
        let said = not_in_force.iter().fold(said, |said, gap| format!("{said}\nNOT IN FORCE: {gap}"));
        let (state, outcome) = (done.state.name().to_owned(), done.outcome.name().to_owned());
        Ok(OrderView { account: name, state, order: id, outcome, done: said, not_in_force })
    }

    fn select(&self, name: &str, wanted: &SelectRequest) -> Answer<SelectionView> {
        let Named { owner, name, .. } = views::named(&self.views()?, name)?;
        let filter = orders::filter(wanted).map_err(BackendError::BadRequest)?;
        let waiting = self.change(|answer| Request::Waiting { owner, answer })?;
        let mut envelopes = HashMap::new();
        if filter.needs_envelopes() && !waiting.is_empty() {
            let places: Vec<Place> = waiting.iter().map(|one| one.place.clone()).collect();
            let report = lock(&self.instances).inspect(&places);
            if let Some(why) = report.trouble {
                return Err(BackendError::Unavailable(format!("cannot look into the queue: {why}")));
            }
            envelopes.extend(report.envelopes.into_iter().map(|envelope| (envelope.place.clone(), envelope)));
        }
        let (of, now) = (waiting.len() as u64, clock::now());
        let named = || waiting.iter().filter(|one| !one.script.is_empty()).count() as u64;
        let with_script = filter.script.is_some().then(named);
        let meant = waiting.into_iter().filter(|one| filter.takes(one, envelopes.get(&one.place), now));
        let meant: Vec<Waiting> = meant.collect();
        let oldest = meant.iter().map(|one| one.since).min().map(views::when);
        let messages = meant.len() as u64;
        let selection = lock(&self.selections).keep(owner, meant.into_iter().map(|one| one.place).collect());
        Ok(SelectionView { account: name, messages, of, oldest, with_script, selection })
    }

    fn account_action(&self, name: &str, action: &AccountAction) -> Answer<AccountActionView> {
        let Named { owner, name, key, .. } = views::named(&self.views()?, name)?;
        if !owner.is_account() {
            return Err(BackendError::BadRequest(format!("{name} is not an account")));
        }
        let done = match action {
            AccountAction::Rename { to } => {
                let to = to.clone();
                if to.is_empty() || to == "other" || to != crate::mail::text::clean(to.as_bytes(), 128) {
                    return Err(BackendError::BadRequest(
                        "the new name must have 1 to 128 bytes of plain text and not be `other`".to_owned(),
                    ));
                }
                if to.contains(char::is_whitespace) {
                    return Err(BackendError::BadRequest(format!(
                        "the new name must be one word, and `{to}` has a space: take a dash or a dot"
                    )));
                }
                let key = key.as_deref().unwrap_or(&name);
                let by = if key == to {
                    String::new()
                } else {
                    format!("; commands take {key} as well, by which its mail is known")
                };
                let said = format!("{name} is now called {to}{by}");
                self.change(|answer| Request::Rename { owner, to, answer })?;
                said
            }
            AccountAction::Close {} => {
                self.change(|answer| Request::Close { owner, answer })?;
                format!("{name} is closed; its figures stay")
            }
            AccountAction::Forget {} => {
                self.change(|answer| Request::Forget { owner, answer })?;
                format!("{name} is forgotten: figures, history, errors and index entries are erased")
            }
        };
        let account = match action {
            AccountAction::Rename { to } => to.clone(),
            _ => name,
        };
        Ok(AccountActionView { account, done })
    }

    fn enforcement(&self, on: bool, caller: Caller) -> Answer<EnforcementView> {
        let by = self.actor(caller);
        let changed = self.change(|answer| Request::Enforcement { on, by, answer })?;
        let state = self.shared.state();
        let armed = counted(state.armed_rules.len() as u64, "rule is to block", "rules are to block");
        let done = match (changed, on) {
            (false, on) => format!("it is {} already", if on { "on" } else { "off" }),
            (true, false) => format!("enforcement off: rules say what they would do, and block nobody; {armed}"),
            (true, true) => match state.rules_muted.filter(|why| why.contains("dry_run")) {
                Some(why) => format!("enforcement on; {armed}, and block nobody all the same: {why}"),
                None => format!("enforcement on; {armed}"),
            },
        };
        Ok(EnforcementView { on, done })
    }

    fn undo(&self, wanted: &UndoRequest, caller: Caller) -> Answer<UndoView> {
        let since = orders::since(&wanted.since, clock::now()).map_err(BackendError::BadRequest)?;
        let undo = Undo { rule: wanted.rule.clone(), since, by: self.actor(caller), dry_run: wanted.dry_run };
        let undone = self.change(|answer| Request::Undo { undo, answer })?;
        let n = counted(undone.len() as u64, "account that it has blocked", "accounts that it has blocked");
        let rule = text::clean(wanted.rule.as_bytes(), 64);
        let done = match (undone.is_empty(), wanted.dry_run) {
            (true, _) => format!("rule {rule} has blocked nobody since {} who is blocked now", views::when(since)),
            (false, true) => format!("rule {rule}: {n} would be unblocked; nothing was done"),
            (false, false) => format!("rule {rule}: {n} unblocked"),
        };
        let accounts = undone.into_iter().map(|one| UndoneView {
            account: one.account,
            blocked: views::when(one.blocked),
            reason: one.reason,
            held: one.held,
            outcome: one.outcome.to_owned(),
            details: one.details,
        });
        Ok(UndoView { rule, since: views::when(since), accounts: accounts.collect(), done })
    }
}

/// Owners below the accounts have fixed names.
pub fn nobody(name: &str) -> Option<Owner> {
    crate::mail::Unattributed::ALL.into_iter().find(|why| why.name() == name).map(Owner::nobody)
}
