//! Cases about what others have.

use futures_util::FutureExt as _;

use crate::record::{Change, DnsName};

use super::bench::Bench;
use super::told::{absent, ensure, set};
use super::{Case, FOREIGN_TTL, Needs, TTL, Verdict};

const GROUP: &str = "others";

pub(super) static CASES: [Case; 9] = [
    Case::new(
        GROUP,
        "foreign-value",
        Needs::Values,
        "what somebody else has at the name stays when ours comes and goes",
        |it| value(it).boxed(),
    ),
    Case::new(
        GROUP,
        "foreign-ttl",
        Needs::Values,
        "a set that was there keeps its TTL when ours comes and goes",
        |it| ttl(it).boxed(),
    ),
    Case::new(
        GROUP,
        "foreign-odd",
        Needs::Values,
        "a foreign value with quotes, backslashes and commas stays as it was written",
        |it| odd(it).boxed(),
    ),
    Case::new(
        GROUP,
        "foreign-removed",
        Needs::Values,
        "a foreign value is removed when that is asked for",
        |it| removed(it).boxed(),
    ),
    Case::new(
        GROUP,
        "neighbours",
        Needs::Values,
        "a change leaves the names above, below and beside alone",
        |it| neighbours(it).boxed(),
    ),
    Case::new(
        GROUP,
        "belief-wrong",
        Needs::Values,
        "a belief in values that are not there, or not in those that are, harms nobody",
        |it| belief_wrong(it).boxed(),
    ),
    Case::new(
        GROUP,
        "belief-right",
        Needs::Values,
        "a belief that is right is right",
        |it| belief_right(it).boxed(),
    ),
    Case::new(
        GROUP,
        "belief-gone",
        Needs::Values,
        "a belief in a set that is gone harms nobody",
        |it| belief_gone(it).boxed(),
    ),
    Case::new(
        GROUP,
        "belief-ttl",
        Needs::Values,
        "a belief in another TTL changes none",
        |it| belief_ttl(it).boxed(),
    ),
];

const THEIRS: &str = "v=spf1 -all; \"quoted\" \\ and a comma,";

async fn value(bench: &Bench<'_>) -> Verdict {
    let name = bench.name("foreign-value")?;
    let ttl = bench.foreign(&name, "theirs").await?;
    come_and_go(bench, &name, "theirs", ttl).await
}

async fn come_and_go(bench: &Bench<'_>, name: &DnsName, theirs: &str, ttl: Option<u32>) -> Verdict {
    bench.apply(&[ensure(name, "ours")]).await?;
    bench.serves(name, &["ours", theirs], ttl).await?;
    bench.apply(&[absent(name, "ours")]).await?;
    bench.serves(name, &[theirs], ttl).await?;
    bench.apply(&[absent(name, theirs)]).await?;
    bench.serves(name, &[], None).await
}

async fn ttl(bench: &Bench<'_>) -> Verdict {
    let name = bench.name("foreign-ttl")?;
    let ttl = bench.foreign(&name, "theirs").await?;
    let longer = Change {
        ttl: 2 * TTL,
        ..ensure(&name, "longer")
    };
    bench.apply(&[ensure(&name, "ours")]).await?;
    bench.apply(&[longer]).await?;
    bench
        .serves(&name, &["longer", "ours", "theirs"], ttl)
        .await?;
    bench
        .apply(&[absent(&name, "ours"), absent(&name, "longer")])
        .await?;
    bench.serves(&name, &["theirs"], ttl).await?;
    bench.apply(&[absent(&name, "theirs")]).await.map(drop)
}

async fn odd(bench: &Bench<'_>) -> Verdict {
    let name = bench.name("foreign-odd")?;
    let ttl = bench.foreign(&name, THEIRS).await?;
    come_and_go(bench, &name, THEIRS, ttl).await
}

async fn removed(bench: &Bench<'_>) -> Verdict {
    let name = bench.name("foreign-removed")?;
    let ttl = bench.foreign(&name, "stays").await?;
    bench.foreign(&name, "goes").await?;
    bench.apply(&[absent(&name, "goes")]).await?;
    bench.serves(&name, &["stays"], ttl).await?;
    bench.apply(&[absent(&name, "stays")]).await?;
    bench.serves(&name, &[], None).await
}

/// The names above, beside and below [`NAME`].
pub(super) const NEIGHBOURS: [&str; 3] = [
    "neighbours",
    "neighbours-0.neighbours",
    "neighbours-2.neighbours-1.neighbours",
];
/// The one that is changed.
pub(super) const NAME: &str = "neighbours-1.neighbours";

async fn neighbours(bench: &Bench<'_>) -> Verdict {
    let name = bench.name(NAME)?;
    let mut ttls = Vec::new();
    for label in NEIGHBOURS {
        let other = bench.name(label)?;
        let ttl = bench.foreign(&other, "theirs").await?;
        ttls.push((other, ttl));
    }
    for change in [
        ensure(&name, "ours"),
        absent(&name, "theirs"),
        absent(&name, "ours"),
    ] {
        bench.apply(&[change]).await?;
        for (other, ttl) in &ttls {
            bench.serves(other, &["theirs"], *ttl).await?;
        }
    }
    for (other, _) in &ttls {
        bench.apply(&[absent(other, "theirs")]).await?;
    }
    bench.serves(&name, &[], None).await
}

async fn belief_wrong(bench: &Bench<'_>) -> Verdict {
    let name = bench.name("belief-wrong")?;
    let ttl = bench.foreign(&name, "theirs").await?;
    believing(bench, ensure(&name, "one"), &["lost"], Some(TTL)).await?;
    bench.serves(&name, &["one", "theirs"], ttl).await?;
    believing(bench, ensure(&name, "two"), &["one"], Some(TTL)).await?;
    bench.serves(&name, &["one", "two", "theirs"], ttl).await?;
    believing(bench, absent(&name, "two"), &["two", "never"], Some(TTL)).await?;
    bench.serves(&name, &["one", "theirs"], ttl).await?;
    bench
        .apply(&[absent(&name, "one"), absent(&name, "theirs")])
        .await
        .map(drop)
}

async fn belief_right(bench: &Bench<'_>) -> Verdict {
    let name = bench.name("belief-right")?;
    let ttl = bench.foreign(&name, "theirs").await?;
    bench
        .apply(&[ensure(&name, "one"), ensure(&name, "two")])
        .await?;
    believing(bench, absent(&name, "one"), &["one", "two", "theirs"], ttl).await?;
    bench.serves(&name, &["two", "theirs"], ttl).await?;
    believing(bench, absent(&name, "two"), &["two", "theirs"], ttl).await?;
    bench.serves(&name, &["theirs"], ttl).await?;
    believing(bench, absent(&name, "theirs"), &["theirs"], ttl).await?;
    bench.serves(&name, &[], None).await
}

async fn belief_gone(bench: &Bench<'_>) -> Verdict {
    let name = bench.name("belief-gone")?;
    for _ in 0..2 {
        believing(bench, absent(&name, "gone"), &["gone"], Some(FOREIGN_TTL)).await?;
        bench.serves(&name, &[], None).await?;
    }
    believing(bench, ensure(&name, "new"), &["gone"], Some(FOREIGN_TTL)).await?;
    bench.serves(&name, &["new"], None).await?;
    bench.apply(&[absent(&name, "new")]).await.map(drop)
}

async fn belief_ttl(bench: &Bench<'_>) -> Verdict {
    let name = bench.name("belief-ttl")?;
    let ttl = bench.foreign(&name, "theirs").await?;
    believing(bench, ensure(&name, "ours"), &["theirs"], Some(TTL)).await?;
    bench.serves(&name, &["ours", "theirs"], ttl).await?;
    believing(bench, absent(&name, "ours"), &["ours", "theirs"], Some(TTL)).await?;
    bench.serves(&name, &["theirs"], ttl).await?;
    bench.apply(&[absent(&name, "theirs")]).await.map(drop)
}

async fn believing(
    bench: &Bench<'_>,
    change: Change,
    values: &[&str],
    ttl: Option<u32>,
) -> Verdict {
    let believed = [set(&change.name, values, ttl)];
    bench.apply_believing(&[change], &believed).await.map(drop)
}
