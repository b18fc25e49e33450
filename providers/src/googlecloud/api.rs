//! The four calls of Cloud DNS that are needed, each with its refusals judged. Fields that are not needed are not read.

use reqwest::Method;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::http::{Ask, Http};
use crate::oauth::Bearer;
use crate::record::{DnsName, Zone};
use crate::txt_set::{TxtSet, Written};
use crate::{Context, ErrorKind, Held, ProviderError, content};

use super::error::{About, Refusal, is_throttling};
use super::token::Tokens;

/// As many sets as a page may have.
const PAGE: &str = "1000";
/// So many pages of a zone are read to find some names; then each is asked for that was not on them.
const SOME_PAGES: usize = 10;
/// A list of more pages than this is not what was asked for.
const MOST_PAGES: usize = 1_000;

/// A value as it stands in Cloud DNS: character-strings in quotes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Rdata(String);

impl Written for Rdata {
    fn of(text: &str) -> Self {
        Self(content::quoted(text))
    }

    fn text(&self) -> String {
        content::value(&self.0)
    }
}

/// A TXT set.
pub(super) type Txt = TxtSet<Rdata>;

/// Cloud DNS under one credential, for one verb.
pub(super) struct Api<'a> {
    http: &'a Http,
    tokens: &'a Tokens,
    bearer: Bearer,
    project: String,
    context: &'a Context,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct Zones {
    managed_zones: Vec<ManagedZone>,
    next_page_token: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ManagedZone {
    name: String,
    dns_name: String,
    #[serde(default)]
    visibility: Option<String>,
    #[serde(default)]
    name_servers: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct Sets {
    rrsets: Vec<RecordSet>,
    next_page_token: Option<String>,
}

/// A record set, as it is read and as it is written.
#[derive(Debug, Serialize, Deserialize)]
struct RecordSet {
    name: String,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    ttl: u32,
    #[serde(default)]
    rrdatas: Vec<Rdata>,
}

/// What replaces sets: these exactly go, and those come.
#[derive(Debug, Default, Serialize)]
pub(super) struct Replacement {
    deletions: Vec<RecordSet>,
    additions: Vec<RecordSet>,
}

/// A change that was accepted.
#[derive(Deserialize)]
struct Accepted {
    id: String,
    #[serde(default)]
    status: String,
}

impl Replacement {
    /// Also `before` at `name` by `after`.
    pub(super) fn add(&mut self, name: &DnsName, before: Option<Txt>, after: Option<Txt>) {
        let set = |set: Txt| RecordSet {
            name: format!("{name}."),
            kind: "TXT".to_owned(),
            ttl: set.ttl,
            rrdatas: set.values,
        };
        self.deletions.extend(before.map(set));
        self.additions.extend(after.map(set));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.deletions.is_empty() && self.additions.is_empty()
    }
}

impl<'a> Api<'a> {
    /// Fetches the token.
    pub(super) async fn open(
        http: &'a Http,
        tokens: &'a Tokens,
        context: &'a Context,
    ) -> Result<Self, ProviderError> {
        let (bearer, project) = tokens.current(context).await?;
        Ok(Self {
            http,
            tokens,
            bearer,
            project,
            context,
        })
    }

    /// The public zones named like one of `candidates`, in their order.
    ///
    /// Most projects have them all on the first page; where they do not, each candidate is asked for by its name.
    pub(super) async fn zones(&self, candidates: &[DnsName]) -> Result<Vec<Held>, ProviderError> {
        let about = About::Lookup(&candidates[0], &self.project);
        let path = [];
        let all: Zones = self.get(self.ask(&path), &about).await?;
        let mut found = all.managed_zones;
        if all.next_page_token.is_some() {
            found.clear();
            for candidate in candidates {
                let about = About::Lookup(candidate, &self.project);
                let named = || self.ask(&path).query("dnsName", &format!("{candidate}."));
                let mut page: Zones = self.get(named(), &about).await?;
                let mut pages = 1;
                loop {
                    found.append(&mut page.managed_zones);
                    let Some(next) = page.next_page_token else {
                        break;
                    };
                    pages += 1;
                    self.ends(pages, &about)?;
                    page = self.get(named().query("pageToken", &next), &about).await?;
                }
            }
        }
        // A private zone is not what the world sees.
        found.retain(|zone| zone.visibility.as_deref().is_none_or(|it| it == "public"));
        let named = |candidate: &DnsName| {
            let of_name = found.iter();
            let of_name = of_name
                .filter(|zone| DnsName::parse(&zone.dns_name).is_ok_and(|name| name == *candidate));
            let held = of_name.map(|zone| Held {
                nameservers: (zone.name_servers.iter())
                    .filter_map(|name| DnsName::parse(name).ok())
                    .collect(),
                ..Held::from(Zone {
                    name: candidate.clone(),
                    id: zone.name.clone(),
                })
            });
            held.collect::<Vec<Held>>()
        };
        Ok(candidates.iter().flat_map(named).collect())
    }

    /// The TXT set at each of `names`, in their order: a call for one name, else pages of the whole zone, as long as these
    /// are few, and then a call for each that is not found yet.
    pub(super) async fn sets(
        &self,
        zone: &Zone,
        names: &[&DnsName],
    ) -> Result<Vec<Option<Txt>>, ProviderError> {
        let mut sets: Vec<Option<Txt>> = names.iter().map(|_| None).collect();
        let about = About::Look(zone, names);
        let mut next: Option<String> = None;
        for _ in 0..SOME_PAGES.min(names.len() / 2) {
            if sets.iter().all(Option::is_some) {
                return Ok(sets);
            }
            let ask = self.ask(&[&zone.id, "rrsets"]);
            let mut ask = ask.query("maxResults", PAGE);
            if let Some(token) = &next {
                ask = ask.query("pageToken", token);
            }
            let listed: Sets = self.get(ask, &about).await?;
            note(&listed.rrsets, names, &mut sets)?;
            let Some(token) = listed.next_page_token else {
                return Ok(sets);
            };
            next = Some(token);
        }
        let missing = names.iter().zip(&mut sets).filter(|(_, set)| set.is_none());
        for (name, set) in missing {
            let one = [*name];
            let ask = self.ask(&[&zone.id, "rrsets"]);
            let ask = ask.query("name", &format!("{name}.")).query("type", "TXT");
            let listed: Sets = self.get(ask, &About::Look(zone, &one)).await?;
            note(&listed.rrsets, &one, std::slice::from_mut(set))?;
        }
        Ok(sets)
    }

    /// Makes all of `replacement` or nothing of it; the change's number.
    pub(super) async fn change(
        &self,
        zone: &Zone,
        replacement: &Replacement,
        about: &About<'_>,
    ) -> Result<String, Refusal> {
        // Nothing that is sent has a form that JSON lacks.
        let body = serde_json::to_vec(replacement).unwrap_or_default();
        let path = [
            "projects",
            &self.project,
            "managedZones",
            &zone.id,
            "changes",
        ];
        let ask = Ask::new(Method::POST, &path).body("application/json", body);
        let accepted: Accepted = self.send(ask, about).await?;
        Ok(accepted.id)
    }

    /// Whether every server has the change; `None` when it is not known there any more.
    pub(super) async fn is_done(
        &self,
        zone: &str,
        change: &str,
    ) -> Result<Option<bool>, ProviderError> {
        let about = About::Settling(zone, change);
        let asked = self.send::<Accepted>(self.ask(&[zone, "changes", change]), &about);
        match asked.await {
            Ok(change) => Ok(Some(change.status == "done")),
            Err(refusal) if refusal.status == 404 => Ok(None),
            Err(refusal) => Err(refusal.error),
        }
    }

    /// A look at what is below the zones of the project.
    fn ask(&self, path: &[&str]) -> Ask {
        let zones = ["projects", &self.project, "managedZones"];
        Ask::new(Method::GET, &[&zones, path].concat())
    }

    async fn get<T: DeserializeOwned>(
        &self,
        ask: Ask,
        about: &About<'_>,
    ) -> Result<T, ProviderError> {
        self.send(ask, about).await.map_err(|refusal| refusal.error)
    }

    async fn send<T: DeserializeOwned>(&self, ask: Ask, about: &About<'_>) -> Result<T, Refusal> {
        let host = self.http.host();
        let ask = self.bearer.authorize(ask, &host)?;
        let reply = self.http.send(ask, self.context).await?;
        if reply.status.is_success() {
            // An array would be taken for an object with nothing in it.
            let secret = [&self.bearer.token];
            let _: Map<String, Value> = reply.json(&host, secret)?;
            return Ok(reply.json(&host, secret)?);
        }
        let refusal = about.refusal(&host, &reply, &[&self.bearer.token], &self.context.clock);
        match refusal.error.kind {
            ErrorKind::RateLimited { after: Some(after) } if is_throttling(&refusal) => {
                self.context.meter.pause(&self.context.clock, after);
            }
            // The next verb asks for a new one.
            ErrorKind::Auth | ErrorKind::Permission => self.tokens.forget(),
            _ => {}
        }
        Err(refusal)
    }

    fn ends(&self, pages: usize, about: &About<'_>) -> Result<(), ProviderError> {
        if pages < MOST_PAGES {
            return Ok(());
        }
        let host = self.http.host();
        let message = format!("{host} answers {about} with more than {MOST_PAGES} pages");
        Err(ProviderError::new(ErrorKind::Fatal, message))
    }
}

/// Takes what is asked for out of a page.
fn note(
    listed: &[RecordSet],
    names: &[&DnsName],
    sets: &mut [Option<Txt>],
) -> Result<(), ProviderError> {
    for set in listed.iter().filter(|set| set.kind == "TXT") {
        // What is no name here, e.g. a wildcard, cannot be one that was asked for.
        let Ok(at) = DnsName::parse(&set.name) else {
            continue;
        };
        for (_, place) in names.iter().zip(&mut *sets).filter(|it| **it.0 == at) {
            if set.rrdatas.is_empty() {
                let message =
                    format!("the TXT record set at {at} has a routing policy, which is left alone");
                return Err(ProviderError::new(ErrorKind::Invalid, message).hint(
                    "replace it by one simple record set, or delegate the name elsewhere by a CNAME",
                ));
            }
            *place = Some(Txt {
                ttl: set.ttl,
                values: set.rrdatas.clone(),
            });
        }
    }
    Ok(())
}
