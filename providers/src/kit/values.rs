//! Cases about the values of one name.

use futures_util::FutureExt as _;

use crate::record::{Change, DnsName};
use crate::{ErrorKind, RecordModel};

use super::bench::{Bench, Stop, failed, refused};
use super::told::{absent, ensure};
use super::{Case, Needs, Verdict};

const GROUP: &str = "values";

pub(super) static CASES: [Case; 21] = [
    Case::new(
        GROUP,
        "repeat",
        Needs::Zone,
        "a value is put there three times and taken away three times without an error",
        |it| repeat(it).boxed(),
    ),
    Case::new(
        GROUP,
        "slots",
        Needs::View,
        "a name of slots holds as many values as it has room for",
        |it| slots(it).boxed(),
    ),
    Case::new(
        GROUP,
        "first-value",
        Needs::Values,
        "the first value at a name is there, with a TTL",
        |it| first(it).boxed(),
    ),
    Case::new(
        GROUP,
        "ensure-again",
        Needs::Values,
        "`ensure` of a value that is there leaves one of it",
        |it| ensured_again(it).boxed(),
    ),
    Case::new(
        GROUP,
        "absent-again",
        Needs::Values,
        "`absent` of a value that is gone succeeds and leaves nothing",
        |it| absent_again(it).boxed(),
    ),
    Case::new(
        GROUP,
        "absent-never",
        Needs::Values,
        "`absent` of a value that never was succeeds, where nothing is and where another value is",
        |it| absent_never(it).boxed(),
    ),
    Case::new(
        GROUP,
        "two-values",
        Needs::Values,
        "the values of an apex and of its wildcard stand at one name, and each comes and goes alone",
        |it| two(it).boxed(),
    ),
    Case::new(
        GROUP,
        "two-turned",
        Needs::Values,
        "two values that came in two calls go in the other order, each alone",
        |it| turned(it).boxed(),
    ),
    Case::new(
        GROUP,
        "replaced",
        Needs::Values,
        "one call takes a value away and puts another at the same name",
        |it| replaced(it).boxed(),
    ),
    Case::new(
        GROUP,
        "same-twice",
        Needs::Values,
        "one call that wants the same value twice leaves one of it",
        |it| same_twice(it).boxed(),
    ),
    Case::new(
        GROUP,
        "eight-values",
        Needs::Values,
        "eight values stand at one name",
        |it| several(it, "eight-values", 8).boxed(),
    ),
    Case::new(
        GROUP,
        "twenty-values",
        Needs::Values,
        "twenty values stand at one name",
        |it| several(it, "twenty-values", 20).boxed(),
    ),
    Case::new(
        GROUP,
        "octets",
        Needs::Values,
        "values differ by case and by every character of base64url",
        |it| octets(it).boxed(),
    ),
    Case::new(
        GROUP,
        "quoting",
        Needs::Values,
        "quotes, backslashes, semicolons, commas and blanks come back as they went",
        |it| quoting(it).boxed(),
    ),
    Case::new(
        GROUP,
        "long-value",
        Needs::Values,
        "a value of more than 255 octets comes back whole",
        |it| long(it).boxed(),
    ),
    Case::new(
        GROUP,
        "value-255",
        Needs::Values,
        "a value that just fits into one character-string, and one that just does not, stand at one name",
        |it| edge(it).boxed(),
    ),
    Case::new(
        GROUP,
        "handle",
        Needs::Values,
        "what the plug-in calls a value leads back to it",
        |it| handle(it).boxed(),
    ),
    Case::new(
        GROUP,
        "handle-stale",
        Needs::Values,
        "a handle that is not good any more harms no other value, and hides none",
        |it| handle_stale(it).boxed(),
    ),
    Case::new(
        GROUP,
        "label-63",
        Needs::Values,
        "a label may have 63 octets",
        |it| at(it, longest_label()).boxed(),
    ),
    Case::new(
        GROUP,
        "name-long",
        Needs::Values,
        "a name may be as long as a name can be",
        |it| deep(it).boxed(),
    ),
    Case::new(
        GROUP,
        "label-idn",
        Needs::Values,
        "a label of a name in another script stands in its A-label form",
        |it| at(it, IDN.to_owned()).boxed(),
    ),
];

/// A label of German, as IDNA writes it.
pub(super) const IDN: &str = "label-idn.xn--bcher-kva";
/// As long as a label can be (RFC 1035 section 2.3.4).
const LABEL: usize = 63;
/// As long as a name can be without its final dot.
const NAME: usize = 253;
/// As long as a character-string can be (RFC 1035 section 3.3).
const STRING: usize = 255;

/// A label of 63 octets.
pub(super) fn longest_label() -> String {
    "l".repeat(LABEL)
}

/// Labels that together make the longest name that ends in `end`, a dot and what follows it.
pub(super) fn deep_label(end: &str) -> String {
    let mut room = NAME.saturating_sub(end.len());
    let mut labels = Vec::new();
    while room > 0 {
        // What does not fit leaves room for a dot and one octet more.
        let octets = if room > LABEL {
            LABEL.min(room - 2)
        } else {
            room
        };
        labels.push("d".repeat(octets));
        room = room.saturating_sub(octets + 1);
    }
    labels.join(".")
}

async fn repeat(bench: &Bench<'_>) -> Verdict {
    if let RecordModel::Slots(_) = bench.provider.traits().model {
        return Err(Stop::skipped(
            "a value that is put there twice takes two slots",
        ));
    }
    let name = bench.name("repeat")?;
    for make in [ensure, absent] {
        for _ in 0..3 {
            bench.apply(&[make(&name, "repeat")]).await?;
        }
    }
    Ok(())
}

async fn slots(bench: &Bench<'_>) -> Verdict {
    let RecordModel::Slots(slots) = bench.provider.traits().model else {
        return Err(Stop::skipped("its names have no slots"));
    };
    let name = bench.name("slots")?;
    // As long as a challenge is (RFC 8555 section 8.4): such hosts take nothing else.
    let values: Vec<String> = (0..slots).map(|nth| format!("{nth:0>43}")).collect();
    for value in &values {
        bench.apply(&[ensure(&name, value)]).await?;
    }
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    bench.serves(&name, &values, None).await
}

async fn first(bench: &Bench<'_>) -> Verdict {
    let name = bench.name("first-value")?;
    bench.apply(&[ensure(&name, "first")]).await?;
    bench.serves(&name, &["first"], None).await?;
    bench.apply(&[absent(&name, "first")]).await?;
    bench.serves(&name, &[], None).await
}

async fn ensured_again(bench: &Bench<'_>) -> Verdict {
    let name = bench.name("ensure-again")?;
    for _ in 0..3 {
        bench.apply(&[ensure(&name, "once")]).await?;
        bench.serves(&name, &["once"], None).await?;
    }
    bench.apply(&[absent(&name, "once")]).await.map(drop)
}

async fn absent_again(bench: &Bench<'_>) -> Verdict {
    let name = bench.name("absent-again")?;
    bench.apply(&[ensure(&name, "short-lived")]).await?;
    for _ in 0..3 {
        bench.apply(&[absent(&name, "short-lived")]).await?;
        bench.serves(&name, &[], None).await?;
    }
    Ok(())
}

async fn absent_never(bench: &Bench<'_>) -> Verdict {
    let name = bench.name("absent-never")?;
    bench.apply(&[absent(&name, "never-was")]).await?;
    bench.serves(&name, &[], None).await?;
    bench.apply(&[ensure(&name, "is")]).await?;
    bench.apply(&[absent(&name, "never-was")]).await?;
    bench.serves(&name, &["is"], None).await?;
    bench.apply(&[absent(&name, "is")]).await.map(drop)
}

async fn two(bench: &Bench<'_>) -> Verdict {
    let name = bench.name("two-values")?;
    bench
        .apply(&[ensure(&name, "apex"), ensure(&name, "wildcard")])
        .await?;
    bench.serves(&name, &["apex", "wildcard"], None).await?;
    bench.apply(&[absent(&name, "apex")]).await?;
    bench.serves(&name, &["wildcard"], None).await?;
    bench.apply(&[ensure(&name, "apex")]).await?;
    bench.serves(&name, &["apex", "wildcard"], None).await?;
    bench
        .apply(&[absent(&name, "apex"), absent(&name, "wildcard")])
        .await?;
    bench.serves(&name, &[], None).await
}

async fn turned(bench: &Bench<'_>) -> Verdict {
    let name = bench.name("two-turned")?;
    bench.apply(&[ensure(&name, "wildcard")]).await?;
    bench.apply(&[ensure(&name, "apex")]).await?;
    bench.serves(&name, &["apex", "wildcard"], None).await?;
    bench.apply(&[absent(&name, "apex")]).await?;
    bench.serves(&name, &["wildcard"], None).await?;
    bench.apply(&[absent(&name, "wildcard")]).await?;
    bench.serves(&name, &[], None).await
}

async fn replaced(bench: &Bench<'_>) -> Verdict {
    let name = bench.name("replaced")?;
    bench.apply(&[ensure(&name, "old")]).await?;
    bench
        .apply(&[ensure(&name, "new"), absent(&name, "old")])
        .await?;
    bench.serves(&name, &["new"], None).await?;
    bench.apply(&[absent(&name, "new")]).await.map(drop)
}

async fn same_twice(bench: &Bench<'_>) -> Verdict {
    let name = bench.name("same-twice")?;
    if bench.provider.traits().batch < 2 {
        return Err(Stop::skipped("it takes one change a call"));
    }
    bench
        .apply(&[ensure(&name, "same"), ensure(&name, "same")])
        .await?;
    bench.serves(&name, &["same"], None).await?;
    bench
        .apply(&[absent(&name, "same"), absent(&name, "same")])
        .await?;
    bench.serves(&name, &[], None).await
}

async fn several(bench: &Bench<'_>, label: &str, count: usize) -> Verdict {
    let name = bench.name(label)?;
    let values: Vec<String> = (0..count).map(|nth| format!("value-{nth}")).collect();
    let all: Vec<&str> = values.iter().map(String::as_str).collect();
    for (make, left) in [(ensure as Make, &all[..]), (absent, &[])] {
        in_batches(bench, &name, make, &all).await?;
        bench.serves(&name, left, None).await?;
    }
    Ok(())
}

type Make = fn(&DnsName, &str) -> Change;

async fn in_batches(bench: &Bench<'_>, name: &DnsName, make: Make, values: &[&str]) -> Verdict {
    let changes: Vec<Change> = values.iter().map(|value| make(name, value)).collect();
    for batch in changes.chunks(bench.provider.traits().batch.max(1)) {
        bench.apply(batch).await?;
    }
    Ok(())
}

async fn octets(bench: &Bench<'_>) -> Verdict {
    let values = [
        "LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0",
        "loqxcyv8q5onbjqxbmr7sctno3tiaxdfowyjxajeux0",
        "-_-_-_-_-_-_-_-_-_-_-_-_-_-_-_-_-_-_-_-_-_-",
    ];
    round_trip(bench, "octets", &values).await
}

async fn quoting(bench: &Bench<'_>) -> Verdict {
    let values = ["say \"it\"; a\\b, c", "v=1; k=x, y  z", "\\ \"\" ;;"];
    round_trip(bench, "quoting", &values).await
}

async fn round_trip(bench: &Bench<'_>, label: &str, values: &[&str; 3]) -> Verdict {
    let name = bench.name(label)?;
    in_batches(bench, &name, ensure, values).await?;
    bench.serves(&name, values, None).await?;
    bench.apply(&[absent(&name, values[0])]).await?;
    bench.serves(&name, &values[1..], None).await?;
    in_batches(bench, &name, absent, &values[1..]).await?;
    bench.serves(&name, &[], None).await
}

async fn long(bench: &Bench<'_>) -> Verdict {
    let name = bench.name("long-value")?;
    let value = "ab-_".repeat(75);
    taken(bench, &name, &value).await?;
    bench.serves(&name, &[&value], None).await?;
    bench.apply(&[absent(&name, &value)]).await?;
    bench.serves(&name, &[], None).await
}

async fn edge(bench: &Bench<'_>) -> Verdict {
    let name = bench.name("value-255")?;
    let [fits, too_long] = [STRING, STRING + 1].map(|octets| "e".repeat(octets));
    taken(bench, &name, &fits).await?;
    taken(bench, &name, &too_long).await?;
    bench.serves(&name, &[&fits, &too_long], None).await?;
    bench.apply(&[absent(&name, &fits)]).await?;
    bench.serves(&name, &[&too_long], None).await?;
    bench.apply(&[absent(&name, &too_long)]).await?;
    bench.serves(&name, &[], None).await
}

/// Puts there what a host may be too small for.
async fn taken(bench: &Bench<'_>, name: &DnsName, value: &str) -> Verdict {
    let Err(error) = bench.try_apply(&[ensure(name, value)], &[]).await else {
        return Ok(());
    };
    match error.kind {
        ErrorKind::Invalid | ErrorKind::Unsupported | ErrorKind::Quota => Err(Stop::Skipped(
            format!("the host does not take it: {}", error.message),
        )),
        _ => Err(refused("apply", &error)),
    }
}

async fn handle(bench: &Bench<'_>) -> Verdict {
    let name = bench.name("handle")?;
    bench.apply(&[ensure(&name, "stays")]).await?;
    let receipt = bench.apply(&[ensure(&name, "goes")]).await?;
    if receipt.handles.len() > 1 {
        let many = receipt.handles.len();
        return failed(format!("`apply` of one change gives {many} handles"));
    }
    let given = receipt.handles.into_iter().next().flatten();
    let has_none = given.is_none();
    bench
        .apply(&[Change {
            handle: given,
            ..absent(&name, "goes")
        }])
        .await?;
    bench.serves(&name, &["stays"], None).await?;
    bench.apply(&[absent(&name, "stays")]).await?;
    match has_none {
        true => Err(Stop::skipped("it has no name of its own for a value")),
        false => Ok(()),
    }
}

async fn handle_stale(bench: &Bench<'_>) -> Verdict {
    let name = bench.name("handle-stale")?;
    let gone = bench.apply(&[ensure(&name, "gone")]).await?;
    let stale = gone.handles.into_iter().next().flatten();
    bench.apply(&[absent(&name, "gone")]).await?;
    bench.apply(&[ensure(&name, "stays")]).await?;
    let take = |handle: Option<String>| Change {
        handle,
        ..absent(&name, "gone")
    };
    bench.apply(&[take(stale.clone())]).await?;
    bench.serves(&name, &["stays"], None).await?;
    // The value is there again, under another name.
    bench.apply(&[ensure(&name, "gone")]).await?;
    bench.apply(&[take(stale)]).await?;
    bench.serves(&name, &["stays"], None).await?;
    bench.apply(&[absent(&name, "stays")]).await.map(drop)
}

async fn at(bench: &Bench<'_>, label: String) -> Verdict {
    let name = bench.name(&label)?;
    bench.apply(&[ensure(&name, "value")]).await?;
    bench.serves(&name, &["value"], None).await?;
    bench.apply(&[absent(&name, "value")]).await?;
    bench.serves(&name, &[], None).await
}

async fn deep(bench: &Bench<'_>) -> Verdict {
    let short = bench.name("x")?;
    // What a world puts around a label is as long around any other.
    let name = bench.name(&deep_label(&short.as_str()[1..]))?;
    taken(bench, &name, "value").await?;
    bench.serves(&name, &["value"], None).await?;
    bench.apply(&[absent(&name, "value")]).await?;
    bench.serves(&name, &[], None).await
}
