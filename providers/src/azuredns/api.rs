//! The calls of Azure Resource Manager that are needed, each with its refusals judged. Fields that are not needed are not
//! read.

use reqwest::Method;
use reqwest::header::{HeaderValue, IF_MATCH, IF_NONE_MATCH};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use url::Url;

use crate::http::{Ask, Http, Reply};
use crate::oauth::Bearer;
use crate::record::{DnsName, Zone};
use crate::txt_set::{TxtSet, Written};
use crate::{Context, ErrorKind, Held, ProviderError};

use super::error::{About, Refusal};
use super::ids::{is_zone_id, relative, segments};
use super::token::Tokens;

/// The version of the API.
const VERSION: &str = "2018-05-01";
/// A list of more pages than this is not what was asked for.
const MOST_PAGES: usize = 500;
/// The longest character-string (RFC 1035 section 3.3).
const LONGEST: usize = 255;

/// A value as it stands in Azure DNS: its character-strings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Text {
    value: Vec<String>,
}

impl Written for Text {
    fn of(text: &str) -> Self {
        let mut value = vec![String::new()];
        for c in text.chars() {
            if let Some(last) = value.last_mut()
                && last.len() + c.len_utf8() <= LONGEST
            {
                last.push(c);
            } else {
                value.push(c.to_string());
            }
        }
        Self { value }
    }

    fn text(&self) -> String {
        self.value.concat()
    }
}

/// A TXT set.
pub(super) type Txt = TxtSet<Text>;

/// A TXT set as it was read.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    /// None where there are no values: Azure keeps sets without any.
    pub(super) set: Option<Txt>,
    etag: String,
    /// What somebody noted at it, which is written back.
    metadata: Value,
}

/// Azure Resource Manager under one identity, for one verb.
pub(super) struct Api<'a> {
    http: &'a Http,
    tokens: &'a Tokens,
    bearer: Bearer,
    context: &'a Context,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page<T> {
    value: Vec<T>,
    #[serde(default)]
    next_link: Option<String>,
}

impl<T> Page<T> {
    /// Where the next page is; some services write an empty address where there is none.
    fn next(&self) -> Option<String> {
        self.next_link.clone().filter(|link| !link.is_empty())
    }
}

#[derive(Deserialize)]
struct Listed {
    id: String,
    name: String,
    #[serde(default)]
    properties: OfZone,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct OfZone {
    zone_type: Option<String>,
    name_servers: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct RecordSet {
    name: String,
    #[serde(default)]
    etag: String,
    properties: OfSet,
}

#[derive(Deserialize)]
struct OfSet {
    #[serde(rename = "TTL")]
    ttl: u32,
    #[serde(rename = "TXTRecords", default)]
    records: Vec<Text>,
    #[serde(default)]
    metadata: Value,
}

impl<'a> Api<'a> {
    /// Fetches the token.
    pub(super) async fn open(
        http: &'a Http,
        tokens: &'a Tokens,
        context: &'a Context,
    ) -> Result<Self, ProviderError> {
        let bearer = tokens.current(context).await?;
        Ok(Self {
            http,
            tokens,
            bearer,
            context,
        })
    }

    /// The public zones named like one of `candidates`, in their order.
    pub(super) async fn zones(
        &self,
        candidates: &[DnsName],
        subscription: &str,
        group: Option<&str>,
    ) -> Result<Vec<Held>, ProviderError> {
        let about = About::Lookup(&candidates[0], subscription);
        let group = group.map(|group| ["resourceGroups", group]);
        let mut path = vec!["subscriptions", subscription];
        path.extend(group.iter().flatten());
        path.extend(["providers", "Microsoft.Network", "dnsZones"]);
        let path: Vec<String> = path.into_iter().map(str::to_owned).collect();
        let mut found: Vec<(DnsName, Listed)> = Vec::new();
        let mut more = Vec::new();
        for _ in 0..MOST_PAGES {
            let page: Page<Listed> = self.page(&path, &more, &about).await?;
            let next = page.next();
            for zone in page.value {
                let is_private = zone.properties.zone_type.as_deref() == Some("Private");
                if let Ok(name) = DnsName::parse(&zone.name)
                    && candidates.contains(&name)
                    && is_zone_id(&zone.id)
                    && !is_private
                {
                    found.push((name, zone));
                }
            }
            let Some(next) = next else {
                return Ok(held(candidates, &found));
            };
            more = self.next(&next, &about)?;
        }
        Err(self.endless(&about))
    }

    /// The TXT set at `name`.
    pub(super) async fn set(
        &self,
        zone: &Zone,
        name: &DnsName,
    ) -> Result<Option<Stored>, ProviderError> {
        let about = About::Look(zone, name);
        let ask = self.ask(Method::GET, &self.at(zone, name)?, &[]);
        match self.send(ask, &about).await {
            Ok(reply) => Ok(Some(stored(self.read(&reply)?))),
            Err(refusal) if refusal.is_gone => Ok(None),
            Err(refusal) => Err(refusal.error),
        }
    }

    /// The TXT set at each of `names`, in their order: a call for each of few, else pages of the whole zone, as long as
    /// these are fewer than the names.
    pub(super) async fn sets(
        &self,
        zone: &Zone,
        names: &[&DnsName],
    ) -> Result<Vec<Option<Stored>>, ProviderError> {
        let Some(first) = names.first() else {
            return Ok(Vec::new());
        };
        let about = About::Look(zone, first);
        let mut path = segments(zone)?;
        path.push("TXT".to_owned());
        let mut sets: Vec<Option<Stored>> = names.iter().map(|_| None).collect();
        let mut more = Vec::new();
        for _ in 0..names.len() / 2 {
            let page: Page<RecordSet> = self.page(&path, &more, &about).await?;
            let next = page.next();
            for set in page.value {
                let place = names
                    .iter()
                    .position(|name| relative(name, zone).eq_ignore_ascii_case(&set.name));
                if let Some(place) = place {
                    sets[place] = Some(stored(set));
                }
            }
            let Some(next) = next else {
                return Ok(sets);
            };
            more = self.next(&next, &about)?;
        }
        for (name, set) in names.iter().zip(&mut sets) {
            *set = self.set(zone, name).await?;
        }
        Ok(sets)
    }

    /// Replaces what is at `name` by `after`, on the condition that `before` is there still. A set that somebody noted
    /// something at stays without values, since the note would go with it.
    pub(super) async fn replace(
        &self,
        zone: &Zone,
        name: &DnsName,
        before: Option<&Stored>,
        after: Option<&Txt>,
    ) -> Result<(), Refusal> {
        let about = About::Change(zone, name);
        let metadata = before.map_or(&Value::Null, |stored| &stored.metadata);
        let is_noted = metadata.as_object().is_some_and(|it| !it.is_empty());
        let emptied = before
            .and_then(|stored| stored.set.as_ref())
            .filter(|_| is_noted)
            .map(|set| Txt {
                ttl: set.ttl,
                values: Vec::new(),
            });
        let after = after.or(emptied.as_ref());
        let method = match after {
            Some(_) => Method::PUT,
            None => Method::DELETE,
        };
        let ask = self.ask(method, &self.at(zone, name)?, &[]);
        let ask = match before {
            Some(stored) => ask.header(IF_MATCH, self.etag(&stored.etag, name)?),
            None => ask.header(IF_NONE_MATCH, HeaderValue::from_static("*")),
        };
        let ask = match after {
            Some(set) => {
                let mut properties = json!({"TTL": set.ttl, "TXTRecords": set.values});
                if !metadata.is_null() {
                    properties["metadata"] = metadata.clone();
                }
                let body = json!({"properties": properties}).to_string();
                ask.body("application/json", body.into_bytes())
            }
            None => ask,
        };
        self.send(ask, &about).await.map(drop)
    }

    fn at(&self, zone: &Zone, name: &DnsName) -> Result<Vec<String>, ProviderError> {
        let mut path = segments(zone)?;
        path.extend(["TXT", relative(name, zone)].map(str::to_owned));
        Ok(path)
    }

    fn ask(&self, method: Method, path: &[String], more: &[(String, String)]) -> Ask {
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        let ask = Ask::new(method, &path).query("api-version", VERSION);
        let more = more.iter().filter(|(key, _)| key != "api-version");
        more.fold(ask, |ask, (key, value)| ask.query(key, value))
    }

    /// Of the address of a next page only the query is taken, so that it can lead nowhere else.
    fn next(&self, link: &str, about: &About<'_>) -> Result<Vec<(String, String)>, ProviderError> {
        let base = self.http.url_of(&Ask::new(Method::GET, &[]));
        match Url::parse(link) {
            Ok(next) if next.origin() == base.origin() => {
                Ok(next.query_pairs().into_owned().collect())
            }
            _ => {
                let host = self.http.host();
                let message = format!("{host} answers {about} with a next page that is elsewhere");
                Err(ProviderError::new(ErrorKind::Fatal, message)
                    .hint("look whether `endpoint` is Azure Resource Manager"))
            }
        }
    }

    async fn page<T: DeserializeOwned>(
        &self,
        path: &[String],
        more: &[(String, String)],
        about: &About<'_>,
    ) -> Result<Page<T>, ProviderError> {
        let reply = self.send(self.ask(Method::GET, path, more), about).await;
        self.read(&reply.map_err(|refusal| refusal.error)?)
    }

    fn read<T: DeserializeOwned>(&self, reply: &Reply) -> Result<T, ProviderError> {
        let host = self.http.host();
        // An array would be taken for an object with nothing in it.
        let secret = [&self.bearer.token];
        let _: Map<String, Value> = reply.json(&host, secret)?;
        reply.json(&host, secret)
    }

    async fn send(&self, ask: Ask, about: &About<'_>) -> Result<Reply, Refusal> {
        let host = self.http.host();
        let ask = self.bearer.authorize(ask, &host)?;
        let reply = self.http.send(ask, self.context).await?;
        if reply.status.is_success() {
            return Ok(reply);
        }
        let refusal = about.refusal(&host, &reply, &[&self.bearer.token], &self.context.clock);
        // The next verb asks for a new one.
        if matches!(refusal.error.kind, ErrorKind::Auth | ErrorKind::Permission) {
            self.tokens.forget();
        }
        Err(refusal)
    }

    fn etag(&self, etag: &str, name: &DnsName) -> Result<HeaderValue, ProviderError> {
        let value = HeaderValue::from_str(etag).ok().filter(|it| !it.is_empty());
        value.ok_or_else(|| {
            let host = self.http.host();
            let message = format!("{host} gives no ETag for the TXT record set at {name}");
            ProviderError::new(ErrorKind::Fatal, message)
        })
    }

    fn endless(&self, about: &About<'_>) -> ProviderError {
        let host = self.http.host();
        let message = format!("{host} answers {about} with more than {MOST_PAGES} pages");
        ProviderError::new(ErrorKind::Fatal, message)
    }
}

fn held(candidates: &[DnsName], found: &[(DnsName, Listed)]) -> Vec<Held> {
    let of_name = |candidate: &DnsName| {
        let zones = found.iter().filter(|(name, _)| name == candidate);
        let held = zones.map(|(name, zone)| Held {
            nameservers: (zone.properties.name_servers.iter().flatten())
                .filter_map(|name| DnsName::parse(name).ok())
                .collect(),
            ..Held::from(Zone {
                name: name.clone(),
                id: zone.id.clone(),
            })
        });
        held.collect::<Vec<Held>>()
    };
    candidates.iter().flat_map(of_name).collect()
}

fn stored(set: RecordSet) -> Stored {
    let OfSet {
        ttl,
        records: values,
        metadata,
    } = set.properties;
    Stored {
        set: (!values.is_empty()).then_some(Txt { ttl, values }),
        etag: set.etag,
        metadata,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_values_are_cut_into_character_strings_and_joined_again() {
        let long = "é".repeat(300);
        for text in ["", "plain", &"x".repeat(255), &"x".repeat(256), &long] {
            let written = Text::of(text);
            assert_eq!(written.text(), text);
            assert!(written.value.iter().all(|it| it.len() <= LONGEST));
        }
        assert_eq!(Text::of(&long).value.len(), 3);
        assert_eq!(Text::of("").value, [""]);
    }
}
