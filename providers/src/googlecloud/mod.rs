//! Google Cloud DNS, by its API v1.
//!
//! A record set is replaced as a whole, by deletion of exactly what is there and addition of what should be, both in one
//! change that is made as a whole or not at all: whoever was overtaken is refused and looks again. All names of a zone go
//! in one change. Nothing is remembered but the access token, as long as it is good.

mod api;
mod change;
mod error;
mod token;

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use reqwest::Url;

use crate::clock::Clock;
use crate::http::Http;
use crate::meter::Rate;
use crate::record::{Change, DnsName, RrSet, Zone};
use crate::secret::SecretSource;
use crate::{
    Context, Held, Provider, ProviderError, Receipt, RecordModel, Settled, Traits, configured,
};

use api::Api;
use token::Tokens;

/// Where the API is.
pub const ENDPOINT: &str = "https://dns.googleapis.com/dns/v1";
/// Where a machine of Google's learns who it is; the address alone, since the name needs a resolver.
pub const METADATA: &str = "http://169.254.169.254";
/// Far more fit into one request; but where a zone is large, each name takes a call to look at it, twice when somebody was
/// faster, and all of that is to be done within the time that a verb has.
const BATCH: usize = 50;
/// Half of the 600 requests a minute that a project may make unless it asked for more.
const RATE: Rate = Rate {
    burst: 20,
    every: Duration::from_millis(200),
};
/// Google says that most changes are everywhere within a minute or two; it also says when.
const PROPAGATION: Duration = Duration::from_secs(120);

/// How to reach the zones of one project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The key of a service account, in JSON; without one the metadata server of the machine is asked.
    pub credentials: Option<SecretSource>,
    /// The project that has the zones; the credential's own unless given.
    pub project: Option<String>,
    /// The names or ids of managed zones that need no look-up, by apex.
    pub zones: BTreeMap<DnsName, String>,
    /// The API's base address.
    pub endpoint: Url,
    /// The metadata server.
    pub metadata: Url,
}

impl Settings {
    /// Whether the credential is one. An error is a sentence.
    pub async fn judge(&self, clock: &Clock) -> Result<(), String> {
        match &self.credentials {
            None => Ok(()),
            Some(source) => token::judge(source, clock).await,
        }
    }
}

/// The plug-in: what one credential may see and change in one project.
pub struct GoogleCloud {
    zones: BTreeMap<DnsName, String>,
    http: Http,
    tokens: Tokens,
}

impl GoogleCloud {
    /// Takes the settings; nothing is read or asked before the first verb.
    pub fn new(settings: Settings) -> Self {
        Self {
            http: Http::new(settings.endpoint),
            tokens: Tokens::new(settings.credentials, settings.project, settings.metadata),
            zones: settings.zones,
        }
    }

    async fn api<'a>(&'a self, context: &'a Context) -> Result<Api<'a>, ProviderError> {
        Api::open(&self.http, &self.tokens, context).await
    }
}

#[async_trait]
impl Provider for GoogleCloud {
    fn traits(&self) -> Traits {
        Traits {
            model: RecordModel::SetWithProof,
            batch: BATCH,
            rate: Some(RATE),
            propagation: PROPAGATION,
        }
    }

    async fn zones(&self, name: &DnsName, context: &Context) -> Result<Vec<Held>, ProviderError> {
        // Where some are written down, no others are held.
        if !self.zones.is_empty() {
            return Ok(configured(&self.zones, name));
        }
        // Nobody has a zone of a top-level domain there.
        let candidates: Vec<DnsName> = name.and_above().filter(|name| name.labels() > 1).collect();
        if candidates.is_empty() {
            return Ok(Vec::new());
        }
        self.api(context).await?.zones(&candidates).await
    }

    async fn observe(
        &self,
        zone: &Zone,
        names: &[DnsName],
        context: &Context,
    ) -> Result<Vec<RrSet>, ProviderError> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let api = self.api(context).await?;
        change::observe(&api, zone, names).await
    }

    async fn apply(
        &self,
        zone: &Zone,
        changes: &[Change],
        believed: &[RrSet],
        context: &Context,
    ) -> Result<Receipt, ProviderError> {
        if changes.is_empty() {
            return Ok(Receipt::default());
        }
        let api = self.api(context).await?;
        change::apply(&api, zone, changes, believed).await
    }

    async fn settle(&self, ticket: &str, context: &Context) -> Result<Settled, ProviderError> {
        // A change is known by its number in its zone.
        let Some((zone, change)) = ticket.split_once('/') else {
            return Ok(Settled::Unknown);
        };
        let settled = self.api(context).await?.is_done(zone, change).await?;
        Ok(match settled {
            Some(true) => Settled::Everywhere,
            Some(false) => Settled::NotYet,
            None => Settled::Unknown,
        })
    }

    fn forgive(&self) {
        self.tokens.forget();
    }
}
