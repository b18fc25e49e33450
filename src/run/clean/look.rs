//! Where the challenges lead, and which values stand there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use countersign_providers::clock::later;
use countersign_providers::record::{DnsName, RrSet, Zone};
use countersign_providers::{Context, ErrorKind, ProviderError, Remark};
use futures_util::stream::{self, StreamExt};

use super::{Cleaned, Selection};
use crate::dns::Walk;
use crate::engine::attempt::{LocateFault, Located};
use crate::engine::names::{CertificateName, Identifier};
use crate::engine::propagation::{Observation, Outcome};
use crate::engine::reaction::{Failure, Whose};
use crate::ledger::spoken;
use crate::run::locate::{locate, provider_fault};
use crate::run::shared::{Authority, Shared};

/// A DNS host has this long to show its values.
const LOOK: Duration = Duration::from_secs(30);
/// So many names are looked for together.
const TOGETHER: usize = 16;

/// A name that challenges lead to.
#[derive(Default)]
pub(super) struct Spot {
    pub(super) asked: BTreeSet<DnsName>,
    pub(super) certificates: BTreeSet<CertificateName>,
    /// How to ask its servers, where the host does not show it.
    walk: Option<(Arc<Authority>, Walk)>,
    /// What was seen there.
    pub(super) seen: BTreeSet<String>,
    /// What the ledger knows of, seen or not.
    pub(super) known: BTreeSet<String>,
    /// How much of it that is.
    pub(super) saw: Saw,
    /// What the host tells of the values besides.
    pub(super) remarks: Vec<Remark>,
}

/// How much of what stands somewhere was seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Saw {
    /// Nobody could look.
    #[default]
    Nothing,
    /// Not every server answered.
    Part,
    /// All of it.
    Whole,
}

/// A provider, a zone of it, and a name there.
pub(super) type At = (String, Zone, DnsName);

/// By where they are.
pub(super) type Spots = BTreeMap<At, Spot>;

/// Where the challenges lead, and all of their names.
pub(super) async fn find(
    shared: &Shared,
    selection: &Selection,
    cleaned: &mut Cleaned,
) -> (Spots, BTreeSet<DnsName>) {
    let mut names = BTreeMap::new();
    for (certificate, wanted) in &shared.certificates {
        if selection.only.is_empty() || selection.only.contains(certificate) {
            for identifier in &wanted.specification.identifiers {
                // The wildcard over a name has the same challenge name.
                names.insert(
                    (certificate.clone(), identifier.base.clone()),
                    identifier.clone(),
                );
            }
        }
    }
    let looks = names.into_iter();
    let looks = looks.map(|((certificate, _), it)| lead(shared, certificate, it));
    let mut looks = stream::iter(looks).buffer_unordered(TOGETHER);
    let mut spots = Spots::new();
    let mut all = BTreeSet::new();
    while let Some(look) = looks.next().await {
        let Some(Lead {
            certificate,
            asked,
            authority,
            found,
        }) = look
        else {
            continue;
        };
        all.insert(asked.clone());
        match found {
            Ok((located, walk)) => {
                let at = (located.provider, located.zone, located.owner);
                let spot = spots.entry(at).or_default();
                spot.asked.insert(asked);
                spot.certificates.insert(certificate);
                spot.walk = Some((authority, walk));
            }
            Err(fault) => cleaned.troubles.push((asked, fault.failure)),
        }
    }
    cleaned.troubles.sort_by(|(a, _), (b, _)| a.cmp(b));
    cleaned.troubles.dedup();
    (spots, all)
}

/// Where one challenge leads, as the certificate's first authority sees it.
struct Lead {
    certificate: CertificateName,
    asked: DnsName,
    authority: Arc<Authority>,
    found: Result<(Located, Walk), LocateFault>,
}

async fn lead(
    shared: &Shared,
    certificate: CertificateName,
    identifier: Identifier,
) -> Option<Lead> {
    let wanted = shared.certificates.get(&certificate)?;
    let authority = Arc::clone(shared.authorities.get(wanted.authorities.first()?)?);
    let asked = identifier.challenge_name().ok()?;
    let found = locate(shared, &authority, wanted, &identifier).await;
    Some(Lead {
        certificate,
        asked,
        authority,
        found,
    })
}

/// What stands there: by the hosts, or by the servers of those that cannot say.
pub(super) async fn look(shared: &Shared, spots: &mut Spots, cleaned: &mut Cleaned) {
    let mut zones: BTreeMap<(String, Zone), Vec<DnsName>> = BTreeMap::new();
    for (provider, zone, name) in spots.keys() {
        let at = (provider.clone(), zone.clone());
        zones.entry(at).or_default().push(name.clone());
    }
    let looks = zones.into_iter();
    let looks = looks.map(|((provider, zone), names)| observe(shared, provider, zone, names));
    let mut looks = stream::iter(looks).buffer_unordered(TOGETHER);
    let mut unseen = Vec::new();
    while let Some((provider, zone, seen)) = looks.next().await {
        for (name, seen) in &seen {
            let at = (provider.clone(), zone.clone(), name.clone());
            let Some(spot) = spots.get_mut(&at) else {
                continue;
            };
            match &**seen {
                Ok((sets, remarks)) => spot.note(name, sets, remarks),
                Err(error) if error.kind == ErrorKind::Unsupported => {
                    let walk = spot.walk.take();
                    unseen.extend(walk.map(|(authority, walk)| ask(at, authority, walk)));
                }
                Err(error) => {
                    let fault = provider_fault(&spoken(&provider), error);
                    spot.blame(&fault.failure, cleaned);
                }
            }
        }
    }
    let mut asks = stream::iter(unseen).buffer_unordered(TOGETHER);
    while let Some((at, observations, walk)) = asks.next().await {
        if let Some(spot) = spots.get_mut(&at) {
            let (saw, values, failure) = answers(observations, &walk);
            spot.seen.extend(values);
            spot.saw = saw;
            failure.iter().for_each(|it| spot.blame(it, cleaned));
        }
    }
}

impl Spot {
    fn note(&mut self, name: &DnsName, sets: &[RrSet], remarks: &[Remark]) {
        let sets = sets.iter().filter(|set| set.name == *name);
        self.seen.extend(sets.flat_map(|set| set.values.clone()));
        let remarks = remarks.iter().filter(|it| it.name == *name);
        self.remarks.extend(remarks.cloned());
        self.saw = Saw::Whole;
    }

    fn blame(&self, failure: &Failure, cleaned: &mut Cleaned) {
        let asked = self.asked.iter().cloned();
        (cleaned.troubles).extend(asked.map(|asked| (asked, failure.clone())));
    }
}

/// What a host showed and told.
type Seen = Result<(Vec<RrSet>, Vec<Remark>), ProviderError>;

/// The names of one zone, as many at once as the host takes.
async fn observe(
    shared: &Shared,
    provider: String,
    zone: Zone,
    names: Vec<DnsName>,
) -> (String, Zone, Vec<(DnsName, Arc<Seen>)>) {
    let Some(host) = shared.ledger.host(&provider) else {
        return (provider, zone, Vec::new());
    };
    let mut all = Vec::new();
    let mut silent: Option<Arc<Seen>> = None;
    for names in names.chunks(host.traits().batch.max(1)) {
        let seen = match &silent {
            // It has had its time.
            Some(silent) => Arc::clone(silent),
            None => {
                let context = Context::new(shared.clock.clone(), later(shared.clock.now(), LOOK));
                let look = async {
                    let sets = host.observe(&zone, names, &context).await?;
                    // It goes without them.
                    let remarks = host.remarks(&zone, names, &context).await;
                    Ok((sets, remarks.unwrap_or_default()))
                };
                match shared.clock.timeout(LOOK, look).await {
                    Some(seen) => Arc::new(seen),
                    None => {
                        let message = format!("the DNS host of {} does not answer", zone.name);
                        let error = ProviderError::new(ErrorKind::Transient, message);
                        Arc::clone(silent.insert(Arc::new(Err(error))))
                    }
                }
            }
        };
        all.extend(names.iter().map(|name| (name.clone(), Arc::clone(&seen))));
    }
    (provider, zone, all)
}

/// Asks every server.
async fn ask(at: At, authority: Arc<Authority>, walk: Walk) -> (At, Vec<Observation>, Walk) {
    let observations = authority.dns.observe(&walk, &[]).await;
    (at, observations, walk)
}

/// What any server shows is there; what one of them may have that did not answer is not known.
fn answers(
    observations: Vec<Observation>,
    walk: &Walk,
) -> (Saw, BTreeSet<String>, Option<Failure>) {
    let answered = |host: &str| {
        let mut all = observations.iter().filter(|it| it.host == host);
        all.any(|it| matches!(it.outcome, Outcome::Values(_)))
    };
    let silent = observations.iter().find_map(|it| match &it.outcome {
        Outcome::Values(_) => None,
        // Of a server that answers by another address there is nothing more to learn.
        Outcome::NoRoute(_) if answered(&it.host) => None,
        Outcome::Lame(why) | Outcome::Unreachable(why) | Outcome::NoRoute(why) => {
            Some(format!("{} ({}) says {why}", it.host, it.address))
        }
    });
    let nowhere = walk.servers.iter().find(|it| it.addresses.is_empty());
    let nowhere = nowhere.map(|it| format!("{} has no address", it.host));
    let mut values = None;
    for observation in observations {
        if let Outcome::Values(some) = observation.outcome {
            values.get_or_insert_with(BTreeSet::new).extend(some);
        }
    }
    let failure = |sentence| Some(Failure::new(Whose::DnsHost, sentence));
    let (zone, owner) = (&walk.zone, &walk.owner);
    match (values, silent.or(nowhere)) {
        (Some(values), None) => (Saw::Whole, values, None),
        (Some(values), Some(why)) => {
            let sentence =
                format!("not every server of the zone {zone} shows what stands at {owner}: {why}");
            (Saw::Part, values, failure(sentence))
        }
        (None, _) => {
            let sentence = format!("no server of the zone {zone} answers for {owner}");
            (Saw::Nothing, BTreeSet::new(), failure(sentence))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    /// What comes of these answers of two servers, by address.
    fn said(outcomes: [(&str, &str, Outcome); 2]) -> (Saw, usize, bool) {
        let name = |text| DnsName::parse(text).unwrap();
        let walk = Walk {
            asked: name("_acme-challenge.example.test"),
            owner: name("_acme-challenge.example.test"),
            chain: Vec::new(),
            zone: name("example.test"),
            servers: Vec::new(),
            by_resolvers: false,
            remembered: Duration::ZERO,
        };
        let observation = |(host, address, outcome): (&str, &str, Outcome)| Observation {
            host: host.to_owned(),
            address: address.parse::<IpAddr>().unwrap(),
            outcome,
            serial: None,
            by_resolver: false,
        };
        let (saw, values, failure) = answers(outcomes.map(observation).into(), &walk);
        (saw, values.len(), failure.is_some())
    }

    #[test]
    fn a_server_that_does_not_answer_may_have_more() {
        let values = || {
            (
                "ns1.test",
                "192.0.2.1",
                Outcome::Values(vec!["value".to_owned()]),
            )
        };
        let none = ("ns2.test", "192.0.2.2", Outcome::Values(vec![]));
        assert_eq!(said([values(), none]), (Saw::Whole, 1, false));
        let lame = ("ns2.test", "192.0.2.2", Outcome::Lame("REFUSED".to_owned()));
        assert_eq!(said([values(), lame]), (Saw::Part, 1, true));
        let no_route = |host| (host, "2001:db8::1", Outcome::NoRoute("no route".to_owned()));
        assert_eq!(
            said([values(), no_route("ns1.test")]),
            (Saw::Whole, 1, false)
        );
        assert_eq!(said([values(), no_route("ns2.test")]), (Saw::Part, 1, true));
        let silent = || {
            (
                "ns1.test",
                "192.0.2.1",
                Outcome::Unreachable("silence".to_owned()),
            )
        };
        assert_eq!(said([silent(), silent()]), (Saw::Nothing, 0, true));
    }
}
