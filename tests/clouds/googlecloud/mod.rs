//! The plug-in for Google Cloud DNS.

mod faults;
mod tokens;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use countersign_providers::contract::{self, Fixture, absent, ensure};
use countersign_providers::googlecloud::{GoogleCloud, Settings};
use countersign_providers::record::{Change, DnsName, RrSet, Zone};
use countersign_providers::{Context, ErrorKind, Provider, ProviderError, Settled};

use super::{Secrets, VALUE, ZONE, apex, context, hundred, insist, name, two_writers};
use crate::support::clouds::googlecloud::{Google, Zone as Stored, text_of};
use crate::support::clouds::{Fake, Fate};

const ID: &str = "example-test";

/// The stand-in with one zone among others, and the plug-in with a key.
pub(super) struct Bench {
    pub(super) fake: Fake<Google>,
    pub(super) plugin: GoogleCloud,
    secrets: Secrets,
    settings: Settings,
}

impl Bench {
    pub(super) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let zones = vec![
            Stored::new("other", "other.test"),
            Stored::new("inside", ZONE).private(),
            Stored::new(ID, ZONE),
            Stored::new("looks-alike", "notexample.test"),
        ];
        let (fake, secrets) = (Google::start(zones).await, Secrets::new());
        let key = secrets.put("key", &Google::key(fake.url()).to_string());
        let mut settings = Settings {
            credentials: Some(key),
            project: None,
            zones: BTreeMap::new(),
            endpoint: format!("{}/dns/v1", fake.url()).parse().unwrap(),
            metadata: fake.url().parse().unwrap(),
        };
        change(&mut settings);
        Self {
            plugin: GoogleCloud::new(settings.clone()),
            fake,
            secrets,
            settings,
        }
    }

    fn zone(&self) -> Zone {
        Zone {
            name: apex(),
            id: ID.to_owned(),
        }
    }

    async fn apply(&self, changes: &[Change]) -> Result<(), ProviderError> {
        self.believing(changes, &[]).await
    }

    async fn believing(&self, changes: &[Change], believed: &[RrSet]) -> Result<(), ProviderError> {
        let (zone, context) = (self.zone(), context());
        let applied = self.plugin.apply(&zone, changes, believed, &context).await;
        applied.map(drop)
    }

    async fn observe(&self, names: &[DnsName]) -> Result<Vec<RrSet>, ProviderError> {
        self.plugin.observe(&self.zone(), names, &context()).await
    }

    async fn zones(&self, name: &str) -> Result<Vec<(String, String)>, ProviderError> {
        let name = DnsName::parse(name).unwrap();
        let held = self.plugin.zones(&name, &context()).await?;
        let held = held.into_iter().map(|held| held.zone);
        Ok(held.map(|zone| (zone.name.to_string(), zone.id)).collect())
    }

    fn put(&self, name: &DnsName, kind: &str, ttl: u64, values: &[&str]) {
        self.fake.with(|google| {
            google
                .zone(ID)
                .unwrap()
                .put(name.as_str(), kind, ttl, values)
        });
    }

    fn shown(&self) -> Vec<String> {
        self.fake.with(|google| google.zone(ID).unwrap().shown())
    }
}

#[async_trait]
impl Fixture for Bench {
    fn zone(&self) -> Zone {
        Bench::zone(self)
    }

    fn name(&self, label: &str) -> DnsName {
        name(label)
    }

    fn forbidden(&self) -> Option<DnsName> {
        None
    }

    fn context(&self) -> Context {
        context()
    }

    async fn served(&self, name: &DnsName) -> RrSet {
        let set = self
            .fake
            .with(|google| google.zone(ID).unwrap().txt(name.as_str()).cloned());
        let values = set.iter().flat_map(|set| &set.values);
        RrSet {
            name: name.clone(),
            ttl: set.as_ref().map(|set| u32::try_from(set.ttl).unwrap()),
            values: values.map(|value| text_of(value).unwrap()).collect(),
        }
    }

    async fn add_foreign(&self, name: &DnsName, value: &str, ttl: u32) {
        let quoted = format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""));
        let mut values = self
            .fake
            .with(|google| google.zone(ID).unwrap().txt(name.as_str()).cloned())
            .map(|set| set.values)
            .unwrap_or_default();
        values.push(quoted);
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        self.put(name, "TXT", ttl.into(), &values);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_passes_the_battery() {
    let bench = Bench::new().await;
    contract::battery(&bench.plugin, &bench).await;
    assert_eq!(bench.shown(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_names_take_one_call_to_present_and_one_to_clean() {
    let bench = Bench::new().await;
    assert_eq!(bench.zones(ZONE).await.unwrap().len(), 1);
    bench.apply(&hundred(ensure)).await.unwrap();
    assert_eq!(bench.fake.calls(), "token, zones, change");
    assert_eq!(bench.shown().len(), 100);
    let gone = hundred(absent);
    let believed: Vec<RrSet> = (gone.iter())
        .map(|change| RrSet {
            name: change.name.clone(),
            ttl: Some(60),
            values: vec![VALUE.to_owned()],
        })
        .collect();
    bench.believing(&gone, &believed).await.unwrap();
    assert_eq!(bench.fake.calls(), "change");
    assert_eq!(bench.shown(), [""; 0]);
    bench.apply(&gone).await.unwrap();
    assert_eq!(
        bench.fake.calls(),
        "list",
        "a look proves that they are gone"
    );
    bench.apply(&hundred(ensure)).await.unwrap();
    bench.apply(&gone).await.unwrap();
    assert_eq!(
        bench.fake.calls(),
        "change, list, change",
        "of 102 sets on two pages all that were asked for are on the first"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn values_of_an_apex_and_its_wildcard_come_and_go_in_one_change() {
    let bench = Bench::new().await;
    let here = name("_acme-challenge");
    let both = |verb: fn(&DnsName, &str) -> Change| [verb(&here, "apex"), verb(&here, "wildcard")];
    bench.apply(&both(ensure)).await.unwrap();
    let wanted = "_acme-challenge.example.test. 60 \"apex\" \"wildcard\"";
    assert_eq!(bench.shown(), [wanted]);
    bench.apply(&both(absent)).await.unwrap();
    assert_eq!(bench.fake.calls(), "token, change, list, change");
    assert_eq!(bench.shown(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_values_go_back_as_they_were_written_and_keep_their_ttl() {
    let bench = Bench::new().await;
    let theirs = ["\"v=spf1\" \"-all\"", "bare"];
    bench.put(&name("a"), "TXT", 777, &theirs);
    bench.apply(&[ensure(&name("a"), "ours")]).await.unwrap();
    assert_eq!(
        bench.shown(),
        ["a.example.test. 777 \"v=spf1\" \"-all\" bare \"ours\""]
    );
    assert_eq!(bench.fake.calls(), "token, change, list, change");
    bench.apply(&[absent(&name("a"), "ours")]).await.unwrap();
    assert_eq!(
        bench.shown(),
        ["a.example.test. 777 \"v=spf1\" \"-all\" bare"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_overtaken_looks_once_and_then_leaves_it_to_the_core_to_come_again() {
    let bench = Bench::new().await;
    let here = name("a");
    for round in 0..2 {
        bench.fake.fate(
            "change",
            Fate::Meanwhile(Box::new(move |google: &mut Google| {
                let values = [format!("\"theirs-{round}\"")];
                let zone = google.zone(ID).unwrap();
                zone.put("a.example.test", "TXT", 300, &[&values[0]]);
            })),
        );
    }
    let error = bench.apply(&[ensure(&here, "ours")]).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Conflict);
    assert!(!error.outcome_unknown());
    assert_eq!(bench.fake.calls(), "token, change, list, change");
    insist(&bench.plugin, &bench.zone(), &[ensure(&here, "ours")]).await;
    assert_eq!(bench.shown(), ["a.example.test. 300 \"theirs-1\" \"ours\""]);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_that_change_the_same_names_lose_nothing() {
    let bench = Bench::new().await;
    bench.put(&name("shared"), "TXT", 777, &["\"theirs\""]);
    let plugins: [Arc<dyn Provider>; 2] =
        std::array::from_fn(|_| Arc::new(GoogleCloud::new(bench.settings.clone())) as Arc<_>);
    two_writers(plugins, &bench.zone()).await;
    let set = bench.served(&name("shared")).await;
    let mut values = set.values;
    values.sort();
    assert_eq!(values, ["0-99", "1-99", "theirs"]);
    assert_eq!(set.ttl, Some(777));
    assert!(
        bench.fake.with(|google| google.overtaken) > 0,
        "they never met"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_public_zone_that_could_hold_a_name_is_found_longest_first() {
    let bench = Bench::new().await;
    bench
        .fake
        .with(|google| google.zones.push(Stored::new("below", "sub.example.test")));
    let wanted = [("sub.example.test", "below"), (ZONE, ID)];
    let wanted = wanted.map(|(name, id)| (name.to_owned(), id.to_owned()));
    let held = bench.zones("_acme-challenge.a.sub.example.test").await;
    assert_eq!(held.unwrap(), wanted);
    assert_eq!(bench.fake.calls(), "token, zones");
    bench.fake.with(|google| {
        let more = (0..250).map(|n| Stored::new(&format!("z{n}"), &format!("z{n}.test")));
        google.zones.extend(more);
    });
    let held = bench.zones("_acme-challenge.a.sub.example.test").await;
    assert_eq!(held.unwrap(), wanted);
    assert_eq!(
        bench.fake.calls(),
        "5 zones",
        "the first page, then name by name"
    );
    assert_eq!(bench.zones("a.nobody.invalid").await, Ok(vec![]));
}

#[tokio::test(flavor = "multi_thread")]
async fn zones_of_one_name_are_told_apart_by_their_servers() {
    let bench = Bench::new().await;
    bench.fake.with(|google| {
        google.page = 1;
        google.zones.push(Stored::new("twin", ZONE));
    });
    let held = bench.plugin.zones(&name("a"), &context()).await.unwrap();
    let servers: Vec<&str> = (held.iter())
        .map(|held| held.nameservers[0].as_str())
        .collect();
    assert_eq!(
        servers,
        ["ns-cloud-example-test1.test", "ns-cloud-twin1.test"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zone_that_is_configured_is_not_looked_up() {
    let zones = BTreeMap::from([(apex(), "mine".to_owned())]);
    let bench = Bench::with(|settings| settings.zones = zones).await;
    let held = bench.zones("_acme-challenge.a.example.test").await.unwrap();
    assert_eq!(held, [(ZONE.to_owned(), "mine".to_owned())]);
    assert_eq!(bench.zones("sub.other.test").await, Ok(vec![]), "no other");
    assert_eq!(bench.fake.calls(), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_zone_is_not_read_for_a_few_names() {
    let bench = Bench::new().await;
    for n in 0..500 {
        bench.put(&name(&format!("x{n}")), "A", 60, &["192.0.2.1"]);
    }
    bench.put(&name("zz"), "TXT", 60, &["\"here\""]);
    let names = ["a", "b", "c", "zz"].map(name);
    let seen = bench.observe(&names).await.unwrap();
    assert_eq!(seen[3].values, ["here"]);
    assert_eq!(
        bench.fake.calls(),
        "token, 6 list",
        "two pages, then name by name"
    );
    let seen = bench.observe(&names[3..]).await.unwrap();
    assert_eq!(seen[0].ttl, Some(60));
    assert_eq!(bench.fake.calls(), "list");
    let names: Vec<DnsName> = (0..60).map(|n| name(&format!("x{n}"))).collect();
    for name in &names[..59] {
        bench.put(name, "TXT", 60, &["\"here\""]);
    }
    for n in 500..2_000 {
        bench.put(&name(&format!("x{n}")), "A", 60, &["192.0.2.1"]);
    }
    bench.observe(&names).await.unwrap();
    let calls = bench.fake.count();
    assert!(calls < 60, "what the pages gave is not asked for: {calls}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_accepted_change_is_asked_about_until_it_is_done() {
    let bench = Bench::new().await;
    bench.fake.with(|google| google.pending = 1);
    let (zone, context) = (bench.zone(), context());
    let change = [ensure(&name("a"), "v")];
    let receipt = bench.plugin.apply(&zone, &change, &[], &context).await;
    let ticket = receipt.unwrap().ticket.unwrap();
    assert_eq!(ticket, "example-test/1");
    let settle = async |ticket: &str| bench.plugin.settle(ticket, &context).await.unwrap();
    assert_eq!(settle(&ticket).await, Settled::NotYet);
    assert_eq!(settle(&ticket).await, Settled::Everywhere);
    for unknown in ["example-test/99", "gone/1", "1"] {
        assert_eq!(settle(unknown).await, Settled::Unknown, "{unknown}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_set_with_a_routing_policy_and_a_name_elsewhere_are_left_alone() {
    let bench = Bench::new().await;
    bench.put(&name("a"), "TXT", 60, &[]);
    let error = bench.apply(&[ensure(&name("a"), "v")]).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Invalid);
    assert!(error.message.contains("routing policy"), "{error}");
    bench.fake.calls();
    let elsewhere = DnsName::parse("a.notexample.test").unwrap();
    let error = bench.apply(&[ensure(&elsewhere, "v")]).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Invalid);
    assert_eq!(bench.fake.calls(), "");
}
