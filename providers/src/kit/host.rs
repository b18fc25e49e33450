//! Cases about hosts that refuse, fail and mean harm, where the kit itself serves the host.

use futures_util::FutureExt as _;

use crate::manifest::mirror::{Mirror, Trouble, ZONE};
use crate::record::{Change, DnsName, Zone};
use crate::{ErrorKind, ProviderError, Settled};

use super::bench::{Bench, Stop, failed, lock, refused};
use super::told::{Told, absent, ensure};
use super::{Case, Needs, Verdict, trouble};

const GROUP: &str = "host";

pub(super) static CASES: [Case; 24] = [
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
        "zone-twins",
        Needs::Values,
        "of two zones of one name both are found, each with its identifier",
        |it| twins(it).boxed(),
    ),
    Case::new(
        GROUP,
        "zone-left-out",
        Needs::Values,
        "a zone that is not served to the public, as the manifest tells such from others, is not found",
        |it| left_out(it).boxed(),
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
        "child-apex",
        Needs::Values,
        "a value at the apex of a zone below stands in that zone",
        |it| child_apex(it).boxed(),
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
        trouble::busy(it, None).boxed()
    }),
    Case::new(
        GROUP,
        "busy-after",
        Needs::Values,
        "429 with Retry-After is rate-limited for so long",
        |it| trouble::busy(it, Some(7)).boxed(),
    ),
    Case::new(GROUP, "down", Needs::Values, "5xx is transient", |it| {
        trouble::down(it).boxed()
    }),
    Case::new(
        GROUP,
        "down-midway",
        Needs::Values,
        "5xx after the first of several changes says that some were made, and the same call again makes the rest",
        |it| trouble::midway(it).boxed(),
    ),
    Case::new(
        GROUP,
        "lost-reply",
        Needs::Values,
        "a change whose reply was lost may have been made, and the same call again leaves one value",
        |it| trouble::lost(it).boxed(),
    ),
    Case::new(
        GROUP,
        "silent",
        Needs::Values,
        "a host that does not answer is given up at the deadline, as transient",
        |it| trouble::silent(it).boxed(),
    ),
    Case::new(
        GROUP,
        "garbage",
        Needs::Values,
        "a page for people instead of a reply is an error, and nothing of it is used",
        |it| trouble::garbage(it, Trouble::Garbage).boxed(),
    ),
    Case::new(
        GROUP,
        "flood",
        Needs::Values,
        "a reply without end is given up",
        |it| trouble::garbage(it, Trouble::Flood).boxed(),
    ),
    Case::new(
        GROUP,
        "elsewhere",
        Needs::Values,
        "a host that sends elsewhere is not followed",
        |it| trouble::elsewhere(it).boxed(),
    ),
    Case::new(
        GROUP,
        "revoked",
        Needs::Values,
        "a credential that is refused is auth",
        |it| trouble::revoked(it).boxed(),
    ),
    Case::new(
        GROUP,
        "revoked-midway",
        Needs::Values,
        "a credential that is refused after the first of several changes is auth, and some were made",
        |it| trouble::revoked_midway(it).boxed(),
    ),
    Case::new(
        GROUP,
        "rotated",
        Needs::Values,
        "a credential that was replaced is read again",
        |it| trouble::rotated(it).boxed(),
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

/// The host while it does something wrong; it does right again when this is dropped.
pub(super) struct Wrong<'m>(&'m Mirror);

impl Drop for Wrong<'_> {
    fn drop(&mut self) {
        self.0.meet(None);
    }
}

pub(super) fn wrong<'b>(bench: &'b Bench<'_>, trouble: Trouble) -> Result<Wrong<'b>, Stop> {
    let mirror = mirror(bench)?;
    mirror.meet(Some(trouble));
    Ok(Wrong(mirror))
}

pub(super) fn mirror<'b>(bench: &'b Bench<'_>) -> Result<&'b Mirror, Stop> {
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

async fn twins(bench: &Bench<'_>) -> Verdict {
    if !mirror(bench)?.has_twins().0 {
        return Err(Stop::skipped(
            "the host can tell of one zone of a name only",
        ));
    }
    let found = zones_of_one_name(bench, Trouble::Twin).await?;
    match found {
        2 => Ok(()),
        _ => failed(format!("`zones` finds {found} of two zones of one name")),
    }
}

async fn left_out(bench: &Bench<'_>) -> Verdict {
    if !mirror(bench)?.has_twins().1 {
        return Err(Stop::skipped("the manifest leaves out no zones"));
    }
    let found = zones_of_one_name(bench, Trouble::TwinLeftOut).await?;
    match found {
        1 => Ok(()),
        _ => failed("`zones` finds the zone that is to be left out too"),
    }
}

/// How many zones are found that are called as the one that must be among them.
async fn zones_of_one_name(bench: &Bench<'_>, trouble: Trouble) -> Result<usize, Stop> {
    let _wrong = wrong(bench, trouble)?;
    let (name, wanted) = (bench.name("zone-twins")?, bench.zone()?);
    let context = bench.world.context();
    let held = bench.provider.zones(&name, &context).await;
    let held = held.map_err(|error| refused("zones", &error))?;
    let named = held.iter().map(|it| &it.zone);
    let named: Vec<&Zone> = named.filter(|it| it.name == wanted.name).collect();
    match named.contains(&&wanted) {
        true => Ok(named.len()),
        false => failed(format!(
            "`zones` does not find {} ({}) beside another zone of that name",
            wanted.name, wanted.id
        )),
    }
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

async fn child_apex(bench: &Bench<'_>) -> Verdict {
    let none = || Stop::skipped("there is no zone below it");
    let zone = bench.world.child().ok_or_else(none)?;
    let names = [zone.name.clone()];
    for (make, wanted) in [(ensure as Make, &["value"][..]), (absent, &[])] {
        let change = [make(&zone.name, "value")];
        let context = bench.world.context();
        let applied = bench.call(bench.provider, &zone, &change, &[], &context);
        applied.await.map_err(|error| refused("apply", &error))?;
        let seen = bench.provider.observe(&zone, &names, &context).await;
        let mut seen = seen.map_err(|error| refused("observe", &error))?;
        seen.push(mirror(bench)?.served(&zone.name));
        if let Some(set) = seen.iter().find(|set| set.values != wanted) {
            let (seen, wanted) = (&set.values, Told(&change));
            return failed(format!("there is {seen:?} in {} after {wanted}", zone.name));
        }
    }
    Ok(())
}

type Make = fn(&DnsName, &str) -> Change;

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
        let told = |kinds: Option<ErrorKind>| kinds.map_or("done", ErrorKind::as_str);
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
pub(super) async fn apply_once(bench: &Bench<'_>, changes: &[Change]) -> Result<(), ProviderError> {
    let zone = bench.world.zone();
    let zone = zone.map_err(|why| ProviderError::new(ErrorKind::Unsupported, why))?;
    bench.note(changes);
    let context = bench.world.context();
    let applied = bench.call(bench.provider, &zone, changes, &[], &context);
    applied.await.map(drop)
}

pub(super) fn fails_as(
    bench: &Bench<'_>,
    result: Result<(), ProviderError>,
    wanted: ErrorKind,
) -> Verdict {
    let Err(error) = result else {
        return failed(format!(
            "the call succeeds, wanted is an error of the kind {}",
            wanted.as_str()
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
