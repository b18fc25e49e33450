//! `delegate`: the DNS records to create, ready to be pasted, and the least privilege to grant.
//!
//! What is configured says most of it. The accounts come from the store, the name that an authority looks for in CAA
//! from the authority itself where nobody knows it yet, and where a challenge leads already from the DNS. `records` and
//! `privilege` decide what to say, `shown` says it.

mod leads;
mod privilege;
mod records;
mod shown;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use countersign_providers::clock::Clock;
use countersign_providers::record::DnsName;
use futures_util::future::{join, join_all};
use leads::Leads;

use super::arguments::Delegate;
use super::print::Screen;
use super::words::{clean, known, listed, nearest};
use super::{AskError, Ending};
use crate::config::{self, Authority, Config, ProviderSettings};
use crate::control::{Ask, Client, Reply};
use crate::daemon::{connection, open_store};
use crate::engine::names::{CertificateName, Identifier};
use crate::run::accounts;
use crate::store;

/// An authority has this long to say which name it looks for.
const PATIENCE: Duration = Duration::from_secs(10);
/// The names that authorities look for in CAA records, by how the URLs of their directories begin.
const ISSUERS: [(&str, &str); 4] = [
    ("https://acme-v02.api.letsencrypt.org/", "letsencrypt.org"),
    (
        "https://acme-staging-v02.api.letsencrypt.org/",
        "letsencrypt.org",
    ),
    ("https://dv.acme-v02.api.pki.goog/", "pki.goog"),
    ("https://acme.zerossl.com/", "sectigo.com"),
];

/// What is asked about: names, and the certificates that they are on.
struct Subject<'c> {
    config: &'c Config,
    /// By certificate.
    names: BTreeMap<&'c CertificateName, BTreeSet<&'c Identifier>>,
    /// The zone of a provider that challenges are delegated into.
    to: Option<DnsName>,
    /// The built-in nameserver's zone, or the part of it that challenges are delegated into.
    own: Option<DnsName>,
    /// Where the accounts at acme-dns servers lead, by provider; or why nobody knows.
    registered: Registrations<'c>,
}

/// Where the challenge of each domain is to lead, by provider; an error is a sentence.
type Registrations<'c> = BTreeMap<&'c str, Result<BTreeMap<DnsName, DnsName>, String>>;

/// What is known of an authority.
struct Facts {
    /// The name that it looks for in CAA records, or why nobody knows it.
    issuer: Result<String, String>,
    /// The URL of the account there, once there is one.
    account: Option<String>,
}

pub(super) async fn run(
    config: &Config,
    clock: &Clock,
    screen: Screen,
    options: &Delegate,
) -> Ending {
    let mut subject = match Subject::new(config, options) {
        Ok(subject) => subject,
        Err(sentence) => return Ending::Usage(sentence),
    };
    subject.registered = subject.registrations(clock).await;
    let (accounts, trouble) = match accounts(config, clock).await {
        Ok(accounts) => (accounts, None),
        Err(error) => (BTreeMap::new(), Some(clean(&error.to_string()))),
    };
    let asked = subject.authorities();
    let issuers = asked.iter().map(|it| issuer(it, clock));
    let (issuers, leads) = join(join_all(issuers), Leads::find(&subject, clock)).await;
    let facts = asked.iter().zip(issuers).map(|(authority, issuer)| {
        let account = accounts.get(authority.name.as_str()).cloned();
        (authority.name.as_str(), Facts { issuer, account })
    });
    let sections = records::sections(&subject, &facts.collect(), trouble.as_deref());
    let privileges = privilege::privileges(&subject, &leads, clock).await;
    match options.json {
        true => shown::document(&subject, &sections, &leads, &privileges),
        false => shown::text(&subject, &sections, &leads, &privileges, screen),
    }
    Ending::Done
}

impl<'c> Subject<'c> {
    fn new(config: &'c Config, options: &Delegate) -> Result<Self, String> {
        let mut names: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for text in &options.names {
            for (certificate, name) in meant(config, text)? {
                names.entry(certificate).or_default().insert(name);
            }
        }
        let mut subject = Self {
            config,
            names,
            to: None,
            own: config.nameserver.as_ref().map(|it| it.zone.clone()),
            registered: Registrations::new(),
        };
        if let Some(to) = &options.to {
            let to = DnsName::parse(to.trim())
                .map_err(|error| format!("--to wants the name of a zone: {error}"))?;
            match &subject.own {
                Some(own) if to.is_at_or_below(own) => subject.own = Some(to),
                _ => subject.to = Some(subject.held(to)?),
            }
        }
        Ok(subject)
    }

    /// `zone`, if a provider of every certificate is able to hold it.
    fn held(&self, zone: DnsName) -> Result<DnsName, String> {
        for certificate in self.names.keys() {
            let providers = self.providers(certificate);
            let mut providers = providers.iter().map(|name| &self.config.providers[*name]);
            if !providers.any(|it| privilege::could_hold(it, &zone)) {
                return Err(format!(
                    "no provider that the certificate `{certificate}` may use could hold the zone {zone}; configure the one that holds it"
                ));
            }
        }
        Ok(zone)
    }

    /// The providers that may hold the names of `certificate`.
    fn providers(&self, certificate: &CertificateName) -> Vec<&'c str> {
        let named = &self.config.certificates[certificate].providers;
        match named.is_empty() {
            true => (self.config.providers.keys())
                .map(|it| it.as_str())
                .collect(),
            false => named.iter().map(|it| it.as_str()).collect(),
        }
    }

    /// What the acme-dns servers of these names gave, by provider.
    async fn registrations(&self, clock: &Clock) -> Registrations<'c> {
        let mut all = Registrations::new();
        for name in self.names.keys().flat_map(|it| self.providers(it)) {
            if let ProviderSettings::AcmeDns(settings) = &self.config.providers[name]
                && !all.contains_key(name)
            {
                all.insert(name, settings.targets(clock).await);
            }
        }
        all
    }

    /// Where the challenge of `base` is answered when it is delegated into `zone`.
    fn target(&self, base: &DnsName, zone: &DnsName) -> Option<DnsName> {
        let providers = self.names.keys().flat_map(|it| self.providers(it));
        let mut holders = providers
            .map(|name| &self.config.providers[name])
            .filter(|it| privilege::could_hold(it, zone));
        // Those scripts put the label before the domain by themselves.
        let label = match holders.all(|it| matches!(it, ProviderSettings::CertbotHooks(_))) {
            true if self.to.is_some() => "_acme-challenge.",
            _ => "",
        };
        DnsName::parse(&format!("{label}{base}.{zone}")).ok()
    }

    /// The names without `*.`, each once.
    fn bases(&self) -> BTreeSet<&'c DnsName> {
        let names = self.names.values().flatten();
        names.map(|name| &name.base).collect()
    }

    /// The authorities that may issue for these names, in the order of the configuration.
    fn authorities(&self) -> Vec<&'c Authority> {
        let bases = self.bases();
        let is_asked = |authority: &&Authority| {
            let mut certificates = self.config.certificates.values();
            certificates.any(|it| {
                it.authorities.contains(&authority.name)
                    && it.names.iter().any(|name| bases.contains(&name.base))
            })
        };
        self.config.authorities.iter().filter(is_asked).collect()
    }

    /// The zone that challenges are delegated into.
    fn zone(&self) -> Option<&DnsName> {
        self.to.as_ref().or(self.own.as_ref())
    }
}

/// The names that are meant: all of a certificate, or one by itself, with the wildcard over it.
fn meant<'c>(
    config: &'c Config,
    text: &str,
) -> Result<Vec<(&'c CertificateName, &'c Identifier)>, String> {
    let of_certificate = |name: &CertificateName| {
        let (name, certificate) = config.certificates.get_key_value(name)?;
        Some(certificate.names.iter().map(move |it| (name, it)).collect())
    };
    if let Some(found) = CertificateName::parse(text)
        .as_ref()
        .and_then(of_certificate)
    {
        return Ok(found);
    }
    if !text.contains('.') {
        return Err(known(config, text).err().unwrap_or_default());
    }
    let typed = config::identifier(text);
    let all = (config.certificates.iter())
        .flat_map(|(certificate, it)| it.names.iter().map(move |name| (certificate, name)));
    let found: Vec<_> = all
        .clone()
        .filter(|(_, name)| {
            (typed.as_ref()).is_some_and(|it| it == *name || (!it.wildcard && it.base == name.base))
        })
        .collect();
    if !found.is_empty() {
        return Ok(found);
    }
    let names: Vec<String> = all.map(|(_, name)| name.to_string()).collect();
    let hint = match nearest(text, names.iter().map(String::as_str)) {
        Some(near) => format!("did you mean `{near}`?"),
        None => listed(config),
    };
    let text = clean(text);
    Err(format!(
        "the configuration has no certificate with the name `{text}`; {hint}"
    ))
}

/// The URLs of the accounts, by their authorities: from whoever holds the store, else from the store.
async fn accounts(config: &Config, clock: &Clock) -> Result<BTreeMap<String, String>, AskError> {
    if let Some(mut client) = Client::connect(&config.state, clock).await? {
        return match client.ask(Ask::Accounts).await? {
            Reply::Accounts(accounts) => Ok(accounts),
            _ => Err(client.odd().into()),
        };
    }
    if !store::exists(&config.state) {
        return Ok(BTreeMap::new());
    }
    let (session, _) = open_store(config, clock).await?;
    Ok(accounts::registered(&session, &config.authorities).await?)
}

/// The name that an authority looks for in CAA records: known, or as its directory says.
async fn issuer(authority: &Authority, clock: &Clock) -> Result<String, String> {
    let known = (ISSUERS.iter()).find(|(start, _)| authority.directory.starts_with(start));
    if let Some((_, issuer)) = known {
        return Ok((*issuer).to_owned());
    }
    let client = connection(authority, clock).map_err(|error| error.to_string())?;
    let directory = match clock.timeout(PATIENCE, client.directory()).await {
        Some(directory) => directory.map_err(|fault| fault.to_string())?,
        None => return Err("it did not answer in time".to_owned()),
    };
    let mut identities = directory.caa_identities.iter();
    let identity = identities.find_map(|it| DnsName::parse(it).ok());
    let identity = identity.map(|it| it.to_string());
    identity.ok_or_else(|| "its directory has no `caaIdentities`".to_owned())
}
