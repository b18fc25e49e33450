//! The composition root: from a checked configuration to something that runs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use countersign_providers::Provider;
use countersign_providers::clock::Clock;
use countersign_providers::rfc2136::Rfc2136;
use ring::rand::{SecureRandom, SystemRandom};
use tokio::sync::Mutex;

use crate::acme;
use crate::config::{self, Config, ProviderSettings};
use crate::deliver::files;
use crate::dns::{self, Dns};
use crate::engine::attempt::Attempt;
use crate::engine::certificate::Specification;
use crate::engine::names::CertificateName;
use crate::ledger::Ledger;
use crate::nameserver::{self, Nameserver, NameserverError};
use crate::run::progress::Watchers;
use crate::run::shared::{Authority, Destination, Shared, Turns, Wanted};
use crate::run::{BUILT_IN, records};
use crate::store::{self, Sealer, Session, Store, StoreError, Write};

/// What we call ourselves to authorities.
const USER_AGENT: &str = concat!("countersign/", env!("CARGO_PKG_VERSION"));
/// The lease of whoever works with the store.
const LEASE: &str = "worker";

/// Everything that is needed to obtain and deliver certificates, running.
pub struct Daemon {
    /// What all workers share.
    pub shared: Arc<Shared>,
    config: Config,
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
        let (kept, gone): (Vec<_>, Vec<_>) = attempts.into_iter().partition(|attempt| {
            config
                .certificates
                .contains_key(&attempt.value.request.certificate)
        });
        let forgotten: Vec<Write> = gone
            .into_iter()
            .map(|attempt| Write::Delete(attempt.key))
            .collect();
        if !forgotten.is_empty() {
            session.commit(&[], &forgotten).await?;
        }
        let living: BTreeSet<String> = kept
            .iter()
            .map(|attempt| attempt.value.request.owner_prefix())
            .collect();
        let lives = |owner: &String| living.iter().any(|prefix| owner.starts_with(prefix));
        let providers = providers(config, nameserver.as_deref());
        let ledger =
            Ledger::start(session.clone(), providers.clone(), clock.clone(), lives).await?;
        let shared = Shared {
            authorities: authorities(config, &clock, &BTreeMap::new())?,
            profiles: config.profiles(),
            certificates: certificates(config),
            session,
            sealer: Arc::new(sealer),
            clock,
            ledger,
            providers,
            nameserver,
            watchers,
            turns: Turns::default(),
        };
        Ok(Self {
            shared: Arc::new(shared),
            config: config.clone(),
        })
    }

    /// From now on `config` holds, but for what only a restart changes: those keys are named. On an error nothing has
    /// changed.
    pub async fn reload(&mut self, config: Config) -> Result<Vec<&'static str>, OpenError> {
        let was = &self.shared;
        let authorities = authorities(&config, &was.clock, &was.authorities)?;
        let providers = providers(&config, was.nameserver.as_deref());
        was.ledger.use_hosts(providers.clone(), |_| true).await?;
        let shared = Shared {
            authorities,
            profiles: config.profiles(),
            certificates: certificates(&config),
            session: was.session.clone(),
            sealer: Arc::clone(&was.sealer),
            clock: was.clock.clone(),
            ledger: was.ledger.clone(),
            providers,
            nameserver: was.nameserver.clone(),
            watchers: was.watchers.clone(),
            turns: was.turns.clone(),
        };
        let restart = [
            ("state", config.state != self.config.state),
            ("seal-key", config.seal_key != self.config.seal_key),
            ("nameserver", config.nameserver != self.config.nameserver),
            ("log", config.log != self.config.log),
        ];
        self.shared = Arc::new(shared);
        // What needs a restart is compared with what runs, also the next time.
        self.config = Config {
            state: self.config.state.clone(),
            seal_key: self.config.seal_key.clone(),
            nameserver: self.config.nameserver.clone(),
            log: self.config.log,
            ..config
        };
        let changed = restart.into_iter().filter(|(_, is_changed)| *is_changed);
        Ok(changed.map(|(key, _)| key).collect())
    }
}

fn providers(
    config: &Config,
    nameserver: Option<&Nameserver>,
) -> BTreeMap<String, Arc<dyn Provider>> {
    let configured = config.providers.iter();
    let mut providers: BTreeMap<String, Arc<dyn Provider>> = configured
        .map(|(name, settings)| (name.to_string(), provider(settings)))
        .collect();
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
    for settings in &config.authorities {
        let name = settings.name.to_string();
        let authority = authority(config, settings, clock, known.get(&name))?;
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

fn provider(settings: &ProviderSettings) -> Arc<dyn Provider> {
    match settings {
        ProviderSettings::Rfc2136(settings) => Arc::new(Rfc2136::new(settings.clone())),
    }
}

fn authority(
    config: &Config,
    settings: &config::Authority,
    clock: &Clock,
    known: Option<&Arc<Authority>>,
) -> Result<Arc<Authority>, OpenError> {
    let name = settings.name.to_string();
    let trust = match &settings.trust {
        Some(path) => Some(std::fs::read(path).map_err(|error| OpenError::Trust {
            path: path.clone(),
            error,
            authority: name.clone(),
        })?),
        None => None,
    };
    let looks = settings.dns.as_ref().unwrap_or(&config.dns);
    let same = |known: &&Arc<Authority>| {
        known.settings == *settings && known.trust == trust && known.looks == *looks
    };
    if let Some(known) = known.filter(same) {
        return Ok(Arc::clone(known));
    }
    let client = acme::Settings {
        directory: settings.directory.clone(),
        trust: trust.clone(),
        insecure: settings.insecure,
        hosts: settings.hosts.clone(),
        user_agent: USER_AGENT.to_owned(),
    };
    let client =
        acme::Client::new(client, clock.clone()).map_err(|fault| OpenError::Authority {
            authority: name,
            reason: match &settings.trust {
                Some(path) => format!("{fault} (`trust` is {})", path.display()),
                None => fault.to_string(),
            },
        })?;
    Ok(Arc::new(Authority {
        settings: settings.clone(),
        client,
        trust,
        looks: looks.clone(),
        dns: Dns::new(dns_settings(looks), clock.clone()),
        account: Mutex::default(),
    }))
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

/// What a certificate of the configuration must be.
pub fn specification(certificate: &config::Certificate) -> Specification {
    let mut identifiers = certificate.names.clone();
    identifiers.sort();
    Specification {
        identifiers,
        key: certificate.key,
    }
}

fn wanted(certificate: &config::Certificate) -> Wanted {
    Wanted {
        specification: specification(certificate),
        provider: certificate.provider.as_ref().map(ToString::to_string),
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
