//! The built-in nameserver for delegated challenge names: authoritative for one zone, a provider like any other.
//!
//! `zone` holds the snapshot that queries are answered from, `answer` turns a query into a reply and does nothing
//! else, `socket` owns UDP and TCP and their limits, `provider` changes the zone. It is no resolver, has no
//! secondaries, signs nothing and takes no UPDATE.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use countersign_providers::record::DnsName;

/// What the built-in server is told by the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The zone it is authoritative for.
    pub zone: DnsName,
    /// Where it listens, UDP and TCP each.
    pub listen: Vec<SocketAddr>,
    /// Host names inside the zone and their addresses; these are the zone's NS RRset too.
    pub hosts: BTreeMap<DnsName, Vec<IpAddr>>,
}
