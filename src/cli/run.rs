//! `run`: the daemon. Ready, reload, drain, and what systemd hears of it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use countersign_providers::clock::Clock;
use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};

use super::Ending;
use super::arguments::Level;
use super::logging::{self, Levels};
use super::words::{clean, count};
use crate::config::Config;
use crate::control::{Served, Server};
use crate::daemon::Daemon;
use crate::measure::{self, Went};
use crate::notify::{Notifier, Rounds};
use crate::passed::PassedSockets;
use crate::run::heartbeat::Heartbeat;
use crate::run::progress::Watchers;
use crate::run::scheduler::{self, Order, Pulse};
use crate::run::stop::Stop;
use crate::web;

/// Everybody at work has this long to save what is under way.
const DRAIN: Duration = Duration::from_secs(5);
/// Without a watchdog nobody wants to know more often.
const NO_WATCHDOG: Duration = Duration::from_secs(60);

/// Notices about the configuration.
const RELOAD: &str = "reload";
const RESTART: &str = "restart";
/// A notice about sockets that were passed.
const PASSED: &str = "passed";

/// What a person or systemd asks for.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

/// How much is logged, which may change.
pub(super) struct Logs {
    pub(super) levels: Levels,
    /// On the command line, which goes before the configuration.
    pub(super) asked: Option<Level>,
}

/// One of them.
enum Asked {
    Stop,
    Reload,
}

pub(super) async fn run(
    config: Config,
    file: &Path,
    clock: Clock,
    passed: PassedSockets,
    logs: Logs,
) -> Ending {
    let mut signals = match Signals::listen() {
        Ok(signals) => signals,
        Err(error) => return Ending::yours(&error),
    };
    let mut daemon = match Daemon::open(&config, clock.clone(), Watchers::default()).await {
        Ok(daemon) => daemon,
        Err(error) => return Ending::yours(&error),
    };
    if let Some(nameserver) = &daemon.shared.nameserver
        && let Err(error) = nameserver.listen_with(&passed).await
    {
        return Ending::yours(&error);
    }
    let web = match &config.web {
        Some(settings) => match web::Server::bind(settings, &passed).await {
            Ok(server) => Some(server),
            Err(error) => return Ending::yours(&error),
        },
        None => None,
    };
    measure::configured(Went::Well, clock.now());
    if let Some(sentence) = passed.unwanted() {
        tracing::warn!("{sentence}");
        daemon.shared.notices.set(PASSED, Some(sentence));
    }
    let stop = Stop::default();
    let (orders, told) = mpsc::channel(1);
    let (configured, shared) = watch::channel(Arc::clone(&daemon.shared));
    let every = between_turns();
    let heartbeat = Heartbeat::new(clock.clone(), every);
    let web = web.map(|web| web.start(web::Served::new(shared.clone(), heartbeat.clone())));
    let served = Served {
        shared,
        orders: Some(orders.clone()),
    };
    let server = match Server::start(&config.state, served) {
        Ok(server) => server,
        Err(error) => return Ending::yours(&error),
    };
    let shared = Arc::clone(&daemon.shared);
    let notifier = Notifier::start(Arc::clone(&shared));
    let pulse = pulse(every, heartbeat, notifier.rounds());
    let mut serving = tokio::spawn(scheduler::serve(shared, told, stop.clone(), pulse));
    let many = count(config.certificates.len(), "certificate");
    tracing::info!("ready: {many}, state in {}", config.state.display());
    tell(&[NotifyState::Ready, NotifyState::Status(&many)]);
    loop {
        tokio::select! {
            asked = signals.next() => match asked {
                Asked::Stop => break,
                Asked::Reload => {
                    tell(&[NotifyState::Reloading]);
                    let said = reload(&mut daemon, file, &orders, &logs).await;
                    configured.send_replace(Arc::clone(&daemon.shared));
                    notifier.reload(Arc::clone(&daemon.shared));
                    tell(&[NotifyState::Ready, NotifyState::Status(&said)]);
                }
            },
            ended = &mut serving => {
                let why = ended.err().map_or("ended".to_owned(), |error| error.to_string());
                return Ending::Failed(Some(format!("the scheduler stopped by itself: {why}")));
            }
        }
    }
    tracing::info!("stopping: orders stay as they are for the next start");
    tell(&[NotifyState::Stopping]);
    drop(server);
    drop(web);
    stop.park();
    tokio::join!(clock.timeout(DRAIN, serving), notifier.stop());
    tracing::info!("stopped");
    Ending::Done
}

/// Everything is read and resolved first; on any error what was holds on. What to say of it.
async fn reload(
    daemon: &mut Daemon,
    file: &Path,
    orders: &mpsc::Sender<Order>,
    logs: &Logs,
) -> String {
    let config = match Config::load(file) {
        Ok(config) => config,
        Err(errors) => return refused(daemon, &errors.to_string()),
    };
    let many = count(config.certificates.len(), "certificate");
    let log = config.log;
    let restart = match daemon.reload(config).await {
        Ok(restart) => restart,
        Err(error) => return refused(daemon, &clean(&error.to_string())),
    };
    let level = logging::level(log, logs.asked, Level::Info);
    logs.levels.set(level);
    // The receiver lives as long as the scheduler, whose end is seen elsewhere.
    let _ = orders.send(Order::Reload(Arc::clone(&daemon.shared))).await;
    measure::configured(Went::Well, daemon.shared.clock.now());
    tracing::info!("reloaded: {many}");
    let restart = restart.iter().map(|key| format!("`{key}`"));
    let restart = restart.collect::<Vec<_>>().join(", ");
    let notice = (!restart.is_empty())
        .then(|| format!("changed in the configuration, which takes a restart: {restart}"));
    if let Some(notice) = &notice {
        tracing::warn!("{notice}");
    }
    daemon.shared.notices.set(RESTART, notice);
    daemon.shared.notices.set(RELOAD, None);
    many
}

/// Says that the file is not what holds, here and in `status`.
fn refused(daemon: &Daemon, errors: &str) -> String {
    let first = errors.lines().next().unwrap_or_default();
    let sentence = format!(
        "the configuration was not reloaded and stays as it was: {first}; see `countersign check`"
    );
    tracing::error!("{sentence}");
    measure::configured(Went::Wrong, daemon.shared.clock.now());
    daemon.shared.notices.set(RELOAD, Some(sentence));
    "the new configuration is refused".to_owned()
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.interrupt.recv() => Asked::Stop,
            _ = self.terminate.recv() => Asked::Stop,
            _ = self.hang_up.recv() => Asked::Reload,
        }
    }
}

/// The scheduler has a turn at least this often.
fn between_turns() -> Duration {
    sd_notify::watchdog_enabled().map_or(NO_WATCHDOG, |limit| NO_WATCHDOG.min(limit / 2))
}

/// The scheduler itself keeps systemd's watchdog quiet: when it stands still, the service is started again.
fn pulse(every: Duration, heartbeat: Heartbeat, rounds: Rounds) -> Pulse {
    let is_watched = sd_notify::watchdog_enabled().is_some();
    Pulse {
        every,
        beat: Box::new(move || {
            heartbeat.mark();
            rounds.beat();
            if is_watched {
                tell(&[NotifyState::Watchdog]);
            }
        }),
    }
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!("systemd cannot be told: {error}");
    }
}
