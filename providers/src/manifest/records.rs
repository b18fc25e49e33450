//! What a host has: its zones, and the TXT records at names.

use std::collections::{BTreeSet, HashMap};

use serde_json::Value;

use crate::record::{DnsName, RrSet, Zone};
use crate::{ErrorKind, Held, ProviderError};

use super::plan::{Manifest, Owner, Records};
use super::pointer::{number, text};
use super::session::Session;
use super::template::{Values, label};
use super::txt;

/// Adds the zones that could hold `name` to `held`; with a candidate, only that one.
pub(super) async fn zones(
    session: &Session<'_>,
    manifest: &Manifest,
    name: &DnsName,
    candidate: Option<&DnsName>,
    held: &mut Vec<Held>,
) -> Result<(), ProviderError> {
    let zones = &manifest.zones;
    let values = Values {
        name: Some(name),
        candidate,
        ..session.values()
    };
    let doing = match candidate {
        Some(candidate) => format!("asked for the zone {candidate}"),
        None => "asked for its zones".to_owned(),
    };
    let mut found = Vec::new();
    let listed = session.list(&zones.listing, &values, &doing, |item| {
        let parts = zones.name.iter().filter_map(|it| it.text_of(item));
        let parts: Vec<String> = parts.filter(|it| !it.is_empty()).collect();
        let apex = match zones.name.is_empty() {
            true => candidate.cloned(),
            // Names that need escaping are no zones of ours.
            false => DnsName::parse(&parts.join(".")).ok(),
        };
        let fits = |apex: &DnsName| match candidate {
            Some(candidate) => apex == candidate,
            None => name.is_at_or_below(apex),
        };
        let Some(apex) = apex.filter(fits) else {
            return Ok(());
        };
        let id = match &zones.id {
            Some(way) => way
                .text_of(item)
                .ok_or_else(|| session.odd("a zone without an identifier"))?,
            None => apex.to_string(),
        };
        let nameservers = zones.nameservers.as_ref().and_then(|it| it.all(item).ok());
        let nameservers = nameservers.unwrap_or_default().into_iter().filter_map(text);
        found.push(Held {
            nameservers: nameservers
                .filter_map(|it| DnsName::parse(&it).ok())
                .collect(),
            ..Held::from(Zone { name: apex, id })
        });
        Ok(())
    });
    match listed.await {
        Err(error) if error.kind == ErrorKind::ZoneMissing && candidate.is_some() => Ok(()),
        Err(error) => Err(error),
        Ok(()) => {
            held.append(&mut found);
            Ok(())
        }
    }
}

/// A TXT value that is there.
#[derive(Clone, Debug)]
pub(super) struct Record {
    /// The value itself.
    pub(super) value: String,
    /// The value as the host writes it.
    pub(super) stored: String,
    /// What stood in the reply: the record, or the element of the set.
    pub(super) element: Value,
    pub(super) id: Option<String>,
    /// `None`: the host's default.
    pub(super) ttl: Option<u32>,
    /// Kept by the host, and not served.
    is_disabled: bool,
}

impl Record {
    /// Whether this value is served by it.
    pub(super) fn is(&self, value: &str) -> bool {
        !self.is_disabled && self.value == value
    }
}

/// The TXT records at names that were asked for.
#[derive(Default)]
pub(super) struct Found(HashMap<DnsName, Vec<Record>>);

impl Found {
    /// What is at `name`, served or not.
    pub(super) fn at(&self, name: &DnsName) -> &[Record] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }

    /// The records at `name` with this value that are served.
    pub(super) fn with<'f>(
        &'f self,
        name: &DnsName,
        value: &'f str,
    ) -> impl Iterator<Item = &'f Record> {
        let there = self.at(name).iter();
        there.filter(move |it| it.is(value))
    }

    /// The RRset at `name`; a value that the host has twice is once in it.
    pub(super) fn set(&self, name: &DnsName) -> RrSet {
        let served = || self.at(name).iter().filter(|it| !it.is_disabled);
        let values: BTreeSet<String> = served().map(|it| it.value.clone()).collect();
        RrSet {
            name: name.clone(),
            ttl: served().find_map(|it| it.ttl),
            values: values.into_iter().collect(),
        }
    }
}

/// Asks for the TXT records at `names`: for each name, or once for the zone, as the manifest says.
pub(super) async fn find(
    session: &Session<'_>,
    manifest: &Manifest,
    zone: &Zone,
    names: &[DnsName],
) -> Result<Found, ProviderError> {
    let records = &manifest.records;
    let wanted = Wanted::new(names, zone, manifest);
    let mut found = Found::default();
    let values = Values {
        zone: Some(zone),
        ..session.values()
    };
    if !records.one_by_one {
        if !names.is_empty() {
            let doing = format!("asked for the records of {}", zone.name);
            let listed = session.list(&records.listing, &values, &doing, |item| {
                add(session, records, &wanted, None, item, &mut found)
            });
            listed.await?;
        }
        return Ok(found);
    }
    for name in wanted.names() {
        let values = Values {
            name: Some(name),
            ..values
        };
        let doing = format!("asked for TXT at {name}");
        let listed = session.list(&records.listing, &values, &doing, |item| {
            add(session, records, &wanted, Some(name), item, &mut found)
        });
        listed.await?;
    }
    Ok(found)
}

/// Adds what an item of a reply has, if its owner is one that was asked for.
fn add(
    session: &Session<'_>,
    records: &Records,
    wanted: &Wanted<'_>,
    asked: Option<&DnsName>,
    item: &Value,
    found: &mut Found,
) -> Result<(), ProviderError> {
    let owner = match &records.owner {
        Owner::Asked => asked,
        Owner::Full(way) => wanted.full(&way.text_of(item).unwrap_or_default()),
        Owner::Relative(way) => wanted.relative(&way.text_of(item).unwrap_or_default()),
    };
    // A host that takes the filter for a beginning answers with more than was asked for.
    let Some(owner) = owner.filter(|it| asked.is_none_or(|asked| asked == *it)) else {
        return Ok(());
    };
    let ttl = records.ttl.one(item).and_then(number);
    let ttl = ttl.and_then(|ttl| u32::try_from(ttl).ok());
    let elements = match &records.values {
        None => vec![item],
        Some(way) => {
            (way.all(item)).map_err(|way| session.odd(&format!("no list at `{way}` of {owner}")))?
        }
    };
    for element in elements {
        let missing = |what: &str| session.odd(&format!("a TXT at {owner} without {what}"));
        let stored = records.value.text_of(element);
        let stored = stored.ok_or_else(|| missing("a value"))?;
        let id = records
            .id
            .as_ref()
            .map(|it| it.text_of(item).ok_or_else(|| missing("an identifier")));
        let record = Record {
            value: txt::value_of(&stored),
            stored,
            element: element.clone(),
            id: id.transpose()?,
            ttl,
            is_disabled: (records.disabled.as_ref())
                .is_some_and(|it| it.one(element) == Some(&Value::Bool(true))),
        };
        found.0.entry(owner.clone()).or_default().push(record);
    }
    Ok(())
}

/// The names that are asked for, by the ways to write them.
struct Wanted<'n> {
    full: HashMap<&'n str, &'n DnsName>,
    relative: HashMap<String, &'n DnsName>,
}

impl<'n> Wanted<'n> {
    fn new(names: &'n [DnsName], zone: &Zone, manifest: &Manifest) -> Self {
        let mut relative: HashMap<String, &DnsName> = HashMap::new();
        for name in names {
            relative.insert(label(name, &zone.name, &manifest.apex), name);
            if name == &zone.name {
                relative.insert(String::new(), name);
            }
        }
        Self {
            full: names.iter().map(|name| (name.as_str(), name)).collect(),
            relative,
        }
    }

    fn names(&self) -> impl Iterator<Item = &'n DnsName> {
        self.full.values().copied()
    }

    fn full(&self, text: &str) -> Option<&'n DnsName> {
        let text = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        self.full.get(text.as_str()).copied()
    }

    fn relative(&self, text: &str) -> Option<&'n DnsName> {
        self.relative.get(&text.to_ascii_lowercase()).copied()
    }
}

/// The TTL for a value that joins `records`, or for the first one at a name.
pub(super) fn joined_ttl(manifest: &Manifest, records: &[Record], wanted: u32) -> Option<u32> {
    match records.first() {
        Some(there) => there.ttl,
        None => {
            let ttl = wanted.max(manifest.ttl.least.unwrap_or(0));
            Some(ttl.min(manifest.ttl.most.unwrap_or(u32::MAX)))
        }
    }
}
