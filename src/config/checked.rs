//! The configuration as the rest of Countersign sees it: parsed once, never checked again.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path as FilePath, PathBuf};

use countersign_providers::acme_dns;
use countersign_providers::azuredns;
use countersign_providers::cloudflare;
use countersign_providers::googlecloud;
use countersign_providers::manifest;
use countersign_providers::ovh;
use countersign_providers::process;
use countersign_providers::record::DnsName;
use countersign_providers::rfc2136;
use countersign_providers::route53;
use countersign_providers::runners;
use countersign_providers::secret::SecretSource;
use url::Url;

use crate::engine::certificate::Profiles;
use crate::engine::key::KeyType;
use crate::engine::names::{CertificateName, Identifier};

use super::alerts::{Address, AlertChannel};
use super::certificates::Defined;
use super::deliveries::IN_PLACE;
use super::error::{ConfigError, ConfigErrors, SHOWN};
use super::include::{self, File};
use super::names::{AuthorityName, ProviderName};
use super::problems::{Path, Problem, Problems};
use super::raw;
use super::scalars::Checker;
use super::yaml::Source;

/// Where the store is unless configured.
const DEFAULT_STATE: &str = "/var/lib/countersign";
/// The formats of logs.
const FORMATS: [(&str, LogFormat); 2] = [("text", LogFormat::Text), ("json", LogFormat::Json)];
/// The levels of logs.
const LEVELS: [(&str, LogLevel); 5] = [
    ("error", LogLevel::Error),
    ("warn", LogLevel::Warn),
    ("info", LogLevel::Info),
    ("debug", LogLevel::Debug),
    ("trace", LogLevel::Trace),
];

/// A configuration that was checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The files that it includes, in their order; nothing where it has no `include`.
    pub included: Option<Vec<PathBuf>>,
    /// The directory of the store.
    pub state: PathBuf,
    /// Where the key that seals private material is; `None`: a file beside the store.
    pub seal_key: Option<SecretSource>,
    /// How logs are written.
    pub log: LogSettings,
    /// What is served over HTTP, and where.
    pub web: Option<WebSettings>,
    /// Where a person hears of failures and recoveries.
    pub alerts: Vec<AlertChannel>,
    /// What is called after each healthy round.
    pub heartbeat: Option<Address>,
    /// The authorities, in the order of the file; at least one.
    pub authorities: Vec<Authority>,
    /// The DNS hosts that may be written to.
    pub providers: BTreeMap<ProviderName, ProviderSettings>,
    /// The built-in nameserver.
    pub nameserver: Option<NameserverSettings>,
    /// How the DNS is looked at.
    pub dns: DnsSettings,
    /// The certificates; at least one.
    pub certificates: BTreeMap<CertificateName, Certificate>,
}

/// How logs are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogSettings {
    /// Lines of text, or of JSON.
    pub format: LogFormat,
    /// From which level on.
    pub level: LogLevel,
}

/// What is served over HTTP: health and metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebSettings {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Names in lower case and addresses by which it may be called besides that one.
    pub hosts: Vec<String>,
}

/// The format of logs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// An object a line.
    Json,
}

/// The level of logs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Only what failed.
    Error,
    /// And what looks wrong.
    Warn,
    /// And what was done.
    #[default]
    Info,
    /// And why.
    Debug,
    /// And every outside request.
    Trace,
}

/// An ACME authority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    /// Its key in the file.
    pub name: AuthorityName,
    /// The URL of its directory; `https`, or `http` where `insecure` allows it.
    pub directory: String,
    /// Whether the user agrees to its terms of service.
    pub agree_to_terms: bool,
    /// Contacts of the account as `mailto:` URLs (RFC 8555 section 7.3).
    pub contact: Vec<String>,
    /// The profile to ask for.
    pub profile: Option<String>,
    /// The external account to bind to.
    pub external_account: Option<ExternalAccount>,
    /// The preferred chain, by the common name of an issuer in it.
    pub chain: Option<String>,
    /// A PEM file with extra roots for its HTTPS.
    pub trust: Option<PathBuf>,
    /// How the DNS looks from there, where that differs.
    pub dns: Option<DnsSettings>,
    /// Whether plain http is allowed.
    pub insecure: bool,
    /// Hosts, `name` or `name:port`, on which its URLs may be besides the directory's own.
    pub hosts: Vec<String>,
}

/// An external account (RFC 8555 section 7.3.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternalAccount {
    /// The key identifier.
    pub key_id: String,
    /// The MAC key, in base64url.
    pub mac_key: SecretSource,
}

/// The settings of one provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProviderSettings {
    /// An acme-dns server.
    AcmeDns(acme_dns::Settings),
    /// Azure DNS.
    AzureDns(Box<azuredns::Settings>),
    /// Cloudflare.
    Cloudflare(cloudflare::Settings),
    /// Google Cloud DNS.
    GoogleCloud(Box<googlecloud::Settings>),
    /// OVHcloud.
    Ovh(ovh::Settings),
    /// DNS UPDATE.
    Rfc2136(rfc2136::Settings),
    /// Amazon Route 53.
    Route53(Box<route53::Settings>),
    /// A host by its manifest.
    Rest {
        /// What the configuration calls it: the name of a shipped manifest, or `manifest`.
        plugin: String,
        /// The manifest and what it is given.
        settings: manifest::Settings,
    },
    /// A program that speaks the protocol of plug-ins.
    Process(process::Settings),
    /// A script of acme.sh.
    AcmeSh(RunnerSettings<runners::AcmeSh>),
    /// A script for lego.
    LegoExec(RunnerSettings<runners::LegoExec>),
    /// A server for lego.
    LegoHttpreq(RunnerSettings<HttpreqSettings>),
    /// Scripts for certbot.
    CertbotHooks(RunnerSettings<runners::CertbotHooks>),
    /// A person.
    Manual,
}

impl ProviderSettings {
    /// The same without what only says where it may write: those for whom this is equal have one credential.
    pub fn credential(&self) -> Self {
        let mut settings = self.clone();
        match &mut settings {
            Self::AzureDns(it) => {
                it.resource_group = None;
                it.zones.clear();
            }
            Self::Cloudflare(it) => it.zones.clear(),
            Self::GoogleCloud(it) => it.zones.clear(),
            Self::Ovh(it) => it.zones.clear(),
            // Without a key or a login there is no credential: what is refused is the zone.
            Self::Rfc2136(it) if it.tsig.is_some() => it.zone = None,
            Self::Route53(it) => it.zones.clear(),
            Self::AcmeSh(it) => it.zones.clear(),
            Self::LegoExec(it) => it.zones.clear(),
            Self::LegoHttpreq(it) if it.writer.login.is_some() => it.zones.clear(),
            Self::CertbotHooks(it) => it.zones.clear(),
            Self::AcmeDns(_)
            | Self::LegoHttpreq(_)
            | Self::Rfc2136(_)
            | Self::Rest { .. }
            | Self::Process(_)
            | Self::Manual => {}
        }
        settings
    }
}

/// The settings of a host that can only be written to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunnerSettings<W> {
    /// What writes.
    pub writer: W,
    /// The zones that it holds; any, when empty.
    pub zones: Vec<DnsName>,
}

/// A server for lego's provider `httpreq`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpreqSettings {
    /// Its address.
    pub endpoint: Url,
    /// A user name, and where the password is.
    pub login: Option<(String, SecretSource)>,
}

/// The built-in nameserver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameserverSettings {
    /// The zone it is authoritative for.
    pub zone: DnsName,
    /// Where it listens, UDP and TCP each; at least one.
    pub listen: Vec<SocketAddr>,
    /// Host names inside the zone and their addresses; at least one of each.
    pub hosts: BTreeMap<DnsName, Vec<IpAddr>>,
}

/// How the DNS is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsSettings {
    /// From the roots, or through resolvers.
    pub look: Look,
    /// Where the walk starts; empty: the real root servers.
    pub roots: Vec<IpAddr>,
    /// The port of every server on the way.
    pub port: u16,
    /// The resolvers; one without a port of its own has `port`. Empty: those of the system.
    pub resolvers: Vec<SocketAddr>,
}

/// Who is asked about the DNS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Look {
    /// Every authoritative server, found from the roots.
    #[default]
    Roots,
    /// Resolvers.
    Resolvers,
}

/// A certificate to be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Its names, normalised, in the order of the file; at least one, none twice, none covered by another.
    pub names: Vec<Identifier>,
    /// The kind of its key.
    pub key: KeyType,
    /// The providers that prove the names, all of them; none: found by delegation and by the zones that each provider
    /// holds.
    pub providers: Vec<ProviderName>,
    /// The authorities to try, in this order; at least one.
    pub authorities: Vec<AuthorityName>,
    /// Where it goes.
    pub deliver: Vec<Delivery>,
}

/// One place where a certificate goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// What the place is called in the store and in messages: its name under `targets`; from its directory, for a
    /// target written in place.
    pub target: String,
    /// The files.
    pub files: FilesSettings,
    /// A program and its arguments, run after new files are in place.
    pub reload: Option<Vec<String>>,
}

/// Files in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilesSettings {
    /// An absolute path without `.`, `..` and a slash at its end.
    pub directory: PathBuf,
    /// The user that the files are given to.
    pub owner: Option<String>,
    /// The group that the files are given to.
    pub group: Option<String>,
    /// The mode of private key and bundle.
    pub mode: u32,
    /// The mode of the other files.
    pub cert_mode: u32,
    /// Other names of the files: plain, all different.
    pub names: BTreeMap<FileKind, String>,
    /// Whether files that are not ours are replaced.
    pub take_over: bool,
}

/// The files of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileKind {
    /// The certificate, then its chain.
    Fullchain,
    /// The certificate alone.
    Cert,
    /// The chain without the certificate.
    Chain,
    /// The private key.
    Privkey,
    /// The private key, then the certificate, then its chain.
    Bundle,
}

impl Delivery {
    /// Whether the target is written in place, and has no name of its own.
    pub fn is_in_place(&self) -> bool {
        self.target.starts_with(IN_PLACE)
    }
}

impl Config {
    /// Reads and checks `file`. Neither the secrets nor the other files that it names are read.
    pub fn load(file: &FilePath) -> Result<Self, ConfigErrors> {
        let text = include::text(
            file,
            "name the right file with --config or COUNTERSIGN_CONFIG",
        )?;
        Self::parse(file, &text)
    }

    /// What each authority is asked for.
    pub fn profiles(&self) -> Profiles {
        let authorities = self.authorities.iter();
        authorities
            .map(|it| (it.name.to_string(), it.profile.clone()))
            .collect()
    }

    /// Checks `text`, the contents of `file`, with the files that it includes.
    pub fn parse(file: &FilePath, text: &str) -> Result<Self, ConfigErrors> {
        let source = Source { file, text };
        let mut roots = vec![source.read(false)?];
        let included = match &roots[0].include {
            Some(include) => include::read(source, include)?,
            None => Vec::new(),
        };
        let mut sources = vec![source];
        let mut unreadable = Vec::new();
        for File { path, text } in &included {
            let source = Source { file: path, text };
            match source.read(true) {
                Ok(root) => roots.push(root),
                Err(errors) => unreadable.extend(errors.0),
            }
            sources.push(source);
        }
        if !unreadable.is_empty() {
            return Err(ConfigErrors(unreadable));
        }
        let mut checker = Checker {
            bases: sources.iter().map(|it| base(it.file)).collect(),
            problems: Problems::default(),
        };
        let config = checker.root(&roots);
        match config {
            Some(config) if checker.problems.all.is_empty() => Ok(Self {
                included: roots[0].include.as_ref().map(|_| {
                    let included = included.iter();
                    included.map(|it| it.path.clone()).collect()
                }),
                ..config
            }),
            _ => Err(report(&sources, checker.problems)),
        }
    }
}

/// The absolute directory of a file.
fn base(file: &FilePath) -> PathBuf {
    let absolute = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    let base = absolute.parent().unwrap_or(FilePath::new("/"));
    base.to_owned()
}

/// The problems, those that are shown with their places and in the order of the files.
fn report(sources: &[Source<'_>], problems: Problems) -> ConfigErrors {
    let mut shown = problems.all;
    let rest = shown.split_off(SHOWN.min(shown.len()));
    let mut errors: Vec<(usize, ConfigError)> = shown
        .into_iter()
        .map(|it| (it.file, locate(sources, it)))
        .collect();
    errors.sort_by_key(|(file, error)| {
        let place = error.place.as_ref();
        (*file, place.map(|it| (it.line, it.column)))
    });
    let errors = errors.into_iter().map(|(_, error)| error);
    let rest = rest.into_iter().map(|it| sources[it.file].name(it));
    ConfigErrors(errors.chain(rest).collect())
}

/// The problem with its place, and with that where the same stood before.
fn locate(sources: &[Source<'_>], mut problem: Problem) -> ConfigError {
    let (file, before) = (problem.file, problem.before.take());
    let mut error = sources[file].locate(problem);
    if let Some((first, path)) = before
        && let Some((line, column)) = sources[first].key_at(&path)
    {
        error.message += &match first == file {
            true => format!("; first in line {line}"),
            false => format!(
                "; first in {}:{line}:{column}",
                sources[first].file.display()
            ),
        };
    }
    error
}

impl Checker {
    fn root(&mut self, roots: &[raw::Root]) -> Option<Config> {
        for (file, root) in roots.iter().enumerate() {
            let top = Path::top(file);
            self.problems.unknown_keys::<raw::Root>(&top, &root.unknown);
            if file > 0 && root.include.is_some() {
                self.problems.key(
                    &top.key("include"),
                    "a file that is included includes no others",
                    "name them in the file that includes this one",
                );
            }
        }
        let state = self.only(
            roots,
            "state",
            |it| it.state.as_ref(),
            |this, at, it| this.path(at, it),
        );
        let state = match state {
            None => self.path(&Path::TOP.key("state"), DEFAULT_STATE),
            Some(state) => state,
        };
        let seal_key = self.only(
            roots,
            "seal-key",
            |it| it.seal_key.as_ref(),
            |this, at, it| this.secret(at, it),
        );
        let log = self.only(
            roots,
            "log",
            |it| it.log.as_ref(),
            |this, at, it| this.log(at, it),
        );
        let web = self.only(
            roots,
            "web",
            |it| it.web.as_ref(),
            |this, at, it| this.web(at, it),
        );
        let alerts = self.only(
            roots,
            "alerts",
            |it| it.alerts.as_ref(),
            |this, at, it| Some(this.alerts(at, it)),
        );
        let heartbeat = self.only(
            roots,
            "heartbeat",
            |it| it.heartbeat.as_ref(),
            |this, at, it| this.address_of(at, it),
        );
        let authorities = self.authorities(roots);
        let providers = self.providers(roots);
        let nameserver = self.only(
            roots,
            "nameserver",
            |it| it.nameserver.as_ref(),
            |this, at, it| this.nameserver(at, it),
        );
        let dns = self.only(
            roots,
            "dns",
            |it| it.dns.as_ref(),
            |this, at, it| this.dns(at, it),
        );
        let defined = Defined::of(roots);
        let certificates = self.certificates(roots, &defined, state.as_deref());
        Some(Config {
            included: None,
            state: state?,
            seal_key: optional(seal_key)?,
            log: optional(log)?.unwrap_or_default(),
            web: optional(web)?,
            alerts: optional(alerts)?.unwrap_or_default(),
            heartbeat: optional(heartbeat)?,
            authorities,
            providers,
            nameserver: optional(nameserver)?,
            dns: optional(dns)?.unwrap_or_default(),
            certificates,
        })
    }

    fn log(&mut self, at: &Path<'_>, log: &raw::Log) -> Option<LogSettings> {
        self.problems.unknown_keys::<raw::Log>(at, &log.unknown);
        let format = log
            .format
            .as_ref()
            .map_or(Some(LogFormat::default()), |it| {
                self.word(&at.key("format"), it, &FORMATS)
            });
        let level = log.level.as_ref().map_or(Some(LogLevel::default()), |it| {
            self.word(&at.key("level"), it, &LEVELS)
        });
        Some(LogSettings {
            format: format?,
            level: level?,
        })
    }
}

/// Something optional that was checked: `None` when it is there and wrong.
pub(super) fn optional<T>(checked: Option<Option<T>>) -> Option<Option<T>> {
    match checked {
        None => Some(None),
        Some(Some(value)) => Some(Some(value)),
        Some(None) => None,
    }
}
