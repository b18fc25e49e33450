//! The zone of a manifest's virtual host.

use std::time::Duration;

use async_trait::async_trait;

use crate::clock::{Clock, later};
use crate::manifest::Rest;
use crate::manifest::mirror::{CHILD, Mirror, ZONE};
use crate::record::{DnsName, NameError, RrSet, Zone};
use crate::{Context, Provider};

use super::world::World;

/// More than any verb needs on loopback.
const PATIENCE: Duration = Duration::from_secs(60);

/// The virtual zone of a manifest.
pub struct VirtualZone {
    mirror: Mirror,
    second: Rest,
    clock: Clock,
}

impl VirtualZone {
    /// The zone of this host.
    pub fn new(mirror: Mirror, clock: Clock) -> Self {
        let second = mirror.plugin();
        Self {
            mirror,
            second,
            clock,
        }
    }

    /// The plug-in that the manifest is.
    pub fn plugin(&self) -> Rest {
        self.mirror.plugin()
    }
}

#[async_trait]
impl World for VirtualZone {
    fn zone(&self) -> Result<Zone, String> {
        let none = || "the virtual host has no zone".to_owned();
        self.mirror.zone(ZONE).ok_or_else(none)
    }

    fn name(&self, label: &str) -> Result<DnsName, NameError> {
        DnsName::parse(&format!("_acme-challenge.{label}.{ZONE}"))
    }

    fn context(&self) -> Context {
        let deadline = later(self.clock.now(), PATIENCE);
        Context::new(self.clock.clone(), deadline)
    }

    fn forbidden(&self) -> Option<DnsName> {
        Some(self.mirror.forbidden())
    }

    async fn served(&self, name: &DnsName) -> Option<RrSet> {
        Some(self.mirror.served(name))
    }

    fn ttl(&self, wanted: u32) -> Option<u32> {
        self.mirror.ttl(wanted)
    }

    async fn add_foreign(
        &self,
        name: &DnsName,
        value: &str,
        ttl: u32,
    ) -> Result<Option<String>, String> {
        self.mirror.add(name, value, ttl).map(|()| None)
    }

    fn second(&self) -> Option<&dyn Provider> {
        Some(&self.second)
    }

    fn child(&self) -> Option<Zone> {
        self.mirror.zone(CHILD)
    }

    fn secrets(&self) -> Vec<String> {
        self.mirror.secrets()
    }

    fn mirror(&self) -> Option<&Mirror> {
        Some(&self.mirror)
    }
}
