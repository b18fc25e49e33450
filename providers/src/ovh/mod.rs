//! OVHcloud, by its API 1.0.
//!
//! Records are single values there. What was changed is published by one more call, the refresh: every change ends with it,
//! also one that found nothing to do, since somebody may have been stopped between a record and its refresh.

mod api;
mod change;
mod error;

use std::time::Duration;

use async_trait::async_trait;
use url::Url;

use crate::http::Http;
use crate::meter::Rate;
use crate::record::{Change, DnsName, RrSet, Zone};
use crate::secret::SecretSource;
use crate::{Context, Held, Provider, ProviderError, Receipt, RecordModel, Traits};

use api::Api;

/// A name takes three calls, and one for each record at it: so many are done within the time that a verb has, with a dozen
/// records at each.
const BATCH: usize = 10;
/// The API does not say how often it may be asked; this is what it bears from a person's scripts.
const RATE: Rate = Rate {
    burst: 50,
    every: Duration::from_millis(200),
};
/// A refresh is usually everywhere within a minute or two.
const PROPAGATION: Duration = Duration::from_secs(120);

/// The API of each part of the company, which have accounts of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Region {
    /// Europe.
    #[default]
    Eu,
    /// Canada, and everything that is in neither of the others.
    Ca,
    /// The United States.
    Us,
}

impl Region {
    /// The API's base address.
    pub fn endpoint(self) -> &'static str {
        match self {
            Self::Eu => "https://eu.api.ovh.com/1.0",
            Self::Ca => "https://ca.api.ovh.com/1.0",
            Self::Us => "https://api.us.ovhcloud.com/1.0",
        }
    }
}

/// How to reach the zones of one account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The application's key, which is no secret.
    pub application_key: String,
    /// The application's secret.
    pub application_secret: SecretSource,
    /// What the account's owner let the application do.
    pub consumer_key: SecretSource,
    /// Zones that need no look-up; all are looked up when there are none.
    pub zones: Vec<DnsName>,
    /// The API's base address.
    pub endpoint: Url,
}

/// The plug-in: what one consumer key may see and change.
pub struct Ovh {
    settings: Settings,
    http: Http,
}

impl Ovh {
    /// Takes the settings; nothing is read or asked before the first verb.
    pub fn new(settings: Settings) -> Self {
        let http = Http::new(settings.endpoint.clone());
        Self { settings, http }
    }

    async fn api<'a>(&'a self, context: &'a Context) -> Result<Api<'a>, ProviderError> {
        Api::open(&self.http, &self.settings, context).await
    }
}

#[async_trait]
impl Provider for Ovh {
    fn traits(&self) -> Traits {
        Traits {
            model: RecordModel::Value,
            batch: BATCH,
            rate: Some(RATE),
            propagation: PROPAGATION,
        }
    }

    async fn zones(&self, name: &DnsName, context: &Context) -> Result<Vec<Held>, ProviderError> {
        let zones = match self.settings.zones.is_empty() {
            true => self.api(context).await?.zones(name).await?,
            false => self.settings.zones.clone(),
        };
        let candidates = name.and_above();
        let held = candidates.filter(|name| zones.contains(name));
        let held = held.map(|name| Zone {
            id: name.to_string(),
            name,
        });
        Ok(held.map(Held::from).collect())
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
        _: &[RrSet],
        context: &Context,
    ) -> Result<Receipt, ProviderError> {
        if changes.is_empty() {
            return Ok(Receipt::default());
        }
        let api = self.api(context).await?;
        let handles = change::apply(&api, zone, changes).await?;
        Ok(Receipt {
            ticket: None,
            handles,
        })
    }
}
