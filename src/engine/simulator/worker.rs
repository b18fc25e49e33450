//! The worker of the simulator: asks everything that lives what it wants, and starts it. It does what the real worker
//! does, with virtual time and with deaths at chosen moments.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use countersign_providers::clock::later;
use jiff::Timestamp;

use super::super::account::Account;
use super::super::attempt::{self, Attempt};
use super::super::certificate::{Certificate, Specification};
use super::super::delivery::Delivery;
use super::super::key::KeyType;
use super::super::ledger::{Entry, RecordId};
use super::super::{EffectId, Pending};
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
    /// Whether anything happened since everything was last asked.
    pub(super) changed: bool,
    /// When everything is to be asked again although nothing happens.
    pub(super) wake: Option<Timestamp>,
}

/// Everything about one certificate.
pub(super) struct Slot {
    pub(super) certificate: Certificate,
    pub(super) attempt: Option<Attempt>,
    pub(super) delivery: Delivery,
    pub(super) begin_after: Option<Timestamp>,
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

fn sooner<E>(wake: &mut Option<Timestamp>, pending: &Pending<E>) {
    if let Some(at) = pending.wake {
        *wake = Some(wake.map_or(at, |wake| wake.min(at)));
    }
}
