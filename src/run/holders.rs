//! Who holds the zone that a challenge name leads to: what the providers say, remembered for a while and asked once for
//! all names of a zone, and whom of several the delegation means.

mod choice;

use std::collections::HashMap;
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::Duration;

use countersign_providers::clock::later;
use countersign_providers::record::{DnsName, Zone};
use countersign_providers::{Context, Held, Provider, ProviderError, RecordModel};
use futures_util::future::join_all;
use tokio::sync::Mutex;

use super::BUILT_IN;
use super::shared::{Shared, Wanted};
use crate::dns::Walk;
use crate::engine::reaction::Failure;
use crate::ledger::members;
use crate::measure::{self, Call};
use choice::{choose, fits, has_choice};

/// A provider has this long to say which zones it holds.
const ZONES_DEADLINE: Duration = Duration::from_secs(15);
/// A zone that a provider holds stays there for so long without being asked for again.
const HELD_FOR: Duration = Duration::from_secs(600);
/// One that it does not hold may be made at any time: this only spares the other names of an order the question.
const MISSING_FOR: Duration = Duration::from_secs(5);
/// The same for a provider that gave no answer.
const FAILED_FOR: Duration = Duration::from_secs(1);
/// More zones are not remembered.
const MOST_ZONES: usize = 20_000;

/// What a provider said of a zone.
type Answer = Result<Vec<Held>, ProviderError>;

/// What the providers said, by provider and zone.
#[derive(Default)]
pub struct Zones(StdMutex<HashMap<(String, DnsName), Arc<Remembered>>>);

/// The last answer. Whoever asks holds the lock, so that others wait for the same answer.
type Remembered = Mutex<Option<Said>>;

/// One answer.
struct Said {
    /// By the clock that never goes back.
    at: Duration,
    answer: Answer,
    /// Whether it was asked for the servers of the zones too.
    has_servers: bool,
}

impl Said {
    fn is_fresh(&self, now: Duration) -> bool {
        let fresh = match &self.answer {
            Ok(held) if held.is_empty() => MISSING_FOR,
            Ok(_) => HELD_FOR,
            Err(_) => FAILED_FOR,
        };
        now < self.at + fresh
    }
}

/// A provider, and how to ask it.
#[derive(Clone, Copy)]
struct Asked<'a> {
    name: &'a str,
    host: &'a dyn Provider,
    walk: &'a Walk,
    context: &'a Context,
}

impl Zones {
    /// What a provider holds of the zone and the name that the walk led to; with `servers`, each zone with its servers.
    async fn ask(&self, asked: Asked<'_>, servers: bool) -> Answer {
        if asked.knows_names() {
            return asked.zones(&asked.walk.owner).await;
        }
        let remembered = self.remembered(asked.name, &asked.walk.zone);
        let mut last = remembered.lock().await;
        let now = asked.context.clock.elapsed();
        if let Some(said) = last.as_ref().filter(|said| said.is_fresh(now))
            && (said.has_servers || !servers)
        {
            return said.answer.clone();
        }
        let mut answer = match last.take().filter(|said| said.is_fresh(now)) {
            Some(said) => said.answer,
            None => asked.zones(&asked.walk.zone).await,
        };
        // A program may say so only once it runs.
        if asked.knows_names() {
            return asked.zones(&asked.walk.owner).await;
        }
        if let (true, Ok(held)) = (servers, answer.clone()) {
            answer = asked.with_servers(held).await;
        }
        *last = Some(Said {
            at: asked.context.clock.elapsed(),
            answer: answer.clone(),
            has_servers: servers,
        });
        answer
    }

    /// Whatever `provider` said of `zone` is not so any more.
    pub fn forget(&self, provider: &str, zone: &DnsName) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for member in members(provider) {
            all.remove(&(member.to_owned(), zone.clone()));
        }
    }

    /// Nothing of what the providers said is so any more.
    pub fn forget_all(&self) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.clear();
    }

    fn remembered(&self, provider: &str, zone: &DnsName) -> Arc<Remembered> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MOST_ZONES {
            all.clear();
        }
        let at = (provider.to_owned(), zone.clone());
        Arc::clone(all.entry(at).or_default())
    }
}

impl Asked<'_> {
    /// Whether it knows single names, and those by themselves.
    fn knows_names(&self) -> bool {
        matches!(self.host.traits().model, RecordModel::Slots(_))
    }

    async fn zones(&self, name: &DnsName) -> Answer {
        let provider = self.name;
        let asking = self.host.zones(name, self.context);
        let zones = self.measured(asking).await;
        let found = zones.as_ref().map_or(0, Vec::len);
        let error = zones.as_ref().err().map(tracing::field::display);
        tracing::trace!(provider, %name, found, error, "provider zones");
        zones
    }

    /// Each of `held` with the servers that the host has for it, as far as it says so.
    async fn with_servers(&self, mut held: Vec<Held>) -> Answer {
        let is_asked =
            |it: &&mut Held| fits(it, self.walk) && it.nameservers.is_empty() && !it.is_claim;
        for it in held.iter_mut().filter(is_asked) {
            let asking = self.host.nameservers(&it.zone, self.context);
            it.nameservers = self.measured(asking).await?;
        }
        Ok(held)
    }

    async fn measured<T>(
        &self,
        asking: impl Future<Output = Result<T, ProviderError>>,
    ) -> Result<T, ProviderError> {
        let clock = &self.context.clock;
        let started = clock.elapsed();
        let result = asking.await;
        let refused = result.as_ref().err().map(|error| error.kind);
        let took = clock.elapsed() - started;
        measure::provider_called(self.name, Call::Zones, refused, took);
        result
    }
}

/// Why there is nobody to write to.
pub(super) enum Nobody {
    /// A person must act.
    For(Failure),
    /// A provider could not say.
    Trouble(String, ProviderError),
}

/// Whom to write to: those that the configuration names, else whoever holds the zone.
pub(super) async fn holder(
    shared: &Shared,
    wanted: &Wanted,
    walk: &Walk,
) -> Result<(String, Zone), Nobody> {
    let is_candidate = |name: &&String| {
        // What is delegated to the built-in nameserver goes there, whatever else is configured.
        wanted.providers.is_empty() || wanted.providers.contains(name) || *name == BUILT_IN
    };
    let deadline = later(shared.clock.now(), ZONES_DEADLINE);
    let context = Context::new(shared.clock.clone(), deadline);
    let candidates = shared.providers.iter();
    let candidates = candidates.filter(|(name, _)| is_candidate(name));
    let candidates: Vec<Asked<'_>> = candidates
        .map(|(name, host)| Asked {
            name,
            host: &**host,
            walk,
            context: &context,
        })
        .collect();
    let ask = |servers: bool| {
        let asks = candidates.iter().map(|asked| async move {
            let answer = shared.zones.ask(*asked, servers).await;
            (asked.name, answer)
        });
        join_all(asks.collect::<Vec<_>>())
    };
    let mut answers = ask(false).await;
    if has_choice(&wanted.providers, walk, &answers) {
        answers = ask(true).await;
    }
    choose(&wanted.providers, walk, answers)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use async_trait::async_trait;
    use countersign_providers::record::{Change, RrSet};
    use countersign_providers::{Receipt, Traits};

    use super::choice::tests::{dns_name, held, walk};
    use super::*;
    use crate::clock::Clock;

    /// Holds example.test, or nothing.
    struct Host {
        /// What it is once it was asked.
        model: RecordModel,
        holds: bool,
        asked: AtomicUsize,
        asked_for_servers: AtomicUsize,
    }

    impl Host {
        fn new(model: RecordModel, holds: bool) -> Self {
            Self {
                model,
                holds,
                asked: AtomicUsize::new(0),
                asked_for_servers: AtomicUsize::new(0),
            }
        }
    }

    #[async_trait]
    impl Provider for Host {
        fn traits(&self) -> Traits {
            Traits {
                model: match self.asked.load(Ordering::Relaxed) {
                    0 => RecordModel::Set,
                    _ => self.model,
                },
                batch: 1,
                rate: None,
                propagation: Duration::ZERO,
            }
        }

        async fn zones(&self, name: &DnsName, _: &Context) -> Answer {
            self.asked.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
            let is_apex = name.as_str() == "example.test";
            let knows_it = is_apex != matches!(self.model, RecordModel::Slots(_));
            let zone = (self.holds && knows_it).then(|| held("1", &[]));
            Ok(zone.into_iter().collect())
        }

        async fn nameservers(&self, _: &Zone, _: &Context) -> Result<Vec<DnsName>, ProviderError> {
            self.asked_for_servers.fetch_add(1, Ordering::Relaxed);
            Ok(vec![dns_name("ns1.test")])
        }

        async fn observe(
            &self,
            _: &Zone,
            _: &[DnsName],
            _: &Context,
        ) -> Result<Vec<RrSet>, ProviderError> {
            Ok(Vec::new())
        }

        async fn apply(
            &self,
            _: &Zone,
            _: &[Change],
            _: &[RrSet],
            _: &Context,
        ) -> Result<Receipt, ProviderError> {
            Ok(Receipt::default())
        }
    }

    #[tokio::test]
    async fn a_hundred_names_of_a_zone_ask_once() {
        let (clock, hands) = Clock::virtual_at(jiff::Timestamp::UNIX_EPOCH);
        let context = Context::new(clock, jiff::Timestamp::MAX);
        let (zones, walk) = (Zones::default(), walk(&[]));
        // At first, a minute later, and after it was forgotten.
        for (model, holds, asked) in [
            (RecordModel::Value, true, [1, 1, 2]),
            (RecordModel::Value, false, [1, 2, 3]),
            // Only the first finds out what it is.
            (RecordModel::Slots(2), true, [101, 201, 301]),
        ] {
            let host = Host::new(model, holds);
            let provider = format!("{model:?}{holds}");
            let asked_by = Asked {
                name: &provider,
                host: &host,
                walk: &walk,
                context: &context,
            };
            let hundred = async || {
                let all = (0..100).map(|_| zones.ask(asked_by, false));
                for answer in join_all(all).await {
                    assert_eq!(answer.unwrap().len(), usize::from(holds));
                }
                host.asked.load(Ordering::Relaxed)
            };
            let at_first = hundred().await;
            hands.advance(Duration::from_secs(60));
            let later = hundred().await;
            zones.forget(&provider, &walk.zone);
            assert_eq!([at_first, later, hundred().await], asked, "{provider}");
        }
    }

    #[tokio::test]
    async fn the_servers_of_a_zone_are_asked_for_once_and_only_when_they_tell_something() {
        let (clock, _hands) = Clock::virtual_at(jiff::Timestamp::UNIX_EPOCH);
        let context = Context::new(clock, jiff::Timestamp::MAX);
        let (zones, walk) = (Zones::default(), walk(&["ns1.test"]));
        let host = Host::new(RecordModel::Value, true);
        let asked = Asked {
            name: "host",
            host: &host,
            walk: &walk,
            context: &context,
        };
        assert_eq!(zones.ask(asked, false).await, Ok(vec![held("1", &[])]));
        assert_eq!(host.asked_for_servers.load(Ordering::Relaxed), 0);
        for servers in [true, true, false] {
            let known = zones.ask(asked, servers).await;
            assert_eq!(known, Ok(vec![held("1", &["ns1.test"])]));
        }
        assert_eq!(host.asked.load(Ordering::Relaxed), 1);
        assert_eq!(host.asked_for_servers.load(Ordering::Relaxed), 1);
    }
}
