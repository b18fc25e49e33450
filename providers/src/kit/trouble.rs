//! What a plug-in makes of a host that is busy, out of order, silent, or refuses the credential.

use std::time::Duration;

use crate::clock::later;
use crate::manifest::mirror::Trouble;
use crate::record::{Change, DnsName};
use crate::{ErrorKind, ProviderError};

use super::Verdict;
use super::bench::{Bench, Stop, failed, lock};
use super::host::{apply_once, fails_as, mirror, wrong};
use super::told::{absent, ensure};

/// Nobody waits longer for a host that does not answer.
const IMPATIENCE: Duration = Duration::from_millis(500);

pub(super) async fn busy(bench: &Bench<'_>, after: Option<u32>) -> Verdict {
    let _wrong = wrong(bench, Trouble::Busy(after))?;
    let after = after.map(|it| Duration::from_secs(it.into()));
    let change = [ensure(&bench.name("busy")?, "value")];
    fails_as(
        bench,
        apply_once(bench, &change).await,
        ErrorKind::RateLimited { after },
    )
}

pub(super) async fn down(bench: &Bench<'_>) -> Verdict {
    let name = bench.name("down")?;
    let _wrong = wrong(bench, Trouble::DownAfter(0))?;
    let change = [ensure(&name, "value")];
    fails_as(
        bench,
        apply_once(bench, &change).await,
        ErrorKind::Transient,
    )?;
    bench.serves(&name, &[], None).await
}

pub(super) async fn midway(bench: &Bench<'_>) -> Verdict {
    let (changes, names) = three(bench, "down-midway")?;
    let error = {
        let _wrong = wrong(bench, Trouble::DownAfter(1))?;
        apply_once(bench, &changes).await.err()
    };
    some_were_made(bench, error, ErrorKind::Transient, &changes, &names).await
}

pub(super) async fn revoked_midway(bench: &Bench<'_>) -> Verdict {
    let (changes, names) = three(bench, "revoked-midway")?;
    let error = {
        let _wrong = wrong(bench, Trouble::RevokedAfter(1))?;
        apply_once(bench, &changes).await.err()
    };
    some_were_made(bench, error, ErrorKind::Auth, &changes, &names).await
}

fn three(bench: &Bench<'_>, label: &str) -> Result<(Vec<Change>, Vec<DnsName>), Stop> {
    if bench.provider.traits().batch < 3 {
        return Err(Stop::skipped("it takes fewer than three changes a call"));
    }
    let names = (0..3).map(|nth| bench.name(&format!("{label}-{nth}")));
    let names = names.collect::<Result<Vec<_>, _>>()?;
    let changes = names.iter().map(|name| ensure(name, "value")).collect();
    Ok((changes, names))
}

/// After a call that broke off in the middle: it said so, and the same call again makes the rest.
async fn some_were_made(
    bench: &Bench<'_>,
    error: Option<ProviderError>,
    wanted: ErrorKind,
    changes: &[Change],
    names: &[DnsName],
) -> Verdict {
    match error {
        // All of them go in one request.
        None => {}
        Some(error) => {
            lock(&bench.errors).push(error.clone());
            if error.kind != wanted {
                let (seen, wanted) = (error.kind.as_str(), wanted.as_str());
                return failed(format!(
                    "the call fails as {seen}, wanted is {wanted}: {}",
                    error.message
                ));
            }
            if !error.partly {
                return failed("the call made some changes and does not say so".to_owned());
            }
        }
    }
    bench.apply(changes).await?;
    for name in names {
        bench.serves(name, &["value"], None).await?;
        bench.apply(&[absent(name, "value")]).await?;
    }
    Ok(())
}

pub(super) async fn lost(bench: &Bench<'_>) -> Verdict {
    let name = bench.name("lost-reply")?;
    let change = [ensure(&name, "value")];
    let error = {
        let _wrong = wrong(bench, Trouble::LosesReply)?;
        apply_once(bench, &change).await.err()
    };
    let Some(error) = error else {
        return failed("`apply` succeeds, though no reply came");
    };
    if !error.outcome_unknown() {
        return failed(format!(
            "`apply` without a reply fails as {}, as if nothing had been done",
            error.kind.as_str()
        ));
    }
    lock(&bench.errors).push(error);
    bench.apply(&change).await?;
    bench.serves(&name, &["value"], None).await?;
    bench.apply(&[absent(&name, "value")]).await?;
    bench.serves(&name, &[], None).await
}

pub(super) async fn silent(bench: &Bench<'_>) -> Verdict {
    let _wrong = wrong(bench, Trouble::Silent)?;
    let (zone, name) = (bench.zone()?, bench.name("silent")?);
    let mut context = bench.world.context();
    context.deadline = later(context.clock.now(), IMPATIENCE);
    let change = [ensure(&name, "value")];
    let applied = bench.provider.apply(&zone, &change, &[], &context).await;
    fails_as(bench, applied.map(drop), ErrorKind::Transient)
}

pub(super) async fn garbage(bench: &Bench<'_>, trouble: Trouble) -> Verdict {
    let _wrong = wrong(bench, trouble)?;
    let change = [ensure(&bench.name("garbage")?, "value")];
    fails_as(bench, apply_once(bench, &change).await, ErrorKind::Fatal)
}

pub(super) async fn elsewhere(bench: &Bench<'_>) -> Verdict {
    let _wrong = wrong(bench, Trouble::Elsewhere)?;
    let change = [ensure(&bench.name("elsewhere")?, "value")];
    let applied = apply_once(bench, &change).await;
    if mirror(bench)?.astray() > 0 {
        return failed("it goes where the host sends it");
    }
    match applied {
        Ok(()) => failed("`apply` succeeds, though the host sends elsewhere"),
        Err(error) => {
            lock(&bench.errors).push(error);
            Ok(())
        }
    }
}

pub(super) async fn revoked(bench: &Bench<'_>) -> Verdict {
    let _wrong = wrong(bench, Trouble::RevokedAfter(0))?;
    let change = [ensure(&bench.name("revoked")?, "value")];
    fails_as(bench, apply_once(bench, &change).await, ErrorKind::Auth)
}

pub(super) async fn rotated(bench: &Bench<'_>) -> Verdict {
    let name = bench.name("rotated")?;
    bench.apply(&[ensure(&name, "old")]).await?;
    mirror(bench)?.rotate().map_err(Stop::Failed)?;
    bench.apply(&[absent(&name, "old")]).await?;
    bench.serves(&name, &[], None).await
}
