//! The agent, wired: store, engine, pump, web and signals. One function starts it, and returns when it has stopped.

use super::backend::AgentBackend;
use super::gate::{self, Gate};
use super::instances::Instances;
use super::numbers::counted;
use super::powers::Powers;
use super::pump::{self, Pump};
use super::setup::Setup;
use super::shared::Shared;
use super::{Exit, dispatch, flags, hooks, logs, queues, sizes, unlisted};
use crate::engine::Engine;
use crate::engine::tracker::Settings as TrackerSettings;
use crate::host::follow::wake::Waker;
use crate::host::tape::Tape;
use crate::host::{clock, files};
use crate::metrics::Metrics;
use crate::store::Store;
use crate::web;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;
use tokio::net::{TcpListener, UnixListener};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// How the agent was asked to start.
#[derive(Debug, Clone, Default)]
pub struct Start {
    pub config: Option<PathBuf>,
    /// Move a store that cannot be used aside and begin with an empty one.
    pub new_store: bool,
    /// Is told where the agent listens, as soon as it does.
    pub bound: Option<Sender<SocketAddr>>,
}

/// How often the accounts file is looked at for changes.
const WATCH_ACCOUNTS: Duration = Duration::from_secs(2);

/// Runs until SIGTERM or SIGINT. `Err` is the whole text for the operator.
pub fn run(mut setup: Setup, start: Start) -> Result<Exit, String> {
    make_state_dir(&setup.state_dir)?;
    let _lock = files::lock_state(&setup.state_dir).map_err(|why| format!("cannot start: {why}"))?;
    if start.new_store && Store::present(&setup.state_dir) {
        let aside = Store::move_aside(&setup.state_dir, clock::now()).map_err(|why| why.to_string())?;
        tracing::warn!("--new-store: what was there is now {}", aside.display());
    }
    let store = Store::open(&setup.state_dir, setup.store.clone()).map_err(|why| why.to_string())?;
    let saved = store.load().map_err(|why| why.to_string())?;
    let (seed, seed_row) = pump::seed(&saved);
    let settings =
        TrackerSettings { max_open: setup.max_open, details: true, keep_rows: true, ..TrackerSettings::default() };
    let mut engine = Engine::new(settings, setup.directory.clone(), setup.replies.clone(), seed);
    let metrics = Arc::new(Metrics::new(setup.metrics.clone()));
    let mut kept = pump::restore(saved, &mut engine, &metrics);
    kept.first_rows.extend(seed_row);
    let unlisted = keep_unlisted(&mut setup, &mut engine, &kept);
    metrics.config_loaded(unlisted.is_empty(), clock::now());
    if kept.damaged > 0 {
        tracing::warn!("left out because damaged: {}", counted(kept.damaged, "state row", "state rows"));
    }
    let waker = Waker::new(&[]);
    let shared = Arc::new(Shared::new(waker.handle()));
    shared.set_unlisted(unlisted);
    let powers = Powers::of_process(&setup.helper_socket);
    let scanned = queues::start(setup.counted_queues(), setup.queue_interval, &powers);
    say_what_is_followed(&setup);

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|why| format!("cannot start the web runtime: {why}"))?;
    let listeners = runtime.block_on(bind(&setup.web))?;
    if let Some(bound) = start.bound {
        // Whoever asked may have gone.
        let addresses = listeners.tcp.iter().filter_map(|listener| listener.local_addr().ok());
        addresses.take_while(|address| bound.send(*address).is_ok()).for_each(drop);
    }
    let flags = flags::open(setup.flags.as_ref(), setup.mail_servers.exim.as_deref())?;
    let passes = flags.as_ref().map(flags::Standing::passes);
    let hands = dispatch::start(setup.mail_servers.clone(), powers.another(), passes, shared.clone(), waker.handle())?;
    let (told, lost) = hooks::start(&setup.hooks, std::mem::take(&mut kept.notices))?;
    kept.first_rows.extend(lost.into_iter().map(pump::notice_row));
    let gate = open_tape(&setup, seed)?;
    let sizes = match gate.as_ref().filter(|_| setup.doors || flags.is_some()) {
        Some(_) => Some(sizes::start(Instances::new(setup.mail_servers.clone(), powers.another()))?),
        None => None,
    };
    let flagged = flags.as_ref().map(flags::Standing::state);
    let beside = flags.as_ref().map(flags::Standing::beside);
    let parts = (metrics.clone(), shared.clone());
    let pump = Pump::new(
        setup.clone(),
        engine,
        store,
        kept,
        waker,
        parts.0,
        parts.1,
        scanned,
        hands,
        told,
        gate.clone(),
        flags,
        sizes,
    );
    // The pump has told it who is held: not a message of theirs passes.
    let (close_gate, closed) = watch::channel(false);
    let configured = setup.doors.then_some(&setup.mail_servers.postfix[..]);
    let doors = match gate.as_ref().filter(|_| setup.doors || beside.is_some()) {
        Some(gate) => Some(gate::open(gate, &powers, configured, beside, closed)?),
        None => None,
    };
    let thread = std::thread::Builder::new()
        .name("pump".into())
        .spawn(move || pump.run())
        .map_err(|why| format!("cannot start the thread that reads the logs: {why}"))?;
    let backend =
        Arc::new(AgentBackend::new(&setup, start.config.clone(), metrics, shared.clone(), powers, (gate, flagged)));
    let alive = runtime.block_on(serve(listeners, backend, &setup, &shared, || thread.is_finished()));
    if close_gate.send(true).is_err() {
        tracing::debug!("there is no gate to be closed");
    }
    // Whoever is being answered is answered to the end, for a moment.
    if doors.is_some_and(|doors| doors.join().is_err()) {
        tracing::error!("the gate's thread has ended by a fault");
    }
    shared.stop();
    let joined = thread.join();
    if let Some(socket) = &setup.web.socket
        && let Err(why) = std::fs::remove_file(socket)
    {
        tracing::debug!("removing {}: {why}", socket.display());
    }
    match (alive, joined) {
        (true, Ok(true)) => {
            tracing::info!("stopped; everything that was read is in the store");
            Ok(Exit::Done)
        }
        (true, Ok(false)) => Err(format!(
            "stopped while the store could not be written: {}. Nothing is lost: the next start reads the logs again \
             from the last commit on, as long as they are there",
            shared.state().store_trouble.unwrap_or_default()
        )),
        _ => Err("the thread that reads the logs has ended by a fault; what was read up to the last commit is safe, \
                  and a restart goes on from there"
            .to_owned()),
    }
}

/// Nothing leaves because a line has disappeared from the accounts file while nobody looked: who is held and was listed
/// keeps what was theirs. Their names.
fn keep_unlisted(setup: &mut Setup, engine: &mut Engine, kept: &pump::Kept) -> Vec<String> {
    let kept = unlisted::of_engine(engine, &kept.listed, &setup.directory);
    if kept.is_empty() {
        return Vec::new();
    }
    setup.directory = unlisted::with(&setup.directory, &kept);
    engine.attribution.set_directory(setup.directory.clone());
    let names: Vec<String> = kept.into_iter().map(|one| one.name).collect();
    tracing::error!(
        "{}. What the file said of them before stays in force, also where it gives it to others now; {}",
        unlisted::text(&names),
        unlisted::NEXT
    );
    names
}

/// What the gate writes down, where there is a gate.
fn open_tape(setup: &Setup, seed: u64) -> Result<Option<Arc<Gate>>, String> {
    let Some(settings) = &setup.gate else { return Ok(None) };
    let tape = Tape::open(&setup.state_dir, clock::seed())
        .map_err(|why| format!("cannot open the gate's tape in {}: {why}", setup.state_dir.display()))?;
    Ok(Some(Arc::new(Gate::new(settings.clone(), setup.directory.clone(), tape, seed))))
}

fn make_state_dir(dir: &Path) -> Result<(), String> {
    std::fs::DirBuilder::new().recursive(true).mode(0o750).create(dir).map_err(|why| {
        format!(
            "cannot create the state directory {}: {why}; run as a user who may, or set state_dir in the configuration",
            dir.display()
        )
    })
}

fn say_what_is_followed(setup: &Setup) {
    for path in logs::other_names(&setup.logs) {
        tracing::warn!("{} is another name of a log that is followed already: it is left out", path.display());
    }
    if !setup.logs.is_empty() {
        return;
    }
    let found = logs::found();
    match &found.because {
        Some(because) if found.is_odd => tracing::warn!("{because}"),
        Some(because) => tracing::info!("{because}"),
        None => {}
    }
    if found.logs.is_empty() {
        tracing::warn!("{}", logs::advice());
    }
}

async fn bind(settings: &web::Settings) -> Result<web::Listeners, String> {
    let mut tcp = Vec::new();
    for address in &settings.listen {
        let listener = TcpListener::bind(address).await.map_err(|why| {
            format!("cannot listen on {address}: {why}; another program may use the port: set `listen` to a free one")
        })?;
        let address = listener.local_addr().map_or(*address, |address| address);
        tracing::info!("figures: http://{address}/metrics");
        tcp.push(listener);
    }
    let unix = match &settings.socket {
        Some(path) => {
            // The state directory is locked, so a socket that is there was left behind.
            if let Err(why) = std::fs::remove_file(path)
                && why.kind() != std::io::ErrorKind::NotFound
            {
                return Err(format!("cannot remove the old socket {}: {why}", path.display()));
            }
            let listener = UnixListener::bind(path).map_err(|why| {
                format!("cannot listen on {}: {why}; is the path longer than 107 bytes?", path.display())
            })?;
            // Who may do what is decided by the peer's credentials.
            let open = std::fs::Permissions::from_mode(0o666);
            std::fs::set_permissions(path, open).map_err(|why| format!("cannot open {}: {why}", path.display()))?;
            Some(listener)
        }
        None => None,
    };
    Ok(web::Listeners { tcp, unix })
}

/// Serves until a signal says stop (true) or the pump has ended (false).
async fn serve(
    listeners: web::Listeners,
    backend: Arc<AgentBackend>,
    setup: &Setup,
    shared: &Arc<Shared>,
    pump_ended: impl Fn() -> bool,
) -> bool {
    let (stop, stopped) = watch::channel(false);
    let server = tokio::spawn(web::serve(listeners, backend.clone(), setup.web.clone(), stopped));
    let (Ok(mut term), Ok(mut int), Ok(mut hup)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()), signal(SignalKind::hangup()))
    else {
        tracing::error!("cannot listen for signals");
        return false;
    };
    let mut look = tokio::time::interval(WATCH_ACCOUNTS);
    let mut seen = modified(backend.accounts_file().as_deref());
    let alive = loop {
        tokio::select! {
            _ = term.recv() => break true,
            _ = int.recv() => break true,
            _ = hup.recv() => {
                reload(&backend).await;
            }
            _ = look.tick() => {
                if pump_ended() {
                    break false;
                }
                let now = modified(backend.accounts_file().as_deref());
                if now != seen {
                    seen = now;
                    tracing::info!("the accounts file has changed");
                    reload(&backend).await;
                }
            }
        }
    };
    tracing::info!("stopping");
    shared.stop();
    if stop.send(true).is_err() || server.await.is_err() {
        tracing::debug!("the web server had ended already");
    }
    alive
}

async fn reload(backend: &Arc<AgentBackend>) {
    use web::Backend;
    let backend = backend.clone();
    let done = tokio::task::spawn_blocking(move || backend.reload()).await;
    if !matches!(done, Ok(Ok(()))) {
        tracing::debug!("why is logged there");
    }
}

fn modified(path: Option<&Path>) -> Option<(std::time::SystemTime, u64)> {
    let meta = std::fs::metadata(path?).ok()?;
    Some((meta.modified().ok()?, meta.len()))
}
