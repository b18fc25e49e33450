//! `providers`: the plug-ins as typed.

use std::fmt;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    AcmeDns, AcmeSh, AzureDns, CertbotHooks, Entries, GoogleCloud, LegoExec, LegoHttpreq, Ovh,
    Process, Secret, SecretForm, Unknown,
};

/// A DNS host; exactly one key, which is the plug-in.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(
    default,
    rename_all = "kebab-case",
    expecting = "a mapping with one key, the plug-in"
)]
#[schemars(deny_unknown_fields, extend("minProperties" = 1, "maxProperties" = 1))]
pub(in crate::config) struct Provider {
    /// An acme-dns server, with accounts that were registered there.
    pub(in crate::config) acme_dns: Option<AcmeDns>,
    /// A script of your own acme.sh.
    pub(in crate::config) acme_sh: Option<AcmeSh>,
    /// Azure DNS.
    pub(in crate::config) azuredns: Option<AzureDns>,
    /// Cloudflare.
    pub(in crate::config) cloudflare: Option<Cloudflare>,
    /// Google Cloud DNS.
    pub(in crate::config) googlecloud: Option<GoogleCloud>,
    /// OVHcloud.
    pub(in crate::config) ovh: Option<Ovh>,
    /// DNS UPDATE (RFC 2136) with TSIG (RFC 8945).
    pub(in crate::config) rfc2136: Option<Rfc2136>,
    /// Amazon Route 53.
    pub(in crate::config) route53: Option<Route53>,
    /// A host by a manifest of your own: `file`, and what the manifest wants.
    pub(in crate::config) manifest: Option<Rest>,
    /// bunny.net, by its shipped manifest: `token`.
    pub(in crate::config) bunny: Option<Rest>,
    /// deSEC, by its shipped manifest: `token`.
    pub(in crate::config) desec: Option<Rest>,
    /// DigitalOcean, by its shipped manifest: `token`.
    pub(in crate::config) digitalocean: Option<Rest>,
    /// DNSimple, by its shipped manifest: `token`, `account`.
    pub(in crate::config) dnsimple: Option<Rest>,
    /// Gandi LiveDNS, by its shipped manifest: `token`.
    pub(in crate::config) gandi: Option<Rest>,
    /// Hetzner Cloud DNS, by its shipped manifest: `token`.
    pub(in crate::config) hetzner: Option<Rest>,
    /// IONOS, by its shipped manifest: `token`.
    pub(in crate::config) ionos: Option<Rest>,
    /// Linode (Akamai), by its shipped manifest: `token`.
    pub(in crate::config) linode: Option<Rest>,
    /// Porkbun, by its shipped manifest: `api-key`, `secret`.
    pub(in crate::config) porkbun: Option<Rest>,
    /// PowerDNS, by its shipped manifest: `endpoint`, `token`, `server`.
    pub(in crate::config) powerdns: Option<Rest>,
    /// Scaleway, by its shipped manifest: `token`.
    pub(in crate::config) scaleway: Option<Rest>,
    /// Vultr, by its shipped manifest: `token`.
    pub(in crate::config) vultr: Option<Rest>,
    /// A program of your own.
    pub(in crate::config) process: Option<Process>,
    /// A script for lego's provider `exec`.
    pub(in crate::config) lego_exec: Option<LegoExec>,
    /// A server for lego's provider `httpreq`.
    pub(in crate::config) lego_httpreq: Option<LegoHttpreq>,
    /// Scripts for certbot's manual hooks.
    pub(in crate::config) certbot_hooks: Option<CertbotHooks>,
    /// A person, who adds each record by hand: `{}`.
    pub(in crate::config) manual: Option<Manual>,
    #[serde(flatten)]
    #[schemars(skip)]
    pub(in crate::config) unknown: Unknown,
}

/// A person: there is nothing to set.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, expecting = "an empty mapping, {}")]
#[schemars(deny_unknown_fields)]
pub(in crate::config) struct Manual {
    #[serde(flatten)]
    #[schemars(skip)]
    pub(in crate::config) unknown: Unknown,
}

/// Zones at Cloudflare.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, rename_all = "kebab-case", expecting = "a mapping with token")]
#[schemars(deny_unknown_fields, extend("required" = ["token"]))]
pub(in crate::config) struct Cloudflare {
    /// The API token, with the permissions Zone / DNS / Edit and, unless all zones are in `zones`, Zone / Zone / Read.
    pub(in crate::config) token: Option<Secret>,
    /// The ids of zones by their names; these are not looked up.
    pub(in crate::config) zones: Option<Entries<String>>,
    /// The API's base address. Default: Cloudflare's own.
    pub(in crate::config) endpoint: Option<String>,
    #[serde(flatten)]
    #[schemars(skip)]
    pub(in crate::config) unknown: Unknown,
}

impl Provider {
    /// The hosts by their manifests, with the names of their plug-ins.
    pub(in crate::config) fn rest(&self) -> [(&'static str, Option<&Rest>); 13] {
        [
            ("manifest", self.manifest.as_ref()),
            ("bunny", self.bunny.as_ref()),
            ("desec", self.desec.as_ref()),
            ("digitalocean", self.digitalocean.as_ref()),
            ("dnsimple", self.dnsimple.as_ref()),
            ("gandi", self.gandi.as_ref()),
            ("hetzner", self.hetzner.as_ref()),
            ("ionos", self.ionos.as_ref()),
            ("linode", self.linode.as_ref()),
            ("porkbun", self.porkbun.as_ref()),
            ("powerdns", self.powerdns.as_ref()),
            ("scaleway", self.scaleway.as_ref()),
            ("vultr", self.vultr.as_ref()),
        ]
    }
}

/// A host by its manifest, which says what it wants; every host takes `endpoint`.
#[derive(Debug)]
pub(in crate::config) struct Rest(pub(in crate::config) Entries<Given>);

/// What a manifest is given: a text, or where a secret is.
#[derive(JsonSchema)]
#[schemars(untagged)]
pub(in crate::config) enum Given {
    Text(String),
    Secret(SecretForm),
}

/// Never the text, which may be a secret in the wrong place.
impl fmt::Debug for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Given")
    }
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

/// Zones at Amazon Route 53. With nothing said, the credential comes from the usual chain.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(
    default,
    rename_all = "kebab-case",
    expecting = "a mapping, which may be empty: {}"
)]
#[schemars(deny_unknown_fields)]
pub(in crate::config) struct Route53 {
    /// A profile of `~/.aws/config` or `~/.aws/credentials`; no other source is asked then.
    pub(in crate::config) profile: Option<String>,
    /// An access key, with `secret-access-key`.
    pub(in crate::config) access_key_id: Option<String>,
    /// The secret of the access key.
    pub(in crate::config) secret_access_key: Option<Secret>,
    /// A role that is taken with the credential.
    pub(in crate::config) assume_role: Option<AssumeRole>,
    /// The ids of hosted zones by their names; with these no other zones are looked for.
    pub(in crate::config) zones: Option<Entries<String>>,
    /// Where roles are taken; it also tells China and GovCloud from the rest. Default: `us-east-1`.
    pub(in crate::config) region: Option<String>,
    /// The API's base address. Default: that of the region's partition.
    pub(in crate::config) endpoint: Option<String>,
    /// The base address of the Security Token Service. Default: that of the region.
    pub(in crate::config) sts_endpoint: Option<String>,
    #[serde(flatten)]
    #[schemars(skip)]
    pub(in crate::config) unknown: Unknown,
}

/// A role of IAM.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, rename_all = "kebab-case", expecting = "a mapping with arn")]
#[schemars(deny_unknown_fields, extend("required" = ["arn"]))]
pub(in crate::config) struct AssumeRole {
    /// The role, e.g. `arn:aws:iam::123456789012:role/dns`.
    pub(in crate::config) arn: Option<String>,
    /// What the role's trust policy asks for, if it does.
    pub(in crate::config) external_id: Option<String>,
    /// What the account's logs call us. Default: `countersign`.
    pub(in crate::config) session_name: Option<String>,
    #[serde(flatten)]
    #[schemars(skip)]
    pub(in crate::config) unknown: Unknown,
}
