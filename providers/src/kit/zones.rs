//! Cases about `zones`.

use futures_util::FutureExt as _;

use crate::Held;
use crate::record::{DnsName, Zone};

use super::bench::{Bench, Stop, failed, lock, refused};
use super::told::{absent, ensure};
use super::{Case, Needs, Verdict};

const GROUP: &str = "zones";

pub(super) static CASES: [Case; 8] = [
    Case::new(
        GROUP,
        "zone-of-name",
        Needs::Zone,
        "`zones` finds the zone of a name below it, and no other",
        |it| of_name(it).boxed(),
    ),
    Case::new(
        GROUP,
        "zone-of-apex",
        Needs::Zone,
        "`zones` finds the zone of its own apex",
        |it| of_apex(it).boxed(),
    ),
    Case::new(
        GROUP,
        "zone-deep",
        Needs::Zone,
        "`zones` finds the zone of a name many labels below it",
        |it| deep(it).boxed(),
    ),
    Case::new(
        GROUP,
        "zone-again",
        Needs::Zone,
        "`zones` asked again says the same, with the same identifier",
        |it| again(it).boxed(),
    ),
    Case::new(
        GROUP,
        "zone-below",
        Needs::Zone,
        "of two zones that hold a name, the one with the longer apex comes first",
        |it| below(it).boxed(),
    ),
    Case::new(
        GROUP,
        "zone-suffix",
        Needs::Zone,
        "a name that only ends like the zone is not in it",
        |it| suffix(it).boxed(),
    ),
    Case::new(
        GROUP,
        "zone-elsewhere",
        Needs::Nothing,
        "`zones` of a name that nobody has is empty, and no error",
        |it| elsewhere(it).boxed(),
    ),
    Case::new(
        GROUP,
        "zone-missing",
        Needs::Zone,
        "a change in a zone that the host does not hold is an error that says so",
        |it| missing(it).boxed(),
    ),
];

/// A name that no host has (RFC 2606 section 2).
const NOBODYS: &str = "nobody-has-this.invalid";

async fn of_name(bench: &Bench<'_>) -> Verdict {
    has_names(bench)?;
    holds(bench, &bench.name("zone-of-name")?).await
}

async fn of_apex(bench: &Bench<'_>) -> Verdict {
    holds(bench, &bench.zone()?.name).await
}

async fn deep(bench: &Bench<'_>) -> Verdict {
    has_names(bench)?;
    holds(bench, &bench.name("a.b.c.d.e.f.zone-deep")?).await
}

fn has_names(bench: &Bench<'_>) -> Verdict {
    match bench.world.is_one_name() {
        false => Ok(()),
        true => Err(Stop::skipped(
            "the host knows single names, this one among them, and nothing below it",
        )),
    }
}

async fn again(bench: &Bench<'_>) -> Verdict {
    let name = bench.name("zone-again")?;
    for _ in 0..3 {
        holds(bench, &name).await?;
    }
    Ok(())
}

async fn holds(bench: &Bench<'_>, name: &DnsName) -> Verdict {
    let (wanted, held) = (bench.zone()?, zones(bench, name).await?);
    if !held.iter().any(|it| it.zone == wanted) {
        return failed(format!(
            "`zones` of {name} is {}, wanted is {} ({})",
            told(&held),
            wanted.name,
            wanted.id
        ));
    }
    let others = held
        .into_iter()
        .filter(|it| !it.is_claim && it.zone != wanted);
    // Another zone that holds the name may well be there, above this one.
    let wrong: Vec<Held> = others
        .filter(|it| !wanted.name.is_at_or_below(&it.zone.name))
        .collect();
    match wrong.is_empty() {
        true => Ok(()),
        false => failed(format!("`zones` of {name} has {} too", told(&wrong))),
    }
}

async fn below(bench: &Bench<'_>) -> Verdict {
    let child = bench.world.child();
    let child = child.ok_or_else(|| Stop::skipped("no zone below another one is known here"))?;
    let name = child.name.prepend("_acme-challenge");
    let name = name.map_err(|error| Stop::skipped(error.to_string()))?;
    let held = zones(bench, &name).await?;
    let found: Vec<&Zone> = held.iter().map(|it| &it.zone).collect();
    match found == [&child, &bench.zone()?] {
        true => Ok(()),
        false => failed(format!(
            "`zones` of {name} is {}, wanted is {} and then {}",
            told(&held),
            child.name,
            bench.zone()?.name
        )),
    }
}

async fn suffix(bench: &Bench<'_>) -> Verdict {
    let zone = bench.zone()?;
    let trap = DnsName::parse(&format!("_acme-challenge.not{}", zone.name));
    let trap = trap.map_err(|error| Stop::skipped(error.to_string()))?;
    let held = zones(bench, &trap).await?;
    match held.iter().any(|it| it.zone == zone) {
        false => Ok(()),
        true => failed(format!("`zones` of {trap} is {}", told(&held))),
    }
}

async fn elsewhere(bench: &Bench<'_>) -> Verdict {
    let name = DnsName::parse(&format!("_acme-challenge.{NOBODYS}"));
    let name = name.map_err(|error| Stop::skipped(error.to_string()))?;
    let held = zones(bench, &name).await?;
    if held.iter().any(|it| it.is_claim) {
        return Err(Stop::skipped(
            "it takes any zone, since it does not know which it holds",
        ));
    }
    match held.is_empty() {
        true => Ok(()),
        false => failed(format!(
            "`zones` of {name} is {}, wanted is nothing",
            told(&held)
        )),
    }
}

async fn missing(bench: &Bench<'_>) -> Verdict {
    if !bench.observes() {
        return Err(Stop::skipped("it writes what it is told, wherever that is"));
    }
    let name = DnsName::parse(NOBODYS).map_err(|error| Stop::skipped(error.to_string()))?;
    let zone = Zone {
        id: name.to_string(),
        name,
    };
    let at = zone.name.prepend("_acme-challenge");
    let at = at.map_err(|error| Stop::skipped(error.to_string()))?;
    let context = bench.world.context();
    let change = [ensure(&at, "value")];
    let applied = bench.call(bench.provider, &zone, &change, &[], &context);
    match applied.await {
        Ok(_) => {
            // It may have been written somewhere.
            let change = [absent(&at, "value")];
            let context = bench.world.context();
            let removed = bench.call(bench.provider, &zone, &change, &[], &context);
            let _ = removed.await;
            failed(format!(
                "`apply` in {} succeeds, wanted is an error",
                zone.name
            ))
        }
        Err(error) => {
            lock(&bench.errors).push(error.clone());
            match error.kind.needs_person() {
                true => Ok(()),
                false => failed(format!(
                    "`apply` in {} fails as {}, as if it could work later: {}",
                    zone.name,
                    error.kind.as_str(),
                    error.message
                )),
            }
        }
    }
}

async fn zones(bench: &Bench<'_>, name: &DnsName) -> Result<Vec<Held>, Stop> {
    let context = bench.world.context();
    let held = bench.provider.zones(name, &context).await;
    held.map_err(|error| {
        let stop = refused(&format!("zones of {name}"), &error);
        lock(&bench.errors).push(error);
        stop
    })
}

fn told(held: &[Held]) -> String {
    let names = held
        .iter()
        .map(|it| format!("{} ({})", it.zone.name, it.zone.id));
    match held.is_empty() {
        true => "nothing".to_owned(),
        false => names.collect::<Vec<_>>().join(", "),
    }
}
