//! What a plug-in is tried on, seen from outside the plug-in.

use async_trait::async_trait;

use crate::manifest::mirror::Mirror;
use crate::record::{DnsName, NameError, RrSet, Zone};
use crate::{Context, Provider};

use super::program::Program;

/// What a plug-in is tried on.
#[async_trait]
pub trait World: Send + Sync {
    /// The zone that may be written to; why there is none, in words.
    fn zone(&self) -> Result<Zone, String>;

    /// A name in the zone that nothing else uses; another one for each `label`, which may have dots in it.
    fn name(&self, label: &str) -> Result<DnsName, NameError>;

    /// Time, and a deadline that is far enough away.
    fn context(&self) -> Context;

    /// A name in the zone that the credential may not change, where one is known.
    fn forbidden(&self) -> Option<DnsName> {
        None
    }

    /// The TXT RRset that the world gets from the host, where it can be seen without the plug-in.
    async fn served(&self, name: &DnsName) -> Option<RrSet> {
        let _ = name;
        None
    }

    /// What the host makes of a TTL that it is given, where that is known.
    fn ttl(&self, wanted: u32) -> Option<u32> {
        let _ = wanted;
        None
    }

    /// Puts a value there as somebody else would. The whole RRset may get this TTL. What the plug-in calls the value,
    /// where it was put there through one; an error is a sentence.
    async fn add_foreign(
        &self,
        name: &DnsName,
        value: &str,
        ttl: u32,
    ) -> Result<Option<String>, String>;

    /// What all names have in them that cases write at on a zone of others.
    fn mark(&self) -> Option<&str> {
        None
    }

    /// Whether the host knows this one name, and nothing below it.
    fn is_one_name(&self) -> bool {
        false
    }

    /// The same plug-in once more, that knows nothing of the first.
    fn second(&self) -> Option<&dyn Provider> {
        None
    }

    /// A zone of the same credential below [`World::zone`].
    fn child(&self) -> Option<Zone> {
        None
    }

    /// What no message may show.
    fn secrets(&self) -> Vec<String> {
        Vec::new()
    }

    /// The host, where the kit itself serves it.
    fn mirror(&self) -> Option<&Mirror> {
        None
    }

    /// The program, where the plug-in is one that speaks the protocol.
    fn program(&self) -> Option<&Program> {
        None
    }
}
