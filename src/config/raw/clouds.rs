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
