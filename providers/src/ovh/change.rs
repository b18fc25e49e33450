//! Changes of one zone: look at each name, make what is missing, remove what is too much, publish.

use std::collections::{BTreeMap, BTreeSet};

use crate::record::{Change, DnsName, RrSet, Verb, Zone};
use crate::wanted::{Wanted, wanted};
use crate::{ErrorKind, ProviderError, content};

use super::api::{Api, Record};

/// The shortest TTL that the API takes, in seconds.
const LEAST_TTL: u32 = 60;
/// A TTL that is the zone's own.
const OF_ZONE: u32 = 0;
/// What that is, unless somebody changed it.
const OF_ZONE_SECONDS: u32 = 3_600;

/// The id of each value at each name.
type Ids = BTreeMap<(DnsName, String), String>;

/// What is there at each of `names`, published or not.
pub(super) async fn observe(
    api: &Api<'_>,
    zone: &Zone,
    names: &[DnsName],
) -> Result<Vec<RrSet>, ProviderError> {
    let mut sets = Vec::with_capacity(names.len());
    for name in names {
        let records = api.records(zone, name).await?;
        let values: BTreeSet<String> = records.iter().map(value).collect();
        sets.push(RrSet {
            name: name.clone(),
            ttl: ttl(&records).map(|ttl| match ttl {
                OF_ZONE => OF_ZONE_SECONDS,
                seconds => seconds,
            }),
            values: values.into_iter().collect(),
        });
    }
    Ok(sets)
}

/// Makes `changes` true and publishes them; the id of each value that is there now.
pub(super) async fn apply(
    api: &Api<'_>,
    zone: &Zone,
    changes: &[Change],
) -> Result<Vec<Option<String>>, ProviderError> {
    // The API would take a name of another zone for one below this zone.
    if let Some(it) = (changes.iter()).find(|it| !it.name.is_at_or_below(&zone.name)) {
        let message = format!("{} is not in the zone {}", it.name, zone.name);
        return Err(ProviderError::new(ErrorKind::Invalid, message));
    }
    let mut changed = false;
    let made = make(api, zone, changes, &mut changed).await;
    let ids = made.map_err(|error| match changed {
        true => error.partly(),
        false => error,
    })?;
    // Unpublished is as good as not done, and whoever looks is shown what is not published: so also where nothing had to
    // be changed this time, something may have been before.
    let refreshed = api.refresh(zone).await;
    refreshed.map_err(ProviderError::partly)?;
    let id = |it: &Change| match it.verb {
        Verb::Ensure => ids.get(&(it.name.clone(), it.value.clone())).cloned(),
        Verb::Absent => None,
    };
    Ok(changes.iter().map(id).collect())
}

async fn make(
    api: &Api<'_>,
    zone: &Zone,
    changes: &[Change],
    changed: &mut bool,
) -> Result<Ids, ProviderError> {
    let left = removed_by_id(api, zone, changes, changed).await?;
    let mut ids = Ids::new();
    for (name, wanted) in wanted(&left) {
        let records = api.records(zone, &name).await?;
        one_name(api, zone, &name, &wanted, &records, changed, &mut ids).await?;
    }
    Ok(ids)
}

/// Removes what is known by its id, and is what we left there: a person may have changed the record since, and it has
/// kept its id. The changes that are left; what is gone, or has another id by now, is to be looked for.
async fn removed_by_id(
    api: &Api<'_>,
    zone: &Zone,
    changes: &[Change],
    changed: &mut bool,
) -> Result<Vec<Change>, ProviderError> {
    let mut left = Vec::new();
    for change in changes {
        let id = change.handle.as_deref().filter(|id| is_id(id));
        match id.filter(|_| change.verb == Verb::Absent) {
            Some(id)
                if is_ours(api, zone, change, id).await?
                    && api.delete(zone, &change.name, id).await? =>
            {
                *changed = true;
            }
            _ => left.push(change.clone()),
        }
    }
    Ok(left)
}

async fn is_ours(
    api: &Api<'_>,
    zone: &Zone,
    change: &Change,
    id: &str,
) -> Result<bool, ProviderError> {
    let record = api.record(zone, &change.name, id).await?;
    Ok(record.is_some_and(|record| value(&record) == change.value))
}

async fn one_name(
    api: &Api<'_>,
    zone: &Zone,
    name: &DnsName,
    wanted: &Wanted,
    records: &[Record],
    changed: &mut bool,
    ids: &mut Ids,
) -> Result<(), ProviderError> {
    let (leave, stay): (Vec<&Record>, Vec<&Record>) =
        (records.iter()).partition(|it| wanted.absent.contains(&value(it)));
    for record in &leave {
        *changed |= api.delete(zone, name, &record.id.to_string()).await?;
    }
    let ttl = ttl(stay.iter().copied()).unwrap_or(wanted.ttl.max(LEAST_TTL));
    for text in &wanted.ensure {
        let there = stay.iter().find(|it| value(it) == *text);
        let id = match there {
            Some(record) => record.id,
            None => {
                let made = api.create(zone, name, content::quoted(text), ttl).await?;
                *changed = true;
                made.id
            }
        };
        ids.insert((name.clone(), text.clone()), id.to_string());
    }
    Ok(())
}

/// Ids are numbers; a handle that is none cannot be one.
fn is_id(handle: &str) -> bool {
    !handle.is_empty() && handle.bytes().all(|b| b.is_ascii_digit())
}

fn value(record: &Record) -> String {
    content::value(&record.target)
}

/// The TTL of the RRset that these records are: servers give all of them one.
fn ttl<'a>(records: impl IntoIterator<Item = &'a Record>) -> Option<u32> {
    let ttls = records.into_iter().map(|it| it.ttl.unwrap_or(OF_ZONE));
    ttls.min()
}
