//! One batch of changes: the first try with what is believed, a look at what was otherwise, and the second try.

use std::collections::BTreeMap;

use crate::record::{Change, DnsName, RrSet, Zone};
use crate::wanted::{Wanted, wanted};
use crate::{ErrorKind, ProviderError, Receipt};

use super::api::{Api, Replacement, Txt};
use super::error::About;

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
        .map(|(name, set)| Txt::observed(name, set.as_ref()))
        .collect())
}

/// Makes `changes` true, all or none; `believed` saves the look at what is there, where it is right.
pub(super) async fn apply(
    api: &Api<'_>,
    zone: &Zone,
    changes: &[Change],
    believed: &[RrSet],
) -> Result<Receipt, ProviderError> {
    let wanted = wanted(changes);
    let names: Vec<&DnsName> = wanted.keys().collect();
    if let Some(name) = names.iter().find(|name| !name.is_at_or_below(&zone.name)) {
        let message = format!("{name} is not in the zone {}", zone.name);
        return Err(ProviderError::new(ErrorKind::Invalid, message));
    }
    let mut there = Sets::believed(&names, believed);
    // What a belief leaves as it is, no change proves: that needs a look.
    let doubtful: Vec<&DnsName> = (wanted.iter())
        .filter(|(name, wanted)| there.of(name) == Txt::after(there.of(name), wanted).as_ref())
        .map(|(name, _)| name)
        .collect();
    there.read(api, zone, &doubtful).await?;
    let about = About::Change(zone, &names);
    let first = there.replacement(&wanted);
    if first.is_empty() {
        return Ok(Receipt::default());
    }
    match api.change(zone, &first, &about).await {
        Ok(change) => return Ok(receipt(zone, &change)),
        Err(refusal) if refusal.is_overtaken => {}
        Err(refusal) => return Err(refusal.error),
    }
    there.read(api, zone, &names).await?;
    let second = there.replacement(&wanted);
    if second.is_empty() {
        return Ok(Receipt::default());
    }
    let changed = api.change(zone, &second, &about).await;
    let change = changed.map_err(|refusal| refusal.error)?;
    Ok(receipt(zone, &change))
}

/// A change is known by its number in its zone.
fn receipt(zone: &Zone, change: &str) -> Receipt {
    Receipt::of(format!("{}/{change}", zone.id))
}

/// What is there at some names, as far as that is known or believed.
struct Sets<'a>(BTreeMap<&'a DnsName, Txt>);

impl<'a> Sets<'a> {
    fn believed(names: &[&'a DnsName], believed: &[RrSet]) -> Self {
        let believed = names.iter().filter_map(|name| {
            let set = believed.iter().find(|set| set.name == **name)?;
            Some((*name, Txt::believed(set)?))
        });
        Self(believed.collect())
    }

    fn of(&self, name: &DnsName) -> Option<&Txt> {
        self.0.get(name)
    }

    async fn read(
        &mut self,
        api: &Api<'_>,
        zone: &Zone,
        names: &[&'a DnsName],
    ) -> Result<(), ProviderError> {
        if names.is_empty() {
            return Ok(());
        }
        for (name, set) in names.iter().zip(api.sets(zone, names).await?) {
            match set {
                Some(set) => drop(self.0.insert(name, set)),
                None => drop(self.0.remove(name)),
            }
        }
        Ok(())
    }

    /// What takes each name from what is there to what is wanted.
    fn replacement(&self, wanted: &BTreeMap<DnsName, Wanted>) -> Replacement {
        let mut replacement = Replacement::default();
        for (name, wanted) in wanted {
            let before = self.of(name);
            let after = Txt::after(before, wanted);
            if before != after.as_ref() {
                replacement.add(name, before.cloned(), after);
            }
        }
        replacement
    }
}
