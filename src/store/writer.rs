//! The one thread that changes the embedded store.
//!
//! All changes that wait at the same time become one redb transaction with one `fsync`. Each is checked by itself, in
//! the order of arrival and against what those before it wrote; one that is refused leaves no trace and does not
//! disturb the others.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use jiff::Timestamp;
use redb::{Durability, ReadableDatabase, ReadableTable, Table, WriteTransaction};
use tokio::sync::{mpsc, oneshot};

use super::lease::Lease;
use super::redb::{COMMITS, Failure, LEASES, META, RECORDS, Vault, commits, is_dead};
use super::{Fence, Key, StoreError, Version, Write};

/// More changes than this are not made durable together, so that a failure does not concern too many.
const MAX_GROUP: usize = 512;

type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

/// A change, and where its outcome goes.
pub(super) enum Change {
    Commit {
        fence: Fence,
        expect: Vec<(Key, Version)>,
        writes: Vec<Write>,
        reply: Reply<Version>,
    },
    Lease {
        name: String,
        holder: String,
        now: Timestamp,
        ttl: Duration,
        reply: Reply<Fence>,
    },
    Release {
        fence: Fence,
        reply: Reply<()>,
    },
}

/// A change that waits.
pub(super) struct Request(Change);

impl Request {
    pub(super) fn new(change: Change) -> Self {
        Self(change)
    }
}

/// Serves until nobody can send any more.
pub(super) fn run(vault: &Vault, mut waiting: mpsc::Receiver<Request>) {
    while let Some(Request(first)) = waiting.blocking_recv() {
        let mut group = vec![first];
        while group.len() < MAX_GROUP {
            let Ok(Request(next)) = waiting.try_recv() else {
                break;
            };
            group.push(next);
        }
        // redb forgets a transaction that was left in the middle; who asked hears that it failed.
        if catch_unwind(AssertUnwindSafe(|| perform(vault, group))).is_err() {
            tracing::error!(
                "the store's writer had a fault of Countersign's own; the rest goes on"
            );
        }
    }
}

/// Makes the changes of `group` durable, together if that is possible.
fn perform(vault: &Vault, group: Vec<Change>) {
    tracing::trace!(changes = group.len(), "store commit");
    if group.len() > 1 {
        if let Ok(outcomes) = attempt(vault, &group) {
            for (change, outcome) in group.into_iter().zip(outcomes) {
                change.answer(outcome);
            }
            return;
        }
        tracing::debug!(
            changes = group.len(),
            "changes are saved one by one after a failure"
        );
    }
    for change in group {
        let outcome = attempt(vault, std::slice::from_ref(&change))
            .and_then(|outcomes| outcomes.into_iter().next().unwrap_or(Ok(Done::Nothing)));
        change.answer(outcome);
    }
}

/// What became of a change that was not refused.
enum Done {
    Committed(Version),
    Leased(Fence),
    Nothing,
}

type Outcome = Result<Done, StoreError>;

impl Change {
    fn answer(self, outcome: Outcome) {
        // Who does not wait any more does not want to know.
        match self {
            Self::Commit { reply, .. } => {
                let _ = reply.send(outcome.map(|done| match done {
                    Done::Committed(version) => version,
                    Done::Leased(_) | Done::Nothing => Version::ABSENT,
                }));
            }
            Self::Lease { name, reply, .. } => {
                let _ = reply.send(outcome.and_then(|done| match done {
                    Done::Leased(fence) => Ok(fence),
                    Done::Committed(_) | Done::Nothing => Err(StoreError::Fenced(name)),
                }));
            }
            Self::Release { reply, .. } => {
                let _ = reply.send(outcome.map(|_| ()));
            }
        }
    }
}

/// One transaction for the whole of `group`.
fn attempt(vault: &Vault, group: &[Change]) -> Result<Vec<Outcome>, StoreError> {
    let first = try_once(vault, group);
    match first {
        Err(Fault::Before) => try_once(vault, group).map_err(|fault| fault.into_error()),
        outcome => outcome.map_err(|fault| fault.into_error()),
    }
}

/// How a transaction failed.
enum Fault {
    /// The database had failed before, and has been opened anew.
    Before,
    /// It failed itself; nothing was changed.
    Now(StoreError),
}

impl Fault {
    fn into_error(self) -> StoreError {
        match self {
            Self::Before => {
                StoreError::Io("the store failed twice in a row; look at the disk".into())
            }
            Self::Now(error) => error,
        }
    }
}

fn try_once(vault: &Vault, group: &[Change]) -> Result<Vec<Outcome>, Fault> {
    let living = vault.living().map_err(Fault::Now)?;
    let (number, failure) = match transact(&living.database, group) {
        Ok(outcomes) => return Ok(outcomes),
        Err(failed) => failed,
    };
    drop(living.database);
    if !is_dead(&failure) {
        return Err(Fault::Now(vault.explain(failure)));
    }
    let had_failed_before = matches!(&failure, Failure::Database(error)
        if matches!(**error, redb::Error::PreviousIo | redb::Error::DatabaseClosed));
    let error = vault.explain(failure);
    vault.revive(living.life).map_err(Fault::Now)?;
    // The failure may have come after the last write: then the database shows the change, and whoever asked must not
    // be told that nothing was changed.
    match number {
        Some((number, outcomes)) if last_commit(vault).map_err(Fault::Now)? >= number => {
            vault.write_again().map_err(Fault::Now)?;
            Ok(outcomes)
        }
        None if had_failed_before => Err(Fault::Before),
        _ => Err(Fault::Now(error)),
    }
}

type Failed = (Option<(u64, Vec<Outcome>)>, Failure);

/// Writes `group`. A failure in the last step comes with the number that the store has if it was done nevertheless.
fn transact(database: &redb::Database, group: &[Change]) -> Result<Vec<Outcome>, Failed> {
    let early = |failure| (None, failure);
    let mut change = database
        .begin_write()
        .map_err(|error| early(Failure::from(error)))?;
    let (number, outcomes) = match apply(&mut change, group).map_err(early)? {
        Applied::Nothing(outcomes) => return Ok(outcomes),
        Applied::Something(number, outcomes) => (number, outcomes),
    };
    match change.commit() {
        Ok(()) => Ok(outcomes),
        Err(error) => Err((Some((number, outcomes)), error.into())),
    }
}

enum Applied {
    /// All were refused or changed nothing: there is nothing to make durable.
    Nothing(Vec<Outcome>),
    /// The number of the last commit after it.
    Something(u64, Vec<Outcome>),
}

fn apply(change: &mut WriteTransaction, group: &[Change]) -> Result<Applied, Failure> {
    change
        .set_durability(Durability::Immediate)
        .map_err(|error| StoreError::Io(error.to_string()))?;
    let mut meta = change.open_table(META)?;
    let before = commits(&meta)?;
    let mut tables = Tables {
        records: change.open_table(RECORDS)?,
        leases: change.open_table(LEASES)?,
        number: before,
    };
    let mut outcomes = Vec::with_capacity(group.len());
    for change in group {
        outcomes.push(match tables.apply(change) {
            Err(Failure::Store(refused)) => Err(refused),
            Err(failure) => return Err(failure),
            Ok(done) => Ok(done),
        });
    }
    let number = tables.number;
    if number == before {
        return Ok(Applied::Nothing(outcomes));
    }
    meta.insert(COMMITS, number.to_be_bytes().as_slice())?;
    Ok(Applied::Something(number, outcomes))
}

/// The tables of one transaction.
struct Tables<'a> {
    records: Table<'a, &'static str, (u64, &'static [u8])>,
    leases: Table<'a, &'static str, &'static [u8]>,
    /// The number of the last commit.
    number: u64,
}

impl Tables<'_> {
    fn apply(&mut self, change: &Change) -> Result<Done, Failure> {
        match change {
            Change::Commit {
                fence,
                expect,
                writes,
                ..
            } => self.commit(fence, expect, writes),
            Change::Lease {
                name,
                holder,
                now,
                ttl,
                ..
            } => {
                let lease = Lease::take(self.lease(name)?, name, holder, *now, *ttl)?;
                let fence = lease.fence(name);
                self.put_lease(name, &lease)?;
                Ok(Done::Leased(fence))
            }
            Change::Release { fence, .. } => {
                if let Some(lease) = Lease::release(self.lease(&fence.lease)?, fence) {
                    self.put_lease(&fence.lease, &lease)?;
                }
                Ok(Done::Nothing)
            }
        }
    }

    /// Checks everything before it writes anything, so that a refusal leaves no trace.
    fn commit(
        &mut self,
        fence: &Fence,
        expect: &[(Key, Version)],
        writes: &[Write],
    ) -> Result<Done, Failure> {
        Lease::check(self.lease(&fence.lease)?.as_ref(), fence)?;
        for (key, version) in expect {
            let found = self.records.get(key.as_str())?;
            if found.map_or(0, |found| found.value().0) != version.0 {
                return Err(StoreError::Conflict(key.clone()).into());
            }
        }
        self.number += 1;
        for write in writes {
            match write {
                Write::Put(key, value) => {
                    let record = (self.number, value.as_slice());
                    self.records.insert(key.as_str(), record)?;
                }
                Write::Delete(key) => {
                    self.records.remove(key.as_str())?;
                }
            }
        }
        Ok(Done::Committed(Version(self.number)))
    }

    fn lease(&self, name: &str) -> Result<Option<Lease>, Failure> {
        let Some(found) = self.leases.get(name)? else {
            return Ok(None);
        };
        let lease = serde_json::from_slice(found.value()).map_err(|error| {
            StoreError::Damaged(format!("the lease {name} cannot be read: {error}"))
        })?;
        Ok(Some(lease))
    }

    fn put_lease(&mut self, name: &str, lease: &Lease) -> Result<(), Failure> {
        let text = serde_json::to_vec(lease)
            .map_err(|error| StoreError::Io(format!("the lease {name}: {error}")))?;
        self.leases.insert(name, text.as_slice())?;
        self.number += 1;
        Ok(())
    }
}

fn last_commit(vault: &Vault) -> Result<u64, StoreError> {
    let read = || -> Result<u64, Failure> {
        let snapshot = vault.living()?.database.begin_read()?;
        commits(&snapshot.open_table(META)?)
    };
    read().map_err(|failure| vault.explain(failure))
}
