//! The worker of the simulator: asks everything that lives what it wants, and starts it. It does what the real worker
//! does, with virtual time and with deaths at chosen moments.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use countersign_providers::clock::later;
use jiff::Timestamp;

use super::super::EffectId;
use super::super::account::Account;
use super::super::attempt::{self, Attempt};
use super::super::certificate::{Certificate, Profiles, Specification};
use super::super::delivery::Delivery;
use super::super::key::KeyType;
use super::super::ledger::{Entry, RecordId};
use super::batch::ZoneWork;
use super::feedback::{Settled, attempt_key, put};
use super::flight::Work;
use super::life::{Item, Life};
use super::{Kind, Moment};

/// A worker waits so long before it tries a failed commit again.
pub(super) const COMMIT_PAUSE: Duration = Duration::from_secs(1);
/// A slot without hope is left alone after so many failures.
const HOPELESS_AFTER: u32 = 2;

/// What a process has in its memory.
pub(super) struct Worker {
    pub(super) account: Account,
    pub(super) slots: Vec<Slot>,
    pub(super) entries: BTreeMap<RecordId, Entry>,
    pub(super) zones: BTreeMap<String, ZoneWork>,
    pub(super) running: BTreeSet<(Thing, EffectId)>,
    /// Not saved yet: keys that a bug holds back.
    pub(super) late_keys: BTreeMap<usize, u64>,
    pub(super) suspended: bool,
    pub(super) account_asked: Asked,
    pub(super) ledger_asked: Asked,
}

/// Everything about one certificate.
pub(super) struct Slot {
    pub(super) certificate: Certificate,
    pub(super) attempt: Option<Rc<Attempt>>,
    pub(super) delivery: Delivery,
    pub(super) begin_after: Option<Timestamp>,
    pub(super) asked: Asked,
}

/// Whether a thing must be asked again what it wants.
pub(super) struct Asked {
    /// Something happened to it since.
    pub(super) changed: bool,
    /// Its own wish.
    pub(super) wake: Option<Timestamp>,
}

impl Asked {
    pub(super) fn never() -> Self {
        Self {
            changed: true,
            wake: None,
        }
    }

    fn is_due(&mut self, now: Timestamp) -> bool {
        std::mem::take(&mut self.changed) || self.wake.is_some_and(|wake| wake <= now)
    }

    fn sooner(&mut self, at: Option<Timestamp>) {
        self.wake = self.wake.into_iter().chain(at).min();
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Thing {
    Account,
    Attempt(usize, u64),
    Delivery(usize),
}

impl Life<'_> {
    /// Starts everything that is due, and says when to ask again.
    pub(super) fn start_due(&mut self) -> Option<Timestamp> {
        self.start_account();
        for number in 0..self.world.wishes.len() {
            self.start_slot(number);
        }
        self.start_zones();
        let worker = self.worker.as_ref()?;
        let slots = worker.slots.iter().map(|slot| &slot.asked);
        let all = slots.chain([&worker.account_asked, &worker.ledger_asked]);
        all.filter_map(|asked| asked.wake).min()
    }

    fn start_account(&mut self) {
        let now = self.now;
        let worker = self.worker.as_mut();
        let due = worker.and_then(|worker| worker.account_asked.is_due(now).then_some(worker));
        let Some(worker) = due else {
            return;
        };
        let pending = worker.account.pending(now);
        worker.account_asked.wake = pending.wake;
        for (id, effect) in pending.effects {
            self.start(Work::Account(id, effect));
        }
    }

    fn start_slot(&mut self, number: usize) {
        let now = self.now;
        let slot = self.worker.as_mut();
        let slot = slot.map(|worker| &mut worker.slots[number]);
        let Some(slot) = slot.and_then(|slot| slot.asked.is_due(now).then_some(slot)) else {
            return;
        };
        let delivery = slot.delivery.pending(now);
        slot.asked.wake = delivery.wake;
        for (id, effect) in delivery.effects {
            self.start(Work::Delivery {
                slot: number,
                id,
                effect,
            });
        }
        self.begin_if_due(number);
        let slot = self.worker.as_mut();
        let Some(slot) = slot.map(|worker| &mut worker.slots[number]) else {
            return;
        };
        let Some(attempt) = &slot.attempt else {
            return;
        };
        let pending = attempt.pending(now);
        let epoch = attempt.request.epoch;
        slot.asked.sooner(pending.wake);
        for (id, effect) in pending.effects {
            self.start(Work::Attempt {
                slot: number,
                epoch,
                id,
                effect,
            });
        }
    }

    fn start_zones(&mut self) {
        let now = self.now;
        let worker = self.worker.as_mut();
        if worker.is_some_and(|worker| worker.ledger_asked.is_due(now)) {
            for zone in self.zones_due() {
                let hold = self.world.rng.millis(0, 50);
                self.schedule(hold, Item::Gather(zone));
            }
        }
    }

    /// Launches what is not under way yet.
    fn start(&mut self, work: Work) {
        let thing = work.thing();
        let running = self.worker.as_ref().map(|worker| &worker.running);
        let is_new = |thing| running.is_some_and(|running| !running.contains(&thing));
        if thing.is_some_and(is_new) {
            self.launch(work);
        }
    }

    fn begin_if_due(&mut self, number: usize) {
        let Some(worker) = &self.worker else {
            return;
        };
        let slot = &worker.slots[number];
        let idle = slot.attempt.is_none() && worker.account.ready().is_some();
        if !idle || worker.suspended || self.is_finished(number, slot) {
            return;
        }
        let due = slot
            .certificate
            .due(self.now, &self.specification(number), &Profiles::default())
            .at;
        let at = due.max(slot.begin_after.unwrap_or(Timestamp::MIN));
        if at <= self.now {
            return self.begin(number);
        }
        if let Some(worker) = &mut self.worker {
            worker.slots[number].asked.sooner(Some(at));
        }
    }

    /// Whether nothing more is expected for a certificate.
    pub(super) fn is_finished(&self, number: usize, slot: &Slot) -> bool {
        let wish = &self.world.wishes[number];
        let failures = slot
            .certificate
            .trouble
            .as_ref()
            .map_or(0, |trouble| trouble.count);
        let hopeless = wish.hopeless.is_some() && failures >= HOPELESS_AFTER;
        hopeless || self.checks.generations(number) >= wish.generations
    }

    pub(super) fn specification(&self, number: usize) -> Specification {
        Specification {
            identifiers: self.world.wishes[number].identifiers.clone(),
            key: KeyType::P256,
        }
    }

    pub(super) fn begin(&mut self, number: usize) {
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
                let slot = &mut self.worker.as_mut().unwrap().slots[number];
                slot.begin_after = Some(pause);
                slot.asked.sooner(Some(pause));
                return;
            }
            Settled::Dead => return,
        }
        self.note(|| format!("c{number}: attempt {} begins", certificate.epoch));
        let slot = &mut self.worker.as_mut().unwrap().slots[number];
        slot.certificate = certificate;
        slot.attempt = Some(Rc::new(attempt));
        self.dies(&[Kind::Begin], Moment::AfterCommit);
    }
}

impl Worker {
    /// Something happened: who has to be asked again.
    pub(super) fn stir(&mut self, item: &Item, work: Option<&Work>) {
        let ledger = matches!(item, Item::Act(_) | Item::Gather(_));
        match (item, work) {
            (Item::Act(_), Some(work)) if !work.is_ledgers() => {}
            (Item::Done(_), Some(Work::Attempt { slot, .. } | Work::Delivery { slot, .. })) => {
                self.slots[*slot].asked.changed = true;
            }
            (Item::Done(_), Some(Work::Batch(_))) => self.ledger_asked.changed = true,
            _ if ledger => self.ledger_asked.changed = true,
            _ => {
                self.account_asked.changed = true;
                self.ledger_asked.changed = true;
                for slot in &mut self.slots {
                    slot.asked.changed = true;
                }
            }
        }
    }

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
