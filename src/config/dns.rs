//! Checks of `dns`, of the authorities' own `dns`, and of `nameserver`.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};

use countersign_providers::record::DnsName;

use super::checked::{DnsSettings, Look, NameserverSettings};
use super::problems::Path;
use super::raw::{self, Entries};
use super::scalars::Checker;

/// RFC 1035 section 4.2.
const DNS_PORT: u16 = 53;
/// Ways to look at the DNS.
const LOOKS: [(&str, Look); 2] = [("roots", Look::Roots), ("resolvers", Look::Resolvers)];

impl Default for DnsSettings {
    fn default() -> Self {
        Self {
            look: Look::default(),
            roots: Vec::new(),
            port: DNS_PORT,
            resolvers: Vec::new(),
        }
    }
}

impl Checker {
    pub(super) fn dns(&mut self, at: &Path<'_>, dns: &raw::Dns) -> Option<DnsSettings> {
        self.problems.unknown_keys::<raw::Dns>(at, &dns.unknown);
        let look = self.look(&at.key("look"), dns.look.as_deref());
        let port = self.port(&at.key("port"), dns.port);
        let roots = dns.roots.as_ref().map_or(Some(Vec::new()), |it| {
            self.each(&at.key("roots"), it, "address of a server", Self::address)
        });
        if look == Some(Look::Resolvers) && dns.roots.is_some() {
            self.problems.key(
                &at.key("roots"),
                "with look: resolvers nothing starts at the roots",
                "take it out, or write look: roots",
            );
        }
        let default_port = port.unwrap_or(DNS_PORT);
        let resolvers = dns.resolvers.as_ref().map_or(Some(Vec::new()), |it| {
            self.each(
                &at.key("resolvers"),
                it,
                "address of a resolver",
                |this, here, text| this.resolver(here, text, default_port),
            )
        });
        Some(DnsSettings {
            look: look?,
            roots: roots?,
            port: port?,
            resolvers: resolvers?,
        })
    }

    pub(super) fn nameserver(
        &mut self,
        at: &Path<'_>,
        nameserver: &raw::Nameserver,
    ) -> Option<NameserverSettings> {
        self.problems
            .unknown_keys::<raw::Nameserver>(at, &nameserver.unknown);
        let required = [
            (
                "zone",
                nameserver.zone.is_some(),
                "write the delegated zone, e.g. zone: acme.example.net",
            ),
            (
                "listen",
                nameserver.listen.is_some(),
                "write where it listens, e.g. listen: [\"203.0.113.5:53\"]",
            ),
            (
                "hosts",
                nameserver.hosts.is_some(),
                "write its own name in the zone, e.g. hosts: {ns1.acme.example.net: [203.0.113.5]}",
            ),
        ];
        self.problems.required(at, &required);
        let zone = (nameserver.zone.as_ref()).and_then(|it| self.host(&at.key("zone"), it));
        let listen = (nameserver.listen.as_ref())
            .and_then(|it| self.each(&at.key("listen"), it, "address and port", Self::socket));
        let hosts = (nameserver.hosts.as_ref())
            .and_then(|it| self.hosts(&at.key("hosts"), it, zone.as_ref()));
        Some(NameserverSettings {
            zone: zone?,
            listen: listen?,
            hosts: hosts?,
        })
    }

    fn look(&mut self, at: &Path<'_>, look: Option<&str>) -> Option<Look> {
        match look {
            None => Some(Look::default()),
            Some("doh") => {
                self.problems
                    .later(at, "look: doh", "write roots or resolvers");
                None
            }
            Some(word) => self.word(at, word, &LOOKS),
        }
    }

    fn port(&mut self, at: &Path<'_>, port: Option<i64>) -> Option<u16> {
        let Some(number) = port else {
            return Some(DNS_PORT);
        };
        let port = u16::try_from(number).ok().filter(|&it| it != 0);
        if port.is_none() {
            self.problems.value(
                at,
                format!("{number} is not a port"),
                "write a number from 1 to 65535",
            );
        }
        port
    }

    fn resolver(&mut self, at: &Path<'_>, text: &str, port: u16) -> Option<SocketAddr> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Some(SocketAddr::new(address, port));
        }
        let socket = text.parse().ok().filter(|it: &SocketAddr| it.port() != 0);
        if socket.is_none() {
            self.problems.value(
                at,
                format!("`{text}` is not an IP address, with or without a port"),
                "write e.g. 10.0.0.53 or \"10.0.0.53:5353\" or \"[2001:db8::53]:53\"",
            );
        }
        socket
    }

    fn hosts(
        &mut self,
        at: &Path<'_>,
        hosts: &Entries<Vec<String>>,
        zone: Option<&DnsName>,
    ) -> Option<BTreeMap<DnsName, Vec<IpAddr>>> {
        let mut seen = HashMap::new();
        let mut checked = BTreeMap::new();
        let mut all = true;
        for (name, addresses) in &hosts.0 {
            if self.is_repeated(at, name, &mut seen) {
                continue;
            }
            let host = self.own_host(&at.key(name), name, zone);
            let addresses = addresses.as_deref().unwrap_or_default();
            let addresses = self.each(&at.key(name), addresses, "address", Self::address);
            match host.zip(addresses) {
                Some((host, addresses)) => drop(checked.insert(host, addresses)),
                None => all = false,
            }
        }
        if hosts.0.is_empty() {
            self.problems.key(
                at,
                "the nameserver has no name of its own",
                "write its name in the zone and its addresses, e.g. hosts: {ns1.acme.example.net: [203.0.113.5]}",
            );
            all = false;
        }
        all.then_some(checked)
    }

    fn own_host(&mut self, at: &Path<'_>, name: &str, zone: Option<&DnsName>) -> Option<DnsName> {
        let host = super::names::host(name)
            .map_err(|bad| self.problems.key(at, bad.message, bad.hint))
            .ok()?;
        if let Some(zone) = zone.filter(|zone| !host.is_at_or_below(zone)) {
            self.problems.key(
                at,
                format!("`{host}` is not inside the zone `{zone}`, so nobody would ask this server for its address"),
                format!("write a name below the zone, e.g. ns1.{zone}"),
            );
            return None;
        }
        Some(host)
    }

    /// A list that has something in it, each element checked.
    pub(super) fn each<T>(
        &mut self,
        at: &Path<'_>,
        texts: &[String],
        what: &str,
        check: impl Fn(&mut Self, &Path<'_>, &str) -> Option<T>,
    ) -> Option<Vec<T>> {
        if texts.is_empty() {
            self.problems.key(
                at,
                format!("this list is empty; it wants at least one {what}"),
                "",
            );
            return None;
        }
        let checked: Vec<T> = texts
            .iter()
            .enumerate()
            .filter_map(|(index, text)| check(self, &at.index(index), text))
            .collect();
        (checked.len() == texts.len()).then_some(checked)
    }
}
