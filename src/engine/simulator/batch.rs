//! The worker's part that performs what the ledger wants: one batch a zone at a time, a refused one split until the bad
//! name is alone.

use std::collections::VecDeque;
use std::rc::Rc;

use countersign_providers::error::{ErrorKind, ProviderError};
use countersign_providers::record::{Change, Verb};
use jiff::Timestamp;

use super::super::EffectId;
use super::super::attempt::{self, Attempt};
use super::super::ledger::{self, Entry, Owner, RecordId};
use super::Kind;
use super::check::Invariant;
use super::feedback::{Settled, attempt_key, put};
use super::flight::{Flight, Work};
use super::host::error;
use super::life::{Item, Life};
use super::mutants::Mutant;
use super::store::Write;
use super::world::zone_key;

/// The largest batch.
const BATCH: usize = 4;

/// Changes of one zone, or looks at it.
#[derive(Clone, Debug)]
pub(super) struct Batch {
    zone: String,
    parts: Vec<Part>,
    sent: Timestamp,
}

type Part = (RecordId, EffectId, ledger::Effect);

/// What became of a batch.
#[derive(Clone, Debug)]
pub(super) enum Outcome {
    /// An event for each entry.
    Events(Vec<(RecordId, ledger::Event)>),
    /// Refused as a whole: to be tried in halves.
    Split,
}

/// What is going on in a zone.
pub(super) struct ZoneWork {
    pub(super) busy: bool,
    /// A batch is being gathered.
    pub(super) held: bool,
    /// Halves of a refused batch.
    pub(super) parts: VecDeque<Vec<Part>>,
}

impl Batch {
    pub(super) fn kinds(&self) -> Vec<Kind> {
        let kind = |(_, _, effect): &Part| match effect {
            ledger::Effect::Ensure => Kind::Ensure,
            ledger::Effect::Remove => Kind::Remove,
            ledger::Effect::Look => Kind::Look,
        };
        self.parts.iter().map(kind).collect()
    }
}

impl Life<'_> {
    /// The zones that have something to do and do nothing; they are marked as held.
    pub(super) fn zones_due(&mut self) -> Vec<String> {
        let Some(worker) = &mut self.worker else {
            return Vec::new();
        };
        let mut zones = Vec::new();
        let mut wake = None;
        for entry in worker.entries.values() {
            let pending = entry.pending(self.now);
            wake = wake.into_iter().chain(pending.wake).min();
            let zone = zone_key(&entry.record.zone);
            if !pending.effects.is_empty() && !zones.contains(&zone) {
                zones.push(zone);
            }
        }
        worker.ledger_asked.wake = wake;
        zones.retain(|zone| {
            let work = worker.zone(zone);
            let idle = !work.busy && !work.held;
            work.held |= idle;
            idle
        });
        zones
    }

    /// A batch leaves: changes first, looks when there are none.
    pub(super) fn gather(&mut self, zone: &str) {
        let now = self.now;
        let Some(worker) = &mut self.worker else {
            return;
        };
        worker.zone(zone).held = false;
        let mut due: Vec<Part> = Vec::new();
        for entry in worker
            .entries
            .values()
            .filter(|entry| zone_key(&entry.record.zone) == zone)
        {
            for (id, effect) in entry.pending(now).effects {
                due.push((entry.record.clone(), id, effect));
            }
        }
        let is_look = |(_, _, effect): &Part| *effect == ledger::Effect::Look;
        if due.iter().any(|part| !is_look(part)) {
            due.retain(|part| !is_look(part));
        }
        due.truncate(BATCH);
        if !due.is_empty() && !worker.zone(zone).busy {
            self.send(zone, due);
        }
    }

    fn send(&mut self, zone: &str, parts: Vec<Part>) {
        if let Some(worker) = &mut self.worker {
            worker.zone(zone).busy = true;
        }
        self.launch(Work::Batch(Batch {
            zone: zone.to_owned(),
            parts,
            sent: self.now,
        }));
    }

    /// An attempt wants a value: saved, then asked for.
    pub(super) fn present(&mut self, number: u64, _slot: usize, owner: &Owner, record: &RecordId) {
        let now = self.now;
        let known = self.worker.as_ref().unwrap().entries.get(record);
        let mut entry = known.cloned().unwrap_or_else(|| Entry::new(record.clone()));
        entry.apply(now, ledger::Event::Intended(owner.clone()));
        if !self.is(Mutant::ValueNotedLate) {
            match self.save(&[Kind::Present], &[put(ledger_key(record), &entry)]) {
                None => {}
                Some(Settled::NotSaved) => return self.try_again(Item::Act(number)),
                Some(_) => return,
            }
        }
        let there = entry.is_present();
        self.worker
            .as_mut()
            .unwrap()
            .entries
            .insert(record.clone(), entry);
        if there {
            let event = self.presented(number, Ok(()));
            self.answer(number, event);
        }
    }

    /// An attempt wants a value no more.
    pub(super) fn release(&mut self, number: u64, owner: &Owner, record: &RecordId) {
        let Some(mut entry) = self.worker.as_ref().unwrap().entries.get(record).cloned() else {
            return self.answer(number, attempt::Event::Released(owner.clone()));
        };
        entry.apply(self.now, ledger::Event::Released(owner.clone()));
        if !self.is(Mutant::ReleasesBeforeLedgerSaved) {
            match self.save(&[Kind::Release], &[self.write_entry(&entry)]) {
                None => {}
                Some(Settled::NotSaved) => return self.try_again(Item::Act(number)),
                Some(_) => return,
            }
        }
        self.keep_entry(entry);
        self.answer(number, attempt::Event::Released(owner.clone()));
    }

    /// A bug: the value goes while the authority looks for it.
    pub(super) fn withdraw_at_once(&mut self, slot: usize, epoch: u64, effect: &attempt::Effect) {
        let attempt::Effect::Respond { url, .. } = effect else {
            return;
        };
        let url = url.replace("challenge", "authorization");
        let owner = format!("c{slot}/{epoch}/{url}");
        let worker = self.worker.as_mut().unwrap();
        worker.ledger_asked.changed = true;
        for entry in worker.entries.values_mut() {
            entry.apply(self.now, ledger::Event::Released(owner.clone()));
        }
    }

    pub(super) fn act_batch(&mut self, batch: &Batch, orphan: bool) -> Outcome {
        if batch
            .parts
            .iter()
            .all(|(_, _, effect)| *effect == ledger::Effect::Look)
        {
            return Outcome::Events(batch.parts.iter().map(|part| self.look(part)).collect());
        }
        if !orphan {
            for part in &batch.parts {
                self.check_change(part, batch.sent);
            }
        }
        let changes: Vec<Change> = batch.parts.iter().map(change).collect();
        let fault = self.world.host_fault();
        let whole = self.is(Mutant::RemovesWholeRrset);
        let result = self.world.host.apply(self.now, &changes, fault, whole);
        let refused = matches!(&result, Err(error) if !matches!(error.kind,
            ErrorKind::Transient | ErrorKind::RateLimited { .. } | ErrorKind::Auth));
        if refused && batch.parts.len() > 1 && !self.is(Mutant::BatchNotSplit) {
            return Outcome::Split;
        }
        match &result {
            Ok(()) => self.maybe_tamper(&changes),
            Err(error) if error.kind == ErrorKind::Permission => self.check_blame(&changes),
            Err(_) => {}
        }
        let event = |(record, _, effect): &Part| {
            let mut result = result.clone();
            let event = match effect {
                ledger::Effect::Ensure => {
                    if let (true, Err(error)) = (self.is(Mutant::RefusalTakenAsAbsent), &mut result)
                    {
                        error.kind = ErrorKind::Conflict;
                    }
                    ledger::Event::Ensured(result.map(|()| None))
                }
                _ => ledger::Event::Removed(result),
            };
            (record.clone(), event)
        };
        Outcome::Events(batch.parts.iter().map(event).collect())
    }

    /// Everybody who hears that a name is forbidden has asked for a forbidden name.
    fn check_blame(&mut self, changes: &[Change]) {
        for change in changes {
            let own = self.world.host.forbids(self.now, &change.name);
            self.checks.must(own, Invariant::OwnFault, || {
                format!("{} was refused for another name's sake", change.name)
            });
        }
    }

    fn look(&mut self, (record, _, _): &Part) -> (RecordId, ledger::Event) {
        let result = match self.world.host_fault() {
            Some(_) => Err(error(ErrorKind::Transient)),
            None => Ok(self
                .world
                .host
                .values(self.now, &record.name)
                .contains(&record.value)),
        };
        (record.clone(), ledger::Event::Looked(result))
    }

    fn maybe_tamper(&mut self, changes: &[Change]) {
        for change in changes.iter().filter(|change| change.verb == Verb::Ensure) {
            if self.world.tampers() {
                let pause = self.world.rng.millis(0, 20_000);
                let at = countersign_providers::clock::later(self.now, pause);
                self.world.host.tamper(at, &change.name, &change.value);
            }
        }
    }

    fn check_change(&mut self, (record, _, effect): &Part, sent: Timestamp) {
        match effect {
            ledger::Effect::Ensure => {
                let saved = self
                    .store
                    .read(&ledger_key(record))
                    .map(|bytes| String::from_utf8(bytes).unwrap());
                let asked = saved.is_some_and(|saved| !saved.contains("\"presence\":\"absent\""));
                self.checks
                    .must(asked, Invariant::SavedBeforeAsked, || format!("{record:?}"));
            }
            ledger::Effect::Remove => {
                let world = &mut self.world;
                let host = &mut world.host;
                let value = &record.value;
                let looking = world
                    .authority
                    .looking_for(self.now, &record.name, value, host);
                let wanted = looking
                    .into_iter()
                    .find(|url| self.is_held(url, record, sent));
                // Who stops gives up its records; the next process may come while they go.
                let early = wanted.is_some() && !self.was_suspended;
                self.checks.must(!early, Invariant::NotTooEarly, || {
                    format!("{record:?} for {wanted:?}")
                });
            }
            ledger::Effect::Look => {}
        }
    }

    /// Whether an attempt that goes on has asked for `record`, of the authorization at `url`, before
    /// `sent`: in this process, or in one before it, as is saved.
    fn is_held(&self, url: &str, record: &RecordId, sent: Timestamp) -> bool {
        let slots = self.worker.iter().flat_map(|worker| &worker.slots);
        let entry = self.store.read(&ledger_key(record)).unwrap_or_default();
        let entry = String::from_utf8(entry).unwrap();
        let open = |attempt: &Rc<Attempt>| {
            let owner = format!("{}{url}", attempt.request.owner_prefix());
            let asked = match self.checks.asked_at(&owner) {
                Some(at) => at <= sent,
                None => entry.contains(&owner),
            };
            attempt.end().is_none() && asked
        };
        slots.enumerate().any(|(number, slot)| {
            let saved = self.store.read(&attempt_key(number));
            let saved = String::from_utf8(saved.unwrap_or_default()).unwrap();
            slot.attempt.as_ref().is_some_and(open)
                && saved.contains(&format!("\"authorization\":\"{url}\""))
        })
    }

    pub(super) fn batch_done(
        &mut self,
        kinds: &[Kind],
        batch: &Batch,
        outcome: Outcome,
    ) -> Settled {
        match outcome {
            Outcome::Split => {
                let (left, right) = batch.parts.split_at(batch.parts.len() / 2);
                let zone = self.worker.as_mut().unwrap().zone(&batch.zone);
                zone.parts.extend([left.to_vec(), right.to_vec()]);
            }
            Outcome::Events(events) => {
                if let Some(stop) = self.events_done(kinds, &events) {
                    return stop;
                }
            }
        }
        let zone = self.worker.as_mut().unwrap().zone(&batch.zone);
        zone.busy = false;
        if let Some(parts) = zone.parts.pop_front() {
            self.send(&batch.zone.clone(), parts);
        }
        Settled::Saved
    }

    fn events_done(
        &mut self,
        kinds: &[Kind],
        events: &[(RecordId, ledger::Event)],
    ) -> Option<Settled> {
        let mut entries = Vec::new();
        for (record, event) in events {
            if let Some(mut entry) = self.worker.as_ref().unwrap().entries.get(record).cloned() {
                entry.apply(self.now, event.clone());
                entries.push(entry);
            }
        }
        let writes: Vec<Write> = entries
            .iter()
            .map(|entry| self.write_entry(entry))
            .collect();
        if let Some(stop) = self.save(kinds, &writes) {
            return Some(stop);
        }
        for entry in entries {
            self.keep_entry(entry);
        }
        for (record, event) in events {
            if let ledger::Event::Ensured(result) = event {
                self.tell_presenters(record, &result.clone().map(drop));
            }
        }
        None
    }

    /// Everybody who waits for `record` hears of it.
    fn tell_presenters(&mut self, record: &RecordId, result: &Result<(), ProviderError>) {
        let waits = |(number, flight): (&u64, &Flight)| match &flight.work {
            Work::Attempt {
                effect:
                    attempt::Effect::Present {
                        record: wanted,
                        owner,
                        ..
                    },
                ..
            } if wanted == record && flight.news.is_none() => Some((*number, owner.clone())),
            _ => None,
        };
        let waiting: Vec<(u64, Owner)> = self.flights.iter().filter_map(waits).collect();
        for (number, owner) in waiting {
            let entry = self
                .worker
                .as_ref()
                .and_then(|worker| worker.entries.get(record));
            // Who has only just come is not in the ledger yet and will ask for itself.
            if entry.is_some_and(|entry| entry.owners().any(|known| *known == owner)) {
                let event = self.presented(number, result.clone());
                self.answer(number, event);
            }
        }
    }

    /// Some hosts say later when all of their servers have a value.
    fn presented(&mut self, number: u64, result: Result<(), ProviderError>) -> attempt::Event {
        let placed = match self.world.rng.chance(30) {
            true => attempt::Placed::Spreading,
            false => attempt::Placed::There,
        };
        attempt::Event::Presented(self.part_of(number), result.map(|()| placed))
    }

    fn part_of(&self, number: u64) -> usize {
        match self.flights.get(&number).map(|flight| &flight.work) {
            Some(Work::Attempt {
                effect: attempt::Effect::Present { part, .. },
                ..
            }) => *part,
            _ => 0,
        }
    }

    fn is_forgotten(&self, entry: &Entry) -> bool {
        let unwanted = entry.owners().next().is_none() && !entry.is_withdrawing();
        entry.is_over() || (self.is(Mutant::NoTombstone) && unwanted)
    }

    fn write_entry(&self, entry: &Entry) -> Write {
        match self.is_forgotten(entry) {
            true => Write::Delete(ledger_key(&entry.record)),
            false => put(ledger_key(&entry.record), entry),
        }
    }

    fn keep_entry(&mut self, entry: Entry) {
        let forgotten = self.is_forgotten(&entry);
        let entries = &mut self.worker.as_mut().unwrap().entries;
        match forgotten {
            true => entries.remove(&entry.record),
            false => entries.insert(entry.record.clone(), entry),
        };
    }
}

fn change((record, _, effect): &Part) -> Change {
    Change {
        verb: match effect {
            ledger::Effect::Ensure => Verb::Ensure,
            _ => Verb::Absent,
        },
        name: record.name.clone(),
        value: record.value.clone(),
        ttl: attempt::TTL,
        handle: None,
    }
}

fn ledger_key(record: &RecordId) -> String {
    format!(
        "ledger/{}/{}/{}/{}",
        record.provider, record.zone.id, record.name, record.value
    )
}
