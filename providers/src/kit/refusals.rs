//! Cases about what cannot be done.

use std::time::Duration;

use futures_util::FutureExt as _;

use crate::clock::earlier;
use crate::record::DnsName;
use crate::{Context, ErrorKind, ProviderError, RecordModel};

use super::bench::{Bench, Stop, failed, lock};
use super::told::{absent, ensure};
use super::{Case, Needs, Verdict};

const GROUP: &str = "refusals";

pub(super) static CASES: [Case; 4] = [
    Case::new(
        GROUP,
        "refused-name",
        Needs::Zone,
        "a name that may not be changed is refused as something that only a person can change",
        |it| refused_name(it).boxed(),
    ),
    Case::new(
        GROUP,
        "beside-refused",
        Needs::Values,
        "a call with a refused name in it is refused, and the others in it stay possible",
        |it| beside_refused(it).boxed(),
    ),
    Case::new(
        GROUP,
        "late-change",
        Needs::Zone,
        "a change whose time is over gives up at once, as transient",
        |it| late_change(it).boxed(),
    ),
    Case::new(
        GROUP,
        "late-look",
        Needs::Zone,
        "a look whose time is over gives up at once, as transient",
        |it| late_look(it).boxed(),
    ),
];

/// Whoever needs longer than this has waited for something.
const AT_ONCE: Duration = Duration::from_secs(1);

async fn refused_name(bench: &Bench<'_>) -> Verdict {
    let forbidden = forbidden(bench)?;
    let change = [ensure(&forbidden, "value")];
    match bench.try_apply(&change, &[]).await {
        Ok(_) => failed(format!(
            "`apply` at {forbidden} succeeds, wanted is a refusal"
        )),
        Err(error) => is_refusal(bench, &forbidden, &error),
    }
}

async fn beside_refused(bench: &Bench<'_>) -> Verdict {
    let forbidden = forbidden(bench)?;
    if bench.provider.traits().batch < 2 {
        return Err(Stop::skipped("it takes one change a call"));
    }
    let allowed = bench.name("beside-refused")?;
    let both = [ensure(&allowed, "value"), ensure(&forbidden, "value")];
    match bench.try_apply(&both, &[]).await {
        Ok(_) => {
            return failed(format!(
                "`apply` with {forbidden} in it succeeds, wanted is a refusal"
            ));
        }
        Err(error) => is_refusal(bench, &forbidden, &error)?,
    }
    bench.serves(&forbidden, &[], None).await?;
    bench.apply(&both[..1]).await?;
    bench.serves(&allowed, &["value"], None).await?;
    bench.apply(&[absent(&allowed, "value")]).await?;
    bench.serves(&allowed, &[], None).await
}

fn forbidden(bench: &Bench<'_>) -> Result<DnsName, Stop> {
    let none = || Stop::skipped("no name is known here that the credential may not change");
    bench.world.forbidden().ok_or_else(none)
}

fn is_refusal(bench: &Bench<'_>, name: &DnsName, error: &ProviderError) -> Verdict {
    // Where each name is a zone, one that is not there is a missing zone.
    let is_zone = matches!(bench.provider.traits().model, RecordModel::Slots(_));
    match error.kind {
        ErrorKind::Permission | ErrorKind::Invalid => Ok(()),
        ErrorKind::ZoneMissing if is_zone => Ok(()),
        other => failed(format!(
            "{name} is refused as {}, wanted is permission or invalid: {}",
            other.as_str(),
            error.message
        )),
    }
}

async fn late_change(bench: &Bench<'_>) -> Verdict {
    let (zone, name, context) = (bench.zone()?, bench.name("late-change")?, late(bench));
    let change = [ensure(&name, "late")];
    // A change that is given up may have been made all the same.
    bench.note(&change);
    let before = context.clock.elapsed();
    let applied = bench.call(bench.provider, &zone, &change, &[], &context);
    let applied = applied.await;
    let spent = context.clock.elapsed().saturating_sub(before);
    if applied.is_ok() {
        bench.apply(&[absent(&name, "late")]).await?;
    }
    gave_up("apply", applied.map(drop), spent, bench)
}

async fn late_look(bench: &Bench<'_>) -> Verdict {
    if !bench.observes() {
        return Err(Stop::skipped("it cannot say what is there"));
    }
    let (zone, name, context) = (bench.zone()?, bench.name("late-look")?, late(bench));
    let before = context.clock.elapsed();
    let seen = bench.provider.observe(&zone, &[name], &context).await;
    let spent = context.clock.elapsed().saturating_sub(before);
    gave_up("observe", seen.map(drop), spent, bench)
}

/// A deadline that has passed.
fn late(bench: &Bench<'_>) -> Context {
    let mut context = bench.world.context();
    context.deadline = earlier(context.clock.now(), Duration::from_secs(1));
    context
}

fn gave_up(
    verb: &str,
    result: Result<(), ProviderError>,
    spent: Duration,
    bench: &Bench<'_>,
) -> Verdict {
    let Err(error) = result else {
        return failed(format!(
            "`{verb}` after its deadline succeeds, wanted is an error of the kind transient"
        ));
    };
    lock(&bench.errors).push(error.clone());
    if error.kind != ErrorKind::Transient {
        return failed(format!(
            "`{verb}` after its deadline fails as {}, wanted is transient: {}",
            error.kind.as_str(),
            error.message
        ));
    }
    match spent < AT_ONCE {
        true => Ok(()),
        false => failed(format!("`{verb}` after its deadline goes on for {spent:?}")),
    }
}
