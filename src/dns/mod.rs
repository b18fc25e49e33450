//! How Countersign looks at the DNS: where a TXT record must stand, which servers are authoritative for it, and what
//! each of them says.
//!
//! `walk` descends from the roots with questions that ask for no recursion, so that no cache is read and none is
//! filled, and `reading` says what a reply on the way meant; `probe` asks one server one question; `exchange` carries a question there and back; `resolver` is the
//! second-best way, for networks where the authorities cannot be reached. What the answers mean is judged by
//! [`crate::engine::propagation`], not here.

mod exchange;
mod probe;
mod reading;
mod resolver;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod walk;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use countersign_providers::clock::Clock;
use countersign_providers::record::DnsName;
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};

use crate::engine::propagation::Observation;
use exchange::Exchange;
use resolver::Resolvers;
use walk::Walker;

/// The port of every server on the way, unless configured.
pub const PORT: u16 = 53;
/// How long finding one name may take.
const LOCATE: Duration = Duration::from_secs(30);

/// The root servers, a to m, IPv4 and IPv6 (IANA root hints of 2024).
pub const ROOTS: [IpAddr; 26] = [
    v4([198, 41, 0, 4]),
    v4([170, 247, 170, 2]),
    v4([192, 33, 4, 12]),
    v4([199, 7, 91, 13]),
    v4([192, 203, 230, 10]),
    v4([192, 5, 5, 241]),
    v4([192, 112, 36, 4]),
    v4([198, 97, 190, 53]),
    v4([192, 36, 148, 17]),
    v4([192, 58, 128, 30]),
    v4([193, 0, 14, 129]),
    v4([199, 7, 83, 42]),
    v4([202, 12, 27, 33]),
    v6([0x2001, 0x503, 0xba3e, 0, 0, 0, 2, 0x30]),
    v6([0x2801, 0x1b8, 0x10, 0, 0, 0, 0, 0xb]),
    v6([0x2001, 0x500, 2, 0, 0, 0, 0, 0xc]),
    v6([0x2001, 0x500, 0x2d, 0, 0, 0, 0, 0xd]),
    v6([0x2001, 0x500, 0xa8, 0, 0, 0, 0, 0xe]),
    v6([0x2001, 0x500, 0x2f, 0, 0, 0, 0, 0xf]),
    v6([0x2001, 0x500, 0x12, 0, 0, 0, 0, 0xd0d]),
    v6([0x2001, 0x500, 1, 0, 0, 0, 0, 0x53]),
    v6([0x2001, 0x7fe, 0, 0, 0, 0, 0, 0x53]),
    v6([0x2001, 0x503, 0xc27, 0, 0, 0, 2, 0x30]),
    v6([0x2001, 0x7fd, 0, 0, 0, 0, 0, 1]),
    v6([0x2001, 0x500, 0x9f, 0, 0, 0, 0, 0x42]),
    v6([0x2001, 0xdc3, 0, 0, 0, 0, 0, 0x35]),
];

const fn v4(octets: [u8; 4]) -> IpAddr {
    let [a, b, c, d] = octets;
    IpAddr::V4(Ipv4Addr::new(a, b, c, d))
}

const fn v6(segments: [u16; 8]) -> IpAddr {
    let [a, b, c, d, e, f, g, h] = segments;
    IpAddr::V6(Ipv6Addr::new(a, b, c, d, e, f, g, h))
}

/// What is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where the look begins.
    pub look: Look,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            look: Look::Roots {
                roots: ROOTS.to_vec(),
                port: PORT,
                fallback: Vec::new(),
            },
        }
    }
}

/// Where a look begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look {
    /// At these servers, which need not serve the root: each is asked for the full name, and an authoritative answer
    /// is taken as well as a referral.
    Roots {
        /// Their addresses.
        roots: Vec<IpAddr>,
        /// The port of every server on the way.
        port: u16,
        /// Asked instead where this network lets no DNS out; whatever is found so is likely at best.
        fallback: Vec<SocketAddr>,
    },
    /// At resolvers; whatever is found is likely at best.
    Resolvers {
        /// Their addresses and ports; empty: the system's.
        addresses: Vec<SocketAddr>,
    },
}

/// Where the TXT record of a name must stand, and who is authoritative for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Walk {
    /// The name that was asked for.
    pub asked: DnsName,
    /// The name at which the record must stand: `asked`, or where its CNAMEs lead.
    pub owner: DnsName,
    /// The names that hold a CNAME on the way, `asked` first; empty where there is none.
    pub chain: Vec<DnsName>,
    /// The apex of the zone that `owner` is in.
    pub zone: DnsName,
    /// Every authoritative server, by the zone's own NS RRset and its parent's; the resolvers themselves under
    /// [`Look::Resolvers`].
    pub servers: Vec<Server>,
    /// Whether `servers` are resolvers.
    #[serde(default)]
    pub by_resolvers: bool,
    /// How long the resolvers that were asked remember that there is nothing at `owner` (RFC 2308 section 5).
    #[serde(default)]
    pub remembered: Duration,
}

/// One authoritative server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// Its name, from the NS RRset.
    pub host: String,
    /// All of its addresses; none where they could not be found.
    pub addresses: Vec<IpAddr>,
}

/// The DNS as it is looked at.
pub struct Dns {
    clock: Clock,
    roots: Option<Roots>,
    resolvers: Option<Resolvers>,
}

struct Roots {
    addresses: Vec<IpAddr>,
    exchange: Exchange,
}

impl Dns {
    /// Ready to look; sends nothing yet.
    pub fn new(settings: Settings, clock: Clock) -> Self {
        let (roots, resolvers) = match settings.look {
            Look::Roots {
                roots,
                port,
                fallback,
            } => {
                let exchange = Exchange::new(clock.clone(), port);
                let given = Some(fallback).filter(|fallback| !fallback.is_empty());
                (
                    Some(Roots {
                        addresses: roots,
                        exchange,
                    }),
                    given,
                )
            }
            Look::Resolvers { addresses } if addresses.is_empty() => {
                (None, Some(resolver::system()))
            }
            Look::Resolvers { addresses } => (None, Some(addresses)),
        };
        let resolvers = resolvers.map(|addresses| Resolvers::new(&addresses, clock.clone()));
        Self {
            clock,
            roots,
            resolvers,
        }
    }

    /// Finds where `name`'s TXT record must stand and every server that is authoritative for it; where no DNS gets out
    /// of this network, the resolvers' word for it.
    pub async fn locate(&self, name: &DnsName) -> Result<Walk, DnsError> {
        let walked = match &self.roots {
            Some(roots) => {
                self.bounded(
                    name,
                    Walker::new(&roots.exchange, &roots.addresses).locate(name),
                )
                .await
            }
            None => Err(DnsError::no_eyes()),
        };
        match (walked, &self.resolvers) {
            (
                Err(DnsError {
                    kind: DnsErrorKind::Blocked,
                    ..
                }),
                Some(resolvers),
            ) => self.bounded(name, resolvers.locate(name)).await,
            (walked, _) => walked,
        }
    }

    async fn bounded(
        &self,
        name: &DnsName,
        look: impl Future<Output = Result<Walk, DnsError>>,
    ) -> Result<Walk, DnsError> {
        let found = self.clock.timeout(LOCATE, Box::pin(look)).await;
        found.unwrap_or_else(|| Err(DnsError::too_slow(name)))
    }

    /// Asks every address of `walk`'s servers, or only those of them in `only` unless that is empty, all at once.
    pub async fn observe(&self, walk: &Walk, only: &[IpAddr]) -> Vec<Observation> {
        let wanted = |address: &IpAddr| only.is_empty() || only.contains(address);
        // Two names of one address are one server.
        let mut places: Vec<(&str, IpAddr)> = Vec::new();
        for server in &walk.servers {
            for &address in server.addresses.iter().filter(|address| wanted(address)) {
                if places.iter().all(|(_, known)| *known != address) {
                    places.push((server.host.as_str(), address));
                }
            }
        }
        let places = places.into_iter();
        match (&self.roots, &self.resolvers) {
            (_, Some(resolvers)) if walk.by_resolvers => {
                join_all(places.map(|(_, address)| resolvers.probe(address, &walk.owner))).await
            }
            (Some(roots), _) => {
                join_all(places.map(|(host, address)| {
                    probe::probe(&roots.exchange, host, address, &walk.owner, &walk.zone)
                }))
                .await
            }
            (None, _) => Vec::new(),
        }
    }
}

/// Why a name was not found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct DnsError {
    /// The class.
    pub kind: DnsErrorKind,
    /// A sentence without a full stop.
    pub message: String,
    /// What a person could do about it.
    pub hint: Option<String>,
}

/// The classes of [`DnsError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DnsErrorKind {
    /// Not one root answers as a root does: this network lets no DNS out, or somewhere else.
    Blocked,
    /// The domain is not registered.
    NoSuchDomain,
    /// CNAMEs lead in a circle, too far, or to a name that cannot be used.
    Alias,
    /// The servers that should know the zone answer, but not for it.
    Lame,
    /// The servers that should know the zone do not answer.
    Unreachable,
    /// It took too many questions or too much time.
    TooMuch,
}

/// Whose move it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// Whoever runs Countersign and owns the domain.
    You,
    /// Whoever runs the domain's name servers.
    DnsHost,
}

impl DnsErrorKind {
    /// Whose move it is.
    pub fn whose(self) -> Whose {
        match self {
            Self::Blocked | Self::NoSuchDomain | Self::Alias => Whose::You,
            Self::Lame | Self::Unreachable | Self::TooMuch => Whose::DnsHost,
        }
    }
}

impl DnsError {
    fn no_eyes() -> Self {
        Self::new(
            DnsErrorKind::Blocked,
            "no DNS server is configured to be asked".to_owned(),
        )
    }

    fn new(kind: DnsErrorKind, message: String) -> Self {
        Self {
            kind,
            message,
            hint: None,
        }
    }

    fn hint(mut self, hint: &str) -> Self {
        self.hint = Some(hint.to_owned());
        self
    }

    fn too_slow(name: &DnsName) -> Self {
        let seconds = LOCATE.as_secs();
        let message = format!("the name servers on the way to {name} took more than {seconds} s");
        Self::new(DnsErrorKind::TooMuch, message)
    }

    fn alias_loop(chain: &[DnsName], target: &DnsName) -> Self {
        let way: Vec<&str> = chain.iter().chain([target]).map(DnsName::as_str).collect();
        let message = format!("the CNAMEs lead in a circle: {}", way.join(" → "));
        Self::new(DnsErrorKind::Alias, message).hint("point the last CNAME somewhere else")
    }

    fn alias_chain(chain: &[DnsName]) -> Self {
        let first = chain.first().map_or("", DnsName::as_str);
        let message = format!(
            "more than {} CNAMEs follow each other from {first}",
            walk::MAX_ALIASES
        );
        Self::new(DnsErrorKind::Alias, message).hint("point the first CNAME at the last name")
    }

    fn alias_target(owner: &DnsName, target: &hickory_proto::rr::Name) -> Self {
        let message = format!(
            "the CNAME at {owner} points to `{}`, which is not a host name",
            target.to_ascii().escape_default()
        );
        Self::new(DnsErrorKind::Alias, message)
    }
}
