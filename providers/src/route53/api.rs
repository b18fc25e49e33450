//! The five calls of Route 53 that are needed, each with its refusals judged.

use reqsign_aws_v4::Credential;
use reqwest::Method;
use serde::de::DeserializeOwned;

use crate::http::{Ask, Reply};
use crate::record::{DnsName, Zone};
use crate::{Context, ErrorKind, ProviderError};

use super::credentials::Credentials;
use super::error::{Blame, Call, is_throttling};
use super::sets::{Quoted, Txt, has_passed, plain_name, surely_before};
use super::sign::Service;
use super::xml::{self, Changed, RecordSet, Refusal, Sets, Step, ZoneDetails, Zones};

/// The version of the API, first in every path.
const VERSION: &str = "2013-04-01";
/// As many zones as a page may have.
const ZONES_PER_PAGE: &str = "100";
/// As many sets as a page may have.
const SETS_PER_PAGE: &str = "300";
/// No account has more zones of one name, no name more sets: a host that goes on is not believed.
const MOST_PAGES: usize = 1_000;

/// Route 53 under one credential, for one verb.
pub(super) struct Api<'a> {
    service: &'a Service,
    credentials: &'a Credentials,
    credential: Credential,
    context: &'a Context,
}

/// A public zone.
pub(super) struct PublicZone {
    pub(super) id: String,
    pub(super) name: String,
}

impl<'a> Api<'a> {
    /// Fetches the credential.
    pub(super) async fn open(
        service: &'a Service,
        credentials: &'a Credentials,
        context: &'a Context,
    ) -> Result<Self, ProviderError> {
        let credential = credentials.current(context).await?;
        Ok(Self {
            service,
            credentials,
            credential,
            context,
        })
    }

    /// The public zones named like one of `candidates`, each of which is a parent of those before it.
    ///
    /// The list begins at the shortest, and everything below a name comes after it: one page is all of them in most
    /// accounts. Where more zones follow than fit, those candidates that cannot have been on the page are asked for by
    /// their own names.
    pub(super) async fn zones(
        &self,
        candidates: &[DnsName],
    ) -> Result<Vec<PublicZone>, ProviderError> {
        let mut found: Vec<PublicZone> = Vec::new();
        let mut goes_on: Option<String> = None;
        for candidate in candidates.iter().rev() {
            let candidate = candidate.as_str();
            let is_behind = |next: &String| surely_before(candidate, next);
            if goes_on.as_ref().is_some_and(is_behind) {
                continue;
            }
            goes_on = self.zones_from(candidate, candidates, &mut found).await?;
            if goes_on.is_none() {
                break;
            }
        }
        Ok(found)
    }

    /// Adds what the list has from `first` on, and all that is named so; the name where the list goes on.
    async fn zones_from(
        &self,
        first: &str,
        candidates: &[DnsName],
        found: &mut Vec<PublicZone>,
    ) -> Result<Option<String>, ProviderError> {
        let blame = self.blame(Call::ListZones, format!("the zone of {first}"));
        let mut id = None;
        for _ in 0..MOST_PAGES {
            let page = self.zones_page(first, id.as_deref(), &blame).await?;
            for zone in page.hosted_zones.all {
                let name = plain_name(&zone.name);
                let id = last_segment(&zone.id).to_owned();
                let is_wanted = candidates.iter().any(|it| it.as_str() == name);
                let is_new = found.iter().all(|known| known.id != id);
                if is_wanted && is_new && !zone.config.private_zone {
                    found.push(PublicZone { id, name });
                }
            }
            let next = page.next_name.filter(|_| page.is_truncated);
            let next = next.map(|next| plain_name(&next));
            if next.as_deref() != Some(first) {
                return Ok(next);
            }
            id = page.next_id.map(|id| last_segment(&id).to_owned());
        }
        Err(blame.endless())
    }

    async fn zones_page(
        &self,
        name: &str,
        id: Option<&str>,
        blame: &Blame,
    ) -> Result<Zones, ProviderError> {
        let mut ask = Ask::new(Method::GET, &[VERSION, "hostedzonesbyname"])
            .query("dnsname", name)
            .query("maxitems", ZONES_PER_PAGE);
        if let Some(id) = id {
            ask = ask.query("hostedzoneid", id);
        }
        self.read(ask, blame).await
    }

    /// The name servers that a zone was given.
    pub(super) async fn nameservers(&self, zone: &Zone) -> Result<Vec<DnsName>, ProviderError> {
        let ask = Ask::new(Method::GET, &[VERSION, "hostedzone", &zone.id]);
        let what = format!("zone {} ({})", zone.name, zone.id);
        let details: ZoneDetails = self.read(ask, &self.blame(Call::GetZone, what)).await?;
        let names = details.delegation_set.name_servers.all;
        Ok(names
            .iter()
            .filter_map(|name| DnsName::parse(name).ok())
            .collect())
    }

    /// The TXT set at each of `names`, in their order.
    ///
    /// A page holds what follows the name that it begins at, so that names near each other come with one call.
    pub(super) async fn sets(
        &self,
        zone: &Zone,
        names: &[&DnsName],
    ) -> Result<Vec<Option<Txt>>, ProviderError> {
        let mut sets: Vec<Option<Txt>> = names.iter().map(|_| None).collect();
        let mut order: Vec<&str> = names.iter().map(|name| name.as_str()).collect();
        order.sort_by_cached_key(|name| reversed(name));
        let mut lists: Vec<(&str, Option<String>)> = Vec::new();
        for name in order {
            let mut lists_so_far = lists.iter();
            if lists_so_far.any(|(first, next)| has_passed(first, next.as_deref(), name)) {
                continue;
            }
            let next = self.sets_from(zone, name, names, &mut sets).await?;
            lists.push((name, next));
        }
        Ok(sets)
    }

    /// Fills in what the list has from `first` on, and all of its TXT; the name where the list goes on.
    async fn sets_from(
        &self,
        zone: &Zone,
        first: &str,
        names: &[&DnsName],
        sets: &mut [Option<Txt>],
    ) -> Result<Option<String>, ProviderError> {
        let blame = self.blame(Call::ListSets, format!("zone {} ({})", zone.name, zone.id));
        let mut identifier = None;
        for _ in 0..MOST_PAGES {
            let page = self
                .sets_page(zone, first, identifier.as_deref(), &blame)
                .await?;
            let listed = page.resource_record_sets.all.iter();
            for set in listed.filter(|set| set.kind == "TXT") {
                let name = plain_name(&set.name);
                for (wanted, place) in names.iter().zip(&mut *sets) {
                    if wanted.as_str() == name {
                        *place = Some(txt_set(set, wanted)?);
                    }
                }
            }
            let next = page.next_record_name.filter(|_| page.is_truncated);
            let next = next.map(|next| plain_name(&next));
            let is_more_txt = page.next_record_type.as_deref() == Some("TXT");
            if next.as_deref() != Some(first) || !is_more_txt {
                return Ok(next);
            }
            identifier = page.next_record_identifier;
        }
        Err(blame.endless())
    }

    async fn sets_page(
        &self,
        zone: &Zone,
        name: &str,
        identifier: Option<&str>,
        blame: &Blame,
    ) -> Result<Sets, ProviderError> {
        let mut ask = Ask::new(Method::GET, &[VERSION, "hostedzone", &zone.id, "rrset"])
            .query("name", &format!("{name}."))
            .query("type", "TXT")
            .query("maxitems", SETS_PER_PAGE);
        if let Some(identifier) = identifier {
            ask = ask.query("identifier", identifier);
        }
        self.read(ask, blame).await
    }

    /// Makes all steps or none; the change's id, or what the host has against it.
    pub(super) async fn change(
        &self,
        zone: &Zone,
        steps: &[Step],
        blame: &Blame,
    ) -> Result<Result<String, Refusal>, ProviderError> {
        let body = xml::change_request(steps).map_err(|why| {
            let message = format!(
                "the change of zone {} cannot be written as XML: {why}",
                zone.name
            );
            ProviderError::new(ErrorKind::Fatal, message)
        })?;
        // The empty segment is the slash at the end of the documented path.
        let ask = Ask::new(
            Method::POST,
            &[VERSION, "hostedzone", &zone.id, "rrset", ""],
        )
        .body("application/xml", body.into_bytes());
        let reply = self.call(ask).await?;
        if reply.status.is_success() {
            let changed: Changed = blame.read(&reply)?;
            return Ok(Ok(last_segment(&changed.change_info.id).to_owned()));
        }
        let refusal = xml::refusal(&reply.body);
        match refusal.code.as_str() {
            "InvalidChangeBatch" => Ok(Err(refusal)),
            _ => Err(self.refused(blame, &reply)),
        }
    }

    /// Whether every server has the change.
    pub(super) async fn is_in_sync(&self, change: &str) -> Result<bool, ProviderError> {
        let ask = Ask::new(Method::GET, &[VERSION, "change", change]);
        let blame = self.blame(Call::GetChange, format!("change {change}"));
        let changed: Changed = self.read(ask, &blame).await?;
        Ok(changed.change_info.status == "INSYNC")
    }

    /// What a refused change of `what` means.
    pub(super) fn blame_change(&self, what: String) -> Blame {
        self.blame(Call::Change, what)
    }

    fn blame(&self, call: Call, what: String) -> Blame {
        Blame {
            host: self.service.host(),
            call,
            what,
        }
    }

    async fn read<T: DeserializeOwned>(&self, ask: Ask, blame: &Blame) -> Result<T, ProviderError> {
        let reply = self.call(ask).await?;
        match reply.status.is_success() {
            true => blame.read(&reply),
            false => Err(self.refused(blame, &reply)),
        }
    }

    async fn call(&self, ask: Ask) -> Result<Reply, ProviderError> {
        let called = self.service.call(ask, &self.credential, self.context);
        called.await
    }

    /// Everybody with this account slows down when it asks too often, and a credential that was refused is not kept.
    fn refused(&self, blame: &Blame, reply: &Reply) -> ProviderError {
        let error = blame.refused(reply, &self.context.clock);
        match error.kind {
            ErrorKind::RateLimited { after: Some(after) } if is_throttling(&error) => {
                self.context.meter.pause(&self.context.clock, after);
            }
            ErrorKind::Auth => self.credentials.forget(),
            _ => {}
        }
        error
    }
}

/// The set as it can be replaced; some cannot.
fn txt_set(set: &RecordSet, name: &DnsName) -> Result<Txt, ProviderError> {
    let refuse = |what: &str, hint: &str| {
        let message = format!("the TXT record set at {name} {what}, which is left alone");
        Err(ProviderError::new(ErrorKind::Invalid, message).hint(hint))
    };
    if set.set_identifier.is_some() {
        return refuse(
            "has a routing policy (weighted, multivalue answer or another with a set identifier)",
            "replace it by one simple record set, or delegate the name elsewhere by a CNAME",
        );
    }
    match set.ttl {
        Some(ttl) => Ok(Txt {
            ttl,
            values: (set.resource_records.all.iter())
                .map(|record| Quoted(record.value.clone()))
                .collect(),
        }),
        None => refuse(
            "is an alias of another",
            "replace the alias by a simple record set, or delegate the name elsewhere by a CNAME",
        ),
    }
}

/// `Z1` of `/hostedzone/Z1`, and of itself.
fn last_segment(id: &str) -> &str {
    id.rsplit('/').next().unwrap_or(id)
}

/// The labels from the last to the first, as Route 53 sorts.
fn reversed(name: &str) -> Vec<String> {
    name.rsplit('.').map(str::to_owned).collect()
}
