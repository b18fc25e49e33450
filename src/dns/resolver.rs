//! `look: resolvers`: the same questions put to recursive resolvers, for networks that let nothing else out.
//!
//! A resolver answers from its cache, and for one site of many; what it says is marked, so that the verdict is
//! `likely` at best. Asking one too early also makes it remember that there is nothing, for as long as the zone's SOA
//! says; that is the price of this way.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use countersign_providers::clock::Clock;
use countersign_providers::record::DnsName;
use hickory_net::runtime::TokioRuntimeProvider;
use hickory_net::{DnsError as Answered, NetError, NoRecords};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use tracing::trace;

use super::exchange::Values;
use super::probe::{code, text};
use super::walk::{MAX_ALIASES, wire};
use super::{DnsError, DnsErrorKind, Server, Walk};
use crate::engine::propagation::{Observation, Outcome};

/// How long one question to one resolver may take, and how often it is sent.
const TIMEOUT: Duration = Duration::from_secs(2);
const ATTEMPTS: usize = 2;
/// A bound over all of that.
const PATIENCE: Duration = Duration::from_secs(8);
/// Resolvers cap what they remember of nothing; the usual bound is an hour (RFC 2308 section 5 allows three).
const LONGEST_MEMORY: Duration = Duration::from_secs(3600);
/// What stands for the server's name in sentences.
const HOST: &str = "resolver";

/// The resolvers that this machine uses; none when it says of none.
pub(super) fn system() -> Vec<SocketAddr> {
    let Ok((config, _)) = hickory_resolver::system_conf::read_system_conf() else {
        return Vec::new();
    };
    config
        .name_servers()
        .iter()
        .map(|server| SocketAddr::new(server.ip, super::PORT))
        .collect()
}

/// The configured resolvers, each asked on its own.
pub(super) struct Resolvers {
    clock: Clock,
    each: Vec<(SocketAddr, Result<TokioResolver, String>)>,
}

/// What a resolver said.
enum Said {
    Records(Vec<Record>),
    /// No such records; the apex over the name, where it said, and for how long it remembers that.
    Nothing(Option<Name>, Duration),
}

/// Whether a name is another name for something.
enum Alias {
    To(Name),
    /// It is not; for how long the resolver remembers that there was nothing.
    None(Duration),
}

impl Resolvers {
    pub(super) fn new(addresses: &[SocketAddr], clock: Clock) -> Self {
        let each = addresses
            .iter()
            .map(|&address| (address, build(address)))
            .collect();
        Self { clock, each }
    }

    pub(super) async fn locate(&self, name: &DnsName) -> Result<Walk, DnsError> {
        let mut chain: Vec<DnsName> = Vec::new();
        let mut owner = name.clone();
        let remembered = loop {
            let target = match self.alias(&owner).await? {
                Alias::To(target) => target,
                Alias::None(remembered) => break remembered,
            };
            let target = DnsName::parse(&target.to_ascii())
                .map_err(|_| DnsError::alias_target(&owner, &target))?;
            chain.push(owner);
            if chain.contains(&target) {
                return Err(DnsError::alias_loop(&chain, &target));
            }
            if chain.len() > MAX_ALIASES {
                return Err(DnsError::alias_chain(&chain));
            }
            owner = target;
        };
        let zone = self.zone(&owner).await?;
        let server = |(address, _): &(SocketAddr, _)| Server {
            host: HOST.to_owned(),
            addresses: vec![address.ip()],
        };
        Ok(Walk {
            asked: name.clone(),
            owner,
            chain,
            zone,
            servers: self.each.iter().map(server).collect(),
            by_resolvers: true,
            remembered: remembered.min(LONGEST_MEMORY),
        })
    }

    /// What the resolver at `address` has for `owner`.
    pub(super) async fn probe(&self, address: IpAddr, owner: &DnsName) -> Observation {
        let resolver = self.each.iter().find(|(at, _)| at.ip() == address);
        let outcome = match resolver {
            Some((at, resolver)) => match self.ask(*at, resolver, owner, RecordType::TXT).await {
                Ok(Said::Records(records)) => {
                    let texts = records.iter().filter_map(|record| text(&record.data));
                    Outcome::Values(texts.collect())
                }
                Ok(Said::Nothing(..)) => Outcome::Values(Vec::new()),
                Err(why) => Outcome::Unreachable(why),
            },
            None => Outcome::Unreachable("it is not configured any more".to_owned()),
        };
        Observation {
            host: HOST.to_owned(),
            address,
            outcome,
            serial: None,
            by_resolver: true,
        }
    }

    async fn alias(&self, owner: &DnsName) -> Result<Alias, DnsError> {
        Ok(match self.ask_any(owner, RecordType::CNAME).await? {
            Said::Nothing(_, remembered) => Alias::None(remembered),
            Said::Records(records) => {
                let target = records.into_iter().find_map(|record| match record.data {
                    RData::CNAME(target) => Some(target.0),
                    _ => None,
                });
                target.map_or(Alias::None(Duration::ZERO), Alias::To)
            }
        })
    }

    async fn zone(&self, owner: &DnsName) -> Result<DnsName, DnsError> {
        let mut candidate = Some(owner.clone());
        while let Some(name) = candidate {
            let apex = match self.ask_any(&name, RecordType::SOA).await? {
                Said::Nothing(apex, _) => apex,
                Said::Records(records) => records
                    .into_iter()
                    .find(|record| record.record_type() == RecordType::SOA)
                    .map(|record| record.name),
            };
            let apex = apex.and_then(|apex| DnsName::parse(&apex.to_ascii()).ok());
            if let Some(apex) = apex.filter(|apex| owner.is_at_or_below(apex)) {
                return Ok(apex);
            }
            candidate = name.parent();
        }
        let message = format!("the resolvers know no zone that {owner} is in");
        Err(DnsError::new(DnsErrorKind::Lame, message))
    }

    /// The first resolver's word that can be had.
    async fn ask_any(&self, name: &DnsName, kind: RecordType) -> Result<Said, DnsError> {
        let mut failures = Vec::new();
        for (address, resolver) in &self.each {
            match self.ask(*address, resolver, name, kind).await {
                Ok(said) => return Ok(said),
                Err(why) => failures.push(format!("{address}: {why}")),
            }
        }
        let message = format!("no resolver answers for {name} ({})", failures.join("; "));
        Err(DnsError::new(DnsErrorKind::Unreachable, message)
            .hint("look at `resolvers` under `dns` in the configuration"))
    }

    async fn ask(
        &self,
        address: SocketAddr,
        resolver: &Result<TokioResolver, String>,
        name: &DnsName,
        kind: RecordType,
    ) -> Result<Said, String> {
        let resolver = resolver.as_ref().map_err(Clone::clone)?;
        let wire = wire(name).map_err(|error| error.to_string())?;
        let asked = self
            .clock
            .timeout(PATIENCE, resolver.lookup(wire, kind))
            .await;
        let said = match asked {
            Some(Ok(lookup)) => Ok(Said::Records(lookup.answers().to_vec())),
            Some(Err(NetError::Dns(Answered::NoRecordsFound(nothing)))) => read_nothing(nothing),
            Some(Err(error)) => Err(error.to_string()),
            None => Err(format!("no answer within {} s", PATIENCE.as_secs())),
        };
        match &said {
            Ok(Said::Records(records)) => {
                trace!(%address, %name, %kind, values = %Values(records), "a resolver answered");
            }
            Ok(Said::Nothing(..)) => trace!(%address, %name, %kind, "a resolver knows of nothing"),
            Err(why) => trace!(%address, %name, %kind, why, "a resolver did not answer"),
        }
        said
    }
}

fn read_nothing(nothing: NoRecords) -> Result<Said, String> {
    use hickory_proto::op::ResponseCode::{NXDomain, NoError};
    match nothing.response_code {
        NoError | NXDomain => {
            let seconds = nothing.negative_ttl.unwrap_or_default();
            Ok(Said::Nothing(
                nothing.soa.map(|soa| soa.name.clone()),
                Duration::from_secs(seconds.into()),
            ))
        }
        other => Err(code(other)),
    }
}

fn build(address: SocketAddr) -> Result<TokioResolver, String> {
    let connection = |mut connection: ConnectionConfig| {
        connection.port = address.port();
        connection
    };
    let mut server = NameServerConfig::udp_and_tcp(address.ip());
    server.connections = server.connections.into_iter().map(connection).collect();
    let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
    let mut options = ResolverOpts::default();
    options.cache_size = 0;
    options.ndots = 0;
    options.timeout = TIMEOUT;
    options.attempts = ATTEMPTS;
    options.use_hosts_file = ResolveHosts::Never;
    TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        .with_options(options)
        .build()
        .map_err(|error| error.to_string())
}
