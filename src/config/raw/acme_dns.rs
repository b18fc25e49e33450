//! `acme-dns`, as typed.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Secret, Unknown};

/// An acme-dns server, with accounts that were registered there.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(
    default,
    rename_all = "kebab-case",
    expecting = "a mapping with url and accounts"
)]
#[schemars(deny_unknown_fields, extend("required" = ["url", "accounts"]))]
pub(in crate::config) struct AcmeDns {
    /// The address before `/update`: https, or http on loopback.
    pub(in crate::config) url: Option<String>,
    /// The accounts, as lego or the acme-dns hook for certbot keep them in a file; none is registered.
    pub(in crate::config) accounts: Option<Secret>,
    #[serde(flatten)]
    #[schemars(skip)]
    pub(in crate::config) unknown: Unknown,
}
