//! The DNS plug-in contract and the plug-ins.
//!
//! This crate knows DNS records and nothing of ACME. A plug-in is a thin adapter: it says what its vendor can do and
//! performs state-based verbs, each of which may be repeated without harm. Merging, batching, retries, rates,
//! read-back and clean-up are the core's and are written once, outside this crate.

pub mod clock;
#[cfg(any(test, feature = "testing"))]
pub mod contract;
pub mod error;
pub mod record;
pub mod rfc2136;
pub mod secret;

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use clock::Clock;
pub use error::{ErrorKind, ProviderError};
use record::{Change, DnsName, RrSet, Zone};

/// One credential at one DNS host.
///
/// Every verb may be repeated: `ensure` of a value that is there and `absent` of one that is not both succeed.
/// A plug-in neither sleeps nor retries nor remembers zones; the core does.
#[async_trait]
pub trait Provider: Send + Sync {
    /// What this host can do, asked once after construction.
    fn traits(&self) -> Traits;

    /// The zones of this host that could hold a record at `name`, longest apex first; empty when it holds none.
    async fn zones(&self, name: &DnsName, context: &Context) -> Result<Vec<Zone>, ProviderError>;

    /// The TXT RRset at each of `names`, as the host itself holds it (never through a cache). Every name asked
    /// for is answered, with no values where there is no RRset.
    async fn observe(
        &self,
        zone: &Zone,
        names: &[DnsName],
        context: &Context,
    ) -> Result<Vec<RrSet>, ProviderError>;

    /// Makes all `changes` true, or none where the vendor can do that. `Ok` means that the host was read back and
    /// agrees. Foreign values and their TTL stay as they are.
    async fn apply(
        &self,
        zone: &Zone,
        changes: &[Change],
        context: &Context,
    ) -> Result<(), ProviderError>;
}

/// What a DNS host can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traits {
    /// How records are written.
    pub model: RecordModel,
    /// The largest number of changes one `apply` may carry.
    pub batch: usize,
    /// How long an accepted change usually needs until every authoritative server has it, at most.
    pub propagation: Duration,
}

/// How a DNS host writes the TXT values of one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordModel {
    /// Single values are added and removed; writers commute.
    Value,
}

/// What a verb runs under.
#[derive(Clone)]
pub struct Context {
    /// Time, and the only way to wait.
    pub clock: Clock,
    /// The verb gives up with [`ErrorKind::Transient`] at this instant.
    pub deadline: Timestamp,
}
