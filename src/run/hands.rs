//! The effects of one attempt, performed: each asks an authority, a DNS host, a nameserver or the store, and gives the
//! event to be applied.

use std::sync::Arc;

use countersign_providers::ErrorKind;
use countersign_providers::secret::Secret;
use ring::rand::{SecureRandom, SystemRandom};

use super::accounts::{self, Ready, internal, store_failure};
use super::shared::{Authority, Shared, Wanted};
use super::{locate, records};
use crate::acme::{Signer, chain, csr};
use crate::dns::Walk;
use crate::engine::attempt::{Effect, Event, Placed, Request, TTL};
use crate::engine::certificate::{Issued, Specification};
use crate::engine::ledger::{Owner, RecordId};
use crate::engine::reaction::{Failure, Whose};
use crate::engine::renewal::renew_at;
use crate::ledger::{self, PresentError};
use crate::store::Write;

/// What came of an effect.
pub(super) struct Done {
    pub(super) event: Event,
    pub(super) writes: Vec<Write>,
    pub(super) note: Option<String>,
    pub(super) issued: Option<Box<Issued>>,
    pub(super) walk: Option<(usize, Arc<Walk>)>,
}

impl Done {
    fn of(event: Event) -> Self {
        Self {
            event,
            writes: Vec::new(),
            note: None,
            issued: None,
            walk: None,
        }
    }

    fn with(mut self, note: impl Into<String>) -> Self {
        self.note = Some(note.into());
        self
    }
}

/// What the effects of one attempt need; cheap to clone.
#[derive(Clone)]
pub(super) struct Hands {
    pub(super) shared: Arc<Shared>,
    pub(super) account: Arc<Ready>,
    pub(super) request: Request,
    pub(super) generation_after: u64,
}

impl Hands {
    pub(super) async fn perform(
        self,
        effect: Effect,
        order: &str,
        walk: Option<Arc<Walk>>,
    ) -> Result<Done, Failure> {
        let authority = self.authority()?;
        let client = &authority.client;
        let signer = &Signer {
            key: &self.account.key,
            kid: &self.account.url,
        };
        match effect {
            Effect::NewOrder => {
                let names = &self.request.identifiers;
                let result = client
                    .new_order(signer, names, self.request.profile.as_deref())
                    .await;
                let note = result
                    .as_ref()
                    .ok()
                    .map(|order| format!("order {}", order.url));
                Ok(Done {
                    note,
                    ..Done::of(Event::Ordered(result))
                })
            }
            Effect::FetchOrder(url) => Ok(Done::of(Event::Order(client.order(signer, &url).await))),
            Effect::FetchAuthorization { part, url } => {
                let result = client.authorization(signer, &url).await;
                Ok(Done::of(Event::Authorization(part, result)))
            }
            Effect::Locate { part, identifier } => {
                match locate::locate(&self.shared, authority, self.wanted()?, &identifier).await {
                    Ok((located, walk)) => {
                        let note = described(&identifier.to_string(), &located.provider, &walk);
                        let mut done = Done::of(Event::Located(part, Ok(located))).with(note);
                        done.walk = Some((part, Arc::new(walk)));
                        Ok(done)
                    }
                    Err(fault) => Ok(Done::of(Event::Located(part, Err(fault)))),
                }
            }
            Effect::Present {
                part,
                owner,
                record,
            } => self.present(part, owner, record, walk).await,
            Effect::Settle { part, record } => {
                self.shared.ledger.settled(&record).await;
                Ok(Done::of(Event::Settled(part)))
            }
            Effect::Observe { part, servers, .. } => {
                let addresses: Vec<_> = servers.iter().map(|(_, address)| *address).collect();
                let observations = match walk {
                    Some(walk) => authority.dns.observe(&walk, &addresses).await,
                    None => Vec::new(),
                };
                Ok(Done::of(Event::Observed(part, observations)))
            }
            Effect::Respond { part, url } => {
                let result = client.respond(signer, &url).await;
                let done = Done::of(Event::Responded(part, result));
                Ok(done.with("every nameserver has the value; the authority may look"))
            }
            Effect::Release { owner, record, .. } => {
                let note = format!("the TXT record at {} is wanted no more", record.name);
                let released = self.shared.ledger.release(owner.clone(), record).await;
                released.map_err(store_failure)?;
                Ok(Done::of(Event::Released(owner)).with(note))
            }
            Effect::MakeKey => self.make_key(),
            Effect::Finalize(url) => {
                let key = self.key().await?;
                let request = csr::csr(&key, &self.request.identifiers).map_err(internal)?;
                let result = client.finalize(signer, order, &url, &request).await;
                Ok(
                    Done::of(Event::Finalized(result))
                        .with("the names are proven; the CSR is sent"),
                )
            }
            Effect::Download(url) => self.download(authority, signer, &url).await,
        }
    }

    fn authority(&self) -> Result<&Authority, Failure> {
        let name = &self.request.authority;
        self.shared
            .authorities
            .get(name)
            .map(AsRef::as_ref)
            .ok_or_else(|| {
                let sentence = format!("the authority {name} is not in the configuration any more");
                Failure::new(Whose::You, sentence)
            })
    }

    fn wanted(&self) -> Result<&Wanted, Failure> {
        let name = &self.request.certificate;
        self.shared.certificates.get(name).ok_or_else(|| {
            let sentence = format!("the certificate {name} is not in the configuration any more");
            Failure::new(Whose::You, sentence)
        })
    }

    async fn present(
        &self,
        part: usize,
        owner: Owner,
        record: RecordId,
        walk: Option<Arc<Walk>>,
    ) -> Result<Done, Failure> {
        let (provider, zone) = (record.provider.clone(), record.zone.name.clone());
        let note = format!(
            "the TXT record at {} is in the zone {zone} of provider {}",
            record.name,
            ledger::spoken(&provider)
        );
        let ledger = &self.shared.ledger;
        match ledger.present(owner, record.clone(), TTL).await {
            // A resolver that is asked too early remembers that there was nothing.
            Ok(Placed::Spreading) if walk.is_some_and(|walk| walk.by_resolvers) => {
                ledger.settled(&record).await;
                Ok(Done::of(Event::Presented(part, Ok(Placed::There))).with(note))
            }
            Ok(placed) => Ok(Done::of(Event::Presented(part, Ok(placed))).with(note)),
            Err(PresentError::Provider(error)) => {
                if error.kind == ErrorKind::ZoneMissing {
                    self.shared.zones.forget(&provider, &zone);
                }
                Ok(Done::of(Event::Presented(part, Err(error))))
            }
            Err(PresentError::Store(error)) => Err(store_failure(error)),
            Err(error @ PresentError::NoProvider(_)) => {
                Err(Failure::new(Whose::You, error.to_string()))
            }
        }
    }

    fn make_key(&self) -> Result<Done, Failure> {
        let key = csr::generate_key(self.request.key).map_err(internal)?;
        let at = records::leaf_key(&self.request.certificate, self.request.epoch);
        let sealed = self.shared.sealer.seal(&at, &key).map_err(store_failure)?;
        let mut done = Done::of(Event::KeySaved);
        done.writes.push(Write::Put(
            at,
            serde_json::to_vec(&sealed).map_err(internal)?,
        ));
        Ok(done)
    }

    async fn key(&self) -> Result<Secret, Failure> {
        let (name, epoch) = (&self.request.certificate, self.request.epoch);
        leaf_key(&self.shared, name, epoch).await
    }

    async fn download(
        &self,
        authority: &Authority,
        signer: &Signer<'_>,
        url: &str,
    ) -> Result<Done, Failure> {
        let preferred = authority.settings.chain.as_deref();
        let chain = match authority.client.download(signer, url, preferred).await {
            Ok(chain) => chain,
            Err(fault) => return Ok(Done::of(Event::DownloadFailed(fault))),
        };
        let key = self.key().await?;
        // The authority's own time, where ours is known to be wrong: a certificate of its is right by that.
        let now = authority.now(&self.shared.clock);
        let leaf = match chain::check(&chain.pem, &key, &self.request.identifiers, now) {
            Ok(leaf) => leaf,
            Err(error) => {
                return Ok(Done::of(Event::CertificateWrong(error.to_string())));
            }
        };
        let (name, epoch) = (&self.request.certificate, self.request.epoch);
        let issued = Issued {
            epoch,
            generation: crate::engine::certificate::generation(self.generation_after, now),
            specification: Specification {
                identifiers: self.request.identifiers.clone(),
                key: self.request.key,
            },
            authority: self.request.authority.clone(),
            profile: self.request.profile.clone(),
            renew_at: renew_at(now, leaf.not_before, leaf.not_after, draw()),
            serial: leaf.serial,
            sha256: leaf.sha256,
            issuer: leaf.issuer,
            not_before: leaf.not_before,
            not_after: leaf.not_after,
        };
        let note = format!(
            "issued: serial {}, valid until {}",
            issued.serial, issued.not_after
        );
        let mut done = Done::of(Event::Downloaded).with(note);
        done.writes.push(Write::Put(
            records::chain(name, epoch),
            chain.pem.into_bytes(),
        ));
        done.issued = Some(Box::new(issued));
        Ok(done)
    }
}

/// The leaf key of one attempt.
pub(super) async fn leaf_key(
    shared: &Shared,
    name: &crate::engine::names::CertificateName,
    epoch: u64,
) -> Result<Secret, Failure> {
    let whose = format!("{name}, attempt {epoch},");
    accounts::open(shared, records::leaf_key(name, epoch), &whose).await
}

/// A number between 0 and 1, so that renewals spread.
fn draw() -> f64 {
    let mut bytes = [0; 4];
    // Without randomness nothing else works either; an even spread is a nicety.
    if SystemRandom::new().fill(&mut bytes).is_err() {
        return 0.0;
    }
    f64::from(u32::from_be_bytes(bytes)) / f64::from(u32::MAX)
}

fn described(name: &str, provider: &str, walk: &Walk) -> String {
    let path: Vec<String> = locate::path(walk).iter().map(ToString::to_string).collect();
    format!(
        "{name}: {} in the zone {} of provider {}, {}",
        path.join(" → "),
        walk.zone,
        ledger::spoken(provider),
        match walk.servers.len() {
            1 => "1 nameserver".to_owned(),
            many => format!("{many} nameservers"),
        }
    )
}
