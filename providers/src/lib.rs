//! The DNS plug-in contract and the plug-ins.
//!
//! This crate knows DNS records and nothing of ACME. A plug-in is a thin adapter: it says what its vendor can do and
//! performs state-based verbs, each of which may be repeated without harm. Merging, batching, retries, rates,
//! read-back and clean-up are the core's and are written once, outside this crate.

pub mod acme_dns;
pub mod azuredns;
pub mod child;
pub mod clock;
pub mod cloudflare;
mod content;
#[cfg(any(test, feature = "testing"))]
pub mod contract;
pub mod endpoint;
pub mod error;
pub mod exchange;
pub mod googlecloud;
pub mod guard;
pub mod http;
pub mod kit;
pub mod leash;
pub mod manifest;
pub mod manual;
pub mod meter;
mod oauth;
pub mod ovh;
pub mod process;
pub mod record;
pub mod rfc2136;
pub mod route53;
pub mod runners;
pub mod secret;
pub mod several;
pub mod tls;
mod txt_set;
mod wanted;
pub mod words;

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use clock::Clock;
pub use error::{ErrorKind, ProviderError};
use meter::{Meter, Missed, Rate};
use record::{Change, DnsName, RrSet, Zone};

/// One credential at one DNS host.
///
/// Every verb may be repeated: `ensure` of a value that is there and `absent` of one that is not both succeed.
/// A plug-in neither sleeps nor retries nor remembers anything; the core does.
#[async_trait]
pub trait Provider: Send + Sync {
    /// What this host can do.
    fn traits(&self) -> Traits;

    /// The zones of this host that could hold a record at `name`, longest apex first; empty when it holds none. A host
    /// that knows single names only gives the name itself for a zone.
    async fn zones(&self, name: &DnsName, context: &Context) -> Result<Vec<Held>, ProviderError>;

    /// The servers that the host has for `zone`, where [`Held::nameservers`] does not say so: what a delegation to this
    /// host names. It is asked when several zones hold a name. Nothing of a host that does not say.
    async fn nameservers(
        &self,
        zone: &Zone,
        context: &Context,
    ) -> Result<Vec<DnsName>, ProviderError> {
        let _ = (zone, context);
        Ok(Vec::new())
    }

    /// The TXT RRset at each of `names`, as the host itself holds it (never through a cache). Every name asked
    /// for is answered, with no values where there is no RRset.
    async fn observe(
        &self,
        zone: &Zone,
        names: &[DnsName],
        context: &Context,
    ) -> Result<Vec<RrSet>, ProviderError>;

    /// What the host tells of the values at `names` besides: which of them it has marked as ours, and when they were made.
    /// Nothing of a host that keeps no account of that.
    async fn remarks(
        &self,
        zone: &Zone,
        names: &[DnsName],
        context: &Context,
    ) -> Result<Vec<Remark>, ProviderError> {
        let _ = (zone, names, context);
        Ok(Vec::new())
    }

    /// Makes all `changes` true, or none where the vendor can do that. `Ok` means that the host vouches for it, by its
    /// reply or by being read back. Foreign values and their TTL stay as they are.
    ///
    /// `believed` is what the core left at those names; nothing is said of names where it left nothing. It saves a host
    /// whose sets are replaced as a whole the look before the write, is often not all that is there, and is never
    /// written without proof.
    async fn apply(
        &self,
        zone: &Zone,
        changes: &[Change],
        believed: &[RrSet],
        context: &Context,
    ) -> Result<Receipt, ProviderError>;

    /// Whether the changes of which the host gave `ticket` have reached every server of the host.
    async fn settle(&self, ticket: &str, context: &Context) -> Result<Settled, ProviderError> {
        let _ = (ticket, context);
        Ok(Settled::Unknown)
    }

    /// A person asks for a try now: what was refused a moment ago may be right by now.
    fn forgive(&self) {}
}

/// A zone that a host holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The zone.
    pub zone: Zone,
    /// The servers that the host has for it, where it says so with the zone: what a delegation to this host names. It
    /// tells zones of one name apart.
    pub nameservers: Vec<DnsName>,
    /// Whether the host would say so of any zone, since it does not know which it holds.
    pub is_claim: bool,
}

impl From<Zone> for Held {
    fn from(zone: Zone) -> Self {
        Self {
            zone,
            nameservers: Vec::new(),
            is_claim: false,
        }
    }
}

/// Every zone that could hold `name`, claimed by a host that does not know which it holds.
fn claimed(name: &DnsName) -> Vec<Held> {
    let zone = |name: DnsName| Zone {
        id: name.to_string(),
        name,
    };
    let claim = |name| Held {
        is_claim: true,
        ..Held::from(zone(name))
    };
    name.and_above().map(claim).collect()
}

/// The zones that could hold `name` and whose identifiers a person wrote down in `zones`, longest first.
fn configured(zones: &BTreeMap<DnsName, String>, name: &DnsName) -> Vec<Held> {
    let zone = |name: DnsName| {
        let id = zones.get(&name)?.clone();
        Some(Held::from(Zone { name, id }))
    };
    name.and_above().filter_map(zone).collect()
}

/// What a host tells of a value besides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    /// Where it stands.
    pub name: DnsName,
    /// The value.
    pub value: String,
    /// Whether it bears the mark that values of this store are given.
    pub is_ours: bool,
    /// When it was made, where the host says so.
    pub made: Option<Timestamp>,
}

/// What a host gives for changes that it has accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Receipt {
    /// What [`Provider::settle`] asks about: the vendor's name for them all, if it has one.
    pub ticket: Option<String>,
    /// The vendor's name for each value that is there now, in the order of the changes; shorter where it has none. The
    /// core keeps it and gives it back in [`Change::handle`] when the value is to go.
    pub handles: Vec<Option<String>>,
}

impl Receipt {
    /// Of changes that are known by one name.
    pub fn of(ticket: String) -> Self {
        Self {
            ticket: Some(ticket),
            handles: Vec::new(),
        }
    }
}

/// How far an accepted change has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// Every server of the host has it.
    Everywhere,
    /// Some have it.
    NotYet,
    /// The vendor does not say.
    Unknown,
}

/// What a DNS host can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traits {
    /// How records are written.
    pub model: RecordModel,
    /// The largest number of changes one `apply` may carry.
    pub batch: usize,
    /// How often its API may be asked, where it has a limit.
    pub rate: Option<Rate>,
    /// How long an accepted change usually needs until every authoritative server has it, at most.
    pub propagation: Duration,
}

/// How a DNS host writes the TXT values of one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordModel {
    /// Single values are added and removed; writers commute.
    Value,
    /// A set is replaced with proof of what it was; a writer who was overtaken is told.
    SetWithProof,
    /// A set is replaced, whatever it was; a writer who was overtaken finds out by looking again.
    Set,
    /// The whole zone is replaced.
    Zone,
    /// A name has room for so many values, and one more pushes the oldest out.
    Slots(usize),
}

impl RecordModel {
    /// Whether another writer may bring back, from what he read before, a value that was removed meanwhile.
    pub fn is_unproven(self) -> bool {
        matches!(self, Self::Set | Self::Zone)
    }
}

/// What a verb runs under.
#[derive(Clone)]
pub struct Context {
    /// Time, and the only way to wait.
    pub clock: Clock,
    /// The verb gives up with [`ErrorKind::Transient`] at this instant.
    pub deadline: Timestamp,
    /// Whose turn it is to ask, for plug-ins whose host counts requests.
    pub meter: Meter,
}

impl Context {
    /// One without a limit on requests.
    pub fn new(clock: Clock, deadline: Timestamp) -> Self {
        Self {
            clock,
            deadline,
            meter: Meter::default(),
        }
    }

    /// Waits for the turn to ask what sentences call `host`.
    pub async fn turn(&self, host: &str) -> Result<(), ProviderError> {
        let patience = self.clock.until(self.deadline);
        let taken = self.meter.turn(&self.clock, patience).await;
        taken.map_err(|missed| match missed {
            Missed::TooLate(after) => {
                let message = format!("{host} is not asked more often than it allows");
                let kind = ErrorKind::RateLimited { after: Some(after) };
                ProviderError::new(kind, message)
            }
            Missed::Refused(error) => error,
        })
    }
}
