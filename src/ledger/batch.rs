//! One batch: as few calls as the host allows, and a refused one split until the bad name is alone.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use countersign_providers::clock::{Clock, later};
use countersign_providers::record::{Change, Verb, Zone};
use countersign_providers::{Context, ErrorKind, Provider, ProviderError};

use crate::engine::ledger::RecordId;
use crate::measure::{self, Call};

/// A call to a DNS host has this long.
pub(super) const CALL_DEADLINE: Duration = Duration::from_secs(30);

/// A line in the log shows so many changes.
const SHOWN_CHANGES: usize = 8;

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
            tracing::trace!(zone = %zone.name, changes = changes.len(), what = %Shown(&changes), "provider call");
            let started = clock.elapsed();
            let context = context(clock);
            let result = match clock
                .timeout(CALL_DEADLINE, host.apply(zone, &changes, &[], &context))
                .await
            {
                Some(result) => result,
                None => Err(no_answer(zone)),
            };
            let elapsed_ms = (clock.elapsed() - started).as_secs_f64() * 1_000.0;
            let error = result.as_ref().err().map(tracing::field::display);
            tracing::trace!(zone = %zone.name, ok = result.is_ok(), error, elapsed_ms, "provider reply");
            let refused = result.as_ref().err().map(|error| error.kind);
            measure::provider_called(provider, Call::Apply, refused, clock.elapsed() - started);
            let result = result.map(drop);
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

/// Changes, for logs: the first few.
struct Shown<'a>(&'a [Change]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nth, change) in self.0.iter().take(SHOWN_CHANGES).enumerate() {
            let between = if nth > 0 { ", " } else { "" };
            let verb = match change.verb {
                Verb::Ensure => "ensure",
                Verb::Absent => "absent",
            };
            write!(f, "{between}{verb} {}", change.name)?;
        }
        let more = self.0.len().saturating_sub(SHOWN_CHANGES);
        if more > 0 {
            write!(f, " and {more} more")
        } else {
            Ok(())
        }
    }
}

/// What a call runs under.
pub(super) fn context(clock: &Clock) -> Context {
    Context::new(clock.clone(), later(clock.now(), CALL_DEADLINE))
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
        partly: false,
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
