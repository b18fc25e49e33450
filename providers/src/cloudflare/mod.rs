//! Cloudflare, by its API v4.
//!
//! Records are single values there. All changes of a zone go as one transaction, after one look that says what is there.
//! A zone is looked up by its exact name, so that a token for one zone is enough; with its id in the settings not even that.
//!
//! A known limit: values that are only to go, and whose ids are known, go in one call without a look. The API takes no proof
//! of what stands there, so a record of ours that a person has edited in place, and that kept its id, goes too.

mod api;
mod change;
mod error;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use async_trait::async_trait;
use url::Url;

use crate::http::Http;
use crate::meter::Rate;
use crate::record::{Change, DnsName, RrSet, Zone};
use crate::secret::SecretSource;
use crate::{
    Context, ErrorKind, Held, Provider, ProviderError, Receipt, RecordModel, Remark, Traits,
    configured,
};

use api::Api;
use change::Editor;

/// Where the API is.
pub const ENDPOINT: &str = "https://api.cloudflare.com/client/v4";
/// What the API takes for a TTL without an Enterprise plan, in seconds.
const TTLS: RangeInclusive<u32> = 60..=86_400;
/// The API takes 1,200 requests in five minutes from a token, and shuts it out for as long when there were more: these 200
/// and what comes after them stay below.
const RATE: Rate = Rate {
    burst: 200,
    every: Duration::from_millis(300),
};
/// A change is usually everywhere within seconds; this leaves room.
const PROPAGATION: Duration = Duration::from_secs(60);
/// What a record of ours says first.
const MARK: &str = "countersign";
/// Comments may have so many characters without a paid plan.
const LONGEST_COMMENT: usize = 100;

/// How to reach the zones of one token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The API token.
    pub token: SecretSource,
    /// The ids of zones that need no look-up, by apex.
    pub zones: BTreeMap<DnsName, String>,
    /// The API's base address.
    pub endpoint: Url,
    /// Who writes, for the comment at each record.
    pub owner: Option<String>,
}

/// The plug-in: what one token may see and change.
pub struct Cloudflare {
    settings: Settings,
    http: Http,
}

impl Cloudflare {
    /// Takes the settings; nothing is read or asked before the first verb.
    pub fn new(settings: Settings) -> Self {
        let http = Http::new(settings.endpoint.clone());
        Self { settings, http }
    }

    async fn editor<'a>(
        &'a self,
        zone: &'a Zone,
        context: &'a Context,
    ) -> Result<Editor<'a>, ProviderError> {
        let owner = self.settings.owner.as_deref().unwrap_or_default();
        let comment = format!("{MARK} {owner}");
        Ok(Editor {
            api: Api::open(&self.http, &self.settings.token, context).await?,
            zone,
            comment: comment.trim_end().chars().take(LONGEST_COMMENT).collect(),
        })
    }
}

#[async_trait]
impl Provider for Cloudflare {
    fn traits(&self) -> Traits {
        Traits {
            model: RecordModel::Value,
            batch: change::BATCH,
            rate: Some(RATE),
            propagation: PROPAGATION,
        }
    }

    async fn zones(&self, name: &DnsName, context: &Context) -> Result<Vec<Held>, ProviderError> {
        let configured = configured(&self.settings.zones, name);
        if !configured.is_empty() {
            return Ok(configured);
        }
        let api = Api::open(&self.http, &self.settings.token, context).await?;
        let (mut held, mut refused) = (Vec::new(), None);
        for candidate in candidates(name) {
            let listed = match api.zones(&candidate).await {
                Ok(listed) => listed,
                // A token for one zone is refused every other name.
                Err(error) if error.kind == ErrorKind::Permission => {
                    refused.get_or_insert(error);
                    continue;
                }
                Err(error) => return Err(error),
            };
            let zones = listed
                .into_iter()
                .filter(|zone| DnsName::parse(&zone.name).is_ok_and(|name| name == candidate));
            held.extend(zones.map(|zone| {
                Held {
                    nameservers: (zone.name_servers.iter().flatten())
                        .filter_map(|name| DnsName::parse(name).ok())
                        .collect(),
                    ..Held::from(Zone {
                        name: candidate.clone(),
                        id: zone.id,
                    })
                }
            }));
            // What is asked about is an apex itself: no zone above it holds it.
            if candidate == *name && !held.is_empty() {
                break;
            }
        }
        match refused {
            Some(error) if held.is_empty() => Err(error),
            _ => Ok(held),
        }
    }

    async fn observe(
        &self,
        zone: &Zone,
        names: &[DnsName],
        context: &Context,
    ) -> Result<Vec<RrSet>, ProviderError> {
        self.editor(zone, context).await?.observe(names).await
    }

    async fn remarks(
        &self,
        zone: &Zone,
        names: &[DnsName],
        context: &Context,
    ) -> Result<Vec<Remark>, ProviderError> {
        let mut remarks = self.editor(zone, context).await?.remarks(names).await?;
        // Without a name of one's own the mark is that of anybody's.
        let has_name = self.settings.owner.is_some();
        remarks.iter_mut().for_each(|it| it.is_ours &= has_name);
        Ok(remarks)
    }

    async fn apply(
        &self,
        zone: &Zone,
        changes: &[Change],
        _: &[RrSet],
        context: &Context,
    ) -> Result<Receipt, ProviderError> {
        let handles = self.editor(zone, context).await?.apply(changes).await?;
        Ok(Receipt {
            ticket: None,
            handles,
        })
    }
}

/// What may be the apex of a zone that holds `name`, longest first. Nobody holds a top-level domain there.
fn candidates(name: &DnsName) -> Vec<DnsName> {
    name.and_above().filter(|name| name.labels() > 1).collect()
}
