//! Changes at hosts where the set of a name is replaced: read, merged, written, and read back. What others have there is
//! written again as it was read.

use crate::record::{Change, DnsName, Verb, Zone};
use crate::{ErrorKind, ProviderError, Receipt};

use super::plan::{Manifest, Request};
use super::records::{self, Found, Record, joined_ttl};
use super::session::Session;
use super::template::{Item, Values};
use super::value::{Act, Run};

/// Makes `changes` true; a set that is not so afterwards was written by somebody else at the same time.
pub(super) async fn apply(
    session: &Session<'_>,
    manifest: &Manifest,
    (write, clear): (&Request, Option<&Request>),
    zone: &Zone,
    changes: &[Change],
) -> Result<Receipt, ProviderError> {
    let mut names: Vec<&DnsName> = changes.iter().map(|it| &it.name).collect();
    names.sort();
    names.dedup();
    let names: Vec<DnsName> = names.into_iter().cloned().collect();
    let found = records::find(session, manifest, zone, &names).await?;
    let merged: Vec<Item<'_>> = names
        .iter()
        .filter_map(|name| merge(session, manifest, zone, &found, name, changes))
        .collect();
    if merged.is_empty() {
        return Ok(Receipt::default());
    }
    let changed: Vec<DnsName> = merged
        .iter()
        .filter_map(|it| it.values.name.cloned())
        .collect();
    let is_empty = |it: &Item<'_>| it.kept.is_empty() && it.new.is_empty();
    let (emptied, filled): (Vec<_>, Vec<_>) = merged
        .into_iter()
        .partition(|it| clear.is_some() && is_empty(it));
    let mut run = Run {
        session,
        manifest,
        receipts: Vec::new(),
        changed: false,
    };
    run.all(write, &filled, Act::Change, zone).await?;
    if let Some(clear) = clear {
        run.all(clear, &emptied, Act::Remove, zone).await?;
    }
    let after = records::find(session, manifest, zone, &changed).await;
    proven(&after.map_err(ProviderError::partly)?, &changed, changes)?;
    Ok(match run.receipts.is_empty() {
        true => Receipt::default(),
        false => Receipt::of(run.receipts.join(" ")),
    })
}

/// The set at `name` as it should be; nothing if it is so.
fn merge<'c>(
    session: &Session<'c>,
    manifest: &Manifest,
    zone: &'c Zone,
    found: &Found,
    name: &'c DnsName,
    changes: &'c [Change],
) -> Option<Item<'c>> {
    let there = found.at(name);
    let here = || changes.iter().filter(|it| it.name == *name);
    let goes = |there: &Record| here().any(|it| it.verb == Verb::Absent && there.is(&it.value));
    let mut new: Vec<&Change> = Vec::new();
    for change in here().filter(|it| it.verb == Verb::Ensure) {
        let is_there = found.with(name, &change.value).next().is_some();
        if !is_there && new.iter().all(|it| it.value != change.value) {
            new.push(change);
        }
    }
    let kept = there.iter().filter(|it| !goes(it));
    let kept: Vec<_> = kept.map(|it| it.element.clone()).collect();
    if new.is_empty() && kept.len() == there.len() {
        return None;
    }
    let wanted = new.first().map_or(0, |it| it.ttl);
    Some(Item {
        values: Values {
            zone: Some(zone),
            name: Some(name),
            ttl: Some(joined_ttl(manifest, there, wanted)),
            ..session.values()
        },
        kept,
        new: new.into_iter().map(|it| it.value.as_str()).collect(),
    })
}

fn proven(after: &Found, names: &[DnsName], changes: &[Change]) -> Result<(), ProviderError> {
    for change in changes.iter().filter(|it| names.contains(&it.name)) {
        let is_there = after.with(&change.name, &change.value).next().is_some();
        if is_there != (change.verb == Verb::Ensure) {
            let message = format!(
                "the TXT set at {} was changed by somebody else at the same time",
                change.name
            );
            return Err(ProviderError::new(ErrorKind::Conflict, message).partly());
        }
    }
    Ok(())
}
