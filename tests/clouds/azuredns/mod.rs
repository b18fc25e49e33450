//! The plug-in for Azure DNS.

mod faults;
mod tokens;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use countersign_providers::azuredns::{AzureDns, Cloud, Login, Settings};
use countersign_providers::contract::{self, Fixture, absent, ensure};
use countersign_providers::record::{Change, DnsName, RrSet, Zone};
use countersign_providers::{Context, ErrorKind, Provider, ProviderError};
use serde_json::{Value, json};

use super::{Secrets, ZONE, apex, context, hundred, insist, name, two_writers};
use crate::support::clouds::azuredns::{
    Azure, CLIENT, SECRET, SUBSCRIPTION, TENANT, Zone as Stored,
};
use crate::support::clouds::{Fake, Fate};
use crate::support::rest::answer;

/// The stand-in with one zone among others, and the plug-in with a secret.
pub(super) struct Bench {
    pub(super) fake: Fake<Azure>,
    pub(super) plugin: AzureDns,
    secrets: Secrets,
    settings: Settings,
}

impl Bench {
    pub(super) async fn new() -> Self {
        Self::with(|_, _| {}).await
    }

    async fn with(change: impl FnOnce(&mut Settings, &Secrets)) -> Self {
        let zones = vec![
            Stored::new("dns", "other.test"),
            Stored::new("inside", ZONE).private(),
            Stored::new("dns", ZONE),
            Stored::new("dns", "notexample.test"),
        ];
        let (fake, secrets) = (Azure::start(zones).await, Secrets::new());
        let mut settings = Settings {
            login: Login::Secret {
                tenant: TENANT.to_owned(),
                client: CLIENT.to_owned(),
                secret: secrets.put("secret", SECRET),
            },
            subscription: SUBSCRIPTION.to_owned(),
            resource_group: None,
            zones: BTreeMap::new(),
            cloud: Cloud::Public,
            endpoint: fake.url().parse().unwrap(),
            login_endpoint: fake.url().parse().unwrap(),
            metadata: fake.url().parse().unwrap(),
        };
        change(&mut settings, &secrets);
        Self {
            plugin: AzureDns::new(settings.clone()),
            fake,
            secrets,
            settings,
        }
    }

    fn zone(&self) -> Zone {
        Zone {
            name: apex(),
            id: Stored::new("dns", ZONE).id(),
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

    async fn zones(&self, name: &str) -> Result<Vec<String>, ProviderError> {
        let name = DnsName::parse(name).unwrap();
        let held = self.plugin.zones(&name, &context()).await?;
        Ok(held.into_iter().map(|held| held.zone.id).collect())
    }

    fn put(&self, label: &str, ttl: u64, records: &[&[&str]]) {
        self.fake
            .with(|azure| azure.put(ZONE, label, ttl, records, Value::Null));
    }

    fn shown(&self) -> Vec<String> {
        self.fake.with(|azure| azure.zone(ZONE).shown())
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
        let label = name.as_str().strip_suffix(&format!(".{ZONE}")).unwrap();
        let set = self
            .fake
            .with(|azure| azure.zone(ZONE).sets.get(label).cloned());
        RrSet {
            name: name.clone(),
            ttl: set.as_ref().map(|set| u32::try_from(set.ttl).unwrap()),
            values: set.map(|set| set.texts()).unwrap_or_default(),
        }
    }

    async fn add_foreign(&self, name: &DnsName, value: &str, ttl: u32) {
        let mut values = self.served(name).await.values;
        values.push(value.to_owned());
        let strings: Vec<[&str; 1]> = values.iter().map(|value| [value.as_str()]).collect();
        let records: Vec<&[&str]> = strings.iter().map(|it| &it[..]).collect();
        let label = name.as_str().strip_suffix(&format!(".{ZONE}")).unwrap();
        self.put(label, ttl.into(), &records);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_passes_the_battery() {
    let bench = Bench::new().await;
    contract::battery(&bench.plugin, &bench).await;
    assert_eq!(bench.shown(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_takes_one_call_to_make_and_one_look_for_many_to_clean() {
    let bench = Bench::new().await;
    let ten = |verb: fn(&DnsName, &str) -> Change| hundred(verb)[..10].to_vec();
    bench.apply(&ten(ensure)).await.unwrap();
    assert_eq!(bench.fake.calls(), "token, 10 put");
    bench.apply(&ten(absent)).await.unwrap();
    assert_eq!(bench.fake.calls(), "list, 10 delete");
    bench.apply(&ten(absent)).await.unwrap();
    assert_eq!(bench.fake.calls(), "list");
    assert_eq!(bench.shown(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn values_of_an_apex_and_its_wildcard_come_and_go_in_one_call_each() {
    let bench = Bench::new().await;
    let here = name("_acme-challenge");
    let both = |verb: fn(&DnsName, &str) -> Change| [verb(&here, "apex"), verb(&here, "wildcard")];
    bench.apply(&both(ensure)).await.unwrap();
    assert_eq!(
        bench.shown(),
        ["_acme-challenge 60 [\"apex\"] [\"wildcard\"] null"]
    );
    bench.apply(&both(absent)).await.unwrap();
    assert_eq!(bench.fake.calls(), "token, put, get, delete");
    let at_apex = [ensure(&apex(), "v")];
    bench.apply(&at_apex).await.unwrap();
    assert_eq!(bench.shown(), ["@ 60 [\"v\"] null"]);
    assert_eq!(bench.observe(&[apex()]).await.unwrap()[0].values, ["v"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_values_their_ttl_and_their_notes_stay_as_they_were() {
    let bench = Bench::new().await;
    let notes = json!({"owner": "somebody"});
    bench.fake.with(|azure| {
        azure.put(ZONE, "a", 777, &[&["v=spf1", " -all"]], notes);
    });
    bench.apply(&[ensure(&name("a"), "ours")]).await.unwrap();
    assert_eq!(bench.fake.calls(), "token, put, get, put");
    let theirs = "a 777 [\"v=spf1\",\" -all\"]";
    let notes = "{\"owner\":\"somebody\"}";
    assert_eq!(bench.shown(), [format!("{theirs} [\"ours\"] {notes}")]);
    assert_eq!(
        bench.observe(&[name("a")]).await.unwrap()[0].values,
        ["v=spf1 -all", "ours"]
    );
    bench.apply(&[absent(&name("a"), "ours")]).await.unwrap();
    assert_eq!(bench.shown(), [format!("{theirs} {notes}")]);
    let long = "x".repeat(600);
    bench.apply(&[ensure(&name("b"), &long)]).await.unwrap();
    assert_eq!(bench.observe(&[name("b")]).await.unwrap()[0].values, [long]);
}

/// The portal and the command line make sets without values.
#[tokio::test(flavor = "multi_thread")]
async fn a_set_without_values_is_filled_and_otherwise_left_alone() {
    let bench = Bench::new().await;
    bench.put("a", 300, &[]);
    assert_eq!(bench.observe(&[name("a")]).await.unwrap()[0].ttl, None);
    bench.apply(&[absent(&name("a"), "v")]).await.unwrap();
    assert_eq!(bench.shown(), ["a 300  null"]);
    bench.apply(&[ensure(&name("a"), "v")]).await.unwrap();
    assert_eq!(bench.shown(), ["a 60 [\"v\"] null"]);
    assert_eq!(bench.fake.calls(), "token, 2 get, put, get, put");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_overtaken_looks_once_and_then_leaves_it_to_the_core_to_come_again() {
    let bench = Bench::new().await;
    bench.apply(&[ensure(&name("before"), "v")]).await.unwrap();
    bench.fake.calls();
    for round in 0..2 {
        let theirs = format!("theirs-{round}");
        bench.fake.fate(
            "put",
            Fate::Meanwhile(Box::new(move |azure: &mut Azure| {
                azure.put(ZONE, "z", 300, &[&[&theirs]], Value::Null);
            })),
        );
    }
    let changes = [ensure(&name("z"), "ours")];
    let error = bench.apply(&changes).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Conflict);
    assert!(!error.outcome_unknown());
    assert_eq!(bench.fake.calls(), "put, get, put");
    insist(&bench.plugin, &bench.zone(), &changes).await;
    assert_eq!(bench.shown()[1], "z 300 [\"theirs-1\"] [\"ours\"] null");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_set_that_somebody_removes_after_the_look_is_made_anew() {
    let bench = Bench::new().await;
    bench.put("a", 300, &[&["theirs"]]);
    let left = |values: &[&str]| {
        let values = values.iter().map(|it| (*it).to_owned()).collect();
        [RrSet {
            name: name("a"),
            ttl: Some(300),
            values,
        }]
    };
    bench.fake.fate(
        "put",
        Fate::Meanwhile(Box::new(|azure: &mut Azure| {
            azure.zone(ZONE).sets.clear();
        })),
    );
    let changes = [ensure(&name("a"), "v")];
    bench.believing(&changes, &left(&["theirs"])).await.unwrap();
    assert_eq!(bench.fake.calls(), "token, get, put, get, put");
    assert_eq!(bench.shown(), ["a 60 [\"v\"] null"]);
    bench.fake.fate(
        "delete",
        Fate::Meanwhile(Box::new(|azure: &mut Azure| {
            azure.put(ZONE, "a", 60, &[&["v"], &["theirs"]], Value::Null);
        })),
    );
    bench.apply(&[absent(&name("a"), "v")]).await.unwrap();
    assert_eq!(bench.shown(), ["a 60 [\"theirs\"] null"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_that_change_the_same_names_lose_nothing() {
    let bench = Bench::new().await;
    bench.put("shared", 777, &[&["theirs"]]);
    let plugins: [Arc<dyn Provider>; 2] =
        std::array::from_fn(|_| Arc::new(AzureDns::new(bench.settings.clone())) as Arc<_>);
    two_writers(plugins, &bench.zone()).await;
    let set = bench.served(&name("shared")).await;
    let mut values = set.values;
    values.sort();
    assert_eq!(values, ["0-99", "1-99", "theirs"]);
    assert_eq!(set.ttl, Some(777));
    assert!(
        bench.fake.with(|azure| azure.overtaken) > 0,
        "they never met"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_public_zone_that_could_hold_a_name_is_found_longest_first() {
    let bench = Bench::new().await;
    let (twin, below) = (
        Stored::new("twin", ZONE),
        Stored::new("dns", "sub.example.test"),
    );
    let wanted = [below.id(), bench.zone().id, twin.id()];
    bench.fake.with(|azure| azure.zones.extend([twin, below]));
    let found = bench.zones("_acme-challenge.a.sub.example.test").await;
    assert_eq!(found.unwrap(), wanted);
    assert_eq!(bench.fake.calls(), "token, zones");
    bench.fake.with(|azure| azure.page = 2);
    let held = bench.plugin.zones(&name("a"), &context()).await.unwrap();
    let servers: Vec<&str> = (held.iter())
        .map(|held| held.nameservers[0].as_str())
        .collect();
    assert_eq!(
        servers,
        ["ns1-dns.azure-dns.test", "ns1-twin.azure-dns.test"]
    );
    assert_eq!(bench.fake.calls(), "3 zones");
    assert_eq!(bench.zones("a.nobody.invalid").await, Ok(vec![]));
    let bench =
        Bench::with(|settings, _| settings.resource_group = Some("nothing".to_owned())).await;
    assert_eq!(bench.zones(ZONE).await, Ok(vec![]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zone_that_is_configured_is_not_looked_up() {
    let id = Stored::new("elsewhere", ZONE).id();
    let zones = BTreeMap::from([(apex(), id.clone())]);
    let bench = Bench::with(|settings, _| settings.zones = zones).await;
    assert_eq!(
        bench.zones("_acme-challenge.a.example.test").await,
        Ok(vec![id])
    );
    assert_eq!(bench.zones("sub.other.test").await, Ok(vec![]), "no other");
    assert_eq!(bench.fake.calls(), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_set_that_somebody_noted_something_at_stays_without_values() {
    let bench = Bench::new().await;
    bench.fake.with(|azure| {
        let noted = json!({"owner": "somebody"});
        azure.put(ZONE, "_acme-challenge.a", 60, &[&["v"]], noted);
    });
    bench.apply(&[absent(&name("a"), "v")]).await.unwrap();
    let left = bench.fake.with(|azure| azure.zone(ZONE).sets.len());
    assert_eq!(left, 1);
    let seen = bench.observe(&[name("a")]).await.unwrap();
    assert_eq!(seen[0].values, [""; 0]);
    bench.apply(&[ensure(&name("a"), "w")]).await.unwrap();
    bench.apply(&[absent(&name("a"), "w")]).await.unwrap();
    bench.apply(&[absent(&name("a"), "w")]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_address_of_a_next_page_is_the_end() {
    let bench = Bench::new().await;
    let page = json!({"value": [], "nextLink": ""});
    bench.fake.fate("zones", Fate::Reply(answer(200, page)));
    assert_eq!(bench.zones(ZONE).await, Ok(vec![]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_zone_is_not_read_for_a_few_names() {
    let bench = Bench::new().await;
    for n in 0..500 {
        bench.put(&format!("x{n}"), 60, &[&["v"]]);
    }
    let names = ["a", "b", "c", "x7"].map(name);
    let seen = bench.observe(&names).await.unwrap();
    assert_eq!(seen[3].values, ["v"]);
    assert_eq!(bench.fake.calls(), "token, 2 list, 4 get");
    let names: Vec<DnsName> = (0..20).map(|n| name(&format!("x{}", n * 25))).collect();
    let seen = bench.observe(&names).await.unwrap();
    assert!(seen.iter().all(|set| set.values == ["v"]));
    assert_eq!(bench.fake.calls(), "5 list");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_name_says_that_the_others_were_changed() {
    let bench = Bench::new().await;
    bench
        .fake
        .with(|azure| azure.zone(ZONE).aliases.push("b".to_owned()));
    let error = bench.apply(&[ensure(&name("b"), "v")]).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Invalid);
    assert!(!error.partly);
    let changes = [ensure(&name("a"), "v"), ensure(&name("b"), "v")];
    let error = bench.apply(&changes).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Invalid);
    assert!(error.partly, "{error:?}");
    let elsewhere = DnsName::parse("a.notexample.test").unwrap();
    let error = bench.apply(&[ensure(&elsewhere, "v")]).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Invalid);
}
