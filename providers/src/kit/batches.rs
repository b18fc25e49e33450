//! Cases about calls with many changes or names, or none.

use futures_util::FutureExt as _;

use crate::ErrorKind;
use crate::record::{Change, DnsName, Verb};

use super::bench::{Bench, Stop, failed, refused};
use super::told::{Told, absent, ensure};
use super::{Case, MANY, Needs, Verdict};

const GROUP: &str = "batches";

pub(super) static CASES: [Case; 9] = [
    Case::new(
        GROUP,
        "nothing-to-do",
        Needs::Zone,
        "no changes, no error",
        |it| nothing(it).boxed(),
    ),
    Case::new(
        GROUP,
        "several-names",
        Needs::Values,
        "one call may carry several names",
        |it| several(it).boxed(),
    ),
    Case::new(
        GROUP,
        "both-verbs",
        Needs::Values,
        "one call may carry both verbs, at one name and at several",
        |it| both(it).boxed(),
    ),
    Case::new(
        GROUP,
        "hundred-names",
        Needs::Values,
        "as many names as a large order has, in calls as large as the plug-in says it takes",
        |it| hundred(it).boxed(),
    ),
    Case::new(
        GROUP,
        "full-batch",
        Needs::Values,
        "one call may carry as many changes as the plug-in says it takes",
        |it| full(it).boxed(),
    ),
    Case::new(
        GROUP,
        "two-hundred",
        Needs::Values,
        "1, 199, 200 and 201 changes are made, in calls as large as the plug-in says it takes",
        |it| two_hundred(it).boxed(),
    ),
    Case::new(
        GROUP,
        "observe-each",
        Needs::Values,
        "`observe` answers every name that it is asked for, with no values where there are none",
        |it| each(it).boxed(),
    ),
    Case::new(
        GROUP,
        "observe-none",
        Needs::View,
        "`observe` of no names is empty",
        |it| none(it).boxed(),
    ),
    Case::new(
        GROUP,
        "observe-many",
        Needs::Values,
        "`observe` answers a hundred names at once",
        |it| many(it).boxed(),
    ),
];

/// A call of a plug-in that sets itself no limit has no more changes than this.
const LARGEST: usize = 1_000;

async fn nothing(bench: &Bench<'_>) -> Verdict {
    bench.apply(&[]).await.map(drop)
}

async fn several(bench: &Bench<'_>) -> Verdict {
    let names = names(bench, "several-names", 3)?;
    for (make, left) in [(ensure as Make, &["value"][..]), (absent, &[])] {
        let changes: Vec<Change> = names.iter().map(|name| make(name, "value")).collect();
        in_batches(bench, &changes).await?;
        for name in &names {
            bench.serves(name, left, None).await?;
        }
    }
    Ok(())
}

type Make = fn(&DnsName, &str) -> Change;

async fn both(bench: &Bench<'_>) -> Verdict {
    let names = names(bench, "both-verbs", 2)?;
    let [one, other] = &names[..] else {
        return Ok(());
    };
    bench
        .apply(&[ensure(one, "old"), ensure(other, "old")])
        .await?;
    let changes = [ensure(one, "new"), absent(one, "old"), absent(other, "old")];
    bench.apply(&changes).await?;
    bench.serves(one, &["new"], None).await?;
    bench.serves(other, &[], None).await?;
    bench.apply(&[absent(one, "new")]).await?;
    bench.serves(one, &[], None).await
}

async fn hundred(bench: &Bench<'_>) -> Verdict {
    let value = "LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0";
    let names = names(bench, "many", MANY)?;
    for make in [ensure as Make, absent] {
        let changes: Vec<Change> = names.iter().map(|name| make(name, value)).collect();
        in_batches(bench, &changes).await?;
        stand(bench, &changes, changes.len()).await?;
    }
    Ok(())
}

/// As many changes as one call takes, spread over names.
async fn full(bench: &Bench<'_>) -> Verdict {
    let size = bench.provider.traits().batch.min(LARGEST);
    if size < 2 {
        return Err(Stop::skipped("it takes one change a call"));
    }
    let names = names(bench, "many", MANY.min(size))?;
    for make in [ensure as Make, absent] {
        let change = |nth: usize| {
            make(
                &names[nth % names.len()],
                &format!("value-{}", nth / names.len()),
            )
        };
        let changes: Vec<Change> = (0..size).map(change).collect();
        bench.apply(&changes).await?;
        stand(bench, &changes, size).await?;
    }
    Ok(())
}

/// Around a limit that hosts have. Some of it is so already, and all values are right after each step.
async fn two_hundred(bench: &Bench<'_>) -> Verdict {
    if bench.provider.traits().batch < 2 {
        return Err(Stop::skipped("it takes one change a call"));
    }
    let names = names(bench, "many", MANY)?;
    let change = |verb: Verb, nth: usize| {
        let value = format!("value-{}", nth / names.len());
        let make = if verb == Verb::Ensure { ensure } else { absent };
        make(&names[nth % names.len()], &value)
    };
    let most = 201;
    for (verb, made) in [
        (Verb::Ensure, 0..1),
        (Verb::Ensure, 0..most),
        (Verb::Absent, 0..199),
        (Verb::Absent, 1..most),
    ] {
        let there = match verb {
            Verb::Ensure => 0..made.end,
            Verb::Absent => made.end..most,
        };
        let changes: Vec<Change> = made.map(|nth| change(verb, nth)).collect();
        for batch in changes.chunks(bench.provider.traits().batch) {
            let Err(error) = bench.try_apply(batch, &[]).await else {
                continue;
            };
            if (verb, error.kind) != (Verb::Ensure, ErrorKind::Quota) || there.end == 1 {
                return Err(refused(&format!("apply {}", Told(batch)), &error));
            }
            let all: Vec<Change> = (0..most).map(|nth| change(Verb::Absent, nth)).collect();
            in_batches(bench, &all).await?;
            let why = format!("the zone has no room for {most}: {}", error.message);
            return Err(Stop::skipped(why));
        }
        let wanted = (0..most).map(|nth| match there.contains(&nth) {
            true => change(Verb::Ensure, nth),
            false => change(Verb::Absent, nth),
        });
        stand(bench, &wanted.collect::<Vec<_>>(), changes.len()).await?;
    }
    Ok(())
}

async fn in_batches(bench: &Bench<'_>, changes: &[Change]) -> Verdict {
    for batch in changes.chunks(bench.provider.traits().batch.max(1)) {
        bench.apply(batch).await?;
    }
    Ok(())
}

/// Whoever can look sees that all that is `wanted` is true, after so many changes.
async fn stand(bench: &Bench<'_>, wanted: &[Change], made: usize) -> Verdict {
    let mut names: Vec<DnsName> = wanted.iter().map(|it| it.name.clone()).collect();
    names.sort();
    names.dedup();
    let mut sets = Vec::new();
    if bench.observes() {
        sets = bench.observe(&names).await?;
    }
    for name in &names {
        sets.extend(bench.world.served(name).await);
    }
    for set in &sets {
        for change in wanted.iter().filter(|it| it.name == set.name) {
            let is_there = set.values.contains(&change.value);
            if is_there != (change.verb == Verb::Ensure) {
                let (value, name) = (&change.value, &change.name);
                let seen = if is_there { "is still" } else { "is not" };
                return failed(format!("\"{value}\" {seen} at {name} after {made} changes"));
            }
        }
    }
    Ok(())
}

async fn each(bench: &Bench<'_>) -> Verdict {
    can_observe(bench)?;
    let (empty, full) = (bench.name("observe-each-0")?, bench.name("observe-each-1")?);
    bench.apply(&[ensure(&full, "value")]).await?;
    for names in [[&empty, &full], [&full, &empty]] {
        let names: Vec<DnsName> = names.into_iter().cloned().collect();
        for set in bench.observe(&names).await? {
            let wanted: &[&str] = if set.name == full { &["value"] } else { &[] };
            if set.values != wanted || set.ttl.is_some() == wanted.is_empty() {
                let (values, ttl) = (&set.values, set.ttl);
                return failed(format!(
                    "`observe` shows {values:?} with the TTL {ttl:?} at {}",
                    set.name
                ));
            }
        }
    }
    bench.apply(&[absent(&full, "value")]).await.map(drop)
}

async fn none(bench: &Bench<'_>) -> Verdict {
    bench.observe(&[]).await.map(drop)
}

async fn many(bench: &Bench<'_>) -> Verdict {
    can_observe(bench)?;
    let names = names(bench, "many", MANY)?;
    let some = &names[MANY / 2];
    bench.apply(&[ensure(some, "here")]).await?;
    let seen = bench.observe(&names).await?;
    let there: Vec<&DnsName> = seen
        .iter()
        .filter(|it| !it.values.is_empty())
        .map(|it| &it.name)
        .collect();
    if there != [some] {
        return failed(format!(
            "`observe` of {MANY} names shows values at {}, wanted is {some} alone",
            crate::words::listed(&there)
        ));
    }
    bench.apply(&[absent(some, "here")]).await.map(drop)
}

fn can_observe(bench: &Bench<'_>) -> Verdict {
    match bench.observes() {
        true => Ok(()),
        false => Err(Stop::skipped("it cannot say what is there")),
    }
}

fn names(bench: &Bench<'_>, label: &str, count: usize) -> Result<Vec<DnsName>, Stop> {
    (0..count)
        .map(|nth| bench.name(&format!("{label}-{nth}")))
        .collect()
}
