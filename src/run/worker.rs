//! Drives one attempt: has its effects performed and feeds the events back: apply, save, ask again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use tokio::task::{JoinError, JoinSet};
use tracing::Instrument;

use super::accounts::{self, Ready, internal, store_failure};
use super::hands::{Done, Hands};
use super::journal::Journal;
use super::progress::Progress;
use super::shared::{Authority, Shared, Wanted};
use super::stop::Stop;
use super::{LONGEST_SLEEP, by_hand, records};
use crate::dns::Walk;
use crate::engine::EffectId;
use crate::engine::attempt::{Attempt, Effect, End, Request, Step};
use crate::engine::certificate::Certificate;
use crate::engine::order::CaFault;
use crate::engine::reaction::{Failure, Whose};
use crate::measure::{self, Outcome};
use crate::store::{Keep, Saved, Write};

/// Says of an attempt that it was left because a person wanted the pass to stop.
const INTERRUPTED: &str = "interrupted; the next run goes on with its order";
/// Says of a certificate that its turn had not come by then.
const NOT_BEGUN: &str = "interrupted before it began";
/// Says of an attempt that it was left for the next process.
const PARKED: &str = "left as it is for the next start";
/// Says of an attempt that its certificate is wanted no more.
const REMOVED: &str = "not in the configuration any more";
/// In the foreground, an authority that wants to be left alone for longer than this ends the pass.
const FOREGROUND_PATIENCE: Duration = Duration::from_secs(30);
/// A line in the log shows so many names.
const SHOWN_NAMES: usize = 4;
/// When asked to stop, records are released within this.
const DRAIN: Duration = Duration::from_secs(5);

/// Why a certificate whose turn had not come is left when a person wants the pass to stop.
pub(super) fn not_begun() -> Failure {
    Failure::new(Whose::You, NOT_BEGUN)
}

/// Whether it is no failure, but somebody wanted it to stop.
pub fn is_interruption(failure: &Failure) -> bool {
    [INTERRUPTED, NOT_BEGUN, PARKED, REMOVED].contains(&failure.sentence.as_str())
}

/// One attempt being driven.
pub struct Worker {
    shared: Arc<Shared>,
    /// The account that signs.
    account: Arc<Ready>,
    attempt: Saved<Attempt>,
    certificate: Saved<Certificate>,
    journal: Journal,
    /// Where challenge names led, by authorization.
    walks: BTreeMap<usize, Arc<Walk>>,
    approaching: usize,
    step: Option<Step>,
    /// The step that it is at, and since when.
    timed: (Step, Duration),
    /// The DNS hosts that were asked for a value, and when, by authorization.
    presented: BTreeMap<usize, (String, Duration)>,
    trouble: Option<String>,
    /// What a person was told to add by hand.
    by_hand: by_hand::Values,
    /// Whether what it got takes the place of a certificate before.
    replaces: bool,
    stop: Stop,
}

/// What is under way. Tasks of their own, so that they go on while something is saved.
#[derive(Default)]
struct Running {
    ids: BTreeSet<EffectId>,
    tasks: JoinSet<(EffectId, Result<Done, Failure>)>,
}

type Joined = Result<(EffectId, Result<Done, Failure>), JoinError>;

/// How far to drive.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// The certificate is saved, or it did not work.
    Decided,
    /// No record of the attempt is wanted any more.
    Over,
}

impl Worker {
    /// Begins an attempt, saved before anything else is done.
    pub async fn begin(
        shared: Arc<Shared>,
        account: Arc<Ready>,
        authority: &Authority,
        mut certificate: Saved<Certificate>,
        wanted: &Wanted,
        stop: Stop,
        why: &str,
    ) -> Result<Self, Failure> {
        let now = shared.clock.now();
        certificate.value.epoch += 1;
        let name = certificate.value.name.clone();
        let request = Request {
            certificate: name.clone(),
            epoch: certificate.value.epoch,
            identifiers: wanted.specification.identifiers.clone(),
            profile: authority.settings.profile.clone(),
            key: wanted.specification.key,
            authority: authority.settings.name.to_string(),
            account: account.url.clone(),
            thumbprint: account.thumbprint.clone(),
        };
        let mut journal = Journal::new(name.clone(), request.epoch);
        journal
            .prune(&shared.session)
            .await
            .map_err(store_failure)?;
        journal.note(
            now,
            format!(
                "attempt {} begins at {}: {why}",
                request.epoch, request.authority
            ),
        );
        let attempt = Saved::new(records::attempt(&name), Attempt::new(request, now));
        let mut worker = Self::resume(shared, account, attempt, certificate, stop);
        worker.journal = journal;
        worker.save(Vec::new()).await?;
        Ok(worker)
    }

    /// Goes on with an attempt as it was saved.
    pub fn resume(
        shared: Arc<Shared>,
        account: Arc<Ready>,
        attempt: Saved<Attempt>,
        certificate: Saved<Certificate>,
        stop: Stop,
    ) -> Self {
        let request = &attempt.value.request;
        let journal = Journal::new(request.certificate.clone(), request.epoch);
        shared.watchers.tell(&request.certificate, Progress::Began);
        let timed = (attempt.value.step(), shared.clock.elapsed());
        Self {
            shared,
            account,
            attempt,
            certificate,
            journal,
            walks: BTreeMap::new(),
            approaching: 0,
            step: None,
            timed,
            presented: BTreeMap::new(),
            trouble: None,
            by_hand: by_hand::Values::new(),
            replaces: false,
            stop,
        }
    }

    /// The certificate as it is saved.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate.value
    }

    /// How the attempt ended, if it did.
    pub fn end(&self) -> Option<&End> {
        self.attempt.value.end()
    }

    /// Drives the attempt. An error means that it is not over and goes on another time; its records are released.
    pub async fn drive(&mut self, until: Until) -> Result<(), Failure> {
        let mut running = Running::default();
        let mut given_up: Option<(Failure, Timestamp)> = None;
        loop {
            if self.reached(until) {
                return Ok(());
            }
            let now = self.shared.clock.now();
            let pending = self.attempt.value.pending(now);
            let idle = pending.effects.is_empty() && running.ids.is_empty();
            match &given_up {
                // Suspended, and everything is released; or it takes too long.
                Some((failure, _)) if idle => return Err(failure.clone()),
                Some((failure, deadline)) if now >= *deadline => return Err(failure.clone()),
                Some(_) => {}
                None if self.stop.parks() => {
                    // What is under way is heard and saved, and nothing new is begun.
                    if running.ids.is_empty() {
                        return Err(Failure::new(Whose::Countersign, PARKED));
                    }
                }
                None => {
                    if let Some(failure) = self.reason_to_stop(now) {
                        given_up = Some((failure.clone(), self.suspend(&failure).await?));
                        continue;
                    }
                }
            }
            if !self.stop.parks() {
                self.start(&mut running, pending.effects);
            }
            let pause = pending
                .wake
                .map_or(LONGEST_SLEEP, |wake| self.shared.clock.until(wake));
            let pause = match &given_up {
                Some((_, deadline)) => pause.min(self.shared.clock.until(*deadline)),
                None => pause,
            };
            tokio::select! {
                biased;
                Some(joined) = running.tasks.join_next() => {
                    let Some(failure) = self.take(&mut running, joined).await? else {
                        continue;
                    };
                    // What cannot be done now is no better when it is repeated.
                    if given_up.is_some() {
                        return Err(failure);
                    }
                    given_up = Some((failure.clone(), self.suspend(&failure).await?));
                }
                () = self.stop.asked(), if !self.stop.is_asked() => {}
                () = self.shared.clock.sleep(pause.min(LONGEST_SLEEP)) => {}
            }
        }
    }

    /// From asking for a value to calling the authority to look: then every nameserver has it.
    fn time_propagation(&mut self, effect: &Effect) {
        let now = self.shared.clock.elapsed();
        match effect {
            Effect::Present { part, record, .. } => {
                let asked = || (record.provider.clone(), now);
                self.presented.entry(*part).or_insert_with(asked);
            }
            Effect::Respond { part, .. } => {
                if let Some((provider, asked)) = self.presented.remove(part) {
                    measure::propagated(&provider, now - asked);
                }
            }
            _ => {}
        }
    }

    fn reached(&self, until: Until) -> bool {
        match until {
            Until::Decided => self.attempt.value.end().is_some(),
            Until::Over => self.attempt.value.outcome().is_some(),
        }
    }

    /// Why to leave this attempt for another time, if so.
    fn reason_to_stop(&self, now: Timestamp) -> Option<Failure> {
        if self.stop.withdraws() {
            return Some(Failure::new(Whose::You, INTERRUPTED));
        }
        // The authority has the CSR: what it makes of it is not thrown away.
        if self.stop.removes() && self.attempt.value.step() < Step::Finalizing {
            return Some(Failure::new(Whose::You, REMOVED));
        }
        // What is left to do asks no authority.
        if self.attempt.value.end().is_some() {
            return None;
        }
        let far = |again: &Timestamp| {
            *again > countersign_providers::clock::later(now, FOREGROUND_PATIENCE)
        };
        let held = self.attempt.value.held_until().filter(far);
        let trouble =
            self.attempt.value.trouble().filter(|(_, again)| {
                again.as_ref().is_some_and(far) || self.attempt.value.is_stuck()
            });
        let (mut failure, again) = match (trouble, held) {
            (Some((failure, again)), held) => (failure.clone(), again.max(held)),
            // It said so to a process before this one.
            (None, Some(held)) => {
                let authority = &self.attempt.value.request.authority;
                let sentence =
                    format!("authority {authority}: it asked to be left alone for a while");
                (Failure::new(Whose::Authority, sentence), Some(held))
            }
            (None, None) => return None,
        };
        failure.not_before = again.map(|again| countersign_providers::clock::between(now, again));
        Some(failure)
    }

    /// Stops for now: records are released, the order is kept. What a person did is no failure. Until when the rest
    /// is waited for.
    async fn suspend(&mut self, failure: &Failure) -> Result<Timestamp, Failure> {
        let now = self.shared.clock.now();
        self.journal
            .note(now, format!("left for another time: {}", failure.sentence));
        measure::attempt_left(Outcome::Postponed, Some(self.attempt.value.step()));
        if !is_interruption(failure) {
            self.certificate.value.failed(now, failure.clone());
        }
        self.attempt.value.suspend();
        self.note_approach();
        self.save(Vec::new()).await?;
        Ok(countersign_providers::clock::later(now, DRAIN))
    }

    fn start(
        &mut self,
        running: &mut Running,
        effects: impl IntoIterator<Item = (EffectId, Effect)>,
    ) {
        for (id, effect) in effects {
            if running.ids.insert(id.clone()) {
                self.time_propagation(&effect);
                running
                    .tasks
                    .spawn(self.perform(id, effect).in_current_span());
            }
        }
    }

    /// Records what came of an effect, and of those that ended meanwhile, and saves it in one transaction. What could
    /// not be done at all, if any; an error when it could not be saved.
    async fn take(
        &mut self,
        running: &mut Running,
        first: Joined,
    ) -> Result<Option<Failure>, Failure> {
        let decided = self.attempt.value.end().is_some();
        let (mut writes, mut failure) = (Vec::new(), None);
        let mut next = Some(first);
        while let Some(joined) = next {
            match joined {
                Ok((id, done)) => {
                    running.ids.remove(&id);
                    match done {
                        Ok(done) => writes.extend(self.note(&id, done)),
                        Err(error) => failure = Some(error),
                    }
                }
                Err(panic) => failure = Some(internal(panic)),
            }
            next = running.tasks.try_join_next();
        }
        self.note_approach();
        if failure.is_none() && !self.stop.parks() {
            // What only looks changes nothing outside, and need not wait until it is saved why.
            let pending = self.attempt.value.pending(self.shared.clock.now());
            let looks = |(_, effect): &(EffectId, Effect)| effect.only_looks();
            self.start(running, pending.effects.into_iter().filter(looks));
        }
        self.save(writes).await?;
        self.tell(decided);
        Ok(failure)
    }

    /// Records what came of an effect; what is to be saved beside the attempt and the certificate.
    fn note(&mut self, id: &EffectId, done: Done) -> Vec<Write> {
        let now = self.shared.clock.now();
        let decided = self.attempt.value.end().is_some();
        if let Some((part, walk)) = done.walk {
            self.walks.insert(part, walk);
        }
        if let Some(note) = done.note {
            self.journal.note(now, note);
        }
        let mut writes = done.writes;
        self.attempt.value.apply(now, id, done.event);
        self.count(decided, now);
        match self.attempt.value.end().cloned() {
            Some(End::Failed(_)) if decided => {
                if let Some(until) = self.attempt.value.held_until() {
                    self.certificate.value.held(until);
                }
            }
            None | Some(_) if decided => {}
            None => {}
            Some(End::Issued) => {
                if let Some(issued) = done.issued {
                    self.replaces = self.certificate.value.current.is_some();
                    writes.extend(self.replaced());
                    self.certificate.value.issued(*issued);
                }
            }
            Some(End::Failed(failure)) => {
                self.journal
                    .note(now, format!("failed: {}", failure.sentence));
                self.certificate.value.failed(now, failure);
                writes.clear();
            }
        }
        writes
    }

    /// Notes for the metrics that a step is over, and the attempt unless that was `decided` before.
    fn count(&mut self, decided: bool, now: Timestamp) {
        let (step, since) = self.timed;
        let is = self.attempt.value.step();
        if is != step {
            let elapsed = self.shared.clock.elapsed();
            measure::step_over(step, elapsed - since);
            self.timed = (is, elapsed);
        }
        let outcome = match self.attempt.value.end() {
            Some(End::Issued) if !decided => Outcome::Issued,
            Some(End::Failed(_)) if !decided => Outcome::Failed,
            _ => return,
        };
        measure::attempt_left(outcome, Some(step));
        let took = countersign_providers::clock::between(self.attempt.value.started, now);
        measure::attempt_over(outcome, took);
    }

    /// Removes the material of the generation before the one that is being replaced.
    fn replaced(&self) -> Vec<Write> {
        let name = &self.certificate.value.name;
        let epochs = 1..self
            .certificate
            .value
            .current
            .as_ref()
            .map_or(1, |issued| issued.epoch);
        // Older ones went with the renewals before; a few back is enough after failed attempts.
        let recent = epochs.rev().take(8);
        recent
            .flat_map(|epoch| [records::leaf_key(name, epoch), records::chain(name, epoch)])
            .map(Write::Delete)
            .collect()
    }

    fn tell(&mut self, decided: bool) {
        let name = &self.attempt.value.request.certificate;
        let watchers = &self.shared.watchers;
        let trouble = self.attempt.value.trouble();
        let sentence = trouble.map(|(failure, _)| failure.sentence.clone());
        if sentence != self.trouble {
            if let Some((failure, again)) = trouble {
                let sentence = failure.sentence.clone();
                watchers.tell(name, Progress::Trouble { sentence, again });
            }
            self.trouble = sentence;
        }
        for sentence in by_hand::news(&self.shared.config, &self.attempt.value, &mut self.by_hand) {
            tracing::info!("{sentence}");
            watchers.tell(name, Progress::ByHand(sentence));
        }
        let step = Some(self.attempt.value.step());
        if step != self.step {
            self.step = step;
            watchers.tell(name, Progress::Step(self.attempt.value.step()));
        }
        if !decided
            && self.attempt.value.end() == Some(&End::Issued)
            && let Some(issued) = &self.certificate.value.current
        {
            let word = if self.replaces { "renewed" } else { "issued" };
            let names = issued.specification.identifiers.iter().take(SHOWN_NAMES);
            let names = names.map(ToString::to_string).collect::<Vec<_>>();
            let more = issued.specification.identifiers.len() - names.len();
            let more = if more > 0 {
                format!(" and {more} more")
            } else {
                String::new()
            };
            let (names, authority, until) = (names.join(", "), &issued.authority, issued.not_after);
            tracing::info!("{word} by {authority}: {names}{more}; valid until {until}");
            watchers.tell(name, Progress::Issued(Box::new(issued.clone())));
        }
    }

    fn note_approach(&mut self) {
        let now = self.attempt.value.approaching();
        self.shared.ledger.approach(self.approaching, now);
        self.approaching = now;
    }

    /// Saves what changed. An attempt that is over is forgotten. Its key stays, also
    /// when it failed: the authority may have made a certificate for it; it goes when later ones are replaced.
    async fn save(&mut self, mut writes: Vec<Write>) -> Result<(), Failure> {
        let over = self.attempt.value.outcome().is_some();
        if over {
            writes.push(Write::Delete(self.attempt.key.clone()));
        }
        // Lines of history wait for something that must be saved.
        if !writes.is_empty() || self.attempt.changed().is_some() {
            writes.extend(self.journal.take());
        }
        let mut values: Vec<&mut dyn Keep> = vec![&mut self.certificate];
        if !over {
            values.push(&mut self.attempt);
        }
        self.shared
            .session
            .save(&mut values, writes)
            .await
            .map_err(store_failure)
    }

    fn perform(
        &self,
        id: EffectId,
        effect: Effect,
    ) -> BoxFuture<'static, (EffectId, Result<Done, Failure>)> {
        let hands = Hands {
            shared: Arc::clone(&self.shared),
            account: Arc::clone(&self.account),
            request: self.attempt.value.request.clone(),
            generation_after: self
                .certificate
                .value
                .current
                .as_ref()
                .map_or(0, |i| i.generation),
        };
        let order = self
            .attempt
            .value
            .order_url()
            .unwrap_or_default()
            .to_owned();
        let walk = match &effect {
            Effect::Observe { part, .. } | Effect::Present { part, .. } => {
                self.walks.get(part).cloned()
            }
            _ => None,
        };
        let name = hands.request.certificate.clone();
        tracing::trace!(certificate = %name, effect = %id, "effect");
        Box::pin(async move {
            let (shared, account) = (Arc::clone(&hands.shared), Arc::clone(&hands.account));
            let mut done = hands.perform(effect, &order, walk).await;
            let fault = done.as_ref().ok().and_then(|done| done.event.fault());
            if fault.is_some_and(CaFault::is_about_lost_account)
                && let Err(failure) = accounts::lost(&shared, &account).await
            {
                done = Err(failure);
            }
            tracing::trace!(certificate = %name, effect = %id, ok = done.is_ok(), "effect done");
            (id, done)
        })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.shared.ledger.approach(self.approaching, 0);
    }
}
