//! What runs next: which certificates are due, in which order, how many at once.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::future::join_all;
use jiff::Timestamp;
use tokio::sync::{OwnedMutexGuard, OwnedSemaphorePermit};
use tokio_util::sync::CancellationToken;

use super::accounts::{self, Ready, store_failure};
use super::delivering;
use super::progress::Progress;
use super::records;
use super::shared::{Authority, Shared, Wanted};
use super::worker::{Until, Worker, not_begun};
use crate::engine::attempt::{Attempt, Effect, End, Event, Request};
use crate::engine::certificate::{Certificate, Trouble};
use crate::engine::names::CertificateName;
use crate::engine::reaction::{Failure, Whose};
use crate::engine::renewal::Reason;
use crate::store::{Keep, Saved, StoreError, Write};

/// Attempts at one authority that must have failed by its own fault before the next one is asked.
const FAILURES_BEFORE_NEXT: u32 = 3;

/// What one pass is to do.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Only these; all when empty.
    pub only: BTreeSet<CertificateName>,
    /// Also what is not due.
    pub force: bool,
    /// Whether stored pauses after failures are skipped: a person asked.
    pub ignore_back_off: bool,
}

/// What one pass came to, a certificate each.
pub type Report = Vec<(CertificateName, Result<(), Failure>)>;

/// One pass: everything that is due is issued and delivered, the most urgent first, as many at once as each authority
/// bears. One bad certificate delays no other.
pub async fn pass(
    shared: &Arc<Shared>,
    selection: &Selection,
    stop: &CancellationToken,
) -> Result<Report, StoreError> {
    let mut jobs = Vec::new();
    for name in shared.certificates.keys() {
        if !selection.only.is_empty() && !selection.only.contains(name) {
            continue;
        }
        if let Some(job) = job(shared, name, selection).await? {
            jobs.push(job);
        }
    }
    jobs.sort_by_key(|job| job.ends);
    let running: Vec<_> = jobs
        .into_iter()
        .map(|job| {
            let name = job.certificate.value.name.clone();
            let (shared, stop) = (Arc::clone(shared), stop.clone());
            (
                name,
                tokio::spawn(async move { one(&shared, job, stop).await }),
            )
        })
        .collect();
    let ended = running.into_iter().map(|(name, task)| async move {
        let result = task.await.unwrap_or_else(|error| {
            Err(Failure::new(
                Whose::Countersign,
                format!("its task ended unexpectedly: {error}"),
            ))
        });
        if let Err(failure) = &result {
            shared
                .watchers
                .tell(&name, Progress::Failed(failure.clone()));
        }
        shared
            .watchers
            .tell(&name, Progress::Finished(result.is_ok()));
        (name, result)
    });
    let report = join_all(ended).await;
    Ok(report)
}

/// When the next pass has something to do; `None` when nothing ever will.
pub async fn next(shared: &Shared) -> Result<Option<Timestamp>, StoreError> {
    let mut next: Option<Timestamp> = None;
    for (name, wanted) in &shared.certificates {
        let certificate = certificate(shared, name).await?.value;
        let due = certificate.due(&wanted.specification, &shared.profiles).at;
        next = Some(next.map_or(due, |next| next.min(due)));
    }
    Ok(next)
}

/// A certificate that has something to do.
struct Job {
    certificate: Saved<Certificate>,
    attempt: Option<Saved<Attempt>>,
    /// Why a new one is to be had; `None` when only the rest of the last one is to be done.
    why: Option<&'static str>,
    /// When the present certificate ends: what ends first goes first, and what has none before that.
    ends: Option<Timestamp>,
}

async fn job(
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
    let due = certificate
        .value
        .due(&wanted.specification, &shared.profiles);
    let skips = selection.ignore_back_off && due.reason == Reason::Retry;
    let now = shared.clock.now();
    let is_due = skips || due.at <= now;
    // What an authority asked for holds also for a person in a hurry.
    let floor = certificate.value.trouble.as_ref().and_then(Trouble::floor);
    let held = floor.is_some_and(|floor| floor > now);
    let why = match (is_due, selection.force) {
        _ if held => None,
        (true, _) => Some(because(due.reason)),
        (false, true) => Some("a person asked for it"),
        (false, false) => None,
    };
    let wanting = delivering::is_wanting(shared, &certificate.value, wanted).await?;
    if why.is_none() && attempt.is_none() && !wanting {
        return Ok(None);
    }
    let ends = certificate
        .value
        .current
        .as_ref()
        .map(|issued| issued.not_after);
    Ok(Some(Job {
        certificate,
        attempt,
        why,
        ends,
    }))
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
async fn one(shared: &Arc<Shared>, job: Job, stop: CancellationToken) -> Result<(), Failure> {
    let name = job.certificate.value.name.clone();
    let wanted = &shared.certificates[&name];
    if job.why.is_none() && job.attempt.is_none() {
        return delivering::deliver(shared, &job.certificate.value, wanted).await;
    }
    let (_slot, mut worker) = tokio::select! {
        biased;
        () = stop.cancelled() => return Err(not_begun()),
        worker = worker(shared, job, wanted, stop.clone()) => worker?,
    };
    worker.drive(Until::Decided).await?;
    let issued = worker.certificate().clone();
    let end = worker.end().cloned();
    let deliver = async {
        // Not only what this run issued: a process may have died between the certificate and its delivery.
        let wanting = delivering::is_wanting(shared, &issued, wanted).await;
        match wanting.map_err(store_failure)? {
            true => delivering::deliver(shared, &issued, wanted).await,
            false => Ok(()),
        }
    };
    let (delivered, closed) = tokio::join!(deliver, worker.drive(Until::Over));
    match end {
        Some(End::Failed(failure)) => Err(failure),
        _ => delivered.and(closed),
    }
}

/// The right to ask an authority: a turn among those with the same names, and one of its permits.
struct Slot {
    _turn: OwnedMutexGuard<()>,
    _permit: Option<OwnedSemaphorePermit>,
}

/// A worker for the job: of the attempt that was saved, or of a new one.
async fn worker(
    shared: &Arc<Shared>,
    job: Job,
    wanted: &Wanted,
    stop: CancellationToken,
) -> Result<(Slot, Worker), Failure> {
    let asked = job
        .attempt
        .as_ref()
        .map(|attempt| &attempt.value.request.authority);
    let name = match asked {
        Some(name) if shared.authorities.contains_key(name) => name.clone(),
        _ => authority_for(job.certificate.value.trouble.as_ref(), wanted),
    };
    let authority = shared.authorities.get(&name).ok_or_else(|| {
        Failure::new(
            Whose::You,
            format!("the authority {name} is not in the configuration any more"),
        )
    })?;
    let account = match accounts::ready(shared, authority).await {
        Ok(account) => Arc::new(account),
        Err(failure) => return Err(failed_before(shared, job.certificate, failure).await),
    };
    let attempt = match job.attempt {
        Some(attempt) if fits(&attempt.value.request, authority, &account, wanted) => Some(attempt),
        Some(attempt) => {
            discard(shared, attempt).await?;
            None
        }
        None => None,
    };
    let slot = Slot {
        _turn: shared.turn(&account.url, &wanted.specification).await,
        _permit: Arc::clone(&authority.permits).acquire_owned().await.ok(),
    };
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
    Ok((slot, worker))
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

/// The authority to ask: the first, and after failures of its own the next.
fn authority_for(trouble: Option<&Trouble>, wanted: &Wanted) -> String {
    let failures = match trouble {
        Some(trouble) if trouble.failure.whose == Whose::Authority => trouble.count,
        _ => 0,
    };
    let nth = (failures / FAILURES_BEFORE_NEXT) as usize % wanted.authorities.len().max(1);
    wanted.authorities.get(nth).cloned().unwrap_or_default()
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
