//! One batch: as few calls as the host allows, and a refused one split until the bad name is alone.

use std::collections::VecDeque;
use std::time::Duration;

use countersign_providers::clock::{Clock, later};
use countersign_providers::record::{Change, Verb, Zone};
use countersign_providers::{Context, ErrorKind, Provider, ProviderError};

use crate::engine::ledger::RecordId;
use crate::measure::{self, Call};

/// A call to a DNS host has this long.
pub(super) const CALL_DEADLINE: Duration = Duration::from_secs(30);

/// Changes of one zone.
#[derive(Default)]
pub(super) struct Batch(Vec<(RecordId, Change)>);

impl Batch {
    /// Adds a value to be there.
    pub(super) fn ensure(&mut self, record: &RecordId, ttl: u32) {
        self.push(record, Verb::Ensure, ttl);
    }

    /// Adds a value to be gone.
    pub(super) fn remove(&mut self, record: &RecordId) {
        self.push(record, Verb::Absent, 0);
    }

    fn push(&mut self, record: &RecordId, verb: Verb, ttl: u32) {
        let change = Change {
            verb,
            name: record.name.clone(),
            value: record.value.clone(),
            ttl,
        };
        self.0.push((record.clone(), change));
    }

    /// Makes the changes; `told` hears of each value whether it was to be there and what came of it.
    pub(super) async fn perform(
        self,
        provider: &str,
        host: &dyn Provider,
        zone: &Zone,
        clock: &Clock,
        mut told: impl FnMut(&RecordId, bool, Result<(), ProviderError>),
    ) {
        let size = host.traits().batch.max(1);
        let mut parts: VecDeque<Vec<_>> = self.0.chunks(size).map(<[_]>::to_vec).collect();
        while let Some(mut part) = parts.pop_front() {
            let changes: Vec<Change> = part.iter().map(|(_, change)| change.clone()).collect();
            tracing::trace!(zone = %zone.name, changes = changes.len(), "provider call");
            let context = context(clock);
            let asked = clock.elapsed();
            let result = match clock
                .timeout(CALL_DEADLINE, host.apply(zone, &changes, &context))
                .await
            {
                Some(result) => result,
                None => Err(no_answer(zone)),
            };
            tracing::trace!(zone = %zone.name, ok = result.is_ok(), "provider reply");
            let refused = result.as_ref().err().map(|error| error.kind);
            measure::provider_called(provider, Call::Apply, refused, clock.elapsed() - asked);
            match result {
                Err(error) if part.len() > 1 && is_of_one_name(error.kind) => {
                    let rest = part.split_off(part.len() / 2);
                    parts.push_front(rest);
                    parts.push_front(part);
                }
                result => {
                    for (record, change) in &part {
                        told(record, change.verb == Verb::Ensure, result.clone());
                    }
                }
            }
        }
    }
}

/// What a call runs under.
pub(super) fn context(clock: &Clock) -> Context {
    Context {
        clock: clock.clone(),
        deadline: later(clock.now(), CALL_DEADLINE),
    }
}

/// Whether a refusal may be the fault of a single name, so that the others deserve a call of their own.
fn is_of_one_name(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::Permission | ErrorKind::Invalid | ErrorKind::Conflict | ErrorKind::Quota
    )
}

pub(super) fn no_answer(zone: &Zone) -> ProviderError {
    ProviderError {
        kind: ErrorKind::Transient,
        code: None,
        message: format!(
            "the DNS host of {} did not answer within {} s",
            zone.name,
            CALL_DEADLINE.as_secs()
        ),
        hint: None,
    }
}
