//! The composition root: from a checked configuration to something that runs.

#[cfg(test)]
pub(crate) mod testing;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use countersign_providers::Provider;
use countersign_providers::acme_dns::AcmeDns;
use countersign_providers::azuredns::AzureDns;
use countersign_providers::clock::Clock;
use countersign_providers::cloudflare::{self, Cloudflare};
use countersign_providers::googlecloud::GoogleCloud;
use countersign_providers::guard::{Credential, Guard};
use countersign_providers::manifest::Rest;
use countersign_providers::manual::Manual;
use countersign_providers::ovh::Ovh;
use countersign_providers::process::Process;
use countersign_providers::rfc2136::Rfc2136;
use countersign_providers::route53::Route53;
use countersign_providers::runners::{LegoHttpreq, WriteOnly};
use ring::rand::{SecureRandom, SystemRandom};

use crate::acme;
use crate::config::{self, Config, ProviderSettings};
use crate::deliver::files;
use crate::dns::{self, Dns};
use crate::engine::account::AccountId;
use crate::engine::attempt::Attempt;
use crate::engine::names::CertificateName;
use crate::engine::timekeeping::Timekeeper;
use crate::ledger::Ledger;
use crate::nameserver::{self, Nameserver, NameserverError};
use crate::run::holders::Zones;
use crate::run::progress::Watchers;
use crate::run::shared::{
    AccountLock, Authority, Credentials, Destination, Notices, Shared, Turns, Wanted, specification,
};
use crate::run::{BUILT_IN, accounts, records};
use crate::store::{self, Saved, Sealer, Session, Store, StoreError, Write};

#[cfg(test)]
mod tests;

/// What we call ourselves to authorities.
const USER_AGENT: &str = concat!("countersign/", env!("CARGO_PKG_VERSION"));
/// The lease of whoever works with the store.
const LEASE: &str = "worker";

/// Everything that is needed to obtain and deliver certificates, running.
pub struct Daemon {
    /// What all workers share.
    pub shared: Arc<Shared>,
}

/// Why it does not run.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A root certificate of the configuration.
    #[error(
        "the `trust` of authority {authority} cannot be read: {path}: {error}; correct the path, or put the authority's root certificate there"
    )]
    Trust {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
        /// Whose.
        authority: String,
    },
    /// The connection to an authority cannot be set up.
    #[error("authority {authority}: {reason}")]
    Authority {
        /// Which.
        authority: String,
        /// Why.
        reason: String,
    },
    /// The built-in nameserver.
    #[error(transparent)]
    Nameserver(#[from] NameserverError),
}

/// Opens the store of `config`, alone.
pub async fn open_store(config: &Config, clock: &Clock) -> Result<(Session, Sealer), StoreError> {
    let (store, sealer) = store::open_state(&config.state, config.seal_key.as_ref(), clock).await?;
    let holder = format!("{}-{}", std::process::id(), token()?);
    // The lock on the directory already says that nobody else is here: the lease only gives the fencing token, and
    // need not outlive this instant.
    let fence = store
        .lease(LEASE, &holder, clock.now(), Duration::ZERO)
        .await?;
    Ok((Session::new(Arc::new(store), fence), sealer))
}

impl Daemon {
    /// Opens the store and goes on with the removal of what a dead process left.
    pub async fn open(
        config: &Config,
        clock: Clock,
        watchers: Watchers,
    ) -> Result<Self, OpenError> {
        let (session, sealer) = open_store(config, &clock).await?;
        Self::with(config, session, sealer, clock, watchers).await
    }

    /// The same on a store that is open.
    pub async fn with(
        config: &Config,
        session: Session,
        sealer: Sealer,
        clock: Clock,
        watchers: Watchers,
    ) -> Result<Self, OpenError> {
        let nameserver = match &config.nameserver {
            Some(settings) => {
                let settings = nameserver_settings(settings);
                let (store, fence) = session.clone().into_parts();
                let opened = Nameserver::open(settings, store, fence, clock.clone()).await?;
                Some(Arc::new(opened))
            }
            None => None,
        };
        let attempts = session.load_all::<Attempt>(records::ATTEMPTS).await?;
        // What is not configured any more has nobody to go on with it: its records are removed.
        let is_gone = |attempt: &Saved<Attempt>| {
            let name = &attempt.value.request.certificate;
            !config.certificates.contains_key(name)
        };
        let forgotten: Vec<Write> = attempts
            .into_iter()
            .filter(is_gone)
            .map(|attempt| Write::Delete(attempt.key))
            .collect();
        if !forgotten.is_empty() {
            session.commit(&[], &forgotten).await?;
        }
        let living = living(&session).await?;
        let lives = |owner: &String| living.iter().any(|prefix| owner.starts_with(prefix));
        let credentials = Credentials::default().of(config.providers.values());
        let providers = providers(config, &session, nameserver.as_deref(), &credentials, None);
        let ledger =
            Ledger::start(session.clone(), providers.clone(), clock.clone(), lives).await?;
        let shared = Shared {
            config: Arc::new(config.clone()),
            notices: Notices::default(),
            authorities: authorities(config, &clock, &BTreeMap::new())?,
            profiles: config.profiles(),
            certificates: certificates(config),
            session,
            sealer: Arc::new(sealer),
            clock,
            ledger,
            providers,
            credentials,
            nameserver,
            watchers,
            turns: Turns::default(),
            zones: Zones::default(),
            timekeeper: Arc::new(Mutex::new(Timekeeper::new(None))),
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// From now on `config` holds, but for what only a restart changes: those keys are named. On an error nothing has
    /// changed.
    pub async fn reload(&mut self, config: Config) -> Result<Vec<&'static str>, OpenError> {
        let was = &self.shared;
        let authorities = authorities(&config, &was.clock, &was.authorities)?;
        let credentials = was.credentials.of(config.providers.values());
        let nameserver = was.nameserver.as_deref();
        let providers = providers(&config, &was.session, nameserver, &credentials, Some(was));
        let living = living(&was.session).await?;
        let lives = |owner: &String| living.iter().any(|prefix| owner.starts_with(prefix));
        was.ledger.use_hosts(providers.clone(), lives).await?;
        let changed = |key: &'static str, is_changed: bool| is_changed.then_some(key);
        let restart = [
            changed("state", config.state != was.config.state),
            changed("seal-key", config.seal_key != was.config.seal_key),
            changed("nameserver", config.nameserver != was.config.nameserver),
            changed("log.format", config.log.format != was.config.log.format),
            changed("web", config.web != was.config.web),
        ];
        let shared = Shared {
            authorities,
            profiles: config.profiles(),
            certificates: certificates(&config),
            session: was.session.clone(),
            sealer: Arc::clone(&was.sealer),
            clock: was.clock.clone(),
            ledger: was.ledger.clone(),
            providers,
            credentials,
            nameserver: was.nameserver.clone(),
            watchers: was.watchers.clone(),
            turns: was.turns.clone(),
            zones: Zones::default(),
            timekeeper: Arc::clone(&was.timekeeper),
            notices: was.notices.clone(),
            // What needs a restart is compared with what runs, also the next time.
            config: Arc::new(Config {
                state: was.config.state.clone(),
                seal_key: was.config.seal_key.clone(),
                nameserver: was.config.nameserver.clone(),
                log: config::LogSettings {
                    format: was.config.log.format,
                    ..config.log
                },
                web: was.config.web.clone(),
                ..config
            }),
        };
        self.shared = Arc::new(shared);
        Ok(restart.into_iter().flatten().collect())
    }
}

/// How the owners of records begin for whom somebody goes on.
async fn living(session: &Session) -> Result<BTreeSet<String>, StoreError> {
    let attempts = session.load_all::<Attempt>(records::ATTEMPTS).await?;
    let prefix = |attempt: &Saved<Attempt>| attempt.value.request.owner_prefix();
    Ok(attempts.iter().map(prefix).collect())
}

/// Those that are as they were in `known` go on counting what they ask.
fn providers(
    config: &Config,
    session: &Session,
    nameserver: Option<&Nameserver>,
    credentials: &Credentials,
    known: Option<&Shared>,
) -> BTreeMap<String, Arc<dyn Provider>> {
    let configured = config.providers.iter().map(|(name, settings)| {
        let known = known.filter(|it| it.config.providers.get(name) == Some(settings));
        let known = known.and_then(|it| it.providers.get(name.as_str()));
        let new = || provider(settings, session.store().id(), credentials.get(settings));
        let provider = known.map_or_else(new, Arc::clone);
        (name.to_string(), provider)
    });
    let mut providers: BTreeMap<String, Arc<dyn Provider>> = configured.collect();
    if let Some(nameserver) = nameserver {
        providers.insert(BUILT_IN.to_owned(), nameserver.provider());
    }
    providers
}

/// Those of `known` that are as they were keep their connections.
fn authorities(
    config: &Config,
    clock: &Clock,
    known: &BTreeMap<String, Arc<Authority>>,
) -> Result<BTreeMap<String, Arc<Authority>>, OpenError> {
    let mut authorities = BTreeMap::new();
    // An account belongs to a directory and an external key: two names for them have one account.
    let mut accounts: HashMap<AccountId, Arc<AccountLock>> = known
        .values()
        .map(|known| (accounts::id(&known.settings), Arc::clone(&known.account)))
        .collect();
    for settings in &config.authorities {
        let name = settings.name.to_string();
        let account = accounts.entry(accounts::id(settings)).or_default();
        let authority = authority(config, settings, clock, known.get(&name), account)?;
        authorities.insert(name, authority);
    }
    Ok(authorities)
}

fn certificates(config: &Config) -> BTreeMap<CertificateName, Wanted> {
    let certificates = config.certificates.iter();
    certificates
        .map(|(name, certificate)| (name.clone(), wanted(certificate)))
        .collect()
}

fn token() -> Result<String, StoreError> {
    let mut bytes = [0; 8];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| StoreError::Io("the system gives no random numbers".to_owned()))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The plug-in that `settings` are about, with its `credential`; `owner` is whose the records are, where it writes that
/// down.
pub fn provider(
    settings: &ProviderSettings,
    owner: &str,
    credential: Arc<Credential>,
) -> Arc<dyn Provider> {
    let plugin: Arc<dyn Provider> = match settings {
        ProviderSettings::AcmeDns(settings) => Arc::new(AcmeDns::new(settings.clone())),
        ProviderSettings::AzureDns(settings) => Arc::new(AzureDns::new((**settings).clone())),
        ProviderSettings::Cloudflare(settings) => {
            let owner = Some(owner.to_owned());
            let settings = settings.clone();
            Arc::new(Cloudflare::new(cloudflare::Settings { owner, ..settings }))
        }
        ProviderSettings::GoogleCloud(settings) => Arc::new(GoogleCloud::new((**settings).clone())),
        ProviderSettings::Ovh(settings) => Arc::new(Ovh::new(settings.clone())),
        ProviderSettings::Rfc2136(settings) => Arc::new(Rfc2136::new(settings.clone())),
        ProviderSettings::Route53(settings) => Arc::new(Route53::new((**settings).clone())),
        ProviderSettings::Rest { settings, .. } => Arc::new(Rest::new(settings.clone())),
        ProviderSettings::Manual => Arc::new(Manual),
        ProviderSettings::Process(settings) => Arc::new(Process::new(settings.clone())),
        ProviderSettings::AcmeSh(settings) => {
            let writer = settings.writer.clone();
            Arc::new(WriteOnly::new(writer, settings.zones.clone()))
        }
        ProviderSettings::LegoExec(settings) => {
            let writer = settings.writer.clone();
            Arc::new(WriteOnly::new(writer, settings.zones.clone()))
        }
        ProviderSettings::LegoHttpreq(settings) => {
            let server = settings.writer.clone();
            let writer = LegoHttpreq::new(server.endpoint, server.login);
            Arc::new(WriteOnly::new(writer, settings.zones.clone()))
        }
        ProviderSettings::CertbotHooks(settings) => {
            let writer = settings.writer.clone();
            Arc::new(WriteOnly::new(writer, settings.zones.clone()))
        }
    };
    Arc::new(Guard::new(plugin, credential))
}

fn authority(
    config: &Config,
    settings: &config::Authority,
    clock: &Clock,
    known: Option<&Arc<Authority>>,
    account: &Arc<AccountLock>,
) -> Result<Arc<Authority>, OpenError> {
    let trust = trust(settings)?;
    let looks = looks_of(config, settings);
    let same = |known: &&Arc<Authority>| {
        known.settings == *settings && known.trust == trust && known.looks == *looks
    };
    if let Some(known) = known.filter(same) {
        return Ok(Arc::clone(known));
    }
    let client = client(settings, trust.clone(), clock)?;
    if let Some(word) = known.and_then(|known| known.client.word()) {
        client.recall(word);
    }
    Ok(Arc::new(Authority {
        settings: settings.clone(),
        client,
        trust,
        looks: looks.clone(),
        dns: Dns::new(dns_settings(looks), clock.clone()),
        account: Arc::clone(account),
    }))
}

/// The DNS as an authority is believed to see it.
pub fn looks(config: &Config, settings: &config::Authority, clock: &Clock) -> Dns {
    Dns::new(dns_settings(looks_of(config, settings)), clock.clone())
}

fn looks_of<'c>(config: &'c Config, settings: &'c config::Authority) -> &'c config::DnsSettings {
    settings.dns.as_ref().unwrap_or(&config.dns)
}

/// What its own HTTPS is trusted by besides the system's roots.
fn trust(settings: &config::Authority) -> Result<Option<Vec<u8>>, OpenError> {
    let read = |path: &PathBuf| {
        std::fs::read(path).map_err(|error| OpenError::Trust {
            path: path.clone(),
            error,
            authority: settings.name.to_string(),
        })
    };
    settings.trust.as_ref().map(read).transpose()
}

fn client(
    settings: &config::Authority,
    trust: Option<Vec<u8>>,
    clock: &Clock,
) -> Result<acme::Client, OpenError> {
    let client = acme::Settings {
        directory: settings.directory.clone(),
        trust,
        insecure: settings.insecure,
        hosts: settings.hosts.clone(),
        user_agent: USER_AGENT.to_owned(),
    };
    acme::Client::new(client, clock.clone()).map_err(|fault| OpenError::Authority {
        authority: settings.name.to_string(),
        reason: match &settings.trust {
            Some(path) => format!("{fault} (`trust` is {})", path.display()),
            None => fault.to_string(),
        },
    })
}

/// The connection to an authority, for a look at what it says of itself.
pub fn connection(settings: &config::Authority, clock: &Clock) -> Result<acme::Client, OpenError> {
    client(settings, trust(settings)?, clock)
}

fn dns_settings(settings: &config::DnsSettings) -> dns::Settings {
    let look = match settings.look {
        config::Look::Roots => dns::Look::Roots {
            roots: match settings.roots.is_empty() {
                true => dns::ROOTS.to_vec(),
                false => settings.roots.clone(),
            },
            port: settings.port,
            fallback: settings.resolvers.clone(),
        },
        config::Look::Resolvers => dns::Look::Resolvers {
            addresses: settings.resolvers.clone(),
        },
    };
    dns::Settings { look }
}

fn nameserver_settings(settings: &config::NameserverSettings) -> nameserver::Settings {
    nameserver::Settings {
        zone: settings.zone.clone(),
        listen: settings.listen.clone(),
        hosts: settings.hosts.clone(),
    }
}

fn wanted(certificate: &config::Certificate) -> Wanted {
    Wanted {
        specification: specification(certificate),
        providers: (certificate.providers.iter())
            .map(ToString::to_string)
            .collect(),
        authorities: certificate
            .authorities
            .iter()
            .map(ToString::to_string)
            .collect(),
        deliveries: certificate.deliver.clone(),
        destinations: certificate.deliver.iter().map(destination).collect(),
    }
}

fn destination(delivery: &config::Delivery) -> Destination {
    let settings = &delivery.files;
    let names = settings
        .names
        .iter()
        .map(|(kind, name)| (file_kind(*kind), name.clone()));
    let files = files::Settings {
        directory: settings.directory.clone(),
        owner: settings.owner.clone(),
        group: settings.group.clone(),
        mode: settings.mode,
        cert_mode: settings.cert_mode,
        names: names.collect(),
        take_over: settings.take_over,
    };
    Destination {
        name: delivery.target.clone(),
        target: Box::new(files::Files::new(files)),
        reload: delivery.reload.clone(),
    }
}

fn file_kind(kind: config::FileKind) -> files::FileKind {
    match kind {
        config::FileKind::Fullchain => files::FileKind::Fullchain,
        config::FileKind::Cert => files::FileKind::Cert,
        config::FileKind::Chain => files::FileKind::Chain,
        config::FileKind::Privkey => files::FileKind::Privkey,
        config::FileKind::Bundle => files::FileKind::Bundle,
    }
}
