//! Follows a change until its host says that it has reached all of its servers, where it says so at all. Whoever asks some
//! of them sees nothing of the others.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use countersign_providers::clock::Clock;
use countersign_providers::{Provider, Settled};

use tokio::sync::watch;

use super::batch::{CALL_DEADLINE, context};
use crate::engine::attempt::Placed;
use crate::engine::ledger::RecordId;
use crate::measure::{self, Call};

/// The first look; a host that says so needs seconds.
const FIRST_LOOK: Duration = Duration::from_secs(2);
/// Further ones are further apart, up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Values on their way to the servers of their hosts: of each, what ends when it is followed no more.
#[derive(Clone, Default)]
pub(super) struct Spreading(Arc<Mutex<HashMap<RecordId, watch::Receiver<()>>>>);

impl Spreading {
    /// Follows `records`, which leave by one change, for as long as its host says that it is under way.
    pub(super) fn follow(
        &self,
        (provider, host, ticket): (String, Arc<dyn Provider>, String),
        records: Vec<RecordId>,
        clock: &Clock,
    ) {
        let (followed, until) = watch::channel(());
        let all = records.iter().map(|record| (record.clone(), until.clone()));
        self.all().extend(all);
        let (this, clock) = (self.clone(), clock.clone());
        tokio::spawn(async move {
            settled(&provider, host, &ticket, &clock).await;
            let mut all = this.all();
            for record in &records {
                // A later change may have the value follow that one.
                if all.get(record).is_some_and(|it| it.same_channel(&until)) {
                    all.remove(record);
                }
            }
            drop((all, followed));
        });
    }

    /// How far `record` is, which its host has taken.
    pub(super) fn placed(&self, record: &RecordId) -> Placed {
        match self.all().contains_key(record) {
            true => Placed::Spreading,
            false => Placed::There,
        }
    }

    /// Waits until `record` is followed no more.
    pub(super) async fn over(&self, record: &RecordId) {
        let until = self.all().get(record).cloned();
        if let Some(mut until) = until {
            // Nothing is ever sent: it ends.
            let _ = until.changed().await;
        }
    }

    fn all(&self) -> MutexGuard<'_, HashMap<RecordId, watch::Receiver<()>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns when `host` says that `ticket` is everywhere, or does not say; after its usual time at the latest. What then
/// is not there, the servers are asked for.
async fn settled(provider: &str, host: Arc<dyn Provider>, ticket: &str, clock: &Clock) {
    let end = clock.elapsed() + host.traits().propagation;
    let mut pause = FIRST_LOOK;
    loop {
        clock.sleep(pause).await;
        let (asked, context) = (clock.elapsed(), context(clock));
        let answered = clock.timeout(CALL_DEADLINE, host.settle(ticket, &context));
        let answer = answered.await;
        let took = clock.elapsed() - asked;
        let refused = (answer.as_ref()).and_then(|answer| Some(answer.as_ref().err()?.kind));
        measure::provider_called(provider, Call::Settle, refused, took);
        tracing::trace!(provider, ticket, ?answer, "is it everywhere?");
        match answer {
            Some(Ok(Settled::Everywhere | Settled::Unknown)) => return,
            Some(Err(error)) if error.kind.needs_person() => {
                tracing::warn!(
                    "provider {provider} does not tell whether its change is everywhere: {error}"
                );
                return;
            }
            Some(Ok(Settled::NotYet) | Err(_)) | None => {}
        }
        if clock.elapsed() >= end {
            tracing::debug!(
                provider,
                "its change is not everywhere after its usual time"
            );
            return;
        }
        pause = (pause * 3 / 2).min(LONGEST_PAUSE);
    }
}
