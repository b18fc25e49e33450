//! Changes of one zone, name by name: what is surely not there is made without a look, everything else after one, and
//! what was overtaken after one more.

use std::collections::BTreeMap;

use crate::record::{Change, DnsName, RrSet, Zone};
use crate::wanted::{Wanted, wanted};
use crate::{ErrorKind, ProviderError};

use super::api::{Api, Stored, Txt};

/// What is there at each of `names`.
pub(super) async fn observe(
    api: &Api<'_>,
    zone: &Zone,
    names: &[DnsName],
) -> Result<Vec<RrSet>, ProviderError> {
    let wanted: Vec<&DnsName> = names.iter().collect();
    let sets = api.sets(zone, &wanted).await?;
    let observed = names.iter().zip(&sets);
    Ok(observed
        .map(|(name, stored)| Txt::observed(name, stored.as_ref().and_then(|it| it.set.as_ref())))
        .collect())
}

/// Makes `changes` true. Where the core left something there is a look first, since only that gives the ETag; where it
/// left nothing, the first try is to make the set.
pub(super) async fn apply(
    api: &Api<'_>,
    zone: &Zone,
    changes: &[Change],
    believed: &[RrSet],
) -> Result<(), ProviderError> {
    let wanted = wanted(changes);
    if let Some(name) = wanted.keys().find(|name| !name.is_at_or_below(&zone.name)) {
        let message = format!("{name} is not in the zone {}", zone.name);
        return Err(ProviderError::new(ErrorKind::Invalid, message));
    }
    let is_left = |name: &DnsName| {
        let set = believed.iter().find(|set| set.name == *name);
        set.is_some_and(|set| !set.values.is_empty())
    };
    let looked: Vec<&DnsName> = (wanted.iter())
        .filter(|(name, wanted)| is_left(name) || Txt::after(None, wanted).is_none())
        .map(|(name, _)| name)
        .collect();
    let sets = api.sets(zone, &looked).await?;
    let mut there: BTreeMap<&DnsName, Option<Stored>> = looked.into_iter().zip(sets).collect();
    let mut changed = false;
    for (name, wanted) in &wanted {
        let first = there.remove(name).flatten();
        match one_name(api, zone, name, wanted, first).await {
            Ok(is_changed) => changed |= is_changed,
            Err(error) if changed => return Err(error.partly()),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Whether anything had to be changed.
async fn one_name(
    api: &Api<'_>,
    zone: &Zone,
    name: &DnsName,
    wanted: &Wanted,
    first: Option<Stored>,
) -> Result<bool, ProviderError> {
    let mut before = first;
    let mut is_second = false;
    loop {
        let set = before.as_ref().and_then(|stored| stored.set.as_ref());
        let after = Txt::after(set, wanted);
        if set == after.as_ref() {
            return Ok(false);
        }
        let replaced = api.replace(zone, name, before.as_ref(), after.as_ref());
        match replaced.await {
            Ok(()) => return Ok(true),
            Err(refusal) if refusal.is_overtaken && !is_second => {}
            Err(refusal) => return Err(refusal.error),
        }
        before = api.set(zone, name).await?;
        is_second = true;
    }
}
