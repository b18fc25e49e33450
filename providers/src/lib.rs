//! The DNS plug-in contract and the plug-ins.
//!
//! This crate knows DNS records and nothing of ACME. A plug-in is a thin adapter: it says what its vendor can do and
//! performs state-based verbs, each of which may be repeated without harm. Merging, batching, retries, rates,
//! read-back and clean-up are the core's and are written once, outside this crate.

pub mod clock;
#[cfg(any(test, feature = "testing"))]
pub mod contract;
pub mod record;
pub mod rfc2136;
pub mod secret;

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use clock::Clock;
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

/// Why a verb failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ProviderError {
    /// The class, which decides what happens next.
    pub kind: ErrorKind,
    /// The vendor's own code, e.g. `BADKEY` or `81057`.
    pub code: Option<String>,
    /// What was seen, naming the server and the zone or name; a whole sentence without a full stop.
    pub message: String,
    /// What a person could do about it.
    pub hint: Option<String>,
}

/// The closed set of error classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The credential is unknown, wrong or expired.
    Auth,
    /// The credential is good but may not do this.
    Permission,
    /// This host does not hold the zone.
    ZoneMissing,
    /// Several zones fit and nothing tells them apart.
    ZoneAmbiguous,
    /// Somebody else changed the RRset at the same time.
    Conflict,
    /// Asked too often.
    RateLimited {
        /// Not before this much time has passed, if the host said so.
        after: Option<Duration>,
    },
    /// The host's limit on records or zones is reached.
    Quota,
    /// The host refuses the change itself (a CNAME at the name, a bad value, a name outside the zone).
    Invalid,
    /// It may work when tried again; the change may or may not have been made.
    Transient,
    /// The host cannot do this at all.
    Unsupported,
    /// The plug-in broke its contract.
    Fatal,
}

impl ErrorKind {
    /// Whether a change that failed so may nevertheless have been made, now or a little later.
    pub fn outcome_unknown(self) -> bool {
        matches!(self, Self::Transient | Self::Fatal)
    }

    /// Whether only a person can help (a credential, a right, a zone, a setting).
    pub fn needs_person(self) -> bool {
        match self {
            Self::Auth
            | Self::Permission
            | Self::ZoneMissing
            | Self::ZoneAmbiguous
            | Self::Quota
            | Self::Invalid
            | Self::Unsupported
            | Self::Fatal => true,
            Self::Conflict | Self::RateLimited { .. } | Self::Transient => false,
        }
    }
}
