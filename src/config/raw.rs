//! The configuration as typed: its keys, their shapes and their descriptions, and nothing about what they mean.
//!
//! Scalars stay text, so that every judgement is made once, in the checking, with a sentence of its own. Keys that
//! nobody knows are kept rather than refused, so that all of them can be reported. `config/schema.json` is generated
//! from these types, and so is the list of known keys that a misspelt one is compared with.

mod acme_dns;
mod clouds;
mod plugins;
mod process;
mod reading;
mod runners;

use std::fmt;

use schemars::JsonSchema;
use serde::Deserialize;

pub(super) use acme_dns::AcmeDns;
pub(super) use clouds::{AzureDns, GoogleCloud, ManagedIdentity, Ovh, WorkloadIdentity};
pub(super) use plugins::{
    AssumeRole, Cloudflare, Given, Manual, Provider, Rest, Rfc2136, Route53, Tsig,
};
pub(super) use process::Process;
pub(super) use runners::{AcmeSh, CertbotHooks, LegoExec, LegoHttpreq};

/// The configuration of Countersign.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, rename_all = "kebab-case", expecting = "a mapping")]
#[schemars(deny_unknown_fields)]
pub(super) struct Root {
    /// The directory of the embedded store. Default: /var/lib/countersign.
    pub(super) state: Option<String>,
    /// Where the key that seals private material is. Default: a file of mode 0600 beside the store.
    pub(super) seal_key: Option<Secret>,
    /// Other files with the same keys, e.g. `conf.d/*.yaml`; a list takes them in its order, a pattern by name.
    pub(super) include: Option<OneOrMany>,
    /// How logs are written, to stderr.
    pub(super) log: Option<Log>,
    /// `/health`, `/health/ready` and `/metrics` over HTTP, for `run`. Default: none.
    pub(super) web: Option<Web>,
    /// Where a person hears of it: the first failure that needs one, half of the time left gone, recovery; each once.
    pub(super) alerts: Option<Vec<Alert>>,
    /// A URL that is called after each healthy round: every 5 minutes while no certificate is failing or expired.
    pub(super) heartbeat: Option<Address>,
    /// The ACME authorities, tried in this order. `letsencrypt`, `letsencrypt-staging`, `google` and `zerossl` have built-in directories.
    pub(super) authorities: Option<Entries<Authority>>,
    /// The DNS hosts that Countersign may write to, under any name; the key inside says which plug-in.
    pub(super) providers: Option<Entries<Provider>>,
    /// The built-in nameserver for delegated challenge names.
    pub(super) nameserver: Option<Nameserver>,
    /// How Countersign looks at the DNS.
    pub(super) dns: Option<Dns>,
    /// What certificates use that do not say otherwise.
    pub(super) defaults: Option<Defaults>,
    /// Places where certificates go, under a name that `deliver` may use.
    pub(super) targets: Option<Entries<Target>>,
    /// The certificates, by name: `[a-z0-9][a-z0-9-]{0,62}`.
    pub(super) certificates: Option<Entries<Certificate>>,
    #[serde(flatten)]
    #[schemars(skip)]
    pub(super) unknown: Unknown,
}

/// How logs are written.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, rename_all = "kebab-case", expecting = "a mapping")]
#[schemars(deny_unknown_fields)]
pub(super) struct Log {
    /// `text` or `json`. Default: text.
    #[schemars(extend("enum" = ["text", "json"]))]
    pub(super) format: Option<String>,
    /// `error`, `warn`, `info`, `debug` or `trace`. Default: info.
    #[schemars(extend("enum" = ["error", "warn", "info", "debug", "trace"]))]
    pub(super) level: Option<String>,
    #[serde(flatten)]
    #[schemars(skip)]
    pub(super) unknown: Unknown,
}

/// What is served over HTTP.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(
    default,
    rename_all = "kebab-case",
    expecting = "a mapping with listen"
)]
#[schemars(deny_unknown_fields, extend("required" = ["listen"]))]
pub(super) struct Web {
    /// An address with a port. Nobody is asked for a password there, so loopback is best.
    pub(super) listen: Option<String>,
    /// Names and addresses by which others call this server, besides the address that it listens on; a request for any other is refused.
    pub(super) hosts: Option<Vec<String>>,
    #[serde(flatten)]
    #[schemars(skip)]
    pub(super) unknown: Unknown,
}

/// One way to a person; exactly one key, which is its kind.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(
    default,
    rename_all = "kebab-case",
    expecting = "a mapping with one of webhook, smtp and command"
)]
#[schemars(deny_unknown_fields, extend("minProperties" = 1, "maxProperties" = 1))]
pub(super) struct Alert {
    /// A URL that is sent a POST.
    pub(super) webhook: Option<Webhook>,
    /// A mail server.
    pub(super) smtp: Option<Smtp>,
    /// A program and its arguments, which gets the text on its standard input; no shell.
    pub(super) command: Option<Vec<String>>,
    #[serde(flatten)]
    #[schemars(skip)]
    pub(super) unknown: Unknown,
}

/// A webhook in full.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, rename_all = "kebab-case", expecting = "a mapping with url")]
#[schemars(deny_unknown_fields, extend("required" = ["url"]))]
pub(super) struct WebhookForm {
    /// Its URL: https, or http on loopback; or where the URL is, when it is a secret itself.
    pub(super) url: Option<Address>,
    /// What is sent: `json`, `slack`, `ntfy` or `text`. Default: json.
    #[schemars(extend("enum" = ["json", "slack", "ntfy", "text"]))]
    pub(super) template: Option<String>,
    #[serde(flatten)]
    #[schemars(skip)]
    pub(super) unknown: Unknown,
}

/// A mail server, and who gets mail.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(
    default,
    rename_all = "kebab-case",
    expecting = "a mapping with server, from and to"
)]
#[schemars(deny_unknown_fields, extend("required" = ["server", "from", "to"]))]
pub(super) struct Smtp {
    /// `host` or `host:port`. Port 465 is TLS from the start, every other one STARTTLS; plain only on loopback without `trust`. Port 587 unless given.
    pub(super) server: Option<String>,
    /// The sender's address.
    pub(super) from: Option<String>,
    /// The addresses of those who get it.
    pub(super) to: Option<Vec<String>>,
    /// Who logs in; left out: nobody does.
    pub(super) username: Option<String>,
    /// The password that goes with it.
    pub(super) password: Option<Secret>,
    /// A PEM file with extra roots for the server's TLS.
    pub(super) trust: Option<String>,
    #[serde(flatten)]
    #[schemars(skip)]
    pub(super) unknown: Unknown,
}

/// An ACME authority.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, rename_all = "kebab-case", expecting = "a mapping")]
#[schemars(deny_unknown_fields)]
pub(super) struct Authority {
    /// The URL of its directory (RFC 8555 section 7.1.1).
    pub(super) directory: Option<String>,
    /// Whether you agree to its terms of service.
    pub(super) agree_to_terms: Option<bool>,
    /// Mail addresses of the account.
    pub(super) contact: Option<Vec<String>>,
    /// The certificate profile to ask for.
    pub(super) profile: Option<String>,
    /// What binds the account to one that you have with the authority already (RFC 8555 section 7.3.4).
    pub(super) external_account: Option<ExternalAccount>,
    /// The preferred chain, by the common name of an issuer in it.
    pub(super) chain: Option<String>,
    /// A PEM file with extra roots for the authority's own HTTPS.
    pub(super) trust: Option<String>,
    /// How the DNS looks from this authority, where that differs from `dns` at the top.
    pub(super) dns: Option<Dns>,
    /// Other hosts, `name` or `name:port`, on which its URLs may be. Default: only that of its directory.
    pub(super) hosts: Option<Vec<String>>,
    /// Allows a directory over plain http.
    pub(super) insecure: Option<bool>,
    #[serde(flatten)]
    #[schemars(skip)]
    pub(super) unknown: Unknown,
}

/// An external account binding.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(
    default,
    rename_all = "kebab-case",
    expecting = "a mapping with key-id and mac-key"
)]
#[schemars(deny_unknown_fields, extend("required" = ["key-id", "mac-key"]))]
pub(super) struct ExternalAccount {
    /// The key identifier that the authority gave you.
    pub(super) key_id: Option<String>,
    /// The MAC key that the authority gave you, in base64url.
    pub(super) mac_key: Option<Secret>,
    #[serde(flatten)]
    #[schemars(skip)]
    pub(super) unknown: Unknown,
}

/// The built-in nameserver.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(
    default,
    rename_all = "kebab-case",
    expecting = "a mapping with zone, listen and hosts"
)]
#[schemars(deny_unknown_fields, extend("required" = ["zone", "listen", "hosts"]))]
pub(super) struct Nameserver {
    /// The zone it is authoritative for.
    pub(super) zone: Option<String>,
    /// Addresses with ports, UDP and TCP each.
    pub(super) listen: Option<Vec<String>>,
    /// The zone's own nameservers, inside the zone, and their addresses.
    pub(super) hosts: Option<Entries<Vec<String>>>,
    #[serde(flatten)]
    #[schemars(skip)]
    pub(super) unknown: Unknown,
}

/// How the DNS is looked at.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, rename_all = "kebab-case", expecting = "a mapping")]
#[schemars(deny_unknown_fields)]
pub(super) struct Dns {
    /// `roots`: from the roots down to every authoritative address. `resolvers`: through resolvers. Default: roots.
    #[schemars(extend("enum" = ["roots", "resolvers"]))]
    pub(super) look: Option<String>,
    /// Addresses where the walk starts. Default: the real root servers.
    pub(super) roots: Option<Vec<String>>,
    /// The port of every server on the way. Default: 53.
    #[schemars(range(min = 1, max = 65535))]
    pub(super) port: Option<i64>,
    /// Addresses of resolvers, each with a port of its own if it has one. Default: those of the system.
    pub(super) resolvers: Option<Vec<String>>,
    #[serde(flatten)]
    #[schemars(skip)]
    pub(super) unknown: Unknown,
}

/// What certificates use that do not say otherwise.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, rename_all = "kebab-case", expecting = "a mapping")]
#[schemars(deny_unknown_fields)]
pub(super) struct Defaults {
    /// `p256` or `p384`. Default: p256.
    #[schemars(extend("enum" = ["p256", "p384"]))]
    pub(super) key: Option<String>,
    /// Which authorities, tried in this order. Default: all, in the order of `authorities`.
    pub(super) authorities: Option<Vec<String>>,
    #[serde(flatten)]
    #[schemars(skip)]
    pub(super) unknown: Unknown,
}

/// A certificate.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, rename_all = "kebab-case", expecting = "a mapping with names")]
#[schemars(deny_unknown_fields, extend("required" = ["names"]))]
pub(super) struct Certificate {
    /// Host names and wildcards; quote names that begin with `*`.
    pub(super) names: Option<Vec<String>>,
    /// Which of `providers` proves the names. Default: found by delegation and by the zones that each provider holds.
    pub(super) provider: Option<OneOrMany>,
    /// `p256` or `p384`. Default: that of `defaults`.
    #[schemars(extend("enum" = ["p256", "p384"]))]
    pub(super) key: Option<String>,
    /// Which authorities, tried in this order. Default: those of `defaults`.
    pub(super) authorities: Option<Vec<String>>,
    /// Where it goes.
    pub(super) deliver: Option<Vec<Deliver>>,
    #[serde(flatten)]
    #[schemars(skip)]
    pub(super) unknown: Unknown,
}

/// One place where a certificate goes.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, rename_all = "kebab-case", expecting = "a mapping with files")]
#[schemars(deny_unknown_fields, extend("required" = ["files"]))]
pub(super) struct Target {
    /// Files in a directory.
    pub(super) files: Option<Files>,
    /// A program and its arguments, run after new files are in place; no shell.
    pub(super) reload: Option<Vec<String>>,
    #[serde(flatten)]
    #[schemars(skip)]
    pub(super) unknown: Unknown,
}

/// Files in a directory.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(
    default,
    rename_all = "kebab-case",
    expecting = "a mapping with directory"
)]
#[schemars(deny_unknown_fields, extend("required" = ["directory"]))]
pub(super) struct Files {
    /// The directory; made with its parents if missing.
    pub(super) directory: Option<String>,
    /// The user that the files are given to.
    pub(super) owner: Option<String>,
    /// The group that the files are given to.
    pub(super) group: Option<String>,
    /// The mode of private key and bundle, in octal. Default: "0600".
    #[schemars(regex(pattern = "^0?[0-7]{3}$"))]
    pub(super) mode: Option<String>,
    /// The mode of the other files, in octal. Default: "0644".
    #[schemars(regex(pattern = "^0?[0-7]{3}$"))]
    pub(super) cert_mode: Option<String>,
    /// Other names for `fullchain`, `cert`, `chain`, `privkey` and `bundle`.
    pub(super) names: Option<FileNames>,
    /// Whether files that are not Countersign's are replaced. Default: false.
    pub(super) take_over: Option<bool>,
    #[serde(flatten)]
    #[schemars(skip)]
    pub(super) unknown: Unknown,
}

/// Other names for the files of a certificate.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(
    default,
    rename_all = "kebab-case",
    expecting = "a mapping of files to their names"
)]
#[schemars(deny_unknown_fields)]
pub(super) struct FileNames {
    /// The certificate, then its chain. Default: fullchain.pem.
    pub(super) fullchain: Option<String>,
    /// The certificate alone. Default: cert.pem.
    pub(super) cert: Option<String>,
    /// The chain without the certificate. Default: chain.pem.
    pub(super) chain: Option<String>,
    /// The private key. Default: privkey.pem.
    pub(super) privkey: Option<String>,
    /// The private key, then the certificate, then its chain. Default: bundle.pem.
    pub(super) bundle: Option<String>,
    #[serde(flatten)]
    #[schemars(skip)]
    pub(super) unknown: Unknown,
}

/// Where a secret comes from; never the secret itself.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, rename_all = "kebab-case", expecting = "a mapping")]
#[schemars(deny_unknown_fields, extend("minProperties" = 1, "maxProperties" = 1))]
pub(super) struct SecretForm {
    /// A file; trailing line ends are dropped.
    pub(super) file: Option<String>,
    /// An environment variable of the daemon.
    pub(super) env: Option<String>,
    /// A systemd credential.
    pub(super) credential: Option<String>,
    /// A program and its arguments, whose standard output is the secret; no shell.
    pub(super) command: Option<Vec<String>>,
    #[serde(flatten)]
    #[schemars(skip)]
    pub(super) unknown: Unknown,
}

/// A [`SecretForm`], or something else, which is forgotten at once since it may be the secret itself.
#[derive(Debug, JsonSchema)]
#[schemars(untagged)]
pub(super) enum Secret {
    Form(SecretForm),
    #[schemars(skip)]
    Bare,
}

/// One text or a list of them.
#[derive(Debug, JsonSchema)]
#[schemars(untagged)]
pub(super) enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

/// A URL, or where it is when it is a secret itself.
#[derive(JsonSchema)]
#[schemars(untagged)]
pub(super) enum Address {
    Url(String),
    Secret(SecretForm),
}

/// Never the URL, which may be a secret.
impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Address")
    }
}

/// A webhook by its URL alone, or in full.
#[derive(Debug, JsonSchema)]
#[schemars(untagged)]
pub(super) enum Webhook {
    Url(#[schemars(with = "String")] Address),
    Form(Box<WebhookForm>),
}

/// A target written in place, or the name of one under `targets`.
#[derive(Debug, JsonSchema)]
#[schemars(untagged)]
pub(super) enum Deliver {
    InPlace(Box<Target>),
    Named(String),
}

/// A mapping with keys of the user's choice, in the order of the file. A key that stands twice is twice in it.
#[derive(Debug)]
pub(super) struct Entries<T>(pub(super) Vec<(String, Option<T>)>);

/// The keys of a mapping that its type does not know, in the order of the file.
#[derive(Debug, Default)]
pub(super) struct Unknown(pub(super) Vec<String>);

/// The keys that the mapping `T` knows, from its schema.
pub(super) fn known_keys<T: JsonSchema>() -> Vec<String> {
    let schema = schemars::schema_for!(T);
    let properties = schema.get("properties").and_then(|it| it.as_object());
    properties
        .map(|it| it.keys().cloned().collect())
        .unwrap_or_default()
}
