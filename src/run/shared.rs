//! What all workers share: the store, the authorities, the providers, the ledger.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::Duration;

use countersign_providers::Provider;
use countersign_providers::clock::Clock;
use tokio::sync::{Mutex, OwnedMutexGuard, Semaphore};

use super::progress::Watchers;
use crate::acme;
use crate::config;
use crate::deliver::Target;
use crate::dns::Dns;
use crate::engine::certificate::{Profiles, Specification};
use crate::engine::names::CertificateName;
use crate::engine::reaction::Failure;
use crate::ledger::Ledger;
use crate::nameserver::Nameserver;
use crate::store::{Sealer, Session};

/// Certificates that one authority is asked for at the same time.
pub const PARALLEL: usize = 32;

/// What all workers share.
pub struct Shared {
    /// The store.
    pub session: Session,
    /// Seals private material.
    pub sealer: Sealer,
    /// Time.
    pub clock: Clock,
    /// The TXT values.
    pub ledger: Ledger,
    /// The authorities, by their name in the configuration.
    pub authorities: BTreeMap<String, Authority>,
    /// What the authorities are asked for.
    pub profiles: Profiles,
    /// The DNS hosts, by their name in the configuration.
    pub providers: BTreeMap<String, Arc<dyn Provider>>,
    /// The built-in nameserver, a provider too; it answers once somebody looks at the DNS.
    pub nameserver: Option<Nameserver>,
    /// The certificates of the configuration.
    pub certificates: BTreeMap<CertificateName, Wanted>,
    /// Whoever watches.
    pub watchers: Watchers,
    /// Certificates with the same names at the same account take turns: they would get the same order.
    turns: StdMutex<HashMap<String, Arc<Mutex<()>>>>,
}

/// One authority.
pub struct Authority {
    /// As configured.
    pub settings: config::Authority,
    /// The connection to it.
    pub client: acme::Client,
    /// The DNS as it sees it.
    pub dns: Dns,
    /// Bounds the certificates that it is asked for at the same time.
    pub permits: Arc<Semaphore>,
    /// Held while the account is made, so that it is made once; how the last try failed, and when.
    pub account: Mutex<Option<(Duration, Failure)>>,
}

/// One certificate as wanted.
pub struct Wanted {
    /// What it must be.
    pub specification: Specification,
    /// The provider that the configuration names.
    pub provider: Option<String>,
    /// The authorities to ask, in order.
    pub authorities: Vec<String>,
    /// Where it goes.
    pub destinations: Vec<Destination>,
}

/// Where a certificate goes.
pub struct Destination {
    /// The target's name; its directory when written in place.
    pub name: String,
    /// The target.
    pub target: Box<dyn Target>,
    /// What makes whoever uses it take it up: an argument vector.
    pub reload: Option<Vec<String>>,
}

impl Shared {
    /// Puts it all together.
    #[allow(
        clippy::too_many_arguments,
        reason = "one place, and every part is needed"
    )]
    pub fn new(
        session: Session,
        sealer: Sealer,
        clock: Clock,
        ledger: Ledger,
        authorities: BTreeMap<String, Authority>,
        profiles: Profiles,
        providers: BTreeMap<String, Arc<dyn Provider>>,
        nameserver: Option<Nameserver>,
        certificates: BTreeMap<CertificateName, Wanted>,
        watchers: Watchers,
    ) -> Self {
        Self {
            session,
            sealer,
            clock,
            ledger,
            authorities,
            profiles,
            providers,
            nameserver,
            certificates,
            watchers,
            turns: StdMutex::default(),
        }
    }

    /// Waits for the turn of an order for `wanted` at `account`.
    pub async fn turn(&self, account: &str, wanted: &Specification) -> OwnedMutexGuard<()> {
        let names: Vec<String> = wanted.identifiers.iter().map(ToString::to_string).collect();
        let which = format!("{account} {}", names.join(" "));
        let turn = {
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(turns.entry(which).or_default())
        };
        turn.lock_owned().await
    }
}
