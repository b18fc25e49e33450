//! One life: its clock, its births and deaths, and what must be true at its end.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use countersign_providers::clock::later;
use jiff::Timestamp;
use serde::de::DeserializeOwned;

use super::super::account::{Account, AccountId};
use super::super::attempt::Attempt;
use super::super::certificate::Certificate;
use super::super::delivery::Delivery;
use super::super::ledger::Entry;
use super::check::{Checks, Invariant};
use super::feedback::{attempt_key, key_key};
use super::flight::Flight;
use super::host::Directory;
use super::mutants::Mutant;
use super::store::Store;
use super::worker::{Slot, Worker};
use super::world::World;
use super::{Counts, Crash, Kind, Moment};

/// No life needs so many steps.
const MOST_STEPS: u32 = 30_000;

/// One life.
pub(super) struct Life<'a> {
    pub(super) now: Timestamp,
    pub(super) queue: BTreeMap<(Timestamp, u64), Item>,
    pub(super) sequence: u64,
    pub(super) world: World,
    pub(super) store: Store,
    pub(super) checks: Checks,
    pub(super) mutant: Option<Mutant>,
    pub(super) worker: Option<Worker>,
    pub(super) flights: BTreeMap<u64, Flight>,
    pub(super) crashes: Vec<Crash>,
    pub(super) counts: &'a mut Counts,
    pub(super) incarnation: u64,
    /// Challenges that were responded to, and by which process.
    pub(super) responses: BTreeMap<String, u64>,
    trace: bool,
    pub(super) was_suspended: bool,
}

/// What happens at an instant.
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
    pub(super) fn die(&mut self, why: &str) {
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

    pub(super) fn suspend(&mut self) {
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
