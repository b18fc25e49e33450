//! The task of one zone: one batch in flight, everything else waits and joins the next one.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use countersign_providers::clock::Clock;
use countersign_providers::record::Zone;
use countersign_providers::{Provider, ProviderError};
use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot, watch};

use super::batch::Batch;
use super::batch::CALL_DEADLINE;
use super::{Approaching, Hosts, Inner, Leaving, PREFIX, PresentError, key};
use crate::engine::EffectId;
use crate::engine::ledger::{Effect, Entry, Event, Owner, RecordId};
use crate::measure::{self, Call};
use crate::store::{Keep, Saved, Session, StoreError, Write};
use crate::supervise;

/// A batch waits this long for authorizations that are on their way, or for more removals.
const WINDOW: Duration = Duration::from_millis(50);
/// After a failed save.
const SAVE_AGAIN: Duration = Duration::from_secs(1);
/// After a fault of our own.
const AFTER_FAULT: Duration = Duration::from_secs(1);
/// A sleep lasts at most this long; then the wall clock is read again.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// What an attempt asks of the ledger.
pub(super) enum Request {
    Present {
        owner: Owner,
        record: RecordId,
        ttl: u32,
        reply: oneshot::Sender<Result<(), PresentError>>,
    },
    Release {
        owner: Owner,
        record: RecordId,
        reply: oneshot::Sender<Result<(), StoreError>>,
    },
}

/// Who waits for a value to be there.
struct Waiter {
    ttl: u32,
    reply: oneshot::Sender<Result<(), PresentError>>,
}

pub(super) struct ZoneTask {
    at: (String, Zone),
    hosts: Arc<Hosts>,
    session: Session,
    clock: Clock,
    requests: mpsc::Receiver<Request>,
    approaching: watch::Receiver<Approaching>,
    leaving: watch::Sender<HashMap<(String, Zone), Leaving>>,
    entries: BTreeMap<RecordId, Saved<Entry>>,
}

impl ZoneTask {
    pub(super) fn new(
        ledger: &Inner,
        at: (String, Zone),
        entries: Vec<Saved<Entry>>,
        requests: mpsc::Receiver<Request>,
    ) -> Self {
        Self {
            at,
            hosts: Arc::clone(&ledger.hosts),
            session: ledger.session.clone(),
            clock: ledger.clock.clone(),
            requests,
            approaching: ledger.approaching.subscribe(),
            leaving: ledger.leaving.clone(),
            entries: entries
                .into_iter()
                .map(|e| (e.value.record.clone(), e))
                .collect(),
        }
    }

    pub(super) async fn run(mut self) {
        let what = format!("the ledger of the zone {}", self.at.1.name);
        while supervise::fell_over(&what, self.serve()).await {
            self.clock.sleep(AFTER_FAULT).await;
            // What was in memory may have been left in the middle.
            self.read_again().await;
            self.publish();
        }
    }

    async fn serve(&mut self) {
        loop {
            let Some(gathered) = self.gather().await else {
                return;
            };
            self.round(gathered).await;
            self.publish();
        }
    }

    /// Waits for something to do, then a moment for more of it. `None` when nobody can ask any more.
    async fn gather(&mut self) -> Option<Vec<Request>> {
        let mut gathered = Vec::new();
        let wake = self.wake();
        if wake.is_none_or(|wake| wake > self.clock.now()) {
            let pause = wake.map_or(LONGEST_SLEEP, |wake| {
                self.clock.until(wake).min(LONGEST_SLEEP)
            });
            tokio::select! {
                request = self.requests.recv() => gathered.push(request?),
                () = self.clock.sleep(pause) => {}
            }
        }
        let window = self.clock.sleep(WINDOW);
        tokio::pin!(window);
        loop {
            while let Ok(request) = self.requests.try_recv() {
                gathered.push(request);
            }
            let adds = gathered
                .iter()
                .any(|request| matches!(request, Request::Present { .. }));
            if gathered.is_empty() || (adds && self.approaching.borrow_and_update().is_complete()) {
                return Some(gathered);
            }
            tokio::select! {
                request = self.requests.recv() => gathered.push(request?),
                _ = self.approaching.changed(), if adds => {}
                () = &mut window => return Some(gathered),
            }
        }
    }

    /// Saves what is wanted, asks the host, saves what came.
    async fn round(&mut self, gathered: Vec<Request>) {
        let mut waiting: BTreeMap<RecordId, Vec<Waiter>> = BTreeMap::new();
        let mut released = Vec::new();
        let before = self.entries.clone();
        let now = self.clock.now();
        for request in gathered {
            match request {
                Request::Present {
                    owner,
                    record,
                    ttl,
                    reply,
                } => {
                    self.entry(&record).value.apply(now, Event::Intended(owner));
                    waiting
                        .entry(record)
                        .or_default()
                        .push(Waiter { ttl, reply });
                }
                Request::Release {
                    owner,
                    record,
                    reply,
                } => {
                    if let Some(entry) = self.entries.get_mut(&record) {
                        entry.value.apply(now, Event::Released(owner));
                    }
                    released.push(reply);
                }
            }
        }
        if let Err(error) = self.save().await {
            self.entries = before;
            // What could not be saved is wanted again at once: not without a pause.
            self.clock.sleep(SAVE_AGAIN).await;
            self.read_again().await;
            let said = error.to_string();
            let again = || StoreError::Io(said.clone());
            for reply in released {
                let _ = reply.send(Err(again()));
            }
            for waiter in waiting.into_values().flatten() {
                let _ = waiter.reply.send(Err(PresentError::Store(again())));
            }
            return;
        }
        for reply in released {
            let _ = reply.send(Ok(()));
        }
        self.publish();
        self.ask(now, waiting).await;
        if let Err(error) = self.save().await {
            // What is kept says "asked": the next process looks again.
            tracing::warn!(zone = %self.at.1.name, "{error}");
        }
    }

    async fn ask(&mut self, now: Timestamp, mut waiting: BTreeMap<RecordId, Vec<Waiter>>) {
        let mut batch = Batch::default();
        let mut looks = Vec::new();
        for (record, entry) in &self.entries {
            let due = entry.value.pending(now).effects.into_iter().next();
            match (waiting.get(record), due) {
                (Some(waiters), _) if entry.value.owners().next().is_some() => {
                    batch.ensure(record, waiters.first().map_or(0, |waiter| waiter.ttl));
                }
                (_, Some((_, Effect::Remove))) => batch.remove(record),
                (_, Some((id, Effect::Look))) => looks.push((id, record.clone())),
                _ => {}
            }
        }
        let Some(host) = self.hosts.host(&self.at.0) else {
            return;
        };
        let clock = self.clock.clone();
        let (provider, zone) = self.at.clone();
        batch
            .perform(
                &provider,
                &*host,
                &zone,
                &clock,
                |record, ensured, result| {
                    self.told(record, ensured, &result);
                    for waiter in waiting.remove(record).into_iter().flatten() {
                        let _ = waiter
                            .reply
                            .send(result.clone().map_err(PresentError::Provider));
                    }
                },
            )
            .await;
        // Wanted by one and given up by the same before it was asked for.
        for waiter in waiting.into_values().flatten() {
            let _ = waiter.reply.send(Ok(()));
        }
        self.look(&*host, looks).await;
    }

    /// Notes what the host said of one value.
    fn told(&mut self, record: &RecordId, ensured: bool, result: &Result<(), ProviderError>) {
        let now = self.clock.now();
        let Some(entry) = self.entries.get_mut(record) else {
            return;
        };
        let event = match ensured {
            true => Event::Ensured(result.clone()),
            false => Event::Removed(result.clone()),
        };
        entry.value.apply(now, event);
    }

    async fn look(&mut self, host: &dyn Provider, looks: Vec<(EffectId, RecordId)>) {
        if looks.is_empty() {
            return;
        }
        let names: Vec<_> = looks
            .iter()
            .map(|(_, record)| record.name.clone())
            .collect();
        let context = super::batch::context(&self.clock);
        let asked = self.clock.elapsed();
        let looked = host.observe(&self.at.1, &names, &context);
        let seen = match self.clock.timeout(CALL_DEADLINE, looked).await {
            Some(seen) => seen,
            None => Err(super::batch::no_answer(&self.at.1)),
        };
        let refused = seen.as_ref().err().map(|error| error.kind);
        let took = self.clock.elapsed() - asked;
        measure::provider_called(&self.at.0, Call::Observe, refused, took);
        let sets = seen.as_ref().map_or(0, Vec::len);
        let error = seen.as_ref().err().map(tracing::field::display);
        tracing::trace!(zone = %self.at.1.name, names = names.len(), sets, error, "provider look");
        let now = self.clock.now();
        for (_, record) in looks {
            let there = seen.clone().map(|sets| {
                sets.iter()
                    .any(|set| set.name == record.name && set.values.contains(&record.value))
            });
            if let Some(entry) = self.entries.get_mut(&record) {
                entry.value.apply(now, Event::Looked(there));
            }
        }
    }

    fn entry(&mut self, record: &RecordId) -> &mut Saved<Entry> {
        self.entries
            .entry(record.clone())
            .or_insert_with(|| Saved::new(key(record), Entry::new(record.clone())))
    }

    /// Saves every entry that changed, and forgets those that are over, in one transaction.
    async fn save(&mut self) -> Result<(), StoreError> {
        let (mut expect, mut writes, mut changed) = (Vec::new(), Vec::new(), Vec::new());
        for (record, entry) in &self.entries {
            if entry.value.is_over() {
                expect.push(entry.expectation());
                writes.push(Write::Delete(entry.key.clone()));
            } else if let Some(bytes) = entry.changed() {
                expect.push(entry.expectation());
                writes.push(Write::Put(entry.key.clone(), bytes.clone()));
                changed.push((record.clone(), bytes));
            }
        }
        if writes.is_empty() {
            return Ok(());
        }
        let version = self.session.commit(&expect, &writes).await?;
        self.entries.retain(|_, entry| !entry.value.is_over());
        for (record, bytes) in changed {
            if let Some(entry) = self.entries.get_mut(&record) {
                entry.committed(bytes, version);
            }
        }
        Ok(())
    }

    /// After a doubt: the transaction may have been made.
    async fn read_again(&mut self) {
        let Ok(entries) = self.session.load_all::<Entry>(PREFIX).await else {
            return;
        };
        let here = |entry: &Saved<Entry>| {
            let record = &entry.value.record;
            record.provider == self.at.0 && record.zone == self.at.1
        };
        let entries = entries.into_iter().filter(here);
        self.entries = entries
            .map(|entry| (entry.value.record.clone(), entry))
            .collect();
    }

    /// When an entry wants something by itself.
    fn wake(&self) -> Option<Timestamp> {
        let now = self.clock.now();
        let wakes = self.entries.values().filter_map(|entry| {
            let pending = entry.value.pending(now);
            // What is to be added is asked for by its attempt.
            let own = |(_, effect): &(EffectId, Effect)| *effect != Effect::Ensure;
            if pending.effects.iter().any(own) {
                Some(now)
            } else {
                pending.wake
            }
        });
        wakes.min()
    }

    pub(super) fn publish(&self) {
        let leaving = self
            .entries
            .values()
            .filter(|entry| entry.value.is_withdrawing());
        let failure = leaving
            .clone()
            .find_map(|entry| entry.value.failure.clone());
        let values = leaving.count();
        let failure = failure.map(|failure| failure.sentence);
        let at = self.at.clone();
        self.leaving.send_if_modified(|zones| {
            let new = Leaving { values, failure };
            zones.insert(at, new.clone()).as_ref() != Some(&new)
        });
    }
}
