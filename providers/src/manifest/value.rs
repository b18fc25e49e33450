//! Changes at hosts where single values are added and removed. Writers commute, so that nothing is read back.

use std::fmt;

use crate::record::{Change, DnsName, Verb, Zone};
use crate::{ErrorKind, ProviderError, Receipt};

use super::plan::{Manifest, Request};
use super::records::{self, Found, Record, joined_ttl};
use super::session::{Answer, Session};
use super::template::{Item, Values};

/// Makes `changes` true: looks what is there, adds what is missing, then removes what is too much.
pub(super) async fn apply(
    session: &Session<'_>,
    manifest: &Manifest,
    (create, remove): (&Request, &Request),
    zone: &Zone,
    changes: &[Change],
) -> Result<Receipt, ProviderError> {
    let names: Vec<DnsName> = changes.iter().map(|it| it.name.clone()).collect();
    let found = records::find(session, manifest, zone, &names).await?;
    let mut run = Run {
        session,
        manifest,
        receipts: Vec::new(),
        changed: false,
    };
    let missing = missing(session, manifest, zone, &found, changes);
    run.all(create, &missing, Act::Add, zone).await?;
    let surplus = surplus(session, zone, &found, changes);
    run.all(remove, &surplus, Act::Remove, zone).await?;
    Ok(match run.receipts.is_empty() {
        true => Receipt::default(),
        false => Receipt::of(run.receipts.join(" ")),
    })
}

fn missing<'c>(
    session: &Session<'c>,
    manifest: &Manifest,
    zone: &'c Zone,
    found: &Found,
    changes: &'c [Change],
) -> Vec<Item<'c>> {
    let mut items: Vec<Item<'_>> = Vec::new();
    for change in changes.iter().filter(|it| it.verb == Verb::Ensure) {
        let key = (Some(&change.name), Some(change.value.as_str()));
        let twice = items
            .iter()
            .any(|it| (it.values.name, it.values.value) == key);
        if twice || found.with(&change.name, &change.value).next().is_some() {
            continue;
        }
        let values = Values {
            zone: Some(zone),
            name: key.0,
            value: key.1,
            ttl: Some(joined_ttl(manifest, found.at(&change.name), change.ttl)),
            ..session.values()
        };
        items.push(item(values));
    }
    items
}

fn surplus<'c>(
    session: &Session<'c>,
    zone: &'c Zone,
    found: &'c Found,
    changes: &'c [Change],
) -> Vec<Item<'c>> {
    let absent = changes.iter().filter(|it| it.verb == Verb::Absent);
    let records = absent.flat_map(|change| {
        let there = found.with(&change.name, &change.value);
        there.map(move |record| (change, record))
    });
    let values = |(change, record): (&'c Change, &'c Record)| Values {
        zone: Some(zone),
        name: Some(&change.name),
        value: Some(&change.value),
        stored: Some(&record.stored),
        id: record.id.as_deref(),
        ttl: Some(record.ttl),
        ..session.values()
    };
    records.map(|it| item(values(it))).collect()
}

fn item(values: Values<'_>) -> Item<'_> {
    Item {
        values,
        kept: Vec::new(),
        new: Vec::new(),
    }
}

/// What requests are to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    Add,
    Change,
    Remove,
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Add => "to add a TXT",
            Self::Change => "to change TXT",
            Self::Remove => "to remove TXT",
        })
    }
}

/// The requests of one `apply`.
pub(super) struct Run<'r, 's> {
    pub(super) session: &'r Session<'s>,
    pub(super) manifest: &'r Manifest,
    pub(super) receipts: Vec<String>,
    /// Whether a request was accepted already.
    pub(super) changed: bool,
}

impl Run<'_, '_> {
    /// Sends `request` for all `items`, in one or one by one.
    pub(super) async fn all(
        &mut self,
        request: &Request,
        items: &[Item<'_>],
        act: Act,
        zone: &Zone,
    ) -> Result<(), ProviderError> {
        let size = if request.takes_many() { items.len() } else { 1 };
        for items in items.chunks(size.max(1)) {
            let doing = match items {
                [item] => match item.values.name {
                    Some(name) => format!("asked {act} at {name}"),
                    None => format!("asked {act} in {}", zone.name),
                },
                _ => format!("asked {act} at {} names in {}", items.len(), zone.name),
            };
            let outside = Values {
                zone: Some(zone),
                ..self.session.values()
            };
            // Without `each`, all of the request is about the one item.
            let values = match items {
                [item] if !request.takes_many() => item.values,
                _ => outside,
            };
            let answer = self.session.ask(request, &values, items, &doing).await;
            let error = match answer {
                Ok(Answer::Good(reply)) => self.keep_receipt(&reply).err(),
                Ok(Answer::Nothing) => None,
                // Somebody else removed it after the look. Of many, the others are still there.
                Err(error) if act == Act::Remove && error.kind == ErrorKind::ZoneMissing => {
                    let kind = ErrorKind::Conflict;
                    (items.len() > 1).then_some(ProviderError { kind, ..error })
                }
                Err(error) => Some(error),
            };
            if let Some(error) = error {
                return Err(if self.changed { error.partly() } else { error });
            }
            self.changed = true;
        }
        Ok(())
    }

    fn keep_receipt(&mut self, reply: &serde_json::Value) -> Result<(), ProviderError> {
        let Some(settle) = &self.manifest.settle else {
            return Ok(());
        };
        let receipt = settle.receipt.text_of(reply);
        let receipt = receipt.filter(|it| !it.is_empty() && !it.contains(char::is_whitespace));
        let receipt =
            receipt.ok_or_else(|| self.session.odd("a change without an identifier").partly())?;
        self.receipts.push(receipt);
        Ok(())
    }
}
