//! What the virtual host has: zones, and TXT records.

use std::collections::BTreeMap;

use crate::manifest::txt;
use crate::record::{DnsName, RrSet, Zone};

/// A TXT record.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) zone: String,
    pub(super) name: DnsName,
    pub(super) id: String,
    /// The value as it was written.
    pub(super) stored: String,
    pub(super) ttl: u32,
}

#[derive(Default)]
pub(super) struct Store {
    pub(super) zones: Vec<Zone>,
    pub(super) records: Vec<Record>,
    /// Changes that were asked about, and how often.
    pub(super) asked: BTreeMap<String, u32>,
    last: u64,
}

impl Store {
    /// The next identifier.
    pub(super) fn id(&mut self) -> String {
        // Those of different things do not look alike.
        self.last += 7;
        (4_000 + self.last).to_string()
    }

    pub(super) fn add(&mut self, zone: &Zone, name: &DnsName, stored: &str, ttl: u32) {
        let id = self.id();
        self.records.push(Record {
            zone: zone.id.clone(),
            name: name.clone(),
            id,
            stored: stored.to_owned(),
            ttl,
        });
    }

    /// The records of a zone, name by name.
    pub(super) fn of(&self, zone: &Zone) -> Vec<&Record> {
        self.records
            .iter()
            .filter(|it| it.zone == zone.id)
            .collect()
    }

    pub(super) fn at(&self, name: &DnsName) -> Vec<&Record> {
        self.records.iter().filter(|it| it.name == *name).collect()
    }

    /// What the world sees. A record with a TTL of its own has not taken that of its set.
    pub(super) fn served(&self, name: &DnsName) -> RrSet {
        let there = self.at(name);
        RrSet {
            name: name.clone(),
            ttl: there.last().map(|it| it.ttl),
            values: there.iter().map(|it| txt::value_of(&it.stored)).collect(),
        }
    }
}
