//! The task of one zone: one batch in flight, everything else waits and joins the next one.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use countersign_providers::clock::Clock;
use countersign_providers::record::{DnsName, RrSet, Zone};
use countersign_providers::{Provider, ProviderError, RecordModel};
use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot, watch};

use super::batch::{Batch, CALL_DEADLINE, Outcome};
use super::hosts::Hosts;
use super::settle::Spreading;
use super::{Approaching, ClearError, Inner, Leaving, PREFIX, PresentError, key};
use crate::engine::EffectId;
use crate::engine::attempt::{Placed, TTL};
use crate::engine::ledger::{Effect, Entry, Event, Owner, RecordId, State};
use crate::measure::{self, Call};
use crate::store::{Keep, Saved, Session, StoreError, Write};
use crate::supervise;

/// A batch waits this long after the last request for authorizations that are on their way, or for more removals.
const WINDOW: Duration = Duration::from_millis(50);
/// And this long in all.
const LONGEST_WINDOW: Duration = Duration::from_secs(1);
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
        reply: oneshot::Sender<Result<Placed, PresentError>>,
    },
    Release {
        owner: Owner,
        record: RecordId,
        reply: oneshot::Sender<Result<(), StoreError>>,
    },
    Clear {
        record: RecordId,
        reply: oneshot::Sender<Result<(), ClearError>>,
    },
}

/// Values that a person wants to be gone.
type Clearing = BTreeMap<RecordId, Cleared>;

/// One of them.
#[derive(Default)]
struct Cleared {
    /// Whether it was kept account of before.
    was_known: bool,
    replies: Vec<oneshot::Sender<Result<(), ClearError>>>,
}

/// Who waits for a value to be there.
struct Waiter {
    ttl: u32,
    reply: oneshot::Sender<Result<Placed, PresentError>>,
}

pub(super) struct ZoneTask {
    at: (String, Zone),
    hosts: Arc<Hosts>,
    session: Session,
    clock: Clock,
    requests: mpsc::Receiver<Request>,
    approaching: watch::Receiver<Approaching>,
    spreading: Spreading,
    leaving: watch::Sender<HashMap<(String, Zone), Leaving>>,
    entries: BTreeMap<RecordId, Saved<Entry>>,
    /// Those for whose values their names have no room yet.
    held: BTreeMap<RecordId, Vec<Waiter>>,
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
            spreading: ledger.spreading.clone(),
            leaving: ledger.leaving.clone(),
            entries: entries
                .into_iter()
                .map(|e| (e.value.record.clone(), e))
                .collect(),
            held: BTreeMap::new(),
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
        let (window, longest) = (self.clock.sleep(WINDOW), self.clock.sleep(LONGEST_WINDOW));
        tokio::pin!(window, longest);
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
                biased;
                () = &mut longest => return Some(gathered),
                request = self.requests.recv() => {
                    gathered.push(request?);
                    window.set(self.clock.sleep(WINDOW));
                }
                _ = self.approaching.changed(), if adds => {}
                () = &mut window => return Some(gathered),
            }
        }
    }

    /// Saves what is wanted, asks the host, saves what came.
    async fn round(&mut self, gathered: Vec<Request>) {
        let mut waiting = std::mem::take(&mut self.held);
        let mut released = Vec::new();
        let mut clearing = Clearing::new();
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
                Request::Clear { record, reply } => {
                    let was_known = self.entries.contains_key(&record);
                    if self.disown(now, &record) {
                        let cleared = clearing.entry(record).or_insert_with(|| Cleared {
                            was_known,
                            ..Cleared::default()
                        });
                        cleared.replies.push(reply);
                    } else {
                        let _ = reply.send(Err(ClearError::Wanted));
                    }
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
            for reply in clearing.into_values().flat_map(|it| it.replies) {
                let _ = reply.send(Err(ClearError::Store(again())));
            }
            return;
        }
        for reply in released {
            let _ = reply.send(Ok(()));
        }
        self.publish();
        self.ask(now, waiting, clearing).await;
        if let Err(error) = self.save().await {
            // What is kept says "asked": the next process looks again.
            tracing::warn!(zone = %self.at.1.name, "{error}");
        }
    }

    async fn ask(
        &mut self,
        now: Timestamp,
        mut waiting: BTreeMap<RecordId, Vec<Waiter>>,
        mut clearing: Clearing,
    ) {
        let Some(host) = self.hosts.host(&self.at.0) else {
            return;
        };
        let mut batch = Batch::default();
        let mut looks = Vec::new();
        let mut room = Room::of(&*host, self.entries.values().map(|entry| &entry.value));
        for (record, entry) in &self.entries {
            let due = entry.value.pending(now).effects.into_iter().next();
            match (waiting.get(record), due) {
                (Some(waiters), _) if entry.value.owners().next().is_some() => {
                    if room.take(&entry.value) {
                        batch.ensure(record, waiters.first().map_or(TTL, |waiter| waiter.ttl));
                    } else {
                        self.held.extend(waiting.remove_entry(record));
                    }
                }
                (_, Some((_, Effect::Remove))) => batch.remove(&entry.value),
                (_, Some((id, Effect::Look))) => looks.push((id, record.clone())),
                _ => {}
            }
        }
        if room.is_limited() {
            self.write_together(&mut batch);
        }
        let left = self.left(batch.changes().map(|change| &change.name));
        let clock = self.clock.clone();
        let (provider, zone) = self.at.clone();
        let is_unproven = host.traits().model.is_unproven();
        let spreading = self.spreading.clone();
        let told = |outcome: Outcome<'_>| {
            let cleared = match outcome.ensured {
                true => None,
                false => clearing.remove(outcome.record),
            };
            let cleared = cleared.unwrap_or_default();
            let (record, result) = (outcome.record.clone(), outcome.result.clone().map(drop));
            let waiters = waiting.remove(outcome.record).unwrap_or_default();
            match &result {
                Ok(()) => {
                    if let Some(ticket) = outcome.ticket.filter(|_| !waiters.is_empty()) {
                        spreading.follow(&record, (&provider, &host, ticket), &clock);
                    }
                    let placed = spreading.placed(&record);
                    for waiter in waiters {
                        let _ = waiter.reply.send(Ok(placed));
                    }
                }
                Err(error) => {
                    for waiter in waiters {
                        let refused = PresentError::Provider(error.clone());
                        let _ = waiter.reply.send(Err(refused));
                    }
                }
            }
            let is_ours = cleared.replies.is_empty() || cleared.was_known;
            self.told(outcome, is_unproven && is_ours);
            // What the host keeps and was never ours is nobody's to follow up.
            if let Err(error) = &result
                && !cleared.replies.is_empty()
                && !cleared.was_known
                && !error.outcome_unknown()
            {
                self.give_up(&record);
            }
            for reply in cleared.replies {
                let _ = reply.send(result.clone().map_err(ClearError::Provider));
            }
        };
        (batch.perform(&provider, &*host, &zone, &left, &clock, told)).await;
        // Wanted by one and given up by the same before it was asked for.
        for waiter in waiting.into_values().flatten() {
            let _ = waiter.reply.send(Ok(Placed::There));
        }
        // Somebody wants it since.
        for reply in clearing.into_values().flat_map(|it| it.replies) {
            let _ = reply.send(Err(ClearError::Wanted));
        }
        self.look(&*host, looks).await;
    }

    /// A value that is written once more takes the place of another one at its name: those are written once more too, and
    /// then each has one place again.
    fn write_together(&self, batch: &mut Batch) {
        let all = self.entries.values().map(|entry| &entry.value);
        let (asked, others): (Vec<&Entry>, Vec<&Entry>) =
            all.partition(|it| batch.ensures(&it.record));
        let again = asked.into_iter().filter(|it| it.may_be_there());
        let at: BTreeSet<&DnsName> = again.map(|it| &it.record.name).collect();
        for entry in others.into_iter().filter(|it| it.state() == State::Present) {
            if at.contains(&entry.record.name) {
                batch.ensure(&entry.record, TTL);
            }
        }
    }

    /// Takes `record`, which is at the host, for a value that is to go now, unless somebody wants it.
    fn disown(&mut self, now: Timestamp, record: &RecordId) -> bool {
        let entry = &mut self.entry(record).value;
        if entry.owners().next().is_some() {
            return false;
        }
        entry.apply(now, Event::Found);
        true
    }

    /// Keeps no account of `record` any more, unless somebody wants it.
    fn give_up(&mut self, record: &RecordId) {
        let now = self.clock.now();
        if let Some(entry) = self.entries.get_mut(record) {
            entry.value.apply(now, Event::Looked(Ok(false)));
        }
    }

    /// What the host was left with at `names`, as far as is known.
    fn left<'n>(&self, names: impl Iterator<Item = &'n DnsName>) -> Vec<RrSet> {
        let mut left: BTreeMap<&DnsName, Vec<String>> =
            names.map(|name| (name, Vec::new())).collect();
        for (record, entry) in &self.entries {
            if let Some(values) = left.get_mut(&record.name)
                && entry.value.was_left()
            {
                values.push(record.value.clone());
            }
        }
        let left = left.into_iter().filter(|(_, values)| !values.is_empty());
        let set = |(name, values): (&DnsName, Vec<String>)| RrSet {
            name: name.clone(),
            ttl: Some(TTL),
            values,
        };
        left.map(set).collect()
    }

    /// Notes what the host said of one value.
    fn told(&mut self, outcome: Outcome<'_>, is_unproven: bool) {
        let now = self.clock.now();
        let Some(entry) = self.entries.get_mut(outcome.record) else {
            return;
        };
        if !outcome.ensured && outcome.result.is_ok() && is_unproven {
            entry.value.apply(now, Event::Unproven);
        }
        let event = match outcome.ensured {
            true => Event::Ensured(outcome.result),
            false => Event::Removed(outcome.result.map(drop)),
        };
        entry.value.apply(now, event);
    }

    async fn look(&mut self, host: &dyn Provider, looks: Vec<(EffectId, RecordId)>) {
        let mut by_name: BTreeMap<DnsName, Vec<RecordId>> = BTreeMap::new();
        for (_, record) in looks {
            by_name.entry(record.name.clone()).or_default().push(record);
        }
        let names: Vec<DnsName> = by_name.keys().cloned().collect();
        for names in names.chunks(host.traits().batch.max(1)) {
            let (seen, is_silent) = match self.see(host, names).await {
                Some(seen) => (seen, false),
                None => (Err(super::batch::no_answer(&self.at.1)), true),
            };
            let now = self.clock.now();
            for record in names.iter().filter_map(|name| by_name.get(name)).flatten() {
                let there = seen.clone().map(|sets| {
                    let mut at_name = sets.iter().filter(|set| set.name == record.name);
                    at_name.any(|set| set.values.contains(&record.value))
                });
                if let Some(entry) = self.entries.get_mut(record) {
                    entry.value.apply(now, Event::Looked(there));
                }
            }
            // The rest is due still, and others wait for the zone.
            if is_silent {
                return;
            }
        }
    }

    /// What stands at `names`; `None` when there was no answer.
    async fn see(
        &self,
        host: &dyn Provider,
        names: &[DnsName],
    ) -> Option<Result<Vec<RrSet>, ProviderError>> {
        let context = super::batch::context(&self.clock);
        let asked = self.clock.elapsed();
        let looked = host.observe(&self.at.1, names, &context);
        let seen = self.clock.timeout(CALL_DEADLINE, looked).await;
        let silence = super::batch::no_answer(&self.at.1);
        let (sets, error) = match &seen {
            Some(Ok(sets)) => (sets.len(), None),
            Some(Err(error)) => (0, Some(error)),
            None => (0, Some(&silence)),
        };
        let refused = error.map(|error| error.kind);
        let took = self.clock.elapsed() - asked;
        measure::provider_called(&self.at.0, Call::Observe, refused, took);
        let error = error.map(tracing::field::display);
        tracing::trace!(zone = %self.at.1.name, names = names.len(), sets, error, "provider look");
        seen
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

    /// Whether there is room now for a value that had to wait for it.
    fn has_room_for_held(&self) -> bool {
        let host = match self.held.is_empty() {
            true => return false,
            false => self.hosts.host(&self.at.0),
        };
        host.is_some_and(|host| {
            let mut room = Room::of(&*host, self.entries.values().map(|entry| &entry.value));
            let held = self
                .held
                .keys()
                .filter_map(|record| self.entries.get(record));
            held.into_iter().any(|entry| room.take(&entry.value))
        })
    }

    /// When an entry wants something by itself.
    fn wake(&self) -> Option<Timestamp> {
        let now = self.clock.now();
        if self.has_room_for_held() {
            return Some(now);
        }
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

/// How many more values each name has room for; where the host has no limit, always one more.
struct Room {
    slots: Option<usize>,
    taken: BTreeMap<DnsName, usize>,
}

impl Room {
    fn of<'e>(host: &dyn Provider, entries: impl Iterator<Item = &'e Entry>) -> Self {
        let slots = match host.traits().model {
            RecordModel::Slots(slots) => Some(slots),
            _ => None,
        };
        let mut taken = BTreeMap::new();
        for entry in entries.filter(|entry| entry.was_left()) {
            *taken.entry(entry.record.name.clone()).or_default() += 1;
        }
        Self { slots, taken }
    }

    /// Whether there is a limit.
    fn is_limited(&self) -> bool {
        self.slots.is_some()
    }

    /// Whether there is room for `entry`, which then is taken.
    fn take(&mut self, entry: &Entry) -> bool {
        let taken = self.taken.entry(entry.record.name.clone()).or_default();
        let is_there = self.slots.is_none_or(|slots| *taken < slots) || entry.was_left();
        if is_there && !entry.was_left() {
            *taken += 1;
        }
        is_there
    }
}
