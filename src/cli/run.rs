//! `run`: the daemon. Ready, reload, drain, and what systemd hears of it.

use std::path::Path;
use std::time::Duration;

use countersign_providers::clock::Clock;
use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use super::Ending;
use super::words::{clean, count};
use crate::config::Config;
use crate::daemon::Daemon;
use crate::run::progress::Watchers;
use crate::run::scheduler::{self, Order, Pulse};
use crate::run::stop::Stop;

/// Everybody at work has this long to save what is under way.
const DRAIN: Duration = Duration::from_secs(5);
/// Without a watchdog nobody wants to know more often.
const NO_WATCHDOG: Duration = Duration::from_secs(60);

/// What a person or systemd asks for.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

/// One of them.
enum Asked {
    Stop,
    Reload,
}

pub(super) async fn run(config: Config, file: &Path, clock: Clock) -> Ending {
    let mut signals = match Signals::listen() {
        Ok(signals) => signals,
        Err(error) => return Ending::yours(&error),
    };
    let mut daemon = match Daemon::open(&config, clock.clone(), Watchers::default()).await {
        Ok(daemon) => daemon,
        Err(error) => return Ending::yours(&error),
    };
    if let Some(nameserver) = &daemon.shared.nameserver
        && let Err(error) = nameserver.listen().await
    {
        return Ending::yours(&error);
    }
    let stop = Stop::default();
    let (orders, told) = mpsc::channel(1);
    let shared = daemon.shared.clone();
    let mut serving = tokio::spawn(scheduler::serve(shared, told, stop.clone(), pulse()));
    let many = count(config.certificates.len(), "certificate");
    tracing::info!("ready: {many}, state in {}", config.state.display());
    tell(&[NotifyState::Ready, NotifyState::Status(&many)]);
    loop {
        tokio::select! {
            asked = signals.next() => match asked {
                Asked::Stop => break,
                Asked::Reload => {
                    tell(&[NotifyState::Reloading]);
                    let said = reload(&mut daemon, file, &orders).await;
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
    stop.park();
    clock.timeout(DRAIN, serving).await;
    tracing::info!("stopped");
    Ending::Done
}

/// Everything is read and resolved first; on any error what was holds on. What to say of it.
async fn reload(daemon: &mut Daemon, file: &Path, orders: &mpsc::Sender<Order>) -> String {
    let config = match Config::load(file) {
        Ok(config) => config,
        Err(errors) => {
            tracing::error!("the configuration stays as it was: {}", errors);
            return "the new configuration is refused".to_owned();
        }
    };
    let many = count(config.certificates.len(), "certificate");
    let restart = match daemon.reload(config).await {
        Ok(restart) => restart,
        Err(error) => {
            let sentence = clean(&error.to_string());
            tracing::error!("the configuration stays as it was: {sentence}");
            return "the new configuration is refused".to_owned();
        }
    };
    // The receiver lives as long as the scheduler, whose end is seen elsewhere.
    let _ = orders.send(Order::Reload(daemon.shared.clone())).await;
    tracing::info!("reloaded: {many}");
    for key in restart {
        tracing::warn!("`{key}` was changed; that takes a restart");
    }
    many
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

/// The scheduler itself keeps systemd's watchdog quiet: when it stands still, the service is started again.
fn pulse() -> Pulse {
    let watchdog = sd_notify::watchdog_enabled();
    Pulse {
        every: watchdog.map_or(NO_WATCHDOG, |limit| limit / 2),
        beat: Box::new(move || {
            if watchdog.is_some() {
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
