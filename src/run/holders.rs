//! Who holds the zone that a challenge name leads to: what the providers say, remembered for a while and asked once for
//! all names of a zone, and whom of several the delegation means.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::Duration;

use countersign_providers::clock::later;
use countersign_providers::record::{DnsName, Zone};
use countersign_providers::several::Several;
use countersign_providers::{Context, Held, Provider, ProviderError, RecordModel};
use futures_util::future::join_all;
use tokio::sync::Mutex;

use super::BUILT_IN;
use super::shared::{Shared, Wanted};
use crate::dns::{Server, Walk};
use crate::engine::reaction::{Failure, Whose};
use crate::ledger::{joint_name, members};
use crate::measure::{self, Call};

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

/// Whether there is more than one zone to choose from.
fn has_choice(named: &[String], walk: &Walk, answers: &[(&str, Answer)]) -> bool {
    let fitting = answers.iter().map(|(_, answer)| {
        let held = answer.iter().flatten();
        held.filter(|it| fits(it, walk) && !it.is_claim).count()
    });
    let fitting: Vec<usize> = fitting.filter(|many| *many > 0).collect();
    fitting.iter().any(|many| *many > 1) || (named.is_empty() && fitting.len() > 1)
}

/// Whether it is the zone that the walk led to, or the name itself.
fn fits(held: &Held, walk: &Walk) -> bool {
    held.zone.name == walk.zone || held.zone.name == walk.owner
}

/// Whom of those that gave `answers`.
fn choose(
    named: &[String],
    walk: &Walk,
    answers: Vec<(&str, Answer)>,
) -> Result<(String, Zone), Nobody> {
    let (mut holders, mut near, mut trouble) = (BTreeMap::new(), None, None);
    for (name, answer) in answers {
        match answer {
            Ok(held) => {
                near = near.or_else(|| Some((name, held.first()?.zone.name.clone())));
                let held = held.into_iter().filter(|it| fits(it, walk));
                let held: Vec<Held> = held.collect();
                if let Some(held) = one_of(name, held, walk).map_err(Nobody::For)? {
                    holders.insert(name, held);
                }
            }
            Err(error) => trouble = Some((name, error)),
        }
    }
    if let Some(own) = holders.remove(BUILT_IN) {
        return Ok((BUILT_IN.to_owned(), own.zone));
    }
    let missing = named
        .iter()
        .find(|name| !holders.contains_key(name.as_str()));
    let is_enough = !holders.is_empty() && missing.is_none();
    match trouble {
        Some((name, error)) if !is_enough => return Err(Nobody::Trouble(name.to_owned(), error)),
        _ => {}
    }
    if holders.is_empty() {
        return Err(Nobody::For(nobody(walk, near)));
    }
    if let Some(missing) = missing {
        let sentence = format!(
            "provider {missing} does not hold the zone {} of {}; take it out of `provider`, or make the zone there",
            walk.zone, walk.owner
        );
        return Err(Nobody::For(Failure::new(Whose::You, sentence)));
    }
    let all = match named.is_empty() && holders.len() > 1 {
        true => meant(holders, walk).map_err(Nobody::For)?,
        false => holders,
    };
    Ok(together(walk, all))
}

/// Of zones of one name at one provider the one that the delegation names.
fn one_of(provider: &str, mut held: Vec<Held>, walk: &Walk) -> Result<Option<Held>, Failure> {
    if held.len() > 1 {
        let ids: Vec<String> = held.iter().map(|it| it.zone.id.clone()).collect();
        held.retain(|it| is_delegated(it, walk));
        if held.len() != 1 {
            let names = match held.is_empty() {
                true => "none",
                false => "more than one",
            };
            let sentence = format!(
                "provider {provider} holds {} zones with the name {}, {}, and the delegation names {names} of them; say which with `zones: {{{}: ID}}`, and delete the others if nobody needs them",
                ids.len(),
                walk.zone,
                ids.join(", "),
                walk.zone
            );
            return Err(Failure::new(Whose::You, sentence));
        }
    }
    Ok(held.pop())
}

/// Of several providers those that the delegation names, and those that do not say which servers they have where it names
/// others beside.
fn meant<'p>(
    mut holders: BTreeMap<&'p str, Held>,
    walk: &Walk,
) -> Result<BTreeMap<&'p str, Held>, Failure> {
    let all: Vec<&str> = holders.keys().copied().collect();
    if holders.values().any(|held| !held.is_claim) {
        holders.retain(|_, held| !held.is_claim);
    }
    if holders.values().any(|held| is_delegated(held, walk)) {
        let is_told = |server: &Server| holders.values().any(|held| has(held, server));
        let is_all_told = walk.servers.iter().all(is_told);
        holders.retain(|_, held| {
            is_delegated(held, walk) || (!is_all_told && held.nameservers.is_empty())
        });
        return Ok(holders);
    }
    if holders.len() > 1 {
        holders.retain(|_, held| held.nameservers.is_empty());
    }
    if holders.len() == 1 {
        return Ok(holders);
    }
    let sentence = format!(
        "the providers {} all hold the zone {}, and nothing tells which of them serves it; name it with `provider:`, or all of them in a list",
        all.join(", "),
        walk.zone
    );
    Err(Failure::new(Whose::You, sentence))
}

/// Whether the delegation names a server of this zone.
fn is_delegated(held: &Held, walk: &Walk) -> bool {
    walk.servers.iter().any(|server| has(held, server))
}

fn has(held: &Held, server: &Server) -> bool {
    let is_it = |host: &DnsName| server.host.eq_ignore_ascii_case(host.as_str());
    held.nameservers.iter().any(is_it)
}

fn together(walk: &Walk, all: BTreeMap<&str, Held>) -> (String, Zone) {
    let name = joint_name(all.keys().copied());
    let mut zones: Vec<Zone> = all.into_values().map(|held| held.zone).collect();
    let zone = match (zones.len(), zones.pop()) {
        (1, Some(only)) => only,
        (_, last) => {
            zones.extend(last);
            Several::zone(&walk.zone, &zones)
        }
    };
    (name, zone)
}

fn nobody(walk: &Walk, near: Option<(&str, DnsName)>) -> Failure {
    if !walk.zone.as_str().contains('.') {
        let sentence = format!(
            "the servers of the top-level zone {} know no domain for {}; it is misspelt, not registered, or not delegated",
            walk.zone, walk.owner
        );
        return Failure::new(Whose::You, sentence);
    }
    let leads = match walk.owner == walk.asked {
        true => String::new(),
        false => format!(", where {} leads,", walk.asked),
    };
    let near = match near {
        None => String::new(),
        Some((provider, zone)) => {
            format!("; provider {provider} holds {zone}, which is not the zone that is asked")
        }
    };
    let sentence = format!(
        "no provider holds the zone {} of {}{leads}{near}; configure the one that does, or delegate {} by CNAME to a zone that one holds",
        walk.zone, walk.owner, walk.asked
    );
    Failure::new(Whose::You, sentence)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use async_trait::async_trait;
    use countersign_providers::record::{Change, RrSet};
    use countersign_providers::{ErrorKind, Receipt, Traits};

    use super::*;
    use crate::clock::Clock;

    fn dns_name(text: &str) -> DnsName {
        DnsName::parse(text).unwrap()
    }

    /// A walk that ended in example.test at these servers.
    fn walk(servers: &[&str]) -> Walk {
        let owner = dns_name("_acme-challenge.example.test");
        let server = |host: &&str| Server {
            host: (*host).to_owned(),
            addresses: Vec::new(),
        };
        Walk {
            asked: owner.clone(),
            owner,
            zone: dns_name("example.test"),
            servers: servers.iter().map(server).collect(),
            chain: Vec::new(),
            by_resolvers: false,
            remembered: Duration::ZERO,
        }
    }

    fn held(id: &str, servers: &[&str]) -> Held {
        Held {
            zone: Zone {
                name: dns_name("example.test"),
                id: id.to_owned(),
            },
            nameservers: servers.iter().map(|it| dns_name(it)).collect(),
            is_claim: false,
        }
    }

    /// The one that is chosen, as `provider: zone`, or what a person is told.
    fn chosen(
        named: &[&str],
        servers: &[&str],
        answers: Vec<(&str, Answer)>,
    ) -> Result<String, String> {
        let named: Vec<String> = named.iter().map(|it| (*it).to_owned()).collect();
        match choose(&named, &walk(servers), answers) {
            Ok((provider, zone)) => Ok(format!("{provider}: {}", zone.id)),
            Err(Nobody::For(failure)) => Err(failure.sentence),
            Err(Nobody::Trouble(name, error)) => Err(format!("{name}: {error}")),
        }
    }

    fn failed() -> Answer {
        Err(ProviderError::new(ErrorKind::Auth, "the token is unknown"))
    }

    #[test]
    fn the_only_holder_is_taken_wherever_the_delegation_leads() {
        for servers in [&["ns1.a.test"][..], &["ns1.vanity.test"]] {
            let answers = vec![
                ("a", Ok(vec![held("Z1", &["ns1.a.test"])])),
                ("b", Ok(Vec::new())),
                ("c", failed()),
            ];
            assert_eq!(chosen(&[], servers, answers), Ok("a: Z1".to_owned()));
        }
    }

    #[test]
    fn of_several_holders_those_that_the_delegation_names_are_written_to() {
        let answers = || {
            vec![
                ("a", Ok(vec![held("Z1", &["ns1.a.test"])])),
                ("b", Ok(vec![held("7", &["NS1.b.test", "ns2.b.test"])])),
                ("c", Ok(vec![held("internal", &[])])),
            ]
        };
        let one = chosen(&[], &["ns2.b.test"], answers());
        assert_eq!(one, Ok("b: 7".to_owned()));
        let both = chosen(&[], &["ns1.a.test", "ns2.b.test"], answers());
        assert_eq!(both, Ok(r#"a b: ["Z1","7"]"#.to_owned()));
        let beside = chosen(&[], &["ns1.a.test", "ns1.elsewhere.test"], answers());
        assert_eq!(beside, Ok(r#"a c: ["Z1","internal"]"#.to_owned()));
        let hidden = chosen(&[], &["ns1.vanity.test"], answers());
        assert_eq!(hidden, Ok("c: internal".to_owned()));
    }

    #[test]
    fn who_only_claims_every_zone_comes_last() {
        let claim = || {
            Ok(vec![Held {
                is_claim: true,
                ..held("any", &[])
            }])
        };
        let both = vec![("a", claim()), ("b", Ok(vec![held("2", &[])]))];
        assert_eq!(chosen(&[], &["ns1.test"], both), Ok("b: 2".to_owned()));
        let alone = vec![("a", claim())];
        assert_eq!(chosen(&[], &["ns1.test"], alone), Ok("a: any".to_owned()));
    }

    #[test]
    fn several_holders_that_nothing_tells_apart_are_refused() {
        let answers = vec![
            ("a", Ok(vec![held("1", &[])])),
            ("b", Ok(vec![held("2", &[])])),
        ];
        assert_eq!(
            chosen(&[], &["ns1.test"], answers),
            Err("the providers a, b all hold the zone example.test, and nothing tells which of them serves it; name it with `provider:`, or all of them in a list".to_owned())
        );
    }

    #[test]
    fn of_zones_with_one_name_the_delegated_one_is_taken_or_none() {
        let answers = || {
            let two = vec![held("Z1", &["ns1.a.test"]), held("Z2", &["ns2.a.test"])];
            vec![("aws", Ok(two))]
        };
        assert_eq!(
            chosen(&[], &["ns2.a.test"], answers()),
            Ok("aws: Z2".to_owned())
        );
        assert_eq!(
            chosen(&[], &["ns3.a.test"], answers()),
            Err("provider aws holds 2 zones with the name example.test, Z1, Z2, and the delegation names none of them; say which with `zones: {example.test: ID}`, and delete the others if nobody needs them".to_owned())
        );
    }

    #[test]
    fn all_that_the_configuration_names_must_hold_it() {
        let answers = |second: Answer| {
            let first = Ok(vec![held("1", &["ns1.a.test"])]);
            vec![("a", first), ("b", second)]
        };
        let named = ["b", "a"];
        assert_eq!(
            chosen(
                &named,
                &["ns1.a.test"],
                answers(Ok(vec![held("2", &["x.test"])]))
            ),
            Ok(r#"a b: ["1","2"]"#.to_owned())
        );
        assert_eq!(
            chosen(&named, &["ns1.a.test"], answers(Ok(Vec::new()))),
            Err("provider b does not hold the zone example.test of _acme-challenge.example.test; take it out of `provider`, or make the zone there".to_owned())
        );
        assert_eq!(
            chosen(&named, &["ns1.a.test"], answers(failed())),
            Err("b: the token is unknown".to_owned())
        );
    }

    #[test]
    fn what_is_delegated_to_the_built_in_nameserver_goes_there() {
        let answers = vec![
            (BUILT_IN, Ok(vec![held("own", &[])])),
            ("a", Ok(vec![held("1", &["ns1.test"])])),
        ];
        let own = chosen(&["a"], &["ns1.test"], answers);
        assert_eq!(own, Ok(format!("{BUILT_IN}: own")));
    }

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
