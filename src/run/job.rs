//! What one certificate has to do now, and doing it: its attempt, its deliveries, the removal of its records.

use std::sync::Arc;

use countersign_providers::clock::{between, later};
use jiff::Timestamp;
use tokio::sync::OwnedMutexGuard;
use tracing::Span;

use super::accounts::{self, Ready, store_failure};
use super::by_hand;
use super::delivering;
use super::plan::{self, Turn};
use super::records;
use super::scheduler::Selection;
use super::shared::{Authority, Shared, Wanted};
use super::stop::Stop;
use super::worker::{Until, Worker, not_begun};
use crate::engine::attempt::{Attempt, Effect, End, Event, Request};
use crate::engine::certificate::Certificate;
use crate::engine::delivery::Delivery;
use crate::engine::is_ahead;
use crate::engine::names::CertificateName;
use crate::engine::reaction::{Failure, Whose};
use crate::engine::renewal::{Due, Reason};
use crate::engine::timekeeping::{CLOCK_STEP, by_own_clock};
use crate::measure::{self, Outcome};
use crate::store::{Keep, Saved, StoreError, Write};

/// What happens for one certificate happens in this: its lines say so.
pub(super) fn span(name: &CertificateName) -> Span {
    tracing::error_span!("work", certificate = %name, attempt = tracing::field::Empty)
}

/// A certificate that has something to do.
pub(super) struct Job {
    pub(super) certificate: Saved<Certificate>,
    /// Whether a person asked for it: pauses after failures of our own are skipped.
    hurries: bool,
    /// Why nothing new is begun although a person asked: the other side wants to be left alone.
    held: Option<Failure>,
    attempt: Option<Saved<Attempt>>,
    /// Why a new one is to be had; `None` when only the rest of the last one is to be done.
    why: Option<&'static str>,
}

impl Job {
    /// The same without asking an authority for anything.
    pub(super) fn without_order(self) -> Self {
        Self {
            held: None,
            attempt: None,
            why: None,
            ..self
        }
    }
}

/// What `name` has to do now; `None` when it has nothing.
pub(super) async fn job(
    shared: &Shared,
    name: &CertificateName,
    selection: &Selection,
) -> Result<Option<Job>, StoreError> {
    let wanted = &shared.certificates[name];
    let certificate = certificate(shared, name).await?;
    let attempt = shared
        .session
        .load::<Attempt>(records::attempt(name))
        .await?;
    let now = shared.clock.now();
    let due = certificate
        .value
        .due(now, &wanted.specification, &shared.profiles);
    let skips = selection.ignore_back_off && due.reason == Reason::Retry;
    let asks = authority_for(
        shared,
        wanted,
        &certificate.value,
        attempt.as_ref().map(|it| &it.value),
    );
    let is_due = skips || by_clock(shared, &due, &asks) <= now;
    // What an authority asked for holds also for a person in a hurry.
    let trouble = certificate.value.trouble.as_ref();
    let floor = trouble.and_then(|trouble| trouble.floor(now));
    let floor = floor.filter(|floor| *floor > now);
    let is_held = floor.is_some();
    let held = match (floor, &certificate.value.trouble) {
        (Some(floor), Some(trouble))
            if attempt.is_none() && (is_due || selection.force) && selection.ignore_back_off =>
        {
            let mut failure = trouble.failure.clone();
            failure.not_before = Some(between(now, floor));
            Some(failure)
        }
        _ => None,
    };
    let why = match (is_due, selection.force) {
        _ if is_held => None,
        (true, _) => Some(because(due.reason)),
        (false, true) => Some("a person asked for it"),
        (false, false) => None,
    };
    // One that was left for another time waits for it, and what is issued is delivered meanwhile.
    let goes_on = why.is_some() || trouble.is_none() || selection.ignore_back_off;
    let attempt = attempt.filter(|_| goes_on);
    let wanting = delivering::is_wanting(shared, &certificate.value, wanted).await?;
    if why.is_none() && attempt.is_none() && held.is_none() && !wanting {
        return Ok(None);
    }
    Ok(Some(Job {
        certificate,
        hurries: selection.ignore_back_off,
        held,
        attempt,
        why,
    }))
}

/// When `name` wants something next, by what is saved.
pub(super) async fn turn(shared: &Shared, name: &CertificateName) -> Result<Turn, StoreError> {
    let wanted = &shared.certificates[name];
    let now = shared.clock.now();
    let certificate = certificate(shared, name).await?.value;
    let key = records::attempt(name);
    let attempt = shared.session.load::<Attempt>(key).await?;
    let trouble = certificate.trouble.as_ref();
    let authority = authority_for(
        shared,
        wanted,
        &certificate,
        attempt.as_ref().map(|it| &it.value),
    );
    let attempt_at = match (&attempt, trouble) {
        // It was left in the middle, and nothing was in its way.
        (Some(_), None) => Timestamp::MIN,
        _ => {
            let due = certificate.due(now, &wanted.specification, &shared.profiles);
            let at = by_clock(shared, &due, &authority);
            let floor = trouble.and_then(|trouble| trouble.floor(now));
            at.max(floor.unwrap_or(at))
        }
    };
    let mut delivery_at = None;
    if let Some(issued) = &certificate.current {
        for to in &wanted.destinations {
            let key = records::delivery(name, &to.name);
            let saved = shared.session.load::<Delivery>(key).await?;
            let at = match saved.map(|saved| saved.value) {
                Some(delivery) if delivery.wanted() == Some(issued.generation) => {
                    match delivery.is_done() && delivery.failure().is_none() {
                        true => continue,
                        false => {
                            let again = delivery.failure().and_then(|(_, again)| again);
                            again.filter(|again| is_ahead(*again, now))
                        }
                    }
                }
                _ => None,
            };
            let at = at.unwrap_or(Timestamp::MIN);
            delivery_at = Some(delivery_at.map_or(at, |first: Timestamp| first.min(at)));
        }
    }
    let asks = delivery_at.is_none_or(|at| attempt_at <= at);
    Ok(Turn {
        at: delivery_at.map_or(attempt_at, |at| at.min(attempt_at)),
        ends: certificate.current.as_ref().map(|issued| issued.not_after),
        authority: asks.then_some(authority),
        // Not where it said itself when it wants to be asked again.
        waits: trouble
            .is_some_and(|it| it.failure.outage && it.floor(now).is_none_or(|at| at <= now)),
        domain: plan::domain(&wanted.specification),
    })
}

/// When it is due by this machine's clock. The time of a renewal comes from the authority's: where that is known to be
/// another, it is what counts.
fn by_clock(shared: &Shared, due: &Due, authority: &str) -> Timestamp {
    let authority = shared.authorities.get(authority);
    let ahead = authority.and_then(|authority| authority.ahead(&shared.clock));
    match (due.reason, ahead) {
        (Reason::Renewal, Some(ahead)) => by_own_clock(due.at, ahead),
        _ => due.at,
    }
}

async fn certificate(
    shared: &Shared,
    name: &CertificateName,
) -> Result<Saved<Certificate>, StoreError> {
    let key = records::certificate(name);
    let saved = shared.session.load(key.clone()).await?;
    Ok(saved.unwrap_or_else(|| Saved::new(key, Certificate::new(name.clone()))))
}

/// One certificate: its attempt, then its deliveries beside the removal of its records.
/// `issued_by` becomes the authority that issued it, if one did.
pub(super) async fn perform(
    shared: &Arc<Shared>,
    mut job: Job,
    stop: Stop,
    issued_by: &mut Option<String>,
) -> Result<(), Failure> {
    let name = job.certificate.value.name.clone();
    let wanted = &shared.certificates[&name];
    if job.attempt.as_ref().is_some_and(has_failed)
        && let Some(attempt) = job.attempt.take()
    {
        // A process died before its records were released.
        discard(shared, attempt).await?;
    }
    if job.why.is_none() && job.attempt.is_none() && job.held.is_none() {
        return delivering::deliver(shared, &job.certificate.value, wanted, job.hurries).await;
    }
    let hurries = job.hurries;
    if let Some(failure) = job.held {
        return Err(failure);
    }
    let (_turn, mut worker) = tokio::select! {
        biased;
        () = stop.asked() => return Err(not_begun()),
        worker = worker(shared, job, wanted, stop.clone()) => worker?,
    };
    Span::current().record("attempt", worker.certificate().epoch);
    worker.drive(Until::Decided).await?;
    let issued = worker.certificate().clone();
    let end = worker.end().cloned();
    if end == Some(End::Issued) {
        *issued_by = issued
            .current
            .as_ref()
            .map(|issued| issued.authority.clone());
    }
    let deliver = async {
        // Not only what this run issued: a process may have died between the certificate and its delivery.
        let wanting = delivering::is_wanting(shared, &issued, wanted).await;
        match wanting.map_err(store_failure)? {
            true => delivering::deliver(shared, &issued, wanted, hurries).await,
            false => Ok(()),
        }
    };
    let (delivered, closed) = tokio::join!(deliver, worker.drive(Until::Over));
    match end {
        Some(End::Failed(failure)) => Err(failure),
        _ => delivered.and(closed),
    }
}

/// A worker for the job: of the attempt that was saved, or of a new one.
async fn worker(
    shared: &Arc<Shared>,
    job: Job,
    wanted: &Wanted,
    stop: Stop,
) -> Result<(OwnedMutexGuard<()>, Worker), Failure> {
    let attempt = job.attempt.as_ref().map(|attempt| &attempt.value);
    let name = authority_for(shared, wanted, &job.certificate.value, attempt);
    let authority = shared.authorities.get(&name).ok_or_else(|| {
        Failure::new(
            Whose::You,
            format!("the authority {name} is not in the configuration any more"),
        )
    })?;
    let account = match accounts::ready(shared, authority, job.hurries).await {
        Ok(account) => Arc::new(account),
        Err(failure) => return Err(failed_before(shared, job.certificate, failure).await),
    };
    let attempt = match job.attempt {
        Some(attempt)
            if attempt.value.started <= later(shared.clock.now(), CLOCK_STEP)
                && fits(&attempt.value.request, authority, &account, wanted) =>
        {
            Some(attempt)
        }
        Some(attempt) => {
            discard(shared, attempt).await?;
            None
        }
        None => None,
    };
    // Those with the same names at the same account get the same order: one after the other.
    let turn = shared.turns.turn(&account.url, &wanted.specification).await;
    let worker = match attempt {
        Some(attempt) => {
            Worker::resume(Arc::clone(shared), account, attempt, job.certificate, stop)
        }
        None => {
            let why = job.why.unwrap_or("the last attempt was for something else");
            Worker::begin(
                Arc::clone(shared),
                account,
                authority,
                job.certificate,
                wanted,
                stop,
                why,
            )
            .await?
        }
    };
    Ok((turn, worker))
}

/// Notes that the task of `name` ended by a fault of ours.
pub(super) async fn fell_over(
    shared: &Shared,
    name: &CertificateName,
    error: &tokio::task::JoinError,
) -> Failure {
    let sentence = format!("its task ended unexpectedly: {error}");
    tracing::error!(certificate = %name, "{sentence}");
    let failure = Failure::new(Whose::Countersign, sentence);
    match certificate(shared, name).await {
        Ok(certificate) => failed_before(shared, certificate, failure).await,
        Err(error) => store_failure(error),
    }
}

/// When `name`, of which `failure` came, is tried again.
pub(super) async fn again(
    shared: &Shared,
    name: &CertificateName,
    failure: &Failure,
) -> Option<Timestamp> {
    let saved = certificate(shared, name).await.ok();
    let trouble = saved.and_then(|saved| saved.value.trouble);
    let retry_at = trouble
        .filter(|trouble| trouble.failure == *failure)
        .map(|trouble| trouble.retry_at);
    let floor = failure
        .not_before
        .map(|pause| later(shared.clock.now(), pause));
    retry_at.max(floor)
}

/// Whether `is`, of `now`, is another certificate than `was`, of `before`.
pub(super) fn is_other(before: &Shared, was: &Wanted, now: &Shared, is: &Wanted) -> bool {
    was.specification != is.specification
        || is
            .authorities
            .iter()
            .any(|authority| profile(before, authority) != profile(now, authority))
}

fn profile<'s>(shared: &'s Shared, authority: &str) -> Option<&'s str> {
    let authority = shared.authorities.get(authority)?;
    authority.settings.profile.as_deref()
}

/// Gives up the attempt of a certificate that is configured no more. Its material stays.
pub(super) async fn forget(shared: &Shared, name: &CertificateName) -> Result<(), Failure> {
    let saved = shared.session.load::<Attempt>(records::attempt(name)).await;
    match saved.map_err(store_failure)? {
        Some(attempt) => discard(shared, attempt).await,
        None => Ok(()),
    }
}

fn has_failed(attempt: &Saved<Attempt>) -> bool {
    matches!(attempt.value.end(), Some(End::Failed(_)))
}

/// Whether an attempt is for what is wanted now, at an account that is still ours: an account belongs to a directory
/// and an external key, not to the name that an authority has in the configuration.
fn fits(request: &Request, authority: &Authority, account: &Ready, wanted: &Wanted) -> bool {
    request.authority == authority.settings.name.as_str()
        && request.account == account.url
        && request.thumbprint == account.thumbprint
        && request.profile == authority.settings.profile
        && request.identifiers == wanted.specification.identifiers
        && request.key == wanted.specification.key
}

/// Ends an attempt that is not wanted any more: its records are released, its order is left to expire.
async fn discard(shared: &Shared, mut attempt: Saved<Attempt>) -> Result<(), Failure> {
    let now = shared.clock.now();
    let why = "the configuration wants something else now";
    let by_hand = by_hand::values(&shared.config, &attempt.value);
    if !by_hand.is_empty() {
        tracing::warn!("{}", by_hand::remove(&by_hand));
    }
    attempt.value.abandon(Failure::new(Whose::Countersign, why));
    for (id, effect) in attempt.value.pending(now).effects {
        if let Effect::Release { owner, record, .. } = effect {
            let released = shared.ledger.release(owner.clone(), record).await;
            released.map_err(store_failure)?;
            attempt.value.apply(now, &id, Event::Released(owner));
        }
    }
    // Its key stays: the authority may have made a certificate for it.
    let gone = [Write::Delete(attempt.key.clone())];
    shared
        .session
        .commit(&[attempt.expectation()], &gone)
        .await
        .map_err(store_failure)?;
    Ok(())
}

/// Notes that an attempt could not even begin.
async fn failed_before(
    shared: &Shared,
    mut certificate: Saved<Certificate>,
    failure: Failure,
) -> Failure {
    measure::attempt_left(Outcome::Failed, None);
    certificate
        .value
        .failed(shared.clock.now(), failure.clone());
    match shared
        .session
        .save(&mut [&mut certificate], Vec::new())
        .await
    {
        Ok(()) => failure,
        Err(error) => store_failure(error),
    }
}

fn authority_for(
    shared: &Shared,
    wanted: &Wanted,
    certificate: &Certificate,
    attempt: Option<&Attempt>,
) -> String {
    let is_known = |name: &str| shared.authorities.contains_key(name);
    plan::authority(&wanted.authorities, is_known, certificate, attempt)
}

/// Why an attempt begins, for the history.
fn because(reason: Reason) -> &'static str {
    match reason {
        Reason::Missing => "there is no certificate yet",
        Reason::Changed => "its names, key or profile were changed",
        Reason::Renewal => "its renewal is due",
        Reason::Retry => "the last attempt failed",
    }
}
