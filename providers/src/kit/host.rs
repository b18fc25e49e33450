//! Cases about hosts that refuse, fail and mean harm, where the kit itself serves the host.

use std::time::Duration;

use futures_util::FutureExt as _;

use crate::clock::later;
use crate::manifest::mirror::{Mirror, Trouble, ZONE};
use crate::record::{Change, DnsName};
use crate::{ErrorKind, ProviderError, Settled};

use super::bench::{Bench, Stop, absent, ensure, failed, kind, lock, refused};
use super::{Case, Needs, Verdict};

const GROUP: &str = "host";

pub(super) static CASES: [Case; 21] = [
    Case::new(
        GROUP,
        "pages-zones",
        Needs::Values,
        "a zone on the last page of the list is found",
        |it| pages_zones(it).boxed(),
    ),
    Case::new(
        GROUP,
        "pages-records",
        Needs::Values,
        "a record on the last page of the list is found",
        |it| pages_records(it).boxed(),
    ),
    Case::new(
        GROUP,
        "apex",
        Needs::Values,
        "a value can stand at the apex itself",
        |it| apex(it).boxed(),
    ),
    Case::new(
        GROUP,
        "capitals",
        Needs::Values,
        "names that the host writes in capitals and with a final dot are the same names",
        |it| capitals(it).boxed(),
    ),
    Case::new(
        GROUP,
        "closed-zone",
        Needs::Values,
        "of two zones the one that may not be changed is refused as permission, and the other goes on",
        |it| closed(it).boxed(),
    ),
    Case::new(
        GROUP,
        "error-map",
        Needs::Values,
        "each refusal of the map is understood as the map says",
        |it| map(it).boxed(),
    ),
    Case::new(GROUP, "busy", Needs::Values, "429 is rate-limited", |it| {
        busy(it, None).boxed()
    }),
    Case::new(
        GROUP,
        "busy-after",
        Needs::Values,
        "429 with Retry-After is rate-limited for so long",
        |it| busy(it, Some(7)).boxed(),
    ),
    Case::new(GROUP, "down", Needs::Values, "5xx is transient", |it| {
        down(it).boxed()
    }),
    Case::new(
        GROUP,
        "down-midway",
        Needs::Values,
        "5xx after the first of several changes says that some were made, and the same call again makes the rest",
        |it| midway(it).boxed(),
    ),
    Case::new(
        GROUP,
        "lost-reply",
        Needs::Values,
        "a change whose reply was lost may have been made, and the same call again leaves one value",
        |it| lost(it).boxed(),
    ),
    Case::new(
        GROUP,
        "silent",
        Needs::Values,
        "a host that does not answer is given up at the deadline, as transient",
        |it| silent(it).boxed(),
    ),
    Case::new(
        GROUP,
        "garbage",
        Needs::Values,
        "a page for people instead of a reply is an error, and nothing of it is used",
        |it| garbage(it, Trouble::Garbage).boxed(),
    ),
    Case::new(
        GROUP,
        "flood",
        Needs::Values,
        "a reply without end is given up",
        |it| garbage(it, Trouble::Flood).boxed(),
    ),
    Case::new(
        GROUP,
        "elsewhere",
        Needs::Values,
        "a host that sends elsewhere is not followed",
        |it| elsewhere(it).boxed(),
    ),
    Case::new(
        GROUP,
        "revoked",
        Needs::Values,
        "a credential that is refused is auth",
        |it| revoked(it).boxed(),
    ),
    Case::new(
        GROUP,
        "revoked-midway",
        Needs::Values,
        "a credential that is refused after the first of several changes is auth, and some were made",
        |it| revoked_midway(it).boxed(),
    ),
    Case::new(
        GROUP,
        "rotated",
        Needs::Values,
        "a credential that was replaced is read again",
        |it| rotated(it).boxed(),
    ),
    Case::new(
        GROUP,
        "settle-pending",
        Needs::Values,
        "a change that is under way is not yet everywhere",
        |it| pending(it).boxed(),
    ),
    Case::new(
        GROUP,
        "settle-failed",
        Needs::Values,
        "a change that came to nothing is an error",
        |it| fails(it).boxed(),
    ),
    Case::new(
        GROUP,
        "requests",
        Needs::Values,
        "every request is one that the manifest says, and there is room for its answer",
        |it| requests(it).boxed(),
    ),
];

/// Nobody waits longer for a host that does not answer.
const IMPATIENCE: Duration = Duration::from_millis(500);

/// The host while it does something wrong; it does right again when this is dropped.
struct Wrong<'m>(&'m Mirror);

impl Drop for Wrong<'_> {
    fn drop(&mut self) {
        self.0.meet(None);
    }
}

fn wrong<'b>(bench: &'b Bench<'_>, trouble: Trouble) -> Result<Wrong<'b>, Stop> {
    let mirror = mirror(bench)?;
    mirror.meet(Some(trouble));
    Ok(Wrong(mirror))
}

fn mirror<'b>(bench: &'b Bench<'_>) -> Result<&'b Mirror, Stop> {
    let none = || Stop::skipped("the kit does not serve this host");
    bench.world.mirror().ok_or_else(none)
}

async fn pages_zones(bench: &Bench<'_>) -> Verdict {
    if !mirror(bench)?.has_pages().0 {
        return Err(Stop::skipped("the list of zones has no pages"));
    }
    let (name, wanted) = (bench.name("pages-zones")?, bench.zone()?);
    let context = bench.world.context();
    let held = bench.provider.zones(&name, &context).await;
    let held = held.map_err(|error| refused("zones", &error))?;
    match held.iter().any(|it| it.zone == wanted) {
        true => Ok(()),
        false => failed(format!(
            "`zones` does not find {}, which is on the last page",
            wanted.name
        )),
    }
}

async fn pages_records(bench: &Bench<'_>) -> Verdict {
    if !mirror(bench)?.has_pages().1 {
        return Err(Stop::skipped("the list of records has no pages"));
    }
    let name = bench.name("pages-records")?;
    let ttl = bench.foreign(&name, "last").await?;
    bench.serves(&name, &["last"], ttl).await?;
    bench.apply(&[absent(&name, "last")]).await?;
    bench.serves(&name, &[], None).await
}

async fn apex(bench: &Bench<'_>) -> Verdict {
    let name = bench.zone()?.name;
    let ttl = bench.foreign(&name, "theirs").await?;
    bench.apply(&[ensure(&name, "ours")]).await?;
    bench.serves(&name, &["ours", "theirs"], ttl).await?;
    bench.apply(&[absent(&name, "ours")]).await?;
    bench.serves(&name, &["theirs"], ttl).await?;
    bench.apply(&[absent(&name, "theirs")]).await?;
    bench.serves(&name, &[], None).await
}

async fn capitals(bench: &Bench<'_>) -> Verdict {
    let (name, wanted) = (bench.name("capitals")?, bench.zone()?);
    bench.apply(&[ensure(&name, "value")]).await?;
    let _wrong = wrong(bench, Trouble::Shouts)?;
    bench.serves(&name, &["value"], None).await?;
    let context = bench.world.context();
    let held = bench.provider.zones(&name, &context).await;
    let held = held.map_err(|error| refused("zones", &error))?;
    // What is the identifier is the host's alone.
    if !held.iter().any(|it| it.zone.name == wanted.name) {
        return failed(format!(
            "`zones` does not find {}, which the host writes in capitals",
            wanted.name
        ));
    }
    bench.apply(&[absent(&name, "value")]).await?;
    bench.serves(&name, &[], None).await
}

async fn closed(bench: &Bench<'_>) -> Verdict {
    let zone = mirror(bench)?.closed();
    let zone = zone.ok_or_else(|| Stop::skipped("there is no zone that is closed"))?;
    let at = zone.name.prepend("_acme-challenge");
    let at = at.map_err(|error| Stop::skipped(error.to_string()))?;
    let context = bench.world.context();
    let change = [ensure(&at, "value")];
    let applied = bench.provider.apply(&zone, &change, &[], &context).await;
    fails_as(bench, applied.map(drop), ErrorKind::Permission)?;
    let name = bench.name("closed-zone")?;
    bench.apply(&[ensure(&name, "value")]).await?;
    bench.serves(&name, &["value"], None).await?;
    bench.apply(&[absent(&name, "value")]).await.map(drop)
}

async fn map(bench: &Bench<'_>) -> Verdict {
    let meanings = mirror(bench)?.meanings();
    if meanings.is_empty() {
        return Err(Stop::skipped("the manifest has no map of errors"));
    }
    let name = bench.name("error-map")?;
    let change = [ensure(&name, "value")];
    for (nth, (words, wanted)) in meanings.into_iter().enumerate() {
        let _wrong = wrong(bench, Trouble::Entry(nth))?;
        let seen = apply_once(bench, &change).await;
        let seen = seen.err().map(|it| it.kind);
        let told = |kinds: Option<ErrorKind>| kinds.map_or("done", kind);
        // A set that was written is looked at again: then nothing is not done.
        let is_looked_at = wanted.is_none() && seen == Some(ErrorKind::Conflict);
        if told(seen) != told(wanted) && !is_looked_at {
            let (seen, wanted) = (told(seen), told(wanted));
            return failed(format!(
                "the refusal with {words} is understood as {seen}, the map says {wanted}"
            ));
        }
    }
    Ok(())
}

async fn busy(bench: &Bench<'_>, after: Option<u32>) -> Verdict {
    let _wrong = wrong(bench, Trouble::Busy(after))?;
    let after = after.map(|it| Duration::from_secs(it.into()));
    let change = [ensure(&bench.name("busy")?, "value")];
    fails_as(
        bench,
        apply_once(bench, &change).await,
        ErrorKind::RateLimited { after },
    )
}

async fn down(bench: &Bench<'_>) -> Verdict {
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

async fn midway(bench: &Bench<'_>) -> Verdict {
    let (changes, names) = three(bench, "down-midway")?;
    let error = {
        let _wrong = wrong(bench, Trouble::DownAfter(1))?;
        apply_once(bench, &changes).await.err()
    };
    some_were_made(bench, error, ErrorKind::Transient, &changes, &names).await
}

async fn revoked_midway(bench: &Bench<'_>) -> Verdict {
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
                let (seen, wanted) = (kind(error.kind), kind(wanted));
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

async fn lost(bench: &Bench<'_>) -> Verdict {
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
            kind(error.kind)
        ));
    }
    lock(&bench.errors).push(error);
    bench.apply(&change).await?;
    bench.serves(&name, &["value"], None).await?;
    bench.apply(&[absent(&name, "value")]).await?;
    bench.serves(&name, &[], None).await
}

async fn silent(bench: &Bench<'_>) -> Verdict {
    let _wrong = wrong(bench, Trouble::Silent)?;
    let (zone, name) = (bench.zone()?, bench.name("silent")?);
    let mut context = bench.world.context();
    context.deadline = later(context.clock.now(), IMPATIENCE);
    let change = [ensure(&name, "value")];
    let applied = bench.provider.apply(&zone, &change, &[], &context).await;
    fails_as(bench, applied.map(drop), ErrorKind::Transient)
}

async fn garbage(bench: &Bench<'_>, trouble: Trouble) -> Verdict {
    let _wrong = wrong(bench, trouble)?;
    let change = [ensure(&bench.name("garbage")?, "value")];
    fails_as(bench, apply_once(bench, &change).await, ErrorKind::Fatal)
}

async fn elsewhere(bench: &Bench<'_>) -> Verdict {
    let _wrong = wrong(bench, Trouble::Elsewhere)?;
    let change = [ensure(&bench.name("elsewhere")?, "value")];
    let applied = apply_once(bench, &change).await;
    if mirror(bench)?.requests().1 > 0 {
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

async fn revoked(bench: &Bench<'_>) -> Verdict {
    let _wrong = wrong(bench, Trouble::RevokedAfter(0))?;
    let change = [ensure(&bench.name("revoked")?, "value")];
    fails_as(bench, apply_once(bench, &change).await, ErrorKind::Auth)
}

async fn rotated(bench: &Bench<'_>) -> Verdict {
    let name = bench.name("rotated")?;
    bench.apply(&[ensure(&name, "old")]).await?;
    mirror(bench)?.rotate().map_err(Stop::Failed)?;
    bench.apply(&[absent(&name, "old")]).await?;
    bench.serves(&name, &[], None).await
}

async fn ticket(bench: &Bench<'_>, label: &str) -> Result<String, Stop> {
    if !mirror(bench)?.settles() {
        return Err(Stop::skipped(
            "the host does not tell when a change is everywhere",
        ));
    }
    let name = bench.name(label)?;
    let receipt = bench.apply(&[ensure(&name, "value")]).await?;
    bench.apply(&[absent(&name, "value")]).await?;
    let ticket = receipt.ticket;
    ticket.ok_or_else(|| {
        Stop::Failed("`apply` gives no receipt, though `settle` can be asked".to_owned())
    })
}

async fn pending(bench: &Bench<'_>) -> Verdict {
    let ticket = ticket(bench, "settle-pending").await?;
    for wanted in [Settled::NotYet, Settled::Everywhere, Settled::Everywhere] {
        let settled = bench.provider.settle(&ticket, &bench.world.context()).await;
        if settled != Ok(wanted) {
            return failed(format!("`settle` says {settled:?}, wanted is {wanted:?}"));
        }
    }
    Ok(())
}

async fn fails(bench: &Bench<'_>) -> Verdict {
    let ticket = ticket(bench, "settle-failed").await?;
    let _wrong = wrong(bench, Trouble::Fails)?;
    match bench.provider.settle(&ticket, &bench.world.context()).await {
        Ok(settled) => failed(format!(
            "`settle` of a change that came to nothing says {settled:?}"
        )),
        Err(error) => {
            lock(&bench.errors).push(error);
            Ok(())
        }
    }
}

async fn requests(bench: &Bench<'_>) -> Verdict {
    let odd = mirror(bench)?.odd();
    match &odd[..] {
        [] => Ok(()),
        [first, ..] => failed(format!(
            "{} of {ZONE} fit nothing, the first is {first}",
            odd.len()
        )),
    }
}

/// One call, with no second one where the host wants a pause.
async fn apply_once(bench: &Bench<'_>, changes: &[Change]) -> Result<(), ProviderError> {
    let zone = bench.world.zone();
    let zone = zone.map_err(|why| ProviderError::new(ErrorKind::Unsupported, why))?;
    bench.note(changes);
    let context = bench.world.context();
    bench
        .provider
        .apply(&zone, changes, &[], &context)
        .await
        .map(drop)
}

fn fails_as(bench: &Bench<'_>, result: Result<(), ProviderError>, wanted: ErrorKind) -> Verdict {
    let Err(error) = result else {
        return failed(format!(
            "the call succeeds, wanted is an error of the kind {}",
            kind(wanted)
        ));
    };
    lock(&bench.errors).push(error.clone());
    match error.kind == wanted {
        true => Ok(()),
        false => failed(format!(
            "the call fails as {:?}, wanted is {wanted:?}: {}",
            error.kind, error.message
        )),
    }
}
