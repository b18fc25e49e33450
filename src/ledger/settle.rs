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

/// Changes on their way to the servers of their hosts.
#[derive(Clone, Default)]
pub(super) struct Spreading(Arc<Mutex<Followed>>);

/// Of each change, and of each value that left by one: what ends when it is followed no more.
#[derive(Default)]
struct Followed {
    changes: HashMap<(String, String), watch::Receiver<()>>,
    records: HashMap<RecordId, watch::Receiver<()>>,
}

impl Spreading {
    /// Follows `record` with the change that `host` calls `ticket`, for as long as that is under way.
    pub(super) fn follow(
        &self,
        record: &RecordId,
        (provider, host, ticket): (&str, &Arc<dyn Provider>, &str),
        clock: &Clock,
    ) {
        let change = (provider.to_owned(), ticket.to_owned());
        let Some(following) = self.begin(record, change) else {
            return;
        };
        let (host, clock) = (Arc::clone(host), clock.clone());
        tokio::spawn(async move {
            // Also a plug-in that falls over leaves nobody waiting.
            let (provider, ticket) = &following.change;
            settled(provider, host, ticket, &clock).await;
        });
    }

    /// Has `record` follow `change`; nothing of a change that is followed already.
    fn begin(&self, record: &RecordId, change: (String, String)) -> Option<Following> {
        let mut followed = self.followed();
        let known = followed.changes.get(&change).cloned();
        let (ends, until) = match known {
            Some(until) => (None, until),
            None => {
                let (ends, until) = watch::channel(());
                followed.changes.insert(change.clone(), until.clone());
                (Some(ends), until)
            }
        };
        followed.records.insert(record.clone(), until);
        let all = self.clone();
        ends.map(|ends| Following { all, change, ends })
    }

    /// How far `record` is, which its host has taken.
    pub(super) fn placed(&self, record: &RecordId) -> Placed {
        match self.followed().records.contains_key(record) {
            true => Placed::Spreading,
            false => Placed::There,
        }
    }

    /// Waits until `record` is followed no more.
    pub(super) async fn over(&self, record: &RecordId) {
        let until = self.followed().records.get(record).cloned();
        if let Some(mut until) = until {
            // Nothing is ever sent: it ends.
            let _ = until.changed().await;
        }
    }

    fn followed(&self) -> MutexGuard<'_, Followed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One change that is followed, until this is dropped.
struct Following {
    all: Spreading,
    change: (String, String),
    ends: watch::Sender<()>,
}

impl Drop for Following {
    fn drop(&mut self) {
        let mut followed = self.all.followed();
        followed.changes.remove(&self.change);
        let ended = self.ends.subscribe();
        // A later change may have a value follow that one.
        let goes_on = |it: &watch::Receiver<()>| !it.same_channel(&ended);
        followed.records.retain(|_, it| goes_on(it));
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
