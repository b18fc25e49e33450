//! Cases about several writers.

use futures_util::FutureExt as _;
use futures_util::future::try_join_all;

use super::bench::Bench;
use super::told::{absent, ensure};
use super::{Case, Needs, Verdict};

const GROUP: &str = "together";

pub(super) static CASES: [Case; 4] = [
    Case::new(
        GROUP,
        "four-writers",
        Needs::Values,
        "four writers of one name at once lose no value and no foreign TTL, in several rounds",
        |it| race(it, "four-writers", 4, ROUNDS).boxed(),
    ),
    Case::new(
        GROUP,
        "sixteen-writers",
        Needs::Values,
        "sixteen writers of one name at once lose no value",
        |it| race(it, "sixteen-writers", 16, 1).boxed(),
    ),
    Case::new(
        GROUP,
        "names-at-once",
        Needs::Values,
        "writers of several names at once do not disturb each other",
        |it| names(it).boxed(),
    ),
    Case::new(
        GROUP,
        "two-instances",
        Needs::Values,
        "the plug-in remembers nothing: what another instance writes and removes is kept",
        |it| instances(it).boxed(),
    ),
];

/// Rounds of the race between four writers.
const ROUNDS: usize = 20;

async fn race(bench: &Bench<'_>, label: &str, writers: usize, rounds: usize) -> Verdict {
    let name = bench.name(label)?;
    let ttl = bench.foreign(&name, "theirs").await?;
    let ours: Vec<String> = (0..writers).map(|nth| format!("writer-{nth}")).collect();
    let all: Vec<&str> = ours.iter().map(String::as_str).chain(["theirs"]).collect();
    for _ in 0..rounds {
        try_join_all(ours.iter().map(|it| bench.insist(ensure(&name, it)))).await?;
        bench.serves(&name, &all, ttl).await?;
        try_join_all(ours.iter().map(|it| bench.insist(absent(&name, it)))).await?;
        bench.serves(&name, &["theirs"], ttl).await?;
    }
    bench.apply(&[absent(&name, "theirs")]).await.map(drop)
}

async fn names(bench: &Bench<'_>) -> Verdict {
    let names = (0..4).map(|nth| bench.name(&format!("names-at-once-{nth}")));
    let names = names.collect::<Result<Vec<_>, _>>()?;
    for (make, left) in [(ensure as fn(&_, &_) -> _, &["value"][..]), (absent, &[])] {
        try_join_all(names.iter().map(|name| bench.insist(make(name, "value")))).await?;
        for name in &names {
            bench.serves(name, left, None).await?;
        }
    }
    Ok(())
}

async fn instances(bench: &Bench<'_>) -> Verdict {
    let name = bench.name("two-instances")?;
    bench.apply(&[ensure(&name, "first")]).await?;
    bench.apply_second(&[ensure(&name, "second")]).await?;
    bench.serves(&name, &["first", "second"], None).await?;
    bench.apply(&[ensure(&name, "third")]).await?;
    bench
        .serves(&name, &["first", "second", "third"], None)
        .await?;
    bench.apply_second(&[absent(&name, "first")]).await?;
    bench.apply(&[absent(&name, "third")]).await?;
    bench.serves(&name, &["second"], None).await?;
    bench.apply(&[absent(&name, "second")]).await?;
    bench.serves(&name, &[], None).await
}
