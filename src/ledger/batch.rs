//! One batch: as few calls as the host allows; who was overtaken tries again, and a refused one is split until the bad
//! name is alone.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use countersign_providers::clock::{Clock, later};
use countersign_providers::record::{Change, RrSet, Verb, Zone};
use countersign_providers::{Context, ErrorKind, Provider, ProviderError, Receipt};
use ring::rand::{SecureRandom, SystemRandom};

use crate::engine::attempt::TTL;
use crate::engine::ledger::{Entry, RecordId};
use crate::measure::{self, Call};

/// A call to a DNS host has this long.
pub(super) const CALL_DEADLINE: Duration = Duration::from_secs(30);
/// Pauses after somebody else was faster, at most: of each a part is drawn, or two writers would meet again and again.
const OVERTAKEN: [Duration; 6] = [
    Duration::ZERO,
    Duration::from_millis(50),
    Duration::from_millis(150),
    Duration::from_millis(400),
    Duration::from_millis(1_000),
    Duration::from_millis(2_500),
];

/// A host that gave no answer so often is not asked for the rest of a batch: others wait for its zone. One name alone, at
/// which a program hangs, must not stop the names behind it.
const SILENCES: usize = 3;

/// A line in the log shows so many changes.
const SHOWN_CHANGES: usize = 8;

/// Changes of one zone.
#[derive(Default)]
pub(super) struct Batch(Vec<(RecordId, Change)>);

/// What came of one value.
pub(super) struct Outcome<'a> {
    /// Which.
    pub(super) record: &'a RecordId,
    /// Whether it was to be there.
    pub(super) ensured: bool,
    /// Whether that is so; what the host calls the value.
    pub(super) result: Result<Option<String>, ProviderError>,
    /// What the host calls the call that did it.
    pub(super) ticket: Option<&'a str>,
}

/// Changes that leave in one call.
struct Part {
    changes: Vec<(RecordId, Change)>,
    /// How often somebody else was faster.
    overtaken: usize,
}

impl Batch {
    /// Adds a value to be there.
    pub(super) fn ensure(&mut self, record: &RecordId, ttl: u32) {
        self.push(record, Verb::Ensure, ttl, None);
    }

    /// Adds a value to be gone.
    pub(super) fn remove(&mut self, entry: &Entry) {
        self.push(&entry.record, Verb::Absent, TTL, entry.handle());
    }

    fn push(&mut self, record: &RecordId, verb: Verb, ttl: u32, handle: Option<&str>) {
        let change = Change {
            verb,
            name: record.name.clone(),
            value: record.value.clone(),
            ttl,
            handle: handle.map(str::to_owned),
        };
        self.0.push((record.clone(), change));
    }

    /// Whether it has `record` be there.
    pub(super) fn ensures(&self, record: &RecordId) -> bool {
        let mut all = self.0.iter();
        all.any(|(it, change)| it == record && change.verb == Verb::Ensure)
    }

    /// The changes.
    pub(super) fn changes(&self) -> impl Iterator<Item = &Change> {
        self.0.iter().map(|(_, change)| change)
    }

    /// Makes the changes at a host that was left with `left`; `told` hears what came of each.
    pub(super) async fn perform(
        self,
        provider: &str,
        host: &dyn Provider,
        zone: &Zone,
        left: &[RrSet],
        clock: &Clock,
        mut told: impl FnMut(Outcome<'_>),
    ) {
        let size = host.traits().batch.max(1);
        let part = |changes: &[_]| Part {
            changes: changes.to_vec(),
            overtaken: 0,
        };
        let mut parts: VecDeque<Part> = self.0.chunks(size).map(part).collect();
        let mut silences = 0;
        while let Some(part) = parts.pop_front() {
            clock.sleep(pause(part.overtaken)).await;
            let changes: Vec<Change> = part.changes.iter().map(|(_, it)| it.clone()).collect();
            // What was left there is what the host was just found not to have.
            let left = if part.overtaken > 0 { &[] } else { left };
            let applied = match silences < SILENCES {
                true => apply(provider, host, zone, &changes, left, clock).await,
                false => None,
            };
            silences += usize::from(applied.is_none());
            match applied.unwrap_or_else(|| Err(no_answer(zone))) {
                Err(error)
                    if error.kind == ErrorKind::Conflict
                        && part.overtaken + 1 < OVERTAKEN.len() =>
                {
                    let overtaken = part.overtaken + 1;
                    parts.push_front(Part { overtaken, ..part });
                }
                Err(error) if changes.len() > 1 && is_of_one_name(error.kind) => {
                    let Part {
                        mut changes,
                        overtaken,
                    } = part;
                    let rest = changes.split_off(changes.len() / 2);
                    for changes in [rest, changes] {
                        parts.push_front(Part { changes, overtaken });
                    }
                }
                result => {
                    let receipt = result.as_ref().ok();
                    for (nth, (record, change)) in part.changes.iter().enumerate() {
                        let handle = receipt.and_then(|it| it.handles.get(nth).cloned().flatten());
                        told(Outcome {
                            record,
                            ensured: change.verb == Verb::Ensure,
                            result: result.as_ref().map(|_| handle).map_err(Clone::clone),
                            ticket: receipt.and_then(|it| it.ticket.as_deref()),
                        });
                    }
                }
            }
        }
    }
}

/// Between half of the pause after so many times and all of it.
fn pause(overtaken: usize) -> Duration {
    let most = OVERTAKEN[overtaken.min(OVERTAKEN.len() - 1)];
    let mut drawn = [0];
    // Without random numbers every pause is the longest.
    match SystemRandom::new().fill(&mut drawn) {
        Ok(()) => most / 2 + most / 2 * u32::from(drawn[0]) / 255,
        Err(_) => most,
    }
}

/// One call; `None` when there was no answer.
async fn apply(
    provider: &str,
    host: &dyn Provider,
    zone: &Zone,
    changes: &[Change],
    left: &[RrSet],
    clock: &Clock,
) -> Option<Result<Receipt, ProviderError>> {
    tracing::trace!(zone = %zone.name, changes = changes.len(), what = %Shown(changes), "provider call");
    let started = clock.elapsed();
    let context = context(clock);
    let applied = host.apply(zone, changes, left, &context);
    let applied = clock.timeout(CALL_DEADLINE, applied).await;
    let elapsed_ms = (clock.elapsed() - started).as_secs_f64() * 1_000.0;
    let silence = no_answer(zone);
    let error = match &applied {
        Some(result) => result.as_ref().err(),
        None => Some(&silence),
    };
    let said = error.map(tracing::field::display);
    tracing::trace!(zone = %zone.name, ok = error.is_none(), error = said, elapsed_ms, "provider reply");
    let refused = error.map(|error| error.kind);
    measure::provider_called(provider, Call::Apply, refused, clock.elapsed() - started);
    applied
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
    ProviderError::new(
        ErrorKind::Transient,
        format!(
            "the DNS host of {} did not answer within {} s",
            zone.name,
            CALL_DEADLINE.as_secs()
        ),
    )
}
