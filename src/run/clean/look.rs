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
use crate::engine::propagation::Outcome;
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
    /// Whether nothing stands there but what was seen: whoever could be asked has answered.
    pub(super) is_whole: bool,
    /// What the host tells of the values besides.
    pub(super) remarks: Vec<Remark>,
}

/// A provider, a zone of it, and a name there.
type At = (String, Zone, DnsName);

/// By where they are.
pub(super) type Spots = BTreeMap<At, Spot>;

/// Where the challenges lead.
pub(super) async fn find(shared: &Shared, selection: &Selection, cleaned: &mut Cleaned) -> Spots {
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
    let mut looked = BTreeSet::new();
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
        looked.insert(asked.clone());
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
    cleaned.looked = looked.len();
    cleaned.troubles.sort_by(|(a, _), (b, _)| a.cmp(b));
    cleaned.troubles.dedup();
    spots
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
    while let Some((provider, zone, names, seen)) = looks.next().await {
        for name in names {
            let at = (provider.clone(), zone.clone(), name);
            let Some(spot) = spots.get_mut(&at) else {
                continue;
            };
            match &seen {
                Ok((sets, remarks)) => spot.note(&at.2, sets, remarks),
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
    while let Some((at, values)) = asks.next().await {
        match (spots.get_mut(&at), values) {
            (Some(spot), Ok(values)) => {
                spot.seen.extend(values);
                spot.is_whole = true;
            }
            (Some(spot), Err(failure)) => spot.blame(&failure, cleaned),
            (None, _) => {}
        }
    }
}

impl Spot {
    fn note(&mut self, name: &DnsName, sets: &[RrSet], remarks: &[Remark]) {
        let sets = sets.iter().filter(|set| set.name == *name);
        self.seen.extend(sets.flat_map(|set| set.values.clone()));
        let remarks = remarks.iter().filter(|it| it.name == *name);
        self.remarks.extend(remarks.cloned());
        self.is_whole = true;
    }

    fn blame(&self, failure: &Failure, cleaned: &mut Cleaned) {
        let asked = self.asked.iter().cloned();
        (cleaned.troubles).extend(asked.map(|asked| (asked, failure.clone())));
    }
}

/// What a host showed and told.
type Seen = Result<(Vec<RrSet>, Vec<Remark>), ProviderError>;

async fn observe(
    shared: &Shared,
    provider: String,
    zone: Zone,
    names: Vec<DnsName>,
) -> (String, Zone, Vec<DnsName>, Seen) {
    let Some(host) = shared.ledger.host(&provider) else {
        return (provider, zone, names, Ok(Default::default()));
    };
    let context = Context::new(shared.clock.clone(), later(shared.clock.now(), LOOK));
    let look = async {
        let sets = host.observe(&zone, &names, &context).await?;
        // It goes without them.
        let remarks = host.remarks(&zone, &names, &context).await;
        Ok((sets, remarks.unwrap_or_default()))
    };
    let seen = shared.clock.timeout(LOOK, look).await;
    let seen = seen.unwrap_or_else(|| {
        let message = format!("the DNS host of {} does not answer", zone.name);
        Err(ProviderError::new(ErrorKind::Transient, message))
    });
    (provider, zone, names, seen)
}

/// Asks every server; what any of them shows is there.
async fn ask(at: At, authority: Arc<Authority>, walk: Walk) -> (At, Result<Vec<String>, Failure>) {
    let mut answers = Vec::new();
    for observation in authority.dns.observe(&walk, &[]).await {
        if let Outcome::Values(values) = observation.outcome {
            answers.push(values);
        }
    }
    let sentence = || {
        format!(
            "no server of the zone {} answers for {}",
            walk.zone, walk.owner
        )
    };
    match answers.is_empty() {
        true => (at, Err(Failure::new(Whose::DnsHost, sentence()))),
        false => (at, Ok(answers.concat())),
    }
}
