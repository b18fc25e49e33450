//! Calls a URL after each healthy round: whoever waits for the call hears when it stays away.
//!
//! A round is 5 minutes in which the scheduler gave certificates their turns. It is healthy when no certificate is
//! failing or has expired at its end. The first one ends when everything was looked at once; one ends early when
//! health returns.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use reqwest::Client;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::http;
use super::outbox::DEADLINE;
use crate::clock::Clock;
use crate::config::Address;
use crate::run::shared::Notice;

/// How long a round takes.
const ROUND: Duration = Duration::from_secs(300);
/// A call that failed is repeated after this.
const AGAIN: Duration = Duration::from_secs(60);
/// How often the scheduler is looked at when it stood still.
const LOOK: Duration = Duration::from_secs(1);

/// Counts the turns of the scheduler; cheap to clone.
#[derive(Clone, Default)]
pub struct Rounds(Arc<AtomicU64>);

impl Rounds {
    /// The scheduler gave certificates their turns once more.
    pub fn beat(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The heart.
pub(super) struct Heart {
    /// What is called.
    pub(super) address: Address,
    /// Whether no certificate is failing or has expired; `false` until that is known.
    pub(super) health: watch::Receiver<bool>,
    /// The scheduler.
    pub(super) rounds: Rounds,
    /// Where `status` looks.
    pub(super) notice: Notice,
    /// Time.
    pub(super) clock: Clock,
    /// Ends it.
    pub(super) stop: CancellationToken,
}

impl Heart {
    /// Beats until told to stop.
    pub(super) async fn serve(mut self) {
        let (mut next, mut counted, mut was_called) = (Duration::ZERO, 0, true);
        loop {
            let is_healthy = *self.health.borrow_and_update();
            let (now, count) = (self.clock.elapsed(), self.rounds.count());
            let pause = match (is_healthy, next.saturating_sub(now)) {
                (false, _) => ROUND,
                (true, Duration::ZERO) if count == counted => LOOK,
                (true, Duration::ZERO) => {
                    let called = self.call().await;
                    self.note(was_called, &called);
                    was_called = called.is_ok();
                    let pause = if was_called { ROUND } else { AGAIN };
                    (next, counted) = (self.clock.elapsed() + pause, count);
                    pause
                }
                (true, pause) => pause,
            };
            tokio::select! {
                biased;
                () = self.stop.cancelled() => break,
                changed = self.health.changed() => match changed {
                    // Health that has returned is news.
                    Ok(()) => next = Duration::ZERO,
                    Err(_) => break,
                },
                () = self.clock.sleep(pause) => {}
            }
        }
    }

    async fn call(&self) -> Result<(), String> {
        let get = |client: &Client, url: Url| client.get(url);
        let called = http::call(&self.address, &self.clock, get);
        let in_time = self.clock.timeout(DEADLINE, called).await;
        in_time.unwrap_or_else(|| Err(format!("it did not answer within {} s", DEADLINE.as_secs())))
    }

    fn note(&self, was_called: bool, called: &Result<(), String>) {
        let sentence = called.as_ref().err().map(|reason| {
            let shown = self.address.shown();
            format!("the heartbeat does not reach {shown}: {reason}; it is called again")
        });
        match &sentence {
            Some(sentence) if was_called => tracing::warn!("{sentence}"),
            None if !was_called => tracing::info!("the heartbeat is heard again"),
            _ => {}
        }
        self.notice.set(sentence);
    }
}
