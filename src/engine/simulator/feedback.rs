//! News fed back: applied, committed with everything that belongs to it, and only then believed.

use std::rc::Rc;
use std::time::Duration;

use countersign_providers::clock::later;
use serde::Serialize;

use super::super::EffectId;
use super::super::account;
use super::super::attempt::{self, Attempt, End};
use super::super::certificate::{Certificate, Issued, generation};
use super::super::delivery;
use super::super::order::{CaFault, ChallengeStatus};
use super::super::renewal::renew_at;
use super::authority::Leaf;
use super::flight::{News, Work};
use super::life::{Item, Life};
use super::mutants::Mutant;
use super::store::{Fault, Write};
use super::{Kind, Moment};

/// What became of news.
pub(super) enum Settled {
    Saved,
    NotSaved,
    Dead,
}

impl Life<'_> {
    pub(super) fn done(&mut self, number: u64) {
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

    pub(super) fn account_done(
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
        match self.commit(writes) {
            Settled::Saved => None,
            stop => Some(stop),
        }
    }

    pub(super) fn attempt_done(
        &mut self,
        number: u64,
        slot: usize,
        epoch: u64,
        id: &EffectId,
        effect: &attempt::Effect,
        mut event: attempt::Event,
    ) -> Settled {
        let kinds = [Kind::of(effect)];
        let Some(old) = &self.worker.as_ref().unwrap().slots[slot].attempt else {
            return Settled::Saved;
        };
        if old.request.epoch != epoch {
            return Settled::Saved;
        }
        let was_ended = old.end().is_some();
        let mut new = Attempt::clone(old);
        let floor = event.fault().and_then(floor_of);
        self.perturb(slot, epoch, effect, &mut event);
        let is_key = matches!(event, attempt::Event::KeySaved);
        let is_order = matches!(event, attempt::Event::Ordered(Ok(_)));
        new.apply(self.now, id, event);
        let old = self.worker.as_ref().unwrap().slots[slot].attempt.as_deref();
        let takes_key = is_key && old != Some(&new);
        let new = Rc::new(new);
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
                wanted.want(self.now, issued.generation, issued.not_after);
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
        if let (true, Some(End::Failed(_)), Some(until)) = (was_ended, new.end(), new.held_until())
        {
            let mut changed = current.certificate.clone();
            changed.held(until);
            writes.push(put(format!("certificate/{slot}"), &changed));
            certificate = Some(changed);
        }
        if takes_key {
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
        } else {
            writes.push(Write::Put(attempt_key(slot), Rc::<Attempt>::clone(&new)));
        }
        let stop = match self.mutant {
            Some(Mutant::OrderUrlNotSaved) if is_order => None,
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
        if !self.is(Mutant::OrderUrlNotSaved) || !is_order {
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
    pub(super) fn perturb(
        &mut self,
        slot: usize,
        epoch: u64,
        effect: &attempt::Effect,
        event: &mut attempt::Event,
    ) {
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
                    challenge.status = ChallengeStatus::Processing;
                }
            }
            (Some(Mutant::WithdrawsTooEarly), attempt::Event::Responded(_, Ok(_))) => {
                self.withdraw_at_once(slot, epoch, effect);
            }
            _ => {}
        }
    }

    pub(super) fn issued(
        &self,
        slot: usize,
        epoch: u64,
        leaf: &Leaf,
        certificate: &Certificate,
    ) -> Issued {
        let last = certificate.current.as_ref();
        Issued {
            epoch,
            generation: generation(last.map_or(0, |issued| issued.generation), self.now),
            specification: self.specification(slot),
            authority: "main".to_owned(),
            profile: None,
            serial: leaf.serial.to_string(),
            sha256: String::new(),
            issuer: "the simulator".to_owned(),
            not_before: leaf.not_before,
            not_after: leaf.not_after,
            renew_at: renew_at(self.now, leaf.not_before, leaf.not_after, 0.5),
        }
    }

    pub(super) fn delivery_done(
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

    /// Commits. After a failure that leaves open what was written the process starts anew, from what is there.
    pub(super) fn commit(&mut self, writes: &[Write]) -> Settled {
        // Without a change there is no commit that could fail.
        let fault = self.world.store_fault();
        let fault = fault.filter(|_| self.store.differs(writes));
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
}

pub(super) fn put<T: Serialize + Clone + 'static>(key: String, value: &T) -> Write {
    Write::Put(key, Rc::new(value.clone()))
}

pub(super) fn attempt_key(slot: usize) -> String {
    format!("attempt/{slot}")
}

pub(super) fn key_key(slot: usize, epoch: u64) -> String {
    format!("key/{slot}/{epoch}")
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
