//! Azure DNS, by Azure Resource Manager.
//!
//! A record set is replaced as a whole, one call for each, on the condition that it is still what was read (its ETag), or
//! still not there: whoever was overtaken is refused and looks again. Nothing is remembered but the access token, as long
//! as it is good.

mod api;
mod change;
mod error;
mod ids;
mod token;

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use url::Url;

use crate::http::Http;
use crate::meter::Rate;
use crate::record::{Change, DnsName, RrSet, Zone};
use crate::{Context, Held, Provider, ProviderError, Receipt, RecordModel, Traits, configured};

use api::Api;
pub use ids::is_zone_id;
pub use token::Login;
use token::Tokens;

/// Where a machine of Azure's learns who it is.
pub const METADATA: &str = "http://169.254.169.254";
/// A name takes a call or two; so many of them are done well within the time that a verb has.
const BATCH: usize = 10;
/// Record sets may be written 200 times a minute.
const RATE: Rate = Rate {
    burst: 20,
    every: Duration::from_millis(300),
};
/// Azure says that changes are everywhere within a minute.
const PROPAGATION: Duration = Duration::from_secs(60);

/// A part of Azure with accounts of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cloud {
    /// The usual one.
    #[default]
    Public,
    /// Of the government of the United States.
    UsGovernment,
    /// Of China.
    China,
}

impl Cloud {
    /// The base address of Azure Resource Manager, for which tokens are.
    pub fn endpoint(self) -> &'static str {
        match self {
            Self::Public => "https://management.azure.com",
            Self::UsGovernment => "https://management.usgovcloudapi.net",
            Self::China => "https://management.chinacloudapi.cn",
        }
    }

    /// Where tokens are given.
    pub fn login(self) -> &'static str {
        match self {
            Self::Public => "https://login.microsoftonline.com",
            Self::UsGovernment => "https://login.microsoftonline.us",
            Self::China => "https://login.chinacloudapi.cn",
        }
    }
}

/// How to reach the zones of one subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Who we are there.
    pub login: Login,
    /// The subscription that has the zones.
    pub subscription: String,
    /// Only the zones of this resource group; of all, when there is none.
    pub resource_group: Option<String>,
    /// The resource ids of zones that need no look-up, by apex.
    pub zones: BTreeMap<DnsName, String>,
    /// The part of Azure.
    pub cloud: Cloud,
    /// The base address of Azure Resource Manager.
    pub endpoint: Url,
    /// Where tokens are given.
    pub login_endpoint: Url,
    /// The metadata server.
    pub metadata: Url,
}

/// The plug-in: what one identity may see and change in one subscription.
pub struct AzureDns {
    subscription: String,
    resource_group: Option<String>,
    zones: BTreeMap<DnsName, String>,
    http: Http,
    tokens: Tokens,
}

impl AzureDns {
    /// Takes the settings; nothing is read or asked before the first verb.
    pub fn new(settings: Settings) -> Self {
        Self {
            tokens: Tokens::new(&settings),
            http: Http::new(settings.endpoint),
            subscription: settings.subscription,
            resource_group: settings.resource_group,
            zones: settings.zones,
        }
    }

    async fn api<'a>(&'a self, context: &'a Context) -> Result<Api<'a>, ProviderError> {
        Api::open(&self.http, &self.tokens, context).await
    }
}

#[async_trait]
impl Provider for AzureDns {
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
        let (subscription, group) = (&self.subscription, self.resource_group.as_deref());
        let api = self.api(context).await?;
        api.zones(&candidates, subscription, group).await
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
        change::apply(&api, zone, changes, believed).await?;
        Ok(Receipt::default())
    }

    fn forgive(&self) {
        self.tokens.forget();
    }
}
