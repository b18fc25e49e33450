//! The worker of the simulator and its clock: load, ask, start what is wanted, feed back what happened, commit, ask
//! again. It does what the real worker does, with virtual time and with deaths at chosen moments.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use countersign_providers::clock::later;
use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::super::account::{self, Account, AccountId};
use super::super::attempt::{self, Attempt, End};
use super::super::certificate::{Certificate, Issued, Specification};
use super::super::delivery::{self, Delivery};
use super::super::key::KeyType;
use super::super::ledger::{Entry, RecordId};
use super::super::order::CaFault;
use super::super::{EffectId, Pending};
use super::authority::Leaf;
use super::batch::{Batch, ZoneWork};
use super::check::{Checks, Invariant};
use super::host::Directory;
use super::mutants::Mutant;
use super::store::{Fault, Store, Write};
use super::world::World;
use super::{Counts, Crash, Kind, Moment};

/// A worker waits so long before it tries a failed commit again.
const COMMIT_PAUSE: Duration = Duration::from_secs(1);
/// No life needs so many steps.
const MOST_STEPS: u32 = 30_000;
/// A slot without hope is left alone after so many failures.
const HOPELESS_AFTER: u32 = 2;

/// One life.
pub(super) struct Life<'a> {
    pub(super) now: Timestamp,
    queue: BTreeMap<(Timestamp, u64), Item>,
    sequence: u64,
    pub(super) world: World,
    pub(super) store: Store,
    pub(super) checks: Checks,
    pub(super) mutant: Option<Mutant>,
    pub(super) worker: Option<Worker>,
    pub(super) flights: BTreeMap<u64, Flight>,
    crashes: Vec<Crash>,
    counts: &'a mut Counts,
    incarnation: u64,
    /// Challenges that were responded to, and by which process.
    responses: BTreeMap<String, u64>,
    trace: bool,
    pub(super) was_suspended: bool,
}

/// What a process has in its memory.
pub(super) struct Worker {
    pub(super) account: Account,
    pub(super) slots: Vec<Slot>,
    pub(super) entries: BTreeMap<RecordId, Entry>,
    pub(super) zones: BTreeMap<String, ZoneWork>,
    running: BTreeSet<(Thing, EffectId)>,
    /// Not saved yet: keys that a bug holds back.
    late_keys: BTreeMap<usize, u64>,
    suspended: bool,
    /// Whether anything happened since everything was last asked.
    pub(super) changed: bool,
    /// When everything is to be asked again although nothing happens.
    wake: Option<Timestamp>,
}

/// Everything about one certificate.
pub(super) struct Slot {
    pub(super) certificate: Certificate,
    pub(super) attempt: Option<Attempt>,
    delivery: Delivery,
    begin_after: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Thing {
    Account,
    Attempt(usize, u64),
    Delivery(usize),
}

/// Something on its way.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) work: Work,
    pub(super) news: Option<News>,
    /// The process that started it is dead.
    orphan: bool,
    /// An order that it made.
    made: Option<usize>,
    key: Option<u64>,
    leaf: Option<Leaf>,
}

#[derive(Clone, Debug)]
pub(super) enum Work {
    Account(EffectId, account::Effect),
    Attempt {
        slot: usize,
        epoch: u64,
        id: EffectId,
        effect: attempt::Effect,
    },
    Delivery {
        slot: usize,
        id: EffectId,
        effect: delivery::Effect,
    },
    Batch(Batch),
}

#[derive(Clone, Debug)]
pub(super) enum News {
    Account(account::Event),
    Attempt(attempt::Event),
    Delivery(delivery::Event),
    Batch(super::batch::Outcome),
}

#[derive(Clone, Debug)]
pub(super) enum Item {
    Act(u64),
    Done(u64),
    Gather(String),
    Suspend,
    Restart(u64),
}

impl<'a> Life<'a> {
    pub(super) fn new(
        world: World,
        mutant: Option<Mutant>,
        crashes: Vec<Crash>,
        counts: &'a mut Counts,
        trace: bool,
    ) -> Self {
        let mut life = Self {
            now: Timestamp::from_second(super::world::BIRTH).unwrap(),
            queue: BTreeMap::new(),
            sequence: 0,
            world,
            store: Store::default(),
            checks: Checks::default(),
            mutant,
            worker: None,
            flights: BTreeMap::new(),
            crashes,
            counts,
            incarnation: 0,
            responses: BTreeMap::new(),
            trace,
            was_suspended: false,
        };
        if life.world.rng.chance(8) {
            let at = life.world.rng.millis(0, 90_000);
            life.schedule(at, Item::Suspend);
        }
        life
    }

    /// Lives until nothing is left to do.
    pub(super) fn live(&mut self) {
        self.load();
        let idle_restart = self.world.rng.chance(10);
        self.run();
        if idle_restart && self.checks.violation.is_none() {
            self.die("idle restart");
            self.run();
        }
        self.finish();
    }

    fn run(&mut self) {
        for _ in 0..MOST_STEPS {
            let wake = self.start_due();
            if self.checks.violation.is_some() {
                return;
            }
            let item = self.queue.first_key_value().map(|((at, _), _)| *at);
            match (wake, item) {
                (None, None) => return,
                (Some(wake), None) => self.now = self.now.max(wake),
                (Some(wake), Some(at)) if wake < at => self.now = self.now.max(wake),
                (_, Some(at)) => {
                    self.now = self.now.max(at);
                    let (_, item) = self.queue.pop_first().unwrap();
                    self.happen(item);
                }
            }
        }
        self.checks.violated(
            Invariant::Ends,
            format!("{MOST_STEPS} steps were not enough"),
        );
    }

    pub(super) fn schedule(&mut self, after: Duration, item: Item) {
        self.sequence += 1;
        self.queue
            .insert((later(self.now, after), self.sequence), item);
    }

    pub(super) fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    pub(super) fn note(&self, what: impl FnOnce() -> String) {
        if self.trace {
            println!("{} {}", self.now, what());
        }
    }

    fn happen(&mut self, item: Item) {
        let asks = !matches!(&item, Item::Act(number) if self.flights.get(number).is_some_and(|flight| !flight.work.is_ledgers()));
        if let Some(worker) = &mut self.worker {
            worker.changed |= asks;
        }
        match item {
            Item::Act(flight) => self.act(flight),
            Item::Done(flight) => self.done(flight),
            Item::Gather(zone) => self.gather(&zone),
            Item::Suspend => self.suspend(),
            Item::Restart(incarnation) if incarnation == self.incarnation => {
                if self.worker.is_some() {
                    self.die("stopped");
                } else {
                    self.load();
                }
            }
            Item::Restart(_) => {}
        }
    }

    // Birth and death.

    fn load(&mut self) {
        self.incarnation += 1;
        self.note(|| format!("== process {} starts", self.incarnation));
        let account = self.read("account").unwrap_or_else(|| {
            Account::new(AccountId {
                directory: "https://ca.test/directory".to_owned(),
                external: None,
            })
        });
        let mut slots = Vec::new();
        for number in 0..self.world.wishes.len() {
            let name = self.world.wishes[number].name.clone();
            self.remember(number);
            slots.push(Slot {
                certificate: self
                    .read(&format!("certificate/{number}"))
                    .unwrap_or_else(|| Certificate::new(name.clone())),
                attempt: self.read_attempt(number),
                delivery: self
                    .read(&format!("delivery/{number}"))
                    .unwrap_or_else(|| Delivery::new(name, "/etc/certificates".to_owned())),
                begin_after: None,
            });
        }
        let forgets = self.is(Mutant::DoubtForgottenAtRestart);
        let entries = self.store.scan("ledger/").map(|bytes| {
            let entry: Entry = match forgets {
                true => serde_json::from_str(
                    &String::from_utf8_lossy(bytes).replace("\"doubt\":true", "\"doubt\":false"),
                )
                .unwrap(),
                false => serde_json::from_slice(bytes).unwrap(),
            };
            (entry.record.clone(), entry)
        });
        self.worker = Some(Worker {
            account,
            slots,
            entries: entries.collect(),
            zones: BTreeMap::new(),
            running: BTreeSet::new(),
            late_keys: BTreeMap::new(),
            suspended: false,
            changed: true,
            wake: None,
        });
    }

    /// What was written although the worker was told otherwise counts as saved.
    fn remember(&mut self, slot: usize) {
        let attempt: Option<Attempt> = self.read(&attempt_key(slot));
        let ended = attempt
            .as_ref()
            .is_none_or(|attempt| attempt.end().is_some());
        let url = attempt.as_ref().and_then(Attempt::order_url);
        self.checks.order_known(slot, url, ended);
        let certificate: Option<Certificate> = self.read(&format!("certificate/{slot}"));
        if let Some(issued) = certificate.and_then(|certificate| certificate.current) {
            let serial = issued.serial.parse().unwrap();
            if !self.checks.has_kept(serial) {
                self.checks.kept(slot, serial);
            }
        }
    }

    fn read<T: DeserializeOwned>(&self, key: &str) -> Option<T> {
        self.store
            .read(key)
            .map(|bytes| serde_json::from_slice(bytes).unwrap())
    }

    fn read_attempt(&self, slot: usize) -> Option<Attempt> {
        let mut value: serde_json::Value = match self.mutant {
            Some(Mutant::FloorForgottenAtRestart | Mutant::SecondOrderAfterCrash) => {
                self.read(&attempt_key(slot))?
            }
            _ => return self.read(&attempt_key(slot)),
        };
        if self.is(Mutant::FloorForgottenAtRestart) {
            value["not_before"] = serde_json::Value::Null;
        } else if value["end"].is_null() {
            value["order_url"] = serde_json::Value::Null;
        }
        serde_json::from_value(value).unwrap()
    }

    /// The process is gone; what it sent may still arrive.
    fn die(&mut self, why: &str) {
        self.note(|| format!("== process {} dies: {why}", self.incarnation));
        self.worker = None;
        self.checks.process_died();
        let numbers: Vec<u64> = self.flights.keys().copied().collect();
        for number in numbers {
            let flight = self.flights.get_mut(&number).unwrap();
            if let Some(made) = flight.made {
                self.world.authority.orders[made].excused = true;
            }
            flight.orphan = true;
            if flight.news.is_some()
                || !flight.work.arrives_without_us()
                || self.world.rng.chance(50)
            {
                self.flights.remove(&number);
            }
        }
        for slot in 0..self.world.directories.len() {
            if self.world.tampers() {
                self.world.directories[slot] = Directory::default();
            }
        }
        let pause = self.world.rng.millis(0, 60_000);
        self.schedule(pause, Item::Restart(self.incarnation));
    }

    /// Whether the process dies at this moment.
    pub(super) fn dies(&mut self, kinds: &[Kind], moment: Moment) -> bool {
        for crash in &mut self.crashes {
            if crash.moment == moment && kinds.contains(&crash.kind) && crash.nth > 0 {
                crash.nth -= 1;
                if crash.nth == 0 {
                    self.counts.add(crash.kind, moment);
                    let why = format!("{:?} {moment:?}", crash.kind);
                    self.die(&why);
                    return true;
                }
            }
        }
        false
    }

    fn suspend(&mut self) {
        let Some(worker) = &mut self.worker else {
            return;
        };
        worker.suspended = true;
        self.was_suspended = true;
        for attempt in worker
            .slots
            .iter_mut()
            .filter_map(|slot| slot.attempt.as_mut())
        {
            attempt.suspend();
        }
        self.note(|| "== suspended".to_owned());
        let pause = self.world.rng.millis(0, 60_000);
        self.schedule(pause, Item::Restart(self.incarnation));
    }

    // Starting.

    /// Starts everything that is due, and says when to ask again.
    fn start_due(&mut self) -> Option<Timestamp> {
        let mut wake = None;
        let worker = self.worker.as_mut()?;
        let over = worker.wake.is_some_and(|wake| wake <= self.now);
        if !std::mem::take(&mut worker.changed) && !over {
            return worker.wake;
        }
        let worker = self.worker.as_ref()?;
        let pending = worker.account.pending(self.now);
        let mut start: Vec<Work> = Vec::new();
        let mut want = |worker: &Worker, thing: Thing, id: &EffectId, work: &dyn Fn() -> Work| {
            if !worker.running.contains(&(thing, id.clone())) {
                start.push(work());
            }
        };
        sooner(&mut wake, &pending);
        for (id, effect) in &pending.effects {
            want(worker, Thing::Account, id, &|| {
                Work::Account(id.clone(), *effect)
            });
        }
        let mut begin = Vec::new();
        for (number, slot) in worker.slots.iter().enumerate() {
            match &slot.attempt {
                Some(attempt) => {
                    let epoch = attempt.request.epoch;
                    let pending = attempt.pending(self.now);
                    sooner(&mut wake, &pending);
                    for (id, effect) in &pending.effects {
                        want(worker, Thing::Attempt(number, epoch), id, &|| {
                            Work::Attempt {
                                slot: number,
                                epoch,
                                id: id.clone(),
                                effect: effect.clone(),
                            }
                        });
                    }
                }
                None if worker.account.ready().is_some()
                    && !worker.suspended
                    && !self.is_finished(number, slot) =>
                {
                    let at = slot
                        .certificate
                        .due(&self.specification(number))
                        .at
                        .max(slot.begin_after.unwrap_or(Timestamp::MIN));
                    if at <= self.now {
                        begin.push(number);
                    } else {
                        wake = Some(wake.map_or(at, |wake: Timestamp| wake.min(at)));
                    }
                }
                None => {}
            }
            let pending = slot.delivery.pending(self.now);
            sooner(&mut wake, &pending);
            for (id, effect) in &pending.effects {
                want(worker, Thing::Delivery(number), id, &|| Work::Delivery {
                    slot: number,
                    id: id.clone(),
                    effect: *effect,
                });
            }
        }
        let gather = self.zones_due(&mut wake);
        for number in &begin {
            self.begin(*number);
        }
        self.worker.as_ref()?;
        for work in start {
            self.launch(work);
        }
        for zone in gather {
            let hold = self.world.rng.millis(0, 50);
            self.schedule(hold, Item::Gather(zone));
        }
        let worker = self.worker.as_mut()?;
        worker.changed |= !begin.is_empty();
        worker.wake = match worker.changed {
            true => Some(self.now),
            false => wake,
        };
        worker.wake
    }

    /// Whether nothing more is expected for a certificate.
    fn is_finished(&self, number: usize, slot: &Slot) -> bool {
        let wish = &self.world.wishes[number];
        let failures = slot
            .certificate
            .trouble
            .as_ref()
            .map_or(0, |trouble| trouble.count);
        let hopeless = wish.hopeless.is_some() && failures >= HOPELESS_AFTER;
        hopeless || self.checks.generations(number) >= wish.generations
    }

    fn specification(&self, number: usize) -> Specification {
        Specification {
            identifiers: self.world.wishes[number].identifiers.clone(),
            key: KeyType::P256,
        }
    }

    fn begin(&mut self, number: usize) {
        let specification = self.specification(number);
        let Some(worker) = &mut self.worker else {
            return;
        };
        let Some((url, thumbprint)) = worker.account.ready() else {
            return;
        };
        let mut certificate = worker.slots[number].certificate.clone();
        certificate.epoch += 1;
        let request = attempt::Request {
            certificate: certificate.name.clone(),
            epoch: certificate.epoch,
            identifiers: specification.identifiers,
            profile: None,
            key: KeyType::P256,
            authority: "main".to_owned(),
            account: url.to_owned(),
            thumbprint: thumbprint.to_owned(),
        };
        let attempt = Attempt::new(request, self.now);
        let writes = [
            put(format!("certificate/{number}"), &certificate),
            put(attempt_key(number), &attempt),
        ];
        if self.dies(&[Kind::Begin], Moment::AfterApply) {
            return;
        }
        self.checks.begun(number, certificate.epoch);
        match self.commit(&writes) {
            Settled::Saved => {}
            Settled::NotSaved => {
                let pause = later(self.now, COMMIT_PAUSE);
                self.worker.as_mut().unwrap().slots[number].begin_after = Some(pause);
                return;
            }
            Settled::Dead => return,
        }
        self.note(|| format!("c{number}: attempt {} begins", certificate.epoch));
        let slot = &mut self.worker.as_mut().unwrap().slots[number];
        slot.certificate = certificate;
        slot.attempt = Some(attempt);
        self.dies(&[Kind::Begin], Moment::AfterCommit);
    }

    /// Commits. After a failure that leaves open what was written the process starts anew, from what is there.
    fn commit(&mut self, writes: &[Write]) -> Settled {
        let fault = self.world.store_fault();
        match self.store.commit(fault, writes) {
            Ok(()) => Settled::Saved,
            Err(Fault::Full) => {
                self.note(|| "the store is full".to_owned());
                Settled::NotSaved
            }
            Err(Fault::Io) => {
                self.die("the store failed");
                Settled::Dead
            }
        }
    }

    pub(super) fn launch(&mut self, work: Work) {
        self.check_start(&work);
        if let (Some(thing), Some(worker)) = (work.thing(), &mut self.worker) {
            worker.running.insert(thing);
        }
        let (shortest, longest) = work.latency();
        let latency = self.world.rng.millis(shortest, longest);
        self.note(|| format!("start {work:?}"));
        self.sequence += 1;
        let number = self.sequence;
        self.flights.insert(
            number,
            Flight {
                work,
                news: None,
                orphan: false,
                made: None,
                key: None,
                leaf: None,
            },
        );
        self.schedule(latency, Item::Act(number));
    }

    fn check_start(&mut self, work: &Work) {
        match work {
            Work::Account(_, account::Effect::Register) => {
                self.checks.request(None, self.now, Kind::Register)
            }
            Work::Attempt {
                slot,
                epoch,
                effect,
                ..
            } => {
                let kind = Kind::of(effect);
                let part = part(effect);
                let same = |flight: &Flight| {
                    matches!(&flight.work, Work::Attempt { slot: s, epoch: e, effect, .. }
                        if s == slot && e == epoch && Kind::of(effect) == kind && self::part(effect) == part)
                        && !flight.orphan
                };
                // Releases are told apart by their owner, which is in their id.
                if kind != Kind::Release && self.flights.values().any(same) {
                    self.checks
                        .violated(Invariant::OnceAtATime, format!("{work:?}"));
                }
                if kind.asks_authority() {
                    self.checks.request(Some(*slot), self.now, kind);
                }
                match effect {
                    attempt::Effect::NewOrder => self.checks.new_order(*slot),
                    attempt::Effect::Respond { part, url } => {
                        self.check_response(*slot, *part, url)
                    }
                    attempt::Effect::Release { owner, .. } => {
                        // Whoever releases a record waits for it no more.
                        self.flights.retain(|_, flight| {
                            !matches!(&flight.work, Work::Attempt { effect: attempt::Effect::Present { owner: waiting, .. }, .. } if waiting == owner)
                        });
                    }
                    _ => {}
                }
            }
            _ => {}
        }
    }

    fn check_response(&mut self, slot: usize, part: usize, challenge: &str) {
        self.responses
            .insert(challenge.to_owned(), self.incarnation);
        let Some(attempt) = self
            .worker
            .as_ref()
            .and_then(|worker| worker.slots[slot].attempt.as_ref())
        else {
            return;
        };
        let (identifier, value) = self
            .world
            .authority
            .value(challenge, &attempt.request.thumbprint);
        let (_, name) = self.world.host.place(&identifier);
        self.checks
            .respond((slot, part), &value, self.world.host.servers.len());
        let tampered = self
            .world
            .host
            .tampered
            .contains(&(name.clone(), value.clone()));
        let there = self.world.host.values(self.now, &name).contains(&value);
        self.checks
            .must(there || tampered, Invariant::NeverUnproven, || {
                format!("{value} is not at the host when responding")
            });
    }

    // Acting.

    fn act(&mut self, number: u64) {
        let Some(flight) = self.flights.get(&number) else {
            return;
        };
        let (work, orphan) = (flight.work.clone(), flight.orphan);
        if !orphan && self.dies(&work.kinds(), Moment::BeforeAct) {
            return;
        }
        let news = match &work {
            Work::Account(_, effect) => Some(News::Account(self.act_account(number, *effect))),
            Work::Attempt {
                slot,
                effect: attempt::Effect::Present { owner, record, .. },
                ..
            } => {
                return self.present(number, *slot, owner, record);
            }
            Work::Attempt {
                effect: attempt::Effect::Release { owner, record, .. },
                ..
            } => {
                return self.release(number, owner, record);
            }
            Work::Attempt {
                slot,
                epoch,
                effect,
                ..
            } => Some(News::Attempt(
                self.act_attempt(number, *slot, *epoch, effect),
            )),
            Work::Delivery { slot, effect, .. } => {
                Some(News::Delivery(self.act_delivery(*slot, *effect)))
            }
            Work::Batch(batch) => Some(News::Batch(self.act_batch(batch, orphan))),
        };
        self.note(|| format!("acted {work:?}: {news:?}"));
        if orphan {
            let flight = self.flights.remove(&number);
            if let Some(made) = flight.and_then(|flight| flight.made) {
                self.world.authority.orders[made].excused = true;
            }
            return;
        }
        self.flights.get_mut(&number).unwrap().news = news;
        let (shortest, longest) = work.latency();
        let latency = self.world.rng.millis(shortest, longest);
        self.schedule(latency, Item::Done(number));
    }

    pub(super) fn answer(&mut self, number: u64, event: attempt::Event) {
        if let Some(flight) = self.flights.get_mut(&number) {
            flight.news = Some(News::Attempt(event));
            self.schedule(Duration::from_millis(1), Item::Done(number));
        }
    }

    pub(super) fn try_again(&mut self, item: Item) {
        self.schedule(COMMIT_PAUSE, item);
    }

    // Feeding back.

    fn done(&mut self, number: u64) {
        let Some(flight) = self.flights.get(&number) else {
            return;
        };
        let (work, kinds) = (flight.work.clone(), flight.work.kinds());
        let Some(news) = flight.news.clone() else {
            return;
        };
        if self.dies(&kinds, Moment::AfterAct) {
            return;
        }
        let settled = match (&work, news) {
            (Work::Account(id, _), News::Account(event)) => {
                self.account_done(number, &kinds, id, event)
            }
            (
                Work::Attempt {
                    slot,
                    epoch,
                    id,
                    effect,
                },
                News::Attempt(event),
            ) => self.attempt_done(number, *slot, *epoch, id, effect, event),
            (Work::Delivery { slot, id, .. }, News::Delivery(event)) => {
                self.delivery_done(&kinds, *slot, id, event)
            }
            (Work::Batch(batch), News::Batch(outcome)) => self.batch_done(&kinds, batch, outcome),
            _ => unreachable!("news of another kind of work"),
        };
        match settled {
            Settled::Dead => {}
            Settled::NotSaved => self.try_again(Item::Done(number)),
            Settled::Saved => {
                self.flights.remove(&number);
                if let (Some(thing), Some(worker)) = (work.thing(), &mut self.worker) {
                    worker.running.remove(&thing);
                }
                self.dies(&kinds, Moment::AfterCommit);
            }
        }
    }

    fn account_done(
        &mut self,
        number: u64,
        kinds: &[Kind],
        id: &EffectId,
        event: account::Event,
    ) -> Settled {
        let key = self.flights[&number].key;
        let worker = self.worker.as_ref().unwrap();
        let mut account = worker.account.clone();
        let floor = match &event {
            account::Event::Registered(Err(fault)) => floor_of(fault),
            _ => None,
        };
        account.apply(self.now, id, event);
        let mut writes = vec![put("account".to_owned(), &account)];
        writes.extend(key.map(|key| put("account-key".to_owned(), &key)));
        if let Some(stop) = self.save(kinds, &writes) {
            return stop;
        }
        if let Some(floor) = floor {
            self.checks.floor(None, later(self.now, floor));
        }
        self.worker.as_mut().unwrap().account = account;
        Settled::Saved
    }

    /// Commits, with a death before it if it is time; `None` when it is saved.
    pub(super) fn save(&mut self, kinds: &[Kind], writes: &[Write]) -> Option<Settled> {
        if self.dies(kinds, Moment::AfterApply) {
            return Some(Settled::Dead);
        }
        let changed = writes.iter().any(|write| match write {
            Write::Put(key, value) => self.store.read(key) != Some(value.as_slice()),
            Write::Delete(key) => self.store.read(key).is_some(),
        });
        match changed.then(|| self.commit(writes)) {
            None | Some(Settled::Saved) => None,
            stop => stop,
        }
    }

    fn attempt_done(
        &mut self,
        number: u64,
        slot: usize,
        epoch: u64,
        id: &EffectId,
        effect: &attempt::Effect,
        mut event: attempt::Event,
    ) -> Settled {
        let kinds = [Kind::of(effect)];
        let Some(old) = self.worker.as_ref().unwrap().slots[slot].attempt.clone() else {
            return Settled::Saved;
        };
        if old.request.epoch != epoch {
            return Settled::Saved;
        }
        let floor = fault_of(&event).and_then(floor_of);
        self.perturb(slot, effect, &mut event);
        let mut new = old.clone();
        let (was_ended, was_key) = (old.end().is_some(), old.clone());
        new.apply(self.now, id, event.clone());
        let mut certificate = None;
        let mut delivery = None;
        let mut writes = Vec::new();
        let now_ended = !was_ended && new.end().is_some();
        let current = &self.worker.as_ref().unwrap().slots[slot];
        match new.end().filter(|_| now_ended) {
            Some(End::Failed(failure)) => {
                let mut changed = current.certificate.clone();
                changed.failed(self.now, failure.clone());
                writes.push(put(format!("certificate/{slot}"), &changed));
                certificate = Some(changed);
            }
            Some(End::Issued) => {
                let leaf = self.flights[&number].leaf.clone().unwrap();
                let mut changed = current.certificate.clone();
                let mut wanted = current.delivery.clone();
                let issued = self.issued(slot, epoch, &leaf, &changed);
                wanted.want(self.now, issued.generation);
                changed.issued(issued);
                writes.push(put(format!("certificate/{slot}"), &changed));
                if !self.is(Mutant::DeliveryNotSaved) {
                    writes.push(put(format!("delivery/{slot}"), &wanted));
                }
                if let Some(key) = self.worker.as_ref().unwrap().late_keys.get(&slot) {
                    writes.push(put(key_key(slot, epoch), key));
                }
                certificate = Some(changed);
                delivery = Some(wanted);
            }
            None => {}
        }
        if matches!(event, attempt::Event::KeySaved) && new != was_key {
            let key = self.flights[&number].key.unwrap();
            match self.is(Mutant::KeySavedLate) {
                true => {
                    self.worker.as_mut().unwrap().late_keys.insert(slot, key);
                }
                false => writes.push(put(key_key(slot, epoch), &key)),
            }
        }
        let forgets =
            self.is(Mutant::ForgetsWithdrawal) && matches!(new.end(), Some(End::Failed(_)));
        let over = new.outcome().is_some() || forgets;
        if over {
            writes.push(Write::Delete(attempt_key(slot)));
            if matches!(new.end(), Some(End::Failed(_))) {
                writes.push(Write::Delete(key_key(slot, epoch)));
            }
        } else {
            writes.push(put(attempt_key(slot), &new));
        }
        let stop = match self.mutant {
            Some(Mutant::OrderUrlNotSaved) if matches!(event, attempt::Event::Ordered(Ok(_))) => {
                None
            }
            Some(Mutant::CertificateSavedWithoutAttempt) if delivery.is_some() => {
                let last = writes.pop().unwrap();
                let _ = self.store.commit(None, &[last]);
                self.save(&kinds, &writes)
            }
            _ => self.save(&kinds, &writes),
        };
        if let Some(stop) = stop {
            return stop;
        }
        if let Some(floor) = floor {
            self.checks.floor(Some(slot), later(self.now, floor));
        }
        if !self.is(Mutant::OrderUrlNotSaved) || !matches!(event, attempt::Event::Ordered(_)) {
            self.checks
                .order_known(slot, new.order_url(), new.end().is_some());
        }
        if now_ended && matches!(new.end(), Some(End::Issued)) {
            let serial = self.flights[&number].leaf.as_ref().unwrap().serial;
            self.checks.kept(slot, serial);
        }
        if now_ended {
            self.note(|| format!("c{slot}: attempt {epoch} ends: {:?}", new.end()));
        }
        let current = &mut self.worker.as_mut().unwrap().slots[slot];
        current.attempt = (!over).then_some(new);
        if let Some(certificate) = certificate {
            current.certificate = certificate;
        }
        if let Some(delivery) = delivery {
            current.delivery = delivery;
        }
        Settled::Saved
    }

    /// What a bug makes of an event.
    fn perturb(&mut self, slot: usize, effect: &attempt::Effect, event: &mut attempt::Event) {
        match (self.mutant, event) {
            (Some(Mutant::IgnoresRetryAfter), event) => {
                if let Some(CaFault::Refused { retry_after, .. }) = fault_of_mut(event) {
                    *retry_after = None;
                }
            }
            (
                Some(Mutant::ResponseAssumedAfterCrash),
                attempt::Event::Authorization(_, Ok(seen)),
            ) => {
                if let Some(challenge) = &mut seen.challenge
                    && self
                        .responses
                        .get(&challenge.url)
                        .is_some_and(|by| *by < self.incarnation)
                {
                    challenge.status = super::super::order::ChallengeStatus::Processing;
                }
            }
            (Some(Mutant::WithdrawsTooEarly), attempt::Event::Responded(_, Ok(_))) => {
                self.withdraw_at_once(slot, effect);
            }
            _ => {}
        }
    }

    fn issued(&self, slot: usize, epoch: u64, leaf: &Leaf, certificate: &Certificate) -> Issued {
        Issued {
            epoch,
            generation: super::super::certificate::generation(
                certificate
                    .current
                    .as_ref()
                    .map_or(0, |issued| issued.generation),
                self.now,
            ),
            specification: self.specification(slot),
            authority: "main".to_owned(),
            serial: leaf.serial.to_string(),
            sha256: String::new(),
            issuer: "the simulator".to_owned(),
            not_before: leaf.not_before,
            not_after: leaf.not_after,
            renew_at: super::super::renewal::renew_at(leaf.not_before, leaf.not_after, 0.5),
        }
    }

    fn delivery_done(
        &mut self,
        kinds: &[Kind],
        slot: usize,
        id: &EffectId,
        event: delivery::Event,
    ) -> Settled {
        let mut delivery = self.worker.as_ref().unwrap().slots[slot].delivery.clone();
        delivery.apply(self.now, id, event);
        let writes = [put(format!("delivery/{slot}"), &delivery)];
        if let Some(stop) = self.save(kinds, &writes) {
            return stop;
        }
        self.worker.as_mut().unwrap().slots[slot].delivery = delivery;
        Settled::Saved
    }

    // The outside of each effect that is not the ledger's.

    pub(super) fn note_made(&mut self, number: u64, made: Option<usize>, lost: bool) {
        if let Some(made) = made {
            self.world.authority.orders[made].excused |= lost;
            if !lost && let Some(flight) = self.flights.get_mut(&number) {
                flight.made = Some(made);
            }
        }
    }

    pub(super) fn hold_key(&mut self, number: u64, key: u64) {
        if let Some(flight) = self.flights.get_mut(&number) {
            flight.key = Some(key);
        }
    }

    pub(super) fn hold_leaf(&mut self, number: u64, leaf: Leaf) {
        if let Some(flight) = self.flights.get_mut(&number) {
            flight.leaf = Some(leaf);
        }
    }

    pub(super) fn late_key(&self, slot: usize) -> Option<u64> {
        self.worker
            .as_ref()
            .and_then(|worker| worker.late_keys.get(&slot).copied())
    }

    pub(super) fn installed(&self, slot: usize) -> Option<u64> {
        self.worker
            .as_ref()
            .and_then(|worker| worker.slots[slot].delivery.installed())
    }

    // The end.

    fn finish(&mut self) {
        if self.checks.violation.is_some() {
            return;
        }
        let Some(worker) = &self.worker else {
            return self.checks.violated(Invariant::Ends, "no process is left");
        };
        for (number, slot) in worker.slots.iter().enumerate() {
            let wish = &self.world.wishes[number];
            let directory = &self.world.directories[number];
            let trouble = slot.certificate.trouble.as_ref();
            match (wish.hopeless, &slot.certificate.current) {
                (Some(_), None) => {
                    let told = trouble.is_some_and(|trouble| !trouble.failure.sentence.is_empty());
                    self.checks.must(told, Invariant::Fulfilled, || {
                        format!("c{number} has no certificate and no reason")
                    });
                }
                (_, Some(issued)) => {
                    let there = directory.installed == Some(issued.generation)
                        && directory.serving == directory.installed;
                    self.checks.must(there, Invariant::Delivered, || {
                        format!(
                            "c{number}: {:?} installed, {:?} served, {} is current",
                            directory.installed, directory.serving, issued.generation
                        )
                    });
                    let key: Option<u64> = self
                        .store
                        .read(&key_key(number, issued.epoch))
                        .map(|bytes| serde_json::from_slice(bytes).unwrap());
                    let leaf =
                        &self.world.authority.leaves[issued.serial.parse::<usize>().unwrap()];
                    self.checks
                        .must(key == Some(leaf.key), Invariant::NoKeyLost, || {
                            format!(
                                "c{number}: the certificate has key {}, the store has {key:?}",
                                leaf.key
                            )
                        });
                }
                (None, None) => self.checks.violated(
                    Invariant::Fulfilled,
                    format!("c{number} has no certificate: {trouble:?}"),
                ),
            }
            let done =
                wish.hopeless.is_some() || self.checks.generations(number) >= wish.generations;
            self.checks.must(done, Invariant::Fulfilled, || {
                format!("c{number} was not renewed")
            });
            self.checks
                .must(slot.attempt.is_none(), Invariant::Ends, || {
                    format!("c{number}: an attempt is still open")
                });
        }
        let entries = worker.entries.len();
        self.checks.must(entries == 0, Invariant::Ends, || {
            format!(
                "{entries} entries are left in the ledger: {:?}",
                worker.entries
            )
        });
        let all = self.world.host.everything(Timestamp::MAX);
        for foreign in &self.world.host.foreign {
            self.checks
                .must(all.contains(foreign), Invariant::ForeignUntouched, || {
                    format!("{foreign:?} is gone")
                });
        }
        for left in all {
            let foreign = self.world.host.foreign.contains(&left);
            self.checks.must(foreign, Invariant::NoTxtLeft, || {
                format!("{left:?} is left")
            });
        }
        for leaf in &self.world.authority.leaves {
            let kept = self.checks.has_kept(leaf.serial);
            self.checks.must(kept, Invariant::CertificateKept, || {
                format!("certificate {} was issued and is not kept", leaf.serial)
            });
        }
        let orders = self.world.authority.orders.iter();
        self.checks
            .orders(orders.map(|order| (order.slot, order.epoch, order.excused)));
    }
}

/// What became of news.
pub(super) enum Settled {
    Saved,
    NotSaved,
    Dead,
}

impl Work {
    fn thing(&self) -> Option<(Thing, EffectId)> {
        Some(match self {
            Self::Account(id, _) => (Thing::Account, id.clone()),
            Self::Attempt {
                slot, epoch, id, ..
            } => (Thing::Attempt(*slot, *epoch), id.clone()),
            Self::Delivery { slot, id, .. } => (Thing::Delivery(*slot), id.clone()),
            Self::Batch(_) => return None,
        })
    }

    pub(super) fn kinds(&self) -> Vec<Kind> {
        match self {
            Self::Account(_, account::Effect::MakeKey) => vec![Kind::AccountKey],
            Self::Account(_, account::Effect::Register) => vec![Kind::Register],
            Self::Attempt { effect, .. } => vec![Kind::of(effect)],
            Self::Delivery { effect, .. } => vec![match effect {
                delivery::Effect::Inspect => Kind::Inspect,
                delivery::Effect::Install(_) => Kind::Install,
                delivery::Effect::Reload(_) => Kind::Reload,
            }],
            Self::Batch(batch) => batch.kinds(),
        }
    }

    /// Whether the ledger does it, so that acting already changes what the worker knows.
    fn is_ledgers(&self) -> bool {
        use attempt::Effect as E;
        matches!(
            self,
            Self::Attempt {
                effect: E::Present { .. } | E::Release { .. },
                ..
            }
        )
    }

    /// Whether it reaches somebody else, so that it may still happen when its process is dead.
    fn arrives_without_us(&self) -> bool {
        match self {
            Self::Account(_, effect) => *effect == account::Effect::Register,
            Self::Attempt { effect, .. } => Kind::of(effect).asks_authority(),
            Self::Delivery { .. } => false,
            Self::Batch(_) => true,
        }
    }

    /// Shortest and longest way to or from the other side, in milliseconds.
    fn latency(&self) -> (u64, u64) {
        match self {
            Self::Account(..) => (1, 100),
            Self::Attempt { effect, .. } => match effect {
                attempt::Effect::MakeKey
                | attempt::Effect::Present { .. }
                | attempt::Effect::Release { .. } => (0, 3),
                attempt::Effect::Observe { .. } | attempt::Effect::Locate { .. } => (1, 60),
                _ => (1, 100),
            },
            Self::Delivery { .. } => (0, 5),
            Self::Batch(_) => (1, 200),
        }
    }
}

impl Worker {
    pub(super) fn zone(&mut self, zone: &str) -> &mut ZoneWork {
        self.zones
            .entry(zone.to_owned())
            .or_insert_with(|| ZoneWork {
                busy: false,
                held: false,
                parts: VecDeque::new(),
            })
    }
}

pub(super) fn put(key: String, value: &impl Serialize) -> Write {
    Write::Put(key, serde_json::to_vec(value).unwrap())
}

fn attempt_key(slot: usize) -> String {
    format!("attempt/{slot}")
}

pub(super) fn key_key(slot: usize, epoch: u64) -> String {
    format!("key/{slot}/{epoch}")
}

fn sooner<E>(wake: &mut Option<Timestamp>, pending: &Pending<E>) {
    if let Some(at) = pending.wake {
        *wake = Some(wake.map_or(at, |wake| wake.min(at)));
    }
}

fn part(effect: &attempt::Effect) -> usize {
    use attempt::Effect as E;
    match effect {
        E::FetchAuthorization { part, .. }
        | E::Locate { part, .. }
        | E::Present { part, .. }
        | E::Observe { part, .. }
        | E::Respond { part, .. }
        | E::Release { part, .. } => *part,
        _ => 0,
    }
}

fn fault_of(event: &attempt::Event) -> Option<&CaFault> {
    use attempt::Event as E;
    match event {
        E::Ordered(Err(fault))
        | E::Order(Err(fault))
        | E::Authorization(_, Err(fault))
        | E::Responded(_, Err(fault))
        | E::Finalized(Err(fault))
        | E::DownloadFailed(fault) => Some(fault),
        _ => None,
    }
}

fn fault_of_mut(event: &mut attempt::Event) -> Option<&mut CaFault> {
    use attempt::Event as E;
    match event {
        E::Ordered(Err(fault))
        | E::Order(Err(fault))
        | E::Authorization(_, Err(fault))
        | E::Responded(_, Err(fault))
        | E::Finalized(Err(fault))
        | E::DownloadFailed(fault) => Some(fault),
        _ => None,
    }
}

/// The pause that the authority asked for.
fn floor_of(fault: &CaFault) -> Option<Duration> {
    match fault {
        CaFault::Refused { retry_after, .. } => *retry_after,
        _ => None,
    }
}
