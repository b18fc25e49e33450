//! Where the challenges lead, and which values stand there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use countersign_providers::clock::later;
use countersign_providers::record::{DnsName, RrSet, Zone};
use countersign_providers::{Context, ErrorKind, ProviderError, Remark};
use futures_util::future::join_all;
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
    pub(super) seen: BTreeSet<String>,
    /// What the host tells of the values besides.
    pub(super) remarks: Vec<Remark>,
}

/// By provider, zone and name.
pub(super) type Spots = BTreeMap<(String, Zone, DnsName), Spot>;

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
    let looks: Vec<_> = looks.collect();
    for Seen {
        provider,
        zone,
        names,
        seen,
        remarks,
    } in join_all(looks).await
    {
        for name in names {
            let at = (provider.clone(), zone.clone(), name.clone());
            let Some(spot) = spots.get_mut(&at) else {
                continue;
            };
            let of_name = remarks.iter().filter(|it| it.name == name);
            spot.remarks.extend(of_name.cloned());
            let failure = match &seen {
                Ok(sets) => {
                    let sets = sets.iter().filter(|set| set.name == name);
                    spot.seen.extend(sets.flat_map(|set| set.values.clone()));
                    continue;
                }
                Err(error) if error.kind == ErrorKind::Unsupported => match spot.ask().await {
                    Ok(()) => continue,
                    Err(failure) => failure,
                },
                Err(error) => provider_fault(&spoken(&provider), error).failure,
            };
            let asked = spot.asked.iter().cloned();
            (cleaned.troubles).extend(asked.map(|asked| (asked, failure.clone())));
        }
    }
}

/// What one host showed.
struct Seen {
    provider: String,
    zone: Zone,
    names: Vec<DnsName>,
    seen: Result<Vec<RrSet>, ProviderError>,
    remarks: Vec<Remark>,
}

async fn observe(shared: &Shared, provider: String, zone: Zone, names: Vec<DnsName>) -> Seen {
    let (mut seen, mut remarks) = (Ok(Vec::new()), Vec::new());
    if let Some(host) = shared.ledger.host(&provider) {
        let context = Context::new(shared.clock.clone(), later(shared.clock.now(), LOOK));
        let look = async {
            let seen = host.observe(&zone, &names, &context).await?;
            // It goes without them.
            let remarks = host.remarks(&zone, &names, &context).await;
            Ok((seen, remarks.unwrap_or_default()))
        };
        seen = match shared.clock.timeout(LOOK, look).await {
            Some(looked) => looked.map(|(sets, told)| {
                remarks = told;
                sets
            }),
            None => {
                let message = format!("the DNS host of {} does not answer", zone.name);
                Err(ProviderError::new(ErrorKind::Transient, message))
            }
        };
    }
    Seen {
        provider,
        zone,
        names,
        seen,
        remarks,
    }
}

impl Spot {
    /// Asks every server; what any of them shows is there.
    async fn ask(&mut self) -> Result<(), Failure> {
        let Some((authority, walk)) = &self.walk else {
            return Ok(());
        };
        let mut has_answer = false;
        for observation in authority.dns.observe(walk, &[]).await {
            if let Outcome::Values(values) = observation.outcome {
                has_answer = true;
                self.seen.extend(values);
            }
        }
        let sentence = || {
            format!(
                "no server of the zone {} answers for {}",
                walk.zone, walk.owner
            )
        };
        match has_answer {
            true => Ok(()),
            false => Err(Failure::new(Whose::DnsHost, sentence())),
        }
    }
}
