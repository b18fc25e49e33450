//! Amazon Route 53.
//!
//! A record set is replaced as a whole, by DELETE of exactly what is there and CREATE of what should be, both in one
//! batch that is made as a whole or not at all: whoever was overtaken is refused and looks again. All names of a zone go
//! in one request. Nothing is remembered but the credentials of a session, as long as they are good.

mod api;
mod batch;
mod credentials;
mod error;
mod profile;
mod sets;
mod sign;
mod surroundings;
mod xml;

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use reqwest::Url;

use crate::meter::Rate;
use crate::record::{Change, DnsName, RrSet, Zone};
use crate::secret::SecretSource;
use crate::{
    Context, Held, Provider, ProviderError, Receipt, RecordModel, Settled, Traits, configured,
};

use api::Api;
use credentials::Credentials;
use sets::Txt;
use sign::Service;

/// As many changes fit into one request, and replacing the sets of as many names that have some other values each.
const BATCH: usize = 200;
/// Half of what an account may ask for at least, for others use the account too.
const RATE: Rate = Rate {
    burst: 5,
    every: Duration::from_millis(200),
};
/// Amazon says 60 seconds; it also says when.
const PROPAGATION: Duration = Duration::from_secs(60);

/// How to reach Route 53.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where the credential comes from.
    pub source: Source,
    /// The role that is taken with it.
    pub assume_role: Option<AssumeRole>,
    /// The ids of zones, where asking for them is not wanted.
    pub zones: BTreeMap<DnsName, String>,
    /// The region: it tells the partition, and where roles are taken.
    pub region: String,
    /// Another endpoint than the partition's.
    pub endpoint: Option<Url>,
    /// Another endpoint of the Security Token Service than the region's.
    pub sts_endpoint: Option<Url>,
}

/// The region that is meant unless another is named.
pub const DEFAULT_REGION: &str = "us-east-1";

/// Where a credential comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The usual chain: environment, profile, web identity, container, instance.
    Chain,
    /// This profile of `~/.aws/config` and `~/.aws/credentials` and no other source.
    Profile(String),
    /// An access key.
    Key {
        /// Its id.
        id: String,
        /// Its secret.
        secret: SecretSource,
    },
}

/// A role of IAM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssumeRole {
    /// Its name.
    pub arn: String,
    /// What its trust policy may ask for.
    pub external_id: Option<String>,
    /// What the account's logs call the session.
    pub session_name: Option<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            source: Source::Chain,
            assume_role: None,
            zones: BTreeMap::new(),
            region: DEFAULT_REGION.to_owned(),
            endpoint: None,
            sts_endpoint: None,
        }
    }
}

/// The plug-in: one credential of one account.
pub struct Route53 {
    zones: BTreeMap<DnsName, String>,
    service: Service,
    credentials: Credentials,
}

impl Route53 {
    /// Takes the settings; nothing is read or asked before the first verb.
    pub fn new(settings: Settings) -> Self {
        let partition = Partition::of(&settings.region);
        let endpoint = settings.endpoint.clone();
        let endpoint = endpoint.unwrap_or_else(|| partition.endpoint());
        Self {
            service: Service::new("route53", partition.signing_region, endpoint),
            credentials: Credentials::new(&settings),
            zones: settings.zones,
        }
    }

    /// With these variables and this home directory in place of the process's own.
    #[cfg(any(test, feature = "testing"))]
    pub fn in_environment(
        mut self,
        variables: std::collections::HashMap<String, String>,
        home: std::path::PathBuf,
    ) -> Self {
        self.credentials = self.credentials.in_environment(variables, home);
        self
    }

    async fn api<'a>(&'a self, context: &'a Context) -> Result<Api<'a>, ProviderError> {
        Api::open(&self.service, &self.credentials, context).await
    }
}

/// A part of Amazon's cloud with accounts of its own.
struct Partition {
    host: &'static str,
    signing_region: &'static str,
}

impl Partition {
    fn of(region: &str) -> Self {
        let partitions = [
            ("cn-", "route53.amazonaws.com.cn", "cn-northwest-1"),
            ("us-gov-", "route53.us-gov.amazonaws.com", "us-gov-west-1"),
            ("eusc-", "route53.amazonaws.eu", "eusc-de-east-1"),
        ];
        let found = partitions
            .iter()
            .find(|(prefix, ..)| region.starts_with(prefix));
        let (host, signing_region) =
            found.map_or(("route53.amazonaws.com", DEFAULT_REGION), |it| (it.1, it.2));
        Self {
            host,
            signing_region,
        }
    }

    fn endpoint(&self) -> Url {
        Url::parse(&format!("https://{}/", self.host))
            .expect("one of four hosts that are spelt above")
    }
}

#[async_trait]
impl Provider for Route53 {
    fn traits(&self) -> Traits {
        Traits {
            model: RecordModel::SetWithProof,
            batch: BATCH,
            rate: Some(RATE),
            propagation: PROPAGATION,
        }
    }

    async fn zones(&self, name: &DnsName, context: &Context) -> Result<Vec<Held>, ProviderError> {
        if !self.zones.is_empty() {
            return Ok(configured(&self.zones, name));
        }
        let suffixes: Vec<DnsName> = name.and_above().collect();
        // Nobody has a zone of a top-level domain there.
        let candidates = &suffixes[..(suffixes.len() - 1).max(1)];
        let api = self.api(context).await?;
        let found = api.zones(candidates).await?;
        let mut held = Vec::with_capacity(found.len());
        for candidate in candidates {
            let of_name = found.iter().filter(|zone| zone.name == candidate.as_str());
            held.extend(of_name.map(|zone| {
                Held::from(Zone {
                    name: candidate.clone(),
                    id: zone.id.clone(),
                })
            }));
        }
        Ok(held)
    }

    async fn nameservers(
        &self,
        zone: &Zone,
        context: &Context,
    ) -> Result<Vec<DnsName>, ProviderError> {
        self.api(context).await?.nameservers(zone).await
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
        let wanted: Vec<&DnsName> = names.iter().collect();
        let sets = self.api(context).await?.sets(zone, &wanted).await?;
        let observed = names.iter().zip(&sets);
        Ok(observed
            .map(|(name, set)| Txt::observed(name, set.as_ref()))
            .collect())
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
        batch::apply(&api, zone, changes, believed).await
    }

    async fn settle(&self, change: &str, context: &Context) -> Result<Settled, ProviderError> {
        match self.api(context).await?.is_in_sync(change).await {
            Ok(true) => Ok(Settled::Everywhere),
            Ok(false) => Ok(Settled::NotYet),
            // It is forgotten there after a while.
            Err(error) if error.code.as_deref() == Some("NoSuchChange") => Ok(Settled::Unknown),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[test]
    fn the_region_tells_the_partition() {
        let seen = |region: &str| {
            let partition = Partition::of(region);
            (partition.endpoint().to_string(), partition.signing_region)
        };
        let usual = ("https://route53.amazonaws.com/".to_owned(), "us-east-1");
        assert_eq!(seen("us-east-1"), usual);
        assert_eq!(seen("eu-central-1"), usual);
        assert_eq!(seen("cn-north-1").0, "https://route53.amazonaws.com.cn/");
        assert_eq!(seen("us-gov-east-1").1, "us-gov-west-1");
    }
}
