//! `acme-sh`, `lego-exec`, `lego-httpreq` and `certbot-hooks`: what was written for other clients, as typed.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Entries, Secret, Unknown};

/// A script of your own acme.sh.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(
    default,
    rename_all = "kebab-case",
    expecting = "a mapping with home and script"
)]
#[schemars(deny_unknown_fields, extend("required" = ["home", "script"]))]
pub(in crate::config) struct AcmeSh {
    /// Where acme.sh is installed, by its absolute path.
    pub(in crate::config) home: Option<String>,
    /// The script of its `dnsapi`, without `.sh`, e.g. `dns_nic`.
    pub(in crate::config) script: Option<String>,
    /// Variables that the script wants; nothing of them is saved. It has PATH, HOME and LANG besides.
    pub(in crate::config) env: Option<Entries<Secret>>,
    /// The zones that it can write to. Default: any, which is good where it is the only provider or is named.
    pub(in crate::config) zones: Option<Vec<String>>,
    #[serde(flatten)]
    #[schemars(skip)]
    pub(in crate::config) unknown: Unknown,
}

/// A script for lego's provider `exec`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(
    default,
    rename_all = "kebab-case",
    expecting = "a mapping with command"
)]
#[schemars(deny_unknown_fields, extend("required" = ["command"]))]
pub(in crate::config) struct LegoExec {
    /// The script, by its absolute path, and arguments before `present` or `cleanup`, the name and the value; no shell.
    pub(in crate::config) command: Option<Vec<String>>,
    /// Variables of its environment that hold secrets; it has PATH, HOME and LANG besides.
    pub(in crate::config) env: Option<Entries<Secret>>,
    /// The zones that it can write to. Default: any, which is good where it is the only provider or is named.
    pub(in crate::config) zones: Option<Vec<String>>,
    #[serde(flatten)]
    #[schemars(skip)]
    pub(in crate::config) unknown: Unknown,
}

/// A server for lego's provider `httpreq`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(
    default,
    rename_all = "kebab-case",
    expecting = "a mapping with endpoint"
)]
#[schemars(deny_unknown_fields, extend("required" = ["endpoint"]))]
pub(in crate::config) struct LegoHttpreq {
    /// The address before `/present` and `/cleanup`: https, or http on loopback.
    pub(in crate::config) endpoint: Option<String>,
    /// Who logs in; left out with the password: nobody does.
    pub(in crate::config) username: Option<String>,
    /// The password that goes with it.
    pub(in crate::config) password: Option<Secret>,
    /// The zones that it can write to. Default: any, which is good where it is the only provider or is named.
    pub(in crate::config) zones: Option<Vec<String>>,
    #[serde(flatten)]
    #[schemars(skip)]
    pub(in crate::config) unknown: Unknown,
}

/// Scripts for certbot's manual hooks.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(
    default,
    rename_all = "kebab-case",
    expecting = "a mapping with auth and cleanup"
)]
#[schemars(deny_unknown_fields, extend("required" = ["auth", "cleanup"]))]
pub(in crate::config) struct CertbotHooks {
    /// What puts a value there: a program, by its absolute path, and its arguments; no shell.
    pub(in crate::config) auth: Option<Vec<String>>,
    /// What takes it away; it finds what the other one printed, without the secrets, in CERTBOT_AUTH_OUTPUT.
    pub(in crate::config) cleanup: Option<Vec<String>>,
    /// Variables of their environment that hold secrets; they have PATH, HOME, LANG and certbot's besides.
    pub(in crate::config) env: Option<Entries<Secret>>,
    /// The zones that they can write to. Default: any, which is good where it is the only provider or is named.
    pub(in crate::config) zones: Option<Vec<String>>,
    #[serde(flatten)]
    #[schemars(skip)]
    pub(in crate::config) unknown: Unknown,
}
