//! The configuration as the rest of Countersign sees it: parsed once, never checked again.

use std::collections::BTreeMap;
use std::io::Read;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path as FilePath, PathBuf};

use countersign_providers::record::DnsName;
use countersign_providers::rfc2136;
use countersign_providers::secret::SecretSource;

use crate::engine::certificate::Profiles;
use crate::engine::key::KeyType;
use crate::engine::names::{CertificateName, Identifier};

use super::alerts::{Address, AlertChannel};
use super::certificates::Defined;
use super::error::{ConfigError, ConfigErrors, SHOWN};
use super::names::{AuthorityName, ProviderName};
use super::problems::{Path, Problems};
use super::raw;
use super::scalars::Checker;
use super::yaml::Source;

/// A larger file is no configuration.
const MAX_FILE: u64 = 16 * 1024 * 1024;
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
    /// DNS UPDATE.
    Rfc2136(rfc2136::Settings),
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
    /// The provider that proves the names; `None`: found by delegation and by the zones that each provider holds.
    pub provider: Option<ProviderName>,
    /// The authorities to try, in this order; at least one.
    pub authorities: Vec<AuthorityName>,
    /// Where it goes.
    pub deliver: Vec<Delivery>,
}

/// One place where a certificate goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// What the place is called in the store and in messages: from its directory, for a target written in place.
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

impl Config {
    /// Reads and checks `file`. Neither the secrets nor the other files that it names are read.
    pub fn load(file: &FilePath) -> Result<Self, ConfigErrors> {
        let text = read(file)?;
        Self::parse(file, &text)
    }

    /// What each authority is asked for.
    pub fn profiles(&self) -> Profiles {
        let authorities = self.authorities.iter();
        authorities
            .map(|it| (it.name.to_string(), it.profile.clone()))
            .collect()
    }

    /// Checks `text`, the contents of `file`.
    pub fn parse(file: &FilePath, text: &str) -> Result<Self, ConfigErrors> {
        let source = Source { file, text };
        let root = source.read()?;
        let absolute = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
        let mut checker = Checker {
            base: absolute.parent().unwrap_or(FilePath::new("/")),
            problems: Problems::default(),
        };
        let config = checker.root(&root);
        match config {
            Some(config) if checker.problems.0.is_empty() => Ok(config),
            _ => Err(report(source, checker.problems)),
        }
    }
}

fn read(file: &FilePath) -> Result<String, ConfigErrors> {
    let unreadable = |message: String, hint: &str| {
        ConfigErrors(vec![ConfigError {
            file: file.to_owned(),
            place: None,
            path: String::new(),
            value: None,
            message,
            hint: Some(hint.to_owned()),
        }])
    };
    let mut bytes = Vec::new();
    std::fs::File::open(file)
        .and_then(|it| it.take(MAX_FILE + 1).read_to_end(&mut bytes))
        .map_err(|error| {
            let hint = match error.kind() {
                std::io::ErrorKind::NotFound => {
                    "write one, or name another with --config or COUNTERSIGN_CONFIG"
                }
                std::io::ErrorKind::PermissionDenied => {
                    "let the user that runs countersign read it"
                }
                _ => "name a file that can be read with --config or COUNTERSIGN_CONFIG",
            };
            unreadable(format!("the configuration cannot be read: {error}"), hint)
        })?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(unreadable(
            format!("the configuration has more than {} MiB", MAX_FILE >> 20),
            "name the right file with --config or COUNTERSIGN_CONFIG",
        ));
    }
    String::from_utf8(bytes).map_err(|error| {
        let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = before.iter().filter(|&&b| b == b'\n').count() + 1;
        unreadable(
            format!(
                "the configuration is not UTF-8: the first byte that is not stands in line {line}"
            ),
            "save the file as UTF-8",
        )
    })
}

/// The problems, those that are shown with their places and in the order of the file.
fn report(source: Source<'_>, problems: Problems) -> ConfigErrors {
    let mut shown = problems.0;
    let rest = shown.split_off(SHOWN.min(shown.len()));
    let mut errors: Vec<ConfigError> = shown.into_iter().map(|it| source.locate(it)).collect();
    errors.sort_by_key(|error| error.place.as_ref().map(|it| (it.line, it.column)));
    errors.extend(rest.into_iter().map(|it| source.name(it)));
    ConfigErrors(errors)
}

impl Checker<'_> {
    fn root(&mut self, root: &raw::Root) -> Option<Config> {
        let top = Path::TOP;
        self.problems.unknown_keys::<raw::Root>(&top, &root.unknown);
        let state = self.path(
            &top.key("state"),
            root.state.as_deref().unwrap_or(DEFAULT_STATE),
        );
        let seal_key = root
            .seal_key
            .as_ref()
            .map(|it| self.secret(&top.key("seal-key"), it));
        let log = self.log(&top.key("log"), root.log.as_ref());
        let web = (root.web.as_ref()).map(|it| self.web(&top.key("web"), it));
        let alerts = self.alerts(&top.key("alerts"), root.alerts.as_deref());
        let heartbeat = root
            .heartbeat
            .as_ref()
            .map(|it| self.address_of(&top.key("heartbeat"), it));
        let authorities = self.authorities(&top.key("authorities"), root.authorities.as_ref());
        let providers = self.providers(&top.key("providers"), root.providers.as_ref());
        let nameserver = root
            .nameserver
            .as_ref()
            .map(|it| self.nameserver(&top.key("nameserver"), it));
        let dns = root
            .dns
            .as_ref()
            .map_or(Some(DnsSettings::default()), |it| {
                self.dns(&top.key("dns"), it)
            });
        let defined = Defined::of(root);
        let certificates = self.certificates(&top, root, &defined, state.as_deref());
        Some(Config {
            state: state?,
            seal_key: optional(seal_key)?,
            log: log?,
            web: optional(web)?,
            alerts,
            heartbeat: optional(heartbeat)?,
            authorities,
            providers,
            nameserver: optional(nameserver)?,
            dns: dns?,
            certificates,
        })
    }

    fn log(&mut self, at: &Path<'_>, log: Option<&raw::Log>) -> Option<LogSettings> {
        let Some(log) = log else {
            return Some(LogSettings::default());
        };
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
