//! The zone as queries see it: an immutable snapshot, replaced as a whole.
//!
//! Nothing here reads or waits: a query takes the current snapshot and works on it alone.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};

use countersign_providers::record::{DnsName, NameError};
use hickory_proto::rr::rdata::{A, AAAA, NS, SOA, TXT};
use hickory_proto::rr::{LowerName, Name, RData, Record, RecordType};
use serde::{Deserialize, Serialize};

use super::Settings;

/// How long a resolver may keep "there is none" (RFC 2308 section 5): a challenge value asked for too early must
/// not stay hidden.
pub(crate) const NEGATIVE_TTL: u32 = 1;
/// The TTL of what only the configuration changes: SOA, NS and addresses.
const FIXED_TTL: u32 = 300;
/// SOA timers for secondaries, of which there are none (RFC 1912 section 2.2).
const REFRESH: i32 = 3600;
const RETRY: i32 = 600;
const EXPIRE: i32 = 604_800;
/// The longest character-string (RFC 1035 section 3.3).
const MAX_STRING: usize = 255;
/// The host name that stands in when the configuration names none.
const DEFAULT_HOST: &str = "ns";
/// The mailbox of the SOA (RFC 2142 section 7).
const MAILBOX: &str = "hostmaster";

/// The TXT values at one name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Values {
    /// Seconds.
    pub(crate) ttl: u32,
    /// Each the concatenation of its character-strings.
    pub(crate) values: Vec<String>,
}

/// Where the current snapshot is.
pub(crate) struct Published(RwLock<Arc<Snapshot>>);

impl Published {
    pub(crate) fn new(snapshot: Snapshot) -> Self {
        Self(RwLock::new(Arc::new(snapshot)))
    }

    pub(crate) fn current(&self) -> Arc<Snapshot> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn publish(&self, snapshot: Snapshot) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(snapshot);
    }
}

/// One version of the zone.
pub struct Snapshot {
    apex: LowerName,
    /// Every name that exists, empty non-terminals included (RFC 4592 section 2.2.2).
    nodes: HashMap<LowerName, Vec<Record>>,
    /// The SOA as negative answers carry it: its TTL is its MINIMUM (RFC 2308 section 3).
    negative_soa: Record,
}

impl Snapshot {
    /// The zone of `settings` with `texts` in it.
    pub(crate) fn new(
        settings: &Settings,
        serial: u32,
        texts: &BTreeMap<DnsName, Values>,
    ) -> Result<Self, NameError> {
        let apex = wire(&settings.zone)?;
        let hosts = hosts(settings)?;
        let soa = soa(settings, &hosts, serial)?;
        let mut snapshot = Self {
            negative_soa: Record::from_rdata(apex.clone(), NEGATIVE_TTL, soa.clone()),
            apex: LowerName::new(&apex),
            nodes: HashMap::new(),
        };
        snapshot.add(Record::from_rdata(apex.clone(), FIXED_TTL, soa));
        for (host, addresses) in &hosts {
            let host = wire(host)?;
            let ns = RData::NS(NS(host.clone()));
            snapshot.add(Record::from_rdata(apex.clone(), FIXED_TTL, ns));
            for address in addresses {
                snapshot.add(Record::from_rdata(host.clone(), FIXED_TTL, rdata(*address)));
            }
        }
        for (name, text) in texts {
            let owner = wire(name)?;
            for value in &text.values {
                snapshot.add(Record::from_rdata(owner.clone(), text.ttl, txt(value)));
            }
        }
        Ok(snapshot)
    }

    /// Whether `name` is the apex or below it.
    pub(crate) fn holds(&self, name: &LowerName) -> bool {
        self.apex.zone_of(name)
    }

    /// The records at `name`; `None` when neither it nor anything below it exists.
    pub(crate) fn node(&self, name: &LowerName) -> Option<&[Record]> {
        self.nodes.get(name).map(Vec::as_slice)
    }

    /// The addresses of `host`, where it is one of this zone's.
    pub(crate) fn addresses(&self, host: &Name) -> impl Iterator<Item = &Record> {
        self.node(&LowerName::new(host))
            .unwrap_or_default()
            .iter()
            .filter(|record| matches!(record.record_type(), RecordType::A | RecordType::AAAA))
    }

    /// The SOA of a negative answer.
    pub(crate) fn negative_soa(&self) -> &Record {
        &self.negative_soa
    }

    fn add(&mut self, record: Record) {
        let owner = LowerName::new(&record.name);
        let mut above = owner.clone();
        while above != self.apex && !above.is_root() {
            above = above.base_name();
            self.nodes.entry(above.clone()).or_default();
        }
        self.nodes.entry(owner).or_default().push(record);
    }
}

/// The zone's servers: as configured, or one name for the addresses listened on.
fn hosts(settings: &Settings) -> Result<BTreeMap<DnsName, Vec<IpAddr>>, NameError> {
    if !settings.hosts.is_empty() {
        return Ok(settings.hosts.clone());
    }
    let mut addresses: Vec<IpAddr> = settings.listen.iter().map(|listen| listen.ip()).collect();
    addresses.retain(|address| !address.is_unspecified());
    addresses.dedup();
    Ok(BTreeMap::from([(
        settings.zone.prepend(DEFAULT_HOST)?,
        addresses,
    )]))
}

fn soa(
    settings: &Settings,
    hosts: &BTreeMap<DnsName, Vec<IpAddr>>,
    serial: u32,
) -> Result<RData, NameError> {
    let primary = hosts.keys().next().unwrap_or(&settings.zone);
    // A zone too long for another label keeps its own name as mailbox; nobody writes to it.
    let mailbox = settings.zone.prepend(MAILBOX);
    Ok(RData::SOA(SOA::new(
        wire(primary)?,
        wire(mailbox.as_ref().unwrap_or(&settings.zone))?,
        serial,
        REFRESH,
        RETRY,
        EXPIRE,
        NEGATIVE_TTL,
    )))
}

fn rdata(address: IpAddr) -> RData {
    match address {
        IpAddr::V4(address) => RData::A(A(address)),
        IpAddr::V6(address) => RData::AAAA(AAAA(address)),
    }
}

fn txt(value: &str) -> RData {
    let strings = if value.is_empty() {
        vec![value.as_bytes()]
    } else {
        value.as_bytes().chunks(MAX_STRING).collect()
    };
    RData::TXT(TXT::from_bytes(strings))
}

fn wire(name: &DnsName) -> Result<Name, NameError> {
    Name::from_ascii(format!("{name}.")).map_err(|_| NameError::TooLong(name.as_str().len()))
}
