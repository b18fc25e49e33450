//! Starts a plug-in when it is needed, and after it ended not before a pause.

use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};

use super::Settings;
use super::child::{Connection, End};
use super::log::Voice;
use crate::clock::Clock;
use crate::{Context, ErrorKind, ProviderError, leash};

/// A plug-in that was started answers `initialize` within this.
const START: Duration = Duration::from_secs(30);
/// After its end it is started again no sooner; each time twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The pause does not grow beyond this, and begins anew for a plug-in that was at work for longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Starts one plug-in.
pub(super) struct Starter {
    settings: Arc<Settings>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    start: Option<Start>,
    failed: Option<Failed>,
}

/// A start on its way, or what came of it. Whoever needs the plug-in helps it on.
type Start = Shared<BoxFuture<'static, Result<Arc<Connection>, End>>>;

/// A plug-in that came to its end.
struct Failed {
    error: ProviderError,
    pause: Duration,
    until: Duration,
}

impl Starter {
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            settings: Arc::new(settings),
            state: Mutex::default(),
        }
    }

    /// What sentences call the plug-in.
    pub(super) fn program(&self) -> &str {
        self.settings.program()
    }

    /// The plug-in, started if need be.
    pub(super) async fn connection(
        &self,
        context: &Context,
    ) -> Result<Arc<Connection>, ProviderError> {
        let clock = &context.clock;
        let late = || {
            let message = format!("{} was not ready in time", self.program());
            ProviderError::new(ErrorKind::Transient, message)
        };
        let patience = clock.until(context.deadline);
        if patience.is_zero() {
            return Err(late());
        }
        let start = self.start(clock)?;
        match clock.timeout(patience, start).await {
            Some(started) => started.map_err(|end| end.error),
            None => Err(late()),
        }
    }

    /// The next one who needs the plug-in starts it anew.
    pub(super) fn retire(&self, connection: &Arc<Connection>) {
        let mut state = self.state();
        let current = state.start.as_ref().and_then(Shared::peek);
        if let Some(Ok(current)) = current
            && Arc::ptr_eq(current, connection)
        {
            state.start = None;
        }
    }

    /// The start that is on its way or has succeeded, or a new one when its time has come.
    fn start(&self, clock: &Clock) -> Result<Start, ProviderError> {
        let mut state = self.state();
        if let Some(start) = &state.start {
            let end = match start.peek() {
                None => None,
                Some(Ok(connection)) => connection.end(),
                Some(Err(end)) => Some(end.clone()),
            };
            match end {
                None => return Ok(start.clone()),
                Some(end) => state.note(end),
            }
        }
        if let Some(failed) = &state.failed
            && clock.elapsed() < failed.until
        {
            return Err(failed.error.clone());
        }
        let start = start(Arc::clone(&self.settings), clock.clone());
        let start = start.boxed().shared();
        state.start = Some(start.clone());
        Ok(start)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn note(&mut self, end: End) {
        let pause = match &self.failed {
            Some(failed) if end.lived <= LONGEST_PAUSE => (failed.pause * 2).min(LONGEST_PAUSE),
            _ => FIRST_PAUSE,
        };
        let seconds = pause.as_secs();
        let error = &end.error;
        tracing::warn!("{error}; it is started again after {seconds} s at the earliest");
        self.start = None;
        self.failed = Some(Failed {
            error: end.error,
            pause,
            until: end.at + pause,
        });
    }
}

async fn start(settings: Arc<Settings>, clock: Clock) -> Result<Arc<Connection>, End> {
    let began = clock.elapsed();
    let started = try_start(&settings, &clock).await;
    started.map(Arc::new).map_err(|error| {
        let at = clock.elapsed();
        End {
            error,
            at,
            lived: at.saturating_sub(began),
        }
    })
}

async fn try_start(settings: &Settings, clock: &Clock) -> Result<Connection, ProviderError> {
    let program = settings.program();
    let mut secrets = Vec::new();
    for (name, source) in &settings.secrets {
        let unreadable = |error: &dyn std::fmt::Display| {
            let message = format!("the secret {name} of {program} cannot be had: {error}");
            ProviderError::new(ErrorKind::Auth, message)
                .hint("correct `secrets` in the configuration, or what it names")
        };
        let secret = source.read(clock).await.map_err(|it| unreadable(&it))?;
        secret.expose_text().map_err(|it| unreadable(&it))?;
        secrets.push((name.clone(), secret));
    }
    let started = leash::start(&settings.command, |command| {
        command.stdin(Stdio::piped());
    });
    let group = started.map_err(|error| {
        let message = format!("{program} could not be started: {error}");
        ProviderError::new(ErrorKind::Fatal, message)
            .hint("check its path and who may run it")
            .theirs()
    })?;
    let voice = Voice::new(program, secrets);
    Connection::new(group, voice, &settings.config, clock, START).await
}
