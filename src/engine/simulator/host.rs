//! The virtual DNS host and its authoritative servers, and the directories that certificates are delivered to.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use countersign_providers::clock::{earlier, later};
use countersign_providers::error::{ErrorKind, ProviderError};
use countersign_providers::record::{Change, DnsName, Verb, Zone};
use jiff::Timestamp;

use super::super::names::Identifier;
use super::super::propagation::{Observation, Outcome};
use super::Rng;

/// What a host does with one batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HostFault {
    /// Nothing is changed and nobody knows.
    Lost,
    /// Everything is changed and nobody knows.
    Landed,
    /// A part is changed and nobody knows.
    Partly,
    /// It will be changed so much later, and nobody knows.
    Late(Duration),
    /// It says no.
    Refused(ErrorKind),
}

/// The host of every zone, with the history of every value.
pub(super) struct Host {
    pub(super) servers: Vec<Server>,
    /// In the order of time; the last word on a value is the newest.
    log: Vec<Entry>,
    /// Changes that have yet to land.
    landing: Vec<Entry>,
    /// Names whose changes are refused, until then.
    pub(super) forbidden: Vec<(DnsName, Timestamp)>,
    /// Values of somebody else.
    pub(super) foreign: Vec<(DnsName, String)>,
    /// Values that were removed by somebody else, or by a request of ours that landed late.
    pub(super) tampered: BTreeSet<(DnsName, String)>,
    /// Zones whose challenge names lead to another zone by CNAME.
    pub(super) delegated: BTreeSet<DnsName>,
}

#[derive(Clone, Debug)]
struct Entry {
    at: Timestamp,
    name: DnsName,
    value: String,
    present: bool,
}

/// An authoritative server of every zone.
pub(super) struct Server {
    /// How far it is behind.
    pub(super) lag: Duration,
    /// When it does not answer.
    pub(super) down: Option<(Timestamp, Timestamp)>,
    /// When it takes no changes.
    pub(super) stuck: Option<(Timestamp, Timestamp)>,
}

impl Server {
    pub(super) fn is_down(&self, at: Timestamp) -> bool {
        self.down
            .is_some_and(|(from, until)| from <= at && at < until)
    }

    /// Which instant of the host it shows at `at`.
    fn view(&self, at: Timestamp) -> Timestamp {
        match self.stuck {
            Some((from, until)) if from <= at && at < until => earlier(from, self.lag),
            _ => earlier(at, self.lag),
        }
    }
}

impl Host {
    pub(super) fn new(servers: Vec<Server>) -> Self {
        Self {
            servers,
            log: Vec::new(),
            landing: Vec::new(),
            forbidden: Vec::new(),
            foreign: Vec::new(),
            tampered: BTreeSet::new(),
            delegated: BTreeSet::new(),
        }
    }

    /// Where the challenge name of `identifier` leads.
    pub(super) fn place(&self, identifier: &Identifier) -> (Zone, DnsName) {
        let base = identifier.base.as_str();
        let apex = base
            .rsplitn(3, '.')
            .take(2)
            .collect::<Vec<_>>()
            .into_iter()
            .rev()
            .collect::<Vec<_>>()
            .join(".");
        let apex = DnsName::parse(&apex).unwrap();
        let zone = |name: DnsName| Zone {
            id: name.as_str().to_owned(),
            name,
        };
        if self.delegated.contains(&apex) {
            let name = DnsName::parse(&format!("{}.proofs.test", base.replace('.', "-"))).unwrap();
            return (zone(DnsName::parse("proofs.test").unwrap()), name);
        }
        (zone(apex), identifier.challenge_name().unwrap())
    }

    /// Performs a batch, or does what `fault` says.
    pub(super) fn apply(
        &mut self,
        now: Timestamp,
        changes: &[Change],
        fault: Option<HostFault>,
        whole_rrset: bool,
    ) -> Result<(), ProviderError> {
        self.settle(now);
        if changes.iter().any(|change| self.forbids(now, &change.name)) {
            return Err(error(ErrorKind::Permission));
        }
        let landed = match fault {
            None | Some(HostFault::Landed) => changes.len(),
            Some(HostFault::Partly) => changes.len() / 2,
            Some(_) => 0,
        };
        for change in &changes[..landed] {
            self.change(now, change, whole_rrset);
        }
        match fault {
            None => Ok(()),
            Some(HostFault::Refused(kind)) => Err(error(kind)),
            Some(HostFault::Late(delay)) => {
                for change in changes {
                    if change.verb == Verb::Absent {
                        self.tampered
                            .insert((change.name.clone(), change.value.clone()));
                    }
                    self.land(later(now, delay), change);
                }
                Err(error(ErrorKind::Transient))
            }
            Some(_) => Err(error(ErrorKind::Transient)),
        }
    }

    /// Whether changes at `name` are refused.
    pub(super) fn forbids(&self, now: Timestamp, name: &DnsName) -> bool {
        let mut all = self.forbidden.iter();
        all.any(|(other, until)| other == name && now < *until)
    }

    /// Puts a value of somebody else.
    pub(super) fn plant(&mut self, at: Timestamp, name: DnsName, value: String) {
        self.log.push(Entry {
            at,
            name: name.clone(),
            value: value.clone(),
            present: true,
        });
        self.foreign.push((name, value));
    }

    /// Somebody else removes a value of ours at `at`.
    pub(super) fn tamper(&mut self, at: Timestamp, name: &DnsName, value: &str) {
        self.tampered.insert((name.clone(), value.to_owned()));
        self.landing.push(Entry {
            at,
            name: name.clone(),
            value: value.to_owned(),
            present: false,
        });
    }

    /// The values at `name` as the host holds them.
    pub(super) fn values(&mut self, now: Timestamp, name: &DnsName) -> Vec<String> {
        self.settle(now);
        self.values_at(now, name)
    }

    /// Everything that is there.
    pub(super) fn everything(&mut self, now: Timestamp) -> BTreeSet<(DnsName, String)> {
        self.settle(now);
        let mut all = BTreeSet::new();
        for entry in &self.log {
            let key = (entry.name.clone(), entry.value.clone());
            match entry.present {
                true => all.insert(key),
                false => all.remove(&key),
            };
        }
        all
    }

    /// Whether every server that answers at `at` shows the value, and one does.
    pub(super) fn is_served(&mut self, at: Timestamp, name: &DnsName, value: &str) -> bool {
        self.settle(at);
        let mut up = self
            .servers
            .iter()
            .filter(|server| !server.is_down(at))
            .peekable();
        up.peek().is_some() && up.all(|server| self.has(server.view(at), name, value))
    }

    /// What one server says.
    pub(super) fn observe(&mut self, now: Timestamp, number: usize, name: &DnsName) -> Outcome {
        self.settle(now);
        let server = &self.servers[number];
        if server.is_down(now) {
            return match number % 2 {
                0 => Outcome::Unreachable("no answer within 3 s".to_owned()),
                _ => Outcome::Lame("REFUSED".to_owned()),
            };
        }
        Outcome::Values(self.values_at(server.view(now), name))
    }

    fn values_at(&self, at: Timestamp, name: &DnsName) -> Vec<String> {
        let mut values = Vec::new();
        for entry in self
            .log
            .iter()
            .filter(|entry| entry.at <= at && entry.name == *name)
        {
            values.retain(|value| *value != entry.value);
            if entry.present {
                values.push(entry.value.clone());
            }
        }
        values
    }

    fn has(&self, at: Timestamp, name: &DnsName, value: &str) -> bool {
        let about = |entry: &&Entry| entry.at <= at && entry.value == value && entry.name == *name;
        self.log
            .iter()
            .rfind(about)
            .is_some_and(|entry| entry.present)
    }

    fn change(&mut self, at: Timestamp, change: &Change, whole_rrset: bool) {
        let present = change.verb == Verb::Ensure;
        if !present && whole_rrset {
            for value in self.values_at(at, &change.name) {
                self.log.push(Entry {
                    at,
                    name: change.name.clone(),
                    value,
                    present,
                });
            }
            return;
        }
        self.log.push(Entry {
            at,
            name: change.name.clone(),
            value: change.value.clone(),
            present,
        });
    }

    fn land(&mut self, at: Timestamp, change: &Change) {
        self.landing.push(Entry {
            at,
            name: change.name.clone(),
            value: change.value.clone(),
            present: change.verb == Verb::Ensure,
        });
    }

    /// Lets land what was to land by `now`.
    fn settle(&mut self, now: Timestamp) {
        if self.landing.iter().all(|entry| entry.at > now) {
            return;
        }
        self.landing.sort_by_key(|entry| entry.at);
        let split = self.landing.partition_point(|entry| entry.at <= now);
        self.log.extend(self.landing.drain(..split));
        self.log.sort_by_key(|entry| entry.at);
    }
}

/// Where a certificate is delivered to.
#[derive(Default)]
pub(super) struct Directory {
    /// The generation in it.
    pub(super) installed: Option<u64>,
    /// The generation that whoever uses it has read.
    pub(super) serving: Option<u64>,
}

pub(super) fn address(number: usize) -> IpAddr {
    IpAddr::from([192, 0, 2, u8::try_from(number).unwrap()])
}

pub(super) fn number(address: IpAddr) -> usize {
    match address {
        IpAddr::V4(v4) => usize::from(v4.octets()[3]),
        IpAddr::V6(_) => unreachable!("every server of the simulator has an IPv4 address"),
    }
}

pub(super) fn observation(number: usize, outcome: Outcome, by_resolver: bool) -> Observation {
    Observation {
        host: format!("ns{number}.test"),
        address: address(number),
        outcome,
        serial: None,
        by_resolver,
    }
}

pub(super) fn error(kind: ErrorKind) -> ProviderError {
    ProviderError {
        partly: false,
        theirs: false,
        kind,
        code: None,
        message: format!("the host said {kind:?}"),
        hint: None,
    }
}

/// A fault of the host, drawn.
pub(super) fn draw_fault(rng: &mut Rng) -> HostFault {
    match rng.below(8) {
        0 => HostFault::Lost,
        1 => HostFault::Landed,
        2 => HostFault::Partly,
        3 | 4 => HostFault::Late(rng.millis(100, 300_000)),
        5 => HostFault::Refused(ErrorKind::RateLimited {
            after: Some(rng.millis(1_000, 20_000)),
        }),
        6 => HostFault::Refused(ErrorKind::Conflict),
        _ => HostFault::Refused(ErrorKind::Auth),
    }
}
