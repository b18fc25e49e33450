//! The kit for tests: over a host that a test has, with a panic for what failed (feature `testing`).

#![allow(
    clippy::panic,
    reason = "a test that fails panics; this is compiled for tests only"
)]

use async_trait::async_trait;

pub use crate::kit::labels;
use crate::kit::{Kit, Outcome, World};
use crate::record::{Change, DnsName, NameError, RrSet, Zone};
use crate::{Context, Provider};

/// The host that a plug-in is tried on, seen from outside the plug-in.
#[async_trait]
pub trait Fixture: Send + Sync {
    /// The zone that the credential may change.
    fn zone(&self) -> Zone;

    /// A name in the zone that the credential may change and that nothing else uses; another one for each `label`.
    fn name(&self, label: &str) -> DnsName;

    /// A name in the zone that the credential may not change; `None` at hosts that only know rights to whole zones.
    fn forbidden(&self) -> Option<DnsName>;

    /// Time, and a deadline that is far enough away.
    fn context(&self) -> Context;

    /// The TXT RRset that the world gets from the host.
    async fn served(&self, name: &DnsName) -> RrSet;

    /// What the host makes of a TTL that it is given.
    fn ttl(&self, wanted: u32) -> u32 {
        wanted
    }

    /// Puts a value there as somebody else would. The whole RRset may get this TTL.
    async fn add_foreign(&self, name: &DnsName, value: &str, ttl: u32);
}

/// Every case of the kit; panics with those that failed.
pub async fn battery(provider: &dyn Provider, fixture: &dyn Fixture) {
    skipped(provider, fixture).await;
}

/// The same; which cases were skipped.
pub async fn skipped(provider: &dyn Provider, fixture: &dyn Fixture) -> Vec<&'static str> {
    let world = Seen(fixture);
    let mut failed = Vec::new();
    let mut skipped = Vec::new();
    for finding in Kit::new(provider, &world).run(|_| {}).await {
        let case = finding.case;
        match finding.outcome {
            Outcome::Passed => {}
            Outcome::Failed(seen) => failed.push(format!("{} ({}): {seen}", case.id, case.proves)),
            Outcome::Skipped(_) => skipped.push(case.id),
        }
    }
    assert!(failed.is_empty(), "failed:\n{}", failed.join("\n"));
    skipped
}

/// A fixture as the kit sees it.
struct Seen<'a>(&'a dyn Fixture);

#[async_trait]
impl World for Seen<'_> {
    fn zone(&self) -> Result<Zone, String> {
        Ok(self.0.zone())
    }

    fn name(&self, label: &str) -> Result<DnsName, NameError> {
        Ok(self.0.name(label))
    }

    fn context(&self) -> Context {
        self.0.context()
    }

    fn forbidden(&self) -> Option<DnsName> {
        self.0.forbidden()
    }

    async fn served(&self, name: &DnsName) -> Option<RrSet> {
        Some(self.0.served(name).await)
    }

    fn ttl(&self, wanted: u32) -> Option<u32> {
        Some(self.0.ttl(wanted))
    }

    async fn add_foreign(
        &self,
        name: &DnsName,
        value: &str,
        ttl: u32,
    ) -> Result<Option<String>, String> {
        self.0.add_foreign(name, value, ttl).await;
        Ok(None)
    }
}

/// The `ensure` of `value` at `name`.
pub fn ensure(name: &DnsName, value: &str) -> Change {
    crate::kit::ensure(name, value)
}

/// The `absent` of `value` at `name`.
pub fn absent(name: &DnsName, value: &str) -> Change {
    crate::kit::absent(name, value)
}
