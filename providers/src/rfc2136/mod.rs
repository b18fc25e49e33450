//! DNS UPDATE (RFC 2136) signed with TSIG (RFC 8945): BIND, Knot DNS, PowerDNS and whatever else speaks it.
//!
//! One value is added to or taken out of an RRset; an RRset is never replaced. The update server itself is asked for
//! everything: for the zone, for what is there before a change, and again after it. Nothing is remembered.

mod change;
mod error;
mod exchange;
#[cfg(test)]
mod hostile;
mod message;
mod tsig;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;

use crate::clock::Clock;
use crate::record::{Change, DnsName, RrSet, Zone};
use crate::secret::SecretSource;
use crate::{Context, Held, Provider, ProviderError, Receipt, RecordModel, Traits};

use change::Editor;
use error::Blame;
use exchange::Session;
use message::{Reply, joined, question, wire_name};
use tsig::{Key, Signature};

/// The port of DNS.
const PORT: u16 = 53;
/// As many changes fit into one signed message of about 32 KiB, with their prerequisites.
const BATCH: usize = 128;
/// A secondary that is told by NOTIFY has a change within seconds; this leaves room for one lost message.
const PROPAGATION: Duration = Duration::from_secs(60);

/// How to reach one update server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `host`, `host:port`, `address`, `address:port` or `[address]:port`; port 53 when none is given.
    pub server: String,
    /// The key; without one the server must allow the address.
    pub tsig: Option<Tsig>,
    /// The zone, where asking the server for it is not wanted.
    pub zone: Option<DnsName>,
}

impl Settings {
    /// Whether the key is one. An error is a sentence.
    pub async fn judge(&self, clock: &Clock) -> Result<(), String> {
        match &self.tsig {
            None => Ok(()),
            Some(tsig) => tsig.key(clock).await.map(drop),
        }
    }
}

/// A TSIG key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tsig {
    /// A file as `tsig-keygen` or `keymgr -t` write it.
    KeyFile(PathBuf),
    /// Its parts.
    Parts {
        /// The key's name.
        name: DnsName,
        /// How it signs.
        algorithm: Algorithm,
        /// Base64.
        secret: SecretSource,
    },
}

impl Tsig {
    /// The key's name, read where it is kept. An error is a sentence.
    pub async fn name(&self, clock: &Clock) -> Result<DnsName, String> {
        match self {
            Self::Parts { name, .. } => Ok(name.clone()),
            Self::KeyFile(_) => self.key(clock).await.map(|key| key.name),
        }
    }

    async fn key(&self, clock: &Clock) -> Result<Key, String> {
        let key = Key::read(self, clock).await;
        key.map_err(|error| error.to_string())
    }
}

/// The signing algorithms that are supported (RFC 8945 section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// `hmac-sha256`
    HmacSha256,
    /// `hmac-sha384`
    HmacSha384,
    /// `hmac-sha512`
    HmacSha512,
}

impl Algorithm {
    /// The algorithm of this name, in any case.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::HmacSha256, Self::HmacSha384, Self::HmacSha512]
            .into_iter()
            .find(|algorithm| algorithm.as_str().eq_ignore_ascii_case(text))
    }

    /// The name of RFC 8945.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::HmacSha256 => "hmac-sha256",
            Self::HmacSha384 => "hmac-sha384",
            Self::HmacSha512 => "hmac-sha512",
        }
    }
}

/// What [`Settings::server`] means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// An address and a port.
    Address(SocketAddr),
    /// A name, which the system resolves at each use, and a port.
    Host(String, u16),
}

impl Endpoint {
    /// Reads `host`, `host:port`, `address`, `address:port` or `[address]:port`; an error is a sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(Self::Address(address));
        }
        let bare = text
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .unwrap_or(text);
        if let Ok(address) = bare.parse::<IpAddr>() {
            return Ok(Self::Address((address, PORT).into()));
        }
        let (host, port) = match text.rsplit_once(':') {
            None => (text, PORT),
            Some((host, port)) => {
                let port = port
                    .parse()
                    .map_err(|_| format!("`{text}` has the port `{port}`, wanted is a number"))?;
                (host, port)
            }
        };
        match DnsName::parse(host) {
            Ok(_) if port != 0 => Ok(Self::Host(host.to_owned(), port)),
            Ok(_) => Err(format!("`{text}` has the port 0, wanted is one from 1")),
            Err(error) => Err(format!(
                "`{text}` is not a server, wanted is a name or an address, with or without a port: {error}"
            )),
        }
    }
}

/// The plug-in: one update server with one key.
pub struct Rfc2136 {
    settings: Settings,
}

impl Rfc2136 {
    /// Takes the settings; nothing is read or asked before the first verb.
    pub fn new(settings: Settings) -> Self {
        Self { settings }
    }

    async fn key(&self, context: &Context) -> Result<Option<Key>, ProviderError> {
        match &self.settings.tsig {
            None => Ok(None),
            Some(tsig) => Key::read(tsig, &context.clock)
                .await
                .map(Some)
                .map_err(|fault| error::unreadable_key(&fault)),
        }
    }
}

#[async_trait]
impl Provider for Rfc2136 {
    fn traits(&self) -> Traits {
        Traits {
            model: RecordModel::Value,
            batch: BATCH,
            rate: None,
            propagation: PROPAGATION,
        }
    }

    async fn zones(&self, name: &DnsName, context: &Context) -> Result<Vec<Held>, ProviderError> {
        let apex = match &self.settings.zone {
            Some(zone) => name.is_at_or_below(zone).then(|| zone.clone()),
            None => {
                let key = self.key(context).await?;
                let session = Session::open(&self.settings.server, key.as_ref(), context).await?;
                find_zone(session, &self.settings.server, key.as_ref(), name).await?
            }
        };
        let zone = apex.map(|name| Zone {
            id: name.to_string(),
            name,
        });
        Ok(zone.into_iter().map(Held::from).collect())
    }

    /// Those of the zone's own NS RRset: a server that has a zone for itself alone, or one that moved away, names others
    /// than the delegation does.
    async fn nameservers(
        &self,
        zone: &Zone,
        context: &Context,
    ) -> Result<Vec<DnsName>, ProviderError> {
        let (server, key) = (&self.settings.server, self.key(context).await?);
        let mut session = Session::open(server, key.as_ref(), context).await?;
        let apex = wire_name(&zone.name).map_err(|_| error::name_too_long(&zone.name))?;
        let asked = vec![question(apex.clone(), RecordType::NS)];
        let mut named = Vec::new();
        for reply in session.ask(asked).await? {
            let blame = Blame::of_question(server, key.as_ref(), &zone.name);
            blame.unless_answer(&reply)?;
            blame.unless_trusted(&reply)?;
            named.extend(reply.nameservers(&apex));
        }
        Ok(named)
    }

    async fn observe(
        &self,
        zone: &Zone,
        names: &[DnsName],
        context: &Context,
    ) -> Result<Vec<RrSet>, ProviderError> {
        let key = self.key(context).await?;
        let session = Session::open(&self.settings.server, key.as_ref(), context).await?;
        let mut editor = Editor::new(session, &self.settings.server, key.as_ref(), zone)?;
        let nodes = editor.read(names).await?;
        let sets = names.iter().zip(nodes).map(|(name, node)| RrSet {
            name: name.clone(),
            ttl: node.ttl,
            values: node
                .txt
                .iter()
                .map(|txt| String::from_utf8_lossy(&joined(txt)).into_owned())
                .collect(),
        });
        Ok(sets.collect())
    }

    async fn apply(
        &self,
        zone: &Zone,
        changes: &[Change],
        _: &[RrSet],
        context: &Context,
    ) -> Result<Receipt, ProviderError> {
        let key = self.key(context).await?;
        let session = Session::open(&self.settings.server, key.as_ref(), context).await?;
        Editor::new(session, &self.settings.server, key.as_ref(), zone)?
            .apply(changes)
            .await?;
        Ok(Receipt::default())
    }
}

/// Asks for the SOA of `name` and of every parent; the longest that has one here is the zone.
async fn find_zone(
    mut session: Session<'_>,
    server: &str,
    key: Option<&Key>,
    name: &DnsName,
) -> Result<Option<DnsName>, ProviderError> {
    let candidates: Vec<DnsName> = name.and_above().collect();
    let mut wire = Vec::with_capacity(candidates.len());
    for candidate in &candidates {
        wire.push(wire_name(candidate).map_err(|_| error::name_too_long(candidate))?);
    }
    let questions = wire
        .iter()
        .map(|name| question(name.clone(), RecordType::SOA))
        .collect();
    let replies = session.ask(questions).await?;
    for ((candidate, wire), reply) in candidates.into_iter().zip(wire).zip(replies) {
        let blame = Blame::of_question(server, key, &candidate);
        if holds_nothing_here(&reply) {
            continue;
        }
        if !reply.is_apex(&wire) {
            blame.unless_answer(&reply)?;
            continue;
        }
        blame.unless_trusted(&reply)?;
        return Ok(Some(candidate));
    }
    Ok(None)
}

/// Whether the reply is how servers say that a name is in none of their zones.
fn holds_nothing_here(reply: &Reply) -> bool {
    reply.code() == ResponseCode::Refused && !matches!(reply.signature, Signature::Fault { .. })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_way_to_write_a_server() {
        let address = |text: &str| Ok(Endpoint::Address(text.parse().unwrap()));
        assert_eq!(Endpoint::parse("192.0.2.1"), address("192.0.2.1:53"));
        assert_eq!(Endpoint::parse("192.0.2.1:5353"), address("192.0.2.1:5353"));
        assert_eq!(Endpoint::parse("2001:db8::1"), address("[2001:db8::1]:53"));
        assert_eq!(
            Endpoint::parse("[2001:db8::1]"),
            address("[2001:db8::1]:53")
        );
        assert_eq!(
            Endpoint::parse("[2001:db8::1]:5"),
            address("[2001:db8::1]:5")
        );
        let host = |name: &str, port| Ok(Endpoint::Host(name.to_owned(), port));
        assert_eq!(Endpoint::parse("ns.example"), host("ns.example", 53));
        assert_eq!(Endpoint::parse("ns.example:5353"), host("ns.example", 5353));
    }

    #[test]
    fn names_the_server_that_cannot_be_one() {
        for text in ["", "ns.example:dns", "ns.example:0", "a b", "http://ns"] {
            let error = Endpoint::parse(text).unwrap_err();
            assert!(error.contains(&format!("`{text}`")), "{error}");
        }
    }
}
