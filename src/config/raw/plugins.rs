//! `providers`: the plug-ins as typed.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{CertbotHooks, LegoExec, LegoHttpreq, Process, Secret, Unknown};

/// A DNS host; exactly one key, which is the plug-in.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(
    default,
    rename_all = "kebab-case",
    expecting = "a mapping with one key, the plug-in"
)]
#[schemars(deny_unknown_fields, extend("minProperties" = 1, "maxProperties" = 1))]
pub(in crate::config) struct Provider {
    /// DNS UPDATE (RFC 2136) with TSIG (RFC 8945).
    pub(in crate::config) rfc2136: Option<Rfc2136>,
    /// A program of your own.
    pub(in crate::config) process: Option<Process>,
    /// A script for lego's provider `exec`.
    pub(in crate::config) lego_exec: Option<LegoExec>,
    /// A server for lego's provider `httpreq`.
    pub(in crate::config) lego_httpreq: Option<LegoHttpreq>,
    /// Scripts for certbot's manual hooks.
    pub(in crate::config) certbot_hooks: Option<CertbotHooks>,
    #[serde(flatten)]
    #[schemars(skip)]
    pub(in crate::config) unknown: Unknown,
}

/// A server that takes DNS UPDATE.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(
    default,
    rename_all = "kebab-case",
    expecting = "a mapping with server and tsig"
)]
#[schemars(deny_unknown_fields, extend("required" = ["server"]))]
pub(in crate::config) struct Rfc2136 {
    /// `host`, `host:port`, `address`, `address:port` or `[address]:port`. Port 53 unless given.
    pub(in crate::config) server: Option<String>,
    /// The key that signs updates; without one the server must allow this machine's address.
    pub(in crate::config) tsig: Option<Tsig>,
    /// The zone; found by asking the server unless given.
    pub(in crate::config) zone: Option<String>,
    #[serde(flatten)]
    #[schemars(skip)]
    pub(in crate::config) unknown: Unknown,
}

/// A TSIG key: a key file, or its parts.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(
    default,
    rename_all = "kebab-case",
    expecting = "a mapping with keyfile, or with name, algorithm and secret"
)]
#[schemars(deny_unknown_fields)]
pub(in crate::config) struct Tsig {
    /// A file as `tsig-keygen` or `keymgr -t` write it.
    pub(in crate::config) keyfile: Option<String>,
    /// The key's name.
    pub(in crate::config) name: Option<String>,
    /// `hmac-sha256`, `hmac-sha384` or `hmac-sha512`.
    #[schemars(extend("enum" = ["hmac-sha256", "hmac-sha384", "hmac-sha512"]))]
    pub(in crate::config) algorithm: Option<String>,
    /// The key itself, in base64.
    pub(in crate::config) secret: Option<Secret>,
    #[serde(flatten)]
    #[schemars(skip)]
    pub(in crate::config) unknown: Unknown,
}
