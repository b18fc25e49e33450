//! `providers`: clouds whose plug-ins are code, as typed.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Entries, Secret, Unknown};

/// Zones at Google Cloud DNS. With nothing said, the machine itself is asked who it is.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(
    default,
    rename_all = "kebab-case",
    expecting = "a mapping, which may be empty: {}"
)]
#[schemars(deny_unknown_fields)]
pub(in crate::config) struct GoogleCloud {
    /// The key of a service account, in JSON. Default: the service account of the machine, by its metadata server.
    pub(in crate::config) credentials: Option<Secret>,
    /// The project that has the zones. Default: the credential's own.
    pub(in crate::config) project: Option<String>,
    /// The names or ids of managed zones by the names of the zones; with these no other zones are looked for.
    pub(in crate::config) zones: Option<Entries<String>>,
    /// The API's base address. Default: Google's own.
    pub(in crate::config) endpoint: Option<String>,
    /// The base address of the metadata server. Default: that of every machine at Google.
    pub(in crate::config) metadata_endpoint: Option<String>,
    #[serde(flatten)]
    #[schemars(skip)]
    pub(in crate::config) unknown: Unknown,
}

/// Zones at OVHcloud.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(
    default,
    rename_all = "kebab-case",
    expecting = "a mapping with application-key, application-secret and consumer-key"
)]
#[schemars(
    deny_unknown_fields,
    extend("required" = ["application-key", "application-secret", "consumer-key"])
)]
pub(in crate::config) struct Ovh {
    /// The key of an application; it is no secret.
    pub(in crate::config) application_key: Option<String>,
    /// The application's secret.
    pub(in crate::config) application_secret: Option<Secret>,
    /// A consumer key that may GET, POST and DELETE below `/domain/zone`.
    pub(in crate::config) consumer_key: Option<Secret>,
    /// Which part of the company has the account: `eu`, `ca` or `us`. Default: `eu`.
    #[schemars(extend("enum" = ["eu", "ca", "us"]))]
    pub(in crate::config) region: Option<String>,
    /// The names of zones; with these no other zones are looked for.
    pub(in crate::config) zones: Option<Vec<String>>,
    /// The API's base address. Default: that of the region.
    pub(in crate::config) endpoint: Option<String>,
    #[serde(flatten)]
    #[schemars(skip)]
    pub(in crate::config) unknown: Unknown,
}

/// Zones at Azure DNS, by an application's secret, another issuer's token, or the identity of the machine.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(
    default,
    rename_all = "kebab-case",
    expecting = "a mapping with subscription and an identity"
)]
#[schemars(deny_unknown_fields, extend("required" = ["subscription"]))]
pub(in crate::config) struct AzureDns {
    /// The id of the subscription that has the zones.
    pub(in crate::config) subscription: Option<String>,
    /// Only the zones of this resource group. Default: all of the subscription.
    pub(in crate::config) resource_group: Option<String>,
    /// The tenant of the application.
    pub(in crate::config) tenant: Option<String>,
    /// The application's id.
    pub(in crate::config) client_id: Option<String>,
    /// The application's secret.
    pub(in crate::config) client_secret: Option<Secret>,
    /// An application that trusts another issuer, e.g. a cluster of Kubernetes.
    pub(in crate::config) workload_identity: Option<WorkloadIdentity>,
    /// The identity of the machine.
    pub(in crate::config) managed_identity: Option<ManagedIdentity>,
    /// The resource ids of zones by their names; with these no other zones are looked for.
    pub(in crate::config) zones: Option<Entries<String>>,
    /// The part of Azure: `public`, `usgovernment` or `china`. Default: `public`.
    #[schemars(extend("enum" = ["public", "usgovernment", "china"]))]
    pub(in crate::config) cloud: Option<String>,
    /// The base address of Azure Resource Manager. Default: that of the cloud.
    pub(in crate::config) endpoint: Option<String>,
    /// The base address where tokens are given. Default: that of the cloud.
    pub(in crate::config) login_endpoint: Option<String>,
    /// The base address of the metadata server. Default: that of every machine at Azure.
    pub(in crate::config) metadata_endpoint: Option<String>,
    #[serde(flatten)]
    #[schemars(skip)]
    pub(in crate::config) unknown: Unknown,
}

/// An application that trusts another issuer.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(
    default,
    rename_all = "kebab-case",
    expecting = "a mapping with tenant, client-id and token"
)]
#[schemars(deny_unknown_fields, extend("required" = ["tenant", "client-id", "token"]))]
pub(in crate::config) struct WorkloadIdentity {
    /// The tenant of the application.
    pub(in crate::config) tenant: Option<String>,
    /// The application's id.
    pub(in crate::config) client_id: Option<String>,
    /// The other issuer's token, which it renews there.
    pub(in crate::config) token: Option<Secret>,
    #[serde(flatten)]
    #[schemars(skip)]
    pub(in crate::config) unknown: Unknown,
}

/// The identity of the machine.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(
    default,
    rename_all = "kebab-case",
    expecting = "a mapping, which may be empty: {}"
)]
#[schemars(deny_unknown_fields)]
pub(in crate::config) struct ManagedIdentity {
    /// The client id of the identity, where the machine has several.
    pub(in crate::config) client_id: Option<String>,
    #[serde(flatten)]
    #[schemars(skip)]
    pub(in crate::config) unknown: Unknown,
}
