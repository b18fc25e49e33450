//! What all workers share: the store, the authorities, the providers, the ledger.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex as StdMutex, MutexGuard, PoisonError};
use std::time::Duration;

use countersign_providers::Provider;
use countersign_providers::clock::Clock;
use countersign_providers::guard::Credential;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::holders::Zones;
use super::progress::Watchers;
use crate::acme;
use crate::config::{self, Config, ProviderSettings};
use crate::deliver::Target;
use crate::dns::Dns;
use crate::engine::certificate::{Profiles, Specification};
use crate::engine::names::CertificateName;
use crate::engine::reaction::Failure;
use crate::engine::timekeeping::{Doubt, Timekeeper, by_own_clock};
use crate::ledger::Ledger;
use crate::nameserver::Nameserver;
use crate::store::{Sealer, Session};

/// What all workers share.
pub struct Shared {
    /// The configuration.
    pub config: Arc<Config>,
    /// The store.
    pub session: Session,
    /// Seals private material.
    pub sealer: Arc<Sealer>,
    /// Time.
    pub clock: Clock,
    /// The TXT values.
    pub ledger: Ledger,
    /// The authorities, by their name in the configuration.
    pub authorities: BTreeMap<String, Arc<Authority>>,
    /// What the authorities are asked for.
    pub profiles: Profiles,
    /// The DNS hosts, by their name in the configuration.
    pub providers: BTreeMap<String, Arc<dyn Provider>>,
    /// Their credentials.
    pub credentials: Credentials,
    /// The built-in nameserver, a provider too; it answers once somebody looks at the DNS.
    pub nameserver: Option<Arc<Nameserver>>,
    /// The certificates of the configuration.
    pub certificates: BTreeMap<CertificateName, Wanted>,
    /// What is to be known before anything else.
    pub notices: Notices,
    /// Whether the machine's clock can be believed.
    pub timekeeper: Arc<StdMutex<Timekeeper>>,
    /// Whoever watches.
    pub watchers: Watchers,
    /// Certificates with the same names at the same account take turns: they would get the same order.
    pub turns: Turns,
    /// Which zones the providers hold.
    pub zones: Zones,
}

impl Shared {
    /// A person asks: whatever the providers refused or did not hold a moment ago may be right by now.
    pub fn look_anew(&self) {
        self.providers.values().for_each(|it| it.forgive());
        self.zones.forget_all();
    }

    /// Why the machine's clock is not believed now, if so.
    pub fn doubt(&self) -> Option<Doubt> {
        let mut keeper = self.timekeeper();
        keeper.look(self.clock.now(), self.clock.elapsed());
        keeper.doubt()
    }

    /// Who follows the machine's clock.
    pub(super) fn timekeeper(&self) -> MutexGuard<'_, Timekeeper> {
        (self.timekeeper.lock()).unwrap_or_else(PoisonError::into_inner)
    }

    /// The time of day: an authority's, where ours is known to be another.
    pub fn now(&self) -> Timestamp {
        let mut authorities = self.authorities.values();
        let other = authorities.find(|authority| authority.ahead(&self.clock).is_some());
        other.map_or_else(|| self.clock.now(), |authority| authority.now(&self.clock))
    }

    /// What is to be known before anything else: a sentence each.
    pub fn notices(&self) -> Vec<String> {
        let mut notices = self.notices.all();
        let unsaved = self.session.trouble();
        notices
            .extend(unsaved.map(|why| format!("nothing can be saved, so nothing is begun: {why}")));
        notices
    }
}

/// The credentials of DNS hosts, by what those who have the same one have in common.
#[derive(Default)]
pub struct Credentials(Vec<(ProviderSettings, Arc<Credential>)>);

impl Credentials {
    /// Those of `settings`; what is known in `self` stays so.
    pub fn of<'s>(&self, settings: impl Iterator<Item = &'s ProviderSettings>) -> Self {
        let mut all = Self::default();
        for settings in settings.map(ProviderSettings::credential) {
            if all.find(&settings).is_none() {
                let credential = self.find(&settings).unwrap_or_default();
                all.0.push((settings, credential));
            }
        }
        all
    }

    /// The one that `settings` have.
    pub fn get(&self, settings: &ProviderSettings) -> Arc<Credential> {
        self.find(&settings.credential()).unwrap_or_default()
    }

    fn find(&self, common: &ProviderSettings) -> Option<Arc<Credential>> {
        let mut all = self.0.iter();
        let found = all.find(|(settings, _)| settings == common);
        found.map(|(_, credential)| Arc::clone(credential))
    }
}

/// Whose turn it is, by account and names.
#[derive(Clone, Default)]
pub struct Turns(Arc<StdMutex<HashMap<String, Arc<Mutex<()>>>>>);

impl Turns {
    /// Waits for the turn of an order for `wanted` at `account`.
    pub async fn turn(&self, account: &str, wanted: &Specification) -> OwnedMutexGuard<()> {
        let names: Vec<String> = wanted.identifiers.iter().map(ToString::to_string).collect();
        let which = format!("{account} {}", names.join(" "));
        let turn = {
            let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            // Nobody holds or awaits those that only the map knows.
            turns.retain(|_, turn| Arc::strong_count(turn) > 1);
            Arc::clone(turns.entry(which).or_default())
        };
        turn.lock_owned().await
    }
}

/// One authority.
pub struct Authority {
    /// As configured.
    pub settings: config::Authority,
    /// The connection to it.
    pub client: acme::Client,
    /// What its own HTTPS is trusted by besides the system's roots, PEM.
    pub trust: Option<Vec<u8>>,
    /// How its DNS is looked at.
    pub looks: config::DnsSettings,
    /// The DNS as it sees it.
    pub dns: Dns,
    /// Held while the account is made, so that it is made once; shared with those that have the same account.
    pub account: Arc<AccountLock>,
}

impl Authority {
    /// The time of day there, as far as it is known to be another.
    pub fn now(&self, clock: &Clock) -> Timestamp {
        by_own_clock(clock.now(), -self.ahead(clock).unwrap_or_default())
    }

    /// How much its clock is ahead of ours, where it said so.
    pub fn ahead(&self, clock: &Clock) -> Option<SignedDuration> {
        self.client.word()?.ahead(clock.now(), clock.elapsed())
    }
}

/// Held while an account is made; how the last try failed, and when.
pub type AccountLock = Mutex<Option<(Duration, Failure)>>;

/// One certificate as wanted.
pub struct Wanted {
    /// What it must be.
    pub specification: Specification,
    /// The providers that the configuration names.
    pub providers: Vec<String>,
    /// The authorities to ask, in order.
    pub authorities: Vec<String>,
    /// The same as `destinations`, as configured.
    pub deliveries: Vec<config::Delivery>,
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

/// Sentences about the whole, by what they are about; cheap to clone.
#[derive(Clone, Default)]
pub struct Notices(Arc<StdMutex<BTreeMap<About, String>>>);

/// What a sentence is about, and which of those who speak of it says so; 0 where there is only one.
type About = (&'static str, u64);

/// One of several who speak of the same; says nothing any more once it is dropped.
pub struct Notice {
    about: About,
    notices: Notices,
}

impl Notices {
    /// Says `sentence` about `what` from now on, or nothing.
    pub fn set(&self, what: &'static str, sentence: Option<String>) {
        self.put((what, 0), sentence);
    }

    /// One more who speaks of `what`.
    pub fn speaker(&self, what: &'static str) -> Notice {
        static NUMBER: AtomicU64 = AtomicU64::new(1);
        Notice {
            about: (what, NUMBER.fetch_add(1, Ordering::Relaxed)),
            notices: self.clone(),
        }
    }

    /// All of them.
    pub fn all(&self) -> Vec<String> {
        let notices = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        notices.values().cloned().collect()
    }

    fn put(&self, about: About, sentence: Option<String>) {
        let mut notices = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match sentence {
            Some(sentence) => drop(notices.insert(about, sentence)),
            None => drop(notices.remove(&about)),
        }
    }
}

impl Notice {
    /// Says `sentence` from now on, or nothing.
    pub fn set(&self, sentence: Option<String>) {
        self.notices.put(self.about, sentence);
    }
}

impl Drop for Notice {
    fn drop(&mut self) {
        self.set(None);
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

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use countersign_providers::record::DnsName;
    use countersign_providers::secret::SecretSource;
    use countersign_providers::{cloudflare, rfc2136};
    use reqwest::Url;

    use super::*;

    fn cloudflare(token: &str, zone: &str) -> ProviderSettings {
        let zone = (DnsName::parse(zone).unwrap(), "id".to_owned());
        ProviderSettings::Cloudflare(cloudflare::Settings {
            token: SecretSource::File(PathBuf::from(token)),
            zones: BTreeMap::from([zone]),
            endpoint: Url::parse("https://api.test/").unwrap(),
            owner: None,
        })
    }

    #[test]
    fn servers_that_ask_for_no_key_refuse_each_zone_by_itself() {
        let entry = |zone: &str, tsig: Option<rfc2136::Tsig>| {
            ProviderSettings::Rfc2136(rfc2136::Settings {
                server: "192.0.2.53".to_owned(),
                tsig,
                zone: Some(DnsName::parse(zone).unwrap()),
            })
        };
        let key: fn() -> _ = || Some(rfc2136::Tsig::KeyFile(PathBuf::from("/key")));
        let shared = |tsig: fn() -> Option<rfc2136::Tsig>| {
            let [one, other] = ["a.test", "b.test"].map(|zone| entry(zone, tsig()));
            let all = Credentials::default().of([&one, &other].into_iter());
            Arc::ptr_eq(&all.get(&one), &all.get(&other))
        };
        assert!(shared(key));
        assert!(!shared(|| None));
    }

    #[test]
    fn entries_that_differ_in_their_zones_only_have_one_credential_also_after_a_reload() {
        let [one, other] = ["a.test", "b.test"].map(|zone| cloudflare("/token", zone));
        let alone = cloudflare("/another-token", "a.test");
        let credentials = Credentials::default().of([&one, &other, &alone].into_iter());
        assert!(Arc::ptr_eq(
            &credentials.get(&one),
            &credentials.get(&other)
        ));
        assert!(!Arc::ptr_eq(
            &credentials.get(&one),
            &credentials.get(&alone)
        ));
        let after = credentials.of([&cloudflare("/token", "c.test"), &alone].into_iter());
        assert!(Arc::ptr_eq(&credentials.get(&one), &after.get(&other)));
        assert!(Arc::ptr_eq(&credentials.get(&alone), &after.get(&alone)));
    }
}
