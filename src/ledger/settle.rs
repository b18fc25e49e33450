//! Waits until a host says that a change has reached all of its servers, where it says so at all. Whoever asks some of
//! them sees nothing of the others.

use std::sync::Arc;
use std::time::Duration;

use countersign_providers::clock::Clock;
use countersign_providers::{Provider, Settled};

use super::batch::{CALL_DEADLINE, context};
use crate::measure::{self, Call};

/// The first look; a host that says so needs seconds.
const FIRST_LOOK: Duration = Duration::from_secs(2);
/// Further ones are further apart, up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Returns when `host` says that `ticket` is everywhere, or does not say; after its usual time at the latest. What then
/// is not there, the servers are asked for.
pub(super) async fn settled(provider: &str, host: Arc<dyn Provider>, ticket: &str, clock: &Clock) {
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
